//! What somebody else does on a host at the worst moment, and hosts that do not play fair.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use hostsync::apply::{HostReport, HostResult, OnConflict};
use hostsync::config::Exact;
use hostsync::plan::{Action, Change, Refresh};
use hostsync::remote::tasks::look::Listing;

use hostsync_testkit::local::{LocalHost, Shell, own, required};
use hostsync_testkit::local_site::LocalSite;

/// The ways in which steps are taken: by perl, by the loop of a shell, by what busybox has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    DashAndPerl,
    BashAlone,
    Busybox,
}

impl Way {
    const ALL: [Self; 3] = [Self::DashAndPerl, Self::BashAlone, Self::Busybox];

    pub(super) fn host(self) -> LocalHost {
        LocalHost::new(match self {
            Self::DashAndPerl => Shell::Perl,
            Self::BashAlone => Shell::Bash,
            Self::Busybox => Shell::Busybox,
        })
    }

    pub(super) fn site(self) -> LocalSite {
        LocalSite::with_host(self.host(), "~/d")
    }
}

/// Runs a test in every way, and says which one it was when it fails.
pub(super) fn in_every_way(test: impl Fn(Way)) {
    in_these_ways(&Way::ALL, test);
}

/// Runs a test that replaces programs of the host.
fn in_every_way_with_programs(test: impl Fn(Way)) {
    in_these_ways(&Way::ALL[..2], test);
}

pub(super) fn in_these_ways(ways: &[Way], test: impl Fn(Way)) {
    for way in ways {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(*way)));
        if let Err(panic) = result {
            println!("with {way:?}:");
            std::panic::resume_unwind(panic);
        }
    }
}

pub(super) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(super) fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

pub(super) fn set_mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

fn dest(site: &LocalSite, path: &str) -> PathBuf {
    site.host().home().join("d").join(path)
}

pub(super) fn read(site: &LocalSite, path: &str) -> String {
    fs::read_to_string(dest(site, path)).unwrap()
}

/// Writes a source that has the same permission bits wherever the tests run.
pub(super) fn write_source(site: &LocalSite, path: &str, text: &str) {
    fs::write(site.source(path), text).unwrap();
    set_mode(&site.source(path), 0o644);
}

fn make_source_folder(site: &LocalSite, path: &str) {
    fs::create_dir(site.source(path)).unwrap();
    set_mode(&site.source(path), 0o755);
}

/// Applies and expects that everything was done.
#[track_caller]
fn apply_all(site: &LocalSite) {
    let report = site.apply();
    assert_eq!(
        (&report.result, &report.refused[..]),
        (&HostResult::Done, &[][..])
    );
}

/// What a report says was refused, each with whether it had moved.
fn refused(report: &HostReport) -> Vec<(String, bool)> {
    report
        .refused
        .iter()
        .map(|refused| (refused.path.to_string(), refused.moved))
        .collect()
}

fn paths(changes: &[Change]) -> Vec<String> {
    changes
        .iter()
        .map(|change| change.path.to_string())
        .collect()
}

/// Writes other content of the same length, and gives back the modification time.
fn rewrite_in_secret(path: &Path, text: &str) {
    let before = fs::metadata(path).unwrap();
    assert_eq!(before.len(), text.len() as u64);
    fs::write(path, text).unwrap();
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(
        fs::metadata(path).unwrap().mtime_nsec(),
        before.mtime_nsec()
    );
}

pub(super) fn failure(report: &HostReport) -> String {
    match &report.result {
        HostResult::Failed(reason) => reason.to_string(),
        other => panic!("{other:?}"),
    }
}

// --- between the plan and the apply ------------------------------------------------------------------

#[test]
fn folder_that_was_refused_is_not_closed_through_a_link_in_its_place() {
    in_every_way(|way| {
        let site = way.site();
        make_source_folder(&site, "sub");
        apply_all(&site);
        make_source_folder(&site, "sub/closed");
        write_source(&site, "sub/closed/file", "x");
        set_mode(&site.source("sub/closed"), 0o555);

        let plan = site.plan();
        site.host().mkdir("theirs");
        set_mode(&site.host().home().join("theirs"), 0o750);
        symlink("../../theirs", dest(&site, "sub/closed")).unwrap();
        let report = site.apply_plan(&plan).hosts.remove(0);
        set_mode(&site.source("sub/closed"), 0o755);

        let expected = ["sub/closed", "sub/closed/file"].map(|path| (path.to_owned(), true));
        assert_eq!(refused(&report), expected);
        assert_eq!(mode_of(&site.host().home().join("theirs")), 0o750);
        assert!(dest(&site, "sub/closed").is_symlink());
    });
}

