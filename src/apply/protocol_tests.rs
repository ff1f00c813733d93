//! The commit protocol, small enough to try every moment at which it can be cut off.
//!
//! Real are all decisions: [`build`], [`half_done`], [`program::compile`], the [`ListingTrust`] and what is
//! recorded. Modelled are the two machines. A host is a map from paths to entries; the steps of a
//! program are taken on it one system call at a time, in the order of `commit.pl`, and the kernel's
//! rules that the protocol rests on hold: a link is never made over something, a folder that is not
//! empty is not removed, a folder that may not be written stays as it is. What the client writes is
//! one record, before the first step and after the last.
//!
//! Between any two system calls the run can end (both machines or one of them: what is left is the
//! same), or somebody else can do something. Then comes the next plan, from what is left, and its
//! apply, which may end anywhere, too. Not modelled: a kernel that dies, and so forgets what was not
//! flushed; and what SSH does, which ends in one of the moments above.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use rayon::iter::{IntoParallelRefIterator as _, ParallelIterator as _};

use super::listing_trust::ListingTrust;
use super::program::{self, Job, Staged};
use super::record::with_changes;
use crate::config::{Auth, Exact, Excludes, Host, Mapping, MaxDelete, Modes, SymlinkPolicy};
use crate::model::{
    Blake3, ContentDigest, Entry, HostId, Kind, LocalPath, Mode, Node, RelPath, RemotePath, Tree,
};
use crate::plan::build::{MappingInput, Policy, build};
use crate::plan::prepared::{PreparedHost, Terms};
use crate::plan::{Action, Actual, Change, interrupted};
use crate::remote::tasks::look::{
    Algorithm, DestPlace, HostFacts, HostLook, Listing, Place, Seen, StatTuple,
};
use crate::source::local::SourceTree;

const DEVICE: u64 = 7;
const UID: u32 = 1000;
/// When every source was modified; the clock of hosts is later.
const SENT_MTIME: i64 = 1;

// --- trees -------------------------------------------------------------------------------------------

fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

fn file(text: &str, bits: u32) -> Node {
    Node::File {
        // Never tells two contents apart.
        size_bytes: 4,
        mode: Mode::new(bits),
        digest: ContentDigest {
            blake3: Some(Blake3::of(text.as_bytes())),
            sha256: None,
        },
    }
}

fn dir(bits: u32) -> Node {
    Node::Dir {
        mode: Mode::new(bits),
    }
}

fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.as_bytes().into(),
    }
}

/// Everything that `e` can be. All of these become all others.
fn shapes() -> Vec<Vec<(&'static str, Node)>> {
    vec![
        vec![],
        vec![("e", file("e1", 0o644))],
        vec![("e", file("e2", 0o644))],
        vec![("e", file("e1", 0o200))],
        vec![("e", link("x"))],
        vec![("e", dir(0o755))],
        vec![("e", dir(0o755)), ("e/f", file("f1", 0o644))],
        vec![("e", dir(0o555)), ("e/f", file("f1", 0o644))],
        vec![
            ("e", dir(0o555)),
            ("e/f", file("f2", 0o644)),
            ("e/g", file("g1", 0o644)),
        ],
        vec![
            ("e", dir(0o755)),
            ("e/f", link("y")),
            ("e/g", dir(0o500)),
            ("e/g/h", file("h1", 0o644)),
        ],
    ]
}

