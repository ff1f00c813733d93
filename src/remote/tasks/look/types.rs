//! What a look says of a host.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::model::{Node, RemotePath};
use crate::remote::limits::Room;
use crate::remote::{Algorithm, StatTuple};

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
    /// What others on the host can do to it.
    pub exposure: Exposure,
}

/// What others on a host, who are neither root nor the login, can do to a path.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Exposure {
    /// The first folder above it in which they can put something else in the place of what leads to it.
    pub above: Option<String>,
    /// The topmost folders inside it in which they can exchange entries; only for a login of root.
    pub within: Vec<RemotePath>,
    /// The first folder in which they could do so to a folder of ours beside it.
    pub beside: Option<String>,
    /// The nearest folder above on its file system in which they cannot, where there is one.
    pub shelter: Option<String>,
    /// Why nobody should go there: what is in the way, and who may have made it.
    pub obstacle: Option<String>,
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
    /// What others on the host can do to that.
    pub staging_exposure: Exposure,
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
