//! A configuration whose hosts are embedded ones.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use hostsync::apply::{self, LargeFiles, OnConflict, Report};
use hostsync::config::{self, Config, Environment, Host};
use hostsync::model::{Blake3, Silent};
use hostsync::plan::goal::Sources;
use hostsync::plan::prepared::Prepared;
use hostsync::plan::{self, PlanRequest, Refresh};
use hostsync::state::{StateLock, StateStore};
use hostsync::transport::libssh2::Libssh2Connector;
use hostsync::transport::{ConnectOptions, Connector};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tree::{self, Contents};
use hostsync_testkit::embedded::{EmbeddedHost, Fault, HostOptions};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const USER: &str = "deploy";
const PASSWORD: &str = "open sesame";

/// Longest wait for what a host still does after its connection has ended.
const END: Duration = Duration::from_secs(30);

/// How many applies a host keeps the backups of, unless a test says otherwise.
const USUAL_BACKUPS: usize = 5;

/// Sources, state and hosts. Each host gets the tree of `tree.rs` as `~/dest`.
pub(crate) struct FaultSite {
    pub(crate) hosts: Vec<EmbeddedHost>,
    pub(crate) config: Config,
    folder: TempDir,
}

/// All time-outs of a site whose hosts end at once what they do not do. Never waited for.
pub(crate) const LONG: Duration = Duration::from_mins(1);

/// All time-outs of a site that has hosts that hang. What the others can do at all, they do in a small
/// part of it, even on a busy machine.
pub(crate) const SHORT: Duration = Duration::from_secs(6);

impl FaultSite {
    /// With these hosts, one for each name, which have the generation 0 of the tree as its source.
    pub(crate) fn new(timeout: Duration, hosts: &[(&str, Vec<Fault>)]) -> Self {
        let folder = temporary_folder();
        let path = |name: &str| folder.path().join(name);
        for name in ["home", "path_mapper"] {
            fs::create_dir(path(name)).unwrap();
        }
        let (mut servers, mut connections, mut known_hosts) =
            (Vec::new(), Vec::new(), String::new());
        for (name, faults) in hosts {
            let home = path(&format!("host {name}"));
            fs::create_dir(&home).unwrap();
            let options = HostOptions {
                faults: faults.clone(),
                ..HostOptions::new(USER, PASSWORD)
            };
            let server = EmbeddedHost::start(LOOPBACK, &home, options).unwrap();
            let port = server.address().port();
            let _ = writeln!(known_hosts, "[{LOOPBACK}]:{port} {}", server.public_key());
            connections.push(json!({
                "name": name,
                "ip_address": LOOPBACK.to_string(),
                "port": port,
                "user": USER,
                "passkey": PASSWORD,
            }));
            servers.push(server);
        }
        fs::write(path("known_hosts"), known_hosts).unwrap();
        fs::write(path("connection_info.json"), json!(connections).to_string()).unwrap();
        write_settings(folder.path(), timeout, USUAL_BACKUPS);
        for (name, _) in hosts {
            write_mapping(folder.path(), name, &json!(true));
        }
        tree::write_generation(&path("src"), 0);
        let environment = Environment {
            home: Some(path("home")),
            current_dir: folder.path().to_owned(),
        };
        let config = config::load(&path("config.ini"), &environment)
            .unwrap()
            .config;
        Self {
            hosts: servers,
            config,
            folder,
        }
    }

    /// Changes all time-outs, and how many backups are kept, for the program.
    pub(crate) fn write_settings(&self, timeout: Duration, backups: usize) {
        write_settings(self.folder.path(), timeout, backups);
    }

    /// Changes what becomes of what the source does not have, for the program.
    pub(crate) fn write_mapping(&self, host: &str, exact: &Value) {
        write_mapping(self.folder.path(), host, exact);
    }

    /// The folder that is the source.
    pub(crate) fn source_folder(&self) -> PathBuf {
        self.folder.path().join("src")
    }

    /// Makes this generation of the tree the source.
    pub(crate) fn write_generation(&self, generation: usize) -> Contents {
        tree::write_generation(&self.source_folder(), generation);
        self.source()
    }

    /// What is in the source.
    pub(crate) fn source(&self) -> Contents {
        Contents::of(&self.source_folder())
    }

    /// What a host has of it.
    pub(crate) fn dest(&self, host: usize) -> Contents {
        Contents::of(&self.hosts[host].home().join("dest"))
    }

    /// Folder of ours on a host.
    pub(crate) fn base(&self, host: usize) -> Option<PathBuf> {
        let lineage = self.state().identity()?.lineage.clone();
        let name = self.config.hosts[host].id.as_file_name();
        let home = self.hosts[host].home();
        Some(home.join(".hostsync").join(lineage).join(name))
    }

    pub(crate) fn state(&self) -> StateStore {
        StateStore::open(&self.config.settings.state_path).unwrap()
    }

