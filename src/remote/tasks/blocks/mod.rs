//! Prepares large files on a host, and asks for the digests of their blocks.

use std::time::{Duration, Instant};

use crate::model::{Blake3, RemotePath};
use crate::remote::answer::{Kept, TaskRun, last_line};
use crate::remote::limits::{Expected, Work};
use crate::remote::{Login, Room, Script, Task};
use crate::transport::{Aborted, ExecIo, Flow, Input, TransportError};

/// What the host is to prepare.
#[derive(Clone, Debug)]
pub struct BlocksRequest<'a> {
    /// The staging folder.
    pub base: &'a RemotePath,
    /// The folder of this run in it.
    pub run_name: &'a str,
    /// Size of a block in bytes.
    pub block_bytes: u64,
    /// The files.
    pub files: &'a [BlocksFile<'a>],
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

impl BlocksRequest<'_> {
    /// How many blocks a file has.
    fn count(&self, file: &BlocksFile<'_>) -> u64 {
        file.size_bytes.div_ceil(self.block_bytes.max(1))
    }
}

/// A large file.
#[derive(Clone, Copy, Debug)]
pub struct BlocksFile<'a> {
    /// Its digest, which names it in staging.
    pub id: Blake3,
    /// The length that it is to have, in bytes.
    pub size_bytes: u64,
    /// Where it goes: what is there is where its partial begins.
    pub dest: &'a RemotePath,
}

/// What the host has.
#[derive(Clone, Debug)]
pub struct HostBlocks {
    /// By file, the digests of the blocks of its partial, hexadecimal; empty where there is none.
    pub digests: Vec<Vec<String>>,
    /// How long a round trip takes.
    pub round_trip: Duration,
}

/// Why a host has not said what it has of large files.
#[derive(Debug, thiserror::Error)]
pub enum BlocksError {
    /// The connection did not last, or was given up.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The host gave up, for this reason.
    #[error("{0}")]
    Host(String),
    /// It did not answer to the end; this is the last that it said.
    #[error("the host did not say what it has of large files: {0}")]
    NoAnswer(String),
}

/// Has the host prepare its partials, until `is_interrupted` says so.
///
/// # Errors
/// When the connection does not last, or the host does not answer to the end.
pub fn blocks(
    login: &mut Login,
    request: &BlocksRequest<'_>,
    is_interrupted: &dyn Fn() -> bool,
) -> Result<HostBlocks, BlocksError> {
    let mut data = Vec::new();
    for file in request.files {
        data.extend_from_slice(format!("{} {}\n", file.id, file.size_bytes).as_bytes());
        data.extend_from_slice(file.dest.as_bytes());
        data.push(b'\n');
    }
    let total_bytes = request
        .files
        .iter()
        .fold(0_u64, |sum, file| sum.saturating_add(file.size_bytes));
    let blocks: u64 = request.files.iter().map(|file| request.count(file)).sum();
    let mut expected = Expected::of_paths(request.files.iter().map(|file| file.dest.as_bytes()));
    expected.entries += blocks;
    let mut script = Script::new(Task::Blocks, request.stall_timeout);
    script
        .path("hs_base", request.base)
        .text("hs_run", request.run_name.as_bytes())
        .number("hs_block", request.block_bytes)
        .work(Work {
            // A script starts a process for each block.
            entries: expected.entries,
            // Copied, and read.
            disk_bytes: total_bytes.saturating_mul(2),
        })
        .number("hs_files", data.len() as u64);
    let mut io = BlocksIo {
        is_interrupted,
        run: TaskRun::new(
            &script,
            Vec::new(),
            Kept::all(Room::for_answer(expected.answer_bytes())),
        ),
        files: data,
        sent: None,
        round_trip: None,
    };
    let outcome = login.run(&script, &mut io)?;
    if let Some(reason) = io.run.failure() {
        return Err(BlocksError::Host(reason));
    }
    if io.run.end() != Some("ok") {
        return Err(BlocksError::NoAnswer(last_line(&outcome.stderr)));
    }
    let mut digests = vec![Vec::new(); request.files.len()];
    let sections = io.run.sections();
    for section in sections.iter().filter(|section| section.name == "blocks") {
        let index: Option<usize> = section.argument.parse().ok();
        let of_file = index.and_then(|index| digests.get_mut(index).zip(request.files.get(index)));
        if let Some((digests, file)) = of_file {
            // More than the file has are of no use to anybody.
            let count = usize::try_from(request.count(file)).unwrap_or(usize::MAX);
            *digests = section
                .lines()
                .take(count)
                .map(|line| String::from_utf8_lossy(line).into_owned())
                .collect();
        }
    }
    Ok(HostBlocks {
        digests,
        round_trip: io.round_trip.unwrap_or_default(),
    })
}

/// The ends of the task. It sends its input when the task has begun, and so sees how long a round trip
/// takes without how long the task takes to begin.
struct BlocksIo<'a> {
    is_interrupted: &'a dyn Fn() -> bool,
    run: TaskRun,
    /// The input, until it is sent.
    files: Vec<u8>,
    sent: Option<Instant>,
    round_trip: Option<Duration>,
}

impl ExecIo for BlocksIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.sent.is_some() || self.run.section("begun").is_none() {
            return Ok(Input::Wait);
        }
        buffer.append(&mut self.files);
        self.sent = Some(Instant::now());
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        if (self.is_interrupted)() {
            return Err(Aborted("interrupted".into()));
        }
        let flow = self.run.output(bytes)?;
        if self.round_trip.is_none()
            && let Some(sent) = self.sent
            && self.run.section("taken").is_some()
        {
            self.round_trip = Some(sent.elapsed());
        }
        Ok(flow)
    }
}
