//! Numbers with a meaning: which offset, which version, which segment.
//!
//! Owns: the newtypes that keep a physical offset from being read as a logical one. Does not own: how they are found.

use core::fmt;

/// The number in a segment's name and descriptor. It orders segments inside one run of a node only: clocks step back,
/// so ids are never compared to decide what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(pub i64);

impl SegmentId {
    /// The form in which checksums of descriptor and markers take the id in: low half first, each half big-endian.
    pub(crate) fn halves_low_first(self) -> [u8; 8] {
        self.0.cast_unsigned().rotate_left(32).to_be_bytes()
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Byte offset in the file as it lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileOffset(pub u32);

/// Byte offset in the uncompressed, unencrypted image of a segment: what Cassandra calls a position.
/// Equal to [`FileOffset`] in plain segments only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogOffset(pub u32);

impl fmt::Display for FileOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LogOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The end of an entry: the place that Cassandra's own reader reports for a mutation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The segment.
    pub segment: SegmentId,
    /// Where in its uncompressed image.
    pub offset: LogOffset,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.segment, self.offset)
    }
}

/// The commit-log versions that this crate reads. The segment's own header decides, not the release that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FormatVersion {
    /// Cassandra 3.11.
    V6,
    /// Cassandra 4.0, 4.1, and 5.0 in its default compatibility mode.
    V7,
    /// Cassandra 5.0 with `storage_compatibility_mode` `UPGRADING` or `NONE`.
    V8,
    /// Cassandra 6.0.
    V9,
}

impl FormatVersion {
    /// The version behind the number in a header, if it is one that this crate reads.
    pub const fn from_number(number: i32) -> Option<Self> {
        match number {
            6 => Some(Self::V6),
            7 => Some(Self::V7),
            8 => Some(Self::V8),
            9 => Some(Self::V9),
            _ => None,
        }
    }

    /// The number in headers and file names.
    pub const fn number(self) -> i32 {
        match self {
            Self::V6 => 6,
            Self::V7 => 7,
            Self::V8 => 8,
            Self::V9 => 9,
        }
    }

    /// Versions 8 and 9 count local deletion times as unsigned seconds, 6 and 7 as signed ones.
    pub(crate) const fn unsigned_deletion_times(self) -> bool {
        matches!(self, Self::V8 | Self::V9)
    }

    /// Version 9 puts a flags byte before each mutation and an epoch behind each table id.
    pub(crate) const fn has_epochs(self) -> bool {
        matches!(self, Self::V9)
    }
}
