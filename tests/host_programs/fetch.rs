//! Reading files of a host, under every shell and every set of tools that a host may have.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hostsync::apply::OnConflict;
use hostsync::model::RelPath;
use hostsync::plan::{Diff, Refresh};
use hostsync::remote::RemoteError;
use hostsync::remote::tasks::fetch::{Fetched, Wanted, fetch};
use hostsync::remote::{Login, Script, Task};

use super::{ODD_NAMES, host_with_folder, look, remote, set_mode, under_every_shell};
use hostsync_testkit::local::{LocalHost, Shell, own};
use hostsync_testkit::local_site::LocalSite;

/// Reads files in `~/d`, of which these sizes are known.
fn read(host: &Arc<LocalHost>, wanted: &[(&[u8], u64)]) -> Vec<Fetched> {
    read_by(&mut Login::new(Box::new(host.session())), wanted)
}

fn read_by(login: &mut Login, wanted: &[(&[u8], u64)]) -> Vec<Fetched> {
    let wanted: Vec<Wanted> = wanted
        .iter()
        .map(|(name, size_bytes)| Wanted {
            path: remote(b"~/d").join(&RelPath::new(*name).unwrap()),
            size_bytes: *size_bytes,
        })
        .collect();
    fetch(login, &wanted, Duration::from_mins(1)).unwrap()
}

fn content(bytes: &[u8]) -> Fetched {
    Fetched::Content(bytes.to_vec())
}

#[test]
fn content_arrives_byte_for_byte() {
    let all: Vec<u8> = (0..=255).cycle().take(300_000).collect();
    let contents: [&[u8]; 8] = [
        b"",
        b"text\n",
        b"no newline at the end",
        b"\n\n\n",
        b"\0\0",
        b"HOSTSYNC 0123456789abcdef0123456789abcdef end ok\n",
        b"\r\n\xff\xfe",
        &all,
    ];
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        let names: Vec<String> = (0..contents.len()).map(|n| format!("f{n}")).collect();
        for (name, bytes) in names.iter().zip(contents) {
            fs::write(host.home().join("d").join(name), bytes).unwrap();
        }
        let wanted: Vec<(&[u8], u64)> = names
            .iter()
            .zip(contents)
            .map(|(name, bytes)| (name.as_bytes(), bytes.len() as u64))
            .collect();
        assert_eq!(read(&host, &wanted), contents.map(content));
        assert_eq!(host.take_traffic().commands, 1);
    });
}

#[test]
fn files_with_odd_names_are_read() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        for name in ODD_NAMES {
            fs::write(host.home().join("d").join(OsStr::from_bytes(name)), name).unwrap();
        }
        let wanted = ODD_NAMES.map(|name| (name, name.len() as u64));
        assert_eq!(read(&host, &wanted), ODD_NAMES.map(content));
    });
}

#[test]
fn what_is_no_file_any_more_is_not_read() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/real", "text");
        host.mkdir("d/folder");
        symlink("real", host.home().join("d/link")).unwrap();
        let pipe = host.home().join("d/pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        own(&pipe);
        let names: [&[u8]; 5] = [b"missing", b"link", b"folder", b"pipe", b"real/below"];
        let mut expected = vec![Fetched::Gone; names.len()];
        let mut wanted: Vec<(&[u8], u64)> = names.map(|name| (name, 4)).to_vec();
        // The others are read all the same.
        wanted.push((b"real", 4));
        expected.push(content(b"text"));
        assert_eq!(read(&host, &wanted), expected);
    });
}

#[test]
fn file_that_may_not_be_read_is_said_to_be_closed() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/closed", "text");
        host.write("d/open", "text");
        set_mode(&host.home().join("d/closed"), 0o200);
        let read = read(&host, &[(b"closed", 4), (b"open", 4)]);
        assert_eq!(read, [Fetched::Closed, content(b"text")]);
    });
}

#[test]
fn file_that_has_grown_is_read_to_the_next_byte_and_no_further() {
    under_every_shell(|shell| {
        let host = host_with_folder(shell);
        host.write("d/grown", &"x".repeat(1_000_000));
        host.write("d/shrunk", "x");
        let read = read(&host, &[(b"grown", 9), (b"shrunk", 9)]);
        assert_eq!(read, [content(&[b'x'; 10]), content(b"x")]);
    });
}

#[test]
fn agent_that_has_looked_goes_on_to_read() {
    let host = host_with_folder(Shell::Perl);
    host.write("d/a", "text");
    let mut login = Login::new(Box::new(host.session()));
    let expected = [content(b"text")];
    for _ in 0..2 {
        assert_eq!(read_by(&mut login, &[(b"a", 4)]), expected);
    }
    let traffic = host.take_traffic();
    assert_eq!((traffic.commands, traffic.resumed), (1, 1));
    assert!(look(&host, &[b"a"], &[], None).is_ok());
}

