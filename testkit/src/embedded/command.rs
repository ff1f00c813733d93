//! One command of a connection, and its three streams.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use russh::ChannelId;
use russh::server::Handle;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot};

use super::fault::{Fault, Faults, Stream};
use super::flow::{Flow, QueuedInput};
use super::{Account, Busy, DRIP};

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
    async fn finish(&self, status: Option<ExitStatus>) -> Result<(), ()> {
        if let Some(status) = status {
            let signal = status.signal().unwrap_or_default();
            // As a shell reports a signal.
            let code = status.code().unwrap_or(128 + signal).cast_unsigned();
            self.session.exit_status_request(self.channel, code).await?;
        }
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
        surroundings: Surroundings,
    ) -> io::Result<Self> {
        let faults = &surroundings.faults;
        let path = account.search_path(faults);
        let dies_at = faults.find(|fault| match fault {
            Fault::DieAtCall { number } => Some(number.to_string()),
            _ => None,
        });
        let answer = faults.find(|fault| match fault {
            Fault::EndlessAnswer { line } => Some(line),
            _ => None,
        });
        // The parent of a command belongs to its connection, as with `sshd`, and not to this process. It
        // keeps none of the streams open.
        let parent = "exec 3<&0; /bin/sh -c \"$1\" <&3 3<&- & exec <&- >&- 2>&- 3<&-; wait $!";
        let child = tokio::process::Command::new("/bin/sh")
            .args(["-c", parent, "connection"])
            .arg(OsStr::from_bytes(command))
            .current_dir(&account.home)
            .env_clear()
            .env("HOME", &account.home)
            .env("USER", &account.user)
            .env("LOGNAME", &account.user)
            .env("SHELL", "/bin/sh")
            .envs(path.map(|path| ("PATH", path)))
            .envs(dies_at.iter().map(|number| ("EMBEDDED_DIE_AT", number)))
            .envs(dies_at.iter().map(|_| ("EMBEDDED_CALLS", account.calls())))
            .envs(answer.iter().map(|line| ("EMBEDDED_ANSWER", line)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (input, queue) = mpsc::unbounded_channel();
        let (stop, stopped) = oneshot::channel();
        tokio::spawn(run(child, queue, surroundings, reply, stopped));
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

/// What a command has to do with besides its streams.
pub(super) struct Surroundings {
    pub(super) flow: Arc<Flow>,
    pub(super) faults: Arc<Faults>,
    /// Held until all of its processes have ended.
    pub(super) busy: Busy,
}

/// Sees a command through to its end.
async fn run(
    mut child: Child,
    queue: mpsc::UnboundedReceiver<QueuedInput>,
    surroundings: Surroundings,
    reply: Reply,
    stopped: oneshot::Receiver<Abandoned>,
) {
    let Surroundings { flow, faults, busy } = surroundings;
    // Dropped before the child is: a process that nobody has waited for keeps its id.
    let group = ProcessGroup::of(&child);
    let (Some(stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return;
    };
    let feeding = tokio::spawn(feed_input(stdin, queue));
    let ended = {
        // All output first, then the end: nothing that was written is ever lost.
        let mut work = pin!(async {
            let _ = print_noise(&reply, &faults).await;
            tokio::join!(
                forward_output(stdout, None, &reply, &flow, &faults),
                forward_output(stderr, Some(STDERR), &reply, &flow, &faults),
            );
            child.wait().await
        });
        tokio::select! {
            status = &mut work => status.ok(),
            stopped = stopped => {
                if stopped.is_err() && !faults.has(&Fault::CommandsOutliveConnection) {
                    // The connection is gone, and takes the command with it.
                    group.kill();
                    feeding.abort();
                    if work.await.is_ok() {
                        group.leave_alone();
                    }
                    return;
                }
                None
            }
        }
    };
    feeding.abort();
    if let Some(status) = ended {
        group.leave_alone();
        let noise = faults.find(|fault| match fault {
            Fault::Noise { after, .. } => Some(after),
            _ => None,
        });
        // Fails when the client is gone, and then nobody is there to be told.
        if let Some(noise) = noise {
            let _ = reply.send(None, noise).await;
        }
        let status = Some(status).filter(|_| !faults.has(&Fault::LoseExitStatus));
        let _ = reply.finish(status).await;
    } else if child.wait().await.is_ok() {
        group.leave_alone();
    }
    drop(busy);
}

/// What the login shell prints before the command begins, through some fault of its.
async fn print_noise(reply: &Reply, faults: &Faults) -> Result<(), ()> {
    let noise = faults.find(|fault| match fault {
        Fault::Noise { before, .. } => Some(before),
        _ => None,
    });
    if let Some(noise) = noise {
        reply.send(None, noise).await?;
    }
    let flood_bytes = faults.find(|fault| match fault {
        Fault::FloodStderr { size_bytes } => Some(*size_bytes),
        _ => None,
    });
    let complaint = b"what a terrible host this is\n".repeat(1000);
    let mut left = usize::try_from(flood_bytes.unwrap_or_default()).unwrap_or(usize::MAX);
    while left > 0 {
        let count = left.min(complaint.len());
        reply.send(Some(STDERR), &complaint[..count]).await?;
        left -= count;
    }
    while faults.has(&Fault::EndlessNoise) {
        reply.send(None, &complaint).await?;
    }
    for (stream, kind) in [(Stream::Output, None), (Stream::Errors, Some(STDERR))] {
        while faults.has(&Fault::Drip(stream)) {
            reply.send(kind, b".").await?;
            tokio::time::sleep(DRIP).await;
        }
    }
    Ok(())
}

/// Writes what the client sends to the command, until either of them has had enough.
async fn feed_input(mut stdin: ChildStdin, mut queue: mpsc::UnboundedReceiver<QueuedInput>) {
    while let Some(input) = queue.recv().await {
        if stdin.write_all(&input.bytes).await.is_err() {
            return;
        }
    }
}

/// Sends one output stream of the command to the client, until the command closes it.
async fn forward_output(
    mut output: impl AsyncRead + Unpin,
    kind: Option<u32>,
    reply: &Reply,
    flow: &Flow,
    faults: &Faults,
) {
    let mut buffer = vec![0; OUTPUT_CHUNK_BYTES];
    let lost_ack = faults.find(|fault| match fault {
        Fault::DropAck { number } if kind.is_none() => Some(*number),
        _ => None,
    });
    let mut acks = lost_ack.map(AckThief::new);
    let mut is_gone = false;
    while let Ok(count) = output.read(&mut buffer).await {
        if count == 0 {
            return;
        }
        // Whoever could not hear it any more is waited for: a command that was killed.
        if is_gone {
            continue;
        }
        let mut bytes = buffer[..count].to_vec();
        if let Some(acks) = &mut acks {
            bytes.retain(|byte| acks.leaves(*byte));
        }
        let waiting = flow.output_waits();
        is_gone = reply.send(kind, &bytes).await.is_err();
        drop(waiting);
    }
}

/// Takes one acknowledgement out of the output of an SCP sink.
struct AckThief {
    number: u64,
    /// How much of the line has come behind which the sink begins to speak.
    matched: usize,
}

impl AckThief {
    const BEGINS: &[u8] = b" scp\n";

    fn new(number: u64) -> Self {
        Self { number, matched: 0 }
    }

    /// Whether a byte may pass.
    fn leaves(&mut self, byte: u8) -> bool {
        if self.matched < Self::BEGINS.len() {
            self.matched = if Self::BEGINS[self.matched] == byte {
                self.matched + 1
            } else {
                usize::from(byte == Self::BEGINS[0])
            };
            return true;
        }
        let is_it = byte == 0 && self.number == 0;
        if byte == 0 {
            self.number = self.number.checked_sub(1).unwrap_or(u64::MAX);
        }
        !is_it
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

    fn kill(&self) {
        if let Some(group) = self.0 {
            // Fails when all of them have ended already.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
