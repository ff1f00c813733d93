//! Commands that are paused and go on.

use std::time::{Duration, Instant};

use hostsync::transport::{Aborted, ConnectOptions, ExecIo, Flow, Input, Session, TransportError};

use crate::harness::{Fixed, connect, options_for, output_of, session};
use hostsync_testkit::{Dropbear, Host, Sshd};

/// Sends its input and pauses the command once so many bytes have come back.
struct Turn {
    input: Vec<u8>,
    taken: usize,
    output: Vec<u8>,
    until: usize,
}

impl Turn {
    fn new(input: &[u8], until: usize) -> Self {
        Self {
            input: input.to_vec(),
            taken: 0,
            output: Vec::new(),
            until,
        }
    }
}

impl ExecIo for Turn {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        let rest = &self.input[self.taken..];
        let count = rest.len().min(128 * 1024);
        buffer.extend_from_slice(&rest[..count]);
        self.taken += count;
        Ok(if count == 0 {
            Input::Wait
        } else {
            Input::Ready
        })
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.output.extend_from_slice(bytes);
        Ok(if self.output.len() >= self.until {
            Flow::Pause
        } else {
            Flow::Continue
        })
    }
}

/// Starts a command that echoes lines, and pauses it after the first.
fn pause(session: &mut dyn Session, command: &str) {
    let mut turn = Turn::new(b"first\n", 6);
    let outcome = session.exec(command, &mut turn).expect("pauses");
    assert_eq!(turn.output, b"first\n");
    assert_eq!(outcome.exit_status, None);
}

fn each_server(sshd: &str, dropbear: &str, check: impl Fn(&Host)) {
    check(&Sshd::start(sshd));
    check(&Dropbear::start(dropbear));
}

#[test]
fn paused_command_goes_on_as_often_as_there_is_input() {
    each_server("127.0.0.141", "127.0.0.151", |host| {
        let mut session = session(host);
        pause(&mut *session, "cat; exit 5");
        for round in 0..20 {
            let line = format!("round {round}\n");
            let mut turn = Turn::new(line.as_bytes(), line.len());
            session.resume(&mut turn).expect("goes on");
            assert_eq!(String::from_utf8_lossy(&turn.output), line);
        }
        let mut last = Fixed {
            input: b"last\n".to_vec(),
            ..Fixed::default()
        };
        let outcome = session.resume(&mut last).expect("ends");
        assert_eq!(last.output, b"last\n");
        assert_eq!(outcome.exit_status, Some(5));
        session
            .resume(&mut Fixed::default())
            .expect_err("has ended");
    });
}

#[test]
fn much_input_after_a_pause_echoes_byte_for_byte() {
    each_server("127.0.0.142", "127.0.0.152", |host| {
        let mut session = session(host);
        pause(&mut *session, "cat");
        let input: Vec<u8> = (0..2_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut turn = Turn::new(&input, input.len());
        session.resume(&mut turn).expect("goes on");
        assert!(turn.output == input, "{} bytes", turn.output.len());
        let mut last = Fixed {
            input,
            ..Fixed::default()
        };
        session.resume(&mut last).expect("ends");
        assert!(last.output == last.input, "{} bytes", last.output.len());
        assert_eq!(last.sent, last.input.len());
    });
}

#[test]
fn paused_command_is_left_when_another_is_started() {
    each_server("127.0.0.143", "127.0.0.153", |host| {
        let mut session = session(host);
        for round in 0..3 {
            pause(&mut *session, "cat; echo over >>ended");
            let started = Instant::now();
            let (output, _) = output_of(&mut *session, "echo next")
                .unwrap_or_else(|error| panic!("{error} in round {round}:\n{}", host.log()));
            assert_eq!(output, "next\n", "in round {round}");
            assert!(started.elapsed() < Duration::from_secs(5));
            let error = session.resume(&mut Fixed::default()).expect_err("is gone");
            assert!(matches!(error, TransportError::Broken { .. }), "{error}");
        }
        // Its input has ended, or it would stay for ever.
        wait_for_lines(host, 3);
    });
}

#[test]
fn paused_command_ends_with_its_session() {
    each_server("127.0.0.144", "127.0.0.154", |host| {
        let (mut closed, mut dropped) = (session(host), session(host));
        pause(&mut *closed, "cat; echo over >>ended");
        pause(&mut *dropped, "cat; echo over >>ended");
        let started = Instant::now();
        closed.close();
        drop(dropped);
        assert!(started.elapsed() < Duration::from_secs(2));
        wait_for_lines(host, 2);
    });
}

/// Waits until so many commands have ended.
fn wait_for_lines(host: &Host, count: usize) {
    let path = host.dir().join("ended");
    let lines = || std::fs::read_to_string(&path).unwrap_or_default();
    let started = Instant::now();
    while lines().lines().count() < count {
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", lines());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn host_that_is_gone_during_a_pause_is_an_error() {
    each_server("127.0.0.145", "127.0.0.155", |host| {
        let mut session = session(host);
        pause(&mut *session, "cat");
        host.cut_connections();
        let started = Instant::now();
        let error = session
            .resume(&mut Turn::new(b"second\n", 7))
            .expect_err("is gone");
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
        let error = output_of(&mut *session, "echo").expect_err("nothing may follow");
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
        session.close();
        assert!(started.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn host_that_freezes_during_a_pause_ends_with_the_stall_timeout() {
    let host = Sshd::start("127.0.0.146");
    let options = ConnectOptions {
        stall_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let mut session = connect(options, &host.to_config()).expect("logs in");
    pause(&mut *session, "cat");
    host.freeze_connections();
    let started = Instant::now();
    let error = session
        .resume(&mut Turn::new(b"second\n", 7))
        .expect_err("stalls");
    assert!(
        matches!(
            error,
            TransportError::Timeout {
                setting: "stall_timeout",
                ..
            }
        ),
        "{error}"
    );
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn resume_without_a_pause_says_so() {
    let host = Sshd::start("127.0.0.147");
    let mut session = session(&host);
    let error = session.resume(&mut Fixed::default()).expect_err("no such");
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    let (output, _) = output_of(&mut *session, "echo next").expect("runs");
    assert_eq!(output, "next\n");
}
