//! Updates that together use all of the grammar.
//!
//! Owns: what they say. Does not own: how that is written.

use cassandra_commitlog::{Schema, TableId};

use super::model::{
    Bound, Cell, ColumnData, Deletion, EPOCH_MICROS, EPOCH_SECONDS, Expiry, RangeDelete, Row, State, Style, Update,
    mutation, update,
};
use super::tables::{COMPOSITE, DEEP, MIXED, WIDE};
use super::writer::{Codec, Segment};

pub const NOW: i64 = EPOCH_MICROS + 300_000_000_000_000;
pub const SECOND: i64 = EPOCH_SECONDS + 300_000_000;

pub fn live(timestamp: i64, value: &[u8]) -> Cell {
    Cell { timestamp, state: State::Live, path: Vec::new(), value: value.to_vec() }
}

pub fn element(timestamp: i64, path: &[u8], value: &[u8]) -> Cell {
    Cell { path: path.to_vec(), ..live(timestamp, value) }
}

pub fn column(name: &str, cells: &[Cell]) -> ColumnData {
    ColumnData { name: name.to_owned(), deletion: None, cells: cells.to_vec() }
}

pub fn overwritten(name: &str, at: i64, cells: &[Cell]) -> ColumnData {
    ColumnData { deletion: Some(Deletion { at, local: SECOND }), ..column(name, cells) }
}

pub fn int(value: i32) -> Vec<u8> {
    value.to_be_bytes().to_vec()
}

pub fn clustering(c1: i32, c2: &str) -> Vec<Option<Vec<u8>>> {
    vec![Some(int(c1)), Some(c2.as_bytes().to_vec())]
}

pub const DELETION: Deletion = Deletion { at: NOW, local: SECOND };

/// INSERT, with a static column and one column of each form.
pub fn insert() -> Update {
    let at = NOW;
    let static_row = Row { columns: vec![column("s", &[live(at, &int(-1))])], ..Row::default() };
    let row = Row {
        clustering: clustering(7, "x"),
        liveness: Some((at, None)),
        columns: vec![
            column("a", &[live(at, &int(5))]),
            column("b", &[live(at, b"text")]),
            column("sm", &[live(at - 9, &[0, 1])]),
            overwritten("m", at - 1, &[element(at, b"k", &int(3))]),
            column("u", &[element(at, &[0, 1], &int(13))]),
        ],
        ..Row::default()
    };
    Update { static_row: Some(static_row), rows: vec![row], ..Update::new(MIXED, &int(4)) }
}

/// UPDATE with a TTL, tombstones, removal of elements and of a whole collection.
pub fn change() -> Update {
    let at = NOW + 5;
    let expiring = State::Expiring(Expiry { ttl: 500, at: SECOND + 500 });
    let removed = State::Deleted(SECOND);
    let row = Row {
        clustering: clustering(-7, ""),
        columns: vec![
            column("a", &[Cell { state: expiring, ..live(at, &int(8)) }]),
            column("b", &[Cell { state: removed, ..live(at, b"") }]),
            overwritten("l", at, &[]),
            column("st", &[Cell { state: removed, ..element(at, b"q", b"") }]),
        ],
        ..Row::default()
    };
    Update { rows: vec![row], ..Update::new(MIXED, &int(4)) }
}

/// Two ranges that touch, one that reaches from edge to edge of a prefix, a row and a deleted row.
pub fn deletions() -> Update {
    let bound = |values: &[i32], inclusive| Bound {
        clustering: values.iter().map(|value| Some(int(*value))).collect(),
        inclusive,
    };
    let second = Deletion { at: NOW + 1, local: SECOND + 1 };
    let ranges = vec![
        RangeDelete { start: bound(&[], true), end: bound(&[3], false), deletion: DELETION },
        RangeDelete { start: bound(&[3], true), end: bound(&[5], true), deletion: second },
        RangeDelete { start: bound(&[5], false), end: bound(&[9], true), deletion: DELETION },
        RangeDelete { start: bound(&[11], true), end: bound(&[11], true), deletion: DELETION },
    ];
    let rows = vec![Row { clustering: clustering(1, "gone"), deletion: Some(DELETION), ..Row::default() }];
    Update { deletion: Some(DELETION), ranges, rows, ..Update::new(MIXED, &int(4)) }
}

/// Some columns of a table with 70.
pub fn wide(columns: impl IntoIterator<Item = usize>) -> Update {
    let columns = columns.into_iter().map(|at| column(&format!("a{at:02}"), &[live(NOW, &int(at as i32))])).collect();
    let row = Row { liveness: Some((NOW, None)), columns, ..Row::default() };
    Update { rows: vec![row], ..Update::new(WIDE, b"pk") }
}

/// A row below 40 clustering columns, with empty and null values among them.
pub fn deep() -> Update {
    let value = |at: usize| match at {
        5 | 33 => Some(Vec::new()),
        39 => None,
        at if at % 2 == 0 => Some(int(at as i32)),
        at => Some(vec![b'c'; at]),
    };
    let row = Row { clustering: (0..40).map(value).collect(), liveness: Some((NOW, None)), ..Row::default() };
    Update { rows: vec![row], ..Update::new(DEEP, b"pk") }
}

/// A partition deletion below a composite key.
pub fn composite() -> Update {
    let key = [&[0, 4][..], &int(1), &[0, 0, 2], b"pk", &[0]].concat();
    Update { deletion: Some(DELETION), ..Update::new(COMPOSITE, &key) }
}

pub fn all() -> Vec<Update> {
    vec![insert(), change(), deletions(), wide([1, 69]), wide(0..70), deep(), composite()]
}

/// The bytes of an update in the style of its table.
pub fn bytes(version: i32, said: &Update, schema: &Schema, adapt: impl FnOnce(&mut Style)) -> Vec<u8> {
    let table = schema.table(said.table).expect("a table of the tests");
    let mut style = Style::of(version, table);
    adapt(&mut style);
    update(said, &style, table)
}

/// A mutation of one update.
pub fn body(version: i32, said: &Update, schema: &Schema) -> Vec<u8> {
    mutation(version, &[bytes(version, said, schema, |_| ())])
}

/// A small segment: two entries, an empty section, two more entries of which one has two updates.
pub fn segment(version: i32, codec: Codec, schema: &Schema) -> Segment {
    let two = mutation(
        version,
        &[bytes(version, &deletions(), schema, |_| ()), bytes(version, &composite(), schema, |_| ())],
    );
    let bodies = [body(version, &insert(), schema), body(version, &wide([3]), schema)];
    Segment::new(version, codec).section(&bodies).section(&[]).section(&[body(version, &change(), schema), two]).close()
}

/// A table that no test schema has.
pub const NO_TABLE: TableId = TableId(0x5a1c);
