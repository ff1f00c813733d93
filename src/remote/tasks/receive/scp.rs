//! The SCP stream: a tree of files through one `scp -rpt`, acknowledgements not waited for.
//!
//! The sink answers every record with a byte. Waiting for each answer costs a round trip per file;
//! here a bounded number of answers may be outstanding, and all of them are counted. That is safe
//! only into a fresh private folder: a sink that cannot open a file takes the bytes of that file for
//! further records.

use super::stream::{
    CHUNK_BYTES, Replies, Sending, Source, StreamError, UploadRecord, UploadReport, check_name,
    clamped,
};
use crate::model::Mode;
use crate::transport::{Aborted, ExecIo, Flow, Input};

/// Answers that may be outstanding. A small file has two or three, and a line of 50 ms takes some
/// ten thousand of these in a round trip.
const WINDOW: u64 = 65_536;

/// Sends records to a sink; the [`ExecIo`] of the command that runs it.
#[derive(Debug)]
pub struct ScpUpload<'a> {
    source: Source<'a>,
    sending: Option<Sending>,
    is_all_encoded: bool,
    /// Whether input stays open, and a last `E` ends the stream.
    has_open_end: bool,
    /// Answers that are due for what was encoded so far.
    expected: u64,
    replies: Replies,
}

impl<'a> ScpUpload<'a> {
    /// An upload of these records; `nonce` is in the markers that the command prints.
    pub fn new(nonce: &str, records: impl IntoIterator<Item = UploadRecord, IntoIter: 'a>) -> Self {
        Self {
            source: Source::new(records),
            sending: None,
            is_all_encoded: false,
            has_open_end: false,
            // The sink announces itself.
            expected: 1,
            replies: Replies::new(nonce, "scp", &[]),
        }
    }

    /// Ends the stream with one `E` more than there are folders, and leaves input open.
    #[must_use]
    pub fn with_open_end(mut self) -> Self {
        self.has_open_end = true;
        self
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
    /// Unless the sink ended well and acknowledged every record.
    pub fn finish(self) -> Result<UploadReport, StreamError> {
        if let Some(failure) = self.source.failure {
            return Err(failure);
        }
        if !self.replies.complaints().is_empty() {
            let complaints = self.replies.into_complaints();
            return Err(StreamError::refused(complaints));
        }
        let acknowledged = self.replies.acknowledged;
        match self.replies.status()? {
            0 => {}
            status if acknowledged == 0 => {
                return Err(StreamError::Unavailable {
                    program: "scp",
                    status,
                });
            }
            status => {
                let reason = format!("its `scp` ended with status {status}");
                return Err(StreamError::incomplete(reason));
            }
        }
        if !self.is_all_encoded || acknowledged != self.expected {
            let reason = format!("{acknowledged} of {} answers came", self.expected);
            return Err(StreamError::incomplete(reason));
        }
        Ok(self.source.report)
    }

    /// Encodes the start of a record. Answers to come are counted here, so that none can be
    /// forgotten.
    fn encode(&mut self, record: UploadRecord, buffer: &mut Vec<u8>) -> Result<(), StreamError> {
        match record {
            UploadRecord::EnterDir { name, mode, mtime } => {
                check_name(&name)?;
                self.encode_header(b'D', mode, mtime, 0, &name, buffer);
                self.source.report.dirs += 1;
            }
            UploadRecord::LeaveDir => {
                buffer.extend_from_slice(b"E\n");
                self.expected += 1;
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
                self.encode_header(b'C', mode, mtime, size_bytes, &name, buffer);
                self.sending = Some(sending);
                self.source.report.files += 1;
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
        if let Some(mtime) = mtime.map(clamped) {
            buffer.extend_from_slice(format!("T{mtime} 0 {mtime} 0\n").as_bytes());
            self.expected += 1;
        }
        buffer.push(kind);
        buffer.extend_from_slice(format!("{:04o} {size_bytes} ", mode.bits()).as_bytes());
        buffer.extend_from_slice(name);
        buffer.push(b'\n');
        self.expected += 1;
    }

    fn at_end(&self) -> Input {
        if self.has_open_end {
            Input::Wait
        } else {
            Input::End
        }
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> Result<(), StreamError> {
        while buffer.len() < CHUNK_BYTES {
            if let Some(mut sending) = self.sending.take() {
                self.source.read(&mut sending, buffer)?;
                if sending.is_read() {
                    buffer.push(0);
                    self.expected += 1;
                } else {
                    self.sending = Some(sending);
                }
                continue;
            }
            if self.expected.saturating_sub(self.replies.acknowledged) >= WINDOW {
                break;
            }
            let Some(record) = self.source.next() else {
                self.is_all_encoded = true;
                if self.has_open_end {
                    buffer.extend_from_slice(b"E\n");
                    self.expected += 1;
                }
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
        if !self.replies.complaints().is_empty() || self.is_all_encoded {
            return Ok(self.at_end());
        }
        if let Err(error) = self.fill(buffer) {
            self.source.failure = Some(error.clone());
            return Err(error.into());
        }
        Ok(match (buffer.is_empty(), self.is_all_encoded) {
            (false, _) => Input::Ready,
            (true, true) => self.at_end(),
            (true, false) => Input::Wait,
        })
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        Ok(self.replies.take_in(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::tasks::receive::stream::Content;

    fn file(name: &str, content: &[u8]) -> UploadRecord {
        UploadRecord::File {
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
        let dir = UploadRecord::EnterDir {
            name: b"d".to_vec(),
            mode: Mode::new(0o2755),
            mtime: None,
        };
        ScpUpload::new("n", [dir, file("-f \"$x", b"ab"), UploadRecord::LeaveDir])
    }

    /// The same upload, all sent, after these replies.
    fn outcome(replies: &[u8]) -> Result<UploadReport, StreamError> {
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
            Ok(UploadReport {
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
            assert!(matches!(error, StreamError::Incomplete { .. }), "{error}");
        }
    }

    #[test]
    fn scp_that_is_not_there_is_told_apart() {
        assert_eq!(
            outcome(b"HOSTSYNC n scp\nHOSTSYNC n end 127\n"),
            Err(StreamError::Unavailable {
                program: "scp",
                status: 127
            })
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
    fn complaints_hold_nothing_that_acts_on_a_terminal() {
        let mut upload = ScpUpload::new("n", [file("f", b"x")]);
        let said = b"HOSTSYNC n scp\n\0\x01scp: f\0\x1b[2J\xc2\x9b: no\r\nHOSTSYNC n end 1\n";
        let _ = upload.output(said).expect("no failure");
        let error = upload.finish().expect_err("refused").to_string();
        assert_eq!(error, "the host could not write: f[2J: no");
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
            let record = UploadRecord::File {
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
            Err(StreamError::SourceChanged { .. })
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
