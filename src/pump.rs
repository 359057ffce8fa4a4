//! The loop: plan, read, send, settle, save, reap.
//!
//! Owns: how far each segment is read, and the order of the steps. Does not own: the steps themselves. One turn does
//! what can be done now; whoever turns it waits in between (`watch`).

use std::collections::BTreeMap;
use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use cassandra_commitlog::{CdcIndex, LogOffset, Plaintext, Position, SegmentId, SegmentName, Tail};
use cassandra_progress::{
    Checkpoint, Ending, Identity, Ledger, Mismatch, Reapable, Refused, SaveError, Sealed, SegmentRecord, SegmentState,
    Tombstone, Totals, Watermark, Window,
};
use thiserror::Error;

use crate::cdc_raw::CdcRaw;
use crate::checkpoint::{CheckpointStore, StateError};
use crate::line::{Line, Segment};
use crate::mapped::Mapped;
use crate::segments::SegmentFile;
use crate::sink::{Sink, SinkError};
use crate::walk::{self, Damage, Marker, Seen, walk};

/// How long one turn waits for Kafka before it looks around.
const DELIVERY: Duration = Duration::from_secs(1);

/// Why the pump stops.
#[derive(Debug, Error)]
pub enum PumpError {
    /// The sink.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// A file of `cdc_raw`.
    #[error("{0}")]
    Raw(String, #[source] io::Error),
    /// The state.
    #[error(transparent)]
    State(#[from] SaveError<StateError>),
    /// Damaged bytes: the segment stays, and so does everything behind it.
    #[error("{segment} is damaged and stays where it is: {damage}")]
    Damaged {
        /// The segment.
        segment: String,
        /// What is wrong.
        damage: String,
    },
    /// The account of a segment does not close.
    #[error(transparent)]
    Account(#[from] Mismatch),
    /// The record of a segment contradicts what was read.
    #[error(transparent)]
    Record(#[from] Refused),
}

/// How far a segment is read.
#[derive(Debug, Default)]
struct Reading {
    next: Option<Marker>,
    entries: u64,
    /// The logical end of its chain, once it is sealed and read to there.
    sealed_end: Option<LogOffset>,
}

/// Everything between `cdc_raw` and the sink.
pub struct Pump {
    raw: CdcRaw,
    line: Line,
    sink: Sink,
    ledger: Ledger,
    store: CheckpointStore,
    checkpoint: Checkpoint,
    readings: BTreeMap<SegmentId, Reading>,
    plaintext: Plaintext,
    totals: Totals,
    events: u64,
}

impl Pump {
    /// A pump that goes on from this checkpoint.
    pub fn new(raw: CdcRaw, line: Line, sink: Sink, store: CheckpointStore, checkpoint: Checkpoint) -> Self {
        Self {
            raw,
            line,
            sink,
            ledger: Ledger::new(Window::default()),
            store,
            checkpoint,
            readings: BTreeMap::new(),
            plaintext: Plaintext::default(),
            totals: Totals::default(),
            events: 0,
        }
    }

    /// The outcomes of the entries of all segments that were finished.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Records that were made, dead letters among them.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Reads what became durable since the last turn, publishes it, and deletes what is finished. Says how many
    /// segments went.
    ///
    /// # Errors
    /// The pump can't go on. Nothing is lost: what was not acknowledged is read again.
    pub fn turn(&mut self) -> Result<usize, PumpError> {
        let raw = self.raw.clone();
        let scan = raw.scan().map_err(|error| PumpError::Raw(format!("scan {}", raw.folder().display()), error))?;
        for segment in scan {
            // Without an index nothing of it is durable. Order holds across segments: behind one that still grows
            // nothing is read.
            let Some(index) = segment.index else { continue };
            self.read(&segment, index)?;
            if self.readings.get(&segment.name.id).is_none_or(|reading| reading.sealed_end.is_none()) {
                break;
            }
        }
        self.settle()?;
        self.save_and_reap()
    }

    fn read(&mut self, file: &SegmentFile, index: CdcIndex) -> Result<(), PumpError> {
        let id = file.name.id;
        let reading = self.readings.entry(id).or_default();
        if reading.sealed_end.is_some() {
            return Ok(());
        }
        let mapped =
            Mapped::open(&file.path).map_err(|error| PumpError::Raw(format!("map {}", file.path.display()), error))?;
        let segment = Segment::new(file.name);
        let record = record_of(&mut self.checkpoint, file);
        let (done, tally) = (record.acknowledged(), record.tally());
        self.ledger.enter(Position { segment: id, offset: done }, tally);
        let tail = if matches!(index, CdcIndex::Sealed(_)) { Tail::Sealed } else { Tail::Live };
        let limit = match index {
            CdcIndex::Growing(durable) => Some(durable),
            CdcIndex::Sealed(_) => None,
        };
        let options = walk::Options { tail, salvage: false, index: Some(index), limit, start: reading.next };
        let walked = walk(&file.name, &mapped, options, &mut self.plaintext, |descriptor, seen| {
            let taken = match seen {
                Seen::Section(_) => Ok(()),
                Seen::Damage(damage) => Err(damaged(&segment, &damage)),
                Seen::Entry(entry) => {
                    if reading.entries == 0
                        && let Err(refused) = record.identify(entry.crc)
                    {
                        return ControlFlow::Break(Err(refused.into()));
                    }
                    reading.entries += 1;
                    if entry.end() <= done {
                        return ControlFlow::Continue(());
                    }
                    let line = &mut self.line;
                    match line.entry(&segment, descriptor.version, &entry, false, &mut self.sink, &mut self.ledger) {
                        Ok(None) => Ok(()),
                        Ok(Some(done)) => {
                            self.events += done.records as u64;
                            if let Some(error) = done.rejected {
                                tracing::warn!(%segment, position = %entry.end(), "dead-lettered: {error}");
                            }
                            Ok(())
                        }
                        Err(error) => Err(error.into()),
                    }
                }
            };
            match taken {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(Err::<(), PumpError>(error)),
            }
        });
        match walked {
            Ok(ControlFlow::Continue(walked)) => {
                reading.next = Some(walked.next);
                self.ledger.advance_to(Position { segment: id, offset: walked.end });
                if tail == Tail::Sealed {
                    reading.sealed_end = Some(walked.end);
                }
                Ok(())
            }
            Ok(ControlFlow::Break(result)) => result,
            Err(error) => Err(PumpError::Damaged { segment: segment.to_string(), damage: error.to_string() }),
        }
    }

    /// Waits for what was sent, and takes over into the checkpoint what is acknowledged.
    fn settle(&mut self) -> Result<(), PumpError> {
        self.sink.drain(&mut self.ledger, DELIVERY)?;
        while let Some(passed) = self.ledger.pop_passed() {
            self.acknowledge(&passed)?;
        }
        if let Some(watermark) = self.ledger.watermark() {
            self.acknowledge(&watermark)?;
        }
        Ok(())
    }

    fn acknowledge(&mut self, watermark: &Watermark) -> Result<(), PumpError> {
        let id = watermark.position().segment;
        let Some(record) = self.checkpoint.segments.iter_mut().find(|record| record.identity().segment == id) else {
            return Ok(());
        };
        if record.state() != SegmentState::Reading {
            return Ok(());
        }
        record.acknowledge(watermark)?;
        let Some(reading) = self.readings.get(&id) else { return Ok(()) };
        if reading.sealed_end == Some(watermark.position().offset) {
            record.finish(watermark.tally().finish(reading.entries)?)?;
        }
        Ok(())
    }

    fn save_and_reap(&mut self) -> Result<usize, PumpError> {
        self.store.save(&self.checkpoint)?;
        let is_finished = |record: &&SegmentRecord| record.state() == SegmentState::Finished;
        let mut finished = self.checkpoint.segments.iter().filter(is_finished).peekable();
        if finished.peek().is_none() {
            return Ok(0);
        }
        // A torn newest generation falls back to the older one: both must know before anything goes.
        self.store.save(&self.checkpoint)?;
        let finished: Vec<(Identity, String)> =
            finished.map(|record| (record.identity(), record.name.clone())).collect();
        let mut reaped = 0;
        for (identity, name) in finished {
            if let (Some(right), Ok(name)) = (self.right_to_delete(identity), SegmentName::parse(&name)) {
                self.reap(name, right)?;
                reaped += 1;
            }
        }
        Ok(reaped)
    }

    fn right_to_delete(&self, identity: Identity) -> Option<Reapable> {
        let reading = self.readings.get(&identity.segment)?;
        let sealed = Sealed { identity, end: reading.sealed_end?, entries: reading.entries };
        Reapable::new(sealed, &self.store.durable(identity)?).ok()
    }

    fn reap(&mut self, name: SegmentName, right: Reapable) -> Result<(), PumpError> {
        let (identity, tally, end) = (right.identity(), right.tally(), right.end());
        self.raw.delete(name, right).map_err(|error| PumpError::Raw(format!("delete {name}"), error))?;
        self.totals += tally;
        self.readings.remove(&identity.segment);
        self.checkpoint.segments.retain(|record| record.identity() != identity);
        let finished_at = jiff::Timestamp::now().as_second();
        self.checkpoint.tombstones.push(Tombstone { identity, end, tally, finished_at, ending: Ending::Reaped });
        Ok(())
    }
}

fn record_of<'c>(checkpoint: &'c mut Checkpoint, file: &SegmentFile) -> &'c mut SegmentRecord {
    let known = checkpoint.segments.iter().position(|record| record.identity().segment == file.name.id);
    let at = known.unwrap_or_else(|| {
        let identity = Identity { segment: file.name.id, first_entry_crc: None };
        let inode = file.path.metadata().map_or(0, |metadata| std::os::unix::fs::MetadataExt::ino(&metadata));
        let first_seen = jiff::Timestamp::now().as_second();
        checkpoint.segments.push(SegmentRecord::new(identity, file.name.to_string(), inode, first_seen));
        checkpoint.segments.len() - 1
    });
    &mut checkpoint.segments[at]
}

fn damaged(segment: &Segment, damage: &Damage) -> PumpError {
    PumpError::Damaged { segment: segment.to_string(), damage: damage.to_string() }
}
