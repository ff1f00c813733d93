//! The scripts that run on hosts, under every shell and every set of tools that a host may have.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "what is not tried on this machine is said"
)]

mod cleanup;
mod fetch;
mod large;
mod leftovers;
mod restore;
mod steps;
mod unlock;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hostsync::apply::{HostReport, HostResult, OnConflict};
use hostsync::config::{Exact, Excludes};
use hostsync::model::{Kind, Meta, Node, RelPath, RemotePath};
use hostsync::plan::{Action, HostStatus};
use hostsync::remote::tasks::look::{self, HostLook, Listing, LookRequest};
use hostsync::remote::{Expected, Login, RemoteError};
use hostsync::transport::Session as _;
use sha2::{Digest as _, Sha256};

use hostsync_testkit::local::{Everything, LocalHost, Shell, Traffic, find, own, required};
use hostsync_testkit::local_site::LocalSite;

/// Runs a test under every shell, and says which one it was when it fails.
fn under_every_shell(test: impl Fn(Shell)) {
    for shell in Shell::ALL {
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(shell)));
        if let Err(panic) = result {
            println!("under {shell:?}:");
            std::panic::resume_unwind(panic);
        }
    }
}

fn remote(path: &[u8]) -> RemotePath {
    RemotePath::from_dest(path)
}

/// Asks about paths below `~/d`.
fn look(
    host: &Arc<LocalHost>,
    names: &[&[u8]],
    mirrors: &[usize],
    listing: Option<&str>,
) -> Result<HostLook, RemoteError> {
    let root = remote(b"~/d");
    let paths: Vec<RemotePath> = names
        .iter()
        .map(|name| root.join(&RelPath::new(*name).unwrap()))
        .collect();
    let question = LookRequest {
        base: &remote(b"~/.hostsync"),
        roots: std::slice::from_ref(&root),
        trusted: &[],
        mirrors,
        listing,
        paths: &paths,
        expected: Expected::default(),
        stall_timeout: Duration::from_mins(1),
    };
    look::look(&mut Login::new(Box::new(host.session())), &question)
}

fn node<'a>(scan: &'a HostLook, name: &[u8]) -> Option<&'a Node> {
    scan.seen
        .get(&[b"./d/", name].concat())
        .map(|seen| &seen.node)
}

fn sha256_of(node: Option<&Node>) -> Option<[u8; 32]> {
    match node {
        Some(Node::File { digest, .. }) => digest.sha256.map(|digest| *digest.as_bytes()),
        _ => None,
    }
}

fn host_with_folder(shell: Shell) -> Arc<LocalHost> {
    let host = LocalHost::new(shell);
    host.mkdir("d");
    Arc::new(host)
}

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().mode() & 0o7777
}

fn set_mode(path: &Path, bits: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(bits)).unwrap();
}

// --- looking -----------------------------------------------------------------------------------------

const ODD_NAMES: [&[u8]; 13] = [
    b"plain",
    b"two words",
    b" spaces at both ends ",
    b"-rf",
    b"--",
    b"it's \"quoted\"",
    b"$(touch x) `id` $HOME",
    b"*?[a]",
    b"back\\slash\\n",
    b"tab\there",
    b"\xff\xfe not utf-8",
    "größe €".as_bytes(),
    b"#;&|<>!",
];

#[test]
fn odd_names_are_found_with_their_content() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        for name in ODD_NAMES {
            fs::write(host.home().join("d").join(OsStr::from_bytes(name)), name).unwrap();
        }
        let scan = look(&host, &ODD_NAMES, &[], None).unwrap();
        for name in ODD_NAMES {
            let found = sha256_of(node(&scan, name));
            let text = String::from_utf8_lossy(name);
            assert_eq!(found, Some(Sha256::digest(name).into()), "`{text}`");
        }
        assert_eq!(scan.seen.len(), ODD_NAMES.len());
        assert_eq!(scan.listing, Listing::NotAsked);
        let mirrored = look(&host, &[], &[0], None).unwrap();
        assert_eq!(mirrored.seen.len(), ODD_NAMES.len() + 1);
    });
}

#[test]
fn links_are_found_with_their_targets_byte_for_byte() {
    let targets: [&[u8]; 5] = [
        b"nowhere",
        b"../up",
        b" a b ",
        b"\xff\\x'\"$(id)",
        b"ends with a newline\n",
    ];
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let mut names = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            let name = format!("link {index}");
            let path = host.home().join("d").join(&name);
            symlink(OsStr::from_bytes(target), path).unwrap();
            names.push(name);
        }
        let names: Vec<&[u8]> = names.iter().map(String::as_bytes).collect();
        let scan = look(&host, &names, &[], None).unwrap();
        for (name, target) in names.iter().zip(&targets) {
            let wanted = Node::Symlink {
                target: (*target).into(),
            };
            assert_eq!(node(&scan, name), Some(&wanted));
        }
    });
}

#[test]
fn missing_paths_are_no_error() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/file", "x");
        let scan = look(
            &host,
            &[b"missing", b"no/such/folder", b"file/below"],
            &[],
            None,
        )
        .unwrap();
        assert!(scan.seen.is_empty(), "{:?}", scan.seen);
        assert!(scan.places[0].inside.is_some());
        let nothing = look(&host, &[], &[], None).unwrap();
        assert!(nothing.seen.is_empty());
    });
}

