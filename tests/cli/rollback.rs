//! The way back to an earlier apply.

#![expect(clippy::unwrap_used, reason = "a test may panic")]
#![expect(
    clippy::print_stdout,
    reason = "how much was tried belongs to the result"
)]

use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::prompt::{answer, run_in_terminal};
use hostsync_testkit::copied::Contents;
use hostsync_testkit::scenario::{Scenario, chmod, read_on, remove, write_on};
use hostsync_testkit::{Dropbear, Host, Sshd, run};

const BACK: [&str; 2] = ["rollback", "--auto-approve"];

/// A host whose `~/dest` mirrors what was written of `src`, and may lose all of it.
fn site(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let scenario = of(&host);
    (host, scenario)
}

fn of(host: &Host) -> Scenario {
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[host], &mapping);
    scenario.settings(&["max_delete = 100%"]);
    scenario.make_folder("src");
    scenario
}

fn there(host: &Host) -> Contents {
    Contents::of(&host.dir().join("dest"))
}

#[track_caller]
fn assert_back(before: &Contents, host: &Host) {
    let differences = before.differences(&there(host));
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// Everything that an apply may do to an entry.
fn change_everything(scenario: &Scenario) {
    for (path, text) in [
        ("content", "first\n"),
        ("mode", "mode\n"),
        ("gone", "gone\n"),
        ("file to folder", "file\n"),
        ("folder to file/a/b", "b\n"),
        ("link to file", ""),
        ("closed/inside", "inside\n"),
        ("emptied/one", "one\n"),
        ("setuid", "setuid\n"),
    ] {
        scenario.write(&format!("src/{path}"), text);
    }
    remove(&scenario.path("src/link to file"));
    for (link, target) in [("link to file", "mode"), ("link", "content")] {
        symlink(target, scenario.path("src").join(link)).unwrap();
    }
    scenario.make_folder("src/empty folder");
    scenario.chmod("src/empty folder", 0o750);
    scenario.chmod("src/setuid", 0o4755);
    scenario.chmod("src/closed", 0o555);
    scenario.apply();

    scenario.write("src/content", "second, longer\n");
    scenario.chmod("src/mode", 0o600);
    remove(&scenario.path("src/gone"));
    remove(&scenario.path("src/file to folder"));
    scenario.write("src/file to folder/below", "below\n");
    remove(&scenario.path("src/folder to file"));
    scenario.write("src/folder to file", "a file now\n");
    remove(&scenario.path("src/link to file"));
    scenario.write("src/link to file", "a file now\n");
    remove(&scenario.path("src/link"));
    symlink("mode", scenario.path("src/link")).unwrap();
    scenario.chmod("src/closed", 0o755);
    scenario.write("src/closed/inside", "changed inside\n");
    scenario.write("src/closed/new", "new\n");
    scenario.chmod("src/closed", 0o500);
    remove(&scenario.path("src/emptied/one"));
    remove(&scenario.path("src/empty folder"));
    scenario.write("src/setuid", "without the bit\n");
    scenario.chmod("src/setuid", 0o644);
    scenario.write("src/created/in/a folder", "created\n");
}

#[test]
fn last_plan_is_undone_with_bytes_modes_and_kinds() {
    let (host, scenario) = site("127.2.20.1");
    change_everything(&scenario);
    let before = there(&host);
    scenario.apply();
    let after = there(&host);
    assert!(!before.differences(&after).is_empty());

    scenario.run(&BACK).expect(0).expect_stdout(&[
        "Undoes apply 2 of ",
        "- created/in/a folder",
        "was not there before",
        "+ gone",
        "was there before",
        "Rolled back to 1: ",
    ]);
    assert_back(&before, &host);
    // One more undoes the rollback.
    let again = scenario.run(&BACK).expect(0);
    again.expect_stdout(&["Undoes apply 3, a rollback to 1, of "]);
    assert_back(&after, &host);
    scenario.expect_nothing_to_do();
}

#[test]
fn hosts_without_perl_go_back_in_the_same_way() {
    let host = Dropbear::start("127.2.20.2");
    let scenario = of(&host);
    change_everything(&scenario);
    let before = there(&host);
    scenario.apply();
    scenario.run(&BACK).expect(0);
    assert_back(&before, &host);
    let changes = scenario.changes(&host);
    assert!(
        changes.iter().all(|it| !it.contains("drift")),
        "{changes:?}"
    );
}

#[test]
fn rollback_is_shown_and_asked_about_before_anything_happens() {
    let (host, scenario) = site("127.2.20.3");
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    let before = there(&host);
    let ask = || run_in_terminal(&scenario, "rollback");
    let (code, shown) = answer(&mut ask(), b"no\n");
    assert_eq!(code, Some(1), "{shown}");
    assert!(
        shown.contains("Rollback: 0 to create, 1 to update"),
        "{shown}"
    );
    assert_back(&before, &host);
    let (code, shown) = answer(&mut ask(), b"yes\n");
    assert_eq!(code, Some(0), "{shown}");
    assert_eq!(read_on(&host, "dest/a").unwrap(), "first\n");

    // Where nobody can be asked, it is shown all the same, with what says yes.
    let end = scenario.run(&["rollback", "--to", "1", "--limit", "127*"]);
    let end = end.expect(0);
    end.expect_stdout(&["Nothing to roll back on 1 host."]);
    scenario
        .run(&["rollback", "--to", "2", "--limit", "127*"])
        .expect(1)
        .expect_stdout(&["Rollback: 0 to create, 1 to update"])
        .expect_stderr(&[
            "there is nobody to ask",
            "run `hostsync rollback --to 2 --limit '127*' --auto-approve`",
        ]);
}

#[test]
fn file_that_somebody_changed_since_is_a_conflict() {
    let (host, scenario) = site("127.2.20.4");
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.write("src/new", "new\n");
    scenario.apply();
    write_on(&host, "dest/a", "by hand\n");
    write_on(&host, "dest/new", "by hand, too\n");
    let before = there(&host);
    scenario.run(&BACK).expect(4).expect_stdout(&[
        "! a",
        "undoes a change on the host",
        "! new",
        "deletes what changed there",
        "left alone: 2 conflicts",
        "hostsync rollback --limit 127.2.20.4",
    ]);
    assert_back(&before, &host);

    let (code, shown) = answer(&mut run_in_terminal(&scenario, "rollback"), b"yes\n");
    assert_eq!(code, Some(0), "{shown}");
    assert!(
        shown.contains("2 conflicts are replaced or deleted"),
        "{shown}"
    );
    assert_eq!(read_on(&host, "dest/a").unwrap(), "first\n");
    assert_eq!(read_on(&host, "dest/new"), None);
    // What was there by hand can be had again, too.
    scenario.run(&BACK).expect(0);
    assert_back(&before, &host);
}

#[test]
fn what_was_not_ours_before_the_plan_is_not_ours_after_the_rollback() {
    let (host, scenario) = site("127.2.20.5");
    scenario.write("src/theirs", "ours\n");
    scenario.write("src/drifted", "first\n");
    write_on(&host, "dest/theirs", "theirs\n");
    write_on(&host, "dest/beside", "nobody's business\n");
    let overwrite = ["apply", "--auto-approve", "--on-conflict", "overwrite"];
    let skip = ["apply", "--auto-approve", "--on-conflict", "skip"];
    scenario.run(&skip).expect(0);
    write_on(&host, "dest/drifted", "by hand\n");
    let (before, planned) = (there(&host), scenario.changes(&host));
    assert_eq!(planned.len(), 2, "{planned:?}");
    scenario.run(&overwrite).expect(0);
    scenario.run(&BACK).expect(0);
    assert_back(&before, &host);
    assert_eq!(scenario.changes(&host), planned);
}

#[test]
fn folder_that_the_plan_created_stays_when_somebody_keeps_something_in_it() {
    let (host, scenario) = site("127.2.20.6");
    scenario.write("src/a", "a\n");
    scenario.apply();
    scenario.write("src/folder/ours", "ours\n");
    scenario.apply();
    write_on(&host, "dest/folder/theirs", "theirs\n");
    let end = scenario.run(&BACK).expect(0);
    end.expect_stdout(&["1 folder with something else in it kept"]);
    assert_eq!(read_on(&host, "dest/folder/theirs").unwrap(), "theirs\n");
    assert_eq!(read_on(&host, "dest/folder/ours"), None);
}

#[test]
fn folder_that_somebody_removed_is_made_again_for_what_comes_back() {
    let (host, scenario) = site("127.2.20.7");
    scenario.write("src/a/b/file", "first\n");
    scenario.apply();
    let before = there(&host);
    scenario.write("src/a/b/file", "second\n");
    scenario.apply();
    remove(&host.dir().join("dest/a"));
    scenario.run(&BACK).expect(0);
    assert_back(&before, &host);
}

#[test]
fn retries_of_a_plan_are_undone_with_it_and_a_rollback_that_is_not_complete_goes_on() {
    let mut hosts = ["127.2.20.8", "127.2.20.9"].map(Sshd::start);
    let mut scenario = of(&hosts[0]);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    scenario.add(&hosts[1], &mapping);
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    let text_on = |host: &Sshd| read_on(host, "dest/a").unwrap();
    hosts[1].stop();
    scenario.run(&["apply", "--auto-approve"]).expect(3);
    hosts[1].restart();
    scenario.apply();
    assert_eq!(hosts.each_ref().map(text_on), ["second\n", "second\n"]);

    hosts[1].stop();
    scenario
        .run(&BACK)
        .expect(3)
        .expect_stdout(&["Undoes apply 2 of ", "and apply 3, which went on with it."]);
    assert_eq!(hosts.each_ref().map(text_on), ["first\n", "second\n"]);
    hosts[1].restart();
    scenario.run(&BACK).expect(0).expect_stdout(&[
        "Undoes apply 2 of ",
        "This goes on with apply 4, which is not complete.",
    ]);
    assert_eq!(hosts.each_ref().map(text_on), ["first\n", "first\n"]);
}

#[test]
fn saved_plan_that_was_applied_host_by_host_is_undone_as_a_whole() {
    let hosts = ["127.2.20.10", "127.2.20.11"].map(Sshd::start);
    let mut scenario = of(&hosts[0]);
    scenario.add(
        &hosts[1],
        &json!([{ "src": "src", "dest": "~/dest", "exact": true }]),
    );
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    for host in &hosts {
        let limit = ["apply", "plan.json", "--limit", host.address.as_str()];
        scenario.run(&limit).expect(0);
    }
    scenario.run(&BACK).expect(0);
    for host in &hosts {
        assert_eq!(read_on(host, "dest/a").unwrap(), "first\n");
    }
}

#[test]
fn limit_takes_back_one_host_alone() {
    let hosts = ["127.2.20.12", "127.2.20.13"].map(Sshd::start);
    let mut scenario = of(&hosts[0]);
    scenario.add(&hosts[1], &json!([{ "src": "src", "dest": "~/dest" }]));
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    let limit = ["rollback", "--auto-approve", "--limit", "127.2.20.12"];
    scenario.run(&limit).expect(0);
    let text_on = |host: &Sshd| read_on(host, "dest/a").unwrap();
    assert_eq!(hosts.each_ref().map(text_on), ["first\n", "second\n"]);
}

#[test]
fn hosts_that_were_not_picked_are_named_and_gone_on_with() {
    let hosts = ["127.2.20.20", "127.2.20.21"].map(Sshd::start);
    let mut scenario = of(&hosts[0]);
    scenario.add(&hosts[1], &json!([{ "src": "src", "dest": "~/dest" }]));
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    scenario
        .run(&["rollback", "--auto-approve", "--limit", "127.2.20.20"])
        .expect(0)
        .expect_stdout(&["Not picked, and to be undone as well: 127.2.20.21 (1 host)."]);
    scenario.run(&BACK).expect(0);
    let text_on = |host: &Sshd| read_on(host, "dest/a").unwrap();
    assert_eq!(hosts.each_ref().map(text_on), ["first\n", "first\n"]);
    // Now that it is complete, it is what the next one undoes.
    scenario.run(&BACK).expect(0);
    assert_eq!(hosts.each_ref().map(text_on), ["second\n", "second\n"]);
}

#[test]
fn sources_need_not_be_there() {
    let (host, scenario) = site("127.2.20.22");
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    scenario.remove("src");
    scenario.run(&BACK).expect(0);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "first\n");
}

