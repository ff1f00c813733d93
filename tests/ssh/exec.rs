//! Running commands.

use std::io;

use std::time::{Duration, Instant};

use hostsync::transport::{Aborted, ConnectOptions, ExecIo, Flow, Input, TransportError};

use crate::harness::{Fixed, connect, options_for, output_of, session};
use hostsync_testkit::{Dropbear, Host, Sshd};

/// Bytes without a pattern that a shifted or lost block could hide in.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn command_starts_in_the_home_folder_and_its_status_arrives() {
    let host = Sshd::start("127.0.0.61");
    let mut session = session(&host);
    let (output, outcome) =
        output_of(&mut *session, "pwd; echo $HOME; echo oops >&2; exit 7").expect("runs");
    let home = host.dir().display().to_string();
    assert_eq!(output, format!("{home}\n{home}\n"));
    assert_eq!(outcome.stderr, b"oops\n");
    assert_eq!(outcome.exit_status, Some(7));
    session.close();
}

#[test]
fn command_killed_by_a_signal_has_no_status() {
    let host = Sshd::start("127.0.0.61");
    let (_, outcome) = output_of(&mut *session(&host), "kill -9 $$").expect("runs");
    assert_eq!(outcome.exit_status, None);
}

#[test]
fn twenty_megabytes_echo_byte_for_byte() {
    let host = Sshd::start("127.0.0.62");
    let mut session = session(&host);
    let mut io = Fixed {
        input: noise(20 << 20),
        ..Fixed::default()
    };
    session.exec("cat", &mut io).expect("runs");
    assert_eq!(io.sent, io.input.len());
    assert!(io.output == io.input, "{} bytes came back", io.output.len());
}

#[test]
fn dropbear_with_its_small_window_echoes_byte_for_byte() {
    let host = Dropbear::start("127.0.0.63");
    let mut session = session(&host);
    let mut io = Fixed {
        input: noise(4 << 20),
        ..Fixed::default()
    };
    session.exec("cat", &mut io).expect("runs");
    assert!(io.output == io.input, "{} bytes came back", io.output.len());
    let (output, _) = output_of(&mut *session, "command -v perl || pwd").expect("runs");
    assert_eq!(output, format!("{}\n", host.dir().display()));
    session.close();
}

#[test]
fn flood_of_errors_beside_output_and_input_does_not_deadlock() {
    let host = Sshd::start("127.0.0.64");
    let mut session = session(&host);
    let mut io = Fixed {
        input: noise(8 << 20),
        ..Fixed::default()
    };
    let outcome = session
        .exec(
            "head -c 16777216 /dev/zero >&2 & cat; wait; echo last >&2",
            &mut io,
        )
        .expect("runs");
    assert!(io.output == io.input);
    assert_eq!(outcome.stderr.len(), 64 * 1024);
    assert!(outcome.stderr.ends_with(b"last\n"));
}

#[test]
fn input_that_nobody_reads_does_not_keep_a_command_from_ending() {
    let host = Sshd::start("127.0.0.65");
    let mut session = session(&host);
    let mut io = Fixed {
        input: vec![0; 32 << 20],
        ..Fixed::default()
    };
    let outcome = session.exec("exit 3", &mut io).expect("runs");
    assert_eq!(outcome.exit_status, Some(3));
    assert!(io.sent < io.input.len());
    let (output, _) = output_of(&mut *session, "echo next").expect("the session is as good as new");
    assert_eq!(output, "next\n");
}

#[test]
fn waiting_input_is_asked_for_again_when_output_came() {
    let host = Sshd::start("127.0.0.66");
    let mut io = Fixed {
        input: b"answer\n".to_vec(),
        hold_back_until: 9,
        ..Fixed::default()
    };
    session(&host)
        .exec("echo question; read line; echo got $line", &mut io)
        .expect("runs");
    assert_eq!(io.output, b"question\ngot answer\n");
}

