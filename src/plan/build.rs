//! The function that builds the plan of one host.
//!
//! Pure: what is desired (the source), what is recorded (the state) and what is actual (the host)
//! go in, changes come out. No network, no clock, no file system.

use std::collections::BTreeSet;

use crate::config::{Exact, Excludes, ExcludesInOrder, MaxDelete, Modes};
use crate::model::{Entry, Kind, Meta, Mode, Node, RelPath, Tree};

use super::{Action, Actual, Change, Reason};

/// What is known about one mapping of a host.
#[derive(Clone, Copy, Debug)]
pub struct MappingInput<'a> {
    /// The source.
    pub desired: &'a Tree,
    /// What the state says was written last; empty when it has never heard of the mapping.
    pub recorded: &'a Tree,
    /// What is on the host, of the desired and the recorded entries; for a mirror, everything.
    pub actual: &'a Actual,
    /// What happens to what the source does not have.
    pub exact: Exact,
    /// Paths that are none of our business.
    pub exclude: &'a Excludes,
    /// Paths of the source that cannot be sent; they, and what lies below, stay as they are.
    pub unsendable: &'a [RelPath],
}

/// What the configuration says about planning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which permission bits count.
    pub modes: Modes,
    /// Largest share of a mapping that may be deleted.
    pub max_delete: MaxDelete,
}

/// The changes of one host.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct HostChanges {
    /// Ordered by mapping, then by path.
    pub changes: Vec<Change>,
    /// How many entries are right and recorded.
    pub unchanged: usize,
}

/// The plan would delete more of a mapping than is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{deletes} of {entries} entries would be deleted, more than `max_delete` allows ({percent}%)"
)]
pub struct TooManyDeletes {
    /// Index of the mapping.
    pub mapping: usize,
    /// How many entries would go.
    pub deletes: usize,
    /// How many entries there are.
    pub entries: usize,
    /// The limit.
    pub percent: u8,
}

/// Compares the three trees of every mapping of a host.
///
/// # Errors
/// When a mapping would lose more than `policy.max_delete`: an empty source is an accident until
/// somebody says otherwise.
pub fn build(mappings: &[MappingInput<'_>], policy: Policy) -> Result<HostChanges, TooManyDeletes> {
    let mut result = HostChanges::default();
    for (index, input) in mappings.iter().enumerate() {
        let first = result.changes.len();
        MappingBuilder {
            index,
            input,
            policy,
            result: &mut result,
        }
        .run();
        check_deletes(index, input, &result.changes[first..], policy.max_delete)?;
    }
    Ok(result)
}

fn check_deletes(
    mapping: usize,
    input: &MappingInput<'_>,
    changes: &[Change],
    limit: MaxDelete,
) -> Result<(), TooManyDeletes> {
    let is_delete = |change: &&Change| change.action == Action::Delete && !change.path.is_root();
    let deletes = changes.iter().filter(is_delete).count();
    if deletes == 0 {
        return Ok(());
    }
    let recorded = input.recorded.entries().iter().map(|entry| &entry.path);
    let recorded = recorded.filter(|path| !path.is_root()).count();
    let actual = input.actual.iter();
    let actual = actual.filter(|(path, _)| !path.is_root()).count();
    let entries = recorded.max(actual).max(1);
    if limit.allows(deletes, entries) {
        return Ok(());
    }
    Err(TooManyDeletes {
        mapping,
        deletes,
        entries,
        percent: limit.percent,
    })
}

/// Some subtrees, asked about in the byte order of paths.
///
/// What lies below a path does not follow it at once (`a`, `a-b`, `a/c`), but all of it shares the
/// path as a prefix: so a stack of prefixes is enough.
#[derive(Default)]
pub(super) struct Subtrees<'a>(Vec<&'a RelPath>);

impl<'a> Subtrees<'a> {
    pub(super) fn push(&mut self, top: &'a RelPath) {
        self.0.push(top);
    }

    /// Whether `path` lies below one of them. Paths must be asked about in ascending order.
    pub(super) fn hold(&mut self, path: &RelPath) -> bool {
        while self
            .0
            .last()
            .is_some_and(|top| !path.as_bytes().starts_with(top.as_bytes()))
        {
            self.0.pop();
        }
        self.0.iter().any(|top| path.is_below(top))
    }
}

/// The three sides of one path.
struct Sides<'a> {
    path: &'a RelPath,
    desired: Option<&'a Node>,
    recorded: Option<&'a Node>,
    actual: Option<&'a Node>,
}

struct MappingBuilder<'a, 'b> {
    index: usize,
    input: &'a MappingInput<'a>,
    policy: Policy,
    result: &'b mut HostChanges,
}

