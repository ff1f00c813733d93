//! Hiding what may be a secret in the texts that errors show.
//!
//! Nobody knows what stands in a wrong place: a passkey may be a key, a line of its own or a part of an
//! address. So nothing is shown but what is known to be harmless, and everything here may hide too much
//! and must never hide too little. Hidden characters become `*` of the same length in bytes, so that
//! labels stay where they are; line breaks stay too.

use std::ops::Range;

use super::error::closest;
use super::keys;
use super::types::CIPHERS;
use super::values::address_error;

/// What a value can be, apart from numbers and free text.
const VALUES: [&str; 14] = [
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "null",
    "all",
    "executable",
    "mirror",
    "preserve",
    "follow",
    "skip",
    keys::SECTION,
];

/// What may follow a number.
const UNITS: [&str; 12] = [
    "", "%", "ms", "s", "m", "h", "d", "B", "kB", "MB", "KiB", "MiB",
];

/// A longer number may be a passkey.
const LONGEST_NUMBER: usize = 7;

/// What is shown wherever it stands, beside spaces.
const PUNCTUATION: [char; 9] = ['{', '}', '[', ']', ',', ':', '=', '\n', '\r'];

/// A text of any form of configuration, sound or broken, without what may be a secret. Shown are words
/// that are known or nearly so, and the values of known keys that look like what the key takes.
pub(super) fn masked(text: &str) -> String {
    let mut hidden = values_of_secret_words(text);
    // Behind three quotes any line may be a part of a text.
    let end = ["\"\"\"", "'''"]
        .iter()
        .filter_map(|quotes| text.find(quotes));
    let end = end.min().unwrap_or(text.len());
    hidden.push(end..text.len());
    let mut at = 0;
    // Whether what comes next begins a pair, an element or a line.
    let mut is_first = true;
    while let Some(char) = text[at..end].chars().next() {
        if char.is_whitespace() || PUNCTUATION.contains(&char) {
            is_first = matches!(char, '{' | ',' | '\n' | '\r')
                || is_first && (char == '[' || char.is_whitespace());
            at += char.len_utf8();
            continue;
        }
        let is_quoted = is_quote(char);
        let (word, after) = if is_quoted {
            quoted(&text[..end], at)
        } else {
            let is_part = |c: char| !(c.is_whitespace() || PUNCTUATION.contains(&c) || is_quote(c));
            let after = skip(&text[..end], at, is_part);
            (at..after, after)
        };
        let next = skip(&text[..end], after, is_blank);
        let is_key = is_first && text[next..end].starts_with([':', '=']);
        let is_last =
            text[next..end].is_empty() || text[next..end].starts_with([',', ']', '}', '\n', '\r']);
        let may_be_shown = is_key || is_quoted || is_first && is_last;
        is_first = false;
        at = after;
        if is_key {
            let (value, after_value) = value(&text[..end], skip(&text[..end], next + 1, is_blank));
            if !is_plain(&text[word.clone()], &text[value.clone()]) {
                hidden.push(value);
            }
            at = after_value;
        }
        if !(may_be_shown && is_known(&text[word.clone()])) {
            hidden.push(word);
        }
    }
    hide(text, &hidden)
}

/// `word` in quotes behind a space, if it may be shown: for messages such as "unknown key `prot`".
pub(super) fn named(word: &str) -> String {
    if is_known(word) {
        format!(" `{word}`")
    } else {
        " (hidden, as it may be a secret)".to_owned()
    }
}

/// Whether this is a word of a configuration, or one with a slip of the finger in it.
fn is_known(word: &str) -> bool {
    let others = [&keys::TABLES[..], &VALUES, &CIPHERS];
    let known = keys::all().chain(others.into_iter().flatten().copied());
    let near = known.filter(|known| known.len().abs_diff(word.len()) <= 2);
    closest(word, near).is_some()
}

/// Whether this may be shown as the value of `key`: since that key takes it, or since it is harmless.
fn is_plain(key: &str, value: &str) -> bool {
    let key = key.to_lowercase();
    if !keys::all().any(|known| known == key) {
        return false;
    }
    let is_free = match &*key {
        "ip_address" => address_error(value).is_none(),
        "user" | "name" | "identity_file" | "src" | "dest" => !value.contains(':'),
        key => key.ends_with("_path") && !value.contains(':'),
    };
    let is_simple = |c: char| c.is_alphanumeric() || "._-:%/~*".contains(c);
    is_number(value) || is_free && value.chars().all(is_simple) || are_known(value)
}