/// A folder with `e`, and a file beside it that is in its `version`.
fn tree(shape: &[(&'static str, Node)], version: u32) -> Tree {
    let mut entries = vec![("", dir(0o755)), ("s", file(&format!("s{version}"), 0o644))];
    entries.extend_from_slice(shape);
    let entry = |(text, node)| Entry {
        path: path(text),
        node,
    };
    entries.into_iter().map(entry).collect()
}

// --- the host ----------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Item {
    node: Node,
    inode: u64,
    modified: i64,
    changed: u64,
}

impl Item {
    fn stat(&self) -> StatTuple {
        let kind = match self.node.kind() {
            Kind::Dir => 0o040_000,
            Kind::Symlink => 0o120_000,
            _ => 0o100_000,
        };
        let bits = self.node.mode().map_or(0o777, Mode::bits);
        let line = format!(
            "{:x} 4 {} - - {} - - {} {UID} {UID} {DEVICE} ",
            kind | bits,
            self.modified,
            self.changed,
            self.inode,
        );
        StatTuple::from_line(line.as_bytes()).unwrap().0
    }

    fn content(&self) -> Option<Blake3> {
        match &self.node {
            Node::File { digest, .. } => digest.blake3,
            _ => None,
        }
    }
}

/// What a listing says of every recorded entry.
type Stats = BTreeMap<RelPath, StatTuple>;

#[derive(Clone, Debug, Default)]
struct ModelHost {
    there: BTreeMap<RelPath, Item>,
    backups: Vec<Item>,
    listing: Option<Stats>,
    clock: u64,
}

/// Refusal a system call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Denied;

impl ModelHost {
    fn with(tree: &Tree) -> Self {
        let mut host = Self {
            clock: 1000,
            ..Self::default()
        };
        for entry in tree.entries() {
            let item = host.new_item(entry.node.clone());
            host.there.insert(entry.path.clone(), item);
        }
        host
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn new_item(&mut self, node: Node) -> Item {
        let now = self.tick();
        Item {
            node,
            inode: now,
            modified: now.cast_signed(),
            changed: now,
        }
    }

    fn node(&self, path: &RelPath) -> Option<&Node> {
        self.there.get(path).map(|item| &item.node)
    }

    fn has_entries(&self, folder: &RelPath) -> bool {
        self.there.keys().any(|path| path.is_below(folder))
    }

    /// Whether entries of the folder that holds `path` may come and go.
    fn permits(&self, path: &RelPath) -> Result<(), Denied> {
        match path.parent().map(|parent| self.node(&parent).cloned()) {
            None => Ok(()),
            Some(Some(Node::Dir { mode })) if mode.bits() & 0o300 == 0o300 => Ok(()),
            Some(_) => Err(Denied),
        }
    }

    /// The change time of an entry that appears or goes is also that of its folder.
    fn touch_parent(&mut self, path: &RelPath) {
        let now = self.tick();
        if let Some(folder) = path.parent().and_then(|parent| self.there.get_mut(&parent)) {
            (folder.modified, folder.changed) = (now.cast_signed(), now);
        }
    }

    fn put(&mut self, path: &RelPath, mut item: Item) {
        item.changed = self.tick();
        self.there.insert(path.clone(), item);
        self.touch_parent(path);
    }

    fn take(&mut self, path: &RelPath) -> Result<Item, Denied> {
        self.permits(path)?;
        let item = self.there.remove(path).ok_or(Denied)?;
        self.touch_parent(path);
        Ok(item)
    }

    fn rmdir(&mut self, path: &RelPath) -> Result<(), Denied> {
        let is_folder = self.node(path).map(Node::kind) == Some(Kind::Dir);
        if !is_folder || self.has_entries(path) {
            return Err(Denied);
        }
        self.take(path).map(|_| ())
    }

    fn chmod(&mut self, path: &RelPath, bits: u32) -> Result<(), Denied> {
        let now = self.tick();
        let item = self.there.get_mut(path).ok_or(Denied)?;
        match &mut item.node {
            Node::File { mode, .. } | Node::Dir { mode } => *mode = Mode::new(bits),
            _ => return Err(Denied),
        }
        item.changed = now;
        Ok(())
    }

    /// All contents that are in place or in a backup.
    fn contents(&self) -> HashSet<Blake3> {
        let items = self.there.values().chain(&self.backups);
        items.filter_map(Item::content).collect()
    }

    fn tree(&self) -> Tree {
        let entry = |(path, item): (&RelPath, &Item)| Entry {
            path: path.clone(),
            node: item.node.clone(),
        };
        self.there.iter().map(entry).collect()
    }
}

// --- somebody else -----------------------------------------------------------------------------------

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    /// Writes into the file that is there.
    Rewrite,
    /// Renames a file of theirs over what is there, or to where nothing is.
    Replace,
    Remove,
    Chmod,
}

const DEEDS: [Deed; 4] = [Deed::Rewrite, Deed::Replace, Deed::Remove, Deed::Chmod];
const THEIR_PATHS: [&str; 4] = ["e", "e/f", "e/theirs", "s"];

/// What somebody else does, and when.
#[derive(Clone, Copy, Debug)]
struct Stranger {
    deed: Deed,
    path: &'static str,
    moment: usize,
}

impl Stranger {
    /// Does it; `false` where it cannot be done.
    fn strike(self, host: &mut ModelHost) -> bool {
        let at = path(self.path);
        let theirs = file("them", 0o644);
        let is_file = host.node(&at).map(Node::kind) == Some(Kind::File);
        match self.deed {
            Deed::Rewrite if is_file => {
                let now = host.tick();
                let inode = host.there[&at].inode;
                let everywhere = host.there.values_mut().chain(&mut host.backups);
                for item in everywhere.filter(|item| item.inode == inode) {
                    let mode = item.node.mode().unwrap();
                    item.node = file("them", mode.bits());
                    (item.modified, item.changed) = (now.cast_signed(), now);
                }
                true
            }
            Deed::Replace
                if host.permits(&at).is_ok()
                    && host.node(&at).map(Node::kind) != Some(Kind::Dir) =>
            {
                let item = host.new_item(theirs);
                host.put(&at, item);
                true
            }
            Deed::Remove => host.rmdir(&at).is_ok() || (is_file && host.take(&at).is_ok()),
            Deed::Chmod => {
                let folder = host.node(&at).map(Node::kind) == Some(Kind::Dir);
                host.chmod(&at, if folder { 0o711 } else { 0o604 }).is_ok()
            }
            _ => false,
        }
    }
}

// --- the client --------------------------------------------------------------------------------------

/// What the state has of the host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    tree: Tree,
    intended: Option<Tree>,
    listing: Option<Stats>,
}

/// A plan and what it was made from.
struct Look {
    host: Host,
    prepared: PreparedHost,
    changes: Vec<Change>,
}

