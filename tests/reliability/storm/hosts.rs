//! Two hosts, one of them without perl, and machines that push to them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::{Value, json};

use crate::chance::Chance;
use crate::tree::Tree;
use hostsync_testkit::scenario::{Output, Scenario, chmod};
use hostsync_testkit::{Host, Sshd, SshdOptions};

/// What a run may take at the very most.
const LIMIT: Duration = Duration::from_secs(100);

/// The hosts.
pub(crate) struct Hosts {
    pub(crate) all: [Sshd; 2],
    /// Where the destination is, below the home folder.
    dest: &'static str,
    /// Every command of this system but perl.
    _commands: tempfile::TempDir,
}

impl Hosts {
    /// `127.0.N.11`, which has perl, and `127.0.N.12`, which has none.
    pub(crate) fn start(network: u8, dest: &'static str) -> Self {
        let commands = commands_without_perl();
        let options = SshdOptions {
            path: Some(commands.path().display().to_string()),
            ..SshdOptions::default()
        };
        let all = [
            Sshd::start(&format!("127.0.{network}.11")),
            Sshd::start_with(&format!("127.0.{network}.12"), &options),
        ];
        Self {
            all,
            dest,
            _commands: commands,
        }
    }

    /// What is in the destination of a host.
    pub(crate) fn tree(&self, host: usize) -> Tree {
        Tree::of(&self.all[host].dir().join(self.dest))
    }

    /// The same of all of them.
    pub(crate) fn trees(&self) -> Vec<Tree> {
        (0..self.all.len()).map(|host| self.tree(host)).collect()
    }

    /// Folders of ours on a host.
    fn folders_of_ours(&self, host: usize) -> [PathBuf; 2] {
        let home = self.all[host].dir();
        let beside = home.join(self.dest).with_file_name(".hostsync");
        [home.join(".hostsync"), beside]
    }

    /// Contents and targets in the backups of a host.
    pub(crate) fn kept(&self, host: usize) -> BTreeSet<String> {
        let mut kept = BTreeSet::new();
        for folder in self.folders_of_ours(host) {
            for backup in below(&folder, 3).filter(|path| path.ends_with("backup")) {
                kept.append(&mut Tree::of(&backup).contents());
            }
        }
        kept
    }

