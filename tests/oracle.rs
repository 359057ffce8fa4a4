//! Every recorded case against Cassandra's own reader: the same mutations in the same order at the same positions, and
//! in them every key, deletion, row, liveness, cell, path, timestamp, TTL, deletion time and range bound.

#[path = "../fixtures/load.rs"]
mod load;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use cassandra_cdc::keystore;
use cassandra_commitlog::*;
use load::Case;
use serde_json::{Value, json};

/// What one segment holds, in the oracle's words.
#[derive(Debug, Default)]
struct Reading {
    sections: Vec<Value>,
    mutations: Vec<Value>,
    /// Positions of entries with good checksums that could not be decoded, and why.
    undecodable: BTreeMap<u64, MutationError>,
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where the schema comes from.
enum Known {
    /// All of it is known beforehand.
    Fixed(Arc<Schema>),
    /// The log says it.
    Log(Box<SchemaStore>),
}

impl Known {
    fn schema(&self) -> Arc<Schema> {
        match self {
            Self::Fixed(schema) => schema.clone(),
            Self::Log(store) => Arc::new(store.schema().0),
        }
    }

    /// A node writes to its own tables before it writes down what they are: nobody needs those mutations.
    fn lacks_system_table(&self, reading: &mut Reading, position: &Value) -> bool {
        let position = position.as_u64().unwrap();
        let of_system = |error: &MutationError| match error {
            MutationError::UnknownTable { id } => {
                system_table(*id).is_some_and(|(keyspace, _)| keyspace != "system_schema")
            }
            MutationError::UnknownColumn { keyspace, .. } => keyspace == "system",
            MutationError::Malformed(_) => false,
        };
        let lacks = matches!(self, Self::Log(_)) && reading.undecodable.get(&position).is_some_and(of_system);
        lacks && reading.undecodable.remove(&position).is_some()
    }
}

fn read(name: &SegmentName, file: &[u8], known: &mut Known, key: Option<Key>) -> Reading {
    let descriptor = Descriptor::parse(file).unwrap();
    descriptor.check_name(name).unwrap();
    let mut reading = Reading::default();
    let mut sections = Sections::new(file, &descriptor, Tail::Sealed);
    let mut plaintext = Plaintext::new(key);
    let mut decoder = Decoder::new(known.schema());
    while let Step::Item(section) = sections.step().unwrap() {
        let body = plaintext.of(&section, &descriptor).unwrap();
        reading.sections.push(json!({
            "start": section.marker.0 + 8, "end": section.end.0,
            "logical_end": section.start.0 + u32::try_from(body.len()).unwrap(),
        }));
        for entry in Entries::new(body, section.start) {
            let entry = entry.unwrap();
            let mut changes = Vec::new();
            let follow = |update: &PartitionUpdate<'_>| match known {
                Known::Fixed(_) => {}
                Known::Log(store) => changes.extend(store.changes_in(update)),
            };
            match mutation(name, &entry, &mut decoder, descriptor.version, follow) {
                Ok(value) => reading.mutations.push(value),
                Err(error) => {
                    reading.undecodable.insert(entry.end().0.into(), error);
                }
            }
            if let (Known::Log(store), false) = (&mut *known, changes.is_empty())
                && !store.apply(changes).is_empty()
            {
                decoder = Decoder::new(known.schema());
            }
        }
    }
    reading
}

