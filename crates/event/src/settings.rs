//! What an operator can choose about events.
//!
//! Owns: the choices. Does not own: their defaults and their text form (the configuration's).

use crate::topic::TopicTemplate;

/// The form of record values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON text.
    Json,
    /// Messages of [`crate::PROTO`].
    Protobuf,
}

/// The form of record keys. It doesn't depend on [`Format`]: changing that one moves no key to another partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFormat {
    /// A compact JSON object of the partition-key columns in declared order.
    Json,
    /// Cassandra's serialised partition key.
    Raw,
}

/// What one record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// All that a mutation says of one partition of one table.
    Mutation,
    /// One row, the static row, or one deletion of a partition or range.
    Row,
}

/// How JSON values write 64-bit integers: column values and write timestamps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Int64 {
    /// As numbers. Some readers round them beyond 2^53.
    Number,
    /// As strings. Record keys keep numbers, so that this choice moves no key.
    String,
}

/// All that an [`crate::Encoder`] has to be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The form of record values.
    pub format: Format,
    /// The form of record keys.
    pub key: KeyFormat,
    /// What one record holds.
    pub unit: Unit,
    /// How JSON values write 64-bit integers.
    pub int64: Int64,
    /// Bytes of key and value together above which a record is split. What every part must repeat (key, clustering)
    /// is never split: where that alone is above the limit, so is the record.
    pub max_record_bytes: usize,
    /// How the topics of tables are named.
    pub topic: TopicTemplate,
    /// The topic of dead letters and gap records.
    pub dead_letter_topic: String,
    /// The cluster's name: the first word of every id.
    pub cluster: String,
    /// The node's host id: the second word of every id.
    pub host_id: String,
}