#[test]
fn destination_that_does_not_exist_lies_where_its_nearest_folder_is() {
    under_every_shell(|shell| {
        let host = Arc::new(LocalHost::new(shell));
        let scan = look(&host, &[b"x"], &[0], None).unwrap();
        assert_eq!(scan.places[0].parent.path, b".");
        assert!(scan.places[0].parent.is_folder && scan.places[0].parent.is_writable);
        assert_eq!(scan.places[0].inside, None);
        assert_eq!(
            scan.places[0].parent.device,
            fs::metadata(host.home()).unwrap().dev()
        );
        assert!(scan.facts.has_scp && scan.facts.has_tar);
        assert_eq!(scan.facts.has_agent, shell == Shell::Perl);
        if shell == Shell::Busybox {
            assert_eq!(scan.facts.hash_tool, "sha256sum");
        }
    });
}

#[test]
fn file_that_may_not_be_read_has_no_digest() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/secret", "x");
        host.write("d/open", "x");
        set_mode(&host.home().join("d/secret"), 0);
        let scan = look(&host, &[b"secret", b"open"], &[], None).unwrap();
        match node(&scan, b"secret") {
            Some(Node::File {
                size_bytes: 1,
                digest,
                meta: Meta { mode },
            }) => {
                assert!(digest.is_unknown() && mode.bits() == 0);
            }
            other => panic!("{other:?}"),
        }
        assert!(sha256_of(node(&scan, b"open")).is_some());
    });
}

#[test]
fn folder_that_may_not_be_entered_is_an_error_and_nothing_is_taken_for_missing() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.mkdir("d/closed");
        set_mode(&host.home().join("d/closed"), 0);
        let error = look(&host, &[b"closed/x"], &[], None).unwrap_err();
        assert!(matches!(&error, RemoteError::NotAllowed { .. }), "{error}");
        assert!(error.to_string().contains("closed/x"), "{error}");
    });
}

#[test]
fn mirrored_folder_that_may_not_be_listed_is_no_empty_folder() {
    under_every_shell(|shell| {
        for bits in [0, 0o300, 0o400] {
            let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
            site.first_mapping().exact = Exact::Mirror;
            fs::create_dir(site.source("closed")).unwrap();
            fs::write(site.source("closed/x"), "x").unwrap();
            apply_all(&site);
            fs::remove_file(site.listing("a")).unwrap();
            let closed = site.host().home().join("d/closed");
            set_mode(&closed, bits);
            let plan = site.plan().plan;
            let error = plan.hosts[0].status.error().unwrap();
            assert!(error.to_string().contains("d/closed"), "{error}");
            assert_eq!(plan.hosts[0].changes(), []);

            site.first_mapping().exclude = Excludes::new(vec!["closed".to_owned()]).unwrap();
            if bits != 0o400 {
                assert_eq!(site.plan().plan.hosts[0].status.error(), None);
            }
        }
    });
}

/// Makes the listing that a commit would keep; its digest and its name.
fn keep_listing(host: &LocalHost, shell: Shell, names: [&str; 4]) -> (String, &'static str) {
    host.mkdir(".hostsync");
    if shell == Shell::Perl {
        let program = r#"my @paths = map { "./d/$_\0" } @ARGV;
            my $all = join q(), @paths;
            print "1 sha256 openssl\n", scalar @paths, " ", length $all, "\n$all";
            chop @paths;
            print pack 'd8', (Time::HiRes::lstat($_))[2, 7, 9, 10, 1, 4, 5, 0] for @paths;"#;
        let output = Command::new("perl")
            .args(["-MTime::HiRes", "-e", program])
            .args(names)
            .current_dir(host.home())
            .output();
        let listing = output.unwrap().stdout;
        fs::write(host.home().join(".hostsync/listing.agent"), &listing).unwrap();
        let digest = hostsync::model::Sha256::from_bytes(Sha256::digest(&listing).into());
        return (format!("sha256:{digest}"), "listing.agent");
    }
    let output = Command::new("stat")
        .args(["-c", "%f %s %y %z %i %u %g %d %n", "--"])
        .args(names.iter().map(|name| format!("./d/{name}")))
        .current_dir(host.home())
        .envs([("TZ", "UTC0"), ("LC_ALL", "C")])
        .output()
        .unwrap();
    let listing = String::from_utf8(output.stdout).unwrap();
    assert_eq!(listing.lines().count(), names.len());
    host.write(".hostsync/listing", &listing);
    let digest = hostsync::model::Sha256::from_bytes(Sha256::digest(&listing).into());
    (format!("sha256:{digest}"), "listing")
}

