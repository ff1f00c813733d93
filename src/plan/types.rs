//! The types a plan is made of.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Blake3, HostError, HostId, Kind, Node, RelPath};

/// What apply would do to one entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Nothing is there; the entry appears.
    Create,
    /// Something else is there; its content, target or kind changes.
    Update,
    /// The entry goes away.
    Delete,
    /// Only permission bits change.
    Metadata,
    /// It is already right and only needs to be recorded.
    Adopt,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// It is not on the host.
    Missing,
    /// Bytes or link target differ.
    Content,
    /// Permission bits differ.
    Mode,
    /// Something of another kind is there.
    Type,
    /// An earlier apply wrote it, and the source no longer has it.
    Orphan,
    /// The source does not have it, and the mapping is a mirror.
    Extraneous,
    /// It is right, and the state does not say so yet.
    Recorded,
}

/// One entry that apply would touch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Change {
    /// Index of the mapping in the host's mappings.
    pub mapping: usize,
    /// Where, relative to the mapping.
    pub path: RelPath,
    /// What would happen.
    pub action: Action,
    /// Why.
    pub reason: Reason,
    /// The host's entry is not what the state says was written last.
    pub drift: bool,
    /// The state has never heard of what is there.
    pub unmanaged: bool,
    /// Bytes that nobody reviewed would be destroyed.
    pub conflict: bool,
    /// What is on the host now, which is the precondition; `None` for nothing.
    pub before: Option<Node>,
    /// What will be there; `None` for nothing.
    pub after: Option<Node>,
}

impl Change {
    /// The kind of entry that the change is about: what will be there, else what is there.
    pub fn kind(&self) -> Kind {
        self.after
            .as_ref()
            .or(self.before.as_ref())
            .map_or(Kind::Other, Node::kind)
    }

    /// Bytes of content that have to be sent for it.
    pub fn bytes_to_send(&self) -> u64 {
        match (self.action, &self.after) {
            (Action::Create | Action::Update, Some(Node::File { size_bytes, .. })) => *size_bytes,
            _ => 0,
        }
    }
}

/// Names a [`ChangeSet`]: a digest of its changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChangeSetId(pub Blake3);

/// The changes of one host, shared by all hosts that have the same ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeSet {
    /// Its digest.
    pub id: ChangeSetId,
    /// Ordered by mapping, then by path.
    pub changes: Vec<Change>,
    /// By index of the change, how its content differs. Empty unless it was asked for; `id` is without
    /// it.
    pub diffs: BTreeMap<usize, Diff>,
}

impl ChangeSet {
    /// These changes, named by their digest.
    pub fn new(changes: Vec<Change>, diffs: BTreeMap<usize, Diff>) -> Self {
        let id = ChangeSetId::of(&changes);
        Self { id, changes, diffs }
    }
}

/// How the content of a file differs, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Diff {
    /// The hunks of a unified diff, without the two lines that name the files. Not empty; every line
    /// ends in a newline.
    Text(String),
    /// One of the two sides is no text.
    Binary,
    /// It is private, and was not even fetched.
    Hidden,
    /// It is larger than what is shown.
    TooLarge,
    /// It could not be fetched; the text says why.
    Unavailable(String),
}

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

/// What apply would do, on every host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// About the plan itself.
    pub header: PlanHeader,
    /// The hosts, in the order of the configuration.
    pub hosts: Vec<HostPlan>,
}

impl Plan {
    /// Puts the plans of single hosts together; equal change sets become one.
    pub fn new(header: PlanHeader, mut hosts: Vec<HostPlan>) -> Self {
        let mut sets: BTreeMap<ChangeSetId, Arc<ChangeSet>> = BTreeMap::new();
        for host in &mut hosts {
            if let Some(set) = &mut host.change_set {
                *set = Arc::clone(sets.entry(set.id).or_insert_with(|| Arc::clone(set)));
            }
        }
        Self { header, hosts }
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
