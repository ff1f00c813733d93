//! The command line: parses it, runs one command, turns the outcome into an exit code.
//!
//! The only part that knows the terminal, the environment and the home folder; it passes on what the
//! others need.

mod apply;
mod args;
mod check;
mod console;
mod context;
mod exit;
mod init;
mod interrupt;
mod migrate;
mod plan;
mod rollback;
mod show;
mod state;
mod status;
mod trust;
mod unlock;

use std::ffi::OsString;
use std::process::ExitCode;

pub use exit::Exit;

use args::Command;
use console::Console;
use context::Stop;

/// Runs the program: `args` are what the shell passed, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let args = match args::parse(args) {
        Ok(args) => args,
        Err(stop) => {
            Console::for_usage().show_usage(&stop);
            return stop.exit.into();
        }
    };
    let console = Console::new(&args.global);
    let result = match &args.command {
        Command::Plan(settings) => plan::run(&args.global, settings, &console),
        Command::Apply(settings) => apply::run(&args.global, settings, &console),
        Command::Rollback(settings) => rollback::run(&args.global, settings, &console),
        Command::Show(settings) => show::run(&args.global, settings, &console),
        Command::Status(settings) => status::run(&args.global, settings, &console),
        Command::Init => init::run(&args.global, &console),
        Command::Migrate => migrate::run(&args.global, &console),
        Command::Check(settings) => check::run(&args.global, settings, &console),
        Command::Trust(settings) => trust::run(&args.global, settings, &console),
        Command::Unlock(settings) => unlock::run(&args.global, settings, &console),
        Command::State(settings) => state::run(&args.global, settings, &console),
        Command::Completions(shell) => {
            console.data(&args::completions(*shell));
            Ok(Exit::Done)
        }
    };
    let exit = result.unwrap_or_else(|Stop { report, exit }| {
        tracing::error!("{report}");
        tracing::info!(exit = exit.code(), "end");
        console.error(&report);
        exit
    });
    console.exit_after_output(exit).into()
}
