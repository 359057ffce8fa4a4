//! Entries of a mapped segment that no sync marker covers yet.
//!
//! Owns: reading behind the last marker, where the server may be writing at this moment. Does not own: sections that a
//! marker closes (`walk`), what becomes of an entry (`line`).
//!
//! Bytes here are copied out with plain reads, never lent from a mapping, and an entry counts once both checksums hold on
//! the copy. The server writes a section's marker when it closes the section, and leaves eight bytes for the next one
//! behind it: so the marker is looked at first, and once it is written the way leads through `walk` again. Entries stand
//! in the order in which the server gave out their room, and one that is not whole yet ends the reading: what stands
//! behind it waits, so that nothing overtakes.

use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt;

use cassandra_commitlog::{Cause, Entries, Entry, LogOffset, SegmentId, sync_marker};

use crate::walk::Marker;

/// The first look: when nothing was written it is the only one.
const GLANCE: usize = 4 << 10;

/// What is read at once where there is more; it grows for an entry that does not fit.
const CHUNK: usize = 64 << 10;

/// The open end of one segment.
#[derive(Debug)]
pub struct OpenEnd {
    file: File,
    segment: SegmentId,
    buffer: Vec<u8>,
}

impl OpenEnd {
    /// The end of a plain segment.
    pub fn new(file: File, segment: SegmentId) -> Self {
        Self { file, segment, buffer: Vec::new() }
    }

    /// Whether the section behind this marker is closed: the marker is written, and `walk` learns from it where the
    /// section ends.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn is_closed(&self, marker: Marker) -> io::Result<bool> {
        let mut bytes = [0; 8];
        let read = self.read_at(&mut bytes, marker.file.0)?;
        Ok(read == bytes.len() && sync_marker(self.segment, marker.file, bytes).is_some())
    }

    /// Hands over the whole entries that stand at or behind `from`, in the section that begins with `marker`, and says how
    /// far they reach; `None` if the section is closed. In a plain segment file offsets are logical positions.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn read<E>(
        &mut self,
        marker: Marker,
        from: LogOffset,
        mut each: impl FnMut(Entry<'_>) -> ControlFlow<E>,
    ) -> io::Result<ControlFlow<E, Option<LogOffset>>> {
        if self.is_closed(marker)? {
            return Ok(ControlFlow::Continue(None));
        }
        let mut at = LogOffset(from.0.max(marker.log.0.saturating_add(8)));
        let mut want = GLANCE;
        loop {
            self.buffer.resize(want.max(self.buffer.len()), 0);
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.read_at(&mut buffer[..want], at.0);
            let outcome = read.map(|read| whole_entries(&buffer[..read], read == want, at, &mut each));
            self.buffer = buffer;
            match outcome? {
                ControlFlow::Break(value) => return Ok(ControlFlow::Break(value)),
                ControlFlow::Continue(Read { end, cut: true }) => {
                    // Look at more from there, and at twice as much where not even one entry fitted.
                    want = if end == at { want.saturating_mul(2) } else { CHUNK.max(want) };
                    at = end;
                }
                ControlFlow::Continue(Read { end, cut: false }) => return Ok(ControlFlow::Continue(Some(end))),
            }
        }
    }

    /// Fills as much of the buffer as the file has.
    fn read_at(&self, buffer: &mut [u8], at: u32) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], u64::from(at) + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

/// How far whole entries reach in a copy.
struct Read {
    end: LogOffset,
    /// The next entry may be whole in the file, but the copy ends before it does.
    cut: bool,
}

/// A copy that is shorter than what was asked for reaches to the end of the file: there is no more.
fn whole_entries<E>(
    copy: &[u8],
    more: bool,
    at: LogOffset,
    each: &mut impl FnMut(Entry<'_>) -> ControlFlow<E>,
) -> ControlFlow<E, Read> {
    let mut entries = Entries::new(copy, at);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) => each(entry)?,
            Err(error) => {
                let cut = more && matches!(error.cause, Cause::Truncated { .. });
                return ControlFlow::Continue(Read { end: entries.offset(), cut });
            }
        }
    }
    ControlFlow::Continue(Read { end: entries.offset(), cut: more })
}

#[cfg(test)]
mod tests {
    use super::*;
    use cassandra_commitlog::FileOffset;

    const ID: SegmentId = SegmentId(77);
    const MARKER: Marker = Marker { file: FileOffset(20), log: LogOffset(20) };

