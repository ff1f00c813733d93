//! The folder that a configuration of a stranger may not lead out of.
//!
//! Links are followed by hand, one name at a time, so that nothing outside is even looked at: whether
//! something is there is for nobody to find out. What is looked up and what is read later is the same as
//! long as nobody changes the folder meanwhile.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use walkdir::WalkDir;

use super::document::Document;
use super::error::{Issue, IssueCode};
use super::types::Excludes;
use crate::model::RelPath;

/// No file of a stranger's configuration is larger; one of ten thousand hosts is not.
const LARGEST_FILE_BYTES: u64 = 16 << 20;

/// Links that one path may lead through, as on Linux.
const MOST_LINKS: usize = 40;

/// The folder of a configuration that a stranger wrote.
pub(super) struct Enclosure {
    /// As it was named.
    written: PathBuf,
    /// Without links.
    real: PathBuf,
    /// The links that lead out of sources, by source and by what is left out of it: hosts share sources.
    links_out: RefCell<LinksOut>,
}

type LinksOut = HashMap<(PathBuf, Vec<String>), Option<PathBuf>>;

impl Enclosure {
    /// That of the folder that holds the main file; both paths are absolute. A folder below the current one may
    /// not be reached through a link that leads elsewhere.
    ///
    /// # Errors
    /// When that is not so, or the folder cannot be looked at.
    pub(super) fn of(folder: &Path, current_dir: &Path) -> io::Result<Self> {
        let written = folder.to_owned();
        let real = written.canonicalize()?;
        if written.starts_with(current_dir) && !real.starts_with(current_dir.canonicalize()?) {
            return Err(refused(
                "its folder is reached through a link that leads out of the current folder; name the \
                 folder itself with `--config`",
            ));
        }
        Ok(Self {
            written,
            real,
            links_out: RefCell::default(),
        })
    }

    /// Where an absolute path leads; `None` where that is not below the folder. What does not exist leads
    /// to itself.
    pub(super) fn follow(&self, path: &Path) -> Option<PathBuf> {
        let mut rest = VecDeque::from(self.names_below(path)?);
        let mut at = self.real.clone();
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                if at == self.real {
                    return None;
                }
                at.pop();
                continue;
            }
            at.push(name);
            let Ok(target) = fs::read_link(&at) else {
                continue;
            };
            links += 1;
            if links > MOST_LINKS {
                return None;
            }
            at.pop();
            let names = if target.is_absolute() {
                at.clone_from(&self.real);
                self.names_below(&target)?
            } else {
                names_of(&target)
            };
            for name in names.into_iter().rev() {
                rest.push_front(name);
            }
        }
        Some(at)
    }

    /// The names that lead from the folder to a path; `None` for one that does not start with the folder.
    fn names_below(&self, path: &Path) -> Option<Vec<OsString>> {
        let below = path.strip_prefix(&self.written);
        let below = below.or_else(|_| path.strip_prefix(&self.real)).ok()?;
        Some(names_of(below))
    }

    /// Reads a file of the configuration.
    ///
    /// # Errors
    /// When it lies outside, is not a file or is very large; and when the system says so.
    pub(super) fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let Some(real) = self.follow(path) else {
            return Err(refused(
                "it is a link that leads out of the configuration's folder, and the configuration is not \
                 trusted; put the file itself there",
            ));
        };
        // A pipe must not block.
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(real)?;
        if !file.metadata()?.is_file() {
            return Err(refused("it is not a file"));
        }
        let mut bytes = Vec::new();
        file.take(LARGEST_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST_FILE_BYTES {
            return Err(refused(
                "it is larger than 16 MiB, and the configuration is not trusted",
            ));
        }
        Ok(bytes)
    }

    /// The first link below a source that leads out, where links are followed; relative to the source,
    /// which is below the folder.
    pub(super) fn link_out(&self, source: &Path, exclude: &Excludes) -> Option<PathBuf> {
        let key = (source.to_owned(), exclude.patterns().to_owned());
        let mut known = self.links_out.borrow_mut();
        let found = known.entry(key);
        found
            .or_insert_with(|| self.find_link_out(source, exclude))
            .clone()
    }

    fn find_link_out(&self, source: &Path, exclude: &Excludes) -> Option<PathBuf> {
        let mut walk = WalkDir::new(source)
            .min_depth(1)
            .follow_links(true)
            .into_iter();
        while let Some(entry) = walk.next() {
            let path = match &entry {
                Ok(entry) => entry.path(),
                Err(error) => error.path().unwrap_or(source),
            };
            let Ok(below) = path.strip_prefix(source) else {
                continue;
            };
            let is_excluded = RelPath::new(below.as_os_str().as_bytes())
                .is_ok_and(|below| exclude.excludes(&below));
            if is_excluded {
                if entry.is_ok_and(|entry| entry.file_type().is_dir()) {
                    walk.skip_current_dir();
                }
                continue;
            }
            if path.is_symlink() && self.follow(path).is_none() {
                return Some(below.to_owned());
            }
        }
        None
    }
}

