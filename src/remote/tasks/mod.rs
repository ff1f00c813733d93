//! What hosts are asked to do: a folder for each task.

pub mod fetch;
pub mod look;
pub mod receive;
