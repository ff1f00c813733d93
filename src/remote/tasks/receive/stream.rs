//! What every way of uploading a tree of files has in common.
//!
//! The command that receives runs in a script. That prints `HOSTSYNC <nonce> <program>` and a newline
//! before the program starts, and `HOSTSYNC <nonce> end <status>` and a newline after it has ended.
//! What comes before the first of these is noise of the login shell.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Cursor, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use rustix::fs::OFlags;
use thiserror::Error;

use crate::model::{HostError, Mode};
use crate::remote::answer::marker;
use crate::transport::{Aborted, Flow, plain_reason};

/// How much is encoded at once.
pub(super) const CHUNK_BYTES: usize = 256 * 1024;

/// How many complaints of the host are kept.
const COMPLAINTS_KEPT: usize = 16;

/// How much of one complaint is kept.
const COMPLAINT_BYTES: usize = 1_024;

/// Modification times are sent as at most this, 2106: some hosts refuse what their clock cannot
/// express.
const LATEST_MTIME: i64 = u32::MAX as i64;

/// Where the bytes of a file come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// A local file, read while it is sent.
    Path(PathBuf),
    /// A part of a local file, read while it is sent.
    Range {
        /// The file.
        path: PathBuf,
        /// Where the part begins.
        offset_bytes: u64,
        /// The size that the whole file must have.
        whole_bytes: u64,
    },
    /// These.
    Bytes(Vec<u8>),
}

/// One step through the tree that is sent.
///
/// Names are single path components. Every `EnterDir` has its `LeaveDir`.
#[derive(Clone, Debug)]
pub enum UploadRecord {
    /// A folder is made, or entered where it exists; what follows lies in it.
    EnterDir {
        /// Its name.
        name: Vec<u8>,
        /// Its permission bits. A busybox `tar` that is not run by root sets neither setuid nor
        /// setgid.
        mode: Mode,
        /// Its modification time in seconds since 1970; clamped to what can be sent.
        mtime: Option<i64>,
    },
    /// A file.
    File {
        /// Its name.
        name: Vec<u8>,
        /// Its permission bits. The host's kernel clears setuid and setgid when the file is written,
        /// and not every receiver sets them again, so only on empty files are these two sure to
        /// arrive.
        mode: Mode,
        /// Its modification time in seconds since 1970; clamped to what can be sent.
        mtime: Option<i64>,
        /// The size that it must have.
        size_bytes: u64,
        /// Its bytes.
        content: Content,
    },
    /// Back to the folder above.
    LeaveDir,
}

/// What was sent, and received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UploadReport {
    /// Files.
    pub files: u64,
    /// Folders.
    pub dirs: u64,
    /// Bytes of content.
    pub content_bytes: u64,
}

/// The upload is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum StreamError {
    /// A local file is not what it was when it was looked at.
    #[error("{path} changed while it was sent: {reason}")]
    #[diagnostic(
        code(hostsync::transport::source_changed),
        help("plan again when nobody writes to the source")
    )]
    SourceChanged {
        /// The file.
        path: String,
        /// What is different.
        reason: String,
    },
    /// A name that cannot be sent.
    #[error("the name `{name}` cannot be sent")]
    #[diagnostic(
        code(hostsync::transport::upload_name),
        help("a name must not be empty, `.` or `..`, nor hold a newline or a slash")
    )]
    Name {
        /// The name, lossily decoded.
        name: String,
    },
    /// The host could not write.
    #[error("the host could not write: {}", .complaints.join("; "))]
    #[diagnostic(code(hostsync::transport::upload_refused), help("{cure}"))]
    Refused {
        /// What its program said: causes first, then what followed from them. Never empty.
        complaints: Vec<String>,
        /// What to do about it.
        cure: String,
    },
    /// The program that receives does not work on the host. Nothing has arrived.
    #[error("`{program}` does not work on the host (status {status})")]
    #[diagnostic(
        code(hostsync::transport::upload_unavailable),
        help("the host needs a working `scp` or `tar`")
    )]
    Unavailable {
        /// The program.
        program: &'static str,
        /// Its exit status.
        status: i32,
    },
    /// The answers do not add up.
    #[error("the host confirmed the upload only in part: {reason}")]
    #[diagnostic(
        code(hostsync::transport::upload_incomplete),
        help("run the same command again")
    )]
    Incomplete {
        /// What is missing.
        reason: String,
    },
}

impl StreamError {
    /// Whether another attempt may succeed although nobody has changed anything.
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::Incomplete { .. })
    }
}

impl From<&StreamError> for HostError {
    fn from(error: &StreamError) -> Self {
        Self::of(error, error.may_pass())
    }
}

impl StreamError {
    pub(super) fn incomplete(reason: impl Into<String>) -> Self {
        Self::Incomplete {
            reason: reason.into(),
        }
    }

    pub(super) fn refused(complaints: Vec<String>) -> Self {
        Self::Refused {
            complaints,
            cure: "make room or permit it on the host, then run the same command again".to_owned(),
        }
    }

