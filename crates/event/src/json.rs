//! An event as JSON.
//!
//! Owns: its members, their order, which are left out. Does not own: the text of values (`value_json`).

use cassandra_commitlog::{
    Bound, Cell, CellState, ClusteringValue, ColumnData, CqlType, DeletionTime, Expiry, Liveness, Native,
    PartitionUpdate, RangeDelete, Row,
};

use crate::counter::{Context, Shard, ShardKind};
use crate::element::{Elements, Path, UNKNOWN};
use crate::encoder::{ChunkOf, Frame};
use crate::json_text::{push_chunk, push_hex128, push_int, push_str, push_uuid};
use crate::key::push_key;
use crate::settings::Int64;
use crate::short::Short;
use crate::value_json::{push_int64, push_value};

/// Appends the event of an update.
pub(crate) fn push_event(out: &mut Vec<u8>, frame: &Frame<'_>, update: &PartitionUpdate<'_>) {
    out.extend_from_slice(b"{\"v\":1,\"id\":\"");
    push_id(out, frame, update);
    out.extend_from_slice(b"\",\"digest\":\"");
    push_hex128(out, frame.digest);
    out.push(b'"');
    if let Some((part, parts)) = frame.part {
        push_parts(out, part, parts);
    }
    out.extend_from_slice(&frame.plan.json);
    if frame.key_is_json() {
        out.extend_from_within(frame.key.clone());
    } else {
        push_key(out, frame.plan, update, frame.settings.int64);
    }
    Writer { out, frame, update, int64: frame.settings.int64, write_time: None }.members();
    push_source(out, frame);
}

/// Appends `,"part":1,"parts":3`.
pub(crate) fn push_parts(out: &mut Vec<u8>, part: u32, parts: u32) {
    out.extend_from_slice(b",\"part\":");
    push_int(out, part);
    out.extend_from_slice(b",\"parts\":");
    push_int(out, parts);
}

#[inline]
fn push_id(out: &mut Vec<u8>, frame: &Frame<'_>, update: &PartitionUpdate<'_>) {
    out.extend_from_slice(&frame.constants.id_json);
    push_id_tail(out, frame, update);
}

/// Appends an id from the segment on: digits and slashes, the same in both formats.
#[inline]
pub(crate) fn push_id_tail(out: &mut Vec<u8>, frame: &Frame<'_>, update: &PartitionUpdate<'_>) {
    push_int(out, frame.source.position.segment.0);
    out.push(b'/');
    push_int(out, frame.source.position.offset.0);
    out.push(b'/');
    push_int(out, update.index);
    if let Some(row) = frame.row {
        out.extend_from_slice(b"/r");
        push_int(out, row);
    }
    if let Some((part, _)) = frame.part {
        out.extend_from_slice(b"/p");
        push_int(out, part);
    }
}

fn push_source(out: &mut Vec<u8>, frame: &Frame<'_>) {
    out.extend_from_slice(b",\"source\":");
    out.extend_from_slice(&frame.constants.source_json);
    push_str(out, frame.source.segment);
    out.extend_from_slice(b",\"position\":");
    push_int(out, frame.source.position.offset.0);
    out.extend_from_slice(b"}}");
}

struct Writer<'w, 'a> {
    out: &'w mut Vec<u8>,
    frame: &'w Frame<'w>,
    update: &'w PartitionUpdate<'a>,
    int64: Int64,
    /// The write time that was written last, and its text: mostly all of an update have the same.
    write_time: Option<(i64, Short)>,
}

impl Writer<'_, '_> {
    fn put(&mut self, text: &[u8]) {
        self.out.extend_from_slice(text);
    }

    fn members(&mut self) {
        let update = self.update;
        if let Some(deletion) = update.partition_deletion {
            self.put(b",\"partition_delete\":");
            self.deletion(deletion, false);
        }
        if let Some(row) = update.static_row {
            self.put(b",\"static\":{");
            self.columns(row);
            self.put(b"}");
            if let Some(liveness) = row.liveness {
                self.put(b",\"static_liveness\":");
                self.liveness(liveness);
            }
            if let Some(deletion) = row.deletion {
                self.put(b",\"static_delete\":");
                self.deletion(deletion, row.shadowable);
            }
        }
        for (index, row) in update.rows.iter().enumerate() {
            self.put(if index == 0 { b",\"rows\":[" } else { b"," });
            self.row(row);
        }
        if !update.rows.is_empty() {
            self.put(b"]");
        }
        for (index, range) in update.range_deletes.iter().enumerate() {
            self.put(if index == 0 { b",\"range_deletes\":[" } else { b"," });
            self.range(range);
        }
        if !update.range_deletes.is_empty() {
            self.put(b"]");
        }
    }

