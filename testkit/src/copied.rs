//! What a folder holds, to be compared.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// All of a file or folder: by path below it, what is there.
#[derive(Clone, PartialEq, Eq)]
pub struct Contents(BTreeMap<String, Entry>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Entry {
    Dir {
        mode: u32,
    },
    File {
        mode: u32,
        mtime: i64,
        bytes: Vec<u8>,
    },
    Symlink {
        target: Vec<u8>,
    },
    Other,
}

impl Contents {
    /// Reads everything at and below `path`; nothing where nothing is.
    pub fn of(path: &Path) -> Self {
        let mut entries = BTreeMap::new();
        read(path, String::new(), &mut entries);
        Self(entries)
    }

    /// The paths, escaped where they are not plain ASCII; the root is the empty one.
    pub fn paths(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// Whether any file holds these bytes, and which.
    pub fn files_with(&self, needle: &[u8]) -> Vec<&str> {
        let holds = |entry: &Entry| match entry {
            Entry::File { bytes, .. } => bytes.windows(needle.len()).any(|part| part == needle),
            _ => false,
        };
        let files = self.0.iter().filter(|(_, entry)| holds(entry));
        files.map(|(path, _)| path.as_str()).collect()
    }

    /// In which ways `other` differs, one line each.
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let mut lines = Vec::new();
        for (path, entry) in &self.0 {
            match other.0.get(path) {
                None => lines.push(format!("{path}: {entry} is missing")),
                Some(found) if found != entry => {
                    lines.push(format!("{path}: {entry} is {found}"));
                }
                Some(_) => {}
            }
        }
        let surplus = other
            .0
            .iter()
            .filter(|(path, _)| !self.0.contains_key(*path));
        lines.extend(surplus.map(|(path, entry)| format!("{path}: {entry} is there as well")));
        lines
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(self.0.iter().map(|(path, entry)| (path, entry.to_string())))
            .finish()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dir { mode } => write!(f, "folder {mode:o}"),
            Self::File { mode, mtime, bytes } => {
                let start = bytes[..bytes.len().min(30)].escape_ascii();
                write!(
                    f,
                    "file {mode:o} of {mtime}, {} bytes `{start}`",
                    bytes.len()
                )
            }
            Self::Symlink { target } => write!(f, "link to {}", target.escape_ascii()),
            Self::Other => f.write_str("something else"),
        }
    }
}

fn read(path: &Path, name: String, entries: &mut BTreeMap<String, Entry>) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    let mode = metadata.mode() & 0o7777;
    let entry = if metadata.is_symlink() {
        let target = fs::read_link(path).expect("a link");
        Entry::Symlink {
            target: target.as_os_str().as_bytes().to_vec(),
        }
    } else if metadata.is_file() {
        Entry::File {
            mode,
            mtime: metadata.mtime(),
            bytes: fs::read(path).expect("a file that root may read"),
        }
    } else if metadata.is_dir() {
        for child in fs::read_dir(path).expect("a folder") {
            let child = child.expect("an entry").file_name();
            let below = format!("{name}/{}", child.as_bytes().escape_ascii());
            read(&path.join(&child), below, entries);
        }
        Entry::Dir { mode }
    } else {
        Entry::Other
    };
    entries.insert(name, entry);
}

/// Fails unless the host has what the source has: bytes, modes, the times of files, link targets,
/// and nothing else.
#[track_caller]
pub fn assert_same(source: &Path, copy: &Path) {
    let differences = Contents::of(source).differences(&Contents::of(copy));
    assert!(
        differences.is_empty(),
        "{} is not what {} is:\n{}",
        copy.display(),
        source.display(),
        differences.join("\n")
    );
}

/// Fails unless nothing has moved since `before` was read.
#[track_caller]
pub fn assert_untouched(before: &Contents, path: &Path) {
    let differences = before.differences(&Contents::of(path));
    assert!(
        differences.is_empty(),
        "{} was touched:\n{}",
        path.display(),
        differences.join("\n")
    );
}
