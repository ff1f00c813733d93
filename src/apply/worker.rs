//! The work on one host.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Host;
use crate::model::{Event, HostError, Kind, Node, Observer, Phase};
use crate::plan::Change;
use crate::plan::prepared::PreparedHost;
use crate::remote::Login;
use crate::remote::tasks::look::{self, Algorithm, LookError, LookRequest};
use crate::state::StateError;
use crate::transport::TransportError;

use super::program::{self, Job};
use super::stage::Staging;
use super::tally::Tally;
use super::{HostReport, HostResult, Run};

/// The changes that remain when conflicts are left alone: without them, and without what would lie
/// below one.
pub(super) fn without_conflicts(changes: &[Change]) -> Vec<&Change> {
    let conflicts: Vec<&Change> = changes.iter().filter(|change| change.conflict).collect();
    let is_left = |change: &Change| {
        conflicts.iter().any(|conflict| {
            conflict.mapping == change.mapping
                && (conflict.path == change.path
                    || change.path.is_below(&conflict.path)
                    // What makes room cannot go while something in it stays.
                    || (conflict.path.is_below(&change.path)
                        && change.before.as_ref().map(Node::kind) == Some(Kind::Dir)
                        && change.after.as_ref().map(Node::kind) != Some(Kind::Dir)))
        })
    };
    changes.iter().filter(|change| !is_left(change)).collect()
}

/// Refusal a host is not done.
#[derive(Debug)]
pub(super) enum Failure {
    Unreachable(HostError),
    Failed(HostError),
    /// The connection did not last.
    Broken(TransportError),
    Interrupted,
}

impl Failure {
    /// It failed for a reason that the host or this program has in words.
    pub(super) fn failed(reason: String) -> Self {
        Self::Failed(reason.into())
    }

    pub(super) fn into_result(self) -> HostResult {
        match self {
            Self::Unreachable(error) => HostResult::Unreachable(error),
            Self::Failed(error) => HostResult::Failed(error),
            Self::Broken(error) => HostResult::Failed(HostError::from(&error)),
            Self::Interrupted => HostResult::Interrupted,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::Broken(error)
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Failed(HostError::from(&error))
    }
}

/// One host, what is to be done there and what is known of it. `stage.rs` sends, `commit.rs` moves into
/// place, `record.rs` tells the state.
pub(super) struct Worker<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) host: &'a Host,
    pub(super) prepared: &'a PreparedHost,
    pub(super) changes: Vec<&'a Change>,
    pub(super) tally: &'a Tally<'a>,
    /// Whether the plan has changes that are left alone.
    pub(super) leaves_some: bool,
}

impl Worker<'_> {
    /// Does it, on the login that was kept if there is one. What has been confirmed is in `report` and in
    /// the state, whatever comes after.
    pub(super) fn work(&self, kept: Option<Login>, report: &mut HostReport) -> Result<(), Failure> {
        let started = Instant::now();
        let was_kept = kept.is_some();
        let mut staging = self.choose_staging()?;
        let job = Job {
            host: self.host,
            prepared: self.prepared,
            changes: &self.changes,
            base_of: &staging.base_of,
            devices: &staging.devices,
            large_from_bytes: self.run.request.large.from_bytes,
        };
        let program = program::compile(&job);
        let is_blake3 = self.prepared.look.facts.algorithm == Algorithm::Blake3;
        let (names, sums) = program::verification(&program.staged, is_blake3).ok_or_else(|| {
            Failure::Failed("a digest of a source is missing; run the same command again".into())
        })?;
        let receiver = self.choose_receiver(&program)?;

        let mut login = match (kept, receiver) {
            (Some(kept), None) => self.unless_dead(kept, &staging)?,
            (Some(kept), Some(_)) => kept,
            (None, _) => self.log_in()?,
        };
        if let Some(receiver) = receiver {
            let mut uploaded = self.upload_all(&mut login, &mut staging, &program, receiver);
            if was_kept && let Err(Failure::Broken(error)) = &uploaded {
                tracing::info!("the login that the plan left is gone: {error}");
                login = self.log_in()?;
                // In a folder of its own: what arrived in the other one may go on arriving.
                staging = self.choose_staging()?;
                uploaded = self.upload_all(&mut login, &mut staging, &program, receiver);
            }
            uploaded?;
        }
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "uploaded");
        if self.is_interrupted() {
            login.close();
            return Err(Failure::Interrupted);
        }
        self.begin(Phase::Committing, 0);
        let begun = self.record_start()?;
        // It uses them up.
        self.tally.set_keeps_part(false);
        let after = &begun.recorded_after;
        let answer = self.commit(&mut login, &staging, &program, &names, &sums, after);
        login.close();
        let answer = answer?;
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "committed");
        self.record_end(&program, &answer, begun.history, report)?;
        Ok(())
    }

    fn log_in(&self) -> Result<Login, Failure> {
        self.begin(Phase::Connecting, 0);
        let session = self.run.request.connector.connect(self.host);
        session
            .map(Login::new)
            .map_err(|error| Failure::Unreachable(HostError::from(&error)))
    }

    /// The login, or a new one if nobody answers on it. For a commit that nothing goes before: whether
    /// a broken one was begun nobody knows, so it is never repeated.
    fn unless_dead(&self, mut login: Login, staging: &Staging) -> Result<Login, Failure> {
        let nothing = LookRequest {
            base: &staging.home,
            roots: &[],
            mirrors: &[],
            listing: None,
            paths: &[],
            stall_timeout: self.stall_timeout(),
        };
        match look::look(&mut login, &nothing) {
            Err(LookError::Transport(error)) => {
                tracing::info!("the login that the plan left is gone: {error}");
                self.log_in()
            }
            _ => Ok(login),
        }
    }

    pub(super) fn observer(&self) -> &dyn Observer {
        self.run.request.observer
    }

    pub(super) fn begin(&self, phase: Phase, total_bytes: u64) {
        let host = self.host.id.clone();
        self.observer().event(&Event::HostPhase {
            host,
            phase,
            total_bytes,
        });
    }

    pub(super) fn stall_timeout(&self) -> Duration {
        self.run.request.config.settings.stall_timeout
    }

    pub(super) fn is_interrupted(&self) -> bool {
        self.run.request.interrupted.load(Ordering::Relaxed)
    }
}
