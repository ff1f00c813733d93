//! All hosts of a plan, many at a time.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::blocks::LargeFiles;
use super::commit::CommitSettings;
use super::host::HostWork;
use super::job::{Job, without_conflicts};
use super::large::{LargeContext, SourceBlocks, SpareLogins};
use super::link::HostLink;
use super::record::Recorder;
use super::report::{HostReport, HostResult, Report};
use super::tally::Tally;
use crate::config::{Config, Host};
use crate::model::{
    Blake3, ChangeEnd, EndedChange, Event, HostOutcome, Observer, Work, map_parallel,
};
use crate::plan::prepared::{Preparation, Prepared, PreparedHost};
use crate::plan::{Change, HostPlan, HostStatus};
use crate::remote::Login;
use crate::state::{GoalDigests, Identity, Intent, StateError, StateLock, StateStore};
use crate::transport::Connector;

/// What happens to changes that would destroy bytes that nobody reviewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnConflict {
    /// The host that has one is left untouched.
    #[default]
    Fail,
    /// Just these entries are left as they are.
    Skip,
    /// They are overwritten.
    Overwrite,
}

/// What to apply with.
pub struct ApplyRequest<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The plan and what is known of its hosts.
    pub prepared: &'a Prepared,
    /// Proof that nobody else writes the state.
    pub lock: &'a StateLock,
    /// Logs in to hosts.
    pub connector: &'a dyn Connector,
    /// What happens to conflicts.
    pub on_conflict: OnConflict,
    /// How long to wait on a host for another run that is committing there.
    pub wait_for_host: Duration,
    /// How large files are sent.
    pub large: LargeFiles,
    /// Told to stop when somebody sets it: hosts that are not begun are left, those that are
    /// committing come to their end.
    pub interrupted: &'a AtomicBool,
    /// The time of day for the records: RFC 3339, UTC.
    pub now: &'a (dyn Fn() -> String + Sync),
    /// Told what happens.
    pub observer: &'a dyn Observer,
    /// Told of every host of the plan how it ended, as soon as that is known: also of one on which there
    /// was nothing to do. Called from many threads.
    pub on_host: &'a (dyn Fn(&HostReport) + Sync),
}

/// What all workers share.
struct ApplyRun<'a> {
    request: &'a ApplyRequest<'a>,
    state: &'a StateStore,
    identity: Identity,
    plan_digest: Blake3,
    source_blocks: SourceBlocks,
    spare_logins: SpareLogins,
}

/// Applies a plan and records what every host confirmed.
///
/// # Errors
/// When the state cannot be written before anything was done. What fails on one host is in its
/// report.
pub fn apply(request: &ApplyRequest<'_>, state: &mut StateStore) -> Result<Report, StateError> {
    let started = Instant::now();
    let plan = &request.prepared.plan;
    let prepared_hosts = || plan.hosts.iter().zip(&request.prepared.hosts);
    let visits =
        prepared_hosts().filter(|(host, preparation)| is_visited(host, preparation.ready()));
    let visits = visits.count();
    if visits == 0 {
        let hosts = prepared_hosts().map(|(host, preparation)| {
            let report = without_visit(host, preparation);
            (request.on_host)(&report);
            report
        });
        return Ok(Report {
            serial: None,
            back_to: plan.back_to,
            hosts: hosts.collect(),
            interrupted: request.interrupted.load(Ordering::Relaxed),
            elapsed: started.elapsed(),
        });
    }
    let plan_digest = request.prepared.plan_digest();
    let identity = state.begin_apply(request.lock, &intent_of(request, plan_digest))?;
    let serial = identity.serial;
    let run = ApplyRun {
        request,
        state,
        identity,
        plan_digest,
        source_blocks: SourceBlocks::default(),
        spare_logins: SpareLogins::new(
            request.config.settings.number_of_connections,
            plan.hosts.len(),
        ),
    };

    let threads = request.config.settings.number_of_connections;
    let mut work: Vec<_> = prepared_hosts().enumerate().collect();
    request.observer.event(&Event::HostsStarted {
        work: Work::Applying,
        hosts: visits,
        total_bytes: request.prepared.bytes_to_send(),
    });
    // A login that was kept is not to wait for the others.
    work.sort_by_key(|(_, (host_plan, _))| !request.prepared.logins.has(&host_plan.host));
    let mut hosts = map_parallel(&work, threads, |(index, (host_plan, preparation))| {
        let span = tracing::info_span!("apply", host = %host_plan.host);
        let _entered = span.enter();
        let report = run.host(host_plan, preparation);
        (request.on_host)(&report);
        run.spare_logins.release();
        (*index, report)
    });
    hosts.sort_by_key(|(index, _)| *index);
    let hosts = hosts.into_iter().map(|(_, report)| report).collect();
    request.observer.event(&Event::HostsFinished);
    let report = Report {
        serial: Some(serial),
        back_to: plan.back_to,
        hosts,
        interrupted: request.interrupted.load(Ordering::Relaxed),
        elapsed: started.elapsed(),
    };
    if request.prepared.run.is_all && report.is_complete() {
        // What is on the hosts is recorded already: this only says that nothing is left to be retried.
        if let Err(error) = state.complete_apply(request.lock, serial) {
            tracing::warn!("{error}");
        }
    }
    Ok(report)
}

