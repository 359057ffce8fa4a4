//! An update in pieces: one thing that it says, or as much of it as a record may hold.
//!
//! Owns: where an update may be cut (between rows and deletions, then between cells, then inside of one value), and the
//! numbering of the parts. Does not own: how a piece is written: it is an update itself, with narrower slices.
//!
//! A rare path, so it measures by encoding: halves until each half fits. Nothing is estimated, and the limit holds in
//! both formats.

use std::ops::Range;
use std::slice;

use cassandra_commitlog::{Cell, CellState, ColumnData, PartitionUpdate, Row};

use crate::element::{Elements, UNKNOWN};
use crate::encoder::{Chunk, ChunkOf, Frame, Record};
use crate::settings::Format;

/// Fewer bytes are in no chunk but the last, however large the rest of the record is.
const MIN_CHUNK: usize = 768;
/// What the lengths around a Protobuf chunk may grow by when it is filled.
const SLACK: usize = 32;

/// How many things an update says: deletion of the partition, static row, rows, range deletions.
pub(crate) fn units(update: &PartitionUpdate<'_>) -> usize {
    usize::from(update.partition_deletion.is_some())
        + usize::from(update.static_row.is_some())
        + update.rows.len()
        + update.range_deletes.len()
}

/// An update that says no more than a range of those things, in the order of [`units`].
pub(crate) fn narrow<'a>(update: &PartitionUpdate<'a>, range: Range<usize>) -> PartitionUpdate<'a> {
    let mut narrowed = *update;
    let mut at = 0;
    let mut take = |len: usize| {
        let start = range.start.clamp(at, at + len) - at;
        let end = range.end.clamp(at, at + len) - at;
        at += len;
        start..end
    };
    let deletion = take(usize::from(update.partition_deletion.is_some()));
    let static_row = take(usize::from(update.static_row.is_some()));
    let rows = take(update.rows.len());
    let ranges = take(update.range_deletes.len());
    narrowed.partition_deletion = update.partition_deletion.filter(|_| !deletion.is_empty());
    narrowed.static_row = update.static_row.filter(|_| !static_row.is_empty());
    narrowed.rows = update.rows.get(rows).unwrap_or_default();
    narrowed.range_deletes = update.range_deletes.get(ranges).unwrap_or_default();
    narrowed
}

/// Appends an update that is too large for one record as numbered parts.
#[cold]
pub(crate) fn split(frame: &Frame<'_>, update: &PartitionUpdate<'_>, arena: &mut Vec<u8>, records: &mut Vec<Record>) {
    let mut cutter = Cutter { frame, update, arena, pieces: Vec::new() };
    cutter.cut_units(0..units(update));
    let pieces = cutter.pieces;
    let parts = u32::try_from(pieces.len()).unwrap_or(u32::MAX);
    for (number, piece) in (1..=parts).zip(pieces) {
        let start = arena.len();
        piece.write(frame, update, (number, parts), arena);
        frame.push(start, arena, records);
        if frame.is_over(arena) {
            return;
        }
    }
}

/// A cell of a row, or a column that was deleted and has none.
#[derive(Debug, Clone)]
struct Atom {
    data: ColumnData,
    /// Whether the column's own deletion goes with it.
    first: bool,
}

/// A row with some of its cells.
#[derive(Debug, Clone)]
struct RowPart {
    row: Row,
    columns: Vec<ColumnData>,
    is_static: bool,
}

