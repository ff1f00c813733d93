//! Every step of a commit, taken by the programs of every host.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hostsync::model::{Mode, RelPath};
use hostsync::remote::Login;
use hostsync::remote::tasks::commit::{
    ChmodExpected, CommitAnswer, CommitRequest, FolderStat, ListingScope, NewListing, Step, StepAt,
    StepOutcome, commit,
};
use walkdir::WalkDir;

use super::{host_with_folder, look, mode_of, remote, set_mode, under_every_shell};
use hostsync_testkit::local::{LocalHost, own};

/// What is in place below `~/d` before. A name that ends in a slash is a folder, another one a file that
/// holds its name.
const PLACED: [&str; 8] = [
    "chmod", "closed/", "clear/", "delete", "replace", "retype", "rmdir/", "unlock/",
];

/// What is staged for `~/d`.
const STAGED: [&str; 6] = ["bits", "clear", "new", "replace", "retype/", "touch"];

const RUN: &str = ".hostsync/lineage/host/run";

fn make(folder: &Path, names: &[&str]) {
    fs::create_dir_all(folder).unwrap();
    for name in names {
        let path = folder.join(name);
        if name.ends_with('/') {
            fs::create_dir(&path).unwrap();
            set_mode(&path, 0o755);
        } else {
            fs::write(&path, name).unwrap();
            set_mode(&path, 0o644);
        }
        own(&path);
    }
}

fn stage(host: &LocalHost) {
    make(&host.home().join(RUN).join("up/0"), &STAGED);
    for entry in WalkDir::new(host.home().join(".hostsync")) {
        let entry = entry.unwrap();
        if entry.file_type().is_dir() {
            set_mode(entry.path(), 0o755);
        }
        own(entry.path());
    }
}

/// Steps of every kind, as a commit orders them.
fn all_steps(host: &Arc<LocalHost>) -> Vec<StepAt> {
    let names = PLACED.map(|name| name.trim_end_matches('/').as_bytes());
    let seen = look(host, &names, &[], None).unwrap().seen;
    let stat = |path: &str| seen[format!("./d/{path}").as_bytes()].stat.clone();
    let folder = |path: &str| FolderStat::of(&stat(path));
    let new = Step::New { group: None };
    let steps = [
        (
            "link",
            Step::Link {
                target: (*b"some where").into(),
            },
        ),
        ("touch", Step::Touch { mtime: 1_000_000 }),
        (
            "bits",
            Step::Bits {
                mode: Mode::new(0o751),
            },
        ),
        (
            "unlock",
            Step::Unlock {
                expected: folder("unlock"),
            },
        ),
        (
            "clear",
            Step::Clear {
                expected: folder("clear"),
            },
        ),
        ("", Step::Parents),
        ("bits", new.clone()),
        ("link", new.clone()),
        ("new", new.clone()),
        (
            "replace",
            Step::Replace {
                expected: stat("replace"),
                owner: None,
            },
        ),
        (
            "retype",
            Step::Retype {
                expected: stat("retype"),
            },
        ),
        ("touch", new),
        (
            "delete",
            Step::Delete {
                expected: stat("delete"),
            },
        ),
        (
            "rmdir",
            Step::Rmdir {
                expected: folder("rmdir"),
                is_spared: false,
            },
        ),
        (
            "closed",
            Step::Chmod {
                expected: ChmodExpected::Folder(folder("closed")),
                mode: Mode::new(0o500),
            },
        ),
        (
            "chmod",
            Step::Chmod {
                expected: ChmodExpected::File(stat("chmod")),
                mode: Mode::new(0o600),
            },
        ),
        (
            "unlock",
            Step::Relock {
                mode: Mode::new(0o511),
                after: 3,
            },
        ),
    ];
    let at = |(path, step): (&str, Step)| StepAt {
        // The one whose root has no folder above it.
        mapping: usize::from(matches!(step, Step::Parents)),
        path: RelPath::new(path).unwrap(),
        step,
    };
    steps.map(at).into()
}

fn take(host: &Arc<LocalHost>, steps: &[StepAt]) -> CommitAnswer {
    let base = remote(b"~/.hostsync/lineage/host");
    let listing = NewListing {
        scope: ListingScope::Nothing,
        kept: String::new(),
        paths: Vec::new(),
    };
    let request = CommitRequest {
        home: &base,
        bases: std::slice::from_ref(&base),
        run_name: "run",
        roots: &[&remote(b"~/d"), &remote(b"~/p/q/d")],
        trusted: &[],
        base_of: &[0, 0],
        serial: 1,
        backups: 5,
        wait: Duration::from_secs(10),
        block_bytes: 1,
        steps,
        // Other tests verify what is staged.
        staged: &[],
        large: &[],
        staged_bytes: 0,
        listing: &listing,
        stall_timeout: Duration::from_mins(1),
    };
    commit(&mut Login::new(Box::new(host.session())), &request).unwrap()
}

