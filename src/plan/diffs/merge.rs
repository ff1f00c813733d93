//! The diffs that hosts with the same changes share.

use std::collections::btree_map::{BTreeMap, Entry};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::content::{Side, within};
use crate::model::{Blake3, ContentDigest, Sha256};
use crate::plan::{Change, ChangeSet, ChangeSetId, Diff, HostPlan};

/// Makes one of the diffs that hosts with the same changes have found, and sees to it that all together
/// are not too long. What is private on one of the hosts is shown for none.
pub(in crate::plan) fn merge(hosts: &mut [HostPlan]) {
    let mut sets = hosts.iter().filter_map(|host| host.change_set.as_ref());
    if sets.all(|set| set.diffs.is_empty()) {
        return;
    }
    let mut merged: HashMap<ChangeSetId, BTreeMap<usize, Diff>> = HashMap::new();
    let mut order = Vec::new();
    for set in hosts.iter().filter_map(|host| host.change_set.as_ref()) {
        let diffs = merged.entry(set.id).or_insert_with(|| {
            order.push(set.id);
            BTreeMap::new()
        });
        for (index, diff) in &set.diffs {
            match diffs.entry(*index) {
                Entry::Vacant(place) => _ = place.insert(diff.clone()),
                Entry::Occupied(mut place) if rank(diff) > rank(place.get()) => {
                    place.insert(diff.clone());
                }
                Entry::Occupied(_) => {}
            }
        }
    }
    hide_twins(hosts, &mut merged);
    let mut text_bytes = 0;
    for id in order {
        for diff in merged
            .get_mut(&id)
            .into_iter()
            .flat_map(BTreeMap::values_mut)
        {
            *diff = within(diff.clone(), &mut text_bytes);
        }
    }
    let mut shared: HashMap<ChangeSetId, Arc<ChangeSet>> = HashMap::new();
    for set in hosts.iter_mut().filter_map(|host| host.change_set.as_mut()) {
        let shared = shared.entry(set.id).or_insert_with(|| {
            let diffs = merged.remove(&set.id).unwrap_or_default();
            let (id, changes) = (set.id, set.changes.clone());
            Arc::new(ChangeSet { id, changes, diffs })
        });
        *set = Arc::clone(shared);
    }
}

/// Hides what has the same content as something that is private under another name.
fn hide_twins(hosts: &[HostPlan], merged: &mut HashMap<ChangeSetId, BTreeMap<usize, Diff>>) {
    let sets = || hosts.iter().filter_map(|host| host.change_set.as_ref());
    let mut private: HashSet<Blake3> = HashSet::new();
    let mut private_sha256: HashSet<Sha256> = HashSet::new();
    let digests_of = |change: &Change| {
        let sides = [
            Side::of(change.before.as_ref()),
            Side::of(change.after.as_ref()),
        ];
        sides.map(|side| {
            side.filter(|side| side.size_bytes > 0)
                .map(|side| side.digest)
                .unwrap_or_default()
        })
    };
    for set in sets() {
        for (index, diff) in merged.get(&set.id).into_iter().flatten() {
            if *diff == Diff::Hidden
                && let Some(change) = set.changes.get(*index)
            {
                for digest in digests_of(change) {
                    private.extend(digest.blake3);
                    private_sha256.extend(digest.sha256);
                }
            }
        }
    }
    if private.is_empty() && private_sha256.is_empty() {
        return;
    }
    for set in sets() {
        for (index, diff) in merged.get_mut(&set.id).into_iter().flatten() {
            let digests = set.changes.get(*index).map(digests_of).unwrap_or_default();
            let is_twin = |digest: &ContentDigest| {
                digest
                    .blake3
                    .is_some_and(|digest| private.contains(&digest))
                    || digest
                        .sha256
                        .is_some_and(|digest| private_sha256.contains(&digest))
            };
            if digests.iter().any(is_twin) {
                *diff = Diff::Hidden;
            }
        }
    }
}

/// Which of two diffs of the same change counts.
fn rank(diff: &Diff) -> u8 {
    match diff {
        Diff::Hidden => 2,
        Diff::Text(_) | Diff::Binary | Diff::TooLarge => 1,
        Diff::Unavailable(_) => 0,
    }
}
