//! How long planning one host takes, by the size of its tree.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hostsync::config::{Exact, Excludes, MaxDelete, Modes};
use hostsync::model::{Blake3, ContentDigest, Entry, Mode, Node, RelPath, Tree};
use hostsync::plan::build::{MappingInput, Policy, build};

/// Files in each folder.
const FOLDER: usize = 100;

fn file(content: usize) -> Node {
    let digest = ContentDigest {
        blake3: Some(Blake3::of(&content.to_le_bytes())),
        sha256: None,
    };
    Node::File {
        size_bytes: 4096,
        mode: Mode::new(0o644),
        digest,
    }
}

/// A tree of so many entries. One file in `changed_each` has another content; none when it is 0.
fn tree(entries: usize, changed_each: usize) -> Tree {
    let path = |text: String| RelPath::new(text).expect("a plain path");
    let entry = |index: usize| {
        let folder = format!("folder-{:05}", index / FOLDER);
        if index.is_multiple_of(FOLDER) {
            let mode = Mode::new(0o755);
            return Entry {
                path: path(folder),
                node: Node::Dir { mode },
            };
        }
        let is_changed = changed_each > 0 && index % changed_each == 1;
        Entry {
            path: path(format!("{folder}/file-{:02}.txt", index % FOLDER)),
            node: file(if is_changed { entries + index } else { index }),
        }
    };
    (0..entries).map(entry).collect()
}

fn planner(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    let exclude = Excludes::new(vec!["*.tmp".to_owned()]).expect("a glob");
    let policy = Policy {
        modes: Modes::All,
        max_delete: MaxDelete { percent: 50 },
    };
    for entries in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(entries as u64));
        let host = tree(entries, 0);
        for (name, changed_each) in [("nothing changed", 0), ("1% changed", 100)] {
            let desired = tree(entries, changed_each);
            for (exact, word) in [(Exact::No, "plain"), (Exact::Orphans, "exact")] {
                let input = MappingInput {
                    desired: &desired,
                    recorded: &host,
                    actual: &host,
                    exact,
                    exclude: &exclude,
                    unsendable: &[],
                };
                let id = BenchmarkId::new(format!("{name}, {word}"), entries);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| build(black_box(&[input]), policy));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, planner);
criterion_main!(benches);
