//! One change, and the changes of a host.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{Blake3, Kind, Meta, Node, RelPath};

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

    fn meta(&mut self, meta: Meta) {
        for number in meta.numbers() {
            self.number(number.into());
        }
    }

    fn node(&mut self, node: &Node) {
        match node {
            Node::File {
                size_bytes,
                meta,
                digest,
            } => {
                self.field(b"file");
                self.number(*size_bytes);
                self.meta(*meta);
                self.optional(digest.blake3.as_ref().map(|d| &d.as_bytes()[..]));
                self.optional(digest.sha256.as_ref().map(|d| &d.as_bytes()[..]));
            }
            Node::Dir { meta } => {
                self.field(b"dir");
                self.meta(*meta);
            }
            Node::Symlink { target } => {
                self.field(b"symlink");
                self.field(target);
            }
            Node::Other { meta } => {
                self.field(b"other");
                self.meta(*meta);
            }
        }
    }
}
