//! Tests of [`super`].

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
