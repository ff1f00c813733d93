//! How long a task may take, and how much of its answer is kept here. Nothing else decides that.
//!
//! Both follow from what was asked. A host that is merely slow stays far below: the floors are a tenth of
//! what the slowest hosts do, and there is a base for everything that nobody counts. A host that goes on for
//! longer, or says more, is broken or means harm.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::transport::Aborted;

/// What any task may take, however small: to start programs, to list folders that nobody knows.
const BASE: Duration = Duration::from_mins(10);

/// The base in multiples of the stall time-out, for whoever has set that high.
const STALLS: u32 = 10;

/// Entries of a file system that a host deals with in a second. A script of `sh` starts several processes for
/// each; it does 160 deletes in a second on a small machine.
const ENTRIES_PER_SECOND: u64 = 10;

/// Bytes of files that a host reads, hashes or copies in a second. Slow for any disk.
const DISK_BYTES_PER_SECOND: u64 = 2_000_000;

/// Bytes that have to move over the line in a second, on average and beyond the base. A hundred hosts that
/// share an old line of 4 Mbit have more.
const LINE_BYTES_PER_SECOND: u64 = 4096;

/// What files may take that nobody here knows of, in the places of ours or in a mirror. What a host says of
/// their size has to be believed, but only so far.
const UNKNOWN_FILES: Duration = Duration::from_hours(24);

/// What a task is asked to do, as far as it takes time.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Work {
    /// Entries that are looked at or changed.
    pub(super) entries: u64,
    /// Bytes of files that are read, hashed or copied on the host.
    pub(super) disk_bytes: u64,
}

impl Work {
    /// How long the host gives signs of life at the very most.
    pub(super) fn patience(self, stall_timeout: Duration) -> Duration {
        let seconds = (self.entries / ENTRIES_PER_SECOND)
            .saturating_add(self.disk_bytes / DISK_BYTES_PER_SECOND);
        BASE.max(stall_timeout.saturating_mul(STALLS))
            .saturating_add(Duration::from_secs(seconds))
    }
}

/// What the host may take beyond its patience when so many bytes have moved over the line.
pub(super) fn time_for_line(moved_bytes: u64) -> Duration {
    Duration::from_secs(moved_bytes / LINE_BYTES_PER_SECOND)
}

/// What the host may take to hash files of which it says that they have so many bytes.
pub(super) fn time_for_files(claimed_bytes: u64, known_bytes: u64) -> Duration {
    let time = |bytes: u64| Duration::from_secs(bytes / DISK_BYTES_PER_SECOND);
    let unknown = time(claimed_bytes.saturating_sub(known_bytes));
    time(claimed_bytes.min(known_bytes)).saturating_add(unknown.min(UNKNOWN_FILES))
}

/// What an answer costs beside what it says of entries: facts, places, complaints.
const FRAME_BYTES: u64 = 1024 * 1024;

/// What an entry costs when it is kept, beside its path: what `stat` says of it, its digests, its place in a
/// table.
pub(super) const ENTRY_BYTES: usize = 512;

/// What a section costs beside what it says.
pub(super) const SECTION_BYTES: usize = 256;

/// What lines about an entry have besides its path: the words of `stat` or a reason, and a digest.
const LINE_BYTES: u64 = 512;

/// How often an answer names an entry.
const MENTIONS: u64 = 4;

/// What one host may answer beyond what was asked: complaints in another language, long targets of links.
const SURPLUS_BYTES: usize = 16 * 1024 * 1024;

/// The same, where it is asked for all that is below a folder.
const UNKNOWN_SURPLUS_BYTES: usize = 512 * 1024 * 1024;

/// What all hosts together may answer beyond what was asked.
const COMMON_SURPLUS_BYTES: usize = 1024 * 1024 * 1024;

/// What is left of it.
static COMMON_SURPLUS: AtomicUsize = AtomicUsize::new(COMMON_SURPLUS_BYTES);

/// What an answer may be about, as far as it is known here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Entries.
    pub entries: u64,
    /// Bytes that their paths have together.
    pub path_bytes: u64,
    /// Bytes that the files among them have together.
    pub file_bytes: u64,
}

impl Expected {
    /// These paths; of files of which nobody knows how large they are.
    pub(super) fn of_paths<'p>(paths: impl IntoIterator<Item = &'p [u8]>) -> Self {
        let mut expected = Self::default();
        for path in paths {
            expected.add_entry(path.len(), 0);
        }
        expected
    }

    /// One entry more.
    pub fn add_entry(&mut self, path_bytes: usize, file_bytes: u64) {
        self.entries += 1;
        self.path_bytes += path_bytes as u64;
        self.file_bytes = self.file_bytes.saturating_add(file_bytes);
    }

    /// What both have together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            entries: self.entries + other.entries,
            path_bytes: self.path_bytes + other.path_bytes,
            file_bytes: self.file_bytes.saturating_add(other.file_bytes),
        }
    }

    /// What an answer that says of each entry what there is to say may cost here.
    pub(super) fn answer_bytes(self) -> u64 {
        let entries = self.entries.saturating_mul(ENTRY_BYTES as u64 + LINE_BYTES);
        entries.saturating_add(self.path_bytes.saturating_mul(MENTIONS))
    }
}

