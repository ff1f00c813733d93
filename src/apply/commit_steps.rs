//! From the changes of a host to the steps of its commit.
//!
//! Pure: what is known of the host goes in, the upload and the list of steps come out. The order of
//! the steps is part of the promises: links and permission bits of what is staged first, then what
//! has to make room, then everything that appears or is replaced, then deletes from the deepest up,
//! then permission bits.

use std::collections::{BTreeMap, BTreeSet};

use super::job::{Job, staged_at};
use super::staged::{Origin, Staged, StagedTree};
use super::staging::Staging;
use crate::config::Exact;
use crate::model::{Kind, Meta, Mode, Node, RelPath};
use crate::plan::{Action, Change, Reason};
use crate::remote::StatTuple;
use crate::remote::tasks::commit::{ChmodExpected, FolderStat, NewGroup, NewOwner, Step, StepAt};

/// An entry that cannot be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Impossible {
    /// Index into the job's changes.
    pub(super) change: usize,
    pub(super) reason: String,
}

/// What a commit is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct CommitSteps {
    /// The steps, in their order. The index of one is its number.
    pub(super) steps: Vec<StepAt>,
    /// By step, the indices of the changes that it makes; the first one is the one that it is about.
    pub(super) changes: Vec<Vec<usize>>,
    /// What to stage, by staging folder.
    pub(super) staged: Vec<StagedTree>,
    /// Changes that are not attempted.
    pub(super) impossible: Vec<Impossible>,
}

/// Translates the changes. Files from `large_from_bytes` on are sent as blocks.
pub(super) fn compile(job: &Job<'_>, staging: &Staging, large_from_bytes: u64) -> CommitSteps {
    let mut compiler = Compiler {
        job,
        staging,
        large_from_bytes,
        commit: CommitSteps {
            staged: vec![StagedTree::new(); staging.bases.len()],
            ..CommitSteps::default()
        },
        done: vec![false; job.changes.len()],
        unlocked: BTreeMap::new(),
    };
    compiler.refuse_impossible();
    compiler.stage();
    compiler.unlock_folders();
    compiler.make_room();
    compiler.place();
    compiler.delete();
    compiler.set_modes();
    compiler.relock_folders();
    compiler.commit
}

struct Compiler<'a> {
    job: &'a Job<'a>,
    staging: &'a Staging,
    large_from_bytes: u64,
    commit: CommitSteps,
    /// Changes that have their step, or will not get one.
    done: Vec<bool>,
    /// Folders that may not be written by their owner and are opened for a while: with the bits that
    /// they get back, and the step that opens them.
    unlocked: BTreeMap<(usize, RelPath), (Mode, usize)>,
}

