//! What the keeper saw, as one value that does not change any more.
//!
//! Owns: the view of a segment across `cdc_raw` and the spool. Does not own: how it came about (`keeper`).

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use cassandra_commitlog::{CdcIndex, SegmentName};

use crate::cdc_raw::{Foreign, Index, IndexCounts, Orphan, RawState};
use crate::folder::Meta;
use crate::mapped::{self, Access, Mapped};
use crate::spool::Room;

/// The two directories.
#[derive(Debug)]
pub(crate) struct Folders {
    pub(crate) raw: PathBuf,
    pub(crate) spool: Option<PathBuf>,
}

/// One segment, wherever it is.
#[derive(Debug, Clone)]
pub struct View {
    /// Its parsed name.
    pub name: SegmentName,
    /// Its file in `cdc_raw`.
    pub raw: Option<Meta>,
    /// Its file in the spool.
    pub spool: Option<Meta>,
    /// What its index says, or said while there was one.
    pub index: Index,
    pub(crate) folders: Arc<Folders>,
}

impl View {
    /// Opens it. If `cdc_raw` has lost it since the scan, the spool still has it.
    ///
    /// # Errors
    /// It can't be opened, or is in neither.
    pub fn open_file(&self) -> io::Result<File> {
        let file = self.name.to_string();
        match (mapped::open_no_follow(&self.folders.raw.join(&file)), &self.folders.spool) {
            (Err(error), Some(spool)) if error.kind() == io::ErrorKind::NotFound => {
                mapped::open_no_follow(&spool.join(&file))
            }
            (opened, _) => opened,
        }
    }

    /// Its bytes.
    ///
    /// # Errors
    /// It can't be opened, mapped or read.
    pub fn open(&self, access: Access) -> io::Result<Mapped> {
        Mapped::of(self.open_file()?, access)
    }

    /// The file, in `cdc_raw` first.
    pub fn meta(&self) -> Option<&Meta> {
        self.raw.as_ref().or(self.spool.as_ref())
    }

    /// The file's number; zero for no file.
    pub fn inode(&self) -> u64 {
        self.meta().map_or(0, |meta| meta.inode)
    }

    /// Its apparent bytes.
    pub fn len(&self) -> u64 {
        self.meta().map_or(0, |meta| meta.len)
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether somebody else than `cdc_raw` and the spool holds the file: the server, which has not flushed all of its
    /// tables yet. Without its own name the server writes no more.
    pub fn server_holds(&self) -> bool {
        let own = match (&self.raw, &self.spool) {
            (Some(raw), Some(spool)) if raw.inode == spool.inode => 2,
            _ => 1,
        };
        self.meta().is_some_and(|meta| meta.links > own)
    }
}

/// A segment that is gone from wherever it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departed {
    /// Its parsed name.
    pub name: SegmentName,
    /// What its index said last.
    pub index: CdcIndex,
}

/// One look at everything.
#[derive(Debug)]
pub struct Scan {
    /// Counts up by one; zero is before the first look.
    pub number: u64,
    /// When the look began.
    pub at: Instant,
    /// How `cdc_raw` was found. Unless it was ready or read-only, nothing follows from the absence of a segment.
    pub raw: RawState,
    /// Whether the spool, if there is one, could be read. If not, nothing follows from the absence of a segment.
    pub spool_read: bool,
    /// All segments, by id.
    pub segments: Vec<View>,
    /// Segments with an index that went since the look that was taken in last.
    pub departed: Vec<Departed>,
    /// Indexes without a log, in `cdc_raw` or the spool.
    pub orphans: Vec<Orphan>,
    /// What else lies in `cdc_raw`.
    pub foreign: Vec<Foreign>,
    /// Apparent bytes of everything below `cdc_raw`, as Cassandra counts them against `cdc_total_space`.
    pub raw_bytes: u64,
    /// Allocated bytes that nothing but the spool holds.
    pub spool_bytes: u64,
    /// The room in the spool's file system; none without a spool.
    pub room: Option<Room>,
    /// What went on since the start.
    pub counts: Counts,
    /// Texts for whoever looks after the node.
    pub problems: Vec<String>,
}

/// What the keeper counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// What reading indexes met.
    pub indexes: IndexCounts,
    /// Overflows of the queue of notifications.
    pub overflows: u64,
    /// Segments linked into the spool.
    pub linked: u64,
    /// Segments that the spool gave up.
    pub released: u64,
    /// Whether notifications come at all.
    pub watching: bool,
}

impl Scan {
    pub(crate) fn before_the_first() -> Self {
        Self {
            number: 0,
            at: Instant::now(),
            raw: RawState::Unreadable,
            spool_read: false,
            segments: Vec::new(),
            departed: Vec::new(),
            orphans: Vec::new(),
            foreign: Vec::new(),
            raw_bytes: 0,
            spool_bytes: 0,
            room: None,
            counts: Counts::default(),
            problems: Vec::new(),
        }
    }

    /// Whether anything can be deleted in `cdc_raw`.
    pub fn can_delete(&self) -> bool {
        self.raw == RawState::Ready
    }

    /// Whether the absence of a segment says that it is gone.
    pub fn is_whole(&self) -> bool {
        matches!(self.raw, RawState::Ready | RawState::ReadOnly) && self.spool_read
    }
}
