//! What can be wrong with the state folder.

use super::LockHolder;
use crate::model::HostError;

/// Reading, writing or locking the state did not work. Nothing that was there before is lost.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StateError {
    /// The system refused to read or write.
    #[error("cannot {action} {path}: {reason}")]
    #[diagnostic(
        code(hostsync::state::io),
        help(
            "`state_path` in the configuration names the state folder; is it there, yours, and on a \
             disk with room?"
        )
    )]
    Io {
        /// What was tried: `read`, for instance.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// A file is not what was written there.
    #[error("{path} is damaged: {reason}")]
    #[diagnostic(code(hostsync::state::damaged), help("{cure}"))]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it, and where.
        reason: String,
        /// What to do about it.
        cure: String,
    },
    /// A file has a format that this build does not know. It was left alone.
    #[error(
        "{path} has format version {found}; hostsync {} knows {supported}",
        env!("CARGO_PKG_VERSION")
    )]
    #[diagnostic(
        code(hostsync::state::unknown_version),
        help(
            "use the version of hostsync that wrote it, or a later one; the file was left as it is"
        )
    )]
    UnknownVersion {
        /// The file.
        path: String,
        /// Its format version.
        found: String,
        /// The format version that this build writes.
        supported: String,
    },
    /// Another run holds the lock.
    #[error("the state is locked by {}", describe(holder.as_deref()))]
    #[diagnostic(
        code(hostsync::state::locked),
        help(
            "let that run finish, or wait for it with `--lock-timeout 5m`; the lock of a run that \
             was killed is gone by itself"
        )
    )]
    Locked {
        /// That run; `None` when it has not yet said who it is.
        holder: Option<Box<LockHolder>>,
    },
}

impl StateError {
    pub(super) fn io(
        action: &'static str,
        path: &std::path::Path,
        reason: &dyn std::fmt::Display,
    ) -> Self {
        Self::Io {
            action,
            path: path.display().to_string(),
            reason: reason.to_string(),
        }
    }
}

fn describe(holder: Option<&LockHolder>) -> String {
    holder.map_or_else(|| "another run".to_owned(), ToString::to_string)
}

impl From<&StateError> for HostError {
    fn from(error: &StateError) -> Self {
        Self::of(error, false)
    }
}
