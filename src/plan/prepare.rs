//! Everything a plan needs, gathered: sources read once, hosts looked at many at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::config::{Config, Exact, Host, Mapping, MaxDelete};
use crate::model::{
    Awaited, Blake3, Event, HostError, HostId, HostOutcome, Node, Observer, Phase, RelPath,
    RemotePath, Tree, Work, map_parallel,
};
use crate::remote::Login;
use crate::remote::tasks::look::{self, HostLook, Listing, LookRequest};
use crate::remote::{Algorithm, RemoteError};
use crate::source::local::{SourceError, SourceTree};
use crate::state::{HostRecord, Identity, StateError, StateStore};
use crate::transport::{Connector, TransportError};

use super::actual::Actual;
use super::build::{self, HostChanges, MappingInput, Policy, TooManyDeletes};
use super::comparison::{Comparison, Comparisons};
use super::diffs::{self, Diffs};
use super::goal::rollback::{RollbackPath, RollbackTarget};
use super::goal::saved::{self, SavedPlanCheck, StalePlan};
use super::interrupted;
use super::sources::Sources;
use super::staging;
use super::{
    Action, Change, ChangeSet, HostPlan, HostStatus, KeptLogins, MappingNames, Plan, PlanHeader,
    Refresh,
};

/// How long a login that was made early waits for the sources. Then it is logged out, and made again
/// when they have been read.
const EARLY_LOGIN: Duration = Duration::from_secs(5);

/// What to plan, and with what.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Digest of the configuration.
    pub config_digest: Blake3,
    /// The hosts to plan for.
    pub hosts: &'a [&'a Host],
    /// The state.
    pub state: &'a StateStore,
    /// Where digests of unchanged sources are kept between runs.
    pub cache_dir: Option<&'a Path>,
    /// Logs in to hosts.
    pub connector: &'a dyn Connector,
    /// How closely to look.
    pub refresh: Refresh,
    /// What hosts are to be made equal to.
    pub aim: Goal<'a>,
    /// Whether it is to be found out how contents differ.
    pub wants_diffs: bool,
    /// Whether what is known of a host is kept even where nothing is to be done.
    pub keeps_all: bool,
    /// How many logins are kept for an apply that follows at once; 0 when somebody is asked before.
    pub keep_logins: usize,
    /// The time, for the plan's header: RFC 3339, UTC.
    pub now: &'a str,
    /// Told what happens.
    pub observer: &'a dyn Observer,
}

/// What hosts are to be made equal to.
#[derive(Clone, Copy, Debug)]
pub enum Goal<'a> {
    /// The sources.
    Sources,
    /// A saved plan, which is to be carried out as it is: nothing new is planned, and only what it names
    /// is looked at.
    Saved(&'a Plan),
    /// What they were before some applies.
    Back(&'a RollbackTarget),
}

/// A plan, and what was found out on the way to it, which apply needs.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// For each host of the plan, in its order, what is known.
    pub hosts: Vec<Preparation>,
    /// For each host of the plan, in its order, what became of the listing that it keeps; `None` for
    /// one without a look.
    pub listings: Vec<Option<Listing>>,
    /// Logins on hosts on which something is to be done.
    pub logins: KeptLogins,
    /// Digest of the saved plan that is carried out; `None` for a plan that was just made.
    pub follows: Option<Blake3>,
    /// In a rollback, where it goes.
    pub back: Option<GoesBack>,
}

/// Where a rollback goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoesBack {
    /// The serial that hosts are back at afterwards.
    pub to: u64,
    /// The runs that are undone; empty for all that came after that serial.
    pub undoes: Vec<u64>,
    /// Hosts that have something to be undone, too, and are not among those that were picked; sorted.
    pub others: Vec<HostId>,
}

/// What a look at a host has come to.
#[derive(Debug)]
pub enum Preparation {
    /// There is nothing to be done, or it could not be looked at.
    Nothing,
    /// This is known.
    Ready(Box<PreparedHost>),
    /// It is no longer as the saved plan says; the text says what moved.
    Stale(String),
}

impl Preparation {
    /// What is known of a host on which something is to be done.
    pub fn ready(&self) -> Option<&PreparedHost> {
        match self {
            Self::Ready(prepared) => Some(prepared),
            Self::Nothing | Self::Stale(_) => None,
        }
    }
}

/// Why no plan could be made or followed at all.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The saved plan is stale as a whole.
    #[error(transparent)]
    Stale(#[from] StalePlan),
}

