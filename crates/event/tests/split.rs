//! Records that are too large, and one record per row: nothing is missing, nothing is larger than asked for.

mod common;

use cassandra_commitlog::{CqlType, Expiry, Liveness, Native};
use cassandra_event::{DeadLetter, Encoder, Format, Settings, Unit};
use common::messages::{self, DeadLetter as Letter, Event, Value, value::Kind};
use common::model::{
    CellSpec, ColumnSpec, RangeSpec, RowSpec, Spec, at_path, columns, dead, deletion, expiring, live, map, native, one,
    set, table,
};
use common::{Encoded, encode, rebuild, settings};
use proptest::prelude::*;
use prost::Message as _;

const LIMIT: usize = 4000;

fn limited(format: Format) -> Settings {
    Settings { max_record_bytes: LIMIT, ..settings(format) }
}

/// Something that an event says, with the bytes of a path and a value; chunks have numbers in place of other facts.
#[derive(Debug, Clone, PartialEq)]
struct Fact {
    of: String,
    path: Vec<u8>,
    value: Vec<u8>,
}

fn bytes(value: Option<&Value>) -> Vec<u8> {
    match value.and_then(|value| value.kind.clone()) {
        None => vec![],
        Some(Kind::Text(text)) => text.into_bytes(),
        Some(Kind::Blob(bytes)) => bytes,
        Some(Kind::Chunk(chunk)) => chunk.bytes,
        other => format!("{other:?}").into_bytes(),
    }
}

fn is_chunk(value: Option<&Value>) -> bool {
    matches!(value, Some(Value { kind: Some(Kind::Chunk(_)) }))
}

/// Appends what an event says; a chunk continues the fact before it unless it is the first of its path or value.
fn facts(event: &Event, all: &mut Vec<Fact>) {
    let plain = |of: String| Fact { of, path: vec![], value: vec![] };
    all.extend(event.partition_delete.iter().map(|found| plain(format!("partition {found:?}"))));
    let rows = event.r#static.iter().map(|row| ("static", row)).chain(event.rows.iter().map(|row| ("row", row)));
    for (kind, row) in rows {
        let of = format!("{kind} {:?}", row.clustering);
        all.extend(row.liveness.iter().map(|found| plain(format!("{of} {found:?}"))));
        all.extend(row.delete.iter().map(|found| plain(format!("{of} {found:?}"))));
        for cell in &row.cells {
            let of = format!("{of} {}", cell.name);
            all.extend(cell.overwrite.iter().map(|found| plain(format!("{of} {found:?}"))));
            if cell.elements.is_empty() && cell.overwrite.is_none() {
                let of = format!("{of} {} {:?} {:?}", cell.ts, cell.expires, cell.deleted);
                add(all, of, None, cell.value.as_ref());
            }
            for element in &cell.elements {
                let of = format!("{of} element {} {:?} {:?}", element.ts, element.ttl, element.deleted);
                add(all, of, element.path.as_ref(), element.value.as_ref());
            }
        }
    }
    all.extend(event.range_deletes.iter().map(|found| plain(format!("{found:?}"))));
}

fn add(all: &mut Vec<Fact>, of: String, path: Option<&Value>, value: Option<&Value>) {
    let fact = Fact { of, path: bytes(path), value: bytes(value) };
    let number = |value: Option<&Value>| match value {
        Some(Value { kind: Some(Kind::Chunk(chunk)) }) => chunk.chunk,
        _ => 0,
    };
    let continues = is_chunk(value)
        && (number(value) > 1 || path.is_none() && all.last().is_some_and(|last| !last.path.is_empty()))
        || number(path) > 1;
    match all.last_mut() {
        Some(last) if continues => {
            assert_eq!(last.of, fact.of);
            if is_chunk(path) {
                last.path.extend(fact.path);
            }
            last.value.extend(fact.value);
        }
        _ => all.push(fact),
    }
}

fn facts_of(encoded: &Encoded) -> Vec<Fact> {
    let mut all = vec![];
    encoded.values().for_each(|value| facts(&Event::decode(value).unwrap(), &mut all));
    all
}

