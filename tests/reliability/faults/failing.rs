//! Faults that end the work on a host. It says which and why, in time; the other hosts are done.

use std::fs::File;
use std::time::{Duration, UNIX_EPOCH};

use hostsync::config::Host;
use hostsync::plan::HostStatus;
use hostsync::transport::{
    Aborted, Connector, ExecIo, ExecOutcome, Flow, Input, Session, TransportError,
};

use crate::fault_site::{FaultSite, LONG, Output, SHORT};
use crate::tree::Contents;
use hostsync_testkit::embedded::{Direction, Fault, Moment, Pace, Stream, Then};

/// Longest time for one run, in which hosts are worked on at once: login and command may each wait for
/// their time-out, and this machine may be busy.
const BOUND: Duration = Duration::from_mins(1);

/// Hosts that have a fault, between two that are well.
struct Fleet {
    site: FaultSite,
    names: Vec<String>,
    /// The hosts that have a fault.
    with_fault: Vec<usize>,
}

impl Fleet {
    /// Hosts with these faults between two without.
    fn new(faults: &[Vec<Fault>]) -> Self {
        let all = [vec![Vec::new()], faults.to_vec(), vec![Vec::new()]].concat();
        let names: Vec<String> = (0..all.len()).map(|number| format!("h{number}")).collect();
        let hosts: Vec<(&str, Vec<Fault>)> = names.iter().map(String::as_str).zip(all).collect();
        let site = FaultSite::new(SHORT, &hosts);
        let with_fault = (1..=faults.len()).collect();
        Self {
            site,
            names,
            with_fault,
        }
    }

    /// Each of these faults, on a host with perl and on one without.
    fn with_and_without_perl(faults: &[Fault]) -> Self {
        let both = |fault: &Fault| [vec![fault.clone()], vec![fault.clone(), Fault::NoPerl]];
        Self::new(&faults.iter().flat_map(both).collect::<Vec<_>>())
    }

    /// Applies: exit 3, in time, the hosts that are well are done, and each of the others is as it was
    /// and is named with this reason.
    #[track_caller]
    fn assert_only_faulty_ones_fail(&self, reason: &str) {
        let before: Vec<Contents> = (0..self.names.len()).map(|it| self.site.dest(it)).collect();
        let source = self.site.source();
        let output = self.site.run_apply().expect(3);
        assert!(output.elapsed < BOUND, "{:?}", output.elapsed);
        for (host, name) in self.names.iter().enumerate() {
            if self.with_fault.contains(&host) {
                assert_eq!(self.site.dest(host), before[host], "{name}");
                assert_names_reason(&output, name, reason);
            } else {
                assert_eq!(self.site.dest(host), source, "{name}");
            }
        }
    }

    /// Takes the faults away: one more run does all that is left.
    #[track_caller]
    fn assert_repaired_ones_converge(&self, name: &str) {
        self.site.repair();
        self.site.run_apply().expect(0);
        let source = self.site.source();
        for host in 0..self.names.len() {
            assert_eq!(self.site.dest(host), source, "{}", self.names[host]);
        }
        self.site.run(&["plan", "--detailed-exitcode"]).expect(0);
        println!("{name}: {} cases", self.with_fault.len());
    }
}

/// Fails unless there is a line that says that a host failed, and why.
#[track_caller]
fn assert_names_reason(output: &Output, host: &str, reason: &str) {
    let failed = format!(" {host}: failed: ");
    let mut lines = output.text.lines();
    let is_named = lines.any(|line| line.contains(&failed) && line.contains(reason));
    assert!(is_named, "{host}, {reason}: {}", output.text);
}

#[test]
fn host_that_hangs_before_its_greeting_ends_within_connect_timeout() {
    let fleet = Fleet::new(&[vec![Fault::HangAt(Moment::Greeting)]]);
    fleet.assert_only_faulty_ones_fail("connect_timeout");
    fleet.assert_repaired_ones_converge("hang before the greeting");
}

#[test]
fn host_that_greets_with_junk_ends_within_connect_timeout() {
    let fleet = Fleet::new(&[vec![Fault::JunkGreeting(Pace::Drip)]]);
    fleet.assert_only_faulty_ones_fail("connect_timeout");
    fleet.assert_repaired_ones_converge("junk for a greeting, now and then");
}

#[test]
fn host_that_greets_with_a_flood_is_left() {
    let fleet = Fleet::new(&[vec![Fault::JunkGreeting(Pace::Flood)]]);
    fleet.assert_only_faulty_ones_fail("it does not speak SSH");
    fleet.assert_repaired_ones_converge("flood for a greeting");
}