#[test]
fn what_ran_as_somebody_else_does_not_run_as_the_login_user() {
    let (host, scenario) = site("127.2.20.23");
    scenario.map(
        "127.2.20.23",
        &json!([{ "src": "src", "dest": "~/dest", "exact": "mirror" }]),
    );
    scenario.write("src/a", "a\n");
    scenario.apply();
    // It stays root's.
    let theirs = host.dir().join("dest/runs as root");
    fs::write(&theirs, "theirs\n").unwrap();
    chmod(&theirs, 0o6755);
    let fifo = host.dir().join("dest/fifo");
    run(Command::new("mkfifo").arg(&fifo));
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    scenario.run(&BACK).expect(3).expect_stdout(&[
        "~/dest/fifo was a device or a pipe, which only the backup on the host has",
        "runs as root",
        "the host did not set its permission bits",
    ]);
    let back = || {
        let back = theirs.metadata().unwrap();
        (back.mode() & 0o7777, back.uid() == 0)
    };
    assert_eq!(back(), (0o755, false));
    // Nor does another try do it without a question.
    let end = scenario.run(&BACK).expect(3);
    end.expect_stdout(&[
        "left alone: 1 conflict",
        "! runs as root",
        "would run as its owner or group",
    ]);
    assert_eq!(back(), (0o755, false));
}

