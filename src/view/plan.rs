//! A plan for people.
//!
//! What a reviewer must not miss stands first: conflicts, then deletes, among the blocks and within
//! each. Hosts with equal changes share one block, and a long list is folded, but never its conflicts
//! and deletes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::change::{Class, drift_in_words, row};
use super::diff;
use super::host_ranges;
use super::page::Page;
use super::style::{ALARM, CREATE, DELETE, HEADING, PLAIN, QUIET, UPDATE, paint};
use super::table::{self, Row};
use super::text::{count, escape, escape_text, size, width_of, wrap_path};
use crate::apply::LargeFiles;
use crate::model::{HostId, Kind, Node, RelPath};
use crate::plan::{
    Action, Change, ChangeSet, Diff, HostPlan, HostStatus, MappingNames, Plan, Refresh,
};

/// Entries of one mapping that are shown one by one, unless everything is asked for.
pub(super) const LIST_MAX: usize = 20;
/// Conflicts, and deletes, of one mapping that are always shown one by one.
pub(super) const ALARM_MAX: usize = 100;
/// Lines of a diff that are shown, unless everything is asked for.
const DIFF_MAX: usize = 60;
/// Lines from which on a diff that other hosts have, too, is shown once.
const REPEATED_MIN: usize = 5;
/// A plan of more lines starts with its summary.
const LONG: usize = 40;
/// Destinations of one mapping that are listed when the hosts of a block do not agree.
pub(super) const DESTINATIONS_MAX: usize = 4;

/// What stands above a plan without a look.
pub(super) const WITHOUT_A_LOOK: &str = "Planned from the state alone: no host was looked at. A host that \
                                         nothing was applied to yet is taken to be empty.";
/// What stands below what is only to be recorded where that is all.
pub(super) const ONLY_NOTES: &str =
    "Nothing on the hosts changes: apply only notes this in the state.";
/// What stands above drift.
pub(super) const DRIFT: &str = "Changed on the hosts since the last apply";
/// What stands above the hosts that could not be looked at.
pub(super) const WITHOUT_A_PLAN: &str = "Hosts without a plan";
/// What stands above what is wrong with sources.
pub(super) const PROBLEMS: &str = "Entries that cannot be sent";

/// Which command shows the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanCommand {
    /// `plan`.
    Plan {
        /// Whether it is saved, so that apply can do exactly this.
        saved: bool,
    },
    /// `apply`, before it asks.
    Apply,
    /// `show`.
    Show,
    /// `rollback`, before it asks.
    Rollback,
}

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

/// The plan as text that ends in a newline. Its last line is [`summary_line`].
pub fn render(plan: &Plan, options: &PlanView) -> String {
    let mut page = PlanPage {
        page: Page::new(options.width, options.color),
        options,
        shown_diffs: HashMap::new(),
    };
    if plan.header.refresh == Refresh::None {
        page.page.paragraph(WITHOUT_A_LOOK, 0, PLAIN);
    }
    let groups = groups_by_urgency(plan);
    for (set, hosts) in &groups {
        page.block(set, hosts);
    }
    page.drift(&groups);
    page.adopted(&groups, plan.summary().has_changes());
    page.without_plan(plan);
    page.problems(plan);
    page.legend(plan);
    if options.command == (PlanCommand::Plan { saved: false })
        && !options.automation
        && plan.summary().has_changes()
    {
        page.page.section();
        page.page.paragraph(
            "This plan is not saved: apply may find something else to do.",
            0,
            QUIET,
        );
    }

    let summary = summary_of(plan, page.goes_back());
    let summary = paint(&summary, HEADING, options.color);
    if page.page.lines.len() > LONG {
        page.page
            .lines
            .splice(0..0, [summary.clone(), String::new()]);
    }
    page.page.section();
    page.page.lines.push(summary);
    let mut text = page.page.lines.join("\n");
    text.push('\n');
    text
}

/// A line for each apply that did not come to its end on some hosts: these, with its serial.
pub fn cut_short<'a>(hosts: impl Iterator<Item = (&'a HostId, u64)>) -> Vec<String> {
    let mut of_apply: BTreeMap<u64, Vec<&HostId>> = BTreeMap::new();
    for (host, serial) in hosts {
        of_apply.entry(serial).or_default().push(host);
    }
    let in_words = |(serial, hosts): (u64, Vec<&HostId>)| {
        let hosts = host_ranges::folded(hosts);
        format!("Apply {serial} was cut short on {hosts}: what it did there is known.")
    };
    of_apply.into_iter().map(in_words).collect()
}

/// The plan in one line that can be read alone and whose form is kept, since people search for it.
pub fn summary_line(plan: &Plan) -> String {
    summary_of(plan, false)
}

/// The same; `goes_back` is for a rollback, in which nothing is sent.
fn summary_of(plan: &Plan, goes_back: bool) -> String {
    let summary = plan.summary();
    let hosts = count(summary.hosts, "host", "hosts");
    let failed = plan
        .hosts
        .iter()
        .filter(|host| matches!(host.status, HostStatus::Failed(_)))
        .count();
    let unreachable = summary.unreachable - failed;
    let problems: usize = plan.hosts.iter().map(|host| host.problems.len()).sum();
    let mut line = if summary.has_changes() {
        let touched = plan.hosts.iter().filter(|host| host.touches_host()).count();
        let sent = if goes_back {
            String::new()
        } else {
            format!(" ({} to send)", bytes_in_words(plan, summary.bytes_to_send))
        };
        format!(
            "{}: {} to create, {} to update, {} to delete, {} to change on {touched} of {hosts}{sent}",
            if goes_back { "Rollback" } else { "Plan" },
            summary.create,
            summary.update,
            summary.delete,
            count(summary.metadata, "mode", "modes"),
        )
    } else if summary.hosts == 0 {
        "No changes: there are no hosts".to_owned()
    } else if summary.unreachable == summary.hosts && goes_back {
        format!("Nothing to roll back: 0 of {hosts} can be brought back")
    } else if summary.unreachable == summary.hosts {
        format!("Nothing known: 0 of {hosts} could be planned for")
    } else if goes_back {
        format!("Nothing to roll back on {hosts}")
    } else {
        let agree = plan.hosts.iter().filter(|host| host.is_complete()).count();
        let verb = if agree == 1 { "agrees" } else { "agree" };
        if agree == summary.hosts {
            format!("No changes: {hosts} {verb} with the sources")
        } else {
            format!("No changes: {agree} of {hosts} {verb} with the sources")
        }
    };
    let stays = if goes_back {
        ("entry stays as it is", "entries stay as they are")
    } else {
        ("entry cannot be sent", "entries cannot be sent")
    };
    for (number, singular, plural) in [
        (summary.conflicts, "conflict", "conflicts"),
        (summary.adopt, "entry to record", "entries to record"),
        (problems, stays.0, stays.1),
        (unreachable, "host unreachable", "hosts unreachable"),
        (failed, "host failed", "hosts failed"),
    ] {
        if number > 0 {
            line.push_str("; ");
            line.push_str(&count(number, singular, plural));
        }
    }
    if plan.header.refresh == Refresh::None {
        line.push_str("; no host was looked at");
    }
    line.push('.');
    line
}

