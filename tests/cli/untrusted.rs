//! Configurations of strangers, as a pull request brings them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use hostsync_testkit::Sshd;
use hostsync_testkit::copied::Contents;
use hostsync_testkit::scenario::{Output, Scenario};

/// What every run with a stranger's configuration has.
const UNTRUSTED: [&str; 3] = ["--untrusted-config", "--state", "ours"];

fn run(scenario: &Scenario, command: &str, args: &[&str]) -> Output {
    scenario.run(&[&[command], &UNTRUSTED[..], args].concat())
}

/// A host `web` that gets these mappings.
fn site(mappings: &Value) -> Scenario {
    let mut scenario = Scenario::new();
    let host = json!({ "name": "web", "ip_address": "127.2.40.1", "user": "u", "port": 1 });
    scenario.add_entry(host, mappings);
    scenario.write("src/file", "text\n");
    scenario
}

fn usual_site() -> Scenario {
    site(&json!([{ "src": "src", "dest": "/srv/app" }]))
}

#[test]
fn plan_of_a_stranger_runs_nothing_asks_nobody_and_writes_only_what_was_asked_for() {
    let mut scenario = usual_site();
    let listener = TcpListener::bind("127.2.40.2:0").expect("a port on loopback");
    listener.set_nonblocking(true).expect("a socket");
    let settings = [
        "[DEFAULT]",
        "log_path = theirs/logs",
        "state_path = s3://theirs/state",
        "known_hosts_path = theirs/known_hosts",
    ];
    scenario.write("config.ini", settings.join("\n"));
    scenario.set(0, "ip_address", json!("127.2.40.2"));
    let port = listener.local_addr().expect("an address").port();
    scenario.set(0, "port", json!(port));
    let command = format!("touch '{}'", scenario.path("it-ran").display());
    scenario.set(0, "passkey_command", json!(command));

    // A file that has rested is one that a cache would keep.
    thread::sleep(Duration::from_millis(2100));
    let before = scenario.contents();
    for (command, args) in [
        ("plan", &[][..]),
        ("plan", &["--diff", "-v"]),
        ("plan", &["--refresh", "none", "--format", "json"]),
        ("plan", &["--format", "markdown"]),
        ("check", &[]),
    ] {
        run(&scenario, command, args).expect(0);
        assert_eq!(
            before.differences(&scenario.contents()),
            [""; 0],
            "{args:?}"
        );
    }
    let output = run(&scenario, "plan", &["--out", "plan.json"]).expect(0);
    output.expect_stdout(&["2 to create"]);
    run(&scenario, "show", &["plan.json"]).expect(0);
    let written = before.differences(&scenario.contents());
    assert_eq!(written.len(), 1, "{written:?}");
    assert!(written[0].starts_with("/plan.json: "), "{written:?}");
    let accepted = listener.accept().map(|(_, from)| from);
    assert!(accepted.is_err(), "somebody came: {accepted:?}");
}

#[test]
fn state_is_the_one_that_is_named_and_stays_as_it_is() {
    let host = Sshd::start("127.2.40.3");
    let scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    scenario.apply();
    fs::rename(scenario.path("state"), scenario.path("ours")).expect("our folder");
    scenario.settings(&["state_path = theirs"]);
    scenario.write("src/file", "another text\n");
    let before = Contents::of(&scenario.path("ours"));
    let output = run(&scenario, "plan", &[]).expect(0);
    output.expect_stdout(&["no host was looked at", "~ file", "1 to update"]);
    let after = Contents::of(&scenario.path("ours"));
    assert_eq!(before.differences(&after), [""; 0]);

    // What was planned without trust may be applied by whoever does trust it.
    run(&scenario, "plan", &["--out", "plan.json"]).expect(0);
    scenario.settings(&["state_path = ours"]);
    scenario.run(&["apply", "plan.json"]).expect(0);
    scenario.expect_nothing_to_do();
    let shown = run(&scenario, "show", &["plan.json"]).expect(0);
    shown.expect_stderr(&["warning: "]);
}

