//! Removing what a run that is gone has left locked on a host.

use std::time::Duration;

use crate::model::RemotePath;
use crate::remote::{Login, RemoteError, Room, Script, Task};

/// A lock that was found on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostLock {
    /// The process on the host that made it; `unknown` where it does not say.
    pub holder: String,
    /// Whether it is gone now, since that process is. One of a living process stays.
    pub is_removed: bool,
}

/// Removes the locks beside `base`, the folder of ours on a host, whose processes are gone, and what
/// their runs have left in it. Reports every lock that was found.
///
/// # Errors
/// When the host cannot be asked, or does not answer to the end.
pub fn unlock(
    login: &mut Login,
    base: &RemotePath,
    stall_timeout: Duration,
) -> Result<Vec<HostLock>, RemoteError> {
    let mut script = Script::new(Task::Unlock, stall_timeout);
    script.path("hs_base", base);
    let run = login.ask(&script, Vec::new(), Room::for_answer(0))?;
    let locks = run.sections().iter().filter_map(|section| {
        let is_removed = match section.name.as_str() {
            "removed" => true,
            "held" => false,
            _ => return None,
        };
        let holder = section.argument.clone();
        Some(HostLock { holder, is_removed })
    });
    Ok(locks.collect())
}
