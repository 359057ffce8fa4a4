//! Column list: a count, then as many names, each with its length. The order of the list is the order of the data; a
//! subset names columns of the list by bit or index.
//!
//! Owns: names resolved to columns of the schema, once per distinct list. Does not own: cells.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::Structure;
use crate::parse::{Flaw, Parsed, broken, length, out_of_range, within};
use crate::schema::{ColumnKind, TableSchema};
use crate::vint;

/// How the value of a cell is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes, no length.
    Fixed(u32),
    /// A length, then the bytes.
    Variable,
    /// A count, then cells with paths.
    MultiCell,
}

/// A column of a list, resolved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ListedColumn {
    /// Index in [`TableSchema::columns`].
    pub(crate) column: u32,
    pub(crate) framing: Framing,
}

/// Why an update can't be read.
pub(crate) enum UpdateError {
    Malformed(nom::Err<Flaw>),
    UnknownColumn(String),
}

impl From<nom::Err<Flaw>> for UpdateError {
    fn from(error: nom::Err<Flaw>) -> Self {
        Self::Malformed(error)
    }
}

/// Resolved lists of one table, found again by their bytes: a statement always brings the same list.
#[derive(Debug, Default)]
pub(crate) struct ListCache {
    lists: Vec<CachedList>,
    /// Which one to overwrite when all places are taken.
    oldest: usize,
    /// What an overwritten list leaves behind, so that even lists without end allocate nothing.
    spare: Vec<ListedColumn>,
}

#[derive(Debug)]
struct CachedList {
    bytes: Vec<u8>,
    columns: Vec<ListedColumn>,
}

impl ListCache {
    /// Distinct lists kept for one table. More statements than this cost time: resolving a list takes ten times as long
    /// as finding it.
    const LIMIT: usize = 32;

    /// The list at the start of the input, and the input behind it.
    pub(crate) fn resolve<'a>(
        &mut self,
        input: &'a [u8],
        table: &TableSchema,
        kind: ColumnKind,
    ) -> Result<(&'a [u8], &[ListedColumn]), UpdateError> {
        let (rest, at) = self.place(input, table, kind)?;
        Ok((rest, self.lists.get(at).map(|list| list.columns.as_slice()).unwrap_or_default()))
    }

    /// Makes sure that the list is cached, and says where.
    fn place<'a>(
        &mut self,
        input: &'a [u8],
        table: &TableSchema,
        kind: ColumnKind,
    ) -> Result<(&'a [u8], usize), UpdateError> {
        for (at, list) in self.lists.iter().enumerate() {
            if let Some(rest) = input.strip_prefix(list.bytes.as_slice()) {
                return Ok((rest, at));
            }
        }
        let mut columns = core::mem::take(&mut self.spare);
        columns.clear();
        let rest = column_list(input, table, kind, &mut columns)?;
        let bytes = input.get(..input.len().saturating_sub(rest.len())).unwrap_or_default();
        let at = if self.lists.len() < Self::LIMIT { self.lists.len() } else { self.oldest };
        match self.lists.get_mut(at) {
            None => self.lists.push(CachedList { bytes: bytes.to_vec(), columns }),
            Some(list) => {
                list.bytes.clear();
                list.bytes.extend_from_slice(bytes);
                self.spare = core::mem::replace(&mut list.columns, columns);
                self.oldest = at.wrapping_add(1).checked_rem(Self::LIMIT).unwrap_or(0);
            }
        }
        Ok((rest, at))
    }
}

/// Appends the columns of the list at the start of the input, and returns the input behind it.
fn column_list<'a>(
    input: &'a [u8],
    table: &TableSchema,
    kind: ColumnKind,
    columns: &mut Vec<ListedColumn>,
) -> Result<&'a [u8], UpdateError> {
    let (mut rest, count) = within(Structure::ColumnList, vint::count(input, 1, "number of columns"))?;
    let (mut expected, mut highest) = (0, 0);
    for _ in 0..count {
        let (after, name) = within(Structure::ColumnList, vint::bytes(rest))?;
        let unknown = || UpdateError::UnknownColumn(String::from_utf8_lossy(name).into_owned());
        let column = table.find_column(name, kind, expected).ok_or_else(unknown)?;
        let listed = ListedColumn { column: length(column), framing: table.framing(column) };
        // Most lists ascend: then no column can have come before.
        if column < highest && columns.contains(&listed) {
            within::<()>(Structure::ColumnList, Err(broken(rest, "a column is listed twice")))?;
        }
        columns.push(listed);
        expected = column.saturating_add(1);
        highest = highest.max(expected);
        rest = after;
    }
    Ok(rest)
}

impl TableSchema {
    /// Index of the static or regular column with this name. Lists and schema are sorted nearly alike, so the search
    /// begins where the next column is expected.
    fn find_column(&self, name: &[u8], kind: ColumnKind, expected: usize) -> Option<usize> {
        let matches = |column: &crate::schema::Column| column.kind == kind && column.name.as_bytes() == name;
        let (before, after) = self.columns.split_at_checked(expected)?;
        let ahead = after.iter().position(matches).map(|at| at.saturating_add(expected));
        ahead.or_else(|| before.iter().position(matches))
    }

    fn framing(&self, column: usize) -> Framing {
        let Some(column) = self.columns.get(column) else { return Framing::Variable };
        match column.cql_type.fixed_len() {
            _ if column.cql_type.is_multi_cell() => Framing::MultiCell,
            Some(len) => Framing::Fixed(len),
            None => Framing::Variable,
        }
    }
}

