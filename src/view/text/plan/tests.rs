#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::sync::Arc;

use super::*;
use crate::plan::{Change, ChangeSet, Diff, HostPlan, HostStatus, Reason, Warning, WarningKind};
use crate::view::review::summary::summary_line;
use crate::view::samples::{
    adopted, change, conflict, dir, file, host, link, mixed, new, orphan, plan, unreachable,
    updated,
};

fn view() -> PlanView {
    PlanView {
        full: false,
        width: 80,
        color: false,
        automation: false,
        command: PlanCommand::Plan { saved: true },
    }
}

fn shown(hosts: Vec<HostPlan>) -> String {
    render(&plan(hosts), &view())
}

/// What a line has after its indentation.
fn has_line(text: &str, line: &str) -> bool {
    text.lines().any(|other| other.trim_start() == line)
}

#[test]
fn new_tree_is_shown_entry_by_entry() {
    let changes = vec![
        new("", dir()),
        new("bin", dir()),
        new("bin/server", file(4_404_019, 0o755)),
        new("current", link("releases/1")),
    ];
    assert_eq!(
        shown(vec![host("web1", changes)]),
        "\
web1
  app → /srv/app
    + ./                              new
    + bin/                            new
    + bin/server             4.2 MiB  new
    + current -> releases/1           new

+ create

Plan: 4 to create, 0 to update, 0 to delete, 0 modes to change on 1 of 1 host (4.2 MiB to send).
"
    );
}

#[test]
fn conflicts_and_deletes_stand_before_everything_else() {
    let hosts = ["web1", "web2", "web3"].map(|name| host(name, mixed()));
    assert_eq!(
            shown(hosts.to_vec()),
            "\
web[1-3] (3 hosts)
  app → /srv/app
    ! config/limits.conf          1.0 KiB → 1.2 KiB  undoes a change on the host
    ! config/local.d/override-for-the-second-data-centre.toml
                                  1.0 KiB → 1.2 KiB  overwrites what is not ours
    - lib/legacy.so               77 B               no longer in the source
    + bin/                                           new
    + bin/server                  4.2 MiB            new
    + current -> releases/2026-01                    new
    ~ etc/app.toml                1.0 KiB → 1.2 KiB  content
    ~ tmp/                        file → folder      of another kind
    ~ etc/run.sh                  0644 → 0755        mode
  nginx.conf → /etc/nginx/nginx.conf
    ~ nginx.conf  1.0 KiB → 1.2 KiB  content

Changed on the hosts since the last apply
  web[1-3] (3 hosts)
    /srv/app/config/limits.conf  changed

Already right, only to be recorded: 3 entries on web[1-3].

! destroys what nobody reviewed   - delete   + create   ~ change

Plan: 9 to create, 15 to update, 3 to delete, 3 modes to change on 3 of 3 hosts (12.6 MiB to send); 6 conflicts; 3 entries to record.
"
        );
}

#[test]
fn blocks_with_conflicts_stand_first_and_those_with_deletes_next() {
    let text = shown(vec![
        host("calm1", vec![updated("a")]),
        host("calm2", vec![new("b", file(1, 0o644))]),
        host("gone", vec![orphan("c"), new("d", file(1, 0o644))]),
        host("torn", vec![conflict(updated("e")), updated("f")]),
        host("gone2", vec![orphan("g")]),
    ]);
    let at = |name: &str| text.find(&format!("{name}\n  app")).unwrap();
    let order = ["torn", "gone", "gone2", "calm1", "calm2"].map(at);
    assert!(order.is_sorted(), "{text}");
}

#[test]
fn entries_that_are_only_recorded_change_nothing_and_the_text_says_so() {
    let recording = host("a", vec![adopted("x"), adopted("y")]);
    assert_eq!(
        shown(vec![recording.clone()]),
        "\
Already right, only to be recorded: 2 entries on a.
Nothing on the hosts changes: apply only notes this in the state.

No changes: 1 host agrees with the sources; 2 entries to record.
"
    );
    let text = shown(vec![recording, host("b", vec![updated("z")])]);
    assert!(!text.contains("Nothing on the hosts"), "{text}");
}

