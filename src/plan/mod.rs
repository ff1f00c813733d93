//! The plan: what apply would do to each host, and why.
//!
//! [`prepare()`] runs it all. `gather` finds out what there is to know, a [`goal`] says what hosts are to be
//! made equal to, and [`build`] makes the plan from both; it is pure: no network, no clock, no file system.
//! [`prepared`] is what apply gets. [`document`] is the file format of a plan. Showing it is the business
//! of [`crate::view`].

mod actual;
pub mod build;
mod change;
mod comparison;
mod diffs;
pub mod document;
mod error;
mod gather;
pub mod goal;
pub(crate) mod interrupted;
mod naming;
mod prepare;
pub mod prepared;
mod request;
pub mod staging;
pub mod status;
mod types;

pub use actual::Actual;
pub use change::{Action, Change, ChangeSet, ChangeSetId, Diff, Reason};
pub use comparison::Comparison;
pub use error::{NoHostPlan, PlanError, PrepareError};
pub use gather::KeptLogins;
pub use prepare::prepare;
pub use request::PlanRequest;
pub use types::{
    HostPlan, HostStatus, MappingNames, Plan, PlanHeader, PlanRemark, Refresh, Summary, Warning,
    WarningKind,
};
