//! A directory that others write into, used through its own descriptor.
//!
//! Owns: noticing that the directory was removed or made anew, and what its entries are: never followed, so that a link
//! planted under a segment's name leads nowhere. Does not own: what the names mean (`cdc_raw`, `spool`).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, Statx, StatxFlags, statx};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::mapped::Access;

/// What the file system says of a regular file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meta {
    /// The file's number: its identity as long as somebody holds it.
    pub inode: u64,
    /// Its names, in all directories.
    pub links: u64,
    /// Apparent bytes: a mapped segment has all of them from the start.
    pub len: u64,
    /// Bytes that the disk gave it.
    pub allocated: u64,
    /// Its last change. Stores through a mapping move it only when they dirty a clean page.
    pub modified: SystemTime,
}

/// The unit of `st_blocks`, whatever the file system's block is.
const STAT_BLOCK: u64 = 512;

impl Meta {
    fn of(stat: &Statx) -> Self {
        let seconds = Duration::from_secs(u64::try_from(stat.stx_mtime.tv_sec).unwrap_or(0));
        Self {
            inode: stat.stx_ino,
            links: stat.stx_nlink.into(),
            len: stat.stx_size,
            allocated: stat.stx_blocks.saturating_mul(STAT_BLOCK),
            modified: SystemTime::UNIX_EPOCH + seconds + Duration::from_nanos(stat.stx_mtime.tv_nsec.into()),
        }
    }
}

/// What is at a name in a directory: never what a link there leads to. `statx`, because its numbers have the same widths
/// on all machines.
fn look(directory: BorrowedFd<'_>, name: impl Arg) -> rustix::io::Result<Statx> {
    statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)
}

/// One name in a directory.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: CString,
    pub(crate) kind: FileType,
    pub(crate) meta: Meta,
}

/// Whether the directory is the one of last time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    Same,
    Reopened,
    Missing,
}

/// A directory by its path, open while it is there.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    open: Option<OwnedFd>,
}

impl Folder {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.to_owned(), open: None }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The directory, if it was there at the last [`refresh`](Self::refresh).
    pub(crate) fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.open.as_ref().map(AsFd::as_fd)
    }

    /// Opens what the path leads to now, unless that is open already.
    pub(crate) fn refresh(&mut self) -> io::Result<Presence> {
        let now = match rustix::fs::stat(&self.path) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => {
                self.open = None;
                return Ok(Presence::Missing);
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(open) = &self.open {
            let then = rustix::fs::fstat(open)?;
            // A removed directory keeps its number while it is open here, so no new one can have it.
            if (then.st_dev, then.st_ino) == (now.st_dev, now.st_ino) {
                return Ok(Presence::Same);
            }
        }
        self.open = None;
        self.open = Some(open_directory(&self.path)?);
        Ok(Presence::Reopened)
    }
}

/// Opens a directory for use by its descriptor.
pub(crate) fn open_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

/// Everything in a directory. What vanishes meanwhile is left out.
pub(crate) fn list(directory: BorrowedFd<'_>) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        match look(directory, name) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.stx_mode.into());
                entries.push(Entry { name: name.to_owned(), kind, meta: Meta::of(&stat) });
            }
            Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(entries)
}

/// How deep below a directory sizes are added up: deeper trees are nobody's intention.
const MAX_DEPTH: u32 = 16;

/// Apparent bytes of everything below a directory inside this one, as Cassandra adds them up. What can't be read counts
/// nothing: this is for an alarm, not for a decision.
pub(crate) fn bytes_below(directory: BorrowedFd<'_>, name: &CStr) -> u64 {
    fn below(directory: BorrowedFd<'_>, name: &CStr, depth: u32) -> u64 {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let Ok(inner) = rustix::fs::openat(directory, name, flags, Mode::empty()) else { return 0 };
        let entries = list(inner.as_fd()).unwrap_or_default();
        entries.iter().fold(0, |sum: u64, entry| {
            sum.saturating_add(match entry.kind {
                FileType::Directory if depth < MAX_DEPTH => below(inner.as_fd(), &entry.name, depth + 1),
                FileType::Directory => 0,
                _ => entry.meta.len,
            })
        })
    }
    below(directory, name, 1)
}

