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
            Some(Node::Dir {
                meta: Meta { mode },
            }) => Node::Dir {
                meta: Meta { mode: *mode },
            },
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
mod tests;
