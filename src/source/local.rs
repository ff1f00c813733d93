//! Reading local sources: each one once, however many hosts use it.
//!
//! First the folders are listed, then their entries are looked at, then the content of files is read
//! unless the cache knows it: each file once, however many sources hold it. The last two steps use
//! all cores.

use std::collections::HashMap;
use std::fs::{self, FileType, Metadata};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use rayon::prelude::*;
use walkdir::WalkDir;

use super::cache::{HashCache, Known};
use super::content::{Content, LARGE_BYTES, Reading, Stamp};
use crate::config::{Excludes, SymlinkPolicy};
use crate::model::{
    ContentDigest, Entry, Event, HostError, LocalPath, Meta, Mode, Node, Observer, RelPath, Tree,
};

/// Shortest time between two events about progress.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// A source and how it is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// The file or folder. Where it is a symbolic link, what that points to is meant, whatever
    /// `symlinks` says: `src` names the thing itself.
    pub root: LocalPath,
    /// What is left out.
    pub exclude: Excludes,
    /// What happens to symbolic links.
    pub symlinks: SymlinkPolicy,
}

/// An entry that cannot be sent. It is not in the tree, nor is anything below it; but a folder that
/// cannot be listed is, without what it holds. So what a host has at this path or below may well be
/// in the source, and is not to be taken for gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProblem {
    /// Where, relative to the source; the part up to the name that is wrong.
    pub path: RelPath,
    /// Why, for people: small first letter, no dot at the end.
    pub reason: String,
}

/// A source as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceTree {
    /// The file or folder.
    pub root: LocalPath,
    /// Its entries. Files have their blake3 digest and, if it was asked for, their sha256 digest.
    pub tree: Tree,
    /// Modification times in whole seconds since 1970, one for each entry of `tree`, in its order.
    pub mtimes: Vec<i64>,
    /// What had to be left out.
    pub problems: Vec<EntryProblem>,
}

/// A source that cannot be read at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("cannot read source {path}: {reason}")]
#[diagnostic(code(hostsync::scan::source), help("check `src` of this mapping"))]
pub struct SourceError {
    /// The source.
    pub path: String,
    /// What the system said.
    pub reason: String,
}

impl From<&SourceError> for HostError {
    fn from(error: &SourceError) -> Self {
        Self::of(error, false)
    }
}

/// Reads all sources, hashing files in parallel. The results are in the order of `specs`.
///
/// `cache_dir` is where digests of unchanged files are kept between runs; a cache that is damaged or
/// cannot be written costs time, never the result. A problem of the source itself, not of an entry
/// below it, is the error of that source; the others are read all the same.
pub fn scan(
    specs: &[SourceSpec],
    with_sha256: bool,
    cache_dir: Option<&Path>,
    observer: &dyn Observer,
) -> Vec<Result<SourceTree, SourceError>> {
    scan_by_clock(specs, with_sha256, cache_dir, observer, SystemTime::now)
}

/// [`scan`], with something else to tell the time when it comes to trusting a stat tuple.
fn scan_by_clock(
    specs: &[SourceSpec],
    with_sha256: bool,
    cache_dir: Option<&Path>,
    observer: &dyn Observer,
    clock: fn() -> SystemTime,
) -> Vec<Result<SourceTree, SourceError>> {
    let started = Instant::now();
    let (distinct, index_of) = distinct_specs(specs);
    observer.event(&Event::LocalScanStarted {
        sources: distinct.len(),
    });
    let meter = Meter::new(observer);
    let cache = cache_dir.map(HashCache::load);
    let sources: Vec<_> = distinct.par_iter().map(|spec| list(spec)).collect();
    let files: Vec<_> = sources
        .iter()
        .flatten()
        .flat_map(|source| source.files.iter().map(|file| (source.spec, file)))
        .collect();
    let reader = Reader {
        with_sha256,
        clock,
        cache: cache.as_ref(),
        meter: &meter,
    };
    let contents = reader.read_all(&files);
    if let Some(cache) = &cache {
        let roots = sources.iter().flatten();
        let roots = roots.map(|source| source.spec.root.as_path()).collect();
        cache.update(&worth_caching(&files, &contents), &roots);
    }

    let mut contents = contents.into_iter();
    let trees: Vec<_> = sources
        .into_iter()
        .map(|source| source?.into_tree(&mut contents, with_sha256))
        .collect();
    observer.event(&Event::LocalScanFinished {
        files: meter.files.load(Ordering::Relaxed),
        total_bytes: trees.iter().flatten().map(content_bytes).sum(),
        hashed_bytes: meter.hashed_bytes.load(Ordering::Relaxed),
        elapsed: started.elapsed(),
    });
    index_of
        .into_iter()
        .map(|index| trees[index].clone())
        .collect()
}

