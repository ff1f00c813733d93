//! The SCP stream into real sinks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use hostsync::model::{Blake3, Mode};
use hostsync::transport::TransportError;
use hostsync::transport::scp::{Content, ScpError, ScpRecord, ScpUpload};

use crate::harness::session;
use crate::support::{Host, Sshd, run};

/// The command that the upload is run with; `dir` is a plain word.
fn command(dir: &str) -> String {
    format!(
        "exec /bin/sh -c 'echo noise; echo HOSTSYNC n0nce scp; scp -rpt {dir}; \
         echo HOSTSYNC n0nce end $?'"
    )
}

fn dir(name: &[u8], mode: u32, mtime: i64) -> ScpRecord {
    ScpRecord::EnterDir {
        name: name.to_vec(),
        mode: Mode::new(mode),
        mtime: Some(mtime),
    }
}

fn file(name: &[u8], mode: u32, mtime: i64, bytes: &[u8]) -> ScpRecord {
    ScpRecord::File {
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

#[test]
fn tree_with_odd_names_arrives_with_bytes_modes_and_times() {
    let host = Sshd::start("127.0.0.81");
    let staging = staging(&host);
    let names: [&[u8]; 10] = [
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
    ];
    let mut records = vec![dir(b"a b", 0o2750, 1_000_000_000), dir(b"-d", 0o500, 0)];
    let mut expected = BTreeMap::new();
    expected.insert(b"a b".to_vec(), (0o2750, 1_000_000_000, None));
    expected.insert(b"a b/-d".to_vec(), (0o500, 0, None));
    for (index, name) in names.iter().enumerate() {
        let mode = [0o644, 0o600, 0o755, 0o444, 0o711][index % 5];
        let mtime = 1_234_567_890 + i64::try_from(index).expect("small");
        let content = vec![u8::try_from(index).expect("small"); index * 40_000];
        records.push(file(name, mode, mtime, &content));
        let path = [b"a b/-d/".as_slice(), name].concat();
        expected.insert(path, (mode, mtime, Some(Blake3::of(&content))));
    }
    records.extend([ScpRecord::LeaveDir, ScpRecord::LeaveDir]);
    let mut upload = ScpUpload::new("n0nce", records);
    session(&host)
        .exec(&command("staging"), &mut upload)
        .expect("runs");
    let report = upload.finish().expect("is complete");
    assert_eq!((report.files, report.dirs), (10, 2));
    assert_eq!(found(&staging), expected);
}

#[test]
fn thousands_of_files_are_all_acknowledged() {
    let host = Sshd::start("127.0.0.82");
    let staging = staging(&host);
    let records = (0..10_000).map(|index| {
        let name = format!("file{index}").into_bytes();
        file(&name, 0o644, 0, &name)
    });
    let mut upload = ScpUpload::new("n0nce", records);
    session(&host)
        .exec(&command("staging"), &mut upload)
        .expect("runs");
    assert_eq!(upload.finish().expect("is complete").files, 10_000);
    assert_eq!(fs::read_dir(staging).expect("readable").count(), 10_000);
}

#[test]
fn file_on_disk_is_streamed() {
    let host = Sshd::start("127.0.0.83");
    let staging = staging(&host);
    let source = host.private_dir().join("source");
    let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
    fs::write(&source, &bytes).expect("our folder");
    let record = ScpRecord::File {
        name: b"big".to_vec(),
        mode: Mode::new(0o644),
        mtime: None,
        size_bytes: bytes.len() as u64,
        content: Content::Path(source),
    };
    let mut upload = ScpUpload::new("n0nce", [record]);
    session(&host)
        .exec(&command("staging"), &mut upload)
        .expect("runs");
    upload.finish().expect("is complete");
    assert!(fs::read(staging.join("big")).expect("arrived") == bytes);
}

#[test]
fn source_that_is_gone_ends_the_upload_and_the_session_lives_on() {
    let host = Sshd::start("127.0.0.84");
    staging(&host);
    let source = host.private_dir().join("source");
    let record = ScpRecord::File {
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

#[test]
fn folder_without_permission_gives_the_reason_of_the_host() {
    let host = Sshd::start("127.0.0.85");
    let staging = staging(&host);
    run(Command::new("chmod").arg("555").arg(&staging));
    let mut upload = ScpUpload::new("n0nce", [file(b"f", 0o644, 0, b"x")]);
    session(&host)
        .exec(&command("staging"), &mut upload)
        .expect("runs");
    let error = upload.finish().expect_err("is refused");
    let ScpError::Refused { complaints } = &error else {
        panic!("{error}");
    };
    assert!(complaints[0].contains("Permission denied"), "{error}");
}

#[test]
fn full_disk_gives_the_reason_of_the_host_first() {
    let host = Sshd::start("127.0.0.86");
    // A limit on the size of files (in 512-byte blocks) where no file system can be filled.
    let command = "exec /bin/sh -c 'ulimit -f 8; trap \"\" XFSZ; echo HOSTSYNC n0nce scp; \
                   scp -rpt staging; echo HOSTSYNC n0nce end $?'";
    staging(&host);
    let mut upload = ScpUpload::new("n0nce", [file(b"f", 0o644, 0, &vec![1; 1 << 20])]);
    session(&host).exec(command, &mut upload).expect("runs");
    let error = upload.finish().expect_err("is refused");
    let ScpError::Refused { complaints } = &error else {
        panic!("{error}");
    };
    assert!(complaints[0].contains("File too large"), "{error}");
}

#[test]
fn host_without_scp_is_told_apart() {
    let host = Sshd::start("127.0.0.87");
    staging(&host);
    let command = command("staging").replace("scp -rpt", "no-such-scp -rpt");
    let mut upload = ScpUpload::new("n0nce", [file(b"f", 0o644, 0, b"x")]);
    session(&host).exec(&command, &mut upload).expect("runs");
    assert_eq!(upload.finish(), Err(ScpError::Unavailable { status: 127 }));
}
