//! What drifted, and which hosts agree.

use std::net::TcpListener;

use serde_json::{Value, json};

use hostsync_testkit::Sshd;
use hostsync_testkit::copied::{Contents, assert_untouched};
use hostsync_testkit::scenario::{Scenario, chmod, remove, write_on};

/// A host that has `a`, `b` and `sub/c`.
fn applied(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let scenario = Scenario::of_folder(&host);
    for name in ["a", "b", "sub/c"] {
        scenario.write(&format!("src/{name}"), "first\n");
    }
    scenario.apply();
    (host, scenario)
}

/// The status as JSON.
#[track_caller]
fn status(scenario: &Scenario) -> Value {
    let output = scenario.run(&["status", "--format", "json"]);
    serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
}

/// How the first mapping of the first host stands: its state, what has drifted, how much there is to
/// be applied.
#[track_caller]
fn standing(scenario: &Scenario) -> (String, Vec<String>, u64) {
    let mapping = &status(scenario)["hosts"][0]["mappings"][0];
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let drift = mapping["drift"].as_array().expect("a list").iter();
    let drift: Vec<String> = drift
        .map(|it| format!("{} {}", text(&it["path"]), text(&it["change"])))
        .collect();
    assert_eq!(mapping["drifted"], drift.len());
    let to_apply = mapping["to_apply"].as_u64().expect("a number");
    (text(&mapping["state"]), drift, to_apply)
}

#[test]
fn hosts_that_agree_are_one_row_and_nothing_is_touched() {
    let hosts = ["127.2.15.1", "127.2.15.2"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    scenario.write("src/a", "text\n");
    scenario.apply();
    let on_host = Contents::of(&hosts[0].dir());
    let state = Contents::of(&scenario.path("state/hosts"));
    let output = scenario.run(&["status"]).expect(0);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "host                      ~/dest");
    assert_eq!(lines[1], "127.2.15.[1-2] (2 hosts)  agrees");
    assert!(lines[4].starts_with("  serial 1, 20"), "{output}");
    assert_eq!(lines[6..], ["Status: 2 of 2 hosts agree."]);
    assert_untouched(&on_host, &hosts[0].dir());
    assert_untouched(&state, &scenario.path("state/hosts"));
}

#[test]
fn what_somebody_did_on_the_host_is_drift() {
    let (host, scenario) = applied("127.2.15.3");
    assert_eq!(standing(&scenario), ("agrees".to_owned(), Vec::new(), 0));
    write_on(&host, "dest/a", "by hand\n");
    chmod(&host.dir().join("dest/b"), 0o600);
    remove(&host.dir().join("dest/sub"));
    let expected = ["a changed", "b mode", "sub removed", "sub/c removed"];
    let (state, drift, to_apply) = standing(&scenario);
    assert_eq!((state.as_str(), to_apply), ("drifted", 4));
    assert_eq!(drift, expected);
    let text = "Changed on the hosts since the last apply
  127.2.15.3
    ~/dest/a      changed
    ~/dest/b      mode set to 0600
    ~/dest/sub    removed
    ~/dest/sub/c  removed
";
    let output = scenario.run(&["status"]).expect(0);
    assert!(output.stdout.contains(text), "{output}");
    assert!(
        output
            .stdout
            .ends_with("\nStatus: 0 of 1 host agree; 1 drifted (4 entries).\n")
    );
}

#[test]
fn source_that_changed_is_no_drift() {
    let (host, scenario) = applied("127.2.15.4");
    scenario.write("src/a", "second\n");
    scenario.write("src/new", "new\n");
    assert_eq!(standing(&scenario), ("behind".to_owned(), Vec::new(), 2));
    write_on(&host, "dest/b", "by hand\n");
    let (state, drift, to_apply) = standing(&scenario);
    assert_eq!((state.as_str(), to_apply), ("both", 3));
    assert_eq!(drift, ["b changed"]);
    scenario
        .run(&["status"])
        .expect(0)
        .expect_stdout(&["1 drifted, 3 to apply", "1 drifted (1 entry); 1 behind."]);
}

#[test]
fn drift_is_found_where_a_plan_has_nothing_to_do() {
    let (host, scenario) = applied("127.2.15.5");
    // The source no longer has it, and the mapping leaves it alone.
    scenario.remove("src/a");
    assert_eq!(standing(&scenario), ("agrees".to_owned(), Vec::new(), 0));
    write_on(&host, "dest/a", "by hand\n");
    // Somebody has brought it to where the source is.
    scenario.write("src/b", "second\n");
    write_on(&host, "dest/b", "second\n");
    let (state, drift, to_apply) = standing(&scenario);
    assert_eq!((state.as_str(), to_apply), ("drifted", 0));
    assert_eq!(drift, ["a changed", "b changed"]);
    scenario.run(&["plan", "--detailed-exitcode"]).expect(0);
}

#[test]
fn orphan_that_drifted_is_found_where_apply_leaves_it_alone() {
    let host = Sshd::start("127.2.15.9");
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    scenario.write("src/a", "first\n");
    scenario.write("src/b", "first\n");
    scenario.apply();
    scenario.remove("src/a");
    assert_eq!(standing(&scenario), ("behind".to_owned(), Vec::new(), 1));
    write_on(&host, "dest/a", "by hand\n");
    let drift = vec!["a changed".to_owned()];
    assert_eq!(standing(&scenario), ("drifted".to_owned(), drift, 0));
}

