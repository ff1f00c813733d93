//! From a document to its plan. Nothing in it is trusted: every change set must have the digest that names
//! it, and every reference must lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::digest::digest_of_document;
use super::error::PlanFileError;
use super::types::{
    ChangeDocument, ChangeSetDocument, DiffDocument, DiffState, Document, FORMAT_MAJOR,
    HostDocument, NodeDocument, StatusDocument,
};
use crate::model::{
    CHECKS_DIGESTS, ContentDigest, Kind, Meta, Mode, Node, RelPath, exact_bytes, printable,
};
use crate::plan::{
    Action, Change, ChangeSet, ChangeSetId, Diff, HostPlan, HostStatus, Plan, PlanHeader,
};

/// Reads a document. Unknown keys are ignored; summary and flags are computed afresh.
///
/// # Errors
/// When it is not a plan of a known major version, was edited, or contradicts itself.
pub fn from_json(json: &[u8]) -> Result<Plan, PlanFileError> {
    let not_a_plan = |error: serde_json::Error| PlanFileError::NotAPlan {
        reason: printable(&error.to_string()),
    };
    // The version alone comes first: an unknown one may have any shape.
    let Version { format_version } = serde_json::from_slice(json).map_err(not_a_plan)?;
    let major = format_version
        .split_once('.')
        .filter(|(_, minor)| minor.parse::<u32>().is_ok())
        .and_then(|(major, _)| major.parse().ok());
    if major != Some(FORMAT_MAJOR) {
        return Err(PlanFileError::UnknownVersion {
            found: printable(&format_version.chars().take(40).collect::<String>()),
        });
    }
    let document: Document = serde_json::from_slice(json).map_err(not_a_plan)?;
    let named = document.digest;
    let plan = document.into_plan()?;
    let Some(named) = named else {
        return Err(damaged("it does not name its digest"));
    };
    if digest_of_document(json).map_err(not_a_plan)? != named && CHECKS_DIGESTS {
        return Err(PlanFileError::Edited {
            what: "what it says is".to_owned(),
        });
    }
    Ok(plan)
}

/// Loads a saved plan.
///
/// # Errors
/// When the file cannot be read, or for any reason of [`from_json`].
pub fn load(path: &Path) -> Result<Plan, PlanFileError> {
    let json = std::fs::read(path).map_err(|error| PlanFileError::Read {
        path: path.display().to_string(),
        reason: error.to_string(),
    })?;
    from_json(&json).map_err(|error| PlanFileError::InFile {
        path: path.display().to_string(),
        error: Box::new(error),
    })
}

#[derive(Deserialize)]
struct Version {
    format_version: String,
}

