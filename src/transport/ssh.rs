//! Sessions over libssh2.
//!
//! libssh2 runs in non-blocking mode under a loop of our own, so that input, output and standard
//! error of a command move at the same time and every wait has an end. A session belongs to one
//! thread.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::event::PollFlags;
use secrecy::SecretString;
use ssh2::{Channel, MethodType};

use super::connection::{Algorithms, Connection, Deadline, Stop, Wire, reason_of, would_block};
use super::known_hosts::{self, HostKey, KnownHosts};
use super::{
    Connector, ExecIo, ExecOutcome, Flow, Input, Session, TransportError, auth, plain_reason,
};
use crate::config::Host;

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

/// How much of standard error is kept.
const STDERR_KEPT_BYTES: usize = 64 * 1024;

/// How much of standard error is taken at all: half a million complaints.
const STDERR_BYTES: usize = 64 * 1024 * 1024;

/// What one read asks for at most; also a whole packet of most servers twice.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one stream in a row before input gets its turn again.
const READS_IN_A_ROW: usize = 16;

/// How long a command that was left may take to end before the next is started. It is waited for,
/// since dropbear may never start a command on a channel that was opened before both sides had
/// closed the one before.
const MOMENT: Duration = Duration::from_secs(2);

/// How long a farewell may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// What takes too long when a command does not start.
const STARTING: &str = "starting a command";

/// When the connection breaks as a command is started.
const STARTING_BROKE: &str = "while starting a command";

/// Looks up the variables that `passkey_env` names.
pub type Variables = Arc<dyn Fn(&str) -> Option<SecretString> + Send + Sync>;

/// Everything a connection depends on, apart from the host.
#[derive(Clone)]
pub struct SshOptions {
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

impl SshOptions {
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

impl fmt::Debug for SshOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SshOptions")
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

/// A `known_hosts` file as it was when it was last read.
type CachedKnownHosts = Option<(Option<(SystemTime, u64)>, Arc<KnownHosts>)>;

/// Logs in to hosts over libssh2.
#[derive(Debug)]
pub struct SshConnector {
    options: SshOptions,
    known_hosts: Mutex<CachedKnownHosts>,
}

impl SshConnector {
    /// A connector with these options. Touches nothing yet.
    pub fn new(options: SshOptions) -> Self {
        Self {
            options,
            known_hosts: Mutex::new(None),
        }
    }

    /// Asks a host for its key, without comparing it with anything and without logging in.
    ///
    /// # Errors
    /// When there is no connection or no key exchange within the connect time-out.
    pub fn fetch_host_key(&self, host: &Host) -> Result<HostKey, TransportError> {
        self.open(host).map(|(_, key)| key)
    }

