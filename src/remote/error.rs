//! Why a task was not done on a host.

use miette::Diagnostic;
use thiserror::Error;

use super::answer::{Sections, TaskRun, last_line};
use crate::model::HostError;
use crate::transport::{ExecOutcome, TransportError};

/// A task was not done on a host.
#[derive(Debug, Error, Diagnostic)]
pub enum RemoteError {
    /// The connection did not carry the request or the answer.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Transport(#[from] TransportError),
    /// The host lacks something.
    #[error("{reason}")]
    #[diagnostic(
        code(hostsync::scan::host),
        help("hosts need sshd, a POSIX sh and the usual GNU or busybox tools")
    )]
    Host {
        /// What it lacks, as it says itself.
        reason: String,
    },
    /// The host answered something else than it was asked.
    #[error("no answer from the host's shell{}", .said.as_ref().map(|said| format!("; it said: {said}")).unwrap_or_default())]
    #[diagnostic(
        code(hostsync::scan::no_answer),
        help("the login shell must run `/bin/sh`; a restricted shell or nologin does not")
    )]
    NoAnswer {
        /// The last line of what it said.
        said: Option<String>,
    },
    /// The answer cannot be understood.
    #[error("the host's answer cannot be understood: {what}")]
    #[diagnostic(
        code(hostsync::scan::answer),
        help("run again with -v and look into the log")
    )]
    Answer {
        /// The part that is wrong.
        what: String,
    },
    /// Something on the host may not be looked at.
    #[error("{complaint}")]
    #[diagnostic(
        code(hostsync::scan::not_allowed),
        help("the login user must be able to see the destinations")
    )]
    NotAllowed {
        /// What the host's `stat` said.
        complaint: String,
    },
}

impl From<&RemoteError> for HostError {
    fn from(error: &RemoteError) -> Self {
        match error {
            RemoteError::Transport(error) => error.into(),
            _ => Self::of(error, false),
        }
    }
}

/// Whether the task came to its end.
///
/// # Errors
/// What it said itself if it gave up.
pub(super) fn check_end<S: Sections>(
    run: &TaskRun<S>,
    outcome: &ExecOutcome,
) -> Result<(), RemoteError> {
    if !run.has_ended() {
        // What comes behind a marker is an answer that was cut off, and may be the content of a file.
        let noise = (!run.has_begun()).then(|| run.noise());
        let said = noise.into_iter().chain([last_line(&outcome.stderr)]);
        return Err(RemoteError::NoAnswer {
            said: { said }.find(|said| !said.is_empty()),
        });
    }
    let failure = run.failure();
    failure.map_or(Ok(()), |reason| Err(RemoteError::Host { reason }))
}
