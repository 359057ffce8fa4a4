//! Mutation: in version 9 a flags byte, then the number of partition updates and the updates. Partition update: table
//! id, in version 9 an epoch, partition key, flags, and unless empty encoding stats, column lists, partition deletion,
//! static row, row estimate, unfiltereds.
//!
//! There is no length per update: what can't be read takes the rest of its mutation along. Owns: the walk over the
//! updates of a mutation and the decoder's buffers. Does not own: rows (`unfiltered`), framing (`entry`).

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::column_list::{ListCache, UpdateError};
use crate::encoding_stats::EncodingStats;
use crate::entry::Entry;
use crate::error::{Cause, DecodeError, Place, Structure};
use crate::parse::{Flaw, Parsed, broken, byte, flaw_parts, length, out_of_range, within};
use crate::schema::{ColumnKind, Schema, TableId, TableSchema};
use crate::unfiltered::{Buffers, Grammar, static_row, unfiltereds};
use crate::units::{FormatVersion, LogOffset};
use crate::update::{DeletionTime, PartitionUpdate, Span};
use crate::vint;

/// Version 9: the mutation may conflict with transactions. It says nothing about data.
const POTENTIAL_TXN_CONFLICTS: u8 = 0x01;

const IS_EMPTY: u8 = 0x01;
const HAS_PARTITION_DELETION: u8 = 0x04;
const HAS_STATIC_ROW: u8 = 0x08;
const HAS_ROW_ESTIMATE: u8 = 0x10;

/// The shortest update: table id, key length, flags.
const MIN_UPDATE: u32 = 18;

/// Why the rest of a mutation can't be read although its checksums hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MutationError {
    /// The schema has no table of this id.
    UnknownTable {
        /// The id.
        id: TableId,
    },
    /// The table has no such column, live or dropped.
    UnknownColumn {
        /// Its keyspace.
        keyspace: String,
        /// The table.
        table: String,
        /// The column's name; bytes that are not text are replaced.
        column: String,
    },
    /// The bytes break a rule of the grammar.
    Malformed(DecodeError),
}

impl MutationError {
    /// All reasons.
    pub const REASONS: [&'static str; 3] = ["unknown-table", "unknown-column", "malformed"];

    /// The reason in one word, for dead letters and metrics.
    pub fn reason(&self) -> &'static str {
        let [unknown_table, unknown_column, malformed] = Self::REASONS;
        match self {
            Self::UnknownTable { .. } => unknown_table,
            Self::UnknownColumn { .. } => unknown_column,
            Self::Malformed(_) => malformed,
        }
    }
}

impl fmt::Display for MutationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownTable { id } => write!(f, "table id {id} is not in the schema"),
            Self::UnknownColumn { keyspace, table, column } => {
                write!(f, "table {keyspace}.{table} has no column {column:?}")
            }
            Self::Malformed(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for MutationError {}

/// Reads mutations. Keeps what one mutation leaves behind for the next: buffers, and column lists by their bytes.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<Schema>,
    /// For each table of the schema its lists of static and of regular columns.
    lists: Vec<TableLists>,
    buffers: Buffers,
    seen: Vec<TableId>,
    /// Place of the table of the last update.
    last: usize,
}

#[derive(Debug, Default)]
struct TableLists {
    statics: ListCache,
    regulars: ListCache,
}

impl Decoder {
    /// A decoder for this schema. Another schema takes another decoder.
    pub fn new(schema: Arc<Schema>) -> Self {
        let lists = schema.tables().iter().map(|_| TableLists::default()).collect();
        Self { schema, lists, buffers: Buffers::default(), seen: Vec::new(), last: 0 }
    }

    /// The schema that mutations are read with.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// Where in the schema's tables this one stands: mostly where that of the update before did.
    #[inline]
    fn place_of(&mut self, id: TableId) -> Option<usize> {
        if self.schema.tables().get(self.last).is_none_or(|table| table.id != id) {
            self.last = self.schema.index_of(id)?;
        }
        Some(self.last)
    }

    /// Begins to read the mutation in an entry.
    ///
    /// # Errors
    /// Flags or a number of updates that no mutation can have.
    #[inline]
    pub fn mutation<'d>(
        &'d mut self,
        version: FormatVersion,
        entry: &Entry<'d>,
    ) -> Result<Mutation<'d>, MutationError> {
        let body = entry.body;
        let at = entry.body_at;
        let (rest, count) = header(body, version).map_err(|error| malformed(error, body, at, Structure::Mutation))?;
        self.seen.clear();
        Ok(Mutation { decoder: self, version, body, at, rest, count, index: 0 })
    }
}

