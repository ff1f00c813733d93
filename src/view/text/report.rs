//! What an apply did, in a terminal.

use anstyle::Style;

use super::page::Page;
use super::style::{ALARM, PLAIN, QUIET, UPDATE};
use super::table::Row;
use crate::apply::Report;
use crate::view::review::limits::{Limits, split};
use crate::view::review::report::{Again, Ending, ReportOptions, ReportReview, ResultGroup};

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
    /// How the hosts that are not done are done again.
    pub again: Again,
}

/// The report as text that ends in a newline. Its last line is that of
/// [`summary_line`](crate::view::review::report::summary_line).
pub fn render(report: &Report, options: &ReportView) -> String {
    let review = ReportReview::of(
        report,
        &ReportOptions {
            with_hints: !options.automation,
            config: options.config.as_deref(),
            again: &options.again,
        },
    );
    let limits = Limits::of(options.full);
    let mut page = Page::new(options.width, options.color);
    for group in &review.groups {
        show_group(&mut page, group, limits);
    }
    if let Some(note) = review.note {
        page.section();
        page.paragraph(note, 0, QUIET);
    }
    for next in &review.next {
        page.section();
        page.paragraph(next.why, 0, QUIET);
        // Never broken: it is there to be copied.
        page.line(format!("  {}", next.command));
    }
    page.end(&review.summary)
}

fn show_group(page: &mut Page, group: &ResultGroup<'_>, limits: Limits) {
    let text = format!("{}: {}", group.hosts.in_words(), group.words);
    page.paragraph(&text, 0, style_of(group.ending));
    let (shown, rest) = split(&group.refused, limits.rows);
    let rows: Vec<Row<'_>> = shown
        .iter()
        .map(|refused| Row {
            symbol: "!",
            style: ALARM,
            name: &refused.name,
            detail: "",
            reason: &refused.reason,
        })
        .collect();
    page.table(&rows, 2);
    if !rest.is_empty() {
        page.more(&format!("{} more", rest.len()), 2);
    }
}

fn style_of(ending: Ending) -> Style {
    match ending {
        Ending::Unchanged => QUIET,
        Ending::Done => PLAIN,
        Ending::DoneInPart | Ending::NotBegun | Ending::Interrupted => UPDATE,
        Ending::Conflicts | Ending::Stale | Ending::Unreachable | Ending::Failed => ALARM,
    }
}

#[cfg(test)]
mod tests;
