//! What is at the destination of a mapping.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{Kind, Node, RelPath, Tree};

/// What is at the destination of a mapping: a tree, but for some entries. That is the recorded tree
/// mostly, which hosts share, so that of a host only what has moved there takes memory and time.
#[derive(Clone, Debug, Default)]
pub struct Actual {
    base: Arc<Tree>,
    /// In byte order of their path, each path once; `None` for what is not there.
    moved: Vec<(RelPath, Option<Node>)>,
}

impl From<Tree> for Actual {
    fn from(tree: Tree) -> Self {
        Self::from(Arc::new(tree))
    }
}

impl From<Arc<Tree>> for Actual {
    fn from(base: Arc<Tree>) -> Self {
        Self {
            base,
            moved: Vec::new(),
        }
    }
}

impl Actual {
    /// What is in `base`, but for these entries; `None` for what is not there. What would then lie below
    /// something that is no folder is left out: a lookup there went through a symbolic link.
    pub fn with_moved(base: Arc<Tree>, moved: BTreeMap<RelPath, Option<Node>>) -> Self {
        let moved = moved.into_iter().collect();
        let mut actual = Self { base, moved };
        let hidden = actual.hidden_by_what_moved();
        if !hidden.is_empty() {
            let mut moved: BTreeMap<_, _> = actual.moved.into_iter().collect();
            moved.extend(hidden.into_iter().map(|path| (path, None)));
            actual.moved = moved.into_iter().collect();
        }
        actual
    }

    fn hidden_by_what_moved(&self) -> Vec<RelPath> {
        let is_folder = |node: &Node| node.kind() == Kind::Dir;
        let mut hidden = Vec::new();
        for (path, node) in &self.moved {
            let Some(node) = node else { continue };
            let mut folders = std::iter::successors(path.parent(), RelPath::parent);
            if folders.any(|folder| self.get(&folder).is_some_and(|node| !is_folder(node))) {
                hidden.push(path.clone());
            }
            if !is_folder(node) {
                let below = self.base.below(path);
                hidden.extend(below.map(|entry| entry.path.clone()));
            }
        }
        hidden
    }

    /// Whether it is this very tree, without an exception.
    pub fn is_just(&self, tree: &Arc<Tree>) -> bool {
        self.moved.is_empty() && Arc::ptr_eq(&self.base, tree)
    }

    /// The entry at `path`.
    pub fn get(&self, path: &RelPath) -> Option<&Node> {
        match self.moved.binary_search_by(|(moved, _)| moved.cmp(path)) {
            Ok(index) => self.moved[index].1.as_ref(),
            Err(_) => self.base.get(path),
        }
    }

    /// The entries in byte order of their path.
    pub fn iter(&self) -> impl Iterator<Item = (&RelPath, &Node)> {
        let mut base = self.base.entries().iter().peekable();
        let mut moved = self.moved.iter().peekable();
        std::iter::from_fn(move || {
            loop {
                let order = match (base.peek(), moved.peek()) {
                    (Some(entry), Some((path, _))) => entry.path.cmp(path),
                    (Some(_), None) => Ordering::Less,
                    (None, _) => Ordering::Greater,
                };
                if order == Ordering::Less {
                    return base.next().map(|entry| (&entry.path, &entry.node));
                }
                if order == Ordering::Equal {
                    base.next();
                }
                if let (path, Some(node)) = moved.next()? {
                    return Some((path, node));
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::model::{Entry, Mode};

    fn path(text: &str) -> RelPath {
        RelPath::new(text).unwrap()
    }

    fn dir() -> Node {
        Node::Dir {
            meta: Mode::new(0o755).into(),
        }
    }

    fn link() -> Node {
        Node::Symlink {
            target: (*b"x").into(),
        }
    }

    fn actual(base: &[(&str, Node)], moved: &[(&str, Option<Node>)]) -> Actual {
        let entry = |(text, node): &(&str, Node)| Entry {
            path: path(text),
            node: node.clone(),
        };
        let moved = moved.iter().map(|(text, node)| (path(text), node.clone()));
        Actual::with_moved(Arc::new(base.iter().map(entry).collect()), moved.collect())
    }

    fn paths(actual: &Actual) -> Vec<String> {
        let found: Vec<_> = actual.iter().collect();
        for (path, node) in &found {
            assert_eq!(actual.get(path), Some(*node));
        }
        found.iter().map(|(path, _)| path.to_string()).collect()
    }

    #[test]
    fn what_moved_takes_the_place_of_what_was_there() {
        let base = [("a", dir()), ("b", dir()), ("d", dir())];
        let moved = [
            ("a", Some(link())),
            ("b", None),
            ("c", Some(dir())),
            ("x", None),
        ];
        let actual = actual(&base, &moved);
        assert_eq!(paths(&actual), ["a", "c", "d"]);
        assert_eq!(actual.get(&path("a")), Some(&link()));
        assert_eq!(actual.get(&path("b")), None);
    }

    #[test]
    fn nothing_lies_below_what_became_a_link() {
        let base = [
            ("", dir()),
            ("a", dir()),
            ("a-b", dir()),
            ("a/x", dir()),
            ("a/x/y", dir()),
        ];
        let moved = [("a", Some(link())), ("a/x", Some(dir()))];
        assert_eq!(paths(&actual(&base, &moved)), ["", "a", "a-b"]);
        let moved = [("", Some(link()))];
        assert_eq!(paths(&actual(&base, &moved)), [""]);
    }

    #[test]
    fn nothing_new_lies_below_a_link() {
        let base = [("a", link())];
        let moved = [("a/x", Some(dir())), ("a/x/y", Some(dir()))];
        assert_eq!(paths(&actual(&base, &moved)), ["a"]);
    }
}
