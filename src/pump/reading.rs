//! How far each segment is read.
//!
//! Owns: what is known of a segment beyond its durable record: the place of the next section, what was framed, what was
//! taken to the line. Does not own: the reading itself (`segment`), what is acknowledged (the record).

use std::collections::BTreeMap;
use std::time::Instant;

use cassandra_commitlog::{CdcIndex, LogOffset, SegmentName};
use cassandra_progress::{Mismatch, Outcome, SegmentRecord, SegmentState, Tally};

use super::hold::{Hold, Reason};
use crate::lifecycle::{self, Extent, ReadTo, Sighting};
use crate::line::Segment;
use crate::observe::HoldReason;
use crate::tail::OpenEnd;
use crate::walk::Marker;

/// One segment under way.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) segment: Segment,
    /// The marker of the first section that is not closed, or not read.
    pub(super) next: Option<Marker>,
    /// Entries framed in the sections before it.
    pub(super) framed: u64,
    /// Behind the last entry that went to the line.
    pub(super) read: LogOffset,
    /// What became of the entries up to there.
    pub(super) tally: Tally,
    /// The logical end of the chain, once the segment has ended and is read to there.
    pub(super) end: Option<LogOffset>,
    /// What it was last read to.
    pub(super) done: Option<Extent>,
    /// How far early modes may read, once the descriptor was seen.
    pub(super) read_to: Option<ReadTo>,
    pub(super) open_end: Option<OpenEnd>,
    pub(super) has_section: bool,
    /// What the chain is known to have reached: a growing index has named it, or it is acknowledged and was not read early.
    pub(super) highest: LogOffset,
    pub(super) index: Option<CdcIndex>,
    /// Whether `cdc_raw` had it at the last look.
    pub(super) is_linked: bool,
    /// The file's number in the record.
    pub(super) inode: u64,
    /// Damage that is counted already: a hold is tried again and again.
    damaged: Option<LogOffset>,
    /// What the metrics count of it already.
    counted: Tally,
    /// Reasons of dead letters that are not acknowledged, by the ends of their entries.
    dead_letters: BTreeMap<LogOffset, &'static str>,
    /// Whether anything behind its last marker was published.
    pub(super) early: bool,
    /// Whether its record says that it is finished.
    pub(super) is_finished: bool,
    /// Why its account does not close. It stays so.
    pub(super) fault: Option<Hold>,
    server_holds: bool,
    since: Instant,
}

impl Reading {
    pub(super) fn new(name: SegmentName, record: &SegmentRecord) -> Self {
        Self {
            segment: Segment::new(name),
            next: None,
            framed: 0,
            read: record.acknowledged(),
            tally: record.tally(),
            end: None,
            done: None,
            read_to: None,
            open_end: None,
            has_section: false,
            highest: if record.early { LogOffset(0) } else { record.acknowledged() },
            index: None,
            early: record.early,
            is_finished: record.state() == SegmentState::Finished,
            fault: None,
            is_linked: false,
            inode: record.inode,
            damaged: None,
            counted: record.tally(),
            dead_letters: BTreeMap::new(),
            server_holds: true,
            since: Instant::now(),
        }
    }

    /// Takes the reading back to what is acknowledged. A segment that is finished stays so. One that is only acknowledged
    /// to its end is walked again from there: what would have finished it was given up with what is taken back.
    pub(super) fn restart(&mut self, record: &SegmentRecord) {
        if record.state() == SegmentState::Finished {
            return;
        }
        (self.end, self.done) = (None, None);
        if record.acknowledged() < self.read {
            self.begin_again();
            self.dead_letters.clear();
            (self.read, self.tally) = (record.acknowledged(), record.tally());
        }
    }

    /// Walks it from its first section again, next time; what went to the line stays there.
    pub(super) fn begin_again(&mut self) {
        (self.next, self.framed, self.done, self.open_end) = (None, 0, None, None);
    }

    /// How far it can be read, as far as that is known.
    pub(super) fn readable(&self) -> LogOffset {
        let named = self.index.map_or(LogOffset(0), |index| match index {
            CdcIndex::Growing(number) | CdcIndex::Sealed(number) => number,
        });
        self.end.unwrap_or_else(|| named.max(self.read))
    }

    /// Notes what was seen of it.
    pub(super) fn see(&mut self, index: Option<CdcIndex>, server_holds: bool) {
        // An index is truncated before it is written: what it said last still holds.
        let index = index.or(self.index);
        if (index, server_holds) != (self.index, self.server_holds) {
            self.since = Instant::now();
            (self.index, self.server_holds) = (index, server_holds);
        }
        if let Some(CdcIndex::Growing(number)) = index {
            self.highest = self.highest.max(number);
        }
    }

    /// Whether damage at this position is met for the first time.
    pub(super) fn is_newly_damaged(&mut self, at: LogOffset) -> bool {
        self.damaged.replace(at) != Some(at)
    }

    /// Its account does not close, and won't.
    pub(super) fn refuse(&mut self, mismatch: &Mismatch, acknowledged: LogOffset) -> Hold {
        let name = self.segment.name();
        let hold = Hold::new(Reason::Held(HoldReason::Account), format!("{name}: {mismatch}")).at(name, acknowledged);
        self.fault.insert(hold).clone()
    }

    /// Entries that were published, and that the chain does not hold.
    pub(super) fn taken_back(&self) -> u64 {
        self.entries().saturating_sub(self.framed)
    }

