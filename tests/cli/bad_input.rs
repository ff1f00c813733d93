//! What is wrong is said with its place and its cure, and nothing is changed anywhere.

use std::os::unix::fs::symlink;
use std::process::Stdio;

use serde_json::json;

use hostsync_testkit::Sshd;
use hostsync_testkit::copied::{Contents, assert_same, assert_untouched};
use hostsync_testkit::scenario::{Scenario, write_on};

/// A host that has been applied to, and a source that has been edited since: so that whatever
/// goes on in spite of an error would leave traces.
fn waiting(address: &str) -> (Sshd, Scenario) {
    let host = Sshd::start(address);
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "first\n");
    scenario.apply();
    scenario.write("src/file", "second\n");
    scenario.write("src/new", "new\n");
    (host, scenario)
}

#[test]
fn missing_configuration_says_where_it_was_looked_for() {
    let (host, scenario) = waiting("127.2.4.1");
    let before = Contents::of(&host.dir());
    scenario.remove("config.ini");
    for args in [&["plan"][..], &["apply", "--auto-approve"], &["check"]] {
        scenario.run(args).expect(1).expect_stderr(&[
            "no configuration file",
            "looked for hostsync.toml, config.ini, config/config.ini",
            "--config",
        ]);
    }
    scenario
        .run(&["plan", "--config", "elsewhere.ini"])
        .expect(1)
        .expect_stderr(&["elsewhere.ini"]);
    assert_untouched(&before, &host.dir());
}

/// One way to spoil a configuration, and what has to be said about it.
struct Spoiled {
    file: &'static str,
    text: &'static str,
    said: &'static [&'static str],
}

/// For `HOST` stands the address of the host.
const SPOILED: [Spoiled; 12] = [
    Spoiled {
        file: "connection_info.json",
        text: "[\n  {\"ip_address\": \"HOST\", \"user\": \"someone\"},\n  {\"ip_address\" \"x\"}\n]",
        said: &["not JSON", "connection_info.json:3:"],
    },
    Spoiled {
        file: "path_mapper/HOST.json",
        text: "[\n{\"src\": \"src\",\n\"dest\": \"~/dest\"}",
        said: &["not JSON", "HOST.json:1:1"],
    },
    Spoiled {
        file: "connection_info.json",
        text: "[{\"ip_address\": \"HOST\", \"user\": \"someone\", \"prot\": 22}]",
        said: &[
            "unknown key `prot`",
            "connection_info.json:1:",
            "did you mean `port`?",
        ],
    },
    Spoiled {
        file: "path_mapper/HOST.json",
        text: "[{\"src\": \"src\", \"dst\": \"~/dest\"}]",
        said: &[
            "unknown key `dst`",
            "did you mean `dest`?",
            "`dest` is missing",
        ],
    },
    Spoiled {
        file: "config.ini",
        text: "[DEFAULT]\nlog_pth = logs\nnumber_of_connections = many\n",
        said: &[
            "2 errors",
            "unknown key `log_pth`",
            "did you mean `log_path`?",
            "config.ini:2:1",
            "config.ini:3:",
            "a number from 1",
        ],
    },
    Spoiled {
        file: "connection_info.json",
        text: "[{\"ip_address\": \"HOST\", \"user\": \"a\"},\n{\"ip_address\": \"HOST\", \"user\": \"b\"}]",
        said: &[
            "host `HOST` is there twice",
            "connection_info.json:",
            "a `name` of its own",
        ],
    },
    Spoiled {
        file: "connection_info.json",
        text: "{\"ip_address\": \"HOST\", \"user\": \"a\"}",
        said: &[
            "a list of hosts",
            "connection_info.json:1:1",
            "put `[` before",
        ],
    },
    Spoiled {
        file: "connection_info.json",
        text: "[{\"ip_address\": \"HOST\"}]",
        said: &["`user` is missing", "connection_info.json:1:"],
    },
    Spoiled {
        file: "connection_info.json",
        text: "[{\"ip_address\": \"HOST\", \"user\": \"a\", \"port\": 70000}]",
        said: &["not a port", "1 to 65535"],
    },
    Spoiled {
        file: "path_mapper/HOST.json",
        text: "[{\"src\": \"src\", \"dest\": \"~/dest\"},\n{\"src\": \"src\", \"dest\": \"dest/below\"}]",
        said: &["HOST.json:", "overlap"],
    },
    Spoiled {
        file: "path_mapper/HOST.json",
        text: "[{\"src\": \"src\", \"dest\": \"~/dest\", \"exact\": \"miror\"}]",
        said: &["HOST.json:1:", "mirror"],
    },
    Spoiled {
        file: "path_mapper/HOST.json",
        text: "[{\"src\": \"src\", \"dest\": \"~/dest\", \"exclude\": [\"a[\"]}]",
        said: &["HOST.json:1:", "glob"],
    },
];

