//! What happens during a run, as plain data: the engine emits it, views show it.

use std::time::Duration;

use super::HostId;

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
    Scanning,
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
    /// It could not be reached, or it failed; the text is for people.
    Failed(String),
    /// It was left as it is, on purpose; the text says why.
    LeftAlone(String),
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

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _event: &Event) {}
}
