//! The command line: parses it, runs one command, turns the outcome into an exit code.
//!
//! The only part that knows clap, the terminal, the environment and the home folder; it passes on what
//! the others need.
//!
//! Each command is a file in `commands/`: its options, and beside them what it does. `options.rs` has the
//! options that commands share, `session.rs` the steps that they share.

mod approval;
mod command_line;
mod commands;
mod console;
mod environment;
mod error;
mod exit;
mod interrupt;
mod options;
mod output;
mod session;

use std::ffi::OsString;
use std::process::ExitCode;

pub use exit::Exit;

use clap::CommandFactory as _;
use command_line::CommandLine;
use console::Console;
use error::CommandError;

/// Runs the program: `args` are what the shell passed, the program's name first.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    let CommandLine { global, command } = match command_line::parse(args) {
        Ok(command_line) => command_line,
        Err(error) => {
            Console::for_usage().show_usage(&error);
            return Exit::of_usage(&error).into();
        }
    };
    let console = Console::new(&global);
    let result = command.run(&global, &console, CommandLine::command);
    let exit = result.unwrap_or_else(|CommandError { report, exit }| {
        tracing::error!("{report}");
        tracing::info!(exit = exit.code(), "end");
        console.error(&report);
        exit
    });
    console.exit_after_output(exit).into()
}
