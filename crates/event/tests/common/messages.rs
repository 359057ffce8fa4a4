//! The event of an update as messages of prost, built the plain way from what the update was made of.

use cassandra_commitlog::{CellState, Column, CqlType, DeletionTime, Expiry, Liveness as Alive, Native};

use super::events::{digest, shards};
use super::model::{CellSpec, ColumnSpec, Owned, RowSpec, Spec};
use super::tree::{Tree, parse};

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod generated {
    include!("../generated/cassandra_cdc.v1.rs");
}

pub use generated::*;

fn of(kind: value::Kind) -> Value {
    Value { kind: Some(kind) }
}

fn tree(cql_type: &CqlType, tree: &Tree) -> Value {
    use value::Kind;
    of(match (tree, cql_type) {
        (Tree::Null, _) => Kind::Null(true),
        (Tree::Empty, _) => Kind::Empty(true),
        (Tree::Raw(bytes), _) => Kind::Raw(bytes.clone()),
        (Tree::Text(text), _) => Kind::Text(text.clone()),
        (Tree::Blob(bytes), _) => Kind::Blob(bytes.clone()),
        (Tree::Boolean(value), _) => Kind::Boolean(*value),
        (Tree::Integer(value), _) => Kind::Integer(*value),
        (Tree::Float(bits), _) => Kind::Float(f32::from_bits(*bits)),
        (Tree::Double(bits), _) => Kind::Double(f64::from_bits(*bits)),
        (Tree::Timestamp(value), _) => Kind::Timestamp(*value),
        (Tree::Uuid(id), _) => Kind::Uuid(id.to_vec()),
        (Tree::Date(day), _) => Kind::Date(*day),
        (Tree::Time(nanos), _) => Kind::Time(*nanos as u64),
        (Tree::Inet(bytes), _) => Kind::Inet(bytes.clone()),
        (Tree::Varint(value), _) => Kind::Varint(value.to_signed_bytes_be()),
        (Tree::Decimal(scale, unscaled), _) => {
            Kind::Decimal(Decimal { scale: *scale, unscaled: unscaled.to_signed_bytes_be() })
        }
        (Tree::Duration(months, days, nanos), _) => {
            Kind::Duration(Duration { months: *months, days: *days, nanos: *nanos })
        }
        (Tree::List(items), CqlType::Tuple(types)) => {
            Kind::List(List { values: types.iter().zip(items).map(|(inner, item)| self::tree(inner, item)).collect() })
        }
        (
            Tree::List(items),
            CqlType::List { element, .. } | CqlType::Set { element, .. } | CqlType::Vector { element, .. },
        ) => Kind::List(List { values: items.iter().map(|item| self::tree(element, item)).collect() }),
        (Tree::Floats(floats), _) => {
            Kind::Floats(Floats { values: floats.iter().map(|bits| f32::from_bits(*bits)).collect() })
        }
        (Tree::Map(items), CqlType::Map { key, value, .. }) => {
            let entry = |(left, right): &(Tree, Tree)| map::Entry {
                key: Some(self::tree(key, left)),
                value: Some(self::tree(value, right)),
            };
            Kind::Map(Map { entries: items.iter().map(entry).collect() })
        }
        (Tree::Udt(items), CqlType::Udt { definition, .. }) => {
            let fields = definition.fields.iter().zip(items).map(|(field, (name, item))| Named {
                name: name.clone(),
                value: Some(self::tree(&field.cql_type, item)),
            });
            Kind::Udt(Udt { fields: fields.collect() })
        }
        other => panic!("{other:?}"),
    })
}

pub fn value(cql_type: &CqlType, bytes: &[u8]) -> Value {
    tree(cql_type, &parse(cql_type, bytes))
}

fn deletion(deletion: DeletionTime, shadowable: bool) -> Deletion {
    Deletion { ts: deletion.marked_for_delete_at, at: deletion.local_deletion_time, shadowable }
}

fn ttl(expiry: Option<Expiry>) -> (Option<i32>, Option<i64>) {
    (expiry.map(|expiry| expiry.ttl), expiry.map(|expiry| expiry.at))
}

fn liveness(liveness: Alive) -> Liveness {
    let (ttl, expires) = ttl(liveness.expiry);
    Liveness { ts: liveness.timestamp, ttl, expires }
}

fn named(columns: &[Column], values: &[Option<Vec<u8>>]) -> Vec<Named> {
    let column = |(column, bytes): (&Column, &Option<Vec<u8>>)| Named {
        name: column.name.clone(),
        value: Some(match bytes {
            Some(bytes) => value(&column.cql_type, bytes),
            None => of(value::Kind::Null(true)),
        }),
    };
    columns.iter().zip(values).map(column).collect()
}

