//! Looking at a host: one exec, whatever its size.

mod reader;
mod types;

use std::time::Duration;

use self::reader::{LookReader, shown};
pub use self::types::{DestPlace, Exposure, HostFacts, HostLook, Listing, Place, Seen};
use crate::model::RemotePath;
use crate::remote::answer::TaskRun;
use crate::remote::error::check_end;
use crate::remote::limits::{Expected, Room, Work};
use crate::remote::{Login, RemoteError, Script, Task};

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct LookRequest<'a> {
    /// Folder of ours on the host.
    pub base: &'a RemotePath,
    /// Destinations, by mapping.
    pub roots: &'a [RemotePath],
    /// Indices of the mappings below folders that others may change.
    pub trusted: &'a [usize],
    /// Indices of the mappings of which everything below is looked at.
    pub mirrors: &'a [usize],
    /// Digest of the listing that may be trusted; `None` to look at everything.
    pub listing: Option<&'a str>,
    /// Paths to look at, apart from those in the listing.
    pub paths: &'a [RemotePath],
    /// What the answer may speak of beside these: what the listing has, and what is known of mirrors; and the
    /// bytes that all known files have.
    pub expected: Expected,
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

/// Asks a host. One exec; nothing on the host changes.
///
/// # Errors
/// When the host cannot be asked, cannot answer, or may not see what it is asked about.
pub fn look(login: &mut Login, request: &LookRequest<'_>) -> Result<HostLook, RemoteError> {
    let mut script = Script::new(Task::Look, request.stall_timeout);
    script.path("hs_base", request.base);
    script.path("hs_staging", request.base);
    script.text(
        "hs_mode",
        if request.listing.is_some() {
            b"quick"
        } else {
            b"full"
        },
    );
    script.text("hs_listing", request.listing.unwrap_or_default().as_bytes());
    script.number("hs_roots", request.roots.len() as u64);
    script.trust(request.trusted);
    for (index, root) in request.roots.iter().enumerate() {
        script.path(&format!("hs_root_{index}"), root);
    }
    let mirrors: Vec<String> = request.mirrors.iter().map(usize::to_string).collect();
    script.text("hs_mirrors", mirrors.join(" ").as_bytes());

    let mut data = Vec::new();
    for path in request.paths {
        data.extend_from_slice(path.as_bytes());
        data.push(0);
    }
    script.number("hs_paths", data.len() as u64);
    let paths = request.paths.iter().chain(request.roots);
    let expected = Expected::of_paths(paths.map(RemotePath::as_bytes)).and(request.expected);
    // What is asked of whole folders is looked at before it is known how much it is.
    script.work(Work {
        entries: expected.entries,
        disk_bytes: 0,
    });
    let is_open = !request.mirrors.is_empty();
    let room = Room::for_answer(expected.answer_bytes()).and_unknown(is_open);
    let reader = LookReader::new(room, &script, expected.file_bytes);
    let mut run = TaskRun::new(&script, data, reader);
    let outcome = login.run(&script, &mut run)?;
    check_end(&run, &outcome)?;
    let (look, complaint) = run.into_sections().finish(request.roots.len())?;
    match complaint_of_stat(&outcome.stderr).or(complaint) {
        None => Ok(look),
        Some(complaint) => Err(RemoteError::NotAllowed { complaint }),
    }
}

/// The first thing that `stat` complained about.
fn complaint_of_stat(stderr: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(stderr);
    let line = text.lines().find_map(|line| line.split_once("stat: "))?.1;
    Some(shown(line))
}
