//! Entry: `i32` size, `u32` CRC-32 of the four size bytes, the body (one serialized mutation), `u32` CRC-32 of size
//! bytes and body together. Entries stand back to back and fill their section exactly.
//!
//! Owns: framing and both checksums. Does not own: the mutation.

use crate::error::{Cause, DecodeError, Place, Structure};
use crate::parse::{index, length};
use crate::size_crc::size_crc;
use crate::units::LogOffset;

/// Bytes of an entry besides its body: size and two checksums.
pub const ENTRY_OVERHEAD: u32 = 12;

/// The shortest mutation that Cassandra's reader takes.
const MIN_SIZE: u32 = 10;

/// One entry whose checksums hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The serialized mutation.
    pub body: &'a [u8],
    /// Logical position of the body's first byte.
    pub body_at: LogOffset,
    /// The checksum over size and body.
    pub crc: u32,
}

impl Entry<'_> {
    /// Logical position behind the entry: what Cassandra's reader calls the position of a mutation.
    pub fn end(&self) -> LogOffset {
        LogOffset(self.body_at.0.saturating_add(length(self.body.len())).saturating_add(4))
    }

    /// Whether the checksum is that of size and body: for an entry that was kept somewhere else than in a segment.
    pub fn is_whole(&self) -> bool {
        let mut crc = crc32fast::Hasher::new();
        crc.update(&length(self.body.len()).to_be_bytes());
        crc.update(self.body);
        crc.finalize() == self.crc
    }
}

/// The entries of a section.
#[derive(Debug, Clone)]
pub struct Entries<'a> {
    rest: &'a [u8],
    at: LogOffset,
}

impl<'a> Entries<'a> {
    /// The entries of a section's plaintext that starts at this logical position.
    pub fn new(plaintext: &'a [u8], start: LogOffset) -> Self {
        Self { rest: plaintext, at: start }
    }

    /// Logical position of the next entry, or of the section's end.
    pub fn offset(&self) -> LogOffset {
        self.at
    }

    /// After a damaged body: the framing may still be sound, so the next entry can be tried. `false` if the size of the
    /// damaged entry can't be trusted either; then nothing more can be found in this section.
    pub fn skip_damaged(&mut self) -> bool {
        let Ok((size, _)) = self.size() else { return false };
        let len = size.saturating_add(ENTRY_OVERHEAD);
        let Some(rest) = self.rest.get(index(len)..) else { return false };
        self.rest = rest;
        self.at = LogOffset(self.at.0.saturating_add(len));
        true
    }

    /// The size of the next entry's body and its checksum: it holds, and the body lies inside the section.
    #[inline]
    fn size(&self) -> Result<(u32, u32), Cause> {
        let truncated = Cause::Truncated { left: self.rest.len() };
        let Some(([a, b, c, d, crc @ ..], behind)) = self.rest.split_first_chunk::<8>() else { return Err(truncated) };
        let bytes = [*a, *b, *c, *d];
        let size = u32::from_be_bytes(bytes);
        let stored = u32::from_be_bytes(*crc);
        let computed = size_crc(bytes);
        if stored != computed {
            return Err(Cause::Checksum { stored, computed });
        }
        if size < MIN_SIZE || size > u32::try_from(i32::MAX).unwrap_or(0) {
            return Err(Cause::OutOfRange { what: "entry size", value: i64::from(size.cast_signed()) });
        }
        if behind.len() < index(size).saturating_add(4) { Err(truncated) } else { Ok((size, computed)) }
    }

    /// The next entry, and what stands behind it.
    #[inline]
    fn entry(&self) -> Result<(Entry<'a>, &'a [u8]), (Structure, Cause)> {
        let (size, size_crc) = self.size().map_err(|cause| (Structure::EntryHeader, cause))?;
        let split = self.rest.get(8..).and_then(|rest| rest.split_at_checked(index(size)));
        let Some((body, (stored, rest))) = split.and_then(|(body, rest)| Some((body, rest.split_first_chunk::<4>()?)))
        else {
            return Err((Structure::EntryBody, Cause::Truncated { left: self.rest.len() }));
        };
        // The second checksum goes on where the first one ended.
        let mut crc = crc32fast::Hasher::new_with_initial(size_crc);
        crc.update(body);
        let (stored, computed) = (u32::from_be_bytes(*stored), crc.finalize());
        if stored != computed {
            return Err((Structure::EntryBody, Cause::Checksum { stored, computed }));
        }
        Ok((Entry { body, body_at: LogOffset(self.at.0.saturating_add(8)), crc: stored }, rest))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, DecodeError>;

    /// The next entry; an error is damage and repeats until [`Entries::skip_damaged`].
    #[inline]
    fn next(&mut self) -> Option<Result<Entry<'a>, DecodeError>> {
        if self.rest.is_empty() {
            return None;
        }
        Some(match self.entry() {
            Ok((entry, rest)) => {
                self.rest = rest;
                self.at = entry.end();
                Ok(entry)
            }
            Err((structure, cause)) => Err(DecodeError { at: Place::Log(self.at), structure, cause }),
        })
    }
}
