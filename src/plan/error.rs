//! Why there is no plan, or none for a host.

use miette::Diagnostic;
use thiserror::Error;

use crate::config::Host;
use crate::model::HostError;
use crate::remote::RemoteError;
use crate::source::local::SourceError;
use crate::state::StateError;
use crate::transport::TransportError;

use super::build;
use super::goal::saved::{StaleHost, StalePlan};
use super::staging::{NoReceiver, NoStagingPlace};

/// Why no plan could be made or followed at all.
#[derive(Debug, Error)]
pub enum PrepareError {
    /// The state cannot be read.
    #[error(transparent)]
    State(#[from] StateError),
    /// The saved plan is stale as a whole.
    #[error(transparent)]
    Stale(#[from] StalePlan),
}

/// What is wrong with a host, or with what is planned for it.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum PlanError {
    /// The plan would delete more of a mapping than is allowed.
    #[error("{dest}: {deletes}")]
    #[diagnostic(
        code(hostsync::plan::too_many_deletes),
        help(
            "look whether {src} is empty or is something else by mistake, and raise `max_delete` if \
             this is what you want"
        )
    )]
    TooManyDeletes {
        /// The source, as written in the configuration.
        src: String,
        /// The destination.
        dest: String,
        /// How many.
        deletes: build::TooManyDeletes,
    },
    /// A destination below a file can never be made.
    #[error("{dest} cannot be made: {file} is not a folder on the host")]
    #[diagnostic(
        code(hostsync::plan::below_a_file),
        help("change `dest` or move it away")
    )]
    BelowAFile {
        /// The destination.
        dest: String,
        /// What lies above it.
        file: String,
    },
    /// What is in a folder that may not be listed must not be taken for missing.
    #[error("{folder} may not be listed by the login user, so it cannot be mirrored")]
    #[diagnostic(
        code(hostsync::plan::closed_mirror),
        help("let that user see it or `exclude` it")
    )]
    ClosedMirror {
        /// The folder on the host.
        folder: String,
    },
    /// Nothing could be moved to a destination in one step.
    #[error("{dest}: {reason}")]
    #[diagnostic(forward(reason))]
    NoStagingPlace {
        /// The destination.
        dest: String,
        /// Why.
        reason: NoStagingPlace,
    },
    /// Something above a destination is in the way.
    #[error("{dest} cannot be reached safely: {obstacle}")]
    #[diagnostic(
        code(hostsync::plan::unsafe_path),
        help(
            "look what is there; set `dest` to the place itself, or have root make that link in a folder that \
             nobody else can write to. For a login that is not root, `trust_ancestors` accepts its own links"
        )
    )]
    UnsafePath {
        /// The destination.
        dest: String,
        /// What, and why.
        obstacle: String,
    },
    /// Whoever has read the plan did not know of a folder that others can change.
    #[error("others can change {folder}, which the plan does not say")]
    #[diagnostic(
        code(hostsync::plan::newly_exposed),
        help("look who may write to that folder, and plan again")
    )]
    NewlyExposed {
        /// The folder.
        folder: String,
    },
    /// Below a folder that others can change, root needs perl on the host.
    #[error(
        "{dest} cannot be written safely: others can change {folder}, and the host has no perl"
    )]
    #[diagnostic(
        code(hostsync::plan::needs_perl),
        help("install perl there, or take the right to write there from others")
    )]
    NeedsPerl {
        /// The destination.
        dest: String,
        /// The folder.
        folder: String,
    },
    /// What hostsync keeps on the host could be exchanged by others.
    #[error("hostsync would keep its files below {folder}, to which others on the host can write")]
    #[diagnostic(
        code(hostsync::plan::exposed_staging),
        help(
            "take that permission away, or set `staging_path` to a folder in which nobody but the login \
             and root can change anything"
        )
    )]
    ExposedStaging {
        /// The folder.
        folder: String,
    },
    /// The login user may not write to the folder of a destination.
    #[error("{dest} cannot be written: `{user}` may not write to {folder} on the host")]
    #[diagnostic(
        code(hostsync::plan::not_writable),
        help("permit it there, log in as somebody who may, or change `dest`")
    )]
    NotWritable {
        /// The destination.
        dest: String,
        /// The login user.
        user: String,
        /// The folder on the host.
        folder: String,
    },
    /// Nothing on the host can receive an upload.
    #[error(transparent)]
    #[diagnostic(transparent)]
    NoReceiver(#[from] NoReceiver),
}

impl PlanError {
    /// A host would lose too much of one of its mappings.
    pub(super) fn too_many_deletes(host: &Host, deletes: build::TooManyDeletes) -> Self {
        let mapping = &host.mappings[deletes.mapping];
        Self::TooManyDeletes {
            src: mapping.src_as_written.clone(),
            dest: mapping.dest_as_written.clone(),
            deletes,
        }
    }
}

impl From<&PlanError> for HostError {
    fn from(error: &PlanError) -> Self {
        Self::of(error, false)
    }
}

/// Why a host has no plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoHostPlan {
    /// No connection or no login.
    Unreachable(HostError),
    /// Something about it is wrong.
    Failed(HostError),
    /// It is no longer as the saved plan says.
    Stale(HostError),
}

impl From<PlanError> for NoHostPlan {
    fn from(error: PlanError) -> Self {
        Self::Failed(HostError::from(&error))
    }
}

impl From<StalePlan> for NoHostPlan {
    fn from(error: StalePlan) -> Self {
        Self::Stale(HostError::of(&error, false))
    }
}

impl From<StaleHost> for NoHostPlan {
    fn from(error: StaleHost) -> Self {
        Self::Stale(HostError::of(&error, false))
    }
}

impl From<SourceError> for NoHostPlan {
    fn from(error: SourceError) -> Self {
        Self::Failed(HostError::from(&error))
    }
}

impl From<TransportError> for NoHostPlan {
    fn from(error: TransportError) -> Self {
        Self::Unreachable(HostError::from(&error))
    }
}

impl From<RemoteError> for NoHostPlan {
    fn from(error: RemoteError) -> Self {
        match error {
            RemoteError::Transport(error) => error.into(),
            _ => Self::Failed(HostError::from(&error)),
        }
    }
}
