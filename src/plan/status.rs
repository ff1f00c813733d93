//! Where each host stands: what is there, beside what was written last and what would be written now.
//!
//! A plan alone does not tell: an entry that the source no longer has stays as it is unless the mapping
//! is exact, and drift in it changes nothing in the plan.

use serde::Serialize;

use super::build::is_same;
use super::document::{NodeDocument, StatusDocument, text_of};
use super::prepared::{Preparation, Prepared, PreparedHost};
use super::{Action, Actual, Change, HostPlan, HostStatus, Plan};
use crate::config::{Host, Mapping, Modes};
use crate::model::{HostId, Kind, Node, RelPath, Tree};
use crate::state::{HostRecord, StateError, StateStore};

/// The version of the document that [`to_json`] writes.
pub const FORMAT_VERSION: &str = "1.0";

/// Where each host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// What apply would do.
    pub plan: Plan,
    /// For each host of the plan, in its order.
    pub hosts: Vec<HostStanding>,
}

/// Where a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStanding {
    /// The last apply that touched it; `None` for none.
    pub applied: Option<Applied>,
    /// For each mapping, in the order of the configuration; empty where nobody could look.
    pub mappings: Vec<MappingStanding>,
}

/// The last apply that touched a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    /// Its serial.
    pub serial: u64,
    /// When it was: RFC 3339, UTC.
    pub at: String,
    /// Whether it did not come to its end.
    pub is_in_the_middle: bool,
}

/// Where a mapping of a host stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingStanding {
    /// All of it in a word.
    pub standing: Standing,
    /// Entries that are not what was written last, in byte order of their path.
    pub drift: Vec<Drift>,
    /// How many changes apply would make.
    pub to_apply: usize,
}

/// How a mapping stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The host has what was written last, and there is nothing to apply.
    Agrees,
    /// The host does not have what was written last.
    Drifted,
    /// The source has changed since.
    Behind,
    /// Both.
    Both,
    /// Nothing of it was ever written here.
    NeverApplied,
}

/// An entry that is not what was written last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// Where, relative to the mapping.
    pub path: RelPath,
    /// What was written last; `None` for nothing.
    pub recorded: Option<Node>,
    /// What is there; `None` for nothing.
    pub actual: Option<Node>,
}

/// What somebody did to an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Moved {
    /// It is gone.
    Removed,
    /// It was not there.
    Appeared,
    /// It has become something of another kind.
    Replaced,
    /// It has other bytes or another target.
    Changed,
    /// It has other permission bits alone.
    Mode,
}

impl Drift {
    /// What somebody did.
    pub fn moved(&self) -> Moved {
        match (&self.recorded, &self.actual) {
            (_, None) => Moved::Removed,
            (None, Some(_)) => Moved::Appeared,
            (Some(recorded), Some(actual)) if recorded.kind() != actual.kind() => Moved::Replaced,
            (Some(recorded), Some(actual)) if recorded.same_content(actual) => Moved::Mode,
            _ => Moved::Changed,
        }
    }
}

/// How many hosts stand how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize)]
pub struct StatusSummary {
    /// All hosts.
    pub hosts: usize,
    /// Hosts with nothing to be said of.
    pub agree: usize,
    /// Hosts on which something has drifted.
    pub drifted: usize,
    /// Hosts whose sources have changed since the last apply.
    pub behind: usize,
    /// Hosts with a mapping that was never applied.
    pub never_applied: usize,
    /// Hosts on which the last apply did not come to its end.
    pub in_the_middle: usize,
    /// Hosts that could not be reached.
    pub unreachable: usize,
    /// Hosts about which something is wrong.
    pub failed: usize,
    /// Drifted entries on all hosts.
    pub drifted_entries: usize,
    /// Changes that apply would make, on all hosts.
    pub to_apply: usize,
}

