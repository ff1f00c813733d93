//! Carrying out a saved plan: whether the world is still as it says, and what of it is left to do.
//!
//! A plan is stale as a whole when the state, the configuration or a source is not what it names. A
//! host is stale alone when a later apply wrote its state, or when an entry on it is no longer as the
//! plan found it. A host that this very plan was begun on is neither: what is done there is left out,
//! and the rest is done.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, OnceLock};

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{Exact, Host, Mapping, Modes};
use crate::model::{Blake3, HostError, HostId, Kind, Node, RelPath};
use crate::plan::build::{self, HostChanges};
use crate::plan::comparison::Comparison;
use crate::plan::interrupted::is_opened;
use crate::plan::prepare::{Preparation, PrepareError};
use crate::plan::sources::Sources;
use crate::plan::{Action, Actual, Change, HostPlan, HostStatus, Plan, Reason, document};
use crate::state::{HostRecord, Progress, StateStore};

/// Hosts that an error names.
const UNSEEN_MAX: usize = 10;

/// A saved plan that is no longer worth anything: nothing of it is done.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum StalePlan {
    /// It was made from another state.
    #[error("the plan is stale: it was made {plan}, and {now}")]
    #[diagnostic(
        code(hostsync::plan::stale_lineage),
        help(
            "use the state folder that the plan was made with, or plan again and review the new plan"
        )
    )]
    Lineage {
        /// From which state.
        plan: String,
        /// What is here.
        now: String,
    },
    /// The state is an earlier one.
    #[error(
        "the plan is stale: it was made at serial {plan}, and the state here is at serial {now}"
    )]
    #[diagnostic(
        code(hostsync::plan::stale_serial),
        help(
            "an older state was brought back: use the one that the plan was made with, or plan again \
             and review the new plan"
        )
    )]
    Serial {
        /// Of the state that the plan was made from.
        plan: u64,
        /// Of the state that is here.
        now: u64,
    },
    /// The configuration has changed.
    #[error("the plan is stale: the configuration has changed since it was made")]
    #[diagnostic(
        code(hostsync::plan::stale_configuration),
        help("plan again, and review the new plan")
    )]
    Configuration,
    /// A source has changed.
    #[error("the plan is stale: {} since it was made", changed(.sources))]
    #[diagnostic(
        code(hostsync::plan::stale_source),
        help("plan again, and review the new plan")
    )]
    Source {
        /// The sources, as written in the configuration.
        sources: Vec<String>,
    },
    /// It has been carried out.
    #[error("the plan is stale: it has been applied already (serial {serial}){}", without(.unseen))]
    #[diagnostic(
        code(hostsync::plan::already_applied),
        help("there is nothing left of it to do; plan again to see what has changed since")
    )]
    Applied {
        /// The highest serial that it was applied with.
        serial: u64,
        /// Hosts that could not be looked at when it was made.
        unseen: Vec<String>,
    },
    /// A host is not in it.
    #[error("the plan does not have host `{host}`")]
    #[diagnostic(
        code(hostsync::plan::unknown_host),
        help("it was made with `--limit`; pick hosts that `hostsync show` lists, or plan again")
    )]
    UnknownHost {
        /// Its name.
        host: String,
    },
}

/// `; it has nothing for a, b, which could not be looked at when it was made`.
fn without(unseen: &[String]) -> String {
    if unseen.is_empty() {
        return String::new();
    }
    let (named, others) = unseen.split_at(unseen.len().min(UNSEEN_MAX));
    let more = match others.len() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "; it has nothing for {}{more}, which could not be looked at when it was made",
        named.join(", ")
    )
}

/// `source a has changed`, `sources a and b have changed`.
fn changed(sources: &[String]) -> String {
    match sources {
        [source] => format!("source {source} has changed"),
        [first, .., last] if sources.len() == 2 => {
            format!("sources {first} and {last} have changed")
        }
        _ => format!(
            "{} sources have changed ({}, …)",
            sources.len(),
            sources.first().map_or("", String::as_str)
        ),
    }
}

/// Why a saved plan would not be carried out as a whole, as far as that can be told without a look at
/// the sources and the hosts: `hosts` are those of the plan that the configuration has.
///
/// # Errors
/// When the state cannot be read, and [`PrepareError::Stale`] for a plan that is stale.
pub fn check(
    plan: &Plan,
    hosts: &[&Host],
    state: &StateStore,
    config_digest: Blake3,
) -> Result<(), PrepareError> {
    let follow = SavedPlanCheck::begin(plan, hosts, state, config_digest)?;
    match follow.applied {
        Some(serial) => Err(follow.already_applied(serial).into()),
        None => Ok(()),
    }
}

