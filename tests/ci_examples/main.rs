//! The CI examples, executed: their shell steps as they are, against a real git repository and real SSH
//! servers. Only the servers of GitHub and GitLab are stand-ins.

mod expressions;
mod forge;
mod github;
mod gitlab;
mod pipeline;

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use pipeline::{Job, Origin, Pipeline, System};

/// Shell steps of `plan` in GitHub's example.
const PLANNED: [&str; 6] = [
    "Install hostsync",
    "Log in with a key",
    "Fetch the state",
    "Plan",
    "Comment",
    "Result",
];
/// Those of a pull request from a fork.
const PLANNED_FOR_FORK: [&str; 4] = ["Install hostsync", "Fetch the state", "Plan", "Result"];
/// Shell steps of `apply` with a plan that can be carried out.
const APPLIED: [&str; 6] = [
    "Install hostsync",
    "Log in with a key",
    "Find the reviewed plan",
    "Claim the state",
    "Apply the reviewed plan",
    "Publish the state",
];
/// Those without a plan.
const WITHOUT_A_PLAN: [&str; 5] = [
    "Install hostsync",
    "Log in with a key",
    "Find the reviewed plan",
    "Plan again",
    "Result",
];

/// Fails unless these shell steps were executed, in this order.
#[track_caller]
fn assert_steps(site: &Pipeline, job: &Job, steps: &[&str]) {
    if site.system == System::GitHub {
        assert_eq!(job.steps, steps, "{}", job.log);
    }
}

/// One test for each of the two systems; every one has its own addresses.
macro_rules! with_both {
    ($($scenario:ident: $third:literal;)*) => {
        mod on_github {
            $(#[test] fn $scenario() {
                let hosts = [concat!("127.0.40.", $third), concat!("127.0.41.", $third)];
                super::$scenario(&mut super::Pipeline::new(super::System::GitHub, hosts));
            })*
        }
        mod on_gitlab {
            $(#[test] fn $scenario() {
                let hosts = [concat!("127.0.42.", $third), concat!("127.0.43.", $third)];
                super::$scenario(&mut super::Pipeline::new(super::System::GitLab, hosts));
            })*
        }
    };
}

with_both! {
    plan_is_one_comment_and_is_applied_after_the_merge: "1";
    what_came_in_between_is_refused_until_the_new_plan_is_reviewed: "2";
    host_that_was_changed_since_the_review_is_left_alone: "3";
    claimed_state_refuses_a_second_apply: "4";
    claim_of_a_killed_job_is_taken_over: "5";
    what_a_killed_job_wrote_is_recorded_by_the_next: "11";
    cancelled_job_interrupts_hostsync_and_gives_its_claim_back: "10";
    state_is_published_after_an_apply_that_failed: "6";
    fork_without_secrets_gets_a_plan_that_nobody_applies: "7";
    configuration_of_a_fork_leads_nothing_out_of_the_checkout: "12";
    plan_that_cannot_be_made_replaces_the_old_comment: "8";
    state_that_cannot_be_published_is_kept: "9";
}