#[test]
fn wrong_files_are_shown_with_the_place_and_the_cure() {
    let (host, scenario) = waiting("127.2.4.2");
    let before = Contents::of(&host.dir());
    let state = Contents::of(&scenario.path("state"));
    let here = |text: &str| text.replace("HOST", &host.address);
    for Spoiled { file, text, said } in &SPOILED {
        let file = here(file);
        let good = std::fs::read(scenario.path(&file)).expect("it is there");
        scenario.write(&file, here(text));
        let said: Vec<String> = said.iter().map(|part| here(part)).collect();
        let said: Vec<&str> = said.iter().map(String::as_str).collect();
        for args in [&["check"][..], &["plan"], &["apply", "--auto-approve"]] {
            scenario.run(args).expect(1).expect_stderr(&said);
        }
        scenario.write(&file, good);
    }
    assert_untouched(&before, &host.dir());
    assert_untouched(&state, &scenario.path("state"));
    scenario.run(&["check", "--connect"]).expect(0);
}

#[test]
fn secret_in_a_wrong_place_is_in_no_output() {
    let scenario = Scenario::new();
    for (file, text, said) in [
        (
            "connection_info.json",
            r#"[{"ip_address": "u:hunter2@192.0.2.1", "user": "u"}]"#,
            "`ip_address` holds a login",
        ),
        (
            "connection_info.json",
            r#"[{"ip_address": "192.0.2.1", "user": "u", "hunter2": "passkey"}]"#,
            "unknown key (hidden",
        ),
        (
            "connection_info.json",
            r#"[{"ip_address": "192.0.2.1", "user": "u", "port": "hunter2"}]"#,
            "`port` should be a number",
        ),
        (
            "connection_info.json",
            r#"[{"ip_address": "192.0.2.1", "user": "u", "passkye": "hunter2"}]"#,
            "did you mean `passkey`?",
        ),
        (
            "connection_info.json",
            r#"[{"ip_address": "192.0.2.1", "user": "u", "groups": "hunter2"}]"#,
            "`groups` should be a list",
        ),
        ("config.ini", "[DEFAULT]\nhunter2\n", "config.ini:2:1"),
        (
            "config.ini",
            "[DEFAULT]\nbackups = hunter2\n",
            "`backups` should be a number",
        ),
    ] {
        scenario.write("config.ini", "[DEFAULT]\n");
        scenario.write("connection_info.json", "[]");
        scenario.write(file, text);
        scenario.run(&["check"]).expect(1).expect_stderr(&[said]);
        for args in [
            &["check"][..],
            &["-v", "plan"],
            &["plan", "--format", "json"],
            &["apply", "--format", "json", "--auto-approve"],
            &["migrate"],
        ] {
            let output = scenario.run(args).expect(1);
            assert!(!output.to_string().contains("hunter2"), "{output}");
        }
        scenario.remove(file);
        assert!(scenario.contents().files_with(b"hunter2").is_empty());
    }
}

#[test]
fn names_of_ciphers_are_kept_whole_however_narrow_the_text_is() {
    let scenario = Scenario::new();
    scenario.settings(&["ciphers = rot13"]);
    let output = scenario.run(&["check"]).expect(1);
    for cipher in hostsync::config::CIPHERS {
        assert!(output.stderr.contains(cipher), "{cipher} in\n{output}");
    }
}

