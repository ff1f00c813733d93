//! What of a saved plan is left to do on one host.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use super::stale::StaleHost;
use crate::config::{Exact, Mapping, Modes};
use crate::model::{Blake3, Kind, Node, RelPath};
use crate::plan::build::{self, HostChanges};
use crate::plan::comparison::Comparison;
use crate::plan::error::NoHostPlan;
use crate::plan::goal::types::{HostGoal, Situation};
use crate::plan::interrupted::is_opened;
use crate::plan::{Action, Actual, Change, HostPlan, Reason, naming};
use crate::state::{HostRecord, Progress};

/// What a saved plan has for a host.
#[derive(Debug)]
pub(super) struct SavedHost<'a> {
    /// The plan of the host in it.
    pub(super) planned: Option<&'a HostPlan>,
    /// Names the plan in the state.
    pub(super) digest: Blake3,
    /// Serial of the state that it was made from.
    pub(super) serial: u64,
}

impl HostGoal for SavedHost<'_> {
    /// What of the plan is left to do.
    fn changes(&self, situation: &Situation<'_>) -> Result<HostChanges, NoHostPlan> {
        let Situation {
            comparisons,
            actual,
            policy,
            ..
        } = *situation;
        let begun = self.begun(situation.record)?;
        let changes = self.planned_changes();
        let is_folder = |change: &&Change| change.after.as_ref().map(Node::kind) == Some(Kind::Dir);
        let made = changes.iter().filter(is_folder);
        let made: HashSet<_> = made.map(|it| (it.mapping, &it.path)).collect();
        let mut left = Vec::new();
        for change in changes {
            left.extend(rest_of(change, situation, begun, &made)?);
        }
        if begun == Some(Progress::InTheMiddle) && policy.modes == Modes::All {
            left.extend(left_open(&left, changes, comparisons, actual));
            left.sort_by(|a, b| (a.mapping, &a.path).cmp(&(b.mapping, &b.path)));
        }
        Ok(HostChanges {
            changes: left,
            unchanged: self.planned.map_or(0, |planned| planned.unchanged),
        })
    }

    /// Whether something on a host is not as recorded, and none of the changes is about it. In a mirror,
    /// that is also what was never recorded.
    fn leaves_drift(&self, situation: &Situation<'_>, changes: &[Change]) -> bool {
        let planned: HashSet<(usize, &RelPath)> = changes
            .iter()
            .map(|change| (change.mapping, &change.path))
            .collect();
        situation
            .comparisons
            .iter()
            .zip(situation.actual)
            .enumerate()
            .any(|(mapping, (comparison, actual))| {
                let recorded = &comparison.recorded;
                if actual.is_just(recorded) {
                    return false;
                }
                let is_left = |path| !planned.contains(&(mapping, path));
                let Mapping { exact, exclude, .. } = &situation.host.mappings[mapping];
                let is_foreign = |path| *exact == Exact::Mirror && !exclude.excludes(path);
                let has_moved = |(path, node)| {
                    let has_moved = match recorded.get(path) {
                        Some(recorded) => !build::is_same(situation.policy.modes, recorded, node),
                        None => is_foreign(path),
                    };
                    has_moved && is_left(path)
                };
                let mut recorded_entries = recorded.entries().iter();
                actual.iter().any(has_moved)
                    || recorded_entries
                        .any(|it| actual.get(&it.path).is_none() && is_left(&it.path))
            })
    }
}

impl<'a> SavedHost<'a> {
    fn planned_changes(&self) -> &'a [Change] {
        self.planned.map_or(&[], HostPlan::changes)
    }

    /// How far an earlier run of the same plan has come; `None` where there was none.
    fn begun(&self, record: Option<&HostRecord>) -> Result<Option<Progress>, StaleHost> {
        match record {
            Some(record) if record.plan == self.digest => Ok(Some(record.progress)),
            Some(record) if record.serial > self.serial => Err(StaleHost::Record {
                serial: record.serial,
                at: record.updated_at.clone(),
                planned_at: self.serial,
            }),
            _ => Ok(None),
        }
    }
}