/// `4.2 KiB`; `at most 300.0 MiB` where a host has something of a large file, of which only the blocks
/// that differ are sent. Which these are is found out when they are.
fn bytes_in_words(plan: &Plan, bytes: u64) -> String {
    let from_bytes = LargeFiles::default().from_bytes;
    let is_file = |node: &Option<Node>| matches!(node, Some(Node::File { .. }));
    let is_sent_in_part = |change: &Change| {
        change.action == Action::Update
            && is_file(&change.before)
            && change.bytes_to_send() >= from_bytes
    };
    let mut hosts = plan.hosts.iter();
    if hosts.any(|host| host.changes().iter().any(is_sent_in_part)) {
        format!("at most {}", size(bytes))
    } else {
        size(bytes)
    }
}

/// A line of a list, and how many changes it stands for.
pub(super) struct Item {
    pub(super) class: Class,
    pub(super) row: Row,
    pub(super) changes: usize,
}

struct PlanPage<'a> {
    page: Page,
    options: &'a PlanView,
    /// The diffs of a few lines or more that were shown, by path, with the hosts that they were shown for.
    shown_diffs: HashMap<(String, String), String>,
}

impl PlanPage<'_> {
    fn goes_back(&self) -> bool {
        self.options.command == PlanCommand::Rollback
    }

    /// The changes of hosts that have the same ones.
    fn block(&mut self, set: &ChangeSet, hosts: &[&HostPlan]) {
        let by_mapping = by_mapping(set);
        if by_mapping.is_empty() {
            return;
        }
        self.page.heading(&with_count(hosts));
        let last = by_mapping.keys().next_back().copied();
        for (mapping, changes) in by_mapping {
            let names = destinations(hosts, mapping);
            self.mapping(&names);
            let root = names.first().map_or(".", |(names, _)| last_part(names));
            let fold = !self.options.full && changes.len() > LIST_MAX;
            let mut items = items(&changes, root, fold, self.goes_back());
            let rest = self.cut(&mut items);
            let rows: Vec<Row> = items.into_iter().map(|item| item.row).collect();
            self.page.table(&rows, 4);
            if !rest.is_empty() {
                let total: usize = rest.values().sum();
                self.page
                    .more(&format!("{total} more: {}", numbers(&rest)), 4);
            }
            if self.diffs(set, hosts, mapping, root) && Some(mapping) != last {
                self.page.section();
            }
        }
    }

    /// How the contents differ in a mapping, in the order in which its changes are shown. Whether there
    /// was anything to say.
    fn diffs(&mut self, set: &ChangeSet, hosts: &[&HostPlan], mapping: usize, root: &str) -> bool {
        let mut diffs: Vec<(Class, &Change, &Diff)> = set
            .diffs
            .iter()
            .filter_map(|(index, diff)| {
                let change = set.changes.get(*index)?;
                let class = Class::of(change).filter(|_| change.mapping == mapping)?;
                Some((class, change, diff))
            })
            .collect();
        diffs.sort_by_key(|(class, ..)| *class);
        let any = !diffs.is_empty();
        for (_, change, diff) in diffs {
            let path = match change.path.as_bytes() {
                b"" => root.as_bytes(),
                path => path,
            };
            let path = escape(path);
            self.page.section();
            if let Diff::Text(text) = diff {
                let key = (path.clone(), text.clone());
                if let Some(earlier) = self.shown_diffs.get(&key) {
                    let line = format!("{path}: the same as for {earlier}");
                    self.page.paragraph(&line, 4, PLAIN);
                    continue;
                }
                self.page.paragraph(&path, 4, HEADING);
                self.diff_lines(text);
                if text.lines().count() >= REPEATED_MIN {
                    self.shown_diffs.insert(key, folded(hosts.iter().copied()));
                }
            } else if let Some(words) = diff::in_words(change, diff) {
                self.page.paragraph(&format!("{path}: {words}"), 4, PLAIN);
            }
        }
        any
    }

    fn diff_lines(&mut self, text: &str) {
        let all = text.lines().count();
        let shown = if self.options.full || all <= DIFF_MAX + 1 {
            all
        } else {
            DIFF_MAX
        };
        for line in diff::lines(text).take(shown) {
            let painted = paint(&line.text, line.style, self.options.color);
            self.page.lines.push(format!("    {painted}"));
        }
        if shown < all {
            self.page
                .more(&count(all - shown, "more line", "more lines"), 4);
        }
    }

    /// Where a mapping goes; where hosts differ in it, which goes where.
    fn mapping(&mut self, names: &[(&MappingNames, Vec<&HostPlan>)]) {
        let shown = if self.options.full || names.len() <= DESTINATIONS_MAX + 1 {
            names.len()
        } else {
            DESTINATIONS_MAX
        };
        for (mapping, hosts) in &names[..shown] {
            let (src, dest) = (
                escape(mapping.src.as_bytes()),
                escape(mapping.dest.as_bytes()),
            );
            let on = if names.len() == 1 {
                String::new()
            } else {
                format!(" on {}", folded(hosts.iter().copied()))
            };
            if self.goes_back() {
                // What comes back does not come from there.
                let width = self.options.width.saturating_sub(2);
                let parts = wrap_path(&format!("{dest}{on}"), width);
                self.page
                    .lines
                    .extend(parts.iter().map(|part| format!("  {part}")));
                continue;
            }
            let line = format!("{src} → {dest}{on}");
            if width_of(&line) + 2 <= self.options.width {
                self.page.lines.push(format!("  {line}"));
                continue;
            }
            let width = self.options.width.saturating_sub(6);
            for (lead, rest, text) in [("  ", "  ", src), ("    → ", "      ", dest)] {
                for (at, part) in wrap_path(&text, width).iter().enumerate() {
                    let lead = if at == 0 { lead } else { rest };
                    self.page
                        .lines
                        .push(format!("{lead}{part}").trim_end().to_owned());
                }
            }
            if !on.is_empty() {
                self.page.paragraph(on.trim_start(), 6, PLAIN);
            }
        }
        if shown < names.len() {
            let what = count(names.len() - shown, "more destination", "more destinations");
            self.page.more(&what, 2);
        }
    }

    /// Shortens a long list, which is sorted by class, and tells how many changes of which class are
    /// left out.
    fn cut(&self, items: &mut Vec<Item>) -> BTreeMap<Class, usize> {
        let mut rest = BTreeMap::new();
        if self.options.full || items.len() <= LIST_MAX {
            return rest;
        }
        let mut keep = shares(items, LIST_MAX);
        items.retain(|item| {
            let is_kept = take_share(&mut keep, item.class);
            if !is_kept {
                *rest.entry(item.class).or_default() += item.changes;
            }
            is_kept
        });
        rest
    }

    /// What somebody else changed on the hosts.
    fn drift(&mut self, groups: &[Group<'_>]) {
        let mut titled = false;
        for (set, hosts) in groups {
            let changes: Vec<&Change> = set.changes.iter().filter(|c| c.drift).collect();
            if changes.is_empty() {
                continue;
            }
            if !titled {
                self.page.heading(DRIFT);
                titled = true;
            }
            self.page.paragraph(&with_count(hosts), 2, PLAIN);
            let shown = if self.options.full {
                changes.len()
            } else {
                changes.len().min(LIST_MAX)
            };
            let rows: Vec<Row> = changes[..shown]
                .iter()
                .map(|change| table::plain_row(full_name(change, hosts), drift_in_words(change)))
                .collect();
            self.page.table(&rows, 4);
            if shown < changes.len() {
                self.page
                    .more(&format!("{} more", changes.len() - shown), 4);
            }
        }
    }

    /// What is already right.
    fn adopted(&mut self, groups: &[Group<'_>], has_changes: bool) {
        let (entries, adopting) = adopted(groups);
        if entries > 0 {
            self.page.section();
            let entries = count(entries, "entry", "entries");
            let hosts = folded(adopting);
            let text = format!("Already right, only to be recorded: {entries} on {hosts}.");
            self.page.paragraph(&text, 0, PLAIN);
            if !has_changes {
                self.page.paragraph(ONLY_NOTES, 0, PLAIN);
            }
        }
    }

    /// Hosts that could not be looked at, and those whose plan was refused.
    fn without_plan(&mut self, plan: &Plan) {
        let errors = errors(plan);
        if errors.is_empty() {
            return;
        }
        self.page.heading(WITHOUT_A_PLAN);
        let shown = if self.options.full || errors.len() <= LIST_MAX + 1 {
            errors.len()
        } else {
            LIST_MAX
        };
        for ((how, error), hosts) in &errors[..shown] {
            let text = format!("{} {how}: {error}", with_count(hosts));
            self.page.paragraph(&text, 2, PLAIN);
        }
        if shown < errors.len() {
            let others = errors[shown..]
                .iter()
                .flat_map(|(_, hosts)| hosts.iter().copied());
            let text = format!("… and {}; --full shows why", folded(others));
            self.page.paragraph(&text, 2, QUIET);
        }
    }

    /// Entries of the sources that cannot be sent.
    fn problems(&mut self, plan: &Plan) {
        let problems = problems(plan);
        if problems.is_empty() {
            return;
        }
        let heading = if self.goes_back() {
            "Entries that stay as they are"
        } else {
            PROBLEMS
        };
        self.page.heading(heading);
        for (problems, hosts) in problems {
            self.page.paragraph(&with_count(&hosts), 2, PLAIN);
            for problem in problems {
                self.page.paragraph(&escape_text(problem), 4, PLAIN);
            }
        }
    }

    /// What the symbols mean that were used.
    fn legend(&mut self, plan: &Plan) {
        let used: BTreeSet<&str> = plan
            .groups()
            .iter()
            .flat_map(|(set, _)| &set.changes)
            .filter_map(Class::of)
            .map(|class| class.symbol().0)
            .collect();
        let meanings = [
            ("!", "destroys what nobody reviewed", ALARM),
            ("-", "delete", DELETE),
            ("+", "create", CREATE),
            ("~", "change", UPDATE),
        ];
        let parts: Vec<String> = meanings
            .into_iter()
            .filter(|(symbol, ..)| used.contains(symbol))
            .map(|(symbol, meaning, style)| {
                format!("{} {meaning}", paint(symbol, style, self.options.color))
            })
            .collect();
        if !parts.is_empty() {
            self.page.section();
            self.page.lines.push(parts.join("   "));
        }
    }
}

/// One item for each change, or where they are folded, one for each new folder with all that is below
/// it; sorted by class. `root` is what a mapping is called that is a single file; `goes_back` is for a
/// rollback.
pub(super) fn items(
    changes: &[(Class, &Change)],
    root: &str,
    fold: bool,
    goes_back: bool,
) -> Vec<Item> {
    let new_folders: BTreeSet<&[u8]> = changes
        .iter()
        .filter(|(class, change)| {
            fold && *class == Class::Create && change.kind() == Kind::Dir && !change.path.is_root()
        })
        .map(|(_, change)| change.path.as_bytes())
        .collect();
    let mut folders: BTreeMap<&[u8], Vec<&Change>> = BTreeMap::new();
    let mut items = Vec::new();
    for (class, change) in changes {
        let path = change.path.as_bytes();
        let top = (*class == Class::Create)
            .then(|| {
                (0..=path.len())
                    .filter(|&end| end == path.len() || path[end] == b'/')
                    .map(|end| &path[..end])
                    .find(|folder| new_folders.contains(folder))
            })
            .flatten();
        match top {
            Some(folder) => folders.entry(folder).or_default().push(change),
            None => items.push(Item {
                class: *class,
                row: row(*class, change, root, goes_back),
                changes: 1,
            }),
        }
    }
    for (folder, below) in folders {
        let files = below.iter().filter(|change| change.kind() != Kind::Dir);
        let files = count(files.count(), "file", "files");
        let bytes: u64 = below.iter().map(|change| change.bytes_to_send()).sum();
        let mut row = Row {
            symbol: "+",
            style: CREATE,
            name: format!("{}/", escape(folder)),
            detail: String::new(),
            reason: if goes_back { "was there before" } else { "new" }.to_owned(),
        };
        if below.len() > 1 {
            row.detail = format!("{files}, {}", size(bytes));
        }
        items.push(Item {
            class: Class::Create,
            row,
            changes: below.len(),
        });
    }
    items.sort_by_key(|item| item.class);
    items
}

/// How many items of each class are shown where there is room for `room` of them. Conflicts and deletes
/// need not share it.
pub(super) fn shares(items: &[Item], mut room: usize) -> BTreeMap<Class, usize> {
    let mut numbers: BTreeMap<Class, usize> = BTreeMap::new();
    for item in items {
        *numbers.entry(item.class).or_default() += 1;
    }
    let mut keep: BTreeMap<Class, usize> = BTreeMap::new();
    let (always, mut others): (Vec<_>, Vec<_>) = numbers
        .into_iter()
        .partition(|(class, _)| class.always_shown());
    for (class, number) in always {
        let number = number.min(ALARM_MAX);
        room = room.saturating_sub(number);
        keep.insert(class, number);
    }
    // The others share what is left of the room, rare ones first, so that two updates are not lost
    // among a thousand creates.
    others.sort_by_key(|(_, number)| *number);
    let mut left = others.len();
    room = room.max(left);
    for (class, number) in others {
        let number = number.min(room / left);
        room -= number;
        left -= 1;
        keep.insert(class, number);
    }
    keep
}

/// Whether one more item of this class is shown, according to [`shares`].
pub(super) fn take_share(keep: &mut BTreeMap<Class, usize>, class: Class) -> bool {
    let left = keep.entry(class).or_default();
    let is_kept = *left > 0;
    *left = left.saturating_sub(1);
    is_kept
}

/// `10 to delete, 521 to create`.
pub(super) fn numbers(numbers: &BTreeMap<Class, usize>) -> String {
    let numbers = numbers.iter().map(|(class, number)| class.number(*number));
    numbers.collect::<Vec<_>>().join(", ")
}

/// The changes of each mapping, without those that are only recorded.
pub(super) fn by_mapping(set: &ChangeSet) -> BTreeMap<usize, Vec<(Class, &Change)>> {
    let mut by_mapping: BTreeMap<usize, Vec<(Class, &Change)>> = BTreeMap::new();
    for change in &set.changes {
        if let Some(class) = Class::of(change) {
            let changes = by_mapping.entry(change.mapping).or_default();
            changes.push((class, change));
        }
    }
    by_mapping
}

/// How many entries are only recorded, and on which hosts.
pub(super) fn adopted<'a>(groups: &[Group<'a>]) -> (usize, Vec<&'a HostPlan>) {
    let mut entries = 0;
    let mut adopting = Vec::new();
    for (set, hosts) in groups {
        let adopted = set.changes.iter().filter(|c| c.action == Action::Adopt);
        let adopted = adopted.count();
        if adopted > 0 {
            entries += adopted * hosts.len();
            adopting.extend(hosts.iter().copied());
        }
    }
    (entries, adopting)
}

