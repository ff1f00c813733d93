//! Runs that end early, and what they leave for the next one.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use hostsync::apply::{HostReport, HostResult, LargeFiles};
use hostsync::config::Exact;
use hostsync::model::Blake3;
use hostsync::plan::Refresh;
use hostsync::plan::goal::rollback::RollbackTarget;
use hostsync::remote::Login;
use hostsync::remote::tasks::unlock::unlock;
use hostsync_testkit::local::{LocalHost, Shell, own};
use hostsync_testkit::local_site::LocalSite;
use tempfile::TempDir;

use super::{apply_all, assert_is_tidy, exists, lock_as, other_file_system, read, start_of};
use super::{remote, under_every_shell};

/// The owner of a run of an earlier boot.
const GONE: &str = "1 1 another-boot\n";

/// Size of a block, in these tests.
const BLOCK: usize = 64 << 10;

fn site(shell: Shell) -> LocalSite {
    let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    site.first_mapping().exact = Exact::Orphans;
    site.large = LargeFiles {
        from_bytes: 4 * BLOCK as u64,
        block_bytes: BLOCK as u64,
        ..LargeFiles::default()
    };
    for name in ["a", "b"] {
        fs::write(site.source(name), "old").unwrap();
    }
    apply_all(&site);
    site
}

/// A site with a second staging folder, beside a destination on another file system.
struct TwoPlaces {
    site: LocalSite,
    other: TempDir,
}

impl TwoPlaces {
    /// `None` where this machine has no second file system.
    fn new(shell: Shell) -> Option<Self> {
        let mut site = site(shell);
        let other = other_file_system(site.host())?;
        fs::create_dir(site.source("../other")).unwrap();
        for name in ["stays", "goes"] {
            fs::write(site.source("../other").join(name), "old").unwrap();
        }
        let mut mapping = site.mapping("other", other.path().join("e").to_str().unwrap());
        mapping.exact = Exact::Orphans;
        site.config.hosts[0].mappings.push(mapping);
        apply_all(&site);
        Some(Self { site, other })
    }

    /// The staging folders.
    fn bases(&self) -> [PathBuf; 2] {
        let home = self.site.base("a");
        let below = home.strip_prefix(self.site.host().home()).unwrap();
        [home.clone(), self.other.path().join(below)]
    }
}

/// A living process that has the lock of a host.
struct Holder(Child);

impl Holder {
    fn lock(site: &LocalSite) -> Self {
        let child = Command::new("sleep").arg("600").spawn().unwrap();
        lock_as(site, child.id(), &start_of(child.id()));
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// Names in a folder, in order.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// The folders of runs in a staging folder.
fn runs(base: &Path) -> Vec<PathBuf> {
    let names = names(base).into_iter();
    names
        .filter(|name| name.starts_with("run-"))
        .map(|name| base.join(name))
        .collect()
}

fn locks(site: &LocalSite) -> usize {
    let names = names(&site.host().home().join(".hostsync"));
    names.iter().filter(|name| name.starts_with("lock")).count()
}

/// Gives all of a folder to the user of the host.
fn own_all(folder: &Path) {
    for entry in walkdir::WalkDir::new(folder) {
        own(entry.unwrap().path());
    }
}

/// Leaves the folder of a run of this owner, with some files in it.
fn leave(base: &Path, owner: &str, files: &[(&str, &[u8])]) -> PathBuf {
    let run = base.join("run-left");
    fs::create_dir(&run).unwrap();
    for (name, bytes) in files.iter().chain([&("owner", owner.as_bytes())]) {
        fs::create_dir_all(run.join(name).parent().unwrap()).unwrap();
        fs::write(run.join(name), bytes).unwrap();
    }
    own_all(&run);
    run
}

/// Has the runs that are left belong to nobody. A script's run lasts as long as its connection, which is
/// this process.
fn bury(base: &Path) {
    for run in runs(base) {
        fs::write(run.join("owner"), GONE).unwrap();
    }
}

fn boot() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap()
}

/// Content that no other file has.
fn large(blocks: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(blocks * BLOCK).collect()
}

fn assert_failed(report: &HostReport, reason: &str) {
    match &report.result {
        HostResult::Failed(error) if error.to_string().contains(reason) => {}
        other => panic!("{other:?}"),
    }
}

fn assert_soon(is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_secs(5));
        thread::sleep(Duration::from_millis(10));
    }
}

