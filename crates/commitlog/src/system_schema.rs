//! Rows of Cassandra's `system_schema` tables, and the schema that they spell out (`FORMAT.md` 6 and 8).
//!
//! Owns: the rows as a value that JSON, CQL and the log itself can be read into; which rows make a table; what is wrong
//! with a definition. Does not own: where rows come from, the order in which DDL changes them.
//!
//! Columns of a row that no decoder needs are not kept: a file that must keep them keeps the JSON it was read from.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::cql_type::CqlType;
use crate::schema::{Column, ColumnKind, Schema, TableId, TableSchema};
use crate::schema_problem::{SchemaProblem, Subject, Why};
use crate::schema_tables::SchemaTable;
use crate::type_parser::{Freezing, hex_bytes, parse_with};
use crate::user_types::{UserTypeProblem, UserTypes};

/// All rows that a schema is made of. As JSON: an object with an array of rows per table, `system_schema.` before the
/// table's name or not; `null` and absence are alike.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SystemSchema {
    /// `system_schema.keyspaces`
    #[serde(alias = "system_schema.keyspaces", deserialize_with = "or_default")]
    pub keyspaces: Vec<KeyspaceRow>,
    /// `system_schema.tables`
    #[serde(alias = "system_schema.tables", deserialize_with = "or_default")]
    pub tables: Vec<TableRow>,
    /// `system_schema.columns`
    #[serde(alias = "system_schema.columns", deserialize_with = "or_default")]
    pub columns: Vec<ColumnRow>,
    /// `system_schema.dropped_columns`
    #[serde(alias = "system_schema.dropped_columns", deserialize_with = "or_default")]
    pub dropped_columns: Vec<DroppedColumnRow>,
    /// `system_schema.types`
    #[serde(alias = "system_schema.types", deserialize_with = "or_default")]
    pub types: Vec<TypeRow>,
    /// `system_schema.views`
    #[serde(alias = "system_schema.views", deserialize_with = "or_default")]
    pub views: Vec<ViewRow>,
}

/// A row of `system_schema.keyspaces`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceRow {
    /// Its name.
    pub keyspace_name: String,
    /// Whether writes pass through the commit log at all.
    #[serde(default = "durable", deserialize_with = "or_durable")]
    pub durable_writes: bool,
}

/// A row of `system_schema.tables`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableRow {
    /// Its keyspace.
    pub keyspace_name: String,
    /// Its name.
    pub table_name: String,
    /// Its id, in the 8-4-4-4-12 form.
    pub id: String,
    /// Whether its changes go to `cdc_raw`; null in rows of old releases.
    #[serde(default)]
    pub cdc: Option<bool>,
    /// Any of `compound`, `dense`, `counter`, `super`.
    #[serde(default, deserialize_with = "or_default")]
    pub flags: Vec<String>,
}

/// A row of `system_schema.columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ColumnRow {
    /// Its keyspace.
    pub keyspace_name: String,
    /// Its table or view.
    pub table_name: String,
    /// Its name.
    pub column_name: String,
    /// The bytes that the log names it by, as `0x…`; they differ from the name in tables of the Thrift era only.
    #[serde(default)]
    pub column_name_bytes: Option<String>,
    /// `partition_key`, `clustering`, `static`, `regular`.
    pub kind: String,
    /// Its index among the key columns of its kind; -1 for others.
    #[serde(default = "no_position")]
    pub position: i64,
    /// `asc`, `desc`, `none`: without meaning for the bytes.
    #[serde(default)]
    pub clustering_order: Option<String>,
    /// Its type's text.
    #[serde(rename = "type")]
    pub cql_type: String,
}

/// A row of `system_schema.dropped_columns`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedColumnRow {
    /// Its keyspace.
    pub keyspace_name: String,
    /// Its table.
    pub table_name: String,
    /// The name it had.
    pub column_name: String,
    /// When, in milliseconds since 1970, where the row says it as a number.
    #[serde(default, deserialize_with = "number_or_none")]
    pub dropped_time: Option<i64>,
    /// `static` or `regular`; null in rows of old releases, which means regular.
    #[serde(default)]
    pub kind: Option<String>,
    /// Its type's text, user types spelled out as tuples.
    #[serde(rename = "type")]
    pub cql_type: String,
}

