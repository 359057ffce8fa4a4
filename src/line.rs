//! The straight line from an entry to its records.
//!
//! Owns: what becomes of an entry: its updates decoded, filtered, encoded and handed to the sink, its one outcome.
//! Does not own: where entries come from (`walk`), where records go (`sink`), what is done (`progress`).

use std::fmt;
use std::sync::Arc;

use cassandra_commitlog::{
    Decoder, Entry, FormatVersion, MutationError, PartitionUpdate, Position, Schema, SegmentName, TableId, system_table,
};
use cassandra_event::{DeadLetter, Encoder, Record, Source, TooLarge};
use cassandra_progress::{Ledger, Outcome};

use crate::filter::{Range, Tables};
use crate::sink::{Sink, SinkError};

/// What is wanted of the changes that are read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of these tables.
    pub tables: Tables,
    /// Between these ends.
    pub range: Range,
    /// Of this partition: its record key.
    pub key: Option<serde_json::Map<String, serde_json::Value>>,
}

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

    /// Its parsed name.
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

/// Why an entry is dead-lettered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It, or the rest of it, could not be decoded.
    #[error(transparent)]
    Undecodable(#[from] MutationError),
    /// Its events would take more than may be.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

impl Rejected {
    /// The reason in one word, for dead letters and metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Undecodable(error) => error.reason(),
            Self::TooLarge(_) => "too-large",
        }
    }
}

/// What became of an entry, and why, where it could not be decoded.
#[derive(Debug)]
pub struct Done {
    /// Its one outcome.
    pub outcome: Outcome,
    /// What kept it, or the rest of it, from becoming events.
    pub rejected: Option<Rejected>,
    /// Records made of it.
    pub records: usize,
}

/// Decoder and encoder of one schema.
#[derive(Debug)]
pub struct Line {
    decoder: Decoder,
    encoder: Encoder,
    wanted: Wanted,
    records: Vec<Record>,
    /// The last table asked about: neighbouring entries tend to be of one.
    last_wanted: Option<(TableId, bool)>,
}

impl Line {
    /// A line for this schema.
    pub fn new(schema: Arc<Schema>, encoder: Encoder, wanted: Wanted) -> Self {
        Self { decoder: Decoder::new(schema), encoder, wanted, records: Vec::new(), last_wanted: None }
    }

    /// The encoder, for topics and gap records.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// Takes one entry to the sink, and the ledger past it.
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn entry(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<Done, SinkError> {
        let position = Position { segment: segment.name.id, offset: entry.end() };
        let arena = sink.arena();
        self.records.clear();
        let source = Source { segment: &segment.file_name, position };
        let (outcome, rejected) = self.updates(version, entry, &source, arena);
        if let Some(error) = &rejected {
            self.dead_letter(error, entry, version, &source, arena);
        }
        let records = self.records.len();
        sink.send(&self.encoder, &self.records, ledger)?;
        ledger.read_to(position, outcome);
        Ok(Done { outcome, rejected, records })
    }

    /// Which tables are wanted from now on.
    pub fn set_tables(&mut self, tables: Tables) {
        self.wanted.tables = tables;
        self.last_wanted = None;
    }

    /// TEMPORARY.
    pub fn entry_or_retry(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        _retry: bool,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<Option<Done>, SinkError> {
        self.entry(segment, version, entry, sink, ledger).map(Some)
    }
    /// TEMPORARY.
    pub fn reject(
        &mut self,
        segment: &Segment,
        version: FormatVersion,
        entry: &Entry<'_>,
        _detail: &str,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<Done, SinkError> {
        self.entry(segment, version, entry, sink, ledger)
    }
    /// TEMPORARY.
    pub fn rewind_schema(
        &mut self,
        _rank: impl Fn(cassandra_commitlog::SegmentId) -> Option<usize>,
        _segment: cassandra_commitlog::SegmentId,
        _offset: cassandra_commitlog::LogOffset,
    ) {
    }
    /// TEMPORARY.
    pub fn merge_schema(&mut self, _rows: &cassandra_commitlog::SystemSchema, _at: i64, _position: Option<Position>) {}
    /// TEMPORARY.
    pub fn save_schema(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    /// TEMPORARY.
    pub fn schema_status(&self) -> crate::observe::Schema {
        crate::observe::Schema::default()
    }

    /// Sends a gap record.
    ///
    /// # Errors
    /// The sink does not take it.
    pub fn gap(
        &mut self,
        gap: &cassandra_event::Gap<'_>,
        sink: &mut Sink,
        ledger: &mut Ledger,
    ) -> Result<(), SinkError> {
        self.records.clear();
        self.encoder.gap(gap, sink.arena(), &mut self.records);
        sink.send(&self.encoder, &self.records, ledger)
    }

    /// Decodes, filters and encodes the updates of an entry.
    fn updates(
        &mut self,
        version: FormatVersion,
        entry: &Entry<'_>,
        source: &Source<'_>,
        arena: &mut Vec<u8>,
    ) -> (Outcome, Option<Rejected>) {
        let (mut published, mut filtered) = (false, false);
        let mut mutation = match self.decoder.mutation(version, entry) {
            Ok(mutation) => mutation,
            Err(error) => return (Outcome::DeadLettered, Some(error.into())),
        };
        let inside = self.wanted.range.holds(source.position);
        loop {
            match mutation.next_update() {
                Ok(None) => break,
                Ok(Some(update)) if !update.table.cdc => {}
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
                    *(if encoded { &mut published } else { &mut filtered }) = true;
                }
                // A system table that the schema does not have is not CDC, and all of a mutation is of one keyspace.
                Err(MutationError::UnknownTable { id }) if system_table(id).is_some() => break,
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
        error: &Rejected,
        entry: &Entry<'_>,
        version: FormatVersion,
        source: &Source<'_>,
        arena: &mut Vec<u8>,
    ) {
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
    }
}

fn wants_table(tables: &Tables, last: &mut Option<(TableId, bool)>, update: &PartitionUpdate<'_>) -> bool {
    match *last {
        Some((id, wanted)) if id == update.table.id => wanted,
        _ => {
            let wanted = tables.want(update.table);
            *last = Some((update.table.id, wanted));
            wanted
        }
    }
}

/// Whether the records from `start` on have the wanted key; takes them back if not.
fn wants_key(
    wanted: Option<&serde_json::Map<String, serde_json::Value>>,
    start: (usize, usize),
    arena: &mut Vec<u8>,
    records: &mut Vec<Record>,
) -> bool {
    let (Some(wanted), Some(record)) = (wanted, records.get(start.1)) else { return true };
    if serde_json::from_slice::<serde_json::Map<_, _>>(record.key_bytes(arena)).is_ok_and(|key| key == *wanted) {
        return true;
    }
    arena.truncate(start.0);
    records.truncate(start.1);
    false
}
