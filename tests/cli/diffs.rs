//! Differences of contents: what is shown of them, and what is shown nowhere.

use std::fs;

use serde_json::{Value, json};

use hostsync_testkit::scenario::{Output, Scenario, chmod, install_scp, write_on};
use hostsync_testkit::{Dropbear, Host, Sshd};

/// A scenario in which every host has `old` and is to get `new` as `~/dest/file`.
fn scenario(hosts: &[&Host], old: &str, new: &str) -> Scenario {
    let scenario = Scenario::with(hosts, &json!([{ "src": "src", "dest": "~/dest" }]));
    scenario.write("src/file", new);
    for host in hosts {
        write_on(host, "dest/file", old);
    }
    scenario
}

fn plan_as_json(scenario: &Scenario, args: &[&str]) -> Value {
    let args = [&["plan", "--diff", "--format", "json"], args].concat();
    let output = scenario.run(&args).expect(0);
    serde_json::from_str(&output.stdout).expect("JSON")
}

/// The diffs of a plan: path, state, and text or error.
fn diffs(plan: &Value) -> Vec<(String, String, String)> {
    let sets = plan["change_sets"].as_array().expect("change sets");
    let changes = sets.iter().filter_map(|set| set["changes"].as_array());
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    changes
        .flatten()
        .filter(|change| change.get("diff").is_some())
        .map(|change| {
            let diff = &change["diff"];
            let text = [&diff["text"], &diff["error"]].map(word).concat();
            (word(&change["path"]), word(&diff["state"]), text)
        })
        .collect()
}

fn diff(path: &str, state: &str, text: &str) -> (String, String, String) {
    (path.to_owned(), state.to_owned(), text.to_owned())
}

#[test]
fn equal_hosts_show_one_diff_and_a_drifted_one_its_own() {
    let hosts = ["127.2.31.1", "127.2.31.2", "127.2.31.3", "127.2.31.4"].map(Sshd::start);
    let refs: Vec<&Host> = hosts.iter().map(|host| &**host).collect();
    let scenario = scenario(&refs, "a\nold\nz\n", "a\nnew\nz\n");
    write_on(&hosts[3], "dest/file", "a\ndrifted\nz\n");
    let output = scenario.run(&["plan", "--diff"]).expect(0);
    let equal = "    file\n    @@ -1,3 +1,3 @@\n     a\n    -old\n    +new\n     z\n";
    assert_eq!(output.stdout.matches(equal).count(), 1, "{output}");
    let drifted = equal.replace("-old", "-drifted");
    assert_eq!(output.stdout.matches(&drifted).count(), 1, "{output}");

    // Whoever comes first, the document is the same.
    let document = || {
        let mut plan = plan_as_json(&scenario, &[]);
        for key in ["created_at", "digest"] {
            plan.as_object_mut().expect("an object").remove(key);
        }
        plan
    };
    let first = document();
    assert_eq!(diffs(&first).len(), 2);
    assert_eq!(document(), first);
}

#[test]
fn what_appears_and_what_goes_away_is_shown_whole() {
    let host = Sshd::start("127.2.31.5");
    let scenario = Scenario::with(
        &[&host],
        &json!([{ "src": "src", "dest": "~/dest", "exact": "mirror" }]),
    );
    scenario.settings(&["max_delete = 100%"]);
    scenario.write("src/new", "1\n2");
    scenario.write("src/empty", "");
    std::os::unix::fs::symlink("new", scenario.path("src/link")).expect("our folder");
    write_on(&host, "dest/extra", "gone\n");
    let plan = plan_as_json(&scenario, &[]);
    let new = "@@ -0,0 +1,2 @@\n+1\n+2\n\\ No newline at end of file\n";
    assert_eq!(
        diffs(&plan),
        [
            diff("extra", "text", "@@ -1 +0,0 @@\n-gone\n"),
            diff("new", "text", new),
        ]
    );
}

