//! The way back to an earlier apply.
//!
//! The state remembers what the last applies found and what they put there. What is to be undone is
//! that: of every entry that they changed, what the oldest of them found is to be there again. Its bytes
//! come from the backups that the host keeps. Everything else on the host stays as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use miette::Diagnostic;
use thiserror::Error;

use super::saved::path_in_words;
use crate::config::{Exact, Excludes, Host, MaxDelete, Modes};
use crate::model::{ContentDigest, Entry, HostId, Kind, LocalPath, Node, RelPath, Tree};
use crate::plan::build::{self, HostChanges, MappingInput, Policy, TooManyDeletes};
use crate::plan::comparison::Comparison;
use crate::plan::interrupted::is_opened;
use crate::plan::{Action, Actual, Change};
use crate::source::local::SourceTree;
use crate::state::{HostRecord, PastApply, PastRun, StateError, StateStore};

/// Backups of an apply lie in a folder named after its serial. Where an older state was brought back, a
/// serial comes again, and the name has a number behind it: up to this one.
const SAME_SERIAL_MAX: usize = 3;

/// There is no such way back.
#[derive(Clone, Debug, PartialEq, Eq, Error, Diagnostic)]
pub enum NoRollbackTarget {
    /// The serial has not come yet.
    #[error("apply {to} has not been: the state is at serial {now}")]
    #[diagnostic(
        code(hostsync::rollback::unknown_serial),
        help("`hostsync state list` shows the last applies with their serials")
    )]
    NotYet {
        /// What was asked for.
        to: u64,
        /// Serial of the state.
        now: u64,
    },
}

/// What is to be undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RollbackTarget {
    /// Which applies.
    pub what: Undone,
    /// The rollback of them that was begun and is not complete; the newest run of it.
    pub begun: Option<PastRun>,
    /// Serials of the runs of that rollback.
    begun_serials: Vec<u64>,
}

/// Which applies are undone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undone {
    /// One plan, with its retries; newest first.
    Plan(Vec<PastRun>),
    /// All that came after this serial.
    Since(u64),
}

impl RollbackTarget {
    /// Everything after `to`; without it, the last plan that changed anything, unless that is a rollback
    /// which is not complete: then that is gone on with. `None` when nothing was applied yet.
    ///
    /// # Errors
    /// When there was no apply with this serial yet.
    pub fn choose(state: &StateStore, to: Option<u64>) -> Result<Option<Self>, NoRollbackTarget> {
        let now = state.identity().map_or(0, |identity| identity.serial);
        if let Some(to) = to.filter(|to| *to > now) {
            return Err(NoRollbackTarget::NotYet { to, now });
        }
        let runs = || state.runs().iter().rev();
        let Some(newest) = runs().find(|run| run.has_changes) else {
            return Ok(to.map(|to| Self::new(Undone::Since(to))));
        };
        let of_same_plan = |run: &&PastRun| run.first == newest.first;
        let is_open = newest.back_to.is_some() && !newest.is_complete;
        let what = match (to, newest.back_to.filter(|_| is_open)) {
            (Some(to), _) => Undone::Since(to),
            (None, None) => Undone::Plan(runs().filter(of_same_plan).cloned().collect()),
            (None, Some(back_to)) if newest.undoes.is_empty() => Undone::Since(back_to),
            (None, Some(_)) => {
                let is_undone = |run: &&PastRun| newest.undoes.contains(&run.serial);
                Undone::Plan(runs().filter(is_undone).cloned().collect())
            }
        };
        let mut undo = Self::new(what);
        if is_open && newest.back_to == Some(undo.back_to()) && newest.undoes == undo.serials() {
            undo.begun = Some(newest.clone());
            undo.begun_serials = runs().filter(of_same_plan).map(|run| run.serial).collect();
        }
        Ok(Some(undo))
    }

    fn new(what: Undone) -> Self {
        Self {
            what,
            begun: None,
            begun_serials: Vec::new(),
        }
    }

    /// The serial that hosts are back at afterwards.
    pub fn back_to(&self) -> u64 {
        match &self.what {
            Undone::Plan(runs) => {
                let serials = runs.iter().map(|run| run.serial);
                serials.min().unwrap_or_default().saturating_sub(1)
            }
            Undone::Since(serial) => *serial,
        }
    }

    /// The runs of the plan that is undone; empty for all that came after a serial.
    pub(in crate::plan) fn serials(&self) -> Vec<u64> {
        match &self.what {
            Undone::Plan(runs) => runs.iter().map(|run| run.serial).collect(),
            Undone::Since(_) => Vec::new(),
        }
    }

    /// The hosts that have something to be undone, but for these; sorted.
    pub(in crate::plan) fn others(
        &self,
        state: &StateStore,
        hosts: &[&Host],
    ) -> Result<Vec<HostId>, StateError> {
        let mut others = state.hosts()?;
        others.retain(|other| hosts.iter().all(|host| host.id != *other));
        let mut with_applies = Vec::new();
        for other in others {
            let record = state.host(&other)?;
            let applies = record.as_ref().map(|record| self.applies(record));
            if applies.is_some_and(|applies| !matches!(applies, Ok([]))) {
                with_applies.push(other);
            }
        }
        Ok(with_applies)
    }