    fn entry(body: &[u8]) -> Vec<u8> {
        let size = (body.len() as u32).to_be_bytes();
        let mut bytes = size.to_vec();
        bytes.extend(crc32fast::hash(&size).to_be_bytes());
        bytes.extend(body);
        let mut crc = crc32fast::Hasher::new();
        crc.update(&size);
        crc.update(body);
        bytes.extend(crc.finalize().to_be_bytes());
        bytes
    }

    fn marker(at: u32, next: u32) -> Vec<u8> {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&(ID.0 as u32).to_be_bytes());
        crc.update(&((ID.0 >> 32) as u32).to_be_bytes());
        crc.update(&at.to_be_bytes());
        [next.to_be_bytes(), crc.finalize().to_be_bytes()].concat()
    }

    struct Written {
        file: tempfile::NamedTempFile,
        end: OpenEnd,
    }

    impl Written {
        fn new(length: u64) -> Self {
            let file = tempfile::NamedTempFile::new().unwrap();
            file.as_file().set_len(length).unwrap();
            let end = OpenEnd::new(file.reopen().unwrap(), ID);
            Self { file, end }
        }

        fn write(&self, at: u64, bytes: &[u8]) {
            self.file.as_file().write_all_at(bytes, at).unwrap();
        }

        fn read(&mut self, from: u32) -> (Vec<Vec<u8>>, Option<LogOffset>) {
            let mut bodies = Vec::new();
            let found = self.end.read(MARKER, LogOffset(from), |entry| {
                bodies.push(entry.body.to_vec());
                ControlFlow::<()>::Continue(())
            });
            let ControlFlow::Continue(found) = found.unwrap() else { panic!("nothing breaks") };
            (bodies, found)
        }
    }

    #[test]
    fn whole_entries_are_taken_and_the_first_unfinished_one_ends_the_reading() {
        let mut written = Written::new(1 << 20);
        let (first, second, third) = (entry(b"first entry"), entry(b"second entry"), entry(b"third entry"));
        let at = [28, 28 + first.len() as u64, 28 + (first.len() + second.len()) as u64];
        assert_eq!(written.read(0), (vec![], Some(LogOffset(28))));
        written.write(at[0], &first);
        // The third is there before the second: it waits.
        written.write(at[2], &third);
        assert_eq!(written.read(0), (vec![b"first entry".to_vec()], Some(LogOffset(at[1] as u32))));
        // Every byte of the second but the last one.
        written.write(at[1], &second[..second.len() - 1]);
        assert_eq!(written.read(at[1] as u32), (vec![], Some(LogOffset(at[1] as u32))));
        written.write(at[1], &second);
        let (bodies, _) = written.read(at[1] as u32);
        assert_eq!(bodies, [b"second entry".to_vec(), b"third entry".to_vec()]);
    }

    #[test]
    fn entries_of_any_size_are_taken_once() {
        let mut written = Written::new(4 << 20);
        let bodies: Vec<Vec<u8>> =
            [10, 4096 - 12, 4096, 70_000, 11, 500_000, 64 << 10].iter().map(|&size| vec![size as u8; size]).collect();
        let bytes: Vec<u8> = bodies.iter().flat_map(|body| entry(body)).collect();
        written.write(28, &bytes);
        let (found, end) = written.read(0);
        assert!(found == bodies);
        assert_eq!(end, Some(LogOffset(28 + bytes.len() as u32)));
    }

    #[test]
    fn a_full_file_ends_the_reading() {
        let body = vec![7; 100];
        let bytes = entry(&body);
        let mut written = Written::new(28 + bytes.len() as u64 + 5);
        written.write(28, &bytes);
        assert_eq!(written.read(0), (vec![body], Some(LogOffset(28 + bytes.len() as u32))));
    }

    #[test]
    fn a_written_marker_closes_the_section_and_the_next_marker_is_no_entry() {
        let mut written = Written::new(1 << 20);
        let bytes = entry(b"first entry");
        let next = 28 + bytes.len() as u32;
        written.write(28, &bytes);
        // The next section's marker stands where an entry would.
        written.write(u64::from(next), &marker(next, next + 100));
        assert_eq!(written.read(next), (vec![], Some(LogOffset(next))));
        // Half a marker is none.
        written.write(20, &marker(20, next)[..4]);
        assert_eq!(written.read(next), (vec![], Some(LogOffset(next))));
        written.write(20, &marker(20, next));
        assert_eq!(written.read(next), (vec![], None));
    }
}
