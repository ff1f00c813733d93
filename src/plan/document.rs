//! The plan as a JSON document: what `--out` saves and `--format json` prints.
//!
//! The structs of the document stand apart from the types in memory, so that a field can be renamed
//! in one without moving the other. Reading trusts nothing: every change set must have the digest
//! that names it, and every reference must lead somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use miette::Diagnostic;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use thiserror::Error;

use super::{
    Action, Change, ChangeSet, ChangeSetId, Diff, HostPlan, HostStatus, MappingNames, Plan,
    PlanHeader, Reason, Refresh, Summary,
};
use crate::model::{
    Blake3, CHECKS_DIGESTS, ContentDigest, HostId, Kind, Meta, Node, RelPath, Sha256, printable,
};

/// The version that is written. Its major is the only one that is read.
pub const FORMAT_VERSION: &str = "1.0";
const FORMAT_MAJOR: u32 = 1;

/// A saved plan cannot be read or written.
#[derive(Debug, Error, Diagnostic)]
pub enum PlanFileError {
    /// The file cannot be read.
    #[error("cannot read plan file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::plan::read),
        help("`hostsync plan --out FILE` writes one")
    )]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// The file cannot be written.
    #[error("cannot write plan file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::plan::write),
        help("is the folder there and writable, and is there space left?")
    )]
    Write {
        /// The file.
        path: String,
        /// What the system said.
        reason: String,
    },
    /// What is in a file is no plan that can be used.
    #[error("{path}: {error}")]
    #[diagnostic(forward(error))]
    InFile {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: Box<PlanFileError>,
    },
    /// It is not JSON, or not that of a plan.
    #[error("this is not a saved plan: {reason}")]
    #[diagnostic(
        code(hostsync::plan::not_a_plan),
        help("`hostsync plan --out FILE` writes one")
    )]
    NotAPlan {
        /// What is wrong, with line and column.
        reason: String,
    },
    /// Another version of the program wrote it.
    #[error("the plan has format version `{found}`, and this program reads {FORMAT_MAJOR}.x")]
    #[diagnostic(
        code(hostsync::plan::unknown_version),
        help("use the version of hostsync that made the plan, or plan again with this one")
    )]
    UnknownVersion {
        /// What the document says.
        found: String,
    },
    /// It does not have the digest that it names.
    #[error("the plan was edited: {what} not what was planned")]
    #[diagnostic(
        code(hostsync::plan::edited),
        help(
            "plans are not made to be edited: change the sources or use `--limit`, and plan again"
        )
    )]
    Edited {
        /// What has another digest than it should have, with the verb.
        what: String,
    },
    /// It says things that cannot be true together.
    #[error("the plan is damaged: {what}")]
    #[diagnostic(code(hostsync::plan::damaged), help("plan again"))]
    Damaged {
        /// What is wrong.
        what: String,
    },
}

impl ChangeSetId {
    /// The digest that names these changes: over every field of every change, in their order.
    pub fn of(changes: &[Change]) -> Self {
        let mut encoder = Encoder(blake3::Hasher::new());
        encoder.field(b"hostsync change set 1");
        encoder.number(changes.len() as u64);
        for change in changes {
            encoder.change(change);
        }
        Self(Blake3::from_bytes(*encoder.0.finalize().as_bytes()))
    }
}

