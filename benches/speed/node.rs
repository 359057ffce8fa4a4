//! A stand-in for a node: a `cdc_raw` with segments that grow, and those that are full.
//!
//! Owns: the order in which bytes, markers and indexes reach the disk. Does not own: the agent that reads them
//! (`service`). It writes no other tables, and no names of its own beside `cdc_raw`.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::framing::{MARKER, SEGMENT, Segment, entry};
use crate::orders;

/// A mapped segment that is being written.
pub(crate) struct Growing {
    segment: Segment,
    cdc_raw: PathBuf,
    file: File,
    /// Where the section that is next begins.
    marker: usize,
    next: u64,
}

impl Growing {
    /// A new one, empty, of the usual size.
    pub(crate) fn new(cdc_raw: &Path, id: i64) -> Self {
        let segment = Segment { size: SEGMENT, ..Segment::plain(id) };
        let file = File::create_new(cdc_raw.join(segment.file_name())).expect("to create a segment");
        let descriptor = segment.descriptor();
        file.set_len(segment.size as u64).expect("to set its size");
        file.write_all_at(&descriptor, 0).expect("to write a descriptor");
        Self { segment, cdc_raw: cdc_raw.to_owned(), file, marker: descriptor.len(), next: 0 }
    }

    /// Appends an insert, its marker, and says in the index that all of it is on the disk.
    pub(crate) fn insert(&mut self) {
        let entry = entry(&orders::insert(self.next));
        self.next += 1;
        let at = self.marker + MARKER;
        self.file.write_all_at(&entry, at as u64).expect("to write an entry");
        let end = at + entry.len();
        self.file.write_all_at(&self.segment.marker(self.marker, end), self.marker as u64).expect("to write a marker");
        self.marker = end;
        fs::write(self.cdc_raw.join(self.segment.index_name()), end.to_string()).expect("to write an index");
    }
}

/// Links a full segment into `cdc_raw`, complete at once. The file of its own name goes.
pub(crate) fn full(cdc_raw: &Path, folder: &Path, segment: Segment, bodies: impl Iterator<Item = Vec<u8>>) {
    let bytes = segment.of(bodies);
    let path = folder.join(segment.file_name());
    fs::write(&path, bytes).expect("to write a segment");
    fs::rename(&path, cdc_raw.join(segment.file_name())).expect("to move it into cdc_raw");
    let index = format!("{}\nCOMPLETED", segment.size);
    fs::write(cdc_raw.join(segment.index_name()), index).expect("to write an index");
}
