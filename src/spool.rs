//! Hard links that outlive foreign deletions.
//!
//! Owns: the directory beside `cdc_raw` and its lock, linking a segment into it at first sight, what its files cost, and
//! which must be given up when they cost too much. Does not own: when to look (`keeper`), the record of what is given up
//! (`gaps`), the right to delete what is finished (`progress`).
//!
//! A link is not synced: the journal keeps the order of names, so a later unlink of the other name can't outlive it.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cassandra_commitlog::SegmentName;
use rustix::fs::{AtFlags, FileType, FlockOperation, StatVfs};
use rustix::io::Errno;

use crate::cdc_raw::{Explained, Unknown};
use crate::fault;
use crate::folder::{self, Entry, Meta};

/// What the spool may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Allocated bytes that nothing but the spool holds.
    pub max_bytes: u64,
    /// Bytes of the file system that stay free; without it the larger of a tenth and [`MIN_FREE`].
    pub min_free: Option<u64>,
}

/// Bytes that stay free at least: a full disk stops Cassandra, and not only its CDC tables.
pub const MIN_FREE: u64 = 20 << 30;

/// How the name of the link begins that [`Spool::probe`] makes for a moment.
const PROBE: &str = ".cassandra-cdc-probe-";

/// Why there is no spool, or no link in it.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// It lies below `cdc_raw`, or above it.
    #[error(
        "spool.directory {} and cdc_raw {} lie in one another: Cassandra counts everything below cdc_raw against \
         cdc_total_space; name a directory beside it", .spool.display(), .raw.display()
    )]
    Inside {
        /// The spool.
        spool: PathBuf,
        /// `cdc_raw`.
        raw: PathBuf,
    },
    /// Another agent has it.
    #[error("another agent uses the spool {}", .0.display())]
    Locked(PathBuf),
    /// No hard link can lead from one to the other.
    #[error(
        "the spool {} is on another file system or mount than cdc_raw: name a directory beside cdc_raw, and under \
         systemd one ReadWritePaths= that holds both (each path there is a mount of its own)", .0.display()
    )]
    OtherMount(PathBuf),
    /// The kernel keeps links to foreign files from being made.
    #[error(
        "{segment} can't be linked into the spool: fs.protected_hardlinks=1 refuses links to files that the agent may \
         not write; run the agent as the user that Cassandra runs as"
    )]
    ProtectedHardlinks {
        /// The segment.
        segment: SegmentName,
    },
    /// The spool has another file under that name.
    #[error(
        "the spool holds another file named {segment}: it is not replaced; the segment stays without protection until \
         that one is published"
    )]
    OtherFile {
        /// The segment.
        segment: SegmentName,
    },
    /// The directory was renamed, removed or replaced.
    #[error("the spool {} is no longer the directory that was opened: put it back, or start the agent again", .0.display())]
    Replaced(PathBuf),
    /// The file system refused.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The locked spool. The lock goes with it.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    directory: OwnedFd,
    limits: Limits,
}

/// What is in the spool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Spooled {
    /// Segments.
    pub segments: HashMap<SegmentName, Meta>,
    /// Segments that this release can't read.
    pub unknown: Vec<Unknown>,
}

/// The room in the spool's file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that a process without privileges may still take.
    pub free: u64,
    /// Bytes that must stay free.
    pub floor: u64,
}

impl Room {
    /// In a file system that says this of itself. `min_free`: [`Limits::min_free`].
    pub fn of(stat: &StatVfs, min_free: Option<u64>) -> Self {
        let StatVfs { f_frsize, f_blocks, f_bavail, .. } = stat;
        let floor = min_free.unwrap_or_else(|| MIN_FREE.max(f_blocks.saturating_mul(*f_frsize) / 10));
        Self { free: f_bavail.saturating_mul(*f_frsize), floor }
    }
}