fn times(cell: &CellSpec) -> (Option<i32>, Option<i64>, Option<i64>) {
    match cell.state {
        CellState::Live => (None, None, None),
        CellState::Expiring(expiry) => (Some(expiry.ttl), Some(expiry.at), None),
        CellState::Deleted { at } => (None, None, Some(at)),
    }
}

fn simple(name: &str, cql_type: &CqlType, cell: &CellSpec) -> Cell {
    let (ttl, expires, deleted) = times(cell);
    let mut message = Cell { name: name.to_owned(), ts: cell.ts, ttl, expires, deleted, ..Cell::default() };
    if deleted.is_none() {
        message.value = Some(value(cql_type, &cell.value));
        if *cql_type == CqlType::Native(Native::Counter)
            && let Some(shards) = shards(&cell.value)
        {
            let sum = shards.iter().fold(0_i64, |sum, shard| sum.wrapping_add(shard.2));
            message.value = Some(of(value::Kind::Integer(sum)));
            let shard = |(id, clock, count, kind): (Vec<u8>, i64, i64, Option<&str>)| Shard {
                id,
                clock,
                count,
                kind: match kind {
                    None => shard::Kind::Global,
                    Some("local") => shard::Kind::Local,
                    Some(_) => shard::Kind::Remote,
                }
                .into(),
            };
            message.shards = shards.into_iter().map(shard).collect();
        }
    }
    message
}

fn element(cql_type: &CqlType, cell: &CellSpec) -> Element {
    let raw = CqlType::Custom { class: String::new() };
    let (path, value_type) = match cql_type {
        CqlType::List { element, .. } => (value(&CqlType::Native(Native::Timeuuid), &cell.path), Some(&**element)),
        CqlType::Set { element, .. } => (value(element, &cell.path), None),
        CqlType::Map { key, value: inner, .. } => (value(key, &cell.path), Some(&**inner)),
        CqlType::Udt { definition, .. } => {
            let index = i16::from_be_bytes(cell.path.as_slice().try_into().unwrap());
            match definition.fields.get(index as u16 as usize) {
                Some(field) => (of(value::Kind::Text(field.name.clone())), Some(&field.cql_type)),
                None => (of(value::Kind::Integer(i64::from(index))), Some(&raw)),
            }
        }
        _ => unreachable!(),
    };
    let (ttl, expires, deleted) = times(cell);
    let value = value_type.filter(|_| deleted.is_none()).map(|value_type| value(value_type, &cell.value));
    Element { path: Some(path), value, ts: cell.ts, ttl, expires, deleted }
}

fn row(spec: &Spec, row: &RowSpec) -> Row {
    let cell = |column: &ColumnSpec| {
        let definition = &spec.table.columns[column.column];
        if !definition.cql_type.is_multi_cell() {
            return simple(&definition.name, &definition.cql_type, &column.cells[0]);
        }
        Cell {
            name: definition.name.clone(),
            overwrite: column.deletion.map(|found| deletion(found, false)),
            elements: column.cells.iter().map(|cell| element(&definition.cql_type, cell)).collect(),
            ..Cell::default()
        }
    };
    Row {
        clustering: named(&spec.table.clustering, &row.clustering),
        liveness: row.liveness.map(liveness),
        delete: row.deletion.map(|found| deletion(found, row.shadowable)),
        cells: row.columns.iter().map(cell).collect(),
    }
}

pub fn event(spec: &Spec, owned: &Owned) -> Event {
    let host = "6f1c0000-0000-4000-8000-000000000001";
    let key: Vec<_> = spec.key.iter().cloned().map(Some).collect();
    let bound = |(values, inclusive): &(Vec<Option<Vec<u8>>>, bool)| {
        let bound = Bound { clustering: named(&spec.table.clustering, values), inclusive: *inclusive };
        (!values.is_empty() || !inclusive).then_some(bound)
    };
    Event {
        v: 1,
        id: format!("c1/{host}/1795246257030/62691/{}", spec.index),
        digest: digest(owned).to_be_bytes().to_vec(),
        part: 0,
        parts: 0,
        keyspace: spec.table.keyspace.clone(),
        table: spec.table.name.clone(),
        table_id: spec.table.id.0.to_be_bytes().to_vec(),
        key: named(&spec.table.partition_key, &key),
        partition_delete: spec.partition_deletion.map(|found| deletion(found, false)),
        r#static: spec.static_row.as_ref().map(|found| row(spec, found)),
        rows: spec.rows.iter().map(|found| row(spec, found)).collect(),
        range_deletes: spec
            .ranges
            .iter()
            .map(|range| RangeDelete {
                start: bound(&range.start),
                end: bound(&range.end),
                ts: range.deletion.marked_for_delete_at,
                at: range.deletion.local_deletion_time,
            })
            .collect(),
        source: Some(Source {
            cluster: "c1".to_owned(),
            host_id: host.to_owned(),
            segment: super::SEGMENT.to_owned(),
            position: 62691,
        }),
    }
}
