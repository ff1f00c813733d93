//! Whatever an SSH server says of itself: its greeting, and the key that it shows.

#![cfg_attr(fuzzing, no_main)]

use hostsync::transport::HostKey;
use hostsync::transport::greeting::takes_requests_ahead;
use hostsync_fuzz::{is_harmless, target};

fn greeting(bytes: &[u8]) {
    if let Ok(banner) = std::str::from_utf8(bytes)
        && takes_requests_ahead(banner)
    {
        assert!(banner.starts_with("SSH-2.0-OpenSSH_"));
    }
    if let Some(key) = HostKey::from_blob(bytes) {
        is_harmless(key.key_type());
        is_harmless(&key.to_openssh());
        assert!(key.fingerprint().starts_with("SHA256:"));
    }
}

target!(greeting);
