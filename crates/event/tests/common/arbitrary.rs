//! Types, values and updates by chance.

use std::sync::Arc;

use cassandra_commitlog::{
    CellState, Column, ColumnKind, CqlType, DeletionTime, Expiry, Field, Liveness, Native, TableId, TableSchema,
    UserType,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use super::model::{CellSpec, ColumnSpec, RangeSpec, RowSpec, Spec};
use super::tree::{push_vint, zigzag};

pub const NATIVES: [Native; 21] = [
    Native::Ascii,
    Native::Bigint,
    Native::Blob,
    Native::Boolean,
    Native::Counter,
    Native::Date,
    Native::Decimal,
    Native::Double,
    Native::Duration,
    Native::Empty,
    Native::Float,
    Native::Inet,
    Native::Int,
    Native::Smallint,
    Native::Text,
    Native::Time,
    Native::Timestamp,
    Native::Timeuuid,
    Native::Tinyint,
    Native::Uuid,
    Native::Varint,
];

/// Any type; what is outermost may be multi-cell.
pub fn any_type() -> BoxedStrategy<CqlType> {
    let leaf = prop_oneof![
        9 => select(NATIVES.as_slice()).prop_map(CqlType::Native),
        1 => Just(CqlType::Custom { class: "org.example.T".to_owned() }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        let boxed = inner.clone().prop_map(Box::new);
        prop_oneof![
            (boxed.clone(), any::<bool>()).prop_map(|(element, frozen)| CqlType::List { element, frozen }),
            (boxed.clone(), any::<bool>()).prop_map(|(element, frozen)| CqlType::Set { element, frozen }),
            (boxed.clone(), boxed.clone(), any::<bool>()).prop_map(|(key, value, frozen)| CqlType::Map {
                key,
                value,
                frozen
            }),
            vec(inner.clone(), 1..4).prop_map(CqlType::Tuple),
            (vec(inner, 1..4), any::<bool>(), 0..12_u8).prop_map(|(types, frozen, odd)| udt(types, frozen, odd)),
            (boxed, 1..4_u32).prop_map(|(element, dimension)| CqlType::Vector { element, dimension }),
        ]
    })
    .boxed()
}

fn udt(types: Vec<CqlType>, frozen: bool, odd: u8) -> CqlType {
    let names = match odd {
        0 => ["$base64", "b", "c"],
        1 => ["$empty", "b", "c"],
        _ => ["a", "é \"q\"", "zip"],
    };
    let fields = types.into_iter().zip(names).map(|(cql_type, name)| Field { name: name.to_owned(), cql_type });
    CqlType::Udt { definition: Arc::new(UserType { name: "u".to_owned(), fields: fields.collect() }), frozen }
}

/// A value of a type: mostly one that the server would write, sometimes one that it never would.
pub fn any_value(cql_type: &CqlType) -> BoxedStrategy<Vec<u8>> {
    let valid = valid(cql_type);
    prop_oneof![
        10 => valid.clone(),
        1 => Just(vec![]),
        1 => vec(any::<u8>(), 0..20),
        1 => (valid.clone(), vec(any::<u8>(), 1..5)).prop_map(|(value, more)| [value, more].concat()),
        1 => (valid.clone(), any::<prop::sample::Index>()).prop_map(|(mut value, at)| {
            value.truncate(at.index(value.len() + 1));
            value
        }),
        1 => (valid, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut value, at, byte)| {
            if !value.is_empty() {
                let at = at.index(value.len());
                value[at] = byte;
            }
            value
        }),
    ]
    .boxed()
}

fn integer<const N: usize>() -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        any::<[u8; N]>().prop_map(|bytes| bytes.to_vec()),
        (-300..300_i64).prop_map(|value| value.to_be_bytes()[8 - N..].to_vec()),
    ]
    .boxed()
}

fn varint() -> BoxedStrategy<Vec<u8>> {
    let minimal = |bytes: Vec<u8>| num_bigint::BigInt::from_signed_bytes_be(&bytes).to_signed_bytes_be();
    prop_oneof![vec(any::<u8>(), 1..10), vec(any::<u8>(), 10..80)].prop_map(minimal).boxed()
}