/// Feeds a hasher so that no two different sequences of fields give the same bytes: everything of
/// variable length has its length in front.
struct Encoder(blake3::Hasher);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_le_bytes());
    }

    fn field(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn optional(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            None => self.number(0),
            Some(bytes) => {
                self.number(1);
                self.field(bytes);
            }
        }
    }

    fn change(&mut self, change: &Change) {
        self.number(change.mapping as u64);
        self.field(change.path.as_bytes());
        self.field(match change.action {
            Action::Create => b"create",
            Action::Update => b"update",
            Action::Delete => b"delete",
            Action::Metadata => b"metadata",
            Action::Adopt => b"adopt",
        });
        self.field(match change.reason {
            Reason::Missing => b"missing",
            Reason::Content => b"content",
            Reason::Mode => b"mode",
            Reason::Type => b"type",
            Reason::Orphan => b"orphan",
            Reason::Extraneous => b"extraneous",
            Reason::Recorded => b"recorded",
        });
        for flag in [change.drift, change.unmanaged, change.conflict] {
            self.number(u64::from(flag));
        }
        for node in [&change.before, &change.after] {
            match node {
                None => self.field(b"nothing"),
                Some(node) => self.node(node),
            }
        }
    }

    fn node(&mut self, node: &Node) {
        self.field(match node.kind() {
            Kind::File => b"file",
            Kind::Dir => b"dir",
            Kind::Symlink => b"symlink",
            Kind::Other => b"other",
        });
        if let Node::File { size_bytes, .. } = node {
            self.number(*size_bytes);
        }
        for number in node.meta().into_iter().flat_map(Meta::numbers) {
            self.number(number.into());
        }
        match node {
            Node::File { digest, .. } => {
                self.optional(digest.blake3.as_ref().map(|d| &d.as_bytes()[..]));
                self.optional(digest.sha256.as_ref().map(|d| &d.as_bytes()[..]));
            }
            Node::Symlink { target } => self.field(target),
            Node::Dir { .. } | Node::Other { .. } => {}
        }
    }
}

/// The document of a plan: pretty-printed JSON that ends in a newline. Equal plans give equal bytes.
#[expect(
    clippy::missing_panics_doc,
    reason = "all keys are strings, and no value refuses to be serialized"
)]
pub fn to_json(plan: &Plan) -> String {
    let mut document = Document::from_plan(plan);
    document.digest = Some(digest(plan));
    let mut text = serde_json::to_string_pretty(&document).expect("plain data is JSON");
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

/// The digest of a document: of its keys in byte order and their values, but for `digest` itself and
/// `created_at`. White space between values does not count, so that it survives a formatter. The
/// order of the keys within a value does: to sort those of a million changes would take much room.
fn digest_of_document(json: &[u8]) -> serde_json::Result<Blake3> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json)?;
    let mut hasher = blake3::Hasher::new();
    for (key, value) in &members {
        if key != "digest" && key != "created_at" {
            hasher.update(key.as_bytes());
            hasher.update(b":");
            hash_compact(value.get().as_bytes(), &mut hasher);
            hasher.update(b"\n");
        }
    }
    Ok(Blake3::from_bytes(*hasher.finalize().as_bytes()))
}

/// Feeds JSON to a hasher without the white space between its values.
fn hash_compact(json: &[u8], hasher: &mut blake3::Hasher) {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_text, mut is_escaped) = (false, false);
    for &byte in json {
        if in_text || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        if byte == b'"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = in_text && byte == b'\\' && !is_escaped;
    }
    hasher.update(&compact);
}

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

#[derive(Serialize, Deserialize)]
struct Document {
    format_version: String,
    tool_version: String,
    created_at: String,
    lineage: Option<String>,
    serial: u64,
    refresh: Refresh,
    config_digest: Blake3,
    // What follows from the rest is written for readers and never believed.
    #[serde(skip_deserializing)]
    complete: bool,
    #[serde(skip_deserializing)]
    applyable: bool,
    #[serde(skip_deserializing)]
    summary: Summary,
    hosts: Vec<HostDocument>,
    change_sets: Vec<ChangeSetDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<Blake3>,
}