impl Status {
    /// Where the hosts of a plan stand. `hosts` are those that were asked for, in the order of the plan,
    /// and everything that was found out must have been kept.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub fn of(
        prepared: Prepared,
        hosts: &[&Host],
        state: &StateStore,
        modes: Modes,
    ) -> Result<Self, StateError> {
        let known = prepared.hosts.iter().map(Preparation::ready);
        let sides = hosts.iter().zip(&prepared.plan.hosts).zip(known);
        let standings = sides
            .map(|((host, plan), known)| {
                // A host without a look has a record, too.
                let record = state.host(&host.id)?;
                Ok(HostStanding {
                    applied: record.as_ref().map(Applied::of),
                    mappings: known.map_or_else(Vec::new, |known| {
                        mappings_of(host, plan, known, record.as_ref(), modes)
                    }),
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            hosts: standings,
            plan: prepared.plan,
        })
    }

    /// The hosts with their standing.
    pub fn iter(&self) -> impl Iterator<Item = (&HostPlan, &HostStanding)> {
        self.plan.hosts.iter().zip(&self.hosts)
    }

    /// The counts.
    pub fn summary(&self) -> StatusSummary {
        let mut summary = StatusSummary {
            hosts: self.plan.hosts.len(),
            ..StatusSummary::default()
        };
        for (plan, host) in self.iter() {
            let is = |wanted: &[Standing]| {
                let mut mappings = host.mappings.iter();
                mappings.any(|mapping| wanted.contains(&mapping.standing))
            };
            let is_in_the_middle = host.applied.as_ref().is_some_and(|it| it.is_in_the_middle);
            let agrees = plan.is_complete()
                && !is_in_the_middle
                && host
                    .mappings
                    .iter()
                    .all(|it| it.standing == Standing::Agrees);
            summary.agree += usize::from(agrees);
            summary.drifted += usize::from(is(&[Standing::Drifted, Standing::Both]));
            summary.behind += usize::from(is(&[Standing::Behind, Standing::Both]));
            summary.never_applied += usize::from(is(&[Standing::NeverApplied]));
            summary.in_the_middle += usize::from(is_in_the_middle);
            match plan.status {
                HostStatus::Ok => {}
                HostStatus::Unreachable(_) => summary.unreachable += 1,
                HostStatus::Failed(_) => summary.failed += 1,
            }
            for mapping in &host.mappings {
                summary.drifted_entries += mapping.drift.len();
                summary.to_apply += mapping.to_apply;
            }
        }
        summary
    }
}

impl Applied {
    fn of(record: &HostRecord) -> Self {
        Self {
            serial: record.serial,
            at: record.updated_at.clone(),
            is_in_the_middle: record.is_in_the_middle(),
        }
    }
}

fn mappings_of(
    host: &Host,
    plan: &HostPlan,
    known: &PreparedHost,
    record: Option<&HostRecord>,
    modes: Modes,
) -> Vec<MappingStanding> {
    let is_recorded = |mapping: &Mapping| {
        let mut recorded = record.iter().flat_map(|record| &record.mappings);
        recorded.any(|recorded| recorded.dest == mapping.dest_as_written)
    };
    let standing = |(index, mapping): (usize, &Mapping)| {
        let changes = plan.changes().iter().filter(|it| it.mapping == index);
        let (recorded, actual) = (&known.recorded[index], &known.actual[index]);
        if !is_recorded(mapping) {
            return MappingStanding::never_applied(changes);
        }
        let drift = if actual.is_just(recorded) {
            Vec::new()
        } else {
            let problems = &known.sources[index].problems;
            let is_ours = |path: &RelPath| {
                let is_unsendable = |top: &RelPath| path == top || path.is_below(top);
                !mapping.exclude.excludes(path)
                    && !problems.iter().any(|problem| is_unsendable(&problem.path))
            };
            drift(recorded, actual, modes, is_ours)
        };
        MappingStanding::of(drift, changes, recorded, modes)
    };
    host.mappings.iter().enumerate().map(standing).collect()
}

/// Entries that are not what was written last, of those that are ours.
fn drift(
    recorded: &Tree,
    actual: &Actual,
    modes: Modes,
    is_ours: impl Fn(&RelPath) -> bool,
) -> Vec<Drift> {
    let written = recorded.entries().iter().map(|entry| {
        let actual = actual.get(&entry.path);
        (&entry.path, Some(&entry.node), actual)
    });
    let others = actual
        .iter()
        .filter(|(path, _)| recorded.get(path).is_none());
    let others = others.map(|(path, node)| (path, None, Some(node)));
    let has_moved = |recorded: Option<&Node>, actual: Option<&Node>| match (recorded, actual) {
        (Some(recorded), Some(actual)) => !is_same(modes, recorded, actual),
        _ => true,
    };
    let mut drift: Vec<Drift> = written
        .chain(others)
        .filter(|(path, recorded, actual)| has_moved(*recorded, *actual) && is_ours(path))
        .map(|(path, recorded, actual)| Drift {
            path: path.clone(),
            recorded: recorded.cloned(),
            actual: actual.cloned(),
        })
        .collect();
    drift.sort_by(|a, b| a.path.cmp(&b.path));
    drift
}

impl MappingStanding {
    fn never_applied<'a>(changes: impl Iterator<Item = &'a Change>) -> Self {
        Self {
            standing: Standing::NeverApplied,
            drift: Vec::new(),
            to_apply: changes.filter(|it| it.action != Action::Adopt).count(),
        }
    }

    fn of<'a>(
        drift: Vec<Drift>,
        changes: impl Iterator<Item = &'a Change>,
        recorded: &Tree,
        modes: Modes,
    ) -> Self {
        let (mut to_apply, mut is_behind) = (0, false);
        for change in changes.filter(|it| it.action != Action::Adopt) {
            to_apply += 1;
            // Where what is to come is what was written last, only the host has moved.
            is_behind |= match (recorded.get(&change.path), &change.after) {
                (None, None) => false,
                (Some(recorded), Some(after)) => !is_same(modes, recorded, after),
                _ => true,
            };
        }
        let standing = match (drift.is_empty(), is_behind) {
            (true, false) => Standing::Agrees,
            (false, false) => Standing::Drifted,
            (true, true) => Standing::Behind,
            (false, true) => Standing::Both,
        };
        Self {
            standing,
            drift,
            to_apply,
        }
    }
}

