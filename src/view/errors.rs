//! The text of an error of a host, as people see it.

use super::words::escape_text;

/// What went wrong, on one line.
pub(super) fn first_line(error: &str) -> String {
    escape_text(error.trim().lines().next().unwrap_or_default())
}

/// All that is known of what went wrong, on one line.
pub(super) fn all_lines(error: &str) -> String {
    escape_text(error)
}
