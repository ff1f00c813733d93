//! What happens during a run, as plain data: the engine emits it, views show it.

use std::time::Duration;

use super::{HostError, HostId, RelPath};

/// What is done on all hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// They are looked at, for a plan.
    Looking,
    /// They are changed.
    Applying,
}

/// What a host is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// TCP, host key, login.
    Connecting,
    /// Comparing what is there.
    Looking,
    /// Sending into staging.
    Uploading,
    /// The connection did not last: a new one, to send what is missing.
    Reconnecting,
    /// Verifying and moving into place.
    Committing,
}

/// How the work on one host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// Everything that was to be done is done.
    Done,
    /// What was to be done is done, but for some of it; the text says for what.
    DoneExcept(String),
    /// It could not be reached, or it failed.
    Failed(HostError),
    /// It was left as it is, on purpose; the text says why.
    LeftAlone(String),
}

/// What became of one change of the plan on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedChange {
    /// Index of the mapping in the host's mappings.
    pub mapping: usize,
    /// Where, relative to the mapping. With it, this names one change of the host.
    pub path: RelPath,
    /// What became of it.
    pub end: ChangeEnd,
}

/// How a change ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChangeEnd {
    /// The host has confirmed it; or the entry was right already, and is now recorded.
    Applied,
    /// It was to be made, and was not.
    Refused {
        /// Why, for people.
        reason: String,
        /// Whether the reason is that the entry moved on the host after it was looked at.
        moved: bool,
    },
    /// It was left out on purpose; the text says why.
    Skipped(String),
}

/// A host for which a run waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitedFor {
    /// Which host.
    pub host: HostId,
    /// What it is busy with.
    pub phase: Phase,
    /// How long nothing has come of it.
    pub silent: Duration,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Local sources are about to be read.
    LocalScanStarted {
        /// How many distinct sources there are.
        sources: usize,
    },
    /// More of the local sources was read.
    LocalScanProgress {
        /// Files looked at so far.
        files: u64,
        /// Bytes hashed so far; files found in the cache cost none.
        hashed_bytes: u64,
    },
    /// The local sources are known.
    LocalScanFinished {
        /// Files found.
        files: u64,
        /// Bytes of all files together.
        total_bytes: u64,
        /// Bytes that had to be read.
        hashed_bytes: u64,
        /// How long it took.
        elapsed: Duration,
    },
    /// Work on hosts begins.
    HostsStarted {
        /// What the work is.
        work: Work,
        /// How many hosts will have a [`HostFinished`](Self::HostFinished).
        hosts: usize,
        /// Bytes of content to be sent to all of them together, as far as known; 0 while planning.
        total_bytes: u64,
    },
    /// More or fewer bytes are to be sent to all hosts together than was known before.
    TotalChanged {
        /// The host to which they are to be sent.
        host: HostId,
        /// How many more; below 0 for fewer.
        by_bytes: i64,
    },
    /// A host enters a phase.
    HostPhase {
        /// Which host.
        host: HostId,
        /// The phase.
        phase: Phase,
        /// Bytes of content to send in this phase; 0 where none are.
        total_bytes: u64,
    },
    /// A host took some bytes.
    HostProgress {
        /// Which host.
        host: HostId,
        /// Bytes of content sent since the last event of this kind.
        sent_bytes: u64,
    },
    /// For some seconds nothing has come of these hosts, the most silent one first; told again and again. With
    /// none, when there are none any more.
    Waiting {
        /// The hosts.
        hosts: Vec<WaitedFor>,
    },
    /// What became of changes on a host is known. Each one comes once, however the host ends after that;
    /// where nobody knows what became of it, it does not come.
    ChangesEnded {
        /// Which host.
        host: HostId,
        /// The changes.
        changes: Vec<EndedChange>,
    },
    /// Work on a host has ended.
    HostFinished {
        /// Which host.
        host: HostId,
        /// How.
        outcome: HostOutcome,
    },
    /// Work on all hosts has ended.
    HostsFinished,
}

/// Somebody who wants to know what happens. Called from many threads.
pub trait Observer: Sync {
    /// Takes note of one event. Must return quickly.
    fn event(&self, event: &Event);
}

/// Tells several observers, one after the other.
pub struct Together<'a>(pub &'a [&'a dyn Observer]);

impl Observer for Together<'_> {
    fn event(&self, event: &Event) {
        for observer in self.0 {
            observer.event(event);
        }
    }
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}
