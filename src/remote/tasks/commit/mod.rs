//! Verifies what is staged and moves it into place.

mod step;

use std::collections::HashMap;
use std::time::Duration;

pub use self::step::{ChmodExpected, FolderStat, NewGroup, NewOwner, Step, StepAt};
use crate::model::{Blake3, Mode, RemotePath};
use crate::remote::answer::{Kept, Section, TaskRun, last_line};
use crate::remote::limits::{Expected, Work};
use crate::remote::{Login, Room, Script, StatTuple, Task, seconds_of};
use crate::transport::TransportError;

/// What a host is to verify and to do.
#[derive(Clone, Copy, Debug)]
pub struct CommitRequest<'a> {
    /// Folder of ours on the host, where the listing is kept.
    pub home: &'a RemotePath,
    /// The staging folders.
    pub bases: &'a [RemotePath],
    /// The folder of this run in each of them.
    pub run_name: &'a str,
    /// By mapping, its destination.
    pub roots: &'a [&'a RemotePath],
    /// Indices of the mappings below folders that others may change.
    pub trusted: &'a [usize],
    /// By mapping, the number of its staging folder.
    pub base_of: &'a [usize],
    /// Serial of this apply, which names its folder of backups.
    pub serial: u64,
    /// How many such folders are kept.
    pub backups: u32,
    /// How long to wait for another run that commits on this host.
    pub wait: Duration,
    /// Size of a block of a large file in bytes.
    pub block_bytes: u64,
    /// The steps.
    pub steps: &'a [StepAt],
    /// All files that are staged, in the order of their staging folders.
    pub staged: &'a [StagedFile],
    /// Of these, the ones that came in blocks.
    pub large: &'a [LargeStagedFile],
    /// Bytes that all files together have.
    pub staged_bytes: u64,
    /// The listing that the host is to keep.
    pub listing: &'a NewListing,
    /// How long the session waits for a sign of life.
    pub stall_timeout: Duration,
}

/// A file that is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedFile {
    /// Number of its staging folder.
    pub base: usize,
    /// Where it is staged: the number of the mapping and the path below it.
    pub path: Vec<u8>,
    /// Its digest, hexadecimal, in the algorithm of the host.
    pub digest: String,
}

/// A staged file that came in blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LargeStagedFile {
    /// Number of its staging folder.
    pub base: usize,
    /// Where it is staged: the number of the mapping and the path below it.
    pub path: Vec<u8>,
    /// Names its partial.
    pub id: Blake3,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Its permission bits in staging.
    pub mode: Mode,
    /// Its modification time in seconds since 1970.
    pub mtime: u64,
    /// Whether the partial is still needed for another file.
    pub is_copied: bool,
}

/// What the new listing is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingScope {
    /// Everything is looked at.
    All,
    /// Some is looked at, the rest is as in the listing that the host keeps.
    Part,
    /// No listing is kept.
    Nothing,
}

impl ListingScope {
    /// As the programs of the host spell it.
    fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Part => "part",
            Self::Nothing => "nothing",
        }
    }
}

/// The listing that a host is to make after its steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewListing {
    /// What it is made of.
    pub scope: ListingScope,
    /// Digest that the listing that the host keeps must have; empty where there is none.
    pub kept: String,
    /// What is looked at for it.
    pub paths: Vec<RemotePath>,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq)]
pub enum StepOutcome {
    /// It was taken.
    Done {
        /// When that changed the entry, in seconds since 1970, by the host's clock.
        changed: Option<f64>,
    },
    /// The entry is no longer as expected, and was not touched.
    Moved,
    /// The folder holds something of somebody else, and stays.
    Spared,
    /// It failed, for this reason.
    Refused(String),
}

/// What a host has done.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CommitAnswer {
    /// Name of the folder that has the backups.
    pub backup: Option<String>,
    /// By number of the step. One that is missing was not answered.
    pub steps: HashMap<usize, StepOutcome>,
    /// When the first visible step began, in seconds since 1970, by the host's clock.
    pub begun: Option<f64>,
    /// What was looked at for the new listing.
    pub listed: Vec<(StatTuple, Vec<u8>)>,
    /// Whether the rest of the listing is as it was before.
    pub is_part: bool,
    /// Digest of the new listing; `None` where none is kept.
    pub digest: Option<String>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The connection did not last. What has been done is not known.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// The answer has no end, and this was said last. What has been done is not known.
    #[error("the host did not answer to the end{}{said}", if .said.is_empty() { "" } else { ": " })]
    Unfinished {
        /// The last line on standard error.
        said: String,
    },
    /// The task gave up.
    #[error("{0}")]
    Host(String),
    /// Files arrived damaged, or not at all: their staged paths. Nothing was changed.
    #[error("what arrived is not what was sent")]
    Unverified(Vec<Vec<u8>>),
    /// Another run is committing on the host: its process there. Nothing was changed.
    #[error("another run is committing on this host (process {0} there)")]
    Locked(String),
    /// The program died, and this was said last.
    #[error("the commit ended early: {0}")]
    Died(String),
}

