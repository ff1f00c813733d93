//! Large files, which are sent as blocks.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hostsync::apply::{HostResult, LargeFiles, OnConflict};
use hostsync::model::Blake3;

use super::{assert_is_tidy, mode_of, set_mode, under_every_shell};
use hostsync_testkit::local::{LocalHost, Shell, own};
use hostsync_testkit::local_site::LocalSite;

/// Size of a block, in these tests.
const BLOCK: usize = 64 << 10;

/// What is read of a source at once, and may be lost with a connection.
const CHUNK: u64 = 256 << 10;

/// A host on which an apply has been before.
fn site(shell: Shell) -> LocalSite {
    let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    site.large = LargeFiles {
        from_bytes: 4 * BLOCK as u64,
        block_bytes: BLOCK as u64,
        ..LargeFiles::default()
    };
    fs::write(site.source("small"), "small").unwrap();
    push(&site);
    site
}

/// Bytes that are in no other such file.
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    std::iter::repeat_with(&mut next).take(length).collect()
}

/// Applies; everything must be done and nothing be left behind. The bytes of content that were sent.
fn push(site: &LocalSite) -> u64 {
    let report = site.apply();
    assert_eq!(
        (&report.result, &report.refused[..]),
        (&HostResult::Done, &[][..])
    );
    assert_eq!(site.remaining(), []);
    assert_is_tidy(site);
    report.sent_bytes
}

fn write(site: &LocalSite, path: &str, bytes: &[u8]) {
    fs::write(site.source(path), bytes).unwrap();
}

fn dest(site: &LocalSite, path: &str) -> PathBuf {
    site.host().home().join("d").join(path)
}

#[track_caller]
fn assert_has(path: &Path, bytes: &[u8]) {
    assert!(fs::read(path).unwrap() == bytes, "{}", path.display());
}

/// What a run that is gone, or one of this process, left in staging.
fn leave(site: &LocalSite, owner: &str, files: &[(String, &[u8])]) -> PathBuf {
    let run = site.base("a").join("run-left");
    for folder in [run.clone(), run.join("large"), run.join("up")] {
        fs::create_dir(&folder).unwrap();
        set_mode(&folder, 0o700);
        own(&folder);
    }
    let files = files
        .iter()
        .map(|(name, bytes)| (format!("large/{name}"), *bytes));
    for (name, bytes) in files.chain([("owner".to_owned(), owner.as_bytes())]) {
        fs::write(run.join(&name), bytes).unwrap();
        set_mode(&run.join(&name), 0o600);
        own(&run.join(&name));
    }
    run
}

const GONE: &str = "1 1 another-boot\n";

#[test]
fn new_file_is_sent_once_with_mode_and_time() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 10 * BLOCK + 5);
        fs::create_dir_all(site.source("new/folder")).unwrap();
        for name in ["big one", "new/folder/big"] {
            write(&site, name, &noise(name.len() as u64, bytes.len()));
        }
        write(&site, "new/folder/big", &bytes);
        set_mode(&site.source("new/folder/big"), 0o750);
        set_mode(&site.source("big one"), 0o4755);
        let hour = Duration::from_hours(1);
        for (name, hours) in [("new/folder/big", 10_000), ("new/folder", 20_000)] {
            let time = std::time::UNIX_EPOCH + hours * hour;
            let file = fs::File::open(site.source(name)).unwrap();
            file.set_modified(time).unwrap();
        }
        assert_eq!(push(&site), 2 * bytes.len() as u64);
        assert_has(&dest(&site, "new/folder/big"), &bytes);
        assert_has(&dest(&site, "big one"), &noise(7, bytes.len()));
        assert_eq!(mode_of(&dest(&site, "new/folder/big")), 0o750);
        assert_eq!(mode_of(&dest(&site, "big one")), 0o4755);
        let mtime = |path: &Path| fs::metadata(path).unwrap().mtime();
        assert_eq!(mtime(&dest(&site, "new/folder/big")), 36_000_000);
        assert_eq!(mtime(&dest(&site, "new/folder")), 72_000_000);
    });
}