fn same_in_parts(spec: &Spec) -> usize {
    let owned = spec.own();
    let whole = encode(Settings { max_record_bytes: usize::MAX, ..settings(Format::Protobuf) }, &owned);
    let id = Event::decode(whole.value()).unwrap().id;
    let expected = facts_of(&whole);
    for unit in [Unit::Mutation, Unit::Row] {
        let parts = encode(Settings { unit, ..limited(Format::Protobuf) }, &owned);
        assert_eq!(facts_of(&parts), expected);
        let json = encode(Settings { unit, ..limited(Format::Json) }, &owned);
        check_ids(&parts, &json, &id, unit);
    }
    encode(limited(Format::Protobuf), &owned).records.len()
}

fn check_ids(proto: &Encoded, json: &Encoded, id: &str, unit: Unit) {
    let mut before = None;
    for value in proto.values() {
        assert!(value.len() <= LIMIT, "{}", value.len());
        let event = Event::decode(value).unwrap();
        let tail = event.id.strip_prefix(id).unwrap();
        let (row, part) = tail.split_once("/p").unwrap_or((tail, "0"));
        assert_eq!(row.is_empty(), unit == Unit::Mutation);
        assert_eq!(event.part.to_string(), part);
        assert!(before != Some(event.id.clone()));
        before = Some(event.id);
    }
    let mut open = 0;
    for value in json.values() {
        assert!(value.len() <= LIMIT, "{}", value.len());
        let event: serde_json::Value = serde_json::from_slice(value).unwrap();
        let (part, parts) = (event["part"].as_u64().unwrap_or(0), event["parts"].as_u64().unwrap_or(0));
        assert_eq!(part, if open == 0 { parts.min(1) } else { parts - open + 1 });
        open = if part == 0 { 0 } else { parts - part };
        let suffix = format!("/p{part}");
        assert_eq!(event["id"].as_str().unwrap().ends_with(&suffix), part > 0);
    }
    assert_eq!(open, 0);
    assert!(json.records.iter().all(|record| record.key == json.records[0].key && record.hash == json.records[0].hash));
}

fn wide_table() -> cassandra_commitlog::TableSchema {
    let text = || native(Native::Text);
    let blob = || native(Native::Blob);
    let regular: [(&str, CqlType); 4] =
        [("a", text()), ("b", blob()), ("m", map(blob(), blob(), false)), ("s", set(text(), false))];
    let mut table = table(&[("k", native(Native::Int))], &[("c", native(Native::Int))], &regular);
    table.columns.extend(columns(cassandra_commitlog::ColumnKind::Static, &[("st", blob())]));
    table
}

fn text(len: usize) -> Vec<u8> {
    (0..len).map(|at| b'a' + (at % 23) as u8).collect()
}

fn row(order: i32, columns: Vec<ColumnSpec>) -> RowSpec {
    let liveness = Liveness { timestamp: 77, expiry: Some(Expiry { ttl: 5, at: 9 }) };
    let clustering = vec![Some(order.to_be_bytes().to_vec())];
    RowSpec { clustering, liveness: Some(liveness), deletion: Some(deletion(3, 4)), shadowable: false, columns }
}

fn many(column: usize, cells: Vec<CellSpec>) -> ColumnSpec {
    ColumnSpec { column, deletion: Some(deletion(1, 2)), cells }
}

fn spec(rows: Vec<RowSpec>) -> Spec {
    let mut spec = Spec::new(wide_table(), &[&[0, 0, 0, 1]]);
    spec.rows = rows;
    spec
}

#[test]
fn rows_then_cells_then_bytes() {
    let mut spec = spec((0..40).map(|order| row(order, vec![one(0, live(&text(300), 5))])).collect());
    spec.partition_deletion = Some(deletion(1, 2));
    spec.static_row = Some(RowSpec { columns: vec![one(4, live(&text(9000), 5))], ..RowSpec::default() });
    let edge = |order: i32| (vec![Some(order.to_be_bytes().to_vec())], true);
    let range = |order| RangeSpec { start: edge(order), end: edge(order + 1), deletion: deletion(7, 8) };
    spec.ranges = (0..90).map(range).collect();
    spec.rows.push(row(
        90,
        vec![
            one(0, dead(4, 5)),
            one(1, expiring(&text(20_000), 6, 7, 8)),
            many(2, (0..200).map(|at| at_path(&text(at), live(&text(200 - at), 9))).collect()),
            many(3, vec![]),
        ],
    ));
    assert!(same_in_parts(&spec) > 20);
}

