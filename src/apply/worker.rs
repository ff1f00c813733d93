//! The work on one host.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::config::Host;
use crate::model::{Entry, Event, Kind, Node, Phase, RelPath, RemotePath, Tree};
use crate::plan::prepare::{PreparedHost, base_on_host, with_help};
use crate::plan::staging::{StagingPlace, device_of};
use crate::plan::{Action, Change};
use crate::remote::{Program as RemoteProgram, Script, ScriptRun, last_line};
use crate::scan::remote::{Algorithm, Listing, Place, StatTuple, seconds_of};
use crate::state::{HostRecord, MappingRecord, Progress, StateError};
use crate::transport::scp::ScpUpload;
use crate::transport::tar::TarUpload;
use crate::transport::upload::{Content, UploadError, UploadRecord, UploadReport};
use crate::transport::{Aborted, ExecIo, Input, Session, TransportError};

use super::program::{self, Job, Program, Staged, StagedTree};
use super::witness::Witness;
use super::{HostReport, HostResult, Refused, Run};

/// The changes that remain when conflicts are left alone: without them, and without what would lie
/// below one.
pub(super) fn without_conflicts(changes: &[Change]) -> Vec<&Change> {
    let conflicts: Vec<&Change> = changes.iter().filter(|change| change.conflict).collect();
    let is_left = |change: &Change| {
        conflicts.iter().any(|conflict| {
            conflict.mapping == change.mapping
                && (conflict.path == change.path
                    || change.path.is_below(&conflict.path)
                    // What makes room cannot go while something in it stays.
                    || (conflict.path.is_below(&change.path)
                        && change.before.as_ref().map(Node::kind) == Some(Kind::Dir)
                        && change.after.as_ref().map(Node::kind) != Some(Kind::Dir)))
        })
    };
    changes.iter().filter(|change| !is_left(change)).collect()
}

/// Why a host is not done.
pub(super) enum Failure {
    Unreachable(String),
    Failed(String),
    Interrupted,
}

impl Failure {
    pub(super) fn into_result(self) -> HostResult {
        match self {
            Self::Unreachable(error) => HostResult::Unreachable(error),
            Self::Failed(error) => HostResult::Failed(error),
            Self::Interrupted => HostResult::Interrupted,
        }
    }
}

impl From<TransportError> for Failure {
    fn from(error: TransportError) -> Self {
        Self::Failed(with_help(&error))
    }
}

impl From<StateError> for Failure {
    fn from(error: StateError) -> Self {
        Self::Failed(with_help(&error))
    }
}

pub(super) struct Worker<'a> {
    pub(super) run: &'a Run<'a>,
    pub(super) host: &'a Host,
    pub(super) prepared: &'a PreparedHost,
    pub(super) changes: Vec<&'a Change>,
}

/// Where things are staged on a host.
struct Staging {
    /// Folder of ours below the login folder: lock, listing, journal.
    home: RemotePath,
    /// The staging folders, the one at `home` first.
    bases: Vec<RemotePath>,
    /// Their file systems.
    devices: Vec<u64>,
    /// By mapping, which one serves it.
    base_of: Vec<usize>,
    /// Name of this run's folder in each.
    run_name: String,
}

/// Why an entry is not done.
#[derive(Clone, Debug)]
enum Why {
    /// It is no longer as it was when it was looked at.
    Moved,
    /// A folder that was ours holds something of somebody else: it is theirs from now on.
    Spared,
    /// For people.
    Other(String),
}

impl Why {
    fn other(reason: &str) -> Self {
        Self::Other(reason.to_owned())
    }
}

/// What the commit script answered.
struct Answer {
    /// By step: `None` for done, else why not.
    steps: HashMap<usize, Option<Why>>,
    /// By step that was taken, when that changed the entry, by the host's clock.
    times: HashMap<usize, f64>,
    /// When the first visible step began, by the host's clock.
    begun: Option<f64>,
    /// The new listing, or what of it differs from the old one.
    lines: Vec<(StatTuple, Vec<u8>)>,
    /// Whether `lines` is a difference.
    is_difference: bool,
    /// Paths that the old listing has and the new one has not, or not like that.
    gone: HashSet<Vec<u8>>,
    /// Digest of the new listing.
    digest: Option<String>,
}

