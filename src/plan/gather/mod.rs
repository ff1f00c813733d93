//! Gathering what a plan is made from: sources are read once, and hosts are looked at many at a time.

mod checks;
mod comparisons;
mod events;
mod logins;
mod looking;
mod recorded;
mod sources;
mod survey;

pub use logins::KeptLogins;
pub(super) use survey::{HostToPlan, Survey, Surveyed};
