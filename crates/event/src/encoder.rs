//! From an update to records.
//!
//! Owns: what every event of an update shares (plan, digest, key, ids), and the choice of format and unit.
//! Does not own: the bytes of either format (`json`, `protobuf`), how too large a record is cut (`split`).

use std::ops::Range;

use cassandra_commitlog::{PartitionUpdate, Position};

use crate::digest::digest;
use crate::json_text::{push_escaped, push_str};
use crate::key::push_key;
use crate::murmur2::murmur2;
use crate::plan::{Plans, TablePlan};
use crate::settings::{Format, Int64, KeyFormat, Settings, Unit};
use crate::{json, protobuf, split, wire};

/// What the events of one update would take is more than [`Encoder::MAX_UPDATE_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("its events would take more than {} bytes", Encoder::MAX_UPDATE_BYTES)]
pub struct TooLarge;

/// Where an update was read.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The segment's file name.
    pub segment: &'a str,
    /// The end of the entry.
    pub position: Position,
}

/// A record for Kafka. Key and value are ranges of the arena that it was encoded into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// What [`Encoder::topic`] wants.
    pub table: u32,
    /// [`murmur2`] of the key: what [`crate::partition`] wants.
    pub hash: u32,
    /// The key. Records of one update share it.
    pub key: Range<u32>,
    /// The value.
    pub value: Range<u32>,
}

impl Record {
    /// The [`Self::table`] of dead letters and gap records.
    pub const NO_TABLE: u32 = u32::MAX;

    pub(crate) fn new(table: u32, key: &Range<usize>, value: Range<usize>, arena: &[u8]) -> Self {
        Self { table, hash: murmur2(part(arena, key)), key: narrow(key), value: narrow(&value) }
    }

    /// The bytes of the key.
    pub fn key_bytes<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        part(arena, &(self.key.start as usize..self.key.end as usize))
    }

    /// The bytes of the value.
    pub fn value_bytes<'a>(&self, arena: &'a [u8]) -> &'a [u8] {
        part(arena, &(self.value.start as usize..self.value.end as usize))
    }
}

#[allow(clippy::single_range_in_vec_init, reason = "a helper over ranges")]
fn part<'a>(arena: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    arena.get(range.start..range.end).unwrap_or_default()
}

/// An arena is emptied long before 4 GiB: [`Encoder::encode`] says so.
fn narrow(range: &Range<usize>) -> Range<u32> {
    debug_assert!(u32::try_from(range.end).is_ok(), "the arena has outgrown its records");
    range.start as u32..range.end as u32
}

/// Bytes that depend on the settings alone.
#[derive(Debug)]
pub(crate) struct Constants {
    /// `c1/6f1c…/`
    pub(crate) id: Vec<u8>,
    /// The same between the quotes of a JSON string.
    pub(crate) id_json: Vec<u8>,
    /// `{"cluster":"c1","host_id":"6f1c…","segment":`
    pub(crate) source_json: Vec<u8>,
    /// The same as fields.
    pub(crate) source_proto: Vec<u8>,
}

impl Constants {
    fn new(settings: &Settings) -> Self {
        let id = format!("{}/{}/", settings.cluster, settings.host_id);
        let mut id_json = Vec::new();
        push_escaped(&mut id_json, &id);
        let mut source_json = b"{\"cluster\":".to_vec();
        push_str(&mut source_json, &settings.cluster);
        source_json.extend_from_slice(b",\"host_id\":");
        push_str(&mut source_json, &settings.host_id);
        source_json.extend_from_slice(b",\"segment\":");
        let mut source_proto = Vec::new();
        wire::push_text(&mut source_proto, 1, &settings.cluster);
        wire::push_text(&mut source_proto, 2, &settings.host_id);
        Self { id: id.into_bytes(), id_json, source_json, source_proto }
    }
}

/// Turns updates into records. Holds what is reused from one update to the next, and nothing about what was published.
#[derive(Debug)]
pub struct Encoder {
    pub(crate) settings: Settings,
    pub(crate) constants: Constants,
    plans: Plans,
    /// What the dead-letter topic takes, bytes of key and value together.
    dead_letter_limit: usize,
    scratch: Vec<u8>,
}

impl Encoder {
    /// Bytes that the keys and values of one update may take together. Every row and part repeats the key and the
    /// clustering, so a crafted mutation of a megabyte could ask for gigabytes; a mutation of Cassandra's default limit,
    /// 16 MiB, stays far below.
    pub const MAX_UPDATE_BYTES: usize = 256 << 20;

    /// An encoder that has seen no table yet.
    pub fn new(settings: Settings) -> Self {
        let constants = Constants::new(&settings);
        Self { settings, constants, plans: Plans::default(), dead_letter_limit: usize::MAX, scratch: Vec::new() }
    }

    /// The settings that it was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The topic that [`Record::table`] stands for; of [`Record::NO_TABLE`] the dead-letter topic. An index keeps its
    /// topic for the encoder's life.
    pub fn topic(&self, table: u32) -> &str {
        self.plans.topic(table).unwrap_or(&self.settings.dead_letter_topic)
    }

    /// Keyspace and table that [`Record::table`] stands for; nothing for [`Record::NO_TABLE`].
    pub fn table(&self, table: u32) -> Option<(&str, &str)> {
        self.plans.table(table)
    }

    /// How much the topic of [`Record::table`] takes, bytes of key and value together: from now on its records are split
    /// there, if that is less than [`Settings::max_record_bytes`]. Says whether they were split elsewhere before.
    pub fn set_record_limit(&mut self, table: u32, bytes: usize) -> bool {
        let ours = self.settings.max_record_bytes;
        let limit = match self.plans.plan_mut(table) {
            Some(plan) => &mut plan.record_limit,
            None => &mut self.dead_letter_limit,
        };
        let before = std::mem::replace(limit, bytes);
        before.min(ours) != bytes.min(ours)
    }

