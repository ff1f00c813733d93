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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::collections::BTreeMap;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Duration;

    use super::*;
    use crate::model::{ContentDigest, Mode, RelPath, Sha256};
    use crate::state::{GoalDigests, History, MappingRecord, PastApply, PastMapping, Progress};

    struct Folder {
        temp: tempfile::TempDir,
        dir: PathBuf,
        lock: StateLock,
        store: StateStore,
    }

    fn folder() -> Folder {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("state");
        let lock = StateLock::acquire(&dir, "apply", "ann@desk", Duration::ZERO, &mut |_| {});
        Folder {
            lock: lock.unwrap(),
            store: StateStore::open(&dir).unwrap(),
            dir,
            temp,
        }
    }

    fn tree(content: &[u8], sha256: Option<u8>) -> Tree {
        let node = Node::File {
            size_bytes: content.len() as u64,
            meta: Mode::new(0o644).into(),
            digest: ContentDigest {
                blake3: Some(Blake3::of(content)),
                sha256: sha256.map(|byte| Sha256::from_bytes([byte; 32])),
            },
        };
        let entry = |path: &str| Entry {
            path: RelPath::new(path).unwrap(),
            node: node.clone(),
        };
        [entry("a"), entry("b")].into_iter().collect()
    }

    fn intent() -> Intent {
        Intent {
            plan: Blake3::of(b"plan"),
            began_at: "2026-01-01T00:00:00Z".to_owned(),
            has_changes: true,
            back_to: None,
            undoes: Vec::new(),
            aim: GoalDigests::default(),
        }
    }

    fn record(host: &str, tree: Blake3) -> HostRecord {
        HostRecord {
            host: HostId::new(host),
            serial: 3,
            updated_at: "2026-01-02T03:04:05Z".to_owned(),
            plan: Blake3::of(b"plan"),
            progress: Progress::InTheMiddle,
            listing: Some("sha256:0".to_owned()),
            algorithm: None,
            mappings: vec![MappingRecord {
                src: "site".to_owned(),
                dest: "~/www".to_owned(),
                tree,
                intended: None,
                is_mirrored: false,
            }],
            history: History {
                forgotten: 1,
                applies: vec![PastApply {
                    serial: 2,
                    progress: Progress::Finished,
                    finished_by: None,
                    backup: Some("2".to_owned()),
                    mappings: vec![PastMapping {
                        dest: "~/www".to_owned(),
                        number: 0,
                        recorded: tree,
                        before: tree,
                        after: tree,
                    }],
                }],
            },
        }
    }

    /// Every file below a folder with its bytes.
    fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
        walkdir::WalkDir::new(dir)
            .into_iter()
            .map(Result::unwrap)
            .filter(|entry| entry.file_type().is_file())
            .map(|entry| {
                let bytes = fs::read(entry.path()).unwrap();
                (entry.into_path(), bytes)
            })
            .collect()
    }

    #[test]
    fn missing_folder_is_an_empty_state_and_stays_missing() {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("none");
        let store = StateStore::open(&dir).unwrap();
        assert_eq!(store.identity(), None);
        assert_eq!(store.hosts().unwrap(), []);
        assert_eq!(store.host(&HostId::new("a")).unwrap(), None);
        assert!(!dir.exists());
    }

    #[test]
    fn every_apply_raises_the_serial_of_one_lineage() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        let first = store.begin_apply(&lock, &intent()).unwrap();
        assert_eq!(first.serial, 1);
        assert_eq!(first.lineage.len(), 32);
        // Opened before the other apply began.
        let mut other = StateStore::open(&dir).unwrap();
        assert_eq!(store.begin_apply(&lock, &intent()).unwrap().serial, 2);
        let third = other.begin_apply(&lock, &intent()).unwrap();
        assert_eq!((third.serial, &third.lineage), (3, &first.lineage));
        assert_eq!(StateStore::open(&dir).unwrap().identity(), Some(&third));
    }

    #[test]
    fn two_states_have_different_lineages() {
        let (mut one, mut other) = (folder(), folder());
        assert_ne!(
            one.store.begin_apply(&one.lock, &intent()).unwrap().lineage,
            other
                .store
                .begin_apply(&other.lock, &intent())
                .unwrap()
                .lineage
        );
    }

    #[test]
    fn records_survive_and_are_listed_in_order() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        store.begin_apply(&lock, &intent()).unwrap();
        let tree = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        for host in ["web2", "fe80::1", "../up"] {
            store.save_host(&lock, &record(host, tree)).unwrap();
        }
        fs::write(dir.join("hosts/notes.txt"), "").unwrap();

        let store = StateStore::open(&dir).unwrap();
        let hosts = ["../up", "fe80::1", "web2"].map(HostId::new);
        assert_eq!(store.hosts().unwrap(), hosts);
        for host in hosts {
            assert_eq!(
                store.host(&host).unwrap(),
                Some(record(host.as_str(), tree))
            );
        }
        assert!(store.forget_host(&lock, &HostId::new("../up")).unwrap());
        assert!(!store.forget_host(&lock, &HostId::new("../up")).unwrap());
        assert_eq!(store.hosts().unwrap().len(), 2);
    }

    #[test]
    fn record_looks_the_same_whenever_it_is_written() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        store
            .save_host(&lock, &record("a", Blake3::of(b"")))
            .unwrap();
        let text = fs::read_to_string(dir.join("hosts/a.json")).unwrap();
        let digest = Blake3::of(b"");
        let plan = Blake3::of(b"plan");
        assert_eq!(
            text,
            format!(
                r#"{{
  "format_version": "1.0",
  "host": "a",
  "serial": 3,
  "updated_at": "2026-01-02T03:04:05Z",
  "plan": "{plan}",
  "progress": "in_the_middle",
  "listing": "sha256:0",
  "algorithm": null,
  "mappings": [
    {{
      "src": "site",
      "dest": "~/www",
      "tree": "{digest}"
    }}
  ],
  "history": {{
    "forgotten": 1,
    "applies": [
      {{
        "serial": 2,
        "progress": "finished",
        "backup": "2",
        "mappings": [
          {{
            "dest": "~/www",
            "number": 0,
            "recorded": "{digest}",
            "before": "{digest}",
            "after": "{digest}"
          }}
        ]
      }}
    ]
  }}
}}
"#
            )
        );
    }

    #[test]
    fn record_without_a_history_knows_that_it_has_forgotten_everything() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        store
            .save_host(&lock, &record("a", Blake3::of(b"")))
            .unwrap();
        let path = dir.join("hosts/a.json");
        let text = fs::read_to_string(&path).unwrap();
        let (before, _) = text.split_once(",\n  \"history\"").unwrap();
        fs::write(&path, format!("{before}\n}}\n")).unwrap();
        let record = store.host(&HostId::new("a")).unwrap().unwrap();
        let history = History {
            forgotten: record.serial,
            applies: Vec::new(),
        };
        assert_eq!(record.history, history);
    }

    #[test]
    fn nobody_else_can_read_what_is_written() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        store.begin_apply(&lock, &intent()).unwrap();
        let tree = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        store.save_host(&lock, &record("a", tree)).unwrap();
        let mut looked_at = 0;
        for entry in walkdir::WalkDir::new(&dir) {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            let expected = if entry.file_type().is_dir() {
                0o700
            } else {
                0o600
            };
            assert_eq!(mode, expected, "{}", entry.path().display());
            looked_at += 1;
        }
        // Three folders, the lock, the state, a tree, a host; nothing unfinished.
        assert_eq!(looked_at, 7);
    }

    #[test]
    fn manifest_keeps_what_each_writer_knew() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        let digest = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        let before = contents(&dir);
        store.save_tree(&lock, &tree(b"x", Some(9))).unwrap();
        let after = contents(&dir);
        assert_ne!(after, before);
        // Knowing less, or in another process, takes nothing away and writes nothing.
        store.save_tree(&lock, &tree(b"x", None)).unwrap();
        let other = StateStore::open(&dir).unwrap();
        let path = other.tree_path(&digest);
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        other.save_tree(&lock, &tree(b"x", None)).unwrap();
        other.save_tree(&lock, &tree(b"x", Some(9))).unwrap();
        assert_eq!(contents(&dir), after);
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);
        assert_eq!(*store.tree(&digest).unwrap(), tree(b"x", Some(9)));
        assert_eq!(*other.tree(&digest).unwrap(), tree(b"x", Some(9)));
    }

    #[test]
    fn hosts_share_one_tree_in_memory() {
        let Folder {
            lock,
            store,
            dir: _,
            temp: _temp,
        } = folder();
        let digest = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        let (one, other) = (store.tree(&digest).unwrap(), store.tree(&digest).unwrap());
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[test]
    fn manifest_under_another_name_is_refused() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        let digest = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        let wrong = Blake3::of(b"wrong");
        fs::copy(store.tree_path(&digest), store.tree_path(&wrong)).unwrap();
        for asked in [wrong, Blake3::of(b"missing")] {
            let error = StateStore::open(&dir).unwrap().tree(&asked).unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{error:?}");
            assert!(error.to_string().contains(&asked.to_string()), "{error}");
        }
    }

    #[test]
    fn damaged_manifest_is_written_afresh_by_who_knows_the_tree() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        let digest = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        fs::write(store.tree_path(&digest), "{").unwrap();
        let store = StateStore::open(&dir).unwrap();
        assert!(store.tree(&digest).is_err());
        store.save_tree(&lock, &tree(b"x", None)).unwrap();
        assert_eq!(*store.tree(&digest).unwrap(), tree(b"x", None));
    }

    #[test]
    fn altered_or_cut_files_never_panic() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        store.begin_apply(&lock, &intent()).unwrap();
        let known = tree(b"x", Some(1));
        let digest = store.save_tree(&lock, &known).unwrap();
        let host = HostId::new("a");
        store.save_host(&lock, &record("a", digest)).unwrap();
        for name in ["state.json", "hosts/a.json"] {
            let path = dir.join(name);
            let bytes = fs::read(&path).unwrap();
            for at in (0..bytes.len()).step_by(7) {
                let mut altered = bytes.clone();
                altered[at] ^= 0x15;
                for bad in [&altered[..], &bytes[..at]] {
                    fs::write(&path, bad).unwrap();
                    // A digest that still reads names no tree, or the right one.
                    if let Ok(store) = StateStore::open(&dir)
                        && let Ok(Some(record)) = store.host(&host)
                        && let Ok(tree) = store.tree(&record.mappings[0].tree)
                    {
                        assert_eq!(*tree, known);
                    }
                }
                let cut = StateStore::open(&dir).and_then(|store| store.host(&host));
                let error = cut.expect_err("cut short");
                assert!(matches!(error, StateError::Damaged { .. }), "{error:?}");
                assert!(error.to_string().contains(name), "{error}");
            }
            fs::write(&path, &bytes).unwrap();
        }
        assert_eq!(
            StateStore::open(&dir).unwrap().host(&host).unwrap(),
            Some(record("a", digest))
        );
    }

    #[test]
    fn files_of_a_newer_version_are_refused_and_left_alone() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        store.begin_apply(&lock, &intent()).unwrap();
        let digest = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        store.save_host(&lock, &record("a", digest)).unwrap();
        for path in contents(&dir)
            .into_keys()
            .filter(|path| path.extension().is_some())
        {
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace("\"1.0\"", "\"2.0\"")).unwrap();
        }
        let before = contents(&dir);

        let host = HostId::new("a");
        let record = record("a", digest);
        let fresh = StateStore {
            dir: dir.clone(),
            identity: None,
            runs: Runs::default(),
            trees: Mutex::default(),
        };
        let outcomes = [
            StateStore::open(&dir).map(drop),
            store.begin_apply(&lock, &intent()).map(drop),
            store.host(&host).map(drop),
            fresh.tree(&digest).map(drop),
            fresh.save_tree(&lock, &tree(b"x", Some(1))).map(drop),
            store.save_host(&lock, &record).map(drop),
            store.forget_host(&lock, &host).map(drop),
            store.remove_unused_trees(&lock).map(drop),
        ];
        for outcome in outcomes {
            let error = outcome.unwrap_err();
            assert!(
                matches!(error, StateError::UnknownVersion { .. }),
                "{error:?}"
            );
            assert!(error.to_string().contains("2.0"), "{error}");
        }
        assert_eq!(contents(&dir), before);
    }

    #[test]
    fn lost_identity_beside_records_is_damage_not_a_new_state() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        store.begin_apply(&lock, &intent()).unwrap();
        store
            .save_host(&lock, &record("a", Blake3::of(b"")))
            .unwrap();
        fs::remove_file(dir.join("state.json")).unwrap();
        assert!(matches!(
            StateStore::open(&dir),
            Err(StateError::Damaged { .. })
        ));
        assert!(store.begin_apply(&lock, &intent()).is_err());
        assert!(!dir.join("state.json").exists());
    }

    #[test]
    fn only_trees_that_no_host_has_are_removed() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        let used = store.save_tree(&lock, &tree(b"x", None)).unwrap();
        let unused = store.save_tree(&lock, &tree(b"y", None)).unwrap();
        store.save_host(&lock, &record("a", used)).unwrap();
        fs::write(dir.join("trees/notes.json"), "mine").unwrap();

        assert_eq!(store.remove_unused_trees(&lock).unwrap(), 1);
        assert!(store.tree(&used).is_ok());
        assert!(store.tree(&unused).is_err());
        assert!(dir.join("trees/notes.json").exists());
        // And it can come back.
        store.save_tree(&lock, &tree(b"y", None)).unwrap();
        assert!(store.tree(&unused).is_ok());
    }

    #[test]
    fn no_tree_is_removed_while_a_record_cannot_be_read() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        let unused = store.save_tree(&lock, &tree(b"y", None)).unwrap();
        fs::create_dir_all(dir.join("hosts")).unwrap();
        fs::write(dir.join("hosts/a.json"), "{").unwrap();
        assert!(store.remove_unused_trees(&lock).is_err());
        assert!(store.tree_path(&unused).exists());
    }

    #[test]
    fn record_copied_to_another_host_is_refused() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        store
            .save_host(&lock, &record("a", Blake3::of(b"")))
            .unwrap();
        fs::copy(dir.join("hosts/a.json"), dir.join("hosts/b.json")).unwrap();
        let error = store.host(&HostId::new("b")).unwrap_err();
        assert!(error.to_string().contains("record of `a`"), "{error}");
    }

    #[test]
    fn what_a_killed_run_left_unfinished_is_removed_by_the_next_apply() {
        let Folder {
            dir,
            lock,
            mut store,
            temp: _temp,
        } = folder();
        fs::create_dir_all(dir.join("hosts")).unwrap();
        fs::write(dir.join("hosts/.new-abc"), "{").unwrap();
        store.begin_apply(&lock, &intent()).unwrap();
        assert!(!dir.join("hosts/.new-abc").exists());
    }

    #[test]
    fn file_that_cannot_be_replaced_is_an_error_that_names_it() {
        let Folder {
            dir,
            lock,
            store,
            temp: _temp,
        } = folder();
        // Works for root too, unlike permission bits.
        fs::create_dir_all(dir.join("hosts/a.json")).unwrap();
        let error = store
            .save_host(&lock, &record("a", Blake3::of(b"")))
            .unwrap_err();
        assert!(matches!(error, StateError::Io { .. }), "{error:?}");
        assert!(error.to_string().contains("a.json"), "{error}");
        assert!(store.host(&HostId::new("a")).is_err());
    }
}
