//! The rows of `system_schema` as the log leaves them, and the schema that they make at any moment of it
//! (`FORMAT.md` 8.2).
//!
//! Owns: DDL read from a log in any order of timestamps, rows taken in from elsewhere, definitions that are past. Does
//! not own: where in the log the changes lie, keeping them on disk.
//!
//! A small table in which the last write wins, as `system_schema` itself is. What was pulled over CQL counts as written
//! at that moment, so older DDL in segments that are still to be read undoes nothing of it. The definition of a table
//! that is dropped, or made anew under its name, stays known by its id: its data may come later in the log.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::schema::{Schema, TableSchema};
use crate::schema_change::{RowChange, RowState, changes_from, changes_in, texts};
use crate::schema_problem::SchemaProblem;
use crate::schema_tables::{SchemaTable, bootstrap_tables};
use crate::system_schema::{SystemSchema, table_id};
use crate::system_tables::system_table;
use crate::update::PartitionUpdate;

/// Definitions that are past and still known: so many tables may be dropped while data of the first is unread.
const MAX_PAST: usize = 256;

/// Deletions kept of rows that are gone: all that they still do is to shadow older DDL read later.
const MAX_GONE: usize = 65_536;

type Key = Vec<String>;

/// The rows of `system_schema`, each with its timestamps.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct SchemaStore {
    /// Rows by their whole key; deletions of all rows below it by a part of one.
    rows: BTreeMap<(SchemaTable, Key), RowState>,
    /// Definitions of tables that are gone, the latest last: each one table or view with all that it needs.
    past: Vec<SystemSchema>,
}

/// The store as JSON.
#[derive(Serialize, Deserialize)]
struct Stored {
    rows: Vec<RowChange>,
    past: Vec<SystemSchema>,
}

impl From<SchemaStore> for Stored {
    fn from(store: SchemaStore) -> Self {
        let rows = store.rows.into_iter().map(|((table, key), state)| RowChange { table, key, state });
        Self { rows: rows.collect(), past: store.past }
    }
}

impl From<Stored> for SchemaStore {
    fn from(stored: Stored) -> Self {
        let rows = stored.rows.into_iter().map(|change| ((change.table, change.key), change.state));
        Self { rows: rows.collect(), past: stored.past }
    }
}

/// A table or view as it stood before a change.
struct Before {
    key: (SchemaTable, Key),
    id: Option<String>,
    definition: SystemSchema,
}

impl SchemaStore {
    /// A store that knows nothing but how to read `system_schema` itself.
    pub fn new() -> Self {
        Self::default()
    }

    /// A store of rows known from CQL or a file, counted as written at that moment (microseconds since 1970).
    pub fn from_rows(rows: &SystemSchema, at_micros: i64) -> Self {
        let mut store = Self::default();
        store.apply(changes_from(rows, at_micros));
        store
    }

    /// What an update says of the rows of `system_schema`; nothing if it is of another table.
    pub fn changes_in(&self, update: &PartitionUpdate<'_>) -> Vec<RowChange> {
        let (Some(table), Some(Ok(keyspace))) =
            (SchemaTable::of(update.table), update.key_components().next().map(core::str::from_utf8))
        else {
            return Vec::new();
        };
        let mut changes = changes_in(table, keyspace, update);
        for range in update.range_deletes {
            let start: Key = texts(update, &range.start.clustering).collect();
            let end: Key = texts(update, &range.end.clustering).collect();
            for (_, key) in self.below(table, &[keyspace.into()]).map(|(key, _)| key) {
                let behind_start = is_inside(key, &start, range.start.inclusive, |key, start| key > start);
                let before_end = is_inside(key, &end, range.end.inclusive, |key, end| key < end);
                if behind_start && before_end {
                    let state = RowState::deleted_at(range.deletion.marked_for_delete_at);
                    changes.push(RowChange { table, key: key.clone(), state });
                }
            }
        }
        changes
    }

    /// Takes in all changes of one mutation, and returns those that changed what the schema is.
    pub fn apply(&mut self, changes: Vec<RowChange>) -> Vec<RowChange> {
        let before = self.definitions_touched_by(&changes);
        let mut visible: Vec<bool> = Vec::new();
        for change in &changes {
            visible.push(self.write(change));
        }
        let moved = self.keep_past(before, &changes);
        self.forget_gone();
        let mut visible = visible.into_iter();
        let real =
            changes.into_iter().filter(|change| visible.next() == Some(true) || moved.contains(table_of(change)));
        real.collect()
    }