#[test]
fn folder_that_is_closed_and_was_forgotten_is_opened_for_what_comes_back() {
    let (host, scenario) = site("127.2.20.27");
    scenario.write("src/c/x", "first\n");
    scenario.write("src/c/u", "first\n");
    scenario.chmod("src/c", 0o555);
    scenario.apply();
    write_on(&host, "dest/c/u", "by hand\n");
    let before = there(&host);
    scenario.chmod("src/c", 0o755);
    scenario.remove("src/c");
    scenario.apply();
    assert_eq!(read_on(&host, "dest/c/x"), None);
    scenario.run(&BACK).expect(0);
    assert_back(&before, &host);
}

#[test]
fn what_drifted_and_was_forgotten_can_be_brought_back_all_the_same() {
    let (host, scenario) = site("127.2.20.28");
    scenario.write("src/z", "first\n");
    scenario.write("src/f", "first\n");
    scenario.apply();
    write_on(&host, "dest/f", "precious edit\n");
    scenario.remove("src/f");
    scenario.write("src/z", "second\n");
    scenario.apply();
    scenario.write("src/f", "new\n");
    scenario
        .run(&["apply", "--auto-approve", "--on-conflict", "overwrite"])
        .expect(0);
    scenario.run(&BACK).expect(0);
    assert_eq!(read_on(&host, "dest/f").unwrap(), "precious edit\n");
}

