//! A plan in a terminal.

use super::page::Page;
use super::sections;
use super::style::{CREATE, DELETE, HEADING, PLAIN, QUIET, of_class};
use super::table::Row;
use crate::plan::Plan;
use crate::view::review::contents::{Content, ContentDiff, DiffLine, LineKind};
use crate::view::review::limits::{Limits, split_by_two_or_more};
use crate::view::review::places::{Destination, more_destinations};
use crate::view::review::plan::{ExposedFolder, Group, PlanCommand, PlanOptions, PlanReview};
use crate::view::review::rows::within;
use crate::view::width::{width_of, wrap_path};
use crate::view::words::count;

/// How a plan is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanView {
    /// Every entry on a line of its own, however many there are.
    pub full: bool,
    /// Columns of the terminal; `usize::MAX` for no limit.
    pub width: usize,
    /// Whether colours are used.
    pub color: bool,
    /// Whether no person is in front of it, who would need hints.
    pub automation: bool,
    /// Which command shows it.
    pub command: PlanCommand,
}

/// The plan as text that ends in a newline. Its last line is that of
/// [`summary_line`](crate::view::review::summary::summary_line).
pub fn render(plan: &Plan, options: &PlanView) -> String {
    let review = PlanReview::of(
        plan,
        PlanOptions {
            command: options.command,
            with_hints: !options.automation,
            alarms_apart: false,
            folds_folders: !options.full,
        },
    );
    let limits = Limits::of(options.full);
    let mut page = PlanPage {
        page: Page::new(options.width, options.color),
        limits,
    };
    if let Some(note) = review.note {
        page.page.paragraph(note, 0, PLAIN);
    }
    for ExposedFolder { folder, hosts } in &review.exposed {
        let text = ExposedFolder::in_words(folder, &hosts.in_words());
        page.page.paragraph(&text, 0, PLAIN);
    }
    for group in &review.groups {
        page.group(group);
    }
    sections::drift(&mut page.page, &review.drift, limits);
    page.adopted(&review);
    sections::errors(&mut page.page, &review.without_plan, limits.rows);
    sections::problems(&mut page.page, &review.problems);
    sections::remarks(&mut page.page, &review.remarks, limits.rows);
    page.legend(&review);
    if let Some(hint) = review.hint {
        page.page.section();
        page.page.paragraph(hint, 0, QUIET);
    }
    page.page.repeat_if_long(&review.summary);
    page.page.end(&review.summary)
}

struct PlanPage {
    page: Page,
    limits: Limits,
}

impl PlanPage {
    /// The changes of hosts that have the same ones.
    fn group(&mut self, group: &Group<'_>) {
        self.page.heading(&group.hosts.in_words());
        for (at, changes) in group.mappings.iter().enumerate() {
            self.destinations(&changes.destinations);
            let shown = within(&changes.rows, self.limits);
            let rows: Vec<Row<'_>> = shown
                .rows
                .into_iter()
                .map(|row| Row {
                    symbol: row.class.symbol(),
                    style: of_class(row.class),
                    name: &row.name,
                    detail: &row.detail,
                    reason: &row.reason,
                })
                .collect();
            self.page.table(&rows, 4);
            if let Some(more) = shown.left_out.more() {
                self.page.more(&more, 4);
            }
            // In the order of the rows above them.
            let diffs = group.diffs.iter();
            let mut diffs: Vec<_> = diffs.filter(|it| it.mapping == changes.mapping).collect();
            diffs.sort_by_key(|diff| diff.class);
            for diff in &diffs {
                self.diff(diff);
            }
            if !diffs.is_empty() && at + 1 < group.mappings.len() {
                self.page.section();
            }
        }
    }

    /// Where a mapping goes; where hosts differ in it, which goes where.
    fn destinations(&mut self, destinations: &[Destination<'_>]) {
        let (shown, rest) = split_by_two_or_more(destinations, self.limits.destinations);
        for destination in shown {
            self.destination(destination);
        }
        if !rest.is_empty() {
            self.page.more(&more_destinations(rest), 2);
        }
    }

    fn destination(&mut self, Destination { src, dest, hosts }: &Destination<'_>) {
        let on = hosts
            .as_ref()
            .map_or_else(String::new, |hosts| format!(" on {}", hosts.folded()));
        let Some(src) = src else {
            let width = self.page.width().saturating_sub(2);
            for part in wrap_path(&format!("{dest}{on}"), width) {
                self.page.line(format!("  {part}"));
            }
            return;
        };
        let line = format!("  {src} → {dest}{on}");
        if width_of(&line) <= self.page.width() {
            self.page.line(line);
            return;
        }
        let width = self.page.width().saturating_sub(6);
        for (lead, rest, text) in [("  ", "  ", src), ("    → ", "      ", dest)] {
            for (at, part) in wrap_path(text, width).iter().enumerate() {
                let lead = if at == 0 { lead } else { rest };
                self.page
                    .line(format!("{lead}{part}").trim_end().to_owned());
            }
        }
        if !on.is_empty() {
            self.page.paragraph(on.trim_start(), 6, PLAIN);
        }
    }

    /// How a content differs.
    fn diff(&mut self, ContentDiff { name, content, .. }: &ContentDiff<'_>) {
        self.page.section();
        match content {
            Content::Words { words, quote } => {
                let line = format!("{name}: {words}{quote}");
                self.page.paragraph(&line, 4, PLAIN);
            }
            Content::Lines {
                same_as: Some(earlier),
                ..
            } => {
                let line = format!("{name}: the same as for {}", earlier.folded());
                self.page.paragraph(&line, 4, PLAIN);
            }
            Content::Lines {
                lines,
                same_as: None,
            } => {
                self.page.paragraph(name, 4, HEADING);
                self.diff_lines(lines);
            }
        }
    }

    fn diff_lines(&mut self, lines: &[DiffLine]) {
        let (shown, rest) = split_by_two_or_more(lines, self.limits.diff_lines);
        for line in shown {
            let style = match line.kind {
                LineKind::Added => CREATE,
                LineKind::Removed => DELETE,
                LineKind::Frame => QUIET,
                LineKind::Context => PLAIN,
            };
            let painted = self.page.paint(&line.text, style);
            self.page.line(format!("    {painted}"));
        }
        if !rest.is_empty() {
            self.page
                .more(&count(rest.len(), "more line", "more lines"), 4);
        }
    }

    /// What is already right.
    fn adopted(&mut self, review: &PlanReview<'_>) {
        if let Some(adopted) = &review.adopted {
            self.page.section();
            let text = adopted.in_words(&adopted.hosts.folded());
            self.page.paragraph(&text, 0, PLAIN);
            if let Some(note) = adopted.note {
                self.page.paragraph(note, 0, PLAIN);
            }
        }
    }

    /// What the symbols mean.
    fn legend(&mut self, review: &PlanReview<'_>) {
        let legend = review.legend.iter();
        let parts: Vec<String> = legend
            .map(|class| {
                let symbol = self.page.paint(class.symbol(), of_class(*class));
                format!("{symbol} {}", class.meaning())
            })
            .collect();
        if !parts.is_empty() {
            self.page.section();
            self.page.line(parts.join("   "));
        }
    }
}

#[cfg(test)]
mod tests;
