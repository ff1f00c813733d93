//! `hostsync migrate` and `hostsync init`.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use crate::old_files::{CONNECTION_INFO, MAPPER};
use hostsync_testkit::Sshd;
use hostsync_testkit::copied::assert_untouched;
use hostsync_testkit::scenario::{Output, Scenario};

/// The plan without the time at which it was made.
fn plan_from_the_state(scenario: &Scenario) -> Value {
    let output = scenario.run(&["plan", "--refresh", "none", "--format", "json"]);
    let mut plan: Value =
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"));
    assert!(plan["created_at"].take().is_string());
    plan
}

/// Runs `migrate`, which must be refused and leave everything as it is.
#[track_caller]
fn expect_refusal(scenario: &Scenario, said: &[&str]) -> Output {
    let before = scenario.contents();
    let output = scenario.run(&["migrate"]).expect(1).expect_stderr(said);
    assert_untouched(&before, &scenario.path(""));
    output
}

#[test]
fn migrated_configuration_goes_on_where_the_old_one_was() {
    let first = Sshd::start("127.2.15.1");
    let second = Sshd::start("127.2.15.2");
    let mappings = json!([{ "src": "src", "dest": "~/dest" }]);
    let mut scenario = Scenario::with(&[&first, &second], &mappings);
    scenario.map(
        "127.2.15.2",
        &json!([
            { "src": "src", "dest": "~/dest" },
            { "src": "src/file", "dest": "~/single/", "exact": true },
        ]),
    );
    scenario.set(1, "passkey", json!("not \"needed\""));
    // Else the plan remarks on it, and the new file needs no remark.
    scenario.chmod("connection_info.json", 0o600);
    scenario.settings(&["max_delete = 20%", "number_of_connections: 2"]);
    scenario.write("src/file", "first\n");
    scenario.apply();
    scenario.write("src/new", "new\n");
    let before = plan_from_the_state(&scenario);
    assert_eq!(before["summary"]["create"], 2, "{before}");

    let output = scenario.run(&["migrate"]).expect(0).expect_stderr(&[
        "Wrote hostsync.toml: 2 hosts, 3 mappings.",
        "it holds passwords, and only you may read it (mode 0600)",
        "hostsync.toml is used from now on",
        "Look at `hostsync plan`",
        "then remove config.ini",
    ]);
    assert!(!output.to_string().contains("needed"), "{output}");
    assert!(output.stdout.is_empty(), "{output}");
    let file = scenario.path("hostsync.toml");
    let mode = file
        .metadata()
        .expect("it was written")
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);

    // Nothing is left of the old form, so nothing of it can be read.
    for old in ["config.ini", "connection_info.json", "path_mapper"] {
        scenario.remove(old);
    }
    assert_eq!(plan_from_the_state(&scenario), before);
    scenario.apply();
    scenario.expect_nothing_to_do();
}

#[test]
fn applied_state_has_no_changes_in_the_new_form() {
    let host = Sshd::start("127.2.15.3");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    scenario.run(&["migrate"]).expect(0);
    scenario.expect_nothing_to_do();
}

#[test]
fn samples_of_the_old_program_give_the_same_plan() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", CONNECTION_INFO);
    scenario.chmod("connection_info.json", 0o600);
    for host in ["x.x.x.x", "y.y.y.y"] {
        scenario.write(&format!("path_mapper/{host}.json"), MAPPER);
    }
    scenario.write("source folder/file path1", "a file\n");
    scenario.make_folder("source folder/file path2");
    let before = plan_from_the_state(&scenario);
    let output = scenario.run(&["migrate"]).expect(0);
    assert!(!output.to_string().contains("passcode"), "{output}");
    scenario.remove("config.ini");
    assert_eq!(plan_from_the_state(&scenario), before);
}

#[test]
fn nothing_is_migrated_over_a_file_that_is_there() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", "[]");
    scenario.write("hostsync.toml", "# mine\n");
    expect_refusal(
        &scenario,
        &[
            "hostsync.toml is there already, and nothing is overwritten",
            "move it away",
        ],
    );
}

