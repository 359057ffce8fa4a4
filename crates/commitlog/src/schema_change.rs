//! What DDL says of a row of `system_schema`, with its write timestamps.
//!
//! Owns: rows as they stand in an update, or in a pulled schema, turned into changes; how two statements about one row
//! reconcile. Does not own: the rows put together (`schema_store`), their meaning (`system_schema`).

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cql_type::{CqlType, Native};
use crate::schema_tables::SchemaTable;
use crate::system_schema::SystemSchema;
use crate::update::{CellState, ClusteringValue, PartitionUpdate, Row};

/// A statement about a row, or about all rows below a part of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowChange {
    /// The table of `system_schema`.
    pub table: SchemaTable,
    /// The keyspace, then the clustering values. With fewer than all of them only a deletion has a meaning: of all rows
    /// below.
    pub key: Vec<String>,
    /// What is said.
    #[serde(flatten)]
    pub state: RowState,
}

/// Deletion, liveness and cells, each with its write timestamp in microseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowState {
    /// Everything written at or before this is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted: Option<i64>,
    /// The row was inserted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<i64>,
    /// Timestamp and value of the columns that decoding needs; null is a tombstone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cells: BTreeMap<String, (i64, Value)>,
}

impl RowState {
    /// All rows gone that were written so far.
    pub(crate) fn deleted_at(at: i64) -> Self {
        Self { deleted: Some(at), ..Self::default() }
    }

    /// Takes in another statement about the same row: the newer counts.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.written = self.written.max(other.written);
        for (name, cell) in &other.cells {
            match self.cells.get_mut(name) {
                Some(known) if !supersedes(cell, known) => {}
                Some(known) => known.clone_from(cell),
                None => {
                    self.cells.insert(name.clone(), cell.clone());
                }
            }
        }
        self.delete(other.deleted);
        self.delete(self.deleted);
    }

    /// Drops what was written at or before a deletion; the deletion itself is kept.
    pub(crate) fn delete(&mut self, deleted: Option<i64>) {
        self.deleted = self.deleted.max(deleted);
        self.shadow(deleted);
    }

    /// Drops what was written at or before a deletion.
    pub(crate) fn shadow(&mut self, deleted: Option<i64>) {
        self.written = self.written.filter(|at| Some(*at) > deleted);
        self.cells.retain(|_, (at, _)| Some(*at) > deleted);
    }

    /// Whether there is a row: inserted, or with a value.
    pub(crate) fn is_live(&self) -> bool {
        self.written.is_some() || self.cells.values().any(|(_, value)| !value.is_null())
    }
}

/// Of two cells the newer counts; of two of one time the tombstone, then the greater value.
fn supersedes(new: &(i64, Value), old: &(i64, Value)) -> bool {
    let rank = |(at, value): &(i64, Value)| (*at, value.is_null(), value.to_string());
    rank(new) > rank(old)
}

/// What an update of `system_schema` says of rows and of whole keyspaces. Its range deletions are about rows that only
/// the store knows: they are not in here.
pub(crate) fn changes_in(table: SchemaTable, keyspace: &str, update: &PartitionUpdate<'_>) -> Vec<RowChange> {
    let mut changes = Vec::new();
    if let Some(deletion) = update.partition_deletion {
        let state = RowState::deleted_at(deletion.marked_for_delete_at);
        changes.push(RowChange { table, key: Vec::from([keyspace.to_string()]), state });
    }
    for row in update.rows {
        let mut key = Vec::from([keyspace.to_string()]);
        key.extend(texts(update, &row.clustering));
        changes.push(RowChange { table, key, state: state_of(table, update, row) });
    }
    changes
}

/// Clustering values; those of the tables that are followed are all text.
pub(crate) fn texts<'a>(
    update: &PartitionUpdate<'a>,
    clustering: &core::ops::Range<u32>,
) -> impl Iterator<Item = String> + use<'a> {
    let update = *update;
    update.clustering_of(clustering).iter().map(move |value| match value {
        ClusteringValue::Null => String::new(),
        ClusteringValue::Value(span) => String::from_utf8_lossy(update.bytes(*span)).into_owned(),
    })
}

