//! Digests, each of which names its algorithm in its type.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Whether readers compare digests: not while fuzzing, where no change of bytes finds the right one and
/// the code behind the comparison is to be reached.
pub(crate) const CHECKS_DIGESTS: bool = !cfg!(fuzzing);

/// Text that is not 64 hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is 64 hexadecimal digits, not `{text}`")]
pub struct ParseDigestError {
    /// What was found instead.
    pub text: String,
}

macro_rules! digest_type {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 bytes of a finished digest.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Digits first, then one write: manifests hold very many digests.
                const DIGITS: &[u8; 16] = b"0123456789abcdef";
                let mut text = String::with_capacity(64);
                for byte in self.0 {
                    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
                    text.push(char::from(DIGITS[usize::from(byte & 15)]));
                }
                f.write_str(&text)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseDigestError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                let refuse = || ParseDigestError { text: text.chars().take(80).collect() };
                if text.len() != 64 {
                    return Err(refuse());
                }
                let mut bytes = [0; 32];
                for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                    let (high, low) = digit(pair[0]).zip(digit(pair[1])).ok_or_else(refuse)?;
                    *byte = u8::try_from(high * 16 + low).map_err(|_| refuse())?;
                }
                Ok(Self(bytes))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

digest_type! {
    /// A blake3 digest: how content is named here.
    Blake3
}

digest_type! {
    /// A sha256 digest: what nearly every host can compute.
    Sha256
}

impl Blake3 {
    /// The digest of bytes in memory.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

/// What is known about the content of a file: one digest, both, or (unreadable) none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ContentDigest {
    /// The blake3 digest, where it is known.
    pub blake3: Option<Blake3>,
    /// The sha256 digest, where it is known.
    pub sha256: Option<Sha256>,
}

impl ContentDigest {
    /// Whether both name the same content; `None` when they share no algorithm.
    pub fn agrees_with(&self, other: &Self) -> Option<bool> {
        match (self.blake3, other.blake3, self.sha256, other.sha256) {
            (Some(a), Some(b), _, _) => Some(a == b),
            (_, _, Some(a), Some(b)) => Some(a == b),
            _ => None,
        }
    }

    /// Both sides' knowledge of what was found to be the same content.
    #[must_use]
    pub fn merged_with(&self, other: &Self) -> Self {
        Self {
            blake3: self.blake3.or(other.blake3),
            sha256: self.sha256.or(other.sha256),
        }
    }

    /// Whether nothing is known.
    pub fn is_unknown(&self) -> bool {
        self.blake3.is_none() && self.sha256.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_survive_text() {
        let digest = Blake3::of(b"x");
        assert_eq!(digest.to_string().parse(), Ok(digest));
        assert!("xyz".parse::<Sha256>().is_err());
        assert!("é".repeat(32).parse::<Sha256>().is_err());
    }

    #[test]
    fn digests_of_different_algorithms_decide_nothing() {
        let blake3 = ContentDigest {
            blake3: Some(Blake3::of(b"x")),
            sha256: None,
        };
        let sha256 = ContentDigest {
            blake3: None,
            sha256: Some(Sha256::from_bytes([0; 32])),
        };
        assert_eq!(blake3.agrees_with(&sha256), None);
        assert_eq!(blake3.agrees_with(&blake3.merged_with(&sha256)), Some(true));
    }
}