#[test]
fn one_changed_block_is_sent_alone_and_the_old_file_is_in_the_backups() {
    under_every_shell(|shell| {
        let site = site(shell);
        let old = noise(1, 10 * BLOCK + 5);
        write(&site, "big", &old);
        push(&site);
        let mut new = old.clone();
        new[3 * BLOCK + 7] ^= 1;
        write(&site, "big", &new);
        assert_eq!(push(&site), BLOCK as u64);
        assert_has(&dest(&site, "big"), &new);
        assert_has(&site.base("a").join("backup/3/0/big"), &old);
        // Blocks apart from each other, the last one among them.
        for at in [0, 5 * BLOCK - 1, 5 * BLOCK, 10 * BLOCK] {
            new[at] ^= 1;
        }
        write(&site, "big", &new);
        assert_eq!(push(&site), 3 * BLOCK as u64 + 5);
        assert_has(&dest(&site, "big"), &new);
    });
}

#[test]
fn file_that_grew_or_shrank_sends_what_is_new() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 13 * BLOCK);
        for (length, sent) in [
            (10 * BLOCK + 5, 10 * BLOCK + 5),
            (12 * BLOCK + 9, 2 * BLOCK + 9),
            (6 * BLOCK + 7, 0),
            (6 * BLOCK, 0),
            (6 * BLOCK + 1, 1),
        ] {
            write(&site, "big", &bytes[..length]);
            assert_eq!(push(&site), sent as u64, "{length}");
            assert_has(&dest(&site, "big"), &bytes[..length]);
        }
    });
}

#[test]
fn what_is_no_readable_file_in_place_is_not_taken_for_one() {
    under_every_shell(|shell| {
        let mut site = site(shell);
        site.on_conflict = OnConflict::Overwrite;
        let bytes = noise(1, 5 * BLOCK);
        // A file beside the link that would be written to if it were followed.
        write(&site, "other", &noise(2, 5 * BLOCK));
        symlink("other", site.source("link")).unwrap();
        fs::create_dir(site.source("folder")).unwrap();
        write(&site, "folder/in it", b"x");
        write(&site, "secret", &noise(3, 5 * BLOCK));
        push(&site);
        set_mode(&dest(&site, "secret"), 0);
        fs::remove_file(site.source("link")).unwrap();
        fs::remove_dir_all(site.source("folder")).unwrap();
        for (seed, name) in ["link", "folder", "secret"].into_iter().enumerate() {
            write(&site, name, &noise(seed as u64 + 10, 5 * BLOCK));
        }
        // What was in the folder goes with it.
        site.first_mapping().exact = hostsync::config::Exact::Orphans;
        assert_eq!(push(&site), 3 * bytes.len() as u64);
        for (seed, name) in ["link", "folder", "secret"].into_iter().enumerate() {
            assert_has(&dest(&site, name), &noise(seed as u64 + 10, 5 * BLOCK));
        }
        assert_has(&dest(&site, "other"), &noise(2, 5 * BLOCK));
    });
}

#[test]
fn what_a_dead_run_left_is_gone_on_with() {
    under_every_shell(|shell| {
        let bytes = noise(1, 10 * BLOCK + 5);
        let id = Blake3::of(&bytes).to_string();
        for (left_bytes, sent) in [
            (0, 10 * BLOCK + 5),
            (1, 10 * BLOCK + 5),
            (3 * BLOCK, 7 * BLOCK + 5),
            (4 * BLOCK - 1, 7 * BLOCK + 5),
            (10 * BLOCK, 5),
            (10 * BLOCK + 5, 0),
        ] {
            let site = site(shell);
            write(&site, "big", &bytes);
            let other = Blake3::of(b"no longer wanted").to_string();
            leave(
                &site,
                GONE,
                &[(id.clone(), &bytes[..left_bytes]), (other, b"x")],
            );
            assert_eq!(push(&site), sent as u64, "{left_bytes}");
            assert_has(&dest(&site, "big"), &bytes);
        }
    });
}

#[test]
fn extents_that_a_dead_run_left_are_gone_on_with() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 10 * BLOCK + 5);
        let id = Blake3::of(&bytes).to_string();
        write(&site, "big", &bytes);
        let extents = [
            (id.clone(), &bytes[..0]),
            (format!("{id}.0"), &bytes[..BLOCK]),
            (format!("{id}.2"), &bytes[2 * BLOCK..4 * BLOCK]),
            // Cut off.
            (format!("{id}.6"), &bytes[6 * BLOCK..7 * BLOCK + 9]),
            (format!("{id}.10"), &bytes[10 * BLOCK..]),
        ];
        leave(&site, GONE, &extents);
        assert_eq!(push(&site), 6 * BLOCK as u64);
        assert_has(&dest(&site, "big"), &bytes);
    });
}

