//! Unfiltereds: rows and range tombstone markers in clustering order, each begun by a flags byte, ended by the byte 1.
//!
//! Row: flags, a second flags byte, clustering, liveness timestamp, TTL and expiry, deletion, column subset, columns,
//! each only where the flags say so. Marker: the byte 2, a kind, a `u16` number of values, the values, one or two
//! deletion times. Owns: the loop, rows, markers paired to ranges. Does not own: the cells.

use alloc::vec::Vec;
use core::ops::Range;

use nom::number::complete::be_u16;

use crate::cell::{RowContext, column};
use crate::clustering::clustering;
use crate::column_list::{ListedColumn, subset};
use crate::encoding_stats::EncodingStats;
use crate::error::Structure;
use crate::parse::{Parsed, broken, byte, index, length, out_of_range, within};
use crate::schema::{Column, TableSchema};
use crate::update::{Bound, Cell, ClusteringValue, ColumnData, DeletionTime, Liveness, RangeDelete, Row, Span};

const END_OF_PARTITION: u8 = 0x01;
const IS_MARKER: u8 = 0x02;
const HAS_TIMESTAMP: u8 = 0x04;
const HAS_TTL: u8 = 0x08;
const HAS_DELETION: u8 = 0x10;
const HAS_ALL_COLUMNS: u8 = 0x20;
const HAS_COMPLEX_DELETION: u8 = 0x40;
const EXTENSION: u8 = 0x80;

const IS_STATIC: u8 = 0x01;
const HAS_SHADOWABLE_DELETION: u8 = 0x02;

/// What [`Buffers::is_full`] means to a reader of the error.
pub(crate) const TOO_MANY: &str = "more rows and cells in one update than are read";

/// What all rows and markers of one update share.
#[derive(Clone, Copy)]
pub(crate) struct Grammar<'a> {
    pub(crate) table: &'a TableSchema,
    pub(crate) stats: EncodingStats,
    pub(crate) body: &'a [u8],
}

impl<'a> Grammar<'a> {
    /// Where in the body some bytes lie, by what follows them.
    #[inline(always)]
    pub(crate) fn span(&self, bytes: &'a [u8], rest: &'a [u8]) -> Span {
        let end = length(self.body.len().saturating_sub(rest.len()));
        Span { start: end.saturating_sub(length(bytes.len())), end }
    }
}

/// The lists that hold a decoded update. Cleared, never shrunk: a steady stream of updates allocates nothing.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(crate) static_row: Option<Row>,
    pub(crate) rows: Vec<Row>,
    pub(crate) columns: Vec<ColumnData>,
    pub(crate) cells: Vec<Cell>,
    pub(crate) clusterings: Vec<ClusteringValue>,
    pub(crate) range_deletes: Vec<RangeDelete>,
}

impl Buffers {
    /// Most rows, columns, cells, clustering values and ranges of one update together. The shortest of them take one
    /// byte of a mutation but up to 80 bytes here: without a limit a few hundred kilobytes, compressed, would ask for
    /// gigabytes. A mutation of Cassandra's default limit, 16 MiB, has no room for half as many that say anything.
    const MAX_ITEMS: usize = 1 << 23;

    /// Whether so many more would be too many.
    pub(crate) fn is_full(&self, more: u32) -> bool {
        let lists =
            [self.rows.len(), self.columns.len(), self.cells.len(), self.clusterings.len(), self.range_deletes.len()];
        lists.into_iter().fold(index(more), usize::saturating_add) > Self::MAX_ITEMS
    }

    pub(crate) fn clear(&mut self) {
        self.static_row = None;
        self.rows.clear();
        self.columns.clear();
        self.cells.clear();
        self.clusterings.clear();
        self.range_deletes.clear();
    }
}