#[test]
fn break_leaves_a_command_that_would_go_on_and_the_session_serves_the_next() {
    let host = Sshd::start("127.0.0.67");
    let mut session = session(&host);
    for _ in 0..3 {
        let mut io = Fixed {
            // More than the socket holds, so that a packet is half sent when the break comes.
            input: vec![b'x'; 16 << 20],
            enough: Some(6),
            ..Fixed::default()
        };
        let started = Instant::now();
        session
            .exec("sleep 1; echo marker; exec sleep 30", &mut io)
            .expect("left");
        // A second until the marker, and two for the command to end by itself.
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(io.output, b"marker\n");
    }
    let (output, _) = output_of(&mut *session, "echo next").expect("runs");
    assert_eq!(output, "next\n");
}

#[test]
fn break_in_a_stream_without_end_leaves_a_usable_session() {
    let host = Sshd::start("127.0.0.67");
    let mut session = session(&host);
    let mut io = Fixed {
        input: vec![b'x'; 16 << 20],
        enough: Some(5 << 20),
        ..Fixed::default()
    };
    session.exec("cat & cat /dev/zero", &mut io).expect("left");
    let (output, _) = output_of(&mut *session, "echo next").expect("runs");
    assert_eq!(output, "next\n");
}

/// Gives up on the first occasion of its kind.
struct GivesUp {
    on_input: bool,
}

impl ExecIo for GivesUp {
    fn next_input(&mut self, _buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.on_input {
            return Err(Aborted(Box::new(io::Error::other("the source changed"))));
        }
        Ok(Input::Wait)
    }

    fn output(&mut self, _bytes: &[u8]) -> Result<Flow, Aborted> {
        Err(Aborted(Box::new(io::Error::other("not understood"))))
    }
}

#[test]
fn caller_that_gives_up_ends_the_command_with_its_own_error() {
    let host = Sshd::start("127.0.0.68");
    let mut session = session(&host);
    for (on_input, text) in [(true, "the source changed"), (false, "not understood")] {
        let error = session
            .exec("echo; sleep 30", &mut GivesUp { on_input })
            .expect_err("gives up");
        assert!(matches!(error, TransportError::Aborted(_)));
        assert_eq!(error.to_string(), text);
    }
    let (output, _) = output_of(&mut *session, "echo next").expect("runs");
    assert_eq!(output, "next\n");
}

