//! Reading and writing the state folder.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::files::{self, HostFile, StateFile};
use super::history::{Intent, PastRun, Runs};
use super::{HostRecord, Identity, StateError, StateLock, durable, lock};
use crate::model::{Blake3, Entry, HostId, Node, Tree};

/// Manifests are kept in memory up to this many entries (some 200 bytes each) altogether.
const KEPT_ENTRIES: usize = 2_000_000;

/// The state folder.
///
/// Reading needs no lock, since every file is replaced as a whole. Several threads may use one store.
#[derive(Debug)]
pub struct StateStore {
    dir: PathBuf,
    identity: Option<Identity>,
    runs: Runs,
    trees: Mutex<KeptTrees>,
}

/// Manifests that were read or written: hosts often share one.
#[derive(Debug, Default)]
struct KeptTrees {
    by_digest: HashMap<Blake3, Arc<Tree>>,
    entries: usize,
}

impl KeptTrees {
    fn keep(&mut self, digest: Blake3, tree: Arc<Tree>) {
        if self.entries + tree.len() > KEPT_ENTRIES {
            *self = Self::default();
        }
        self.entries += tree.len();
        if let Some(earlier) = self.by_digest.insert(digest, tree) {
            self.entries -= earlier.len();
        }
    }
}

impl StateStore {
    /// Opens the folder for reading; one that does not exist yet is an empty state.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, or was written by a newer version.
    pub fn open(dir: &Path) -> Result<Self, StateError> {
        let mut store = Self {
            dir: dir.to_owned(),
            identity: None,
            runs: Runs::default(),
            trees: Mutex::default(),
        };
        if let Some(file) = store.read_state()? {
            (store.identity, store.runs) = file.into();
        }
        Ok(store)
    }

    /// Which state this is; `None` before the first apply.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The last runs, the oldest first.
    pub fn runs(&self) -> &[PastRun] {
        &self.runs.runs
    }

    /// What is recorded of a host.
    ///
    /// # Errors
    /// When its file cannot be read, is damaged, or was written by a newer version.
    pub fn host(&self, host: &HostId) -> Result<Option<HostRecord>, StateError> {
        let path = self.host_path(host);
        let Some(bytes) = durable::read(&path)? else {
            return Ok(None);
        };
        let cure = format!(
            "restore it from a backup or from version control; or run `hostsync state forget {host}`: \
             the next plan then takes what is on that host for unmanaged"
        );
        let file: HostFile = files::parse(&bytes, &path, &cure)?;
        let record = HostRecord::from(file);
        if record.host != *host {
            let reason = format!("it is the record of `{}`", record.host);
            return Err(files::damaged(&path, &reason, &cure));
        }
        Ok(Some(record))
    }

