//! The options that commands share, in groups.
//!
//! A command takes a group with `#[command(flatten)]`. An option that is added to a group is an option of
//! every command that takes the group. An option of one command is declared in the file of that command.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValue;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, ValueEnum};

use crate::view::terminal::ColorChoice;

/// The options of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(super) struct GlobalOptions {
    /// The configuration file
    ///
    /// Without it: hostsync.toml, config.ini or config/config.ini in the current folder.
    #[arg(
        long,
        value_name = "PATH",
        env = "HOSTSYNC_CONFIG",
        hide_env_values = true,
        global = true
    )]
    config: Option<OsString>,

    /// When to use colours
    #[arg(long, value_enum, value_name = "WHEN", default_value_t, global = true)]
    pub(super) color: ColorChoice,

    /// How to show progress
    #[arg(long, value_enum, value_name = "HOW", default_value_t, global = true)]
    pub(super) progress: ProgressChoice,

    /// Say more
    #[arg(short, long, global = true)]
    verbose: bool,

    /// Say nothing but results and errors
    #[arg(short, long, global = true)]
    quiet: bool,
}

impl GlobalOptions {
    /// The configuration file that was named, by argument or by `HOSTSYNC_CONFIG`.
    pub(super) fn config(&self) -> Option<&Path> {
        let named = self.config.as_ref().filter(|path| !path.is_empty());
        named.map(Path::new)
    }

    /// How much is said.
    pub(super) fn verbosity(&self) -> Verbosity {
        match (self.quiet, self.verbose) {
            (true, _) => Verbosity::Quiet,
            (_, true) => Verbosity::Verbose,
            _ => Verbosity::Normal,
        }
    }

    /// Checks what clap cannot. `matches` is what these options were made from.
    pub(super) fn validate(
        &self,
        matches: &ArgMatches,
        definition: &mut clap::Command,
    ) -> Result<(), clap::Error> {
        // An empty variable is as good as none; an empty argument is a slip in a script.
        let is_empty = self.config.as_ref().is_some_and(|path| path.is_empty());
        if is_empty && matches.value_source("config") != Some(ValueSource::EnvVariable) {
            let message = "the path after --config is empty";
            return Err(definition.error(ErrorKind::InvalidValue, message));
        }
        // clap does not see a conflict of which one part stands behind the subcommand.
        if self.verbose && self.quiet {
            let message = "--verbose and --quiet cannot be used together";
            return Err(definition.error(ErrorKind::ArgumentConflict, message));
        }
        Ok(())
    }
}

/// The choice of hosts.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct HostOptions {
    /// Only hosts of this name, address or group; globs work; may be repeated
    #[arg(long, value_name = "PATTERN")]
    pub(super) limit: Vec<String>,
}

/// Whether the configuration is a stranger's.
#[derive(Debug, Default, PartialEq, Eq, Args)]
pub(super) struct UntrustedOptions {
    /// The configuration is a stranger's: run nothing of it, ask no host, read no secret
    ///
    /// Implies `--refresh none`. All that the configuration names has to lie in its folder. What it says
    /// about logs, state, keys of hosts and logins is ignored.
    #[arg(long, requires = "state")]
    untrusted_config: bool,

    /// The folder of the state, with `--untrusted-config`; it is read alone
    #[arg(long, value_name = "PATH", requires = "untrusted_config", value_parser = folder_name)]
    state: Option<PathBuf>,
}

impl UntrustedOptions {
    /// The folder of the state where the configuration is a stranger's.
    pub(super) fn state(&self) -> Option<&Path> {
        self.state.as_deref().filter(|_| self.untrusted_config)
    }
}

/// The name of a folder.
fn folder_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// The lock on the state.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct LockOptions {
    /// How long to wait for another run: `30s`, `5m`, or seconds
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    pub(super) lock_timeout: Duration,
}

/// Whether a person is asked.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct ApprovalOptions {
    /// Do not ask
    #[arg(long)]
    pub(super) auto_approve: bool,
}

/// How text for people is shown.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct TextOptions {
    /// Show every entry and fold nothing
    #[arg(long)]
    pub(super) full: bool,
}

/// How a plan is printed, and whether its changes show in the exit code.
#[derive(Debug, PartialEq, Eq, Args)]
pub(super) struct PlanOutputOptions {
    /// The form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) format: PlanFormat,

    /// Show how the contents of text files differ, but for those that are private
    #[arg(long)]
    pub(super) diff: bool,

    /// Exit 0: nothing to do; 1: an error; 2: changes; 3: a host failed (outranks 2)
    #[arg(long)]
    pub(super) detailed_exitcode: bool,

    /// Longest Markdown; what is left out is counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_BYTES, value_parser = max_bytes)]
    pub(super) max_bytes: usize,

    #[command(flatten)]
    pub(super) text: TextOptions,
}

/// The form of an output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// Text for people
    #[default]
    Human,
    /// The stable JSON document
    Json,
}

/// The form of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum PlanFormat {
    /// Text for people
    #[default]
    Human,
    /// The stable JSON document, which `--out` saves, too
    Json,
    /// For a comment on a pull request
    Markdown,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum ProgressChoice {
    /// Bars on a terminal, else plain lines
    #[default]
    Auto,
    /// Bars
    Bars,
    /// A line now and then
    Plain,
    /// Not at all
    None,
}

/// How much is said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verbosity {
    /// Errors and results alone.
    Quiet,
    /// What people want to know.
    Normal,
    /// What people want to know when something is wrong.
    Verbose,
}

/// The values of `--color`. They are named here, since only the command line knows clap.
impl ValueEnum for ColorChoice {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Auto, Self::Always, Self::Never]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Auto => ("auto", "On a terminal, unless `NO_COLOR` is set"),
            Self::Always => ("always", "Always"),
            Self::Never => ("never", "Never"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Somewhat less than the 65,536 characters that a comment on GitHub may have.
const DEFAULT_MAX_BYTES: usize = 60_000;

/// What a summary that says something takes.
const LEAST_MAX_BYTES: usize = 1000;

/// A number of bytes for Markdown.
fn max_bytes(text: &str) -> Result<usize, String> {
    let bytes: usize = text
        .parse()
        .map_err(|error: std::num::ParseIntError| error.to_string())?;
    if bytes < LEAST_MAX_BYTES {
        return Err(format!(
            "less than {LEAST_MAX_BYTES}: too little for a summary"
        ));
    }
    Ok(bytes)
}

/// Longest wait for another run: 30 days, which leaves room for arithmetic with clocks.
const LONGEST_WAIT: Duration = Duration::from_hours(30 * 24);

/// A number of seconds, or a duration such as `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration = match text.parse::<u32>() {
        Ok(seconds) => Duration::from_secs(u64::from(seconds)),
        Err(_) => humantime::parse_duration(text).map_err(|error| error.to_string())?,
    };
    if duration > LONGEST_WAIT {
        return Err("longer than 30 days".to_owned());
    }
    Ok(duration)
}
