//! The program and its SSH sessions, killed in the middle of an apply.

use std::process::Stdio;
use std::thread;
use std::time::Duration;

use serde_json::json;

use hostsync_testkit::Sshd;
use hostsync_testkit::scenario::{Scenario, backups, read_on, remove};

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Victim {
    Program,
    Session,
}

/// Kills after more and more of an apply, until it comes to its end before that.
fn kill_again_and_again(address: &str, victim: Victim, is_saved: bool) {
    let host = Sshd::start(address);
    let mapping = json!([{ "src": "src", "dest": "~/dest", "exact": true }]);
    let scenario = Scenario::with(&[&host], &mapping);
    scenario.write("src/becomes", "text 0");
    scenario.write("src/file", "text 0");
    scenario.apply();
    let (mut delay, mut killed) = (Duration::from_millis(60), 0);
    for round in 1.. {
        let (old, new) = (format!("text {}", round - 1), format!("text {round}"));
        remove(&scenario.path("src/becomes"));
        let becomes = if round % 2 == 0 {
            "becomes"
        } else {
            "becomes/file"
        };
        scenario.write(&format!("src/{becomes}"), &new);
        scenario.write("src/file", &new);
        scenario.write(&format!("src/new{round}"), &new);
        scenario
            .run(&["plan", "--out", "plan.json", "-q"])
            .expect(0);
        let args: &[&str] = if is_saved {
            &["apply", "plan.json"]
        } else {
            &["apply", "--auto-approve"]
        };

        let mut command = scenario.command(args);
        let mut program = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        thread::sleep(delay);
        let is_over = program.try_wait().unwrap().is_some();
        if victim == Victim::Program {
            program.kill().unwrap();
        } else {
            host.cut_connections();
        }
        program.wait().unwrap();
        killed += usize::from(!is_over);

        let now = read_on(&host, "dest/file").unwrap();
        assert!(now == old || now == new, "{now}");
        let is_kept = now == old || backups(&host).iter().any(|(_, text)| *text == old);
        assert!(is_kept, "{old} is lost");
        if !is_saved {
            let changes = scenario.changes(&host);
            let is_theirs = |change: &String| {
                ["drift", "unmanaged", "conflict"]
                    .iter()
                    .any(|word| change.contains(word))
            };
            assert!(!changes.iter().any(is_theirs), "{changes:?}");
        }
        let end = scenario.run(args);
        // Killed after its last word, or not at all.
        let is_stale = is_saved && end.code == 4 && end.stderr.contains("applied already");
        assert!(end.code == 0 || is_stale, "{victim:?} {delay:?}: {end}");
        assert_eq!(read_on(&host, "dest/file").unwrap(), new);
        assert_eq!(read_on(&host, &format!("dest/{becomes}")).unwrap(), new);
        scenario.expect_nothing_to_do();
        if is_over {
            break;
        }
        delay = delay * 5 / 4;
    }
    println!("{victim:?}: killed {killed} times, saved plan: {is_saved}");
    assert!(killed > 0);
}

#[test]
fn program_that_is_killed_is_followed_by_one_that_finishes_its_work() {
    kill_again_and_again("127.0.91.1", Victim::Program, false);
}

#[test]
fn program_that_is_killed_can_be_followed_by_the_same_saved_plan() {
    kill_again_and_again("127.0.91.2", Victim::Program, true);
}

#[test]
fn session_that_is_killed_is_followed_by_a_run_that_finishes_its_work() {
    kill_again_and_again("127.0.91.3", Victim::Session, false);
    kill_again_and_again("127.0.91.4", Victim::Session, true);
}