fn valid(cql_type: &CqlType) -> BoxedStrategy<Vec<u8>> {
    match cql_type {
        CqlType::Native(native) => scalar(*native),
        CqlType::Custom { .. } => vec(any::<u8>(), 0..20).boxed(),
        CqlType::List { element, .. } | CqlType::Set { element, .. } => {
            vec(item(element), 0..4).prop_map(|items| counted(items.len(), items.concat())).boxed()
        }
        CqlType::Map { key, value, .. } => vec((item(key), item(value)), 0..4)
            .prop_map(|items| {
                counted(items.len(), items.into_iter().flat_map(|(key, value)| [key, value].concat()).collect())
            })
            .boxed(),
        CqlType::Tuple(types) => components(types.iter().collect()),
        CqlType::Udt { definition, .. } => components(definition.fields.iter().map(|field| &field.cql_type).collect()),
        CqlType::Vector { element, dimension } => {
            let fixed = element.fixed_len().map(|len| len as usize);
            let of_len = move |value: Vec<u8>| match fixed {
                Some(len) => value.into_iter().chain(std::iter::repeat(7)).take(len).collect(),
                None => {
                    let mut out = vec![];
                    push_vint(&mut out, value.len() as u64);
                    [out, value].concat()
                }
            };
            vec(any_value(element).prop_map(of_len), *dimension as usize).prop_map(|items| items.concat()).boxed()
        }
    }
}

fn counted(count: usize, items: Vec<u8>) -> Vec<u8> {
    [(count as i32).to_be_bytes().to_vec(), items].concat()
}

fn item(cql_type: &CqlType) -> BoxedStrategy<Vec<u8>> {
    prop_oneof![
        9 => any_value(cql_type).prop_map(|value| [(value.len() as i32).to_be_bytes().to_vec(), value].concat()),
        1 => select(vec![-1_i32, -1, -1, -2, i32::MIN]).prop_map(|len| len.to_be_bytes().to_vec()),
    ]
    .boxed()
}

fn components(types: Vec<&CqlType>) -> BoxedStrategy<Vec<u8>> {
    let items: Vec<_> = types.into_iter().map(item).collect();
    let count = items.len();
    (items, 0..=count).prop_map(|(items, count)| items[..count].concat()).boxed()
}

fn scalar(native: Native) -> BoxedStrategy<Vec<u8>> {
    match native {
        Native::Text => any::<String>().prop_map(String::into_bytes).boxed(),
        Native::Ascii => "[\\x00-\\x7f]{0,20}".prop_map(String::into_bytes).boxed(),
        Native::Blob => vec(any::<u8>(), 0..40).boxed(),
        Native::Boolean => (0..2_u8).prop_map(|value| vec![value]).boxed(),
        Native::Tinyint => integer::<1>(),
        Native::Smallint => integer::<2>(),
        Native::Int => integer::<4>(),
        Native::Bigint | Native::Timestamp => integer::<8>(),
        Native::Float => prop_oneof![
            any::<u32>(),
            select(vec![0x7fc0_0000, 0xffc0_0000, 0x7f80_0000, 0xff80_0000, 0x8000_0000, 0x15ae_43fd, 0x95ae_43fd, 1]),
        ]
        .prop_map(|bits: u32| bits.to_be_bytes().to_vec())
        .boxed(),
        Native::Double => prop_oneof![
            any::<u64>(),
            any::<i32>().prop_map(|value| (f64::from(value) / 100.0).to_bits()),
            select(vec![
                0x7ff8_0000_0000_0000,
                0x7ff8_0000_0000_0001,
                f64::INFINITY.to_bits(),
                f64::NEG_INFINITY.to_bits(),
                (-0.0_f64).to_bits(),
                1
            ]),
        ]
        .prop_map(|bits: u64| bits.to_be_bytes().to_vec())
        .boxed(),
        Native::Uuid | Native::Timeuuid => any::<[u8; 16]>().prop_map(|id| id.to_vec()).boxed(),
        Native::Date => {
            prop_oneof![any::<u32>(), 0x7fbd_4bfb..0x802c_c0a3_u32].prop_map(|day| day.to_be_bytes().to_vec()).boxed()
        }
        Native::Time => {
            prop_oneof![0..86_400_000_000_000_i64, select(vec![-1, 86_399_999_999_999, 86_400_000_000_000])]
                .prop_map(|nanos| nanos.to_be_bytes().to_vec())
                .boxed()
        }
        Native::Inet => prop_oneof![
            any::<[u8; 4]>().prop_map(|address| address.to_vec()),
            any::<[u8; 16]>().prop_map(|address| address.to_vec()),
            any::<[u8; 4]>().prop_map(|address| [&[0; 10][..], &[0xff, 0xff], &address].concat()),
        ]
        .boxed(),
        Native::Varint => varint(),
        Native::Decimal => (prop_oneof![any::<i32>(), -20..20_i32], varint())
            .prop_map(|(scale, unscaled)| [scale.to_be_bytes().to_vec(), unscaled].concat())
            .boxed(),
        Native::Duration => (any::<i32>(), -40..40_i32, any::<i64>())
            .prop_map(|(months, days, nanos)| {
                let mut out = vec![];
                for value in [i64::from(months), i64::from(days), nanos] {
                    push_vint(&mut out, zigzag(value));
                }
                out
            })
            .boxed(),
        Native::Counter => counter(),
        Native::Empty => Just(vec![]).boxed(),
    }
}

