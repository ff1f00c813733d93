//! `hostsync plan`

use super::args::{Format, GlobalSettings, PlanSettings};
use super::console::Console;
use super::context::{self, Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::config;
use crate::plan::prepare::{self, Prepared, Request};
use crate::plan::{HostStatus, Plan, Refresh, saved};
use crate::state::StateStore;
use crate::view;

pub(super) fn run(
    global: &GlobalSettings,
    settings: &PlanSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("plan")?;
    let state = StateStore::open(&context.config.settings.state_path)?;
    let prepared = prepare(&context, &state, &settings.limit, settings.refresh, 0)?;
    let plan = &prepared.plan;
    match settings.format {
        Format::Json => console.data(saved::to_json(plan).as_bytes()),
        Format::Human => {
            let command = view::plan::PlanCommand::Plan { saved: false };
            show(plan, command, settings.is_full, console);
        }
    }
    let changes = plan.summary().has_changes() && settings.has_detailed_exit;
    let exit = exit_of(plan).and(if changes { Exit::Changes } else { Exit::Done });
    Ok(context.finish(exit))
}

/// Makes a plan for the hosts that `limit` picks, and keeps up to `keep_logins` logins open on those
/// that apply would work on.
pub(super) fn prepare(
    context: &Context<'_>,
    state: &StateStore,
    limit: &[String],
    refresh: Refresh,
    keep_logins: usize,
) -> Result<Prepared, Stop> {
    let hosts = context.select(limit)?;
    let connector = context.connector();
    let progress = context.progress();
    let cache_dir = context.cache_dir();
    let prepared = prepare::prepare(&Request {
        config: &context.config,
        config_digest: config::config_digest(&context.config),
        hosts: &hosts,
        state,
        cache_dir: Some(&cache_dir),
        connector: &connector,
        refresh,
        keep_logins,
        now: &context::now(),
        observer: &progress,
    })?;
    let summary = prepared.plan.summary();
    tracing::info!(
        create = summary.create,
        update = summary.update,
        delete = summary.delete,
        metadata = summary.metadata,
        adopt = summary.adopt,
        unchanged = summary.unchanged,
        conflicts = summary.conflicts,
        unreachable = summary.unreachable,
        "planned"
    );
    Ok(prepared)
}

/// Prints a plan for people.
pub(super) fn show(plan: &Plan, command: view::plan::PlanCommand, full: bool, console: &Console) {
    let options = view::plan::PlanView {
        full,
        width: console.width(),
        color: console.color(),
        automation: console.is_automation(),
        command,
    };
    console.data(view::plan::render(plan, &options).as_bytes());
}

/// How a plan ends by itself: a host without a look, or an entry that cannot be sent, is a failure.
pub(super) fn exit_of(plan: &Plan) -> Exit {
    let is_well =
        |host: &crate::plan::HostPlan| host.status == HostStatus::Ok && host.problems.is_empty();
    if plan.hosts.iter().all(is_well) {
        Exit::Done
    } else {
        Exit::HostsFailed
    }
}