/// A saved plan that is being carried out.
pub(in crate::plan) struct SavedPlanCheck<'a> {
    plan: &'a Plan,
    /// The plans of its hosts.
    hosts: HashMap<&'a HostId, &'a HostPlan>,
    /// Names the plan in the state.
    pub(in crate::plan) digest: Blake3,
    /// Sources that are not what the plan names; known as soon as they have been read.
    changed_sources: OnceLock<Vec<String>>,
    /// The highest serial that this plan was applied with before.
    applied: Option<u64>,
}

impl<'a> SavedPlanCheck<'a> {
    /// Looks whether the plan was made from this state and this configuration.
    pub(in crate::plan) fn begin(
        plan: &'a Plan,
        hosts: &[&Host],
        state: &StateStore,
        config_digest: Blake3,
    ) -> Result<Self, PrepareError> {
        let digest = document::digest(plan);
        let by_name: HashMap<_, _> = plan.hosts.iter().map(|host| (&host.host, host)).collect();
        if plan.header.config_digest != config_digest {
            return Err(StalePlan::Configuration.into());
        }
        let mut applied = None;
        let mut by_others = false;
        for host in hosts {
            let Some(planned) = by_name.get(&host.id) else {
                let host = host.id.to_string();
                return Err(StalePlan::UnknownHost { host }.into());
            };
            let configured = host.mappings.iter();
            let configured = configured.map(|it| (&it.src_as_written, &it.dest_as_written));
            if !configured.eq(planned.mappings.iter().map(|it| (&it.src, &it.dest))) {
                // What was shown is not what would be done; the digest of the configuration is forged.
                return Err(StalePlan::Configuration.into());
            }
            if let Some(record) = state.host(&host.id)? {
                if record.plan == digest {
                    applied = applied.max(Some(record.serial));
                } else {
                    by_others = true;
                }
            }
        }
        let now = state.identity().map(|identity| &identity.lineage);
        let is_ours = match (&plan.header.lineage, now) {
            (None, None) => true,
            // The first apply of all makes the lineage, and this may be the plan that it carried out.
            (None, Some(_)) => !by_others,
            (Some(plan), Some(now)) => plan == now,
            (Some(_), None) => false,
        };
        if !is_ours {
            return Err(StalePlan::Lineage {
                plan: plan.header.lineage.as_ref().map_or_else(
                    || "before the first apply".to_owned(),
                    |lineage| format!("from the state {lineage}"),
                ),
                now: now.map_or_else(
                    || "there is no state here".to_owned(),
                    |lineage| format!("the state here is {lineage}"),
                ),
            }
            .into());
        }
        let now = state.identity().map_or(0, |identity| identity.serial);
        let plan_serial = plan.header.serial;
        if now < plan_serial {
            let plan = plan_serial;
            return Err(StalePlan::Serial { plan, now }.into());
        }
        Ok(Self {
            plan,
            hosts: by_name,
            digest,
            changed_sources: OnceLock::new(),
            applied,
        })
    }

