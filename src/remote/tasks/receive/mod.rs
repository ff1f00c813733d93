//! Receives an upload into staging.

pub mod scp;
pub mod tar;
pub mod upload;
