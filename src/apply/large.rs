//! Getting large files onto a host.
//!
//! The host prepares a *partial* of each: what an earlier attempt has left of it, else a copy of what
//! is in its place, else nothing. It answers the digests of the partial's blocks, and the blocks that
//! differ are sent as *extents*. So delta, and going on after a cut, are one thing. Nothing of it has
//! to be believed: the commit verifies the whole file as it does any other.

use std::collections::HashMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicIsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use rayon::prelude::*;
use sha2::Digest as _;

use super::blocks::{Attempts, LargeFiles, missing, split};
use super::explain;
use super::failure::{ApplyError, HostFailure, UploadError};
use super::job::{Job, entry_of_staged};
use super::link::HostLink;
use super::staged::{Origin, Staged, StagedTree};
use super::staging::UploadTarget;
use super::transfer::transfer;
use crate::model::{Blake3, Kind, LocalPath, Mode, Phase, RemotePath, Sha256};
use crate::remote::tasks::blocks::{BlocksError, BlocksFile, BlocksRequest, HostBlocks, blocks};
use crate::remote::tasks::receive::RunFolder;
use crate::remote::tasks::receive::stream::{Content, UploadRecord};
use crate::remote::{Algorithm, Login};

/// A large file that a host is to have, once however often it is staged.
pub(super) struct LargeFile<'a> {
    id: Blake3,
    size_bytes: u64,
    source: &'a LocalPath,
    /// Where it goes; where a file is already, if it goes to several places and one of them has one.
    dest: RemotePath,
    /// Whether a file is there.
    is_update: bool,
}

impl LargeFile<'_> {
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }
}

/// The large files of a staging folder.
pub(super) fn large_files<'a>(job: &Job<'_>, tree: &'a StagedTree) -> Vec<LargeFile<'a>> {
    let mut files: Vec<LargeFile<'a>> = Vec::new();
    for (components, staged) in tree {
        if let Staged::File {
            is_large: true,
            size_bytes,
            origin: Origin::Source(source),
            digest,
            ..
        } = staged
            && let Some(id) = digest.blake3
            && let Some((mapping, path)) = entry_of_staged(components)
            && let Some(mapping) = job.host.mappings.get(mapping)
        {
            let dest = mapping.dest.join(&path);
            let there = job.prepared.look.seen.get(dest.as_bytes());
            let there = there.map(|seen| seen.node.kind());
            let file = LargeFile {
                id,
                size_bytes: *size_bytes,
                source,
                dest,
                is_update: there == Some(Kind::File),
            };
            match files.iter_mut().find(|known| known.id == id) {
                Some(known) if file.is_update && !known.is_update => *known = file,
                Some(_) => {}
                None => files.push(file),
            }
        }
    }
    files
}

/// A run of blocks, and the index of its file.
type Piece = (usize, Range<u64>);

/// What the uploads of large files of all hosts share.
#[derive(Clone, Copy)]
pub(super) struct LargeContext<'a> {
    pub(super) settings: LargeFiles,
    /// The algorithm of the digests that the host computes.
    pub(super) algorithm: Algorithm,
    pub(super) source_blocks: &'a SourceBlocks,
    pub(super) spare_logins: &'a SpareLogins,
}

impl LargeContext<'_> {
    /// Brings the partials of these files to where they should be. As often as it brings something, it
    /// logs in again and goes on after the connection broke. Afterwards `after_bytes` will be sent.
    pub(super) fn send(
        &self,
        link: HostLink<'_>,
        login: &mut Login,
        target: UploadTarget<'_>,
        files: &[LargeFile<'_>],
        after_bytes: u64,
    ) -> Result<(), UploadError> {
        let mut sending = LargeUpload {
            link,
            large: *self,
            target,
            files,
            after_bytes,
            attempts: Attempts::new(),
            is_alone: false,
        };
        let mut is_connected = true;
        loop {
            let tried = if is_connected {
                sending.attempt(login)
            } else {
                log_in_again(link, login).and_then(|()| sending.attempt(login))
            };
            let error = match tried {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    is_connected = true;
                    continue;
                }
                Err(error) => error,
            };
            if link.is_interrupted() {
                return Err(UploadError::Other(HostFailure::Interrupted));
            }
            if !error.may_pass() {
                return Err(error);
            }
            let Some(pause) = sending.attempts.fail() else {
                return Err(error);
            };
            tracing::warn!("{error}: logging in again to send what is missing");
            is_connected = false;
            link.begin(Phase::Reconnecting, 0);
            link.pause(pause);
        }
    }
}

fn log_in_again(link: HostLink<'_>, login: &mut Login) -> Result<(), UploadError> {
    *login = link.log_in()?;
    Ok(())
}

/// Large files on their way into one staging folder.
struct LargeUpload<'a> {
    link: HostLink<'a>,
    large: LargeContext<'a>,
    target: UploadTarget<'a>,
    files: &'a [LargeFile<'a>],
    /// What is sent when all of this is there.
    after_bytes: u64,
    attempts: Attempts,
    /// Whether further sessions did not work.
    is_alone: bool,
}

