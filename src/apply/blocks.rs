//! Large files as blocks: which of them have to be sent, in which pieces and over how many sessions.

use std::ops::Range;
use std::time::Duration;

/// From this round trip on the window is what limits a session: to 100 MiB a second, and few lines
/// are faster.
const LONG_ROUND_TRIP: Duration = Duration::from_millis(20);

/// Sessions with one host at a time, at most. More of them are no faster and may be refused.
const MOST_SESSIONS: usize = 4;

/// Cores from which on another session has one to itself, with its host's work at the other end.
const SPARE_CORES: usize = 4;

/// How large files are sent. The default is what the program uses; tests have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LargeFiles {
    /// Files from this size on are sent as blocks: 64 MiB.
    pub from_bytes: u64,
    /// Size of a block; the last one of a file may be shorter: 4 MiB.
    pub block_bytes: u64,
    /// How much one more session has to carry to be worth its login: 128 MiB.
    pub session_bytes: u64,
}

impl Default for LargeFiles {
    fn default() -> Self {
        const MIB: u64 = 1024 * 1024;
        Self {
            from_bytes: 64 * MIB,
            block_bytes: 4 * MIB,
            session_bytes: 128 * MIB,
        }
    }
}

impl LargeFiles {
    /// How many blocks so many bytes are.
    pub(super) fn count(&self, size_bytes: u64) -> u64 {
        size_bytes.div_ceil(self.block_bytes)
    }

    /// The bytes that a run of blocks of a file has.
    pub(super) fn bytes_of(&self, blocks: &Range<u64>, size_bytes: u64) -> Range<u64> {
        let at = |block: u64| (block * self.block_bytes).min(size_bytes);
        at(blocks.start)..at(blocks.end)
    }

    /// How many sessions to send so much over. More than one pays off where the window of a channel,
    /// 2 MiB for each round trip, is what limits a session, or where there are cores to spare.
    pub(super) fn sessions(&self, bytes: u64, round_trip: Duration, cores: usize) -> usize {
        if round_trip < LONG_ROUND_TRIP && cores < SPARE_CORES {
            return 1;
        }
        let worth = usize::try_from(bytes / self.session_bytes.max(1)).unwrap_or(MOST_SESSIONS);
        worth.clamp(1, MOST_SESSIONS)
    }
}

/// The runs of blocks of `0..count` that are not where they belong.
pub(super) fn missing(count: u64, is_there: impl Fn(u64) -> bool) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for block in (0..count).filter(|block| !is_there(*block)) {
        match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs
}

/// Cuts runs of several files into at most `parts` of about the same size, at the edges of blocks.
/// Each run comes with whatever tells its file apart.
pub(super) fn split<T: Copy>(runs: &[(T, Range<u64>)], parts: usize) -> Vec<Vec<(T, Range<u64>)>> {
    let total: u64 = runs.iter().map(|(_, run)| run.end - run.start).sum();
    let share = total.div_ceil(parts.max(1) as u64).max(1);
    let mut result = vec![Vec::new()];
    let mut room = share;
    for (file, run) in runs {
        let mut rest = run.clone();
        while !rest.is_empty() {
            if room == 0 {
                result.push(Vec::new());
                room = share;
            }
            let end = rest.end.min(rest.start + room);
            room -= end - rest.start;
            if let Some(part) = result.last_mut() {
                part.push((*file, rest.start..end));
            }
            rest.start = end;
        }
    }
    result
}

/// How attempts to send go, of which each needs only what the one before did not bring.
#[derive(Debug)]
pub(super) struct Attempts {
    fewest_missing: u64,
    fruitless: u32,
}

impl Attempts {
    /// Attempts in a row that bring nothing, until it is given up.
    const FRUITLESS: u32 = 3;

    pub(super) fn new() -> Self {
        Self {
            fewest_missing: u64::MAX,
            fruitless: 0,
        }
    }