impl RowPart {
    /// `with_head`: whether liveness and deletion of the row are in it.
    fn new(row: &Row, is_static: bool, atoms: &[Atom], with_head: bool, with_deletion: bool) -> Self {
        let mut columns: Vec<ColumnData> = Vec::new();
        for atom in atoms {
            match columns.last_mut() {
                Some(last)
                    if last.column == atom.data.column && last.cells.end == atom.data.cells.start && !atom.first =>
                {
                    last.cells.end = atom.data.cells.end;
                }
                _ => {
                    let deletion = atom.data.deletion.filter(|_| atom.first && with_deletion);
                    columns.push(ColumnData { deletion, ..atom.data.clone() });
                }
            }
        }
        let mut row = row.clone();
        if !with_head {
            (row.liveness, row.deletion, row.shadowable) = (None, None, false);
        }
        row.columns = 0..u32::try_from(columns.len()).unwrap_or(u32::MAX);
        Self { row, columns, is_static }
    }

    /// The update that says this part of a row and nothing else.
    fn update<'s>(&'s self, whole: &PartitionUpdate<'s>) -> PartitionUpdate<'s> {
        let mut narrowed = narrow(whole, 0..0);
        narrowed.columns = &self.columns;
        if self.is_static {
            narrowed.static_row = Some(&self.row);
        } else {
            narrowed.rows = slice::from_ref(&self.row);
        }
        narrowed
    }
}

/// What one part holds.
enum Piece<'a> {
    Units(Range<usize>),
    Row(RowPart),
    Chunk(RowPart, Chunk<'a>),
}

impl Piece<'_> {
    fn write(&self, frame: &Frame<'_>, update: &PartitionUpdate<'_>, part: (u32, u32), out: &mut Vec<u8>) {
        let mut frame = Frame { part: Some(part), ..frame.clone() };
        match self {
            Self::Units(range) => frame.value(&narrow(update, range.clone()), out),
            Self::Row(row) => frame.value(&row.update(update), out),
            Self::Chunk(row, chunk) => {
                frame.chunk = Some(*chunk);
                frame.value(&row.update(update), out);
            }
        }
    }
}

struct Cutter<'c, 'a> {
    frame: &'c Frame<'c>,
    update: &'c PartitionUpdate<'a>,
    arena: &'c mut Vec<u8>,
    pieces: Vec<Piece<'a>>,
}