/// A site in which hosts that are named here have `old` in `~/d/a`, and are to get `new`.
fn site(hosts: &[(&'static str, Shell, &str)]) -> LocalSite {
    let mut site = LocalSite::new();
    fs::write(site.source("a"), "new\n").unwrap();
    for (name, shell, old) in hosts {
        let host = LocalHost::new(*shell);
        host.mkdir("d");
        host.write("d/a", old);
        site.add(name, Some(host), "~/d");
    }
    site
}

fn diff_of(site: &LocalSite, refresh: Refresh, host: usize) -> Diff {
    let plan = site.plan_with_diffs(refresh).plan;
    assert_eq!(plan.hosts[host].status.error(), None);
    let set = plan.hosts[host].change_set.clone().unwrap();
    assert_eq!(set.diffs.len(), 1);
    set.diffs.values().next().unwrap().clone()
}

/// How many commands and tasks all hosts have done since this was last asked.
fn tasks(site: &LocalSite) -> usize {
    let traffic = site.hosts.0.iter().map(|(_, host)| host.take_traffic());
    traffic.map(|it| it.commands + it.resumed).sum()
}

#[test]
fn equal_hosts_are_asked_once_and_the_second_one_if_the_first_fails() {
    under_every_shell(|shell| {
        let equal = ["a", "b", "c"].map(|name| (name, shell, "old\n"));
        let mut site = site(&equal);
        let text = Diff::Text("@@ -1 +1 @@\n-old\n+new\n".to_owned());
        for at_once in [3, 1] {
            site.config.settings.number_of_connections = at_once;
            assert_eq!(diff_of(&site, Refresh::Full, 2), text);
            assert_eq!(tasks(&site), 4);
        }

        // Between the look and the reading, it goes away on the first host.
        let file = site.host().home().join("d/a");
        let path = file.clone();
        site.host().before_exec(move |commands| {
            if commands == 1 {
                fs::remove_file(&path).unwrap();
            }
        });
        assert_eq!(diff_of(&site, Refresh::Full, 0), text);
        assert!(!file.exists());
        assert_eq!(tasks(&site), 5);
    });
}

#[test]
fn what_moves_meanwhile_is_not_shown() {
    under_every_shell(|shell| {
        let site = site(&[("a", shell, "old\n")]);
        let path = site.host().home().join("d/a");
        site.host().before_exec(move |commands| {
            if commands == 1 {
                fs::write(&path, "another\n").unwrap();
            }
        });
        let moved = "it moved while the plan was made".to_owned();
        assert_eq!(diff_of(&site, Refresh::Full, 0), Diff::Unavailable(moved));
    });
}

#[test]
fn login_that_breaks_while_files_are_read_costs_the_diff_alone() {
    let site = site(&[("a", Shell::Dash, "old\n")]);
    // Enough for the look.
    let look = Script::new(Task::Look, Duration::from_mins(1));
    let bytes = look.to_bytes().len() + 2000;
    site.host().cuts.lock().unwrap().push_back(bytes);
    let diff = diff_of(&site, Refresh::Full, 0);
    let Diff::Unavailable(why) = diff else {
        panic!("{diff:?}");
    };
    assert!(why.starts_with("it could not be fetched: "), "{why}");
}

#[test]
fn private_file_is_not_even_read() {
    under_every_shell(|shell| {
        let site = site(&[("a", shell, "old\n")]);
        set_mode(&site.host().home().join("d/a"), 0o600);
        assert_eq!(diff_of(&site, Refresh::Full, 0), Diff::Hidden);
        assert_eq!(tasks(&site), 1);
    });
}

#[test]
fn plan_from_the_state_alone_shows_what_is_new() {
    let mut site = site(&[("a", Shell::Perl, "old\n")]);
    let new = Diff::Text("@@ -0,0 +1 @@\n+new\n".to_owned());
    assert_eq!(diff_of(&site, Refresh::None, 0), new);
    site.on_conflict = OnConflict::Overwrite;
    site.apply();
    fs::write(site.source("a"), "newer\n").unwrap();
    let why = "no host was looked at".to_owned();
    assert_eq!(diff_of(&site, Refresh::None, 0), Diff::Unavailable(why));
}

#[test]
fn answer_that_is_cut_off_is_not_in_the_error() {
    let host = host_with_folder(Shell::Dash);
    host.write("d/a", "CONTENT\n");
    // The script ends behind the content. What reads it is a child of a child of it.
    host.replace_program(
        "head",
        "/usr/bin/head \"$@\"; [ \"$2\" != 9 ] || kill \"$(cut -d' ' -f4 /proc/$PPID/stat)\"",
    );
    let wanted = Wanted {
        path: remote(b"~/d/a"),
        size_bytes: 8,
    };
    let mut login = Login::new(Box::new(host.session()));
    let result = fetch(&mut login, &[wanted], Duration::from_mins(1));
    let error = result.unwrap_err();
    assert!(matches!(error, RemoteError::NoAnswer { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("CONTENT"), "{error:?}");
}
