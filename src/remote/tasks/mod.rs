//! What hosts are asked to do: a folder for each task, with its request, its answer and its programs.

pub mod blocks;
pub mod commit;
pub mod fetch;
pub mod look;
pub mod receive;
pub mod restore;
pub mod unlock;
