//! Tests of [`super`].

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::*;
use crate::remote::tasks::receive::stream::Content;

const START: &[u8] = b"HOSTSYNC n tar\n";

fn dir(name: &[u8], mode: u32, mtime: i64) -> UploadRecord {
    UploadRecord::EnterDir {
        name: name.to_vec(),
        mode: Mode::new(mode),
        mtime: Some(mtime),
    }
}

fn file(name: &[u8], mode: u32, mtime: i64, bytes: &[u8]) -> UploadRecord {
    UploadRecord::File {
        name: name.to_vec(),
        mode: Mode::new(mode),
        mtime: Some(mtime),
        size_bytes: bytes.len() as u64,
        content: Content::Bytes(bytes.to_vec()),
    }
}

/// Everything that the upload sends.
fn sent(upload: &mut TarUpload<'_>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let mut buffer = Vec::new();
        match upload.next_input(&mut buffer).expect("nothing fails") {
            Input::Ready => all.append(&mut buffer),
            Input::Wait => panic!("there is nothing to wait for"),
            Input::End => return all,
        }
    }
}

/// What this system's tar makes of an archive: standard output, and whether it was content.
fn tar(args: &[&str], archive: &[u8]) -> (String, bool) {
    let mut child = Command::new("tar")
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a tar");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(archive).expect("it reads");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (text, output.status.success())
}

fn unpacked(archive: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().to_str().expect("plain");
    let (_, is_well) = tar(&["-xpof", "-", "-C", path], archive);
    assert!(is_well);
    folder
}

/// Permission bits, modification time and content; of folders the size is left out.
fn looks(path: &Path) -> (u32, i64, Vec<u8>) {
    let meta = fs::symlink_metadata(path).expect("it is there");
    let content = if meta.is_file() {
        fs::read(path).expect("readable")
    } else {
        Vec::new()
    };
    (meta.mode() & 0o7777, meta.mtime(), content)
}

#[test]
fn archive_becomes_the_tree_with_bytes_modes_and_times() {
    let big = vec![7; 3 * CHUNK_BYTES + 1];
    let upload = &mut TarUpload::new(
        "n",
        [
            dir(b"0", 0o2750, 1_000_000_000),
            file(b"empty", 0o6755, 5, b""),
            dir(b"-d", 0o500, 0),
            file(b"big", 0o444, 1_234_567_890, &big),
            UploadRecord::LeaveDir,
            file(b"a \"$x\\n", 0o4711, 2_000_000_000, &[1; 512]),
            dir(b"nothing in it", 0o1777, 9),
            UploadRecord::LeaveDir,
            UploadRecord::LeaveDir,
            file(b"-f", 0o600, i64::MAX, b"last"),
        ],
    );
    let archive = sent(upload);
    assert_eq!(archive.len() % BLOCK_BYTES, 0);
    let folder = unpacked(&archive);
    for (name, mode, mtime, content) in [
        ("0", 0o2750, 1_000_000_000, b"".as_slice()),
        ("0/empty", 0o6755, 5, b""),
        ("0/-d", 0o500, 0, b""),
        ("0/-d/big", 0o444, 1_234_567_890, &big),
        ("0/a \"$x\\n", 0o4711, 2_000_000_000, &[1; 512]),
        ("0/nothing in it", 0o1777, 9, b""),
        ("-f", 0o600, LATEST, b"last"),
    ] {
        let expected = (mode, mtime, content.to_vec());
        assert!(looks(&folder.path().join(name)) == expected, "{name}");
    }
}

const LATEST: i64 = u32::MAX as i64;

