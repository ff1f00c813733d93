//! A repository with a configuration for two hosts, its server, and jobs that run for it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::forge::Forge;
use crate::{github, gitlab};
use hostsync_testkit::{Sshd, run};

const EXAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/ci");
const STAND_INS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/ci_examples/bin");

/// Which example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    GitHub,
    GitLab,
}

/// Where a pull request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Here,
    Fork,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Job {
    /// The exit code of the step that failed first; 0 without one; `None` when the job was killed.
    pub(crate) code: Option<i32>,
    /// All that its steps have said.
    pub(crate) log: String,
    /// The shell steps that were executed, by name; GitLab has none.
    pub(crate) steps: Vec<String>,
    /// What people are shown beside the log; GitLab has none.
    pub(crate) summary: String,
}

impl Job {
    /// Fails unless it ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.log);
        self
    }

    /// Fails unless it said all of this.
    #[track_caller]
    pub(crate) fn expect_log(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.log.contains(part), "no `{part}` in\n{}", self.log);
        }
        self
    }
}

/// The repository, its server and its hosts.
pub(crate) struct Pipeline {
    pub(crate) system: System,
    pub(crate) a: Sshd,
    pub(crate) b: Sshd,
    pub(crate) forge: Forge,
    /// What jobs get besides what their system gives them; set by a test.
    pub(crate) extra: BTreeMap<&'static str, String>,
    folder: tempfile::TempDir,
    runs: Cell<usize>,
}

impl Pipeline {
    /// A repository whose branch `main` nobody has planned for yet.
    pub(crate) fn new(system: System, hosts: [&str; 2]) -> Self {
        let [a, b] = hosts.map(Sshd::start);
        let folder = tempfile::Builder::new().prefix("hostsync-ci-").tempdir();
        let site = Self {
            system,
            a,
            b,
            forge: Forge::start(),
            extra: BTreeMap::from([
                ("STATE_WAIT", "0".to_owned()),
                ("HOSTSYNC_BIN", hostsync_testkit::program()),
            ]),
            folder: folder.expect("a temporary folder"),
            runs: Cell::new(0),
        };
        fs::create_dir(site.path("bin")).expect("our folder");
        for program in ["gh", "cargo"] {
            let stand_in = format!("{STAND_INS}/{program}.sh");
            symlink(stand_in, site.path("bin").join(program)).expect("our folder");
        }
        site.git(".", &["init", "-q", "--bare", "-b", "main", "origin.git"]);
        // Stands for the rights of the token that a job has.
        let hook = site.path("origin.git/hooks/pre-receive");
        write_program(&hook, "#!/bin/sh\n[ \"$MAY_PUSH\" = yes ]\n");
        site.git(".", &["clone", "-q", &site.url("origin"), "desk"]);
        site.git("desk", &["checkout", "-q", "-b", "main"]);
        site.write_configuration();
        site.commit("the first");
        site.git("desk", &["push", "-q", "origin", "main"]);
        site
    }

    fn write_configuration(&self) {
        let mut toml =
            "[settings]\nmodes = \"executable\"\nknown_hosts_path = \"known_hosts\"\n".to_owned();
        let password = self.b.account.password.as_ref();
        let of_b = match password {
            Some(_) => "passkey_env = \"HOSTSYNC_DB_PASSWORD\"".to_owned(),
            None => format!("identity_file = \"{}\"", self.b.identity_file().display()),
        };
        let of_a = "identity_file = \"~/.ssh/hostsync_key\"".to_owned();
        for (host, login) in [(&self.a, of_a), (&self.b, of_b)] {
            let entry = format!(
                "\n[[host]]\nip_address = \"{}\"\nport = {}\nuser = \"{}\"\n{login}\n",
                host.address,
                host.port,
                host.user(),
            );
            toml += &entry;
        }
        toml += "\n[[mapping]]\nsrc = \"files\"\ndest = \"~/files\"\nexact = true\n";
        self.write("hostsync.toml", &toml);
        let known = [&self.a, &self.b].map(|host| host.known_hosts_line());
        self.write("known_hosts", &known.concat());
        self.write("files/motd", "hello\n");
        self.write(
            ".gitignore",
            "/state/\n/logs/\n/plan.json\n/plan.md\n/.cargo/\n",
        );
        let script = read(Path::new(&format!("{EXAMPLES}/state-branch.sh")));
        fs::create_dir_all(self.path("desk/ci")).expect("our folder");
        write_program(&self.path("desk/ci/state-branch.sh"), &script);
    }