    fn changed(path: &str, reason: impl Into<String>) -> Self {
        Self::SourceChanged {
            path: path.to_owned(),
            reason: reason.into(),
        }
    }
}

impl From<StreamError> for Aborted {
    fn from(error: StreamError) -> Self {
        Self(Box::new(error))
    }
}

/// Refuses names that a receiver would take for something else.
pub(super) fn check_name(name: &[u8]) -> Result<(), StreamError> {
    let is_sendable = !matches!(name, b"" | b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | b'\n' | 0));
    if is_sendable {
        Ok(())
    } else {
        Err(StreamError::Name {
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }
}

/// The nearest time that can be sent.
pub(crate) fn clamped(mtime: i64) -> u64 {
    mtime.clamp(0, LATEST_MTIME).unsigned_abs()
}

/// What is to be sent, and how far it got.
pub(super) struct Source<'a> {
    records: Box<dyn Iterator<Item = UploadRecord> + 'a>,
    progress: Box<dyn FnMut(u64) + 'a>,
    pub(super) report: UploadReport,
    /// Why it cannot go on.
    pub(super) failure: Option<StreamError>,
}

impl<'a> Source<'a> {
    pub(super) fn new(records: impl IntoIterator<Item = UploadRecord, IntoIter: 'a>) -> Self {
        Self {
            records: Box::new(records.into_iter()),
            progress: Box::new(|_| {}),
            report: UploadReport::default(),
            failure: None,
        }
    }

    pub(super) fn set_progress(&mut self, progress: impl FnMut(u64) + 'a) {
        self.progress = Box::new(progress);
    }

    pub(super) fn next(&mut self) -> Option<UploadRecord> {
        self.records.next()
    }

    /// Reads more of a file, as much as the buffer has room for.
    pub(super) fn read(
        &mut self,
        sending: &mut Sending,
        buffer: &mut Vec<u8>,
    ) -> Result<(), StreamError> {
        let count = sending.read(buffer)?;
        (self.progress)(count);
        self.report.content_bytes += count;
        Ok(())
    }
}

impl fmt::Debug for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("report", &self.report)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

/// A file whose bytes are being sent.
#[derive(Debug)]
pub(super) struct Sending {
    /// For messages.
    path: String,
    bytes: Bytes,
    left_bytes: u64,
}

#[derive(Debug)]
enum Bytes {
    OfFile(File),
    OfMemory(Cursor<Vec<u8>>),
}

impl Sending {
    /// Opens a file that must have this size. To be done before its header is sent: after that there
    /// is no way back.
    pub(super) fn open(
        name: &[u8],
        content: Content,
        size_bytes: u64,
    ) -> Result<Self, StreamError> {
        let mut wanted_bytes = size_bytes;
        let (path, bytes, found_bytes) = match content {
            Content::Path(path) => {
                let (file, found_bytes) = open_file(&path)?;
                (path.display().to_string(), Bytes::OfFile(file), found_bytes)
            }
            Content::Range {
                path,
                offset_bytes,
                whole_bytes,
            } => {
                let (mut file, found_bytes) = open_file(&path)?;
                let path = path.display().to_string();
                file.seek(SeekFrom::Start(offset_bytes))
                    .map_err(|error| StreamError::changed(&path, plain_reason(&error)))?;
                wanted_bytes = whole_bytes;
                (path, Bytes::OfFile(file), found_bytes)
            }
            Content::Bytes(bytes) => {
                let found_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                let name = String::from_utf8_lossy(name).into_owned();
                (name, Bytes::OfMemory(Cursor::new(bytes)), found_bytes)
            }
        };
        if found_bytes != wanted_bytes {
            let reason = format!("it has {found_bytes} bytes and had {wanted_bytes}");
            return Err(StreamError::changed(&path, reason));
        }
        Ok(Self {
            path,
            bytes,
            left_bytes: size_bytes,
        })
    }

    /// Whether all of it has been read.
    pub(super) fn is_read(&self) -> bool {
        self.left_bytes == 0
    }

    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<u64, StreamError> {
        let room = u64::try_from(CHUNK_BYTES.saturating_sub(buffer.len())).unwrap_or(u64::MAX);
        let wanted = room.min(self.left_bytes);
        let count = match &mut self.bytes {
            Bytes::OfFile(file) => file.take(wanted).read_to_end(buffer),
            Bytes::OfMemory(bytes) => bytes.take(wanted).read_to_end(buffer),
        }
        .map_err(|error| StreamError::changed(&self.path, plain_reason(&error)))?;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if count < wanted {
            return Err(StreamError::changed(&self.path, "it became shorter"));
        }
        self.left_bytes -= count;
        Ok(count)
    }
}

