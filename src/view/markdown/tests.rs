#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Blake3, Meta, Node, RelPath};
use crate::plan::{Action, Change, ChangeSet, Diff, HostPlan, Plan, Reason, Refresh};
use crate::view::review::class::Class;
use crate::view::review::summary::summary_line;
use crate::view::samples::{
    adopted, conflict, dir, file, host, link, mixed, new, orphan, plan, unreachable, updated,
};

/// The Markdown without the line that names the plan.
fn rendered(plan: &Plan, max_bytes: usize) -> String {
    let text = render(plan, Blake3::of(b""), max_bytes);
    let line = "\nPlan `af1349b9f5f9`, made at serial 0.\n";
    assert!(text.contains(line), "{text}");
    text.replacen(line, "", 1)
}

fn shown(hosts: Vec<HostPlan>) -> String {
    let text = rendered(&plan(hosts), 60_000);
    let _ = Page::read(&text);
    text
}

fn with_diffs(name: &str, changes: Vec<Change>, diffs: Vec<(usize, Diff)>) -> HostPlan {
    let set = ChangeSet::new(changes, diffs.into_iter().collect());
    HostPlan {
        change_set: Some(Arc::new(set)),
        ..host(name, Vec::new())
    }
}

/// What a reader of GitHub sees, as far as these tests want to know. Reading fails where markup
/// is there that is not ours.
#[derive(Debug, Default)]
struct Page {
    /// How many changes are shown, on all hosts: conflicts, deletes, creates, others.
    numbers: [usize; 4],
    /// Diffs in a fence of their own.
    diffs: usize,
    codes: Vec<String>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text}");
        let mut fence: Option<&str> = None;
        let mut heading = "";
        // How many hosts each open block is about.
        let mut open: Vec<usize> = Vec::new();
        let mut lines = text.lines().enumerate();
        assert_eq!(lines.next(), Some((0, MARKER)));
        for (at, line) in lines {
            assert!(
                !line.contains(|c: char| c.is_control() && c != '\t'),
                "{line:?}"
            );
            if let Some(end) = fence {
                let mark = &end[..1];
                let bare = line.trim_start_matches(' ');
                let run = bare.len() - bare.trim_start_matches(mark).len();
                if run >= end.len() && bare[run..].trim().is_empty() {
                    assert_eq!(line, end, "line {at} closes a fence that is not meant");
                    fence = None;
                    page.diffs += usize::from(open.len() == 2);
                } else if open.len() == 1 {
                    let class = if line.starts_with("+ ") { 2 } else { 3 };
                    assert!(line.starts_with(['+', '~']), "{line}");
                    page.numbers[class] += open[0];
                }
            } else if line.starts_with(['`', '~']) && line.ends_with("diff") {
                fence = Some(line.strip_suffix("diff").unwrap());
            } else if let Some(summary) = line.strip_prefix("<details><summary>") {
                let summary = summary.strip_suffix("</summary>").unwrap();
                let plain = summary.replacen("<code>", "", 1).replacen("</code>", "", 1);
                assert!(!plain.contains(['<', '>', '`', '@', '|', '*']), "{plain}");
                let title = summary.split("</code>").last().unwrap();
                if !title.ends_with(" more") {
                    heading = "";
                }
                open.push(hosts_in(title));
            } else if line == "</details>" {
                open.pop().expect("one is open");
            } else {
                let ours = page.without_code(line);
                let (ours, is_title) = match ours.trim_start_matches('#') {
                    title if title == ours => (ours.as_str(), false),
                    title => (title, true),
                };
                if is_title {
                    heading = line;
                }
                let ours = ours.strip_prefix("**").unwrap_or(ours);
                let ours = ours.strip_suffix("**").unwrap_or(ours);
                let is_plain = |c: char| c.is_ascii_alphanumeric() || " …→-.,:;()".contains(c);
                assert!(ours.chars().all(is_plain), "{ours:?}");
                if line.starts_with("- ") && open.len() <= 1 {
                    let number = hosts_in(ours.trim_start_matches("- "));
                    if heading.contains(" conflict") {
                        page.numbers[0] += number;
                    } else if heading.ends_with(" to delete") {
                        page.numbers[1] += number;
                    }
                }
            }
        }
        assert!(fence.is_none() && open.is_empty(), "{text}");
        page
    }

    /// A line without its code spans, which are read as `CommonMark` has it.
    fn without_code(&mut self, line: &str) -> String {
        let mut ours = String::new();
        let mut rest = line;
        while let Some(start) = rest.find('`') {
            ours.push_str(&rest[..start]);
            rest = &rest[start..];
            let run = |text: &str| text.len() - text.trim_start_matches('`').len();
            let opening = run(rest);
            let mut end = opening;
            loop {
                end += rest[end..].find('`').expect("a code span that ends");
                let closing = run(&rest[end..]);
                if closing == opening {
                    break;
                }
                end += closing;
            }
            let code = &rest[opening..end];
            let has_spaces = code.starts_with(' ') && code.ends_with(' ');
            let code = if has_spaces && !code.trim().is_empty() {
                &code[1..code.len() - 1]
            } else {
                code
            };
            self.codes.push(code.to_owned());
            rest = &rest[end + opening..];
        }
        ours + rest
    }
}

