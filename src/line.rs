//! The straight line from an entry to its records.
//!
//! Owns: what becomes of an entry: its updates decoded, filtered, encoded and handed to the sink, its one outcome; that
//! each is decoded with the schema of its place. Does not own: where entries come from (`walk`), where records go
//! (`sink`), what is done (`progress`), the schema's changes (`catalog::timeline`).

mod done;
mod wanted;

use std::fmt;
use std::io;
use std::sync::Arc;

use cassandra_commitlog::{
    Decoder, Entry, FormatVersion, LogOffset, MutationError, Position, RowChange, Schema, SegmentId, SegmentName,
    SystemSchema, TableId, system_table,
};
use cassandra_event::{DeadLetter, Encoder, Gap, Record, Source};
use cassandra_progress::{Ledger, Outcome};

pub use self::done::{Done, Rejected};
pub use self::wanted::Wanted;
use self::wanted::{wants_key, wants_table};
use crate::catalog::timeline::Timeline;
use crate::filter::{Tables, newest_timestamp};
use crate::observe;
use crate::quarantine::Quarantine;
use crate::sink::{Sink, SinkError};

/// Keyspaces of a node's own that are no part of the schema.
const LOCAL_KEYSPACES: [&str; 2] = ["system", "system_cluster_metadata"];

/// Where a schema comes from.
pub const FROM_FILE: &str = "the schema file";
/// The node answered over CQL.
pub const FROM_NODE: &str = "the node";
/// DDL in the commit log.
pub const FROM_LOG: &str = "the log";
/// What an earlier life kept in the state directory.
pub const FROM_STATE: &str = "the state directory";

/// The segment that entries come from.
#[derive(Debug, Clone)]
pub struct Segment {
    name: SegmentName,
    file_name: String,
}

impl Segment {
    /// The segment of this name.
    pub fn new(name: SegmentName) -> Self {
        Self { name, file_name: name.to_string() }
    }

    /// Its name, parsed.
    pub fn name(&self) -> SegmentName {
        self.name
    }

    /// Its file name.
    pub fn file_name(&self) -> &str {
        &self.file_name
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file_name)
    }
}

/// Decoder and encoder, and the schema that they work with.
#[derive(Debug)]
pub struct Line {
    decoder: Decoder,
    /// What the schema follows; without it the decoder's is for good.
    timeline: Option<Timeline>,
    encoder: Encoder,
    wanted: Wanted,
    quarantine: Option<Quarantine>,
    records: Vec<Record>,
    /// The last table asked about: neighbouring entries tend to be of one.
    last_wanted: Option<(TableId, bool)>,
    /// Where the schema came from, in order.
    sources: Vec<&'static str>,
    written: Written,
    /// What the entry named that was handed back last.
    unknown: Option<MutationError>,
}

/// The write time of an entry, if somebody wants to know: it takes a look at every cell.
#[derive(Debug, Default)]
enum Written {
    #[default]
    NotAsked,
    Asked,
    At(i64),
}

impl Line {
    /// A line for this schema, whatever the log says.
    pub fn new(schema: Arc<Schema>, encoder: Encoder, wanted: Wanted) -> Self {
        Self {
            decoder: Decoder::new(schema),
            timeline: None,
            encoder,
            wanted,
            quarantine: None,
            records: Vec::new(),
            last_wanted: None,
            sources: vec![FROM_FILE],
            written: Written::NotAsked,
            unknown: None,
        }
    }

    /// A line whose schema follows the DDL in the log.
    pub fn following(timeline: Timeline, encoder: Encoder, wanted: Wanted) -> Self {
        let schema = Arc::clone(timeline.schema());
        Self { timeline: Some(timeline), sources: Vec::new(), ..Self::new(schema, encoder, wanted) }
    }

    /// Says where the schema that this line begins with came from.
    #[must_use]
    pub fn with_schema_from(mut self, sources: impl IntoIterator<Item = &'static str>) -> Self {
        self.sources.extend(sources);
        self
    }

