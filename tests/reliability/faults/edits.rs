//! What people do to a folder, at random.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use crate::tree::{Contents, Found};

/// One thing that somebody does.
#[derive(Clone, Debug)]
pub(crate) enum Edit {
    /// Makes a file, or changes one.
    Write {
        at: At,
        size_bytes: usize,
        mode: u32,
        how: How,
    },
    /// Makes a folder.
    Folder {
        at: At,
        mode: u32,
    },
    /// Makes a symbolic link.
    Link {
        at: At,
        target: &'static str,
    },
    Remove {
        at: At,
    },
    /// Gives permission bits to a file or a folder.
    Chmod {
        at: At,
        mode: u32,
    },
    Rename {
        from: At,
        to: At,
    },
    /// Makes the same as there is elsewhere.
    Copy {
        entry: Index,
    },
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// Another file takes its place.
    Replaced,
    /// It is the same file as before.
    InPlace,
    /// It has the size and the time of before, too.
    Disguised,
}

/// Which entry.
#[derive(Clone, Debug)]
pub(crate) enum At {
    /// The folder itself.
    Root,
    /// Of this path, whether it is there or not.
    Path(PathBuf),
    /// Any that is there.
    Old(Index),
}

impl At {
    fn path(&self, there: &Contents) -> Option<PathBuf> {
        let below = || there.0.keys().filter(|path| path.as_os_str() != "");
        match self {
            Self::Root => Some(PathBuf::new()),
            Self::Path(path) => Some(path.clone()),
            Self::Old(_) if below().next().is_none() => None,
            Self::Old(index) => below().nth(index.index(below().count())).cloned(),
        }
    }
}

/// Any edit of a tree. `copies`: there is another one to copy from.
pub(crate) fn edit(copies: bool) -> impl Strategy<Value = Edit> {
    let at = || {
        prop_oneof![
            4 => path().prop_map(At::Path),
            4 => any::<Index>().prop_map(At::Old),
        ]
    };
    let with_root = prop_oneof![1 => Just(At::Root), 8 => at()];
    let how = select(&[How::Replaced, How::InPlace, How::Disguised][..]);
    let sizes = &[0, 60, 60, 700, 700, 9_000, 9_000, 70_000, 300_000][..];
    let write = (at(), select(sizes), file_mode(), how);
    let targets = &["a", "b", "../a", "../outside", "nowhere", "with space/x"][..];
    prop_oneof![
        8 => write.prop_map(|(at, size_bytes, mode, how)| Edit::Write { at, size_bytes, mode, how }),
        3 => (at(), folder_mode()).prop_map(|(at, mode)| Edit::Folder { at, mode }),
        3 => (at(), select(targets)).prop_map(|(at, target)| Edit::Link { at, target }),
        4 => at().prop_map(|at| Edit::Remove { at }),
        3 => (with_root, folder_mode()).prop_map(|(at, mode)| Edit::Chmod { at, mode }),
        3 => (at(), at()).prop_map(|(from, to)| Edit::Rename { from, to }),
        u32::from(copies) * 2 => any::<Index>().prop_map(|entry| Edit::Copy { entry }),
    ]
}

/// Few ordinary names, so that they meet, and some odd ones.
fn path() -> impl Strategy<Value = PathBuf> {
    const USUAL: &[&[u8]] = &[b"a", b"b", b"c", b"d.txt"];
    const ODD: &[&[u8]] = &[
        b"-rf",
        b"--",
        b"with space",
        b" at both ends ",
        b"it's",
        b"\"quoted\"",
        b"back\\slash\\",
        b"n\xff\xfe",
        b"\xc3\xa9t\xc3\xa9",
        b"*",
        b"$(touch x)`",
        b"tab\tand\rreturn",
        b".hidden",
        b"#!%n%s",
        b"owner",
    ];
    let name = prop_oneof![5 => select(USUAL), 2 => select(ODD)];
    let name = name.prop_map(|name| OsString::from_vec(name.to_vec()));
    vec(name, 1..=3).prop_map(|names| names.iter().collect())
}

fn file_mode() -> impl Strategy<Value = u32> {
    select(&[0o644, 0o644, 0o644, 0o600, 0o755, 0o400, 0o4755][..])
}

fn folder_mode() -> impl Strategy<Value = u32> {
    select(&[0o755, 0o755, 0o700, 0o775, 0o555, 0o500, 0o1777][..])
}

/// Somebody who never writes the same text twice.
#[derive(Debug)]
pub(crate) struct Author {
    name: &'static str,
    texts: usize,
}

