//! Looking at a host: one exec, whatever its size.

mod reader;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use self::reader::LookReader;
use crate::model::{Node, RemotePath};
use crate::remote::answer::TaskRun;
use crate::remote::error::check_end;
use crate::remote::limits::{Expected, Room, Work};
use crate::remote::{Algorithm, Login, RemoteError, Script, StatTuple, Task};

/// What a host has and who we are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostFacts {
    /// The hash it computes.
    pub algorithm: Algorithm,
    /// The tool it computes it with.
    pub hash_tool: String,
    /// Numeric user id of the login.
    pub uid: u32,
    /// Numeric group id of the login.
    pub gid: u32,
    /// Whether it has `scp`, and lets it be used.
    pub has_scp: bool,
    /// Whether it has `tar`.
    pub has_tar: bool,
    /// Whether an agent answered, and not the script of `sh`.
    pub has_agent: bool,
}

/// A folder, or the nearest thing above it that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What exists, at or above what was asked for.
    pub path: Vec<u8>,
    /// Number of its file system.
    pub device: u64,
    /// Whether it is a folder (or a link to one).
    pub is_folder: bool,
    /// Whether we may write there.
    pub is_writable: bool,
}

/// Where a destination lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DestPlace {
    /// The folder that holds it.
    pub parent: Place,
    /// The destination itself, when it is a folder.
    pub inside: Option<Place>,
}

/// An entry that is on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What `stat` said.
    pub stat: StatTuple,
    /// What it is. A file that could not be read has no digest.
    pub node: Node,
}

/// What became of the listing that the host keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// It was not asked for.
    NotAsked,
    /// Nothing of what it lists has moved.
    Same,
    /// Some of it has: [`HostLook::seen`] and [`HostLook::gone`] say what.
    Moved,
    /// It is missing, or not the one that the state knows. Nothing was looked at.
    Lost,
}

/// What a host has.
#[derive(Clone, Debug)]
pub struct HostLook {
    /// About the host itself.
    pub facts: HostFacts,
    /// Where the destinations lie, by mapping.
    pub places: Vec<DestPlace>,
    /// Where staging would lie.
    pub staging: Place,
    /// Whether a run that is gone has left something in our folder.
    pub has_leftovers: bool,
    /// What became of the kept listing.
    pub listing: Listing,
    /// What was looked at and is there.
    pub seen: HashMap<Vec<u8>, Seen>,
    /// What the kept listing has, but no longer like that; unless it is also in `seen`, it is gone.
    pub gone: HashSet<Vec<u8>>,
    /// Folders that may not be listed, so that what is in them is not in `seen`. Answered where
    /// mirrored destinations are looked at.
    pub closed: Vec<Vec<u8>>,
    /// The room that all of this takes here, which others have again when it is dropped.
    #[expect(dead_code, reason = "it is held, and nobody asks for it")]
    pub(crate) room: Arc<Room>,
}

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct LookRequest<'a> {
    /// Folder of ours on the host.
    pub base: &'a RemotePath,
    /// Destinations, by mapping.
    pub roots: &'a [RemotePath],
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

/// What the host said, as it may be shown.
fn shown(said: &str) -> String {
    said.chars().filter(|c| !c.is_control()).take(300).collect()
}
