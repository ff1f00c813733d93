//! Tests of [`super`].

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
