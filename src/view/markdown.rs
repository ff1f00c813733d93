//! A plan as Markdown, for a comment on a pull request.
//!
//! What comes from outside (names, errors, contents) stands in code spans, fences and `<code>` alone,
//! where it is neither markup nor a mention, and where it cannot get out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::change::{Class, drift_in_words, row};
use super::diff;
use super::host_ranges::fold_hosts;
use super::plan::{
    ALARM_MAX, DESTINATIONS_MAX, DRIFT, Group, Item, LIST_MAX, ONLY_NOTES, PROBLEMS,
    WITHOUT_A_LOOK, WITHOUT_A_PLAN, adopted, by_mapping, destinations, errors, full_name,
    groups_by_urgency, items, last_part, numbers, problems, shares, summary_line, take_share,
};
use super::table::Row;
use super::text::{count, escape, escape_text, pad, width_of};
use crate::model::{Blake3, Kind};
use crate::plan::{Change, Diff, HostPlan, MappingNames, Plan, Refresh};

/// First line of the Markdown, which nobody sees: by it a job finds its comment again.
pub const MARKER: &str = "<!-- hostsync plan -->";

/// What a reviewer must know who has not read the manual.
const APPROVED_WITH_THE_REST: &str = "These were changed on the hosts, or were never written by \
     hostsync. Applying this plan replaces or deletes them; the old versions are kept on the hosts for a \
     while.";
/// Bytes of host names after which the others are counted.
const HOSTS_MAX: usize = 200;
/// Columns that names of a list are padded to at most.
const NAME_MAX: usize = 60;

/// The plan as Markdown that ends in a newline, of at most `max_bytes` where these are 1,000 or more.
///
/// What does not fit is left out in whole rows, and counted: contents first, conflicts and deletes
/// last. Title, [`summary_line`] and counts always stay. `digest` names the plan.
pub fn render(plan: &Plan, digest: Blake3, max_bytes: usize) -> String {
    let groups = groups_by_urgency(plan);
    let page = Page::of(plan, digest, &groups, false);
    if let Some(text) = page.render(&page.everything(), max_bytes) {
        return text;
    }
    let page = Page::of(plan, digest, &groups, true);
    let mut limits = page.everything();
    for part in Part::ALL {
        let mut fits_with = |number: usize| {
            limits[part as usize] = number;
            page.render(&limits, max_bytes)
        };
        let most = page.number_of(part);
        if let Some(text) = fits_with(most) {
            return text;
        }
        let Some(mut text) = fits_with(0) else {
            continue;
        };
        let (mut fits, mut too_many) = (0, most);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            match fits_with(middle) {
                Some(longer) => (text, fits) = (longer, middle),
                None => too_many = middle,
            }
        }
        return text;
    }
    // Nothing is left but what always stays.
    page.render(&limits, usize::MAX).unwrap_or_default()
}

/// What can be left out, in the order in which it is.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// How contents differ.
    Diffs,
    /// Rows of each list.
    Rows,
    /// Groups of hosts.
    Blocks,
    Adopted,
    Drift,
    Problems,
    /// Hosts without a plan.
    Hosts,
    Deletes,
    Conflicts,
}

impl Part {
    const ALL: [Self; 9] = [
        Self::Diffs,
        Self::Rows,
        Self::Blocks,
        Self::Adopted,
        Self::Drift,
        Self::Problems,
        Self::Hosts,
        Self::Deletes,
        Self::Conflicts,
    ];
}

/// By part, how much of it is shown.
type Limits = [usize; Part::ALL.len()];

/// An item of a list, and how many it stands for.
struct Line {
    text: String,
    number: usize,
}

/// Hosts that have the same changes.
struct Block {
    hosts: String,
    number_of_hosts: usize,
    /// Conflicts and deletes, which are listed above the blocks.
    alarms: BTreeMap<Class, usize>,
    lists: Vec<List>,
    diffs: Vec<ShownDiff>,
}

/// The changes of one mapping, without conflicts and deletes.
struct List {
    /// Where it goes.
    title: String,
    items: Vec<Item>,
}

struct ShownDiff {
    text: String,
    /// How many smaller ones there are: small ones are left out last.
    rank: usize,
}

/// Everything that may be shown.
struct Page {
    /// Title, summary and what holds for all of it.
    head: String,
    conflicts: Vec<Line>,
    deletes: Vec<Line>,
    blocks: Vec<Block>,
    drift: Vec<Line>,
    adopted: Vec<Line>,
    hosts: Vec<Line>,
    problems: Vec<Line>,
}

/// What is the same on hosts of several groups, in the order in which it comes up.
struct Rows<'a> {
    rows: Vec<((String, String), Vec<&'a HostPlan>)>,
    index_of: BTreeMap<(String, String), usize>,
}

impl<'a> Rows<'a> {
    fn new() -> Self {
        Self {
            rows: Vec::new(),
            index_of: BTreeMap::new(),
        }
    }

