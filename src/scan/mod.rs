//! Looking: at local sources and at hosts. Nothing here changes anything but the hash cache.

mod cache;
mod content;
pub mod fetch;
pub mod local;
pub mod remote;
