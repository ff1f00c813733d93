//! What is written to the logs, and what is written nowhere.

use std::fs;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use hostsync_testkit::copied::Contents;
use hostsync_testkit::scenario::Scenario;
use hostsync_testkit::{Sshd, SshdOptions};

#[test]
fn every_line_has_its_time_level_host_and_run() {
    let hosts = ["127.2.6.1", "127.2.6.2"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let mut scenario = Scenario::with(&[&hosts[0], &hosts[1]], &mapping);
    scenario.write("src/name with\nnewline", "text\n");
    scenario.write("src/file", "text\n");
    scenario.set(1, "identity_file", json!("no-such-key"));
    scenario.run(&["apply", "--auto-approve"]).expect(3);
    scenario.run(&["plan"]).expect(3);

    let mut runs = std::collections::BTreeSet::new();
    let read = |name: &str| fs::read_to_string(scenario.path("logs").join(name)).expect(name);
    let (all, errors) = (read("hostsync.log"), read("hostsync_error.log"));
    for line in all.lines().chain(errors.lines()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let is_time = words[0].parse::<jiff::Timestamp>().is_ok();
        let is_level = ["DEBUG", "INFO", "WARN", "ERROR"].contains(&words[1]);
        let run = words[2].strip_prefix("run=").unwrap_or_default();
        let host = words[3].strip_prefix("host=").unwrap_or_default();
        let is_host = ["-", "127.2.6.1", "127.2.6.2"].contains(&host);
        assert!(is_time && is_level && !run.is_empty() && is_host, "{line}");
        runs.insert(run.to_owned());
    }
    assert_eq!(runs.len(), 2, "{all}");
    assert!(all.contains("host=127.2.6.1 "), "{all}");
    let logins =
        |line: &&str| line.contains("host=127.2.6.1 ") && line.contains("logged in cipher=");
    assert_eq!(all.lines().filter(logins).count(), 2, "{all}");
    let of_bad_host =
        |line: &&str| line.contains("host=127.2.6.2 ") && line.contains("no-such-key");
    assert!(errors.lines().any(|line| of_bad_host(&line)), "{errors}");
    // Whatever is an error is in the log of everything, too.
    for line in errors.lines().filter(|line| !line.contains(" INFO ")) {
        assert!(all.contains(line), "{line}");
    }
}

/// Command lines of all processes that can be seen.
fn command_lines() -> String {
    let processes = fs::read_dir("/proc").expect("Linux").flatten();
    processes
        .filter_map(|process| fs::read(process.path().join("cmdline")).ok())
        .map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " ") + "\n")
        .collect()
}

#[test]
fn passkey_is_in_no_file_no_output_and_no_list_of_processes() {
    let options = SshdOptions {
        // Long enough to be looked at.
        start_file: "sleep 0.4".to_owned(),
        ..SshdOptions::default()
    };
    let host = Sshd::start_with("127.2.6.3", &options);
    let mut scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.set(0, "identity_file", Value::Null);
    scenario.set(0, "passkey", json!(host.account.password));
    let password = host.account.password.clone().expect("root knows it");

    let child = scenario
        .command(&["-v", "apply", "--auto-approve"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let is_over = AtomicBool::new(false);
    let (output, seen) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = String::new();
            while !is_over.load(Ordering::Relaxed) {
                seen.push_str(&command_lines());
                std::thread::sleep(Duration::from_millis(20));
            }
            seen
        });
        let output = child.wait_with_output().expect("it ends");
        is_over.store(true, Ordering::Relaxed);
        (output, looking.join().expect("it looked"))
    });
    assert_eq!(output.status.code(), Some(0));
    assert!(
        seen.contains(" -v apply --auto-approve"),
        "nothing was seen"
    );
    assert!(!seen.contains(&password), "in the list of processes");

    scenario.set(0, "port", json!("not a number"));
    let broken = scenario.run(&["-v", "plan"]).expect(1);
    scenario.set(0, "port", json!(host.port));
    scenario.set(0, "user", json!("root"));
    let refused = scenario.run(&["-v", "plan"]).expect(3);
    let plan = scenario.run(&["plan", "--format", "json"]);
    for output in [broken, refused, plan] {
        assert!(!output.to_string().contains(&password));
    }
    for bytes in [output.stdout, output.stderr] {
        assert!(!String::from_utf8_lossy(&bytes).contains(&password));
    }
    assert_eq!(
        scenario.contents().files_with(password.as_bytes()),
        ["/connection_info.json"]
    );
    let on_host = Contents::of(&host.dir());
    assert_eq!(on_host.files_with(password.as_bytes()), Vec::<&str>::new());
}
