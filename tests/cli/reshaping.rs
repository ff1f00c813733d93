//! Sources that change their shape, what is deleted, and where things go.

use std::os::unix::fs::symlink;

use serde_json::json;

use hostsync_testkit::Sshd;
use hostsync_testkit::copied::{Contents, assert_same, assert_untouched};
use hostsync_testkit::scenario::{Scenario, backups, read_on, remove, write_on};

#[test]
fn new_mode_alone_sends_nothing() {
    let host = Sshd::start("127.2.2.1");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.write("src/sub/file", "text\n");
    scenario.apply();
    scenario.chmod("src/file", 0o755);
    scenario.chmod("src/sub", 0o500);
    assert_eq!(
        scenario.changes(&host),
        ["metadata mode file", "metadata mode sub"]
    );
    scenario.apply().expect_stdout(&["(0 B sent)"]);
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();

    // A folder that may not be written by its owner still gets what it is to have.
    scenario.write("src/sub/file", "edited\n");
    scenario.write("src/sub/new", "new\n");
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
}

#[test]
fn new_time_alone_is_no_change() {
    let host = Sshd::start("127.2.2.2");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
    std::fs::File::options()
        .write(true)
        .open(scenario.path("src/file"))
        .and_then(|file| file.set_modified(time))
        .expect("our file");
    scenario.expect_nothing_to_do();
}

/// Applies `before`, then `after`, each a list of what a source has: `name` is a file, `name/` a
/// folder, `name>target` a link.
fn reshape(address: &str, before: &[&str], after: &[&str]) -> (Sshd, Scenario, Vec<String>) {
    let host = Sshd::start(address);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    scenario.settings(&["max_delete = 100%"]);
    let shape = |entries: &[&str], text: &str| {
        if scenario.path("src").exists() {
            scenario.remove("src");
        }
        scenario.make_folder("src");
        for entry in entries {
            if let Some((name, target)) = entry.split_once('>') {
                symlink(target, scenario.path("src").join(name)).expect("our folder");
            } else if let Some(folder) = entry.strip_suffix('/') {
                scenario.make_folder(&format!("src/{folder}"));
            } else {
                scenario.write(&format!("src/{entry}"), text);
            }
        }
    };
    shape(before, "before\n");
    scenario.apply();
    shape(after, "after\n");
    let changes = scenario.changes(&host);
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
    (host, scenario, changes)
}

#[test]
fn file_becomes_a_folder() {
    let (host, _, changes) = reshape("127.2.2.3", &["it"], &["it/", "it/below"]);
    assert_eq!(changes, ["update type it", "create missing it/below"]);
    assert_eq!(backups(&host), [("it".to_owned(), "before\n".to_owned())]);
}

#[test]
fn folder_becomes_a_file() {
    let (host, _, changes) = reshape("127.2.2.4", &["it/a/b", "it/c"], &["it"]);
    assert_eq!(
        changes,
        [
            "update type it",
            "delete orphan it/a",
            "delete orphan it/a/b",
            "delete orphan it/c"
        ]
    );
    let kept: Vec<_> = backups(&host).into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, ["b", "c"]);
}

#[test]
fn file_becomes_a_link_and_a_link_a_file_or_a_folder() {
    let (_, _, changes) = reshape(
        "127.2.2.5",
        &["file", "link>nowhere", "other>nowhere", "target/"],
        &["file>target", "link", "other/below", "target/"],
    );
    assert_eq!(
        changes,
        [
            "update type file",
            "update type link",
            "update type other",
            "create missing other/below"
        ]
    );
}

#[test]
fn folder_becomes_a_link_to_what_it_was() {
    let (_, _, changes) = reshape(
        "127.2.2.6",
        &["current/file"],
        &["releases/file", "current>releases"],
    );
    assert_eq!(
        changes,
        [
            "update type current",
            "delete orphan current/file",
            "create missing releases",
            "create missing releases/file"
        ]
    );
}

#[test]
fn link_gets_another_target() {
    let (_, _, changes) = reshape("127.2.2.7", &["link>one"], &["link>two words"]);
    assert_eq!(changes, ["update content link"]);
}

#[test]
fn folder_with_files_of_others_does_not_become_a_file() {
    let host = Sshd::start("127.2.2.8");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/it/ours", "text\n");
    scenario.write("src/other", "text\n");
    scenario.apply();
    write_on(&host, "dest/it/theirs", "keep this\n");
    scenario.remove("src/it");
    scenario.write("src/it", "a file\n");
    scenario.write("src/other", "edited\n");
    let output = scenario.run(&["apply", "--auto-approve", "--on-conflict", "overwrite"]);
    assert!([3, 4].contains(&output.code), "{output}");
    assert_eq!(
        read_on(&host, "dest/it/theirs").as_deref(),
        Some("keep this\n"),
        "{output}"
    );
    assert_eq!(read_on(&host, "dest/other").as_deref(), Some("edited\n"));
}

