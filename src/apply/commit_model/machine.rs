//! The host of the model: a map from paths to entries, the rules of its kernel, and somebody else who is
//! at work there.

use std::collections::{BTreeMap, HashSet};

use crate::model::{Blake3, ContentDigest, Entry, Kind, Mode, Node, RelPath, Tree};
use crate::remote::StatTuple;

pub(super) const DEVICE: u64 = 7;
pub(super) const UID: u32 = 1000;
/// When every source was modified; the clock of hosts is later.
pub(super) const SENT_MTIME: i64 = 1;

pub(super) fn path(text: &str) -> RelPath {
    RelPath::new(text).unwrap()
}

pub(super) fn file(text: &str, bits: u32) -> Node {
    Node::File {
        // Never tells two contents apart.
        size_bytes: 4,
        meta: Mode::new(bits).into(),
        digest: ContentDigest {
            blake3: Some(Blake3::of(text.as_bytes())),
            sha256: None,
        },
    }
}

pub(super) fn dir(bits: u32) -> Node {
    Node::Dir {
        meta: Mode::new(bits).into(),
    }
}

pub(super) fn link(target: &str) -> Node {
    Node::Symlink {
        target: target.as_bytes().into(),
    }
}

/// Everything that `e` can be. All of these become all others.
pub(super) fn shapes() -> Vec<Vec<(&'static str, Node)>> {
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
pub(super) fn tree(shape: &[(&'static str, Node)], version: u32) -> Tree {
    let mut entries = vec![("", dir(0o755)), ("s", file(&format!("s{version}"), 0o644))];
    entries.extend_from_slice(shape);
    let entry = |(text, node)| Entry {
        path: path(text),
        node,
    };
    entries.into_iter().map(entry).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Item {
    pub(super) node: Node,
    pub(super) inode: u64,
    pub(super) modified: i64,
    pub(super) changed: u64,
}

impl Item {
    pub(super) fn stat(&self) -> StatTuple {
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

    pub(super) fn content(&self) -> Option<Blake3> {
        match &self.node {
            Node::File { digest, .. } => digest.blake3,
            _ => None,
        }
    }
}

/// What a listing says of every recorded entry.
pub(super) type Stats = BTreeMap<RelPath, StatTuple>;

#[derive(Clone, Debug, Default)]
pub(super) struct ModelHost {
    pub(super) there: BTreeMap<RelPath, Item>,
    pub(super) backups: Vec<Item>,
    pub(super) listing: Option<Stats>,
    pub(super) clock: u64,
}

/// Refusal a system call was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Denied;

impl ModelHost {
    pub(super) fn with(tree: &Tree) -> Self {
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

    pub(super) fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    pub(super) fn new_item(&mut self, node: Node) -> Item {
        let now = self.tick();
        Item {
            node,
            inode: now,
            modified: now.cast_signed(),
            changed: now,
        }
    }

    pub(super) fn node(&self, path: &RelPath) -> Option<&Node> {
        self.there.get(path).map(|item| &item.node)
    }

    pub(super) fn has_entries(&self, folder: &RelPath) -> bool {
        self.there.keys().any(|path| path.is_below(folder))
    }

    /// Whether entries of the folder that holds `path` may come and go.
    pub(super) fn permits(&self, path: &RelPath) -> Result<(), Denied> {
        match path.parent().map(|parent| self.node(&parent).cloned()) {
            None => Ok(()),
            Some(Some(Node::Dir { meta })) if meta.mode.bits() & 0o300 == 0o300 => Ok(()),
            Some(_) => Err(Denied),
        }
    }

    /// The change time of an entry that appears or goes is also that of its folder.
    pub(super) fn touch_parent(&mut self, path: &RelPath) {
        let now = self.tick();
        if let Some(folder) = path.parent().and_then(|parent| self.there.get_mut(&parent)) {
            (folder.modified, folder.changed) = (now.cast_signed(), now);
        }
    }

    pub(super) fn put(&mut self, path: &RelPath, mut item: Item) {
        item.changed = self.tick();
        self.there.insert(path.clone(), item);
        self.touch_parent(path);
    }

    pub(super) fn take(&mut self, path: &RelPath) -> Result<Item, Denied> {
        self.permits(path)?;
        let item = self.there.remove(path).ok_or(Denied)?;
        self.touch_parent(path);
        Ok(item)
    }

    pub(super) fn rmdir(&mut self, path: &RelPath) -> Result<(), Denied> {
        let is_folder = self.node(path).map(Node::kind) == Some(Kind::Dir);
        if !is_folder || self.has_entries(path) {
            return Err(Denied);
        }
        self.take(path).map(|_| ())
    }

    pub(super) fn chmod(&mut self, path: &RelPath, bits: u32) -> Result<(), Denied> {
        let now = self.tick();
        let item = self.there.get_mut(path).ok_or(Denied)?;
        match &mut item.node {
            Node::File { meta, .. } | Node::Dir { meta } => meta.mode = Mode::new(bits),
            _ => return Err(Denied),
        }
        item.changed = now;
        Ok(())
    }

    /// All contents that are in place or in a backup.
    pub(super) fn contents(&self) -> HashSet<Blake3> {
        let items = self.there.values().chain(&self.backups);
        items.filter_map(Item::content).collect()
    }

    pub(super) fn tree(&self) -> Tree {
        let entry = |(path, item): (&RelPath, &Item)| Entry {
            path: path.clone(),
            node: item.node.clone(),
        };
        self.there.iter().map(entry).collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    /// Writes into the file that is there.
    Rewrite,
    /// Renames a file of theirs over what is there, or to where nothing is.
    Replace,
    Remove,
    Chmod,
}

pub(super) const DEEDS: [Deed; 4] = [Deed::Rewrite, Deed::Replace, Deed::Remove, Deed::Chmod];
pub(super) const THEIR_PATHS: [&str; 4] = ["e", "e/f", "e/theirs", "s"];

/// What somebody else does, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stranger {
    pub(super) deed: Deed,
    pub(super) path: &'static str,
    pub(super) moment: usize,
}

impl Stranger {
    /// Does it; `false` where it cannot be done.
    pub(super) fn strike(self, host: &mut ModelHost) -> bool {
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
