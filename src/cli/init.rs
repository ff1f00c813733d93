//! `hostsync init`

use super::console::Console;
use super::context::Stop;
use super::exit::Exit;

pub(super) fn run(_console: &Console) -> Result<Exit, Stop> {
    Err(Stop::message("not there yet", "wait"))
}