impl<'a> Cutter<'_, 'a> {
    /// Bytes of the record of a piece, with numbers as long as they can be.
    fn size(&mut self, piece: &Piece<'_>) -> usize {
        let start = self.arena.len();
        piece.write(self.frame, self.update, (u32::MAX, u32::MAX), self.arena);
        let size = self.arena.len() - start + self.frame.key.len();
        self.arena.truncate(start);
        size
    }

    fn keep_if_fits(&mut self, piece: Piece<'a>) -> bool {
        let fits = self.size(&piece) <= self.frame.limit();
        if fits {
            self.pieces.push(piece);
        }
        fits
    }

    fn cut_units(&mut self, range: Range<usize>) {
        if self.keep_if_fits(Piece::Units(range.clone())) {
            return;
        }
        if range.len() > 1 {
            let middle = range.start + range.len() / 2;
            self.cut_units(range.start..middle);
            self.cut_units(middle..range.end);
            return;
        }
        let unit = narrow(self.update, range.clone());
        let (row, is_static) = match (unit.static_row, unit.rows) {
            (Some(row), _) => (row, true),
            (None, [row]) => (row, false),
            // A deletion has nothing to be cut off.
            _ => return self.pieces.push(Piece::Units(range)),
        };
        let atoms = atoms(&unit, row);
        if atoms.is_empty() {
            self.pieces.push(Piece::Units(range));
        } else {
            self.cut_cells(row, is_static, &atoms, true);
        }
    }

    fn cut_cells(&mut self, row: &Row, is_static: bool, atoms: &[Atom], with_head: bool) {
        if self.keep_if_fits(Piece::Row(RowPart::new(row, is_static, atoms, with_head, true))) {
            return;
        }
        match atoms {
            [atom] => self.cut_cell(row, is_static, atom, with_head),
            _ => {
                let (left, right) = atoms.split_at_checked(atoms.len() / 2).unwrap_or_default();
                self.cut_cells(row, is_static, left, with_head);
                self.cut_cells(row, is_static, right, false);
            }
        }
    }

    /// Cuts a cell that does not fit by itself into chunks of its value, and of its path if that is what is large.
    fn cut_cell(&mut self, row: &Row, is_static: bool, atom: &Atom, with_head: bool) {
        let first = RowPart::new(row, is_static, slice::from_ref(atom), with_head, true);
        let Some(cell) = self.update.cells_of(&atom.data).first().copied() else {
            return self.pieces.push(Piece::Row(first));
        };
        let later = RowPart::new(row, is_static, slice::from_ref(atom), false, false);
        let (path, value) = (self.update.bytes(cell.path), self.update.bytes(cell.value));
        let has_value = self.has_value(atom, &cell);
        let limit = self.frame.limit();
        let target = if has_value { ChunkOf::Value } else { ChunkOf::Path };
        let around = if has_value { self.around(&first, target) } else { self.size(&Piece::Row(first.clone())) };
        if !path.is_empty() && around > limit / 2 {
            self.chunks(&first, &later, ChunkOf::Path, path);
            if has_value {
                self.chunks(&later, &later, ChunkOf::ValueAlone, value);
            }
        } else if has_value {
            self.chunks(&first, &later, target, value);
        } else {
            self.pieces.push(Piece::Row(first));
        }
    }

    /// Whether the event gives a value for this cell: elements of sets and tombstones have none.
    fn has_value(&self, atom: &Atom, cell: &Cell) -> bool {
        let cql_type = self.update.definition(&atom.data).map_or(&UNKNOWN, |column| &column.cql_type);
        let typed = !cql_type.is_multi_cell() || Elements::of(cql_type).cell(self.update.bytes(cell.path)).1.is_some();
        !matches!(cell.state, CellState::Deleted { .. }) && (typed || !cell.value.is_empty())
    }

    /// Bytes of a record whose chunk is empty.
    fn around(&mut self, row: &RowPart, target: ChunkOf) -> usize {
        self.size(&Piece::Chunk(row.clone(), Chunk { target, number: u32::MAX, of: u32::MAX, bytes: &[] }))
    }

    fn chunks(&mut self, first: &RowPart, later: &RowPart, target: ChunkOf, bytes: &'a [u8]) {
        let room = self.frame.limit().saturating_sub(self.around(first, target));
        let pieces = chunk_bytes(bytes, room, self.frame.settings.format);
        for (chunk, row) in pieces.zip(std::iter::once(first).chain(std::iter::repeat(later))) {
            self.pieces.push(Piece::Chunk(row.clone(), Chunk { target, ..chunk }));
        }
    }
}

/// Bytes in numbered chunks, at least one, of which each takes no more room than given.
pub(crate) fn chunk_bytes(bytes: &[u8], room: usize, format: Format) -> impl Iterator<Item = Chunk<'_>> {
    let room = room.saturating_sub(SLACK);
    let len = match format {
        // Four characters for every three bytes.
        Format::Json => room / 4 * 3,
        Format::Protobuf => room,
    };
    let len = len.max(MIN_CHUNK);
    let of = u32::try_from(bytes.len().div_ceil(len).max(1)).unwrap_or(u32::MAX);
    (1..=of).map(move |number| {
        let start = len * (number as usize - 1);
        let bytes = bytes.get(start..bytes.len().min(start + len)).unwrap_or_default();
        Chunk { target: ChunkOf::Value, number, of, bytes }
    })
}

fn atoms(update: &PartitionUpdate<'_>, row: &Row) -> Vec<Atom> {
    let mut atoms = Vec::new();
    for data in update.columns_of(row) {
        if data.cells.is_empty() {
            atoms.push(Atom { data: data.clone(), first: true });
        }
        for cell in data.cells.clone() {
            let first = cell == data.cells.start;
            atoms.push(Atom { data: ColumnData { cells: cell..cell + 1, ..data.clone() }, first });
        }
    }
    atoms
}