#[test]
fn how_a_stranger_would_log_in_is_not_even_read() {
    let logins = [
        json!({ "passkey_env": "NOT=A=NAME" }),
        json!({ "passkey_env": "NOT_SET" }),
        json!({ "passkey": 5, "passkey_env": "X", "passkey_command": "" }),
        json!({ "identity_file": "/nowhere/key" }),
        json!({ "identity_file": "~/key" }),
    ];
    for login in logins {
        let mut scenario = usual_site();
        for (key, value) in login.as_object().expect("an object") {
            scenario.set(0, key, value.clone());
        }
        run(&scenario, "check", &[]).expect(0);
        let mut command = scenario.command(&[&["plan"], &UNTRUSTED[..]].concat());
        Output::of(command.env_remove("HOME")).expect(0);
    }
}

#[test]
fn what_a_stranger_names_outside_of_the_folder_is_an_error_with_its_place_and_cure() {
    let scenario = usual_site();
    let secret = tempfile::tempdir().expect("a folder");
    let outside = secret.path().to_str().expect("a text").to_owned();
    fs::write(secret.path().join("secret.txt"), "S3CRET\n").expect("our folder");
    let link = |target: &str, name: &str| {
        symlink(target, scenario.path(name)).expect("our folder");
    };
    link(&outside, "out");
    link("out", "way");
    scenario.make_folder("linked");
    link(&format!("{outside}/secret.txt"), "linked/in");
    let place = "path_mapper/web.json:1:";
    for (src, rest, what) in [
        (outside.as_str(), json!({}), "`src` leads out"),
        ("..", json!({}), "`src` leads out"),
        ("~/x", json!({ "exclude": ["*"] }), "`src` leads out"),
        ("out", json!({}), "`src` leads out"),
        ("way/secret.txt", json!({}), "`src` leads out"),
        ("way/nothing", json!({}), "`src` leads out"),
        ("/proc/self/environ", json!({}), "`src` leads out"),
        (
            "linked",
            json!({ "symlinks": "follow" }),
            "a link that leads out of the configuration's folder: in",
        ),
    ] {
        let mut mapping = json!({ "src": src, "dest": "/srv/x" });
        for (key, value) in rest.as_object().expect("an object") {
            mapping[key] = value.clone();
        }
        scenario.map("web", &json!([mapping]));
        for command in ["plan", "check"] {
            let mut command = scenario.command(&[&[command], &UNTRUSTED[..]].concat());
            let output = Output::of(command.env("HOME", &outside)).expect(1);
            assert!(!output.to_string().contains("S3CRET"), "{output}");
            let cure = "the configuration is not trusted";
            output.expect_stderr(&[place, what, cure]);
        }
    }
    // As it is, the link names nothing but text of theirs.
    scenario.map("web", &json!([{ "src": "linked", "dest": "/srv/x" }]));
    run(&scenario, "plan", &["--diff"]).expect(0);

    // The same in the other form.
    scenario.write(
        "hostsync.toml",
        "[[host]]\nip_address = \"web\"\nuser = \"u\"\n\n[[mapping]]\nsrc = \"out\"\ndest = \"/srv/x\"\n",
    );
    let output = run(&scenario, "plan", &[]).expect(1);
    output.expect_stderr(&["hostsync.toml:6:7", "`src` leads out"]);
}

