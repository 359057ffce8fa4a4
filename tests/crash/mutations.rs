//! The mutations that the stand-in node writes: each carries a number of its own.
//!
//! Owns: the tables, as a schema file has them, and the bytes of their mutations. Does not own: framing (`node`). The
//! writers of the format are those of the decoder's own tests.

#[path = "../../crates/commitlog/tests/support/framing.rs"]
pub mod framing;
#[path = "../../crates/commitlog/tests/support/model.rs"]
#[allow(dead_code, reason = "the node writes a part of the grammar and reads nothing back")]
mod model;
#[path = "../../crates/commitlog/tests/support/wire.rs"]
mod wire;

use std::sync::Arc;

use cassandra_commitlog::{Schema, SystemSchema, TableId};
use model::{Cell, ColumnData, EPOCH_MICROS, Row, State, Style, Update, mutation, update};
use serde_json::{Value, json};

/// What a mutation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A row of the table with CDC: an event.
    Cdc,
    /// A row of a table without CDC.
    Plain,
    /// A row of a table that no schema has: a dead letter.
    Unknown,
    /// What a node writes first in each of its runs.
    Local,
}

const CDC: &str = "3f6a0a10-c6b1-11f1-8000-000000000001";
const PLAIN: &str = "3f6a0a10-c6b1-11f1-8000-000000000002";
const UNKNOWN: &str = "3f6a0a10-c6b1-11f1-8000-000000000003";
const LOCAL: &str = "7ad54392-bcdd-35a6-8417-4e047860b377";

/// The topic of the table with CDC.
pub const TOPIC: &str = "cassandra.load.numbers";

fn tables() -> Value {
    let row = |keyspace: &str, name: &str, id: &str, cdc: bool| json!({"keyspace_name": keyspace, "table_name": name, "id": id, "cdc": cdc, "flags": ["compound"]});
    json!([
        row("load", "numbers", CDC, true),
        row("load", "plain", PLAIN, false),
        row("load", "unknown", UNKNOWN, true),
        row("system", "local", LOCAL, false),
    ])
}

/// All tables, as rows of `system_schema`. The agent gets them without the one that it must not know.
fn system_schema(known: impl Fn(&str) -> bool) -> Value {
    let tables: Vec<Value> =
        tables().as_array().unwrap().iter().filter(|row| known(row["table_name"].as_str().unwrap())).cloned().collect();
    let columns: Vec<Value> = tables
        .iter()
        .flat_map(|table| {
            let column = |name: &str, kind: &str, position: i32, cql_type: &str| {
                json!({"keyspace_name": table["keyspace_name"], "table_name": table["table_name"], "column_name": name, "kind": kind, "position": position, "clustering_order": "none", "type": cql_type})
            };
            [column("p", "partition_key", 0, "text"), column("n", "regular", -1, "int"), column("pad", "regular", -1, "text")]
        })
        .collect();
    json!({
        "keyspaces": [{"keyspace_name": "load", "durable_writes": true}, {"keyspace_name": "system", "durable_writes": true}],
        "tables": tables,
        "columns": columns,
    })
}

/// The schema file of the agent.
pub fn schema_file() -> String {
    system_schema(|table| table != "unknown").to_string()
}

/// Makes the bodies of mutations.
pub struct Mutations {
    version: i32,
    schema: Arc<Schema>,
}

impl Mutations {
    pub fn new(version: i32) -> Self {
        let rows: SystemSchema = serde_json::from_value(system_schema(|_| true)).unwrap();
        let (schema, problems) = rows.resolve();
        assert!(problems.is_empty(), "{problems:?}");
        Self { version, schema: Arc::new(schema) }
    }

    /// One row that says `number`.
    pub fn body(&self, kind: Kind, key: &str, number: u32, pad: usize) -> Vec<u8> {
        let id = match kind {
            Kind::Cdc => CDC,
            Kind::Plain => PLAIN,
            Kind::Unknown => UNKNOWN,
            Kind::Local => LOCAL,
        };
        let id = TableId(u128::from_str_radix(&id.replace('-', ""), 16).unwrap());
        let table = self.schema.table(id).expect("a table of these");
        let at = EPOCH_MICROS + 300_000_000_000_000 + i64::from(number);
        let cell = |name: &str, value: Vec<u8>| ColumnData {
            name: name.to_owned(),
            deletion: None,
            cells: vec![Cell { timestamp: at, state: State::Live, path: Vec::new(), value }],
        };
        let columns = vec![cell("n", number.to_be_bytes().to_vec()), cell("pad", vec![b'x'; pad])];
        let row = Row { liveness: Some((at, None)), columns, ..Row::default() };
        let said = Update { rows: vec![row], ..Update::new(id, key.as_bytes()) };
        mutation(self.version, &[update(&said, &Style::of(self.version, table), table)])
    }
}
