//! Other users of a host, and hosts that do not play fair.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "what is not tried on this machine is said"
)]

mod commands;
mod exchanges;
mod hosts;
mod others;
