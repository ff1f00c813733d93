//! `hostsync apply`

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use miette::MietteDiagnostic;

use super::args::{self, ApplySettings, Format, GlobalSettings};
use super::console::Console;
use super::context::{self, Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use super::plan;
use crate::apply::{self, HostResult, OnConflict, Report};
use crate::config::{self, Host};
use crate::model::{Observer, Together};
use crate::plan::goal::saved::SavedPlanCheck;
use crate::plan::goal::{Goal, Sources};
use crate::plan::prepared::{Preparation, Prepared};
use crate::plan::{HostPlan, Plan, Refresh, document};
use crate::state::{StateLock, StateStore};
use crate::view;
use crate::view::events::Events;
use crate::view::report::PlanFile;
use crate::view::text::count;

/// How long a host is waited for on which another run is committing.
const WAIT_FOR_HOST: Duration = Duration::from_secs(30);

pub(super) fn run(
    global: &GlobalSettings,
    settings: &ApplySettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let interrupts = Interrupts::listen();
    match settings.format {
        Format::Human => carry_out(global, settings, console, &interrupts, None),
        Format::Json => run_with_events(global, settings, console, &interrupts),
    }
}

/// Carries it out and tells a program what happens: the first line comes before anything can go wrong,
/// and the last one has the code that the run ends with.
fn run_with_events(
    global: &GlobalSettings,
    settings: &ApplySettings,
    console: &Console,
    interrupts: &Interrupts,
) -> Result<Exit, Stop> {
    let version = env!("CARGO_PKG_VERSION");
    let sink = console.data_sink();
    let events = Arc::new(Events::begin(version, sink, context::now_in_milliseconds));
    let on_interrupt = Arc::clone(&events);
    interrupts.before_end(move |why, exit| {
        on_interrupt.failed(&MietteDiagnostic::new(why), exit.code());
    });
    let global = GlobalSettings {
        progress: console.progress_beside_data(global.progress),
        ..global.clone()
    };
    carry_out(&global, settings, console, interrupts, Some(&events)).inspect_err(|stop| {
        let exit = console.exit_after_output(stop.exit);
        events.failed(stop.report.as_ref(), exit.code());
    })
}

/// Plans, shows it, asks, applies, reports. Where there are `events`, they get to know what is done
/// instead of a person, and nobody is asked.
fn carry_out(
    global: &GlobalSettings,
    settings: &ApplySettings,
    console: &Console,
    interrupts: &Interrupts,
    events: Option<&Events>,
) -> Result<Exit, Stop> {
    let saved = settings
        .plan_file
        .as_deref()
        .map(document::load)
        .transpose()?;
    let mut context = Context::load(global, console)?;
    let asks = saved.is_none() && !settings.is_approved;
    if asks && !Console::can_ask() {
        return Err(Stop::nobody_to_ask(
            "review a plan that `hostsync plan --out FILE` saved, then run `hostsync apply FILE`; or \
             run `hostsync apply --auto-approve`",
        ));
    }
    context.start_logs("apply")?;
    let lock = context.lock("apply", settings.lock_timeout)?;
    // Read under the lock: nobody else can move it from here on.
    let mut state = StateStore::open(&context.config.settings.state_path)?;
    // Nobody knows how long a person takes to answer, so nothing is kept open for that time.
    let keep_logins = if asks {
        0
    } else {
        context.config.settings.number_of_connections
    };
    let hosts = hosts_of(&context, settings, saved.as_ref())?;
    let begin = |plan| {
        let config_digest = config::config_digest(&context.config);
        SavedPlanCheck::begin(plan, &hosts, &state, config_digest)
    };
    let check = saved.as_ref().map(begin).transpose()?;
    let goal: &dyn Goal = match &check {
        Some(check) => check,
        None => &Sources,
    };
    let how = plan::How {
        refresh: Refresh::Quick,
        wants_diffs: false,
        keeps_all: false,
        keep_logins,
        goal,
    };
    let prepared = plan::prepare(&context, &state, &hosts, &how)?;
    let the_plan = &prepared.plan;
    plan::tell_what_came_before(&prepared, &state, console);
    if let Some(saved) = &saved {
        console.say(&introduction(saved));
    } else if events.is_none() {
        let command = view::plan::PlanCommand::Apply;
        plan::show(the_plan, command, settings.is_full, console);
    }
    if let Some(events) = events {
        events.plan(the_plan, prepared.plan_digest());
    }
    let is_stale = |preparation: &Preparation| matches!(preparation, Preparation::Stale(_));
    let has_stale_hosts = prepared.hosts.iter().any(is_stale);
    let has_work = the_plan.is_applyable() || prepared.has_hosts_to_visit() || has_stale_hosts;
    // What became of a saved plan is told in any case, and a program gets to know of every host.
    if !has_work && events.is_none() && saved.is_none() {
        return Ok(context.finish(plan::exit_of(the_plan)));
    }
    let on_conflict = on_conflict(settings, saved.is_some());
    // Recording what is right already changes nothing on any host.
    let touches_hosts = the_plan.hosts.iter().any(HostPlan::touches_host);
    let backups = context.config.settings.backups;
    if touches_hosts && asks && !is_approved(the_plan, on_conflict, backups, console) {
        return Ok(context.finish(cancelled(console)));
    }
    let approved = Approved {
        context: &context,
        lock: &lock,
        prepared: &prepared,
        on_conflict,
        interrupts,
        events,
    };
    let report = approved.execute(&mut state)?;
    let unsendable: usize = the_plan.hosts.iter().map(|host| host.problems.len()).sum();
    let exit = exit_of(&report).and(plan::exit_of(the_plan));
    if let Some(events) = events {
        let exit = console.exit_after_output(exit);
        events.summary(&report, unsendable, exit.code());
    } else {
        show(
            &report,
            unsendable,
            saved.as_ref(),
            global,
            settings,
            console,
        );
    }
    Ok(context.finish(exit))
}

/// A plan that may be carried out.
pub(super) struct Approved<'a> {
    pub(super) context: &'a Context<'a>,
    pub(super) lock: &'a StateLock,
    pub(super) prepared: &'a Prepared,
    pub(super) on_conflict: OnConflict,
    pub(super) interrupts: &'a Interrupts,
    /// Gets to know what happens.
    pub(super) events: Option<&'a Events>,
}