/// What is at this name in a directory, if something is.
pub(crate) fn meta(directory: BorrowedFd<'_>, name: &str) -> io::Result<Option<Meta>> {
    match look(directory, name) {
        Ok(stat) => Ok(Some(Meta::of(&stat))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes a name from a directory. One that is gone already is as good.
pub(crate) fn unlink(directory: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether one of two paths lies in the other, however they are written. Their last parts need not be there.
pub(crate) fn nested(one: &Path, other: &Path) -> io::Result<bool> {
    let (one, other) = (resolved(one)?, resolved(other)?);
    Ok(one.starts_with(&other) || other.starts_with(&one))
}

fn resolved(path: &Path) -> io::Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let whole = std::path::absolute(path)?;
            match (whole.parent(), whole.file_name()) {
                (Some(parent), Some(name)) => Ok(parent.canonicalize().unwrap_or(parent.to_owned()).join(name)),
                _ => Ok(whole),
            }
        }
        other => other,
    }
}

/// Whether two directories are one mount: no link leads from one mount into another, even of the same file system.
pub(crate) fn same_mount(one: &Path, other: &Path) -> io::Result<bool> {
    let look = |path| statx(CWD, path, AtFlags::empty(), StatxFlags::BASIC_STATS | StatxFlags::MNT_ID);
    let (one, other) = (look(one)?, look(other)?);
    Ok((one.stx_dev_major, one.stx_dev_minor, one.stx_mnt_id)
        == (other.stx_dev_major, other.stx_dev_minor, other.stx_mnt_id))
}

/// Bytes of the volume that a path is on.
pub fn volume_bytes(path: &Path) -> Option<u64> {
    rustix::fs::statvfs(path).ok().map(|stat| stat.f_blocks.saturating_mul(stat.f_frsize))
}

/// What kind of file system something lies on: statfs's magic number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileSystem(i64);

impl FileSystem {
    /// ext4, or an older one of its family.
    const EXT4: Self = Self(0xef53);
    const XFS: Self = Self(0x5846_5342);
    const BTRFS: Self = Self(0x9123_683e);
    const TMPFS: Self = Self(0x0102_1994);
    const OVERLAY: Self = Self(0x794c_7630);
    const RAMFS: Self = Self(0x8584_58f6);

    /// The one that holds this file or directory.
    ///
    /// # Errors
    /// The system can't be asked.
    pub fn of(path: &Path) -> io::Result<Self> {
        Ok(Self(rustix::fs::statfs(path)?.f_type))
    }

    /// The one that holds this directory, or will when it is made.
    pub fn of_nearest(path: &Path) -> Option<Self> {
        path.ancestors().find_map(|path| Self::of(path).ok())
    }

    /// Its number.
    pub fn magic(self) -> i64 {
        self.0
    }

    /// Its name, if that is known.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(magic, ..)| *magic == self.0).map(|(_, name, _)| *name)
    }

    /// Whether another machine keeps what is on it.
    pub fn is_network(self) -> bool {
        NAMES.iter().any(|(magic, _, network)| *magic == self.0 && *network)
    }

    /// Whether all that is on it goes with the next boot.
    pub fn is_volatile(self) -> bool {
        matches!(self, Self::TMPFS | Self::RAMFS)
    }

    /// Its name, if links, their counts and renames on it were proven to be what the agent counts on.
    pub fn proven(self) -> Option<&'static str> {
        matches!(self, Self::EXT4 | Self::XFS).then(|| self.name()).flatten()
    }

    /// How files on it are had: mapped only where a mapping is known to show at once what others write.
    pub fn access(self) -> Access {
        match self {
            Self::EXT4 | Self::XFS | Self::BTRFS | Self::TMPFS | Self::OVERLAY => Access::Map,
            _ => Access::Read,
        }
    }
}