/// A row of `system_schema.types`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TypeRow {
    /// Its keyspace.
    pub keyspace_name: String,
    /// Its name.
    pub type_name: String,
    /// Names of its fields in order.
    #[serde(default, deserialize_with = "or_default")]
    pub field_names: Vec<String>,
    /// The text of their types in the same order.
    #[serde(default, deserialize_with = "or_default")]
    pub field_types: Vec<String>,
}

/// A row of `system_schema.views`: a view is a table with an id and rows of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRow {
    /// Its keyspace.
    pub keyspace_name: String,
    /// Its name.
    pub view_name: String,
    /// Its id, in the 8-4-4-4-12 form.
    pub id: String,
    /// Whether its changes go to `cdc_raw`.
    #[serde(default)]
    pub cdc: Option<bool>,
    /// The table that it is a view of.
    #[serde(default, deserialize_with = "or_default")]
    pub base_table_name: String,
}

fn durable() -> bool {
    true
}

fn no_position() -> i64 {
    -1
}

fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default)
}

fn or_durable<'de, D: Deserializer<'de>>(from: D) -> Result<bool, D::Error> {
    Option::deserialize(from).map(|durable| durable.unwrap_or(true))
}

/// cqlsh's `SELECT JSON` gives a timestamp as a date: no reason to refuse the row, as no decoding depends on it.
fn number_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<i64>, D::Error> {
    Value::deserialize(from).map(|value| value.as_i64())
}

impl SystemSchema {
    /// Adds a row; one without the columns that every row has is left out.
    pub(crate) fn push(&mut self, table: SchemaTable, row: Value) {
        match table {
            SchemaTable::Keyspaces => self.keyspaces.extend(serde_json::from_value::<KeyspaceRow>(row).ok()),
            SchemaTable::Tables => self.tables.extend(serde_json::from_value::<TableRow>(row).ok()),
            SchemaTable::Columns => self.columns.extend(serde_json::from_value::<ColumnRow>(row).ok()),
            SchemaTable::DroppedColumns => {
                self.dropped_columns.extend(serde_json::from_value::<DroppedColumnRow>(row).ok());
            }
            SchemaTable::Types => self.types.extend(serde_json::from_value::<TypeRow>(row).ok()),
            SchemaTable::Views => self.views.extend(serde_json::from_value::<ViewRow>(row).ok()),
        }
    }

    /// The tables and views that these rows define, and what is wrong with the others: a broken definition takes
    /// only its own table with it, or, as a user type, only those that use it.
    pub fn resolve(&self) -> (Schema, Vec<SchemaProblem>) {
        let rows = self.index();
        let mut problems = Vec::new();
        let types = self.user_types(&mut problems);
        let none = UserTypes::default();
        let mut tables = Vec::new();
        let defined = self.tables.iter().map(Definition::from).chain(self.views.iter().map(Definition::from));
        for definition in defined {
            let types = types.get(definition.keyspace).unwrap_or(&none);
            match rows.table(&definition, types, &mut problems) {
                Ok(table) => tables.push(table),
                Err((column, why)) => problems.push(SchemaProblem {
                    keyspace: definition.keyspace.into(),
                    subject: Subject::Table(definition.name.into()),
                    column,
                    why,
                }),
            }
        }
        (Schema::new(tables), problems)
    }

    /// The user types of each keyspace.
    fn user_types(&self, problems: &mut Vec<SchemaProblem>) -> BTreeMap<&str, UserTypes> {
        let mut rows: BTreeMap<&str, Vec<&TypeRow>> = BTreeMap::new();
        for row in &self.types {
            rows.entry(&row.keyspace_name).or_default().push(row);
        }
        let mut resolved = BTreeMap::new();
        for (keyspace, rows) in rows {
            let (types, broken) = UserTypes::resolve(&rows);
            resolved.insert(keyspace, types);
            problems.extend(broken.into_iter().map(|UserTypeProblem { type_name, field, why }| SchemaProblem {
                keyspace: keyspace.into(),
                subject: Subject::UserType(type_name),
                column: field,
                why: Why::UserType(why),
            }));
        }
        resolved
    }

