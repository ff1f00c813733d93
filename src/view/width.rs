//! How wide text is in a terminal, and lines of a width.

use unicode_width::UnicodeWidthChar as _;
use unicode_width::UnicodeWidthStr as _;

/// Columns that `text` takes in a terminal.
pub fn width_of(text: &str) -> usize {
    text.width()
}

/// `text` and as many spaces as make it `width` columns wide.
pub(super) fn pad(text: &str, width: usize) -> String {
    let missing = width.saturating_sub(width_of(text));
    format!("{text}{}", " ".repeat(missing))
}

/// Breaks text into lines of at most `width` columns, at spaces where there are any. Nothing is lost
/// but the space at a break. At least one line, maybe empty.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    break_lines(text, width, |c| c == ' ')
        .into_iter()
        .map(|line| line.trim_end().to_owned())
        .collect()
}

/// Breaks a path into lines of at most `width` columns, after slashes where there are any. The lines
/// put together are the path.
pub fn wrap_path(path: &str, width: usize) -> Vec<String> {
    break_lines(path, width, |c| c == '/')
}

fn break_lines(text: &str, width: usize, may_break_after: impl Fn(char) -> bool) -> Vec<String> {
    let width = width.max(1);
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut line_width = 0_usize;
    // Length of `line` up to the last place where it may be broken.
    let mut break_at = 0;
    for c in text.chars() {
        let c_width = c.width().unwrap_or(0);
        // A space that a line may end with takes no room: it is trimmed.
        let vanishes = c == ' ' && may_break_after(c);
        if line_width + c_width > width && !vanishes && !line.is_empty() {
            let rest = if break_at > 0 {
                line.split_off(break_at)
            } else {
                String::new()
            };
            lines.push(std::mem::replace(&mut line, rest));
            line_width = width_of(&line);
            break_at = 0;
        }
        line.push(c);
        line_width += c_width;
        if may_break_after(c) {
            break_at = line.len();
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_breaks_at_spaces_and_long_words_anywhere() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh ij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn paths_break_after_slashes_and_lose_nothing() {
        let path = "some/long/path/to/a file";
        let lines = wrap_path(path, 10);
        assert_eq!(lines, ["some/long/", "path/to/", "a file"]);
        assert_eq!(lines.concat(), path);
    }
}
