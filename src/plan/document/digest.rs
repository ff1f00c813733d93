//! The digest that guards a document against edits.

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::model::Blake3;

/// The digest of a document: of its keys in byte order and their values, but for `digest` itself and
/// `created_at`. White space between values does not count, so that it survives a formatter. The
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

/// Feeds JSON to a hasher without the white space between its values.
fn hash_compact(json: &[u8], hasher: &mut blake3::Hasher) {
    let mut compact = Vec::with_capacity(json.len());
    let (mut in_text, mut is_escaped) = (false, false);
    for &byte in json {
        if in_text || !byte.is_ascii_whitespace() {
            compact.push(byte);
        }
        if byte == b'"' && !is_escaped {
            in_text = !in_text;
        }
        is_escaped = in_text && byte == b'\\' && !is_escaped;
    }
    hasher.update(&compact);
}
