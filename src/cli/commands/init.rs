//! `hostsync init`

use clap::Args;

use crate::cli::console::Console;
use crate::cli::environment::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::GlobalOptions;
use crate::config::{self, ConfigError};

/// Start a configuration in the current folder
///
/// Writes a `hostsync.toml` with examples, all of them comments.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync init")]
pub(in crate::cli) struct InitOptions;

/// All of it is comment but for the line `[settings]`, so it is valid and has no hosts.
const STARTER: &str = include_str!("starter.toml");

/// Writes it, unless there is a configuration already.
pub(super) fn run(global: &GlobalOptions, console: &Console) -> Result<Exit, CommandError> {
    if let Some(named) = global.config() {
        return Err(CommandError::message(
            format!(
                "{} is named as the configuration, and a new one would not be read",
                named.display()
            ),
            format!(
                "`init` writes {} into the current folder: leave `--config` out, and unset the \
                 variable HOSTSYNC_CONFIG",
                config::NATIVE_FILE
            ),
        ));
    }
    let environment = environment()?;
    match config::find(None, &environment) {
        Ok(found) => {
            return Err(CommandError::message(
                format!(
                    "there is a configuration already: {}",
                    found
                        .strip_prefix(&environment.current_dir)
                        .unwrap_or(&found)
                        .display()
                ),
                if found.extension().is_some_and(|form| form == "toml") {
                    "`hostsync check` tells whether it is right"
                } else {
                    "`hostsync check` tells whether it is right; `hostsync migrate` makes a \
                     hostsync.toml of it"
                },
            ));
        }
        Err(ConfigError::NotFound { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let path = environment.current_dir.join(config::NATIVE_FILE);
    config::write_new(&path, STARTER)?;
    console.say(&format!(
        "Wrote {}. Nothing is in it yet but examples: put your hosts and mappings into it, then run \
         `hostsync check`.",
        config::NATIVE_FILE
    ));
    Ok(Exit::Done)
}
