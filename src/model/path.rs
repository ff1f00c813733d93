//! Paths. They are bytes, since names on disk need not be UTF-8.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// A path on this machine.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalPath(PathBuf);

impl LocalPath {
    /// Wraps a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The path for use with the standard library.
    pub fn as_path(&self) -> &Path {
        &self.0
    }

    /// This path with `rel` appended; itself when `rel` is the root.
    #[must_use]
    pub fn join(&self, rel: &RelPath) -> Self {
        if rel.is_root() {
            return self.clone();
        }
        Self(self.0.join(OsStr::from_bytes(rel.as_bytes())))
    }
}

impl fmt::Display for LocalPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.display().fmt(f)
    }
}

/// A path below the root of a mapping; empty for the root itself.
///
/// Invariant: components are separated by single `/`, and none is empty, `.`, `..` or holds a NUL.
/// Ordered by its bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RelPath(Box<[u8]>);

/// Why bytes are not a [`RelPath`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{path}` is not a plain relative path")]
pub struct RelPathError {
    /// The offending bytes, lossily decoded.
    pub path: String,
}

impl RelPath {
    /// The root of a mapping.
    pub fn root() -> Self {
        Self::default()
    }

    /// Checks and wraps bytes.
    ///
    /// # Errors
    /// When a component is empty, `.`, `..` or holds a NUL byte.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, RelPathError> {
        let bytes = bytes.into();
        let plain = bytes.is_empty()
            || bytes.split(|b| *b == b'/').all(|part| {
                !part.is_empty() && part != b"." && part != b".." && !part.contains(&0)
            });
        if plain {
            Ok(Self(bytes.into_boxed_slice()))
        } else {
            Err(RelPathError {
                path: String::from_utf8_lossy(&bytes).into_owned(),
            })
        }
    }

    /// Whether this is the root of the mapping.
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The text, when the name is UTF-8.
    pub fn as_utf8(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }

    /// This path with one more component, or `None` when `name` is not a plain component.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<Self> {
        if name.contains(&b'/') {
            return None;
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + name.len());
        if !self.is_root() {
            bytes.extend_from_slice(&self.0);
            bytes.push(b'/');
        }
        bytes.extend_from_slice(name);
        if name.is_empty() {
            None
        } else {
            Self::new(bytes).ok()
        }
    }

    /// The folder that holds this path; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last component; empty for the root.
    pub fn file_name(&self) -> &[u8] {
        let start = self
            .0
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        &self.0[start..]
    }

    /// Whether this path lies strictly below `ancestor`.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        if ancestor.is_root() {
            return !self.is_root();
        }
        self.0.len() > ancestor.0.len()
            && self.0.starts_with(&ancestor.0)
            && self.0[ancestor.0.len()] == b'/'
    }
}

impl fmt::Debug for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// Lossy: for people, never to build a path from.
impl fmt::Display for RelPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// A path on a host, as its shell tools receive it.
///
/// Invariant: starts with `/` or, below the login folder, with `./`; has no NUL. So it is never
/// mistaken for an option.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemotePath(Box<[u8]>);

