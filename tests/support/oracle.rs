//! What Cassandra's own reader saw: the lines of `expected.jsonl.gz`, and the changes in them.

use std::collections::BTreeMap;
use std::io::BufRead;
use std::path::Path;

use serde::Deserialize;

use super::load;

/// A line of kind `mutation`.
#[derive(Debug, Deserialize)]
pub struct Mutation {
    pub segment: String,
    pub position: u32,
    /// Of the mutation alone: its entry has 12 bytes more.
    pub size: u32,
    pub updates: Vec<Update>,
}

impl Mutation {
    /// Whether a table is in it that the schema at the end does not have.
    pub fn is_unknown(&self) -> bool {
        self.updates.iter().any(|update| !update.known_at_end)
    }

    /// The changes that are to be published, each with its index among all updates.
    pub fn published(&self) -> impl Iterator<Item = (usize, &Update)> {
        let known = self.updates.iter().enumerate().take_while(|(_, update)| update.known_at_end);
        known.filter(|(_, update)| update.cdc)
    }
}

/// One table's part of a mutation.
#[derive(Debug, Deserialize)]
pub struct Update {
    pub keyspace: String,
    pub table: String,
    pub table_id: String,
    pub cdc: bool,
    #[serde(default = "yes")]
    pub known_at_end: bool,
    pub key: String,
    #[serde(default)]
    key_parts: Vec<Part>,
    partition_deletion: Option<Times>,
    #[serde(rename = "static")]
    static_row: Option<RowLine>,
    /// Not there in lines that say counts alone.
    unfiltered: Option<Vec<Unfiltered>>,
    rows: usize,
    cells: usize,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Deserialize)]
