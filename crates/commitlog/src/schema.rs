//! The schema as a value: what the grammar of a mutation must know about tables.
//!
//! Owns: tables by id, their columns, dropped ones included. Does not own: where schema comes from, how it changes.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::cql_type::CqlType;

/// A table's id. On 6.0 it need not be a valid UUID of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TableId(pub u128);

impl TableId {
    /// The upper half of ids that 6.0 gives out under cluster metadata management; the lower half is an epoch.
    const BY_EPOCH: u128 = 0x1b25_5f4d_ef25_40a6;
}

impl fmt::Display for TableId {
    /// Cassandra's own text: the 8-4-4-4-12 form, and `tid:` with the epoch in hex for ids of 6.0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = self.0;
        if id >> 64 == Self::BY_EPOCH {
            return write!(f, "tid:{:x}", id & 0xffff_ffff_ffff_ffff);
        }
        let (a, b, c, d, e) =
            (id >> 96, id >> 80 & 0xffff, id >> 64 & 0xffff, id >> 48 & 0xffff, id & 0xffff_ffff_ffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

/// What a column is in its table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are CQL's own")]
pub enum ColumnKind {
    PartitionKey,
    Clustering,
    Static,
    Regular,
}

/// A column of a table, live or dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type.
    pub cql_type: CqlType,
    /// What it is in the table.
    pub kind: ColumnKind,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableSchema {
    /// Its id: what mutations name it by.
    pub id: TableId,
    /// Its keyspace.
    pub keyspace: String,
    /// Its name.
    pub name: String,
    /// Whether it has `cdc = true`.
    pub cdc: bool,
    /// Partition-key columns in declared order.
    pub partition_key: Vec<Column>,
    /// Clustering columns in declared order.
    pub clustering: Vec<Column>,
    /// Static and regular columns, live ones and then those dropped whose names are not in use again.
    pub columns: Vec<Column>,
}

/// Tells one [`Schema`] of this process from another without a look at its tables. An address would not do: the schema
/// that replaces one may come to lie where that one lay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchemaNumber(u64);

impl SchemaNumber {
    fn next() -> Self {
        static MADE: AtomicU64 = AtomicU64::new(0);
        Self(MADE.fetch_add(1, Ordering::Relaxed))
    }
}

/// All tables that a decoder knows, system tables included: an update carries no length, so an unknown table makes the
/// rest of its mutation unreadable.
#[derive(Debug, Clone)]
pub struct Schema {
    tables: Vec<TableSchema>,
    number: SchemaNumber,
}

/// Equal are those of equal tables.
impl PartialEq for Schema {
    fn eq(&self, other: &Self) -> bool {
        self.tables == other.tables
    }
}

impl Eq for Schema {}

impl Schema {
    /// A schema of these tables; of two with one id the later counts.
    pub fn new(tables: impl IntoIterator<Item = TableSchema>) -> Self {
        let mut schema = Self { tables: Vec::new(), number: SchemaNumber::next() };
        for table in tables {
            match schema.tables.binary_search_by_key(&table.id, |t| t.id) {
                Ok(at) => {
                    if let Some(slot) = schema.tables.get_mut(at) {
                        *slot = table;
                    }
                }
                Err(at) => schema.tables.insert(at, table),
            }
        }
        schema
    }

    /// The table with this id.
    pub fn table(&self, id: TableId) -> Option<&TableSchema> {
        self.index_of(id).and_then(|at| self.tables.get(at))
    }

    /// Its number: no other schema of this process has it, but for its clones.
    pub fn number(&self) -> SchemaNumber {
        self.number
    }

    /// Tables in the order of their ids.
    pub fn tables(&self) -> &[TableSchema] {
        &self.tables
    }

    /// Where in [`Self::tables`] the table with this id stands.
    pub(crate) fn index_of(&self, id: TableId) -> Option<usize> {
        self.tables.binary_search_by_key(&id, |t| t.id).ok()
    }
}
