//! What somebody else did on a host, and who decides about it.

use std::os::unix::fs::{MetadataExt as _, symlink};

use serde_json::json;

use hostsync_testkit::copied::{Contents, assert_same, assert_untouched};
use hostsync_testkit::scenario::{Scenario, backups, changes, chmod, read_on, remove, write_on};
use hostsync_testkit::{Sshd, run};

/// Two hosts that have `a`, `b` and `c`; then `b` is edited on the first host and `a` here.
fn drifted() -> ([Sshd; 2], Scenario) {
    let hosts = ["127.2.1.1", "127.2.1.2"].map(Sshd::start);
    let scenario = Scenario::with(
        &[&hosts[0], &hosts[1]],
        &json!([{ "src": "src", "dest": "~/dest" }]),
    );
    for name in ["a", "b", "c"] {
        scenario.write(&format!("src/{name}"), "first\n");
    }
    scenario.apply();
    write_on(&hosts[0], "dest/b", "by hand on the host\n");
    scenario.write("src/a", "second\n");
    (hosts, scenario)
}

#[test]
fn drift_is_shown_apart_from_what_was_asked_for() {
    let (hosts, scenario) = drifted();
    assert_eq!(
        scenario.changes(&hosts[0]),
        ["update content a", "update content b drift conflict"]
    );
    assert_eq!(scenario.changes(&hosts[1]), ["update content a"]);
    scenario
        .run(&["plan", "--detailed-exitcode"])
        .expect(2)
        .expect_stdout(&["Changed on the hosts since the last apply", "; 1 conflict."]);
}

#[test]
fn host_with_a_conflict_is_left_untouched_and_the_others_are_done() {
    let (hosts, scenario) = drifted();
    let before = Contents::of(&hosts[0].dir());
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(4)
        .expect_stdout(&["127.2.1.1: left alone: 1 conflict"]);
    assert_untouched(&before, &hosts[0].dir());
    assert_same(&scenario.path("src"), &hosts[1].dir().join("dest"));
    // The state has not taken it for done either.
    assert_eq!(
        scenario.changes(&hosts[0]),
        ["update content a", "update content b drift conflict"]
    );
}

#[test]
fn skip_leaves_just_the_conflicts() {
    let (hosts, scenario) = drifted();
    let args = ["apply", "--auto-approve", "--on-conflict", "skip"];
    scenario.run(&args).expect(0).expect_stdout(&["1 conflict"]);
    assert_eq!(read_on(&hosts[0], "dest/a").as_deref(), Some("second\n"));
    assert_eq!(
        read_on(&hosts[0], "dest/b").as_deref(),
        Some("by hand on the host\n")
    );
    // It is still not ours.
    assert_eq!(
        scenario.changes(&hosts[0]),
        ["update content b drift conflict"]
    );
}

#[test]
fn overwrite_takes_conflicts_too_and_the_old_bytes_are_in_the_backups() {
    let (hosts, scenario) = drifted();
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    for host in &hosts {
        assert_same(&scenario.path("src"), &host.dir().join("dest"));
    }
    let kept = backups(&hosts[0]);
    let by_hand = ("b".to_owned(), "by hand on the host\n".to_owned());
    assert!(kept.contains(&by_hand), "{kept:?}");
    let first = ("a".to_owned(), "first\n".to_owned());
    assert!(kept.contains(&first), "{kept:?}");
    scenario.expect_nothing_to_do();
}

#[test]
fn only_as_many_backups_are_kept_as_configured() {
    let host = Sshd::start("127.2.1.3");
    let scenario = Scenario::of_folder(&host);
    scenario.settings(&["backups = 2"]);
    for round in 0..5 {
        scenario.write("src/file", format!("round {round}\n"));
        scenario.apply();
    }
    let texts: Vec<_> = backups(&host).into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["round 2\n", "round 3\n"]);
}