#[test]
fn host_that_was_looked_at_and_refused_is_not_called_unseen() {
    let mut refused = host("db1", Vec::new());
    refused.status = HostStatus::Failed("more deletes than max_delete allows".into());
    assert_eq!(
        shown(vec![refused]),
        "\
Hosts without a plan
  db1 failed: more deletes than max_delete allows

Nothing known: 0 of 1 host could be planned for; 1 host failed.
"
    );
}

#[test]
fn five_hundred_hosts_of_three_kinds_are_three_blocks() {
    let hosts = (0..500)
        .map(|n| {
            let changes = match n % 3 {
                0 => vec![updated("a")],
                1 => vec![updated("a"), updated("b")],
                _ => vec![orphan("c")],
            };
            host(&format!("{}-{n:03}", ["x", "y", "z"][n % 3]), changes)
        })
        .collect();
    let text = shown(hosts);
    assert_eq!(text.matches("app → /srv/app").count(), 3, "{text}");
    assert!(text.contains(" (167 hosts)\n") && text.contains(" (166 hosts)\n"));
    assert!(text.contains("500 of 500 hosts"));
}

#[test]
fn hosts_of_a_block_may_have_different_destinations() {
    let elsewhere = |name: &str, dest: &str| {
        let mut host = host(name, vec![conflict(updated("a"))]);
        host.mappings[0].dest = dest.to_owned();
        host
    };
    let text = shown(vec![
        elsewhere("db1", "/opt/app"),
        elsewhere("db2", "/opt/app"),
        elsewhere("db3", "/srv/app"),
    ]);
    assert!(has_line(&text, "app → /opt/app on db[1-2]"), "{text}");
    assert!(has_line(&text, "app → /srv/app on db3"), "{text}");
    assert!(has_line(&text, "…/a  changed"), "{text}");

    let many = (0..100).map(|n| elsewhere(&format!("h{n}"), &format!("/srv/{n}")));
    let many = plan(many.collect());
    let text = render(&many, &view());
    let more = "… and 96 more destinations; --full shows them";
    assert!(has_line(&text, more), "{text}");
    let full = PlanView {
        full: true,
        ..view()
    };
    assert!(render(&many, &full).contains("/srv/99 on h99"));
}

#[test]
fn hosts_that_are_down_stand_at_the_end_with_the_first_line_of_their_error() {
    let mut failed = unreachable("db1", "x");
    failed.status = HostStatus::Failed("no folder\nnot for people".into());
    let text = shown(vec![
        unreachable("web7", "login refused"),
        unreachable("web8", "login refused"),
        failed,
        host("web1", vec![new("a", file(1, 0o644))]),
    ]);
    assert_eq!(
            text,
            "\
web1
  app → /srv/app
    + a  1 B  new

Hosts without a plan
  web[7-8] (2 hosts) unreachable: login refused
  db1 failed: no folder

+ create

Plan: 1 to create, 0 to update, 0 to delete, 0 modes to change on 1 of 4 hosts (1 B to send); 2 hosts unreachable; 1 host failed.
"
        );
}

#[test]
fn nothing_to_do_is_one_line() {
    let agreeing = |n: usize| host(&format!("h{n}"), Vec::new());
    assert_eq!(shown(Vec::new()), "No changes: there are no hosts.\n");
    assert_eq!(
        shown((0..5).map(agreeing).collect()),
        "No changes: 5 hosts agree with the sources.\n"
    );
    assert_eq!(
        shown(vec![agreeing(1)]),
        "No changes: 1 host agrees with the sources.\n"
    );
}

#[test]
fn summary_never_claims_agreement_of_hosts_that_nobody_saw() {
    let line = |hosts| summary_line(&plan(hosts));
    let agreeing = || host("a", Vec::new());
    let down = || unreachable("b", "x");
    assert_eq!(
        line(vec![agreeing(), down()]),
        "No changes: 1 of 2 hosts agrees with the sources; 1 host unreachable."
    );
    assert_eq!(
        line(vec![down()]),
        "Nothing known: 0 of 1 host could be planned for; 1 host unreachable."
    );
    assert_eq!(
        line(vec![host("a", vec![adopted("x"), adopted("y")])]),
        "No changes: 1 host agrees with the sources; 2 entries to record."
    );
    let unsendable = HostPlan {
        problems: vec!["x: is a socket".to_owned()],
        ..agreeing()
    };
    assert_eq!(
        line(vec![unsendable]),
        "No changes: 0 of 1 host agree with the sources; 1 entry cannot be sent."
    );
}

