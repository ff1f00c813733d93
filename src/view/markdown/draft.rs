//! A page as text, as much of it as is asked for.

use std::fmt::Write as _;

use super::markup::fence;
use super::page::{AlarmList, Block, Line, List, MappingRows, Page, ShownDiff, total};
use super::part::{Amounts, Part};
use crate::view::review::class::{Class, Numbers};
use crate::view::review::limits::{Limits, split};
use crate::view::review::rows::{Row, within};
use crate::view::width::{pad, width_of};
use crate::view::words::count;

/// Columns that names of a list are padded to at most.
const NAME_MAX: usize = 60;

/// So much of a page, or `None` where that is longer than `max_bytes`.
pub(super) fn draw(page: &Page<'_>, amounts: &Amounts, max_bytes: usize) -> Option<String> {
    let mut draft = Draft {
        amounts,
        max_bytes,
        text: String::new(),
        left_out: LeftOut::default(),
    };
    for alarms in &page.alarms {
        draft.alarms(alarms)?;
    }
    draft.blocks(&page.blocks)?;
    draft.left_out.drift = draft.folded_list(Part::Drift, &page.drift)?;
    draft.left_out.adopted = draft.adopted(&page.adopted)?;
    draft.left_out.hosts = draft.list(Part::Hosts, &page.hosts)?;
    draft.left_out.problems = draft.list(Part::Problems, &page.problems)?;
    draft.left_out.remarks = draft.list(Part::Remarks, &page.remarks)?;

    let mut text = page.head.clone();
    if let Some(left_out) = draft.left_out.in_words() {
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\nNot everything fits into {max_bytes} bytes. Left out: {left_out}.\n"
        );
    }
    text.push_str(&draft.text);
    (text.len() <= max_bytes).then_some(text)
}

/// The text below the head, as it grows. Methods end with `None` as soon as it is too long.
struct Draft<'a> {
    amounts: &'a Amounts,
    max_bytes: usize,
    text: String,
    left_out: LeftOut,
}

