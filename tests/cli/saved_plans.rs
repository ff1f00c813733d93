//! Plans that are saved, shown and carried out later, and what has moved meanwhile.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use hostsync_testkit::scenario::{Output, Scenario, backups, read_on, remove, write_on};
use hostsync_testkit::{Host, Sshd};

/// A source with three files on two hosts, applied once, and then edited: a change, a new file and, by
/// `exact`, a delete.
struct Review {
    a: Sshd,
    b: Sshd,
    scenario: Scenario,
}

impl Review {
    fn new(address_a: &str, address_b: &str) -> Self {
        let (a, b) = (Sshd::start(address_a), Sshd::start(address_b));
        let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
        let scenario = Scenario::with(&[&a, &b], &mapping);
        scenario.write("src/changes", "one\n");
        scenario.write("src/goes", "going\n");
        scenario.write("src/stays", "here\n");
        scenario.apply();
        scenario.write("src/changes", "two\n");
        scenario.write("src/comes", "new\n");
        scenario.remove("src/goes");
        Self { a, b, scenario }
    }

    #[track_caller]
    fn save(&self) -> Output {
        self.scenario
            .run(&["plan", "--out", "plan.json", "-q"])
            .expect(0)
    }

    fn apply(&self) -> Output {
        self.scenario.run(&["apply", "plan.json"])
    }

    fn hosts(&self) -> [&Host; 2] {
        [&self.a, &self.b]
    }

    #[track_caller]
    fn assert_untouched(&self) {
        for host in self.hosts() {
            assert_eq!(read_on(host, "dest/comes"), None);
            assert_eq!(read_on(host, "dest/changes").unwrap(), "one\n");
            assert_eq!(read_on(host, "dest/goes").unwrap(), "going\n");
        }
    }

    #[track_caller]
    fn assert_done_on(host: &Host) {
        assert_eq!(read_on(host, "dest/comes").unwrap(), "new\n");
        assert_eq!(read_on(host, "dest/changes").unwrap(), "two\n");
        assert_eq!(read_on(host, "dest/goes"), None);
        assert_eq!(read_on(host, "dest/stays").unwrap(), "here\n");
    }
}

#[test]
fn saved_plan_is_shown_and_carried_out_without_a_question_and_then_it_is_stale() {
    let review = Review::new("127.0.8.1", "127.0.8.2");
    let scenario = &review.scenario;
    let planned = scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    assert!(!planned.stdout.contains("not saved"), "{planned}");
    let shown = scenario.run(&["show", "plan.json"]).expect(0);
    assert_eq!(shown.stdout, planned.stdout);
    assert!(!shown.stderr.contains("warning"), "{shown}");
    scenario
        .run(&["show", "plan.json", "--detailed-exitcode"])
        .expect(2);
    review.assert_untouched();

    review
        .apply()
        .expect(0)
        .expect_stdout(&["3 changes each", "serial 2"]);
    review.hosts().into_iter().for_each(Review::assert_done_on);
    scenario.expect_nothing_to_do();

    review
        .apply()
        .expect(4)
        .expect_stderr(&["the plan is stale", "applied already (serial 2)"]);
    let shown = scenario.run(&["show", "plan.json"]).expect(0);
    assert_eq!(shown.stdout, planned.stdout);
    shown.expect_stderr(&["warning: the plan is stale", "applied already"]);
}

#[test]
fn plan_is_stale_as_a_whole_when_a_source_has_changed() {
    let review = Review::new("127.0.8.3", "127.0.8.4");
    review.save();
    // Even where the plan does not touch it.
    review.scenario.write("src/stays", "elsewhere\n");
    review
        .apply()
        .expect(4)
        .expect_stderr(&["the plan is stale: source src has changed", "plan again"]);
    review.assert_untouched();
    review.scenario.write("src/stays", "here\n");
    review.apply().expect(0);
    review.hosts().into_iter().for_each(Review::assert_done_on);
}

