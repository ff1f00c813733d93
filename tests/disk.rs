//! Disks that are full, closed or not one, and sources that move: what a run says, and what it leaves.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "what is not tried on this machine is said"
)]

#[allow(dead_code, reason = "every test binary uses another part of this")]
#[path = "support/shell.rs"]
mod shell;
#[allow(dead_code, reason = "every test binary uses another part of this")]
#[path = "support/site.rs"]
mod site;

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use hostsync::apply::{HostReport, HostResult, Report};

use hostsync::model::RemotePath;
use shell::{LocalHost, Shell, own};
use site::Site;

const SHELLS: [Shell; 2] = [Shell::Perl, Shell::Dash];

fn set_mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn is_root(what: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        println!("not root: {what} is not tried");
    }
    is_root
}

/// A small file system, for as long as it is wanted.
struct Disk(PathBuf);

impl Disk {
    /// `None` where mounting is not permitted, or not like that.
    fn mount(path: &Path, options: &str) -> Option<Self> {
        let is_mounted = is_root("a file system of its own")
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", options, "tmpfs"])
                .arg(path)
                .status()
                .is_ok_and(|status| status.success());
        if !is_mounted {
            println!("mounting with {options} is not permitted: not tried");
            return None;
        }
        let disk = Self(path.to_owned());
        own(path);
        set_mode(path, 0o755);
        Some(disk)
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        let mut command = Command::new("mount");
        command.args(["-o", &options]).arg(&self.0);
        assert!(command.status().unwrap().success(), "{options}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// A source for two hosts: on the first one, what it is for lies on a small disk.
struct Pair {
    site: Site,
    disk: Disk,
}

impl Pair {
    fn new(shell: Shell, options: &str) -> Option<Self> {
        let host = LocalHost::new(shell);
        host.mkdir("disk");
        let disk = Disk::mount(&host.home().join("disk"), options)?;
        let mut site = Site::with_host(host, "~/disk/d");
        site.add("b", Some(LocalHost::new(shell)), "~/disk/d");
        site.hosts.0[1].1.mkdir("disk");
        set_mode(&site.source(""), 0o755);
        Some(Self { site, disk })
    }

    fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        fs::write(self.site.source(path), content).unwrap();
        set_mode(&self.site.source(path), 0o644);
    }

    fn apply(&self) -> Report {
        self.site.apply_plan(&self.site.plan())
    }

    fn read(&self, host: usize, path: &str) -> Option<Vec<u8>> {
        let home = self.site.hosts.0[host].1.home();
        fs::read(home.join("disk/d").join(path)).ok()
    }

    /// Everything is done on every host, and nothing is left to do.
    #[track_caller]
    fn finish(&self) {
        let report = self.apply();
        for host in &report.hosts {
            let is_done = matches!(host.result, HostResult::Done | HostResult::Unchanged);
            assert!(is_done && host.refused.is_empty(), "{host:?}");
        }
        let plan = self.site.plan().plan;
        for host in &plan.hosts {
            assert_eq!(host.status.error(), None);
            assert_eq!(host.changes(), []);
        }
    }
}

#[track_caller]
fn assert_done(report: &HostReport) {
    assert_eq!(
        (&report.result, &report.refused[..]),
        (&HostResult::Done, &[][..])
    );
}

#[track_caller]
fn assert_failed(report: &HostReport, parts: &[&str]) {
    let HostResult::Failed(reason) = &report.result else {
        panic!("{report:?}");
    };
    let is_said = parts.iter().any(|part| reason.contains(part));
    assert!(is_said, "{reason}");
}

const FULL: [&str; 3] = ["No space left", "disk full", "disk is full"];

#[test]
fn disk_that_is_full_during_the_upload_fails_its_host_alone() {
    for shell in SHELLS {
        let Some(pair) = Pair::new(shell, "size=3m") else {
            return;
        };
        pair.write("file", "old");
        pair.finish();
        pair.write("file", "new");
        pair.write("large", vec![b'x'; 6_000_000]);
        let report = pair.apply();
        println!("{shell:?}: {:?}", report.hosts[0].result);
        assert_failed(&report.hosts[0], &FULL);
        assert_done(&report.hosts[1]);
        assert_eq!(pair.read(0, "file").unwrap(), b"old");
        assert_eq!(pair.read(0, "large"), None);
        pair.disk.remount("size=30m");
        pair.finish();
        assert_eq!(pair.read(0, "file").unwrap(), b"new");
    }
}

#[test]
fn disk_without_inodes_fails_its_host_alone() {
    for shell in SHELLS {
        let Some(pair) = Pair::new(shell, "size=8m,nr_inodes=60") else {
            return;
        };
        pair.write("file", "old");
        pair.finish();
        pair.write("file", "new");
        for number in 0..100 {
            pair.write(&format!("new{number}"), "x");
        }
        let report = pair.apply();
        println!("{shell:?}: {:?}", report.hosts[0].result);
        assert_failed(&report.hosts[0], &FULL);
        assert_done(&report.hosts[1]);
        assert_eq!(pair.read(0, "file").unwrap(), b"old");
        assert_eq!(pair.read(0, "new0"), None);
        pair.disk.remount("nr_inodes=1000");
        pair.finish();
    }
}

/// Has a host do something right before the first backup, once.
fn before_the_first_backup(shell: Shell, host: &LocalHost, commands: &str) {
    let once = format!("[ -e \"$HOME/once\" ] || {{ : >\"$HOME/once\"; {commands}; }}");
    if shell == Shell::Perl {
        host.load_in_perl(&format!(
            "package Meddler; use strict; no warnings;
            BEGIN {{
                *CORE::GLOBAL::mkdir = sub (_;$) {{
                    my ($path, $mode) = @_;
                    if ($path =~ /backup/) {{ system('sh', '-c', '{once}') }}
                    defined $mode ? CORE::mkdir($path, $mode) : CORE::mkdir($path);
                }};
            }}
            1;"
        ));
    } else {
        host.replace_program(
            "mkdir",
            &format!("case $* in *backup*) {once};; esac\nexec /usr/bin/mkdir \"$@\""),
        );
    }
}

#[test]
fn disk_that_fills_up_during_the_commit_refuses_single_entries() {
    for shell in SHELLS {
        let Some(pair) = Pair::new(shell, "size=8m,nr_inodes=300") else {
            return;
        };
        for name in ["one", "two"] {
            pair.write(name, "old");
        }
        pair.finish();
        for name in ["one", "two", "three"] {
            pair.write(name, "new");
        }
        let fill = "i=0; while true >\"$HOME/disk/fill$i\"; do i=$((i + 1)); done 2>/dev/null";
        before_the_first_backup(shell, pair.site.host(), fill);
        let report = pair.apply();
        let host = &report.hosts[0];
        println!("{shell:?}: {:?} {:?}", host.result, host.refused);
        assert_eq!(host.result, HostResult::Done);
        assert!(!host.refused.is_empty());
        for refused in &host.refused {
            assert!(refused.reason.contains("No space left"), "{refused:?}");
        }
        assert_done(&report.hosts[1]);
        for name in ["one", "two"] {
            let content = pair.read(0, name).unwrap();
            assert!(content == b"old" || content == b"new");
        }
        for entry in fs::read_dir(&pair.disk.0).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().starts_with("fill") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        pair.finish();
    }
}

#[test]
fn disk_that_is_read_only_fails_its_host_alone() {
    for shell in SHELLS {
        for is_before_plan in [true, false] {
            let Some(pair) = Pair::new(shell, "size=8m") else {
                return;
            };
            pair.write("file", "old");
            pair.finish();
            pair.write("file", "new");
            if is_before_plan {
                pair.disk.remount("ro");
            }
            let plan = pair.site.plan();
            pair.disk.remount("ro");
            let report = pair.site.apply_plan(&plan);
            println!("{shell:?}: {:?}", report.hosts[0].result);
            assert_failed(
                &report.hosts[0],
                &["Read-only file system", "may not write", "read-only"],
            );
            assert_done(&report.hosts[1]);
            assert_eq!(pair.read(0, "file").unwrap(), b"old");
            pair.disk.remount("rw");
            pair.finish();
        }
    }
}

#[test]
fn quota_that_is_used_up_fails_its_host_alone() {
    for shell in SHELLS {
        let Some(pair) = Pair::new(shell, "size=30m,usrquota,usrquota_block_hardlimit=3m") else {
            return;
        };
        pair.write("file", "old");
        pair.finish();
        pair.write("file", "new");
        pair.write("large", vec![b'x'; 6_000_000]);
        let report = pair.apply();
        println!("{shell:?}: {:?}", report.hosts[0].result);
        assert_failed(
            &report.hosts[0],
            &["quota exceeded", "disk full", "disk is full"],
        );
        assert_done(&report.hosts[1]);
        assert_eq!(pair.read(0, "file").unwrap(), b"old");
        fs::remove_file(pair.site.source("large")).unwrap();
        pair.finish();
    }
}

#[test]
fn destination_may_be_a_mount_point() {
    for shell in SHELLS {
        let host = LocalHost::new(shell);
        host.mkdir("d");
        let Some(_disk) = Disk::mount(&host.home().join("d"), "size=8m") else {
            return;
        };
        let mut site = Site::with_host(host, "~/d");
        set_mode(&site.source(""), 0o755);
        fs::write(site.source("file"), "text").unwrap();
        // What lies beside the destination is another file system.
        let plan = site.plan().plan;
        let error = plan.hosts[0].status.error().unwrap();
        assert!(
            error.contains("another file system") && error.contains("staging_path"),
            "{error}"
        );
        site.config.settings.staging_path = Some(RemotePath::from_dest(b"~/d/.staging"));
        assert_done(&site.apply());
        assert_eq!(site.remaining(), []);
        let there = site.host().home().join("d/file");
        assert_eq!(fs::read_to_string(there).unwrap(), "text");
    }
}

#[test]
fn folder_of_somebody_else_refuses_what_is_in_it_and_nothing_more() {
    if !is_root("a folder of another user") {
        return;
    }
    for shell in SHELLS {
        let site = Site::with_host(LocalHost::new(shell), "~/d");
        set_mode(&site.source(""), 0o755);
        fs::create_dir(site.source("theirs")).unwrap();
        set_mode(&site.source("theirs"), 0o755);
        for path in ["a", "theirs/file", "z"] {
            fs::write(site.source(path), "old").unwrap();
        }
        assert_done(&site.apply());
        let theirs = site.host().home().join("d/theirs");
        chown(&theirs, Some(0), Some(0)).unwrap();
        for path in ["a", "theirs/file", "theirs/new", "z"] {
            fs::write(site.source(path), "new").unwrap();
        }
        let report = site.apply();
        let refused: Vec<_> = report
            .refused
            .iter()
            .map(|it| it.path.to_string())
            .collect();
        assert_eq!(refused, ["theirs/file", "theirs/new"]);
        assert!(
            report
                .refused
                .iter()
                .all(|it| it.reason.contains("ermission denied"))
        );
        let read =
            |path: &str| fs::read_to_string(site.host().home().join("d").join(path)).unwrap();
        assert_eq!(["a", "theirs/file", "z"].map(read), ["new", "old", "new"]);
        own(&theirs);
        assert_done(&site.apply());
        assert_eq!(site.remaining(), []);
    }
}

#[test]
fn source_that_changes_before_it_is_sent_changes_nothing() {
    for shell in SHELLS {
        for text in ["other", "longer than before", "", "gone"] {
            let site = Site::with_host(LocalHost::new(shell), "~/d");
            set_mode(&site.source(""), 0o755);
            for path in ["a", "file"] {
                fs::write(site.source(path), "old").unwrap();
            }
            assert_done(&site.apply());
            for path in ["a", "file"] {
                fs::write(site.source(path), "newer").unwrap();
            }
            let plan = site.plan();
            if text == "gone" {
                fs::remove_file(site.source("file")).unwrap();
            } else {
                fs::write(site.source("file"), text).unwrap();
            }
            let report = site.apply_plan(&plan).hosts.remove(0);
            let HostResult::Failed(reason) = &report.result else {
                panic!("{report:?}");
            };
            println!("{shell:?}, {text}: {reason}");
            assert!(reason.contains("file"), "{reason}");
            let there = site.host().home().join("d");
            assert_eq!(fs::read_to_string(there.join("a")).unwrap(), "old");
            assert_eq!(fs::read_to_string(there.join("file")).unwrap(), "old");
            site.apply();
            assert_eq!(site.remaining(), []);
        }
    }
}

#[test]
fn source_may_be_from_the_past_or_the_future() {
    let year = Duration::from_hours(24 * 365);
    let epoch = SystemTime::UNIX_EPOCH;
    let times = [
        epoch - 60 * year,
        epoch,
        epoch + year,
        epoch + 65 * year,
        epoch + 200 * year,
    ];
    for shell in SHELLS {
        for time in times {
            let site = Site::with_host(LocalHost::new(shell), "~/d");
            set_mode(&site.source(""), 0o755);
            for text in ["one", "two"] {
                fs::write(site.source("file"), text).unwrap();
                let file = fs::File::options()
                    .write(true)
                    .open(site.source("file"))
                    .unwrap();
                file.set_modified(time).unwrap();
                assert_done(&site.apply());
                assert_eq!(site.remaining(), [], "{shell:?} {time:?}");
            }
        }
    }
}
