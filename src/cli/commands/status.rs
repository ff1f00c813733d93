//! `hostsync status`

use clap::Args;

use crate::cli::console::Console;
use crate::cli::error::CommandError;
use crate::cli::exit::Exit;
use crate::cli::options::{Format, GlobalOptions, HostOptions, TextOptions};
use crate::cli::session::{CommandSession, Planning};
use crate::plan::status::Status;
use crate::view;
use crate::view::text::status::StatusView;

/// Show what changed on the hosts since the last apply, and which hosts agree
#[derive(Debug, PartialEq, Eq, Args)]
#[command(after_help = "\
Examples:
  hostsync status
  hostsync status --format json | jq .summary")]
pub(in crate::cli) struct StatusOptions {
    /// The form of the output
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    pub(super) format: Format,

    #[command(flatten)]
    pub(super) hosts: HostOptions,

    #[command(flatten)]
    pub(super) text: TextOptions,
}

/// Looks at the hosts and prints where they stand.
pub(super) fn run(
    options: &StatusOptions,
    global: &GlobalOptions,
    console: &Console,
) -> Result<Exit, CommandError> {
    let session = CommandSession::open("status", global, console)?;
    let state = session.state()?;
    let hosts = session.select(&options.hosts.limit)?;
    let planning = Planning {
        keeps_all: true,
        ..Planning::default()
    };
    let prepared = session.prepare(&state, &hosts, &planning)?;
    let status = Status::of(prepared, &hosts, &state, session.config.settings.modes)?;
    match options.format {
        Format::Human => {
            let view = StatusView {
                full: options.text.full,
                width: console.width(),
                color: console.color(),
            };
            console.data(view::text::status::render(&status, &view).as_bytes());
        }
        Format::Json => console.data(view::json::status::to_json(&status).as_bytes()),
    }
    Ok(session.finish(Exit::of_plan(&status.plan)))
}
