//! Receives an upload into staging: as an SCP stream by the agent or `scp`, or as an archive by `tar`.

pub mod scp;
pub mod stream;
pub mod tar;

use std::cell::Cell;
use std::time::Duration;

use self::scp::ScpUpload;
use self::stream::{StreamError, UploadRecord, UploadReport};
use self::tar::TarUpload;
use crate::model::RemotePath;
use crate::remote::answer::{Kept, TaskRun};
use crate::remote::limits::{Expected, Work};
use crate::remote::{Login, Room, Script, Task};
use crate::transport::{Aborted, ExecIo, Flow, Input, TransportError};

/// The program of the host that receives an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receiver {
    /// The agent, which takes what `scp` takes.
    Agent,
    /// `scp`.
    Scp,
    /// `tar`.
    Tar,
}

/// A folder of a run that an upload goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunFolder {
    /// Files, folders and links on their way into place.
    Staged,
    /// Extents of large files.
    Extents,
}

impl RunFolder {
    /// Its name on the host.
    fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "up",
            Self::Extents => "large",
        }
    }
}

/// Where on a host an upload goes, and what takes it.
#[derive(Clone, Copy, Debug)]
pub struct ReceiveRequest<'a> {
    /// The staging folder.
    pub base: &'a RemotePath,
    /// The folder of this run in it.
    pub run_name: &'a str,
    /// The folder in that one.
    pub folder: RunFolder,
    /// Size of a block of a large file in bytes.
    pub block_bytes: u64,
    /// The program that takes it.
    pub receiver: Receiver,
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

/// Who follows an upload.
#[derive(Clone, Copy)]
pub struct Followers<'a> {
    /// Told how many more bytes of content the host has begun to take.
    pub sent: &'a dyn Fn(u64),
    /// Whether the upload is to stop.
    pub is_interrupted: &'a dyn Fn() -> bool,
}

/// Why an upload did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The connection did not last.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The stream was not taken as a whole.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The task gave up before the stream began, for this reason.
    #[error("{0}")]
    Host(String),
    /// It was told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// Uploads some records.
///
/// # Errors
/// When the host has not taken all of them.
pub fn receive(
    login: &mut Login,
    request: &ReceiveRequest<'_>,
    records: Vec<UploadRecord>,
    followers: Followers<'_>,
) -> Result<(), ReceiveError> {
    let with = match request.receiver {
        Receiver::Agent | Receiver::Scp => "scp",
        Receiver::Tar => "tar",
    };
    let mut script = Script::new(Task::Receive, request.stall_timeout);
    script
        .path("hs_base", request.base)
        .text("hs_run", request.run_name.as_bytes())
        .text("hs_into", request.folder.as_str().as_bytes())
        .number("hs_block", request.block_bytes)
        .text("hs_with", with.as_bytes());
    let expected = Expected {
        entries: records.len() as u64,
        ..Expected::default()
    };
    // What the bytes take, the line takes: they are written as they arrive.
    script.work(Work {
        entries: expected.entries,
        disk_bytes: 0,
    });
    let read_bytes = Cell::new(0);
    let mut io = ReceiveIo {
        followers,
        stream: Stream::new(
            request.receiver,
            script.nonce().as_str(),
            records,
            &read_bytes,
        ),
        read_bytes: &read_bytes,
        early: TaskRun::new(
            &script,
            Vec::new(),
            Kept::only(&["fail"], Room::for_answer(expected.answer_bytes())),
        ),
    };
    let outcome = login.run(&script, &mut io);
    // What was on its way when the connection broke may have arrived.
    io.count();
    if (followers.is_interrupted)() {
        return Err(ReceiveError::Interrupted);
    }
    if let Some(reason) = io.early.failure() {
        return Err(ReceiveError::Host(reason));
    }
    match (io.stream.finish(), outcome) {
        // Its own account of what went wrong says more than that it gave up.
        (Err(error), Ok(_) | Err(TransportError::Aborted(_))) => Err(error.into()),
        (_, Err(error)) => Err(error.into()),
        (Ok(_), Ok(_)) => Ok(()),
    }
}

/// What a complaint of a receiver says behind the folder of the run that it names, if it names one. `scp` and
/// `tar` work in that folder.
pub fn without_run_folder<'t>(complaint: &'t str, base: &RemotePath, run_name: &str) -> &'t str {
    if let Some(below) = complaint.strip_prefix("./") {
        return below;
    }
    let below = complaint.strip_prefix(&format!("{base}/{run_name}/"));
    below.map_or(complaint, |below| {
        let folders = [RunFolder::Staged, RunFolder::Extents];
        let mut below_folder = folders.iter().filter_map(|folder| {
            let below = below.strip_prefix(folder.as_str())?;
            below.strip_prefix('/')
        });
        below_folder.next().unwrap_or(below)
    })
}

/// An upload, as its receiver takes it.
enum Stream<'a> {
    Scp(ScpUpload<'a>),
    Tar(TarUpload<'a>),
}

impl<'a> Stream<'a> {
    fn new(
        receiver: Receiver,
        nonce: &str,
        records: Vec<UploadRecord>,
        read_bytes: &'a Cell<u64>,
    ) -> Self {
        let count = |bytes| read_bytes.set(read_bytes.get() + bytes);
        let scp = |records| ScpUpload::new(nonce, records).on_progress(count);
        match receiver {
            Receiver::Agent => Self::Scp(scp(records).with_open_end()),
            Receiver::Scp => Self::Scp(scp(records)),
            Receiver::Tar => Self::Tar(TarUpload::new(nonce, records).on_progress(count)),
        }
    }

    fn io(&mut self) -> &mut (dyn ExecIo + 'a) {
        match self {
            Self::Scp(upload) => upload,
            Self::Tar(upload) => upload,
        }
    }

    fn finish(self) -> Result<UploadReport, StreamError> {
        match self {
            Self::Scp(upload) => upload.finish(),
            Self::Tar(upload) => upload.finish(),
        }
    }
}

/// The ends of the task. They stop when the run is interrupted.
struct ReceiveIo<'a> {
    followers: Followers<'a>,
    stream: Stream<'a>,
    /// Bytes of content that were read for what is being sent.
    read_bytes: &'a Cell<u64>,
    /// Reads along, for the case that the task gives up before the stream begins.
    early: TaskRun,
}

impl ReceiveIo<'_> {
    /// Counts content alone, without what is around it. It is handed on in small portions, and one that
    /// the host has begun to take counts as a whole.
    fn count(&self) {
        let sent_bytes = self.read_bytes.take();
        if sent_bytes > 0 {
            (self.followers.sent)(sent_bytes);
        }
    }
}

impl ExecIo for ReceiveIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if (self.followers.is_interrupted)() {
            return Err(Aborted("interrupted".into()));
        }
        self.stream.io().next_input(buffer)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        // Both look for the end: of the stream, or of a task that never came to it.
        let flow = self.early.output(bytes)?;
        self.stream.io().output(bytes)?;
        Ok(flow)
    }

    fn time_limit(&self) -> Option<Duration> {
        self.early.time_limit()
    }

    fn sent(&mut self, bytes: usize) {
        self.stream.io().sent(bytes);
        self.count();
    }
}
