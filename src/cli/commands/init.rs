//! `hostsync init`

use super::args::GlobalSettings;
use super::console::Console;
use super::context::{self, Stop};
use super::exit::Exit;
use crate::config::{self, ConfigError};

/// All of it is comment but for the line `[settings]`, so it is valid and has no hosts.
const STARTER: &str = include_str!("starter.toml");

pub(super) fn run(global: &GlobalSettings, console: &Console) -> Result<Exit, Stop> {
    if let Some(named) = &global.config {
        return Err(Stop::message(
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
    let environment = context::environment()?;
    match config::find(None, &environment) {
        Ok(found) => {
            return Err(Stop::message(
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
