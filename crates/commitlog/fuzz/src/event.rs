//! Values of every type, turned into events.

use std::cell::RefCell;
use std::sync::OnceLock;

use cassandra_commitlog::{
    Cell, CellState, ClusteringValue, Column, ColumnData, ColumnKind, CqlType, DeletionTime, Expiry, Liveness,
    LogOffset, PartitionUpdate, Position, Row, Schema, SegmentId, Span, TableId, TableSchema, parse_type,
};
use cassandra_event::{Encoder, Format, Int64, KeyFormat, Settings, Source, TopicTemplate, Unit};

use super::bytes::Bytes;
use super::mutations::user_types;

const TYPES: [&str; 48] = [
    "ascii",
    "bigint",
    "blob",
    "boolean",
    "counter",
    "date",
    "decimal",
    "double",
    "duration",
    "empty",
    "float",
    "inet",
    "int",
    "smallint",
    "text",
    "time",
    "timestamp",
    "timeuuid",
    "tinyint",
    "uuid",
    "varint",
    "'org.apache.cassandra.db.marshal.CompositeType(org.apache.cassandra.db.marshal.Int32Type)'",
    "'com.acme.Shape'",
    "frozen<list<int>>",
    "frozen<list<text>>",
    "frozen<set<text>>",
    "frozen<map<text, int>>",
    "frozen<map<int, frozen<list<blob>>>>",
    "frozen<list<frozen<list<frozen<list<smallint>>>>>>",
    "frozen<tuple<int, text, blob>>",
    "frozen<tuple<frozen<tuple<int>>, float>>",
    "frozen<addr>",
    "frozen<\"Odd \"\"name\"\"\">",
    "frozen<\"empty\">",
    "vector<float, 3>",
    "vector<text, 2>",
    "vector<smallint, 3>",
    "vector<vector<int, 2>, 2>",
    "frozen<list<vector<int, 2>>>",
    "vector<frozen<list<int>>, 2>",
    "list<int>",
    "list<text>",
    "set<text>",
    "set<frozen<tuple<int, text>>>",
    "map<text, int>",
    "map<duration, decimal>",
    "addr",
    "\"Odd \"\"name\"\"\"",
];

/// A table for each type: it is the type of the key, of a clustering column and of a regular one.
fn tables() -> &'static [TableSchema] {
    static TABLES: OnceLock<Vec<TableSchema>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let types = user_types();
        let table = |(at, text): (usize, &&str)| {
            let cql_type = parse_type(text, &types).expect("a type of the tests");
            // Neither key nor clustering columns are multi-cell.
            let inner =
                if cql_type.is_multi_cell() { parse_type("blob", &types).expect("a type") } else { cql_type.clone() };
            let column =
                |name: &str, cql_type: &CqlType, kind| Column { name: name.into(), cql_type: cql_type.clone(), kind };
            TableSchema {
                id: TableId(at as u128),
                keyspace: "ks".into(),
                name: format!("t{at}"),
                cdc: true,
                partition_key: vec![column("p", &inner, ColumnKind::PartitionKey)],
                clustering: vec![column("c", &inner, ColumnKind::Clustering)],
                columns: vec![column("r", &cql_type, ColumnKind::Regular)],
            }
        };
        TYPES.iter().enumerate().map(table).collect()
    })
}

fn encoder(format: Format, key: KeyFormat, unit: Unit, int64: Int64, max_record_bytes: usize) -> Encoder {
    Encoder::new(Settings {
        format,
        key,
        unit,
        int64,
        max_record_bytes,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "cdc").expect("a template"),
        dead_letter_topic: "cdc.dead-letters".into(),
        cluster: "c \"1\"".into(),
        host_id: "6f1c2d3e-0000-4000-8000-000000000001".into(),
    })
}

thread_local! {
    static ENCODERS: RefCell<[Encoder; 4]> = RefCell::new([
        encoder(Format::Json, KeyFormat::Json, Unit::Mutation, Int64::Number, 1 << 20),
        encoder(Format::Protobuf, KeyFormat::Raw, Unit::Mutation, Int64::Number, 1 << 20),
        encoder(Format::Json, KeyFormat::Raw, Unit::Row, Int64::String, 700),
        encoder(Format::Protobuf, KeyFormat::Json, Unit::Row, Int64::Number, 700),
    ]);
}

