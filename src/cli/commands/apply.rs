//! `hostsync apply`

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::{Args, ValueEnum};
use miette::MietteDiagnostic;

use crate::apply::{OnConflict, Report};
use crate::cli::approval::Approval;
use crate::cli::console::Console;
use crate::cli::environment::now_in_milliseconds;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::interrupt::Interrupts;
use crate::cli::options::{
    ApprovalOptions, Format, GlobalOptions, HostOptions, LockOptions, TextOptions,
};
use crate::cli::output::{print_plan_text, print_report};
use crate::cli::session::{CommandSession, Planning};
use crate::config;
use crate::plan::goal::saved::SavedPlanCheck;
use crate::plan::goal::{Goal, Sources};
use crate::plan::prepared::Preparation;
use crate::plan::{Plan, document};
use crate::view;
use crate::view::json::events::Events;
use crate::view::review::commands::shell_word;
use crate::view::review::plan::PlanCommand;
use crate::view::review::report::Again;
use crate::view::text::report::ReportView;
use crate::view::words::count;

/// Plan, show it, ask, and do it; or do exactly what a saved plan says
///
/// Only the answer `yes` counts. Files are staged on the host and verified before they move
/// into place; what they replace is backed up there.
///
/// A saved plan was reviewed, so nobody is asked. If the state, the configuration or a source is
/// no longer what it names, nothing is touched; if something on a host is not, that host is left
/// alone (exit 4).
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync apply
  hostsync apply --limit web1
  hostsync apply plan.json
  hostsync apply --auto-approve --on-conflict skip --lock-timeout 5m")]
pub(in crate::cli) struct ApplyOptions {
    /// A plan that `hostsync plan --out` saved
    #[arg(value_name = "PLANFILE")]
    pub(super) plan_file: Option<PathBuf>,

    #[command(flatten)]
    pub(super) approval: ApprovalOptions,

    /// What to do with changes that would destroy what nobody has reviewed
    ///
    /// Without it: with --auto-approve `fail`; at the prompt and with a saved plan, where somebody
    /// has seen them, `overwrite`.
    #[arg(long, value_enum, value_name = "WHAT")]
    pub(super) on_conflict: Option<OnConflict>,

    /// The form of the output; `json` is one object a line, and needs --auto-approve or PLANFILE
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) format: Format,

    #[command(flatten)]
    pub(super) hosts: HostOptions,

    #[command(flatten)]
    pub(super) lock: LockOptions,

    #[command(flatten)]
    pub(super) text: TextOptions,
}

impl ApplyOptions {
    /// Checks what clap cannot. `definition` is the clap command of the whole command line.
    pub(super) fn validate(&self, definition: &mut clap::Command) -> Result<(), clap::Error> {
        let may_ask = self.plan_file.is_none() && !self.approval.auto_approve;
        if may_ask && self.format == Format::Json {
            let message = "--format json asks nobody, so it needs --auto-approve or PLANFILE";
            let kind = ErrorKind::MissingRequiredArgument;
            return Err(match definition.find_subcommand_mut("apply") {
                Some(apply) => apply.error(kind, message),
                None => definition.error(kind, message),
            });
        }
        Ok(())
    }
}

