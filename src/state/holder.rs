//! Who holds the lock.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Who holds the lock, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockHolder {
    /// Random; tells this run from every other.
    pub id: String,
    /// What it does: `apply`, for instance.
    pub operation: String,
    /// `user@host`.
    pub who: String,
    /// Its process id on that host.
    pub pid: u32,
    /// Version of the program.
    pub version: String,
    /// Since when: RFC 3339, UTC.
    pub since: String,
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` of {} (pid {}, hostsync {}) since {}, lock {}",
            self.operation, self.who, self.pid, self.version, self.since, self.id
        )
    }
}