/// What is known of a host that was looked at.
#[derive(Debug)]
pub struct PreparedHost {
    /// What is to be there, by mapping.
    pub sources: Vec<Arc<SourceTree>>,
    /// What was written last, by mapping; empty where nothing was.
    pub recorded: Vec<Arc<Tree>>,
    /// The record itself.
    pub record: Option<HostRecord>,
    /// What the host has, by mapping.
    pub actual: Vec<Actual>,
    /// What it answered.
    pub look: HostLook,
    /// Whether an earlier apply did not come to its end here, or there is no listing to be trusted, or
    /// something has moved without becoming different: apply then sees to it, even where nothing is to
    /// be changed, since every plan would have to look again.
    pub needs_visit: bool,
    /// Whether something on the host is not as recorded, and the saved plan that is carried out has
    /// nothing about it.
    pub leaves_drift: bool,
    /// How it gets back, in a rollback. What it gets then comes from its own backups.
    pub rollback_path: Option<Arc<RollbackPath>>,
}

impl Prepared {
    /// Bytes of content to be sent to some of the hosts; none in a rollback.
    pub fn bytes_to_send<'p>(&self, hosts: impl IntoIterator<Item = &'p HostPlan>) -> u64 {
        if self.back.is_some() {
            return 0;
        }
        let changes = hosts.into_iter().flat_map(HostPlan::changes);
        changes.map(Change::bytes_to_send).sum()
    }

    /// Whether nothing is left to be done when this plan is done.
    pub fn is_all(&self) -> bool {
        match &self.back {
            // Of what stays as it is, nothing comes of another attempt.
            Some(back) => back.others.is_empty() && self.plan.unseen().next().is_none(),
            None => self.plan.is_complete(),
        }
    }

    /// The hosts on which an apply did not come to its end, with its serial.
    pub fn cut_short(&self) -> impl Iterator<Item = (&HostId, u64)> {
        let hosts = self.hosts.iter().filter_map(Preparation::ready);
        let records = hosts.filter_map(|host| host.record.as_ref());
        let cut_short = records.filter(|record| record.is_in_the_middle());
        cut_short.map(|record| (&record.host, record.serial))
    }

    /// Whether some host needs a visit though nothing is to be changed there.
    pub fn has_hosts_to_visit(&self) -> bool {
        let mut hosts = self.hosts.iter().filter_map(Preparation::ready);
        hosts.any(|host| host.needs_visit)
    }
}

/// Folder of ours on a host, below `staging` (the login folder unless configured): one for each
/// state and host, since several hosts of a configuration may share an account.
pub fn base_on_host(
    staging: Option<&RemotePath>,
    identity: Option<&Identity>,
    host: &HostId,
) -> RemotePath {
    let root = staging
        .cloned()
        .unwrap_or_else(|| RemotePath::from_dest(b"~/.hostsync"));
    let Some(identity) = identity else {
        return root;
    };
    let mut path = root.as_bytes().to_vec();
    path.extend_from_slice(format!("/{}/{}", identity.lineage, host.as_file_name()).as_bytes());
    RemotePath::from_dest(&path)
}

/// Reads the sources, looks at the hosts and builds the plan. Hosts are logged in to while the sources
/// are still being read.
///
/// # Errors
/// When the state cannot be read, or a saved plan is stale as a whole. Everything else is about one
/// host, and in its plan.
pub fn prepare(request: &Request<'_>) -> Result<Prepared, PrepareError> {
    prepare_with_patience(request, EARLY_LOGIN)
}