    fn row(&mut self, row: &Row) {
        self.put(b"{");
        let start = self.out.len();
        if !row.clustering.is_empty() {
            self.clustering(self.update.clustering_of(&row.clustering));
        }
        if let Some(liveness) = row.liveness {
            self.comma(start);
            self.put(b"\"liveness\":");
            self.liveness(liveness);
        }
        if let Some(deletion) = row.deletion {
            self.comma(start);
            self.put(b"\"delete\":");
            self.deletion(deletion, row.shadowable);
        }
        if !row.columns.is_empty() {
            self.comma(start);
            self.put(b"\"cells\":{");
            self.columns(row);
            self.put(b"}");
        }
        self.put(b"}");
    }

    /// A comma, unless nothing was written since.
    fn comma(&mut self, start: usize) {
        if self.out.len() > start {
            self.put(b",");
        }
    }

    fn clustering(&mut self, values: &[ClusteringValue]) {
        self.put(b"\"clustering\":{");
        let names = self.frame.plan.clustering.iter().zip(&self.update.table.clustering);
        for (index, (value, (name, column))) in values.iter().zip(names).enumerate() {
            name.push_member(self.out, index == 0);
            match value {
                ClusteringValue::Null => self.put(b"null"),
                ClusteringValue::Value(span) => {
                    push_value(self.out, &column.cql_type, self.update.bytes(*span), self.int64);
                }
            }
        }
        self.put(b"}");
    }

    fn range(&mut self, range: &RangeDelete) {
        self.put(b"{");
        for (name, bound) in [(b"\"start\":{".as_slice(), &range.start), (b"\"end\":{", &range.end)] {
            self.bound(name, bound);
        }
        self.put(b"\"ts\":");
        self.deletion_members(range.deletion);
        self.put(b"}");
    }

    /// A bound and a comma; nothing for the partition's edge.
    fn bound(&mut self, name: &[u8], bound: &Bound) {
        if bound.clustering.is_empty() && bound.inclusive {
            return;
        }
        self.put(name);
        if !bound.clustering.is_empty() {
            self.clustering(self.update.clustering_of(&bound.clustering));
            self.put(b",");
        }
        self.put(if bound.inclusive { b"\"inclusive\":true}," } else { b"\"inclusive\":false}," });
    }

    fn liveness(&mut self, liveness: Liveness) {
        self.put(b"{\"ts\":");
        self.write_time(liveness.timestamp);
        if let Some(expiry) = liveness.expiry {
            self.expiry(expiry);
        }
        self.put(b"}");
    }

    #[inline]
    fn write_time(&mut self, micros: i64) {
        if let Some((known, text)) = &self.write_time
            && *known == micros
        {
            text.append(self.out);
            return;
        }
        let start = self.out.len();
        push_int64(self.out, micros, self.int64);
        self.write_time = Some((micros, Short::new(self.out.get(start..).unwrap_or_default())));
    }

    fn expiry(&mut self, expiry: Expiry) {
        self.put(b",\"ttl\":");
        push_int(self.out, expiry.ttl);
        self.put(b",\"expires\":");
        push_int(self.out, expiry.at);
    }

    fn deletion(&mut self, deletion: DeletionTime, shadowable: bool) {
        self.put(b"{\"ts\":");
        self.deletion_members(deletion);
        self.put(if shadowable { b",\"shadowable\":true}" } else { b"}" });
    }

    fn deletion_members(&mut self, deletion: DeletionTime) {
        self.write_time(deletion.marked_for_delete_at);
        self.put(b",\"at\":");
        push_int(self.out, deletion.local_deletion_time);
    }

    fn columns(&mut self, row: &Row) {
        for (index, data) in self.update.columns_of(row).iter().enumerate() {
            let cql_type = self.update.definition(data).map_or(&UNKNOWN, |column| &column.cql_type);
            match (self.update.cells_of(data), cql_type.is_multi_cell()) {
                ([cell], false) => self.simple(data, index == 0, cql_type, cell),
                (cells, _) => self.multi(data, index == 0, cql_type, cells),
            }
        }
    }

    /// `"name":{"value":`, the last member only if asked for.
    #[inline]
    fn head(&mut self, data: &ColumnData, first: bool, with_value: bool) {
        match (self.frame.plan.column(data.column), with_value) {
            (Some(name), true) => name.push_value(self.out, first),
            (Some(name), false) => {
                name.push_member(self.out, first);
                self.put(b"{");
            }
            (None, _) => self.nameless(data, first, with_value),
        }
    }