fn plan_is_one_comment_and_is_applied_after_the_merge(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    let job = site.plan("topic", Origin::Here).expect(0);
    assert_steps(site, &job, &PLANNED);
    let comments = site.forge.comments();
    assert_eq!(comments.len(), 1, "{comments:?}");
    assert!(comments[0].body.starts_with("<!-- hostsync plan -->\n"));
    assert!(
        comments[0].body.contains("Plan: 4 to create"),
        "{comments:?}"
    );
    assert_eq!(Pipeline::read_on(&site.a, "motd"), None);

    site.edit("topic", "files/more", "two\n");
    site.plan("topic", Origin::Here).expect(0);
    let updated = site.forge.comments();
    assert_eq!(updated.len(), 1, "{updated:?}");
    assert_eq!(updated[0].id, comments[0].id);
    assert!(updated[0].body.contains("Plan: 6 to create"), "{updated:?}");

    site.merge("topic");
    let job = site.apply().expect(0);
    assert_steps(site, &job, &APPLIED);
    for host in [&site.a, &site.b] {
        assert_eq!(Pipeline::read_on(host, "motd").as_deref(), Some("one\n"));
        assert_eq!(Pipeline::read_on(host, "more").as_deref(), Some("two\n"));
    }
    assert_eq!(site.state_file("state.json")["serial"], 1);
    let files = site.state_files();
    // Two hosts, the state itself, and two trees: what is there, and what was there before, which is nothing.
    assert_eq!(files.len(), 5, "{files:?}");
    assert!(
        files
            .iter()
            .all(|file| !file.starts_with("cache") && file != "lock")
    );
    let log = site.state_log();
    assert!(log[0].starts_with("apply of 0123abc"), "{log:?}");
    assert!(log[1].starts_with("claim: "), "{log:?}");
    assert!(
        log.iter().all(|message| message.ends_with("[skip ci]")),
        "{log:?}"
    );

    // Where nothing is to change, there is neither a comment nor a refusal.
    site.edit("words", "README.md", "Words.\n");
    site.plan("words", Origin::Here).expect(0);
    assert!(site.forge.comments()[0].body.contains("No changes"));
    site.merge("words");
    site.apply().expect(0);
    site.edit("more-words", "README.md", "More words.\n");
    site.merge("more-words");
    let job = site.apply().expect(0);
    assert_steps(site, &job, &WITHOUT_A_PLAN);
    assert_eq!(site.forge.refused(), Vec::<String>::new());
}

fn what_came_in_between_is_refused_until_the_new_plan_is_reviewed(site: &mut Pipeline) {
    site.edit("first", "files/first", "1\n");
    site.edit("second", "files/second", "2\n");
    site.edit("old", "files/old", "3\n");
    site.plan("second", Origin::Here).expect(0);
    site.roll_out("first");
    site.merge("second");

    let before = site.forge.kept();
    let job = site.apply().expect(4);
    assert_steps(site, &job, &WITHOUT_A_PLAN);
    for host in [&site.a, &site.b] {
        assert_eq!(Pipeline::read_on(host, "first").as_deref(), Some("1\n"));
        assert_eq!(Pipeline::read_on(host, "second"), None);
    }
    assert_eq!(site.state_file("state.json")["serial"], 1);
    assert_eq!(site.forge.kept().len(), before.len() + 1);
    let shown = job.summary + &job.log;
    assert!(shown.contains("Plan: 2 to create"), "{shown}");
    assert!(
        shown.contains("Nobody has reviewed this plan yet"),
        "{shown}"
    );

    // Somebody has read it, and starts the job again.
    let job = site.apply().expect(0);
    assert_steps(site, &job, &APPLIED);
    assert_eq!(Pipeline::read_on(&site.b, "second").as_deref(), Some("2\n"));
    assert_eq!(site.state_file("state.json")["serial"], 2);

    // A branch that is behind is planned for as it will be after the merge.
    site.edit("old", "files/old", "4\n");
    site.roll_out("old");
    assert_eq!(Pipeline::read_on(&site.b, "old").as_deref(), Some("4\n"));
    assert_eq!(Pipeline::read_on(&site.b, "second").as_deref(), Some("2\n"));
}

fn host_that_was_changed_since_the_review_is_left_alone(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.roll_out("topic");
    site.edit("next", "files/motd", "two\n");
    site.plan("next", Origin::Here).expect(0);
    site.merge("next");
    let theirs = site.a.dir().join("files/motd");
    fs::write(&theirs, "theirs\n").expect("root may");
    let job = site
        .apply()
        .expect(4)
        .expect_log(&["left alone", "has changed since the plan"]);
    let with_the_rest = [&APPLIED[..], &["Plan again"]].concat();
    assert_steps(site, &job, &with_the_rest);
    assert_eq!(
        Pipeline::read_on(&site.a, "motd").as_deref(),
        Some("theirs\n")
    );
    assert_eq!(Pipeline::read_on(&site.b, "motd").as_deref(), Some("two\n"));
    let shown = job.summary + &job.log;
    assert!(shown.contains("1 conflict"), "{shown}");
    // Reviewed, with the conflict.
    site.apply().expect(0);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("two\n"));
}