/// [`prepare`], with so much patience of logins that were made early.
fn prepare_with_patience(
    request: &Request<'_>,
    patience: Duration,
) -> Result<Prepared, PrepareError> {
    let saved = match request.aim {
        Goal::Saved(plan) => Some(plan),
        Goal::Sources | Goal::Back(_) => None,
    };
    let follow = saved
        .map(|plan| {
            SavedPlanCheck::begin(plan, request.hosts, request.state, request.config_digest)
        })
        .transpose()?;
    let records = request
        .hosts
        .iter()
        .map(|host| Recorded::load(request, host))
        .collect::<Result<Vec<_>, _>>()?;
    let logins = KeptLogins::new(request.keep_logins);
    let work: Vec<(&Host, Recorded)> = request.hosts.iter().copied().zip(records).collect();
    let threads = request.config.settings.number_of_connections;
    let run = Run {
        request,
        sources: Awaited::default(),
        patience,
        comparisons: Comparisons::default(),
        diffs: request
            .wants_diffs
            .then(|| Diffs::new(&request.config.settings)),
        held_back: Mutex::new(Some(Vec::new())),
        logins: &logins,
        follow: follow.as_ref(),
    };
    let plan_host = |(host, recorded): &(&Host, Recorded)| {
        let span = tracing::info_span!("plan", host = %host.id);
        let _entered = span.enter();
        if let Some(plan) = run.without_visit(host, recorded) {
            return (plan, None, Preparation::Nothing);
        }
        let result = run.host(host, recorded);
        let outcome = match result.0.status.error() {
            None => HostOutcome::Done,
            Some(error) => {
                tracing::warn!("{error}");
                HostOutcome::Failed(error.clone())
            }
        };
        request.observer.event(&Event::HostFinished {
            host: host.id.clone(),
            outcome,
        });
        result
    };
    let results = thread::scope(|scope| {
        scope.spawn(|| {
            run.sources.fulfil(|| {
                let records = work.iter().map(|(_, recorded)| recorded.record.as_ref());
                let sources = match request.aim {
                    Goal::Back(_) => Sources::none(request),
                    Goal::Sources | Goal::Saved(_) => Sources::read(request, records),
                };
                if let Some(follow) = run.follow {
                    follow.compare_sources(&sources, request.hosts);
                }
                run.begin_hosts(&work);
                sources
            });
        });
        map_parallel(&work, threads, plan_host)
    });
    request.observer.event(&Event::HostsFinished);
    if let Some(follow) = &follow {
        follow.end(results.iter().map(|(plan, _, prepared)| (plan, prepared)))?;
    }
    let mut plans = Vec::new();
    let (mut hosts, mut listings) = (Vec::new(), Vec::new());
    for (plan, listing, prepared) in results {
        plans.push(plan);
        listings.push(listing);
        hosts.push(prepared);
    }
    diffs::settle(&mut plans);
    let identity = request.state.identity();
    let header = saved.map(|plan| plan.header.clone());
    let header = header.unwrap_or_else(|| PlanHeader {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: request.now.to_owned(),
        lineage: identity.map(|identity| identity.lineage.clone()),
        serial: identity.map_or(0, |identity| identity.serial),
        refresh: request.refresh,
        config_digest: request.config_digest,
    });
    Ok(Prepared {
        plan: Plan::new(header, plans),
        hosts,
        listings,
        logins,
        follows: follow.map(|follow| follow.digest),
        back: goes_back(request)?,
    })
}

/// Where a rollback goes; `None` for what is none.
fn goes_back(request: &Request<'_>) -> Result<Option<GoesBack>, StateError> {
    let Goal::Back(undo) = request.aim else {
        return Ok(None);
    };
    Ok(Some(GoesBack {
        to: undo.back_to(),
        undoes: undo.serials(),
        others: undo.others(request.state, request.hosts)?,
    }))
}

/// What the state has of a host.
struct Recorded {
    record: Option<HostRecord>,
    /// By mapping of the configuration, what was written last.
    trees: Vec<Arc<Tree>>,
    /// By mapping, what an apply was making of it that did not come to its end.
    intended: Vec<Option<Arc<Tree>>>,
    /// By mapping, all that may be there by our hand.
    known: Vec<Arc<Tree>>,
    /// In a rollback, how the host gets back.
    back: Option<Back>,
}

/// How a host gets back.
enum Back {
    /// There is nothing to be undone on it.
    Nothing,
    /// There is no way, for this reason.
    Barred(String),
    /// This way.
    Open {
        way: Arc<RollbackPath>,
        /// By mapping, what is to be there.
        desired: Vec<Arc<SourceTree>>,
    },
}

impl Recorded {
    fn load(request: &Request<'_>, host: &Host) -> Result<Self, StateError> {
        let state = request.state;
        let record = state.host(&host.id)?;
        let mut this = Self {
            record: None,
            trees: Vec::new(),
            intended: Vec::new(),
            known: Vec::new(),
            back: None,
        };
        for mapping in &host.mappings {
            let mut mappings = record.iter().flat_map(|record| &record.mappings);
            let recorded = mappings.find(|recorded| recorded.dest == mapping.dest_as_written);
            let load = |digest: &Blake3| state.tree(digest);
            let tree = recorded.map(|recorded| load(&recorded.tree)).transpose()?;
            let tree: Arc<Tree> = tree.unwrap_or_default();
            let intended = recorded.and_then(|recorded| recorded.intended.as_ref());
            let intended = intended.map(load).transpose()?;
            this.known.push(match &intended {
                Some(intended) => Arc::new(interrupted::either(&tree, intended)),
                None => Arc::clone(&tree),
            });
            this.trees.push(tree);
            this.intended.push(intended);
        }
        if let Goal::Back(undo) = request.aim {
            let way = RollbackPath::of(undo, host, record.as_ref(), state)?;
            this.back = Some(match way {
                Ok(None) => Back::Nothing,
                Err(reason) => Back::Barred(reason),
                Ok(Some(way)) => Back::Open {
                    desired: way.desired(&this.known),
                    way: Arc::new(way),
                },
            });
        }
        this.record = record;
        Ok(this)
    }
}

impl Recorded {
    /// Whether a mapping was a mirror at the last apply.
    fn is_mirrored(&self, mapping: &Mapping) -> bool {
        let mut mappings = self.record.iter().flat_map(|record| &record.mappings);
        mappings.any(|it| it.dest == mapping.dest_as_written && it.is_mirrored)
    }

