//! Attacks by other users of a host that got through, or harm ordinary set-ups.

use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{chown, lchown, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use hostsync::apply::{HostResult, OnConflict};
use hostsync::config::Exact;
use hostsync::model::RemotePath;
use hostsync::plan::HostStatus;
use hostsync::plan::prepared::Prepared;
use hostsync::remote::Login;
use hostsync::remote::tasks::unlock::unlock;
use hostsync_testkit::local::LocalHost;
use hostsync_testkit::local_site::LocalSite;

use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::hosts::{Mounted, Way, mode_of, other_file_system, set_mode, write_source};
use super::others::{OTHER, Shared, give_away, with_others, with_others_and_perl};

/// The names in a folder, in order.
fn names_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn root_host(way: Way) -> LocalHost {
    let mut host = way.host();
    host.is_login_of_root = true;
    chown(host.home(), Some(0), Some(0)).unwrap();
    host
}

fn unlock_at(host: &Arc<LocalHost>, base: &Path) {
    let mut login = Login::new(Box::new(host.session()));
    let base = RemotePath::from_dest(base.as_os_str().as_bytes());
    // Where something is wrong with the folders, it says so.
    let _ = unlock(&mut login, &base, Duration::from_mins(1));
}

/// Perl code that swaps once, right after an entry of a step was looked at.
fn swap_after_lstat(name: &str, swap: &str) -> String {
    format!(
        "package Meddler; use strict; no warnings; use Time::HiRes ();
        my ($lstat, $is_done) = (\\&Time::HiRes::lstat, 0);
        *Time::HiRes::lstat = sub (;$) {{
            my @is = $lstat->($_[0]);
            if ($_[0] eq '{name}' && !$is_done++) {{ {swap} }}
            return @is;
        }};
        1;"
    )
}

// --- a folder that somebody else still holds is moved to the backups ---

#[test]
fn folder_that_is_exchanged_for_a_file_does_not_get_into_the_backups() {
    with_others_and_perl(|way| {
        let mut shared = Shared::new(way).trusting();
        shared.site.first_mapping().exact = Exact::Orphans;
        shared.site.config.settings.backups = 0;
        write_source(&shared.site, "old", "x");
        assert_eq!(shared.site.apply().result, HostResult::Done);
        // The other user has made the folder of the mapping, say.
        give_away(&shared.path("app/conf/site"));
        let sub = shared.path("app/conf/site/trap/sub");
        fs::create_dir_all(&sub).unwrap();
        set_mode(&sub, 0o500);
        fs::remove_file(shared.site.source("old")).unwrap();
        let plan = shared.site.plan();
        let swap = "CORE::rename('./old', './gone'); CORE::rename('./trap', './old');";
        // Who still holds the folder, as its working folder, changes what is in it.
        let held = format!(
            "BEGIN {{ *CORE::GLOBAL::chmod = sub (@) {{
                if ($_[1] =~ m{{(?:^|/)sub$}}) {{ CORE::rename($_[1], \"$_[1].x\"); CORE::symlink('{}', $_[1]) }}
                CORE::chmod(@_);
            }} }} ",
            shared.path("victim/site").display()
        );
        let code = swap_after_lstat("./old", swap)
            .replace("package Meddler;", &format!("package Meddler; {held}"));
        shared.site.host().load_in_perl(&code);
        shared.site.apply_plan(&plan);
        assert_eq!(mode_of(&shared.path("victim/site")), 0o755);
        shared.assert_victim_is_untouched();
        assert!(shared.path("app/conf/site/old/sub").exists());
    });
}

// --- unlock does not ask whose folders it cleans ---

#[test]
fn unlock_goes_through_no_link_of_others() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o1777);
        let path = |name: &str| folder.path().join(name);
        let data = path("victim/host/run-1/data");
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), "theirs").unwrap();
        let mut touch = Command::new("touch");
        touch.args(["-d", "2 hours ago"]);
        assert!(
            touch
                .arg(path("victim/host/run-1"))
                .status()
                .unwrap()
                .success()
        );
        fs::create_dir(path("hs")).unwrap();
        give_away(&path("hs"));
        symlink("../victim", path("hs/lineage")).unwrap();
        lchown(path("hs/lineage"), Some(OTHER), Some(OTHER)).unwrap();
        let host = Arc::new(root_host(way));
        unlock_at(&host, &path("hs/lineage/host"));
        assert!(data.join("file").exists());
    });
}

