//! What a task leaves behind on a host: the same by every program.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use hostsync::model::{Mode, RelPath, RemotePath};
use hostsync::remote::Login;
use hostsync::remote::tasks::commit::{
    CommitAnswer, CommitError, CommitRequest, ListingScope, NewListing, StagedFile, Step, StepAt,
    commit,
};
use hostsync::remote::tasks::restore::{RestoreRequest, RestoredFile, restore};
use hostsync_testkit::local::{LocalHost, Shell, own};
use hostsync_testkit::local_site::LocalSite;
use walkdir::WalkDir;

use super::{apply_all, host_with_folder, remote, set_mode, start_of, under_every_shell};

/// Two staging folders of one host: the one below the login folder, and one beside a destination.
const BASES: [&str; 2] = [".hostsync/l/h", "beside/.hostsync/l/h"];

fn bases() -> [RemotePath; 2] {
    BASES.map(|base| remote(format!("~/{base}").as_bytes()))
}

fn run_folders(host: &LocalHost, run: &str) -> [PathBuf; 2] {
    BASES.map(|base| host.home().join(base).join(run))
}

/// Makes a folder of a run in both places, with a file that is staged and a part of a large one.
fn stage(host: &LocalHost, run: &str) {
    for folder in run_folders(host, run) {
        for (name, text) in [("up/0/file", "staged"), ("large/part", "part")] {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
        }
    }
    for top in [".hostsync", "beside"] {
        for entry in WalkDir::new(host.home().join(top)) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() {
                set_mode(entry.path(), 0o700);
            }
            own(entry.path());
        }
    }
}

/// Stages the same for a run whose connection is gone.
fn stage_dead(host: &LocalHost) {
    stage(host, "run-dead");
    for folder in run_folders(host, "run-dead") {
        fs::write(folder.join("owner"), "1 1 another-boot\n").unwrap();
        own(&folder.join("owner"));
    }
}

fn take(
    host: &Arc<LocalHost>,
    steps: &[StepAt],
    staged: &[StagedFile],
) -> Result<CommitAnswer, CommitError> {
    let listing = NewListing {
        scope: ListingScope::All,
        kept: String::new(),
        paths: Vec::new(),
    };
    let bases = bases();
    let request = CommitRequest {
        home: &bases[0],
        bases: &bases,
        run_name: "run-ours",
        roots: &[&remote(b"~/d/e"), &remote(b"~/beside/d")],
        trusted: &[],
        base_of: &[0, 1],
        serial: 1,
        backups: 5,
        wait: Duration::ZERO,
        block_bytes: 1,
        steps,
        staged,
        large: &[],
        staged_bytes: 0,
        listing: &listing,
        stall_timeout: Duration::from_mins(1),
    };
    commit(&mut Login::new(Box::new(host.session())), &request)
}

/// Signs the lock of this machine with a process that lives.
fn lock_for(host: &LocalHost, holder: &Child) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim();
    let started = start_of(holder.id());
    let lock = host.home().join(".hostsync").join(format!("lock-{boot}"));
    fs::create_dir_all(&lock).unwrap();
    let owner = format!("{} {started} {boot}\n", holder.id());
    fs::write(lock.join("owner"), owner).unwrap();
    for path in [lock.join("owner"), lock] {
        own(&path);
    }
}

fn locks(host: &LocalHost) -> usize {
    let folder = host.home().join(".hostsync");
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name());
    names
        .filter(|name| name.to_string_lossy().starts_with("lock-"))
        .count()
}

/// The next attempt takes up what has come of large files.
#[track_caller]
fn assert_only_parts_stay(host: &LocalHost) {
    for folder in run_folders(host, "run-ours") {
        let names = fs::read_dir(&folder).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.retain(|name| name != "owner");
        assert_eq!(names, ["large"]);
        assert!(folder.join("large/part").exists());
    }
}

fn exist(paths: [PathBuf; 2]) -> [bool; 2] {
    paths.map(|path| path.exists())
}

