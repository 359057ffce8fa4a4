//! One commit-log segment as the server writes it.
//!
//! Owns: where entries and markers stand, and the order in which their bytes reach the file. Does not own: names, links
//! and indexes (`node`).

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::mutations::framing;

/// How a node writes its segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// Mapped: full size from the start, entries visible before their marker.
    Mapped,
    /// Grows with each sync, and nothing is visible before it.
    Lz4,
}

const MARKER: usize = 8;

/// A segment that its node still writes, or wrote.
pub struct Segment {
    pub id: i64,
    pub name: String,
    /// Its link in `cdc_raw` was made.
    pub linked: bool,
    /// It holds a mutation of a CDC table: its next sync writes the index.
    pub has_cdc: bool,
    /// Such a mutation stands before a marker: replay would find it.
    pub replayable: bool,
    /// Numbers of entries that no marker covers yet.
    pub unmarked: Vec<u32>,
    codec: Codec,
    file: File,
    size: usize,
    /// The marker that the next section writes, in the file and in the uncompressed image.
    marker: usize,
    logical: usize,
    /// The section's bytes: in the file already when mapped.
    plaintext: Vec<u8>,
}

impl Segment {
    /// Creates the file: a descriptor and, when mapped, zeros up to its size.
    pub fn create(folder: &Path, id: i64, version: i32, codec: Codec, size: usize) -> Self {
        let name = format!("CommitLog-{version}-{id}.log");
        let parameters = match codec {
            Codec::Mapped => "{}",
            Codec::Lz4 => r#"{"compressionClass":"LZ4Compressor","compressionParameters":{}}"#,
        };
        let descriptor = framing::descriptor(id, version, parameters);
        let file = OpenOptions::new().write(true).create_new(true).open(folder.join(&name)).unwrap();
        file.write_all_at(&descriptor, 0).unwrap();
        if codec == Codec::Mapped {
            file.set_len(size as u64).unwrap();
        }
        Self {
            id,
            name,
            linked: false,
            has_cdc: false,
            replayable: false,
            unmarked: Vec::new(),
            codec,
            file,
            size,
            marker: descriptor.len(),
            logical: descriptor.len(),
            plaintext: Vec::new(),
        }
    }

    pub fn index_name(&self) -> String {
        index_name(&self.name)
    }

    /// Whether an entry with this body fits, and a marker behind it.
    pub fn fits(&self, body: &[u8]) -> bool {
        self.logical + MARKER + self.plaintext.len() + body.len() + 12 + MARKER <= self.size
    }

    /// Appends an entry and gives its position. The body comes first, its checksums last, as a thread that was
    /// interrupted would leave it.
    pub fn append(&mut self, body: &[u8]) -> u32 {
        let entry = framing::entry(body);
        if self.codec == Codec::Mapped {
            let at = (self.marker + MARKER + self.plaintext.len()) as u64;
            let body_end = entry.len() - 4;
            self.file.write_all_at(&entry[8..body_end], at + 8).unwrap();
            self.file.write_all_at(&entry[..8], at).unwrap();
            self.file.write_all_at(&entry[body_end..], at + body_end as u64).unwrap();
        }
        self.plaintext.extend_from_slice(&entry);
        (self.logical + MARKER + self.plaintext.len()) as u32
    }

    /// Ends the section: a mapped one gets its marker, a compressed one is written whole. Returns the numbers of its
    /// entries. Without entries it is an empty section.
    pub fn mark(&mut self) -> Vec<u32> {
        let plaintext = std::mem::take(&mut self.plaintext);
        let end = match self.codec {
            Codec::Mapped => self.marker + MARKER + plaintext.len(),
            Codec::Lz4 => {
                let stored = [&(plaintext.len() as i32).to_be_bytes()[..], &framing::lz4(&plaintext)].concat();
                self.file.write_all_at(&stored, (self.marker + MARKER) as u64).unwrap();
                self.marker + MARKER + stored.len()
            }
        };
        let marker = framing::marker(self.id, self.marker, end as i32);
        self.file.write_all_at(&marker, self.marker as u64).unwrap();
        self.marker = end;
        self.logical += MARKER + plaintext.len();
        self.replayable = self.has_cdc;
        std::mem::take(&mut self.unmarked)
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The logical end of the last section: what an index says.
    pub fn synced(&self) -> usize {
        self.logical
    }

    /// The length of the file: what replay writes into an index.
    pub fn length(&self) -> u64 {
        self.file.metadata().unwrap().len()
    }
}

/// The name of a segment's index.
pub fn index_name(log: &str) -> String {
    format!("{}_cdc.idx", log.strip_suffix(".log").expect("a segment's name"))
}