    fn index(&self) -> Rows<'_> {
        let mut rows = Rows::default();
        for row in &self.columns {
            rows.columns.entry((&row.keyspace_name, &row.table_name)).or_default().push(row);
        }
        for row in &self.dropped_columns {
            rows.dropped.entry((&row.keyspace_name, &row.table_name)).or_default().push(row);
        }
        for definition in self.tables.iter().map(Definition::from).chain(self.views.iter().map(Definition::from)) {
            let count = rows.names.entry((definition.keyspace, definition.name)).or_insert(0_usize);
            *count = count.saturating_add(1);
            if let Some(id) = table_id(definition.id) {
                let count = rows.ids.entry(id).or_insert(0_usize);
                *count = count.saturating_add(1);
            }
        }
        rows
    }
}

/// What a row of `tables` and one of `views` have in common.
struct Definition<'a> {
    keyspace: &'a str,
    name: &'a str,
    id: &'a str,
    cdc: bool,
}

impl<'a> From<&'a TableRow> for Definition<'a> {
    fn from(row: &'a TableRow) -> Self {
        Self { keyspace: &row.keyspace_name, name: &row.table_name, id: &row.id, cdc: row.cdc == Some(true) }
    }
}

impl<'a> From<&'a ViewRow> for Definition<'a> {
    fn from(row: &'a ViewRow) -> Self {
        Self { keyspace: &row.keyspace_name, name: &row.view_name, id: &row.id, cdc: row.cdc == Some(true) }
    }
}

/// Why a table is unusable, with the column at fault.
type Refusal = (Option<String>, Why);

/// The rows by the table that they belong to, `(keyspace, table)`.
#[derive(Default)]
struct Rows<'a> {
    columns: BTreeMap<(&'a str, &'a str), Vec<&'a ColumnRow>>,
    dropped: BTreeMap<(&'a str, &'a str), Vec<&'a DroppedColumnRow>>,
    names: BTreeMap<(&'a str, &'a str), usize>,
    ids: BTreeMap<TableId, usize>,
}

impl Rows<'_> {
    fn table(
        &self,
        definition: &Definition<'_>,
        types: &UserTypes,
        problems: &mut Vec<SchemaProblem>,
    ) -> Result<TableSchema, Refusal> {
        let &Definition { keyspace, name, id, cdc } = definition;
        let id = table_id(id).ok_or_else(|| (None, Why::Id(id.into())))?;
        if self.names.get(&(keyspace, name)).is_some_and(|&n| n > 1) {
            return Err((None, Why::DefinedTwice));
        }
        if self.ids.get(&id).is_some_and(|&n| n > 1) {
            return Err((None, Why::IdTwice(id)));
        }
        let mut live = Live::default();
        for row in self.columns.get(&(keyspace, name)).into_iter().flatten() {
            live.add(row, types).map_err(|why| (Some(row.column_name.clone()), why))?;
        }
        let partition_key = in_positions(live.partition_key)?;
        if partition_key.is_empty() {
            return Err((None, Why::NoPartitionKey));
        }
        let clustering = in_positions(live.clustering)?;
        let mut columns = live.columns;
        columns.sort_by(|a, b| a.name.cmp(&b.name));
        columns.extend(self.dropped(keyspace, name, types, &columns, problems));
        Ok(TableSchema { id, keyspace: keyspace.into(), name: name.into(), cdc, partition_key, clustering, columns })
    }

    /// Dropped columns whose names are not in use again. Names of key columns do not count: they never stand in the
    /// log, so a key renamed to a dropped column's name hides nothing.
    fn dropped(
        &self,
        keyspace: &str,
        table: &str,
        types: &UserTypes,
        live: &[Column],
        problems: &mut Vec<SchemaProblem>,
    ) -> Vec<Column> {
        let live: BTreeSet<&str> = live.iter().map(|column| column.name.as_str()).collect();
        let mut dropped: BTreeMap<&str, Column> = BTreeMap::new();
        for row in self.dropped.get(&(keyspace, table)).into_iter().flatten() {
            if live.contains(row.column_name.as_str()) {
                continue;
            }
            match dropped_column(row, types) {
                Ok(column) => {
                    dropped.insert(&row.column_name, column);
                }
                Err(why) => problems.push(SchemaProblem {
                    keyspace: keyspace.into(),
                    subject: Subject::DroppedColumn(table.into()),
                    column: Some(row.column_name.clone()),
                    why,
                }),
            }
        }
        dropped.into_values().collect()
    }
}

/// The live columns of one table, as their rows come.
#[derive(Default)]
struct Live {
    names: BTreeSet<String>,
    partition_key: Vec<(i64, Column)>,
    clustering: Vec<(i64, Column)>,
    columns: Vec<Column>,
}

