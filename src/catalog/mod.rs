//! Where schema and identity come from: a node over CQL, a file, or the log.
//!
//! Owns: reading the first two into [`SystemSchema`] rows, and what DDL in the log made of them at which place
//! (`timeline`). Does not own: what rows and changes mean (`cassandra-commitlog`), which source counts when.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use cassandra_commitlog::{SystemSchema, TableSchema};

use crate::filter::Tables;

pub mod cql;
pub mod file;
pub mod timeline;
pub mod tls;

/// Who the node is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// `cluster_name` of its `cassandra.yaml`.
    pub cluster_name: String,
    /// Its host id, in the 8-4-4-4-12 form.
    pub host_id: String,
    /// The release that it runs, such as `4.1.10`.
    pub release_version: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "host {} of cluster {:?}, release {}", self.host_id, self.cluster_name, self.release_version)
    }
}

/// What a node says of itself and of its tables.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Who it is.
    pub identity: Identity,
    /// The rows that a schema is made of.
    pub schema: SystemSchema,
    /// All tables of `system_schema` with every column of every row: an object of arrays, as [`file::read`] reads it. It
    /// keeps what [`SystemSchema`] leaves out, so a file written today serves a release of tomorrow.
    pub document: serde_json::Value,
    /// When the first of the questions was asked, microseconds since 1970: the rows count as written then.
    pub at_micros: i64,
}

/// Keyspaces that bypass the commit log, with their tables that have `cdc = true` and are wanted: Cassandra takes that
/// without a word, and no change of theirs ever comes.
pub fn bypassing(rows: &SystemSchema, wanted: &Tables) -> BTreeMap<String, Vec<String>> {
    let bypass: BTreeSet<&str> =
        rows.keyspaces.iter().filter(|row| !row.durable_writes).map(|row| row.keyspace_name.as_str()).collect();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    if bypass.is_empty() {
        return found;
    }
    let (schema, _) = rows.resolve();
    let is_lost = |table: &&TableSchema| table.cdc && bypass.contains(table.keyspace.as_str()) && wanted.want(table);
    for table in schema.tables().iter().filter(is_lost) {
        found.entry(table.keyspace.clone()).or_default().push(table.name.clone());
    }
    found
}

/// A name as CQL takes it.
pub fn quoted(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    if name.bytes().all(plain) { name.to_owned() } else { format!("\"{name}\"") }
}