#[test]
fn plan_is_stale_as_a_whole_when_the_configuration_or_the_state_is_another() {
    let review = Review::new("127.0.8.5", "127.0.8.6");
    let scenario = &review.scenario;
    review.save();
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    scenario.map(&review.a.address, &mapping);
    review
        .apply()
        .expect(4)
        .expect_stderr(&["the plan is stale: the configuration has changed"]);
    scenario
        .run(&["show", "plan.json"])
        .expect(0)
        .expect_stderr(&["warning", "the configuration has changed"]);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    scenario.map(&review.a.address, &mapping);

    fs::rename(scenario.path("state"), scenario.path("elsewhere")).unwrap();
    review
        .apply()
        .expect(4)
        .expect_stderr(&["it was made from the state", "there is no state here"]);
    review.assert_untouched();
    // A plan of the first apply, in a state that others have written to since.
    scenario.run(&["plan", "--out", "first.json"]).expect(0);
    fs::remove_dir_all(scenario.path("state")).unwrap();
    fs::rename(scenario.path("elsewhere"), scenario.path("state")).unwrap();
    scenario
        .run(&["apply", "first.json"])
        .expect(4)
        .expect_stderr(&["it was made before the first apply", "the state here is"]);
    review.assert_untouched();

    // An older state that somebody brought back.
    let identity = fs::read_to_string(scenario.path("state/state.json")).unwrap();
    let older = identity.replace("\"serial\": 1", "\"serial\": 0");
    assert_ne!(older, identity);
    scenario.write("state/state.json", older);
    review
        .apply()
        .expect(4)
        .expect_stderr(&["it was made at serial 1, and the state here is at serial 0"]);
    scenario.write("state/state.json", identity);
    review.apply().expect(0);
}

#[test]
fn host_on_which_an_entry_moved_is_left_alone() {
    let review = Review::new("127.0.8.7", "127.0.8.8");
    review.save();
    write_on(&review.a, "dest/changes", "theirs\n");
    // Nobody asked for this one: it is none of the plan's business.
    write_on(&review.b, "dest/stays", "theirs, too\n");
    let output = review.apply().expect(4);
    let output = output.expect_stdout(&[
        "127.0.8.7: left alone, no longer as planned: ~/dest/changes has changed since the plan",
        "127.0.8.8: 3 changes",
        "1 host no longer as planned",
    ]);
    assert_eq!(read_on(&review.a, "dest/changes").unwrap(), "theirs\n");
    assert_eq!(read_on(&review.a, "dest/comes"), None, "{output}");
    assert_eq!(read_on(&review.a, "dest/goes").unwrap(), "going\n");
    assert_eq!(read_on(&review.b, "dest/comes").unwrap(), "new\n");
    assert_eq!(read_on(&review.b, "dest/stays").unwrap(), "theirs, too\n");
    // As soon as it is as it was, the rest of the plan is done.
    write_on(&review.a, "dest/changes", "one\n");
    review
        .apply()
        .expect(0)
        .expect_stdout(&["127.0.8.7: 3 changes"]);
    Review::assert_done_on(&review.a);
    review.apply().expect(4).expect_stderr(&["applied already"]);
}

#[test]
fn every_way_in_which_an_entry_can_move_is_told() {
    let review = Review::new("127.0.8.9", "127.0.8.10");
    review.save();
    let expect = |what: &str| {
        review.apply().expect(4).expect_stdout(&[what]);
        review.scenario.run(&["show", "plan.json"]).expect(0);
    };
    let [a, b] = review.hosts();
    let dest = |host: &Host, name: &str| host.dir().join("dest").join(name);
    for host in [a, b] {
        write_on(host, "dest/comes", "theirs\n");
    }
    expect("~/dest/comes has appeared since the plan was made");
    for host in [a, b] {
        remove(&dest(host, "comes"));
        remove(&dest(host, "goes"));
    }
    expect("~/dest/goes is gone since the plan was made");
    for host in [a, b] {
        fs::create_dir(dest(host, "goes")).unwrap();
        host.account.own(&dest(host, "goes"));
    }
    expect("~/dest/goes is of another kind since the plan was made");
    for host in [a, b] {
        remove(&dest(host, "goes"));
        write_on(host, "dest/goes", "going\n");
        hostsync_testkit::scenario::chmod(&dest(host, "goes"), 0o600);
    }
    expect("~/dest/goes has other permission bits since the plan was made");
    for host in [a, b] {
        assert_eq!(read_on(host, "dest/changes").unwrap(), "one\n");
    }
}