fn configured(exact: Exact) -> Host {
    Host {
        id: HostId::new("a"),
        address: "a".to_owned(),
        port: 22,
        user: "u".to_owned(),
        auth: Auth::default(),
        groups: Vec::new(),
        mappings: vec![Mapping {
            src: LocalPath::new("/src"),
            src_as_written: "src".to_owned(),
            dest: RemotePath::from_dest(b"/d"),
            dest_as_written: "/d".to_owned(),
            exact,
            exclude: Excludes::default(),
            symlinks: SymlinkPolicy::Preserve,
        }],
        problem: None,
        login_problem: None,
    }
}

fn place() -> Place {
    Place {
        path: b"/".to_vec(),
        device: DEVICE,
        is_folder: true,
        is_writable: true,
    }
}

/// A file that has not moved is not hashed, even where its permission bits are asked for.
fn with_content_of(node: &Node, known: &Node) -> Node {
    let mut node = node.clone();
    if let (Node::File { digest, .. }, Node::File { digest: known, .. }) = (&mut node, known) {
        *digest = *known;
    }
    node
}

/// What the next plan finds.
fn look(there: &ModelHost, record: &Record, source: &Tree, exact: Exact) -> Look {
    let host = configured(exact);
    let known = match &record.intended {
        Some(intended) => interrupted::either(&record.tree, intended),
        None => record.tree.clone(),
    };
    let trusted = record
        .listing
        .as_ref()
        .filter(|_| there.listing == record.listing);
    let mut seen = HashMap::new();
    let mut entries = Vec::new();
    for (path, item) in &there.there {
        let is_asked =
            exact == Exact::Mirror || known.get(path).is_some() || source.get(path).is_some();
        if !is_asked {
            continue;
        }
        let stat = item.stat();
        let is_as_listed = trusted.is_some_and(|listing| listing.get(path) == Some(&stat));
        let node = match (known.get(path), source.get(path)) {
            (Some(known), Some(wanted)) if is_as_listed && known.same(wanted) => known.clone(),
            (Some(known), _) if is_as_listed => with_content_of(&item.node, known),
            _ => item.node.clone(),
        };
        let path = path.clone();
        let dest = host.mappings[0].dest.join(&path).as_bytes().to_vec();
        let node_seen = node.clone();
        seen.insert(
            dest,
            Seen {
                stat,
                node: node_seen,
            },
        );
        entries.push(Entry { path, node });
    }
    let actual = Actual::from(entries.into_iter().collect::<Tree>());
    let recorded = match &record.intended {
        Some(intended) => interrupted::settled(&record.tree, intended, &actual),
        None => record.tree.clone(),
    };
    let input = MappingInput {
        desired: source,
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
    let changes = build(&[input], policy).unwrap().changes;
    let source = SourceTree {
        root: LocalPath::new("/src"),
        mtimes: vec![SENT_MTIME; source.len()],
        tree: source.clone(),
        problems: Vec::new(),
    };
    let prepared = PreparedHost {
        sources: vec![Arc::new(source)],
        recorded: vec![Arc::new(recorded)],
        record: None,
        actual: vec![actual],
        look: HostLook {
            facts: HostFacts {
                algorithm: Algorithm::Blake3,
                hash_tool: "b3sum".to_owned(),
                uid: UID,
                gid: UID,
                has_scp: true,
                has_tar: true,
                has_agent: true,
            },
            places: vec![DestPlace {
                parent: place(),
                inside: None,
            }],
            staging: place(),
            has_leftovers: false,
            listing: Listing::NotAsked,
            seen,
            gone: HashSet::new(),
            closed: Vec::new(),
        },
        needs_visit: true,
        leaves_drift: false,
        terms: Terms::default(),
    };
    Look {
        host,
        prepared,
        changes,
    }
}

// --- the commit --------------------------------------------------------------------------------------

/// The run has ended.
struct Cut;

/// What is left when a run has ended, wherever it did.
#[derive(Clone, Debug)]
struct Left {
    host: ModelHost,
    record: Record,
    /// Whether it came to its end.
    is_finished: bool,
    /// Whether somebody else renamed something to where we were about to, between the backup of what was
    /// there before and our own rename: the one thing that nothing but an exchange could keep.
    is_lost: bool,
    /// Whether the stranger could do what it was to do.
    has_struck: bool,
}

struct Run<'a> {
    look: &'a Look,
    host: ModelHost,
    staged: BTreeMap<RelPath, Item>,
    cut_at: usize,
    stranger: Option<Stranger>,
    moment: usize,
    /// What lies between its backup and the rename over it.
    in_window: Option<RelPath>,
    is_lost: bool,
    has_struck: bool,
}

/// Carries out a plan, cut off at a moment.
fn apply(
    look: &Look,
    host: &ModelHost,
    record: &Record,
    cut_at: usize,
    stranger: Option<Stranger>,
) -> Left {
    let mut run = Run {
        look,
        host: host.clone(),
        staged: BTreeMap::new(),
        cut_at,
        stranger,
        moment: 0,
        in_window: None,
        is_lost: false,
        has_struck: false,
    };
    let mut record = record.clone();
    let is_finished = run.run(&mut record).is_ok();
    Left {
        host: run.host,
        record,
        is_finished,
        is_lost: run.is_lost,
        has_struck: run.has_struck,
    }
}

