//! What an apply left that did not come to its end.

use crate::model::{Entry, Meta, Node, Tree};

use super::Actual;

/// Everything that may be on the host by our hand: what was recorded, and what was intended.
pub(crate) fn either(recorded: &Tree, intended: &Tree) -> Tree {
    let sides = recorded.beside(intended);
    let either = sides.filter_map(|(path, recorded, intended)| {
        let node = recorded.or(intended)?.clone();
        let path = path.clone();
        Some(Entry { path, node })
    });
    either.collect()
}

/// What was written last, entry by entry: as intended where the host has it like that, else as recorded
/// before. What the commit does on the way is ours, too.
pub(crate) fn settled(recorded: &Tree, intended: &Tree, actual: &Actual) -> Tree {
    let sides = recorded.beside(intended);
    let written = sides.filter_map(|(path, recorded, intended)| {
        let node = match (intended, actual.get(path)) {
            (Some(intended), Some(actual)) if intended.same(actual) => intended,
            // It was to go, and is gone.
            (None, None) => return None,
            // It has made room for something of another kind, which has not come.
            (Some(intended), None) if recorded.is_some_and(|it| it.kind() != intended.kind()) => {
                return None;
            }
            (_, Some(actual)) if is_opened(recorded, actual) || is_opened(intended, actual) => {
                actual
            }
            _ => recorded?,
        };
        let (path, node) = (path.clone(), node.clone());
        Some(Entry { path, node })
    });
    written.collect()
}

/// Whether this is a folder that its owner may not write, opened for the time of a commit.
pub(crate) fn is_opened(folder: Option<&Node>, actual: &Node) -> bool {
    match (folder, actual) {
        (
            Some(Node::Dir {
                meta: Meta { mode },
            }),
            Node::Dir {
                meta: Meta { mode: now },
            },
        ) => now.bits() == mode.bits() | 0o700,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use std::sync::Arc;

    use super::*;
    use crate::model::{Mode, RelPath};

    fn tree(entries: &[(&str, u32)]) -> Tree {
        let entry = |(path, bits): &(&str, u32)| Entry {
            path: RelPath::new(*path).unwrap(),
            node: Node::Dir {
                meta: Mode::new(*bits).into(),
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
    fn folder_that_was_opened_for_the_commit_is_ours_as_it_is() {
        let recorded = tree(&[("closed", 0o555), ("theirs", 0o555)]);
        let intended = tree(&[("closed", 0o555), ("new", 0o500), ("theirs", 0o555)]);
        let there = tree(&[("closed", 0o755), ("new", 0o700), ("theirs", 0o775)]);
        let expected = tree(&[("closed", 0o755), ("new", 0o700), ("theirs", 0o555)]);
        let actual = Actual::from(Arc::new(there));
        assert_eq!(settled(&recorded, &intended, &actual), expected);
    }

    #[test]
    fn what_has_made_room_for_another_kind_is_not_missed() {
        let recorded = tree(&[("a", 1), ("b", 1)]);
        let link = Node::Symlink {
            target: (*b"x").into(),
        };
        let path = RelPath::new("a").unwrap();
        let mut intended = vec![Entry { path, node: link }];
        intended.extend_from_slice(tree(&[("b", 2)]).entries());
        let actual = Actual::from(Arc::new(Tree::default()));
        let expected = tree(&[("b", 1)]);
        assert_eq!(
            settled(&recorded, &intended.into_iter().collect(), &actual),
            expected
        );
    }

    #[test]
    fn what_somebody_else_did_meanwhile_is_still_theirs() {
        let recorded = tree(&[("a", 1), ("b", 1)]);
        let intended = tree(&[("a", 2), ("c", 2)]);
        let actual = Actual::from(Arc::new(tree(&[("a", 3), ("b", 3), ("c", 3)])));
        assert_eq!(settled(&recorded, &intended, &actual), recorded);
    }
}