#[test]
fn commit_that_finds_the_lock_taken_leaves_only_what_has_come_of_large_files_and_has_made_room_everywhere()
 {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        stage(&host, "run-ours");
        stage_dead(&host);
        let mut holder = Command::new("sleep").arg("600").spawn().unwrap();
        lock_for(&host, &holder);
        let answer = take(&host, &[], &[]);
        holder.kill().unwrap();
        holder.wait().unwrap();
        assert!(matches!(answer, Err(CommitError::Locked(_))), "{answer:?}");
        assert_only_parts_stay(&host);
        assert_eq!(exist(run_folders(&host, "run-dead")), [false; 2]);
        assert_eq!(locks(&host), 1, "the lock is that of the other one");
    });
}

#[test]
fn commit_whose_files_arrived_damaged_leaves_only_what_has_come_of_large_files() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        stage(&host, "run-ours");
        let staged = [0, 1].map(|base| StagedFile {
            base,
            path: b"0/file".to_vec(),
            digest: "0".repeat(64),
        });
        let answer = take(&host, &[], &staged);
        assert!(
            matches!(answer, Err(CommitError::Unverified(_))),
            "{answer:?}"
        );
        assert_only_parts_stay(&host);
        assert_eq!(locks(&host), 0);
    });
}

#[test]
fn commit_that_fails_at_a_step_leaves_only_what_has_come_of_large_files_and_no_lock() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        stage(&host, "run-ours");
        // Nothing is staged there that could hold it.
        let step = StepAt {
            mapping: 0,
            path: RelPath::new("no/such/folder/link").unwrap(),
            step: Step::Link {
                target: (*b"x").into(),
            },
        };
        let answer = take(&host, &[step], &[]);
        assert!(matches!(answer, Err(CommitError::Host(_))), "{answer:?}");
        assert_only_parts_stay(&host);
        assert_eq!(locks(&host), 0);
    });
}

#[test]
fn commit_that_is_done_leaves_its_own_listing_alone() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        stage(&host, "run-ours");
        stage_dead(&host);
        // What this host has kept as long as it had perl, or had none.
        for name in ["listing", "listing.agent"] {
            let path = host.home().join(BASES[0]).join(name);
            fs::write(&path, "old").unwrap();
            own(&path);
        }
        take(&host, &[], &[]).unwrap();
        let left = |base: &str| -> Vec<String> {
            let names = fs::read_dir(host.home().join(base)).unwrap();
            let names = names.map(|entry| entry.unwrap().file_name());
            names
                .map(|name| name.to_string_lossy().into_owned())
                .collect()
        };
        let listing = if shell == Shell::Perl {
            "listing.agent"
        } else {
            "listing"
        };
        assert_eq!(left(BASES[0]), [listing]);
        assert_eq!(left(BASES[1]), [""; 0]);
        assert_eq!(locks(&host), 0);
    });
}

#[test]
fn restore_that_fails_leaves_what_has_come_of_large_files_and_nothing_else() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        stage(&host, "run-ours");
        let backup = host.home().join(BASES[0]).join("backup/1/0");
        fs::create_dir_all(backup.parent().unwrap()).unwrap();
        fs::write(&backup, "abc").unwrap();
        for path in [backup.clone(), backup.parent().unwrap().to_owned()] {
            own(&path);
        }
        let places = [b"backup/1/0".to_vec()];
        let files = [RestoredFile {
            size_bytes: 3,
            mode: Mode::new(0o644),
            digest: "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned(),
            // Nothing is staged that could hold it.
            path: b"no/such/folder/file".to_vec(),
            backups: &places,
        }];
        let request = RestoreRequest {
            base: &bases()[0],
            run_name: "run-ours",
            files: &files,
            total_bytes: 3,
            stall_timeout: Duration::from_mins(1),
        };
        let mut login = Login::new(Box::new(host.session()));
        let answer = restore(&mut login, &request);
        assert!(answer.is_err(), "{answer:?}");
        let run = host.home().join(BASES[0]).join("run-ours");
        assert!(!run.join("up").exists());
        assert!(run.join("large/part").exists());
        assert!(is_as_before(&backup));
    });
}

