//! Commits that are killed at every step, by `kill -9`: on the host, and here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use hostsync::apply::HostResult;
use hostsync::config::Exact;
use hostsync::plan::Change;

use hostsync_testkit::local::{LocalHost, Shell};
use hostsync_testkit::local_site::LocalSite;

/// What is at a path: permission bits of files and folders, and content or target.
type Entries = BTreeMap<String, (u32, String)>;

fn entries(root: &Path) -> Entries {
    let mut found = Entries::new();
    let mut open = vec![root.to_owned()];
    while let Some(path) = open.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else {
            continue;
        };
        let (mut mode, mut content) = (metadata.mode() & 0o7777, String::new());
        if metadata.is_symlink() {
            mode = 0;
            content = fs::read_link(&path).unwrap().display().to_string();
        } else if metadata.is_dir() {
            content.push('/');
            let below = fs::read_dir(&path).unwrap();
            open.extend(below.map(|entry| entry.unwrap().path()));
        } else {
            content = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        }
        let name = path.strip_prefix(root).unwrap().display().to_string();
        found.insert(name, (mode, content));
    }
    found
}

/// Contents of all files below a folder.
fn contents(folder: &Path) -> Vec<String> {
    entries(folder)
        .into_values()
        .map(|(_, text)| text)
        .collect()
}

fn set_mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn write_source(site: &LocalSite, path: &str, text: &str) {
    let path = site.source(path);
    let folder = path.parent().unwrap();
    if !folder.exists() {
        fs::create_dir_all(folder).unwrap();
        set_mode(folder, 0o755);
    }
    fs::write(&path, text).unwrap();
    set_mode(&path, 0o644);
}

/// A source that has been applied, and has then changed in every way in which one can.
fn changed_site(shell: Shell) -> LocalSite {
    let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    site.first_mapping().exact = Exact::Orphans;
    set_mode(&site.source(""), 0o755);
    for path in [
        "becomes",
        "changes",
        "closed/file",
        "folder/file",
        "gone",
        "gone.d/file",
        "mode",
    ] {
        write_source(&site, path, &format!("old {path}"));
    }
    symlink("old", site.source("link")).unwrap();
    set_mode(&site.source("closed"), 0o555);
    let report = site.apply();
    assert_eq!(report.result, HostResult::Done);

    set_mode(&site.source("closed"), 0o755);
    fs::remove_file(site.source("becomes")).unwrap();
    fs::remove_dir_all(site.source("folder")).unwrap();
    fs::remove_file(site.source("gone")).unwrap();
    fs::remove_dir_all(site.source("gone.d")).unwrap();
    fs::remove_file(site.source("link")).unwrap();
    for path in [
        "becomes/file",
        "changes",
        "closed/file",
        "comes",
        "comes.d/file",
        "folder",
    ] {
        write_source(&site, path, &format!("new {path}"));
    }
    symlink("new", site.source("link")).unwrap();
    set_mode(&site.source("mode"), 0o600);
    set_mode(&site.source("closed"), 0o555);
    set_mode(&site.source("comes.d"), 0o500);
    site
}

/// Is there as soon as a commit has been told what to do.
const BEGUN: &str = ".hostsync/*/a/run-*/intent";

/// What an agent does on a host that can be seen: each of these is a step of its own.
const CALLS_OF_PERL: [(&str, &str, &str); 8] = [
    ("rename", "$$", "CORE::rename($_[0], $_[1])"),
    ("link", "$$", "CORE::link($_[0], $_[1])"),
    ("symlink", "$$", "CORE::symlink($_[0], $_[1])"),
    ("unlink", "@", "CORE::unlink(@_)"),
    ("rmdir", "_", "CORE::rmdir($_[0])"),
    (
        "mkdir",
        "_;$",
        "@_ > 1 ? CORE::mkdir($_[0], $_[1]) : CORE::mkdir($_[0])",
    ),
    ("chmod", "@", "CORE::chmod($_[0], @_[1 .. $#_])"),
    ("utime", "@", "CORE::utime($_[0], $_[1], @_[2 .. $#_])"),
];