#[test]
fn paths_of_every_length_arrive_and_so_do_bytes_that_are_no_text() {
    // Around the lengths at which the format changes, and as long as a name may be.
    for len in [98, 99, 100, 101, 102, 155, 156, 254, 255] {
        let name = vec![0xe9; len];
        let mut upload = TarUpload::new(
            "n",
            [
                dir(&name, 0o755, 1),
                file(&name, 0o644, 2, b"x"),
                dir(b"d", 0o755, 3),
                file(&name, 0o644, 4, b"y"),
                UploadRecord::LeaveDir,
                UploadRecord::LeaveDir,
                file(b"after", 0o644, 5, b"z"),
            ],
        );
        let folder = unpacked(&sent(&mut upload));
        let name = OsStr::from_bytes(&name);
        let outer = folder.path().join(name);
        assert_eq!(looks(&outer).1, 1, "{len}");
        assert_eq!(looks(&outer.join(name)), (0o644, 2, b"x".to_vec()));
        assert_eq!(looks(&outer.join("d")).1, 3, "{len}");
        assert_eq!(looks(&outer.join("d").join(name)).2, b"y");
        assert_eq!(looks(&folder.path().join("after")).2, b"z");
    }
}

#[test]
fn size_that_octal_digits_cannot_express_is_understood() {
    const SIZE_BYTES: u64 = 9 << 30;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("sparse");
    let sparse = fs::File::create(&path).expect("our folder");
    sparse.set_len(SIZE_BYTES).expect("it takes no room");
    let record = UploadRecord::File {
        name: b"huge".to_vec(),
        mode: Mode::new(0o644),
        mtime: None,
        size_bytes: SIZE_BYTES,
        content: Content::Path(path),
    };
    let mut start = Vec::new();
    TarUpload::new("n", [record])
        .next_input(&mut start)
        .expect("nothing fails");
    assert!(start.len() <= CHUNK_BYTES);
    // The rest is missing, which it does not like, but it has read the header.
    let (listing, _) = tar(&["-tvf", "-"], &start);
    assert!(listing.contains(" 9663676416 "), "{listing}");
}

#[test]
fn no_file_is_ever_held_whole() {
    let big = vec![7; 5 * CHUNK_BYTES];
    let mut upload = TarUpload::new("n", [file(b"big", 0o644, 0, &big)]);
    let mut buffer = Vec::new();
    while upload.next_input(&mut buffer).expect("nothing fails") == Input::Ready {
        assert!(buffer.len() <= CHUNK_BYTES + 3 * BLOCK_BYTES);
        buffer.clear();
    }
}

/// A small upload, all sent, after these replies.
fn outcome(replies: &[u8]) -> Result<UploadReport, StreamError> {
    let mut upload = TarUpload::new(
        "n",
        [
            dir(b"d", 0o755, 0),
            file(b"f", 0o644, 0, b"ab"),
            UploadRecord::LeaveDir,
        ],
    );
    sent(&mut upload);
    // Byte by byte: no reply may depend on how the network cuts it.
    for byte in replies {
        let _ = upload.output(&[*byte]).expect("never fails");
    }
    upload.finish()
}

#[test]
fn status_zero_is_a_success_whatever_was_remarked() {
    let success = Ok(UploadReport {
        files: 1,
        dirs: 1,
        content_bytes: 2,
    });
    for said in [
        "",
        "tar: d/f: time stamp 2033-05-18 03:33:20 is 9.5 s in the future\n",
        "ERROR: ld.so: object 'x.so' cannot be preloaded: ignored.\n",
    ] {
        let replies = format!("welcome\nHOSTSYNC n tar\n{said}HOSTSYNC n end 0\n");
        assert_eq!(outcome(replies.as_bytes()), success);
    }
}

#[test]
fn missing_marker_is_never_a_success() {
    for replies in [
        "",
        "HOSTSYNC n end 0\n",
        "HOSTSYNC n tar\n",
        "HOSTSYNC n tar\nHOSTSYNC n end 0",
        "HOSTSYNC n tar\nHOSTSYNC n end x\n",
        "HOSTSYNC n tar\nHOSTSYNC n end 2\n",
        "HOSTSYNC m tar\nHOSTSYNC n end 0\n",
        "HOSTSYNC n scp\nHOSTSYNC n end 0\n",
    ] {
        let error = outcome(replies.as_bytes()).expect_err("not complete");
        assert!(matches!(error, StreamError::Incomplete { .. }), "{error}");
    }
}