#[test]
fn long_list_is_folded_but_not_its_conflicts_and_deletes() {
    let mut changes = vec![new("", dir()), new("static", dir())];
    changes.extend((0..480).map(|n| new(&format!("static/{n:03}.png"), file(20_480, 0o644))));
    changes.extend((0..40).map(|n| new(&format!("new{n:02}"), file(1, 0o644))));
    changes.extend((0..50).map(|n| conflict(updated(&format!("conflict{n:02}")))));
    changes.extend((0..110).map(|n| orphan(&format!("orphan{n:03}"))));
    changes.push(updated("rare"));
    changes.sort();
    let hosts = plan(vec![host("a", changes)]);
    let text = render(&hosts, &view());
    let starting = |start: &str| {
        text.lines()
            .filter(|line| line.trim_start().starts_with(start))
            .count()
    };
    assert_eq!(starting("! conflict"), 50);
    assert_eq!(starting("- orphan"), 100);
    assert!(text.contains("~ rare"), "{text}");
    let more = "… and 531 more: 10 to delete, 521 to create; --full shows them";
    assert!(has_line(&text, more), "{text}");
    assert!(text.starts_with("Plan: 522 to create"));
    assert!(text.ends_with("50 conflicts.\n"));

    let full = PlanView {
        full: true,
        ..view()
    };
    let text = render(&hosts, &full);
    assert!(!text.contains('…'), "{text}");
    assert!(text.contains("+ static/479.png"));
    assert!(text.contains("- orphan109"));
}

#[test]
fn new_folder_with_all_that_is_below_it_is_one_line_of_a_long_list() {
    let mut changes = vec![new("d", dir()), new("d.txt", file(1, 0o644))];
    changes.extend((0..30).map(|n| new(&format!("d/{n}"), file(1024, 0o644))));
    let text = shown(vec![host("a", changes)]);
    assert!(
        has_line(&text, "+ d.txt  1 B                 new"),
        "{text}"
    );
    assert!(
        has_line(&text, "+ d/     30 files, 30.0 KiB  new"),
        "{text}"
    );
    assert!(!text.contains("more:"), "{text}");
}

#[test]
fn file_that_runs_with_rights_is_shown_in_a_folder_that_is_counted() {
    let mut changes = vec![new("bin", dir())];
    changes.extend((10..99).map(|n| new(&format!("bin/{n}"), file(1, 0o755))));
    changes.push(new("bin/tool", file(1, 0o4755)));
    let text = shown(vec![host("a", changes)]);
    assert!(text.contains("+ bin/tool "), "{text}");
    assert!(text.contains("new, mode 4755"), "{text}");
    assert!(!text.contains("bin/50"), "{text}");
}

#[test]
fn folder_that_others_can_change_is_told_first() {
    let mut exposed = host("a", vec![new("file", file(1, 0o644))]);
    exposed.warnings.insert(Warning {
        kind: WarningKind::Ancestor,
        path: "/srv/o\u{202e}thers".to_owned(),
    });
    let text = shown(vec![exposed]);
    let expected =
        "Others can change /srv/o\\u{202e}thers on a, so every change below it is a conflict.";
    let words: Vec<&str> = text.split_whitespace().collect();
    assert!(words.join(" ").starts_with(expected), "{text}");
}

#[test]
fn names_forge_neither_lines_nor_terminal_codes() {
    let evil = "x\nPlan: 0 to create\u{1b}[2J\u{202e}";
    let mut changes = vec![new(evil, link(evil))];
    changes.push(conflict(updated(&format!("{evil}2"))));
    let mut host = host("h\u{1b}[1m", changes);
    host.mappings[0].src = evil.to_owned();
    host.mappings[0].dest = format!("/{evil}");
    host.problems = vec![evil.to_owned()];
    let text = shown(vec![host, unreachable("b\n", "\u{1b}]0;title\u{7}")]);
    assert!(
        !text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{text:?}"
    );
    let plans = text.lines().filter(|line| line.starts_with("Plan:"));
    assert_eq!(plans.count(), 1);
}

