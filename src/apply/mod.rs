//! Executing a plan: upload, verify, commit, record.

mod report;

pub use report::{HostReport, HostResult, Refused, Report};