#[test]
fn rollback_that_was_only_kept_from_saying_that_it_is_complete_can_be_taken_back() {
    let (host, scenario) = site("127.2.20.29");
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    scenario.run(&BACK).expect(0);
    let text = fs::read_to_string(scenario.path("state/state.json")).unwrap();
    let mut state: Value = serde_json::from_str(&text).unwrap();
    state["runs"][2]["is_complete"] = json!(false);
    scenario.write("state/state.json", state.to_string());
    scenario
        .run(&BACK)
        .expect(0)
        .expect_stdout(&["Nothing to roll back on 1 host."]);
    scenario.run(&BACK).expect(0);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "second\n");
}

#[test]
fn apply_that_was_cut_short_goes_with_the_one_that_finished_it_and_with_no_other() {
    let (host, scenario) = site("127.2.20.24");
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.apply();
    // As if it had been killed after its last step.
    let path = "state/hosts/127.2.20.24.json";
    let text = fs::read_to_string(scenario.path(path)).unwrap();
    let mut record: Value = serde_json::from_str(&text).unwrap();
    record["progress"] = json!("in_the_middle");
    record["mappings"][0]["intended"] = record["mappings"][0]["tree"].clone();
    let killed = &mut record["history"]["applies"][1];
    killed["progress"] = json!("in_the_middle");
    killed["backup"] = Value::Null;
    scenario.write(path, record.to_string());

    scenario.apply();
    scenario.write("src/b", "new\n");
    scenario.apply();
    scenario.run(&BACK).expect(0);
    assert_eq!(read_on(&host, "dest/b"), None);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "second\n");
    let end = scenario.run(&["rollback", "--auto-approve", "--to", "1"]);
    end.expect(0);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "first\n");
}