/// Looks at what a step has done. A new kind of step needs its line here, and one in [`all_steps`].
fn check(host: &LocalHost, StepAt { path, step, .. }: &StepAt) {
    let at = host.home().join("d").join(path.to_string());
    let backup = host.home().join(".hostsync/lineage/host/backup/1/0");
    let backup = backup.join(path.to_string());
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    match step {
        Step::Link { target } => {
            let points_to = fs::read_link(&at).unwrap();
            assert_eq!(points_to.as_os_str().as_encoded_bytes(), &**target);
        }
        Step::Touch { mtime } => assert_eq!(at.metadata().unwrap().mtime(), *mtime),
        Step::Bits { mode } | Step::Chmod { mode, .. } | Step::Relock { mode, .. } => {
            assert_eq!(mode_of(&at), mode.bits(), "{path}");
        }
        // What closes it again comes last, and only after this one.
        Step::Unlock { .. } => assert!(at.is_dir()),
        Step::Parents => {
            assert_eq!(mode_of(&host.home().join("p/q")), 0o755);
            assert!(!host.home().join("p/q/d").exists());
        }
        Step::New { .. } => assert!(at.symlink_metadata().is_ok(), "{path}"),
        Step::Clear { .. } => assert_eq!(read(&at), "clear"),
        Step::Replace { .. } => assert_eq!((read(&at), read(&backup)), both("replace")),
        Step::Retype { .. } => {
            assert!(at.is_dir());
            assert_eq!(read(&backup), "retype");
        }
        Step::Delete { .. } => {
            assert!(!at.exists());
            assert_eq!(read(&backup), "delete");
        }
        Step::Rmdir { .. } => assert!(!at.exists()),
    }
}

fn both(text: &str) -> (String, String) {
    (text.to_owned(), text.to_owned())
}

#[test]
fn every_step_is_taken_by_every_program_and_answered_if_it_has_an_answer() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        make(&host.home().join("d"), &PLACED);
        set_mode(&host.home().join("d/unlock"), 0o555);
        stage(&host);
        let steps = all_steps(&host);
        let answer = take(&host, &steps);
        for (number, step) in steps.iter().enumerate() {
            let outcome = answer.steps.get(&number);
            let is_done = matches!(outcome, Some(StepOutcome::Done { .. }));
            assert_eq!(is_done, step.step.is_answered(), "{step:?}: {outcome:?}");
            check(&host, step);
        }
        assert_eq!(answer.steps.len(), 12);
        assert_eq!(answer.backup.as_deref(), Some("1"));
    });
}

#[test]
fn step_whose_entry_has_moved_touches_nothing() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        make(&host.home().join("d"), &PLACED);
        stage(&host);
        let steps = all_steps(&host);
        // Each of them is another one by now, and something is where nothing was.
        for name in PLACED {
            let path = host.home().join("d").join(name.trim_end_matches('/'));
            fs::rename(&path, host.home().join("aside")).unwrap();
            fs::write(&path, "theirs").unwrap();
            if path.ends_with("unlock") || path.ends_with("closed") {
                fs::remove_file(&path).unwrap();
                fs::create_dir(&path).unwrap();
            }
            own(&path);
            let _ = fs::remove_file(host.home().join("aside"));
            let _ = fs::remove_dir(host.home().join("aside"));
        }
        for name in ["bits", "link", "new", "touch"] {
            fs::write(host.home().join("d").join(name), "theirs").unwrap();
        }
        let before = everything(&host);
        let answer = take(&host, &steps);
        for (number, outcome) in &answer.steps {
            assert_eq!(*outcome, StepOutcome::Moved, "{:?}", steps[*number]);
        }
        assert_eq!(answer.steps.len(), 12);
        assert_eq!(everything(&host), before);
    });
}

/// All below `~/d`: path, inode, permission bits, and content of a file.
fn everything(host: &LocalHost) -> Vec<(String, u64, u32, Option<String>)> {
    let mut found: Vec<_> = WalkDir::new(host.home().join("d"))
        .into_iter()
        .map(|entry| {
            let entry = entry.unwrap();
            let (path, inode) = (entry.path(), entry.metadata().unwrap().ino());
            let content = fs::read_to_string(path).ok();
            (path.display().to_string(), inode, mode_of(path), content)
        })
        .collect();
    found.sort();
    found
}