#[test]
fn damaged_partial_does_no_harm() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 10 * BLOCK + 5);
        let id = Blake3::of(&bytes).to_string();
        write(&site, "big", &bytes);
        let mut damaged = bytes.clone();
        damaged[2 * BLOCK] ^= 1;
        damaged.extend(noise(2, 5 * BLOCK));
        leave(&site, GONE, &[(id, &damaged)]);
        assert_eq!(push(&site), BLOCK as u64);
        assert_has(&dest(&site, "big"), &bytes);
    });
}

#[test]
fn partial_of_a_run_that_lives_is_left_alone() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 5 * BLOCK);
        write(&site, "big", &bytes);
        let read = |path: &str| fs::read_to_string(path).unwrap();
        let stat = read("/proc/self/stat");
        let ticks = stat
            .rsplit_once(") ")
            .unwrap()
            .1
            .split(' ')
            .nth(19)
            .unwrap();
        let boot = read("/proc/sys/kernel/random/boot_id");
        let owner = format!("{} {ticks} {boot}", std::process::id());
        let id = Blake3::of(&bytes).to_string();
        let run = leave(&site, &owner, &[(id.clone(), &bytes)]);
        let report = site.apply();
        assert_eq!(report.result, HostResult::Done);
        assert_eq!(report.sent_bytes, bytes.len() as u64);
        assert_has(&run.join("large").join(id), &bytes);
    });
}

#[test]
fn content_that_several_files_have_is_sent_once() {
    under_every_shell(|shell| {
        let site = site(shell);
        let mut bytes = noise(1, 5 * BLOCK);
        let names = ["first", "second", "third"];
        for round in 1..=2 {
            for (name, bits) in names.into_iter().zip([0o600, 0o644, 0o755]) {
                write(&site, name, &bytes);
                set_mode(&site.source(name), bits);
            }
            let sent = if round == 1 { 5 } else { 1 };
            assert_eq!(push(&site), sent * BLOCK as u64);
            let mut inodes = Vec::new();
            for (name, bits) in names.into_iter().zip([0o600, 0o644, 0o755]) {
                assert_has(&dest(&site, name), &bytes);
                assert_eq!(mode_of(&dest(&site, name)), bits);
                inodes.push(fs::metadata(dest(&site, name)).unwrap().ino());
            }
            inodes.sort_unstable();
            inodes.dedup();
            assert_eq!(inodes.len(), 3);
            bytes[0] ^= 1;
        }
    });
}

#[test]
fn large_file_may_be_all_of_a_mapping() {
    under_every_shell(|shell| {
        let mut site = site(shell);
        let mapping = site.mapping("src/big", "~/x/y z");
        site.config.hosts[0].mappings.push(mapping);
        let mut bytes = noise(1, 5 * BLOCK + 5);
        fs::write(site.source("../big"), &bytes).unwrap();
        let alone = site.mapping("big", "~/x/y z");
        site.config.hosts[0].mappings[1] = alone;
        assert_eq!(push(&site), bytes.len() as u64);
        bytes[0] ^= 1;
        fs::write(site.source("../big"), &bytes).unwrap();
        assert_eq!(push(&site), BLOCK as u64);
        assert_has(&site.host().home().join("x/y z"), &bytes);
    });
}

#[test]
fn large_file_goes_through_tar_where_scp_does_not_work() {
    for shell in [Shell::Dash, Shell::Bash] {
        for is_there in [true, false] {
            let site = site(shell);
            if is_there {
                site.host().replace_program("scp", "exit 127");
            } else {
                site.host().remove_program("scp");
            }
            // What was sent to an scp that does not read it was sent in vain.
            let times = if is_there { 2 } else { 1 };
            let mut bytes = noise(1, 5 * BLOCK + 5);
            write(&site, "big", &bytes);
            assert!(push(&site) <= times * bytes.len() as u64);
            assert_has(&dest(&site, "big"), &bytes);
            bytes[3 * BLOCK] ^= 1;
            write(&site, "big", &bytes);
            assert!(push(&site) <= times * BLOCK as u64);
            assert_has(&dest(&site, "big"), &bytes);
        }
    }
}