    /// The decoder refuses columns without a definition; should one come, its index says which it was.
    #[cold]
    fn nameless(&mut self, data: &ColumnData, first: bool, with_value: bool) {
        self.put(if first { b"\"#" } else { b",\"#" });
        push_int(self.out, data.column);
        self.put(if with_value { b"\":{\"value\":" } else { b"\":{" });
    }

    fn simple(&mut self, data: &ColumnData, first: bool, cql_type: &CqlType, cell: &Cell) {
        if let CellState::Deleted { at } = cell.state {
            self.head(data, first, false);
            self.put(b"\"deleted\":");
            push_int(self.out, at);
        } else {
            self.head(data, first, true);
            self.cell_value(cql_type, cell);
        }
        self.times(cell);
    }

    fn cell_value(&mut self, cql_type: &CqlType, cell: &Cell) {
        let bytes = self.update.bytes(cell.value);
        if let Some(chunk) = self.frame.chunk {
            push_chunk(self.out, chunk.number, chunk.of, chunk.bytes);
        } else if let CqlType::Native(Native::Counter) = cql_type {
            match Context::read(bytes) {
                Some(context) => self.counter(context),
                None => push_value(self.out, cql_type, bytes, self.int64),
            }
        } else {
            push_value(self.out, cql_type, bytes, self.int64);
        }
    }

    fn counter(&mut self, context: Context<'_>) {
        push_int64(self.out, context.sum(), self.int64);
        self.put(b",\"shards\":[");
        for (index, shard) in context.shards().enumerate() {
            self.put(if index == 0 { b"{\"id\":\"" } else { b",{\"id\":\"" });
            self.shard(shard);
        }
        self.put(b"]");
    }

    fn shard(&mut self, shard: Shard) {
        push_uuid(self.out, u128::from_be_bytes(shard.id));
        self.put(b"\",\"clock\":");
        push_int64(self.out, shard.clock, self.int64);
        self.put(b",\"count\":");
        push_int64(self.out, shard.count, self.int64);
        self.put(match shard.kind {
            ShardKind::Global => b"}",
            ShardKind::Local => b",\"kind\":\"local\"}",
            ShardKind::Remote => b",\"kind\":\"remote\"}",
        });
    }

    /// The end of a cell: when it was written and when it ends.
    #[inline]
    fn times(&mut self, cell: &Cell) {
        self.put(b",\"ts\":");
        self.write_time(cell.timestamp);
        if let CellState::Expiring(expiry) = cell.state {
            self.expiry(expiry);
        }
        self.put(b"}");
    }

    fn multi(&mut self, data: &ColumnData, first: bool, cql_type: &CqlType, cells: &[Cell]) {
        self.head(data, first, false);
        if let Some(deletion) = data.deletion {
            self.put(b"\"overwrite\":");
            self.deletion(deletion, false);
        }
        let elements = Elements::of(cql_type);
        for (index, cell) in cells.iter().enumerate() {
            self.put(match (index, data.deletion) {
                (0, None) => b"\"elements\":[{",
                (0, Some(_)) => b",\"elements\":[{",
                _ => b",{",
            });
            self.element(&elements, cell);
        }
        self.put(if cells.is_empty() { b"}" } else { b"]}" });
    }

    fn element(&mut self, elements: &Elements<'_>, cell: &Cell) {
        let start = self.out.len();
        let bytes = self.update.bytes(cell.path);
        let (path, value_type) = elements.cell(bytes);
        let chunk = self.frame.chunk;
        let target = chunk.map(|chunk| chunk.target);
        if target != Some(ChunkOf::ValueAlone) {
            self.put(b"\"path\":");
            match (chunk, path) {
                (Some(chunk), _) if chunk.target == ChunkOf::Path => {
                    push_chunk(self.out, chunk.number, chunk.of, chunk.bytes);
                }
                (_, Path::Value(cql_type)) => push_value(self.out, cql_type, bytes, self.int64),
                (_, Path::Field(name)) => push_str(self.out, name),
                (_, Path::Index(index)) => push_int(self.out, index),
            }
        }
        if let CellState::Deleted { at } = cell.state {
            self.comma(start);
            self.put(b"\"deleted\":");
            push_int(self.out, at);
        } else if target != Some(ChunkOf::Path) && (value_type.is_some() || !cell.value.is_empty()) {
            self.comma(start);
            self.put(b"\"value\":");
            match chunk {
                Some(chunk) => push_chunk(self.out, chunk.number, chunk.of, chunk.bytes),
                // No counter can be an element: read like one, its bytes could not be told from an integer's.
                None => {
                    let value = self.update.bytes(cell.value);
                    push_value(self.out, value_type.unwrap_or(&UNKNOWN), value, self.int64);
                }
            }
        }
        self.times(cell);
    }
}
