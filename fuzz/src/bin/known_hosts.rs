//! Whatever stands in `known_hosts`.

#![cfg_attr(fuzzing, no_main)]

use std::path::Path;

use hostsync::transport::HostKey;
use hostsync::transport::known_hosts::{KnownHosts, Verdict};
use hostsync_fuzz::{is_harmless, target};

/// The key of a host, as it travels over the wire.
const BLOB: &[u8] = b"\0\0\0\x0bssh-ed25519\0\0\0\x20aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn known_hosts(bytes: &[u8]) {
    let known = KnownHosts::parse(Path::new("/k/known_hosts"), bytes);
    let key = HostKey::from_blob(BLOB).expect("a key");
    for (address, port) in [("web", 22), ("10.1.2.3", 2222), ("::1", 22), ("", 0)] {
        match known.check(address, port, &key) {
            Verdict::Changed { known: place } | Verdict::Revoked { known: place } => {
                is_harmless(&place);
            }
            Verdict::Match => assert!(known.knows_key_type(address, port, "ssh-ed25519")),
            Verdict::Unknown => {}
        }
    }
}

target!(known_hosts);
