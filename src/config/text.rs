//! From the bytes of a file to its text.

use std::io;
use std::path::Path;

use super::document::Document;
use super::error::{Issue, IssueCode};
use super::span::Span;

/// What reads the bytes of a file.
pub type ReadFile<'a> = &'a dyn Fn(&Path) -> io::Result<Vec<u8>>;

/// Text that is not UTF-8.
pub(super) struct EncodingError {
    /// The text with replacement characters.
    pub(super) lossy: String,
    /// Where the first of them is.
    at: usize,
}

impl EncodingError {
    pub(super) fn issue(&self, document: &Document) -> Issue {
        let span = Span {
            start: self.at,
            end: self.at + 1,
        };
        document
            .issue(IssueCode::Encoding, "the file is not UTF-8")
            .label(span, "this byte cannot be read")
            .help("save the file as UTF-8")
    }
}

/// The text of a file, without a byte order mark.
pub(super) fn decode(mut bytes: Vec<u8>) -> Result<String, EncodingError> {
    if bytes.starts_with("\u{feff}".as_bytes()) {
        bytes.drain(.."\u{feff}".len());
    }
    String::from_utf8(bytes).map_err(|error| EncodingError {
        at: error.utf8_error().valid_up_to(),
        lossy: String::from_utf8_lossy(error.as_bytes()).into_owned(),
    })
}
