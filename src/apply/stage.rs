//! Getting what is sent onto a host: into private folders, on the file systems of the destinations.

use std::cell::Cell;
use std::fmt;

use crate::model::{Event, HostError, Phase, RemotePath};
use crate::plan::PlanError;
use crate::plan::staging::{NoReceiver, StagingPlace, base_on_host, device_of, is_folder};
use crate::remote::tasks::look::{Algorithm, LookError, Place, check_end};
use crate::remote::tasks::receive::scp::ScpUpload;
use crate::remote::tasks::receive::tar::TarUpload;
use crate::remote::tasks::receive::upload::{Content, UploadError, UploadRecord, UploadReport};
use crate::remote::{Login, Script, ScriptRun, Section, Task, last_line};
use crate::state::HostRecord;
use crate::transport::{Aborted, ExecIo, Flow, Input, TransportError};

use super::commit::patience_seconds;
use super::explain;
use super::large::{self, LargeFile};
use super::program::{self, Origin, Program, Staged, StagedTree};
use super::worker::{Failure, Worker};

/// Where things are staged on a host.
pub(super) struct Staging {
    /// Folder of ours below the login folder: lock, listing, journal.
    pub(super) home: RemotePath,
    /// The staging folders, the one at `home` first.
    pub(super) bases: Vec<RemotePath>,
    /// Their file systems.
    pub(super) devices: Vec<u64>,
    /// By mapping, which one serves it.
    pub(super) base_of: Vec<usize>,
    /// Name of this run's folder in each.
    pub(super) run_name: String,
}

