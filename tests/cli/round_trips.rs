//! How often a host is bothered.

use std::fs;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use hostsync_testkit::copied::assert_same;
use hostsync_testkit::scenario::{Scenario, chmod, write_on};
use hostsync_testkit::{Host, Sshd, SshdOptions};

/// How many connections a host has had, and how many commands it was asked to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bother {
    connections: usize,
    commands: usize,
}

impl Bother {
    fn so_far(host: &Host) -> Self {
        let log = host.log();
        let lines = |start: &str| log.lines().filter(|line| line.starts_with(start)).count();
        Self {
            connections: lines("Connection from "),
            commands: lines("Starting session: "),
        }
    }

    /// What `work` adds.
    fn by(host: &Host, work: impl FnOnce()) -> Self {
        let before = Self::so_far(host);
        work();
        let after = Self::so_far(host);
        Self {
            connections: after.connections - before.connections,
            commands: after.commands - before.commands,
        }
    }
}

const ONCE: Bother = Bother {
    connections: 1,
    commands: 1,
};

/// What the last look at the hosts found out about the listing, by the log.
fn last_listing(scenario: &Scenario) -> String {
    let log = fs::read_to_string(scenario.path("logs/hostsync.log")).expect("it is there");
    log.split_whitespace()
        .filter_map(|word| word.strip_prefix("listing="))
        .next_back()
        .expect("a host was looked at")
        .to_owned()
}

#[test]
fn any_run_is_one_connection_and_one_command() {
    let host = Sshd::start("127.2.8.1");
    let scenario = Scenario::of_folder(&host);
    for index in 0..300 {
        scenario.write(&format!("src/{}/{index}", index % 20), "text\n");
    }
    assert_eq!(
        Bother::by(&host, || _ = scenario.run(&["plan"]).expect(0)),
        ONCE
    );
    // The number of round trips does not grow with the number of files.
    assert_eq!(Bother::by(&host, || _ = scenario.apply()), ONCE);
    assert_eq!(Bother::by(&host, || scenario.expect_nothing_to_do()), ONCE);
    assert_eq!(last_listing(&scenario), "Same");
    assert_eq!(Bother::by(&host, || _ = scenario.apply()), ONCE);

    scenario.write("src/0/0", "edited\n");
    assert_eq!(Bother::by(&host, || _ = scenario.apply()), ONCE);
    scenario.expect_nothing_to_do();
    assert_eq!(last_listing(&scenario), "Same");
    // Nothing to be sent.
    scenario.chmod("src/0/0", 0o600);
    assert_eq!(Bother::by(&host, || _ = scenario.apply()), ONCE);
    scenario.expect_nothing_to_do();
}

#[test]
fn host_without_perl_is_asked_three_times_in_one_connection() {
    let commands = tempfile::tempdir().expect("a temporary folder");
    let perl = commands.path().join("perl");
    fs::write(&perl, "#!/bin/sh\nexit 1\n").expect("our folder");
    chmod(&perl, 0o755);
    chmod(commands.path(), 0o755);
    let options = SshdOptions {
        path: Some(format!("{}:/usr/bin:/bin", commands.path().display())),
        ..SshdOptions::default()
    };
    let host = Sshd::start_with("127.2.8.5", &options);
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    let apply = Bother::by(&host, || _ = scenario.apply());
    assert_eq!((apply.connections, apply.commands), (1, 3));
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
}

#[test]
fn conflict_is_found_in_one_connection() {
    let host = Sshd::start("127.2.8.6");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    write_on(&host, "dest/a", "theirs\n");
    let apply = || _ = scenario.run(&["apply", "--auto-approve"]).expect(4);
    assert_eq!(Bother::by(&host, apply), ONCE);
}