impl Live {
    fn add(&mut self, row: &ColumnRow, types: &UserTypes) -> Result<(), Why> {
        let kind = kind(&row.kind)?;
        let in_key = matches!(kind, ColumnKind::PartitionKey | ColumnKind::Clustering);
        let cql_type = column_type(&row.cql_type, if in_key { Freezing::Always } else { Freezing::AsWritten }, types)?;
        let name = name_in_log(row);
        if !self.names.insert(name.clone()) {
            return Err(Why::DefinedTwice);
        }
        let column = Column { name, cql_type, kind };
        match kind {
            ColumnKind::PartitionKey => self.partition_key.push((row.position, column)),
            ColumnKind::Clustering => self.clustering.push((row.position, column)),
            ColumnKind::Static | ColumnKind::Regular => self.columns.push(column),
        }
        Ok(())
    }
}

/// Key columns in the order of their positions, which must be all of 0, 1, 2 …: with a gap or a duplicate no value of
/// the key could be told from another.
fn in_positions(mut columns: Vec<(i64, Column)>) -> Result<Vec<Column>, Refusal> {
    columns.sort_by_key(|(position, _)| *position);
    let mut ordered = Vec::new();
    for (found, column) in columns {
        let expected = ordered.len();
        if usize::try_from(found) != Ok(expected) {
            return Err((Some(column.name), Why::Position { found, expected }));
        }
        ordered.push(column);
    }
    Ok(ordered)
}

fn dropped_column(row: &DroppedColumnRow, types: &UserTypes) -> Result<Column, Why> {
    let kind = match row.kind.as_deref().map(kind) {
        None => ColumnKind::Regular,
        Some(Ok(kind @ (ColumnKind::Static | ColumnKind::Regular))) => kind,
        Some(_) => return Err(Why::Kind(row.kind.clone().unwrap_or_default())),
    };
    let cql_type = column_type(&row.cql_type, Freezing::AsWritten, types)?;
    Ok(Column { name: row.column_name.clone(), cql_type, kind })
}

fn column_type(text: &str, freezing: Freezing, types: &UserTypes) -> Result<CqlType, Why> {
    parse_with(text, freezing, |name| types.lookup(name)).map(|parsed| parsed.cql_type).map_err(Why::Type)
}

/// `compact_value` is what releases before 3.0 called the one regular column of a dense table.
fn kind(text: &str) -> Result<ColumnKind, Why> {
    match text {
        "partition_key" => Ok(ColumnKind::PartitionKey),
        "clustering" => Ok(ColumnKind::Clustering),
        "static" => Ok(ColumnKind::Static),
        "regular" | "compact_value" => Ok(ColumnKind::Regular),
        _ => Err(Why::Kind(text.into())),
    }
}

/// The name as the log has it: the bytes of the row where they are text, else the row's rendering of them.
fn name_in_log(row: &ColumnRow) -> String {
    row.column_name_bytes
        .as_deref()
        .and_then(|bytes| bytes.strip_prefix("0x"))
        .and_then(hex_bytes)
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .unwrap_or_else(|| row.column_name.clone())
}

