//! Large files, as blocks: which of them have to be sent, in which pieces and over how many sessions.
//!
//! One mechanism gives three things. *Resume*: what an earlier run has sent lies on the host as
//! extents, runs of whole blocks, and is not sent again. *Delta*: blocks that the file in place
//! already has are taken from there. *Parallel sending*: what remains is cut into pieces, one for
//! each session. In the end the host hashes the whole file as it does any other, so nothing here has
//! to be believed.

use std::ops::Range;

/// Files from this size on are sent as blocks.
pub(crate) const LARGE_BYTES: u64 = 64 * 1024 * 1024;

/// Size of a block; the last one of a file may be shorter.
pub(crate) const BLOCK_BYTES: u64 = 4 * 1024 * 1024;

/// How much one more session has to carry to be worth its handshake.
const SESSION_BYTES: u64 = 128 * 1024 * 1024;

/// A run of blocks that an earlier run has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Its first block.
    pub(crate) start: u64,
    /// How much of it arrived.
    pub(crate) bytes: u64,
}

/// How many blocks a file has.
pub(crate) fn block_count(size_bytes: u64) -> u64 {
    size_bytes.div_ceil(BLOCK_BYTES)
}

/// The bytes that a run of blocks of a file has.
pub(crate) fn bytes_of(blocks: &Range<u64>, size_bytes: u64) -> Range<u64> {
    let at = |block: u64| (block * BLOCK_BYTES).min(size_bytes);
    at(blocks.start)..at(blocks.end)
}

/// The runs of blocks that have to be sent: those that are neither in an extent nor, by
/// `is_in_place`, in the file that is there now. Of an extent that was cut off in a block, that block
/// does not count.
pub(crate) fn missing(
    size_bytes: u64,
    extents: &[Extent],
    is_in_place: impl Fn(u64) -> bool,
) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    for block in 0..block_count(size_bytes) {
        let end = bytes_of(&(block..block + 1), size_bytes).end;
        let is_there = extents.iter().any(|extent| {
            extent.start <= block && end <= extent.start * BLOCK_BYTES + extent.bytes
        });
        if is_there || is_in_place(block) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.end == block => run.end += 1,
            _ => runs.push(block..block + 1),
        }
    }
    runs
}

/// How many sessions to send so much over, of at most `most`.
pub(crate) fn sessions(bytes: u64, most: usize) -> usize {
    usize::try_from(bytes / SESSION_BYTES).unwrap_or(most).clamp(1, most.max(1))
}

/// Cuts runs of several files into `parts` of about the same size, at the edges of blocks. Each run
/// comes with whatever tells its file apart.
pub(crate) fn split<T: Clone>(
    runs: &[(T, Range<u64>)],
    parts: usize,
) -> Vec<Vec<(T, Range<u64>)>> {
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
                part.push((file.clone(), rest.start..end));
            }
            rest.start = end;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SIZE: u64 = 10 * BLOCK_BYTES + 5;

    #[test]
    fn everything_is_missing_where_nothing_is() {
        assert_eq!(missing(SIZE, &[], |_| false), vec![0..11]);
        assert_eq!(missing(0, &[], |_| false), vec![]);
    }

    #[test]
    fn what_arrived_whole_is_not_sent_again() {
        let cut = Extent { start: 2, bytes: 3 * BLOCK_BYTES + 7 };
        assert_eq!(missing(SIZE, &[cut], |_| false), vec![0..2, 5..11]);
        let tail = Extent { start: 9, bytes: BLOCK_BYTES + 5 };
        assert_eq!(missing(SIZE, &[cut, tail], |_| false), vec![0..2, 5..9]);
    }

    #[test]
    fn blocks_in_place_are_not_sent() {
        assert_eq!(missing(SIZE, &[], |block| block != 3), vec![3..4]);
    }

    #[test]
    fn one_more_session_has_to_be_worth_it() {
        assert_eq!(sessions(SESSION_BYTES, 4), 1);
        assert_eq!(sessions(2 * SESSION_BYTES, 4), 2);
        assert_eq!(sessions(u64::MAX, 4), 4);
        assert_eq!(sessions(0, 0), 1);
    }

    proptest! {
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
