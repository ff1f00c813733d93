//! Why nothing can be rolled back.

use miette::Diagnostic;
use thiserror::Error;

use crate::model::HostError;

/// There is no such apply to go back to.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum NoRollbackTarget {
    /// The serial has not come yet.
    #[error("apply {to} has not been: the state is at serial {now}")]
    #[diagnostic(
        code(hostsync::rollback::unknown_serial),
        help("`hostsync state list` shows the last applies with their serials")
    )]
    NotYet {
        /// What was asked for.
        to: u64,
        /// Serial of the state.
        now: u64,
    },
}

/// One host cannot be rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum NoRollbackPath {
    /// The host does not keep the backups of an apply any more.
    #[error("apply {serial} cannot be undone any more: {} (the setting `backups`)", reach(*serial, *kept))]
    #[diagnostic(code(hostsync::rollback::no_backups))]
    NoBackups {
        /// Serial of the apply.
        serial: u64,
        /// How many applies after it the host keeps backups of.
        kept: usize,
    },
    /// An apply has written to a destination that the configuration does not have any more.
    #[error("apply {serial} has written {dest}, which is no destination of this host any more")]
    #[diagnostic(
        code(hostsync::rollback::unknown_mapping),
        help("put that mapping back into the configuration to undo it")
    )]
    UnknownMapping {
        /// Serial of the apply.
        serial: u64,
        /// The destination.
        dest: String,
    },
}

/// How far back the backups of a host reach.
fn reach(serial: u64, kept: usize) -> String {
    match kept {
        0 => "this host keeps no backups".to_owned(),
        1 => format!(
            "this host keeps backups of the apply after it, so `--to {serial}` is as far as it goes back"
        ),
        kept => format!(
            "this host keeps backups of the {kept} applies after it, so `--to {serial}` is as far as it goes back"
        ),
    }
}

impl From<&NoRollbackPath> for HostError {
    fn from(error: &NoRollbackPath) -> Self {
        Self::of(error, false)
    }
}