/// Has a host verify and move into place.
///
/// # Errors
/// When nothing was changed, or when it is not known what was.
pub fn commit(login: &mut Login, request: &CommitRequest<'_>) -> Result<CommitAnswer, CommitError> {
    let expected = request.expected();
    let mut script = Script::new(Task::Commit, request.stall_timeout);
    script
        .path("hs_home", request.home)
        .text("hs_run", request.run_name.as_bytes())
        .number("hs_bases", request.bases.len() as u64);
    for (index, base) in request.bases.iter().enumerate() {
        script.path(&format!("hs_base_{index}"), base);
    }
    script.number("hs_mappings", request.roots.len() as u64);
    script.trust(request.trusted);
    for (index, (root, base)) in request.roots.iter().zip(request.base_of).enumerate() {
        script.path(&format!("hs_root_{index}"), root);
        script.number(&format!("hs_at_{index}"), *base as u64);
    }
    script
        .number("hs_serial", request.serial)
        .number("hs_backups", u64::from(request.backups))
        .wait(request.wait)
        .work(Work {
            entries: expected.entries,
            // Read to be verified; and what is replaced may have to be copied.
            disk_bytes: request.staged_bytes.saturating_mul(2),
        })
        .text("hs_keep", request.listing.scope.as_str().as_bytes())
        .text("hs_listing", request.listing.kept.as_bytes())
        .number("hs_block", request.block_bytes);
    let (staged, sums) = encode_staged(request.staged);
    let parts = [
        ("hs_intent", step::encode(request.steps)),
        ("hs_staged", staged),
        ("hs_sums", sums),
        ("hs_paths", encode_paths(&request.listing.paths)),
        ("hs_large", encode_large(request.large)),
    ];
    let mut data = Vec::new();
    for (name, part) in parts {
        script.number(name, part.len() as u64);
        data.extend(part);
    }
    let room = Room::for_answer(expected.answer_bytes());
    let mut run = TaskRun::new(&script, data, Kept::all(room));
    let outcome = login.run(&script, &mut run)?;
    if !run.has_ended() {
        let said = last_line(&outcome.stderr);
        return Err(CommitError::Unfinished { said });
    }
    let section = |name: &str| run.section(name);
    if let Some(reason) = run.failure() {
        return Err(CommitError::Host(reason));
    }
    if let Some(names) = section("unverified") {
        let names = names.lines().map(<[u8]>::to_vec);
        return Err(CommitError::Unverified(names.collect()));
    }
    if let Some(locked) = section("locked") {
        return Err(CommitError::Locked(last_line(&locked.body)));
    }
    if run.end() != Some("ok") {
        return Err(CommitError::Died(last_line(&outcome.stderr)));
    }
    let mut answer = CommitAnswer {
        digest: section("digest").map(|digest| last_line(&digest.body)),
        ..CommitAnswer::default()
    };
    if let Some(steps) = section("steps") {
        answer.backup = Some(steps.argument.clone()).filter(|name| !name.is_empty());
        read_steps(steps, request.steps.len(), &mut answer);
    }
    if let Some(listing) = section("listing") {
        answer.is_part = listing.argument == ListingScope::Part.as_str();
        let line = |line| StatTuple::from_line(line).map(|(stat, path)| (stat, path.to_vec()));
        answer.listed = listing.lines().filter_map(line).collect();
    }
    Ok(answer)
}

impl CommitRequest<'_> {
    /// All that the answer may speak of.
    fn expected(&self) -> Expected {
        let steps = self.steps.iter().map(|step| step.path.as_bytes());
        let staged = self.staged.iter().map(|file| file.path.as_slice());
        let listed = self.listing.paths.iter().map(RemotePath::as_bytes);
        Expected::of_paths(steps.chain(staged).chain(listed))
    }
}

/// The staged files by name, and their digests in the same order.
fn encode_staged(files: &[StagedFile]) -> (Vec<u8>, Vec<u8>) {
    let (mut names, mut sums) = (Vec::new(), Vec::new());
    for StagedFile { base, path, digest } in files {
        names.extend([format!("{base} ").as_bytes(), path, b"\n"].concat());
        sums.extend([digest.as_bytes(), b"\n"].concat());
    }
    (names, sums)
}

fn encode_paths(paths: &[RemotePath]) -> Vec<u8> {
    let mut lines = Vec::new();
    for path in paths {
        lines.extend_from_slice(path.as_bytes());
        lines.push(b'\n');
    }
    lines
}

fn encode_large(files: &[LargeStagedFile]) -> Vec<u8> {
    let mut lines = Vec::new();
    for file in files {
        let LargeStagedFile {
            base,
            path,
            id,
            size_bytes,
            mode,
            mtime,
            is_copied,
        } = file;
        let how = if *is_copied { "copy" } else { "move" };
        let head = format!("{base} {id} {size_bytes} {mode} {mtime} {how}\n");
        lines.extend([head.as_bytes(), path, b"\n"].concat());
    }
    lines
}

fn read_steps(section: &Section, count: usize, answer: &mut CommitAnswer) {
    for line in section.lines() {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let (what, number) = (words.next(), words.next());
        let number: Option<usize> = number.and_then(|number| number.parse().ok());
        // What nobody asked about is no answer.
        let number = number.filter(|number| *number < count);
        let rest = words.next();
        let outcome = match (what, number) {
            (Some("begun"), None) => {
                answer.begun = rest.and_then(seconds_of);
                continue;
            }
            (Some("done"), Some(_)) => StepOutcome::Done {
                changed: rest.and_then(seconds_of),
            },
            (Some("moved"), Some(_)) => StepOutcome::Moved,
            (Some("spared"), Some(_)) => StepOutcome::Spared,
            (Some("refused"), Some(_)) => {
                let reason = rest.unwrap_or("the host gave no reason");
                StepOutcome::Refused(reason.to_owned())
            }
            _ => {
                tracing::debug!("step: {line}");
                continue;
            }
        };
        answer.steps.extend(number.map(|number| (number, outcome)));
    }
}
