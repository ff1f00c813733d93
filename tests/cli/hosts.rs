//! Hosts that do not answer, do not let us in, or are not meant.

use std::net::TcpListener;

use serde_json::{Value, json};

use hostsync_testkit::copied::assert_same;
use hostsync_testkit::scenario::{Output, Scenario, write_on};
use hostsync_testkit::{Sshd, run};

/// What every host of these tests gets.
fn mapping() -> Value {
    json!([{ "src": "src", "dest": "~/dest" }])
}

fn source(scenario: &Scenario) {
    scenario.write("src/file", "text\n");
}

/// Applies to one good host and one bad one, which must fail alone and say all of `parts`.
#[track_caller]
fn expect_only_the_other(scenario: &Scenario, good: &Sshd, parts: &[&str]) -> Output {
    let output = scenario
        .run(&["apply", "--auto-approve"])
        .expect(3)
        .expect_stdout(parts);
    assert_same(&scenario.path("src"), &good.dir().join("dest"));
    let recorded = scenario.run(&["state", "list"]).expect(0).stdout;
    let hosts: Vec<_> = recorded
        .lines()
        .filter_map(|line| line.split_once(": serial "))
        .map(|(host, _)| host)
        .collect();
    assert_eq!(hosts, [good.address.as_str()], "{recorded}");
    // Nothing is left to do but the bad one, which counts for a plan, too.
    scenario.run(&["plan", "--detailed-exitcode"]).expect(3);
    let limit = good.address.as_str();
    scenario
        .run(&["plan", "--detailed-exitcode", "--limit", limit])
        .expect(0);
    output
}

#[test]
fn host_without_a_server_costs_the_others_nothing() {
    let good = Sshd::start("127.2.3.1");
    let mut scenario = Scenario::with(&[&good], &mapping());
    source(&scenario);
    let listener = TcpListener::bind("127.2.3.2:0").expect("a loopback address");
    let port = listener.local_addr().expect("it is bound").port();
    drop(listener);
    let entry = json!({ "ip_address": "127.2.3.2", "port": port, "user": "nobody" });
    scenario.add_entry(entry, &mapping());
    let place = format!("127.2.3.2:{port}");
    expect_only_the_other(
        &scenario,
        &good,
        &[
            &place,
            "connection refused",
            "hostsync apply --limit 127.2.3.2",
            "1 host unreachable",
        ],
    );
}

#[test]
fn host_that_accepts_and_says_nothing_ends_at_its_timeout() {
    let good = Sshd::start("127.2.3.3");
    let mut scenario = Scenario::with(&[&good], &mapping());
    scenario.settings(&["connect_timeout = 2s"]);
    source(&scenario);
    let silent = TcpListener::bind("127.2.3.4:0").expect("a loopback address");
    let port = silent.local_addr().expect("it is bound").port();
    let entry = json!({ "ip_address": "127.2.3.4", "port": port, "user": "nobody" });
    scenario.add_entry(entry, &mapping());
    expect_only_the_other(
        &scenario,
        &good,
        &["127.2.3.4", "took longer than 2s", "connect_timeout"],
    );
}

#[test]
fn wrong_password_is_said_and_never_shown() {
    let good = Sshd::start("127.2.3.5");
    let bad = Sshd::start("127.2.3.6");
    let mut scenario = Scenario::with(&[&good, &bad], &mapping());
    source(&scenario);
    scenario.set(1, "identity_file", Value::Null);
    scenario.set(1, "passkey", json!("not-the-password-4711"));
    let output = expect_only_the_other(&scenario, &good, &["127.2.3.6", "password"]);
    assert!(!output.to_string().contains("4711"), "{output}");
    assert!(!bad.dir().join("dest").exists());
}

#[test]
fn right_password_lets_us_in() {
    let host = Sshd::start("127.2.3.7");
    let mut scenario = Scenario::with(&[&host], &mapping());
    source(&scenario);
    scenario.set(0, "identity_file", Value::Null);
    scenario.set(0, "passkey", json!(host.account.password));
    scenario.apply();
    assert_same(&scenario.path("src"), &host.dir().join("dest"));
}

#[test]
fn key_that_the_host_does_not_know_does_not_let_us_in() {
    let good = Sshd::start("127.2.3.8");
    let bad = Sshd::start("127.2.3.9");
    let mut scenario = Scenario::with(&[&good, &bad], &mapping());
    source(&scenario);
    let key = scenario.path("stranger");
    run(std::process::Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(&key));
    scenario.set(1, "identity_file", json!(key));
    expect_only_the_other(&scenario, &good, &["127.2.3.9", "stranger"]);
}

