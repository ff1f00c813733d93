//! `hostsync migrate`

use super::args::GlobalSettings;
use super::console::Console;
use super::context::Stop;
use super::exit::Exit;

pub(super) fn run(_global: &GlobalSettings, _console: &Console) -> Result<Exit, Stop> {
    Err(Stop::message("not there yet", "wait"))
}
