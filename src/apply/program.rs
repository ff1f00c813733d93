//! From the changes of a host to the steps that its commit script takes.
//!
//! Pure: what is known of the host goes in, the upload and the list of steps come out. The order of
//! the steps is part of the promises: links and permission bits of what is staged first, then what
//! has to make room, then everything that appears or is replaced, then deletes from the deepest up,
//! then permission bits.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::config::{Exact, Host};
use crate::model::{ContentDigest, Kind, LocalPath, Mode, Node, RelPath, RemotePath};
use crate::plan::prepared::PreparedHost;
use crate::plan::{Action, Change, Reason};
use crate::remote::tasks::look::StatTuple;
use crate::remote::tasks::receive::upload::clamped;

/// The type of a folder in `st_mode`.
const FOLDER: u32 = 0o40_000;

/// What a host is to be changed to, and what is known of it.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) host: &'a Host,
    pub(crate) prepared: &'a PreparedHost,
    /// The changes to make, ordered by mapping and path.
    pub(crate) changes: &'a [&'a Change],
    /// By mapping, the number of the staging folder that serves it.
    pub(crate) base_of: &'a [usize],
    /// Device numbers of the staging folders.
    pub(crate) devices: &'a [u64],
    /// Files from this size on are sent as blocks.
    pub(crate) large_from_bytes: u64,
}

/// Something to be staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    /// A folder, with its modification time where it is a new one.
    Dir { mode: Mode, mtime: Option<i64> },
    /// A file.
    File {
        mode: Mode,
        mtime: i64,
        size_bytes: u64,
        origin: Origin,
        digest: ContentDigest,
        /// Whether it is sent as blocks.
        is_large: bool,
    },
}

/// Where the bytes of a staged file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// They are sent from here.
    Source(LocalPath),
    /// The host has them in a backup: paths below its staging folder, the likeliest first.
    Backup(Vec<Vec<u8>>),
}

/// Everything that goes into one staging folder, by its components below `up`: so that a folder is
/// followed by all that is in it.
pub(crate) type StagedTree = BTreeMap<Vec<Vec<u8>>, Staged>;

/// An entry that cannot be done, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Impossible {
    /// Index into the job's changes.
    pub(crate) change: usize,
    pub(crate) reason: String,
}

/// What the commit script is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Program {
    /// The steps, as the script reads them.
    pub(crate) intent: Vec<u8>,
    /// For each step that answers, the indices of the changes it makes.
    pub(crate) steps: Vec<Vec<usize>>,
    /// What to upload, by staging folder.
    pub(crate) staged: Vec<StagedTree>,
    /// Changes that are not attempted.
    pub(crate) impossible: Vec<Impossible>,
}

/// When the source of an entry was modified, in seconds since 1970.
pub(crate) fn mtime_of(prepared: &PreparedHost, change: &Change) -> i64 {
    let source = &prepared.sources[change.mapping];
    let entries = source.tree.entries();
    entries
        .binary_search_by(|entry| entry.path.cmp(&change.path))
        .map_or(0, |at| source.mtimes[at])
}

