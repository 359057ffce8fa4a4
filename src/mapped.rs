//! Segment files as slices: the only unsafe code.
//!
//! Owns: mapping or reading a regular file, and surviving that it is cut meanwhile. Does not own: how much of it may be
//! believed.
//!
//! Reading a mapped page that the file no longer has raises SIGBUS, which kills a process by default. Cassandra cuts no
//! segment, but a shell can. So each mapping is noted in a table; a fault in one puts zeros in place of what is gone and
//! marks it as cut. Whoever reads asks [`Mapped::was_cut`] after the walk: what it saw may be those zeros.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Deref;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use memmap2::{Mmap, MmapOptions};
use rustix::fs::{Mode, OFlags};

/// How a file's bytes are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Access {
    /// By a mapping: what others append or store shows at once, and nothing is copied.
    #[default]
    Map,
    /// By reading them into memory once: for direct-I/O segments and file systems on which a mapping may lag behind.
    Read,
}

/// A file's bytes. Dropping it unmaps.
#[derive(Debug)]
pub struct Mapped {
    file: File,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// The slot goes first: the next mapping may get the same addresses.
    Mapped {
        slot: Slot,
        map: Mmap,
    },
    Read {
        buffer: Vec<u8>,
        cut: bool,
    },
}

impl Mapped {
    /// Positions in a segment are 31-bit numbers, so no segment is longer.
    const MAX_LEN: u64 = i32::MAX as u64;

    /// Maps a file that somebody named: links are followed.
    ///
    /// # Errors
    /// It can't be opened or mapped, is no regular file, or is longer than any segment.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of(rustix::fs::open(path, FLAGS, Mode::empty())?.into(), Access::Map)
    }

    /// Maps an open file, or reads it.
    ///
    /// # Errors
    /// It can't be mapped or read, is no regular file, or is longer than any segment.
    pub fn of(file: File, access: Access) -> io::Result<Self> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let Some(len) = usize::try_from(metadata.len()).ok().filter(|_| metadata.len() <= Self::MAX_LEN) else {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any segment: 2 GiB or more"));
        };
        // Nothing can be mapped of an empty file; and without a guard nothing may be.
        if access == Access::Map && len > 0 && guard_is_there() {
            // SAFETY: the bytes below the last sync marker of a segment never change once written, and nothing above
            // it is believed. A file that is cut is the guard's: until the slot has the range nothing is read.
            #[allow(unsafe_code, reason = "mapping a file is unsafe by nature; this is the one place")]
            let map = unsafe { MmapOptions::new().len(len).map(&file)? };
            if let Some(slot) = Slot::claim(&map) {
                return Ok(Self { file, bytes: Bytes::Mapped { slot, map } });
            }
        }
        let mut buffer = Vec::with_capacity(len);
        (&file).take(metadata.len()).read_to_end(&mut buffer)?;
        let cut = buffer.len() < len;
        Ok(Self { file, bytes: Bytes::Read { buffer, cut } })
    }

    /// Whether bytes went from under the reader since the file was opened, or could not be read from the disk. Ask
    /// after the walk; then nothing that it saw says that the segment is finished: hold it.
    pub fn was_cut(&self) -> bool {
        let faulted = match &self.bytes {
            Bytes::Mapped { slot, .. } => SLOTS[slot.0].cut.load(Ordering::Acquire),
            Bytes::Read { cut, .. } => *cut,
        };
        // The rest of the last page reads as zeros without a fault.
        faulted || self.file.metadata().map_or(true, |metadata| metadata.len() < self.len() as u64)
    }

    /// The number of the file.
    ///
    /// # Errors
    /// The system can't be asked.
    pub fn inode(&self) -> io::Result<u64> {
        Ok(std::os::unix::fs::MetadataExt::ino(&self.file.metadata()?))
    }
}

/// Opens a file in a directory that others write into: a link under its name is not followed.
///
/// # Errors
/// It can't be opened.
pub fn open_no_follow(path: &Path) -> io::Result<File> {
    Ok(rustix::fs::open(path, FLAGS | OFlags::NOFOLLOW, Mode::empty())?.into())
}

/// A pipe under the name of a file must not be waited for.
const FLAGS: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Read { buffer, .. } => buffer,
        }
    }
}

