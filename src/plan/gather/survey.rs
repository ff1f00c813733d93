//! One survey of all hosts: what each of them has, and what is to be done on it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::checks::{check_changes, check_destinations, mark_exposed};
use super::comparisons::Comparisons;
use super::events::HostEvents;
use super::logins::{KeptLogins, wait_with};
use super::looking::look_at;
use super::recorded::Recorded;
use super::sources::ReadSources;
use crate::config::{Host, MaxDelete};
use crate::model::{Awaited, Phase};
use crate::plan::build::{HostChanges, Policy};
use crate::plan::diffs::Diffs;
use crate::plan::error::NoHostPlan;
use crate::plan::goal::saved::StalePlan;
use crate::plan::goal::{HostGoal, Situation, Visit};
use crate::plan::prepared::{Preparation, PreparedHost};
use crate::plan::{
    Actual, Change, ChangeSet, HostPlan, HostStatus, MappingNames, PlanRequest, Refresh, Warning,
};
use crate::remote::Algorithm;
use crate::remote::Login;
use crate::remote::tasks::look::{HostLook, Listing};
use crate::source::local::{SourceError, SourceTree};
use crate::state::{HostRecord, StateError};
use crate::transport::TransportError;

/// A host, and what is to be done on it.
pub(in crate::plan) struct HostToPlan<'a> {
    pub(in crate::plan) host: &'a Host,
    recorded: Recorded,
    visit: Visit<'a>,
}

impl<'a> HostToPlan<'a> {
    /// Reads what the state has of the host.
    pub(in crate::plan) fn begin(
        request: &PlanRequest<'a>,
        host: &'a Host,
    ) -> Result<Self, StateError> {
        let recorded = Recorded::load(request.state, host)?;
        let record = recorded.record.as_ref();
        let visit = request
            .goal
            .visit(host, record, &recorded.known, request.state)?;
        Ok(Self {
            host,
            recorded,
            visit,
        })
    }

    /// Whether the host is visited.
    pub(in crate::plan) fn is_visited(&self) -> bool {
        matches!(self.visit, Visit::Needed(_))
    }

    fn record(&self) -> Option<&HostRecord> {
        self.recorded.record.as_ref()
    }
}

/// What a survey has of a host.
pub(in crate::plan) struct Surveyed {
    pub(in crate::plan) plan: HostPlan,
    /// What became of the listing that the host keeps; `None` without a look.
    pub(in crate::plan) listing: Option<Listing>,
    pub(in crate::plan) preparation: Preparation,
}

impl Surveyed {
    fn without_look(plan: HostPlan) -> Self {
        Self {
            plan,
            listing: None,
            preparation: Preparation::Nothing,
        }
    }
}

/// The sources, and whether they are those that the goal rests on.
struct CheckedSources<'a> {
    sources: ReadSources<'a>,
    check: Result<(), StalePlan>,
}

/// What all hosts of a plan share.
pub(in crate::plan) struct Survey<'a> {
    request: &'a PlanRequest<'a>,
    sources: Awaited<CheckedSources<'a>>,
    /// How long a login that was made early waits for them.
    patience: Duration,
    comparisons: Comparisons,
    /// `None` where nobody has asked for them.
    diffs: Option<Diffs>,
    events: HostEvents<'a>,
    logins: KeptLogins,
}

impl<'a> Survey<'a> {
    pub(in crate::plan) fn new(request: &'a PlanRequest<'a>, patience: Duration) -> Self {
        let settings = &request.config.settings;
        Self {
            request,
            sources: Awaited::default(),
            patience,
            comparisons: Comparisons::default(),
            diffs: request.wants_diffs.then(|| Diffs::new(settings)),
            events: HostEvents::new(request.observer),
            logins: KeptLogins::new(request.keep_logins),
        }
    }

