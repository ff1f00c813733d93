//! Carrying out a saved plan: whether the world is still as it says, and what of it is left to do.
//!
//! A plan is stale as a whole when the state, the configuration or a source is not what it names. A
//! host is stale alone when a later apply wrote its state, or when an entry on it is no longer as the
//! plan found it. A host that this very plan was begun on is neither: what is done there is left out,
//! and the rest is done.

mod host;
mod stale;
mod whole;

pub use stale::{StaleHost, StalePlan};
pub use whole::{SavedPlanCheck, check};