impl Approved<'_> {
    /// Carries it out, with progress.
    pub(super) fn execute(&self, state: &mut StateStore) -> Result<Report, Stop> {
        let connector = self.context.connector();
        let progress = Arc::new(self.context.progress());
        let mut observers: Vec<&dyn Observer> = vec![progress.as_ref()];
        observers.extend(self.events.map(|events| events as &dyn Observer));
        let report = apply::apply(
            &apply::Request {
                config: &self.context.config,
                prepared: self.prepared,
                lock: self.lock,
                connector: &connector,
                large: apply::LargeFiles::default(),
                on_conflict: self.on_conflict,
                wait_for_host: WAIT_FOR_HOST,
                interrupted: self.interrupts.begin_changes(&progress),
                now: &context::now,
                observer: &Together(&observers),
                on_host: &|host| {
                    if let Some(events) = self.events {
                        events.host_finished(host);
                    }
                },
            },
            state,
        );
        progress.finish();
        self.interrupts.end_changes();
        let report = report?;
        if let Err(error) = state.remove_unused_trees(self.lock) {
            tracing::warn!("{error}");
        }
        Ok(report)
    }
}

/// Says that nobody has said yes.
pub(super) fn cancelled(console: &Console) -> Exit {
    console.note("Cancelled: nothing was changed.");
    Exit::Failed
}

/// What is said before a saved plan is carried out.
fn introduction(saved: &Plan) -> String {
    let made = &saved.header.created_at;
    let summary = view::plan::summary_line(saved);
    format!("The saved plan, made {made}: {summary}")
}

