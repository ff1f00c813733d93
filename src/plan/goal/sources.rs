//! Hosts are to have what the sources have.

use std::sync::Arc;

use super::types::{Goal, HostGoal, Situation, Visit};
use crate::config::Host;
use crate::model::{RelPath, Tree};
use crate::plan::Plan;
use crate::plan::build::{self, HostChanges, MappingInput};
use crate::plan::comparison::Comparison;
use crate::plan::error::{NoHostPlan, PlanError, PrepareError};
use crate::plan::prepared::{PlannedRun, Preparation};
use crate::state::{HostRecord, StateError, StateStore};

/// Hosts are to have what the sources have.
#[derive(Clone, Copy, Debug)]
pub struct Sources;

impl Goal for Sources {
    fn visit(
        &self,
        _host: &Host,
        _record: Option<&HostRecord>,
        _known: &[Arc<Tree>],
        _state: &StateStore,
    ) -> Result<Visit<'_>, StateError> {
        Ok(Visit::Needed(Box::new(Self)))
    }

    fn end(
        &self,
        plan: &Plan,
        _hosts: &[Preparation],
        _picked: &[&Host],
        _state: &StateStore,
    ) -> Result<PlannedRun, PrepareError> {
        Ok(PlannedRun {
            is_all: plan.is_complete(),
            ..PlannedRun::default()
        })
    }
}

impl HostGoal for Sources {
    fn changes(&self, situation: &Situation<'_>) -> Result<HostChanges, NoHostPlan> {
        let Situation {
            host,
            comparisons,
            actual,
            policy,
            ..
        } = *situation;
        let mut sides = comparisons.iter().zip(actual);
        if sides.all(|(it, actual)| it.is_same() && actual.is_just(&it.recorded)) {
            // The common case, which costs next to nothing however large the trees are.
            let entries = comparisons.iter().map(|it| it.source.tree.len());
            return Ok(HostChanges {
                changes: Vec::new(),
                unchanged: entries.sum(),
            });
        }
        let unsendable: Vec<_> = comparisons.iter().map(|it| unsendable_of(it)).collect();
        let inputs: Vec<MappingInput<'_>> = host
            .mappings
            .iter()
            .enumerate()
            .map(|(index, mapping)| MappingInput {
                desired: &comparisons[index].source.tree,
                recorded: &comparisons[index].recorded,
                actual: &actual[index],
                exact: mapping.exact,
                exclude: &mapping.exclude,
                unsendable: &unsendable[index],
            })
            .collect();
        let changes = build::build(&inputs, policy);
        changes.map_err(|error| PlanError::too_many_deletes(host, error).into())
    }

    fn renews_listing(&self) -> bool {
        true
    }
}

fn unsendable_of(comparison: &Comparison) -> Vec<RelPath> {
    let problems = comparison.source.problems.iter();
    problems.map(|problem| problem.path.clone()).collect()
}