impl Run<'_> {
    /// Between two system calls.
    fn pass(&mut self) -> Result<(), Cut> {
        if let Some(stranger) = self.stranger
            && stranger.moment == self.moment
        {
            self.has_struck = stranger.strike(&mut self.host);
            self.is_lost |= self.has_struck
                && stranger.deed == Deed::Replace
                && self.in_window == Some(path(stranger.path));
        }
        if self.moment == self.cut_at {
            return Err(Cut);
        }
        self.moment += 1;
        Ok(())
    }

    fn run(&mut self, record: &mut Record) -> Result<(), Cut> {
        let changes: Vec<&Change> = self.look.changes.iter().collect();
        let prepared = &self.look.prepared;
        let recorded = &prepared.recorded[0];
        let actual = &prepared.actual[0];
        let source = &prepared.sources[0].tree;
        let program = program::compile(&Job {
            host: &self.look.host,
            prepared,
            changes: &changes,
            base_of: &[0],
            devices: &[DEVICE],
            large_from_bytes: u64::MAX,
        });
        assert!(program.impossible.is_empty());
        self.stage(&program.staged[0]);
        self.pass()?;

        let intended = with_changes(source, recorded, actual, changes.iter().copied());
        *record = Record {
            tree: (**recorded).clone(),
            intended: Some(intended),
            listing: None,
        };
        self.pass()?;

        let mut done = HashMap::new();
        let mut spared = HashSet::new();
        let mut begun = None;
        let mut lines = program.intent.split(|byte| *byte == b'\n');
        while let (Some(head), Some(at), Some(expected)) =
            (lines.next(), lines.next(), lines.next())
        {
            let head = String::from_utf8(head.to_vec()).unwrap();
            let words: Vec<&str> = head.split(' ').collect();
            let at = RelPath::new(at).unwrap();
            let expected = String::from_utf8(expected.to_vec()).unwrap();
            self.silent(&words, &at, &expected);
            if matches!(words[0], "link" | "touch" | "bits" | "parents") {
                continue;
            }
            if begun.is_none() {
                begun = Some(self.host.tick());
            }
            if words[0] == "relock" {
                let opened_by: usize = words[4].parse().unwrap();
                self.pass()?;
                let is_folder = self.host.node(&at).map(Node::kind) == Some(Kind::Dir);
                if done.contains_key(&opened_by) && is_folder {
                    self.host.chmod(&at, octal(words[3])).unwrap();
                }
                continue;
            }
            let number: usize = words[1].parse().unwrap();
            self.pass()?;
            let is_there = self.is_as_expected(&words, &at, &expected);
            self.pass()?;
            if !is_there {
                continue;
            }
            match self.step(&words, &at)? {
                Ok(()) => {
                    let time = self.host.there.get(&at).map(|item| item.changed);
                    _ = done.insert(number, time);
                }
                Err(Denied) if words[3] == "spare" => _ = spared.insert(number),
                Err(Denied) => {}
            }
        }
        self.pass()?;
        self.keep_listing(
            &with_changes(source, recorded, actual, changes.iter().copied()),
            &changes,
        );
        self.pass()?;
        self.record_end(record, &program, &changes, &done, &spared, begun);
        self.pass()
    }

    fn stage(&mut self, staged: &program::StagedTree) {
        for (components, staged) in staged {
            if components.len() == 1
                && !matches!(
                    staged,
                    Staged::Dir { mtime: Some(_), .. } | Staged::File { .. }
                )
            {
                continue;
            }
            let at = RelPath::new(components[1..].join(&b'/')).unwrap();
            let node = match staged {
                Staged::Dir { mode, .. } => Node::Dir { mode: *mode },
                Staged::File {
                    mode,
                    size_bytes,
                    digest,
                    ..
                } => Node::File {
                    size_bytes: *size_bytes,
                    mode: *mode,
                    digest: *digest,
                },
            };
            let mut item = self.host.new_item(node);
            item.modified = SENT_MTIME;
            self.staged.insert(at, item);
        }
    }

    /// What is done in staging, where nobody sees it.
    fn silent(&mut self, words: &[&str], at: &RelPath, target: &str) {
        match words[0] {
            "link" => {
                let item = self.host.new_item(link(target));
                self.staged.insert(at.clone(), item);
            }
            "bits" => {
                if let Some(Node::File { mode, .. } | Node::Dir { mode }) =
                    self.staged.get_mut(at).map(|item| &mut item.node)
                {
                    *mode = Mode::new(octal(words[3]));
                }
            }
            _ => {}
        }
    }

    fn is_as_expected(&self, words: &[&str], at: &RelPath, expected: &str) -> bool {
        let mut folders = std::iter::successors(at.parent(), RelPath::parent);
        let is_reached =
            folders.all(|folder| self.host.node(&folder).map(Node::kind) == Some(Kind::Dir));
        let is_folder = matches!(words[0], "clear" | "rmdir" | "unlock")
            || (words[0] == "chmod" && words[4] == "folder");
        let Some(item) = self.host.there.get(at) else {
            return is_reached && expected == "-";
        };
        let stat = item.stat();
        let is = if is_folder {
            format!("{} {}", stat.type_and_mode(), stat.inode())
        } else {
            stat.as_str().to_owned()
        };
        is_reached && is == expected
    }

    /// A step on the destination, once it was found to be as expected.
    fn step(&mut self, words: &[&str], at: &RelPath) -> Result<Result<(), Denied>, Cut> {
        match words[0] {
            "new" => self.place(at),
            "replace" => {
                let Some(old) = self.host.there.get(at).cloned() else {
                    return Ok(Err(Denied));
                };
                self.host.backups.push(old);
                self.in_window = Some(at.clone());
                self.pass()?;
                self.in_window = None;
                if let Err(denied) = self.host.permits(at) {
                    return Ok(Err(denied));
                }
                if self.host.node(at).map(Node::kind) == Some(Kind::Dir) {
                    return Ok(Err(Denied));
                }
                let new = self.staged.remove(at).unwrap();
                self.host.put(at, new);
                Ok(Ok(()))
            }
            "retype" => {
                let old = match self.host.take(at) {
                    Ok(old) => old,
                    Err(denied) => return Ok(Err(denied)),
                };
                self.host.backups.push(old.clone());
                self.pass()?;
                let placed = self.place(at)?;
                if placed.is_err() && self.host.node(at).is_none() {
                    self.pass()?;
                    if self.host.permits(at).is_ok() {
                        self.host.backups.pop();
                        self.host.put(at, old);
                    }
                }
                Ok(placed)
            }
            "clear" => {
                if let Err(denied) = self.host.rmdir(at) {
                    return Ok(Err(denied));
                }
                self.pass()?;
                self.place(at)
            }
            "delete" => Ok(self.host.take(at).map(|old| self.host.backups.push(old))),
            "rmdir" => Ok(self.host.rmdir(at)),
            "chmod" => Ok(self.host.chmod(at, octal(words[3]))),
            "unlock" => {
                let bits = self.host.node(at).and_then(Node::mode).unwrap().bits();
                Ok(self.host.chmod(at, bits | 0o700))
            }
            other => panic!("{other}"),
        }
    }

    /// Puts what is staged where nothing is.
    fn place(&mut self, at: &RelPath) -> Result<Result<(), Denied>, Cut> {
        if let Err(denied) = self.host.permits(at) {
            return Ok(Err(denied));
        }
        let is_folder = self.staged[at].node.kind() == Kind::Dir;
        if is_folder {
            // A rename takes an empty folder's place.
            if self.host.node(at).is_some() && self.host.rmdir(at).is_err() {
                return Ok(Err(Denied));
            }
            let below: Vec<RelPath> = self
                .staged
                .keys()
                .filter(|it| it.is_below(at))
                .cloned()
                .collect();
            let top = self.staged.remove(at).unwrap();
            for path in below {
                let item = self.staged.remove(&path).unwrap();
                self.host.there.insert(path, item);
            }
            self.host.put(at, top);
            return Ok(Ok(()));
        }
        if self.host.node(at).is_some() {
            return Ok(Err(Denied));
        }
        let item = self.staged.remove(at).unwrap();
        let inode = item.inode;
        self.host.put(at, item);
        self.pass()?;
        // The other name in staging goes, which shows in the inode.
        let now = self.host.tick();
        let item = self.host.there.get_mut(at);
        if let Some(item) = item.filter(|item| item.inode == inode) {
            item.changed = now;
        }
        Ok(Ok(()))
    }

    fn keep_listing(&mut self, after: &Tree, changes: &[&Change]) {
        let paths = after.entries().iter().map(|entry| &entry.path);
        let paths = paths.chain(changes.iter().map(|change| &change.path));
        let stat = |path: &RelPath| Some((path.clone(), self.host.there.get(path)?.stat()));
        self.host.listing = Some(paths.filter_map(stat).collect());
    }

    fn record_end(
        &self,
        record: &mut Record,
        program: &program::Program,
        changes: &[&Change],
        done: &HashMap<usize, Option<u64>>,
        spared: &HashSet<usize>,
        begun: Option<u64>,
    ) {
        let prepared = &self.look.prepared;
        let mut confirmed = BTreeSet::new();
        for (index, change) in changes.iter().enumerate() {
            if change.action == Action::Adopt {
                confirmed.insert(index);
            }
        }
        let listing = self.host.listing.as_ref().unwrap();
        let mut is_refused = false;
        for (step, covers) in program.steps.iter().enumerate() {
            for &index in covers {
                let (stat, after) = (listing.get(&changes[index].path), &changes[index].after);
                let is_as_planned = stat.zip(after.as_ref()).is_none_or(|(stat, node)| {
                    stat.kind() == node.kind() && node.mode().is_none_or(|mode| stat.mode() == mode)
                });
                if spared.contains(&step) || (done.contains_key(&step) && is_as_planned) {
                    confirmed.insert(index);
                } else {
                    is_refused = true;
                }
            }
        }
        let made = confirmed.iter().map(|index| changes[*index]);
        let tree = with_changes(
            &prepared.sources[0].tree,
            &prepared.recorded[0],
            &prepared.actual[0],
            made,
        );
        let dest = |path: &RelPath| {
            self.look.host.mappings[0]
                .dest
                .join(path)
                .as_bytes()
                .to_vec()
        };
        let sent = changes.iter().filter(|change| {
            matches!(change.action, Action::Create | Action::Update)
                && change.kind() == Kind::File
                && change.after.is_some()
        });
        let mtimes = sent
            .map(|change| (dest(&change.path), SENT_MTIME))
            .collect();
        let after: Vec<_> = listing
            .iter()
            .map(|(path, stat)| (dest(path), stat))
            .collect();
        let after = after
            .iter()
            .map(|(path, stat)| (path.as_slice(), *stat))
            .collect();
        let float = |time: u64| f64::from(u32::try_from(time).unwrap());
        let times = done
            .iter()
            .filter_map(|(step, time)| Some((*step, float((*time)?))));
        let listing_trust = ListingTrust {
            host: &self.look.host,
            seen: &prepared.look.seen,
            changes,
            steps: &program.steps,
            step_times: &times.collect(),
            mtimes: &mtimes,
            begun: begun.map(float),
            after: &after,
            unnamed_is_unmoved: false,
        };
        let trees = [tree];
        let is_trusted = !is_refused && listing_trust.stands_for(&trees);
        let [tree] = trees;
        *record = Record {
            tree,
            intended: None,
            listing: self.host.listing.clone().filter(|_| is_trusted),
        };
    }
}