#[test]
fn host_that_a_later_apply_wrote_is_left_alone() {
    let review = Review::new("127.0.8.11", "127.0.8.12");
    let scenario = &review.scenario;
    review.save();
    let only_b = ["apply", "--auto-approve", "--limit", "127.0.8.12"];
    scenario.run(&only_b).expect(0);
    let output = review.apply().expect(4);
    output.expect_stdout(&[
        "127.0.8.11: 3 changes",
        "127.0.8.12: left alone, no longer as planned: apply 2 wrote its state",
        "after this plan was made (serial 1)",
    ]);
    Review::assert_done_on(&review.a);
}

#[test]
fn part_of_a_saved_plan_can_be_carried_out_before_the_rest() {
    let review = Review::new("127.0.8.13", "127.0.8.14");
    let scenario = &review.scenario;
    review.save();
    let limited = ["apply", "plan.json", "--limit", "127.0.8.13"];
    scenario.run(&limited).expect(0);
    Review::assert_done_on(&review.a);
    assert_eq!(read_on(&review.b, "dest/comes"), None);
    scenario
        .run(&limited)
        .expect(4)
        .expect_stderr(&["applied already"]);
    review
        .apply()
        .expect(0)
        .expect_stdout(&["127.0.8.14: 3 changes"]);
    Review::assert_done_on(&review.b);
    scenario.expect_nothing_to_do();
}

#[test]
fn plan_of_some_hosts_says_nothing_of_others() {
    let review = Review::new("127.0.8.15", "127.0.8.16");
    let scenario = &review.scenario;
    let limited = ["plan", "--out", "plan.json", "--limit", "127.0.8.15"];
    scenario.run(&limited).expect(0);
    scenario
        .run(&["apply", "plan.json", "--limit", "127.0.8.16"])
        .expect(1)
        .expect_stderr(&["the plan does not have host `127.0.8.16`"]);
    review.apply().expect(0);
    Review::assert_done_on(&review.a);
    assert_eq!(read_on(&review.b, "dest/comes"), None);
}

#[test]
fn conflicts_of_a_saved_plan_are_approved_with_the_rest_unless_told_otherwise() {
    let review = Review::new("127.0.8.17", "127.0.8.18");
    let scenario = &review.scenario;
    for host in review.hosts() {
        write_on(host, "dest/changes", "drifted\n");
    }
    review.save();
    scenario
        .run(&["apply", "plan.json", "--on-conflict", "fail"])
        .expect(4)
        .expect_stdout(&["left alone: 1 conflict"]);
    assert_eq!(read_on(&review.a, "dest/comes"), None);
    review.apply().expect(0);
    review.hosts().into_iter().for_each(Review::assert_done_on);
    let drifted = ("changes".to_owned(), "drifted\n".to_owned());
    assert!(backups(&review.a).contains(&drifted));
}

