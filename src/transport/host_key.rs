//! The keys that hosts show.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha2::{Digest as _, Sha256};

use super::TransportError;
use crate::config::Host;

/// Looks up the keys of hosts.
pub trait KeyProbe: Sync {
    /// Asks a host for its key, without comparing it with anything and without logging in.
    ///
    /// # Errors
    /// When there is no connection or no key exchange within the connect time-out.
    fn fetch_host_key(&self, host: &Host) -> Result<HostKey, TransportError>;
}

/// The public key of a host.
#[derive(Clone, PartialEq, Eq)]
pub struct HostKey {
    key_type: String,
    blob: Vec<u8>,
}

impl HostKey {
    /// Wraps a key as it travels over the wire; `None` when it does not begin with its type.
    pub fn from_blob(blob: &[u8]) -> Option<Self> {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let key_type = std::str::from_utf8(rest.get(..length)?).ok()?;
        let is_plain = !key_type.is_empty() && key_type.bytes().all(|byte| byte.is_ascii_graphic());
        is_plain.then(|| Self {
            key_type: key_type.to_owned(),
            blob: blob.to_vec(),
        })
    }

    /// `ssh-ed25519`, for instance.
    pub fn key_type(&self) -> &str {
        &self.key_type
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fn fingerprint(&self) -> String {
        format!(
            "SHA256:{}",
            STANDARD_NO_PAD.encode(Sha256::digest(&self.blob))
        )
    }

    /// Type and key as they stand in `known_hosts`, after the names.
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.key_type, STANDARD.encode(&self.blob))
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostKey({} {})", self.key_type, self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprint_is_what_ssh_keygen_prints() {
        let blob = STANDARD
            .decode("AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl")
            .expect("base64");
        let key = HostKey::from_blob(&blob).expect("a key");
        assert_eq!(
            key.fingerprint(),
            "SHA256:+DiY3wvvV6TuJJhbpZisF/zLDA0zPMSvHdkr4UvCOqU"
        );
    }
}
