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
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::fs::File;
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::model::{Blake3, Silent};

    /// Everything that was written during a test has rested.
    fn later() -> SystemTime {
        SystemTime::now() + Duration::from_mins(1)
    }

    #[derive(Default)]
    struct Recorder(Mutex<Vec<Event>>);

    impl Observer for Recorder {
        fn event(&self, event: &Event) {
            self.0.lock().unwrap().push(event.clone());
        }
    }

    fn spec(root: &Path) -> SourceSpec {
        SourceSpec {
            root: LocalPath::new(root),
            exclude: Excludes::default(),
            symlinks: SymlinkPolicy::Preserve,
        }
    }

    fn scan_one(spec: SourceSpec) -> SourceTree {
        scan(&[spec], false, None, &Silent).remove(0).unwrap()
    }

    /// Scans with a cache, when all files have rested. Says how many bytes were hashed.
    fn scan_cached(
        specs: &[SourceSpec],
        with_sha256: bool,
        cache: &Path,
    ) -> (Vec<Result<SourceTree, SourceError>>, u64) {
        let recorder = Recorder::default();
        let sources = scan_by_clock(specs, with_sha256, Some(cache), &recorder, later);
        let last = recorder.0.into_inner().unwrap().pop();
        let Some(Event::LocalScanFinished { hashed_bytes, .. }) = last else {
            panic!("{last:?}");
        };
        (sources, hashed_bytes)
    }

    fn paths(source: &SourceTree) -> Vec<String> {
        let entries = source.tree.entries().iter();
        entries.map(|entry| entry.path.to_string()).collect()
    }

    fn problems(source: &SourceTree) -> Vec<(String, &str)> {
        let problems = source.problems.iter();
        problems
            .map(|problem| (problem.path.to_string(), &problem.reason[..]))
            .collect()
    }

    fn node<'a>(source: &'a SourceTree, path: &str) -> &'a Node {
        source.tree.get(&RelPath::new(path).unwrap()).unwrap()
    }

    fn blake3(node: &Node) -> Option<Blake3> {
        match node {
            Node::File { digest, .. } => digest.blake3,
            _ => None,
        }
    }

    /// A folder `s` with a file, a folder and a file in it, beside a place for a cache.
    fn sample() -> (tempfile::TempDir, std::path::PathBuf, std::path::PathBuf) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("s");
        fs::create_dir_all(root.join("d")).unwrap();
        fs::write(root.join("d/x"), "four").unwrap();
        fs::write(root.join("d.txt"), "sixsix").unwrap();
        let cache = temp.path().join("cache");
        (temp, root, cache)
    }

    #[test]
    fn tree_holds_every_entry_in_byte_order_with_its_mtime() {
        let (_temp, root, _) = sample();
        let file = File::open(root.join("d/x")).unwrap();
        file.set_permissions(fs::Permissions::from_mode(0o4750))
            .unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_millis(5900))
            .unwrap();
        symlink("nowhere", root.join("l")).unwrap();
        let source = scan_one(spec(&root));
        // `.` comes before `/`.
        assert_eq!(paths(&source), ["", "d", "d.txt", "d/x", "l"]);
        assert_eq!(source.mtimes.len(), 5);
        assert_eq!(source.mtimes[3], 5);
        assert_eq!(
            *node(&source, "d/x"),
            Node::File {
                size_bytes: 4,
                meta: Mode::new(0o4750).into(),
                digest: ContentDigest {
                    blake3: Some(Blake3::of(b"four")),
                    sha256: None,
                },
            }
        );
        let target = Box::from(*b"nowhere");
        assert_eq!(*node(&source, "l"), Node::Symlink { target });
        assert_eq!(source.problems, []);
    }

    #[test]
    fn names_that_are_not_utf8_are_kept_byte_for_byte() {
        let (_temp, root, _) = sample();
        let name = std::ffi::OsString::from_vec(b"\xff\xfe".to_vec());
        fs::write(root.join(&name), "").unwrap();
        let source = scan_one(spec(&root));
        let path = RelPath::new(*b"\xff\xfe").unwrap();
        assert!(source.tree.get(&path).is_some());
    }

    #[test]
    fn source_may_be_a_single_file() {
        let (_temp, root, _) = sample();
        let source = scan_one(spec(&root.join("d/x")));
        assert_eq!(paths(&source), [""]);
        assert_eq!(blake3(node(&source, "")), Some(Blake3::of(b"four")));
    }

    #[test]
    fn source_that_is_a_link_means_what_it_points_to() {
        let (temp, root, _) = sample();
        symlink(&root, temp.path().join("to_dir")).unwrap();
        symlink(root.join("d/x"), temp.path().join("to_file")).unwrap();
        for symlinks in [
            SymlinkPolicy::Preserve,
            SymlinkPolicy::Follow,
            SymlinkPolicy::Skip,
        ] {
            let link = |name| SourceSpec {
                symlinks,
                ..spec(&temp.path().join(name))
            };
            let dir = scan_one(link("to_dir"));
            assert_eq!(dir.tree, scan_one(spec(&root)).tree);
            let file = scan_one(link("to_file"));
            assert_eq!(blake3(node(&file, "")), Some(Blake3::of(b"four")));
        }
    }

    #[test]
    fn sources_that_cannot_be_read_fail_alone() {
        let (temp, root, _) = sample();
        symlink("loop", temp.path().join("loop")).unwrap();
        let _socket = UnixListener::bind(temp.path().join("socket")).unwrap();
        let specs =
            ["missing", "s", "loop", "socket", "s/d/x/y"].map(|name| spec(&temp.path().join(name)));
        let sources = scan(&specs, false, None, &Silent);
        let errors: Vec<_> = sources.iter().map(Result::is_err).collect();
        assert_eq!(errors, [true, false, true, true, true]);
        assert_eq!(sources[1], Ok(scan_one(spec(&root))));
        let error = sources[3].as_ref().unwrap_err();
        assert_eq!(error.reason, "is a socket, which cannot be sent");
        let error = sources[0].as_ref().unwrap_err().to_string();
        assert!(error.contains("missing: No such file"), "{error}");
    }

    #[test]
    fn excluded_entries_are_not_even_looked_at() {
        let (_temp, root, _) = sample();
        fs::create_dir_all(root.join("a/.git/deep")).unwrap();
        // Both would be problems.
        let _socket = UnixListener::bind(root.join("a/.git/socket")).unwrap();
        symlink("gone", root.join("a/stale.lnk")).unwrap();
        let patterns = [".git", "*.lnk", "/d"].map(str::to_owned).to_vec();
        let source = scan_one(SourceSpec {
            exclude: Excludes::new(patterns).unwrap(),
            symlinks: SymlinkPolicy::Follow,
            ..spec(&root)
        });
        assert_eq!(paths(&source), ["", "a", "d.txt"]);
        assert_eq!(source.problems, []);
    }

    #[test]
    fn links_are_kept_followed_or_left_out() {
        let (temp, root, _) = sample();
        fs::create_dir(temp.path().join("outside")).unwrap();
        fs::write(temp.path().join("outside/o"), "out").unwrap();
        symlink("../outside", root.join("to_dir")).unwrap();
        symlink("d/x", root.join("to_file")).unwrap();
        let with = |symlinks| {
            scan_one(SourceSpec {
                symlinks,
                ..spec(&root)
            })
        };

        let preserved = with(SymlinkPolicy::Preserve);
        assert_eq!(
            paths(&preserved),
            ["", "d", "d.txt", "d/x", "to_dir", "to_file"]
        );
        let target = Box::from(*b"../outside");
        assert_eq!(*node(&preserved, "to_dir"), Node::Symlink { target });

        let followed = with(SymlinkPolicy::Follow);
        assert_eq!(
            paths(&followed),
            ["", "d", "d.txt", "d/x", "to_dir", "to_dir/o", "to_file"]
        );
        assert_eq!(
            blake3(node(&followed, "to_dir/o")),
            Some(Blake3::of(b"out"))
        );
        assert_eq!(
            blake3(node(&followed, "to_file")),
            Some(Blake3::of(b"four"))
        );

        let skipped = with(SymlinkPolicy::Skip);
        assert_eq!(paths(&skipped), ["", "d", "d.txt", "d/x"]);
    }

    #[test]
    fn followed_links_that_lead_nowhere_or_in_a_circle_are_problems_of_theirs() {
        let (_temp, root, _) = sample();
        symlink("..", root.join("d/up")).unwrap();
        symlink("nowhere", root.join("gone")).unwrap();
        symlink("self", root.join("self")).unwrap();
        let source = scan_one(SourceSpec {
            symlinks: SymlinkPolicy::Follow,
            ..spec(&root)
        });
        assert_eq!(paths(&source), ["", "d", "d.txt", "d/x"]);
        let problems = problems(&source);
        assert_eq!(problems.len(), 3);
        assert_eq!(
            problems[0],
            ("d/up".to_owned(), "is a link to a folder that it lies in")
        );
        assert_eq!(
            problems[1],
            (
                "gone".to_owned(),
                "is a link to something that does not exist"
            )
        );
        assert_eq!(problems[2].0, "self");
        assert!(
            problems[2].1.starts_with("cannot be read: "),
            "{problems:?}"
        );
    }

    #[test]
    fn what_cannot_be_sent_is_left_out_with_everything_below_it() {
        let (_temp, root, _) = sample();
        fs::create_dir_all(root.join("d/a\nb/c")).unwrap();
        fs::write(root.join("x\ny"), "").unwrap();
        symlink("a\nb", root.join("link")).unwrap();
        let _socket = UnixListener::bind(root.join("socket")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            root.join("pipe"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        let source = scan_one(spec(&root));
        assert_eq!(paths(&source), ["", "d", "d.txt", "d/x"]);
        let newline = "has a newline in its name, which cannot be sent";
        let expected = [
            ("d/a\nb", newline),
            ("link", "has a newline in its target, which cannot be sent"),
            ("pipe", "is a pipe, which cannot be sent"),
            ("socket", "is a socket, which cannot be sent"),
            ("x\ny", newline),
        ];
        let found = source.problems.iter();
        let found: Vec<_> = found
            .map(|problem| (problem.path.as_utf8().unwrap(), &problem.reason[..]))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn unreadable_entries_are_problems_and_the_rest_goes_on() {
        let (_temp, root, _) = sample();
        // Unreadable even to root, whom permission bits do not stop.
        symlink("/proc/self/mem", root.join("mem")).unwrap();
        let none = fs::Permissions::from_mode(0o000);
        fs::set_permissions(root.join("d"), none).unwrap();
        let source = scan_one(SourceSpec {
            symlinks: SymlinkPolicy::Follow,
            ..spec(&root)
        });
        fs::set_permissions(root.join("d"), fs::Permissions::from_mode(0o700)).unwrap();

        let mut problems = problems(&source);
        let (path, reason) = problems.pop().unwrap();
        assert_eq!(path, "mem");
        assert!(reason.starts_with("cannot be read: "), "{reason}");
        if rustix::process::geteuid().is_root() {
            assert_eq!(paths(&source), ["", "d", "d.txt", "d/x"]);
            assert_eq!(problems, []);
        } else {
            assert_eq!(paths(&source), ["", "d", "d.txt"]);
            let (path, reason) = problems.pop().unwrap();
            assert_eq!(path, "d");
            assert!(reason.contains("Permission denied"), "{reason}");
        }
    }

    #[test]
    fn unchanged_files_are_not_read_again() {
        let (_temp, root, cache) = sample();
        let specs = [spec(&root)];
        let (first, hashed_bytes) = scan_cached(&specs, false, &cache);
        assert_eq!(hashed_bytes, 10);
        let (second, hashed_bytes) = scan_cached(&specs, false, &cache);
        assert_eq!(hashed_bytes, 0);
        assert_eq!(first, second);
        // The digests really come from the cache.
        fs::remove_dir_all(&cache).unwrap();
        assert_eq!(scan_cached(&specs, false, &cache).1, 10);
    }

    #[test]
    fn changed_content_is_read_though_size_and_mtime_are_the_same() {
        let (_temp, root, cache) = sample();
        scan_cached(&[spec(&root)], false, &cache);
        let path = root.join("d/x");
        let mtime = fs::metadata(&path).unwrap().modified().unwrap();
        // Until the clock of the file system has ticked.
        let before = fs::metadata(&path).unwrap().ctime_nsec();
        while fs::metadata(&path).unwrap().ctime_nsec() == before {
            fs::write(&path, "FOUR").unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(mtime)
                .unwrap();
        }
        let (sources, hashed_bytes) = scan_cached(&[spec(&root)], false, &cache);
        assert_eq!(hashed_bytes, 4);
        let source = sources[0].as_ref().unwrap();
        assert_eq!(blake3(node(source, "d/x")), Some(Blake3::of(b"FOUR")));
    }

    #[test]
    fn file_that_was_changed_a_moment_ago_is_not_trusted_to_rest() {
        let (_temp, root, cache) = sample();
        for _ in 0..2 {
            let recorder = Recorder::default();
            let _ = scan(&[spec(&root)], false, Some(&cache), &recorder);
            let events = recorder.0.into_inner().unwrap();
            let Some(Event::LocalScanFinished { hashed_bytes, .. }) = events.last() else {
                panic!("{events:?}");
            };
            assert_eq!(*hashed_bytes, 10);
        }
    }

    #[test]
    fn file_is_read_again_when_its_sha256_is_wanted_for_the_first_time() {
        let (_temp, root, cache) = sample();
        let specs = [spec(&root)];
        let (plain, _) = scan_cached(&specs, false, &cache);
        let (both, hashed_bytes) = scan_cached(&specs, true, &cache);
        assert_eq!(hashed_bytes, 10);
        for (with_sha256, expected) in [(true, both), (false, plain)] {
            let (sources, hashed_bytes) = scan_cached(&specs, with_sha256, &cache);
            assert_eq!(hashed_bytes, 0);
            assert_eq!(sources, expected);
        }
    }

    #[test]
    fn sha256_is_of_the_same_bytes() {
        let (_temp, root, _) = sample();
        let source = scan(&[spec(&root)], true, None, &Silent).remove(0).unwrap();
        let Node::File { digest, .. } = node(&source, "d/x") else {
            panic!("not a file");
        };
        // printf four | sha256sum
        assert_eq!(
            digest.sha256.unwrap().to_string(),
            "04efaf080f5a3e74e1c29d1ca6a48569382cbbcd324e8d59d2b83ef21c039f00"
        );
    }

    #[test]
    fn file_in_several_sources_is_read_once() {
        let (_temp, root, cache) = sample();
        fs::hard_link(root.join("d/x"), root.join("hard")).unwrap();
        let specs = [
            spec(&root.join("d")),
            spec(&root),
            spec(&root.join("d")),
            SourceSpec {
                symlinks: SymlinkPolicy::Skip,
                ..spec(&root)
            },
        ];
        let (sources, hashed_bytes) = scan_cached(&specs, false, &cache);
        assert_eq!(hashed_bytes, 10);
        let sources: Vec<_> = sources.into_iter().map(Result::unwrap).collect();
        assert_eq!(paths(&sources[0]), ["", "x"]);
        assert_eq!(paths(&sources[1]), ["", "d", "d.txt", "d/x", "hard"]);
        assert_eq!(sources[0], sources[2]);
        assert_eq!(sources[1], sources[3]);
        assert_eq!(node(&sources[1], "hard"), node(&sources[1], "d/x"));
        assert_eq!(scan_cached(&specs, false, &cache).1, 0);
    }

    #[test]
    fn damaged_or_unwritable_cache_never_changes_the_result() {
        let (temp, root, cache) = sample();
        let specs = [spec(&root)];
        let (expected, _) = scan_cached(&specs, false, &cache);
        for entry in fs::read_dir(&cache).unwrap() {
            fs::write(entry.unwrap().path(), "hostsync sources or not").unwrap();
        }
        assert_eq!(scan_cached(&specs, false, &cache), (expected.clone(), 10));
        assert_eq!(scan_cached(&specs, false, &cache), (expected.clone(), 0));
        let file = temp.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(scan_cached(&specs, false, &file), (expected, 10));
    }

    #[test]
    fn large_files_are_hashed_in_pieces() {
        let (_temp, root, cache) = sample();
        let file = File::create(root.join("large")).unwrap();
        file.set_len(LARGE_BYTES + 1).unwrap();
        let (sources, hashed_bytes) = scan_cached(&[spec(&root)], true, &cache);
        assert_eq!(hashed_bytes, LARGE_BYTES + 11);
        let zeros = vec![0; usize::try_from(LARGE_BYTES).unwrap() + 1];
        let source = sources[0].as_ref().unwrap();
        assert_eq!(blake3(node(source, "large")), Some(Blake3::of(&zeros)));
    }

    #[test]
    fn observer_hears_of_the_beginning_and_the_end() {
        let (_temp, root, _) = sample();
        let recorder = Recorder::default();
        let specs = [spec(&root), spec(&root), spec(&root.join("d"))];
        let _ = scan(&specs, false, None, &recorder);
        let events = recorder.0.into_inner().unwrap();
        assert_eq!(events[0], Event::LocalScanStarted { sources: 2 });
        let Some(Event::LocalScanFinished {
            files,
            total_bytes,
            hashed_bytes,
            ..
        }) = events.last()
        else {
            panic!("{events:?}");
        };
        assert_eq!((*files, *total_bytes, *hashed_bytes), (3, 14, 10));
    }
}