#[test]
fn host_key_that_nobody_confirmed_is_not_accepted() {
    let good = Sshd::start("127.2.3.10");
    let new = Sshd::start("127.2.3.11");
    let scenario = Scenario::with(&[&good, &new], &mapping());
    source(&scenario);
    scenario.write("known_hosts", good.known_hosts_line());
    expect_only_the_other(
        &scenario,
        &good,
        &["127.2.3.11", "SHA256:", "hostsync trust"],
    );
    assert!(!new.dir().join("dest").exists());

    // Somebody confirms it.
    scenario.run(&["trust", "--yes"]).expect(0);
    scenario.apply();
    assert_same(&scenario.path("src"), &new.dir().join("dest"));

    // Another key is another matter.
    let (address, port) = (&new.address, new.port);
    let line = format!("[{address}]:{port} {}\n", good.host_key());
    scenario.write("known_hosts", good.known_hosts_line() + &line);
    scenario.write("src/file", "edited\n");
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(3)
        .expect_stdout(&["127.2.3.11", "known_hosts"]);
    assert_eq!(
        std::fs::read_to_string(new.dir().join("dest/file")).expect("it is there"),
        "text\n"
    );
}

#[test]
fn limit_picks_by_name_address_group_and_glob() {
    let hosts = ["127.2.3.12", "127.2.3.13", "127.2.3.14"].map(Sshd::start);
    let mut scenario = Scenario::new();
    for (host, name) in hosts.iter().zip(["web1", "web2", "db1"]) {
        let mut entry = host.connection_info();
        entry["name"] = json!(name);
        entry["groups"] = json!([if name == "web2" { "blue" } else { "green" }]);
        scenario.add_entry(entry, &mapping());
    }
    let known: String = hosts.iter().map(|host| host.known_hosts_line()).collect();
    scenario.write("known_hosts", known);
    source(&scenario);
    let picked = |limits: &[&str]| {
        let mut args = vec!["plan", "--format", "json"];
        args.extend(limits.iter().flat_map(|limit| ["--limit", *limit]));
        let output = scenario.run(&args).expect(0);
        let plan: Value = serde_json::from_str(&output.stdout).expect("JSON");
        let hosts = plan["hosts"].as_array().expect("hosts").clone();
        hosts
            .iter()
            .map(|host| host["host"].as_str().expect("a name").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(picked(&["web2"]), ["web2"]);
    assert_eq!(picked(&["127.2.3.12"]), ["web1"]);
    assert_eq!(picked(&["web*"]), ["web1", "web2"]);
    assert_eq!(picked(&["127.2.3.1[34]"]), ["web2", "db1"]);
    assert_eq!(picked(&["blue"]), ["web2"]);
    assert_eq!(picked(&["db1", "green"]), ["web1", "db1"]);

    scenario
        .run(&["apply", "--auto-approve", "--limit", "web1"])
        .expect(0);
    let done = hosts
        .each_ref()
        .map(|host| host.dir().join("dest").exists());
    assert_eq!(done, [true, false, false]);

    let output = scenario
        .run(&["apply", "--auto-approve", "--limit", "webb2"])
        .expect(1);
    output.expect_stderr(&["no host matches `webb2`", "did you mean `web2`?"]);
    assert!(!hosts[1].dir().join("dest").exists());
    scenario
        .run(&["plan", "--limit", "web1", "--limit", "nothing*"])
        .expect(1)
        .expect_stderr(&["no host matches `nothing*`"]);
}

#[test]
fn more_hosts_than_connections_are_all_done() {
    let host = Sshd::start("127.2.3.15");
    let mut scenario = Scenario::new();
    scenario.write("known_hosts", host.known_hosts_line());
    scenario.settings(&["number_of_connections = 2"]);
    source(&scenario);
    for index in 0..7 {
        let mut entry = host.connection_info();
        entry["name"] = json!(format!("node{index}"));
        let mapping = json!([{ "src": "src", "dest": format!("~/dest{index}") }]);
        scenario.add_entry(entry, &mapping);
    }
    scenario.apply().expect_stdout(&["node[0-6] (7 hosts)"]);
    for index in 0..7 {
        let dest = host.dir().join(format!("dest{index}"));
        assert_same(&scenario.path("src"), &dest);
    }
    scenario.expect_nothing_to_do();
}

#[test]
fn unlock_says_what_it_found_on_a_host() {
    let host = Sshd::start("127.0.8.51");
    let mut scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text");
    let unlock = ["unlock", "127.0.8.51"];
    scenario.apply();
    let output = scenario.run(&unlock).expect(0);
    assert_eq!(output.stdout, "127.0.8.51: there is no lock\n", "{output}");

    write_on(&host, ".hostsync/lock-before/owner", "12 34 before\n");
    let output = scenario.run(&unlock).expect(0);
    assert_eq!(
        output.stdout,
        "127.0.8.51: removed the lock of process 12, which is gone\n"
    );

    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux has it");
    let boot = boot.trim();
    // The server is alive as long as this runs, and 0 stands for a start that nobody knows.
    let owner = format!("{} 0 {boot}\n", std::process::id());
    write_on(&host, &format!(".hostsync/lock-{boot}/owner"), &owner);
    let output = scenario.run(&unlock).expect(5);
    output.expect_stdout(&["the lock stays: process", "is alive"]);
    scenario.run(&["unlock", "nobody"]).expect(1);
    scenario.set(0, "port", serde_json::json!(1));
    scenario.run(&unlock).expect(3);
}
