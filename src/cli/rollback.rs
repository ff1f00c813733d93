//! `hostsync rollback`

use std::fmt::Write as _;

use super::apply::{Approved, cancelled, exit_of, is_approved};
use super::args::{GlobalSettings, RollbackSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use super::plan;
use crate::apply::{OnConflict, Report};
use crate::plan::goal::rollback::RollbackTarget;
use crate::plan::{HostPlan, Refresh};
use crate::state::StateStore;
use crate::view;
use crate::view::plan::PlanCommand;
use crate::view::report::RollbackView;

/// Plans the way back, shows it, asks, carries it out, reports.
pub(super) fn run(
    global: &GlobalSettings,
    settings: &RollbackSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("rollback")?;
    let lock = context.lock("rollback", settings.lock_timeout)?;
    // Read under the lock: nobody else can move it from here on.
    let mut state = StateStore::open(&context.config.settings.state_path)?;
    let hosts = context.select(&settings.limit)?;
    let Some(undo) = RollbackTarget::choose(&state, settings.to)? else {
        console.data(b"Nothing to roll back: nothing was applied yet.\n");
        return Ok(context.finish(Exit::Done));
    };
    let how = plan::How {
        refresh: Refresh::Quick,
        wants_diffs: false,
        keeps_all: false,
        keep_logins: if settings.is_approved {
            context.config.settings.number_of_connections
        } else {
            0
        },
        goal: &undo,
    };
    let prepared = plan::prepare(&context, &state, &hosts, &how)?;
    let the_plan = &prepared.plan;
    let introduction = view::rollback::introduction(&undo, &prepared, console.width());
    console.data(introduction.as_bytes());
    plan::show(the_plan, PlanCommand::Rollback, settings.is_full, console);
    if !the_plan.is_applyable() && !prepared.has_hosts_to_visit() {
        if let Some(begun) = undo.begun.as_ref().filter(|_| prepared.run.is_all) {
            // It was only kept from saying so.
            state.complete_apply(&lock, begun.serial)?;
        }
        return Ok(context.finish(plan::exit_of(the_plan)));
    }
    // Whoever was asked has seen the conflicts.
    let on_conflict = if settings.is_approved {
        OnConflict::Fail
    } else {
        OnConflict::Overwrite
    };
    let touches_hosts = the_plan.hosts.iter().any(HostPlan::touches_host);
    let asks = touches_hosts && !settings.is_approved;
    if asks && !Console::can_ask() {
        // What it would do has been shown.
        let help = format!("run `{}`", approved_command(global, settings));
        return Err(Stop::nobody_to_ask(&help));
    }
    let backups = context.config.settings.backups;
    if asks && !is_approved(the_plan, on_conflict, backups, console) {
        return Ok(context.finish(cancelled(console)));
    }
    let approved = Approved {
        context: &context,
        lock: &lock,
        prepared: &prepared,
        on_conflict,
        interrupts: &interrupts,
        events: None,
    };
    let report = approved.execute(&mut state)?;
    show(&report, undo.back_to(), global, settings, console);
    Ok(context.finish(exit_of(&report).and(plan::exit_of(the_plan))))
}

/// The subcommand, with what says how far to go back.
fn subcommand(settings: &RollbackSettings) -> String {
    settings.to.map_or_else(
        || "rollback".to_owned(),
        |serial| format!("rollback --to {serial}"),
    )
}

/// The same command without a question.
fn approved_command(global: &GlobalSettings, settings: &RollbackSettings) -> String {
    let mut command = view::report::command_start(global.config.as_deref());
    command.push_str(&subcommand(settings));
    for pattern in &settings.limit {
        let _ = write!(command, " --limit {}", view::report::shell_word(pattern));
    }
    command.push_str(" --auto-approve");
    command
}

/// Prints a report for people.
fn show(
    report: &Report,
    back_to: u64,
    global: &GlobalSettings,
    settings: &RollbackSettings,
    console: &Console,
) {
    let config = global.config.as_ref();
    let options = view::report::ReportView {
        full: settings.is_full,
        width: console.width(),
        color: console.color(),
        automation: console.is_automation(),
        config: config.map(|path| path.display().to_string()),
        plan_file: None,
        rollback: Some(RollbackView {
            to: back_to,
            command: subcommand(settings),
        }),
    };
    // Below the plan.
    console.data(b"\n");
    console.data(view::report::render(report, &options).as_bytes());
}
