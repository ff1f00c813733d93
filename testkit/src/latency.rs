//! A TCP proxy that makes a line long, but not narrow.
//!
//! Each direction is a delay line: what arrives is sent on after a fixed time, in the same order, however
//! much of it is on the way. So a round trip takes twice that time, and bandwidth stays what it was.

use std::collections::VecDeque;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Bytes on the way in one direction of one connection, at most. It keeps memory bounded when the other
/// end does not read; at 25 ms it allows 5 GB/s.
const ON_THE_WAY_BYTES: usize = 128 << 20;

/// Bytes that are taken at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A proxy that listens; it accepts nothing any more when it is dropped.
pub struct LatencyProxy {
    address: SocketAddr,
    stopped: Arc<AtomicBool>,
    carried_bytes: Arc<AtomicU64>,
    sockets: Arc<Mutex<Vec<TcpStream>>>,
    accepting: Option<JoinHandle<()>>,
}

impl LatencyProxy {
    /// Listens on an address and passes every connection on to `target`, each direction `one_way` later.
    /// Port 0 means any free port.
    ///
    /// # Errors
    /// When it cannot listen there.
    pub fn start(listen: SocketAddr, target: SocketAddr, one_way: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        let address = listener.local_addr()?;
        let stopped = Arc::new(AtomicBool::new(false));
        let carried_bytes = Arc::new(AtomicU64::new(0));
        let sockets = Arc::new(Mutex::new(Vec::new()));
        let accepting = thread::spawn({
            let (stopped, carried_bytes) = (Arc::clone(&stopped), Arc::clone(&carried_bytes));
            let sockets = Arc::clone(&sockets);
            move || {
                accept(
                    &listener,
                    target,
                    one_way,
                    &stopped,
                    &carried_bytes,
                    &sockets,
                );
            }
        });
        Ok(Self {
            address,
            stopped,
            carried_bytes,
            sockets,
            accepting: Some(accepting),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Bytes that have arrived, in both directions of all connections so far.
    pub fn carried_bytes(&self) -> u64 {
        self.carried_bytes.load(Ordering::Relaxed)
    }

    /// Ends all connections that there are, at both ends. New ones are accepted.
    #[allow(dead_code, reason = "not all that includes this file cuts")]
    pub fn cut(&self) {
        let mut sockets = self.sockets.lock().expect("no thread panics with the lock");
        for socket in sockets.drain(..) {
            // It may have ended by itself.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

impl Drop for LatencyProxy {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        // Something to accept, so that it looks at the flag. Where that fails, the thread stays behind.
        let woken = TcpStream::connect(self.address).is_ok();
        if let Some(accepting) = self.accepting.take()
            && woken
        {
            let _ = accepting.join();
        }
    }
}

fn accept(
    listener: &TcpListener,
    target: SocketAddr,
    one_way: Duration,
    stopped: &AtomicBool,
    carried_bytes: &Arc<AtomicU64>,
    sockets: &Arc<Mutex<Vec<TcpStream>>>,
) {
    for client in listener.incoming() {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        // A client that has gone again is no reason to stop.
        let Ok(client) = client else { continue };
        let (carried_bytes, sockets) = (Arc::clone(carried_bytes), Arc::clone(sockets));
        thread::spawn(move || {
            // A server that does not answer ends the connection: the client sees it closed.
            if let Ok(server) = TcpStream::connect(target) {
                let both = [&client, &server]
                    .into_iter()
                    .flat_map(TcpStream::try_clone);
                sockets
                    .lock()
                    .expect("no thread panics with the lock")
                    .extend(both);
                let _ = join(&client, &server, one_way, &carried_bytes);
            }
        });
    }
}

/// Carries both directions of a connection.
fn join(
    client: &TcpStream,
    server: &TcpStream,
    one_way: Duration,
    carried_bytes: &Arc<AtomicU64>,
) -> io::Result<()> {
    for (from, to) in [(client, server), (server, client)] {
        // Chunks are sent as they came, or small ones would wait for each other.
        to.set_nodelay(true)?;
        let line = Arc::new(DelayLine::default());
        thread::spawn({
            let (from, line) = (from.try_clone()?, Arc::clone(&line));
            let carried_bytes = Arc::clone(carried_bytes);
            move || fill(&from, &line, one_way, &carried_bytes)
        });
        let (from, to) = (from.try_clone()?, to.try_clone()?);
        thread::spawn(move || {
            empty(&line, &to);
            // Whoever sends must not wait for a receiver that is gone.
            let _ = from.shutdown(Shutdown::Read);
        });
    }
    Ok(())
}

/// Takes what arrives until the end, and notes when it is due.
fn fill(mut from: &TcpStream, line: &DelayLine, one_way: Duration, carried_bytes: &AtomicU64) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        // A connection that breaks has ended, too.
        let count = from.read(&mut buffer).unwrap_or(0);
        carried_bytes.fetch_add(count as u64, Ordering::Relaxed);
        let chunk = Chunk {
            due: Instant::now() + one_way,
            bytes: buffer[..count].to_vec(),
        };
        if !line.push(chunk) || count == 0 {
            return;
        }
    }
}

/// Sends what is due, in order, until the end has arrived.
fn empty(line: &DelayLine, mut to: &TcpStream) {
    loop {
        let chunk = line.pop();
        thread::sleep(chunk.due.saturating_duration_since(Instant::now()));
        if chunk.bytes.is_empty() {
            // Only this direction has ended. The other end may have gone already.
            let _ = to.shutdown(Shutdown::Write);
            return;
        }
        if to.write_all(&chunk.bytes).is_err() {
            line.close();
            return;
        }
    }
}

/// Bytes on the way, and when they arrive. No bytes stand for the end.
struct Chunk {
    due: Instant,
    bytes: Vec<u8>,
}

/// What is on the way in one direction.
#[derive(Default)]
struct DelayLine {
    state: Mutex<LineState>,
    changed: Condvar,
}

#[derive(Default)]
struct LineState {
    chunks: VecDeque<Chunk>,
    size_bytes: usize,
    closed: bool,
}

impl DelayLine {
    /// Puts a chunk at the end, once there is room; false when nobody takes anything any more.
    fn push(&self, chunk: Chunk) -> bool {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                state.size_bytes >= ON_THE_WAY_BYTES && !state.closed
            })
            .expect("no thread panics with the lock");
        state.size_bytes += chunk.bytes.len();
        state.chunks.push_back(chunk);
        self.changed.notify_all();
        !state.closed
    }

    /// Takes the chunk that came first, once there is one.
    fn pop(&self) -> Chunk {
        let mut state = self.lock();
        loop {
            if let Some(chunk) = state.chunks.pop_front() {
                state.size_bytes -= chunk.bytes.len();
                self.changed.notify_all();
                return chunk;
            }
            state = self
                .changed
                .wait(state)
                .expect("no thread panics with the lock");
        }
    }

    fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, LineState> {
        self.state.lock().expect("no thread panics with the lock")
    }
}
