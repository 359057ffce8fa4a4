//! What becomes of an entry on its way from a segment to Kafka.
//!
//! Owns: the one outcome of each entry in the service: published, or dead-lettered with a copy in the quarantine, and the
//! gap record of bytes that are given up. Does not own: where entries come from (`segment`), their records (`line`).

use std::ops::Range;
use std::time::Instant;

use cassandra_commitlog::{
    Cause, Codec, DecodeError, Descriptor, Entry, FileOffset, FormatVersion, LogOffset, MutationError, Place, Position,
    Structure,
};
use cassandra_event::GapKind;
use cassandra_progress::{Checkpoint, Ledger, Refused};

use super::delivery::Isolation;
use super::hold::{Hold, Reason};
use super::reading::Reading;
use super::schema::SchemaSource;
use super::{PumpError, Trouble};
use crate::fault;
use crate::gaps::{GapLog, GapRecord};
use crate::interrupt;
use crate::kafka::KafkaError;
use crate::line::{Done, Line, Rejected};
use crate::observe::{HoldReason, Observe, Part};
use crate::sink::{Sink, SinkError};
use crate::walk::Damage;

/// What an entry passes through.
pub(super) struct Intake<'p> {
    pub(super) line: &'p mut Line,
    pub(super) sink: &'p mut Sink,
    pub(super) ledger: &'p mut Ledger,
    pub(super) isolation: &'p mut Isolation,
    pub(super) checkpoint: &'p mut Checkpoint,
    pub(super) schema: &'p mut SchemaSource,
    pub(super) gaps: Option<&'p GapLog>,
    pub(super) observe: &'p Observe,
    pub(super) events: &'p mut u64,
    pub(super) probe: &'p mut Option<Probe>,
}

/// One entry whose way from its write to its acknowledgement is measured.
#[derive(Debug, Clone, Copy)]
pub(super) struct Probe {
    position: Position,
    /// Microseconds since 1970.
    written: i64,
}

/// An older timestamp was chosen by a client: it says nothing of how long we took.
const OLDEST_WRITE: i64 = 30 * 24 * 3600 * 1_000_000;

impl Probe {
    /// Whether it is acknowledged, where everything up to this position is.
    pub(super) fn passed(&self, acknowledged: Position) -> bool {
        acknowledged.segment == self.position.segment && acknowledged.offset >= self.position.offset
    }

    /// Seconds from the write to this moment, microseconds since 1970.
    pub(super) fn seconds_until(&self, now: i64) -> Option<f64> {
        let micros = now.saturating_sub(self.written).max(0);
        (micros < OLDEST_WRITE).then(|| micros as f64 / 1e6)
    }
}