#[test]
fn cut_connection_is_taken_up_again_in_the_same_run() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 40 * BLOCK + 5);
        write(&site, "big", &bytes);
        let prepared = site.plan();
        let cuts = [500_000, 400_000, 900_000];
        site.host().cuts.lock().unwrap().extend(cuts);
        let report = site.apply_plan(&prepared).hosts.swap_remove(0);
        assert_eq!(report.result, HostResult::Done);
        let lost = report.sent_bytes - bytes.len() as u64;
        assert!(lost > 0 && lost <= 3 * (CHUNK + BLOCK as u64), "{lost}");
        assert!(site.host().cuts.lock().unwrap().is_empty());
        assert_has(&dest(&site, "big"), &bytes);
        assert_eq!(site.remaining(), []);
        assert_is_tidy(&site);
    });
}

#[test]
fn upload_that_was_given_up_is_gone_on_with_by_the_next_run() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 40 * BLOCK + 5);
        write(&site, "big", &bytes);
        let prepared = site.plan();
        // Then three that bring nothing.
        site.host()
            .cuts
            .lock()
            .unwrap()
            .extend([1_500_000, 10, 10, 10]);
        let report = site.apply_plan(&prepared).hosts.swap_remove(0);
        assert!(
            matches!(&report.result, HostResult::Failed(why) if why.to_string().contains("broke")),
            "{:?}",
            report.result
        );
        assert!(!dest(&site, "big").exists());
        assert_eq!(site.host().cuts.lock().unwrap().len(), 1);
        site.host().cuts.lock().unwrap().clear();
        if shell != Shell::Perl {
            // Without an agent, a run lasts as long as its connection: here, as this process.
            let left = fs::read_dir(site.base("a"))
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let run = left
                .into_iter()
                .find(|path| path.join("owner").exists())
                .unwrap();
            assert!(!run.join("up").exists());
            fs::write(run.join("owner"), GONE).unwrap();
        }
        let sent = push(&site);
        assert!(sent < bytes.len() as u64 - 1_200_000, "{sent}");
        assert_has(&dest(&site, "big"), &bytes);
    });
}

#[test]
fn what_was_left_of_a_file_goes_when_that_is_no_longer_wanted() {
    under_every_shell(|shell| {
        let site = site(shell);
        let bytes = noise(1, 5 * BLOCK);
        leave(&site, GONE, &[(Blake3::of(&bytes).to_string(), &bytes)]);
        write(&site, "small", b"changed");
        push(&site);
    });
}

/// Pushes over a long line; how many sessions the apply had.
fn sessions(site: &mut LocalSite, bytes: &[u8]) -> usize {
    site.large.session_bytes = 8 * BLOCK as u64;
    write(site, "big", bytes);
    let prepared = site.plan();
    let sessions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sessions);
    site.host().before_exec(move |commands| {
        if commands == 0 {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    *site.host().delay.lock().unwrap() = Duration::from_millis(40);
    let report = site.apply_plan(&prepared).hosts.swap_remove(0);
    *site.host().delay.lock().unwrap() = Duration::ZERO;
    assert_eq!(report.result, HostResult::Done);
    assert_has(&dest(site, "big"), bytes);
    assert_is_tidy(site);
    sessions.load(Ordering::Relaxed)
}

#[test]
fn several_sessions_send_over_a_long_line() {
    under_every_shell(|shell| {
        let mut site = site(shell);
        assert_eq!(sessions(&mut site, &noise(1, 40 * BLOCK)), 4);
        // As many as the configuration allows, and no more than pay off.
        assert_eq!(sessions(&mut site, &noise(2, 20 * BLOCK)), 2);
        site.config.settings.number_of_connections = 3;
        assert_eq!(sessions(&mut site, &noise(3, 40 * BLOCK)), 3);
        site.config.settings.number_of_connections = 1;
        assert_eq!(sessions(&mut site, &noise(4, 40 * BLOCK)), 1);
    });
}

#[test]
fn session_that_fails_beside_others_costs_only_its_part() {
    under_every_shell(|shell| {
        let mut site = site(shell);
        // That of the plan, the first one, and one beside it.
        let cuts = [usize::MAX, usize::MAX, 200_000];
        site.host().cuts.lock().unwrap().extend(cuts);
        assert_eq!(sessions(&mut site, &noise(1, 40 * BLOCK)), 4);
    });
}
