//! What programs read: JSON, colours, pipes.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::Stdio;

use serde_json::{Value, json};

use hostsync_testkit::scenario::{Scenario, remove, write_on};
use hostsync_testkit::{Host, Sshd};

/// The keys of an object, in order.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    keys.sort_unstable();
    keys
}

#[test]
fn plan_as_json_is_the_documented_one() {
    let hosts = ["127.2.7.1", "127.2.7.2"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let mut scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    let silent = json!({ "ip_address": "127.2.7.3", "port": 1, "user": "nobody" });
    scenario.add_entry(silent, &mapping);
    for name in ["a", "b", "goes"] {
        scenario.write(&format!("src/{name}"), "first\n");
    }
    let output = scenario.run(&["plan", "--format", "json"]).expect(3);
    let fresh: Value = serde_json::from_str(&output.stdout).expect("JSON");
    assert_eq!(fresh["lineage"], Value::Null);
    assert_eq!(fresh["serial"], 0);

    scenario.run(&["apply", "--auto-approve"]).expect(3);
    scenario.remove("src/goes");
    scenario.chmod("src/b", 0o700);
    scenario.write("src/a", "second one\n");
    for host in &hosts {
        write_on(host, "dest/a", "by hand\n");
    }
    let plan = scenario.plan();
    assert_eq!(
        keys(&plan),
        [
            "applyable",
            "change_sets",
            "complete",
            "config_digest",
            "created_at",
            "digest",
            "format_version",
            "hosts",
            "lineage",
            "refresh",
            "serial",
            "summary",
            "tool_version"
        ]
    );
    assert_eq!(plan["format_version"], "1.0");
    assert_eq!(plan["complete"], false);
    assert_eq!(plan["applyable"], true);
    assert_eq!(plan["serial"], 1);
    assert!(plan["lineage"].is_string());
    assert_eq!(plan["refresh"], "quick");
    let created = plan["created_at"].as_str().expect("a text");
    created.parse::<jiff::Timestamp>().expect("RFC 3339");
    assert_eq!(
        plan["summary"],
        json!({
            "hosts": 3, "unreachable": 1, "create": 0, "update": 2, "delete": 2, "metadata": 2,
            "adopt": 0, "unchanged": 2, "conflicts": 2, "bytes_to_send": 22,
        })
    );
    // Hosts with the same changes share them.
    let sets = plan["change_sets"].as_array().expect("a list");
    assert_eq!(sets.len(), 1);
    let of = |index: usize| &plan["hosts"][index];
    assert_eq!(of(0)["change_set"], sets[0]["id"]);
    assert_eq!(of(1)["change_set"], sets[0]["id"]);
    assert_eq!(of(0)["error"], Value::Null);
    let source = &of(0)["mappings"][0]["source"];
    assert!(source.is_string());
    assert_eq!(
        of(0)["mappings"],
        json!([{ "src": "src", "dest": "~/dest", "source": source }])
    );
    assert_eq!(of(2)["status"], "unreachable");
    assert_eq!(of(2)["change_set"], Value::Null);
    assert!(
        of(2)["error"]
            .as_str()
            .is_some_and(|error| error.contains("refused"))
    );

    let changes = sets[0]["changes"].as_array().expect("a list");
    let update = &changes[0];
    assert_eq!(
        keys(update),
        [
            "action",
            "after",
            "before",
            "conflict",
            "drift",
            "kind",
            "mapping",
            "path",
            "reason",
            "unmanaged"
        ]
    );
    assert_eq!(update["path"], "a");
    assert_eq!(update["kind"], "file");
    assert_eq!(update["before"]["size"], 8);
    assert_eq!(update["after"]["size"], 11);
    let digest = blake3::hash(b"second one\n").to_hex().to_string();
    assert_eq!(update["after"]["blake3"], json!(digest));
    assert_eq!(changes[2]["after"], Value::Null);
}

#[test]
fn name_that_is_not_utf8_is_whole_in_the_json() {
    let host = Sshd::start("127.2.7.4");
    let scenario = Scenario::of_folder(&host);
    let name = <std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"caf\xe9");
    std::fs::write(scenario.path("src").join(name), "text\n").expect("our folder");
    let plan = scenario.plan();
    let change = &plan["change_sets"][0]["changes"][1];
    assert_eq!(change["path"], "caf\u{fffd}");
    assert_eq!(change["path_base64"], "Y2Fm6Q==");
}

/// A host and a source that make a plan longer than a pipe holds.
fn long(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let scenario = Scenario::of_folder(&host);
    for index in 0..2_000 {
        scenario.write(&format!("src/{index:04} {}", "long name ".repeat(8)), "");
    }
    (host, scenario)
}

#[test]
fn pipe_that_somebody_closes_is_no_error() {
    let (_host, scenario) = long("127.2.7.5");
    for args in [&["plan", "--full"][..], &["plan", "--format", "json"]] {
        let mut child = scenario
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut first = String::new();
        let stdout = child.stdout.take().expect("it is piped");
        let mut reader = BufReader::with_capacity(1, stdout);
        reader.read_line(&mut first).expect("a line");
        drop(reader);
        let mut said = String::new();
        let mut stderr = child.stderr.take().expect("it is piped");
        stderr.read_to_string(&mut said).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{said}");
        assert!(
            !said.contains("error") && !said.contains("panicked"),
            "{said}"
        );
        assert!(!first.is_empty());
    }
}

