//! Plans for a comment on a pull request.

use serde_json::json;

use hostsync_testkit::Sshd;
use hostsync_testkit::scenario::{Scenario, write_on};

#[test]
fn plan_as_markdown_has_its_conflicts_in_sight_and_keeps_to_the_limit() {
    let host = Sshd::start("127.2.16.1");
    let scenario = Scenario::with(&[&host], &json!([{ "src": "src", "dest": "~/dest" }]));
    for n in 0..100 {
        scenario.write(&format!("src/new `{n}` | <b>"), "text\n");
    }
    scenario.write("src/conflict", "ours\n");
    write_on(&host, "dest/conflict", "theirs\n");
    let output = scenario
        .run(&["plan", "--format", "markdown", "--detailed-exitcode"])
        .expect(2);
    let is_named =
        |line: &&str| line.starts_with("Plan `") && line.ends_with("`, made at serial 0.");
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines.iter().filter(|line| is_named(line)).count(), 1);
    let unnamed: Vec<&str> = lines.into_iter().filter(|line| !is_named(line)).collect();
    assert!(
        unnamed.join("\n").starts_with(
            "\
<!-- hostsync plan -->
### hostsync plan

**Plan: 100 to create, 1 to update, 0 to delete, 0 modes to change on 1 of 1 host (505 B to send); 1 conflict; 1 entry to record.**


#### 1 conflict

These were changed on the hosts, or were never written by hostsync. Applying this plan replaces or deletes them; \
the old versions are kept on the hosts for a while.

- `~/dest/conflict` (7 B → 5 B) on `127.2.16.1`: overwrites what is not ours

<details><summary><code>127.2.16.1</code>: 100 to create, and 1 conflict (above)</summary>

`src` → `~/dest`

```diff
+ new `0` | <b>   5 B  new
"
        ),
        "{output}"
    );
    let path = scenario.path("plan.json").display().to_string();
    scenario.run(&["plan", "--out", &path]).expect(0);
    let shown = scenario.run(&["show", &path, "--format", "markdown"]);
    assert_eq!(shown.expect(0).stdout, output.stdout);

    let limited = ["show", &path, "--format", "markdown", "--max-bytes", "1000"];
    let output = scenario.run(&limited).expect(0);
    assert!(output.stdout.len() <= 1000, "{output}");
    let note = "Not everything fits into 1000 bytes. Left out: ";
    assert!(output.stdout.contains(note), "{output}");
    assert!(output.stdout.contains("\n#### 1 conflict\n"), "{output}");
}
