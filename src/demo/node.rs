//! A stand-in for a Cassandra node: lays recorded segments into a `cdc_raw`, section by section.
//!
//! Owns: the segments inside the binary, and the way in which Cassandra writes: the file has its full size from the
//! start, sections appear in it, then the index moves; at the end it says COMPLETED. Does not own: reading any of it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use cassandra_commitlog::{Descriptor, Sections, SegmentName, Step, SystemSchema, Tail};
use flate2::read::GzDecoder;

/// The recorded segments of a small web shop, and the schema that they were written with.
const SEGMENTS: [(&str, &[u8]); 2] = [
    (
        "CommitLog-7-1795257477268.log",
        include_bytes!("../../fixtures/4.1-demo/segments/CommitLog-7-1795257477268.log.gz"),
    ),
    (
        "CommitLog-7-1795257477269.log",
        include_bytes!("../../fixtures/4.1-demo/segments/CommitLog-7-1795257477269.log.gz"),
    ),
];
const SCHEMA: &str = include_str!("../../fixtures/4.1-demo/schema.json");

/// Pause between two syncs. A node's own default is ten seconds.
const SYNC_PERIOD: Duration = Duration::from_millis(40);

/// Sections between two syncs: markers come every 100 ms, syncs less often.
const SECTIONS_PER_SYNC: usize = 4;

/// The schema of the recorded segments.
///
/// # Errors
/// The binary holds something else.
pub fn schema() -> serde_json::Result<SystemSchema> {
    serde_json::from_str(SCHEMA)
}

/// How many segments the node writes.
pub const fn segments() -> usize {
    SEGMENTS.len()
}

/// Writes all segments into a directory, in a thread of its own.
pub fn start(cdc_raw: &Path) -> thread::JoinHandle<io::Result<()>> {
    let cdc_raw = cdc_raw.to_owned();
    thread::spawn(move || SEGMENTS.iter().try_for_each(|(name, packed)| write_segment(&cdc_raw, name, packed)))
}

fn write_segment(cdc_raw: &Path, name: &str, packed: &[u8]) -> io::Result<()> {
    let mut recorded = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut recorded)?;
    let descriptor = Descriptor::parse(&recorded).map_err(io::Error::other)?;
    let index = cdc_raw.join(SegmentName::parse(name).map_err(io::Error::other)?.index_name());
    let file = OpenOptions::new().write(true).create_new(true).open(cdc_raw.join(name))?;
    file.set_len(recorded.len() as u64)?;
    let mut sections = Sections::new(&recorded, &descriptor, Tail::Sealed);
    let mut written = 0;
    loop {
        let mut more = false;
        for _ in 0..SECTIONS_PER_SYNC {
            more = matches!(sections.step().map_err(io::Error::other)?, Step::Item(_));
        }
        let (end, logical) = sections.position();
        let end = end.0 as usize;
        file.write_all_at(recorded.get(written..end).unwrap_or_default(), written as u64)?;
        written = end;
        if !more {
            return write_index(&index, &format!("{logical}\nCOMPLETED"));
        }
        write_index(&index, &logical.to_string())?;
        thread::sleep(SYNC_PERIOD);
    }
}

/// Truncates, then writes, as Cassandra does: a reader may find the file empty.
fn write_index(path: &Path, text: &str) -> io::Result<()> {
    File::create(path)?;
    fs::write(path, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_segments_come_out_as_they_were_recorded() {
        let folder = tempfile::tempdir().unwrap();
        start(folder.path()).join().unwrap().unwrap();
        for (name, packed) in SEGMENTS {
            let mut recorded = Vec::new();
            GzDecoder::new(packed).read_to_end(&mut recorded).unwrap();
            assert!(fs::read(folder.path().join(name)).unwrap() == recorded);
            let index = SegmentName::parse(name).unwrap().index_name();
            assert!(fs::read_to_string(folder.path().join(index)).unwrap().ends_with("\nCOMPLETED"));
        }
        assert!(schema().unwrap().resolve().1.is_empty());
    }
}
