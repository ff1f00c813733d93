//! A status as a reviewer sees it.
//!
//! Hosts that stand alike share a row of a matrix, with a column for each mapping. What has drifted and the
//! last applies follow, and hosts that nobody could look at stand at the end.

use std::collections::{BTreeMap, BTreeSet};

use super::change::moved_in_words;
use super::entries::{Drifted, DriftedEntry};
use super::errors::{self, HostErrors, Problems};
use super::hosts::Hosts;
use super::places::below;
use super::section::{DRIFT, Section, UNSENDABLE};
use crate::model::Kind;
use crate::plan::HostStatus;
use crate::plan::status::{Applied, Drift, MappingStanding, Standing, Status};
use crate::view::words::{count, escape, escape_text};

/// Destinations of one source that have columns of their own.
const COLUMNS_MAX: usize = 3;

/// A status as a reviewer sees it, in the order in which it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusReview<'a> {
    /// The mappings of all hosts that were looked at.
    pub columns: Vec<Column>,
    /// These hosts.
    pub rows: Vec<MatrixRow<'a>>,
    /// What is not as it was written last.
    pub drift: Section<Drifted<'a>>,
    /// Which apply was the last, the newest first.
    pub applies: Section<LastApply<'a>>,
    /// Hosts that could not be looked at.
    pub without_look: Section<HostErrors<'a>>,
    /// Entries of the sources that cannot be sent.
    pub problems: Section<Problems<'a>>,
    /// All of it in one line: [`summary_line`].
    pub summary: String,
}

/// What a mapping is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Column {
    /// The source.
    pub src: String,
    /// The destination; `None` where each host has its own.
    pub dest: Option<String>,
}

impl Column {
    /// The destination, as far as there is one for all hosts.
    pub fn name(&self) -> &str {
        self.dest.as_ref().unwrap_or(&self.src)
    }

    /// `app → /srv/app`.
    pub fn in_words(&self) -> String {
        let Self { src, dest } = self;
        dest.as_ref()
            .map_or_else(|| src.clone(), |dest| format!("{src} → {dest}"))
    }
}

/// Hosts that stand alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MatrixRow<'a> {
    /// The hosts.
    pub hosts: Hosts<'a>,
    /// How their mappings stand, by index of the column. A host need not have all mappings.
    pub cells: BTreeMap<usize, Cell>,
}

/// How a mapping of a host stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// All of it in a word.
    pub standing: Standing,
    /// Entries that have drifted.
    pub drifted: usize,
    /// Changes that apply would make.
    pub to_apply: usize,
}

impl Cell {
    fn of(mapping: &MappingStanding) -> Self {
        Self {
            standing: mapping.standing,
            drifted: mapping.drift.len(),
            to_apply: mapping.to_apply,
        }
    }

    /// `1 drifted, 3 to apply`.
    pub fn in_words(self) -> String {
        let drifted = format!("{} drifted", self.drifted);
        let to_apply = format!("{} to apply", self.to_apply);
        match self.standing {
            Standing::Agrees => "agrees".to_owned(),
            Standing::Drifted => drifted,
            Standing::Behind => to_apply,
            Standing::Both => format!("{drifted}, {to_apply}"),
            Standing::NeverApplied => "never applied".to_owned(),
        }
    }

    /// `!1+3`, where there is no room for words.
    pub fn in_symbols(self) -> String {
        let Self {
            drifted, to_apply, ..
        } = self;
        match self.standing {
            Standing::Agrees => "=".to_owned(),
            Standing::Drifted => format!("!{drifted}"),
            Standing::Behind => format!("+{to_apply}"),
            Standing::Both => format!("!{drifted}+{to_apply}"),
            Standing::NeverApplied => "?".to_owned(),
        }
    }
}

/// The last apply of some hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastApply<'a> {
    /// Its serial.
    pub serial: u64,
    /// When it last touched one of them.
    pub at: String,
    /// Whether it did not come to its end there.
    pub is_in_the_middle: bool,
    /// The hosts.
    pub hosts: Hosts<'a>,
}

impl LastApply<'_> {
    /// Which one it was, without the hosts.
    pub fn in_words(&self) -> String {
        let progress = if self.is_in_the_middle {
            ", not finished"
        } else {
            ""
        };
        format!("serial {}, {}{progress}", self.serial, self.at)
    }
}

impl<'a> StatusReview<'a> {
    /// The review of a status.
    pub fn of(status: &'a Status) -> Self {
        let (columns, rows) = columns_and_rows(status);
        let hosts = &status.plan.hosts;
        Self {
            columns,
            rows,
            drift: Section {
                title: DRIFT,
                items: drift(status),
            },
            applies: Section {
                title: "Last apply",
                items: applies(status),
            },
            without_look: Section {
                title: "Hosts that could not be looked at",
                items: errors::of_hosts(hosts),
            },
            problems: Section {
                title: UNSENDABLE,
                items: errors::problems(hosts),
            },
            summary: summary_line(status),
        }
    }

    /// What the symbols of the cells mean that come up.
    pub fn legend(&self) -> Vec<&'static str> {
        let cells = self.rows.iter().flat_map(|row| row.cells.values());
        let used: BTreeSet<Standing> = cells.map(|cell| cell.standing).collect();
        let has = |standings: &[Standing]| standings.iter().any(|it| used.contains(it));
        let meanings = [
            (has(&[Standing::Agrees]), "= agrees"),
            (has(&[Standing::Drifted, Standing::Both]), "!n drifted"),
            (has(&[Standing::Behind, Standing::Both]), "+n to apply"),
            (has(&[Standing::NeverApplied]), "? never applied"),
        ];
        let used = meanings.into_iter().filter(|(is_used, _)| *is_used);
        used.map(|(_, meaning)| meaning).collect()
    }
}