#[test]
fn tar_that_ends_before_the_archive_does_is_never_a_success() {
    let mut upload = TarUpload::new("n", [file(b"f", 0o644, 0, b"ab")]);
    let _ = upload.output(START).expect("never fails");
    let _ = upload.output(b"HOSTSYNC n end 0\n").expect("never fails");
    let error = upload.finish().expect_err("not complete");
    assert!(matches!(error, StreamError::Incomplete { .. }), "{error}");
}

#[test]
fn tar_that_is_not_there_is_told_apart() {
    let replies = b"HOSTSYNC n tar\nsh: tar: not found\nHOSTSYNC n end 127\n";
    let unavailable = StreamError::Unavailable {
        program: "tar",
        status: 127,
    };
    assert_eq!(outcome(replies), Err(unavailable));
}

#[test]
fn complaints_name_the_cause_first_and_leave_remarks_out() {
    let error = outcome(
        b"HOSTSYNC n tar\ntar: d: time stamp 2033-05-18 03:33:20 is 9.5 s in the future\ntar: \
              d/f: Wrote only 512 of 1024 bytes\ntar: Exiting with failure status due to previous \
              errors\nNo space left on device\nHOSTSYNC n end 2\n",
    )
    .expect_err("refused");
    assert_eq!(
        error.to_string(),
        "the host could not write: No space left on device; d/f: Wrote only 512 of 1024 bytes; \
             Exiting with failure status due to previous errors"
    );
}

#[test]
fn nothing_is_sent_after_an_entry_that_could_not_be_made() {
    let records = std::iter::repeat_with(|| file(b"f", 0o644, 0, b"x"));
    let mut upload = TarUpload::new("n", records);
    let _ = upload.output(START).expect("never fails");
    let next = |upload: &mut TarUpload<'_>| upload.next_input(&mut Vec::new());
    let _ = upload.output(b"tar: something else\n").expect("no failure");
    assert_eq!(next(&mut upload).expect("goes on"), Input::Ready);
    let complaint = b"tar: f: Cannot open: Permission denied\n";
    let _ = upload.output(complaint).expect("no failure");
    assert_eq!(next(&mut upload).expect("ends"), Input::End);
}

#[test]
fn names_that_would_lead_elsewhere_are_refused() {
    for name in ["", ".", "..", "a/b", "/a", "a\nb", "a\0b"] {
        for record in [
            file(name.as_bytes(), 0o644, 0, b""),
            dir(name.as_bytes(), 0o755, 0),
        ] {
            let mut upload = TarUpload::new("n", [record]);
            let error = upload.next_input(&mut Vec::new()).expect_err("refused");
            assert!(error.to_string().contains("cannot be sent"), "{name:?}");
            assert!(matches!(upload.finish(), Err(StreamError::Name { .. })));
        }
    }
}

#[test]
fn source_that_became_shorter_ends_the_upload_and_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("source");
    fs::write(&path, vec![b'x'; 2 * CHUNK_BYTES]).expect("written");
    let record = UploadRecord::File {
        name: b"f".to_vec(),
        mode: Mode::new(0o644),
        mtime: None,
        size_bytes: 2 * CHUNK_BYTES as u64,
        content: Content::Path(path.clone()),
    };
    let mut upload = TarUpload::new("n", [record]);
    upload.next_input(&mut Vec::new()).expect("the first part");
    fs::write(&path, b"").expect("written");
    upload.next_input(&mut Vec::new()).expect_err("is shorter");
    let error = upload.finish().expect_err("is shorter");
    let text = error.to_string();
    assert!(text.starts_with(&path.display().to_string()), "{text}");
    assert!(matches!(error, StreamError::SourceChanged { .. }));
}

#[test]
fn progress_adds_up_to_the_content() {
    let mut seen = 0;
    let big = vec![7; 3 * CHUNK_BYTES + 1];
    let records = [
        file(b"a", 0o644, 0, &big),
        file(b"b", 0o644, 0, b""),
        file(b"c", 0o644, 0, b"xyz"),
    ];
    let mut upload = TarUpload::new("n", records).on_progress(|bytes| seen += bytes);
    sent(&mut upload);
    drop(upload);
    assert_eq!(seen, big.len() as u64 + 3);
}