/// Has the next commit find a folder where it wants to write a file.
fn obstruct(site: &LocalSite, file: &'static str) {
    let base = site.base("a");
    site.host().before_exec(move |_| {
        for run in runs(&base) {
            let obstacle = run.join(file);
            if run.join("up").exists() && !obstacle.exists() {
                fs::create_dir(&obstacle).unwrap();
                own(&obstacle);
            }
        }
    });
}

/// Has the next commit find another file than the one that was sent.
fn damage(site: &LocalSite) {
    let base = site.base("a");
    site.host().before_exec(move |commands| {
        if commands > 0 {
            let run = runs(&base).remove(0);
            fs::write(run.join("up/0/a"), "bad").unwrap();
        }
    });
}

// --- dead runs -----------------------------------------------------------------------------------------

#[test]
fn commit_makes_room_in_every_staging_folder_before_it_needs_any() {
    under_every_shell(|shell| {
        let Some(places) = TwoPlaces::new(shell) else {
            return;
        };
        let site = &places.site;
        // Nothing is sent to the second one, so that no receiver cleans it.
        fs::write(site.source("a"), "new").unwrap();
        fs::remove_file(site.source("../other/goes")).unwrap();
        let left = leave(&places.bases()[1], GONE, &[("up/1/stays", b"x")]);
        let plan = site.plan();
        let _holder = Holder::lock(site);
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "another run is committing");
        assert!(!left.exists());
    });
}

#[test]
fn second_name_of_a_file_in_place_stays_until_the_steps_are_taken() {
    under_every_shell(|shell| {
        let site = site(shell);
        let in_place = site.host().home().join("d/b");
        let files: [(&str, &[u8]); 3] = [("intent", b"x"), ("up/0/a", b"x"), ("large/x", b"x")];
        let left = leave(&site.base("a"), GONE, &files);
        fs::hard_link(&in_place, left.join("up/0/b")).unwrap();
        for name in ["a", "b"] {
            fs::write(site.source(name), "new").unwrap();
        }
        let plan = site.plan();
        let holder = Holder::lock(&site);
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "another run is committing");
        assert_eq!(names(&left), ["owner", "up"]);
        assert_eq!(names(&left.join("up/0")), ["b"]);
        drop(holder);

        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_eq!((report.result, report.refused), (HostResult::Done, vec![]));
        assert_eq!(
            (read(&site, "a"), read(&site, "b")),
            ("new".into(), "new".into())
        );
        assert_is_tidy(&site);
    });
}

#[test]
fn run_that_does_not_say_whose_it_is_is_given_an_hour() {
    under_every_shell(|shell| {
        for owner in ["", "nonsense\n"] {
            let site = site(shell);
            let left = leave(&site.base("a"), owner, &[("up/0/a", b"x")]);
            fs::write(site.source("a"), "new").unwrap();
            apply_all(&site);
            assert!(left.join("up/0/a").exists(), "{owner:?}");

            let mut touch = Command::new("touch");
            touch.args(["-d", "2 hours ago"]).arg(&left);
            assert!(touch.status().unwrap().success());
            // Also where there is nothing else to do.
            assert_eq!(site.apply().result, HostResult::Unchanged);
            assert!(!left.exists(), "{owner:?}");
        }
    });
}