impl Author {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { name, texts: 0 }
    }

    /// Does all this in a folder. What cannot be done is left out.
    pub(crate) fn edit(&mut self, folder: &Path, edits: &[Edit], other: &Contents) {
        for edit in edits {
            if !folder.is_dir() {
                fs::create_dir(folder).unwrap();
                chmod(folder, 0o755);
            }
            // Who is not root has to open closed folders first.
            let there = Contents::of(folder);
            let mut closed = Vec::new();
            for (path, found) in &there.0 {
                if let Found::Dir { mode } = found
                    && mode & 0o700 != 0o700
                {
                    chmod(&folder.join(path), mode | 0o700);
                    closed.push((path, *mode));
                }
            }
            self.do_it(folder, edit, &there, other);
            let after = Contents::of(folder);
            for (path, mode) in closed {
                let opened = Found::Dir { mode: mode | 0o700 };
                if after.0.get(path) == Some(&opened) {
                    chmod(&folder.join(path), mode);
                }
            }
        }
    }

    fn do_it(
        &mut self,
        folder: &Path,
        edit: &Edit,
        there: &Contents,
        other: &Contents,
    ) -> Option<()> {
        match edit {
            Edit::Write {
                at,
                size_bytes,
                mode,
                how,
            } => {
                let path = at.path(there)?;
                self.write(folder, &path, *size_bytes, *how);
                chmod(&folder.join(path), *mode);
            }
            Edit::Folder { at, mode } => {
                let path = at.path(there)?;
                make_folder(folder, &path);
                chmod(&folder.join(path), *mode);
            }
            Edit::Link { at, target } => {
                let path = make_room(folder, &at.path(there)?);
                symlink(target, path).unwrap();
            }
            Edit::Remove { at } => {
                // What is behind a link is not in this tree.
                let path = at.path(there).filter(|path| there.0.contains_key(path))?;
                remove(&folder.join(path));
            }
            Edit::Chmod { at, mode } => {
                let path = at.path(there).filter(|path| there.0.contains_key(path))?;
                let path = folder.join(path);
                if fs::symlink_metadata(&path).is_ok_and(|it| !it.is_symlink()) {
                    chmod(&path, *mode);
                }
            }
            Edit::Rename { from, to } => {
                let (from, to) = (from.path(there)?, to.path(there)?);
                if !from.starts_with(&to) && !to.starts_with(&from) && there.0.contains_key(&from) {
                    let to = make_room(folder, &to);
                    // Making room may have taken it away.
                    let _ = fs::rename(folder.join(from), to);
                }
            }
            Edit::Copy { entry } => {
                let path = At::Old(*entry).path(other)?;
                match &other.0[&path] {
                    Found::File { mode, bytes } => {
                        let path = make_room(folder, &path);
                        fs::write(&path, bytes).unwrap();
                        chmod(&path, *mode);
                    }
                    Found::Dir { mode } => {
                        make_folder(folder, &path);
                        chmod(&folder.join(path), *mode);
                    }
                    Found::Link { target } => {
                        let target = OsString::from_vec(target.clone());
                        symlink(target, make_room(folder, &path)).unwrap();
                    }
                }
            }
        }
        Some(())
    }

    fn write(&mut self, folder: &Path, path: &Path, size_bytes: usize, how: How) {
        make_folder(folder, path.parent().unwrap_or(Path::new("")));
        let full = folder.join(path);
        self.texts += 1;
        let label = format!("text {:06} of {}\n", self.texts, self.name);
        let text = |size_bytes| -> Vec<u8> { label.bytes().cycle().take(size_bytes).collect() };
        let old = fs::symlink_metadata(&full)
            .ok()
            .filter(fs::Metadata::is_file);
        if old.is_some() {
            chmod(&full, 0o600);
        }
        match (how, old) {
            (How::InPlace, Some(_)) => fs::write(&full, text(size_bytes)).unwrap(),
            // A text of some bytes is not the same as another one.
            (How::Disguised, Some(old)) if old.len() >= label.len() as u64 => {
                let size_bytes = usize::try_from(old.len()).unwrap();
                let mut file = fs::File::create(&full).unwrap();
                file.write_all(&text(size_bytes)).unwrap();
                file.set_modified(old.modified().unwrap()).unwrap();
            }
            _ => fs::write(make_room(folder, path), text(size_bytes)).unwrap(),
        }
    }
}

/// Takes away what is at a path, and makes the folders above it.
fn make_room(folder: &Path, path: &Path) -> PathBuf {
    let full = folder.join(path);
    make_folder(folder, path.parent().unwrap_or(Path::new("")));
    remove(&full);
    full
}

/// Makes folders in place of whatever is there.
fn make_folder(folder: &Path, path: &Path) {
    let mut at = folder.to_owned();
    for name in path {
        at.push(name);
        if !fs::symlink_metadata(&at).is_ok_and(|it| it.is_dir()) {
            remove(&at);
            fs::create_dir(&at).unwrap();
            chmod(&at, 0o755);
        }
    }
}

fn remove(path: &Path) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if metadata.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else {
        fs::remove_file(path).unwrap();
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}
