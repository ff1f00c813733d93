//! What an apply did, as people see it.
//!
//! Hosts with equal results share a group. Those that need somebody's attention stand at the end, with the
//! commands that pick them again.

use std::fmt::Write as _;

use super::commands::command;
use super::hosts::Hosts;
use super::wording::Wording;
use crate::apply::{HostReport, HostResult, Refused, Report};
use crate::model::HostId;
use crate::view::errors::first_line;
use crate::view::words::{count, duration, escape, escape_text, size};

const KEEPS_PART: &str =
    "What arrived of large files stays on the host; the next apply goes on with it.";

/// What the review of a report depends on besides the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportOptions<'a> {
    /// Whether a person is in front of it, who may need hints.
    pub with_hints: bool,
    /// The `--config` value that commands to be copied repeat; `None` where they need none.
    pub config: Option<&'a str>,
    /// How the hosts that are not done are done again.
    pub again: &'a Again,
}

/// How the hosts that are not done are done again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Again {
    /// The subcommand with its arguments: `apply`, `apply plan.json`, `rollback --to 4`.
    pub command: String,
    /// Whether the hosts are named in it. Where they are not, it leaves out by itself those that are done.
    pub picks_hosts: bool,
    /// Hosts that it has nothing for, since they could not be looked at: they need a new plan.
    pub unseen: Vec<HostId>,
}

impl Again {
    /// By a subcommand that makes a new plan for the hosts that are named.
    pub fn planning(command: &str) -> Self {
        Self {
            command: command.to_owned(),
            picks_hosts: true,
            unseen: Vec::new(),
        }
    }
}

/// What an apply did, in the order in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportReview<'a> {
    /// What became of the hosts: what went well first.
    pub groups: Vec<ResultGroup<'a>>,
    /// What is to be known besides.
    pub note: Option<&'static str>,
    /// What is to be done now.
    pub next: Vec<NextStep>,
    /// All of it in one line: [`summary_line`].
    pub summary: String,
}

/// Hosts that ended alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResultGroup<'a> {
    /// The hosts.
    pub hosts: Hosts<'a>,
    /// How they ended.
    pub ending: Ending,
    /// The same in words.
    pub words: String,
    /// What was not done on each of them.
    pub refused: Vec<RefusedEntry>,
}

/// How a host ended, in the order in which it is shown: what is read last is what needs attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ending {
    /// There was nothing to do.
    Unchanged,
    /// All of it is done.
    Done,
    /// It is done but for what was refused.
    DoneInPart,
    /// The run was interrupted before it.
    NotBegun,
    /// The run was interrupted during it.
    Interrupted,
    /// It was left alone because of conflicts.
    Conflicts,
    /// It was left alone because it is no longer as planned.
    Stale,
    /// It could not be reached.
    Unreachable,
    /// It failed.
    Failed,
}

/// An entry that was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedEntry {
    /// Destination and path.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// What is to be done about some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextStep {
    /// When, or what it is for.
    pub why: &'static str,
    /// The command, which is there to be copied.
    pub command: String,
}

impl<'a> ReportReview<'a> {
    /// The review of a report.
    pub fn of(report: &'a Report, options: &ReportOptions<'_>) -> Self {
        let mut groups: Vec<(Outcome<'a>, Vec<&'a HostReport>)> = Vec::new();
        for host in &report.hosts {
            let outcome = Outcome::of(host);
            match groups.iter_mut().find(|(other, _)| *other == outcome) {
                Some((_, hosts)) => hosts.push(host),
                None => groups.push((outcome, vec![host])),
            }
        }
        groups.sort_by_key(|(outcome, _)| outcome.ending());
        let keeps_part = report.hosts.iter().any(|host| host.keeps_part);
        let next = Next::ALL.into_iter().filter(|_| options.with_hints);
        Self {
            groups: groups
                .into_iter()
                .map(|(outcome, hosts)| outcome.group(&hosts))
                .collect(),
            note: keeps_part.then_some(KEEPS_PART),
            next: next.filter_map(|next| next.step(report, options)).collect(),
            summary: summary_line(report),
        }
    }
}