/// Calls `each` for every column that the subset at the start of the input leaves present, in list order, and passes
/// the input along.
///
/// A list of under 64 columns has a bitmap of the missing ones; a longer one has the number of missing columns, then
/// the indexes of the smaller of the two sets. Zero always means all.
pub(crate) fn subset<'a>(
    input: &'a [u8],
    list: &[ListedColumn],
    mut each: impl FnMut(&'a [u8], ListedColumn) -> Parsed<'a, ()>,
) -> Parsed<'a, ()> {
    let (mut rest, encoded) = within(Structure::ColumnSubset, vint::unsigned(input))?;
    if encoded == 0 || list.len() < 64 {
        let beyond = u32::try_from(list.len()).ok().and_then(|len| encoded.checked_shr(len)).unwrap_or(0);
        if beyond != 0 {
            return within(Structure::ColumnSubset, Err(out_of_range(input, "bitmap of missing columns", encoded)));
        }
        for (bit, column) in (0u32..).zip(list) {
            if encoded.checked_shr(bit).unwrap_or(0) & 1 == 0 {
                (rest, ()) = each(rest, *column)?;
            }
        }
        return Ok((rest, ()));
    }
    let Some(present) = usize::try_from(encoded).ok().and_then(|missing| list.len().checked_sub(missing)) else {
        return within(Structure::ColumnSubset, Err(out_of_range(input, "number of missing columns", encoded)));
    };
    // All indexes come before the first cell: they are walked here once to find it, and read again beside the cells.
    let names_present = present < list.len() / 2;
    let count = if names_present { present } else { list.len().saturating_sub(present) };
    let mut indexes = Indexes { rest, previous: None, len: list.len() };
    (rest, ()) = within(Structure::ColumnSubset, indexes.clone().skip_all(count))?;
    let mut left = count;
    let mut next = indexes.next_of(&mut left)?;
    for (at, column) in list.iter().enumerate() {
        let named = next == Some(at);
        if named {
            next = indexes.next_of(&mut left)?;
        }
        if named == names_present {
            (rest, ()) = each(rest, *column)?;
        }
    }
    Ok((rest, ()))
}

/// Strictly increasing indexes into a column list.
#[derive(Clone)]
struct Indexes<'a> {
    rest: &'a [u8],
    previous: Option<usize>,
    len: usize,
}

impl<'a> Indexes<'a> {
    fn index(&mut self) -> Result<usize, nom::Err<Flaw>> {
        let (rest, value) = vint::unsigned(self.rest)?;
        match usize::try_from(value) {
            Ok(index) if index < self.len && self.previous.is_none_or(|previous| previous < index) => {
                self.previous = Some(index);
                self.rest = rest;
                Ok(index)
            }
            _ => Err(out_of_range(self.rest, "index of a column", value)),
        }
    }

    fn next_of(&mut self, left: &mut usize) -> Result<Option<usize>, nom::Err<Flaw>> {
        let Some(fewer) = left.checked_sub(1) else { return Ok(None) };
        *left = fewer;
        self.index().map(Some)
    }

    fn skip_all(mut self, count: usize) -> Parsed<'a, ()> {
        for _ in 0..count {
            self.index()?;
        }
        Ok((self.rest, ()))
    }
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec};

    use super::*;
    use crate::cql_type::{CqlType, Native};
    use crate::schema::{Column, TableId};

    /// A table with regular columns `c00`, `c01` and so on.
    fn table(columns: usize) -> TableSchema {
        let column = |at| Column {
            name: format!("c{at:02}"),
            cql_type: CqlType::Native(Native::Int),
            kind: ColumnKind::Regular,
        };
        TableSchema {
            id: TableId(1),
            keyspace: "k".into(),
            name: "t".into(),
            cdc: true,
            partition_key: vec![],
            clustering: vec![],
            columns: (0..columns).map(column).collect(),
        }
    }

    fn list(columns: &[usize]) -> Vec<u8> {
        let mut bytes = vec![u8::try_from(columns.len()).unwrap()];
        for column in columns {
            bytes.extend_from_slice(format!("\u{3}c{column:02}").as_bytes());
        }
        bytes
    }

    fn resolve(cache: &mut ListCache, table: &TableSchema, columns: &[usize]) -> Option<Vec<usize>> {
        let bytes = list(columns);
        let (rest, listed) = cache.resolve(&bytes, table, ColumnKind::Regular).ok()?;
        assert!(rest.is_empty());
        Some(listed.iter().map(|column| column.column as usize).collect())
    }

    #[test]
    fn a_list_has_any_order_but_no_column_twice() {
        let (mut cache, table) = (ListCache::default(), table(4));
        for sound in [&[0, 1, 2, 3][..], &[3, 2, 1, 0], &[2, 0, 3], &[1], &[]] {
            assert_eq!(resolve(&mut cache, &table, sound).as_deref(), Some(sound));
        }
        for twice in [&[0, 0][..], &[2, 0, 2], &[3, 0, 1, 3], &[0, 1, 2, 1]] {
            assert_eq!(resolve(&mut cache, &table, twice), None, "{twice:?}");
        }
    }

    #[test]
    fn more_lists_than_are_kept_are_resolved_all_the_same() {
        let (mut cache, table) = (ListCache::default(), table(ListCache::LIMIT * 2));
        for round in 0..3 {
            for column in 0..table.columns.len() {
                let columns = [column, (column + round + 1) % table.columns.len()];
                assert_eq!(resolve(&mut cache, &table, &columns).unwrap(), columns);
                assert_eq!(resolve(&mut cache, &table, &columns).unwrap(), columns, "found again");
            }
        }
        assert_eq!(cache.lists.len(), ListCache::LIMIT);
    }
}