/// The 8-4-4-4-12 form only: what else `u128` would read (a sign, fewer digits) is no id.
pub(crate) fn table_id(text: &str) -> Option<TableId> {
    let mut digits = String::new();
    let mut groups = text.split('-');
    for len in [8, 4, 4, 4, 12] {
        digits.push_str(groups.next().filter(|group| group.len() == len)?);
    }
    if groups.next().is_some() || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u128::from_str_radix(&digits, 16).ok().map(TableId)
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::type_error::TypeCause;

    const SMALL: &str = r#"{
      "keyspaces": [{"keyspace_name":"ks","durable_writes":false,"replication":{"class":"x"}},{"keyspace_name":"ks2"}],
      "system_schema.tables": [
        {"keyspace_name":"ks","table_name":"t","id":"5a1c0000-0000-1000-8000-000000000001","cdc":true,"flags":["compound"]},
        {"keyspace_name":"ks","table_name":"old","id":"5A1C0000-0000-1000-8000-000000000002","cdc":null,"flags":null}
      ],
      "columns": [
        {"keyspace_name":"ks","table_name":"t","column_name":"c2","kind":"clustering","position":1,"clustering_order":"desc","type":"text"},
        {"keyspace_name":"ks","table_name":"t","column_name":"c1","kind":"clustering","position":0,"type":"frozen<addr>"},
        {"keyspace_name":"ks","table_name":"t","column_name":"p","kind":"partition_key","position":0,"type":"int"},
        {"keyspace_name":"ks","table_name":"t","column_name":"z","kind":"regular","position":-1,"type":"map<text, int>"},
        {"keyspace_name":"ks","table_name":"t","column_name":"a","kind":"static","position":-1,"type":"addr"},
        {"keyspace_name":"ks","table_name":"old","column_name":"k","kind":"partition_key","position":0,"type":"blob"},
        {"keyspace_name":"ks","table_name":"old","column_name":"v","column_name_bytes":"0x5646","kind":"compact_value","type":"empty"},
        {"keyspace_name":"ks","table_name":"v","column_name":"k","kind":"partition_key","position":0,"type":"int"}
      ],
      "dropped_columns": [
        {"keyspace_name":"ks","table_name":"t","column_name":"z","dropped_time":5,"kind":"regular","type":"text"},
        {"keyspace_name":"ks","table_name":"t","column_name":"p","dropped_time":"2026-01-01 00:00:00.000Z","kind":"static","type":"list<int>"},
        {"keyspace_name":"ks","table_name":"t","column_name":"b","dropped_time":9223372036854775,"type":"frozen<tuple<int, int>>"}
      ],
      "types": [{"keyspace_name":"ks","type_name":"addr","field_names":["street"],"field_types":["text"]}],
      "views": [{"keyspace_name":"ks","view_name":"v","id":"5a1c0000-0000-1000-8000-000000000003","cdc":false,"base_table_name":"t"}],
      "column_masks": [{"anything":1}]
    }"#;

    fn small() -> SystemSchema {
        serde_json::from_str(SMALL).unwrap()
    }

    fn table<'a>(schema: &'a Schema, name: &str) -> Option<&'a TableSchema> {
        schema.tables().iter().find(|table| table.name == name)
    }

    fn columns(columns: &[Column]) -> Vec<String> {
        columns.iter().map(|c| alloc::format!("{:?} {} {}", c.kind, c.name, c.cql_type)).collect()
    }

    #[test]
    fn rows_make_tables() {
        let rows = small();
        let (schema, problems) = rows.resolve();
        assert_eq!(problems, vec![]);
        assert_eq!(schema.tables().len(), 3);
        let t = schema.table(TableId(0x5a1c0000_0000_1000_8000_000000000001)).unwrap();
        assert_eq!((t.keyspace.as_str(), t.name.as_str(), t.cdc), ("ks", "t", true));
        assert_eq!(columns(&t.partition_key), ["PartitionKey p int"]);
        assert_eq!(columns(&t.clustering), ["Clustering c1 frozen<addr>", "Clustering c2 text"]);
        // The live `z` counts; the dropped `p` is none of the key's.
        assert_eq!(
            columns(&t.columns),
            ["Static a addr", "Regular z map<text, int>", "Regular b frozen<tuple<int, int>>", "Static p list<int>"]
        );
        let old = table(&schema, "old").unwrap();
        assert!(!old.cdc);
        assert_eq!(columns(&old.columns), ["Regular VF empty"], "the name is the bytes'");
        assert!(table(&schema, "v").is_some());
        assert_eq!(rows.keyspaces.iter().map(|k| k.durable_writes).collect::<Vec<_>>(), [false, true]);
        assert_eq!(
            rows.dropped_columns.iter().map(|d| d.dropped_time).collect::<Vec<_>>(),
            [Some(5), None, Some(9223372036854775)]
        );
    }

    #[test]
    fn rows_come_back_from_json() {
        let rows = small();
        let text = serde_json::to_string(&rows).unwrap();
        assert_eq!(serde_json::from_str::<SystemSchema>(&text).unwrap(), rows);
        assert_eq!(serde_json::from_str::<SystemSchema>(r#"{"tables":null}"#).unwrap(), SystemSchema::default());
    }

    /// Spoils the rows, and expects that `t` is lost for this reason and nothing else is.
    #[track_caller]
    fn loses_t(spoil: impl FnOnce(&mut SystemSchema), told: &str) {
        let mut rows = small();
        spoil(&mut rows);
        let (schema, problems) = rows.resolve();
        assert_eq!(problems.iter().map(ToString::to_string).collect::<Vec<_>>(), [told]);
        assert_eq!(table(&schema, "t"), None);
        assert!(table(&schema, "old").is_some() && table(&schema, "v").is_some());
    }

    #[test]
    fn a_broken_definition_takes_only_its_own_table() {
        loses_t(
            |s| s.tables[0].id = "+a1c0000-0000-1000-8000-000000000001".into(),
            "table ks.t: its id \"+a1c0000-0000-1000-8000-000000000001\" is no UUID",
        );
        loses_t(
            |s| s.columns[3].cql_type = "map<text>".into(),
            "table ks.t, column \"z\": type text at byte 8: expected ',' and the type of the map's values",
        );
        loses_t(|s| s.columns[0].position = 2, "table ks.t, column \"c2\": key position 2 where 1 should come");
        loses_t(|s| s.columns[0].position = 0, "table ks.t, column \"c1\": key position 0 where 1 should come");
        loses_t(|s| s.columns[2].position = -1, "table ks.t, column \"p\": key position -1 where 0 should come");
        loses_t(
            |s| s.columns[2].position = i64::MAX,
            "table ks.t, column \"p\": key position 9223372036854775807 where 0 should come",
        );
        loses_t(|s| s.columns[2].kind = "regular".into(), "table ks.t: it has no partition key");
        loses_t(|s| s.columns[3].kind = "odd".into(), "table ks.t, column \"z\": unknown kind \"odd\"");
        loses_t(|s| s.columns[3].column_name = "a".into(), "table ks.t, column \"a\": it is defined twice");
    }

    #[test]
    fn two_tables_with_one_name_or_id_are_both_unusable() {
        let mut rows = small();
        rows.tables.push(TableRow { id: "5a1c0000-0000-1000-8000-000000000009".into(), ..rows.tables[0].clone() });
        rows.views[0].id = rows.tables[1].id.to_lowercase();
        let (schema, problems) = rows.resolve();
        assert_eq!(schema.tables(), []);
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "table ks.t: it is defined twice",
                "table ks.old: another table has its id 5a1c0000-0000-1000-8000-000000000002",
                "table ks.t: it is defined twice",
                "table ks.v: another table has its id 5a1c0000-0000-1000-8000-000000000002",
            ]
        );
    }

    #[test]
    fn a_broken_user_type_takes_the_tables_that_use_it() {
        let mut rows = small();
        rows.types[0].field_types[0] = "frozen<addr>".into();
        let (schema, problems) = rows.resolve();
        assert!(table(&schema, "t").is_none() && table(&schema, "old").is_some());
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "type ks.addr: type text at byte 0: type \"addr\" is part of a cycle of types, or uses one",
                "table ks.t, column \"c1\": type text at byte 7: the definition of type \"addr\" is unusable",
            ]
        );
        // A type of another keyspace is no type of this one.
        let mut rows = small();
        rows.types[0].keyspace_name = "ks2".into();
        let (_, problems) = rows.resolve();
        assert!(matches!(&problems[0].why, Why::Type(e) if matches!(e.cause, TypeCause::UnknownUserType(_))));
    }

    #[test]
    fn a_broken_dropped_column_leaves_its_table() {
        let mut rows = small();
        rows.dropped_columns[2].cql_type = "gone".into();
        rows.dropped_columns[1].kind = Some("clustering".into());
        let (schema, problems) = rows.resolve();
        assert_eq!(columns(&table(&schema, "t").unwrap().columns), ["Static a addr", "Regular z map<text, int>"]);
        let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "table ks.t, dropped column \"p\": unknown kind \"clustering\"",
                "table ks.t, dropped column \"b\": type text at byte 0: the keyspace has no type \"gone\"",
            ]
        );
    }

    #[test]
    fn recorded_schemas_resolve_without_a_problem() {
        for (path, text) in crate::recorded_schemas::all() {
            let rows: SystemSchema = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
            let (schema, problems) = rows.resolve();
            assert_eq!(problems, vec![], "{path}");
            assert_eq!(schema.tables().len(), rows.tables.len() + rows.views.len(), "{path}");
            assert!(!rows.keyspaces.is_empty() && rows.keyspaces.iter().all(|k| k.durable_writes), "{path}");
        }
    }
}