    /// By mapping, what was written last, now that it is known what is there.
    fn settled(&self, actual: &[Actual]) -> Vec<Arc<Tree>> {
        let sides = self.trees.iter().zip(&self.intended).zip(actual);
        sides
            .map(|((recorded, intended), actual)| match intended {
                Some(intended) => Arc::new(interrupted::settled(recorded, intended, actual)),
                None => Arc::clone(recorded),
            })
            .collect()
    }
}

/// Why a host has no plan.
enum Obstacle {
    Unreachable(HostError),
    Failed(HostError),
    Stale(String),
}

impl Obstacle {
    /// It failed for this reason.
    fn failed(reason: String) -> Self {
        Self::Failed(reason.into())
    }
}

impl From<RemoteError> for Obstacle {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Transport(error) => Self::from(error),
            _ => Self::Failed(HostError::from(&error)),
        }
    }
}

impl From<TransportError> for Obstacle {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(HostError::from(&error))
    }
}

impl From<SourceError> for Obstacle {
    fn from(error: SourceError) -> Self {
        Self::Failed(HostError::from(&error))
    }
}

/// One making of a plan.
struct Run<'a> {
    request: &'a Request<'a>,
    sources: Awaited<Sources<'a>>,
    /// How long a login that was made early waits for them.
    patience: Duration,
    comparisons: Comparisons,
    /// `None` where nobody has asked for them.
    diffs: Option<Diffs>,
    /// What happens on hosts while the sources are read: the observer is told one after the other.
    held_back: Mutex<Option<Vec<Event>>>,
    logins: &'a KeptLogins,
    follow: Option<&'a SavedPlanCheck<'a>>,
}

