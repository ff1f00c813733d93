//! Everything a plan needs, gathered: sources read once, hosts looked at many at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use crate::config::{Config, Exact, Host, Mapping};
use crate::model::{
    Entry, Event, HostId, HostOutcome, Kind, Node, Observer, Phase, RelPath, RemotePath, Tree,
    map_parallel,
};
use crate::remote::Login;
use crate::scan::local::{self, SourceError, SourceSpec, SourceTree};
use crate::scan::remote::{self, Algorithm, HostScan, Listing, Question, ScanError};
use crate::state::{HostRecord, Identity, Progress, StateError, StateStore};
use crate::transport::{Connector, TransportError};

use super::build::{self, HostChanges, MappingInput, Policy};
use super::staging;
use super::{
    Action, Change, ChangeSet, ChangeSetId, HostPlan, HostStatus, KeptLogins, MappingNames, Plan,
    PlanHeader, Refresh,
};

/// What to plan, and with what.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// Digest of the configuration.
    pub config_digest: crate::model::Blake3,
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
    /// How many logins are kept for an apply that follows at once; 0 when somebody is asked before.
    pub keep_logins: usize,
    /// The time, for the plan's header: RFC 3339, UTC.
    pub now: &'a str,
    /// Told what happens.
    pub observer: &'a dyn Observer,
}

/// A plan, and what was found out on the way to it, which apply needs.
#[derive(Debug)]
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// For each host of the plan, in its order, what is known; `None` where nothing is to be done.
    pub hosts: Vec<Option<PreparedHost>>,
    /// For each host of the plan, in its order, what became of the listing that it keeps; `None` for
    /// one without a look.
    pub listings: Vec<Option<Listing>>,
    /// Logins on hosts on which something is to be done.
    pub logins: KeptLogins,
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
    pub actual: Vec<Tree>,
    /// What it answered.
    pub scan: HostScan,
    /// Whether an earlier apply did not come to its end here, or left no listing to be trusted: apply
    /// then sees to it, even where nothing is to be changed.
    pub is_unsettled: bool,
}

