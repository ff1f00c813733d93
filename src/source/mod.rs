//! Reads local sources: their trees, digests and contents. Nothing here changes anything but the hash cache.

mod cache;
mod content;
pub mod local;
