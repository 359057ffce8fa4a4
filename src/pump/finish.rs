//! From acknowledgements to the end of a segment.
//!
//! Owns: when progress is saved, when a segment is finished, and deleting it on the strength of two saved generations.
//! Does not own: the proofs (`cassandra-progress`), the files (`keeper`).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use cassandra_commitlog::{SegmentId, SegmentName};
use cassandra_progress::{Ending, Identity, Reapable, Sealed, SegmentRecord, SegmentState, Watermark};

use super::hold::{Hold, Proof, Reason};
use super::{Pump, PumpError, Trouble};
use crate::fault;
use crate::keeper::Scan;
use crate::observe::{HoldReason, Part};

/// The longest that an acknowledgement stays unsaved: it bounds what a crash repeats.
const SAVE: Duration = Duration::from_secs(1);

/// How long tombstones are kept: Cassandra may link a segment again for as long as it has not flushed it.
const TOMBSTONES: Duration = Duration::from_secs(30 * 24 * 3600);

impl Pump {
    /// Collects acknowledgements, and takes them over into the records.
    pub(super) fn settle(&mut self) -> Result<(), Trouble> {
        fault::point("report.take").map_err(PumpError::Write)?;
        if self.delivery.settle()? {
            self.go_on(Proof::Acknowledged);
        }
        self.take_acknowledged()?;
        fault::point("report.taken").map_err(PumpError::Write)?;
        self.settle_gaps()
    }

    /// Takes over what the ledger knows to be acknowledged.
    pub(super) fn take_acknowledged(&mut self) -> Result<(), Trouble> {
        while let Some(passed) = self.delivery.ledger.pop_passed() {
            self.acknowledge(&passed)?;
        }
        match self.delivery.ledger.watermark() {
            Some(watermark) => self.acknowledge(&watermark),
            None => Ok(()),
        }
    }

    fn acknowledge(&mut self, watermark: &Watermark) -> Result<(), Trouble> {
        if let Some(probe) = self.probe.take_if(|probe| probe.passed(watermark.position()))
            && let Some(seconds) = probe.seconds_until(jiff::Timestamp::now().as_microsecond())
        {
            self.observe.metrics.end_to_end_latency.observe(seconds);
        }
        self.count_acknowledged(watermark);
        if !self.options.acknowledges {
            return Ok(());
        }
        let id = watermark.position().segment;
        let mut records = self.checkpoint.segments.iter_mut();
        let Some(record) = records.find(|record| record.identity().segment == id) else { return Ok(()) };
        if record.state() != SegmentState::Reading || watermark.position().offset < record.acknowledged() {
            return Ok(());
        }
        let before = (record.acknowledged(), record.tally());
        // With the position, not behind it: a chain that ends before it must not look cut in the next life.
        record.early |= self.readings.get(&id).is_some_and(|reading| reading.early);
        record.acknowledge(watermark).map_err(PumpError::Record)?;
        self.dirty |= before != (record.acknowledged(), record.tally());
        self.finish_read(id)
    }

    /// Entries and dead letters count when they are acknowledged: each once, however often it is sent.
    fn count_acknowledged(&mut self, watermark: &Watermark) {
        let position = watermark.position();
        let Some(reading) = self.readings.get_mut(&position.segment) else { return };
        let (entries, dead_letters) = reading.acknowledged(position.offset, watermark.tally());
        let counters = &self.observe.metrics.entries;
        counters.published.inc_by(entries.published.into());
        counters.not_cdc.inc_by(entries.not_cdc.into());
        counters.filtered.inc_by(entries.filtered.into());
        counters.dead_lettered.inc_by(entries.dead_lettered.into());
        for reason in dead_letters {
            self.observe.metrics.dead_letter_records.inc(reason);
        }
    }