    /// The applies of a host that are to be undone, the oldest first.
    fn applies<'r>(&self, record: &'r HostRecord) -> Result<&'r [PastApply], String> {
        let applies = &record.history.applies[..];
        let forgotten = record.history.forgotten;
        let (first, reaches) = match &self.what {
            Undone::Plan(runs) => {
                let is_of_plan = |serial: u64| runs.iter().any(|run| run.serial == serial);
                // What the rollback has done already, or was about to do, is on the way, too.
                let is_on_way = |serial| is_of_plan(serial) || self.begun_serials.contains(&serial);
                // One that was cut short on this host has no state of its own to go back to: it goes with the
                // one that finished its work.
                let goes = |apply: &PastApply| {
                    is_on_way(apply.serial)
                        || apply.finished_by.is_some_and(is_on_way)
                        || apply.is_open()
                };
                let is_last = applies.last().is_some_and(|last| is_on_way(last.serial));
                let kept = applies.iter().rposition(|apply| !is_last || !goes(apply));
                let first = kept.map_or(0, |kept| kept + 1);
                let reaches = !is_of_plan(forgotten) || first > 0;
                (first, reaches)
            }
            Undone::Since(serial) => {
                let first = applies.partition_point(|apply| apply.serial <= *serial);
                (first, forgotten <= *serial)
            }
        };
        if reaches {
            return Ok(&applies[first..]);
        }
        let kept = match applies.len() {
            0 => "this host keeps no backups".to_owned(),
            1 => format!(
                "this host keeps backups of the apply after it, so `--to {forgotten}` is as far as it goes back"
            ),
            kept => format!(
                "this host keeps backups of the {kept} applies after it, so `--to {forgotten}` is as far as it goes back"
            ),
        };
        Err(format!(
            "apply {forgotten} cannot be undone any more: {kept} (the setting `backups`)"
        ))
    }
}

/// The way back of one host.
#[derive(Debug)]
pub struct RollbackPath {
    /// By mapping of the configuration.
    mappings: Vec<MappingBack>,
    /// Entries that stay as they are, with the reason, for people.
    left_out: Vec<String>,
}

#[derive(Debug, Default)]
struct MappingBack {
    /// What is to be there again, of every entry that was changed.
    entries: BTreeMap<RelPath, EntryBack>,
    /// What was recorded then.
    recorded: Arc<Tree>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct EntryBack {
    /// `None` for nothing.
    node: Option<Node>,
    /// Where on the host its bytes may be, below the staging folder; the likeliest place first.
    backups: Vec<Vec<u8>>,
}

impl RollbackPath {
    /// The way back of a host; `None` where there is nothing to be undone.
    ///
    /// # Errors
    /// When the state cannot be read; within that, says why there is no way.
    pub(in crate::plan) fn of(
        undo: &RollbackTarget,
        host: &Host,
        record: Option<&HostRecord>,
        state: &StateStore,
    ) -> Result<Result<Option<Self>, String>, StateError> {
        let Some(record) = record else {
            return Ok(Ok(None));
        };
        let applies = match undo.applies(record) {
            Ok([]) => return Ok(Ok(None)),
            Ok(applies) => applies,
            Err(text) => return Ok(Err(text)),
        };
        let mut mappings: Vec<MappingBack> = Vec::new();
        mappings.resize_with(host.mappings.len(), MappingBack::default);
        // From the newest: what an older one found stands in the end.
        for apply in applies.iter().rev() {
            for past in &apply.mappings {
                let mut configured = host.mappings.iter();
                let index = configured.position(|it| it.dest_as_written == past.dest);
                let Some(index) = index else {
                    return Ok(Err(format!(
                        "apply {} has written {}, which is no destination of this host any more; put \
                         that mapping back into the configuration to undo it",
                        apply.serial, past.dest
                    )));
                };
                let (before, after) = (state.tree(&past.before)?, state.tree(&past.after)?);
                for (path, before, _) in before.beside(&after) {
                    let entry = mappings[index].entries.entry(path.clone()).or_default();
                    entry.found(before, || backups_of(apply, past.number, path));
                }
                mappings[index].recorded = state.tree(&past.recorded)?;
            }
        }
        let mut left_out = Vec::new();
        for (index, (mapping, back)) in host.mappings.iter().zip(&mut mappings).enumerate() {
            back.entries.retain(|path, entry| {
                let reason = if mapping.exclude.excludes(path) {
                    "is excluded now, and stays as it is"
                } else if let Some(reason) = entry.lacks_bytes() {
                    reason
                } else {
                    return true;
                };
                left_out.push(path_in_words(host, index, path, reason));
                false
            });
        }
        Ok(Ok(Some(Self { mappings, left_out })))
    }

