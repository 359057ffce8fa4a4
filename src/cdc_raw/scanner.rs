//! One look at the directory after the other.
//!
//! Owns: which files are segments, which are indexes, what else was planted, in which order indexes are read, and what
//! need not be read again. Does not own: what follows from any of it.
//!
//! A server syncs its segments in order. So an index that is looked for after all others have been read, and is not
//! there, says that the segment holds no CDC data up to there. Indexes are therefore read from the newest segment to
//! the oldest, and those that were absent are looked for again until nothing new turns up.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fmt;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use cassandra_commitlog::{SegmentId, SegmentName};
use rustix::fs::{Access, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::index::{Index, IndexCounts, IndexMemory, Look};
use crate::folder::{self, Entry, Folder, Meta, Presence};

/// How the directory was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RawState {
    /// There, and finished segments can be deleted in it.
    Ready,
    /// There, but nothing can be deleted in it.
    ReadOnly,
    /// Not there: Cassandra makes it when it starts. Nothing follows from the absence of segments.
    Missing,
    /// It could not be read. Nothing follows from the absence of segments.
    Unreadable,
}

/// A segment in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RawSegment {
    /// Its parsed name.
    pub name: SegmentName,
    /// Its file.
    pub meta: Meta,
    /// What its index says.
    pub index: Index,
}

/// A segment of a commit-log version that this release does not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    /// The id in its name.
    pub id: SegmentId,
    /// Its file name.
    pub name: String,
    /// Its file.
    pub meta: Meta,
}

impl Unknown {
    /// What a file is, by its name.
    pub(crate) fn of(entry: &Entry) -> Option<Self> {
        let name = entry.name.to_str().ok().filter(|_| entry.kind == FileType::RegularFile)?;
        Some(Self { id: SegmentName::of_unknown_version(name)?, name: name.to_owned(), meta: entry.meta })
    }
}

/// An index without its log: evidence of loss, unless a finished segment explains it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orphan {
    /// The segment that is missing.
    pub name: SegmentName,
    /// What its index says.
    pub index: Index,
    /// Since when the log is missing.
    pub since: Instant,
}

/// What else lies in the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Foreign {
    /// Its name; odd bytes are replaced.
    pub name: String,
    /// What it is.
    pub kind: ForeignKind,
}

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind } = self;
        write!(f, "{name:?} in cdc_raw ")?;
        f.write_str(match kind {
            ForeignKind::Symlink => "is a symbolic link: it is not followed; find out who made it, and remove it",
            ForeignKind::Directory => {
                "is a directory: what is in it counts against cdc_total_space; move it elsewhere"
            }
            ForeignKind::Special => "is a device, pipe or socket: it is not opened; find out who made it, and remove it",
            ForeignKind::File => {
                "is no segment that this release reads: it is left alone; if Cassandra wrote it, update the agent, else \
                 remove it"
            }
        })
    }
}

/// What a foreign file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignKind {
    /// A symbolic link. It is not followed.
    Symlink,
    /// A directory: what is below it counts against the quota of Cassandra.
    Directory,
    /// A device, pipe or socket. It is not opened.
    Special,
    /// A file that is no segment, or one of a commit-log version that is not supported.
    File,
}

/// One look at the directory.
#[derive(Debug)]
pub struct RawScan {
    /// How it was found.
    pub state: RawState,
    /// It is another directory than at the last look: a watch on that one sees nothing any more.
    pub reopened: bool,
    /// Segments, by id.
    pub segments: Vec<RawSegment>,
    /// Indexes without a log that have been so for a while.
    pub orphans: Vec<Orphan>,
    /// What else is there, the first hundred of it.
    pub foreign: Vec<Foreign>,
    /// Those of it that are segments of another release.
    pub unknown: Vec<Unknown>,
    /// Apparent bytes of everything below the directory, as Cassandra counts them against `cdc_total_space`.
    pub bytes: u64,
    /// Texts for whoever looks after the node.
    pub problems: Vec<String>,
}