    fn add_source(&mut self, source: &'static str) {
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
    }

    /// Wants to know when the next entry that is published was written.
    pub fn ask_written(&mut self) {
        self.written = Written::Asked;
    }

    /// When the entry was written that was published first since this was asked: its newest timestamp, microseconds.
    pub fn take_written(&mut self) -> Option<i64> {
        match std::mem::take(&mut self.written) {
            Written::At(micros) => Some(micros),
            Written::NotAsked | Written::Asked => None,
        }
    }

    /// What the entry named that was handed back last.
    pub fn take_unknown(&mut self) -> Option<MutationError> {
        self.unknown.take()
    }

    /// Whether the schema came from anywhere yet.
    pub fn has_schema(&self) -> bool {
        !self.sources.is_empty()
    }

    /// The encoder, for topics and gap records.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// What the schema follows, where it follows the log.
    pub fn timeline(&self) -> Option<&Timeline> {
        self.timeline.as_ref()
    }

    /// The schema that the next entry is decoded with.
    pub fn schema(&self) -> &Arc<Schema> {
        self.timeline.as_ref().map_or(self.decoder.schema(), Timeline::schema)
    }

    /// The first of the wanted patterns that no table matches.
    pub fn unmatched(&self) -> Option<String> {
        self.wanted.tables.unmatched(self.schema().tables().iter())
    }

    /// The schema in numbers.
    pub fn schema_status(&self) -> observe::Schema {
        let source = if self.sources.is_empty() { "nowhere yet".to_owned() } else { self.sources.join(", ") };
        let tables = self.schema().tables();
        let cdc_tables = tables.iter().filter(|table| table.cdc).count();
        observe::Schema { source, tables: tables.len() as u64, cdc_tables: cdc_tables as u64 }
    }

    /// Takes in rows that were pulled from the node at this time, microseconds since 1970. See [`Timeline::merge`].
    pub fn merge_schema(&mut self, pulled: &SystemSchema, at_micros: i64) -> bool {
        let Some(timeline) = &mut self.timeline else { return false };
        let changed = timeline.merge(pulled, at_micros);
        self.add_source(FROM_NODE);
        changed
    }

    /// Goes back to the schema of the places where reading goes on. See [`Timeline::rewind`].
    pub fn rewind_schema(&mut self, again: impl Fn(SegmentId) -> Option<LogOffset>) {
        if let Some(timeline) = &mut self.timeline {
            timeline.rewind(again);
        }
    }

    /// Forgets what the schema was before this place. See [`Timeline::forget_before`].
    pub fn forget_schema_before(
        &mut self,
        rank: impl Fn(SegmentId) -> Option<usize>,
        segment: SegmentId,
        acknowledged: LogOffset,
    ) {
        if let Some(timeline) = &mut self.timeline {
            timeline.forget_before(rank, (segment, acknowledged));
        }
    }

    /// Keeps what the schema followed: before any progress that rests on it. See [`Timeline::save`].
    ///
    /// # Errors
    /// It is not durable.
    pub fn save_schema(&mut self) -> io::Result<()> {
        self.timeline.as_mut().map_or(Ok(()), Timeline::save)
    }

    /// Which tables are wanted.
    pub fn tables(&self) -> &Tables {
        &self.wanted.tables
    }

    /// Which tables are wanted from now on.
    pub fn set_tables(&mut self, tables: Tables) {
        self.wanted.tables = tables;
        self.last_wanted = None;
    }

    /// Keeps a copy of each dead letter's entry here too.
    #[must_use]
    pub fn keeping(self, quarantine: Option<Quarantine>) -> Self {
        Self { quarantine, ..self }
    }

    /// Where copies of what can't be read are kept.
    pub fn quarantine(&mut self) -> Option<&mut Quarantine> {
        self.quarantine.as_mut()
    }

