//! The plan as a JSON document: what `--out` saves and `--format json` prints.

mod digest;
mod error;
mod read;
mod types;
mod write;

pub use error::PlanFileError;
pub use read::{from_json, load};
pub use types::FORMAT_VERSION;
pub(crate) use types::{NodeDocument, StatusDocument};
pub use write::{digest, save, to_json};

#[cfg(test)]
mod tests;
