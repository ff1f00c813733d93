//! Large files over lines that break.

use std::fs;
use std::net::SocketAddr;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use hostsync_testkit::latency::LatencyProxy;
use hostsync_testkit::scenario::{Output, Scenario, install_scp};
use hostsync_testkit::{Dropbear, Host, Sshd};

const MIB: u64 = 1024 * 1024;

/// How large the file of these tests is: large, and not worth a second session.
const SIZE_BYTES: u64 = 96 * MIB + 12_345;

/// When the line breaks.
const CUT_AT_BYTES: u64 = 40 * MIB;

/// How long bytes take in each direction.
const LINE: Duration = Duration::from_millis(5);

/// What a cut may cost: what was on the way, the block that it was in, and what everything else is.
const LOSS_BYTES: u64 = 12 * MIB;

/// A file on its way to a host.
pub(crate) struct Push {
    pub(crate) scenario: Scenario,
    proxy: LatencyProxy,
    pub(crate) content: Vec<u8>,
}

impl Push {
    /// One that takes some seconds.
    pub(crate) fn long(host: &Host) -> Self {
        Self::new(host, 192 * MIB, Duration::from_millis(15))
    }

    fn new(host: &Host, size_bytes: u64, one_way: Duration) -> Self {
        let target: SocketAddr = format!("{}:{}", host.address, host.port)
            .parse()
            .expect("an address");
        let any_port = SocketAddr::new(target.ip(), 0);
        let proxy = LatencyProxy::start(any_port, target, one_way).expect("a free port");
        let mut scenario = Scenario::of_folder(host);
        let port = proxy.address().port();
        scenario.set(0, "port", json!(port));
        let known = format!("[{}]:{port} {}\n", host.address, host.host_key());
        scenario.write("known_hosts", known);
        let mut state = 1_u64;
        let words = usize::try_from(size_bytes).expect("it is no embedded system") / 8 + 1;
        let mut content = Vec::with_capacity(8 * words);
        for _ in 0..words {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(99);
            content.extend_from_slice(&state.to_be_bytes());
        }
        scenario.write("src/large", &content);
        Self {
            scenario,
            proxy,
            content,
        }
    }

    /// Starts an apply and waits until it is in the middle.
    fn begin(&self) -> Child {
        self.begin_with(&[])
    }

    /// Starts an apply with these options and waits until it is in the middle.
    pub(crate) fn begin_with(&self, options: &[&str]) -> Child {
        let apply = ["apply", "--auto-approve"];
        let mut command = self.scenario.command(&[&apply[..], options].concat());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().expect("the program starts");
        let started = Instant::now();
        while self.proxy.carried_bytes() < CUT_AT_BYTES {
            assert!(started.elapsed() < Duration::from_mins(1), "it is stuck");
            thread::sleep(Duration::from_millis(2));
        }
        child
    }

    /// The file is there, next to nothing was sent twice, and nothing of it is left elsewhere.
    #[track_caller]
    fn expect_done(&self, host: &Host) {
        let on_host = fs::read(host.dir().join("dest/large")).expect("it is there");
        assert!(on_host == self.content);
        let carried = self.proxy.carried_bytes();
        let expected = SIZE_BYTES..SIZE_BYTES + SIZE_BYTES / 50 + LOSS_BYTES;
        assert!(expected.contains(&carried), "{carried} bytes");
        self.scenario.expect_nothing_to_do();
        let bases = fs::read_dir(host.dir().join(".hostsync")).expect("it is there");
        for base in bases.map(|entry| entry.expect("an entry").path().join(&host.address)) {
            for left in fs::read_dir(base).into_iter().flatten() {
                let name = left.expect("an entry").file_name();
                assert!(
                    !name.as_encoded_bytes().starts_with(b"run-"),
                    "{}",
                    name.display()
                );
            }
        }
    }
}

#[test]
fn connection_that_is_cut_within_a_large_file_is_taken_up_again() {
    let host = Sshd::start("127.2.12.1");
    let push = Push::new(&host, SIZE_BYTES, LINE);
    let child = push.begin();
    push.proxy.cut();
    let output: Output = child.wait_with_output().expect("our child").into();
    let told = format!("{}: connection lost, logging in again", host.address);
    output.expect(0).expect_stderr(&[&told]);
    push.expect_done(&host);
    let log = fs::read_to_string(push.scenario.path("logs/hostsync.log")).expect("a log");
    assert!(
        log.contains("logging in again to send what is missing"),
        "{log}"
    );
}

#[test]
fn much_over_a_long_line_goes_through_two_sessions() {
    let host = Sshd::start("127.2.12.4");
    let push = Push::new(&host, 256 * MIB, Duration::from_millis(20));
    let connections = || {
        let log = host.log();
        log.lines()
            .filter(|line| line.starts_with("Connection from "))
            .count()
    };
    push.scenario.run(&["plan"]).expect(0);
    let before = connections();
    push.scenario.apply();
    // The one of the plan, and one more.
    assert_eq!(connections() - before, 2);
    let on_host = fs::read(host.dir().join("dest/large")).expect("it is there");
    assert!(on_host == push.content);
    push.scenario.expect_nothing_to_do();
}

#[test]
fn interrupted_apply_tells_what_it_sent_and_the_next_one_goes_on_with_it() {
    let host = Sshd::start("127.2.12.5");
    let push = Push::new(&host, SIZE_BYTES, LINE);
    let child = push.begin();
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::INT).expect("our child");
    let output: Output = child.wait_with_output().expect("our child").into();
    let output = output.expect(130).expect_stdout(&[
        "Nothing applied: 0 changes on 0 hosts",
        "; 1 host interrupted.",
        "What arrived of large files stays on the host",
    ]);
    assert!(output.stdout.contains(" MiB sent)"), "{output}");
    push.scenario.apply();
    push.expect_done(&host);
}

/// Kills an apply and runs it again.
fn kill_and_repeat(host: &Host, one_way: Duration) {
    let push = Push::new(host, SIZE_BYTES, one_way);
    let mut child = push.begin();
    child.kill().expect("our child");
    child.wait().expect("our child");
    assert!(!host.dir().join("dest").exists());
    push.scenario.apply();
    push.expect_done(host);
}

#[test]
fn killed_program_is_taken_up_by_the_next_one() {
    kill_and_repeat(&Sshd::start("127.2.12.2"), LINE);
}

#[test]
fn killed_program_is_taken_up_by_the_next_one_on_a_host_that_has_busybox_alone() {
    let host = Dropbear::start("127.2.12.3");
    install_scp(&host);
    // A long line would be a very slow one: 24 KiB at a time are all that it lets be on the way.
    kill_and_repeat(&host, Duration::ZERO);
}
