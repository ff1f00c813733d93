//! What the state learns of a host: before the commit that it has begun, after it what was confirmed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::config::Exact;
use crate::model::{ChangeEnd, EndedChange, Entry, Event, Kind, Node, RelPath, Tree};
use crate::plan::interrupted::is_opened;
use crate::plan::{Action, Actual, Change};
use crate::remote::tasks::look::StatTuple;
use crate::remote::tasks::receive::upload::clamped;
use crate::state::{History, HostRecord, MappingRecord, PastApply, PastMapping, Progress};

use super::commit::{Answer, ListingScope, Refusal};
use super::listing_trust::ListingTrust;
use super::program::{self, Program};
use super::worker::{Failure, Worker};
use super::{HostReport, Refused};

/// What the state knows of a commit that begins.
pub(super) struct Begun {
    /// The history of the host, with this apply.
    pub(super) history: History,
    /// By mapping, what will be recorded if everything is confirmed.
    pub(super) recorded_after: Vec<Tree>,
}

impl Worker<'_> {
    /// What has to be looked at for the new listing. It holds everything that will be recorded. Of what
    /// was listed before, and was neither looked at nor touched since, the lines are taken over: if it
    /// has moved meanwhile, the next plan sees it.
    pub(super) fn paths_to_list(&self, recorded_after: &[Tree]) -> (ListingScope, Vec<u8>) {
        if self.leaves_some {
            // Some entries are left as they are: the next plan has to look at everything.
            return (ListingScope::Nothing, Vec::new());
        }
        if self.forgets_some(recorded_after) {
            // They are ours no more, and the listing would say that they are known.
            return (ListingScope::Nothing, Vec::new());
        }
        let keep = if self.trusted_listing().is_some() {
            ListingScope::Part
        } else {
            ListingScope::All
        };
        let mut paths = BTreeSet::new();
        if keep == ListingScope::All {
            for (mapping, after) in self.host.mappings.iter().zip(recorded_after) {
                paths.extend(
                    after
                        .entries()
                        .iter()
                        .map(|entry| mapping.dest.join(&entry.path)),
                );
            }
        }
        // What was recorded and is no longer there has moved, too.
        let is_recorded =
            |mapping: usize, path: &RelPath| self.prepared.recorded[mapping].get(path).is_some();
        for change in &self.changes {
            if change.after.is_some() || is_recorded(change.mapping, &change.path) {
                paths.insert(program::dest_of(self.host, change));
            }
        }
        let look = &self.prepared.look;
        for moved in look.seen.keys().chain(&look.gone) {
            for (index, mapping) in self.host.mappings.iter().enumerate() {
                if let Some(path) = mapping.dest.strip_from(moved)
                    && is_recorded(index, &path)
                {
                    paths.insert(mapping.dest.join(&path));
                }
            }
        }
        let mut bytes = Vec::new();
        for path in paths {
            bytes.extend_from_slice(path.as_bytes());
            bytes.push(b'\n');
        }
        (keep, bytes)
    }

    /// Whether something that is recorded, and stays on the host, is not recorded any more afterwards.
    fn forgets_some(&self, recorded_after: &[Tree]) -> bool {
        let goes = |change: &&&Change| change.after.is_none();
        let gone = self.changes.iter().filter(goes);
        let gone: HashSet<_> = gone.map(|it| (it.mapping, &it.path)).collect();
        let sides = self.prepared.recorded.iter().zip(recorded_after);
        sides.enumerate().any(|(mapping, (before, after))| {
            before.beside(after).any(|(path, before, after)| {
                before.is_some()
                    && after.is_none()
                    && !gone.contains(&(mapping, path))
                    && self.prepared.actual[mapping].get(path).is_some()
            })
        })
    }

    /// By mapping, what will be recorded if all of `self.changes` is confirmed.
    fn recorded_after(&self) -> Vec<Tree> {
        self.recorded_with(&(0..self.changes.len()).collect())
    }

    /// By mapping, what is to be recorded when these of the changes have been confirmed: entries of
    /// the source that are in place, and entries of earlier applies that are still there.
    fn recorded_with(&self, confirmed: &HashSet<usize>) -> Vec<Tree> {
        let sides = self.prepared.recorded.iter().zip(&self.prepared.actual);
        sides
            .enumerate()
            .map(|(mapping, (recorded, actual))| {
                let changes = self.changes.iter().enumerate().filter(|(index, change)| {
                    change.mapping == mapping && confirmed.contains(index)
                });
                let source = &self.prepared.sources[mapping].tree;
                with_changes(source, recorded, actual, changes.map(|(_, change)| *change))
            })
            .collect()
    }

    /// The same, now that all is over: of what is brought back, what was recorded then is recorded again.
    fn recorded_in_the_end(&self, confirmed: &HashSet<usize>) -> Vec<Tree> {
        let mut trees = self.recorded_with(confirmed);
        let changes = self.changes.iter().enumerate();
        let by_path: HashMap<_, _> = changes
            .map(|(index, change)| ((change.mapping, &change.path), index))
            .collect();
        let brought_back = self.prepared.terms.brought_back.iter();
        for (mapping, (tree, back)) in trees.iter_mut().zip(brought_back).enumerate() {
            let is_left = |path: &RelPath| {
                if let Some(index) = by_path.get(&(mapping, path)) {
                    return !confirmed.contains(index);
                }
                // There was nothing to do about it; but it may have been left out.
                let actual = self.prepared.actual[mapping].get(path);
                !back.is_back(path, actual)
            };
            *tree = back.recorded(tree, is_left);
        }
        trees
    }

    /// Before the first step: whatever comes, the state knows that the host is in the middle of this, and
    /// what there is to be undone.
    pub(super) fn record_start(&self) -> Result<Begun, Failure> {
        let mut mappings =
            self.mapping_records(self.prepared.recorded.iter().map(AsRef::as_ref))?;
        let earlier = self.prepared.record.as_ref();
        let mut history = earlier.map_or_else(History::default, |record| record.history.clone());
        let all = (0..self.changes.len()).collect();
        history.applies.extend(self.past_apply(&all)?);
        let recorded_after = self.recorded_after();
        for (record, tree) in mappings.iter_mut().zip(&recorded_after) {
            record.intended = Some(self.run.state.save_tree(self.run.request.lock, tree)?);
        }
        self.save(Progress::InTheMiddle, None, mappings, &history)?;
        Ok(Begun {
            history,
            recorded_after,
        })
    }

    /// Now that it is over, the history has what the host has confirmed.
    fn complete_history(
        &self,
        history: &mut History,
        confirmed: &HashSet<usize>,
        answer: &Answer,
    ) -> Result<(), Failure> {
        let serial = self.run.identity.serial;
        let begun = history.applies.pop_if(|apply| apply.serial == serial);
        let apply = if confirmed.len() == self.changes.len() {
            begun
        } else {
            self.past_apply(confirmed)?
        };
        history.applies.extend(apply.map(|apply| PastApply {
            progress: Progress::Finished,
            backup: answer.backup.clone(),
            ..apply
        }));
        history.close(serial);
        let backups = self.run.request.config.settings.backups;
        history.keep_newest(backups as usize);
        Ok(())
    }

    /// What was recorded of a mapping before an apply that did not come to its end; `None` where all did.
    fn recorded_at_first(&self, dest: &str) -> Result<Option<Arc<Tree>>, Failure> {
        let record = self.prepared.record.as_ref();
        let open = record.filter(|record| record.is_in_the_middle());
        let mut mappings = open.into_iter().flat_map(|record| &record.mappings);
        let mapping = mappings.find(|mapping| mapping.dest == dest);
        Ok(mapping
            .map(|mapping| self.run.state.tree(&mapping.tree))
            .transpose()?)
    }

    /// What is remembered of this apply, of which these changes were made. `None` when it has changed
    /// nothing on the host.
    fn past_apply(&self, made: &HashSet<usize>) -> Result<Option<PastApply>, Failure> {
        let mut mappings = Vec::new();
        for (number, mapping) in self.host.mappings.iter().enumerate() {
            let changes = self.changes.iter().enumerate().filter(|(index, change)| {
                change.mapping == number && change.action != Action::Adopt && made.contains(index)
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
            let save = |tree: &Tree| self.run.state.save_tree(self.run.request.lock, tree);
            mappings.push(PastMapping {
                dest: mapping.dest_as_written.clone(),
                number,
                recorded: save(&self.prepared.recorded[number])?,
                before: save(&before.into_iter().flatten().collect())?,
                after: save(&after.into_iter().flatten().collect())?,
            });
        }
        Ok((!mappings.is_empty()).then_some(PastApply {
            serial: self.run.identity.serial,
            progress: Progress::InTheMiddle,
            finished_by: None,
            backup: None,
            mappings,
        }))
    }

    pub(super) fn record_end(
        &self,
        program: &Program,
        answer: &Answer,
        mut history: History,
        report: &mut HostReport,
    ) -> Result<(), Failure> {
        let after: HashMap<&[u8], &StatTuple> = answer
            .lines
            .iter()
            .map(|(stat, path)| (path.as_slice(), stat))
            .collect();
        let (mut confirmed, mut spared) = (HashSet::new(), HashSet::new());
        let mut refused: BTreeMap<usize, Refusal> = BTreeMap::new();
        for impossible in &program.impossible {
            refused.insert(impossible.change, Refusal::Other(impossible.reason.clone()));
        }
        for (step, covers) in program.steps.iter().enumerate() {
            let result = answer.steps.get(&step).cloned();
            for &index in covers {
                match &result {
                    Some(None) => match self.is_as_planned(index, &after) {
                        Ok(()) => _ = confirmed.insert(index),
                        Err(why) => _ = refused.insert(index, why),
                    },
                    Some(Some(Refusal::Spared)) => _ = spared.insert(index),
                    Some(Some(why)) => _ = refused.insert(index, why.clone()),
                    None => _ = refused.insert(index, Refusal::other("the host did not say")),
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
        report.spared = spared.len();
        report.refused = refused
            .into_iter()
            .map(|(index, why)| {
                let change = self.changes[index];
                let (reason, moved) = match why {
                    Refusal::Moved => (
                        "it was changed on the host after it was looked at".into(),
                        true,
                    ),
                    Refusal::Spared => ("the folder is not empty".into(), false),
                    Refusal::Other(reason) => (reason, false),
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

        let ended = self.ended(&confirmed, &spared, report);
        for &index in &spared {
            let dest = program::dest_of(self.host, self.changes[index]);
            tracing::info!(path = %dest, "the folder stays, since something else is in it");
        }
        confirmed.extend(spared);
        self.log_steps(program, &confirmed);
        let trees = self.recorded_in_the_end(&confirmed);
        let listing = answer.digest.clone().filter(|_| {
            self.prepared.terms.may_keep_listing
                && report.refused.is_empty()
                && self
                    .listing_trust(program, answer, &after, &self.mtimes())
                    .stands_for(&trees)
        });
        if listing.is_none() {
            tracing::debug!("the next plan will look at everything");
        }
        let recorded = self
            .complete_history(&mut history, &confirmed, answer)
            .and_then(|()| self.mapping_records(trees.iter()))
            .and_then(|it| self.save(Progress::Finished, listing, it, &history));
        // Whoever is told may take long to listen, so the state comes first. What the host has done is
        // told even where that could not be recorded.
        self.observer().event(&Event::ChangesEnded {
            host: self.host.id.clone(),
            changes: ended,
        });
        recorded
    }

    /// What became of every change.
    fn ended(
        &self,
        confirmed: &HashSet<usize>,
        spared: &HashSet<usize>,
        report: &HostReport,
    ) -> Vec<EndedChange> {
        let ended = |index: &usize, end: ChangeEnd| EndedChange {
            mapping: self.changes[*index].mapping,
            path: self.changes[*index].path.clone(),
            end,
        };
        let confirmed = confirmed
            .iter()
            .map(|index| ended(index, ChangeEnd::Applied));
        let spared = spared.iter().map(|index| {
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
        let mut changes: Vec<_> = confirmed.chain(spared).chain(refused).collect();
        changes.sort_by(|a, b| (a.mapping, &a.path).cmp(&(b.mapping, &b.path)));
        changes
    }

    /// By destination, the modification times that files get.
    fn mtimes(&self) -> HashMap<Vec<u8>, i64> {
        let is_sent = |change: &&&Change| {
            matches!(change.action, Action::Create | Action::Update)
                && matches!(change.after, Some(Node::File { .. }))
        };
        let changes = self.changes.iter().filter(is_sent);
        changes
            .map(|change| {
                let dest = program::dest_of(self.host, change);
                let mtime = program::mtime_of(self.prepared, change);
                (dest.as_bytes().to_vec(), clamped(mtime).cast_signed())
            })
            .collect()
    }

    fn listing_trust<'w>(
        &'w self,
        program: &'w Program,
        answer: &'w Answer,
        after: &'w HashMap<&'w [u8], &'w StatTuple>,
        mtimes: &'w HashMap<Vec<u8>, i64>,
    ) -> ListingTrust<'w> {
        ListingTrust {
            host: self.host,
            seen: &self.prepared.look.seen,
            changes: &self.changes,
            steps: &program.steps,
            step_times: &answer.times,
            mtimes,
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
    fn is_as_planned(
        &self,
        index: usize,
        after: &HashMap<&[u8], &StatTuple>,
    ) -> Result<(), Refusal> {
        let change = self.changes[index];
        let dest = program::dest_of(self.host, change);
        let (Some(stat), Some(node)) = (after.get(dest.as_bytes()), &change.after) else {
            return Ok(());
        };
        match node {
            _ if stat.kind() != node.kind() => Err(Refusal::Moved),
            Node::File { size_bytes, .. } if stat.size_bytes() != *size_bytes => {
                Err(Refusal::Moved)
            }
            Node::File { mode, .. } | Node::Dir { mode } if stat.mode() != *mode => {
                Err(Refusal::other("the host did not set its permission bits"))
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
                intended: None,
                is_mirrored: mapping.exact == Exact::Mirror,
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
        history: &History,
    ) -> Result<(), Failure> {
        let record = HostRecord {
            host: self.host.id.clone(),
            serial: self.run.identity.serial,
            updated_at: (self.run.request.now)(),
            plan: self.run.plan_digest,
            progress,
            listing,
            algorithm: Some(self.prepared.look.facts.algorithm.as_str().to_owned()),
            mappings,
            history: history.clone(),
        };
        Ok(self.run.state.save_host(self.run.request.lock, &record)?)
    }
}

/// What of `recorded` is still ours, with these changes made; they are ascending by path. What the source
/// has, and somebody changed or removed on the host, was written here all the same.
pub(super) fn with_changes<'a>(
    source: &Tree,
    recorded: &Tree,
    actual: &Actual,
    changes: impl Iterator<Item = &'a Change>,
) -> Tree {
    let changes: Vec<&Change> = changes.collect();
    let goes = |change: &&&Change| change.after.is_none();
    let gone: BTreeSet<&RelPath> = changes.iter().filter(goes).map(|it| &it.path).collect();
    let mut changes = changes.into_iter().peekable();
    let mut there = actual.iter().peekable();
    let mut entries = Vec::with_capacity(recorded.len());
    // What is there and will not be recorded.
    let mut foreign = Vec::new();
    let after = |change: &Change| {
        let node = change.after.clone()?;
        let path = change.path.clone();
        Some(Entry { path, node })
    };
    for entry in recorded.entries() {
        while let Some(change) = changes.next_if(|change| change.path < entry.path) {
            entries.extend(after(change));
        }
        if let Some(change) = changes.next_if(|change| change.path == entry.path) {
            entries.extend(after(change));
            continue;
        }
        while let Some((path, _)) = there.next_if(|(path, _)| **path < entry.path) {
            foreign.push(path);
        }
        // An orphan that somebody else has changed is no longer ours, and the new listing would take it for
        // that. Of what the source has, the plan tells.
        let here = there.next_if(|(path, _)| **path == entry.path);
        let is_still_there = here.is_some_and(|(_, node)| node.same_content(&entry.node));
        if source.get(&entry.path).is_some() || is_still_there {
            entries.push(entry.clone());
        } else if here.is_some() {
            foreign.push(&entry.path);
        }
    }
    entries.extend(changes.filter_map(after));
    foreign.extend(there.map(|(path, _)| path));
    // Nor are the folders that it keeps from going: the next plan would find nothing in them.
    let mut staying = BTreeSet::new();
    for path in foreign {
        let is_ours = source.get(path).is_some() || gone.contains(path);
        let mut folder = path.parent().filter(|_| !is_ours);
        while let Some(above) = folder {
            folder = above.parent();
            staying.insert(above);
        }
    }
    let is_left = |it: &Entry| it.node.kind() == Kind::Dir && staying.contains(&it.path);
    entries.retain(|it| !is_left(it) || source.get(&it.path).is_some());
    entries.into_iter().collect()
}