/// Foreign files that are named; more of them tell nothing new.
pub(super) const MAX_FOREIGN: usize = 100;

/// How long a log must be missing, and in more than one look, before its index counts as an orphan: a directory that
/// changes while it is listed may show one of the two alone.
const ORPHAN_FOR: Duration = Duration::from_secs(5);

/// Looks for indexes that were absent before; each ends a chain of indexes that appear one after the other.
const ABSENT_LOOKS: usize = 3;

/// The longest text of an index: ten digits, a newline, COMPLETED.
const INDEX_BYTES: u64 = 64;

/// What is remembered of a segment from look to look.
#[derive(Debug, Default)]
struct Memory {
    log: Option<u64>,
    index: IndexMemory,
    /// The index file as it was when it was read.
    read: Option<Meta>,
    orphan_since: Option<Instant>,
    orphan_looks: u32,
}

/// Looks at one directory, and remembers.
#[derive(Debug)]
pub struct Scanner {
    folder: Folder,
    known: HashMap<SegmentName, Memory>,
    /// Of indexes that are forgotten.
    counts: IndexCounts,
}

/// What a listing holds.
#[derive(Default)]
struct Listing {
    logs: HashMap<SegmentName, Meta>,
    indexes: HashMap<SegmentName, Meta>,
    foreign: Vec<Foreign>,
    unknown: Vec<Unknown>,
    bytes: u64,
}

impl Scanner {
    /// A scanner of this directory, which need not be there yet.
    pub fn new(folder: &Path) -> Self {
        Self { folder: Folder::new(folder), known: HashMap::new(), counts: IndexCounts::default() }
    }

