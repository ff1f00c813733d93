//! The user that tests log in as.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::host::run;

const NAME: &str = "hostsync-test";

/// Where root keeps the password of the test user.
const PASSWORD_PATH: &str = "/var/lib/hostsync-test/password";

/// Held while accounts or their files are changed: test binaries run side by side.
const LOCK_PATH: &str = "/var/lock/hostsync-test.lock";

/// A user of this machine.
#[derive(Clone, Debug)]
pub struct Account {
    /// Login name.
    pub name: String,
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Home folder, as the system has it.
    pub home: PathBuf,
    /// The password, which only root can know.
    pub password: Option<String>,
}

/// Whether the tests run as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Takes the lock that all test processes share.
pub(super) fn lock() -> File {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(LOCK_PATH)
        .expect("the lock file of the tests");
    file.lock().expect("a lock on it");
    file
}

impl Account {
    /// The user to log in as; made when it is missing and we are root.
    pub fn for_tests() -> Self {
        if !is_root() {
            let uid = rustix::process::geteuid().as_raw().to_string();
            return Self::find(&uid).expect("the current user has an account");
        }
        let _lock = lock();
        if Self::find(NAME).is_none() {
            run(Command::new("useradd").args(["-m", "-s", "/bin/sh", NAME]));
        }
        let mut account = Self::find(NAME).expect("the user was just made");
        account.password = Some(password());
        account
    }

    fn find(name_or_uid: &str) -> Option<Self> {
        fs::read_to_string("/etc/passwd")
            .expect("a passwd file")
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|fields| {
                fields.len() > 6 && (fields[0] == name_or_uid || fields[2] == name_or_uid)
            })
            .map(|fields| Self {
                name: fields[0].to_owned(),
                uid: fields[2].parse().expect("a number"),
                gid: fields[3].parse().expect("a number"),
                home: PathBuf::from(fields[5]),
                password: None,
            })
    }

    /// Gives `path` to this user.
    pub fn own(&self, path: &Path) {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .expect("only root gives files away, and others need not");
    }
}

/// The password of the test user, set at random when none is on record.
fn password() -> String {
    if let Ok(password) = fs::read_to_string(PASSWORD_PATH) {
        return password;
    }
    let mut bytes = [0; 16];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .expect("random bytes");
    let password = format!("{:032x}", u128::from_be_bytes(bytes));
    let mut chpasswd = Command::new("chpasswd")
        .stdin(Stdio::piped())
        .spawn()
        .expect("chpasswd starts");
    let mut input = chpasswd.stdin.take().expect("it is piped");
    writeln!(input, "{NAME}:{password}").expect("chpasswd reads");
    drop(input);
    assert!(chpasswd.wait().expect("chpasswd ends").success());
    let path = Path::new(PASSWORD_PATH);
    fs::create_dir_all(path.parent().expect("a folder")).expect("a folder for the password");
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(password.as_bytes()))
        .expect("the password is kept");
    password
}
