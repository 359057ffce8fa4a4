//! What an update says, in owned values: written to bytes here, and compared with what the decoder makes of them.
//!
//! Owns: the bytes of mutations. Does not own: framing (`writer`), the tables (`tables`).

use cassandra_commitlog::{CellState, ClusteringValue, CqlType, Native, PartitionUpdate, TableId, TableSchema};

use super::wire::{int, uv, vbytes};

/// Seconds and microseconds that the deltas of stats count from.
pub const EPOCH_SECONDS: i64 = 1_442_880_000;
pub const EPOCH_MICROS: i64 = EPOCH_SECONDS * 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deletion {
    pub at: i64,
    pub local: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiry {
    pub ttl: i32,
    pub at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Live,
    Expiring(Expiry),
    Deleted(i64),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub timestamp: i64,
    pub state: State,
    /// Of a multi-cell column's cell.
    pub path: Vec<u8>,
    pub value: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnData {
    pub name: String,
    pub deletion: Option<Deletion>,
    pub cells: Vec<Cell>,
}

/// `None` is null.
pub type Clustering = Vec<Option<Vec<u8>>>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Row {
    pub clustering: Clustering,
    pub liveness: Option<(i64, Option<Expiry>)>,
    pub deletion: Option<Deletion>,
    pub shadowable: bool,
    pub columns: Vec<ColumnData>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub clustering: Clustering,
    pub inclusive: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeDelete {
    pub start: Bound,
    pub end: Bound,
    pub deletion: Deletion,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub table: TableId,
    pub key: Vec<u8>,
    pub deletion: Option<Deletion>,
    pub static_row: Option<Row>,
    pub rows: Vec<Row>,
    pub ranges: Vec<RangeDelete>,
}

impl Update {
    pub fn new(table: TableId, key: &[u8]) -> Self {
        Self { table, key: key.to_vec(), deletion: None, static_row: None, rows: Vec::new(), ranges: Vec::new() }
    }
}

/// What a writer chooses and a reader must not depend on.
#[derive(Debug, Clone)]
pub struct Style {
    pub version: i32,
    /// Names in the column lists, in the order in which the data come.
    pub statics: Vec<String>,
    pub regulars: Vec<String>,
    pub epoch: u64,
    pub min_timestamp: i64,
    pub min_local: i64,
    pub min_ttl: i32,
    pub estimate: Option<u64>,
    /// Cells take timestamp and TTL from their row where they can.
    pub share: bool,
    /// Rows that have all columns say so by a flag, not by an empty subset.
    pub all_columns: bool,
}

impl Style {
    /// With the lists that hold all of the table's columns.
    pub fn of(version: i32, table: &TableSchema) -> Self {
        use cassandra_commitlog::ColumnKind;
        let names = |kind| table.columns.iter().filter(|c| c.kind == kind).map(|c| c.name.clone()).collect();
        Self {
            version,
            statics: names(ColumnKind::Static),
            regulars: names(ColumnKind::Regular),
            epoch: 7,
            min_timestamp: EPOCH_MICROS,
            min_local: EPOCH_SECONDS,
            min_ttl: 0,
            estimate: Some(1),
            share: true,
            all_columns: true,
        }
    }
}

/// A mutation of these updates, each as [`update`] gives it.
pub fn mutation(version: i32, updates: &[Vec<u8>]) -> Vec<u8> {
    let mut out = if version == 9 { vec![0] } else { Vec::new() };
    uv(&mut out, updates.len() as u64);
    out.extend(updates.concat());
    out
}

/// All of an update before its flags.
pub fn update_head(version: i32, table: TableId, epoch: u64, key: &[u8]) -> Vec<u8> {
    let mut out = table.0.to_be_bytes().to_vec();
    if version == 9 {
        uv(&mut out, epoch);
    }
    vbytes(&mut out, key);
    out
}

/// The bytes of an update.
pub fn update(update: &Update, style: &Style, table: &TableSchema) -> Vec<u8> {
    let mut out = update_head(style.version, update.table, style.epoch, &update.key);
    let flag = |bit: u8, set: bool| if set { bit } else { 0 };
    out.push(
        flag(0x04, update.deletion.is_some())
            | flag(0x08, update.static_row.is_some())
            | flag(0x10, style.estimate.is_some()),
    );
    uv(&mut out, style.min_timestamp.wrapping_sub(EPOCH_MICROS) as u64);
    int(&mut out, style.min_local.wrapping_sub(EPOCH_SECONDS) as i32);
    int(&mut out, style.min_ttl);
    let mut writer = Writer { out, style, table };
    if update.static_row.is_some() {
        writer.list(&style.statics);
    }
    writer.list(&style.regulars);
    if let Some(deletion) = update.deletion {
        writer.deletion(deletion);
    }
    if let Some(row) = &update.static_row {
        writer.row(row, &style.statics, true);
    }
    if let Some(estimate) = style.estimate {
        uv(&mut writer.out, estimate);
    }
    writer.unfiltereds(update);
    writer.out
}

struct Writer<'a> {
    out: Vec<u8>,
    style: &'a Style,
    table: &'a TableSchema,
}

enum Form {
    Fixed(usize),
    Variable,
    MultiCell,
}

fn form(cql_type: &CqlType) -> Form {
    match cql_type {
        CqlType::List { frozen: false, .. }
        | CqlType::Set { frozen: false, .. }
        | CqlType::Map { frozen: false, .. }
        | CqlType::Udt { frozen: false, .. } => Form::MultiCell,
        CqlType::Native(Native::Empty) => Form::Fixed(0),
        CqlType::Native(Native::Int) => Form::Fixed(4),
        CqlType::Vector { element, dimension } if **element == CqlType::Native(Native::Float) => {
            Form::Fixed(4 * *dimension as usize)
        }
        _ => Form::Variable,
    }
}

impl Writer<'_> {
    fn list(&mut self, names: &[String]) {
        uv(&mut self.out, names.len() as u64);
        for name in names {
            vbytes(&mut self.out, name.as_bytes());
        }
    }

    fn timestamp(&mut self, at: i64) {
        uv(&mut self.out, at.wrapping_sub(self.style.min_timestamp) as u64);
    }

    fn local(&mut self, seconds: i64) {
        int(&mut self.out, seconds.wrapping_sub(self.style.min_local) as i32);
    }

    fn ttl(&mut self, ttl: i32) {
        int(&mut self.out, ttl.wrapping_sub(self.style.min_ttl));
    }

    fn deletion(&mut self, deletion: Deletion) {
        self.timestamp(deletion.at);
        self.local(deletion.local);
    }

    fn clustering(&mut self, values: &Clustering) {
        let columns: Vec<_> = self.table.clustering.iter().zip(values).collect();
        for block in columns.chunks(32) {
            let header = block.iter().enumerate().fold(0_u64, |header, (at, (_, value))| match value {
                None => header | 0b10 << (2 * at),
                Some(value) if value.is_empty() => header | 0b01 << (2 * at),
                Some(_) => header,
            });
            uv(&mut self.out, header);
            for (column, value) in block {
                let value = value.as_deref().unwrap_or_default();
                match form(&column.cql_type) {
                    _ if value.is_empty() => {}
                    Form::Fixed(len) => {
                        assert_eq!(value.len(), len);
                        self.out.extend_from_slice(value);
                    }
                    _ => vbytes(&mut self.out, value),
                }
            }
        }
    }

    fn subset(&mut self, present: &[bool]) {
        let missing = present.iter().filter(|present| !**present).count();
        if present.len() < 64 {
            let bits = present.iter().enumerate().map(|(at, present)| u64::from(!*present) << at).sum();
            uv(&mut self.out, bits);
            return;
        }
        uv(&mut self.out, missing as u64);
        if missing > 0 {
            let named = present.len() - missing < present.len() / 2;
            for (at, _) in present.iter().enumerate().filter(|(_, present)| **present == named) {
                uv(&mut self.out, at as u64);
            }
        }
    }

    fn row(&mut self, row: &Row, list: &[String], is_static: bool) {
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        let present: Vec<bool> = list.iter().map(|name| row.columns.iter().any(|c| c.name == *name)).collect();
        let all = present.iter().all(|present| *present) && self.style.all_columns;
        let complex_deletion = row.columns.iter().any(|column| column.deletion.is_some());
        self.out.push(
            flag(0x04, row.liveness.is_some())
                | flag(0x08, row.liveness.is_some_and(|(_, expiry)| expiry.is_some()))
                | flag(0x10, row.deletion.is_some())
                | flag(0x20, all)
                | flag(0x40, complex_deletion)
                | flag(0x80, is_static || row.shadowable),
        );
        if is_static || row.shadowable {
            self.out.push(flag(0x01, is_static) | flag(0x02, row.shadowable));
        }
        if !is_static {
            self.clustering(&row.clustering);
        }
        if let Some((timestamp, expiry)) = row.liveness {
            self.timestamp(timestamp);
            if let Some(expiry) = expiry {
                self.ttl(expiry.ttl);
                self.local(expiry.at);
            }
        }
        if let Some(deletion) = row.deletion {
            self.deletion(deletion);
        }
        if !all {
            self.subset(&present);
        }
        for name in list {
            if let Some(column) = row.columns.iter().find(|column| column.name == *name) {
                self.column(column, row, complex_deletion);
            }
        }
    }

    fn column(&mut self, column: &ColumnData, row: &Row, complex_deletion: bool) {
        let definition = self.table.columns.iter().find(|c| c.name == column.name).expect("a column of the table");
        let form = form(&definition.cql_type);
        if matches!(form, Form::MultiCell) {
            if complex_deletion {
                self.deletion(column.deletion.unwrap_or(self.live()));
            }
            uv(&mut self.out, column.cells.len() as u64);
        }
        for cell in &column.cells {
            self.cell(cell, row, &form);
        }
    }

    /// "Not deleted", which each release writes in its own way.
    fn live(&self) -> Deletion {
        Deletion { at: i64::MIN, local: if self.style.version < 8 { 0x7fff_ffff } else { 0xffff_ffff } }
    }

    fn cell(&mut self, cell: &Cell, row: &Row, form: &Form) {
        let row_timestamp = self.style.share && row.liveness.is_some_and(|(at, _)| at == cell.timestamp);
        let expiry = row.liveness.and_then(|(_, expiry)| expiry);
        let (kind, row_ttl) = match cell.state {
            State::Live => (0, false),
            State::Deleted(_) => (0x01, false),
            State::Expiring(own) => (0x02, self.style.share && expiry == Some(own)),
        };
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        let empty = flag(0x04, cell.value.is_empty());
        self.out.push(kind | empty | flag(0x08, row_timestamp) | flag(0x10, row_ttl));
        if !row_timestamp {
            self.timestamp(cell.timestamp);
        }
        match cell.state {
            State::Deleted(at) => self.local(at),
            State::Expiring(expiry) if !row_ttl => {
                self.local(expiry.at);
                self.ttl(expiry.ttl);
            }
            _ => {}
        }
        if matches!(form, Form::MultiCell) {
            vbytes(&mut self.out, &cell.path);
        }
        match form {
            _ if cell.value.is_empty() => {}
            Form::Fixed(len) => {
                assert_eq!(cell.value.len(), *len);
                self.out.extend_from_slice(&cell.value);
            }
            _ => vbytes(&mut self.out, &cell.value),
        }
    }

    /// The first range is open around all rows. A range that starts where another ends shares a marker with it.
    fn unfiltereds(&mut self, update: &Update) {
        let mut open: Option<&RangeDelete> = None;
        let mut rows = update.rows.as_slice();
        for range in &update.ranges {
            match open {
                Some(before) if before.end.clustering == range.start.clustering => {
                    assert_ne!(before.end.inclusive, range.start.inclusive, "two ranges that touch");
                    self.marker(if before.end.inclusive { 5 } else { 2 }, &range.start.clustering);
                    self.deletion(before.deletion);
                    self.deletion(range.deletion);
                }
                before => {
                    self.close(before);
                    self.marker(if range.start.inclusive { 1 } else { 7 }, &range.start.clustering);
                    self.deletion(range.deletion);
                }
            }
            open = Some(range);
            for row in std::mem::take(&mut rows) {
                self.row(row, &self.style.regulars, false);
            }
        }
        self.close(open);
        for row in rows {
            self.row(row, &self.style.regulars, false);
        }
        self.out.push(0x01);
    }

    fn close(&mut self, range: Option<&RangeDelete>) {
        if let Some(range) = range {
            self.marker(if range.end.inclusive { 6 } else { 0 }, &range.end.clustering);
            self.deletion(range.deletion);
        }
    }

    fn marker(&mut self, kind: u8, clustering: &Clustering) {
        self.out.extend_from_slice(&[0x02, kind]);
        self.out.extend_from_slice(&(clustering.len() as u16).to_be_bytes());
        self.clustering(clustering);
    }
}

/// The model of a decoded update.
pub fn told(update: &PartitionUpdate<'_>) -> Update {
    let clustering = |range: &std::ops::Range<u32>| -> Clustering {
        let values = update.clustering_of(range).iter().map(|value| match value {
            ClusteringValue::Null => None,
            ClusteringValue::Value(span) => Some(update.bytes(*span).to_vec()),
        });
        values.collect()
    };
    let deletion = |deletion: cassandra_commitlog::DeletionTime| Deletion {
        at: deletion.marked_for_delete_at,
        local: deletion.local_deletion_time,
    };
    let row = |row: &cassandra_commitlog::Row| Row {
        clustering: clustering(&row.clustering),
        liveness: row.liveness.map(|l| (l.timestamp, l.expiry.map(|e| Expiry { ttl: e.ttl, at: e.at }))),
        deletion: row.deletion.map(deletion),
        shadowable: row.shadowable,
        columns: update
            .columns_of(row)
            .iter()
            .map(|data| column_told(update, data, data.deletion.map(deletion)))
            .collect(),
    };
    let bound = |bound: &cassandra_commitlog::Bound| Bound {
        clustering: clustering(&bound.clustering),
        inclusive: bound.inclusive,
    };
    let range = |range: &cassandra_commitlog::RangeDelete| RangeDelete {
        start: bound(&range.start),
        end: bound(&range.end),
        deletion: deletion(range.deletion),
    };
    Update {
        table: update.table.id,
        key: update.key.to_vec(),
        deletion: update.partition_deletion.map(deletion),
        static_row: update.static_row.map(row),
        rows: update.rows.iter().map(row).collect(),
        ranges: update.range_deletes.iter().map(range).collect(),
    }
}

fn column_told(
    update: &PartitionUpdate<'_>,
    data: &cassandra_commitlog::ColumnData,
    deletion: Option<Deletion>,
) -> ColumnData {
    let cells = update.cells_of(data).iter().map(|cell| Cell {
        timestamp: cell.timestamp,
        state: match cell.state {
            CellState::Live => State::Live,
            CellState::Expiring(expiry) => State::Expiring(Expiry { ttl: expiry.ttl, at: expiry.at }),
            CellState::Deleted { at } => State::Deleted(at),
        },
        path: update.bytes(cell.path).to_vec(),
        value: update.bytes(cell.value).to_vec(),
    });
    ColumnData { name: update.definition(data).expect("a column").name.clone(), deletion, cells: cells.collect() }
}