/// Magic numbers, names, and whether it is a network's: statfs(2) and the kernel's headers.
const NAMES: [(i64, &str, bool); 20] = [
    (FileSystem::EXT4.0, "ext4", false),
    (FileSystem::XFS.0, "xfs", false),
    (FileSystem::BTRFS.0, "btrfs", false),
    (FileSystem::TMPFS.0, "tmpfs", false),
    (FileSystem::RAMFS.0, "ramfs", false),
    (FileSystem::OVERLAY.0, "overlay", false),
    (0x2fc1_2fc1, "zfs", false),
    (0xf2f5_2010, "f2fs", false),
    (0x4d44, "fat", false),
    (0x6969, "nfs", true),
    (0xff53_4d42, "cifs", true),
    (0xfe53_4d42, "smb2", true),
    (0x517b, "smb", true),
    (0x00c3_6400, "ceph", true),
    (0x0102_1997, "9p", true),
    (0x0bd0_0bd0, "lustre", true),
    (0x0116_1970, "gfs2", true),
    (0x7461_636f, "ocfs2", true),
    (0x5346_414f, "afs", true),
    // Most of what is mounted so for a server keeps its files elsewhere: sshfs, GlusterFS, object stores.
    (0x6573_5546, "fuse", true),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_told_apart() {
        for (magic, name, network, volatile, proven) in [
            (0xef53, Some("ext4"), false, false, true),
            (0x5846_5342, Some("xfs"), false, false, true),
            (0x0102_1994, Some("tmpfs"), false, true, false),
            (0x794c_7630, Some("overlay"), false, false, false),
            (0x6969, Some("nfs"), true, false, false),
            (0xff53_4d42, Some("cifs"), true, false, false),
            (0x6573_5546, Some("fuse"), true, false, false),
            (0x1234, None, false, false, false),
        ] {
            let it = FileSystem(magic);
            let told = (it.name(), it.is_network(), it.is_volatile(), it.proven().is_some());
            assert_eq!(told, (name, network, volatile, proven), "{magic:#x}");
        }
    }

    #[test]
    fn a_directory_made_anew_is_another_one_even_if_it_gets_the_same_number() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("cdc_raw");
        let mut folder = Folder::new(&path);
        assert_eq!(folder.refresh().unwrap(), Presence::Missing);
        for _ in 0..10 {
            std::fs::create_dir(&path).unwrap();
            assert_eq!(folder.refresh().unwrap(), Presence::Reopened);
            assert_eq!(folder.refresh().unwrap(), Presence::Same);
            std::fs::remove_dir(&path).unwrap();
        }
        std::fs::write(&path, "").unwrap();
        assert!(folder.refresh().is_err(), "a file is no directory");
    }

    #[test]
    fn paths_in_one_another_are_found_however_they_are_written() {
        let parent = tempfile::tempdir().unwrap();
        let raw = parent.path().join("cdc_raw");
        std::fs::create_dir(&raw).unwrap();
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&raw, &link).unwrap();
        for inside in [raw.join("spool"), link.join("spool"), raw.join("../cdc_raw"), parent.path().to_owned()] {
            assert!(nested(&inside, &raw).unwrap(), "{}", inside.display());
        }
        assert!(!nested(&parent.path().join("cdc_raw_spool"), &raw).unwrap());
        assert!(same_mount(&raw, parent.path()).unwrap());
        assert!(!same_mount(&raw, Path::new("/proc")).unwrap());
        assert_eq!(FileSystem::of(Path::new("/proc")).unwrap().access(), Access::Read);
        let access = |path: &Path| FileSystem::of_nearest(path).unwrap().access();
        assert_eq!((access(parent.path()), access(&parent.path().join("later/cdc_raw"))), (Access::Map, Access::Map));
        assert_eq!(access(Path::new("/proc/self")), Access::Read);
    }
}
