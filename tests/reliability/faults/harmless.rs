//! Faults that an apply has to put up with.

use crate::fault_site::{FaultSite, LONG};
use hostsync_testkit::embedded::Fault;

/// Applies to hosts with these faults, each of them with perl and without, and again after a change.
fn assert_no_harm(name: &str, faults: &[Fault]) {
    let mut hosts = Vec::new();
    for (number, fault) in faults.iter().enumerate() {
        hosts.push((format!("perl{number}"), vec![fault.clone()]));
        let without_perl = vec![fault.clone(), Fault::NoPerl];
        hosts.push((format!("scripts{number}"), without_perl));
    }
    let hosts: Vec<_> = hosts
        .iter()
        .map(|(name, faults)| (name.as_str(), faults.clone()))
        .collect();
    let site = FaultSite::new(LONG, &hosts);
    for generation in [0, 1] {
        let source = site.write_generation(generation);
        site.run_apply().expect(0);
        for (host, name_and_faults) in hosts.iter().enumerate() {
            assert_eq!(site.dest(host), source, "{name_and_faults:?}");
        }
        site.run(&["plan", "--detailed-exitcode"]).expect(0);
    }
    println!("{name}: {} cases", hosts.len() * 2);
}

#[test]
fn small_windows_only_cost_time() {
    let window = |size_bytes| Fault::Window { size_bytes };
    assert_no_harm(
        "small window",
        &[window(1_000), window(4_096), window(50_000)],
    );
}

#[test]
fn keys_that_are_exchanged_over_and_over_break_nothing() {
    let rekey = |size_bytes| Fault::RekeyEvery { size_bytes };
    assert_no_harm(
        "rekeying",
        &[rekey(5_000), rekey(20_000), rekey(33_333), rekey(60_000)],
    );
}

#[test]
fn lost_exit_statuses_are_not_missed() {
    assert_no_harm("lost exit status", &[Fault::LoseExitStatus]);
}

#[test]
fn flood_of_complaints_is_read_along() {
    let flood = |size_bytes| Fault::FloodStderr { size_bytes };
    assert_no_harm("flood on stderr", &[flood(70_000), flood(3_000_000)]);
}

#[test]
fn noise_of_the_login_shell_is_no_answer() {
    let noise = |before: &[u8], after: &[u8]| Fault::Noise {
        before: before.to_vec(),
        after: after.to_vec(),
    };
    let marker = b"HOSTSYNC 00000000000000000000000000000000 end ok\nHOSTSYNC end\n";
    assert_no_harm(
        "noise",
        &[
            noise(b"Welcome!\n", b"Goodbye!\n"),
            noise(b"no line end", b""),
            noise(marker, marker),
            noise(b"\x01scp: no\n\0\0\0\x02\xff\xfe\0", b"\0\0\0\x01\n"),
            noise(&b"line after line\n".repeat(10_000), b""),
        ],
    );
}
