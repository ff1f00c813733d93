//! What a reviewer sees, as plain data.
//!
//! Every decision about content is taken here: what stands first, which hosts share a group, what is
//! folded, how it is said. A form ([`super::text`], [`super::markdown`]) only draws the data: it
//! chooses columns, colours and markup, says how much of a long list it shows ([`limits`]), and escapes
//! what its markup would take for its own.
//!
//! Names and errors are escaped already, as [`super::words::escape`] has it: printed as they are, they
//! forge neither lines nor terminal codes.

mod change;
pub mod class;
pub mod commands;
pub mod contents;
pub mod entries;
pub mod errors;
pub mod host_ranges;
pub mod hosts;
pub mod limits;
pub mod past_runs;
pub mod places;
pub mod plan;
pub mod report;
pub mod rollback;
pub mod rows;
pub mod section;
pub mod status;
pub mod summary;
mod wording;