/// Logs in as another connector does, and gives commands less time.
struct Hurried<C>(C);

impl<C: Connector> Connector for Hurried<C> {
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError> {
        Ok(Box::new(HurriedSession(self.0.connect(host)?)))
    }
}

struct HurriedSession(Box<dyn Session>);

impl Session for HurriedSession {
    fn exec(&mut self, command: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        self.0.exec(command, &mut HurriedIo(io))
    }

    fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        self.0.resume(&mut HurriedIo(io))
    }

    fn close(self: Box<Self>) {
        self.0.close();
    }
}

struct HurriedIo<'a>(&'a mut dyn ExecIo);

impl ExecIo for HurriedIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        self.0.next_input(buffer)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.0.output(bytes)
    }

    fn sent(&mut self, bytes: usize) {
        self.0.sent(bytes);
    }

    fn time_limit(&self) -> Option<Duration> {
        let limit = self.0.time_limit().expect("every task has a limit");
        assert!(
            limit >= Duration::from_mins(10),
            "{limit:?} may be too little"
        );
        Some(limit / 100)
    }
}

#[test]
fn host_that_only_keeps_the_connection_busy_ends_at_the_limit_of_its_task() {
    let drips = [Stream::Output, Stream::Errors].map(Fault::Drip);
    let fleet = Fleet::with_and_without_perl(&drips);
    // A stall would take longer.
    fleet.site.write_settings(LONG, 5);
    let prepared = fleet.site.plan_over(&Hurried(fleet.site.connector()));
    for (host, plan) in prepared.plan.hosts.iter().enumerate() {
        match &plan.status {
            HostStatus::Ok => assert!(!fleet.with_fault.contains(&host)),
            HostStatus::Unreachable(error) | HostStatus::Failed(error) => {
                assert!(fleet.with_fault.contains(&host), "{error}");
                assert!(
                    error.to_string().contains("does not come to its end"),
                    "{error}"
                );
            }
        }
    }
    fleet.assert_repaired_ones_converge("drips without end");
}

#[test]
fn host_that_answers_without_end_is_left() {
    let lines = [
        "81a4 1 1.0 - - 1.0 - - 7 1 1 64 /somewhere",
        "this is no line of stat",
        "HOSTSYNC NONCE stat",
        "HOSTSYNC NONCE sums",
    ];
    let endless = lines.map(|line| {
        let line = line.to_owned();
        vec![Fault::EndlessAnswer { line }]
    });
    let fleet = Fleet::new(&endless);
    fleet.assert_only_faulty_ones_fail("the host's answer is far longer than any answer");
    fleet.assert_repaired_ones_converge("answers without end");
}

#[test]
fn host_that_a_run_waits_for_is_named_in_every_form_of_output() {
    let fleet = Fleet::new(&[vec![Fault::HangAt(Moment::Command)]]);
    // Longer than it takes to be named.
    fleet.site.write_settings(3 * SHORT, 5);
    let args = [
        "apply",
        "--auto-approve",
        "--format",
        "json",
        "--progress",
        "plain",
    ];
    let output = fleet.site.run(&args).expect(3);
    let line = "waiting for h1 (comparing, silent for ";
    assert!(output.text.contains(line), "{}", output.text);
    let line = r#""type":"host_waiting","host":"h1","phase":"looking","silent_ms":1"#;
    assert!(output.text.contains(line), "{}", output.text);
    for other in ["h0", "h2"] {
        assert!(
            !output.text.contains(&format!("waiting for {other}")),
            "{}",
            output.text
        );
    }
    fleet.assert_repaired_ones_converge("named while it is waited for");
}

#[test]
fn login_that_hangs_ends_within_login_timeout() {
    let fleet = Fleet::new(&[vec![Fault::HangAt(Moment::Login)]]);
    fleet.assert_only_faulty_ones_fail("login_timeout");
    fleet.assert_repaired_ones_converge("hang at login");
}

#[test]
fn session_that_hangs_ends_within_stall_timeout() {
    let hangs = [Moment::Channel, Moment::Command].map(|moment| vec![Fault::HangAt(moment)]);
    let fleet = Fleet::new(&hangs);
    fleet.assert_only_faulty_ones_fail("stall_timeout");
    fleet.assert_repaired_ones_converge("hang at a command");
}

