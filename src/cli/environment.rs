//! What the surroundings say: folders, user, time.

use std::env;

use jiff::Timestamp;

use super::error::CommandError;
use crate::config::Environment;

/// What the configuration wants to know about where it is used.
pub(super) fn environment() -> Result<Environment, CommandError> {
    let current_dir = env::current_dir().map_err(|error| {
        CommandError::message(
            format!("cannot tell the current folder: {error}"),
            "go to a folder that exists",
        )
    })?;
    Ok(Environment {
        home: env::home_dir(),
        current_dir,
    })
}

/// The user and the machine, for those who wait for this run: `deploy@ci-3`.
pub(super) fn who() -> String {
    let user = env::var("USER")
        .or_else(|_| env::var("LOGNAME"))
        .unwrap_or_else(|_| format!("uid {}", rustix::process::getuid().as_raw()));
    let machine = rustix::system::uname();
    format!("{user}@{}", machine.nodename().to_string_lossy())
}

/// The time of day: RFC 3339, UTC, milliseconds.
pub(super) fn now_in_milliseconds() -> String {
    format!("{:.3}", Timestamp::now())
}

/// The time of day: RFC 3339, UTC, whole seconds.
pub(super) fn now() -> String {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second())
        .unwrap_or(now)
        .to_string()
}