#[test]
fn files_of_the_configuration_lie_in_its_folder_and_are_files() {
    let secret = tempfile::NamedTempFile::new().expect("a file");
    fs::write(secret.path(), "[{\"ip_address\": S3CRET}]\n").expect("our file");
    let outside = secret.path().to_str().expect("a text");
    let expect = |scenario: &Scenario, code: i32, parts: &[&str]| {
        let output = run(scenario, "plan", &[]).expect(code);
        assert!(!output.to_string().contains("S3CRET"), "{output}");
        let said = output.stdout.clone() + &output.stderr;
        Output {
            stderr: said,
            ..output
        }
        .expect_stderr(parts);
    };
    let instead = |name: &str| {
        let scenario = usual_site();
        scenario.remove(name);
        symlink(outside, scenario.path(name)).expect("our folder");
        scenario
    };
    let leads_out = "it is a link that leads out of the configuration's folder";
    expect(&instead("config.ini"), 1, &["config.ini", leads_out]);
    expect(
        &instead("connection_info.json"),
        1,
        &["connection_info.json leads out of the configuration's folder"],
    );
    expect(
        &instead("path_mapper/web.json"),
        3,
        &["path_mapper/web.json", leads_out],
    );
    for key in ["connection_info_path", "address_mapper_path"] {
        let scenario = usual_site();
        scenario.settings(&[&format!("{key} = {outside}")]);
        let what = format!("`{key}` leads out of the configuration's folder");
        expect(&scenario, 1, &["config.ini:3:", &what]);
    }
    for name in ["config.ini", "connection_info.json"] {
        let scenario = usual_site();
        scenario.remove(name);
        let made = Command::new("mkfifo").arg(scenario.path(name)).status();
        assert!(made.expect("mkfifo").success());
        expect(&scenario, 1, &[name, "it is not a file"]);
    }
    let scenario = usual_site();
    let large = fs::File::create(scenario.path("connection_info.json")).expect("our file");
    large.set_len(1 << 40).expect("a file with a hole");
    expect(
        &scenario,
        1,
        &["connection_info.json", "it is larger than 16 MiB"],
    );
}

#[test]
fn pipe_as_a_source_of_a_stranger_is_named_and_not_opened() {
    let scenario =
        site(&json!([{ "src": "src", "dest": "/srv/app" }, { "src": "pipe", "dest": "/srv/p" }]));
    for name in ["src/pipe", "pipe"] {
        let made = Command::new("mkfifo").arg(scenario.path(name)).status();
        assert!(made.expect("mkfifo").success());
    }
    let output = run(&scenario, "plan", &["--diff"]).expect(3);
    output.expect_stdout(&["is a pipe, which cannot be sent"]);
    scenario.map("web", &json!([{ "src": "src", "dest": "/srv/app" }]));
    let output = run(&scenario, "plan", &["--diff"]).expect(3);
    output.expect_stdout(&["pipe: is a pipe, which cannot be sent"]);
}

#[test]
fn stranger_shows_nothing_that_is_hidden_without_it() {
    let scenario = site(&json!([
        { "src": "src", "dest": "/srv/app", "symlinks": "follow" },
        { "src": ".git", "dest": "/srv/git" },
        { "src": ".git/hooks/../config", "dest": "/srv/plain" },
    ]));
    scenario.settings(&["diff_show = *, **, /srv, .git, .git/config"]);
    scenario.write(".git/config", "token = S3CRET\n");
    scenario.write(".git/hooks/x", "S3CRET\n");
    symlink("../.git/config", scenario.path("src/readme.txt")).expect("our folder");
    let output = run(
        &scenario,
        "plan",
        &["--diff", "--full", "--out", "plan.json"],
    )
    .expect(0);
    assert!(!output.to_string().contains("S3CRET"), "{output}");
    assert_eq!(
        output.stdout.matches("not shown: private").count(),
        4,
        "{output}"
    );
    let saved = fs::read_to_string(scenario.path("plan.json")).expect("a plan");
    assert!(!saved.contains("S3CRET"), "{saved}");
    output.expect_stdout(&["+text"]);
}

