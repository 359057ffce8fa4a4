//! The ledger: which runs of records are outstanding, and how far everything before them is done.
//!
//! Owns: tickets, the read position, the watermark, and taking the reading back to it.
//! Does not own: records, partitions, files. It never learns why a run finished late or not at all.
//!
//! A *run* is a group of records that one delivery report settles, from any number of entries. For each entry the
//! reader first opens tickets for the runs that begin with its records, then calls [`Ledger::read_to`] with its end.
//! The watermark is the end of the last entry before the first entry of the oldest unfinished run, or the read position
//! if no run is unfinished: the longest prefix of entries of which every record is acknowledged. So one small element
//! is kept per run, none per record, and an acknowledgement that overtakes another moves nothing.

use alloc::collections::VecDeque;
use core::sync::atomic::{AtomicU64, Ordering};

use cassandra_commitlog::{LogOffset, Position, SegmentId};

use crate::tally::{Outcome, Tally};

/// No two ledgers of a process, and no two lives of one, share an epoch: a ticket can't settle another's run.
static EPOCHS: AtomicU64 = AtomicU64::new(0);

/// How far reading may run ahead of the watermark. It bounds memory, and what a crash repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Runs from the oldest unfinished one on, finished ones among them.
    pub runs: usize,
    /// Entries behind the watermark.
    pub entries: u64,
    /// Segments left behind whose end is not acknowledged, or not yet collected with [`Ledger::pop_passed`].
    pub segments: usize,
}

impl Default for Window {
    fn default() -> Self {
        Self { runs: 1 << 16, entries: 1 << 18, segments: 1 << 10 }
    }
}

/// The window is full: nothing more may be opened before the oldest run is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the window of outstanding runs is full")]
pub struct Full;

/// One outstanding run. It can't be cloned, and settling consumes it; one that is dropped leaves its run unfinished,
/// and the watermark in front of it, until the ledger is rewound.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a ticket that is never settled stops the watermark for good"]
pub struct Ticket {
    epoch: u64,
    run: u64,
}

/// A position before which everything is acknowledged, with the account of its segment up to there.
/// Only a ledger makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    position: Position,
    tally: Tally,
}

impl Watermark {
    /// The end of the last entry of the prefix, or where reading of the segment began.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The entries of that segment up to there.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

#[derive(Debug, Clone, Copy)]
struct Run {
    /// What becomes the watermark while this run is the oldest unfinished one; `None` before any segment.
    before: Option<Watermark>,
    /// Entries read when it was opened.
    entries: u64,
    finished: bool,
}

/// A segment that the reader has left.
#[derive(Debug, Clone, Copy)]
struct Passed {
    end: Watermark,
    /// The first run opened after it was left: its end is acknowledged once all before that one are finished.
    next_run: u64,
}

/// The account of outstanding runs, in reading order.
#[derive(Debug)]
pub struct Ledger {
    epoch: u64,
    window: Window,
    read: Option<Watermark>,
    entries: u64,
    /// The number of the run at the front of `runs`.
    first: u64,
    /// From the oldest unfinished run on: the front is never finished.
    runs: VecDeque<Run>,
    unfinished: usize,
    passed: VecDeque<Passed>,
}

impl Ledger {
    /// An empty ledger that has not entered a segment.
    pub fn new(window: Window) -> Self {
        Self {
            epoch: next_epoch(),
            window,
            read: None,
            entries: 0,
            first: 0,
            runs: VecDeque::new(),
            unfinished: 0,
            passed: VecDeque::new(),
        }
    }

    /// Goes on in another segment, at `start`, with the account of what was acknowledged there before.
    /// Entering the current segment again does nothing.
    pub fn enter(&mut self, start: Position, tally: Tally) {
        if let Some(left) = self.read {
            if left.position.segment == start.segment {
                return;
            }
            self.passed.push_back(Passed { end: left, next_run: self.next_run() });
        }
        self.read = Some(Watermark { position: start, tally });
    }

    /// Opens a run that begins with the entry behind the read position.
    ///
    /// # Errors
    /// [`Full`] at the limits of the window. A run that can't be opened yet must be waited for: hand over what is open
    /// and settle what comes back.
    pub fn open(&mut self) -> Result<Ticket, Full> {
        // Not `is_full`: who waits for room here can't collect passed segments at the same time.
        if self.runs.len() >= self.window.runs || self.window_entries() >= self.window.entries {
            return Err(Full);
        }
        let ticket = Ticket { epoch: self.epoch, run: self.next_run() };
        self.runs.push_back(Run { before: self.read, entries: self.entries, finished: false });
        self.unfinished = self.unfinished.saturating_add(1);
        Ok(ticket)
    }

