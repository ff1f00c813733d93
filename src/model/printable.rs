//! Text that comes from outside, as it may be shown.

/// `text` on one line, without anything that acts on a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if char.is_control() {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(
            printable("a\x1b[31m\nb\u{9b}c\\ü"),
            "a\\u{1b}[31m\\nb\\u{9b}c\\ü"
        );
    }
}
