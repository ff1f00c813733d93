//! Why a saved plan cannot be read or written.

use miette::Diagnostic;
use thiserror::Error;

use super::types::FORMAT_MAJOR;

/// A saved plan cannot be read or written.
#[derive(Debug, Error, Diagnostic)]
pub enum PlanFileError {
    /// The file cannot be read.
    #[error("cannot read plan file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::plan::read),
        help("`hostsync plan --out FILE` writes one")
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write plan file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::plan::write),
        help("is the folder there and writable, and is there space left?")
    )]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// What is in a file is no plan that can be used.
    #[error("{path}: {error}")]
    #[diagnostic(forward(error))]
    InFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: Box<PlanFileError>,
    },
    /// It is not JSON, or not that of a plan.
    #[error("this is not a saved plan: {reason}")]
    #[diagnostic(
        code(hostsync::plan::not_a_plan),
        help("`hostsync plan --out FILE` writes one")
    )]
    NotAPlan {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error("the plan has format version `{found}`, and this program reads {FORMAT_MAJOR}.x")]
    #[diagnostic(
        code(hostsync::plan::unknown_version),
        help("use the version of hostsync that made the plan, or plan again with this one")
    )]
    UnknownVersion {
        /// What the document says.
        found: String,
    },
    /// It does not have the digest that it names.
    #[error("the plan was edited: {what} not what was planned")]
    #[diagnostic(
        code(hostsync::plan::edited),
        help(
            "plans are not made to be edited: change the sources or use `--limit`, and plan again"
        )
    )]
    Edited {
        /// What has another digest than it should have, with the verb.
        what: String,
    },
    /// It says things that cannot be true together.
    #[error("the plan is damaged: {what}")]
    #[diagnostic(code(hostsync::plan::damaged), help("plan again"))]
    Damaged {
        /// What is wrong.
        what: String,
    },
}
