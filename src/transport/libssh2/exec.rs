//! A command while it runs.

use std::io::{self, Read as _, Write as _};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use ssh2::Channel;

use super::connection::Wire;
use super::error::{broken_by, would_block};
use crate::transport::deadline::Deadline;
use crate::transport::session::USUAL_TIME_LIMIT;
use crate::transport::{ExecIo, Flow, Input, TransportError, plain_reason};

/// How much of standard error is kept.
const STDERR_KEPT_BYTES: usize = 64 * 1024;

/// How much of standard error is taken at all: half a million complaints.
const STDERR_BYTES: usize = 64 * 1024 * 1024;

/// What one read asks for at most; also a whole packet of most servers twice.
const READ_BYTES: usize = 64 * 1024;

/// Reads of one stream in a row before input gets its turn again.
const READS_IN_A_ROW: usize = 16;

/// How long a farewell may take.
pub(super) const FAREWELL: Duration = Duration::from_secs(1);

/// What takes too long when a command does not start.
pub(super) const STARTING: &str = "starting a command";

/// When the connection breaks as a command is started.
pub(super) const STARTING_BROKE: &str = "while starting a command";

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
pub(super) enum Ending {
    /// It ended; its exit status, where one came.
    Ended(Option<i32>),
    /// Nothing further is of interest.
    Left,
    /// It waits for more input.
    Paused,
}

/// A command while it runs.
pub(super) struct Exec<'a> {
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
    begun: Instant,
    /// How long it may take, as far as is known by now.
    limit: Duration,
}

impl<'a> Exec<'a> {
    /// A command that was asked for on `channel`.
    pub(super) fn new(
        wire: &'a Wire,
        channel: Channel,
        has_started: bool,
        io: &'a mut dyn ExecIo,
    ) -> Self {
        Self {
            wire,
            channel,
            has_started,
            io,
            pending: Vec::new(),
            taken: 0,
            is_write_blocked: false,
            feed: Feed::Open,
            stderr: Tail::default(),
            buffer: vec![0; READ_BYTES],
            begun: Instant::now(),
            limit: Duration::ZERO,
        }
    }

    /// Its channel, and the end of what it wrote to standard error.
    pub(super) fn into_parts(self) -> (Channel, Vec<u8>) {
        (self.channel, self.stderr.into_bytes())
    }

    /// Moves bytes until the command ends, is paused or is left.
    pub(super) fn run(&mut self, stall_timeout: Duration) -> Result<Ending, TransportError> {
        let mut stall = Deadline::after(stall_timeout, "stall_timeout");
        let mut fruitless_wakeups = 0_u32;
        let mut looked_twice = false;
        loop {
            self.keep_time()?;
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

    /// Ends a command that takes too long, however lively it is. The watchdog learns how long that is: it
    /// sees to what does not come back here.
    fn keep_time(&mut self) -> Result<(), TransportError> {
        let limit = self.io.time_limit().unwrap_or(USUAL_TIME_LIMIT);
        let elapsed = self.begun.elapsed();
        if limit != self.limit {
            self.limit = limit;
            self.wire.watchdog.watch(limit.saturating_sub(elapsed));
        }
        if elapsed > limit {
            return Err(self.overdue());
        }
        Ok(())
    }

    /// The error of a command that takes too long.
    pub(super) fn overdue(&self) -> TransportError {
        TransportError::Overdue { limit: self.limit }
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
    pub(super) fn settle(&mut self) -> bool {
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
pub(super) fn see_out(wire: &Wire, channel: &mut Channel, deadline: &Deadline) {
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
