//! An event as the message `Event`.
//!
//! Owns: the fields of every message but `Value`. Does not own: the wire format (`wire`), values (`value_protobuf`).

use cassandra_commitlog::{
    Bound, Cell, CellState, ClusteringValue, ColumnData, CqlType, DeletionTime, Liveness, Native, PartitionUpdate,
    RangeDelete, Row,
};

use crate::counter::{Context, Shard, ShardKind};
use crate::element::{Elements, Path, UNKNOWN};
use crate::encoder::{ChunkOf, Frame};
use crate::json::push_id_tail;
use crate::key::is_whole;
use crate::plan::NamePlan;
use crate::value_protobuf::{push_chunk_value, push_integer, push_null, push_string, push_value};
use crate::wire::{
    Open, open, open_begun, open_long, push_bytes, push_sfixed64_default, push_text, push_uint, push_uint_default,
    push_varint, varint_len, zigzag,
};

/// Appends the event of an update.
pub(crate) fn push_event(out: &mut Vec<u8>, frame: &Frame<'_>, update: &PartitionUpdate<'_>) {
    out.extend_from_slice(&[1 << 3, 1]);
    let id = open(out, 2);
    out.extend_from_slice(&frame.constants.id);
    push_id_tail(out, frame, update);
    id.close(out);
    push_bytes(out, 3, &frame.digest.to_be_bytes());
    if let Some((part, parts)) = frame.part {
        push_uint_default(out, 4, u64::from(part));
        push_uint_default(out, 5, u64::from(parts));
    }
    out.extend_from_slice(&frame.plan.proto);
    let mut writer = Writer { out, frame, update };
    writer.key();
    writer.members();
    push_source(out, frame);
}

fn push_source(out: &mut Vec<u8>, frame: &Frame<'_>) {
    let (segment, position) = (frame.source.segment, u64::from(frame.source.position.offset.0));
    let segment_len = if segment.is_empty() { 0 } else { 1 + varint_len(segment.len() as u64) + segment.len() };
    let position_len = if position == 0 { 0 } else { 1 + varint_len(position) };
    out.push(14 << 3 | 2);
    push_varint(out, (frame.constants.source_proto.len() + segment_len + position_len) as u64);
    out.extend_from_slice(&frame.constants.source_proto);
    push_text(out, 3, segment);
    push_uint_default(out, 4, position);
}

fn push_seconds(out: &mut Vec<u8>, field: u8, seconds: i64) {
    push_uint(out, field, seconds.cast_unsigned());
}

struct Writer<'w, 'a> {
    out: &'w mut Vec<u8>,
    frame: &'w Frame<'w>,
    update: &'w PartitionUpdate<'a>,
}

impl Writer<'_, '_> {
    fn key(&mut self) {
        if !is_whole(self.update) {
            let named = open(self.out, 9);
            push_value(self.out, 2, &UNKNOWN, self.update.key);
            named.close(self.out);
            return;
        }
        let columns = self.frame.plan.partition_key.iter().zip(&self.update.table.partition_key);
        for ((name, column), value) in columns.zip(self.update.key_components()) {
            self.named(name, &column.cql_type, Some(value));
        }
    }

    #[inline]
    fn named(&mut self, name: &NamePlan, cql_type: &CqlType, value: Option<&[u8]>) {
        let named = open_begun(self.out, &name.proto);
        match value {
            Some(bytes) => push_value(self.out, 2, cql_type, bytes),
            None => push_null(self.out, 2),
        }
        named.close(self.out);
    }

    fn members(&mut self) {
        let update = self.update;
        if let Some(deletion) = update.partition_deletion {
            self.deletion(10, deletion, false);
        }
        if let Some(row) = update.static_row {
            self.row(11, row);
        }
        for row in update.rows {
            self.row(12, row);
        }
        for range in update.range_deletes {
            self.range(range);
        }
    }

    fn row(&mut self, field: u8, row: &Row) {
        // A cell takes about 30 bytes: from the fourth on the row's length takes two.
        let message = if row.columns.len() > 3 { open_long(self.out, field) } else { open(self.out, field) };
        self.clustering(self.update.clustering_of(&row.clustering));
        if let Some(liveness) = row.liveness {
            self.liveness(liveness);
        }
        if let Some(deletion) = row.deletion {
            self.deletion(3, deletion, row.shadowable);
        }
        for data in self.update.columns_of(row) {
            self.column(data);
        }
        message.close(self.out);
    }

    fn clustering(&mut self, values: &[ClusteringValue]) {
        let names = self.frame.plan.clustering.iter().zip(&self.update.table.clustering);
        for (value, (name, column)) in values.iter().zip(names) {
            let value = match value {
                ClusteringValue::Null => None,
                ClusteringValue::Value(span) => Some(self.update.bytes(*span)),
            };
            self.named(name, &column.cql_type, value);
        }
    }

    fn range(&mut self, range: &RangeDelete) {
        let message = open(self.out, 13);
        self.bound(1, &range.start);
        self.bound(2, &range.end);
        self.deletion_fields(3, range.deletion);
        message.close(self.out);
    }

    /// Nothing for the partition's edge.
    fn bound(&mut self, field: u8, bound: &Bound) {
        if bound.clustering.is_empty() && bound.inclusive {
            return;
        }
        let message = open(self.out, field);
        self.clustering(self.update.clustering_of(&bound.clustering));
        push_uint_default(self.out, 2, u64::from(bound.inclusive));
        message.close(self.out);
    }

