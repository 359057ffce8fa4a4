//! Events of `orders` as the structs that generated code and serde would want them in, ready to be written.
//!
//! Owns: the opponents of the encoders. They are read from our own output and must write it back byte for byte, so that
//! both sides of a row write the same.

use serde::{Deserialize, Serialize};

/// Messages as `prost` generates them.
#[allow(missing_docs, unreachable_pub, dead_code, clippy::all, reason = "generated")]
pub(crate) mod proto {
    include!("../../crates/event/tests/generated/cassandra_cdc.v1.rs");
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Event {
    v: u32,
    id: String,
    digest: String,
    keyspace: String,
    table: String,
    table_id: String,
    key: Key,
    rows: Vec<Row>,
    source: Source,
}

#[derive(Serialize, Deserialize)]
struct Key {
    customer_id: String,
}

#[derive(Serialize, Deserialize)]
struct Row {
    clustering: Clustering,
    liveness: Liveness,
    cells: Cells,
}

#[derive(Serialize, Deserialize)]
struct Clustering {
    order_id: i64,
}

#[derive(Serialize, Deserialize)]
struct Liveness {
    ts: i64,
}

#[derive(Serialize, Deserialize)]
struct Cells {
    amount: Cell<f64>,
    created: Cell<i64>,
    note: Cell<String>,
    quantity: Cell<i32>,
    status: Cell<String>,
}

#[derive(Serialize, Deserialize)]
struct Cell<T> {
    value: T,
    ts: i64,
}

#[derive(Serialize, Deserialize)]
struct Source {
    cluster: String,
    host_id: String,
    segment: String,
    position: u32,
}
