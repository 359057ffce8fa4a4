//! The table whose inserts are measured, and the bytes of an insert into it.
//!
//! Owns: its schema, for the decoder and as a schema file, and its mutations. Does not own: segments of them (`image`).

use cassandra_commitlog::{Column, ColumnKind, CqlType, Native, TableId, TableSchema};
use serde_json::{Value, json};

/// The topic of its events.
pub(crate) const TOPIC: &str = "cassandra.shop.orders";
pub(crate) const CLUSTER: &str = "shop";
pub(crate) const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";

const ID: TableId = TableId(0x5a1c_0000_0000_1000_8000_0000_0000_0001);
const ID_TEXT: &str = "5a1c0000-0000-1000-8000-000000000001";
/// What encoding stats count from.
const EPOCH_MICROS: u64 = 1_442_880_000_000_000;
/// By name, as mutations have them.
const REGULAR: [(&str, Native, &str); 5] = [
    ("amount", Native::Double, "double"),
    ("created", Native::Timestamp, "timestamp"),
    ("note", Native::Text, "text"),
    ("quantity", Native::Int, "int"),
    ("status", Native::Text, "text"),
];

/// The table, as the decoder wants it.
pub(crate) fn table() -> TableSchema {
    let column = |name: &str, native, kind| Column { name: name.to_owned(), cql_type: CqlType::Native(native), kind };
    TableSchema {
        id: ID,
        keyspace: "shop".to_owned(),
        name: "orders".to_owned(),
        cdc: true,
        partition_key: vec![column("customer_id", Native::Uuid, ColumnKind::PartitionKey)],
        clustering: vec![column("order_id", Native::Bigint, ColumnKind::Clustering)],
        columns: REGULAR.map(|(name, native, _)| column(name, native, ColumnKind::Regular)).into(),
    }
}

/// The same as a schema file.
pub(crate) fn schema_file() -> Value {
    let column = |name: &str, kind: &str, position: i32, order: &str, cql_type: &str| {
        json!({"keyspace_name": "shop", "table_name": "orders", "column_name": name, "kind": kind,
               "position": position, "clustering_order": order, "type": cql_type})
    };
    let mut columns = vec![
        column("customer_id", "partition_key", 0, "none", "uuid"),
        column("order_id", "clustering", 0, "asc", "bigint"),
    ];
    columns.extend(REGULAR.map(|(name, _, cql_type)| column(name, "regular", -1, "none", cql_type)));
    json!({
        "keyspaces": [{"keyspace_name": "shop", "durable_writes": true}],
        "tables": [{"keyspace_name": "shop", "table_name": "orders", "id": ID_TEXT, "cdc": true, "flags": ["compound"]}],
        "columns": columns,
    })
}

/// The mutation of an INSERT, as Cassandra 4.1 writes it: keys of its own, about 190 bytes.
pub(crate) fn insert(number: u64) -> Vec<u8> {
    // Golden-ratio hashing: keys without an order, the same in every run.
    let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let micros = 1_700_000_000_000_000 + number * 250;
    let mut out = vec![1]; // One update.
    out.extend_from_slice(&ID.0.to_be_bytes());
    vbytes(&mut out, &(u128::from(random) << 64 | u128::from(random.rotate_left(29))).to_be_bytes());
    out.push(0x10); // It has a row estimate, and neither a deletion nor a static row.
    uv(&mut out, micros - EPOCH_MICROS);
    uv(&mut out, (i32::MAX as u64) - 1_442_880_000); // Nothing is deleted.
    uv(&mut out, 0);
    uv(&mut out, REGULAR.len() as u64);
    for (name, _, _) in REGULAR {
        vbytes(&mut out, name.as_bytes());
    }
    uv(&mut out, 1);
    out.push(0x04 | 0x20); // A row with a timestamp and all columns.
    uv(&mut out, 0); // All clustering values are there.
    out.extend_from_slice(&(1_000_000 + number).to_be_bytes());
    uv(&mut out, 0); // The row's timestamp is the least one.
    let note = "please leave the parcel at the door of the neighbour, and ring twice before you go";
    let status = ["new", "paid", "shipped", "delivered"][(random >> 32) as usize % 4];
    cell(&mut out, |out| out.extend_from_slice(&((random >> 40) as f64 / 100.0).to_be_bytes()));
    cell(&mut out, |out| out.extend_from_slice(&(micros / 1000).to_be_bytes()));
    cell(&mut out, |out| vbytes(out, &note.as_bytes()[..40 + (random >> 50) as usize % 32]));
    cell(&mut out, |out| out.extend_from_slice(&(1 + (random >> 20) as u32 % 9).to_be_bytes()));
    cell(&mut out, |out| vbytes(out, status.as_bytes()));
    out.push(0x01); // The end.
    out
}

/// A cell with a value and its row's timestamp.
fn cell(out: &mut Vec<u8>, value: impl FnOnce(&mut Vec<u8>)) {
    out.push(0x08);
    value(out);
}

/// An unsigned vint in its shortest form.
fn uv(out: &mut Vec<u8>, value: u64) {
    let extra = (0..8_u32).find(|extra| value >> (7 * extra + 7) == 0).unwrap_or(8);
    let ones = !(0xff_u32 >> extra) as u8;
    let bytes = value.to_be_bytes();
    out.push(ones | value.checked_shr(8 * extra).unwrap_or(0) as u8);
    out.extend_from_slice(&bytes[8 - extra as usize..]);
}

/// A length and as many bytes.
fn vbytes(out: &mut Vec<u8>, bytes: &[u8]) {
    uv(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
