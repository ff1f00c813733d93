//! The workflow that commands share, in steps: open, prepare, approve, carry out, finish.
//!
//! A command takes the steps that it needs, in this order. What only one command does is in its own file.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

use super::approval;
use super::console::Console;
use super::environment::{environment, now, who};
use super::error::CommandError;
use super::exit::Exit;
use super::interrupt::Interrupts;
use super::options::{GlobalOptions, LockOptions, TextOptions, UntrustedOptions};
use crate::apply::{self, OnConflict, Report};
use crate::config::{self, Config, Host, Settings};
use crate::model::{
    Event, HostError, HostOutcome, Observer, Phase, RemotePath, Together, map_parallel,
    watch_waiting,
};
use crate::plan::goal::{Goal, Sources};
use crate::plan::prepared::Prepared;
use crate::plan::staging::base_on_host;
use crate::plan::{self, Plan, PlanRequest, Refresh};
use crate::remote::{Login, Nonce, RemoteError};
use crate::state::{LockHolder, StateLock, StateStore};
use crate::transport::libssh2::Libssh2Connector;
use crate::transport::{ConnectOptions, Connector as _, HostKey, KeyProbe as _};
use crate::view::json::events::Events;
use crate::view::log::{self, LogGuard};
use crate::view::progress::Progress;
use crate::view::review::past_runs;
use crate::view::review::report::Again;
use crate::view::text::report::ReportView;

/// Longest wait for a host on which another run is committing.
const WAIT_FOR_HOST: Duration = Duration::from_secs(30);

/// A command at work: its configuration, its logs, and who is told what happens.
pub(super) struct CommandSession<'a> {
    pub(super) config: Config,
    /// What is worth knowing about the configuration.
    pub(super) remarks: Vec<config::Remark>,
    /// The program that is told what happens; `None` where it is a person.
    pub(super) events: Option<Arc<Events>>,
    global: &'a GlobalOptions,
    console: &'a Console,
    interrupts: Interrupts,
    connector: Libssh2Connector,
    /// `None` also where the configuration is a stranger's.
    log: Option<LogGuard>,
    is_untrusted: bool,
}

/// The state, and the proof that nobody else writes it.
pub(super) struct LockedState {
    pub(super) lock: StateLock,
    pub(super) store: StateStore,
}

/// How a plan is made.
pub(super) struct Planning<'a> {
    /// What hosts are to be made equal to.
    pub(super) goal: &'a dyn Goal,
    /// How the hosts are looked at.
    pub(super) refresh: Refresh,
    /// Whether it is to be found out how contents differ.
    pub(super) wants_diffs: bool,
    /// Whether what is known of a host is kept even where nothing is to be done.
    pub(super) keeps_all: bool,
    /// Whether logins are kept on hosts that apply would work on.
    pub(super) keeps_logins: bool,
}

impl Default for Planning<'_> {
    fn default() -> Self {
        Self {
            goal: &Sources,
            refresh: Refresh::Quick,
            wants_diffs: false,
            keeps_all: false,
            keeps_logins: false,
        }
    }
}

// --- open --------------------------------------------------------------------------------------------

impl<'a> CommandSession<'a> {
    /// Listens for signals, reads the configuration and starts the logs. `command` is what the log calls
    /// this run.
    pub(super) fn open(
        command: &str,
        global: &'a GlobalOptions,
        console: &'a Console,
    ) -> Result<Self, CommandError> {
        Self::open_as(command, &UntrustedOptions::default(), global, console)
    }

    /// Does what [`Self::open`] does with a configuration that may be a stranger's. Of that one there are no
    /// logs, since nothing but what was asked for is written.
    pub(super) fn open_as(
        command: &str,
        untrusted: &UntrustedOptions,
        global: &'a GlobalOptions,
        console: &'a Console,
    ) -> Result<Self, CommandError> {
        let interrupts = Interrupts::listen();
        let Some(state) = untrusted.state() else {
            let mut session = Self::load(global, console, interrupts)?;
            session.start_logs(command)?;
            return Ok(session);
        };
        let environment = environment()?;
        let path = config::find(global.config(), &environment)?;
        let loaded = config::load_untrusted(&path, &environment, state)?;
        let mut session = Self::of(loaded, global, console, interrupts);
        session.is_untrusted = true;
        Ok(session)
    }

    /// Reads the configuration, and nothing else.
    pub(super) fn load(
        global: &'a GlobalOptions,
        console: &'a Console,
        interrupts: Interrupts,
    ) -> Result<Self, CommandError> {
        let environment = environment()?;
        let path = config::find(global.config(), &environment)?;
        let loaded = config::load(&path, &environment)?;
        Ok(Self::of(loaded, global, console, interrupts))
    }