/// The first byte chooses a type; the others are values of it: a key, a clustering value, a path, a cell's value.
pub fn values(data: &[u8]) {
    let mut input = Bytes(data);
    let table = &tables()[usize::from(input.byte()) % TYPES.len()];
    let choice = input.byte();
    let (shared, path) = (input.chunk(), input.chunk());
    // One value in three places finds as much as three values, and the fuzzer need not find it three times.
    let shared = if choice & 1 == 0 { input.0 } else { shared };
    let body = [shared, path, input.0].concat();
    let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("a short input");
    let (first, second) = (len(shared), len(shared) + len(path));
    let expiry = Expiry { ttl: 7, at: i64::from(choice) };
    let deletion = DeletionTime { marked_for_delete_at: -1, local_deletion_time: 1_500_000_000 };
    let multi_cell = table.columns[0].cql_type.is_multi_cell();
    let cell = Cell {
        timestamp: i64::from(choice) - 100,
        state: if choice & 2 == 0 { CellState::Live } else { CellState::Expiring(expiry) },
        path: if multi_cell { Span { start: first, end: second } } else { Span::default() },
        value: Span { start: second, end: len(&body) },
    };
    let tombstone = Cell { state: CellState::Deleted { at: 5 }, value: Span::default(), ..cell };
    let cells = if multi_cell { vec![cell, tombstone] } else { vec![cell] };
    let columns = [ColumnData {
        column: 0,
        deletion: (multi_cell && choice & 4 != 0).then_some(deletion),
        cells: 0..u32::try_from(cells.len()).expect("one or two"),
    }];
    let row = Row {
        clustering: 0..1,
        liveness: (choice & 8 != 0).then_some(Liveness { timestamp: 3, expiry: None }),
        deletion: None,
        shadowable: false,
        columns: 0..1,
    };
    let clusterings =
        [if choice & 16 == 0 { ClusteringValue::Value(Span { start: 0, end: first }) } else { ClusteringValue::Null }];
    let all = Span { start: 0, end: len(&body) };
    let update = PartitionUpdate {
        table,
        schema: Schema::new([]).number(),
        index: 0,
        key: shared,
        partition_deletion: (choice & 32 != 0).then_some(deletion),
        static_row: None,
        rows: &[row],
        range_deletes: &[],
        columns: &columns,
        cells: &cells,
        clusterings: &clusterings,
        body: &body,
        identity: [all, Span::default(), Span::default()],
    };
    encode(&update);
    // Other bytes, other text: a byte changed, one more, one less.
    let text = key_text(&update, shared);
    let at = usize::from(choice >> 3).min(shared.len().saturating_sub(1));
    let mut changed = shared.to_vec();
    if let Some(byte) = changed.get_mut(at) {
        *byte ^= 1 << (choice & 7);
        assert_ne!(key_text(&update, &changed), text, "{shared:x?} and {changed:x?}");
        assert_ne!(key_text(&update, &shared[1..]), text, "{shared:x?} without its first byte");
        assert_ne!(key_text(&update, &shared[..shared.len() - 1]), text, "{shared:x?} without its last byte");
    }
    assert_ne!(key_text(&update, &[shared, &[choice]].concat()), text, "{shared:x?} and one byte more");
}

/// The record's key in JSON, of an update with these bytes for a key.
fn key_text(update: &PartitionUpdate<'_>, key: &[u8]) -> Vec<u8> {
    let position = Position { segment: SegmentId(1), offset: LogOffset(100) };
    let source = Source { segment: "CommitLog-7-1.log", position };
    let (mut arena, mut records) = (Vec::new(), Vec::new());
    let update = PartitionUpdate { key, rows: &[], ..*update };
    ENCODERS
        .with_borrow_mut(|encoders| encoders[0].encode(&update, &source, &mut arena, &mut records))
        .expect("below the limit");
    records[0].key_bytes(&arena).to_vec()
}

fn encode(update: &PartitionUpdate<'_>) {
    let position = Position { segment: SegmentId(1), offset: LogOffset(100) };
    let source = Source { segment: "CommitLog-7-1.log", position };
    ENCODERS.with_borrow_mut(|encoders| {
        for encoder in encoders {
            let (mut arena, mut records) = (Vec::new(), Vec::new());
            encoder.encode(update, &source, &mut arena, &mut records).expect("below the limit");
            assert!(!records.is_empty(), "an update is an event");
            for record in &records {
                let (key, value) = (record.key_bytes(&arena), record.value_bytes(&arena));
                match encoder.settings().format {
                    Format::Json => is_json(value),
                    Format::Protobuf => is_message(value),
                }
                match encoder.settings().key {
                    KeyFormat::Json => is_json(key),
                    KeyFormat::Raw => assert_eq!(key, update.key),
                }
                assert_eq!(record.hash, cassandra_event::murmur2(key));
                assert!(!encoder.topic(record.table).is_empty());
            }
            let first = (arena.clone(), records.clone());
            arena.clear();
            records.clear();
            encoder.encode(update, &source, &mut arena, &mut records).expect("below the limit");
            assert_eq!(first, (arena, records), "the same input gives the same bytes");
        }
    });
}

fn is_json(text: &[u8]) {
    let parsed: Result<serde_json::Value, _> = serde_json::from_slice(text);
    assert!(parsed.is_ok(), "{:?}: {}", parsed.err(), String::from_utf8_lossy(text));
}

/// Fields of known wire types up to the last byte.
fn is_message(mut message: &[u8]) {
    while !message.is_empty() {
        let (tag, rest) = varint(message);
        message = match tag & 7 {
            0 => varint(rest).1,
            1 => rest.get(8..).expect("eight bytes"),
            2 => {
                let (len, rest) = varint(rest);
                rest.get(usize::try_from(len).expect("a length")..).expect("as many bytes")
            }
            other => panic!("wire type {other}"),
        };
    }
}

fn varint(bytes: &[u8]) -> (u64, &[u8]) {
    let end = bytes.iter().position(|byte| byte & 0x80 == 0).expect("an end") + 1;
    let value = bytes[..end].iter().rev().fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
    (value, &bytes[end..])
}
