#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::time::Duration;

use super::*;
use crate::apply::{HostReport, HostResult, Refused};
use crate::model::{HostId, RelPath};
use crate::view::review::report::summary_line;

fn host(name: &str, result: HostResult, changed: usize) -> HostReport {
    HostReport {
        host: HostId::new(name),
        result,
        changed,
        adopted: 0,
        refused: Vec::new(),
        skipped: 0,
        spared: 0,
        sent_bytes: changed as u64 * 1024,
        keeps_part: false,
        elapsed: Duration::from_secs(1),
    }
}

fn refused(n: usize) -> Refused {
    Refused {
        mapping: 0,
        path: RelPath::root(),
        dest: format!("/x{n}"),
        reason: "moved".to_owned(),
        moved: true,
    }
}

fn report(hosts: Vec<HostReport>) -> Report {
    Report {
        serial: Some(7),
        hosts,
        back_to: None,
        interrupted: false,
        elapsed: Duration::from_millis(2140),
    }
}

fn shown(report: &Report) -> String {
    let options = ReportView {
        full: false,
        width: 80,
        color: false,
        automation: false,
        config: None,
        again: Again::planning("apply"),
    };
    render(report, &options)
}

#[test]
fn equal_results_share_a_line_and_failures_stand_last() {
    let mut refusing = host("db1", HostResult::Done, 2);
    refusing.refused.push(Refused {
        mapping: 0,
        path: RelPath::new("x").unwrap(),
        dest: "/srv/app/x".to_owned(),
        reason: "changed meanwhile".to_owned(),
        moved: false,
    });
    let report = report(vec![
        host("web9", HostResult::Failed("no space left\nmore".into()), 1),
        host("web1", HostResult::Done, 5),
        host("web2", HostResult::Done, 5),
        refusing,
        host("web4", HostResult::Unchanged, 0),
        host("web5", HostResult::Unreachable("login refused".into()), 0),
        host("web6", HostResult::Conflicts(2), 0),
    ]);
    assert_eq!(
            shown(&report),
            "\
web4: nothing to do
web[1-2] (2 hosts): 5 changes each, 10.0 KiB sent in all
db1: 2 changes, 1 entry refused, 2.0 KiB sent
  ! /srv/app/x  changed meanwhile
web6: left alone: 2 conflicts
web5: unreachable: login refused
web9: failed: no space left (after 1 change), 1.0 KiB sent

To decide about conflicts, on a terminal (it asks) or with `--on-conflict`:
  hostsync apply --limit web6

When the cause is gone, do these hosts again:
  hostsync apply --limit web9 --limit db1 --limit web5

Applied: 13 changes on 4 hosts in 2.1 s (13.0 KiB sent), serial 7; 1 entry refused; 1 host with conflicts left alone; 1 host unreachable; 1 host failed.
"
        );
}

#[test]
fn success_ends_in_the_line_people_search_for() {
    let report = report(vec![host("a", HostResult::Done, 15)]);
    assert_eq!(
        shown(&report),
        "a: 15 changes, 15.0 KiB sent\n\n\
             Applied: 15 changes on 1 host in 2.1 s (15.0 KiB sent), serial 7.\n"
    );
}

#[test]
fn interrupted_hosts_only_have_to_be_gone_on_with() {
    let mut report = report(vec![
        host("a", HostResult::NotBegun, 0),
        HostReport {
            sent_bytes: 5 * 1024,
            keeps_part: true,
            ..host("b", HostResult::Interrupted, 0)
        },
    ]);
    report.serial = None;
    report.interrupted = true;
    assert_eq!(
        shown(&report),
        "\
a: not begun
b: interrupted before anything was put in place, 5.0 KiB sent

What arrived of large files stays on the host; the next apply goes on with it.

To go on:
  hostsync apply --limit a --limit b

Nothing applied: 0 changes on 0 hosts in 2.1 s (5.0 KiB sent); 1 host not begun; 1 host interrupted.
"
    );
}

#[test]
fn summary_of_an_apply_that_did_nothing_does_not_read_as_success() {
    let start_of = |host: HostReport| {
        let line = summary_line(&report(vec![host]));
        line.split_once(':').unwrap().0.to_owned()
    };
    let failed = || HostResult::Failed("x".into());
    for result in [
        failed(),
        HostResult::Unreachable("x".into()),
        HostResult::Stale("x".to_owned()),
        HostResult::Conflicts(1),
    ] {
        assert_eq!(start_of(host("a", result, 0)), "Nothing applied");
    }
    let refusing = HostReport {
        refused: vec![refused(0)],
        ..host("a", HostResult::Done, 0)
    };
    assert_eq!(start_of(refusing), "Nothing applied");
    assert_eq!(start_of(host("a", failed(), 1)), "Applied");
    assert_eq!(start_of(host("a", HostResult::Unchanged, 0)), "Applied");
}

#[test]
fn command_to_be_copied_names_the_configuration_as_a_shell_reads_it() {
    let command_with = |config: &str| {
        let options = ReportView {
            full: false,
            width: 80,
            color: false,
            automation: false,
            config: Some(config.to_owned()),
            again: Again::planning("apply"),
        };
        let failed = host("a", HostResult::Failed("x".into()), 0);
        let text = render(&report(vec![failed]), &options);
        let line = text.lines().find(|line| line.starts_with("  hostsync"));
        line.unwrap().trim().to_owned()
    };
    for (config, word) in [
        ("/srv/infra/config.ini", "/srv/infra/config.ini"),
        ("my sites/c.ini", "'my sites/c.ini'"),
        ("it's/$HOME.ini", r"'it'\''s/$HOME.ini'"),
        ("~/literally", "'~/literally'"),
        ("a\nb\u{1b}[2J", "PATH"),
    ] {
        assert_eq!(
            command_with(config),
            format!("hostsync --config {word} apply --limit a")
        );
    }
}

#[test]
fn command_to_pick_hosts_again_holds_only_harmless_names() {
    let failed = |name: &str| host(name, HostResult::Failed("x".into()), 0);
    let text = shown(&report(vec![failed("$(reboot)\u{1b}[1m")]));
    assert!(!text.contains("--limit $"), "{text}");
    assert!(text.contains("--limit PATTERN"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let many = (0..21).map(|n| failed(&format!("h{n}"))).collect();
    assert!(shown(&report(many)).contains("--limit PATTERN"));
}

#[test]
fn many_refused_entries_are_folded() {
    let mut host = host("a", HostResult::Done, 0);
    host.refused = (0..30).map(refused).collect();
    let report = report(vec![host]);
    assert!(shown(&report).contains("… and 10 more; --full shows them"));
}