impl Intake<'_> {
    /// Goes on in this segment.
    pub(super) fn enter(&mut self, reading: &Reading) {
        let start = Position { segment: reading.segment.name().id, offset: reading.read };
        self.ledger.enter(start, reading.tally);
    }

    /// The read position, past a marker or to the end of the chain.
    pub(super) fn advance_to(&mut self, end: Position) {
        self.ledger.advance_to(end);
    }

    /// An entry of a closed section. What was read already, in an earlier life or before its section was closed, is
    /// counted only.
    pub(super) fn framed(
        &mut self,
        reading: &mut Reading,
        version: FormatVersion,
        entry: &Entry<'_>,
    ) -> Result<(), Trouble> {
        if reading.framed == 0 {
            self.identify(reading, entry)?;
        }
        reading.framed += 1;
        if entry.end() <= reading.read { Ok(()) } else { self.entry(reading, version, entry) }
    }

    /// The first entry tells a segment from another one under the same id.
    fn identify(&mut self, reading: &Reading, entry: &Entry<'_>) -> Result<(), Trouble> {
        let name = reading.segment.name();
        let mut records = self.checkpoint.segments.iter_mut();
        let Some(record) = records.find(|record| record.identity().segment == name.id) else { return Ok(()) };
        match record.identify(entry.crc) {
            Ok(()) => Ok(()),
            Err(Refused::OtherFirstEntry) => Err(Trouble::Collision(name)),
            Err(refused) => Err(PumpError::Record(refused).into()),
        }
    }

    /// Takes one entry to the sink.
    pub(super) fn entry(
        &mut self,
        reading: &mut Reading,
        version: FormatVersion,
        entry: &Entry<'_>,
    ) -> Result<(), Trouble> {
        let position = Position { segment: reading.segment.name().id, offset: entry.end() };
        self.isolation.at = Some(position);
        if self.probe.is_none() {
            self.line.ask_written();
        }
        fault::point("send.entry").map_err(PumpError::Write)?;
        let refused = self.isolation.refused(position).map(str::to_owned);
        let done = match &refused {
            Some(detail) => self.line.reject(&reading.segment, version, entry, detail, self.sink, self.ledger)?,
            None => self.decode(reading, version, entry)?,
        };
        if let Some(written) = self.line.take_written() {
            *self.probe = Some(Probe { position, written });
        }
        fault::point("send.entered").map_err(PumpError::Write)?;
        if let Some(rejected) = &done.rejected {
            if let Rejected::Undecodable(MutationError::Malformed(error)) = rejected {
                self.observe.metrics.decode_errors.inc(error.structure.words());
            }
            let reason = rejected.reason();
            tracing::warn!(segment = %reading.segment, %position, reason, "dead-lettered: {rejected}");
            reading.dead_letter(entry.end(), reason);
        }
        reading.count(entry.end(), done.outcome);
        *self.events += done.records as u64;
        if refused.is_some() || self.isolation.is_on() {
            self.isolation.confirm(self.sink, self.ledger)?;
            self.isolation.passed(position);
        }
        Ok(())
    }

    /// Whether others must have their turn before more is read: the slice is over, or enough is on its way.
    pub(super) fn must_pause(&self, slice: Instant) -> bool {
        self.observe.beat(Part::Pump);
        interrupt::came() || Instant::now() >= slice || self.ledger.is_full() || self.sink.is_crowded()
    }

    /// Damaged bytes: held at, or put aside.
    pub(super) fn damage(
        &mut self,
        reading: &mut Reading,
        descriptor: &Descriptor,
        file: &[u8],
        section: &Range<FileOffset>,
        damage: &Damage,
        salvage: bool,
    ) -> Result<(), Trouble> {
        self.count_damage(reading, &damage.error, damage.from);
        if !salvage {
            return Err(Hold::damaged(reading, damage).into());
        }
        self.salvage(reading, descriptor, file, section, damage)
    }

    /// A header that can't be read: nothing of the segment can be, whatever the configuration says.
    pub(super) fn unreadable(&self, reading: &mut Reading, error: &DecodeError) -> Hold {
        self.count_damage(reading, error, LogOffset(0));
        let segment = &reading.segment;
        Hold::new(Reason::Held(HoldReason::Damage), format!("{segment}: {error}")).at(segment.name(), LogOffset(0))
    }

    /// A chain that ends before a place that it had reached once.
    pub(super) fn short(
        &mut self,
        reading: &mut Reading,
        file: &[u8],
        end: LogOffset,
        salvage: bool,
    ) -> Result<(), Trouble> {
        let cause = Cause::Broken("the chain ends before a place that it had reached");
        let error = DecodeError { at: Place::Log(end), structure: Structure::CdcIndex, cause };
        let descriptor = Descriptor::parse(file).map_err(|error| self.unreadable(reading, &error))?;
        self.damage(
            reading,
            &descriptor,
            file,
            &(FileOffset(0)..FileOffset(0)),
            &Damage { error, from: end, to: None },
            salvage,
        )?;
        reading.highest = end;
        Ok(())
    }

    /// Counts damage, once.
    pub(super) fn count_damage(&self, reading: &mut Reading, error: &DecodeError, at: LogOffset) {
        if reading.is_newly_damaged(at) {
            self.observe.metrics.decode_errors.inc(error.structure.words());
        }
    }

    /// Decodes with the schema of the place. A table or column that it lacks may be in the node's own by now; only what
    /// an answer of the node lacks too is nobody's.
    fn decode(&mut self, reading: &Reading, version: FormatVersion, entry: &Entry<'_>) -> Result<Done, Trouble> {
        let (mut may_retry, mut answers) = (self.schema.has_contact(), 0);
        loop {
            if let Some(done) = self.line.entry(&reading.segment, version, entry, may_retry, self.sink, self.ledger)? {
                return Ok(done);
            }
            let unknown = self.line.take_unknown();
            let asked = unknown.as_ref().map(|unknown| self.schema.ask(unknown, &mut answers, self.line, self.observe));
            may_retry = match asked.unwrap_or(Ok(false)) {
                Ok(may_retry) => may_retry,
                Err(_) if interrupt::came() => return Err(SinkError::Kafka(KafkaError::Interrupted).into()),
                Err(error) => return Err(no_answer(reading, unknown.as_ref(), &error)),
            };
        }
    }

    /// Puts damaged bytes aside: with a gap record first, because nothing else says that they are missing.
    fn salvage(
        &mut self,
        reading: &Reading,
        descriptor: &Descriptor,
        file: &[u8],
        section: &Range<FileOffset>,
        damage: &Damage,
    ) -> Result<(), Trouble> {
        let (Some(gaps), Some(quarantine)) = (self.gaps, self.line.quarantine()) else { return Ok(()) };
        let name = reading.segment.name();
        // Behind lost markers of compressed sections nobody knows how long their plaintext was.
        let lost_marker = matches!(damage.error.structure, Structure::SyncMarker | Structure::Section);
        let plain = descriptor.codec == Codec::Plain;
        tracing::error!(segment = %reading.segment, "salvaged: {damage}");
        let gap = GapRecord {
            to: damage.to.map(|to| to.0),
            ids_may_shift: !plain && damage.to.is_some() && lost_marker,
            ..GapRecord::of_the_rest(name.to_string(), GapKind::DamagedBytes, Some(damage.from.0))
        };
        let kept = gaps.record_counted(&gap, &self.observe.metrics.gap_records).and_then(|()| {
            let end = damage.to.map_or(file.len(), |to| to.0 as usize);
            let bytes = match (plain, lost_marker) {
                (true, _) => file.get(damage.from.0 as usize..end),
                (false, false) => file.get(section.start.0 as usize..section.end.0 as usize),
                (false, true) => file.get(section.end.0 as usize..),
            };
            quarantine.keep_region(&gap.segment, damage.from.0, gap.to, bytes.unwrap_or_default()).map(drop)
        });
        kept.map_err(|error| PumpError::State("keep damaged bytes of", name.to_string(), error).into())
    }
}

