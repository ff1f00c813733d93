//! A plan as a reviewer sees it.
//!
//! What a reviewer must not miss stands first: conflicts, then deletes, among the groups of hosts and within
//! each. Hosts with equal changes share a group. What has drifted stands apart from what is to change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::change;
use super::class::{Class, Numbers};
use super::contents::{ContentDiff, Earlier};
use super::entries::{Drifted, DriftedEntry, Entries, EntryOnHosts, with_slash};
use super::errors::{self, HostErrors, Problems};
use super::hosts::Hosts;
use super::limits::Limits;
use super::places::{Destination, Places};
use super::rows::{Row, by_mapping, rows};
use super::section::{DRIFT, Section};
use super::summary::summary_line;
use super::wording::Wording;
use crate::model::{Blake3, Kind};
use crate::plan::{Action, ChangeSet, HostPlan, Plan, PlanRemark, Refresh, Warning, WarningKind};
use crate::view::words::{count, escape, escape_text};

/// What stands above a plan without a look.
const WITHOUT_A_LOOK: &str = "Planned from the state alone: no host was looked at. A host that nothing was \
                              applied to yet is taken to be empty.";
/// What a reviewer of conflicts must know who has not read the manual.
const APPROVED_WITH_THE_REST: &str = "These were changed on the hosts, or were never written by \
     hostsync. Applying this plan replaces or deletes them; the old versions are kept on the hosts for a \
     while.";
/// The same, where folders are among the reasons.
const APPROVED_IN_OPEN_FOLDERS: &str = "These were changed on the hosts, were never written by hostsync, or \
     lie in folders that others can change. Applying this plan does all of it; what it replaces or deletes \
     is kept on the hosts for a while.";
/// What stands below what is only to be recorded where that is all.
const ONLY_NOTES: &str = "Nothing on the hosts changes: apply only notes this in the state.";
const NOT_SAVED: &str = "This plan is not saved: apply may find something else to do.";

/// Which command shows the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanCommand {
    /// `plan`.
    Plan {
        /// Whether it is saved, so that apply can do exactly this.
        saved: bool,
    },
    /// `apply` or `rollback`, before it asks.
    Apply,
    /// `show`.
    Show,
}

/// What the review of a plan depends on besides the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanOptions {
    /// Which command shows it.
    pub command: PlanCommand,
    /// Whether a person is in front of it, who may need hints.
    pub with_hints: bool,
    /// Whether conflicts and deletes stand above the groups, with all hosts that they are on, instead of
    /// first in each group.
    pub alarms_apart: bool,
    /// Whether what is in new folders is only counted, in long lists.
    pub folds_folders: bool,
}

/// A plan as a reviewer sees it, in the order in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanReview<'a> {
    /// What stands above all of it, where a form has a title.
    pub title: &'static str,
    /// Serial of the state that the plan was made from.
    pub serial: u64,
    /// What holds for all of it.
    pub note: Option<&'static str>,
    /// Folders that others can change.
    pub exposed: Vec<ExposedFolder<'a>>,
    /// Conflicts and then deletes, where they stand apart.
    pub alarms: Vec<Alarms<'a>>,
    /// What is to change, by hosts with the same changes.
    pub groups: Vec<Group<'a>>,
    /// What somebody else changed.
    pub drift: Section<Drifted<'a>>,
    /// What is only to be recorded.
    pub adopted: Option<Adopted<'a>>,
    /// Hosts that could not be looked at, and those whose plan was refused.
    pub without_plan: Section<HostErrors<'a>>,
    /// What is left out.
    pub problems: Section<Problems<'a>>,
    /// What to know about the files of the configuration, each with its file in front.
    pub remarks: Section<String>,
    /// The symbols that came up, each once.
    pub legend: Vec<Class>,
    /// What a person may not know.
    pub hint: Option<&'static str>,
    /// All of it in one line: [`summary_line`].
    pub summary: String,
}

fn remark(PlanRemark { path, text, .. }: &PlanRemark) -> String {
    format!("{}: {}", escape(path.as_bytes()), escape_text(text))
}

/// A folder above destinations that somebody who is neither root nor the login can change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExposedFolder<'a> {
    /// The folder.
    pub folder: String,
    /// The hosts.
    pub hosts: Hosts<'a>,
}

