//! The command line, and the only place that knows clap.
//!
//! Two layers: what clap fills in is private and ends here; commands get the plain settings that
//! [`parse`] makes of it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};

use super::exit::Exit;
use crate::plan::Refresh;

/// Parses a command line, the first element of which is the name of the program.
///
/// # Errors
/// When it is wrong, and when it asks for help or the version: then there is no command to run, only
/// something to print.
pub(super) fn parse<I>(args: I) -> Result<Args, NotParsed>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let mut command = Cli::command();
    let matches = command.try_get_matches_from_mut(args)?;
    let mut cli = Cli::from_arg_matches(&matches)?;
    if cli.config.as_ref().is_some_and(|path| path.is_empty()) {
        // An empty variable is as good as none; an empty argument is a slip in a script.
        if matches.value_source("config") != Some(ValueSource::EnvVariable) {
            let error = command.error(ErrorKind::InvalidValue, "the path after --config is empty");
            return Err(error.into());
        }
        cli.config = None;
    }
    // clap does not see a conflict of which one part stands behind the subcommand.
    if cli.verbose && cli.quiet {
        let error = command.error(
            ErrorKind::ArgumentConflict,
            "--verbose and --quiet cannot be used together",
        );
        return Err(error.into());
    }
    if let CliCommand::Apply {
        plan_file: None,
        auto_approve: false,
        format: Format::Json,
        ..
    } = cli.command
    {
        let apply = command.find_subcommand_mut("apply");
        let error = apply.unwrap_or(&mut Cli::command()).error(
            ErrorKind::MissingRequiredArgument,
            "--format json asks nobody, so it needs --auto-approve or PLANFILE",
        );
        return Err(error.into());
    }
    Ok(cli.into())
}

/// The completions for a shell, as the text of its script.
pub(super) fn completions(shell: Shell) -> Vec<u8> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Elvish => clap_complete::Shell::Elvish,
        Shell::Fish => clap_complete::Shell::Fish,
        Shell::PowerShell => clap_complete::Shell::PowerShell,
        Shell::Zsh => clap_complete::Shell::Zsh,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "hostsync", &mut script);
    script
}

/// A command line that names nothing to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NotParsed {
    /// What to print, with ANSI colours, ending in a line break.
    pub(super) text: String,
    /// [`Exit::Done`] for help and the version, which go to standard output; else [`Exit::Usage`],
    /// for standard error.
    pub(super) exit: Exit,
}

impl From<clap::Error> for NotParsed {
    fn from(error: clap::Error) -> Self {
        Self {
            text: error.render().ansi().to_string(),
            exit: if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            },
        }
    }
}

/// A command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Args {
    /// What goes with every command.
    pub(super) global: GlobalSettings,
    /// What to do.
    pub(super) command: Command,
}

/// What goes with every command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GlobalSettings {
    /// The configuration file that was named, by argument or by `HOSTSYNC_CONFIG`.
    pub(super) config: Option<PathBuf>,
    /// Whether there are colours.
    pub(super) color: Color,
    /// How progress is shown.
    pub(super) progress: Progress,
    /// How much is said.
    pub(super) verbosity: Verbosity,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Command {
    /// Show what apply would do.
    Plan(PlanSettings),
    /// Plan, show, ask, do; or do what a saved plan says.
    Apply(ApplySettings),
    /// Go back to an earlier apply.
    Rollback(RollbackSettings),
    /// Show a saved plan.
    Show(ShowSettings),
    /// Show what drifted.
    Status(StatusSettings),
    /// Validate the configuration.
    Check(CheckSettings),
    /// Record host keys.
    Trust(TrustSettings),
    /// Look at the state or repair it.
    State(StateSettings),
    /// Remove left-over locks of a host.
    Unlock(UnlockSettings),
    /// Start a configuration.
    Init,
    /// Write a `hostsync.toml` from the old files.
    Migrate,
    /// Print the completions for a shell.
    Completions(Shell),
}