#[test]
fn lines_keep_to_the_width_and_do_not_end_in_spaces() {
    let long = format!("{}file.txt", "some-folder/".repeat(20));
    let mut changes = mixed();
    changes.push(new(&long, file(1, 0o644)));
    let mut wide = host("w1", changes);
    wide.mappings[0].dest = format!("/{long}");
    wide.problems = vec![long.clone()];
    let hosts = plan(vec![wide, unreachable("w2", &"word ".repeat(50))]);
    for width in [40, 60, 80, 200] {
        let text = render(&hosts, &PlanView { width, ..view() });
        for line in text.lines().filter(|line| !line.starts_with("Plan:")) {
            let legend = line.starts_with('!') && width < 70;
            assert!(legend || width_of(line) <= width, "{width}: {line:?}");
            assert_eq!(line.trim_end(), line);
        }
    }
}

#[test]
fn colour_adds_nothing_but_colour() {
    let hosts = plan(vec![host("a", mixed()), unreachable("b", "x")]);
    let color = PlanView {
        color: true,
        ..view()
    };
    let colored = render(&hosts, &color);
    assert!(colored.contains("\u{1b}[31m"));
    assert_eq!(
        anstream::adapter::strip_str(&colored).to_string(),
        render(&hosts, &view())
    );
}

#[test]
fn large_file_that_is_updated_is_sent_in_part_and_a_new_one_as_a_whole() {
    const MIB: u64 = 1024 * 1024;
    let line = |change| summary_line(&plan(vec![host("a", vec![change])]));
    let update = |from, to| {
        let (before, after) = (file(from, 0o644), file(to, 0o644));
        change("disk.img", Reason::Content, Some(before), Some(after))
    };
    assert!(line(update(1, 300 * MIB)).contains("(at most 300.0 MiB to send)"));
    assert!(line(update(300 * MIB, 63 * MIB)).contains("(63.0 MiB to send)"));
    assert!(line(new("disk.img", file(300 * MIB, 0o644))).contains("(300.0 MiB to send)"));
    let instead = change(
        "disk.img",
        Reason::Type,
        Some(dir()),
        Some(file(64 * MIB, 0o644)),
    );
    assert!(line(instead).contains("(64.0 MiB to send)"));
}

/// A host with these changes, each with a diff.
fn with_diffs(name: &str, changes: Vec<(Change, Diff)>) -> HostPlan {
    let (changes, diffs): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
    let diffs = diffs.into_iter().enumerate().collect();
    HostPlan {
        change_set: Some(Arc::new(ChangeSet::new(changes, diffs))),
        ..host(name, Vec::new())
    }
}

#[test]
fn errors_that_differ_in_the_address_alone_are_one() {
    let down = |name: &str| unreachable(name, &format!("cannot connect to {name}:22: refused"));
    let text = shown(vec![down("10.0.0.1"), down("10.0.0.2"), down("db")]);
    let expected = "  10.0.0.[1-2] (2 hosts) unreachable: cannot connect to …:22: refused\n  db \
                        unreachable: cannot connect to db:22: refused\n";
    assert!(text.contains(expected), "{text}");
    let text = shown(vec![down("10.0.0.1")]);
    assert!(
        text.contains("cannot connect to 10.0.0.1:22: refused"),
        "{text}"
    );
}

#[test]
fn long_diff_that_other_hosts_have_too_is_shown_once() {
    let text = |lines: usize| Diff::Text("@@ -1 +1 @@\n".to_owned() + &"+new\n".repeat(lines));
    let same = || (updated("a.conf"), text(9));
    let drifted = vec![same(), (orphan("old"), Diff::Binary)];
    let hosts = || {
        vec![
            with_diffs("web1", vec![same()]),
            with_diffs("web2", drifted.clone()),
        ]
    };
    let shown = shown(hosts());
    assert_eq!(shown.matches("+new").count(), 9, "{shown}");
    assert!(
        shown.contains("    a.conf: the same as for web2\n"),
        "{shown}"
    );
    let short = |name| with_diffs(name, vec![(updated(name), text(1))]);
    let text = self::shown(vec![short("a"), short("b")]);
    assert_eq!(text.matches("+new").count(), 2, "{text}");
}