impl ExposedFolder<'_> {
    /// What it means, with the folder and the hosts as a form writes them.
    pub fn in_words(folder: &str, hosts: &str) -> String {
        format!(
            "Others can change {folder} on {hosts}, so every change below it is a conflict. \
             `trust_ancestors` in the mapping accepts that."
        )
    }
}

/// All conflicts, or all deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alarms<'a> {
    /// Which of them.
    pub class: Class,
    /// What a reviewer must know about them.
    pub note: Option<&'static str>,
    /// At least one.
    pub entries: Vec<EntryOnHosts<'a>>,
}

/// What is to change on hosts that have the same changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group<'a> {
    /// The hosts.
    pub hosts: Hosts<'a>,
    /// The changes of each of these hosts that are among the alarms instead.
    pub apart: Numbers,
    /// Those that are not, by mapping.
    pub mappings: Vec<MappingChanges<'a>>,
    /// How contents differ, in the order of mappings and paths.
    pub diffs: Vec<ContentDiff<'a>>,
}

impl Group<'_> {
    /// How many changes there are of each class, on each host, without those that stand apart.
    pub fn numbers(&self) -> Numbers {
        let mut numbers = Numbers::default();
        for row in self.mappings.iter().flat_map(|mapping| &mapping.rows) {
            numbers.add(row.class, row.changes);
        }
        numbers
    }

    /// `3 to create, 1 diff, and 2 conflicts (above)`: what happens on each host.
    pub fn in_words(&self) -> String {
        let mut parts: Vec<String> = self.numbers().each().collect();
        if !self.diffs.is_empty() {
            parts.push(count(self.diffs.len(), "diff", "diffs"));
        }
        if !self.apart.is_empty() {
            parts.push(format!("and {} (above)", self.apart.in_words()));
        }
        parts.join(", ")
    }
}

/// What is to change in a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingChanges<'a> {
    /// Its index.
    pub mapping: usize,
    /// Where it goes; several where the hosts differ in it.
    pub destinations: Vec<Destination<'a>>,
    /// What happens, sorted by class. A form shows [`super::rows::within`] its limits.
    pub rows: Vec<Row>,
}

/// What is right already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted<'a> {
    /// How many entries, on all hosts.
    pub entries: usize,
    /// The hosts.
    pub hosts: Hosts<'a>,
    /// What stands below where nothing else is to be done.
    pub note: Option<&'static str>,
}

impl Adopted<'_> {
    /// All of it but the note. `hosts` are the hosts as a form writes them.
    pub fn in_words(&self, hosts: &str) -> String {
        let entries = count(self.entries, "entry", "entries");
        format!("Already right, only to be recorded: {entries} on {hosts}.")
    }
}

impl<'a> PlanReview<'a> {
    /// The review of a plan.
    pub fn of(plan: &'a Plan, options: PlanOptions) -> Self {
        let sets = SharedSet::by_urgency(plan);
        let words = Wording::of(plan.back_to);
        let has_changes = plan.summary().has_changes();
        let is_lost = options.command == PlanCommand::Plan { saved: false } && has_changes;
        let mut earlier = Earlier::default();
        let groups = sets.iter();
        let groups = groups.filter_map(|set| set.group(options, words, &mut earlier));
        Self {
            title: "hostsync plan",
            serial: plan.header.serial,
            note: (plan.header.refresh == Refresh::None).then_some(WITHOUT_A_LOOK),
            exposed: exposed(plan),
            alarms: if options.alarms_apart {
                alarms(&sets, words, plan.is_exposed())
            } else {
                Vec::new()
            },
            groups: groups.collect(),
            drift: Section {
                title: DRIFT,
                items: sets.iter().filter_map(SharedSet::drift).collect(),
            },
            adopted: adopted(&sets, has_changes),
            without_plan: Section {
                title: "Hosts without a plan",
                items: errors::of_hosts(&plan.hosts),
            },
            problems: Section {
                title: words.left_out,
                items: errors::problems(&plan.hosts),
            },
            remarks: Section {
                title: "Remarks on the configuration",
                items: plan.remarks.iter().map(remark).collect(),
            },
            legend: legend(&sets),
            hint: (is_lost && options.with_hints).then_some(NOT_SAVED),
            summary: summary_line(plan),
        }
    }