/// The static row: flags and extended flags say so, and there is no clustering.
pub(crate) fn static_row<'a>(
    input: &'a [u8],
    grammar: &Grammar<'a>,
    list: &[ListedColumn],
    out: &mut Buffers,
) -> Parsed<'a, ()> {
    let parse = |out: &mut Buffers| {
        let (rest, flags) = byte(input)?;
        if flags & (END_OF_PARTITION | IS_MARKER) != 0 || flags & EXTENSION == 0 {
            return Err(out_of_range(input, "flags of a static row", u64::from(flags)));
        }
        let (rest, extended) = byte(rest)?;
        if extended != IS_STATIC {
            return Err(out_of_range(input, "extended flags of a static row", u64::from(extended)));
        }
        let (rest, row) = row_fields(rest, flags, 0..0, grammar, list, out)?;
        out.static_row = Some(row);
        Ok((rest, ()))
    };
    within(Structure::StaticRow, parse(out))
}

/// All rows and markers up to and with the end byte.
#[inline(always)]
pub(crate) fn unfiltereds<'a>(
    mut input: &'a [u8],
    grammar: &Grammar<'a>,
    list: &[ListedColumn],
    out: &mut Buffers,
) -> Parsed<'a, ()> {
    let mut open: Option<(Bound, DeletionTime)> = None;
    loop {
        if out.is_full(0) {
            return within(Structure::PartitionUpdate, Err(broken(input, TOO_MANY)));
        }
        let (rest, flags) = within(Structure::Row, byte(input))?;
        input = match flags {
            END_OF_PARTITION if open.is_none() => return Ok((rest, ())),
            END_OF_PARTITION => {
                let unclosed = Err(broken(input, "the partition ends inside a range tombstone"));
                return within(Structure::RangeTombstoneMarker, unclosed);
            }
            IS_MARKER => within(Structure::RangeTombstoneMarker, marker(rest, grammar, &mut open, out))?.0,
            _ if flags & (END_OF_PARTITION | IS_MARKER) != 0 => {
                return within(Structure::Row, Err(out_of_range(input, "row flags", u64::from(flags))));
            }
            _ => within(Structure::Row, row(rest, flags, grammar, list, out))?.0,
        };
    }
}

#[inline(always)]
fn row<'a>(
    input: &'a [u8],
    flags: u8,
    grammar: &Grammar<'a>,
    list: &[ListedColumn],
    out: &mut Buffers,
) -> Parsed<'a, ()> {
    let (rest, extended) = if flags & EXTENSION != 0 { byte(input)? } else { (input, 0) };
    if extended & !HAS_SHADOWABLE_DELETION != 0 {
        return Err(out_of_range(input, "extended flags of a row", u64::from(extended)));
    }
    let (rest, clustering) = values(rest, &grammar.table.clustering, grammar, out)?;
    let (rest, mut row) = row_fields(rest, flags, clustering, grammar, list, out)?;
    row.shadowable = extended & HAS_SHADOWABLE_DELETION != 0;
    out.rows.push(row);
    Ok((rest, ()))
}

#[inline(always)]
fn values<'a>(input: &'a [u8], columns: &[Column], grammar: &Grammar<'a>, out: &mut Buffers) -> Parsed<'a, Range<u32>> {
    let first = length(out.clusterings.len());
    let (rest, ()) = clustering(input, columns, |bytes, rest| grammar.span(bytes, rest), &mut out.clusterings)?;
    Ok((rest, first..length(out.clusterings.len())))
}

/// What rows and static rows have in common: all behind the clustering.
#[inline(always)]
fn row_fields<'a>(
    input: &'a [u8],
    flags: u8,
    clustering: Range<u32>,
    grammar: &Grammar<'a>,
    list: &[ListedColumn],
    out: &mut Buffers,
) -> Parsed<'a, Row> {
    let (rest, liveness) = liveness(input, flags, &grammar.stats)?;
    let (mut rest, deletion) =
        if flags & HAS_DELETION != 0 { grammar.stats.deletion_time(rest)? } else { (rest, None) };
    let context = RowContext { liveness, has_complex_deletion: flags & HAS_COMPLEX_DELETION != 0 };
    let first = length(out.columns.len());
    if flags & HAS_ALL_COLUMNS != 0 {
        for listed in list {
            (rest, ()) = column(rest, *listed, &context, grammar, out)?;
        }
    } else {
        (rest, ()) = subset(rest, list, |rest, listed| column(rest, listed, &context, grammar, out))?;
    }
    let columns = first..length(out.columns.len());
    Ok((rest, Row { clustering, liveness, deletion, shadowable: false, columns }))
}

