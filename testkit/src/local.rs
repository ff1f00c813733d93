//! Hosts that are folders of this machine: their sessions run commands as sshd would, without SSH.
//!
//! Each has a home folder, and a shell that stands for its `/bin/sh`. As root, commands run as
//! `nobody`, so that permission bits mean what they mean to an ordinary login.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io::{Read, Write as _};

use std::os::unix::fs::{PermissionsExt as _, lchown, symlink};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hostsync::config::Host;
use hostsync::transport::{Connector, ExecIo, ExecOutcome, Flow, Input, Session, TransportError};
use tempfile::TempDir;

/// User and group that commands run as when the tests run as root.
const NOBODY: u32 = 65534;

/// Longest time without a byte in either direction.
const STALL: Duration = Duration::from_secs(30);

/// What stands for `/bin/sh`, and whether there is perl.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// dash and perl: an agent runs.
    Perl,
    /// dash without perl.
    Dash,
    /// bash without perl.
    Bash,
    /// With the applets of busybox and scp, and nothing else.
    Busybox,
}

impl Shell {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Perl, Self::Dash, Self::Bash, Self::Busybox];

    fn program(self) -> PathBuf {
        match self {
            Self::Perl | Self::Dash => required("dash", "dash"),
            Self::Bash => required("bash", "bash"),
            Self::Busybox => required("busybox", "busybox-static"),
        }
    }
}

/// Where a program is.
pub fn find(program: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin", "/bin", "/usr/sbin", "/sbin"]
        .iter()
        .map(|folder| Path::new(folder).join(program))
        .find(|path| path.is_file())
}

/// Where a program is that the tests cannot do without.
pub fn required(program: &str, package: &str) -> PathBuf {
    find(program).unwrap_or_else(|| panic!("{program} is missing: apt-get install {package}"))
}

