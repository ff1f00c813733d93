//! How long it takes to look at local sources, and to load and save manifests.

#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use hostsync::config::{Excludes, SymlinkPolicy};
use hostsync::model::{
    Blake3, ContentDigest, Entry, LocalPath, Mode, Node, RelPath, Sha256, Silent, Tree,
};
use hostsync::source::local::{SourceSpec, scan};
use hostsync::state::{StateLock, StateStore};

const FILES: usize = 5_000;
const FILE_BYTES: usize = 4 << 10;
const MANIFEST_ENTRIES: usize = 100_000;

fn make_source(root: &Path) {
    for index in 0..FILES {
        let dir = root.join(format!("d{}", index % 50));
        fs::create_dir_all(&dir).unwrap();
        let text = format!("{index}\n").repeat(FILE_BYTES);
        fs::write(dir.join(format!("f{index}")), &text[..FILE_BYTES]).unwrap();
    }
    // Files that were changed a moment ago are read again by the next scan.
    thread::sleep(Duration::from_millis(2_100));
}

fn local_scan(criterion: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let root = temp.path().join("source");
    make_source(&root);
    let cache = temp.path().join("cache");
    let specs = [SourceSpec {
        root: LocalPath::new(&root),
        exclude: Excludes::default(),
        symlinks: SymlinkPolicy::Preserve,
    }];

    let mut group = criterion.benchmark_group("scan 5000 files of 4 KiB");
    for (name, with_sha256) in [("cold", false), ("cold, sha256 too", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| scan(black_box(&specs), with_sha256, None, &Silent));
        });
    }
    group.bench_function("warm", |bencher| {
        let _ = scan(&specs, true, Some(&cache), &Silent);
        bencher.iter(|| scan(black_box(&specs), true, Some(&cache), &Silent));
    });
}

fn manifest() -> Tree {
    let entry = |index: usize| Entry {
        path: RelPath::new(format!("some/folder/{}/file-{index}.conf", index % 100)).unwrap(),
        node: Node::File {
            size_bytes: index as u64,
            meta: Mode::new(0o644).into(),
            digest: ContentDigest {
                blake3: Some(Blake3::of(&index.to_le_bytes())),
                sha256: Some(Sha256::from_bytes(*Blake3::of(b"x").as_bytes())),
            },
        },
    };
    (0..MANIFEST_ENTRIES).map(entry).collect()
}

fn manifests(criterion: &mut Criterion) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("state");
    let lock = StateLock::acquire(&dir, "bench", "me@here", Duration::ZERO, &mut |_| {}).unwrap();
    let tree = manifest();
    let digest = tree.digest();

    let mut group = criterion.benchmark_group("manifest of 100000 entries");
    group.sample_size(10);
    group.bench_function("save", |bencher| {
        bencher.iter_batched(
            || {
                let _ = fs::remove_dir_all(dir.join("trees"));
                StateStore::open(&dir).unwrap()
            },
            |store| store.save_tree(&lock, &tree).unwrap(),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("load", |bencher| {
        bencher.iter_batched(
            || StateStore::open(&dir).unwrap(),
            |store| store.tree(&digest).unwrap(),
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, local_scan, manifests);
criterion_main!(benches);
