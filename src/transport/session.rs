//! What a connection to a host can do, whoever makes it.

use std::time::Duration;

use super::{Aborted, TransportError};
use crate::config::Host;

/// How long a command may take of which nobody says how long it may.
pub(super) const USUAL_TIME_LIMIT: Duration = Duration::from_hours(1);

/// Logs in to hosts.
pub trait Connector: Sync {
    /// Connects, checks the host key and logs in.
    ///
    /// # Errors
    /// When any of these fails or takes longer than its time-out.
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError>;
}

/// A login on one host. Used by one thread at a time.
pub trait Session: Send {
    /// Runs one command and feeds it through `io` until it ends, or until `io` has seen enough. A
    /// command that was [paused](Flow::Pause) before is left first.
    ///
    /// Standard error is read all the while; its last 64 KiB are in the outcome.
    ///
    /// # Errors
    /// When the connection breaks, nothing moves for the stall time-out, the time limit of `io` is over, or
    /// `io` gives up.
    fn exec(&mut self, command: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError>;

    /// Goes on with the command that was [paused](Flow::Pause), with other ends.
    ///
    /// # Errors
    /// As [`exec`](Self::exec); also when there is no such command.
    fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError>;

    /// Logs out. Never blocks for longer than a second.
    fn close(self: Box<Self>);
}

/// How a command ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecOutcome {
    /// The end of what it wrote to standard error.
    pub stderr: Vec<u8>,
    /// Its exit status, where one came. Not to be relied upon for success: hosts lose it.
    pub exit_status: Option<i32>,
}

/// What [`ExecIo::next_input`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// There are bytes in the buffer.
    Ready,
    /// None now; ask again after more output has come.
    Wait,
    /// None any more: standard input is to be closed. Not asked again.
    End,
}

/// How [`ExecIo::output`] wants to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// There is more to come.
    Continue,
    /// The command waits for input of which there is none yet. It is kept for
    /// [`Session::resume`]. All input was taken, and no further output is to come before that.
    Pause,
    /// Nothing further is of interest: the command is left without waiting for its end.
    Leave,
}

/// The two ends of a running command, as seen from here.
pub trait ExecIo {
    /// Appends the next bytes of standard input to `buffer`, which is empty; 32 KiB to 256 KiB at
    /// once are best. Called whenever earlier bytes have been taken.
    ///
    /// # Errors
    /// To end the command at once.
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted>;

    /// Takes bytes of standard output, and says how to go on.
    ///
    /// # Errors
    /// To end the command at once.
    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted>;

    /// Told how many bytes of input the host has taken since the last call.
    fn sent(&mut self, _bytes: usize) {}

    /// How long the command may take at the very most, from [`Session::exec`] or [`Session::resume`] on and
    /// however lively it is. Asked again and again, since it may grow with what the host does. `None` where
    /// nobody knows; an hour then.
    fn time_limit(&self) -> Option<Duration> {
        None
    }
}
