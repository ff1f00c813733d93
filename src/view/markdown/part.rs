//! The parts of a page of which less can be shown.

/// What can be left out, in the order in which it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    /// How contents differ.
    Diffs,
    /// Rows of each list.
    Rows,
    /// Groups of hosts.
    Blocks,
    Adopted,
    Drift,
    Remarks,
    Problems,
    /// Hosts without a plan.
    Hosts,
    Deletes,
    Conflicts,
}

impl Part {
    pub(super) const ALL: [Self; 10] = [
        Self::Diffs,
        Self::Rows,
        Self::Blocks,
        Self::Adopted,
        Self::Drift,
        Self::Remarks,
        Self::Problems,
        Self::Hosts,
        Self::Deletes,
        Self::Conflicts,
    ];
}

/// By part, how much of it is shown.
pub(super) type Amounts = [usize; Part::ALL.len()];
