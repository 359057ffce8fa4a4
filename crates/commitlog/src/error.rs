//! What can be wrong with the bytes of a segment, and where.
//!
//! Owns: the one error type of decoding. Does not own: what to do about it (hold, salvage, dead-letter).

use alloc::string::String;
use core::fmt;

use crate::units::{FileOffset, LogOffset};

/// A structure of the format: the second word of every decode error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the names are the format's own")]
pub enum Structure {
    SegmentName,
    CdcIndex,
    Descriptor,
    SyncMarker,
    Section,
    CompressedBlock,
    EncryptedChunk,
    EntryHeader,
    EntryBody,
    Mutation,
    PartitionUpdate,
    PartitionKey,
    EncodingStats,
    ColumnList,
    DeletionTime,
    StaticRow,
    Row,
    RangeTombstoneMarker,
    Clustering,
    ColumnSubset,
    Cell,
    ComplexColumn,
}

impl Structure {
    /// Its name in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::SegmentName => "segment name",
            Self::CdcIndex => "CDC index",
            Self::Descriptor => "descriptor",
            Self::SyncMarker => "sync marker",
            Self::Section => "section",
            Self::CompressedBlock => "compressed block",
            Self::EncryptedChunk => "encrypted chunk",
            Self::EntryHeader => "entry header",
            Self::EntryBody => "entry body",
            Self::Mutation => "mutation",
            Self::PartitionUpdate => "partition update",
            Self::PartitionKey => "partition key",
            Self::EncodingStats => "encoding stats",
            Self::ColumnList => "column list",
            Self::DeletionTime => "deletion time",
            Self::StaticRow => "static row",
            Self::Row => "row",
            Self::RangeTombstoneMarker => "range tombstone marker",
            Self::Clustering => "clustering",
            Self::ColumnSubset => "column subset",
            Self::Cell => "cell",
            Self::ComplexColumn => "complex column",
        }
    }
}

impl fmt::Display for Structure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.words())
    }
}

/// Which rule of the format was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// Fewer bytes are left than the structure needs.
    Truncated {
        /// Bytes that are there.
        left: usize,
    },
    /// A checksum does not match its bytes.
    Checksum {
        /// The checksum stored in the segment.
        stored: u32,
        /// The checksum of the bytes that are there.
        computed: u32,
    },
    /// A number lies outside of what the format allows.
    OutOfRange {
        /// What the number says.
        what: &'static str,
        /// Its value.
        value: i64,
    },
    /// A version, flag, kind or codec that is not known.
    Unknown {
        /// What is unknown.
        what: &'static str,
        /// Its value, rendered.
        value: String,
    },
    /// Bytes are left behind the end of a structure.
    Surplus {
        /// How many.
        bytes: usize,
    },
    /// A rule that needs no number to be told.
    Broken(&'static str),
    /// A decompressor or cipher refused the bytes; its own words.
    Codec(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { left } => write!(f, "cut short: it needs more than the {left} bytes that are left"),
            Self::Checksum { stored, computed } => {
                write!(f, "checksum mismatch: stored {stored:08x}, computed {computed:08x}")
            }
            Self::OutOfRange { what, value } => write!(f, "{what} out of range: {value}"),
            Self::Unknown { what, value } => write!(f, "unknown {what} {value}"),
            Self::Surplus { bytes } => write!(f, "{bytes} bytes left over"),
            Self::Broken(rule) => f.write_str(rule),
            Self::Codec(words) => f.write_str(words),
        }
    }
}

/// Where an error was met. The segment's name is known to whoever opened it and is added there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// In the file as it lies on disk: descriptor, markers, blocks.
    File(FileOffset),
    /// In the uncompressed image: entries and all that is in them.
    Log(LogOffset),
    /// In bytes that came without a position (a name, an index file, a body alone).
    Bytes(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(offset) => write!(f, "file offset {offset}"),
            Self::Log(offset) => write!(f, "position {offset}"),
            Self::Bytes(offset) => write!(f, "byte {offset}"),
        }
    }
}

/// Damaged or refused bytes: where, in which structure, which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    /// Where.
    pub at: Place,
    /// In which structure of the format.
    pub structure: Structure,
    /// Which rule.
    pub cause: Cause,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}: {}", self.structure, self.at, self.cause)
    }
}

impl core::error::Error for DecodeError {}
