//! `hostsync show`

use std::sync::Arc;

use super::args::{GlobalSettings, PlanFormat, ShowSettings};
use super::console::Console;
use super::context::{self, Stop};
use super::exit::Exit;
use super::plan;
use crate::config::{self, Host};
use crate::plan::goal::saved;
use crate::plan::{Plan, PrepareError, document};
use crate::state::StateStore;
use crate::view::plan::PlanCommand;

pub(super) fn run(
    global: &GlobalSettings,
    settings: &ShowSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let mut the_plan = document::load(&settings.plan_file)?;
    if let Some(warning) = staleness(global, &the_plan) {
        console.say(&format!("warning: {warning}"));
    }
    let has_diffs = the_plan
        .groups()
        .iter()
        .any(|(set, _)| !set.diffs.is_empty());
    let digest = document::digest(&the_plan);
    let output = &settings.output;
    if !output.has_diffs && output.format != PlanFormat::Json {
        the_plan = without_diffs(the_plan);
    } else if output.has_diffs && !has_diffs && the_plan.summary().has_changes() {
        console.say("note: the plan was saved without `--diff`, so it has no contents to show");
    }
    let command = PlanCommand::Show;
    let exit = plan::print(&the_plan, digest, command, output, console);
    // What is shown is a success; what it is about counts only where that was asked for.
    Ok(if output.has_detailed_exit {
        exit
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
fn staleness(global: &GlobalSettings, plan: &Plan) -> Option<String> {
    let environment = context::environment().ok()?;
    let path = config::find(global.config.as_deref(), &environment).ok()?;
    let config = config::load(&path, &environment).ok()?.config;
    let state = StateStore::open(&config.settings.state_path).ok()?;
    let is_planned = |host: &&Host| plan.hosts.iter().any(|planned| planned.host == host.id);
    let hosts: Vec<&Host> = config.hosts.iter().filter(is_planned).collect();
    match saved::check(plan, &hosts, &state, config::config_digest(&config)) {
        Err(PrepareError::Stale(reason)) => Some(reason.to_string()),
        Ok(()) | Err(PrepareError::State(_)) => None,
    }
}