impl MappingBuilder<'_, '_> {
    fn run(&mut self) {
        let input = self.input;
        let kept = self.kept_folders();
        // What is no folder on the host: what a lookup found "below" it, it found through a symbolic
        // link, and that is not ours.
        let mut no_folders = Subtrees::default();
        // Folders on the host that have to make room for something else.
        let mut making_room = Subtrees::default();
        let mut left_out = LeftOut::of(input);
        let ours = |sides: &Sides<'_>| sides.desired.is_some() || !left_out.holds(sides.path);
        for mut sides in three_way(input).filter(ours) {
            let is_dir = |node: Option<&Node>| node.is_some_and(|node| node.kind() == Kind::Dir);
            if no_folders.hold(sides.path) {
                sides.actual = None;
            } else if sides.actual.is_some() && !is_dir(sides.actual) {
                no_folders.push(sides.path);
            }
            let in_the_way = making_room.hold(sides.path);
            if !in_the_way
                && is_dir(sides.actual)
                && sides.desired.is_some_and(|node| node.kind() != Kind::Dir)
            {
                making_room.push(sides.path);
            }
            match sides.desired {
                Some(desired) => self.wanted(&sides, desired),
                // It goes with the folder: a conflict where that is not what was written here.
                None if in_the_way => self.unwanted(&sides),
                None if kept.contains(sides.path) => {}
                None => match input.exact {
                    Exact::No => {}
                    // Only what was written here, and only while it is still what was written.
                    Exact::Orphans if !self.is_ours(sides.recorded, sides.actual) => {}
                    Exact::Orphans | Exact::Mirror => self.unwanted(&sides),
                },
            }
        }
    }

    /// The source has it.
    fn wanted(&mut self, sides: &Sides<'_>, desired: &Node) {
        let after = with_policy(self.policy.modes, desired, sides.actual);
        let Some(actual) = sides.actual else {
            let drift = sides.recorded.is_some();
            self.push(sides, Action::Create, Reason::Missing, drift, Some(after));
            return;
        };
        let drift = sides
            .recorded
            .is_some_and(|recorded| !self.same(recorded, actual));
        if self.same(&after, actual) {
            if sides
                .recorded
                .is_some_and(|recorded| self.same(recorded, &after))
            {
                self.result.unchanged += 1;
            } else {
                self.push(sides, Action::Adopt, Reason::Recorded, false, Some(after));
            }
        } else if after.same_content(actual) {
            self.push(sides, Action::Metadata, Reason::Mode, drift, Some(after));
        } else {
            let reason = if after.kind() == actual.kind() {
                Reason::Content
            } else {
                Reason::Type
            };
            self.push(sides, Action::Update, reason, drift, Some(after));
        }
    }

    /// The source does not have it, and it goes.
    fn unwanted(&mut self, sides: &Sides<'_>) {
        if sides.actual.is_none() {
            return;
        }
        if sides.recorded.is_some() {
            let drift = !self.is_ours(sides.recorded, sides.actual);
            self.push(sides, Action::Delete, Reason::Orphan, drift, None);
        } else {
            self.push(sides, Action::Delete, Reason::Extraneous, false, None);
        }
    }

    /// Whether it was written here and is still what was written.
    fn is_ours(&self, recorded: Option<&Node>, actual: Option<&Node>) -> bool {
        recorded
            .zip(actual)
            .is_some_and(|(recorded, actual)| self.same(recorded, actual))
    }

    /// Folders that stay because something in them does.
    fn kept_folders(&self) -> BTreeSet<RelPath> {
        let input = self.input;
        let mut kept = BTreeSet::new();
        if input.exact == Exact::No {
            return kept;
        }
        let mut left_out = LeftOut::of(input);
        let stays = |sides: &Sides<'_>| {
            sides.actual.is_some()
                && (left_out.holds(sides.path)
                    || (input.exact == Exact::Orphans
                        && sides.desired.is_none()
                        && !self.is_ours(sides.recorded, sides.actual)))
        };
        let staying = three_way(input).filter(stays).map(|sides| sides.path);
        for path in staying.chain(input.unsendable) {
            let mut parent = path.parent();
            while let Some(folder) = parent {
                parent = folder.parent();
                if !kept.insert(folder) {
                    break;
                }
            }
        }
        kept
    }

    fn same(&self, a: &Node, b: &Node) -> bool {
        is_same(self.policy.modes, a, b)
    }

    fn push(
        &mut self,
        sides: &Sides<'_>,
        action: Action,
        reason: Reason,
        drift: bool,
        after: Option<Node>,
    ) {
        let unmanaged = sides.actual.is_some() && sides.recorded.is_none();
        let destroys = match (action, sides.actual) {
            // An empty folder holds no bytes; one that is not empty is never removed.
            (Action::Delete, Some(actual)) => actual.kind() != Kind::Dir,
            (Action::Update, Some(_)) => true,
            _ => false,
        };
        self.result.changes.push(Change {
            mapping: self.index,
            path: sides.path.clone(),
            action,
            reason,
            drift,
            unmanaged: unmanaged && action != Action::Adopt,
            conflict: destroys && (drift || unmanaged),
            before: sides.actual.map(|actual| with_known_digests(actual, sides)),
            after,
        });
    }
}

