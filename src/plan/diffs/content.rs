//! Two contents, and how they differ.

use similar::{ChangeTag, TextDiff};

use crate::model::{ContentDigest, Node};
use crate::plan::{Action, Change, Diff};

/// How long the diffs of a plan may be together, and those of one host.
pub(super) const TEXT_BYTES: usize = 4 * 1024 * 1024;

/// How many lines a text may have that is compared with another one. The time that this takes grows with
/// their square at worst: a tenth of a second for these.
pub(super) const LINES: usize = 8_000;

/// Unchanged lines around a change.
const CONTEXT_LINES: usize = 3;

/// A file that is there before or after a change.
#[derive(Clone, Copy)]
pub(super) struct Side {
    pub(super) size_bytes: u64,
    pub(super) digest: ContentDigest,
}

impl Side {
    pub(super) fn of(node: Option<&Node>) -> Option<Self> {
        match node? {
            Node::File {
                size_bytes, digest, ..
            } => Some(Self {
                size_bytes: *size_bytes,
                digest: *digest,
            }),
            Node::Dir { .. } | Node::Symlink { .. } | Node::Other { .. } => None,
        }
    }
}

/// What a change has as a file on either side; `None` where there is nothing to be compared.
pub(super) fn sides(change: &Change) -> Option<(Option<Side>, Option<Side>)> {
    if matches!(change.action, Action::Metadata | Action::Adopt) {
        return None;
    }
    let sides = (
        Side::of(change.before.as_ref()),
        Side::of(change.after.as_ref()),
    );
    let is_full = |side: Option<Side>| side.is_some_and(|side| side.size_bytes > 0);
    (is_full(sides.0) || is_full(sides.1)).then_some(sides)
}

/// How two contents differ; `None` where they do not.
pub(super) fn compare(old: &[u8], new: &[u8]) -> Option<Diff> {
    if old == new {
        return None;
    }
    let (Some(old), Some(new)) = (lines_of(old), lines_of(new)) else {
        return Some(Diff::Binary);
    };
    let is_one_sided = old.is_empty() || new.is_empty();
    if !is_one_sided && (old.len() > LINES || new.len() > LINES) {
        return Some(Diff::TooLarge);
    }
    let diff = TextDiff::configure().diff_slices(&old, &new);
    let mut text = String::new();
    for hunk in diff
        .unified_diff()
        .context_radius(CONTEXT_LINES)
        .iter_hunks()
    {
        text.push_str(&hunk.header().to_string());
        text.push('\n');
        for change in hunk.iter_changes() {
            text.push(match change.tag() {
                ChangeTag::Equal => ' ',
                ChangeTag::Delete => '-',
                ChangeTag::Insert => '+',
            });
            text.push_str(change.value());
            if !change.value().ends_with('\n') {
                text.push_str("\n\\ No newline at end of file\n");
            }
        }
    }
    Some(Diff::Text(text))
}

/// The lines of a text, with their ends; `None` for what is no text.
fn lines_of(bytes: &[u8]) -> Option<Vec<&str>> {
    let text = std::str::from_utf8(bytes).ok()?;
    (!text.contains('\0')).then(|| text.split_inclusive('\n').collect())
}

/// A diff, or that it is too large, if those so far are too long with it.
pub(super) fn within(diff: Diff, text_bytes: &mut usize) -> Diff {
    if let Diff::Text(text) = &diff {
        *text_bytes = text_bytes.saturating_add(text.len());
        if *text_bytes > TEXT_BYTES {
            return Diff::TooLarge;
        }
    }
    diff
}
