//! `hostsync check`

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::Args;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{GlobalOptions, HostOptions, UntrustedOptions};
use crate::cli::session::CommandSession;
use crate::config::Host;
use crate::model::{HostError, Phase};
use crate::plan::staging::check_receiver;
use crate::remote::Expected;
use crate::remote::tasks::look::{self, LookRequest};
use crate::state::StateStore;
use crate::view::words::{count, escape_text};

/// Validate the configuration
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync check
  hostsync check --connect --limit 10.0.0.5")]
pub(in crate::cli) struct CheckOptions {
    /// Log in to every host, too, and look whether it has the tools that are needed
    #[arg(long, conflicts_with = "untrusted_config")]
    pub(super) connect: bool,

    #[command(flatten)]
    pub(super) untrusted: UntrustedOptions,

    #[command(flatten)]
    pub(super) hosts: HostOptions,
}

/// Says what is wrong with the configuration and, where that is asked for, with the hosts.
pub(super) fn run(
    options: &CheckOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open_as("check", &options.untrusted, global, console)?;
    let state = session.state()?;
    for remark in &session.remarks {
        console.say(&format!("remark: {remark}"));
    }
    let hosts = session.select(&options.hosts.limit)?;
    let form = session.config.path.extension();
    let is_old_form = form.is_none_or(|form| form != "toml");
    let nested = if is_old_form {
        nested_before(&hosts)
    } else {
        BTreeSet::new()
    };
    for remark in nested {
        console.say(&format!("remark: {remark}"));
    }
    let problems: Vec<Option<HostError>> = if options.connect {
        session.for_hosts(&hosts, Phase::Looking, |host| {
            look_at(host, &session, &state).err()
        })
    } else {
        hosts
            .iter()
            .map(|host| host.problems().map(HostError::from))
            .collect()
    };
    let mut text = String::new();
    for (host, problem) in hosts.iter().zip(&problems) {
        if let Some(problem) = problem {
            tracing::warn!(host = %host.id, "{problem}");
        }
        text.push_str(&line(host, problem.as_ref(), options.connect));
    }
    let failed = problems.iter().flatten().count();
    let mappings = hosts.iter().map(|host| host.mappings.len()).sum();
    let total = format!(
        "{}, {}",
        count(hosts.len(), "host", "hosts"),
        count(mappings, "mapping", "mappings")
    );
    let verdict = match (failed, options.connect) {
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
    Ok(session.finish(exit))
}

/// Logs in to a host and asks it about nothing but itself, in the way in which a plan asks. What it
/// lacks is the error.
fn look_at(host: &Host, session: &CommandSession<'_>, state: &StateStore) -> Result<(), HostError> {
    let span = tracing::info_span!("check", host = %host.id);
    let _entered = span.enter();
    let answer = session.visit(host, state, |login, base| {
        let request = LookRequest {
            base,
            roots: &[],
            trusted: &[],
            mirrors: &[],
            listing: None,
            paths: &[],
            expected: Expected::default(),
            stall_timeout: session.config.settings.stall_timeout,
        };
        look::look(login, &request)
    })?;
    let facts = answer.facts;
    tracing::debug!(
        tool = facts.hash_tool,
        has_agent = facts.has_agent,
        has_scp = facts.has_scp,
        has_tar = facts.has_tar,
        "looked at"
    );
    check_receiver(&facts).map_err(|error| HostError::from(&error))
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

fn line(host: &Host, problem: Option<&HostError>, is_connected: bool) -> String {
    let name = escape_text(host.id.as_str());
    match problem {
        Some(problem) => format!("{name}: {}\n", escape_text(&problem.to_string())),
        None if is_connected => format!(
            "{name}: ok ({}@{}:{})\n",
            escape_text(&host.user),
            escape_text(&host.address),
            host.port
        ),
        None => String::new(),
    }
}