fn octal(text: &str) -> u32 {
    u32::from_str_radix(text, 8).unwrap()
}

// --- what must hold ----------------------------------------------------------------------------------

/// Paths about which a plan may say that somebody else was there.
type Excused = BTreeSet<RelPath>;

fn excuses(excused: &Excused, path: &RelPath) -> bool {
    excused
        .iter()
        .any(|it| it == path || it.is_below(path) || path.is_below(it))
}

/// How far a story has come: what is left of its runs, and what may be said about it.
#[derive(Clone, Debug)]
struct Story {
    host: ModelHost,
    record: Record,
    excused: Excused,
    /// Contents that have to be in place or in a backup.
    kept: HashSet<Blake3>,
    /// What has happened, for people.
    told: String,
}

/// Makes two stories one, if nothing that decides about their future tells them apart.
type Key = (Blake3, Vec<Blake3>, Blake3, Option<Blake3>, bool);

impl Story {
    fn begin(host: ModelHost, tree: Tree) -> Self {
        Self {
            kept: host.contents(),
            host,
            record: Record {
                tree,
                ..Record::default()
            },
            excused: Excused::new(),
            told: String::new(),
        }
    }

    fn key(&self) -> Key {
        let mut backups: Vec<_> = self.host.backups.iter().filter_map(Item::content).collect();
        backups.sort_unstable();
        let Record {
            tree,
            intended,
            listing,
        } = &self.record;
        let is_listed = listing.is_some() && *listing == self.host.listing;
        let there = self.host.tree().digest();
        let intended = intended.as_ref().map(Tree::digest);
        (there, backups, tree.digest(), intended, is_listed)
    }