#[test]
fn listing_says_what_has_moved_and_only_that() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        for name in ["a", "b", "c d", "e"] {
            host.write(&format!("d/{name}"), "old");
        }
        let (digest, name) = keep_listing(&host, shell, ["a", "b", "c d", "e"]);

        let same = look(&host, &[], &[], Some(&digest)).unwrap();
        assert_eq!(
            (same.listing, same.seen.len(), same.gone.len()),
            (Listing::Same, 0, 0)
        );

        // Asked about besides.
        host.write("d/new", "new");
        let same = look(&host, &[b"new", b"newer"], &[], Some(&digest)).unwrap();
        assert_eq!((same.listing, same.seen.len()), (Listing::Same, 1));

        fs::remove_file(host.home().join("d/b")).unwrap();
        host.write("d/c d", "changed");
        let moved = look(&host, &[], &[], Some(&digest)).unwrap();
        assert_eq!(moved.listing, Listing::Moved);
        assert_eq!(moved.gone.len(), 2, "{:?}", moved.gone);
        assert!(moved.gone.contains(&b"./d/b"[..]) && moved.gone.contains(&b"./d/c d"[..]));
        assert_eq!(moved.seen.len(), 1);
        assert_eq!(
            sha256_of(node(&moved, b"c d")),
            Some(Sha256::digest(b"changed").into())
        );

        let other = look(&host, &[b"a"], &[], Some("sha256:00")).unwrap();
        assert_eq!((other.listing, other.seen.len()), (Listing::Lost, 0));
        fs::remove_file(host.home().join(".hostsync").join(name)).unwrap();
        let lost = look(&host, &[b"a"], &[], Some(&digest)).unwrap();
        assert_eq!(lost.listing, Listing::Lost);
    });
}

#[test]
fn looking_writes_nothing() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/a", "x");
        set_mode(host.home(), 0o555);
        look(&host, &[b"a"], &[0], None).unwrap();
        set_mode(host.home(), 0o755);
        assert_eq!(fs::read_dir(host.home()).unwrap().count(), 1);
    });
}

// --- how scripts arrive ------------------------------------------------------------------------------

#[test]
fn script_may_arrive_in_small_pieces() {
    under_every_shell(|shell| {
        for piece_bytes in [1, 100] {
            let mut host = LocalHost::new(shell);
            host.piece_bytes = piece_bytes;
            host.mkdir("d");
            host.write("d/a", "x");
            let scan = look(&Arc::new(host), &[b"a"], &[], None).unwrap();
            assert!(node(&scan, b"a").is_some());
        }
    });
}

#[test]
fn connection_that_ends_within_the_script_runs_none_of_it() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let script =
            hostsync::remote::Script::new(hostsync::remote::Task::Commit, Duration::from_mins(1));
        let mut input = script.to_bytes();
        input.pop();
        let mut io = Everything {
            input,
            ..Everything::default()
        };
        let outcome = host.session().exec(&script.command(), &mut io).unwrap();
        // The agent leaves nothing to do for the shell.
        let status = if shell == Shell::Perl { 0 } else { 97 };
        assert_eq!(outcome.exit_status, Some(status));
        assert_eq!(io.output, b"");
    });
}

#[test]
fn what_rc_files_print_is_skipped() {
    under_every_shell(|shell| {
        let mut host = LocalHost::new(shell);
        host.noise = "Welcome!\\nHOSTSYNC 00 end ok\\nno newline at the end";
        host.mkdir("d");
        host.write("d/a", "x");
        let scan = look(&Arc::new(host), &[b"a"], &[], None).unwrap();
        assert_eq!(scan.seen.len(), 1);
    });
}

#[test]
fn upload_survives_what_rc_files_print() {
    let mut host = LocalHost::new(Shell::Dash);
    host.noise = "Welcome!\\n\\001\\002 to this host\\n";
    let site = LocalSite::with_host(host, "~/d");
    fs::write(site.source("a"), "x").unwrap();
    assert_eq!(site.apply().result, HostResult::Done);
    assert_eq!(site.remaining(), []);
}

#[test]
fn command_line_works_in_every_login_shell() {
    for (name, is_required) in [
        ("dash", true),
        ("bash", true),
        ("tcsh", false),
        ("fish", false),
    ] {
        let login_shell = if is_required {
            Some(required(name, name))
        } else {
            find(name)
        };
        let Some(login_shell) = login_shell else {
            println!("{name} is not installed: not tried as a login shell");
            continue;
        };
        let mut host = LocalHost::new(Shell::Dash);
        host.login_shell = Some(login_shell);
        let site = LocalSite::with_host(host, "~/d");
        fs::write(site.source("it's"), "x").unwrap();
        let report = site.apply();
        assert_eq!(report.result, HostResult::Done, "{name}");
        assert_eq!(site.remaining(), [], "{name}");
    }
}

#[test]
fn login_that_runs_nothing_is_told_apart() {
    let mut host = LocalHost::new(Shell::Dash);
    let nologin = host.home().join("nologin");
    fs::write(
        &nologin,
        "#!/bin/sh\necho 'This account is not available.'\nexit 1\n",
    )
    .unwrap();
    set_mode(&nologin, 0o755);
    host.login_shell = Some(nologin);
    let error = look(&Arc::new(host), &[], &[], None).unwrap_err();
    assert!(
        error.to_string().contains("This account is not available."),
        "{error}"
    );
}

#[test]
fn shellcheck_has_nothing_to_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/remote");
    let scripts: Vec<_> = walkdir::WalkDir::new(folder)
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.extension() == Some("sh".as_ref()))
        .collect();
    assert!(scripts.len() >= 4, "{scripts:?}");
    let output = Command::new(required("shellcheck", "shellcheck"))
        .args(&scripts)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

// --- a whole apply -----------------------------------------------------------------------------------