    /// The directory as it was at the last look, for links out of it.
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.folder.descriptor()
    }

    /// What reading indexes met since the start.
    pub fn counts(&self) -> IndexCounts {
        let mut counts = self.counts;
        self.known.values().for_each(|memory| counts += memory.index.counts);
        counts
    }

    /// What the index of a segment said when it was last seen.
    pub fn index(&self, name: SegmentName) -> Index {
        self.known.get(&name).map_or(Index::Absent, |memory| memory.index.known())
    }

    /// Looks. Segments that `spooled` holds are remembered, and their indexes are no orphans, although the directory
    /// may hold them no more.
    pub fn scan(&mut self, now: Instant, spooled: &HashMap<SegmentName, Meta>) -> RawScan {
        let mut scan = RawScan {
            state: RawState::Unreadable,
            reopened: false,
            segments: Vec::new(),
            orphans: Vec::new(),
            foreign: Vec::new(),
            unknown: Vec::new(),
            bytes: 0,
            problems: Vec::new(),
        };
        if let Err(error) = self.look(now, spooled, &mut scan) {
            scan.state = RawState::Unreadable;
            scan.problems.push(format!("read {}: {}", self.folder.path().display(), advice(&error)));
        }
        scan
    }

    fn look(&mut self, now: Instant, spooled: &HashMap<SegmentName, Meta>, scan: &mut RawScan) -> io::Result<()> {
        let presence = self.folder.refresh()?;
        let Some(directory) = self.folder.descriptor() else {
            scan.state = RawState::Missing;
            let path = self.folder.path().display();
            scan.problems.push(format!("{path} is missing: Cassandra makes it when it starts with cdc_enabled"));
            return Ok(());
        };
        scan.reopened = presence == Presence::Reopened;
        // The listing borrows nothing: a descriptor of its own lets the memory change under it.
        let directory = rustix::io::fcntl_dupfd_cloexec(directory, 0)?;
        let listing = Listing::of(directory.as_fd())?;
        scan.state = self.writable(&directory, &mut scan.problems);
        scan.bytes = listing.bytes;
        self.forget(&listing, spooled);
        self.read_indexes(&directory, &listing, spooled, now, scan);
        scan.foreign = listing.foreign;
        scan.unknown = listing.unknown;
        Ok(())
    }

    fn writable(&self, directory: &OwnedFd, problems: &mut Vec<String>) -> RawState {
        match rustix::fs::accessat(directory, c".", Access::WRITE_OK, AtFlags::EACCESS) {
            Ok(()) => RawState::Ready,
            Err(error) => {
                let path = self.folder.path().display();
                problems.push(format!(
                    "finished segments can't be deleted in {path}: {}; Cassandra will run out of cdc_total_space",
                    advice(&error.into())
                ));
                RawState::ReadOnly
            }
        }
    }

    /// Forgets what is neither here nor in the spool, and what another file of the same name had said.
    fn forget(&mut self, listing: &Listing, spooled: &HashMap<SegmentName, Meta>) {
        let mut counts = IndexCounts::default();
        self.known.retain(|name, memory| {
            let stays =
                listing.logs.contains_key(name) || listing.indexes.contains_key(name) || spooled.contains_key(name);
            if !stays {
                counts += memory.index.counts;
            }
            stays
        });
        for (name, meta) in &listing.logs {
            let memory = self.known.entry(*name).or_default();
            if memory.log.is_some_and(|inode| inode != meta.inode) {
                counts += memory.index.counts;
                *memory = Memory::default();
            }
            memory.log = Some(meta.inode);
        }
        self.counts += counts;
    }

    fn read_indexes(
        &mut self,
        directory: &OwnedFd,
        listing: &Listing,
        spooled: &HashMap<SegmentName, Meta>,
        now: Instant,
        scan: &mut RawScan,
    ) {
        let mut names: Vec<SegmentName> = listing.logs.keys().copied().collect();
        names.extend(spooled.keys().filter(|name| !listing.logs.contains_key(name)));
        names.sort_by_key(|name| std::cmp::Reverse(name.id));
        let mut indexes: HashMap<SegmentName, Index> = HashMap::with_capacity(names.len());
        for name in &names {
            let memory = self.known.entry(*name).or_default();
            indexes.insert(*name, memory.look(directory, *name, listing.indexes.get(name), now));
        }
        self.look_again(directory, &names, &mut indexes, now);
        for name in names.iter().rev() {
            if let Some(trouble) = self.known.get(name).and_then(|memory| memory.index.trouble.as_deref()) {
                scan.problems.push(format!("{}: {trouble}", name.index_name()));
            }
            if let (Some(meta), Some(index)) = (listing.logs.get(name), indexes.get(name))
                && (*index != Index::Absent || is_there(directory, *name, meta))
            {
                scan.segments.push(RawSegment { name: *name, meta: *meta, index: *index });
            }
        }
        self.orphans(directory, listing, spooled, now, scan);
    }

    /// Looks for absent indexes until a whole pass finds nothing new: then none of them was there when the last of the
    /// others was read.
    fn look_again(
        &mut self,
        directory: &OwnedFd,
        names: &[SegmentName],
        indexes: &mut HashMap<SegmentName, Index>,
        now: Instant,
    ) {
        for _ in 0..ABSENT_LOOKS {
            let mut new = false;
            for name in names {
                if let (Some(index @ Index::Absent), Some(memory)) = (indexes.get_mut(name), self.known.get_mut(name)) {
                    *index = memory.index.take(read(directory, *name), now);
                    new |= *index != Index::Absent;
                }
            }
            if !new {
                return;
            }
        }
        // They come faster than they are read: of the rest nothing is known.
        indexes.values_mut().filter(|index| **index == Index::Absent).for_each(|index| *index = Index::Empty);
    }

    fn orphans(
        &mut self,
        directory: &OwnedFd,
        listing: &Listing,
        spooled: &HashMap<SegmentName, Meta>,
        now: Instant,
        scan: &mut RawScan,
    ) {
        for (name, meta) in &listing.indexes {
            let memory = self.known.entry(*name).or_default();
            if listing.logs.contains_key(name) || spooled.contains_key(name) {
                (memory.orphan_since, memory.orphan_looks) = (None, 0);
                continue;
            }
            let index = memory.look(directory, *name, Some(meta), now);
            let since = *memory.orphan_since.get_or_insert(now);
            memory.orphan_looks = memory.orphan_looks.saturating_add(1);
            if memory.orphan_looks >= 2 && now.duration_since(since) >= ORPHAN_FOR {
                scan.orphans.push(Orphan { name: *name, index, since });
            }
        }
        scan.orphans.sort_by_key(|orphan| orphan.name.id);
    }
}