    /// The example, read as YAML.
    pub(crate) fn example(system: System) -> serde_json::Value {
        let name = match system {
            System::GitHub => "github-actions.yml",
            System::GitLab => "gitlab-ci.yml",
        };
        let text = fs::read_to_string(format!("{EXAMPLES}/{name}")).expect("the example");
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// A path below the temporary folder.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// URL of a repository, without the `.git` at its end.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("file://{}", self.path(name).display())
    }

    /// Writes a file at the desk, which is where somebody works.
    pub(crate) fn write(&self, relative: &str, text: &str) {
        let path = self.path("desk").join(relative);
        fs::create_dir_all(path.parent().expect("a folder")).expect("our folder");
        fs::write(path, text).expect("our folder");
    }

    fn commit(&self, message: &str) {
        self.git("desk", &["add", "--all"]);
        self.git("desk", &["commit", "-q", "-m", message]);
    }

    /// Runs git, as somebody who may push.
    pub(crate) fn git(&self, folder: &str, args: &[&str]) -> String {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=me", "-c", "user.email=me@localhost"]);
        command.args(args).current_dir(self.path(folder));
        command
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("MAY_PUSH", "yes");
        run(&mut command).trim_end().to_owned()
    }

    /// Somebody changes a file on a branch and pushes it, which opens a pull request or updates it.
    pub(crate) fn edit(&self, branch: &str, file: &str, text: &str) {
        let exists = self.git("desk", &["branch", "--list", branch]);
        match exists.as_str() {
            "" => self.git("desk", &["checkout", "-q", "-b", branch, "main"]),
            _ => self.git("desk", &["checkout", "-q", branch]),
        };
        self.write(file, text);
        self.commit("an edit");
        self.git("desk", &["push", "-q", "origin", branch]);
        self.offer(branch);
    }

    /// As GitHub does, offers what `main` would be with the branch.
    fn offer(&self, branch: &str) {
        self.git("desk", &["checkout", "-q", "--detach", "main"]);
        self.git("desk", &["merge", "-q", "--no-ff", "--no-edit", branch]);
        let to = format!("+HEAD:refs/pull/{branch}/merge");
        self.git("desk", &["push", "-q", "origin", &to]);
        self.git("desk", &["checkout", "-q", branch]);
    }

    /// Somebody merges a branch.
    pub(crate) fn merge(&self, branch: &str) {
        self.git("desk", &["checkout", "-q", "main"]);
        self.git("desk", &["merge", "-q", "--no-ff", "--no-edit", branch]);
        self.git("desk", &["push", "-q", "origin", "main"]);
    }

    /// From now on, `hostsync apply` is these commands of `sh`.
    pub(crate) fn replace_apply(&mut self, commands: &str) {
        let program = self.path("replaced");
        let script = format!(
            "#!/bin/sh\nif [ \"$1\" = apply ]; then\n{commands}\nfi\nexec '{}' \"$@\"\n",
            hostsync_testkit::program(),
        );
        write_program(&program, &script);
        self.extra
            .insert("HOSTSYNC_BIN", program.display().to_string());
    }

    /// Runs the job of a pull request.
    pub(crate) fn plan(&self, branch: &str, from: Origin) -> Job {
        match self.system {
            System::GitHub => github::plan(self, branch, from),
            System::GitLab => gitlab::plan(self, branch, from),
        }
    }

    /// Runs the job that follows a merge, or that somebody starts by hand.
    pub(crate) fn apply(&self) -> Job {
        match self.system {
            System::GitHub => github::apply(self),
            System::GitLab => gitlab::apply(self),
        }
    }

    /// Plans for a branch, merges it and applies it.
    #[track_caller]
    pub(crate) fn roll_out(&self, branch: &str) {
        self.plan(branch, Origin::Here).expect(0);
        self.merge(branch);
        self.apply().expect(0);
    }

