//! Each shape of DDL as nodes write it, and rows that come from elsewhere. Recorded logs are read in `tests/oracle.rs`.

use alloc::string::ToString;
use alloc::{format, vec};

use serde_json::json;

use super::*;
use crate::schema::{ColumnKind, TableId};

const FIRST: &str = "5a1c0000-0000-1000-8000-000000000001";
const SECOND: &str = "5a1c0000-0000-1000-8000-000000000002";

fn change(table: SchemaTable, key: &str, deleted: Option<i64>, written: Option<i64>, cells: Value) -> RowChange {
    let at = written.unwrap_or_default();
    let cells = cells.as_object().into_iter().flatten().map(|(name, value)| (name.clone(), (at, value.clone())));
    let state = RowState { deleted, written, cells: cells.collect() };
    RowChange { table, key: key.split('.').map(Into::into).collect(), state }
}

/// A row as 4.1 and later rewrite it: deleted just before.
fn table(name: &str, id: &str, cdc: bool, at: i64) -> RowChange {
    change(SchemaTable::Tables, name, Some(at - 1), Some(at), json!({"id": id, "cdc": cdc, "flags": ["compound"]}))
}

fn column(name: &str, kind: &str, position: i64, cql_type: &str, at: i64) -> RowChange {
    let cells = json!({"kind": kind, "position": position, "type": cql_type});
    change(SchemaTable::Columns, name, None, Some(at), cells)
}

fn gone(table: SchemaTable, key: &str, at: i64) -> RowChange {
    change(table, key, Some(at), None, Value::Null)
}

/// `CREATE TABLE ks.t (k int, c text, v int, PRIMARY KEY (k, c))`
fn create(id: &str, at: i64) -> Vec<RowChange> {
    vec![
        column("ks.t.k", "partition_key", 0, "int", at),
        column("ks.t.c", "clustering", 0, "text", at),
        column("ks.t.v", "regular", -1, "int", at),
        table("ks.t", id, true, at),
    ]
}

fn drop_table(at: i64) -> Vec<RowChange> {
    let columns = ["k", "c", "v"].map(|name| gone(SchemaTable::Columns, &format!("ks.t.{name}"), at));
    columns.into_iter().chain([gone(SchemaTable::Tables, "ks.t", at)]).collect()
}

fn store(batches: impl IntoIterator<Item = Vec<RowChange>>) -> SchemaStore {
    let mut store = SchemaStore::new();
    for batch in batches {
        store.apply(batch);
    }
    store
}

/// `t: k int | c text | v int, cdc`, of the table with this id.
fn shape(store: &SchemaStore, id: &str) -> Option<String> {
    let (schema, _) = store.schema();
    let table = schema.table(table_id(id).unwrap())?;
    let list = |columns: &[crate::Column]| {
        let each = columns.iter().map(|c| {
            let mark = if c.kind == ColumnKind::Static { " static" } else { "" };
            format!("{} {}{mark}", c.name, c.cql_type)
        });
        each.collect::<Vec<_>>().join(", ")
    };
    let keys = format!("{} | {} | {}", list(&table.partition_key), list(&table.clustering), list(&table.columns));
    Some(format!("{}: {keys}{}", table.name, if table.cdc { ", cdc" } else { "" }))
}

#[test]
fn the_empty_store_can_read_ddl() {
    let (schema, problems) = SchemaStore::new().schema();
    assert_eq!(problems, []);
    assert_eq!(schema.tables().len(), 11);
    assert!(schema.tables().iter().all(|table| table.keyspace == "system_schema" && !table.cdc));
}

