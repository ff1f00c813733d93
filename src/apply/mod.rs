//! Executing a plan: stage, commit, confirm, record.
//!
//! Each host is worked on by one thread over one session: an upload per file system that is written
//! to, and one commit. Large files are sent before that, as blocks, and may take further sessions.
//! Nothing becomes visible before the host has verified it, and the state learns of nothing that the
//! host has not confirmed.
//!
//! | file | does |
//! |---|---|
//! | `run.rs` | all hosts of a plan |
//! | `host.rs` | one host: the stages below, in their order |
//! | `job.rs`, `link.rs` | what the stages share: what is to be done; how the host is reached and who is told |
//! | `staging.rs`, `commit_steps.rs`, `staged.rs` | where things are staged, the steps, and what is staged for them |
//! | `upload.rs`, `transfer.rs`, `large.rs`, `blocks.rs` | gets it there |
//! | `commit.rs` | has the host verify and take the steps |
//! | `confirm.rs`, `listing_trust.rs`, `recorded.rs` | what the host has confirmed, and what is recorded then: pure |
//! | `record.rs` | tells the state |
//! | `failure.rs`, `explain.rs` | what goes wrong, and in whose words |
//! | `report.rs`, `tally.rs` | what became of each host |

mod blocks;
mod commit;
#[cfg(test)]
mod commit_model;
mod commit_steps;
mod confirm;
mod explain;
mod failure;
mod host;
mod job;
mod large;
mod link;
mod listing_trust;
mod record;
mod recorded;
mod report;
mod run;
mod staged;
mod staging;
mod tally;
mod transfer;
mod upload;

pub use blocks::LargeFiles;
pub use report::{HostReport, HostResult, Refused, Report};
pub use run::{ApplyRequest, OnConflict, apply};