    fn of(
        loaded: config::Loaded,
        global: &'a GlobalOptions,
        console: &'a Console,
        interrupts: Interrupts,
    ) -> Self {
        console.detail(&format!("configuration: {}", loaded.config.path.display()));
        Self {
            connector: connector(&loaded.config.settings),
            config: loaded.config,
            remarks: loaded.remarks,
            events: None,
            global,
            console,
            interrupts,
            log: None,
            is_untrusted: false,
        }
    }

    /// Starts the logs. `command` is what the first line says.
    pub(super) fn start_logs(&mut self, command: &str) -> Result<(), CommandError> {
        let nonce = Nonce::random();
        let run_id = &nonce.as_str()[..8];
        let folder = &self.config.settings.log_path;
        self.log = Some(log::start_logs(folder, run_id, self.console.is_verbose())?);
        tracing::info!(
            command,
            version = env!("CARGO_PKG_VERSION"),
            config = %self.config.path.display(),
            hosts = self.config.hosts.len(),
            "begin"
        );
        for remark in &self.remarks {
            tracing::warn!("{remark}");
        }
        self.console.detail(&format!(
            "log: {} (run {run_id})",
            folder.join(log::LOG_FILE).display()
        ));
        Ok(())
    }

    /// Opens the state without a lock: another run may write to it meanwhile.
    pub(super) fn state(&self) -> Result<StateStore, CommandError> {
        Ok(StateStore::open(&self.config.settings.state_path)?)
    }

    /// Locks the state, then opens it, so that nobody else changes what was read. `operation` is what runs
    /// are told that wait for this one.
    pub(super) fn lock_state(
        &self,
        operation: &str,
        options: &LockOptions,
    ) -> Result<LockedState, CommandError> {
        let mut on_wait = |holder: &LockHolder| {
            self.console
                .say(&format!("waiting for another run: {holder}"));
        };
        let lock = StateLock::acquire(
            &self.config.settings.state_path,
            operation,
            &who(),
            options.lock_timeout,
            &mut on_wait,
        )?;
        let store = self.state()?;
        Ok(LockedState { lock, store })
    }

    /// The hosts that patterns pick; all without any.
    pub(super) fn select(&self, patterns: &[String]) -> Result<Vec<&Host>, CommandError> {
        Ok(config::select(&self.config, patterns)?)
    }
}

/// What logs in to hosts.
fn connector(settings: &Settings) -> Libssh2Connector {
    Libssh2Connector::new(ConnectOptions {
        connect_timeout: settings.connect_timeout,
        login_timeout: settings.login_timeout,
        stall_timeout: settings.stall_timeout,
        known_hosts_path: settings.known_hosts_path.clone(),
        ciphers: settings.ciphers.clone(),
        compress: settings.compress,
        home: env::home_dir(),
        agent_socket: env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
        variables: Arc::new(|name| env::var(name).ok().map(SecretString::from)),
    })
}

/// Hears of those who are waited for, and of nothing else.
struct OnlyWaiting<'a>(&'a Progress);

impl Observer for OnlyWaiting<'_> {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Waiting { .. }) {
            self.0.event(event);
        }
    }
}

// --- ask hosts without a plan ------------------------------------------------------------------------

impl CommandSession<'_> {
    /// Does something for each of these hosts, for several at a time. Nothing is shown of it but those who
    /// are waited for.
    pub(super) fn for_hosts<R: Send>(
        &self,
        hosts: &[&Host],
        phase: Phase,
        work: impl Fn(&Host) -> R + Sync,
    ) -> Vec<R> {
        let threads = self.config.settings.number_of_connections;
        let progress = self.progress();
        watch_waiting(&OnlyWaiting(&progress), |observer| {
            map_parallel(hosts, threads, |host| {
                let id = || host.id.clone();
                observer.event(&Event::HostPhase {
                    host: id(),
                    phase,
                    total_bytes: 0,
                });
                let result = work(host);
                observer.event(&Event::HostFinished {
                    host: id(),
                    outcome: HostOutcome::Done,
                });
                result
            })
        })
    }

    /// Fetches the key of a host.
    pub(super) fn host_key(&self, host: &Host) -> Result<HostKey, HostError> {
        let key = self.connector.fetch_host_key(host);
        key.map_err(|error| HostError::from(&error))
    }

    /// Logs in to a host for one task, which gets the path of our folder there.
    pub(super) fn visit<T>(
        &self,
        host: &Host,
        state: &StateStore,
        task: impl FnOnce(&mut Login, &RemotePath) -> Result<T, RemoteError>,
    ) -> Result<T, HostError> {
        if let Some(problems) = host.problems() {
            return Err(problems.into());
        }
        let staging = self.config.settings.staging_path.as_ref();
        let base = base_on_host(staging, state.identity(), &host.id);
        let connection = self.connector.connect(host);
        let mut login = Login::new(connection.map_err(|error| HostError::from(&error))?);
        let result = task(&mut login, &base);
        login.close();
        result.map_err(|error| HostError::from(&error))
    }
}

// --- prepare -----------------------------------------------------------------------------------------

