//! Plans, reports and events as text, JSON and progress bars.
//!
//! What renders here is pure: it takes data and returns text, and the command line prints it. The
//! exceptions are [`progress`], which draws on standard error while hosts are worked on, and [`log`],
//! which writes the log files. The JSON of a plan is [`crate::plan::document`], that of an apply is
//! [`events`].

mod change;
mod diff;
pub mod events;
pub mod host_ranges;
pub mod log;
pub mod markdown;
mod page;
pub mod plan;
pub mod progress;
pub mod report;
pub mod rollback;
pub mod status;
pub mod style;
mod table;
pub mod terminal;
pub mod text;
