//! Whether the listing that a commit has made can stand for what is recorded.
//!
//! The next plan will believe that an entry still has its recorded content if the entry is as it is in
//! the listing. So the listing must not hold anything that somebody else did between the moment when an
//! entry was looked at, or put in place, and the moment when the listing was made. Every entry in it has
//! to be explained: it is exactly as the plan found it; or a step of ours changed it, and nothing has
//! changed it after that; or it came with a new folder, and has not changed since before it was visible.
//! When one is not explained, no listing is recorded, and the next plan looks at everything.

use std::collections::{HashMap, HashSet};

use crate::config::{Exact, Host, Mapping};
use crate::model::{Kind, RelPath, Tree};
use crate::plan::{Action, Change};
use crate::remote::StatTuple;
use crate::remote::tasks::look::Seen;

use super::job::dest_of;

/// How exact a time is that came as a floating point number, in seconds. Clocks of file systems are far
/// coarser.
const TIME_TOLERANCE: f64 = 0.000_002;

/// What is known about a commit and the listing after it.
pub(super) struct ListingTrust<'a> {
    pub(super) host: &'a Host,
    /// What the plan saw, by path.
    pub(super) seen: &'a HashMap<Vec<u8>, Seen>,
    pub(super) changes: &'a [&'a Change],
    /// For each step, the changes it makes; the first one is the one that it is about.
    pub(super) steps: &'a [Vec<usize>],
    /// By step, when it changed its entry.
    pub(super) step_times: &'a HashMap<usize, f64>,
    /// By path, the modification time that a step gave to its file, in seconds since 1970. Whoever writes
    /// into it in the same tick leaves the change time as it is.
    pub(super) mtimes: &'a HashMap<Vec<u8>, i64>,
    /// When the first visible step began.
    pub(super) begun: Option<f64>,
    /// What was looked at for the listing, by path.
    pub(super) after: &'a HashMap<&'a [u8], &'a StatTuple>,
    /// Whether what was not looked at has its line from the listing before. What that line says was
    /// true when the plan looked, and is compared again by the next one.
    pub(super) unnamed_is_unmoved: bool,
}

/// What a step did to an entry.
#[derive(Clone, Copy)]
enum Touch {
    /// It is about this entry, and changed it then.
    Itself(Option<f64>),
    /// It set the permission bits of this file then, and nothing else.
    Bits(Option<f64>),
    /// It put a folder in place that the entry came with.
    Along,
}

impl ListingTrust<'_> {
    /// Whether the listing can stand for these trees, one for each mapping of the host.
    pub(super) fn stands_for(&self, trees: &[Tree]) -> bool {
        let touches = self.touches();
        let parents = self.folders_of(&touches);
        let mut sides = self.host.mappings.iter().zip(trees);
        if !self.unnamed_is_unmoved {
            return sides.all(|(mapping, tree)| {
                tree.entries()
                    .iter()
                    .all(|entry| self.explains(mapping, &entry.path, &touches, &parents))
            });
        }
        // What nobody looked at and no step touched explains itself, and is most of a large tree.
        let known = touches.keys().chain(self.seen.keys()).map(Vec::as_slice);
        let known: HashSet<&[u8]> = known.chain(self.after.keys().copied()).collect();
        sides.all(|(mapping, tree)| {
            known
                .iter()
                .filter_map(|path| mapping.dest.strip_from(path))
                .filter(|path| tree.get(path).is_some())
                .all(|path| self.explains(mapping, &path, &touches, &parents))
        })
    }

    fn touches(&self) -> HashMap<Vec<u8>, Touch> {
        let mut touches = HashMap::new();
        for (number, covers) in self.steps.iter().enumerate() {
            for (position, index) in covers.iter().enumerate() {
                let change = self.changes[*index];
                let time = self.step_times.get(&number).copied();
                let sets_bits = change.action == Action::Metadata && change.kind() == Kind::File;
                let touch = match position {
                    0 if sets_bits => Touch::Bits(time),
                    0 => Touch::Itself(time),
                    _ => Touch::Along,
                };
                touches.insert(self.path_of(change), touch);
            }
        }
        touches
    }

    /// The folders in which a step did something.
    fn folders_of(&self, touches: &HashMap<Vec<u8>, Touch>) -> HashSet<Vec<u8>> {
        let is_own_step = |change: &&&Change| {
            change.action != Action::Adopt
                && matches!(
                    touches.get(&self.path_of(change)),
                    Some(Touch::Itself(_) | Touch::Bits(_))
                )
        };
        let parent_of = |change: &&Change| {
            let mapping = &self.host.mappings[change.mapping];
            let parent = mapping.dest.join(&change.path.parent()?);
            Some(parent.as_bytes().to_vec())
        };
        self.changes
            .iter()
            .filter(is_own_step)
            .filter_map(parent_of)
            .collect()
    }

    fn path_of(&self, change: &Change) -> Vec<u8> {
        dest_of(self.host, change).as_bytes().to_vec()
    }

    fn explains(
        &self,
        mapping: &Mapping,
        path: &RelPath,
        touches: &HashMap<Vec<u8>, Touch>,
        parents: &HashSet<Vec<u8>>,
    ) -> bool {
        let dest = mapping.dest.join(path);
        let path = dest.as_bytes();
        let Some(now) = self.after.get(path) else {
            return self.unnamed_is_unmoved
                && !touches.contains_key(path)
                && !self.seen.contains_key(path);
        };
        // Of a folder that is no mirror only type and permission bits are recorded. In a mirror, a new
        // entry shows in the times of its folder, and in nothing else.
        let only_bits_count = now.is_folder() && mapping.exact != Exact::Mirror;
        match (touches.get(path), self.seen.get(path)) {
            (Some(_), _) if only_bits_count => true,
            // What was in a folder that something else took the place of went before that.
            (Some(Touch::Itself(Some(time))), _) if !now.is_folder() || !parents.contains(path) => {
                let mtime = self.mtimes.get(path);
                mtime.is_none_or(|mtime| now.modified_s() == Some(*mtime))
                    && is_at(now.changed(), *time)
            }
            // The step is the last change, and must not hide one that came before it.
            (Some(Touch::Bits(Some(time))), Some(seen)) => {
                let modified = seen.stat.modified();
                seen.stat.inode() == now.inode()
                    && seen.stat.size_bytes() == now.size_bytes()
                    && modified.is_some_and(|modified| is_at(now.modified(), modified))
                    && is_at(now.changed(), *time)
            }
            (Some(Touch::Along), _) => now
                .changed()
                .zip(self.begun)
                .is_some_and(|(changed, begun)| changed < begun),
            (Some(Touch::Itself(_) | Touch::Bits(_)), _) => false,
            (None, Some(seen)) if only_bits_count => {
                seen.stat.type_and_mode() == now.type_and_mode() && seen.stat.inode() == now.inode()
            }
            (None, Some(seen)) => seen.stat == **now,
            // Listed before, not looked at since, and moved.
            (None, None) => only_bits_count && parents.contains(path),
        }
    }
}

fn is_at(time: Option<f64>, expected: f64) -> bool {
    time.is_some_and(|time| (time - expected).abs() < TIME_TOLERANCE)
}