/// The specs without repetition, and for each of `specs` which of them it is.
fn distinct_specs(specs: &[SourceSpec]) -> (Vec<&SourceSpec>, Vec<usize>) {
    let mut distinct = Vec::new();
    let mut known = HashMap::new();
    let index_of = specs
        .iter()
        .map(|spec| {
            let key = (&spec.root, spec.exclude.patterns(), spec.symlinks);
            *known.entry(key).or_insert_with(|| {
                distinct.push(spec);
                distinct.len() - 1
            })
        })
        .collect();
    (distinct, index_of)
}

fn content_bytes(source: &SourceTree) -> u64 {
    let entries = source.tree.entries().iter();
    entries
        .map(|entry| match entry.node {
            Node::File { size_bytes, .. } => size_bytes,
            _ => 0,
        })
        .sum()
}

/// A source that was listed, and of which no file was read yet.
struct Listed<'a> {
    spec: &'a SourceSpec,
    files: Vec<ListedFile>,
    /// Folders and links, with their mtime.
    others: Vec<(Entry, i64)>,
    problems: Vec<EntryProblem>,
}

/// A file that was not read yet.
struct ListedFile {
    path: RelPath,
    stamp: Stamp,
    mode: Mode,
}

enum Found {
    File(ListedFile),
    Other(Entry, i64),
}

/// Lists a source and looks at everything in it.
fn list(spec: &SourceSpec) -> Result<Listed<'_>, SourceError> {
    let root = spec.root.as_path();
    let error = |reason: String| SourceError {
        path: spec.root.to_string(),
        reason,
    };
    let metadata = fs::metadata(root).map_err(|failure| error(failure.to_string()))?;
    let mut listed = Listed {
        spec,
        files: Vec::new(),
        others: Vec::new(),
        problems: Vec::new(),
    };
    let found = Found::new(root, RelPath::root(), &metadata);
    listed.add(found.map_err(|problem| error(problem.reason))?);
    if metadata.is_dir() {
        let names = list_names(spec, &mut listed.problems).map_err(error)?;
        let looked_at: Vec<_> = names
            .into_par_iter()
            .map(|(path, file_type)| look_at(spec, path, file_type))
            .collect();
        for found in looked_at {
            match found {
                Ok(found) => listed.add(found),
                Err(problem) => listed.problems.push(problem),
            }
        }
    }
    Ok(listed)
}

/// The paths below a root, in no order, without what is left out; an error is one of the root.
fn list_names(
    spec: &SourceSpec,
    problems: &mut Vec<EntryProblem>,
) -> Result<Vec<(RelPath, FileType)>, String> {
    let root = spec.root.as_path();
    let follow = spec.symlinks == SymlinkPolicy::Follow;
    let mut names = Vec::new();
    let mut walk = WalkDir::new(root)
        .min_depth(1)
        .follow_links(follow)
        .into_iter();
    while let Some(entry) = walk.next() {
        let path = match &entry {
            Ok(entry) => Some(entry.path()),
            Err(error) => error.path(),
        };
        let path = path
            .and_then(|path| path.strip_prefix(root).ok())
            .and_then(|path| RelPath::new(path.as_os_str().as_bytes()).ok())
            .filter(|path| !path.is_root());
        let entry = match (entry, path) {
            (Ok(entry), Some(path)) => Ok((entry.file_type(), path)),
            (Err(error), Some(path)) => Err((link_problem(&error), path)),
            // Of which folder the listing broke off is not known.
            (Err(error), None) => {
                return Err(error
                    .into_io_error()
                    .map_or_else(|| "it cannot be listed".to_owned(), |io| io.to_string()));
            }
            (Ok(_), None) => continue,
        };
        let (Ok((_, path)) | Err((_, path))) = &entry;
        let is_dir = entry
            .as_ref()
            .is_ok_and(|(file_type, _)| file_type.is_dir());
        let is_skipped_link = spec.symlinks == SymlinkPolicy::Skip
            && entry
                .as_ref()
                .is_ok_and(|(file_type, _)| file_type.is_symlink());
        let is_left_out = is_skipped_link || spec.exclude.excludes(path);
        let has_newline = path.file_name().contains(&b'\n');
        if (is_left_out || has_newline) && is_dir {
            walk.skip_current_dir();
        }
        if is_left_out {
            continue;
        }
        if has_newline {
            problems.push(EntryProblem {
                path: path.clone(),
                reason: "has a newline in its name, which cannot be sent".to_owned(),
            });
            continue;
        }
        match entry {
            Ok((file_type, path)) => names.push((path, file_type)),
            Err((reason, path)) => problems.push(EntryProblem { path, reason }),
        }
    }
    Ok(names)
}

