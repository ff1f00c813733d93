//! `hostsync plan`

use super::args::{GlobalSettings, PlanFormat, PlanOutput, PlanSettings};
use super::console::Console;
use super::context::{self, Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use crate::config::{self, Host};
use crate::model::Blake3;
use crate::plan::goal::{Goal, Sources};
use crate::plan::prepared::Prepared;
use crate::plan::{self, HostPlan, Plan, PlanRequest, Refresh, document};
use crate::state::StateStore;
use crate::view;
use crate::view::plan::{PlanCommand, PlanView};

pub(super) fn run(
    global: &GlobalSettings,
    settings: &PlanSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("plan")?;
    let state = StateStore::open(&context.config.settings.state_path)?;
    let hosts = context.select(&settings.limit)?;
    let how = How {
        refresh: settings.refresh,
        wants_diffs: settings.output.has_diffs,
        keeps_all: false,
        keep_logins: 0,
        goal: &Sources,
    };
    let prepared = prepare(&context, &state, &hosts, &how)?;
    tell_what_came_before(&prepared, &state, console);
    let plan = prepared.plan;
    if let Some(path) = &settings.out {
        document::save(&plan, path)?;
    }
    let command = PlanCommand::Plan {
        saved: settings.out.is_some(),
    };
    let digest = document::digest(&plan);
    let exit = print(&plan, digest, command, &settings.output, console);
    if let Some(path) = &settings.out {
        console.say(&format!("Saved the plan in {}.", path.display()));
    }
    Ok(context.finish(exit))
}

/// How a plan is made.
pub(super) struct How<'a> {
    pub(super) refresh: Refresh,
    pub(super) wants_diffs: bool,
    /// Whether what is known of a host is kept even where nothing is to be done.
    pub(super) keeps_all: bool,
    /// How many logins are kept on hosts that apply would work on.
    pub(super) keep_logins: usize,
    /// What hosts are to be made equal to.
    pub(super) goal: &'a dyn Goal,
}

/// Makes a plan for these hosts, or looks whether the saved one still holds for them.
pub(super) fn prepare(
    context: &Context<'_>,
    state: &StateStore,
    hosts: &[&Host],
    how: &How<'_>,
) -> Result<Prepared, Stop> {
    let connector = context.connector();
    let progress = context.progress();
    let cache_dir = context.cache_dir();
    let prepared = plan::prepare(&PlanRequest {
        config: &context.config,
        config_digest: config::config_digest(&context.config),
        hosts,
        state,
        cache_dir: Some(&cache_dir),
        connector: &connector,
        refresh: how.refresh,
        goal: how.goal,
        wants_diffs: how.wants_diffs,
        keeps_all: how.keeps_all,
        keep_logins: how.keep_logins,
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

/// Says on which hosts an apply did not come to its end, and that the last one was a rollback.
pub(super) fn tell_what_came_before(prepared: &Prepared, state: &StateStore, console: &Console) {
    for line in view::plan::cut_short(prepared.cut_short()) {
        console.say(&line);
    }
    let mut runs = state.runs().iter().rev();
    if let Some(to) = runs.find(|run| run.has_changes).and_then(|run| run.back_to)
        && prepared.plan.summary().has_changes()
    {
        console.say(&format!(
            "The last run was a rollback to {to}: what it took back is here again, unless the sources were \
             mended."
        ));
    }
}

/// Prints a plan as it was asked for, and tells how the run ends by that. `digest` names the plan that
/// apply would be given.
pub(super) fn print(
    plan: &Plan,
    digest: Blake3,
    command: PlanCommand,
    output: &PlanOutput,
    console: &Console,
) -> Exit {
    match output.format {
        PlanFormat::Human => show(plan, command, output.is_full, console),
        PlanFormat::Json => console.data(document::to_json(plan).as_bytes()),
        PlanFormat::Markdown => {
            let text = view::markdown::render(plan, digest, output.max_bytes);
            console.data(text.as_bytes());
        }
    }
    let has_changes = plan.summary().has_changes() && output.has_detailed_exit;
    exit_of(plan).and(if has_changes {
        Exit::Changes
    } else {
        Exit::Done
    })
}

/// Prints a plan for people.
pub(super) fn show(plan: &Plan, command: PlanCommand, full: bool, console: &Console) {
    let options = PlanView {
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
    if plan.hosts.iter().all(HostPlan::is_complete) {
        Exit::Done
    } else {
        Exit::HostsFailed
    }
}