    /// The largest dead letter, or chunk of one.
    pub(crate) fn dead_letter_limit(&self) -> usize {
        self.settings.max_record_bytes.min(self.dead_letter_limit)
    }

    /// Appends an update's keys and values to `arena`, and its records, never none, to `records`: in the order in which
    /// they are to be sent.
    ///
    /// The caller empties both, with all records sent, before the arena nears 4 GiB.
    ///
    /// # Errors
    /// [`TooLarge`]: nothing was appended. The entry is one for the dead letters, whose chunks repeat nothing.
    pub fn encode(
        &mut self,
        update: &PartitionUpdate<'_>,
        source: &Source<'_>,
        arena: &mut Vec<u8>,
        records: &mut Vec<Record>,
    ) -> Result<(), TooLarge> {
        let digest = digest(update, &mut self.scratch);
        let Some((table, plan)) = self.plans.of(update, &self.settings.topic) else {
            return Ok(()); // `Plans::of` has just made it.
        };
        let first = records.len();
        let (settings, constants) = (&self.settings, &self.constants);
        let start = arena.len();
        match settings.key {
            KeyFormat::Json => push_key(arena, plan, update, Int64::Number),
            KeyFormat::Raw => arena.extend_from_slice(update.key),
        }
        let key = start..arena.len();
        let hash = murmur2(part(arena, &key));
        let frame =
            Frame { settings, constants, plan, source, digest, table, hash, key, row: None, part: None, chunk: None };
        match settings.unit {
            Unit::Mutation => frame.record(update, arena, records),
            Unit::Row => frame.rows(update, arena, records),
        }
        if arena.len() - start > Self::MAX_UPDATE_BYTES {
            arena.truncate(start);
            records.truncate(first);
            return Err(TooLarge);
        }
        Ok(())
    }
}

/// A piece of a value or path that is larger than a record may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chunk<'a> {
    pub(crate) target: ChunkOf,
    pub(crate) number: u32,
    pub(crate) of: u32,
    pub(crate) bytes: &'a [u8],
}

impl Chunk<'_> {
    pub(crate) const EMPTY: Self = Self { target: ChunkOf::Value, number: 1, of: 1, bytes: &[] };
}

/// What a chunk is a piece of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChunkOf {
    /// A cell's path. Its value comes in later parts.
    Path,
    /// A cell's value; the part gives the path, if there is one.
    Value,
    /// A cell's value, whose path came in chunks before it.
    ValueAlone,
}

/// What an event says besides the update.
#[derive(Debug, Clone)]
pub(crate) struct Frame<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) constants: &'a Constants,
    pub(crate) plan: &'a TablePlan,
    pub(crate) source: &'a Source<'a>,
    pub(crate) digest: u128,
    pub(crate) table: u32,
    pub(crate) hash: u32,
    /// The record's key in the arena.
    pub(crate) key: Range<usize>,
    /// With one record per row: which one.
    pub(crate) row: Option<u32>,
    /// Number and total of the parts of a record that was too large.
    pub(crate) part: Option<(u32, u32)>,
    /// In a part whose only cell comes in chunks.
    pub(crate) chunk: Option<Chunk<'a>>,
}

impl Frame<'_> {
    /// One record, or as many as its size asks for.
    #[inline]
    pub(crate) fn record(&self, update: &PartitionUpdate<'_>, arena: &mut Vec<u8>, records: &mut Vec<Record>) {
        let start = arena.len();
        self.value(update, arena);
        if arena.len() - start + self.key.len() <= self.limit() {
            self.push(start, arena, records);
        } else {
            arena.truncate(start);
            split::split(self, update, arena, records);
        }
    }

    /// The largest record, key and value together.
    #[inline]
    pub(crate) fn limit(&self) -> usize {
        self.settings.max_record_bytes.min(self.plan.record_limit)
    }

    /// Appends the event.
    #[inline]
    pub(crate) fn value(&self, update: &PartitionUpdate<'_>, arena: &mut Vec<u8>) {
        match self.settings.format {
            Format::Json => json::push_event(arena, self, update),
            Format::Protobuf => protobuf::push_event(arena, self, update),
        }
    }

    /// The record whose value is the end of the arena.
    pub(crate) fn push(&self, start: usize, arena: &[u8], records: &mut Vec<Record>) {
        let (key, value) = (narrow(&self.key), narrow(&(start..arena.len())));
        records.push(Record { table: self.table, hash: self.hash, key, value });
    }

    /// One record for each thing that the update says, in the order of its members.
    fn rows(&self, update: &PartitionUpdate<'_>, arena: &mut Vec<u8>, records: &mut Vec<Record>) {
        let count = split::units(update);
        // An update that says nothing is an event all the same.
        for unit in 0..count.max(1) {
            let frame = Frame { row: Some(u32::try_from(unit).unwrap_or(u32::MAX)), ..self.clone() };
            frame.record(&split::narrow(update, unit..unit + 1), arena, records);
            if self.is_over(arena) {
                return;
            }
        }
    }

    /// Whether the update has taken more than it may: then nothing more of it needs to be written.
    pub(crate) fn is_over(&self, arena: &[u8]) -> bool {
        arena.len() - self.key.start > Encoder::MAX_UPDATE_BYTES
    }

    /// Whether the value's key has the bytes of the record's.
    #[inline]
    pub(crate) fn key_is_json(&self) -> bool {
        self.settings.key == KeyFormat::Json && self.settings.int64 == Int64::Number
    }
}
