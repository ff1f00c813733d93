//! A `hostsync.toml` instead of the other files.

use hostsync_testkit::Sshd;
use hostsync_testkit::scenario::{Scenario, read_on};

#[test]
fn one_toml_file_is_planned_and_applied() {
    let host = Sshd::start("127.2.13.1");
    let scenario = Scenario::new();
    scenario.remove("config.ini");
    scenario.remove("path_mapper");
    scenario.write("known_hosts", host.known_hosts_line());
    scenario.write("files/a", "of all\n");
    scenario.write("files/b", "of the group\n");
    let configuration = format!(
        r#"
[settings]
known_hosts_path = "known_hosts"
number_of_connections = 2

[[host]]
name = "web"
ip_address = "{}"
port = {}
user = "{}"
identity_file = "{}"
groups = ["front"]

[[mapping]]
src = "files/a"
dest = "~/all/"

[[mapping]]
src = "files"
dest = "~/front"
exclude = ["a"]
groups = ["front"]
"#,
        host.address,
        host.port,
        host.account.name,
        host.identity_file().display(),
    );
    scenario.write("hostsync.toml", &configuration);
    let output = scenario.run(&["plan", "--detailed-exitcode"]).expect(2);
    output.expect_stdout(&["web", "~/all/a", "~/front"]);
    scenario.apply();
    assert_eq!(read_on(&host, "all/a").as_deref(), Some("of all\n"));
    assert_eq!(read_on(&host, "front/b").as_deref(), Some("of the group\n"));
    assert_eq!(read_on(&host, "front/a"), None);
    scenario.expect_nothing_to_do();

    let broken = configuration.replace("groups = [\"front\"]\n\n", "groups = [\"fornt\"]\n\n");
    scenario.write("hostsync.toml", broken);
    let output = scenario.run(&["check"]).expect(1);
    output.expect_stderr(&[
        "hostsync.toml:",
        "no group `front`",
        "did you mean `fornt`?",
    ]);
}
