//! The loop: plan, read, send, settle, save, reap, wait.
//!
//! Owns: the order of the steps, and what follows from trouble in any of them. Does not own: the steps themselves.
//!
//! ```text
//! keeper's scan ─ census: records of segments ─ lifecycle: how far each may be read
//!                                                   ▼
//!                             segment: walk, open end ─ intake: line, dead letters ─ delivery: Kafka
//!                                                                                        ▼
//!                  keeper deletes ◀─ finish: reap ◀─ saved twice ◀─ finish: acknowledged ─ ledger
//! ```

mod census;
mod delivery;
mod finish;
mod hold;
mod intake;
mod partitions;
mod reading;
mod report;
mod schema;
mod segment;

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, Plaintext, Position, SegmentId, SegmentName};
use cassandra_progress::{Checkpoint, Refused, SaveError, SegmentRecord, SegmentState, Totals};
use thiserror::Error;

use self::delivery::Delivery;
pub use self::delivery::MakeSettings;
use self::hold::{Hold, Proof, Reason};
use self::intake::{Intake, Probe};
pub use self::partitions::Partitions;
use self::reading::Reading;
pub use self::report::Limits;
pub use self::schema::{SchemaSource, pull};
use crate::catalog::cql::Contact;
use crate::cdc_raw::Index;
use crate::checkpoint::{CheckpointStore, StateError};
use crate::filter::Tables;
use crate::gaps::GapLog;
use crate::interrupt;
use crate::kafka::KafkaError;
use crate::keeper::{Keeper, Scan, View};
use crate::keys::KeySource;
use crate::lifecycle::{self, Extent, ReadTo};
use crate::line::Line;
use crate::mapped::Access;
use crate::observe::{HoldReason, Identity, Observe, Part};
use crate::sink::{Sink, SinkError};
use crate::spool;

/// The longest wait for a scan.
const IDLE: Duration = Duration::from_secs(1);

/// The longest wait while something is on its way to Kafka.
const DELIVERING: Duration = Duration::from_millis(10);

/// How long is read at a stretch before what is acknowledged is taken over, saved and deleted.
const SLICE: Duration = Duration::from_millis(250);

/// How long the open end of a segment is followed before everything else has its turn.
const FOLLOW: Duration = Duration::from_millis(50);

/// Pauses between two looks at an open end: the shortest behind an entry, longer and longer while nothing comes.
const GLANCE: Duration = Duration::from_micros(200);
const LONGEST_GLANCE: Duration = Duration::from_millis(4);