/// What the state is to know of a run that begins.
fn intent_of(request: &ApplyRequest<'_>, plan_digest: Blake3) -> Intent {
    let plan = &request.prepared.plan;
    let mappings = plan.hosts.iter().flat_map(|host| &host.mappings);
    let sources: BTreeSet<(String, Blake3)> = mappings
        .filter_map(|mapping| Some((mapping.src.clone(), mapping.source?)))
        .collect();
    Intent {
        plan: plan_digest,
        began_at: (request.now)(),
        has_changes: plan.summary().has_changes(),
        back_to: plan.back_to,
        undoes: request.prepared.run.undoes.clone(),
        aim: GoalDigests {
            config: Some(plan.header.config_digest),
            sources: sources.into_iter().collect(),
        },
    }
}

/// Whether there is something to do on a host: changes, or a listing to be renewed.
fn is_visited(plan: &HostPlan, prepared: Option<&PreparedHost>) -> bool {
    plan.status == HostStatus::Ok
        && prepared.is_some_and(|prepared| plan.change_set.is_some() || prepared.needs_visit)
}

/// The report of a host on which nothing is done.
fn without_visit(plan: &HostPlan, preparation: &Preparation) -> HostReport {
    let result = match (&plan.status, preparation) {
        (HostStatus::Unreachable(error), _) => HostResult::Unreachable(error.clone()),
        (HostStatus::Failed(error), _) => HostResult::Failed(error.clone()),
        (HostStatus::Ok, Preparation::Stale(what)) => {
            tracing::warn!(host = %plan.host, "left untouched: {what}");
            HostResult::Stale(what.to_string())
        }
        (HostStatus::Ok, _) => HostResult::Unchanged,
    };
    HostReport {
        host: plan.host.clone(),
        result,
        changed: 0,
        adopted: 0,
        refused: Vec::new(),
        skipped: 0,
        spared: 0,
        sent_bytes: 0,
        keeps_part: false,
        elapsed: Duration::ZERO,
    }
}