    /// Closes the account of a segment that is read and acknowledged to its end.
    pub(super) fn finish_read(&mut self, id: SegmentId) -> Result<(), Trouble> {
        let Some(reading) = self.readings.get_mut(&id) else { return Ok(()) };
        let mut records = self.checkpoint.segments.iter_mut();
        let Some(record) = records.find(|record| record.identity().segment == id) else { return Ok(()) };
        if record.state() != SegmentState::Reading {
            return Ok(());
        }
        match reading.account(record) {
            None => return Ok(()),
            Some(Ok(account)) => record.finish(account).map_err(PumpError::Record)?,
            Some(Err(mismatch)) => return Err(reading.refuse(&mismatch, record.acknowledged()).into()),
        }
        reading.is_finished = true;
        self.observe.metrics.entries_taken_back.inc_by(reading.taken_back());
        self.observe.metrics.segments_finished.inc();
        self.dirty = true;
        Ok(())
    }

    /// Saves what changed, and deletes what is finished. Says whether anything was.
    pub(super) fn save_and_reap(&mut self, scan: &Scan) -> Result<bool, PumpError> {
        if self.store.is_none() {
            return Ok(false);
        }
        let may_reap = self.undeletable.as_ref().is_none_or(|hold| hold.left().is_zero());
        let finished: Vec<Identity> = if may_reap { self.finished(scan) } else { Vec::new() };
        if !finished.is_empty() || (self.dirty && self.saved.is_none_or(|saved| saved.elapsed() >= SAVE)) {
            self.save()?;
        }
        if finished.is_empty() {
            if may_reap {
                self.undeletable = None;
            }
            return Ok(false);
        }
        // A torn newest generation falls back to the older one: both must know before anything goes.
        if finished.iter().any(|identity| self.right_to_delete(*identity).is_none()) {
            self.save()?;
        }
        for identity in &finished {
            self.observe.beat(Part::Pump);
            let reaped = match self.right_to_delete(*identity) {
                Some(right) => self.reap(right),
                None => Err(self.without_right(*identity)),
            };
            if let Err(hold) = reaped {
                self.cannot_delete(hold);
                break;
            }
            self.undeletable = None;
        }
        self.save()?;
        Ok(self.undeletable.is_none())
    }

    /// Segments that are finished, in this life or an earlier one, whose end this life has seen, and whose files are there.
    /// It does not matter whether the server still holds one: if it links it again its tombstone tells.
    fn finished(&self, scan: &Scan) -> Vec<Identity> {
        if !scan.can_delete() {
            return Vec::new();
        }
        let is_finished = |record: &&SegmentRecord| {
            let reading = self.readings.get(&record.identity().segment);
            record.state() == SegmentState::Finished && reading.is_some_and(|reading| reading.end.is_some())
        };
        let mut finished = self.checkpoint.segments.iter().filter(is_finished).peekable();
        if finished.peek().is_none() {
            return Vec::new();
        }
        let names: HashSet<SegmentName> = scan.segments.iter().map(|view| view.name).collect();
        let is_there =
            |record: &&SegmentRecord| SegmentName::parse(&record.name).is_ok_and(|name| names.contains(&name));
        finished.filter(is_there).map(SegmentRecord::identity).collect()
    }

    /// Reading goes on while finished segments stay.
    pub(super) fn cannot_delete(&mut self, mut hold: Hold) {
        if let Some(before) = &self.undeletable {
            hold.follow(before);
        } else {
            tracing::error!("held: {}; reading goes on", hold.detail);
        }
        self.undeletable = Some(hold);
    }

    fn without_right(&self, identity: Identity) -> Hold {
        let detail = format!("segment {} is finished, but not by the account of both checkpoints", identity.segment.0);
        Hold::new(Reason::Held(HoldReason::Account), detail)
    }

