//! What an apply did, for people.
//!
//! Hosts with equal results share a line. Those that need somebody's attention stand at the end,
//! with the commands that pick them again.

use std::fmt::Write as _;
use std::path::Path;

use anstyle::Style;

use super::host_ranges::fold_hosts;
use super::style::{ALARM, HEADING, PLAIN, QUIET, UPDATE, paint};
use super::table::{self, Row};
use super::text::{count, duration, escape, escape_text, size};
use crate::apply::{HostReport, HostResult, Refused, Report};
use crate::model::HostId;

/// Entries of one host that are listed one by one, unless everything is asked for.
const LIST_MAX: usize = 20;
/// Hosts that are named one by one in a command to be copied.
const PICK_MAX: usize = 20;

const KEEPS_PART: &str =
    "What arrived of large files stays on the host; the next apply goes on with it.";

/// How a report is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportView {
    /// Every entry, however many there are.
    pub full: bool,
    /// Columns of the terminal; `usize::MAX` for no limit.
    pub width: usize,
    /// Whether colours are used.
    pub color: bool,
    /// Whether no person is in front of it, who would need hints.
    pub automation: bool,
    /// The `--config` value that commands to be copied repeat; `None` where they need none.
    pub config: Option<String>,
    /// The saved plan that was carried out.
    pub plan_file: Option<PlanFile>,
    /// What is to be known of a rollback.
    pub rollback: Option<RollbackView>,
}

/// A rollback, as far as people want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackView {
    /// The serial that hosts go back to.
    pub to: u64,
    /// The subcommand, with the options that say what is undone.
    pub command: String,
}

/// A saved plan, as far as people want to know what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanFile {
    /// The file, as it was named.
    pub path: String,
    /// Hosts that it has nothing for, since they could not be looked at.
    pub unseen: Vec<HostId>,
}

