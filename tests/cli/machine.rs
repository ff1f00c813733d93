//! What programs read of a plan and of an apply, held against the published schemas.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use hostsync::plan::{Diff, document};
use hostsync::state::StateLock;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::large_files::Push;
use crate::schema::Schema;
use hostsync_testkit::scenario::{Output, Scenario, write_on};
use hostsync_testkit::{Sshd, run};

// --- plans -------------------------------------------------------------------------------------------

/// A plan as JSON, which has to be what the schema says.
#[track_caller]
fn valid_plan(scenario: &Scenario, code: i32, args: &[&str]) -> Value {
    let output = scenario
        .run(&[&["plan", "--format", "json"], args].concat())
        .expect(code);
    let plan = serde_json::from_str(&output.stdout).expect("JSON");
    Schema::load("plan").expect_valid(&plan);
    plan
}

/// The changes of all change sets.
fn changes(plan: &Value) -> impl Iterator<Item = &Value> {
    let sets = plan["change_sets"].as_array().expect("change sets");
    sets.iter().flat_map(|set| {
        let changes = set["changes"].as_array();
        changes.expect("changes")
    })
}

/// A source with entries of every kind, and names that are not UTF-8.
fn write_source(scenario: &Scenario) {
    for name in ["content", "mode", "goes", "type", "sub/file"] {
        scenario.write(&format!("src/{name}"), "first\n");
    }
    scenario.chmod("src/mode", 0o4755);
    symlink("content", scenario.path("src/link")).expect("our folder");
    let odd = |name: &'static [u8]| scenario.path("src").join(OsStr::from_bytes(name));
    fs::write(odd(b"caf\xe9"), "text\n").expect("our folder");
    symlink(OsStr::from_bytes(b"caf\xe9"), odd(b"link \xff")).expect("our folder");
}

/// Hosts on which there is something to do of every sort, one without a server and one without a source.
fn varied(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": "mirror" }]);
    let mut scenario = Scenario::with(&[&host], &mapping);
    write_source(&scenario);
    scenario.write("adopted", "there already\n");
    scenario.apply();
    let more = json!([
        { "src": "src", "dest": "~/dest", "exact": "mirror" },
        { "src": "adopted", "dest": "~/adopted" },
        { "src": "device", "dest": "~/device" },
        { "src": "unmanaged", "dest": "~/unmanaged" },
    ]);
    scenario.map(address, &more);
    scenario.write("src/content", "second\n");
    scenario.write("src/new", "new\n");
    scenario.chmod("src/mode", 0o640);
    scenario.remove("src/goes");
    scenario.remove("src/link");
    symlink("mode", scenario.path("src/link")).expect("our folder");
    scenario.remove("src/type");
    scenario.make_folder("src/type");
    scenario.write("device", "ours\n");
    scenario.write("unmanaged", "ours\n");
    run(Command::new("mkfifo").arg(scenario.path("src/pipe")));
    run(Command::new("mkfifo").arg(host.dir().join("device")));
    write_on(&host, "dest/theirs", "theirs\n");
    write_on(&host, "dest/sub/file", "by hand\n");
    write_on(&host, "unmanaged", "theirs\n");
    write_on(&host, "adopted", "there already\n");
    let silent = json!({ "ip_address": "127.2.20.254", "port": 1, "user": "nobody" });
    scenario.add_entry(silent, &json!([{ "src": "src", "dest": "~/dest" }]));
    let without =
        json!({ "name": "without", "ip_address": "127.2.20.254", "port": 1, "user": "nobody" });
    scenario.add_entry(without, &json!([{ "src": "missing", "dest": "~/dest" }]));
    (host, scenario)
}

#[test]
fn plans_of_every_kind_are_what_the_schema_says() {
    let (_host, scenario) = varied("127.2.20.1");
    let schema = Schema::load("plan");
    let plan = valid_plan(&scenario, 3, &[]);

    // All words that the schema has are there, so that none is left untested.
    let mut seen: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut see = |key, word: &Value| {
        if let Some(word) = word.as_str() {
            seen.entry(key).or_default().insert(word.to_owned());
        }
    };
    for change in changes(&plan) {
        for key in ["action", "reason"] {
            see(key, &change[key]);
        }
        see("kind", &change["before"]["kind"]);
        see("kind", &change["after"]["kind"]);
    }
    let hosts = plan["hosts"].as_array().expect("hosts");
    for host in hosts {
        see("status", &host["status"]);
    }
    let words = |definition, key| schema.words(definition, key);
    assert_eq!(seen["action"], words("change", "action"));
    assert_eq!(seen["reason"], words("change", "reason"));
    assert_eq!(seen["kind"], words("entry", "kind"));
    assert_eq!(seen["status"], words("host", "status"));
    let flags = ["drift", "unmanaged", "conflict"];
    for flag in flags {
        assert!(changes(&plan).any(|change| change[flag] == true), "{flag}");
    }
    let problems = hosts[0]["problems"].as_array().expect("problems");
    assert_eq!(problems.len(), 1, "{problems:?}");

    for refresh in ["full", "none"] {
        valid_plan(&scenario, 3, &["--refresh", refresh]);
    }
}

