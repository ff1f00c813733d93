//! `hostsync unlock`

use super::args::{GlobalSettings, UnlockSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::apply::unlock;
use crate::model::HostError;
use crate::plan::staging::base_on_host;
use crate::remote::Login;
use crate::state::StateStore;
use crate::transport::Connector as _;
use crate::view::text::escape_text;

pub(super) fn run(
    global: &GlobalSettings,
    settings: &UnlockSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("unlock")?;
    // As long as a run of ours is at work, what is locked is locked for a reason.
    let _lock = context.lock("unlock", settings.lock_timeout)?;
    let state = StateStore::open(&context.config.settings.state_path)?;
    let connector = context.connector();
    let mut exit = Exit::Done;
    for host in context.select(std::slice::from_ref(&settings.host))? {
        let staging = context.config.settings.staging_path.as_ref();
        let base = base_on_host(staging, state.identity(), &host.id);
        let stall_timeout = context.config.settings.stall_timeout;
        let found = host.problems().map_or_else(
            || {
                let session = connector
                    .connect(host)
                    .map_err(|error| HostError::from(&error).to_string())?;
                let mut login = Login::new(session);
                let found = unlock::unlock(&mut login, &base, stall_timeout);
                login.close();
                found.map_err(|error| HostError::from(&error).to_string())
            },
            Err,
        );
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
                vec![error]
            }
        };
        for line in lines {
            tracing::info!(host = %host.id, "{line}");
            let line = format!("{}: {}\n", host.id, escape_text(&line));
            console.data(line.as_bytes());
        }
    }
    Ok(context.finish(exit))
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