    /// Saves the schema's changes, then the progress that rests on them.
    pub(super) fn save(&mut self) -> Result<(), PumpError> {
        let Some(store) = &mut self.store else { return Ok(()) };
        let started = Instant::now();
        let oldest = jiff::Timestamp::now().as_second().saturating_sub_unsigned(TOMBSTONES.as_secs());
        self.checkpoint.expire(oldest);
        let result = self.line.save_schema().map_err(|error| PumpError::State("save the", "schema".to_owned(), error));
        let result = result.and_then(|()| store.save(&self.checkpoint).map_err(PumpError::Save));
        if result.is_err() {
            self.observe.metrics.checkpoint_failures.inc();
        }
        result?;
        self.observe.metrics.checkpoint_duration.observe(started.elapsed().as_secs_f64());
        self.forget_schema();
        self.saved = Some(Instant::now());
        self.generation += 1;
        self.dirty = false;
        let acknowledged =
            |record: &SegmentRecord| Some((SegmentName::parse(&record.name).ok()?, record.acknowledged()));
        *self.keeper.acknowledged() = self.checkpoint.segments.iter().filter_map(acknowledged).collect();
        Ok(())
    }

    /// Where both generations go on from, no older schema is asked for.
    fn forget_schema(&mut self) {
        let place = self.place();
        if let Some((segment, position)) = std::mem::replace(&mut self.saved_place, place) {
            let order = self.order();
            self.line.forget_schema_before(|id| order.iter().position(|known| *known == id), segment, position);
        }
    }

    fn right_to_delete(&self, identity: Identity) -> Option<Reapable> {
        let reading = self.readings.get(&identity.segment)?;
        let sealed = Sealed { identity, end: reading.end?, entries: reading.entries() };
        Reapable::new(sealed, &self.store.as_ref()?.durable(identity)?).ok()
    }

    fn reap(&mut self, right: Reapable) -> Result<(), Hold> {
        let (identity, tally) = (right.identity(), right.tally());
        let mut records = self.checkpoint.segments.iter();
        let Some(record) = records.find(|record| record.identity() == identity) else { return Ok(()) };
        let kept = |detail: String| Hold::new(Reason::Held(HoldReason::CdcRaw), detail);
        let name = SegmentName::parse(&record.name).map_err(|error| kept(error.to_string()))?;
        let reaped = self.keeper.reap(name, right);
        let seen = reaped.map_err(|error| kept(format!("delete {name}: {error}")).at(name, record.acknowledged()))?;
        self.reaped.insert(name, seen);
        self.observe.metrics.segments_deleted.inc();
        self.totals += tally;
        self.deleted += 1;
        self.readings.remove(&identity.segment);
        self.bury(identity, if tally.entries() == 0 { Ending::Empty } else { Ending::Reaped });
        Ok(())
    }

    /// Sends gap records that Kafka does not have yet.
    pub(super) fn send_gaps(&mut self) -> Result<(), Trouble> {
        let Some(gaps) = &self.gaps else { return Ok(()) };
        let unpublished = gaps.unpublished();
        let Some((sink, ledger, isolation)) = self.delivery.parts() else { return Ok(()) };
        for gap in unpublished {
            if self.gaps_sent.contains_key(&gap.name) {
                continue;
            }
            // No entry is to blame for it.
            isolation.at = None;
            self.line.gap(&gap.gap.as_gap(), sink, ledger)?;
            if isolation.is_on() {
                isolation.confirm(sink, ledger)?;
            }
            self.gaps_sent.insert(gap.name, ledger.opened());
        }
        Ok(())
    }

    /// Marks gap records as published once all runs are acknowledged that were opened before they were sent, or with them.
    fn settle_gaps(&mut self) -> Result<(), Trouble> {
        let Some(gaps) = &self.gaps else { return Ok(()) };
        let settled = self.delivery.ledger.settled();
        for (gap, _) in self.gaps_sent.extract_if(.., |_, runs| *runs <= settled) {
            gaps.published(&gap).map_err(|error| PumpError::State("mark the gap record", gap.clone(), error))?;
        }
        Ok(())
    }

    /// Logical positions that are readable and not acknowledged, over all segments.
    pub(super) fn unacknowledged(&self, record: &SegmentRecord) -> u64 {
        let Some(reading) = self.readings.get(&record.identity().segment) else { return 0 };
        let readable = reading.readable();
        u64::from(readable.0.saturating_sub(record.acknowledged().0))
    }
}
