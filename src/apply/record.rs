//! What the state learns of a host: before the commit that it has begun, after it what was confirmed.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::model::{Entry, Node, RelPath, RemotePath, Tree};
use crate::plan::Action;
use crate::scan::remote::StatTuple;
use crate::state::{HostRecord, MappingRecord, Progress};

use super::commit::{Answer, Keep, Why};
use super::program::{self, Program};
use super::witness::Witness;
use super::worker::{Failure, Worker};
use super::{HostReport, Refused};

impl Worker<'_> {
    /// What has to be looked at for the new listing. It holds everything that will be recorded. Of what
    /// was listed before, and was neither looked at nor touched since, the lines are taken over: if it
    /// has moved meanwhile, the next plan sees it.
    pub(super) fn paths_to_list(&self) -> (Keep, Vec<u8>) {
        if self.leaves_some {
            // Some entries are left as they are: the next plan has to look at everything.
            return (Keep::Nothing, Vec::new());
        }
        let keep = if self.trusted_listing().is_some() {
            Keep::Part
        } else {
            Keep::All
        };
        let touched: HashSet<RemotePath> = self
            .changes
            .iter()
            .map(|change| program::dest_of(self.host, change))
            .collect();
        let scan = &self.prepared.scan;
        let has_moved = |path: &RemotePath| {
            touched.contains(path)
                || scan.seen.contains_key(path.as_bytes())
                || scan.gone.contains(path.as_bytes())
        };
        let mut bytes = Vec::new();
        let after = self.recorded_after();
        for ((mapping, after), before) in self
            .host
            .mappings
            .iter()
            .zip(&after)
            .zip(&self.prepared.recorded)
        {
            let kept = after.entries().iter().map(|entry| &entry.path);
            let dropped = before.entries().iter().map(|entry| &entry.path);
            let dropped = dropped.filter(|path| after.get(path).is_none());
            for path in kept.chain(dropped) {
                let dest = mapping.dest.join(path);
                if keep == Keep::All || has_moved(&dest) || after.get(path).is_none() {
                    bytes.extend_from_slice(dest.as_bytes());
                    bytes.push(b'\n');
                }
            }
        }
        (keep, bytes)
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
    pub(super) fn record_start(&self) -> Result<(), Failure> {
        let mappings = self.mapping_records(self.prepared.recorded.iter().map(AsRef::as_ref))?;
        self.save(Progress::InTheMiddle, None, mappings)
    }

    pub(super) fn record_end(
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
            unnamed_is_unmoved: answer.is_part,
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