    /// Whether it may count as ended soon, if it stays as it is.
    pub(super) fn is_fresh(&self) -> bool {
        self.since.elapsed() < lifecycle::ABANDONED_AFTER
    }

    /// It, as the rules look at it.
    pub(super) fn sighting(&self, name: SegmentName, wanted: ReadTo) -> Sighting {
        Sighting {
            name,
            index: self.index,
            server_holds: self.server_holds,
            unchanged: self.since.elapsed(),
            has_section: self.has_section,
            read_to: if wanted == ReadTo::Synced { wanted } else { self.read_to.unwrap_or(ReadTo::Synced) },
            is_finished: self.is_finished,
        }
    }

    /// One more entry went to the line.
    pub(super) fn count(&mut self, end: LogOffset, outcome: Outcome) {
        self.read = end;
        self.tally.count(outcome);
    }

    /// An entry that went to the line became a dead letter.
    pub(super) fn dead_letter(&mut self, end: LogOffset, reason: &'static str) {
        self.dead_letters.insert(end, reason);
    }

    /// Entries up to `end` are acknowledged, with this account: what became of those that were not yet, and the reasons of
    /// dead letters among them. What is read again after a failure is not acknowledged, and so counted only once.
    pub(super) fn acknowledged(&mut self, end: LogOffset, tally: Tally) -> (Tally, Vec<&'static str>) {
        let before = std::mem::replace(&mut self.counted, tally);
        let new = Tally {
            published: tally.published.saturating_sub(before.published),
            not_cdc: tally.not_cdc.saturating_sub(before.not_cdc),
            filtered: tally.filtered.saturating_sub(before.filtered),
            dead_lettered: tally.dead_lettered.saturating_sub(before.dead_lettered),
        };
        let later = self.dead_letters.split_off(&LogOffset(end.0.saturating_add(1)));
        (new, std::mem::replace(&mut self.dead_letters, later).into_values().collect())
    }

    /// The entries that the account must close on: those of the chain, and in `written` mode those published from behind
    /// the last marker, which a killed server takes back.
    pub(super) fn entries(&self) -> u64 {
        match self.end {
            Some(end) if self.read > end => self.tally.entries().max(self.framed),
            _ => self.framed,
        }
    }

    /// Whether anything in it can be, or was, a change of a CDC table, or its time is over: a spare is none of these.
    pub(super) fn is_in_use(&self) -> bool {
        !self.server_holds || self.index.is_some() || self.framed > 0
    }

    /// The closed account, if all of it is acknowledged.
    pub(super) fn account(&self, record: &SegmentRecord) -> Option<Result<cassandra_progress::Balanced, Mismatch>> {
        let end = self.end?;
        (record.acknowledged() >= end && record.acknowledged() >= self.read)
            .then(|| record.tally().finish(self.entries()))
    }
}

#[cfg(test)]
mod tests {
    use cassandra_commitlog::{Position, SegmentId};
    use cassandra_progress::{Identity, Ledger, Window};

    use super::*;

    fn reading() -> Reading {
        let name = SegmentName::parse("CommitLog-7-1.log").unwrap();
        let identity = Identity { segment: name.id, first_entry_crc: None };
        Reading::new(name, &SegmentRecord::new(identity, name.to_string(), 1, 2))
    }

    #[test]
    fn damage_is_new_once() {
        let mut reading = reading();
        assert!(reading.is_newly_damaged(LogOffset(5)) && !reading.is_newly_damaged(LogOffset(5)));
        reading.begin_again();
        assert!(!reading.is_newly_damaged(LogOffset(5)), "a hold tries again");
        assert!(reading.is_newly_damaged(LogOffset(9)));
    }

    #[test]
    fn what_a_killed_server_took_back_is_what_the_chain_lacks() {
        let mut reading = reading();
        for end in [100, 200, 300] {
            reading.count(LogOffset(end), Outcome::Published);
        }
        (reading.framed, reading.end) = (3, Some(LogOffset(300)));
        assert_eq!(reading.taken_back(), 0);
        (reading.framed, reading.end) = (2, Some(LogOffset(200)));
        assert_eq!(reading.taken_back(), 1);
    }

    /// A segment without changes is read to its end behind one whose records are on their way, and all of that is taken
    /// back: it is acknowledged, but nothing has finished it yet.
    #[test]
    fn only_what_is_finished_is_not_walked_again() {
        let name = SegmentName::parse("CommitLog-7-5.log").unwrap();
        let end = LogOffset(300);
        let identity = Identity { segment: SegmentId(5), first_entry_crc: Some(1) };
        let mut record = SegmentRecord::new(identity, name.to_string(), 1, 2);
        let mut ledger = Ledger::new(Window::default());
        ledger.read_to(Position { segment: SegmentId(5), offset: end }, Outcome::NotCdc);
        record.acknowledge(&ledger.watermark().unwrap()).unwrap();

        let mut reading = Reading::new(name, &record);
        (reading.framed, reading.end, reading.done) = (1, Some(end), Some(Extent::Ended));
        reading.restart(&record);
        assert_eq!((reading.end, reading.done), (None, None));

        (reading.framed, reading.end, reading.done) = (1, Some(end), Some(Extent::Ended));
        record.finish(reading.account(&record).unwrap().unwrap()).unwrap();
        reading.restart(&record);
        assert_eq!((reading.end, reading.done), (Some(end), Some(Extent::Ended)));
    }
}
