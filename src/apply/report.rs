//! What an apply did, as plain data.

use std::time::Duration;

use crate::model::{HostError, HostId, RelPath};

/// An entry that was not done, though the plan has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Index of the mapping in the host's mappings.
    pub mapping: usize,
    /// Where, relative to the mapping.
    pub path: RelPath,
    /// Full destination, for people.
    pub dest: String,
    /// Refusal, for people.
    pub reason: String,
    /// Whether the reason is that it moved on the host after it was looked at.
    pub moved: bool,
}

/// How the work on one host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostResult {
    /// The plan is done there, but for the entries in [`HostReport::refused`].
    Done,
    /// There was nothing to do.
    Unchanged,
    /// It was left untouched because of conflicts that nobody decided about.
    Conflicts(usize),
    /// It was left untouched because it is no longer as the plan says.
    Stale(String),
    /// It could not be reached.
    Unreachable(HostError),
    /// It failed; what it has is recorded.
    Failed(HostError),
    /// The run was interrupted before this host was begun.
    NotBegun,
    /// The run was interrupted while this host was being sent to; nothing in place was changed there.
    Interrupted,
}

/// What was done on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Which host.
    pub host: HostId,
    /// How it ended.
    pub result: HostResult,
    /// Changes that the host confirmed.
    pub changed: usize,
    /// Entries that were already right and are now recorded.
    pub adopted: usize,
    /// Entries that were not done.
    pub refused: Vec<Refused>,
    /// Entries left as they are because `--on-conflict skip` says so.
    pub skipped: usize,
    /// Folders that were to go, and stay since something of somebody else is in them.
    pub spared: usize,
    /// Bytes of content that were sent, whatever became of them.
    pub sent_bytes: u64,
    /// Whether it keeps a part of large files that is not in place yet: the next apply goes on with it.
    pub keeps_part: bool,
    /// From connecting to the end.
    pub elapsed: Duration,
}

/// What an apply did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Serial of the state that it wrote; `None` when it wrote none.
    pub serial: Option<u64>,
    /// The serial that hosts are back at; `None` where nothing was undone.
    pub back_to: Option<u64>,
    /// Every host of the plan, in its order.
    pub hosts: Vec<HostReport>,
    /// Whether it was interrupted.
    pub interrupted: bool,
    /// From the first connection to the last answer.
    pub elapsed: Duration,
}

impl Report {
    /// Whether all of the plan is done, on every host, but for what was left out on purpose.
    pub fn is_complete(&self) -> bool {
        let is_done = |host: &HostReport| {
            matches!(host.result, HostResult::Done | HostResult::Unchanged)
                && host.refused.is_empty()
        };
        !self.interrupted && self.hosts.iter().all(is_done)
    }
}