impl<'a> Compiler<'a> {
    fn change(&self, index: usize) -> &'a Change {
        self.job.changes[index]
    }

    fn indices(&self) -> std::ops::Range<usize> {
        0..self.job.changes.len()
    }

    fn stat(&self, mapping: usize, path: &RelPath) -> Option<&'a StatTuple> {
        let dest = self.job.host.mappings[mapping].dest.join(path);
        self.job
            .prepared
            .look
            .seen
            .get(dest.as_bytes())
            .map(|seen| &seen.stat)
    }

    /// Adds a step about a change, which makes this one and all else that `covers` has.
    fn step(&mut self, step: Step, index: usize, covers: Vec<usize>) {
        let change = self.change(index);
        for &covered in &covers {
            self.done[covered] = true;
        }
        self.push(change.mapping, &change.path, step, covers);
    }

    /// Adds a step that makes no change of the plan by itself.
    fn step_at(&mut self, mapping: usize, path: &RelPath, step: Step) {
        self.push(mapping, path, step, Vec::new());
    }

    fn push(&mut self, mapping: usize, path: &RelPath, step: Step, changes: Vec<usize>) {
        let path = path.clone();
        self.commit.steps.push(StepAt {
            mapping,
            path,
            step,
        });
        self.commit.changes.push(changes);
    }

    fn refuse(&mut self, change: usize, reason: impl Into<String>) {
        self.done[change] = true;
        self.commit.impossible.push(Impossible {
            change,
            reason: reason.into(),
        });
    }

    /// What must be there for an entry whose content is about to change; a file or link.
    fn expected(&self, change: &Change) -> Option<StatTuple> {
        self.stat(change.mapping, &change.path).cloned()
    }

    /// What must be there for a folder, whose times change with its entries.
    fn expected_folder(&self, change: &Change) -> Option<FolderStat> {
        let stat = self.stat(change.mapping, &change.path)?;
        let unlocked = self.unlocked.get(&(change.mapping, change.path.clone()));
        Some(match unlocked {
            // It was opened, so that it can be emptied.
            Some((mode, _)) => FolderStat::with_mode(stat, Mode::new(mode.bits() | 0o700)),
            None => FolderStat::of(stat),
        })
    }

    /// Steps are lines, a rename does not cross file systems, and adopting needs no step.
    fn refuse_impossible(&mut self) {
        for index in self.indices() {
            let change = self.change(index);
            if change.action == Action::Adopt {
                self.done[index] = true;
                continue;
            }
            if change.path.as_bytes().contains(&b'\n') {
                self.refuse(index, "has a newline in its name");
                continue;
            }
            let device = self.staging.devices[self.staging.base_of[change.mapping]];
            let parent = change.path.parent();
            let elsewhere = parent
                .and_then(|parent| self.stat(change.mapping, &parent))
                .is_some_and(|stat| stat.device() != device);
            if elsewhere && change.action != Action::Metadata {
                self.refuse(
                    index,
                    "lies on another file system than the rest of its mapping; give it a mapping \
                     of its own",
                );
            } else if change.before.is_some() && self.expected(change).is_none() {
                self.refuse(index, "was not looked at");
            }
        }
    }

    /// Whether the change makes a folder where none is: everything below comes with it.
    fn makes_folder(change: &Change) -> bool {
        change.kind() == Kind::Dir
            && (change.action == Action::Create
                || (change.action == Action::Update && change.reason == Reason::Type))
    }

    fn stage(&mut self) {
        // Folders in which something is put after they came.
        let mut finished = BTreeSet::new();
        for index in self.indices() {
            let change = self.change(index);
            if self.done[index] || !matches!(change.action, Action::Create | Action::Update) {
                continue;
            }
            let Some(after) = &change.after else { continue };
            let terms = &self.job.prepared.terms;
            let mtime = self.job.mtime_of(change);
            let base = self.staging.base_of[change.mapping];
            let components = staged_at(change.mapping, &change.path);
            let tree = &mut self.commit.staged[base];
            for depth in 1..components.len() {
                // What is only passed through stays private.
                tree.entry(components[..depth].to_vec())
                    .or_insert(Staged::Dir {
                        mode: Mode::new(0o700),
                        mtime: None,
                    });
            }
            match after {
                Node::File {
                    size_bytes,
                    meta: Meta { mode },
                    digest,
                } => {
                    let source = &self.job.prepared.sources[change.mapping].root;
                    let origin = match terms.backups(change.mapping, &change.path) {
                        None => Origin::Source(source.join(&change.path)),
                        Some(backups) => Origin::Backup(backups.to_vec()),
                    };
                    // Their content names them.
                    let is_large = matches!(origin, Origin::Source(_))
                        && *size_bytes >= self.large_from_bytes
                        && digest.blake3.is_some();
                    if is_large {
                        finished
                            .extend(change.path.parent().map(|parent| (change.mapping, parent)));
                    }
                    let staged = Staged::File {
                        // Its owner has to be able to verify it.
                        mode: Mode::new(mode.bits() | 0o400),
                        mtime,
                        size_bytes: *size_bytes,
                        origin,
                        digest: *digest,
                        is_large,
                    };
                    tree.insert(components, staged);
                    // What comes back has them only where it has got its owner back, too.
                    let has_special = mode.bits() & 0o7000 != 0 && !terms.brings_owner;
                    if has_special || mode.bits() & 0o400 == 0 {
                        // The kernel takes the special bits from a file that is written to.
                        let kept = if terms.brings_owner { 0o1777 } else { 0o7777 };
                        let mode = Mode::new(mode.bits() & kept);
                        self.step_at(change.mapping, &change.path, Step::Bits { mode });
                    }
                }
                Node::Dir { meta } => {
                    // Its owner has to be able to fill and to move it.
                    let mode = Mode::new(meta.mode.bits() | 0o700);
                    tree.insert(
                        components,
                        Staged::Dir {
                            mode,
                            mtime: terms.dates_folders.then_some(mtime),
                        },
                    );
                    if mode.bits() & 0o7000 != 0 {
                        // Not every program that receives an upload sets these bits.
                        self.step_at(change.mapping, &change.path, Step::Bits { mode });
                    }
                }
                Node::Symlink { target } => {
                    let target = target.clone();
                    self.step_at(change.mapping, &change.path, Step::Link { target });
                    finished.extend(change.path.parent().map(|parent| (change.mapping, parent)));
                }
                Node::Other { .. } => {}
            }
        }
        for (mapping, folder) in finished {
            self.keep_mtime(mapping, &folder);
        }
    }

    /// A link that is made in a staged folder, and a large file that is put there, must not change when
    /// that folder was modified.
    fn keep_mtime(&mut self, mapping: usize, folder: &RelPath) {
        let base = self.staging.base_of[mapping];
        let components = staged_at(mapping, folder);
        if let Some(Staged::Dir {
            mtime: Some(mtime), ..
        }) = self.commit.staged[base].get(&components)
        {
            let mtime = *mtime;
            self.step_at(mapping, folder, Step::Touch { mtime });
        }
    }

    /// Folders of the login user that may not be written even by their owner.
    fn unlock_folders(&mut self) {
        if self.job.prepared.look.facts.uid == 0 {
            return;
        }
        let mut closed = BTreeMap::new();
        for index in self.indices() {
            let change = self.change(index);
            if self.done[index] || change.action == Action::Metadata {
                continue;
            }
            let Some(parent) = change.path.parent() else {
                continue;
            };
            let actual = self.job.prepared.actual[change.mapping].get(&parent);
            if let Some(Node::Dir { meta }) = actual
                && meta.mode.bits() & 0o300 != 0o300
            {
                closed.insert((change.mapping, parent), meta.mode);
            }
        }
        for ((mapping, folder), mode) in closed {
            // Its own change of permission bits comes first, while it still is as it was.
            let own = self.indices().find(|&index| {
                let change = self.change(index);
                !self.done[index]
                    && change.action == Action::Metadata
                    && (change.mapping, &change.path) == (mapping, &folder)
            });
            let mut mode = mode;
            if let Some(index) = own {
                self.chmod(index);
                mode = self
                    .change(index)
                    .after
                    .as_ref()
                    .and_then(Node::mode)
                    .unwrap_or(mode);
            }
            let Some(stat) = self.stat(mapping, &folder) else {
                continue;
            };
            let expected = FolderStat::with_mode(stat, mode);
            let number = self.commit.steps.len();
            self.step_at(mapping, &folder, Step::Unlock { expected });
            self.unlocked.insert((mapping, folder), (mode, number));
        }
    }

    /// Deletes what is in a folder that becomes something else, then puts that in its place.
    fn make_room(&mut self) {
        let rooms: Vec<usize> = self
            .indices()
            .filter(|&index| {
                let change = self.change(index);
                !self.done[index]
                    && change.action == Action::Update
                    && change.before.as_ref().map(Node::kind) == Some(Kind::Dir)
            })
            .collect();
        for room in rooms {
            let top = self.change(room);
            let inside: Vec<usize> = self
                .indices()
                .filter(|&index| {
                    let change = self.change(index);
                    change.mapping == top.mapping && change.path.is_below(&top.path)
                })
                .collect();
            for index in inside.into_iter().rev() {
                if !self.done[index] && self.change(index).action == Action::Delete {
                    self.delete_one(index);
                }
            }
            if let Some(expected) = self.expected_folder(top) {
                self.step(Step::Clear { expected }, room, vec![room]);
            }
        }
    }

    fn place(&mut self) {
        for index in self.indices() {
            let change = self.change(index);
            if self.done[index] || !matches!(change.action, Action::Create | Action::Update) {
                continue;
            }
            let covers = if Self::makes_folder(change) {
                self.below(index)
            } else {
                vec![index]
            };
            if change.path.is_root() {
                self.make_parents(change.mapping);
            }
            let Some(before) = &change.before else {
                let group = self.inherited_group(change);
                self.step(Step::New { group }, index, covers.clone());
                self.finish_folders(&covers);
                continue;
            };
            let Some(expected) = self.expected(change) else {
                continue;
            };
            if change.reason == Reason::Type || before.kind() == Kind::Other {
                self.step(Step::Retype { expected }, index, covers.clone());
                self.finish_folders(&covers);
            } else {
                let owner = self.owner_to_keep(change);
                self.step(Step::Replace { expected, owner }, index, covers);
            }
        }
    }

    /// The change and everything that comes with it.
    fn below(&self, top: usize) -> Vec<usize> {
        let folder = self.change(top);
        self.indices()
            .filter(|&index| {
                let change = self.change(index);
                !self.done[index]
                    && change.mapping == folder.mapping
                    && (change.path == folder.path || change.path.is_below(&folder.path))
            })
            .collect()
    }

    /// Folders above a destination are made as any program would make them.
    fn make_parents(&mut self, mapping: usize) {
        let dest = self.job.host.mappings[mapping].dest.as_bytes();
        let end = dest.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let parent = if end == 0 { &dest[..1] } else { &dest[..end] };
        if self.job.prepared.look.places[mapping].parent.path != parent {
            self.step_at(mapping, &RelPath::root(), Step::Parents);
        }
    }

    /// New folders whose owner may not write them had to be open until now.
    fn finish_folders(&mut self, covers: &[usize]) {
        let after = self.commit.steps.len() - 1;
        for &index in covers.iter().rev() {
            let change = self.change(index);
            if let Some(Node::Dir { meta }) = &change.after
                && meta.mode.bits() & 0o700 != 0o700
            {
                let mode = meta.mode;
                self.step_at(change.mapping, &change.path, Step::Relock { mode, after });
            }
        }
    }

    /// Whether what is staged has got the owner that it is to have: that of its backup.
    fn has_own_owner(&self) -> bool {
        self.job.prepared.terms.brings_owner
    }

    /// A folder with the setgid bit gives its group to what is made in it.
    fn inherited_group(&self, change: &Change) -> Option<NewGroup> {
        if self.has_own_owner() {
            return None;
        }
        let parent = change.path.parent()?;
        let parent = self.stat(change.mapping, &parent)?;
        let mode = change.after.as_ref().and_then(Node::mode)?;
        let gid = parent.gid();
        let is_setgid = parent.mode().bits() & 0o2000 != 0;
        let is_other = gid != u64::from(self.job.prepared.look.facts.gid);
        (is_setgid && is_other).then_some(NewGroup { gid, mode })
    }

    /// Owner and group of a file that is replaced, where they are not those of the login.
    fn owner_to_keep(&self, change: &Change) -> Option<NewOwner> {
        if self.has_own_owner() {
            return None;
        }
        let facts = &self.job.prepared.look.facts;
        let stat = self.stat(change.mapping, &change.path)?;
        let mode = change.after.as_ref().and_then(Node::mode)?;
        let (uid, gid) = (stat.uid(), stat.gid());
        let is_other = uid != u64::from(facts.uid) || gid != u64::from(facts.gid);
        is_other.then_some(NewOwner { uid, gid, mode })
    }

    fn delete(&mut self) {
        for index in self.indices().rev() {
            if !self.done[index] && self.change(index).action == Action::Delete {
                self.delete_one(index);
            }
        }
    }

    fn delete_one(&mut self, index: usize) {
        let change = self.change(index);
        let is_folder = change.before.as_ref().map(Node::kind) == Some(Kind::Dir);
        let step = if is_folder {
            // A mirror was asked about all that is in it; else it may hold what is not ours.
            let exact = self.job.host.mappings[change.mapping].exact;
            let knows_all = exact == Exact::Mirror && self.job.prepared.terms.knows_mirrors;
            let is_spared = change.reason == Reason::Orphan && !knows_all;
            self.expected_folder(change).map(|expected| Step::Rmdir {
                expected,
                is_spared,
            })
        } else {
            self.expected(change)
                .map(|expected| Step::Delete { expected })
        };
        if let Some(step) = step {
            self.step(step, index, vec![index]);
        }
    }

    fn set_modes(&mut self) {
        // Folders last and from the deepest up: closing one must not lock us out of another.
        for index in self.indices().rev() {
            if !self.done[index] && self.change(index).action == Action::Metadata {
                self.chmod(index);
            }
        }
    }

    fn chmod(&mut self, index: usize) {
        let change = self.change(index);
        let Some(mode) = change.after.as_ref().and_then(Node::mode) else {
            return;
        };
        let expected = if change.kind() == Kind::Dir {
            self.expected_folder(change).map(ChmodExpected::Folder)
        } else {
            self.expected(change).map(ChmodExpected::File)
        };
        if let Some(expected) = expected {
            self.step(Step::Chmod { expected, mode }, index, vec![index]);
        }
    }

    fn relock_folders(&mut self) {
        for ((mapping, folder), (mode, opened_by)) in std::mem::take(&mut self.unlocked) {
            let after = opened_by;
            self.step_at(mapping, &folder, Step::Relock { mode, after });
        }
    }
}