fn state_of(table: SchemaTable, update: &PartitionUpdate<'_>, row: &Row) -> RowState {
    let mut state = RowState {
        deleted: row.deletion.map(|deletion| deletion.marked_for_delete_at),
        written: row.liveness.map(|liveness| liveness.timestamp),
        cells: BTreeMap::new(),
    };
    for data in update.columns_of(row) {
        let (Some(column), Some(cell)) = (update.definition(data), update.cells_of(data).first()) else { continue };
        if table.needs(&column.name) {
            let value = match cell.state {
                CellState::Deleted { .. } => Value::Null,
                CellState::Live | CellState::Expiring(_) => value(&column.cql_type, update.bytes(cell.value)),
            };
            state.cells.insert(column.name.clone(), (cell.timestamp, value));
        }
    }
    state
}

/// A value as schema files have it. Bytes that are no value of the type are null: what lacks them cannot be used.
fn value(cql_type: &CqlType, bytes: &[u8]) -> Value {
    let read = match cql_type {
        CqlType::Native(Native::Boolean) => bytes.first().map(|byte| (*byte != 0).into()),
        CqlType::Native(Native::Int) => bytes.try_into().ok().map(|bytes| i32::from_be_bytes(bytes).into()),
        CqlType::Native(Native::Timestamp) => bytes.try_into().ok().map(|bytes| i64::from_be_bytes(bytes).into()),
        CqlType::Native(Native::Uuid) => {
            bytes.try_into().ok().map(|bytes| uuid_text(u128::from_be_bytes(bytes)).into())
        }
        CqlType::Native(Native::Blob) => {
            Some(bytes.iter().fold(String::from("0x"), |text, byte| format!("{text}{byte:02x}")).into())
        }
        CqlType::List { .. } | CqlType::Set { .. } => text_list(bytes),
        _ => core::str::from_utf8(bytes).ok().map(Value::from),
    };
    read.unwrap_or_default()
}

/// A count, then as many texts, each behind its length.
fn text_list(bytes: &[u8]) -> Option<Value> {
    let (count, mut rest) = bytes.split_first_chunk::<4>()?;
    let mut texts = Vec::new();
    for _ in 0..i32::from_be_bytes(*count) {
        let (len, behind) = rest.split_first_chunk::<4>()?;
        let (text, behind) = behind.split_at_checked(usize::try_from(i32::from_be_bytes(*len)).ok()?)?;
        texts.push(Value::from(core::str::from_utf8(text).ok()?));
        rest = behind;
    }
    Some(Value::Array(texts))
}

