//! The SCP stream: a tree of files through one `scp -rpt`, acknowledgements not waited for.
//!
//! The sink answers every record with a byte. Waiting for each answer costs a round trip per file;
//! here a bounded number of answers may be outstanding, and all of them are counted. That is safe
//! only into a fresh private folder: a sink that cannot open a file takes the bytes of that file for
//! further records.
//!
//! The command that runs the sink prints `HOSTSYNC <nonce> scp` and a newline before the sink
//! starts, and `HOSTSYNC <nonce> end <status>` and a newline after it has ended. What comes before
//! the first of these is noise of the login shell.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use rustix::fs::OFlags;
use thiserror::Error;

use super::connection::plain_reason;
use super::{Aborted, ExecIo, Input};
use crate::model::Mode;

/// Answers that may be outstanding.
const WINDOW: u64 = 4_096;

/// How much is encoded at once.
const CHUNK_BYTES: usize = 256 * 1024;

/// How many complaints of the sink are kept.
const COMPLAINTS_KEPT: usize = 16;

/// How much of one complaint is kept.
const COMPLAINT_BYTES: usize = 1_024;

/// Modification times are sent as at most this, 2106: some sinks refuse what their clock cannot
/// express.
const LATEST_MTIME: i64 = u32::MAX as i64;

/// Where the bytes of a file come from.
#[derive(Clone, Debug)]
pub enum Content {
    /// A local file, read while it is sent.
    Path(PathBuf),
    /// These.
    Bytes(Vec<u8>),
}

/// One step through the tree that is sent.
///
/// Names are single path components. Every `EnterDir` has its `LeaveDir`.
#[derive(Clone, Debug)]
pub enum ScpRecord {
    /// A folder is made, or entered where it exists; what follows lies in it.
    EnterDir {
        /// Its name.
        name: Vec<u8>,
        /// Its permission bits, set when it is left.
        mode: Mode,
        /// Its modification time in seconds since 1970; clamped to what SCP can carry.
        mtime: Option<i64>,
    },
    /// A file.
    File {
        /// Its name.
        name: Vec<u8>,
        /// Its permission bits. The host's kernel clears setuid and setgid when the sink writes, so
        /// these two arrive only on empty files.
        mode: Mode,
        /// Its modification time in seconds since 1970; clamped to what SCP can carry.
        mtime: Option<i64>,
        /// The size that it must have.
        size_bytes: u64,
        /// Its bytes.
        content: Content,
    },
    /// Back to the folder above.
    LeaveDir,
}

/// What was sent and acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScpReport {
    /// Files.
    pub files: u64,
    /// Folders.
    pub dirs: u64,
    /// Bytes of content.
    pub content_bytes: u64,
}

/// The upload is not complete.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum ScpError {
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
        code(hostsync::transport::scp_name),
        help("SCP cannot carry names that are empty, `.` or `..`, or hold a newline or a slash")
    )]
    Name {
        /// The name, lossily decoded.
        name: String,
    },
    /// The host could not write.
    #[error("the host could not write: {}", .complaints.join("; "))]
    #[diagnostic(
        code(hostsync::transport::scp_refused),
        help("make room or permit it on the host, then run the same command again")
    )]
    Refused {
        /// What its `scp` said: causes first, then what followed from them. Never empty.
        complaints: Vec<String>,
    },
    /// There is no working `scp` on the host.
    #[error("`scp -t` does not work on the host (status {status})")]
    #[diagnostic(
        code(hostsync::transport::scp_unavailable),
        help("install OpenSSH's or busybox' `scp` there")
    )]
    Unavailable {
        /// Its exit status.
        status: i32,
    },
    /// The answers do not add up.
    #[error("the host confirmed the upload only in part: {reason}")]
    #[diagnostic(
        code(hostsync::transport::scp_incomplete),
        help("run the same command again")
    )]
    Incomplete {
        /// What is missing.
        reason: String,
    },
}

impl From<ScpError> for Aborted {
    fn from(error: ScpError) -> Self {
        Self(Box::new(error))
    }
}

/// A file whose bytes are being sent.
#[derive(Debug)]
struct Sending {
    /// For messages.
    path: String,
    source: Source,
    left_bytes: u64,
}

#[derive(Debug)]
enum Source {
    File(File),
    Bytes(std::io::Cursor<Vec<u8>>),
}

