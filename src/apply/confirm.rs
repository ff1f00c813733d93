//! What a host has confirmed of its commit: a pure function of the answer.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::commit_steps::CommitSteps;
use super::job::Job;
use super::listing_trust::ListingTrust;
use super::recorded;
use crate::model::{Node, Tree};
use crate::plan::{Action, Change};
use crate::remote::StatTuple;
use crate::remote::tasks::commit::{CommitAnswer, StepOutcome};
use crate::remote::tasks::receive::stream::clamped;

/// Refusal a change was not made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The entry is no longer as it was when it was looked at.
    Moved,
    /// For another reason.
    Other(String),
}

/// What became of the changes of a job.
#[derive(Debug)]
pub(super) struct Confirmed {
    /// The changes that are made, or that were there already; indices into the job's changes.
    pub(super) done: HashSet<usize>,
    /// The folders that hold something of somebody else: they stay, and are theirs from now on.
    pub(super) spared: HashSet<usize>,
    /// The changes that were not made.
    pub(super) refused: BTreeMap<usize, Refusal>,
    /// By mapping, what is to be recorded.
    pub(super) recorded: Vec<Tree>,
    /// Digest of the new listing, if the next plan may trust that; else it will look at everything.
    pub(super) listing: Option<String>,
    /// Name of the folder that has the backups.
    pub(super) backup: Option<String>,
}

impl Confirmed {
    /// The changes that are recorded as made: done or spared.
    pub(super) fn all(&self) -> HashSet<usize> {
        self.done.union(&self.spared).copied().collect()
    }
}

/// What became of each change of the job, and what is to be recorded.
pub(super) fn confirm(job: &Job<'_>, commit: &CommitSteps, answer: &CommitAnswer) -> Confirmed {
    let listed = answer.listed.iter();
    let listed: HashMap<&[u8], &StatTuple> =
        listed.map(|(stat, path)| (path.as_slice(), stat)).collect();
    let (mut done, mut spared) = (HashSet::new(), HashSet::new());
    let mut refused = BTreeMap::new();
    for impossible in &commit.impossible {
        let reason = impossible.reason.clone();
        refused.insert(impossible.change, Refusal::Other(reason));
    }
    for (step, changes) in commit.changes.iter().enumerate() {
        let outcome = answer.steps.get(&step);
        for &index in changes {
            let explain = match outcome {
                Some(StepOutcome::Done { .. }) => is_as_planned(job, index, &listed).err(),
                Some(StepOutcome::Spared) => {
                    spared.insert(index);
                    continue;
                }
                Some(StepOutcome::Moved) => Some(Refusal::Moved),
                Some(StepOutcome::Refused(reason)) => Some(Refusal::Other(reason.clone())),
                None => Some(Refusal::Other("the host did not say".to_owned())),
            };
            match explain {
                None => _ = done.insert(index),
                Some(explain) => _ = refused.insert(index, explain),
            }
        }
    }
    let adopted = job.changes.iter().enumerate();
    let adopted = adopted.filter(|(_, change)| change.action == Action::Adopt);
    done.extend(adopted.map(|(index, _)| index));

    let mut confirmed = Confirmed {
        done,
        spared,
        refused,
        recorded: Vec::new(),
        listing: None,
        backup: answer.backup.clone(),
    };
    confirmed.recorded = recorded::in_the_end(job, &confirmed.all());
    let may_be_kept = job.prepared.terms.may_keep_listing && confirmed.refused.is_empty();
    let is_explained = || {
        let trust = ListingTrust {
            host: job.host,
            seen: &job.prepared.look.seen,
            changes: &job.changes,
            steps: &commit.changes,
            step_times: &step_times(answer),
            mtimes: &sent_mtimes(job),
            begun: answer.begun,
            after: &listed,
            unnamed_is_unmoved: answer.is_part,
        };
        trust.stands_for(&confirmed.recorded)
    };
    if answer.digest.is_some() && may_be_kept && is_explained() {
        confirmed.listing.clone_from(&answer.digest);
    }
    confirmed
}

/// Whether an entry that the host says is done looks like it, as far as the listing tells.
fn is_as_planned(
    job: &Job<'_>,
    index: usize,
    listed: &HashMap<&[u8], &StatTuple>,
) -> Result<(), Refusal> {
    let change = job.changes[index];
    let dest = job.dest_of(change);
    let (Some(stat), Some(node)) = (listed.get(dest.as_bytes()), &change.after) else {
        return Ok(());
    };
    match node {
        _ if stat.kind() != node.kind() => Err(Refusal::Moved),
        Node::File { size_bytes, .. } if stat.size_bytes() != *size_bytes => Err(Refusal::Moved),
        Node::File { meta, .. } | Node::Dir { meta } if stat.meta() != *meta => Err(
            Refusal::Other("the host did not set its permission bits".to_owned()),
        ),
        _ => Ok(()),
    }
}

/// By step that was taken, when that changed the entry.
fn step_times(answer: &CommitAnswer) -> HashMap<usize, f64> {
    let times = answer.steps.iter().filter_map(|(step, outcome)| {
        let StepOutcome::Done { changed } = outcome else {
            return None;
        };
        Some((*step, (*changed)?))
    });
    times.collect()
}

/// By destination, the modification times that files get.
fn sent_mtimes(job: &Job<'_>) -> HashMap<Vec<u8>, i64> {
    let is_sent = |change: &&&Change| {
        matches!(change.action, Action::Create | Action::Update)
            && matches!(change.after, Some(Node::File { .. }))
    };
    let changes = job.changes.iter().filter(is_sent);
    changes
        .map(|change| {
            let dest = job.dest_of(change).as_bytes().to_vec();
            (dest, clamped(job.mtime_of(change)).cast_signed())
        })
        .collect()
}