    /// The plan of a host in it.
    fn planned(&self, host: &Host) -> Option<&'a HostPlan> {
        self.hosts.get(&host.id).copied()
    }

    /// Whether it has something to do on a host.
    pub(in crate::plan) fn visits(&self, host: &Host) -> bool {
        let planned = self.planned(host);
        planned.is_none_or(|planned| planned.change_set.is_some())
    }

    /// The plan of a host on which it has nothing to do.
    pub(in crate::plan) fn without_visit(&self, host: &Host) -> Option<HostPlan> {
        let planned = self.planned(host).filter(|_| !self.visits(host))?;
        let mut plan = planned.clone();
        let then = |error: &HostError| HostError {
            message: format!("when the plan was made: {}", error.message),
            ..error.clone()
        };
        plan.status = match &plan.status {
            HostStatus::Ok => HostStatus::Ok,
            HostStatus::Unreachable(error) => HostStatus::Unreachable(then(error)),
            HostStatus::Failed(error) => HostStatus::Failed(then(error)),
        };
        Some(plan)
    }

    /// Looks whether the sources are what the plan names.
    pub(in crate::plan) fn compare_sources(&self, sources: &Sources<'_>, hosts: &[&Host]) {
        let mut changed = Vec::new();
        for host in hosts {
            let planned = self.planned(host).into_iter();
            let planned = planned.flat_map(|planned| &planned.mappings);
            for (mapping, planned) in host.mappings.iter().zip(planned) {
                let is_named = planned.source.is_some();
                if is_named
                    && sources.digest(mapping) != planned.source
                    && !changed.contains(&planned.src)
                {
                    changed.push(planned.src.clone());
                }
            }
        }
        // Nobody else sets it.
        let _ = self.changed_sources.set(changed);
    }

    /// Whether nothing of the plan is going to be done.
    pub(in crate::plan) fn is_stale(&self) -> bool {
        let changed = self.changed_sources.get();
        changed.is_some_and(|sources| !sources.is_empty())
    }

    /// What of the plan is left to do on a host.
    ///
    /// # Errors
    /// Says what moved there since the plan was made.
    pub(in crate::plan) fn changes(
        &self,
        host: &Host,
        record: Option<&HostRecord>,
        comparisons: &[Arc<Comparison>],
        actual: &[Actual],
        modes: Modes,
    ) -> Result<HostChanges, String> {
        let planned = self.planned(host);
        let begun = record
            .filter(|record| record.plan == self.digest)
            .map(|record| record.progress);
        if let Some(record) = record
            && begun.is_none()
            && record.serial > self.plan.header.serial
        {
            return Err(format!(
                "apply {} wrote its state at {}, after this plan was made (serial {})",
                record.serial, record.updated_at, self.plan.header.serial
            ));
        }
        let changes = planned.map_or(&[][..], HostPlan::changes);
        let is_folder = |change: &&Change| change.after.as_ref().map(Node::kind) == Some(Kind::Dir);
        let made = changes.iter().filter(is_folder);
        let made: HashSet<_> = made.map(|it| (it.mapping, &it.path)).collect();
        let mut left = Vec::new();
        for change in changes {
            let (Some(comparison), Some(actual)) =
                (comparisons.get(change.mapping), actual.get(change.mapping))
            else {
                return Err(
                    "the plan has a mapping that the configuration does not have".to_owned(),
                );
            };
            let folder = lost_folder(change, actual, &made);
            let rest = rest_of(change, comparison, actual, begun, modes, folder)
                .map_err(|problem| problem.in_words(host, change))?;
            left.extend(rest);
        }
        if begun == Some(Progress::InTheMiddle) && modes == Modes::All {
            left.extend(left_open(&left, planned, comparisons, actual));
            left.sort_by(|a, b| (a.mapping, &a.path).cmp(&(b.mapping, &b.path)));
        }
        Ok(HostChanges {
            changes: left,
            unchanged: planned.map_or(0, |planned| planned.unchanged),
        })
    }

    /// Whether there is something left to do, now that all hosts have been looked at.
    pub(in crate::plan) fn end<'p>(
        &self,
        hosts: impl Iterator<Item = (&'p HostPlan, &'p Preparation)>,
    ) -> Result<(), StalePlan> {
        if let Some(sources) = self.changed_sources.get()
            && !sources.is_empty()
        {
            return Err(StalePlan::Source {
                sources: sources.clone(),
            });
        }
        let is_done = |plan: &HostPlan, preparation: &Preparation| {
            plan.change_set.is_none()
                && matches!(preparation, Preparation::Nothing)
                && (plan.status == HostStatus::Ok || !self.has_changes(plan))
        };
        match self.applied {
            Some(serial) if { hosts }.all(|(plan, preparation)| is_done(plan, preparation)) => {
                Err(self.already_applied(serial))
            }
            _ => Ok(()),
        }
    }

    fn already_applied(&self, serial: u64) -> StalePlan {
        let unseen = self.plan.unseen().map(ToString::to_string).collect();
        StalePlan::Applied { serial, unseen }
    }

    fn has_changes(&self, host: &HostPlan) -> bool {
        let planned = self.hosts.get(&host.host);
        planned.is_some_and(|planned| planned.change_set.is_some())
    }
}

/// Why a change is not to be made any more.
enum Obstacle<'a> {
    /// No plan of ours says so while its sources have the digests that it names.
    NotInSource,
    /// The folder that it lies in is none any more.
    Folder(RelPath),
    /// This is there now.
    Moved(Option<&'a Node>),
}