#[test]
fn unlock_leaves_locks_in_folders_of_others() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o1777);
        let lock = folder.path().join("lock-x");
        fs::create_dir(&lock).unwrap();
        fs::write(lock.join("owner-1-1"), "12 34 before\n").unwrap();
        give_away(&lock);
        let host = Arc::new(root_host(way));
        unlock_at(&host, &folder.path().join("lineage/host"));
        assert!(lock.join("owner-1-1").exists());
    });
}

// --- staging is made before it is asked where its path leads ---

#[test]
fn staging_is_not_made_through_a_link_that_appears() {
    with_others(|way| {
        let host = root_host(way);
        let Some(folder) = other_file_system(&host) else {
            return;
        };
        chown(folder.path(), Some(0), Some(0)).unwrap();
        set_mode(folder.path(), 0o1777);
        let victim = folder.path().join("victim");
        fs::create_dir(&victim).unwrap();
        let site = LocalSite::with_host(host, folder.path().join("d").to_str().unwrap());
        write_source(&site, "file", "x");
        let plan = site.plan();
        symlink(&victim, folder.path().join(".hostsync")).unwrap();
        lchown(folder.path().join(".hostsync"), Some(OTHER), Some(OTHER)).unwrap();
        site.apply_plan(&plan);
        assert_eq!(names_in(&victim), [""; 0]);
    });
}

// --- bits are set on what came into the place meanwhile ---

/// A site whose file is to get other bits, in a folder of somebody else; and a private file of the victim.
fn before_bits_are_set(way: Way) -> (Shared, Prepared) {
    let shared = Shared::new(way).trusting();
    assert_eq!(shared.site.apply().result, HostResult::Done);
    give_away(&shared.path("app/conf/site"));
    set_mode(&shared.path("victim/site/file"), 0o600);
    set_mode(&shared.site.source("file"), 0o666);
    let plan = shared.site.plan();
    (shared, plan)
}

#[test]
fn bits_are_not_set_on_a_hard_link_that_came_into_the_place_of_a_file() {
    with_others_and_perl(|way| {
        let (shared, plan) = before_bits_are_set(way);
        let victim = shared.path("victim/site/file");
        fs::hard_link(&victim, shared.path("app/conf/site/hard")).unwrap();
        let swap = swap_after_lstat("./file", "CORE::rename('./hard', './file');");
        shared.site.host().load_in_perl(&swap);
        shared.site.apply_plan(&plan);
        assert_eq!(mode_of(&victim), 0o600);
    });
}

#[test]
fn bits_are_not_set_through_a_link_that_appears() {
    with_others_and_perl(|way| {
        let (shared, plan) = before_bits_are_set(way);
        let victim = shared.path("victim/site/file");
        shared.site.host().load_in_perl(&format!(
            "package Meddler; BEGIN {{ *CORE::GLOBAL::chmod = sub (@) {{
                CORE::symlink('{}', './file') if $_[1] eq './file'; CORE::chmod(@_);
            }} }} {}",
            victim.display(),
            swap_after_lstat("./file", "CORE::rename('./file', './gone')")
                .replace("package Meddler;", "")
        ));
        shared.site.apply_plan(&plan);
        assert_eq!(mode_of(&victim), 0o600);
    });
}

// --- a folder that appears above a destination between plan and apply ---
#[test]
fn folder_of_others_that_appears_above_a_destination_is_not_trusted() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(0), Some(0)).unwrap();
        set_mode(folder.path(), 0o1777);
        let above = folder.path().join("above");
        let site = LocalSite::with_host(root_host(way), above.join("d").to_str().unwrap());
        write_source(&site, "file", "x");
        let plan = site.plan();
        assert!(plan.plan.hosts[0].warnings.is_empty());
        fs::create_dir(&above).unwrap();
        give_away(&above);
        site.apply_plan(&plan);
        assert!(!above.join("d").exists());
    });
}

