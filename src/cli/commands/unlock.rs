//! `hostsync unlock`

use std::slice;

use clap::Args;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{GlobalOptions, LockOptions};
use crate::cli::session::CommandSession;
use crate::remote::tasks::unlock;
use crate::view::words::escape_text;

/// Remove the locks that ended runs have left on a host
///
/// Rarely needed: an apply recognizes such a lock and replaces it. The lock of a process that is alive
/// stays (exit 5).
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync unlock web1")]
pub(in crate::cli) struct UnlockOptions {
    /// Its name, address or group; globs work
    #[arg(value_name = "HOST")]
    pub(super) host: String,

    #[command(flatten)]
    pub(super) lock: LockOptions,
}

/// Has the hosts remove the locks, and says which there were.
pub(super) fn run(
    options: &UnlockOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open("unlock", global, console)?;
    // As long as a run of ours is at work, what is locked is locked for a reason.
    let state = session.lock_state("unlock", &options.lock)?;
    let stall_timeout = session.config.settings.stall_timeout;
    let mut exit = Exit::Done;
    for host in session.select(slice::from_ref(&options.host))? {
        let found = session.visit(host, &state.store, |login, base| {
            unlock::unlock(login, base, stall_timeout)
        });
        let lines = match found {
            Ok(locks) if locks.is_empty() => vec!["there is no lock".to_owned()],
            Ok(locks) => {
                if locks.iter().any(|lock| !lock.is_removed) {
                    exit = exit.and(Exit::Locked);
                }
                locks.iter().map(in_words).collect()
            }
            Err(error) => {
                exit = exit.and(Exit::HostsFailed);
                vec![error.to_string()]
            }
        };
        for line in lines {
            tracing::info!(host = %host.id, "{line}");
            let line = format!("{}: {}\n", host.id, escape_text(&line));
            console.data(line.as_bytes());
        }
    }
    Ok(session.finish(exit))
}

fn in_words(lock: &unlock::HostLock) -> String {
    let holder = &lock.holder;
    if lock.is_removed && holder == "unknown" {
        "removed a lock that nobody had".to_owned()
    } else if lock.is_removed {
        format!("removed the lock of process {holder}, which is gone")
    } else {
        format!(
            "the lock stays: process {holder} has it and is alive; wait for it, or end it on the host"
        )
    }
}
