//! What is wanted of the changes that are read.
//!
//! Owns: whether an update, and its records, are among it. Does not own: the patterns and ranges (`filter`).

use cassandra_commitlog::{PartitionUpdate, TableId};
use cassandra_event::Record;

use crate::filter::{Range, Tables};

/// What is wanted of the changes that are read.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// Of these tables.
    pub tables: Tables,
    /// Between these ends.
    pub range: Range,
    /// Of this partition: its record key.
    pub key: Option<serde_json::Map<String, serde_json::Value>>,
}

pub(super) fn wants_table(tables: &Tables, last: &mut Option<(TableId, bool)>, update: &PartitionUpdate<'_>) -> bool {
    match *last {
        Some((id, wanted)) if id == update.table.id => wanted,
        _ => {
            let wanted = tables.want(update.table);
            *last = Some((update.table.id, wanted));
            wanted
        }
    }
}

/// Whether the records from `start` on have the wanted key; takes them back if not.
pub(super) fn wants_key(
    wanted: Option<&serde_json::Map<String, serde_json::Value>>,
    start: (usize, usize),
    arena: &mut Vec<u8>,
    records: &mut Vec<Record>,
) -> bool {
    let (Some(wanted), Some(record)) = (wanted, records.get(start.1)) else { return true };
    if serde_json::from_slice::<serde_json::Map<_, _>>(record.key_bytes(arena)).is_ok_and(|key| key == *wanted) {
        return true;
    }
    arena.truncate(start.0);
    records.truncate(start.1);
    false
}
