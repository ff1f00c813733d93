//! What an entry is called in a message.

use crate::model::RelPath;

/// The path of an entry in a mapping, whose source or destination is `root` as written in the
/// configuration.
pub(super) fn below(root: &str, path: &RelPath) -> String {
    let root = root.trim_end_matches('/');
    if path.is_root() {
        root.to_owned()
    } else {
        format!("{root}/{path}")
    }
}
