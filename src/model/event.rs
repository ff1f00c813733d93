//! What happens during a run, as plain data: the engine emits it, views show it.

use std::time::Duration;

use super::HostId;

/// What a host is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// TCP, host key, login.
    Connecting,
    /// Comparing what is there.
    Scanning,
    /// Sending into staging.
    Uploading,
    /// Verifying and moving into place.
    Committing,
}

/// How the work on one host ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostOutcome {
    /// Everything that was to be done is done.
    Done,
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
        /// How many hosts there are.
        hosts: usize,
        /// Bytes to be sent to all of them together; 0 while planning.
        total_bytes: u64,
    },
    /// A host enters a phase.
    HostPhase {
        /// Which host.
        host: HostId,
        /// The phase.
        phase: Phase,
        /// Bytes to send in this phase; 0 where none are.
        total_bytes: u64,
    },
    /// A host took some bytes.
    HostProgress {
        /// Which host.
        host: HostId,
        /// Bytes sent since the last event of this kind.
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
