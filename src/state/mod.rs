//! What was written last: the state folder.
//!
//! | file | holds |
//! |---|---|
//! | `state.json` | the lineage, a serial that every apply raises by one, and the last applies |
//! | `hosts/<host>.json` | per host: the serial that last touched it, per mapping its tree, the listing digest, what the last applies changed |
//! | `trees/<digest>.json` | the manifest of a tree, once however many hosts have it |
//! | `cache/` | may be deleted at any time |
//! | `lock` | a kernel lock, with a note of who holds it |
//!
//! A file is replaced as a whole or not at all. One whose format version is unknown is refused and
//! never rewritten.

mod durable;
mod error;
mod files;
mod history;
mod holder;
mod lock;
mod record;
mod store;

pub use error::StateError;
pub use history::{GoalDigests, History, Intent, PastApply, PastMapping, PastRun, Progress};
pub use holder::LockHolder;
pub use lock::StateLock;
pub use record::{HostRecord, Identity, MappingRecord};
pub use store::StateStore;
