//! Hiding passkeys in the texts that errors show.
//!
//! Everything here may hide too much and must never hide too little. Hidden characters become `*` of
//! the same length in bytes, so that labels stay where they are; line breaks stay too.

use std::ops::Range;

/// `text` with the ranges hidden.
pub(super) fn hide(text: &str, ranges: &[Range<usize>]) -> String {
    let mut ranges: Vec<_> = ranges.to_vec();
    ranges.sort_by_key(|range| range.start);
    let mut pending = ranges.into_iter().peekable();
    let mut hidden_to = 0;
    let mut out = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        while let Some(range) = pending.next_if(|range| range.start <= at) {
            hidden_to = hidden_to.max(range.end);
        }
        if at < hidden_to && !matches!(char, '\n' | '\r') {
            out.extend(std::iter::repeat_n('*', char.len_utf8()));
        } else {
            out.push(char);
        }
    }
    out
}

/// Words that a key for a secret starts with, in any case.
const SECRET_WORDS: [&str; 4] = ["pass", "pwd", "secret", "token"];

/// What follows a word such as `passkey` and a `:` or `=`: also in comments and in text that is
/// not in any known form.
pub(super) fn values_of_secret_words(text: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let mut ranges = Vec::new();
    for word in SECRET_WORDS {
        for (at, _) in lower.match_indices(word) {
            let end_of_word = skip(text, at, |c| c.is_alphanumeric() || c == '_' || c == '-');
            let after_quote = skip(text, end_of_word, |c| matches!(c, '"' | '\''));
            let delimiter = skip(text, after_quote, char::is_whitespace);
            if !text[delimiter..].starts_with([':', '=']) {
                continue;
            }
            let value = skip(text, delimiter + 1, char::is_whitespace);
            let rest = &text[value..];
            // Three quotes begin a text of TOML, which one quote does not end.
            let is_quoted = rest.starts_with('"') && !rest.starts_with("\"\"\"");
            ranges.push(if is_quoted {
                value + 1..end_of_string(text, value + 1)
            } else {
                value..skip(text, value, |c| c != '\n')
            });
        }
    }
    ranges
}

/// Everything that is neither punctuation nor a pair of one of the `plain_keys` and a simple value.
/// For JSON that cannot be parsed, where nobody knows what is a value.
pub(super) fn all_but_plain_pairs(text: &str, plain_keys: &[&str]) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Some(char) = text[at..].chars().next() {
        if let Some(after) = plain_keys.iter().find_map(|key| after_pair(text, at, key)) {
            at = after;
            continue;
        }
        if let Some(after) = after_quoted(text, at, "passkey") {
            at = after;
            continue;
        }
        let next = at + char.len_utf8();
        if !char.is_whitespace() && !"{}[],:\"".contains(char) {
            ranges.push(at..next);
        }
        at = next;
    }
    ranges
}

/// Where `"key"` ends, if it starts at `at`.
fn after_quoted(text: &str, at: usize, key: &str) -> Option<usize> {
    let rest = text[at..].strip_prefix('"')?.strip_prefix(key)?;
    Some(text.len() - rest.strip_prefix('"')?.len())
}

/// Where `"key"` ends, with a simple value if there is one, if it starts at `at`.
fn after_pair(text: &str, at: usize, key: &str) -> Option<usize> {
    let after_key = after_quoted(text, at, key)?;
    let colon = skip(text, after_key, char::is_whitespace);
    if !text[colon..].starts_with(':') {
        return Some(after_key);
    }
    let value = skip(text, colon + 1, char::is_whitespace);
    let simple = |c: char| c.is_ascii_alphanumeric() || "._-:%".contains(c);
    let inside = skip(text, value, |c| c == '"');
    let end = skip(text, inside, simple);
    let closed = text[end..].starts_with(['"', ',', '}', '\n', '\r', ' ']);
    Some(if closed { end } else { value })
}

/// Where the run of characters that starts at `from` and fulfils `belongs` ends.
fn skip(text: &str, from: usize, belongs: impl Fn(char) -> bool) -> usize {
    text[from..]
        .find(|c| !belongs(c))
        .map_or(text.len(), |length| from + length)
}

/// Where the closing quote is of a string that starts before `from`.
fn end_of_string(text: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, char) in text[from..].char_indices() {
        match char {
            '"' if !escaped => return from + at,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::single_range_in_vec_init, reason = "one range is meant")]
    #[test]
    fn hidden_text_keeps_its_length_and_its_lines() {
        assert_eq!(hide("aé\nb", &[1..5]), "a**\n*");
        assert_eq!(hide("abc", &[0..1, 0..2]), "**c");
    }

    #[test]
    fn value_of_a_secret_word_is_hidden_in_any_notation() {
        for text in [
            r#""passkey" : "hunter2", "#,
            r#"// "Passkey": "hunter2""#,
            "password = hunter2",
            "\"passkey\":\n  \"hunter2",
            r#""passkey": "hun\"ter2""#,
            r#"# passkey = """hunter2""""#,
        ] {
            let shown = hide(text, &values_of_secret_words(text));
            assert!(!shown.contains("ter2"), "{shown}");
            assert_eq!(shown.len(), text.len());
        }
    }

    #[test]
    fn broken_text_shows_plain_pairs_alone() {
        let text =
            r#"{"ip_address": "10.0.0.1" "paskey": "hunter2", "passkey" "s3", "user": "a"b"}"#;
        let shown = hide(text, &all_but_plain_pairs(text, &["ip_address", "user"]));
        assert_eq!(
            shown,
            r#"{"ip_address": "10.0.0.1" "******": "*******", "passkey" "**", "user": "a"*"}"#
        );
    }
}
