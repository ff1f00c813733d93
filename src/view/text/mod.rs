//! The review in a terminal: columns, colours and lines of its width.

mod page;
pub mod plan;
pub mod report;
pub mod rollback;
mod sections;
pub mod status;
mod style;
mod table;
