//! What every command begins with: configuration, logs, connections, state.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use miette::{Diagnostic, Report};
use secrecy::SecretString;

use super::args::{GlobalSettings, Progress};
use super::console::Console;
use super::exit::Exit;
use crate::config::{self, Config, Environment, Host, Settings};
use crate::plan::PrepareError;
use crate::plan::document::PlanFileError;
use crate::plan::goal::rollback::NoRollbackTarget;
use crate::plan::goal::saved::StalePlan;
use crate::remote::Nonce;
use crate::state::{LockHolder, StateError, StateLock};
use crate::transport::ssh::{SshConnector, SshOptions};
use crate::view;
use crate::view::log::{self, LogGuard};

/// Why a command ends before its time.
pub(super) struct Stop {
    /// For people.
    pub(super) report: Report,
    /// For the shell.
    pub(super) exit: Exit,
}

impl Stop {
    /// An error after which nothing more specific can be said than that it failed.
    pub(super) fn failed(error: impl Diagnostic + Send + Sync + 'static) -> Self {
        Self {
            report: Report::new(error),
            exit: Exit::Failed,
        }
    }

    /// A short error of the command line itself.
    pub(super) fn message(text: impl Into<String>, help: impl Into<String>) -> Self {
        let diagnostic = miette::MietteDiagnostic::new(text.into()).with_help(help.into());
        Self {
            report: Report::new(diagnostic),
            exit: Exit::Failed,
        }
    }

    /// A question that has to be answered by a person, and none is there.
    pub(super) fn nobody_to_ask(help: &str) -> Self {
        Self::message(
            "there is nobody to ask: standard input is not a terminal",
            help,
        )
    }
}

impl From<config::ConfigError> for Stop {
    fn from(error: config::ConfigError) -> Self {
        Self::failed(error)
    }
}

impl From<config::SelectError> for Stop {
    fn from(error: config::SelectError) -> Self {
        Self::failed(error)
    }
}

impl From<log::LogError> for Stop {
    fn from(error: log::LogError) -> Self {
        Self::failed(error)
    }
}

impl From<StateError> for Stop {
    fn from(error: StateError) -> Self {
        let exit = match error {
            StateError::Locked { .. } => Exit::Locked,
            _ => Exit::Failed,
        };
        Self {
            report: Report::new(error),
            exit,
        }
    }
}

impl From<PrepareError> for Stop {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::State(error) => error.into(),
            PrepareError::Stale(error) => Self {
                exit: match error {
                    StalePlan::UnknownHost { .. } => Exit::Failed,
                    _ => Exit::Refused,
                },
                report: Report::new(error),
            },
        }
    }
}

impl From<NoRollbackTarget> for Stop {
    fn from(error: NoRollbackTarget) -> Self {
        Self::failed(error)
    }
}

impl From<PlanFileError> for Stop {
    fn from(error: PlanFileError) -> Self {
        Self::failed(error)
    }
}

/// A configuration that is in use.
pub(super) struct Context<'a> {
    pub(super) config: Config,
    pub(super) remarks: Vec<config::Remark>,
    pub(super) console: &'a Console,
    progress: Progress,
    log: Option<LogGuard>,
}

impl<'a> Context<'a> {
    /// Reads the configuration.
    pub(super) fn load(global: &GlobalSettings, console: &'a Console) -> Result<Self, Stop> {
        let environment = environment()?;
        let path = config::find(global.config.as_deref(), &environment)?;
        let loaded = config::load(&path, &environment)?;
        console.detail(&format!("configuration: {}", loaded.config.path.display()));
        Ok(Self {
            config: loaded.config,
            remarks: loaded.remarks,
            console,
            progress: global.progress,
            log: None,
        })
    }

    /// Starts the logs. `command` is what the first line says.
    pub(super) fn start_logs(&mut self, command: &str) -> Result<(), Stop> {
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

    /// The last line of the log; and a word when lines were lost.
    pub(super) fn finish(&self, exit: Exit) -> Exit {
        tracing::info!(exit = exit.code(), "end");
        if let Some(error) = self.log.as_ref().and_then(LogGuard::first_error) {
            self.console
                .note(&format!("warning: the log is not complete: {error}"));
        }
        exit
    }

    /// The hosts that `--limit` picks.
    pub(super) fn select(&self, limit: &[String]) -> Result<Vec<&Host>, Stop> {
        Ok(config::select(&self.config, limit)?)
    }

    /// Logs in to hosts.
    pub(super) fn connector(&self) -> SshConnector {
        let Settings {
            connect_timeout,
            login_timeout,
            stall_timeout,
            known_hosts_path,
            ciphers,
            compress,
            ..
        } = &self.config.settings;
        SshConnector::new(SshOptions {
            connect_timeout: *connect_timeout,
            login_timeout: *login_timeout,
            stall_timeout: *stall_timeout,
            known_hosts_path: known_hosts_path.clone(),
            ciphers: ciphers.clone(),
            compress: *compress,
            home: env::home_dir(),
            agent_socket: env::var_os("SSH_AUTH_SOCK").map(PathBuf::from),
            variables: Arc::new(|name| env::var(name).ok().map(SecretString::from)),
        })
    }

    /// Somebody who shows progress.
    pub(super) fn progress(&self) -> view::progress::Progress {
        self.console.progress(self.progress)
    }

    /// Where digests of sources are kept.
    pub(super) fn cache_dir(&self) -> PathBuf {
        self.config.settings.state_path.join("cache")
    }

    /// Locks the state, waiting as long as was asked for.
    pub(super) fn lock(
        &self,
        operation: &str,
        timeout: std::time::Duration,
    ) -> Result<StateLock, Stop> {
        let user = env::var("USER")
            .or_else(|_| env::var("LOGNAME"))
            .unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
        let machine = rustix::system::uname();
        let who = format!("{user}@{}", machine.nodename().to_string_lossy());
        let mut on_wait = |holder: &LockHolder| {
            self.console
                .say(&format!("waiting for another run: {holder}"));
        };
        let dir: &Path = &self.config.settings.state_path;
        Ok(StateLock::acquire(
            dir,
            operation,
            &who,
            timeout,
            &mut on_wait,
        )?)
    }
}

/// What the configuration wants to know about where it is used.
pub(super) fn environment() -> Result<Environment, Stop> {
    let current_dir = env::current_dir().map_err(|error| {
        Stop::message(
            format!("cannot tell the current folder: {error}"),
            "go to a folder that exists",
        )
    })?;
    Ok(Environment {
        home: env::home_dir(),
        current_dir,
    })
}

/// The time of day: RFC 3339, UTC, milliseconds.
pub(super) fn now_in_milliseconds() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The time of day: RFC 3339, UTC, whole seconds.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