/// The report as text that ends in a newline. Its last line is [`summary_line`].
pub fn render(report: &Report, options: &ReportView) -> String {
    let mut groups: Vec<(Outcome<'_>, Vec<&HostReport>)> = Vec::new();
    for host in &report.hosts {
        let outcome = Outcome::of(host);
        match groups.iter_mut().find(|(other, _)| *other == outcome) {
            Some((_, hosts)) => hosts.push(host),
            None => groups.push((outcome, vec![host])),
        }
    }
    // What went well first; what is read last is what needs attention.
    groups.sort_by_key(|(outcome, _)| outcome.class());

    let mut lines = Vec::new();
    for (outcome, hosts) in &groups {
        show_group(&mut lines, outcome, hosts, options);
    }
    if report.hosts.iter().any(|host| host.keeps_part) {
        let (width, color) = (options.width, options.color);
        lines.push(String::new());
        lines.extend(table::paragraph(KEEPS_PART, 0, width, QUIET, color));
    }
    if !options.automation {
        for next in Next::ALL {
            next.show(&mut lines, report, options);
        }
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    let back_to = options.rollback.as_ref().map(|rollback| rollback.to);
    lines.push(paint(
        &summary_line(report, back_to),
        HEADING,
        options.color,
    ));
    let mut text = lines.join("\n");
    text.push('\n');
    text
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
pub fn summary_line(report: &Report, back_to: Option<u64>) -> String {
    let changed: usize = report.hosts.iter().map(|host| host.changed).sum();
    let touched = report.hosts.iter().filter(|host| host.changed > 0).count();
    let sent = report
        .hosts
        .iter()
        .fold(0_u64, |sum, host| sum.saturating_add(host.sent_bytes));
    let is_open = report.hosts.iter().any(|host| Next::of(host).is_some());
    let what = match (changed == 0 && is_open, back_to) {
        (false, None) => "Applied".to_owned(),
        (true, None) => "Nothing applied".to_owned(),
        (false, Some(serial)) => format!("Rolled back to {serial}"),
        (true, Some(_)) => "Nothing rolled back".to_owned(),
    };
    let mut line = format!(
        "{what}: {} on {} in {}",
        count(changed, "change", "changes"),
        count(touched, "host", "hosts"),
        duration(report.elapsed),
    );
    if back_to.is_none() {
        let _ = write!(line, " ({} sent)", size(sent));
    }
    if let Some(serial) = report.serial {
        // Writing to a String cannot fail.
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

/// What hosts must have in common to share a line.
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

    fn class(&self) -> u8 {
        match self.result {
            HostResult::Unchanged => 0,
            HostResult::Done if self.refused.is_empty() => 1,
            HostResult::Done => 2,
            HostResult::NotBegun => 3,
            HostResult::Interrupted => 4,
            HostResult::Conflicts(_) => 5,
            HostResult::Stale(_) => 6,
            HostResult::Unreachable(_) => 7,
            HostResult::Failed(_) => 8,
        }
    }

    fn style(&self) -> Style {
        match self.result {
            HostResult::Unchanged => QUIET,
            HostResult::Done if self.refused.is_empty() => PLAIN,
            HostResult::Done | HostResult::NotBegun | HostResult::Interrupted => UPDATE,
            HostResult::Conflicts(_)
            | HostResult::Stale(_)
            | HostResult::Unreachable(_)
            | HostResult::Failed(_) => ALARM,
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
            HostResult::Stale(why) => format!("left alone, no longer as planned: {}", line_of(why)),
            HostResult::Unreachable(why) => format!("unreachable: {}", line_of(&why.to_string())),
            HostResult::Failed(why) => format!("failed: {}", line_of(&why.to_string())),
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

fn show_group(
    lines: &mut Vec<String>,
    outcome: &Outcome<'_>,
    hosts: &[&HostReport],
    options: &ReportView,
) {
    let names: Vec<String> = hosts
        .iter()
        .map(|host| escape(host.host.as_str().as_bytes()))
        .collect();
    let mut text = fold_hosts(names.iter().map(String::as_str)).join(", ");
    if hosts.len() > 1 {
        text = format!("{text} ({} hosts)", hosts.len());
    }
    text = format!("{text}: {}", outcome.in_words(hosts.len()));
    let sent = hosts
        .iter()
        .fold(0_u64, |sum, host| sum.saturating_add(host.sent_bytes));
    if sent > 0 {
        let in_all = if hosts.len() > 1 { " in all" } else { "" };
        text = format!("{text}, {} sent{in_all}", size(sent));
    }
    let (width, color) = (options.width, options.color);
    lines.extend(table::paragraph(&text, 0, width, outcome.style(), color));

    let shown = if options.full {
        outcome.refused.len()
    } else {
        outcome.refused.len().min(LIST_MAX)
    };
    let rows: Vec<Row> = outcome.refused[..shown]
        .iter()
        .map(|refused| Row {
            symbol: "!",
            style: ALARM,
            name: escape(refused.dest.as_bytes()),
            detail: String::new(),
            reason: escape_text(&refused.reason),
        })
        .collect();
    lines.extend(table::lines(&rows, 2, width, color));
    if shown < outcome.refused.len() {
        let more = outcome.refused.len() - shown;
        let text = format!("… and {more} more; --full shows them");
        lines.extend(table::paragraph(&text, 2, width, QUIET, color));
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

    fn in_words(self) -> &'static str {
        match self {
            Self::GoOn => "To go on:",
            Self::Decide => {
                "To decide about conflicts, on a terminal (it asks) or with `--on-conflict`:"
            }
            Self::Mend => "When the cause is gone, do these hosts again:",
            Self::Plan => "These need a new plan:",
        }
    }

    /// The command that does it.
    fn verb(self) -> &'static str {
        match self {
            Self::GoOn | Self::Decide | Self::Mend => "apply",
            Self::Plan => "plan",
        }
    }

    /// The same where a saved plan was carried out: a host that it has nothing for needs another one.
    fn with(host: &HostReport, options: &ReportView) -> Option<Self> {
        let lacks = |file: &PlanFile| file.unseen.contains(&host.host);
        match Self::of(host) {
            Some(Self::Mend) if options.plan_file.as_ref().is_some_and(lacks) => Some(Self::Plan),
            next => next,
        }
    }

    /// What to do about the hosts that need this, with a command to be copied.
    fn show(self, lines: &mut Vec<String>, report: &Report, options: &ReportView) {
        let hosts = report.hosts.iter();
        let names: Vec<&str> = hosts
            .filter(|host| Self::with(host, options) == Some(self))
            .map(|host| host.host.as_str())
            .collect();
        if names.is_empty() {
            return;
        }
        lines.push(String::new());
        let (width, color) = (options.width, options.color);
        let text = match (self, &options.rollback) {
            (Self::Decide, Some(_)) => "To decide about conflicts, on a terminal (it asks):",
            _ => self.in_words(),
        };
        lines.extend(table::paragraph(text, 0, width, QUIET, color));
        // Never broken: it is there to be copied.
        let config = options.config.as_deref();
        let command = match &options.plan_file {
            // Hosts that are done are left out by themselves.
            Some(file) if self != Self::Plan => again(&file.path, config),
            _ => {
                let back = options.rollback.as_ref();
                let verb = back.map_or(self.verb(), |back| &back.command);
                command(verb, &names, config)
            }
        };
        lines.push(format!("  {command}"));
    }
}

/// The command that goes on with a saved plan.
fn again(path: &str, config: Option<&str>) -> String {
    format!(
        "hostsync {}apply {}",
        config_option(config),
        shell_word(path)
    )
}

/// `hostsync `, with the option that names the configuration where there has to be one.
pub fn command_start(config: Option<&Path>) -> String {
    let config = config.map(|path| path.display().to_string());
    format!("hostsync {}", config_option(config.as_deref()))
}

fn config_option(config: Option<&str>) -> String {
    config.map_or(String::new(), |path| {
        format!("--config {} ", shell_word(path))
    })
}

/// The command that does just these hosts.
fn command(verb: &str, names: &[&str], config: Option<&str>) -> String {
    // A name is a pattern there, so what would be special in one must not be in it either.
    let harmless = |name: &&str| {
        !name.starts_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-:%@".contains(&byte))
    };
    let limit = if names.len() > PICK_MAX || !names.iter().all(harmless) {
        "PATTERN".to_owned()
    } else {
        names.join(" --limit ")
    };
    let config = config_option(config);
    format!("hostsync {config}{verb} --limit {limit}")
}

/// A path or pattern as one word of a shell; `PATH` for one that could not be shown on a line.
pub fn shell_word(path: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+=:,@%".contains(&byte);
    if escape_text(path) != path {
        "PATH".to_owned()
    } else if !path.is_empty() && path.bytes().all(is_plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

fn line_of(text: &str) -> String {
    escape_text(text.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use std::time::Duration;

    use super::*;
    use crate::model::{HostId, RelPath};

    fn host(name: &str, result: HostResult, changed: usize) -> HostReport {
        HostReport {
            host: HostId::new(name),
            result,
            changed,
            adopted: 0,
            refused: Vec::new(),
            skipped: 0,
            spared: 0,
            sent_bytes: changed as u64 * 1024,
            keeps_part: false,
            elapsed: Duration::from_secs(1),
        }
    }

    fn refused(n: usize) -> Refused {
        Refused {
            mapping: 0,
            path: RelPath::root(),
            dest: format!("/x{n}"),
            reason: "moved".to_owned(),
            moved: true,
        }
    }

    fn report(hosts: Vec<HostReport>) -> Report {
        Report {
            serial: Some(7),
            hosts,
            interrupted: false,
            elapsed: Duration::from_millis(2140),
        }
    }

    fn shown(report: &Report) -> String {
        let options = ReportView {
            full: false,
            width: 80,
            color: false,
            automation: false,
            config: None,
            plan_file: None,
            rollback: None,
        };
        render(report, &options)
    }

    #[test]
    fn equal_results_share_a_line_and_failures_stand_last() {
        let mut refusing = host("db1", HostResult::Done, 2);
        refusing.refused.push(Refused {
            mapping: 0,
            path: RelPath::new("x").unwrap(),
            dest: "/srv/app/x".to_owned(),
            reason: "changed meanwhile".to_owned(),
            moved: false,
        });
        let report = report(vec![
            host("web9", HostResult::Failed("no space left\nmore".into()), 1),
            host("web1", HostResult::Done, 5),
            host("web2", HostResult::Done, 5),
            refusing,
            host("web4", HostResult::Unchanged, 0),
            host("web5", HostResult::Unreachable("login refused".into()), 0),
            host("web6", HostResult::Conflicts(2), 0),
        ]);
        assert_eq!(
            shown(&report),
            "\
web4: nothing to do
web[1-2] (2 hosts): 5 changes each, 10.0 KiB sent in all
db1: 2 changes, 1 entry refused, 2.0 KiB sent
  ! /srv/app/x  changed meanwhile
web6: left alone: 2 conflicts
web5: unreachable: login refused
web9: failed: no space left (after 1 change), 1.0 KiB sent

To decide about conflicts, on a terminal (it asks) or with `--on-conflict`:
  hostsync apply --limit web6

When the cause is gone, do these hosts again:
  hostsync apply --limit web9 --limit db1 --limit web5

Applied: 13 changes on 4 hosts in 2.1 s (13.0 KiB sent), serial 7; 1 entry refused; 1 host with conflicts left alone; 1 host unreachable; 1 host failed.
"
        );
    }

    #[test]
    fn success_ends_in_the_line_people_search_for() {
        let report = report(vec![host("a", HostResult::Done, 15)]);
        assert_eq!(
            shown(&report),
            "a: 15 changes, 15.0 KiB sent\n\n\
             Applied: 15 changes on 1 host in 2.1 s (15.0 KiB sent), serial 7.\n"
        );
    }

    #[test]
    fn interrupted_hosts_only_have_to_be_gone_on_with() {
        let mut report = report(vec![
            host("a", HostResult::NotBegun, 0),
            HostReport {
                sent_bytes: 5 * 1024,
                keeps_part: true,
                ..host("b", HostResult::Interrupted, 0)
            },
        ]);
        report.serial = None;
        report.interrupted = true;
        assert_eq!(
            shown(&report),
            "\
a: not begun
b: interrupted before anything was put in place, 5.0 KiB sent

What arrived of large files stays on the host; the next apply goes on with it.

To go on:
  hostsync apply --limit a --limit b

Nothing applied: 0 changes on 0 hosts in 2.1 s (5.0 KiB sent); 1 host not begun; 1 host interrupted.
"
        );
    }

    #[test]
    fn summary_of_an_apply_that_did_nothing_does_not_read_as_success() {
        let start_of = |host: HostReport| {
            let line = summary_line(&report(vec![host]), None);
            line.split_once(':').unwrap().0.to_owned()
        };
        let failed = || HostResult::Failed("x".into());
        for result in [
            failed(),
            HostResult::Unreachable("x".into()),
            HostResult::Stale("x".to_owned()),
            HostResult::Conflicts(1),
        ] {
            assert_eq!(start_of(host("a", result, 0)), "Nothing applied");
        }
        let refusing = HostReport {
            refused: vec![refused(0)],
            ..host("a", HostResult::Done, 0)
        };
        assert_eq!(start_of(refusing), "Nothing applied");
        assert_eq!(start_of(host("a", failed(), 1)), "Applied");
        assert_eq!(start_of(host("a", HostResult::Unchanged, 0)), "Applied");
    }

    #[test]
    fn command_to_be_copied_names_the_configuration_as_a_shell_reads_it() {
        let command_with = |config: &str| {
            let options = ReportView {
                full: false,
                width: 80,
                color: false,
                automation: false,
                config: Some(config.to_owned()),
                plan_file: None,
                rollback: None,
            };
            let failed = host("a", HostResult::Failed("x".into()), 0);
            let text = render(&report(vec![failed]), &options);
            let line = text.lines().find(|line| line.starts_with("  hostsync"));
            line.unwrap().trim().to_owned()
        };
        for (config, word) in [
            ("/srv/infra/config.ini", "/srv/infra/config.ini"),
            ("my sites/c.ini", "'my sites/c.ini'"),
            ("it's/$HOME.ini", r"'it'\''s/$HOME.ini'"),
            ("~/literally", "'~/literally'"),
            ("a\nb\u{1b}[2J", "PATH"),
        ] {
            assert_eq!(
                command_with(config),
                format!("hostsync --config {word} apply --limit a")
            );
        }
    }

    #[test]
    fn command_to_pick_hosts_again_holds_only_harmless_names() {
        let failed = |name: &str| host(name, HostResult::Failed("x".into()), 0);
        let text = shown(&report(vec![failed("$(reboot)\u{1b}[1m")]));
        assert!(!text.contains("--limit $"), "{text}");
        assert!(text.contains("--limit PATTERN"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let many = (0..21).map(|n| failed(&format!("h{n}"))).collect();
        assert!(shown(&report(many)).contains("--limit PATTERN"));
    }

    #[test]
    fn many_refused_entries_are_folded() {
        let mut host = host("a", HostResult::Done, 0);
        host.refused = (0..30).map(refused).collect();
        let report = report(vec![host]);
        assert!(shown(&report).contains("… and 10 more; --full shows them"));
    }
}