/// The report in one line that can be read alone and whose form is kept, since people search for it.
///
/// It begins with `Applied: ` or, where no change was made and a host or an entry is left to do, with
/// `Nothing applied: `. What follows is the same in both:
///
/// ```text
/// Applied: 12 changes on 3 hosts in 2.1 s (4.2 KiB sent), serial 7; 1 host failed.
/// Nothing applied: 0 changes on 0 hosts in 2.1 s (0 B sent); 1 host unreachable.
/// ```
///
/// Of a rollback, it begins with `Rolled back to 4: ` or `Nothing rolled back: `, and nothing was sent.
pub fn summary_line(report: &Report) -> String {
    let words = Wording::of(report.back_to);
    let changed: usize = report.hosts.iter().map(|host| host.changed).sum();
    let touched = report.hosts.iter().filter(|host| host.changed > 0).count();
    let sent = report
        .hosts
        .iter()
        .fold(0_u64, |sum, host| sum.saturating_add(host.sent_bytes));
    let is_open = report.hosts.iter().any(|host| Next::of(host).is_some());
    let mut line = if changed == 0 && is_open {
        words.nothing_done.to_owned()
    } else {
        let to = report.back_to.map(|serial| format!(" to {serial}"));
        format!("{}{}", words.done, to.unwrap_or_default())
    };
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        ": {} on {} in {}",
        count(changed, "change", "changes"),
        count(touched, "host", "hosts"),
        duration(report.elapsed),
    );
    if words.sends_sources {
        let _ = write!(line, " ({} sent)", size(sent));
    }
    if let Some(serial) = report.serial {
        let _ = write!(line, ", serial {serial}");
    }
    let hosts_with = |wanted: fn(&HostResult) -> bool| {
        let matching = report.hosts.iter().filter(|host| wanted(&host.result));
        matching.count()
    };
    let sum = |part: fn(&HostReport) -> usize| report.hosts.iter().map(part).sum::<usize>();
    for (number, singular, plural) in [
        (
            sum(|host| host.adopted),
            "entry recorded",
            "entries recorded",
        ),
        (
            sum(|host| host.skipped),
            "conflict skipped",
            "conflicts skipped",
        ),
        (
            sum(|host| host.spared),
            "folder with something else in it kept",
            "folders with something else in them kept",
        ),
        (
            sum(|host| host.refused.len()),
            "entry refused",
            "entries refused",
        ),
        (
            hosts_with(|result| matches!(result, HostResult::Conflicts(_))),
            "host with conflicts left alone",
            "hosts with conflicts left alone",
        ),
        (
            hosts_with(|result| matches!(result, HostResult::Stale(_))),
            "host no longer as planned",
            "hosts no longer as planned",
        ),
        (
            hosts_with(|result| matches!(result, HostResult::Unreachable(_))),
            "host unreachable",
            "hosts unreachable",
        ),
        (
            hosts_with(|result| matches!(result, HostResult::Failed(_))),
            "host failed",
            "hosts failed",
        ),
        (
            hosts_with(|result| *result == HostResult::NotBegun),
            "host not begun",
            "hosts not begun",
        ),
        (
            hosts_with(|result| *result == HostResult::Interrupted),
            "host interrupted",
            "hosts interrupted",
        ),
    ] {
        if number > 0 {
            line.push_str("; ");
            line.push_str(&count(number, singular, plural));
        }
    }
    // A host may have said it already.
    if report.interrupted && hosts_with(|result| *result == HostResult::Interrupted) == 0 {
        line.push_str("; interrupted");
    }
    line.push('.');
    line
}

/// What hosts must have in common to share a group.
#[derive(PartialEq, Eq)]
struct Outcome<'a> {
    result: &'a HostResult,
    changed: usize,
    adopted: usize,
    skipped: usize,
    spared: usize,
    refused: &'a [Refused],
}

impl<'a> Outcome<'a> {
    fn of(host: &'a HostReport) -> Self {
        Self {
            result: &host.result,
            changed: host.changed,
            adopted: host.adopted,
            skipped: host.skipped,
            spared: host.spared,
            refused: &host.refused,
        }
    }

    fn ending(&self) -> Ending {
        match self.result {
            HostResult::Unchanged => Ending::Unchanged,
            HostResult::Done if self.refused.is_empty() => Ending::Done,
            HostResult::Done => Ending::DoneInPart,
            HostResult::NotBegun => Ending::NotBegun,
            HostResult::Interrupted => Ending::Interrupted,
            HostResult::Conflicts(_) => Ending::Conflicts,
            HostResult::Stale(_) => Ending::Stale,
            HostResult::Unreachable(_) => Ending::Unreachable,
            HostResult::Failed(_) => Ending::Failed,
        }
    }