impl LargeUpload<'_> {
    /// Sends what is missing; false when there still is something.
    fn attempt(&mut self, login: &mut Login) -> Result<bool, UploadError> {
        self.link.begin(Phase::Looking, 0);
        let HostBlocks {
            digests: on_host,
            round_trip,
        } = thread::scope(|scope| {
            // While the host looks at what it has.
            scope.spawn(|| {
                for file in self.files.iter().filter(|file| file.is_update) {
                    let _ = self.digests_of(file);
                }
            });
            self.ask(login)
        })?;
        let mut pieces: Vec<Piece> = Vec::new();
        for (index, (file, on_host)) in self.files.iter().zip(&on_host).enumerate() {
            let here = if on_host.is_empty() {
                None
            } else {
                self.digests_of(file)
            };
            let here = here.as_deref().map_or(&[][..], Vec::as_slice);
            let is_there = |block: u64| {
                let block = usize::try_from(block).unwrap_or(usize::MAX);
                here.get(block).is_some() && here.get(block) == on_host.get(block)
            };
            let runs = missing(self.large.settings.count(file.size_bytes), is_there);
            pieces.extend(runs.into_iter().map(|run| (index, run)));
        }
        let blocks = pieces.iter().map(|(_, run)| run.end - run.start).sum();
        self.attempts.miss(blocks);
        let bytes = pieces
            .iter()
            .map(|piece| self.bytes_of(piece))
            .map(|bytes| bytes.end - bytes.start);
        let bytes = bytes.sum();
        self.link.tally.expect_more(bytes + self.after_bytes);
        if pieces.is_empty() {
            return Ok(true);
        }
        self.link.tally.set_keeps_part(true);
        self.link.begin(Phase::Uploading, bytes);
        let sessions = if self.is_alone {
            1
        } else {
            let cores = thread::available_parallelism().map_or(1, usize::from);
            self.large.settings.sessions(bytes, round_trip, cores)
        };
        let spare = self.large.spare_logins;
        let extra: Vec<SpareLogin<'_>> = (1..sessions).map_while(|_| spare.take()).collect();
        let parts = split(&pieces, 1 + extra.len());
        tracing::debug!(
            blocks,
            bytes,
            sessions = parts.len(),
            ?round_trip,
            "sending blocks"
        );
        let span = tracing::Span::current();
        let (first, others) = parts.split_first().expect("split makes one part at least");
        let this = &*self;
        let (sent, is_all) = thread::scope(|scope| {
            let others: Vec<_> = others
                .iter()
                .zip(extra)
                .map(|(part, place)| {
                    let span = span.clone();
                    scope.spawn(move || span.in_scope(|| this.send_beside(part, place)))
                })
                .collect();
            let sent = this.send(login, first);
            let mut others = others.into_iter();
            (sent, others.all(|other| other.join().unwrap_or(false)))
        });
        sent?;
        self.is_alone = !is_all;
        Ok(is_all)
    }

    /// Sends a part over a session of its own. What does not arrive is found missing later.
    fn send_beside(&self, part: &[Piece], place: SpareLogin<'_>) -> bool {
        let connected = self.link.log_in().map_err(UploadError::from);
        let sent = connected.and_then(|mut login| {
            let sent = self.send(&mut login, part);
            login.close();
            sent
        });
        drop(place);
        sent.inspect_err(|error| tracing::warn!("one of several sessions failed: {error}"))
            .is_ok()
    }

    fn send(&self, login: &mut Login, pieces: &[Piece]) -> Result<(), UploadError> {
        let records = pieces.iter().map(|piece| {
            let (index, blocks) = piece;
            let file = &self.files[*index];
            let bytes = self.bytes_of(piece);
            UploadRecord::File {
                name: format!("{}.{}", file.id, blocks.start).into_bytes(),
                mode: Mode::new(0o600),
                mtime: None,
                size_bytes: bytes.end - bytes.start,
                content: Content::Range {
                    path: file.source.as_path().to_owned(),
                    offset_bytes: bytes.start,
                    whole_bytes: file.size_bytes,
                },
            }
        });
        transfer(
            self.link,
            login,
            self.target,
            RunFolder::Extents,
            records.collect(),
        )
    }

    fn bytes_of(&self, piece: &Piece) -> Range<u64> {
        let (index, blocks) = piece;
        self.large
            .settings
            .bytes_of(blocks, self.files[*index].size_bytes)
    }

    /// Has the host prepare its partials.
    fn ask(&self, login: &mut Login) -> Result<HostBlocks, UploadError> {
        let files: Vec<BlocksFile<'_>> = self
            .files
            .iter()
            .map(|file| BlocksFile {
                id: file.id,
                size_bytes: file.size_bytes,
                dest: &file.dest,
            })
            .collect();
        let request = BlocksRequest {
            base: self.target.base,
            run_name: self.target.run_name,
            block_bytes: self.large.settings.block_bytes,
            files: &files,
            stall_timeout: self.link.stall_timeout,
        };
        let answer = blocks(login, &request, &|| self.link.is_interrupted());
        answer.map_err(|error| match error {
            BlocksError::Transport(error) => error.into(),
            BlocksError::Host(reason) => explain::with_cure(&reason).into(),
            BlocksError::NoAnswer(said) => ApplyError::NoBlocks { said }.into(),
        })
    }

    fn digests_of(&self, file: &LargeFile<'_>) -> Option<Arc<Vec<String>>> {
        self.large.source_blocks.digests(
            file.source.as_path(),
            file.size_bytes,
            self.large.algorithm,
            self.large.settings,
        )
    }
}

