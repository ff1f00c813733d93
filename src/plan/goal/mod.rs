//! What hosts are to be made equal to: the sources, a saved plan, or what they were before some applies.
//!
//! Nothing outside the three goals asks which one it has. What they have to answer is in [`Goal`] and
//! [`HostGoal`]; they take what was found out as data.

pub mod rollback;
pub mod saved;
mod sources;
mod types;

pub use sources::Sources;
pub use types::{Goal, HostGoal, Situation, Visit};
