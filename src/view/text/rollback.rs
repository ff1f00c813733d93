//! What a rollback undoes, in a terminal.

use super::style::PLAIN;
use super::table;
use crate::plan::goal::rollback::RollbackTarget;
use crate::plan::prepared::Prepared;
use crate::view::review;

/// What stands above the plan of a rollback. Ends in an empty line.
pub fn introduction(undo: &RollbackTarget, prepared: &Prepared, width: usize) -> String {
    let mut text = String::new();
    for paragraph in review::rollback::introduction(undo, prepared) {
        for line in table::paragraph(&paragraph, 0, width, PLAIN, false) {
            text.push_str(&line);
            text.push('\n');
        }
    }
    text.push('\n');
    text
}