/// What is marked where a path leads out of the folder.
pub(super) const ELSEWHERE: &str = "this, or a link on the way, leads elsewhere";

/// The issue for a path of a stranger that leads out of the folder. `what` names it.
pub(super) fn leads_out(document: &Document, what: &str) -> Issue {
    document
        .issue(
            IssueCode::OutsideFolder,
            format!("{what} leads out of the configuration's folder"),
        )
        .help(
            "the configuration is not trusted, so all that it names has to lie in its folder: put it there, \
             or leave out `--untrusted-config` if you trust whoever wrote it",
        )
}

fn refused(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason)
}

fn names_of(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::CurDir | Component::RootDir | Component::Prefix(_) => None,
    });
    names.collect()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

    use std::os::unix::fs::symlink;

    use super::*;

    /// A folder `site` beside a folder `other`, each with a file, and links in the first.
    fn site(links: &[(&str, &str)]) -> (tempfile::TempDir, Enclosure) {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().canonicalize().unwrap();
        for folder in ["site/sub", "other"] {
            fs::create_dir_all(root.join(folder)).unwrap();
            fs::write(root.join(folder).join("file"), "x").unwrap();
        }
        for (name, target) in links {
            let target = target.replace("ROOT", root.to_str().unwrap());
            symlink(target, root.join("site").join(name)).unwrap();
        }
        let enclosure = Enclosure::of(&root.join("site"), &root).unwrap();
        (temp, enclosure)
    }

    fn leads_to(enclosure: &Enclosure, path: &str) -> Option<String> {
        let real = enclosure.follow(&enclosure.written.join(path))?;
        let below = real.strip_prefix(&enclosure.real).unwrap();
        Some(below.to_str().unwrap().to_owned())
    }

    #[test]
    fn links_are_followed_as_long_as_they_stay_inside() {
        let (_temp, enclosure) = site(&[
            ("in", "sub"),
            ("again", "./in/../in"),
            ("whole", "ROOT/site/sub"),
            ("back", "sub/../../site/sub"),
            ("gone", "nowhere"),
        ]);
        for (path, end) in [
            ("sub/file", Some("sub/file")),
            ("in/file", Some("sub/file")),
            ("again/file", Some("sub/file")),
            ("whole/file", Some("sub/file")),
            ("gone/x", Some("nowhere/x")),
            ("sub/../sub", Some("sub")),
            // It goes out on the way, even though it comes back.
            ("back/file", None),
            ("../site/sub", None),
        ] {
            assert_eq!(leads_to(&enclosure, path).as_deref(), end, "{path}");
        }
    }

    #[test]
    fn nothing_leads_out_whether_or_not_it_exists() {
        let (_temp, enclosure) = site(&[
            ("etc", "/etc"),
            ("up", ".."),
            ("other", "ROOT/other/file"),
            ("sub/deep", "../../other"),
            ("nowhere", "/nowhere/at/all"),
            ("loop", "loop"),
            ("two", "up/other"),
        ]);
        for path in [
            "etc",
            "etc/passwd",
            "up/other",
            "other",
            "sub/deep",
            "nowhere",
            "nowhere/x",
            "loop",
            "two",
            "..",
            "/etc",
            "/",
        ] {
            assert_eq!(leads_to(&enclosure, path), None, "{path}");
        }
    }

    #[test]
    fn only_files_of_some_size_are_read() {
        let (temp, enclosure) = site(&[("other", "ROOT/other/file"), ("in", "sub/file")]);
        let folder = temp.path().join("site");
        let read = |name: &str| enclosure.read(&enclosure.written.join(name));
        assert_eq!(read("in").unwrap(), b"x");
        let pipe = folder.join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .unwrap();
        let large = fs::File::create(folder.join("large")).unwrap();
        large.set_len(LARGEST_FILE_BYTES + 1).unwrap();
        for name in ["other", "pipe", "large", "sub"] {
            let error = read(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}: {error}");
        }
        assert_eq!(read("gone").unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn link_in_a_source_that_leads_out_is_found_unless_it_is_left_out() {
        let (_temp, enclosure) = site(&[("sub/in", "file"), ("sub/out", "/etc/passwd")]);
        let source = enclosure.real.join("sub");
        let exclude = |patterns: &[&str]| {
            Excludes::new(patterns.iter().map(|&it| it.to_owned()).collect()).unwrap()
        };
        let found = |patterns| enclosure.link_out(&source, &exclude(patterns));
        assert_eq!(found(&[]), Some("out".into()));
        assert_eq!(found(&["in"]), Some("out".into()));
        assert_eq!(found(&["out"]), None);
    }

    #[test]
    fn folder_of_the_configuration_is_not_reached_through_a_link_out_of_here() {
        let (temp, _) = site(&[("config", "../other")]);
        let root = temp.path().canonicalize().unwrap();
        let of = |current: &str| Enclosure::of(&root.join("site/config"), &root.join(current));
        assert!(of("site").is_err());
        // Whoever names it from elsewhere means it.
        assert!(of("other").is_ok());
    }
}