/// Whether two entries are the same, as far as their permission bits count.
pub(super) fn is_same(modes: Modes, a: &Node, b: &Node) -> bool {
    a.same_content(b)
        && match modes {
            Modes::All => a.meta() == b.meta(),
            Modes::Executable => {
                a.kind() != Kind::File
                    || a.mode().map(Mode::is_executable) == b.mode().map(Mode::is_executable)
            }
        }
}

/// All paths of the three trees in order.
fn three_way<'a>(input: &'a MappingInput<'a>) -> impl Iterator<Item = Sides<'a>> {
    let mut desired = input.desired.entries().iter().peekable();
    let mut recorded = input.recorded.entries().iter().peekable();
    let mut actual = input.actual.iter().peekable();
    std::iter::from_fn(move || {
        let heads = [desired.peek(), recorded.peek()];
        let heads = heads.into_iter().flatten().map(|entry| &entry.path);
        let path = heads.chain(actual.peek().map(|(path, _)| *path)).min()?;
        let at = |entry: &&Entry| entry.path == *path;
        Some(Sides {
            path,
            desired: desired.next_if(at).map(|entry| &entry.node),
            recorded: recorded.next_if(at).map(|entry| &entry.node),
            actual: actual.next_if(|head| head.0 == path).map(|(_, node)| node),
        })
    })
}

/// What is none of our business.
struct LeftOut<'a> {
    excluded: ExcludesInOrder<'a>,
    unsendable: &'a [RelPath],
}

impl<'a> LeftOut<'a> {
    fn of(input: &MappingInput<'a>) -> Self {
        Self {
            excluded: input.exclude.in_order(),
            unsendable: input.unsendable,
        }
    }

    fn holds(&mut self, path: &RelPath) -> bool {
        let is_unsendable = |top: &RelPath| path == top || path.is_below(top);
        self.excluded.excludes(path) || self.unsendable.iter().any(is_unsendable)
    }
}

/// The node that will be there: the desired one, with the permission bits that the policy leaves
/// to the host.
fn with_policy(modes: Modes, desired: &Node, actual: Option<&Node>) -> Node {
    if modes == Modes::All {
        return desired.clone();
    }
    match desired {
        Node::File {
            size_bytes,
            meta: Meta { mode },
            digest,
        } => {
            let base = match actual {
                Some(Node::File {
                    meta: Meta { mode },
                    ..
                }) => mode.bits(),
                _ => 0o644,
            };
            let bits = if mode.is_executable() {
                // Whoever may read it may execute it, as git does.
                base | ((base & 0o444) >> 2)
            } else {
                base & !0o111
            };
            let mode = if Mode::new(base).is_executable() == mode.is_executable() {
                Mode::new(base)
            } else {
                Mode::new(bits)
            };
            Node::File {
                size_bytes: *size_bytes,
                meta: Meta { mode },
                digest: *digest,
            }
        }
        Node::Dir { .. } => match actual {
            Some(Node::Dir { meta }) => Node::Dir { meta: *meta },
            _ => Node::Dir {
                meta: Mode::new(0o755).into(),
            },
        },
        other => other.clone(),
    }
}

/// What is on the host, with the digests that are known from the other sides when the content is
/// the same: so hosts with different hash tools still share one change set.
fn with_known_digests(actual: &Node, sides: &Sides<'_>) -> Node {
    let mut node = actual.clone();
    if let Node::File {
        digest, size_bytes, ..
    } = &mut node
    {
        for side in [sides.recorded, sides.desired].into_iter().flatten() {
            if let Node::File {
                digest: known,
                size_bytes: known_size,
                ..
            } = side
                && known_size == size_bytes
                && digest.agrees_with(known) == Some(true)
            {
                *digest = digest.merged_with(known);
            }
        }
    }
    node
}

#[cfg(test)]
mod tests {
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
        fn new(
            desired: &[(&str, Node)],
            recorded: &[(&str, Node)],
            actual: &[(&str, Node)],
        ) -> Self {
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
                let mut line = format!("{:?} {} {:?}", change.action, change.path, change.reason)
                    .to_lowercase();
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
        let mut mapping =
            Mapping::new(&[("", dir())], &[("", dir()), ("ours", file("x"))], &actual);
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
}