    /// Takes one entry to the sink, and the ledger past it.
    ///
    /// An entry of a table or column that the schema lacks is dead-lettered, unless the caller knows how to get a newer
    /// schema (`may_retry`): then it is handed back as `None`, with nothing sent and nothing counted, and
    /// [`Self::take_unknown`] says what it named.
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn entry(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        may_retry: bool,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<Option<Done>, SinkError> {
        let position = Position { segment: segment.name.id, offset: entry.end() };
        self.take_schema();
        let source = Source { segment: &segment.file_name, position };
        let mut schema_changed = false;
        let (outcome, rejected) = loop {
            // Asked for once: what is encoded is valid until it is asked for again.
            let arena = sink.arena();
            let start = arena.len();
            let mut changes = Vec::new();
            let (outcome, rejected) = self.updates(version, entry, &source, arena, &mut changes);
            schema_changed |= self.follow(position, changes);
            if may_retry && let Some(unknown) = rejected.as_ref().and_then(Rejected::unknown) {
                arena.truncate(start);
                self.unknown = Some(unknown.clone());
                return Ok(None);
            }
            self.dead_letter(rejected.as_ref(), entry, version, &source, arena);
            if !sink.look_up(&mut self.encoder, &self.records)? {
                break (outcome, rejected);
            }
            // Their topics take less than was thought.
            sink.arena().truncate(start);
        };
        self.send(position, outcome, sink, ledger)?;
        Ok(Some(Done { outcome, rejected, records: self.records.len(), schema_changed }))
    }

    /// Takes what an entry says of the schema, and nothing else of it: for entries before the place where reading begins.
    /// Says whether the schema changed.
    pub fn entry_passed(&mut self, segment: &Segment, version: FormatVersion, entry: &Entry<'_>) -> bool {
        let position = Position { segment: segment.name.id, offset: entry.end() };
        self.take_schema();
        let mut changes = Vec::new();
        // What can't be decoded is told where it is to be published.
        if let (Some(timeline), Ok(mut mutation)) = (&self.timeline, self.decoder.mutation(version, entry)) {
            while let Ok(Some(update)) = mutation.next_update() {
                changes.extend(timeline.changes_in(&update));
            }
        }
        self.follow(position, changes)
    }

    /// Dead-letters an entry whose events Kafka does not take.
    ///
    /// # Errors
    /// The sink does not take the dead letter.
    pub fn reject(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        detail: &str,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<Done, SinkError> {
        // Its DDL counts all the same.
        let schema_changed = self.entry_passed(segment, version, entry);
        let position = Position { segment: segment.name.id, offset: entry.end() };
        let source = Source { segment: &segment.file_name, position };
        let rejected = Rejected::Refused(detail.to_owned());
        let start = sink.arena().len();
        loop {
            self.records.clear();
            self.dead_letter(Some(&rejected), entry, version, &source, sink.arena());
            if !sink.look_up(&mut self.encoder, &self.records)? {
                break;
            }
            sink.arena().truncate(start);
        }
        let outcome = Outcome::DeadLettered;
        self.send(position, outcome, sink, ledger)?;
        Ok(Done { outcome, rejected: Some(rejected), records: self.records.len(), schema_changed })
    }

    /// Sends a gap record.
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn gap(&mut self, gap: &Gap<'_>, sink: &mut Sink, ledger: &mut Ledger) -> Result<(), SinkError> {
        self.records.clear();
        self.encoder.gap(gap, sink.arena(), &mut self.records);
        // A gap record has nothing that could be split.
        sink.look_up(&mut self.encoder, &self.records)?;
        sink.send(&self.encoder, &self.records, ledger)
    }

    fn send(
        &mut self,
        position: Position,
        outcome: Outcome,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<(), SinkError> {
        sink.send(&self.encoder, &self.records, ledger)?;
        ledger.read_to(position, outcome);
        Ok(())
    }

    /// The decoder works with the schema of the place. The encoder looks at every update's table by itself.
    fn take_schema(&mut self) {
        if let Some(timeline) = &self.timeline
            && !Arc::ptr_eq(timeline.schema(), self.decoder.schema())
        {
            self.decoder = Decoder::new(Arc::clone(timeline.schema()));
            self.last_wanted = None;
        }
    }

    fn follow(&mut self, position: Position, changes: Vec<RowChange>) -> bool {
        let changed =
            !changes.is_empty() && self.timeline.as_mut().is_some_and(|timeline| timeline.apply(position, changes));
        if changed {
            self.add_source(FROM_LOG);
        }
        changed
    }

    /// Decodes, filters and encodes the updates of an entry.
    fn updates(
        &mut self,
        version: FormatVersion,
        entry: &Entry<'_>,
        source: &Source<'_>,
        arena: &mut Vec<u8>,
        changes: &mut Vec<RowChange>,
    ) -> (Outcome, Option<Rejected>) {
        self.records.clear();
        let (mut published, mut filtered) = (false, false);
        let mut mutation = match self.decoder.mutation(version, entry) {
            Ok(mutation) => mutation,
            Err(error) => return (Outcome::DeadLettered, Some(error.into())),
        };
        let inside = self.wanted.range.holds(source.position);
        loop {
            match mutation.next_update() {
                Ok(None) => break,
                Ok(Some(update)) if !update.table.cdc => {
                    if let Some(timeline) = &self.timeline {
                        changes.extend(timeline.changes_in(&update));
                    }
                }
                Ok(Some(update)) => {
                    let wanted = inside
                        && wants_table(&self.wanted.tables, &mut self.last_wanted, &update)
                        && self.wanted.range.holds_update(&update);
                    let encoded = wanted && {
                        let start = (arena.len(), self.records.len());
                        if let Err(error) = self.encoder.encode(&update, source, arena, &mut self.records) {
                            return (Outcome::DeadLettered, Some(error.into()));
                        }
                        wants_key(self.wanted.key.as_ref(), start, arena, &mut self.records)
                    };
                    if encoded && matches!(self.written, Written::Asked) {
                        self.written = Written::At(newest_timestamp(&update));
                    }
                    *(if encoded { &mut published } else { &mut filtered }) = true;
                }
                // A system table that the schema does not have is not CDC, and all of a mutation is of one keyspace.
                Err(MutationError::UnknownTable { id }) if system_table(id).is_some() => break,
                // Nobody can give a table of these CDC, and no DDL is in them.
                Err(MutationError::UnknownColumn { keyspace, .. }) if LOCAL_KEYSPACES.contains(&keyspace.as_str()) => {
                    break;
                }
                Err(error) if inside => return (Outcome::DeadLettered, Some(error.into())),
                Err(_) => {
                    filtered = true;
                    break;
                }
            }
        }
        let outcome = match (published, filtered) {
            (true, _) => Outcome::Published,
            (false, true) => Outcome::Filtered,
            (false, false) => Outcome::NotCdc,
        };
        (outcome, None)
    }

    fn dead_letter(
        &mut self,
        error: Option<&Rejected>,
        entry: &Entry<'_>,
        version: FormatVersion,
        source: &Source<'_>,
        arena: &mut Vec<u8>,
    ) {
        let Some(error) = error else { return };
        let (keyspace, table) = match error {
            Rejected::Undecodable(MutationError::UnknownColumn { keyspace, table, .. }) => {
                (Some(keyspace.as_str()), Some(table.as_str()))
            }
            _ => (None, None),
        };
        let letter = DeadLetter {
            segment: source.segment,
            position: source.position,
            reason: error.reason(),
            detail: &error.to_string(),
            keyspace,
            table,
            // A section is shorter than 2 GiB, so an entry is.
            size: u32::try_from(entry.body.len()).unwrap_or(u32::MAX),
            crc: entry.crc,
            version: version.number(),
            bytes: entry.body,
        };
        self.encoder.dead_letter(&letter, arena, &mut self.records);
        if let Some(Err(error)) = self.quarantine.as_mut().map(|quarantine| quarantine.keep_entry(&letter)) {
            tracing::warn!(segment = letter.segment, %error, "no copy is in the quarantine; the dead letter has it");
        }
    }
}