fn claimed_state_refuses_a_second_apply(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    site.merge("topic");
    let other = Desk::of(site, "other");
    other.expect(&["claim", "600", "somebody at a desk"], 0);

    site.apply()
        .expect(5)
        .expect_log(&["claimed by somebody at a desk", "seconds more at most"]);
    assert_eq!(Pipeline::read_on(&site.a, "motd"), None);
    assert_eq!(site.state_log().len(), 1, "{:?}", site.state_log());

    other.write_state("{}\n");
    other.expect(&["publish", "by hand"], 0);
    assert_eq!(site.state_files(), ["state.json"]);
    assert_eq!(site.state_log().len(), 2);
}

fn claim_of_a_killed_job_is_taken_over(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    site.merge("topic");
    // The machine goes away when hostsync has just begun.
    let marker = site.path("kill-the-job");
    let body = format!("touch '{}'; exec sleep 3", marker.display());
    let well = site.extra["HOSTSYNC_BIN"].clone();
    site.replace_apply(&body);
    site.extra.insert("CLAIM_SECONDS", "0".to_owned());
    site.extra.insert("STATE_GRACE", "0".to_owned());
    assert_eq!(site.apply().code, None);

    site.extra.insert("HOSTSYNC_BIN", well);
    assert!(site.state_log()[0].starts_with("claim: "));
    // Nobody does anything about it.
    thread::sleep(Duration::from_secs(1));
    site.apply()
        .expect(0)
        .expect_log(&["without a result: taken over"]);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("one\n"));
    assert_eq!(site.state_file("state.json")["serial"], 1);
}

fn what_a_killed_job_wrote_is_recorded_by_the_next(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.roll_out("topic");
    site.edit("next", "files/motd", "two\n");
    site.plan("next", Origin::Here).expect(0);
    site.merge("next");
    // The machine goes away between the hosts and the branch.
    let marker = site.path("kill-the-job");
    let program = hostsync_testkit::program();
    let well = site.extra["HOSTSYNC_BIN"].clone();
    let body = format!(
        "'{program}' \"$@\"; touch '{}'; exec sleep 3",
        marker.display()
    );
    site.replace_apply(&body);
    site.extra.insert("CLAIM_SECONDS", "0".to_owned());
    site.extra.insert("STATE_GRACE", "0".to_owned());
    assert_eq!(site.apply().code, None);
    assert_eq!(site.state_file("state.json")["serial"], 1);

    site.extra.insert("HOSTSYNC_BIN", well);
    thread::sleep(Duration::from_secs(1));
    let job = site.apply().expect(4);
    let shown = job.summary + &job.log;
    assert!(shown.contains("No changes: 2 hosts agree"), "{shown}");
    site.apply().expect(0);
    assert_eq!(site.state_file("state.json")["serial"], 2);
    let plan = site.plan("next", Origin::Here).expect(0);
    let shown = plan.summary + &site.forge.comments()[0].body;
    assert!(shown.contains("No changes: 2 hosts agree"), "{shown}");
    assert!(!shown.contains("to record"), "{shown}");
}

fn cancelled_job_interrupts_hostsync_and_gives_its_claim_back(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    site.merge("topic");
    let marker = site.path("cancel-the-job");
    let well = site.extra["HOSTSYNC_BIN"].clone();
    site.replace_apply(&format!(
        "trap 'echo interrupted; exit 130' TERM; sleep 0.2; touch '{}'; for i in $(seq 60); do sleep 0.05; done",
        marker.display()
    ));
    let job = site.apply();
    if site.system == System::GitHub {
        let job = job.expect(130).expect_log(&["interrupted"]);
        assert_steps(site, &job, &APPLIED);
    }
    let log = site.state_log();
    assert!(log[0].starts_with("apply of"), "{log:?}");
    site.extra.insert("HOSTSYNC_BIN", well);
    site.apply().expect(0);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("one\n"));
}