    /// Which plan it is, where a form says so. `digest` is [`short`], as the form writes it.
    pub fn origin(&self, digest: &str) -> String {
        format!("Plan {digest}, made at serial {}.", self.serial)
    }
}

/// The beginning of the digest of a plan, by which people know it.
pub fn short(digest: Blake3) -> String {
    let mut digest = digest.to_string();
    digest.truncate(12);
    digest
}

/// A change set, the hosts that have it, and what its mappings are called there.
struct SharedSet<'a> {
    set: Arc<ChangeSet>,
    hosts: Hosts<'a>,
    /// Of each mapping that has changes.
    places: BTreeMap<usize, Places<'a>>,
}

impl<'a> SharedSet<'a> {
    /// All of a plan: those with conflicts first, then those with deletes.
    fn by_urgency(plan: &'a Plan) -> Vec<Self> {
        let shared = |(set, hosts): (Arc<ChangeSet>, Vec<&'a HostPlan>)| Self {
            places: set
                .changes
                .chunk_by(|a, b| a.mapping == b.mapping)
                .map(|changes| changes[0].mapping)
                .map(|mapping| (mapping, Places::of(&hosts, mapping)))
                .collect(),
            hosts: hosts.iter().map(|host| &host.host).collect(),
            set,
        };
        let mut sets: Vec<Self> = plan.groups().into_iter().map(shared).collect();
        sets.sort_by_key(Self::urgency);
        sets
    }

    fn urgency(&self) -> usize {
        let has = |class: &Class| {
            let mut changes = self.set.changes.iter();
            changes.any(|change| Class::of(change) == Some(*class))
        };
        let order = [Class::Conflict, Class::Delete];
        order.iter().position(has).unwrap_or(order.len())
    }

    /// What is to change; `None` for nothing.
    fn group<'s>(
        &'s self,
        options: PlanOptions,
        words: &Wording,
        earlier: &mut Earlier<'a, 's>,
    ) -> Option<Group<'a>> {
        let mut apart = Numbers::default();
        let mut mappings = Vec::new();
        for (mapping, mut changes) in by_mapping(&self.set) {
            changes.retain(|(class, _)| {
                let is_apart = options.alarms_apart && class.is_alarm();
                if is_apart {
                    apart.add(*class, 1);
                }
                !is_apart
            });
            if changes.is_empty() {
                continue;
            }
            let places = &self.places[&mapping];
            let folds = options.folds_folders && changes.len() > Limits::SHORT.rows;
            mappings.push(MappingChanges {
                mapping,
                destinations: places.destinations(words),
                rows: rows(&changes, places.root(), folds, words),
            });
        }
        let diffs: Vec<ContentDiff<'a>> = self.diffs(earlier);
        (!mappings.is_empty() || !diffs.is_empty()).then(|| Group {
            hosts: self.hosts.clone(),
            apart,
            mappings,
            diffs,
        })
    }

    fn diffs<'s>(&'s self, earlier: &mut Earlier<'a, 's>) -> Vec<ContentDiff<'a>> {
        let diffs = self.set.diffs.iter().filter_map(|(index, diff)| {
            let change = self.set.changes.get(*index)?;
            let class = Class::of(change)?;
            let places = &self.places[&change.mapping];
            let name = match change.path.as_bytes() {
                b"" => escape(places.root().as_bytes()),
                path => escape(path),
            };
            Some(ContentDiff {
                mapping: change.mapping,
                class,
                content: earlier.content(&name, change, diff, &self.hosts),
                full_name: places.full_name(&change.path),
                name,
            })
        });
        diffs.collect()
    }

    fn drift(&self) -> Option<Drifted<'a>> {
        let changes = self.set.changes.iter().filter(|change| change.drift);
        let entries = changes.map(|change| DriftedEntry {
            name: self.places[&change.mapping].full_name(&change.path),
            is_folder: change.kind() == Kind::Dir,
            what: change::drift_in_words(change),
        });
        let entries: Vec<DriftedEntry> = entries.collect();
        (!entries.is_empty()).then(|| Drifted {
            hosts: self.hosts.clone(),
            entries,
        })
    }
}

