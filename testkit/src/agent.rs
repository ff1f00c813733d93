//! An SSH agent of its own.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use super::host::run;

/// A running `ssh-agent`. Ends when dropped.
pub struct Agent {
    folder: tempfile::TempDir,
    process: Child,
}

impl Agent {
    /// Starts one without keys.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = folder.path().join("agent");
        let process = Command::new("ssh-agent")
            .arg("-D")
            .arg("-a")
            .arg(&socket)
            .stdout(Stdio::null())
            .spawn()
            .expect("ssh-agent is part of openssh-client");
        let listens = || UnixStream::connect(&socket).is_ok();
        for _ in 0..500 {
            if listens() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(listens(), "ssh-agent does not listen");
        Self { folder, process }
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("agent")
    }

    /// Gives it a key file without a passphrase.
    pub fn add(&self, key: &Path) {
        run(Command::new("ssh-add")
            .arg("-q")
            .arg(key)
            .env("SSH_AUTH_SOCK", self.socket()));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only when it has ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
