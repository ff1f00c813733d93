//! `hostsync show`

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use crate::cli::console::Console;
use crate::cli::environment::environment;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{GlobalOptions, PlanFormat, PlanOutputOptions, UntrustedOptions};
use crate::cli::output::print_plan;
use crate::config::{self, Host};
use crate::plan::PrepareError;
use crate::plan::goal::saved;
use crate::plan::{Plan, document};
use crate::state::StateStore;
use crate::view::review::plan::PlanCommand;

/// Show a saved plan; touch no host
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync show plan.json
  hostsync show plan.json --format markdown > comment.md")]
pub(in crate::cli) struct ShowOptions {
    /// A plan that `hostsync plan --out` saved
    #[arg(value_name = "PLANFILE")]
    pub(super) plan_file: PathBuf,

    #[command(flatten)]
    pub(super) untrusted: UntrustedOptions,

    #[command(flatten)]
    pub(super) output: PlanOutputOptions,
}

/// Reads the plan and prints it.
pub(super) fn run(
    options: &ShowOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let mut plan = document::load(&options.plan_file)?;
    if let Some(warning) = staleness(&plan, &options.untrusted, global) {
        console.say(&format!("warning: {warning}"));
    }
    let groups = plan.groups();
    let has_diffs = groups.iter().any(|(set, _)| !set.diffs.is_empty());
    let digest = document::digest(&plan);
    let output = &options.output;
    if !output.diff && output.format != PlanFormat::Json {
        plan = without_diffs(plan);
    } else if output.diff && !has_diffs && plan.summary().has_changes() {
        console.say("note: the plan was saved without `--diff`, so it has no contents to show");
    }
    print_plan(&plan, digest, PlanCommand::Show, output, console);
    // What is shown is a success; what it is about counts only where that was asked for.
    Ok(if output.detailed_exitcode {
        Exit::of_printed_plan(&plan, output)
    } else {
        Exit::Done
    })
}

/// The plan without what `--diff` shows.
fn without_diffs(mut plan: Plan) -> Plan {
    for host in &mut plan.hosts {
        if let Some(set) = &mut host.change_set {
            Arc::make_mut(set).diffs.clear();
        }
    }
    plan
}

/// Why the plan would not be carried out here any more, as far as the configuration and the state
/// say. A plan is also shown where there is neither.
fn staleness(plan: &Plan, untrusted: &UntrustedOptions, global: &GlobalOptions) -> Option<String> {
    let environment = environment().ok()?;
    let path = config::find(global.config(), &environment).ok()?;
    let loaded = match untrusted.state() {
        None => config::load(&path, &environment),
        Some(state) => config::load_untrusted(&path, &environment, state),
    };
    let config = loaded.ok()?.config;
    let state = StateStore::open(&config.settings.state_path).ok()?;
    let is_planned = |host: &&Host| plan.hosts.iter().any(|planned| planned.host == host.id);
    let hosts: Vec<&Host> = config.hosts.iter().filter(is_planned).collect();
    match saved::check(plan, &hosts, &state, config::config_digest(&config)) {
        Err(PrepareError::Stale(reason)) => Some(reason.to_string()),
        Ok(()) | Err(PrepareError::State(_)) => None,
    }
}
