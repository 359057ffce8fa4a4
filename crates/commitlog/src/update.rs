//! A decoded partition update: flat lists of spans over the mutation body.
//!
//! Owns: what an update says, borrowed. Does not own: the parse (`mutation`, `unfiltered`, `cell`), the meaning of
//! values (`event` renders them). The lists live in the decoder's buffers and are overwritten by the next update, so a
//! steady stream of updates allocates nothing.

use core::ops::Range;

use crate::parse::index;
use crate::schema::{Column, SchemaNumber, TableSchema};

/// Bytes inside a mutation body.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// Behind the last byte.
    pub end: u32,
}

impl Span {
    /// Number of bytes.
    pub const fn len(self) -> u32 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it holds no byte.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }
}

/// A deletion: everything it covers with a timestamp at or below `marked_for_delete_at` is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeletionTime {
    /// Write timestamp, microseconds.
    pub marked_for_delete_at: i64,
    /// When the server applied it, seconds since 1970.
    pub local_deletion_time: i64,
}

/// The end of something written with a TTL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    /// Time to live, seconds.
    pub ttl: i32,
    /// When it ends, seconds since 1970.
    pub at: i64,
}

/// Primary-key liveness: an INSERT leaves it, an UPDATE does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Write timestamp, microseconds.
    pub timestamp: i64,
    /// Present when written with a TTL. A TTL of 2147483647 is a view's mark for liveness that has expired.
    pub expiry: Option<Expiry>,
}

/// What a cell says of its column or element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellState {
    /// A value.
    Live,
    /// A value with an end.
    Expiring(Expiry),
    /// A tombstone.
    Deleted {
        /// When the server deleted it, seconds since 1970.
        at: i64,
    },
}

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Write timestamp, microseconds.
    pub timestamp: i64,
    /// Value, value with an end, or tombstone.
    pub state: CellState,
    /// In a multi-cell column the element: a list's time UUID, a set's element, a map's key, a field's `i16` index.
    pub path: Span,
    /// The value's bytes; none in tombstones and set elements.
    pub value: Span,
}

/// What a row says of one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnData {
    /// Index in [`TableSchema::columns`].
    pub column: u32,
    /// Multi-cell columns only: everything older was deleted first (an overwrite, or the removal of the whole).
    pub deletion: Option<DeletionTime>,
    /// In [`PartitionUpdate::cells`]: exactly one for a single-cell column, any number for a multi-cell one.
    pub cells: Range<u32>,
}

/// A clustering value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClusteringValue {
    /// Null: a missing trailing component of an old compact table.
    Null,
    /// A value, maybe of zero bytes.
    Value(Span),
}

/// A row, or the static row (which has no clustering).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// In [`PartitionUpdate::clusterings`]: one for each clustering column.
    pub clustering: Range<u32>,
    /// Primary-key liveness, if the statement was an INSERT.
    pub liveness: Option<Liveness>,
    /// Row deletion.
    pub deletion: Option<DeletionTime>,
    /// Whether the deletion is a view's shadowable one (deprecated).
    pub shadowable: bool,
    /// In [`PartitionUpdate::columns`].
    pub columns: Range<u32>,
}

/// One end of a range of rows, in clustering order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// In [`PartitionUpdate::clusterings`]: a prefix of the clustering columns; none at the partition's edge.
    pub clustering: Range<u32>,
    /// Whether rows with exactly this prefix are inside.
    pub inclusive: bool,
}

/// A deletion of a range of rows. Boundary markers of the format appear as the end of one range and the start of the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeDelete {
    /// Where it starts, in clustering order (which is descending where the table says so).
    pub start: Bound,
    /// Where it ends.
    pub end: Bound,
    /// The deletion.
    pub deletion: DeletionTime,
}

/// The change of one table in one partition: the unit of atomicity and order.
#[derive(Debug, Clone, Copy)]
pub struct PartitionUpdate<'a> {
    /// The table.
    pub table: &'a TableSchema,
    /// The schema that the table is of.
    pub schema: SchemaNumber,
    /// Ordinal among all updates of the mutation.
    pub index: u32,
    /// The serialised partition key.
    pub key: &'a [u8],
    /// Deletion of the whole partition.
    pub partition_deletion: Option<DeletionTime>,
    /// The static row.
    pub static_row: Option<&'a Row>,
    /// Rows in clustering order.
    pub rows: &'a [Row],
    /// Range deletions in clustering order.
    pub range_deletes: &'a [RangeDelete],
    /// What [`Row::columns`] points into.
    pub columns: &'a [ColumnData],
    /// What [`ColumnData::cells`] points into.
    pub cells: &'a [Cell],
    /// What [`Row::clustering`] and [`Bound::clustering`] point into.
    pub clusterings: &'a [ClusteringValue],
    /// The mutation body: what every [`Span`] points into.
    pub body: &'a [u8],
    /// The update's bytes without its row estimate and epoch, in up to three pieces: equal on every replica of one
    /// release, so the digest is made of them.
    pub identity: [Span; 3],
}

impl<'a> PartitionUpdate<'a> {
    /// The bytes of a span.
    pub fn bytes(&self, span: Span) -> &'a [u8] {
        self.body.get(index(span.start)..index(span.end)).unwrap_or_default()
    }

    /// The columns of a row.
    pub fn columns_of(&self, row: &Row) -> &'a [ColumnData] {
        slice(self.columns, &row.columns)
    }

    /// The cells of a column.
    pub fn cells_of(&self, column: &ColumnData) -> &'a [Cell] {
        slice(self.cells, &column.cells)
    }

    /// Clustering values of a row or bound, in the order of the table's clustering columns.
    pub fn clustering_of(&self, range: &Range<u32>) -> &'a [ClusteringValue] {
        slice(self.clusterings, range)
    }

    /// The definition of a column.
    pub fn definition(&self, column: &ColumnData) -> Option<&'a Column> {
        self.table.columns.get(index(column.column))
    }

    /// The values of the partition-key columns, in declared order.
    pub fn key_components(&self) -> KeyComponents<'a> {
        KeyComponents { rest: self.key, composite: self.table.partition_key.len() > 1, done: false }
    }
}

fn slice<'a, T>(all: &'a [T], range: &Range<u32>) -> &'a [T] {
    all.get(index(range.start)..index(range.end)).unwrap_or_default()
}

/// Iterator over the values of a partition key (`FORMAT.md` 7.4). The decoder has checked the key before it is lent,
/// so a malformed rest ends the iteration.
#[derive(Debug, Clone)]
pub struct KeyComponents<'a> {
    rest: &'a [u8],
    composite: bool,
    done: bool,
}

impl<'a> Iterator for KeyComponents<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.done {
            return None;
        }
        if !self.composite {
            self.done = true;
            return Some(self.rest);
        }
        let (len, rest) = self.rest.split_first_chunk::<2>()?;
        let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
        // The last byte, 0, ends every component, the last one included.
        self.rest = rest.get(1..)?;
        Some(value)
    }
}
