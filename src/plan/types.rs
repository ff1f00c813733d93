//! A plan: what it says of each host, and of itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::{Config, Mapping, Remark, RemarkKind};
use crate::model::{Blake3, HostError, HostId};

use super::change::{Action, Change, ChangeSet, ChangeSetId};

/// What a mapping is called in the plan, and what it names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MappingNames {
    /// The source, as written in the configuration.
    pub src: String,
    /// The full destination on the host.
    pub dest: String,
    /// Digest of the tree that the source was; `None` where it was not read.
    #[serde(default)]
    pub source: Option<Blake3>,
}

impl MappingNames {
    /// Those of a mapping, with the digest of its source.
    pub(super) fn of(mapping: &Mapping, source: Option<Blake3>) -> Self {
        Self {
            src: mapping.src_as_written.clone(),
            dest: mapping.dest_as_written.clone(),
            source,
        }
    }
}

/// Whether a host could be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostStatus {
    /// It could.
    Ok,
    /// No connection or no login.
    Unreachable(HostError),
    /// Something about it is wrong.
    Failed(HostError),
}

impl HostStatus {
    /// Why the host was not looked at.
    pub fn error(&self) -> Option<&HostError> {
        match self {
            Self::Ok => None,
            Self::Unreachable(error) | Self::Failed(error) => Some(error),
        }
    }
}

/// What apply would do to one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// Which host.
    pub host: HostId,
    /// Whether it could be looked at. One that could not has no changes.
    pub status: HostStatus,
    /// Its mappings, in the order of the configuration.
    pub mappings: Vec<MappingNames>,
    /// Its changes; `None` when there are none.
    pub change_set: Option<Arc<ChangeSet>>,
    /// How many entries are right and recorded.
    pub unchanged: usize,
    /// Entries of the source that cannot be sent, with the reason, for people.
    pub problems: Vec<String>,
    /// What a reviewer should know about the host.
    pub warnings: BTreeSet<Warning>,
}

/// What a reviewer should know about a host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Warning {
    /// What it is about.
    pub kind: WarningKind,
    /// Where.
    pub path: String,
}

/// What a warning is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WarningKind {
    /// Somebody who is neither root nor the login can change a folder above a destination. Its changes are
    /// conflicts.
    Ancestor,
}

impl HostPlan {
    /// The plan of a host that nothing is known of, and on which nothing is to be done.
    pub(super) fn empty(host: &HostId) -> Self {
        Self {
            host: host.clone(),
            status: HostStatus::Ok,
            mappings: Vec::new(),
            change_set: None,
            unchanged: 0,
            problems: Vec::new(),
            warnings: BTreeSet::new(),
        }
    }

    /// The changes; empty when there are none.
    pub fn changes(&self) -> &[Change] {
        self.change_set.as_ref().map_or(&[], |set| &set.changes)
    }

    /// Whether it could be looked at, and all that it is to get can be sent.
    pub fn is_complete(&self) -> bool {
        self.status == HostStatus::Ok && self.problems.is_empty()
    }

    /// Whether anything on the host would be touched: adopting does not.
    pub fn touches_host(&self) -> bool {
        self.changes()
            .iter()
            .any(|change| change.action != Action::Adopt)
    }
}

/// How the hosts were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Refresh {
    /// What has not moved since the last apply is not hashed again.
    #[default]
    Quick,
    /// Everything is hashed.
    Full,
    /// Not at all: the plan rests on the state.
    None,
}

/// What a plan says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanHeader {
    /// Version of the program that made it.
    pub tool_version: String,
    /// When it was made: RFC 3339, UTC.
    pub created_at: String,
    /// The state it was made from; `None` before the first apply.
    pub lineage: Option<String>,
    /// Serial of that state; 0 before the first apply.
    pub serial: u64,
    /// How the hosts were looked at.
    pub refresh: Refresh,
    /// Digest of what decides the outcome in the configuration; no secrets, no absolute paths.
    pub config_digest: Blake3,
}

/// Counts over all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Hosts in the plan.
    pub hosts: usize,
    /// Of these, hosts that could not be looked at (unreachable or failed).
    pub unreachable: usize,
    /// Entries that appear.
    pub create: usize,
    /// Entries whose content changes.
    pub update: usize,
    /// Entries that go away.
    pub delete: usize,
    /// Entries of which only permission bits change.
    pub metadata: usize,
    /// Entries that only need to be recorded.
    pub adopt: usize,
    /// Entries that are right and recorded.
    pub unchanged: usize,
    /// Changes that would destroy bytes that nobody reviewed.
    pub conflicts: usize,
    /// Bytes of content to be sent.
    pub bytes_to_send: u64,
}

impl Summary {
    /// Whether apply would touch any host; adopting does not.
    pub fn has_changes(&self) -> bool {
        self.create + self.update + self.delete + self.metadata > 0
    }
}

