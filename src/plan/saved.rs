//! The plan as a JSON document.
use super::{Change, ChangeSetId};
use crate::model::Blake3;
impl ChangeSetId {
    /// stub
    pub fn of(changes: &[Change]) -> Self {
        Self(Blake3::of(format!("{changes:?}").as_bytes()))
    }
}