/// Gives a path to the user that commands run as.
pub fn own(path: &Path) {
    if rustix::process::geteuid().is_root() {
        lchown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

/// Called before a command starts; with how many the session had before.
type Hook = Box<dyn Fn(usize) + Send + Sync>;

/// What went over the line, as far as it costs round trips.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Sessions that were made.
    pub logins: usize,
    /// Commands that were started.
    pub commands: usize,
    /// Commands that were resumed.
    pub resumed: usize,
    /// How often there was more to send only after something had come.
    pub turns: usize,
}

/// One host.
pub struct LocalHost {
    folder: TempDir,
    home: PathBuf,
    path: Mutex<OsString>,
    /// The login shell; what stands for `/bin/sh` unless another one is set.
    pub login_shell: Option<PathBuf>,
    /// What the rc files of the login shell print.
    pub noise: &'static str,
    /// Standard input arrives in pieces of so many bytes.
    pub piece_bytes: usize,
    /// Commands run as root, when the tests do.
    pub is_login_of_root: bool,
    before_exec: Mutex<Option<Hook>>,
    /// After how many bytes of input the next sessions break, one after the other; all further ones
    /// last.
    pub cuts: Mutex<VecDeque<usize>>,
    /// How long input takes to get there.
    pub delay: Mutex<Duration>,
    traffic: Mutex<Traffic>,
}

impl LocalHost {
    /// A host of its own, with an empty home.
    pub fn new(shell: Shell) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let bin = folder.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let program = shell.program();
        symlink(&program, bin.join("sh")).unwrap();
        let mut path = OsString::from(&bin);
        if shell == Shell::Busybox {
            let list = Command::new(&program).arg("--list").output().unwrap();
            for applet in String::from_utf8(list.stdout).unwrap().lines() {
                // `sh` is there already.
                let _ = symlink(&program, bin.join(applet));
            }
            symlink(required("scp", "openssh-client"), bin.join("scp")).unwrap();
        } else {
            path.push(":/usr/bin:/bin");
        }
        let home = folder.path().join("home");
        fs::create_dir(&home).unwrap();
        let host = Self {
            folder,
            home,
            path: Mutex::new(path),
            login_shell: None,
            noise: "",
            piece_bytes: usize::MAX,
            is_login_of_root: false,
            before_exec: Mutex::new(None),
            cuts: Mutex::default(),
            delay: Mutex::default(),
            traffic: Mutex::default(),
        };
        own(&host.home);
        match shell {
            Shell::Perl => _ = required("perl", "perl"),
            Shell::Dash | Shell::Bash => host.replace_program("perl", "exit 1"),
            Shell::Busybox => {}
        }
        host
    }

    /// The home folder.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Another host that has the same home folder, as with NFS or a shared account.
    pub fn with_home_of(mut self, other: &Self) -> Self {
        self.home.clone_from(&other.home);
        self
    }

    /// Writes a file as the user of the host would.
    pub fn write(&self, path: &str, content: &str) {
        let path = self.home.join(path);
        fs::write(&path, content).unwrap();
        own(&path);
    }

    /// Makes a folder as the user of the host would.
    pub fn mkdir(&self, path: &str) {
        let path = self.home.join(path);
        fs::create_dir(&path).unwrap();
        own(&path);
    }

    /// Has `hook` called before every command and every resumed one, with how many the session had before.
    pub fn before_exec(&self, hook: impl Fn(usize) + Send + Sync + 'static) {
        *self.before_exec.lock().unwrap() = Some(Box::new(hook));
    }

    /// Has this text of a shell script stand for a program from now on. A busybox shell does not look
    /// for programs that are applets, so it does not care.
    pub fn replace_program(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        // Never opened for writing under its name: it could not be run while a test forks.
        let draft = path.with_extension("draft");
        fs::write(&draft, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(draft, path).unwrap();
    }

    /// Has every perl load this module first, from now on.
    pub fn load_in_perl(&self, module: &str) {
        let bin = self.folder.path().join("bin");
        fs::write(bin.join("Meddler.pm"), module).unwrap();
        let perl = required("perl", "perl");
        let (bin, perl) = (bin.display(), perl.display());
        self.replace_program("perl", &format!(r#"exec {perl} -I{bin} -MMeddler "$@""#));
    }

    /// Has no such program from now on.
    pub fn remove_program(&self, name: &str) {
        let bin = self.folder.path().join("bin");
        for folder in ["/usr/bin", "/bin"] {
            for entry in fs::read_dir(folder).unwrap() {
                // What is there already stays.
                let entry = entry.unwrap();
                let _ = symlink(entry.path(), bin.join(entry.file_name()));
            }
        }
        fs::remove_file(bin.join(name)).unwrap();
        *self.path.lock().unwrap() = bin.into();
    }

    /// What went over the line since this was last asked.
    pub fn take_traffic(&self) -> Traffic {
        std::mem::take(&mut self.traffic.lock().unwrap())
    }

    /// Logs in.
    pub fn session(self: &Arc<Self>) -> ShellSession {
        let cut = self.cuts.lock().unwrap().pop_front();
        self.traffic.lock().unwrap().logins += 1;
        ShellSession {
            host: Arc::clone(self),
            commands: 0,
            paused: None,
            left_bytes: cut.unwrap_or(usize::MAX),
        }
    }

    fn spawn(&self, command: &str) -> Child {
        let sh = self.folder.path().join("bin/sh");
        let login_shell = self.login_shell.as_ref().unwrap_or(&sh);
        // A host has just one /bin/sh, and this machine has another one.
        let command = command.replacen("/bin/sh", sh.to_str().unwrap(), 1);
        let noise = if self.noise.is_empty() {
            String::new()
        } else {
            format!("printf '{}'; ", self.noise)
        };
        let mut process = Command::new(login_shell);
        process
            .arg("-c")
            .arg(noise + &command)
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", &*self.path.lock().unwrap())
            .current_dir(&self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        if rustix::process::geteuid().is_root() && !self.is_login_of_root {
            process.uid(NOBODY).gid(NOBODY);
        }
        process.spawn().unwrap()
    }
}

impl Drop for LocalHost {
    fn drop(&mut self) {
        // Tests leave folders behind that may not be written, even by their owner.
        let _ = Command::new("chmod")
            .args(["-R", "u+rwX"])
            .arg(self.folder.path())
            .status();
    }
}

/// A login on such a host.
pub struct ShellSession {
    host: Arc<LocalHost>,
    commands: usize,
    paused: Option<Running>,
    /// How much input it takes until it breaks.
    left_bytes: usize,
}

/// A command and what is known of it.
struct Running {
    child: Child,
    input: Option<Sender<Vec<u8>>>,
    happened: Receiver<Happened>,
}

enum Happened {
    Output(Vec<u8>),
    Complaint(Vec<u8>),
    Taken(usize),
    OutputEnded,
    ComplaintsEnded,
}

impl Session for ShellSession {
    fn exec(&mut self, command: &str, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        if let Some(hook) = &*self.host.before_exec.lock().unwrap() {
            hook(self.commands);
        }
        self.commands += 1;
        self.host.traffic.lock().unwrap().commands += 1;
        self.paused = None;
        let mut child = self.host.spawn(command);
        let (sender, happened) = mpsc::channel();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        read(
            stdout,
            sender.clone(),
            Happened::Output,
            Happened::OutputEnded,
        );
        read(
            stderr,
            sender.clone(),
            Happened::Complaint,
            Happened::ComplaintsEnded,
        );
        let input = write(
            child.stdin.take().unwrap(),
            sender,
            self.host.piece_bytes,
            *self.host.delay.lock().unwrap(),
        );
        self.drive(
            Running {
                child,
                input: Some(input),
                happened,
            },
            io,
        )
    }

    fn resume(&mut self, io: &mut dyn ExecIo) -> Result<ExecOutcome, TransportError> {
        if let Some(hook) = &*self.host.before_exec.lock().unwrap() {
            hook(self.commands);
        }
        self.commands += 1;
        self.host.traffic.lock().unwrap().resumed += 1;
        let running = self.paused.take().expect("a command was paused");
        self.drive(running, io)
    }

    fn close(self: Box<Self>) {}
}

impl ShellSession {
    fn drive(
        &mut self,
        mut running: Running,
        io: &mut dyn ExecIo,
    ) -> Result<ExecOutcome, TransportError> {
        let mut outcome = ExecOutcome::default();
        let Running {
            input, happened, ..
        } = &mut running;
        let mut turns = 0;
        let left_bytes = &mut self.left_bytes;
        let result = drive(
            io,
            input,
            happened,
            &mut outcome.stderr,
            left_bytes,
            &mut turns,
        );
        self.host.traffic.lock().unwrap().turns += turns;
        if matches!(result, Ok(Flow::Pause)) {
            self.paused = Some(running);
            return Ok(outcome);
        }
        let Running {
            mut child,
            input,
            happened,
        } = running;
        drop(input);
        outcome.exit_status = end_of(&mut child);
        while let Ok(happened) = happened.recv_timeout(Duration::from_secs(1)) {
            match happened {
                Happened::Complaint(bytes) => outcome.stderr.extend(bytes),
                Happened::ComplaintsEnded => break,
                _ => {}
            }
        }
        result.map(|_| outcome)
    }
}

/// Passes bytes on in both directions until the command ends or enough has been seen.
fn drive(
    io: &mut dyn ExecIo,
    input: &mut Option<Sender<Vec<u8>>>,
    happened: &Receiver<Happened>,
    stderr: &mut Vec<u8>,
    left_bytes: &mut usize,
    turns: &mut usize,
) -> Result<Flow, TransportError> {
    let broken = |reason: &str| TransportError::Broken {
        during: "while a command was running".to_owned(),
        reason: reason.to_owned(),
    };
    let mut may_ask = true;
    let mut has_waited = false;
    loop {
        if may_ask && let Some(sender) = &*input {
            let mut buffer = Vec::new();
            match io.next_input(&mut buffer)? {
                // A command that reads no more is seen by the end of its output.
                Input::Ready => {
                    *turns += usize::from(has_waited);
                    has_waited = false;
                    let is_cut = buffer.len() > *left_bytes;
                    buffer.truncate(*left_bytes);
                    *left_bytes -= buffer.len();
                    let _ = sender.send(buffer);
                    if is_cut {
                        return Err(broken("it was cut"));
                    }
                }
                Input::Wait => has_waited = true,
                Input::End => *input = None,
            }
            may_ask = false;
        }
        match happened.recv_timeout(STALL) {
            Ok(Happened::Output(bytes)) => match io.output(&bytes)? {
                Flow::Continue => may_ask = true,
                flow => return Ok(flow),
            },
            Ok(Happened::Taken(bytes)) => {
                io.sent(bytes);
                may_ask = true;
            }
            Ok(Happened::Complaint(bytes)) => stderr.extend(bytes),
            Ok(Happened::OutputEnded) => return Ok(Flow::Leave),
            Ok(Happened::ComplaintsEnded) => {}
            Err(_) => return Err(broken("nothing moves")),
        }
    }
}

fn read(
    mut from: impl Read + Send + 'static,
    to: Sender<Happened>,
    some: fn(Vec<u8>) -> Happened,
    end: Happened,
) {
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            let _ = to.send(some(buffer[..bytes].to_vec()));
        }
        let _ = to.send(end);
    });
}

fn write(
    mut to: ChildStdin,
    taken: Sender<Happened>,
    piece_bytes: usize,
    delay: Duration,
) -> Sender<Vec<u8>> {
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        for bytes in receiver {
            thread::sleep(delay);
            for piece in bytes.chunks(piece_bytes.min(bytes.len()).max(1)) {
                if to.write_all(piece).is_err() {
                    return;
                }
                if piece_bytes < bytes.len() {
                    // The reader is to find this piece alone.
                    thread::sleep(Duration::from_micros(50));
                }
                // Many small pieces may take longer than a stall.
                let _ = taken.send(Happened::Taken(piece.len()));
            }
        }
    });
    sender
}

