//! Text that comes from outside, as it may be shown.

use std::fmt::Write as _;

/// `text` on one line, without anything that acts on a terminal or on the text around it.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        if is_treacherous(char) {
            out.extend(char.escape_default());
        } else {
            out.push(char);
        }
    }
    out
}

/// JSON that says the same, in which such characters are escaped, too. What JSON itself escapes is left to
/// whoever wrote it.
pub fn printable_json(json: String) -> String {
    let is_plain = |char: char| char.is_ascii() && char != '\u{7f}' || !is_treacherous(char);
    if json.chars().all(is_plain) {
        return json;
    }
    let mut out = String::with_capacity(json.len());
    for char in json.chars() {
        if is_plain(char) {
            out.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\u{unit:04x}");
        }
    }
    out
}

/// Whether a character acts on the text around it, or hides.
pub fn is_treacherous(c: char) -> bool {
    // What Unicode calls ignorable by default, blanks that are no spaces, and separators of lines.
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_acts_on_a_terminal() {
        assert_eq!(
            printable("a\x1b[31m\nb\u{9b}c\u{202e}\\ü"),
            "a\\u{1b}[31m\\nb\\u{9b}c\\u{202e}\\ü"
        );
    }

    #[test]
    fn json_says_the_same_and_hides_nothing() {
        let said = "ü\u{202e}\u{9b}\u{7f}\u{e0041}\u{1b}\n";
        let json = serde_json::to_string_pretty(&[said]).expect("a text");
        let shown = printable_json(json);
        assert!(
            shown.contains("ü\\u202e\\u009b\\u007f\\udb40\\udc41\\u001b\\n"),
            "{shown}"
        );
        let again: Vec<String> = serde_json::from_str(&shown).expect("JSON");
        assert_eq!(again, [said]);
    }
}
