//! The key of a record.
//!
//! Owns: the JSON object of the partition-key columns. Does not own: the partition that its hash chooses.
//!
//! Two keys of Cassandra never have one text, else two partitions would share their order and nothing could tell them
//! apart.

use cassandra_commitlog::PartitionUpdate;

use crate::json_text::push_raw;
use crate::plan::TablePlan;
use crate::settings::Int64;
use crate::value_json::push_value;

/// Appends `{"customer":42}`.
pub(crate) fn push_key(out: &mut Vec<u8>, plan: &TablePlan, update: &PartitionUpdate<'_>, int64: Int64) {
    if !is_whole(update) {
        // The decoder lends no such key; if it did, half a key would be another partition's.
        push_raw(out, update.key);
        return;
    }
    out.push(b'{');
    let columns = plan.partition_key.iter().zip(&update.table.partition_key);
    for (index, ((name, column), value)) in columns.zip(update.key_components()).enumerate() {
        name.push_member(out, index == 0);
        push_value(out, &column.cql_type, value, int64);
    }
    out.push(b'}');
}

/// Whether the components are all of the key: their number, their bytes, and the 0 behind each.
pub(crate) fn is_whole(update: &PartitionUpdate<'_>) -> bool {
    if update.table.partition_key.len() <= 1 {
        return true;
    }
    let (mut end, mut count) = (0, 0);
    for component in update.key_components() {
        end += 2 + component.len() + 1;
        count += 1;
        if update.key.get(end - 1) != Some(&0) {
            return false;
        }
    }
    end == update.key.len() && count == update.table.partition_key.len()
}