// --- a folder above is given away between plan and apply ---
#[test]
fn folder_that_others_get_between_plan_and_apply_is_not_trusted() {
    with_others(|way| {
        let shared = Shared::new(way);
        for name in ["app", "app/conf"] {
            chown(shared.path(name), Some(0), Some(0)).unwrap();
        }
        let plan = shared.site.plan();
        assert!(plan.plan.hosts[0].warnings.is_empty());
        give_away(&shared.path("app/conf"));
        shared.site.apply_plan(&plan);
        assert!(!shared.path("app/conf/site").exists());
    });
}

// --- rights to write that an access list gives ---
#[test]
fn right_of_a_group_to_write_is_one_of_others_for_root() {
    with_others_and_perl(|way| {
        let shared = Shared::new(way);
        for name in ["app", "app/conf"] {
            chown(shared.path(name), Some(0), Some(0)).unwrap();
        }
        // So an access list shows that lets somebody else write.
        set_mode(&shared.path("app/conf"), 0o775);
        let plan = shared.site.plan();
        assert_eq!(plan.plan.hosts[0].warnings.len(), 1);
    });
}

// --- a name elsewhere that has nothing to do with a destination ---
#[test]
fn name_of_others_that_is_not_on_the_way_is_no_conflict() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        chown(folder.path(), Some(0), Some(0)).unwrap();
        set_mode(folder.path(), 0o1777);
        fs::create_dir(folder.path().join("d")).unwrap();
        give_away(&folder.path().join("d"));
        let dest = folder.path().join("new/d");
        let site = LocalSite::with_host(root_host(way), dest.to_str().unwrap());
        write_source(&site, "file", "x");
        let plan = site.plan();
        assert!(plan.plan.hosts[0].warnings.is_empty());
    });
}

// --- a home of somebody else on a file system of its own ---
#[test]
fn folder_of_others_on_another_file_system_is_served_from_the_nearest_safe_one() {
    with_others_and_perl(|way| {
        let host = root_host(way);
        let Some(folder) = other_file_system(&host) else {
            return;
        };
        chown(folder.path(), Some(0), Some(0)).unwrap();
        let home = folder.path().join("alice");
        fs::create_dir(&home).unwrap();
        set_mode(&home, 0o755);
        give_away(&home);
        let mut site = LocalSite::with_host(host, home.join("d").to_str().unwrap());
        write_source(&site, "file", "x");
        site.first_mapping().trust_ancestors = true;
        let plan = site.plan();
        assert!(matches!(plan.plan.hosts[0].status, HostStatus::Ok));
    });
}

// --- bits of a file on a mount below a destination ---
#[test]
fn bits_are_set_on_a_mount_below_a_destination() {
    with_others(|way| {
        let mut site = LocalSite::with_host(root_host(way), "~/d");
        fs::create_dir(site.source("m")).unwrap();
        set_mode(&site.source("m"), 0o755);
        write_source(&site, "m/file", "x");
        let mount = site.host().home().join("d/m");
        fs::create_dir_all(&mount).unwrap();
        set_mode(&site.host().home().join("d"), 0o755);
        let Some(_mounted) = Mounted::at(&mount) else {
            return;
        };
        chown(&mount, Some(0), Some(0)).unwrap();
        fs::write(mount.join("file"), "x").unwrap();
        set_mode(&mount.join("file"), 0o600);
        site.on_conflict = OnConflict::Overwrite;
        site.apply();
        assert_eq!(mode_of(&mount.join("file")), 0o644, "{way:?}");
    });
}