#[test]
fn run_of_another_logins_process_stays_where_nobody_knows_when_that_began() {
    under_every_shell(|shell| {
        let site = site(shell);
        let owner = format!("1 0 {}", boot());
        let left = leave(&site.base("a"), &owner, &[("up/0/a", b"x")]);
        fs::write(site.source("a"), "new").unwrap();
        apply_all(&site);
        assert!(left.join("up/0/a").exists());
    });
}

#[test]
fn lock_that_does_not_say_whose_it_is_stays() {
    under_every_shell(|shell| {
        let site = site(shell);
        let lock = site.host().home().join(".hostsync/lock-x");
        fs::create_dir(&lock).unwrap();
        fs::write(lock.join("owner"), "nonsense\n").unwrap();
        own_all(&lock);
        let mut login = Login::new(Box::new(site.hosts.0[0].1.session()));
        let base = remote(b"~/.hostsync/lineage/host");
        let found = unlock(&mut login, &base, Duration::from_mins(1)).unwrap();
        assert_eq!((found.len(), found[0].is_removed), (1, false));
        assert!(lock.join("owner").exists());
    });
}

// --- large files ---------------------------------------------------------------------------------------

#[test]
fn link_in_the_place_of_a_partial_goes_and_what_it_leads_to_stays() {
    under_every_shell(|shell| {
        let site = site(shell);
        site.host().mkdir("theirs");
        site.host().write("theirs/file", "x");
        let bytes = large(5);
        let id = Blake3::of(&bytes).to_string();
        let left = leave(&site.base("a"), GONE, &[("large/x", b"x")]);
        symlink(
            site.host().home().join("theirs"),
            left.join("large").join(id),
        )
        .unwrap();
        fs::write(site.source("big"), &bytes).unwrap();
        apply_all(&site);
        assert!(site.host().home().join("theirs/file").exists());
        assert!(fs::read(site.host().home().join("d/big")).unwrap() == bytes);
        assert_is_tidy(&site);
    });
}

#[test]
fn list_of_large_files_that_is_cut_off_costs_none_of_their_partials() {
    // An agent notices by itself, and busybox does not look for programs that are applets.
    for shell in [Shell::Dash, Shell::Bash] {
        let site = site(shell);
        let bytes = large(10);
        let (one, two) = bytes.split_at(5 * BLOCK);
        let ids = [one, two].map(|bytes| format!("large/{}", Blake3::of(bytes)));
        leave(&site.base("a"), GONE, &[(&ids[0], one), (&ids[1], two)]);
        fs::write(site.source("one"), one).unwrap();
        fs::write(site.source("two"), two).unwrap();
        let plan = site.plan();
        site.host()
            .replace_program("head", r#"/usr/bin/head "$@" | /usr/bin/head -c 100"#);
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "the connection ended early");
        site.host()
            .replace_program("head", r#"exec /usr/bin/head "$@""#);
        let report = site.apply();
        assert_eq!((report.result, report.sent_bytes), (HostResult::Done, 0));
    }
}

#[test]
fn who_still_writes_for_a_dead_run_is_ended_before_its_partial_is_taken() {
    let site = site(Shell::Perl);
    let mut sleep = Command::new("sleep");
    sleep.arg("600");
    if rustix::process::geteuid().is_root() {
        sleep.uid(65534).gid(65534);
    }
    let mut writer = sleep.spawn().unwrap();
    let signed = format!("{} {} {}", writer.id(), start_of(writer.id()), boot());
    let bytes = large(5);
    let partial = format!("large/{}", Blake3::of(&bytes));
    let name = format!("writer-{}", writer.id());
    let files = [
        (partial.as_str(), &bytes[..BLOCK]),
        (&name, signed.as_bytes()),
    ];
    leave(&site.base("a"), GONE, &files);
    fs::write(site.source("big"), &bytes).unwrap();
    let report = site.apply();
    let is_ended = writer.try_wait().unwrap().is_some();
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert_eq!(report.sent_bytes, 4 * BLOCK as u64);
    assert!(is_ended);
}

// --- a commit that does not come to its end --------------------------------------------------------------

#[test]
fn locked_commit_leaves_nothing_in_any_staging_folder() {
    under_every_shell(|shell| {
        let Some(places) = TwoPlaces::new(shell) else {
            return;
        };
        let site = &places.site;
        fs::write(site.source("a"), "new").unwrap();
        fs::write(site.source("../other/stays"), "new").unwrap();
        let plan = site.plan();
        let _holder = Holder::lock(site);
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "another run is committing");
        for base in places.bases() {
            assert!(runs(&base).is_empty());
        }
    });
}