#[test]
fn unreachable_host_stays_out_of_the_plan_and_the_others_are_done() {
    let review = Review::new("127.0.8.19", "127.0.8.20");
    let mut scenario = review.scenario;
    let port = json!(review.b.port);
    scenario.set(1, "port", json!(1));
    scenario
        .run(&["plan", "--out", "plan.json"])
        .expect(3)
        .expect_stdout(&["127.0.8.20 unreachable"]);
    scenario
        .run(&["apply", "plan.json"])
        .expect(3)
        .expect_stdout(&["127.0.8.19: 3 changes", "when the plan was made"]);
    Review::assert_done_on(&review.a);
    scenario.run(&["apply", "plan.json"]).expect(4);
    scenario.set(1, "port", port);
    scenario.apply();
    Review::assert_done_on(&review.b);
}

#[test]
fn run_that_was_killed_half_way_is_finished_by_the_same_plan() {
    let review = Review::new("127.0.8.21", "127.0.8.22");
    let scenario = &review.scenario;
    review.save();
    let record_path = scenario.path("state/hosts/127.0.8.21.json");
    let record = || -> Value { serde_json::from_slice(&fs::read(&record_path).unwrap()).unwrap() };
    let before = record()["mappings"].clone();
    let tree = before[0]["tree"].as_str().unwrap().to_owned();
    let tree = scenario.path(&format!("state/trees/{tree}.json"));
    let manifest = fs::read(&tree).unwrap();
    review.apply().expect(0);

    // As a run leaves it that is killed between two steps: the state says that the host is in the
    // middle, and the host has a part of it.
    let mut half_way = record();
    half_way["progress"] = json!("in_the_middle");
    half_way["listing"] = Value::Null;
    half_way["mappings"] = before;
    fs::write(&tree, manifest).unwrap();
    fs::write(&record_path, half_way.to_string()).unwrap();
    write_on(&review.a, "dest/changes", "one\n");
    review
        .apply()
        .expect(0)
        .expect_stdout(&["127.0.8.21: 1 change"]);
    Review::assert_done_on(&review.a);
    scenario.expect_nothing_to_do();
}

#[test]
fn killed_client_loses_nothing_and_the_same_plan_ends_it() {
    let review = Review::new("127.0.8.23", "127.0.8.24");
    let scenario = &review.scenario;
    for number in 0..300 {
        scenario.write(&format!("src/many/{number}"), format!("{number}\n"));
    }
    review.save();
    for delay in [30, 60, 90, 120, 160, 200] {
        let mut command: Command = scenario.command(&["apply", "plan.json", "-q"]);
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(delay));
        // It may have ended already.
        let _ = child.kill();
        let _ = child.wait();
    }
    let last = review.apply();
    assert!(
        last.code == 0 || (last.code == 4 && last.stderr.contains("applied already")),
        "{last}"
    );
    for host in review.hosts() {
        Review::assert_done_on(host);
        assert_eq!(read_on(host, "dest/many/299").unwrap(), "299\n");
    }
    review.apply().expect(4).expect_stderr(&["applied already"]);
    scenario.expect_nothing_to_do();
}

#[test]
fn plan_without_a_look_needs_neither_hosts_nor_secrets_and_is_checked_when_it_is_applied() {
    let mut review = Review::new("127.0.8.25", "127.0.8.26");
    let key = review.a.identity_file().to_str().unwrap().to_owned();
    let port = review.a.port;
    review.scenario.set(0, "port", json!(1));
    review
        .scenario
        .set(0, "identity_file", json!("no/such/key"));
    let planned = review
        .scenario
        .run(&["plan", "--refresh", "none"])
        .expect(0)
        .expect_stdout(&["Planned from the state alone: no host was looked at"]);
    assert!(
        planned
            .stdout
            .contains("2 to create, 2 to update, 2 to delete"),
        "{planned}"
    );
    review.scenario.set(0, "port", json!(port));
    review.scenario.set(0, "identity_file", json!(key));

    write_on(&review.b, "dest/changes", "theirs\n");
    let saved = [
        "plan",
        "--refresh",
        "none",
        "--out",
        "plan.json",
        "--format",
        "json",
    ];
    let saved = review.scenario.run(&saved).expect(0);
    let document: Value = serde_json::from_str(&saved.stdout).unwrap();
    assert_eq!(document["refresh"], "none");
    review
        .apply()
        .expect(4)
        .expect_stdout(&["127.0.8.26: left alone, no longer as planned: ~/dest/changes"]);
    Review::assert_done_on(&review.a);
    assert_eq!(read_on(&review.b, "dest/changes").unwrap(), "theirs\n");
}

