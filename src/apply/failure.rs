//! Refusal a host is not done.

use miette::Diagnostic;
use thiserror::Error;

use super::report::HostResult;
use crate::model::HostError;
use crate::remote::tasks::receive::stream::StreamError;
use crate::state::StateError;
use crate::transport::TransportError;

/// What an apply could not do on a host.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub(super) enum ApplyError {
    #[error("a digest of a source is missing")]
    #[diagnostic(code(hostsync::apply::no_digest), help("run the same command again"))]
    NoDigest,
    #[error(
        "its backups were made when it had another tool for digests, so they cannot be verified; \
         nothing was changed"
    )]
    #[diagnostic(code(hostsync::apply::unverifiable_backups))]
    UnverifiableBackups,
    /// No backup has what a rollback is to bring back: the first destination, and how many more.
    #[error(
        "{dest}{} cannot be brought back: no backup on this host has what was there; nothing was changed",
        and_more(*.others)
    )]
    #[diagnostic(code(hostsync::apply::no_backup))]
    NoBackup { dest: String, others: usize },
    /// The host gave up, and says why.
    #[error("{reason}")]
    #[diagnostic(code(hostsync::apply::gave_up))]
    Host {
        reason: String,
        #[help]
        cure: Option<&'static str>,
    },
    #[error("the host did not say what it has of large files: {said}")]
    #[diagnostic(code(hostsync::apply::no_blocks))]
    NoBlocks { said: String },
    #[error("{said}")]
    #[diagnostic(
        code(hostsync::apply::unfinished_answer),
        help("what it has done will be found by the next plan")
    )]
    UnfinishedAnswer { said: String },
    #[error("what arrived is not what was sent ({})", .dests.join(", "))]
    #[diagnostic(
        code(hostsync::apply::unverified),
        help("nothing was changed, run the same command again")
    )]
    Unverified { dests: Vec<String> },
    #[error("another run is committing on this host (process {holder} there)")]
    #[diagnostic(
        code(hostsync::apply::locked),
        help("nothing was changed, run the same command again when that has ended")
    )]
    Locked { holder: String },
    #[error("the commit ended early: {said}")]
    #[diagnostic(code(hostsync::apply::commit_died))]
    CommitDied { said: String },
}

fn and_more(others: usize) -> String {
    match others {
        0 => String::new(),
        others => format!(" (and {others} more)"),
    }
}

impl ApplyError {
    /// Whether another attempt may succeed although nobody has changed anything.
    fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::NoDigest
                | Self::UnfinishedAnswer { .. }
                | Self::Unverified { .. }
                | Self::Locked { .. }
                | Self::CommitDied { .. }
        )
    }
}

/// Refusal a host is not done.
#[derive(Debug)]
pub(super) enum HostFailure {
    /// There is no login.
    Unreachable(TransportError),
    /// The connection did not last.
    Broken(TransportError),
    /// Anything else.
    Failed(HostError),
    /// The run was interrupted.
    Interrupted,
}

impl HostFailure {
    pub(super) fn into_result(self) -> HostResult {
        match self {
            Self::Unreachable(error) => HostResult::Unreachable(HostError::from(&error)),
            Self::Broken(error) => HostResult::Failed(HostError::from(&error)),
            Self::Failed(error) => HostResult::Failed(error),
            Self::Interrupted => HostResult::Interrupted,
        }
    }
}

impl From<TransportError> for HostFailure {
    fn from(error: TransportError) -> Self {
        Self::Broken(error)
    }
}

impl From<StateError> for HostFailure {
    fn from(error: StateError) -> Self {
        Self::Failed(HostError::from(&error))
    }
}

impl From<ApplyError> for HostFailure {
    fn from(error: ApplyError) -> Self {
        Self::Failed(HostError::of(&error, error.may_pass()))
    }
}

/// Refusal an upload did not come to its end.
#[derive(Debug)]
pub(super) enum UploadError {
    /// The connection did not last.
    Transport(TransportError),
    /// The stream was not taken as a whole.
    Stream(StreamError),
    /// Anything else.
    Other(HostFailure),
}

impl UploadError {
    /// Whether another attempt may do better.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::Transport(error) => error.may_pass(),
            Self::Stream(error) => error.may_pass(),
            Self::Other(_) => false,
        }
    }
}

impl std::fmt::Display for UploadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stream(error) => error.fmt(f),
            Self::Transport(error)
            | Self::Other(HostFailure::Unreachable(error) | HostFailure::Broken(error)) => {
                error.fmt(f)
            }
            Self::Other(HostFailure::Failed(error)) => error.fmt(f),
            Self::Other(HostFailure::Interrupted) => f.write_str("interrupted"),
        }
    }
}

impl From<TransportError> for UploadError {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<ApplyError> for UploadError {
    fn from(error: ApplyError) -> Self {
        Self::Other(error.into())
    }
}

impl From<UploadError> for HostFailure {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::Transport(error) => error.into(),
            UploadError::Stream(error) => Self::Failed(HostError::from(&error)),
            UploadError::Other(failure) => failure,
        }
    }
}
