//! What a plan says, read from its JSON form.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// One change on one host, as far as the tour looks at it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Change {
    /// The name of the host.
    pub(crate) host: String,
    /// `src` of the mapping.
    pub(crate) source: String,
    /// The path below the mapping; empty for its root.
    pub(crate) path: String,
    /// Whether somebody changed the host.
    pub(crate) drift: bool,
    /// Whether it would destroy what nobody has reviewed.
    pub(crate) conflict: bool,
}

/// Reads the changes out of a plan. What is only recorded (`adopt`) is not among them.
pub(crate) fn read(plan: &[u8]) -> serde_json::Result<BTreeSet<Change>> {
    let plan: Plan = serde_json::from_slice(plan)?;
    let sets: BTreeMap<String, ChangeSet> = plan
        .change_sets
        .into_iter()
        .map(|set| (set.id.clone(), set))
        .collect();
    let mut changes = BTreeSet::new();
    for host in plan.hosts {
        let set = host.change_set.and_then(|id| sets.get(&id));
        for entry in set.into_iter().flat_map(|set| &set.changes) {
            if entry.action == "adopt" {
                continue;
            }
            let mapping = host.mappings.get(entry.mapping);
            changes.insert(Change {
                host: host.host.clone(),
                source: mapping.map_or_else(String::new, |mapping| mapping.src.clone()),
                path: entry.path.clone(),
                drift: entry.drift,
                conflict: entry.conflict,
            });
        }
    }
    Ok(changes)
}

#[derive(Deserialize)]
struct Plan {
    hosts: Vec<PlannedHost>,
    change_sets: Vec<ChangeSet>,
}

#[derive(Deserialize)]
struct PlannedHost {
    host: String,
    mappings: Vec<PlannedMapping>,
    change_set: Option<String>,
}

#[derive(Deserialize)]
struct PlannedMapping {
    src: String,
}

#[derive(Deserialize)]
struct ChangeSet {
    id: String,
    changes: Vec<PlannedChange>,
}

#[derive(Deserialize)]
struct PlannedChange {
    mapping: usize,
    path: String,
    action: String,
    drift: bool,
    conflict: bool,
}
