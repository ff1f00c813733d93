//! The tar stream: a tree of files as one archive, for hosts without `scp`.
//!
//! The archive is in GNU's format, which GNU tar, busybox and toybox read alike: long names have an
//! entry of their own in front, and sizes above 8 GiB are binary. Nothing is acknowledged on the
//! way. The exit status says whether the archive was taken; what lies on the host is verified later.
//!
//! The command is `tar -xpof -`, with an empty umask and standard error merged into standard output.

use tar::{EntryType, Header};

use super::stream::{
    CHUNK_BYTES, Replies, Sending, Source, StreamError, UploadRecord, UploadReport, check_name,
    clamped,
};
use crate::model::Mode;
use crate::transport::{Aborted, ExecIo, Flow, Input};

/// Everything in an archive is padded to whole blocks.
const BLOCK_BYTES: usize = 512;

/// How many bytes of a path fit into a header.
const NAME_BYTES: usize = 100;

/// GNU tar says this of every file whose time its clock has not reached, or finds too old.
const REMARKS: [&str; 2] = [": time stamp ", ": implausibly old time stamp "];

/// What a shell says of a command that is not there or cannot be run.
const NOT_RUN: [i32; 2] = [126, 127];

/// Sends records as an archive; the [`ExecIo`] of the command that unpacks it.
#[derive(Debug)]
pub struct TarUpload<'a> {
    source: Source<'a>,
    /// The file that is being sent, and how many bytes pad it.
    sending: Option<(Sending, usize)>,
    /// Path of the folder that records lie in, with a slash at its end unless it is empty.
    path: Vec<u8>,
    /// The folders that were entered and not left.
    open: Vec<OpenDir>,
    is_all_encoded: bool,
    replies: Replies,
}

#[derive(Debug)]
struct OpenDir {
    /// Length of the path of the folder above.
    parent_len: usize,
    mode: Mode,
    mtime: Option<i64>,
}

impl<'a> TarUpload<'a> {
    /// An upload of these records; `nonce` is in the markers that the command prints.
    pub fn new(nonce: &str, records: impl IntoIterator<Item = UploadRecord, IntoIter: 'a>) -> Self {
        Self {
            source: Source::new(records),
            sending: None,
            path: Vec::new(),
            open: Vec::new(),
            is_all_encoded: false,
            replies: Replies::new(nonce, "tar", &REMARKS),
        }
    }

    /// Calls `progress` with every number of content bytes that is handed to the connection.
    #[must_use]
    pub fn on_progress(mut self, progress: impl FnMut(u64) + 'a) -> Self {
        self.source.set_progress(progress);
        self
    }

    /// What became of the upload, after the command has ended.
    ///
    /// # Errors
    /// Unless everything was sent and the host's `tar` ended well.
    pub fn finish(self) -> Result<UploadReport, StreamError> {
        if let Some(failure) = self.source.failure {
            return Err(failure);
        }
        let status = self.replies.status()?;
        if NOT_RUN.contains(&status) {
            return Err(StreamError::Unavailable {
                program: "tar",
                status,
            });
        }
        if status != 0 {
            let complaints = self.replies.into_complaints();
            return Err(if complaints.is_empty() {
                StreamError::incomplete(format!("its `tar` ended with status {status}"))
            } else {
                StreamError::refused(complaints)
            });
        }
        if !self.is_all_encoded {
            return Err(StreamError::incomplete("its `tar` ended early"));
        }
        Ok(self.source.report)
    }

