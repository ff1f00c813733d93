//! Whatever stands in the files of the state. The first byte says in which of them.

#![cfg_attr(fuzzing, no_main)]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use hostsync::model::{Blake3, HostId};
use hostsync::state::{StateError, StateStore};
use hostsync_fuzz::{is_harmless, target};
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["hosts", "trees"] {
        fs::create_dir(folder.path().join(name)).expect("our folder");
    }
    folder
});

fn state(bytes: &[u8]) {
    let Some((which, bytes)) = bytes.split_first() else {
        return;
    };
    let digest = Blake3::of(b"");
    let name = match which {
        b's' => "state.json".to_owned(),
        b'h' => "hosts/h.json".to_owned(),
        _ => format!("trees/{digest}.json"),
    };
    let path: PathBuf = FOLDER.path().join(name);
    fs::write(&path, bytes).expect("our folder");
    let problem = read(&digest).err();
    fs::remove_file(&path).expect("it was just written");
    if let Some(error) = problem {
        let text = error.to_string();
        is_harmless(&text);
        assert!(text.len() <= 1024 + 16 * bytes.len(), "{text}");
    }
}

fn read(digest: &Blake3) -> Result<(), StateError> {
    let store = StateStore::open(FOLDER.path())?;
    store.host(&HostId::new("h"))?;
    let tree = store.tree(digest)?;
    // Entries are in their order, each of them once, whatever the file has.
    assert!(
        tree.entries()
            .is_sorted_by(|one, next| one.path < next.path)
    );
    Ok(())
}

target!(state);
