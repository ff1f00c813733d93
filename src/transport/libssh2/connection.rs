//! One TCP connection and the libssh2 session on it, never blocking for longer than a deadline.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use libssh2_sys as raw;
use rustix::event::{PollFd, PollFlags, Timespec};
use ssh2::{BlockDirections, Channel, ErrorCode};

use super::algorithms::Algorithms;
use super::error::{CallError, is_disconnect, is_failed_exchange, would_block};
use super::tcp::connect_any;
use super::watchdog::{Bite, Watchdog};
use crate::transport::TransportError;
use crate::transport::deadline::Deadline;
use crate::transport::greeting::takes_requests_ahead;

/// Longest sleep in one go. libssh2 can lose track of what it waits for (a full window hides a
/// half-sent packet); looking again now and then costs nothing and makes that harmless.
const LONGEST_NAP: Duration = Duration::from_millis(250);

/// What libssh2 says while it waits for the login service: keys are exchanged, and the service was
/// asked for. Such texts are the only sign of how far a call has come. Where another version says
/// something else, nothing is sent ahead, which costs round trips and no more.
const AWAITS_SERVICE: &str = "Failed to get response to ssh-userauth request";

/// What it says once the signature was sent, until the host has judged it.
const AWAITS_VERDICT: &str = "Would block waiting for publickey USERAUTH response";

/// What it says while the request to run a command has to wait for new keys to be exchanged, or is
/// half sent, which also shows in what it waits for. Here it is the other text that lets us go on.
const REQUEST_HELD_BACK: &str = "Would block sending channel request";

/// A socket and its libssh2 session. Clones share both.
#[derive(Clone)]
pub(super) struct Wire {
    socket: Arc<TcpStream>,
    /// Ends what libssh2 does not come back from.
    pub(super) watchdog: Arc<Watchdog>,
    /// The session; in non-blocking mode.
    pub(super) session: ssh2::Session,
    /// Whether the request for the login service is out and nothing has followed it yet.
    awaits_service: Arc<AtomicBool>,
    ahead: Arc<Mutex<Ahead>>,
}

/// A channel that is opened before the host has said that we are in.
#[derive(Default)]
struct Ahead {
    is_allowed: bool,
    stage: AheadStage,
}

#[derive(Default)]
enum AheadStage {
    #[default]
    NotAsked,
    Asked,
    Opened(Channel),
    /// It was asked for with a key that did not let us in, so no answer will ever come.
    Lost,
}

impl Wire {
    /// Repeats a libssh2 call for as long as it would block.
    pub(super) fn drive<T>(
        &self,
        deadline: &Deadline,
        mut call: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, CallError> {
        loop {
            match call() {
                Err(error) if would_block(&error) => {}
                Err(_) if self.watchdog.bite() == Some(Bite::Late) => {
                    return Err(CallError::Deadline);
                }
                Err(error) => return Err(CallError::Failed(error)),
                Ok(value) => return Ok(value),
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(CallError::Deadline);
            }
            self.wait(self.interest(), remaining);
        }
    }

    /// Repeats a request for login for as long as it would block.
    ///
    /// The first one is sent right behind the request for the login service, whose grant is then
    /// never looked at: a host that does not grant it hangs up. `needs_extensions` makes it wait,
    /// since what the host says about signatures comes between the two.
    pub(super) fn log_in<T>(
        &self,
        deadline: &Deadline,
        needs_extensions: bool,
        call: impl FnMut() -> Result<T, ssh2::Error>,
    ) -> Result<T, CallError> {
        if self.awaits_service.swap(false, Ordering::Relaxed) && needs_extensions {
            let mut session = self.session.clone();
            self.drive(deadline, || session.handshake())?;
        }
        self.drive(deadline, call)
    }

    /// As [`log_in`](Self::log_in), for a key: a channel may be opened ahead.
    pub(super) fn log_in_by_key(
        &self,
        deadline: &Deadline,
        needs_extensions: bool,
        mut call: impl FnMut() -> Result<(), ssh2::Error>,
    ) -> Result<(), CallError> {
        let outcome = self.log_in(deadline, needs_extensions, || {
            let outcome = call();
            if matches!(&outcome, Err(error) if error.message() == AWAITS_VERDICT) {
                self.open_ahead();
            }
            outcome
        });
        let mut ahead = self.ahead();
        if !matches!(ahead.stage, AheadStage::NotAsked) && !self.session.authenticated() {
            ahead.stage = AheadStage::Lost;
        }
        outcome
    }

    /// Lets a channel be opened right behind a signature.
    ///
    /// OpenSSH's server takes what comes next from the queue when the login was successful, and
    /// otherwise says that it does not understand. Others must hang up then, as the protocol says.
    /// With compression, which begins at the login, it would have to be compressed already.
    pub(super) fn allow_opening_ahead(&self) {
        let banner = self.session.banner().unwrap_or_default();
        self.ahead().is_allowed = takes_requests_ahead(banner);
    }

    fn open_ahead(&self) {
        let mut ahead = self.ahead();
        if ahead.is_allowed && matches!(ahead.stage, AheadStage::NotAsked) {
            ahead.stage = match self.session.channel_session() {
                Ok(channel) => AheadStage::Opened(channel),
                Err(error) if would_block(&error) => AheadStage::Asked,
                // It is asked for again when it is needed, and the reason is told then.
                Err(_) => AheadStage::NotAsked,
            };
        }
    }

    /// Whether no channel can be opened any more, since the one that was asked for never comes.
    pub(super) fn has_lost_channel(&self) -> bool {
        matches!(self.ahead().stage, AheadStage::Lost)
    }

    /// Opens a channel, or takes the one that was opened ahead.
    pub(super) fn open_channel(&self, deadline: &Deadline) -> Result<Channel, CallError> {
        let stage = std::mem::take(&mut self.ahead().stage);
        self.ahead().is_allowed = false;
        match stage {
            AheadStage::Opened(channel) => Ok(channel),
            // libssh2 knows that it has asked.
            _ => self.drive(deadline, || self.session.channel_session()),
        }
    }

    /// Asks for a command to be run; says whether the host has agreed already. When it has not, the
    /// request is on its way as a whole, input may follow it, and the answer is to be had from
    /// [`Channel::exec`] again.
    pub(super) fn request_command(
        &self,
        deadline: &Deadline,
        channel: &mut Channel,
        command: &str,
    ) -> Result<bool, CallError> {
        self.drive(deadline, || match channel.exec(command) {
            Err(error)
                if would_block(&error)
                    && error.message() != REQUEST_HELD_BACK
                    && !self.interest().contains(PollFlags::OUT) =>
            {
                Ok(false)
            }
            answer => answer.map(|()| true),
        })
    }

    fn ahead(&self) -> MutexGuard<'_, Ahead> {
        self.ahead.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What libssh2 waits for.
    pub(super) fn interest(&self) -> PollFlags {
        match self.session.block_directions() {
            BlockDirections::None | BlockDirections::Inbound => PollFlags::IN,
            BlockDirections::Outbound => PollFlags::OUT,
            BlockDirections::Both => PollFlags::IN | PollFlags::OUT,
        }
    }

    /// Sleeps until the socket is ready, and never longer than `at_most`; says whether it is.
    pub(super) fn wait(&self, interest: PollFlags, at_most: Duration) -> bool {
        let nap = at_most.min(LONGEST_NAP);
        let timeout = Timespec {
            tv_sec: 0,
            tv_nsec: nap.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&*self.socket, interest)];
        // An interrupted poll is a short nap.
        matches!(rustix::event::poll(&mut fds, Some(&timeout)), Ok(ready) if ready > 0)
    }