#[test]
fn diffs_stand_below_the_table_of_their_mapping_once_for_equal_hosts() {
    let text = |text: &str| Diff::Text(text.to_owned());
    let changes = || {
        let mut conf = updated("");
        conf.mapping = 1;
        vec![
            (
                updated("a.conf"),
                text("@@ -1 +1 @@\n-\told\n+new\u{1b}[2J\n"),
            ),
            (new(".env", file(9, 0o600)), Diff::Hidden),
            (conf, Diff::Binary),
        ]
    };
    let text = shown(vec![
        with_diffs("web1", changes()),
        with_diffs("web2", changes()),
    ]);
    let expected = "\
web[1-2] (2 hosts)
  app → /srv/app
    + .env    9 B                new
    ~ a.conf  1.0 KiB → 1.2 KiB  content

    .env: not shown: private

    a.conf
    @@ -1 +1 @@
    -\told
    +new\\u{1b}[2J

  nginx.conf → /etc/nginx/nginx.conf
    ~ nginx.conf  1.0 KiB → 1.2 KiB  content

    nginx.conf: binary, 1.0 KiB → 1.2 KiB

";
    assert!(text.starts_with(expected), "{text}");
}

#[test]
fn long_diff_is_folded_unless_everything_is_asked_for() {
    let long = |lines: usize| {
        let text = format!("@@ -0,0 +1,{lines} @@\n") + &"+x\n".repeat(lines);
        let change = new("a", file(1, 0o644));
        plan(vec![with_diffs("web1", vec![(change, Diff::Text(text))])])
    };
    let lines = |plan: &Plan, options: &PlanView| render(plan, options).matches("\n    +x").count();
    let text = render(&long(100), &view());
    assert!(
        has_line(&text, "… and 41 more lines; --full shows them"),
        "{text}"
    );
    assert_eq!(lines(&long(100), &view()), Limits::SHORT.diff_lines - 1);
    // To fold a single line would save nothing.
    assert_eq!(
        lines(&long(Limits::SHORT.diff_lines), &view()),
        Limits::SHORT.diff_lines
    );
    let full = PlanView {
        full: true,
        ..view()
    };
    assert_eq!(lines(&long(100), &full), 100);
}

#[test]
fn hint_is_for_people_whose_plan_is_not_saved() {
    let hosts = plan(vec![host("a", mixed())]);
    let hinted = |command, automation| {
        let options = PlanView {
            automation,
            command,
            ..view()
        };
        render(&hosts, &options).contains("not saved")
    };
    assert!(hinted(PlanCommand::Plan { saved: false }, false));
    assert!(!hinted(PlanCommand::Plan { saved: false }, true));
    assert!(!hinted(PlanCommand::Plan { saved: true }, false));
    assert!(!hinted(PlanCommand::Apply, false));
}

#[test]
fn plan_that_goes_back_names_no_source_and_sends_nothing() {
    let back = |hosts| {
        let plan = Plan {
            back_to: Some(3),
            ..plan(hosts)
        };
        render(&plan, &view())
    };
    let changes = vec![new("x", file(10, 0o644)), orphan("y")];
    assert_eq!(
        back(vec![host("a", changes)]),
        "\
a
  /srv/app
    - y  77 B  was not there before
    + x  10 B  was there before

- delete   + create

Rollback: 1 to create, 0 to update, 1 to delete, 0 modes to change on 1 of 1 host.
"
    );
    assert_eq!(
        back(vec![host("a", Vec::new())]),
        "Nothing to roll back on 1 host.\n"
    );
    let nobody = "Nothing to roll back: 0 of 1 host can be brought back; 1 host unreachable.\n";
    assert!(back(vec![unreachable("a", "x")]).ends_with(nobody));
}
