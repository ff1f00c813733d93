//! The sources of a plan, each read once.

use std::sync::{Arc, OnceLock};

use crate::config::{Mapping, Modes};
use crate::model::{Blake3, Meta, Mode, Node, Tree};
use crate::plan::PlanRequest;
use crate::remote::Algorithm;
use crate::source::local::{self, SourceError, SourceSpec, SourceTree};
use crate::state::HostRecord;

/// The sources of all hosts. Read with sha256 from the start when a host is known to need it or is
/// not known at all; else as soon as one turns out to.
pub(super) struct ReadSources<'a> {
    request: &'a PlanRequest<'a>,
    specs: Vec<SourceSpec>,
    with_sha256: bool,
    first: Vec<Result<Arc<SourceTree>, SourceError>>,
    /// What names them in a plan, by spec.
    digests: Vec<OnceLock<Option<Blake3>>>,
    second: OnceLock<Vec<Result<Arc<SourceTree>, SourceError>>>,
}

impl<'a> ReadSources<'a> {
    /// Reads them. `records` are those of the hosts.
    pub(super) fn read(
        request: &'a PlanRequest<'a>,
        records: impl IntoIterator<Item = Option<&'a HostRecord>>,
    ) -> Self {
        let mut specs: Vec<SourceSpec> = Vec::new();
        let usable = request.hosts.iter().filter(|host| host.problem.is_none());
        for mapping in usable.flat_map(|host| &host.mappings) {
            let spec = spec_of(mapping);
            if !specs.contains(&spec) {
                specs.push(spec);
            }
        }
        let with_sha256 = records.into_iter().any(|record| {
            let algorithm = record.and_then(|record| record.algorithm.as_deref());
            algorithm != Some(Algorithm::Blake3.as_str())
        });
        let first = Self::scan(request, &specs, with_sha256);
        Self {
            request,
            digests: specs.iter().map(|_| OnceLock::new()).collect(),
            specs,
            with_sha256,
            first,
            second: OnceLock::new(),
        }
    }

    /// None of them.
    pub(super) fn none(request: &'a PlanRequest<'a>) -> Self {
        Self {
            request,
            specs: Vec::new(),
            with_sha256: false,
            first: Vec::new(),
            digests: Vec::new(),
            second: OnceLock::new(),
        }
    }

    fn scan(
        request: &PlanRequest<'_>,
        specs: &[SourceSpec],
        with_sha256: bool,
    ) -> Vec<Result<Arc<SourceTree>, SourceError>> {
        local::scan(specs, with_sha256, request.cache_dir, request.observer)
            .into_iter()
            .map(|result| result.map(Arc::new))
            .collect()
    }

    /// What names the source of a mapping in a plan; `None` where it could not be read.
    pub(super) fn digest(&self, mapping: &Mapping) -> Option<Blake3> {
        let spec = spec_of(mapping);
        let index = self.specs.iter().position(|known| *known == spec)?;
        *self.digests[index].get_or_init(|| {
            let source = self.first[index].as_ref().ok()?;
            Some(digest_of(&source.tree, self.request.config.settings.modes))
        })
    }

    /// The source of a mapping, with the digests that a host of this algorithm needs.
    pub(super) fn get(
        &self,
        mapping: &Mapping,
        algorithm: Algorithm,
    ) -> Result<Arc<SourceTree>, SourceError> {
        let all = if self.with_sha256 || algorithm == Algorithm::Blake3 {
            &self.first
        } else {
            self.second
                .get_or_init(|| Self::scan(self.request, &self.specs, true))
        };
        let spec = spec_of(mapping);
        let index = self.specs.iter().position(|known| *known == spec);
        index.map_or_else(
            || {
                let (path, reason) = (mapping.src.to_string(), "it was not read".to_owned());
                Err(SourceError { path, reason })
            },
            |index| all[index].clone(),
        )
    }
}

/// Digest of a source, of what a checkout elsewhere would have, too: where only the x bit counts, that is
/// all that is left of the permission bits.
fn digest_of(tree: &Tree, modes: Modes) -> Blake3 {
    if modes == Modes::All {
        return tree.digest();
    }
    let entries = tree.entries().iter().cloned().map(|mut entry| {
        match &mut entry.node {
            Node::File {
                meta: Meta { mode },
                ..
            } if mode.is_executable() => *mode = Mode::new(0o755),
            Node::File {
                meta: Meta { mode },
                ..
            } => *mode = Mode::new(0o644),
            Node::Dir {
                meta: Meta { mode },
            } => *mode = Mode::new(0o755),
            Node::Symlink { .. } | Node::Other { .. } => {}
        }
        entry
    });
    entries.collect::<Tree>().digest()
}

fn spec_of(mapping: &Mapping) -> SourceSpec {
    SourceSpec {
        root: mapping.src.clone(),
        exclude: mapping.exclude.clone(),
        symlinks: mapping.symlinks,
    }
}
