//! Permission bits, and how documents spell them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use thiserror::Error;

/// Permission bits, the low twelve of `st_mode` (so setuid, setgid and sticky are included).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u32);

impl Mode {
    /// Keeps the permission bits of `bits` and drops the file type.
    pub fn new(bits: u32) -> Self {
        Self(bits & 0o7777)
    }

    /// The bits, at most `0o7777`.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// Whether anyone may execute the file.
    pub fn is_executable(self) -> bool {
        self.0 & 0o111 != 0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

/// A text that is no [`Mode`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("`{0}` is not a mode such as `0644`")]
pub struct ParseModeError(String);

/// Reads four octal digits.
impl FromStr for Mode {
    type Err = ParseModeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_plain = text.len() == 4 && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
        let bits = u32::from_str_radix(text, 8).ok().filter(|_| is_plain);
        bits.map(Self::new)
            .ok_or_else(|| ParseModeError(text.to_owned()))
    }
}

/// Documents hold it as people know it: `0644`.
impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}