fn write_tree(site: &LocalSite) {
    for folder in ["sub", "sub/deep", "empty"] {
        fs::create_dir(site.source(folder)).unwrap();
        set_mode(&site.source(folder), 0o755);
    }
    set_mode(&site.source(""), 0o755);
    for (name, bits) in [
        ("a", 0o644),
        ("run", 0o755),
        ("sub/b", 0o600),
        ("sub/deep/c d", 0o644),
    ] {
        fs::write(site.source(name), name).unwrap();
        set_mode(&site.source(name), bits);
    }
    symlink("sub/b", site.source("link")).unwrap();
}

fn read(site: &LocalSite, path: &str) -> String {
    fs::read_to_string(site.host().home().join("d").join(path)).unwrap()
}

fn exists(site: &LocalSite, path: &str) -> bool {
    fs::symlink_metadata(site.host().home().join("d").join(path)).is_ok()
}

/// Applies, expects that everything was done, and that there is nothing left to do.
fn apply_all(site: &LocalSite) -> usize {
    let report = site.apply();
    assert_eq!(
        (&report.result, &report.refused[..]),
        (&HostResult::Done, &[][..])
    );
    assert_eq!(site.remaining(), []);
    report.changed
}

/// What is left of a run when it has ended: nothing but the listing and the backups.
fn assert_is_tidy(site: &LocalSite) {
    for entry in fs::read_dir(site.host().home().join(".hostsync")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            !name.as_encoded_bytes().starts_with(b"lock"),
            "{} was left",
            name.display()
        );
    }
    for entry in fs::read_dir(site.base("a")).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(
            site.listing("a").ends_with(&name) || name == "backup",
            "{} was left",
            name.display()
        );
    }
}

#[test]
fn new_tree_arrives_as_it_is() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/x/y/d");
        write_tree(&site);
        assert_eq!(apply_all(&site), 9);
        let dest = site.host().home().join("x/y/d");
        assert_eq!(
            fs::read_to_string(dest.join("sub/deep/c d")).unwrap(),
            "sub/deep/c d"
        );
        assert_eq!(
            fs::read_link(dest.join("link")).unwrap(),
            Path::new("sub/b")
        );
        let modes = ["run", "sub/b", "sub", "empty"].map(|name| mode_of(&dest.join(name)));
        assert_eq!(modes, [0o755, 0o600, 0o755, 0o755]);
        assert_eq!(mode_of(&site.host().home().join("x/y")), 0o755);
        let mtime = |path: &Path| fs::metadata(path).unwrap().mtime();
        assert_eq!(mtime(&dest.join("a")), mtime(&site.source("a")));
        assert_is_tidy(&site);
    });
}

#[test]
fn odd_names_arrive() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/it's $(x) \\n d");
        for name in ODD_NAMES {
            let path = site.source("").join(OsStr::from_bytes(name));
            fs::create_dir(path.with_added_extension("d")).unwrap();
            fs::write(path, "x").unwrap();
        }
        apply_all(&site);
        for name in ODD_NAMES {
            fs::write(site.source("").join(OsStr::from_bytes(name)), "changed").unwrap();
        }
        assert_eq!(apply_all(&site), ODD_NAMES.len());
    });
}

#[test]
fn changes_of_every_sort_are_made_at_once() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.first_mapping().exact = Exact::Orphans;
        write_tree(&site);
        apply_all(&site);
        // Content, permission bits, a file that becomes a folder and one that becomes a link, a
        // folder that becomes a file, a link that becomes a file, deletes and creates.
        fs::write(site.source("a"), "new a").unwrap();
        set_mode(&site.source("run"), 0o700);
        fs::remove_dir_all(site.source("sub/deep")).unwrap();
        fs::write(site.source("sub/deep"), "a file now").unwrap();
        fs::remove_file(site.source("sub/b")).unwrap();
        fs::create_dir(site.source("sub/b")).unwrap();
        fs::write(site.source("sub/b/in it"), "x").unwrap();
        fs::remove_file(site.source("link")).unwrap();
        fs::write(site.source("link"), "no link").unwrap();
        fs::remove_dir(site.source("empty")).unwrap();
        fs::create_dir(site.source("more")).unwrap();
        fs::write(site.source("more/x"), "x").unwrap();
        symlink("more", site.source("to more")).unwrap();
        apply_all(&site);
        assert_eq!(read(&site, "a"), "new a");
        assert_eq!(read(&site, "sub/deep"), "a file now");
        assert_eq!(read(&site, "sub/b/in it"), "x");
        assert_eq!(read(&site, "link"), "no link");
        assert_eq!(read(&site, "to more/x"), "x");
        assert_eq!(mode_of(&site.host().home().join("d/run")), 0o700);
        assert!(!exists(&site, "empty") && exists(&site, "more"));
        assert_is_tidy(&site);
    });
}