#[test]
fn what_the_backups_do_not_reach_is_refused_and_nothing_is_changed() {
    let (host, scenario) = site("127.2.20.14");
    scenario.settings(&["backups = 2"]);
    for text in ["1\n", "2\n", "3\n", "4\n"] {
        scenario.write("src/a", text);
        scenario.apply();
    }
    let before = there(&host);
    let to = |serial: &'static str| ["rollback", "--auto-approve", "--to", serial];
    scenario.run(&to("1")).expect(3).expect_stdout(&[
        "apply 2 cannot be undone any more",
        "keeps backups of the 2 applies after it, so `--to 2` is as far as it goes back",
    ]);
    scenario.run(&to("5")).expect(1).expect_stderr(&[
        "apply 5 has not been: the state is at serial 4",
        "hostsync state list",
    ]);
    assert_back(&before, &host);
    // A backup that somebody has changed is never taken for what was there.
    let kept = fs::read_dir(host.dir().join(".hostsync")).unwrap();
    let lineage = kept.flatten().find(|entry| entry.path().is_dir()).unwrap();
    let backup = lineage.path().join("127.2.20.14/backup/3/0/a");
    fs::write(&backup, "x\n").unwrap();
    scenario
        .run(&to("2"))
        .expect(3)
        .expect_stdout(&["dest/a cannot be brought back", "nothing was changed"]);
    assert_back(&before, &host);
    fs::write(&backup, "2\n").unwrap();
    scenario.run(&to("2")).expect(0);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "2\n");
}

#[test]
fn without_backups_there_is_no_way_back() {
    let (_host, scenario) = site("127.2.20.15");
    scenario.settings(&["backups = 0"]);
    scenario
        .run(&BACK)
        .expect(0)
        .expect_stdout(&["Nothing to roll back: nothing was applied yet."]);
    scenario.write("src/a", "a\n");
    scenario.apply();
    scenario
        .run(&BACK)
        .expect(3)
        .expect_stdout(&["apply 1 cannot be undone any more: this host keeps no backups"]);
}

