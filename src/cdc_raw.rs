//! The directory into which Cassandra links its segments.
//!
//! Owns: which segments are there, what their indexes say, and deleting one. Does not own: the right to delete
//! (`progress` mints it), reading segments, links of our own (`spool`). It creates nothing here and changes no name,
//! owner or mode: Cassandra stops when it finds a file where it wants to link one.

mod index;
mod scanner;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use cassandra_commitlog::SegmentName;
use cassandra_progress::{Reapable, Tombstone};
use rustix::fs::{AtFlags, CWD};
use rustix::io::Errno;

use crate::fault;
use crate::folder;

pub use index::{INVALID_FOR, Index};
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
            return Err(wrong_right());
        }
        let directory = match folder::open_directory(&self.folder) {
            Ok(directory) => directory,
            // Without the directory there is nothing to delete.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let (log, index) = (name.to_string(), name.index_name());
        if let OnDone::Move(target) = &self.on_done {
            keep(directory.as_fd(), &[&log, &index], target)?;
        }
        fault::point("reap.log")?;
        folder::unlink(directory.as_fd(), &log)?;
        fault::point("reap.idx")?;
        folder::unlink(directory.as_fd(), &index)?;
        fault::point("reap.done")
    }

    /// Deletes an index whose log is gone.
    ///
    /// # Errors
    /// The log is there after all, or the index can't be unlinked.
    pub fn delete_orphan(&self, explained: Explained) -> io::Result<()> {
        let directory = folder::open_directory(&self.folder)?;
        let name = explained.segment;
        if folder::meta(directory.as_fd(), &name.to_string())?.is_some() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name} is there: its index stays")));
        }
        fault::point("orphan.idx")?;
        folder::unlink(directory.as_fd(), &name.index_name())?;
        fault::point("orphan.done")
    }
}

/// Links files into another directory, durably. A crash may leave some of them there already.
fn keep(directory: BorrowedFd<'_>, names: &[&str], target: &Path) -> io::Result<()> {
    let into = folder::open_directory(target)
        .map_err(|error| io::Error::new(error.kind(), format!("open {}: {error}", target.display())))?;
    for name in names {
        fault::point("move.link")?;
        match rustix::fs::linkat(directory, *name, &into, *name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::EXIST) => {
                let (here, there) = (folder::meta(directory, name)?, folder::meta(into.as_fd(), name)?);
                if here.map(|meta| meta.inode) != there.map(|meta| meta.inode) {
                    let text = format!("another {name} is in {} already: move it elsewhere", target.display());
                    return Err(io::Error::new(io::ErrorKind::AlreadyExists, text));
                }
            }
            Err(Errno::XDEV) => {
                let text = format!(
                    "{} is on another file system or mount than cdc_raw: name a directory beside cdc_raw as the \
                     target of on_done",
                    target.display()
                );
                return Err(io::Error::new(io::ErrorKind::CrossesDevices, text));
            }
            Err(error) => return Err(error.into()),
        }
    }
    rustix::fs::fsync(&into)?;
    fault::point("move.done")
}

/// The error of a token that is used on another segment than its own.
pub(crate) fn wrong_right() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the right to delete is of another segment")
}

/// Whether a directory is a mount that links into another one can't cross: the same file system may be mounted twice.
pub(crate) fn same_mount(one: &Path, other: &Path) -> io::Result<bool> {
    use rustix::fs::{StatxFlags, statx};
    let look = |path| statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID);
    let (one, other) = (look(one)?, look(other)?);
    Ok((one.stx_dev_major, one.stx_dev_minor, one.stx_mnt_id)
        == (other.stx_dev_major, other.stx_dev_minor, other.stx_mnt_id))
}
