#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use super::*;
use crate::model::{Node, RelPath};
use crate::plan::status::{Applied, Drift, HostStanding, MappingStanding};
use crate::plan::{HostPlan, HostStatus, MappingNames};
use crate::view::review::status::summary_line;
use crate::view::samples::{file, host, plan, unreachable};

fn view() -> StatusView {
    StatusView {
        full: false,
        width: 80,
        color: false,
    }
}

fn status(hosts: Vec<(HostPlan, HostStanding)>) -> Status {
    let (plans, hosts) = hosts.into_iter().unzip();
    Status {
        plan: plan(plans),
        hosts,
    }
}

fn shown(hosts: Vec<(HostPlan, HostStanding)>) -> String {
    render(&status(hosts), &view())
}

fn mapping(standing: Standing, drift: Vec<Drift>, to_apply: usize) -> MappingStanding {
    MappingStanding {
        standing,
        drift,
        to_apply,
    }
}

fn agrees() -> MappingStanding {
    mapping(Standing::Agrees, Vec::new(), 0)
}

fn drifted(drift: Vec<Drift>) -> MappingStanding {
    mapping(Standing::Drifted, drift, 1)
}

fn drift(path: &str, recorded: Option<Node>, actual: Option<Node>) -> Drift {
    Drift {
        path: RelPath::new(path).unwrap(),
        recorded,
        actual,
    }
}

fn removed(path: &str) -> Drift {
    drift(path, Some(file(1, 0o644)), None)
}

fn seen(name: &str, mappings: Vec<MappingStanding>) -> (HostPlan, HostStanding) {
    let applied = Some(Applied {
        serial: 7,
        at: "2026-01-02T03:04:05Z".to_owned(),
        is_in_the_middle: false,
    });
    (host(name, Vec::new()), HostStanding { applied, mappings })
}

fn unseen(name: &str, error: &str) -> (HostPlan, HostStanding) {
    let standing = HostStanding {
        applied: None,
        mappings: Vec::new(),
    };
    (unreachable(name, error), standing)
}

#[test]
fn hosts_that_stand_alike_share_a_row_and_drift_stands_below() {
    let link = Node::Symlink {
        target: (*b"x").into(),
    };
    let moved = || {
        vec![
            drift("a", Some(file(1, 0o644)), Some(file(2, 0o644))),
            removed("b"),
            drift("c", Some(file(1, 0o644)), Some(link.clone())),
            drift("d", None, Some(link.clone())),
        ]
    };
    let mut hosts: Vec<_> = (1..=4)
        .map(|n| seen(&format!("web{n}"), vec![agrees(), agrees()]))
        .collect();
    hosts.push(seen("web5", vec![drifted(moved()), agrees()]));
    hosts.push(seen("web6", vec![drifted(moved()), agrees()]));
    hosts.push(seen(
        "db1",
        vec![
            mapping(Standing::Both, vec![removed("x")], 3),
            mapping(Standing::NeverApplied, Vec::new(), 1),
        ],
    ));
    hosts.push(seen(
        "db2",
        vec![mapping(Standing::Behind, Vec::new(), 2), agrees()],
    ));
    hosts[7].1.applied.as_mut().unwrap().is_in_the_middle = true;
    hosts.push(unseen("web7", "login refused\nnot for people"));
    assert_eq!(
            shown(hosts),
            "\
host                /srv/app               /etc/nginx/nginx.conf
web[1-4] (4 hosts)  agrees                 agrees
web[5-6] (2 hosts)  4 drifted              agrees
db1                 1 drifted, 3 to apply  never applied
db2                 2 to apply             agrees

Changed on the hosts since the last apply
  web[5-6] (2 hosts)
    /srv/app/a  changed
    /srv/app/b  removed
    /srv/app/c  replaced by a symlink
    /srv/app/d  appeared
  db1
    /srv/app/x  removed

Last apply
  serial 7, 2026-01-02T03:04:05Z, not finished: db2
  serial 7, 2026-01-02T03:04:05Z: web[1-6], db1 (7 hosts)

Hosts that could not be looked at
  web7 unreachable: login refused

Status: 4 of 9 hosts agree; 3 drifted (9 entries); 2 behind; 1 with a mapping never applied; 1 in the middle of an apply; 1 unreachable.
"
        );
}

/// A host with so many mappings, each of which stands like this.
fn wide(name: &str, number: usize, standing: &MappingStanding) -> (HostPlan, HostStanding) {
    let (mut plan, standing) = seen(name, vec![standing.clone(); number]);
    plan.mappings = (0..number)
        .map(|n| MappingNames {
            src: format!("source{n}"),
            dest: format!("/some/where/far/away/{n}"),
            source: None,
        })
        .collect();
    (plan, standing)
}

#[test]
fn many_mappings_are_numbered_then_shown_as_symbols_then_listed() {
    let behind = mapping(Standing::Behind, Vec::new(), 12);
    let lines = |number| {
        let text = shown(vec![
            wide("a", number, &behind),
            wide("b", number, &agrees()),
        ]);
        assert!(text.lines().all(|line| width_of(line) <= 80), "{text}");
        text
    };
    assert!(lines(5).starts_with(
        "host  1            2            3            4            5\n\
             a     12 to apply  12 to apply  12 to apply  12 to apply  12 to apply\n\
             b     agrees       agrees       agrees       agrees       agrees\n\
             \n\
             1  source0 → /some/where/far/away/0\n"
    ));
    let symbols = lines(10);
    assert!(symbols.starts_with(
        "host  1    2    3    4    5    6    7    8    9    10\n\
             a     +12  +12  +12  +12  +12  +12  +12  +12  +12  +12\n\
             b     =    =    =    =    =    =    =    =    =    =\n"
    ));
    assert!(symbols.contains("\n= agrees   +n to apply\n"), "{symbols}");
    let list = lines(40);
    assert!(
        list.starts_with("a\n  source0 → /some/where/far/away/0    12 to apply\n"),
        "{list}"
    );
}

