//! Rollback: hosts become what they were before some applies.
//!
//! The state remembers what the last applies found and what they put there. What is to be undone is
//! that: of every entry that they changed, what the oldest of them found is to be there again. Its bytes
//! come from the backups that the host keeps. Everything else on the host stays as it is.

mod error;
mod path;
mod target;

pub use error::{NoRollbackPath, NoRollbackTarget};
pub use target::{RollbackTarget, Undone};
