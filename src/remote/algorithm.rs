//! The digests that hosts compute.

use crate::model::{ContentDigest, Sha256};

/// The hash that a host computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// It has `b3sum`.
    Blake3,
    /// It has one of the many tools for sha256.
    Sha256,
}

impl Algorithm {
    /// `blake3` or `sha256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Blake3 => "blake3",
            Self::Sha256 => "sha256",
        }
    }

    /// Reads hexadecimal digits as a digest of this algorithm.
    pub(super) fn digest(self, hex: &str) -> Option<ContentDigest> {
        match self {
            Self::Blake3 => hex.parse().ok().map(|d| ContentDigest {
                blake3: Some(d),
                sha256: None,
            }),
            Self::Sha256 => hex.parse::<Sha256>().ok().map(|d| ContentDigest {
                blake3: None,
                sha256: Some(d),
            }),
        }
    }

    /// The digest of this algorithm, hexadecimal, if it is known.
    pub fn hex(self, digest: &ContentDigest) -> Option<String> {
        match self {
            Self::Blake3 => digest.blake3.map(|digest| digest.to_string()),
            Self::Sha256 => digest.sha256.map(|digest| digest.to_string()),
        }
    }
}
