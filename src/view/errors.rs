//! The text of an error of a host, as people see it.

use std::fmt;

use super::words::escape_text;

/// What went wrong, on one line.
pub(super) fn first_line(error: &impl fmt::Display) -> String {
    escape_text(error.to_string().trim().lines().next().unwrap_or_default())
}

/// All that is known of what went wrong, on one line.
pub(super) fn all_lines(error: &impl fmt::Display) -> String {
    escape_text(&error.to_string())
}
