//! Comparisons are made once for all hosts that have the same.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::model::Tree;
use crate::plan::comparison::Comparison;
use crate::source::local::SourceTree;

/// The comparisons that were made so far.
#[derive(Debug, Default)]
pub(super) struct Comparisons(Mutex<Vec<Pair>>);

#[derive(Debug)]
struct Pair {
    source: Arc<SourceTree>,
    recorded: Arc<Tree>,
    comparison: Arc<OnceLock<Arc<Comparison>>>,
}

impl Comparisons {
    /// By mapping, what is to be there beside what is recorded.
    pub(super) fn of_host(
        &self,
        desired: &[Arc<SourceTree>],
        recorded: &[Arc<Tree>],
    ) -> Vec<Arc<Comparison>> {
        let sides = desired.iter().zip(recorded);
        sides
            .map(|(desired, recorded)| self.of(desired, recorded))
            .collect()
    }

    /// The comparison of these two, made when it is asked for first.
    fn of(&self, source: &Arc<SourceTree>, recorded: &Arc<Tree>) -> Arc<Comparison> {
        let comparison = self.place_of(source, recorded);
        let comparison =
            comparison.get_or_init(|| Arc::new(Comparison::new(Arc::clone(source), recorded)));
        Arc::clone(comparison)
    }

    /// Where it is, or will be. Others are not held up while it is made.
    fn place_of(
        &self,
        source: &Arc<SourceTree>,
        recorded: &Arc<Tree>,
    ) -> Arc<OnceLock<Arc<Comparison>>> {
        let mut pairs = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = pairs.iter().find(|pair| {
            Arc::ptr_eq(&pair.source, source) && Arc::ptr_eq(&pair.recorded, recorded)
        });
        if let Some(pair) = known {
            return Arc::clone(&pair.comparison);
        }
        let comparison = Arc::default();
        pairs.push(Pair {
            source: Arc::clone(source),
            recorded: Arc::clone(recorded),
            comparison: Arc::clone(&comparison),
        });
        comparison
    }
}
