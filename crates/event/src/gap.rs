//! The record of changes that could not be read, or no longer can.
//!
//! Owns: its members in both formats. Does not own: its durable file, the decision that something is lost.

use crate::calendar::push_rfc3339;
use crate::encoder::{Encoder, Record};
use crate::json_text::{push_int, push_str};
use crate::settings::Format;
use crate::wire::{push_text, push_uint, push_uint_default};

/// Why changes are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapKind {
    /// A segment went away before it was published.
    SegmentDeleted,
    /// Bytes of a segment are damaged and were put aside.
    DamagedBytes,
    /// A segment was given up because the spool was full.
    SpoolReleased,
    /// An index file is there, its segment is not.
    IndexWithoutLog,
}

impl GapKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::SegmentDeleted, Self::DamagedBytes, Self::SpoolReleased, Self::IndexWithoutLog];

    /// The word in records.
    pub const fn word(self) -> &'static str {
        match self {
            Self::SegmentDeleted => "segment-deleted",
            Self::DamagedBytes => "damaged-bytes",
            Self::SpoolReleased => "spool-released",
            Self::IndexWithoutLog => "index-without-log",
        }
    }
}

/// Changes that are missing.
#[derive(Debug, Clone, Copy)]
pub struct Gap<'a> {
    /// The segment's file name.
    pub segment: &'a str,
    /// Why they are missing.
    pub kind: GapKind,
    /// The first position that is missing, where it is known.
    pub from: Option<u32>,
    /// The end of what is missing, where it is known.
    pub to: Option<u32>,
    /// How many entries are missing, where it is known.
    pub entries: Option<u64>,
    /// When it was noticed, seconds since 1970.
    pub at: i64,
    /// Whether positions behind the gap, and so ids, may differ from those of another reading.
    pub ids_may_shift: bool,
}

impl Encoder {
    /// Appends a gap record. Its key is `<cluster>/<host id>/<segment file name>`.
    pub fn gap(&self, gap: &Gap<'_>, arena: &mut Vec<u8>, records: &mut Vec<Record>) {
        let key = arena.len();
        arena.extend_from_slice(&self.constants.id);
        arena.extend_from_slice(gap.segment.as_bytes());
        let key = key..arena.len();
        let start = arena.len();
        match self.settings.format {
            Format::Json => self.gap_json(gap, arena),
            Format::Protobuf => self.gap_proto(gap, arena),
        }
        records.push(Record::new(Record::NO_TABLE, &key, start..arena.len(), arena));
    }

    /// Appends a gap record's JSON, whatever the format of records: what the state directory keeps.
    pub fn gap_json(&self, gap: &Gap<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"v\":1,\"gap\":");
        push_str(out, gap.kind.word());
        let numbers = [
            (b",\"from\":".as_slice(), gap.from.map(u64::from)),
            (b",\"to\":", gap.to.map(u64::from)),
            (b",\"entries\":", gap.entries),
        ];
        for (name, number) in numbers {
            out.extend_from_slice(name);
            match number {
                Some(number) => push_int(out, number),
                None => out.extend_from_slice(b"null"),
            }
        }
        out.extend_from_slice(b",\"at\":\"");
        push_rfc3339(out, gap.at);
        out.push(b'"');
        if gap.ids_may_shift {
            out.extend_from_slice(b",\"ids_may_shift\":true");
        }
        out.extend_from_slice(b",\"source\":");
        self.push_bare_source_json(gap.segment, out);
        out.push(b'}');
    }

    fn gap_proto(&self, gap: &Gap<'_>, out: &mut Vec<u8>) {
        push_uint(out, 1, 1);
        push_text(out, 2, gap.kind.word());
        for (field, number) in [(3, gap.from.map(u64::from)), (4, gap.to.map(u64::from)), (5, gap.entries)] {
            if let Some(number) = number {
                push_uint(out, field, number);
            }
        }
        let at = crate::wire::open(out, 6);
        push_rfc3339(out, gap.at);
        at.close(out);
        push_uint_default(out, 7, u64::from(gap.ids_may_shift));
        self.push_bare_source_proto(8, gap.segment, out);
    }
}