// --- a link of root that somebody else has given another name ---
#[test]
fn link_in_a_sticky_folder_is_not_followed_whoever_made_it() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        for name in ["tmp", "victim"] {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        set_mode(&folder.path().join("tmp"), 0o1777);
        symlink(folder.path().join("victim"), folder.path().join("run")).unwrap();
        // With protected_hardlinks off, anybody may do that.
        fs::hard_link(folder.path().join("run"), folder.path().join("tmp/above")).unwrap();
        let site = LocalSite::with_host(
            root_host(way),
            folder.path().join("tmp/above/d").to_str().unwrap(),
        );
        write_source(&site, "file", "x");
        site.apply();
        assert!(!folder.path().join("victim/d").exists());
    });
}

// --- links of a release folder that a group shares ---
#[test]
fn link_of_the_login_in_a_folder_that_a_group_shares_is_followed_where_it_is_trusted() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["releases", "releases/1"] {
            fs::create_dir(path(name)).unwrap();
            chown(path(name), Some(65534), Some(1000)).unwrap();
        }
        symlink("releases/1", path("current")).unwrap();
        lchown(path("current"), Some(65534), Some(1000)).unwrap();
        chown(folder.path(), Some(0), Some(1000)).unwrap();
        set_mode(folder.path(), 0o2775);
        let mut site = LocalSite::with_host(way.host(), path("current/d").to_str().unwrap());
        site.first_mapping().trust_ancestors = true;
        write_source(&site, "file", "x");
        let plan = site.plan();
        assert!(matches!(plan.plan.hosts[0].status, HostStatus::Ok));
    });
}

// --- what has to keep working ---
#[test]
fn folders_that_may_be_entered_and_not_read_lead_on() {
    with_others(|way| {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("a b*")).unwrap();
        fs::create_dir(path("a b*/-y\nz")).unwrap();
        chown(path("a b*/-y\nz"), Some(65534), Some(65534)).unwrap();
        let mut at = "a b*/-y\nz".to_owned();
        for n in 0..39 {
            symlink(&at, path(&format!("l{n}"))).unwrap();
            at = format!("l{n}");
        }
        set_mode(&path("a b*"), 0o311);
        set_mode(folder.path(), 0o311);
        for name in ["l38/-d", "l0/e f"] {
            let site = LocalSite::with_host(way.host(), path(name).to_str().unwrap());
            write_source(&site, "-file", "x");
            let report = site.apply();
            assert_eq!(
                report.result,
                HostResult::Done,
                "{way:?} {name} {:?}",
                report.refused
            );
            assert!(report.refused.is_empty(), "{:?}", report.refused);
            assert_eq!(site.remaining(), []);
        }
    });
}

// --- what mv copies where it cannot rename ---
fn apply_where_rename_is_refused(way: Way) {
    let shared = Shared::new(way).trusting();
    for n in 0..1500 {
        let sub = format!("sub{}", n % 30);
        let _ = fs::create_dir(shared.site.source(&sub));
        write_source(&shared.site, &format!("{sub}/file{n}"), "1st.");
    }
    symlink("../../victim", shared.path("app/conf/evil")).unwrap();
    // The same device, and EXDEV all the same. On XFS the owner of a folder gets that by
    // `xfs_io -c 'chproj 5' -c 'chattr +P' FOLDER`.
    let conf = shared.path("app/conf");
    let mount = |args: &[&str]| {
        Command::new("mount")
            .args(args)
            .arg(&conf)
            .status()
            .unwrap()
            .success()
    };
    if !mount(&["--bind", conf.to_str().unwrap()]) {
        println!("mounting is not permitted: not tried");
        return;
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let site = conf.join("site");
            while !is_over.load(Ordering::Relaxed) {
                if fs::read_dir(&site).map_or(0, Iterator::count) > 2 {
                    renameat_with(CWD, &site, CWD, conf.join("evil"), RenameFlags::EXCHANGE)
                        .unwrap();
                    break;
                }
            }
        });
        shared.site.apply();
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(
        Command::new("umount")
            .arg(&conf)
            .status()
            .unwrap()
            .success()
    );
    assert_eq!(names_in(&shared.path("victim")), ["site"]);
}
#[test]
fn nothing_is_copied_where_a_rename_is_refused() {
    with_others(apply_where_rename_is_refused);
}

