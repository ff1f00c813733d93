//! The command line as a whole: the options of all commands, and the command.

use std::ffi::OsString;

use clap::{CommandFactory as _, FromArgMatches as _, Parser};

use super::commands::Command;
use super::options::GlobalOptions;

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
pub(super) struct CommandLine {
    #[command(flatten)]
    pub(super) global: GlobalOptions,

    #[command(subcommand)]
    pub(super) command: Command,
}

/// Parses a command line, the first element of which is the name of the program.
///
/// # Errors
/// When it is wrong, and when it asks for help or the version: then there is no command to run, only
/// something to print.
pub(super) fn parse<I>(args: I) -> Result<CommandLine, clap::Error>
where
    I: IntoIterator,
    I::Item: Into<OsString> + Clone,
{
    let mut definition = CommandLine::command();
    let matches = definition.try_get_matches_from_mut(args)?;
    let command_line = CommandLine::from_arg_matches(&matches)?;
    command_line.global.validate(&matches, &mut definition)?;
    command_line.command.validate(&mut definition)?;
    Ok(command_line)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cli::exit::Exit;
    use crate::cli::options::{ProgressChoice, Verbosity};
    use crate::view::terminal::ColorChoice;

    fn global_of(line: &str) -> GlobalOptions {
        match parse(words(line)) {
            Ok(command_line) => command_line.global,
            Err(error) => panic!("{error}"),
        }
    }

    fn refused(line: &str) -> clap::Error {
        parse(words(line)).expect_err(line)
    }

    fn words(line: &str) -> Vec<&str> {
        std::iter::once("hostsync")
            .chain(line.split(' ').filter(|word| !word.is_empty()))
            .collect()
    }

    #[test]
    fn definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn plan_has_quiet_global_defaults() {
        let global = global_of("plan");
        assert_eq!(global.color, ColorChoice::Auto);
        assert_eq!(global.progress, ProgressChoice::Auto);
        assert_eq!(global.verbosity(), Verbosity::Normal);
    }

    #[test]
    fn global_options_stand_before_or_behind_the_command() {
        for line in [
            "--config x/c.ini --color never --progress none -v plan",
            "plan --config x/c.ini --color never --progress none -v",
        ] {
            let global = global_of(line);
            assert_eq!(global.config(), Some(Path::new("x/c.ini")));
            assert_eq!(global.color, ColorChoice::Never);
            assert_eq!(global.progress, ProgressChoice::None);
            assert_eq!(global.verbosity(), Verbosity::Verbose);
        }
        assert_eq!(global_of("plan -q").verbosity(), Verbosity::Quiet);
    }

    #[test]
    fn configuration_may_come_from_the_environment() {
        let command = CommandLine::command();
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
            "plan --untrusted-config",
            "plan --state state",
            "plan --untrusted-config --state state --refresh quick",
            "plan --untrusted-config --state state --refresh full",
            "check --untrusted-config --state state --connect",
            "apply --untrusted-config --state state",
            "status --untrusted-config --state state",
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
            assert_eq!(Exit::of_usage(&refused(line)), Exit::Usage, "{line}");
        }
        let empty = parse(["hostsync", "plan", "--config", ""]).expect_err("empty");
        assert_eq!(Exit::of_usage(&empty), Exit::Usage);
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
            assert_eq!(Exit::of_usage(&refused(line)), Exit::Done, "{line}");
        }
        assert!(
            refused("--version")
                .to_string()
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
            for row in refused(line).to_string().lines() {
                assert!(row.chars().count() < 80, "{line}: {row}");
            }
        }
    }

    #[test]
    fn every_command_shows_an_example_in_its_help() {
        for command in ["plan", "apply", "check", "trust", "state", "completions"] {
            let text = refused(&format!("{command} --help")).to_string();
            assert!(text.contains(&format!("  hostsync {command}")), "{text}");
        }
    }
}