/// Waits for a command that was told or is about to end.
fn end_of(child: &mut Child) -> Option<i32> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status.code();
        }
        if started.elapsed() > STALL {
            let _ = child.kill();
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Takes everything that a command says.
#[derive(Default)]
pub struct Everything {
    /// What it is sent.
    pub input: Vec<u8>,
    /// What it has said.
    pub output: Vec<u8>,
}

impl ExecIo for Everything {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, hostsync::transport::Aborted> {
        if self.input.is_empty() {
            return Ok(Input::End);
        }
        buffer.append(&mut self.input);
        Ok(Input::Ready)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, hostsync::transport::Aborted> {
        self.output.extend_from_slice(bytes);
        Ok(Flow::Continue)
    }
}

/// Hosts by name.
#[derive(Default)]
pub struct LocalHosts(pub Vec<(&'static str, Arc<LocalHost>)>);

impl Connector for LocalHosts {
    fn connect(&self, host: &Host) -> Result<Box<dyn Session>, TransportError> {
        let found = self.0.iter().find(|(name, _)| *name == host.id.as_str());
        found.map_or_else(
            || {
                Err(TransportError::Unreachable {
                    address: host.address.clone(),
                    port: host.port,
                    reason: "no route to host".to_owned(),
                })
            },
            |(_, host)| Ok(Box::new(host.session()) as Box<dyn Session>),
        )
    }
}
