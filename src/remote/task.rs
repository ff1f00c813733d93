//! The tasks of hosts, and the programs that do them.

use self::Task::{Blocks, Commit, Fetch, Look, Receive, Restore, Unlock};

/// What a host is asked to do. Its program has two forms: a part of the agent, and a script of `sh`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Look, change nothing.
    Look,
    /// Read files, change nothing.
    Fetch,
    /// Prepare large files, and look at their blocks.
    Blocks,
    /// Receive into staging.
    Receive,
    /// Stage what is in the backups.
    Restore,
    /// Verify and move into place.
    Commit,
    /// Remove what runs that are gone have left.
    Unlock,
}

impl Task {
    /// All of them.
    pub const ALL: [Self; 7] = [Look, Fetch, Blocks, Receive, Restore, Commit, Unlock];

    /// What the agent calls it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Look => "look",
            Fetch => "fetch",
            Blocks => "blocks",
            Receive => "receive",
            Restore => "restore",
            Commit => "commit",
            Unlock => "unlock",
        }
    }

    /// The script of `sh`; it needs [`COMMON`] in front of it.
    pub(super) fn script(self) -> &'static str {
        match self {
            Look => include_str!("tasks/look/look.sh"),
            Fetch => include_str!("tasks/fetch/fetch.sh"),
            Blocks => include_str!("tasks/blocks/blocks.sh"),
            Receive => include_str!("tasks/receive/receive.sh"),
            Restore => include_str!("tasks/restore/restore.sh"),
            Commit => include_str!("tasks/commit/commit.sh"),
            Unlock => include_str!("tasks/unlock/unlock.sh"),
        }
    }

    /// The parts that an agent needs for it beyond [`AGENT`]. All that an apply needs comes at once: the
    /// first task of it brings the parts of the others.
    pub(super) fn agent_parts(self) -> &'static [&'static str] {
        // To compile these takes a host longer than to look at a thousand files.
        const RECEIVE: &str = include_str!("tasks/receive/receive.pl");
        const COMMIT: &str = include_str!("tasks/commit/commit.pl");
        match self {
            Look => &[],
            Fetch => &[include_str!("tasks/fetch/fetch.pl")],
            Unlock => &[include_str!("tasks/unlock/unlock.pl")],
            Restore => &[include_str!("tasks/restore/restore.pl")],
            Receive | Commit => &[RECEIVE, COMMIT],
            Blocks => &[include_str!("tasks/blocks/blocks.pl"), RECEIVE, COMMIT],
        }
    }
}

/// What all scripts share.
pub(super) const COMMON: &str = include_str!("common.sh");

/// The agent, with what every session needs.
pub(super) const AGENT: &[&str] = &[include_str!("agent.pl"), include_str!("tasks/look/look.pl")];
