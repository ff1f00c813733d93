//! One TCP connection and the libssh2 session on it, never blocking for longer than a deadline.

use std::io;
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream, ToSocketAddrs as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use libssh2_sys as raw;
use rustix::event::{PollFd, PollFlags, Timespec};
use ssh2::{BlockDirections, Channel, ErrorCode, MethodType};

use super::{TransportError, plain_reason};

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

/// The moment at which waiting ends, and the setting that says so.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline {
    at: Instant,
    limit: Duration,
    setting: &'static str,
}

impl Deadline {
    /// Starts to count now.
    pub(super) fn after(limit: Duration, setting: &'static str) -> Self {
        let now = Instant::now();
        // A limit beyond what the clock can express is as good as a year.
        let at = now
            .checked_add(limit)
            .unwrap_or_else(|| now + Duration::from_hours(24 * 365));
        Self { at, limit, setting }
    }

    /// What is left; zero when it is over.
    pub(super) fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The error that says that `what` took too long.
    pub(super) fn exceeded(&self, what: impl Into<String>) -> TransportError {
        TransportError::Timeout {
            what: what.into(),
            limit: self.limit,
            setting: self.setting,
        }
    }

    /// Runs what cannot be interrupted (the resolver, an agent that asks its user) on a thread of
    /// its own. `None` when the deadline came first; the thread is then left behind and its result
    /// thrown away.
    pub(super) fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, receiver) = mpsc::channel();
        thread::Builder::new()
            .name("hostsync-wait".to_owned())
            .spawn(move || {
                // Nobody listens any more when the deadline has passed.
                let _ = sender.send(work());
            })
            .ok()?;
        receiver.recv_timeout(self.remaining()).ok()
    }
}

/// Why a libssh2 call did not come to its end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The deadline passed.
    Deadline,
    /// libssh2 or the socket said no.
    Failed(ssh2::Error),
}

/// What is offered in the key exchange.
pub(super) struct Algorithms<'a> {
    /// Host key types, best first.
    pub(super) host_keys: &'a [&'static str],
    /// Ciphers, best first.
    pub(super) ciphers: &'a [&'a str],
    /// Whether the configuration names them.
    pub(super) are_ciphers_configured: bool,
    /// Whether to compress after login.
    pub(super) compress: bool,
}

/// A socket and its libssh2 session. Clones share both.
#[derive(Clone)]
pub(super) struct Wire {
    socket: Arc<TcpStream>,
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
    ) -> Result<T, Stop> {
        loop {
            match call() {
                Err(error) if would_block(&error) => {}
                Err(error) => return Err(Stop::Failed(error)),
                Ok(value) => return Ok(value),
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(Stop::Deadline);
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
    ) -> Result<T, Stop> {
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
    ) -> Result<(), Stop> {
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
    pub(super) fn open_channel(&self, deadline: &Deadline) -> Result<Channel, Stop> {
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
    ) -> Result<bool, Stop> {
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
        session.set_tcp_stream(Arc::clone(&socket));
        session.set_blocking(false);
        session.set_compress(algorithms.compress);
        prefer_algorithms(&session, algorithms)?;
        let connection = Self {
            wire: Wire {
                socket,
                session,
                awaits_service: Arc::default(),
                ahead: Arc::default(),
            },
        };
        let mut session = connection.wire.session.clone();
        let is_served = connection
            .wire
            .drive(deadline, || match session.handshake() {
                Err(error) if would_block(&error) && error.message() == AWAITS_SERVICE => Ok(false),
                outcome => outcome.map(|()| true),
            })
            .map_err(|stop| match stop {
                Stop::Deadline => {
                    deadline.exceeded(format!("the SSH handshake with {address}:{port}"))
                }
                Stop::Failed(error) => disagreement(&error, &connection.wire.session, algorithms)
                    .unwrap_or_else(|| unreachable(handshake_reason(&error))),
            })?;
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
        // Freeing the session sends farewells and would wait for answers: without a socket it does
        // not.
        self.hang_up();
    }
}

/// Whether a server goes on with what it finds behind a request for login. OpenSSH does; but very
/// old ones may lose what was read by the process that checks the login.
fn takes_requests_ahead(banner: &str) -> bool {
    banner
        .strip_prefix("SSH-2.0-OpenSSH_")
        .and_then(|version| version.split('.').next())
        .and_then(|major| major.parse::<u32>().ok())
        .is_some_and(|major| major >= 6)
}

/// Whether the call is to be repeated when the socket is ready.
pub(super) fn would_block(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_EAGAIN)
}

/// Whether an error means that the connection is gone.
pub(super) fn is_disconnect(error: &ssh2::Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Session(
            raw::LIBSSH2_ERROR_SOCKET_SEND
                | raw::LIBSSH2_ERROR_SOCKET_RECV
                | raw::LIBSSH2_ERROR_SOCKET_DISCONNECT
                | raw::LIBSSH2_ERROR_SOCKET_TIMEOUT
                | raw::LIBSSH2_ERROR_BAD_SOCKET
        )
    )
}

/// Whether the host has ended the connection in so many words.
pub(super) fn is_goodbye(error: &ssh2::Error) -> bool {
    error.code() == ErrorCode::Session(raw::LIBSSH2_ERROR_SOCKET_DISCONNECT)
}

