//! Trees of some two hundred entries that chance makes and changes, and what is found of them on a host.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use crate::chance::Chance;

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    File { mode: u32, text: String },
    Dir { mode: u32 },
    Link { target: String },
}

impl Entry {
    fn is_dir(&self) -> bool {
        matches!(self, Self::Dir { .. })
    }

    /// Whether this may be what `other` is on the way: a folder is open for a while.
    fn passes_for(&self, other: &Self) -> bool {
        self == other || self.is_dir() && other.is_dir()
    }

    fn is_of_the_kind_of(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }

    /// What of it must not be lost.
    fn content(&self) -> Option<&str> {
        match self {
            Self::File { text, .. } => Some(text),
            Self::Link { target } => Some(target),
            Self::Dir { .. } => None,
        }
    }
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { mode, text } => {
                let start: String = text.chars().take(30).collect();
                write!(f, "file {mode:o} of {} bytes {start:?}", text.len())
            }
            Self::Dir { mode } => write!(f, "folder {mode:o}"),
            Self::Link { target } => write!(f, "link to {target}"),
        }
    }
}

/// All entries by path; the root is the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(BTreeMap<String, Entry>);

const FILE_MODES: [u32; 4] = [0o644, 0o600, 0o755, 0o444];
const DIR_MODES: [u32; 4] = [0o755, 0o700, 0o555, 0o500];

impl Tree {
    /// A tree of about `size` entries.
    pub(crate) fn random(chance: &mut Chance, size: usize) -> Self {
        let root = Entry::Dir { mode: 0o755 };
        let mut this = Self(BTreeMap::from([(String::new(), root)]));
        while this.0.len() < size {
            this.grow(chance);
        }
        this
    }

    /// Changes some of its entries in every way in which one can.
    pub(crate) fn change(&mut self, chance: &mut Chance) {
        let size = self.0.len();
        for _ in 0..10 + chance.below(50) {
            let path = self.pick(chance, |_| true);
            match chance.below(12) {
                0..=3 => self.rewrite(chance, &path),
                4 | 5 => self.set_mode(chance, &path),
                6 | 7 => self.grow(chance),
                8 | 9 => self.remove(&path),
                _ => {
                    self.remove(&path);
                    self.put(chance, &path);
                }
            }
        }
        while self.0.len() < size {
            self.grow(chance);
        }
    }

    /// The same, but folders stay what they are: what somebody else puts into one is not in the way.
    pub(crate) fn change_around_folders(&mut self, chance: &mut Chance) {
        for _ in 0..10 + chance.below(50) {
            let path = self.pick(chance, |entry| !entry.is_dir());
            match chance.below(8) {
                0..=4 => self.rewrite(chance, &path),
                5 => self.set_mode(chance, &path),
                6 => self.grow(chance),
                _ => self.remove(&path),
            }
        }
    }

    /// Gives some of its files other contents, and changes nothing else.
    pub(crate) fn rewrite_some(&mut self, chance: &mut Chance) {
        for _ in 0..10 + chance.below(50) {
            let path = self.pick(chance, |entry| matches!(entry, Entry::File { .. }));
            self.rewrite(chance, &path);
        }
    }

    /// Some path but the root.
    fn pick(&self, chance: &mut Chance, is_wanted: impl Fn(&Entry) -> bool) -> String {
        let wanted = self.0.iter().skip(1).filter(|(_, entry)| is_wanted(entry));
        let paths: Vec<_> = wanted.map(|(path, _)| path).collect();
        (*chance.pick(&paths)).clone()
    }

    fn grow(&mut self, chance: &mut Chance) {
        let is_near = |(path, entry): &(&String, &Entry)| entry.is_dir() && path.len() < 40;
        let folders = self.0.iter().filter(is_near).map(|(path, _)| path);
        let folders: Vec<_> = folders.collect();
        let folder = *chance.pick(&folders);
        let separator = if folder.is_empty() { "" } else { "/" };
        let path = format!("{folder}{separator}{}", name(chance));
        if !self.0.contains_key(&path) {
            self.put(chance, &path);
        }
    }