fn link_problem(error: &walkdir::Error) -> String {
    if error.loop_ancestor().is_some() {
        return "is a link to a folder that it lies in".to_owned();
    }
    let is_link = error.path().is_some_and(Path::is_symlink);
    match error.io_error() {
        Some(io) if is_link && io.kind() == std::io::ErrorKind::NotFound => {
            "is a link to something that does not exist".to_owned()
        }
        Some(io) => format!("cannot be read: {io}"),
        None => "cannot be read".to_owned(),
    }
}

fn look_at(spec: &SourceSpec, path: RelPath, listed: FileType) -> Result<Found, EntryProblem> {
    let full = spec.root.join(&path);
    let full = full.as_path();
    let metadata = if spec.symlinks == SymlinkPolicy::Follow {
        fs::metadata(full)
    } else {
        fs::symlink_metadata(full)
    };
    match metadata {
        Ok(metadata) if metadata.file_type() == listed => Found::new(full, path, &metadata),
        Ok(_) => Err(EntryProblem {
            path,
            reason: "changed while it was read".to_owned(),
        }),
        Err(error) => Err(EntryProblem {
            path,
            reason: format!("cannot be read: {error}"),
        }),
    }
}

impl Found {
    fn new(full: &Path, path: RelPath, metadata: &Metadata) -> Result<Self, EntryProblem> {
        let file_type = metadata.file_type();
        let other = |node, path| Ok(Self::Other(Entry { path, node }, metadata.mtime()));
        let reason = if file_type.is_file() {
            return Ok(Self::File(ListedFile {
                path,
                stamp: Stamp::of(metadata),
                mode: Mode::new(metadata.mode()),
            }));
        } else if file_type.is_dir() {
            let mode = Mode::new(metadata.mode());
            return other(
                Node::Dir {
                    meta: Meta { mode },
                },
                path,
            );
        } else if file_type.is_symlink() {
            match fs::read_link(full).map(|target| target.into_os_string().into_vec()) {
                Ok(target) if target.contains(&b'\n') => {
                    "has a newline in its target, which cannot be sent".to_owned()
                }
                Ok(target) => {
                    let target = target.into();
                    return other(Node::Symlink { target }, path);
                }
                Err(error) => format!("cannot be read: {error}"),
            }
        } else if file_type.is_socket() {
            "is a socket, which cannot be sent".to_owned()
        } else if file_type.is_fifo() {
            "is a pipe, which cannot be sent".to_owned()
        } else {
            "is a device, which cannot be sent".to_owned()
        };
        Err(EntryProblem { path, reason })
    }
}

impl Listed<'_> {
    fn add(&mut self, found: Found) {
        match found {
            Found::File(file) => self.files.push(file),
            Found::Other(entry, mtime) => self.others.push((entry, mtime)),
        }
    }

    /// Takes as many of the contents as it has files.
    fn into_tree(
        self,
        contents: &mut impl Iterator<Item = Result<Content, String>>,
        with_sha256: bool,
    ) -> Result<SourceTree, SourceError> {
        let (mut entries, mut problems) = (self.others, self.problems);
        for (file, content) in self.files.into_iter().zip(contents) {
            let path = file.path;
            match content {
                Ok(content) => {
                    let node = content.into_node(with_sha256);
                    entries.push((Entry { path, node }, content.stamp.mtime.seconds));
                }
                Err(reason) => problems.push(EntryProblem { path, reason }),
            }
        }
        if let Some(problem) = problems.iter().find(|problem| problem.path.is_root()) {
            return Err(SourceError {
                path: self.spec.root.to_string(),
                reason: problem.reason.clone(),
            });
        }
        entries.par_sort_unstable_by(|(a, _), (b, _)| a.path.cmp(&b.path));
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        let (entries, mtimes): (Vec<_>, _) = entries.into_iter().unzip();
        Ok(SourceTree {
            root: self.spec.root.clone(),
            tree: Tree::from_entries(entries),
            mtimes,
            problems,
        })
    }
}

impl Content {
    /// Its sha256 digest only when it was asked for: the cache may know it, or not, by chance.
    fn into_node(self, with_sha256: bool) -> Node {
        Node::File {
            size_bytes: self.stamp.size_bytes,
            meta: Meta { mode: self.mode },
            digest: ContentDigest {
                sha256: self.digest.sha256.filter(|_| with_sha256),
                ..self.digest
            },
        }
    }
}

/// A file and the source that holds it.
type FileOf<'a> = (&'a SourceSpec, &'a ListedFile);

fn full_path((spec, file): FileOf<'_>) -> LocalPath {
    spec.root.join(&file.path)
}