    /// Takes in rows that were pulled over CQL while older segments are still to be read: new tables, columns, types
    /// and dropped columns, fields added to a type, and `cdc = true`. Nothing is removed or renamed, and `cdc` stays
    /// true where it is: data that comes now may need what is gone by then. Returns what changed the schema.
    pub fn merge(&mut self, pulled: &SystemSchema, at_micros: i64) -> Vec<RowChange> {
        let changes = changes_from(pulled, at_micros);
        let ids = changes.iter().filter(|change| is_definition(change.table));
        let known: BTreeSet<Key> =
            ids.filter(|change| self.has_id_of(change)).map(|change| change.key.clone()).collect();
        let additions = changes.into_iter().filter_map(|change| self.addition(change, &known)).collect();
        self.apply(additions)
    }

    /// What of a pulled row is to be taken over. `known`: the tables that are already here under their ids.
    fn addition(&self, mut change: RowChange, known: &BTreeSet<Key>) -> Option<RowChange> {
        let here = self.rows.get(&(change.table, change.key.clone())).filter(|row| row.is_live());
        let of_known_table = change.key.get(..2).is_some_and(|key| known.contains(key));
        let take = match change.table {
            SchemaTable::Keyspaces => true,
            SchemaTable::Types => {
                let fields =
                    |row: &RowState| value_of(row, "field_types").and_then(Value::as_array).map_or(0, Vec::len);
                here.is_none_or(|here| fields(&change.state) > fields(here))
            }
            SchemaTable::Tables | SchemaTable::Views if of_known_table => {
                change.state.written = None;
                change.state.cells.retain(|name, (_, value)| name == "cdc" && *value == Value::Bool(true));
                !change.state.cells.is_empty()
                    && here.and_then(|here| value_of(here, "cdc")) != Some(&Value::Bool(true))
            }
            SchemaTable::Columns if of_known_table => {
                let kind = value_of(&change.state, "kind").and_then(Value::as_str).unwrap_or_default();
                here.is_none() && matches!(kind, "static" | "regular" | "compact_value")
            }
            SchemaTable::DroppedColumns if of_known_table => here.is_none() && change.state.is_live(),
            _ => true,
        };
        take.then_some(change)
    }

    /// Whether the table of a `tables` or `views` row is here under the same id.
    fn has_id_of(&self, change: &RowChange) -> bool {
        let here = self.id(&(change.table, change.key.clone()));
        here.is_some() && here == text_of(&change.state, "id")
    }

    /// The rows that there are.
    pub fn rows(&self) -> SystemSchema {
        rows_of(self.rows.iter())
    }

    /// The tables that a log can hold changes of at this moment, and what is wrong with the definitions of others.
    pub fn schema(&self) -> (Schema, Vec<SchemaProblem>) {
        let (live, problems) = self.rows().resolve();
        let past = self.past.iter().flat_map(|definition| definition.resolve().0.tables().to_vec());
        let bootstrap = bootstrap_tables().into_iter().map(|mut table| {
            // What the node says of its own tables counts beside what is known of all releases: a later one may have more.
            let more = live.table(table.id).map(|known| known.columns.as_slice()).unwrap_or_default();
            let more = more.iter().filter(|column| table.columns.iter().all(|known| known.name != column.name));
            let more: Vec<_> = more.cloned().collect();
            table.columns.extend(more);
            table
        });
        let tables: Vec<TableSchema> = past.chain(live.tables().iter().cloned()).chain(bootstrap).collect();
        (Schema::new(tables), problems)
    }

    /// Takes in one change, and says whether the rows that there are changed by it.
    fn write(&mut self, change: &RowChange) -> bool {
        let RowChange { table, key, state } = change;
        if key.len() < table.key().len() {
            return self.delete_below(*table, key, state.deleted);
        }
        let whole = (*table, key.clone());
        let above = self.deletion_above(&whole);
        let row = self.rows.entry(whole.clone()).or_default();
        let before = contents(row);
        row.merge(state);
        row.shadow(above);
        let changed = before != contents(row);
        if !row.is_live() && row.cells.is_empty() && row.deleted <= above {
            self.rows.remove(&whole);
        }
        changed
    }