impl Run<'_> {
    fn host(&self, host: &Host, recorded: &Recorded) -> (HostPlan, Option<Listing>, Preparation) {
        let mut plan = HostPlan::empty(&host.id);
        let result = if self.request.refresh == Refresh::None {
            self.assume(host, recorded, &mut plan)
        } else {
            self.look_at(host, recorded, &mut plan)
        };
        plan.mappings = self.names_of(host);
        match result {
            Ok((listing, preparation)) => (plan, listing, preparation),
            Err(Obstacle::Stale(text)) => (plan, None, Preparation::Stale(text)),
            Err(Obstacle::Unreachable(error)) => {
                plan.status = HostStatus::Unreachable(error);
                (plan, None, Preparation::Nothing)
            }
            Err(Obstacle::Failed(error)) => {
                plan.status = HostStatus::Failed(error);
                (plan, None, Preparation::Nothing)
            }
        }
    }

    fn names_of(&self, host: &Host) -> Vec<MappingNames> {
        let sources = self.sources.wait();
        let mappings = host.mappings.iter();
        mappings
            .map(|mapping| MappingNames {
                src: mapping.src_as_written.clone(),
                dest: mapping.dest_as_written.clone(),
                source: sources.digest(mapping),
            })
            .collect()
    }

    /// Takes the host for what the state says, without a look.
    fn assume(
        &self,
        host: &Host,
        recorded: &Recorded,
        plan: &mut HostPlan,
    ) -> Result<(Option<Listing>, Preparation), Obstacle> {
        let sources = self.sources.wait();
        if let Some(problem) = &host.problem {
            return Err(Obstacle::Failed(problem.as_str().into()));
        }
        let record = recorded.record.as_ref();
        let algorithm = match record.and_then(|record| record.algorithm.as_deref()) {
            Some(name) if name == Algorithm::Blake3.as_str() => Algorithm::Blake3,
            _ => Algorithm::Sha256,
        };
        let desired = desired(host, recorded, sources, algorithm)?;
        let comparisons = self.compare(&desired, &recorded.trees);
        let actual: Vec<Actual> = comparisons
            .iter()
            .map(|comparison| Actual::from(Arc::clone(&comparison.recorded)))
            .collect();
        let changes = self.changes(host, &comparisons, &actual)?;
        plan.unchanged = changes.unchanged;
        plan.problems = problems_of(host, &desired);
        plan.change_set = self.change_set(host, &desired, &actual, changes.changes, None);
        Ok((None, Preparation::Nothing))
    }

    /// Logs in, asks and compares.
    fn look_at(
        &self,
        host: &Host,
        recorded: &Recorded,
        plan: &mut HostPlan,
    ) -> Result<(Option<Listing>, Preparation), Obstacle> {
        let (changes, prepared, mut login) = self.compare_with_host(host, recorded)?;
        plan.unchanged = changes.unchanged;
        let (sources, actual) = (&prepared.sources, &prepared.actual);
        plan.change_set = self.change_set(host, sources, actual, changes.changes, Some(&mut login));
        plan.problems = match &prepared.rollback_path {
            Some(way) => way.left_out().to_vec(),
            None => problems_of(host, &prepared.sources),
        };
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

    /// Waits for the sources, and logs in meanwhile; `None` when that has to be done yet. A host that
    /// cannot be worked on is not logged in to.
    fn log_in_early(&self, host: &Host) -> (Option<Result<Login, TransportError>>, &Sources<'_>) {
        let login = self.problems(host).is_none().then(|| self.log_in(host));
        if let Some(sources) = self.sources.wait_for(self.patience) {
            return (login, sources);
        }
        let login = match login {
            Some(Ok(login)) => {
                login.close();
                None
            }
            other => other,
        };
        (login, self.sources.wait())
    }

    /// Why a host can be neither logged in to nor worked on.
    fn problems(&self, host: &Host) -> Option<String> {
        match self.request.aim {
            Goal::Sources | Goal::Saved(_) => host.problems(),
            Goal::Back(_) => host.problems_without_sources(),
        }
    }

    fn log_in(&self, host: &Host) -> Result<Login, TransportError> {
        self.tell_phase(host, Phase::Connecting);
        self.request.connector.connect(host).map(Login::new)
    }

    fn tell_phase(&self, host: &Host, phase: Phase) {
        let event = Event::HostPhase {
            host: host.id.clone(),
            phase,
            total_bytes: 0,
        };
        let mut held_back = self.held_back();
        match held_back.as_mut() {
            Some(events) => events.push(event),
            None => self.request.observer.event(&event),
        }
    }

    /// The plan of a host that a saved plan, or a rollback, does nothing on.
    fn without_visit(&self, host: &Host, recorded: &Recorded) -> Option<HostPlan> {
        let status = match &recorded.back {
            Some(Back::Nothing) => HostStatus::Ok,
            Some(Back::Barred(reason)) => HostStatus::Failed(reason.as_str().into()),
            Some(Back::Open { .. }) => return None,
            None => return self.follow.and_then(|follow| follow.without_visit(host)),
        };
        Some(HostPlan {
            status,
            mappings: self.names_of(host),
            ..HostPlan::empty(&host.id)
        })
    }

    fn is_visited(&self, host: &Host, recorded: &Recorded) -> bool {
        match &recorded.back {
            Some(back) => matches!(back, Back::Open { .. }),
            None => self.follow.is_none_or(|follow| follow.visits(host)),
        }
    }

    /// Now that the sources have been read, tells what has happened on hosts.
    fn begin_hosts(&self, work: &[(&Host, Recorded)]) {
        let hosts = work.iter();
        let visits = hosts.filter(|(host, recorded)| self.is_visited(host, recorded));
        let mut held_back = self.held_back();
        self.request.observer.event(&Event::HostsStarted {
            work: Work::Looking,
            hosts: visits.count(),
            total_bytes: 0,
        });
        for event in held_back.take().into_iter().flatten() {
            self.request.observer.event(&event);
        }
    }

    fn held_back(&self) -> MutexGuard<'_, Option<Vec<Event>>> {
        // Changed in single steps, each of which leaves it right.
        self.held_back
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn compare_with_host(
        &self,
        host: &Host,
        recorded: &Recorded,
    ) -> Result<(HostChanges, PreparedHost, Login), Obstacle> {
        let request = self.request;
        let (login, sources) = self.log_in_early(host);
        if let Some(problem) = self.problems(host) {
            return Err(Obstacle::Failed(problem.into()));
        }
        if self.follow.is_some_and(SavedPlanCheck::is_stale) {
            return Err(Obstacle::Stale("a source has changed".to_owned()));
        }
        // Which paths there are does not depend on the digests, so any reading of the source will do.
        let any = desired(host, recorded, sources, Algorithm::Blake3)?;
        let comparisons = self.compare(&any, &recorded.known);
        let base = base_on_host(
            request.config.settings.staging_path.as_ref(),
            request.state.identity(),
            &host.id,
        );
        let mut login = login.unwrap_or_else(|| self.log_in(host))?;
        let look = self.ask(host, recorded, &comparisons, &base, &mut login)?;
        check_places(host, &look)?;
        check_mirrors(host, &look)?;
        let desired = desired(host, recorded, sources, look.facts.algorithm)?;
        let comparisons = self.compare(&desired, &recorded.known);
        let actual: Vec<Actual> = host
            .mappings
            .iter()
            .zip(&comparisons)
            .map(|(mapping, comparison)| comparison.actual(mapping, &look))
            .collect();
        let trees = recorded.settled(&actual);
        let comparisons = self.compare(&desired, &trees);
        let rollback_path = match &recorded.back {
            Some(Back::Open { way, .. }) => Some(way),
            _ => None,
        };
        let changes = match (self.follow, rollback_path) {
            (_, Some(way)) => way
                .changes(&comparisons, &actual)
                .map_err(|error| too_many(host, error))?,
            (Some(follow), _) => follow
                .changes(
                    host,
                    recorded.record.as_ref(),
                    &comparisons,
                    &actual,
                    request.config.settings.modes,
                )
                .map_err(Obstacle::Stale)?,
            (None, None) => self.changes(host, &comparisons, &actual)?,
        };
        check_permissions(host, &look, &comparisons, &changes.changes)?;
        if changes.changes.iter().any(is_staged) {
            staging::check_receiver(&look.facts)
                .map_err(|error| Obstacle::Failed(error.to_string().into()))?;
        }
        let needs_visit = recorded.record.as_ref().is_some_and(|record| {
            let is_looked_at_anew =
                request.refresh == Refresh::Quick && !matches!(look.listing, Listing::Same);
            // A saved plan, or a rollback, is carried out, and nothing else is seen to.
            let is_seen_to = matches!(request.aim, Goal::Sources)
                && (record.listing.is_none() || is_looked_at_anew || look.has_leftovers);
            record.is_in_the_middle() || is_seen_to
        });
        let modes = request.config.settings.modes;
        let leaves_drift = self.follow.is_some()
            && saved::leaves_drift(host, &comparisons, &actual, &changes.changes, modes);
        let prepared = PreparedHost {
            needs_visit,
            leaves_drift,
            sources: desired,
            recorded: recorded_of(&comparisons),
            record: recorded.record.clone(),
            actual,
            look,
            rollback_path: rollback_path.cloned(),
        };
        Ok((changes, prepared, login))
    }

    /// By mapping, what is to be there beside what is recorded.
    fn compare(&self, desired: &[Arc<SourceTree>], recorded: &[Arc<Tree>]) -> Vec<Arc<Comparison>> {
        let sides = desired.iter().zip(recorded);
        sides
            .map(|(desired, recorded)| self.comparisons.of(desired, recorded))
            .collect()
    }

    fn changes(
        &self,
        host: &Host,
        comparisons: &[Arc<Comparison>],
        actual: &[Actual],
    ) -> Result<HostChanges, Obstacle> {
        let mut sides = comparisons.iter().zip(actual);
        if sides.all(|(it, actual)| it.is_same() && actual.is_just(&it.recorded)) {
            // The common case, which costs next to nothing however large the trees are.
            let entries = comparisons.iter().map(|it| it.source.tree.len());
            return Ok(HostChanges {
                changes: Vec::new(),
                unchanged: entries.sum(),
            });
        }
        let unsendable: Vec<Vec<RelPath>> = comparisons
            .iter()
            .map(|comparison| {
                let problems = comparison.source.problems.iter();
                problems.map(|problem| problem.path.clone()).collect()
            })
            .collect();
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
        let settings = &self.request.config.settings;
        let policy = Policy {
            modes: settings.modes,
            // Whoever only wants to know what has drifted is kept from nothing.
            max_delete: if self.request.keeps_all {
                MaxDelete { percent: 100 }
            } else {
                settings.max_delete
            },
        };
        build::build(&inputs, policy).map_err(|error| too_many(host, error))
    }

    /// Asks: with the listing when there is one to be trusted, and once more for everything when it turns
    /// out not to be.
    fn ask(
        &self,
        host: &Host,
        recorded: &Recorded,
        comparisons: &[Arc<Comparison>],
        base: &RemotePath,
        login: &mut Login,
    ) -> Result<HostLook, RemoteError> {
        let request = self.request;
        self.tell_phase(host, Phase::Looking);
        let roots: Vec<RemotePath> = host.mappings.iter().map(|m| m.dest.clone()).collect();
        let mirrors: Vec<usize> = (0..host.mappings.len())
            .filter(|&index| host.mappings[index].exact == Exact::Mirror)
            .collect();
        let listing = recorded
            .record
            .as_ref()
            .and_then(|record| record.listing.as_deref())
            .filter(|_| request.refresh == Refresh::Quick)
            // What is not ours may have been there before it mattered.
            .filter(|_| {
                mirrors
                    .iter()
                    .all(|&index| recorded.is_mirrored(&host.mappings[index]))
            });
        let mut ask = |listing: Option<&str>| {
            let sides = host.mappings.iter().zip(comparisons);
            let paths: Vec<RemotePath> = sides
                .flat_map(|(mapping, it)| it.paths_to_look_at(mapping, listing.is_some()))
                .collect();
            let look_request = LookRequest {
                base,
                roots: &roots,
                mirrors: &mirrors,
                listing,
                paths: &paths,
                stall_timeout: request.config.settings.stall_timeout,
            };
            look::look(login, &look_request)
        };
        let mut answer = ask(listing);
        if let Ok(look) = &answer {
            // A mirrored folder in which something has moved may have new entries, too.
            let is_doubtful = look.listing == Listing::Lost
                || (look.listing == Listing::Moved && !mirrors.is_empty());
            tracing::debug!(listing = ?look.listing, tool = look.facts.hash_tool, "looked at");
            if is_doubtful {
                answer = ask(None);
            }
        }
        answer
    }
}