    /// Whether the socket takes a small packet as a whole, now. libssh2 cannot resume a half-sent
    /// EOF packet reliably, so it is not begun before.
    pub(super) fn is_writable(&self) -> bool {
        self.wait(PollFlags::OUT, Duration::ZERO)
    }
}

/// Owns a [`Wire`]; hangs up when dropped.
pub(super) struct Connection {
    wire: Wire,
}

impl Connection {
    /// Resolves, connects and exchanges keys. The login service is asked for, but not waited for.
    pub(super) fn open(
        address: &str,
        port: u16,
        deadline: &Deadline,
        algorithms: &Algorithms<'_>,
    ) -> Result<Self, TransportError> {
        let socket = connect_any(address, port, deadline)?;
        let unreachable = |reason: String| TransportError::Unreachable {
            address: address.to_owned(),
            port,
            reason,
        };
        socket
            .set_nodelay(true)
            .and_then(|()| socket.set_nonblocking(true))
            .map_err(|error| unreachable(error.to_string()))?;
        let mut session =
            ssh2::Session::new().map_err(|error| unreachable(error.message().to_owned()))?;
        let socket = Arc::new(socket);
        let watchdog = Watchdog::of(Arc::clone(&socket))
            .map_err(|error| unreachable(format!("no thread can be started: {error}")))?;
        session.set_tcp_stream(Arc::clone(&socket));
        session.set_blocking(false);
        algorithms.set_for(&session)?;
        let connection = Self {
            wire: Wire {
                socket,
                watchdog: Arc::new(watchdog),
                session,
                awaits_service: Arc::default(),
                ahead: Arc::default(),
            },
        };
        let wire = connection.wire();
        wire.watchdog.watch_greeting(deadline.remaining());
        let mut session = wire.session.clone();
        let is_served = connection
            .wire
            .drive(deadline, || match session.handshake() {
                Err(error) if would_block(&error) && error.message() == AWAITS_SERVICE => Ok(false),
                outcome => outcome.map(|()| true),
            })
            .map_err(|error| match error {
                CallError::Deadline => {
                    deadline.exceeded(format!("the SSH handshake with {address}:{port}"))
                }
                CallError::Failed(_) if wire.watchdog.bite() == Some(Bite::Flood) => unreachable(
                    "what answers there sends without end and does not wait for us: it does not speak SSH"
                        .to_owned(),
                ),
                CallError::Failed(error) => algorithms
                    .disagreement(&error, &connection.wire.session)
                    .unwrap_or_else(|| unreachable(handshake_reason(&error))),
            })?;
        wire.watchdog.rest();
        connection
            .wire
            .awaits_service
            .store(!is_served, Ordering::Relaxed);
        Ok(connection)
    }

    /// The wire, for as long as the connection is not dropped.
    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    /// Closes the socket under libssh2, so that nothing it does afterwards can wait for the host.
    pub(super) fn hang_up(&self) {
        // Fails only when the other side was faster.
        let _ = self.wire.socket.shutdown(Shutdown::Both);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.wire.watchdog.leave();
        // Freeing the session sends farewells and would wait for answers: without a socket it does
        // not.
        self.hang_up();
    }
}

fn handshake_reason(error: &ssh2::Error) -> String {
    match error.code() {
        ErrorCode::Session(raw::LIBSSH2_ERROR_BANNER_RECV) => {
            "what answers there does not speak SSH".to_owned()
        }
        _ if is_disconnect(error) => "the server closed the connection at once".to_owned(),
        _ if is_failed_exchange(error) => format!("damaged key exchange ({})", error.message()),
        _ => error.message().to_owned(),
    }
}