#[test]
fn without_exact_nothing_is_deleted() {
    let host = Sshd::start("127.2.2.9");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/stays", "text\n");
    scenario.write("src/goes", "text\n");
    scenario.apply();
    scenario.remove("src/goes");
    scenario.expect_nothing_to_do();
    assert_eq!(read_on(&host, "dest/goes").as_deref(), Some("text\n"));
}

#[test]
fn exact_deletes_what_we_wrote_only_while_it_is_as_we_wrote_it() {
    let host = Sshd::start("127.2.2.10");
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    for name in [
        "stays",
        "goes",
        "edited there",
        "folder/goes",
        "shared/goes",
    ] {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    scenario.settings(&["max_delete = 90%"]);
    scenario.apply();
    write_on(&host, "dest/edited there", "by hand\n");
    write_on(&host, "dest/never ours", "by hand\n");
    write_on(&host, "dest/shared/never ours", "by hand\n");
    for name in ["goes", "edited there", "folder", "shared"] {
        scenario.remove(&format!("src/{name}"));
    }
    let changes = scenario.changes(&host);
    for expected in ["goes", "folder", "folder/goes", "shared/goes"] {
        let line = format!("delete orphan {expected}");
        assert!(changes.contains(&line), "no {line} in {changes:?}");
    }
    assert!(
        !changes
            .iter()
            .any(|change| change.contains("never ours") || change.contains("edited there")),
        "{changes:?}"
    );
    scenario.apply();
    assert_eq!(
        Contents::of(&host.dir().join("dest")).paths(),
        [
            "",
            "/edited there",
            "/never ours",
            "/shared",
            "/shared/never ours",
            "/stays"
        ]
    );
    let kept: Vec<_> = backups(&host).into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, ["goes", "goes", "goes"]);
    scenario.expect_nothing_to_do();
}