/// By mapping of the host, what is to be there.
fn desired(
    host: &Host,
    recorded: &Recorded,
    sources: &Sources<'_>,
    algorithm: Algorithm,
) -> Result<Vec<Arc<SourceTree>>, SourceError> {
    if let Some(Back::Open { desired, .. }) = &recorded.back {
        return Ok(desired.clone());
    }
    let mappings = host.mappings.iter();
    mappings
        .map(|mapping| sources.get(mapping, algorithm))
        .collect()
}

fn recorded_of(comparisons: &[Arc<Comparison>]) -> Vec<Arc<Tree>> {
    let recorded = comparisons.iter().map(|it| Arc::clone(&it.recorded));
    recorded.collect()
}

fn too_many(host: &Host, error: TooManyDeletes) -> Obstacle {
    let mapping = &host.mappings[error.mapping];
    let (src, dest) = (&mapping.src_as_written, &mapping.dest_as_written);
    Obstacle::failed(format!(
        "{dest}: {error}; look whether {src} is empty or is something else by mistake, and raise \
         `max_delete` if this is what you want"
    ))
}

fn problems_of<'a>(
    host: &Host,
    sources: impl IntoIterator<Item = &'a Arc<SourceTree>>,
) -> Vec<String> {
    let mut problems = Vec::new();
    for (mapping, source) in host.mappings.iter().zip(sources) {
        for problem in &source.problems {
            let path = mapping.src_as_written.trim_end_matches('/');
            let below = if problem.path.is_root() { "" } else { "/" };
            problems.push(format!("{path}{below}{}: {}", problem.path, problem.reason));
        }
    }
    problems
}

