//! Bodies of mutations, in all versions, of tables with columns of every kind.

use std::cell::RefCell;
use std::sync::{Arc, OnceLock};

use cassandra_commitlog::{
    CellState, ClusteringValue, Column, ColumnKind, Decoder, Entry, FormatVersion, LogOffset, MutationError,
    PartitionUpdate, Place, RangeDelete, Row, Schema, Span, TableId, TableSchema, TypeRow, UserTypes, parse_type,
};

use super::bytes::Bytes;

pub(crate) fn user_types() -> UserTypes {
    let row = |name: &str, fields: &[(&str, &str)]| TypeRow {
        keyspace_name: "ks".into(),
        type_name: name.into(),
        field_names: fields.iter().map(|(name, _)| (*name).into()).collect(),
        field_types: fields.iter().map(|(_, cql_type)| (*cql_type).into()).collect(),
    };
    let rows = [
        row("addr", &[("street", "text"), ("zip", "int"), ("tags", "frozen<set<text>>")]),
        row("Odd \"name\"", &[("$base64", "blob"), ("a", "frozen<addr>")]),
        row("empty", &[]),
    ];
    UserTypes::resolve(&rows.iter().collect::<Vec<_>>()).0
}

/// Key, clustering, static and regular columns by their types.
const TABLES: [[&[&str]; 4]; 8] = [
    [
        &["int"],
        &["int", "text"],
        &["int", "set<int>"],
        &["int", "text", "list<int>", "map<text, int>", "addr", "counter"],
    ],
    [&["text"], &[], &[], &["int"; 70]],
    [&["int", "text"], &["date"], &["text"; 66], &["frozen<list<int>>", "vector<float, 2>", "empty", "boolean"]],
    [&["uuid"], &["int"; 40], &[], &["int", "set<text>"]],
    [&["blob"], &["text"; 33], &["map<int, int>"], &["list<text>"; 65]],
    [&["int", "int", "blob"], &["vector<int, 3>", "empty"], &[], &["vector<text, 2>", "duration", "decimal", "varint"]],
    [&["inet"], &["timeuuid"], &["counter"], &["bigint"; 64]],
    [&["ascii"], &[], &["frozen<addr>"], &["addr"; 63]],
];

fn tables() -> Vec<TableSchema> {
    let types = user_types();
    let columns = |names: &[&str], kind: ColumnKind, prefix: &str| -> Vec<Column> {
        let named = names.iter().enumerate().map(|(at, text)| Column {
            name: format!("{prefix}{at}"),
            cql_type: parse_type(text, &types).expect("a type of the tests"),
            kind,
        });
        named.collect()
    };
    let table = |(at, [key, clustering, statics, regulars]): (usize, &[&[&str]; 4])| TableSchema {
        id: TableId(at as u128),
        keyspace: "ks".into(),
        name: format!("t{at}"),
        cdc: true,
        partition_key: columns(key, ColumnKind::PartitionKey, "p"),
        clustering: columns(clustering, ColumnKind::Clustering, "c"),
        columns: [columns(statics, ColumnKind::Static, "s"), columns(regulars, ColumnKind::Regular, "r")].concat(),
    };
    TABLES.iter().enumerate().map(table).collect()
}

pub(crate) fn schema() -> Arc<Schema> {
    static SCHEMA: OnceLock<Arc<Schema>> = OnceLock::new();
    SCHEMA.get_or_init(|| Arc::new(Schema::new(tables()))).clone()
}

thread_local! {
    /// Lives from input to input: what one mutation leaves behind must not be seen by the next.
    static USED: RefCell<Decoder> = RefCell::new(Decoder::new(schema()));
}

