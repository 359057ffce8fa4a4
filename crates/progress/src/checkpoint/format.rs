//! The bytes of a checkpoint.
//!
//! ```text
//! magic "CCDCSTAT" · format version u16 · generation u64 · agent, host, cluster: text
//! count u32, then per segment:   identity · name text · inode u64 · first seen i64 · marks u8 · state u8 · acknowledged u32 · tally
//! count u32, then per tombstone: identity · end u32 · tally · finished at i64 · ending u8
//! CRC-32 u32 of everything before it
//! identity: segment id i64 · has CRC u8 · CRC of the first entry u32      tally: four u32      text: length u16, UTF-8
//! ```
//!
//! All numbers are little-endian. Owns: the order of the fields, and which bytes are none. Does not own: fields within
//! bounds (`codec`).

use alloc::vec::Vec;

use super::*;
use crate::codec::{Reader, Writer};

const MAGIC: &[u8; 8] = b"CCDCSTAT";
pub(super) const FORMAT: u16 = 1;
const CRC_BYTES: usize = 4;
const SEGMENT_BYTES: usize = 13 + 2 + 8 + 8 + 1 + 1 + 4 + 16;
const TOMBSTONE_BYTES: usize = 13 + 4 + 16 + 8 + 1;

impl Checkpoint {
    pub(crate) fn encode(&self, generation: u64) -> Result<Vec<u8>, TooLarge> {
        let mut out = Writer::default();
        out.bytes.extend_from_slice(MAGIC);
        out.u16(FORMAT);
        out.u64(generation);
        for text in [&self.node.agent, &self.node.host, &self.node.cluster] {
            put_text(&mut out, text)?;
        }
        out.u32(u32::try_from(self.segments.len()).map_err(|_| TooLarge)?);
        for record in &self.segments {
            put_identity(&mut out, record.identity);
            put_text(&mut out, &record.name)?;
            out.u64(record.inode);
            out.i64(record.first_seen);
            out.u8(u8::from(record.indexed) | u8::from(record.early) << 1);
            out.u8(state_number(record.state));
            out.u32(record.acknowledged.0);
            put_tally(&mut out, record.tally);
        }
        out.u32(u32::try_from(self.tombstones.len()).map_err(|_| TooLarge)?);
        for tombstone in &self.tombstones {
            put_identity(&mut out, tombstone.identity);
            out.u32(tombstone.end.0);
            put_tally(&mut out, tombstone.tally);
            out.i64(tombstone.finished_at);
            out.u8(ending_number(tombstone.ending));
        }
        let crc = crc32fast::hash(&out.bytes);
        out.u32(crc);
        if out.bytes.len() > MAX_BYTES { Err(TooLarge) } else { Ok(out.bytes) }
    }

    /// Reads a checkpoint and its generation.
    ///
    /// # Errors
    /// [`DecodeError`] for anything but the exact bytes of one checkpoint of this format.
    pub fn decode(bytes: &[u8]) -> Result<(u64, Self), DecodeError> {
        if bytes.len() > MAX_BYTES {
            return Err(DecodeError::TooLong);
        }
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or(DecodeError::Truncated)?;
        let fields = body.strip_prefix(MAGIC).ok_or(DecodeError::NotACheckpoint)?;
        let mut input = Reader::new(fields);
        let format = input.u16()?;
        // The CRC comes first: a flipped bit in the version must not look like another program's checkpoint. Every
        // format of ours ends with the CRC, so that an honest other version passes it.
        if crc32fast::hash(body) != u32::from_le_bytes(*crc) {
            return Err(DecodeError::BadCrc);
        }
        if format != FORMAT {
            return Err(DecodeError::OtherFormat(format));
        }
        let generation = input.u64()?;
        let node = Node { agent: input.text(MAX_TEXT)?, host: input.text(MAX_TEXT)?, cluster: input.text(MAX_TEXT)? };
        let count = input.count(SEGMENT_BYTES)?;
        let mut segments = Vec::with_capacity(count);
        for _ in 0..count {
            segments.push(get_segment(&mut input)?);
        }
        let count = input.count(TOMBSTONE_BYTES)?;
        let mut tombstones = Vec::with_capacity(count);
        for _ in 0..count {
            tombstones.push(get_tombstone(&mut input)?);
        }
        if input.remaining() > 0 {
            return Err(DecodeError::TrailingBytes);
        }
        Ok((generation, Self { node, segments, tombstones }))
    }
}

fn put_text(out: &mut Writer, text: &str) -> Result<(), TooLarge> {
    if text.len() <= MAX_TEXT && out.text(text) { Ok(()) } else { Err(TooLarge) }
}

fn put_identity(out: &mut Writer, identity: Identity) {
    out.i64(identity.segment.0);
    out.u8(u8::from(identity.first_entry_crc.is_some()));
    out.u32(identity.first_entry_crc.unwrap_or(0));
}

fn put_tally(out: &mut Writer, tally: Tally) {
    for count in [tally.published, tally.not_cdc, tally.filtered, tally.dead_lettered] {
        out.u32(count);
    }
}

fn get_identity(input: &mut Reader<'_>) -> Result<Identity, DecodeError> {
    let segment = SegmentId(input.i64()?);
    let known = input.u8()?;
    let crc = input.u32()?;
    let first_entry_crc = match known {
        0 => None,
        1 => Some(crc),
        other => return Err(DecodeError::Unknown(other, "mark of a first entry")),
    };
    Ok(Identity { segment, first_entry_crc })
}

fn get_tally(input: &mut Reader<'_>) -> Result<Tally, DecodeError> {
    Ok(Tally { published: input.u32()?, not_cdc: input.u32()?, filtered: input.u32()?, dead_lettered: input.u32()? })
}

fn get_segment(input: &mut Reader<'_>) -> Result<SegmentRecord, DecodeError> {
    let (identity, name) = (get_identity(input)?, input.text(MAX_TEXT)?);
    let (inode, first_seen) = (input.u64()?, input.i64()?);
    let (indexed, early) = match input.u8()? {
        marks @ 0..=3 => (marks & 1 != 0, marks & 2 != 0),
        other => return Err(DecodeError::Unknown(other, "mark of a segment")),
    };
    Ok(SegmentRecord {
        identity,
        name,
        inode,
        first_seen,
        indexed,
        early,
        state: match input.u8()? {
            1 => SegmentState::Reading,
            2 => SegmentState::Finished,
            3 => SegmentState::Quarantined,
            other => return Err(DecodeError::Unknown(other, "state of a segment")),
        },
        acknowledged: LogOffset(input.u32()?),
        tally: get_tally(input)?,
    })
}

fn get_tombstone(input: &mut Reader<'_>) -> Result<Tombstone, DecodeError> {
    Ok(Tombstone {
        identity: get_identity(input)?,
        end: LogOffset(input.u32()?),
        tally: get_tally(input)?,
        finished_at: input.i64()?,
        ending: match input.u8()? {
            1 => Ending::Reaped,
            2 => Ending::Lost,
            3 => Ending::Empty,
            other => return Err(DecodeError::Unknown(other, "ending of a segment")),
        },
    })
}

const fn state_number(state: SegmentState) -> u8 {
    match state {
        SegmentState::Reading => 1,
        SegmentState::Finished => 2,
        SegmentState::Quarantined => 3,
    }
}

const fn ending_number(ending: Ending) -> u8 {
    match ending {
        Ending::Reaped => 1,
        Ending::Lost => 2,
        Ending::Empty => 3,
    }
}