    fn delete_below(&mut self, table: SchemaTable, key: &Key, deleted: Option<i64>) -> bool {
        let mut changed = false;
        let below: Vec<_> = self.below(table, key).map(|(key, _)| key.clone()).collect();
        for key in below {
            let Some(row) = self.rows.get_mut(&key) else { continue };
            let before = contents(row);
            row.shadow(deleted);
            changed |= before != contents(row);
            if !row.is_live() && row.cells.is_empty() && row.deleted <= deleted {
                self.rows.remove(&key);
            }
        }
        self.rows.entry((table, key.clone())).or_default().delete(deleted);
        changed
    }

    /// The newest deletion of all rows below a part of the key.
    fn deletion_above(&self, (table, key): &(SchemaTable, Key)) -> Option<i64> {
        let parts = (1..key.len()).filter_map(|len| key.get(..len));
        parts.filter_map(|part| self.rows.get(&(*table, part.to_vec()))?.deleted).max()
    }

    /// Rows with whole keys that begin with this one.
    fn below<'s>(
        &'s self,
        table: SchemaTable,
        key: &[String],
    ) -> impl Iterator<Item = (&'s (SchemaTable, Key), &'s RowState)> + use<'s> {
        let start = key.to_vec();
        let from = self.rows.range((table, start.clone())..);
        from.take_while(move |((of, key), _)| *of == table && key.starts_with(&start))
            .filter(move |((_, key), _)| key.len() == table.key().len())
    }

    fn id(&self, key: &(SchemaTable, Key)) -> Option<String> {
        text_of(self.rows.get(key).filter(|row| row.is_live())?, "id")
    }

    /// The tables and views that a batch of changes is about, as they stand.
    fn definitions_touched_by(&self, changes: &[RowChange]) -> Vec<Before> {
        let mut keys: BTreeSet<(SchemaTable, Key)> = BTreeSet::new();
        for change in changes.iter().filter(|change| is_definition(change.table)) {
            keys.extend(self.below(change.table, &change.key).map(|(key, _)| key.clone()));
            if change.key.len() == change.table.key().len() {
                keys.insert((change.table, change.key.clone()));
            }
        }
        let before = keys.into_iter().map(|key| Before { id: self.id(&key), definition: self.definition(&key), key });
        before.collect()
    }

    /// One table or view with everything that its decoding needs.
    fn definition(&self, (table, key): &(SchemaTable, Key)) -> SystemSchema {
        let keyspace = key.get(..1).unwrap_or_default();
        let parts = [
            (*table, key.as_slice()),
            (SchemaTable::Columns, key.as_slice()),
            (SchemaTable::DroppedColumns, key.as_slice()),
            (SchemaTable::Types, keyspace),
        ];
        rows_of(parts.into_iter().flat_map(|(table, key)| self.below(table, key)))
    }

    /// Puts aside what the changes left without a name: what stood there before under another id, and what the changes
    /// define although something newer has the name. Says which tables that was about.
    fn keep_past(&mut self, before: Vec<Before>, changes: &[RowChange]) -> BTreeSet<Key> {
        let mut moved = BTreeSet::new();
        for Before { key, id, definition } in before {
            let now = self.id(&key);
            self.past.retain(|past| id_of(past).is_none() || id_of(past) != now.as_deref());
            if id != now && self.put_aside(definition) {
                moved.insert(key.1.clone());
            }
            let of_it = changes.iter().filter(|change| (change.table, &change.key) == (key.0, &key.1));
            let named =
                of_it.filter_map(|change| text_of(&change.state, "id")).find(|named| Some(named) != now.as_ref());
            if named.is_some_and(|named| self.put_aside(self.shadowed(&key, &named, changes))) {
                moved.insert(key.1.clone());
            }
        }
        moved
    }

    /// The definition that changes make of a table whose name belongs to a newer one: on top of what is known of it.
    fn shadowed(&self, key: &(SchemaTable, Key), id: &str, changes: &[RowChange]) -> SystemSchema {
        let mut alone = Self::default();
        if let Some(known) = self.past.iter().find(|past| id_of(past) == Some(id)) {
            for change in changes_from(known, i64::MIN.saturating_add(2)) {
                alone.write(&change);
            }
        }
        for change in changes.iter().filter(|change| *table_of(change) == *key.1) {
            alone.write(change);
        }
        alone.rows.extend(
            self.below(SchemaTable::Types, key.1.get(..1).unwrap_or_default()).map(|(k, v)| (k.clone(), v.clone())),
        );
        alone.definition(key)
    }

    /// Keeps a definition by its id, unless it is of no use: incomplete, or of a table that is known by its id alone.
    fn put_aside(&mut self, definition: SystemSchema) -> bool {
        let Some(id) = id_of(&definition) else { return false };
        let is_system = table_id(id).is_none_or(|id| system_table(id).is_some());
        if is_system || definition.resolve().0.tables().is_empty() || self.past.contains(&definition) {
            return false;
        }
        self.past.retain(|past| id_of(past) != Some(id));
        if self.past.len() >= MAX_PAST {
            self.past.remove(0);
        }
        self.past.push(definition);
        true
    }

    /// Forgets the oldest deletions of rows that are gone, where there are too many.
    fn forget_gone(&mut self) {
        let gone = self.rows.values().filter(|row| !row.is_live());
        let mut times: Vec<Option<i64>> = gone.map(|row| row.deleted).collect();
        if let Some(surplus) = times.len().checked_sub(MAX_GONE).filter(|surplus| *surplus > 0) {
            times.sort_unstable();
            let newest_forgotten = times.get(surplus.saturating_sub(1)).copied().flatten();
            self.rows.retain(|_, row| row.is_live() || row.deleted > newest_forgotten);
        }
    }
}