    /// Takes away what is wrong with the hosts.
    pub(crate) fn repair(&self) {
        for host in &self.hosts {
            host.set_faults(Vec::new());
        }
    }

    /// Waits until hosts have ended what connections that are gone had begun.
    pub(crate) fn wait_until_idle(&self) {
        for host in &self.hosts {
            assert!(host.wait_until_idle(END), "a host does not come to its end");
        }
    }

    /// Plans and applies, as the program does; with one login for both, or one for each.
    pub(crate) fn apply(&self, keeps_login: bool) -> (Prepared, Report) {
        let mut state = self.state();
        let connector = self.connector();
        let prepared = self.prepare(&state, &connector, usize::from(keeps_login));
        let lock = StateLock::acquire(
            &self.config.settings.state_path,
            "apply",
            "me@here",
            Duration::ZERO,
            &mut |_| {},
        );
        let lock = lock.unwrap();
        let request = apply::ApplyRequest {
            config: &self.config,
            prepared: &prepared,
            lock: &lock,
            connector: &connector,
            large: LargeFiles::default(),
            on_conflict: OnConflict::Fail,
            wait_for_host: END,
            interrupted: &AtomicBool::new(false),
            now: &|| "2026-01-01T00:00:00Z".to_owned(),
            observer: &Silent,
            on_host: &|_| {},
        };
        let report = apply::apply(&request, &mut state).unwrap();
        (prepared, report)
    }

    /// Plans, and changes nothing.
    pub(crate) fn plan(&self) -> Prepared {
        self.prepare(&self.state(), &self.connector(), 0)
    }

    /// Plans over other connections.
    pub(crate) fn plan_over(&self, connector: &dyn Connector) -> Prepared {
        self.prepare(&self.state(), connector, 0)
    }

    fn prepare(
        &self,
        state: &StateStore,
        connector: &dyn Connector,
        keep_logins: usize,
    ) -> Prepared {
        let hosts: Vec<&Host> = self.config.hosts.iter().collect();
        let request = PlanRequest {
            config: &self.config,
            config_digest: Blake3::of(b"config"),
            hosts: &hosts,
            state,
            cache_dir: None,
            connector,
            refresh: Refresh::Quick,
            goal: &Sources,
            wants_diffs: false,
            keeps_all: false,
            keep_logins,
            now: "2026-01-01T00:00:00Z",
            observer: &Silent,
        };
        plan::prepare(&request).unwrap()
    }

    pub(crate) fn connector(&self) -> Libssh2Connector {
        let settings = &self.config.settings;
        Libssh2Connector::new(ConnectOptions {
            connect_timeout: settings.connect_timeout,
            login_timeout: settings.login_timeout,
            stall_timeout: settings.stall_timeout,
            ..ConnectOptions::new(&settings.known_hosts_path)
        })
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let mut command = Command::new(hostsync_testkit::program());
        command
            .args(args)
            .current_dir(self.folder.path())
            .env("HOME", self.folder.path().join("home"))
            .stdin(Stdio::null());
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("HOSTSYNC_") || name == "SSH_AUTH_SOCK" {
                command.env_remove(name.as_ref());
            }
        }
        let started = Instant::now();
        let output = command.output().unwrap();
        Output {
            code: output.status.code(),
            text: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
            elapsed: started.elapsed(),
        }
    }

    /// Applies without asking.
    pub(crate) fn run_apply(&self) -> Output {
        self.run(&["apply", "--auto-approve"])
    }
}

/// How a run of the program ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: Option<i32>,
    /// All that it said.
    pub(crate) text: String,
    pub(crate) elapsed: Duration,
}

impl Output {
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.text);
        self
    }
}

fn write_settings(folder: &Path, timeout: Duration, backups: usize) {
    let seconds = timeout.as_secs();
    let settings = format!(
        "[DEFAULT]\nknown_hosts_path = known_hosts\nnumber_of_connections = 20\nmax_delete = 100%\n\
         connect_timeout = {seconds}s\nlogin_timeout = {seconds}s\n\
         stall_timeout = {seconds}s\nbackups = {backups}\n"
    );
    fs::write(folder.join("config.ini"), settings).unwrap();
}

fn write_mapping(folder: &Path, host: &str, exact: &Value) {
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": exact }]);
    let path = folder.join(format!("path_mapper/{host}.json"));
    fs::write(path, mapping.to_string()).unwrap();
}

/// In memory where that can be had: every commit flushes the file systems that it writes to, and others
/// may be writing to the disk.
fn temporary_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    let mut builder = tempfile::Builder::new();
    builder.prefix("hostsync-faults-");
    if env::var_os("ONDISK").is_some() {
        return builder.tempdir().unwrap();
    }
    builder
        .tempdir_in(memory)
        .or_else(|_| builder.tempdir())
        .unwrap()
}
