//! The `hostsync` program. Everything it does is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    hostsync::cli::run(std::env::args_os())
}