/// The status as JSON that ends in a newline.
#[expect(
    clippy::missing_panics_doc,
    reason = "all keys are strings, and no value refuses to be serialized"
)]
pub fn to_json(status: &Status) -> String {
    let header = &status.plan.header;
    let document = Document {
        format_version: FORMAT_VERSION,
        tool_version: &header.tool_version,
        lineage: header.lineage.as_deref(),
        serial: header.serial,
        created_at: &header.created_at,
        summary: status.summary(),
        hosts: status
            .iter()
            .map(|(plan, host)| HostDocument::of(plan, host))
            .collect(),
    };
    let mut text = serde_json::to_string_pretty(&document).expect("plain data is JSON");
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Document<'a> {
    format_version: &'static str,
    tool_version: &'a str,
    lineage: Option<&'a str>,
    serial: u64,
    created_at: &'a str,
    summary: StatusSummary,
    hosts: Vec<HostDocument<'a>>,
}

#[derive(Serialize)]
struct HostDocument<'a> {
    host: &'a HostId,
    status: StatusDocument,
    error: Option<String>,
    problems: &'a [String],
    serial: Option<u64>,
    applied_at: Option<&'a str>,
    in_the_middle: bool,
    mappings: Vec<MappingDocument<'a>>,
}

#[derive(Serialize)]
struct MappingDocument<'a> {
    src: &'a str,
    dest: &'a str,
    /// `None` where nobody could look.
    state: Option<Standing>,
    drifted: Option<usize>,
    to_apply: Option<usize>,
    drift: Vec<DriftDocument>,
}

#[derive(Serialize)]
struct DriftDocument {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: Kind,
    change: Moved,
    recorded: Option<NodeDocument>,
    actual: Option<NodeDocument>,
}

impl<'a> HostDocument<'a> {
    fn of(plan: &'a HostPlan, host: &'a HostStanding) -> Self {
        let applied = host.applied.as_ref();
        let mappings = plan.mappings.iter().enumerate();
        Self {
            host: &plan.host,
            status: StatusDocument::of(&plan.status),
            error: plan.status.error().map(ToString::to_string),
            problems: &plan.problems,
            serial: applied.map(|applied| applied.serial),
            applied_at: applied.map(|applied| applied.at.as_str()),
            in_the_middle: applied.is_some_and(|applied| applied.is_in_the_middle),
            mappings: mappings
                .map(|(index, names)| {
                    let known = host.mappings.get(index);
                    let drift = known.map_or(&[][..], |known| &known.drift);
                    MappingDocument {
                        src: &names.src,
                        dest: &names.dest,
                        state: known.map(|known| known.standing),
                        drifted: known.map(|known| known.drift.len()),
                        to_apply: known.map(|known| known.to_apply),
                        drift: drift.iter().map(DriftDocument::of).collect(),
                    }
                })
                .collect(),
        }
    }
}

impl DriftDocument {
    fn of(drift: &Drift) -> Self {
        let (path, path_base64) = text_of(drift.path.as_bytes());
        let node = drift.actual.as_ref().or(drift.recorded.as_ref());
        Self {
            path,
            path_base64,
            kind: node.map_or(Kind::Other, Node::kind),
            change: drift.moved(),
            recorded: drift.recorded.as_ref().map(NodeDocument::from_plan),
            actual: drift.actual.as_ref().map(NodeDocument::from_plan),
        }
    }
}

#[cfg(test)]
mod tests;
