//! `hostsync rollback`

use std::fmt::Write as _;

use clap::Args;

use crate::cli::approval::Approval;
use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{ApprovalOptions, GlobalOptions, HostOptions, LockOptions, TextOptions};
use crate::cli::output::{print_plan_text, print_report};
use crate::cli::session::{CommandSession, Planning};
use crate::plan::goal::rollback::RollbackTarget;
use crate::view;
use crate::view::review::plan::PlanCommand;
use crate::view::review::report::Again;
use crate::view::text::report::ReportView;

/// Bring back what was there before the last plan, or before later ones; show it and ask first
///
/// Undoes a plan as a whole, with the runs that finished it: what it replaced or deleted comes back
/// from the backups that each host keeps, with its permission bits, and what it created goes. An
/// entry that somebody changed since is a conflict: listed at the prompt; with --auto-approve its host
/// is left alone (exit 4). The sources stay as they are, so the next plan has the changes again.
///
/// A rollback is an apply, too: one more takes it back. One that has not reached all hosts is gone on
/// with first. Without a terminal it shows what it would do, and stops.
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync rollback
  hostsync state list        the last applies, with their serials
  hostsync rollback --to 12 --limit web1")]
pub(in crate::cli) struct RollbackOptions {
    /// Go back to what was there after this apply; 0 is before the first one
    #[arg(long, value_name = "SERIAL")]
    pub(super) to: Option<u64>,

    #[command(flatten)]
    pub(super) approval: ApprovalOptions,

    #[command(flatten)]
    pub(super) hosts: HostOptions,

    #[command(flatten)]
    pub(super) lock: LockOptions,

    #[command(flatten)]
    pub(super) text: TextOptions,
}

/// Plans the rollback, shows it, asks, carries it out, reports.
pub(super) fn run(
    options: &RollbackOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open("rollback", global, console)?;
    let mut state = session.lock_state("rollback", &options.lock)?;
    let hosts = session.select(&options.hosts.limit)?;
    let Some(undo) = RollbackTarget::choose(&state.store, options.to)? else {
        console.data(b"Nothing to roll back: nothing was applied yet.\n");
        return Ok(session.finish(Exit::Done));
    };
    let approval = Approval::of_new_plan(&options.approval);
    let planning = Planning {
        goal: &undo,
        keeps_logins: approval != Approval::Asked,
        ..Planning::default()
    };
    let prepared = session.prepare(&state.store, &hosts, &planning)?;
    let plan = &prepared.plan;
    let introduction = view::text::rollback::introduction(&undo, &prepared, console.width());
    console.data(introduction.as_bytes());
    print_plan_text(plan, PlanCommand::Apply, &options.text, console);
    if !plan.is_applyable() && !prepared.has_hosts_to_visit() {
        if let Some(begun) = undo.begun.as_ref().filter(|_| prepared.run.is_all) {
            // Everything is undone already; an earlier run did not get to record that.
            state.store.complete_apply(&state.lock, begun.serial)?;
        }
        return Ok(session.finish(Exit::of_plan(plan)));
    }
    let on_conflict = approval.on_conflict();
    if approval.asks_about(plan) {
        // What it would do has been shown.
        Console::require_person(&format!("run `{}`", approved_command(options, global)))?;
        if !session.confirms(plan, on_conflict) {
            return Ok(session.cancel("nothing was changed"));
        }
    }
    let report = session.carry_out(&prepared, on_conflict, &mut state)?;
    let view = ReportView {
        again: Again::planning(&subcommand(options)),
        ..session.report_view(&options.text)
    };
    // The plan stands above it.
    console.data(b"\n");
    print_report(&report, &view, console);
    Ok(session.finish(Exit::of_report(&report).and(Exit::of_plan(plan))))
}

/// The subcommand, with the option that says how far to go back.
fn subcommand(options: &RollbackOptions) -> String {
    options.to.map_or_else(
        || "rollback".to_owned(),
        |serial| format!("rollback --to {serial}"),
    )
}

/// The same command without a question.
fn approved_command(options: &RollbackOptions, global: &GlobalOptions) -> String {
    let mut command = view::review::commands::command_start(global.config());
    command.push_str(&subcommand(options));
    for pattern in &options.hosts.limit {
        let _ = write!(
            command,
            " --limit {}",
            view::review::commands::shell_word(pattern)
        );
    }
    command.push_str(" --auto-approve");
    command
}
