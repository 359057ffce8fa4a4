//! Sync marker: `i32` file offset of the next marker, `u32` CRC-32 of segment id and own file offset. A section is what
//! lies between a marker and the next: markers form a forward chain from the descriptor on.
//!
//! The CRC does not cover the `next` offset: bounds do. Owns: the chain, its end, and logical positions. Does not own:
//! what a section holds (`entry`), how it is stored (`block`, `chunk`).

use nom::number::complete::{be_i32, be_u32};

use crate::descriptor::{Codec, Descriptor};
use crate::error::{Cause, DecodeError, Place, Structure};
use crate::parse::{index, length};
use crate::units::{FileOffset, LogOffset, SegmentId};

/// Bytes of a sync marker.
pub(crate) const MARKER: u32 = 8;

/// Direct-I/O files grow by blocks of the file system, mapped ones have their full size, whole mebibytes, from the
/// start: no sound plain segment ends off this grid (the smallest block of a Linux file system).
const BLOCK: usize = 512;

/// What iteration yields. Damage is the error side: never the end, never "not yet".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<T> {
    /// The next one.
    Item(T),
    /// The server has not written it yet: ask again later.
    Pending,
    /// There is no more and there will not be.
    End,
}

/// What the bytes behind the last marker mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tail {
    /// The server may still write: an unwritten marker, or a section beyond the bytes seen, is [`Step::Pending`].
    /// There is no [`Step::End`]: only the CDC index knows that a segment is closed.
    Live,
    /// The segment is closed: a plain one ends at an unwritten marker or with a full file, others with their last
    /// section. A section that runs out of the file is damage.
    Sealed,
}

/// One section: where it stands, and its bytes as they are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Section<'a> {
    /// Where its marker stands in the file.
    pub marker: FileOffset,
    /// Where it ends in the file: the next marker.
    pub end: FileOffset,
    /// Logical position of its first entry.
    pub start: LogOffset,
    /// What lies between the marker and the end.
    pub stored: &'a [u8],
}

/// The chain of sections of a segment.
#[derive(Debug, Clone)]
pub struct Sections<'a> {
    file: &'a [u8],
    id: SegmentId,
    plain: bool,
    tail: Tail,
    marker: FileOffset,
    logical: LogOffset,
}

impl<'a> Sections<'a> {
    /// The chain of this file, from its first marker on.
    pub fn new(file: &'a [u8], descriptor: &Descriptor, tail: Tail) -> Self {
        let plain = descriptor.codec == Codec::Plain;
        Self { file, id: descriptor.id, plain, tail, marker: descriptor.end, logical: LogOffset(descriptor.end.0) }
    }

    /// Goes on at a marker that is known from an earlier walk, or found by [`next_marker`](Self::next_marker).
    pub fn resume_at(&mut self, marker: FileOffset, logical: LogOffset) {
        self.marker = marker;
        self.logical = logical;
    }

    /// Where the next marker stands or will stand.
    pub fn position(&self) -> (FileOffset, LogOffset) {
        (self.marker, self.logical)
    }