/// Programs that do the same for a script.
const PROGRAMS: [&str; 8] = ["mv", "ln", "rm", "rmdir", "mkdir", "chmod", "sync", "touch"];

/// Has the host's part of a run be killed, once, before its `count`th step.
fn kill_at(shell: Shell, site: &LocalSite, count: usize) {
    if shell == Shell::Perl {
        let mut code = format!(
            "package Meddler; use strict; no warnings;
            my ($calls, $is_begun) = (0, 0);
            sub step {{
                my $mark = \"$ENV{{HOME}}/killed\";
                $is_begun ||= () = glob \"$ENV{{HOME}}/{BEGUN}\";
                return if !$is_begun || -e $mark || ++$calls != {count};
                open my $done, '>', $mark;
                close $done;
                kill 9, $$;
            }}
            BEGIN {{ no strict 'refs';\n"
        );
        for (name, prototype, call) in CALLS_OF_PERL {
            let _ = writeln!(
                code,
                "*{{'CORE::GLOBAL::{name}'}} = sub ({prototype}) {{ Meddler::step(); {call} }};"
            );
        }
        site.host().load_in_perl(&(code + "}\n1;"));
        return;
    }
    for name in PROGRAMS {
        let script = format!(
            r#"if [ ! -e "$HOME/killed" ] && [ -e "$(echo "$HOME"/{BEGUN})" ]; then
                echo >>"$HOME/steps"
                [ $(wc -l <"$HOME/steps") != {count} ] || {{ : >"$HOME/killed"; kill -9 $PPID; }}
            fi
            exec /usr/bin/{name} "$@""#
        );
        site.host().replace_program(name, &script);
    }
}

fn theirs(changes: &[Change]) -> Vec<&Change> {
    let is_flagged = |change: &&Change| change.drift || change.unmanaged || change.conflict;
    changes.iter().filter(is_flagged).collect()
}

/// Fails unless the host knows, in the middle of a commit, what was to happen to every entry.
fn check_journal(site: &LocalSite, changes: &[Change], told: &str) {
    let run = entries_of(&site.base("a"), "run-").remove(0);
    let text = |name: &str| {
        let bytes = fs::read(run.join(name));
        let bytes = bytes.unwrap_or_else(|error| panic!("{told}: {name}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (intent, staged) = (text("intent"), text("staged"));
    for change in changes {
        let path = change.path.to_string();
        let is_step = intent.lines().any(|line| line == path);
        // What comes with a new folder comes in one step.
        let comes_along = staged.contains(&path) || intent.contains(&path);
        assert!(is_step || comes_along, "{told}: nothing of {path}");
    }
    assert_eq!(
        text("sums").lines().count(),
        staged.lines().count(),
        "{told}"
    );
}

/// Kills at every step, and tells how many there were.
fn kill_everywhere(shell: Shell, stride: usize, is_saved: bool) -> usize {
    let mut killed = 0;
    for count in (1..).step_by(stride) {
        let site = changed_site(shell);
        let home = site.host().home().to_owned();
        let old = entries(&home.join("d"));
        let new = entries(&site.source(""));
        let plan = site.plan();
        assert!(theirs(plan.plan.hosts[0].changes()).is_empty());
        kill_at(shell, &site, count);
        let report = site.apply_plan(&plan).hosts.remove(0);
        if !home.join("killed").exists() {
            assert_eq!(
                (&report.result, &report.refused[..]),
                (&HostResult::Done, &[][..])
            );
            break;
        }
        killed += 1;
        let told = format!("{shell:?}, at step {count}, saved plan: {is_saved}");

        let now = entries(&home.join("d"));
        for (path, entry) in &now {
            let whole = [old.get(path), new.get(path)].map(|entry| entry.map(|(_, text)| text));
            assert!(
                whole.contains(&Some(&entry.1)),
                "{told}: {path} is {entry:?}"
            );
        }
        if now != old && now != new {
            check_journal(&site, plan.plan.hosts[0].changes(), &told);
        }
        // What was old is in place, or in the backups.
        let kept = contents(&home.join(".hostsync"));
        for (path, (_, text)) in old.iter().filter(|(_, (mode, _))| *mode != 0) {
            let is_there = now.get(path).is_some_and(|(_, now)| now == text);
            assert!(
                is_there || text == "/" || kept.contains(text),
                "{told}: {path} is lost"
            );
        }
        if is_saved {
            let report = site.apply_plan(&site.follow(&plan.plan)).hosts.remove(0);
            let is_done = matches!(report.result, HostResult::Done | HostResult::Unchanged);
            assert!(is_done && report.refused.is_empty(), "{told}: {report:?}");
        } else {
            let next = site.plan();
            let theirs = theirs(next.plan.hosts[0].changes());
            assert!(theirs.is_empty(), "{told}: {theirs:?}");
            let report = site.apply_plan(&next).hosts.remove(0);
            assert!(report.refused.is_empty(), "{told}: {report:?}");
        }
        assert_eq!(entries(&home.join("d")), new, "{told}");
        assert_eq!(site.remaining(), [], "{told}");
    }
    killed
}

fn kill_and_tell(shell: Shell, stride: usize, is_saved: bool) {
    let killed = kill_everywhere(shell, stride, is_saved);
    println!("{shell:?}: killed at {killed} steps, saved plan: {is_saved}");
    assert!(killed > 10, "{killed}");
}

#[test]
fn agent_that_is_killed_at_any_step_is_followed_by_a_run_that_finishes_its_work() {
    kill_and_tell(Shell::Perl, 1, false);
}

#[test]
fn script_that_is_killed_at_any_step_is_followed_by_a_run_that_finishes_its_work() {
    kill_and_tell(Shell::Dash, 2, false);
}

#[test]
fn same_saved_plan_finishes_the_work_of_an_agent_that_was_killed() {
    kill_and_tell(Shell::Perl, 1, true);
}

#[test]
fn same_saved_plan_finishes_the_work_of_a_script_that_was_killed() {
    kill_and_tell(Shell::Dash, 3, true);
}

/// Everything that begins with this in a folder.
fn entries_of(folder: &Path, start: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .map(|entry| entry.path())
        .collect()
}

/// Makes what a killed run has left on a host that of an earlier boot, in which its process had the
/// number and the start of one that lives now. True when there was a lock.
fn reboot(site: &LocalSite) -> bool {
    const EARLIER: &str = "00000000-0000-4000-8000-000000000000";
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let started = stat
        .rsplit_once(") ")
        .unwrap()
        .1
        .split(' ')
        .nth(19)
        .unwrap();
    let owner = format!("{} {started} {EARLIER}\n", std::process::id());
    let folder = site.host().home().join(".hostsync");
    let locks = entries_of(&folder, "lock-");
    let runs = entries_of(&site.base("a"), "run-");
    for signed in locks.iter().chain(&runs) {
        fs::write(signed.join("owner"), &owner).unwrap();
    }
    for lock in &locks {
        fs::rename(lock, folder.join(format!("lock-{EARLIER}"))).unwrap();
    }
    assert_eq!(runs.len(), 1);
    !locks.is_empty()
}

#[test]
fn what_a_run_has_left_that_died_with_its_host_is_in_nobodys_way() {
    for shell in [Shell::Perl, Shell::Dash] {
        let site = changed_site(shell);
        let new = entries(&site.source(""));
        let plan = site.plan();
        kill_at(shell, &site, 12);
        site.apply_plan(&plan);
        assert!(site.host().home().join("killed").exists());
        assert!(
            reboot(&site),
            "{shell:?}: it was killed before it had the lock"
        );
        let started = Instant::now();
        let next = site.plan();
        let theirs = theirs(next.plan.hosts[0].changes());
        assert!(theirs.is_empty(), "{shell:?}: {theirs:?}");
        let report = site.apply_plan(&next).hosts.remove(0);
        assert_eq!(
            (&report.result, &report.refused[..]),
            (&HostResult::Done, &[][..])
        );
        // Less than a plan waits for a commit that is under way.
        assert!(started.elapsed() < Duration::from_secs(8), "{shell:?}");
        assert_eq!(entries(&site.host().home().join("d")), new);
        assert!(entries_of(&site.base("a"), "run-").is_empty());
        assert_eq!(site.remaining(), []);
    }
}