    fn add(&mut self, what: String, why: String, hosts: &[&'a HostPlan]) {
        let key = (what, why);
        let index = *self.index_of.entry(key.clone()).or_insert_with(|| {
            self.rows.push((key, Vec::new()));
            self.rows.len() - 1
        });
        self.rows[index].1.extend(hosts);
    }

    fn into_lines(self) -> Vec<Line> {
        let line = |((what, why), hosts): ((String, String), Vec<&HostPlan>)| Line {
            text: format!("{what} on {}: {why}", with_count(&hosts)),
            number: hosts.len(),
        };
        self.rows.into_iter().map(line).collect()
    }
}

impl Page {
    /// `fold`: whether what is in new folders is only counted, in long lists.
    fn of(plan: &Plan, digest: Blake3, groups: &[Group<'_>], fold: bool) -> Self {
        let mut page = Self {
            head: head(plan, digest),
            conflicts: Vec::new(),
            deletes: Vec::new(),
            blocks: Vec::new(),
            drift: Vec::new(),
            adopted: adopted_line(plan, groups).into_iter().collect(),
            hosts: errors(plan)
                .into_iter()
                .map(|((how, error), hosts)| Line {
                    text: format!("{} {how}: {}", with_count(&hosts), code(&error)),
                    number: hosts.len(),
                })
                .collect(),
            problems: Vec::new(),
        };
        let (mut conflicts, mut deletes, mut drift) = (Rows::new(), Rows::new(), Rows::new());
        for (set, hosts) in groups {
            for change in &set.changes {
                let alarms = match Class::of(change) {
                    Some(Class::Conflict) => &mut conflicts,
                    Some(Class::Delete) => &mut deletes,
                    _ => continue,
                };
                let Row { detail, reason, .. } = row(Class::Conflict, change, "", false);
                let detail = if detail.is_empty() {
                    detail
                } else {
                    format!(" ({detail})")
                };
                alarms.add(name(change, hosts) + &detail, reason, hosts);
            }
            for change in set.changes.iter().filter(|change| change.drift) {
                drift.add(name(change, hosts), drift_in_words(change), hosts);
            }
            page.blocks
                .extend(Block::of((set.clone(), hosts.clone()), fold));
        }
        page.conflicts = conflicts.into_lines();
        page.deletes = deletes.into_lines();
        page.drift = drift.into_lines();
        rank(&mut page.blocks);
        for (problems, hosts) in problems(plan) {
            let on = with_count(&hosts);
            page.problems.extend(problems.iter().map(|problem| Line {
                text: format!("{} for {on}", code(&escape_text(problem))),
                number: hosts.len(),
            }));
        }
        page
    }

    fn number_of(&self, part: Part) -> usize {
        let lists = || self.blocks.iter().flat_map(|block| &block.lists);
        match part {
            Part::Diffs => self.blocks.iter().map(|block| block.diffs.len()).sum(),
            Part::Rows => lists().map(|list| list.items.len()).max().unwrap_or(0),
            Part::Blocks => self.blocks.len(),
            Part::Adopted => self.adopted.len(),
            Part::Drift => self.drift.len(),
            Part::Problems => self.problems.len(),
            Part::Hosts => self.hosts.len(),
            Part::Deletes => self.deletes.len(),
            Part::Conflicts => self.conflicts.len(),
        }
    }

    fn everything(&self) -> Limits {
        Part::ALL.map(|part| self.number_of(part))
    }

    /// So much of it, or `None` where that is longer than `max_bytes`.
    fn render(&self, limits: &Limits, max_bytes: usize) -> Option<String> {
        let mut draft = Draft {
            limits,
            max_bytes,
            text: String::new(),
            left_out: LeftOut::default(),
        };
        draft.alarms(Class::Conflict, &self.conflicts)?;
        draft.alarms(Class::Delete, &self.deletes)?;
        draft.blocks(&self.blocks)?;
        let title = format!("{DRIFT}: {}", count(total(&self.drift), "entry", "entries"));
        draft.left_out.drift = draft.folded_list(Part::Drift, &title, &self.drift)?;
        draft.left_out.adopted = draft.adopted(&self.adopted)?;
        draft.left_out.hosts = draft.list(Part::Hosts, WITHOUT_A_PLAN, &self.hosts)?;
        draft.left_out.problems = draft.list(Part::Problems, PROBLEMS, &self.problems)?;

        let mut text = self.head.clone();
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
}

impl Block {
    /// What happens on these hosts besides conflicts and deletes; `None` for nothing.
    fn of((set, hosts): Group<'_>, fold: bool) -> Option<Self> {
        let mut lists = Vec::new();
        let mut alarms = BTreeMap::new();
        for (mapping, mut changes) in by_mapping(&set) {
            for (class, _) in changes.iter().filter(|(class, _)| class.always_shown()) {
                *alarms.entry(*class).or_default() += 1;
            }
            changes.retain(|(class, _)| !class.always_shown());
            if changes.is_empty() {
                continue;
            }
            let names = destinations(&hosts, mapping);
            let root = names.first().map_or(".", |(names, _)| last_part(names));
            lists.push(List {
                title: title(&names),
                items: items(&changes, root, fold && changes.len() > LIST_MAX, false),
            });
        }
        let diffs = set.diffs.iter().filter_map(|(index, diff)| {
            let change = set.changes.get(*index)?;
            let name = full_name(change, &hosts);
            let text = diff_in_markdown(&name, change, diff);
            Some(ShownDiff { text, rank: 0 })
        });
        let diffs: Vec<ShownDiff> = diffs.collect();
        (!lists.is_empty() || !diffs.is_empty()).then(|| Self {
            hosts: with_number(html_code(&folded(&hosts)), &hosts),
            number_of_hosts: hosts.len(),
            alarms,
            lists,
            diffs,
        })
    }

    /// How many changes there are of each class, on one host.
    fn numbers(&self) -> BTreeMap<Class, usize> {
        let mut numbers = BTreeMap::new();
        for item in self.lists.iter().flat_map(|list| &list.items) {
            *numbers.entry(item.class).or_default() += item.changes;
        }
        numbers
    }
}

/// Tells each diff how many smaller ones there are.
fn rank(blocks: &mut [Block]) {
    let mut diffs: Vec<&mut ShownDiff> = blocks.iter_mut().flat_map(|b| &mut b.diffs).collect();
    diffs.sort_by_key(|diff| diff.text.len());
    for (rank, diff) in diffs.into_iter().enumerate() {
        diff.rank = rank;
    }
}

/// The text below the head, as it grows. Methods end with `None` as soon as it is too long.
struct Draft<'a> {
    limits: &'a Limits,
    max_bytes: usize,
    text: String,
    left_out: LeftOut,
}

impl Draft<'_> {
    fn limit(&self, part: Part) -> usize {
        self.limits[part as usize]
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
    fn alarms(&mut self, class: Class, lines: &[Line]) -> Option<()> {
        if lines.is_empty() {
            return Some(());
        }
        let limit = match class {
            Class::Conflict => self.limit(Part::Conflicts),
            _ => self.limit(Part::Deletes),
        };
        self.section(&format!("#### {}", class.number(total(lines))))?;
        if class == Class::Conflict {
            self.section(APPROVED_WITH_THE_REST)?;
        }
        let (shown, cut) = lines.split_at(limit.min(lines.len()));
        let (in_sight, others) = shown.split_at(shown.len().min(ALARM_MAX));
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
            self.left_out.add(class, total(cut));
        }
        Some(())
    }