#[test]
fn private_files_are_listed_and_their_content_is_nowhere() {
    let host = Sshd::start("127.2.31.6");
    let scenario = scenario(&[&host], "old\n", "new\n");
    let private = [
        ".env",
        "closed",
        "closed there",
        "secrets/plain",
        "tls/Site.KEY",
    ];
    for path in private {
        scenario.write(&format!("src/{path}"), "S3CRET-here\n");
        write_on(&host, &format!("dest/{path}"), "S3CRET-there\n");
    }
    scenario.chmod("src/closed", 0o600);
    chmod(&host.dir().join("dest/closed there"), 0o600);

    let shown = |args: &[&str]| {
        let output = scenario.run(args).expect(0);
        assert!(!output.to_string().contains("S3CRET"), "{output}");
        output
    };
    let human = shown(&["plan", "--diff", "--full", "-v", "--out", "plan.json"]);
    assert!(human.stdout.contains("+new"), "{human}");
    let saved = shown(&["show", "plan.json", "--diff", "--full"]);
    let json = shown(&["plan", "--diff", "--format", "json"]);
    let plan: Value = serde_json::from_str(&json.stdout).expect("JSON");
    let hidden: Vec<String> = diffs(&plan)
        .into_iter()
        .filter(|(_, state, _)| state == "hidden")
        .map(|(path, ..)| path)
        .collect();
    assert_eq!(hidden, private);
    for path in private {
        let line = format!("    {path}: not shown: private\n");
        assert!(human.stdout.contains(&line), "{path}: {human}");
        assert!(saved.stdout.contains(&line), "{path}: {saved}");
    }
    // Neither the saved plan, nor the logs, nor the cache.
    let sources = private.map(|path| format!("/src/{path}"));
    assert_eq!(scenario.contents().files_with(b"S3CRET"), sources);
}

#[test]
fn configuration_hides_more_and_shows_exceptions() {
    let host = Sshd::start("127.2.31.7");
    let scenario = scenario(&[&host], "old\n", "new\n");
    scenario.settings(&["diff_hide = FILE, ~/dest/sub", "diff_show = *.env"]);
    scenario.write("src/sub/file.txt", "1\n");
    scenario.write("src/example.env", "2\n");
    scenario.chmod("src/example.env", 0o600);
    let plan = plan_as_json(&scenario, &[]);
    assert_eq!(
        diffs(&plan),
        [
            diff("example.env", "text", "@@ -0,0 +1 @@\n+2\n"),
            diff("file", "hidden", ""),
            diff("sub/file.txt", "hidden", ""),
        ]
    );
}

#[test]
fn binary_and_large_files_are_named_with_their_sizes() {
    let host = Sshd::start("127.2.31.8");
    let scenario = scenario(&[&host], "old\n", "new\n");
    scenario.settings(&["diff_limit = 1KiB"]);
    scenario.write("src/binary", b"\0\x01\x02");
    write_on(&host, "dest/binary", "text\n");
    scenario.write("src/grows", "x\n".repeat(513));
    write_on(&host, "dest/grows", "x\n");
    scenario.write("src/shrinks", "x\n");
    write_on(&host, "dest/shrinks", &"x\n".repeat(513));
    scenario.write("src/fits", "x\n".repeat(512));
    let output = scenario.run(&["plan", "--diff", "--full"]).expect(0);
    for line in [
        "    binary: binary, 5 B → 3 B\n",
        "    grows: not shown: too large or too many lines, 2 B → 1.0 KiB\n",
        "    shrinks: not shown: too large or too many lines, 1.0 KiB → 2 B\n",
        "    fits\n    @@ -0,0 +1,512 @@\n    +x\n",
    ] {
        assert!(output.stdout.contains(line), "{line}{output}");
    }
    let folded = scenario.run(&["plan", "--diff"]).expect(0);
    assert!(folded.stdout.contains("… and 453 more lines"), "{folded}");
}

