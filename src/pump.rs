//! The loop: plan, read, send, settle, save, reap, wait.
//!
//! Owns: the order of the steps, and the waits between turns. Does not own: the steps themselves, what follows from
//! trouble in any of them (`trouble`).
//!
//! ```text
//! keeper's scan ─ census: records of segments ─ lifecycle: how far each may be read
//!                                                   ▼
//!                             segment: walk, open end ─ intake: line, dead letters ─ delivery: Kafka
//!                                                                                        ▼
//!                  keeper deletes ◀─ finish: reap ◀─ saved twice ◀─ finish: acknowledged ─ ledger
//! ```

mod behind;
mod census;
mod delivery;
mod finish;
mod hold;
mod intake;
mod order;
mod partitions;
mod reading;
mod report;
mod schema;
mod segment;
mod trouble;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, Plaintext, Position, SegmentId, SegmentName};
use cassandra_progress::{Checkpoint, SegmentRecord, SegmentState, Totals};

use self::delivery::Delivery;
pub use self::delivery::MakeSettings;
use self::hold::{Hold, Reason};
use self::intake::{Intake, Probe};
pub use self::partitions::Partitions;
use self::reading::Reading;
pub use self::report::{Limits, too_few};
pub use self::schema::{SchemaSource, pull};
pub use self::trouble::PumpError;
use self::trouble::Trouble;
use crate::catalog::cql::Contact;
use crate::checkpoint::CheckpointStore;
use crate::filter::Tables;
use crate::gaps::GapLog;
use crate::interrupt;
use crate::keeper::{Keeper, Scan, View};
use crate::keys::KeySource;
use crate::lifecycle::ReadTo;
use crate::line::Line;
use crate::mapped::Access;
use crate::observe::{HoldReason, Identity, Observe, Part};
use crate::sink::Sink;
use crate::spool;

/// The longest wait for a scan.
const IDLE: Duration = Duration::from_secs(1);

/// The longest wait while something is on its way to Kafka.
const DELIVERING: Duration = Duration::from_millis(10);

/// How long the open end of a segment is followed before everything else has its turn.
const FOLLOW: Duration = Duration::from_millis(50);

/// Pauses between two looks at an open end: the shortest behind an entry, longer and longer while nothing comes.
const GLANCE: Duration = Duration::from_micros(200);
const LONGEST_GLANCE: Duration = Duration::from_millis(4);

/// How the pump works.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How far it reads before the index allows it.
    pub read_to: ReadTo,
    /// Whether damaged bytes are put aside, and not held at.
    pub salvage: bool,
    /// How segment files are read.
    pub access: Access,
    /// Whether anything is acknowledged, saved and deleted.
    pub acknowledges: bool,
}

/// What a pump is made of.
pub struct Parts {
    /// Sees and deletes files.
    pub keeper: Keeper,
    /// Where the server writes, if it may be looked at.
    pub commitlog: Option<PathBuf>,
    /// Makes records.
    pub line: Line,
    /// The keys of encrypted segments.
    pub keys: KeySource,
    /// Progress as it was saved.
    pub checkpoint: Checkpoint,
    /// Where progress is saved; nothing is acknowledged without it.
    pub store: Option<CheckpointStore>,
    /// Gap records.
    pub gaps: Option<GapLog>,
    /// The node's own schema.
    pub schema: SchemaSource,
    /// Whose segments these are.
    pub identity: Identity,
    /// What is shown.
    pub observe: Arc<Observe>,
}

/// Everything between `cdc_raw` and the sink.
pub struct Pump {
    options: Options,
    keeper: Keeper,
    /// Where the server writes, for segments that `cdc_raw` has lost.
    commitlog: Option<PathBuf>,
    line: Line,
    keys: KeySource,
    checkpoint: Checkpoint,
    store: Option<CheckpointStore>,
    gaps: Option<GapLog>,
    schema: SchemaSource,
    observe: Arc<Observe>,
    report: report::Reporter,
    delivery: Delivery,
    readings: BTreeMap<SegmentId, Reading>,
    plaintext: Option<Plaintext>,
    hold: Option<Hold>,
    /// Why finished segments stay. Reading goes on.
    undeletable: Option<Hold>,
    /// When others have their turn.
    slice: Instant,
    /// Reading stopped to let others have their turn.
    paused: bool,
    /// The scan of which all is read that may be.
    read_of: Option<u64>,
    /// Segments that are deleted, and the last scan that may still show them.
    reaped: HashMap<SegmentName, u64>,
    /// Gap records on their way to Kafka, each with the number of runs that must be settled for it.
    gaps_sent: BTreeMap<String, u64>,
    /// The segment whose open end was reached.
    at_end: Option<View>,
    glance: Duration,
    dirty: bool,
    saved: Option<Instant>,
    /// Where the newest generation goes on.
    saved_place: Option<(SegmentId, LogOffset)>,
    generation: u64,
    totals: Totals,
    events: u64,
    deleted: usize,
    probe: Option<Probe>,
    /// The scan that was taken in last.
    taken_in: u64,
}