impl Draft<'_> {
    fn amount(&self, part: Part) -> usize {
        self.amounts[part as usize]
    }

    /// What is shown of a list, and what is cut.
    fn split<'l, T>(&self, part: Part, items: &'l [T]) -> (&'l [T], &'l [T]) {
        split(items, self.amount(part))
    }

    /// Adds a paragraph, a list or something else that stands alone.
    fn section(&mut self, text: &str) -> Option<()> {
        self.text.push('\n');
        self.line(text)
    }

    fn line(&mut self, text: &str) -> Option<()> {
        self.text.push_str(text);
        self.text.push('\n');
        (self.text.len() <= self.max_bytes).then_some(())
    }

    fn items(&mut self, lines: &[Line]) -> Option<()> {
        self.text.push('\n');
        lines
            .iter()
            .try_for_each(|line| self.line(&format!("- {}", line.text)))
    }

    fn open(&mut self, summary: &str) -> Option<()> {
        self.section(&format!("<details><summary>{summary}</summary>"))
    }

    fn close(&mut self) -> Option<()> {
        self.section("</details>")
    }

    /// Conflicts, or deletes: a few in sight, many more to be opened.
    fn alarms(&mut self, AlarmList { class, note, lines }: &AlarmList) -> Option<()> {
        let part = match class {
            Class::Conflict => Part::Conflicts,
            _ => Part::Deletes,
        };
        self.section(&format!("#### {}", class.number(total(lines))))?;
        if let Some(note) = note {
            self.section(note)?;
        }
        let (shown, cut) = self.split(part, lines);
        let (in_sight, others) = split(shown, Limits::SHORT.alarms);
        if !in_sight.is_empty() {
            self.items(in_sight)?;
        }
        if !others.is_empty() {
            self.open(&format!("{} more", total(others)))?;
            self.items(others)?;
            self.close()?;
        }
        if !cut.is_empty() {
            let more = match shown {
                [] => "None of them is shown.".to_owned(),
                _ => format!("… and {} more", total(cut)),
            };
            self.section(&more)?;
            self.left_out.changes.add(*class, total(cut));
        }
        Some(())
    }

    fn blocks(&mut self, blocks: &[Block<'_>]) -> Option<()> {
        let (shown, cut) = self.split(Part::Blocks, blocks);
        for block in shown {
            self.open(&block.title)?;
            for mapping in &block.mappings {
                self.rows(mapping, block.number_of_hosts)?;
            }
            self.diffs(&block.diffs)?;
            self.close()?;
        }
        for block in cut {
            for (class, number) in block.numbers.iter() {
                let number = number * block.number_of_hosts;
                self.left_out.changes.add(class, number);
            }
            self.left_out.diffs += block.diffs.len();
        }
        if cut.is_empty() {
            return Some(());
        }
        let hosts: usize = cut.iter().map(|block| block.number_of_hosts).sum();
        self.section(&format!(
            "… and changes of {}",
            count(hosts, "more host", "more hosts")
        ))
    }

    fn rows(&mut self, mapping: &MappingRows<'_>, hosts: usize) -> Option<()> {
        let limits = Limits {
            rows: self.amount(Part::Rows),
            ..Limits::SHORT
        };
        let shown = within(mapping.rows, limits);
        self.section(&mapping.title)?;
        self.section(&fence("diff", &lines(&shown.rows)))?;
        for (class, number) in shown.left_out.iter() {
            self.left_out.changes.add(class, number * hosts);
        }
        match shown.left_out.more() {
            Some(more) => self.section(&format!("… and {more}")),
            None => Some(()),
        }
    }

    /// How contents differ.
    fn diffs(&mut self, diffs: &[ShownDiff]) -> Option<()> {
        let amount = self.amount(Part::Diffs);
        let (shown, cut): (Vec<_>, Vec<_>) = diffs.iter().partition(|diff| diff.rank < amount);
        for diff in shown {
            self.section(&diff.text)?;
        }
        if cut.is_empty() {
            return Some(());
        }
        self.left_out.diffs += cut.len();
        self.section(&format!(
            "… and {}",
            count(cut.len(), "more diff", "more diffs")
        ))
    }

    /// A list in sight. The result tells how much is left out.
    fn list(&mut self, part: Part, List { title, lines }: &List) -> Option<usize> {
        let (shown, cut) = self.split(part, lines);
        if !shown.is_empty() {
            self.section(&format!("#### {title}"))?;
            self.items(shown)?;
            self.and_more(cut)?;
        }
        Some(total(cut))
    }

    /// A list to be opened. The result tells how much is left out.
    fn folded_list(&mut self, part: Part, List { title, lines }: &List) -> Option<usize> {
        let (shown, cut) = self.split(part, lines);
        if !shown.is_empty() {
            self.open(title)?;
            self.items(shown)?;
            self.and_more(cut)?;
            self.close()?;
        }
        Some(total(cut))
    }

    fn and_more(&mut self, cut: &[Line]) -> Option<()> {
        if cut.is_empty() {
            return Some(());
        }
        self.section(&format!("… and {} more", total(cut)))
    }

    /// What is already right. The result tells how much is left out.
    fn adopted(&mut self, lines: &[Line]) -> Option<usize> {
        let (shown, cut) = self.split(Part::Adopted, lines);
        for line in shown {
            self.section(&line.text)?;
        }
        Some(total(cut))
    }
}

/// What did not fit.
#[derive(Default)]
struct LeftOut {
    /// On all hosts.
    changes: Numbers,
    diffs: usize,
    drift: usize,
    adopted: usize,
    problems: usize,
    remarks: usize,
    hosts: usize,
}

impl LeftOut {
    /// `None` when everything fits.
    fn in_words(&self) -> Option<String> {
        let mut parts: Vec<String> = self.changes.each().collect();
        for (number, singular, plural) in [
            (self.diffs, "diff", "diffs"),
            (
                self.drift,
                "entry changed on a host",
                "entries changed on hosts",
            ),
            (self.adopted, "entry to record", "entries to record"),
            (
                self.problems,
                "entry that cannot be sent",
                "entries that cannot be sent",
            ),
            (self.remarks, "remark", "remarks"),
            (self.hosts, "host without a plan", "hosts without a plan"),
        ] {
            if number > 0 {
                parts.push(count(number, singular, plural));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

/// Rows as lines: columns as wide as their cells, within reason.
fn lines(rows: &[&Row]) -> String {
    let widest = |cell: fn(&Row) -> &str| rows.iter().map(|row| width_of(cell(row))).max();
    let name = widest(|row| &row.name).unwrap_or(0).min(NAME_MAX);
    let detail = widest(|row| &row.detail).unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let mut line = format!("{} {}", row.class.symbol(), pad(&row.name, name));
        if detail > 0 {
            line.push_str("  ");
            line.push_str(&pad(&row.detail, detail));
        }
        line.push_str("  ");
        line.push_str(&row.reason);
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}