struct Part {
    column: String,
    value: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Times {
    mfda: i64,
    ldt: i64,
    #[serde(default)]
    shadowable: bool,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Unfiltered {
    Row(RowLine),
    Marker(Marker),
}

#[derive(Debug, Deserialize)]
struct RowLine {
    #[serde(default)]
    clustering: Vec<Part>,
    liveness: Option<LivenessLine>,
    deletion: Option<Times>,
    cells: Vec<CellLine>,
    complex_deletions: Option<Vec<ComplexDeletion>>,
}

#[derive(Debug, Deserialize)]
struct LivenessLine {
    timestamp: i64,
    ttl: Option<i64>,
    ldt: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct CellLine {
    column: String,
    path: Option<String>,
    timestamp: i64,
    ttl: Option<i64>,
    ldt: Option<i64>,
    tombstone: bool,
    value: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ComplexDeletion {
    column: String,
    mfda: i64,
    ldt: i64,
}

#[derive(Debug, Deserialize)]
struct Marker {
    bound: String,
    clustering: Vec<Part>,
    close: Option<Times>,
    open: Option<Times>,
}

/// One table's change of one partition: all that Cassandra wrote, values and paths as hex.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub keyspace: String,
    pub table: String,
    pub table_id: String,
    pub key: String,
    pub key_parts: Vec<(String, Option<String>)>,
    pub partition_deletion: Option<Deletion>,
    pub static_row: Option<Row>,
    pub rows: Vec<Row>,
    pub ranges: Vec<Range>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    pub ts: i64,
    pub at: i64,
    pub shadowable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub clustering: Vec<(String, Option<String>)>,
    pub liveness: Option<Liveness>,
    pub deletion: Option<Deletion>,
    pub columns: BTreeMap<String, Column>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    pub ts: i64,
    pub ttl: Option<i64>,
    pub expires: Option<i64>,
}

/// What a row says of a column: its cells in order, and the deletion of all that was there before them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Column {
    pub overwrite: Option<Deletion>,
    pub cells: Vec<Cell>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    pub path: Option<String>,
    pub ts: i64,
    pub ttl: Option<i64>,
    pub expires: Option<i64>,
    pub deleted: Option<i64>,
    pub value: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Range {
    pub start: Bound,
    pub end: Bound,
    pub deletion: Deletion,
}

/// The partition's edge has no clustering and is inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    pub clustering: Vec<(String, Option<String>)>,
    pub inclusive: bool,
}

impl From<&Times> for Deletion {
    fn from(times: &Times) -> Self {
        Self { ts: times.mfda, at: times.ldt, shadowable: times.shadowable }
    }
}

fn named(parts: &[Part]) -> Vec<(String, Option<String>)> {
    parts.iter().map(|part| (part.column.clone(), part.value.clone())).collect()
}

impl From<&RowLine> for Row {
    fn from(line: &RowLine) -> Self {
        let mut columns: BTreeMap<String, Column> = BTreeMap::new();
        for cell in &line.cells {
            let (dead, expires) = if cell.tombstone { (cell.ldt, None) } else { (None, cell.ldt) };
            columns.entry(cell.column.clone()).or_default().cells.push(Cell {
                path: cell.path.clone(),
                ts: cell.timestamp,
                ttl: cell.ttl,
                expires,
                deleted: dead,
                value: cell.value.clone(),
            });
        }
        for at in line.complex_deletions.iter().flatten() {
            let deletion = Deletion { ts: at.mfda, at: at.ldt, shadowable: false };
            columns.entry(at.column.clone()).or_default().overwrite = Some(deletion);
        }
        let liveness = |line: &LivenessLine| Liveness { ts: line.timestamp, ttl: line.ttl, expires: line.ldt };
        Self {
            clustering: named(&line.clustering),
            liveness: line.liveness.as_ref().map(liveness),
            deletion: line.deletion.as_ref().map(Deletion::from),
            columns,
        }
    }
}

/// Markers folded to ranges: each closes the one that is open, and may open the next.
fn ranges(unfiltered: &[Unfiltered]) -> Vec<Range> {
    let bound = |marker: &Marker, side: &str| Bound {
        clustering: named(&marker.clustering),
        inclusive: marker.clustering.is_empty() || marker.bound.contains(side),
    };
    let (mut ranges, mut open) = (Vec::new(), None);
    for item in unfiltered {
        let Unfiltered::Marker(marker) = item else { continue };
        if let Some(close) = &marker.close {
            let (start, deletion): (Bound, &Times) = open.take().expect("an open range");
            assert_eq!((deletion.mfda, deletion.ldt), (close.mfda, close.ldt));
            ranges.push(Range { start, end: bound(marker, "INCL_END"), deletion: deletion.into() });
        }
        open = marker.open.as_ref().map(|deletion| (bound(marker, "INCL_START"), deletion));
    }
    assert!(open.is_none(), "a range that is never closed");
    ranges
}

impl Update {
    /// What it says; nothing for a line that says counts alone.
    pub fn change(&self) -> Option<Change> {
        let unfiltered = self.unfiltered.as_ref()?;
        let rows = unfiltered.iter().filter_map(|item| match item {
            Unfiltered::Row(row) => Some(Row::from(row)),
            Unfiltered::Marker(_) => None,
        });
        Some(Change {
            keyspace: self.keyspace.clone(),
            table: self.table.clone(),
            table_id: self.table_id.clone(),
            key: self.key.clone(),
            key_parts: named(&self.key_parts),
            partition_deletion: self.partition_deletion.as_ref().map(Deletion::from),
            static_row: self.static_row.as_ref().map(Row::from),
            rows: rows.collect(),
            ranges: ranges(unfiltered),
        })
    }

    /// How many rows, the static one included, and cells it has.
    pub fn counts(&self) -> (usize, usize) {
        (self.rows, self.cells)
    }
}

impl Change {
    /// As [`Update::counts`].
    pub fn counts(&self) -> (usize, usize) {
        let cells = |row: &Row| row.columns.values().map(|column| column.cells.len()).sum::<usize>();
        let rows = self.rows.iter().chain(&self.static_row);
        (rows.clone().count(), rows.map(cells).sum())
    }
}

/// A mutation that Cassandra's reader leaves out.
#[derive(Debug, Deserialize)]
pub struct Skipped {
    pub segment: String,
    pub position: u32,
    pub reason: String,
}

#[derive(Debug, Deserialize)]
struct Sections {
    segment: String,
    sections: Vec<Section>,
}

/// A section between its marker, the 8 bytes before `start`, and the next.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Section {
    pub start: u32,
    pub end: u32,
    pub logical_end: u32,
}

#[derive(Debug, Deserialize)]
struct End {
    mutations: u64,
}

/// All lines of a case.
#[derive(Debug, Default)]
pub struct Expected {
    pub mutations: Vec<Mutation>,
    pub skipped: Vec<Skipped>,
    pub sections: BTreeMap<String, Vec<Section>>,
    /// Mutations that the reader handed over; more than there are lines where the case keeps only the first.
    pub counted: u64,
}

#[derive(Deserialize)]
struct Kind {
    r#type: String,
}

/// Reads the lines of a case.
pub fn read(path: &Path) -> Expected {
    let mut expected = Expected::default();
    for line in load::read(path).lines() {
        let line = line.expect("UTF-8");
        let wrong = |error| panic!("{}: {error}: {line}", path.display());
        let kind: Kind = serde_json::from_str(&line).unwrap_or_else(wrong);
        match kind.r#type.as_str() {
            "mutation" => {
                expected.mutations.push(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
            }
            "skipped" => expected.skipped.push(serde_json::from_str(&line).unwrap()),
            "segment" => {
                let sections: Sections = serde_json::from_str(&line).unwrap();
                expected.sections.insert(sections.segment, sections.sections);
            }
            "end" => expected.counted += serde_json::from_str::<End>(&line).unwrap().mutations,
            other => panic!("a line of kind {other}: {line}"),
        }
    }
    expected
}