/// Room for an answer: as much as was asked for, and a little more. What it has had beyond that, all hosts
/// together have less, until this is dropped.
#[derive(Debug)]
pub struct Room {
    common: &'static AtomicUsize,
    left_bytes: usize,
    surplus_bytes: usize,
    most_surplus_bytes: usize,
    is_open: bool,
}

impl Room {
    /// Room for an answer of about so many bytes.
    pub(super) fn for_answer(asked_bytes: u64) -> Self {
        let left = asked_bytes.saturating_add(FRAME_BYTES);
        Self {
            common: &COMMON_SURPLUS,
            left_bytes: usize::try_from(left).unwrap_or(usize::MAX),
            surplus_bytes: 0,
            most_surplus_bytes: SURPLUS_BYTES,
            is_open: false,
        }
    }

    /// Also for what is found below folders, of which nobody knows how much it is.
    #[must_use]
    pub(super) fn and_unknown(mut self, is_open: bool) -> Self {
        if is_open {
            self.most_surplus_bytes = UNKNOWN_SURPLUS_BYTES;
            self.is_open = true;
        }
        self
    }

    /// Takes so much of it.
    pub(super) fn take(&mut self, bytes: usize) -> Result<(), Aborted> {
        let asked = bytes.min(self.left_bytes);
        self.left_bytes -= asked;
        let beyond = bytes - asked;
        if beyond == 0 {
            return Ok(());
        }
        if beyond > self.most_surplus_bytes - self.surplus_bytes {
            return Err(Aborted(
                if self.is_open {
                    MIRROR_IS_FULL
                } else {
                    TOO_LONG
                }
                .into(),
            ));
        }
        let take = |left: usize| left.checked_sub(beyond);
        let common = self.common;
        if common
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_err()
        {
            return Err(Aborted(ALL_TOO_LONG.into()));
        }
        self.surplus_bytes += beyond;
        Ok(())
    }
}

#[cfg(test)]
impl Room {
    /// With little beyond what was asked.
    pub(super) fn with_surplus(mut self, bytes: usize) -> Self {
        self.most_surplus_bytes = bytes;
        self
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::for_answer(0)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.common.fetch_add(self.surplus_bytes, Ordering::Relaxed);
    }
}

const TOO_LONG: &str = "the host's answer is far longer than any answer to what it was asked; see what answers \
                        there: a forced command of sshd, or a login shell that runs something else";

const MIRROR_IS_FULL: &str = "the host has too much below its mirrored destinations that the source does not have \
                              (some 500,000 entries are kept in mind); name what is not to be mirrored in \
                              `exclude`, or remove it on the host";

const ALL_TOO_LONG: &str = "the hosts of this run have answered far more than they were asked, 1 GiB together, and \
                            there is no room for what this one says; go on with fewer hosts at a time (`--limit`)";

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    #[test]
    fn slow_hosts_have_more_time_than_they_need() {
        // A small computer with a million files, cold: a thousand of them in a second.
        let files = Work {
            entries: 1_000_000,
            disk_bytes: 0,
        };
        assert!(files.patience(MINUTE) > 10 * Duration::from_secs(1000));
        // 1 TiB from a disk that reads 10 MB in a second.
        let tebibyte = Work {
            entries: 1,
            disk_bytes: 1 << 40,
        };
        assert!(tebibyte.patience(MINUTE) > Duration::from_secs((1 << 40) / 10_000_000));
        // Over a line of 1 Mbit, no time is lost.
        let second = 1_000_000 / 8;
        assert!(time_for_line(1000 * second) > Duration::from_secs(1000));
    }

    #[test]
    fn whoever_waits_longer_for_a_sign_of_life_waits_longer_for_the_end() {
        let patience = |stall: Duration| Work::default().patience(stall);
        assert_eq!(patience(Duration::from_secs(5)), patience(MINUTE));
        assert_eq!(patience(5 * MINUTE), 50 * MINUTE);
        assert_eq!(patience(Duration::MAX), Duration::MAX);
    }

    #[test]
    fn what_was_asked_for_always_has_room_and_what_was_not_is_shared() {
        static COMMON: AtomicUsize = AtomicUsize::new(100);
        let room = || Room {
            common: &COMMON,
            left_bytes: 1000,
            surplus_bytes: 0,
            most_surplus_bytes: 60,
            is_open: false,
        };
        let (mut first, mut second, mut third) = (room(), room(), room());
        for room in [&mut first, &mut second, &mut third] {
            room.take(1000).expect("was asked for");
        }
        first.take(60).expect("there is a surplus");
        assert!(first.take(1).is_err());
        let error = second
            .take(50)
            .expect_err("there is too little")
            .to_string();
        assert!(error.contains("`--limit`"), "{error}");
        drop(first);
        second.take(50).expect("there is room again");
        third.take(50).expect("there is room again");
    }

    #[test]
    fn what_nobody_can_express_is_no_panic() {
        let work = Work {
            entries: u64::MAX,
            disk_bytes: u64::MAX,
        };
        assert!(work.patience(Duration::MAX) > MINUTE);
        let expected = Expected {
            entries: u64::MAX,
            path_bytes: u64::MAX,
            file_bytes: u64::MAX,
        };
        Room::for_answer(expected.answer_bytes())
            .take(usize::MAX)
            .expect("there is room");
        assert!(time_for_files(u64::MAX, 0) <= Duration::from_hours(24));
        assert!(time_for_line(u64::MAX) > MINUTE);
    }
}