/// `8` of ` (8 hosts)`; else one.
fn hosts_in(text: &str) -> usize {
    let numbers = text
        .split(" hosts)")
        .next()
        .and_then(|text| text.rsplit('(').next());
    let is_there = text.contains(" hosts)");
    numbers
        .filter(|_| is_there)
        .map_or(1, |number| number.parse().unwrap())
}

#[test]
fn conflicts_and_deletes_stand_above_groups_to_be_opened() {
    let hosts = (1..=8).map(|n| host(&format!("web{n}"), mixed()));
    let mut hosts: Vec<HostPlan> = hosts.collect();
    hosts.push(unreachable("db1", "login refused for <root@db1>\nand more"));
    let text = shown(hosts);
    assert_eq!(
            text,
            "\
<!-- hostsync plan -->
### hostsync plan

**Plan: 24 to create, 40 to update, 8 to delete, 8 modes to change on 8 of 9 hosts (33.6 MiB to send); 16 conflicts; 8 entries to record; 1 host unreachable.**

#### 16 conflicts

These were changed on the hosts, or were never written by hostsync. Applying this plan replaces or deletes them; \
the old versions are kept on the hosts for a while.

- `/srv/app/config/limits.conf` (1.0 KiB → 1.2 KiB) on `web[1-8]` (8 hosts): undoes a change on the host
- `/srv/app/config/local.d/override-for-the-second-data-centre.toml` (1.0 KiB → 1.2 KiB) on `web[1-8]` (8 hosts): overwrites what is not ours

#### 8 to delete

- `/srv/app/lib/legacy.so` (77 B) on `web[1-8]` (8 hosts): no longer in the source

<details><summary><code>web[1-8]</code> (8 hosts): 3 to create, 3 to update, 1 mode to change, and 2 conflicts, 1 to delete (above)</summary>

`app` → `/srv/app`

```diff
+ bin/                                            new
+ bin/server                   4.2 MiB            new
+ current -> releases/2026-01                     new
~ etc/app.toml                 1.0 KiB → 1.2 KiB  content
~ tmp/                         file → folder      of another kind
~ etc/run.sh                   0644 → 0755        mode
```

`nginx.conf` → `/etc/nginx/nginx.conf`

```diff
~ nginx.conf  1.0 KiB → 1.2 KiB  content
```

</details>

<details><summary>Changed on the hosts since the last apply: 8 entries</summary>

- `/srv/app/config/limits.conf` on `web[1-8]` (8 hosts): changed

</details>

Already right, only to be recorded: 8 entries on `web[1-8]`.

#### Hosts without a plan

- `db1` unreachable: `login refused for <root@db1>`
"
        );
}

