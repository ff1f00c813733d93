//! The configuration: what people write, checked and turned into one [`Config`].
//!
//! There are two forms: the old one (`config.ini`, `connection_info.json`, `[ip].json`; see `ini` and
//! `inventory`) and `hostsync.toml` (see `native`). `load` takes a file from the left to the right:
//!
//! ```text
//! config.ini ──────────► ini ───────┐
//! connection_info.json ► inventory ─┼─► document (values with places) ─► check, settings ─► Config
//! [ip].json ───────────► inventory ─┤
//! hostsync.toml ───────► native ────┘
//! ```
//!
//! Readers know a syntax and nothing else; the checks know the rules and no file format. From
//! [`Config`] on nothing knows which form it was.

mod access;
mod check;
mod digest;
mod document;
mod enclosure;
mod error;
mod fields;
mod ini;
mod inventory;
mod keys;
mod load;
mod mask;
mod migrate;
mod native;
mod places;
mod privacy;
mod select;
mod settings;
mod span;
#[cfg(test)]
mod tests;
mod text;
mod types;
mod values;

pub use digest::config_digest;
pub use error::{ConfigError, Issue, IssueCode, Remark, RemarkKind, SelectError};
pub use load::{Loaded, NATIVE_FILE, find, find_old, load, load_untrusted, load_with};
pub use migrate::{MigrateError, Migration, migrate, write_new};
pub use places::Environment;
pub use privacy::{PRIVATE, Privacy, holds_private_key};
pub use select::select;
pub use text::ReadFile;
pub use types::{
    Auth, CIPHERS, Config, Exact, Excludes, ExcludesError, ExcludesInOrder, Host, Mapping,
    MaxDelete, Modes, Passkey, Settings, SymlinkPolicy,
};