/// Something about a file of the configuration that whoever reviews the plan should know. Apply does not
/// care.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRemark {
    /// What it is about: `open_secret`, `open_known_hosts`.
    pub kind: String,
    /// The file; relative to the folder of the configuration where it lies below that.
    pub path: String,
    /// What was seen: small first letter, no dot at the end, without the path.
    pub text: String,
}

impl PlanRemark {
    /// Those remarks of a configuration that belong into a plan: who may read and write its files.
    pub fn of(remarks: &[Remark], config: &Config) -> Vec<Self> {
        let folder = config.path.parent();
        let remark = |remark: &Remark| {
            let kind = match remark.kind {
                RemarkKind::OpenSecret => "open_secret",
                RemarkKind::OpenKnownHosts => "open_known_hosts",
                RemarkKind::Other => return None,
            };
            let below = folder.and_then(|folder| remark.path.strip_prefix(folder).ok());
            Some(Self {
                kind: kind.to_owned(),
                path: below.unwrap_or(&remark.path).display().to_string(),
                text: remark.text.clone(),
            })
        };
        remarks.iter().filter_map(remark).collect()
    }
}

/// What apply would do, on every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// About the plan itself.
    pub header: PlanHeader,
    /// The hosts, in the order of the configuration.
    pub hosts: Vec<HostPlan>,
    /// The serial that hosts are back at afterwards; `None` where nothing is undone. No document has it,
    /// since a plan that undoes something is not saved.
    pub back_to: Option<u64>,
    /// What to know about the files of the configuration.
    pub remarks: Vec<PlanRemark>,
}

impl Plan {
    /// Puts the plans of single hosts together, which undo nothing; equal change sets become one.
    pub fn new(header: PlanHeader, mut hosts: Vec<HostPlan>) -> Self {
        let mut sets: BTreeMap<ChangeSetId, Arc<ChangeSet>> = BTreeMap::new();
        for host in &mut hosts {
            if let Some(set) = &mut host.change_set {
                *set = Arc::clone(sets.entry(set.id).or_insert_with(|| Arc::clone(set)));
            }
        }
        Self {
            header,
            hosts,
            back_to: None,
            remarks: Vec::new(),
        }
    }

    /// The plan with remarks on the files of the configuration.
    #[must_use]
    pub fn with_remarks(mut self, remarks: Vec<PlanRemark>) -> Self {
        self.remarks = remarks;
        self
    }

    /// Whether some of it lies in folders that others on the hosts can change.
    pub fn is_exposed(&self) -> bool {
        self.hosts.iter().any(|host| !host.warnings.is_empty())
    }

    /// Whether every host was looked at and every entry of the sources can be sent.
    pub fn is_complete(&self) -> bool {
        self.header.refresh != Refresh::None && self.hosts.iter().all(HostPlan::is_complete)
    }

    /// Hosts that the plan has nothing for, since they could not be looked at.
    pub fn unseen(&self) -> impl Iterator<Item = &HostId> {
        let unseen = |host: &&HostPlan| host.status != HostStatus::Ok;
        self.hosts.iter().filter(unseen).map(|host| &host.host)
    }

    /// Whether there is anything for apply to do: a host to touch or an entry to record.
    pub fn is_applyable(&self) -> bool {
        self.hosts.iter().any(|host| host.change_set.is_some())
    }

    /// The distinct change sets, each with the hosts that have it, in the order in which the first
    /// of these hosts comes.
    pub fn groups(&self) -> Vec<(Arc<ChangeSet>, Vec<&HostPlan>)> {
        let mut groups: Vec<(Arc<ChangeSet>, Vec<&HostPlan>)> = Vec::new();
        let mut index_of: BTreeMap<ChangeSetId, usize> = BTreeMap::new();
        for host in &self.hosts {
            if let Some(set) = &host.change_set {
                let index = *index_of.entry(set.id).or_insert_with(|| {
                    groups.push((Arc::clone(set), Vec::new()));
                    groups.len() - 1
                });
                groups[index].1.push(host);
            }
        }
        groups
    }

    /// The counts.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary {
            hosts: self.hosts.len(),
            ..Summary::default()
        };
        for host in &self.hosts {
            if host.status != HostStatus::Ok {
                summary.unreachable += 1;
            }
            // A saved plan may claim any number.
            summary.unchanged = summary.unchanged.saturating_add(host.unchanged);
            for change in host.changes() {
                match change.action {
                    Action::Create => summary.create += 1,
                    Action::Update => summary.update += 1,
                    Action::Delete => summary.delete += 1,
                    Action::Metadata => summary.metadata += 1,
                    Action::Adopt => summary.adopt += 1,
                }
                summary.conflicts += usize::from(change.conflict);
                summary.bytes_to_send =
                    summary.bytes_to_send.saturating_add(change.bytes_to_send());
            }
        }
        summary
    }
}
