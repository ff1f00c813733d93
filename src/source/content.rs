//! Reading one file: its digests, and the stat tuple that they belong to.

use std::cell::RefCell;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::Digest as _;

use crate::model::{Blake3, ContentDigest, Mode, Sha256};

/// From this size on all cores work on one file at a time.
pub(super) const LARGE_BYTES: u64 = 16 << 20;
/// How much of a large file is in memory at once.
const LARGE_BUFFER_BYTES: usize = 1 << 20;
/// How much of a small file is in memory at once, per thread.
const SMALL_BUFFER_BYTES: usize = 1 << 17;

/// How long a file must have rested before its stat tuple is trusted to tell its next change.
///
/// A change within the same tick as the one before leaves size, mtime and ctime as they were. Ticks
/// are 10 ms at most on Linux, 1 or 2 s on some old and foreign file systems; and the clock of a file
/// server may be behind ours by a part of a second. 2 s cover all of these. The price: a file that
/// was changed within the last 2 s is read once more by the next run.
const REST: Duration = Duration::from_secs(2);

/// What changes whenever the content of a file does, provided that it [rested](Stamp::has_rested).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Stamp {
    pub(super) dev: u64,
    pub(super) inode: u64,
    pub(super) size_bytes: u64,
    pub(super) mtime: Time,
    pub(super) ctime: Time,
}

/// A moment as a file system knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Time {
    /// Seconds since 1970.
    pub(super) seconds: i64,
    /// Nanoseconds within that second.
    pub(super) nanoseconds: i64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            dev: metadata.dev(),
            inode: metadata.ino(),
            size_bytes: metadata.size(),
            mtime: Time {
                seconds: metadata.mtime(),
                nanoseconds: metadata.mtime_nsec(),
            },
            ctime: Time {
                seconds: metadata.ctime(),
                nanoseconds: metadata.ctime_nsec(),
            },
        }
    }

    pub(super) fn is_same_inode(&self, other: &Self) -> bool {
        (self.dev, self.inode) == (other.dev, other.inode)
    }

    /// Whether the last change was clearly before `now`, so that a later one shows in the ctime. A
    /// ctime in the future never is.
    fn has_rested(&self, now: SystemTime) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (
            u64::try_from(self.ctime.seconds),
            u32::try_from(self.ctime.nanoseconds),
        ) else {
            // Before 1970.
            return self.ctime.seconds < 0;
        };
        SystemTime::UNIX_EPOCH
            .checked_add(Duration::new(seconds, nanoseconds))
            .and_then(|changed| now.duration_since(changed).ok())
            .is_some_and(|rested| rested > REST)
    }
}

/// A file as it was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Content {
    pub(super) stamp: Stamp,
    pub(super) mode: Mode,
    pub(super) digest: ContentDigest,
    /// Whether the digest may be looked up by the stamp from now on.
    pub(super) may_be_cached: bool,
}

/// How a file is to be read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    /// Whether its path may be a symbolic link.
    pub(super) follows_links: bool,
    /// Whether its sha256 digest is wanted too.
    pub(super) with_sha256: bool,
    /// Whether all cores work on it. Not to be asked for from many threads.
    pub(super) in_parallel: bool,
    /// What tells the time.
    pub(super) clock: fn() -> SystemTime,
}

impl Reading {
    /// Reads the file once, or twice if it changes meanwhile. `on_read` is told of the bytes as they
    /// come. An error is a text for people.
    pub(super) fn read(self, path: &Path, on_read: &dyn Fn(u64)) -> Result<Content, String> {
        for _ in 0..2 {
            match self.try_read(path, on_read) {
                Ok(Some(content)) => return Ok(content),
                Ok(None) => {}
                Err(error) => return Err(format!("cannot be read: {error}")),
            }
        }
        Err("changed while it was read".to_owned())
    }