#[test]
fn folder_that_is_opened_for_a_while_is_not_closed_through_a_link_in_its_place() {
    in_every_way(|way| {
        let site = way.site();
        make_source_folder(&site, "closed");
        set_mode(&site.source("closed"), 0o555);
        apply_all(&site);
        set_mode(&site.source("closed"), 0o755);
        write_source(&site, "closed/file", "x");
        set_mode(&site.source("closed"), 0o555);

        let plan = site.plan();
        site.host().mkdir("theirs");
        set_mode(&site.host().home().join("theirs"), 0o750);
        fs::remove_dir(dest(&site, "closed")).unwrap();
        symlink("../theirs", dest(&site, "closed")).unwrap();
        let report = site.apply_plan(&plan).hosts.remove(0);
        set_mode(&site.source("closed"), 0o755);

        assert_eq!(refused(&report), [("closed/file".to_owned(), true)]);
        assert_eq!(mode_of(&site.host().home().join("theirs")), 0o750);
        let theirs = fs::read_dir(site.host().home().join("theirs")).unwrap();
        assert_eq!(theirs.count(), 0);
    });
}

#[test]
fn permission_bits_of_a_file_with_other_content_are_not_set() {
    in_every_way(|way| {
        let site = way.site();
        write_source(&site, "file", "ours");
        write_source(&site, "other", "ours");
        apply_all(&site);
        set_mode(&site.source("file"), 0o600);
        write_source(&site, "other", "new");

        let plan = site.plan();
        assert_eq!(plan.plan.hosts[0].changes()[0].action, Action::Metadata);
        rewrite_in_secret(&dest(&site, "file"), "HERS");
        let report = site.apply_plan(&plan).hosts.remove(0);

        assert_eq!(refused(&report), [("file".to_owned(), true)]);
        assert_eq!(mode_of(&dest(&site, "file")), 0o644);
        let changes = site.remaining();
        assert_eq!(paths(&changes), ["file"]);
        assert!(changes[0].drift && changes[0].conflict);
    });
}

#[test]
fn content_that_changes_right_after_a_commit_is_seen() {
    in_every_way(|way| {
        let site = way.site();
        write_source(&site, "changed", "1st.");
        write_source(&site, "left", "ours");
        apply_all(&site);
        write_source(&site, "changed", "2nd.");
        apply_all(&site);
        for name in ["changed", "left"] {
            rewrite_in_secret(&dest(&site, name), "HERS");
        }
        assert_eq!(paths(&site.remaining()), ["changed", "left"]);
    });
}

#[test]
fn orphan_that_somebody_else_has_changed_stays_theirs() {
    in_every_way(|way| {
        for exact in [Exact::No, Exact::Orphans] {
            let mut site = way.site();
            site.first_mapping().exact = exact;
            write_source(&site, "file", "1st.");
            write_source(&site, "orphan", "ours");
            apply_all(&site);
            fs::remove_file(site.source("orphan")).unwrap();
            rewrite_in_secret(&dest(&site, "orphan"), "HERS");
            // Neither of these makes a listing that takes it for ours.
            for text in ["2nd.", "3rd."] {
                write_source(&site, "file", text);
                apply_all(&site);
            }
            site.first_mapping().exact = Exact::Orphans;
            assert_eq!(site.remaining(), [], "{exact:?}");
            site.first_mapping().exact = Exact::Mirror;
            // What is not ours was there before it mattered, so the kept listing is not enough.
            for refresh in [Refresh::Quick, Refresh::Full] {
                let plan = site.plan_with(refresh).plan;
                let changes = plan.hosts[0].changes();
                assert_eq!(paths(changes), ["orphan"], "{refresh:?}");
                assert!(changes[0].conflict, "{exact:?}");
            }
            // From the next apply on it is.
            site.apply();
            assert_eq!(site.remaining().len(), 1);
            fs::remove_file(dest(&site, "orphan")).unwrap();
            assert_eq!(site.apply().result, HostResult::Unchanged);
            assert_eq!(site.plan().listings, [Some(Listing::Same)], "{way:?}");
        }
    });
}