    /// The next plan; it has to be right about what was ours.
    fn look(&self, source: &Tree, exact: Exact) -> Look {
        let look = look(&self.host, &self.record, source, exact);
        let told = &self.told;
        for (path, node) in look.prepared.actual[0].iter() {
            assert_eq!(
                Some(node),
                self.host.node(path),
                "{told}: `{path}` is seen as it is not"
            );
        }
        for entry in look.prepared.recorded[0].entries() {
            assert!(
                excuses(&self.excused, &entry.path)
                    || self.host.node(&entry.path) == Some(&entry.node),
                "{told}: the state claims `{}`, {:?}",
                entry.path,
                entry.node
            );
        }
        let theirs = Some(Blake3::of(b"them"));
        for change in &look.changes {
            let is_flagged = change.drift || change.unmanaged || change.conflict;
            assert!(
                !is_flagged || excuses(&self.excused, &change.path),
                "{told}: ours is taken for theirs: {change:?}"
            );
            let content = match &change.before {
                Some(Node::File { digest, .. }) => digest.blake3,
                _ => None,
            };
            let destroys = matches!(change.action, Action::Update | Action::Delete);
            assert!(
                !destroys || content != theirs || change.conflict,
                "{told}: theirs is taken for ours: {change:?}"
            );
        }
        look
    }

    /// Carries out a plan, and judges what is left.
    fn go_on(
        &self,
        look: &Look,
        host: &ModelHost,
        cut_at: usize,
        stranger: Option<Stranger>,
    ) -> (Self, Left) {
        let left = apply(look, host, &self.record, cut_at, stranger);
        let mut next = self.clone();
        let cut = if left.is_finished {
            "to its end".to_owned()
        } else {
            format!("to {cut_at}")
        };
        next.told = format!(
            "{}; {:?} {cut}",
            self.told,
            stranger.filter(|_| left.has_struck)
        );
        for change in &look.changes {
            if change.drift || change.unmanaged {
                next.excused.insert(change.path.clone());
            }
        }
        if let Some(stranger) = stranger.filter(|_| left.has_struck) {
            let at = path(stranger.path);
            // What they wrote over is theirs to lose.
            let untouched = host.there.iter().filter(|(path, _)| **path != at);
            let untouched = untouched.map(|(_, item)| item).chain(&host.backups);
            next.kept = untouched.filter_map(Item::content).collect();
            if matches!(stranger.deed, Deed::Rewrite | Deed::Replace) && !left.is_lost {
                next.kept.insert(Blake3::of(b"them"));
            }
            next.excused.insert(at);
        }
        next.host = left.host.clone();
        next.record = left.record.clone();
        next.judge(look, host);
        (next, left)
    }