#[test]
fn silence_ends_after_the_stall_timeout() {
    let host = Sshd::start("127.0.0.69");
    let options = ConnectOptions {
        stall_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let mut session = connect(options, &host.to_config()).expect("logs in");
    let started = Instant::now();
    let error = output_of(&mut *session, "sleep 30").expect_err("stalls");
    let elapsed = started.elapsed();
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
    assert!((0.9..5.0).contains(&elapsed.as_secs_f64()), "{elapsed:?}");
    let error = output_of(&mut *session, "echo").expect_err("nothing may follow");
    assert!(matches!(error, TransportError::Broken { .. }), "{error}");
}

#[test]
fn host_that_takes_nothing_ends_after_the_stall_timeout() {
    for host in [
        &*Sshd::start("127.0.0.75") as &Host,
        &*Dropbear::start("127.0.0.76"),
    ] {
        let options = ConnectOptions {
            stall_timeout: Duration::from_secs(1),
            ..options_for(host)
        };
        let mut session = connect(options, &host.to_config()).expect("logs in");
        let mut io = Fixed {
            input: vec![0; 64 << 20],
            ..Fixed::default()
        };
        let before = thread_time();
        let error = session.exec("sleep 30", &mut io).expect_err("stalls");
        assert!(matches!(error, TransportError::Timeout { .. }), "{error}");
        assert!(io.sent < io.input.len());
        let used = thread_time().saturating_sub(before);
        assert!(used < Duration::from_millis(500), "{used:?}");
    }
}

#[test]
fn frozen_host_keeps_neither_close_nor_drop_waiting() {
    let host = Sshd::start("127.0.0.77");
    let (first, mut second) = (session(&host), session(&host));
    let mut io = Fixed {
        input: vec![0; 16 << 20],
        enough: Some(1),
        ..Fixed::default()
    };
    second.exec("echo; sleep 30", &mut io).expect("left");
    host.freeze_connections();
    let started = Instant::now();
    first.close();
    drop(second);
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[test]
fn heartbeat_on_standard_error_keeps_a_command_alive() {
    let host = Sshd::start("127.0.0.69");
    let options = ConnectOptions {
        stall_timeout: Duration::from_secs(1),
        ..options_for(&host)
    };
    let mut session = connect(options, &host.to_config()).expect("logs in");
    let command = "for i in 1 2 3 4 5; do sleep 0.5; echo . >&2; done; echo done";
    let (output, _) = output_of(&mut *session, command).expect("is alive");
    assert_eq!(output, "done\n");
}

#[test]
fn command_that_is_lively_without_end_is_left_at_its_time_limit() {
    for host in [
        &*Sshd::start("127.0.0.108") as &Host,
        &*Dropbear::start("127.0.0.109"),
    ] {
        for stream in ["", ">&2"] {
            let mut session = session(host);
            let mut io = Fixed {
                time_limit: Some(Duration::from_secs(1)),
                ..Fixed::default()
            };
            // It comes to its end, so that this test does, whatever happens.
            let command = format!("for i in $(seq 100); do sleep 0.2; echo . {stream}; done");
            let error = session.exec(&command, &mut io).expect_err("is left");
            assert!(matches!(error, TransportError::Overdue { .. }), "{error}");
            let error = output_of(&mut *session, "echo").expect_err("nothing may follow");
            assert!(matches!(error, TransportError::Broken { .. }), "{error}");
        }
    }
}

#[test]
fn time_limit_that_grows_with_the_answer_is_asked_for_again() {
    let host = Sshd::start("127.0.0.110");
    let mut session = session(&host);
    let mut io = GrowingLimit::default();
    let command = "for i in 1 2 3 4 5 6; do sleep 0.5; echo .; done";
    session.exec(command, &mut io).expect("has time");
    assert_eq!(io.lines, 6);
}

/// Gives a second for each line, and one before the first.
#[derive(Default)]
struct GrowingLimit {
    lines: u32,
}

impl ExecIo for GrowingLimit {
    fn next_input(&mut self, _: &mut Vec<u8>) -> Result<Input, Aborted> {
        Ok(Input::End)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.lines += u32::try_from(bytes.len() / 2).expect("a few");
        Ok(Flow::Continue)
    }

    fn time_limit(&self) -> Option<Duration> {
        Some(Duration::from_secs(2) + Duration::from_secs(2) * self.lines)
    }
}

#[test]
fn waiting_for_a_slow_command_takes_no_processor_time() {
    let host = Sshd::start("127.0.0.70");
    let mut session = session(&host);
    let before = thread_time();
    output_of(&mut *session, "sleep 2").expect("runs");
    let used = thread_time().saturating_sub(before);
    assert!(used < Duration::from_millis(200), "{used:?}");
}

/// Processor time of this thread.
fn thread_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
    let nanoseconds = text.split(' ').next().and_then(|field| field.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

#[test]
fn cut_connection_is_an_error_and_not_an_end() {
    let host = Sshd::start("127.0.0.71");
    let mut session = session(&host);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            host.cut_connections();
        });
        let error = output_of(&mut *session, "echo begun; sleep 30").expect_err("is cut");
        assert!(matches!(error, TransportError::Broken { .. }), "{error}");
    });
}

#[test]
fn noise_of_start_files_comes_before_the_output() {
    let host = Sshd::start_with(
        "127.0.0.72",
        &hostsync_testkit::SshdOptions {
            start_file: "echo Welcome".to_owned(),
            shell: "/usr/bin/tcsh".to_owned(),
            ..Default::default()
        },
    );
    let (output, _) = output_of(&mut *session(&host), "exec /bin/sh -c 'echo $0'").expect("runs");
    assert_eq!(output, "Welcome\n/bin/sh\n");
}