fn state_is_published_after_an_apply_that_failed(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    site.merge("topic");
    site.b.stop();
    let job = site.apply().expect(3);
    assert_steps(site, &job, &APPLIED);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("one\n"));
    let a = format!("hosts/{}.json", site.a.address);
    assert_eq!(site.state_file(&a)["progress"], "finished");
    // The host is back; what is left of the plan is done.
    site.b.restart();
    site.apply().expect(0);
    assert_eq!(Pipeline::read_on(&site.b, "motd").as_deref(), Some("one\n"));
    // A host that is down is seen in the review, too.
    site.b.stop();
    site.edit("next", "files/motd", "two\n");
    site.plan("next", Origin::Here).expect(3);
    let comment = site.forge.comments().remove(0).body;
    assert!(comment.contains("1 host unreachable"), "{comment}");
}

fn fork_without_secrets_gets_a_plan_that_nobody_applies(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.roll_out("topic");
    let comments = site.forge.comments();
    let kept = site.forge.kept();
    site.edit("theirs", "files/motd", "theirs\n");
    let job = site.plan("theirs", Origin::Fork).expect(0);
    assert_steps(site, &job, &PLANNED_FOR_FORK);
    let shown = job.summary + &job.log;
    assert!(shown.contains("Plan: 0 to create, 2 to update"), "{shown}");
    assert_eq!(site.forge.comments(), comments);
    assert_eq!(site.forge.kept(), kept);

    // And if a fork leaves a plan behind all the same?
    site.git("desk", &["checkout", "-q", "main"]);
    site.merge("theirs");
    let tree = site.git("desk", &["rev-parse", "HEAD^{tree}"]);
    let name = format!("plan-{tree}");
    let forged = b"a plan that nobody here has made".to_vec();
    site.forge.keep(&name, 99, forge::FORK, forged);
    site.apply().expect(4);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("one\n"));
    site.apply().expect(0);
    assert_eq!(
        Pipeline::read_on(&site.a, "motd").as_deref(),
        Some("theirs\n")
    );
}

fn configuration_of_a_fork_leads_nothing_out_of_the_checkout(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.roll_out("topic");
    let ours = fs::read_to_string(site.path("desk/hostsync.toml")).expect("our file");
    let logs = site.path("theirs");
    let settings = format!("[settings]\nlog_path = \"{}\"\n", logs.display());
    let toml = ours.replace("[settings]\n", &settings);
    site.edit("theirs", "files/motd", "theirs\n");
    site.edit("theirs", "hostsync.toml", &toml);
    let job = site.plan("theirs", Origin::Fork).expect(0);
    let shown = job.summary + &job.log;
    assert!(shown.contains("Plan: 0 to create, 2 to update"), "{shown}");
    assert!(!logs.exists(), "a fork decides where logs are");

    let outside = site.path("outside");
    fs::write(&outside, "S3CRET\n").expect("our folder");
    let mapping = format!(
        "\n[[mapping]]\nsrc = \"{}\"\ndest = \"~/x\"\n",
        outside.display()
    );
    site.edit("theirs", "hostsync.toml", &(toml + &mapping));
    let job = site
        .plan("theirs", Origin::Fork)
        .expect(1)
        .expect_log(&["hostsync.toml:", "leads out of the configuration's"]);
    assert!(!(job.summary + &job.log).contains("S3CRET"));
}

