//! What a configuration says, after it has been checked.

use std::path::PathBuf;
use std::time::Duration;

use globset::{Candidate, Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use secrecy::{ExposeSecret as _, SecretString};

use crate::model::{HostId, LocalPath, RelPath, RemotePath};

/// The names that [`Settings::ciphers`] may hold, as OpenSSH spells them.
pub const CIPHERS: [&str; 10] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "rijndael-cbc@lysator.liu.se",
];

/// A checked configuration.
///
/// Invariants: host ids are unique; no two mappings of one host have destinations that overlap.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it was read from.
    pub path: PathBuf,
    /// Everything that is not about one host.
    pub settings: Settings,
    /// The hosts, in the order in which they are written.
    pub hosts: Vec<Host>,
}

/// Everything that is not about one host. Paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many hosts are worked on at once; at least 1.
    pub number_of_connections: usize,
    /// Folder of the log files.
    pub log_path: PathBuf,
    /// Folder of the state.
    pub state_path: PathBuf,
    /// The `known_hosts` file.
    pub known_hosts_path: PathBuf,
    /// Whether the old program was asked to keep syncing.
    pub autosync: bool,
    /// How often `watch` looks when nothing has changed here.
    pub sync_interval: Duration,
    /// Longest wait for the TCP connection and the key exchange.
    pub connect_timeout: Duration,
    /// Longest wait for the login.
    pub login_timeout: Duration,
    /// Longest time without a byte in either direction.
    pub stall_timeout: Duration,
    /// Where hosts keep staging, journal and backups; `None` for the default below the login folder.
    pub staging_path: Option<RemotePath>,
    /// How many applies keep the versions that they replaced.
    pub backups: u32,
    /// Largest share of a mapping that one apply may delete.
    pub max_delete: MaxDelete,
    /// Which permission bits are compared and set.
    pub modes: Modes,
    /// Globs of files whose text no diff shows, in addition to the built-in list.
    pub diff_hide: Vec<String>,
    /// Exceptions to `diff_hide` and the built-in list.
    pub diff_show: Vec<String>,
    /// Largest file whose text a diff shows.
    pub diff_limit_bytes: u64,
    /// Ciphers in order of preference, all of them from [`CIPHERS`]; `None` for the built-in order.
    pub ciphers: Option<Vec<String>>,
    /// Whether the SSH stream is compressed.
    pub compress: bool,
}

/// A share of a mapping, in percent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MaxDelete {
    /// 0 to 100.
    pub percent: u8,
}

impl MaxDelete {
    /// Whether deleting `deletes` out of `entries` is within the limit.
    pub fn allows(self, deletes: usize, entries: usize) -> bool {
        deletes * 100 <= entries * usize::from(self.percent)
    }
}

/// Which permission bits are compared and set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Modes {
    /// All twelve.
    All,
    /// Whether a file is executable; for sources from a git checkout, where nothing else is kept.
    Executable,
}

/// One host to be kept in the desired state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub id: HostId,
    /// IPv4 or IPv6 address or DNS name; where to connect.
    pub address: String,
    /// TCP port of its `sshd`.
    pub port: u16,
    /// Who to log in as.
    pub user: String,
    /// How to log in.
    pub auth: Auth,
    /// Names it can be picked by, together with others.
    pub groups: Vec<String>,
    /// What it gets, in the order in which it is written.
    pub mappings: Vec<Mapping>,
    /// Why this host cannot be worked on (no mapper file, for instance), with the cure; the others
    /// go on.
    pub problem: Option<String>,
    /// Why it cannot be logged in to (no key file, for instance), with the cure. A plan that looks at no
    /// host does not care.
    pub login_problem: Option<String>,
}

impl Host {
    /// Why this host can be neither logged in to nor worked on, with the cures.
    pub fn problems(&self) -> Option<String> {
        let problems: Vec<&str> = [&self.login_problem, &self.problem]
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        (!problems.is_empty()).then(|| problems.join("; "))
    }

    /// The same for work that needs no sources: one that is missing is no problem then.
    pub fn problems_without_sources(&self) -> Option<String> {
        // Mappings are known only where nothing but sources may be missing.
        if self.mappings.is_empty() {
            self.problems()
        } else {
            self.login_problem.clone()
        }
    }
}

