//! Runs the jobs of `gitlab-ci.yml` as GitLab would: the lines of `before_script` and `script` are one
//! script, those of `after_script` another one.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::expressions::{Scope, to_text};
use crate::forge::{COMMENT_TOKEN, FORK, JOB_TOKEN, PROJECT};
use crate::pipeline::{Ended, Job, Machine, Origin, Pipeline, System};

/// What a job may have; another key would be ignored here, and so is an error.
const JOB_KEYS: [&str; 9] = [
    "stage",
    "rules",
    "interruptible",
    "timeout",
    "script",
    "after_script",
    "artifacts",
    "resource_group",
    "variables",
];
const DEFAULT_KEYS: [&str; 3] = ["image", "before_script", "cache"];

pub(crate) fn plan(site: &Pipeline, branch: &str, from: Origin) -> Job {
    let machine = site.begin();
    let (repository, project) = match from {
        Origin::Here => ("origin", PROJECT),
        Origin::Fork => {
            if !site.path("fork.git").exists() {
                site.git(".", &["clone", "-q", "--bare", "origin.git", "fork.git"]);
                site.git("fork.git", &["branch", "-q", "-D", "hostsync-state"]);
            }
            let update = format!("+refs/heads/{branch}:refs/heads/{branch}");
            site.git("fork.git", &["fetch", "-q", "origin", &update]);
            ("fork", FORK)
        }
    };
    machine.check_out(repository, &format!("refs/heads/{branch}"), &[]);
    let variables = [
        ("CI_PIPELINE_SOURCE", "merge_request_event".to_owned()),
        ("CI_PROJECT_ID", project.to_owned()),
        ("CI_MERGE_REQUEST_EVENT_TYPE", "detached".to_owned()),
        ("CI_MERGE_REQUEST_IID", "1".to_owned()),
        ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", project.to_owned()),
        ("CI_MERGE_REQUEST_PROJECT_ID", PROJECT.to_owned()),
        ("CI_MERGE_REQUEST_TARGET_BRANCH_NAME", "main".to_owned()),
        ("CI_MERGE_REQUEST_PROJECT_URL", site.url("origin")),
    ];
    job(&machine, "plan", &variables, from)
}

pub(crate) fn apply(site: &Pipeline) -> Job {
    let machine = site.begin();
    machine.check_out("origin", "refs/heads/main", &[]);
    let variables = [
        ("CI_PIPELINE_SOURCE", "push".to_owned()),
        ("CI_PROJECT_ID", PROJECT.to_owned()),
        ("CI_COMMIT_BRANCH", "main".to_owned()),
        ("MAY_PUSH", "yes".to_owned()),
    ];
    job(&machine, "apply", &variables, Origin::Here)
}

fn job(machine: &Machine<'_>, name: &str, variables: &[(&str, String)], from: Origin) -> Job {
    let pipeline = Pipeline::example(System::GitLab);
    let job = &pipeline[name];
    for (map, known) in [(job, &JOB_KEYS[..]), (&pipeline["default"], &DEFAULT_KEYS)] {
        for key in map.as_object().expect("a map").keys() {
            assert!(known.contains(&key.as_str()), "{key} of {name}");
        }
    }
    let mut environment = environment(machine, &[&pipeline["variables"], &job["variables"]], from);
    environment.extend(
        variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone())),
    );
    expand(&mut environment);

    let values = json!(environment);
    let scope = Scope {
        values: &values,
        has_failed: false,
        was_cancelled: false,
    };
    let mut rules = job["rules"].as_array().expect("rules").iter();
    assert!(
        rules.any(|rule| scope.holds(rule.get("if"))),
        "the job {name} does not run"
    );

    let before = lines(&pipeline["default"]["before_script"]);
    let script = before + &lines(&job["script"]);
    let options = ["-eo", "pipefail"];
    let Ended {
        code,
        said: mut log,
        was_cancelled,
    } = machine.bash(&options, &script, &environment);
    // Where the machine is gone, nothing follows.
    if (code.is_some() || was_cancelled) && job["after_script"].is_array() {
        let status = match code {
            Some(0) => "success",
            Some(_) => "failed",
            None => "canceled",
        };
        environment.insert("CI_JOB_STATUS".to_owned(), status.to_owned());
        // How this ends is of no account to the job.
        log += &machine
            .bash(&options, &lines(&job["after_script"]), &environment)
            .said;
    }
    Job {
        code,
        log,
        steps: Vec::new(),
        summary: String::new(),
    }
}

fn lines(script: &Value) -> String {
    let lines = script.as_array().expect("a list of lines").iter();
    lines.map(|line| to_text(line) + "\n").collect()
}

/// What a job gets from GitLab, from the file and from the settings of the project.
fn environment(machine: &Machine<'_>, maps: &[&Value], from: Origin) -> BTreeMap<String, String> {
    let site = machine.site;
    let mut variables: BTreeMap<String, String> = maps
        .iter()
        .flat_map(|map| map.as_object().into_iter().flatten())
        .map(|(name, value)| (name.clone(), to_text(value)))
        .collect();
    let of_gitlab = [
        ("CI_API_V4_URL", format!("{}/api/v4", site.forge.url)),
        ("CI_JOB_TOKEN", JOB_TOKEN.to_owned()),
        (
            "CI_JOB_URL",
            format!("https://forge.example/jobs/{}", machine.run),
        ),
        ("CI_COMMIT_SHA", "0123abc".to_owned()),
        ("CI_COMMIT_BRANCH", String::new()),
        ("CI_DEFAULT_BRANCH", "main".to_owned()),
        ("CI_PROJECT_DIR", machine.checkout().display().to_string()),
    ];
    variables.extend(of_gitlab.map(|(name, value)| (name.to_owned(), value)));
    if from == Origin::Here {
        let key = machine.folder.join("variable-of-type-file");
        fs::copy(site.a.identity_file(), &key).expect("our folder");
        let password = site.b.account.password.clone().unwrap_or_default();
        let of_project = [
            ("HOSTSYNC_SSH_KEY", key.display().to_string()),
            ("HOSTSYNC_DB_PASSWORD", password),
            ("HOSTSYNC_COMMENT_TOKEN", COMMENT_TOKEN.to_owned()),
        ];
        variables.extend(of_project.map(|(name, value)| (name.to_owned(), value)));
    }
    variables
}

/// Replaces variables in the values of others, as GitLab does.
fn expand(variables: &mut BTreeMap<String, String>) {
    let plans = &variables["PLANS"];
    let expanded = plans
        .replace("$CI_API_V4_URL", &variables["CI_API_V4_URL"])
        .replace("$CI_PROJECT_ID", &variables["CI_PROJECT_ID"]);
    assert!(!expanded.contains('$'), "{expanded}");
    variables.insert("PLANS".to_owned(), expanded);
}
