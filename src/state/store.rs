//! Reading and writing the state folder.

use std::path::Path;

use super::{StateError, StateLock};
use crate::model::{Blake3, HostId, Tree};

/// Which state this is and how often it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the first apply; the same for the life of the state.
    pub lineage: String,
    /// Raised by one by every apply.
    pub serial: u64,
}

/// Whether the last apply to a host came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// It did.
    Finished,
    /// It did not, as far as is known: the host may have a part of it.
    InTheMiddle,
}

/// What was written last to one mapping of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingRecord {
    /// The source, as written in the configuration.
    pub src: String,
    /// The destination; what a mapping is found again by.
    pub dest: String,
    /// Names the tree.
    pub tree: Blake3,
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
}

/// The state folder.
#[derive(Debug)]
pub struct StateStore {}

impl StateStore {
    /// Opens the folder for reading; one that does not exist yet is an empty state.
    ///
    /// # Errors
    /// When it cannot be read or was written by a newer version.
    pub fn open(_dir: &Path) -> Result<Self, StateError> {
        todo!()
    }

    /// Which state this is; `None` before the first apply.
    pub fn identity(&self) -> Option<&Identity> {
        todo!()
    }

    /// What is recorded of a host.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged, or was written by a newer version.
    pub fn host(&self, _host: &HostId) -> Result<Option<HostRecord>, StateError> {
        todo!()
    }

    /// The hosts that have a record, sorted.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn hosts(&self) -> Result<Vec<HostId>, StateError> {
        todo!()
    }

    /// The tree of this digest.
    ///
    /// # Errors
    /// When its file is missing, damaged or does not have that digest.
    pub fn tree(&self, _digest: &Blake3) -> Result<Tree, StateError> {
        todo!()
    }

    /// Raises the serial, making the folder and the lineage if there are none.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn begin_apply(&mut self, _lock: &StateLock) -> Result<Identity, StateError> {
        todo!()
    }

    /// Writes the manifest of a tree unless it is there already, with all that is known.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save_tree(&self, _lock: &StateLock, _tree: &Tree) -> Result<Blake3, StateError> {
        todo!()
    }

    /// Writes the record of a host. Its trees must have been saved before.
    ///
    /// # Errors
    /// When it cannot be written; the earlier record is then still there, whole.
    pub fn save_host(&self, _lock: &StateLock, _record: &HostRecord) -> Result<(), StateError> {
        todo!()
    }

    /// Removes what is recorded of a host; says whether there was anything.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn forget_host(&self, _lock: &StateLock, _host: &HostId) -> Result<bool, StateError> {
        todo!()
    }

    /// Removes manifests that no host has.
    ///
    /// # Errors
    /// When the folder cannot be read or a file not be removed.
    pub fn remove_unused_trees(&self, _lock: &StateLock) -> Result<usize, StateError> {
        todo!()
    }
}
