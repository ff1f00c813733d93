//! Trees: all entries of one mapping.

use std::cmp::Ordering;
use std::sync::OnceLock;

use serde::{Deserialize, Serialize};

use super::{Blake3, ContentDigest, Meta, Mode, RelPath};

/// What sort of thing an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link.
    Symlink,
    /// A device, socket or pipe. Only ever found on a host, never sent.
    Other,
}

/// What is found at a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Node {
    /// A regular file.
    File {
        /// Length in bytes.
        size_bytes: u64,
        /// All about it but its content.
        meta: Meta,
        /// Its content.
        digest: ContentDigest,
    },
    /// A folder.
    Dir {
        /// All about it but its content.
        meta: Meta,
    },
    /// A symbolic link. Its permission bits mean nothing.
    Symlink {
        /// Where it points, byte for byte.
        target: Box<[u8]>,
    },
    /// A device, socket or pipe. Only ever found on a host, never sent.
    Other {
        /// All about it but its content.
        meta: Meta,
    },
}

impl Node {
    /// What sort of thing this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::File { .. } => Kind::File,
            Self::Dir { .. } => Kind::Dir,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Other { .. } => Kind::Other,
        }
    }

    /// The metadata, for what has any.
    pub fn meta(&self) -> Option<Meta> {
        match self {
            Self::File { meta, .. } | Self::Dir { meta } | Self::Other { meta } => Some(*meta),
            Self::Symlink { .. } => None,
        }
    }

    /// The permission bits, for what has any.
    pub fn mode(&self) -> Option<Mode> {
        self.meta().map(|meta| meta.mode)
    }

    /// Same kind and same bytes (or target); metadata aside. Content whose digests share no
    /// algorithm counts as different.
    pub fn same_content(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::File {
                    size_bytes, digest, ..
                },
                Self::File {
                    size_bytes: other_size,
                    digest: other_digest,
                    ..
                },
            ) => size_bytes == other_size && digest.agrees_with(other_digest) == Some(true),
            (Self::Dir { .. }, Self::Dir { .. }) => true,
            (Self::Symlink { target }, Self::Symlink { target: other }) => target == other,
            _ => false,
        }
    }

    /// [`Node::same_content`] and the same metadata.
    pub fn same(&self, other: &Self) -> bool {
        self.same_content(other) && self.meta() == other.meta()
    }
}

/// One path of a tree and what is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// Where, relative to the root of the mapping.
    pub path: RelPath,
    /// What.
    pub node: Node,
}

/// All entries of one mapping.
///
/// Invariant: in byte order of their path, each path once.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: Vec<Entry>,
    /// Computed when it is first asked for: many hosts have the same tree.
    digest: OnceLock<Blake3>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        self.entries == other.entries
    }
}

impl Eq for Tree {}

impl Tree {
    /// Sorts the entries. Of two with the same path the first one is kept.
    pub fn from_entries(mut entries: Vec<Entry>) -> Self {
        if !entries.is_sorted_by(|a, b| a.path < b.path) {
            entries.sort_by(|a, b| a.path.cmp(&b.path));
            entries.dedup_by(|a, b| a.path == b.path);
        }
        Self {
            entries,
            digest: OnceLock::new(),
        }
    }

    /// The entries in byte order of their path.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The entry at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        self.entries
            .binary_search_by(|entry| entry.path.cmp(path))
            .ok()
            .map(|index| &self.entries[index].node)
    }

    /// The entries below `path`, without itself, in byte order of their path.
    pub fn below(&self, path: &RelPath) -> impl Iterator<Item = &Entry> {
        let mut prefix = path.as_bytes().to_vec();
        if !path.is_root() {
            prefix.push(b'/');
        }
        let is_before = |entry: &Entry| entry.path.as_bytes() < prefix.as_slice();
        let first = self.entries.partition_point(is_before);
        self.entries[first..]
            .iter()
            .take_while(move |entry| entry.path.as_bytes().starts_with(&prefix))
            .filter(|entry| !entry.path.is_root())
    }

    /// The paths of two trees in byte order, each with what this one and `other` have there.
    pub fn beside<'a>(
        &'a self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a RelPath, Option<&'a Node>, Option<&'a Node>)> {
        let mut ours = self.entries.iter().peekable();
        let mut theirs = other.entries.iter().peekable();
        std::iter::from_fn(move || {
            let order = match (ours.peek(), theirs.peek()) {
                (Some(our), Some(their)) => our.path.cmp(&their.path),
                (Some(_), None) => Ordering::Less,
                (None, _) => Ordering::Greater,
            };
            let our = ours.next_if(|_| order != Ordering::Greater);
            let their = theirs.next_if(|_| order != Ordering::Less);
            let path = &our.or(their)?.path;
            Some((path, our.map(|e| &e.node), their.map(|e| &e.node)))
        })
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is no entry, not even a root.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The digest that names this tree: over kind, path, permission bits, size, blake3 and link
    /// target of every entry. Two trees with the same digest are the same to a host.
    pub fn digest(&self) -> Blake3 {
        *self.digest.get_or_init(|| self.compute_digest())
    }

    fn compute_digest(&self) -> Blake3 {
        const CHUNK_BYTES: usize = 64 * 1024;
        let mut hasher = blake3::Hasher::new();
        // Small pieces are slow to hash.
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let mut field = |bytes: &[u8]| {
            if chunk.len() + bytes.len() > CHUNK_BYTES {
                hasher.update(&chunk);
                chunk.clear();
            }
            chunk.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            chunk.extend_from_slice(bytes);
        };
        for Entry { path, node } in &self.entries {
            field(path.as_bytes());
            field(match node.kind() {
                Kind::File => b"file",
                Kind::Dir => b"dir",
                Kind::Symlink => b"symlink",
                Kind::Other => b"other",
            });
            if let Node::File { size_bytes, .. } = node {
                field(&size_bytes.to_le_bytes());
            }
            for number in node.meta().into_iter().flat_map(Meta::numbers) {
                field(&number.to_le_bytes());
            }
            match node {
                Node::File { digest, .. } => match (digest.blake3, digest.sha256) {
                    (Some(blake3), _) => field(blake3.as_bytes()),
                    (None, Some(sha256)) => {
                        field(b"sha256");
                        field(sha256.as_bytes());
                    }
                    (None, None) => field(b"unknown"),
                },
                Node::Symlink { target } => field(target),
                Node::Dir { .. } | Node::Other { .. } => {}
            }
        }
        Blake3::from_bytes(*hasher.update(&chunk).finalize().as_bytes())
    }
}

impl FromIterator<Entry> for Tree {
    fn from_iter<I: IntoIterator<Item = Entry>>(iter: I) -> Self {
        Self::from_entries(iter.into_iter().collect())
    }
}
