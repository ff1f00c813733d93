//! Bytes in a document: text, and base64 beside it where text alone would lose some.

use std::borrow::Cow;

use base64::DecodeError;
use base64::prelude::{BASE64_STANDARD, Engine as _};

/// Text for people, and the exact bytes in base64 where they are not UTF-8.
pub(crate) fn text_and_base64(bytes: &[u8]) -> (Cow<'_, str>, Option<String>) {
    match String::from_utf8_lossy(bytes) {
        exact @ Cow::Borrowed(_) => (exact, None),
        lossy => (lossy, Some(BASE64_STANDARD.encode(bytes))),
    }
}

/// The bytes that [`text_and_base64`] was given.
///
/// # Errors
/// When what is to be base64 is none.
pub(crate) fn exact_bytes(text: &str, base64: Option<&str>) -> Result<Vec<u8>, DecodeError> {
    match base64 {
        None => Ok(text.as_bytes().to_vec()),
        Some(base64) => BASE64_STANDARD.decode(base64),
    }
}