#[derive(Serialize, Deserialize)]
struct HostDocument {
    host: HostId,
    status: StatusDocument,
    error: Option<String>,
    mappings: Vec<MappingNames>,
    change_set: Option<ChangeSetId>,
    #[serde(default)]
    unchanged: usize,
    #[serde(default)]
    problems: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StatusDocument {
    Ok,
    Unreachable,
    Failed,
}

#[derive(Serialize, Deserialize)]
struct ChangeSetDocument {
    id: ChangeSetId,
    changes: Vec<ChangeDocument>,
}

#[derive(Serialize, Deserialize)]
struct ChangeDocument {
    mapping: usize,
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    kind: Kind,
    action: Action,
    reason: Reason,
    drift: bool,
    unmanaged: bool,
    conflict: bool,
    before: Option<NodeDocument>,
    after: Option<NodeDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    diff: Option<DiffDocument>,
}

/// Why there is no `text` is said by `state`.
#[derive(Serialize, Deserialize)]
struct DiffDocument {
    state: DiffState,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum DiffState {
    Text,
    Binary,
    Hidden,
    TooLarge,
    Unavailable,
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

/// Names its own kind, since what is there may be of another kind than what will be there.
#[derive(Serialize, Deserialize)]
pub(crate) struct NodeDocument {
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blake3: Option<Blake3>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<Sha256>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mode: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target_base64: Option<String>,
}

impl Document {
    fn from_plan(plan: &Plan) -> Self {
        let header = plan.header.clone();
        Self {
            format_version: FORMAT_VERSION.to_owned(),
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
        Ok(Plan::new(header, hosts))
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
        }
    }

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
    fn of_set(set: &ChangeSet) -> Vec<Self> {
        let changes = set.changes.iter().enumerate();
        changes
            .map(|(index, change)| Self::from_plan(change, set.diffs.get(&index)))
            .collect()
    }

    fn from_plan(change: &Change, diff: Option<&Diff>) -> Self {
        let (path, path_base64) = text_of(change.path.as_bytes());
        Self {
            mapping: change.mapping,
            path,
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

    fn into_plan(self) -> Result<Change, PlanFileError> {
        let path = bytes_of(self.path, self.path_base64)?;
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
                let (target, target_base64) = text_of(target);
                document.target = Some(target);
                document.target_base64 = target_base64;
            }
            Node::Dir { .. } | Node::Other { .. } => {}
        }
        document
    }

    fn into_plan(self) -> Result<Node, PlanFileError> {
        let meta = |text: Option<String>| {
            let text = text.ok_or_else(|| damaged("an entry has no mode"))?;
            let mode = text.parse();
            let mode = mode.map_err(|_| damaged(format!("`{text}` is not a mode")))?;
            Ok::<_, PlanFileError>(Meta { mode })
        };
        Ok(match self.kind {
            Kind::File => Node::File {
                size_bytes: self.size.ok_or_else(|| damaged("a file has no size"))?,
                meta: meta(self.mode)?,
                digest: ContentDigest {
                    blake3: self.blake3,
                    sha256: self.sha256,
                },
            },
            Kind::Dir => Node::Dir {
                meta: meta(self.mode)?,
            },
            Kind::Symlink => Node::Symlink {
                target: bytes_of(
                    self.target
                        .ok_or_else(|| damaged("a symlink has no target"))?,
                    self.target_base64,
                )?
                .into_boxed_slice(),
            },
            Kind::Other => Node::Other {
                meta: meta(self.mode)?,
            },
        })
    }
}

fn damaged(what: impl AsRef<str>) -> PlanFileError {
    PlanFileError::Damaged {
        what: printable(what.as_ref()),
    }
}

/// Text for readers and, where the text alone would lose bytes, the bytes.
pub(crate) fn text_of(bytes: &[u8]) -> (String, Option<String>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.to_owned(), None),
        Err(_) => (
            String::from_utf8_lossy(bytes).into_owned(),
            Some(BASE64_STANDARD.encode(bytes)),
        ),
    }
}

fn bytes_of(text: String, base64: Option<String>) -> Result<Vec<u8>, PlanFileError> {
    match base64 {
        None => Ok(text.into_bytes()),
        Some(base64) => BASE64_STANDARD
            .decode(base64)
            .map_err(|error| damaged(format!("a name is not base64: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that fails may panic")]

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::model::Mode;

    type Edit<'a> = &'a dyn Fn(&mut Value);

    fn header() -> PlanHeader {
        PlanHeader {
            tool_version: "0.1.0".to_owned(),
            created_at: "2026-01-02T03:04:05Z".to_owned(),
            lineage: Some("a-lineage".to_owned()),
            serial: 7,
            refresh: Refresh::Quick,
            config_digest: Blake3::of(b"config"),
        }
    }

    fn file(content: &[u8]) -> Node {
        Node::File {
            size_bytes: content.len() as u64,
            meta: Mode::new(0o644).into(),
            digest: ContentDigest {
                blake3: Some(Blake3::of(content)),
                sha256: None,
            },
        }
    }

    fn create(path: &[u8], node: Node) -> Change {
        Change {
            mapping: 0,
            path: RelPath::new(path).unwrap(),
            action: Action::Create,
            reason: Reason::Missing,
            drift: false,
            unmanaged: false,
            conflict: false,
            before: None,
            after: Some(node),
        }
    }

    fn host(name: &str, changes: Vec<Change>) -> HostPlan {
        HostPlan {
            host: HostId::new(name),
            status: HostStatus::Ok,
            mappings: vec![MappingNames {
                src: "app".to_owned(),
                dest: format!("/srv/{name}"),
                source: None,
            }],
            change_set: (!changes.is_empty())
                .then(|| Arc::new(ChangeSet::new(changes, BTreeMap::new()))),
            unchanged: 3,
            problems: Vec::new(),
        }
    }

    fn document(plan: &Plan) -> Value {
        serde_json::from_str(&to_json(plan)).unwrap()
    }

    fn read(document: &Value) -> Result<Plan, PlanFileError> {
        from_json(document.to_string().as_bytes())
    }

    /// The document with the digest that it should have.
    fn sealed(mut document: Value) -> Value {
        let digest = digest_of_document(document.to_string().as_bytes()).unwrap();
        document["digest"] = json!(digest.to_string());
        document
    }

    #[test]
    fn document_has_the_fields_people_script_against() {
        let plan = Plan::new(
            header(),
            vec![
                host("a", vec![create(b"f", file(b"x"))]),
                HostPlan {
                    status: HostStatus::Unreachable("refused".into()),
                    ..host("b", Vec::new())
                },
            ],
        );
        let id = plan.hosts[0].change_set.as_ref().unwrap().id.0.to_string();
        let expected = json!({
            "format_version": "1.0",
            "tool_version": "0.1.0",
            "created_at": "2026-01-02T03:04:05Z",
            "lineage": "a-lineage",
            "serial": 7,
            "refresh": "quick",
            "config_digest": Blake3::of(b"config").to_string(),
            "complete": false,
            "applyable": true,
            "summary": {
                "hosts": 2, "unreachable": 1, "create": 1, "update": 0, "delete": 0,
                "metadata": 0, "adopt": 0, "unchanged": 6, "conflicts": 0, "bytes_to_send": 1,
            },
            "hosts": [
                {
                    "host": "a", "status": "ok", "error": null,
                    "mappings": [{"src": "app", "dest": "/srv/a", "source": null}],
                    "change_set": id, "unchanged": 3, "problems": [],
                },
                {
                    "host": "b", "status": "unreachable", "error": "refused",
                    "mappings": [{"src": "app", "dest": "/srv/b", "source": null}],
                    "change_set": null, "unchanged": 3, "problems": [],
                },
            ],
            "change_sets": [{
                "id": id,
                "changes": [{
                    "mapping": 0, "path": "f", "kind": "file", "action": "create",
                    "reason": "missing", "drift": false, "unmanaged": false, "conflict": false,
                    "before": null,
                    "after": {
                        "kind": "file", "blake3": Blake3::of(b"x").to_string(), "size": 1,
                        "mode": "0644",
                    },
                }],
            }],
            "digest": digest(&plan).to_string(),
        });
        assert_eq!(document(&plan), expected);
    }

    #[test]
    fn equal_hosts_share_one_change_set_whatever_their_destinations() {
        let changes = || vec![create(b"f", file(b"x"))];
        let other = vec![create(b"g", file(b"x"))];
        let plan = Plan::new(
            header(),
            vec![host("z", other), host("a", changes()), host("b", changes())],
        );
        let document = document(&plan);
        let sets = document["change_sets"].as_array().unwrap();
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0]["id"], document["hosts"][0]["change_set"]);
        assert_eq!(from_json(to_json(&plan).as_bytes()).unwrap(), plan);
    }

    #[test]
    fn names_that_are_not_utf8_survive() {
        let link = Node::Symlink {
            target: b"t\xff".to_vec().into(),
        };
        let plan = Plan::new(header(), vec![host("a", vec![create(b"n\xfe", link)])]);
        let document = document(&plan);
        let change = &document["change_sets"][0]["changes"][0];
        assert_eq!(change["path"], "n\u{fffd}");
        assert_eq!(change["path_base64"], "bv4=");
        assert_eq!(change["after"]["target_base64"], "dP8=");
        assert_eq!(from_json(to_json(&plan).as_bytes()).unwrap(), plan);
    }

    #[test]
    fn unknown_major_is_refused_before_anything_else_is_looked_at() {
        for version in ["2.0", "0.9", "1", "1.x", "", "+1.0.0"] {
            let error = read(&json!({ "format_version": version })).unwrap_err();
            assert!(
                matches!(error, PlanFileError::UnknownVersion { .. }),
                "{version}: {error}"
            );
        }
    }

    #[test]
    fn later_minor_and_unknown_keys_are_read() {
        let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
        let mut document = document(&plan);
        document["format_version"] = json!("1.9");
        document["novelty"] = json!({});
        document["hosts"][0]["novelty"] = json!(1);
        document["change_sets"][0]["changes"][0]["after"]["novelty"] = json!([]);
        assert_eq!(read(&sealed(document)).unwrap(), plan);
    }

    #[test]
    fn edited_changes_are_noticed() {
        let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
        let edits: [(&str, Value); 6] = [
            ("path", json!("g")),
            ("unmanaged", json!(true)),
            ("reason", json!("content")),
            ("conflict", json!(true)),
            ("mapping", json!(1)),
            ("drift", json!(true)),
        ];
        for (key, value) in edits {
            let mut document = document(&plan);
            document["change_sets"][0]["changes"][0][key] = value;
            let error = read(&document).unwrap_err();
            assert!(
                matches!(error, PlanFileError::Edited { .. }),
                "{key}: {error}"
            );
        }
    }

    #[test]
    fn whatever_else_is_edited_is_noticed_too() {
        let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
        let edits: [Edit<'_>; 6] = [
            &|d| d["serial"] = json!(8),
            &|d| d["lineage"] = json!("another"),
            &|d| d["hosts"][0]["host"] = json!("b"),
            &|d| d["hosts"][0]["mappings"][0]["dest"] = json!("/srv/b"),
            &|d| d["summary"]["create"] = json!(0),
            &|d| d["change_sets"][0]["changes"][0]["diff"] = json!({"state": "binary"}),
        ];
        for edit in edits {
            let mut document = document(&plan);
            edit(&mut document);
            let error = read(&document).unwrap_err();
            assert!(matches!(error, PlanFileError::Edited { .. }), "{error}");
        }
        let mut without = document(&plan);
        without.as_object_mut().unwrap().remove("digest");
        let error = read(&without).unwrap_err();
        assert!(matches!(error, PlanFileError::Damaged { .. }), "{error}");
    }

    #[test]
    fn neither_when_it_was_made_nor_how_it_is_laid_out_counts() {
        let plan = Plan::new(
            header(),
            vec![host("a", vec![create(b"f \"\\ ", file(b"x"))])],
        );
        let mut later = plan.clone();
        later.header.created_at = "2027-01-02T03:04:05Z".to_owned();
        assert_eq!(digest(&plan), digest(&later));
        let mut document: Document = serde_json::from_str(&to_json(&plan)).unwrap();
        document.created_at = later.header.created_at.clone();
        document.complete = true;
        document.applyable = true;
        document.summary = plan.summary();
        let compact = serde_json::to_vec(&document).unwrap();
        assert_eq!(from_json(&compact).unwrap(), later);
    }

    #[test]
    fn contradictions_are_damage() {
        let plan = Plan::new(
            header(),
            vec![
                host("a", vec![create(b"f", file(b"x"))]),
                host("b", Vec::new()),
            ],
        );
        let change = |document: &mut Value, key: &str, value: Value| {
            document["change_sets"][0]["changes"][0][key] = value;
        };
        let edits: [(&str, Edit<'_>); 13] = [
            ("no such change set", &|d| d["change_sets"] = json!([])),
            ("no such mapping", &|d| {
                d["hosts"][0]["mappings"] = json!([]);
            }),
            ("host twice", &|d| d["hosts"][1]["host"] = json!("a")),
            ("ok with an error", &|d| d["hosts"][1]["error"] = json!("x")),
            ("changes of the unseen", &|d| {
                d["hosts"][0]["status"] = json!("failed");
                d["hosts"][0]["error"] = json!("x");
            }),
            ("way out", &|d| change(d, "path", json!("../x"))),
            ("other kind", &|d| change(d, "kind", json!("dir"))),
            ("create of what is there", &|d| {
                change(d, "before", json!({"kind": "dir", "mode": "0755"}));
            }),
            ("update of nothing", &|d| {
                change(d, "action", json!("update"));
            }),
            ("delete that leaves something", &|d| {
                change(d, "action", json!("delete"));
            }),
            ("twice the same", &|d| {
                let changes = &mut d["change_sets"][0]["changes"];
                let first = changes[0].clone();
                changes.as_array_mut().unwrap().push(first);
            }),
            ("no base64", &|d| change(d, "path_base64", json!("!"))),
            ("no mode", &|d| {
                change(d, "after", json!({"kind": "dir", "mode": "99"}));
            }),
        ];
        for (what, edit) in edits {
            let mut document = document(&plan);
            edit(&mut document);
            let error = read(&document).unwrap_err();
            assert!(
                matches!(error, PlanFileError::Damaged { .. }),
                "{what}: {error}"
            );
        }
    }

    #[test]
    fn errors_quote_nothing_that_acts_on_a_terminal() {
        let evil = "\u{1b}[2J\n";
        let plan = Plan::new(header(), vec![host(evil, vec![create(b"f", file(b"x"))])]);
        let edits: [Edit<'_>; 5] = [
            &|d| d["created_at"] = json!(evil),
            &|d| d["lineage"] = json!(evil),
            &|d| d["format_version"] = json!(evil),
            &|d| d["change_sets"] = json!([]),
            &|d| d["refresh"] = json!(evil),
        ];
        for edit in edits {
            let mut document = document(&plan);
            edit(&mut document);
            let error = read(&document).unwrap_err().to_string();
            assert!(!error.contains(char::is_control), "{error:?}");
            assert!(error.contains("\\u{1b}"), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_place() {
        for text in [
            "",
            "{",
            "[]",
            "{\"format_version\": 1}",
            "{\"format_version\": \"1.0\"}",
        ] {
            let error = from_json(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("this is not a saved plan"), "{error}");
            assert!(error.contains("line 1"), "{error}");
        }
    }

    #[test]
    fn saved_file_is_private_and_replaces_the_old_one_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("plan.json");
        std::fs::write(&path, "old").unwrap();
        let plan = Plan::new(header(), vec![host("a", vec![create(b"f", file(b"x"))])]);
        save(&plan, &path).unwrap();
        assert_eq!(load(&path).unwrap(), plan);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("plan.json", &link).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "old").unwrap();
        save(&plan, &link).unwrap();
        assert!(link.is_symlink());
        assert_eq!(load(&path).unwrap(), plan);
        save(&plan, Path::new("/dev/null")).unwrap();
        assert!(!std::fs::metadata("/dev/null").unwrap().is_file());
        let error = save(&plan, &folder.path().join("none/plan.json")).unwrap_err();
        assert!(matches!(error, PlanFileError::Write { .. }), "{error}");
    }

    #[test]
    fn digest_moves_with_the_plan() {
        let plan = Plan::new(header(), vec![host("a", Vec::new())]);
        let mut other = plan.clone();
        other.hosts[0].unchanged += 1;
        assert_eq!(digest(&plan), digest(&plan.clone()));
        assert_ne!(digest(&plan), digest(&other));
    }

    fn any_name() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(1_u8..=255, 1..6).prop_filter("no plain component", |name| {
            !name.contains(&b'/') && name != b"." && name != b".."
        })
    }

    fn any_path() -> impl Strategy<Value = RelPath> {
        prop::collection::vec(any_name(), 0..4)
            .prop_map(|parts| RelPath::new(parts.join(&b'/')).unwrap())
    }

    fn any_node() -> impl Strategy<Value = Node> {
        let mode = || (0_u32..=0o7777).prop_map(Mode::new);
        let digest = || prop::option::of(any::<[u8; 32]>());
        prop_oneof![
            (any::<u64>(), mode(), digest(), digest()).prop_map(
                |(size_bytes, mode, blake3, sha256)| Node::File {
                    size_bytes,
                    meta: Meta { mode },
                    digest: ContentDigest {
                        blake3: blake3.map(Blake3::from_bytes),
                        sha256: sha256.map(Sha256::from_bytes),
                    },
                }
            ),
            mode().prop_map(|mode| Node::Dir { meta: mode.into() }),
            mode().prop_map(|mode| Node::Other { meta: mode.into() }),
            any_name().prop_map(|target| Node::Symlink {
                target: target.into()
            }),
        ]
    }

    fn any_change() -> impl Strategy<Value = Change> {
        let reason = prop::sample::select(vec![
            Reason::Missing,
            Reason::Content,
            Reason::Mode,
            Reason::Type,
            Reason::Orphan,
            Reason::Extraneous,
            Reason::Recorded,
        ]);
        let sent = || any_node().prop_filter("is sent", |node| node.kind() != Kind::Other);
        let sides = prop_oneof![
            sent().prop_map(|after| (Action::Create, None, Some(after))),
            (any_node(), sent()).prop_map(|(a, b)| (Action::Update, Some(a), Some(b))),
            any_node().prop_map(|before| (Action::Delete, Some(before), None)),
            (0_u32..=0o7777, 0_u32..=0o7777).prop_map(|(a, b)| {
                let dir = |bits| {
                    Some(Node::Dir {
                        meta: Mode::new(bits).into(),
                    })
                };
                (Action::Metadata, dir(a), dir(b))
            }),
            any_name().prop_map(|target| {
                let link = Some(Node::Symlink {
                    target: target.into(),
                });
                (Action::Adopt, link.clone(), link)
            }),
        ];
        let flags = any::<(bool, bool, bool)>();
        (0_usize..2, any_path(), sides, reason, flags).prop_map(
            |(mapping, path, (action, before, after), reason, (drift, unmanaged, conflict))| {
                Change {
                    mapping,
                    path,
                    action,
                    reason,
                    drift,
                    unmanaged,
                    conflict,
                    before,
                    after,
                }
            },
        )
    }

    /// Changes in their order, each place once.
    fn any_changes() -> impl Strategy<Value = Vec<Change>> {
        prop::collection::vec(any_change(), 0..4).prop_map(|mut changes| {
            changes.sort();
            changes.dedup_by(|a, b| (a.mapping, &a.path) == (b.mapping, &b.path));
            changes
        })
    }

    fn any_plan() -> impl Strategy<Value = Plan> {
        let change_sets = prop::collection::vec(any_changes(), 1..3);
        let hosts = prop::collection::vec((0_usize..3, any::<usize>(), ".*"), 0..6);
        (change_sets, hosts).prop_map(|(change_sets, hosts)| {
            let hosts = hosts
                .into_iter()
                .enumerate()
                .map(|(index, (status, pick, text))| {
                    let changes = match status {
                        0 => change_sets[pick % change_sets.len()].clone(),
                        _ => Vec::new(),
                    };
                    let mut host = host(&format!("host{index}"), changes);
                    host.mappings.push(MappingNames {
                        src: text.clone(),
                        dest: "/x".to_owned(),
                        source: None,
                    });
                    host.problems = vec![text.clone()];
                    if let Some(set) = &mut host.change_set {
                        let diff = match pick % 5 {
                            0 => Diff::Text(text.clone()),
                            1 => Diff::Binary,
                            2 => Diff::Hidden,
                            3 => Diff::TooLarge,
                            _ => Diff::Unavailable(text.clone()),
                        };
                        let last = set.changes.len().checked_sub(1);
                        Arc::make_mut(set)
                            .diffs
                            .extend(last.map(|last| (last, diff)));
                    }
                    host.status = match status {
                        0 => HostStatus::Ok,
                        1 => HostStatus::Unreachable(text.into()),
                        _ => HostStatus::Failed(text.into()),
                    };
                    host
                })
                .collect();
            Plan::new(header(), hosts)
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn every_plan_survives_its_document(plan in any_plan()) {
            let json = to_json(&plan);
            let read = from_json(json.as_bytes()).unwrap();
            prop_assert_eq!(&read, &plan);
            prop_assert_eq!(to_json(&read), json);
        }

        #[test]
        fn different_changes_have_different_names(
            a in prop::collection::vec(any_change(), 0..3),
            b in prop::collection::vec(any_change(), 0..3),
        ) {
            prop_assert_eq!(a == b, ChangeSetId::of(&a) == ChangeSetId::of(&b));
        }
    }
}
