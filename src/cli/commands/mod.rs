//! The commands: for each one a file with its options and what it does.
//!
//! A new command gets a file here, and a line in each of the three lists below.

mod apply;
mod check;
mod completions;
mod init;
mod migrate;
mod plan;
mod rollback;
mod show;
mod state;
mod status;
#[cfg(test)]
mod tests;
mod trust;
mod unlock;

use clap::Subcommand;

use super::console::Console;
use super::error::CommandError;
use super::exit::Exit;
use super::options::GlobalOptions;

/// What to do. `--help` lists the commands in this order.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub(super) enum Command {
    Plan(plan::PlanOptions),
    Apply(apply::ApplyOptions),
    Rollback(rollback::RollbackOptions),
    Show(show::ShowOptions),
    Status(status::StatusOptions),
    Check(check::CheckOptions),
    Trust(trust::TrustOptions),
    State(state::StateOptions),
    Unlock(unlock::UnlockOptions),
    Init(init::InitOptions),
    Migrate(migrate::MigrateOptions),
    Completions(completions::CompletionsOptions),
}

impl Command {
    /// Checks what clap cannot: whether the options of a command go together.
    pub(super) fn validate(&self, definition: &mut clap::Command) -> Result<(), clap::Error> {
        match self {
            Self::Apply(options) => options.validate(definition),
            Self::Plan(options) => options.validate(definition),
            _ => Ok(()),
        }
    }

    /// Runs the command. `definition` makes the clap command of the whole command line.
    pub(super) fn run(
        &self,
        global: &GlobalOptions,
        console: &Console,
        definition: fn() -> clap::Command,
    ) -> Result<Exit, CommandError> {
        match self {
            Self::Plan(options) => plan::run(options, global, console),
            Self::Apply(options) => apply::run(options, global, console),
            Self::Rollback(options) => rollback::run(options, global, console),
            Self::Show(options) => show::run(options, global, console),
            Self::Status(options) => status::run(options, global, console),
            Self::Check(options) => check::run(options, global, console),
            Self::Trust(options) => trust::run(options, global, console),
            Self::State(options) => state::run(options, global, console),
            Self::Unlock(options) => unlock::run(options, global, console),
            Self::Init(_) => init::run(global, console),
            Self::Migrate(_) => migrate::run(global, console),
            Self::Completions(options) => Ok(completions::run(options, &mut definition(), console)),
        }
    }
}
