//! The vocabulary of every other module: hosts, paths, digests, trees, events.

mod awaited;
mod digest;
mod event;
mod exact_text;
mod host;
mod host_error;
mod meta;
mod mode;
mod parallel;
mod path;
mod printable;
mod tree;
mod waiting;

pub use awaited::Awaited;
pub(crate) use digest::CHECKS_DIGESTS;
pub use digest::{Blake3, ContentDigest, ParseDigestError, Sha256};
pub use event::{
    ChangeEnd, EndedChange, Event, HostOutcome, Observer, Phase, Silent, Together, WaitedFor, Work,
};
pub(crate) use exact_text::{exact_bytes, text_and_base64};
pub use host::HostId;
pub use host_error::HostError;
pub use meta::Meta;
pub use mode::{Mode, ParseModeError};
pub use parallel::map_parallel;
pub use path::{LocalPath, RelPath, RelPathError, RemotePath};
pub use printable::{is_treacherous, printable, printable_json};
pub use tree::{Entry, Kind, Node, Tree};
pub use waiting::watch_waiting;