impl Memory {
    /// Looks at the index, unless it is sealed and nobody has touched it since: a sealed one changes only when a replay
    /// writes it again.
    fn look(&mut self, directory: &OwnedFd, name: SegmentName, listed: Option<&Meta>, now: Instant) -> Index {
        if listed.is_some() && self.read.as_ref() == listed && self.index.is_sealed() {
            return self.index.known();
        }
        self.read = listed.copied();
        match self.index.take(read(directory, name), now) {
            // It was there a moment ago.
            Index::Absent if listed.is_some() => Index::Empty,
            index => index,
        }
    }
}

impl Listing {
    fn of(directory: BorrowedFd<'_>) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in folder::list(directory)? {
            let below = if entry.kind == FileType::Directory {
                folder::bytes_below(directory, &entry.name)
            } else {
                entry.meta.len
            };
            listing.bytes = listing.bytes.saturating_add(below);
            listing.unknown.extend(Unknown::of(&entry));
            listing.take(&entry);
        }
        Ok(listing)
    }

    fn take(&mut self, entry: &Entry) {
        match (named(&entry.name), entry.kind) {
            (Some(Named::Log(name)), FileType::RegularFile) => {
                self.logs.insert(name, entry.meta);
            }
            (Some(Named::Index(name)), FileType::RegularFile) => {
                self.indexes.insert(name, entry.meta);
            }
            (_, kind) if self.foreign.len() < MAX_FOREIGN => {
                let kind = match kind {
                    FileType::RegularFile => ForeignKind::File,
                    FileType::Symlink => ForeignKind::Symlink,
                    FileType::Directory => ForeignKind::Directory,
                    _ => ForeignKind::Special,
                };
                self.foreign.push(Foreign { name: entry.name.to_string_lossy().into_owned(), kind });
            }
            _ => {}
        }
    }
}

enum Named {
    Log(SegmentName),
    Index(SegmentName),
}

fn named(name: &CStr) -> Option<Named> {
    let name = name.to_str().ok()?;
    match name.strip_suffix("_cdc.idx") {
        Some(stem) => SegmentName::parse(&format!("{stem}.log")).ok().map(Named::Index),
        None => SegmentName::parse(name).ok().map(Named::Log),
    }
}

/// Whether a segment that was listed is still there: if somebody deleted it since, with its index, then the absence of
/// that says nothing.
fn is_there(directory: &OwnedFd, name: SegmentName, listed: &Meta) -> bool {
    match folder::meta(directory.as_fd(), &name.to_string()) {
        Ok(found) => found.is_some_and(|found| found.inode == listed.inode),
        Err(_) => true,
    }
}

/// Reads an index. A link or pipe under its name is neither followed nor waited for.
fn read(directory: &OwnedFd, name: SegmentName) -> Look {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name.index_name(), flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT) => return Look::Absent,
        Err(error) => return Look::Unreadable(advice(&error.into())),
    };
    match file.metadata() {
        Ok(metadata) if !metadata.is_file() => return Look::Unreadable(io::Error::other("not a regular file")),
        Ok(_) => {}
        Err(error) => return Look::Unreadable(error),
    }
    let mut text = Vec::new();
    match file.take(INDEX_BYTES).read_to_end(&mut text) {
        Ok(_) => Look::Text(text),
        Err(error) => Look::Unreadable(error),
    }
}

/// An error, with what to do about it where that is known.
fn advice(error: &io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::PermissionDenied => format!("{error}: run the agent as the user that Cassandra runs as"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{error}: name it in ReadWritePaths of the agent's unit"),
        _ => error.to_string(),
    };
    io::Error::new(error.kind(), text)
}
