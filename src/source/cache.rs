//! Digests of files that were read before, by path and stat tuple.
//!
//! One binary file: a header, the entries, and a blake3 digest of all of it. Whatever does not fit is
//! thrown away: the cache saves time and decides nothing.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::content::{Stamp, Time};
use crate::model::{Blake3, ContentDigest, Sha256};

/// Name of the file, with the version of its format.
const FILE_NAME: &str = "sources-1";
const HEADER: &[u8; 16] = b"hostsync sources";
/// How many entries are kept at most for files that the present run has not looked at.
const MAX_OTHERS: usize = 500_000;

/// The digests that are known.
#[derive(Debug)]
pub(super) struct HashCache {
    dir: PathBuf,
    entries: HashMap<Box<[u8]>, Known>,
}

/// What is known of one path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// The file's stat tuple when it was read.
    pub(super) stamp: Stamp,
    /// What was read: always blake3, perhaps sha256.
    pub(super) digest: ContentDigest,
}

impl HashCache {
    /// Reads the cache in `dir`; an empty one when there is none that can be used.
    pub(super) fn load(dir: &Path) -> Self {
        let path = dir.join(FILE_NAME);
        let entries = match fs::read(&path) {
            Ok(bytes) => decode(&bytes).unwrap_or_else(|| {
                tracing::warn!(path = %path.display(), "the hash cache is damaged and not used");
                HashMap::new()
            }),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "cannot read the hash cache");
                }
                HashMap::new()
            }
        };
        Self {
            dir: dir.to_owned(),
            entries,
        }
    }

    /// What is known of the file at `path`, provided that it is still the same.
    pub(super) fn get(&self, path: &Path, stamp: &Stamp) -> Option<ContentDigest> {
        self.entries
            .get(path.as_os_str().as_bytes())
            .filter(|known| known.stamp == *stamp)
            .map(|known| known.digest)
    }

    /// Takes in what a run has seen below `roots`, and forgets what is no longer there. A cache that
    /// cannot be written is logged and no error.
    pub(super) fn update(&self, seen: &HashMap<Box<[u8]>, Known>, roots: &HashSet<&Path>) {
        let others: Vec<_> = self
            .entries
            .iter()
            .filter(|(path, _)| {
                !seen.contains_key(*path)
                    && !Path::new(OsStr::from_bytes(path))
                        .ancestors()
                        .any(|ancestor| roots.contains(ancestor))
            })
            .take(MAX_OTHERS)
            .collect();
        let nothing_new = seen.len() + others.len() == self.entries.len()
            && seen
                .iter()
                .all(|(path, known)| self.entries.get(path) == Some(known));
        if nothing_new {
            return;
        }
        let bytes = encode(seen.iter().chain(others));
        if let Err(error) = self.write(&bytes) {
            tracing::warn!(dir = %self.dir.display(), %error, "cannot write the hash cache");
        }
    }

    /// Not synced: after a power cut the checksum tells.
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)?;
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.dir)?;
        file.write_all(bytes)?;
        file.persist(self.dir.join(FILE_NAME))?;
        Ok(())
    }
}

fn encode<'a>(entries: impl Iterator<Item = (&'a Box<[u8]>, &'a Known)>) -> Vec<u8> {
    let mut out = HEADER.to_vec();
    for (path, Known { stamp, digest }) in entries {
        // One without a blake3 digest is not made, one with such a path cannot be.
        let (Some(blake3), Ok(length)) = (digest.blake3, u32::try_from(path.len())) else {
            continue;
        };
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(path);
        for number in [stamp.dev, stamp.inode, stamp.size_bytes] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        for time in [stamp.mtime, stamp.ctime] {
            out.extend_from_slice(&time.seconds.to_le_bytes());
            out.extend_from_slice(&time.nanoseconds.to_le_bytes());
        }
        out.extend_from_slice(blake3.as_bytes());
        out.push(u8::from(digest.sha256.is_some()));
        if let Some(sha256) = digest.sha256 {
            out.extend_from_slice(sha256.as_bytes());
        }
    }
    let checksum = blake3::hash(&out);
    out.extend_from_slice(checksum.as_bytes());
    out
}