#[test]
fn what_is_replaced_is_in_the_backups() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.first_mapping().exact = Exact::Orphans;
        site.config.settings.backups = 1;
        write_tree(&site);
        apply_all(&site);
        fs::write(site.source("a"), "second").unwrap();
        fs::remove_file(site.source("sub/b")).unwrap();
        apply_all(&site);
        let backup = site.base("a").join("backup");
        assert_eq!(mode_of(&backup), 0o700);
        assert_eq!(fs::read_to_string(backup.join("2/0/a")).unwrap(), "a");
        assert_eq!(
            fs::read_to_string(backup.join("2/0/sub/b")).unwrap(),
            "sub/b"
        );
        fs::write(site.source("a"), "third").unwrap();
        apply_all(&site);
        assert_eq!(fs::read_to_string(backup.join("3/0/a")).unwrap(), "second");
        assert!(!backup.join("2").exists());
    });
}

#[test]
fn mirror_deletes_what_the_source_does_not_have() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.first_mapping().exact = Exact::Mirror;
        site.on_conflict = OnConflict::Overwrite;
        fs::write(site.source("a"), "x").unwrap();
        apply_all(&site);
        site.host().mkdir("d/theirs");
        site.host().mkdir("d/theirs/deep");
        site.host().write("d/theirs/deep/x\\y", "x");
        symlink("x", site.host().home().join("d/theirs/l")).unwrap();
        assert_eq!(apply_all(&site), 4);
        assert!(!exists(&site, "theirs") && exists(&site, "a"));
    });
}

#[test]
fn folders_that_their_owner_may_not_write_are_changed_and_closed_again() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.first_mapping().exact = Exact::Orphans;
        write_tree(&site);
        fs::write(site.source("sub/old"), "x").unwrap();
        set_mode(&site.source("sub/deep"), 0o555);
        set_mode(&site.source("sub"), 0o555);
        apply_all(&site);
        let dest = site.host().home().join("d");
        assert_eq!(
            [mode_of(&dest.join("sub")), mode_of(&dest.join("sub/deep"))],
            [0o555; 2]
        );
        fs::write(site.source("sub/b"), "new b").unwrap();
        fs::write(site.source("sub/deep/new"), "x").unwrap();
        fs::remove_file(site.source("sub/old")).unwrap();
        apply_all(&site);
        assert_eq!(read(&site, "sub/b"), "new b");
        assert!(exists(&site, "sub/deep/new") && !exists(&site, "sub/old"));
        assert_eq!(
            [mode_of(&dest.join("sub")), mode_of(&dest.join("sub/deep"))],
            [0o555; 2]
        );
    });
}

#[test]
fn what_is_right_already_is_adopted_and_drift_is_a_conflict() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.host().mkdir("d");
        set_mode(&site.host().home().join("d"), 0o755);
        set_mode(&site.source(""), 0o755);
        for name in ["right", "wrong"] {
            fs::write(site.source(name), name).unwrap();
            set_mode(&site.source(name), 0o644);
            site.host().write(&format!("d/{name}"), "right");
            set_mode(&site.host().home().join("d").join(name), 0o644);
        }
        let report = site.apply();
        assert_eq!(report.result, HostResult::Conflicts(1));
        assert_eq!(read(&site, "wrong"), "right");
        site.on_conflict = OnConflict::Skip;
        let report = site.apply();
        assert_eq!((report.adopted, report.changed, report.skipped), (2, 0, 1));
        site.on_conflict = OnConflict::Overwrite;
        assert_eq!(apply_all(&site), 1);
        assert_eq!(read(&site, "wrong"), "wrong");
    });
}

// --- what can go wrong -------------------------------------------------------------------------------

/// What was refused, each with whether it had moved.
fn refused(report: &HostReport) -> Vec<(String, bool)> {
    report
        .refused
        .iter()
        .map(|refused| (refused.path.to_string(), refused.moved))
        .collect()
}

#[test]
fn entry_that_moves_before_the_commit_is_left_and_the_rest_is_done() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.first_mapping().exact = Exact::Orphans;
        let names = ["changed", "deleted", "retyped", "same", "orphan", "mode"];
        for name in names {
            fs::write(site.source(name), "old").unwrap();
            set_mode(&site.source(name), 0o644);
        }
        apply_all(&site);
        for name in &names[..4] {
            fs::write(site.source(name), "new").unwrap();
        }
        fs::remove_file(site.source("orphan")).unwrap();
        set_mode(&site.source("mode"), 0o600);
        fs::write(site.source("appeared"), "new").unwrap();
        fs::create_dir(site.source("folder")).unwrap();
        fs::write(site.source("folder/x"), "new").unwrap();

        let prepared = site.plan();
        let dest = site.host().home().join("d");
        site.host().write("d/changed", "theirs");
        fs::remove_file(dest.join("deleted")).unwrap();
        fs::remove_file(dest.join("retyped")).unwrap();
        site.host().mkdir("d/retyped");
        site.host().write("d/orphan", "theirs");
        set_mode(&dest.join("mode"), 0o640);
        site.host().write("d/appeared", "theirs");
        site.host().mkdir("d/folder");
        site.host().write("d/folder/theirs", "theirs");

        let report = site.apply_plan(&prepared).hosts.remove(0);
        assert_eq!(report.result, HostResult::Done);
        assert_eq!(
            refused(&report),
            [
                "appeared", "changed", "deleted", "folder", "folder/x", "mode", "orphan", "retyped"
            ]
            .map(|name| (name.to_owned(), true))
        );
        assert_eq!(report.changed, 1);
        assert_eq!(read(&site, "same"), "new");
        for name in ["changed", "appeared", "orphan", "folder/theirs"] {
            assert_eq!(read(&site, name), "theirs", "{name}");
        }
        assert!(!exists(&site, "deleted") && !exists(&site, "folder/x"));
        assert_is_tidy(&site);
        // The next plan sees them as what they are.
        let conflicts = site
            .remaining()
            .into_iter()
            .filter(|change| change.conflict)
            .count();
        assert_eq!(conflicts, 3);
    });
}

