//! `hostsync state`

use std::fmt::Write as _;

use clap::{Args, Subcommand};

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::interrupt::Interrupts;
use crate::cli::options::{GlobalOptions, LockOptions};
use crate::cli::session::{CommandSession, LockedState};
use crate::model::{Entry, HostId, Node};
use crate::state::{HostRecord, PastRun, Progress, StateStore};
use crate::view::words::{count, escape, size};

/// Look at what is recorded of the hosts, or repair it
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync state list
  hostsync state show web1
  hostsync state forget web1")]
pub(in crate::cli) struct StateOptions {
    #[command(subcommand)]
    pub(super) command: StateCommand,
}

/// What to do with the state.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub(super) enum StateCommand {
    /// List the hosts that are recorded, and the last applies
    List,

    /// Show what is recorded of a host
    Show {
        /// Its name
        #[arg(value_name = "HOST")]
        host: String,
    },

    /// Remove what is recorded of a host; the host itself stays as it is
    Forget {
        /// Its name
        #[arg(value_name = "HOST")]
        host: String,

        #[command(flatten)]
        lock: LockOptions,
    },
}

/// Does it without logs, and signals end it as they end any program.
pub(super) fn run(
    options: &StateOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::load(global, console, Interrupts::default())?;
    let store = session.state()?;
    match &options.command {
        StateCommand::List => list(&store, console),
        StateCommand::Show { host } => show(&store, &id_of(host, &session), console),
        StateCommand::Forget { host, lock } => {
            forget(&id_of(host, &session), lock, &session, console)
        }
    }
}

/// The host of this name; else the one host of this address.
fn id_of(name: &str, session: &CommandSession<'_>) -> HostId {
    let hosts = &session.config.hosts;
    let mut at_address = hosts.iter().filter(|host| host.address == name);
    let is_name = hosts.iter().any(|host| host.id.as_str() == name);
    match (is_name, at_address.next(), at_address.next()) {
        (false, Some(host), None) => host.id.clone(),
        _ => HostId::new(name),
    }
}

fn list(store: &StateStore, console: &Console) -> Result<Exit, CommandError> {
    let mut text = String::new();
    for host in store.hosts()? {
        if let Some(record) = store.host(&host)? {
            let _ = writeln!(text, "{}", headline(&record));
        }
    }
    let mut runs = store.runs().iter().rev().filter(|run| run.has_changes);
    for run in runs.by_ref().take(RUNS_MAX) {
        let _ = writeln!(text, "{}", run_in_words(run, store.runs()));
    }
    let older = runs.count();
    if older > 0 {
        let _ = writeln!(text, "and {} before that", count(older, "apply", "applies"));
    }
    let _ = match store.identity() {
        Some(identity) => writeln!(
            text,
            "State {} at serial {}.",
            identity.lineage, identity.serial
        ),
        None => writeln!(text, "No state yet: nothing was applied."),
    };
    console.data(text.as_bytes());
    Ok(Exit::Done)
}

/// Applies that are listed.
const RUNS_MAX: usize = 20;

/// `apply 7: 2026-01-01T00:00:00Z, goes on with apply 6`.
fn run_in_words(run: &PastRun, runs: &[PastRun]) -> String {
    let back = run.back_to.map(|serial| format!(", back to {serial}"));
    let first = (run.first != run.serial).then(|| format!(", goes on with apply {}", run.first));
    let mut later = runs.iter().filter(|later| later.serial > run.serial);
    let end = later.find(|later| later.first == run.first && later.is_complete);
    let open = (!run.is_complete).then(|| match end {
        Some(end) => format!(", finished by apply {}", end.serial),
        None => ", not complete".to_owned(),
    });
    let parts: String = [back, first, open].into_iter().flatten().collect();
    format!("apply {}: {}{parts}", run.serial, run.began_at)
}

fn headline(record: &HostRecord) -> String {
    let progress = match record.progress {
        Progress::Finished => "",
        Progress::InTheMiddle => ", not finished",
    };
    let back = if record.history.applies.is_empty() {
        String::new()
    } else {
        format!(", can go back to {}", record.history.forgotten)
    };
    format!(
        "{}: serial {}, {}, {}{progress}{back}",
        record.host,
        record.serial,
        record.updated_at,
        count(record.mappings.len(), "mapping", "mappings")
    )
}

fn show(store: &StateStore, host: &HostId, console: &Console) -> Result<Exit, CommandError> {
    let Some(record) = store.host(host)? else {
        return Err(unknown(host));
    };
    let mut text = format!("{}\n", headline(&record));
    for mapping in &record.mappings {
        let tree = store.tree(&mapping.tree)?;
        let _ = writeln!(
            text,
            "\n{} -> {}: {}",
            escape(mapping.src.as_bytes()),
            escape(mapping.dest.as_bytes()),
            count(tree.len(), "entry", "entries")
        );
        for Entry { path, node } in tree.entries() {
            let name = if path.is_root() {
                ".".to_owned()
            } else {
                escape(path.as_bytes())
            };
            let _ = match node {
                Node::File {
                    size_bytes, meta, ..
                } => {
                    writeln!(text, "  {}  {:>9}  {name}", meta.mode, size(*size_bytes))
                }
                Node::Dir { meta } | Node::Other { meta } => {
                    writeln!(text, "  {}  {:>9}  {name}/", meta.mode, "")
                }
                Node::Symlink { target } => {
                    writeln!(text, "  link  {:>9}  {name} -> {}", "", escape(target))
                }
            };
        }
    }
    console.data(text.as_bytes());
    Ok(Exit::Done)
}

fn forget(
    host: &HostId,
    options: &LockOptions,
    session: &CommandSession<'_>,
    console: &Console,
) -> Result<Exit, CommandError> {
    let LockedState { lock, store } = session.lock_state("state forget", options)?;
    if !store.forget_host(&lock, host)? {
        return Err(unknown(host));
    }
    store.remove_unused_trees(&lock)?;
    console.data(
        format!("Forgot {host}. The host itself is as it was; what is there is no longer known.\n")
            .as_bytes(),
    );
    Ok(Exit::Done)
}

fn unknown(host: &HostId) -> CommandError {
    CommandError::message(
        format!("nothing is recorded of `{host}`"),
        "`hostsync state list` shows the hosts that have a record",
    )
}
