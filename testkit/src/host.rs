//! What all servers have in common.

use std::fs::{self, File};
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use hostsync::config::Auth;
use hostsync::model::{HostId, LocalPath};
use rustix::process::{Pid, Signal, kill_process};

use super::account::Account;

/// A running SSH server, seen as a host. Dereferenced from [`super::Sshd`] and [`super::Dropbear`].
pub struct Host {
    /// The loopback address that it listens on.
    pub address: String,
    /// Its port.
    pub port: u16,
    /// Who may log in.
    pub account: Account,
    folder: tempfile::TempDir,
    server: Option<Child>,
}

impl Host {
    /// A host without a server: folders, a client key and a free port.
    pub(super) fn prepare(address: &str) -> Self {
        let account = Account::for_tests();
        let folder = tempfile::Builder::new()
            .prefix("hostsync-test-")
            .tempdir()
            .expect("a temporary folder");
        // The user of the host must get through.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("our folder");
        let host = Self {
            address: address.to_owned(),
            port: free_port(address),
            account,
            folder,
            server: None,
        };
        fs::create_dir(host.dir()).expect("a home folder");
        host.account.own(&host.dir());
        let key = host.identity_file();
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-C", "hostsync test", "-f"])
            .arg(&key));
        host
    }

    /// Starts the server and waits until it greets.
    pub(super) fn serve(&mut self, command: &mut Command, how_to_install: &str) {
        let log = File::create(self.log_path()).expect("a log file");
        command.stderr(log);
        let mut server = command
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; {how_to_install}"));
        let started = Instant::now();
        while !greets(&self.address, self.port) {
            let ended = server.try_wait().expect("our child");
            assert!(
                ended.is_none() && started.elapsed() < Duration::from_secs(20),
                "{command:?} does not serve ({ended:?}):\n{}",
                self.log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        self.server = Some(server);
    }

    /// Ends the server with all its connections.
    pub(super) fn stop(&mut self) {
        self.cut_connections();
        if let Some(mut server) = self.server.take() {
            // Both fail only when it has ended by itself.
            let _ = server.kill();
            let _ = server.wait();
        }
    }

    /// Ends every connection that is open now, as a broken line would. The server goes on.
    pub fn cut_connections(&self) {
        // Frozen first: else sshd would still report how its command was killed. All of these are, also those
        // that lose their parents meanwhile.
        let pids = self.connections();
        signal_all(&pids, Signal::STOP);
        signal_all(&pids, Signal::KILL);
    }

    /// Keeps every connection that is open now from ever sending or taking anything again.
    pub fn freeze_connections(&self) {
        self.signal_connections(Signal::STOP);
    }

    /// Lets connections that were frozen go on.
    pub fn thaw_connections(&self) {
        self.signal_connections(Signal::CONT);
    }

    /// Processes of all sessions with their names, also of those whose connection is gone.
    pub fn processes(&self) -> Vec<(Pid, String)> {
        let mut pids = self
            .server
            .as_ref()
            .map(|server| descendants(server.id()))
            .unwrap_or_default();
        // Those that have lost their parents still know where they are at home.
        let home = format!("HOME={}", self.dir().display()).into_bytes();
        let is_at_home = |pid: &i32| {
            let variables = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            variables.split(|byte| *byte == 0).any(|it| it == home)
        };
        let all = fs::read_dir("/proc")
            .expect("a list of processes")
            .flatten();
        let numbers = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.extend(numbers.filter(is_at_home));
        pids.sort_unstable();
        pids.dedup();
        let named = |pid| {
            let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
            Some((Pid::from_raw(pid)?, name.trim_end().to_owned()))
        };
        pids.into_iter().filter_map(named).collect()
    }

    fn signal_connections(&self, signal: Signal) {
        signal_all(&self.connections(), signal);
    }

    /// The processes of every connection that is open now.
    fn connections(&self) -> Vec<i32> {
        let server = self.server.as_ref();
        server.map_or_else(Vec::new, |server| descendants(server.id()))
    }

    /// The home folder of the host: sessions start there, and may do there what they like.
    pub fn dir(&self) -> PathBuf {
        self.folder.path().join("home")
    }

    /// A folder beside the home folder that belongs to the tests, for keys and the like.
    pub fn private_dir(&self) -> &Path {
        self.folder.path()
    }

    /// The private key that the host accepts.
    pub fn identity_file(&self) -> PathBuf {
        self.folder.path().join("client_key")
    }

    /// The public half of it, as one line.
    pub fn client_key(&self) -> String {
        let path = self.folder.path().join("client_key.pub");
        fs::read_to_string(path).expect("ssh-keygen wrote it")
    }

    /// The login name.
    pub fn user(&self) -> &str {
        &self.account.name
    }

    /// What the server has written to its log.
    pub fn log(&self) -> String {
        let bytes = fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    pub(super) fn host_key_path(&self) -> PathBuf {
        self.folder.path().join("host_key")
    }

    /// The public host key as `type base64`.
    pub fn host_key(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("host_key.pub"))
            .expect("the server has a host key");
        let mut fields = text.split_whitespace();
        let (key_type, key) = (fields.next(), fields.next());
        format!("{} {}", key_type.expect("a type"), key.expect("a key"))
    }

    /// The line that makes the host known, with its newline.
    pub fn known_hosts_line(&self) -> String {
        let Self { address, port, .. } = self;
        format!("[{address}]:{port} {}\n", self.host_key())
    }

    /// The host as an entry of `connection_info.json`, with its key as `identity_file`.
    pub fn connection_info(&self) -> serde_json::Value {
        serde_json::json!({
            "ip_address": self.address,
            "port": self.port,
            "user": self.account.name,
            "identity_file": self.identity_file(),
        })
    }

    /// The host as the configuration has it once it was read, with its key as `identity_file`.
    pub fn to_config(&self) -> hostsync::config::Host {
        hostsync::config::Host {
            id: HostId::new(self.address.clone()),
            address: self.address.clone(),
            port: self.port,
            user: self.account.name.clone(),
            auth: Auth {
                identity_file: Some(LocalPath::new(self.identity_file())),
                passkey: None,
            },
            groups: Vec::new(),
            mappings: Vec::new(),
            problem: None,
            login_problem: None,
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs a command to its end.
///
/// # Panics
/// When it fails, with what it said.
pub fn run(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} failed with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn free_port(address: &str) -> u16 {
    TcpListener::bind((address, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a loopback address")
        .port()
}

fn greets(address: &str, port: u16) -> bool {
    let greeting = TcpStream::connect((address, port)).and_then(|mut socket| {
        socket.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut start = [0; 4];
        socket.read_exact(&mut start)?;
        Ok(start)
    });
    greeting.is_ok_and(|start| start == *b"SSH-")
}

/// Processes that a process has started, and theirs, as far as they still hang together; each one
/// before those that it has started.
fn descendants(pid: u32) -> Vec<i32> {
    let path = format!("/proc/{pid}/task/{pid}/children");
    let children = fs::read_to_string(path).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|child| child.parse::<u32>().ok())
        .flat_map(|child| {
            let mut all: Vec<i32> = i32::try_from(child).into_iter().collect();
            all.extend(descendants(child));
            all
        })
        .collect()
}

fn signal_all(pids: &[i32], signal: Signal) {
    for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid)) {
        // It may have ended in this instant.
        let _ = kill_process(pid, signal);
    }
}
