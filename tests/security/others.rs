//! Other users of a host: folders that they can change while root writes below them.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hostsync::apply::{HostResult, OnConflict};
use hostsync::plan::{Action, HostStatus, Refresh, Warning, WarningKind};
use hostsync_testkit::local_site::LocalSite;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use tempfile::TempDir;

use super::hosts::{
    Mounted, Way, failure, in_every_way, is_root, mode_of, read, set_mode, write_source,
};

/// Some user of the host who is neither root nor a login of ours.
pub(super) const OTHER: u32 = 12_345;

/// A host that root logs in to, with a folder of another user: `app`, and in it `conf`, in which the
/// destination lies. `victim` has the same names, and is root's.
pub(super) struct Shared {
    pub(super) site: LocalSite,
    pub(super) folder: TempDir,
}

impl Shared {
    pub(super) fn new(way: Way) -> Self {
        let folder = tempfile::tempdir().unwrap();
        set_mode(folder.path(), 0o755);
        let path = |name: &str| folder.path().join(name);
        for name in ["app", "app/conf", "victim", "victim/site"] {
            fs::create_dir(path(name)).unwrap();
            set_mode(&path(name), 0o755);
        }
        for name in ["file", "stays"] {
            fs::write(path("victim/site").join(name), "theirs").unwrap();
        }
        give_away(&path("app"));
        give_away(&path("app/conf"));
        let mut host = way.host();
        host.is_login_of_root = true;
        chown(host.home(), Some(0), Some(0)).unwrap();
        let dest = path("app/conf/site");
        let site = LocalSite::with_host(host, dest.to_str().unwrap());
        for name in ["file", "stays"] {
            write_source(&site, name, "1st.");
        }
        Self { site, folder }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// As the configuration says that others may do here what they like.
    pub(super) fn trusting(mut self) -> Self {
        self.site.first_mapping().trust_ancestors = true;
        self
    }

    fn has(&self, name: &str) -> String {
        fs::read_to_string(self.path("app/conf/site").join(name)).unwrap()
    }

    #[track_caller]
    pub(super) fn assert_victim_is_untouched(&self) {
        let victim = self.path("victim");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
        assert_eq!(fs::read_dir(victim.join("site")).unwrap().count(), 2);
        for name in ["file", "stays"] {
            let file = victim.join("site").join(name);
            assert_eq!(fs::read_to_string(&file).unwrap(), "theirs");
            assert_eq!(fs::metadata(&file).unwrap().uid(), 0);
            assert_eq!(mode_of(&file), 0o644);
        }
    }
}

pub(super) fn give_away(path: &Path) {
    chown(path, Some(OTHER), Some(OTHER)).unwrap();
}

/// Runs a test with perl, where it can be run: a shell does not work below folders of others.
pub(super) fn with_others_and_perl(test: impl Fn(Way)) {
    if is_root() {
        test(Way::DashAndPerl);
    } else {
        println!("not root: nothing can be given to another user");
    }
}

/// Runs a test in every way, where it can be run.
pub(super) fn with_others(test: impl Fn(Way)) {
    if is_root() {
        in_every_way(test);
    } else {
        println!("not root: nothing can be given to another user");
    }
}

#[test]
fn folder_that_others_can_change_is_a_conflict_for_root_until_the_mapping_trusts_it() {
    with_others_and_perl(|way| {
        let mut shared = Shared::new(way);
        let expected = Warning {
            kind: WarningKind::Ancestor,
            path: shared.path("app").to_str().unwrap().to_owned(),
        };
        let plan = shared.site.plan().plan;
        let host = &plan.hosts[0];
        assert_eq!(host.warnings.iter().collect::<Vec<_>>(), [&expected]);
        assert!(host.changes().iter().all(|change| change.conflict));
        assert!(matches!(
            shared.site.apply().result,
            HostResult::Conflicts(1..)
        ));
        assert!(!shared.path("app/conf/site").exists());

        shared.site.on_conflict = OnConflict::Overwrite;
        assert_eq!(shared.site.apply().result, HostResult::Done);
        assert_eq!(shared.has("file"), "1st.");

        shared.site.on_conflict = OnConflict::Fail;
        let shared = shared.trusting();
        write_source(&shared.site, "file", "2nd.");
        let plan = shared.site.plan().plan;
        assert!(plan.hosts[0].warnings.is_empty());
        assert!(plan.hosts[0].changes().iter().all(|it| !it.conflict));
        assert_eq!(shared.site.apply().result, HostResult::Done);
        assert_eq!(shared.has("file"), "2nd.");
        assert_eq!(shared.site.remaining(), []);
    });
}

#[test]
fn saved_plan_that_does_not_say_that_others_can_change_a_folder_is_not_carried_out() {
    with_others_and_perl(|way| {
        let shared = Shared::new(way);
        for name in ["app", "app/conf"] {
            chown(shared.path(name), Some(0), Some(0)).unwrap();
        }
        let saved = shared.site.plan().plan;
        give_away(&shared.path("app"));
        let HostStatus::Failed(error) = &shared.site.follow(&saved).plan.hosts[0].status else {
            panic!("nobody has read that");
        };
        assert!(
            error.to_string().contains("which the plan does not say"),
            "{error}"
        );
        chown(shared.path("app"), Some(0), Some(0)).unwrap();
        let report = shared
            .site
            .apply_plan(&shared.site.follow(&saved))
            .hosts
            .remove(0);
        assert_eq!(report.result, HostResult::Done);
    });
}

#[test]
fn folder_inside_a_mapping_that_others_can_change_is_a_conflict_for_what_lies_in_it() {
    with_others_and_perl(|way| {
        for refresh in [Refresh::Quick, Refresh::Full] {
            let shared = Shared::new(way);
            for name in ["app", "app/conf"] {
                chown(shared.path(name), Some(0), Some(0)).unwrap();
            }
            for name in ["sub", "sub/deeper"] {
                fs::create_dir(shared.site.source(name)).unwrap();
                write_source(&shared.site, &format!("{name}/file"), "1st.");
            }
            assert_eq!(shared.site.apply().result, HostResult::Done);
            assert_eq!(shared.site.remaining(), []);
            give_away(&shared.path("app/conf/site/sub"));
            // The listing is made anew.
            write_source(&shared.site, "stays", "2nd.");
            assert_eq!(shared.site.apply().result, HostResult::Done);
            for name in ["file", "sub/deeper/file"] {
                write_source(&shared.site, name, "3rd.");
            }
            let plan = shared.site.plan_with(refresh);
            let host = &plan.plan.hosts[0];
            let conflicts = host.changes().iter().filter(|it| it.conflict);
            let conflicts: Vec<_> = conflicts.map(|it| it.path.to_string()).collect();
            assert_eq!(conflicts, ["sub/deeper/file"], "{refresh:?}");
            let path = shared.path("app/conf/site/sub");
            let paths: Vec<_> = host.warnings.iter().map(|it| it.path.as_str()).collect();
            assert_eq!(paths, [path.to_str().unwrap()]);
        }
    });
}

#[test]
fn folders_of_root_and_sticky_ones_are_no_conflict() {
    with_others(|way| {
        let shared = Shared::new(way);
        for (name, uid, bits) in [("app", 0, 0o755), ("app/conf", 0, 0o1777)] {
            chown(shared.path(name), Some(uid), Some(0)).unwrap();
            set_mode(&shared.path(name), bits);
        }
        symlink("app", shared.path("link")).unwrap();
        let mut shared = shared;
        for dest in ["app/conf/site", "link/conf/other"] {
            let dest = shared.path(dest);
            let mapping = shared.site.mapping("src", dest.to_str().unwrap());
            *shared.site.first_mapping() = mapping;
            assert!(shared.site.plan().plan.hosts[0].warnings.is_empty());
            assert_eq!(shared.site.apply().result, HostResult::Done);
            assert_eq!(fs::read_to_string(dest.join("file")).unwrap(), "1st.");
        }
    });
}

#[test]
fn link_of_another_user_above_a_destination_is_said_by_the_plan() {
    with_others(|way| {
        let shared = Shared::new(way).trusting();
        fs::remove_dir(shared.path("app/conf")).unwrap();
        symlink("../victim", shared.path("app/conf")).unwrap();
        let plan = shared.site.plan().plan;
        let HostStatus::Failed(error) = &plan.hosts[0].status else {
            panic!("{:?}", plan.hosts[0].status);
        };
        let text = error.to_string();
        let expected = "app/conf is a link that somebody else may have made";
        assert!(text.contains(expected), "{text}");
        shared.assert_victim_is_untouched();
    });
}

#[test]
fn link_that_appears_above_a_destination_between_plan_and_apply_is_not_followed() {
    with_others_and_perl(|way| {
        let shared = Shared::new(way).trusting();
        assert_eq!(shared.site.apply().result, HostResult::Done);
        for name in ["file", "new"] {
            write_source(&shared.site, name, "2nd.");
        }
        fs::remove_file(shared.site.source("stays")).unwrap();
        let plan = shared.site.plan();
        fs::rename(shared.path("app/conf"), shared.path("app/moved")).unwrap();
        symlink("../victim", shared.path("app/conf")).unwrap();

        let report = shared.site.apply_plan(&plan).hosts.remove(0);
        assert_eq!(report.changed, 0);
        assert!(!report.refused.is_empty(), "{:?}", report.result);
        shared.assert_victim_is_untouched();
    });
}

#[test]
fn link_that_comes_and_goes_during_commits_is_never_followed() {
    with_others_and_perl(|way| {
        let shared = Shared::new(way).trusting();
        assert_eq!(shared.site.apply().result, HostResult::Done);
        symlink("../victim", shared.path("app/evil")).unwrap();
        let is_over = AtomicBool::new(false);
        let mut changed = 0;
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let [a, b] = ["app/conf", "app/evil"].map(|name| shared.path(name));
                    renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for round in 0..40 {
                for name in ["file", "stays"] {
                    write_source(&shared.site, name, &format!("{round:>4}"));
                }
                write_source(&shared.site, &format!("new-{round}"), "x");
                // Some looks find the link, too.
                if let HostStatus::Ok = shared.site.plan().plan.hosts[0].status {
                    changed += shared.site.apply().changed;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        println!("{changed} entries were changed meanwhile");
        shared.assert_victim_is_untouched();
    });
}

#[test]
fn folder_of_a_mapping_that_becomes_a_link_during_commits_is_never_followed() {
    with_others_and_perl(|way| {
        let shared = Shared::new(way).trusting();
        fs::create_dir(shared.site.source("sub")).unwrap();
        for name in ["sub/file", "sub/stays"] {
            write_source(&shared.site, name, "1st.");
        }
        assert_eq!(shared.site.apply().result, HostResult::Done);
        give_away(&shared.path("app/conf/site"));
        let evil = shared.path("app/conf/site/evil");
        symlink("../../../victim/site", &evil).unwrap();
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let sub = shared.path("app/conf/site/sub");
                    renameat_with(CWD, &sub, CWD, &evil, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for round in 0..40 {
                for name in ["sub/file", "sub/stays"] {
                    write_source(&shared.site, name, &format!("{round:>4}"));
                    set_mode(&shared.site.source(name), 0o600 | ((round % 2) * 0o44));
                }
                shared.site.apply();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        shared.assert_victim_is_untouched();
    });
}

#[test]
fn nothing_is_staged_where_others_can_exchange_it() {
    with_others(|way| {
        let mut host = way.host();
        host.is_login_of_root = true;
        chown(host.home(), Some(0), Some(0)).unwrap();
        let mount = tempfile::tempdir().unwrap();
        let Some(_mounted) = Mounted::at(mount.path()) else {
            return;
        };
        chown(mount.path(), Some(0), Some(0)).unwrap();
        let dest = mount.path().join("d");
        let mut site = LocalSite::with_host(host, dest.to_str().unwrap());
        site.first_mapping().trust_ancestors = true;
        write_source(&site, "file", "x");
        let status = || site.plan().plan.hosts[0].status.clone();
        for (uid, bits) in [(OTHER, 0o755), (0, 0o777)] {
            chown(mount.path(), Some(uid), Some(uid)).unwrap();
            set_mode(mount.path(), bits);
            let HostStatus::Failed(error) = status() else {
                panic!("{uid} {bits:o}");
            };
            let text = error.to_string();
            assert!(text.contains("others"), "{text}");
            assert_eq!(fs::read_dir(mount.path()).unwrap().count(), 0);
        }
        // Nobody can move what another one has made there, but anybody can be the first.
        chown(mount.path(), Some(0), Some(0)).unwrap();
        set_mode(mount.path(), 0o1777);
        let taken = mount.path().join(".hostsync");
        fs::create_dir(&taken).unwrap();
        give_away(&taken);
        let HostStatus::Failed(error) = status() else {
            panic!("the name of our folder is taken");
        };
        assert!(error.to_string().contains("/.hostsync there"), "{error}");
        fs::remove_dir(&taken).unwrap();
        assert_eq!(site.apply().result, HostResult::Done);
        assert_eq!(fs::read_to_string(dest.join("file")).unwrap(), "x");
    });
}

#[test]
fn without_perl_root_changes_nothing_below_a_folder_that_others_can_change() {
    with_others(|way| {
        if way == Way::DashAndPerl {
            return;
        }
        let shared = Shared::new(way).trusting();
        let HostStatus::Failed(error) = &shared.site.plan().plan.hosts[0].status else {
            panic!("{way:?}");
        };
        assert!(
            error.to_string().contains("the host has no perl"),
            "{error}"
        );
        for name in ["app", "app/conf"] {
            chown(shared.path(name), Some(0), Some(0)).unwrap();
        }
        let plan = shared.site.plan();
        give_away(&shared.path("app"));
        let report = shared.site.apply_plan(&plan).hosts.remove(0);
        let reasons: Vec<_> = report.refused.iter().map(|it| it.reason.as_str()).collect();
        assert!(reasons[0].contains("this host has no perl"), "{reasons:?}");
        assert!(!shared.path("app/conf/site").exists());
    });
}

#[test]
fn home_that_all_can_write_to_holds_nothing_of_ours() {
    in_every_way(|way| {
        let mut site = way.site();
        write_source(&site, "file", "x");
        set_mode(site.host().home(), 0o777);
        let plan = site.plan().plan;
        let HostStatus::Failed(error) = &plan.hosts[0].status else {
            panic!("{:?}", plan.hosts[0].status);
        };
        let text = error.to_string();
        assert!(
            text.contains("to which others on the host can write"),
            "{text}"
        );
        assert!(!site.host().home().join(".hostsync").exists());

        set_mode(site.host().home(), 0o755);
        let plan = site.plan();
        set_mode(site.host().home(), 0o777);
        let reason = failure(&site.apply_plan(&plan).hosts[0]);
        assert!(
            reason.contains("others can put another folder in the place of"),
            "{reason}"
        );

        // The cure that the plan names.
        let safe = site.host().home().join("safe");
        fs::create_dir(&safe).unwrap();
        hostsync_testkit::local::own(&safe);
        set_mode(site.host().home(), 0o1777);
        site.config.settings.staging_path = Some(hostsync::model::RemotePath::from_dest(
            safe.to_str().unwrap().as_bytes(),
        ));
        let changes = site.plan().plan.hosts[0].changes().to_vec();
        assert!(changes.iter().all(|it| it.action == Action::Create));
        assert_eq!(site.apply().result, HostResult::Done);
        assert_eq!(read(&site, "file"), "x");
    });
}

#[test]
fn folders_above_a_destination_are_made_as_the_login_makes_folders() {
    in_every_way(|way| {
        let mut host = way.host();
        let shell = host.home().join("login-shell");
        fs::write(&shell, "#!/bin/sh\numask 027\nexec /bin/sh \"$@\"\n").unwrap();
        set_mode(&shell, 0o755);
        host.login_shell = Some(shell);
        let site = LocalSite::with_host(host, "~/above/d");
        write_source(&site, "file", "x");
        assert_eq!(site.apply().result, HostResult::Done);
        assert_eq!(mode_of(&site.host().home().join("above")), 0o750);
        assert_eq!(mode_of(&site.host().home().join("above/d/file")), 0o644);
    });
}