#[test]
fn plan_of_a_stranger_is_not_saved_through_a_link() {
    let scenario = usual_site();
    scenario.write("precious", "precious\n");
    symlink("precious", scenario.path("plan.json")).expect("our folder");
    let other = tempfile::tempdir().expect("a folder");
    symlink(other.path(), scenario.path("out")).expect("our folder");
    for path in ["plan.json", "out/plan.json", "src/../out/plan.json"] {
        let output = run(&scenario, "plan", &["--out", path]).expect(1);
        output.expect_stderr(&[
            "is a link, and the configuration is not trusted",
            "remove the link",
        ]);
    }
    let precious = fs::read_to_string(scenario.path("precious"));
    assert_eq!(precious.expect("it is there"), "precious\n");
    assert_eq!(Contents::of(other.path()).paths(), [""]);
    let elsewhere = other.path().join("plan.json").display().to_string();
    run(&scenario, "plan", &["--out", &elsewhere]).expect(0);
}

#[test]
fn markdown_of_a_stranger_names_nobody_and_links_nowhere() {
    let names = [
        "@everyone",
        "@org",
        "owner#1",
        "[x](https:evil.example)",
        "www.evil.example",
        "<a href=x>",
        "`` @twice ``",
        "\u{202e}@reversed",
    ];
    let mut scenario = Scenario::new();
    let mut mappings = Vec::new();
    for name in names {
        scenario.write(
            &format!("src/{name}"),
            format!("{name} https://evil.example\n```\n~~~\n@all\n"),
        );
        mappings.push(json!({ "src": format!("src/{name}"), "dest": format!("/srv/{name}") }));
    }
    symlink("@target https://evil.example", scenario.path("src/link")).expect("our folder");
    mappings.push(json!({ "src": "src", "dest": "/all" }));
    for host in ["@host", "https:evil.example"] {
        let host = json!({ "name": host, "ip_address": "127.2.40.4", "user": "u" });
        scenario.add_entry(host, &json!(mappings));
    }
    let missing = json!({ "name": "@missing", "ip_address": "127.2.40.4", "user": "u" });
    scenario.add_entry(
        missing,
        &json!([{ "src": "@gone www.evil.example", "dest": "/x" }]),
    );
    let output = run(&scenario, "plan", &["--diff", "--format", "markdown"]).expect(3);
    let ours = without_code(&output.stdout);
    for sign in ["@", "://", "www", "](", "evil", "#1", "href"] {
        assert!(!ours.contains(sign), "{sign}: {ours}\n---\n{output}");
    }
    assert!(!output.stdout.contains('\u{202e}'), "{output}");
    // They are there all the same.
    for sign in ["/srv/@everyone", "@target", "@gone"] {
        assert!(output.stdout.contains(sign), "{sign}: {output}");
    }
}

/// Markdown without what stands in fences, code spans and `<code>`.
fn without_code(markdown: &str) -> String {
    let mut ours = String::new();
    let mut fence: Option<String> = None;
    for line in markdown.lines() {
        let run: String = line
            .chars()
            .take_while(|c| *c == '`' || *c == '~')
            .collect();
        match &fence {
            Some(open) if line == open => fence = None,
            Some(_) => {}
            None if run.len() >= 3 && line.ends_with("diff") => fence = Some(run),
            None => ours.push_str(&(without_spans(line) + "\n")),
        }
    }
    assert_eq!(fence, None, "{markdown}");
    ours
}

fn without_spans(line: &str) -> String {
    let mut ours = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(['`', '<']) {
        ours.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("<code>") {
            rest = after.split_once("</code>").expect("it ends").1;
        } else if rest.starts_with('`') {
            let ticks = rest.len() - rest.trim_start_matches('`').len();
            let after = &rest[ticks..];
            let is_end = |at: &usize| {
                let run = after[*at..].len() - after[*at..].trim_start_matches('`').len();
                run == ticks && !after[..*at].ends_with('`')
            };
            let end = (0..after.len())
                .filter(|at| after.is_char_boundary(*at))
                .find(is_end);
            rest = &after[end.expect("it ends") + ticks..];
        } else {
            ours.push('<');
            rest = &rest[1..];
        }
    }
    ours + rest
}