/// Why the agent can't go on at all. Nothing is lost: what was not acknowledged is read again by its next life.
#[derive(Debug, Error)]
pub enum PumpError {
    /// Kafka, with settings that can't work.
    #[error(transparent)]
    Kafka(KafkaError),
    /// The output of another sink.
    #[error("write events")]
    Write(#[source] io::Error),
    /// A file of `cdc_raw`.
    #[error("{0}")]
    Raw(String, #[source] io::Error),
    /// The checkpoint.
    #[error(transparent)]
    Save(SaveError<StateError>),
    /// Another file of the state directory.
    #[error("{0} {1}")]
    State(&'static str, String, #[source] io::Error),
    /// The record of a segment contradicts what was read.
    #[error(transparent)]
    Record(Refused),
}

/// What stops a turn.
enum Trouble {
    /// The way out of the agent.
    Sink(SinkError),
    /// A stop at a position.
    Hold(Hold),
    /// A segment begins with another entry than the one that is recorded under its name.
    Collision(SegmentName),
    /// A segment's header names another one than its file name.
    Misnamed(SegmentName, String),
    /// The end.
    Fatal(PumpError),
}

impl From<SinkError> for Trouble {
    fn from(error: SinkError) -> Self {
        Self::Sink(error)
    }
}

impl From<PumpError> for Trouble {
    fn from(error: PumpError) -> Self {
        Self::Fatal(error)
    }
}

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

    /// Takes a step. Trouble in it does not end the agent: it is met.
    fn attempt(&mut self, step: impl FnOnce(&mut Self) -> Result<(), Trouble>) -> Result<(), PumpError> {
        match step(self) {
            Ok(()) => Ok(()),
            Err(trouble) => self.meet(trouble),
        }
    }

    fn meet(&mut self, trouble: Trouble) -> Result<(), PumpError> {
        match trouble {
            Trouble::Fatal(error) => Err(error),
            Trouble::Sink(SinkError::Write(error)) => Err(PumpError::Write(error)),
            Trouble::Sink(SinkError::Kafka(error)) => match self.delivery.recover(error) {
                Ok(hold) => {
                    self.go_back()?;
                    hold.map_or(Ok(()), |hold| {
                        self.stop_at(hold);
                        Ok(())
                    })
                }
                Err(trouble) => {
                    self.go_back()?;
                    self.meet(trouble)
                }
            },
            Trouble::Hold(hold) => {
                self.stop_at(hold);
                Ok(())
            }
            Trouble::Collision(name) => {
                // Acknowledgements on their way are of the other segment: they must not count for this one.
                self.meet(Trouble::Sink(KafkaError::Interrupted.into()))?;
                self.replace(name)
            }
            Trouble::Misnamed(name, detail) => {
                tracing::error!(segment = %name, "set aside, neither read nor deleted: {detail}");
                let mut records = self.checkpoint.segments.iter_mut();
                if let Some(record) = records.find(|record| record.identity().segment == name.id) {
                    record.quarantine();
                    self.dirty = true;
                }
                Ok(())
            }
        }
    }

    /// Goes back to what is acknowledged: everything behind it is read again.
    fn go_back(&mut self) -> Result<(), PumpError> {
        if let Err(Trouble::Fatal(error)) = self.take_acknowledged() {
            return Err(error);
        }
        self.delivery.forget();
        self.read_of = None;
        self.gaps_sent.clear();
        self.probe = None;
        for record in &self.checkpoint.segments {
            if let Some(reading) = self.readings.get_mut(&record.identity().segment) {
                reading.restart(record);
            }
        }
        self.rewind_schema();
        Ok(())
    }

    /// The schema as it was where reading goes on.
    fn rewind_schema(&mut self) {
        let open = self.checkpoint.segments.iter().filter(|record| record.state() == SegmentState::Reading);
        let again: HashMap<_, _> = open.map(|record| (record.identity().segment, record.acknowledged())).collect();
        self.line.rewind_schema(|segment| again.get(&segment).copied());
    }

    /// The first place where reading goes on behind what is acknowledged.
    fn place(&self) -> Option<(SegmentId, LogOffset)> {
        let open = |record: &&SegmentRecord| record.state() == SegmentState::Reading;
        let record = self.checkpoint.segments.iter().find(open)?;
        Some((record.identity().segment, record.acknowledged()))
    }

    /// The segments in the order in which they are read.
    fn order(&self) -> Vec<SegmentId> {
        self.checkpoint.segments.iter().map(|record| record.identity().segment).collect()
    }

    fn stop_at(&mut self, mut hold: Hold) {
        if let Some(before) = &self.hold {
            hold.follow(before);
        }
        let is_new = self.hold.as_ref().is_none_or(|before| before.reason != hold.reason);
        if is_new {
            match hold.reason {
                Reason::Held(reason) => {
                    tracing::error!("held: {}; {}", hold.detail, reason.next_action());
                }
                Reason::Kafka => tracing::warn!("waiting for Kafka: {}", hold.detail),
            }
        }
        (self.hold, self.read_of) = (Some(hold), None);
    }

    /// What the node said of its schema without a reason.
    fn take_news(&mut self) {
        if let Some(pulled) = self.schema.news() {
            self.line.merge_schema(&pulled.schema, pulled.at_micros);
        }
    }

    /// Reads every segment as far as it may be read, in order, until it is the others' turn.
    fn read(&mut self, scan: &Scan) -> Result<(), Trouble> {
        if self.read_of == Some(scan.number) && !self.paused {
            return Ok(());
        }
        (self.slice, self.paused, self.at_end) = (Instant::now() + SLICE, false, None);
        let before = self.events;
        let views = self.in_order(scan);
        let read_to = self.options.read_to;
        let sightings: Vec<_> = views
            .iter()
            .filter_map(|view| Some(self.readings.get(&view.name.id)?.sighting(view.name, read_to)))
            .collect();
        let mut is_written = false;
        for (at, (view, extent)) in views.iter().zip(lifecycle::extents(&sightings)).enumerate() {
            if interrupt::came() {
                break;
            }
            check_version(scan, Some(view.name.id))?;
            self.check_index(view)?;
            self.read_segment(view, extent)?;
            if self.paused {
                // It may not have come to the place of the hold.
                let is_past = self.hold.as_ref().is_some_and(|hold| self.is_past(hold));
                if is_past && self.events != before {
                    self.go_on(Proof::Read { outstanding: self.delivery.ledger.outstanding() });
                }
                return Ok(());
            }
            if !extent.may_be_passed() {
                self.reach_end(view, views.get(at + 1), extent);
                is_written = view.server_holds();
                break;
            }
        }
        if !is_written {
            check_version(scan, None)?;
        }
        self.read_of = Some(scan.number);
        self.go_on(Proof::Read { outstanding: self.delivery.ledger.outstanding() });
        Ok(())
    }

    /// Whether reading has come past the place of a hold.
    fn is_past(&self, hold: &Hold) -> bool {
        let Some((name, position)) = hold.segment.zip(hold.position) else { return true };
        self.readings.get(&name.id).is_none_or(|reading| reading.read > position)
    }

    /// Takes the hold away if this shows that it is over.
    fn go_on(&mut self, proof: Proof) {
        if let Some(hold) = self.hold.take_if(|hold| hold.reason.ends_with(proof)) {
            tracing::info!("goes on: {}", hold.detail);
        }
    }

    /// Where reading stands in the segment that is being written.
    fn reach_end(&mut self, view: &View, next: Option<&View>, extent: Extent) {
        if extent == Extent::Visible {
            self.at_end = Some(view.clone());
            let has_section = next.is_some_and(|next| self.has_section(next) == Some(true));
            if let Some(reading) = next.and_then(|next| self.readings.get_mut(&next.name.id)) {
                reading.has_section |= has_section;
            }
        }
    }

    /// The segments of a scan that are not set aside, in the order of their records.
    fn in_order(&self, scan: &Scan) -> Vec<View> {
        let by_id: BTreeMap<SegmentId, &View> = scan.segments.iter().map(|view| (view.name.id, view)).collect();
        let records = self.checkpoint.segments.iter().filter(|record| record.state() != SegmentState::Quarantined);
        records
            .filter(|record| self.readings.contains_key(&record.identity().segment))
            .filter_map(|record| by_id.get(&record.identity().segment).map(|view| (*view).clone()))
            .collect()
    }

    fn check_index(&self, view: &View) -> Result<(), Trouble> {
        if !matches!(view.index, Index::Invalid { .. }) {
            return Ok(());
        }
        let read = self.readings.get(&view.name.id).map_or(LogOffset(0), |reading| reading.read);
        let detail = format!("the index of {} holds no number", view.name);
        Err(Hold::new(Reason::Held(HoldReason::InvalidIndex), detail).at(view.name, read).into())
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

/// Whether a segment that this release can't read comes before this one, or at all: what follows it waits for it.
fn check_version(scan: &Scan, before: Option<SegmentId>) -> Result<(), Trouble> {
    match scan.unknown.first().filter(|unknown| before.is_none_or(|before| unknown.id < before)) {
        Some(unknown) => {
            let detail = format!("{} has a commit-log version that this release does not read", unknown.name);
            Err(Hold::new(Reason::Held(HoldReason::UnknownVersion), detail).into())
        }
        None => Ok(()),
    }
}
