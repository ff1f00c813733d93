//! Runs the jobs of `github-actions.yml` as GitHub would.
//!
//! Shell steps are executed as they are. Actions are done here: checkout, cache and upload-artifact,
//! and no other one.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};

use crate::expressions::{Scope, to_text};
use crate::forge::{FORK, PROJECT};
use crate::pipeline::{Ended, Job, Machine, Origin, Pipeline, System, read};

/// What a job may have; another key would be ignored here, and so is an error.
const JOB_KEYS: [&str; 7] = [
    "if",
    "runs-on",
    "timeout-minutes",
    "permissions",
    "concurrency",
    "env",
    "steps",
];
const STEP_KEYS: [&str; 6] = ["name", "id", "if", "env", "run", "uses"];

pub(crate) fn plan(site: &Pipeline, branch: &str, from: Origin) -> Job {
    let repository = match from {
        Origin::Here => "owner/name",
        Origin::Fork => "somebody/name",
    };
    let head = site.git("origin.git", &["rev-parse", branch]);
    let event = json!({
        "event_name": "pull_request",
        "ref": "refs/pull/1/merge",
        "event": { "pull_request": {
            "number": 1,
            "head": { "sha": head, "repo": { "full_name": repository } },
        } },
    });
    let what = format!("refs/pull/{branch}/merge");
    Run::new(site, "plan", event, from).steps(&what)
}

pub(crate) fn apply(site: &Pipeline) -> Job {
    let event = json!({ "event_name": "push", "ref": "refs/heads/main", "event": {} });
    Run::new(site, "apply", event, Origin::Here).steps("refs/heads/main")
}

struct Run<'a> {
    machine: Machine<'a>,
    workflow: Value,
    job: Value,
    from: Origin,
    /// The contexts of expressions.
    values: Value,
    was_cancelled: bool,
    ended: Job,
}