#[test]
fn first_plan_and_plan_without_hosts_are_what_the_schema_says() {
    let host = Sshd::start("127.2.20.2");
    let mut scenario = Scenario::of_folder(&host);
    write_source(&scenario);
    let plan = valid_plan(&scenario, 0, &[]);
    assert_eq!(plan["lineage"], Value::Null);
    assert!(changes(&plan).any(|change| change["path_base64"] == "Y2Fm6Q=="));
    assert!(changes(&plan).any(|change| change["after"]["target_base64"] == "Y2Fm6Q=="));

    scenario.apply();
    let plan = valid_plan(&scenario, 0, &[]);
    assert_eq!(plan["applyable"], false);
    scenario.forget_hosts();
    let plan = valid_plan(&scenario, 0, &[]);
    assert_eq!(plan["hosts"], json!([]));
}

/// The plan with one difference of contents of every sort.
fn with_diffs(plan: &str) -> Value {
    let mut plan = document::from_json(plan.as_bytes()).expect("a plan");
    let set = plan.hosts[0].change_set.as_mut().expect("changes");
    let diffs = [
        Diff::Text("@@ -1 +1 @@\n-first\n+second\n".to_owned()),
        Diff::Binary,
        Diff::Hidden,
        Diff::TooLarge,
        Diff::Unavailable("permission denied".to_owned()),
    ];
    Arc::make_mut(set).diffs = (0..).zip(diffs).collect();
    serde_json::from_str(&document::to_json(&plan)).expect("JSON")
}

#[test]
fn differences_of_contents_are_what_the_schema_says() {
    let host = Sshd::start("127.2.20.22");
    let scenario = Scenario::of_folder(&host);
    write_source(&scenario);
    let plan = scenario.run(&["plan", "--format", "json"]).expect(0);
    let plan = with_diffs(&plan.stdout);
    let schema = Schema::load("plan");
    schema.expect_valid(&plan);
    let states = changes(&plan).filter_map(|change| change["diff"]["state"].as_str());
    let states: BTreeSet<_> = states.map(str::to_owned).collect();
    assert_eq!(states, schema.words("diff", "state"));
    let diff = |index: usize| format!("/change_sets/0/changes/{index}/diff");
    let wrong = [
        (diff(0), json!({ "state": "text" })),
        (diff(0), json!({ "state": "text", "text": "" })),
        (diff(1), json!({ "state": "text/plain" })),
        (diff(2), json!({ "state": "hidden", "text": "secret\n" })),
        (diff(3), json!({ "state": "too_large", "error": "why" })),
        (diff(4), json!({ "state": "unavailable" })),
        (diff(4), json!("unavailable")),
    ];
    for (pointer, wrong) in &wrong {
        expect_refused(&schema, &plan, pointer, wrong);
    }
}

#[test]
fn plan_that_is_printed_saved_and_shown_again_is_the_same_to_the_byte() {
    let (_host, scenario) = varied("127.2.20.3");
    for more in [&[][..], &["--diff"]] {
        let plan = ["plan", "--format", "json", "--out", "plan.json"];
        let printed = scenario.run(&[&plan[..], more].concat()).expect(3).stdout;
        let saved = fs::read_to_string(scenario.path("plan.json")).expect("it was saved");
        assert!(printed == saved, "{more:?}");
        let show = ["show", "plan.json", "--format", "json"];
        for more in [&[][..], &["--diff"]] {
            let shown = scenario.run(&[&show[..], more].concat()).expect(0).stdout;
            assert!(shown == saved, "{more:?}");
        }
    }
}