/// Translates the changes.
pub(crate) fn compile(job: &Job<'_>) -> Program {
    let mut compiler = Compiler {
        job,
        program: Program {
            staged: vec![StagedTree::new(); job.devices.len()],
            ..Program::default()
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
    compiler.program
}

struct Compiler<'a> {
    job: &'a Job<'a>,
    program: Program,
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

    /// Writes a step that answers.
    fn step(
        &mut self,
        what: &str,
        index: usize,
        arguments: &str,
        expected: &str,
        covers: Vec<usize>,
    ) {
        let change = self.change(index);
        let number = self.program.steps.len();
        self.line(
            what,
            &number.to_string(),
            change.mapping,
            arguments,
            &change.path,
            expected.as_bytes(),
        );
        for &covered in &covers {
            self.done[covered] = true;
        }
        self.program.steps.push(covers);
    }

    /// Writes a step that does not answer.
    fn silent(
        &mut self,
        what: &str,
        mapping: usize,
        arguments: &str,
        path: &RelPath,
        third: &[u8],
    ) {
        self.line(what, "-", mapping, arguments, path, third);
    }

    fn line(
        &mut self,
        what: &str,
        number: &str,
        mapping: usize,
        arguments: &str,
        path: &RelPath,
        third: &[u8],
    ) {
        let head = format!("{what} {number} {mapping} {arguments}\n");
        let intent = &mut self.program.intent;
        intent.extend_from_slice(head.as_bytes());
        intent.extend_from_slice(path.as_bytes());
        intent.push(b'\n');
        intent.extend_from_slice(third);
        intent.push(b'\n');
    }

    fn refuse(&mut self, change: usize, reason: impl Into<String>) {
        self.done[change] = true;
        self.program.impossible.push(Impossible {
            change,
            reason: reason.into(),
        });
    }

    /// What must be there for an entry whose content is about to change; a file or link.
    fn expected(&self, change: &Change) -> Option<String> {
        self.stat(change.mapping, &change.path)
            .map(|stat| stat.as_str().to_owned())
    }

    /// What must be there for a folder, whose times change with its entries.
    fn expected_folder(&self, change: &Change) -> Option<String> {
        let stat = self.stat(change.mapping, &change.path)?;
        let unlocked = self.unlocked.get(&(change.mapping, change.path.clone()));
        Some(match unlocked {
            // It was opened, so that it can be emptied.
            Some((mode, _)) => {
                format!("{:x} {}", FOLDER | mode.bits() | 0o700, stat.inode())
            }
            None => format!("{} {}", stat.type_and_mode(), stat.inode()),
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
            let device = self.job.devices[self.job.base_of[change.mapping]];
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
            let mtime = mtime_of(self.job.prepared, change);
            let base = self.job.base_of[change.mapping];
            let components = components(change);
            let tree = &mut self.program.staged[base];
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
                    mode,
                    digest,
                } => {
                    let source = &self.job.prepared.sources[change.mapping].root;
                    let origin = match terms.backups(change.mapping, &change.path) {
                        None => Origin::Source(source.join(&change.path)),
                        Some(backups) => Origin::Backup(backups.to_vec()),
                    };
                    // Their content names them.
                    let is_large = matches!(origin, Origin::Source(_))
                        && *size_bytes >= self.job.large_from_bytes
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
                        let mode = Mode::new(mode.bits() & kept).to_string();
                        self.silent("bits", change.mapping, &mode, &change.path, b"");
                    }
                }
                Node::Dir { mode } => {
                    // Its owner has to be able to fill and to move it.
                    let mode = Mode::new(mode.bits() | 0o700);
                    tree.insert(
                        components,
                        Staged::Dir {
                            mode,
                            mtime: terms.dates_folders.then_some(mtime),
                        },
                    );
                    if mode.bits() & 0o7000 != 0 {
                        // Not every program that receives an upload sets these bits.
                        let mode = mode.to_string();
                        self.silent("bits", change.mapping, &mode, &change.path, b"");
                    }
                }
                Node::Symlink { target } => {
                    self.silent("link", change.mapping, "", &change.path, target);
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
        let base = self.job.base_of[mapping];
        let components = components_of(mapping, folder);
        if let Some(Staged::Dir {
            mtime: Some(mtime), ..
        }) = self.program.staged[base].get(&components)
        {
            let mtime = mtime.to_string();
            self.silent("touch", mapping, &mtime, folder, b"");
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
            if let Some(Node::Dir { mode }) = actual
                && mode.bits() & 0o300 != 0o300
            {
                closed.insert((change.mapping, parent), *mode);
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
            let expected = format!("{:x} {}", FOLDER | mode.bits(), stat.inode());
            let number = self.program.steps.len();
            self.line(
                "unlock",
                &number.to_string(),
                mapping,
                "",
                &folder,
                expected.as_bytes(),
            );
            self.program.steps.push(Vec::new());
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
                self.step("clear", room, "", &expected, vec![room]);
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
                let owner = self.inherited_group(change);
                self.step("new", index, &owner, "-", covers.clone());
                self.finish_folders(&covers);
                continue;
            };
            let Some(expected) = self.expected(change) else {
                continue;
            };
            if change.reason == Reason::Type || before.kind() == Kind::Other {
                self.step("retype", index, "", &expected, covers.clone());
                self.finish_folders(&covers);
            } else {
                let owner = self.owner_to_keep(change);
                self.step("replace", index, &owner, &expected, covers);
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
            self.silent("parents", mapping, "", &RelPath::root(), b"");
        }
    }

    /// New folders whose owner may not write them had to be open until now.
    fn finish_folders(&mut self, covers: &[usize]) {
        let placed_by = self.program.steps.len() - 1;
        for &index in covers.iter().rev() {
            let change = self.change(index);
            if let Some(Node::Dir { mode }) = &change.after
                && mode.bits() & 0o700 != 0o700
            {
                self.silent(
                    "relock",
                    change.mapping,
                    &format!("{mode} {placed_by}"),
                    &change.path,
                    b"",
                );
            }
        }
    }

    /// Whether what is staged has got the owner that it is to have: that of its backup.
    fn has_own_owner(&self) -> bool {
        self.job.prepared.terms.brings_owner
    }

    /// A folder with the setgid bit gives its group to what is made in it.
    fn inherited_group(&self, change: &Change) -> String {
        if self.has_own_owner() {
            return "=".to_owned();
        }
        let facts = &self.job.prepared.look.facts;
        let parent = change
            .path
            .parent()
            .and_then(|parent| self.stat(change.mapping, &parent));
        match (parent, change.after.as_ref().and_then(Node::mode)) {
            (Some(stat), Some(mode))
                if stat.mode().bits() & 0o2000 != 0 && stat.gid() != u64::from(facts.gid) =>
            {
                format!("{} {mode}", stat.gid())
            }
            _ => "=".to_owned(),
        }
    }

    /// Owner and group of a file that is replaced, where they are not those of the login.
    fn owner_to_keep(&self, change: &Change) -> String {
        if self.has_own_owner() {
            return "=".to_owned();
        }
        let facts = &self.job.prepared.look.facts;
        let stat = self.stat(change.mapping, &change.path);
        match (stat, change.after.as_ref().and_then(Node::mode)) {
            (Some(stat), Some(mode))
                if stat.uid() != u64::from(facts.uid) || stat.gid() != u64::from(facts.gid) =>
            {
                format!("{}:{} {mode}", stat.uid(), stat.gid())
            }
            _ => "=".to_owned(),
        }
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
        let (what, expected) = if is_folder {
            ("rmdir", self.expected_folder(change))
        } else {
            ("delete", self.expected(change))
        };
        if let Some(expected) = expected {
            // A mirror was asked about all that is in it; else it may hold what is not ours.
            let is_orphan = is_folder && change.reason == Reason::Orphan;
            let exact = self.job.host.mappings[change.mapping].exact;
            let knows_all = exact == Exact::Mirror && self.job.prepared.terms.knows_mirrors;
            let argument = if is_orphan && !knows_all { "spare" } else { "" };
            self.step(what, index, argument, &expected, vec![index]);
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
        // Of a file, the content has to be as it was, too: it is recorded together with the bits.
        let (expected, what) = if change.kind() == Kind::Dir {
            (self.expected_folder(change), "folder")
        } else {
            (self.expected(change), "file")
        };
        if let Some(expected) = expected {
            self.step(
                "chmod",
                index,
                &format!("{mode} {what}"),
                &expected,
                vec![index],
            );
        }
    }

    fn relock_folders(&mut self) {
        for ((mapping, folder), (mode, opened_by)) in std::mem::take(&mut self.unlocked) {
            self.silent(
                "relock",
                mapping,
                &format!("{mode} {opened_by}"),
                &folder,
                b"",
            );
        }
    }
}

/// Where a change is staged, below `up`: the mapping, then the path.
fn components(change: &Change) -> Vec<Vec<u8>> {
    components_of(change.mapping, &change.path)
}

fn components_of(mapping: usize, path: &RelPath) -> Vec<Vec<u8>> {
    let mut components = vec![mapping.to_string().into_bytes()];
    if !path.is_root() {
        components.extend(
            path.as_bytes()
                .split(|byte| *byte == b'/')
                .map(<[u8]>::to_vec),
        );
    }
    components
}

/// The staged files of all staging folders, and their digests: what the script verifies.
///
/// `None` when a digest is missing in the algorithm that the host computes.
pub(crate) fn verification(staged: &[StagedTree], is_blake3: bool) -> Option<(Vec<u8>, Vec<u8>)> {
    let (mut names, mut sums) = (Vec::new(), String::new());
    for (base, tree) in staged.iter().enumerate() {
        for (components, staged) in tree {
            let Staged::File { digest, .. } = staged else {
                continue;
            };
            let _ = if is_blake3 {
                writeln!(sums, "{}", digest.blake3?)
            } else {
                writeln!(sums, "{}", digest.sha256?)
            };
            names.extend_from_slice(format!("{base} ").as_bytes());
            names.extend_from_slice(&components.join(&b'/'));
            names.push(b'\n');
        }
    }
    Some((names, sums.into_bytes()))
}

/// The staged files that come in blocks, as the commit script reads them.
pub(crate) fn large_files(staged: &[StagedTree]) -> Vec<u8> {
    let mut text = Vec::new();
    for (base, tree) in staged.iter().enumerate() {
        let mut taken = BTreeSet::new();
        let mut lines = Vec::new();
        // From the last one: of those that share a partial, it is the one that gets it.
        for (components, staged) in tree.iter().rev() {
            if let Staged::File {
                is_large: true,
                mode,
                mtime,
                size_bytes,
                digest,
                ..
            } = staged
                && let Some(id) = digest.blake3
            {
                let how = if taken.insert(id.to_string()) {
                    "move"
                } else {
                    "copy"
                };
                let mtime = clamped(*mtime);
                let head = format!("{base} {id} {size_bytes} {mode} {mtime} {how}\n");
                lines.push([head.as_bytes(), &components.join(&b'/'), b"\n"].concat());
            }
        }
        lines.reverse();
        text.extend(lines.concat());
    }
    text
}

/// The staged files whose bytes the host has in a backup, as the restore script reads them. `None` when a
/// digest is missing in the algorithm that the host computes.
pub(crate) fn files_to_restore(staged: &StagedTree, is_blake3: bool) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    for (components, staged) in staged {
        let Staged::File {
            mode,
            size_bytes,
            origin: Origin::Backup(backups),
            digest,
            ..
        } = staged
        else {
            continue;
        };
        let digest = if is_blake3 {
            digest.blake3?.to_string()
        } else {
            digest.sha256?.to_string()
        };
        let head = format!("{size_bytes} {mode} {} {digest}\n", backups.len());
        text.extend([head.as_bytes(), &components.join(&b'/'), b"\n"].concat());
        for backup in backups {
            text.extend_from_slice(backup);
            text.push(b'\n');
        }
    }
    Some(text)
}

/// Bytes of content that the staged files have.
pub(crate) fn content_bytes(staged: &StagedTree) -> u64 {
    staged
        .values()
        .map(|staged| match staged {
            Staged::File { size_bytes, .. } => *size_bytes,
            Staged::Dir { .. } => 0,
        })
        .sum()
}

/// Bytes of content that an upload of all but the large files has. What the host has already is not sent.
pub(crate) fn small_bytes(staged: &StagedTree) -> u64 {
    let small = staged.values().map(|staged| match staged {
        Staged::File {
            is_large: false,
            size_bytes,
            origin: Origin::Source(_),
            ..
        } => *size_bytes,
        _ => 0,
    });
    small.sum()
}

/// The destination of a change, for people.
pub(crate) fn dest_of(host: &Host, change: &Change) -> RemotePath {
    host.mappings[change.mapping].dest.join(&change.path)
}
