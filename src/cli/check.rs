//! `hostsync check`

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::args::{CheckSettings, GlobalSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::config::{Host, Settings};
use crate::model::{HostError, map_parallel};
use crate::plan::staging::{base_on_host, check_receiver};
use crate::remote::Login;
use crate::remote::tasks::look::{self, LookRequest};
use crate::state::StateStore;
use crate::transport::Connector;
use crate::view::text::{count, escape_text};

pub(super) fn run(
    global: &GlobalSettings,
    settings: &CheckSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("check")?;
    let state = StateStore::open(&context.config.settings.state_path)?;
    for remark in &context.remarks {
        console.say(&format!("remark: {remark}"));
    }
    let hosts = context.select(&settings.limit)?;
    let is_old_form = context
        .config
        .path
        .extension()
        .is_none_or(|it| it != "toml");
    let nested = if is_old_form {
        nested_before(&hosts)
    } else {
        BTreeSet::new()
    };
    for remark in nested {
        console.say(&format!("remark: {remark}"));
    }
    let problems: Vec<Option<String>> = if settings.connects {
        let connector = context.connector();
        let threads = context.config.settings.number_of_connections;
        map_parallel(&hosts, threads, |host| {
            let span = tracing::info_span!("check", host = %host.id);
            let _entered = span.enter();
            let lacks = || look_at(host, &context.config.settings, &state, &connector).err();
            host.problems().or_else(lacks)
        })
    } else {
        hosts.iter().map(|host| host.problems()).collect()
    };
    let mut text = String::new();
    for (host, problem) in hosts.iter().zip(&problems) {
        if let Some(problem) = problem {
            tracing::warn!(host = %host.id, "{problem}");
        }
        text.push_str(&line(host, problem.as_deref(), settings.connects));
    }
    let failed = problems.iter().flatten().count();
    let mappings = hosts.iter().map(|host| host.mappings.len()).sum();
    let total = format!(
        "{}, {}",
        count(hosts.len(), "host", "hosts"),
        count(mappings, "mapping", "mappings")
    );
    let verdict = match (failed, settings.connects) {
        (0, true) => "all of them let us in and have what is needed".to_owned(),
        (0, false) => "the configuration is valid".to_owned(),
        (failed, _) => count(failed, "host has a problem", "hosts have a problem"),
    };
    let _ = writeln!(text, "Checked: {total}; {verdict}.");
    console.data(text.as_bytes());
    let exit = if failed == 0 {
        Exit::Done
    } else {
        Exit::HostsFailed
    };
    Ok(context.finish(exit))
}

/// Logs in to a host and asks it about nothing but itself, in the way in which a plan asks. What it
/// lacks is the error.
fn look_at(
    host: &Host,
    settings: &Settings,
    state: &StateStore,
    connector: &dyn Connector,
) -> Result<(), String> {
    let session = connector
        .connect(host)
        .map_err(|error| HostError::from(&error).to_string())?;
    let mut login = Login::new(session);
    let base = base_on_host(settings.staging_path.as_ref(), state.identity(), &host.id);
    let request = LookRequest {
        base: &base,
        roots: &[],
        mirrors: &[],
        listing: None,
        paths: &[],
        stall_timeout: settings.stall_timeout,
    };
    let answer = look::look(&mut login, &request);
    login.close();
    let facts = answer
        .map_err(|error| HostError::from(&error).to_string())?
        .facts;
    tracing::debug!(
        tool = facts.hash_tool,
        has_agent = facts.has_agent,
        has_scp = facts.has_scp,
        has_tar = facts.has_tar,
        "looked at"
    );
    check_receiver(&facts).map_err(|error| HostError::from(&error).to_string())
}

/// Folders that the old program, like `scp -r`, put into a destination that was there already. Here
/// a destination is where the source goes, whatever is there.
fn nested_before(hosts: &[&Host]) -> BTreeSet<String> {
    hosts
        .iter()
        .flat_map(|host| &host.mappings)
        .filter(|mapping| mapping.src.as_path().is_dir())
        .filter_map(|mapping| {
            let name = mapping.src.as_path().file_name()?.to_string_lossy();
            let (src, dest) = (&mapping.src_as_written, &mapping.dest_as_written);
            Some(escape_text(&format!(
                "{src} becomes {dest}; where that folder was there already, the old program made \
                 {}/{name}",
                dest.trim_end_matches('/')
            )))
        })
        .collect()
}

fn line(host: &Host, problem: Option<&str>, is_connected: bool) -> String {
    let name = &host.id;
    match problem {
        Some(problem) => format!("{name}: {}\n", escape_text(problem)),
        None if is_connected => format!(
            "{name}: ok ({}@{}:{})\n",
            host.user, host.address, host.port
        ),
        None => String::new(),
    }
}