/// Digests of the blocks of sources: computed once, however many hosts need them.
#[derive(Default)]
pub(super) struct SourceBlocks {
    known: Mutex<HashMap<(PathBuf, &'static str), Digests>>,
}

/// `None` inside for a file that cannot be read.
type Digests = Arc<OnceLock<Option<Arc<Vec<String>>>>>;

impl SourceBlocks {
    /// The digests in hexadecimal; `None` when the file cannot be read or is shorter than it was. All
    /// cores work on it.
    fn digests(
        &self,
        path: &Path,
        size_bytes: u64,
        algorithm: Algorithm,
        large: LargeFiles,
    ) -> Option<Arc<Vec<String>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (path.to_owned(), algorithm.as_str());
        let digests = Arc::clone(known.entry(key).or_default());
        drop(known);
        let compute = || {
            let file = File::open(path).ok()?;
            let digest = |buffer: &mut Vec<u8>, block: u64| {
                let bytes = large.bytes_of(&(block..block + 1), size_bytes);
                buffer.resize(usize::try_from(bytes.end - bytes.start).ok()?, 0);
                file.read_exact_at(buffer, bytes.start).ok()?;
                Some(match algorithm {
                    Algorithm::Blake3 => Blake3::of(buffer).to_string(),
                    Algorithm::Sha256 => {
                        Sha256::from_bytes(sha2::Sha256::digest(buffer).into()).to_string()
                    }
                })
            };
            let blocks = (0..large.count(size_bytes)).into_par_iter();
            let digests: Option<Vec<String>> = blocks.map_init(Vec::new, digest).collect();
            digests.map(Arc::new)
        };
        digests.get_or_init(compute).clone()
    }
}

/// Logins that the configuration allows and no host needs: as many as there are more connections than
/// hosts that are not done.
#[derive(Debug)]
pub(super) struct SpareLogins(AtomicIsize);

impl SpareLogins {
    pub(super) fn new(connections: usize, hosts: usize) -> Self {
        let signed = |count: usize| isize::try_from(count).unwrap_or(isize::MAX);
        Self(AtomicIsize::new(signed(connections) - signed(hosts)))
    }

    /// Told that a host is done.
    pub(super) fn release(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One of them until it is dropped, if there is one.
    fn take(&self) -> Option<SpareLogin<'_>> {
        let take = |spare: isize| (spare > 0).then(|| spare - 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        taken.ok().map(|_| SpareLogin(self))
    }
}

/// One login more.
struct SpareLogin<'a>(&'a SpareLogins);

impl Drop for SpareLogin<'_> {
    fn drop(&mut self) {
        self.0.release();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    #[test]
    fn logins_are_spare_only_beyond_what_hosts_may_need() {
        let spare = SpareLogins::new(4, 5);
        assert!(spare.take().is_none());
        for _ in 0..3 {
            spare.release();
        }
        let first = spare.take();
        assert!(first.is_some() && spare.take().is_some());
        let second = spare.take();
        assert!(second.is_some() && spare.take().is_none());
        drop(first);
        assert!(spare.take().is_some());
    }

    #[test]
    fn digests_of_a_source_are_those_of_its_blocks() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let bytes: Vec<u8> = (0..1000_u32).map(|n| (n % 251) as u8).collect();
        std::fs::write(file.path(), &bytes).unwrap();
        let large = LargeFiles {
            block_bytes: 300,
            ..LargeFiles::default()
        };
        let blocks = SourceBlocks::default();
        let digests =
            |size_bytes, algorithm| blocks.digests(file.path(), size_bytes, algorithm, large);
        let expected: Vec<String> = bytes
            .chunks(300)
            .map(|block| Blake3::of(block).to_string())
            .collect();
        assert_eq!(*digests(1000, Algorithm::Blake3).unwrap(), expected);
        assert_eq!(digests(1000, Algorithm::Sha256).unwrap().len(), 4);
        // Known by now.
        std::fs::remove_file(file.path()).unwrap();
        assert_eq!(*digests(1000, Algorithm::Blake3).unwrap(), expected);
    }

    #[test]
    fn source_that_became_shorter_has_no_digests() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "short").unwrap();
        let large = LargeFiles::default();
        let blocks = SourceBlocks::default();
        assert_eq!(
            blocks.digests(file.path(), 6, Algorithm::Sha256, large),
            None
        );
    }
}
