//! The programs that run on hosts, and how they get there.
//!
//! Hosts have nothing installed, and the login shell may be any. So the command line is one short
//! line that every shell passes on unchanged. What it starts reads its program from standard input,
//! by length. What the program works on follows on standard input.
//!
//! There are two of a kind, which answer the same. Where the host has perl, it is one process of it,
//! the *agent*: it does one task after the other, for as long as the session lasts, so that all of an
//! apply is one login and one command. Elsewhere it is a script of `sh` for each task.
//!
//! The programs are the files beside this one. They answer in [sections](Section).

mod answer;
mod script;
pub mod tasks;

use std::fmt;
use std::fmt::Write as _;

pub use answer::{ScriptRun, Section, last_line};
pub use script::{Script, Task};

use crate::transport::{Aborted, ExecIo, ExecOutcome, Flow, Input, Session, TransportError};

/// Random text that marks the answers of one task, so that nothing else can be taken for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(String);

impl Nonce {
    /// A new one: 128 bits from the system.
    ///
    /// # Panics
    /// When the system has no randomness, which no supported system lets happen.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the system has randomness");
        Self(bytes.iter().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }))
    }

    /// The text: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

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
        };
        let outcome = if self.has_agent {
            self.session.resume(&mut task)
        } else {
            self.session.exec(&script.command(), &mut task)
        };
        self.has_agent = task.is_paused && outcome.is_ok();
        outcome
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
        let flow = self.io.output(bytes)?;
        self.is_paused = flow == Flow::Pause;
        Ok(flow)
    }

    fn sent(&mut self, bytes: usize) {
        self.io.sent(bytes);
    }
}