impl Worker<'_> {
    /// Finds for every mapping a staging folder on its file system, since only there a rename is one.
    pub(super) fn choose_staging(&self) -> Result<Staging, Failure> {
        let configured = self.run.request.config.settings.staging_path.as_ref();
        let home = base_on_host(configured, Some(&self.run.identity), &self.host.id);
        let look = &self.prepared.look;
        let mut staging = Staging {
            bases: vec![home.clone()],
            home,
            devices: vec![look.staging.device],
            base_of: Vec::new(),
            run_name: new_run_name(),
        };
        for (index, mapping) in self.host.mappings.iter().enumerate() {
            let place = &look.places[index];
            let prepared = self.prepared;
            let is_folder = is_folder(&prepared.sources[index].tree, &prepared.recorded[index]);
            let is_unchanged = self.changes.iter().all(|change| change.mapping != index);
            if is_unchanged && !self.is_in_the_middle() {
                // Nothing will be staged for it.
                staging.base_of.push(0);
                continue;
            }
            let number = match StagingPlace::of(place, &look.staging, is_folder) {
                Ok(StagingPlace::Home) => 0,
                Ok(StagingPlace::Beside(beside)) => {
                    let base = self.base_beside(&beside);
                    let known = staging.bases.iter().position(|known| *known == base);
                    known.unwrap_or_else(|| {
                        staging.bases.push(base);
                        staging.devices.push(device_of(place));
                        staging.bases.len() - 1
                    })
                }
                // Only what the run that was killed has left would have been removed.
                Err(_) if is_unchanged => 0,
                Err(reason) => {
                    let dest = mapping.dest_as_written.clone();
                    let error = PlanError::NoStagingPlace { dest, reason };
                    return Err(Failure::Failed(HostError::from(&error)));
                }
            };
            staging.base_of.push(number);
        }
        Ok(staging)
    }

    /// Whether a run has been killed, which may have left something wherever it had staged.
    fn is_in_the_middle(&self) -> bool {
        let record = self.prepared.record.as_ref();
        record.is_some_and(HostRecord::is_in_the_middle)
    }

    fn base_beside(&self, place: &Place) -> RemotePath {
        let mut path = place.path.clone();
        path.extend_from_slice(b"/.hostsync");
        base_on_host(
            Some(&RemotePath::from_dest(&path)),
            Some(&self.run.identity),
            &self.host.id,
        )
    }

    /// What is to receive the upload; `None` when there is none.
    pub(super) fn choose_receiver(&self, program: &Program) -> Result<Option<Receiver>, Failure> {
        let facts = &self.prepared.look.facts;
        if program.staged.iter().all(StagedTree::is_empty) {
            return Ok(None);
        }
        if facts.has_agent {
            return Ok(Some(Receiver::Agent));
        }
        if facts.has_scp {
            return Ok(Some(Receiver::Scp));
        }
        if facts.has_tar {
            tracing::info!("no scp on this host: sending through tar");
            return Ok(Some(Receiver::Tar));
        }
        Err(Failure::Failed(HostError::from(&NoReceiver)))
    }

    /// Uploads into every staging folder, through `tar` where `scp` turns out not to work.
    pub(super) fn upload_all(
        &self,
        login: &mut Login,
        staging: &mut Staging,
        program: &Program,
        receiver: Receiver,
    ) -> Result<(), Failure> {
        let mut receiver = receiver;
        let mut at = 0;
        while let (Some(base), Some(tree)) = (staging.bases.get(at), program.staged.get(at)) {
            let to = Destination {
                base,
                run_name: &staging.run_name,
                into: "up",
            };
            let later = program.staged[at + 1..].iter();
            let later_bytes = later.map(|tree| self.bytes_of(tree)).sum();
            match self.upload_tree(login, &to, tree, receiver, later_bytes) {
                Ok(()) => at += 1,
                Err(Trouble::Upload(error @ UploadError::Unavailable { .. }))
                    if receiver == Receiver::Scp && self.prepared.look.facts.has_tar =>
                {
                    tracing::warn!("{error}: sending through tar");
                    receiver = Receiver::Tar;
                }
                Err(trouble) => return Err(trouble.into()),
            }
        }
        Ok(())
    }

    /// How much content a staging folder gets if the host has nothing of its large files.
    fn bytes_of(&self, tree: &StagedTree) -> u64 {
        let large = large::large_files(self.host, &self.prepared.look, tree);
        let large_bytes: u64 = large.iter().map(LargeFile::size_bytes).sum();
        program::small_bytes(tree) + large_bytes
    }

    /// Uploads into one staging folder: the large files, then all else. Later ones will get
    /// `later_bytes`.
    fn upload_tree(
        &self,
        login: &mut Login,
        to: &Destination<'_>,
        tree: &StagedTree,
        receiver: Receiver,
        later_bytes: u64,
    ) -> Result<(), Trouble> {
        if tree.is_empty() {
            return Ok(());
        }
        let explained = |trouble| explain::explained(trouble, self.host, to, tree);
        let large = large::large_files(self.host, &self.prepared.look, tree);
        let small_bytes = program::small_bytes(tree);
        let after_bytes = small_bytes + later_bytes;
        if !large.is_empty() {
            self.send_large(login, to, &large, receiver, after_bytes)
                .map_err(explained)?;
        }
        self.tally.expect_more(after_bytes);
        self.begin(Phase::Uploading, small_bytes);
        self.upload(login, to, records(tree), receiver)
            .map_err(explained)?;
        self.restore(login, to, tree)
    }

    /// Has the host stage what it has in its backups.
    fn restore(
        &self,
        login: &mut Login,
        to: &Destination<'_>,
        tree: &StagedTree,
    ) -> Result<(), Trouble> {
        let is_blake3 = self.prepared.look.facts.algorithm == Algorithm::Blake3;
        let Some(files) = program::files_to_restore(tree, is_blake3) else {
            return Err(Trouble::Other(Failure::Failed(
                "its backups were made when it had another tool for digests, so they cannot be \
                 verified; nothing was changed"
                    .into(),
            )));
        };
        if files.is_empty() {
            return Ok(());
        }
        let mut script = Script::new(Task::Restore, self.stall_timeout());
        script
            .path("hs_base", to.base)
            .text("hs_run", to.run_name.as_bytes())
            .number(
                "hs_patience",
                patience_seconds(program::content_bytes(tree)),
            )
            .number("hs_files", files.len() as u64);
        let mut run = ScriptRun::new(&script, files);
        let outcome = login.run(&script, &mut run)?;
        check_end(&run, &outcome).map_err(|error| {
            Trouble::Other(Failure::Failed(match error {
                LookError::Host { reason } => explain::with_cure(&reason).into(),
                error => HostError::from(&error),
            }))
        })?;
        let sections = run.sections();
        let lost = sections.iter().find(|section| section.name == "lost");
        let lost: Vec<_> = lost.into_iter().flat_map(Section::lines).collect();
        let Some(first) = lost.first() else {
            return Ok(());
        };
        let others = match lost.len() - 1 {
            0 => String::new(),
            others => format!(" (and {others} more)"),
        };
        Err(Trouble::Other(Failure::failed(format!(
            "{}{others} cannot be brought back: no backup on this host has what was there; nothing was \
             changed",
            explain::destination(self.host, first)
        ))))
    }

    /// Uploads some records.
    pub(super) fn upload(
        &self,
        login: &mut Login,
        to: &Destination<'_>,
        records: Vec<UploadRecord>,
        receiver: Receiver,
    ) -> Result<(), Trouble> {
        let mut script = Script::new(Task::Receive, self.stall_timeout());
        script
            .path("hs_base", to.base)
            .text("hs_run", to.run_name.as_bytes())
            .text("hs_into", to.into.as_bytes())
            .number("hs_block", self.run.request.large.block_bytes)
            .text("hs_with", receiver.as_str().as_bytes());
        let read_bytes = Cell::new(0);
        let mut io = UploadIo {
            worker: self,
            stream: Stream::new(receiver, script.nonce().as_str(), records, &read_bytes),
            read_bytes: &read_bytes,
            early: ScriptRun::new(&script, Vec::new()),
        };
        let outcome = login.run(&script, &mut io);
        // What was on its way when the connection broke may have arrived.
        io.count();
        if self.is_interrupted() {
            return Err(Trouble::Other(Failure::Interrupted));
        }
        let refused = io
            .early
            .sections()
            .into_iter()
            .find(|section| section.name == "fail");
        if let Some(fail) = refused {
            let reason = explain::with_cure(&last_line(fail.body));
            return Err(Trouble::Other(Failure::Failed(reason.into())));
        }
        match (io.stream.finish(), outcome) {
            // Its own account of what went wrong says more than that it gave up.
            (Err(error), Ok(_) | Err(TransportError::Aborted(_))) => Err(error.into()),
            (_, Err(error)) => Err(error.into()),
            (Ok(_), Ok(_)) => Ok(()),
        }
    }
}

