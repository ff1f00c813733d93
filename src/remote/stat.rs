//! What `stat` says of an entry on a host.

use crate::model::{Kind, Meta, Mode};

/// What `stat` said of a path, as text: type and permission bits, size, mtime, ctime, inode, uid,
/// gid, device. Two equal ones mean that nothing has touched the entry in between.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StatTuple(String);

/// How many words a [`StatTuple`] has; each of its two times is three.
const STAT_WORDS: usize = 12;

impl StatTuple {
    /// Splits a line of `stat` into the tuple and the path.
    pub fn from_line(line: &[u8]) -> Option<(Self, &[u8])> {
        let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ');
        let (end, _) = spaces.nth(STAT_WORDS - 1)?;
        let tuple = Self(std::str::from_utf8(&line[..end]).ok()?.to_owned());
        tuple.raw_mode()?;
        tuple.word(1)?.parse::<u64>().ok()?;
        tuple.word(11)?.parse::<u64>().ok()?;
        Some((tuple, &line[end + 1..]))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn word(&self, index: usize) -> Option<&str> {
        self.0.split(' ').nth(index)
    }

    fn raw_mode(&self) -> Option<u32> {
        u32::from_str_radix(self.word(0)?, 16).ok()
    }

    fn number(&self, index: usize) -> u64 {
        // Checked when it was made.
        self.word(index)
            .and_then(|word| word.parse().ok())
            .unwrap_or_default()
    }

    /// Type and permission bits together.
    pub fn type_and_mode(&self) -> u32 {
        self.raw_mode().unwrap_or_default()
    }

    /// Permission bits.
    pub fn mode(&self) -> Mode {
        Mode::new(self.raw_mode().unwrap_or_default())
    }

    /// All about the entry that a plan compares besides its content.
    pub fn meta(&self) -> Meta {
        self.mode().into()
    }

    /// Length in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.number(1)
    }

    /// Time of the last change of the entry itself, in seconds since 1970.
    pub fn changed(&self) -> Option<f64> {
        seconds_of(
            &[self.word(5), self.word(6)]
                .map(Option::unwrap_or_default)
                .join(" "),
        )
    }

    /// Time of the last change of the content, in seconds since 1970.
    pub fn modified(&self) -> Option<f64> {
        seconds_of(
            &[self.word(2), self.word(3)]
                .map(Option::unwrap_or_default)
                .join(" "),
        )
    }

    /// Time of the last change of the content, in whole seconds since 1970.
    pub fn modified_s(&self) -> Option<i64> {
        let seconds = self.modified()?.floor();
        // Far below the integers that a float cannot hold.
        format!("{seconds:.0}").parse().ok()
    }

    /// Inode number.
    pub fn inode(&self) -> u64 {
        self.number(8)
    }

    /// Numeric owner.
    pub fn uid(&self) -> u64 {
        self.number(9)
    }

    /// Numeric group.
    pub fn gid(&self) -> u64 {
        self.number(10)
    }

    /// Number of the file system.
    pub fn device(&self) -> u64 {
        self.number(11)
    }

    /// What sort of thing it is: the digits before the permission bits.
    pub(super) fn file_type(&self) -> u32 {
        self.raw_mode().unwrap_or_default() >> 12
    }

    /// What sort of thing it is.
    pub fn kind(&self) -> Kind {
        match self.file_type() {
            0o4 => Kind::Dir,
            0o10 => Kind::File,
            0o12 => Kind::Symlink,
            _ => Kind::Other,
        }
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.file_type() == 0o4
    }
}

/// Seconds since 1970 of a time as `stat` writes it (`2026-11-22 15:22:31.239433909`, UTC; what
/// follows is ignored), or as a number. Exact to some hundred nanoseconds.
pub fn seconds_of(text: &str) -> Option<f64> {
    let mut words = text.split(' ');
    let (date, time) = (words.next()?, words.next());
    let Some(time) = time.filter(|time| *time != "-") else {
        return date.parse().ok();
    };
    let moment: jiff::civil::DateTime = format!("{date}T{time}").parse().ok()?;
    let moment = moment.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(moment.as_duration().as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_line_gives_tuple_and_path_with_spaces() {
        let line = b"81a4 5 2026-11-22 15:22:31.239433909 +0000 2026-11-22 15:22:31.2 +0000 77 1 2 64 /a b  c";
        let (stat, path) = StatTuple::from_line(line).expect("a stat line");
        assert_eq!(path, b"/a b  c");
        assert_eq!(
            (stat.mode().bits(), stat.size_bytes(), stat.inode()),
            (0o644, 5, 77)
        );
        assert_eq!((stat.uid(), stat.gid(), stat.device()), (1, 2, 64));
        assert!(StatTuple::from_line(b"81a4 5 2026").is_none());
    }
}