/// `tables` and `views`: their rows have ids.
fn is_definition(table: SchemaTable) -> bool {
    matches!(table, SchemaTable::Tables | SchemaTable::Views)
}

/// Keyspace and table that a change is about; more or less of a key is of no table.
fn table_of(change: &RowChange) -> &[String] {
    match change.table {
        SchemaTable::Keyspaces | SchemaTable::Types => &[],
        _ => change.key.get(..2).unwrap_or_default(),
    }
}

fn value_of<'r>(row: &'r RowState, column: &str) -> Option<&'r Value> {
    row.cells.get(column).map(|(_, value)| value).filter(|value| !value.is_null())
}

fn text_of(row: &RowState, column: &str) -> Option<String> {
    value_of(row, column).and_then(Value::as_str).map(Into::into)
}

/// The one table or view of a definition.
fn id_of(definition: &SystemSchema) -> Option<&str> {
    let table = definition.tables.first().map(|table| table.id.as_str());
    table.or_else(|| definition.views.first().map(|view| view.id.as_str()))
}

/// What a row shows, whenever it was written; nothing if there is none.
fn contents(row: &RowState) -> Option<Vec<(String, Value)>> {
    let cells = row.cells.iter().filter(|(_, (_, value))| !value.is_null());
    row.is_live().then(|| cells.map(|(name, (_, value))| (name.clone(), value.clone())).collect())
}

/// Whether a row lies on the inner side of one end of a range. An end names a prefix of the clustering, and includes all
/// rows of that prefix or none.
fn is_inside(key: &Key, end: &Key, inclusive: bool, beyond: impl Fn(&[String], &[String]) -> bool) -> bool {
    let prefix = key.get(1..).and_then(|clustering| clustering.get(..end.len())).unwrap_or_default();
    if prefix == end.as_slice() { inclusive } else { beyond(prefix, end) }
}

/// Stored rows as rows of `system_schema`. A row that lacks what every row has is none.
fn rows_of<'a>(stored: impl Iterator<Item = (&'a (SchemaTable, Key), &'a RowState)>) -> SystemSchema {
    let mut rows = SystemSchema::default();
    for ((table, key), row) in stored.filter(|((table, key), row)| row.is_live() && key.len() == table.key().len()) {
        let names = table.key().iter().map(|name| String::from(*name));
        let mut columns: Map<String, Value> = names.zip(key.iter().cloned().map(Value::from)).collect();
        columns.extend(row.cells.iter().map(|(name, (_, value))| (name.clone(), value.clone())));
        rows.push(*table, Value::Object(columns));
    }
    rows
}

#[cfg(test)]
mod tests;
