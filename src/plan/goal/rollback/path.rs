//! How one host is rolled back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::error::NoRollbackPath;
use crate::config::{Exact, Excludes, Host, Mapping, MaxDelete, Modes};
use crate::model::{ContentDigest, Entry, Kind, LocalPath, Meta, Node, RelPath, Tree};
use crate::plan::build::{self, HostChanges, MappingInput, Policy};
use crate::plan::error::{NoHostPlan, PlanError};
use crate::plan::goal::types::{HostGoal, Situation};
use crate::plan::interrupted::is_opened;
use crate::plan::prepared::{BroughtBack, EntryBack, Terms};
use crate::plan::{Action, Actual, Change, naming};
use crate::remote::tasks::restore::backup_path;
use crate::source::local::{SourceError, SourceTree};
use crate::state::{PastApply, StateError, StateStore};

/// Backups of an apply lie in a folder named after its serial. Where an older state was brought back, a
/// serial comes again, and the name has a number behind it: up to this one.
const SAME_SERIAL_MAX: usize = 3;

/// How one host is rolled back.
#[derive(Debug)]
pub(super) struct RollbackPath {
    /// By mapping of the configuration.
    mappings: Arc<[BroughtBack]>,
    /// By mapping, what is to be there.
    desired: Vec<Arc<SourceTree>>,
    /// Entries that stay as they are, with the reason, for people.
    left_out: Vec<String>,
}

impl RollbackPath {
    /// How a host is rolled back on which these applies, the oldest first, are to be undone. `known` is, by
    /// mapping, all that may be there by our hand.
    ///
    /// # Errors
    /// When the state cannot be read; within that, when there is no way.
    pub(super) fn of(
        applies: &[PastApply],
        host: &Host,
        known: &[Arc<Tree>],
        state: &StateStore,
    ) -> Result<Result<Self, NoRollbackPath>, StateError> {
        let mut mappings: Vec<BroughtBack> = Vec::new();
        mappings.resize_with(host.mappings.len(), BroughtBack::default);
        // From the newest: what an older one found stands in the end.
        for apply in applies.iter().rev() {
            for past in &apply.mappings {
                let mut configured = host.mappings.iter();
                let index = configured.position(|it| it.dest_as_written == past.dest);
                let Some(index) = index else {
                    return Ok(Err(NoRollbackPath::UnknownMapping {
                        serial: apply.serial,
                        dest: past.dest.clone(),
                    }));
                };
                let (before, after) = (state.tree(&past.before)?, state.tree(&past.after)?);
                for (path, before, _) in before.beside(&after) {
                    let entry = mappings[index].entries.entry(path.clone()).or_default();
                    found(entry, before, || backups_of(apply, past.number, path));
                }
                mappings[index].recorded = state.tree(&past.recorded)?;
            }
        }
        let mut left_out = Vec::new();
        for (mapping, back) in host.mappings.iter().zip(&mut mappings) {
            back.entries.retain(|path, entry| {
                let reason = if mapping.exclude.excludes(path) {
                    "is excluded now, and stays as it is"
                } else if let Some(reason) = lacks_bytes(entry) {
                    reason
                } else {
                    return true;
                };
                let dest = naming::below(&mapping.dest_as_written, path);
                left_out.push(format!("{dest} {reason}"));
                false
            });
        }
        let sides = mappings.iter().zip(known);
        let desired = sides.map(|(mapping, known)| Arc::new(desired(mapping, known)));
        Ok(Ok(Self {
            desired: desired.collect(),
            mappings: mappings.into(),
            left_out,
        }))
    }
}

impl HostGoal for RollbackPath {
    /// A source that is missing keeps nobody from going back.
    fn problem(&self, host: &Host) -> Option<String> {
        host.problems_without_sources()
    }

    fn desired(
        &self,
        _host: &Host,
        _source: &dyn Fn(&Mapping) -> Result<Arc<SourceTree>, SourceError>,
    ) -> Result<Vec<Arc<SourceTree>>, SourceError> {
        Ok(self.desired.clone())
    }

    /// All that was created may be deleted.
    fn changes(&self, situation: &Situation<'_>) -> Result<HostChanges, NoHostPlan> {
        let Situation {
            host,
            comparisons,
            actual,
            ..
        } = *situation;
        let sides = self.mappings.iter().zip(comparisons).zip(actual);
        let sides: Vec<_> = sides
            .map(|((mapping, comparison), actual)| {
                let recorded = &comparison.recorded;
                let desired = &comparison.source.tree;
                let mut folders = folders(mapping);
                folders.retain(|path| is_to_be_mended(path, desired, recorded, actual));
                let holds =
                    |path: &RelPath| mapping.entries.contains_key(path) || folders.contains(path);
                let of = |entries: &mut dyn Iterator<Item = (&RelPath, &Node)>| -> Tree {
                    let held = entries.filter(|(path, _)| holds(path));
                    held.map(|(path, node)| entry_of(path, node)).collect()
                };
                let there = recorded.entries().iter();
                let recorded = of(&mut there.map(|entry| (&entry.path, &entry.node)));
                let folders = folders.iter().filter_map(|path| {
                    let node = desired.get(path)?;
                    Some(entry_of(path, node))
                });
                let desired: Tree = entries(mapping).chain(folders).collect();
                (desired, recorded, Actual::from(of(&mut actual.iter())))
            })
            .collect();
        let nothing = Excludes::default();
        let inputs = sides
            .iter()
            .map(|(desired, recorded, actual)| MappingInput {
                desired,
                recorded,
                actual,
                // What was not there before goes; only what was changed is looked at.
                exact: Exact::Mirror,
                exclude: &nothing,
                unsendable: &[],
            });
        let policy = Policy {
            modes: Modes::All,
            max_delete: MaxDelete { percent: 100 },
        };
        let changes = build::build(&inputs.collect::<Vec<_>>(), policy);
        let mut changes = changes.map_err(|error| PlanError::too_many_deletes(host, error))?;
        for change in changes.changes.iter_mut().filter(|it| gives_rights(it)) {
            change.conflict = true;
        }
        Ok(changes)
    }