#[test]
fn file_that_nobody_told_us_about_is_a_conflict() {
    let host = Sshd::start("127.2.1.4");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "ours\n");
    write_on(&host, "dest/file", "theirs\n");
    assert_eq!(
        scenario
            .changes(&host)
            .iter()
            .filter(|change| !change.starts_with("adopt"))
            .collect::<Vec<_>>(),
        ["update content file unmanaged conflict"]
    );
    let before = Contents::of(&host.dir());
    scenario.run(&["apply", "--auto-approve"]).expect(4);
    assert_untouched(&before, &host.dir());
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    assert_eq!(read_on(&host, "dest/file").as_deref(), Some("ours\n"));
    assert_eq!(backups(&host), [("file".to_owned(), "theirs\n".to_owned())]);
}

#[test]
fn file_that_is_already_right_is_adopted_and_no_change() {
    let host = Sshd::start("127.2.1.5");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "the same\n");
    let path = write_on(&host, "dest/file", "the same\n");
    let inode = || std::fs::metadata(&path).expect("it is there").ino();
    let before = inode();
    assert_eq!(
        scenario.changes(&host),
        ["adopt recorded", "adopt recorded file"]
    );
    scenario.run(&["plan", "--detailed-exitcode"]).expect(0);
    scenario.apply();
    assert_eq!(inode(), before, "it was replaced");
    assert_eq!(scenario.changes(&host), Vec::<String>::new());
    // Now it is ours: the next edit is no conflict.
    scenario.write("src/file", "edited\n");
    assert_eq!(scenario.changes(&host), ["update content file"]);
}

#[test]
fn deleted_on_the_host_is_created_again() {
    let host = Sshd::start("127.2.1.6");
    let scenario = Scenario::of_folder(&host);
    for name in ["file", "sub/one", "sub/two"] {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    scenario.apply();
    remove(&host.dir().join("dest/file"));
    remove(&host.dir().join("dest/sub"));
    assert_eq!(
        scenario.changes(&host),
        [
            "create missing file drift",
            "create missing sub drift",
            "create missing sub/one drift",
            "create missing sub/two drift"
        ]
    );
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
}

#[test]
fn mode_that_somebody_changed_is_set_back_and_destroys_nothing() {
    let host = Sshd::start("127.2.1.7");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    chmod(&host.dir().join("dest/file"), 0o666);
    assert_eq!(scenario.changes(&host), ["metadata mode file drift"]);
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
    scenario.expect_nothing_to_do();
}

#[test]
fn edit_on_the_host_that_keeps_size_and_time_is_found() {
    let host = Sshd::start("127.2.1.8");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "one\n");
    scenario.apply();
    let path = host.dir().join("dest/file");
    let modified = std::fs::metadata(&path)
        .and_then(|metadata| metadata.modified())
        .expect("it is there");
    std::fs::write(&path, "two\n").expect("root may");
    std::fs::File::options()
        .write(true)
        .open(&path)
        .and_then(|file| file.set_modified(modified))
        .expect("root may");
    assert_eq!(
        scenario.changes(&host),
        ["update content file drift conflict"]
    );
}

#[test]
fn state_of_somebody_else_does_not_make_a_file_ours() {
    let host = Sshd::start("127.2.1.9");
    let ours = Scenario::of_folder(&host);
    ours.write("src/same", "the same\n");
    ours.write("src/other", "ours\n");
    ours.apply();

    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let theirs = Scenario::with(&[&host], &mapping);
    theirs.write("src/same", "the same\n");
    theirs.write("src/other", "theirs\n");
    std::fs::copy(ours.path("src/same"), theirs.path("src/same")).expect("our folders");
    assert_eq!(
        changes(&theirs.plan(), &host.address),
        [
            "adopt recorded",
            "update content other unmanaged conflict",
            "adopt recorded same"
        ]
    );
    theirs.run(&["apply", "--auto-approve"]).expect(4);
    assert_eq!(read_on(&host, "dest/other").as_deref(), Some("ours\n"));
    ours.expect_nothing_to_do();

    // Each has backups of its own; what one state wrote is drift to the other.
    theirs
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    assert_eq!(ours.changes(&host), ["update content other drift conflict"]);
}