fn mutation(
    name: &SegmentName,
    entry: &Entry<'_>,
    decoder: &mut Decoder,
    version: FormatVersion,
    mut each: impl FnMut(&PartitionUpdate<'_>),
) -> Result<Value, MutationError> {
    let mut mutation = decoder.mutation(version, entry)?;
    let mut updates = Vec::new();
    let mut key = String::new();
    while let Some(update) = mutation.next_update()? {
        key = hex(update.key);
        each(&update);
        updates.push(update_value(&update));
    }
    assert_eq!(updates.len(), mutation.count() as usize);
    let cdc = updates.iter().any(|update| update["cdc"] == true);
    Ok(json!({
        "segment": name.to_string(), "segment_id": name.id.0, "position": entry.end().0, "size": entry.body.len(),
        "keyspace": updates[0]["keyspace"], "key": key, "cdc": cdc, "updates": updates,
    }))
}

fn update_value(update: &PartitionUpdate<'_>) -> Value {
    let named = |values: Vec<Value>, columns: &[Column]| -> Value {
        columns.iter().zip(values).map(|(column, value)| json!({"column": column.name, "value": value})).collect()
    };
    let clustering = |range: &std::ops::Range<u32>| {
        let values = update.clustering_of(range).iter().map(|value| match value {
            ClusteringValue::Null => Value::Null,
            ClusteringValue::Value(span) => hex(update.bytes(*span)).into(),
        });
        named(values.collect(), &update.table.clustering)
    };
    let key_parts = update.key_components().map(|part| hex(part).into()).collect();
    let unfiltered: Vec<Value> = update
        .rows
        .iter()
        .map(|row| {
            let mut value = row_value(update, row);
            value["clustering"] = clustering(&row.clustering);
            value
        })
        .collect();
    let ranges: Vec<Value> = update
        .range_deletes
        .iter()
        .map(|range| {
            json!({
                "start": clustering(&range.start.clustering), "start_inclusive": range.start.inclusive,
                "end": clustering(&range.end.clustering), "end_inclusive": range.end.inclusive,
                "deletion": deletion(Some(range.deletion)),
            })
        })
        .collect();
    json!({
        "keyspace": update.table.keyspace, "table": update.table.name, "table_id": update.table.id.to_string(),
        "cdc": update.table.cdc, "key": hex(update.key), "key_parts": named(key_parts, &update.table.partition_key),
        "partition_deletion": deletion(update.partition_deletion),
        "static": update.static_row.map(|row| row_value(update, row)), "rows": unfiltered, "ranges": ranges,
    })
}

fn deletion(deletion: Option<DeletionTime>) -> Value {
    deletion.map_or(Value::Null, |at| json!({"mfda": at.marked_for_delete_at, "ldt": at.local_deletion_time}))
}

fn row_value(update: &PartitionUpdate<'_>, row: &Row) -> Value {
    let (mut cells, mut complex_deletions) = (Vec::new(), Vec::new());
    for data in update.columns_of(row) {
        let column = update.definition(data).unwrap();
        if let Some(at) = data.deletion {
            let mut value = deletion(Some(at));
            value["column"] = column.name.clone().into();
            complex_deletions.push(value);
        }
        for cell in update.cells_of(data) {
            let path = column.cql_type.is_multi_cell().then(|| hex(update.bytes(cell.path)));
            let (ttl, ldt) = match cell.state {
                CellState::Live => (Value::Null, Value::Null),
                CellState::Expiring(expiry) => (expiry.ttl.into(), expiry.at.into()),
                CellState::Deleted { at } => (Value::Null, at.into()),
            };
            let tombstone = matches!(cell.state, CellState::Deleted { .. });
            let value = if tombstone { Value::Null } else { hex(update.bytes(cell.value)).into() };
            cells.push(json!({
                "column": column.name, "path": path, "timestamp": cell.timestamp, "ttl": ttl, "ldt": ldt,
                "tombstone": tombstone, "value": value,
                "counter": column.cql_type == CqlType::Native(Native::Counter) && !tombstone,
            }));
        }
    }
    let liveness = row.liveness.map(|liveness| {
        let expiry = liveness.expiry;
        json!({"timestamp": liveness.timestamp, "ttl": expiry.map(|e| e.ttl), "ldt": expiry.map(|e| e.at)})
    });
    let mut deletion = deletion(row.deletion);
    if deletion.is_object() {
        deletion["shadowable"] = row.shadowable.into();
    }
    json!({"liveness": liveness, "deletion": deletion, "cells": cells, "complex_deletions": complex_deletions})
}

/// The oracle's update in the same words: its renderings left out, its markers folded to ranges.
fn oracle_update(update: &Value) -> Value {
    let values = |list: &Value| -> Value {
        let pick = |part: &Value| json!({"column": part["column"], "value": part["value"]});
        list.as_array().unwrap().iter().map(pick).collect()
    };
    let row = |row: &Value| {
        let pick = |cell: &Value| {
            json!({
                "column": cell["column"], "path": cell["path"], "timestamp": cell["timestamp"], "ttl": cell["ttl"],
                "ldt": cell["ldt"], "tombstone": cell["tombstone"], "value": cell["value"], "counter": cell["counter"],
            })
        };
        let cells: Vec<Value> = row["cells"].as_array().unwrap().iter().map(pick).collect();
        let deletions = row["complex_deletions"].as_array().cloned().unwrap_or_default();
        json!({
            "liveness": row["liveness"], "deletion": row["deletion"], "cells": cells, "complex_deletions": deletions,
        })
    };
    let (mut rows, mut ranges, mut open) = (Vec::new(), Vec::new(), None);
    for item in update["unfiltered"].as_array().unwrap() {
        if item["kind"] == "row" {
            let mut value = row(item);
            value["clustering"] = values(&item["clustering"]);
            rows.push(value);
            continue;
        }
        let bound = item["bound"].as_str().unwrap();
        if !item["close"].is_null() {
            let start: &Value = Option::take(&mut open).expect("an open range");
            ranges.push(json!({
                "start": values(&start["clustering"]),
                "start_inclusive": start["bound"].as_str().unwrap().contains("INCL_START"),
                "end": values(&item["clustering"]), "end_inclusive": bound.starts_with("INCL_END"),
                "deletion": item["close"],
            }));
        }
        if !item["open"].is_null() {
            open = Some(item);
        }
    }
    let statics = &update["static"];
    json!({
        "keyspace": update["keyspace"], "table": update["table"], "table_id": update["table_id"], "cdc": update["cdc"],
        "key": update["key"], "key_parts": values(&update["key_parts"]),
        "partition_deletion": update["partition_deletion"],
        "static": if statics.is_null() { Value::Null } else { row(statics) }, "rows": rows, "ranges": ranges,
    })
}

/// System tables are in the oracle's short form: identity and counts.
///
/// 3.11 has no reader that would run here: 4.0's reads its segments, with 4.0's own definition of `system.local`, in
/// which `thrift_version` is a dropped column whose cells it leaves out.
fn short(update: &Value) -> Value {
    let hidden = |cell: &&Value| update["table"] != "local" || cell["column"] != "thrift_version";
    let cells = |row: &Value| row["cells"].as_array().unwrap().iter().filter(hidden).count();
    let count = |rows: &[Value]| -> usize { rows.iter().map(cells).sum() };
    let rows = update["rows"].as_array().unwrap();
    let statics: Vec<Value> = update["static"].is_object().then(|| update["static"].clone()).into_iter().collect();
    json!({
        "keyspace": update["keyspace"], "table": update["table"], "table_id": update["table_id"], "cdc": update["cdc"],
        "key": update["key"], "partition_deletion": update["partition_deletion"],
        "rows": rows.len() + statics.len(), "cells": count(rows) + count(&statics),
    })
}

fn oracle_short(update: &Value) -> Value {
    json!({
        "keyspace": update["keyspace"], "table": update["table"], "table_id": update["table_id"], "cdc": update["cdc"],
        "key": update["key"], "partition_deletion": update["partition_deletion"], "rows": update["rows"],
        "cells": update["cells"],
    })
}

/// What the oracle knows only as it is at the end: whether a table has CDC, and the names of key columns.
fn of_any_time(mut update: Value) -> Value {
    let nameless = |parts: &mut Value| {
        for part in parts.as_array_mut().into_iter().flatten() {
            part.as_object_mut().unwrap().remove("column");
        }
    };
    update.as_object_mut().unwrap().remove("cdc");
    nameless(&mut update["key_parts"]);
    for row in update["rows"].as_array_mut().into_iter().flatten() {
        nameless(&mut row["clustering"]);
    }
    for range in update["ranges"].as_array_mut().into_iter().flatten() {
        nameless(&mut range["start"]);
        nameless(&mut range["end"]);
    }
    update
}

/// Ours and the oracle's mutation must be the same; says where they part.
fn compare(ours: &Value, oracle: &Value, known: &Known) -> Result<(), String> {
    let at_end = matches!(known, Known::Fixed(_));
    for member in ["segment", "segment_id", "position", "size", "keyspace", "key", "cdc"] {
        if ours[member] != oracle[member] && (at_end || member != "cdc") {
            return Err(format!("{member}: ours {} oracle {}", ours[member], oracle[member]));
        }
    }
    let (ours, theirs) = (ours["updates"].as_array().unwrap(), oracle["updates"].as_array().unwrap());
    if ours.len() != theirs.len() {
        return Err(format!("updates: ours {} oracle {}", ours.len(), theirs.len()));
    }
    for (ours, theirs) in ours.iter().zip(theirs) {
        let full = theirs.get("unfiltered").is_some();
        let (ours, theirs) =
            if full { (ours.clone(), oracle_update(theirs)) } else { (short(ours), oracle_short(theirs)) };
        let (ours, theirs) = if at_end { (ours, theirs) } else { (of_any_time(ours), of_any_time(theirs)) };
        if ours != theirs {
            return Err(format!("{}.{}:\n   ours   {ours}\n   oracle {theirs}", theirs["keyspace"], theirs["table"]));
        }
    }
    Ok(())
}

/// One folder of segments with its `expected.jsonl.gz`: the case itself, or a stage of it.
fn compare_folder(case: &Case, folder: &Path, segments: &Path, known: &mut Known) -> Tally {
    let key = case.key_store().map(|path| {
        let key = keystore::load(&path, "cassandra", "testing:1").unwrap();
        Key::new(key.bytes()).unwrap()
    });
    let mut readings: BTreeMap<String, Reading> = load::segments_in(segments)
        .into_iter()
        .map(|(name, file)| (name.to_string(), read(&name, &file, known, key.clone())))
        .collect();
    let mut tally = Tally::default();
    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for line in load::lines(&folder.join("expected.jsonl.gz")) {
        let segment = line["segment"].as_str().unwrap().to_owned();
        let place = format!("{} {segment}@{}", folder.display(), line["position"]);
        let reading = readings.get_mut(&segment).unwrap_or_else(|| panic!("{place}: no such segment"));
        match line["type"].as_str().unwrap() {
            "segment" if line["sections"].as_array().unwrap() != &reading.sections => {
                tally.differ(format!("{place}: sections: ours {:?} oracle {}", reading.sections, line["sections"]));
            }
            "mutation" => {
                if known.lacks_system_table(reading, &line["position"]) {
                    continue;
                }
                let at = next.entry(segment).or_default();
                let Some(ours) = reading.mutations.get(*at) else {
                    tally.differ(format!("{place}: ours ends before it"));
                    continue;
                };
                *at += 1;
                tally.mutations += 1;
                if let Err(difference) = compare(ours, &line, known) {
                    tally.differ(format!("{place}: {difference}"));
                }
            }
            "skipped" => tally.skipped(case, reading, next.entry(segment).or_default(), &line),
            "error" => tally.differ(format!("{place}: the oracle complains: {line}")),
            "end" if case.name.ends_with("volume") => {
                // Only the first mutations of this case were kept; the rest is compared by number.
                assert_eq!(line["mutations"], reading.mutations.len());
                next.insert(segment, reading.mutations.len());
            }
            _ => {}
        }
    }
    for (segment, reading) in &readings {
        let compared = next.get(segment).copied().unwrap_or(0);
        if compared != reading.mutations.len() {
            tally.differ(format!(
                "{} {segment}: ours has {} more",
                folder.display(),
                reading.mutations.len() - compared
            ));
        }
        for (position, error) in &reading.undecodable {
            tally.differ(format!("{} {segment}@{position}: {error}", folder.display()));
        }
    }
    tally
}

#[derive(Default)]
struct Tally {
    mutations: usize,
    differences: Vec<String>,
}

impl Tally {
    fn differ(&mut self, what: String) {
        self.differences.push(what);
    }

    /// What Cassandra's reader leaves out. Each has a reason that is known.
    fn skipped(&mut self, case: &Case, reading: &mut Reading, next: &mut usize, line: &Value) {
        let position = line["position"].as_u64().unwrap();
        match line["reason"].as_str().unwrap() {
            // The reader of a later release reads 3.11's segments and lacks a table that 3.11 has: we decode it.
            "unknown_table" => {
                if reading.mutations.get(*next).is_some_and(|ours| ours["position"] == position) {
                    *next += 1;
                } else if reading.undecodable.remove(&position).is_none() {
                    self.differ(format!("{}@{position}: neither decoded nor refused", case.name));
                }
            }
            // 3.11 lets a column of a multi-cell user type be dropped and keeps its type as a frozen tuple: what was
            // written before can't be decoded with the schema at the end, by nobody.
            "undecodable" => {
                if reading.mutations.get(*next).is_some_and(|ours| ours["position"] == position) {
                    *next += 1;
                } else if reading.undecodable.remove(&position).is_none() {
                    self.differ(format!("{}@{position}: the oracle refuses it", case.name));
                }
            }
            other => self.differ(format!("{}@{position}: skipped for an unknown reason {other}", case.name)),
        }
    }
}

#[test]
fn every_recorded_case_reads_as_cassandra_reads_it() {
    let mut mutations = 0;
    let mut differences = Vec::new();
    for case in load::cases() {
        let mut known = Known::Fixed(Arc::new(case.schema()));
        let mut tally = compare_folder(&case, &case.folder, &case.folder.join("segments"), &mut known);
        for stage in load::stages(&case) {
            let of_stage = compare_folder(&case, &stage, &stage, &mut known);
            tally.mutations += of_stage.mutations;
            tally.differences.extend(of_stage.differences);
        }
        println!("{}: {} mutations, {} differences", case.name, tally.mutations, tally.differences.len());
        mutations += tally.mutations;
        differences.extend(tally.differences);
    }
    for difference in differences.iter().take(20) {
        println!("{difference}");
    }
    assert!(mutations > 10_000, "only {mutations} mutations were compared");
    assert_eq!(differences.len(), 0, "{} differences in {mutations} mutations", differences.len());
}

/// Rows that decoding needs, of the keyspaces that users made, as JSON in one order.
fn rows_of_users(rows: &SystemSchema) -> Vec<String> {
    let rows = serde_json::to_value(rows).unwrap();
    let mut texts = Vec::new();
    for (table, rows) in rows.as_object().unwrap() {
        let of_users = |row: &&Value| !row["keyspace_name"].as_str().unwrap().starts_with("system");
        texts.extend(rows.as_array().unwrap().iter().filter(of_users).map(|row| format!("{table} {row}")));
    }
    texts.sort();
    texts
}

/// Every case but one, of which only the first mutations were kept, with a store as it begins: all must read as
/// Cassandra reads it, and the store must know at the end what the node knew.
fn follow_the_log(begin: impl Fn(&Case) -> SchemaStore) {
    let mut differences = Vec::new();
    for case in load::cases().into_iter().filter(|case| !case.name.ends_with("volume")) {
        let mut known = Known::Log(Box::new(begin(&case)));
        let tally = compare_folder(&case, &case.folder, &case.folder.join("segments"), &mut known);
        println!("{}: {} mutations, {} differences", case.name, tally.mutations, tally.differences.len());
        differences.extend(tally.differences);
        let Known::Log(store) = known else { continue };
        let (ours, theirs) = (rows_of_users(&store.rows()), rows_of_users(&case.system_schema()));
        if ours != theirs {
            let only = |of: &[String], other: &[String]| {
                of.iter().filter(|row| !other.contains(row)).cloned().collect::<Vec<_>>()
            };
            let (ours, theirs) = (only(&ours, &theirs), only(&theirs, &ours));
            differences.push(format!("{}: at the end\n   ours   {ours:?}\n   theirs {theirs:?}", case.name));
        }
        let json = serde_json::to_string(&store).unwrap();
        assert_eq!(serde_json::from_str::<SchemaStore>(&json).unwrap(), *store);
    }
    for difference in differences.iter().take(20) {
        println!("{}", difference.get(..3000).unwrap_or(difference));
    }
    assert_eq!(differences.len(), 0, "{} differences", differences.len());
}

#[test]
fn every_case_reads_from_the_log_alone() {
    follow_the_log(|_| SchemaStore::new());
}

/// What was pulled over CQL after all of it was written is undone by nothing in the log, and hides nothing of it either:
/// tables that were made anew under their names, and columns that were dropped, are decoded as they were.
#[test]
fn every_case_reads_with_the_rows_of_its_end_known_beforehand() {
    follow_the_log(|case| SchemaStore::from_rows(&case.system_schema(), 4_000_000_000_000_000));
}