    fn encode(&mut self, record: UploadRecord, buffer: &mut Vec<u8>) -> Result<(), StreamError> {
        match record {
            UploadRecord::EnterDir { name, mode, mtime } => {
                check_name(&name)?;
                let parent_len = self.path.len();
                self.path.extend_from_slice(&name);
                self.path.push(b'/');
                // Whatever it is to become, it has to be filled first.
                let open_mode = Mode::new(mode.bits() | 0o700);
                encode_header(
                    EntryType::Directory,
                    &self.path,
                    open_mode,
                    mtime,
                    0,
                    buffer,
                );
                self.open.push(OpenDir {
                    parent_len,
                    mode,
                    mtime,
                });
                self.source.report.dirs += 1;
            }
            UploadRecord::LeaveDir => {
                if let Some(dir) = self.open.pop() {
                    // Once more: busybox sets a time at once, and then what is put into the folder
                    // changes it.
                    let OpenDir { mode, mtime, .. } = dir;
                    encode_header(EntryType::Directory, &self.path, mode, mtime, 0, buffer);
                    self.path.truncate(dir.parent_len);
                }
            }
            UploadRecord::File {
                name,
                mode,
                mtime,
                size_bytes,
                content,
            } => {
                check_name(&name)?;
                let sending = Sending::open(&name, content, size_bytes)?;
                let path = [self.path.as_slice(), &name].concat();
                encode_header(EntryType::Regular, &path, mode, mtime, size_bytes, buffer);
                self.sending = Some((sending, padding(size_bytes)));
                self.source.report.files += 1;
            }
        }
        Ok(())
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<(), StreamError> {
        while buffer.len() < CHUNK_BYTES {
            if let Some((mut sending, padding)) = self.sending.take() {
                self.source.read(&mut sending, buffer)?;
                if sending.is_read() {
                    buffer.resize(buffer.len() + padding, 0);
                } else {
                    self.sending = Some((sending, padding));
                }
                continue;
            }
            let Some(record) = self.source.next() else {
                // Two empty blocks are the end.
                buffer.resize(buffer.len() + 2 * BLOCK_BYTES, 0);
                self.is_all_encoded = true;
                break;
            };
            self.encode(record, buffer)?;
        }
        Ok(())
    }

    /// Whether it goes on without something that it could not make: GNU tar does, to the end of the
    /// archive. Other lines may come from anything that writes to standard error there.
    fn is_in_vain(&self) -> bool {
        let complaints = self.replies.complaints();
        complaints.iter().any(|text| text.contains(": Cannot "))
    }
}

impl ExecIo for TarUpload<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.is_all_encoded || self.is_in_vain() {
            return Ok(Input::End);
        }
        if let Err(error) = self.fill(buffer) {
            self.source.failure = Some(error.clone());
            return Err(error.into());
        }
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        Ok(self.replies.take_in(bytes))
    }
}

/// How many bytes are missing to a whole block.
fn padding(size_bytes: u64) -> usize {
    let block = BLOCK_BYTES as u64;
    usize::try_from(size_bytes.next_multiple_of(block) - size_bytes).expect("less than a block")
}

fn encode_header(
    entry_type: EntryType,
    path: &[u8],
    mode: Mode,
    mtime: Option<i64>,
    size_bytes: u64,
    buffer: &mut Vec<u8>,
) {
    if path.len() > NAME_BYTES {
        let mut long = path.to_vec();
        long.push(0);
        let len = long.len() as u64;
        let mode = Mode::new(0o644);
        encode_block(
            EntryType::GNULongName,
            b"././@LongLink",
            mode,
            0,
            len,
            buffer,
        );
        long.resize(long.len() + padding(len), 0);
        buffer.append(&mut long);
    }
    let mtime = mtime.map_or(0, clamped);
    encode_block(entry_type, path, mode, mtime, size_bytes, buffer);
}

/// One block of header. A path that is too long for it is cut off.
fn encode_block(
    entry_type: EntryType,
    path: &[u8],
    mode: Mode,
    mtime_s: u64,
    size_bytes: u64,
    buffer: &mut Vec<u8>,
) {
    let mut header = Header::new_gnu();
    let name = &path[..path.len().min(NAME_BYTES)];
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.set_entry_type(entry_type);
    header.set_mode(mode.bits());
    // Whose it is to be is up to the login.
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(mtime_s);
    header.set_size(size_bytes);
    header.set_cksum();
    buffer.extend_from_slice(header.as_bytes());
}

#[cfg(test)]
mod tests;
