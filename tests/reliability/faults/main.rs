//! Hosts and lines that fail in every way that there is a name for, and what becomes of an apply then.
//!
//! Each test prints how many cases it has run.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(clippy::print_stdout, reason = "each test says how many cases it ran")]
#![expect(
    clippy::unnecessary_debug_formatting,
    reason = "odd names are to be seen"
)]

mod cuts;
mod edits;
mod failing;
mod fault_site;
mod harmless;
mod random;
mod tree;