/// Whether all words of a list are known.
fn are_known(list: &str) -> bool {
    list.split(',').all(|word| is_known(word.trim()))
}

fn is_number(value: &str) -> bool {
    let unit = value.trim_start_matches(|c: char| c.is_ascii_digit() || "+-.".contains(c));
    value.len() - unit.len() <= LONGEST_NUMBER && UNITS.contains(&unit.trim_start())
}

/// The value that starts at `at`, and where it ends: what is in quotes, or the rest of the line up to
/// what ends a value in any form. Nothing where a list or an object begins.
fn value(text: &str, at: usize) -> (Range<usize>, usize) {
    if text[at..].starts_with(is_quote) {
        return quoted(text, at);
    }
    let ends = |c: char| "{}[],#\n\r".contains(c) || is_quote(c);
    let after = skip(text, at, |c| !ends(c));
    (at..at + text[at..after].trim_end().len(), after)
}

/// What is in the quotes that begin at `at`, and where they end: with the line at the latest.
fn quoted(text: &str, at: usize) -> (Range<usize>, usize) {
    let line = skip(text, at, |c| c != '\n' && c != '\r');
    let quote = if text[at..].starts_with('"') {
        '"'
    } else {
        '\''
    };
    let close = end_of_string(&text[..line], at + 1, quote);
    (at + 1..close, line.min(close + 1))
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

/// Whether this is a space within a line.
fn is_blank(c: char) -> bool {
    c.is_whitespace() && c != '\n' && c != '\r'
}
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
                value + 1..end_of_string(text, value + 1, '"')
            } else {
                value..skip(text, value, |c| c != '\n')
            });
        }
    }
    ranges
}

/// Where the run of characters that starts at `from` and fulfils `belongs` ends.
fn skip(text: &str, from: usize, belongs: impl Fn(char) -> bool) -> usize {
    text[from..]
        .find(|c| !belongs(c))
        .map_or(text.len(), |length| from + length)
}

/// Where the closing quote is of a string that starts before `from`.
fn end_of_string(text: &str, from: usize, quote: char) -> usize {
    let mut escaped = false;
    for (at, char) in text[from..].char_indices() {
        match char {
            _ if char == quote && !escaped => return from + at,
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
    fn only_known_words_and_values_that_their_key_takes_are_shown() {
        for (text, shown) in [
            (
                r#"{"ip_address": "10.0.0.1" "paskey": "hunter2", "passkey" "s3", "user": "a"b"}"#,
                r#"{"ip_address": "10.0.0.1" "paskey": "*******", "passkey" "**", "user": "a"*"*"#,
            ),
            (
                r#"[{"hunter2": "passkey", "name": "db", "port": 70000, "groups": ["db"]}]"#,
                r#"[{"*******": "*******", "name": "db", "port": 70000, "groups": ["**"]}]"#,
            ),
            (
                r#"{"ip_address": "u:hunter2", "port": "hunter2", "exact": "miror"} // hunter2"#,
                r#"{"ip_address": "*********", "port": "*******", "exact": "miror"} ** *******"#,
            ),
            (
                "[DEFAULT]\nhunter2\nautosync\nLOG_path: a/b\nport user:hunter2\nsecret = all",
                "[DEFAULT]\n*******\nautosync\nLOG_path: a/b\n**** ****:*******\n****** = ***",
            ),
            (
                "passkey = all, user = hunter2\n\"passkey_env\": [\"all\", \"user\"]",
                "passkey = *******************\n\"passkey_env\": ***************",
            ),
            (
                "[[host]] # hunter2\n[hunter2]\nhost = [{ user = 'u', prot = 'on' }]\nuser = 'u\n",
                "[[host]] * *******\n[*******]\nhost = [{ user = 'u', prot = '**' }]\nuser = 'u\n",
            ),
            (
                "ciphers = aes256-ctr, aes512-ctr\nbackups = 12345678\nuser = \"\"\"\nuser = u",
                "ciphers = aes256-ctr, aes512-ctr\nbackups = ********\nuser = ***\n********",
            ),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