fn counter() -> BoxedStrategy<Vec<u8>> {
    vec((any::<[u8; 32]>(), 0..4_u8), 0..4)
        .prop_map(|shards| {
            let (mut header, mut body) = (vec![], vec![]);
            for (index, (shard, kind)) in shards.iter().enumerate() {
                match kind {
                    0 => {}
                    1 => header.push(index as u16),
                    _ => header.push(index as u16 | 0x8000),
                }
                body.extend_from_slice(shard);
            }
            let mut out = (header.len() as u16).to_be_bytes().to_vec();
            header.iter().for_each(|entry| out.extend_from_slice(&entry.to_be_bytes()));
            [out, body].concat()
        })
        .boxed()
}

pub fn any_deletion() -> BoxedStrategy<DeletionTime> {
    (any_ts(), any_seconds())
        .prop_map(|(ts, at)| DeletionTime { marked_for_delete_at: ts, local_deletion_time: at })
        .boxed()
}

fn any_ts() -> BoxedStrategy<i64> {
    prop_oneof![
        8 => 1_700_000_000_000_000..1_700_000_001_000_000_i64,
        1 => any::<i64>(),
        1 => select(vec![0, -1, i64::MIN, i64::MAX])
    ]
    .boxed()
}

fn any_seconds() -> BoxedStrategy<i64> {
    prop_oneof![8 => 1_700_000_000..1_800_000_000_i64, 1 => 0..=i64::from(u32::MAX), 1 => Just(-1)].boxed()
}

fn any_expiry() -> BoxedStrategy<Expiry> {
    (0..=i32::MAX, any_seconds()).prop_map(|(ttl, at)| Expiry { ttl, at }).boxed()
}

fn any_liveness() -> BoxedStrategy<Liveness> {
    (any_ts(), option::of(any_expiry())).prop_map(|(timestamp, expiry)| Liveness { timestamp, expiry }).boxed()
}

fn any_cell(path: BoxedStrategy<Vec<u8>>, value: BoxedStrategy<Vec<u8>>) -> BoxedStrategy<CellSpec> {
    let state = prop_oneof![
        3 => Just(CellState::Live),
        1 => any_expiry().prop_map(CellState::Expiring),
        1 => any_seconds().prop_map(|at| CellState::Deleted { at }),
    ];
    (any_ts(), state, path, value)
        .prop_map(|(ts, state, path, value)| {
            let value = if matches!(state, CellState::Deleted { .. }) { vec![] } else { value };
            CellSpec { ts, state, path, value }
        })
        .boxed()
}

fn any_column(column: usize, cql_type: &CqlType) -> BoxedStrategy<ColumnSpec> {
    let uuid = any::<[u8; 16]>().prop_map(|id| id.to_vec()).boxed();
    let cells = match cql_type {
        CqlType::List { element, frozen: false } => vec(any_cell(uuid, any_value(element)), 0..4).boxed(),
        CqlType::Set { element, frozen: false } => {
            vec(any_cell(any_value(element), Just(vec![]).boxed()), 0..4).boxed()
        }
        CqlType::Map { key, value, frozen: false } => vec(any_cell(any_value(key), any_value(value)), 0..4).boxed(),
        CqlType::Udt { definition, frozen: false } => {
            let cell = |(index, field): (usize, &Field)| {
                let path = (index as i16).to_be_bytes().to_vec();
                any_cell(Just(path).boxed(), any_value(&field.cql_type)).boxed()
            };
            let beyond =
                any_cell(any::<[u8; 2]>().prop_map(|path| path.to_vec()).boxed(), vec(any::<u8>(), 0..4).boxed());
            let mut cells: Vec<BoxedStrategy<CellSpec>> = definition.fields.iter().enumerate().map(cell).collect();
            cells.push(beyond);
            let count = cells.len();
            (cells, 0..=count).prop_map(|(cells, count)| cells[..count].to_vec()).boxed()
        }
        _ => {
            return any_cell(Just(vec![]).boxed(), any_value(cql_type))
                .prop_map(move |cell| ColumnSpec { column, deletion: None, cells: vec![cell] })
                .boxed();
        }
    };
    (option::of(any_deletion()), cells)
        .prop_map(move |(deletion, cells)| ColumnSpec { column, deletion, cells })
        .boxed()
}

