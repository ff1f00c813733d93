//! That every command takes its options.

use std::path::PathBuf;
use std::time::Duration;

use clap::{CommandFactory as _, ValueEnum as _};

use super::Command;
use super::apply::ApplyOptions;
use super::check::CheckOptions;
use super::completions::{self, CompletionsOptions, Shell};
use super::plan::PlanOptions;
use super::state::{StateCommand, StateOptions};
use super::status::StatusOptions;
use super::trust::TrustOptions;
use super::unlock::UnlockOptions;
use crate::apply::OnConflict;
use crate::cli::command_line::{self, CommandLine};
use crate::cli::options::{
    ApprovalOptions, Format, HostOptions, LockOptions, PlanFormat, PlanOutputOptions, TextOptions,
    UntrustedOptions,
};
use crate::plan::Refresh;

fn parsed(line: &str) -> Command {
    let words = std::iter::once("hostsync").chain(line.split_whitespace());
    match command_line::parse(words) {
        Ok(command_line) => command_line.command,
        Err(error) => panic!("{error}"),
    }
}

fn hosts(limit: &[&str]) -> HostOptions {
    HostOptions {
        limit: limit.iter().map(|&pattern| pattern.to_owned()).collect(),
    }
}

#[test]
fn plan_has_quiet_defaults() {
    let expected = PlanOptions {
        out: None,
        output: PlanOutputOptions {
            format: PlanFormat::Human,
            diff: false,
            detailed_exitcode: false,
            max_bytes: 60_000,
            text: TextOptions { full: false },
        },
        refresh: None,
        untrusted: UntrustedOptions::default(),
        hosts: hosts(&[]),
    };
    assert_eq!(parsed("plan"), Command::Plan(expected));
}

#[test]
fn plan_takes_all_its_options() {
    let command = parsed(
        "plan --format json --detailed-exitcode --refresh full --limit a --limit b* --full \
         --out p.json --diff --max-bytes 1000",
    );
    let expected = PlanOptions {
        out: Some(PathBuf::from("p.json")),
        output: PlanOutputOptions {
            format: PlanFormat::Json,
            diff: true,
            detailed_exitcode: true,
            max_bytes: 1000,
            text: TextOptions { full: true },
        },
        refresh: Some(Refresh::Full),
        untrusted: UntrustedOptions::default(),
        hosts: hosts(&["a", "b*"]),
    };
    assert_eq!(command, Command::Plan(expected));
}

#[test]
fn apply_takes_all_its_options() {
    let command = parsed(
        "apply p.json --auto-approve --on-conflict overwrite --limit a --lock-timeout 5m --full \
         --format json",
    );
    let expected = ApplyOptions {
        plan_file: Some(PathBuf::from("p.json")),
        approval: ApprovalOptions { auto_approve: true },
        format: Format::Json,
        on_conflict: Some(OnConflict::Overwrite),
        hosts: hosts(&["a"]),
        lock: LockOptions {
            lock_timeout: Duration::from_mins(5),
        },
        text: TextOptions { full: true },
    };
    assert_eq!(command, Command::Apply(expected));
}

#[test]
fn other_commands_take_their_options() {
    let check = CheckOptions {
        connect: true,
        untrusted: UntrustedOptions::default(),
        hosts: hosts(&["a"]),
    };
    assert_eq!(parsed("check --connect --limit a"), Command::Check(check));
    let trust = TrustOptions {
        yes: true,
        hosts: vec!["a".to_owned(), "b".to_owned()],
    };
    assert_eq!(parsed("trust --yes a b"), Command::Trust(trust));
    let state = |command| Command::State(StateOptions { command });
    assert_eq!(parsed("state list"), state(StateCommand::List));
    let host = || "a".to_owned();
    assert_eq!(
        parsed("state show a"),
        state(StateCommand::Show { host: host() })
    );
    let lock = || LockOptions {
        lock_timeout: Duration::from_secs(3),
    };
    let forget = StateCommand::Forget {
        host: host(),
        lock: lock(),
    };
    assert_eq!(parsed("state forget a --lock-timeout 3"), state(forget));
    let unlock = UnlockOptions {
        host: host(),
        lock: lock(),
    };
    assert_eq!(parsed("unlock a --lock-timeout 3"), Command::Unlock(unlock));
    let status = StatusOptions {
        format: Format::Json,
        hosts: hosts(&["a"]),
        text: TextOptions { full: true },
    };
    assert_eq!(
        parsed("status --format json --limit a --full"),
        Command::Status(status)
    );
    let Command::Show(show) = parsed("show p.json --format markdown") else {
        panic!("another command");
    };
    assert_eq!(show.plan_file, PathBuf::from("p.json"));
    assert_eq!(show.output.format, PlanFormat::Markdown);
    let completions = CompletionsOptions { shell: Shell::Zsh };
    assert_eq!(parsed("completions zsh"), Command::Completions(completions));
}

#[test]
fn every_shell_gets_completions_that_know_the_commands() {
    for &shell in Shell::value_variants() {
        let script = completions::script(shell, &mut CommandLine::command());
        let script = String::from_utf8(script).expect("text");
        assert!(script.contains("auto-approve"), "{shell:?}");
    }
}