    /// A connection after the key exchange, and the key that the host proved to have.
    fn open(&self, host: &Host) -> Result<(Connection, HostKey), TransportError> {
        let deadline = Deadline::after(self.options.connect_timeout, "connect_timeout");
        let known_hosts = self.known_hosts()?;
        let chosen: Vec<&str> = match &self.options.ciphers {
            Some(ciphers) => ciphers.iter().map(String::as_str).collect(),
            None => CIPHERS.to_vec(),
        };
        let algorithms = Algorithms {
            host_keys: &known_hosts.preferred_algorithms(&host.address, host.port),
            ciphers: &chosen,
            are_ciphers_configured: self.options.ciphers.is_some(),
            compress: self.options.compress,
        };
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
        auth::login(connection.wire(), host, &self.options, &deadline)?;
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

impl Connector for SshConnector {
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError> {
        // A password may be the second of two things that the host wants to see.
        let may_open_ahead = !self.options.compress && host.auth.passkey.is_none();
        let mut connection = self.log_in(host, may_open_ahead)?;
        if connection.wire().has_lost_channel() {
            // One key was good, but another was wanted as well.
            connection = self.log_in(host, false)?;
        }
        Ok(Box::new(SshSession {
            retired: Vec::new(),
            left: None,
            paused: None,
            connection,
            stall_timeout: self.options.stall_timeout,
        }))
    }
}

/// A login over libssh2.
struct SshSession {
    /// Channels that we have closed and the host has not.
    retired: Vec<Channel>,
    /// A command of which nothing further is of interest.
    left: Option<Channel>,
    /// A command that waits for input.
    paused: Option<Channel>,
    connection: Connection,
    stall_timeout: Duration,
}

impl SshSession {
    /// Opens a channel and asks for the command to be run; says whether the host has agreed.
    fn start(&self, command: &str) -> Result<(Channel, bool), TransportError> {
        let wire = self.connection.wire();
        let deadline = Deadline::after(self.stall_timeout, "stall_timeout");
        let failed = |stop: Stop| match stop {
            Stop::Deadline => deadline.exceeded(STARTING),
            Stop::Failed(error) => broken_by(STARTING_BROKE, &error),
        };
        let mut channel = wire.open_channel(&deadline).map_err(failed)?;
        let has_started = wire
            .request_command(&deadline, &mut channel, command)
            .map_err(failed)?;
        Ok((channel, has_started))
    }

    /// Puts away the commands before the next. That is not done when they are left: mostly nothing
    /// follows, and a farewell would take a round trip.
    fn put_away(&mut self) {
        for channel in std::mem::take(&mut self.retired) {
            self.retire(channel);
        }
        let moment = Deadline::after(MOMENT, "stall_timeout");
        let wire = self.connection.wire().clone();
        if let Some(mut channel) = self.paused.take() {
            // It ends by itself then. Dropbear may fall over a command that does so while its
            // channel is being closed.
            if wire.is_writable() {
                // A host that is gone shows in what follows.
                let _ = channel.send_eof();
            }
            self.left = Some(channel);
        }
        if let Some(mut channel) = self.left.take() {
            see_out(&wire, &mut channel, &moment);
            self.retire(channel);
        }
    }

    /// Says goodbye to a channel. One that the host does not close in turn, as long as something
    /// there still runs, is kept: freeing it would not work either.
    fn retire(&mut self, mut channel: Channel) {
        let deadline = Deadline::after(FAREWELL, "stall_timeout");
        let wire = self.connection.wire();
        while !wire.wait(PollFlags::OUT, deadline.remaining()) && !deadline.remaining().is_zero() {}
        if matches!(channel.close(), Err(error) if would_block(&error)) {
            self.retired.push(channel);
        }
    }
}

impl Session for SshSession {
    fn exec(&mut self, command: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        self.put_away();
        let (channel, has_started) = self.start(command)?;
        self.carry(channel, has_started, io)
    }

    fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        let channel = self.paused.take().ok_or_else(|| TransportError::Broken {
            during: "while a command was waiting".to_owned(),
            reason: "it is gone".to_owned(),
        })?;
        // It has printed something, or it would not have been paused.
        self.carry(channel, true, io)
    }

    fn close(self: Box<Self>) {
        let deadline = Deadline::after(FAREWELL, "stall_timeout");
        let wire = self.connection.wire();
        // A host that is gone does not need a farewell.
        let _ = wire.drive(&deadline, || wire.session.disconnect(None, "done", None));
    }
}

impl SshSession {
    /// Moves bytes between a running command and `io`.
    fn carry(
        &mut self,
        channel: Channel,
        has_started: bool,
        io: &mut dyn ExecIo,
    ) -> Result<ExecOutcome, TransportError> {
        let mut exec = Exec {
            wire: self.connection.wire(),
            channel,
            has_started,
            io,
            pending: Vec::new(),
            taken: 0,
            is_write_blocked: false,
            feed: Feed::Open,
            stderr: Tail::default(),
            buffer: vec![0; READ_BYTES],
        };
        let ended = exec.run(self.stall_timeout);
        let is_left_in_order =
            matches!(ended, Ok(_) | Err(TransportError::Aborted(_))) && exec.settle();
        let Exec {
            channel, stderr, ..
        } = exec;
        match &ended {
            Ok(Ending::Paused) => self.paused = Some(channel),
            Ok(Ending::Left) if is_left_in_order => self.left = Some(channel),
            _ if is_left_in_order => self.retire(channel),
            _ => self.connection.hang_up(),
        }
        Ok(ExecOutcome {
            exit_status: match ended? {
                Ending::Ended(status) => status,
                Ending::Left | Ending::Paused => None,
            },
            stderr: stderr.into_bytes(),
        })
    }
}

impl Drop for SshSession {
    fn drop(&mut self) {
        // Before the channels: dropping them must find no socket to wait for.
        self.connection.hang_up();
    }
}

/// Where standard input of a command stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Feed {
    /// To be asked for more.
    Open,
    /// Not to be asked before output has come.
    Waiting,
    /// Nothing follows what is pending.
    Ended,
    /// The host was told so.
    Closed,
}

/// Why a command is no longer attended to.
enum Ending {
    /// It ended; its exit status, where one came.
    Ended(Option<i32>),
    /// Nothing further is of interest.
    Left,
    /// It waits for more input.
    Paused,
}

/// A command while it runs.
struct Exec<'a> {
    wire: &'a Wire,
    channel: Channel,
    /// Whether the host has agreed to run it. Input is sent before that.
    has_started: bool,
    io: &'a mut dyn ExecIo,
    /// Input that was not yet taken, from `taken` on.
    pending: Vec<u8>,
    taken: usize,
    /// Whether the last write was put off, perhaps half-way through a packet.
    is_write_blocked: bool,
    feed: Feed,
    stderr: Tail,
    buffer: Vec<u8>,
}

impl Exec<'_> {
    /// Moves bytes until the command ends, is paused or is left.
    fn run(&mut self, stall_timeout: Duration) -> Result<Ending, TransportError> {
        let mut stall = Deadline::after(stall_timeout, "stall_timeout");
        let mut fruitless_wakeups = 0_u32;
        let mut looked_twice = false;
        loop {
            let fed = self.feed()?;
            let drained = match self.drain()? {
                ControlFlow::Continue(drained) => drained,
                ControlFlow::Break(Flow::Pause) => return Ok(Ending::Paused),
                ControlFlow::Break(_) => return Ok(Ending::Left),
            };
            let has_just_started = !self.has_started && self.check_start()?;
            if self.has_started && has_ended(&mut self.channel)? {
                return Ok(Ending::Ended(self.exit_status()));
            }
            if fed || drained || has_just_started {
                stall = Deadline::after(stall_timeout, "stall_timeout");
                fruitless_wakeups = 0;
                looked_twice = false;
                continue;
            }
            // Each of the calls above may have taken in bytes for one that came before it.
            if !looked_twice && self.channel.read_window().available > 0 {
                looked_twice = true;
                continue;
            }
            looked_twice = false;
            let remaining = stall.remaining();
            if remaining.is_zero() {
                return Err(stall.exceeded(if self.has_started {
                    "waiting for the host to send or take anything"
                } else {
                    STARTING
                }));
            }
            let mut interest = self.wire.interest();
            if fruitless_wakeups > 2 && interest.contains(PollFlags::OUT) {
                // libssh2 must send before it can read on, so bytes to read are no news.
                interest = PollFlags::OUT;
            }
            if self.wire.wait(interest, remaining) {
                fruitless_wakeups += 1;
            } else {
                fruitless_wakeups = 0;
            }
        }
    }

