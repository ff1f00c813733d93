//! A login, and the agent that may run there.

use std::fmt;
use std::time::Duration;

use super::answer::{Kept, TaskRun};
use super::bootstrap::Script;
use super::error::{RemoteError, check_end};
use super::limits::{Room, time_for_line};
use crate::transport::{Aborted, ExecIo, ExecOutcome, Flow, Input, Session, TransportError};

/// A login on a host, and the agent that may run there.
pub struct Login {
    session: Box<dyn Session>,
    has_agent: bool,
}

impl Login {
    /// A login on which nothing runs yet.
    pub fn new(session: Box<dyn Session>) -> Self {
        Self {
            session,
            has_agent: false,
        }
    }

    /// Whether an agent waits there for its next task.
    pub fn has_agent(&self) -> bool {
        self.has_agent
    }

    /// Runs a script: by the agent that waits, else by a new command. `io` gives what follows the
    /// script on standard input, and takes the answer.
    ///
    /// # Errors
    /// As [`Session::exec`].
    pub fn run(
        &mut self,
        script: &Script,
        io: &mut dyn ExecIo,
    ) -> Result<ExecOutcome, TransportError> {
        let mut task = TaskIo {
            head: if self.has_agent {
                script.request()
            } else {
                script.to_bytes()
            },
            io,
            is_paused: false,
            limit: script.time_limit(),
            moved_bytes: 0,
        };
        let outcome = if self.has_agent {
            self.session.resume(&mut task)
        } else {
            self.session.exec(&script.command(), &mut task)
        };
        self.has_agent = task.is_paused && outcome.is_ok();
        outcome
    }

    /// Runs a script that works on `data`, whose length it has to know, and gathers its answer, for which
    /// there is this room.
    ///
    /// # Errors
    /// When the connection does not last, or the answer does not come to its end.
    pub(super) fn ask(
        &mut self,
        script: &Script,
        data: Vec<u8>,
        room: Room,
    ) -> Result<TaskRun, RemoteError> {
        let mut run = TaskRun::new(script, data, Kept::all(room));
        let outcome = self.run(script, &mut run)?;
        check_end(&run, &outcome)?;
        Ok(run)
    }

    /// Logs out. Never blocks for longer than a second.
    pub fn close(self) {
        self.session.close();
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login")
            .field("has_agent", &self.has_agent)
            .finish_non_exhaustive()
    }
}

/// A script, and then what it works on.
struct TaskIo<'a> {
    head: Vec<u8>,
    io: &'a mut dyn ExecIo,
    is_paused: bool,
    /// What it may take without what goes over the line.
    limit: Duration,
    /// What has gone over the line, in both directions.
    moved_bytes: u64,
}

impl ExecIo for TaskIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.head.is_empty() {
            return self.io.next_input(buffer);
        }
        buffer.append(&mut self.head);
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        self.moved_bytes += bytes.len() as u64;
        let flow = self.io.output(bytes)?;
        self.is_paused = flow == Flow::Pause;
        Ok(flow)
    }

    fn sent(&mut self, bytes: usize) {
        self.moved_bytes += bytes as u64;
        self.io.sent(bytes);
    }

    fn time_limit(&self) -> Option<Duration> {
        let limit = self.limit.max(self.io.time_limit().unwrap_or_default());
        Some(limit.saturating_add(time_for_line(self.moved_bytes)))
    }
}
