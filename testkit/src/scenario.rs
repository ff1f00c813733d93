//! A folder with a configuration for a few hosts, and the program run in it.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::copied::Contents;
use crate::{Dropbear, Host};

/// A work folder. Everything in it is gone when it is dropped.
pub struct Scenario {
    folder: tempfile::TempDir,
    hosts: Vec<Value>,
    known_hosts: String,
}

impl Scenario {
    /// A folder with `config.ini`, in which no host is configured yet.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("hostsync-cli-")
            .tempdir()
            .expect("a temporary folder");
        let scenario = Self {
            folder,
            hosts: Vec::new(),
            known_hosts: String::new(),
        };
        for name in ["home", "path_mapper"] {
            fs::create_dir(scenario.path(name)).expect("our folder");
        }
        scenario.settings(&[]);
        scenario
    }

    /// A scenario in which every one of `hosts` gets these mappings.
    pub fn with(hosts: &[&Host], mappings: &Value) -> Self {
        let mut scenario = Self::new();
        for host in hosts {
            scenario.add(host, mappings);
        }
        scenario
    }

    /// A scenario in which the folder `src` goes to `~/dest` on one host.
    pub fn of_folder(host: &Host) -> Self {
        let scenario = Self::with(&[host], &json!([{ "src": "src", "dest": "~/dest" }]));
        scenario.make_folder("src");
        scenario
    }

    /// Adds a host that is known and lets us in with its key.
    pub fn add(&mut self, host: &Host, mappings: &Value) {
        self.known_hosts.push_str(&host.known_hosts_line());
        self.write("known_hosts", &self.known_hosts);
        self.add_entry(host.connection_info(), mappings);
    }

    /// Adds an entry of `connection_info.json`, as it is.
    pub fn add_entry(&mut self, entry: Value, mappings: &Value) {
        let name = entry.get("name").unwrap_or(&entry["ip_address"]);
        self.map(name.as_str().expect("a name"), mappings);
        self.hosts.push(entry);
        self.write("connection_info.json", json!(self.hosts).to_string());
    }

    /// Changes one key of the entry at `index` of `connection_info.json`; `Null` removes it.
    pub fn set(&mut self, index: usize, key: &str, value: Value) {
        let entry = self.hosts[index].as_object_mut().expect("an object");
        if value.is_null() {
            entry.remove(key);
        } else {
            entry.insert(key.to_owned(), value);
        }
        self.write("connection_info.json", json!(self.hosts).to_string());
    }

    /// Leaves no host in `connection_info.json`.
    pub fn forget_hosts(&mut self) {
        self.hosts.clear();
        self.write("connection_info.json", "[]");
    }

    /// Writes the mapper file of the host that has this name.
    pub fn map(&self, name: &str, mappings: &Value) {
        self.write(&format!("path_mapper/{name}.json"), mappings.to_string());
    }

    /// Writes `config.ini` with these lines besides the usual ones.
    pub fn settings(&self, lines: &[&str]) {
        let text = ["[DEFAULT]", "known_hosts_path = known_hosts"];
        self.write("config.ini", [&text, lines].concat().join("\n") + "\n");
    }

    /// A path below the work folder.
    pub fn path(&self, relative: &str) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Writes a file, and the folders above it.
    pub fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().expect("a folder")).expect("our folder");
        fs::write(path, text).expect("our folder");
    }

    /// Makes a folder, and those above it.
    pub fn make_folder(&self, relative: &str) {
        fs::create_dir_all(self.path(relative)).expect("our folder");
    }

    /// Sets permission bits.
    pub fn chmod(&self, relative: &str, mode: u32) {
        chmod(&self.path(relative), mode);
    }

    /// Removes a file or a folder with all that is in it.
    pub fn remove(&self, relative: &str) {
        remove(&self.path(relative));
    }

    /// Everything in the work folder.
    pub fn contents(&self) -> Contents {
        Contents::of(self.folder.path())
    }

    /// The program, ready to be run in the work folder. Nothing that belongs to whoever runs the tests
    /// changes what it does.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(crate::program());
        command.args(args);
        self.at_home(&mut command);
        command
    }

    /// Gives a command the folder and the environment that the program gets.
    pub fn at_home(&self, command: &mut Command) {
        command
            .current_dir(self.folder.path())
            .env("HOME", self.path("home"))
            .env("TERM", "xterm")
            .stdin(Stdio::null());
        let ours = |name: &str| name.starts_with("HOSTSYNC_");
        let others = ["SSH_AUTH_SOCK", "NO_COLOR", "CLICOLOR_FORCE"];
        for (name, _) in env::vars_os() {
            let name = name.to_string_lossy();
            if ours(&name) || others.contains(&name.as_ref()) {
                command.env_remove(name.as_ref());
            }
        }
    }

    /// Runs the program to its end.
    pub fn run(&self, args: &[&str]) -> Output {
        Output::of(&mut self.command(args))
    }

    /// Applies without asking; that must succeed.
    #[track_caller]
    pub fn apply(&self) -> Output {
        self.run(&["apply", "--auto-approve"]).expect(0)
    }

    /// Plans; there must be nothing to do.
    #[track_caller]
    pub fn expect_nothing_to_do(&self) {
        let output = self.run(&["plan", "--detailed-exitcode"]).expect(0);
        assert!(output.stdout.starts_with("No changes: "), "{output}");
    }

    /// The plan as JSON, whatever the exit code is.
    #[track_caller]
    pub fn plan(&self) -> Value {
        let output = self.run(&["plan", "--format", "json"]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output}"))
    }

    /// What the plan says of a host, a line for each change, such as `update content a.txt`; behind
    /// it what is special about it: `drift`, `unmanaged`, `conflict`.
    #[track_caller]
    pub fn changes(&self, host: &Host) -> Vec<String> {
        changes(&self.plan(), &host.address)
    }
}