impl RemotePath {
    /// The path that a `dest` names: absolute ones as they are, relative ones and those that start
    /// with `~/` from the login folder. Repeated and trailing slashes and `.` components are dropped;
    /// `..` is kept for the caller to refuse.
    pub fn from_dest(dest: &[u8]) -> Self {
        let (prefix, rest): (&[u8], &[u8]) = match dest {
            [b'/', rest @ ..] => (b"/", rest),
            [b'~', b'/', rest @ ..] => (b"./", rest),
            b"~" => (b"./", b""),
            rest => (b"./", rest),
        };
        let parts: Vec<&[u8]> = rest
            .split(|b| *b == b'/')
            .filter(|part| !part.is_empty() && *part != b".")
            .collect();
        let mut bytes = prefix.to_vec();
        bytes.extend_from_slice(&parts.join(&b'/'));
        if bytes == b"./" {
            bytes.pop();
            bytes.extend_from_slice(b"/.");
        }
        Self(bytes.into_boxed_slice())
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// As people write it: what lies below the login folder begins with `~/`.
    pub fn as_written(&self) -> String {
        let path = self.to_string();
        match path.strip_prefix("./") {
            Some("." | "") => "~".to_owned(),
            Some(below) => format!("~/{below}"),
            None => path,
        }
    }

    /// Where `path`, a whole path on the host, lies below this one.
    pub fn strip_from(&self, path: &[u8]) -> Option<RelPath> {
        let rest = path.strip_prefix(self.as_bytes())?;
        if rest.is_empty() {
            return Some(RelPath::root());
        }
        let is_top = self.as_bytes().ends_with(b"/");
        let rest = if is_top {
            rest
        } else {
            rest.strip_prefix(b"/")?
        };
        RelPath::new(rest).ok()
    }

    /// This path with `rel` appended; itself when `rel` is the root.
    #[must_use]
    pub fn join(&self, rel: &RelPath) -> Self {
        if rel.is_root() {
            return self.clone();
        }
        let mut bytes = Vec::with_capacity(self.0.len() + 1 + rel.as_bytes().len());
        bytes.extend_from_slice(&self.0);
        if !bytes.ends_with(b"/") {
            bytes.push(b'/');
        }
        bytes.extend_from_slice(rel.as_bytes());
        Self(bytes.into_boxed_slice())
    }

    /// Whether `other` is this path or lies below it.
    pub fn contains(&self, other: &Self) -> bool {
        let base: &[u8] = if &*self.0 == b"/" || &*self.0 == b"./." {
            &self.0[..1]
        } else {
            &self.0
        };
        *other == *self
            || (other.0.starts_with(base)
                && (base == b"/" || base == b"." || other.0.get(base.len()) == Some(&b'/')))
    }
}

impl fmt::Debug for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

/// Lossy: for people.
impl fmt::Display for RemotePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(&self.0), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rel_path_refuses_what_could_leave_the_mapping() {
        for bad in ["..", "a/../b", "/a", "a/", "a//b", ".", "a/./b", "a\0b"] {
            assert!(RelPath::new(bad).is_err(), "{bad:?}");
        }
        assert!(RelPath::new("").is_ok_and(|root| root.is_root()));
    }

    #[test]
    fn parent_and_child_are_inverse() {
        let path = RelPath::new("a/b").expect("plain");
        assert_eq!(
            path.parent().and_then(|p| p.child(b"b")),
            Some(path.clone())
        );
        assert_eq!(path.file_name(), b"b");
        assert_eq!(RelPath::root().parent(), None);
    }

    #[test]
    fn below_needs_a_component_boundary() {
        let a = RelPath::new("a").expect("plain");
        assert!(RelPath::new("a/b").expect("plain").is_below(&a));
        assert!(!RelPath::new("ab").expect("plain").is_below(&a));
        assert!(!a.is_below(&a));
        assert!(a.is_below(&RelPath::root()));
    }

    #[test]
    fn dest_starts_at_the_root_or_at_the_login_folder() {
        let remote = |text: &str| RemotePath::from_dest(text.as_bytes()).to_string();
        assert_eq!(remote("/srv//app/"), "/srv/app");
        assert_eq!(remote("~/app"), "./app");
        assert_eq!(remote("-rf"), "./-rf");
        assert_eq!(remote("~"), "./.");
        assert_eq!(remote("/"), "/");
    }

    #[test]
    fn contains_knows_component_boundaries() {
        let path = |text: &str| RemotePath::from_dest(text.as_bytes());
        assert!(path("/srv").contains(&path("/srv/a")));
        assert!(path("/srv").contains(&path("/srv")));
        assert!(!path("/srv").contains(&path("/srv2")));
        assert!(path("/").contains(&path("/srv")));
        assert!(path("~").contains(&path("~/a")));
        assert!(!path("~/a").contains(&path("/a")));
    }
}