/// How to log in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Auth {
    /// The private key to use, before anything else.
    pub identity_file: Option<LocalPath>,
    /// The password.
    pub passkey: Option<Passkey>,
}

/// Where a password comes from. Its `Debug` output never holds the password.
#[derive(Clone, Debug)]
pub enum Passkey {
    /// Written in the file.
    Literal(SecretString),
    /// In an environment variable of this name.
    Env(String),
    /// The first line that this shell command prints.
    Command(String),
}

impl PartialEq for Passkey {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(one), Self::Literal(other)) => {
                one.expose_secret() == other.expose_secret()
            }
            (Self::Env(one), Self::Env(other)) | (Self::Command(one), Self::Command(other)) => {
                one == other
            }
            _ => false,
        }
    }
}

impl Eq for Passkey {}

/// One `{src, dest}` of a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The local file or folder; absolute.
    pub src: LocalPath,
    /// `src` as it is written, for people and for the plan.
    pub src_as_written: String,
    /// The full path that `src` takes on the host.
    pub dest: RemotePath,
    /// `dest` as people see it: as it is written, with the base name of `src` appended where it ends
    /// in a slash.
    pub dest_as_written: String,
    /// What happens to what the source does not have.
    pub exact: Exact,
    /// What is left out, on both sides.
    pub exclude: Excludes,
    /// What happens to symbolic links of the source.
    pub symlinks: SymlinkPolicy,
    /// Whether a login as root writes below a folder that somebody else can change, without a conflict.
    pub trust_ancestors: bool,
}

/// What happens to what is on the host and not in the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Exact {
    /// It stays.
    #[default]
    No,
    /// What was written by an earlier apply, and is still as it was written, is deleted.
    Orphans,
    /// Everything that the source does not have is deleted.
    Mirror,
}

/// What happens to symbolic links of the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum SymlinkPolicy {
    /// They arrive as links with the same target.
    #[default]
    Preserve,
    /// What they point to arrives instead.
    Follow,
    /// They are left out.
    Skip,
}

/// A glob that cannot be understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{glob}` is not a glob: {reason}")]
pub struct ExcludesError {
    /// The pattern.
    pub glob: String,
    /// What is wrong with it.
    pub reason: String,
}

/// The `exclude` globs of a mapping.
///
/// A pattern without a slash matches the name of an entry at any depth; one with a slash is relative
/// to the root of the mapping. `*` and `?` do not match a slash, `**` does. A trailing slash is
/// ignored. What lies below an excluded folder is excluded too; the root never is.
#[derive(Clone, Debug)]
pub struct Excludes {
    patterns: Vec<String>,
    names: GlobSet,
    paths: GlobSet,
}

impl Default for Excludes {
    fn default() -> Self {
        Self {
            patterns: Vec::new(),
            names: GlobSet::empty(),
            paths: GlobSet::empty(),
        }
    }
}

impl Excludes {
    /// Compiles the patterns.
    ///
    /// # Errors
    /// Names the first pattern that is not a glob.
    pub fn new(patterns: Vec<String>) -> Result<Self, ExcludesError> {
        let mut names = GlobSetBuilder::new();
        let mut paths = GlobSetBuilder::new();
        for pattern in &patterns {
            let trimmed = pattern.trim_end_matches('/');
            if trimmed.contains('/') {
                paths.add(Self::glob(trimmed.trim_start_matches('/'))?);
            } else {
                names.add(Self::glob(trimmed)?);
            }
        }
        let build = |set: &GlobSetBuilder| {
            set.build().map_err(|error| ExcludesError {
                glob: patterns.join(", "),
                reason: error.kind().to_string(),
            })
        };
        Ok(Self {
            names: build(&names)?,
            paths: build(&paths)?,
            patterns,
        })
    }

