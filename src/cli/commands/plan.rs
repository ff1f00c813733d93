//! `hostsync plan`

use std::path::PathBuf;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{GlobalOptions, HostOptions, PlanOutputOptions};
use crate::cli::output::print_plan;
use crate::cli::session::{CommandSession, Planning};
use crate::plan::{Refresh, document};
use crate::view::review::plan::PlanCommand;

/// Show what apply would do; change nothing
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync plan
  hostsync plan --diff --limit 'web*' --limit db1
  hostsync plan --out plan.json --format markdown > comment.md
  hostsync plan --format json | jq .summary")]
pub(in crate::cli) struct PlanOptions {
    /// Save the plan, for `hostsync show` and `hostsync apply`
    #[arg(long, value_name = "FILE", value_parser = file_name)]
    pub(super) out: Option<PathBuf>,

    #[command(flatten)]
    pub(super) output: PlanOutputOptions,

    /// How to look at the hosts
    #[arg(long, value_enum, value_name = "HOW", default_value_t)]
    pub(super) refresh: Refresh,

    #[command(flatten)]
    pub(super) hosts: HostOptions,
}

/// A file to write to.
fn file_name(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("it is empty".to_owned()),
        "-" => Err("a plan is printed with `--format json`; this names a file".to_owned()),
        path => Ok(PathBuf::from(path)),
    }
}

/// The values of `--refresh`. They are named here, since only the command line knows clap.
impl ValueEnum for Refresh {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self::Quick, Self::Full, Self::None]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self {
            Self::Quick => ("quick", "Hash only what moved since the last apply"),
            Self::Full => ("full", "Hash everything"),
            Self::None => (
                "none",
                "Do not connect; plan from the sources and the state alone",
            ),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// Makes a plan, prints it, and saves it where that is asked for.
pub(super) fn run(
    options: &PlanOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open("plan", global, console)?;
    let state = session.state()?;
    let hosts = session.select(&options.hosts.limit)?;
    let planning = Planning {
        refresh: options.refresh,
        wants_diffs: options.output.diff,
        ..Planning::default()
    };
    let prepared = session.prepare(&state, &hosts, &planning)?;
    session.tell_what_came_before(&prepared, &state);
    let plan = prepared.plan;
    if let Some(path) = &options.out {
        document::save(&plan, path)?;
    }
    let command = PlanCommand::Plan {
        saved: options.out.is_some(),
    };
    let digest = document::digest(&plan);
    print_plan(&plan, digest, command, &options.output, console);
    if let Some(path) = &options.out {
        console.say(&format!("Saved the plan in {}.", path.display()));
    }
    Ok(session.finish(Exit::of_printed_plan(&plan, &options.output)))
}