#[test]
fn saved_plan_shows_the_same_without_the_network() {
    let mut host = Sshd::start("127.2.31.9");
    let scenario = scenario(&[&host], "old\n", "new\n");
    let planned = scenario
        .run(&["plan", "--diff", "--out", "plan.json"])
        .expect(0);
    assert!(planned.stdout.contains("    -old\n    +new\n"), "{planned}");
    host.stop();
    let shown = scenario.run(&["show", "plan.json", "--diff"]).expect(0);
    assert_eq!(shown.stdout, planned.stdout);
    let without = scenario.run(&["show", "plan.json"]).expect(0);
    assert!(!without.stdout.contains("-old"), "{without}");
}

#[test]
fn plan_without_diffs_has_no_content_anywhere() {
    let host = Sshd::start("127.2.31.10");
    let scenario = scenario(&[&host], "CONTENT-there\n", "CONTENT-here\n");
    let expect_none = |output: &Output| {
        assert!(!output.to_string().contains("CONTENT"), "{output}");
    };
    expect_none(
        &scenario
            .run(&["plan", "-v", "--out", "plan.json"])
            .expect(0),
    );
    expect_none(&scenario.run(&["plan", "--format", "json"]).expect(0));
    let shown = scenario.run(&["show", "plan.json", "--diff"]).expect(0);
    expect_none(&shown);
    shown.expect_stderr(&["the plan was saved without `--diff`"]);
    assert_eq!(scenario.contents().files_with(b"CONTENT"), ["/src/file"]);
}

#[test]
fn content_does_not_act_on_the_terminal() {
    let host = Sshd::start("127.2.31.11");
    let treacherous = "\u{1b}]0;title\u{7}\u{1b}[2J\r\u{202e}\u{9b}31m\n";
    let scenario = scenario(&[&host], treacherous, "new\n");
    for args in [
        &["plan", "--diff"][..],
        &["--color", "always", "plan", "--diff"],
    ] {
        let output = scenario.run(args).expect(0);
        let shown = "-\\u{1b}]0;title\\u{7}\\u{1b}[2J\\r\\u{202e}\\u{9b}31m";
        assert!(output.stdout.contains(shown), "{output}");
        for code in ["\u{1b}]", "\u{1b}[2J", "\r", "\u{7}", "\u{202e}", "\u{9b}"] {
            assert!(!output.stdout.contains(code), "{code:?}: {output}");
        }
    }
}

#[test]
fn host_without_perl_shows_the_same() {
    let with_perl = Sshd::start("127.2.31.12");
    let without = Dropbear::start("127.2.31.13");
    install_scp(&without);
    let scenario = scenario(&[&with_perl, &without], "", "");
    let pairs = [
        ("text", "a\nb\nc\n", "a\nB\nc\n"),
        ("end", "no newline", "no newline\n"),
        ("it's \"odd\" $HOME", "\r\n\t\n", "é\n"),
        ("becomes text", "\0", "a\n"),
        ("becomes empty", "a\n", ""),
    ];
    for (name, old, new) in pairs {
        scenario.write(&format!("src/{name}"), new);
        for host in [&*with_perl, &*without] {
            write_on(host, &format!("dest/{name}"), old);
        }
    }
    let of_host = |host: &Host| diffs(&plan_as_json(&scenario, &["--limit", &host.address]));
    let diffs = of_host(&with_perl);
    assert_eq!(diffs.len(), pairs.len());
    assert!(
        diffs
            .iter()
            .all(|(_, state, _)| state == "text" || state == "binary")
    );
    assert_eq!(of_host(&without), diffs);
}

#[test]
fn file_that_the_login_user_may_not_read_is_named() {
    let host = Sshd::start("127.2.31.14");
    let scenario = scenario(&[&host], "old\n", "new\n");
    let path = host.dir().join("dest/file");
    fs::write(&path, "of root\n").expect("root may");
    std::os::unix::fs::chown(&path, Some(0), Some(0)).expect("root may");
    // For its group, so that it is not kept private.
    chmod(&path, 0o640);
    let plan = plan_as_json(&scenario, &[]);
    let why = "the login user may not read it";
    assert_eq!(diffs(&plan), [diff("file", "unavailable", why)]);
}