impl ApplyRun<'_> {
    fn host(&self, plan: &HostPlan, preparation: &Preparation) -> HostReport {
        let started = Instant::now();
        let mut report = without_visit(plan, preparation);
        let prepared = preparation.ready();
        let mut hosts = self.request.config.hosts.iter();
        let host = hosts.find(|host| host.id == plan.host);
        if let (Some(prepared), Some(host)) = (prepared, host)
            && is_visited(plan, Some(prepared))
        {
            let tally = Tally::new(
                self.request.observer,
                &host.id,
                prepared.bytes_to_send(plan),
            );
            self.work(host, plan, prepared, &tally, &mut report);
            tally.expect_more(0);
            report.sent_bytes = tally.sent_bytes();
            report.keeps_part = tally.keeps_part();
            report.elapsed = started.elapsed();
            self.tell(&report);
        }
        report
    }

    fn work(
        &self,
        host: &Host,
        plan: &HostPlan,
        prepared: &PreparedHost,
        tally: &Tally<'_>,
        report: &mut HostReport,
    ) {
        let login = self.request.prepared.logins.take(&host.id);
        let changes = match self.changes_to_make(plan) {
            Ok(changes) => changes,
            Err(result) => {
                report.result = result;
                login.into_iter().for_each(Login::close);
                return;
            }
        };
        report.skipped = plan.changes().len() - changes.len();
        if report.skipped > 0 {
            self.tell_skipped(plan, &changes);
        }
        let job = Job {
            host,
            prepared,
            changes,
            leaves_some: report.skipped > 0 || prepared.leaves_drift,
        };
        report.result = match self.host_work(&job, tally).run(login, report) {
            Ok(()) if plan.change_set.is_none() => HostResult::Unchanged,
            Ok(()) => HostResult::Done,
            Err(failure) => failure.into_result(),
        };
    }

    fn host_work<'w>(&'w self, job: &'w Job<'w>, tally: &'w Tally<'w>) -> HostWork<'w> {
        let request = self.request;
        let settings = &request.config.settings;
        HostWork {
            job,
            link: HostLink {
                host: job.host,
                connector: request.connector,
                observer: request.observer,
                tally,
                interrupted: request.interrupted,
                stall_timeout: settings.stall_timeout,
            },
            large: LargeContext {
                settings: request.large,
                algorithm: job.algorithm(),
                source_blocks: &self.source_blocks,
                spare_logins: &self.spare_logins,
            },
            recorder: Recorder {
                job,
                state: self.state,
                lock: request.lock,
                serial: self.identity.serial,
                plan: self.plan_digest,
                backups: settings.backups,
                now: request.now,
            },
            commit: CommitSettings {
                serial: self.identity.serial,
                backups: settings.backups,
                wait: request.wait_for_host,
                block_bytes: request.large.block_bytes,
                stall_timeout: settings.stall_timeout,
            },
            identity: &self.identity,
            staging_path: settings.staging_path.as_ref(),
        }
    }

    /// What is to be done on a host; else, how it ends without anything being done.
    fn changes_to_make<'p>(&self, plan: &'p HostPlan) -> Result<Vec<&'p Change>, HostResult> {
        if self.request.interrupted.load(Ordering::Relaxed) {
            return Err(HostResult::NotBegun);
        }
        let changes = plan.changes();
        match self.request.on_conflict {
            OnConflict::Overwrite => Ok(changes.iter().collect()),
            OnConflict::Skip => Ok(without_conflicts(changes)),
            OnConflict::Fail => match changes.iter().filter(|change| change.conflict).count() {
                0 => Ok(changes.iter().collect()),
                conflicts => Err(HostResult::Conflicts(conflicts)),
            },
        }
    }

    /// Tells the observer which changes of the plan are left out: all but these.
    fn tell_skipped(&self, plan: &HostPlan, to_make: &[&Change]) {
        let mut to_make = to_make.iter().peekable();
        let is_skipped = |change: &&Change| {
            // Both are in the order of the plan.
            to_make
                .next_if(|made| std::ptr::eq(**made, *change))
                .is_none()
        };
        let skipped = plan.changes().iter().filter(is_skipped);
        let changes = skipped.map(|change| {
            let why = if change.conflict {
                "it is a conflict"
            } else {
                "a conflict is in its way"
            };
            EndedChange {
                mapping: change.mapping,
                path: change.path.clone(),
                end: ChangeEnd::Skipped(why.to_owned()),
            }
        });
        self.request.observer.event(&Event::ChangesEnded {
            host: plan.host.clone(),
            changes: changes.collect(),
        });
    }

    fn tell(&self, report: &HostReport) {
        let outcome = match &report.result {
            HostResult::Done | HostResult::Unchanged => {
                tracing::info!(
                    changed = report.changed,
                    adopted = report.adopted,
                    refused = report.refused.len(),
                    sent_bytes = report.sent_bytes,
                    "done"
                );
                match report.refused.len() {
                    0 => HostOutcome::Done,
                    1 => HostOutcome::DoneExcept("1 entry refused".to_owned()),
                    refused => HostOutcome::DoneExcept(format!("{refused} entries refused")),
                }
            }
            HostResult::Unreachable(error) | HostResult::Failed(error) => {
                tracing::error!("{error}");
                HostOutcome::Failed(error.clone())
            }
            HostResult::Stale(reason) => HostOutcome::LeftAlone(reason.clone()),
            HostResult::Conflicts(count) => {
                tracing::warn!(count, "left untouched because of conflicts");
                let plural = if *count == 1 { "" } else { "s" };
                HostOutcome::LeftAlone(format!("{count} conflict{plural}"))
            }
            HostResult::NotBegun | HostResult::Interrupted => {
                HostOutcome::LeftAlone("interrupted".to_owned())
            }
        };
        for refused in &report.refused {
            tracing::warn!(path = refused.dest, "{}", refused.reason);
        }
        self.request.observer.event(&Event::HostFinished {
            host: report.host.clone(),
            outcome,
        });
    }
}
