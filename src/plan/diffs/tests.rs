use std::sync::Arc;
use std::time::Duration;

use sha2::Digest as _;

use super::content::{LINES, TEXT_BYTES, compare};
use super::find::Contents;
use super::merge;
use crate::model::{Blake3, ContentDigest, HostId, Mode, Node, RelPath};
use crate::plan::{Action, Change, ChangeSet, Diff, HostPlan, HostStatus, Reason};

fn text(old: &str, new: &str) -> String {
    match compare(old.as_bytes(), new.as_bytes()) {
        Some(Diff::Text(text)) => text,
        other => panic!("{other:?}"),
    }
}

#[test]
fn change_is_shown_with_three_lines_around_it() {
    let lines = |changed: &str| format!("1\n2\n3\n4\n{changed}\n6\n7\n8\n9\n");
    assert_eq!(
        text(&lines("5"), &lines("five")),
        "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+five\n 6\n 7\n 8\n"
    );
}

#[test]
fn file_that_appears_or_goes_away_is_shown_whole() {
    assert_eq!(text("", "a\nb\n"), "@@ -0,0 +1,2 @@\n+a\n+b\n");
    assert_eq!(text("a\n", ""), "@@ -1 +0,0 @@\n-a\n");
}

#[test]
fn missing_newline_at_the_end_is_said() {
    assert_eq!(
        text("a\nb", "a\nb\n"),
        "@@ -1,2 +1,2 @@\n a\n-b\n\\ No newline at end of file\n+b\n"
    );
    // A carriage return ends no line.
    assert_eq!(
        text("a\r", "a\rb\n"),
        "@@ -1 +1 @@\n-a\r\n\\ No newline at end of file\n+a\rb\n"
    );
}

#[test]
fn what_is_no_text_is_not_compared() {
    for bytes in [&b"a\0b"[..], b"\xff", b"\xc3"] {
        assert_eq!(compare(bytes, b"text"), Some(Diff::Binary));
        assert_eq!(compare(b"", bytes), Some(Diff::Binary));
    }
    assert_eq!(compare(b"\0", b"\0"), None);
}

#[test]
fn texts_of_very_many_lines_are_not_compared_but_shown_when_they_are_new() {
    let many = "a\n".repeat(LINES + 1);
    let diff = compare(many.as_bytes(), b"b\n");
    assert_eq!(diff, Some(Diff::TooLarge));
    assert_eq!(text("", &many).lines().count(), LINES + 2);
}

#[test]
fn comparison_of_the_worst_texts_comes_to_an_end() {
    // Lines of few kinds in two orders: very much to choose from.
    let lines = |factor: usize| -> String {
        (0..LINES)
            .map(|n| ["a\n", "b\n", "c\n"][n * n * factor % 7 % 3])
            .collect()
    };
    let started = std::time::Instant::now();
    assert!(!text(&lines(3), &lines(5)).is_empty());
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn content_that_has_none_of_the_digests_is_not_what_was_there() {
    let contents = |blake3: Option<&[u8]>, sha256: Option<&[u8]>| Contents {
        before: Some(ContentDigest {
            blake3: blake3.map(Blake3::of),
            sha256: sha256
                .map(|bytes| crate::model::Sha256::from_bytes(sha2::Sha256::digest(bytes).into())),
        }),
        after: None,
    };
    assert!(contents(Some(b"a"), None).has_old(b"a"));
    assert!(contents(None, Some(b"a")).has_old(b"a"));
    assert!(contents(Some(b"a"), Some(b"a")).has_old(b"a"));
    assert!(!contents(Some(b"a"), Some(b"b")).has_old(b"a"));
    assert!(!contents(None, Some(b"b")).has_old(b"a"));
    assert!(!contents(None, None).has_old(b"a"));
}

fn node(content: &str) -> Node {
    Node::File {
        size_bytes: content.len() as u64,
        meta: Mode::new(0o644).into(),
        digest: ContentDigest {
            blake3: Some(Blake3::of(content.as_bytes())),
            sha256: None,
        },
    }
}

/// A host that is to have a new file for each of these.
fn host(name: &str, diffs: &[Diff]) -> HostPlan {
    let change = |index: usize| Change {
        mapping: 0,
        path: RelPath::new(format!("{index}")).expect("plain"),
        action: Action::Create,
        reason: Reason::Missing,
        drift: false,
        unmanaged: false,
        conflict: false,
        before: None,
        after: Some(node(&format!("x{index}"))),
    };
    let changes = (0..diffs.len()).map(change).collect();
    let diffs = diffs.iter().cloned().enumerate().collect();
    HostPlan {
        host: HostId::new(name),
        status: HostStatus::Ok,
        mappings: Vec::new(),
        change_set: Some(Arc::new(ChangeSet::new(changes, diffs))),
        unchanged: 0,
        problems: Vec::new(),
        warnings: std::collections::BTreeSet::new(),
    }
}

fn merged(hosts: &[&[Diff]]) -> Vec<Vec<Diff>> {
    let mut plans: Vec<HostPlan> = hosts.iter().map(|diffs| host("a", diffs)).collect();
    merge(&mut plans);
    let diffs = |plan: &HostPlan| {
        let set = plan.change_set.as_ref().expect("it has one");
        set.diffs.values().cloned().collect()
    };
    plans.iter().map(diffs).collect()
}

#[test]
fn hosts_with_the_same_changes_share_what_any_of_them_found_and_what_one_hides() {
    let shown = || Diff::Text("@@ -0,0 +1 @@\n+x\n".to_owned());
    let failed = |why: &str| Diff::Unavailable(why.to_owned());
    let hosts: [&[Diff]; 3] = [
        &[failed("first"), shown(), failed("first")],
        &[shown(), Diff::Hidden, failed("second")],
        &[failed("third"), shown(), failed("third")],
    ];
    let expected = vec![shown(), Diff::Hidden, failed("first")];
    assert_eq!(merged(&hosts), vec![expected; 3]);
}

#[test]
fn limit_of_all_diffs_counts_those_of_equal_hosts_once_and_in_the_order_of_the_plan() {
    let text = |bytes: usize| Diff::Text("+".repeat(bytes));
    let half = [text(TEXT_BYTES / 2)];
    let three = [text(TEXT_BYTES / 2), text(1), text(1)];
    let more = [text(1), text(1)];
    let all = merged(&[&half, &half, &three, &half, &more]);
    assert_eq!(all[0], half);
    assert_eq!(all[1], half);
    assert_eq!(
        all[2],
        [text(TEXT_BYTES / 2), Diff::TooLarge, Diff::TooLarge]
    );
    assert_eq!(all[3], half);
    assert_eq!(all[4], [Diff::TooLarge, Diff::TooLarge]);
}