#[test]
fn plan_without_changes_is_its_summary() {
    let agreeing = ["a1", "a2"].map(|name| host(name, Vec::new()));
    assert_eq!(
        shown(agreeing.to_vec()),
        "\
<!-- hostsync plan -->
### hostsync plan

**No changes: 2 hosts agree with the sources.**
"
    );
}

#[test]
fn what_is_only_recorded_and_a_plan_without_a_look_are_said() {
    let mut plan = plan(vec![host("a", vec![adopted("x"), adopted("y")])]);
    plan.header.refresh = Refresh::None;
    assert_eq!(
            rendered(&plan, 1000),
            "\
<!-- hostsync plan -->
### hostsync plan

**No changes: 1 host agrees with the sources; 2 entries to record; no host was looked at.**

Planned from the state alone: no host was looked at. A host that nothing was applied to yet is taken to be empty.

Already right, only to be recorded: 2 entries on `a`.

Nothing on the hosts changes: apply only notes this in the state.
"
        );
}

#[test]
fn contents_are_to_be_opened_or_said_why_not() {
    let text = "@@ -1,2 +1,2 @@\n ```\n-a\r\n+b\u{202e}\n".to_owned();
    let changes: Vec<Change> = ["a", "b", "c", "d"].map(updated).to_vec();
    let diffs = vec![
        (0, Diff::Text(text)),
        (1, Diff::Binary),
        (2, Diff::Hidden),
        (3, Diff::Unavailable("gone".to_owned())),
    ];
    let text = shown(vec![with_diffs("web1", changes, diffs)]);
    let expected = "\
<details><summary><code>web1</code>: 4 to update, 4 diffs</summary>

`app` → `/srv/app`

```diff
~ a  1.0 KiB → 1.2 KiB  content
~ b  1.0 KiB → 1.2 KiB  content
~ c  1.0 KiB → 1.2 KiB  content
~ d  1.0 KiB → 1.2 KiB  content
```

<details><summary><code>/srv/app/a</code></summary>

~~~diff
@@ -1,2 +1,2 @@
 ```
-a\\r
+b\\u{202e}
~~~

</details>

`/srv/app/b`: binary, 1.0 KiB → 1.2 KiB

`/srv/app/c`: not shown: private

`/srv/app/d`: not shown: `gone`

</details>
";
    assert!(text.ends_with(expected), "{text}");
}

#[test]
fn five_hundred_hosts_of_three_kinds_are_three_blocks() {
    let hosts = (0..500).map(|n| {
        let change = match n % 3 {
            0 => updated("a"),
            1 => new("b", file(1, 0o644)),
            _ => new("c", link("a")),
        };
        host(&format!("h{n:03}"), vec![change])
    });
    let text = shown(hosts.collect());
    assert_eq!(text.matches("<details>").count(), 3, "{text}");
    assert!(
        text.contains(", …</code> (167 hosts): 1 to update"),
        "{text}"
    );
    assert!(text.len() < 2000, "{}", text.len());
    assert!(text.contains("500 of 500 hosts"));
}

#[test]
fn many_deletes_are_to_be_opened_from_the_hundred_and_first_on() {
    let changes = (0..130).map(|n| orphan(&format!("old{n:03}"))).collect();
    let text = shown(vec![host("a", changes)]);
    let (in_sight, rest) = text
        .split_once("<details><summary>30 more</summary>")
        .unwrap();
    assert!(in_sight.contains("#### 130 to delete\n"));
    assert!(in_sight.contains("/old099") && !in_sight.contains("/old100"));
    assert!(rest.contains("/old100") && rest.contains("/old129"));
}

#[test]
fn contents_are_left_out_first_and_conflicts_last() {
    let names = |start: &'static str| (0..20).map(move |n| format!("{start}{n:02}"));
    let mut changes: Vec<Change> = names("new").map(|name| new(&name, dir())).collect();
    changes.extend(names("orphan").map(|name| orphan(&name)));
    changes.extend(names("z").map(|name| conflict(updated(&name))));
    let diff = Diff::Text("@@ -1 +1 @@\n-a\n+b\n".repeat(100));
    let plan = plan(vec![with_diffs("a", changes, vec![(0, diff)])]);
    let left_out = |max_bytes| {
        let text = render(&plan, Blake3::of(b""), max_bytes);
        assert!(text.len() <= max_bytes);
        let note = text.lines().find_map(|line| line.split_once("Left out: "));
        note.map_or(String::new(), |(_, what)| what.to_owned())
    };
    let order = [
        "1 diff",
        "20 to create",
        "20 entries changed on hosts",
        "20 to delete",
        "conflict",
    ];
    for max_bytes in (1000..8000).step_by(50) {
        let left_out = left_out(max_bytes);
        // Whatever is left out in part, all before it is left out as a whole.
        let last = order
            .iter()
            .rposition(|what| left_out.contains(what.split(' ').next_back().unwrap_or(what)));
        for what in &order[..last.unwrap_or(0)] {
            assert!(left_out.contains(what), "{max_bytes}: {left_out}");
        }
    }
    assert_eq!(left_out(8000), "");
    assert!(
        (1000..8000)
            .step_by(50)
            .any(|max_bytes| left_out(max_bytes) == "1 diff.")
    );
    assert!(left_out(1000).contains(" conflicts, 20 to delete, 20 to create, 1 diff, "));
}

#[test]
fn saved_plan_that_claims_the_impossible_names_nobody() {
    let forged = Change {
        reason: Reason::Content,
        before: Some(link("@org [x](https:example.com)")),
        ..orphan("x")
    };
    let text = shown(vec![host("a", vec![forged])]);
    assert_eq!(text.matches("@org").count(), 0, "{text}");
}

#[test]
fn evil_names_are_shown_as_they_are() {
    let names = [
        "a|b",
        "`x`",
        "``",
        "</summary></details><script>alert(1)</script>",
        "@org/team",
        "owner/repo#123",
        "[x](https:example.com)",
        "www.example.com/x",
        "![](x.png)",
        "**bold** _it_ ~~no~~ $x$ :smile: &lt; &#60;",
        "a  b",
    ];
    for name in names {
        let mut evil = host(name, vec![orphan(name), new(name, link(name))]);
        evil.mappings[0].src = name.to_owned();
        let text = shown(vec![evil, unreachable(name, name)]);
        let page = Page::read(&text);
        assert!(page.codes.contains(&format!("/srv/app/{name}")), "{text}");
        assert_eq!(
            page.codes.iter().filter(|code| *code == name).count(),
            4,
            "{text}"
        );
        assert!(
            text.contains(&format!("\n+ {name} -> {name}  new\n")),
            "{text}"
        );
    }
}

fn evil_name() -> impl Strategy<Value = String> {
    let pieces = [
        "a",
        "B7",
        " ",
        "`",
        "```",
        "~~~~",
        "|",
        "</details>",
        "<!--",
        "-->",
        "<script>",
        "@me",
        "#12",
        "\n",
        "\n```\n",
        "\t",
        "\u{1b}[2J",
        "\u{202e}",
        "\\",
        "*",
        "_",
        "[x](y)",
        "&lt;",
        "http://x.y/z",
        "日本",
        "- ",
        "\r\n\r\n",
        "/",
        "$",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 1..12)
        .prop_map(|pieces| pieces.concat())
}