impl Worker<'_> {
    /// Does it. What has been confirmed is in `report` and in the state, whatever comes after.
    pub(super) fn work(&self, report: &mut HostReport) -> Result<(), Failure> {
        let started = Instant::now();
        let mut staging = self.choose_staging()?;
        let job = Job {
            host: self.host,
            prepared: self.prepared,
            changes: &self.changes,
            base_of: &staging.base_of,
            devices: &staging.devices,
        };
        let program = program::compile(&job);
        let is_blake3 = self.prepared.scan.facts.algorithm == Algorithm::Blake3;
        let (names, sums) = program::verification(&program.staged, is_blake3).ok_or_else(|| {
            Failure::Failed(
                "a digest of a source is missing; run the same command again".to_owned(),
            )
        })?;
        let receiver = self.choose_receiver(&program)?;

        self.begin(Phase::Connecting, 0);
        let mut session = self
            .run
            .request
            .connector
            .connect(self.host)
            .map_err(|error| Failure::Unreachable(with_help(&error)))?;
        if let Some(receiver) = receiver {
            report.sent_bytes +=
                self.upload_all(session.as_mut(), &mut staging, &program, receiver)?;
        }
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "uploaded");
        if self.is_interrupted() {
            session.close();
            return Err(Failure::Interrupted);
        }
        self.begin(Phase::Committing, 0);
        self.record_start()?;
        let answer = self.commit(session.as_mut(), &staging, &program, &names, &sums);
        session.close();
        let answer = answer?;
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "committed");
        self.record_end(&program, &answer, report)?;
        Ok(())
    }

    fn observer(&self) -> &dyn crate::model::Observer {
        self.run.request.observer
    }

    fn begin(&self, phase: Phase, total_bytes: u64) {
        let host = self.host.id.clone();
        self.observer().event(&Event::HostPhase {
            host,
            phase,
            total_bytes,
        });
    }

    fn stall_timeout(&self) -> Duration {
        self.run.request.config.settings.stall_timeout
    }

    fn is_interrupted(&self) -> bool {
        self.run.request.interrupted.load(Ordering::Relaxed)
    }

    /// Finds for every mapping a staging folder on its file system, since only there a rename is one.
    fn choose_staging(&self) -> Result<Staging, Failure> {
        let configured = self.run.request.config.settings.staging_path.as_ref();
        let home = base_on_host(configured, Some(&self.run.identity), &self.host.id);
        let scan = &self.prepared.scan;
        let mut staging = Staging {
            bases: vec![home.clone()],
            home,
            devices: vec![scan.staging.device],
            base_of: Vec::new(),
            run_name: new_run_name(),
        };
        for (index, mapping) in self.host.mappings.iter().enumerate() {
            let place = &scan.places[index];
            let is_folder = matches!(
                self.prepared.sources[index].tree.get(&RelPath::root()),
                Some(Node::Dir { .. })
            );
            let number = match StagingPlace::of(place, &scan.staging, is_folder) {
                Ok(StagingPlace::Home) => 0,
                Ok(StagingPlace::Beside(beside)) => {
                    let base = self.base_beside(&beside);
                    staging
                        .bases
                        .iter()
                        .position(|known| *known == base)
                        .unwrap_or_else(|| {
                            staging.bases.push(base);
                            staging.devices.push(device_of(place));
                            staging.bases.len() - 1
                        })
                }
                // Nothing will be staged for it.
                Err(_) if self.changes.iter().all(|change| change.mapping != index) => 0,
                Err(error) => {
                    return Err(Failure::Failed(format!(
                        "{}: {error}",
                        mapping.dest_as_written
                    )));
                }
            };
            staging.base_of.push(number);
        }
        Ok(staging)
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
    fn choose_receiver(&self, program: &Program) -> Result<Option<Receiver>, Failure> {
        let facts = &self.prepared.scan.facts;
        if program.staged.iter().all(StagedTree::is_empty) {
            return Ok(None);
        }
        if facts.has_scp {
            return Ok(Some(Receiver::Scp));
        }
        if facts.has_tar {
            tracing::info!("no scp on this host: sending through tar");
            return Ok(Some(Receiver::Tar));
        }
        Err(Failure::Failed(
            "the host has neither an scp nor a tar command; install one of them there".to_owned(),
        ))
    }

    /// Uploads into every staging folder, through `tar` where `scp` turns out not to work. The bytes
    /// of content that arrived.
    fn upload_all(
        &self,
        session: &mut dyn Session,
        staging: &mut Staging,
        program: &Program,
        receiver: Receiver,
    ) -> Result<u64, Failure> {
        let mut sent_bytes = 0;
        for (base, tree) in staging.bases.iter().zip(&program.staged) {
            if tree.is_empty() {
                continue;
            }
            self.begin(Phase::Uploading, program::content_bytes(tree));
            match self.upload(session, base, &staging.run_name, tree, receiver)? {
                Ok(report) => sent_bytes += report.content_bytes,
                Err(error @ UploadError::Unavailable { .. })
                    if receiver == Receiver::Scp && self.prepared.scan.facts.has_tar =>
                {
                    tracing::warn!("{error}: sending through tar");
                    staging.run_name = new_run_name();
                    return self.upload_all(session, staging, program, Receiver::Tar);
                }
                Err(error) => return Err(Failure::Failed(with_help(&error))),
            }
        }
        Ok(sent_bytes)
    }

    /// Uploads into one staging folder. What came of the stream itself is the inner result.
    fn upload(
        &self,
        session: &mut dyn Session,
        base: &RemotePath,
        run_name: &str,
        tree: &StagedTree,
        receiver: Receiver,
    ) -> Result<Result<UploadReport, UploadError>, Failure> {
        let mut script = Script::new(RemoteProgram::Upload, self.stall_timeout());
        script
            .path("hs_base", base)
            .text("hs_run", run_name.as_bytes())
            .text("hs_with", receiver.as_str().as_bytes());
        let mut io = UploadIo {
            worker: self,
            script: script.to_bytes(),
            stream: Stream::new(receiver, script.nonce().as_str(), records(tree)),
            early: ScriptRun::new(&script, b""),
        };
        let outcome = session.exec(&script.command(), &mut io);
        if self.is_interrupted() {
            return Err(Failure::Interrupted);
        }
        let refused = io
            .early
            .sections()
            .into_iter()
            .find(|section| section.name == "fail");
        if let Some(fail) = refused {
            return Err(Failure::Failed(last_line(fail.body)));
        }
        match (io.stream.finish(), outcome) {
            // Its own account of what went wrong says more than that it gave up.
            (Err(error), Ok(_) | Err(TransportError::Aborted(_))) => Ok(Err(error)),
            (_, Err(error)) => Err(error.into()),
            (Ok(report), Ok(_)) => Ok(Ok(report)),
        }
    }

    fn commit(
        &self,
        session: &mut dyn Session,
        staging: &Staging,
        program: &Program,
        names: &[u8],
        sums: &[u8],
    ) -> Result<Answer, Failure> {
        let paths = self.paths_to_list();
        let mut script = Script::new(RemoteProgram::Commit, self.stall_timeout());
        script
            .path("hs_home", &staging.home)
            .text("hs_run", staging.run_name.as_bytes());
        script.number("hs_bases", staging.bases.len() as u64);
        for (index, base) in staging.bases.iter().enumerate() {
            script.path(&format!("hs_base_{index}"), base);
        }
        script.number("hs_mappings", self.host.mappings.len() as u64);
        for (index, mapping) in self.host.mappings.iter().enumerate() {
            script.path(&format!("hs_root_{index}"), &mapping.dest);
            script.number(&format!("hs_at_{index}"), staging.base_of[index] as u64);
        }
        script.number("hs_serial", self.run.identity.serial);
        script.number(
            "hs_backups",
            u64::from(self.run.request.config.settings.backups),
        );
        script.number("hs_wait", self.run.request.wait_for_host.as_secs());
        // Two megabytes a second is slow for any disk.
        let staged_bytes: u64 = program.staged.iter().map(program::content_bytes).sum();
        script.number("hs_patience", 600 + staged_bytes / 2_000_000);
        let listing = self.trusted_listing().unwrap_or_default();
        script.text("hs_listing", listing.as_bytes());
        let parts = [program.intent.as_slice(), names, sums, &paths];
        for (name, part) in ["hs_intent", "hs_staged", "hs_sums", "hs_paths"]
            .iter()
            .zip(parts)
        {
            script.number(name, part.len() as u64);
        }
        let mut run = ScriptRun::new(&script, &parts.concat());
        let outcome = session.exec(&script.command(), &mut run)?;
        if !run.has_ended() {
            let said = last_line(&outcome.stderr);
            return Err(Failure::Failed(format!(
                "the host did not answer to the end{}{said}; what it has done will be found by the \
                 next plan",
                if said.is_empty() { "" } else { ": " }
            )));
        }
        read_answer(&run, &outcome.stderr)
    }

    /// The kept listing that the plan was made with, when nothing but our own steps can have changed
    /// what it lists since.
    fn trusted_listing(&self) -> Option<&str> {
        let is_kept = matches!(self.prepared.scan.listing, Listing::Same | Listing::Moved);
        self.prepared
            .record
            .as_ref()?
            .listing
            .as_deref()
            .filter(|_| is_kept)
    }

    /// What the new listing is to hold: everything that will be recorded. Nothing when some entries are
    /// left as they are: then the next plan has to look at everything.
    fn paths_to_list(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let is_whole = self.wanted_changes() == self.changes.len();
        if is_whole {
            for (mapping, paths) in self.host.mappings.iter().zip(self.recorded_after()) {
                for path in paths.entries().iter().map(|entry| &entry.path) {
                    bytes.extend_from_slice(mapping.dest.join(path).as_bytes());
                    bytes.push(b'\n');
                }
            }
        }
        bytes
    }

    fn wanted_changes(&self) -> usize {
        let plan = &self.run.request.prepared.plan;
        let host = plan.hosts.iter().find(|plan| plan.host == self.host.id);
        host.map_or(0, |host| host.changes().len())
    }

    /// By mapping, what will be recorded if all of `self.changes` is confirmed.
    fn recorded_after(&self) -> Vec<Tree> {
        let all: HashSet<usize> = (0..self.changes.len()).collect();
        self.recorded_with(&all)
    }

    /// By mapping, what is to be recorded when these of the changes have been confirmed: entries of
    /// the source that are in place, and entries of earlier applies that are still there.
    fn recorded_with(&self, confirmed: &HashSet<usize>) -> Vec<Tree> {
        let mut trees: Vec<BTreeMap<&RelPath, &Node>> = Vec::new();
        for (recorded, actual) in self.prepared.recorded.iter().zip(&self.prepared.actual) {
            let still_there = recorded
                .entries()
                .iter()
                .filter(|entry| actual.get(&entry.path).is_some());
            trees.push(
                still_there
                    .map(|entry| (&entry.path, &entry.node))
                    .collect(),
            );
        }
        for (index, change) in self.changes.iter().enumerate() {
            if confirmed.contains(&index) {
                match &change.after {
                    Some(after) => trees[change.mapping].insert(&change.path, after),
                    None => trees[change.mapping].remove(&change.path),
                };
            }
        }
        trees
            .into_iter()
            .map(|tree| {
                let entry = |(path, node): (&RelPath, &Node)| Entry {
                    path: path.clone(),
                    node: node.clone(),
                };
                tree.into_iter().map(entry).collect()
            })
            .collect()
    }

    /// Before the first step: whatever comes, the state knows that the host is in the middle of this.
    fn record_start(&self) -> Result<(), Failure> {
        let mappings = self.mapping_records(self.prepared.recorded.iter().map(AsRef::as_ref))?;
        self.save(Progress::InTheMiddle, None, mappings)
    }

    fn record_end(
        &self,
        program: &Program,
        answer: &Answer,
        report: &mut HostReport,
    ) -> Result<(), Failure> {
        let after: HashMap<&[u8], &StatTuple> = answer
            .lines
            .iter()
            .map(|(stat, path)| (path.as_slice(), stat))
            .collect();
        let (mut confirmed, mut spared) = (HashSet::new(), HashSet::new());
        let mut refused: BTreeMap<usize, Why> = BTreeMap::new();
        for impossible in &program.impossible {
            refused.insert(impossible.change, Why::Other(impossible.reason.clone()));
        }
        for (step, covers) in program.steps.iter().enumerate() {
            let result = answer.steps.get(&step).cloned();
            for &index in covers {
                match &result {
                    Some(None) => match self.is_as_planned(index, &after) {
                        Ok(()) => _ = confirmed.insert(index),
                        Err(why) => _ = refused.insert(index, why),
                    },
                    Some(Some(Why::Spared)) => _ = spared.insert(index),
                    Some(Some(why)) => _ = refused.insert(index, why.clone()),
                    None => _ = refused.insert(index, Why::other("the host did not say")),
                }
            }
        }
        for (index, change) in self.changes.iter().enumerate() {
            if change.action == Action::Adopt {
                confirmed.insert(index);
                report.adopted += 1;
            }
        }
        report.changed = confirmed.len() - report.adopted;
        report.refused = refused
            .into_iter()
            .map(|(index, why)| {
                let change = self.changes[index];
                let (reason, moved) = match why {
                    Why::Moved => (
                        "it was changed on the host after it was looked at".into(),
                        true,
                    ),
                    Why::Spared => ("the folder is not empty".into(), false),
                    Why::Other(reason) => (reason, false),
                };
                Refused {
                    mapping: change.mapping,
                    path: change.path.clone(),
                    dest: program::dest_of(self.host, change).to_string(),
                    reason,
                    moved,
                }
            })
            .collect();

        for &index in &spared {
            let dest = program::dest_of(self.host, self.changes[index]);
            tracing::info!(path = %dest, "the folder stays, since something else is in it");
        }
        confirmed.extend(spared);
        self.log_steps(program, &confirmed);
        let trees = self.recorded_with(&confirmed);
        let listing = answer.digest.clone().filter(|_| {
            report.refused.is_empty() && self.witness(program, answer, &after).stands_for(&trees)
        });
        if listing.is_none() {
            tracing::debug!("the next plan will look at everything");
        }
        let mappings = self.mapping_records(trees.iter())?;
        self.save(Progress::Finished, listing, mappings)
    }

    fn witness<'w>(
        &'w self,
        program: &'w Program,
        answer: &'w Answer,
        after: &'w HashMap<&'w [u8], &'w StatTuple>,
    ) -> Witness<'w> {
        Witness {
            host: self.host,
            seen: &self.prepared.scan.seen,
            changes: &self.changes,
            steps: &program.steps,
            step_times: &answer.times,
            begun: answer.begun,
            after,
            unnamed_is_unmoved: answer.is_difference,
            gone: &answer.gone,
        }
    }

    /// One line for each step that was taken; what came with a new folder is counted.
    fn log_steps(&self, program: &Program, confirmed: &HashSet<usize>) {
        for covers in &program.steps {
            let Some(first) = covers.iter().find(|index| confirmed.contains(index)) else {
                continue;
            };
            let change = self.changes[*first];
            tracing::info!(
                action = ?change.action,
                path = %program::dest_of(self.host, change),
                entries = covers.len(),
                "changed"
            );
        }
    }

    /// Whether an entry that the host says is done looks like it, as far as the listing tells.
    fn is_as_planned(&self, index: usize, after: &HashMap<&[u8], &StatTuple>) -> Result<(), Why> {
        let change = self.changes[index];
        let dest = program::dest_of(self.host, change);
        let (Some(stat), Some(node)) = (after.get(dest.as_bytes()), &change.after) else {
            return Ok(());
        };
        match node {
            Node::File { size_bytes, .. } if stat.size_bytes() != *size_bytes => Err(Why::Moved),
            Node::File { mode, .. } | Node::Dir { mode } if stat.mode() != *mode => {
                Err(Why::other("the host did not set its permission bits"))
            }
            _ => Ok(()),
        }
    }

    /// Records for the mappings of the configuration, and those of earlier ones that it no longer has.
    fn mapping_records<'t>(
        &self,
        trees: impl Iterator<Item = &'t Tree>,
    ) -> Result<Vec<MappingRecord>, Failure> {
        let mut records = Vec::new();
        for (mapping, tree) in self.host.mappings.iter().zip(trees) {
            records.push(MappingRecord {
                src: mapping.src_as_written.clone(),
                dest: mapping.dest_as_written.clone(),
                tree: self.run.state.save_tree(self.run.request.lock, tree)?,
            });
        }
        let earlier = self
            .prepared
            .record
            .iter()
            .flat_map(|record| &record.mappings);
        for record in earlier {
            if records.iter().all(|known| known.dest != record.dest) {
                records.push(record.clone());
            }
        }
        Ok(records)
    }

    fn save(
        &self,
        progress: Progress,
        listing: Option<String>,
        mappings: Vec<MappingRecord>,
    ) -> Result<(), Failure> {
        let record = HostRecord {
            host: self.host.id.clone(),
            serial: self.run.identity.serial,
            updated_at: (self.run.request.now)(),
            plan: self.run.plan_digest,
            progress,
            listing,
            algorithm: Some(self.prepared.scan.facts.algorithm.as_str().to_owned()),
            mappings,
        };
        Ok(self.run.state.save_host(self.run.request.lock, &record)?)
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
            Staged::File {
                mode,
                mtime,
                size_bytes,
                source,
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
enum Receiver {
    Scp,
    Tar,
}

impl Receiver {
    /// As the upload script knows it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Scp => "scp",
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
    fn new(receiver: Receiver, nonce: &str, records: Vec<UploadRecord>) -> Self {
        match receiver {
            Receiver::Scp => Self::Scp(ScpUpload::new(nonce, records)),
            Receiver::Tar => Self::Tar(TarUpload::new(nonce, records)),
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

/// The upload script, then the stream. Stops when the run is interrupted.
struct UploadIo<'a> {
    worker: &'a Worker<'a>,
    script: Vec<u8>,
    stream: Stream<'a>,
    /// Reads along, for the case that the script gives up before the stream begins.
    early: ScriptRun,
}

impl ExecIo for UploadIo<'_> {
    fn next_input(&mut self, buffer: &mut Vec<u8>) -> Result<Input, Aborted> {
        if self.worker.is_interrupted() {
            return Err(Aborted("interrupted".into()));
        }
        if !self.script.is_empty() {
            buffer.append(&mut self.script);
            return Ok(Input::Ready);
        }
        self.stream.io().next_input(buffer)
    }

    fn output(&mut self, bytes: &[u8]) -> Result<ControlFlow<()>, Aborted> {
        if self.early.output(bytes)?.is_break() {
            // Either the end of the stream, which it wants to see, too, or the end of the script.
            let _ = self.stream.io().output(bytes)?;
            return Ok(ControlFlow::Break(()));
        }
        self.stream.io().output(bytes)
    }

    fn sent(&mut self, bytes: usize) {
        self.stream.io().sent(bytes);
        let (host, sent_bytes) = (self.worker.host.id.clone(), bytes as u64);
        self.worker
            .observer()
            .event(&Event::HostProgress { host, sent_bytes });
    }
}

fn read_answer(run: &ScriptRun, stderr: &[u8]) -> Result<Answer, Failure> {
    let sections = run.sections();
    let section = |name: &str| sections.iter().find(|section| section.name == name);
    if let Some(fail) = section("fail") {
        return Err(Failure::Failed(last_line(fail.body)));
    }
    if let Some(names) = section("unverified") {
        let names: Vec<String> = names
            .lines()
            .map(|line| String::from_utf8_lossy(line).into_owned())
            .collect();
        return Err(Failure::Failed(format!(
            "what arrived is not what was sent ({}); nothing was changed, run the same command again",
            names.join(", ")
        )));
    }
    if let Some(locked) = section("locked") {
        return Err(Failure::Failed(format!(
            "another run is committing on this host (process {} there); nothing was changed",
            last_line(locked.body)
        )));
    }
    if section("end").map(|end| end.argument) != Some("ok") {
        return Err(Failure::Failed(format!(
            "the commit ended early: {}",
            last_line(stderr)
        )));
    }
    let (mut steps, mut times, mut begun) = (HashMap::new(), HashMap::new(), None);
    for line in section("steps")
        .into_iter()
        .flat_map(crate::remote::Section::lines)
    {
        let line = String::from_utf8_lossy(line);
        let mut words = line.splitn(3, ' ');
        let (what, number) = (words.next(), words.next());
        let number: Option<usize> = number.and_then(|number| number.parse().ok());
        let rest = words.next();
        match (what, number) {
            (Some("begun"), None) => begun = rest.and_then(seconds_of),
            (Some("done"), Some(number)) => {
                steps.insert(number, None);
                times.extend(rest.and_then(seconds_of).map(|time| (number, time)));
            }
            (Some("moved"), Some(number)) => _ = steps.insert(number, Some(Why::Moved)),
            (Some("spared"), Some(number)) => _ = steps.insert(number, Some(Why::Spared)),
            (Some("refused"), Some(number)) => {
                let reason = rest.unwrap_or("the host gave no reason");
                steps.insert(number, Some(Why::other(reason)));
            }
            _ => tracing::debug!("step: {line}"),
        }
    }
    let mut answer = Answer {
        steps,
        times,
        begun,
        lines: Vec::new(),
        is_difference: false,
        gone: HashSet::new(),
        digest: section("digest").map(|digest| last_line(digest.body)),
    };
    if let Some(listing) = section("listing") {
        answer.lines = listing.lines().filter_map(stat_line).collect();
    }
    if let Some(difference) = section("difference") {
        answer.is_difference = true;
        for line in difference.lines() {
            match line.split_first() {
                Some((b'+', line)) => answer.lines.extend(stat_line(line)),
                Some((b'-', line)) => answer.gone.extend(stat_line(line).map(|(_, path)| path)),
                _ => {}
            }
        }
    }
    Ok(answer)
}

fn stat_line(line: &[u8]) -> Option<(StatTuple, Vec<u8>)> {
    StatTuple::from_line(line).map(|(stat, path)| (stat, path.to_vec()))
}