#[test]
fn what_is_private_stays_so_behind_links_in_closed_folders_and_under_other_names() {
    let host = Sshd::start("127.2.31.20");
    let mappings = json!([
        { "src": "src", "dest": "~/dest", "symlinks": "follow" },
        { "src": "link.txt", "dest": "~/linked.conf" },
    ]);
    let scenario = Scenario::with(&[&host], &mappings);
    scenario.write("vault/server.key", "S3CRET-key\n");
    scenario.write("vault/secrets/c", "S3CRET-c\n");
    scenario.write("src/open.txt", "shown\n");
    scenario.write("src/closed/inside", "S3CRET-inside\n");
    scenario.chmod("src/closed", 0o700);
    scenario.write("src/password.txt", "S3CRET-twice\n");
    scenario.write("src/twin.txt", "S3CRET-twice\n");
    let link = |target: &str, name: &str| {
        std::os::unix::fs::symlink(target, scenario.path(name)).expect("our folder");
    };
    link("vault/server.key", "link.txt");
    link("../vault/server.key", "src/readme.txt");
    link("../vault/secrets", "src/cfg");
    let output = scenario.run(&["plan", "--diff", "--full"]).expect(0);
    assert!(!output.stdout.contains("S3CRET"), "{output}");
    output.expect_stdout(&["+shown", "twin.txt: not shown: private"]);

    // Also while the private file is none of the changes.
    scenario.apply();
    scenario.write("src/open.txt", "S3CRET-twice\n");
    let output = scenario.run(&["plan", "--diff", "--full"]).expect(0);
    assert!(!output.stdout.contains("S3CRET"), "{output}");
    output.expect_stdout(&["open.txt: not shown: private"]);
    scenario.apply();
    scenario.write("src/open.txt", "shown\n");
    let output = scenario.run(&["plan", "--diff", "--full"]).expect(0);
    assert!(!output.stdout.contains("S3CRET"), "{output}");
}

#[test]
fn private_key_is_hidden_by_what_is_in_it_on_either_side() {
    let host = Sshd::start("127.2.31.30");
    let scenario = scenario(&[&host], "old\n", "new\n");
    scenario.settings(&["diff_show = dest"]);
    let key = |header: &str| format!("# notes\n\n{header}\nS3CRET\n");
    let here = [
        ("pem.txt", "-----BEGIN RSA PRIVATE KEY-----"),
        ("openssh.txt", "  -----BEGIN OPENSSH PRIVATE KEY-----"),
        ("putty.txt", "PuTTY-User-Key-File-3: ssh-ed25519"),
        ("age.txt", "AGE-SECRET-KEY-1QQQ"),
    ];
    for (name, header) in here {
        scenario.write(&format!("src/{name}"), key(header));
        write_on(&host, &format!("dest/{name}"), "nothing special\n");
    }
    scenario.write("src/there.txt", "nothing special any more\n");
    write_on(
        &host,
        "dest/there.txt",
        &key("-----BEGIN EC PRIVATE KEY-----"),
    );
    scenario.write("src/public.txt", "-----BEGIN PUBLIC KEY-----\nopen\n");
    let output = scenario
        .run(&["plan", "--diff", "--full", "--out", "plan.json"])
        .expect(0);
    assert!(!output.to_string().contains("S3CRET"), "{output}");
    let saved = fs::read_to_string(scenario.path("plan.json")).expect("a plan");
    assert!(!saved.contains("S3CRET"), "{saved}");
    for name in here.map(|(name, _)| name).into_iter().chain(["there.txt"]) {
        let line = format!("    {name}: not shown: private\n");
        assert!(output.stdout.contains(&line), "{name}: {output}");
    }
    output.expect_stdout(&["+-----BEGIN PUBLIC KEY-----", "+new"]);
}
