//! Which changes are wanted.
//!
//! Owns: table patterns and the two ends of a replay. Does not own: whether a table has CDC (the schema says that).

use cassandra_commitlog::{DeletionTime, LogOffset, PartitionUpdate, Position, SegmentId, TableSchema};

use crate::exit::{Exit, Failure};

/// Table patterns: `keyspace.table`, `keyspace.*`, and the same behind `!` to leave tables out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tables {
    wanted: Vec<Pattern>,
    left_out: Vec<Pattern>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    keyspace: String,
    table: Option<String>,
}

impl Pattern {
    fn matches(&self, table: &TableSchema) -> bool {
        self.keyspace == table.keyspace && self.table.as_ref().is_none_or(|name| *name == table.name)
    }
}

impl Tables {
    /// Reads patterns.
    ///
    /// # Errors
    /// A pattern of another form.
    pub fn parse(patterns: &[String]) -> Result<Self, Failure> {
        let mut tables = Self::default();
        for text in patterns {
            let (list, pattern) = match text.strip_prefix('!') {
                Some(pattern) => (&mut tables.left_out, pattern),
                None => (&mut tables.wanted, text.as_str()),
            };
            match pattern.split_once('.') {
                Some((keyspace, table)) if !keyspace.is_empty() && !table.is_empty() => list
                    .push(Pattern { keyspace: keyspace.to_owned(), table: (table != "*").then(|| table.to_owned()) }),
                _ => {
                    let text = format!("table pattern {text:?}: write keyspace.table, keyspace.* or !keyspace.table");
                    return Err(Failure::text(Exit::Usage, text));
                }
            }
        }
        Ok(tables)
    }

    /// Whether a table is wanted: named by a pattern, or no pattern names any; and not left out.
    pub fn want(&self, table: &TableSchema) -> bool {
        let named = self.wanted.is_empty() || self.wanted.iter().any(|pattern| pattern.matches(table));
        named && !self.left_out.iter().any(|pattern| pattern.matches(table))
    }

    /// Whether there is no pattern at all.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.left_out.is_empty()
    }

    /// The first pattern that no table of the schema matches: a misspelled name would otherwise filter all away.
    pub fn unmatched<'a>(&self, tables: impl Iterator<Item = &'a TableSchema> + Clone) -> Option<String> {
        let missing = |pattern: &&Pattern| !tables.clone().any(|table| pattern.matches(table));
        let pattern = self.wanted.iter().find(missing)?;
        Some(format!("{}.{}", pattern.keyspace, pattern.table.as_deref().unwrap_or("*")))
    }
}

/// One end of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// A segment, maybe only to or from a position in it.
    Segment(SegmentId, Option<LogOffset>),
    /// A write time, microseconds since 1970.
    Time(i64),
}

impl End {
    /// Reads `id`, `id:position` or an RFC 3339 time.
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let (id, position) = match text.split_once(':') {
            Some((id, position)) => (id, Some(position)),
            None => (text, None),
        };
        if let Ok(id) = id.parse()
            && let Ok(position) = position.map(str::parse).transpose()
        {
            return Ok(Self::Segment(SegmentId(id), position.map(LogOffset)));
        }
        let time: Result<jiff::Timestamp, _> = text.parse();
        time.map(|time| Self::Time(time.as_microsecond())).map_err(|error| {
            let text = format!("{text:?} is neither a segment (id or id:position) nor a time (RFC 3339): {error}");
            Failure::text(Exit::Usage, text)
        })
    }
}

/// Where a replay begins and ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// Nothing before.
    pub from: Option<End>,
    /// Nothing behind.
    pub to: Option<End>,
}

impl Range {
    /// Between these ends.
    ///
    /// # Errors
    /// The first lies behind the second.
    pub fn new(from: Option<End>, to: Option<End>) -> Result<Self, Failure> {
        let backwards = match (from, to) {
            (Some(End::Segment(from, _)), Some(End::Segment(to, _))) if from != to => from > to,
            (Some(End::Segment(_, Some(from))), Some(End::Segment(_, Some(to)))) => from > to,
            (Some(End::Time(from)), Some(End::Time(to))) => from >= to,
            _ => false,
        };
        if backwards {
            return Err(Failure::text(Exit::Usage, "--from lies behind --to: nothing is between them"));
        }
        Ok(Self { from, to })
    }

    /// Whether anything of a segment can be inside.
    pub fn touches(&self, segment: SegmentId) -> bool {
        let ended = matches!(self.to, Some(End::Segment(to, _)) if segment > to);
        !self.begins_behind(segment) && !ended
    }

