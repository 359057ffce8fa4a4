//! Cell: flags, then timestamp delta, local-deletion-time delta, TTL delta, path and value, each only where the flags
//! say so. Complex column: deletion time where the row has any, number of cells, cells with paths.
//!
//! Owns: one column of a row. Does not own: which columns a row has (`column_list`), what the bytes of a value mean.

use crate::column_list::{Framing, ListedColumn};
use crate::error::Structure;
use crate::parse::{Parsed, broken, byte, length, out_of_range, take, within};
use crate::unfiltered::{Buffers, Grammar, TOO_MANY};
use crate::update::{Cell, CellState, ColumnData, Liveness, Span};
use crate::vint;

const IS_DELETED: u8 = 0x01;
const IS_EXPIRING: u8 = 0x02;
const HAS_EMPTY_VALUE: u8 = 0x04;
const USE_ROW_TIMESTAMP: u8 = 0x08;
const USE_ROW_TTL: u8 = 0x10;

/// The shortest cell of a complex column: flags and the length of its path.
const MIN_COMPLEX_CELL: u32 = 2;

/// What the row says that its columns need.
#[derive(Clone, Copy)]
pub(crate) struct RowContext {
    pub(crate) liveness: Option<Liveness>,
    pub(crate) has_complex_deletion: bool,
}

/// Reads one column of a row into the buffers.
#[inline(always)]
pub(crate) fn column<'a>(
    input: &'a [u8],
    listed: ListedColumn,
    row: &RowContext,
    grammar: &Grammar<'a>,
    out: &mut Buffers,
) -> Parsed<'a, ()> {
    let first = length(out.cells.len());
    let (rest, deletion) = match listed.framing {
        Framing::MultiCell => within(Structure::ComplexColumn, complex(input, row, grammar, out))?,
        framing => {
            let (rest, cell) = within(Structure::Cell, cell(input, framing, row.liveness, grammar))?;
            out.cells.push(cell);
            (rest, None)
        }
    };
    let cells = first..length(out.cells.len());
    out.columns.push(ColumnData { column: listed.column, deletion, cells });
    Ok((rest, ()))
}

fn complex<'a>(
    input: &'a [u8],
    row: &RowContext,
    grammar: &Grammar<'a>,
    out: &mut Buffers,
) -> Parsed<'a, Option<crate::update::DeletionTime>> {
    let (rest, deletion) = if row.has_complex_deletion { grammar.stats.deletion_time(input)? } else { (input, None) };
    let (mut rest, count) = vint::count(rest, MIN_COMPLEX_CELL, "number of cells")?;
    if out.is_full(count) {
        return Err(broken(input, TOO_MANY));
    }
    for _ in 0..count {
        let (after, cell) = within(Structure::Cell, cell(rest, Framing::MultiCell, row.liveness, grammar))?;
        out.cells.push(cell);
        rest = after;
    }
    Ok((rest, deletion))
}

#[inline(always)]
fn cell<'a>(input: &'a [u8], framing: Framing, liveness: Option<Liveness>, grammar: &Grammar<'a>) -> Parsed<'a, Cell> {
    let (rest, flags) = byte(input)?;
    if flags & !(IS_DELETED | IS_EXPIRING | HAS_EMPTY_VALUE | USE_ROW_TIMESTAMP | USE_ROW_TTL) != 0 {
        return Err(out_of_range(input, "cell flags", u64::from(flags)));
    }
    let (rest, timestamp) = if flags & USE_ROW_TIMESTAMP == 0 {
        grammar.stats.timestamp(rest)?
    } else {
        let Some(liveness) = liveness else {
            return Err(broken(input, "a cell uses the timestamp of a row that has none"));
        };
        (rest, liveness.timestamp)
    };
    let (rest, state) = state(input, rest, flags, liveness, grammar)?;
    let (rest, path) = if framing == Framing::MultiCell {
        let (rest, path) = vint::bytes(rest)?;
        (rest, grammar.span(path, rest))
    } else {
        (rest, Span::default())
    };
    let (rest, value) = if flags & HAS_EMPTY_VALUE != 0 {
        (rest, Span::default())
    } else {
        let (rest, value) = match framing {
            Framing::Fixed(len) => take(rest, u64::from(len))?,
            Framing::Variable | Framing::MultiCell => vint::bytes(rest)?,
        };
        (rest, grammar.span(value, rest))
    };
    Ok((rest, Cell { timestamp, state, path, value }))
}

#[inline(always)]
fn state<'a>(
    cell: &'a [u8],
    rest: &'a [u8],
    flags: u8,
    liveness: Option<Liveness>,
    grammar: &Grammar<'a>,
) -> Parsed<'a, CellState> {
    let use_row_ttl = flags & USE_ROW_TTL != 0;
    match (flags & IS_DELETED != 0, flags & IS_EXPIRING != 0) {
        (false, false) if use_row_ttl => Err(broken(cell, "a cell without TTL uses that of its row")),
        (false, false) => Ok((rest, CellState::Live)),
        (true, false) if use_row_ttl => Err(broken(cell, "a tombstone uses the TTL of its row")),
        (true, false) if flags & HAS_EMPTY_VALUE == 0 => Err(broken(cell, "a tombstone has a value")),
        (true, false) => {
            let (rest, at) = grammar.stats.local_deletion_time(rest)?;
            Ok((rest, CellState::Deleted { at }))
        }
        (false, true) if use_row_ttl => match liveness.and_then(|liveness| liveness.expiry) {
            Some(expiry) => Ok((rest, CellState::Expiring(expiry))),
            None => Err(broken(cell, "a cell uses the TTL of a row that has none")),
        },
        (false, true) => {
            let (rest, expiry) = grammar.stats.cell_expiry(rest)?;
            Ok((rest, CellState::Expiring(expiry)))
        }
        (true, true) => Err(broken(cell, "a cell is a tombstone and expires")),
    }
}