#[test]
fn login_shell_that_prints_without_end_is_left() {
    let fleet = Fleet::with_and_without_perl(&[Fault::EndlessNoise]);
    fleet.assert_only_faulty_ones_fail("the login shell prints without end");
    fleet.assert_repaired_ones_converge("noise without end");
}

#[test]
fn command_that_complains_without_end_is_left() {
    let flood = Fault::FloodStderr {
        size_bytes: u64::MAX,
    };
    let fleet = Fleet::with_and_without_perl(&[flood]);
    fleet.assert_only_faulty_ones_fail("standard error");
    fleet.assert_repaired_ones_converge("flood on stderr without end");
}

#[test]
fn hash_tool_that_lies_puts_nothing_in_place() {
    let fleet = Fleet::with_and_without_perl(&[Fault::WrongHash]);
    fleet.assert_only_faulty_ones_fail("what arrived is not what was sent");
    fleet.assert_repaired_ones_converge("wrong hash of what arrived");
}

#[test]
fn hash_tool_that_lies_about_what_is_in_place_gets_nothing_overwritten() {
    let hosts = [("perl", Vec::new()), ("scripts", vec![Fault::NoPerl])];
    let site = FaultSite::new(SHORT, &hosts);
    site.run_apply().expect(0);
    let before = [0, 1].map(|host| site.dest(host));
    for (host, (_, faults)) in site.hosts.iter().zip(&hosts) {
        let file = File::open(host.home().join("dest/stays.txt")).unwrap();
        file.set_modified(UNIX_EPOCH).unwrap();
        host.set_faults([vec![Fault::WrongHash], faults.clone()].concat());
    }
    let output = site.run_apply().expect(4);
    assert!(output.text.contains("stays.txt"), "{}", output.text);
    assert_eq!([0, 1].map(|host| site.dest(host)), before);
    site.repair();
    site.run_apply().expect(0);
    site.run(&["plan", "--detailed-exitcode"]).expect(0);
    println!("wrong hash of what is in place: {} cases", hosts.len());
}

#[test]
fn lost_acknowledgement_puts_nothing_in_place() {
    let lost: Vec<Fault> = [0, 1, 5, 11, 14]
        .into_iter()
        .map(|number| Fault::DropAck { number })
        .collect();
    let fleet = Fleet::with_and_without_perl(&lost);
    fleet.assert_only_faulty_ones_fail("the host confirmed the upload only in part");
    fleet.assert_repaired_ones_converge("lost acknowledgement");
}

#[test]
fn session_that_stalls_with_its_socket_open_ends_in_time() {
    const POSITIONS: u64 = 8;
    let names: Vec<String> = (0..2 * POSITIONS + 2)
        .map(|number| format!("h{number}"))
        .collect();
    let hosts: Vec<_> = names
        .iter()
        .map(|name| (name.as_str(), Vec::new()))
        .collect();
    let site = FaultSite::new(SHORT, &hosts);
    site.run_apply().expect(0);
    // How long the streams of the second apply are, two hosts tell in advance.
    let old = site.dest(0);
    let new = site.write_generation(1);
    let lengths = [(0, Direction::ToHost), (1, Direction::ToClient)].map(|(host, direction)| {
        site.hosts[host].set_faults(Vec::new());
        site.run(&["apply", "--auto-approve", "--limit", &names[host]])
            .expect(0);
        site.hosts[host].passed_bytes(direction)
    });
    for (number, host) in (0..).zip(&site.hosts[2..]) {
        let (direction, length) = match number % 2 {
            0 => (Direction::ToHost, lengths[0]),
            _ => (Direction::ToClient, lengths[1]),
        };
        host.set_faults(vec![Fault::Stall {
            direction,
            after_bytes: length * (number / 2) / POSITIONS,
            then: Then::Gone,
        }]);
    }
    let output = site.run_apply().expect(3);
    assert!(output.elapsed < BOUND, "{:?}", output.elapsed);
    for (index, host) in site.hosts.iter().enumerate().skip(2) {
        let name = &names[index];
        assert!(host.has_failed(), "{name}");
        assert_names_reason(&output, name, "_timeout` in the configuration");
        site.dest(index).assert_old_or_new(&old, &new, name);
    }
    site.repair();
    site.wait_until_idle();
    site.run_apply().expect(0);
    for (index, name) in names.iter().enumerate() {
        assert_eq!(site.dest(index), new, "{name}");
    }
    site.run(&["plan", "--detailed-exitcode"]).expect(0);
    println!("stall: {} cases", 2 * POSITIONS);
}
