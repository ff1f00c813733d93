//! `hostsync status`

use super::args::{Format, GlobalSettings, StatusSettings};
use super::console::Console;
use super::context::{Context, Stop};
use super::exit::Exit;
use super::interrupt::Interrupts;
use super::plan::{self, How};
use crate::plan::Refresh;
use crate::plan::goal::Sources;
use crate::plan::status::{self, Status};
use crate::state::StateStore;
use crate::view;
use crate::view::status::StatusView;

pub(super) fn run(
    global: &GlobalSettings,
    settings: &StatusSettings,
    console: &Console,
) -> Result<Exit, Stop> {
    let _interrupts = Interrupts::listen();
    let mut context = Context::load(global, console)?;
    context.start_logs("status")?;
    let state = StateStore::open(&context.config.settings.state_path)?;
    let hosts = context.select(&settings.limit)?;
    let how = How {
        refresh: Refresh::Quick,
        wants_diffs: false,
        keeps_all: true,
        keep_logins: 0,
        goal: &Sources,
    };
    let prepared = plan::prepare(&context, &state, &hosts, &how)?;
    let status = Status::of(prepared, &hosts, &state, context.config.settings.modes)?;
    match settings.format {
        Format::Human => {
            let options = StatusView {
                full: settings.is_full,
                width: console.width(),
                color: console.color(),
            };
            console.data(view::status::render(&status, &options).as_bytes());
        }
        Format::Json => console.data(status::to_json(&status).as_bytes()),
    }
    Ok(context.finish(plan::exit_of(&status.plan)))
}
