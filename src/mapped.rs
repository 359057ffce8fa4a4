//! Segment files as slices: the only unsafe code.
//!
//! Owns: mapping a regular file for reading. Does not own: how much of it may be believed.

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use memmap2::Mmap;

/// A file, mapped for reading. Dropping it unmaps.
#[derive(Debug)]
pub struct Mapped {
    /// None for an empty file: there is nothing to map.
    map: Option<Mmap>,
}

impl Mapped {
    /// Positions in a segment are 31-bit numbers, so no segment is longer.
    const MAX_LEN: u64 = i32::MAX as u64;

    /// Maps a file.
    ///
    /// # Errors
    /// It can't be opened or mapped, is no regular file, or is longer than any segment.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() > Self::MAX_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "longer than any segment: 2 GiB or more"));
        }
        if metadata.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: the bytes below the last sync marker of a segment never change once written, and nothing above it is
        // read as a slice. A file that is truncated while it is mapped raises SIGBUS: segments are only ever unlinked
        // by Cassandra, never cut.
        #[allow(unsafe_code, reason = "mapping a file is unsafe by nature; this is the one place")]
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }
}

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_an_empty_file_and_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"bytes").unwrap();
        assert_eq!(&*Mapped::open(&path).unwrap(), b"bytes");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(&*Mapped::open(&path).unwrap(), b"");
        assert!(Mapped::open(folder.path()).is_err());
        assert_eq!(Mapped::open(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