    /// Looks for the host's answer to the request to run the command; says whether it has agreed.
    fn check_start(&mut self) -> Result<bool, TransportError> {
        if !self.has_started {
            // The request is out: nothing is sent, and the command is not looked at.
            self.has_started = match self.channel.exec("") {
                Ok(()) => true,
                Err(error) if would_block(&error) => false,
                Err(error) => return Err(broken_by(STARTING_BROKE, &error)),
            };
        }
        Ok(self.has_started)
    }

    /// Sends pending input, at most one buffer of it; says whether any byte moved.
    fn feed(&mut self) -> Result<bool, TransportError> {
        if self.taken == self.pending.len() && self.feed == Feed::Open {
            self.pending.clear();
            self.taken = 0;
            match self.io.next_input(&mut self.pending)? {
                Input::Ready if !self.pending.is_empty() => {}
                Input::Ready | Input::Wait => self.feed = Feed::Waiting,
                Input::End => self.feed = Feed::Ended,
            }
        }
        let mut moved = false;
        while self.taken < self.pending.len() {
            self.is_write_blocked = false;
            match self.channel.write(&self.pending[self.taken..]) {
                Ok(0) => break,
                Ok(count) => {
                    self.taken += count;
                    self.io.sent(count);
                    moved = true;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.is_write_blocked = true;
                    break;
                }
                // The command no longer reads; its output says why.
                Err(_) if self.channel.eof() => break,
                Err(error) => return Err(broken("while sending", &error)),
            }
        }
        if self.taken == self.pending.len() && self.feed == Feed::Ended && self.wire.is_writable() {
            match self.channel.send_eof() {
                Ok(()) => {
                    self.feed = Feed::Closed;
                    moved = true;
                }
                Err(error) if would_block(&error) => {}
                Err(_) if self.channel.eof() => self.feed = Feed::Closed,
                Err(error) => return Err(broken_by("while sending", &error)),
            }
        }
        Ok(moved)
    }