/// What the next run should know.
fn worth_caching(
    files: &[FileOf<'_>],
    contents: &[Result<Content, String>],
) -> HashMap<Box<[u8]>, Known> {
    let read = files.iter().zip(contents);
    read.filter_map(|(&file, content)| {
        let content = content.as_ref().ok().filter(|it| it.may_be_cached)?;
        let known = Known {
            stamp: content.stamp,
            digest: content.digest,
        };
        let path = full_path(file);
        Some((path.as_path().as_os_str().as_bytes().into(), known))
    })
    .collect()
}

/// Reads what the cache does not know.
struct Reader<'a> {
    with_sha256: bool,
    clock: fn() -> SystemTime,
    cache: Option<&'a HashCache>,
    meter: &'a Meter<'a>,
}

impl Reader<'_> {
    /// The contents of `files`, in their order. A file that is there several times, by overlapping
    /// sources or hard links, is read once.
    fn read_all(&self, files: &[FileOf<'_>]) -> Vec<Result<Content, String>> {
        let mut firsts = Vec::new();
        let mut index_of_stamp = HashMap::with_capacity(files.len());
        let first_of: Vec<usize> = files
            .iter()
            .map(|&file| {
                *index_of_stamp.entry(file.1.stamp).or_insert_with(|| {
                    firsts.push(file);
                    firsts.len() - 1
                })
            })
            .collect();

        let is_large = |file: FileOf<'_>| file.1.stamp.size_bytes >= LARGE_BYTES;
        let mut contents: Vec<_> = firsts
            .par_iter()
            .map(|&file| match self.look_up(file) {
                None if is_large(file) => None,
                None => Some(self.read(file, false)),
                Some(known) => {
                    self.meter.add_file();
                    Some(Ok(known))
                }
            })
            .collect();
        // One after the other, each with all cores: there are few, and memory stays bounded.
        for (&file, content) in firsts.iter().zip(&mut contents) {
            content.get_or_insert_with(|| self.read(file, true));
        }

        let mut is_taken = vec![false; firsts.len()];
        files
            .iter()
            .zip(first_of)
            .map(|(&file, index)| {
                let is_first = !std::mem::replace(&mut is_taken[index], true);
                match &contents[index] {
                    Some(content) if is_first => content.clone(),
                    Some(Ok(content)) if content.stamp.is_same_inode(&file.1.stamp) => {
                        self.meter.add_file();
                        Ok(*content)
                    }
                    // The other path has gone its own way since they were listed.
                    _ => self.read(file, is_large(file)),
                }
            })
            .collect()
    }

    fn look_up(&self, file: FileOf<'_>) -> Option<Content> {
        let ListedFile { stamp, mode, .. } = *file.1;
        let digest = self.cache?.get(full_path(file).as_path(), &stamp)?;
        let is_enough = digest.sha256.is_some() || !self.with_sha256;
        is_enough.then_some(Content {
            stamp,
            mode,
            digest,
            may_be_cached: true,
        })
    }

    fn read(&self, file: FileOf<'_>, in_parallel: bool) -> Result<Content, String> {
        let (spec, listed) = file;
        let reading = Reading {
            follows_links: spec.symlinks == SymlinkPolicy::Follow || listed.path.is_root(),
            with_sha256: self.with_sha256,
            in_parallel,
            clock: self.clock,
        };
        let on_read = |bytes| self.meter.add_bytes(bytes);
        let content = reading.read(full_path(file).as_path(), &on_read);
        self.meter.add_file();
        content
    }
}

/// Counts, and tells the observer now and then.
struct Meter<'a> {
    observer: &'a dyn Observer,
    files: AtomicU64,
    hashed_bytes: AtomicU64,
    last_told: Mutex<Instant>,
}

impl<'a> Meter<'a> {
    fn new(observer: &'a dyn Observer) -> Self {
        Self {
            observer,
            files: AtomicU64::new(0),
            hashed_bytes: AtomicU64::new(0),
            last_told: Mutex::new(Instant::now()),
        }
    }

    fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
        self.tell();
    }

    fn add_bytes(&self, bytes: u64) {
        self.hashed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell();
    }

    fn tell(&self) {
        // Whoever finds it locked need not tell: somebody else does.
        if let Ok(mut last_told) = self.last_told.try_lock()
            && last_told.elapsed() >= PROGRESS_INTERVAL
        {
            *last_told = Instant::now();
            self.observer.event(&Event::LocalScanProgress {
                files: self.files.load(Ordering::Relaxed),
                hashed_bytes: self.hashed_bytes.load(Ordering::Relaxed),
            });
        }
    }
}

#[cfg(test)]
mod tests;
