//! Locks that runs have left, under every shell and every set of tools that a host may have.

use std::fs;
use std::time::Duration;

use hostsync::remote::Login;
use hostsync::remote::tasks::unlock::{HostLock, unlock};

use super::{host_with_folder, remote, under_every_shell};
use hostsync_testkit::local::own;

#[test]
fn locks_of_those_that_are_gone_are_removed_and_those_of_the_living_stay() {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim();
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    // The 22nd word; the name, which may hold spaces, is the second one.
    let started = stat.rsplit(") ").next().unwrap();
    let started = started.split(' ').nth(19).unwrap();
    let me = std::process::id();
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let ours = host.home().join(".hostsync");
        let base = ours.join("lineage/host");
        fs::create_dir_all(&base).unwrap();
        let sign = |folder: &str, owner: &str| {
            let folder = ours.join(folder);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("owner"), owner).unwrap();
        };
        let unlock = || {
            for entry in walkdir::WalkDir::new(&ours) {
                own(entry.unwrap().path());
            }
            let mut login = Login::new(Box::new(host.session()));
            let base = remote(b"~/.hostsync/lineage/host");
            unlock(&mut login, &base, Duration::from_mins(1)).unwrap()
        };
        let lock = |holder: &str, is_removed| HostLock {
            holder: holder.to_owned(),
            is_removed,
        };
        assert_eq!(unlock(), []);

        sign("lock-before", "12 34 before\n");
        fs::create_dir(ours.join("lock-nobody")).unwrap();
        sign("lineage/host/run-dead", "12 34 before\n");
        fs::create_dir(base.join("run-dead/up")).unwrap();
        sign(&format!("lock-{boot}"), &format!("{me} {started} {boot}\n"));
        let mut found = unlock();
        found.sort_by_key(|lock| lock.holder.clone());
        let mut expected = vec![
            lock("12", true),
            lock(&me.to_string(), false),
            lock("unknown", true),
        ];
        expected.sort_by_key(|lock| lock.holder.clone());
        assert_eq!(found, expected);
        assert!(!base.join("run-dead").exists());
        assert_eq!(unlock(), [lock(&me.to_string(), false)]);

        // One of this boot, whose pid somebody else has by now.
        sign(&format!("lock-{boot}"), &format!("{me} 1 {boot}\n"));
        assert_eq!(unlock(), [lock(&me.to_string(), true)]);
        let left: Vec<_> = fs::read_dir(&ours).unwrap().flatten().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    });
}