#[test]
fn excluded_path_is_left_alone_and_a_mapping_that_went_is_named() {
    let (host, scenario) = site("127.2.20.16");
    scenario.write("src/a", "first\n");
    scenario.write("src/log", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.write("src/log", "second\n");
    scenario.apply();
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true, "exclude": ["log"] }]);
    scenario.map("127.2.20.16", &mapping);
    scenario.run(&BACK).expect(3).expect_stdout(&[
        "Entries that stay as they are",
        "~/dest/log is excluded now, and stays as it is",
        "; 1 entry stays as it is.",
    ]);
    assert_eq!(read_on(&host, "dest/a").unwrap(), "first\n");
    assert_eq!(read_on(&host, "dest/log").unwrap(), "second\n");
    scenario.map(
        "127.2.20.16",
        &json!([{ "src": "src", "dest": "~/elsewhere" }]),
    );
    scenario
        .run(&BACK)
        .expect(3)
        .expect_stdout(&["has written ~/dest, which is no destination of this host any more"]);
}

/// Whether the state says that an apply did not come to its end on the host.
fn is_in_the_middle(scenario: &Scenario, host: &Host) -> bool {
    let record = format!("state/hosts/{}.json", host.address);
    let record: Value = serde_json::from_slice(&fs::read(scenario.path(&record)).unwrap()).unwrap();
    record["progress"] == "in_the_middle"
}

#[test]
fn apply_that_was_killed_can_be_undone_instead_of_finished() {
    let (host, scenario) = site("127.2.20.19");
    scenario.settings(&["max_delete = 100%", "backups = 1000"]);
    change_everything(&scenario);
    let before = there(&host);
    let (mut tried, mut cut_short) = (0, 0);
    while tried < 60 && cut_short < 5 {
        tried += 1;
        let mut program = scenario
            .command(&["apply", "--auto-approve"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while !is_in_the_middle(&scenario, &host) && program.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_micros(200));
        }
        thread::sleep(Duration::from_millis(tried % 4));
        program.kill().unwrap();
        host.cut_connections();
        program.wait().unwrap();
        let is_cut_short = is_in_the_middle(&scenario, &host);
        let end = scenario.run(&["rollback", "--auto-approve", "--to", "1"]);
        let end = end.expect(0);
        assert_eq!(
            end.stdout.contains(" was cut short on 127.2.20.19: "),
            is_cut_short,
            "{end}"
        );
        cut_short += usize::from(is_cut_short);
        assert_back(&before, &host);
        assert!(!is_in_the_middle(&scenario, &host));
    }
    println!("undid {cut_short} applies that were cut short");
    assert!(cut_short > 0);
}

#[test]
fn rollback_that_is_killed_is_finished_by_the_next_one_and_is_no_drift() {
    let (host, scenario) = site("127.2.20.17");
    scenario.settings(&["max_delete = 100%", "backups = 1000"]);
    change_everything(&scenario);
    let before = there(&host);
    scenario.apply();
    let (mut delay, mut killed) = (Duration::from_millis(30), 0);
    loop {
        let mut program = scenario
            .command(&["rollback", "--auto-approve", "--to", "1"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(delay);
        let is_over = program.try_wait().unwrap().is_some();
        if killed % 2 == 0 {
            program.kill().unwrap();
        }
        host.cut_connections();
        program.wait().unwrap();
        let changes = scenario.changes(&host);
        let is_theirs = |it: &String| ["drift", "conflict"].iter().any(|word| it.contains(word));
        assert!(!changes.iter().any(is_theirs), "{delay:?}: {changes:?}");
        scenario
            .run(&["rollback", "--auto-approve", "--to", "1"])
            .expect(0);
        assert_back(&before, &host);
        if is_over {
            break;
        }
        killed += 1;
        scenario.apply();
        delay = delay * 5 / 4;
    }
    println!("killed {killed} rollbacks");
    assert!(killed > 0);
}

/// Numbers that look random, and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 8).unwrap() % end
    }
}