/// Settings of `plan`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PlanSettings {
    /// Where the plan is saved.
    pub(super) out: Option<PathBuf>,
    /// How it is shown.
    pub(super) output: PlanOutput,
    /// How the hosts are looked at.
    pub(super) refresh: Refresh,
    /// Which hosts; all when empty.
    pub(super) limit: Vec<String>,
}

/// How a plan is shown, and what becomes of it in the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PlanOutput {
    /// The form.
    pub(super) format: PlanFormat,
    /// Whether differences of contents are shown.
    pub(super) has_diffs: bool,
    /// Whether changes end with exit 2.
    pub(super) has_detailed_exit: bool,
    /// Longest Markdown, in bytes.
    pub(super) max_bytes: usize,
    /// Whether nothing is folded in the human form.
    pub(super) is_full: bool,
}

/// Settings of `show`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ShowSettings {
    /// The saved plan.
    pub(super) plan_file: PathBuf,
    /// How it is shown.
    pub(super) output: PlanOutput,
}

/// Settings of `status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StatusSettings {
    /// The form of the output.
    pub(super) format: Format,
    /// Which hosts; all when empty.
    pub(super) limit: Vec<String>,
    /// Whether nothing is folded in the human form.
    pub(super) is_full: bool,
}

/// Settings of `apply`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApplySettings {
    /// The saved plan to carry out; `None` to make one.
    pub(super) plan_file: Option<PathBuf>,
    /// Whether nobody is asked.
    pub(super) is_approved: bool,
    /// The form of the output.
    pub(super) format: Format,
    /// What happens to conflicts; `None` leaves it to whether somebody is asked.
    pub(super) on_conflict: Option<OnConflict>,
    /// Which hosts; all when empty.
    pub(super) limit: Vec<String>,
    /// How long to wait for another run.
    pub(super) lock_timeout: Duration,
    /// Whether nothing is folded in the human form.
    pub(super) is_full: bool,
}

/// Settings of `rollback`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RollbackSettings {
    /// The serial to go back to; `None` for what was there before the last plan.
    pub(super) to: Option<u64>,
    /// Whether nobody is asked.
    pub(super) is_approved: bool,
    /// Which hosts; all when empty.
    pub(super) limit: Vec<String>,
    /// How long to wait for another run.
    pub(super) lock_timeout: Duration,
    /// Whether nothing is folded.
    pub(super) is_full: bool,
}

/// Settings of `check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CheckSettings {
    /// Whether to log in to every host, too.
    pub(super) connects: bool,
    /// Which hosts; all when empty.
    pub(super) limit: Vec<String>,
}

/// Settings of `trust`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrustSettings {
    /// Whether nobody is asked.
    pub(super) is_approved: bool,
    /// Which hosts, by patterns; all when empty.
    pub(super) hosts: Vec<String>,
}

/// Settings of `state`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateSettings {
    /// List the hosts that are recorded.
    List,
    /// Show what is recorded of a host.
    Show {
        /// Its name.
        host: String,
    },
    /// Remove what is recorded of a host.
    Forget {
        /// Its name.
        host: String,
        /// How long to wait for another run.
        lock_timeout: Duration,
    },
}

/// Settings of `unlock`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UnlockSettings {
    /// Its name, or a pattern.
    pub(super) host: String,
    /// How long to wait for another run.
    pub(super) lock_timeout: Duration,
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

/// What happens to a change that would destroy bytes that nobody reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum OnConflict {
    /// Leave that host untouched, do the others, end with exit 4
    Fail,
    /// Leave just those entries as they are
    Skip,
    /// Replace them; the old versions are backed up
    Overwrite,
}

/// Whether there are colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless `NO_COLOR` is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Progress {
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Verbosity {
    /// Errors and results alone.
    Quiet,
    /// What one wants to know.
    #[default]
    Normal,
    /// What one wants to know when something is wrong.
    Verbose,
}

/// A shell that has completions.
#[expect(
    clippy::enum_variant_names,
    reason = "one shell has the word in its name"
)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Shell {
    /// bash
    Bash,
    /// elvish
    Elvish,
    /// fish
    Fish,
    /// `PowerShell`
    #[value(name = "powershell")]
    PowerShell,
    /// zsh
    Zsh,
}

