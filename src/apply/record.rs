//! What the state learns of a host: before the commit that it has begun, after it what was confirmed.

use std::collections::HashSet;
use std::sync::Arc;

use super::confirm::Confirmed;
use super::failure::HostFailure;
use super::job::Job;
use super::recorded;
use crate::config::Exact;
use crate::model::{Blake3, Entry, Node, Tree};
use crate::plan::interrupted::is_opened;
use crate::plan::{Action, Change};
use crate::state::{
    History, HostRecord, MappingRecord, PastApply, PastMapping, Progress, StateLock, StateStore,
};

/// Writes the record of one host.
#[derive(Clone, Copy)]
pub(super) struct Recorder<'a> {
    pub(super) job: &'a Job<'a>,
    pub(super) state: &'a StateStore,
    pub(super) lock: &'a StateLock,
    /// Serial of this apply.
    pub(super) serial: u64,
    /// Names the plan.
    pub(super) plan: Blake3,
    /// How many applies the history keeps.
    pub(super) backups: u32,
    /// The time of day: RFC 3339, UTC.
    pub(super) now: &'a (dyn Fn() -> String + Sync),
}

/// What the state knows of a commit that begins.
pub(super) struct Begun {
    /// The history of the host, with this apply.
    history: History,
    /// By mapping, what will be recorded if everything is confirmed.
    pub(super) recorded_after: Vec<Tree>,
}

impl Recorder<'_> {
    /// Before the first step: whatever comes, the state knows that the host is in the middle of this, and
    /// what there is to be undone.
    pub(super) fn start(&self) -> Result<Begun, HostFailure> {
        let prepared = self.job.prepared;
        let mut mappings = self.mapping_records(prepared.recorded.iter().map(AsRef::as_ref))?;
        let earlier = prepared.record.as_ref();
        let mut history = earlier.map_or_else(History::default, |record| record.history.clone());
        let all = (0..self.job.changes.len()).collect();
        history.applies.extend(self.past_apply(&all)?);
        let recorded_after = recorded::if_all_is_done(self.job);
        for (record, tree) in mappings.iter_mut().zip(&recorded_after) {
            record.intended = Some(self.state.save_tree(self.lock, tree)?);
        }
        self.save(Progress::InTheMiddle, None, mappings, &history)?;
        Ok(Begun {
            history,
            recorded_after,
        })
    }

    /// Now that it is over: what the host has confirmed.
    pub(super) fn end(&self, begun: Begun, confirmed: &Confirmed) -> Result<(), HostFailure> {
        let mut history = begun.history;
        self.complete_history(&mut history, confirmed)?;
        let mappings = self.mapping_records(confirmed.recorded.iter())?;
        let listing = confirmed.listing.clone();
        self.save(Progress::Finished, listing, mappings, &history)
    }

    fn complete_history(
        &self,
        history: &mut History,
        confirmed: &Confirmed,
    ) -> Result<(), HostFailure> {
        let begun = history.applies.pop_if(|apply| apply.serial == self.serial);
        let made = confirmed.all();
        let apply = if made.len() == self.job.changes.len() {
            begun
        } else {
            self.past_apply(&made)?
        };
        history.applies.extend(apply.map(|apply| PastApply {
            progress: Progress::Finished,
            backup: confirmed.backup.clone(),
            ..apply
        }));
        history.close(self.serial);
        history.keep_newest(self.backups as usize);
        Ok(())
    }

    /// What was recorded of a mapping before an apply that did not come to its end; `None` where all did.
    fn recorded_at_first(&self, dest: &str) -> Result<Option<Arc<Tree>>, HostFailure> {
        let record = self.job.prepared.record.as_ref();
        let open = record.filter(|record| record.is_in_the_middle());
        let mut mappings = open.into_iter().flat_map(|record| &record.mappings);
        let mapping = mappings.find(|mapping| mapping.dest == dest);
        Ok(mapping
            .map(|mapping| self.state.tree(&mapping.tree))
            .transpose()?)
    }

    /// What is remembered of this apply, of which these changes were made. `None` when it has changed
    /// nothing on the host.
    fn past_apply(&self, made: &HashSet<usize>) -> Result<Option<PastApply>, HostFailure> {
        let mut mappings = Vec::new();
        for (number, mapping) in self.job.host.mappings.iter().enumerate() {
            let changes = self
                .job
                .changes
                .iter()
                .enumerate()
                .filter(|(index, change)| {
                    change.mapping == number
                        && change.action != Action::Adopt
                        && made.contains(index)
                });
            let recorded = self.recorded_at_first(&mapping.dest_as_written)?;
            let side = |node: &Option<Node>, change: &Change| {
                let (path, node) = (change.path.clone(), node.clone()?);
                Some(Entry { path, node })
            };
            let found = |change: &Change| {
                let found = side(&change.before, change)?;
                // A folder that a killed commit had opened was a closed one.
                let closed = recorded.as_ref().and_then(|tree| tree.get(&found.path));
                let closed = closed.filter(|closed| is_opened(Some(closed), &found.node));
                let node = closed.cloned().unwrap_or(found.node);
                Some(Entry { node, ..found })
            };
            let (before, after): (Vec<_>, Vec<_>) = changes
                .map(|(_, change)| (found(change), side(&change.after, change)))
                .unzip();
            if before.is_empty() {
                continue;
            }
            let save = |tree: &Tree| self.state.save_tree(self.lock, tree);
            mappings.push(PastMapping {
                dest: mapping.dest_as_written.clone(),
                number,
                recorded: save(&self.job.prepared.recorded[number])?,
                before: save(&before.into_iter().flatten().collect())?,
                after: save(&after.into_iter().flatten().collect())?,
            });
        }
        Ok((!mappings.is_empty()).then_some(PastApply {
            serial: self.serial,
            progress: Progress::InTheMiddle,
            finished_by: None,
            backup: None,
            mappings,
        }))
    }

    /// Records for the mappings of the configuration, and those of earlier ones that it no longer has.
    fn mapping_records<'t>(
        &self,
        trees: impl Iterator<Item = &'t Tree>,
    ) -> Result<Vec<MappingRecord>, HostFailure> {
        let mut records = Vec::new();
        for (mapping, tree) in self.job.host.mappings.iter().zip(trees) {
            records.push(MappingRecord {
                src: mapping.src_as_written.clone(),
                dest: mapping.dest_as_written.clone(),
                tree: self.state.save_tree(self.lock, tree)?,
                intended: None,
                is_mirrored: mapping.exact == Exact::Mirror,
            });
        }
        let earlier = self
            .job
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
        history: &History,
    ) -> Result<(), HostFailure> {
        let record = HostRecord {
            host: self.job.host.id.clone(),
            serial: self.serial,
            updated_at: (self.now)(),
            plan: self.plan,
            progress,
            listing,
            algorithm: Some(self.job.algorithm().as_str().to_owned()),
            mappings,
            history: history.clone(),
        };
        Ok(self.state.save_host(self.lock, &record)?)
    }
}
