//! One command of a connection, and its three streams.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use russh::ChannelId;
use russh::server::Handle;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot};

use super::Account;
use super::flow::{Flow, QueuedInput};

/// What is read from a command at once: all that a pipe holds.
const OUTPUT_CHUNK_BYTES: usize = 64 * 1024;
/// The data type of standard error in SSH.
const STDERR: u32 = 1;

/// The way back to the client.
#[derive(Clone)]
pub(super) struct Reply {
    session: Handle,
    channel: ChannelId,
}

impl Reply {
    pub(super) fn new(session: Handle, channel: ChannelId) -> Self {
        Self { session, channel }
    }

    /// Passes on output. `Err` when the connection is gone.
    async fn send(&self, kind: Option<u32>, bytes: &[u8]) -> Result<(), ()> {
        let bytes = bytes.to_vec();
        match kind {
            None => self.session.data(self.channel, bytes).await,
            Some(kind) => self.session.extended_data(self.channel, kind, bytes).await,
        }
        .map_err(drop)
    }

    /// Reports the end of the command. A client that is gone does not mind.
    async fn finish(&self, status: ExitStatus) -> Result<(), ()> {
        let signal = status.signal().unwrap_or_default();
        // As a shell reports a signal.
        let code = status.code().unwrap_or(128 + signal).cast_unsigned();
        self.session.exit_status_request(self.channel, code).await?;
        self.session.eof(self.channel).await?;
        self.session.close(self.channel).await
    }
}

/// A command that runs. Dropping it kills the command with everything it started.
pub(super) struct Command {
    input: Option<mpsc::UnboundedSender<QueuedInput>>,
    stop: oneshot::Sender<Abandoned>,
}

/// The client closed the channel and stays.
struct Abandoned;

impl Command {
    /// Starts `command` in the home folder, with an environment that holds only what a login sets.
    pub(super) fn start(
        account: &Account,
        command: &[u8],
        reply: Reply,
        flow: &Arc<Flow>,
    ) -> io::Result<Self> {
        let child = tokio::process::Command::new("/bin/sh")
            .arg("-c")
            .arg(OsStr::from_bytes(command))
            .current_dir(&account.home)
            .env_clear()
            .env("HOME", &account.home)
            .env("USER", &account.user)
            .env("LOGNAME", &account.user)
            .env("SHELL", "/bin/sh")
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (input, queue) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(run(child, queue, Arc::clone(flow), reply, stopped));
        Ok(Self {
            input: Some(input),
            stop,
        })
    }

    /// Hands over standard input.
    pub(super) fn feed(&self, bytes: QueuedInput) {
        if let Some(input) = &self.input {
            // Refused when the command does not read any more: then nobody misses the bytes.
            let _ = input.send(bytes);
        }
    }

    /// Closes standard input once all of it has been handed over.
    pub(super) fn end_input(&mut self) {
        self.input = None;
    }

    pub(super) fn has_ended(&self) -> bool {
        self.stop.is_closed()
    }

    /// Closes the pipes and leaves the command to find out, as `sshd` does.
    pub(super) fn abandon(self) {
        // The command may have ended by itself.
        let _ = self.stop.send(Abandoned);
    }
}

/// Sees a command through to its end.
async fn run(
    mut child: Child,
    queue: mpsc::UnboundedReceiver<QueuedInput>,
    flow: Arc<Flow>,
    reply: Reply,
    stopped: oneshot::Receiver<Abandoned>,
) {
    // Dropped before the child is: a process that nobody has waited for keeps its id.
    let group = ProcessGroup::of(&child);
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return;
    };
    let feeding = tokio::spawn(feed_input(stdin, queue));
    // All output first, then the end: nothing that was written is ever lost.
    let work = async {
        tokio::join!(
            forward_output(stdout, None, &reply, &flow),
            forward_output(stderr, Some(STDERR), &reply, &flow),
        );
        child.wait().await
    };
    let ended = tokio::select! {
        status = work => status.ok(),
        stopped = stopped => match stopped {
            Ok(Abandoned) => None,
            // The connection is gone, and takes the command with it.
            Err(_) => return,
        },
    };
    feeding.abort();
    if let Some(status) = ended {
        group.leave_alone();
        // Fails when the client is gone, and then nobody is there to be told.
        let _ = reply.finish(status).await;
    } else if child.wait().await.is_ok() {
        group.leave_alone();
    }
}

/// Writes what the client sends to the command, until either of them has had enough.
async fn feed_input(mut stdin: ChildStdin, mut queue: mpsc::UnboundedReceiver<QueuedInput>) {
    while let Some(input) = queue.recv().await {
        if stdin.write_all(&input.bytes).await.is_err() {
            return;
        }
    }
}

/// Sends one output stream of the command to the client, until either end is closed.
async fn forward_output(
    mut output: impl AsyncRead + Unpin,
    kind: Option<u32>,
    reply: &Reply,
    flow: &Flow,
) {
    let mut buffer = vec![0; OUTPUT_CHUNK_BYTES];
    while let Ok(count) = output.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        let waiting = flow.output_waits();
        let sent = reply.send(kind, &buffer[..count]).await;
        drop(waiting);
        if sent.is_err() {
            return;
        }
    }
}

/// The processes of one command. Dropping it kills them.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    fn of(leader: &Child) -> Self {
        let id = leader.id().and_then(|id| i32::try_from(id).ok());
        Self(id.and_then(Pid::from_raw))
    }

    /// The leader has been waited for: its id may soon be somebody else's.
    fn leave_alone(mut self) {
        self.0 = None;
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // Fails when all of them have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