    /// Whether every entry is whole, old or new, and no content is lost.
    fn judge(&self, look: &Look, before: &ModelHost) {
        let told = &self.told;
        let contents = self.host.contents();
        assert!(self.kept.is_subset(&contents), "{told}: something is lost");
        let after: BTreeMap<_, _> = look
            .changes
            .iter()
            .map(|it| (&it.path, it.after.as_ref()))
            .collect();
        let paths = before.there.keys().chain(self.host.there.keys());
        for path in paths.filter(|path| !excuses(&self.excused, path)) {
            let old = before.node(path);
            let new = after.get(path).copied().unwrap_or(old);
            let now = self.host.node(path);
            let is_open = |node: Option<&Node>| match (node, now) {
                (Some(Node::Dir { mode }), Some(Node::Dir { mode: now })) => {
                    now.bits() == mode.bits() | 0o700
                }
                _ => false,
            };
            let is_between = now.is_none() && old.map(Node::kind) != new.map(Node::kind);
            assert!(
                now == old || now == new || is_open(old) || is_open(new) || is_between,
                "{told}: `{path}` is neither old nor new: {now:?}"
            );
        }
    }

    /// One more run does all that is left.
    fn converge(&self, source: &Tree, exact: Exact) {
        let finish = |story: &Self| {
            let look = story.look(source, exact);
            let (next, left) = story.go_on(&look, &story.host, usize::MAX, None);
            assert!(left.is_finished);
            let changes = next.look(source, exact).changes;
            assert!(changes.is_empty(), "{}: {changes:?} is left", next.told);
            next
        };
        let mut story = finish(self);
        if exact == Exact::Mirror && story.record.listing.is_none() {
            // Our own steps show in the folders of a mirror, as theirs would.
            story = finish(&story);
        }
        let told = story.told;
        assert!(story.record.listing.is_some(), "{told}: no listing is kept");
    }
}

impl Story {
    /// What somebody else did is seen, decided about, and then all is as the source says.
    fn converge_with_theirs(&self, source: &Tree, exact: Exact) {
        let mut story = self.clone();
        for _ in 0..3 {
            let look = story.look(source, exact);
            if look.changes.is_empty() {
                return;
            }
            (story, _) = story.go_on(&look, &story.host, usize::MAX, None);
        }
        let changes = story.look(source, exact).changes;
        // What lies unseen in a folder that has to make room stays, and so does the folder.
        let is_kept =
            |change: &Change| exact != Exact::Mirror && story.host.has_entries(&change.path);
        assert!(
            changes.iter().all(is_kept),
            "{}: {changes:?} is left",
            story.told
        );
    }
}

/// A tree becomes another one.
#[derive(Clone, Debug)]
struct Transition {
    old: Tree,
    new: Tree,
    third: Tree,
    exact: Exact,
    /// What is there before the first run, and nobody has recorded.
    is_unmanaged: bool,
}

impl Transition {
    fn all() -> Vec<Self> {
        let shapes = shapes();
        let mut all = Vec::new();
        for exact in [Exact::No, Exact::Orphans, Exact::Mirror] {
            for (index, old) in shapes.iter().enumerate() {
                for new in &shapes {
                    let third = &shapes[(index + 3) % shapes.len()];
                    all.push(Self {
                        old: tree(old, 1),
                        new: tree(new, 2),
                        third: tree(third, 3),
                        exact,
                        is_unmanaged: false,
                    });
                }
                all.push(Self {
                    old: Tree::default(),
                    new: tree(old, 1),
                    third: tree(&shapes[(index + 1) % shapes.len()], 2),
                    exact,
                    is_unmanaged: false,
                });
                if exact != Exact::Mirror && old.len() > 1 {
                    // A folder with what nobody has looked at makes no room.
                    continue;
                }
                all.push(Self {
                    old: tree(old, 1),
                    new: tree(&shapes[(index + 2) % shapes.len()], 2),
                    third: tree(&shapes[(index + 1) % shapes.len()], 3),
                    exact,
                    is_unmanaged: true,
                });
            }
        }
        all
    }