    /// Entries that stay as they are, with the reason, for people.
    pub(in crate::plan) fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// By mapping, what is to be there, given all that is recorded.
    pub(in crate::plan) fn desired(&self, recorded: &[Arc<Tree>]) -> Vec<Arc<SourceTree>> {
        let sides = self.mappings.iter().zip(recorded);
        let trees = sides.map(|(mapping, recorded)| {
            let stays = |entry: &&Entry| !mapping.entries.contains_key(&entry.path);
            let staying = recorded.entries().iter().filter(stays).cloned();
            // What was a folder of ours may be one that is not recorded any more.
            let above = mapping.folders().into_iter().filter_map(|path| {
                let node = mapping.recorded.get(&path)?.clone();
                Some(Entry { path, node })
            });
            let tree: Tree = staying.chain(mapping.entries()).chain(above).collect();
            SourceTree {
                // Nothing is read here.
                root: LocalPath::new(""),
                mtimes: vec![0; tree.len()],
                tree,
                problems: Vec::new(),
            }
        });
        trees.map(Arc::new).collect()
    }

    /// The changes that lead back.
    ///
    /// # Errors
    /// As [`build::build`]; but all that was created may be deleted.
    pub(in crate::plan) fn changes(
        &self,
        comparisons: &[Arc<Comparison>],
        actual: &[Actual],
    ) -> Result<HostChanges, TooManyDeletes> {
        let sides = self.mappings.iter().zip(comparisons).zip(actual);
        let sides: Vec<_> = sides
            .map(|((mapping, comparison), actual)| {
                let recorded = &comparison.recorded;
                let desired = &comparison.source.tree;
                let mut folders = mapping.folders();
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
                let desired: Tree = mapping.entries().chain(folders).collect();
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
        let mut changes = build::build(&inputs.collect::<Vec<_>>(), policy)?;
        for change in changes.changes.iter_mut().filter(|it| gives_rights(it)) {
            change.conflict = true;
        }
        Ok(changes)
    }

    /// Where on the host the bytes of an entry may be, below the staging folder; the likeliest place
    /// first.
    pub(crate) fn backups(&self, mapping: usize, path: &RelPath) -> &[Vec<u8>] {
        let entry = self.mappings[mapping].entries.get(path);
        entry.map_or(&[], |entry| &entry.backups)
    }

    /// What is to be recorded of a mapping, of which `written` is what an ordinary apply would record.
    /// An entry that is back has what was recorded of it then: what was not ours is not ours again.
    /// `is_left` tells which ones are not back.
    pub(crate) fn recorded(
        &self,
        mapping: usize,
        written: &Tree,
        is_left: impl Fn(&RelPath) -> bool,
    ) -> Tree {
        let MappingBack { entries, recorded } = &self.mappings[mapping];
        let is_back = |path: &RelPath| entries.contains_key(path) && !is_left(path);
        let staying = written.entries().iter();
        let staying = staying.filter(|entry| !is_back(&entry.path));
        let back = recorded.entries().iter();
        let back = back.filter(|entry| is_back(&entry.path));
        staying.chain(back).cloned().collect()
    }

    /// Whether what is at a path is what is to be there again.
    pub(crate) fn is_back(&self, mapping: usize, path: &RelPath, actual: Option<&Node>) -> bool {
        let entry = self.mappings[mapping].entries.get(path);
        entry.is_some_and(|entry| match (&entry.node, actual) {
            (Some(wanted), Some(actual)) => wanted.same(actual),
            (None, None) => true,
            _ => false,
        })
    }
}

impl MappingBack {
    /// What is to be there again.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let there = self.entries.iter();
        there.filter_map(|(path, entry)| Some(entry_of(path, entry.node.as_ref()?)))
    }

    /// The folders that hold what was changed, and were not changed themselves.
    fn folders(&self) -> BTreeSet<RelPath> {
        let mut folders = BTreeSet::new();
        for path in self.entries.keys() {
            let mut parent = path.parent();
            while let Some(folder) = parent {
                parent = folder.parent();
                if !self.entries.contains_key(&folder) && !folders.insert(folder) {
                    break;
                }
            }
        }
        folders
    }
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

impl EntryBack {
    /// Why what was there cannot be put back.
    fn lacks_bytes(&self) -> Option<&'static str> {
        match &self.node {
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
    fn found(&mut self, before: Option<&Node>, backups: impl FnOnce() -> Vec<Vec<u8>>) {
        let is_same = match (&self.node, before) {
            (Some(newer), Some(before)) => newer.same_content(before),
            _ => false,
        };
        if !is_same {
            self.backups.clear();
        }
        self.node = before.cloned();
        if matches!(before, Some(Node::File { .. })) {
            // Where both have one: the older one has certainly taken its step.
            self.backups.splice(0..0, backups());
        }
    }
}

/// Whether a change would make a file run as its owner or group of which nobody knows whether these are
/// those that it was to run as: what is there is not what was written here. Somebody has to decide.
fn gives_rights(change: &Change) -> bool {
    let special = |node: &Option<Node>| match node {
        Some(Node::File { meta, .. }) => meta.mode.bits() & 0o6000,
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
    let below = |folder: String| {
        let mut at = format!("backup/{folder}/{number}").into_bytes();
        if !path.is_root() {
            at.push(b'/');
            at.extend_from_slice(path.as_bytes());
        }
        at
    };
    folders.into_iter().map(below).collect()
}