#[test]
fn two_plans_of_the_same_situation_differ_in_their_time_alone() {
    let (_host, scenario) = varied("127.2.20.4");
    let plan = || scenario.run(&["plan", "--format", "json"]).expect(3).stdout;
    let first = plan();
    thread::sleep(Duration::from_millis(1100));
    let second = plan();
    assert_eq!(first.lines().count(), second.lines().count());
    let lines = first.lines().zip(second.lines());
    let differ: Vec<_> = lines.filter(|(a, b)| a != b).map(|(a, _)| a).collect();
    assert_eq!(differ.len(), 1, "{differ:?}");
    assert!(differ[0].starts_with("  \"created_at\": "), "{differ:?}");
}

// --- applies -----------------------------------------------------------------------------------------

/// The lines of an apply. They keep all promises that every run has to keep.
struct Lines(Vec<Value>);

impl Lines {
    /// Applies without asking.
    #[track_caller]
    fn of(scenario: &Scenario, code: i32, args: &[&str]) -> Self {
        let apply = ["apply", "--format", "json", "--auto-approve"];
        Self::read(scenario.run(&[&apply[..], args].concat()), code)
    }

    #[track_caller]
    fn read(output: Output, code: i32) -> Self {
        let output = output.expect(code);
        assert!(output.stdout.ends_with('\n'), "{output}");
        let line = |line: &str| serde_json::from_str(line).expect("every line is JSON");
        let lines = Self(output.stdout.lines().map(line).collect());
        let schema = Schema::load("apply-events");
        lines.0.iter().for_each(|line| schema.expect_valid(line));

        let types: Vec<_> = lines.0.iter().map(|line| &line["type"]).collect();
        let is_once = |name: &str| types.iter().filter(|kind| **kind == name).count() <= 1;
        assert_eq!(types[0], "version", "{output}");
        assert!(is_once("version") && is_once("plan"), "{output}");
        let is_last = |kind: &&&Value| **kind == "summary" || **kind == "error";
        assert_eq!(types.iter().filter(is_last).count(), 1, "{output}");
        assert!(is_last(&types.last().expect("lines")), "{output}");
        assert_eq!(lines.last()["exit_code"], code, "{output}");
        if lines.last()["type"] == "summary" {
            lines.expect_sums();
        }
        lines
    }

    /// Every host ended once and last of its lines, and the numbers add up.
    #[track_caller]
    fn expect_sums(&self) {
        let summary = self.last();
        let mut ended: BTreeMap<&str, &Value> = BTreeMap::new();
        let mut started = BTreeSet::new();
        let mut results: BTreeMap<&str, u64> = BTreeMap::new();
        for line in &self.0 {
            let Some(host) = line["host"].as_str() else {
                continue;
            };
            assert!(!ended.contains_key(host), "after its end: {line}");
            match line["type"].as_str().expect("a type") {
                "host_started" => assert!(started.insert(host), "twice: {line}"),
                "host_finished" => {
                    ended.insert(host, line);
                    let result = line["result"].as_str().expect("a word");
                    *results.entry(result).or_default() += 1;
                }
                _ => assert!(started.contains(host), "before its start: {line}"),
            }
        }
        let count = |value: &Value| value.as_u64().expect("a count");
        assert_eq!(
            count(&self.the("plan")["summary"]["hosts"]),
            ended.len() as u64
        );
        let told = summary["hosts"].as_object().expect("counts");
        for (result, hosts) in told {
            let counted = results.get(result.as_str()).copied().unwrap_or(0);
            assert_eq!(count(hosts), counted, "{result}");
        }
        let numbers = ["changed", "adopted", "refused", "skipped"];
        for number in numbers {
            let of_host = |line: &&Value| count(&line[number]);
            let sum: u64 = ended.values().map(of_host).sum();
            assert_eq!(count(&summary[number]), sum, "{number}");
            for (host, line) in &ended {
                let lines = self.of_host(host).filter(|line| is_counted(line, number));
                assert_eq!(of_host(line), lines.count() as u64, "{number} of {host}");
            }
        }
    }

    fn of_host(&self, host: &str) -> impl Iterator<Item = &Value> {
        self.0.iter().filter(move |line| line["host"] == host)
    }

    /// The lines of a type.
    fn all(&self, kind: &str) -> Vec<&Value> {
        self.0.iter().filter(|line| line["type"] == kind).collect()
    }

    /// The only line of a type.
    #[track_caller]
    fn the(&self, kind: &str) -> &Value {
        let lines = self.all(kind);
        assert_eq!(lines.len(), 1, "{kind}: {:#?}", self.0);
        lines[0]
    }

