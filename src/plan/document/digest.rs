//! The digest that guards a document against edits.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::Blake3;

/// The digest of a document: of its keys in byte order and their values, but for `digest` itself and
/// `created_at`. White space between values and the way in which a character is written do not count, so
/// that it survives a formatter. The
/// order of the keys within a value does: to sort those of a million changes would take much room.
pub(super) fn digest_of_document(json: &[u8]) -> serde_json::Result<Blake3> {
    let members: BTreeMap<String, &RawValue> = serde_json::from_slice(json)?;
    let mut hasher = blake3::Hasher::new();
    for (key, value) in &members {
        if key != "digest" && key != "created_at" {
            hasher.update(key.as_bytes());
            hasher.update(b":");
            hash_compact(value.get().as_bytes(), &mut hasher);
            hasher.update(b"\n");
        }
    }
    Ok(Blake3::from_bytes(*hasher.finalize().as_bytes()))
}

/// Feeds JSON to a hasher without the white space between its values, and with characters that need no
/// escape as they are: they may be escaped so that they are seen.
fn hash_compact(json: &[u8], hasher: &mut blake3::Hasher) {
    let mut compact = Vec::with_capacity(json.len());
    let mut in_text = false;
    let mut rest = json;
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte == b'\\' && in_text {
            if let Some((char, after)) = escaped_char(after) {
                compact.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
            } else {
                compact.push(byte);
                if let Some((&escaped, after)) = after.split_first() {
                    compact.push(escaped);
                    rest = after;
                }
            }
            continue;
        }
        if in_text || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        if byte == b'"' {
            in_text = !in_text;
        }
    }
    hasher.update(&compact);
}

/// The character that an escape stands for, given what comes behind its backslash; `None` for one that
/// JSON escapes in any case.
fn escaped_char(text: &[u8]) -> Option<(char, &[u8])> {
    let (first, after) = escaped_unit(text)?;
    let low = after.strip_prefix(b"\\").and_then(escaped_unit);
    let (units, after) = match (first, low) {
        (0xd800..0xdc00, Some((low, after))) => (vec![first, low], after),
        _ => (vec![first], after),
    };
    let char = char::decode_utf16(units).next()?.ok()?;
    (char >= '\u{7f}').then_some((char, after))
}

/// The unit of `u202e`, and what comes behind it.
fn escaped_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, after) = text.strip_prefix(b"u")?.split_at_checked(4)?;
    let digits = std::str::from_utf8(digits).ok()?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unit = is_hex.then(|| u16::from_str_radix(digits, 16).ok())??;
    Some((unit, after))
}
