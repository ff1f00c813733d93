//! Where each host stands: what is there, beside what was written last and what would be written now.
//!
//! A plan alone does not tell: an entry that the source no longer has stays as it is unless the mapping
//! is exact, and drift in it changes nothing in the plan.

use serde::Serialize;

use super::build::is_same;
use super::prepared::{Preparation, Prepared, PreparedHost};
use super::{Action, Actual, Change, HostPlan, HostStatus, Plan};
use crate::config::{Host, Mapping, Modes};
use crate::model::{Node, RelPath, Tree};
use crate::state::{HostRecord, StateError, StateStore};

/// Where each host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What apply would do.
    pub plan: Plan,
    /// For each host of the plan, in its order.
    pub hosts: Vec<HostStanding>,
}

/// Where a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStanding {
    /// The last apply that touched it; `None` for none.
    pub applied: Option<Applied>,
    /// For each mapping, in the order of the configuration; empty where nobody could look.
    pub mappings: Vec<MappingStanding>,
}

/// The last apply that touched a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Its serial.
    pub serial: u64,
    /// When it was: RFC 3339, UTC.
    pub at: String,
    /// Whether it did not come to its end.
    pub is_in_the_middle: bool,
}

/// Where a mapping of a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingStanding {
    /// All of it in a word.
    pub standing: Standing,
    /// Entries that are not what was written last, in byte order of their path.
    pub drift: Vec<Drift>,
    /// How many changes apply would make.
    pub to_apply: usize,
}

/// How a mapping stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The host has what was written last, and there is nothing to apply.
    Agrees,
    /// The host does not have what was written last.
    Drifted,
    /// The source has changed since.
    Behind,
    /// Both.
    Both,
    /// Nothing of it was ever written here.
    NeverApplied,
}

/// An entry that is not what was written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Where, relative to the mapping.
    pub path: RelPath,
    /// What was written last; `None` for nothing.
    pub recorded: Option<Node>,
    /// What is there; `None` for nothing.
    pub actual: Option<Node>,
}

/// What somebody did to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// It is gone.
    Removed,
    /// It was not there.
    Appeared,
    /// It has become something of another kind.
    Replaced,
    /// It has other bytes or another target.
    Changed,
    /// It has other permission bits alone.
    Mode,
}

impl Drift {
    /// What somebody did.
    pub fn moved(&self) -> Moved {
        match (&self.recorded, &self.actual) {
            (_, None) => Moved::Removed,
            (None, Some(_)) => Moved::Appeared,
            (Some(recorded), Some(actual)) if recorded.kind() != actual.kind() => Moved::Replaced,
            (Some(recorded), Some(actual)) if recorded.same_content(actual) => Moved::Mode,
            _ => Moved::Changed,
        }
    }
}

/// How many hosts stand how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StatusSummary {
    /// All hosts.
    pub hosts: usize,
    /// Hosts with nothing to be said of.
    pub agree: usize,
    /// Hosts on which something has drifted.
    pub drifted: usize,
    /// Hosts whose sources have changed since the last apply.
    pub behind: usize,
    /// Hosts with a mapping that was never applied.
    pub never_applied: usize,
    /// Hosts on which the last apply did not come to its end.
    pub in_the_middle: usize,
    /// Hosts that could not be reached.
    pub unreachable: usize,
    /// Hosts about which something is wrong.
    pub failed: usize,
    /// Drifted entries on all hosts.
    pub drifted_entries: usize,
    /// Changes that apply would make, on all hosts.
    pub to_apply: usize,
}

impl Status {
    /// Where the hosts of a plan stand. `hosts` are those that were asked for, in the order of the plan,
    /// and everything that was found out must have been kept.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn of(
        prepared: Prepared,
        hosts: &[&Host],
        state: &StateStore,
        modes: Modes,
    ) -> Result<Self, StateError> {
        let known = prepared.hosts.iter().map(Preparation::ready);
        let sides = hosts.iter().zip(&prepared.plan.hosts).zip(known);
        let standings = sides
            .map(|((host, plan), known)| {
                // A host without a look has a record, too.
                let record = state.host(&host.id)?;
                Ok(HostStanding {
                    applied: record.as_ref().map(Applied::of),
                    mappings: known.map_or_else(Vec::new, |known| {
                        mappings_of(host, plan, known, record.as_ref(), modes)
                    }),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts: standings,
            plan: prepared.plan,
        })
    }

    /// The hosts with their standing.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPlan, &HostStanding)> {
        self.plan.hosts.iter().zip(&self.hosts)
    }

    /// The counts.
    pub fn summary(&self) -> StatusSummary {
        let mut summary = StatusSummary {
            hosts: self.plan.hosts.len(),
            ..StatusSummary::default()
        };
        for (plan, host) in self.iter() {
            let is = |wanted: &[Standing]| {
                let mut mappings = host.mappings.iter();
                mappings.any(|mapping| wanted.contains(&mapping.standing))
            };
            let is_in_the_middle = host.applied.as_ref().is_some_and(|it| it.is_in_the_middle);
            let agrees = plan.is_complete()
                && !is_in_the_middle
                && host
                    .mappings
                    .iter()
                    .all(|it| it.standing == Standing::Agrees);
            summary.agree += usize::from(agrees);
            summary.drifted += usize::from(is(&[Standing::Drifted, Standing::Both]));
            summary.behind += usize::from(is(&[Standing::Behind, Standing::Both]));
            summary.never_applied += usize::from(is(&[Standing::NeverApplied]));
            summary.in_the_middle += usize::from(is_in_the_middle);
            match plan.status {
                HostStatus::Ok => {}
                HostStatus::Unreachable(_) => summary.unreachable += 1,
                HostStatus::Failed(_) => summary.failed += 1,
            }
            for mapping in &host.mappings {
                summary.drifted_entries += mapping.drift.len();
                summary.to_apply += mapping.to_apply;
            }
        }
        summary
    }
}