    /// The hosts that have a record, sorted. The records themselves may still be damaged.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn hosts(&self) -> Result<Vec<HostId>, StateError> {
        let names = durable::names(&self.dir.join("hosts"))?;
        let mut hosts: Vec<_> = names
            .iter()
            .filter_map(|name| name.to_str()?.strip_suffix(".json"))
            .filter_map(files::host_of_file_name)
            .collect();
        hosts.sort();
        Ok(hosts)
    }

    /// The tree of this digest, which hosts may share.
    ///
    /// # Errors
    /// When its file is missing, damaged or does not have that digest.
    pub fn tree(&self, digest: &Blake3) -> Result<Arc<Tree>, StateError> {
        let mut kept = self.kept_trees();
        if let Some(tree) = kept.by_digest.get(digest) {
            return Ok(Arc::clone(tree));
        }
        let Some(tree) = self.read_tree(digest)? else {
            let reason = "it is missing, and the record of a host names it";
            let path = self.tree_path(digest);
            return Err(files::damaged(&path, &reason, TREE_CURE));
        };
        let tree = Arc::new(tree);
        kept.keep(*digest, Arc::clone(&tree));
        Ok(tree)
    }

    /// Raises the serial, making the folder and the lineage if there are none, and takes note of what the
    /// run is about to do.
    ///
    /// # Errors
    /// When the folder cannot be written, is damaged, or was written by a newer version.
    pub fn begin_apply(
        &mut self,
        lock: &StateLock,
        intent: &Intent,
    ) -> Result<Identity, StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        for dir in [
            self.dir.clone(),
            self.dir.join("hosts"),
            self.dir.join("trees"),
        ] {
            durable::remove_unfinished(&dir)?;
        }
        // Read again: before there was a lock, another run may have raised it.
        let (earlier, mut runs) = match self.read_state()? {
            Some(file) => file.into(),
            None => (None, Runs::default()),
        };
        let identity = match earlier {
            Some(earlier) => {
                let Some(serial) = earlier.serial.checked_add(1) else {
                    let reason = "its serial is the last one that there is";
                    return Err(files::damaged(&self.state_path(), &reason, STATE_CURE));
                };
                Identity { serial, ..earlier }
            }
            None => Identity {
                lineage: lock::random_id()?,
                serial: 1,
            },
        };
        runs.begin(identity.serial, intent);
        self.write_state(identity.clone(), runs)?;
        Ok(identity)
    }

    /// Takes note that all of what a run was about to do is done, on every host.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn complete_apply(&mut self, lock: &StateLock, serial: u64) -> Result<(), StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        let (Some(identity), mut runs) = (self.identity.clone(), self.runs.clone()) else {
            return Ok(());
        };
        for run in runs.runs.iter_mut().filter(|run| run.serial == serial) {
            run.is_complete = true;
        }
        self.write_state(identity, runs)
    }

    /// Writes the manifest of a tree unless it is there already, with all that is known: what is new
    /// in `tree` is added to what the file has.
    ///
    /// # Errors
    /// When it cannot be written, or the one that is there was written by a newer version.
    pub fn save_tree(&self, lock: &StateLock, tree: &Tree) -> Result<Blake3, StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        let digest = tree.digest();
        let path = self.tree_path(&digest);
        // Held until the file is written, so that of two threads neither loses what the other knows.
        let mut kept = self.kept_trees();
        let stored = match kept.by_digest.get(&digest) {
            Some(stored) if path.exists() => Some(Arc::clone(stored)),
            _ => match self.read_tree(&digest) {
                Ok(stored) => stored.map(Arc::new),
                Err(error @ StateError::Damaged { .. }) => {
                    tracing::warn!(%error, "the manifest is written afresh");
                    None
                }
                Err(error) => return Err(error),
            },
        };
        let all = match stored {
            Some(stored) if knows_all_of(&stored, tree) => stored,
            stored => {
                let all = stored.map_or_else(|| tree.clone(), |stored| merged(&stored, tree));
                durable::replace(&path, |writer| files::write_tree(writer, &all))?;
                Arc::new(all)
            }
        };
        kept.keep(digest, all);
        Ok(digest)
    }

    /// Writes the record of a host. Its trees must have been saved before.
    ///
    /// # Errors
    /// When it cannot be written; the earlier record is then still there, whole. When that was
    /// written by a newer version.
    pub fn save_host(&self, lock: &StateLock, record: &HostRecord) -> Result<(), StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        let path = self.host_path(&record.host);
        files::check_replaceable(&path)?;
        files::write_pretty(&path, &HostFile::from(record))
    }

    /// Removes what is recorded of a host, damaged or not; says whether there was anything.
    ///
    /// # Errors
    /// When it cannot be removed or was written by a newer version.
    pub fn forget_host(&self, lock: &StateLock, host: &HostId) -> Result<bool, StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        let path = self.host_path(host);
        files::check_replaceable(&path)?;
        durable::remove(&path)
    }

    /// Removes manifests that no host has; says how many. None is removed unless every host's record
    /// can be read.
    ///
    /// # Errors
    /// When the folder or a record cannot be read or a file not be removed.
    pub fn remove_unused_trees(&self, lock: &StateLock) -> Result<usize, StateError> {
        debug_assert!(lock.guards(&self.dir), "that lock is for another state");
        let mut kept = self.kept_trees();
        let mut used = BTreeSet::new();
        for host in self.hosts()? {
            if let Some(record) = self.host(&host)? {
                used.extend(record.trees());
            }
        }
        *kept = KeptTrees::default();
        let mut removed = 0;
        for name in durable::names(&self.dir.join("trees"))? {
            let digest = name
                .to_str()
                .and_then(|name| name.strip_suffix(".json")?.parse::<Blake3>().ok());
            let Some(digest) = digest.filter(|digest| !used.contains(digest)) else {
                continue;
            };
            let path = self.tree_path(&digest);
            match files::check_replaceable(&path) {
                Ok(()) => removed += usize::from(durable::remove(&path)?),
                Err(StateError::UnknownVersion { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    fn state_path(&self) -> PathBuf {
        self.dir.join("state.json")
    }

    fn host_path(&self, host: &HostId) -> PathBuf {
        self.dir
            .join("hosts")
            .join(format!("{}.json", host.as_file_name()))
    }

    fn tree_path(&self, digest: &Blake3) -> PathBuf {
        self.dir.join("trees").join(format!("{digest}.json"))
    }

    fn kept_trees(&self) -> MutexGuard<'_, KeptTrees> {
        // What is kept is changed in single steps, each of which leaves it right.
        self.trees.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_state(&mut self, identity: Identity, runs: Runs) -> Result<(), StateError> {
        files::write_pretty(&self.state_path(), &StateFile::new(&identity, &runs))?;
        (self.identity, self.runs) = (Some(identity), runs);
        Ok(())
    }

    fn read_state(&self) -> Result<Option<StateFile>, StateError> {
        let path = self.state_path();
        if let Some(bytes) = durable::read(&path)? {
            return files::parse(&bytes, &path, STATE_CURE).map(Some);
        }
        // It is written before any record. A new lineage beside old records would make every saved
        // plan and every host's staging folder somebody else's.
        if self.hosts()?.is_empty() {
            Ok(None)
        } else {
            let reason = "it is missing, and there are records of hosts";
            Err(files::damaged(&path, &reason, STATE_CURE))
        }
    }

    fn read_tree(&self, digest: &Blake3) -> Result<Option<Tree>, StateError> {
        let path = self.tree_path(digest);
        let Some(bytes) = durable::read(&path)? else {
            return Ok(None);
        };
        files::parse_tree(&bytes, &path, digest, TREE_CURE).map(Some)
    }
}

const STATE_CURE: &str = "restore it from a backup or from version control; or move the whole state \
                          folder away: the next plan then takes what is on the hosts for unmanaged";

const TREE_CURE: &str = "restore it from a backup or from version control; or run `hostsync state \
                         forget` for the hosts that have this tree: the next plan then takes what is \
                         on them for unmanaged";

/// Whether `stored` has every digest that `tree`, which is the same tree, has.
fn knows_all_of(stored: &Tree, tree: &Tree) -> bool {
    let pairs = stored.entries().iter().zip(tree.entries());
    pairs
        .map(|(stored, new)| (&stored.node, &new.node))
        .all(|nodes| match nodes {
            (Node::File { digest: stored, .. }, Node::File { digest: new, .. }) => {
                stored.merged_with(new) == *stored
            }
            _ => true,
        })
}

/// What either of two equal trees knows.
fn merged(stored: &Tree, tree: &Tree) -> Tree {
    let pairs = stored.entries().iter().zip(tree.entries());
    pairs
        .map(|(stored, new)| {
            let mut entry: Entry = stored.clone();
            if let (Node::File { digest, .. }, Node::File { digest: new, .. }) =
                (&mut entry.node, &new.node)
            {
                *digest = digest.merged_with(new);
            }
            entry
        })
        .collect()
}

#[cfg(test)]
mod tests;