#[inline(always)]
fn liveness<'a>(input: &'a [u8], flags: u8, stats: &EncodingStats) -> Parsed<'a, Option<Liveness>> {
    if flags & HAS_TIMESTAMP == 0 {
        if flags & HAS_TTL != 0 {
            return Err(broken(input, "a row without liveness has a TTL"));
        }
        return Ok((input, None));
    }
    let (rest, timestamp) = stats.timestamp(input)?;
    if flags & HAS_TTL == 0 {
        return Ok((rest, Some(Liveness { timestamp, expiry: None })));
    }
    let (rest, expiry) = stats.row_expiry(rest)?;
    Ok((rest, Some(Liveness { timestamp, expiry: Some(expiry) })))
}

/// The kinds of markers that a writer produces; each says which sides of the marker are inclusive.
enum MarkerKind {
    Start {
        inclusive: bool,
    },
    End {
        inclusive: bool,
    },
    /// The end of one range and the start of the next, at the same clustering.
    Boundary {
        end_inclusive: bool,
    },
}

fn marker_kind(input: &[u8]) -> Parsed<'_, MarkerKind> {
    let (rest, kind) = byte(input)?;
    let kind = match kind {
        0 => MarkerKind::End { inclusive: false },
        1 => MarkerKind::Start { inclusive: true },
        2 => MarkerKind::Boundary { end_inclusive: false },
        5 => MarkerKind::Boundary { end_inclusive: true },
        6 => MarkerKind::End { inclusive: true },
        7 => MarkerKind::Start { inclusive: false },
        _ => return Err(out_of_range(input, "marker kind", u64::from(kind))),
    };
    Ok((rest, kind))
}

fn marker<'a>(
    input: &'a [u8],
    grammar: &Grammar<'a>,
    open: &mut Option<(Bound, DeletionTime)>,
    out: &mut Buffers,
) -> Parsed<'a, ()> {
    let (rest, kind) = marker_kind(input)?;
    let (rest, count) = be_u16(rest)?;
    let Some(columns) = grammar.table.clustering.get(..usize::from(count)) else {
        return Err(out_of_range(input, "number of clustering values", u64::from(count)));
    };
    let (rest, clustering) = values(rest, columns, grammar, out)?;
    let bound = |inclusive| Bound { clustering: clustering.clone(), inclusive };
    let (rest, deletion) = range_deletion(rest, grammar)?;
    match kind {
        MarkerKind::Start { inclusive } => start(input, bound(inclusive), deletion, open)?,
        MarkerKind::End { inclusive } => end(input, bound(inclusive), deletion, open, out)?,
        MarkerKind::Boundary { end_inclusive } => {
            end(input, bound(end_inclusive), deletion, open, out)?;
            let (rest, deletion) = range_deletion(rest, grammar)?;
            start(input, bound(!end_inclusive), deletion, open)?;
            return Ok((rest, ()));
        }
    }
    Ok((rest, ()))
}

fn range_deletion<'a>(input: &'a [u8], grammar: &Grammar<'a>) -> Parsed<'a, DeletionTime> {
    match grammar.stats.deletion_time(input)? {
        (rest, Some(deletion)) => Ok((rest, deletion)),
        (_, None) => Err(broken(input, "a range tombstone marker without a deletion")),
    }
}

fn start(
    input: &[u8],
    bound: Bound,
    deletion: DeletionTime,
    open: &mut Option<(Bound, DeletionTime)>,
) -> Result<(), nom::Err<crate::parse::Flaw>> {
    match open.replace((bound, deletion)) {
        None => Ok(()),
        Some(_) => Err(broken(input, "a range tombstone starts inside another")),
    }
}

fn end(
    input: &[u8],
    end: Bound,
    deletion: DeletionTime,
    open: &mut Option<(Bound, DeletionTime)>,
    out: &mut Buffers,
) -> Result<(), nom::Err<crate::parse::Flaw>> {
    match open.take() {
        Some((start, opened)) if opened == deletion => {
            out.range_deletes.push(RangeDelete { start, end, deletion });
            Ok(())
        }
        Some(_) => Err(broken(input, "a range tombstone ends with another deletion than it started with")),
        None => Err(broken(input, "a range tombstone ends that never started")),
    }
}