/// The status in one line that can be read alone and whose form is kept, since people search for it.
pub fn summary_line(status: &Status) -> String {
    let summary = status.summary();
    if summary.hosts == 0 {
        return "Status: there are no hosts.".to_owned();
    }
    let verb = if summary.agree == 1 {
        "agrees"
    } else {
        "agree"
    };
    let hosts = count(summary.hosts, "host", "hosts");
    let mut line = format!("Status: {} of {hosts} {verb}", summary.agree);
    let entries = count(summary.drifted_entries, "entry", "entries");
    let unsendable: usize = status.plan.hosts.iter().map(|it| it.problems.len()).sum();
    let entry = if unsendable == 1 { "entry" } else { "entries" };
    for (number, what) in [
        (summary.drifted, format!("drifted ({entries})")),
        (summary.behind, "behind".to_owned()),
        (
            summary.never_applied,
            "with a mapping never applied".to_owned(),
        ),
        (
            summary.in_the_middle,
            "in the middle of an apply".to_owned(),
        ),
        (unsendable, format!("{entry} cannot be sent")),
        (summary.unreachable, "unreachable".to_owned()),
        (summary.failed, "failed".to_owned()),
    ] {
        if number > 0 {
            line.extend(["; ", &number.to_string(), " ", &what]);
        }
    }
    line.push('.');
    line
}

/// The columns of all mappings, and the rows of all hosts that were looked at.
fn columns_and_rows(status: &Status) -> (Vec<Column>, Vec<MatrixRow<'_>>) {
    let seen = || {
        status
            .iter()
            .filter(|(plan, _)| plan.status == HostStatus::Ok)
    };
    let mut dests_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for names in seen().flat_map(|(plan, _)| &plan.mappings) {
        dests_of.entry(&names.src).or_default().insert(&names.dest);
    }
    let mut columns: Vec<Column> = Vec::new();
    let mut rows: Vec<MatrixRow<'_>> = Vec::new();
    let mut index_of_row: BTreeMap<BTreeMap<usize, Cell>, usize> = BTreeMap::new();
    let mut index_of_column: BTreeMap<(&str, Option<&str>, usize), usize> = BTreeMap::new();
    for (plan, host) in seen() {
        let mut cells = BTreeMap::new();
        for (names, mapping) in plan.mappings.iter().zip(&host.mappings) {
            let src = names.src.as_str();
            let has_own = dests_of[src].len() > COLUMNS_MAX;
            let dest = (!has_own).then_some(names.dest.as_str());
            // A source may go to two places on one host.
            let mut again = 0;
            let index = loop {
                let index = *index_of_column
                    .entry((src, dest, again))
                    .or_insert_with(|| {
                        columns.push(Column {
                            src: escape(src.as_bytes()),
                            dest: dest.map(|dest| escape(dest.as_bytes())),
                        });
                        columns.len() - 1
                    });
                if !cells.contains_key(&index) {
                    break index;
                }
                again += 1;
            };
            cells.insert(index, Cell::of(mapping));
        }
        if cells.is_empty() {
            continue;
        }
        let index = *index_of_row.entry(cells.clone()).or_insert_with(|| {
            let hosts = Hosts::default();
            rows.push(MatrixRow { hosts, cells });
            rows.len() - 1
        });
        rows[index].hosts.extend([&plan.host]);
    }
    (columns, rows)
}

/// What is not as it was written last. Hosts of which the same is said share a group.
fn drift(status: &Status) -> Vec<Drifted<'_>> {
    let mut groups: Vec<Drifted<'_>> = Vec::new();
    let mut index_of: BTreeMap<Vec<(String, String)>, usize> = BTreeMap::new();
    for (plan, host) in status.iter() {
        let mappings = plan.mappings.iter().zip(&host.mappings);
        let entries: Vec<DriftedEntry> = mappings
            .flat_map(|(names, mapping)| {
                let dest = escape(names.dest.trim_end_matches('/').as_bytes());
                let entry = move |drift: &Drift| DriftedEntry {
                    name: below(&dest, &drift.path),
                    is_folder: is_folder(drift),
                    what: moved_in_words(drift),
                };
                mapping.drift.iter().map(entry)
            })
            .collect();
        if entries.is_empty() {
            continue;
        }
        let said = entries.iter().map(|it| (it.name.clone(), it.what.clone()));
        let index = *index_of.entry(said.collect()).or_insert_with(|| {
            let hosts = Hosts::default();
            groups.push(Drifted { hosts, entries });
            groups.len() - 1
        });
        groups[index].hosts.extend([&plan.host]);
    }
    groups
}

fn is_folder(drift: &Drift) -> bool {
    let node = drift.actual.as_ref().or(drift.recorded.as_ref());
    node.is_some_and(|node| node.kind() == Kind::Dir)
}

/// Which apply was the last, and when.
fn applies(status: &Status) -> Vec<LastApply<'_>> {
    let mut applies: BTreeMap<(u64, bool), (Hosts<'_>, &str)> = BTreeMap::new();
    for (plan, host) in status.iter() {
        let Some(Applied {
            serial,
            at,
            is_in_the_middle,
        }) = &host.applied
        else {
            continue;
        };
        let (hosts, last) = applies.entry((*serial, *is_in_the_middle)).or_default();
        hosts.extend([&plan.host]);
        *last = (*last).max(at);
    }
    let newest_first = applies.into_iter().rev();
    newest_first
        .map(|((serial, is_in_the_middle), (hosts, at))| LastApply {
            serial,
            at: escape_text(at),
            is_in_the_middle,
            hosts,
        })
        .collect()
}