impl Pump {
    /// A pump into Kafka.
    pub fn to_kafka(parts: Parts, options: Options, settings: MakeSettings, partitions: Partitions) -> Self {
        let dead_letters = parts.line.encoder().settings().dead_letter_topic.clone();
        let delivery = Delivery::kafka(settings, partitions, dead_letters, Arc::clone(&parts.observe));
        Self::new(parts, options, delivery)
    }

    /// A pump into another sink.
    pub fn to_sink(parts: Parts, options: Options, sink: Sink) -> Self {
        let delivery = Delivery::other(sink, Arc::clone(&parts.observe));
        Self::new(parts, options, delivery)
    }

    fn new(parts: Parts, options: Options, delivery: Delivery) -> Self {
        let report = report::Reporter::new(parts.identity);
        Self {
            options: Options { acknowledges: options.acknowledges && parts.store.is_some(), ..options },
            keeper: parts.keeper,
            commitlog: parts.commitlog,
            line: parts.line,
            keys: parts.keys,
            checkpoint: parts.checkpoint,
            store: parts.store,
            gaps: parts.gaps,
            schema: parts.schema,
            observe: parts.observe,
            report,
            delivery,
            readings: BTreeMap::new(),
            plaintext: None,
            hold: None,
            undeletable: None,
            slice: Instant::now(),
            paused: false,
            read_of: None,
            reaped: HashMap::new(),
            gaps_sent: BTreeMap::new(),
            at_end: None,
            glance: GLANCE,
            dirty: false,
            saved: None,
            saved_place: None,
            generation: 0,
            totals: Totals::default(),
            events: 0,
            deleted: 0,
            probe: None,
            taken_in: 0,
        }
    }

    /// The outcomes of the entries of all segments that were deleted.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Records that were made, dead letters among them.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Segments that were deleted, or moved away.
    pub fn deleted(&self) -> usize {
        self.deleted
    }

    /// What the keeper saw last.
    pub fn scan(&self) -> Arc<Scan> {
        self.keeper.latest()
    }

    /// Reads what may be read, publishes it, and deletes what is finished. Says whether there was anything to do.
    ///
    /// # Errors
    /// The agent can't go on.
    pub fn turn(&mut self, scan: &Scan) -> Result<bool, PumpError> {
        self.observe.beat(Part::Pump);
        let before = self.events;
        self.take_in(scan)?;
        if self.saved_place.is_none() {
            // Only now every segment has its place in the order, also one whose record was not saved any more.
            self.rewind_schema();
            self.saved_place = self.place();
            // What was seen is told before the wait for a Kafka that may not be there.
            self.show(scan);
        }
        let tried = self.hold.as_ref().is_none_or(|hold| hold.left().is_zero());
        if tried {
            self.attempt(|pump| {
                pump.delivery.connect()?;
                pump.take_news();
                pump.delivery.look_at_partitions()?;
                pump.send_gaps()?;
                pump.read(scan)
            })?;
        }
        self.attempt(Self::settle)?;
        let reaped = self.save_and_reap(scan)?;
        self.show(scan);
        Ok(reaped || self.paused || self.events != before)
    }

    /// Waits until there may be more to do: for a scan that is newer than this one, a delivery, or more in the segment
    /// that is being written.
    ///
    /// # Errors
    /// The agent can't go on.
    pub fn wait(&mut self, scan: &Scan) -> Result<(), PumpError> {
        if let (Some(view), None) = (self.at_end.clone(), &self.hold) {
            return self.follow(&view, scan.number);
        }
        if self.paused && self.has_room() {
            return Ok(());
        }
        let outstanding = self.delivery.ledger.outstanding() > 0;
        let wanted = match &self.hold {
            _ if outstanding || self.paused => DELIVERING,
            Some(hold) => hold.left().clamp(DELIVERING, IDLE),
            None if self.dirty => DELIVERING,
            None => IDLE,
        };
        self.keeper.wait_newer(scan.number, wanted);
        Ok(())
    }

    /// Whether the sink takes more without making us wait.
    fn has_room(&mut self) -> bool {
        self.delivery.parts().is_some_and(|(sink, ledger, _)| !sink.is_crowded() && !ledger.is_full())
    }

    /// Follows the open end of the segment that is being written.
    fn follow(&mut self, view: &View, scan: u64) -> Result<(), PumpError> {
        let until = Instant::now() + FOLLOW;
        while Instant::now() < until && self.keeper.latest().number == scan && !interrupt::came() {
            let (events, mut closed) = (self.events, false);
            self.attempt(|pump| {
                closed = pump.read_open_end(view)?;
                pump.settle()
            })?;
            if closed || self.hold.is_some() {
                (self.glance, self.read_of) = (GLANCE, None);
                // A marker may point behind what is there yet.
                std::thread::sleep(GLANCE);
                return Ok(());
            }
            self.glance = if self.events != events { GLANCE } else { (self.glance * 9 / 8).min(LONGEST_GLANCE) };
            std::thread::sleep(self.glance);
        }
        Ok(())
    }

