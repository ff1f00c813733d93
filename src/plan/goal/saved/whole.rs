//! A saved plan as a whole.

use std::collections::HashMap;
use std::sync::Arc;

use super::host::SavedHost;
use super::stale::StalePlan;
use crate::config::{Host, Mapping};
use crate::model::{Blake3, HostError, HostId, Tree};
use crate::plan::error::PrepareError;
use crate::plan::goal::types::{Goal, Visit};
use crate::plan::prepared::{PlannedRun, Preparation};
use crate::plan::{HostPlan, HostStatus, Plan, PlanHeader, document};
use crate::state::{HostRecord, StateError, StateStore};

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
    let check = SavedPlanCheck::begin(plan, hosts, state, config_digest)?;
    match check.applied {
        Some(serial) => Err(check.already_applied(serial).into()),
        None => Ok(()),
    }
}

/// A saved plan that is being carried out as it is: nothing new is planned, and only what it names is
/// looked at.
#[derive(Debug)]
pub struct SavedPlanCheck<'a> {
    plan: &'a Plan,
    /// The plans of its hosts.
    hosts: HashMap<&'a HostId, &'a HostPlan>,
    /// Names the plan in the state.
    digest: Blake3,
    /// The highest serial that this plan was applied with before.
    applied: Option<u64>,
}

impl<'a> SavedPlanCheck<'a> {
    /// Looks whether the plan was made from this state and this configuration. `hosts` are those of the
    /// plan that it is to be carried out on.
    ///
    /// # Errors
    /// When the state cannot be read, and [`PrepareError::Stale`] for a plan that is stale.
    pub fn begin(
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
            applied,
        })
    }

    /// The plan of a host in it.
    fn planned(&self, host: &Host) -> Option<&'a HostPlan> {
        self.hosts.get(&host.id).copied()
    }

    /// Whether nothing is left to be done on a host, and it could be looked at.
    fn is_done(&self, plan: &HostPlan, preparation: &Preparation) -> bool {
        plan.change_set.is_none()
            && matches!(preparation, Preparation::Nothing)
            && (plan.status == HostStatus::Ok || !self.has_changes(plan))
    }

    fn has_changes(&self, host: &HostPlan) -> bool {
        let planned = self.hosts.get(&host.host);
        planned.is_some_and(|planned| planned.change_set.is_some())
    }

    fn already_applied(&self, serial: u64) -> StalePlan {
        let unseen = self.plan.unseen().map(ToString::to_string).collect();
        StalePlan::Applied { serial, unseen }
    }
}

impl Goal for SavedPlanCheck<'_> {
    fn visit(
        &self,
        host: &Host,
        _record: Option<&HostRecord>,
        _known: &[Arc<Tree>],
        _state: &StateStore,
    ) -> Result<Visit<'_>, StateError> {
        Ok(match self.planned(host) {
            Some(planned) if planned.change_set.is_none() => {
                Visit::NotNeeded(Box::new(without_visit(planned)))
            }
            planned => Visit::Needed(Box::new(SavedHost {
                planned,
                digest: self.digest,
                serial: self.plan.header.serial,
            })),
        })
    }

    fn check_sources(
        &self,
        hosts: &[&Host],
        digest: &dyn Fn(&Mapping) -> Option<Blake3>,
    ) -> Result<(), StalePlan> {
        let mut changed = Vec::new();
        for host in hosts {
            let planned = self.planned(host).into_iter();
            let planned = planned.flat_map(|planned| &planned.mappings);
            for (mapping, planned) in host.mappings.iter().zip(planned) {
                let is_named = planned.source.is_some();
                if is_named && digest(mapping) != planned.source && !changed.contains(&planned.src)
                {
                    changed.push(planned.src.clone());
                }
            }
        }
        if changed.is_empty() {
            Ok(())
        } else {
            Err(StalePlan::Source { sources: changed })
        }
    }

    fn header(&self) -> Option<PlanHeader> {
        Some(self.plan.header.clone())
    }

    fn end(
        &self,
        plan: &Plan,
        hosts: &[Preparation],
        _picked: &[&Host],
        _state: &StateStore,
    ) -> Result<PlannedRun, PrepareError> {
        let mut sides = plan.hosts.iter().zip(hosts);
        if let Some(serial) = self.applied
            && sides.all(|(plan, preparation)| self.is_done(plan, preparation))
        {
            return Err(self.already_applied(serial).into());
        }
        Ok(PlannedRun {
            saved_plan: Some(self.digest),
            is_all: plan.is_complete(),
            ..PlannedRun::default()
        })
    }
}

/// The plan of a host on which a saved plan, which has this for it, does nothing.
fn without_visit(planned: &HostPlan) -> HostPlan {
    let then = |error: &HostError| HostError {
        message: format!("when the plan was made: {}", error.message),
        ..error.clone()
    };
    let status = match &planned.status {
        HostStatus::Ok => HostStatus::Ok,
        HostStatus::Unreachable(error) => HostStatus::Unreachable(then(error)),
        HostStatus::Failed(error) => HostStatus::Failed(then(error)),
    };
    HostPlan {
        status,
        ..planned.clone()
    }
}
