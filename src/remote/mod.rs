//! What hosts are asked to do: the programs that run there, and how they get there.
//!
//! Hosts have nothing installed, and the login shell may be any. So the command line is one short
//! line that every shell passes on unchanged. What it starts reads its program from standard input,
//! by length. What the program works on follows on standard input.
//!
//! There are two of a kind, which answer the same. Where the host has perl, it is one process of it,
//! the *agent*: it does one task after the other, for as long as the session lasts, so that all of an
//! apply is one login and one command. Elsewhere it is a script of `sh` for each task.
//!
//! Each task has a folder in [`tasks`]: its request and its answer as types, and its two programs. All
//! that is spelled in these programs, names of variables, markers, lines, is spelled here alone.

mod algorithm;
mod answer;
mod bootstrap;
mod error;
mod limits;
mod login;
mod nonce;
mod stat;
mod task;
pub mod tasks;

pub use algorithm::Algorithm;
pub use bootstrap::Script;
pub use error::RemoteError;
pub use limits::{Expected, Room};
pub use login::Login;
pub use nonce::Nonce;
pub use stat::{StatTuple, seconds_of};
pub use task::Task;
