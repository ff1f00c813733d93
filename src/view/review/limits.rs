//! How much of long lists is shown; the rest is counted.

/// How many items of each sort a form shows one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Rows of one list.
    pub rows: usize,
    /// Conflicts, and deletes, of one list. They need not share the room of the other rows.
    pub alarms: usize,
    /// Destinations of one mapping, where the hosts of a group do not agree about it.
    pub destinations: usize,
    /// Lines of one diff.
    pub diff_lines: usize,
}

impl Limits {
    /// What a person reads in one go.
    pub const SHORT: Self = Self {
        rows: 20,
        alarms: 100,
        destinations: 4,
        diff_lines: 60,
    };
    /// Everything, however much there is.
    pub const NONE: Self = Self {
        rows: usize::MAX,
        alarms: usize::MAX,
        destinations: usize::MAX,
        diff_lines: usize::MAX,
    };

    /// Those of a form that shows everything when it is asked to.
    pub fn of(full: bool) -> Self {
        if full { Self::NONE } else { Self::SHORT }
    }
}

/// What is shown of a list, and what is left out.
pub fn split<T>(items: &[T], most: usize) -> (&[T], &[T]) {
    items.split_at(items.len().min(most))
}

/// The same for a list of which a single item is never left out: to say so would take as much room.
pub fn split_by_two_or_more<T>(items: &[T], most: usize) -> (&[T], &[T]) {
    if items.len() <= most.saturating_add(1) {
        (items, &[])
    } else {
        items.split_at(most)
    }
}
