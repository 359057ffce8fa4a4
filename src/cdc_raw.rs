//! The directory into which Cassandra links its segments.
//!
//! Owns: which segments are there, what their indexes say, and deleting one. Does not own: the right to delete
//! (`progress` mints it), reading segments. It creates nothing here and changes no name, owner or mode: Cassandra stops
//! when it finds a file where it wants to link one.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::{fs, vec};

use cassandra_commitlog::{CdcIndex, SegmentName};
use cassandra_progress::Reapable;

use crate::segments::SegmentFile;

/// A `cdc_raw` directory.
#[derive(Debug, Clone)]
pub struct CdcRaw {
    folder: PathBuf,
}

impl CdcRaw {
    /// This directory. It need not exist yet: Cassandra makes it when it starts.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// The directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// All segments that are there now, by id.
    ///
    /// # Errors
    /// The directory can't be read. One that is missing holds nothing.
    pub fn scan(&self) -> io::Result<vec::IntoIter<SegmentFile>> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new().into_iter()),
            other => other?,
        };
        let mut segments = Vec::new();
        for entry in entries {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().and_then(|name| SegmentName::parse(name).ok()) else {
                continue;
            };
            // A link or special file under a segment's name was not put there by Cassandra.
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                segments.push(SegmentFile { name, path: entry.path(), index: self.index(name)? });
            }
        }
        segments.sort_by_key(|segment| segment.name.id);
        Ok(segments.into_iter())
    }

    /// What the index of a segment says now; `None` while there is none, or it is empty, or being written.
    fn index(&self, name: SegmentName) -> io::Result<Option<CdcIndex>> {
        match fs::read(self.folder.join(name.index_name())) {
            Ok(text) => Ok(CdcIndex::parse(&text).unwrap_or(None)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a segment, the log before its index: an index without a log says that something was here.
    ///
    /// # Errors
    /// A file can't be unlinked. One that is gone already is as good.
    pub fn delete(&self, name: SegmentName, right: Reapable) -> io::Result<()> {
        if right.identity().segment != name.id {
            return Err(io::Error::new(ErrorKind::InvalidInput, "the right to delete is of another segment"));
        }
        for file in [name.to_string(), name.index_name()] {
            match fs::remove_file(self.folder.join(file)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
