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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::remote::Task;
    use crate::remote::limits::Work;

    /// Notes how long a command may take: at first, and when a megabyte has gone each way.
    struct Timed(Arc<Mutex<Vec<Duration>>>);

    impl Session for Timed {
        fn exec(&mut self, _: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            let limit = |io: &dyn ExecIo| io.time_limit().expect("a task has a limit");
            let mut limits = vec![limit(io)];
            io.sent(1 << 20);
            // The shell prints.
            for _ in 0..8 {
                io.output(&[b'x'; 16 * 1024])?;
            }
            limits.push(limit(io));
            *self.0.lock().expect("nobody panics") = limits;
            Ok(ExecOutcome::default())
        }

        fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
            self.exec("", io)
        }

        fn close(self: Box<Self>) {}
    }

    #[test]
    fn task_has_time_for_its_work_and_for_what_has_gone_over_the_line() {
        let limits = Arc::new(Mutex::new(Vec::new()));
        let mut login = Login::new(Box::new(Timed(Arc::clone(&limits))));
        let mut script = Script::new(Task::Commit, Duration::from_mins(1));
        script.wait(Duration::from_secs(30)).work(Work {
            entries: 1000,
            disk_bytes: 2_000_000_000,
        });
        let answer = login.ask(&script, Vec::new(), Room::for_answer(0));
        assert!(matches!(answer, Err(RemoteError::NoAnswer { .. })));
        let base = 600 + 1000 / 10 + 2_000_000_000 / 2_000_000 + 30 + 60;
        let moved = ((1 << 20) + 8 * 16 * 1024) / 4096;
        let expected = [base, base + moved].map(Duration::from_secs);
        assert_eq!(*limits.lock().expect("nobody panics"), expected);
    }
}