fn plan_that_cannot_be_made_replaces_the_old_comment(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    let kept = site.forge.kept();
    site.edit("topic", "hostsync.toml", "[settings]\nno = 1\n");
    site.plan("topic", Origin::Here)
        .expect(1)
        .expect_log(&["unknown key"]);
    let comments = site.forge.comments();
    assert_eq!(comments.len(), 1);
    assert!(
        comments[0].body.contains("There is no plan"),
        "{comments:?}"
    );
    assert_eq!(site.forge.kept(), kept);
}

fn state_that_cannot_be_published_is_kept(site: &mut Pipeline) {
    site.edit("topic", "files/motd", "one\n");
    site.plan("topic", Origin::Here).expect(0);
    site.merge("topic");
    // Nothing but a claim gets through.
    let hook = "#!/bin/sh\nwhile read -r old new ref; do\n  \
                git log -1 --format=%s \"$new\" | grep -q '^claim' || exit 1\ndone\n";
    fs::write(site.path("origin.git/hooks/pre-receive"), hook).expect("our file");
    site.apply()
        .expect(1)
        .expect_log(&["cannot push to hostsync-state", "keep it"]);
    assert_eq!(Pipeline::read_on(&site.a, "motd").as_deref(), Some("one\n"));
    if site.system == System::GitHub {
        let kept = site.forge.kept();
        assert!(
            kept.iter().any(|name| name.starts_with("state-")),
            "{kept:?}"
        );
    }
}

/// A clone of the repository in which somebody uses the script by hand.
struct Desk<'a> {
    site: &'a Pipeline,
    name: String,
}

impl<'a> Desk<'a> {
    fn of(site: &'a Pipeline, name: &str) -> Self {
        site.git(".", &["clone", "-q", &site.url("origin"), name]);
        Self {
            site,
            name: name.to_owned(),
        }
    }

    fn script(&self, args: &[&str]) -> (Option<i32>, String) {
        let folder = self.site.path(&self.name);
        let output = Command::new(folder.join("ci/state-branch.sh"))
            .args(args)
            .current_dir(folder)
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("MAY_PUSH", "yes")
            .output()
            .expect("the script");
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    }

    #[track_caller]
    fn expect(&self, args: &[&str], code: i32) -> String {
        let (ended, said) = self.script(args);
        assert_eq!(ended, Some(code), "{args:?}: {said}");
        said
    }

    fn write_state(&self, text: &str) {
        let folder = self.site.path(&self.name).join("state");
        fs::create_dir_all(&folder).expect("our folder");
        fs::write(folder.join("state.json"), text).expect("our folder");
    }
}

#[test]
fn of_many_who_claim_at_once_one_succeeds_and_nothing_is_lost() {
    let site = Pipeline::new(System::GitHub, ["127.0.44.1", "127.0.44.2"]);
    let desks: Vec<Desk> = (0..5)
        .map(|number| Desk::of(&site, &format!("desk-{number}")))
        .collect();
    for round in 0..3 {
        let folders: Vec<_> = desks.iter().map(|desk| site.path(&desk.name)).collect();
        let claims: Vec<_> = folders
            .into_iter()
            .map(|folder| {
                thread::spawn(move || {
                    let script = folder.join("ci/state-branch.sh");
                    let mut command = Command::new(script);
                    command.args(["claim", "600", "me"]).current_dir(folder);
                    command
                        .env("GIT_CONFIG_GLOBAL", "/dev/null")
                        .env("MAY_PUSH", "yes");
                    command.output().expect("the script").status.code()
                })
            })
            .collect();
        let codes: Vec<_> = claims
            .into_iter()
            .map(|claim| claim.join().expect("it ends"))
            .collect();
        let winners: Vec<_> = (0..codes.len())
            .filter(|index| codes[*index] == Some(0))
            .collect();
        assert_eq!(winners.len(), 1, "{codes:?}");
        assert!(
            codes.iter().all(|code| matches!(code, Some(0 | 5))),
            "{codes:?}"
        );
        let winner = &desks[winners[0]];
        if round > 0 {
            let text = fs::read_to_string(site.path(&winner.name).join("state/state.json"));
            assert_eq!(text.expect("a state"), format!("{}\n", round - 1));
        }
        winner.write_state(&format!("{round}\n"));
        winner.expect(&["publish", "a round"], 0);
    }
    assert_eq!(site.state_log().len(), 6);
}

