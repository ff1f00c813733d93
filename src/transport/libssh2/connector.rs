//! Logins over libssh2.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use ssh2::MethodType;

use super::algorithms::Algorithms;
use super::auth;
use super::connection::Connection;
use super::session::Libssh2Session;
use crate::config::Host;
use crate::transport::deadline::Deadline;
use crate::transport::known_hosts::{self, KnownHosts};
use crate::transport::{ConnectOptions, Connector, HostKey, KeyProbe, Session, TransportError};

/// A `known_hosts` file as it was when it was last read.
type CachedKnownHosts = Option<(Option<(SystemTime, u64)>, Arc<KnownHosts>)>;

/// Logs in to hosts over libssh2.
#[derive(Debug)]
pub struct Libssh2Connector {
    options: ConnectOptions,
    known_hosts: Mutex<CachedKnownHosts>,
}

impl Libssh2Connector {
    /// A connector with these options. Touches nothing yet.
    pub fn new(options: ConnectOptions) -> Self {
        Self {
            options,
            known_hosts: Mutex::new(None),
        }
    }

    /// A connection after the key exchange, and the key that the host proved to have.
    fn open(&self, host: &Host) -> Result<(Connection, HostKey), TransportError> {
        let deadline = Deadline::after(self.options.connect_timeout, "connect_timeout");
        let known_hosts = self.known_hosts()?;
        let algorithms = Algorithms::for_host(host, &self.options, &known_hosts);
        let connection = Connection::open(&host.address, host.port, &deadline, &algorithms)?;
        let key = connection
            .wire()
            .session
            .host_key()
            .and_then(|(blob, _)| HostKey::from_blob(blob))
            .ok_or_else(|| TransportError::Unreachable {
                address: host.address.clone(),
                port: host.port,
                reason: "the server showed no host key".to_owned(),
            })?;
        Ok((connection, key))
    }

    /// A connection on which we are logged in.
    fn log_in(&self, host: &Host, may_open_ahead: bool) -> Result<Connection, TransportError> {
        let (connection, key) = self.open(host)?;
        let verdict = self.known_hosts()?.check(&host.address, host.port, &key);
        known_hosts::refuse_unless_usable(verdict, host, &key, false)?;
        if may_open_ahead {
            connection.wire().allow_opening_ahead();
        }
        let deadline = Deadline::after(self.options.login_timeout, "login_timeout");
        let watchdog = &connection.wire().watchdog;
        watchdog.watch(deadline.remaining());
        auth::login(connection.wire(), host, &self.options, &deadline)?;
        watchdog.rest();
        let cipher = connection.wire().session.methods(MethodType::CryptCs);
        tracing::debug!(cipher = cipher.unwrap_or_default(), "logged in");
        Ok(connection)
    }

    /// The `known_hosts` file, read again whenever it has changed.
    fn known_hosts(&self) -> Result<Arc<KnownHosts>, TransportError> {
        let path = &self.options.known_hosts_path;
        let stamp = std::fs::metadata(path)
            .and_then(|meta| Ok((meta.modified()?, meta.len())))
            .ok();
        let mut cached = self
            .known_hosts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match &*cached {
            Some((read_at, known)) if *read_at == stamp => Ok(Arc::clone(known)),
            _ => {
                let known = Arc::new(KnownHosts::load(path)?);
                *cached = Some((stamp, Arc::clone(&known)));
                Ok(known)
            }
        }
    }
}

impl Connector for Libssh2Connector {
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError> {
        // A password may be the second of two things that the host wants to see.
        let may_open_ahead = !self.options.compress && host.auth.passkey.is_none();
        let mut connection = self.log_in(host, may_open_ahead)?;
        if connection.wire().has_lost_channel() {
            // One key was good, but another was wanted as well.
            connection = self.log_in(host, false)?;
        }
        Ok(Box::new(Libssh2Session::new(
            connection,
            self.options.stall_timeout,
        )))
    }
}

impl KeyProbe for Libssh2Connector {
    fn fetch_host_key(&self, host: &Host) -> Result<HostKey, TransportError> {
        self.open(host).map(|(_, key)| key)
    }
}
