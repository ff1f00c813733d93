//! Disks that fill up in the middle, and get room again.

#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::chance::{Chance, seeds};
use crate::hosts::{Hosts, Machine, Victim};
use crate::tree::Tree;
use hostsync_testkit::is_root;
use hostsync_testkit::scenario::chmod;

/// A small file system, for as long as it is wanted.
struct Disk(PathBuf);

impl Disk {
    /// `None` where mounting is not permitted.
    fn mount(path: &Path) -> Option<Self> {
        fs::create_dir(path).expect("root may");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=6m,nr_inodes=3000", "tmpfs"]);
        let is_mounted = is_root() && mount.arg(path).status().is_ok_and(|it| it.success());
        is_mounted.then(|| Self(path.to_owned()))
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Leaves so many bytes, and not one more.
    fn fill(&self, left: usize) {
        let free = rustix::fs::statvfs(&self.0).expect("a file system");
        let free = usize::try_from(free.f_bavail * free.f_frsize).expect("a small disk");
        // It may have been taken meanwhile, and then there is nothing left.
        let _ = fs::write(self.filler(), vec![b'x'; free.saturating_sub(left)]);
    }

    fn make_room(&self) {
        let _ = fs::remove_file(self.filler());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Nothing can be done about it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn disk_that_fills_up_at_any_moment_is_finished_when_there_is_room() {
    let mut seeds = seeds("STORM_DISKS", 2).peekable();
    let first = &mut Chance::of(*seeds.peek().expect("a case"));
    let hosts = Hosts::start(106, "disk/dest");
    let mut disks = Vec::new();
    for host in &hosts.all {
        let path = host.dir().join("disk");
        let Some(disk) = Disk::mount(&path) else {
            println!("mounting is not permitted: not tried");
            return;
        };
        host.account.own(&path);
        chmod(&path, 0o755);
        disks.push(disk);
    }
    let [one, two] = &hosts.all;
    let mut machine = Machine::new(&[one, two], "~/disk/dest", &["backups = 2"]);
    machine.set_source(Tree::random(first, 200));
    let started = Instant::now();
    machine.scenario.apply();
    let duration = started.elapsed();
    let apply = ["apply", "--auto-approve"];
    let (mut cases, mut full) = (0, 0);
    for seed in seeds {
        let chance = &mut Chance::of(seed);
        let before = machine.source.clone();
        let mut source = before.clone();
        source.change(chance);
        machine.set_source(source);
        let disk = &disks[chance.below(2)];
        let mut run = machine.start(&apply);
        let delay = if chance.one_in(2) {
            hosts.wait_for_a_commit(duration * 2);
            chance.time_below(duration / 2)
        } else {
            chance.time_below(duration)
        };
        thread::sleep(delay);
        disk.fill(*chance.pick(&[0, 4096, 20_000, 100_000]));
        let victims = if chance.one_in(3) {
            Victim::random(chance)
        } else {
            Vec::new()
        };
        let case = &format!("seed {seed}, full after {delay:?}, killed: {victims:?}");
        println!("{case}");
        thread::sleep(chance.time_below(Duration::from_millis(200)));
        for victim in victims {
            victim.kill(&mut run, &hosts, chance);
        }
        let end = run.finish(case);
        assert!([-1, 0, 3].contains(&end.code), "{case}: {end}");
        full += usize::from(end.code == 3);
        let check = |case: &str| {
            for host in 0..2 {
                let case = format!("{case}, host {host}");
                let now = hosts.tree(host);
                now.assert_whole(&[&before, &machine.source], &case);
                now.assert_nothing_lost(&before, &hosts.kept(host), &case);
            }
        };
        check(case);
        if chance.one_in(2) {
            // Once more without room. Nothing of it is somebody else's doing.
            machine.assert_all_ours(case);
            let end = machine.start(&apply).finish(case);
            assert!([0, 3].contains(&end.code), "{case}: {end}");
            check(&format!("{case}: {end}"));
        }
        disk.make_room();
        machine.assert_all_ours(case);
        let end = machine.start(&apply).finish(case);
        assert_eq!(end.code, 0, "{case}: {end}");
        hosts.wait_until_idle();
        for tree in hosts.trees() {
            tree.assert_is(&machine.source, case);
        }
        machine.assert_nothing_to_do(case);
        hosts.assert_clean(case);
        cases += 1;
    }
    println!("storm of disks: {cases} cases, {full} of them without room for all");
}