/// Sends records to a sink; the [`ExecIo`] of the command that runs it.
pub struct ScpUpload<'a> {
    records: Box<dyn Iterator<Item = ScpRecord> + 'a>,
    progress: Box<dyn FnMut(u64) + 'a>,
    sending: Option<Sending>,
    is_all_encoded: bool,
    failure: Option<ScpError>,
    report: ScpReport,
    /// Answers that are due for what was encoded so far.
    expected: u64,
    replies: Replies,
}

impl std::fmt::Debug for ScpUpload<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ScpUpload")
            .field("sending", &self.sending)
            .field("expected", &self.expected)
            .field("replies", &self.replies)
            .finish_non_exhaustive()
    }
}

impl<'a> ScpUpload<'a> {
    /// An upload of these records; `nonce` is in the markers that the command prints.
    pub fn new(nonce: &str, records: impl IntoIterator<Item = ScpRecord, IntoIter: 'a>) -> Self {
        Self {
            records: Box::new(records.into_iter()),
            progress: Box::new(|_| {}),
            sending: None,
            is_all_encoded: false,
            failure: None,
            report: ScpReport::default(),
            // The sink announces itself.
            expected: 1,
            replies: Replies::new(nonce),
        }
    }

    /// Calls `progress` with every number of content bytes that is handed to the connection.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64) + 'a) -> Self {
        self.progress = Box::new(progress);
        self
    }

    /// What became of the upload, after the command has ended.
    ///
    /// # Errors
    /// Unless the sink ended well and acknowledged every record.
    pub fn finish(self) -> Result<ScpReport, ScpError> {
        let Self {
            failure,
            replies,
            expected,
            is_all_encoded,
            report,
            ..
        } = self;
        if let Some(failure) = failure {
            return Err(failure);
        }
        let incomplete = |reason: String| Err(ScpError::Incomplete { reason });
        let acknowledged = replies.acknowledged;
        if !replies.complaints.is_empty() {
            return Err(ScpError::Refused {
                complaints: causes_first(replies.complaints),
            });
        }
        match replies.state {
            ReplyState::Noise(_) => return incomplete("its `scp` was never started".to_owned()),
            ReplyState::Ended(status) if status != 0 && acknowledged == 0 => {
                return Err(ScpError::Unavailable { status });
            }
            ReplyState::Ended(0) => {}
            ReplyState::Ended(status) => {
                return incomplete(format!("its `scp` ended with status {status}"));
            }
            ReplyState::Between | ReplyState::Line(_) => {
                return incomplete("the end of its answer is missing".to_owned());
            }
        }
        if !is_all_encoded || acknowledged != expected {
            return incomplete(format!("{acknowledged} of {expected} answers came"));
        }
        Ok(report)
    }

    /// Encodes the start of a record. Answers to come are counted here, so that none can be
    /// forgotten.
    fn encode(&mut self, record: ScpRecord, buffer: &mut Vec<u8>) -> Result<(), ScpError> {
        match record {
            ScpRecord::EnterDir { name, mode, mtime } => {
                check_name(&name)?;
                self.encode_header(b'D', mode, mtime, 0, &name, buffer);
                self.report.dirs += 1;
            }
            ScpRecord::LeaveDir => {
                buffer.extend_from_slice(b"E\n");
                self.expected += 1;
            }
            ScpRecord::File {
                name,
                mode,
                mtime,
                size_bytes,
                content,
            } => {
                check_name(&name)?;
                // Opened first: once the header is out there is no way back.
                let sending = open(&name, content, size_bytes)?;
                self.encode_header(b'C', mode, mtime, size_bytes, &name, buffer);
                self.sending = Some(sending);
                self.report.files += 1;
            }
        }
        Ok(())
    }

    fn encode_header(
        &mut self,
        kind: u8,
        mode: Mode,
        mtime: Option<i64>,
        size_bytes: u64,
        name: &[u8],
        buffer: &mut Vec<u8>,
    ) {
        if let Some(mtime) = mtime {
            let mtime = mtime.clamp(0, LATEST_MTIME);
            buffer.extend_from_slice(format!("T{mtime} 0 {mtime} 0\n").as_bytes());
            self.expected += 1;
        }
        buffer.push(kind);
        buffer.extend_from_slice(format!("{:04o} {size_bytes} ", mode.bits()).as_bytes());
        buffer.extend_from_slice(name);
        buffer.push(b'\n');
        self.expected += 1;
    }

    /// Encodes more of the file that is being sent.
    fn encode_content(
        &mut self,
        mut sending: Sending,
        buffer: &mut Vec<u8>,
    ) -> Result<(), ScpError> {
        let room = u64::try_from(CHUNK_BYTES.saturating_sub(buffer.len())).unwrap_or(u64::MAX);
        let wanted = room.min(sending.left_bytes);
        let count = match &mut sending.source {
            Source::File(file) => file.take(wanted).read_to_end(buffer),
            Source::Bytes(bytes) => bytes.take(wanted).read_to_end(buffer),
        }
        .map_err(|error| changed(&sending.path, plain_reason(&error)))?;
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        if count < wanted {
            return Err(changed(&sending.path, "it became shorter".to_owned()));
        }
        (self.progress)(count);
        self.report.content_bytes += count;
        sending.left_bytes -= count;
        if sending.left_bytes == 0 {
            buffer.push(0);
            self.expected += 1;
        } else {
            self.sending = Some(sending);
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<(), ScpError> {
        while buffer.len() < CHUNK_BYTES {
            if let Some(sending) = self.sending.take() {
                self.encode_content(sending, buffer)?;
                continue;
            }
            if self.expected.saturating_sub(self.replies.acknowledged) >= WINDOW {
                break;
            }
            let Some(record) = self.records.next() else {
                self.is_all_encoded = true;
                break;
            };
            self.encode(record, buffer)?;
        }
        Ok(())
    }
}

impl ExecIo for ScpUpload<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        // After a complaint nothing that is sent is sure to be taken for what it is.
        if !self.replies.complaints.is_empty() || self.is_all_encoded {
            return Ok(Input::End);
        }
        if let Err(error) = self.fill(buffer) {
            self.failure = Some(error.clone());
            return Err(error.into());
        }
        Ok(match (buffer.is_empty(), self.is_all_encoded) {
            (false, _) => Input::Ready,
            (true, true) => Input::End,
            (true, false) => Input::Wait,
        })
    }

    fn output(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Aborted> {
        Ok(self.replies.take_in(bytes))
    }
}

