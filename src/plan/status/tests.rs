#![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

use super::*;
use crate::config::{Exact, Excludes, MaxDelete};
use crate::model::{Blake3, ContentDigest, Entry, Mode};
use crate::plan::build::{self, MappingInput, Policy};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file_with(text: &str, mode: u32) -> Node {
    Node::File {
        size_bytes: text.len() as u64,
        meta: Mode::new(mode).into(),
        digest: ContentDigest {
            blake3: Some(Blake3::of(text.as_bytes())),
            sha256: None,
        },
    }
}

fn tree(files: &[(&str, &str)]) -> Tree {
    let entry = |(name, text): &(&str, &str)| Entry {
        path: path(name),
        node: file_with(text, 0o644),
    };
    files.iter().map(entry).collect()
}

/// How a mapping stands with these three sides.
fn standing(
    desired: &[(&str, &str)],
    recorded: &[(&str, &str)],
    actual: &[(&str, &str)],
    exact: Exact,
) -> MappingStanding {
    let (desired, recorded) = (tree(desired), tree(recorded));
    let actual = Actual::from(tree(actual));
    let input = MappingInput {
        desired: &desired,
        recorded: &recorded,
        actual: &actual,
        exact,
        exclude: &Excludes::default(),
        unsendable: &[],
    };
    let policy = Policy {
        modes: Modes::All,
        max_delete: MaxDelete { percent: 100 },
    };
    let changes = build::build(&[input], policy).unwrap().changes;
    let drift = drift(&recorded, &actual, Modes::All, |_| true);
    MappingStanding::of(drift, changes.iter(), &recorded, Modes::All)
}

fn in_words(it: &MappingStanding) -> (Standing, Vec<(String, Moved)>, usize) {
    let drift = it.drift.iter().map(|it| (it.path.to_string(), it.moved()));
    (it.standing, drift.collect(), it.to_apply)
}

#[test]
fn what_was_written_and_is_still_wanted_agrees() {
    let files = [("a", "1"), ("b", "2")];
    let it = standing(&files, &files, &files, Exact::No);
    assert_eq!(in_words(&it), (Standing::Agrees, Vec::new(), 0));
}

#[test]
fn what_somebody_did_is_drift_and_what_the_source_did_is_not() {
    let files = [("a", "1"), ("b", "2")];
    let it = standing(&files, &files, &[("b", "x")], Exact::No);
    let drift = vec![
        ("a".to_owned(), Moved::Removed),
        ("b".to_owned(), Moved::Changed),
    ];
    assert_eq!(in_words(&it), (Standing::Drifted, drift.clone(), 2));

    let edited = [("a", "1"), ("b", "3"), ("c", "4")];
    let it = standing(&edited, &files, &files, Exact::No);
    assert_eq!(in_words(&it), (Standing::Behind, Vec::new(), 2));
    let it = standing(&edited, &files, &[("b", "x")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Both, drift, 3));
}

#[test]
fn drift_that_no_plan_shows_is_found() {
    // The source no longer has it, and it stays.
    let it = standing(&[], &[("a", "1")], &[("a", "x")], Exact::No);
    let drift = vec![("a".to_owned(), Moved::Changed)];
    assert_eq!(in_words(&it), (Standing::Drifted, drift.clone(), 0));
    let it = standing(&[], &[("a", "1")], &[("a", "1")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Agrees, Vec::new(), 0));
    // Somebody has brought it to where the source is.
    let it = standing(&[("a", "2")], &[("a", "1")], &[("a", "2")], Exact::No);
    assert_eq!(in_words(&it), (Standing::Drifted, drift, 0));
}

#[test]
fn mirror_says_what_appeared_and_does_not_call_the_source_newer() {
    let it = standing(&[], &[], &[("new", "x")], Exact::Mirror);
    let drift = vec![("new".to_owned(), Moved::Appeared)];
    assert_eq!(in_words(&it), (Standing::Drifted, drift, 1));
}

#[test]
fn permission_bits_count_as_far_as_the_policy_says() {
    let entry = |mode| Entry {
        path: path("a"),
        node: file_with("1", mode),
    };
    let recorded: Tree = [entry(0o644)].into_iter().collect();
    let moved = |mode, modes| {
        let actual: Tree = [entry(mode)].into_iter().collect();
        let drift = drift(&recorded, &Actual::from(actual), modes, |_| true);
        drift.first().map(Drift::moved)
    };
    assert_eq!(moved(0o600, Modes::All), Some(Moved::Mode));
    assert_eq!(moved(0o600, Modes::Executable), None);
    assert_eq!(moved(0o755, Modes::Executable), Some(Moved::Mode));
}

#[test]
fn what_is_none_of_our_business_has_not_drifted() {
    let recorded = tree(&[("log", "1"), ("sub/log", "1")]);
    let actual = Actual::from(tree(&[]));
    let is_ours = |path: &RelPath| path.file_name() != b"log";
    assert_eq!(drift(&recorded, &actual, Modes::All, is_ours), Vec::new());
}