#[test]
fn output_that_does_not_fit_on_the_disk_is_an_error() {
    let (_host, scenario) = long("127.2.7.6");
    let full = std::fs::File::options()
        .write(true)
        .open("/dev/full")
        .expect("Linux");
    let output = scenario
        .command(&["plan", "--format", "json"])
        .stdout(full)
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[test]
fn colours_are_there_when_they_are_asked_for_and_only_then() {
    let host = Sshd::start("127.2.7.7");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let is_colored = |args: &[&str], variables: &[(&str, &str)]| {
        let mut command = scenario.command(args);
        command.envs(variables.iter().copied());
        let output = command.output().expect("it starts");
        assert_eq!(output.status.code(), Some(0));
        output.stdout.contains(&0x1b)
    };
    let always = ["--color", "always", "plan"];
    let never = ["--color", "never", "plan"];
    assert!(!is_colored(&["plan"], &[]));
    assert!(is_colored(&always, &[]));
    assert!(is_colored(&always, &[("NO_COLOR", "1")]));
    assert!(is_colored(&["plan"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!is_colored(
        &["plan"],
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]
    ));
    assert!(is_colored(
        &["plan"],
        &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "")]
    ));
    assert!(!is_colored(&never, &[("CLICOLOR_FORCE", "1")]));
    assert!(!is_colored(
        &["--color", "always", "plan", "--format", "json"],
        &[]
    ));
}

#[test]
fn data_and_messages_go_to_different_streams() {
    let host = Sshd::start("127.2.7.8");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let output = scenario.run(&["-q", "plan"]).expect(0);
    assert!(output.stderr.is_empty(), "{output}");
    let output = scenario.run(&["-v", "plan", "--format", "json"]).expect(0);
    serde_json::from_str::<Value>(&output.stdout).expect("nothing but JSON");
    assert!(output.stderr.contains("configuration: "), "{output}");
    let hints = |variable: &str| {
        let mut command = scenario.command(&["plan"]);
        let output = command.env("HOSTSYNC_IN_AUTOMATION", variable).output();
        String::from_utf8_lossy(&output.expect("it starts").stdout).contains("is not saved")
    };
    assert!(hints("") && !hints("1"));
}

#[test]
fn plan_changes_nothing_anywhere() {
    let host = Sshd::start("127.2.7.9");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let before = |host: &Host| hostsync_testkit::copied::Contents::of(&host.dir());
    let on_host = before(&host);
    scenario.run(&["plan"]).expect(0);
    hostsync_testkit::copied::assert_untouched(&on_host, &host.dir());
    let state = hostsync_testkit::copied::Contents::of(&scenario.path("state"));
    let kept = state.paths();
    let beside_the_cache: Vec<_> = kept
        .into_iter()
        .filter(|path| !path.starts_with("/cache") && !path.is_empty())
        .collect();
    assert_eq!(beside_the_cache, Vec::<&str>::new());
}

#[test]
fn lines_of_progress_tell_looking_from_applying_and_count_every_host_that_is_visited() {
    let hosts = ["127.2.7.10", "127.2.7.11"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    scenario.write("src/file", "text\n");
    scenario.apply();
    // One host gets a change, the other one only its listing anew.
    remove(&hosts[0].dir().join("dest/file"));
    for base in std::fs::read_dir(hosts[1].dir().join(".hostsync")).expect("it is there") {
        let base = base.expect("an entry").path().join("127.2.7.11");
        for entry in std::fs::read_dir(base).into_iter().flatten() {
            let path = entry.expect("an entry").path();
            if path
                .file_name()
                .is_some_and(|name| name.as_encoded_bytes().starts_with(b"listing"))
            {
                remove(&path);
            }
        }
    }
    let output = scenario.apply();
    let lines: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with('['))
        .collect();
    assert_eq!(lines.len(), 4, "{output}");
    for (line, place) in lines.iter().zip(["[1/2] ", "[2/2] ", "[1/2] ", "[2/2] "]) {
        assert!(line.starts_with(place), "{output}");
    }
    let ends = |end: &str| lines.iter().filter(|line| line.ends_with(end)).count();
    assert_eq!((ends(": looked at"), ends(": applied")), (2, 2), "{output}");
}

#[test]
fn json_of_every_command_shows_what_hides_or_reorders_text() {
    let host = Sshd::start("127.2.7.40");
    let scenario = Scenario::with(
        &[&host],
        &json!([{ "src": "src", "dest": "~/d\u{202e}st" }]),
    );
    let name = "a\u{202e}txt.\u{200b}exe\u{9b}";
    scenario.write(&format!("src/{name}"), "x\n");
    scenario.write("src/plain", "\u{202e}x\n");
    let expect_plain = |args: &[&str]| {
        let output = scenario.run(args).expect(0);
        let acts = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}".contains(c));
        let found = output.stdout.chars().find(|c| acts(*c));
        assert_eq!(found, None, "{args:?}: {output}");
        let first = output.stdout.lines().next().unwrap_or_default().to_owned();
        let whole = serde_json::from_str::<Value>(&output.stdout);
        let json: Value = whole
            .or_else(|_| serde_json::from_str(&first))
            .expect("JSON");
        json
    };
    let plan = expect_plain(&["plan", "--diff", "--format", "json", "--out", "plan.json"]);
    let changes = plan["change_sets"][0]["changes"]
        .as_array()
        .expect("changes");
    assert!(
        changes.iter().any(|change| change["path"] == name),
        "{plan}"
    );
    expect_plain(&["show", "plan.json", "--format", "json"]);
    expect_plain(&["apply", "plan.json", "--format", "json"]);
    write_on(&host, &format!("d\u{202e}st/{name}"), "by hand\n");
    let status = expect_plain(&["status", "--format", "json"]);
    assert!(status.to_string().contains(name), "{status}");
}
