//! The work on one host: stage, commit, confirm, record.

use std::time::Instant;

use super::commit::{CommitSettings, commit};
use super::commit_steps::{CommitSteps, compile};
use super::confirm::{Confirmed, Refusal, confirm};
use super::failure::{ApplyError, HostFailure};
use super::job::Job;
use super::large::LargeContext;
use super::link::HostLink;
use super::record::Recorder;
use super::recorded;
use super::report::{HostReport, Refused};
use super::staged::staged_files;
use super::staging::Staging;
use super::upload::{Upload, choose_receiver};
use crate::model::{ChangeEnd, EndedChange, Event, Phase, RemotePath};
use crate::plan::Action;
use crate::remote::tasks::look::{LookRequest, look};
use crate::remote::{Expected, Login, RemoteError};
use crate::state::Identity;

/// What the work on one host needs.
pub(super) struct HostWork<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) link: HostLink<'a>,
    pub(super) large: LargeContext<'a>,
    pub(super) recorder: Recorder<'a>,
    pub(super) commit: CommitSettings,
    /// The state.
    pub(super) identity: &'a Identity,
    /// The setting `staging_path`.
    pub(super) staging_path: Option<&'a RemotePath>,
}

impl HostWork<'_> {
    /// Does it, on the login that was kept if there is one. What has been confirmed is in `report` and in
    /// the state, whatever comes after.
    pub(super) fn run(
        &self,
        kept: Option<Login>,
        report: &mut HostReport,
    ) -> Result<(), HostFailure> {
        let started = Instant::now();
        let was_kept = kept.is_some();
        let mut staging = self.choose_staging()?;
        let steps = compile(self.job, &staging, self.large.settings.from_bytes);
        let staged =
            staged_files(&steps.staged, self.job.algorithm()).ok_or(ApplyError::NoDigest)?;
        let receiver = choose_receiver(self.job, &steps.staged)?;
        let upload = Upload {
            job: self.job,
            link: self.link,
            large: self.large,
        };

        let mut login = match (kept, receiver) {
            (Some(kept), None) => self.unless_dead(kept, &staging)?,
            (Some(kept), Some(_)) => kept,
            (None, _) => self.log_in()?,
        };
        if let Some(receiver) = receiver {
            let mut uploaded = upload.all(&mut login, &staging, &steps.staged, receiver);
            if was_kept && let Err(HostFailure::Broken(error)) = &uploaded {
                tracing::info!("the login that the plan left is gone: {error}");
                login = self.log_in()?;
                // In a folder of its own: what arrived in the other one may go on arriving.
                staging = self.choose_staging()?;
                uploaded = upload.all(&mut login, &staging, &steps.staged, receiver);
            }
            uploaded?;
        }
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "uploaded");
        if self.link.is_interrupted() {
            login.close();
            return Err(HostFailure::Interrupted);
        }
        self.link.begin(Phase::Committing, 0);
        let begun = self.recorder.start()?;
        // The commit moves the parts of large files into place.
        self.link.tally.set_keeps_part(false);
        let listing = recorded::new_listing(self.job, &begun.recorded_after);
        let answer = commit(
            self.job,
            &mut login,
            &staging,
            &steps,
            &staged,
            &listing,
            self.commit,
        );
        login.close();
        let answer = answer?;
        tracing::debug!(elapsed_ms = started.elapsed().as_millis(), "committed");
        let confirmed = confirm(self.job, &steps, &answer);
        self.log(&steps, &confirmed);
        self.fill(report, &confirmed);
        // Whoever is told may take long to listen, so the state comes first. What the host has done is
        // told even where that could not be recorded.
        let recorded = self.recorder.end(begun, &confirmed);
        self.link.observer.event(&Event::ChangesEnded {
            host: self.job.host.id.clone(),
            changes: self.ended(&confirmed, report),
        });
        recorded
    }

    fn choose_staging(&self) -> Result<Staging, HostFailure> {
        Staging::choose(self.job, self.staging_path, self.identity)
    }

    fn log_in(&self) -> Result<Login, HostFailure> {
        self.link.begin(Phase::Connecting, 0);
        self.link.log_in().map_err(HostFailure::Unreachable)
    }

    /// The login, or a new one if nobody answers on it. For a commit that nothing goes before: whether
    /// a broken one was begun nobody knows, so it is never repeated.
    fn unless_dead(&self, mut login: Login, staging: &Staging) -> Result<Login, HostFailure> {
        let nothing = LookRequest {
            base: staging.home(),
            roots: &[],
            trusted: &[],
            mirrors: &[],
            listing: None,
            paths: &[],
            expected: Expected::default(),
            stall_timeout: self.link.stall_timeout,
        };
        match look(&mut login, &nothing) {
            Err(RemoteError::Transport(error)) => {
                tracing::info!("the login that the plan left is gone: {error}");
                self.log_in()
            }
            _ => Ok(login),
        }
    }

    fn fill(&self, report: &mut HostReport, confirmed: &Confirmed) {
        let changes = self.job.changes.iter();
        report.adopted = changes
            .filter(|change| change.action == Action::Adopt)
            .count();
        report.changed = confirmed.done.len() - report.adopted;
        report.spared = confirmed.spared.len();
        let refused = confirmed.refused.iter().map(|(index, explain)| {
            let change = self.job.changes[*index];
            let reason = match explain {
                Refusal::Moved => "it was changed on the host after it was looked at",
                Refusal::Other(reason) => reason,
            };
            Refused {
                mapping: change.mapping,
                path: change.path.clone(),
                dest: self.job.dest_of(change).to_string(),
                reason: reason.to_owned(),
                moved: *explain == Refusal::Moved,
            }
        });
        report.refused = refused.collect();
    }

    /// What became of every change.
    fn ended(&self, confirmed: &Confirmed, report: &HostReport) -> Vec<EndedChange> {
        let ended = |index: &usize, end: ChangeEnd| EndedChange {
            mapping: self.job.changes[*index].mapping,
            path: self.job.changes[*index].path.clone(),
            end,
        };
        let done = confirmed.done.iter();
        let done = done.map(|index| ended(index, ChangeEnd::Applied));
        let spared = confirmed.spared.iter().map(|index| {
            let why = "something else is in the folder".to_owned();
            ended(index, ChangeEnd::Skipped(why))
        });
        let refused = report.refused.iter().map(|refused| EndedChange {
            mapping: refused.mapping,
            path: refused.path.clone(),
            end: ChangeEnd::Refused {
                reason: refused.reason.clone(),
                moved: refused.moved,
            },
        });
        let mut changes: Vec<_> = done.chain(spared).chain(refused).collect();
        changes.sort_by(|a, b| (a.mapping, &a.path).cmp(&(b.mapping, &b.path)));
        changes
    }

    /// One line for each folder that stays, and for each step that was taken; what came with a new folder
    /// is counted.
    fn log(&self, steps: &CommitSteps, confirmed: &Confirmed) {
        for &index in &confirmed.spared {
            let dest = self.job.dest_of(self.job.changes[index]);
            tracing::info!(path = %dest, "the folder stays, since something else is in it");
        }
        let made = confirmed.all();
        for changes in &steps.changes {
            let Some(first) = changes.iter().find(|index| made.contains(index)) else {
                continue;
            };
            let change = self.job.changes[*first];
            tracing::info!(
                action = ?change.action,
                path = %self.job.dest_of(change),
                entries = changes.len(),
                "changed"
            );
        }
        if confirmed.listing.is_none() {
            tracing::debug!("the next plan will look at everything");
        }
    }
}
