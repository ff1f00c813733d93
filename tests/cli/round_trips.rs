//! How often a host is bothered.

use std::fs;

use crate::scenario::{Scenario, write_on};
use crate::support::{Host, Sshd};

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
fn run_that_changes_nothing_is_one_connection_and_one_command() {
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
    let first = Bother::by(&host, || _ = scenario.apply());
    assert_eq!((first.connections, first.commands), (2, 3));
    assert_eq!(Bother::by(&host, || scenario.expect_nothing_to_do()), ONCE);
    assert_eq!(last_listing(&scenario), "Same");
    assert_eq!(Bother::by(&host, || _ = scenario.apply()), ONCE);

    scenario.write("src/0/0", "edited\n");
    let edit = Bother::by(&host, || _ = scenario.apply());
    assert_eq!((edit.connections, edit.commands), (2, 3));
    scenario.expect_nothing_to_do();
    assert_eq!(last_listing(&scenario), "Same");
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
    let listing = lineage.join(&host.address).join("listing");
    let text = fs::read_to_string(&listing).expect("it is there");
    write_on(&host, "dest/b", "by hand\n");
    fs::write(&listing, text.replace("dest/b", "dest/a")).expect("root may");
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