#[test]
fn closed_folder_goes_at_once_with_all_that_is_in_it() {
    in_every_way(|way| {
        let mut site = way.site();
        site.first_mapping().exact = Exact::Orphans;
        for folder in ["goes", "becomes"] {
            make_source_folder(&site, folder);
            write_source(&site, &format!("{folder}/file"), "x");
            set_mode(&site.source(folder), 0o555);
        }
        apply_all(&site);
        for folder in ["goes", "becomes"] {
            set_mode(&site.source(folder), 0o755);
            fs::remove_dir_all(site.source(folder)).unwrap();
        }
        write_source(&site, "becomes", "a file");
        apply_all(&site);
        assert!(!dest(&site, "goes").exists());
        assert_eq!(read(&site, "becomes"), "a file");
        assert_eq!(site.remaining(), []);
    });
}

#[test]
fn entry_that_appears_in_a_mirror_before_the_apply_is_seen_after_it() {
    in_every_way(|way| {
        let mut site = way.site();
        site.first_mapping().exact = Exact::Mirror;
        make_source_folder(&site, "sub");
        write_source(&site, "sub/file", "old");
        apply_all(&site);
        assert_eq!(site.remaining(), []);
        write_source(&site, "sub/file", "new");

        let plan = site.plan();
        site.host().write("d/sub/theirs", "x");
        let report = site.apply_plan(&plan).hosts.remove(0);

        assert_eq!(report.result, HostResult::Done);
        assert_eq!(read(&site, "sub/file"), "new");
        let changes = site.remaining();
        assert_eq!(paths(&changes), ["sub/theirs"]);
        assert_eq!(changes[0].action, Action::Delete);
    });
}

#[test]
fn folder_that_became_a_link_leads_nothing_out_of_the_mapping() {
    in_every_way(|way| {
        let mut site = way.site();
        site.first_mapping().exact = Exact::Orphans;
        make_source_folder(&site, "sub");
        for name in ["sub/changed", "sub/deleted", "sub/mode"] {
            write_source(&site, name, "old");
        }
        apply_all(&site);
        write_source(&site, "sub/changed", "new");
        write_source(&site, "sub/new", "new");
        make_source_folder(&site, "sub/folder");
        write_source(&site, "sub/folder/file", "new");
        set_mode(&site.source("sub/mode"), 0o600);
        fs::remove_file(site.source("sub/deleted")).unwrap();

        let plan = site.plan();
        // The very same files, elsewhere.
        let theirs = site.host().home().join("theirs");
        fs::rename(dest(&site, "sub"), &theirs).unwrap();
        symlink("../theirs", dest(&site, "sub")).unwrap();
        let report = site.apply_plan(&plan).hosts.remove(0);

        assert_eq!(refused(&report).len(), 6);
        assert!(report.refused.iter().all(|refused| refused.moved));
        for name in ["changed", "deleted", "mode"] {
            assert_eq!(fs::read_to_string(theirs.join(name)).unwrap(), "old");
        }
        assert_eq!(mode_of(&theirs.join("mode")), 0o644);
        assert_eq!(fs::read_dir(&theirs).unwrap().count(), 3);
    });
}

// --- during the commit -------------------------------------------------------------------------------

/// Programs of the host that run after the steps; what is done before one of them does its work, or
/// after it; and how often it runs before.
const MOMENTS: [(&str, &str); 3] = [
    // The disk is synchronized before the steps, too.
    (
        "sync",
        r#"n=$(cat "$HOME/syncs" 2>/dev/null); echo "${n}x" >"$HOME/syncs"
        [ "$n" != x ] || meddle
        exec /usr/bin/sync "$@""#,
    ),
    // The pause before the listing is made.
    (
        "sleep",
        r#"[ "$1" != 0.05 ] || meddle
        exec /usr/bin/sleep "$@""#,
    ),
    // The listing itself.
    (
        "stat",
        r#"/usr/bin/stat "$@"
        code=$?
        case $* in
          *%n\ --*d/file*) if [ -e "$(echo "$HOME"/.hostsync/*/a/run-*/begun)" ]; then meddle; fi ;;
        esac
        exit "$code""#,
    ),
];

/// The same moments in an agent, which runs no program then: what it calls, and when.
const MOMENTS_IN_PERL: [(&str, &str); 2] = [
    (
        "sleep",
        "my $sleep = \\&Time::HiRes::sleep;
        *Time::HiRes::sleep = sub { meddle() if $pauses++; $sleep->(@_) };",
    ),
    (
        "stat",
        "my $lstat = \\&Time::HiRes::lstat;
        *Time::HiRes::lstat = sub {
            my @is = $lstat->(@_);
            meddle() if $_[0] =~ m{d/file|^\\./file$} && $checks++ > 1;
            @is
        };",
    ),
];