    fn problems(&self, _host: &Host, _desired: &[Arc<SourceTree>]) -> Vec<String> {
        self.left_out.clone()
    }

    fn terms(&self) -> Terms {
        Terms {
            brought_back: Arc::clone(&self.mappings),
            // A backup has the owner that its entry had.
            brings_owner: true,
            // Nobody knows when a folder that is put back was modified.
            dates_folders: false,
            // Only what was changed was looked at.
            knows_mirrors: false,
            // What is brought back may be not what is recorded then.
            may_keep_listing: false,
        }
    }
}

/// What is to be there of a mapping, given all that may be there by our hand.
fn desired(mapping: &BroughtBack, known: &Tree) -> SourceTree {
    let stays = |entry: &&Entry| !mapping.entries.contains_key(&entry.path);
    let staying = known.entries().iter().filter(stays).cloned();
    // What was a folder of ours may be one that is not recorded any more.
    let above = folders(mapping).into_iter().filter_map(|path| {
        let node = mapping.recorded.get(&path)?.clone();
        Some(Entry { path, node })
    });
    let tree: Tree = staying.chain(entries(mapping)).chain(above).collect();
    SourceTree {
        // Nothing is read here.
        root: LocalPath::new(""),
        mtimes: vec![0; tree.len()],
        tree,
        problems: Vec::new(),
    }
}

/// What is to be there again.
fn entries(mapping: &BroughtBack) -> impl Iterator<Item = Entry> {
    let there = mapping.entries.iter();
    there.filter_map(|(path, entry)| Some(entry_of(path, entry.node.as_ref()?)))
}

/// The folders that hold what was changed, and were not changed themselves.
fn folders(mapping: &BroughtBack) -> BTreeSet<RelPath> {
    let mut folders = BTreeSet::new();
    for path in mapping.entries.keys() {
        let mut parent = path.parent();
        while let Some(folder) = parent {
            parent = folder.parent();
            if !mapping.entries.contains_key(&folder) && !folders.insert(folder) {
                break;
            }
        }
    }
    folders
}

/// Whether a folder on the way has to be seen to: somebody has removed it, or a killed commit of ours has
/// opened it and not closed it again.
fn is_to_be_mended(path: &RelPath, desired: &Tree, recorded: &Tree, actual: &Actual) -> bool {
    let desired = desired.get(path);
    if desired.map(Node::kind) != Some(Kind::Dir) {
        return false;
    }
    match actual.get(path) {
        None => true,
        Some(actual) => {
            let is_ours = recorded.get(path).is_some_and(|it| it.same(actual));
            is_ours && is_opened(desired, actual) && !desired.is_some_and(|it| it.same(actual))
        }
    }
}

/// Why what was there cannot be put back.
fn lacks_bytes(entry: &EntryBack) -> Option<&'static str> {
    match &entry.node {
        Some(Node::Other { .. }) => {
            Some("was a device or a pipe, which only the backup on the host has")
        }
        Some(Node::File { digest, .. }) if *digest == ContentDigest::default() => {
            Some("could not be read then, so its backup on the host cannot be verified")
        }
        _ => None,
    }
}

/// An apply has found `before`, and keeps it in one of `backups`. The applies come from the newest to
/// the oldest.
fn found(entry: &mut EntryBack, before: Option<&Node>, backups: impl FnOnce() -> Vec<Vec<u8>>) {
    let is_same = match (&entry.node, before) {
        (Some(newer), Some(before)) => newer.same_content(before),
        _ => false,
    };
    if !is_same {
        entry.backups.clear();
    }
    entry.node = before.cloned();
    if matches!(before, Some(Node::File { .. })) {
        // Where both have one: the older one has certainly taken its step.
        entry.backups.splice(0..0, backups());
    }
}

/// Whether a change would make a file run as its owner or group of which nobody knows whether these are
/// those that it was to run as: what is there is not what was written here. Somebody has to decide.
fn gives_rights(change: &Change) -> bool {
    let special = |node: &Option<Node>| match node {
        Some(Node::File {
            meta: Meta { mode },
            ..
        }) => mode.bits() & 0o6000,
        _ => 0,
    };
    let is_foreign = change.drift || change.unmanaged;
    let adds = special(&change.after) & !special(&change.before) != 0;
    change.action == Action::Metadata && is_foreign && adds
}

fn entry_of(path: &RelPath, node: &Node) -> Entry {
    let (path, node) = (path.clone(), node.clone());
    Entry { path, node }
}

/// Where an apply has put what it has found at a path.
fn backups_of(apply: &PastApply, number: usize, path: &RelPath) -> Vec<Vec<u8>> {
    let folders = if let Some(name) = &apply.backup {
        vec![name.clone()]
    } else {
        let again = (2..=SAME_SERIAL_MAX).rev();
        let again = again.map(|number| format!("{}-{number}", apply.serial));
        again.chain([apply.serial.to_string()]).collect()
    };
    let folders = folders.iter();
    folders
        .map(|folder| backup_path(folder, number, path))
        .collect()
}