    fn group(&self, hosts: &[&'a HostReport]) -> ResultGroup<'a> {
        let mut words = self.in_words(hosts.len());
        let sent = hosts.iter();
        let sent = sent.fold(0_u64, |sum, host| sum.saturating_add(host.sent_bytes));
        if sent > 0 {
            let in_all = if hosts.len() > 1 { " in all" } else { "" };
            // Writing to a String cannot fail.
            let _ = write!(words, ", {} sent{in_all}", size(sent));
        }
        let refused = self.refused.iter().map(|refused| RefusedEntry {
            name: escape(refused.dest.as_bytes()),
            reason: escape_text(&refused.reason),
        });
        ResultGroup {
            hosts: hosts.iter().map(|host| &host.host).collect(),
            ending: self.ending(),
            words,
            refused: refused.collect(),
        }
    }

    /// How it ended; counts are those of each host.
    fn in_words(&self, hosts: usize) -> String {
        let each = if hosts == 1 { "" } else { " each" };
        let mut counts = Vec::new();
        let mut add = |number: usize, singular: &str, plural: &str| {
            if number > 0 {
                counts.push(format!("{}{each}", count(number, singular, plural)));
            }
        };
        add(self.changed, "change", "changes");
        add(self.adopted, "entry recorded", "entries recorded");
        add(self.skipped, "conflict skipped", "conflicts skipped");
        add(
            self.spared,
            "folder with something else in it kept",
            "folders with something else in them kept",
        );
        add(self.refused.len(), "entry refused", "entries refused");
        let done = counts.join(", ");
        let ended = match self.result {
            HostResult::Done if done.is_empty() => "done".to_owned(),
            HostResult::Unchanged if done.is_empty() => "nothing to do".to_owned(),
            HostResult::Done | HostResult::Unchanged => return done,
            HostResult::Conflicts(number) => {
                format!(
                    "left alone: {}{each}",
                    count(*number, "conflict", "conflicts")
                )
            }
            HostResult::Stale(why) => {
                format!("left alone, no longer as planned: {}", first_line(why))
            }
            HostResult::Unreachable(why) => format!("unreachable: {}", first_line(why)),
            HostResult::Failed(why) => format!("failed: {}", first_line(why)),
            HostResult::NotBegun => "not begun".to_owned(),
            HostResult::Interrupted => "interrupted before anything was put in place".to_owned(),
        };
        if done.is_empty() {
            ended
        } else {
            format!("{ended} (after {done})")
        }
    }
}

/// What is to be done about a host that is not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// Nothing but the same again: it was only interrupted.
    GoOn,
    /// To decide about its conflicts.
    Decide,
    /// To find the cause, and then the same again.
    Mend,
    /// The plan does not fit any more.
    Plan,
}

impl Next {
    /// In the order in which they are shown.
    const ALL: [Self; 4] = [Self::GoOn, Self::Decide, Self::Mend, Self::Plan];

    /// `None` for a host that is done.
    fn of(host: &HostReport) -> Option<Self> {
        match host.result {
            HostResult::Done | HostResult::Unchanged if host.refused.is_empty() => None,
            HostResult::NotBegun | HostResult::Interrupted => Some(Self::GoOn),
            HostResult::Conflicts(_) => Some(Self::Decide),
            HostResult::Stale(_) => Some(Self::Plan),
            HostResult::Done
            | HostResult::Unchanged
            | HostResult::Unreachable(_)
            | HostResult::Failed(_) => Some(Self::Mend),
        }
    }

    /// Why there is something to be done.
    fn why(self, words: &Wording) -> &'static str {
        match self {
            Self::GoOn => "To go on:",
            Self::Decide => words.decide,
            Self::Mend => "When the cause is gone, do these hosts again:",
            Self::Plan => "These need a new plan:",
        }
    }

    /// The same as [`Self::of`], but where doing it again has nothing for the host, it needs a new plan.
    fn with(host: &HostReport, again: &Again) -> Option<Self> {
        match Self::of(host) {
            Some(Self::Mend) if again.unseen.contains(&host.host) => Some(Self::Plan),
            next => next,
        }
    }

    /// The command for the hosts that need this; `None` where no host does.
    fn step(self, report: &Report, options: &ReportOptions<'_>) -> Option<NextStep> {
        let again = options.again;
        let hosts = report.hosts.iter();
        let names: Vec<&str> = hosts
            .filter(|host| Self::with(host, again) == Some(self))
            .map(|host| host.host.as_str())
            .collect();
        if names.is_empty() {
            return None;
        }
        let (verb, picked) = match self {
            Self::Plan => ("plan", &names[..]),
            _ if again.picks_hosts => (again.command.as_str(), &names[..]),
            _ => (again.command.as_str(), &[][..]),
        };
        Some(NextStep {
            why: self.why(Wording::of(report.back_to)),
            command: command(verb, picked, options.config),
        })
    }
}