    /// Takes in what the command has written; says whether any byte moved.
    fn drain(&mut self) -> Result<ControlFlow<Flow, bool>, TransportError> {
        let mut moved = false;
        for _ in 0..READS_IN_A_ROW {
            let count = received(self.channel.read(&mut self.buffer))?;
            if count == 0 {
                break;
            }
            moved = true;
            // The answer has come before any output.
            self.check_start()?;
            if self.feed == Feed::Waiting {
                self.feed = Feed::Open;
            }
            match self.io.output(&self.buffer[..count])? {
                Flow::Continue => {}
                flow => return Ok(ControlFlow::Break(flow)),
            }
        }
        let mut stderr = self.channel.stderr();
        for _ in 0..READS_IN_A_ROW {
            let count = received(stderr.read(&mut self.buffer))?;
            if count == 0 {
                break;
            }
            moved = true;
            self.stderr.push(&self.buffer[..count]);
            if self.stderr.taken > STDERR_BYTES {
                return Err(TransportError::Broken {
                    during: "while a command was running".to_owned(),
                    reason: "the host prints without end to standard error".to_owned(),
                });
            }
        }
        Ok(ControlFlow::Continue(moved))
    }

    /// Completes a packet that is half sent, if there is one: libssh2 sends no other before it.
    /// False when the host does not take it.
    fn settle(&mut self) -> bool {
        let deadline = Deadline::after(FAREWELL, "stall_timeout");
        loop {
            // Only the call that began the packet can complete it.
            if self.taken < self.pending.len()
                && self.is_write_blocked
                && let Ok(count) = self.channel.write(&self.pending[self.taken..])
            {
                self.taken += count;
                self.is_write_blocked = false;
            }
            let read = self.channel.read(&mut self.buffer);
            if matches!(&read, Err(error) if error.kind() != io::ErrorKind::WouldBlock) {
                return false;
            }
            if !self.wire.interest().contains(PollFlags::OUT) {
                return true;
            }
            if deadline.remaining().is_zero() {
                return false;
            }
            self.wire.wait(PollFlags::OUT, deadline.remaining());
        }
    }

    /// libssh2 says 0 when no status came; a signal at least can be told apart.
    fn exit_status(&self) -> Option<i32> {
        match self.channel.exit_signal() {
            Ok(signal) if signal.exit_signal.is_none() => self.channel.exit_status().ok(),
            _ => None,
        }
    }
}

/// Gives a command that was left until `deadline` to end by itself, which it mostly does at once: a
/// channel that both sides have closed leaves nothing behind.
fn see_out(wire: &Wire, channel: &mut Channel, deadline: &Deadline) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        let mut moved = false;
        for stream in [0, ssh2::EXTENDED_DATA_STDERR] {
            let read = channel.stream(stream).read(&mut buffer);
            moved |= matches!(received(read), Ok(count) if count > 0);
        }
        match has_ended(channel) {
            Ok(false) if !deadline.remaining().is_zero() => {}
            _ => return,
        }
        if !moved {
            wire.wait(wire.interest(), deadline.remaining());
        }
    }
}

/// Whether all output was taken in and the host has closed the channel.
fn has_ended(channel: &mut Channel) -> Result<bool, TransportError> {
    if !channel.eof() {
        return Ok(false);
    }
    match channel.wait_close() {
        Ok(()) => Ok(channel.eof()),
        Err(error) if would_block(&error) => Ok(false),
        Err(error) => Err(broken_by("while waiting for a command to end", &error)),
    }
}

/// The number of bytes of a read, 0 for none now.
fn received(result: io::Result<usize>) -> Result<usize, TransportError> {
    match result {
        Ok(count) => Ok(count),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(broken("while receiving", &error)),
    }
}

fn broken(during: &str, error: &io::Error) -> TransportError {
    TransportError::Broken {
        during: during.to_owned(),
        reason: plain_reason(error),
    }
}

fn broken_by(during: &str, error: &ssh2::Error) -> TransportError {
    TransportError::Broken {
        during: during.to_owned(),
        reason: reason_of(error),
    }
}

/// The end of a stream.
#[derive(Debug, Default)]
struct Tail {
    bytes: Vec<u8>,
    /// How long the stream was so far.
    taken: usize,
}

impl Tail {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.taken += bytes.len();
        // Cut rarely: every cut moves what is kept.
        if self.bytes.len() > 2 * STDERR_KEPT_BYTES {
            self.cut();
        }
    }

    fn cut(&mut self) {
        let excess = self.bytes.len().saturating_sub(STDERR_KEPT_BYTES);
        self.bytes.drain(..excess);
    }

    fn into_bytes(mut self) -> Vec<u8> {
        self.cut();
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_keeps_the_end() {
        let mut tail = Tail::default();
        for round in 0..5_u8 {
            tail.push(&vec![round; STDERR_KEPT_BYTES / 2]);
        }
        tail.push(b"last");
        let bytes = tail.into_bytes();
        assert_eq!(bytes.len(), STDERR_KEPT_BYTES);
        assert_eq!(bytes[0], 3);
        assert!(bytes.ends_with(b"last"));
    }
}