#[test]
fn damaged_upload_changes_nothing_and_is_named() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        write_tree(&site);
        apply_all(&site);
        fs::write(site.source("a"), "new a").unwrap();
        fs::write(site.source("sub/b"), "new b").unwrap();
        let base = site.base("a");
        site.host().before_exec(move |commands| {
            if commands == 1 {
                let run = fs::read_dir(&base)
                    .unwrap()
                    .map(|entry| entry.unwrap().path())
                    .find(|path| path.file_name().unwrap().as_bytes().starts_with(b"run-"))
                    .unwrap();
                fs::write(run.join("up/0/sub/b"), "new B").unwrap();
            }
        });
        let report = site.apply();
        let HostResult::Failed(reason) = &report.result else {
            panic!("{:?}", report.result)
        };
        assert!(
            reason
                .to_string()
                .contains("what arrived is not what was sent (~/d/sub/b)"),
            "{reason}"
        );
        assert_eq!(
            (read(&site, "a"), read(&site, "sub/b")),
            ("a".to_owned(), "sub/b".to_owned())
        );
        assert_is_tidy(&site);
        site.host().before_exec(|_| {});
        assert_eq!(apply_all(&site), 2);
    });
}

#[test]
fn file_that_nobody_sent_is_not_moved_into_place() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        write_tree(&site);
        let home = site.host().home().to_owned();
        site.host().before_exec(move |commands| {
            if commands == 1 {
                let found = Command::new("find")
                    .arg(&home)
                    .args(["-path", "*/up/0/sub"])
                    .output()
                    .unwrap()
                    .stdout;
                let folder = String::from_utf8(found).unwrap();
                fs::write(Path::new(folder.trim()).join("intruder"), "x").unwrap();
            }
        });
        let report = site.apply();
        assert!(
            matches!(report.result, HostResult::Failed(_)),
            "{:?}",
            report.result
        );
        assert!(!exists(&site, ""));
    });
}

/// Has a process hold the lock of a host, as a commit would.
fn lock_as(site: &LocalSite, pid: u32, start: &str) {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let lock = site
        .host()
        .home()
        .join(".hostsync")
        .join(format!("lock-{}", boot.trim()));
    fs::create_dir(&lock).unwrap();
    fs::write(lock.join("owner"), format!("{pid} {start} {boot}")).unwrap();
    own(&lock);
    own(&lock.join("owner"));
}

fn start_of(pid: u32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(19)
        .unwrap()
        .to_owned()
}

#[test]
fn lock_of_a_live_process_is_waited_for_and_then_named() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        fs::write(site.source("a"), "old").unwrap();
        apply_all(&site);
        fs::write(site.source("a"), "new").unwrap();
        let plan = site.plan();
        let mut holder = Command::new("sleep").arg("600").spawn().unwrap();
        lock_as(&site, holder.id(), &start_of(holder.id()));

        site.wait_for_host = Duration::from_secs(1);
        let started = Instant::now();
        let report = site.apply_plan(&plan).hosts.remove(0);
        assert!(started.elapsed() >= Duration::from_secs(1));
        let HostResult::Failed(reason) = &report.result else {
            panic!("{:?}", report.result)
        };
        assert!(
            reason
                .to_string()
                .contains(&format!("process {} there", holder.id())),
            "{reason}"
        );
        assert_eq!(read(&site, "a"), "old");

        holder.kill().unwrap();
        holder.wait().unwrap();
        apply_all(&site);
        assert_eq!(read(&site, "a"), "new");
        assert_is_tidy(&site);
    });
}

#[test]
fn lock_of_another_process_with_the_same_number_is_replaced() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        fs::write(site.source("a"), "old").unwrap();
        apply_all(&site);
        fs::write(site.source("a"), "new").unwrap();
        lock_as(&site, std::process::id(), "1");
        apply_all(&site);
        assert_is_tidy(&site);
    });
}

#[test]
fn hosts_that_share_a_home_do_not_disturb_each_other() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        let second = LocalHost::new(shell).with_home_of(site.host());
        site.add("b", Some(second), "~/e");
        // They commit one after the other.
        site.wait_for_host = Duration::from_secs(30);
        write_tree(&site);
        for content in ["first", "second"] {
            fs::write(site.source("a"), content).unwrap();
            let report = site.apply_plan(&site.plan());
            for host in &report.hosts {
                assert_eq!((&host.result, host.refused.len()), (&HostResult::Done, 0));
            }
            let again = site.plan();
            assert!(
                again
                    .plan
                    .hosts
                    .iter()
                    .all(|host| host.change_set.is_none())
            );
            for dest in ["d/a", "e/a"] {
                assert_eq!(
                    fs::read_to_string(site.host().home().join(dest)).unwrap(),
                    content
                );
            }
        }
        assert_eq!(listings(&site), [Listing::Same, Listing::Same]);
    });
}