    /// Puts something where nothing is.
    fn put(&mut self, chance: &mut Chance, path: &str) {
        if self.0.contains_key(path) {
            return;
        }
        let entry = match chance.below(10) {
            0 => Entry::Link {
                target: name(chance),
            },
            1 | 2 => Entry::Dir {
                mode: *chance.pick(&DIR_MODES),
            },
            _ => Entry::File {
                mode: *chance.pick(&FILE_MODES),
                text: text(chance),
            },
        };
        let is_folder = entry.is_dir();
        self.0.insert(path.to_owned(), entry);
        if is_folder {
            for _ in 0..chance.below(4) {
                let path = format!("{path}/{}", name(chance));
                self.put(chance, &path);
            }
        }
    }

    fn rewrite(&mut self, chance: &mut Chance, path: &str) {
        match self.0.get_mut(path) {
            Some(Entry::File { text: is, .. }) => *is = text(chance),
            Some(Entry::Link { target }) => *target = name(chance),
            _ => {}
        }
    }

    fn set_mode(&mut self, chance: &mut Chance, path: &str) {
        match self.0.get_mut(path) {
            Some(Entry::File { mode, .. }) => *mode = *chance.pick(&FILE_MODES),
            Some(Entry::Dir { mode }) => *mode = *chance.pick(&DIR_MODES),
            _ => {}
        }
    }

    fn remove(&mut self, path: &str) {
        let below = format!("{path}/");
        self.0.retain(|it, _| it != path && !it.starts_with(&below));
    }

    /// Makes a folder hold exactly this.
    pub(crate) fn write(&self, folder: &Path) {
        if folder.exists() {
            fs::remove_dir_all(folder).expect("ours");
        }
        for (path, entry) in &self.0 {
            let path = folder.join(path);
            match entry {
                Entry::File { mode, text } => {
                    fs::write(&path, text).expect("ours");
                    chmod(&path, *mode);
                }
                Entry::Dir { .. } => fs::create_dir(&path).expect("ours"),
                Entry::Link { target } => symlink(target, &path).expect("ours"),
            }
        }
        // From the deepest up: then they may be closed.
        for (path, entry) in self.0.iter().rev() {
            if let Entry::Dir { mode } = entry {
                chmod(&folder.join(path), *mode);
            }
        }
    }

    /// What is in a folder, which may be changing meanwhile. What goes while one looks is not there.
    pub(crate) fn of(folder: &Path) -> Self {
        let mut this = Self::default();
        this.add(folder, String::new());
        this
    }

