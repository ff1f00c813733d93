//! What a connection depends on, apart from the host.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;

/// Looks up the variables that `passkey_env` names.
pub type Variables = Arc<dyn Fn(&str) -> Option<SecretString> + Send + Sync>;

/// Everything a connection depends on, apart from the host.
#[derive(Clone)]
pub struct ConnectOptions {
    /// Longest wait for name, TCP connection and key exchange together.
    pub connect_timeout: Duration,
    /// Longest wait for the login.
    pub login_timeout: Duration,
    /// Longest time without a byte in either direction while a command runs.
    pub stall_timeout: Duration,
    /// The `known_hosts` file; it need not exist.
    pub known_hosts_path: PathBuf,
    /// Ciphers in order of preference; `None` for the built-in order.
    pub ciphers: Option<Vec<String>>,
    /// Whether to compress.
    pub compress: bool,
    /// The home folder, for `~/.ssh/id_*`.
    pub home: Option<PathBuf>,
    /// Where an SSH agent listens.
    pub agent_socket: Option<PathBuf>,
    /// Looks up the variables that `passkey_env` names.
    pub variables: Variables,
}

impl ConnectOptions {
    /// Options with the documented time-outs, no home folder, no agent and no variables.
    pub fn new(known_hosts_path: impl Into<PathBuf>) -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(20),
            stall_timeout: Duration::from_mins(1),
            known_hosts_path: known_hosts_path.into(),
            ciphers: None,
            compress: false,
            home: None,
            agent_socket: None,
            variables: Arc::new(|_| None),
        }
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("connect_timeout", &self.connect_timeout)
            .field("login_timeout", &self.login_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("known_hosts_path", &self.known_hosts_path)
            .field("ciphers", &self.ciphers)
            .field("compress", &self.compress)
            .field("home", &self.home)
            .field("agent_socket", &self.agent_socket)
            .finish_non_exhaustive()
    }
}
