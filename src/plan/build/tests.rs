#![expect(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::model::{Blake3, ContentDigest, Sha256};

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file_with(text: &str, bits: u32) -> Node {
    let digest = ContentDigest {
        blake3: Some(Blake3::of(text.as_bytes())),
        sha256: None,
    };
    Node::File {
        size_bytes: text.len() as u64,
        meta: Mode::new(bits).into(),
        digest,
    }
}

fn file(text: &str) -> Node {
    file_with(text, 0o644)
}

fn dir() -> Node {
    Node::Dir {
        meta: Mode::new(0o755).into(),
    }
}

fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.as_bytes().into(),
    }
}

fn tree(entries: &[(&str, Node)]) -> Tree {
    let entry = |(at, node): &(&str, Node)| Entry {
        path: path(at),
        node: node.clone(),
    };
    entries.iter().map(entry).collect()
}

/// One mapping with an everyday policy.
struct Mapping {
    desired: Tree,
    recorded: Tree,
    actual: Tree,
    exact: Exact,
    exclude: Excludes,
    unsendable: Vec<RelPath>,
    policy: Policy,
}

impl Mapping {
    fn new(desired: &[(&str, Node)], recorded: &[(&str, Node)], actual: &[(&str, Node)]) -> Self {
        Self {
            desired: tree(desired),
            recorded: tree(recorded),
            actual: tree(actual),
            exact: Exact::No,
            exclude: Excludes::default(),
            unsendable: Vec::new(),
            policy: Policy {
                modes: Modes::All,
                max_delete: MaxDelete { percent: 100 },
            },
        }
    }

    fn build(&self) -> Result<HostChanges, TooManyDeletes> {
        let input = MappingInput {
            desired: &self.desired,
            recorded: &self.recorded,
            actual: &Actual::from(self.actual.clone()),
            exact: self.exact,
            exclude: &self.exclude,
            unsendable: &self.unsendable,
        };
        build(&[input], self.policy)
    }

    /// One line for each change.
    fn changes(&self) -> Vec<String> {
        let line = |change: &Change| {
            let mut line =
                format!("{:?} {} {:?}", change.action, change.path, change.reason).to_lowercase();
            for (flag, name) in [
                (change.drift, " drift"),
                (change.unmanaged, " unmanaged"),
                (change.conflict, " conflict"),
            ] {
                line.push_str(if flag { name } else { "" });
            }
            line
        };
        self.build().unwrap().changes.iter().map(line).collect()
    }
}

#[test]
fn what_is_right_and_recorded_is_unchanged() {
    let all = [("", dir()), ("a", file("x")), ("l", link("a"))];
    let plan = Mapping::new(&all, &all, &all).build().unwrap();
    assert_eq!((plan.changes.len(), plan.unchanged), (0, 3));
}

#[test]
fn what_is_right_and_not_recorded_is_adopted() {
    let mapping = Mapping::new(&[("a", file("x"))], &[], &[("a", file("x"))]);
    assert_eq!(mapping.changes(), ["adopt a recorded"]);
}

#[test]
fn what_is_missing_is_created_and_is_drift_when_it_was_there_once() {
    let wanted = [("a", file("x")), ("b", file("x"))];
    let mapping = Mapping::new(&wanted, &[("a", file("x"))], &[]);
    assert_eq!(
        mapping.changes(),
        ["create a missing drift", "create b missing"]
    );
}

#[test]
fn new_content_over_what_was_written_last_is_no_conflict() {
    let mapping = Mapping::new(
        &[("a", file("new"))],
        &[("a", file("old"))],
        &[("a", file("old"))],
    );
    assert_eq!(mapping.changes(), ["update a content"]);
}

#[test]
fn content_that_somebody_else_wrote_is_a_conflict() {
    let wanted = [("drifted", file("new")), ("unmanaged", file("new"))];
    let there = [("drifted", file("theirs")), ("unmanaged", file("theirs"))];
    let mapping = Mapping::new(&wanted, &[("drifted", file("old"))], &there);
    assert_eq!(
        mapping.changes(),
        [
            "update drifted content drift conflict",
            "update unmanaged content unmanaged conflict"
        ]
    );
}

#[test]
fn file_that_cannot_be_read_there_is_a_conflict() {
    let unread = Node::File {
        size_bytes: 1,
        meta: Mode::new(0o644).into(),
        digest: ContentDigest::default(),
    };
    let mapping = Mapping::new(&[("a", file("x"))], &[("a", file("x"))], &[("a", unread)]);
    assert_eq!(mapping.changes(), ["update a content drift conflict"]);
}

#[test]
fn permission_bits_alone_are_no_conflict() {
    let mapping = Mapping::new(
        &[("a", file("x"))],
        &[("a", file("x"))],
        &[("a", file_with("x", 0o600))],
    );
    assert_eq!(mapping.changes(), ["metadata a mode drift"]);
}

#[test]
fn executable_mode_leaves_the_other_bits_to_the_host() {
    let mut mapping = Mapping::new(
        &[
            ("d", dir()),
            ("same", file_with("x", 0o755)),
            ("x", file_with("x", 0o755)),
        ],
        &[],
        &[
            (
                "d",
                Node::Dir {
                    meta: Mode::new(0o2770).into(),
                },
            ),
            ("same", file_with("x", 0o700)),
            ("x", file_with("x", 0o640)),
        ],
    );
    mapping.policy.modes = Modes::Executable;
    assert_eq!(
        mapping.changes(),
        [
            "adopt d recorded",
            "adopt same recorded",
            "metadata x mode unmanaged"
        ]
    );
    let after = mapping.build().unwrap().changes[2]
        .after
        .as_ref()
        .and_then(Node::mode);
    assert_eq!(after, Some(Mode::new(0o750)));
}