#[test]
fn empty_list_of_hosts_is_no_error_and_nothing_to_do() {
    let scenario = Scenario::new();
    scenario.write("connection_info.json", "[]");
    scenario
        .run(&["plan", "--detailed-exitcode"])
        .expect(0)
        .expect_stdout(&["No changes: there are no hosts."]);
    scenario.run(&["apply", "--auto-approve"]).expect(0);
}

#[test]
fn host_without_its_mapper_file_or_source_fails_alone() {
    let hosts = ["127.2.4.3", "127.2.4.4", "127.2.4.5"].map(Sshd::start);
    let mapping = json!([{ "src": "src", "dest": "~/dest" }]);
    let scenario = Scenario::with(&[&hosts[0], &hosts[1], &hosts[2]], &mapping);
    scenario.write("src/file", "text\n");
    scenario.remove("path_mapper/127.2.4.4.json");
    scenario.map("127.2.4.5", &json!([{ "src": "scr", "dest": "~/dest" }]));
    let source = scenario.path("scr").display().to_string();
    let said = [
        "path_mapper/127.2.4.4.json",
        "write one",
        "`src` `scr` does not exist",
        &source,
        "create it or correct the mapping",
    ];
    scenario.run(&["check"]).expect(3).expect_stdout(&said);
    scenario.run(&["plan"]).expect(3).expect_stdout(&said);
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(3)
        .expect_stdout(&said);
    assert_same(&scenario.path("src"), &hosts[0].dir().join("dest"));
    for host in &hosts[1..] {
        assert_eq!(Contents::of(&host.dir()).paths(), [""]);
    }
}

#[test]
fn destination_below_a_file_is_said_and_the_file_stays() {
    let host = Sshd::start("127.2.4.6");
    let scenario = Scenario::with(&[&host], &json!([{ "src": "src", "dest": "~/a/b/dest" }]));
    scenario.write("src/file", "text\n");
    write_on(&host, "a", "a file\n");
    let before = Contents::of(&host.dir());
    for args in [&["plan"][..], &["apply", "--auto-approve"]] {
        scenario.run(args).expect(3).expect_stdout(&[
            "~/a/b/dest cannot be made",
            "is not a folder",
            "change `dest`",
        ]);
    }
    assert_untouched(&before, &host.dir());
}

#[test]
fn destination_that_may_not_be_written_is_said() {
    let host = Sshd::start("127.2.4.7");
    let scenario = Scenario::with(
        &[&host],
        &json!([{ "src": "src", "dest": "~/locked/dest" }]),
    );
    scenario.write("src/file", "text\n");
    let locked = host.dir().join("locked");
    std::fs::create_dir(&locked).expect("root may");
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(3)
        .expect_stdout(&["locked"]);
    assert_eq!(Contents::of(&locked).paths(), [""]);
}

#[test]
fn full_disk_below_the_logs_ends_the_run_before_it_begins() {
    let (host, scenario) = waiting("127.2.4.8");
    let before = Contents::of(&host.dir());
    scenario.remove("logs");
    scenario.make_folder("logs");
    let now = jiff::Timestamp::now();
    for day in [now, now + jiff::SignedDuration::from_hours(24)] {
        let day = day.to_zoned(jiff::tz::TimeZone::UTC).date();
        let path = scenario.path("logs").join(format!("hostsync.log.{day}"));
        symlink("/dev/full", path).expect("our folder");
    }
    for args in [&["plan"][..], &["apply", "--auto-approve"]] {
        scenario.run(args).expect(1).expect_stderr(&[
            "cannot write log file",
            "hostsync.log",
            "No space left",
            "log_path",
        ]);
    }
    assert_untouched(&before, &host.dir());
}

#[test]
fn log_folder_that_is_a_file_is_said() {
    let (host, scenario) = waiting("127.2.4.9");
    let before = Contents::of(&host.dir());
    scenario.settings(&["log_path = src/file"]);
    scenario
        .run(&["apply", "--auto-approve"])
        .expect(1)
        .expect_stderr(&["log folder", "src/file", "`log_path`"]);
    assert_untouched(&before, &host.dir());
}