/// A folder of the login that no run has anything to do with, with a file in it and in a folder below.
fn foreign_folder(host: &LocalHost) -> PathBuf {
    let folder = host.home().join("precious");
    fs::create_dir_all(folder.join("up/0")).unwrap();
    for (name, text) in [
        ("file", "keep"),
        ("up/0/file", "keep"),
        ("owner", "1 1 another-boot\n"),
    ] {
        fs::write(folder.join(name), text).unwrap();
    }
    for entry in WalkDir::new(&folder) {
        own(entry.unwrap().path());
    }
    folder
}

#[track_caller]
fn assert_untouched(folder: &Path) {
    for name in ["file", "up/0/file"] {
        let text = fs::read_to_string(folder.join(name));
        assert_eq!(text.ok().as_deref(), Some("keep"), "{name}");
    }
}

#[test]
fn links_in_staging_are_never_followed_to_what_they_lead_to() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let folder = foreign_folder(&host);
        stage(&host, "run-ours");
        stage_dead(&host);
        for base in BASES {
            let base = host.home().join(base);
            symlink(&folder, base.join("run-link")).unwrap();
            fs::remove_dir_all(base.join("run-dead/up")).unwrap();
            symlink(&folder, base.join("run-dead/up")).unwrap();
            fs::remove_dir_all(base.join("run-ours/up")).unwrap();
            symlink(&folder, base.join("run-ours/up")).unwrap();
        }
        take(&host, &[], &[]).unwrap();
        assert_untouched(&folder);
        assert_eq!(exist(run_folders(&host, "run-ours")), [false; 2]);
    });
}

#[test]
fn commit_removes_nothing_in_a_staging_folder_that_others_can_write_to() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let folder = foreign_folder(&host);
        stage(&host, "run-ours");
        let base = host.home().join(BASES[1]);
        symlink(&folder, base.join("run-ours/link")).unwrap();
        set_mode(&base, 0o777);
        let answer = take(&host, &[], &[]);
        let text = format!("{answer:?}");
        assert!(text.contains("can be written by others"), "{text}");
        assert_untouched(&folder);
        assert!(base.join("run-ours/up/0/file").exists());
    });
}

fn is_as_before(backup: &Path) -> bool {
    fs::read_to_string(backup).is_ok_and(|text| text == "abc")
}

#[test]
fn old_backups_go_while_the_lock_is_held() {
    // busybox does not look for programs that are applets.
    for shell in [Shell::Perl, Shell::Dash, Shell::Bash] {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.config.settings.backups = 1;
        for content in ["first", "second"] {
            fs::write(site.source("a"), content).unwrap();
            apply_all(&site);
        }
        let found = site.host().home().join("found");
        if shell == Shell::Perl {
            site.host().load_in_perl(
                "package Meddler; use strict; no warnings;
                BEGIN { no strict 'refs'; *{'CORE::GLOBAL::rmdir'} = sub (_) {
                    if ($_[0] eq './2') {
                        my @locks = glob \"$ENV{HOME}/.hostsync/lock-*/owner*\";
                        open my $found, '>', \"$ENV{HOME}/found\";
                        print $found scalar @locks;
                    }
                    CORE::rmdir($_[0]);
                } }
                1;",
            );
        } else {
            site.host().replace_program(
                "rm",
                r#"case $* in
                    */backup/2) ls -d "$HOME"/.hostsync/lock-*/owner* | wc -l >"$HOME/found" ;;
                esac
                exec /usr/bin/rm "$@""#,
            );
        }
        fs::write(site.source("a"), "third").unwrap();
        apply_all(&site);
        let found = fs::read_to_string(found).unwrap();
        assert_eq!(found.trim(), "1", "{shell:?}");
        assert_eq!(locks(site.host()), 0);
        let backup = site.base("a").join("backup");
        assert_eq!(fs::read_to_string(backup.join("3/0/a")).unwrap(), "second");
        assert!(!backup.join("2").exists());
    }
}
