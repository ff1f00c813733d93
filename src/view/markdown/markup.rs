//! What comes from outside as Markdown: it is neither markup nor a mention there, and cannot get out.

use std::fmt::Write as _;

/// One line of text as a code span.
pub(super) fn code(text: &str) -> String {
    if text.is_empty() {
        // A code span cannot be.
        return String::new();
    }
    let fence = "`".repeat(longest_run(text, '`') + 1);
    // One space at each end is not shown.
    let is_padded = text.starts_with(['`', ' ']) || text.ends_with(['`', ' ']);
    let space = if is_padded { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// One line of text as code, where Markdown is not understood.
pub(super) fn html_code(text: &str) -> String {
    let mut out = "<code>".to_owned();
    for c in text.chars() {
        if c.is_ascii_punctuation() && !"-./[],_".contains(c) {
            // Writing to a String cannot fail.
            let _ = write!(out, "&#{};", u32::from(c));
        } else {
            out.push(c);
        }
    }
    out.push_str("</code>");
    out
}

/// Lines in a fence that they do not hold.
pub(super) fn fence(language: &str, lines: &str) -> String {
    let [backticks, tildes] = ['`', '~'].map(|c| longest_run(lines, c).max(2) + 1);
    let fence = if backticks <= tildes {
        "`".repeat(backticks)
    } else {
        "~".repeat(tildes)
    };
    format!("{fence}{language}\n{lines}{fence}")
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut run) = (0, 0);
    for c in text.chars() {
        run = if c == wanted { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    longest
}
