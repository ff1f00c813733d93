//! `hostsync status`

use super::args::{GlobalSettings, StatusSettings};
use super::console::Console;
use super::context::Stop;
use super::exit::Exit;

pub(super) fn run(
    _global: &GlobalSettings,
    settings: &StatusSettings,
    _console: &Console,
) -> Result<Exit, Stop> {
    let _ = (settings.format, &settings.limit, settings.is_full);
    Err(Stop::message("not there yet", "wait"))
}