/// Where on a host an upload goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Destination<'a> {
    /// The staging folder.
    pub(super) base: &'a RemotePath,
    /// The folder of this run in it.
    pub(super) run_name: &'a str,
    /// The folder in that one, as the upload script knows it.
    into: &'static str,
}

impl Destination<'_> {
    /// Beside it, where extents of large files go.
    pub(super) fn for_extents(&self) -> Self {
        Self {
            into: "large",
            ..*self
        }
    }
}

/// Refusal an upload did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// The connection.
    Transport(TransportError),
    /// The stream.
    Upload(UploadError),
    /// Anything else.
    Other(Failure),
}

impl Trouble {
    /// Whether another attempt may do better.
    pub(super) fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Transport(
                TransportError::Broken { .. }
                    | TransportError::Timeout { .. }
                    | TransportError::Unreachable { .. }
            ) | Self::Upload(UploadError::Incomplete { .. })
        )
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Upload(error) => error.fmt(f),
            Self::Other(Failure::Unreachable(error) | Failure::Failed(error)) => error.fmt(f),
            Self::Transport(error) | Self::Other(Failure::Broken(error)) => error.fmt(f),
            Self::Other(Failure::Interrupted) => f.write_str("interrupted"),
        }
    }
}

impl From<TransportError> for Trouble {
    fn from(error: TransportError) -> Self {
        Self::Transport(error)
    }
}

impl From<UploadError> for Trouble {
    fn from(error: UploadError) -> Self {
        Self::Upload(error)
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Transport(error) => error.into(),
            Trouble::Upload(error) => Self::Failed(HostError::from(&error)),
            Trouble::Other(failure) => failure,
        }
    }
}