    fn blocks(&mut self, blocks: &[Block]) -> Option<()> {
        let (shown, cut) = blocks.split_at(self.limit(Part::Blocks).min(blocks.len()));
        for block in shown {
            let mut parts = vec![numbers(&block.numbers())];
            if !block.diffs.is_empty() {
                parts.push(count(block.diffs.len(), "diff", "diffs"));
            }
            if !block.alarms.is_empty() {
                parts.push(format!("and {} (above)", numbers(&block.alarms)));
            }
            parts.retain(|part| !part.is_empty());
            self.open(&format!("{}: {}", block.hosts, parts.join(", ")))?;
            for list in &block.lists {
                self.rows(list, block.number_of_hosts)?;
            }
            self.diffs(&block.diffs)?;
            self.close()?;
        }
        for block in cut {
            for (class, number) in block.numbers() {
                self.left_out.add(class, number * block.number_of_hosts);
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

    fn rows(&mut self, list: &List, hosts: usize) -> Option<()> {
        let mut keep = shares(&list.items, self.limit(Part::Rows));
        let mut rest: BTreeMap<Class, usize> = BTreeMap::new();
        let mut rows = Vec::new();
        for item in &list.items {
            if take_share(&mut keep, item.class) {
                rows.push(&item.row);
            } else {
                *rest.entry(item.class).or_default() += item.changes;
            }
        }
        self.section(&list.title)?;
        self.section(&fence("diff", &lines(&rows)))?;
        if rest.is_empty() {
            return Some(());
        }
        for (class, number) in &rest {
            self.left_out.add(*class, number * hosts);
        }
        let number: usize = rest.values().sum();
        self.section(&format!("… and {number} more: {}", numbers(&rest)))
    }

    /// How contents differ.
    fn diffs(&mut self, diffs: &[ShownDiff]) -> Option<()> {
        let limit = self.limit(Part::Diffs);
        let (shown, cut): (Vec<_>, Vec<_>) = diffs.iter().partition(|diff| diff.rank < limit);
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
    fn list(&mut self, part: Part, title: &str, lines: &[Line]) -> Option<usize> {
        let (shown, cut) = lines.split_at(self.limit(part).min(lines.len()));
        if !shown.is_empty() {
            self.section(&format!("#### {title}"))?;
            self.items(shown)?;
            self.and_more(cut)?;
        }
        Some(total(cut))
    }

    /// A list to be opened. The result tells how much is left out.
    fn folded_list(&mut self, part: Part, title: &str, lines: &[Line]) -> Option<usize> {
        let (shown, cut) = lines.split_at(self.limit(part).min(lines.len()));
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
        let (shown, cut) = lines.split_at(self.limit(Part::Adopted).min(lines.len()));
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
    changes: BTreeMap<Class, usize>,
    diffs: usize,
    drift: usize,
    adopted: usize,
    problems: usize,
    hosts: usize,
}

impl LeftOut {
    fn add(&mut self, class: Class, number: usize) {
        *self.changes.entry(class).or_default() += number;
    }

    /// `None` when everything fits.
    fn in_words(&self) -> Option<String> {
        let changes = self.changes.iter();
        let mut parts: Vec<String> = changes
            .map(|(class, number)| class.number(*number))
            .collect();
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
            (self.hosts, "host without a plan", "hosts without a plan"),
        ] {
            if number > 0 {
                parts.push(count(number, singular, plural));
            }
        }
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

fn total(lines: &[Line]) -> usize {
    lines.iter().map(|line| line.number).sum()
}

fn head(plan: &Plan, digest: Blake3) -> String {
    let summary = summary_line(plan);
    let mut head = format!("{MARKER}\n### hostsync plan\n\n**{summary}**\n");
    let digest = digest.to_string();
    let _ = write!(
        head,
        "\nPlan `{}`, made at serial {}.\n",
        &digest[..12],
        plan.header.serial
    );
    if plan.header.refresh == Refresh::None {
        head.extend(["\n", WITHOUT_A_LOOK, "\n"]);
    }
    head
}

fn adopted_line(plan: &Plan, groups: &[Group<'_>]) -> Option<Line> {
    let (number, hosts) = adopted(groups);
    let entries = count(number, "entry", "entries");
    let hosts = code(&folded(&hosts));
    let mut text = format!("Already right, only to be recorded: {entries} on {hosts}.");
    if !plan.summary().has_changes() {
        text.extend(["\n\n", ONLY_NOTES]);
    }
    (number > 0).then_some(Line { text, number })
}

/// Destination and path of a change, as code.
fn name(change: &Change, hosts: &[&HostPlan]) -> String {
    let name = full_name(change, hosts);
    if change.kind() == Kind::Dir && !name.ends_with('/') {
        code(&format!("{name}/"))
    } else {
        code(&name)
    }
}

/// Where a mapping goes; where hosts differ in it, which goes where.
fn title(names: &[(&MappingNames, Vec<&HostPlan>)]) -> String {
    let shown = if names.len() <= DESTINATIONS_MAX + 1 {
        names.len()
    } else {
        DESTINATIONS_MAX
    };
    let mut lines: Vec<String> = names[..shown]
        .iter()
        .map(|(mapping, hosts)| {
            let [src, dest] = [&mapping.src, &mapping.dest].map(|it| code(&escape(it.as_bytes())));
            if names.len() == 1 {
                format!("{src} → {dest}")
            } else {
                format!("- {src} → {dest} on {}", with_count(hosts))
            }
        })
        .collect();
    if shown < names.len() {
        let more = names.len() - shown;
        lines.push(format!(
            "- … and {}",
            count(more, "more destination", "more destinations")
        ));
    }
    lines.join("\n")
}

/// Rows as lines: columns as wide as their cells, within reason.
fn lines(rows: &[&Row]) -> String {
    let widest = |cell: fn(&Row) -> &str| rows.iter().map(|row| width_of(cell(row))).max();
    let name = widest(|row| &row.name).unwrap_or(0).min(NAME_MAX);
    let detail = widest(|row| &row.detail).unwrap_or(0);
    let mut out = String::new();
    for row in rows {
        let mut line = format!("{} {}", row.symbol, pad(&row.name, name));
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

/// How a content differs, to be opened, or why that is not shown.
fn diff_in_markdown(name: &str, change: &Change, diff: &Diff) -> String {
    match diff {
        Diff::Text(text) => {
            let lines: Vec<String> = diff::lines(text).map(|line| line.text + "\n").collect();
            let fence = fence("diff", &lines.concat());
            let name = html_code(name);
            format!("<details><summary>{name}</summary>\n\n{fence}\n\n</details>")
        }
        // It may quote what a host says.
        Diff::Unavailable(why) => format!("{}: not shown: {}", code(name), code(&escape_text(why))),
        Diff::Binary | Diff::Hidden | Diff::TooLarge => {
            let why = diff::in_words(change, diff).unwrap_or_default();
            format!("{}: {why}", code(name))
        }
    }
}

/// Hosts in few words.
fn folded(hosts: &[&HostPlan]) -> String {
    let names: Vec<String> = hosts
        .iter()
        .map(|host| escape(host.host.as_str().as_bytes()))
        .collect();
    let first = |number: usize| fold_hosts(names[..number].iter().map(String::as_str)).join(", ");
    let all = first(names.len());
    if all.len() <= HOSTS_MAX || names.len() == 1 {
        return all;
    }
    let (mut fits, mut too_many) = (1, names.len());
    while too_many - fits > 1 {
        let middle = usize::midpoint(fits, too_many);
        if first(middle).len() <= HOSTS_MAX {
            fits = middle;
        } else {
            too_many = middle;
        }
    }
    format!("{}, …", first(fits))
}

/// As code, with how many there are.
fn with_count(hosts: &[&HostPlan]) -> String {
    with_number(code(&folded(hosts)), hosts)
}

fn with_number(names: String, hosts: &[&HostPlan]) -> String {
    match hosts.len() {
        1 => names,
        number => format!("{names} ({number} hosts)"),
    }
}

/// One line of text as a code span.
fn code(text: &str) -> String {
    if text.is_empty() {
        // A code span cannot be.
        return String::new();
    }
    let fence = "`".repeat(longest_run(text, '`') + 1);
    // One space at each end is not shown.
    let is_padded = text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let space = if is_padded { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// One line of text as code, where Markdown is not understood.
fn html_code(text: &str) -> String {
    let mut out = "<code>".to_owned();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !"-./[],_".contains(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.push_str("</code>");
    out
}

/// Lines in a fence that they do not hold.
fn fence(language: &str, lines: &str) -> String {
    let [backticks, tildes] = ['`', '~'].map(|c| longest_run(lines, c).max(2) + 1);
    let fence = if backticks <= tildes {
        "`".repeat(backticks)
    } else {
        "~".repeat(tildes)
    };
    format!("{fence}{language}\n{lines}{fence}")
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{Node, RelPath};
    use crate::plan::{Action, ChangeSet};
    use crate::view::plan::tests::{
        adopted, conflict, dir, file, host, link, mixed, new, orphan, plan, unreachable, updated,
    };

    /// The Markdown without the line that names the plan.
    fn rendered(plan: &Plan, max_bytes: usize) -> String {
        let text = render(plan, Blake3::of(b""), max_bytes);
        let line = "\nPlan `af1349b9f5f9`, made at serial 0.\n";
        assert!(text.contains(line), "{text}");
        text.replacen(line, "", 1)
    }

    fn shown(hosts: Vec<HostPlan>) -> String {
        let text = rendered(&plan(hosts), 60_000);
        let _ = Page::read(&text);
        text
    }

    fn with_diffs(name: &str, changes: Vec<Change>, diffs: Vec<(usize, Diff)>) -> HostPlan {
        let set = ChangeSet::new(changes, diffs.into_iter().collect());
        HostPlan {
            change_set: Some(Arc::new(set)),
            ..host(name, Vec::new())
        }
    }

    /// What a reader of GitHub sees, as far as these tests want to know. Reading fails where markup
    /// is there that is not ours.
    #[derive(Debug, Default)]
    struct Page {
        /// How many changes are shown, on all hosts: conflicts, deletes, creates, others.
        numbers: [usize; 4],
        /// Diffs in a fence of their own.
        diffs: usize,
        codes: Vec<String>,
    }

    impl Page {
        fn read(text: &str) -> Self {
            let mut page = Self::default();
            assert!(text.ends_with('\n') && !text.ends_with("\n\n"), "{text}");
            let mut fence: Option<&str> = None;
            let mut heading = "";
            // How many hosts each open block is about.
            let mut open: Vec<usize> = Vec::new();
            let mut lines = text.lines().enumerate();
            assert_eq!(lines.next(), Some((0, MARKER)));
            for (at, line) in lines {
                assert!(
                    !line.contains(|c: char| c.is_control() && c != '\t'),
                    "{line:?}"
                );
                if let Some(end) = fence {
                    let mark = &end[..1];
                    let bare = line.trim_start_matches(' ');
                    let run = bare.len() - bare.trim_start_matches(mark).len();
                    if run >= end.len() && bare[run..].trim().is_empty() {
                        assert_eq!(line, end, "line {at} closes a fence that is not meant");
                        fence = None;
                        page.diffs += usize::from(open.len() == 2);
                    } else if open.len() == 1 {
                        let class = if line.starts_with("+ ") { 2 } else { 3 };
                        assert!(line.starts_with(['+', '~']), "{line}");
                        page.numbers[class] += open[0];
                    }
                } else if line.starts_with(['`', '~']) && line.ends_with("diff") {
                    fence = Some(line.strip_suffix("diff").unwrap());
                } else if let Some(summary) = line.strip_prefix("<details><summary>") {
                    let summary = summary.strip_suffix("</summary>").unwrap();
                    let plain = summary.replacen("<code>", "", 1).replacen("</code>", "", 1);
                    assert!(!plain.contains(['<', '>', '`', '@', '|', '*']), "{plain}");
                    let title = summary.split("</code>").last().unwrap();
                    if !title.ends_with(" more") {
                        heading = "";
                    }
                    open.push(hosts_in(title));
                } else if line == "</details>" {
                    open.pop().expect("one is open");
                } else {
                    let ours = page.without_code(line);
                    let (ours, is_title) = match ours.trim_start_matches('#') {
                        title if title == ours => (ours.as_str(), false),
                        title => (title, true),
                    };
                    if is_title {
                        heading = line;
                    }
                    let ours = ours.strip_prefix("**").unwrap_or(ours);
                    let ours = ours.strip_suffix("**").unwrap_or(ours);
                    let is_plain = |c: char| c.is_ascii_alphanumeric() || " …→-.,:;()".contains(c);
                    assert!(ours.chars().all(is_plain), "{ours:?}");
                    if line.starts_with("- ") && open.len() <= 1 {
                        let number = hosts_in(ours.trim_start_matches("- "));
                        if heading.contains(" conflict") {
                            page.numbers[0] += number;
                        } else if heading.ends_with(" to delete") {
                            page.numbers[1] += number;
                        }
                    }
                }
            }
            assert!(fence.is_none() && open.is_empty(), "{text}");
            page
        }

        /// A line without its code spans, which are read as `CommonMark` has it.
        fn without_code(&mut self, line: &str) -> String {
            let mut ours = String::new();
            let mut rest = line;
            while let Some(start) = rest.find('`') {
                ours.push_str(&rest[..start]);
                rest = &rest[start..];
                let run = |text: &str| text.len() - text.trim_start_matches('`').len();
                let opening = run(rest);
                let mut end = opening;
                loop {
                    end += rest[end..].find('`').expect("a code span that ends");
                    let closing = run(&rest[end..]);
                    if closing == opening {
                        break;
                    }
                    end += closing;
                }
                let code = &rest[opening..end];
                let has_spaces = code.starts_with(' ') && code.ends_with(' ');
                let code = if has_spaces && !code.trim().is_empty() {
                    &code[1..code.len() - 1]
                } else {
                    code
                };
                self.codes.push(code.to_owned());
                rest = &rest[end + opening..];
            }
            ours + rest
        }
    }

    /// `8` of ` (8 hosts)`; else one.
    fn hosts_in(text: &str) -> usize {
        let numbers = text
            .split(" hosts)")
            .next()
            .and_then(|text| text.rsplit('(').next());
        let is_there = text.contains(" hosts)");
        numbers
            .filter(|_| is_there)
            .map_or(1, |number| number.parse().unwrap())
    }

    #[test]
    fn conflicts_and_deletes_stand_above_groups_to_be_opened() {
        let hosts = (1..=8).map(|n| host(&format!("web{n}"), mixed()));
        let mut hosts: Vec<HostPlan> = hosts.collect();
        hosts.push(unreachable("db1", "login refused for <root@db1>\nand more"));
        let text = shown(hosts);
        assert_eq!(
            text,
            "\
<!-- hostsync plan -->
### hostsync plan

**Plan: 24 to create, 40 to update, 8 to delete, 8 modes to change on 8 of 9 hosts (33.6 MiB to send); 16 conflicts; 8 entries to record; 1 host unreachable.**

#### 16 conflicts

These were changed on the hosts, or were never written by hostsync. Applying this plan replaces or deletes them; \
the old versions are kept on the hosts for a while.

- `/srv/app/config/limits.conf` (1.0 KiB → 1.2 KiB) on `web[1-8]` (8 hosts): undoes a change on the host
- `/srv/app/config/local.d/override-for-the-second-data-centre.toml` (1.0 KiB → 1.2 KiB) on `web[1-8]` (8 hosts): overwrites what is not ours

#### 8 to delete

- `/srv/app/lib/legacy.so` (77 B) on `web[1-8]` (8 hosts): no longer in the source

<details><summary><code>web[1-8]</code> (8 hosts): 3 to create, 3 to update, 1 mode to change, and 2 conflicts, 1 to delete (above)</summary>

`app` → `/srv/app`

```diff
+ bin/                                            new
+ bin/server                   4.2 MiB            new
+ current -> releases/2026-01                     new
~ etc/app.toml                 1.0 KiB → 1.2 KiB  content
~ tmp/                         file → folder      of another kind
~ etc/run.sh                   0644 → 0755        mode
```

`nginx.conf` → `/etc/nginx/nginx.conf`

```diff
~ nginx.conf  1.0 KiB → 1.2 KiB  content
```

</details>

<details><summary>Changed on the hosts since the last apply: 8 entries</summary>

- `/srv/app/config/limits.conf` on `web[1-8]` (8 hosts): changed

</details>

Already right, only to be recorded: 8 entries on `web[1-8]`.

#### Hosts without a plan

- `db1` unreachable: `login refused for <root@db1>`
"
        );
    }

    #[test]
    fn plan_without_changes_is_its_summary() {
        let agreeing = ["a1", "a2"].map(|name| host(name, Vec::new()));
        assert_eq!(
            shown(agreeing.to_vec()),
            "\
<!-- hostsync plan -->
### hostsync plan

**No changes: 2 hosts agree with the sources.**
"
        );
    }

    #[test]
    fn what_is_only_recorded_and_a_plan_without_a_look_are_said() {
        let mut plan = plan(vec![host("a", vec![adopted("x"), adopted("y")])]);
        plan.header.refresh = Refresh::None;
        assert_eq!(
            rendered(&plan, 1000),
            "\
<!-- hostsync plan -->
### hostsync plan

**No changes: 1 host agrees with the sources; 2 entries to record; no host was looked at.**

Planned from the state alone: no host was looked at. A host that nothing was applied to yet is taken to be empty.

Already right, only to be recorded: 2 entries on `a`.

Nothing on the hosts changes: apply only notes this in the state.
"
        );
    }

    #[test]
    fn contents_are_to_be_opened_or_said_why_not() {
        let text = "@@ -1,2 +1,2 @@\n ```\n-a\r\n+b\u{202e}\n".to_owned();
        let changes: Vec<Change> = ["a", "b", "c", "d"].map(updated).to_vec();
        let diffs = vec![
            (0, Diff::Text(text)),
            (1, Diff::Binary),
            (2, Diff::Hidden),
            (3, Diff::Unavailable("gone".to_owned())),
        ];
        let text = shown(vec![with_diffs("web1", changes, diffs)]);
        let expected = "\
<details><summary><code>web1</code>: 4 to update, 4 diffs</summary>

`app` → `/srv/app`

```diff
~ a  1.0 KiB → 1.2 KiB  content
~ b  1.0 KiB → 1.2 KiB  content
~ c  1.0 KiB → 1.2 KiB  content
~ d  1.0 KiB → 1.2 KiB  content
```

<details><summary><code>/srv/app/a</code></summary>

~~~diff
@@ -1,2 +1,2 @@
 ```
-a\\r
+b\\u{202e}
~~~

</details>

`/srv/app/b`: binary, 1.0 KiB → 1.2 KiB

`/srv/app/c`: not shown: private

`/srv/app/d`: not shown: `gone`

</details>
";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn five_hundred_hosts_of_three_kinds_are_three_blocks() {
        let hosts = (0..500).map(|n| {
            let change = match n % 3 {
                0 => updated("a"),
                1 => new("b", file(1, 0o644)),
                _ => new("c", link("a")),
            };
            host(&format!("h{n:03}"), vec![change])
        });
        let text = shown(hosts.collect());
        assert_eq!(text.matches("<details>").count(), 3, "{text}");
        assert!(
            text.contains(", …</code> (167 hosts): 1 to update"),
            "{text}"
        );
        assert!(text.len() < 2000, "{}", text.len());
        assert!(text.contains("500 of 500 hosts"));
    }

    #[test]
    fn many_deletes_are_to_be_opened_from_the_hundred_and_first_on() {
        let changes = (0..130).map(|n| orphan(&format!("old{n:03}"))).collect();
        let text = shown(vec![host("a", changes)]);
        let (in_sight, rest) = text
            .split_once("<details><summary>30 more</summary>")
            .unwrap();
        assert!(in_sight.contains("#### 130 to delete\n"));
        assert!(in_sight.contains("/old099") && !in_sight.contains("/old100"));
        assert!(rest.contains("/old100") && rest.contains("/old129"));
    }

    #[test]
    fn contents_are_left_out_first_and_conflicts_last() {
        let names = |start: &'static str| (0..20).map(move |n| format!("{start}{n:02}"));
        let mut changes: Vec<Change> = names("new").map(|name| new(&name, dir())).collect();
        changes.extend(names("orphan").map(|name| orphan(&name)));
        changes.extend(names("z").map(|name| conflict(updated(&name))));
        let diff = Diff::Text("@@ -1 +1 @@\n-a\n+b\n".repeat(100));
        let plan = plan(vec![with_diffs("a", changes, vec![(0, diff)])]);
        let left_out = |max_bytes| {
            let text = render(&plan, Blake3::of(b""), max_bytes);
            assert!(text.len() <= max_bytes);
            let note = text.lines().find_map(|line| line.split_once("Left out: "));
            note.map_or(String::new(), |(_, what)| what.to_owned())
        };
        let order = [
            "1 diff",
            "20 to create",
            "20 entries changed on hosts",
            "20 to delete",
            "conflict",
        ];
        for max_bytes in (1000..8000).step_by(50) {
            let left_out = left_out(max_bytes);
            // Whatever is left out in part, all before it is left out as a whole.
            let last = order
                .iter()
                .rposition(|what| left_out.contains(what.split(' ').next_back().unwrap_or(what)));
            for what in &order[..last.unwrap_or(0)] {
                assert!(left_out.contains(what), "{max_bytes}: {left_out}");
            }
        }
        assert_eq!(left_out(8000), "");
        assert!(
            (1000..8000)
                .step_by(50)
                .any(|max_bytes| left_out(max_bytes) == "1 diff.")
        );
        assert!(left_out(1000).contains(" conflicts, 20 to delete, 20 to create, 1 diff, "));
    }

    #[test]
    fn evil_names_are_shown_as_they_are() {
        let names = [
            "a|b",
            "`x`",
            "``",
            "</summary></details><script>alert(1)</script>",
            "@org/team",
            "owner/repo#123",
            "[x](https:example.com)",
            "www.example.com/x",
            "![](x.png)",
            "**bold** _it_ ~~no~~ $x$ :smile: &lt; &#60;",
            "a  b",
        ];
        for name in names {
            let mut evil = host(name, vec![orphan(name), new(name, link(name))]);
            evil.mappings[0].src = name.to_owned();
            let text = shown(vec![evil, unreachable(name, name)]);
            let page = Page::read(&text);
            assert!(page.codes.contains(&format!("/srv/app/{name}")), "{text}");
            assert_eq!(
                page.codes.iter().filter(|code| *code == name).count(),
                4,
                "{text}"
            );
            assert!(
                text.contains(&format!("\n+ {name} -> {name}  new\n")),
                "{text}"
            );
        }
    }

    fn evil_name() -> impl Strategy<Value = String> {
        let pieces = [
            "a",
            "B7",
            " ",
            "`",
            "```",
            "~~~~",
            "|",
            "</details>",
            "<!--",
            "-->",
            "<script>",
            "@me",
            "#12",
            "\n",
            "\n```\n",
            "\t",
            "\u{1b}[2J",
            "\u{202e}",
            "\\",
            "*",
            "_",
            "[x](y)",
            "&lt;",
            "http://x.y/z",
            "日本",
            "- ",
            "\r\n\r\n",
            "/",
            "$",
        ];
        prop::collection::vec(prop::sample::select(pieces.to_vec()), 1..12)
            .prop_map(|pieces| pieces.concat())
    }

    fn evil_path() -> impl Strategy<Value = String> {
        evil_name().prop_filter("a path", |name| {
            RelPath::new(name.as_str()).is_ok_and(|path| !path.is_root())
        })
    }

    fn change() -> impl Strategy<Value = Change> {
        (evil_path(), evil_name(), 0..8).prop_map(|(path, other, sort)| match sort {
            0 => conflict(updated(&path)),
            1 => conflict(orphan(&path)),
            2 => orphan(&path),
            3 => new(&path, file(1, 0o644)),
            4 => new(&path, link(&other)),
            5 => adopted(&path),
            6 => Change {
                before: Some(link(&other)),
                after: Some(link(&path)),
                drift: true,
                ..updated(&path)
            },
            _ => Change {
                action: Action::Metadata,
                after: Some(dir()),
                before: Some(Node::Dir {
                    mode: crate::model::Mode::new(0o700),
                }),
                ..updated(&path)
            },
        })
    }

    fn diff() -> impl Strategy<Value = Diff> {
        (evil_name(), 0..5).prop_map(|(text, sort)| match sort {
            0 => Diff::Binary,
            1 => Diff::Unavailable(text),
            _ => Diff::Text(format!("@@ -1 +1 @@\n-{text}\n+{text}\n {text}\n")),
        })
    }

    fn any_host() -> impl Strategy<Value = HostPlan> {
        (
            evil_name(),
            evil_name(),
            prop::collection::vec(change(), 0..20),
            prop::collection::vec((0..30_usize, diff()), 0..4),
            prop::collection::vec(evil_name(), 0..3),
            0..5,
        )
            .prop_map(|(name, other, mut changes, diffs, problems, sort)| {
                if sort == 0 {
                    return unreachable(&name, &other);
                }
                changes.sort();
                let mut host = with_diffs(&name, changes, diffs);
                host.mappings[0].src.clone_from(&other);
                host.mappings[0].dest = format!("/{other}");
                host.problems = problems;
                host
            })
    }

    /// Some hosts, each of them one to three times.
    fn any_plan() -> impl Strategy<Value = Plan> {
        prop::collection::vec((any_host(), 1..4_usize), 0..8).prop_map(|hosts| {
            let hosts = hosts
                .into_iter()
                .flat_map(|(host, times)| vec![host; times]);
            plan(hosts.collect())
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn nothing_breaks_out_and_what_is_shown_and_left_out_is_everything(
            plan in any_plan(),
            max_bytes in prop_oneof![1000..3000_usize, 1000..30_000_usize, Just(1_000_000)],
        ) {
            let text = render(&plan, Blake3::of(b""), max_bytes);
            prop_assert!(text.len() <= max_bytes, "{}", text.len());
            let summary = format!("\n**{}**\n", summary_line(&plan));
            prop_assert!(text.contains(&summary));
            let page = Page::read(&text);

            let mut left_out: BTreeMap<&str, usize> = BTreeMap::new();
            let note = text.lines().find_map(|line| line.split_once(" bytes. Left out: "));
            for part in note.iter().flat_map(|(_, parts)| parts.trim_end_matches('.').split(", ")) {
                let (number, what) = part.split_once(' ').unwrap();
                left_out.insert(what.trim_end_matches('s'), number.parse().unwrap());
            }
            let left_out = |what: &[&str]| -> usize {
                what.iter().map(|what| left_out.get(what).copied().unwrap_or(0)).sum()
            };
            let number_of = |wanted: &[Class]| {
                let changes = plan.hosts.iter().flat_map(HostPlan::changes);
                changes.filter_map(Class::of).filter(|class| wanted.contains(class)).count()
            };
            let numbers = page.numbers;
            prop_assert_eq!(numbers[0] + left_out(&["conflict"]), number_of(&[Class::Conflict]));
            prop_assert_eq!(numbers[1] + left_out(&["to delete"]), number_of(&[Class::Delete]));
            prop_assert_eq!(numbers[2] + left_out(&["to create"]), number_of(&[Class::Create]));
            let others = ["to update", "mode to change", "modes to change"];
            prop_assert_eq!(
                numbers[3] + left_out(&others),
                number_of(&[Class::Update, Class::Metadata])
            );
        }
    }
}