/// What the node would know is not lost: the entry waits for its answer.
fn no_answer(reading: &Reading, unknown: Option<&MutationError>, error: &anyhow::Error) -> Trouble {
    let segment = &reading.segment;
    let unknown = unknown.map(ToString::to_string).unwrap_or_default();
    let detail = format!("{segment}: {unknown}, and the node does not answer: {error:#}");
    Hold::new(Reason::Held(HoldReason::Schema), detail).at(segment.name(), reading.read).into()
}

impl From<Hold> for Trouble {
    fn from(hold: Hold) -> Self {
        Self::Hold(hold)
    }
}

#[cfg(test)]
mod tests {
    use cassandra_commitlog::SegmentId;

    use super::*;

    #[test]
    fn a_probe_measures_from_the_write_to_the_acknowledgement_of_its_entry() {
        let at = |segment, offset| Position { segment: SegmentId(segment), offset: LogOffset(offset) };
        let probe = Probe { position: at(7, 100), written: 5_000_000 };
        assert!(probe.passed(at(7, 100)) && probe.passed(at(7, 101)));
        assert!(!probe.passed(at(7, 99)) && !probe.passed(at(8, 200)));
        assert_eq!(probe.seconds_until(7_500_000), Some(2.5));
        assert_eq!(probe.seconds_until(4_000_000), Some(0.0), "a client's clock runs ahead");
        assert_eq!(probe.seconds_until(5_000_000 + OLDEST_WRITE), None);
    }
}
