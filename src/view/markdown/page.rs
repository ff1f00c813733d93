//! Everything of a plan that may be shown, as pieces of Markdown.

use super::markup::{code, fence, html_code};
use super::part::{Amounts, Part};
use crate::model::Blake3;
use crate::view::review::class::{Class, Numbers};
use crate::view::review::contents::{Content, ContentDiff};
use crate::view::review::entries::{EntryOnHosts, by_entry};
use crate::view::review::hosts::Hosts;
use crate::view::review::limits::{Limits, split_by_two_or_more};
use crate::view::review::places::{Destination, more_destinations};
use crate::view::review::plan::{
    Adopted, Alarms, ExposedFolder, Group, MappingChanges, PlanReview, short,
};
use crate::view::review::rows::Row;
use crate::view::words::count;

/// First line of the Markdown, which nobody sees: by it a job finds its comment again.
pub const MARKER: &str = "<!-- hostsync plan -->";

/// Bytes of host names after which the others are counted.
const HOSTS_MAX: usize = 200;

/// An item of a list, and how many it stands for.
pub(super) struct Line {
    pub(super) text: String,
    pub(super) number: usize,
}

/// How many these stand for.
pub(super) fn total(lines: &[Line]) -> usize {
    lines.iter().map(|line| line.number).sum()
}

/// A list under a title.
pub(super) struct List {
    pub(super) title: String,
    pub(super) lines: Vec<Line>,
}

/// Conflicts, or deletes.
pub(super) struct AlarmList {
    pub(super) class: Class,
    pub(super) note: Option<&'static str>,
    pub(super) lines: Vec<Line>,
}

/// Hosts that have the same changes.
pub(super) struct Block<'a> {
    /// The hosts, with what happens there besides conflicts and deletes.
    pub(super) title: String,
    pub(super) number_of_hosts: usize,
    /// On each of the hosts.
    pub(super) numbers: Numbers,
    pub(super) mappings: Vec<MappingRows<'a>>,
    pub(super) diffs: Vec<ShownDiff>,
}

/// The changes of one mapping, without conflicts and deletes.
pub(super) struct MappingRows<'a> {
    /// Where it goes.
    pub(super) title: String,
    pub(super) rows: &'a [Row],
}

/// How a content differs.
pub(super) struct ShownDiff {
    pub(super) text: String,
    /// How many smaller ones there are: small ones are left out last.
    pub(super) rank: usize,
}

/// Everything that may be shown.
pub(super) struct Page<'a> {
    /// Title, summary and what holds for all of it.
    pub(super) head: String,
    pub(super) alarms: Vec<AlarmList>,
    pub(super) blocks: Vec<Block<'a>>,
    pub(super) drift: List,
    pub(super) adopted: Vec<Line>,
    pub(super) hosts: List,
    pub(super) problems: List,
    pub(super) remarks: List,
}

impl<'a> Page<'a> {
    pub(super) fn of(review: &'a PlanReview<'_>, digest: Blake3) -> Self {
        let drift: Vec<Line> = by_entry(&review.drift.items).iter().map(Line::of).collect();
        let hosts = review.without_plan.items.iter().map(|errors| Line {
            text: format!(
                "{} {}: {}",
                with_count(&errors.hosts),
                errors.how,
                code(&errors.error)
            ),
            number: errors.hosts.number(),
        });
        let problems = review.problems.items.iter().flat_map(|problems| {
            let on = with_count(&problems.hosts);
            let number = problems.hosts.number();
            let entries = problems.entries.iter();
            entries.map(move |entry| Line {
                text: format!("{} for {on}", code(entry)),
                number,
            })
        });
        let remarks = review.remarks.items.iter().map(|remark| Line {
            text: code(remark),
            number: 1,
        });
        let mut page = Self {
            head: head(review, digest),
            alarms: review.alarms.iter().map(AlarmList::of).collect(),
            blocks: review.groups.iter().map(Block::of).collect(),
            drift: List {
                title: format!(
                    "{}: {}",
                    review.drift.title,
                    count(total(&drift), "entry", "entries")
                ),
                lines: drift,
            },
            adopted: review.adopted.iter().map(adopted_line).collect(),
            hosts: List {
                title: review.without_plan.title.to_owned(),
                lines: hosts.collect(),
            },
            problems: List {
                title: review.problems.title.to_owned(),
                lines: problems.collect(),
            },
            remarks: List {
                title: review.remarks.title.to_owned(),
                lines: remarks.collect(),
            },
        };
        rank(&mut page.blocks);
        page
    }