fn header(body: &[u8], version: FormatVersion) -> Parsed<'_, u32> {
    let (rest, flags) = if version.has_epochs() { byte(body)? } else { (body, 0) };
    if flags & !POTENTIAL_TXN_CONFLICTS != 0 {
        return Err(out_of_range(body, "mutation flags", u64::from(flags)));
    }
    let (behind, count) = vint::count(rest, MIN_UPDATE, "number of updates")?;
    if count == 0 {
        return Err(broken(rest, "a mutation without updates"));
    }
    Ok((behind, count))
}

#[cold]
fn malformed(error: nom::Err<Flaw>, body: &[u8], at: LogOffset, outermost: Structure) -> MutationError {
    let flaw = flaw_parts(error);
    let offset = length(body.len().saturating_sub(flaw.left));
    MutationError::Malformed(DecodeError {
        at: Place::Log(LogOffset(at.0.saturating_add(offset))),
        structure: flaw.structure.unwrap_or(outermost),
        cause: flaw.cause,
    })
}

/// A mutation being read, update by update.
#[derive(Debug)]
pub struct Mutation<'d> {
    decoder: &'d mut Decoder,
    version: FormatVersion,
    body: &'d [u8],
    at: LogOffset,
    rest: &'d [u8],
    count: u32,
    index: u32,
}

/// What stands before the encoding stats of an update.
struct UpdateHeader<'a> {
    /// Behind the table id.
    epoch: &'a [u8],
    /// Behind the epoch.
    behind_epoch: &'a [u8],
    key: &'a [u8],
    flags: u8,
}

/// By one load: nom's number would come together byte by byte.
#[inline(always)]
fn table_id(input: &[u8]) -> Parsed<'_, TableId> {
    match input.split_first_chunk::<16>() {
        Some((id, rest)) => Ok((rest, TableId(u128::from_be_bytes(*id)))),
        None => Err(Flaw::new(input, Cause::Truncated { left: input.len() })),
    }
}

#[inline(always)]
fn update_header(input: &[u8], version: FormatVersion) -> Parsed<'_, UpdateHeader<'_>> {
    let (behind_epoch, _) = if version.has_epochs() { vint::unsigned(input)? } else { (input, 0) };
    let (rest, key) = within(Structure::PartitionKey, vint::bytes(behind_epoch))?;
    let (behind, flags) = byte(rest)?;
    let known = HAS_PARTITION_DELETION | HAS_STATIC_ROW | HAS_ROW_ESTIMATE;
    if flags != IS_EMPTY && flags & !known != 0 {
        return Err(out_of_range(rest, "flags of a partition update", u64::from(flags)));
    }
    Ok((behind, UpdateHeader { epoch: input, behind_epoch, key, flags }))
}

/// A composite key is checked here once, so that walking its components can't fail later.
fn check_key<'a>(key: &'a [u8], rest: &'a [u8], table: &TableSchema) -> Parsed<'a, ()> {
    let columns = table.partition_key.len();
    if columns < 2 {
        return Ok((rest, ()));
    }
    let mut left = key;
    let mut components = 0usize;
    while let Some((len, behind)) = left.split_first_chunk::<2>() {
        let component = behind.get(usize::from(u16::from_be_bytes(*len))..).and_then(|end| end.split_first());
        let Some((0, behind)) = component else { break };
        components = components.saturating_add(1);
        left = behind;
    }
    if left.is_empty() && components == columns {
        return Ok((rest, ()));
    }
    within(Structure::PartitionKey, Err(broken(rest, "the key does not have one component for each key column")))
}

/// What stands between the header of an update and the next update.
struct Content<'a> {
    partition_deletion: Option<DeletionTime>,
    /// The input at the row estimate, and behind it.
    estimate: (&'a [u8], &'a [u8]),
    rest: &'a [u8],
}