    /// Told how many blocks are missing.
    pub(super) fn miss(&mut self, blocks: u64) {
        if blocks < self.fewest_missing {
            self.fewest_missing = blocks;
            self.fruitless = 0;
        }
    }

    /// Told that one has failed: how long to wait before the next; `None` to give up.
    pub(super) fn fail(&mut self) -> Option<Duration> {
        self.fruitless += 1;
        (self.fruitless < Self::FRUITLESS).then(|| Duration::from_secs(u64::from(self.fruitless)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: u64 = 1024 * 1024;
    const NEAR: Duration = Duration::from_millis(1);
    const FAR: Duration = Duration::from_millis(40);

    #[test]
    fn adjacent_blocks_are_one_run() {
        assert_eq!(missing(4, |block| block == 1), [0..1, 2..4]);
        assert_eq!(missing(11, |block| block == 3), [0..3, 4..11]);
        assert_eq!(missing(0, |_| false), []);
    }

    #[test]
    fn last_block_is_as_long_as_the_file_goes() {
        let large = LargeFiles::default();
        let size_bytes = 10 * large.block_bytes + 5;
        assert_eq!(large.count(size_bytes), 11);
        assert_eq!(large.bytes_of(&(9..11), size_bytes), 36 * MIB..40 * MIB + 5);
    }

    #[test]
    fn one_more_session_has_to_be_worth_it() {
        let large = LargeFiles::default();
        assert_eq!(large.sessions(256 * MIB - 1, FAR, 2), 1);
        assert_eq!(large.sessions(256 * MIB, FAR, 2), 2);
        assert_eq!(large.sessions(u64::MAX, FAR, 2), 4);
        assert_eq!(large.sessions(0, FAR, 64), 1);
    }

    #[test]
    fn near_host_gets_more_sessions_only_with_cores_to_spare() {
        let large = LargeFiles::default();
        assert_eq!(large.sessions(u64::MAX, NEAR, 2), 1);
        assert_eq!(large.sessions(u64::MAX, NEAR, 4), 4);
        assert_eq!(large.sessions(u64::MAX, LONG_ROUND_TRIP, 1), 4);
    }

    #[test]
    fn attempts_go_on_while_they_bring_something() {
        let mut attempts = Attempts::new();
        for missing in (1..50).rev() {
            attempts.miss(missing);
            assert!(attempts.fail().is_some());
        }
        attempts.miss(1);
        assert!(attempts.fail().is_some());
        attempts.miss(5);
        assert_eq!(attempts.fail(), None);
    }

    proptest! {
        #[test]
        fn blocks_are_missing_or_there(is_there in prop::collection::vec(any::<bool>(), 0..60)) {
            let runs = missing(is_there.len() as u64, |block| {
                is_there[usize::try_from(block).expect("few")]
            });
            let blocks: Vec<u64> = runs.iter().cloned().flatten().collect();
            let expected: Vec<u64> =
                (0..).zip(&is_there).filter(|(_, is)| !**is).map(|(block, _)| block).collect();
            prop_assert_eq!(blocks, expected);
            prop_assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start));
        }

        #[test]
        fn parts_hold_every_block_once_and_are_of_a_size(
            lengths in prop::collection::vec(1_u64..50, 1..6),
            parts in 1_usize..5,
        ) {
            let runs: Vec<(usize, Range<u64>)> =
                lengths.iter().enumerate().map(|(file, length)| (file, 3..3 + length)).collect();
            let split = split(&runs, parts);
            prop_assert!(split.len() <= parts);
            let blocks = |runs: &[(usize, Range<u64>)]| -> Vec<(usize, u64)> {
                runs.iter().flat_map(|(file, run)| run.clone().map(|block| (*file, block))).collect()
            };
            prop_assert_eq!(blocks(&split.concat()), blocks(&runs));
            let total: u64 = lengths.iter().sum();
            for part in &split {
                prop_assert!(blocks(part).len() as u64 <= total.div_ceil(parts as u64));
            }
        }
    }
}