/// Mappings at one time that are guarded; one more is read into memory instead.
const MAX_MAPPED: usize = 64;

/// The mappings, for the signal handler: it may take no lock and no memory.
static SLOTS: [Range; MAX_MAPPED] = [const { Range::free() }; MAX_MAPPED];

struct Range {
    /// The first address; zero in a free slot, [`CLAIMED`] in one that is being filled.
    start: AtomicUsize,
    end: AtomicUsize,
    cut: AtomicBool,
}

impl Range {
    const fn free() -> Self {
        Self { start: AtomicUsize::new(0), end: AtomicUsize::new(0), cut: AtomicBool::new(false) }
    }
}

/// No mapping begins at this address.
const CLAIMED: usize = 1;

/// A mapping's place in the table, given back when dropped.
#[derive(Debug)]
struct Slot(usize);

impl Slot {
    fn claim(map: &Mmap) -> Option<Self> {
        let start = map.as_ptr() as usize;
        SLOTS.iter().enumerate().find_map(|(at, range)| {
            range.start.compare_exchange(0, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).ok()?;
            range.cut.store(false, Ordering::Relaxed);
            range.end.store(start + map.len(), Ordering::Release);
            range.start.store(start, Ordering::Release);
            Some(Self(at))
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        SLOTS[self.0].end.store(0, Ordering::Release);
        SLOTS[self.0].start.store(0, Ordering::Release);
    }
}

/// The size of a page, once the handler is in place; zero if it could not be.
static PAGE: OnceLock<usize> = OnceLock::new();

fn guard_is_there() -> bool {
    *PAGE.get_or_init(|| {
        // SAFETY: an all-zero sigaction is a valid one; every field that matters is set. The handler below does only
        // what a signal handler may.
        #[allow(unsafe_code, reason = "there is no safe way to handle SIGBUS")]
        let installed = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = on_sigbus as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()) == 0
        };
        if installed { rustix::param::page_size() } else { 0 }
    }) != 0
}

/// Faults of the memory itself, by their codes: beyond the end of the file or not readable from the disk, and hardware.
/// In other signals the address means nothing.
const FAULTS: [i32; 2] = [libc::BUS_ADRERR, 4];

/// Puts zeros in place of the rest of a mapping that was cut; any other SIGBUS does what it does by default.
extern "C" fn on_sigbus(signal: i32, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel hands a valid siginfo to a handler with SA_SIGINFO. Everything called is a plain system call
    // or touches atomics; errno is put back for the code that was interrupted. The pages that are replaced belong to a
    // mapping that the interrupted thread is reading, so it lives, and nobody holds them but as bytes to be read.
    #[allow(unsafe_code, reason = "a signal handler speaks C")]
    unsafe {
        let errno = *libc::__errno_location();
        if !(FAULTS.contains(&(*info).si_code) && fill((*info).si_addr() as usize)) {
            libc::signal(signal, libc::SIG_DFL);
            libc::raise(signal);
        }
        *libc::__errno_location() = errno;
    }
}

/// Replaces the pages from this address to the end of its mapping by zeros. False if there is no such mapping.
fn fill(address: usize) -> bool {
    let Some(page) = PAGE.get().copied().filter(|page| *page > 0) else { return false };
    let holds = |range: &&Range| {
        let start = range.start.load(Ordering::Acquire);
        let end = range.end.load(Ordering::Acquire);
        // Another thread may be changing a slot that is not ours: two halves of two mappings hold nothing.
        start > CLAIMED && (start..end).contains(&address) && range.start.load(Ordering::Acquire) == start
    };
    let Some(range) = SLOTS.iter().find(holds) else { return false };
    let first = address / page * page;
    let end = range.end.load(Ordering::Acquire).next_multiple_of(page);
    // SAFETY: the range lies within one live mapping of ours (see the caller), on page bounds. MAP_FIXED replaces it
    // in one step: no other thread ever sees a hole.
    #[allow(unsafe_code, reason = "replacing pages in place has no safe form")]
    let replaced = unsafe {
        let flags = libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_PRIVATE;
        libc::mmap(first as *mut libc::c_void, end - first, libc::PROT_READ, flags, -1, 0)
    };
    if replaced == libc::MAP_FAILED {
        return false;
    }
    range.cut.store(true, Ordering::Release);
    true
}

#[cfg(test)]
mod tests;