    fn liveness(&mut self, liveness: Liveness) {
        let message = open(self.out, 2);
        push_sfixed64_default(self.out, 1, liveness.timestamp);
        if let Some(expiry) = liveness.expiry {
            push_seconds(self.out, 2, i64::from(expiry.ttl));
            push_seconds(self.out, 3, expiry.at);
        }
        message.close(self.out);
    }

    fn deletion(&mut self, field: u8, deletion: DeletionTime, shadowable: bool) {
        let message = open(self.out, field);
        self.deletion_fields(1, deletion);
        push_uint_default(self.out, 3, u64::from(shadowable));
        message.close(self.out);
    }

    fn deletion_fields(&mut self, first: u8, deletion: DeletionTime) {
        push_sfixed64_default(self.out, first, deletion.marked_for_delete_at);
        push_uint_default(self.out, first + 1, deletion.local_deletion_time.cast_unsigned());
    }

    #[inline]
    fn column(&mut self, data: &ColumnData) {
        let cql_type = self.update.definition(data).map_or(&UNKNOWN, |column| &column.cql_type);
        let message = match self.frame.plan.column(data.column) {
            Some(name) => open_begun(self.out, &name.proto),
            None => self.nameless(data),
        };
        match (self.update.cells_of(data), cql_type.is_multi_cell()) {
            ([cell], false) => self.simple(cql_type, cell),
            (cells, _) => self.multi(data, cql_type, cells),
        }
        message.close(self.out);
    }

    /// The decoder refuses columns without a definition; should one come, its index says which it was.
    #[cold]
    fn nameless(&mut self, data: &ColumnData) -> Open {
        let message = open(self.out, 4);
        push_text(self.out, 1, &format!("#{}", data.column));
        message
    }

    #[inline]
    fn simple(&mut self, cql_type: &CqlType, cell: &Cell) {
        let mut shards = None;
        if !matches!(cell.state, CellState::Deleted { .. }) {
            let bytes = self.update.bytes(cell.value);
            match cql_type {
                _ if self.frame.chunk.is_some() => self.chunk(2),
                CqlType::Native(Native::Counter) => {
                    shards = Context::read(bytes);
                    match shards {
                        Some(context) => push_integer(self.out, 2, context.sum()),
                        None => push_value(self.out, 2, cql_type, bytes),
                    }
                }
                _ => push_value(self.out, 2, cql_type, bytes),
            }
        }
        self.times(cell);
        for shard in shards.iter().flat_map(|context| context.shards()) {
            self.shard(shard);
        }
    }

    #[cold]
    fn chunk(&mut self, field: u8) {
        if let Some(chunk) = self.frame.chunk {
            push_chunk_value(self.out, field, chunk.number, chunk.of, chunk.bytes);
        }
    }

    fn shard(&mut self, shard: Shard) {
        let message = open(self.out, 7);
        push_bytes(self.out, 1, &shard.id);
        push_uint_default(self.out, 2, zigzag(shard.clock));
        push_uint_default(self.out, 3, zigzag(shard.count));
        push_uint_default(
            self.out,
            4,
            match shard.kind {
                ShardKind::Global => 0,
                ShardKind::Local => 1,
                ShardKind::Remote => 2,
            },
        );
        message.close(self.out);
    }

    /// `ts`, `ttl`, `expires` and `deleted`: the same fields in cells and elements.
    #[inline(always)]
    fn times(&mut self, cell: &Cell) {
        push_sfixed64_default(self.out, 3, cell.timestamp);
        match cell.state {
            CellState::Live => {}
            CellState::Expiring(expiry) => {
                push_seconds(self.out, 4, i64::from(expiry.ttl));
                push_seconds(self.out, 5, expiry.at);
            }
            CellState::Deleted { at } => push_seconds(self.out, 6, at),
        }
    }

    fn multi(&mut self, data: &ColumnData, cql_type: &CqlType, cells: &[Cell]) {
        if let Some(deletion) = data.deletion {
            self.deletion(8, deletion, false);
        }
        let elements = Elements::of(cql_type);
        for cell in cells {
            let message = open(self.out, 9);
            self.element(&elements, cell);
            message.close(self.out);
        }
    }

    fn element(&mut self, elements: &Elements<'_>, cell: &Cell) {
        let bytes = self.update.bytes(cell.path);
        let (path, value_type) = elements.cell(bytes);
        let target = self.frame.chunk.map(|chunk| chunk.target);
        match (target, path) {
            (Some(ChunkOf::ValueAlone), _) => {}
            (Some(ChunkOf::Path), _) => self.chunk(1),
            (_, Path::Value(cql_type)) => push_value(self.out, 1, cql_type, bytes),
            (_, Path::Field(name)) => push_string(self.out, 1, name),
            (_, Path::Index(index)) => push_integer(self.out, 1, i64::from(index)),
        }
        let live = !matches!(cell.state, CellState::Deleted { .. });
        if live && target != Some(ChunkOf::Path) && (value_type.is_some() || !cell.value.is_empty()) {
            match target {
                Some(_) => self.chunk(2),
                None => {
                    push_value(self.out, 2, value_type.unwrap_or(&UNKNOWN), self.update.bytes(cell.value));
                }
            }
        }
        self.times(cell);
    }
}