/// Has a host run `commands` in the middle of a commit, once.
fn meddle(way: Way, site: &LocalSite, moment: (&str, &str), commands: &str) {
    let (program, script) = moment;
    let in_perl = MOMENTS_IN_PERL.iter().find(|(name, _)| *name == program);
    if way == Way::DashAndPerl
        && let Some((_, code)) = in_perl
    {
        let commands = commands.replace('\'', "'\\''");
        site.host().load_in_perl(&format!(
            "package Meddler; use Time::HiRes; no warnings; our ($pauses, $checks);
            sub meddle {{
                return if -e \"$ENV{{HOME}}/meddled\";
                open my $done, '>', \"$ENV{{HOME}}/meddled\";
                system('sh', '-c', 'cd \"$HOME/d\" && {{ {commands}; }}');
            }}
            {code}
            1;"
        ));
        return;
    }
    let meddle = format!(
        "meddle() {{ [ -e \"$HOME/meddled\" ] || {{ : >\"$HOME/meddled\"; cd \"$HOME/d\" && {commands}; }}; }}"
    );
    site.host()
        .replace_program(program, &format!("{meddle}\n{script}"));
}

/// Applies while somebody meddles, and gives what the next plan shows.
fn seen_after_meddling(way: Way, exact: Exact, commands: &str) {
    for moment in MOMENTS {
        if way == Way::DashAndPerl && moment.0 == "sync" {
            // An agent may need no program for that; its pause comes right after.
            continue;
        }
        let mut site = way.site();
        site.first_mapping().exact = exact;
        make_source_folder(&site, "sub");
        for name in ["file", "untouched", "sub/file"] {
            write_source(&site, name, "1st.");
        }
        symlink("file", site.source("link")).unwrap();
        apply_all(&site);
        assert_eq!(site.remaining(), []);
        write_source(&site, "file", "2nd.");
        write_source(&site, "sub/file", "2nd.");
        fs::remove_file(site.source("link")).unwrap();
        symlink("sub", site.source("link")).unwrap();

        meddle(way, &site, moment, commands);
        let report = site.apply();
        assert_eq!(report.result, HostResult::Done);
        assert!(
            site.host().home().join("meddled").exists(),
            "nobody meddled at {}",
            moment.0
        );
        let remaining = site.remaining();
        assert!(
            !remaining.is_empty(),
            "`{commands}` at {}: nothing was seen",
            moment.0
        );
    }
}

#[test]
fn file_that_is_rewritten_in_secret_during_a_commit_is_seen() {
    in_every_way_with_programs(|way| {
        for name in ["file", "untouched"] {
            let commands =
                format!("cp -p {name} ../kept && printf HERS >{name} && touch -r ../kept {name}");
            seen_after_meddling(way, Exact::No, &commands);
        }
    });
}

/// Has the commit of a host be killed, once, when it renames for the `count`th time.
fn kill_at_rename(way: Way, site: &LocalSite, count: usize) {
    if way == Way::DashAndPerl {
        site.host().load_in_perl(&format!(
            "package Meddler; use strict;
            my $renames = 0;
            BEGIN {{
                *CORE::GLOBAL::rename = sub ($$) {{
                    my $mark = \"$ENV{{HOME}}/meddled\";
                    if (!-e $mark && ++$renames == {count}) {{
                        open my $done, '>', $mark;
                        kill 9, $$;
                    }}
                    CORE::rename($_[0], $_[1])
                }};
            }}
            1;"
        ));
        return;
    }
    site.host().replace_program(
        "mv",
        &format!(
            r#"if [ ! -e "$HOME/meddled" ]; then
                echo >>"$HOME/renames"
                [ $(wc -l <"$HOME/renames") != {count} ] || {{ : >"$HOME/meddled"; kill -9 $PPID; }}
            fi
            exec /usr/bin/mv "$@""#
        ),
    );
}

