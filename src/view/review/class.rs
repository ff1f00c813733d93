//! Sorts of changes, and how many there are of each.

use std::collections::BTreeMap;

use crate::plan::{Action, Change};
use crate::view::words::count;

/// What happens to an entry, in the order in which reviewers want to see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Bytes go that nobody reviewed.
    Conflict,
    /// It goes.
    Delete,
    /// It appears.
    Create,
    /// It gets another content.
    Update,
    /// It gets other permission bits alone.
    Metadata,
}

impl Class {
    /// `None` for an entry that is only recorded.
    pub fn of(change: &Change) -> Option<Self> {
        Some(match change.action {
            Action::Adopt => return None,
            _ if change.conflict => Self::Conflict,
            Action::Delete => Self::Delete,
            Action::Create => Self::Create,
            Action::Update => Self::Update,
            Action::Metadata => Self::Metadata,
        })
    }

    /// One character.
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Conflict => "!",
            Self::Delete => "-",
            Self::Create => "+",
            Self::Update | Self::Metadata => "~",
        }
    }

    /// What the symbol means.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Conflict => "destroys what nobody reviewed",
            Self::Delete => "delete",
            Self::Create => "create",
            Self::Update | Self::Metadata => "change",
        }
    }

    /// `12 to update`.
    pub fn number(self, number: usize) -> String {
        match self {
            Self::Conflict => count(number, "conflict", "conflicts"),
            Self::Delete => format!("{number} to delete"),
            Self::Create => format!("{number} to create"),
            Self::Update => format!("{number} to update"),
            Self::Metadata => format!("{} to change", count(number, "mode", "modes")),
        }
    }

    /// Whether a reviewer must not miss it: conflicts and deletes.
    pub fn is_alarm(self) -> bool {
        matches!(self, Self::Conflict | Self::Delete)
    }
}

/// How many changes there are of each class.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Numbers(BTreeMap<Class, usize>);

impl Numbers {
    /// Counts so many more.
    pub fn add(&mut self, class: Class, number: usize) {
        *self.0.entry(class).or_default() += number;
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Class by class.
    pub fn iter(&self) -> impl Iterator<Item = (Class, usize)> + '_ {
        self.0.iter().map(|(class, number)| (*class, *number))
    }

    /// Of each class in words: `10 to delete`, `521 to create`.
    pub fn each(&self) -> impl Iterator<Item = String> + '_ {
        self.iter().map(|(class, number)| class.number(number))
    }

    /// `10 to delete, 521 to create`; empty for none.
    pub fn in_words(&self) -> String {
        self.each().collect::<Vec<_>>().join(", ")
    }

    /// `531 more: 10 to delete, 521 to create`, of what is left out; `None` for nothing.
    pub fn more(&self) -> Option<String> {
        let total: usize = self.0.values().sum();
        (!self.is_empty()).then(|| format!("{total} more: {}", self.in_words()))
    }
}