#[test]
fn wrong_configuration_is_refused_with_its_errors() {
    let scenario = Scenario::new();
    scenario.settings(&["number_of_conections = 3"]);
    scenario.write(
        "connection_info.json",
        r#"[{"ip_address": "a", "user": "u", "passkey": "hunter2", "prot": 22}]"#,
    );
    let said = [
        "config.ini:",
        "did you mean `number_of_connections`?",
        "connection_info.json:",
        "did you mean `port`?",
    ];
    let output = expect_refusal(&scenario, &said);
    assert!(!output.to_string().contains("hunter2"), "{output}");
    let checked = scenario.run(&["check"]).expect(1);
    assert_eq!(checked.stderr, output.stderr);
}

#[test]
fn host_without_a_mapper_file_is_not_migrated_into_one_that_gets_nothing() {
    let scenario = Scenario::new();
    scenario.write(
        "connection_info.json",
        r#"[{"ip_address": "a", "user": "u"}]"#,
    );
    expect_refusal(
        &scenario,
        &["a: no mapper file path_mapper/a.json", "write one, or `[]`"],
    );
}

#[test]
fn mapper_file_of_nobody_is_told() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", "[]");
    scenario.write("path_mapper/gone.json", "[]");
    scenario
        .run(&["migrate"])
        .expect(0)
        .expect_stderr(&["path_mapper/gone.json: no host has a mapper file of this name"]);
    let text = std::fs::read_to_string(scenario.path("hostsync.toml")).expect("it was written");
    assert!(text.contains("path_mapper/gone.json"), "{text}");
}

#[test]
fn configuration_elsewhere_is_migrated_there_and_has_to_be_named() {
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    scenario.write("config/config.ini", "[DEFAULT]\n");
    scenario.write("config/connection_info.json", "[]");
    scenario.run(&["migrate"]).expect(0).expect_stderr(&[
        "Wrote config/hostsync.toml",
        "It is used where it is named: `hostsync --config config/hostsync.toml plan`",
    ]);
    scenario
        .run(&["--config", "config/hostsync.toml", "check"])
        .expect(0);
    scenario
        .run(&["--config", "config/hostsync.toml", "migrate"])
        .expect(1)
        .expect_stderr(&["is in the new form already"]);
}

#[test]
fn started_configuration_is_valid_and_has_no_hosts_yet() {
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    scenario
        .run(&["init"])
        .expect(0)
        .expect_stderr(&["Wrote hostsync.toml", "`hostsync check`"]);
    scenario
        .run(&["check"])
        .expect(0)
        .expect_stdout(&["0 hosts, 0 mappings; the configuration is valid"]);
    scenario
        .run(&["plan"])
        .expect(0)
        .expect_stdout(&["there are no hosts"]);
}

#[test]
fn examples_in_a_started_configuration_are_valid_too() {
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    scenario.run(&["init"]).expect(0);
    let text = std::fs::read_to_string(scenario.path("hostsync.toml")).expect("it was written");
    // What is a comment for people has a capital letter or more blanks.
    let is_example = |line: &str| {
        line.strip_prefix("# ")
            .is_some_and(|line| line.starts_with("[[") || line.contains(" = "))
    };
    let lines: Vec<&str> = text
        .lines()
        .map(|line| if is_example(line) { &line[2..] } else { line })
        .collect();
    scenario.write("hostsync.toml", lines.join("\n"));
    for source in ["files/welcome.txt", "files/site/x", "keys/db"] {
        scenario.write(source, "x");
    }
    scenario
        .run(&["check"])
        .expect(0)
        .expect_stdout(&["2 hosts, 3 mappings; the configuration is valid"]);
}

#[test]
fn nothing_is_started_where_a_configuration_is() {
    for (file, said) in [
        ("config.ini", "`hostsync migrate`"),
        ("config/config.ini", "`hostsync migrate`"),
        ("hostsync.toml", "`hostsync check`"),
    ] {
        let scenario = Scenario::new();
        scenario.remove("config.ini");
        scenario.write(file, "mine");
        let before = scenario.contents();
        scenario.run(&["init"]).expect(1).expect_stderr(&[
            "there is a configuration already",
            file,
            said,
        ]);
        assert_untouched(&before, &scenario.path(""));
    }
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    scenario
        .run(&["--config", "other.toml", "init"])
        .expect(1)
        .expect_stderr(&["other.toml", "HOSTSYNC_CONFIG"]);
    assert!(!scenario.path("hostsync.toml").exists());
}
