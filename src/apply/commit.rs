//! The commit of one host: what it is asked to do, and what its refusals mean.

use std::time::Duration;

use super::commit_steps::CommitSteps;
use super::explain;
use super::failure::{ApplyError, HostFailure};
use super::job::Job;
use super::staged;
use super::staging::Staging;
use crate::model::RemotePath;
use crate::remote::Login;
use crate::remote::tasks::commit::{
    CommitAnswer, CommitError, CommitRequest, NewListing, StagedFile, commit as commit_on_host,
};

/// What a commit takes from the run and its settings.
#[derive(Clone, Copy, Debug)]
pub(super) struct CommitSettings {
    /// Serial of this apply.
    pub(super) serial: u64,
    /// How many folders of backups are kept.
    pub(super) backups: u32,
    /// How long to wait for another run that commits on the host.
    pub(super) wait: Duration,
    /// Size of a block of a large file in bytes.
    pub(super) block_bytes: u64,
    pub(super) stall_timeout: Duration,
}

/// The mappings for which somebody has accepted that others can change a folder above: in the configuration, or
/// by approving conflicts that say so.
fn trusted_mappings(job: &Job<'_>) -> Vec<usize> {
    let is_approved = |index: usize| {
        let mut changes = job.changes.iter();
        let exposure = &job.prepared.look.places[index].exposure;
        (exposure.above.is_some() || !exposure.within.is_empty())
            && changes.any(|change| change.mapping == index && change.conflict)
    };
    let mappings = job.host.mappings.iter().enumerate();
    mappings
        .filter(|(index, mapping)| mapping.trust_ancestors || is_approved(*index))
        .map(|(index, _)| index)
        .collect()
}

/// Has the host verify what is staged and move it into place.
pub(super) fn commit(
    job: &Job<'_>,
    login: &mut Login,
    staging: &Staging,
    commit: &CommitSteps,
    staged: &[StagedFile],
    listing: &NewListing,
    settings: CommitSettings,
) -> Result<CommitAnswer, HostFailure> {
    let roots: Vec<&RemotePath> = job.host.mappings.iter().map(|it| &it.dest).collect();
    let request = CommitRequest {
        home: staging.home(),
        bases: &staging.bases,
        run_name: &staging.run_name,
        roots: &roots,
        trusted: &trusted_mappings(job),
        base_of: &staging.base_of,
        serial: settings.serial,
        backups: settings.backups,
        wait: settings.wait,
        block_bytes: settings.block_bytes,
        steps: &commit.steps,
        staged,
        large: &staged::large_staged_files(&commit.staged),
        staged_bytes: commit.staged.iter().map(staged::content_bytes).sum(),
        listing,
        stall_timeout: settings.stall_timeout,
    };
    commit_on_host(login, &request).map_err(|error| match error {
        CommitError::Transport(error) => error.into(),
        CommitError::Host(reason) => explain::with_cure(&reason).into(),
        CommitError::Unverified(names) => {
            let dests = names
                .iter()
                .map(|name| explain::destination(job.host, name));
            ApplyError::Unverified {
                dests: dests.collect(),
            }
            .into()
        }
        CommitError::Locked(holder) => ApplyError::Locked { holder }.into(),
        CommitError::Died(said) => ApplyError::CommitDied { said }.into(),
        error @ CommitError::Unfinished { .. } => ApplyError::UnfinishedAnswer {
            said: error.to_string(),
        }
        .into(),
    })
}