/// Declarative file distribution over SSH: plan, review, apply
///
/// hostsync compares local files and folders with those on many hosts, shows what would change and
/// why, and then does exactly that. Nothing is installed on the hosts.
#[derive(Debug, Parser)]
#[command(
    name = "hostsync",
    version,
    max_term_width = 79,
    after_long_help = "\
Examples:
  hostsync check --connect   is the configuration right, are the hosts there?
  hostsync plan              what would change
  hostsync apply             show it, ask, do it
  hostsync plan --out p.json; hostsync show p.json; hostsync apply p.json
                             the same in three steps, with a review between
  hostsync rollback          and back again

Exit codes:
    0  done
    1  it failed
    2  plan or show --detailed-exitcode: there are changes
    3  a host failed or was unreachable; the others are done
    4  refused: the saved plan is stale, or a conflict that nobody decided about
    5  the state is locked by another run
   64  wrong usage of the command line
  130  interrupted"
)]
struct Cli {
    /// The configuration file
    ///
    /// Without it: hostsync.toml, config.ini or config/config.ini in the current folder.
    #[arg(
        long,
        value_name = "PATH",
        env = "HOSTSYNC_CONFIG",
        hide_env_values = true,
        global = true,
        help_heading = "Global options"
    )]
    config: Option<OsString>,

    /// When to use colours
    #[arg(
        long,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        global = true,
        help_heading = "Global options"
    )]
    color: Color,

    /// How to show progress
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        default_value_t,
        global = true,
        help_heading = "Global options"
    )]
    progress: Progress,

    /// Say more
    #[arg(short, long, global = true, help_heading = "Global options")]
    verbose: bool,

    /// Say nothing but results and errors
    #[arg(short, long, global = true, help_heading = "Global options")]
    quiet: bool,

    #[command(subcommand)]
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
    /// Show what apply would do; change nothing
    #[command(after_help = "\
Examples:
  hostsync plan
  hostsync plan --diff --limit 'web*' --limit db1
  hostsync plan --out plan.json --format markdown > comment.md
  hostsync plan --format json | jq .summary")]
    Plan {
        /// Save the plan, for `hostsync show` and `hostsync apply`
        #[arg(long, value_name = "FILE", value_parser = file_name)]
        out: Option<PathBuf>,

        #[command(flatten)]
        output: CliPlanOutput,

        /// How to look at the hosts
        #[arg(long, value_enum, value_name = "HOW", default_value_t)]
        refresh: CliRefresh,

        #[command(flatten)]
        limit: Limit,
    },

    /// Plan, show it, ask, and do it; or do exactly what a saved plan says
    ///
    /// Only the answer `yes` counts. Files are staged on the host and verified before they move
    /// into place; what they replace is backed up there.
    ///
    /// A saved plan was reviewed, so nobody is asked. If the state, the configuration or a source is
    /// no longer what it names, nothing is touched; if something on a host is not, that host is left
    /// alone (exit 4).
    #[command(after_help = "\
Examples:
  hostsync apply
  hostsync apply --limit web1
  hostsync apply plan.json
  hostsync apply --auto-approve --on-conflict skip --lock-timeout 5m")]
    Apply {
        /// A plan that `hostsync plan --out` saved
        #[arg(value_name = "PLANFILE")]
        plan_file: Option<PathBuf>,

        /// Do not ask
        #[arg(long)]
        auto_approve: bool,

        /// What to do with changes that would destroy what nobody has reviewed
        ///
        /// Without it: with --auto-approve `fail`; at the prompt and with a saved plan, where somebody
        /// has seen them, `overwrite`.
        #[arg(long, value_enum, value_name = "WHAT")]
        on_conflict: Option<OnConflict>,

        /// The form of the output; `json` is one object a line, and needs --auto-approve or PLANFILE
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,

        #[command(flatten)]
        limit: Limit,

        #[command(flatten)]
        lock: Lock,

        #[command(flatten)]
        full: Full,
    },

    /// Bring back what was there before the last plan, or before later ones; show it and ask first
    ///
    /// Undoes a plan as a whole, with the runs that finished it: what it replaced or deleted comes back
    /// from the backups that each host keeps, with its permission bits, and what it created goes. An
    /// entry that somebody changed since is a conflict: listed at the prompt; with --auto-approve its host
    /// is left alone (exit 4). The sources stay as they are, so the next plan has the changes again.
    ///
    /// A rollback is an apply, too: one more takes it back. One that has not reached all hosts is gone on
    /// with first. Without a terminal it shows what it would do, and stops.
    #[command(after_help = "\
