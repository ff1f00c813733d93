//! What every goal has to answer, and what it is told.

use std::sync::Arc;

use super::saved::StalePlan;
use crate::config::{Host, Mapping};
use crate::model::{Blake3, Tree};
use crate::plan::build::{HostChanges, Policy};
use crate::plan::comparison::Comparison;
use crate::plan::error::{NoHostPlan, PrepareError};
use crate::plan::naming;
use crate::plan::prepared::{PlannedRun, Preparation, Terms};
use crate::plan::{Actual, Change, HostPlan, Plan, PlanHeader};
use crate::source::local::{SourceError, SourceTree};
use crate::state::{HostRecord, StateError, StateStore};

/// What hosts are to be made equal to.
pub trait Goal: Sync {
    /// What is to be done on a host. `record` is what the state has of it; `known` is, by mapping, all
    /// that may be there by our hand.
    ///
    /// # Errors
    /// When the state cannot be read.
    fn visit(
        &self,
        host: &Host,
        record: Option<&HostRecord>,
        known: &[Arc<Tree>],
        state: &StateStore,
    ) -> Result<Visit<'_>, StateError>;

    /// Whether the sources are read.
    fn reads_sources(&self) -> bool {
        true
    }

    /// Looks whether the sources of these hosts are those that the goal rests on. `digest` names the
    /// source of a mapping; `None` where it could not be read.
    ///
    /// # Errors
    /// When they are not: then nothing is done on any host.
    fn check_sources(
        &self,
        _hosts: &[&Host],
        _digest: &dyn Fn(&Mapping) -> Option<Blake3>,
    ) -> Result<(), StalePlan> {
        Ok(())
    }

    /// The serial that hosts are back at afterwards; `None` where nothing is undone.
    fn back_to(&self) -> Option<u64> {
        None
    }

    /// The header of the plan; `None` for a plan that is made now.
    fn header(&self) -> Option<PlanHeader> {
        None
    }

    /// What a run of the plan will be to the state, now that all hosts have been looked at. `hosts` are
    /// those of the plan, in its order; `picked` are those that were asked for.
    ///
    /// # Errors
    /// When the state cannot be read, or nothing is left to be done of what was saved.
    fn end(
        &self,
        plan: &Plan,
        hosts: &[Preparation],
        picked: &[&Host],
        state: &StateStore,
    ) -> Result<PlannedRun, PrepareError>;
}

/// Whether a host is visited.
pub enum Visit<'g> {
    /// There is nothing to be done on it, or no way to do it: this is its plan.
    NotNeeded(Box<HostPlan>),
    /// This is to be done.
    Needed(Box<dyn HostGoal + 'g>),
}

/// What one host is to be made equal to.
pub trait HostGoal: Sync {
    /// Why the host can be neither logged in to nor worked on, with the cures.
    fn problem(&self, host: &Host) -> Option<String> {
        host.problems()
    }

    /// By mapping of the host, what is to be there. `source` gives the source of a mapping, with the
    /// digests that the host needs.
    ///
    /// # Errors
    /// When a source could not be read.
    fn desired(
        &self,
        host: &Host,
        source: &dyn Fn(&Mapping) -> Result<Arc<SourceTree>, SourceError>,
    ) -> Result<Vec<Arc<SourceTree>>, SourceError> {
        host.mappings.iter().map(source).collect()
    }

    /// The changes that lead there.
    ///
    /// # Errors
    /// When the host is not to be touched.
    fn changes(&self, situation: &Situation<'_>) -> Result<HostChanges, NoHostPlan>;

    /// Entries that stay as they are although they are to be changed, with the reason, for people.
    fn problems(&self, host: &Host, desired: &[Arc<SourceTree>]) -> Vec<String> {
        let sides = host.mappings.iter().zip(desired);
        let problems = sides.flat_map(|(mapping, source)| {
            let named = |path| naming::below(&mapping.src_as_written, path);
            let problems = source.problems.iter();
            problems.map(move |problem| format!("{}: {}", named(&problem.path), problem.reason))
        });
        problems.collect()
    }

    /// Whether a host is also visited to renew its listing, and to remove what a dead run has left.
    fn renews_listing(&self) -> bool {
        false
    }

    /// Whether something on the host is not as recorded and stays so, since none of these changes is
    /// about it.
    fn leaves_drift(&self, _situation: &Situation<'_>, _changes: &[Change]) -> bool {
        false
    }

    /// On what terms the changes are carried out.
    fn terms(&self) -> Terms {
        Terms::default()
    }
}

/// What was found out about a host.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The host.
    pub host: &'a Host,
    /// What the state has of it.
    pub record: Option<&'a HostRecord>,
    /// By mapping, what is to be there beside what is recorded.
    pub comparisons: &'a [Arc<Comparison>],
    /// By mapping, what is there.
    pub actual: &'a [Actual],
    /// What the configuration says about planning.
    pub policy: Policy,
}