#[test]
fn mirror_deletes_what_is_not_in_the_source_but_asks_and_spares_what_is_excluded() {
    let host = Sshd::start("127.2.2.11");
    let mapping = json!([{
        "src": "src", "dest": "~/dest", "exact": "mirror", "exclude": ["*.log", "cache/"],
    }]);
    let scenario = Scenario::with(&[&host], &mapping);
    for name in ["a", "b", "c", "d"] {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    scenario.apply();
    scenario.expect_nothing_to_do();
    write_on(&host, "dest/extra/file", "not ours\n");
    write_on(&host, "dest/run.log", "excluded\n");
    write_on(&host, "dest/cache/file", "excluded\n");
    write_on(&host, "dest/sub/deep.log", "excluded\n");
    assert_eq!(
        scenario.changes(&host),
        [
            "delete extraneous extra unmanaged",
            "delete extraneous extra/file unmanaged conflict"
        ]
    );
    let before = Contents::of(&host.dir());
    scenario.run(&["apply", "--auto-approve"]).expect(4);
    assert_untouched(&before, &host.dir());
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    assert_eq!(
        Contents::of(&host.dir().join("dest")).paths(),
        [
            "",
            "/a",
            "/b",
            "/c",
            "/cache",
            "/cache/file",
            "/d",
            "/run.log",
            "/sub",
            "/sub/deep.log"
        ]
    );
    assert_eq!(
        backups(&host),
        [("file".to_owned(), "not ours\n".to_owned())]
    );
    scenario.expect_nothing_to_do();
}

#[test]
fn emptied_source_deletes_nothing_before_somebody_says_so() {
    let host = Sshd::start("127.2.2.12");
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    for name in ["a", "b", "c"] {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    scenario.apply();
    for name in ["a", "b", "c"] {
        scenario.remove(&format!("src/{name}"));
    }
    let before = Contents::of(&host.dir());
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(3)
        .expect_stdout(&["3 of 3 entries would be deleted", "raise `max_delete`"]);
    assert_untouched(&before, &host.dir());
    scenario.settings(&["max_delete = 100%"]);
    scenario.apply();
    assert_eq!(Contents::of(&host.dir().join("dest")).paths(), [""]);
}

#[test]
fn excluded_paths_are_neither_sent_nor_touched() {
    let host = Sshd::start("127.2.2.13");
    let mapping = json!([{
        "src": "src", "dest": "~/dest", "exclude": ["*.tmp", ".git/", "/top"],
    }]);
    let scenario = Scenario::with(&[&host], &mapping);
    let names = [
        "keep",
        "x.tmp",
        "sub/y.tmp",
        ".git/config",
        "top",
        "sub/top",
    ];
    for name in names {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    write_on(&host, "dest/x.tmp", "theirs\n");
    scenario.apply();
    assert_eq!(
        Contents::of(&host.dir().join("dest")).paths(),
        ["", "/keep", "/sub", "/sub/top", "/x.tmp"]
    );
    assert_eq!(read_on(&host, "dest/x.tmp").as_deref(), Some("theirs\n"));
}

#[test]
fn symlinks_are_preserved_followed_or_skipped_as_configured() {
    let host = Sshd::start("127.2.2.14");
    let scenario = Scenario::with(
        &[&host],
        &json!([
            { "src": "src", "dest": "~/preserve" },
            { "src": "src", "dest": "~/follow", "symlinks": "follow" },
            { "src": "src", "dest": "~/skip", "symlinks": "skip" },
        ]),
    );
    scenario.write("src/file", "text\n");
    scenario.write("outside/below", "outside\n");
    for (name, target) in [("to file", "file"), ("to folder", "../outside")] {
        symlink(target, scenario.path("src").join(name)).expect("our folder");
    }
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("preserve"));
    assert_eq!(read_on(&host, "follow/to file").as_deref(), Some("text\n"));
    assert_same(
        &scenario.path("outside"),
        &host.dir().join("follow/to folder"),
    );
    assert!(!host.dir().join("follow/to folder").is_symlink());
    assert_eq!(
        Contents::of(&host.dir().join("skip")).paths(),
        ["", "/file"]
    );
    scenario.expect_nothing_to_do();
}

#[test]
fn link_whose_target_has_a_newline_is_done_or_named() {
    let host = Sshd::start("127.2.2.15");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/a", "text\n");
    scenario.write("src/z", "text\n");
    symlink("two\nlines", scenario.path("src/link")).expect("our folder");
    let output = scenario.run(&["apply", "--auto-approve"]).expect(3);
    output.expect_stdout(&["src/link", "newline"]);
    assert_eq!(
        Contents::of(&host.dir().join("dest")).paths(),
        ["", "/a", "/z"]
    );
}

#[test]
fn destinations_may_be_written_in_every_way() {
    let host = Sshd::start("127.2.2.16");
    let mut scenario = Scenario::new();
    let absolute = host.dir().join("absolute/not there yet/copy");
    scenario.add(
        &host,
        &json!([
            { "src": "site", "dest": "~/with slash/" },
            { "src": "site", "dest": "~/without slash" },
            { "src": "site", "dest": "relative/to/login" },
            { "src": "site/", "dest": "slash-behind-source/" },
            { "src": "below/../site", "dest": "~/through-dots" },
            { "src": "site/index.html", "dest": "one-file/" },
            { "src": "site/index.html", "dest": absolute },
        ]),
    );
    scenario.make_folder("below");
    scenario.write("site/index.html", "text\n");
    scenario.write("site/sub/file", "text\n");
    scenario.apply();
    for dest in [
        "with slash/site",
        "without slash",
        "relative/to/login",
        "slash-behind-source/site",
        "through-dots",
    ] {
        assert_same(&scenario.path("site"), &host.dir().join(dest));
    }
    let file = scenario.path("site/index.html");
    assert_same(&file, &host.dir().join("one-file/index.html"));
    assert_same(&file, &absolute);
    // Twice is as good as once: nothing is nested into what is there by now.
    scenario.expect_nothing_to_do();
    scenario.write("site/sub/file", "edited\n");
    scenario.apply();
    assert_same(&scenario.path("site"), &host.dir().join("without slash"));
    scenario.expect_nothing_to_do();
}

#[test]
fn source_may_lie_above_the_configuration_or_be_a_link() {
    let host = Sshd::start("127.2.2.17");
    let scenario = Scenario::with(
        &[&host],
        &json!([
            { "src": "../src", "dest": "~/from above" },
            { "src": "link", "dest": "~/through link" },
        ]),
    );
    scenario.write("src/file", "text\n");
    scenario.make_folder("config");
    for name in [
        "config.ini",
        "connection_info.json",
        "known_hosts",
        "path_mapper",
    ] {
        let to = scenario.path("config").join(name);
        std::fs::rename(scenario.path(name), to).expect("our folder");
    }
    symlink("../src", scenario.path("config/link")).expect("our folder");
    // Found as config/config.ini; paths in it are relative to its own folder.
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("from above"));
    assert_same(&scenario.path("src"), &host.dir().join("through link"));
    assert!(scenario.path("config/state/state.json").exists());
    assert!(!scenario.path("state").exists());
}

#[test]
fn destination_reached_through_a_link_stays_a_link() {
    let host = Sshd::start("127.2.2.18");
    let scenario = Scenario::with(&[&host], &json!([{ "src": "src", "dest": "~/www/site" }]));
    scenario.write("src/file", "text\n");
    write_on(&host, "disk/other", "theirs\n");
    symlink("disk", host.dir().join("www")).expect("root may");
    scenario.apply();
    assert!(host.dir().join("www").is_symlink());
    assert_same(&scenario.path("src"), &host.dir().join("disk/site"));
    scenario.expect_nothing_to_do();
    remove(&host.dir().join("disk/site/file"));
    assert_eq!(scenario.changes(&host), ["create missing file drift"]);
}