/// What a plan says of a host; see [`Scenario::changes`].
#[track_caller]
pub fn changes(plan: &Value, host: &str) -> Vec<String> {
    let hosts = plan["hosts"].as_array().expect("hosts");
    let of_host = hosts
        .iter()
        .find(|planned| planned["host"] == host)
        .unwrap_or_else(|| panic!("no {host} in {plan}"));
    assert_eq!(of_host["status"], "ok", "{of_host}");
    let sets = plan["change_sets"].as_array().expect("change sets");
    let set = sets.iter().find(|set| set["id"] == of_host["change_set"]);
    let changes = set.map(|set| set["changes"].as_array().expect("changes"));
    changes.into_iter().flatten().map(in_words).collect()
}

fn in_words(change: &Value) -> String {
    let word = |key: &str| change[key].as_str().expect("a text").to_owned();
    let mut words = vec![word("action"), word("reason"), word("path")];
    let flags = ["drift", "unmanaged", "conflict"];
    words.extend(
        flags
            .into_iter()
            .filter(|flag| change[flag] == true)
            .map(str::to_owned),
    );
    words.retain(|word| !word.is_empty());
    words.join(" ")
}

/// How a run of the program ended and what it said.
#[derive(Debug)]
pub struct Output {
    /// The exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Runs a command to its end.
    pub fn of(command: &mut Command) -> Self {
        command.output().expect("the program starts").into()
    }

    /// Fails unless it ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self}");
        self
    }

    /// Fails unless it said all of this on standard error, however that was broken into lines.
    #[track_caller]
    pub fn expect_stderr(self, parts: &[&str]) -> Self {
        let said = unwrapped(&self.stderr);
        for part in parts {
            assert!(said.contains(&unwrapped(part)), "no `{part}` in\n{self}");
        }
        self
    }

    /// Fails unless it said all of this on standard output, however that was broken into lines.
    #[track_caller]
    pub fn expect_stdout(self, parts: &[&str]) -> Self {
        let said = unwrapped(&self.stdout);
        for part in parts {
            assert!(said.contains(&unwrapped(part)), "no `{part}` in\n{self}");
        }
        self
    }
}

impl From<std::process::Output> for Output {
    fn from(output: std::process::Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl std::fmt::Display for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            code,
            stdout,
            stderr,
        } = self;
        write!(f, "exit {code}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }
}

/// Text without its line breaks and the frame that errors are drawn in.
fn unwrapped(text: &str) -> String {
    let is_frame = |c: char| ('\u{2500}'..='\u{257f}').contains(&c) || c == '▶' || c == '×';
    let plain: String = text
        .chars()
        .map(|c| if is_frame(c) { ' ' } else { c })
        .collect();
    plain.split_whitespace().collect()
}

/// Sets permission bits.
pub fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("root may");
}

/// Removes a file or a folder with all that is in it.
pub fn remove(path: &Path) {
    let is_folder = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    let result = if is_folder {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    };
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// Writes a file into the home folder of a host, as its user would.
pub fn write_on(host: &Host, relative: &str, text: &str) -> PathBuf {
    let path = host.dir().join(relative);
    let missing: Vec<_> = path
        .ancestors()
        .skip(1)
        .take_while(|folder| !folder.exists())
        .collect();
    for folder in missing.into_iter().rev() {
        fs::create_dir(folder).expect("root may");
        host.account.own(folder);
    }
    fs::write(&path, text).expect("root may");
    host.account.own(&path);
    path
}

/// The text of a file in the home folder of a host; `None` when it is not there.
pub fn read_on(host: &Host, relative: &str) -> Option<String> {
    fs::read_to_string(host.dir().join(relative)).ok()
}

/// Installs `scp` on a host that has nothing but busybox.
pub fn install_scp(host: &Dropbear) {
    let link = host.private_dir().join("bin/scp");
    std::os::unix::fs::symlink("/usr/bin/scp", link).expect("our folder");
}

/// Files in the backups of a host, with their content.
pub fn backups(host: &Host) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![(host.dir().join(".hostsync"), false)];
    while let Some((folder, is_backup)) = open.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let is_backup = is_backup || entry.file_name() == "backup";
            if path.is_dir() && !path.is_symlink() {
                open.push((path, is_backup));
            } else if is_backup {
                let name = path.file_name().expect("a name").to_string_lossy();
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.push((name.into_owned(), text));
            }
        }
    }
    found.sort();
    found
}
