//! What the state has of a host.

use std::sync::Arc;

use crate::config::{Host, Mapping};
use crate::model::{Blake3, Tree};
use crate::plan::{Actual, interrupted};
use crate::state::{HostRecord, StateError, StateStore};

/// What the state has of a host.
pub(in crate::plan) struct Recorded {
    pub(super) record: Option<HostRecord>,
    /// By mapping of the configuration, what was written last.
    pub(super) trees: Vec<Arc<Tree>>,
    /// By mapping, what an apply was making of it that did not come to its end.
    intended: Vec<Option<Arc<Tree>>>,
    /// By mapping, all that may be there by our hand.
    pub(super) known: Vec<Arc<Tree>>,
}

impl Recorded {
    pub(super) fn load(state: &StateStore, host: &Host) -> Result<Self, StateError> {
        let record = state.host(&host.id)?;
        let mut this = Self {
            record: None,
            trees: Vec::new(),
            intended: Vec::new(),
            known: Vec::new(),
        };
        for mapping in &host.mappings {
            let mut mappings = record.iter().flat_map(|record| &record.mappings);
            let recorded = mappings.find(|recorded| recorded.dest == mapping.dest_as_written);
            let load = |digest: &Blake3| state.tree(digest);
            let tree = recorded.map(|recorded| load(&recorded.tree)).transpose()?;
            let tree: Arc<Tree> = tree.unwrap_or_default();
            let intended = recorded.and_then(|recorded| recorded.intended.as_ref());
            let intended = intended.map(load).transpose()?;
            this.known.push(match &intended {
                Some(intended) => Arc::new(interrupted::either(&tree, intended)),
                None => Arc::clone(&tree),
            });
            this.trees.push(tree);
            this.intended.push(intended);
        }
        this.record = record;
        Ok(this)
    }

    /// Whether a mapping was a mirror at the last apply.
    pub(super) fn is_mirrored(&self, mapping: &Mapping) -> bool {
        let mut mappings = self.record.iter().flat_map(|record| &record.mappings);
        mappings.any(|it| it.dest == mapping.dest_as_written && it.is_mirrored)
    }

    /// By mapping, what was written last, now that it is known what is there.
    pub(super) fn settled(&self, actual: &[Actual]) -> Vec<Arc<Tree>> {
        let sides = self.trees.iter().zip(&self.intended).zip(actual);
        sides
            .map(|((recorded, intended), actual)| match intended {
                Some(intended) => Arc::new(interrupted::settled(recorded, intended, actual)),
                None => Arc::clone(recorded),
            })
            .collect()
    }
}
