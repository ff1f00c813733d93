//! What a rollback undoes.

use std::sync::Arc;

use super::error::{NoRollbackPath, NoRollbackTarget};
use super::path::RollbackPath;
use crate::config::Host;
use crate::model::{HostError, HostId, Tree};
use crate::plan::error::PrepareError;
use crate::plan::goal::types::{Goal, Visit};
use crate::plan::prepared::{PlannedRun, Preparation};
use crate::plan::{HostPlan, HostStatus, MappingNames, Plan};
use crate::state::{HostRecord, PastApply, PastRun, StateError, StateStore};

/// What is to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackTarget {
    /// Which applies.
    pub what: Undone,
    /// The rollback of them that was begun and is not complete; the newest run of it.
    pub begun: Option<PastRun>,
    /// Serials of the runs of that rollback.
    begun_serials: Vec<u64>,
}

/// Which applies are undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// One plan, with its retries; newest first.
    Plan(Vec<PastRun>),
    /// All that came after this serial.
    Since(u64),
}

impl RollbackTarget {
    /// Everything after `to`; without it, the last plan that changed anything, unless that is a rollback
    /// which is not complete: then that is gone on with. `None` when nothing was applied yet.
    ///
    /// # Errors
    /// When there was no apply with this serial yet.
    pub fn choose(state: &StateStore, to: Option<u64>) -> Result<Option<Self>, NoRollbackTarget> {
        let now = state.identity().map_or(0, |identity| identity.serial);
        if let Some(to) = to.filter(|to| *to > now) {
            return Err(NoRollbackTarget::NotYet { to, now });
        }
        let runs = || state.runs().iter().rev();
        let Some(newest) = runs().find(|run| run.has_changes) else {
            return Ok(to.map(|to| Self::new(Undone::Since(to))));
        };
        let of_same_plan = |run: &&PastRun| run.first == newest.first;
        let is_open = newest.back_to.is_some() && !newest.is_complete;
        let what = match (to, newest.back_to.filter(|_| is_open)) {
            (Some(to), _) => Undone::Since(to),
            (None, None) => Undone::Plan(runs().filter(of_same_plan).cloned().collect()),
            (None, Some(back_to)) if newest.undoes.is_empty() => Undone::Since(back_to),
            (None, Some(_)) => {
                let is_undone = |run: &&PastRun| newest.undoes.contains(&run.serial);
                Undone::Plan(runs().filter(is_undone).cloned().collect())
            }
        };
        let mut undo = Self::new(what);
        if is_open && newest.back_to == undo.back_to() && newest.undoes == undo.serials() {
            undo.begun = Some(newest.clone());
            undo.begun_serials = runs().filter(of_same_plan).map(|run| run.serial).collect();
        }
        Ok(Some(undo))
    }

    fn new(what: Undone) -> Self {
        Self {
            what,
            begun: None,
            begun_serials: Vec::new(),
        }
    }

    /// The runs of the plan that is undone; empty for all that came after a serial.
    fn serials(&self) -> Vec<u64> {
        match &self.what {
            Undone::Plan(runs) => runs.iter().map(|run| run.serial).collect(),
            Undone::Since(_) => Vec::new(),
        }
    }

    /// The hosts that have something to be undone, but for these; sorted.
    fn others(&self, state: &StateStore, hosts: &[&Host]) -> Result<Vec<HostId>, StateError> {
        let mut others = state.hosts()?;
        others.retain(|other| hosts.iter().all(|host| host.id != *other));
        let mut with_applies = Vec::new();
        for other in others {
            let record = state.host(&other)?;
            let applies = record.as_ref().map(|record| self.applies(record));
            if applies.is_some_and(|applies| !matches!(applies, Ok([]))) {
                with_applies.push(other);
            }
        }
        Ok(with_applies)
    }

    /// The applies of a host that are to be undone, the oldest first.
    fn applies<'r>(&self, record: &'r HostRecord) -> Result<&'r [PastApply], NoRollbackPath> {
        let applies = &record.history.applies[..];
        let forgotten = record.history.forgotten;
        let (first, reaches) = match &self.what {
            Undone::Plan(runs) => {
                let is_of_plan = |serial: u64| runs.iter().any(|run| run.serial == serial);
                // What the rollback has done already, or was about to do, is on the way, too.
                let is_on_way = |serial| is_of_plan(serial) || self.begun_serials.contains(&serial);
                // One that was cut short on this host has no state of its own to go back to: it goes with the
                // one that finished its work.
                let goes = |apply: &PastApply| {
                    is_on_way(apply.serial)
                        || apply.finished_by.is_some_and(is_on_way)
                        || apply.is_open()
                };
                let is_last = applies.last().is_some_and(|last| is_on_way(last.serial));
                let kept = applies.iter().rposition(|apply| !is_last || !goes(apply));
                let first = kept.map_or(0, |kept| kept + 1);
                let reaches = !is_of_plan(forgotten) || first > 0;
                (first, reaches)
            }
            Undone::Since(serial) => {
                let first = applies.partition_point(|apply| apply.serial <= *serial);
                (first, forgotten <= *serial)
            }
        };
        if reaches {
            return Ok(&applies[first..]);
        }
        Err(NoRollbackPath::NoBackups {
            serial: forgotten,
            kept: applies.len(),
        })
    }
}

impl Goal for RollbackTarget {
    fn visit(
        &self,
        host: &Host,
        record: Option<&HostRecord>,
        known: &[Arc<Tree>],
        state: &StateStore,
    ) -> Result<Visit<'_>, StateError> {
        let path = match record.map(|record| self.applies(record)) {
            None | Some(Ok([])) => return Ok(without_visit(host, HostStatus::Ok)),
            Some(Ok(applies)) => RollbackPath::of(applies, host, known, state)?,
            Some(Err(error)) => Err(error),
        };
        Ok(match path {
            Ok(path) => Visit::Needed(Box::new(path)),
            Err(error) => without_visit(host, HostStatus::Failed(HostError::from(&error))),
        })
    }

    fn reads_sources(&self) -> bool {
        false
    }

    fn back_to(&self) -> Option<u64> {
        Some(match &self.what {
            Undone::Plan(runs) => {
                let serials = runs.iter().map(|run| run.serial);
                serials.min().unwrap_or_default().saturating_sub(1)
            }
            Undone::Since(serial) => *serial,
        })
    }

    fn end(
        &self,
        plan: &Plan,
        _hosts: &[Preparation],
        picked: &[&Host],
        state: &StateStore,
    ) -> Result<PlannedRun, PrepareError> {
        let others = self.others(state, picked)?;
        Ok(PlannedRun {
            saved_plan: None,
            // Of what stays as it is, nothing comes of another attempt.
            is_all: others.is_empty() && plan.unseen().next().is_none(),
            undoes: self.serials(),
            others,
        })
    }
}

fn without_visit<'g>(host: &Host, status: HostStatus) -> Visit<'g> {
    let mappings = host.mappings.iter();
    let mappings = mappings.map(|mapping| MappingNames::of(mapping, None));
    Visit::NotNeeded(Box::new(HostPlan {
        status,
        mappings: mappings.collect(),
        ..HostPlan::empty(&host.id)
    }))
}
