//! Everything that programs read: one file for each document.

pub mod events;
mod lines;
pub mod plan;
pub mod status;