fn evil_path() -> impl Strategy<Value = String> {
    evil_name().prop_filter("a path", |name| {
        RelPath::new(name.as_str()).is_ok_and(|path| !path.is_root())
    })
}

fn change() -> impl Strategy<Value = Change> {
    (evil_path(), evil_name(), 0..8).prop_map(|(path, other, sort)| match sort {
        0 => conflict(updated(&path)),
        1 => conflict(orphan(&path)),
        2 => orphan(&path),
        3 => new(&path, file(1, 0o644)),
        4 => new(&path, link(&other)),
        5 => adopted(&path),
        6 => Change {
            before: Some(link(&other)),
            after: Some(link(&path)),
            drift: true,
            ..updated(&path)
        },
        _ => Change {
            action: Action::Metadata,
            after: Some(dir()),
            before: Some(Node::Dir {
                meta: Meta {
                    mode: crate::model::Mode::new(0o700),
                },
            }),
            ..updated(&path)
        },
    })
}

fn diff() -> impl Strategy<Value = Diff> {
    (evil_name(), 0..5).prop_map(|(text, sort)| match sort {
        0 => Diff::Binary,
        1 => Diff::Unavailable(text),
        _ => Diff::Text(format!("@@ -1 +1 @@\n-{text}\n+{text}\n {text}\n")),
    })
}

