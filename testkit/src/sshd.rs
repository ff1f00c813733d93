//! OpenSSH's server.

use std::fmt::Write as _;
use std::fs;
use std::ops::Deref;
use std::path::Path;
use std::process::{Command, Stdio};

use super::account::is_root;
use super::host::{Host, run};

const PROGRAM: &str = "/usr/sbin/sshd";
const INSTALL: &str = "install it with `apt-get install openssh-server`";

/// How a server differs from the usual one.
#[derive(Clone, Debug)]
pub struct SshdOptions {
    /// The login shell: what runs the command after `-c`.
    pub shell: String,
    /// What the shell's start files do first, such as `echo Welcome`; POSIX sh.
    pub start_file: String,
    /// `PATH` of sessions.
    pub path: Option<String>,
    /// Further lines of its configuration. The first of two settings counts, and these come first.
    pub config: Vec<String>,
    /// Type of the host key, as `ssh-keygen -t` takes it.
    pub host_key_type: &'static str,
}

impl Default for SshdOptions {
    fn default() -> Self {
        Self {
            shell: "/bin/sh".to_owned(),
            start_file: String::new(),
            path: None,
            config: Vec::new(),
            host_key_type: "ed25519",
        }
    }
}

/// A running OpenSSH server.
pub struct Sshd {
    host: Host,
}

impl Sshd {
    /// Starts the usual server on a loopback address such as `127.0.0.11`.
    ///
    /// # Panics
    /// When there is no sshd or it does not start.
    pub fn start(address: &str) -> Self {
        Self::start_with(address, &SshdOptions::default())
    }

    /// Starts a server that differs from the usual one.
    ///
    /// # Panics
    /// When there is no sshd or it does not start.
    pub fn start_with(address: &str, options: &SshdOptions) -> Self {
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: {INSTALL}"
        );
        if is_root() {
            // sshd insists on it, and only the service would make it.
            fs::create_dir_all("/run/sshd").expect("root may");
        }
        let host = Host::prepare(address);
        run(Command::new("ssh-keygen")
            .args(["-q", "-t", options.host_key_type, "-N", "", "-f"])
            .arg(host.host_key_path()));
        let folder = host.private_dir();
        let keys = folder.join("authorized_keys");
        fs::write(&keys, host.client_key()).expect("our folder");
        fs::write(folder.join("sshd_config"), config(&host, options)).expect("our folder");
        let mut sshd = Self { host };
        sshd.serve();
        sshd
    }

    fn serve(&mut self) {
        let mut command = Command::new(PROGRAM);
        command
            .args(["-D", "-e", "-f"])
            .arg(self.host.private_dir().join("sshd_config"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        self.host.serve(&mut command, INSTALL);
    }

    /// Ends the server with all its connections and starts it again, with the same keys and files.
    pub fn restart(&mut self) {
        self.host.stop();
        self.serve();
    }

    /// Ends the server with all its connections; nobody listens there any more.
    pub fn stop(&mut self) {
        self.host.stop();
    }
}

impl Deref for Sshd {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

fn config(host: &Host, options: &SshdOptions) -> String {
    let mut text = String::new();
    let mut line = |line: std::fmt::Arguments<'_>| writeln!(text, "{line}").expect("memory");
    for extra in &options.config {
        line(format_args!("{extra}"));
    }
    let folder = host.private_dir().display();
    let address = match host.address.as_str() {
        v6 if v6.contains(':') => format!("[{v6}]"),
        v4 => v4.to_owned(),
    };
    line(format_args!("ListenAddress {address}:{}", host.port));
    line(format_args!("HostKey {}", host.host_key_path().display()));
    line(format_args!("AuthorizedKeysFile {folder}/authorized_keys"));
    // Temporary folders are not as private as sshd wants a home to be.
    line(format_args!("StrictModes no"));
    line(format_args!("PidFile none"));
    line(format_args!("LogLevel VERBOSE"));
    line(format_args!("UsePAM no"));
    line(format_args!("AllowUsers {}", host.user()));
    line(format_args!("MaxStartups 200"));
    let home = host.dir();
    let path = options.path.as_ref();
    line(format_args!(
        "SetEnv HOME={}{}",
        home.display(),
        path.map(|path| format!(" PATH={path}")).unwrap_or_default()
    ));
    // The account's own home is not the host's, so the session is moved there.
    let start = match options.start_file.as_str() {
        "" => String::new(),
        commands => format!("{commands}; "),
    };
    line(format_args!(
        "ForceCommand cd; {start}exec {} -c \"$SSH_ORIGINAL_COMMAND\"",
        options.shell
    ));
    text
}
