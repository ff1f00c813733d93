//! What belongs to an entry besides its content.

use super::Mode;

/// The metadata of an entry: what apply sets on it, and what a later look compares. Two entries with equal
/// metadata are set alike on a host.
///
/// A further part (an owner, a group) is a field here, a number in [`Meta::numbers`] where it is set, and
/// a field in the two documents that hold entries: the manifest of a tree and the plan. Whether a
/// difference in it is a change is decided in `plan/build.rs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Meta {
    /// Permission bits.
    pub mode: Mode,
}

impl Meta {
    /// What digests cover, in this order. A part that is not set adds no number, so that digests of trees
    /// that do without it stay what they are.
    pub fn numbers(self) -> impl Iterator<Item = u32> {
        [self.mode.bits()].into_iter()
    }
}

impl From<Mode> for Meta {
    fn from(mode: Mode) -> Self {
        Self { mode }
    }
}