/// What is in a folder that may not be listed must not be taken for missing.
fn check_mirrors(host: &Host, look: &HostLook) -> Result<(), Obstacle> {
    for mapping in &host.mappings {
        if mapping.exact != Exact::Mirror {
            continue;
        }
        let is_mirrored = |path: &&Vec<u8>| {
            mapping
                .dest
                .strip_from(path)
                .is_some_and(|path| !mapping.exclude.excludes(&path))
        };
        if let Some(folder) = look.closed.iter().find(is_mirrored) {
            return Err(Obstacle::failed(format!(
                "{} may not be listed by the login user, so it cannot be mirrored; let that user \
                 see it or `exclude` it",
                String::from_utf8_lossy(folder)
            )));
        }
    }
    Ok(())
}

/// A destination below a file can never be made.
fn check_places(host: &Host, look: &HostLook) -> Result<(), Obstacle> {
    for (mapping, place) in host.mappings.iter().zip(&look.places) {
        if !place.parent.is_folder {
            let (dest, file) = (
                &mapping.dest_as_written,
                String::from_utf8_lossy(&place.parent.path),
            );
            return Err(Obstacle::failed(format!(
                "{dest} cannot be made: {file} is not a folder on the host; change `dest` or move it away"
            )));
        }
    }
    Ok(())
}

/// What apply could not do for want of permission, or of a place to stage it, is said by the plan.
fn check_permissions(
    host: &Host,
    look: &HostLook,
    comparisons: &[Arc<Comparison>],
    changes: &[Change],
) -> Result<(), Obstacle> {
    for (index, (mapping, place)) in host.mappings.iter().zip(&look.places).enumerate() {
        let mut touching = changes
            .iter()
            .filter(|c| c.mapping == index && c.action != Action::Adopt)
            .peekable();
        if touching.peek().is_none() {
            continue;
        }
        let is_folder = staging::is_folder(
            &comparisons[index].source.tree,
            &comparisons[index].recorded,
        );
        staging::StagingPlace::of(place, &look.staging, is_folder)
            .map_err(|error| Obstacle::failed(format!("{}: {error}", mapping.dest_as_written)))?;
        let moves_root = touching.any(|c| c.path.is_root() && c.action != Action::Metadata);
        if moves_root && !place.parent.is_writable {
            let (dest, folder) = (
                &mapping.dest_as_written,
                String::from_utf8_lossy(&place.parent.path),
            );
            return Err(Obstacle::failed(format!(
                "{dest} cannot be written: `{}` may not write to {folder} on the host; permit it \
                 there, log in as somebody who may, or change `dest`",
                host.user
            )));
        }
    }
    Ok(())
}