    /// Whether reading must stop until a run is settled, or a passed segment collected.
    pub fn is_full(&self) -> bool {
        self.runs.len() >= self.window.runs
            || self.window_entries() >= self.window.entries
            || self.passed.len() >= self.window.segments
    }

    /// One more entry is read, to `end`: all its records have joined runs. A position in a segment that was not entered
    /// enters it; one that does not advance is an entry counted before, and changes nothing.
    pub fn read_to(&mut self, end: Position, outcome: Outcome) {
        if self.advance_to(end)
            && let Some(read) = &mut self.read
        {
            read.tally.count(outcome);
            self.entries = self.entries.saturating_add(1);
        }
    }

    /// Moves the read position without an entry: past a marker, past padding, to the end of the chain.
    /// Returns whether it moved.
    pub fn advance_to(&mut self, end: Position) -> bool {
        self.enter(Position { segment: end.segment, offset: LogOffset(0) }, Tally::default());
        match &mut self.read {
            Some(read) if read.position.offset < end.offset => {
                read.position = end;
                true
            }
            _ => false,
        }
    }

    /// Every record of the run is acknowledged. A ticket from before a rewind, or of another ledger, changes nothing:
    /// its entries are read again, under new tickets.
    pub fn settle(&mut self, ticket: Ticket) {
        if ticket.epoch != self.epoch {
            return;
        }
        let Some(index) = ticket.run.checked_sub(self.first).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        let Some(run) = self.runs.get_mut(index) else { return };
        run.finished = true;
        self.unfinished = self.unfinished.saturating_sub(1);
        while self.runs.front().is_some_and(|run| run.finished) {
            self.runs.pop_front();
            self.first = self.first.saturating_add(1);
        }
    }

    /// How far everything is acknowledged; `None` before the first segment.
    pub fn watermark(&self) -> Option<Watermark> {
        match self.runs.front() {
            Some(oldest) => oldest.before,
            None => self.read,
        }
    }

    /// The next segment, in reading order, that was left and is acknowledged to where it was left. Its watermark is
    /// handed out once: without it the account of that segment would be lost when the watermark crosses over.
    pub fn pop_passed(&mut self) -> Option<Watermark> {
        let first = self.first;
        let passed = self.passed.pop_front_if(|passed| passed.next_run <= first)?;
        Some(passed.end)
    }

    /// Forgets all outstanding runs and takes the reading back to the watermark, from where it must go on.
    /// The counts of the entries behind it are taken back too.
    pub fn rewind(&mut self) -> Option<Position> {
        let watermark = self.watermark();
        if let Some(oldest) = self.runs.front() {
            self.entries = oldest.entries;
        }
        let first = self.first;
        self.passed.retain(|passed| passed.next_run <= first);
        self.runs.clear();
        self.unfinished = 0;
        self.read = watermark;
        self.epoch = next_epoch();
        watermark.map(|watermark| watermark.position)
    }

    /// How many runs were opened.
    pub fn opened(&self) -> u64 {
        self.next_run()
    }

    /// How many of the runs that were opened first are settled: once this is what [`Self::opened`] was, all runs of then
    /// are.
    pub fn settled(&self) -> u64 {
        self.first
    }

    /// Runs that were opened and not settled.
    pub fn outstanding(&self) -> usize {
        self.unfinished
    }

    /// Entries read behind the watermark: what a crash now would repeat, but for the checkpoint's age.
    pub fn window_entries(&self) -> u64 {
        self.runs.front().map_or(0, |oldest| self.entries.saturating_sub(oldest.entries))
    }

    /// Where reading stands.
    pub fn read_position(&self) -> Option<Position> {
        self.read.map(|read| read.position)
    }

    /// The segment that is being read.
    pub fn segment(&self) -> Option<SegmentId> {
        self.read.map(|read| read.position.segment)
    }

    fn next_run(&self) -> u64 {
        // No platform has a longer `usize` than 64 bits, and the window keeps the length far below.
        self.first.saturating_add(u64::try_from(self.runs.len()).unwrap_or(u64::MAX))
    }
}

fn next_epoch() -> u64 {
    EPOCHS.fetch_add(1, Ordering::Relaxed)
}