    /// Waits until no session has any process left, but for one that sleeps between two signs of life.
    #[track_caller]
    pub(crate) fn wait_until_idle(&self) {
        let started = Instant::now();
        loop {
            let running = self.all.iter().flat_map(|it| it.processes());
            let running: Vec<_> = running.filter(|(_, name)| name != "sleep").collect();
            if running.is_empty() {
                return;
            }
            assert!(started.elapsed() < LIMIT, "still there: {running:?}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Fails where a run or a lock is left. A folder that nobody has signed is given an hour.
    #[track_caller]
    pub(crate) fn assert_clean(&self, case: &str) {
        for host in 0..self.all.len() {
            for folder in self.folders_of_ours(host) {
                for path in below(&folder, 3) {
                    let name = path.file_name().expect("a name").to_string_lossy();
                    let is_run = name.starts_with("run-") && path.join("owner").exists();
                    let is_lock = name.starts_with("lock-") || name.starts_with("dead-");
                    assert!(
                        !is_run && !is_lock,
                        "{case}: {} is left: {:?}",
                        path.display(),
                        below(&path, 2).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    /// Waits until a commit has been told what to do, on any host.
    pub(crate) fn wait_for_a_commit(&self, limit: Duration) {
        let started = Instant::now();
        let is_told = |path: &PathBuf| path.ends_with("intent");
        while started.elapsed() < limit {
            for host in 0..self.all.len() {
                let [home, _] = self.folders_of_ours(host);
                if below(&home, 4).any(|path| is_told(&path)) {
                    return;
                }
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// All that is in a folder, so many levels deep.
pub(crate) fn below(folder: &Path, levels: usize) -> impl Iterator<Item = PathBuf> + use<> {
    walkdir::WalkDir::new(folder)
        .min_depth(1)
        .max_depth(levels)
        .into_iter()
        .flatten()
        .map(walkdir::DirEntry::into_path)
}

fn commands_without_perl() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    chmod(folder.path(), 0o755);
    for entry in fs::read_dir("/usr/bin").expect("commands").flatten() {
        let name = entry.file_name();
        if !name.to_string_lossy().starts_with("perl") {
            symlink(entry.path(), folder.path().join(name)).expect("our folder");
        }
    }
    folder
}

/// A work folder with a configuration, a source and a state of its own.
pub(crate) struct Machine {
    pub(crate) scenario: Scenario,
    pub(crate) source: Tree,
}

impl Machine {
    /// One that has never applied.
    pub(crate) fn new(hosts: &[&Host], dest: &str, settings: &[&str]) -> Self {
        let mapping = json!([{ "src": "src", "dest": dest, "exact": true }]);
        let scenario = Scenario::with(hosts, &mapping);
        let usual = [
            "max_delete = 100%",
            "stall_timeout = 20s",
            "number_of_connections = 4",
        ];
        scenario.settings(&[&usual, settings].concat());
        Self {
            scenario,
            source: Tree::default(),
        }
    }

    /// Another one, which has a copy of the state.
    pub(crate) fn copy_state_from(&self, other: &Self) {
        hostsync_testkit::run(
            Command::new("cp")
                .args(["-a", "--"])
                .arg(other.scenario.path("state"))
                .arg(self.scenario.path("state")),
        );
    }

    pub(crate) fn set_source(&mut self, tree: Tree) {
        tree.write(&self.scenario.path("src"));
        self.source = tree;
    }

    /// Starts the program, with its words in a file.
    pub(crate) fn start(&self, args: &[&str]) -> Run {
        let words = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = self.scenario.command(args);
        let append = || {
            let file = File::options().append(true).open(words.path());
            Stdio::from(file.expect("our file"))
        };
        let child = command.stdout(append()).stderr(append()).spawn();
        Run {
            child: child.expect("the program starts"),
            words,
            started: Instant::now(),
        }
    }

    /// Fails if the plan shows anything as somebody else's doing.
    #[track_caller]
    pub(crate) fn assert_all_ours(&self, case: &str) {
        let plan = self.scenario.plan();
        for host in plan["hosts"].as_array().expect("hosts") {
            assert_eq!(host["status"], "ok", "{case}: {host}");
        }
        let theirs = theirs(&plan);
        assert!(theirs.is_empty(), "{case}: {theirs:#?}");
    }

    /// Fails unless there is nothing to do.
    #[track_caller]
    pub(crate) fn assert_nothing_to_do(&self, case: &str) {
        let output = self.scenario.run(&["plan", "--detailed-exitcode"]);
        assert!(
            output.code == 0 && output.stdout.starts_with("No changes: "),
            "{case}: {output}"
        );
    }
}

/// Changes that a plan takes for somebody else's.
fn theirs(plan: &Value) -> Vec<String> {
    let sets = plan["change_sets"].as_array().expect("change sets");
    let changes = sets
        .iter()
        .flat_map(|set| set["changes"].as_array().expect("changes"));
    let flags = ["drift", "unmanaged", "conflict"];
    changes
        .filter(|change| flags.iter().any(|flag| change[flag] == true))
        .map(Value::to_string)
        .collect()
}

/// A run of the program.
pub(crate) struct Run {
    child: Child,
    words: tempfile::NamedTempFile,
    started: Instant,
}

impl Run {
    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("it is ours");
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("it is ours").is_some()
    }

    /// Waits for its end. The code of one that was killed is -1.
    #[track_caller]
    pub(crate) fn finish(mut self, case: &str) -> Output {
        while !self.is_over() {
            if self.started.elapsed() > LIMIT {
                self.kill();
                let words = fs::read_to_string(self.words.path()).expect("our file");
                panic!("{case}: no end after {LIMIT:?}: {words}");
            }
            thread::sleep(Duration::from_millis(5));
        }
        let status = self.child.wait().expect("it is ours");
        Output {
            code: status.code().unwrap_or(-1),
            stdout: String::new(),
            stderr: fs::read_to_string(self.words.path()).expect("our file"),
        }
    }
}

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The program here.
    Client,
    /// What does the work on the host with this number: perl, or the shells.
    Worker(usize),
    /// Some of the processes that belong to a session there.
    Some(usize),
    /// The session's part of sshd.
    Session(usize),
    /// All processes of all sessions there.
    Host(usize),
}

impl Victim {
    /// One, or several that are killed at once.
    pub(crate) fn random(chance: &mut Chance) -> Vec<Self> {
        let mut victims = Vec::new();
        for _ in 0..*chance.pick(&[1, 1, 1, 2, 3]) {
            let host = chance.below(2);
            victims.push(match chance.below(7) {
                0 | 1 => Self::Client,
                2 | 3 => Self::Worker(host),
                4 => Self::Some(host),
                5 => Self::Session(host),
                _ => Self::Host(host),
            });
        }
        victims
    }

    /// Kills it. Says how many processes that were.
    pub(crate) fn kill(self, run: &mut Run, hosts: &Hosts, chance: &mut Chance) -> usize {
        let host = match self {
            Self::Client => {
                let is_over = run.is_over();
                run.kill();
                return usize::from(!is_over);
            }
            Self::Worker(host) | Self::Some(host) | Self::Session(host) | Self::Host(host) => host,
        };
        let mut killed = 0;
        for (pid, name) in hosts.all[host].processes() {
            let is_meant = match self {
                Self::Worker(_) => matches!(name.as_str(), "perl" | "sh" | "dash"),
                Self::Some(_) => chance.one_in(2),
                Self::Session(_) => name.starts_with("sshd"),
                Self::Client | Self::Host(_) => true,
            };
            if is_meant {
                // It may have ended in this instant.
                killed += usize::from(kill_process(pid, Signal::KILL).is_ok());
            }
        }
        killed
    }
}
