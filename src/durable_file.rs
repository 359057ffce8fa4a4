//! A file that is whole or not there: written beside its place under a temporary name, and given its own at the end.
//!
//! Owns: exclusive create, write, fsync, rename, fsync of the directory, in this order; the folders in the state
//! directory whose files are written so. Does not own: what files hold, which of them may go.
//!
//! Every name is used relative to the descriptor of its directory, so that one which is renamed or replaced meanwhile
//! leads nothing into another. A crash leaves at most a file under a temporary name.

use std::ffi::{OsStr, OsString};
use std::fs::{DirBuilder, File};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;

use crate::fault;

/// How the names of unfinished files begin. They end with the process and a number.
const UNFINISHED: &str = ".unfinished-";

/// How many unfinished files of crashed processes with our number may lie in the way.
const NAMES: u32 = 1000;

/// Replaces a file, or makes it: whoever opens it finds the old bytes or the new ones. `what` begins the names of the
/// places where [`fault::step`] comes by.
///
/// # Errors
/// What the system said. The old file is still there, unless only the fsync of its directory failed.
pub fn replace(path: &Path, bytes: &[u8], what: &'static str) -> io::Result<()> {
    let mut file = NewFile::beside(path, what)?;
    file.write_all(bytes)?;
    file.replace()
}

/// Makes a file that must not exist.
///
/// # Errors
/// [`ErrorKind::AlreadyExists`], and what else the system said.
pub fn create_new(path: &Path, bytes: &[u8], what: &'static str) -> io::Result<()> {
    let mut file = NewFile::beside(path, what)?;
    file.write_all(bytes)?;
    file.keep()
}

/// A file without its name, readable by its owner alone. It goes when it is dropped.
#[derive(Debug)]
#[must_use = "a file that is not given its name goes"]
pub struct NewFile {
    directory: File,
    name: OsString,
    file: File,
    unfinished: Option<String>,
    what: &'static str,
}

impl NewFile {
    /// A file that will have this path.
    ///
    /// # Errors
    /// The path names no file, or the system refuses.
    pub fn beside(path: &Path, what: &'static str) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "it names no file"))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self::inside(open_directory(folder)?, name, what)
    }

    /// A file that will have this name in a directory.
    pub(crate) fn inside(directory: File, name: impl AsRef<OsStr>, what: &'static str) -> io::Result<Self> {
        fault::step(what, "create")?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let process = std::process::id();
        for number in 0..NAMES {
            let unfinished = format!("{UNFINISHED}{process}-{number}");
            match rustix::fs::openat(&directory, &unfinished, flags, Mode::RUSR | Mode::WUSR) {
                Ok(file) => {
                    let name = name.as_ref().to_owned();
                    return Ok(Self { directory, name, file: file.into(), unfinished: Some(unfinished), what });
                }
                // Another thread's, or left behind by a crash: not ours to remove.
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other(format!("remove the files {UNFINISHED}* beside it, which crashes left behind")))
    }

    /// The file, to be written to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name, whatever had it.
    ///
    /// # Errors
    /// What the system said.
    pub fn replace(self) -> io::Result<()> {
        self.name(|directory, unfinished, name| rustix::fs::renameat(directory, unfinished, directory, name))
    }

    /// Gives the file its name, if no other has it.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], and what else the system said.
    pub fn keep(self) -> io::Result<()> {
        self.name(rename_to_none)
    }

    /// Returns `Ok` only when the bytes and their name survive a power loss.
    fn name(mut self, rename: impl FnOnce(&File, &OsStr, &OsStr) -> rustix::io::Result<()>) -> io::Result<()> {
        let Some(unfinished) = &self.unfinished else { return Ok(()) };
        fault::step(self.what, "fsync")?;
        self.file.sync_all()?;
        fault::step(self.what, "rename")?;
        rename(&self.directory, unfinished.as_ref(), &self.name)?;
        self.unfinished = None;
        fault::step(self.what, "fsync-directory")?;
        self.directory.sync_all()?;
        fault::step(self.what, "done")
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        fault::step(self.what, "write")?;
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            // What stays is found by the next sweep.
            let _ = rustix::fs::unlinkat(&self.directory, unfinished, AtFlags::empty());
        }
    }
}

/// A folder in the state directory. Its owner alone can read it and what is in it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    directory: File,
    what: &'static str,
}

impl Folder {
    /// Opens the folder, or makes it with mode 0700, and makes sure that the names in it are durable: a process that
    /// died before its last fsync must not leave names that only look so.
    ///
    /// # Errors
    /// The system refuses, or others than its owner could read the folder.
    pub fn open(path: &Path, what: &'static str) -> io::Result<Self> {
        match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => open_directory(path.parent().unwrap_or(Path::new(".")))?.sync_all()?,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let folder = Self::of(open_directory(path)?, path, what)?;
        folder.directory.sync_all()?;
        Ok(folder)
    }