#[test]
fn commit_that_fails_before_its_steps_leaves_nothing_in_any_staging_folder() {
    under_every_shell(|shell| {
        let Some(places) = TwoPlaces::new(shell) else {
            return;
        };
        let site = &places.site;
        fs::write(site.source("a"), "new").unwrap();
        fs::write(site.source("../other/stays"), "new").unwrap();
        obstruct(site, "sums");
        let report = site.apply();
        assert_failed(&report, "cannot write in");
        for base in places.bases() {
            assert!(runs(&base).is_empty());
        }
        assert_eq!(locks(site), 0);
        assert_eq!(read(site, "a"), "old");
    });
}

#[test]
fn partials_stay_when_a_commit_is_locked_or_fails_before_its_steps() {
    under_every_shell(|shell| {
        for is_locked in [true, false] {
            let site = site(shell);
            let bytes = large(5);
            fs::write(site.source("a"), "new").unwrap();
            fs::write(site.source("big"), &bytes).unwrap();
            let plan = site.plan();
            let holder = is_locked.then(|| Holder::lock(&site));
            if !is_locked {
                obstruct(&site, "sums");
            }
            let report = site.apply_plan(&plan).hosts.remove(0);
            let reason = if is_locked {
                "another run is committing"
            } else {
                "cannot write in"
            };
            assert_failed(&report, reason);
            let run = runs(&site.base("a")).remove(0);
            // With the names of those who may still write.
            let mut left = names(&run);
            left.retain(|name| !name.starts_with("writer-"));
            assert_eq!(left, ["large", "owner"]);
            let id = Blake3::of(&bytes).to_string();
            let partials = names(&run.join("large"));
            assert!(
                partials.iter().all(|name| name.starts_with(&id)),
                "{partials:?}"
            );
            assert!(partials.contains(&id));

            drop(holder);
            site.host().before_exec(|_| {});
            bury(&site.base("a"));
            let report = site.apply();
            assert_eq!(report.result, HostResult::Done);
            assert_eq!(report.sent_bytes, 3, "the small file");
            assert!(fs::read(site.host().home().join("d/big")).unwrap() == bytes);
            assert_is_tidy(&site);
        }
    });
}

#[test]
fn commit_that_fails_after_its_steps_leaves_nothing_and_the_next_plan_judges_what_was_done() {
    under_every_shell(|shell| {
        let site = site(shell);
        fs::write(site.source("a"), "new").unwrap();
        obstruct(&site, "listing");
        let report = site.apply();
        assert_failed(&report, "cannot write the listing");
        assert_eq!(read(&site, "a"), "new");
        assert_eq!(locks(&site), 0);
        assert!(runs(&site.base("a")).is_empty());

        site.host().before_exec(|_| {});
        assert_eq!(site.plan().plan.summary().conflicts, 0);
        assert_eq!(site.apply().refused, []);
        assert_eq!(site.remaining(), []);
        assert_is_tidy(&site);
    });
}

