//! Applies that are killed, at every step of a commit and at any moment of the program.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

mod commands;
mod steps;
