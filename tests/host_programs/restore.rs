//! Bringing back what is in backups, under every shell and every set of tools that a host may have.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;

use hostsync::apply::HostResult;
use hostsync::config::Exact;
use hostsync::plan::Refresh;
use hostsync::plan::goal::rollback::RollbackTarget;
use hostsync::plan::prepared::Prepared;

use super::{ODD_NAMES, set_mode, under_every_shell};
use hostsync_testkit::local::{LocalHost, Shell};
use hostsync_testkit::local_site::LocalSite;

/// A host on which an apply has overwritten and deleted files with odd names, and one that nobody may
/// write.
fn overwritten(shell: Shell) -> LocalSite {
    let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    site.first_mapping().exact = Exact::Orphans;
    let source = |name: &[u8]| site.source("").join(OsStr::from_bytes(name));
    for name in ODD_NAMES {
        fs::write(source(name), [b"before ", name].concat()).unwrap();
    }
    fs::write(site.source("empty"), "").unwrap();
    fs::write(site.source("closed"), "before").unwrap();
    set_mode(&site.source("closed"), 0o400);
    site.apply();
    for (index, name) in ODD_NAMES.into_iter().enumerate() {
        if index % 2 == 0 {
            fs::remove_file(source(name)).unwrap();
        } else {
            fs::write(source(name), "after, and longer than what was there before").unwrap();
        }
    }
    fs::write(site.source("empty"), "not any more").unwrap();
    fs::write(site.source("closed"), "after").unwrap();
    set_mode(&site.source("closed"), 0o644);
    assert!(site.apply().refused.is_empty());
    site
}

fn back(site: &LocalSite) -> Prepared {
    let undo = RollbackTarget::choose(&site.state(), None)
        .unwrap()
        .unwrap();
    site.prepare(Refresh::Quick, &undo, false).unwrap()
}

#[test]
fn files_come_back_whatever_they_are_called() {
    under_every_shell(|shell| {
        let site = overwritten(shell);
        let report = site.apply_plan(&back(&site)).hosts.swap_remove(0);
        assert_eq!((report.result, report.refused), (HostResult::Done, vec![]));
        assert_eq!(report.sent_bytes, 0);
        let dest = site.host().home().join("d");
        for name in ODD_NAMES {
            let bytes = fs::read(dest.join(OsStr::from_bytes(name))).unwrap();
            assert_eq!(bytes, [b"before ", name].concat());
        }
        assert_eq!(fs::read(dest.join("empty")).unwrap(), b"");
        assert_eq!(fs::read(dest.join("closed")).unwrap(), b"before");
    });
}

#[test]
fn backup_that_is_gone_changed_or_a_link_changes_nothing_and_is_named() {
    under_every_shell(|shell| {
        let site = overwritten(shell);
        let backup = site.base("a").join("backup/2/0/closed");
        let dest = site.host().home().join("d/closed");
        let spoil: [&dyn Fn(); 3] = [
            &|| fs::write(&backup, "BEFORE").unwrap(),
            &|| fs::remove_file(&backup).unwrap(),
            &|| std::os::unix::fs::symlink("/etc/hostname", &backup).unwrap(),
        ];
        for spoil in spoil {
            spoil();
            match site.apply_plan(&back(&site)).hosts.swap_remove(0).result {
                HostResult::Failed(error) => {
                    assert!(
                        error.to_string().contains("/closed cannot be brought back"),
                        "{error}"
                    );
                }
                other => panic!("{other:?}"),
            }
            assert_eq!(fs::read(&dest).unwrap(), b"after");
        }
    });
}
