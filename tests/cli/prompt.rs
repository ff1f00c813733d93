//! The question, asked in a real terminal.

use std::io::{Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hostsync_testkit::Sshd;
use hostsync_testkit::copied::{Contents, assert_same, assert_untouched};
use hostsync_testkit::scenario::{Scenario, read_on, write_on};

/// Starts `hostsync apply` in a terminal of its own, made by `script` of util-linux.
fn in_terminal(scenario: &Scenario, args: &str) -> Child {
    run_in_terminal(scenario, &format!("apply {args}"))
}

/// The same for any command of hostsync.
pub(crate) fn run_in_terminal(scenario: &Scenario, args: &str) -> Child {
    let program = hostsync_testkit::program();
    let mut command = Command::new("script");
    command.args(["-qec", &format!("'{program}' {args}"), "/dev/null"]);
    scenario.at_home(&mut command);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("script: {error}; install it with `apt-get install bsdutils`")
        })
}

/// Waits for the question, answers it, and waits for the end: the exit code and all that was shown.
pub(crate) fn answer(child: &mut Child, answer: &[u8]) -> (Option<i32>, String) {
    let mut shown = until_asked(child);
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(answer).expect("it reads");
    let status = child.wait().expect("it ends");
    drop(input);
    let mut stdout = child.stdout.take().expect("it is piped");
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).expect("a pipe");
    shown.push_str(&String::from_utf8_lossy(&rest));
    assert_eq!(status.signal(), None);
    (status.code(), shown)
}

/// Waits for the question; what was shown until then.
fn until_asked(child: &mut Child) -> String {
    let stdout = child.stdout.as_mut().expect("it is piped");
    let started = Instant::now();
    let mut shown = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        let count = stdout.read(&mut buffer).expect("a pipe");
        shown.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&shown);
        if text.contains("Only 'yes' is accepted: ") {
            return text.into_owned();
        }
        let is_late = started.elapsed() > Duration::from_secs(30);
        assert!(count > 0 && !is_late, "it did not ask:\n{text}");
    }
}

/// A host with a file of ours that somebody edited, and a new file here.
fn waiting(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "first\n");
    scenario.apply();
    write_on(&host, "dest/file", "by hand\n");
    scenario.write("src/new", "new\n");
    (host, scenario)
}

#[test]
fn yes_applies_with_the_conflicts_that_were_shown() {
    let (host, scenario) = waiting("127.2.5.1");
    let (code, shown) = answer(&mut in_terminal(&scenario, ""), b"yes\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("1 conflict is replaced or deleted, too"),
        "{shown}"
    );
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
}

#[test]
fn anything_but_yes_cancels_and_nothing_is_changed() {
    let (host, scenario) = waiting("127.2.5.2");
    let before = Contents::of(&host.dir());
    let state = std::fs::read(scenario.path("state/state.json")).expect("it is there");
    // The last one is Ctrl-D: the end of the input.
    for given in [
        &b"no\n"[..],
        b"\n",
        b"y\n",
        b"YES\n",
        b"yes please\n",
        b"\x04",
    ] {
        let (code, shown) = answer(&mut in_terminal(&scenario, ""), given);
        assert_eq!(code, Some(1), "{shown}");
        assert!(shown.contains("Cancelled: nothing was changed."), "{shown}");
        assert_untouched(&before, &host.dir());
    }
    assert_eq!(
        std::fs::read(scenario.path("state/state.json")).expect("it is there"),
        state
    );
}

#[test]
fn interrupt_at_the_question_changes_nothing_and_ends_with_130() {
    let (host, scenario) = waiting("127.2.5.3");
    let before = Contents::of(&host.dir());
    let (code, shown) = answer(&mut in_terminal(&scenario, ""), b"\x03");
    assert_eq!(code, Some(130), "{shown}");
    assert_untouched(&before, &host.dir());
}

#[test]
fn nothing_to_do_is_not_asked_about() {
    let (_host, scenario) = waiting("127.2.5.4");
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    let mut child = in_terminal(&scenario, "");
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
}

#[test]
fn second_apply_finds_the_state_locked_and_says_by_whom() {
    let (host, scenario) = waiting("127.2.5.5");
    let mut first = in_terminal(&scenario, "");
    until_asked(&mut first);
    let before = Contents::of(&host.dir());
    let args = ["apply", "--auto-approve", "--on-conflict", "overwrite"];
    scenario.run(&args).expect(5).expect_stderr(&[
        "the state is locked by `apply` of",
        "(pid ",
        "--lock-timeout",
    ]);
    assert_untouched(&before, &host.dir());
    // Looking is free.
    scenario.run(&["plan"]).expect(0);

    // One that waits gets its turn.
    let waiting = scenario
        .command(&[&args[..], &["--lock-timeout", "60s"]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    std::thread::sleep(Duration::from_millis(700));
    let mut input = first.stdin.take().expect("it is piped");
    input.write_all(b"no\n").expect("it reads");
    assert_eq!(first.wait().expect("it ends").code(), Some(1));
    let output = waiting.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("waiting for another run: `apply`"), "{said}");
    assert_eq!(read_on(&host, "dest/file").as_deref(), Some("first\n"));
}

#[test]
fn lock_of_a_run_that_was_killed_needs_nobody() {
    let (host, scenario) = waiting("127.2.5.6");
    let mut killed = in_terminal(&scenario, "");
    until_asked(&mut killed);
    // `script` hangs up on what it runs.
    killed.kill().expect("our child");
    killed.wait().expect("it ends");
    scenario
        .run(&[
            "apply",
            "--auto-approve",
            "--on-conflict",
            "overwrite",
            "--lock-timeout",
            "10s",
        ])
        .expect(0);
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
}