    /// Whether all that this look shows, and that may be read, is published and acknowledged, and nothing is about to end.
    pub fn is_done(&self, scan: &Scan) -> bool {
        let let_go = |view: &&View| !view.server_holds() && !self.reaped.contains_key(&view.name);
        let may_end = scan.segments.iter().filter(let_go).any(|view| {
            let reading = self.readings.get(&view.name.id);
            reading.is_some_and(|reading| reading.end.is_none() && reading.is_fresh())
        });
        let is_finished = |record: &SegmentRecord| record.state() == SegmentState::Finished;
        let may_go = self.options.acknowledges && scan.can_delete() && self.checkpoint.segments.iter().any(is_finished);
        scan.number > 0 && !self.paused && self.hold.is_none() && self.is_idle() && !may_end && !may_go
    }

    /// Which tables are wanted from now on.
    pub fn set_tables(&mut self, tables: Tables) {
        self.line.set_tables(tables);
    }

    /// With which credentials the node is asked from now on.
    pub fn set_contact(&mut self, contact: Option<Contact>) {
        self.schema.set_contact(contact);
    }

    /// Does not wait longer than this for a Kafka that reports nothing.
    pub fn set_patience(&mut self, patience: Duration) {
        self.delivery.set_patience(patience);
    }

    /// Kafka is to be talked to as the configuration says now.
    pub fn renew_producer(&mut self) {
        self.delivery.renew();
    }

    /// What the spool may cost from now on.
    pub fn set_spool_limits(&mut self, max_bytes: u64, min_free: Option<u64>) {
        self.keeper.set_spool_limits(spool::Limits { max_bytes, min_free });
        self.report.set_spool_limit(max_bytes);
    }

    /// Whether everything that was read is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.delivery.ledger.outstanding() == 0 && self.delivery.is_connected()
    }

    /// Segments that are set aside: neither read nor deleted.
    pub fn set_aside(&self) -> usize {
        let is_set_aside = |record: &&SegmentRecord| record.state() == SegmentState::Quarantined;
        self.checkpoint.segments.iter().filter(is_set_aside).count()
    }

    /// Up to where all is acknowledged, as far as that is known.
    pub fn acknowledged(&self) -> Option<Position> {
        self.delivery.ledger.watermark().map(|watermark| watermark.position())
    }

    /// Why reading stops, if it does.
    pub fn held(&self) -> Option<String> {
        self.any_hold().map(|hold| hold.detail.clone())
    }

    fn any_hold(&self) -> Option<&Hold> {
        self.hold.as_ref().or(self.undeletable.as_ref())
    }

    /// For what a person has to look before reading goes on.
    pub fn needs_a_person(&self) -> Option<HoldReason> {
        match self.any_hold()?.reason {
            Reason::Held(reason) => Some(reason),
            Reason::Kafka => None,
        }
    }

    /// Waits for what is under way, at most so long, and saves what is acknowledged.
    ///
    /// # Errors
    /// Progress can't be saved.
    pub fn stop(&mut self, patience: Duration) -> Result<(), PumpError> {
        let until = Instant::now() + patience;
        loop {
            self.observe.beat(Part::Pump);
            self.attempt(Self::settle)?;
            if self.delivery.ledger.outstanding() == 0 || Instant::now() >= until {
                break;
            }
            std::thread::sleep(DELIVERING);
        }
        let scan = self.keeper.latest();
        self.save_and_reap(&scan)?;
        self.save()?;
        // The second save: what it holds survives the loss of either generation.
        self.save()
    }

    /// What the node said of its schema without a reason.
    fn take_news(&mut self) {
        if let Some(pulled) = self.schema.news() {
            self.schema.take_note(&pulled.schema, self.line.tables());
            self.line.merge_schema(&pulled.schema, pulled.at_micros);
        }
    }

    /// What an entry passes through, and the readings beside it.
    fn intake(&mut self) -> Result<(Intake<'_>, &mut BTreeMap<SegmentId, Reading>), Trouble> {
        let Some((sink, ledger, isolation)) = self.delivery.parts() else {
            return Err(Hold::new(Reason::Kafka, "not connected".to_owned()).into());
        };
        let intake = Intake {
            line: &mut self.line,
            sink,
            ledger,
            isolation,
            checkpoint: &mut self.checkpoint,
            schema: &mut self.schema,
            gaps: self.gaps.as_ref(),
            observe: &self.observe,
            events: &mut self.events,
            probe: &mut self.probe,
        };
        Ok((intake, &mut self.readings))
    }
}