/// Prints a report for people.
fn show(
    report: &Report,
    unsendable: usize,
    saved: Option<&Plan>,
    global: &GlobalSettings,
    settings: &ApplySettings,
    console: &Console,
) {
    let options = view::report::ReportView {
        full: settings.is_full,
        width: console.width(),
        color: console.color(),
        automation: console.is_automation(),
        config: global
            .config
            .as_ref()
            .map(|path| path.display().to_string()),
        plan_file: settings.plan_file.as_ref().map(|path| PlanFile {
            path: path.display().to_string(),
            unseen: saved.into_iter().flat_map(Plan::unseen).cloned().collect(),
        }),
        rollback: None,
    };
    if saved.is_none() {
        // Below the plan.
        console.data(b"\n");
    }
    console.data(view::report::render(report, &options).as_bytes());
    if unsendable > 0 {
        let unsendable = count(unsendable, "entry", "entries");
        console.note(&format!(
            "{unsendable} of the sources could not be sent; the plan names them."
        ));
    }
}

/// The hosts that are picked; without a pattern those of the saved plan, or all.
fn hosts_of<'c>(
    context: &'c Context<'_>,
    settings: &ApplySettings,
    saved: Option<&Plan>,
) -> Result<Vec<&'c Host>, Stop> {
    let mut hosts = context.select(&settings.limit)?;
    if let (Some(saved), []) = (saved, settings.limit.as_slice()) {
        hosts.retain(|host| saved.hosts.iter().any(|planned| planned.host == host.id));
    }
    Ok(hosts)
}

/// What happens to conflicts. Without a word about them: those that were shown are approved with the
/// rest.
fn on_conflict(settings: &ApplySettings, is_saved: bool) -> OnConflict {
    match settings.on_conflict {
        None if settings.is_approved && !is_saved => OnConflict::Fail,
        Some(args::OnConflict::Fail) => OnConflict::Fail,
        Some(args::OnConflict::Skip) => OnConflict::Skip,
        Some(args::OnConflict::Overwrite) | None => OnConflict::Overwrite,
    }
}

/// Asks. Only `yes` is yes.
pub(super) fn is_approved(
    plan: &Plan,
    on_conflict: OnConflict,
    backups: u32,
    console: &Console,
) -> bool {
    let summary = plan.summary();
    let hosts = plan.hosts.iter().filter(|host| host.touches_host()).count();
    let mut text = format!(
        "\nDo you want to do this on {}?\n",
        count(hosts, "host", "hosts")
    );
    if summary.delete + summary.update > 0 {
        let _ = match backups {
            0 => writeln!(text, "  Nothing of what goes is kept: `backups` is 0."),
            1 => writeln!(text, "  What goes is kept in backups until the next apply."),
            _ => writeln!(
                text,
                "  What goes is kept in backups for the last {backups} applies."
            ),
        };
    }
    if summary.conflicts > 0 {
        let conflicts = count(summary.conflicts, "conflict is", "conflicts are");
        let fate = match on_conflict {
            OnConflict::Overwrite => "replaced or deleted, too: look at what is there first",
            OnConflict::Skip => "left alone",
            OnConflict::Fail => "in the way: these hosts are left alone",
        };
        let _ = writeln!(text, "  {conflicts} {fate}.");
    }
    text.push_str("  Only 'yes' is accepted: ");
    console.confirms(&text)
}

pub(super) fn exit_of(report: &Report) -> Exit {
    let of_hosts = report
        .hosts
        .iter()
        .map(|host| {
            let of_result = match &host.result {
                HostResult::Done
                | HostResult::Unchanged
                | HostResult::NotBegun
                | HostResult::Interrupted => Exit::Done,
                HostResult::Conflicts(_) | HostResult::Stale(_) => Exit::Refused,
                HostResult::Unreachable(_) | HostResult::Failed(_) => Exit::HostsFailed,
            };
            host.refused.iter().fold(of_result, |exit, refused| {
                exit.and(if refused.moved {
                    Exit::Refused
                } else {
                    Exit::HostsFailed
                })
            })
        })
        .fold(Exit::Done, Exit::and);
    if report.interrupted {
        of_hosts.and(Exit::Interrupted)
    } else {
        of_hosts
    }
}
