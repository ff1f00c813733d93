//! What is to be done on one host, and what is known of it.

use crate::config::Host;
use crate::model::{Kind, Node, RelPath, RemotePath};
use crate::plan::Change;
use crate::plan::prepared::PreparedHost;
use crate::remote::Algorithm;
use crate::remote::tasks::look::Listing;
use crate::state::HostRecord;

/// The work on one host. Every stage of an apply reads it; none changes it.
pub(super) struct Job<'a> {
    pub(super) host: &'a Host,
    pub(super) prepared: &'a PreparedHost,
    /// The changes to make, ordered by mapping and path.
    pub(super) changes: Vec<&'a Change>,
    /// Whether the plan has changes that are left alone.
    pub(super) leaves_some: bool,
}

impl Job<'_> {
    /// The destination of a change.
    pub(super) fn dest_of(&self, change: &Change) -> RemotePath {
        dest_of(self.host, change)
    }

    /// The algorithm of the digests that the host computes.
    pub(super) fn algorithm(&self) -> Algorithm {
        self.prepared.look.facts.algorithm
    }

    /// Whether an earlier apply of this host did not come to its end. It may have left something wherever
    /// it had staged.
    pub(super) fn follows_cut_apply(&self) -> bool {
        let record = self.prepared.record.as_ref();
        record.is_some_and(HostRecord::is_in_the_middle)
    }

    /// The kept listing that the plan was made with, when nothing but our own steps can have changed
    /// what it lists since.
    pub(super) fn trusted_listing(&self) -> Option<&str> {
        let is_kept = matches!(self.prepared.look.listing, Listing::Same | Listing::Moved);
        let record = self.prepared.record.as_ref()?;
        record.listing.as_deref().filter(|_| is_kept)
    }

    /// When the source of an entry was modified, in seconds since 1970.
    pub(super) fn mtime_of(&self, change: &Change) -> i64 {
        let source = &self.prepared.sources[change.mapping];
        let entries = source.tree.entries();
        entries
            .binary_search_by(|entry| entry.path.cmp(&change.path))
            .map_or(0, |at| source.mtimes[at])
    }
}

/// The destination of a change on a host.
pub(super) fn dest_of(host: &Host, change: &Change) -> RemotePath {
    host.mappings[change.mapping].dest.join(&change.path)
}

/// The changes that remain when conflicts are left alone: without them, and without what would lie
/// below one.
pub(super) fn without_conflicts(changes: &[Change]) -> Vec<&Change> {
    let conflicts: Vec<&Change> = changes.iter().filter(|change| change.conflict).collect();
    let is_left = |change: &Change| {
        conflicts.iter().any(|conflict| {
            conflict.mapping == change.mapping
                && (conflict.path == change.path
                    || change.path.is_below(&conflict.path)
                    // What makes room cannot go while something in it stays.
                    || (conflict.path.is_below(&change.path)
                        && change.before.as_ref().map(Node::kind) == Some(Kind::Dir)
                        && change.after.as_ref().map(Node::kind) != Some(Kind::Dir)))
        })
    };
    changes.iter().filter(|change| !is_left(change)).collect()
}

/// Where an entry is staged, below the folder of the run: the number of its mapping, then the path.
pub(super) fn staged_at(mapping: usize, path: &RelPath) -> Vec<Vec<u8>> {
    let mut components = vec![mapping.to_string().into_bytes()];
    if !path.is_root() {
        let names = path.as_bytes().split(|byte| *byte == b'/');
        components.extend(names.map(<[u8]>::to_vec));
    }
    components
}

/// The mapping and the path of what is staged there; `None` for what no mapping stages.
pub(super) fn entry_of_staged(components: &[Vec<u8>]) -> Option<(usize, RelPath)> {
    let (mapping, path) = components.split_first()?;
    let mapping = std::str::from_utf8(mapping).ok()?.parse().ok()?;
    let path = RelPath::new(path.join(&b'/')).ok()?;
    Some((mapping, path))
}
