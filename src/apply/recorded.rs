//! What is recorded of a host after an apply, and what its new listing holds.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::job::Job;
use crate::model::{Entry, Kind, RelPath, RemotePath, Tree};
use crate::plan::{Actual, Change};
use crate::remote::tasks::commit::{ListingScope, NewListing};

/// By mapping, what will be recorded if all changes of the job are made.
pub(super) fn if_all_is_done(job: &Job<'_>) -> Vec<Tree> {
    with_confirmed(job, &(0..job.changes.len()).collect())
}

/// By mapping, what an ordinary apply records when these of the changes have been confirmed: entries of
/// the source that are in place, and entries of earlier applies that are still there.
fn with_confirmed(job: &Job<'_>, confirmed: &HashSet<usize>) -> Vec<Tree> {
    let sides = job.prepared.recorded.iter().zip(&job.prepared.actual);
    sides
        .enumerate()
        .map(|(mapping, (recorded, actual))| {
            let changes =
                job.changes.iter().enumerate().filter(|(index, change)| {
                    change.mapping == mapping && confirmed.contains(index)
                });
            let source = &job.prepared.sources[mapping].tree;
            with_changes(source, recorded, actual, changes.map(|(_, change)| *change))
        })
        .collect()
}

/// By mapping, what is recorded when these of the changes have been confirmed: of what is brought back,
/// what was recorded then.
pub(super) fn in_the_end(job: &Job<'_>, confirmed: &HashSet<usize>) -> Vec<Tree> {
    let mut trees = with_confirmed(job, confirmed);
    let brought_back = &job.prepared.terms.brought_back;
    if brought_back.is_empty() {
        return trees;
    }
    let changes = job.changes.iter().enumerate();
    let by_path: HashMap<_, _> = changes
        .map(|(index, change)| ((change.mapping, &change.path), index))
        .collect();
    for (mapping, (tree, back)) in trees.iter_mut().zip(brought_back.iter()).enumerate() {
        let is_left = |path: &RelPath| {
            if let Some(index) = by_path.get(&(mapping, path)) {
                return !confirmed.contains(index);
            }
            // There was nothing to do about it; but it may have been left out.
            let actual = job.prepared.actual[mapping].get(path);
            !back.is_back(path, actual)
        };
        *tree = back.recorded(tree, is_left);
    }
    trees
}

/// What the host has to look at for its new listing, where `recorded_after` will be recorded. The listing
/// holds all of that. Of what was listed before, and was neither looked at nor touched since, the lines
/// are taken over: if it has moved meanwhile, the next plan sees it.
pub(super) fn new_listing(job: &Job<'_>, recorded_after: &[Tree]) -> NewListing {
    let kept = job.trusted_listing();
    let listing = |scope, paths| NewListing {
        scope,
        kept: kept.unwrap_or_default().to_owned(),
        paths,
    };
    // Where some entries are left as they are, the next plan has to look at everything. Those that are
    // no longer ours would be taken for known ones.
    if job.leaves_some || forgets_some(job, recorded_after) {
        return listing(ListingScope::Nothing, Vec::new());
    }
    let scope = if kept.is_some() {
        ListingScope::Part
    } else {
        ListingScope::All
    };
    let mut paths: BTreeSet<RemotePath> = BTreeSet::new();
    if scope == ListingScope::All {
        for (mapping, after) in job.host.mappings.iter().zip(recorded_after) {
            let entries = after.entries().iter();
            paths.extend(entries.map(|entry| mapping.dest.join(&entry.path)));
        }
    }
    // What was recorded and is no longer there has moved, too.
    let is_recorded =
        |mapping: usize, path: &RelPath| job.prepared.recorded[mapping].get(path).is_some();
    for change in &job.changes {
        if change.after.is_some() || is_recorded(change.mapping, &change.path) {
            paths.insert(job.dest_of(change));
        }
    }
    let look = &job.prepared.look;
    for moved in look.seen.keys().chain(&look.gone) {
        for (index, mapping) in job.host.mappings.iter().enumerate() {
            if let Some(path) = mapping.dest.strip_from(moved)
                && is_recorded(index, &path)
            {
                paths.insert(mapping.dest.join(&path));
            }
        }
    }
    listing(scope, paths.into_iter().collect())
}

/// Whether something that is recorded, and stays on the host, is not recorded any more afterwards.
fn forgets_some(job: &Job<'_>, recorded_after: &[Tree]) -> bool {
    let goes = |change: &&&Change| change.after.is_none();
    let gone = job.changes.iter().filter(goes);
    let gone: HashSet<_> = gone.map(|it| (it.mapping, &it.path)).collect();
    let sides = job.prepared.recorded.iter().zip(recorded_after);
    sides.enumerate().any(|(mapping, (before, after))| {
        before.beside(after).any(|(path, before, after)| {
            before.is_some()
                && after.is_none()
                && !gone.contains(&(mapping, path))
                && job.prepared.actual[mapping].get(path).is_some()
        })
    })
}

/// What of `recorded` is still ours, with these changes made; they are ascending by path. What the source
/// has, and somebody changed or removed on the host, was written here all the same.
fn with_changes<'a>(
    source: &Tree,
    recorded: &Tree,
    actual: &Actual,
    changes: impl Iterator<Item = &'a Change>,
) -> Tree {
    let changes: Vec<&Change> = changes.collect();
    let goes = |change: &&&Change| change.after.is_none();
    let gone: BTreeSet<&RelPath> = changes.iter().filter(goes).map(|it| &it.path).collect();
    let mut changes = changes.into_iter().peekable();
    let mut there = actual.iter().peekable();
    let mut entries = Vec::with_capacity(recorded.len());
    // What is there and will not be recorded.
    let mut foreign = Vec::new();
    let after = |change: &Change| {
        let node = change.after.clone()?;
        let path = change.path.clone();
        Some(Entry { path, node })
    };
    for entry in recorded.entries() {
        while let Some(change) = changes.next_if(|change| change.path < entry.path) {
            entries.extend(after(change));
        }
        if let Some(change) = changes.next_if(|change| change.path == entry.path) {
            entries.extend(after(change));
            continue;
        }
        while let Some((path, _)) = there.next_if(|(path, _)| **path < entry.path) {
            foreign.push(path);
        }
        // An orphan that somebody else has changed is no longer ours, and the new listing would take it for
        // that. Of what the source has, the plan tells.
        let here = there.next_if(|(path, _)| **path == entry.path);
        let is_still_there = here.is_some_and(|(_, node)| node.same_content(&entry.node));
        if source.get(&entry.path).is_some() || is_still_there {
            entries.push(entry.clone());
        } else if here.is_some() {
            foreign.push(&entry.path);
        }
    }
    entries.extend(changes.filter_map(after));
    foreign.extend(there.map(|(path, _)| path));
    // Nor are the folders that it keeps from going: the next plan would find nothing in them.
    let mut staying = BTreeSet::new();
    for path in foreign {
        let is_ours = source.get(path).is_some() || gone.contains(path);
        let mut folder = path.parent().filter(|_| !is_ours);
        while let Some(above) = folder {
            folder = above.parent();
            staying.insert(above);
        }
    }
    let is_left = |it: &Entry| it.node.kind() == Kind::Dir && staying.contains(&it.path);
    entries.retain(|it| !is_left(it) || source.get(&it.path).is_some());
    entries.into_iter().collect()
}
