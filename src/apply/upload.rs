//! Getting what is sent onto a host, into its staging folders.

use super::explain;
use super::failure::{ApplyError, HostFailure, UploadError};
use super::job::Job;
use super::large::{self, LargeContext};
use super::link::HostLink;
use super::staged::{self, StagedTree};
use super::staging::{Staging, UploadTarget};
use super::transfer::transfer;
use crate::model::{HostError, Phase};
use crate::plan::staging::NoReceiver;
use crate::remote::tasks::receive::stream::StreamError;
use crate::remote::tasks::receive::{Receiver, RunFolder};
use crate::remote::tasks::restore::{RestoreRequest, restore};
use crate::remote::{Login, RemoteError};

/// What is to receive an upload of these trees; `None` when nothing is to be uploaded.
pub(super) fn choose_receiver(
    job: &Job<'_>,
    trees: &[StagedTree],
) -> Result<Option<Receiver>, HostFailure> {
    let facts = &job.prepared.look.facts;
    if trees.iter().all(StagedTree::is_empty) {
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
    Err(HostFailure::Failed(HostError::from(&NoReceiver)))
}

/// Uploads into one host.
pub(super) struct Upload<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) link: HostLink<'a>,
    pub(super) large: LargeContext<'a>,
}

impl Upload<'_> {
    /// Uploads a tree into every staging folder, through `tar` where `scp` turns out not to work.
    pub(super) fn all(
        &self,
        login: &mut Login,
        staging: &Staging,
        trees: &[StagedTree],
        receiver: Receiver,
    ) -> Result<(), HostFailure> {
        let mut receiver = receiver;
        let mut at = 0;
        while let (Some(base), Some(tree)) = (staging.bases.get(at), trees.get(at)) {
            let target = UploadTarget {
                base,
                run_name: &staging.run_name,
                receiver,
                block_bytes: self.large.settings.block_bytes,
            };
            let later = trees[at + 1..].iter();
            let later_bytes = later.map(|tree| self.bytes_of(tree)).sum();
            match self.tree(login, target, tree, later_bytes) {
                Ok(()) => at += 1,
                Err(UploadError::Stream(error @ StreamError::Unavailable { .. }))
                    if receiver == Receiver::Scp && self.job.prepared.look.facts.has_tar =>
                {
                    tracing::warn!("{error}: sending through tar");
                    receiver = Receiver::Tar;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// How much content a staging folder gets if the host has nothing of its large files.
    fn bytes_of(&self, tree: &StagedTree) -> u64 {
        let large = large::large_files(self.job, tree);
        let large_bytes: u64 = large.iter().map(large::LargeFile::size_bytes).sum();
        staged::small_bytes(tree) + large_bytes
    }

    /// Uploads into one staging folder: the large files, then all else. Later ones will get
    /// `later_bytes`.
    fn tree(
        &self,
        login: &mut Login,
        target: UploadTarget<'_>,
        tree: &StagedTree,
        later_bytes: u64,
    ) -> Result<(), UploadError> {
        if tree.is_empty() {
            return Ok(());
        }
        let explained = |error| explain::explained(error, self.job.host, target, tree);
        let large = large::large_files(self.job, tree);
        let small_bytes = staged::small_bytes(tree);
        let after_bytes = small_bytes + later_bytes;
        if !large.is_empty() {
            self.large
                .send(self.link, login, target, &large, after_bytes)
                .map_err(explained)?;
        }
        self.link.tally.expect_more(after_bytes);
        self.link.begin(Phase::Uploading, small_bytes);
        let records = staged::records(tree);
        transfer(self.link, login, target, RunFolder::Staged, records).map_err(explained)?;
        self.restore(login, target, tree)
    }

    /// Has the host stage what it has in its backups.
    fn restore(
        &self,
        login: &mut Login,
        target: UploadTarget<'_>,
        tree: &StagedTree,
    ) -> Result<(), UploadError> {
        let files = staged::restored_files(tree, self.job.algorithm())
            .ok_or(ApplyError::UnverifiableBackups)?;
        if files.is_empty() {
            return Ok(());
        }
        let request = RestoreRequest {
            base: target.base,
            run_name: target.run_name,
            files: &files,
            total_bytes: staged::content_bytes(tree),
            stall_timeout: self.link.stall_timeout,
        };
        let lost = restore(login, &request).map_err(|error| match error {
            RemoteError::Transport(error) => error.into(),
            RemoteError::Host { reason } => explain::with_cure(&reason).into(),
            error => UploadError::Other(HostFailure::Failed((&error).into())),
        })?;
        match lost.first() {
            None => Ok(()),
            Some(first) => Err(ApplyError::NoBackup {
                dest: explain::destination(self.job.host, first),
                others: lost.len() - 1,
            }
            .into()),
        }
    }
}
