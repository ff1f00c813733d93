//! A small tree that has one of everything, in many generations, and what is found of it on a host.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use hostsync::model::{Meta, Node, Tree};
use sha2::{Digest as _, Sha256};

/// What is at a path.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Found {
    File { mode: u32, bytes: Vec<u8> },
    Dir { mode: u32 },
    Link { target: Vec<u8> },
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { mode, bytes } => {
                let line = bytes
                    .split(|byte| *byte == b'\n')
                    .next()
                    .unwrap_or_default();
                let (line, size) = (line.escape_ascii(), bytes.len());
                write!(f, "file {mode:04o} of {size} bytes: {line}")
            }
            Self::Dir { mode } => write!(f, "folder {mode:04o}"),
            Self::Link { target } => write!(f, "link to {}", target.escape_ascii()),
        }
    }
}

impl Found {
    /// Whether both are the same but for their permission bits.
    pub(crate) fn has_same_content(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File { bytes, .. }, Self::File { bytes: others, .. }) => bytes == others,
            (Self::Dir { .. }, Self::Dir { .. }) => true,
            _ => self == other,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self, Self::Dir { .. })
    }

    /// Whether both are of the same kind.
    fn is_like(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// Whether this is what the state has.
    fn is(&self, node: &Node) -> bool {
        match (self, node) {
            (
                Self::File { mode, bytes },
                Node::File {
                    size_bytes,
                    meta: Meta { mode: recorded },
                    digest,
                },
            ) => {
                let blake3 = digest.blake3.map(|digest| *digest.as_bytes());
                let sha256 = digest.sha256.map(|digest| *digest.as_bytes());
                *mode == recorded.bits()
                    && *size_bytes == bytes.len() as u64
                    && (blake3.is_some() || sha256.is_some())
                    && blake3.is_none_or(|digest| digest == *blake3::hash(bytes).as_bytes())
                    && sha256.is_none_or(|digest| digest == *Sha256::digest(bytes))
            }
            (
                Self::Dir { mode },
                Node::Dir {
                    meta: Meta { mode: recorded },
                },
            ) => *mode == recorded.bits(),
            (Self::Link { target }, Node::Symlink { target: recorded }) => **target == **recorded,
            _ => false,
        }
    }
}

/// Everything below a folder, with the folder itself as the empty path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents(pub(crate) BTreeMap<PathBuf, Found>);

impl Contents {
    /// What is there; nothing where nothing is.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut this = Self::default();
        this.add(folder, PathBuf::new());
        this
    }

    fn add(&mut self, path: &Path, name: PathBuf) {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return;
        };
        let mode = metadata.permissions().mode() & 0o7777;
        let found = if metadata.is_symlink() {
            let target = fs::read_link(path).unwrap();
            Found::Link {
                target: target.as_os_str().as_bytes().to_vec(),
            }
        } else if metadata.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                let entry = entry.unwrap();
                self.add(&entry.path(), name.join(entry.file_name()));
            }
            Found::Dir { mode }
        } else {
            let bytes = fs::read(path).unwrap();
            Found::File { mode, bytes }
        };
        self.0.insert(name, found);
    }

    /// Fails unless every entry is whole and is that of `old` or that of `new`. One that changes its kind
    /// may be missing.
    pub(crate) fn assert_old_or_new(&self, old: &Self, new: &Self, case: &str) {
        let paths: BTreeSet<&PathBuf> =
            [self, old, new].iter().flat_map(|it| it.0.keys()).collect();
        for path in paths {
            let (found, old, new) = (self.0.get(path), old.0.get(path), new.0.get(path));
            let changes_kind = matches!((old, new), (Some(old), Some(new)) if !old.is_like(new));
            assert!(
                found == old || found == new || (changes_kind && found.is_none()),
                "{case}: {path:?} is neither old nor new: {found:?}"
            );
        }
    }

    /// Fails unless all contents and targets of `old` that are not in place are in `backups`.
    pub(crate) fn assert_nothing_lost(&self, old: &Self, backups: &Self, case: &str) {
        for (path, found) in &old.0 {
            if found.is_dir() || self.0.get(path) == Some(found) {
                continue;
            }
            let has_it = |kept: &Found| found.has_same_content(kept);
            let in_place = self.0.get(path).is_some_and(has_it);
            assert!(
                in_place || backups.0.values().any(has_it),
                "{case}: what {path:?} was is neither in place nor in a backup"
            );
        }
    }

    /// Whether these are exactly the entries that the state has.
    pub(crate) fn are(&self, tree: &Tree) -> bool {
        self.0.len() == tree.len()
            && tree.entries().iter().all(|entry| {
                let path = Path::new(OsStr::from_bytes(entry.path.as_bytes()));
                self.0.get(path).is_some_and(|found| found.is(&entry.node))
            })
    }

    /// Staging folders, below a folder of ours, that a run has signed.
    pub(crate) fn signed_runs(&self) -> Vec<&PathBuf> {
        let is_signed = |path: &&PathBuf| {
            let top = path.iter().next().unwrap_or_default();
            top.as_bytes().starts_with(b"run-") && path.ends_with("owner")
        };
        self.0.keys().filter(is_signed).collect()
    }
}

/// Writes a generation of the tree. From each to the next, files are new, changed and gone, one changes
/// its permission bits, one changes these and its content, links point elsewhere, and a file, a folder
/// and a link change their kinds.
pub(crate) fn write_generation(folder: &Path, generation: usize) {
    let is_even = generation.is_multiple_of(2);
    if folder.exists() {
        fs::remove_dir_all(folder).unwrap();
    }
    fs::create_dir(folder).unwrap();
    chmod(folder, 0o755);
    let write = |path: &str, mode: u32, size_bytes: usize, generation: usize| {
        let path_on_disk = folder.join(path);
        let parent = path_on_disk.parent().unwrap();
        if !parent.exists() {
            fs::create_dir_all(parent).unwrap();
            chmod(parent, 0o755);
        }
        fs::write(&path_on_disk, text(path, generation, size_bytes)).unwrap();
        chmod(&path_on_disk, mode);
    };
    write("stays.txt", 0o644, 700, 0);
    write("bits.sh", if is_even { 0o644 } else { 0o755 }, 300, 0);
    write("updated.txt", 0o644, 9_000, generation);
    write("folder/updated too.txt", 0o600, 2_000, generation);
    write(
        "both.sh",
        if is_even { 0o640 } else { 0o755 },
        500,
        generation,
    );
    write(
        &format!("of {generation} alone.txt"),
        0o644,
        400,
        generation,
    );
    let new_folder = format!("folder of {generation}");
    write(
        &format!("{new_folder}/deep/first.txt"),
        0o644,
        6_000,
        generation,
    );
    write(
        &format!("{new_folder}/second.txt"),
        0o644,
        1_500,
        generation,
    );
    symlink("stays.txt", folder.join("link")).unwrap();
    let target = format!("of {generation} alone.txt");
    symlink(target, folder.join("folder/moving link")).unwrap();
    if is_even {
        write("kind", 0o644, 800, generation);
        write("other kind/inside.txt", 0o644, 600, generation);
        symlink("stays.txt", folder.join("third kind")).unwrap();
    } else {
        write("kind/inside.txt", 0o644, 600, generation);
        symlink("folder", folder.join("other kind")).unwrap();
        write("third kind", 0o644, 800, generation);
    }
}

/// A text that no other file of any generation has.
fn text(path: &str, generation: usize, size_bytes: usize) -> Vec<u8> {
    let line = format!("{path}, generation {generation}\n");
    line.into_bytes()
        .into_iter()
        .cycle()
        .take(size_bytes)
        .collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