    /// The number of a new run, and a fresh machine for it.
    pub(crate) fn begin(&self) -> Machine<'_> {
        self.runs.set(self.runs.get() + 1);
        let run = self.runs.get();
        let folder = self.path(&format!("machine-{run}"));
        for name in ["home", "checkout"] {
            fs::create_dir_all(folder.join(name)).expect("our folder");
        }
        Machine {
            site: self,
            run,
            folder,
        }
    }

    /// What the branch with the state has, as paths; empty while there is no branch.
    pub(crate) fn state_files(&self) -> Vec<String> {
        if self
            .git("origin.git", &["branch", "--list", "hostsync-state"])
            .is_empty()
        {
            return Vec::new();
        }
        let list = ["ls-tree", "-r", "--name-only", "hostsync-state"];
        let files = self.git("origin.git", &list);
        files.lines().map(str::to_owned).collect()
    }

    /// The messages of the branch with the state, the newest first.
    pub(crate) fn state_log(&self) -> Vec<String> {
        let log = self.git("origin.git", &["log", "--format=%s", "hostsync-state"]);
        log.lines().map(str::to_owned).collect()
    }

    /// A file of the branch with the state.
    pub(crate) fn state_file(&self, path: &str) -> serde_json::Value {
        let text = self.git("origin.git", &["show", &format!("hostsync-state:{path}")]);
        serde_json::from_str(&text).expect("JSON")
    }

    /// What a host has of the mapping.
    pub(crate) fn read_on(host: &Sshd, file: &str) -> Option<String> {
        fs::read_to_string(host.dir().join("files").join(file)).ok()
    }
}

/// A machine that runs one job and is thrown away.
pub(crate) struct Machine<'a> {
    pub(crate) site: &'a Pipeline,
    pub(crate) run: usize,
    pub(crate) folder: PathBuf,
}

impl Machine<'_> {
    pub(crate) fn checkout(&self) -> PathBuf {
        self.folder.join("checkout")
    }

    /// Gets `what` from a repository.
    pub(crate) fn check_out(&self, repository: &str, what: &str, depth: &[&str]) {
        let folder = format!("machine-{}/checkout", self.run);
        let site = self.site;
        let url = format!("{}.git", site.url(repository));
        site.git(&folder, &["init", "-q"]);
        site.git(&folder, &["remote", "add", "origin", &url]);
        site.git(
            &folder,
            &[&["fetch", "-q"], depth, &["origin", what]].concat(),
        );
        site.git(&folder, &["checkout", "-q", "--detach", "FETCH_HEAD"]);
    }

    /// Executes a script as `bash` with these options, as a step of the job.
    pub(crate) fn bash(
        &self,
        options: &[&str],
        script: &str,
        environment: &BTreeMap<String, String>,
    ) -> Ended {
        let file = self.folder.join("step.sh");
        fs::write(&file, script).expect("our folder");
        let output = self.folder.join("output");
        let log = fs::File::create(&output).expect("our folder");
        let path = std::env::var("PATH").expect("a path");
        let home = self.folder.join("home");
        let mut command = Command::new("bash");
        command
            .args(options)
            .arg(&file)
            .current_dir(self.checkout())
            .env_clear()
            .env(
                "PATH",
                format!(
                    "{0}/.cargo/bin:{1}:{path}",
                    home.display(),
                    self.site.path("bin").display()
                ),
            )
            .env("HOME", &home)
            .env("FORGE", &self.site.forge.url)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(environment)
            .envs(&self.site.extra)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file"))
            .stderr(log)
            .process_group(0);
        let mut child = command.spawn().expect("bash");
        let is_due = |order: &str| fs::remove_file(self.site.path(order)).is_ok();
        let pid = Pid::from_child(&child);
        let mut was_cancelled = false;
        let status = loop {
            if let Some(status) = child.try_wait().expect("our child") {
                break status;
            }
            if is_due("kill-the-job") {
                kill_process_group(pid, Signal::KILL).expect("our child");
            }
            if is_due("cancel-the-job") {
                cancel(pid, self.site.system);
                was_cancelled = true;
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        let said = fs::read(output).expect("our file");
        Ended {
            code: status.code(),
            said: String::from_utf8_lossy(&said).into_owned(),
            was_cancelled,
        }
    }
}

/// How a script ended.
pub(crate) struct Ended {
    /// Its exit code; `None` when it was killed.
    pub(crate) code: Option<i32>,
    /// What it said on both streams.
    pub(crate) said: String,
    pub(crate) was_cancelled: bool,
}

/// Ends a step as somebody who cancels the job does: GitHub interrupts the shell and nothing else,
/// GitLab kills the script with all that it has started.
fn cancel(shell: Pid, system: System) {
    let result = match system {
        System::GitHub => kill_process(shell, Signal::INT),
        System::GitLab => kill_process_group(shell, Signal::KILL),
    };
    result.expect("our child");
}

fn write_program(path: &Path, script: &str) {
    fs::write(path, script).expect("our folder");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("our file");
}

/// Reads a file that may not be there.
pub(crate) fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}
