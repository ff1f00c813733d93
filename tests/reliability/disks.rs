//! Disks that are full, closed or not one, sources that move, and clocks that are set: what a run says, and
//! what it leaves.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "what is not tried on this machine is said"
)]

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use hostsync::apply::{HostReport, HostResult, Report};

use hostsync::model::RemotePath;
use hostsync_testkit::local::{LocalHost, Shell, own};
use hostsync_testkit::local_site::LocalSite;
use tempfile::NamedTempFile;

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

/// Runs a command that only root may run; whether it worked.
fn works(program: &str, args: &[&str], path: &Path) -> bool {
    let mut command = Command::new(program);
    command
        .args(args)
        .arg(path)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A small file system, for as long as it is wanted.
struct Disk {
    path: PathBuf,
    /// What it lies in, if not in memory.
    _image: Option<NamedTempFile>,
}

impl Disk {
    /// `None` where mounting is not permitted.
    fn mount(path: &Path, options: &str) -> Option<Self> {
        let disk = is_root("a file system of its own")
            .then(|| Self::in_memory(path, options))
            .flatten();
        if disk.is_none() {
            println!("mounting with {options} is not permitted: not tried");
        }
        disk
    }

    /// One with room for more than 3 MB, of which nobody may take more than that; `None` where there are
    /// no quotas.
    fn with_quota(path: &Path) -> Option<Self> {
        let disk = is_root("a disk quota").then(|| {
            let in_memory = Self::in_memory(path, "size=30m,usrquota,usrquota_block_hardlimit=3m");
            in_memory.or_else(|| Self::in_image_with_quota(path))
        });
        let disk = disk.flatten();
        if disk.is_none() {
            println!(
                "neither tmpfs nor btrfs (which takes btrfs-progs) has quotas here: not tried"
            );
        }
        disk
    }

    fn in_memory(path: &Path, options: &str) -> Option<Self> {
        let args = ["-t", "tmpfs", "-o", options, "tmpfs"];
        works("mount", &args, path).then(|| Self::of(path, None))
    }

    fn in_image_with_quota(path: &Path) -> Option<Self> {
        let image = NamedTempFile::new().unwrap();
        image.as_file().set_len(128 << 20).unwrap();
        let file = image.path().to_str().unwrap();
        let is_mounted = works("mkfs.btrfs", &["-q"], image.path())
            && works("mount", &["-o", "loop", file], path);
        let disk = is_mounted.then(|| Self::of(path, Some(image)))?;
        let has_quota = works("btrfs", &["quota", "enable"], path)
            && works("btrfs", &["qgroup", "limit", "3M"], path);
        has_quota.then_some(disk)
    }

    fn of(path: &Path, image: Option<NamedTempFile>) -> Self {
        own(path);
        set_mode(path, 0o755);
        Self {
            path: path.to_owned(),
            _image: image,
        }
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        assert!(works("mount", &["-o", &options], &self.path), "{options}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        works("umount", &["-l"], &self.path);
    }
}

/// A source for two hosts: on the first one, what it is for lies on a small disk.
struct Pair {
    site: LocalSite,
    disk: Disk,
}

impl Pair {
    fn new(shell: Shell, options: &str) -> Option<Self> {
        Self::on(shell, |path| Disk::mount(path, options))
    }

    fn on(shell: Shell, mount: impl Fn(&Path) -> Option<Disk>) -> Option<Self> {
        let host = LocalHost::new(shell);
        host.mkdir("disk");
        let disk = mount(&host.home().join("disk"))?;
        let mut site = LocalSite::with_host(host, "~/disk/d");
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
    let is_said = parts.iter().any(|part| reason.to_string().contains(part));
    assert!(is_said, "{reason}");
}

const FULL: [&str; 3] = ["No space left", "disk full", "disk is full"];

/// Sends more than fits.
fn upload_that_does_not_fit(complaints: &[&str], mount: impl Fn(&Path) -> Option<Disk>) {
    for shell in SHELLS {
        let Some(pair) = Pair::on(shell, &mount) else {
            return;
        };
        pair.write("file", "old");
        pair.finish();
        pair.write("file", "new");
        pair.write("large", vec![b'x'; 6_000_000]);
        let report = pair.apply();
        println!("{shell:?}: {:?}", report.hosts[0].result);
        assert_failed(&report.hosts[0], complaints);
        assert_done(&report.hosts[1]);
        assert_eq!(pair.read(0, "file").unwrap(), b"old");
        assert_eq!(pair.read(0, "large"), None);
        pair.write("large", vec![b'y'; 1_000_000]);
        pair.finish();
        assert_eq!(pair.read(0, "file").unwrap(), b"new");
    }
}

#[test]
fn disk_that_is_full_during_the_upload_fails_its_host_alone() {
    upload_that_does_not_fit(&FULL, |path| Disk::mount(path, "size=3m"));
}

#[test]
fn quota_that_is_used_up_during_the_upload_fails_its_host_alone() {
    let complaints = ["quota exceeded", "disk full", "disk is full"];
    upload_that_does_not_fit(&complaints, Disk::with_quota);
}

#[test]
fn file_that_is_larger_than_a_login_may_have_fails_its_host_alone() {
    for shell in SHELLS {
        let mut limited = LocalHost::new(shell);
        limited.write(
            "limited",
            "#!/bin/sh\nulimit -f 6000\nexec /bin/sh \"$@\"\n",
        );
        set_mode(&limited.home().join("limited"), 0o755);
        limited.login_shell = Some(limited.home().join("limited"));
        let mut site = LocalSite::with_host(limited, "~/d");
        site.add("b", Some(LocalHost::new(shell)), "~/d");
        set_mode(&site.source(""), 0o755);
        fs::write(site.source("large"), vec![b'x'; 6_000_000]).unwrap();
        let report = site.apply_plan(&site.plan());
        println!("{shell:?}: {:?}", report.hosts[0].result);
        assert_failed(&report.hosts[0], &["File too large"]);
        assert_done(&report.hosts[1]);
        fs::write(site.source("large"), vec![b'y'; 1_000_000]).unwrap();
        assert_done(&site.apply());
        assert_eq!(site.remaining(), []);
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
        for entry in fs::read_dir(&pair.disk.path).unwrap() {
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
            assert_failed(&report.hosts[0], &["run the same command again"]);
            assert_done(&report.hosts[1]);
            assert_eq!(pair.read(0, "file").unwrap(), b"old");
            pair.disk.remount("rw");
            pair.finish();
        }
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
        let mut site = LocalSite::with_host(host, "~/d");
        set_mode(&site.source(""), 0o755);
        fs::write(site.source("file"), "text").unwrap();
        // What lies beside the destination is another file system.
        let plan = site.plan().plan;
        let error = plan.hosts[0].status.error().unwrap();
        assert!(
            error.to_string().contains("another file system")
                && error.to_string().contains("staging_path"),
            "{error}"
        );
        site.config.settings.staging_path = Some(RemotePath::from_dest(b"~/d/.staging"));
        assert_done(&site.apply());
        assert_eq!(site.remaining(), []);
        let there = site.host().home().join("d/file");
        assert_eq!(fs::read_to_string(there).unwrap(), "text");
    }
}

/// Takes a folder away from the login, before or after the plan.
fn take_folder_away(shell: Shell, is_after_plan: bool, take: impl Fn(&Path)) {
    let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    set_mode(&site.source(""), 0o755);
    fs::create_dir(site.source("theirs")).unwrap();
    set_mode(&site.source("theirs"), 0o755);
    for path in ["a", "theirs/file", "z"] {
        fs::write(site.source(path), "old").unwrap();
    }
    assert_done(&site.apply());
    let theirs = site.host().home().join("d/theirs");
    for path in ["a", "theirs/file", "theirs/new", "z"] {
        fs::write(site.source(path), "new").unwrap();
    }
    if !is_after_plan {
        take(&theirs);
    }
    let plan = site.plan();
    take(&theirs);
    let report = site.apply_plan(&plan).hosts.remove(0);
    println!("{shell:?}: {:?} {:?}", report.result, report.refused);
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
    let read = |path: &str| fs::read_to_string(site.host().home().join("d").join(path)).unwrap();
    assert_eq!(["a", "theirs/file", "z"].map(read), ["new", "old", "new"]);
    own(&theirs);
    set_mode(&theirs, 0o755);
    assert_done(&site.apply());
    assert_eq!(site.remaining(), []);
}

#[test]
fn folder_of_somebody_else_refuses_what_is_in_it_and_nothing_more() {
    if !is_root("a folder of another user") {
        return;
    }
    for shell in SHELLS {
        for is_after_plan in [false, true] {
            take_folder_away(shell, is_after_plan, |path| {
                chown(path, Some(0), Some(0)).unwrap();
            });
        }
    }
}

#[test]
fn folder_that_is_closed_between_plan_and_commit_refuses_what_is_in_it_and_nothing_more() {
    for shell in SHELLS {
        take_folder_away(shell, true, |path| set_mode(path, 0o555));
    }
}

#[test]
fn source_that_changes_before_it_is_sent_changes_nothing() {
    for shell in SHELLS {
        for text in ["other", "longer than before", "", "gone"] {
            let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
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
            assert!(reason.to_string().contains("file"), "{reason}");
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
            let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
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

#[test]
fn clock_of_a_host_may_be_set_during_the_commit() {
    for seconds in [-3600, 3600] {
        let site = LocalSite::with_host(LocalHost::new(Shell::Perl), "~/d");
        set_mode(&site.source(""), 0o755);
        for text in ["one", "two"] {
            fs::write(site.source("file"), text).unwrap();
            // Whatever changes after the clock was first looked at, changes an hour off.
            site.host().load_in_perl(&format!(
                "package Meddler; use strict; no warnings; use Time::HiRes ();
                my ($lstat, $set) = \\&Time::HiRes::lstat;
                *Time::HiRes::lstat = sub (;$) {{
                    my @is = $lstat->($_[0]);
                    if (!defined $set) {{ $set = $is[10] if $_[0] =~ /clock$/; return @is }}
                    for (9, 10) {{ $is[$_] += {seconds} if defined $is[$_] && $is[$_] > $set }}
                    return @is;
                }};
                1;"
            ));
            let started = Instant::now();
            assert_done(&site.apply());
            assert!(started.elapsed() < Duration::from_secs(10));
            assert_eq!(site.remaining(), [], "{seconds}, {text}");
        }
    }
}

#[test]
fn folders_of_ours_that_go_during_the_commit_fail_their_host() {
    let site = LocalSite::with_host(LocalHost::new(Shell::Perl), "~/d");
    set_mode(&site.source(""), 0o755);
    fs::write(site.source("file"), "one").unwrap();
    assert_done(&site.apply());
    fs::write(site.source("file"), "two").unwrap();
    site.host().load_in_perl(
        "package Meddler; use strict; no warnings; use Time::HiRes ();
        my $lstat = \\&Time::HiRes::lstat;
        *Time::HiRes::lstat = sub (;$) {
            system 'rm -rf ~/.hostsync; touch ~/once' if $_[0] =~ /clock$/ && !-e \"$ENV{HOME}/once\";
            return $lstat->($_[0]);
        };
        1;",
    );
    let started = Instant::now();
    assert_failed(&site.apply(), &["somebody has removed"]);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_done(&site.apply());
    assert_eq!(site.remaining(), []);
}

#[test]
fn backup_of_the_last_run_stays_when_earlier_ones_are_from_the_future() {
    for shell in SHELLS {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.config.settings.backups = 1;
        set_mode(&site.source(""), 0o755);
        let backups = |site: &LocalSite| -> Vec<PathBuf> {
            let folders = fs::read_dir(site.base("a").join("backup")).unwrap();
            folders.map(|folder| folder.unwrap().path()).collect()
        };
        for text in ["one", "two"] {
            fs::write(site.source("file"), text).unwrap();
            assert_done(&site.apply());
        }
        let of_one = backups(&site).remove(0);
        let later = SystemTime::now() + Duration::from_hours(1);
        fs::File::open(&of_one)
            .unwrap()
            .set_modified(later)
            .unwrap();
        fs::write(site.source("file"), "three").unwrap();
        assert_done(&site.apply());
        let [of_two] = &backups(&site)[..] else {
            panic!("{:?}", backups(&site));
        };
        let kept = of_two.join("0/file");
        assert_eq!(fs::read_to_string(kept).unwrap(), "two", "{shell:?}");
    }
}
