//! From a plan to its document.

use std::io::Write as _;
use std::path::Path;

use super::digest::digest_of_document;
use super::error::PlanFileError;
use super::types::{
    ChangeDocument, ChangeSetDocument, DiffDocument, DiffState, Document, FORMAT_VERSION,
    HostDocument, NodeDocument, StatusDocument,
};
use crate::model::{Blake3, Node, printable_json, text_and_base64};
use crate::plan::{Change, ChangeSet, Diff, HostPlan, HostStatus, Plan};

/// The document of a plan: pretty-printed JSON that ends in a newline. Equal plans give equal bytes.
#[expect(
    clippy::missing_panics_doc,
    reason = "all keys are strings, and no value refuses to be serialized"
)]
pub fn to_json(plan: &Plan) -> String {
    let mut document = Document::from_plan(plan);
    document.digest = Some(digest(plan));
    let text = serde_json::to_string_pretty(&document).expect("plain data is JSON");
    let mut text = printable_json(text);
    text.push('\n');
    text
}

/// The digest of a plan: of everything in its document but when it was made. So two plans of the same
/// situation have the same.
#[expect(
    clippy::missing_panics_doc,
    reason = "what was just written can be read"
)]
pub fn digest(plan: &Plan) -> Blake3 {
    let json = serde_json::to_vec(&Document::from_plan(plan)).expect("plain data is JSON");
    digest_of_document(&json).expect("an object was written")
}

/// Saves a plan: the file is there whole or not at all, and only its owner may read it. What is no
/// file, such as a pipe, is written to.
///
/// # Errors
/// When it cannot be written; an earlier file of that name is then untouched.
pub fn save(plan: &Plan, path: &Path) -> Result<(), PlanFileError> {
    let json = to_json(plan);
    let is_special = std::fs::metadata(path).is_ok_and(|there| !there.is_file() && !there.is_dir());
    let written = if is_special {
        std::fs::write(path, json)
    } else {
        replace(path, json.as_bytes())
    };
    written.map_err(|error| PlanFileError::Write {
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// Puts a file of mode 0600 at `path`; where a link is, at what it points to.
fn replace(path: &Path, content: &[u8]) -> std::io::Result<()> {
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Temporary files are made with mode 0600.
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    file.persist(&path).map_err(|error| error.error)?;
    Ok(())
}

/// The lowest version that has all that is in a plan. So the digest of a plan that an earlier hostsync has
/// made stays what it was, and the state knows it again.
fn version_of(plan: &Plan) -> &'static str {
    if plan.remarks.is_empty() && !plan.is_exposed() {
        "1.0"
    } else {
        FORMAT_VERSION
    }
}

impl Document {
    fn from_plan(plan: &Plan) -> Self {
        let header = plan.header.clone();
        Self {
            format_version: version_of(plan).to_owned(),
            tool_version: header.tool_version,
            created_at: header.created_at,
            lineage: header.lineage,
            serial: header.serial,
            refresh: header.refresh,
            config_digest: header.config_digest,
            complete: plan.is_complete(),
            applyable: plan.is_applyable(),
            summary: plan.summary(),
            hosts: plan.hosts.iter().map(HostDocument::from_plan).collect(),
            digest: None,
            remarks: plan.remarks.clone(),
            change_sets: plan
                .groups()
                .into_iter()
                .map(|(set, _)| ChangeSetDocument {
                    id: set.id,
                    changes: ChangeDocument::of_set(&set),
                })
                .collect(),
        }
    }
}

impl StatusDocument {
    pub(crate) fn of(status: &HostStatus) -> Self {
        match status {
            HostStatus::Ok => Self::Ok,
            HostStatus::Unreachable(_) => Self::Unreachable,
            HostStatus::Failed(_) => Self::Failed,
        }
    }
}

impl HostDocument {
    fn from_plan(host: &HostPlan) -> Self {
        Self {
            host: host.host.clone(),
            status: StatusDocument::of(&host.status),
            error: host.status.error().map(ToString::to_string),
            mappings: host.mappings.clone(),
            change_set: host.change_set.as_ref().map(|set| set.id),
            unchanged: host.unchanged,
            problems: host.problems.clone(),
            warnings: host.warnings.clone(),
        }
    }
}

impl ChangeDocument {
    fn of_set(set: &ChangeSet) -> Vec<Self> {
        let changes = set.changes.iter().enumerate();
        changes
            .map(|(index, change)| Self::from_plan(change, set.diffs.get(&index)))
            .collect()
    }

    fn from_plan(change: &Change, diff: Option<&Diff>) -> Self {
        let (path, path_base64) = text_and_base64(change.path.as_bytes());
        Self {
            mapping: change.mapping,
            path: path.into_owned(),
            path_base64,
            kind: change.kind(),
            action: change.action,
            reason: change.reason,
            drift: change.drift,
            unmanaged: change.unmanaged,
            conflict: change.conflict,
            before: change.before.as_ref().map(NodeDocument::from_plan),
            after: change.after.as_ref().map(NodeDocument::from_plan),
            diff: diff.map(DiffDocument::from_plan),
        }
    }
}

impl NodeDocument {
    pub(crate) fn from_plan(node: &Node) -> Self {
        let mut document = Self {
            kind: node.kind(),
            blake3: None,
            sha256: None,
            size: None,
            mode: node.mode().map(|mode| mode.to_string()),
            target: None,
            target_base64: None,
        };
        match node {
            Node::File {
                size_bytes, digest, ..
            } => {
                document.blake3 = digest.blake3;
                document.sha256 = digest.sha256;
                document.size = Some(*size_bytes);
            }
            Node::Symlink { target } => {
                let (target, target_base64) = text_and_base64(target);
                document.target = Some(target.into_owned());
                document.target_base64 = target_base64;
            }
            Node::Dir { .. } | Node::Other { .. } => {}
        }
        document
    }
}

impl DiffDocument {
    fn from_plan(diff: &Diff) -> Self {
        let (state, text, error) = match diff {
            Diff::Text(text) => (DiffState::Text, Some(text.clone()), None),
            Diff::Binary => (DiffState::Binary, None, None),
            Diff::Hidden => (DiffState::Hidden, None, None),
            Diff::TooLarge => (DiffState::TooLarge, None, None),
            Diff::Unavailable(error) => (DiffState::Unavailable, None, Some(error.clone())),
        };
        Self { state, text, error }
    }
}
