//! A part of a review with a title.

/// What stands above drift.
pub(super) const DRIFT: &str = "Changed on the hosts since the last apply";
/// What stands above entries that cannot be sent.
pub(super) const UNSENDABLE: &str = "Entries that cannot be sent";

/// A title and the items below it. A section without items is not shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section<T> {
    /// What stands above the items.
    pub title: &'static str,
    /// In the order in which they are shown.
    pub items: Vec<T>,
}

impl<T> Section<T> {
    /// Whether there is nothing to be shown.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}
