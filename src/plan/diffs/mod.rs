//! How the contents of files differ, for people.
//!
//! What is on the host is fetched over the login that looked at it, in one command for all files. Hosts that
//! are to go from the same content to the same content share one diff: the first of them finds it out, and
//! another one where that fails. Private files are not even fetched.
//!
//! Everything has a limit, and no limit depends on time or on which host comes first: two plans of the same
//! situation say the same.

mod content;
mod find;
mod merge;

pub(super) use find::Diffs;
pub(super) use merge::merge;

#[cfg(test)]
mod tests;
