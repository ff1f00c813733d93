//! The error that ends a command.

use miette::{Diagnostic, MietteDiagnostic, Report};

use super::exit::Exit;
use crate::plan::PrepareError;
use crate::plan::goal::saved::StalePlan;
use crate::state::StateError;

/// Why a command ends early.
pub(super) struct CommandError {
    /// For people.
    pub(super) report: Report,
    /// For the shell.
    pub(super) exit: Exit,
}

impl CommandError {
    /// A short error of the command line itself.
    pub(super) fn message(text: impl Into<String>, help: impl Into<String>) -> Self {
        MietteDiagnostic::new(text).with_help(help).into()
    }
}

impl<E: Diagnostic + Send + Sync + 'static> From<E> for CommandError {
    fn from(error: E) -> Self {
        let report = Report::new(error);
        let exit = exit_of(&report);
        Self { report, exit }
    }
}

impl From<PrepareError> for CommandError {
    fn from(error: PrepareError) -> Self {
        match error {
            PrepareError::State(error) => error.into(),
            PrepareError::Stale(error) => error.into(),
        }
    }
}

/// What the shell is told of an error: that it failed, where nothing more specific applies.
fn exit_of(report: &Report) -> Exit {
    match (report.downcast_ref(), report.downcast_ref()) {
        (Some(StateError::Locked { .. }), _) => Exit::Locked,
        (_, Some(StalePlan::UnknownHost { .. })) => Exit::Failed,
        (_, Some(_)) => Exit::Refused,
        _ => Exit::Failed,
    }
}