fn changed(path: &str, reason: String) -> ScpError {
    ScpError::SourceChanged {
        path: path.to_owned(),
        reason,
    }
}

fn check_name(name: &[u8]) -> Result<(), ScpError> {
    let is_sendable = !matches!(name, b"" | b"." | b"..")
        && !name.iter().any(|byte| matches!(byte, b'/' | b'\n' | 0));
    if is_sendable {
        Ok(())
    } else {
        Err(ScpError::Name {
            name: String::from_utf8_lossy(name).into_owned(),
        })
    }
}

fn open(name: &[u8], content: Content, size_bytes: u64) -> Result<Sending, ScpError> {
    let (path, source, found_bytes) = match content {
        Content::Path(path) => {
            let (file, found_bytes) = open_file(&path)?;
            (path.display().to_string(), Source::File(file), found_bytes)
        }
        Content::Bytes(bytes) => {
            let found_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            let name = String::from_utf8_lossy(name).into_owned();
            (
                name,
                Source::Bytes(std::io::Cursor::new(bytes)),
                found_bytes,
            )
        }
    };
    if found_bytes != size_bytes {
        let reason = format!("it has {found_bytes} bytes and had {size_bytes}");
        return Err(changed(&path, reason));
    }
    Ok(Sending {
        path,
        source,
        left_bytes: size_bytes,
    })
}

fn open_file(path: &Path) -> Result<(File, u64), ScpError> {
    let refuse = |error: std::io::Error| changed(&path.display().to_string(), plain_reason(&error));
    // What is a pipe by now must not keep us waiting.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlags::NONBLOCK.bits().cast_signed())
        .open(path)
        .map_err(refuse)?;
    let meta = file.metadata().map_err(refuse)?;
    if !meta.is_file() {
        let reason = "it is no longer a regular file".to_owned();
        return Err(changed(&path.display().to_string(), reason));
    }
    Ok((file, meta.len()))
}

/// What the sink says about itself follows from what the system said to it.
fn causes_first(mut complaints: Vec<String>) -> Vec<String> {
    complaints.sort_by_key(|text| {
        [
            "protocol error",
            "expected control record",
            "unexpected <newline>",
        ]
        .iter()
        .any(|consequence| text.contains(consequence))
    });
    complaints
}

/// The answers of the sink, as they come.
#[derive(Debug)]
struct Replies {
    start_marker: Vec<u8>,
    end_marker: Vec<u8>,
    state: ReplyState,
    acknowledged: u64,
    complaints: Vec<String>,
}