    /// The next section.
    ///
    /// # Errors
    /// A marker whose CRC does not hold or that points out of bounds; in a sealed segment also a section or a file that
    /// is cut short. The error repeats until [`resume_at`](Self::resume_at).
    pub fn step(&mut self) -> Result<Step<Section<'a>>, DecodeError> {
        let error = |cause| DecodeError { at: Place::File(self.marker), structure: Structure::SyncMarker, cause };
        let rest = self.file.get(index(self.marker.0)..).unwrap_or_default();
        let read = be_i32::<_, ()>(rest).and_then(|(rest, next)| be_u32(rest).map(|(rest, crc)| (rest, next, crc)));
        let Ok((behind, next, stored)) = read else {
            return self.out_of_file(rest).map_err(error);
        };
        // The two halves of a marker are not stored at once: in a live file either may be there without the other.
        if self.tail == Tail::Live && (next == 0 || stored == 0) {
            return Ok(Step::Pending);
        }
        if next == 0 && stored == 0 {
            return self.unwritten().map_err(error);
        }
        let computed = marker_crc(self.id, self.marker);
        if stored != computed {
            return Err(error(Cause::Checksum { stored, computed }));
        }
        let start = self.marker.0.saturating_add(MARKER);
        let next = match u32::try_from(next) {
            Ok(next) if next >= start => next,
            _ => return Err(error(Cause::OutOfRange { what: "offset of the next marker", value: i64::from(next) })),
        };
        let Some(stored) = behind.get(..index(next.saturating_sub(start))) else {
            if self.tail == Tail::Live {
                return Ok(Step::Pending);
            }
            return Err(error(Cause::OutOfRange { what: "offset of the next marker", value: i64::from(next) }));
        };
        let section = Section {
            marker: self.marker,
            end: FileOffset(next),
            start: LogOffset(self.logical.0.saturating_add(MARKER)),
            stored,
        };
        // Both or neither: a caller that asks again after an error gets the same error.
        let logical = section.end_logical(self.plain)?;
        (self.marker, self.logical) = (section.end, logical);
        Ok(Step::Item(section))
    }

    /// No room for a marker: the regular end of a full plain segment and of every compressed one. A live file may have
    /// grown since it was looked at, even a plain one: direct I/O appends block after block.
    fn out_of_file(&self, rest: &[u8]) -> Result<Step<Section<'a>>, Cause> {
        if self.tail == Tail::Live {
            return Ok(Step::Pending);
        }
        let whole = if self.plain { self.file.len().checked_rem(BLOCK) == Some(0) } else { rest.is_empty() };
        if whole { Ok(Step::End) } else { Err(Cause::Truncated { left: rest.len() }) }
    }

    /// A marker of zeros in a sealed file. Only plain segments have room that was never written: a compressed or
    /// encrypted one ends with its last section, so zeros stand where data was.
    fn unwritten(&self) -> Result<Step<Section<'a>>, Cause> {
        if self.plain { Ok(Step::End) } else { Err(Cause::Broken("zeros where the next section should begin")) }
    }

    /// The first place at or behind `from` where a valid marker stands whose section leads to a valid marker, to an
    /// unwritten one or to the end of the file. The CRC covers id and own offset, so a marker can be told anywhere: this
    /// is how reading goes on behind damage.
    pub fn next_marker(&self, from: FileOffset) -> Option<FileOffset> {
        let end = length(self.file.len());
        (from.0..end).map(FileOffset).find(|&at| {
            self.marker_at(at).is_some_and(|next| {
                let leads_to_end = next.0.saturating_add(MARKER) > end;
                leads_to_end || self.marker_at(next).is_some() || self.is_unwritten(next)
            })
        })
    }

    fn marker_at(&self, at: FileOffset) -> Option<FileOffset> {
        let marker = self.file.get(index(at.0)..)?.first_chunk::<8>()?;
        sync_marker(self.id, at, *marker).filter(|next| index(next.0) <= self.file.len())
    }

    fn is_unwritten(&self, at: FileOffset) -> bool {
        self.file.get(index(at.0)..).and_then(|rest| rest.first_chunk::<8>()) == Some(&[0; 8])
    }
}

impl Section<'_> {
    /// Logical end: bytes of the stored section in plain segments, the declared plaintext length in the others.
    fn end_logical(&self, plain: bool) -> Result<LogOffset, DecodeError> {
        let len = if plain { length(self.stored.len()) } else { self.declared_len()? };
        self.start.0.checked_add(len).map(LogOffset).ok_or(DecodeError {
            at: Place::File(self.marker),
            structure: Structure::Section,
            cause: Cause::OutOfRange { what: "plaintext length", value: i64::from(len) },
        })
    }

    /// The plaintext length that begins a compressed or encrypted section.
    pub(crate) fn declared_len(&self) -> Result<u32, DecodeError> {
        let error = |cause| DecodeError { at: Place::File(self.marker), structure: Structure::Section, cause };
        let (_, declared) =
            be_i32::<_, ()>(self.stored).map_err(|_| error(Cause::Truncated { left: self.stored.len() }))?;
        u32::try_from(declared)
            .map_err(|_| error(Cause::OutOfRange { what: "plaintext length", value: i64::from(declared) }))
    }
}

/// Where the section behind these bytes ends, if they are a written sync marker: the place for a reader that copies what
/// may still be written, and has no slice of the file to walk.
pub fn sync_marker(id: SegmentId, at: FileOffset, bytes: [u8; 8]) -> Option<FileOffset> {
    let [a, b, c, d, crc @ ..] = bytes;
    let next = u32::from_be_bytes([a, b, c, d]);
    let sound = u32::from_be_bytes(crc) == marker_crc(id, at) && next >= at.0.saturating_add(MARKER);
    sound.then_some(FileOffset(next))
}

fn marker_crc(id: SegmentId, at: FileOffset) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&id.halves_low_first());
    crc.update(&at.0.to_be_bytes());
    crc.finalize()
}
