//! Uploads into real `scp` and `tar` programs.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hostsync::model::{Blake3, Mode};
use hostsync::remote::tasks::receive::scp::ScpUpload;
use hostsync::remote::tasks::receive::stream::{Content, StreamError, UploadRecord, UploadReport};
use hostsync::remote::tasks::receive::tar::TarUpload;
use hostsync::transport::TransportError;

use crate::harness::session;
use hostsync_testkit::{Dropbear, Host, Sshd, run};

/// The command that an upload through `scp` is run with; `dir` is a plain word.
fn command(dir: &str) -> String {
    format!(
        "exec /bin/sh -c 'echo noise; echo HOSTSYNC n0nce scp; scp -rpt {dir}; \
         echo HOSTSYNC n0nce end $?'"
    )
}

/// The same through `tar`.
fn tar_command(dir: &str) -> String {
    format!(
        "exec /bin/sh -c 'umask 000; LC_ALL=C; export LC_ALL; echo noise; echo HOSTSYNC n0nce tar; \
         tar -xpof - -C {dir} 2>&1; echo HOSTSYNC n0nce end $?'"
    )
}

/// Uploads into the folder `staging` of a host through `scp`.
fn through_scp(host: &Host, records: Vec<UploadRecord>) -> UploadReport {
    let mut upload = ScpUpload::new("n0nce", records);
    let outcome = session(host).exec(&command("staging"), &mut upload);
    outcome.expect("runs");
    upload.finish().expect("is complete")
}

/// Uploads into the folder `staging` of a host through `tar`.
fn through_tar(host: &Host, records: Vec<UploadRecord>) -> UploadReport {
    let mut upload = TarUpload::new("n0nce", records);
    let outcome = session(host).exec(&tar_command("staging"), &mut upload);
    outcome.expect("runs");
    upload.finish().expect("is complete")
}

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

/// A folder of the host that exists and is empty.
fn staging(host: &Host) -> PathBuf {
    let path = host.dir().join("staging");
    fs::create_dir(&path).expect("our folder");
    host.account.own(&path);
    path
}

/// Mode, modification time and digest of everything below a folder; folders have no digest.
fn found(root: &Path) -> BTreeMap<Vec<u8>, (u32, i64, Option<Blake3>)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(root).expect("readable") {
        let path = entry.expect("readable").path();
        let meta = fs::metadata(&path).expect("there");
        let name = path.strip_prefix(root).expect("below").as_os_str();
        let digest = meta
            .is_file()
            .then(|| Blake3::of(&fs::read(&path).expect("readable")));
        let what = (meta.mode() & 0o7777, meta.mtime(), digest);
        all.insert(name.as_bytes().to_vec(), what);
        if meta.is_dir() {
            for (below, what) in found(&path) {
                let path = Path::new(name).join(OsStr::from_bytes(&below));
                all.insert(path.as_os_str().as_bytes().to_vec(), what);
            }
        }
    }
    all
}

/// Sends a tree in which nothing is plain, and looks at what came.
#[track_caller]
fn expect_tree_with_odd_names(
    host: &Host,
    upload: impl FnOnce(&Host, Vec<UploadRecord>) -> UploadReport,
    modes: [u32; 2],
) {
    let staging = staging(host);
    let long = [b'l'; 255];
    let names: [&[u8]; 11] = [
        b"plain",
        b"two words ",
        b"\"'quotes`",
        b"$HOME",
        b"back\\slash\\n",
        b"-rf",
        b"caf\xe9 \xff",
        b"*?[x]",
        b"\ttab",
        b"..hidden",
        &long,
    ];
    let mut records = vec![
        dir(b"a b", modes[0], 1_000_000_000),
        dir(b"-d", modes[1], 0),
    ];
    let mut expected = BTreeMap::new();
    expected.insert(b"a b".to_vec(), (modes[0], 1_000_000_000, None));
    expected.insert(b"a b/-d".to_vec(), (modes[1], 0, None));
    for (index, name) in names.iter().enumerate() {
        let mode = [0o644, 0o600, 0o755, 0o444, 0o711][index % 5];
        let mtime = 1_234_567_890 + i64::try_from(index).expect("small");
        let content = vec![u8::try_from(index).expect("small"); index * 40_000];
        records.push(file(name, mode, mtime, &content));
        let path = [b"a b/-d/".as_slice(), name].concat();
        expected.insert(path, (mode, mtime, Some(Blake3::of(&content))));
    }
    records.extend([UploadRecord::LeaveDir, UploadRecord::LeaveDir]);
    let report = upload(host, records);
    assert_eq!((report.files, report.dirs), (11, 2));
    assert_eq!(found(&staging), expected);
}

#[test]
fn tree_with_odd_names_arrives_with_bytes_modes_and_times() {
    let host = Sshd::start("127.0.0.81");
    expect_tree_with_odd_names(&host, through_scp, [0o2750, 0o500]);
}

#[test]
fn tree_with_odd_names_arrives_through_tar() {
    let host = Sshd::start("127.0.0.88");
    expect_tree_with_odd_names(&host, through_tar, [0o2750, 0o500]);
}

#[test]
fn tree_with_odd_names_arrives_through_tar_of_busybox_under_dropbear() {
    let host = Dropbear::start("127.0.0.89");
    // Of a user who is not root, it sets no bits after an entry was made.
    expect_tree_with_odd_names(&host, through_tar, [0o750, 0o1777]);
}