#[test]
fn without_exact_nothing_is_deleted() {
    let mapping = Mapping::new(&[("", dir())], &[("a", file("x"))], &[("a", file("x"))]);
    assert_eq!(mapping.changes(), ["create  missing"]);
}

#[test]
fn orphan_is_deleted_only_while_it_is_what_was_written() {
    let recorded = [("", dir()), ("drifted", file("x")), ("ours", file("x"))];
    let actual = [
        ("", dir()),
        ("drifted", file("theirs")),
        ("ours", file("x")),
    ];
    let mut mapping = Mapping::new(&[("", dir())], &recorded, &actual);
    mapping.exact = Exact::Orphans;
    assert_eq!(mapping.changes(), ["delete ours orphan"]);
}

#[test]
fn folder_of_a_drifted_orphan_stays_with_it() {
    let recorded = [("", dir()), ("d", dir()), ("d/f", file("x")), ("e", dir())];
    let actual = [
        ("", dir()),
        ("d", dir()),
        ("d/f", file("theirs")),
        ("e", dir()),
    ];
    let mut mapping = Mapping::new(&[("", dir())], &recorded, &actual);
    mapping.exact = Exact::Orphans;
    assert_eq!(mapping.changes(), ["delete e orphan"]);
}

#[test]
fn mirror_deletes_what_the_source_does_not_have() {
    let actual = [("", dir()), ("ours", file("x")), ("theirs", file("x"))];
    let mut mapping = Mapping::new(&[("", dir())], &[("", dir()), ("ours", file("x"))], &actual);
    mapping.exact = Exact::Mirror;
    assert_eq!(
        mapping.changes(),
        [
            "delete ours orphan",
            "delete theirs extraneous unmanaged conflict"
        ]
    );
}

#[test]
fn excluded_and_unsendable_entries_stay_and_so_do_their_folders() {
    let actual = [
        ("", dir()),
        ("cache", dir()),
        ("cache/a.tmp", file("x")),
        ("gone", dir()),
        ("socket", dir()),
        ("socket/s", file("x")),
    ];
    let mut mapping = Mapping::new(&[("", dir())], &[("", dir())], &actual);
    mapping.exact = Exact::Mirror;
    mapping.exclude = Excludes::new(vec!["*.tmp".to_owned()]).unwrap();
    mapping.unsendable = vec![path("socket/s")];
    assert_eq!(mapping.changes(), ["delete gone extraneous unmanaged"]);
}

#[test]
fn folder_that_becomes_a_file_takes_along_what_is_in_it() {
    let recorded = [
        ("a", dir()),
        ("a-b", file("y")),
        ("a/x", file("x")),
        ("a/y", file("x")),
    ];
    let actual = [
        ("a", dir()),
        ("a-b", file("y")),
        ("a/x", file("x")),
        ("a/y", file("theirs")),
    ];
    let wanted = [("a", file("new")), ("a-b", file("y"))];
    for exact in [Exact::No, Exact::Orphans, Exact::Mirror] {
        let mut mapping = Mapping::new(&wanted, &recorded, &actual);
        mapping.exact = exact;
        assert_eq!(
            mapping.changes(),
            [
                "update a type",
                "delete a/x orphan",
                "delete a/y orphan drift conflict"
            ],
            "{exact:?}"
        );
    }
}

#[test]
fn what_is_behind_a_link_is_not_taken_for_ours() {
    // Looking at `d/f` on the host finds the file that the link leads to.
    let ours = [("d", dir()), ("d/f", file("x"))];
    let actual = [("d", link("/elsewhere")), ("d/f", file("x"))];
    let mapping = Mapping::new(&ours, &ours, &actual);
    assert_eq!(
        mapping.changes(),
        ["update d type drift conflict", "create d/f missing drift"]
    );
}

#[test]
fn digests_that_the_sources_know_are_in_before() {
    let old = ContentDigest {
        blake3: Some(Blake3::of(b"o")),
        sha256: Some(Sha256::from_bytes([1; 32])),
    };
    let node = |digest| Node::File {
        size_bytes: 1,
        meta: Mode::new(0o644).into(),
        digest,
    };
    let seen = ContentDigest {
        blake3: None,
        ..old
    };
    let mapping = Mapping::new(
        &[("a", file("n"))],
        &[("a", node(old))],
        &[("a", node(seen))],
    );
    assert_eq!(mapping.build().unwrap().changes[0].before, Some(node(old)));
}

#[test]
fn source_that_lost_too_much_is_refused() {
    let all = [
        ("", dir()),
        ("a", file("x")),
        ("b", file("x")),
        ("c", file("x")),
    ];
    let mut mapping = Mapping::new(&all[..2], &all, &all);
    mapping.exact = Exact::Orphans;
    mapping.policy.max_delete = MaxDelete { percent: 50 };
    let error = mapping.build().unwrap_err();
    assert_eq!((error.mapping, error.deletes, error.entries), (0, 2, 3));
    mapping.policy.max_delete = MaxDelete { percent: 67 };
    assert_eq!(mapping.changes(), ["delete b orphan", "delete c orphan"]);
}

#[test]
fn what_a_lookup_finds_through_a_symlink_is_never_deleted() {
    // The state still has the folder that the link has replaced.
    for recorded_top in [dir(), link("b")] {
        let mut mapping = Mapping::new(
            &[("", dir()), ("a", link("b"))],
            &[("", dir()), ("a", recorded_top), ("a/x", file("x"))],
            &[("", dir()), ("a", link("b")), ("a/x", file("x"))],
        );
        mapping.exact = Exact::Orphans;
        assert!(
            mapping
                .changes()
                .iter()
                .all(|change| !change.starts_with("delete"))
        );
    }
}