/// The 8-4-4-4-12 form, that of 6.0's ids too.
fn uuid_text(id: u128) -> String {
    let digits = format!("{id:032x}");
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or_default();
    [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-")
}

/// Rows that are known from elsewhere, as if they had been written at one moment. A table that is there then has
/// the columns that are there and no others; of tables and types that are not there nothing is said.
pub(crate) fn changes_from(rows: &SystemSchema, at: i64) -> Vec<RowChange> {
    let Ok(Value::Object(all)) = serde_json::to_value(rows) else { return Vec::new() };
    let mut changes = Vec::new();
    for table in SchemaTable::ALL {
        for row in all.get(table.name()).and_then(Value::as_array).into_iter().flatten() {
            let Some(change) = change_from(table, row, at) else { continue };
            if matches!(table, SchemaTable::Tables | SchemaTable::Views) {
                for table in [SchemaTable::Columns, SchemaTable::DroppedColumns] {
                    let state = RowState::deleted_at(at.saturating_sub(1));
                    changes.push(RowChange { table, key: change.key.clone(), state });
                }
            }
            changes.push(change);
        }
    }
    changes
}

fn change_from(table: SchemaTable, row: &Value, at: i64) -> Option<RowChange> {
    let row = row.as_object()?;
    let key =
        table.key().iter().map(|name| row.get(*name)?.as_str().map(ToString::to_string)).collect::<Option<_>>()?;
    let cells = row.iter().filter(|(name, value)| table.needs(name) && !value.is_null());
    let cells = cells.map(|(name, value)| (name.clone(), (at, value.clone()))).collect();
    Some(RowChange { table, key, state: RowState { deleted: None, written: Some(at), cells } })
}

#[cfg(test)]
mod tests {
    use alloc::vec;

    use super::*;

    fn state(deleted: Option<i64>, written: Option<i64>, cell: Option<(i64, Value)>) -> RowState {
        RowState { deleted, written, cells: cell.map(|cell| ("cdc".into(), cell)).into_iter().collect() }
    }

    #[test]
    fn a_rewrite_deletes_just_before_itself() {
        let mut row = state(None, Some(10), Some((10, false.into())));
        row.merge(&state(Some(19), Some(20), Some((20, true.into()))));
        assert_eq!(row, state(Some(19), Some(20), Some((20, true.into()))));
        assert!(row.is_live());
        row.merge(&state(Some(20), None, None));
        assert!(!row.is_live());
    }

    #[test]
    fn the_newer_counts_whatever_comes_first() {
        let statements = [
            state(None, Some(10), Some((10, "a".into()))),
            state(Some(14), Some(15), Some((15, "b".into()))),
            state(None, None, Some((15, "c".into()))),
            state(Some(12), None, None),
            state(None, None, Some((11, Value::Null))),
        ];
        let mut forwards = RowState::default();
        statements.iter().for_each(|statement| forwards.merge(statement));
        let mut backwards = RowState::default();
        statements.iter().rev().for_each(|statement| backwards.merge(statement));
        assert_eq!(forwards, backwards);
        assert_eq!(forwards, state(Some(14), Some(15), Some((15, "c".into()))));
    }

    #[test]
    fn of_one_time_the_tombstone_counts() {
        let mut row = state(None, None, Some((5, "z".into())));
        row.merge(&state(None, None, Some((5, Value::Null))));
        assert!(!row.is_live());
        row.merge(&state(None, None, Some((5, "zz".into()))));
        assert!(!row.is_live());
    }

    #[test]
    fn values_are_as_in_a_schema_file() {
        let parse = |text| crate::parse_type(text, &crate::UserTypes::default()).unwrap();
        let of = |cql_type, bytes: &[u8]| value(&parse(cql_type), bytes);
        assert_eq!(of("boolean", &[1]), Value::Bool(true));
        assert_eq!(of("int", &[255, 255, 255, 255]), Value::from(-1));
        assert_eq!(of("int", &[1]), Value::Null);
        assert_eq!(of("timestamp", &5_i64.to_be_bytes()), Value::from(5));
        assert_eq!(of("blob", &[0, 0xab]), Value::from("0x00ab"));
        let id = 0x1b25_5f4d_ef25_40a6_0000_0000_0000_0004_u128;
        assert_eq!(of("uuid", &id.to_be_bytes()), Value::from("1b255f4d-ef25-40a6-0000-000000000004"));
        let list = [0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 0];
        assert_eq!(of("frozen<list<text>>", &list), Value::from(vec!["a", ""]));
        assert_eq!(of("frozen<list<text>>", &list[..9]), Value::Null);
        assert_eq!(of("frozen<set<text>>", &[0x7f, 0xff, 0xff, 0xff]), Value::Null);
        assert_eq!(of("text", &[0xff]), Value::Null);
    }

    #[test]
    fn changes_are_json() {
        let change = RowChange {
            table: SchemaTable::DroppedColumns,
            key: vec!["ks".into(), "t".into(), "c".into()],
            state: state(Some(1), None, Some((2, Value::Null))),
        };
        let text = serde_json::to_string(&change).unwrap();
        assert_eq!(text, r#"{"table":"dropped_columns","key":["ks","t","c"],"deleted":1,"cells":{"cdc":[2,null]}}"#);
        assert_eq!(serde_json::from_str::<RowChange>(&text).unwrap(), change);
    }
}