#[test]
fn signal_before_the_steps_ends_a_commit_like_a_failure() {
    under_every_shell(|shell| {
        for signal in ["-HUP", "-TERM"] {
            let mut site = site(shell);
            site.wait_for_host = Duration::from_mins(1);
            fs::write(site.source("a"), "new").unwrap();
            let plan = site.plan();
            let _holder = Holder::lock(&site);
            let base = site.base("a");
            let report = thread::scope(|scope| {
                scope.spawn(|| {
                    // The lock that it would put in place names its process.
                    let pid = || {
                        let run = runs(&base).pop()?;
                        let entry = fs::read_dir(run.join("lock")).ok()?.next()?.ok()?;
                        let name = entry.file_name().into_string().ok()?;
                        let pid = name.strip_prefix("owner-")?.split('-').next()?.to_owned();
                        (!name.contains(".new")).then_some(pid)
                    };
                    assert_soon(|| pid().is_some());
                    thread::sleep(Duration::from_millis(200));
                    let mut kill = Command::new("kill");
                    assert!(
                        kill.arg(signal)
                            .arg(pid().unwrap())
                            .status()
                            .unwrap()
                            .success()
                    );
                });
                site.apply_plan(&plan).hosts.remove(0)
            });
            assert_failed(&report, "");
            assert!(runs(&base).is_empty(), "{signal}");
            assert_eq!(locks(&site), 1, "that of the other process");
        }
    });
}

#[test]
fn whoever_hears_of_the_end_finds_nothing_that_is_still_to_be_removed() {
    // An agent has no program that could tell, and busybox does not look for programs that are applets.
    for shell in [Shell::Dash, Shell::Bash] {
        for ending in ["locked", "unverified", "failed"] {
            let site = site(shell);
            fs::write(site.source("a"), "new").unwrap();
            let plan = site.plan();
            let mut holder = None;
            match ending {
                "locked" => holder = Some(Holder::lock(&site)),
                "unverified" => damage(&site),
                // The last part of the input, which is empty here.
                _ => obstruct(&site, "partials"),
            }
            // Input ends when the end of the answer has been heard.
            site.host().replace_program(
                "rm",
                r#"timeout 0.3 head -c 1 >/dev/null; [ $? = 124 ] || echo "$@" >>"$HOME/late"
                exec /usr/bin/rm "$@""#,
            );
            let report = site.apply_plan(&plan).hosts.remove(0);
            drop(holder);
            assert_failed(&report, "");
            let late = fs::read_to_string(site.host().home().join("late"));
            assert!(late.is_err(), "{shell:?}, {ending}: {late:?}");
            assert!(runs(&site.base("a")).is_empty());
        }
    }
}

#[test]
fn unverified_upload_goes_from_every_staging_folder() {
    under_every_shell(|shell| {
        let Some(places) = TwoPlaces::new(shell) else {
            return;
        };
        let site = &places.site;
        fs::write(site.source("a"), "new").unwrap();
        fs::write(site.source("../other/stays"), "new").unwrap();
        damage(site);
        assert_failed(&site.apply(), "what arrived is not what was sent");
        for base in places.bases() {
            assert!(runs(&base).is_empty());
        }
        assert_eq!(locks(site), 0);
    });
}

#[test]
fn upload_whose_connection_breaks_leaves_nothing() {
    under_every_shell(|shell| {
        let site = site(shell);
        fs::write(site.source("c"), vec![b'c'; 3 * BLOCK]).unwrap();
        let plan = site.plan();
        // In the middle of the content.
        site.host().cuts.lock().unwrap().extend([100_000 + BLOCK]);
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "broke");
        assert_soon(|| runs(&site.base("a")).is_empty());
        assert!(!exists(&site, "c"));
    });
}

#[test]
fn rollback_that_lacks_a_backup_leaves_nothing() {
    under_every_shell(|shell| {
        let site = site(shell);
        fs::write(site.source("a"), "new").unwrap();
        apply_all(&site);
        fs::remove_file(site.base("a").join("backup/2/0/a")).unwrap();
        let target = RollbackTarget::choose(&site.state(), None)
            .unwrap()
            .unwrap();
        let plan = site.prepare(Refresh::Quick, &target, false).unwrap();
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert_failed(&report, "cannot be brought back");
        // An agent ends with its session.
        assert_soon(|| runs(&site.base("a")).is_empty());
    });
}