fn listings(site: &LocalSite) -> Vec<Listing> {
    let listings = site.plan().listings;
    listings.into_iter().map(Option::unwrap).collect()
}

#[test]
fn host_that_is_as_it_was_left_answers_with_its_listing() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        write_tree(&site);
        apply_all(&site);
        assert_eq!(listings(&site), [Listing::Same]);
        fs::write(site.source("a"), "new").unwrap();
        apply_all(&site);
        assert_eq!(listings(&site), [Listing::Same]);
        site.host().write("d/sub/deep/c d", "theirs");
        let changes = site.remaining();
        assert_eq!(changes.len(), 1);
        assert!(changes[0].drift && changes[0].conflict);
    });
}

/// A folder on a file system other than that of the home folders.
fn other_file_system(host: &LocalHost) -> Option<tempfile::TempDir> {
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
fn folder_on_another_file_system_is_staged_beside_it() {
    under_every_shell(|shell| {
        let host = LocalHost::new(shell);
        let Some(folder) = other_file_system(&host) else {
            return;
        };
        let dest = folder.path().join("d");
        let site = LocalSite::with_host(host, dest.to_str().unwrap());
        write_tree(&site);
        assert_eq!(apply_all(&site), 9);
        fs::write(site.source("a"), "new").unwrap();
        assert_eq!(apply_all(&site), 1);
        assert_eq!(fs::read_to_string(dest.join("a")).unwrap(), "new");
        let names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert!(
            names.iter().all(|name| name == "d" || name == ".hostsync"),
            "{names:?}"
        );
        assert_eq!(mode_of(&folder.path().join(".hostsync")), 0o700);
    });
}

#[test]
fn file_on_another_file_system_needs_a_staging_path() {
    let host = LocalHost::new(Shell::Dash);
    let Some(folder) = other_file_system(&host) else {
        return;
    };
    let dest = folder.path().join("a");
    let mut site = LocalSite::with_host(host, "~/unused");
    fs::write(site.source("a"), "x").unwrap();
    *site.first_mapping() = site.mapping("src/a", dest.to_str().unwrap());
    let report = site.apply();
    let HostResult::Failed(reason) = &report.result else {
        panic!("{:?}", report.result)
    };
    assert!(reason.to_string().contains("`staging_path`"), "{reason}");
    assert!(!dest.exists());

    let staging = folder.path().join("staging");
    site.config.settings.staging_path = Some(remote(staging.as_os_str().as_bytes()));
    assert_eq!(apply_all(&site), 1);
    assert_eq!(fs::read_to_string(dest).unwrap(), "x");
}

#[test]
fn folder_that_may_not_be_written_is_said_by_the_plan() {
    under_every_shell(|shell| {
        let mut site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        site.config.hosts[0].mappings = vec![site.mapping("src", "~/locked/d")];
        let locked = site.host().home().join("locked");
        fs::create_dir(&locked).unwrap();
        set_mode(&locked, 0o555);
        fs::write(site.source("a"), "x").unwrap();
        let plan = site.plan().plan;
        let HostStatus::Failed(reason) = &plan.hosts[0].status else {
            panic!("{:?}", plan.hosts[0].status)
        };
        assert!(
            reason.to_string().contains("may not write to ./locked"),
            "{reason}"
        );
        assert!(plan.hosts[0].change_set.is_none());
    });
}

#[test]
fn unreachable_host_gets_no_changes_and_costs_the_others_nothing() {
    let mut site = LocalSite::with_host(LocalHost::new(Shell::Dash), "~/d");
    site.add("down", None, "~/d");
    site.config.hosts[1].mappings[0].exact = Exact::Mirror;
    fs::write(site.source("a"), "x").unwrap();
    let prepared = site.plan();
    let summary = prepared.plan.summary();
    assert_eq!(
        (summary.hosts, summary.unreachable, summary.delete),
        (2, 1, 0)
    );
    assert!(prepared.plan.hosts[1].change_set.is_none() && prepared.hosts[1].ready().is_none());
    assert!(!prepared.plan.is_complete());
    let report = site.apply_plan(&prepared);
    assert_eq!(report.hosts[0].result, HostResult::Done);
    assert!(matches!(report.hosts[1].result, HostResult::Unreachable(_)));
}

#[test]
fn device_in_the_way_is_seen_as_neither_file_nor_folder() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let fifo = host.home().join("d/fifo");
        let made = Command::new("mkfifo").arg(&fifo).status().unwrap();
        assert!(made.success());
        let scan = look(&host, &[b"fifo"], &[0], None).unwrap();
        assert_eq!(node(&scan, b"fifo").map(Node::kind), Some(Kind::Other));
    });
}

#[test]
fn actions_of_a_first_plan_are_creates() {
    let site = LocalSite::with_host(LocalHost::new(Shell::Dash), "~/d");
    write_tree(&site);
    assert!(
        site.remaining()
            .iter()
            .all(|change| change.action == Action::Create)
    );
}

// --- round trips -------------------------------------------------------------------------------------

