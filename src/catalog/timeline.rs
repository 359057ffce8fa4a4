//! The schema over the length of the log: what it was at every place that may be read again.
//!
//! Owns: changes at their places, the schema at the newest of them, going back to an earlier place, the file that keeps
//! it over a restart. Does not own: what a change means (`cassandra-commitlog`), when it is saved (its callers).
//!
//! The file must be durable before any progress beyond its newest change is: what was acknowledged is not read again,
//! and its DDL neither. So after a restart, Cassandra up or down, a segment is decoded with the schema of its time.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, ensure};
use cassandra_commitlog::{
    LogOffset, PartitionUpdate, Position, RowChange, Schema, SchemaProblem, SchemaStore, SegmentId, SystemSchema,
};
use serde::{Deserialize, Serialize};

use crate::durable_file;

/// The format of the file.
const VERSION: u32 = 1;

/// What to do about a file that is of no use, and what follows.
const REMEDY: &str = "move it away: the schema then comes from the node, as it is now, and from the log; columns and \
                      key columns of changes that are still unread may then be named as they are today, and changes of \
                      tables that are gone may be dead-lettered";

/// What the log, and the node, said of the schema.
#[derive(Debug)]
pub struct Timeline {
    path: Option<PathBuf>,
    /// Before the first change.
    base: SchemaStore,
    /// In reading order.
    changes: Vec<Change>,
    /// Behind the last change.
    now: SchemaStore,
    schema: Arc<Schema>,
    problems: Vec<SchemaProblem>,
    saved: bool,
}

/// What one entry changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Change {
    segment: i64,
    /// The end of the entry.
    position: u32,
    rows: Vec<RowChange>,
}

#[derive(Serialize, Deserialize)]
struct Stored<T> {
    v: u32,
    /// Of the rest as it is written.
    crc: String,
    timeline: T,
}

#[derive(Serialize, Deserialize)]
struct Content {
    base: SchemaStore,
    changes: Vec<Change>,
}

impl Timeline {
    /// A timeline that is kept nowhere, and begins with these rows.
    pub fn new(base: SchemaStore) -> Self {
        let mut timeline = Self {
            path: None,
            now: base.clone(),
            base,
            changes: Vec::new(),
            schema: Arc::new(Schema::new([])),
            problems: Vec::new(),
            saved: false,
        };
        timeline.resolve();
        timeline
    }

    /// The same, kept in a file from its next [`Self::save`] on.
    pub fn kept_in(self, path: &Path) -> Self {
        Self { path: Some(path.to_owned()), saved: false, ..self }
    }

    /// Reads the file of an earlier life; none is there before the first.
    ///
    /// # Errors
    /// The file is damaged, or can't be read. Without it nothing is lost, but the past is: see the text.
    pub fn load(path: &Path) -> Result<Option<Self>> {
        let bytes = match fs::read(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            read => read.with_context(|| format!("read {}", path.display()))?,
        };
        let Content { base, changes } =
            parse(&bytes).with_context(|| format!("{} is damaged; {REMEDY}", path.display()))?;
        let mut timeline = Self { changes, ..Self::new(base) };
        timeline.replay();
        Ok(Some(Self { path: Some(path.to_owned()), saved: true, ..timeline }))
    }

    /// Writes the file, if anything changed since it was written.
    ///
    /// # Errors
    /// It is not durable: no progress beyond the newest change may be.
    pub fn save(&mut self) -> io::Result<()> {
        let (Some(path), false) = (&self.path, self.saved) else { return Ok(()) };
        let content = Content { base: self.base.clone(), changes: self.changes.clone() };
        let crc = crc(&serde_json::to_vec(&content)?);
        let bytes = serde_json::to_vec(&Stored { v: VERSION, crc, timeline: content })?;
        durable_file::replace(path, &bytes, "schema")?;
        self.saved = true;
        Ok(())
    }

    /// The schema behind the newest change.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }

    /// What is wrong with definitions that the schema lacks. In the middle of a node's first start there are always some.
    pub fn problems(&self) -> &[SchemaProblem] {
        &self.problems
    }

    /// The rows behind the newest change.
    pub fn rows(&self) -> SystemSchema {
        self.now.rows()
    }

    /// What an update says of the schema, to be handed to [`Self::apply`] with all that its entry says.
    pub fn changes_in(&self, update: &PartitionUpdate<'_>) -> Vec<RowChange> {
        self.now.changes_in(update)
    }

    /// Takes in what the entry that ends here says, and says whether the schema is another by it.
    pub fn apply(&mut self, at: Position, changes: Vec<RowChange>) -> bool {
        let rows = self.now.apply(changes);
        if rows.is_empty() {
            return false;
        }
        self.changes.push(Change { segment: at.segment.0, position: at.offset.0, rows });
        self.saved = false;
        self.resolve();
        true
    }

    /// Takes in rows that were pulled from the node, and says whether the schema is another by it. They hold for every
    /// place: they only add what may be missing there, so going back does not lose them.
    pub fn merge(&mut self, pulled: &SystemSchema, at_micros: i64) -> bool {
        let below = !self.base.merge(pulled, at_micros).is_empty();
        let above = !self.now.merge(pulled, at_micros).is_empty();
        self.saved &= !below;
        if above {
            self.resolve();
        }
        above
    }

    /// Goes back to the schema of the places where reading goes on: `again` says from where on a segment is read again,
    /// and nothing of one that is not. Each segment goes on at its own place, and what stands before that is not read
    /// again: a change holds as long as it is not.
    pub fn rewind(&mut self, again: impl Fn(SegmentId) -> Option<LogOffset>) {
        let before = self.changes.len();
        self.changes.retain(|change| again(SegmentId(change.segment)).is_none_or(|from| change.position <= from.0));
        if self.changes.len() < before {
            self.saved = false;
            self.replay();
        }
    }

    /// Forgets at which places the changes before this one were made: nothing before it is read again. It must not lie
    /// beyond what every saved checkpoint has acknowledged. `rank` says in which order segments are read; one without a
    /// rank was finished before.
    pub fn forget_before(&mut self, rank: impl Fn(SegmentId) -> Option<usize>, start: (SegmentId, LogOffset)) {
        let behind = self.changes.iter().position(|change| !change.holds_at(&rank, start));
        for change in self.changes.drain(..behind.unwrap_or(self.changes.len())) {
            self.base.apply(change.rows);
            self.saved = false;
        }
    }

    /// How many changes can be gone back over.
    pub fn len(&self) -> usize {
        self.changes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    fn replay(&mut self) {
        self.now = self.base.clone();
        for change in &self.changes {
            self.now.apply(change.rows.clone());
        }
        self.resolve();
    }

    fn resolve(&mut self) {
        let (schema, problems) = self.now.schema();
        self.schema = Arc::new(schema);
        self.problems = problems;
    }
}

impl Change {
    fn holds_at(&self, rank: &impl Fn(SegmentId) -> Option<usize>, (segment, offset): (SegmentId, LogOffset)) -> bool {
        match (rank(SegmentId(self.segment)), rank(segment)) {
            (None, _) => true,
            (Some(own), Some(start)) => own < start || own == start && self.position <= offset.0,
            (Some(_), None) => false,
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Content> {
    let Stored { v, crc: stored, timeline } = serde_json::from_slice::<Stored<Content>>(bytes)?;
    ensure!(v == VERSION, "it has format {v}, this program reads {VERSION}");
    let computed = crc(&serde_json::to_vec(&timeline)?);
    if stored != computed {
        return Err(anyhow!("its checksum is {stored}, that of its content {computed}"));
    }
    Ok(timeline)
}

fn crc(bytes: &[u8]) -> String {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    format!("{:08x}", crc.sum())
}

#[cfg(test)]
mod tests;
