//! A tour of hostsync that needs nothing but the checkout.
//!
//! ```text
//! cargo run --release --example quickstart [-- [--keep] [--hosts N]]
//! ```
//!
//! It starts a few SSH hosts inside this process, writes a configuration for them into a temporary
//! folder and runs hostsync as anybody would. Whatever it says is checked: it ends with 1 when a
//! step did something else than it was told to.

mod changes;
mod scene;
mod tour;

use std::env;
use std::ffi::OsString;
use std::io::{self, Write as _};
use std::process::ExitCode;

use tour::{Options, TourError};

/// Makes this executable behave as the `hostsync` binary does. Cargo does not build a binary for an
/// example, and the one that happens to be there may be of another build.
const AS_HOSTSYNC: &str = "--as-hostsync";

const USAGE: &str = "\
usage: cargo run --release --example quickstart [-- OPTIONS]
  --keep      leave the hosts running at the end, to try things
  --hosts N   start N hosts, 2 to 50, instead of 3
";

fn main() -> ExitCode {
    let mut args = env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == AS_HOSTSYNC).is_some() {
        return hostsync::cli::run([OsString::from("hostsync")].into_iter().chain(args));
    }
    let Some(options) = parse(args) else {
        complain(USAGE);
        return ExitCode::from(64);
    };
    match tour::run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(TourError::Interrupted) => ExitCode::from(130),
        // Somebody who reads only the beginning (`| head`) has seen enough.
        Err(TourError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("\nquickstart: {error}\n"));
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = OsString>) -> Option<Options> {
    let mut options = Options {
        hosts: 3,
        keep: false,
    };
    while let Some(arg) = args.next() {
        match arg.to_str()? {
            "--keep" => options.keep = true,
            "--hosts" => options.hosts = args.next()?.to_str()?.parse().ok()?,
            _ => return None,
        }
    }
    (2..=50).contains(&options.hosts).then_some(options)
}

fn complain(text: &str) {
    // Nobody is left to be told that this failed.
    let _ = io::stderr().write_all(text.as_bytes());
}