fn decode(bytes: &[u8]) -> Option<HashMap<Box<[u8]>, Known>> {
    let (body, checksum) = bytes.split_last_chunk::<32>()?;
    let mut hasher = blake3::Hasher::new();
    if hasher.update_rayon(body).finalize() != *checksum {
        return None;
    }
    let mut rest = Rest(body.strip_prefix(HEADER)?);
    let mut entries = HashMap::with_capacity(rest.0.len() / 150);
    while !rest.0.is_empty() {
        let length = u32::from_le_bytes(rest.take()?);
        let path = rest.take_slice(usize::try_from(length).ok()?)?;
        let stamp = Stamp {
            dev: u64::from_le_bytes(rest.take()?),
            inode: u64::from_le_bytes(rest.take()?),
            size_bytes: u64::from_le_bytes(rest.take()?),
            mtime: rest.take_time()?,
            ctime: rest.take_time()?,
        };
        let blake3 = Some(Blake3::from_bytes(rest.take()?));
        let sha256 = match rest.take::<1>()? {
            [0] => None,
            _ => Some(Sha256::from_bytes(rest.take()?)),
        };
        let digest = ContentDigest { blake3, sha256 };
        entries.insert(path.into(), Known { stamp, digest });
    }
    Some(entries)
}

/// What is still to be decoded.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    fn take_slice(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn take_time(&mut self) -> Option<Time> {
        Some(Time {
            seconds: i64::from_le_bytes(self.take()?),
            nanoseconds: i64::from_le_bytes(self.take()?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use super::*;

    fn known(number: u64) -> Known {
        let time = Time {
            seconds: -1,
            nanoseconds: 999_999_999,
        };
        Known {
            stamp: Stamp {
                dev: 1,
                inode: number,
                size_bytes: u64::MAX,
                mtime: time,
                ctime: time,
            },
            digest: ContentDigest {
                blake3: Some(Blake3::of(&number.to_le_bytes())),
                sha256: number
                    .is_multiple_of(2)
                    .then(|| Sha256::from_bytes([7; 32])),
            },
        }
    }

    fn entries(paths: &[&[u8]]) -> HashMap<Box<[u8]>, Known> {
        let numbers = 0..;
        let paths = paths.iter().map(|&path| path.into());
        paths.zip(numbers.map(known)).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("state/cache");
        let cache = HashCache::load(&dir);
        let seen = entries(&[b"/a/x", b"/a/\xff\n", b"/a/y"]);
        cache.update(&seen, &HashSet::from([Path::new("/a")]));
        let cache = HashCache::load(&dir);
        assert_eq!(cache.entries, seen);
        let known = seen[&b"/a/x"[..]];
        let path = Path::new("/a/x");
        assert_eq!(cache.get(path, &known.stamp), Some(known.digest));
        let moved = Stamp {
            inode: 99,
            ..known.stamp
        };
        assert_eq!(cache.get(path, &moved), None);
    }

    #[test]
    fn only_what_is_gone_from_the_roots_of_this_run_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HashCache {
            dir: dir.path().to_owned(),
            entries: entries(&[b"/a/gone", b"/a/x", b"/b/other", b"/ab"]),
        };
        let seen = HashMap::from([(Box::from(&b"/a/x"[..]), known(5))]);
        cache.update(&seen, &HashSet::from([Path::new("/a")]));
        let after = HashCache::load(dir.path()).entries;
        let mut paths: Vec<_> = after.keys().map(|path| &path[..]).collect();
        paths.sort_unstable();
        assert_eq!(paths, [&b"/a/x"[..], b"/ab", b"/b/other"]);
        assert_eq!(after[&b"/a/x"[..]], known(5));
    }

    #[test]
    fn nothing_is_written_when_nothing_is_new() {
        let dir = tempfile::tempdir().unwrap();
        let cache = HashCache {
            dir: dir.path().to_owned(),
            entries: entries(&[b"/a/x", b"/b/other"]),
        };
        let seen = HashMap::from([(Box::from(&b"/a/x"[..]), known(0))]);
        cache.update(&seen, &HashSet::from([Path::new("/a")]));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn altered_or_cut_cache_is_not_used() {
        let bytes = encode(entries(&[b"/a/x", b"/b/y"]).iter());
        assert_eq!(decode(&bytes).unwrap().len(), 2);
        for at in 0..bytes.len() {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(decode(&altered), None, "byte {at}");
            assert_eq!(decode(&bytes[..at]), None, "cut at {at}");
        }
    }
}