#[test]
fn five_hundred_hosts_that_agree_are_a_few_lines() {
    let hosts = (0..500).map(|n| seen(&format!("h{n:03}"), vec![agrees(), agrees()]));
    let text = shown(hosts.collect());
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(text.ends_with("\nStatus: 500 of 500 hosts agree.\n"));

    // Also where each host has a destination of its own.
    let hosts = (0..500).map(|n| {
        let (mut plan, standing) = seen(&format!("h{n:03}"), vec![agrees(), agrees()]);
        plan.mappings[0].dest = format!("/srv/{n}");
        (plan, standing)
    });
    let text = shown(hosts.collect());
    assert_eq!(text.lines().count(), 7, "{text}");
    assert!(
        text.starts_with("host                    app     /etc/nginx"),
        "{text}"
    );
}

#[test]
fn long_names_of_hosts_stand_above_their_row() {
    let names = [
        "amber", "birch", "cedar", "dogwood", "elder", "fir", "gorse",
    ];
    let text = shown(
        names
            .map(|name| seen(name, vec![agrees(), agrees()]))
            .to_vec(),
    );
    assert!(
        text.starts_with(
            "\
host                              /srv/app  /etc/nginx/nginx.conf
amber, birch, cedar, dogwood, elder, fir, gorse (7 hosts)
                                  agrees    agrees
"
        ),
        "{text}"
    );
}

#[test]
fn mapping_that_a_host_does_not_have_leaves_its_cell_empty() {
    let (mut one, mut standing) = seen("b", vec![agrees()]);
    one.mappings.remove(0);
    standing.applied = None;
    let text = shown(vec![seen("a", vec![agrees(), agrees()]), (one, standing)]);
    assert!(
        text.starts_with(
            "\
host  /srv/app  /etc/nginx/nginx.conf
a     agrees    agrees
b               agrees
"
        ),
        "{text}"
    );
}

#[test]
fn same_destination_of_different_sources_is_told_apart() {
    let (mut other, standing) = seen("b", vec![agrees(), agrees()]);
    other.mappings[0].src = "other".to_owned();
    let text = shown(vec![seen("a", vec![agrees(), agrees()]), (other, standing)]);
    assert!(text.contains("\n1  app → /srv/app\n"), "{text}");
    assert!(text.contains("\n3  other → /srv/app\n"), "{text}");
}

#[test]
fn long_drift_is_folded_unless_all_of_it_is_asked_for() {
    let drift = || (0..30).map(|n| removed(&format!("f{n:02}"))).collect();
    let hosts = || vec![seen("a", vec![drifted(drift()), agrees()])];
    let text = shown(hosts());
    assert!(
        text.contains("\n    … and 10 more; --full shows them\n"),
        "{text}"
    );
    let full = StatusView {
        full: true,
        ..view()
    };
    assert!(render(&status(hosts()), &full).contains("/srv/app/f29  removed"));
}

#[test]
fn summary_can_be_read_alone() {
    let line = |hosts| summary_line(&status(hosts));
    assert_eq!(line(Vec::new()), "Status: there are no hosts.");
    assert_eq!(
        line(vec![seen("a", vec![agrees()])]),
        "Status: 1 of 1 host agrees."
    );
    let mut failed = unseen("a", "x");
    failed.0.status = HostStatus::Failed("x".into());
    let mut unsendable = seen("b", vec![agrees()]);
    unsendable.0.problems = vec!["x: is a socket".to_owned()];
    assert_eq!(
        line(vec![failed, unsendable]),
        "Status: 0 of 2 hosts agree; 1 entry cannot be sent; 1 failed."
    );
}

#[test]
fn names_forge_neither_lines_nor_terminal_codes() {
    let evil = "x\nStatus: 9 of 9 hosts agree.\u{1b}[2J\u{202e}";
    let (mut plan, standing) = seen(evil, vec![drifted(vec![removed(evil)]), agrees()]);
    plan.mappings[0].src = evil.to_owned();
    plan.mappings[1].dest = evil.to_owned();
    let text = shown(vec![(plan, standing), unseen(evil, evil)]);
    let is_evil = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!text.contains(is_evil), "{text:?}");
    let lines = text.lines().filter(|line| line.starts_with("Status:"));
    assert_eq!(lines.count(), 1);
}

#[test]
fn colour_adds_nothing_but_colour() {
    let hosts = || vec![seen("a", vec![drifted(vec![removed("x")]), agrees()])];
    let color = StatusView {
        color: true,
        ..view()
    };
    let colored = render(&status(hosts()), &color);
    assert!(
        colored.contains("\u{1b}[33m1 drifted\u{1b}[0m"),
        "{colored}"
    );
    let plain = anstream::adapter::strip_str(&colored).to_string();
    assert_eq!(plain, shown(hosts()));
}