#[test]
fn damaged_plan_files_are_refused_and_nothing_is_touched() {
    let review = Review::new("127.0.8.27", "127.0.8.28");
    let scenario = &review.scenario;
    review.save();
    let whole = fs::read_to_string(scenario.path("plan.json")).unwrap();
    for end in (0..whole.len() - 2).step_by(whole.len() / 23) {
        scenario.write("cut.json", &whole[..end]);
        for command in [["apply", "cut.json"], ["show", "cut.json"]] {
            scenario.run(&command).expect(1).expect_stderr(&[
                "this is not a saved plan",
                "line",
                "--out FILE",
            ]);
        }
    }
    let edits = [
        ("\"path\": \"comes\"", "\"path\": \"cometh\"", "was edited"),
        ("127.0.8.27\"", "127.0.8.29\"", "was edited"),
        ("\"serial\": 1", "\"serial\": 2", "was edited"),
        ("\"~/dest\"", "\"~/nest\"", "was edited"),
        ("\"1.0\"", "\"2.0\"", "format version `2.0`"),
        (
            "\"path\": \"comes\"",
            "\"path\": \"../comes\"",
            "is damaged",
        ),
    ];
    for (from, to, said) in edits {
        assert!(whole.contains(from), "{from} is not in {whole}");
        scenario.write("edited.json", whole.replacen(from, to, 1));
        for command in [["apply", "edited.json"], ["show", "edited.json"]] {
            scenario.run(&command).expect(1).expect_stderr(&[said]);
        }
    }
    let not_plans = [
        ("state/state.json", "not a saved plan"),
        ("src", "cannot read"),
        ("no", "cannot read"),
    ];
    for (file, said) in not_plans {
        let output = scenario.run(&["apply", file]).expect(1);
        output.expect_stderr(&[said, file]);
    }
    review.assert_untouched();
    // White space is no edit.
    let compact: String = whole.lines().map(str::trim).collect();
    scenario.write("plan.json", compact);
    review.apply().expect(0);
}

#[test]
fn plan_that_cannot_be_saved_is_an_error_that_names_the_file() {
    let review = Review::new("127.0.8.29", "127.0.8.30");
    review
        .scenario
        .run(&["plan", "--out", "no/folder/plan.json"])
        .expect(1)
        .expect_stderr(&[
            "cannot write plan file no/folder/plan.json",
            "is the folder there",
        ]);
}

#[test]
fn plan_is_carried_out_from_another_checkout_whose_files_have_other_times_and_modes() {
    let review = Review::new("127.0.8.31", "127.0.8.32");
    let scenario = &review.scenario;
    scenario.settings(&["modes = executable"]);
    review.save();
    let elsewhere = tempfile::tempdir().unwrap();
    let copy = elsewhere.path().join("checkout");
    // Neither times nor modes, as from a version control system of somebody with another umask.
    let mut cp = Command::new("sh");
    let script = "umask 007; mkdir \"$2\"; cd \"$1\"; tar -cf - --exclude=logs . | \
                  tar -xf - -m --no-same-permissions -C \"$2\"; chmod -R g+w \"$2/src\"";
    cp.args(["-c", script, "sh"])
        .arg(scenario.path("."))
        .arg(&copy);
    assert!(cp.status().unwrap().success());
    let mut apply = scenario.command(&["apply", "plan.json"]);
    apply.current_dir(&copy);
    Output::of(&mut apply).expect(0);
    review.hosts().into_iter().for_each(Review::assert_done_on);
}

