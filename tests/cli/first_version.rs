//! What the first version has written: `tests/data/first_version/` holds its configuration, its state after two
//! applies, and two of its plans.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use walkdir::WalkDir;

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/first_version")
}

/// A copy of its folder, with the sources that its plans were made from.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for entry in WalkDir::new(data()).min_depth(1) {
        let entry = entry.expect("an entry");
        let below = entry.path().strip_prefix(data()).expect("is below");
        let to = folder.path().join(below);
        if entry.file_type().is_dir() {
            fs::create_dir(&to).expect("is made");
        } else {
            fs::copy(entry.path(), &to).expect("is copied");
        }
    }
    let files = folder.path().join("files");
    for (name, bits) in [
        ("", 0o755),
        ("sub", 0o700),
        ("deep", 0o755),
        ("deep/er", 0o755),
    ] {
        let path = files.join(name);
        fs::create_dir(&path).expect("is made");
        fs::set_permissions(&path, fs::Permissions::from_mode(bits)).expect("is set");
    }
    for (name, text) in [
        ("hello.txt", "hello\nchanged\nmore\n"),
        ("deep/er/x y", "x"),
    ] {
        let path = files.join(name);
        fs::write(&path, text).expect("is written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("is set");
    }
    symlink("hello.txt", files.join("link")).expect("is made");
    folder
}

fn json(folder: &Path, arguments: &[&str]) -> Value {
    let output = Command::new(hostsync_testkit::program())
        .args(arguments)
        .args(["--format", "json"])
        .current_dir(folder)
        .output()
        .expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn document(name: &str) -> Value {
    let text = fs::read(data().join(name)).expect("a document");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn state_is_read_and_gives_the_same_plan_with_the_same_digests() {
    let folder = folder();
    let mut plan = json(folder.path(), &["plan", "--refresh", "none"]);
    let expected = document("offline.json");
    plan["created_at"] = expected["created_at"].clone();
    assert_eq!(plan, expected);
}

#[test]
fn saved_plan_is_shown_as_it_was_saved() {
    let folder = folder();
    let shown = json(folder.path(), &["show", "planned.json"]);
    assert_eq!(shown, document("planned.json"));
}