/// Whether apply would send something for a change. A symlink needs the folder that it is made in.
fn is_staged(change: &Change) -> bool {
    matches!(change.action, Action::Create | Action::Update)
        && match &change.after {
            Some(Node::File { .. } | Node::Dir { .. }) => true,
            Some(Node::Symlink { .. }) => !change.path.is_root(),
            Some(Node::Other { .. }) | None => false,
        }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::fs;
    use std::time::Instant;

    use super::*;
    use crate::config::{self, Environment};
    use crate::transport::{ExecIo, ExecOutcome, Session};

    /// Hosts that let everybody in and then break the line, and what happens to them and here.
    #[derive(Default)]
    struct Scene {
        log: Mutex<Vec<String>>,
        /// How many logins have to be seen before the sources are read.
        awaited_logins: usize,
        /// Whether they have to be logged out, too.
        awaits_logouts: bool,
    }

    impl Scene {
        fn note(&self, what: &str) {
            self.log.lock().unwrap().push(what.to_owned());
        }

        fn count(&self, what: &str) -> usize {
            let log = self.log.lock().unwrap();
            log.iter().filter(|line| *line == what).count()
        }

        fn has_come(&self) -> bool {
            self.count("login") == self.awaited_logins
                && (!self.awaits_logouts || self.count("logout") == self.awaited_logins)
        }
    }

    struct Line(Arc<Scene>);

    impl Session for Line {
        fn exec(&mut self, _: &str, _: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            self.0.note("exec");
            let (during, reason) = ("while sending".to_owned(), "a test".to_owned());
            Err(TransportError::Broken { during, reason })
        }

        fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            self.exec("", io)
        }

        fn close(self: Box<Self>) {
            self.0.note("logout");
        }
    }

    impl Connector for Arc<Scene> {
        fn connect(&self, _: &Host) -> Result<Box<dyn Session>, TransportError> {
            self.note("login");
            Ok(Box::new(Line(Self::clone(self))))
        }
    }

    impl Observer for Scene {
        fn event(&self, event: &Event) {
            match event {
                Event::LocalScanStarted { .. } => {
                    let started = Instant::now();
                    while !self.has_come() {
                        assert!(started.elapsed() < Duration::from_secs(20), "nobody comes");
                        thread::sleep(Duration::from_millis(5));
                    }
                }
                Event::LocalScanFinished { .. } => self.note("sources"),
                Event::HostsStarted { .. } => self.note("hosts"),
                Event::HostPhase { phase, .. } => self.note(&format!("{phase:?}")),
                _ => {}
            }
        }
    }

    /// Plans for three hosts, of which two are connected to at once.
    fn plan(scene: &Arc<Scene>, patience: Duration) -> Plan {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(temp.path().join(name), text).unwrap();
        write("file", "text");
        let mut text = "[settings]\nnumber_of_connections = 2\n".to_owned();
        for host in ["a", "b", "c"] {
            text.extend(["[[host]]\nip_address = \"", host, "\"\nuser = \"u\"\n"]);
        }
        text += "[[mapping]]\nsrc = \"file\"\ndest = \"~/file\"\n";
        write("hostsync.toml", &text);
        let environment = Environment {
            current_dir: temp.path().to_owned(),
            home: Some(temp.path().to_owned()),
        };
        let config = config::load(Path::new("hostsync.toml"), &environment);
        let config = config.unwrap().config;
        let request = Request {
            config: &config,
            config_digest: Blake3::of(b""),
            hosts: &config.hosts.iter().collect::<Vec<_>>(),
            state: &StateStore::open(&temp.path().join("state")).unwrap(),
            cache_dir: None,
            connector: scene,
            refresh: Refresh::Quick,
            aim: Goal::Sources,
            wants_diffs: false,
            keeps_all: false,
            keep_logins: 0,
            now: "",
            observer: scene.as_ref(),
        };
        prepare_with_patience(&request, patience).unwrap().plan
    }

    #[test]
    fn hosts_are_logged_in_to_while_sources_are_read_and_shown_after_that() {
        let scene = Arc::new(Scene {
            awaited_logins: 2,
            ..Scene::default()
        });
        let plan = plan(&scene, Duration::from_mins(1));
        assert_eq!(plan.hosts.len(), 3);
        assert_eq!((scene.count("login"), scene.count("exec")), (3, 3));
        let log = scene.log.lock().unwrap();
        assert_eq!(log[..4], ["login", "login", "sources", "hosts"]);
        assert_eq!(log[4..6], ["Connecting", "Connecting"]);
    }

    #[test]
    fn login_that_would_wait_long_for_the_sources_is_given_up_and_made_again() {
        let scene = Arc::new(Scene {
            awaited_logins: 2,
            awaits_logouts: true,
            ..Scene::default()
        });
        let _ = plan(&scene, Duration::from_millis(20));
        assert_eq!((scene.count("login"), scene.count("exec")), (5, 3));
    }
}