#[test]
fn what_a_killed_commit_has_done_is_ours_even_when_the_source_has_changed_since() {
    in_every_way_with_programs(|way| {
        let mut killed = 0;
        for count in 1..12 {
            let mut site = way.site();
            site.first_mapping().exact = Exact::Orphans;
            for name in ["a", "b", "c", "file", "gone"] {
                write_source(&site, name, "1st.");
            }
            apply_all(&site);
            for name in ["a", "b", "c", "file", "new"] {
                write_source(&site, name, "2nd.");
            }
            fs::remove_file(site.source("gone")).unwrap();
            kill_at_rename(way, &site, count);
            let report = site.apply();
            if !site.host().home().join("meddled").exists() {
                assert_eq!(report.result, HostResult::Done);
                break;
            }
            killed += 1;
            for name in ["a", "b", "c", "file"] {
                write_source(&site, name, "3rd.");
            }
            fs::remove_file(site.source("new")).unwrap();
            let remaining = site.remaining();
            let theirs: Vec<_> = remaining
                .iter()
                .filter(|change| change.drift || change.unmanaged || change.conflict)
                .collect();
            assert!(theirs.is_empty(), "{way:?} {count}: {theirs:?}");
            apply_all(&site);
            assert_eq!(site.remaining(), []);
            assert_eq!(read(&site, "file"), "3rd.");
            assert!(!dest(&site, "new").exists(), "{way:?} {count}");
        }
        assert!(killed > 5, "{way:?}: killed only {killed} times");
    });
}

#[test]
fn link_that_is_pointed_elsewhere_during_a_commit_is_seen() {
    in_every_way_with_programs(|way| {
        seen_after_meddling(way, Exact::No, "ln -sfn bad link");
    });
}

#[test]
fn entry_that_appears_in_a_mirror_during_a_commit_is_seen() {
    in_every_way_with_programs(|way| {
        seen_after_meddling(way, Exact::Mirror, ": >sub/theirs");
    });
}

// --- tools that do not work --------------------------------------------------------------------------

#[test]
fn host_whose_tools_fail_is_never_taken_for_unchanged() {
    let broken = [
        ("sed", None),
        ("sed", Some("exit 1")),
        ("diff", None),
        ("diff", Some("exit 2")),
        ("diff", Some("exit 1")),
        ("tr", Some("exit 1")),
        ("xargs", Some("exit 1")),
        ("stat", Some("exec /usr/bin/stat --version")),
    ];
    for (program, script) in broken {
        let site = Way::DashAndPerl.site();
        write_source(&site, "file", "ours");
        write_source(&site, "other", "ours");
        apply_all(&site);
        site.host().write("d/file", "theirs");
        match script {
            Some(script) => site.host().replace_program(program, script),
            None => site.host().remove_program(program),
        }
        let plan = site.plan().plan;
        let host = &plan.hosts[0];
        let is_seen = paths(host.changes()) == ["file"];
        assert!(
            is_seen || host.status.error().is_some(),
            "{program} {script:?}: {:?} {:?}",
            host.status,
            host.changes()
        );
        assert!(host.changes().len() < 2, "{program} {script:?}");
    }
}