#[test]
fn apply_that_did_not_come_to_its_end_is_said() {
    let (_host, scenario) = applied("127.2.15.10");
    let record = "state/hosts/127.2.15.10.json";
    let text = std::fs::read_to_string(scenario.path(record)).expect("a record");
    let text = text.replace("\"finished\"", "\"in_the_middle\"");
    scenario.write(record, text);
    let host = &status(&scenario)["hosts"][0];
    assert_eq!(host["in_the_middle"], true);
    assert_eq!(host["mappings"][0]["state"], "agrees");
    scenario.run(&["status"]).expect(0).expect_stdout(&[
        ", not finished: 127.2.15.10",
        "Status: 0 of 1 host agree; 1 in the middle of an apply.",
    ]);
}

#[test]
fn host_without_a_record_was_never_applied_to() {
    let (host, scenario) = applied("127.2.15.6");
    let mappings = json!([
        { "src": "src", "dest": "~/dest" },
        { "src": "src", "dest": "~/second" },
    ]);
    scenario.map(&host.address, &mappings);
    let document = status(&scenario);
    let mappings = &document["hosts"][0]["mappings"];
    assert_eq!(mappings[0]["state"], "agrees");
    assert_eq!(mappings[1]["state"], "never_applied");
    assert_eq!(mappings[1]["to_apply"], 5);
    assert_eq!(document["hosts"][0]["serial"], 1);
    scenario.run(&["status"]).expect(0).expect_stdout(&[
        "never applied",
        "0 of 1 host agree; 1 with a mapping never applied.",
    ]);
    scenario.run(&["state", "forget", "127.2.15.6"]).expect(0);
    let document = status(&scenario);
    assert_eq!(document["hosts"][0]["serial"], Value::Null);
    assert_eq!(
        document["hosts"][0]["mappings"][0]["state"],
        "never_applied"
    );
    assert_eq!(document["hosts"][0]["mappings"][0]["to_apply"], 0);
}

#[test]
fn host_that_is_down_ends_with_3_and_keeps_its_last_apply() {
    let listener = TcpListener::bind("127.2.15.8:0").expect("a loopback address");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let (good, mut scenario) = applied("127.2.15.7");
    let entry = json!({ "ip_address": "127.2.15.8", "port": port, "user": "nobody" });
    scenario.add_entry(entry, &json!([{ "src": "src", "dest": "~/dest" }]));
    let output = scenario.run(&["status", "--format", "json"]).expect(3);
    let document: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(
        document["summary"],
        json!({
            "hosts": 2, "agree": 1, "drifted": 0, "behind": 0, "never_applied": 0,
            "in_the_middle": 0, "unreachable": 1, "failed": 0, "drifted_entries": 0, "to_apply": 0,
        })
    );
    let down = &document["hosts"][1];
    assert_eq!(
        (&down["host"], &down["status"]),
        (&json!("127.2.15.8"), &json!("unreachable"))
    );
    assert_eq!(down["mappings"][0]["state"], Value::Null);
    scenario.run(&["status"]).expect(3).expect_stdout(&[
        "Hosts that could not be looked at",
        "127.2.15.8 unreachable",
        "Status: 1 of 2 hosts agrees; 1 unreachable.",
    ]);
    scenario
        .run(&["status", "--limit", &good.address])
        .expect(0)
        .expect_stdout(&["Status: 1 of 1 host agrees."]);

    // Nobody can log in to the other one either, but what was written to it is known.
    scenario.set(0, "port", json!(port));
    let document = status(&scenario);
    let host = &document["hosts"][0];
    assert_eq!(
        (&host["status"], &host["serial"]),
        (&json!("unreachable"), &json!(1))
    );
    assert!(host["applied_at"].is_string(), "{host}");
}

#[test]
fn status_without_a_configuration_or_with_a_wrong_option_fails_as_everywhere() {
    let scenario = Scenario::new();
    scenario.run(&["status", "--format", "xml"]).expect(64);
    scenario.remove("config.ini");
    scenario.run(&["status"]).expect(1);
}

#[test]
fn source_that_turned_up_empty_does_not_hide_what_has_drifted() {
    let host = Sshd::start("127.2.15.20");
    let scenario = Scenario::with(
        &[&host],
        &json!([{ "src": "src", "dest": "~/dest", "exact": true }]),
    );
    for name in ["a", "b", "c"] {
        scenario.write(&format!("src/{name}"), "first\n");
    }
    scenario.apply();
    for name in ["a", "b", "c"] {
        scenario.remove(&format!("src/{name}"));
    }
    write_on(&host, "dest/b", "by hand\n");
    let (state, drift, to_apply) = standing(&scenario);
    assert_eq!((state.as_str(), to_apply), ("both", 2));
    assert_eq!(drift, ["b changed"]);
    // A plan still asks whether that is meant.
    let end = scenario.run(&["plan"]).expect(3);
    end.expect_stdout(&["look whether src is empty or is something else by mistake"]);
}
