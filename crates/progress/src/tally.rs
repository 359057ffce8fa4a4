//! The account of a segment: every entry has exactly one outcome.
//!
//! Owns: the four counts, their sum, and the comparison with what the framing counted.
//! Does not own: who decides an outcome, or when a count becomes final (the ledger carries a tally to each watermark,
//! so that a rewind takes back the counts of what will be read again).

/// What became of one entry. There is no fifth way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// All its events are for Kafka.
    Published,
    /// It holds nothing of a CDC table.
    NotCdc,
    /// The operator's configuration leaves its tables out.
    Filtered,
    /// Any part of it became a dead-letter record.
    DeadLettered,
}

/// Entries of one segment by outcome, up to some position of it.
///
/// Thirty-two bits suffice: an offset in a segment has as many, and an entry takes at least twelve bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tally {
    /// Entries published.
    pub published: u32,
    /// Entries without anything of a CDC table.
    pub not_cdc: u32,
    /// Entries left out by configuration.
    pub filtered: u32,
    /// Entries of which any part was dead-lettered.
    pub dead_lettered: u32,
}

impl Tally {
    /// Counts one entry.
    pub fn count(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Published => &mut self.published,
            Outcome::NotCdc => &mut self.not_cdc,
            Outcome::Filtered => &mut self.filtered,
            Outcome::DeadLettered => &mut self.dead_lettered,
        };
        // A count that stuck at the top could still agree with nothing: `finish` compares in 64 bits.
        *count = count.saturating_add(1);
    }

    /// All entries counted.
    pub fn entries(&self) -> u64 {
        [self.published, self.not_cdc, self.filtered, self.dead_lettered].into_iter().map(u64::from).sum()
    }

    /// Closes the account of a segment that was read to its end.
    ///
    /// # Errors
    /// [`Mismatch`] if the framing counted another number of entries: one got lost, or counted twice.
    pub fn finish(self, framed_entries: u64) -> Result<Balanced, Mismatch> {
        if self.entries() == framed_entries {
            Ok(Balanced { tally: self })
        } else {
            Err(Mismatch { counted: self.entries(), framed: framed_entries })
        }
    }
}

/// A closed account: its sum equals what the framing counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Balanced {
    tally: Tally,
}

impl Balanced {
    /// The counts.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

/// An account that does not close. The segment stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{counted} entries have an outcome, but the framing counted {framed}")]
pub struct Mismatch {
    /// Entries with an outcome.
    pub counted: u64,
    /// Entries that the framing counted.
    pub framed: u64,
}

/// Sums over segments, for as long as a counter of a process can live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Entries published.
    pub published: u64,
    /// Entries without anything of a CDC table.
    pub not_cdc: u64,
    /// Entries left out by configuration.
    pub filtered: u64,
    /// Entries of which any part was dead-lettered.
    pub dead_lettered: u64,
}

impl Totals {
    /// All entries counted.
    pub fn entries(&self) -> u64 {
        [self.published, self.not_cdc, self.filtered, self.dead_lettered].into_iter().fold(0, u64::saturating_add)
    }
}

impl core::ops::AddAssign<Tally> for Totals {
    fn add_assign(&mut self, tally: Tally) {
        for (total, part) in [
            (&mut self.published, tally.published),
            (&mut self.not_cdc, tally.not_cdc),
            (&mut self.filtered, tally.filtered),
            (&mut self.dead_lettered, tally.dead_lettered),
        ] {
            *total = total.saturating_add(u64::from(part));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_closes_only_on_the_framed_count() {
        let mut tally = Tally::default();
        for outcome in [Outcome::Published, Outcome::NotCdc, Outcome::Filtered, Outcome::DeadLettered] {
            tally.count(outcome);
        }
        assert_eq!(tally.finish(4).map(|balanced| balanced.tally()), Ok(tally));
        assert_eq!(tally.finish(5), Err(Mismatch { counted: 4, framed: 5 }));
        assert_eq!(tally.finish(3), Err(Mismatch { counted: 4, framed: 3 }));
    }

    #[test]
    fn totals_add_up_over_segments() {
        let mut totals = Totals::default();
        totals += Tally { published: u32::MAX, not_cdc: 1, ..Tally::default() };
        totals += Tally { published: 1, dead_lettered: 2, ..Tally::default() };
        assert_eq!(totals, Totals { published: 1 << 32, not_cdc: 1, filtered: 0, dead_lettered: 2 });
        assert_eq!(totals.entries(), (1 << 32) + 3);
    }
}