    fn begin(&self) -> Story {
        let host = ModelHost::with(&self.old);
        let recorded = if self.is_unmanaged {
            Tree::default()
        } else {
            self.old.clone()
        };
        let mut story = Story::begin(host, recorded);
        if self.is_unmanaged {
            story.excused = self
                .old
                .entries()
                .iter()
                .map(|entry| entry.path.clone())
                .collect();
        }
        story.told = format!("{:?}", self.exact);
        for (name, tree) in [
            ("old", &self.old),
            ("new", &self.new),
            ("third", &self.third),
        ] {
            let mut words = String::new();
            for entry in tree.entries() {
                let mode = entry
                    .node
                    .mode()
                    .map(|mode| mode.to_string())
                    .unwrap_or_default();
                let _ = write!(words, " {}:{:?}{mode}", entry.path, entry.node.kind());
            }
            let _ = write!(story.told, " {name}[{words} ]");
        }
        story
    }
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    runs: usize,
    states: usize,
    /// Times that something fell into the window of `rename`.
    lost: usize,
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |a, b| Self {
            runs: a.runs + b.runs,
            states: a.states + b.states,
            lost: a.lost + b.lost,
        })
    }
}

/// Every end of a run, from one plan.
fn ends(story: &Story, look: &Look, stranger: Option<Stranger>) -> Vec<(Story, Left)> {
    let mut ends = Vec::new();
    for cut_at in 0.. {
        let (next, left) = story.go_on(look, &story.host, cut_at, stranger);
        let is_last = left.is_finished;
        ends.push((next, left));
        if is_last {
            break;
        }
    }
    ends
}

fn in_all_transitions(what: &str, try_all: impl Fn(&Transition, &mut Count) + Sync) -> Count {
    let transitions = Transition::all();
    let count: Count = transitions
        .par_iter()
        .map(|transition| {
            let mut count = Count::default();
            try_all(transition, &mut count);
            count
        })
        .sum();
    println!(
        "{what}: {} transitions, {} runs, {} states",
        transitions.len(),
        count.runs,
        count.states
    );
    count
}

#[test]
fn run_that_is_cut_off_anywhere_twice_is_finished_by_the_next() {
    let count = in_all_transitions("two crashes", |transition, count| {
        let story = transition.begin();
        let look = story.look(&transition.new, transition.exact);
        let mut known = HashSet::new();
        for (story, _) in ends(&story, &look, None) {
            count.runs += 1;
            if !known.insert(story.key()) {
                continue;
            }
            for source in [&transition.new, &transition.old, &transition.third] {
                // The first install has none before.
                if source.is_empty() {
                    continue;
                }
                let look = story.look(source, transition.exact);
                let mut known_then = HashSet::new();
                for (story, _) in ends(&story, &look, None) {
                    count.runs += 1;
                    if known_then.insert(story.key()) {
                        story.converge(source, transition.exact);
                        count.runs += 1;
                    }
                }
                count.states += known_then.len();
            }
        }
        count.states += known.len();
    });
    assert!(count.states > 10_000);
}

#[test]
fn what_somebody_else_does_at_any_moment_is_neither_lost_nor_taken_for_ours() {
    let count = in_all_transitions("a crash and a stranger", |transition, count| {
        let story = transition.begin();
        let look = story.look(&transition.new, transition.exact);
        let moments = ends(&story, &look, None).len();
        let mut known = HashSet::new();
        for moment in 0..moments {
            for (deed, path) in DEEDS
                .into_iter()
                .flat_map(|deed| THEIR_PATHS.map(|path| (deed, path)))
            {
                let stranger = Stranger { deed, path, moment };
                // At once after that, and at the end.
                let cuts = [moment, moment + 1, moment + 2, usize::MAX];
                for cut_at in cuts {
                    let (story, left) = story.go_on(&look, &story.host, cut_at, Some(stranger));
                    count.runs += 1;
                    if !left.has_struck {
                        break;
                    }
                    count.lost += usize::from(left.is_lost);
                    if known.insert(story.key()) {
                        story.converge_with_theirs(&transition.new, transition.exact);
                        count.runs += 2;
                    }
                }
            }
        }
        count.states += known.len();
    });
    println!(
        "of these, {} fell between a backup and the rename over what it is of",
        count.lost
    );
    assert!(count.states > 10_000 && count.lost > 0);
}

#[test]
fn plan_from_the_middle_of_another_run_does_no_harm_after_it() {
    let count = in_all_transitions("a look from the middle", |transition, count| {
        let story = transition.begin();
        let first = story.look(&transition.new, transition.exact);
        let ends = ends(&story, &first, None);
        // The client of the first run is gone, its host goes on.
        let is_begun = |it: &&(Story, Left)| it.0.record.intended.is_some();
        let ends: Vec<_> = ends.iter().filter(is_begun).collect();
        for (index, (seen, _)) in ends.iter().enumerate() {
            for source in [&transition.new, &transition.third] {
                let look = seen.look(source, transition.exact);
                for (later, _) in [ends[index], ends[ends.len() - 1]] {
                    let mut now = seen.clone();
                    now.host = later.host.clone();
                    now.kept = later.kept.clone();
                    // It knows nothing of what came after its look, and may take that for theirs.
                    now.excused.insert(RelPath::root());
                    let (end, _) = now.go_on(&look, &now.host, usize::MAX, None);
                    end.converge_with_theirs(source, transition.exact);
                    count.runs += 2;
                }
            }
        }
        count.states += ends.len();
    });
    assert!(count.runs > 10_000);
}