impl<'a> Run<'a> {
    fn new(site: &'a Pipeline, name: &str, mut github: Value, from: Origin) -> Self {
        let workflow = Pipeline::example(System::GitHub);
        let job = workflow["jobs"][name].clone();
        for key in job.as_object().expect("a job").keys() {
            assert!(JOB_KEYS.contains(&key.as_str()), "{key} of {name}");
        }
        let machine = site.begin();
        let permissions = match (&job["permissions"], from) {
            // Those of a fork may read, whatever the job asks for.
            (_, Origin::Fork) => json!({ "contents": "read", "actions": "read" }),
            (Value::Null, Origin::Here) => workflow["permissions"].clone(),
            (permissions, Origin::Here) => permissions.clone(),
        };
        let permissions: Vec<String> = permissions
            .as_object()
            .expect("permissions")
            .iter()
            .map(|(name, right)| format!("{name}:{}", to_text(right)))
            .collect();
        // Forks have none unless the settings of the repository say otherwise, as they do here.
        let secrets = json!({
            "HOSTSYNC_SSH_KEY": read(&site.a.identity_file()).trim_end(),
            "HOSTSYNC_DB_PASSWORD": site.b.account.password.as_deref().unwrap_or("a password"),
        });
        let context = github.as_object_mut().expect("an object");
        context.insert("token".to_owned(), permissions.join(",").into());
        context.insert("repository".to_owned(), "owner/name".into());
        context.insert("server_url".to_owned(), "https://forge.example".into());
        context.insert("run_id".to_owned(), machine.run.into());
        context.insert("run_attempt".to_owned(), 1.into());
        context.insert("actor".to_owned(), "me".into());
        let mut values = json!({
            "github": github, "secrets": secrets, "steps": {}, "env": {},
            "runner": { "os": "Linux", "arch": "X64" },
        });
        let scope = scope(&values, false);
        assert!(scope.holds(job.get("if")), "the job {name} does not run");
        let mut env = filled(&workflow["env"], &scope);
        env.extend(filled(&job["env"], &scope));
        env.extend(
            site.extra
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.clone())),
        );
        values["env"] = json!(env);
        Self {
            machine,
            workflow,
            job,
            from,
            values,
            was_cancelled: false,
            ended: Job {
                code: Some(0),
                log: String::new(),
                steps: Vec::new(),
                summary: String::new(),
            },
        }
    }

    fn steps(mut self, what: &str) -> Job {
        for step in self.job["steps"].as_array().expect("steps").clone() {
            let name = step["name"]
                .as_str()
                .expect("each step has a name")
                .to_owned();
            for key in step.as_object().expect("a step").keys() {
                let is_known = STEP_KEYS.contains(&key.as_str()) || key == "with";
                assert!(is_known, "{key} of step {name}");
            }
            let has_failed = self.ended.code != Some(0);
            let scope = Scope {
                values: &self.values,
                has_failed,
                was_cancelled: self.was_cancelled,
            };
            let holds = scope.holds(step.get("if"));
            let (outcome, outputs) = match (holds, step["run"].as_str()) {
                (false, _) => ("skipped", Map::new()),
                (true, Some(script)) => self.shell(&name, script, &step),
                (true, None) => {
                    self.action(&step, what);
                    ("success", Map::new())
                }
            };
            if self.ended.code.is_none() {
                break;
            }
            if let Some(id) = step["id"].as_str() {
                self.values["steps"][id] = json!({ "outcome": outcome, "outputs": outputs });
            }
        }
        self.ended
    }

    fn shell(
        &mut self,
        name: &str,
        script: &str,
        step: &Value,
    ) -> (&'static str, Map<String, Value>) {
        assert_eq!(self.workflow["defaults"]["run"]["shell"], "bash");
        let scope = scope(&self.values, false);
        let mut environment = filled(&self.values["env"], &scope);
        environment.extend(filled(&step["env"], &scope));
        if self.from == Origin::Fork {
            let secrets = self.values["secrets"].as_object().expect("an object");
            let of_us = |value: &&String| secrets.values().any(|secret| secret == value.as_str());
            let given = environment.values().find(of_us);
            assert_eq!(given, None, "step {name} of a fork gets a secret");
        }
        let file = |name: &str| self.machine.folder.join(name).display().to_string();
        fs::write(file("github-output"), "").expect("our folder");
        let may_push = self.from == Origin::Here && self.job["permissions"]["contents"] == "write";
        let github = &self.values["github"];
        let of_runner = [
            ("GITHUB_OUTPUT", file("github-output")),
            ("GITHUB_STEP_SUMMARY", file("summary")),
            ("GITHUB_REPOSITORY", to_text(&github["repository"])),
            ("GITHUB_RUN_ID", to_text(&github["run_id"])),
            ("GITHUB_RUN_ATTEMPT", to_text(&github["run_attempt"])),
            ("GITHUB_SHA", "0123abc".to_owned()),
            ("MAY_PUSH", if may_push { "yes" } else { "no" }.to_owned()),
        ];
        environment.extend(of_runner.map(|(name, value)| (name.to_owned(), value)));
        let options = ["--noprofile", "--norc", "-eo", "pipefail"];
        let Ended {
            code,
            said,
            was_cancelled,
        } = self.machine.bash(&options, script, &environment);
        self.was_cancelled |= was_cancelled;
        self.ended.log.extend(["=== ", name, "\n", &said]);
        self.ended.steps.push(name.to_owned());
        self.ended.summary = read(&self.machine.folder.join("summary"));
        if self.ended.code == Some(0) || code.is_none() {
            self.ended.code = code;
        }
        let outputs = read(&self.machine.folder.join("github-output"));
        let outputs = outputs.lines().map(|line| {
            let (name, value) = line.split_once('=').expect("name=value");
            (name.to_owned(), value.into())
        });
        let outcome = if code == Some(0) {
            "success"
        } else {
            "failure"
        };
        (outcome, outputs.collect())
    }

    fn action(&self, step: &Value, what: &str) {
        let uses = step["uses"]
            .as_str()
            .expect("a step runs or uses something");
        let (action, version) = uses.split_once('@').expect("a version");
        assert!(version.starts_with('v'), "{uses}");
        let scope = scope(&self.values, false);
        let with = filled(&step["with"], &scope);
        match action {
            "actions/checkout" => {
                assert!(with.is_empty(), "{with:?}");
                self.machine.check_out("origin", what, &["--depth=1"]);
            }
            "actions/cache" => assert!(with["key"].contains("-v0.1.0"), "{with:?}"),
            "actions/upload-artifact" => self.upload(&with),
            _ => panic!("{uses} is not known here"),
        }
    }

    fn upload(&self, with: &BTreeMap<String, String>) {
        let mut content = Vec::new();
        for path in with["path"].lines().filter(|line| !line.starts_with('!')) {
            let path = self.machine.checkout().join(path);
            if path.is_dir() {
                content.extend(read(&path.join("state.json")).into_bytes());
            } else {
                content.extend(fs::read(path).expect("the file to upload"));
            }
        }
        let repository = match self.from {
            Origin::Here => PROJECT,
            Origin::Fork => FORK,
        };
        let forge = &self.machine.site.forge;
        forge.keep(&with["name"], self.machine.run, repository, content);
    }
}

fn scope(values: &Value, has_failed: bool) -> Scope<'_> {
    Scope {
        values,
        has_failed,
        was_cancelled: false,
    }
}

/// A map of the workflow, with its expressions evaluated.
fn filled(map: &Value, scope: &Scope<'_>) -> BTreeMap<String, String> {
    let entries = map.as_object().into_iter().flatten();
    entries
        .map(|(name, value)| (name.clone(), scope.fill(&to_text(value))))
        .collect()
}