fn any_host() -> impl Strategy<Value = HostPlan> {
    (
        evil_name(),
        evil_name(),
        prop::collection::vec(change(), 0..20),
        prop::collection::vec((0..30_usize, diff()), 0..4),
        prop::collection::vec(evil_name(), 0..3),
        0..5,
    )
        .prop_map(|(name, other, mut changes, diffs, problems, sort)| {
            if sort == 0 {
                return unreachable(&name, &other);
            }
            changes.sort();
            let mut host = with_diffs(&name, changes, diffs);
            host.mappings[0].src.clone_from(&other);
            host.mappings[0].dest = format!("/{other}");
            host.problems = problems;
            host
        })
}

/// Some hosts, each of them one to three times.
fn any_plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec((any_host(), 1..4_usize), 0..8).prop_map(|hosts| {
        let hosts = hosts
            .into_iter()
            .flat_map(|(host, times)| vec![host; times]);
        plan(hosts.collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_breaks_out_and_what_is_shown_and_left_out_is_everything(
        plan in any_plan(),
        max_bytes in prop_oneof![1000..3000_usize, 1000..30_000_usize, Just(1_000_000)],
    ) {
        let text = render(&plan, Blake3::of(b""), max_bytes);
        prop_assert!(text.len() <= max_bytes, "{}", text.len());
        let summary = format!("\n**{}**\n", summary_line(&plan));
        prop_assert!(text.contains(&summary));
        let page = Page::read(&text);

        let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
        let note = text.lines().find_map(|line| line.split_once(" bytes. Left out: "));
        for part in note.iter().flat_map(|(_, parts)| parts.trim_end_matches('.').split(", ")) {
            let (number, what) = part.split_once(' ').unwrap();
            left_out.insert(what.trim_end_matches('s'), number.parse().unwrap());
        }
        let left_out = |what: &[&str]| -> usize {
            what.iter().map(|what| left_out.get(what).copied().unwrap_or(0)).sum()
        };
        let number_of = |wanted: &[Class]| {
            let changes = plan.hosts.iter().flat_map(HostPlan::changes);
            changes.filter_map(Class::of).filter(|class| wanted.contains(class)).count()
        };
        let numbers = page.numbers;
        prop_assert_eq!(numbers[0] + left_out(&["conflict"]), number_of(&[Class::Conflict]));
        prop_assert_eq!(numbers[1] + left_out(&["to delete"]), number_of(&[Class::Delete]));
        prop_assert_eq!(numbers[2] + left_out(&["to create"]), number_of(&[Class::Create]));
        let others = ["to update", "mode to change", "modes to change"];
        prop_assert_eq!(
            numbers[3] + left_out(&others),
            number_of(&[Class::Update, Class::Metadata])
        );
    }
}
