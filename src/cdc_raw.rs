//! The directory into which Cassandra links its segments.
//!
//! Owns: which segments are there, what their indexes say, and deleting one. Does not own: the right to delete
//! (`progress` mints it), reading segments, links of our own (`spool`). It creates nothing here and changes no name,
//! owner or mode: Cassandra stops when it finds a file where it wants to link one.

mod index;
mod scanner;
#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cassandra_commitlog::SegmentName;
use cassandra_progress::{Reapable, Tombstone};
use rustix::fs::AtFlags;
use rustix::io::Errno;

use crate::fault;
use crate::folder;

pub use index::{INVALID_FOR, Index, IndexCounts};
pub use scanner::{Foreign, ForeignKind, Orphan, RawScan, RawSegment, RawState, Scanner};

/// What becomes of a finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OnDone {
    /// It is deleted.
    #[default]
    Delete,
    /// It is moved into this directory, its index with it. It must lie in the same file system.
    Move(PathBuf),
}

/// A `cdc_raw` directory.
#[derive(Debug, Clone)]
pub struct CdcRaw {
    folder: PathBuf,
    on_done: OnDone,
}

/// The statement that the loss of a segment is on durable record, or is none. Only what makes it true makes one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "what may go and stays takes space"]
pub struct Explained {
    segment: SegmentName,
}

impl Explained {
    /// Records a loss. `record` must not return `Ok` before the record survives a power loss.
    ///
    /// # Errors
    /// What `record` says: nothing may go then.
    pub fn by_gap(segment: SegmentName, record: impl FnOnce() -> io::Result<()>) -> io::Result<Self> {
        record()?;
        Ok(Self { segment })
    }

    /// The segment was finished: its index is what a crash between our two unlinks left. `None` if the record is of
    /// another segment.
    pub fn by_tombstone(segment: SegmentName, tombstone: &Tombstone) -> Option<Self> {
        (tombstone.identity.segment == segment.id).then_some(Self { segment })
    }

    /// Which segment.
    pub fn segment(&self) -> SegmentName {
        self.segment
    }
}

impl CdcRaw {
    /// This directory. It need not exist yet: Cassandra makes it when it starts.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), on_done: OnDone::Delete }
    }

    /// The same directory, with another end for finished segments.
    #[must_use]
    pub fn on_done(self, on_done: OnDone) -> Self {
        Self { on_done, ..self }
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Deletes a segment, or moves it away; the log before its index: an index without a log says that something was
    /// here.
    ///
    /// # Errors
    /// A file can't be unlinked or moved. One that is gone already is as good.
    pub fn delete(&self, name: SegmentName, right: Reapable) -> io::Result<()> {
        if right.identity().segment != name.id {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the right to delete is of another segment"));
        }
        let Some(directory) = self.open()? else { return Ok(()) };
        let (log, index) = (name.to_string(), name.index_name());
        self.keep(directory.as_fd(), &[&log, &index])?;
        fault::point("reap.log")?;
        folder::unlink(directory.as_fd(), &log)?;
        fault::point("reap.idx")?;
        folder::unlink(directory.as_fd(), &index)?;
        fault::point("reap.done")
    }

    /// Deletes an index whose log is gone. If the log is there again the index is its own, and stays.
    ///
    /// # Errors
    /// The index can't be unlinked.
    pub fn delete_orphan(&self, explained: Explained) -> io::Result<()> {
        let Some(directory) = self.open()? else { return Ok(()) };
        let name = explained.segment;
        if folder::meta(directory.as_fd(), &name.to_string())?.is_some() {
            return Ok(());
        }
        fault::point("orphan.idx")?;
        folder::unlink(directory.as_fd(), &name.index_name())?;
        fault::point("orphan.done")
    }

    /// The directory, if it is there: without it there is nothing to delete.
    fn open(&self) -> io::Result<Option<OwnedFd>> {
        match folder::open_directory(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            opened => opened.map(Some),
        }
    }

    /// If finished segments are kept: links files into where they go, durably. A crash may have left some there.
    pub(crate) fn keep(&self, from: BorrowedFd<'_>, names: &[&str]) -> io::Result<()> {
        let OnDone::Move(target) = &self.on_done else { return Ok(()) };
        let refuse =
            |kind, what: &str| Err(io::Error::new(kind, format!("on_done = move {}: {what}", target.display())));
        if folder::nested(target, &self.folder)? {
            return refuse(ErrorKind::InvalidInput, "name a directory beside cdc_raw, not in it");
        }
        let into = match folder::open_directory(target) {
            Ok(into) => into,
            Err(error) => return refuse(error.kind(), &error.to_string()),
        };
        for name in names {
            fault::point("move.link")?;
            match rustix::fs::linkat(from, *name, &into, *name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(Errno::EXIST) => {
                    let (here, there) = (folder::meta(from, name)?, folder::meta(into.as_fd(), name)?);
                    if here.map(|meta| meta.inode) != there.map(|meta| meta.inode) {
                        return refuse(
                            ErrorKind::AlreadyExists,
                            &format!("another {name} is there; move it elsewhere"),
                        );
                    }
                }
                Err(Errno::XDEV) => {
                    let what = "it is on another file system or mount than cdc_raw; name a directory beside cdc_raw";
                    return refuse(ErrorKind::CrossesDevices, what);
                }
                Err(error) => return Err(error.into()),
            }
        }
        rustix::fs::fsync(&into)?;
        fault::point("move.done")
    }
}