    /// Opens the folder if it is there.
    ///
    /// # Errors
    /// The system refuses, or others than its owner could read the folder.
    pub fn find(path: &Path, what: &'static str) -> io::Result<Option<Self>> {
        match open_directory(path) {
            Ok(directory) => Self::of(directory, path, what).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn of(directory: File, path: &Path, what: &'static str) -> io::Result<Self> {
        let mode = directory.metadata()?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            let path = path.display();
            let text = format!("{path} has mode {mode:04o}; it must be 0700: chmod 0700 {path}");
            return Err(io::Error::new(ErrorKind::PermissionDenied, text));
        }
        Ok(Self { path: path.to_owned(), directory, what })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names of its files, sorted, without unfinished ones.
    ///
    /// # Errors
    /// What the system said.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = names(&self.directory)?;
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        Ok(names)
    }

    /// Removes what crashes left unfinished. Only for who holds the lock of the state directory.
    ///
    /// # Errors
    /// What the system said.
    pub fn sweep(&self) -> io::Result<()> {
        sweep(&self.directory)
    }

    /// The size of a file in bytes; none if there is no such file.
    ///
    /// # Errors
    /// What the system said.
    pub fn size(&self, name: &str) -> io::Result<Option<u64>> {
        match rustix::fs::statat(&self.directory, plain(name)?, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(u64::try_from(stat.st_size).unwrap_or(0))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The bytes of a file; none if there is no such file.
    ///
    /// # Errors
    /// It is larger than `limit` bytes, or the system refuses.
    pub fn read(&self, name: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        // Nothing that blocks on opening, or leads elsewhere, belongs here.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&self.directory, plain(name)?, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let mut bytes = Vec::new();
        file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|length| length > limit) {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("it is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Makes a file that must not exist, durably.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], and what else the system said.
    pub fn create(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = NewFile::inside(self.directory.try_clone()?, plain(name)?, self.what)?;
        file.write_all(bytes)?;
        file.keep()
    }

    /// Gives a file another name that no file has. After a power loss it has one of the two.
    ///
    /// # Errors
    /// What the system said.
    pub fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (plain(from)?, plain(to)?);
        fault::step(self.what, "move")?;
        rename_to_none(&self.directory, from.as_ref(), to.as_ref())?;
        fault::step(self.what, "moved")
    }

    /// Removes a file. Says whether it was there.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, name: &str) -> io::Result<bool> {
        let name = plain(name)?;
        fault::step(self.what, "remove")?;
        match rustix::fs::unlinkat(&self.directory, name, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Renames within a directory, to a name that no file has.
fn rename_to_none(directory: &File, from: &OsStr, to: &OsStr) -> rustix::io::Result<()> {
    match rustix::fs::renameat_with(directory, from, directory, to, RenameFlags::NOREPLACE) {
        // Some file systems can't; a link refuses a name that exists on all of them.
        Err(Errno::INVAL | Errno::NOSYS) => {
            rustix::fs::linkat(directory, from, directory, to, AtFlags::empty())?;
            rustix::fs::unlinkat(directory, from, AtFlags::empty())
        }
        renamed => renamed,
    }
}

/// Removes what crashes left unfinished in a directory. Only for who holds the lock of the state directory.
pub(crate) fn sweep(directory: &File) -> io::Result<()> {
    for name in names(directory)?.iter().filter(|name| name.starts_with(UNFINISHED)) {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(())
}

fn names(directory: &File) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        // Nobody but us writes here, and our names are ASCII.
        names.extend(entry?.file_name().to_str().ok().filter(|name| !matches!(*name, "." | "..")).map(str::to_owned));
    }
    Ok(names)
}

/// A name that leads out of no folder: names may come from a command line.
fn plain(name: &str) -> io::Result<&str> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains('/') {
        return Err(io::Error::new(ErrorKind::InvalidInput, format!("{name:?} is not the name of a file")));
    }
    Ok(name)
}

fn open_directory(path: &Path) -> io::Result<File> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
    Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn names(path: &Path) -> Vec<OsString> {
        let mut names: Vec<OsString> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_or_refused_and_its_owners_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        create_new(&path, b"one", "test").unwrap();
        assert_eq!(create_new(&path, b"two", "test").unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        replace(&path, b"three", "test").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(folder.path()), ["file"]);
        assert!(replace(Path::new("/"), b"", "test").is_err());
        assert!(replace(&folder.path().join("missing/file"), b"", "test").is_err());
    }

    #[test]
    fn what_is_dropped_goes_and_what_a_crash_left_is_swept() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("folder");
        let folder = Folder::open(&path, "test").unwrap();
        let left = path.join(format!("{UNFINISHED}{}-0", std::process::id()));
        fs::write(&left, b"half").unwrap();
        let mut file = NewFile::beside(&path.join("file"), "test").unwrap();
        file.write_all(b"some").unwrap();
        assert_eq!(names(&path).len(), 2);
        drop(file);
        assert_eq!(fs::read(&left).unwrap(), b"half", "another's");
        folder.create("file", b"whole").unwrap();
        assert_eq!(folder.names().unwrap(), ["file"]);
        folder.sweep().unwrap();
        assert_eq!(names(&path), ["file"]);
    }

    #[test]
    fn a_folder_is_its_owners_alone_and_leads_nowhere_else() {
        let state = tempfile::tempdir().unwrap();
        let path = state.path().join("folder");
        let folder = Folder::open(&path, "test").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o700);
        fs::write(state.path().join("secret"), b"secret").unwrap();
        for name in ["../secret", "", ".", "..", "a/b"] {
            assert_eq!(folder.read(name, 100).unwrap_err().kind(), ErrorKind::InvalidInput, "{name}");
        }
        std::os::unix::fs::symlink("../secret", path.join("link")).unwrap();
        assert!(folder.read("link", 100).is_err());
        folder.create("file", b"12345").unwrap();
        assert_eq!(folder.read("file", 5).unwrap().unwrap(), b"12345");
        assert!(folder.read("file", 4).is_err());
        assert_eq!((folder.size("file").unwrap(), folder.size("other").unwrap()), (Some(5), None));
        folder.rename("file", "other").unwrap();
        assert!(folder.remove("other").unwrap() && !folder.remove("other").unwrap());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(Folder::open(&path, "test").unwrap_err().to_string().contains("chmod 0700"));
    }
}
