//! Remarks on files that too many may read or write.

use serde_json::json;

use hostsync_testkit::Sshd;
use hostsync_testkit::scenario::Scenario;

use crate::schema::Schema;

#[test]
fn plan_remarks_on_secrets_that_others_read_and_known_hosts_that_they_write() {
    let host = Sshd::start("127.2.41.1");
    let mut scenario = Scenario::of_folder(&host);
    scenario.write("src/file", "text\n");
    let key = std::fs::read(host.identity_file()).expect("a key");
    scenario.write("key", key);
    scenario.set(0, "identity_file", json!("key"));
    scenario.set(0, "passkey", json!("S3CRET"));
    for name in ["key", "connection_info.json", "known_hosts"] {
        scenario.chmod(name, 0o600);
    }
    let quiet = scenario.run(&["plan", "--out", "quiet.json"]).expect(0);
    assert!(!quiet.to_string().contains("Remarks"), "{quiet}");
    let quiet = scenario.plan();
    assert!(quiet.get("remarks").is_none(), "{quiet}");

    scenario.chmod("key", 0o644);
    scenario.chmod("connection_info.json", 0o640);
    scenario.chmod("known_hosts", 0o666);
    let secret = "connection_info.json: holds passkeys, and others may read it (mode 640); run `chmod 600` on it";
    let key = "key: is a private key, and others may read it (mode 644); run `chmod 600` on it";
    let known = "known_hosts: decides which hosts are logged in to, and others may write to it (mode 666); \
                 run `chmod go-w` on it";
    scenario
        .run(&["check"])
        .expect(0)
        .expect_stderr(&[secret, key, known]);
    let text = scenario.run(&["plan", "--out", "plan.json"]).expect(0);
    assert!(
        text.stdout
            .trim_end()
            .lines()
            .last()
            .is_some_and(|line| line.starts_with("Plan: "))
    );
    let text = text.expect_stdout(&["Remarks on the configuration", secret, key, known]);
    assert!(!text.to_string().contains("S3CRET"), "{text}");
    let markdown = scenario.run(&["plan", "--format", "markdown"]).expect(0);
    assert!(
        markdown
            .stdout
            .contains("\n#### Remarks on the configuration\n"),
        "{markdown}"
    );
    markdown.expect_stdout(&["- ``key: is a private key"]);

    let plan = scenario.plan();
    Schema::load("plan").expect_valid(&plan);
    let remarks = plan["remarks"].as_array().expect("a list");
    let mut kinds: Vec<_> = remarks
        .iter()
        .map(|it| (it["kind"].as_str(), it["path"].as_str()))
        .collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            (Some("open_known_hosts"), Some("known_hosts")),
            (Some("open_secret"), Some("connection_info.json")),
            (Some("open_secret"), Some("key")),
        ]
    );
    // A plan that was saved keeps them, and is carried out.
    let shown = scenario.run(&["show", "plan.json"]).expect(0);
    shown.expect_stdout(&[known]);
    scenario.run(&["apply", "plan.json"]).expect(0);
}