impl Spool {
    /// Opens and locks the spool; makes it, with mode 0700, if it is missing.
    ///
    /// # Errors
    /// [`SpoolError`]: it lies in `cdc_raw`, is used, can't be linked into, or can't be made.
    pub fn open(path: &Path, raw: &Path, limits: Limits) -> Result<Self, SpoolError> {
        let io = |action| move |source: io::Error| SpoolError::Io { action, path: path.to_owned(), source };
        if folder::nested(path, raw).map_err(io("look at the spool"))? {
            return Err(SpoolError::Inside { spool: path.to_owned(), raw: raw.to_owned() });
        }
        match DirBuilder::new().mode(0o700).create(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(io("make the spool")(error)),
            _ => {}
        }
        let directory = folder::open_directory(path).map_err(io("open the spool"))?;
        match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(SpoolError::Locked(path.to_owned())),
            Err(error) => return Err(io("lock the spool")(error.into())),
        }
        // Cassandra may make cdc_raw later; then the first link tells.
        if raw.exists() && !folder::same_mount(path, raw).map_err(io("look at the mount of"))? {
            return Err(SpoolError::OtherMount(path.to_owned()));
        }
        remove_probes(directory.as_fd()).map_err(io("remove what a probe left in the spool"))?;
        Ok(Self { path: path.to_owned(), directory, limits })
    }

    /// Other limits from now on.
    pub(crate) fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Tries whether segments can be linked into a spool at this place, without making it and beside an agent that uses
    /// it. `None` if there is no segment to try with: then no more than the mount is known to fit.
    ///
    /// # Errors
    /// [`SpoolError`], by the name of its cause.
    pub fn probe(path: &Path, raw: &Path) -> Result<Option<SegmentName>, SpoolError> {
        let io = |action| move |source: io::Error| SpoolError::Io { action, path: path.to_owned(), source };
        if folder::nested(path, raw).map_err(io("look at the spool"))? {
            return Err(SpoolError::Inside { spool: path.to_owned(), raw: raw.to_owned() });
        }
        let place = if path.exists() { path } else { path.parent().unwrap_or(path) };
        if !folder::same_mount(place, raw).map_err(io("look at the mount of"))? {
            return Err(SpoolError::OtherMount(path.to_owned()));
        }
        let directory = folder::open_directory(place).map_err(io("open the spool"))?;
        let raw = folder::open_directory(raw).map_err(io("look for a segment to link into"))?;
        let probe = format!("{PROBE}{}", std::process::id());
        for entry in folder::list(raw.as_fd()).map_err(io("look for a segment to link into"))? {
            let Some(segment) = segment(&entry) else { continue };
            match rustix::fs::linkat(&raw, &entry.name, &directory, &*probe, AtFlags::empty()) {
                Ok(()) => {}
                // Cassandra dropped it meanwhile.
                Err(Errno::NOENT) => continue,
                Err(error) => return Err(diagnose(error, segment, path)),
            }
            folder::unlink(directory.as_fd(), &probe).map_err(io("remove a link from the spool"))?;
            return Ok(Some(segment));
        }
        Ok(None)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// The segments in it, those that an earlier run left among them.
    ///
    /// # Errors
    /// [`SpoolError::Replaced`], or it can't be read: nothing follows from the absence of segments then.
    pub fn scan(&self) -> Result<Spooled, SpoolError> {
        let here = rustix::fs::fstat(&self.directory).map_err(|error| self.io("look at the spool", error))?;
        let there = rustix::fs::stat(&self.path).map(|stat| (stat.st_dev, stat.st_ino));
        if there != Ok((here.st_dev, here.st_ino)) {
            return Err(SpoolError::Replaced(self.path.clone()));
        }
        let entries = folder::list(self.directory.as_fd()).map_err(|source| SpoolError::Io {
            action: "read the spool",
            path: self.path.clone(),
            source,
        })?;
        Ok(Spooled {
            segments: entries.iter().filter_map(|entry| segment(entry).map(|name| (name, entry.meta))).collect(),
            unknown: entries.iter().filter_map(Unknown::of).collect(),
        })
    }

    /// Links a segment from `cdc_raw`. Says what the file is like with that link; `None` if it went meanwhile.
    ///
    /// # Errors
    /// [`SpoolError`], by the name of its cause.
    pub fn link(&self, raw: BorrowedFd<'_>, name: SegmentName) -> Result<Option<Meta>, SpoolError> {
        let file = name.to_string();
        let io =
            |source: io::Error| SpoolError::Io { action: "link into the spool", path: file.clone().into(), source };
        fault::point("spool.link").map_err(io)?;
        let linked = rustix::fs::linkat(raw, &*file, &self.directory, &*file, AtFlags::empty());
        fault::point("spool.linked").map_err(io)?;
        match linked {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::EXIST) => {
                let there = folder::meta(raw, &file).map_err(io)?;
                let here = folder::meta(self.directory.as_fd(), &file).map_err(io)?;
                if there.is_some() && there.map(|meta| meta.inode) != here.map(|meta| meta.inode) {
                    return Err(SpoolError::OtherFile { segment: name });
                }
            }
            Err(error) => return Err(diagnose(error, name, &self.path)),
        }
        folder::meta(self.directory.as_fd(), &file).map_err(io)
    }

    /// Links a segment that this release can't read: the one that can finds it here. `unknown` are those that the spool
    /// has. They are never given up, so they end where the limits are.
    ///
    /// # Errors
    /// [`SpoolError`], by the name of its cause.
    pub fn link_unknown(
        &self,
        raw: BorrowedFd<'_>,
        segment: &Unknown,
        unknown: &[Unknown],
        room: Option<Room>,
    ) -> Result<(), SpoolError> {
        let own: u64 = unknown.iter().filter(|own| own.meta.links == 1).map(|own| own.meta.allocated).sum();
        let refused =
            |source| SpoolError::Io { action: "link into the spool", path: segment.name.clone().into(), source };
        if own >= self.limits.max_bytes || room.is_some_and(|room| room.free < room.floor) {
            return Err(refused(io::Error::other("there is no room for segments that this release can't read")));
        }
        fault::point("spool.link").map_err(refused)?;
        match rustix::fs::linkat(raw, &*segment.name, &self.directory, &*segment.name, AtFlags::empty()) {
            // Cassandra dropped it meanwhile, or another file has the name: that one is kept.
            Ok(()) | Err(Errno::NOENT | Errno::EXIST) => Ok(()),
            Err(Errno::XDEV) => Err(SpoolError::OtherMount(self.path.clone())),
            Err(error) => Err(refused(error.into())),
        }
    }

    /// The room in its file system.
    ///
    /// # Errors
    /// The file system can't be asked.
    pub fn room(&self) -> io::Result<Room> {
        Ok(Room::of(&rustix::fs::fstatvfs(&self.directory)?, self.limits.min_free))
    }

    /// What it costs: allocated bytes of files that nothing else holds.
    pub fn bytes(files: &HashMap<SegmentName, Meta>) -> u64 {
        files.values().filter(|meta| meta.links == 1).map(|meta| meta.allocated).sum()
    }

    /// What must be given up, oldest first, so that the rest is within the limits. Only what nothing else holds is
    /// worth it: giving up the others frees nothing.
    pub fn too_much(&self, files: &HashMap<SegmentName, Meta>, room: Option<Room>) -> Vec<SegmentName> {
        let mut own: Vec<(&SegmentName, &Meta)> = files.iter().filter(|(_, meta)| meta.links == 1).collect();
        own.sort_by_key(|(name, meta)| (meta.modified, name.id));
        let over = Self::bytes(files).saturating_sub(self.limits.max_bytes);
        let short = room.map_or(0, |room| room.floor.saturating_sub(room.free));
        let mut needed = over.max(short);
        let mut candidates = Vec::new();
        for (name, meta) in own {
            if needed == 0 {
                break;
            }
            needed = needed.saturating_sub(meta.allocated);
            candidates.push(*name);
        }
        candidates
    }

    /// Gives up a segment whose loss is on durable record.
    ///
    /// # Errors
    /// It can't be unlinked.
    pub fn release(&self, explained: &Explained) -> io::Result<()> {
        self.unlink(explained.segment())
    }

    /// Drops the link of a segment that was deleted with its right.
    ///
    /// # Errors
    /// It can't be unlinked.
    pub(crate) fn unlink(&self, name: SegmentName) -> io::Result<()> {
        fault::point("spool.unlink")?;
        folder::unlink(self.directory.as_fd(), &name.to_string())?;
        fault::point("spool.unlinked")
    }

    fn io(&self, action: &'static str, error: Errno) -> SpoolError {
        SpoolError::Io { action, path: self.path.clone(), source: error.into() }
    }
}

/// A probe that was killed leaves a link to a segment: it would count as the server's, and the segment as being written.
fn remove_probes(directory: BorrowedFd<'_>) -> io::Result<()> {
    for entry in folder::list(directory)? {
        if let Some(name) = entry.name.to_str().ok().filter(|name| name.starts_with(PROBE)) {
            folder::unlink(directory, name)?;
        }
    }
    Ok(())
}

/// The segment whose name an entry has, if it is a file.
fn segment(entry: &Entry) -> Option<SegmentName> {
    let name = entry.name.to_str().ok().filter(|_| entry.kind == FileType::RegularFile)?;
    SegmentName::parse(name).ok()
}

fn diagnose(error: Errno, segment: SegmentName, spool: &Path) -> SpoolError {
    match error {
        Errno::XDEV => SpoolError::OtherMount(spool.to_owned()),
        Errno::PERM if protects_hardlinks() => SpoolError::ProtectedHardlinks { segment },
        _ => SpoolError::Io { action: "link a segment into the spool", path: spool.to_owned(), source: error.into() },
    }
}

fn protects_hardlinks() -> bool {
    std::fs::read("/proc/sys/fs/protected_hardlinks").is_ok_and(|text| !text.starts_with(b"0"))
}
