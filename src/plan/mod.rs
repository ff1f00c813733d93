//! The plan: what apply would do to each host, and why.
//!
//! [`prepare`] gathers what there is to know, [`build`] makes the plan from it and is pure: no
//! network, no clock, no file system. [`document`] is its file format. Showing it is the business of [`crate::view`].

mod actual;
pub mod build;
mod change;
mod comparison;
mod diffs;
pub mod document;
pub mod goal;
pub(crate) mod interrupted;
mod logins;
pub mod prepare;
mod sources;
pub mod staging;
pub mod status;
mod types;

pub use actual::Actual;
pub use change::{Action, Change, ChangeSet, ChangeSetId, Diff, Reason};
pub use logins::KeptLogins;
pub use types::{HostPlan, HostStatus, MappingNames, Plan, PlanHeader, Refresh, Summary};