    fn last(&self) -> &Value {
        self.0.last().expect("there are lines")
    }

    /// How a host ended.
    #[track_caller]
    fn result(&self, host: &str) -> &Value {
        let ends = |line: &&Value| line["type"] == "host_finished";
        self.of_host(host).find(ends).expect("it ended")
    }
}

/// Whether a line counts for one of the numbers of a host.
fn is_counted(line: &Value, number: &str) -> bool {
    let is = |kind: &str| line["type"] == kind;
    let adopts = line["action"] == "adopt";
    match number {
        "changed" => is("change_applied") && !adopts,
        "adopted" => is("change_applied") && adopts,
        "refused" => is("change_refused"),
        _ => is("change_skipped"),
    }
}

/// What names a change of a plan or of a line.
fn name(change: &Value) -> [&Value; 6] {
    ["mapping", "path", "path_base64", "kind", "action", "reason"].map(|key| &change[key])
}

#[test]
fn applied_changes_are_those_of_the_plan() {
    let (host, scenario) = varied("127.2.20.5");
    let plan = valid_plan(&scenario, 3, &[]);
    let lines = Lines::of(&scenario, 3, &["--on-conflict", "overwrite"]);
    assert_eq!(lines.the("plan")["plan"], plan["digest"]);
    assert_eq!(lines.the("plan")["summary"], plan["summary"]);
    assert_eq!(lines.result("127.2.20.254")["result"], "unreachable");
    assert_eq!(lines.result("without")["result"], "failed");
    let of_host = lines.result(&host.address);
    assert_eq!(of_host["result"], "done", "{of_host}");
    let applied = lines.all("change_applied");
    let applied: Vec<_> = applied.into_iter().map(name).collect();
    let planned: Vec<_> = changes(&plan).map(name).collect();
    assert_eq!(applied, planned);
    assert!(planned.len() >= 10, "{planned:?}");
    let summary = lines.last();
    assert_eq!(summary["unsendable"], 1);
    assert_eq!(summary["serial"], 2);
    assert_eq!(summary["sent_bytes"], plan["summary"]["bytes_to_send"]);
    let dests = lines.all("change_applied");
    let dests: BTreeSet<_> = dests
        .iter()
        .filter_map(|line| line["dest"].as_str())
        .collect();
    assert!(
        dests.contains("~/dest/content") && dests.contains("~/unmanaged"),
        "{dests:?}"
    );
}

#[test]
fn saved_plan_is_carried_out_under_its_digest() {
    let host = Sshd::start("127.2.20.6");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    let text = fs::read_to_string(scenario.path("plan.json")).expect("it was saved");
    let plan: Value = serde_json::from_str(&text).expect("JSON");
    let apply = ["apply", "plan.json", "--format", "json"];
    let lines = Lines::read(scenario.run(&apply), 0);
    assert_eq!(lines.the("plan")["plan"], plan["digest"]);
    assert_eq!(lines.last()["changed"], 2);

    // Once more, and it is stale as a whole.
    let lines = Lines::read(scenario.run(&apply), 4);
    let error = lines.the("error");
    assert_eq!(error["code"], "hostsync::plan::already_applied");
    assert!(lines.all("plan").is_empty());
}

