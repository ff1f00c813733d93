//! What an apply did, for people.
//!
//! Hosts with equal results share a line. Those that need somebody's attention stand at the end,
//! with the command that picks them again.

use std::fmt::Write as _;

use anstyle::Style;

use super::host_ranges::fold_hosts;
use super::style::{ALARM, HEADING, PLAIN, QUIET, UPDATE, paint};
use super::table::{self, Row};
use super::text::{count, duration, escape, escape_text, size};
use crate::apply::{HostReport, HostResult, Refused, Report};

/// Entries of one host that are listed one by one, unless everything is asked for.
const LIST_MAX: usize = 20;
/// Hosts that are named one by one in a command to be copied.
const PICK_MAX: usize = 20;

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
    if !options.automation
        && let Some(command) = pick_again(report)
    {
        lines.push(String::new());
        let hint = "When the cause is gone, do these hosts again:";
        lines.push(paint(hint, QUIET, options.color));
        // Never broken: it is there to be copied.
        lines.push(format!("  {command}"));
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines.push(paint(&summary_line(report), HEADING, options.color));
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// The report in one line that can be read alone and whose form is kept, since people search for it.
pub fn summary_line(report: &Report) -> String {
    let changed: usize = report.hosts.iter().map(|host| host.changed).sum();
    let touched = report.hosts.iter().filter(|host| host.changed > 0).count();
    let sent = report
        .hosts
        .iter()
        .fold(0_u64, |sum, host| sum.saturating_add(host.sent_bytes));
    let mut line = format!(
        "Applied: {} on {} in {} ({} sent)",
        count(changed, "change", "changes"),
        count(touched, "host", "hosts"),
        duration(report.elapsed),
        size(sent)
    );
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
    ] {
        if number > 0 {
            line.push_str("; ");
            line.push_str(&count(number, singular, plural));
        }
    }
    if report.interrupted {
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
    refused: &'a [Refused],
}

impl<'a> Outcome<'a> {
    fn of(host: &'a HostReport) -> Self {
        Self {
            result: &host.result,
            changed: host.changed,
            adopted: host.adopted,
            skipped: host.skipped,
            refused: &host.refused,
        }
    }

    fn class(&self) -> u8 {
        match self.result {
            HostResult::Unchanged => 0,
            HostResult::Done if self.refused.is_empty() => 1,
            HostResult::Done => 2,
            HostResult::NotBegun => 3,
            HostResult::Conflicts(_) => 4,
            HostResult::Stale(_) => 5,
            HostResult::Unreachable(_) => 6,
            HostResult::Failed(_) => 7,
        }
    }

    fn style(&self) -> Style {
        match self.result {
            HostResult::Unchanged => QUIET,
            HostResult::Done if self.refused.is_empty() => PLAIN,
            HostResult::Done | HostResult::NotBegun => UPDATE,
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
            HostResult::Unreachable(why) => format!("unreachable: {}", line_of(why)),
            HostResult::Failed(why) => format!("failed: {}", line_of(why)),
            HostResult::NotBegun => "not begun".to_owned(),
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
        text = format!("{text}, {} sent", size(sent));
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

/// The command that does just those hosts again that are not done.
fn pick_again(report: &Report) -> Option<String> {
    let open: Vec<&str> = report
        .hosts
        .iter()
        .filter(|host| match host.result {
            HostResult::Done | HostResult::Unchanged => !host.refused.is_empty(),
            HostResult::Conflicts(_)
            | HostResult::Stale(_)
            | HostResult::Unreachable(_)
            | HostResult::Failed(_)
            | HostResult::NotBegun => true,
        })
        .map(|host| host.host.as_str())
        .collect();
    let harmless = |name: &&str| {
        !name.starts_with('-')
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-:%@".contains(&byte))
    };
    if open.is_empty() {
        None
    } else if open.len() > PICK_MAX || !open.iter().all(harmless) {
        Some("hostsync apply --limit PATTERN".to_owned())
    } else {
        Some(format!("hostsync apply --limit {}", open.join(" --limit ")))
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
            sent_bytes: changed as u64 * 1024,
            elapsed: Duration::from_secs(1),
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
            host(
                "web9",
                HostResult::Failed("no space left\nmore".to_owned()),
                1,
            ),
            host("web1", HostResult::Done, 5),
            host("web2", HostResult::Done, 5),
            refusing,
            host("web4", HostResult::Unchanged, 0),
            host(
                "web5",
                HostResult::Unreachable("login refused".to_owned()),
                0,
            ),
            host("web6", HostResult::Conflicts(2), 0),
        ]);
        assert_eq!(
            shown(&report),
            "\
web4: nothing to do
web[1-2] (2 hosts): 5 changes each, 10.0 KiB sent
db1: 2 changes, 1 entry refused, 2.0 KiB sent
  ! /srv/app/x  changed meanwhile
web6: left alone: 2 conflicts
web5: unreachable: login refused
web9: failed: no space left (after 1 change), 1.0 KiB sent

When the cause is gone, do these hosts again:
  hostsync apply --limit web9 --limit db1 --limit web5 --limit web6

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
    fn interruption_and_missing_serial_show_in_the_summary() {
        let mut report = report(vec![host("a", HostResult::NotBegun, 0)]);
        report.serial = None;
        report.interrupted = true;
        assert_eq!(
            summary_line(&report),
            "Applied: 0 changes on 0 hosts in 2.1 s (0 B sent); 1 host not begun; interrupted."
        );
    }

    #[test]
    fn command_to_pick_hosts_again_holds_only_harmless_names() {
        let failed = |name: &str| host(name, HostResult::Failed("x".to_owned()), 0);
        let text = shown(&report(vec![failed("$(reboot)\u{1b}[1m")]));
        assert!(!text.contains("--limit $"), "{text}");
        assert!(text.contains("--limit PATTERN"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
        let many = (0..21).map(|n| failed(&format!("h{n}"))).collect();
        assert!(shown(&report(many)).contains("--limit PATTERN"));
    }

    #[test]
    fn many_refused_entries_are_folded() {
        let refused = |n: usize| Refused {
            mapping: 0,
            path: RelPath::root(),
            dest: format!("/x{n}"),
            reason: "moved".to_owned(),
            moved: true,
        };
        let mut host = host("a", HostResult::Done, 0);
        host.refused = (0..30).map(refused).collect();
        let report = report(vec![host]);
        assert!(shown(&report).contains("… and 10 more; --full shows them"));
    }
}