#[test]
fn state_of_somebody_else_is_neither_replaced_nor_published() {
    let site = Pipeline::new(System::GitHub, ["127.0.44.3", "127.0.44.4"]);
    let (first, second) = (Desk::of(&site, "first"), Desk::of(&site, "second"));
    // A state that was there before the branch is taken in, but for what is of this machine alone.
    first.write_state("old\n");
    for file in ["cache/digests", "lock"] {
        let path = site.path("first/state").join(file);
        fs::create_dir_all(path.parent().expect("a folder")).expect("our folder");
        fs::write(path, "mine\n").expect("our folder");
    }
    first.expect(&["claim", "600", "first"], 0);
    first.expect(&["publish", "taken in"], 0);
    first.expect(&["publish", "once more"], 0);
    assert_eq!(site.state_files(), ["state.json"]);

    second.write_state("another\n");
    let said = second.expect(&["claim", "600", "second"], 1);
    assert!(said.contains("is not from hostsync-state"), "{said}");
    assert_eq!(site.state_log().len(), 2);
    fs::remove_dir_all(site.path("second/state")).expect("our folder");
    second.expect(&["claim", "0", "second"], 0);

    // It takes too long, and loses the claim.
    thread::sleep(Duration::from_millis(1100));
    let site_path = site.path("first");
    let taken = Command::new(site_path.join("ci/state-branch.sh"))
        .args(["claim", "600", "first"])
        .current_dir(&site_path)
        .envs([
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("MAY_PUSH", "yes"),
            ("STATE_GRACE", "0"),
        ])
        .status();
    assert!(taken.expect("the script").success());
    second.write_state("late\n");
    let said = second.expect(&["publish", "late"], 5);
    assert!(said.contains("keep it"), "{said}");
    first.write_state("new\n");
    first.expect(&["publish", "new"], 0);
    let text = site.git("origin.git", &["show", "hostsync-state:state.json"]);
    assert_eq!(text, "new");
    first.expect(&["claim", "x", "first"], 64);
    first.expect(&["lock"], 64);
}

#[test]
fn every_shell_step_of_github_is_one_that_is_executed() {
    let workflow = Pipeline::example(System::GitHub);
    let jobs = workflow["jobs"].as_object().expect("jobs");
    assert_eq!(jobs.keys().collect::<Vec<_>>(), ["apply", "plan"]);
    let shell_steps = |job: &str| -> BTreeSet<String> {
        let steps = jobs[job]["steps"].as_array().expect("steps").iter();
        let with_shell = steps.filter(|step| step["run"].is_string());
        with_shell
            .map(|step| step["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let executed = |lists: &[&[&str]]| -> BTreeSet<String> {
        lists.concat().into_iter().map(str::to_owned).collect()
    };
    assert_eq!(shell_steps("plan"), executed(&[&PLANNED]));
    assert_eq!(shell_steps("apply"), executed(&[&APPLIED, &WITHOUT_A_PLAN]));
}

#[test]
fn nothing_that_others_write_gets_into_a_script() {
    let workflow = Pipeline::example(System::GitHub);
    assert!(workflow["on"]["pull_request_target"].is_null());
    for job in workflow["jobs"].as_object().expect("jobs").values() {
        for step in job["steps"].as_array().expect("steps") {
            let script = step["run"].as_str().unwrap_or_default();
            assert!(!script.contains("${{"), "{step}");
        }
    }
}

#[test]
fn every_job_of_gitlab_is_one_that_is_executed() {
    let pipeline = Pipeline::example(System::GitLab);
    let keys: Vec<_> = pipeline.as_object().expect("a map").keys().collect();
    assert_eq!(keys, ["apply", "default", "plan", "stages", "variables"]);
}
