//! What an apply left that did not come to its end.

use crate::model::{Entry, Tree};

use super::Actual;

/// Everything that may be on the host by our hand: what was recorded, and what was intended.
pub(super) fn either(recorded: &Tree, intended: &Tree) -> Tree {
    let sides = recorded.beside(intended);
    let either = sides.filter_map(|(path, recorded, intended)| {
        let node = recorded.or(intended)?.clone();
        let path = path.clone();
        Some(Entry { path, node })
    });
    either.collect()
}

/// What was written last, entry by entry: as intended where the host has it like that, else as recorded
/// before.
pub(super) fn settled(recorded: &Tree, intended: &Tree, actual: &Actual) -> Tree {
    let sides = recorded.beside(intended);
    let written = sides.filter_map(|(path, recorded, intended)| {
        let actual = actual.get(path);
        let node = match (intended, actual) {
            (Some(intended), Some(actual)) if intended.same(actual) => intended,
            // It was to go, and is gone.
            (None, None) => return None,
            // It was to become something of another kind, and is gone for that instant.
            (Some(intended), None) if intended.kind() != recorded?.kind() => return None,
            _ => recorded?,
        };
        let (path, node) = (path.clone(), node.clone());
        Some(Entry { path, node })
    });
    written.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::model::{Mode, Node, RelPath};

    fn tree(entries: &[(&str, u32)]) -> Tree {
        let entry = |(path, bits): &(&str, u32)| Entry {
            path: RelPath::new(*path).unwrap(),
            node: Node::Dir {
                mode: Mode::new(*bits),
            },
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn what_is_there_as_intended_was_written_and_the_rest_was_not() {
        let recorded = tree(&[("changed", 1), ("gone", 1), ("not yet", 1), ("stays", 1)]);
        let intended = tree(&[("changed", 2), ("came", 2), ("comes", 2), ("not yet", 2)]);
        let actual = tree(&[("changed", 2), ("came", 2), ("not yet", 1), ("stays", 1)]);
        let expected = tree(&[("changed", 2), ("came", 2), ("not yet", 1), ("stays", 1)]);
        let actual = Actual::from(Arc::new(actual));
        assert_eq!(settled(&recorded, &intended, &actual), expected);
    }

    #[test]
    fn what_is_gone_since_it_was_to_change_its_kind_is_not_missed() {
        let recorded = tree(&[("becomes a link", 1), ("stays a folder", 1)]);
        let link = Entry {
            path: RelPath::new("becomes a link").unwrap(),
            node: Node::Symlink {
                target: (*b"elsewhere").into(),
            },
        };
        let intended = tree(&[("stays a folder", 2)]).entries().to_vec();
        let intended = [intended, vec![link]].concat().into_iter().collect();
        let expected = tree(&[("stays a folder", 1)]);
        assert_eq!(settled(&recorded, &intended, &Actual::default()), expected);
    }

    #[test]
    fn what_somebody_else_did_meanwhile_is_still_theirs() {
        let recorded = tree(&[("a", 1), ("b", 1)]);
        let intended = tree(&[("a", 2), ("c", 2)]);
        let actual = Actual::from(Arc::new(tree(&[("a", 3), ("b", 3), ("c", 3)])));
        assert_eq!(settled(&recorded, &intended, &actual), recorded);
    }
}
