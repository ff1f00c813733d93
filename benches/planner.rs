//! How long planning one host takes, by the size of its tree; and how much memory.

use std::fs;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hostsync::config::{Exact, Excludes, MaxDelete, Modes};
use hostsync::model::{Blake3, ContentDigest, Entry, Meta, Mode, Node, RelPath, Tree};
use hostsync::plan::Actual;
use hostsync::plan::build::{MappingInput, Policy, build};

/// Files in each folder.
const FOLDER: usize = 100;
const POLICY: Policy = Policy {
    modes: Modes::All,
    max_delete: MaxDelete { percent: 50 },
};

fn file(content: usize) -> Node {
    let digest = ContentDigest {
        blake3: Some(Blake3::of(&content.to_le_bytes())),
        sha256: None,
    };
    Node::File {
        size_bytes: 4096,
        meta: Mode::new(0o644).into(),
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
                node: Node::Dir {
                    meta: Meta { mode },
                },
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

/// A line of `/proc/self/status`, in bytes.
fn memory(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let kib = line.and_then(|line| {
        line.trim_matches([':', ' ', '\t', 'k', 'B'])
            .parse::<u64>()
            .ok()
    });
    kib.unwrap_or_default() * 1024
}

/// Prints by how much the resident memory of this process has grown at most, for each entry of the
/// source, with the source, what is recorded, what is on the host and the plan in memory. On the host
/// is what is recorded, which is how a plan knows a host whose listing it trusts. Has to come before
/// everything else that takes memory.
#[expect(clippy::print_stdout, reason = "a benchmark reports")]
fn report_memory() {
    const ENTRIES: usize = 1_000_000;
    let before = memory("VmRSS");
    let desired = tree(ENTRIES, 100);
    let recorded = Arc::new(tree(ENTRIES, 0));
    let input = MappingInput {
        desired: &desired,
        recorded: &recorded,
        actual: &Actual::from(Arc::clone(&recorded)),
        exact: Exact::Orphans,
        exclude: &Excludes::default(),
        unsendable: &[],
    };
    let plan = black_box(build(&[input], POLICY));
    let bytes = memory("VmHWM").saturating_sub(before) / ENTRIES as u64;
    let changes = plan.map_or(0, |plan| plan.changes.len());
    println!("memory of a plan of {ENTRIES} entries, {changes} changes: {bytes} bytes an entry");
}

fn planner(criterion: &mut Criterion) {
    report_memory();
    let mut group = criterion.benchmark_group("plan");
    group.sample_size(10);
    let exclude = Excludes::new(vec!["*.tmp".to_owned()]).expect("a glob");
    for entries in [10_000, 100_000, 1_000_000] {
        group.throughput(Throughput::Elements(entries as u64));
        let host = Arc::new(tree(entries, 0));
        let actual = Actual::from(Arc::clone(&host));
        for (name, changed_each) in [("nothing changed", 0), ("1% changed", 100)] {
            let desired = tree(entries, changed_each);
            for (exact, word) in [(Exact::No, "plain"), (Exact::Orphans, "exact")] {
                let input = MappingInput {
                    desired: &desired,
                    recorded: &host,
                    actual: &actual,
                    exact,
                    exclude: &exclude,
                    unsendable: &[],
                };
                let id = BenchmarkId::new(format!("{name}, {word}"), entries);
                group.bench_function(id, |bencher| {
                    bencher.iter(|| build(black_box(&[input]), POLICY));
                });
            }
        }
    }
    group.finish();
}

criterion_group!(benches, planner);
criterion_main!(benches);