Examples:
  hostsync rollback
  hostsync state list        the last applies, with their serials
  hostsync rollback --to 12 --limit web1")]
    Rollback {
        /// Go back to what was there after this apply; 0 is before the first one
        #[arg(long, value_name = "SERIAL")]
        to: Option<u64>,

        /// Do not ask
        #[arg(long)]
        auto_approve: bool,

        #[command(flatten)]
        limit: Limit,

        #[command(flatten)]
        lock: Lock,

        #[command(flatten)]
        full: Full,
    },

    /// Show a saved plan; touch no host
    #[command(after_help = "\
Examples:
  hostsync show plan.json
  hostsync show plan.json --format markdown > comment.md")]
    Show {
        /// A plan that `hostsync plan --out` saved
        #[arg(value_name = "PLANFILE")]
        plan_file: PathBuf,

        #[command(flatten)]
        output: CliPlanOutput,
    },

    /// Show what changed on the hosts since the last apply, and which hosts agree
    #[command(after_help = "\
Examples:
  hostsync status
  hostsync status --format json | jq .summary")]
    Status {
        /// The form of the output
        #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
        format: Format,

        #[command(flatten)]
        limit: Limit,

        #[command(flatten)]
        full: Full,
    },

    /// Validate the configuration
    #[command(after_help = "\
Examples:
  hostsync check
  hostsync check --connect --limit 10.0.0.5")]
    Check {
        /// Log in to every host, too, and look whether it has the tools that are needed
        #[arg(long)]
        connect: bool,

        #[command(flatten)]
        limit: Limit,
    },

    /// Show the keys of hosts and record them in `known_hosts`
    ///
    /// Compare the fingerprints with what `ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub` says on
    /// the hosts themselves.
    #[command(after_help = "\
Examples:
  hostsync trust
  hostsync trust web1 10.0.0.5")]
    Trust {
        /// Do not ask; only where nobody can listen in
        #[arg(long)]
        yes: bool,

        /// Names, addresses, groups or globs; all hosts without any
        #[arg(value_name = "HOST")]
        hosts: Vec<String>,
    },

    /// Look at what is recorded of the hosts, or repair it
    #[command(after_help = "\
Examples:
  hostsync state list
  hostsync state show web1
  hostsync state forget web1")]
    State {
        #[command(subcommand)]
        command: CliState,
    },

    /// Remove the locks on a host that runs have left which are gone
    ///
    /// Rarely needed: an apply recognizes such a lock and replaces it. The lock of a process that is alive
    /// stays (exit 5).
    #[command(after_help = "\
Examples:
  hostsync unlock web1")]
    Unlock {
        /// Its name, address or group; globs work
        #[arg(value_name = "HOST")]
        host: String,

        #[command(flatten)]
        lock: Lock,
    },

    /// Start a configuration in the current folder
    ///
    /// Writes a `hostsync.toml` with examples, all of them comments.
    #[command(after_help = "\
Examples:
  hostsync init")]
    Init,

    /// Write a `hostsync.toml` from `config.ini` and the files that it names
    ///
    /// It comes to stand beside `config.ini`. The old files stay as they are, and both forms make the
    /// same plan. Nothing is overwritten.
    #[command(after_help = "\
Examples:
  hostsync migrate
  hostsync --config old/config.ini migrate")]
    Migrate,

    /// Print the completions for a shell
    #[command(after_help = "\