/// What is left to do of a change. `begun` says how far an earlier run of the same plan has come on the
/// host; `made` are the folders that the plan makes.
fn rest_of(
    change: &Change,
    situation: &Situation<'_>,
    begun: Option<Progress>,
    made: &HashSet<(usize, &RelPath)>,
) -> Result<Option<Change>, StaleHost> {
    let Situation {
        host,
        comparisons,
        actual,
        policy,
        ..
    } = *situation;
    let (Some(comparison), Some(actual)) =
        (comparisons.get(change.mapping), actual.get(change.mapping))
    else {
        return Err(StaleHost::UnknownMapping);
    };
    let dest = |path: &RelPath| naming::below(&host.mappings[change.mapping].dest_as_written, path);
    let desired = comparison.source.tree.get(&change.path);
    let is_in_source = match (&change.after, desired) {
        (Some(after), Some(desired)) => build::is_same(policy.modes, after, desired),
        (after, _) => after.is_none(),
    };
    if !is_in_source {
        let dest = dest(&change.path);
        return Err(StaleHost::NotInSource { dest });
    }
    let now = actual.get(&change.path);
    let recorded = comparison.recorded.get(&change.path);
    let is_recorded = is_same(recorded, change.after.as_ref());
    let is_as_before = is_same(now, change.before.as_ref());
    // Drift that was refused is recorded as what it was to become, too.
    let may_be_left = change.drift && is_as_before;
    if begun == Some(Progress::Finished) && is_recorded && !may_be_left {
        return Ok(None);
    }
    if is_as_before {
        return match lost_folder(change, actual, made) {
            None => Ok(Some(change.clone())),
            Some(folder) => {
                let dest = dest(&folder);
                Err(StaleHost::LostFolder { dest })
            }
        };
    }
    let moved = || StaleHost::Moved {
        dest: dest(&change.path),
        what: movement(change.before.as_ref(), now),
    };
    if begun.is_none() {
        return Err(moved());
    }
    if is_same(now, change.after.as_ref()) {
        return Ok(recorded_only(change));
    }
    let rest = rest_of_half_done(change, now, recorded);
    rest.map(Some).ok_or_else(moved)
}

/// Whether the two sides are the same entry, or both nothing.
fn is_same(a: Option<&Node>, b: Option<&Node>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => a == b || a.same(b),
        _ => false,
    }
}

/// What is left of a change that the host has already; nothing of a delete.
fn recorded_only(change: &Change) -> Option<Change> {
    let after = change.after.clone()?;
    Some(Change {
        action: Action::Adopt,
        reason: Reason::Recorded,
        drift: false,
        unmanaged: false,
        conflict: false,
        before: Some(after.clone()),
        after: Some(after),
        ..change.clone()
    })
}

/// What is left of a change that was cut off halfway; `None` when that is not what happened to it.
fn rest_of_half_done(
    change: &Change,
    now: Option<&Node>,
    recorded: Option<&Node>,
) -> Option<Change> {
    let before = now.cloned();
    let (action, reason) = match (&change.before, now, &change.after) {
        // What was there is in the backups, and nothing has come yet.
        (Some(before), None, Some(after)) if before.kind() != after.kind() => {
            (Action::Create, Reason::Missing)
        }
        (_, Some(now), after) if is_opened(after.as_ref(), now) => (Action::Metadata, Reason::Mode),
        (before, Some(now), _)
            if is_opened(before.as_ref(), now) && is_same(recorded, Some(now)) =>
        {
            (change.action, change.reason)
        }
        _ => return None,
    };
    Some(Change {
        action,
        reason,
        drift: false,
        unmanaged: false,
        conflict: false,
        before,
        ..change.clone()
    })
}

/// Folders that were opened to change what is in them, and not closed again. Those with a change of their
/// own are closed by it.
fn left_open(
    left: &[Change],
    planned: &[Change],
    comparisons: &[Arc<Comparison>],
    actual: &[Actual],
) -> Vec<Change> {
    let parents = planned.iter();
    let parents = parents.filter_map(|change| Some((change.mapping, change.path.parent()?)));
    let has_own = |mapping, path: &RelPath| {
        left.iter()
            .any(|change| change.mapping == mapping && change.path == *path)
    };
    let open = |(mapping, path): (usize, RelPath)| {
        let comparison = comparisons.get(mapping)?;
        let now = actual.get(mapping)?.get(&path)?;
        let desired = comparison.source.tree.get(&path);
        let is_ours = is_same(comparison.recorded.get(&path), Some(now));
        let is_left_open = is_ours && is_opened(desired, now) && !is_same(desired, Some(now));
        (is_left_open && !has_own(mapping, &path)).then(|| Change {
            mapping,
            path,
            action: Action::Metadata,
            reason: Reason::Mode,
            drift: false,
            unmanaged: false,
            conflict: false,
            before: Some(now.clone()),
            after: desired.cloned(),
        })
    };
    let parents: BTreeSet<_> = parents.collect();
    parents.into_iter().filter_map(open).collect()
}

/// What happened to an entry since the plan was made.
fn movement(before: Option<&Node>, now: Option<&Node>) -> &'static str {
    match (before, now) {
        (None, Some(_)) => "has appeared",
        (Some(_), None) => "is gone",
        (Some(before), Some(now)) if before.kind() != now.kind() => "is of another kind",
        (Some(before), Some(now)) if before.same_content(now) => "has other permission bits",
        _ => "has changed",
    }
}

/// The folder that an entry lies in, where it is none any more and the plan does not make it one.
fn lost_folder(
    change: &Change,
    actual: &Actual,
    made: &HashSet<(usize, &RelPath)>,
) -> Option<RelPath> {
    let folder = change.path.parent()?;
    let is_there = actual.get(&folder).map(Node::kind) == Some(Kind::Dir);
    (!is_there && !made.contains(&(change.mapping, &folder))).then_some(folder)
}