/// Changes some entries of the source, whatever they are.
fn edit_at_random(scenario: &Scenario, numbers: &mut Numbers) {
    const PATHS: [&str; 8] = ["a", "b", "c", "c/d", "c/e", "c/e/f", "g", "g/h"];
    for _ in 0..6 {
        let path = format!("src/{}", PATHS[numbers.below(PATHS.len())]);
        let at = scenario.path(&path);
        let root = scenario.path("src");
        let parents = at.ancestors().skip(1).take_while(|parent| **parent != root);
        for parent in parents.collect::<Vec<_>>().into_iter().rev() {
            if parent.is_symlink() || parent.is_file() {
                remove(parent);
            }
            fs::create_dir(parent).unwrap_or_default();
        }
        if at.symlink_metadata().is_ok() && numbers.below(3) > 0 {
            remove(&at);
        }
        match numbers.below(5) {
            _ if at.symlink_metadata().is_ok() && !at.is_symlink() => {
                chmod(
                    &at,
                    [0o755, 0o700, 0o500, 0o644, 0o4755][numbers.below(5)] | 0o300,
                );
            }
            0 => symlink(["a", "nowhere"][numbers.below(2)], &at).unwrap_or_default(),
            1 => fs::create_dir(&at).unwrap_or_default(),
            2 => {}
            _ if at.is_symlink() => {}
            _ => fs::write(&at, format!("text {}\n", numbers.below(4))).unwrap(),
        }
    }
}

#[test]
fn every_earlier_apply_can_be_gone_back_to_whatever_the_plans_were() {
    const ROUNDS: u64 = 12;
    let (host, scenario) = site("127.2.20.18");
    scenario.settings(&["max_delete = 100%", "backups = 100"]);
    let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
    // By serial, what was there after it.
    let mut past = vec![there(&host)];
    let mut went_back = 0;
    for _ in 0..ROUNDS {
        for _ in 0..3 {
            edit_at_random(&scenario, &mut numbers);
            let end = scenario.apply();
            if end.stdout.contains("serial") {
                past.push(there(&host));
            }
        }
        let to = numbers.below(past.len() - 1);
        let to_text = to.to_string();
        let end = scenario.run(&["rollback", "--auto-approve", "--to", &to_text]);
        let end = end.expect(0);
        assert_back(&past[to], &host);
        if end.stdout.contains("serial") {
            past.push(there(&host));
            went_back += 1;
        }
    }
    println!("went back {went_back} times");
    assert!(went_back > 6);
}

#[test]
fn rollback_that_goes_on_undoes_nothing_but_its_plan() {
    let mut hosts = ["127.2.20.25", "127.2.20.26"].map(Sshd::start);
    let mut scenario = of(&hosts[0]);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    scenario.add(&hosts[1], &mapping);
    scenario.write("src/a", "first\n");
    scenario.apply();
    // A saved plan in two portions, and another plan on the first host in between.
    scenario.write("src/a", "second\n");
    scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    let portion = |host: &str| scenario.run(&["apply", "plan.json", "--limit", host]);
    portion("127.2.20.25").expect(0);
    scenario.map(
        "127.2.20.25",
        &json!([{ "src": "other", "dest": "~/other" }]),
    );
    scenario.write("other", "another plan\n");
    let other = ["apply", "--auto-approve", "--limit", "127.2.20.25"];
    scenario.run(&other).expect(0);
    scenario.remove("other");
    scenario.map("127.2.20.25", &mapping);
    portion("127.2.20.26").expect(0);
    let text_on = |host: &Sshd| read_on(host, "dest/a").unwrap();
    assert_eq!(hosts.each_ref().map(text_on), ["second\n", "second\n"]);

    hosts[1].stop();
    scenario.run(&BACK).expect(3);
    hosts[1].restart();
    scenario.run(&BACK).expect(0);
    assert_eq!(text_on(&hosts[1]), "first\n");
    // What came after the plan on that host was none of it.
    assert_eq!(text_on(&hosts[0]), "second\n");
    assert_eq!(read_on(&hosts[0], "other").unwrap(), "another plan\n");
}
