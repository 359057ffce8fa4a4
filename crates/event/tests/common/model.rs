//! Updates that own their parts.

use std::sync::Arc;

use cassandra_commitlog::{
    Bound, Cell, CellState, ClusteringValue, Column, ColumnData, ColumnKind, CqlType, DeletionTime, Expiry, Field,
    Liveness, Native, PartitionUpdate, RangeDelete, Row, Schema, Span, TableId, TableSchema, UserType,
};

#[derive(Debug, Clone)]
pub struct CellSpec {
    pub ts: i64,
    pub state: CellState,
    pub path: Vec<u8>,
    pub value: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct ColumnSpec {
    pub column: usize,
    pub deletion: Option<DeletionTime>,
    pub cells: Vec<CellSpec>,
}

#[derive(Debug, Clone, Default)]
pub struct RowSpec {
    pub clustering: Vec<Option<Vec<u8>>>,
    pub liveness: Option<Liveness>,
    pub deletion: Option<DeletionTime>,
    pub shadowable: bool,
    pub columns: Vec<ColumnSpec>,
}

#[derive(Debug, Clone)]
pub struct RangeSpec {
    pub start: (Vec<Option<Vec<u8>>>, bool),
    pub end: (Vec<Option<Vec<u8>>>, bool),
    pub deletion: DeletionTime,
}

#[derive(Debug, Clone)]
pub struct Spec {
    pub table: TableSchema,
    pub index: u32,
    pub key: Vec<Vec<u8>>,
    pub partition_deletion: Option<DeletionTime>,
    pub static_row: Option<RowSpec>,
    pub rows: Vec<RowSpec>,
    pub ranges: Vec<RangeSpec>,
}

impl Spec {
    pub fn new(table: TableSchema, key: &[&[u8]]) -> Self {
        let key = key.iter().map(|part| part.to_vec()).collect();
        Self { table, index: 0, key, partition_deletion: None, static_row: None, rows: vec![], ranges: vec![] }
    }

    pub fn serialised_key(&self) -> Vec<u8> {
        match self.key.as_slice() {
            [only] => only.clone(),
            parts => parts
                .iter()
                .flat_map(|part| [&u16::try_from(part.len()).unwrap().to_be_bytes()[..], part, &[0]].concat())
                .collect(),
        }
    }

    pub fn own(&self) -> Owned {
        let mut owned = Owned {
            table: self.table.clone(),
            index: self.index,
            key: self.serialised_key(),
            partition_deletion: self.partition_deletion,
            static_row: None,
            rows: vec![],
            range_deletes: vec![],
            columns: vec![],
            cells: vec![],
            clusterings: vec![],
            body: b"not part of any span".to_vec(),
            identity: [Span::default(); 3],
        };
        owned.static_row = self.static_row.as_ref().map(|row| owned.row(row));
        for row in &self.rows {
            let row = owned.row(row);
            owned.rows.push(row);
        }
        for range in &self.ranges {
            let start = Bound { clustering: owned.clustering(&range.start.0), inclusive: range.start.1 };
            let end = Bound { clustering: owned.clustering(&range.end.0), inclusive: range.end.1 };
            owned.range_deletes.push(RangeDelete { start, end, deletion: range.deletion });
        }
        let end = u32::try_from(owned.body.len()).unwrap();
        owned.identity = [Span { start: 0, end: 4 }, Span { start: 4, end: 8 }, Span { start: 12, end }];
        owned
    }
}

#[derive(Debug, Clone)]
pub struct Owned {
    pub table: TableSchema,
    pub index: u32,
    pub key: Vec<u8>,
    pub partition_deletion: Option<DeletionTime>,
    pub static_row: Option<Row>,
    pub rows: Vec<Row>,
    pub range_deletes: Vec<RangeDelete>,
    pub columns: Vec<ColumnData>,
    pub cells: Vec<Cell>,
    pub clusterings: Vec<ClusteringValue>,
    pub body: Vec<u8>,
    pub identity: [Span; 3],
}

impl Owned {
    fn span(&mut self, bytes: &[u8]) -> Span {
        let start = u32::try_from(self.body.len()).unwrap();
        self.body.extend_from_slice(bytes);
        Span { start, end: u32::try_from(self.body.len()).unwrap() }
    }

    fn clustering(&mut self, values: &[Option<Vec<u8>>]) -> std::ops::Range<u32> {
        let start = u32::try_from(self.clusterings.len()).unwrap();
        for value in values {
            let value = match value {
                Some(bytes) => ClusteringValue::Value(self.span(bytes)),
                None => ClusteringValue::Null,
            };
            self.clusterings.push(value);
        }
        start..u32::try_from(self.clusterings.len()).unwrap()
    }

    fn row(&mut self, spec: &RowSpec) -> Row {
        let clustering = self.clustering(&spec.clustering);
        let start = u32::try_from(self.columns.len()).unwrap();
        for column in &spec.columns {
            let first = u32::try_from(self.cells.len()).unwrap();
            for cell in &column.cells {
                let (path, value) = (self.span(&cell.path), self.span(&cell.value));
                self.cells.push(Cell { timestamp: cell.ts, state: cell.state, path, value });
            }
            let cells = first..u32::try_from(self.cells.len()).unwrap();
            let index = u32::try_from(column.column).unwrap();
            self.columns.push(ColumnData { column: index, deletion: column.deletion, cells });
        }
        let columns = start..u32::try_from(self.columns.len()).unwrap();
        Row { clustering, liveness: spec.liveness, deletion: spec.deletion, shadowable: spec.shadowable, columns }
    }