#[test]
fn host_that_is_stale_says_why() {
    let hosts = ["127.2.20.7", "127.2.20.8"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    scenario.write("src/file", "first\n");
    scenario.apply();
    scenario.write("src/file", "second\n");
    scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    write_on(&hosts[0], "dest/file", "by hand\n");
    let output = scenario.run(&["apply", "plan.json", "--format", "json"]);
    let lines = Lines::read(output, 4);
    let stale = lines.result(&hosts[0].address);
    assert_eq!(stale["result"], "stale");
    assert!(stale["error"].is_string());
    assert_eq!(lines.result(&hosts[1].address)["result"], "done");
}

#[test]
fn nothing_to_do_is_told_of_every_host() {
    let host = Sshd::start("127.2.20.9");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    let lines = Lines::of(&scenario, 0, &[]);
    let types: Vec<_> = lines.0.iter().map(|line| &line["type"]).collect();
    assert_eq!(types, ["version", "plan", "host_finished", "summary"]);
    assert_eq!(lines.result(&host.address)["result"], "unchanged");
    assert_eq!(lines.last()["serial"], Value::Null);
}

#[test]
fn host_with_conflicts_is_left_alone_and_skipped_ones_are_named() {
    let hosts = ["127.2.20.10", "127.2.20.11"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    scenario.write("src/file", "ours\n");
    scenario.write("src/other", "ours\n");
    write_on(&hosts[0], "dest/file", "theirs\n");
    let lines = Lines::of(&scenario, 4, &[]);
    let left = lines.result(&hosts[0].address);
    assert_eq!(
        (&left["result"], &left["conflicts"]),
        (&json!("conflicts"), &json!(1))
    );
    assert_eq!(lines.of_host(&hosts[0].address).count(), 1);
    assert_eq!(lines.result(&hosts[1].address)["result"], "done");

    let lines = Lines::of(&scenario, 0, &["--on-conflict", "skip"]);
    let skipped = lines.the("change_skipped");
    assert_eq!(skipped["dest"], "~/dest/file");
    assert_eq!(skipped["because"], "it is a conflict");
}

#[test]
fn entry_that_cannot_be_made_is_refused_with_the_reason() {
    let host = Sshd::start("127.2.20.12");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/it", "a file\n");
    scenario.write("src/other", "text\n");
    write_on(&host, "dest/it/theirs", "keep this\n");
    let lines = Lines::of(&scenario, 3, &["--on-conflict", "overwrite"]);
    let refused = lines.the("change_refused");
    assert_eq!(refused["dest"], "~/dest/it");
    assert_eq!(refused["moved"], false);
    assert_eq!(lines.result(&host.address)["result"], "done");
}

#[test]
fn folder_that_stays_since_something_else_is_in_it_is_skipped() {
    let host = Sshd::start("127.2.20.13");
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    for name in ["sub/file", "a", "b", "c"] {
        scenario.write(&format!("src/{name}"), "text\n");
    }
    scenario.apply();
    scenario.remove("src/sub");
    write_on(&host, "dest/sub/theirs", "keep this\n");
    let lines = Lines::of(&scenario, 0, &[]);
    let skipped = lines.the("change_skipped");
    assert_eq!(skipped["dest"], "~/dest/sub");
    assert_eq!(lines.the("change_applied")["dest"], "~/dest/sub/file");
}

#[test]
fn locked_state_ends_with_an_error_of_that_code() {
    let host = Sshd::start("127.2.20.14");
    let scenario = Scenario::of_folder(&host);
    let dir = scenario.path("state");
    let lock = StateLock::acquire(&dir, "apply", "me@here", Duration::ZERO, &mut |_| {});
    let lines = Lines::of(&scenario, 5, &[]);
    drop(lock.expect("nobody has it"));
    assert_eq!(lines.0.len(), 2, "{:#?}", lines.0);
    assert_eq!(lines.last()["code"], "hostsync::state::locked");
    assert!(lines.last()["help"].is_string());
}

#[test]
fn every_error_of_the_configuration_is_told_with_its_place() {
    let mut scenario = Scenario::new();
    let entry =
        json!({ "ip_address": "127.2.20.254", "user": "nobody", "pot": 1, "passky": "geheim" });
    scenario.add_entry(entry, &json!([{ "src": "src" }]));
    let lines = Lines::of(&scenario, 1, &[]);
    assert_eq!(lines.0.len(), 2, "{:#?}", lines.0);
    let details = lines.last()["details"].as_array().expect("a list");
    assert!(details.len() >= 3, "{details:?}");
    for detail in details {
        assert!(detail["code"].is_string(), "{detail}");
        let file = detail["file"].as_str().expect("a file");
        let is_json = Path::new(file).extension() == Some(OsStr::new("json"));
        assert!(is_json, "{detail}");
        assert!(
            detail["line"].is_u64() && detail["column"].is_u64(),
            "{detail}"
        );
    }
    assert!(!lines.last().to_string().contains("geheim"));
}

#[test]
fn missing_configuration_and_missing_plan_come_after_the_version() {
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    let lines = Lines::of(&scenario, 1, &[]);
    assert_eq!(lines.last()["code"], "hostsync::config::not_found");
    let lines = Lines::of(&scenario, 1, &["missing.json"]);
    assert_eq!(lines.last()["code"], "hostsync::plan::read");
}

#[test]
fn people_are_told_of_errors_too_and_of_nothing_else_on_standard_output() {
    let host = Sshd::start("127.2.20.15");
    let mut scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.set(0, "port", json!(1));
    let output = scenario.run(&["apply", "--format", "json", "--auto-approve", "-v"]);
    Lines::read(output.expect_stderr(&["127.2.20.15"]), 3);
    scenario.remove("config.ini");
    let output = scenario.run(&["apply", "--format", "json", "--auto-approve"]);
    Lines::read(output.expect_stderr(&["no configuration file"]), 1);
}

/// A source that makes more lines than a pipe holds.
fn long(host: &Sshd) -> Scenario {
    let scenario = Scenario::of_folder(host);
    for index in 0..2_000 {
        scenario.write(&format!("src/{index:04} {}", "long name ".repeat(8)), "");
    }
    scenario
}

#[test]
fn reader_that_goes_away_is_no_error() {
    let host = Sshd::start("127.2.20.16");
    let scenario = long(&host);
    let mut child = start(&scenario);
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    reader.read_line(&mut String::new()).expect("a line");
    drop(reader);
    let output: Output = child.wait_with_output().expect("our child").into();
    let output = output.expect(0);
    assert!(!output.stderr.contains("error"), "{output}");
    scenario.expect_nothing_to_do();
}

#[test]
fn output_that_does_not_fit_on_the_disk_is_an_error_but_stops_no_apply() {
    let host = Sshd::start("127.2.20.17");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let full = fs::File::options().write(true).open("/dev/full");
    let mut command = scenario.command(&["apply", "--format", "json", "--auto-approve"]);
    command.stdout(full.expect("Linux"));
    Output::of(&mut command)
        .expect(1)
        .expect_stderr(&["cannot write to standard output"]);
    scenario.expect_nothing_to_do();
}

/// Starts an apply that tells what happens.
fn start(scenario: &Scenario) -> Child {
    let mut command = scenario.command(&["apply", "--format", "json", "--auto-approve"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the program starts")
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), signal).expect("our child");
}

#[test]
fn interrupted_apply_tells_how_far_it_came() {
    let host = Sshd::start("127.2.20.18");
    let push = Push::long(&host);
    let mut child = start(&push.scenario);
    let mut reader = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut stdout = String::new();
    while !stdout.contains("\"progress\"") {
        let read_bytes = reader.read_line(&mut stdout).expect("a line");
        assert_ne!(read_bytes, 0, "it ended: {stdout}");
    }
    signal(&child, Signal::INT);
    reader.read_to_string(&mut stdout).expect("lines");
    let output: Output = child.wait_with_output().expect("our child").into();
    let output = Output { stdout, ..output };
    let lines = Lines::read(output, 130);
    let last = lines.last();
    assert_eq!(last["interrupted"], true, "{last}");
    assert_eq!(lines.result(&host.address)["result"], "interrupted");
    let progress = lines.all("progress");
    // A second or more after another, so few.
    assert!((1..20).contains(&progress.len()), "{progress:?}");
    let sent: Vec<_> = progress
        .iter()
        .map(|line| line["sent_bytes"].as_u64())
        .collect();
    assert!(sent.is_sorted(), "{sent:?}");
    let total = push.content.len() as u64;
    assert!(progress.iter().all(|line| line["total_bytes"] == total));
}

#[test]
fn second_interrupt_ends_with_an_error_that_says_what_it_means() {
    let host = Sshd::start("127.2.20.23");
    let push = Push::long(&host);
    let child = push.begin_with(&["--format", "json"]);
    // Two that differ: of equal ones, the system keeps one.
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    let output: Output = child.wait_with_output().expect("our child").into();
    let lines = Lines::read(output, 130);
    let message = lines.the("error")["message"].as_str().expect("a text");
    assert!(message.starts_with("stopped at once"), "{message}");
}

#[test]
fn reader_that_does_not_read_keeps_neither_the_state_nor_the_second_interrupt_waiting() {
    let host = Sshd::start("127.2.20.24");
    let scenario = long(&host);
    let mut child = start(&scenario);
    let record = scenario.path(&format!("state/hosts/{}.json", host.address));
    let is_recorded = || fs::read_to_string(&record).is_ok_and(|text| text.contains("finished"));
    let begun = Instant::now();
    while !is_recorded() {
        assert!(begun.elapsed() < Duration::from_mins(1), "it is stuck");
        thread::sleep(Duration::from_millis(20));
    }
    // Now it writes more than the pipe holds.
    thread::sleep(Duration::from_millis(500));
    assert_eq!(child.try_wait().expect("our child"), None);
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    let interrupted = Instant::now();
    assert_eq!(child.wait().expect("our child").code(), Some(130));
    assert!(interrupted.elapsed() < Duration::from_secs(10));
    scenario.expect_nothing_to_do();
}

#[test]
fn interrupted_planning_ends_with_an_error_that_says_so() {
    let mut scenario = Scenario::new();
    let silent = std::net::TcpListener::bind("127.2.20.19:0").expect("a loopback address");
    let port = silent.local_addr().expect("it is bound").port();
    let entry = json!({ "ip_address": "127.2.20.19", "port": port, "user": "nobody" });
    scenario.add_entry(entry, &json!([{ "src": "src", "dest": "~/dest" }]));
    scenario.write("src/file", "text\n");
    let child = start(&scenario);
    // It is in the middle of planning as soon as it has connected.
    let _connection = silent.accept().expect("it connects");
    signal(&child, Signal::INT);
    let output: Output = child.wait_with_output().expect("our child").into();
    let lines = Lines::read(output, 130);
    assert_eq!(
        lines.the("error")["message"],
        "interrupted: nothing was changed"
    );
}

// --- the schemas themselves --------------------------------------------------------------------------

/// Changes the value at `pointer`, if the document has one, and looks whether the schema notices.
#[track_caller]
fn expect_refused(schema: &Schema, document: &Value, pointer: &str, wrong: &Value) {
    let mut spoiled = document.clone();
    let value = spoiled.pointer_mut(pointer);
    *value.unwrap_or_else(|| panic!("no {pointer} in {document:#}")) = wrong.clone();
    assert!(!schema.takes(&spoiled), "{wrong} at {pointer} is taken");
}

/// Fails if a key that is always there may be left out.
#[track_caller]
fn expect_needed(schema: &Schema, document: &Value, object: &str, optional: &[&str]) {
    let keys: Vec<_> = document
        .pointer(object)
        .and_then(Value::as_object)
        .expect(object)
        .keys()
        .cloned()
        .collect();
    for key in keys.iter().filter(|key| !optional.contains(&key.as_str())) {
        let mut spoiled = document.clone();
        let members = spoiled.pointer_mut(object).and_then(Value::as_object_mut);
        members.expect(object).remove(key);
        assert!(!schema.takes(&spoiled), "{object} without {key} is taken");
    }
}

#[test]
fn wrong_plans_are_refused() {
    let (_host, scenario) = varied("127.2.20.20");
    let plan = valid_plan(&scenario, 3, &[]);
    let schema = Schema::load("plan");
    // What else it may say is not the business of a reader.
    let mut newer = plan.clone();
    newer["format_version"] = json!("1.7");
    newer["hosts"][0]["since_1_7"] = json!({});
    assert!(schema.takes(&newer));

    let index_of = |action: &str| {
        let index = changes(&plan).position(|change| change["action"] == action);
        format!("/change_sets/0/changes/{}", index.expect(action))
    };
    let (create, update, delete) = (index_of("create"), index_of("update"), index_of("delete"));
    let wrong = [
        ("/format_version", json!("2.0")),
        ("/format_version", json!(1)),
        ("/created_at", json!("yesterday")),
        ("/created_at", json!("2026-01-02T03:04:05+01:00")),
        ("/lineage", json!("no lineage")),
        ("/serial", json!(-1)),
        ("/serial", json!("1")),
        ("/refresh", json!("slow")),
        ("/config_digest", json!("00")),
        ("/digest", json!("A".repeat(64))),
        ("/complete", json!(0)),
        ("/applyable", Value::Null),
        ("/summary/create", json!(1.5)),
        ("/summary/bytes_to_send", json!("1 KiB")),
        ("/hosts", json!({})),
        ("/hosts/0/host", json!("")),
        ("/hosts/0/status", json!("fine")),
        ("/hosts/0/error", json!("though it is ok")),
        ("/hosts/0/status", json!("failed")),
        ("/hosts/1/error", Value::Null),
        ("/hosts/1/change_set", plan["change_sets"][0]["id"].clone()),
        ("/hosts/0/change_set", json!(0)),
        ("/hosts/0/mappings/0/source", json!("src")),
        ("/hosts/0/mappings/0/dest", json!("")),
        ("/hosts/0/problems/0", json!(1)),
        ("/change_sets/0/id", json!("1")),
        ("/change_sets/0/changes", json!([])),
        (&format!("{update}/action"), json!("replace")),
        (&format!("{update}/reason"), json!("mood")),
        (&format!("{update}/reason"), json!("missing")),
        (&format!("{update}/kind"), json!("pipe")),
        (&format!("{update}/mapping"), json!(-1)),
        (&format!("{update}/path"), json!(["a"])),
        (&format!("{update}/drift"), json!("yes")),
        (&format!("{update}/before"), Value::Null),
        (&format!("{update}/before/mode"), json!("644")),
        (&format!("{update}/before/mode"), json!(420)),
        (&format!("{update}/after/size"), json!(-5)),
        (&format!("{update}/after/blake3"), json!("abc")),
        (
            &format!("{create}/before"),
            json!({ "kind": "dir", "mode": "0755" }),
        ),
        (&format!("{create}/after"), Value::Null),
        (
            &format!("{delete}/after"),
            json!({ "kind": "dir", "mode": "0755" }),
        ),
        (
            &format!("{delete}/before"),
            json!({ "kind": "file", "mode": "0755" }),
        ),
        (&format!("{delete}/before"), json!({ "kind": "symlink" })),
        (&format!("{delete}/before"), json!({ "kind": "dir" })),
    ];
    for (pointer, wrong) in &wrong {
        expect_refused(&schema, &plan, pointer, wrong);
    }
    expect_needed(&schema, &plan, "", &[]);
    expect_needed(&schema, &plan, "/summary", &[]);
    expect_needed(&schema, &plan, "/hosts/0", &[]);
    expect_needed(&schema, &plan, "/hosts/0/mappings/0", &[]);
    expect_needed(&schema, &plan, "/change_sets/0", &[]);
    expect_needed(&schema, &plan, &update, &["path_base64", "diff"]);
}

#[test]
fn wrong_lines_are_refused() {
    let schema = Schema::load("apply-events");
    let (_host, scenario) = varied("127.2.20.21");
    let mut lines = Lines::of(&scenario, 3, &["--on-conflict", "overwrite"]).0;
    scenario.remove("config.ini");
    lines.extend(Lines::of(&scenario, 1, &[]).0);
    let mut types = BTreeSet::new();
    for line in &lines {
        let optional = ["path_base64"];
        expect_needed(&schema, line, "", &optional);
        expect_refused(&schema, line, "/type", &json!("gossip"));
        expect_refused(&schema, line, "/at", &json!("2026-01-02T03:04:05Z"));
        let mut newer = line.clone();
        newer["since_1_7"] = json!([]);
        assert!(schema.takes(&newer), "{line}");
        let kind = line["type"].as_str().expect("a type");
        types.insert(kind);
        let wrong: &[(&str, Value)] = &match kind {
            "version" => vec![("/format_version", json!("2.0"))],
            "plan" => vec![("/plan", json!("p")), ("/summary/delete", json!(-1))],
            "change_applied" => vec![
                ("/action", json!("replace")),
                ("/reason", json!("mood")),
                ("/kind", json!("pipe")),
                ("/mapping", json!("0")),
                ("/dest", json!("")),
                ("/type", json!("change_refused")),
                ("/type", json!("change_skipped")),
            ],
            "host_finished" => vec![
                ("/result", json!("fine")),
                ("/error", json!(1)),
                ("/changed", json!(-1)),
                ("/keeps_part", json!(0)),
                ("/elapsed_ms", json!(0.5)),
            ],
            "summary" => vec![
                ("/exit_code", json!(2)),
                ("/exit_code", json!("0")),
                ("/serial", json!(0)),
                ("/hosts/done", Value::Null),
                ("/interrupted", json!("no")),
            ],
            "error" => vec![
                ("/exit_code", json!(0)),
                ("/exit_code", json!(64)),
                ("/message", json!("")),
                ("/details", Value::Null),
            ],
            _ => vec![("/host", json!(""))],
        };
        for (pointer, wrong) in wrong {
            expect_refused(&schema, line, pointer, wrong);
        }
    }
    assert_eq!(types.len(), 7, "{types:?}");
}

#[test]
fn every_key_of_every_document_is_described() {
    let guide = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/json.md");
    let guide = fs::read_to_string(guide).expect("a text");
    for name in ["plan", "apply-events"] {
        let schema = Schema::load(name);
        assert_eq!(schema.undescribed(), [] as [String; 0], "{name}");
        for key in schema.keys() {
            assert!(guide.contains(&format!("`{key}`")), "{key} of {name}");
        }
    }
}