#[test]
fn a_path_that_is_too_large_comes_before_its_value() {
    let cells = |path: usize, value: usize| vec![at_path(&text(path), live(&text(value), 9))];
    for (path, value) in [(9000, 0), (9000, 10), (9000, 9000), (10, 9000), (2500, 2500), (3700, 1)] {
        same_in_parts(&spec(vec![row(1, vec![many(2, cells(path, value))])]));
    }
    same_in_parts(&spec(vec![row(1, vec![many(3, cells(9000, 0))])]));
    same_in_parts(&spec(vec![row(1, vec![many(3, vec![at_path(&text(9000), dead(4, 5))])])]));
}

#[test]
fn chunks_of_json_join_to_the_value() {
    let value = text(30_000);
    let encoded = encode(limited(Format::Json), &spec(vec![row(1, vec![one(1, live(&value, 5))])]).own());
    let mut joined = vec![];
    for (index, part) in encoded.values().enumerate() {
        let event: serde_json::Value = serde_json::from_slice(part).unwrap();
        let chunk = &event["rows"][0]["cells"]["b"]["value"];
        assert_eq!(chunk["$chunk"], index + 1);
        assert_eq!(chunk["$chunks"], encoded.records.len());
        joined.extend(rebuild::base64(chunk["$base64"].as_str().unwrap()));
        assert_eq!(event["rows"][0].get("liveness").is_some(), index == 0);
    }
    assert_eq!(joined, value);
    // The room is used: no more parts than it takes.
    assert!(encoded.records.len() <= 30_000 * 4 / 3 / (LIMIT - 1000) + 1, "{}", encoded.records.len());
}

#[test]
fn what_cannot_be_cut_goes_out_whole() {
    let mut spec = Spec::new(table(&[("k", native(Native::Text))], &[], &[]), &[&text(60_000)]);
    spec.partition_deletion = Some(deletion(1, 2));
    for format in [Format::Json, Format::Protobuf] {
        assert_eq!(encode(limited(format), &spec.own()).records.len(), 1);
    }
    // An update that says nothing is a record all the same.
    spec.partition_deletion = None;
    for unit in [Unit::Mutation, Unit::Row] {
        assert_eq!(encode(Settings { unit, ..limited(Format::Json) }, &spec.own()).records.len(), 1);
    }
}