#[test]
fn what_somebody_changed_after_the_plan_is_still_seen_after_its_apply() {
    let review = Review::new("127.0.8.33", "127.0.8.34");
    review.save();
    write_on(&review.a, "dest/stays", "theirs\n");
    remove(&review.b.dir().join("dest/stays"));
    review.apply().expect(0);
    let expected = ["update content stays drift conflict"];
    assert_eq!(review.scenario.changes(&review.a), expected);
    assert_eq!(
        review.scenario.changes(&review.b),
        ["create missing stays drift"]
    );
}

#[test]
fn outcome_of_a_saved_plan_is_told_also_where_no_host_can_be_reached() {
    let review = Review::new("127.0.8.35", "127.0.8.36");
    review.save();
    let Review { a, b, mut scenario } = review;
    let hosts = ["127.0.8.35", "127.0.8.36"];
    drop((a, b));
    let output = scenario.run(&["apply", "plan.json", "-q"]).expect(3);
    let output = output.expect_stdout(&hosts);
    let output = output.expect_stdout(&["Nothing applied", "2 hosts failed"]);
    output.expect_stdout(&["do these hosts again:", "hostsync apply plan.json"]);
    scenario.set(0, "port", json!(1));
    scenario.run(&["show", "plan.json"]).expect(0);
}

#[test]
fn plan_with_a_host_that_was_down_says_so_when_it_is_stale() {
    let review = Review::new("127.0.8.37", "127.0.8.38");
    let mut scenario = review.scenario;
    scenario.set(1, "port", json!(1));
    scenario.run(&["plan", "--out", "plan.json"]).expect(3);
    scenario.run(&["show", "plan.json"]).expect(0);
    let detailed = ["show", "plan.json", "--detailed-exitcode"];
    scenario.run(&detailed).expect(3);
    scenario
        .run(&["apply", "plan.json"])
        .expect(3)
        .expect_stdout(&["These need a new plan:", "hostsync plan --limit 127.0.8.38"]);
    scenario
        .run(&["apply", "plan.json"])
        .expect(4)
        .expect_stderr(&["applied already", "it has nothing for 127.0.8.38"]);
}

#[test]
fn host_on_which_the_folder_of_an_entry_moved_is_left_alone() {
    let review = Review::new("127.0.8.39", "127.0.8.40");
    let scenario = &review.scenario;
    scenario.write("src/sub/old", "old\n");
    scenario.run(&["apply", "--auto-approve"]).expect(0);
    scenario.write("src/sub/new", "new\n");
    scenario.write("src/changes", "three\n");
    review.save();
    let sub = |host: &Host| host.dir().join("dest/sub");
    remove(&sub(&review.a));
    remove(&sub(&review.b));
    fs::create_dir(review.b.dir().join("elsewhere")).unwrap();
    review.b.account.own(&review.b.dir().join("elsewhere"));
    std::os::unix::fs::symlink("../elsewhere", sub(&review.b)).unwrap();
    review.apply().expect(4).expect_stdout(&[
        "127.0.8.[39-40] (2 hosts): left alone, no longer as planned: ~/dest/sub is not the folder",
        "These need a new plan",
    ]);
    for host in review.hosts() {
        assert_eq!(read_on(host, "dest/changes").unwrap(), "two\n");
    }
    assert_eq!(read_on(&review.b, "elsewhere/new"), None);
}

#[test]
fn what_appears_in_a_mirror_after_the_plan_is_found_by_the_next_one() {
    let host = Sshd::start("127.2.11.90");
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": "mirror" }]);
    let scenario = Scenario::with(&[&host], &mapping);
    scenario.write("src/a", "first\n");
    scenario.apply();
    scenario.write("src/a", "second\n");
    scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    write_on(&host, "dest/late", "theirs\n");
    scenario.run(&["apply", "plan.json"]).expect(0);
    assert_eq!(
        scenario.changes(&host),
        ["delete extraneous late unmanaged conflict"]
    );
}
