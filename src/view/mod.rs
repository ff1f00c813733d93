//! Plans, reports and events as text, Markdown, JSON and progress bars.
//!
//! [`review`] decides what a reviewer sees and gives it as plain data. [`text`] and [`markdown`] draw that
//! data, each in its form; a further form would be one more folder beside them. [`json`] has the documents
//! for programs.
//!
//! What renders here is pure: it takes data and returns text, and the command line prints it. The
//! exceptions are [`progress`], which draws on standard error while hosts are worked on, and [`log`],
//! which writes the log files.

mod errors;
pub mod json;
pub mod log;
pub mod markdown;
pub mod progress;
pub mod review;
#[cfg(test)]
mod samples;
pub mod terminal;
pub mod text;
pub mod width;
pub mod words;
