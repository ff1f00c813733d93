//! What can go wrong between here and a host.

use std::io;
use std::time::Duration;

use miette::Diagnostic;
use thiserror::Error;

use crate::model::HostError;

/// The reason for which the caller of [`super::Session::exec`] gave up.
#[derive(Debug, Error)]
#[error(transparent)]
pub struct Aborted(pub Box<dyn std::error::Error + Send + Sync>);

/// Connecting to a host or running a command there did not work. None of the texts holds a secret.
#[derive(Debug, Error, Diagnostic)]
pub enum TransportError {
    /// The name does not resolve.
    #[error("cannot resolve `{address}`: {reason}")]
    #[diagnostic(
        code(hostsync::transport::unknown_address),
        help("check `ip_address` of this host")
    )]
    UnknownAddress {
        /// Name or address, as configured.
        address: String,
        /// What the resolver said.
        reason: String,
    },
    /// No TCP connection, or no SSH server behind it.
    #[error("cannot connect to {address}:{port}: {reason}")]
    #[diagnostic(
        code(hostsync::transport::unreachable),
        help("is the host up, is sshd listening on that port, does a firewall let you through?")
    )]
    Unreachable {
        /// Name or address, as configured.
        address: String,
        /// TCP port.
        port: u16,
        /// What failed.
        reason: String,
    },
    /// Something took too long.
    #[error("{what} took longer than {}", humantime::format_duration(*.limit))]
    #[diagnostic(
        code(hostsync::transport::timeout),
        help("`{setting}` in the configuration sets the limit")
    )]
    Timeout {
        /// What was waited for.
        what: String,
        /// How long.
        limit: Duration,
        /// The setting that says so.
        setting: &'static str,
    },
    /// A command gave signs of life for longer than its work can take.
    #[error("the host has been at one task for {} and does not come to its end", humantime::format_duration(*.limit))]
    #[diagnostic(
        code(hostsync::transport::overdue),
        help(
            "no host takes that long for so much work; `ps` on the host shows what holds it up: a disk that \
             hangs, for instance, or a forced command of sshd that only keeps the connection busy"
        )
    )]
    Overdue {
        /// How long it was given.
        limit: Duration,
    },
    /// The host's key is not in `known_hosts`.
    #[error("the {key_type} host key {fingerprint} is not known")]
    #[diagnostic(
        code(hostsync::transport::unknown_host_key),
        help(
            "run `hostsync trust {host}`, and compare with what `ssh-keygen -lf \
             /etc/ssh/ssh_host_ed25519_key.pub` says on the host"
        )
    )]
    UnknownHostKey {
        /// The host's name.
        host: String,
        /// `ssh-ed25519`, for instance.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
    },
    /// The host's key is another one than in `known_hosts`.
    #[error("the host key has changed: it is {fingerprint} ({key_type}), but {known}")]
    #[diagnostic(
        code(hostsync::transport::host_key_changed),
        help(
            "somebody may be listening in, or the host was set up anew; if you are sure that it \
             was, remove the old line from known_hosts and run `hostsync trust {host}`"
        )
    )]
    HostKeyChanged {
        /// The host's name.
        host: String,
        /// `ssh-ed25519`, for instance.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// Where `known_hosts` says otherwise: path and line.
        known: String,
    },
    /// `known_hosts` says that this key must never be accepted.
    #[error("the {key_type} host key {fingerprint} is revoked: {known}")]
    #[diagnostic(
        code(hostsync::transport::host_key_revoked),
        help("whoever answers for {host} has a key that was withdrawn: do not log in there")
    )]
    HostKeyRevoked {
        /// The host's name.
        host: String,
        /// `ssh-ed25519`, for instance.
        key_type: String,
        /// `SHA256:…`.
        fingerprint: String,
        /// Where `known_hosts` says so: path and line.
        known: String,
    },
    /// None of the wanted algorithms is built in.
    #[error("no cipher of `{wanted}` is supported")]
    #[diagnostic(
        code(hostsync::transport::unsupported_algorithms),
        help("`ciphers` may name any of {supported}")
    )]
    UnsupportedAlgorithms {
        /// What was asked for.
        wanted: String,
        /// What there is.
        supported: String,
    },
    /// The host has none of the algorithms that we offer.
    #[error("the host accepts no {what} that is offered to it ({offered})")]
    #[diagnostic(code(hostsync::transport::no_common_algorithm), help("{cure}"))]
    NoCommonAlgorithm {
        /// What sort of algorithm: `cipher`, for instance.
        what: &'static str,
        /// The names of what we offer, best first.
        offered: String,
        /// What to do about it.
        cure: &'static str,
    },
    /// The `known_hosts` file cannot be read or written.
    #[error("cannot use known_hosts file {path}: {reason}")]
    #[diagnostic(
        code(hostsync::transport::known_hosts),
        help("`known_hosts_path` names the file")
    )]
    KnownHosts {
        /// The file.
        path: String,
        /// What failed.
        reason: String,
    },
    /// Nobody let us in.
    #[error("login as `{user}` refused ({tried})")]
    #[diagnostic(code(hostsync::transport::login_refused), help("{cure}"))]
    LoginRefused {
        /// The login name.
        user: String,
        /// What was tried, without secrets.
        tried: String,
        /// What to do about it.
        cure: String,
    },
    /// A credential could not be used at all.
    #[error("{what}")]
    #[diagnostic(code(hostsync::transport::credential), help("{cure}"))]
    Credential {
        /// What is wrong, without secrets.
        what: String,
        /// What to do about it.
        cure: String,
    },
    /// The connection broke.
    #[error("the connection broke {during}: {reason}")]
    #[diagnostic(code(hostsync::transport::broken), help("run the same command again"))]
    Broken {
        /// What was going on: `while sending`, for instance.
        during: String,
        /// What the socket or the SSH implementation said.
        reason: String,
    },
    /// The other end of [`super::ExecIo`] gave up.
    #[error(transparent)]
    #[diagnostic(code(hostsync::transport::aborted))]
    Aborted(#[from] Aborted),
}

impl TransportError {
    /// Whether another attempt may succeed although nobody has changed anything.
    pub fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. } | Self::Timeout { .. } | Self::Unreachable { .. }
        )
    }
}

impl From<&TransportError> for HostError {
    fn from(error: &TransportError) -> Self {
        Self::of(error, error.may_pass())
    }
}

/// What the system says, without `(os error 111)`.
pub(crate) fn plain_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error ") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_plain_words() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(plain_reason(&error), "connection refused");
    }
}
