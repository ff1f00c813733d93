//! The configuration: what people write, checked and turned into one [`Config`].
//!
//! Two forms are read: the old one (`config.ini`, `connection_info.json`, `[ip].json`; see
//! [`ini`] and [`inventory`]) and the native `hostsync.toml`. Both end in the same [`Config`]; from
//! there on nothing knows which one it was.

pub mod error;
pub mod ini;
pub mod inventory;
mod types;

pub use error::ConfigError;
pub use types::{
    Auth, Config, Exact, Excludes, ExcludesError, Host, Mapping, MaxDelete, Modes, Passkey,
    Settings, SymlinkPolicy,
};