/// The values of `--on-conflict`. They are named here, since only the command line knows clap.
impl ValueEnum for OnConflict {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Fail, Self::Skip, Self::Overwrite]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Fail => (
                "fail",
                "Leave that host untouched, do the others, end with exit 4",
            ),
            Self::Skip => ("skip", "Leave just those entries as they are"),
            Self::Overwrite => ("overwrite", "Replace them; the old versions are backed up"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Applies, and with `--format json` tells a program what happens: the first line comes before anything can
/// go wrong, and the last one has the exit code of the run.
pub(super) fn run(
    options: &ApplyOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let interrupts = Interrupts::listen();
    let events = match options.format {
        Format::Human => None,
        Format::Json => Some(begin_events(&interrupts, console)),
    };
    let apply = || {
        let saved = options
            .plan_file
            .as_deref()
            .map(document::load)
            .transpose()?;
        let mut session = CommandSession::load(global, console, interrupts)?;
        session.events.clone_from(&events);
        plan_and_apply(session, saved.as_ref(), options, console)
    };
    apply().inspect_err(|error| {
        if let Some(events) = &events {
            let exit = console.exit_after_output(error.exit);
            events.failed(error.report.as_ref(), exit.code());
        }
    })
}

/// Begins the lines for a program. When a signal ends the run, that becomes the last line.
fn begin_events(interrupts: &Interrupts, console: &Console) -> Arc<Events> {
    let version = env!("CARGO_PKG_VERSION");
    let sink = console.data_sink();
    let events = Arc::new(Events::begin(version, sink, now_in_milliseconds));
    let on_interrupt = Arc::clone(&events);
    interrupts.before_end(move |why, exit| {
        on_interrupt.failed(&MietteDiagnostic::new(why), exit.code());
    });
    events
}

/// Plans, shows the plan, asks, carries it out, reports. A saved plan is neither shown nor asked about.
/// Where there are events, they take the place of what a person is shown.
fn plan_and_apply(
    mut session: CommandSession<'_>,
    saved: Option<&Plan>,
    options: &ApplyOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let approval = match saved {
        Some(_) => Approval::Reviewed,
        None => Approval::of_new_plan(&options.approval),
    };
    if approval == Approval::Asked {
        Console::require_person(
            "review a plan that `hostsync plan --out FILE` saved, then run `hostsync apply FILE`; or \
             run `hostsync apply --auto-approve`",
        )?;
    }
    session.start_logs("apply")?;
    let mut state = session.lock_state("apply", &options.lock)?;
    let mut hosts = session.select(&options.hosts.limit)?;
    if let (Some(saved), []) = (saved, options.hosts.limit.as_slice()) {
        hosts.retain(|host| saved.hosts.iter().any(|planned| planned.host == host.id));
    }
    let check = saved
        .map(|saved| {
            let config_digest = config::config_digest(&session.config);
            SavedPlanCheck::begin(saved, &hosts, &state.store, config_digest)
        })
        .transpose()?;
    let goal: &dyn Goal = match &check {
        Some(check) => check,
        None => &Sources,
    };
    let planning = Planning {
        goal,
        // Nobody knows how long a person takes to answer, so nothing is kept open for that time.
        keeps_logins: approval != Approval::Asked,
        ..Planning::default()
    };
    let prepared = session.prepare(&state.store, &hosts, &planning)?;
    let plan = &prepared.plan;
    session.tell_what_came_before(&prepared, &state.store);
    if let Some(saved) = saved {
        console.say(&introduction(saved));
    } else if session.events.is_none() {
        print_plan_text(plan, PlanCommand::Apply, &options.text, console);
    }
    if let Some(events) = &session.events {
        events.plan(plan, prepared.plan_digest());
    }
    let is_stale = |preparation: &Preparation| matches!(preparation, Preparation::Stale(_));
    let has_stale_hosts = prepared.hosts.iter().any(is_stale);
    let has_work = plan.is_applyable() || prepared.has_hosts_to_visit() || has_stale_hosts;
    // A saved plan always gets a report, and a program is told of every host.
    if !has_work && session.events.is_none() && saved.is_none() {
        return Ok(session.finish(Exit::of_plan(plan)));
    }
    let on_conflict = options.on_conflict.unwrap_or(approval.on_conflict());
    if approval.asks_about(plan) && !session.confirms(plan, on_conflict) {
        return Ok(session.cancel("nothing was changed"));
    }
    let report = session.carry_out(&prepared, on_conflict, &mut state)?;
    let unsendable: usize = plan.hosts.iter().map(|host| host.problems.len()).sum();
    let exit = Exit::of_report(&report).and(Exit::of_plan(plan));
    if let Some(events) = &session.events {
        let exit = console.exit_after_output(exit);
        events.summary(&report, unsendable, exit.code());
    } else {
        let mut view = session.report_view(&options.text);
        if let (Some(saved), Some(path)) = (saved, &options.plan_file) {
            view.again = again(saved, path);
        } else {
            // The plan stands above it.
            console.data(b"\n");
        }
        show(&report, unsendable, &view, console);
    }
    Ok(session.finish(exit))
}

/// The line that stands above the progress of a saved plan.
fn introduction(saved: &Plan) -> String {
    let made = &saved.header.created_at;
    let summary = view::review::summary::summary_line(saved);
    format!("The saved plan, made {made}: {summary}")
}

/// How a saved plan is gone on with.
fn again(saved: &Plan, path: &Path) -> Again {
    Again {
        command: format!("apply {}", shell_word(&path.display().to_string())),
        picks_hosts: false,
        unseen: saved.unseen().cloned().collect(),
    }
}

/// Prints a report for people.
fn show(report: &Report, unsendable: usize, view: &ReportView, console: &Console) {
    print_report(report, view, console);
    if unsendable > 0 {
        let unsendable = count(unsendable, "entry", "entries");
        console.note(&format!(
            "{unsendable} of the sources could not be sent; the plan names them."
        ));
    }
}
