//! How a source differs from what is recorded, and what that leaves to be asked of a host.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use crate::config::{Exact, Mapping};
use crate::model::{ContentDigest, Entry, Kind, Meta, Node, RelPath, RemotePath, Tree};
use crate::remote::Expected;
use crate::remote::tasks::look::{HostLook, Listing};
use crate::source::local::SourceTree;

use super::actual::Actual;
use super::build::Subtrees;

/// A source beside what is recorded.
#[derive(Debug)]
pub struct Comparison {
    /// The source.
    pub source: Arc<SourceTree>,
    /// What is recorded, with the digests that the source knows of the same content.
    pub recorded: Arc<Tree>,
    /// What is not the same on both sides; ascending by path.
    differing: Vec<Differing>,
    /// All entries of both, with paths below the mapping.
    known: Expected,
}

#[derive(Debug)]
struct Differing {
    path: RelPath,
    is_desired: bool,
}

impl Comparison {
    /// Compares the two.
    pub fn new(source: Arc<SourceTree>, recorded: &Arc<Tree>) -> Self {
        let sides = || source.tree.beside(recorded);
        let is_same = |desired: Option<&Node>, recorded: Option<&Node>| {
            desired
                .zip(recorded)
                .is_some_and(|(desired, recorded)| recorded.same(desired))
        };
        let differing = sides()
            .filter(|(_, desired, recorded)| !is_same(*desired, *recorded))
            .map(|(path, desired, _)| Differing {
                path: path.clone(),
                is_desired: desired.is_some(),
            })
            .collect();
        let is_complete = sides().all(|(_, desired, recorded)| {
            recorded.is_none_or(|recorded| with_digests_of(recorded, desired).is_none())
        });
        let recorded = if is_complete {
            Arc::clone(recorded)
        } else {
            let entry = |(path, desired, recorded): (&RelPath, _, Option<&Node>)| {
                let recorded = recorded?;
                let node = with_digests_of(recorded, desired).unwrap_or_else(|| recorded.clone());
                let path = path.clone();
                Some(Entry { path, node })
            };
            Arc::new(sides().filter_map(entry).collect())
        };
        let mut known = Expected::default();
        for Entry { path, node } in source.tree.entries().iter().chain(recorded.entries()) {
            let file_bytes = match node {
                Node::File { size_bytes, .. } => *size_bytes,
                _ => 0,
            };
            known.add_entry(path.as_bytes().len(), file_bytes);
        }
        Self {
            source,
            recorded,
            differing,
            known,
        }
    }

    /// Whether all that is desired is recorded, and nothing else.
    pub fn is_same(&self) -> bool {
        self.differing.is_empty()
    }

    /// What has to be asked about at the destination of `mapping`: everything, or what the trusted
    /// listing cannot answer (what the state has never heard of, and what is to be changed).
    pub fn paths_to_look_at(&self, mapping: &Mapping, with_listing: bool) -> Vec<RemotePath> {
        if with_listing {
            let differing = || self.differing.iter().map(|differing| &differing.path);
            // What is done in a folder depends on its file system, its group and its permission bits.
            let mut folders: Vec<RelPath> = differing().filter_map(RelPath::parent).collect();
            folders.sort_unstable();
            folders.dedup();
            let paths = differing().chain(&folders);
            return paths.map(|path| mapping.dest.join(path)).collect();
        }
        if mapping.exact == Exact::Mirror {
            // They are found anyway.
            return Vec::new();
        }
        let desired = self.source.tree.entries().iter().map(|entry| &entry.path);
        let others = self.differing.iter().filter(|it| !it.is_desired);
        let paths = desired.chain(others.map(|differing| &differing.path));
        paths.map(|path| mapping.dest.join(path)).collect()
    }

    /// What the host may speak of at the destination of `mapping`, as far as it is known here.
    pub fn expected(&self, mapping: &Mapping) -> Expected {
        let root_bytes = mapping.dest.as_bytes().len() as u64 + 1;
        Expected {
            path_bytes: self.known.path_bytes + self.known.entries * root_bytes,
            ..self.known
        }
    }

    /// What is at the destination of `mapping`, according to the answer of the host.
    pub fn actual(&self, mapping: &Mapping, look: &HostLook) -> Actual {
        let trusts_listing = matches!(look.listing, Listing::Same | Listing::Moved);
        let has_everything = mapping.exact == Exact::Mirror && !trusts_listing;
        let is_known = |path: &RelPath| {
            has_everything
                || self.recorded.get(path).is_some()
                || self.source.tree.get(path).is_some()
        };
        let here = |path: &[u8]| mapping.dest.strip_from(path).filter(is_known);
        let seen = look.seen.iter();
        let seen = seen.filter_map(|(path, seen)| {
            let relative = here(path)?;
            let is_as_listed = trusts_listing && !look.gone.contains(path);
            let recorded = self.recorded.get(&relative).filter(|_| is_as_listed);
            let node = with_recorded_digest(&seen.node, recorded);
            Some((relative, node))
        });
        if !trusts_listing {
            let entries = seen.map(|(path, node)| Entry { path, node });
            return Actual::from(without_hidden(entries.collect()));
        }
        let gone = look.gone.iter().filter_map(|path| here(path));
        let differing = self.differing.iter().map(|it| it.path.clone());
        let moved: BTreeMap<RelPath, Option<Node>> = differing
            .chain(gone)
            .map(|path| (path, None))
            .chain(seen.map(|(path, node)| (path, Some(node))))
            .collect();
        if moved.is_empty() {
            Actual::from(Arc::clone(&self.recorded))
        } else {
            Actual::with_moved(Arc::clone(&self.recorded), moved)
        }
    }
}

/// An entry of the host, of which its agent computes no digest where it has not moved since it was
/// recorded.
fn with_recorded_digest(seen: &Node, recorded: Option<&Node>) -> Node {
    match (seen, recorded) {
        (
            Node::File {
                size_bytes,
                meta: Meta { mode },
                digest,
            },
            Some(Node::File {
                size_bytes: recorded_bytes,
                digest: known,
                ..
            }),
        ) if *digest == ContentDigest::default() && size_bytes == recorded_bytes => Node::File {
            size_bytes: *size_bytes,
            meta: Meta { mode: *mode },
            digest: *known,
        },
        _ => seen.clone(),
    }
}

/// What is recorded of a file, if the source knows a digest of the same content that is not.
fn with_digests_of(recorded: &Node, desired: Option<&Node>) -> Option<Node> {
    let (
        Node::File {
            size_bytes,
            meta: Meta { mode },
            digest,
        },
        Some(Node::File { digest: known, .. }),
    ) = (recorded, desired)
    else {
        return None;
    };
    let knows_more = digest.merged_with(known) != *digest;
    (knows_more && digest.agrees_with(known) == Some(true)).then(|| Node::File {
        size_bytes: *size_bytes,
        meta: Meta { mode: *mode },
        digest: digest.merged_with(known),
    })
}

/// The tree without what lies below something that is no folder: a lookup there went through a
/// symbolic link.
fn without_hidden(tree: Tree) -> Tree {
    let mut no_folders = Subtrees::default();
    let mut hidden = HashSet::new();
    for Entry { path, node } in tree.entries() {
        if no_folders.hold(path) {
            hidden.insert(path);
        } else if node.kind() != Kind::Dir {
            no_folders.push(path);
        }
    }
    if hidden.is_empty() {
        return tree;
    }
    let is_there = |entry: &&Entry| !hidden.contains(&entry.path);
    tree.entries().iter().filter(is_there).cloned().collect()
}