Examples:
  hostsync completions bash > ~/.local/share/bash-completion/completions/hostsync
  hostsync completions fish > ~/.config/fish/completions/hostsync.fish")]
    Completions {
        /// Which shell
        #[arg(value_enum, value_name = "SHELL")]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
enum CliState {
    /// List the hosts that are recorded, and the last applies
    List,

    /// Show what is recorded of a host
    Show {
        /// Its name
        #[arg(value_name = "HOST")]
        host: String,
    },

    /// Remove what is recorded of a host; the host itself stays as it is
    Forget {
        /// Its name
        #[arg(value_name = "HOST")]
        host: String,

        #[command(flatten)]
        lock: Lock,
    },
}

/// The ways to look at hosts.
#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum CliRefresh {
    /// Hash only what moved since the last apply
    #[default]
    Quick,
    /// Hash everything
    Full,
    /// Do not connect; plan from the sources and the state alone
    None,
}

/// What `plan` and `show` have in common.
#[derive(Debug, clap::Args)]
struct CliPlanOutput {
    /// The form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    format: PlanFormat,

    /// Show how the contents of text files differ, but for those that are private
    #[arg(long)]
    diff: bool,

    /// Exit 0: nothing to do; 1: an error; 2: changes; 3: a host failed (outranks 2)
    #[arg(long)]
    detailed_exitcode: bool,

    /// Longest Markdown; what is left out is counted
    #[arg(long, value_name = "N", default_value_t = DEFAULT_MAX_BYTES, value_parser = max_bytes)]
    max_bytes: usize,

    #[command(flatten)]
    full: Full,
}

/// A file to write to.
fn file_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "-" => Err("a plan is printed with `--format json`; this names a file".to_owned()),
        path => Ok(PathBuf::from(path)),
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

impl From<CliPlanOutput> for PlanOutput {
    fn from(output: CliPlanOutput) -> Self {
        Self {
            format: output.format,
            has_diffs: output.diff,
            has_detailed_exit: output.detailed_exitcode,
            max_bytes: output.max_bytes,
            is_full: output.full.full,
        }
    }
}

#[derive(Debug, clap::Args)]
struct Limit {
    /// Only hosts of this name, address or group; globs work; may be repeated
    #[arg(long, value_name = "PATTERN")]
    limit: Vec<String>,
}

#[derive(Debug, clap::Args)]
struct Full {
    /// Show every entry and fold nothing
    #[arg(long)]
    full: bool,
}

#[derive(Debug, clap::Args)]
struct Lock {
    /// How long to wait for another run: `30s`, `5m`, or seconds
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration)]
    lock_timeout: Duration,
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

impl From<Cli> for Args {
    fn from(cli: Cli) -> Self {
        Self {
            global: GlobalSettings {
                config: cli.config.map(PathBuf::from),
                color: cli.color,
                progress: cli.progress,
                verbosity: match (cli.quiet, cli.verbose) {
                    (true, _) => Verbosity::Quiet,
                    (_, true) => Verbosity::Verbose,
                    _ => Verbosity::Normal,
                },
            },
            command: cli.command.into(),
        }
    }
}