#[test]
fn thousands_of_files_are_all_acknowledged() {
    let host = Sshd::start("127.0.0.82");
    let staging = staging(&host);
    let records = (0..10_000).map(|index| {
        let name = format!("file{index}").into_bytes();
        file(&name, 0o644, 0, &name)
    });
    assert_eq!(through_scp(&host, records.collect()).files, 10_000);
    assert_eq!(fs::read_dir(staging).expect("readable").count(), 10_000);
}

#[test]
fn file_on_disk_is_streamed() {
    let host = Sshd::start("127.0.0.83");
    let staging = staging(&host);
    let source = host.private_dir().join("source");
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&source, &bytes).expect("our folder");
    let record = |name: &[u8]| UploadRecord::File {
        name: name.to_vec(),
        mode: Mode::new(0o644),
        mtime: None,
        size_bytes: bytes.len() as u64,
        content: Content::Path(source.clone()),
    };
    through_scp(&host, vec![record(b"by scp")]);
    through_tar(&host, vec![record(b"by tar")]);
    for name in ["by scp", "by tar"] {
        assert!(fs::read(staging.join(name)).expect("arrived") == bytes);
    }
}

#[test]
fn source_that_is_gone_ends_the_upload_and_the_session_lives_on() {
    let host = Sshd::start("127.0.0.84");
    staging(&host);
    let source = host.private_dir().join("source");
    let record = UploadRecord::File {
        name: b"f".to_vec(),
        mode: Mode::new(0o644),
        mtime: None,
        size_bytes: 4,
        content: Content::Path(source.clone()),
    };
    let mut session = session(&host);
    let mut upload = ScpUpload::new("n0nce", [record]);
    let error = session
        .exec(&command("staging"), &mut upload)
        .expect_err("is gone");
    assert!(matches!(error, TransportError::Aborted(_)), "{error}");
    assert!(error.to_string().contains(&source.display().to_string()));
    let mut upload = ScpUpload::new("n0nce", [file(b"g", 0o644, 0, b"x")]);
    session
        .exec(&command("staging"), &mut upload)
        .expect("runs");
    upload.finish().expect("is complete");
}

/// What the host complained about.
#[track_caller]
fn complaints(outcome: Result<UploadReport, StreamError>) -> Vec<String> {
    match outcome.expect_err("is refused") {
        StreamError::Refused { complaints, .. } => complaints,
        other => panic!("{other}"),
    }
}

#[test]
fn folder_without_permission_gives_the_reason_of_the_host() {
    let host = Sshd::start("127.0.0.85");
    let staging = staging(&host);
    run(Command::new("chmod").arg("555").arg(&staging));
    let record = file(b"f", 0o644, 0, b"x");
    let mut session = session(&host);
    let mut by_scp = ScpUpload::new("n0nce", [record.clone()]);
    session
        .exec(&command("staging"), &mut by_scp)
        .expect("runs");
    let mut by_tar = TarUpload::new("n0nce", [record]);
    session
        .exec(&tar_command("staging"), &mut by_tar)
        .expect("runs");
    for complaints in [complaints(by_scp.finish()), complaints(by_tar.finish())] {
        assert!(
            complaints[0].contains("Permission denied"),
            "{complaints:?}"
        );
    }
}

/// The command in a shell that can write no more than 4 KiB into a file, since not everywhere a
/// file system can be filled.
fn with_little_room(command: &str) -> String {
    command.replacen('\'', "'ulimit -f 8; trap \"\" XFSZ; ", 1)
}

#[test]
fn full_disk_gives_the_reason_of_the_host_first() {
    let host = Sshd::start("127.0.0.86");
    staging(&host);
    let mut upload = ScpUpload::new("n0nce", [file(b"f", 0o644, 0, &vec![1; 1 << 20])]);
    session(&host)
        .exec(&with_little_room(&command("staging")), &mut upload)
        .expect("runs");
    let complaints = complaints(upload.finish());
    assert!(complaints[0].contains("File too large"), "{complaints:?}");
}

#[test]
fn full_disk_gives_the_reason_of_busybox_tar_under_dropbear() {
    let host = Dropbear::start("127.0.0.90");
    staging(&host);
    // It ends at once, long before everything is sent.
    let mut upload = TarUpload::new("n0nce", [file(b"f", 0o644, 0, &vec![1; 20 << 20])]);
    session(&host)
        .exec(&with_little_room(&tar_command("staging")), &mut upload)
        .expect("runs");
    let complaints = complaints(upload.finish());
    assert!(complaints[0].contains("File too large"), "{complaints:?}");
}

fn unavailable(program: &'static str) -> StreamError {
    StreamError::Unavailable {
        program,
        status: 127,
    }
}

#[test]
fn host_without_scp_is_told_apart() {
    let host = Sshd::start("127.0.0.87");
    staging(&host);
    let command = command("staging").replace("scp -rpt", "no-such-scp -rpt");
    let mut upload = ScpUpload::new("n0nce", [file(b"f", 0o644, 0, b"x")]);
    session(&host).exec(&command, &mut upload).expect("runs");
    assert_eq!(upload.finish(), Err(unavailable("scp")));
}

#[test]
fn host_without_tar_is_told_apart() {
    let host = Sshd::start("127.0.0.91");
    staging(&host);
    let command = tar_command("staging").replace("tar -xpof", "no-such-tar -xpof");
    let mut upload = TarUpload::new("n0nce", [file(b"f", 0o644, 0, b"x")]);
    session(&host).exec(&command, &mut upload).expect("runs");
    assert_eq!(upload.finish(), Err(unavailable("tar")));
}
