//! Lists of changes, and which of a long list are shown.

use std::collections::{BTreeMap, BTreeSet};

use super::change;
use super::class::{Class, Numbers};
use super::limits::Limits;
use super::wording::Wording;
use crate::model::Kind;
use crate::plan::{Change, ChangeSet};
use crate::view::words::{count, escape, size};

/// A line of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// What happens.
    pub class: Class,
    /// To which entry, below the destination of its mapping; folders with a slash, symlinks with their
    /// target.
    pub name: String,
    /// Sizes, kinds or permission bits; may be empty.
    pub detail: String,
    /// Why.
    pub reason: String,
    /// How many changes it stands for.
    pub changes: usize,
}

/// The rows that are shown of a list, and how many changes the others stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownRows<'a> {
    /// In their order.
    pub rows: Vec<&'a Row>,
    /// What is left out.
    pub left_out: Numbers,
}

/// The part of a list, which is sorted by class, that keeps to the limits.
pub fn within(rows: &[Row], limits: Limits) -> ShownRows<'_> {
    let mut keep = shares(rows, limits);
    let mut left_out = Numbers::default();
    let mut shown = Vec::new();
    for row in rows {
        let left = keep.entry(row.class).or_default();
        if *left > 0 {
            *left -= 1;
            shown.push(row);
        } else {
            left_out.add(row.class, row.changes);
        }
    }
    ShownRows {
        rows: shown,
        left_out,
    }
}

/// How many rows of each class are shown.
fn shares(rows: &[Row], limits: Limits) -> BTreeMap<Class, usize> {
    let mut numbers: BTreeMap<Class, usize> = BTreeMap::new();
    for row in rows {
        *numbers.entry(row.class).or_default() += 1;
    }
    let mut room = limits.rows;
    let mut keep: BTreeMap<Class, usize> = BTreeMap::new();
    let (alarms, mut others): (Vec<_>, Vec<_>) =
        numbers.into_iter().partition(|(class, _)| class.is_alarm());
    for (class, number) in alarms {
        let number = number.min(limits.alarms);
        room = room.saturating_sub(number);
        keep.insert(class, number);
    }
    // The others share what is left of the room, rare ones first, so that two updates are not lost
    // among a thousand creates.
    others.sort_by_key(|(_, number)| *number);
    let mut left = others.len();
    room = room.max(left);
    for (class, number) in others {
        let number = number.min(room / left);
        room -= number;
        left -= 1;
        keep.insert(class, number);
    }
    keep
}

/// The changes of each mapping, without those that are only recorded.
pub(super) fn by_mapping(set: &ChangeSet) -> BTreeMap<usize, Vec<(Class, &Change)>> {
    let mut by_mapping: BTreeMap<usize, Vec<(Class, &Change)>> = BTreeMap::new();
    for change in &set.changes {
        if let Some(class) = Class::of(change) {
            let changes = by_mapping.entry(change.mapping).or_default();
            changes.push((class, change));
        }
    }
    by_mapping
}

/// One row for each change, or where they are folded, one for each new folder with all that is below it;
/// sorted by class. `root` is what a mapping is called that is a single file.
pub(super) fn rows(
    changes: &[(Class, &Change)],
    root: &str,
    folds_folders: bool,
    words: &Wording,
) -> Vec<Row> {
    let is_new_folder = |class: Class, change: &Change| {
        class == Class::Create && change.kind() == Kind::Dir && !change.path.is_root()
    };
    let new_folders: BTreeSet<&[u8]> = changes
        .iter()
        .filter(|(class, change)| folds_folders && is_new_folder(*class, change))
        .map(|(_, change)| change.path.as_bytes())
        .collect();
    let mut folders: BTreeMap<&[u8], Vec<&Change>> = BTreeMap::new();
    let mut rows = Vec::new();
    // What runs with somebody's rights is never folded, and is the last to be left out.
    let (with_rights, others): (Vec<_>, Vec<_>) = changes
        .iter()
        .partition(|(_, change)| change::runs_with_rights(change));
    for (class, change) in with_rights.iter().chain(&others) {
        let path = change.path.as_bytes();
        let top = (*class == Class::Create && !change::runs_with_rights(change))
            .then(|| {
                (0..=path.len())
                    .filter(|&end| end == path.len() || path[end] == b'/')
                    .map(|end| &path[..end])
                    .find(|folder| new_folders.contains(folder))
            })
            .flatten();
        match top {
            Some(folder) => folders.entry(folder).or_default().push(change),
            None => rows.push(Row {
                class: *class,
                name: change::name(change, root),
                detail: change::detail(change),
                reason: change::reason(change, words),
                changes: 1,
            }),
        }
    }
    let folders = folders.into_iter();
    rows.extend(folders.map(|(folder, below)| folder_row(folder, &below, words)));
    rows.sort_by_key(|row| row.class);
    rows
}

/// A new folder with all that is below it.
fn folder_row(folder: &[u8], below: &[&Change], words: &Wording) -> Row {
    let detail = if below.len() > 1 {
        let files = below.iter().filter(|change| change.kind() != Kind::Dir);
        let files = count(files.count(), "file", "files");
        let bytes: u64 = below.iter().map(|change| change.bytes_to_send()).sum();
        format!("{files}, {}", size(bytes))
    } else {
        String::new()
    };
    Row {
        class: Class::Create,
        name: format!("{}/", escape(folder)),
        detail,
        reason: words.created.to_owned(),
        changes: below.len(),
    }
}
