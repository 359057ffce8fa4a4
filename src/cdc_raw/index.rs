//! What an index file says, and what it said before.
//!
//! Owns: which text counts, which is ignored, which makes the segment held. Does not own: the text's form
//! (`cassandra-commitlog`), reading the file.

use std::io;
use std::time::{Duration, Instant};

use cassandra_commitlog::{CdcIndex, LogOffset};

/// How long an index may hold something that is no index before its segment is held: a writer in between two writes
/// is done in microseconds, a reader of a damaged file never.
pub const INVALID_FOR: Duration = Duration::from_secs(60);

/// What is known of a segment's index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Index {
    /// There is none, and there was none before. It was looked for after every index that is there had been read, and
    /// the segment was still there after that: before a segment with an index, an older one of the same run without
    /// holds no CDC data up to there. Of a segment that only the spool has it says nothing: its index may have gone
    /// together with its name in `cdc_raw`.
    Absent,
    /// It is there, but has said nothing yet.
    Empty,
    /// What ends at or before this position is durable; more may come.
    Growing(LogOffset),
    /// The segment is closed: read to the end of its chain.
    Sealed(LogOffset),
    /// It has held no index for [`INVALID_FOR`]: hold the segment.
    Invalid {
        /// Since when.
        since: Instant,
    },
}

impl Index {
    /// What the index says, if it says something.
    pub fn value(self) -> Option<CdcIndex> {
        match self {
            Self::Growing(offset) => Some(CdcIndex::Growing(offset)),
            Self::Sealed(offset) => Some(CdcIndex::Sealed(offset)),
            Self::Absent | Self::Empty | Self::Invalid { .. } => None,
        }
    }
}

impl From<CdcIndex> for Index {
    fn from(index: CdcIndex) -> Self {
        match index {
            CdcIndex::Growing(offset) => Self::Growing(offset),
            CdcIndex::Sealed(offset) => Self::Sealed(offset),
        }
    }
}

/// What one look at an index file gave.
#[derive(Debug)]
pub(super) enum Look {
    Absent,
    Text(Vec<u8>),
    Unreadable(io::Error),
}

/// What reading indexes met.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IndexCounts {
    /// Reads that found nothing: the server truncates before it writes.
    pub empty: u64,
    /// Times that an index began to hold something that is no index, or could not be read.
    pub invalid: u64,
    /// Numbers that went backwards and were ignored.
    pub backward: u64,
}

impl std::ops::AddAssign for IndexCounts {
    fn add_assign(&mut self, more: Self) {
        self.empty += more.empty;
        self.invalid += more.invalid;
        self.backward += more.backward;
    }
}

/// The memory of one index.
#[derive(Debug, Default)]
pub(super) struct IndexMemory {
    last: Option<CdcIndex>,
    /// What was ignored last, so that it is counted once.
    ignored: Option<CdcIndex>,
    invalid_since: Option<Instant>,
    /// Why it can't be read.
    pub(super) trouble: Option<String>,
    pub(super) counts: IndexCounts,
}

impl IndexMemory {
    /// Takes in a look, and says what is known after it.
    pub(super) fn take(&mut self, look: Look, now: Instant) -> Index {
        self.trouble = None;
        let known = |last: Option<CdcIndex>, otherwise| last.map_or(otherwise, Index::from);
        let refused = match look {
            Look::Absent => {
                self.invalid_since = None;
                return known(self.last, Index::Absent);
            }
            Look::Unreadable(error) => error.to_string(),
            Look::Text(text) => match CdcIndex::parse(&text) {
                Ok(value) => {
                    self.invalid_since = None;
                    match value {
                        Some(value) => self.step(value),
                        None => self.counts.empty += 1,
                    }
                    return known(self.last, Index::Empty);
                }
                Err(error) => error.to_string(),
            },
        };
        self.trouble = Some(refused);
        if self.invalid_since.is_none() {
            self.counts.invalid += 1;
        }
        let since = *self.invalid_since.get_or_insert(now);
        if now.duration_since(since) >= INVALID_FOR { Index::Invalid { since } } else { known(self.last, Index::Empty) }
    }

    /// Whether nothing but a rewrite of the file can change what is known.
    pub(super) fn is_sealed(&self) -> bool {
        matches!(self.last, Some(CdcIndex::Sealed(_))) && self.invalid_since.is_none()
    }

    /// What is known without another look.
    pub(super) fn known(&self) -> Index {
        self.last.map_or(Index::Absent, Index::from)
    }

    /// A number may fall only together with COMPLETED: a replay writes the physical length. What was durable once can't
    /// become less so.
    fn step(&mut self, value: CdcIndex) {
        let backward = match (self.last, value) {
            (Some(CdcIndex::Sealed(_)), CdcIndex::Growing(_)) => true,
            (Some(CdcIndex::Growing(last)), CdcIndex::Growing(now)) => now < last,
            _ => false,
        };
        if !backward {
            self.last = Some(value);
        } else if self.ignored != Some(value) {
            self.ignored = Some(value);
            self.counts.backward += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Look {
        Look::Text(text.as_bytes().to_vec())
    }

    #[test]
    fn a_number_grows_an_empty_file_keeps_it_and_completed_may_lower_it() {
        let mut memory = IndexMemory::default();
        let now = Instant::now();
        assert_eq!(memory.take(Look::Absent, now), Index::Absent);
        assert_eq!(memory.take(text(""), now), Index::Empty);
        assert_eq!(memory.take(text("100"), now), Index::Growing(LogOffset(100)));
        assert_eq!(memory.take(text(""), now), Index::Growing(LogOffset(100)));
        assert_eq!(memory.take(text("90"), now), Index::Growing(LogOffset(100)));
        assert_eq!(memory.take(text("90"), now), Index::Growing(LogOffset(100)));
        assert_eq!(memory.counts.backward, 1, "one text, counted once");
        assert_eq!(memory.take(text("80\nCOMPLETED"), now), Index::Sealed(LogOffset(80)));
        assert_eq!(memory.take(text("110"), now), Index::Sealed(LogOffset(80)));
        assert_eq!(memory.take(text("70\nCOMPLETED"), now), Index::Sealed(LogOffset(70)));
        assert_eq!(memory.take(Look::Absent, now), Index::Sealed(LogOffset(70)));
        assert_eq!(memory.counts, IndexCounts { empty: 2, invalid: 0, backward: 2 });
    }

    #[test]
    fn garbage_is_retried_for_a_minute_and_then_invalid_until_it_is_mended() {
        let mut memory = IndexMemory::default();
        let since = Instant::now();
        assert_eq!(memory.take(text("7"), since), Index::Growing(LogOffset(7)));
        assert_eq!(memory.take(text("x"), since), Index::Growing(LogOffset(7)));
        assert!(memory.trouble.is_some());
        let later = since + INVALID_FOR;
        assert_eq!(memory.take(Look::Unreadable(io::Error::other("no")), later), Index::Invalid { since });
        assert_eq!(memory.take(text("9"), later), Index::Growing(LogOffset(9)));
        assert_eq!(memory.take(text("x"), later), Index::Growing(LogOffset(9)), "the minute begins anew");
        assert!(!memory.is_sealed());
        assert_eq!(memory.counts.invalid, 2, "two times, not three looks");
    }
}