/// What a first apply of so many files takes, and one of half of them changed, and one of no change.
fn traffic_of(shell: Shell, files: usize) -> [Traffic; 3] {
    let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
    let names: Vec<String> = (0..files).map(|n| format!("d{}/f{n}", n % 3)).collect();
    for folder in ["d0", "d1", "d2"] {
        fs::create_dir(site.source(folder)).unwrap();
    }
    for name in &names {
        fs::write(site.source(name), "1st.").unwrap();
    }
    let first = site.apply();
    assert_eq!((first.result, first.changed), (HostResult::Done, files + 4));
    let first = site.host().take_traffic();
    for name in &names[..files / 2] {
        fs::write(site.source(name), "2nd.").unwrap();
    }
    let second = site.apply();
    assert_eq!(
        (second.result, second.changed),
        (HostResult::Done, files / 2)
    );
    let second = site.host().take_traffic();
    assert_eq!(site.apply().result, HostResult::Unchanged);
    [first, second, site.host().take_traffic()]
}

#[test]
fn round_trips_do_not_depend_on_the_number_of_files() {
    under_every_shell(|shell| {
        let few = traffic_of(shell, 4);
        assert_eq!(few, traffic_of(shell, 120));
        for traffic in few {
            assert_eq!(traffic.turns, 0, "{traffic:?}");
        }
        println!("{shell:?}: {few:?}");
    });
}

#[test]
fn what_has_arrived_is_hashed_once_by_few_processes() {
    let site = LocalSite::with_host(LocalHost::new(Shell::Perl), "~/d");
    site.host().replace_program(
        "openssl",
        r#"echo "$#" >>"$HOME/hashed"; exec /usr/bin/openssl "$@""#,
    );
    let files = 600;
    for number in 0..files {
        fs::write(site.source(&format!("f{number}")), vec![7; 50_000]).unwrap();
    }
    let report = site.apply();
    assert_eq!(report.result, HostResult::Done);
    let hashed = fs::read_to_string(site.host().home().join("hashed")).unwrap();
    // Three arguments are no files.
    let hashed: Vec<usize> = hashed.lines().map(|n| n.parse().unwrap()).collect();
    let of_files: usize = hashed.iter().map(|arguments| arguments - 3).sum();
    assert_eq!(of_files, files, "{hashed:?}");
    assert!((3..12).contains(&hashed.len()), "{hashed:?}");
}

#[test]
fn digest_of_what_has_arrived_is_compared_too() {
    let site = LocalSite::with_host(LocalHost::new(Shell::Perl), "~/d");
    // Wrong for one file, whoever asks.
    site.host().replace_program(
        "openssl",
        r#"/usr/bin/openssl "$@" | sed '/f17$/s/^..../0000/'"#,
    );
    for number in 0..400 {
        fs::write(site.source(&format!("f{number}")), vec![7; 50_000]).unwrap();
    }
    let HostResult::Failed(error) = site.apply().result else {
        panic!("it was taken");
    };
    assert!(error.to_string().contains("f17"), "{error}");
    assert!(!site.host().home().join("d").exists());
}

#[test]
fn files_that_their_owner_may_not_read_arrive() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        for (name, mode) in [("none", 0), ("write", 0o200), ("group", 0o040)] {
            fs::write(site.source(name), "x").unwrap();
            set_mode(&site.source(name), mode);
        }
        if fs::read(site.source("none")).is_err() {
            println!("not root: no source can be read that its owner may not");
            return;
        }
        let report = site.apply();
        assert_eq!((report.result, report.changed), (HostResult::Done, 4));
        for (name, mode) in [("none", 0), ("write", 0o200), ("group", 0o040)] {
            let there = fs::metadata(site.host().home().join("d").join(name)).unwrap();
            assert_eq!(there.mode() & 0o7777, mode, "{name}");
        }
    });
}

#[test]
fn no_listing_is_kept_where_times_are_whole_seconds() {
    let site = LocalSite::with_host(LocalHost::new(Shell::Perl), "~/d");
    fs::write(site.source("a"), "1st.").unwrap();
    site.host().load_in_perl(
        "package Meddler; use Time::HiRes; no warnings;
        my $lstat = \\&Time::HiRes::lstat;
        *Time::HiRes::lstat = sub {
            my @is = $lstat->(@_);
            return @is ? (@is[0 .. 7], map({ int } @is[8 .. 10]), @is[11, 12]) : ();
        };
        1;",
    );
    assert_eq!(site.apply().result, HostResult::Done);
    assert!(!site.listing("a").exists());
    site.host().write("d/a", "2nd.");
    let prepared = site.plan();
    assert_eq!(prepared.plan.hosts[0].changes().len(), 1);
}

#[test]
fn what_a_dead_run_left_is_removed_where_nothing_is_to_be_done() {
    under_every_shell(|shell| {
        let site = LocalSite::with_host(LocalHost::new(shell), "~/d");
        fs::write(site.source("a"), "x").unwrap();
        assert_eq!(site.apply().result, HostResult::Done);
        let left = site.base("a").join("run-dead");
        fs::create_dir_all(left.join("large")).unwrap();
        // No boot has this name.
        fs::write(left.join("owner"), "1 1 before\n").unwrap();
        for path in [left.clone(), left.join("large"), left.join("owner")] {
            own(&path);
        }
        assert_eq!(site.apply().result, HostResult::Unchanged);
        assert!(!left.exists(), "{shell:?}");
        assert_is_tidy(&site);
    });
}
