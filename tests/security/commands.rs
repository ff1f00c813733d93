//! Hosts that never come to an end.

use std::time::{Duration, Instant};

use hostsync_testkit::scenario::Scenario;
use hostsync_testkit::{Sshd, SshdOptions};

/// Plans for a host that runs this whatever it is told to run.
fn plan_for_a_host_that_runs(address: &str, command: &str) {
    let host = Sshd::start_with(
        address,
        &SshdOptions {
            config: vec![format!("ForceCommand {command}")],
            ..SshdOptions::default()
        },
    );
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let started = Instant::now();
    scenario
        .run(&["plan"])
        .expect(3)
        .expect_stdout(&["prints without end"]);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn host_that_prints_without_end_is_given_up() {
    plan_for_a_host_that_runs("127.2.12.1", "yes noise");
}

#[test]
fn host_that_complains_without_end_is_given_up() {
    plan_for_a_host_that_runs("127.2.12.2", "yes noise >&2");
}
