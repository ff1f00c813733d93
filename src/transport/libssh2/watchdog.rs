//! Ends a connection whose time is over, whatever libssh2 is doing with it.
//!
//! Every wait of ours has an end. But a call of libssh2 comes back only when nothing more is to be read, and a
//! host that never stops sending keeps it for as long as it likes. When the socket is closed under it, it
//! comes back at once.

use std::io;
use std::net::{Shutdown, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How much later than our own deadlines it acts: their errors say more.
const GRACE: Duration = Duration::from_secs(1);

/// How often it looks while keys are exchanged.
const LOOK: Duration = Duration::from_millis(100);

/// How long it sleeps while nothing is under way, unless it is woken.
const REST: Duration = Duration::from_hours(1);

/// More bytes than a host sends before it has to wait for an answer; they lie unread, since libssh2 takes a
/// greeting byte by byte. Less than the first window of a connection.
const FLOOD_BYTES: u64 = 32 * 1024;

/// Why a connection was ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bite {
    /// Its time was over.
    Late,
    /// The host sent without end before it was its turn.
    Flood,
}

/// Watches over one connection, on a thread of its own.
#[derive(Debug)]
pub(super) struct Watchdog(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    socket: Arc<TcpStream>,
    watch: Mutex<Watch>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Watch {
    /// When the connection is ended; `None` while nothing is under way.
    until: Option<Instant>,
    /// Whether keys are being exchanged, and whether much was unread at the last look.
    greets: Option<bool>,
    bite: Option<Bite>,
    has_left: bool,
}

impl Watchdog {
    /// One that rests.
    ///
    /// # Errors
    /// When the system has no thread for it.
    pub(super) fn of(socket: Arc<TcpStream>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            socket,
            watch: Mutex::default(),
            changed: Condvar::new(),
        });
        let watched = Arc::clone(&shared);
        thread::Builder::new()
            .name("hostsync-watch".to_owned())
            .stack_size(128 * 1024)
            .spawn(move || watched.run())?;
        Ok(Self(shared))
    }

    /// The connection is ended unless something else is said within this time.
    pub(super) fn watch(&self, limit: Duration) {
        self.set(limit, None);
    }

    /// As [`watch`](Self::watch), while keys are exchanged: a host that sends without end is not heard to the
    /// end of its time.
    pub(super) fn watch_greeting(&self, limit: Duration) {
        self.set(limit, Some(false));
    }

    /// Nothing is under way.
    pub(super) fn rest(&self) {
        self.change(|watch| (watch.until, watch.greets) = (None, None));
    }

    /// Its work is over.
    pub(super) fn leave(&self) {
        self.change(|watch| watch.has_left = true);
    }

    /// Whether it has ended the connection, and why.
    pub(super) fn bite(&self) -> Option<Bite> {
        self.0.watch().bite
    }

    fn set(&self, limit: Duration, greets: Option<bool>) {
        // A limit beyond what the clock can express is none.
        let until = Instant::now().checked_add(limit.saturating_add(GRACE));
        self.change(|watch| (watch.until, watch.greets) = (until, greets));
    }

    fn change(&self, change: impl FnOnce(&mut Watch)) {
        change(&mut self.0.watch());
        self.0.changed.notify_one();
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.leave();
    }
}

impl Shared {
    fn watch(&self) -> MutexGuard<'_, Watch> {
        // Changed in single steps, each of which leaves it right.
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut watch = self.watch();
        while !watch.has_left && watch.bite.is_none() {
            let left = watch
                .until
                .map(|until| until.saturating_duration_since(Instant::now()));
            if left == Some(Duration::ZERO) {
                watch.bite = Some(Bite::Late);
            } else if let Some(was_much) = watch.greets {
                // A socket that says nothing is dealt with by whoever reads from it.
                let unread = rustix::io::ioctl_fionread(&*self.socket).unwrap_or_default();
                let is_much = unread >= FLOOD_BYTES;
                watch.greets = Some(is_much);
                if is_much && was_much {
                    watch.bite = Some(Bite::Flood);
                }
            }
            if watch.bite.is_some() {
                // Fails only when the other side was faster.
                let _ = self.socket.shutdown(Shutdown::Both);
                return;
            }
            let nap = left.unwrap_or(REST);
            let nap = if watch.greets.is_some() {
                nap.min(LOOK)
            } else {
                nap
            };
            let woken = self.changed.wait_timeout(watch, nap);
            watch = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use super::*;

    /// A connection, and its other end.
    fn connection() -> (Arc<TcpStream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let ours = TcpStream::connect(address).expect("a connection");
        let (theirs, _) = listener.accept().expect("a connection");
        // So that a test that fails comes to an end.
        ours.set_read_timeout(Some(Duration::from_secs(20)))
            .expect("set");
        (Arc::new(ours), theirs)
    }

    #[test]
    fn connection_whose_time_is_over_is_closed_under_whoever_reads() {
        let (ours, _theirs) = connection();
        let watchdog = Watchdog::of(Arc::clone(&ours)).expect("a thread");
        watchdog.watch(Duration::ZERO);
        let count = (&*ours).read(&mut [0; 1]).expect("an end");
        assert_eq!((count, watchdog.bite()), (0, Some(Bite::Late)));
    }

    #[test]
    fn connection_at_rest_stays() {
        let (ours, mut theirs) = connection();
        let watchdog = Watchdog::of(Arc::clone(&ours)).expect("a thread");
        watchdog.watch(Duration::ZERO);
        watchdog.rest();
        let late = thread::spawn(move || {
            thread::sleep(GRACE + Duration::from_millis(500));
            theirs.write_all(b"x")
        });
        let count = (&*ours).read(&mut [0; 1]).expect("a byte");
        assert_eq!((count, watchdog.bite()), (1, None));
        late.join().expect("no panic").expect("is sent");
    }

    #[test]
    fn host_that_sends_without_end_before_its_turn_is_left() {
        let (ours, mut theirs) = connection();
        let watchdog = Watchdog::of(Arc::clone(&ours)).expect("a thread");
        watchdog.watch_greeting(Duration::from_hours(1));
        let flood = thread::spawn(move || while theirs.write_all(b"welcome\n").is_ok() {});
        // As libssh2 does.
        while matches!((&*ours).read(&mut [0; 1]), Ok(1)) {}
        assert_eq!(watchdog.bite(), Some(Bite::Flood));
        flood.join().expect("no panic");
    }

    #[test]
    fn much_that_may_be_sent_is_no_flood() {
        let (ours, mut theirs) = connection();
        let watchdog = Watchdog::of(Arc::clone(&ours)).expect("a thread");
        watchdog.watch(Duration::from_hours(1));
        let sent = thread::spawn(move || {
            let result = theirs.write_all(&vec![0; 60_000]);
            thread::sleep(3 * LOOK);
            result
        });
        sent.join().expect("no panic").expect("is sent");
        assert_eq!(watchdog.bite(), None);
    }
}
