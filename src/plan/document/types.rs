//! The structs of the document. They stand apart from the types in memory, so that a field can be renamed
//! in one without moving the other.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::model::{Blake3, HostId, Kind, Sha256};
use crate::plan::{
    Action, ChangeSetId, MappingNames, PlanRemark, Reason, Refresh, Summary, Warning,
};

/// The newest version that is written; 1.1 added `remarks` and `warnings`. Its major is the only one that is
/// read.
pub const FORMAT_VERSION: &str = "1.1";
pub(super) const FORMAT_MAJOR: u32 = 1;

#[derive(Serialize, Deserialize)]
pub(super) struct Document {
    pub(super) format_version: String,
    pub(super) tool_version: String,
    pub(super) created_at: String,
    pub(super) lineage: Option<String>,
    pub(super) serial: u64,
    pub(super) refresh: Refresh,
    pub(super) config_digest: Blake3,
    // What follows from the rest is written for readers and never believed.
    #[serde(skip_deserializing)]
    pub(super) complete: bool,
    #[serde(skip_deserializing)]
    pub(super) applyable: bool,
    #[serde(skip_deserializing)]
    pub(super) summary: Summary,
    pub(super) hosts: Vec<HostDocument>,
    pub(super) change_sets: Vec<ChangeSetDocument>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) remarks: Vec<PlanRemark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) digest: Option<Blake3>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct HostDocument {
    pub(super) host: HostId,
    pub(super) status: StatusDocument,
    pub(super) error: Option<String>,
    pub(super) mappings: Vec<MappingNames>,
    pub(super) change_set: Option<ChangeSetId>,
    #[serde(default)]
    pub(super) unchanged: usize,
    #[serde(default)]
    pub(super) problems: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub(super) warnings: BTreeSet<Warning>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StatusDocument {
    Ok,
    Unreachable,
    Failed,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangeSetDocument {
    pub(super) id: ChangeSetId,
    pub(super) changes: Vec<ChangeDocument>,
}

#[derive(Serialize, Deserialize)]
pub(super) struct ChangeDocument {
    pub(super) mapping: usize,
    pub(super) path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path_base64: Option<String>,
    pub(super) kind: Kind,
    pub(super) action: Action,
    pub(super) reason: Reason,
    pub(super) drift: bool,
    pub(super) unmanaged: bool,
    pub(super) conflict: bool,
    pub(super) before: Option<NodeDocument>,
    pub(super) after: Option<NodeDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) diff: Option<DiffDocument>,
}

/// Why there is no `text` is said by `state`.
#[derive(Serialize, Deserialize)]
pub(super) struct DiffDocument {
    pub(super) state: DiffState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum DiffState {
    Text,
    Binary,
    Hidden,
    TooLarge,
    Unavailable,
}

/// Names its own kind, since what is there may be of another kind than what will be there.
#[derive(Serialize, Deserialize)]
pub(crate) struct NodeDocument {
    pub(super) kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) blake3: Option<Blake3>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target_base64: Option<String>,
}