    /// Reads the sources, for which [`Self::host`] waits. Then tells what has happened on hosts.
    pub(in crate::plan) fn read_sources(&self, work: &'a [HostToPlan<'a>]) {
        let request = self.request;
        self.sources.fulfil(|| {
            let sources = if request.goal.reads_sources() {
                ReadSources::read(request, work.iter().map(HostToPlan::record))
            } else {
                ReadSources::none(request)
            };
            let digest = |mapping: &_| sources.digest(mapping);
            let check = request.goal.check_sources(request.hosts, &digest);
            let visits = work.iter().filter(|work| work.is_visited());
            self.events.begin(visits.count());
            CheckedSources { sources, check }
        });
    }

    /// Whether the sources are those that the goal rests on, once they have been read; and the logins
    /// that were kept.
    pub(in crate::plan) fn end(self) -> Result<KeptLogins, StalePlan> {
        self.sources.wait().check.clone()?;
        Ok(self.logins)
    }

    /// Looks at one host, if it is to be visited.
    pub(in crate::plan) fn host(&self, work: &HostToPlan<'_>) -> Surveyed {
        let goal = match &work.visit {
            Visit::NotNeeded(plan) => return Surveyed::without_look(plan.as_ref().clone()),
            Visit::Needed(goal) => goal.as_ref(),
        };
        let mut plan = HostPlan::empty(&work.host.id);
        let result = if self.request.refresh == Refresh::None {
            self.assume(work, goal, &mut plan)
        } else {
            self.look(work, goal, &mut plan)
        };
        plan.mappings = self.names_of(work.host);
        match result {
            Ok((listing, preparation)) => Surveyed {
                plan,
                listing,
                preparation,
            },
            Err(NoHostPlan::Stale(error)) => Surveyed {
                preparation: Preparation::Stale(error),
                ..Surveyed::without_look(plan)
            },
            Err(NoHostPlan::Unreachable(error)) => {
                plan.status = HostStatus::Unreachable(error);
                Surveyed::without_look(plan)
            }
            Err(NoHostPlan::Failed(error)) => {
                plan.status = HostStatus::Failed(error);
                Surveyed::without_look(plan)
            }
        }
    }

    fn names_of(&self, host: &Host) -> Vec<MappingNames> {
        let sources = &self.sources.wait().sources;
        let mappings = host.mappings.iter();
        mappings
            .map(|mapping| MappingNames::of(mapping, sources.digest(mapping)))
            .collect()
    }

    /// Takes the host for what the state says, without a look.
    fn assume(
        &self,
        work: &HostToPlan<'_>,
        goal: &dyn HostGoal,
        plan: &mut HostPlan,
    ) -> Result<(Option<Listing>, Preparation), NoHostPlan> {
        let (host, record) = (work.host, work.record());
        let sources = &self.sources.wait().sources;
        if let Some(problem) = &host.problem {
            return Err(NoHostPlan::Failed(problem.as_str().into()));
        }
        let algorithm = match record.and_then(|record| record.algorithm.as_deref()) {
            Some(name) if name == Algorithm::Blake3.as_str() => Algorithm::Blake3,
            _ => Algorithm::Sha256,
        };
        let desired = desired(goal, host, sources, algorithm)?;
        let comparisons = self.comparisons.of_host(&desired, &work.recorded.trees);
        let actual: Vec<Actual> = comparisons
            .iter()
            .map(|comparison| Actual::from(Arc::clone(&comparison.recorded)))
            .collect();
        let changes = goal.changes(&Situation {
            host,
            record,
            comparisons: &comparisons,
            actual: &actual,
            policy: self.policy(),
        })?;
        plan.unchanged = changes.unchanged;
        plan.problems = goal.problems(host, &desired);
        plan.change_set = self.change_set(host, &desired, &actual, changes.changes, None);
        Ok((None, Preparation::Nothing))
    }

    /// Logs in, asks and compares.
    fn look(
        &self,
        work: &HostToPlan<'_>,
        goal: &dyn HostGoal,
        plan: &mut HostPlan,
    ) -> Result<(Option<Listing>, Preparation), NoHostPlan> {
        let host = work.host;
        let (changes, warnings, prepared, mut login) = self.compare_with_host(work, goal)?;
        plan.warnings = warnings;
        plan.unchanged = changes.unchanged;
        let (sources, actual) = (&prepared.sources, &prepared.actual);
        plan.change_set = self.change_set(host, sources, actual, changes.changes, Some(&mut login));
        plan.problems = goal.problems(host, &prepared.sources);
        let listing = prepared.look.listing;
        // What apply would need is kept only for hosts that it would work on: there may be many.
        let is_needed = plan.change_set.is_some() || prepared.needs_visit || self.request.keeps_all;
        if !is_needed {
            login.close();
            return Ok((Some(listing), Preparation::Nothing));
        }
        self.logins.keep(&host.id, login);
        Ok((Some(listing), Preparation::Ready(Box::new(prepared))))
    }

    fn compare_with_host(
        &self,
        work: &HostToPlan<'_>,
        goal: &dyn HostGoal,
    ) -> Result<(HostChanges, BTreeSet<Warning>, PreparedHost, Login), NoHostPlan> {
        let HostToPlan { host, recorded, .. } = work;
        // A host that cannot be worked on is not logged in to.
        let problem = goal.problem(host);
        let early = problem.is_none().then(|| self.log_in(host));
        let (early, checked) = wait_with(early, &self.sources, self.patience);
        if let Some(problem) = problem {
            return Err(NoHostPlan::Failed(problem.into()));
        }
        checked.check.clone()?;
        let sources = &checked.sources;
        // Which paths there are does not depend on the digests, so any reading of the source will do.
        let any = desired(goal, host, sources, Algorithm::Blake3)?;
        let comparisons = self.comparisons.of_host(&any, &recorded.known);
        let mut login = early.unwrap_or_else(|| self.log_in(host))?;
        self.events.phase(host, Phase::Looking);
        let look = look_at(self.request, host, recorded, &comparisons, &mut login)?;
        check_destinations(host, &look)?;
        let desired = desired(goal, host, sources, look.facts.algorithm)?;
        let comparisons = self.comparisons.of_host(&desired, &recorded.known);
        let actual: Vec<Actual> = host
            .mappings
            .iter()
            .zip(&comparisons)
            .map(|(mapping, comparison)| comparison.actual(mapping, &look))
            .collect();
        let trees = recorded.settled(&actual);
        let comparisons = self.comparisons.of_host(&desired, &trees);
        let situation = Situation {
            host,
            record: work.record(),
            comparisons: &comparisons,
            actual: &actual,
            policy: self.policy(),
        };
        let mut changes = goal.changes(&situation)?;
        let is_read = self.request.goal.header().is_some();
        let warnings = mark_exposed(host, &look, &mut changes.changes, is_read)?;
        check_changes(host, &look, &comparisons, &changes.changes)?;
        let leaves_drift = goal.leaves_drift(&situation, &changes.changes);
        let recorded = comparisons.iter().map(|it| Arc::clone(&it.recorded));
        let prepared = PreparedHost {
            needs_visit: self.needs_visit(goal, work.record(), &look),
            leaves_drift,
            sources: desired,
            recorded: recorded.collect(),
            record: work.recorded.record.clone(),
            actual,
            look,
            terms: goal.terms(),
        };
        Ok((changes, warnings, prepared, login))
    }

    /// Whether apply has to see to a host even where nothing is to be changed.
    fn needs_visit(
        &self,
        goal: &dyn HostGoal,
        record: Option<&HostRecord>,
        look: &HostLook,
    ) -> bool {
        let is_looked_at_anew =
            self.request.refresh == Refresh::Quick && !matches!(look.listing, Listing::Same);
        record.is_some_and(|record| {
            let is_seen_to = goal.renews_listing()
                && (record.listing.is_none() || is_looked_at_anew || look.has_leftovers);
            record.is_in_the_middle() || is_seen_to
        })
    }

    fn policy(&self) -> Policy {
        let settings = &self.request.config.settings;
        Policy {
            modes: settings.modes,
            // Whoever only wants to know what has drifted is kept from nothing.
            max_delete: if self.request.keeps_all {
                MaxDelete { percent: 100 }
            } else {
                settings.max_delete
            },
        }
    }

    /// These changes, with their diffs if these were asked for. Without a login, no host is looked at.
    fn change_set(
        &self,
        host: &Host,
        sources: &[Arc<SourceTree>],
        actual: &[Actual],
        changes: Vec<Change>,
        login: Option<&mut Login>,
    ) -> Option<Arc<ChangeSet>> {
        if changes.is_empty() {
            return None;
        }
        Some(match &self.diffs {
            Some(diffs) => diffs.change_set(host, sources, actual, changes, login),
            None => Arc::new(ChangeSet::new(changes, BTreeMap::new())),
        })
    }

    fn log_in(&self, host: &Host) -> Result<Login, TransportError> {
        self.events.phase(host, Phase::Connecting);
        self.request.connector.connect(host).map(Login::new)
    }
}

/// By mapping of the host, what is to be there.
fn desired(
    goal: &dyn HostGoal,
    host: &Host,
    sources: &ReadSources<'_>,
    algorithm: Algorithm,
) -> Result<Vec<Arc<SourceTree>>, SourceError> {
    goal.desired(host, &|mapping| sources.get(mapping, algorithm))
}
