//! Commands on one host, one after the other.

use std::time::Duration;

use rustix::event::PollFlags;
use ssh2::Channel;

use super::connection::Connection;
use super::error::{CallError, broken_by, would_block};
use super::exec::{Ending, Exec, FAREWELL, STARTING, STARTING_BROKE, see_out};
use crate::transport::deadline::Deadline;
use crate::transport::{ExecIo, ExecOutcome, Session, TransportError};

/// How long a command that was left may take to end before the next is started. It is waited for,
/// since dropbear may never start a command on a channel that was opened before both sides had
/// closed the one before.
const MOMENT: Duration = Duration::from_secs(2);

/// How long it may take at the very most to put away all commands before the next.
const PUTTING_AWAY: Duration = Duration::from_secs(30);

/// A login over libssh2.
pub(super) struct Libssh2Session {
    /// Channels that we have closed and the host has not.
    retired: Vec<Channel>,
    /// A command of which nothing further is of interest.
    left: Option<Channel>,
    /// A command that waits for input.
    paused: Option<Channel>,
    connection: Connection,
    stall_timeout: Duration,
}

impl Libssh2Session {
    /// A session on a connection that is logged in.
    pub(super) fn new(connection: Connection, stall_timeout: Duration) -> Self {
        Self {
            retired: Vec::new(),
            left: None,
            paused: None,
            connection,
            stall_timeout,
        }
    }

    /// Opens a channel and asks for the command to be run; says whether the host has agreed.
    fn start(&self, command: &str) -> Result<(Channel, bool), TransportError> {
        let wire = self.connection.wire();
        let deadline = Deadline::after(self.stall_timeout, "stall_timeout");
        let failed = |error: CallError| match error {
            CallError::Deadline => deadline.exceeded(STARTING),
            CallError::Failed(error) => broken_by(STARTING_BROKE, &error),
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

impl Session for Libssh2Session {
    fn exec(&mut self, command: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        let watchdog = &self.connection.wire().watchdog;
        watchdog.watch(self.stall_timeout.saturating_add(PUTTING_AWAY));
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
        wire.watchdog.watch(FAREWELL);
        // A host that is gone does not need a farewell.
        let _ = wire.drive(&deadline, || wire.session.disconnect(None, "done", None));
    }
}

impl Libssh2Session {
    /// Moves bytes between a running command and `io`.
    fn carry(
        &mut self,
        channel: Channel,
        has_started: bool,
        io: &mut dyn ExecIo,
    ) -> Result<ExecOutcome, TransportError> {
        let mut exec = Exec::new(self.connection.wire(), channel, has_started, io);
        let mut ended = exec.run(self.stall_timeout);
        let watchdog = &self.connection.wire().watchdog;
        if matches!(ended, Err(TransportError::Broken { .. })) && watchdog.bite().is_some() {
            ended = Err(exec.overdue());
        }
        watchdog.watch(FAREWELL);
        let is_left_in_order =
            matches!(ended, Ok(_) | Err(TransportError::Aborted(_))) && exec.settle();
        let (channel, stderr) = exec.into_parts();
        match &ended {
            Ok(Ending::Paused) => self.paused = Some(channel),
            Ok(Ending::Left) if is_left_in_order => self.left = Some(channel),
            _ if is_left_in_order => self.retire(channel),
            _ => self.connection.hang_up(),
        }
        self.connection.wire().watchdog.rest();
        Ok(ExecOutcome {
            exit_status: match ended? {
                Ending::Ended(status) => status,
                Ending::Left | Ending::Paused => None,
            },
            stderr,
        })
    }
}

impl Drop for Libssh2Session {
    fn drop(&mut self) {
        // Before the channels: dropping them must find no socket to wait for.
        self.connection.hang_up();
    }
}