impl Applied {
    fn of(record: &HostRecord) -> Self {
        Self {
            serial: record.serial,
            at: record.updated_at.clone(),
            is_in_the_middle: record.is_in_the_middle(),
        }
    }
}

fn mappings_of(
    host: &Host,
    plan: &HostPlan,
    known: &PreparedHost,
    record: Option<&HostRecord>,
    modes: Modes,
) -> Vec<MappingStanding> {
    let is_recorded = |mapping: &Mapping| {
        let mut recorded = record.iter().flat_map(|record| &record.mappings);
        recorded.any(|recorded| recorded.dest == mapping.dest_as_written)
    };
    let standing = |(index, mapping): (usize, &Mapping)| {
        let changes = plan.changes().iter().filter(|it| it.mapping == index);
        let (recorded, actual) = (&known.recorded[index], &known.actual[index]);
        if !is_recorded(mapping) {
            return MappingStanding::never_applied(changes);
        }
        let drift = if actual.is_just(recorded) {
            Vec::new()
        } else {
            let problems = &known.sources[index].problems;
            let is_ours = |path: &RelPath| {
                let is_unsendable = |top: &RelPath| path == top || path.is_below(top);
                !mapping.exclude.excludes(path)
                    && !problems.iter().any(|problem| is_unsendable(&problem.path))
            };
            drift(recorded, actual, modes, is_ours)
        };
        MappingStanding::of(drift, changes, recorded, modes)
    };
    host.mappings.iter().enumerate().map(standing).collect()
}

/// Entries that are not what was written last, of those that are ours.
fn drift(
    recorded: &Tree,
    actual: &Actual,
    modes: Modes,
    is_ours: impl Fn(&RelPath) -> bool,
) -> Vec<Drift> {
    let written = recorded.entries().iter().map(|entry| {
        let actual = actual.get(&entry.path);
        (&entry.path, Some(&entry.node), actual)
    });
    let others = actual
        .iter()
        .filter(|(path, _)| recorded.get(path).is_none());
    let others = others.map(|(path, node)| (path, None, Some(node)));
    let has_moved = |recorded: Option<&Node>, actual: Option<&Node>| match (recorded, actual) {
        (Some(recorded), Some(actual)) => !is_same(modes, recorded, actual),
        _ => true,
    };
    let mut drift: Vec<Drift> = written
        .chain(others)
        .filter(|(path, recorded, actual)| has_moved(*recorded, *actual) && is_ours(path))
        .map(|(path, recorded, actual)| Drift {
            path: path.clone(),
            recorded: recorded.cloned(),
            actual: actual.cloned(),
        })
        .collect();
    drift.sort_by(|a, b| a.path.cmp(&b.path));
    drift
}

impl MappingStanding {
    fn never_applied<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        Self {
            standing: Standing::NeverApplied,
            drift: Vec::new(),
            to_apply: changes.filter(|it| it.action != Action::Adopt).count(),
        }
    }

    fn of<'a>(
        drift: Vec<Drift>,
        changes: impl Iterator<Item = &'a Change>,
        recorded: &Tree,
        modes: Modes,
    ) -> Self {
        let (mut to_apply, mut is_behind) = (0, false);
        for change in changes.filter(|it| it.action != Action::Adopt) {
            to_apply += 1;
            // Where what is to come is what was written last, only the host has moved.
            is_behind |= match (recorded.get(&change.path), &change.after) {
                (None, None) => false,
                (Some(recorded), Some(after)) => !is_same(modes, recorded, after),
                _ => true,
            };
        }
        let standing = match (drift.is_empty(), is_behind) {
            (true, false) => Standing::Agrees,
            (false, false) => Standing::Drifted,
            (true, true) => Standing::Behind,
            (false, true) => Standing::Both,
        };
        Self {
            standing,
            drift,
            to_apply,
        }
    }
}

#[cfg(test)]
mod tests;
