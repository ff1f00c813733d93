//! How the contents of files differ.

use std::collections::HashMap;

use super::class::Class;
use super::hosts::Hosts;
use crate::model::Node;
use crate::plan::{Change, Diff};
use crate::view::words::{escape_text, size};

/// Lines from which on a diff that an earlier group has, too, need not be shown again.
const REPEATED_MIN: usize = 5;

/// How the content of one entry differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentDiff<'a> {
    /// Index of its mapping.
    pub mapping: usize,
    /// What happens to it.
    pub class: Class,
    /// Its path below the destination of the mapping.
    pub name: String,
    /// Destination and path in one.
    pub full_name: String,
    /// What there is to be shown.
    pub content: Content<'a>,
}

/// What there is to be shown of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// How it differs.
    Lines {
        /// The lines, with their signs.
        lines: Vec<DiffLine>,
        /// The hosts of an earlier group that has the same ones, where they are more than a few.
        same_as: Option<Hosts<'a>>,
    },
    /// Why there are no lines.
    Words {
        /// What is said.
        words: String,
        /// What a host or the system said, which comes behind it; may be empty.
        quote: String,
    },
}

/// A line of a diff.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiffLine {
    /// What it tells.
    pub kind: LineKind,
    /// With the sign in front, without a newline. Only its tabs act on a terminal.
    pub text: String,
}

/// What a line of a diff tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineKind {
    /// It will be there.
    Added,
    /// It will be gone.
    Removed,
    /// It stays.
    Context,
    /// Where the lines below it are, or that the last one has no newline.
    Frame,
}

/// The diffs of more than a few lines that came up, by path and text, with the first hosts that have them.
#[derive(Default)]
pub(super) struct Earlier<'a, 's>(HashMap<(String, &'s str), Hosts<'a>>);

impl<'a, 's> Earlier<'a, 's> {
    /// What is shown of the change of an entry on these hosts.
    pub(super) fn content(
        &mut self,
        name: &str,
        change: &Change,
        diff: &'s Diff,
        hosts: &Hosts<'a>,
    ) -> Content<'a> {
        let text = match diff {
            Diff::Text(text) => text,
            other => {
                let (words, quote) = in_words(change, other);
                return Content::Words { words, quote };
            }
        };
        let lines: Vec<DiffLine> = lines(text).collect();
        let key = (name.to_owned(), text.as_str());
        let same_as = self.0.get(&key).cloned();
        if same_as.is_none() && lines.len() >= REPEATED_MIN {
            self.0.insert(key, hosts.clone());
        }
        Content::Lines { lines, same_as }
    }
}

/// The lines of [`Diff::Text`].
fn lines(text: &str) -> impl Iterator<Item = DiffLine> {
    text.split_terminator('\n').map(|line| {
        let kind = match line.as_bytes().first() {
            Some(b'+') => LineKind::Added,
            Some(b'-') => LineKind::Removed,
            Some(b'@' | b'\\') => LineKind::Frame,
            _ => LineKind::Context,
        };
        let parts: Vec<String> = line.split('\t').map(escape_text).collect();
        let text = parts.join("\t");
        DiffLine { kind, text }
    })
}

/// Why there are no lines to be shown, on one line, and what others said about it. Both are empty where
/// there are lines.
fn in_words(change: &Change, diff: &Diff) -> (String, String) {
    let ours = match diff {
        Diff::Text(_) => String::new(),
        Diff::Binary => format!("binary, {}", sizes(change)),
        Diff::Hidden => "not shown: private".to_owned(),
        Diff::TooLarge => format!("not shown: too large or too many lines, {}", sizes(change)),
        Diff::Unavailable(reason) => {
            return ("not shown: ".to_owned(), escape_text(reason));
        }
    };
    (ours, String::new())
}

/// `4.2 KiB → 5.0 KiB`; of one side alone where there is no other.
fn sizes(change: &Change) -> String {
    let size_of = |node: &Option<Node>| match node {
        Some(Node::File { size_bytes, .. }) => Some(size(*size_bytes)),
        _ => None,
    };
    let sizes = [size_of(&change.before), size_of(&change.after)];
    sizes.into_iter().flatten().collect::<Vec<_>>().join(" → ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ContentDigest, Mode, RelPath};
    use crate::plan::{Action, Reason};

    #[test]
    fn content_cannot_act_on_the_terminal() {
        let text = "@@ -1 +1,2 @@\n-\ta\u{1b}[2J\r\n+\u{202e}b\u{7}\n+\n";
        let lines: Vec<DiffLine> = lines(text).collect();
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(
            texts,
            [
                "@@ -1 +1,2 @@",
                "-\ta\\u{1b}[2J\\r",
                "+\\u{202e}b\\u{7}",
                "+"
            ]
        );
        let kinds: Vec<LineKind> = lines.iter().map(|line| line.kind).collect();
        assert_eq!(
            kinds,
            [
                LineKind::Frame,
                LineKind::Removed,
                LineKind::Added,
                LineKind::Added
            ]
        );
    }

    #[test]
    fn what_is_not_shown_says_why() {
        let file = |size_bytes| {
            Some(Node::File {
                size_bytes,
                meta: Mode::new(0o644).into(),
                digest: ContentDigest::default(),
            })
        };
        let change = |before, after| Change {
            mapping: 0,
            path: RelPath::root(),
            action: Action::Update,
            reason: Reason::Content,
            drift: false,
            unmanaged: false,
            conflict: false,
            before,
            after,
        };
        let both = change(file(4301), file(5120));
        let words = |diff: Diff| {
            let (words, quote) = in_words(&both, &diff);
            words + &quote
        };
        let unavailable = Diff::Unavailable("it\nmoved".to_owned());
        assert_eq!(words(Diff::Text(String::new())), "");
        assert_eq!(
            [Diff::Binary, Diff::Hidden, Diff::TooLarge, unavailable].map(words),
            [
                "binary, 4.2 KiB → 5.0 KiB",
                "not shown: private",
                "not shown: too large or too many lines, 4.2 KiB → 5.0 KiB",
                "not shown: it\\nmoved",
            ]
        );
        let (new, _) = in_words(&change(None, file(1)), &Diff::Binary);
        assert_eq!(new, "binary, 1 B");
    }
}