    pub(super) fn number_of(&self, part: Part) -> usize {
        let mappings = || self.blocks.iter().flat_map(|block| &block.mappings);
        let alarms = |class| {
            let mut alarms = self.alarms.iter();
            alarms
                .find(|alarms| alarms.class == class)
                .map_or(0, |alarms| alarms.lines.len())
        };
        match part {
            Part::Diffs => self.blocks.iter().map(|block| block.diffs.len()).sum(),
            Part::Rows => mappings().map(|it| it.rows.len()).max().unwrap_or(0),
            Part::Blocks => self.blocks.len(),
            Part::Adopted => self.adopted.len(),
            Part::Drift => self.drift.lines.len(),
            Part::Remarks => self.remarks.lines.len(),
            Part::Problems => self.problems.lines.len(),
            Part::Hosts => self.hosts.lines.len(),
            Part::Deletes => alarms(Class::Delete),
            Part::Conflicts => alarms(Class::Conflict),
        }
    }

    pub(super) fn everything(&self) -> Amounts {
        Part::ALL.map(|part| self.number_of(part))
    }
}

fn head(review: &PlanReview<'_>, digest: Blake3) -> String {
    let PlanReview { title, summary, .. } = review;
    let origin = review.origin(&code(&short(digest)));
    let mut head = format!("{MARKER}\n### {title}\n\n**{summary}**\n\n{origin}\n");
    if let Some(note) = review.note {
        head.extend(["\n", note, "\n"]);
    }
    for ExposedFolder { folder, hosts } in &review.exposed {
        let text = ExposedFolder::in_words(&code(folder), &with_count(hosts));
        head.extend(["\n", &text, "\n"]);
    }
    head
}

impl Line {
    fn of(entry: &EntryOnHosts<'_>) -> Self {
        let mut text = code(&entry.name);
        if !entry.detail.is_empty() {
            text.extend([" (", &entry.detail, ")"]);
        }
        text.extend([" on ", &with_count(&entry.hosts), ": ", &entry.reason]);
        Self {
            text,
            number: entry.hosts.number(),
        }
    }
}

impl AlarmList {
    fn of(alarms: &Alarms<'_>) -> Self {
        Self {
            class: alarms.class,
            note: alarms.note,
            lines: alarms.entries.iter().map(Line::of).collect(),
        }
    }
}

impl<'a> Block<'a> {
    fn of(group: &'a Group<'_>) -> Self {
        let hosts = html_code(&group.hosts.folded_within(HOSTS_MAX));
        let mapping = |changes: &'a MappingChanges<'_>| MappingRows {
            title: title(&changes.destinations),
            rows: &changes.rows,
        };
        Self {
            title: format!("{}: {}", group.hosts.counted(hosts), group.in_words()),
            number_of_hosts: group.hosts.number(),
            numbers: group.numbers(),
            mappings: group.mappings.iter().map(mapping).collect(),
            diffs: group.diffs.iter().map(ShownDiff::of).collect(),
        }
    }
}

/// Where a mapping goes; where hosts differ in it, which goes where.
fn title(destinations: &[Destination<'_>]) -> String {
    let (shown, rest) = split_by_two_or_more(destinations, Limits::SHORT.destinations);
    let mut lines: Vec<String> = shown
        .iter()
        .map(|Destination { src, dest, hosts }| {
            let src = src.as_ref();
            let from = src.map_or_else(String::new, |src| format!("{} → ", code(src)));
            let dest = code(dest);
            match hosts {
                None => format!("{from}{dest}"),
                Some(hosts) => format!("- {from}{dest} on {}", with_count(hosts)),
            }
        })
        .collect();
    if !rest.is_empty() {
        lines.push(format!("- … and {}", more_destinations(rest)));
    }
    lines.join("\n")
}

impl ShownDiff {
    /// To be opened, or why there is nothing to be shown.
    fn of(diff: &ContentDiff<'_>) -> Self {
        let name = &diff.full_name;
        let text = match &diff.content {
            Content::Words { words, quote } => format!("{}: {words}{}", code(name), code(quote)),
            Content::Lines { lines, .. } => {
                let lines: String = lines.iter().flat_map(|line| [&line.text, "\n"]).collect();
                let fence = fence("diff", &lines);
                let name = html_code(name);
                format!("<details><summary>{name}</summary>\n\n{fence}\n\n</details>")
            }
        };
        Self { text, rank: 0 }
    }
}

/// Tells each diff how many smaller ones there are.
fn rank(blocks: &mut [Block<'_>]) {
    let mut diffs: Vec<&mut ShownDiff> = blocks.iter_mut().flat_map(|b| &mut b.diffs).collect();
    diffs.sort_by_key(|diff| diff.text.len());
    for (rank, diff) in diffs.into_iter().enumerate() {
        diff.rank = rank;
    }
}

fn adopted_line(adopted: &Adopted<'_>) -> Line {
    let hosts = code(&adopted.hosts.folded_within(HOSTS_MAX));
    let mut text = adopted.in_words(&hosts);
    if let Some(note) = adopted.note {
        text.extend(["\n\n", note]);
    }
    Line {
        text,
        number: adopted.entries,
    }
}

/// Hosts as code, with how many there are.
fn with_count(hosts: &Hosts<'_>) -> String {
    hosts.counted(code(&hosts.folded_within(HOSTS_MAX)))
}