impl Obstacle<'_> {
    fn in_words(&self, host: &Host, change: &Change) -> String {
        match self {
            Self::NotInSource => in_words(host, change, "is not what the source has"),
            Self::Folder(folder) => {
                let what = "is not the folder any more that it was when the plan was made";
                path_in_words(host, change.mapping, folder, what)
            }
            Self::Moved(now) => moved(host, change, *now),
        }
    }
}

/// What is left to do of a change. `begun` says how far an earlier run of the same plan has come on the
/// host; `lost_folder` is the folder that the entry lies in, where it is none any more.
fn rest_of<'a>(
    change: &Change,
    comparison: &Comparison,
    actual: &'a Actual,
    begun: Option<Progress>,
    modes: Modes,
    lost_folder: Option<RelPath>,
) -> Result<Option<Change>, Obstacle<'a>> {
    let desired = comparison.source.tree.get(&change.path);
    let is_in_source = match (&change.after, desired) {
        (Some(after), Some(desired)) => build::is_same(modes, after, desired),
        (after, _) => after.is_none(),
    };
    if !is_in_source {
        return Err(Obstacle::NotInSource);
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
        return lost_folder.map_or_else(
            || Ok(Some(change.clone())),
            |folder| Err(Obstacle::Folder(folder)),
        );
    }
    if begun.is_none() {
        return Err(Obstacle::Moved(now));
    }
    if is_same(now, change.after.as_ref()) {
        return Ok(recorded_only(change));
    }
    let rest = rest_of_half_done(change, now, recorded);
    rest.map(Some).ok_or(Obstacle::Moved(now))
}

/// Whether something on a host is not as recorded, and none of the changes is about it. In a mirror, that
/// is also what was never recorded.
pub(in crate::plan) fn leaves_drift(
    host: &Host,
    comparisons: &[Arc<Comparison>],
    actual: &[Actual],
    changes: &[Change],
    modes: Modes,
) -> bool {
    let planned: HashSet<(usize, &RelPath)> = changes
        .iter()
        .map(|change| (change.mapping, &change.path))
        .collect();
    comparisons
        .iter()
        .zip(actual)
        .enumerate()
        .any(|(mapping, (comparison, actual))| {
            let recorded = &comparison.recorded;
            if actual.is_just(recorded) {
                return false;
            }
            let is_left = |path| !planned.contains(&(mapping, path));
            let Mapping { exact, exclude, .. } = &host.mappings[mapping];
            let is_foreign = |path| *exact == Exact::Mirror && !exclude.excludes(path);
            let has_moved = |(path, node)| {
                let has_moved = match recorded.get(path) {
                    Some(recorded) => !build::is_same(modes, recorded, node),
                    None => is_foreign(path),
                };
                has_moved && is_left(path)
            };
            let mut recorded_entries = recorded.entries().iter();
            actual.iter().any(has_moved)
                || recorded_entries.any(|it| actual.get(&it.path).is_none() && is_left(&it.path))
        })
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
    planned: Option<&HostPlan>,
    comparisons: &[Arc<Comparison>],
    actual: &[Actual],
) -> Vec<Change> {
    let planned = planned.map_or(&[][..], HostPlan::changes).iter();
    let parents = planned.filter_map(|change| Some((change.mapping, change.path.parent()?)));
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
fn moved(host: &Host, change: &Change, now: Option<&Node>) -> String {
    let what = match (&change.before, now) {
        (None, Some(_)) => "has appeared",
        (Some(_), None) => "is gone",
        (Some(before), Some(now)) if before.kind() != now.kind() => "is of another kind",
        (Some(before), Some(now)) if before.same_content(now) => "has other permission bits",
        _ => "has changed",
    };
    in_words(host, change, &format!("{what} since the plan was made"))
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

/// What is the matter with an entry, with its full destination.
fn in_words(host: &Host, change: &Change, what: &str) -> String {
    path_in_words(host, change.mapping, &change.path, what)
}

/// What is the matter with what is at a path of a mapping.
pub(in crate::plan) fn path_in_words(
    host: &Host,
    mapping: usize,
    path: &RelPath,
    what: &str,
) -> String {
    let dest = host.mappings[mapping].dest_as_written.trim_end_matches('/');
    let below = if path.is_root() { "" } else { "/" };
    format!("{dest}{below}{path} {what}")
}