#[test]
fn folder_of_theirs_where_a_file_is_wanted_keeps_what_is_in_it() {
    let host = Sshd::start("127.2.1.10");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/it", "a file\n");
    scenario.write("src/other", "text\n");
    write_on(&host, "dest/it/theirs", "keep this\n");
    let changes = scenario.changes(&host);
    assert!(
        changes.contains(&"update type it unmanaged conflict".to_owned()),
        "{changes:?}"
    );
    let args = ["apply", "--auto-approve", "--on-conflict"];
    let with = |decision| scenario.run(&[&args[..], &[decision]].concat());
    with("fail").expect(4);
    assert!(!host.dir().join("dest/other").exists());
    with("skip").expect(0);
    assert_eq!(read_on(&host, "dest/other").as_deref(), Some("text\n"));
    let output = with("overwrite");
    assert!([3, 4].contains(&output.code), "{output}");
    assert_eq!(
        read_on(&host, "dest/it/theirs").as_deref(),
        Some("keep this\n"),
        "{output}"
    );
}

#[test]
fn link_of_theirs_where_a_folder_is_wanted_is_not_followed() {
    let host = Sshd::start("127.2.1.11");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/sub/file", "ours\n");
    write_on(&host, "elsewhere/file", "theirs\n");
    write_on(&host, "dest/other", "theirs\n");
    symlink("../elsewhere", host.dir().join("dest/sub")).expect("root may");
    let changes = scenario.changes(&host);
    assert!(
        changes.contains(&"update type sub unmanaged conflict".to_owned()),
        "{changes:?}"
    );
    scenario.run(&["apply", "--auto-approve"]).expect(4);
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    assert_eq!(
        read_on(&host, "elsewhere/file").as_deref(),
        Some("theirs\n")
    );
    assert_same(&scenario.path("src/sub"), &host.dir().join("dest/sub"));
    scenario.expect_nothing_to_do();
}

#[test]
fn file_of_theirs_that_we_may_not_read_is_a_conflict_and_stays() {
    let host = Sshd::start("127.2.1.12");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "ours\n");
    let path = write_on(&host, "dest/file", "secret\n");
    std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("root may");
    chmod(&path, 0o600);
    assert!(
        scenario
            .changes(&host)
            .contains(&"update content file unmanaged conflict".to_owned())
    );
    scenario.run(&["apply", "--auto-approve"]).expect(4);
    assert_eq!(read_on(&host, "dest/file").as_deref(), Some("secret\n"));
}

#[test]
fn pipe_of_theirs_keeps_nobody_waiting() {
    let host = Sshd::start("127.2.1.13");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "ours\n");
    write_on(&host, "dest/other", "theirs\n");
    run(std::process::Command::new("mkfifo").arg(host.dir().join("dest/file")));
    let changes = scenario.changes(&host);
    assert!(
        changes.contains(&"update type file unmanaged conflict".to_owned()),
        "{changes:?}"
    );
    scenario.run(&["apply", "--auto-approve"]).expect(4);
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    assert_eq!(read_on(&host, "dest/file").as_deref(), Some("ours\n"));
}

#[test]
fn forgotten_host_is_unknown_again_and_untouched() {
    let host = Sshd::start("127.2.1.14");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    scenario.write("src/file", "edited\n");
    scenario.run(&["state", "forget", "127.2.1.14"]).expect(0);
    assert_eq!(read_on(&host, "dest/file").as_deref(), Some("text\n"));
    assert_eq!(
        scenario.changes(&host),
        ["adopt recorded", "update content file unmanaged conflict"]
    );
}