/// libssh2's words, or better ones where there are.
pub(super) fn reason_of(error: &ssh2::Error) -> String {
    if is_disconnect(error) {
        "the host closed it".to_owned()
    } else {
        error.message().to_owned()
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

fn is_failed_exchange(error: &ssh2::Error) -> bool {
    matches!(
        error.code(),
        ErrorCode::Session(
            raw::LIBSSH2_ERROR_KEX_FAILURE | raw::LIBSSH2_ERROR_KEY_EXCHANGE_FAILURE
        )
    )
}

/// What no agreement was found on, if that is why a handshake failed. libssh2 agrees on one sort of
/// algorithm after the other and stops at the first without any; what the host offers it does not say.
fn disagreement(
    error: &ssh2::Error,
    session: &ssh2::Session,
    algorithms: &Algorithms<'_>,
) -> Option<TransportError> {
    const CURE: &str = "the server may be very old, or set up to accept next to nothing: update it, or \
                        let it accept one of these";
    let has = |method| session.methods(method).is_some();
    if !is_failed_exchange(error) {
        return None;
    }
    let supported = |method| {
        let names = session.supported_algs(method);
        names.map(|names| names.join(", ")).unwrap_or_default()
    };
    let (what, offered, cure) = if !has(MethodType::Kex) || !has(MethodType::HostKey) {
        let offered = [MethodType::Kex, MethodType::HostKey].map(supported);
        ("key exchange or host key", offered.join(", "), CURE)
    } else if !has(MethodType::CryptCs) || !has(MethodType::CryptSc) {
        let cure = if algorithms.are_ciphers_configured {
            "remove `ciphers` from the settings, or add one to it that the host accepts: `sshd -T` says \
             there which it does"
        } else {
            CURE
        };
        ("cipher", algorithms.ciphers.join(", "), cure)
    } else if !has(MethodType::MacCs) || !has(MethodType::MacSc) {
        ("message authentication", supported(MethodType::MacCs), CURE)
    } else {
        return None;
    };
    Some(TransportError::NoCommonAlgorithm {
        what,
        offered,
        cure,
    })
}

fn prefer_algorithms(
    session: &ssh2::Session,
    algorithms: &Algorithms<'_>,
) -> Result<(), TransportError> {
    let ciphers = algorithms.ciphers.join(",");
    for (method, names) in [
        (MethodType::HostKey, algorithms.host_keys.join(",")),
        (MethodType::CryptCs, ciphers.clone()),
        (MethodType::CryptSc, ciphers),
    ] {
        session
            .method_pref(method, &names)
            .map_err(|_| TransportError::UnsupportedAlgorithms {
                wanted: names,
                supported: session
                    .supported_algs(method)
                    .map(|names| names.join(", "))
                    .unwrap_or_default(),
            })?;
    }
    Ok(())
}

/// A TCP connection to the first address that answers.
fn connect_any(address: &str, port: u16, deadline: &Deadline) -> Result<TcpStream, TransportError> {
    let candidates = resolve(address, port, deadline)?;
    let mut last_error = None;
    for (index, candidate) in candidates.iter().enumerate() {
        // What is left is shared, so that one dead address does not starve the next.
        let left = u32::try_from(candidates.len() - index).unwrap_or(u32::MAX);
        let share = deadline.remaining() / left;
        if share.is_zero() {
            break;
        }
        match TcpStream::connect_timeout(candidate, share) {
            Ok(socket) => return Ok(socket),
            Err(error) => last_error = Some(error),
        }
    }
    Err(match last_error {
        Some(error) if error.kind() != io::ErrorKind::TimedOut => TransportError::Unreachable {
            address: address.to_owned(),
            port,
            reason: plain_reason(&error),
        },
        _ => deadline.exceeded(format!("connecting to {address}:{port}")),
    })
}

fn resolve(
    address: &str,
    port: u16,
    deadline: &Deadline,
) -> Result<Vec<SocketAddr>, TransportError> {
    if let Ok(ip) = address.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let name = address.to_owned();
    let unknown = |reason: String| TransportError::UnknownAddress {
        address: address.to_owned(),
        reason,
    };
    let found = deadline
        .run(move || {
            (name.as_str(), port)
                .to_socket_addrs()
                .map(Iterator::collect::<Vec<_>>)
        })
        .ok_or_else(|| deadline.exceeded(format!("resolving `{address}`")))?
        .map_err(|error| {
            let text = error.to_string();
            let reason = text.strip_prefix("failed to lookup address information: ");
            unknown(reason.unwrap_or(&text).to_owned())
        })?;
    if found.is_empty() {
        return Err(unknown("it has no address".to_owned()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadline_ends_work_that_does_not_end() {
        let deadline = Deadline::after(Duration::from_millis(30), "login_timeout");
        let started = Instant::now();
        assert_eq!(deadline.run(|| thread::sleep(Duration::from_secs(5))), None);
        assert!(started.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn deadline_hands_on_what_came_in_time() {
        let deadline = Deadline::after(Duration::from_mins(1), "login_timeout");
        assert_eq!(deadline.run(|| 7), Some(7));
    }

    #[test]
    fn endless_limit_does_not_overflow() {
        let deadline = Deadline::after(Duration::MAX, "stall_timeout");
        assert!(deadline.remaining() > Duration::from_hours(24));
    }

    #[test]
    fn only_openssh_that_is_not_ancient_takes_requests_ahead() {
        assert!(takes_requests_ahead(
            "SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u5"
        ));
        assert!(takes_requests_ahead("SSH-2.0-OpenSSH_10.0"));
        for banner in [
            "SSH-2.0-OpenSSH_5.3",
            "SSH-2.0-OpenSSH_for_Windows_9.5",
            "SSH-2.0-dropbear_2022.83",
            "SSH-1.99-OpenSSH_9.2",
            "",
        ] {
            assert!(!takes_requests_ahead(banner), "{banner}");
        }
    }

    #[test]
    fn reasons_are_plain_words() {
        let error = io::Error::from_raw_os_error(rustix::io::Errno::CONNREFUSED.raw_os_error());
        assert_eq!(plain_reason(&error), "connection refused");
    }
}
