//! Runs that somebody interrupts: by a signal, by closing the terminal, by closing the laptop.

use std::fs;
use std::io::{self, PipeWriter, Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use hostsync_testkit::scenario::{Output, Scenario, backups, chmod, read_on, remove};
use hostsync_testkit::{Host, Sshd, SshdOptions};

/// Longest time that is waited for something that has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A moment in which everything happens that happens at all.
const MOMENT: Duration = Duration::from_millis(300);

/// How long a run may take to end at once: a second for those who do not listen, and what a machine
/// needs that has a lot to do.
const AT_ONCE: Duration = Duration::from_secs(3);

const APPLY: [&str; 2] = ["apply", "--auto-approve"];
const APPLY_WITH_EVENTS: [&str; 4] = ["apply", "--auto-approve", "--format", "json"];

/// Where a host can be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Moment {
    /// A file has arrived.
    Upload,
    /// A file is about to be put in place.
    Commit,
}

impl Moment {
    fn name(self) -> &'static str {
        match self {
            Self::Upload => "upload",
            Self::Commit => "commit",
        }
    }
}

/// Loaded by every perl of a host: waits at a moment, as long as the test wants, and lets the clock jump
/// when it wants.
const MEDDLER: &str = r#"
package Meddler; use strict; no warnings;
sub hold {
    my ($moment) = @_;
    my $wanted = "$ENV{HOME}/../hold-$moment";
    return unless -e $wanted;
    open my $mark, '>', "$ENV{HOME}/held-$moment";
    close $mark;
    select undef, undef, undef, 0.01 while -e $wanted;
}
BEGIN {
    *CORE::GLOBAL::utime = sub (@) { hold('upload'); CORE::utime($_[0], $_[1], @_[2 .. $#_]) };
    *CORE::GLOBAL::time = sub () { CORE::time() + (-e "$ENV{HOME}/../clock-is-set" ? 86400 : 0) };
    *CORE::GLOBAL::rename = sub ($$) { hold('commit') if $_[1] =~ m{^\./file$}; CORE::rename($_[0], $_[1]) };
}
1;
"#;

/// A host that can be held, with a file of ours that has changed here.
struct Site {
    host: Sshd,
    scenario: Scenario,
}

impl Site {
    fn new(address: &str) -> Self {
        Self::with_sshd(address, &[])
    }

    /// With these lines in the configuration of sshd.
    fn with_sshd(address: &str, config: &[&str]) -> Self {
        let options = SshdOptions {
            start_file: "PATH=$HOME/../bin:$PATH; export PATH".to_owned(),
            config: config.iter().map(ToString::to_string).collect(),
            ..SshdOptions::default()
        };
        let host = Sshd::start_with(address, &options);
        let bin = host.private_dir().join("bin");
        fs::create_dir(&bin).expect("our folder");
        fs::write(bin.join("Meddler.pm"), MEDDLER).expect("our folder");
        let perl = r#"exec /usr/bin/perl "-I${0%/*}" -MMeddler "$@""#;
        fs::write(bin.join("perl"), format!("#!/bin/sh\n{perl}\n")).expect("our folder");
        for path in [bin.clone(), bin.join("perl")] {
            chmod(&path, 0o755);
        }
        let scenario = Scenario::of_folder(&host);
        scenario.write("src/file", "old\n");
        scenario.apply();
        scenario.write("src/file", "new\n");
        Self { host, scenario }
    }

    /// From now on the host stops at this moment.
    fn hold(&self, moment: Moment) {
        let wanted = format!("hold-{}", moment.name());
        fs::write(self.host.private_dir().join(wanted), "").expect("our folder");
    }

    /// Waits until it has.
    fn wait_until_held(&self, moment: Moment) {
        let mark = self.host.dir().join(format!("held-{}", moment.name()));
        wait_until(|| mark.exists());
        fs::remove_file(mark).expect("root may");
    }

    /// The host goes on.
    fn release(&self, moment: Moment) {
        let wanted = format!("hold-{}", moment.name());
        remove(&self.host.private_dir().join(wanted));
    }

    fn start(&self, args: &[&str]) -> Child {
        let mut command = self.scenario.command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the program starts")
    }

    /// Starts a run and waits until its host is at this moment.
    fn start_until(&self, moment: Moment, args: &[&str]) -> Child {
        self.hold(moment);
        let child = self.start(args);
        self.wait_until_held(moment);
        child
    }

    fn text_on_host(&self) -> String {
        read_on(&self.host, "dest/file").expect("it is there")
    }

    /// Folders of runs that are still on the host.
    fn runs_left(&self) -> Vec<String> {
        let names = |folder: &Path| -> Vec<_> {
            let entries = fs::read_dir(folder).into_iter().flatten();
            entries
                .map(|entry| entry.expect("an entry").path())
                .collect()
        };
        let bases = names(&self.host.dir().join(".hostsync"));
        let bases = bases.iter().flat_map(|lineage| names(lineage));
        let entries = bases.flat_map(|base| names(&base));
        let names = entries.map(|path| path.display().to_string());
        names.filter(|name| name.contains("/run-")).collect()
    }

    /// Nothing of a run is left on the host, now or soon.
    #[track_caller]
    fn expect_clean(&self) {
        let started = Instant::now();
        while !self.runs_left().is_empty() {
            let is_late = started.elapsed() > Duration::from_secs(5);
            assert!(!is_late, "{:?}", self.runs_left());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the run before has or has not done is nobody else's, and the next one ends it.
    #[track_caller]
    fn expect_recovery(&self) {
        let changes = self.scenario.changes(&self.host);
        for change in &changes {
            let is_theirs = |word: &&str| change.contains(word);
            let theirs = ["drift", "unmanaged", "conflict"]
                .iter()
                .find(|word| is_theirs(word));
            assert_eq!(theirs, None, "{change}");
        }
        self.scenario.apply();
        assert_eq!(self.text_on_host(), "new\n");
        assert!(backups(&self.host).iter().any(|(_, text)| text == "old\n"));
        self.scenario.expect_nothing_to_do();
        self.expect_clean();
    }

    /// The exit code that the log has, for a run that nobody can wait for.
    fn exit_in_log(&self) -> Option<String> {
        let log = fs::read_to_string(self.scenario.path("logs/hostsync.log")).ok()?;
        let (_, exit) = log.trim_end().lines().last()?.split_once("exit=")?;
        Some(exit.to_owned())
    }
}

#[track_caller]
fn wait_until(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "it does not come to that");
        thread::sleep(Duration::from_millis(5));
    }
}

fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).expect("it is there");
}

fn end_of(child: Child) -> Output {
    child.wait_with_output().expect("our child").into()
}

/// Ends within the time that a person waits who wants it to end at once.
#[track_caller]
fn end_at_once(child: Child) -> Output {
    let started = Instant::now();
    let output = end_of(child);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    output
}

/// The last line of a run that tells what happens.
#[track_caller]
fn last_event(output: &Output) -> Value {
    let line = output.stdout.lines().last().expect("a line");
    let event: Value =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert_eq!(event["exit_code"], output.code, "{output}");
    event
}

// --- the first signal --------------------------------------------------------------------------------

#[test]
fn signal_lets_the_commit_under_way_come_to_its_end() {
    for (address, of_kind) in [
        ("127.2.30.1", Signal::INT),
        ("127.2.30.2", Signal::TERM),
        ("127.2.30.3", Signal::HUP),
    ] {
        let site = Site::new(address);
        let mut child = site.start_until(Moment::Commit, &APPLY_WITH_EVENTS);
        signal(child.id(), of_kind);
        thread::sleep(MOMENT);
        if of_kind == Signal::HUP {
            // The shell tells what it has started, and then the system does.
            signal(child.id(), of_kind);
            thread::sleep(MOMENT);
        }
        assert_eq!(child.try_wait().expect("our child"), None, "{of_kind:?}");
        site.release(Moment::Commit);
        let output = end_of(child).expect(130);
        let output = output.expect_stderr(&["interrupted: finishing what is being committed"]);
        let event = last_event(&output);
        assert_eq!(
            (&event["type"], &event["interrupted"]),
            (&"summary".into(), &true.into())
        );
        assert_eq!(site.text_on_host(), "new\n");
        site.scenario.expect_nothing_to_do();
        site.expect_clean();
    }
}

#[test]
fn signal_during_the_upload_changes_nothing_and_leaves_nothing() {
    for (address, of_kind) in [
        ("127.2.30.4", Signal::INT),
        ("127.2.30.5", Signal::TERM),
        ("127.2.30.6", Signal::HUP),
    ] {
        let site = Site::new(address);
        let child = site.start_until(Moment::Upload, &APPLY);
        signal(child.id(), of_kind);
        thread::sleep(MOMENT);
        site.release(Moment::Upload);
        let output = end_of(child).expect(130);
        output.expect_stdout(&["Nothing applied", "1 host interrupted."]);
        assert_eq!(site.text_on_host(), "old\n");
        site.expect_clean();
        site.expect_recovery();
    }
}

#[test]
fn signal_that_somebody_has_us_ignore_is_ignored() {
    let site = Site::new("127.2.30.7");
    site.hold(Moment::Commit);
    let program = hostsync_testkit::program();
    let mut nohup = Command::new("nohup");
    nohup.arg(program).args(APPLY);
    site.scenario.at_home(&mut nohup);
    nohup.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = nohup.spawn().expect("nohup starts");
    site.wait_until_held(Moment::Commit);
    signal(child.id(), Signal::HUP);
    thread::sleep(MOMENT);
    site.release(Moment::Commit);
    end_of(child).expect(0);
    site.scenario.expect_nothing_to_do();
}

#[test]
fn signal_that_is_passed_on_twice_lets_the_commit_under_way_come_to_its_end() {
    let site = Site::new("127.2.30.8");
    site.hold(Moment::Commit);
    let program = hostsync_testkit::program();
    // It signals its command, then the group that the command is in, as it does at the end of its time.
    let mut timeout = Command::new("timeout");
    timeout.args(["60", &program]).args(APPLY);
    site.scenario.at_home(&mut timeout);
    timeout.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = timeout.spawn().expect("timeout starts");
    site.wait_until_held(Moment::Commit);
    signal(child.id(), Signal::TERM);
    thread::sleep(MOMENT);
    site.release(Moment::Commit);
    end_of(child).expect(130).expect_stdout(&["1 change"]);
    assert_eq!(site.text_on_host(), "new\n");
    site.scenario.expect_nothing_to_do();
    site.expect_clean();
}

// --- the second one ----------------------------------------------------------------------------------

#[test]
fn second_signal_ends_at_once_and_the_next_run_recovers() {
    for (address, moment) in [
        ("127.2.30.9", Moment::Upload),
        ("127.2.30.10", Moment::Commit),
    ] {
        let site = Site::new(address);
        let child = site.start_until(moment, &APPLY_WITH_EVENTS);
        signal(child.id(), Signal::INT);
        thread::sleep(MOMENT);
        signal(child.id(), Signal::INT);
        let output = end_at_once(child).expect(130);
        let event = last_event(&output);
        let message = event["message"].as_str().expect("a text");
        assert!(message.starts_with("stopped at once"), "{message}");
        // The host ends what it was told to do; the next plan waits for that.
        let plan = site.start(&["plan"]);
        thread::sleep(MOMENT);
        site.release(moment);
        end_of(plan).expect(0);
        site.expect_recovery();
    }
}

#[test]
fn second_signal_ends_at_once_while_a_host_is_waited_for_that_another_run_commits_on() {
    let site = Site::new("127.2.30.11");
    let child = site.start_until(Moment::Upload, &APPLY_WITH_EVENTS);
    let lock = lock_of_this_process(&site.host);
    site.release(Moment::Upload);
    thread::sleep(MOMENT);
    signal(child.id(), Signal::TERM);
    thread::sleep(MOMENT);
    signal(child.id(), Signal::TERM);
    last_event(&end_at_once(child).expect(130));
    assert_eq!(site.text_on_host(), "old\n");
    // Nothing is changed by planning, so the first one ends that.
    let child = site.start(&APPLY_WITH_EVENTS);
    thread::sleep(Duration::from_secs(1));
    signal(child.id(), Signal::TERM);
    let event = last_event(&end_at_once(child).expect(130));
    assert_eq!(event["message"], "interrupted: nothing was changed");
    remove(&lock);
    site.expect_recovery();
}

/// A lock for commits on a host, as if this process were at work there.
fn lock_of_this_process(host: &Host) -> std::path::PathBuf {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    let stat = fs::read_to_string("/proc/self/stat").expect("Linux");
    let (_, fields) = stat.rsplit_once(") ").expect("a name");
    let started = fields.split(' ').nth(19).expect("its start");
    let lock = host.dir().join(format!(".hostsync/lock-{}", boot.trim()));
    fs::create_dir(&lock).expect("root may");
    let owner = format!("{} {started} {boot}", std::process::id());
    fs::write(lock.join("owner"), owner).expect("root may");
    for path in [lock.join("owner"), lock.clone()] {
        host.account.own(&path);
    }
    lock
}

// --- before and after the changes --------------------------------------------------------------------

#[test]
fn signal_ends_a_run_that_waits_for_the_state() {
    let site = Site::new("127.2.30.12");
    let first = site.start_until(Moment::Commit, &APPLY);
    for of_kind in [Signal::INT, Signal::TERM, Signal::HUP] {
        let child = site.start(&[&APPLY_WITH_EVENTS[..], &["--lock-timeout", "60s"]].concat());
        thread::sleep(MOMENT);
        signal(child.id(), of_kind);
        let event = last_event(&end_at_once(child).expect(130));
        assert_eq!(event["message"], "interrupted: nothing was changed");
    }
    site.release(Moment::Commit);
    end_of(first).expect(0);
    site.scenario.expect_nothing_to_do();
}

/// A pipe that takes nothing more, and that nobody reads.
fn full_pipe() -> (io::PipeReader, PipeWriter) {
    let (reader, mut writer) = io::pipe().expect("a pipe");
    let flags = fcntl_getfl(&writer).expect("a pipe");
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("a pipe");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    fcntl_setfl(&writer, flags).expect("a pipe");
    (reader, writer)
}

#[test]
fn signal_ends_a_run_whose_words_nobody_reads() {
    let site = Site::new("127.2.30.13");
    let (_reader, writer) = full_pipe();
    let mut command = site.scenario.command(&APPLY);
    let mut child = command
        .stderr(writer)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    thread::sleep(Duration::from_secs(1));
    assert_eq!(child.try_wait().expect("our child"), None);
    signal(child.id(), Signal::INT);
    end_at_once(child).expect(130);
    assert_eq!(site.exit_in_log().as_deref(), Some("130"));
    site.expect_recovery();
}

#[test]
fn signal_after_the_changes_does_not_say_that_nothing_was_changed() {
    let site = Site::new("127.2.30.14");
    site.scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    let (_reader, writer) = full_pipe();
    let mut command = site.scenario.command(&["apply", "plan.json"]);
    let child = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    wait_until(|| site.text_on_host() == "new\n");
    thread::sleep(Duration::from_secs(1));
    signal(child.id(), Signal::INT);
    let output = end_at_once(child).expect(130);
    assert!(!output.stderr.contains("nothing was changed"), "{output}");
    output.expect_stderr(&["what was done is in the state"]);
    site.scenario.expect_nothing_to_do();
}

// --- terminals ---------------------------------------------------------------------------------------

/// Runs a command line in a terminal of its own, made by `script` of util-linux.
fn in_terminal(site: &Site, command_line: &str) -> Child {
    let mut script = Command::new("script");
    script.args(["-qec", command_line, "/dev/null"]);
    site.scenario.at_home(&mut script);
    script
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    script.spawn().unwrap_or_else(|error| {
        panic!("script: {error}; install it with `apt-get install bsdutils`")
    })
}

fn program() -> String {
    format!("'{}'", hostsync_testkit::program())
}

/// What is at the other end of the terminal is gone, with all that it would have shown.
fn close(mut terminal: Child) {
    terminal.kill().expect("our child");
    terminal.wait().expect("our child");
}

/// Reads until the question is there.
fn wait_for_question(terminal: &mut Child) {
    let stdout = terminal.stdout.as_mut().expect("it is piped");
    let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
    while !String::from_utf8_lossy(&shown).contains("Only 'yes' is accepted: ") {
        let count = stdout.read(&mut buffer).expect("a pipe");
        assert!(count > 0, "it did not ask");
        shown.extend_from_slice(&buffer[..count]);
    }
}

#[test]
fn terminal_that_is_closed_during_the_commit_lets_it_come_to_its_end() {
    let site = Site::new("127.2.30.15");
    site.hold(Moment::Commit);
    let terminal = in_terminal(&site, &format!("exec {} apply --auto-approve", program()));
    site.wait_until_held(Moment::Commit);
    close(terminal);
    thread::sleep(MOMENT);
    site.release(Moment::Commit);
    wait_until(|| site.exit_in_log().as_deref() == Some("130"));
    assert_eq!(site.text_on_host(), "new\n");
    site.scenario.expect_nothing_to_do();
    site.expect_clean();
}

#[test]
fn terminal_that_is_closed_during_the_upload_changes_nothing() {
    let site = Site::new("127.2.30.16");
    site.hold(Moment::Upload);
    let terminal = in_terminal(
        &site,
        &format!("exec {} apply --auto-approve -v", program()),
    );
    site.wait_until_held(Moment::Upload);
    close(terminal);
    thread::sleep(MOMENT);
    site.release(Moment::Upload);
    wait_until(|| site.exit_in_log().as_deref() == Some("130"));
    assert_eq!(site.text_on_host(), "old\n");
    site.expect_clean();
    site.expect_recovery();
}

#[test]
fn terminal_that_goes_without_a_word_costs_only_what_would_have_been_shown() {
    let site = Site::new("127.2.30.17");
    site.hold(Moment::Commit);
    // The shell gets the signal, and what it runs does not.
    let line = format!(
        "trap : HUP; {} apply --auto-approve; echo $? >code",
        program()
    );
    let terminal = in_terminal(&site, &line);
    site.wait_until_held(Moment::Commit);
    close(terminal);
    thread::sleep(MOMENT);
    site.release(Moment::Commit);
    let code = site.scenario.path("code");
    wait_until(|| fs::read_to_string(&code).is_ok_and(|code| code.ends_with('\n')));
    // The report is lost.
    assert_eq!(fs::read_to_string(&code).expect("it is there"), "1\n");
    assert_eq!(site.text_on_host(), "new\n");
    site.scenario.expect_nothing_to_do();
}

#[test]
fn terminal_that_is_closed_at_the_question_changes_nothing() {
    let site = Site::new("127.2.30.18");
    let mut terminal = in_terminal(&site, &format!("exec {} apply", program()));
    wait_for_question(&mut terminal);
    close(terminal);
    wait_until(|| site.exit_in_log().is_some());
    assert_eq!(site.exit_in_log().as_deref(), Some("130"));
    assert_eq!(site.text_on_host(), "old\n");
    site.expect_recovery();
}

#[test]
fn signal_at_the_question_changes_nothing() {
    let site = Site::new("127.2.30.19");
    for of_kind in [Signal::TERM, Signal::HUP] {
        let mut terminal = in_terminal(&site, &format!("exec {} apply", program()));
        wait_for_question(&mut terminal);
        let script = terminal.id();
        let children = fs::read_to_string(format!("/proc/{script}/task/{script}/children"));
        let asked = children.expect("Linux").trim().parse().expect("one child");
        signal(asked, of_kind);
        let output = end_at_once(terminal).expect(130);
        output.expect_stdout(&["interrupted: nothing was changed"]);
        assert_eq!(site.text_on_host(), "old\n");
    }
    site.expect_recovery();
}

// --- laptops and hosts that sleep --------------------------------------------------------------------

#[test]
fn program_that_sleeps_for_longer_than_its_time_outs_goes_on() {
    for (address, moment) in [
        ("127.2.30.20", Moment::Upload),
        ("127.2.30.21", Moment::Commit),
    ] {
        let site = Site::new(address);
        site.scenario.settings(&["stall_timeout = 2s"]);
        let child = site.start_until(moment, &APPLY);
        signal(child.id(), Signal::STOP);
        site.release(moment);
        thread::sleep(Duration::from_millis(2800));
        signal(child.id(), Signal::CONT);
        end_of(child).expect(0);
        assert_eq!(site.text_on_host(), "new\n");
        site.scenario.expect_nothing_to_do();
        site.expect_clean();
    }
}

#[test]
fn program_that_sleeps_until_its_host_gives_it_up_logs_in_again_or_says_so() {
    for (address, moment) in [
        ("127.2.30.22", Moment::Upload),
        ("127.2.30.23", Moment::Commit),
    ] {
        let patience = ["ClientAliveInterval 1", "ClientAliveCountMax 1"];
        let site = Site::with_sshd(address, &patience);
        let child = site.start_until(moment, &APPLY);
        signal(child.id(), Signal::STOP);
        wait_until(|| site.host.log().contains("Timeout, client not responding"));
        site.release(moment);
        thread::sleep(MOMENT);
        signal(child.id(), Signal::CONT);
        let output = end_of(child);
        // What was begun came to its end without us. What was not can be begun again.
        assert_eq!(site.text_on_host(), "new\n");
        site.expect_clean();
        if moment == Moment::Commit {
            let said = [
                address,
                "the connection broke",
                "run the same command again",
            ];
            output.expect(3).expect_stdout(&said);
        } else {
            output.expect(0);
        }
        site.expect_recovery();
    }
}

#[test]
fn session_that_sleeps_on_its_host_is_given_up_and_the_next_run_recovers() {
    for (address, moment) in [
        ("127.2.30.24", Moment::Upload),
        ("127.2.30.25", Moment::Commit),
    ] {
        let site = Site::new(address);
        site.scenario.settings(&["stall_timeout = 2s"]);
        let child = site.start_until(moment, &APPLY);
        site.host.freeze_connections();
        let started = Instant::now();
        let output = end_of(child).expect(3);
        assert!(started.elapsed() < Duration::from_secs(10));
        output.expect_stdout(&[address, "stall_timeout"]);
        site.host.thaw_connections();
        site.release(moment);
        site.expect_recovery();
    }
}

#[test]
fn clock_of_the_host_that_is_set_during_a_long_commit_costs_no_sign_of_life() {
    let site = Site::new("127.2.30.26");
    site.scenario.settings(&["stall_timeout = 2s"]);
    let child = site.start_until(Moment::Commit, &APPLY);
    fs::write(site.host.private_dir().join("clock-is-set"), "").expect("our folder");
    thread::sleep(Duration::from_secs(4));
    site.release(Moment::Commit);
    end_of(child).expect(0);
    site.scenario.expect_nothing_to_do();
}