/// Hosts that could not be looked at, and those whose plan was refused: how, why, and who. Errors that
/// differ in the address of their host alone are one, without it.
pub(super) fn errors(plan: &Plan) -> Vec<((&'static str, String), Vec<&HostPlan>)> {
    let mut errors: Vec<((&'static str, String), Vec<&HostPlan>)> = Vec::new();
    let mut index_of: HashMap<(&'static str, String), usize> = HashMap::new();
    for host in &plan.hosts {
        let (how, error) = match &host.status {
            HostStatus::Ok => continue,
            HostStatus::Unreachable(error) => ("unreachable", error),
            HostStatus::Failed(error) => ("failed", error),
        };
        let text = first_line(&error.to_string());
        let without_address = without_address(&text, host.host.as_str());
        let index = *index_of
            .entry((how, without_address.clone()))
            .or_insert_with(|| {
                errors.push(((how, text), Vec::new()));
                errors.len() - 1
            });
        let ((_, shown), hosts) = &mut errors[index];
        hosts.push(host);
        if hosts.len() > 1 {
            *shown = without_address;
        }
    }
    errors
}

/// An error without the address of its host, as far as the host is called by it: a word such as `web` may
/// mean something else.
fn without_address(error: &str, host: &str) -> String {
    if host.contains(['.', ':']) {
        error.replace(host, "…")
    } else {
        error.to_owned()
    }
}

/// Entries of the sources that cannot be sent, and for which hosts.
pub(super) fn problems(plan: &Plan) -> Vec<(&[String], Vec<&HostPlan>)> {
    let mut problems: Vec<(&[String], Vec<&HostPlan>)> = Vec::new();
    let with_problems = plan.hosts.iter().filter(|host| !host.problems.is_empty());
    for host in with_problems {
        match problems
            .iter_mut()
            .find(|(other, _)| *other == host.problems)
        {
            Some((_, hosts)) => hosts.push(host),
            None => problems.push((&host.problems, vec![host])),
        }
    }
    problems
}

/// The blocks of a plan in the order in which reviewers want to see them.
pub(super) fn groups_by_urgency(plan: &Plan) -> Vec<Group<'_>> {
    let mut groups = plan.groups();
    groups.sort_by_key(|(set, _)| urgency(set));
    groups
}

/// Where the block of these changes stands: conflicts, deletes, the others.
fn urgency(set: &ChangeSet) -> usize {
    let order = [Class::Conflict, Class::Delete];
    order
        .iter()
        .position(|class| set.changes.iter().any(|c| Class::of(c) == Some(*class)))
        .unwrap_or(order.len())
}

/// A change set and the hosts that have it.
pub(super) type Group<'a> = (std::sync::Arc<ChangeSet>, Vec<&'a HostPlan>);

/// `web[1-3,7], db`.
fn folded<'a>(hosts: impl IntoIterator<Item = &'a HostPlan>) -> String {
    host_ranges::folded(hosts.into_iter().map(|host| &host.host))
}

/// `web[1-3,7] (4 hosts)`; a host alone is not counted.
pub(super) fn with_count(hosts: &[&HostPlan]) -> String {
    let names = folded(hosts.iter().copied());
    if hosts.len() == 1 {
        names
    } else {
        format!("{names} ({} hosts)", hosts.len())
    }
}

/// What the hosts call this mapping, with the hosts that call it so.
pub(super) fn destinations<'a>(
    hosts: &[&'a HostPlan],
    mapping: usize,
) -> Vec<(&'a MappingNames, Vec<&'a HostPlan>)> {
    let mut index_of: BTreeMap<&MappingNames, usize> = BTreeMap::new();
    let mut out: Vec<(&MappingNames, Vec<&HostPlan>)> = Vec::new();
    for host in hosts {
        if let Some(names) = host.mappings.get(mapping) {
            let index = *index_of.entry(names).or_insert_with(|| {
                out.push((names, Vec::new()));
                out.len() - 1
            });
            out[index].1.push(host);
        }
    }
    out
}

/// The last part of a destination: the name of a mapping that is a single file.
pub(super) fn last_part(names: &MappingNames) -> &str {
    let dest = names.dest.trim_end_matches('/');
    dest.rsplit('/')
        .next()
        .filter(|s| !s.is_empty())
        .unwrap_or("/")
}

/// Destination and path in one, as far as the hosts agree about the destination.
pub(super) fn full_name(change: &Change, hosts: &[&HostPlan]) -> String {
    let names = destinations(hosts, change.mapping);
    let dest = match names.as_slice() {
        [(names, _)] => escape(names.dest.trim_end_matches('/').as_bytes()),
        [(first, _), others @ ..] if change.path.is_root() => {
            let last = last_part(first);
            let agree = others.iter().all(|(names, _)| last_part(names) == last);
            format!(
                "…/{}",
                if agree {
                    escape(last.as_bytes())
                } else {
                    String::new()
                }
            )
        }
        _ => "…".to_owned(),
    };
    below(&dest, &change.path)
}

/// A path below an escaped destination, escaped.
pub(super) fn below(dest: &str, path: &RelPath) -> String {
    if path.is_root() {
        dest.to_owned()
    } else {
        format!("{dest}/{}", escape(path.as_bytes()))
    }
}

fn first_line(error: &str) -> String {
    escape_text(error.trim().lines().next().unwrap_or_default())
}

#[cfg(test)]
pub(super) mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::model::{Blake3, ContentDigest, HostId, Mode, Node};
    use crate::plan::{PlanHeader, Reason};

    fn view() -> PlanView {
        PlanView {
            full: false,
            width: 80,
            color: false,
            automation: false,
            command: PlanCommand::Plan { saved: true },
        }
    }

    fn shown(hosts: Vec<HostPlan>) -> String {
        render(&plan(hosts), &view())
    }

    pub(in crate::view) fn plan(hosts: Vec<HostPlan>) -> Plan {
        let header = PlanHeader {
            tool_version: "0.1.0".to_owned(),
            created_at: "2026-01-02T03:04:05Z".to_owned(),
            lineage: None,
            serial: 0,
            refresh: Refresh::Quick,
            config_digest: Blake3::of(b""),
        };
        Plan::new(header, hosts)
    }

    pub(in crate::view) fn host(name: &str, changes: Vec<Change>) -> HostPlan {
        HostPlan {
            host: HostId::new(name),
            status: HostStatus::Ok,
            mappings: vec![
                MappingNames {
                    src: "app".to_owned(),
                    dest: "/srv/app".to_owned(),
                    source: None,
                },
                MappingNames {
                    src: "nginx.conf".to_owned(),
                    dest: "/etc/nginx/nginx.conf".to_owned(),
                    source: None,
                },
            ],
            change_set: (!changes.is_empty())
                .then(|| Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
            unchanged: 4,
            problems: Vec::new(),
        }
    }

    pub(in crate::view) fn unreachable(name: &str, error: &str) -> HostPlan {
        HostPlan {
            status: HostStatus::Unreachable(error.into()),
            ..host(name, Vec::new())
        }
    }

    pub(in crate::view) fn file(size_bytes: u64, mode: u32) -> Node {
        Node::File {
            size_bytes,
            mode: Mode::new(mode),
            digest: ContentDigest::default(),
        }
    }

    pub(in crate::view) fn dir() -> Node {
        Node::Dir {
            mode: Mode::new(0o755),
        }
    }

    pub(in crate::view) fn link(target: &str) -> Node {
        Node::Symlink {
            target: target.as_bytes().into(),
        }
    }

    pub(in crate::view) fn change(
        path: &str,
        reason: Reason,
        before: Option<Node>,
        after: Option<Node>,
    ) -> Change {
        Change {
            mapping: 0,
            path: RelPath::new(path).unwrap(),
            action: match reason {
                Reason::Missing => Action::Create,
                Reason::Content | Reason::Type => Action::Update,
                Reason::Mode => Action::Metadata,
                Reason::Orphan | Reason::Extraneous => Action::Delete,
                Reason::Recorded => Action::Adopt,
            },
            reason,
            drift: false,
            unmanaged: false,
            conflict: false,
            before,
            after,
        }
    }

    pub(in crate::view) fn new(path: &str, node: Node) -> Change {
        change(path, Reason::Missing, None, Some(node))
    }

    pub(in crate::view) fn updated(path: &str) -> Change {
        change(
            path,
            Reason::Content,
            Some(file(1024, 0o644)),
            Some(file(1229, 0o644)),
        )
    }

    pub(in crate::view) fn orphan(path: &str) -> Change {
        change(path, Reason::Orphan, Some(file(77, 0o644)), None)
    }

    pub(in crate::view) fn conflict(change: Change) -> Change {
        Change {
            drift: true,
            conflict: true,
            ..change
        }
    }

    pub(in crate::view) fn adopted(path: &str) -> Change {
        let node = file(10, 0o644);
        change(path, Reason::Recorded, Some(node.clone()), Some(node))
    }

    /// What a line has after its indentation.
    fn has_line(text: &str, line: &str) -> bool {
        text.lines().any(|other| other.trim_start() == line)
    }

    /// One change of every sort.
    pub(in crate::view) fn mixed() -> Vec<Change> {
        let mode = |mode| Some(file(10, mode));
        vec![
            conflict(updated("config/limits.conf")),
            Change {
                unmanaged: true,
                conflict: true,
                ..updated("config/local.d/override-for-the-second-data-centre.toml")
            },
            orphan("lib/legacy.so"),
            new("bin", dir()),
            new("bin/server", file(4_404_019, 0o755)),
            new("current", link("releases/2026-01")),
            updated("etc/app.toml"),
            change("etc/run.sh", Reason::Mode, mode(0o644), mode(0o755)),
            change("tmp", Reason::Type, mode(0o644), Some(dir())),
            adopted("ok"),
            Change {
                mapping: 1,
                ..updated("")
            },
        ]
    }

    #[test]
    fn new_tree_is_shown_entry_by_entry() {
        let changes = vec![
            new("", dir()),
            new("bin", dir()),
            new("bin/server", file(4_404_019, 0o755)),
            new("current", link("releases/1")),
        ];
        assert_eq!(
            shown(vec![host("web1", changes)]),
            "\
web1
  app → /srv/app
    + ./                              new
    + bin/                            new
    + bin/server             4.2 MiB  new
    + current -> releases/1           new

+ create

Plan: 4 to create, 0 to update, 0 to delete, 0 modes to change on 1 of 1 host (4.2 MiB to send).
"
        );
    }

    #[test]
    fn conflicts_and_deletes_stand_before_everything_else() {
        let hosts = ["web1", "web2", "web3"].map(|name| host(name, mixed()));
        assert_eq!(
            shown(hosts.to_vec()),
            "\
web[1-3] (3 hosts)
  app → /srv/app
    ! config/limits.conf          1.0 KiB → 1.2 KiB  undoes a change on the host
    ! config/local.d/override-for-the-second-data-centre.toml
                                  1.0 KiB → 1.2 KiB  overwrites what is not ours
    - lib/legacy.so               77 B               no longer in the source
    + bin/                                           new
    + bin/server                  4.2 MiB            new
    + current -> releases/2026-01                    new
    ~ etc/app.toml                1.0 KiB → 1.2 KiB  content
    ~ tmp/                        file → folder      of another kind
    ~ etc/run.sh                  0644 → 0755        mode
  nginx.conf → /etc/nginx/nginx.conf
    ~ nginx.conf  1.0 KiB → 1.2 KiB  content

Changed on the hosts since the last apply
  web[1-3] (3 hosts)
    /srv/app/config/limits.conf  changed

Already right, only to be recorded: 3 entries on web[1-3].

! destroys what nobody reviewed   - delete   + create   ~ change

Plan: 9 to create, 15 to update, 3 to delete, 3 modes to change on 3 of 3 hosts (12.6 MiB to send); 6 conflicts; 3 entries to record.
"
        );
    }

    #[test]
    fn blocks_with_conflicts_stand_first_and_those_with_deletes_next() {
        let text = shown(vec![
            host("calm1", vec![updated("a")]),
            host("calm2", vec![new("b", file(1, 0o644))]),
            host("gone", vec![orphan("c"), new("d", file(1, 0o644))]),
            host("torn", vec![conflict(updated("e")), updated("f")]),
            host("gone2", vec![orphan("g")]),
        ]);
        let at = |name: &str| text.find(&format!("{name}\n  app")).unwrap();
        let order = ["torn", "gone", "gone2", "calm1", "calm2"].map(at);
        assert!(order.is_sorted(), "{text}");
    }

    #[test]
    fn entries_that_are_only_recorded_change_nothing_and_the_text_says_so() {
        let recording = host("a", vec![adopted("x"), adopted("y")]);
        assert_eq!(
            shown(vec![recording.clone()]),
            "\
Already right, only to be recorded: 2 entries on a.
Nothing on the hosts changes: apply only notes this in the state.

No changes: 1 host agrees with the sources; 2 entries to record.
"
        );
        let text = shown(vec![recording, host("b", vec![updated("z")])]);
        assert!(!text.contains("Nothing on the hosts"), "{text}");
    }

    #[test]
    fn host_that_was_looked_at_and_refused_is_not_called_unseen() {
        let mut refused = host("db1", Vec::new());
        refused.status = HostStatus::Failed("more deletes than max_delete allows".into());
        assert_eq!(
            shown(vec![refused]),
            "\
Hosts without a plan
  db1 failed: more deletes than max_delete allows

Nothing known: 0 of 1 host could be planned for; 1 host failed.
"
        );
    }

    #[test]
    fn five_hundred_hosts_of_three_kinds_are_three_blocks() {
        let hosts = (0..500)
            .map(|n| {
                let changes = match n % 3 {
                    0 => vec![updated("a")],
                    1 => vec![updated("a"), updated("b")],
                    _ => vec![orphan("c")],
                };
                host(&format!("{}-{n:03}", ["x", "y", "z"][n % 3]), changes)
            })
            .collect();
        let text = shown(hosts);
        assert_eq!(text.matches("app → /srv/app").count(), 3, "{text}");
        assert!(text.contains(" (167 hosts)\n") && text.contains(" (166 hosts)\n"));
        assert!(text.contains("500 of 500 hosts"));
    }

    #[test]
    fn hosts_of_a_block_may_have_different_destinations() {
        let elsewhere = |name: &str, dest: &str| {
            let mut host = host(name, vec![conflict(updated("a"))]);
            host.mappings[0].dest = dest.to_owned();
            host
        };
        let text = shown(vec![
            elsewhere("db1", "/opt/app"),
            elsewhere("db2", "/opt/app"),
            elsewhere("db3", "/srv/app"),
        ]);
        assert!(has_line(&text, "app → /opt/app on db[1-2]"), "{text}");
        assert!(has_line(&text, "app → /srv/app on db3"), "{text}");
        assert!(has_line(&text, "…/a  changed"), "{text}");

        let many = (0..100).map(|n| elsewhere(&format!("h{n}"), &format!("/srv/{n}")));
        let many = plan(many.collect());
        let text = render(&many, &view());
        let more = "… and 96 more destinations; --full shows them";
        assert!(has_line(&text, more), "{text}");
        let full = PlanView {
            full: true,
            ..view()
        };
        assert!(render(&many, &full).contains("/srv/99 on h99"));
    }

    #[test]
    fn hosts_that_are_down_stand_at_the_end_with_the_first_line_of_their_error() {
        let mut failed = unreachable("db1", "x");
        failed.status = HostStatus::Failed("no folder\nnot for people".into());
        let text = shown(vec![
            unreachable("web7", "login refused"),
            unreachable("web8", "login refused"),
            failed,
            host("web1", vec![new("a", file(1, 0o644))]),
        ]);
        assert_eq!(
            text,
            "\
web1
  app → /srv/app
    + a  1 B  new

Hosts without a plan
  web[7-8] (2 hosts) unreachable: login refused
  db1 failed: no folder

+ create

Plan: 1 to create, 0 to update, 0 to delete, 0 modes to change on 1 of 4 hosts (1 B to send); 2 hosts unreachable; 1 host failed.
"
        );
    }

    #[test]
    fn nothing_to_do_is_one_line() {
        let agreeing = |n: usize| host(&format!("h{n}"), Vec::new());
        assert_eq!(shown(Vec::new()), "No changes: there are no hosts.\n");
        assert_eq!(
            shown((0..5).map(agreeing).collect()),
            "No changes: 5 hosts agree with the sources.\n"
        );
        assert_eq!(
            shown(vec![agreeing(1)]),
            "No changes: 1 host agrees with the sources.\n"
        );
    }

    #[test]
    fn summary_never_claims_agreement_of_hosts_that_nobody_saw() {
        let line = |hosts| summary_line(&plan(hosts));
        let agreeing = || host("a", Vec::new());
        let down = || unreachable("b", "x");
        assert_eq!(
            line(vec![agreeing(), down()]),
            "No changes: 1 of 2 hosts agrees with the sources; 1 host unreachable."
        );
        assert_eq!(
            line(vec![down()]),
            "Nothing known: 0 of 1 host could be planned for; 1 host unreachable."
        );
        assert_eq!(
            line(vec![host("a", vec![adopted("x"), adopted("y")])]),
            "No changes: 1 host agrees with the sources; 2 entries to record."
        );
        let unsendable = HostPlan {
            problems: vec!["x: is a socket".to_owned()],
            ..agreeing()
        };
        assert_eq!(
            line(vec![unsendable]),
            "No changes: 0 of 1 host agree with the sources; 1 entry cannot be sent."
        );
    }

    #[test]
    fn long_list_is_folded_but_not_its_conflicts_and_deletes() {
        let mut changes = vec![new("", dir()), new("static", dir())];
        changes.extend((0..480).map(|n| new(&format!("static/{n:03}.png"), file(20_480, 0o644))));
        changes.extend((0..40).map(|n| new(&format!("new{n:02}"), file(1, 0o644))));
        changes.extend((0..50).map(|n| conflict(updated(&format!("conflict{n:02}")))));
        changes.extend((0..110).map(|n| orphan(&format!("orphan{n:03}"))));
        changes.push(updated("rare"));
        changes.sort();
        let hosts = plan(vec![host("a", changes)]);
        let text = render(&hosts, &view());
        let starting = |start: &str| {
            text.lines()
                .filter(|line| line.trim_start().starts_with(start))
                .count()
        };
        assert_eq!(starting("! conflict"), 50);
        assert_eq!(starting("- orphan"), 100);
        assert!(text.contains("~ rare"), "{text}");
        let more = "… and 531 more: 10 to delete, 521 to create; --full shows them";
        assert!(has_line(&text, more), "{text}");
        assert!(text.starts_with("Plan: 522 to create"));
        assert!(text.ends_with("50 conflicts.\n"));

        let full = PlanView {
            full: true,
            ..view()
        };
        let text = render(&hosts, &full);
        assert!(!text.contains('…'), "{text}");
        assert!(text.contains("+ static/479.png"));
        assert!(text.contains("- orphan109"));
    }

    #[test]
    fn new_folder_with_all_that_is_below_it_is_one_line_of_a_long_list() {
        let mut changes = vec![new("d", dir()), new("d.txt", file(1, 0o644))];
        changes.extend((0..30).map(|n| new(&format!("d/{n}"), file(1024, 0o644))));
        let text = shown(vec![host("a", changes)]);
        assert!(
            has_line(&text, "+ d.txt  1 B                 new"),
            "{text}"
        );
        assert!(
            has_line(&text, "+ d/     30 files, 30.0 KiB  new"),
            "{text}"
        );
        assert!(!text.contains("more:"), "{text}");
    }

    #[test]
    fn names_forge_neither_lines_nor_terminal_codes() {
        let evil = "x\nPlan: 0 to create\u{1b}[2J\u{202e}";
        let mut changes = vec![new(evil, link(evil))];
        changes.push(conflict(updated(&format!("{evil}2"))));
        let mut host = host("h\u{1b}[1m", changes);
        host.mappings[0].src = evil.to_owned();
        host.mappings[0].dest = format!("/{evil}");
        host.problems = vec![evil.to_owned()];
        let text = shown(vec![host, unreachable("b\n", "\u{1b}]0;title\u{7}")]);
        assert!(
            !text.contains(|c: char| c != '\n' && (c.is_control() || c == '\u{202e}')),
            "{text:?}"
        );
        let plans = text.lines().filter(|line| line.starts_with("Plan:"));
        assert_eq!(plans.count(), 1);
    }

    #[test]
    fn lines_keep_to_the_width_and_do_not_end_in_spaces() {
        let long = format!("{}file.txt", "some-folder/".repeat(20));
        let mut changes = mixed();
        changes.push(new(&long, file(1, 0o644)));
        let mut wide = host("w1", changes);
        wide.mappings[0].dest = format!("/{long}");
        wide.problems = vec![long.clone()];
        let hosts = plan(vec![wide, unreachable("w2", &"word ".repeat(50))]);
        for width in [40, 60, 80, 200] {
            let text = render(&hosts, &PlanView { width, ..view() });
            for line in text.lines().filter(|line| !line.starts_with("Plan:")) {
                let legend = line.starts_with('!') && width < 70;
                assert!(legend || width_of(line) <= width, "{width}: {line:?}");
                assert_eq!(line.trim_end(), line);
            }
        }
    }

    #[test]
    fn colour_adds_nothing_but_colour() {
        let hosts = plan(vec![host("a", mixed()), unreachable("b", "x")]);
        let color = PlanView {
            color: true,
            ..view()
        };
        let colored = render(&hosts, &color);
        assert!(colored.contains("\u{1b}[31m"));
        assert_eq!(
            anstream::adapter::strip_str(&colored).to_string(),
            render(&hosts, &view())
        );
    }

    #[test]
    fn large_file_that_is_updated_is_sent_in_part_and_a_new_one_as_a_whole() {
        const MIB: u64 = 1024 * 1024;
        let line = |change| summary_line(&plan(vec![host("a", vec![change])]));
        let update = |from, to| {
            let (before, after) = (file(from, 0o644), file(to, 0o644));
            change("disk.img", Reason::Content, Some(before), Some(after))
        };
        assert!(line(update(1, 300 * MIB)).contains("(at most 300.0 MiB to send)"));
        assert!(line(update(300 * MIB, 63 * MIB)).contains("(63.0 MiB to send)"));
        assert!(line(new("disk.img", file(300 * MIB, 0o644))).contains("(300.0 MiB to send)"));
        let instead = change(
            "disk.img",
            Reason::Type,
            Some(dir()),
            Some(file(64 * MIB, 0o644)),
        );
        assert!(line(instead).contains("(64.0 MiB to send)"));
    }

    /// A host with these changes, each with a diff.
    fn with_diffs(name: &str, changes: Vec<(Change, Diff)>) -> HostPlan {
        let (changes, diffs): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let diffs = diffs.into_iter().enumerate().collect();
        HostPlan {
            change_set: Some(Arc::new(ChangeSet::new(changes, diffs))),
            ..host(name, Vec::new())
        }
    }

    #[test]
    fn errors_that_differ_in_the_address_alone_are_one() {
        let down = |name: &str| unreachable(name, &format!("cannot connect to {name}:22: refused"));
        let text = shown(vec![down("10.0.0.1"), down("10.0.0.2"), down("db")]);
        let expected = "  10.0.0.[1-2] (2 hosts) unreachable: cannot connect to …:22: refused\n  db \
                        unreachable: cannot connect to db:22: refused\n";
        assert!(text.contains(expected), "{text}");
        let text = shown(vec![down("10.0.0.1")]);
        assert!(
            text.contains("cannot connect to 10.0.0.1:22: refused"),
            "{text}"
        );
    }

    #[test]
    fn long_diff_that_other_hosts_have_too_is_shown_once() {
        let text = |lines: usize| Diff::Text("@@ -1 +1 @@\n".to_owned() + &"+new\n".repeat(lines));
        let same = || (updated("a.conf"), text(9));
        let drifted = vec![same(), (orphan("old"), Diff::Binary)];
        let hosts = || {
            vec![
                with_diffs("web1", vec![same()]),
                with_diffs("web2", drifted.clone()),
            ]
        };
        let shown = shown(hosts());
        assert_eq!(shown.matches("+new").count(), 9, "{shown}");
        assert!(
            shown.contains("    a.conf: the same as for web2\n"),
            "{shown}"
        );
        let short = |name| with_diffs(name, vec![(updated(name), text(1))]);
        let text = super::tests::shown(vec![short("a"), short("b")]);
        assert_eq!(text.matches("+new").count(), 2, "{text}");
    }

    #[test]
    fn diffs_stand_below_the_table_of_their_mapping_once_for_equal_hosts() {
        let text = |text: &str| Diff::Text(text.to_owned());
        let changes = || {
            let mut conf = updated("");
            conf.mapping = 1;
            vec![
                (
                    updated("a.conf"),
                    text("@@ -1 +1 @@\n-\told\n+new\u{1b}[2J\n"),
                ),
                (new(".env", file(9, 0o600)), Diff::Hidden),
                (conf, Diff::Binary),
            ]
        };
        let text = shown(vec![
            with_diffs("web1", changes()),
            with_diffs("web2", changes()),
        ]);
        let expected = "\
web[1-2] (2 hosts)
  app → /srv/app
    + .env    9 B                new
    ~ a.conf  1.0 KiB → 1.2 KiB  content

    .env: not shown: private

    a.conf
    @@ -1 +1 @@
    -\told
    +new\\u{1b}[2J

  nginx.conf → /etc/nginx/nginx.conf
    ~ nginx.conf  1.0 KiB → 1.2 KiB  content

    nginx.conf: binary, 1.0 KiB → 1.2 KiB

";
        assert!(text.starts_with(expected), "{text}");
    }

    #[test]
    fn long_diff_is_folded_unless_everything_is_asked_for() {
        let long = |lines: usize| {
            let text = format!("@@ -0,0 +1,{lines} @@\n") + &"+x\n".repeat(lines);
            let change = new("a", file(1, 0o644));
            plan(vec![with_diffs("web1", vec![(change, Diff::Text(text))])])
        };
        let lines =
            |plan: &Plan, options: &PlanView| render(plan, options).matches("\n    +x").count();
        let text = render(&long(100), &view());
        assert!(
            has_line(&text, "… and 41 more lines; --full shows them"),
            "{text}"
        );
        assert_eq!(lines(&long(100), &view()), DIFF_MAX - 1);
        // To fold a single line would save nothing.
        assert_eq!(lines(&long(DIFF_MAX), &view()), DIFF_MAX);
        let full = PlanView {
            full: true,
            ..view()
        };
        assert_eq!(lines(&long(100), &full), 100);
    }

    #[test]
    fn hint_is_for_people_whose_plan_is_not_saved() {
        let hosts = plan(vec![host("a", mixed())]);
        let hinted = |command, automation| {
            let options = PlanView {
                automation,
                command,
                ..view()
            };
            render(&hosts, &options).contains("not saved")
        };
        assert!(hinted(PlanCommand::Plan { saved: false }, false));
        assert!(!hinted(PlanCommand::Plan { saved: false }, true));
        assert!(!hinted(PlanCommand::Plan { saved: true }, false));
        assert!(!hinted(PlanCommand::Apply, false));
    }
}
