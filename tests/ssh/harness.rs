//! Small things that the tests share.

use std::fs;

use std::path::PathBuf;
use std::time::Duration;

use hostsync::config::Host as ConfigHost;
use hostsync::transport::libssh2::Libssh2Connector;
use hostsync::transport::{
    Aborted, ConnectOptions, Connector as _, ExecIo, ExecOutcome, Flow, Input, Session,
    TransportError,
};

use hostsync_testkit::Host;

/// Options under which `host` is known; limits are short, since nothing here is far away.
pub(crate) fn options_for(host: &Host) -> ConnectOptions {
    let path = known_hosts(host, &host.known_hosts_line());
    ConnectOptions {
        stall_timeout: Duration::from_secs(20),
        ..ConnectOptions::new(path)
    }
}

/// A `known_hosts` file with this content.
pub(crate) fn known_hosts(host: &Host, content: &str) -> PathBuf {
    let path = host.private_dir().join("known_hosts");
    fs::write(&path, content).expect("our folder");
    path
}

/// Logs in as the configuration says.
pub(crate) fn connect(
    options: ConnectOptions,
    host: &ConfigHost,
) -> Result<Box<dyn Session>, TransportError> {
    Libssh2Connector::new(options).connect(host)
}

/// Logs in with the host's own key.
///
/// # Panics
/// When that does not work.
pub(crate) fn session(host: &Host) -> Box<dyn Session> {
    connect(options_for(host), &host.to_config())
        .unwrap_or_else(|error| panic!("{error}\n{}", host.log()))
}

/// Sends fixed bytes and keeps what comes back.
#[derive(Default)]
pub(crate) struct Fixed {
    pub(crate) input: Vec<u8>,
    pub(crate) taken: usize,
    pub(crate) sent: usize,
    pub(crate) output: Vec<u8>,
    /// `Leave` as soon as so many bytes have come.
    pub(crate) enough: Option<usize>,
    /// Input is asked for but none given before so many bytes have come.
    pub(crate) hold_back_until: usize,
    /// How long it may take.
    pub(crate) time_limit: Option<Duration>,
}

impl ExecIo for Fixed {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.output.len() < self.hold_back_until {
            return Ok(Input::Wait);
        }
        let rest = &self.input[self.taken..];
        let count = rest.len().min(128 * 1024);
        buffer.extend_from_slice(&rest[..count]);
        self.taken += count;
        Ok(if count == 0 { Input::End } else { Input::Ready })
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.output.extend_from_slice(bytes);
        Ok(match self.enough {
            Some(enough) if self.output.len() >= enough => Flow::Leave,
            _ => Flow::Continue,
        })
    }

    fn sent(&mut self, bytes: usize) {
        self.sent += bytes;
    }

    fn time_limit(&self) -> Option<Duration> {
        self.time_limit
    }
}

/// Runs a command without input; its output and how it ended.
pub(crate) fn output_of(
    session: &mut dyn Session,
    command: &str,
) -> Result<(String, ExecOutcome), TransportError> {
    let mut io = Fixed::default();
    let outcome = session.exec(command, &mut io)?;
    Ok((String::from_utf8_lossy(&io.output).into_owned(), outcome))
}
