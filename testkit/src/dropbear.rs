//! Dropbear, on a host that has nothing but busybox.

use std::fs;
use std::ops::Deref;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use super::account::{Account, is_root, lock};
use super::host::{Host, run};

const PROGRAM: &str = "/usr/sbin/dropbear";
const INSTALL: &str = "install it with `apt-get install dropbear-bin busybox-static`";

/// A running dropbear whose sessions have busybox as shell and nothing else in their `PATH`.
pub struct Dropbear {
    host: Host,
}

impl Dropbear {
    /// Starts it on a loopback address such as `127.0.0.21`.
    ///
    /// # Panics
    /// When dropbear or busybox is missing, or when the tests do not run as root: dropbear reads
    /// only `~/.ssh/authorized_keys`, and nobody's but the test user's may be written to.
    pub fn start(address: &str) -> Self {
        assert!(is_root(), "tests with dropbear must be run as root");
        assert!(
            Path::new(PROGRAM).exists(),
            "{PROGRAM} is missing: {INSTALL}"
        );
        let mut host = Host::prepare(address);
        let bin = host.private_dir().join("bin");
        fs::create_dir(&bin).expect("our folder");
        let busybox = Path::new("/bin/busybox");
        assert!(busybox.exists(), "busybox is missing: {INSTALL}");
        run(Command::new(busybox).args(["--install", "-s"]).arg(&bin));
        let public = run(Command::new("dropbearkey")
            .args(["-t", "ed25519", "-f"])
            .arg(host.host_key_path()));
        let line = public
            .lines()
            .find(|line| line.starts_with("ssh-ed25519 "))
            .expect("dropbearkey prints the public key");
        fs::write(host.host_key_path().with_extension("pub"), line).expect("our folder");
        authorize(&host.account, &host.client_key());
        let session = format!(
            "cd {home} && exec env -i HOME={home} USER={user} PATH={bin} sh -c \"$SSH_ORIGINAL_COMMAND\"",
            home = host.dir().display(),
            user = host.user(),
            bin = bin.display(),
        );
        let mut command = Command::new(PROGRAM);
        command
            .args(["-F", "-E", "-P", "/dev/null", "-p"])
            .arg(format!("{}:{}", host.address, host.port))
            .arg("-r")
            .arg(host.host_key_path())
            .args(["-c", &session])
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        host.serve(&mut command, INSTALL);
        Self { host }
    }
}

impl Deref for Dropbear {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        edit_authorized_keys(&self.host.account, |lines| {
            let key = self.host.client_key();
            lines.retain(|line| !line.starts_with(key.trim_end()));
        });
    }
}

/// Adds a key to the account's own file, and takes out those of tests that were killed.
fn authorize(account: &Account, key: &str) {
    edit_authorized_keys(account, |lines| {
        lines.retain(|line| {
            line.rsplit_once(" pid=")
                .is_some_and(|(_, pid)| Path::new("/proc").join(pid).exists())
        });
        lines.push(format!("{} pid={}", key.trim_end(), std::process::id()));
    });
}

fn edit_authorized_keys(account: &Account, edit: impl FnOnce(&mut Vec<String>)) {
    let _lock = lock();
    let folder = account.home.join(".ssh");
    fs::create_dir_all(&folder).expect("root may");
    account.own(&folder);
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).expect("root may");
    let path = folder.join("authorized_keys");
    let text = fs::read_to_string(&path).unwrap_or_default();
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    edit(&mut lines);
    lines.push(String::new());
    // Renamed into place: a login that looks in this moment must find all the others.
    let draft = folder.join("authorized_keys.new");
    fs::write(&draft, lines.join("\n")).expect("root may");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o600)).expect("root may");
    account.own(&draft);
    fs::rename(&draft, &path).expect("root may");
}