#[test]
fn state_folder_that_is_a_file_is_said() {
    let (host, scenario) = waiting("127.2.4.10");
    let before = Contents::of(&host.dir());
    scenario.settings(&["state_path = src/file"]);
    for args in [&["plan"][..], &["apply", "--auto-approve"]] {
        scenario
            .run(args)
            .expect(1)
            .expect_stderr(&["src/file", "`state_path`"]);
    }
    assert_untouched(&before, &host.dir());
}

#[test]
fn state_of_a_newer_version_is_refused_and_left_alone() {
    for (address, file) in [
        ("127.2.4.11", "state/state.json"),
        ("127.2.4.12", "state/hosts/127.2.4.12.json"),
    ] {
        let (host, scenario) = waiting(address);
        let before = Contents::of(&host.dir());
        let text = std::fs::read_to_string(scenario.path(file)).expect("it is there");
        let mut newer: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        newer["format_version"] = json!("2.0");
        newer["something_new"] = json!([1, 2, 3]);
        scenario.write(file, newer.to_string());
        let state = Contents::of(&scenario.path("state"));
        for args in [
            &["plan"][..],
            &["apply", "--auto-approve"],
            &["state", "list"],
        ] {
            scenario.run(args).expect(1).expect_stderr(&[
                file,
                "format version 2.0",
                "the file was left as it is",
            ]);
        }
        assert_untouched(&before, &host.dir());
        let kept = Contents::of(&scenario.path("state"));
        let differences: Vec<_> = state
            .differences(&kept)
            .into_iter()
            .filter(|line| !line.starts_with("/lock: ") && !line.starts_with("/cache"))
            .collect();
        assert!(differences.is_empty(), "{differences:?}");
    }
}

#[test]
fn damaged_state_is_not_taken_for_none() {
    let (host, scenario) = waiting("127.2.4.13");
    let before = Contents::of(&host.dir());
    for (file, text) in [
        ("state/state.json", "{"),
        (
            "state/hosts/127.2.4.13.json",
            "{\"format_version\": \"1.0\"}",
        ),
        ("state/hosts/127.2.4.13.json", ""),
    ] {
        let good = std::fs::read(scenario.path(file)).expect("it is there");
        scenario.write(file, text);
        scenario
            .run(&["apply", "--auto-approve"])
            .expect(1)
            .expect_stderr(&[file, "is damaged"]);
        assert_eq!(
            std::fs::read_to_string(scenario.path(file)).expect("it is there"),
            text
        );
        scenario.write(file, good);
    }
    assert_untouched(&before, &host.dir());
}

#[test]
fn without_a_terminal_apply_asks_for_auto_approve() {
    let (host, scenario) = waiting("127.2.4.14");
    let before = Contents::of(&host.dir());
    let said = ["standard input is not a terminal", "--auto-approve"];
    scenario.run(&["apply"]).expect(1).expect_stderr(&said);
    // An answer that is piped in is no answer of a person.
    let mut child = scenario
        .command(&["apply"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    let mut input = child.stdin.take().expect("it is piped");
    // It may be gone before it reads this.
    let _ = std::io::Write::write_all(&mut input, b"yes\n");
    drop(input);
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    assert_untouched(&before, &host.dir());
}

#[test]
fn wrong_usage_ends_with_64_and_shows_the_right_one() {
    let scenario = Scenario::new();
    for (args, said) in [
        (&[][..], "Usage: hostsync"),
        (&["pland"], "unrecognized subcommand 'pland'"),
        (&["plan", "--no-such-flag"], "'--no-such-flag'"),
        (
            &["apply", "--on-conflict", "maybe"],
            "fail, skip, overwrite",
        ),
        (&["plan", "--format", "xml"], "human, json"),
        (&["-v", "-q", "plan"], "cannot be used together"),
        (&["apply", "--lock-timeout", "soon"], "'soon'"),
        (
            &["--config", "", "plan"],
            "the path after --config is empty",
        ),
        (&["state", "show"], "<HOST>"),
    ] {
        let output = scenario.run(args).expect(64).expect_stderr(&[said]);
        assert!(output.stdout.is_empty(), "{output}");
    }
    scenario
        .run(&["--help"])
        .expect(0)
        .expect_stdout(&["Usage:"]);
    scenario
        .run(&["--version"])
        .expect(0)
        .expect_stdout(&["hostsync"]);
    assert!(!scenario.path("logs").exists());
}