impl Prepared {
    /// Whether some host needs a visit though nothing is to be changed there.
    pub fn has_unsettled_hosts(&self) -> bool {
        self.hosts.iter().flatten().any(|host| host.is_unsettled)
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

/// Reads the sources, looks at the hosts and builds the plan.
///
/// # Errors
/// When the state cannot be read. Everything else is about one host, and in its plan.
pub fn prepare(request: &Request<'_>) -> Result<Prepared, StateError> {
    let records = request
        .hosts
        .iter()
        .map(|host| Recorded::load(request.state, host))
        .collect::<Result<Vec<_>, _>>()?;
    let sources = Sources::read(request, &records);
    request.observer.event(&Event::HostsStarted {
        hosts: request.hosts.len(),
        total_bytes: 0,
    });
    let logins = KeptLogins::new(request.keep_logins);
    let work: Vec<(&Host, Recorded)> = request.hosts.iter().copied().zip(records).collect();
    let threads = request.config.settings.number_of_connections;
    let results = map_parallel(&work, threads, |(host, recorded)| {
        let span = tracing::info_span!("plan", host = %host.id);
        let _entered = span.enter();
        let result = prepare_host(request, host, recorded, &sources, &logins);
        let outcome = match result.0.status.error() {
            None => HostOutcome::Done,
            Some(error) => {
                tracing::warn!("{error}");
                HostOutcome::Failed(error.to_owned())
            }
        };
        request.observer.event(&Event::HostFinished {
            host: host.id.clone(),
            outcome,
        });
        result
    });
    request.observer.event(&Event::HostsFinished);
    let mut plans = Vec::new();
    let (mut hosts, mut listings) = (Vec::new(), Vec::new());
    for (plan, listing, prepared) in results {
        plans.push(plan);
        listings.push(listing);
        hosts.push(prepared);
    }
    let identity = request.state.identity();
    let header = PlanHeader {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        created_at: request.now.to_owned(),
        lineage: identity.map(|identity| identity.lineage.clone()),
        serial: identity.map_or(0, |identity| identity.serial),
        refresh: request.refresh,
        config_digest: request.config_digest,
    };
    Ok(Prepared {
        plan: Plan::new(header, plans),
        hosts,
        listings,
        logins,
    })
}

/// What the state has of a host.
struct Recorded {
    record: Option<HostRecord>,
    /// By mapping of the configuration.
    trees: Vec<Arc<Tree>>,
}

impl Recorded {
    fn load(state: &StateStore, host: &Host) -> Result<Self, StateError> {
        let record = state.host(&host.id)?;
        let tree_of = |mapping: &Mapping| {
            record
                .iter()
                .flat_map(|record| &record.mappings)
                .find(|recorded| recorded.dest == mapping.dest_as_written)
                .map_or_else(|| Ok(Arc::default()), |recorded| state.tree(&recorded.tree))
        };
        let trees = host
            .mappings
            .iter()
            .map(tree_of)
            .collect::<Result<_, _>>()?;
        Ok(Self { record, trees })
    }
}

/// The sources of all hosts. Read with sha256 from the start when a host is known to need it or is
/// not known at all; else as soon as one turns out to.
struct Sources<'a> {
    request: &'a Request<'a>,
    specs: Vec<SourceSpec>,
    with_sha256: bool,
    first: Vec<Result<Arc<SourceTree>, SourceError>>,
    second: OnceLock<Vec<Result<Arc<SourceTree>, SourceError>>>,
}

impl<'a> Sources<'a> {
    fn read(request: &'a Request<'a>, records: &[Recorded]) -> Self {
        let mut specs: Vec<SourceSpec> = Vec::new();
        let usable = request.hosts.iter().filter(|host| host.problem.is_none());
        for mapping in usable.flat_map(|host| &host.mappings) {
            let spec = spec_of(mapping);
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let with_sha256 = records.iter().any(|recorded| {
            let algorithm = recorded
                .record
                .as_ref()
                .and_then(|r| r.algorithm.as_deref());
            algorithm != Some(Algorithm::Blake3.as_str())
        });
        let first = Self::scan(request, &specs, with_sha256);
        Self {
            request,
            specs,
            with_sha256,
            first,
            second: OnceLock::new(),
        }
    }

    fn scan(
        request: &Request<'_>,
        specs: &[SourceSpec],
        with_sha256: bool,
    ) -> Vec<Result<Arc<SourceTree>, SourceError>> {
        local::scan(specs, with_sha256, request.cache_dir, request.observer)
            .into_iter()
            .map(|result| result.map(Arc::new))
            .collect()
    }

    fn get(&self, mapping: &Mapping, algorithm: Algorithm) -> Result<Arc<SourceTree>, SourceError> {
        let all = if self.with_sha256 || algorithm == Algorithm::Blake3 {
            &self.first
        } else {
            self.second
                .get_or_init(|| Self::scan(self.request, &self.specs, true))
        };
        let spec = spec_of(mapping);
        let index = self.specs.iter().position(|known| *known == spec);
        index.map_or_else(
            || {
                let (path, reason) = (mapping.src.to_string(), "it was not read".to_owned());
                Err(SourceError { path, reason })
            },
            |index| all[index].clone(),
        )
    }
}

fn spec_of(mapping: &Mapping) -> SourceSpec {
    SourceSpec {
        root: mapping.src.clone(),
        exclude: mapping.exclude.clone(),
        symlinks: mapping.symlinks,
    }
}

/// Why a host has no plan.
enum Obstacle {
    Unreachable(String),
    Failed(String),
}

impl From<ScanError> for Obstacle {
    fn from(error: ScanError) -> Self {
        let text = with_help(&error);
        match error {
            ScanError::Transport(_) => Self::Unreachable(text),
            _ => Self::Failed(text),
        }
    }
}

impl From<TransportError> for Obstacle {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(with_help(&error))
    }
}

impl From<SourceError> for Obstacle {
    fn from(error: SourceError) -> Self {
        Self::Failed(with_help(&error))
    }
}

/// An error and its cure in one line.
pub fn with_help(error: &dyn miette::Diagnostic) -> String {
    error
        .help()
        .map_or_else(|| error.to_string(), |help| format!("{error}; {help}"))
}

fn prepare_host(
    request: &Request<'_>,
    host: &Host,
    recorded: &Recorded,
    sources: &Sources<'_>,
    logins: &KeptLogins,
) -> (HostPlan, Option<Listing>, Option<PreparedHost>) {
    let mappings = host
        .mappings
        .iter()
        .map(|mapping| MappingNames {
            src: mapping.src_as_written.clone(),
            dest: mapping.dest_as_written.clone(),
        })
        .collect();
    let mut plan = HostPlan {
        host: host.id.clone(),
        status: HostStatus::Ok,
        mappings,
        change_set: None,
        unchanged: 0,
        problems: Vec::new(),
    };
    match look_at_host(request, host, recorded, sources) {
        Ok((changes, prepared, login)) => {
            plan.unchanged = changes.unchanged;
            if !changes.changes.is_empty() {
                let id = ChangeSetId::of(&changes.changes);
                plan.change_set = Some(Arc::new(ChangeSet {
                    id,
                    changes: changes.changes,
                }));
            }
            plan.problems = problems_of(host, &prepared.sources);
            // What apply would need is kept only for hosts that it would work on: there may be many.
            let is_needed = plan.change_set.is_some() || prepared.is_unsettled;
            if is_needed {
                logins.keep(&host.id, login);
            } else {
                login.close();
            }
            let listing = prepared.scan.listing;
            (plan, Some(listing), is_needed.then_some(prepared))
        }
        Err(obstacle) => {
            plan.status = match obstacle {
                Obstacle::Unreachable(text) => HostStatus::Unreachable(text),
                Obstacle::Failed(text) => HostStatus::Failed(text),
            };
            (plan, None, None)
        }
    }
}

fn problems_of(host: &Host, sources: &[Arc<SourceTree>]) -> Vec<String> {
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

fn look_at_host(
    request: &Request<'_>,
    host: &Host,
    recorded: &Recorded,
    sources: &Sources<'_>,
) -> Result<(HostChanges, PreparedHost, Login), Obstacle> {
    if let Some(problem) = &host.problem {
        return Err(Obstacle::Failed(problem.clone()));
    }
    // Which paths there are does not depend on the digests, so any reading of the source will do.
    let desired = sources_of(host, sources, Algorithm::Blake3)?;
    let base = base_on_host(
        request.config.settings.staging_path.as_ref(),
        request.state.identity(),
        &host.id,
    );
    let mut login = log_in(request, host)?;
    let scan = ask_host(request, host, recorded, &desired, &base, &mut login)?;
    check_places(host, &scan)?;
    check_mirrors(host, &scan)?;
    let desired = sources_of(host, sources, scan.facts.algorithm)?;
    let recorded_trees: Vec<Arc<Tree>> = recorded
        .trees
        .iter()
        .zip(&desired)
        .map(|(tree, source)| with_digests_of(tree, &source.tree))
        .collect();
    let actual: Vec<Tree> = host
        .mappings
        .iter()
        .zip(&desired)
        .zip(&recorded_trees)
        .map(|((mapping, source), recorded)| actual_tree(mapping, &source.tree, recorded, &scan))
        .collect();

    let unsendable: Vec<Vec<RelPath>> = desired
        .iter()
        .map(|source| {
            source
                .problems
                .iter()
                .map(|problem| problem.path.clone())
                .collect()
        })
        .collect();
    let inputs: Vec<MappingInput<'_>> = host
        .mappings
        .iter()
        .enumerate()
        .map(|(index, mapping)| MappingInput {
            desired: &desired[index].tree,
            recorded: &recorded_trees[index],
            actual: &actual[index],
            exact: mapping.exact,
            exclude: &mapping.exclude,
            unsendable: &unsendable[index],
        })
        .collect();
    let settings = &request.config.settings;
    let policy = Policy {
        modes: settings.modes,
        max_delete: settings.max_delete,
    };
    let changes = build::build(&inputs, policy).map_err(|error| {
        let dest = &host.mappings[error.mapping].dest_as_written;
        Obstacle::Failed(format!(
            "{dest}: {error}; raise `max_delete` if this is what you want"
        ))
    })?;
    check_permissions(host, &scan, &desired, &changes.changes)?;
    let is_unsettled = recorded
        .record
        .as_ref()
        .is_some_and(|record| record.progress == Progress::InTheMiddle || record.listing.is_none());
    let prepared = PreparedHost {
        is_unsettled,
        sources: desired,
        recorded: recorded_trees,
        record: recorded.record.clone(),
        actual,
        scan,
    };
    Ok((changes, prepared, login))
}

fn sources_of(
    host: &Host,
    sources: &Sources<'_>,
    algorithm: Algorithm,
) -> Result<Vec<Arc<SourceTree>>, SourceError> {
    host.mappings
        .iter()
        .map(|mapping| sources.get(mapping, algorithm))
        .collect()
}

fn log_in(request: &Request<'_>, host: &Host) -> Result<Login, TransportError> {
    tell_phase(request, host, Phase::Connecting);
    request.connector.connect(host).map(Login::new)
}

fn tell_phase(request: &Request<'_>, host: &Host, phase: Phase) {
    request.observer.event(&Event::HostPhase {
        host: host.id.clone(),
        phase,
        total_bytes: 0,
    });
}

/// Asks: with the listing when there is one to be trusted, and once more for everything when it turns
/// out not to be.
fn ask_host(
    request: &Request<'_>,
    host: &Host,
    recorded: &Recorded,
    desired: &[Arc<SourceTree>],
    base: &RemotePath,
    login: &mut Login,
) -> Result<HostScan, ScanError> {
    tell_phase(request, host, Phase::Scanning);
    let roots: Vec<RemotePath> = host.mappings.iter().map(|m| m.dest.clone()).collect();
    let mirrors: Vec<usize> = (0..host.mappings.len())
        .filter(|&index| host.mappings[index].exact == Exact::Mirror)
        .collect();
    let listing = recorded
        .record
        .as_ref()
        .and_then(|record| record.listing.as_deref())
        .filter(|_| request.refresh == Refresh::Quick);
    let mut ask = |listing: Option<&str>| {
        let paths = paths_to_look_at(host, desired, &recorded.trees, listing.is_some());
        let question = Question {
            base,
            roots: &roots,
            mirrors: &mirrors,
            listing,
            paths: &paths,
            stall_timeout: request.config.settings.stall_timeout,
        };
        remote::scan(login, &question)
    };
    let mut answer = ask(listing);
    if let Ok(scan) = &answer {
        // A mirrored folder in which something has moved may have new entries, too.
        let is_doubtful = scan.listing == Listing::Lost
            || (scan.listing == Listing::Moved && !mirrors.is_empty());
        tracing::debug!(listing = ?scan.listing, tool = scan.facts.hash_tool, "looked at");
        if is_doubtful {
            answer = ask(None);
        }
    }
    answer
}

/// What has to be asked about: everything, or what the trusted listing cannot answer (what the state
/// has never heard of, and what is to be changed).
fn paths_to_look_at(
    host: &Host,
    desired: &[Arc<SourceTree>],
    recorded: &[Arc<Tree>],
    with_listing: bool,
) -> Vec<RemotePath> {
    let mut paths = Vec::new();
    for (index, mapping) in host.mappings.iter().enumerate() {
        let is_found_anyway = mapping.exact == Exact::Mirror && !with_listing;
        if is_found_anyway {
            continue;
        }
        let (desired, recorded) = (&desired[index].tree, &recorded[index]);
        let mut folders: BTreeSet<RelPath> = BTreeSet::new();
        for Entry { path, node } in desired.entries() {
            let is_listed = with_listing && recorded.get(path).is_some_and(|old| old.same(node));
            if !is_listed {
                paths.push(mapping.dest.join(path));
                folders.extend(path.parent());
            }
        }
        for Entry { path, .. } in recorded.entries() {
            if desired.get(path).is_none() {
                paths.push(mapping.dest.join(path));
                folders.extend(path.parent());
            }
        }
        // What is done in a folder depends on its file system, its group and its permission bits.
        if with_listing {
            paths.extend(folders.iter().map(|folder| mapping.dest.join(folder)));
        }
    }
    paths
}

/// The recorded tree, with the digests that the source knows of the same content. Mostly it has them
/// already, and is not copied.
fn with_digests_of(recorded: &Arc<Tree>, desired: &Tree) -> Arc<Tree> {
    let merged = |Entry { path, node }: &Entry| match (node, desired.get(path)) {
        (Node::File { digest, .. }, Some(Node::File { digest: known, .. }))
            if digest.agrees_with(known) == Some(true) =>
        {
            Some(digest.merged_with(known)).filter(|merged| merged != digest)
        }
        _ => None,
    };
    if recorded
        .entries()
        .iter()
        .all(|entry| merged(entry).is_none())
    {
        return Arc::clone(recorded);
    }
    let entries = recorded.entries().iter().map(|entry| {
        let mut entry = entry.clone();
        if let (Some(merged), Node::File { digest, .. }) = (merged(&entry), &mut entry.node) {
            *digest = merged;
        }
        entry
    });
    Arc::new(entries.collect())
}

/// What is at the destination of a mapping.
fn actual_tree(mapping: &Mapping, desired: &Tree, recorded: &Tree, scan: &HostScan) -> Tree {
    let mut entries: BTreeMap<RelPath, Node> = BTreeMap::new();
    let trusts_listing = matches!(scan.listing, Listing::Same | Listing::Moved);
    let known = recorded.entries().iter().chain(desired.entries());
    for Entry { path, .. } in known {
        let dest = mapping.dest.join(path);
        if let Some(seen) = scan.seen.get(dest.as_bytes()) {
            entries.insert(path.clone(), seen.node.clone());
        } else if trusts_listing
            && !scan.gone.contains(dest.as_bytes())
            && let Some(node) = recorded.get(path)
            && desired.get(path).is_some_and(|wanted| wanted.same(node))
        {
            entries.insert(path.clone(), node.clone());
        }
    }
    if mapping.exact == Exact::Mirror && !trusts_listing {
        for (path, seen) in &scan.seen {
            if let Some(path) = below(&mapping.dest, path) {
                entries.insert(path, seen.node.clone());
            }
        }
    }
    // A lookup below something that is no folder went through a symbolic link.
    let mut no_folders = build::Subtrees::default();
    entries
        .iter()
        .filter(|(path, node)| {
            let is_hidden = no_folders.hold(path);
            if !is_hidden && node.kind() != Kind::Dir {
                no_folders.push(path);
            }
            !is_hidden
        })
        .map(|(path, node)| Entry {
            path: path.clone(),
            node: node.clone(),
        })
        .collect()
}

/// What of `path` lies below `dest`.
fn below(dest: &RemotePath, path: &[u8]) -> Option<RelPath> {
    let rest = path.strip_prefix(dest.as_bytes())?;
    let is_top = dest.as_bytes().ends_with(b"/");
    let rest = if is_top {
        rest
    } else {
        rest.strip_prefix(b"/")?
    };
    RelPath::new(rest).ok()
}

/// What is in a folder that may not be listed must not be taken for missing.
fn check_mirrors(host: &Host, scan: &HostScan) -> Result<(), Obstacle> {
    for mapping in &host.mappings {
        if mapping.exact != Exact::Mirror {
            continue;
        }
        let is_mirrored = |path: &&Vec<u8>| {
            below(&mapping.dest, path).is_some_and(|path| !mapping.exclude.excludes(&path))
                || **path == mapping.dest.as_bytes()
        };
        if let Some(folder) = scan.closed.iter().find(is_mirrored) {
            return Err(Obstacle::Failed(format!(
                "{} may not be listed by the login user, so it cannot be mirrored; let that user \
                 see it or `exclude` it",
                String::from_utf8_lossy(folder)
            )));
        }
    }
    Ok(())
}

/// A destination below a file can never be made.
fn check_places(host: &Host, scan: &HostScan) -> Result<(), Obstacle> {
    for (mapping, place) in host.mappings.iter().zip(&scan.places) {
        if !place.parent.is_folder {
            let (dest, file) = (
                &mapping.dest_as_written,
                String::from_utf8_lossy(&place.parent.path),
            );
            return Err(Obstacle::Failed(format!(
                "{dest} cannot be made: {file} is not a folder on the host; change `dest` or move it away"
            )));
        }
    }
    Ok(())
}

/// What apply could not do for want of permission, or of a place to stage it, is said by the plan.
fn check_permissions(
    host: &Host,
    scan: &HostScan,
    sources: &[Arc<SourceTree>],
    changes: &[Change],
) -> Result<(), Obstacle> {
    for (index, (mapping, place)) in host.mappings.iter().zip(&scan.places).enumerate() {
        let mut touching = changes
            .iter()
            .filter(|c| c.mapping == index && c.action != Action::Adopt)
            .peekable();
        if touching.peek().is_none() {
            continue;
        }
        let is_folder = matches!(
            sources[index].tree.get(&RelPath::root()),
            Some(Node::Dir { .. })
        );
        staging::StagingPlace::of(place, &scan.staging, is_folder)
            .map_err(|error| Obstacle::Failed(format!("{}: {error}", mapping.dest_as_written)))?;
        let moves_root = touching.any(|c| c.path.is_root() && c.action != Action::Metadata);
        if moves_root && !place.parent.is_writable {
            let (dest, folder) = (
                &mapping.dest_as_written,
                String::from_utf8_lossy(&place.parent.path),
            );
            return Err(Obstacle::Failed(format!(
                "{dest} cannot be written: `{}` may not write to {folder} on the host; permit it \
                 there, log in as somebody who may, or change `dest`",
                host.user
            )));
        }
    }
    Ok(())
}
