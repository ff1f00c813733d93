//! One change in words.

use super::wording::{EXPOSED_CREATE, Wording};
use crate::model::{Kind, Node};
use crate::plan::status::{Drift, Moved};
use crate::plan::{Action, Change, Reason};
use crate::view::words::{escape, size};

/// The path; folders with a slash, symlinks with their target. `root` is what a mapping is called that is a
/// single file.
pub(super) fn name(change: &Change, root: &str) -> String {
    let node = change.after.as_ref().or(change.before.as_ref());
    let path = match node {
        Some(Node::Dir { .. }) if change.path.is_root() => return "./".to_owned(),
        _ if change.path.is_root() => escape(root.as_bytes()),
        _ => escape(change.path.as_bytes()),
    };
    match node {
        Some(Node::Dir { .. }) => format!("{path}/"),
        Some(Node::Symlink { target }) => format!("{path} -> {}", escape(target)),
        _ => path,
    }
}

/// Sizes, kinds or permission bits.
pub(super) fn detail(change: &Change) -> String {
    let size_of = |node: &Node| match node {
        Node::File { size_bytes, .. } => Some(size(*size_bytes)),
        _ => None,
    };
    match (&change.before, &change.after) {
        (Some(before), Some(after)) if before.kind() != after.kind() => {
            format!("{} → {}", kind(before.kind()), kind(after.kind()))
        }
        (Some(before), Some(after)) if change.action == Action::Metadata => {
            match (before.mode(), after.mode()) {
                (Some(before), Some(after)) => format!("{before} → {after}"),
                _ => String::new(),
            }
        }
        (Some(before), Some(after)) => match (size_of(before), size_of(after)) {
            (Some(before), Some(after)) if before != after => format!("{before} → {after}"),
            (_, after) => after.unwrap_or_default(),
        },
        (Some(node), None) | (None, Some(node)) => size_of(node).unwrap_or_default(),
        (None, None) => String::new(),
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "folder",
        Kind::Symlink => "symlink",
        Kind::Other => "device",
    }
}

/// Whether a file is put in place that runs with the rights of its owner or group.
pub(super) fn runs_with_rights(change: &Change) -> bool {
    let is_set = |node: &Node| node.mode().is_some_and(|mode| mode.bits() & 0o6000 != 0);
    matches!(&change.after, Some(file @ Node::File { .. }) if is_set(file))
}

/// Why, in words.
pub(super) fn reason(change: &Change, words: &Wording) -> String {
    let mode = || match (&change.before, &change.after) {
        (Some(before), Some(after)) if change.action == Action::Update => {
            let modes = before.mode().zip(after.mode());
            modes.and_then(|(before, after)| {
                if before == after {
                    runs_with_rights(change).then(|| format!(", mode {after}"))
                } else {
                    Some(format!(", mode {before} → {after}"))
                }
            })
        }
        (None, Some(after)) if runs_with_rights(change) => {
            after.mode().map(|mode| format!(", mode {mode}"))
        }
        _ => None,
    };
    if change.conflict {
        let deletes = change.action == Action::Delete;
        let text = match (change.drift, change.unmanaged) {
            _ if change.action == Action::Metadata => words.sets_modes,
            (true, _) if deletes => "deletes what changed there",
            (true, _) => "undoes a change on the host",
            (_, true) if deletes => "deletes what is not ours",
            (_, true) => "overwrites what is not ours",
            _ if deletes => words.deletes,
            _ if change.action == Action::Create => EXPOSED_CREATE,
            _ => words.writes,
        };
        return text.to_owned() + &mode().unwrap_or_default();
    }
    let mut text = match change.reason {
        Reason::Missing if change.drift => {
            return "was removed on the host".to_owned() + &mode().unwrap_or_default();
        }
        Reason::Missing => words.created.to_owned(),
        Reason::Content => match &change.before {
            // Of what goes away there is no other target, whatever a saved plan claims.
            Some(Node::Symlink { target }) if change.after.is_some() => {
                format!("target, was {}", escape(target))
            }
            _ => "content".to_owned(),
        },
        Reason::Mode => "mode".to_owned(),
        Reason::Type => "of another kind".to_owned(),
        Reason::Orphan => words.deleted.to_owned(),
        Reason::Extraneous => "not in the source (mirror)".to_owned(),
        Reason::Recorded => "only to be recorded".to_owned(),
    };
    if matches!(change.reason, Reason::Content | Reason::Missing) {
        text.push_str(&mode().unwrap_or_default());
    }
    if change.drift {
        text.push_str("; changed on the host");
    } else if change.unmanaged {
        text.push_str("; was not ours");
    }
    text
}

/// What somebody did to an entry since it was written, as status knows it.
pub(super) fn moved_in_words(drift: &Drift) -> String {
    let actual = drift.actual.as_ref();
    match (drift.moved(), actual, actual.and_then(Node::mode)) {
        (Moved::Removed, ..) => "removed".to_owned(),
        (Moved::Appeared, ..) => "appeared".to_owned(),
        (Moved::Replaced, Some(node), _) => format!("replaced by a {}", kind(node.kind())),
        (Moved::Mode, _, Some(mode)) => format!("mode set to {mode}"),
        _ => "changed".to_owned(),
    }
}

/// What somebody did to an entry since it was written, as the plan knows it.
pub(super) fn drift_in_words(change: &Change) -> String {
    let text = match (&change.before, &change.after) {
        _ if change.action == Action::Adopt => "changed to what the source has",
        (None, _) => "removed",
        (Some(before), _) if change.action == Action::Metadata => {
            return before.mode().map_or_else(
                || "changed".to_owned(),
                |mode| format!("mode set to {mode}"),
            );
        }
        (Some(before), Some(after)) if before.kind() != after.kind() => {
            return format!("replaced by a {}", kind(before.kind()));
        }
        _ => "changed",
    };
    text.to_owned()
}
