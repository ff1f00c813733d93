//! What can be wrong with a host, on purpose.
//!
//! A fault is tied to what goes over the line and never to the clock: the same bytes meet the same
//! fault.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The connection ends after so many bytes of TCP payload in one direction, counted over all
    /// connections since the fault was set. These bytes still arrive.
    Cut {
        /// Which way the bytes go that count.
        direction: Direction,
        /// After how many of them it happens.
        after_bytes: u64,
        /// What becomes of further connections.
        then: Then,
    },
    /// From there on nothing moves in either direction, and the connection stays open.
    Stall {
        /// Which way the bytes go that count.
        direction: Direction,
        /// After how many of them it happens.
        after_bytes: u64,
        /// What becomes of further connections.
        then: Then,
    },
    /// The host takes what it is sent and does not answer any more.
    HangAt(Moment),
    /// Channels have a window of so many bytes, and packets of at most half of it.
    Window {
        /// Size of the window.
        size_bytes: u32,
    },
    /// Keys are exchanged anew after so many bytes, in either direction.
    RekeyEvery {
        /// After how many bytes.
        size_bytes: usize,
    },
    /// Commands end without an exit status.
    LoseExitStatus,
    /// Commands begin with so many bytes on standard error.
    FloodStderr {
        /// How many bytes.
        size_bytes: u64,
    },
    /// The login shell prints this before a command, and that behind it.
    Noise {
        /// What is printed before a command.
        before: Vec<u8>,
        /// What is printed behind it.
        after: Vec<u8>,
    },
    /// The login shell prints without end.
    EndlessNoise,
    /// Lines come without end where the greeting of an SSH server should: as fast as they are taken, or one
    /// now and then.
    JunkGreeting(Pace),
    /// A command answers that there is something to be seen, and then says this line without end, in which
    /// `NONCE` is the nonce of its task.
    EndlessAnswer {
        /// The line.
        line: String,
    },
    /// A command does nothing, and now and then a byte comes from it.
    Drip(Stream),
    /// The tools for digests give a wrong answer for every file, and right ones for all else.
    WrongHash,
    /// The acknowledgement of this number, counted from 0, is lost on its way from an SCP sink.
    DropAck {
        /// Its number.
        number: u64,
    },
    /// The processes of a command are killed when they change an entry of the file system for so many
    /// times, counted from 1 over all commands since the fault was set; what is written into files does
    /// not count.
    DieAtCall {
        /// The number of the call.
        number: u64,
    },
    /// There is no perl, so that scripts of `sh` have to do.
    NoPerl,
    /// Commands are not killed when the connection ends: they find out, as under `sshd`.
    CommandsOutliveConnection,
}

/// How fast bytes come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as they are taken.
    Flood,
    /// Now and then.
    Drip,
}

/// An output of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Its answer.
    Output,
    /// Its complaints.
    Errors,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the host.
    ToHost,
    /// From the host to the client.
    ToClient,
}

/// What becomes of further connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// They are served, as if nothing had been.
    Back,
    /// They end, or stall, from the beginning.
    Gone,
}

/// When a host falls silent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// The connection is accepted, and no SSH server greets.
    Greeting,
    /// It is asked whether a password is right.
    Login,
    /// A channel is to be opened.
    Channel,
    /// A command is to be run.
    Command,
}

/// The faults of a host, and how far they have come.
#[derive(Debug, Default)]
pub(super) struct Faults {
    list: Vec<Fault>,
    passed_bytes: [AtomicU64; 2],
    /// Whether the connection has been cut or has stalled.
    is_spent: AtomicBool,
}

impl Faults {
    pub(super) fn new(list: Vec<Fault>) -> Self {
        Self {
            list,
            ..Self::default()
        }
    }

    pub(super) fn has(&self, fault: &Fault) -> bool {
        self.list.contains(fault)
    }

    /// What the first fault has that `pick` takes.
    pub(super) fn find<'a, T>(&'a self, pick: impl Fn(&'a Fault) -> Option<T>) -> Option<T> {
        self.all(pick).next()
    }

    /// What those faults have that `pick` takes.
    pub(super) fn all<'a, T>(
        &'a self,
        pick: impl Fn(&'a Fault) -> Option<T>,
    ) -> impl Iterator<Item = T> {
        self.list.iter().filter_map(pick)
    }

    /// Whether the connection has been cut or has stalled.
    pub(super) fn is_spent(&self) -> bool {
        self.is_spent.load(Ordering::Acquire)
    }

    pub(super) fn passed_bytes(&self, direction: Direction) -> u64 {
        self.passed_bytes[direction as usize].load(Ordering::Acquire)
    }

    /// How further connections end from the beginning, if they do.
    pub(super) fn gone(&self) -> Option<End> {
        let gone = self.find(|fault| match fault {
            Fault::Cut { then, .. } if *then == Then::Gone => Some(End::Cut),
            Fault::Stall { then, .. } if *then == Then::Gone => Some(End::Stall),
            _ => None,
        });
        gone.filter(|_| self.is_spent())
    }

    /// Lets so many bytes pass, or as many as there are before something happens.
    pub(super) fn pass(&self, direction: Direction, count: usize) -> Passage {
        let passed = &self.passed_bytes[direction as usize];
        // Only one connection at a time has a fault, so nobody else counts.
        let before = passed.load(Ordering::Acquire);
        let left = |after_bytes: u64| {
            usize::try_from(after_bytes.saturating_sub(before)).unwrap_or(usize::MAX)
        };
        let end = self.find(|fault| match fault {
            Fault::Cut {
                direction: faulty,
                after_bytes,
                ..
            } if *faulty == direction => Some((left(*after_bytes), End::Cut)),
            Fault::Stall {
                direction: faulty,
                after_bytes,
                ..
            } if *faulty == direction => Some((left(*after_bytes), End::Stall)),
            _ => None,
        });
        let end = end.filter(|(left, _)| *left <= count && !self.is_spent());
        let count = end.map_or(count, |(left, _)| left);
        passed.fetch_add(count as u64, Ordering::AcqRel);
        if end.is_some() {
            self.is_spent.store(true, Ordering::Release);
        }
        Passage {
            count,
            end: end.map(|(_, end)| end),
        }
    }
}

/// What may pass.
pub(super) struct Passage {
    pub(super) count: usize,
    /// What happens then.
    pub(super) end: Option<End>,
}

/// How a connection goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Cut,
    Stall,
}