#[test]
fn one_record_per_row() {
    let encoded = encode(Settings { unit: Unit::Row, ..settings(Format::Protobuf) }, &common::model::example().own());
    let events: Vec<Event> = encoded.values().map(|value| Event::decode(value).unwrap()).collect();
    let shape = |event: &Event| {
        (event.partition_delete.is_some(), event.r#static.is_some(), event.rows.len(), event.range_deletes.len())
    };
    let shapes: Vec<_> = events.iter().map(shape).collect();
    let expected =
        [(true, false, 0, 0), (false, true, 0, 0), (false, false, 1, 0), (false, false, 1, 0), (false, false, 0, 1)];
    assert_eq!(shapes, expected);
    assert!(events.iter().enumerate().all(|(at, event)| event.id.ends_with(&format!("/62691/0/r{at}"))));
    assert!(events.iter().all(|event| event.digest == events[0].digest && event.key == events[0].key));
}

#[test]
fn dead_letters_are_chunked_alike() {
    let entry = text(50_000);
    let letter = DeadLetter {
        segment: common::SEGMENT,
        position: common::position(),
        reason: "unknown-table",
        detail: "table id \"5a1c\"",
        keyspace: None,
        table: Some("orders"),
        size: 50_000,
        crc: 0x9c0d_11aa,
        version: 7,
        bytes: &entry,
    };
    for format in [Format::Json, Format::Protobuf] {
        let encoder = Encoder::new(limited(format));
        let (mut arena, mut records, mut joined) = (vec![], vec![], vec![]);
        encoder.dead_letter(&letter, &mut arena, &mut records);
        assert!(records.len() > 12);
        for (index, record) in records.iter().enumerate() {
            let (key, value) = (record.key_bytes(&arena), record.value_bytes(&arena));
            assert!(key.len() + value.len() <= LIMIT);
            assert!(key.ends_with(b"/1795246257030/62691"));
            assert_eq!(encoder.topic(record.table), "cdc.dead-letters");
            let id = if format == Format::Json {
                let json: serde_json::Value = serde_json::from_slice(value).unwrap();
                let chunk = &json["entry"]["base64"];
                assert_eq!((json["part"].clone(), json["parts"].clone()), ((index + 1).into(), records.len().into()));
                assert_eq!(chunk["$chunk"], index + 1);
                joined.extend(rebuild::base64(chunk["$base64"].as_str().unwrap()));
                json["id"].as_str().unwrap().to_owned()
            } else {
                let message = Letter::decode(value).unwrap();
                assert_eq!(message.encode_to_vec(), value);
                assert_eq!((message.keyspace, message.table.as_deref()), (None, Some("orders")));
                match message.entry.unwrap().body {
                    Some(messages::entry::Body::Chunk(chunk)) => joined.extend(chunk.bytes),
                    other => panic!("{other:?}"),
                }
                message.id
            };
            assert!(id.ends_with(&format!("/62691/p{}", index + 1)));
        }
        assert_eq!(joined, entry);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_sizes_come_back(
        rows in proptest::collection::vec(
            (0..6000_usize, 0..6000_usize, proptest::collection::vec((0..5000_usize, 0..5000_usize), 0..5)),
            1..6,
        ),
    ) {
        let rows = rows.into_iter().zip(0..).map(|((a, b, elements), order)| {
            let cells = elements.into_iter().map(|(path, value)| at_path(&text(path), live(&text(value), 9))).collect();
            row(order, vec![one(0, live(&text(a), 1)), one(1, live(&text(b), 2)), many(2, cells)])
        });
        same_in_parts(&spec(rows.collect()));
    }
}

/// Every part repeats the clustering: a crafted mutation of a megabyte would take gigabytes. It is refused, and leaves
/// nothing behind.
#[test]
fn what_multiplies_by_repetition_is_refused() {
    let clustering = [("c", native(Native::Text))];
    let regular = [("m", map(native(Native::Int), native(Native::Int), false))];
    let mut spec = Spec::new(table(&[("k", native(Native::Int))], &clustering, &regular), &[&[0, 0, 0, 1]]);
    let cells = (0..2000i32).map(|at| at_path(&at.to_be_bytes(), live(&at.to_be_bytes(), 9))).collect();
    let column = ColumnSpec { column: 0, deletion: None, cells };
    spec.rows = vec![RowSpec { clustering: vec![Some(text(1_000_000))], columns: vec![column], ..RowSpec::default() }];
    let owned = spec.own();
    for format in [Format::Json, Format::Protobuf] {
        let mut encoder = Encoder::new(limited(format));
        let (mut arena, mut records) = (b"before".to_vec(), Vec::new());
        let refused = encoder.encode(&owned.update(), &common::source(), &mut arena, &mut records);
        assert!(refused.is_err() && arena == b"before" && records.is_empty());
    }
}

#[test]
fn records_keep_to_what_their_own_topic_takes() {
    let owned = spec(vec![row(0, vec![one(0, live(&text(3 * LIMIT), 1))])]).own();
    let expected = encode(limited(Format::Json), &owned);
    let mut encoder = Encoder::new(settings(Format::Json));
    let (mut arena, mut records) = (Vec::new(), Vec::new());
    encoder.encode(&owned.update(), &common::source(), &mut arena, &mut records).unwrap();
    assert_eq!(records.len(), 1);
    let table = records[0].table;
    assert!(!encoder.set_record_limit(table, usize::MAX), "more than the settings allow changes nothing");
    assert!(encoder.set_record_limit(table, LIMIT) && !encoder.set_record_limit(table, LIMIT));
    records.clear();
    arena.clear();
    encoder.encode(&owned.update(), &common::source(), &mut arena, &mut records).unwrap();
    let values: Vec<&[u8]> = records.iter().map(|record| record.value_bytes(&arena)).collect();
    assert_eq!(values, expected.values().collect::<Vec<_>>());
    assert!(encoder.set_record_limit(table, usize::MAX), "the topic takes more again");
}