#[test]
fn compressed_stream_echoes_byte_for_byte() {
    let host = Sshd::start("127.0.0.73");
    let options = ConnectOptions {
        compress: true,
        ..options_for(&host)
    };
    let mut session = connect(options, &host.to_config()).expect("logs in");
    let mut io = Fixed {
        input: [noise(1 << 20), vec![0; 4 << 20]].concat(),
        ..Fixed::default()
    };
    session.exec("cat", &mut io).expect("runs");
    assert!(io.output == io.input);
}

/// Not a test of its own outcome: prints how fast each cipher is. Run it with
/// `cargo test --test ssh -- --ignored --nocapture cipher`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "it is for people")]
fn speed_of_ciphers() {
    let host = Sshd::start("127.0.0.74");
    for _ in 0..3 {
        for cipher in [
            "aes128-ctr",
            "aes192-ctr",
            "aes256-ctr",
            "chacha20-poly1305@openssh.com",
            "aes128-gcm@openssh.com",
            "aes256-gcm@openssh.com",
        ] {
            let options = ConnectOptions {
                ciphers: Some(vec![cipher.to_owned()]),
                ..options_for(&host)
            };
            let mut session = connect(options, &host.to_config()).expect("logs in");
            let mut io = Fixed {
                input: vec![0; 200 << 20],
                ..Fixed::default()
            };
            let started = Instant::now();
            let before = thread_time();
            session.exec("cat >/dev/null", &mut io).expect("runs");
            let (all, here) = (started.elapsed(), thread_time().saturating_sub(before));
            eprintln!("{cipher}: {all:?}, of it {here:?} here");
        }
    }
}

#[test]
fn command_that_the_host_refuses_to_start_is_an_error_though_input_was_sent() {
    let host = Sshd::start("127.0.0.78");
    let mut session = session(&host);
    // From here on the server cannot start anything for this login.
    let (output, _) = output_of(
        &mut *session,
        "prlimit --pid $PPID --nproc=0:0 && echo done",
    )
    .expect("runs");
    assert_eq!(output, "done\n");
    let mut io = Fixed {
        input: noise(1 << 20),
        ..Fixed::default()
    };
    let started = Instant::now();
    let error = session.exec("cat", &mut io).expect_err("cannot start");
    let TransportError::Broken { during, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(during, "while starting a command");
    assert!(io.output.is_empty());
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[test]
fn channel_that_the_host_refuses_is_an_error_of_the_command() {
    let host = Sshd::start_with(
        "127.0.0.79",
        &hostsync_testkit::SshdOptions {
            config: vec!["MaxSessions 0".to_owned()],
            ..Default::default()
        },
    );
    let error = output_of(&mut *session(&host), "echo").expect_err("no channel");
    let TransportError::Broken { during, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(during, "while starting a command");
}

#[test]
fn session_that_runs_nothing_ends_at_once() {
    for host in [
        &*Sshd::start("127.0.0.80") as &Host,
        &*Dropbear::start("127.0.0.81"),
    ] {
        let (closed, dropped) = (session(host), session(host));
        let started = Instant::now();
        closed.close();
        drop(dropped);
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn input_from_the_start_reaches_dropbear_as_a_whole() {
    let host = Dropbear::start("127.0.0.82");
    let mut session = session(&host);
    for length in [1, 1000, 30_000, 300_000] {
        let mut io = Fixed {
            input: noise(length),
            ..Fixed::default()
        };
        session.exec("cat", &mut io).expect("runs");
        assert!(io.output == io.input, "{} bytes", io.output.len());
    }
}

#[test]
fn command_that_was_left_comes_to_its_end_after_the_session() {
    for host in [
        &*Sshd::start("127.0.0.83") as &Host,
        &*Dropbear::start("127.0.0.84"),
    ] {
        let mut session = session(host);
        let mut io = Fixed {
            hold_back_until: usize::MAX,
            enough: Some(1),
            ..Fixed::default()
        };
        let command = "echo marker; sleep 0.3; echo over >ended";
        session.exec(command, &mut io).expect("left");
        let started = Instant::now();
        session.close();
        assert!(started.elapsed() < Duration::from_millis(250));
        while !host.dir().join("ended").exists() {
            assert!(started.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}