/// A mutation: of one update of a table that the first byte chooses, or all of it as it is.
pub fn mutation(data: &[u8]) {
    let mut input = Bytes(data);
    let choice = input.byte();
    let version = FormatVersion::from_number(6 + i32::from(choice % 4)).expect("6 to 9");
    let start: &[u8] = if version == FormatVersion::V9 { &[0] } else { &[] };
    let table = u128::from(choice >> 2 & 7).to_be_bytes();
    let epoch: &[u8] = if version == FormatVersion::V9 { &[7] } else { &[] };
    let body = if choice & 0x20 == 0 { [start, &[1], &table, epoch, input.0].concat() } else { input.0.to_vec() };
    let fresh = decode(&body, version, &mut Decoder::new(schema()));
    let used = USED.with_borrow_mut(|decoder| decode(&body, version, decoder));
    assert_eq!(fresh, used, "the decoder remembers more than column lists");
}

/// What is kept of an update to compare it.
#[derive(Debug, PartialEq)]
struct Kept {
    rows: Vec<Row>,
    ranges: Vec<RangeDelete>,
    cells: Vec<cassandra_commitlog::Cell>,
    clusterings: Vec<ClusteringValue>,
}

fn decode(body: &[u8], version: FormatVersion, decoder: &mut Decoder) -> (Vec<Kept>, Option<MutationError>) {
    let entry = Entry { body, body_at: LogOffset(0), crc: 0 };
    let mut kept = Vec::new();
    let mut mutation = match decoder.mutation(version, &entry) {
        Ok(mutation) => mutation,
        Err(error) => return (kept, Some(placed(error, body))),
    };
    let count = mutation.count() as usize;
    assert!(count * 18 <= body.len());
    loop {
        match mutation.next_update() {
            Ok(Some(update)) => {
                check(&update);
                kept.push(Kept {
                    rows: update.rows.to_vec(),
                    ranges: update.range_deletes.to_vec(),
                    cells: update.cells.to_vec(),
                    clusterings: update.clusterings.to_vec(),
                });
            }
            Ok(None) => {
                assert_eq!(kept.len(), count);
                return (kept, None);
            }
            Err(error) => {
                assert!(matches!(mutation.next_update(), Ok(None)), "nothing comes behind an error");
                return (kept, Some(placed(error, body)));
            }
        }
    }
}

fn placed(error: MutationError, body: &[u8]) -> MutationError {
    if let MutationError::Malformed(error) = &error {
        assert!(matches!(error.at, Place::Log(at) if at.0 as usize <= body.len()), "{error}");
    }
    assert!(!error.to_string().is_empty());
    error
}

/// What holds for every update.
fn check(update: &PartitionUpdate<'_>) {
    let inside = |span: Span| assert!(span.start <= span.end && span.end as usize <= update.body.len());
    update.identity.iter().for_each(|span| inside(*span));
    assert_eq!(update.key_components().count(), update.table.partition_key.len());
    for range in update.range_deletes {
        for bound in [&range.start, &range.end] {
            assert!(update.clustering_of(&bound.clustering).len() <= update.table.clustering.len());
        }
    }
    for value in update.clusterings {
        if let ClusteringValue::Value(span) = value {
            inside(*span);
        }
    }
    let static_row = update.static_row.map(|row| (row, ColumnKind::Static));
    for (row, kind) in static_row.into_iter().chain(update.rows.iter().map(|row| (row, ColumnKind::Regular))) {
        let values = if kind == ColumnKind::Static { 0 } else { update.table.clustering.len() };
        assert_eq!(update.clustering_of(&row.clustering).len(), values);
        for data in update.columns_of(row) {
            let column = update.definition(data).expect("a column of the table");
            assert_eq!(column.kind, kind);
            let cells = update.cells_of(data);
            assert!(column.cql_type.is_multi_cell() || (cells.len() == 1 && data.deletion.is_none()));
            for cell in cells {
                inside(cell.path);
                inside(cell.value);
                let deleted = matches!(cell.state, CellState::Deleted { .. });
                assert!(!deleted || cell.value.is_empty(), "a tombstone has no value");
                let len = column.cql_type.fixed_len().filter(|_| !cell.value.is_empty());
                assert!(len.is_none_or(|len| len == cell.value.len()), "a value of another length than its type's");
            }
        }
    }
}