    /// `None` when the file changed meanwhile.
    fn try_read(self, path: &Path, on_read: &dyn Fn(u64)) -> io::Result<Option<Content>> {
        let begun = (self.clock)();
        // Something else may have come in its place since it was listed: a pipe must not block, and
        // a link not lead elsewhere.
        let mut flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        if !self.follows_links {
            flags |= OFlags::NOFOLLOW;
        }
        let mut file = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let stamp = Stamp::of(&metadata);
        let (digest, bytes) = if self.in_parallel {
            self.digest_in_parallel(&mut file, stamp.size_bytes, on_read)?
        } else {
            thread_local! {
                static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; SMALL_BUFFER_BYTES]);
            }
            // Nothing below waits for another task, so no other file gets at the buffer meanwhile.
            BUFFER.with_borrow_mut(|buffer| {
                self.digest(&mut file, stamp.size_bytes, buffer, on_read)
            })?
        };
        let after = Stamp::of(&file.metadata()?);
        Ok(
            (after == stamp && bytes == stamp.size_bytes).then(|| Content {
                stamp,
                mode: Mode::new(metadata.mode()),
                digest,
                may_be_cached: stamp.has_rested(begun),
            }),
        )
    }

    /// Digests of the content, and its length as it was read. Ends soon after `size_bytes`: a file that
    /// grows as fast as it is read, or one of the kernel's that has no end, must not hold everything up.
    fn digest(
        self,
        file: &mut File,
        size_bytes: u64,
        buffer: &mut [u8],
        on_read: &dyn Fn(u64),
    ) -> io::Result<(ContentDigest, u64)> {
        let mut hashers = Hashers::new(self.with_sha256);
        let mut bytes = 0;
        while bytes <= size_bytes {
            let length = read_some(file, buffer)?;
            if length == 0 {
                break;
            }
            let chunk = &buffer[..length];
            hashers.blake3.update(chunk);
            if let Some(sha256) = &mut hashers.sha256 {
                sha256.update(chunk);
            }
            bytes += length as u64;
            on_read(length as u64);
        }
        Ok((hashers.finish(), bytes))
    }

    /// The same on all cores: both digests at once, while the next part is read.
    fn digest_in_parallel(
        self,
        file: &mut File,
        size_bytes: u64,
        on_read: &dyn Fn(u64),
    ) -> io::Result<(ContentDigest, u64)> {
        let mut hashers = Hashers::new(self.with_sha256);
        let mut buffer = vec![0; LARGE_BUFFER_BYTES];
        let mut next = vec![0; LARGE_BUFFER_BYTES];
        let mut bytes = 0;
        let mut length = read_some(file, &mut buffer)?;
        while length > 0 && bytes <= size_bytes {
            let chunk = &buffer[..length];
            let Hashers { blake3, sha256 } = &mut hashers;
            let hash = || {
                let sha256 = || sha256.iter_mut().for_each(|sha256| sha256.update(chunk));
                rayon::join(sha256, || _ = blake3.update_rayon(chunk));
            };
            let ((), read) = rayon::join(hash, || read_some(file, &mut next));
            bytes += length as u64;
            on_read(length as u64);
            length = read?;
            std::mem::swap(&mut buffer, &mut next);
        }
        Ok((hashers.finish(), bytes))
    }
}

/// The digests of a file while it is read.
struct Hashers {
    blake3: blake3::Hasher,
    sha256: Option<sha2::Sha256>,
}

impl Hashers {
    fn new(with_sha256: bool) -> Self {
        Self {
            blake3: blake3::Hasher::new(),
            sha256: with_sha256.then(sha2::Sha256::new),
        }
    }

    fn finish(self) -> ContentDigest {
        ContentDigest {
            blake3: Some(Blake3::from_bytes(*self.blake3.finalize().as_bytes())),
            sha256: self
                .sha256
                .map(|sha256| Sha256::from_bytes(sha256.finalize().into())),
        }
    }
}

/// How many bytes came; 0 at the end.
fn read_some(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

    use std::cell::Cell;
    use std::fs;
    use std::io::Write as _;

    use super::*;

    const READING: Reading = Reading {
        follows_links: false,
        with_sha256: true,
        in_parallel: false,
        clock: SystemTime::now,
    };

    #[test]
    fn digests_are_the_same_whatever_the_way_of_reading() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let bytes: Vec<u8> = (0..3_000_001_u32).map(|i| (i % 251) as u8).collect();
        fs::write(&path, &bytes).unwrap();
        for in_parallel in [false, true] {
            for with_sha256 in [false, true] {
                let read = Cell::new(0);
                let reading = Reading {
                    with_sha256,
                    in_parallel,
                    ..READING
                };
                let content = reading.read(&path, &|n| read.set(read.get() + n)).unwrap();
                assert_eq!(content.digest.blake3, Some(Blake3::of(&bytes)));
                let sha256 = Sha256::from_bytes(sha2::Sha256::digest(&bytes).into());
                assert_eq!(content.digest.sha256, with_sha256.then_some(sha256));
                assert_eq!(read.get(), bytes.len() as u64);
            }
        }
    }

    #[test]
    fn file_that_changes_once_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "one").unwrap();
        let changed = Cell::new(false);
        let content = READING.read(&path, &|_| {
            if !changed.replace(true) {
                fs::write(&path, "another").unwrap();
            }
        });
        assert_eq!(content.unwrap().digest.blake3, Some(Blake3::of(b"another")));
    }

    #[test]
    fn file_that_keeps_changing_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        fs::write(&path, "x").unwrap();
        // Without end, if it were read to its end.
        let error = READING.read(&path, &|_| {
            let mut file = OpenOptions::new().append(true).open(&path).unwrap();
            file.write_all(b"x").unwrap();
        });
        assert_eq!(error.unwrap_err(), "changed while it was read");
    }

    #[test]
    fn link_that_came_in_place_of_a_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("f"), "x").unwrap();
        std::os::unix::fs::symlink("f", dir.path().join("l")).unwrap();
        assert!(READING.read(&dir.path().join("l"), &|_| {}).is_err());
        let follow = Reading {
            follows_links: true,
            ..READING
        };
        assert!(follow.read(&dir.path().join("l"), &|_| {}).is_ok());
    }

    #[test]
    fn stamp_is_trusted_only_when_the_file_has_rested() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let stamp = Stamp::of(&file.as_file().metadata().unwrap());
        let now = SystemTime::now();
        assert!(!stamp.has_rested(now));
        assert!(stamp.has_rested(now + REST * 2));
        // The clock was set back, or the file server's is ahead.
        assert!(!stamp.has_rested(now - REST * 2));
    }
}