#[derive(Debug)]
enum ReplyState {
    /// The sink has not started; the last bytes, where the marker may have begun.
    Noise(Vec<u8>),
    /// An answer is over.
    Between,
    /// Inside a line, which is a complaint or the end marker.
    Line(Vec<u8>),
    /// The sink has ended with this status.
    Ended(i32),
}

impl Replies {
    fn new(nonce: &str) -> Self {
        Self {
            start_marker: format!("HOSTSYNC {nonce} scp\n").into_bytes(),
            end_marker: format!("HOSTSYNC {nonce} end ").into_bytes(),
            state: ReplyState::Noise(Vec::new()),
            acknowledged: 0,
            complaints: Vec::new(),
        }
    }

    /// Takes in bytes; `Break` with the end marker.
    fn take_in(&mut self, bytes: &[u8]) -> ControlFlow<()> {
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
            ReplyState::Ended(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    }

    /// The state after a whole line.
    fn end_of(&mut self, line: &[u8]) -> ReplyState {
        if let Some(status) = line.strip_prefix(self.end_marker.as_slice()) {
            let status = std::str::from_utf8(status).ok();
            // A status that is no number is a failure all the same.
            let status = status.and_then(|status| status.trim().parse().ok());
            return ReplyState::Ended(status.unwrap_or(-1));
        }
        if self.complaints.len() < COMPLAINTS_KEPT {
            let text = String::from_utf8_lossy(line);
            let text = text.trim();
            let text = text.strip_prefix("scp: ").unwrap_or(text);
            self.complaints.push(text.to_owned());
        }
        ReplyState::Between
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, content: &[u8]) -> ScpRecord {
        ScpRecord::File {
            name: name.into(),
            mode: Mode::new(0o640),
            mtime: Some(-5),
            size_bytes: content.len() as u64,
            content: Content::Bytes(content.to_vec()),
        }
    }

    /// Everything that the upload sends without waiting for an answer.
    fn sent(upload: &mut ScpUpload<'_>) -> (Vec<u8>, Input) {
        let mut all = Vec::new();
        loop {
            let mut buffer = Vec::new();
            match upload.next_input(&mut buffer).expect("nothing fails") {
                Input::Ready => all.append(&mut buffer),
                other => return (all, other),
            }
        }
    }

    fn sample() -> ScpUpload<'static> {
        let dir = ScpRecord::EnterDir {
            name: b"d".to_vec(),
            mode: Mode::new(0o2755),
            mtime: None,
        };
        ScpUpload::new("n", [dir, file("-f \"$x", b"ab"), ScpRecord::LeaveDir])
    }

    /// The same upload, all sent, after these replies.
    fn outcome(replies: &[u8]) -> Result<ScpReport, ScpError> {
        let mut upload = sample();
        sent(&mut upload);
        // Byte by byte: no reply may depend on how the network cuts it.
        for byte in replies {
            let _ = upload.output(&[*byte]).expect("never fails");
        }
        upload.finish()
    }

    #[test]
    fn records_are_encoded_as_the_sink_reads_them() {
        let (bytes, end) = sent(&mut sample());
        assert_eq!(
            bytes,
            b"D2755 0 d\nT0 0 0 0\nC0640 2 -f \"$x\nab\0E\n".as_slice()
        );
        assert_eq!(end, Input::End);
    }

    #[test]
    fn every_answer_and_the_end_marker_make_a_success() {
        let report = outcome(b"noise without end HOSTSYNC n scp\n\0\0\0\0\0\0HOSTSYNC n end 0\n");
        assert_eq!(
            report,
            Ok(ScpReport {
                files: 1,
                dirs: 1,
                content_bytes: 2
            })
        );
    }

    #[test]
    fn missing_answer_or_marker_is_never_a_success() {
        for replies in [
            b"".as_slice(),
            b"HOSTSYNC n scp\n",
            b"HOSTSYNC n scp\n\0\0\0\0\0\0",
            b"HOSTSYNC n scp\n\0\0\0\0\0\0HOSTSYNC n end 0",
            b"HOSTSYNC n scp\n\0\0\0\0\0HOSTSYNC n end 0\n",
            b"HOSTSYNC n scp\n\0\0\0\0\0\0\0HOSTSYNC n end 0\n",
            b"HOSTSYNC n scp\n\0\0\0\0\0\0HOSTSYNC n end 1\n",
            b"HOSTSYNC n scp\n\0\0\0\0\0\0HOSTSYNC n end x\n",
            b"HOSTSYNC m scp\n\0\0\0\0\0\0HOSTSYNC n end 0\n",
        ] {
            let error = outcome(replies).expect_err("not complete");
            assert!(matches!(error, ScpError::Incomplete { .. }), "{error}");
        }
    }