impl From<CliCommand> for Command {
    fn from(command: CliCommand) -> Self {
        match command {
            CliCommand::Plan {
                out,
                output,
                refresh,
                limit,
            } => Self::Plan(PlanSettings {
                out,
                output: output.into(),
                refresh: match refresh {
                    CliRefresh::Quick => Refresh::Quick,
                    CliRefresh::Full => Refresh::Full,
                    CliRefresh::None => Refresh::None,
                },
                limit: limit.limit,
            }),
            CliCommand::Apply {
                plan_file,
                auto_approve,
                on_conflict,
                format,
                limit,
                lock,
                full,
            } => Self::Apply(ApplySettings {
                plan_file,
                is_approved: auto_approve,
                format,
                on_conflict,
                limit: limit.limit,
                lock_timeout: lock.lock_timeout,
                is_full: full.full,
            }),
            CliCommand::Rollback {
                to,
                auto_approve,
                limit,
                lock,
                full,
            } => Command::Rollback(RollbackSettings {
                to,
                is_approved: auto_approve,
                limit: limit.limit,
                lock_timeout: lock.lock_timeout,
                is_full: full.full,
            }),
            CliCommand::Show { plan_file, output } => Self::Show(ShowSettings {
                plan_file,
                output: output.into(),
            }),
            CliCommand::Status {
                format,
                limit,
                full,
            } => Self::Status(StatusSettings {
                format,
                limit: limit.limit,
                is_full: full.full,
            }),
            CliCommand::Unlock { host, lock } => Self::Unlock(UnlockSettings {
                host,
                lock_timeout: lock.lock_timeout,
            }),
            CliCommand::Init => Self::Init,
            CliCommand::Migrate => Self::Migrate,
            CliCommand::Check { connect, limit } => Self::Check(CheckSettings {
                connects: connect,
                limit: limit.limit,
            }),
            CliCommand::Trust { yes, hosts } => Self::Trust(TrustSettings {
                is_approved: yes,
                hosts,
            }),
            CliCommand::State { command } => Self::State(match command {
                CliState::List => StateSettings::List,
                CliState::Show { host } => StateSettings::Show { host },
                CliState::Forget { host, lock } => StateSettings::Forget {
                    host,
                    lock_timeout: lock.lock_timeout,
                },
            }),
            CliCommand::Completions { shell } => Self::Completions(shell),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Args {
        match parse(words(line)) {
            Ok(args) => args,
            Err(stop) => panic!("{}", stop.text),
        }
    }

    fn refused(line: &str) -> NotParsed {
        parse(words(line)).expect_err(line)
    }

    fn words(line: &str) -> Vec<&str> {
        std::iter::once("hostsync")
            .chain(line.split(' ').filter(|word| !word.is_empty()))
            .collect()
    }

    #[test]
    fn definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn plan_has_quiet_defaults() {
        let args = parsed("plan");
        assert_eq!(args.global.color, Color::Auto);
        assert_eq!(args.global.progress, Progress::Auto);
        assert_eq!(args.global.verbosity, Verbosity::Normal);
        let expected = PlanSettings {
            out: None,
            output: PlanOutput {
                format: PlanFormat::Human,
                has_diffs: false,
                has_detailed_exit: false,
                max_bytes: 60_000,
                is_full: false,
            },
            refresh: Refresh::Quick,
            limit: Vec::new(),
        };
        assert_eq!(args.command, Command::Plan(expected));
    }

    #[test]
    fn plan_takes_all_its_options() {
        let args = parsed(
            "plan --format json --detailed-exitcode --refresh full --limit a --limit b* --full \
             --out p.json --diff --max-bytes 1000",
        );
        let expected = PlanSettings {
            out: Some(PathBuf::from("p.json")),
            output: PlanOutput {
                format: PlanFormat::Json,
                has_diffs: true,
                has_detailed_exit: true,
                max_bytes: 1000,
                is_full: true,
            },
            refresh: Refresh::Full,
            limit: vec!["a".to_owned(), "b*".to_owned()],
        };
        assert_eq!(args.command, Command::Plan(expected));
    }

    #[test]
    fn apply_takes_all_its_options() {
        let args = parsed(
            "apply p.json --auto-approve --on-conflict overwrite --limit a --lock-timeout 5m --full \
             --format json",
        );
        let expected = ApplySettings {
            plan_file: Some(PathBuf::from("p.json")),
            is_approved: true,
            format: Format::Json,
            on_conflict: Some(OnConflict::Overwrite),
            limit: vec!["a".to_owned()],
            lock_timeout: Duration::from_mins(5),
            is_full: true,
        };
        assert_eq!(args.command, Command::Apply(expected));
    }

    #[test]
    fn other_commands_take_their_options() {
        let check = CheckSettings {
            connects: true,
            limit: vec!["a".to_owned()],
        };
        assert_eq!(
            parsed("check --connect --limit a").command,
            Command::Check(check)
        );
        let trust = TrustSettings {
            is_approved: true,
            hosts: vec!["a".to_owned(), "b".to_owned()],
        };
        assert_eq!(parsed("trust --yes a b").command, Command::Trust(trust));
        assert_eq!(
            parsed("state list").command,
            Command::State(StateSettings::List)
        );
        let host = || "a".to_owned();
        assert_eq!(
            parsed("state show a").command,
            Command::State(StateSettings::Show { host: host() })
        );
        let forget = StateSettings::Forget {
            host: host(),
            lock_timeout: Duration::from_secs(3),
        };
        assert_eq!(
            parsed("state forget a --lock-timeout 3").command,
            Command::State(forget)
        );
        let unlock = UnlockSettings {
            host: host(),
            lock_timeout: Duration::from_secs(3),
        };
        assert_eq!(
            parsed("unlock a --lock-timeout 3").command,
            Command::Unlock(unlock)
        );
        let status = StatusSettings {
            format: Format::Json,
            limit: vec!["a".to_owned()],
            is_full: true,
        };
        assert_eq!(
            parsed("status --format json --limit a --full").command,
            Command::Status(status)
        );
        let Command::Show(show) = parsed("show p.json --format markdown").command else {
            panic!("another command");
        };
        assert_eq!(show.plan_file, PathBuf::from("p.json"));
        assert_eq!(show.output.format, PlanFormat::Markdown);
        assert_eq!(
            parsed("completions zsh").command,
            Command::Completions(Shell::Zsh)
        );
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in [
            "--config x/c.ini --color never --progress none -v plan",
            "plan --config x/c.ini --color never --progress none -v",
        ] {
            let global = parsed(line).global;
            assert_eq!(global.config, Some(PathBuf::from("x/c.ini")));
            assert_eq!(global.color, Color::Never);
            assert_eq!(global.progress, Progress::None);
            assert_eq!(global.verbosity, Verbosity::Verbose);
        }
        assert_eq!(parsed("plan -q").global.verbosity, Verbosity::Quiet);
    }

    #[test]
    fn configuration_may_come_from_the_environment() {
        let command = Cli::command();
        let config = command
            .get_arguments()
            .find(|arg| arg.get_id() == "config")
            .expect("defined");
        assert_eq!(config.get_env(), Some("HOSTSYNC_CONFIG".as_ref()));
    }

    #[test]
    fn wrong_usage_ends_with_64() {
        for line in [
            "",
            "paln",
            "plan --format xml",
            "plan --refresh some",
            "plan --max-bytes 10",
            "plan --out -",
            "plan extra",
            "show",
            "apply --format json",
            "apply --on-conflict ask",
            "apply --auto-approve --lock-timeout never",
            "apply --lock-timeout 31days",
            "plan -v -q",
            "-v plan -q",
            "state",
            "state show",
            "completions tcsh",
        ] {
            assert_eq!(refused(line).exit, Exit::Usage, "{line}");
        }
        let empty = parse(["hostsync", "plan", "--config", ""]).expect_err("empty");
        assert_eq!(empty.exit, Exit::Usage);
    }

    #[test]
    fn help_and_version_end_with_0() {
        for line in [
            "--help",
            "-h",
            "--version",
            "help plan",
            "plan --help",
            "state forget -h",
        ] {
            assert_eq!(refused(line).exit, Exit::Done, "{line}");
        }
        assert!(
            refused("--version")
                .text
                .contains(env!("CARGO_PKG_VERSION"))
        );
    }

    #[test]
    fn help_fits_into_80_columns() {
        for line in [
            "--help",
            "-h",
            "plan --help",
            "apply --help",
            "check --help",
            "trust --help",
            "state --help",
            "state list --help",
            "state show --help",
            "state forget --help",
            "completions --help",
        ] {
            let text = anstream::adapter::strip_str(&refused(line).text).to_string();
            for row in text.lines() {
                assert!(row.chars().count() < 80, "{line}: {row}");
            }
        }
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        for command in ["plan", "apply", "check", "trust", "state", "completions"] {
            let text = refused(&format!("{command} --help")).text;
            assert!(text.contains(&format!("  hostsync {command}")), "{text}");
        }
    }

    #[test]
    fn every_shell_gets_completions_that_know_the_commands() {
        for &shell in Shell::value_variants() {
            let script = String::from_utf8(completions(shell)).expect("text");
            assert!(script.contains("auto-approve"), "{shell:?}");
        }
    }
}
