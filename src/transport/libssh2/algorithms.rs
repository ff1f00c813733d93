//! What is offered in the key exchange.

use ssh2::MethodType;

use super::error::is_failed_exchange;
use crate::config::Host;
use crate::transport::known_hosts::KnownHosts;
use crate::transport::{ConnectOptions, TransportError};

/// Ciphers in the order of their speed through libssh2.
///
/// Processor time on this side for pushing 200 MB into `cat >/dev/null` over loopback, with AES and
/// SHA in hardware, as multiples of the fastest: aes128-gcm 1.0, aes128-ctr with hmac-sha2-256 1.12,
/// aes256-gcm 1.12, aes192-ctr 1.13, aes256-ctr 1.16, chacha20-poly1305 1.31.
const CIPHERS: [&str; 6] = [
    "aes128-gcm@openssh.com",
    "aes128-ctr",
    "aes256-gcm@openssh.com",
    "aes192-ctr",
    "aes256-ctr",
    "chacha20-poly1305@openssh.com",
];

/// Host key types that libssh2 can check, best first, each with the signature algorithms to offer
/// for it. Certificates are left out on purpose: libssh2 does not check who signed them.
const KEY_TYPES: [(&str, &[&str]); 5] = [
    ("ssh-ed25519", &["ssh-ed25519"]),
    ("ecdsa-sha2-nistp256", &["ecdsa-sha2-nistp256"]),
    ("ecdsa-sha2-nistp384", &["ecdsa-sha2-nistp384"]),
    ("ecdsa-sha2-nistp521", &["ecdsa-sha2-nistp521"]),
    ("ssh-rsa", &["rsa-sha2-512", "rsa-sha2-256"]),
];

/// What to do about a host with which there is no agreement.
const CURE: &str = "the server may be very old, or set up to accept next to nothing: update it, or let it \
                    accept one of these";

/// What is offered in the key exchange.
pub(super) struct Algorithms<'a> {
    /// Host key types, best first.
    host_keys: Vec<&'static str>,
    /// Ciphers, best first.
    ciphers: Vec<&'a str>,
    /// Whether the configuration names them.
    are_ciphers_configured: bool,
    /// Whether to compress after login.
    compress: bool,
}

impl<'a> Algorithms<'a> {
    /// What is offered to a host.
    pub(super) fn for_host(
        host: &Host,
        options: &'a ConnectOptions,
        known_hosts: &KnownHosts,
    ) -> Self {
        Self {
            host_keys: host_keys_for(&host.address, host.port, known_hosts),
            ciphers: match &options.ciphers {
                Some(ciphers) => ciphers.iter().map(String::as_str).collect(),
                None => CIPHERS.to_vec(),
            },
            are_ciphers_configured: options.ciphers.is_some(),
            compress: options.compress,
        }
    }

    /// Has a session offer this. Its handshake must not have begun.
    pub(super) fn set_for(&self, session: &ssh2::Session) -> Result<(), TransportError> {
        session.set_compress(self.compress);
        let ciphers = self.ciphers.join(",");
        for (method, names) in [
            (MethodType::HostKey, self.host_keys.join(",")),
            (MethodType::CryptCs, ciphers.clone()),
            (MethodType::CryptSc, ciphers),
        ] {
            session.method_pref(method, &names).map_err(|_| {
                TransportError::UnsupportedAlgorithms {
                    wanted: names,
                    supported: supported(session, method),
                }
            })?;
        }
        Ok(())
    }

    /// What no agreement was found on, if that is why a handshake failed. libssh2 agrees on one sort of
    /// algorithm after the other and stops at the first without any; what the host offers it does not
    /// say.
    pub(super) fn disagreement(
        &self,
        error: &ssh2::Error,
        session: &ssh2::Session,
    ) -> Option<TransportError> {
        let has = |method| session.methods(method).is_some();
        if !is_failed_exchange(error) {
            return None;
        }
        let (what, offered, cure) = if !has(MethodType::Kex) || !has(MethodType::HostKey) {
            let offered =
                [MethodType::Kex, MethodType::HostKey].map(|method| supported(session, method));
            ("key exchange or host key", offered.join(", "), CURE)
        } else if !has(MethodType::CryptCs) || !has(MethodType::CryptSc) {
            let cure = if self.are_ciphers_configured {
                "remove `ciphers` from the settings, or add one to it that the host accepts: `sshd -T` says \
                 there which it does"
            } else {
                CURE
            };
            ("cipher", self.ciphers.join(", "), cure)
        } else if !has(MethodType::MacCs) || !has(MethodType::MacSc) {
            (
                "message authentication",
                supported(session, MethodType::MacCs),
                CURE,
            )
        } else {
            return None;
        };
        Some(TransportError::NoCommonAlgorithm {
            what,
            offered,
            cure,
        })
    }
}

/// The names of all algorithms of one sort that libssh2 is built with.
fn supported(session: &ssh2::Session, method: MethodType) -> String {
    let names = session.supported_algs(method);
    names.map(|names| names.join(", ")).unwrap_or_default()
}

/// Signature algorithms to offer to a host: those of the key types that are known of it come first,
/// so that a server with several keys shows one that can be compared.
fn host_keys_for(address: &str, port: u16, known_hosts: &KnownHosts) -> Vec<&'static str> {
    let (known, others): (Vec<_>, Vec<_>) = KEY_TYPES
        .iter()
        .partition(|(key_type, _)| known_hosts.knows_key_type(address, port, key_type));
    known
        .into_iter()
        .chain(others)
        .flat_map(|(_, algorithms)| algorithms.iter().copied())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn known_key_types_are_asked_for_first_and_certificates_never() {
        let content = "web ssh-rsa AAAAB3NzaC1yc2EBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n@revoked web ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB\n";
        let hosts = KnownHosts::parse(Path::new("/k/known_hosts"), content.as_bytes());
        let algorithms = host_keys_for("web", 22, &hosts);
        assert_eq!(
            algorithms[..3],
            ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]
        );
        assert!(algorithms.iter().all(|name| !name.contains("cert")));
        assert_eq!(host_keys_for("db", 22, &hosts)[0], "ssh-ed25519");
    }

    #[test]
    fn ciphers_of_the_configuration_are_those_of_the_library() {
        let session = ssh2::Session::new().expect("a session");
        let mut built_in = session.supported_algs(MethodType::CryptCs).expect("a list");
        built_in.sort_unstable();
        let mut known = crate::config::CIPHERS;
        known.sort_unstable();
        assert_eq!(built_in, known);
    }
}