#[test]
fn fleet_larger_than_the_number_of_connections_is_logged_in_to_again() {
    let hosts = ["127.2.8.11", "127.2.8.12", "127.2.8.13"].map(Sshd::start);
    let hosts = hosts.each_ref().map(|host| &**host);
    let scenario = Scenario::with(&hosts, &json!([{ "src": "src", "dest": "~/dest" }]));
    scenario.settings(&["number_of_connections = 1"]);
    scenario.write("src/a", "text\n");
    let connections = |host| Bother::so_far(host).connections;
    let before = hosts.map(connections);
    scenario.apply();
    // The login that was used last is kept.
    let after = hosts.map(connections);
    assert_eq!([0, 1, 2].map(|host| after[host] - before[host]), [2, 2, 1]);
    for host in hosts {
        assert_same(&scenario.path("src"), &host.dir().join("dest"));
    }
    scenario.expect_nothing_to_do();
}

/// Applies to two hosts, and cuts the connection of the first one while the second one is still being
/// looked at.
fn apply_with_a_cut(scenario: &Scenario, cut: &Host) -> Bother {
    Bother::by(cut, || {
        let asked_before = Bother::so_far(cut).commands;
        let apply = scenario
            .command(&["apply", "--auto-approve"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let started = Instant::now();
        while Bother::so_far(cut).commands == asked_before {
            assert!(started.elapsed() < Duration::from_secs(20), "it never asks");
            thread::sleep(Duration::from_millis(20));
        }
        // Long enough for the answer, and shorter than the other host takes.
        thread::sleep(Duration::from_millis(1500));
        cut.cut_connections();
        let output = apply.wait_with_output().expect("it ends");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}");
    })
}

#[test]
fn login_that_broke_before_the_apply_is_made_again() {
    let slow = SshdOptions {
        start_file: "sleep 3".to_owned(),
        ..SshdOptions::default()
    };
    let (host, slow) = (
        Sshd::start("127.2.8.7"),
        Sshd::start_with("127.2.8.8", &slow),
    );
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&host, &slow], &mapping);
    scenario.write("src/a", "text\n");
    let twice = Bother {
        connections: 2,
        commands: 2,
    };
    assert_eq!(apply_with_a_cut(&scenario, &host), twice);
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    // With nothing to be sent.
    scenario.chmod("src/a", 0o600);
    assert_eq!(apply_with_a_cut(&scenario, &host), twice);
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
}

#[test]
fn drift_is_found_by_the_listing_in_one_command() {
    let host = Sshd::start("127.2.8.2");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    scenario.write("src/b", "text\n");
    scenario.apply();
    write_on(&host, "dest/b", "by hand\n");
    let mut changes = Vec::new();
    assert_eq!(
        Bother::by(&host, || changes = scenario.changes(&host)),
        ONCE
    );
    assert_eq!(changes, ["update content b drift conflict"]);
    assert_eq!(last_listing(&scenario), "Moved");
}

#[test]
fn listing_that_is_lost_or_forged_costs_a_full_look_and_no_wrong_answer() {
    let host = Sshd::start("127.2.8.3");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    scenario.write("src/b", "text\n");
    scenario.apply();
    let folders = fs::read_dir(host.dir().join(".hostsync")).expect("it is there");
    let lineage = folders.flatten().next().expect("one").path();
    let listing = lineage.join(&host.address).join("listing.agent");
    let mut bytes = fs::read(&listing).expect("it is there");
    write_on(&host, "dest/b", "by hand\n");
    let (name, forged) = (b"dest/b", b"dest/a");
    let at = bytes.windows(name.len()).position(|found| found == name);
    bytes[at.expect("it is listed")..][..forged.len()].copy_from_slice(forged);
    fs::write(&listing, bytes).expect("root may");
    assert_eq!(scenario.changes(&host), ["update content b drift conflict"]);
    assert_eq!(last_listing(&scenario), "Lost");
    fs::remove_file(&listing).expect("root may");
    assert_eq!(scenario.changes(&host), ["update content b drift conflict"]);
}

#[test]
fn refresh_full_asks_for_everything() {
    let host = Sshd::start("127.2.8.4");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    scenario.apply();
    let look = || _ = scenario.run(&["plan", "--refresh", "full"]).expect(0);
    assert_eq!(Bother::by(&host, look), ONCE);
    assert_eq!(last_listing(&scenario), "NotAsked");
}
