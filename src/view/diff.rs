//! How the content of a file differs, in words and lines.

use anstyle::Style;

use super::style::{CREATE, DELETE, PLAIN, QUIET};
use super::text::{escape_text, size};
use crate::model::Node;
use crate::plan::{Change, Diff};

/// A line of a diff, as it may be printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DiffLine {
    /// How it is painted.
    pub(super) style: Style,
    /// With the sign in front, without a newline.
    pub(super) text: String,
}

/// The lines of [`Diff::Text`]. Only its tabs act on a terminal.
pub(super) fn lines(text: &str) -> impl Iterator<Item = DiffLine> {
    text.split_terminator('\n').map(|line| {
        let style = match line.as_bytes().first() {
            Some(b'+') => CREATE,
            Some(b'-') => DELETE,
            Some(b'@' | b'\\') => QUIET,
            _ => PLAIN,
        };
        let parts: Vec<String> = line.split('\t').map(escape_text).collect();
        let text = parts.join("\t");
        DiffLine { style, text }
    })
}

/// Why there are no lines to be shown, on one line; `None` where there are.
pub(super) fn in_words(change: &Change, diff: &Diff) -> Option<String> {
    match diff {
        Diff::Text(_) => None,
        Diff::Binary => Some(format!("binary, {}", sizes(change))),
        Diff::Hidden => Some("not shown: private".to_owned()),
        Diff::TooLarge => Some(format!(
            "not shown: too large or too many lines, {}",
            sizes(change)
        )),
        Diff::Unavailable(reason) => Some(format!("not shown: {}", escape_text(reason))),
    }
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
        let styles: Vec<Style> = lines.iter().map(|line| line.style).collect();
        assert_eq!(styles, [QUIET, DELETE, CREATE, CREATE]);
    }

    #[test]
    fn what_is_not_shown_says_why() {
        let file = |size_bytes| {
            Some(Node::File {
                size_bytes,
                mode: Mode::new(0o644),
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
        let words = |diff: Diff| in_words(&both, &diff);
        let unavailable = Diff::Unavailable("it\nmoved".to_owned());
        assert_eq!(words(Diff::Text(String::new())), None);
        assert_eq!(
            [Diff::Binary, Diff::Hidden, Diff::TooLarge, unavailable]
                .map(|it| words(it).unwrap_or_default()),
            [
                "binary, 4.2 KiB → 5.0 KiB",
                "not shown: private",
                "not shown: too large or too many lines, 4.2 KiB → 5.0 KiB",
                "not shown: it\\nmoved",
            ]
        );
        let new = in_words(&change(None, file(1)), &Diff::Binary);
        assert_eq!(new.as_deref(), Some("binary, 1 B"));
    }
}