fn open_file(path: &Path) -> Result<(File, u64), StreamError> {
    let changed = |reason: String| StreamError::changed(&path.display().to_string(), reason);
    let refuse = |error: std::io::Error| changed(plain_reason(&error));
    // What is a pipe by now must not keep us waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(refuse)?;
    let meta = file.metadata().map_err(refuse)?;
    if !meta.is_file() {
        return Err(changed("it is no longer a regular file".to_owned()));
    }
    Ok((file, meta.len()))
}

/// The answers of the program that receives, as they come.
#[derive(Debug)]
pub(super) struct Replies {
    program: &'static str,
    /// Lines that hold one of these mean nothing.
    remarks: &'static [&'static str],
    start_marker: Vec<u8>,
    end_marker: Vec<u8>,
    state: ReplyState,
    /// Zero bytes, with which an SCP sink confirms.
    pub(super) acknowledged: u64,
    complaints: Vec<String>,
}

#[derive(Debug)]
enum ReplyState {
    /// The program has not started; the last bytes, where the marker may have begun.
    Noise(Vec<u8>),
    /// An answer is over.
    Between,
    /// Inside a line, which is a complaint or the end marker.
    Line(Vec<u8>),
    /// The program has ended with this status.
    Ended(i32),
}

impl Replies {
    pub(super) fn new(
        nonce: &str,
        program: &'static str,
        remarks: &'static [&'static str],
    ) -> Self {
        Self {
            program,
            remarks,
            start_marker: format!("{}{program}\n", marker(nonce)).into_bytes(),
            end_marker: format!("{}end ", marker(nonce)).into_bytes(),
            state: ReplyState::Noise(Vec::new()),
            acknowledged: 0,
            complaints: Vec::new(),
        }
    }

    /// What it said so far, apart from remarks.
    pub(super) fn complaints(&self) -> &[String] {
        &self.complaints
    }

    /// What it said, with the causes in front: what it says about itself follows from what the system
    /// said to it.
    pub(super) fn into_complaints(mut self) -> Vec<String> {
        let consequences = [
            "protocol error",
            "expected control record",
            "unexpected <newline>",
            "Wrote only",
            "Unexpected EOF in archive",
            "Exiting with failure status",
            "Error is not recoverable",
            "short read",
        ];
        self.complaints
            .sort_by_key(|text| consequences.iter().any(|phrase| text.contains(phrase)));
        self.complaints
    }

    /// The status that it ended with.
    ///
    /// # Errors
    /// When it was not started, or is not known to have ended.
    pub(super) fn status(&self) -> Result<i32, StreamError> {
        match self.state {
            ReplyState::Ended(status) => Ok(status),
            ReplyState::Noise(_) => Err(StreamError::incomplete(format!(
                "its `{}` was never started",
                self.program
            ))),
            ReplyState::Between | ReplyState::Line(_) => {
                Err(StreamError::incomplete("the end of its answer is missing"))
            }
        }
    }

    /// Takes in bytes, up to the end marker.
    pub(super) fn take_in(&mut self, bytes: &[u8]) -> Flow {
        for &byte in bytes {
            match &mut self.state {
                ReplyState::Noise(tail) => {
                    tail.push(byte);
                    if tail.ends_with(&self.start_marker) {
                        self.state = ReplyState::Between;
                    } else if tail.len() > 2 * self.start_marker.len() {
                        tail.drain(..self.start_marker.len());
                    }
                }
                ReplyState::Between => match byte {
                    0 => self.acknowledged += 1,
                    // Whether it could go on does not matter: we do not.
                    1 | 2 => self.state = ReplyState::Line(Vec::new()),
                    _ => self.state = ReplyState::Line(vec![byte]),
                },
                ReplyState::Line(line) if byte == b'\n' => {
                    let line = std::mem::take(line);
                    self.state = self.end_of(&line);
                }
                ReplyState::Line(line) => {
                    if line.len() < COMPLAINT_BYTES {
                        line.push(byte);
                    }
                }
                ReplyState::Ended(_) => break,
            }
        }
        match self.state {
            ReplyState::Ended(_) => Flow::Leave,
            _ => Flow::Continue,
        }
    }

    /// The state after a whole line.
    fn end_of(&mut self, line: &[u8]) -> ReplyState {
        if let Some(status) = line.strip_prefix(self.end_marker.as_slice()) {
            let status = std::str::from_utf8(status).ok();
            let status = status.map(|status| status.trim_end_matches(" waits"));
            // A status that is no number is a failure all the same.
            let status = status.and_then(|status| status.trim().parse().ok());
            return ReplyState::Ended(status.unwrap_or(-1));
        }
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        let text = text
            .strip_prefix(self.program)
            .and_then(|text| text.strip_prefix(": "))
            .unwrap_or(text);
        let is_remark = self.remarks.iter().any(|remark| text.contains(remark));
        if !is_remark && self.complaints.len() < COMPLAINTS_KEPT {
            // Whoever shows it is not to do what the host wants.
            let harmless = text.chars().filter(|c| !c.is_control());
            self.complaints.push(harmless.collect());
        }
        ReplyState::Between
    }
}