#[test]
fn create_alter_and_rename() {
    let mut store = store([create(FIRST, 10)]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | v int, cdc");
    // ADD, with the table's row rewritten: only the new column is a change of the schema.
    let real = store.apply(vec![column("ks.t.s", "static", -1, "map<int, text>", 20), table("ks.t", FIRST, true, 20)]);
    assert_eq!(real.len(), 1);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | s map<int, text> static, v int, cdc");
    // DROP of a column: still decodable.
    store.apply(vec![
        gone(SchemaTable::Columns, "ks.t.v", 30),
        change(SchemaTable::DroppedColumns, "ks.t.v", None, Some(30), json!({"kind": "regular", "type": "int"})),
    ]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | s map<int, text> static, v int, cdc");
    assert_eq!(store.rows().dropped_columns[0].column_name, "v");
    // Added again with another type: the live one counts.
    store.apply(vec![column("ks.t.v", "regular", -1, "bigint", 40)]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | s map<int, text> static, v bigint, cdc");
    // RENAME of a key column: old row gone, new row there, at one time.
    store.apply(vec![gone(SchemaTable::Columns, "ks.t.c", 50), column("ks.t.d", "clustering", 0, "text", 50)]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | d text | s map<int, text> static, v bigint, cdc");
    // cdc off.
    assert_eq!(store.apply(vec![table("ks.t", FIRST, false, 60)]).len(), 1);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | d text | s map<int, text> static, v bigint");
    assert_eq!(store.apply(vec![table("ks.t", FIRST, false, 70)]), []);
}

#[test]
fn types_grow() {
    let cells = |fields: &[&str]| json!({"field_names": fields, "field_types": vec!["int"; fields.len()]});
    let mut batch = create(FIRST, 10);
    batch.push(change(SchemaTable::Types, "ks.point", None, Some(9), cells(&["x"])));
    batch.push(column("ks.t.p", "regular", -1, "frozen<point>", 10));
    let mut store = store([batch]);
    let fields = |store: &SchemaStore| store.rows().types[0].field_names.join(" ");
    assert_eq!(fields(&store), "x");
    store.apply(vec![change(SchemaTable::Types, "ks.point", None, Some(20), cells(&["x", "y"]))]);
    assert_eq!(fields(&store), "x y");
    // An older statement changes nothing, whenever it is read.
    assert_eq!(store.apply(vec![change(SchemaTable::Types, "ks.point", None, Some(19), cells(&["z"]))]), []);
    assert_eq!(fields(&store), "x y");
}

#[test]
fn a_dropped_table_is_known_by_its_id() {
    let mut store = store([create(FIRST, 10)]);
    assert_eq!(store.apply(drop_table(20)).len(), 4);
    assert_eq!(store.rows(), SystemSchema::default());
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | v int, cdc");
    // Made anew under its name, with other columns.
    store.apply(vec![column("ks.t.id", "partition_key", 0, "uuid", 30), table("ks.t", SECOND, true, 30)]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | v int, cdc");
    assert_eq!(shape(&store, SECOND).unwrap(), "t: id uuid |  | , cdc");
    // Brought back under its old id, as a restored backup is.
    store.apply(vec![gone(SchemaTable::Columns, "ks.t.id", 40), gone(SchemaTable::Tables, "ks.t", 40)]);
    store.apply(create(FIRST, 50));
    assert_eq!(store.past.iter().filter_map(id_of).collect::<Vec<_>>(), [SECOND]);
}

#[test]
fn a_dropped_keyspace_takes_all_of_its_tables() {
    let mut store = store([create(FIRST, 10), vec![change(SchemaTable::Keyspaces, "ks", None, Some(9), json!({}))]]);
    let tables = [SchemaTable::Columns, SchemaTable::Types, SchemaTable::Keyspaces, SchemaTable::Tables];
    let real = store.apply(tables.map(|table| gone(table, "ks", 20)).into());
    assert_eq!(real.len(), 3, "there are no types");
    assert_eq!(store.rows(), SystemSchema::default());
    assert!(shape(&store, FIRST).is_some());
    // What is older than the drop stays below it.
    assert_eq!(store.apply(vec![column("ks.t.w", "regular", -1, "int", 15)]), []);
    store.apply(create(SECOND, 30));
    assert_eq!(shape(&store, SECOND).unwrap(), "t: k int | c text | v int, cdc");
}

#[test]
fn a_view_is_a_table() {
    let view = change(SchemaTable::Views, "ks.t", None, Some(10), json!({"id": SECOND, "base_table_name": "b"}));
    let mut store = store([vec![column("ks.t.k", "partition_key", 0, "int", 10), view]]);
    assert_eq!(shape(&store, SECOND).unwrap(), "t: k int |  | ");
    store.apply(vec![gone(SchemaTable::Columns, "ks.t.k", 20), gone(SchemaTable::Views, "ks.t", 20)]);
    assert!(store.rows().views.is_empty() && shape(&store, SECOND).is_some());
}

#[test]
fn a_table_whose_beginning_is_unknown_stays_unknown() {
    let alter = vec![column("ks.t.w", "regular", -1, "int", 20), table("ks.t", FIRST, true, 20)];
    let store = store([alter]);
    assert_eq!(shape(&store, FIRST), None);
    assert_eq!(store.schema().1[0].to_string(), "table ks.t: it has no partition key");
}

#[test]
fn known_rows_are_undone_by_nothing_older() {
    let mut now = store([create(SECOND, 50)]);
    now.apply(vec![gone(SchemaTable::Columns, "ks.t.c", 60), column("ks.t.d", "clustering", 0, "text", 60)]);
    let mut store = SchemaStore::from_rows(&now.rows(), 100);
    assert_eq!(store.rows(), now.rows());
    // The log's own way there is read only now: another table under the name first.
    assert_eq!(store.apply(create(FIRST, 10)).len(), 4, "a definition of the past");
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | v int, cdc");
    store.apply(vec![column("ks.t.more", "regular", -1, "text", 15), table("ks.t", FIRST, true, 15)]);
    assert_eq!(shape(&store, FIRST).unwrap(), "t: k int | c text | more text, v int, cdc");
    assert_eq!(store.apply(drop_table(20)), []);
    // Then the one that is known, with the name that its key column had.
    assert_eq!(store.apply(create(SECOND, 50)), []);
    assert_eq!(store.rows(), now.rows());
    assert_eq!(shape(&store, SECOND).unwrap(), "t: k int | d text | v int, cdc");
    assert!(shape(&store, FIRST).is_some());
    // What comes later counts.
    store.apply(drop_table(120));
    assert!(store.rows().tables.is_empty());
}

#[test]
fn a_merge_only_adds() {
    let mut here = create(FIRST, 10);
    here.push(table("ks.t", FIRST, false, 11));
    let mut ours = store([here]);
    let mut theirs = store([create(FIRST, 10)]);
    theirs.apply(vec![
        gone(SchemaTable::Columns, "ks.t.v", 20),
        gone(SchemaTable::Columns, "ks.t.c", 20),
        column("ks.t.d", "clustering", 0, "text", 20),
        column("ks.t.w", "static", -1, "int", 20),
        change(SchemaTable::DroppedColumns, "ks.t.gone", None, Some(20), json!({"type": "text"})),
        change(SchemaTable::Types, "ks.point", None, Some(20), json!({"field_names": ["x"], "field_types": ["int"]})),
    ]);
    let pulled = theirs.rows();
    assert!(!ours.merge(&pulled, 100).is_empty());
    assert_eq!(shape(&ours, FIRST).unwrap(), "t: k int | c text | v int, w int static, gone text, cdc");
    assert_eq!(ours.rows().types, pulled.types);
    assert_eq!(ours.merge(&pulled, 200), []);
    // cdc stays, what is gone stays.
    let mut off = pulled.clone();
    off.tables[0].cdc = Some(false);
    off.types[0].field_names.clear();
    off.types[0].field_types.clear();
    assert_eq!(ours.merge(&off, 300), []);
    assert_eq!(ours.merge(&SystemSchema::default(), 300), []);
    // The table's own DDL, read later, still counts.
    ours.apply(drop_table(400));
    assert!(ours.rows().tables.is_empty());
}

#[test]
fn a_merge_brings_a_table_made_anew() {
    let mut ours = store([create(FIRST, 10)]);
    let theirs = store([vec![column("ks.t.id", "partition_key", 0, "uuid", 30), table("ks.t", SECOND, true, 30)]]);
    ours.merge(&theirs.rows(), 100);
    assert_eq!(shape(&ours, SECOND).unwrap(), "t: id uuid |  | , cdc");
    assert_eq!(shape(&ours, FIRST).unwrap(), "t: k int | c text | v int, cdc");
    // The log's own DDL comes behind.
    ours.apply(drop_table(20));
    ours.apply(vec![column("ks.t.id", "partition_key", 0, "uuid", 30), table("ks.t", SECOND, true, 30)]);
    assert_eq!(ours.rows(), theirs.rows());
}

#[test]
fn changes_applied_again_make_the_same() {
    let batches = [create(FIRST, 10), drop_table(20), create(SECOND, 30), vec![gone(SchemaTable::Columns, "ks", 40)]];
    let mut ours = SchemaStore::new();
    let mut again = SchemaStore::new();
    for batch in batches {
        let real = ours.apply(batch);
        again.apply(real.clone());
        assert_eq!(ours.apply(real), [], "what is read again changes nothing");
        assert_eq!((again.rows(), &again.past), (ours.rows(), &ours.past));
    }
}

#[test]
fn what_is_kept_of_the_past_is_bounded() {
    let mut store = SchemaStore::new();
    let id = |n: i64| format!("5a1c0000-0000-1000-8000-{n:012}");
    for n in 0..300 {
        store.apply(create(&id(n), n * 10 + 1));
        store.apply(drop_table(n * 10 + 2));
    }
    assert_eq!(store.past.len(), MAX_PAST);
    assert!(shape(&store, &id(43)).is_none() && shape(&store, &id(44)).is_some() && shape(&store, &id(299)).is_some());
}

#[test]
fn system_tables_of_a_later_release_are_read_too() {
    let mut store = SchemaStore::new();
    let id = "24101c25-a2ae-3af7-87c1-b40ee1aca33f";
    store.apply(vec![
        column("system_schema.columns.keyspace_name", "partition_key", 0, "text", 1),
        column("system_schema.columns.brand_new", "regular", -1, "int", 1),
        table("system_schema.columns", id, false, 1),
    ]);
    let (schema, _) = store.schema();
    let columns = schema.table(TableId(0x24101c25_a2ae_3af7_87c1_b40ee1aca33f)).unwrap();
    assert_eq!(columns.clustering.len(), 2);
    assert!(columns.columns.iter().any(|column| column.name == "brand_new"));
    assert!(columns.columns.iter().any(|column| column.name == "kind"));
}

#[test]
fn ranges_have_ends_inside_and_outside() {
    let key = |text: &str| -> Key { text.split('.').map(Into::into).collect() };
    let row = key("ks.b.m");
    let start = |end: &str, inclusive| is_inside(&row, &key(end), inclusive, |key, start| key > start);
    assert!(start("b", true) && !start("b", false) && start("a", false) && !start("c", true));
    assert!(start("b.l", false) && start("b.m", true) && !start("b.m", false) && !start("b.n", true));
    assert!(is_inside(&row, &Vec::new(), true, |_, _| false), "the partition's edge");
}