    fn add(&mut self, path: &Path, name: String) {
        let Ok(metadata) = fs::symlink_metadata(path) else {
            return;
        };
        let entry = if metadata.is_symlink() {
            let Ok(target) = fs::read_link(path) else {
                return;
            };
            let target = target.to_string_lossy().into_owned();
            Entry::Link { target }
        } else {
            // Content and permission bits of one file, whatever is renamed over it now.
            let mut options = File::options();
            options.read(true);
            options.custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed());
            let opened = options.open(path);
            let Ok((mut file, metadata)) =
                opened.and_then(|file| file.metadata().map(|metadata| (file, metadata)))
            else {
                return;
            };
            let mode = metadata.permissions().mode() & 0o7777;
            if metadata.is_dir() {
                for below in fs::read_dir(path).into_iter().flatten().flatten() {
                    let below_name = below.file_name().to_string_lossy().into_owned();
                    let separator = if name.is_empty() { "" } else { "/" };
                    self.add(&below.path(), format!("{name}{separator}{below_name}"));
                }
                Entry::Dir { mode }
            } else {
                let mut text = String::new();
                file.read_to_string(&mut text).expect("it is open");
                Entry::File { mode, text }
            }
        };
        self.0.insert(name, entry);
    }

    /// Fails unless every entry is whole and one of those that it may be. One that changes its kind may
    /// be missing.
    #[track_caller]
    pub(crate) fn assert_whole(&self, may_be: &[&Self], case: &str) {
        for path in Self::paths_of(may_be.iter().chain([&self]).copied()) {
            let found = self.0.get(path);
            let candidates: Vec<_> = may_be.iter().map(|tree| tree.0.get(path)).collect();
            let is_expected = match found {
                Some(found) => candidates
                    .iter()
                    .flatten()
                    .any(|candidate| found.passes_for(candidate)),
                None => {
                    candidates.contains(&None)
                        || candidates
                            .iter()
                            .flatten()
                            .zip(candidates.iter().flatten().skip(1))
                            .any(|(one, next)| !one.is_of_the_kind_of(next))
                }
            };
            assert!(
                is_expected,
                "{case}: {path} is {}, and may be {}",
                shown(found),
                candidates
                    .iter()
                    .map(|it| shown(*it))
                    .collect::<Vec<_>>()
                    .join(", or ")
            );
        }
    }

    /// Fails unless all contents and targets of `before` are in place, or among those that were kept.
    #[track_caller]
    pub(crate) fn assert_nothing_lost(&self, before: &Self, kept: &BTreeSet<String>, case: &str) {
        for (path, entry) in &before.0 {
            let Some(content) = entry.content() else {
                continue;
            };
            let is_in_place =
                |it: &Entry| it.is_of_the_kind_of(entry) && it.content() == Some(content);
            assert!(
                self.0.get(path).is_some_and(is_in_place) || kept.contains(content),
                "{case}: what {path} was is neither in place nor in a backup: {entry}"
            );
        }
    }

    /// Fails unless both are the same.
    #[track_caller]
    pub(crate) fn assert_is(&self, wanted: &Self, case: &str) {
        let differences = self.differences(wanted);
        assert!(
            differences.is_empty(),
            "{case}: not what is wanted:\n{}",
            differences.join("\n")
        );
    }

    /// In which entries this is not as wanted, a line for each.
    pub(crate) fn differences(&self, wanted: &Self) -> Vec<String> {
        Self::paths_of([self, wanted])
            .into_iter()
            .map(|path| (path, self.0.get(path), wanted.0.get(path)))
            .filter(|(_, found, wanted)| found != wanted)
            .map(|(path, found, wanted)| {
                format!("{path} is {}, not {}", shown(found), shown(wanted))
            })
            .collect()
    }

    /// What somebody who came from `base` and wants this has not got done, a line for each entry. What
    /// was to go may stay if somebody else has changed it.
    pub(crate) fn missing_in(&self, found: &Self, base: &Self) -> Vec<String> {
        let is_missing = |path: &&String| {
            let [wanted, found, base] = [self, found, base].map(|tree| tree.0.get(*path));
            match wanted {
                Some(_) => wanted != base && wanted != found,
                None => base.is_some_and(|base| !base.is_dir()) && found == base,
            }
        };
        Self::paths_of([self, base])
            .into_iter()
            .filter(is_missing)
            .map(|path| format!("{path} is {}", shown(found.0.get(path))))
            .collect()
    }

    /// Contents and targets.
    pub(crate) fn contents(&self) -> BTreeSet<String> {
        let contents = self.0.values().filter_map(Entry::content);
        contents.map(str::to_owned).collect()
    }

    fn paths_of<'a>(trees: impl IntoIterator<Item = &'a Self>) -> BTreeSet<&'a String> {
        trees.into_iter().flat_map(|tree| tree.0.keys()).collect()
    }
}

fn shown(entry: Option<&Entry>) -> String {
    entry.map_or_else(|| "missing".to_owned(), Entry::to_string)
}

/// One of a few, so that the same come again in another role.
fn name(chance: &mut Chance) -> String {
    let names = ["a", "conf", "b c", "run", "ä", "x.sh"];
    format!("{}{}", chance.pick(&names), chance.below(40))
}

/// A text that no other file has.
fn text(chance: &mut Chance) -> String {
    let line = format!("{:016x}\n", chance.next());
    match chance.below(40) {
        0 => line.repeat(6000),
        1..=8 => line.repeat(100),
        _ => line.repeat(1 + chance.below(10)),
    }
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("ours");
}