    /// Whether all of a segment lies before the range.
    pub fn begins_behind(&self, segment: SegmentId) -> bool {
        matches!(self.from, Some(End::Segment(from, _)) if segment < from)
    }

    /// Whether an entry that ends here is inside, as far as positions say.
    pub fn holds(&self, entry: Position) -> bool {
        let before =
            matches!(self.from, Some(End::Segment(id, Some(from))) if entry.segment == id && entry.offset <= from);
        let behind = matches!(self.to, Some(End::Segment(id, Some(to))) if entry.segment == id && entry.offset > to);
        !before && !behind && self.touches(entry.segment)
    }

    /// Whether an update is inside, as far as its newest write time says.
    pub fn holds_update(&self, update: &PartitionUpdate<'_>) -> bool {
        let (from, to) = (time(self.from), time(self.to));
        if from.is_none() && to.is_none() {
            return true;
        }
        let newest = newest_timestamp(update);
        from.is_none_or(|from| newest >= from) && to.is_none_or(|to| newest < to)
    }
}

fn time(end: Option<End>) -> Option<i64> {
    match end {
        Some(End::Time(micros)) => Some(micros),
        _ => None,
    }
}

/// The newest write timestamp in an update, microseconds. A view's expired liveness has its time like any other.
pub(crate) fn newest_timestamp(update: &PartitionUpdate<'_>) -> i64 {
    let of_deletion = |deletion: &DeletionTime| deletion.marked_for_delete_at;
    let rows = update.rows.iter().chain(update.static_row);
    let of_rows = rows.clone().filter_map(|row| row.liveness.map(|liveness| liveness.timestamp));
    let of_row_deletions = rows.filter_map(|row| row.deletion.as_ref().map(of_deletion));
    let of_columns = update.columns.iter().filter_map(|column| column.deletion.as_ref().map(of_deletion));
    let of_ranges = update.range_deletes.iter().map(|range| of_deletion(&range.deletion));
    let of_cells = update.cells.iter().map(|cell| cell.timestamp);
    let of_partition = update.partition_deletion.iter().map(of_deletion);
    let all = of_rows.chain(of_row_deletions).chain(of_columns).chain(of_ranges).chain(of_cells).chain(of_partition);
    all.max().unwrap_or(i64::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cassandra_commitlog::TableId;

    fn table(keyspace: &str, name: &str) -> TableSchema {
        TableSchema {
            id: TableId(1),
            keyspace: keyspace.into(),
            name: name.into(),
            cdc: true,
            partition_key: Vec::new(),
            clustering: Vec::new(),
            columns: Vec::new(),
        }
    }

    fn tables(patterns: &[&str]) -> Tables {
        Tables::parse(&patterns.iter().map(|pattern| pattern.to_string()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn patterns_name_tables_and_leave_them_out() {
        assert!(tables(&[]).want(&table("shop", "orders")));
        assert!(tables(&["shop.*"]).want(&table("shop", "orders")));
        assert!(!tables(&["shop.*"]).want(&table("bank", "orders")));
        assert!(!tables(&["shop.*", "!shop.secret"]).want(&table("shop", "secret")));
        assert!(tables(&["!shop.secret"]).want(&table("shop", "orders")));
        assert!(Tables::parse(&["shop".into()]).is_err());
        let known = [table("shop", "orders")];
        assert_eq!(tables(&["shop.order"]).unmatched(known.iter()), Some("shop.order".to_owned()));
        assert_eq!(tables(&["shop.*"]).unmatched(known.iter()), None);
    }

    #[test]
    fn ends_are_segments_or_times() {
        assert_eq!(End::parse("17").unwrap(), End::Segment(SegmentId(17), None));
        assert_eq!(End::parse("17:300").unwrap(), End::Segment(SegmentId(17), Some(LogOffset(300))));
        assert_eq!(End::parse("1970-01-01T00:00:02Z").unwrap(), End::Time(2_000_000));
        assert_eq!(End::parse("yesterday").unwrap_err().exit, Exit::Usage);
    }

    #[test]
    fn a_range_of_positions_includes_its_last_and_excludes_its_first() {
        let at = |segment, offset| Position { segment: SegmentId(segment), offset: LogOffset(offset) };
        let range = Range { from: Some(End::parse("5:100").unwrap()), to: Some(End::parse("7:50").unwrap()) };
        assert!(!range.touches(SegmentId(4)) && range.touches(SegmentId(6)) && !range.touches(SegmentId(8)));
        assert!(!range.holds(at(5, 100)) && range.holds(at(5, 101)));
        assert!(range.holds(at(7, 50)) && !range.holds(at(7, 51)));
    }
}
