//! Names, numbers and sizes in words for people.

use std::fmt::Write as _;
use std::time::Duration;

use crate::model::{is_treacherous, printable};

/// A name as it may be printed. Control characters, characters that reorder or hide others, bytes
/// that are not UTF-8, backslashes and a space at the end are escaped: a name forges neither lines nor
/// terminal codes, and different names look different.
pub fn escape(name: &[u8]) -> String {
    let mut out = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '\\' || is_treacherous(c) {
                out.extend(c.escape_default());
            } else {
                out.push(c);
            }
        }
        for byte in chunk.invalid() {
            // Writing to a String cannot fail.
            let _ = write!(out, "\\x{byte:02x}");
        }
    }
    if out.ends_with(' ') {
        out.pop();
        out.push_str("\\u{20}");
    }
    out
}

/// Text of other programs on one line, as [`escape`] has it but with backslashes as they are.
pub fn escape_text(text: &str) -> String {
    printable(text)
}

/// `4.2 KiB`; bytes have no decimals.
pub fn size(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let options = humansize::FormatSizeOptions::from(humansize::BINARY).decimal_places(1);
    let options = options.decimal_zeroes(1);
    humansize::format_size(bytes, options)
}

/// `1 host`, `5 hosts`. `plural` is written out, since not all take an `s`.
pub fn count(number: usize, singular: &str, plural: &str) -> String {
    format!("{number} {}", if number == 1 { singular } else { plural })
}

/// `0.4 s`, `41.0 s`, `2 min 5 s`, `1 h 2 min`.
pub fn duration(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0..60 => format!("{:.1} s", elapsed.as_secs_f64()),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaped_names_are_one_harmless_line() {
        assert_eq!(
            escape(b"a\nb\x1b[31m\t\xff\\"),
            "a\\nb\\u{1b}[31m\\t\\xff\\\\"
        );
        assert_eq!(
            escape("x\u{202e}fdp\u{9b}".as_bytes()),
            "x\\u{202e}fdp\\u{9b}"
        );
        assert_eq!(escape("größe 日本.txt".as_bytes()), "größe 日本.txt");
        assert_eq!(escape(b"a b "), "a b\\u{20}");
        assert_eq!(escape_text("a\\b\nc"), "a\\b\\nc");
    }

    #[test]
    fn different_names_look_different() {
        assert_ne!(escape(b"\n"), escape(b"\\n"));
        assert_ne!(escape(b"\xff"), escape(b"\\xff"));
    }

    #[test]
    fn sizes_have_one_decimal_from_a_kibibyte_on() {
        assert_eq!(size(0), "0 B");
        assert_eq!(size(1023), "1023 B");
        assert_eq!(size(4300), "4.2 KiB");
        assert_eq!(size(1 << 30), "1.0 GiB");
    }

    #[test]
    fn durations_keep_two_units() {
        assert_eq!(duration(Duration::from_millis(2140)), "2.1 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(duration(Duration::from_secs(3725)), "1 h 2 min");
    }
}