/// The stream of an upload: folders are entered and left around what is in them.
fn records(tree: &StagedTree) -> Vec<UploadRecord> {
    let mut records = Vec::new();
    let mut open: &[Vec<u8>] = &[];
    for (components, staged) in tree {
        let (folder, name) = components.split_at(components.len() - 1);
        let shared = open.iter().zip(folder).take_while(|(a, b)| a == b).count();
        records.extend((shared..open.len()).map(|_| UploadRecord::LeaveDir));
        open = &open[..shared];
        let name = name[0].clone();
        match staged {
            Staged::Dir { mode, mtime } => {
                records.push(UploadRecord::EnterDir {
                    name,
                    mode: *mode,
                    mtime: *mtime,
                });
                open = components;
            }
            // They came before, or come afterwards.
            Staged::File { is_large: true, .. }
            | Staged::File {
                origin: Origin::Backup(_),
                ..
            } => {}
            Staged::File {
                mode,
                mtime,
                size_bytes,
                origin: Origin::Source(source),
                ..
            } => records.push(UploadRecord::File {
                name,
                mode: *mode,
                mtime: Some(*mtime),
                size_bytes: *size_bytes,
                content: Content::Path(source.as_path().to_owned()),
            }),
        }
    }
    records.extend(open.iter().map(|_| UploadRecord::LeaveDir));
    records
}

/// A name that no folder in staging has.
fn new_run_name() -> String {
    format!("run-{}", crate::remote::Nonce::random())
}

/// The program of the host that receives an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Receiver {
    /// The agent, which takes what `scp` takes.
    Agent,
    Scp,
    Tar,
}

impl Receiver {
    /// As the upload script knows it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Agent | Self::Scp => "scp",
            Self::Tar => "tar",
        }
    }
}

/// An upload, as its receiver takes it.
enum Stream<'a> {
    Scp(ScpUpload<'a>),
    Tar(TarUpload<'a>),
}

impl<'a> Stream<'a> {
    fn new(
        receiver: Receiver,
        nonce: &str,
        records: Vec<UploadRecord>,
        read_bytes: &'a Cell<u64>,
    ) -> Self {
        let count = |bytes| read_bytes.set(read_bytes.get() + bytes);
        let scp = |records| ScpUpload::new(nonce, records).on_progress(count);
        match receiver {
            Receiver::Agent => Self::Scp(scp(records).with_open_end()),
            Receiver::Scp => Self::Scp(scp(records)),
            Receiver::Tar => Self::Tar(TarUpload::new(nonce, records).on_progress(count)),
        }
    }

    fn io(&mut self) -> &mut (dyn ExecIo + 'a) {
        match self {
            Self::Scp(upload) => upload,
            Self::Tar(upload) => upload,
        }
    }

    fn finish(self) -> Result<UploadReport, UploadError> {
        match self {
            Self::Scp(upload) => upload.finish(),
            Self::Tar(upload) => upload.finish(),
        }
    }
}

/// The stream. Stops when the run is interrupted.
struct UploadIo<'a> {
    worker: &'a Worker<'a>,
    stream: Stream<'a>,
    /// Bytes of content that were read for what is being sent.
    read_bytes: &'a Cell<u64>,
    /// Reads along, for the case that the script gives up before the stream begins.
    early: ScriptRun,
}

impl UploadIo<'_> {
    /// Counts content alone, without what is around it. It is handed on in small portions, and one that
    /// the host has begun to take counts as a whole.
    fn count(&self) {
        let sent_bytes = self.read_bytes.take();
        if sent_bytes > 0 {
            self.worker.tally.add(sent_bytes);
            let host = self.worker.host.id.clone();
            self.worker
                .observer()
                .event(&Event::HostProgress { host, sent_bytes });
        }
    }
}

impl ExecIo for UploadIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.worker.is_interrupted() {
            return Err(Aborted("interrupted".into()));
        }
        self.stream.io().next_input(buffer)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<Flow, Aborted> {
        // Both look for the end: of the stream, or of a script that never came to it.
        let flow = self.early.output(bytes)?;
        self.stream.io().output(bytes)?;
        Ok(flow)
    }

    fn sent(&mut self, bytes: usize) {
        self.stream.io().sent(bytes);
        self.count();
    }
}