    #[test]
    fn scp_that_is_not_there_is_told_apart() {
        assert_eq!(
            outcome(b"HOSTSYNC n scp\nHOSTSYNC n end 127\n"),
            Err(ScpError::Unavailable { status: 127 })
        );
    }

    #[test]
    fn complaints_name_the_cause_first() {
        let error = outcome(
            b"HOSTSYNC n scp\n\0\x01scp: protocol error: mtime.sec not present\n\x01scp: d/f: No \
              space left on device\nHOSTSYNC n end 1\n",
        )
        .expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the host could not write: d/f: No space left on device; protocol error: mtime.sec \
             not present"
        );
    }

    #[test]
    fn nothing_is_sent_after_a_complaint() {
        let mut upload = ScpUpload::new("n", std::iter::repeat_with(|| file("f", b"x")));
        let mut buffer = Vec::new();
        upload.next_input(&mut buffer).expect("no failure");
        let _ = upload
            .output(b"HOSTSYNC n scp\n\0\x01no\n")
            .expect("no failure");
        buffer.clear();
        assert_eq!(upload.next_input(&mut buffer).expect("ends"), Input::End);
        assert!(buffer.is_empty());
    }

    #[test]
    fn outstanding_answers_are_bounded() {
        let mut upload = ScpUpload::new("n", std::iter::repeat_with(|| file("f", b"x")));
        let (_, wait) = sent(&mut upload);
        assert_eq!(wait, Input::Wait);
        assert!((WINDOW..WINDOW + 3).contains(&upload.expected));
        let mut replies = b"HOSTSYNC n scp\n".to_vec();
        replies.resize(replies.len() + 300, 0);
        let _ = upload.output(&replies).expect("no failure");
        let (more, wait) = sent(&mut upload);
        assert_eq!(wait, Input::Wait);
        assert_eq!(more.len(), 100 * b"T0 0 0 0\nC0640 1 f\nx\0".len());
    }

    #[test]
    fn names_that_would_be_read_as_something_else_are_refused() {
        for name in ["", ".", "..", "a/b", "a\nC0644 0 b", "a\0b"] {
            let mut upload = ScpUpload::new("n", [file(name, b"")]);
            let error = upload.next_input(&mut Vec::new()).expect_err("refused");
            assert!(error.to_string().contains("cannot be sent"), "{name:?}");
        }
    }

    #[test]
    fn source_that_changed_ends_the_upload_and_is_named() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("source");
        let upload_of = |size_bytes| {
            let record = ScpRecord::File {
                name: b"f".to_vec(),
                mode: Mode::new(0o644),
                mtime: None,
                size_bytes,
                content: Content::Path(path.clone()),
            };
            ScpUpload::new("n", [record])
        };
        let missing = upload_of(1)
            .next_input(&mut Vec::new())
            .expect_err("is missing");
        std::fs::write(&path, vec![b'x'; 2 * CHUNK_BYTES]).expect("written");
        let other_size = upload_of(1)
            .next_input(&mut Vec::new())
            .expect_err("is larger");
        let mut upload = upload_of(2 * CHUNK_BYTES as u64);
        let mut buffer = Vec::new();
        upload.next_input(&mut buffer).expect("the first part");
        std::fs::write(&path, b"").expect("written");
        let shorter = upload.next_input(&mut Vec::new()).expect_err("is shorter");
        for error in [missing, other_size, shorter] {
            let text = error.to_string();
            assert!(text.starts_with(&path.display().to_string()), "{text}");
            assert!(text.contains("changed while it was sent"), "{text}");
        }
        assert!(matches!(
            upload.finish(),
            Err(ScpError::SourceChanged { .. })
        ));
    }

    #[test]
    fn progress_adds_up_to_the_content() {
        let mut seen = 0;
        let big = vec![7; 3 * CHUNK_BYTES + 1];
        let records = [file("a", &big), file("b", b""), file("c", b"xyz")];
        let mut upload = ScpUpload::new("n", records).on_progress(|bytes| seen += bytes);
        sent(&mut upload);
        drop(upload);
        assert_eq!(seen, big.len() as u64 + 3);
    }
}
