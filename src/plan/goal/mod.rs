//! What hosts are to be made equal to.

pub mod rollback;
pub mod saved;
