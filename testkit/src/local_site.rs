//! A configuration whose hosts are folders of this machine.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use hostsync::apply::{self, HostReport, LargeFiles, OnConflict, Report};
use hostsync::config::{
    Auth, Config, Exact, Excludes, Host, Mapping, MaxDelete, Modes, Settings, SymlinkPolicy,
};
use hostsync::model::{Blake3, HostId, LocalPath, RemotePath, Silent};
use hostsync::plan::goal::saved::SavedPlanCheck;
use hostsync::plan::goal::{Goal, Sources};
use hostsync::plan::prepared::Prepared;
use hostsync::plan::{self, Change, Plan, PlanRequest, PrepareError, Refresh};
use hostsync::state::{StateLock, StateStore};
use tempfile::TempDir;

use crate::local::{LocalHost, LocalHosts};

/// Sources, state and hosts.
pub struct LocalSite {
    folder: TempDir,
    /// The configuration that plans and applies use.
    pub config: Config,
    /// The hosts that it names.
    pub hosts: LocalHosts,
    /// What an apply does with conflicts.
    pub on_conflict: OnConflict,
    /// How an apply sends large files.
    pub large: LargeFiles,
    /// How long an apply waits for another one on a host.
    pub wait_for_host: Duration,
}

impl LocalSite {
    /// Without a host.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let minute = Duration::from_mins(1);
        let settings = Settings {
            number_of_connections: 4,
            log_path: path("logs"),
            state_path: path("state"),
            known_hosts_path: path("known_hosts"),
            autosync: false,
            sync_interval: minute,
            connect_timeout: minute,
            login_timeout: minute,
            stall_timeout: minute,
            staging_path: None,
            backups: 5,
            max_delete: MaxDelete { percent: 100 },
            modes: Modes::All,
            diff_hide: Vec::new(),
            diff_show: Vec::new(),
            diff_limit_bytes: 100 * 1024,
            ciphers: None,
            compress: false,
        };
        fs::create_dir(path("src")).unwrap();
        let config = Config {
            path: path("config.ini"),
            settings,
            hosts: Vec::new(),
        };
        Self {
            config,
            folder,
            hosts: LocalHosts::default(),
            on_conflict: OnConflict::Fail,
            large: LargeFiles::default(),
            wait_for_host: Duration::ZERO,
        }
    }

    /// With one host, `a`, that gets the folder of sources at `dest`.
    pub fn with_host(host: LocalHost, dest: &str) -> Self {
        let mut site = Self::new();
        site.add("a", Some(host), dest);
        site
    }

    /// One more host that gets the folder of sources; `None` for one that cannot be reached.
    pub fn add(&mut self, name: &'static str, host: Option<LocalHost>, dest: &str) {
        let mapping = self.mapping("src", dest);
        self.config.hosts.push(Host {
            id: HostId::new(name),
            address: name.to_owned(),
            port: 22,
            user: "nobody".to_owned(),
            auth: Auth::default(),
            groups: Vec::new(),
            mappings: vec![mapping],
            problem: None,
            login_problem: None,
        });
        self.hosts.0.extend(host.map(|host| (name, Arc::new(host))));
    }

    /// A mapping of something below the folder of this site.
    pub fn mapping(&self, src: &str, dest: &str) -> Mapping {
        Mapping {
            src: LocalPath::new(self.folder.path().join(src)),
            src_as_written: src.to_owned(),
            dest: RemotePath::from_dest(dest.as_bytes()),
            dest_as_written: dest.to_owned(),
            exact: Exact::No,
            exclude: Excludes::default(),
            symlinks: SymlinkPolicy::Preserve,
            trust_ancestors: false,
        }
    }

    /// The first host.
    pub fn host(&self) -> &LocalHost {
        &self.hosts.0[0].1
    }

    /// The first mapping of the first host.
    pub fn first_mapping(&mut self) -> &mut Mapping {
        &mut self.config.hosts[0].mappings[0]
    }

    /// A path below the folder of sources.
    pub fn source(&self, path: &str) -> PathBuf {
        self.folder.path().join("src").join(path)
    }

    /// Where the state is.
    pub fn state(&self) -> StateStore {
        StateStore::open(&self.config.settings.state_path).unwrap()
    }

    /// Plans for all hosts.
    pub fn plan(&self) -> Prepared {
        self.plan_with(Refresh::Quick)
    }

    /// Plans for all hosts, and looks at them this closely.
    pub fn plan_with(&self, refresh: Refresh) -> Prepared {
        self.prepare(refresh, &Sources, false).unwrap()
    }

    /// Plans for all hosts, and finds out how contents differ.
    pub fn plan_with_diffs(&self, refresh: Refresh) -> Prepared {
        self.prepare(refresh, &Sources, true).unwrap()
    }

    /// What is left to do of a plan that was saved.
    pub fn follow(&self, saved: &Plan) -> Prepared {
        let hosts: Vec<&Host> = self.config.hosts.iter().collect();
        let goal = SavedPlanCheck::begin(saved, &hosts, &self.state(), Blake3::of(b"config"));
        self.prepare(saved.header.refresh, &goal.unwrap(), false)
            .unwrap()
    }

    /// Makes a plan.
    ///
    /// # Errors
    /// As [`plan::prepare`].
    pub fn prepare(
        &self,
        refresh: Refresh,
        goal: &dyn Goal,
        wants_diffs: bool,
    ) -> Result<Prepared, PrepareError> {
        let hosts: Vec<&Host> = self.config.hosts.iter().collect();
        let state = self.state();
        let request = PlanRequest {
            config: &self.config,
            config_digest: Blake3::of(b"config"),
            hosts: &hosts,
            state: &state,
            cache_dir: None,
            connector: &self.hosts,
            refresh,
            goal,
            wants_diffs,
            keeps_all: false,
            keep_logins: 0,
            now: "2026-01-01T00:00:00Z",
            observer: &Silent,
        };
        plan::prepare(&request)
    }

    /// Carries a plan out.
    pub fn apply_plan(&self, prepared: &Prepared) -> Report {
        let dir: &Path = &self.config.settings.state_path;
        // A process that another test starts has the last lock, too, until it is the program it is to be.
        let patience = Duration::from_mins(1);
        let lock = StateLock::acquire(dir, "apply", "me@here", patience, &mut |_| {}).unwrap();
        let mut state = self.state();
        let request = apply::ApplyRequest {
            config: &self.config,
            prepared,
            lock: &lock,
            connector: &self.hosts,
            large: self.large,
            on_conflict: self.on_conflict,
            wait_for_host: self.wait_for_host,
            interrupted: &AtomicBool::new(false),
            now: &|| "2026-01-01T00:00:00Z".to_owned(),
            observer: &Silent,
            on_host: &|_| {},
        };
        apply::apply(&request, &mut state).unwrap()
    }

    /// Plans and applies; the report of the first host.
    pub fn apply(&self) -> HostReport {
        self.apply_plan(&self.plan()).hosts.swap_remove(0)
    }

    /// What a new plan would change on the first host.
    pub fn remaining(&self) -> Vec<Change> {
        let prepared = self.plan();
        assert_eq!(prepared.plan.hosts[0].status.error(), None);
        prepared.plan.hosts[0].changes().to_vec()
    }

    /// Folder of ours on a host.
    pub fn base(&self, host: &str) -> PathBuf {
        let lineage = self.state().identity().unwrap().lineage.clone();
        let home = &self
            .hosts
            .0
            .iter()
            .find(|(name, _)| *name == host)
            .unwrap()
            .1;
        home.home().join(".hostsync").join(lineage).join(host)
    }

    /// The listing that a host keeps, made by its agent or by its `sh`.
    pub fn listing(&self, host: &str) -> PathBuf {
        let of_agent = self.base(host).join("listing.agent");
        if of_agent.exists() {
            return of_agent;
        }
        self.base(host).join("listing")
    }
}