    fn glob(pattern: &str) -> Result<Glob, ExcludesError> {
        GlobBuilder::new(pattern)
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| ExcludesError {
                glob: pattern.to_owned(),
                reason: error.kind().to_string(),
            })
    }

    /// The patterns as they are written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }

    /// Whether `path`, or a folder that holds it, is excluded.
    pub fn excludes(&self, path: &RelPath) -> bool {
        !self.patterns.is_empty() && self.excludes_bytes(path.as_bytes())
    }

    /// For questions about many paths: quick when the next one is mostly in the same folder.
    pub fn in_order(&self) -> ExcludesInOrder<'_> {
        ExcludesInOrder {
            excludes: self,
            folder: Vec::new(),
            has_folder: false,
        }
    }

    /// Whether this path, or a folder that holds it, matches.
    fn excludes_bytes(&self, path: &[u8]) -> bool {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let mut ends = slashes.map(|(at, _)| at).chain([path.len()]);
        ends.any(|end| self.matches(&path[..end]))
    }

    /// Whether this path itself matches.
    fn matches(&self, path: &[u8]) -> bool {
        let name = &path[parent_of(path).map_or(0, |folder| folder.len() + 1)..];
        !path.is_empty()
            && (self.names.is_match_candidate(&Candidate::from_bytes(name))
                || self.paths.is_match_candidate(&Candidate::from_bytes(path)))
    }
}

/// The folder of a path; `None` for one at the top.
fn parent_of(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|byte| *byte == b'/')?;
    Some(&path[..slash])
}

/// Answers what [`Excludes::excludes`] answers, and remembers the last folder.
#[derive(Clone, Debug)]
pub struct ExcludesInOrder<'a> {
    excludes: &'a Excludes,
    folder: Vec<u8>,
    /// Whether that folder is excluded.
    has_folder: bool,
}

impl ExcludesInOrder<'_> {
    /// Whether `path`, or a folder that holds it, is excluded.
    pub fn excludes(&mut self, path: &RelPath) -> bool {
        if self.excludes.patterns.is_empty() {
            return false;
        }
        let path = path.as_bytes();
        let folder = parent_of(path).unwrap_or_default();
        if folder != self.folder {
            self.has_folder = self.excludes.excludes_bytes(folder);
            self.folder.clear();
            self.folder.extend_from_slice(folder);
        }
        self.has_folder || self.excludes.matches(path)
    }
}

impl PartialEq for Excludes {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Excludes {}

#[cfg(test)]
mod tests {
    use super::*;

    fn excludes(patterns: &[&str], path: &str) -> bool {
        let patterns = patterns.iter().map(|&p| p.to_owned()).collect();
        let path = RelPath::new(path).expect("plain");
        Excludes::new(patterns).expect("globs").excludes(&path)
    }

    #[test]
    fn many_questions_are_answered_as_single_ones() {
        let patterns = ["*.o", "/build", "a/*/c", ".git", "x/**"].map(str::to_owned);
        let excludes = Excludes::new(patterns.to_vec()).expect("globs");
        let mut in_order = excludes.in_order();
        let paths = [
            "",
            "a",
            "a/b",
            "a/b/c",
            "a/b/c/d",
            "a/b/d",
            "a/f.o",
            "a/f.o/g",
            "build",
            "build/f",
            "a/build/f",
            "z/.git/f",
            "z/g",
            "x",
            "x/y",
            "x/y/z",
            "a/f",
            "f",
        ];
        let paths = paths.map(|path| RelPath::new(path).expect("plain"));
        let answers = paths.each_ref().map(|path| in_order.excludes(path));
        assert_eq!(
            answers,
            paths.each_ref().map(|path| excludes.excludes(path))
        );
        assert_eq!(answers.iter().filter(|answer| **answer).count(), 9);
    }

    #[test]
    fn pattern_without_slash_matches_names_at_any_depth() {
        assert!(excludes(&["*.o"], "a/b/c.o"));
        assert!(excludes(&[".git"], ".git/config"));
        assert!(!excludes(&["*.o"], "a/b.o.c"));
    }

    #[test]
    fn pattern_with_slash_is_relative_to_the_root() {
        assert!(excludes(&["/build"], "build/x"));
        assert!(!excludes(&["a/build"], "b/a/build"));
        assert!(excludes(&["**/tmp/*"], "a/b/tmp/x"));
    }

    #[test]
    fn root_is_never_excluded() {
        assert!(!excludes(&["*", "**"], ""));
    }

    #[test]
    fn max_delete_is_a_share() {
        let half = MaxDelete { percent: 50 };
        assert!(half.allows(1, 2));
        assert!(!half.allows(2, 3));
        assert!(half.allows(0, 0));
    }
}
