//! What is staged on a host before a commit.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{ContentDigest, LocalPath, Mode};
use crate::remote::Algorithm;
use crate::remote::tasks::commit::{LargeStagedFile, StagedFile};
use crate::remote::tasks::receive::stream::{Content, UploadRecord, clamped};
use crate::remote::tasks::restore::RestoredFile;

/// Something to be staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Staged {
    /// A folder, with its modification time where it is a new one.
    Dir { mode: Mode, mtime: Option<i64> },
    /// A file.
    File {
        mode: Mode,
        mtime: i64,
        size_bytes: u64,
        origin: Origin,
        digest: ContentDigest,
        /// Whether it is sent as blocks.
        is_large: bool,
    },
}

/// Where the bytes of a staged file come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// They are sent from here.
    Source(LocalPath),
    /// The host has them in a backup: paths below its staging folder, the likeliest first.
    Backup(Vec<Vec<u8>>),
}

/// Everything that goes into one staging folder, by its components below `up`: so that a folder is
/// followed by all that is in it.
pub(super) type StagedTree = BTreeMap<Vec<Vec<u8>>, Staged>;

/// Bytes of content that the staged files have.
pub(super) fn content_bytes(tree: &StagedTree) -> u64 {
    let sizes = tree.values().map(|staged| match staged {
        Staged::File { size_bytes, .. } => *size_bytes,
        Staged::Dir { .. } => 0,
    });
    sizes.sum()
}

/// Bytes of content that an upload of all but the large files has. What the host has already is not sent.
pub(super) fn small_bytes(tree: &StagedTree) -> u64 {
    let small = tree.values().map(|staged| match staged {
        Staged::File {
            is_large: false,
            size_bytes,
            origin: Origin::Source(_),
            ..
        } => *size_bytes,
        _ => 0,
    });
    small.sum()
}

/// The stream of an upload: folders are entered and left around what is in them.
pub(super) fn records(tree: &StagedTree) -> Vec<UploadRecord> {
    let mut records = Vec::new();
    let mut open: &[Vec<u8>] = &[];
    for (components, staged) in tree {
        let (folder, name) = components.split_at(components.len() - 1);
        let shared = open.iter().zip(folder).take_while(|(a, b)| a == b).count();
        records.extend((shared..open.len()).map(|_| UploadRecord::LeaveDir));
        open = &open[..shared];
        let name = name[0].clone();
        match staged {
            Staged::Dir { mode, mtime } => {
                records.push(UploadRecord::EnterDir {
                    name,
                    mode: *mode,
                    mtime: *mtime,
                });
                open = components;
            }
            // They came before, or come afterwards.
            Staged::File { is_large: true, .. }
            | Staged::File {
                origin: Origin::Backup(_),
                ..
            } => {}
            Staged::File {
                mode,
                mtime,
                size_bytes,
                origin: Origin::Source(source),
                ..
            } => records.push(UploadRecord::File {
                name,
                mode: *mode,
                mtime: Some(*mtime),
                size_bytes: *size_bytes,
                content: Content::Path(source.as_path().to_owned()),
            }),
        }
    }
    records.extend(open.iter().map(|_| UploadRecord::LeaveDir));
    records
}

/// The staged files of all staging folders with the digests that the host is to find. `None` when one is
/// missing in its algorithm.
pub(super) fn staged_files(trees: &[StagedTree], algorithm: Algorithm) -> Option<Vec<StagedFile>> {
    let mut files = Vec::new();
    for (base, tree) in trees.iter().enumerate() {
        for (components, staged) in tree {
            if let Staged::File { digest, .. } = staged {
                files.push(StagedFile {
                    base,
                    path: components.join(&b'/'),
                    digest: algorithm.hex(digest)?,
                });
            }
        }
    }
    Some(files)
}

/// The staged files that come in blocks.
pub(super) fn large_staged_files(trees: &[StagedTree]) -> Vec<LargeStagedFile> {
    let mut files = Vec::new();
    for (base, tree) in trees.iter().enumerate() {
        let mut taken = BTreeSet::new();
        let mut of_tree = Vec::new();
        // From the last one: of those that share a partial, it is the one that gets it.
        for (components, staged) in tree.iter().rev() {
            if let Staged::File {
                is_large: true,
                mode,
                mtime,
                size_bytes,
                digest,
                ..
            } = staged
                && let Some(id) = digest.blake3
            {
                of_tree.push(LargeStagedFile {
                    base,
                    path: components.join(&b'/'),
                    id,
                    size_bytes: *size_bytes,
                    mode: *mode,
                    mtime: clamped(*mtime),
                    is_copied: !taken.insert(id),
                });
            }
        }
        files.extend(of_tree.into_iter().rev());
    }
    files
}

/// The staged files whose bytes the host has in a backup. `None` when a digest is missing in its
/// algorithm.
pub(super) fn restored_files(
    tree: &StagedTree,
    algorithm: Algorithm,
) -> Option<Vec<RestoredFile<'_>>> {
    let mut files = Vec::new();
    for (components, staged) in tree {
        if let Staged::File {
            mode,
            size_bytes,
            origin: Origin::Backup(backups),
            digest,
            ..
        } = staged
        {
            files.push(RestoredFile {
                size_bytes: *size_bytes,
                mode: *mode,
                digest: algorithm.hex(digest)?,
                path: components.join(&b'/'),
                backups,
            });
        }
    }
    Some(files)
}
