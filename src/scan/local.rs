//! Reading local sources: each one once, however many hosts use it.

use std::path::Path;

use crate::config::{Excludes, SymlinkPolicy};
use crate::model::{LocalPath, Observer, RelPath, Tree};

/// A source and how it is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceSpec {
    /// The file or folder.
    pub root: LocalPath,
    /// What is left out.
    pub exclude: Excludes,
    /// What happens to symbolic links.
    pub symlinks: SymlinkPolicy,
}

/// An entry that cannot be sent.
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

/// Reads all sources, hashing files in parallel. The results are in the order of `specs`.
///
/// `cache_dir` is where digests of unchanged files are kept between runs; a cache that is damaged or
/// cannot be written costs time, never the result.
pub fn scan(
    _specs: &[SourceSpec],
    _with_sha256: bool,
    _cache_dir: Option<&Path>,
    _observer: &dyn Observer,
) -> Vec<Result<SourceTree, SourceError>> {
    todo!()
}
