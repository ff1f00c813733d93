//! `hostsync state`

use std::fmt::Write as _;
use std::time::Duration;

use super::args::{GlobalSettings, StateSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use crate::model::{Entry, HostId, Node};
use crate::state::{HostRecord, PastRun, Progress, StateStore};
use crate::view::text::{count, escape, size};

pub(super) fn run(
    global: &GlobalSettings,
    settings: &StateSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let context = Context::load(global, console)?;
    let store = StateStore::open(&context.config.settings.state_path)?;
    match settings {
        StateSettings::List => list(&store, console),
        StateSettings::Show { host } => show(&store, &id_of(&context, host), console),
        StateSettings::Forget { host, lock_timeout } => {
            forget(&context, &id_of(&context, host), *lock_timeout)
        }
    }
}

/// The host of this name; else the one host of this address.
fn id_of(context: &Context<'_>, name: &str) -> HostId {
    let hosts = &context.config.hosts;
    let mut at_address = hosts.iter().filter(|host| host.address == name);
    let is_name = hosts.iter().any(|host| host.id.as_str() == name);
    match (is_name, at_address.next(), at_address.next()) {
        (false, Some(host), None) => host.id.clone(),
        _ => HostId::new(name),
    }
}

fn list(store: &StateStore, console: &Console) -> Result<Exit, Stop> {
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

fn show(store: &StateStore, host: &HostId, console: &Console) -> Result<Exit, Stop> {
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
                    size_bytes, mode, ..
                } => {
                    writeln!(text, "  {mode}  {:>9}  {name}", size(*size_bytes))
                }
                Node::Dir { mode } | Node::Other { mode } => {
                    writeln!(text, "  {mode}  {:>9}  {name}/", "")
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

fn forget(context: &Context<'_>, host: &HostId, lock_timeout: Duration) -> Result<Exit, Stop> {
    let lock = context.lock("state forget", lock_timeout)?;
    let store = StateStore::open(&context.config.settings.state_path)?;
    if !store.forget_host(&lock, host)? {
        return Err(unknown(host));
    }
    store.remove_unused_trees(&lock)?;
    context.console.data(
        format!("Forgot {host}. The host itself is as it was; what is there is no longer known.\n")
            .as_bytes(),
    );
    Ok(Exit::Done)
}

fn unknown(host: &HostId) -> Stop {
    Stop::message(
        format!("nothing is recorded of `{host}`"),
        "`hostsync state list` shows the hosts that have a record",
    )
}
