//! What the state remembers of itself and of each host.

use serde::{Deserialize, Serialize};

use super::{History, Progress};
use crate::model::{Blake3, HostId};

/// Which state this is and how often it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the first apply; the same for the life of the state.
    pub lineage: String,
    /// Raised by one by every apply.
    pub serial: u64,
}

/// What was written last to one mapping of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingRecord {
    /// The source, as written in the configuration.
    pub src: String,
    /// The destination; what a mapping is found again by.
    pub dest: String,
    /// Names the tree.
    pub tree: Blake3,
    /// Names the tree that an apply was making of it when it began, and did not come to its end; what is
    /// on the host may be of either.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intended: Option<Blake3>,
    /// Whether everything below the destination was looked at then, also what is not ours.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_mirrored: bool,
}

/// What is recorded of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Which host.
    pub host: HostId,
    /// Serial of the apply that last touched it.
    pub serial: u64,
    /// When that was: RFC 3339, UTC.
    pub updated_at: String,
    /// Digest of the plan that was applied.
    pub plan: Blake3,
    /// Whether that apply came to its end.
    pub progress: Progress,
    /// Digest of the listing that the host keeps, as the host computed it (`sha256:…`); `None` when
    /// there is no listing to be trusted.
    pub listing: Option<String>,
    /// The hash tool's algorithm that the host has: `blake3` or `sha256`; `None` while unknown.
    pub algorithm: Option<String>,
    /// Its mappings, in the order of the configuration of that time.
    pub mappings: Vec<MappingRecord>,
    /// What the last applies changed on it.
    pub history: History,
}

impl HostRecord {
    /// Whether the last apply did not come to its end, as far as is known.
    pub fn is_in_the_middle(&self) -> bool {
        self.progress == Progress::InTheMiddle
    }

    /// The trees that it names.
    pub(super) fn trees(&self) -> impl Iterator<Item = Blake3> {
        let now = self.mappings.iter();
        let now = now.flat_map(|it| [Some(it.tree), it.intended]).flatten();
        let past = self.history.applies.iter().flat_map(|it| &it.mappings);
        now.chain(past.flat_map(|it| [it.recorded, it.before, it.after]))
    }
}
