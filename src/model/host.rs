//! How a host is named.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The name a host is known by: its `name`, else its `ip_address`.
///
/// Unique within a configuration. It also names the host's mapper file and its file in the state.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HostId(String);

impl HostId {
    /// Wraps a name that the configuration has already checked.
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    /// The name as written in the configuration.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name as one path component: bytes other than `A-Z a-z 0-9 . _ -` become `%XX`, and so
    /// does a leading dot. Distinct names stay distinct.
    pub fn as_file_name(&self) -> String {
        use fmt::Write as _;
        let mut out = String::with_capacity(self.0.len());
        for (index, byte) in self.0.bytes().enumerate() {
            let plain = byte.is_ascii_alphanumeric()
                || byte == b'_'
                || byte == b'-'
                || (byte == b'.' && index > 0);
            if plain {
                out.push(char::from(byte));
            } else {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    }
}

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_name_escapes_what_a_path_or_a_shell_would_read_differently() {
        assert_eq!(HostId::new("10.0.0.1").as_file_name(), "10.0.0.1");
        assert_eq!(
            HostId::new("fe80::1%eth0").as_file_name(),
            "fe80%3A%3A1%25eth0"
        );
        assert_eq!(HostId::new("../x").as_file_name(), "%2E.%2Fx");
    }
}