fn exposed(plan: &Plan) -> Vec<ExposedFolder<'_>> {
    let mut folders: BTreeMap<&str, Hosts<'_>> = BTreeMap::new();
    for host in &plan.hosts {
        for Warning { kind, path } in &host.warnings {
            match kind {
                WarningKind::Ancestor => folders.entry(path).or_default().extend([&host.host]),
            }
        }
    }
    let folders = folders.into_iter().map(|(folder, hosts)| ExposedFolder {
        folder: escape(folder.as_bytes()),
        hosts,
    });
    folders.collect()
}

/// Conflicts and deletes, as far as there are any.
fn alarms<'a>(sets: &[SharedSet<'a>], words: &Wording, is_exposed: bool) -> Vec<Alarms<'a>> {
    let approved = if is_exposed {
        APPROVED_IN_OPEN_FOLDERS
    } else {
        APPROVED_WITH_THE_REST
    };
    let all = [(Class::Conflict, Some(approved)), (Class::Delete, None)];
    let alarms = all.map(|(class, note)| {
        let mut entries = Entries::default();
        for set in sets {
            let changes = set.set.changes.iter();
            for change in changes.filter(|change| Class::of(change) == Some(class)) {
                let name = set.places[&change.mapping].full_name(&change.path);
                entries.add(
                    with_slash(name, change.kind() == Kind::Dir),
                    change::detail(change),
                    change::reason(change, words),
                    &set.hosts,
                );
            }
        }
        let entries = entries.into_vec();
        Alarms {
            class,
            note,
            entries,
        }
    });
    let is_some = |alarms: &Alarms<'_>| !alarms.entries.is_empty();
    alarms.into_iter().filter(is_some).collect()
}

/// How many entries are only recorded, and on which hosts.
fn adopted<'a>(sets: &[SharedSet<'a>], has_changes: bool) -> Option<Adopted<'a>> {
    let mut entries = 0;
    let mut hosts = Hosts::default();
    for set in sets {
        let changes = set.set.changes.iter();
        let adopted = changes.filter(|change| change.action == Action::Adopt);
        let adopted = adopted.count();
        if adopted > 0 {
            entries += adopted * set.hosts.number();
            hosts.extend(set.hosts.iter());
        }
    }
    (entries > 0).then(|| Adopted {
        entries,
        hosts,
        note: (!has_changes).then_some(ONLY_NOTES),
    })
}

/// The symbols that come up.
fn legend(sets: &[SharedSet<'_>]) -> Vec<Class> {
    let changes = sets.iter().flat_map(|set| &set.set.changes);
    let used: BTreeSet<&str> = changes.filter_map(Class::of).map(Class::symbol).collect();
    let all = [Class::Conflict, Class::Delete, Class::Create, Class::Update];
    let is_used = |class: &Class| used.contains(class.symbol());
    all.into_iter().filter(is_used).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::samples::{host, mixed, orphan, plan, unreachable, updated};

    #[test]
    fn alarms_apart_and_alarms_in_their_groups_are_the_same_changes() {
        let plan = plan(vec![
            host("a", mixed()),
            host("b", mixed()),
            host("c", vec![orphan("x"), updated("y")]),
            unreachable("d", "x"),
        ]);
        let review = |alarms_apart| {
            let options = PlanOptions {
                command: PlanCommand::Show,
                with_hints: false,
                alarms_apart,
                folds_folders: false,
            };
            PlanReview::of(&plan, options)
        };
        let (apart, together) = (review(true), review(false));
        let numbers = |review: &PlanReview<'_>| {
            let mut numbers = Numbers::default();
            for group in &review.groups {
                for (class, number) in group.numbers().iter() {
                    numbers.add(class, number * group.hosts.number());
                }
            }
            for Alarms { class, entries, .. } in &review.alarms {
                for entry in entries {
                    numbers.add(*class, entry.hosts.number());
                }
            }
            numbers
        };
        assert_eq!(apart.alarms.len(), 2);
        assert_eq!(together.alarms, []);
        assert_eq!(numbers(&apart), numbers(&together));
        assert_eq!(apart.groups[0].apart.in_words(), "2 conflicts, 1 to delete");
        assert_eq!(apart.drift, together.drift);
        assert_eq!(apart.summary, together.summary);
    }
}