impl Document {
    fn into_plan(self) -> Result<Plan, PlanFileError> {
        if self.created_at.parse::<jiff::Timestamp>().is_err() {
            return Err(damaged(format!("`{}` is no time", self.created_at)));
        }
        let is_id = |lineage: &String| {
            lineage
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        if !self.lineage.as_ref().is_none_or(is_id) {
            let lineage = self.lineage.unwrap_or_default();
            return Err(damaged(format!("`{lineage}` names no state")));
        }
        let mut sets = BTreeMap::new();
        for set in self.change_sets {
            let id = set.id;
            if sets.insert(id, Arc::new(set.into_plan()?)).is_some() {
                return Err(damaged(format!("change set {} is there twice", id.0)));
            }
        }
        let mut names = BTreeSet::new();
        let mut hosts = Vec::with_capacity(self.hosts.len());
        for host in self.hosts {
            if !names.insert(host.host.clone()) {
                return Err(damaged(format!("host `{}` is there twice", host.host)));
            }
            hosts.push(host.into_plan(&sets)?);
        }
        let header = PlanHeader {
            tool_version: self.tool_version,
            created_at: self.created_at,
            lineage: self.lineage,
            serial: self.serial,
            refresh: self.refresh,
            config_digest: self.config_digest,
        };
        Ok(Plan::new(header, hosts).with_remarks(self.remarks))
    }
}

impl HostDocument {
    fn into_plan(
        self,
        sets: &BTreeMap<ChangeSetId, Arc<ChangeSet>>,
    ) -> Result<HostPlan, PlanFileError> {
        let name = &self.host;
        let status = match (self.status, self.error) {
            (StatusDocument::Ok, None) => HostStatus::Ok,
            (StatusDocument::Unreachable, Some(text)) => HostStatus::Unreachable(text.into()),
            (StatusDocument::Failed, Some(text)) => HostStatus::Failed(text.into()),
            _ => {
                return Err(damaged(format!(
                    "status and error of host `{name}` contradict each other"
                )));
            }
        };
        let change_set = match self.change_set {
            None => None,
            Some(id) => Some(sets.get(&id).ok_or_else(|| {
                damaged(format!(
                    "host `{name}` names change set {}, which is not there",
                    id.0
                ))
            })?),
        };
        if let Some(set) = change_set {
            if status != HostStatus::Ok {
                return Err(damaged(format!(
                    "host `{name}` has changes though nobody looked at it"
                )));
            }
            let highest = set.changes.iter().map(|change| change.mapping).max();
            if highest.is_some_and(|mapping| mapping >= self.mappings.len()) {
                return Err(damaged(format!(
                    "host `{name}` has changes in a mapping that it does not have"
                )));
            }
        }
        Ok(HostPlan {
            status,
            change_set: change_set.cloned(),
            host: self.host,
            mappings: self.mappings,
            unchanged: self.unchanged,
            problems: self.problems,
            warnings: self.warnings,
        })
    }
}

impl ChangeSetDocument {
    fn into_plan(self) -> Result<ChangeSet, PlanFileError> {
        let mut changes = Vec::with_capacity(self.changes.len());
        let mut diffs = BTreeMap::new();
        for (index, mut change) in self.changes.into_iter().enumerate() {
            if let Some(diff) = change.diff.take() {
                diffs.insert(index, diff.into_plan()?);
            }
            changes.push(change.into_plan()?);
        }
        let place = |change: &Change| (change.mapping, change.path.clone());
        if !changes.is_sorted_by(|a, b| place(a) < place(b)) {
            return Err(damaged(format!(
                "the changes of change set {} are not in order",
                self.id.0
            )));
        }
        let set = ChangeSet::new(changes, diffs);
        if set.id != self.id && CHECKS_DIGESTS {
            return Err(PlanFileError::Edited {
                what: format!("the changes of change set {} are", self.id.0),
            });
        }
        Ok(set)
    }
}

impl ChangeDocument {
    fn into_plan(self) -> Result<Change, PlanFileError> {
        let path = bytes_of(&self.path, self.path_base64.as_deref())?;
        let change = Change {
            mapping: self.mapping,
            path: RelPath::new(path).map_err(|error| damaged(error.to_string()))?,
            action: self.action,
            reason: self.reason,
            drift: self.drift,
            unmanaged: self.unmanaged,
            conflict: self.conflict,
            before: self.before.map(NodeDocument::into_plan).transpose()?,
            after: self.after.map(NodeDocument::into_plan).transpose()?,
        };
        if change.kind() != self.kind {
            return Err(damaged(format!(
                "`{}` is not of the kind that it says",
                change.path
            )));
        }
        if !is_possible(&change) {
            return Err(damaged(format!(
                "what is done to `{}` does not fit what is there before and after it",
                change.path
            )));
        }
        Ok(change)
    }
}

impl NodeDocument {
    fn into_plan(self) -> Result<Node, PlanFileError> {
        let meta = || {
            let text = self.mode.as_deref();
            let text = text.ok_or_else(|| damaged("an entry has no mode"))?;
            u32::from_str_radix(text, 8)
                .ok()
                .filter(|bits| *bits <= 0o7777)
                .map(|bits| Meta::from(Mode::new(bits)))
                .ok_or_else(|| damaged(format!("`{text}` is not a mode")))
        };
        Ok(match self.kind {
            Kind::File => Node::File {
                size_bytes: self.size.ok_or_else(|| damaged("a file has no size"))?,
                meta: meta()?,
                digest: ContentDigest {
                    blake3: self.blake3,
                    sha256: self.sha256,
                },
            },
            Kind::Dir => Node::Dir { meta: meta()? },
            Kind::Symlink => Node::Symlink {
                target: bytes_of(
                    self.target
                        .as_deref()
                        .ok_or_else(|| damaged("a symlink has no target"))?,
                    self.target_base64.as_deref(),
                )?
                .into_boxed_slice(),
            },
            Kind::Other => Node::Other { meta: meta()? },
        })
    }
}

/// Whether the action leads from what is there before to what is there after it.
fn is_possible(change: &Change) -> bool {
    let is_sent = |node: &Node| node.kind() != Kind::Other;
    match (change.action, &change.before, &change.after) {
        (Action::Create, None, Some(after)) | (Action::Update, Some(_), Some(after)) => {
            is_sent(after)
        }
        (Action::Delete, Some(_), None) => true,
        (Action::Metadata, Some(before), Some(after)) => before.same_content(after),
        (Action::Adopt, Some(before), Some(after)) => is_sent(after) && before.same_content(after),
        _ => false,
    }
}

impl DiffDocument {
    fn into_plan(self) -> Result<Diff, PlanFileError> {
        let lacks = |what: &str| damaged(format!("a diff has no {what}"));
        Ok(match self.state {
            DiffState::Text => Diff::Text(self.text.ok_or_else(|| lacks("text"))?),
            DiffState::Binary => Diff::Binary,
            DiffState::Hidden => Diff::Hidden,
            DiffState::TooLarge => Diff::TooLarge,
            DiffState::Unavailable => Diff::Unavailable(self.error.ok_or_else(|| lacks("error"))?),
        })
    }
}

fn damaged(what: impl AsRef<str>) -> PlanFileError {
    PlanFileError::Damaged {
        what: printable(what.as_ref()),
    }
}

fn bytes_of(text: &str, base64: Option<&str>) -> Result<Vec<u8>, PlanFileError> {
    exact_bytes(text, base64).map_err(|error| damaged(format!("a name is not base64: {error}")))
}