#[inline(always)]
fn content<'a>(
    input: &'a [u8],
    flags: u8,
    version: FormatVersion,
    update: (&'a TableSchema, &'a [u8]),
    lists: &mut TableLists,
    out: &mut Buffers,
) -> Result<Content<'a>, UpdateError> {
    if flags == IS_EMPTY {
        return Ok(Content { partition_deletion: None, estimate: (input, input), rest: input });
    }
    let (table, body) = update;
    let (rest, stats) = EncodingStats::parse(input, version)?;
    let grammar = Grammar { table, stats, body };
    let has_static = flags & HAS_STATIC_ROW != 0;
    let (rest, statics) =
        if has_static { lists.statics.resolve(rest, table, ColumnKind::Static)? } else { (rest, &[][..]) };
    let (rest, regulars) = lists.regulars.resolve(rest, table, ColumnKind::Regular)?;
    let (rest, partition_deletion) =
        if flags & HAS_PARTITION_DELETION != 0 { stats.deletion_time(rest)? } else { (rest, None) };
    let rest = if has_static { static_row(rest, &grammar, statics, out)?.0 } else { rest };
    // An upper bound of the number of rows: never reserved by, never relied on.
    let behind = if flags & HAS_ROW_ESTIMATE != 0 { vint::unsigned(rest)?.0 } else { rest };
    let estimate = (rest, behind);
    let (rest, ()) = unfiltereds(behind, &grammar, regulars, out)?;
    Ok(Content { partition_deletion, estimate, rest })
}

impl<'d> Mutation<'d> {
    /// How many updates the mutation says it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// The next update, lent until the next call; `None` after the last.
    ///
    /// # Errors
    /// The update can't be read, and with it the rest of the mutation: no further call gives anything but `None`.
    #[inline]
    pub fn next_update(&mut self) -> Result<Option<PartitionUpdate<'_>>, MutationError> {
        // Inlined, so that the update is put together where the caller wants it: copied, it would cost as much as a row.
        if self.index == self.count {
            return Ok(None);
        }
        let index = self.index;
        let Read { place, key, partition_deletion, identity } = self.read_update()?;
        let (schema, out) = (&self.decoder.schema, &self.decoder.buffers);
        let Some(table) = schema.tables().get(place) else { return Ok(None) };
        Ok(Some(PartitionUpdate {
            table,
            schema: schema.number(),
            index,
            key,
            partition_deletion,
            static_row: out.static_row.as_ref(),
            rows: &out.rows,
            range_deletes: &out.range_deletes,
            columns: &out.columns,
            cells: &out.cells,
            clusterings: &out.clusterings,
            body: self.body,
            identity,
        }))
    }

    /// Reads an update into the decoder's buffers.
    fn read_update(&mut self) -> Result<Read<'d>, MutationError> {
        let index = self.index;
        // Whatever goes wrong from here on is the end.
        self.index = self.count;
        let (start, body, at) = (self.rest, self.body, self.at);
        let malformed = |error| malformed(error, body, at, Structure::PartitionUpdate);
        let (rest, id) = table_id(start).map_err(malformed)?;
        if self.decoder.seen.contains(&id) {
            return Err(malformed(broken(start, "two updates of one table in a mutation")));
        }
        self.decoder.seen.push(id);
        let place = self.decoder.place_of(id).ok_or(MutationError::UnknownTable { id })?;
        let (Some(table), Some(lists)) = (self.decoder.schema.tables().get(place), self.decoder.lists.get_mut(place))
        else {
            return Err(MutationError::UnknownTable { id });
        };
        let (rest, header) = update_header(rest, self.version).map_err(malformed)?;
        check_key(header.key, rest, table).map_err(malformed)?;
        let out = &mut self.decoder.buffers;
        out.clear();
        let content =
            content(rest, header.flags, self.version, (table, body), lists, out).map_err(|error| match error {
                UpdateError::Malformed(error) => malformed(error),
                UpdateError::UnknownColumn(column) => {
                    MutationError::UnknownColumn { keyspace: table.keyspace.clone(), table: table.name.clone(), column }
                }
            })?;
        let next = index.saturating_add(1);
        if next == self.count && !content.rest.is_empty() {
            let surplus = Cause::Surplus { bytes: content.rest.len() };
            return Err(malformed(Flaw::new(content.rest, surplus)));
        }
        self.rest = body.get(body.len().saturating_sub(content.rest.len())..).unwrap_or_default();
        self.index = next;
        let span = |from: &[u8], to: &[u8]| {
            let place = |rest: &[u8]| length(body.len().saturating_sub(rest.len()));
            Span { start: place(from), end: place(to) }
        };
        let identity = [
            span(start, header.epoch),
            span(header.behind_epoch, content.estimate.0),
            span(content.estimate.1, content.rest),
        ];
        Ok(Read { place, key: header.key, partition_deletion: content.partition_deletion, identity })
    }
}

/// What was read of an update beside what the buffers hold.
struct Read<'d> {
    /// The table's in the schema.
    place: usize,
    key: &'d [u8],
    partition_deletion: Option<DeletionTime>,
    identity: [Span; 3],
}