// --- a folder is raced into the place of a file, with nothing in hostsync that helps ---

#[test]
fn folder_that_is_raced_into_the_place_of_a_file_does_not_get_into_the_backups() {
    with_others_and_perl(race_folders_into_backups);
}

fn race_folders_into_backups(way: Way) {
    let mut caught = 0;
    for round in 0..6 {
        let mut shared = Shared::new(way).trusting();
        shared.site.first_mapping().exact = Exact::Orphans;
        for n in 0..600 {
            write_source(&shared.site, &format!("f{n:03}"), "x");
        }
        assert_eq!(shared.site.apply().result, HostResult::Done);
        let at = shared.path("app/conf/site");
        give_away(&at);
        fs::create_dir(at.join("trap")).unwrap();
        for n in 0..600 {
            fs::remove_file(shared.site.source(&format!("f{n:03}"))).unwrap();
        }
        let plan = shared.site.plan();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                let file = |n: usize| at.join(format!("f{n:03}"));
                let is_there =
                    |n: usize| rustix::fs::access(file(n), rustix::fs::Access::EXISTS).is_ok();
                // The last goes first.
                let mut n = 599;
                while !is_over.load(Ordering::Relaxed) && n > 10 {
                    if is_there(n) {
                        continue;
                    }
                    while n > 10 && !is_there(n) {
                        n -= 1;
                    }
                    let ahead = round % 3;
                    let _ = renameat_with(
                        CWD,
                        file(n - ahead),
                        CWD,
                        at.join("trap"),
                        RenameFlags::EXCHANGE,
                    );
                    // Back again for the next attempt.
                    thread::sleep(Duration::from_micros(300));
                    if at.join("trap").is_file() {
                        let _ = renameat_with(
                            CWD,
                            file(n - ahead),
                            CWD,
                            at.join("trap"),
                            RenameFlags::EXCHANGE,
                        );
                    }
                    n -= ahead + 1;
                }
            });
            shared.site.apply_plan(&plan);
            is_over.store(true, Ordering::Relaxed);
        });
        let backups = shared.site.base("a").join("backup");
        for entry in walkdir::WalkDir::new(&backups) {
            let entry = entry.unwrap();
            if entry.file_type().is_dir() && entry.file_name().to_string_lossy().starts_with('f') {
                caught += 1;
            }
        }
    }
    assert_eq!(caught, 0);
}

// --- folders above a destination are made before it is known where the working folder is ---
fn make_folders_above(way: Way) {
    let mut shared = Shared::new(way).trusting();
    symlink("../victim", shared.path("app/evil")).unwrap();
    let is_over = AtomicBool::new(false);
    let [a, b] = ["app/conf", "app/evil"].map(|name| shared.path(name));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                renameat_with(CWD, &a, CWD, &b, RenameFlags::EXCHANGE).unwrap();
            }
        });
        for round in 0..25 {
            let dest = shared.path(&format!("app/conf/new{round}/site"));
            let mapping = shared.site.mapping("src", dest.to_str().unwrap());
            *shared.site.first_mapping() = mapping;
            shared.site.first_mapping().trust_ancestors = true;
            let plan = shared.site.plan();
            if let HostStatus::Ok = plan.plan.hosts[0].status {
                shared.site.apply_plan(&plan);
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(names_in(&shared.path("victim")), ["site"]);
}
#[test]
fn folders_above_are_made_nowhere_else() {
    with_others(make_folders_above);
}

// --- a destination that is a folder of somebody else, where all that is in it may be swapped ---
#[test]
fn destination_that_belongs_to_somebody_else_is_a_conflict_for_root() {
    with_others_and_perl(|way| {
        let mut shared = Shared::new(way);
        let mapping = shared
            .site
            .mapping("src", shared.path("app").to_str().unwrap());
        *shared.site.first_mapping() = mapping;
        let plan = shared.site.plan();
        assert!(!plan.plan.hosts[0].warnings.is_empty());
    });
}