fn any_clustering(columns: &[Column], most: usize) -> BoxedStrategy<Vec<Option<Vec<u8>>>> {
    let values: Vec<_> =
        columns.iter().take(most).map(|column| option::weighted(0.9, any_value(&column.cql_type))).collect();
    values.boxed()
}

fn any_bound(columns: &[Column]) -> BoxedStrategy<(Vec<Option<Vec<u8>>>, bool)> {
    let columns = columns.to_vec();
    (0..=columns.len(), any::<bool>())
        .prop_flat_map(move |(most, inclusive)| (any_clustering(&columns, most), Just(inclusive)))
        .boxed()
}

fn any_row(table: &TableSchema, kind: ColumnKind) -> BoxedStrategy<RowSpec> {
    let columns: Vec<_> = table
        .columns
        .iter()
        .enumerate()
        .filter(|(_, column)| column.kind == kind)
        .map(|(index, column)| option::of(any_column(index, &column.cql_type)))
        .collect();
    let clustering =
        if kind == ColumnKind::Static { Just(vec![]).boxed() } else { any_clustering(&table.clustering, 9) };
    (clustering, option::of(any_liveness()), option::of(any_deletion()), any::<bool>(), columns)
        .prop_map(|(clustering, liveness, deletion, shadowable, columns)| RowSpec {
            clustering,
            liveness,
            deletion,
            shadowable: shadowable && deletion.is_some(),
            columns: columns.into_iter().flatten().collect(),
        })
        .boxed()
}

pub fn any_table() -> BoxedStrategy<TableSchema> {
    (vec(any_type(), 1..4), vec(any_type(), 0..3), vec((any_type(), any::<bool>()), 0..5))
        .prop_map(|(key, clustering, rest)| {
            let named = |prefix: &str, kind, types: Vec<CqlType>| {
                let column = |(index, cql_type)| Column { name: format!("{prefix}{index}"), cql_type, kind };
                types.into_iter().enumerate().map(column).collect::<Vec<_>>()
            };
            let mut columns = vec![];
            for (index, (cql_type, is_static)) in rest.into_iter().enumerate() {
                let name = ["plain", "\"quoted\"", "ünï", "d", ""][index].to_owned();
                let kind = if is_static { ColumnKind::Static } else { ColumnKind::Regular };
                columns.push(Column { name, cql_type, kind });
            }
            TableSchema {
                id: TableId(0x5a1c),
                keyspace: "shop".to_owned(),
                name: "orders".to_owned(),
                cdc: true,
                partition_key: named("k", ColumnKind::PartitionKey, key),
                clustering: named("c", ColumnKind::Clustering, clustering),
                columns,
            }
        })
        .boxed()
}

pub fn any_update() -> BoxedStrategy<Spec> {
    any_table()
        .prop_flat_map(|table| {
            let key: Vec<_> = table.partition_key.iter().map(|column| any_value(&column.cql_type)).collect();
            let range = (any_bound(&table.clustering), any_bound(&table.clustering), any_deletion())
                .prop_map(|(start, end, deletion)| RangeSpec { start, end, deletion });
            (
                Just(table.clone()),
                any::<u32>(),
                key,
                option::of(any_deletion()),
                option::of(any_row(&table, ColumnKind::Static)),
                vec(any_row(&table, ColumnKind::Regular), 0..3),
                vec(range, 0..3),
            )
        })
        .prop_map(|(table, index, key, partition_deletion, static_row, rows, ranges)| Spec {
            table,
            index,
            key,
            partition_deletion,
            static_row,
            rows,
            ranges,
        })
        .boxed()
}