/// What every script begins with, run by hand: with a pulse of a second, and `body` behind it.
fn run_common(shell: &Path, home: &Path, body: &str) -> std::process::Child {
    let common = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/remote/common.sh");
    let common = fs::read_to_string(common).unwrap();
    Command::new(shell)
        .arg("-c")
        .arg(format!("hs_nonce=0\nhs_pulse=1\n{common}\n{body}"))
        .env("HOME", home)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn every_shell() -> [PathBuf; 3] {
    [
        required("dash", "dash"),
        required("bash", "bash"),
        required("busybox", "busybox-static"),
    ]
}

#[test]
fn signs_of_life_of_work_without_end_come_to_an_end() {
    let home = tempfile::tempdir().unwrap();
    let running: Vec<_> = every_shell()
        .into_iter()
        .map(|shell| {
            let shell = as_shell(&shell, home.path());
            run_common(&shell, home.path(), "hs_beat 2; sleep 5; echo end >&2")
        })
        .collect();
    for child in running {
        let output = child.wait_with_output().unwrap();
        // No more than two; the first one comes after a second.
        assert_eq!(String::from_utf8_lossy(&output.stderr), "..end\n");
    }
}

#[test]
fn signs_of_life_end_with_a_shell_that_is_killed() {
    let home = tempfile::tempdir().unwrap();
    for shell in every_shell() {
        let shell = as_shell(&shell, home.path());
        let mut child = run_common(
            &shell,
            home.path(),
            "hs_beat 15; echo >&2; while :; do :; done",
        );
        let mut stderr = child.stderr.take().unwrap();
        std::io::Read::read_exact(&mut stderr, &mut [0]).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let killed = Instant::now();
        let mut rest = Vec::new();
        // Ends when nobody holds it open any more.
        std::io::Read::read_to_end(&mut stderr, &mut rest).unwrap();
        assert!(killed.elapsed() < Duration::from_secs(5));
        assert!(rest.len() <= 1, "{rest:?}");
    }
}

/// A shell under the name that makes busybox one.
fn as_shell(program: &Path, folder: &Path) -> PathBuf {
    if !program.ends_with("busybox") {
        return program.to_owned();
    }
    let sh = folder.join("sh");
    let _ = symlink(program, &sh);
    sh
}

// --- file systems and folders of ours ----------------------------------------------------------------

/// A file system of its own, for as long as it is wanted.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    /// `None` where mounting is not permitted.
    pub(super) fn at(path: &Path) -> Option<Self> {
        let is_mounted = is_root()
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=8m", "tmpfs"])
                .arg(path)
                .status()
                .is_ok_and(|status| status.success());
        if !is_mounted {
            println!("mounting is not permitted: not tried");
            return None;
        }
        let mounted = Self(path.to_owned());
        own(path);
        set_mode(path, 0o755);
        Some(mounted)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn nothing_is_copied_into_a_file_system_inside_a_mapping() {
    in_every_way(|way| {
        for is_listed in [true, false] {
            let mut site = way.site();
            make_source_folder(&site, "sub");
            make_source_folder(&site, "sub/folder");
            write_source(&site, "sub/file", "old");
            fs::create_dir_all(dest(&site, "sub")).unwrap();
            for path in ["", "sub"] {
                own(&dest(&site, path));
                set_mode(&dest(&site, path), 0o755);
            }
            set_mode(&site.source(""), 0o755);
            if !is_listed {
                apply_all(&site);
            }
            let Some(_mounted) = Mounted::at(&dest(&site, "sub")) else {
                return;
            };
            site.host().write("d/sub/file", "old");
            site.host().mkdir("d/sub/folder");
            for (path, bits) in [("file", 0o644), ("folder", 0o755)] {
                set_mode(&dest(&site, "sub").join(path), bits);
            }
            if is_listed {
                apply_all(&site);
                assert_eq!(site.plan().listings, [Some(Listing::Same)]);
            }
            site.on_conflict = OnConflict::Overwrite;
            let large = vec![b'x'; 4_000_000];
            for path in ["sub/new", "sub/folder/new"] {
                fs::write(site.source(path), &large).unwrap();
            }
            write_source(&site, "sub/file", "new");

            let report = site.apply();
            let refusals: Vec<_> = report
                .refused
                .iter()
                .map(|refused| (refused.path.to_string(), refused.reason.as_str()))
                .collect();
            assert_eq!(refusals.len(), 3, "{:?} {refusals:?}", report.result);
            for (path, reason) in &refusals {
                assert!(
                    reason.contains("file system") || reason.contains("cross-device"),
                    "{path}: {reason}"
                );
            }
            assert_eq!(read(&site, "sub/file"), "old");
            assert!(!dest(&site, "sub/new").exists() && !dest(&site, "sub/folder/new").exists());
            assert_eq!(site.remaining().len(), 3);
        }
    });
}

#[test]
fn nothing_is_copied_into_a_file_system_that_appears_before_the_apply() {
    in_every_way(|way| {
        let site = way.site();
        make_source_folder(&site, "sub");
        apply_all(&site);
        write_source(&site, "sub/new", "x");
        symlink("new", site.source("sub/link")).unwrap();
        make_source_folder(&site, "sub/folder");
        write_source(&site, "sub/folder/new", "x");
        let plan = site.plan();
        let Some(_mounted) = Mounted::at(&dest(&site, "sub")) else {
            return;
        };
        let report = site.apply_plan(&plan).hosts.remove(0);
        // A link is as whole as it ever gets.
        let is_link = |path: &PathBuf| path.is_symlink();
        let files = fs::read_dir(dest(&site, "sub")).unwrap();
        let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
        assert!(files.iter().all(is_link), "{files:?}");
        let names: Vec<_> = refused(&report).into_iter().map(|(path, _)| path).collect();
        for name in ["sub/new", "sub/folder", "sub/folder/new"] {
            assert!(names.contains(&name.to_owned()), "{names:?}");
        }
    });
}

/// A folder on a file system other than that of the home folders.
pub(super) fn other_file_system(host: &LocalHost) -> Option<tempfile::TempDir> {
    let folder = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |path: &Path| fs::metadata(path).unwrap().dev();
    if device(folder.path()) == device(host.home()) {
        println!("/dev/shm and the home folders are one file system: not tried");
        return None;
    }
    set_mode(folder.path(), 0o755);
    own(folder.path());
    Some(folder)
}

#[test]
fn staging_folder_that_others_can_change_is_refused() {
    const OTHER: u32 = 12_345;
    // Owner (`None` for the login itself), permission bits, what is said.
    let cases = [
        (
            None,
            0o777,
            "can be written by others; take that permission away",
        ),
        (None, 0o770, "can be written by others"),
        (Some(OTHER), 0o777, "can be written by others"),
        (
            Some(OTHER),
            0o755,
            "belongs to another login; set staging_path to another place",
        ),
        (Some(OTHER), 0o1777, "can be written by others"),
        (Some(0), 0o777, "can be written by others"),
    ];
    in_every_way(|way| {
        let host = way.host();
        let Some(folder) = other_file_system(&host) else {
            return;
        };
        let dest = folder.path().join("d");
        let staging = folder.path().join(".hostsync");
        let site = LocalSite::with_host(host, dest.to_str().unwrap());
        write_source(&site, "file", "old");
        apply_all(&site);
        write_source(&site, "file", "new");
        // A plan would say some of this; a folder may change after it.
        let plan = site.plan();
        for (owner, bits, expected) in cases {
            if owner.is_some() && !is_root() {
                println!("not root: no folder of another user can be made");
                continue;
            }
            if let Some(uid) = owner {
                chown(&staging, Some(uid), None).unwrap();
            }
            set_mode(&staging, bits);

            let report = site.apply_plan(&plan).hosts.remove(0);
            let reason = failure(&report);
            assert!(reason.contains(expected), "{owner:?} {bits:o}: {reason}");
            assert!(reason.contains("/.hostsync "), "{reason}");
            assert_eq!(fs::read_to_string(dest.join("file")).unwrap(), "old");
            own(&staging);
        }
        set_mode(&staging, 0o700);
        apply_all(&site);
    });
}

#[test]
fn staging_folder_that_is_a_link_is_refused() {
    in_every_way(|way| {
        let host = way.host();
        let Some(folder) = other_file_system(&host) else {
            return;
        };
        let dest = folder.path().join("d");
        let site = LocalSite::with_host(host, dest.to_str().unwrap());
        write_source(&site, "file", "x");
        let elsewhere = folder.path().join("elsewhere");
        fs::create_dir(&elsewhere).unwrap();
        own(&elsewhere);
        symlink(&elsewhere, folder.path().join(".hostsync")).unwrap();
        let report = site.apply();
        let reason = failure(&report);
        assert!(reason.contains("is not a folder; move it away"), "{reason}");
        assert!(!dest.exists());
    });
}

#[test]
fn backups_are_kept_apart_when_an_older_state_came_back() {
    let copied = |from: &Path, to: &Path| {
        let status = Command::new("cp").arg("-a").args([from, to]).status();
        assert!(status.unwrap().success());
    };
    in_every_way(|way| {
        for (backups, expected) in [(1, &["third"][..]), (5, &["first", "second", "third"])] {
            let mut site = way.site();
            site.config.settings.backups = backups;
            write_source(&site, "file", "first");
            apply_all(&site);
            let state = site.config.settings.state_path.clone();
            let copy = state.with_extension("copy");
            copied(&state, &copy);
            for content in ["second", "third"] {
                write_source(&site, "file", content);
                apply_all(&site);
            }
            fs::remove_dir_all(&state).unwrap();
            copied(&copy, &state);

            site.on_conflict = OnConflict::Overwrite;
            write_source(&site, "file", "fourth");
            apply_all(&site);
            let mut texts: Vec<_> = fs::read_dir(site.base("a").join("backup"))
                .unwrap()
                .map(|entry| fs::read_to_string(entry.unwrap().path().join("0/file")).unwrap())
                .collect();
            texts.sort();
            assert_eq!(texts, expected);
        }
    });
}

#[test]
fn run_without_an_owner_is_removed_when_it_is_old() {
    in_every_way(|way| {
        let site = way.site();
        write_source(&site, "file", "old");
        apply_all(&site);
        let folder = |name: &str| {
            let path = site.base("a").join(name);
            fs::create_dir_all(path.join("up/0")).unwrap();
            for path in [path.join("up/0"), path.join("up"), path.clone()] {
                own(&path);
            }
            path
        };
        let (old, fresh) = (folder("run-old"), folder("run-fresh"));
        let touched = Command::new("touch")
            .args(["-d", "2 hours ago"])
            .arg(&old)
            .status();
        assert!(touched.unwrap().success());
        write_source(&site, "file", "new");
        apply_all(&site);
        assert!(!old.exists() && fresh.exists());
    });
}

#[test]
fn mirror_of_the_login_folder_leaves_what_is_ours() {
    in_every_way(|way| {
        let mut site = LocalSite::with_host(way.host(), "~");
        site.first_mapping().exact = Exact::Mirror;
        site.on_conflict = OnConflict::Overwrite;
        set_mode(&site.source(""), 0o755);
        set_mode(site.host().home(), 0o755);
        write_source(&site, "file", "x");
        apply_all(&site);
        site.host().write("theirs", "x");
        for refresh in [Refresh::Quick, Refresh::Full] {
            let plan = site.plan_with(refresh).plan;
            assert_eq!(paths(plan.hosts[0].changes()), ["theirs"], "{refresh:?}");
        }
        apply_all(&site);
        assert!(site.listing("a").exists());
        assert_eq!(site.remaining(), []);
    });
}

#[test]
fn new_entry_in_a_folder_that_hands_on_its_group_gets_it() {
    const GROUP: u32 = 12_345;
    if !is_root() {
        println!("not root: no folder of another group can be made");
        return;
    }
    in_every_way(|way| {
        for refresh in [Refresh::Quick, Refresh::Full] {
            let mut host = way.host();
            host.is_login_of_root = true;
            chown(host.home(), Some(0), Some(0)).unwrap();
            let mut site = LocalSite::with_host(host, "~/d");
            make_source_folder(&site, "sub");
            write_source(&site, "sub/old", "x");
            site.config.settings.modes = hostsync::config::Modes::All;
            set_mode(&site.source("sub"), 0o2755);
            apply_all(&site);
            chown(dest(&site, "sub"), None, Some(GROUP)).unwrap();
            set_mode(&dest(&site, "sub"), 0o2755);
            // The listing is made anew.
            write_source(&site, "sub/old", "y");
            apply_all(&site);

            write_source(&site, "sub/new", "x");
            set_mode(&site.source("sub/new"), 0o640);
            make_source_folder(&site, "sub/folder");
            write_source(&site, "sub/folder/new", "x");
            let plan = site.plan_with(refresh);
            assert_eq!(paths(plan.plan.hosts[0].changes()).len(), 3);
            let report = site.apply_plan(&plan).hosts.remove(0);
            assert_eq!(
                (&report.result, &report.refused[..]),
                (&HostResult::Done, &[][..])
            );
            for path in ["sub/new", "sub/folder", "sub/folder/new"] {
                let metadata = fs::metadata(dest(&site, path)).unwrap();
                assert_eq!(metadata.gid(), GROUP, "{path} {refresh:?}");
            }
            assert_eq!(mode_of(&dest(&site, "sub/new")), 0o640);
            assert_eq!(site.remaining(), []);
        }
    });
}

#[test]
fn plan_waits_for_a_commit_that_is_under_way() {
    in_every_way(|way| {
        let site = way.site();
        write_source(&site, "file", "x");
        apply_all(&site);
        let mut holder = Command::new("sleep").arg("1.5").spawn().unwrap();
        let line = fs::read_to_string(format!("/proc/{}/stat", holder.id())).unwrap();
        let start = line
            .rsplit(") ")
            .next()
            .unwrap()
            .split(' ')
            .nth(19)
            .unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        let lock = format!(".hostsync/lock-{}", boot.trim());
        site.host().mkdir(&lock);
        let owner = format!("{} {start} {boot}", holder.id());
        site.host().write(&format!("{lock}/owner"), &owner);
        let end = thread::spawn(move || holder.wait().unwrap());

        let started = Instant::now();
        assert_eq!(site.remaining(), []);
        assert!(started.elapsed() > Duration::from_secs(1));
        assert!(started.elapsed() < Duration::from_secs(8));
        end.join().unwrap();
        // Nobody holds it any more.
        let started = Instant::now();
        assert_eq!(site.remaining(), []);
        assert!(started.elapsed() < Duration::from_secs(1));
    });
}