    pub fn update(&self) -> PartitionUpdate<'_> {
        PartitionUpdate {
            table: &self.table,
            // The table may be changed between two updates, as if each came from a schema of its own.
            schema: Schema::new([]).number(),
            index: self.index,
            key: &self.key,
            partition_deletion: self.partition_deletion,
            static_row: self.static_row.as_ref(),
            rows: &self.rows,
            range_deletes: &self.range_deletes,
            columns: &self.columns,
            cells: &self.cells,
            clusterings: &self.clusterings,
            body: &self.body,
            identity: self.identity,
        }
    }
}

pub fn native(native: Native) -> CqlType {
    CqlType::Native(native)
}

pub fn list(element: CqlType, frozen: bool) -> CqlType {
    CqlType::List { element: Box::new(element), frozen }
}

pub fn set(element: CqlType, frozen: bool) -> CqlType {
    CqlType::Set { element: Box::new(element), frozen }
}

pub fn map(key: CqlType, value: CqlType, frozen: bool) -> CqlType {
    CqlType::Map { key: Box::new(key), value: Box::new(value), frozen }
}

pub fn vector(element: CqlType, dimension: u32) -> CqlType {
    CqlType::Vector { element: Box::new(element), dimension }
}

pub fn udt(fields: &[(&str, CqlType)], frozen: bool) -> CqlType {
    let fields = fields.iter().map(|(name, cql_type)| Field { name: (*name).to_owned(), cql_type: cql_type.clone() });
    CqlType::Udt { definition: Arc::new(UserType { name: "u".to_owned(), fields: fields.collect() }), frozen }
}

pub fn columns(kind: ColumnKind, columns: &[(&str, CqlType)]) -> Vec<Column> {
    let column =
        |(name, cql_type): &(&str, CqlType)| Column { name: (*name).to_owned(), cql_type: cql_type.clone(), kind };
    columns.iter().map(column).collect()
}

pub fn table(key: &[(&str, CqlType)], clustering: &[(&str, CqlType)], regular: &[(&str, CqlType)]) -> TableSchema {
    TableSchema {
        id: TableId(0x5a1c_0000_0000_1000_8000_0000_0000_0001),
        keyspace: "shop".to_owned(),
        name: "orders".to_owned(),
        cdc: true,
        partition_key: columns(ColumnKind::PartitionKey, key),
        clustering: columns(ColumnKind::Clustering, clustering),
        columns: columns(ColumnKind::Regular, regular),
    }
}

pub fn deletion(ts: i64, at: i64) -> DeletionTime {
    DeletionTime { marked_for_delete_at: ts, local_deletion_time: at }
}

pub fn live(value: &[u8], ts: i64) -> CellSpec {
    CellSpec { ts, state: CellState::Live, path: vec![], value: value.to_vec() }
}

pub fn dead(at: i64, ts: i64) -> CellSpec {
    CellSpec { ts, state: CellState::Deleted { at }, path: vec![], value: vec![] }
}

pub fn expiring(value: &[u8], ts: i64, ttl: i32, at: i64) -> CellSpec {
    CellSpec { state: CellState::Expiring(Expiry { ttl, at }), ..live(value, ts) }
}

pub fn at_path(path: &[u8], cell: CellSpec) -> CellSpec {
    CellSpec { path: path.to_vec(), ..cell }
}

pub fn one(column: usize, cell: CellSpec) -> ColumnSpec {
    ColumnSpec { column, deletion: None, cells: vec![cell] }
}

/// The contract's example.
pub fn example() -> Spec {
    let text = || native(Native::Text);
    let mut table = table(
        &[("customer", native(Native::Int))],
        &[("order", native(Native::Int))],
        &[("total", native(Native::Decimal)), ("note", text()), ("tags", set(text(), false))],
    );
    table.columns.extend(columns(ColumnKind::Static, &[("tier", text())]));
    let mut spec = Spec::new(table, &[&42_i32.to_be_bytes()]);
    let ts = 1_700_000_000_000_000;
    spec.partition_deletion = Some(deletion(ts, 1_700_000_000));
    spec.static_row = Some(RowSpec { columns: vec![one(3, live(b"gold", ts + 1))], ..RowSpec::default() });
    let order = |order: i32| vec![Some(order.to_be_bytes().to_vec())];
    spec.rows.push(RowSpec {
        clustering: order(7),
        liveness: Some(Liveness { timestamp: ts + 2, expiry: Some(Expiry { ttl: 86_400, at: 1_700_086_400 }) }),
        columns: vec![
            one(0, live(&[0, 0, 0, 2, 0x04, 0xe2], ts + 2)),
            one(1, dead(1_700_000_000, ts + 3)),
            ColumnSpec {
                column: 2,
                deletion: Some(deletion(ts + 1, 1_700_000_000)),
                cells: vec![at_path(b"red", live(b"", ts + 2)), at_path(b"blue", dead(1_700_000_000, ts + 2))],
            },
        ],
        ..RowSpec::default()
    });
    spec.rows.push(RowSpec {
        clustering: order(8),
        deletion: Some(deletion(ts + 4, 1_700_000_000)),
        ..RowSpec::default()
    });
    spec.ranges.push(RangeSpec {
        start: (order(10), true),
        end: (order(20), false),
        deletion: deletion(ts + 5, 1_700_000_000),
    });
    spec
}