impl CommandSession<'_> {
    /// Makes a plan for these hosts, or checks that the saved one still holds for them.
    pub(super) fn prepare(
        &self,
        state: &StateStore,
        hosts: &[&Host],
        planning: &Planning<'_>,
    ) -> Result<Prepared, CommandError> {
        let settings = &self.config.settings;
        let progress = self.progress();
        let mut observers: Vec<&dyn Observer> = vec![&progress];
        observers.extend(self.events.as_deref().map(|events| events as &dyn Observer));
        let observers = Together(&observers);
        let cache = settings.state_path.join("cache");
        let prepared = watch_waiting(&observers, |observer| {
            plan::prepare(&PlanRequest {
                config: &self.config,
                config_digest: config::config_digest(&self.config),
                hosts,
                state,
                cache_dir: (!self.is_untrusted).then_some(cache.as_path()),
                connector: &self.connector,
                refresh: planning.refresh,
                goal: planning.goal,
                wants_diffs: planning.wants_diffs,
                keeps_all: planning.keeps_all,
                keep_logins: if planning.keeps_logins {
                    settings.number_of_connections
                } else {
                    0
                },
                now: &now(),
                observer,
            })
        })?;
        let summary = prepared.plan.summary();
        tracing::info!(
            create = summary.create,
            update = summary.update,
            delete = summary.delete,
            metadata = summary.metadata,
            adopt = summary.adopt,
            unchanged = summary.unchanged,
            conflicts = summary.conflicts,
            unreachable = summary.unreachable,
            "planned"
        );
        Ok(prepared)
    }

    /// Says what earlier runs have left that the reader of a plan should know of.
    pub(super) fn tell_what_came_before(&self, prepared: &Prepared, state: &StateStore) {
        let has_changes = prepared.plan.summary().has_changes();
        let taken_back = past_runs::taken_back(state.runs()).filter(|_| has_changes);
        let cut_short = past_runs::cut_short(prepared.cut_short());
        for line in cut_short.into_iter().chain(taken_back) {
            self.console.say(&line);
        }
    }

    /// The display of progress.
    fn progress(&self) -> Progress {
        let choice = self.global.progress;
        self.console.progress(match &self.events {
            Some(_) => self.console.progress_beside_data(choice),
            None => choice,
        })
    }
}

// --- approve, carry out, finish ----------------------------------------------------------------------

impl CommandSession<'_> {
    /// Asks whether a plan that was shown is to be carried out.
    pub(super) fn confirms(&self, plan: &Plan, on_conflict: OnConflict) -> bool {
        let backups = self.config.settings.backups;
        let question = approval::question(plan, on_conflict, backups);
        self.console.confirms(&question)
    }

    /// Carries out a plan that was approved, and shows progress. Meanwhile the first signal asks to finish
    /// what is under way.
    pub(super) fn carry_out(
        &self,
        prepared: &Prepared,
        on_conflict: OnConflict,
        state: &mut LockedState,
    ) -> Result<Report, CommandError> {
        let LockedState { lock, store } = state;
        let progress = Arc::new(self.progress());
        let mut observers: Vec<&dyn Observer> = vec![progress.as_ref()];
        observers.extend(self.events.as_deref().map(|events| events as &dyn Observer));
        let interrupted = self.interrupts.begin_changes(&progress);
        let observers = Together(&observers);
        let report = watch_waiting(&observers, |observer| {
            let request = apply::ApplyRequest {
                config: &self.config,
                prepared,
                lock,
                connector: &self.connector,
                large: apply::LargeFiles::default(),
                on_conflict,
                wait_for_host: WAIT_FOR_HOST,
                interrupted,
                now: &now,
                observer,
                on_host: &|host| {
                    if let Some(events) = &self.events {
                        events.host_finished(host);
                    }
                },
            };
            apply::apply(&request, store)
        });
        progress.finish();
        self.interrupts.end_changes();
        let report = report?;
        if let Err(error) = store.remove_unused_trees(lock) {
            tracing::warn!("{error}");
        }
        Ok(report)
    }

    /// How a report is shown to people.
    pub(super) fn report_view(&self, options: &TextOptions) -> ReportView {
        let config = self.global.config();
        ReportView {
            full: options.full,
            width: self.console.width(),
            color: self.console.color(),
            automation: self.console.is_automation(),
            config: config.map(|path| path.display().to_string()),
            again: Again::planning("apply"),
        }
    }

    /// Ends a run that was not approved. `what` says what did not happen.
    pub(super) fn cancel(&self, what: &str) -> Exit {
        self.console.note(&format!("Cancelled: {what}."));
        self.finish(Exit::Failed)
    }

    /// Ends the log, and warns when lines of it were lost.
    pub(super) fn finish(&self, exit: Exit) -> Exit {
        tracing::info!(exit = exit.code(), "end");
        if let Some(error) = self.log.as_ref().and_then(LogGuard::first_error) {
            self.console
                .note(&format!("warning: the log is not complete: {error}"));
        }
        exit
    }
}
