//! The checkpoint: one snapshot of what is done.
//!
//! Owns: what it holds, its limits, and the rule that an acknowledged position comes from a watermark and never goes back.
//! Does not own: its bytes (`format`), generations on disk, when to save.

mod format;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use cassandra_commitlog::{LogOffset, SegmentId};

use crate::ledger::Watermark;
use crate::tally::{Balanced, Tally};

/// Tombstones that are kept: what a server may link again is what it has not flushed, a few hundred segments at most.
pub const MAX_TOMBSTONES: usize = 100_000;

/// The largest checkpoint that is written or read, in bytes: all tombstones take a tenth of it.
pub const MAX_BYTES: usize = 64 << 20;

/// The longest name in a checkpoint, in bytes.
pub const MAX_TEXT: usize = 1024;

/// Whose progress a checkpoint records. Another node's says nothing about this one's segments.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Node {
    /// The agent's name, if several share a node.
    pub agent: String,
    /// Cassandra's host id.
    pub host: String,
    /// The cluster's name.
    pub cluster: String,
}

/// Which segment: its id, and the CRC of its first entry once it has one. Ids alone recur when a clock steps back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// The id in the segment's descriptor.
    pub segment: SegmentId,
    /// The stored CRC of the payload of its first entry.
    pub first_entry_crc: Option<u32>,
}

/// What is known of a segment that is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SegmentState {
    /// To be read, or being read.
    Reading,
    /// Sealed, read to its end, all of it acknowledged, the account closed.
    Finished,
    /// Set aside: its name and its header disagree. It is neither read nor deleted.
    Quarantined,
}

/// One segment of `cdc_raw`, and how much of it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentRecord {
    identity: Identity,
    /// Its file name.
    pub name: String,
    /// Its inode when it was last seen: an attribute, not a part of its identity.
    pub inode: u64,
    /// When it was first seen, in seconds since 1970: runs of a node go by first sight.
    pub first_seen: i64,
    /// Whether an index was seen beside it: it holds changes of CDC tables.
    pub indexed: bool,
    /// Whether something behind its last marker was published: a server that dies takes that back.
    pub early: bool,
    state: SegmentState,
    acknowledged: LogOffset,
    tally: Tally,
}

/// Why a record of a segment may not change that way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The watermark stands in another segment.
    #[error("the watermark belongs to another segment")]
    OtherSegment,
    /// The watermark lies before what is acknowledged already.
    #[error("the watermark lies before the acknowledged position")]
    Backwards,
    /// The closed account is not the one of what is acknowledged.
    #[error("the closed account is not that of the acknowledged entries")]
    OtherTally,
    /// The segment already has another first entry.
    #[error("the segment begins with another entry")]
    OtherFirstEntry,
    /// The segment is quarantined, or finished.
    #[error("the segment is not being read")]
    NotReading,
}

impl SegmentRecord {
    /// A segment at first sight: nothing of it is done.
    pub fn new(identity: Identity, name: String, inode: u64, first_seen: i64) -> Self {
        Self {
            identity,
            name,
            inode,
            first_seen,
            indexed: false,
            early: false,
            state: SegmentState::Reading,
            acknowledged: LogOffset(0),
            tally: Tally::default(),
        }
    }

    /// A segment that is there again: Cassandra linked it once more after it was deleted, or it was believed lost.
    /// Reading goes on behind what was read before, with the account of that; so it is finished and reaped like any
    /// other.
    pub fn revived(tombstone: &Tombstone, name: String, inode: u64, first_seen: i64) -> Self {
        let Tombstone { identity, end, tally, finished_at: _, ending: _ } = *tombstone;
        // Its first life may have published what the chain lacks now.
        Self { acknowledged: end, tally, early: true, ..Self::new(identity, name, inode, first_seen) }
    }

    /// What is kept of it when it is gone.
    pub fn tombstone(&self, finished_at: i64, ending: Ending) -> Tombstone {
        Tombstone { identity: self.identity, end: self.acknowledged, tally: self.tally, finished_at, ending }
    }

    /// Which segment.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its state.
    pub fn state(&self) -> SegmentState {
        self.state
    }

    /// The offset before which all its records are acknowledged: where reading goes on after a restart.
    pub fn acknowledged(&self) -> LogOffset {
        self.acknowledged
    }

    /// The outcomes of the entries before that offset.
    pub fn tally(&self) -> Tally {
        self.tally
    }

    /// Completes the identity once the segment has a first entry.
    ///
    /// # Errors
    /// [`Refused::OtherFirstEntry`] if it has another one already: then this is another segment.
    pub fn identify(&mut self, first_entry_crc: u32) -> Result<(), Refused> {
        match self.identity.first_entry_crc {
            Some(known) if known != first_entry_crc => Err(Refused::OtherFirstEntry),
            _ => {
                self.identity.first_entry_crc = Some(first_entry_crc);
                Ok(())
            }
        }
    }

    /// Takes over what a watermark proves.
    ///
    /// # Errors
    /// [`Refused`] if the watermark is of another segment, or lies before what is acknowledged.
    pub fn acknowledge(&mut self, watermark: &Watermark) -> Result<(), Refused> {
        if watermark.position().segment != self.identity.segment {
            return Err(Refused::OtherSegment);
        }
        if self.state != SegmentState::Reading {
            return Err(Refused::NotReading);
        }
        if watermark.position().offset < self.acknowledged {
            return Err(Refused::Backwards);
        }
        self.acknowledged = watermark.position().offset;
        self.tally = watermark.tally();
        Ok(())
    }

    /// Closes the record of a segment that is sealed and read to its end.
    ///
    /// # Errors
    /// [`Refused::OtherTally`] if the account is not the one of the acknowledged entries.
    pub fn finish(&mut self, account: Balanced) -> Result<(), Refused> {
        if self.state != SegmentState::Reading {
            return Err(Refused::NotReading);
        }
        if account.tally() != self.tally {
            return Err(Refused::OtherTally);
        }
        self.state = SegmentState::Finished;
        Ok(())
    }

    /// Sets the segment aside.
    pub fn quarantine(&mut self) {
        self.state = SegmentState::Quarantined;
    }

    /// Reads a segment that was set aside after all: another file has its name.
    pub fn readmit(&mut self) {
        if self.state == SegmentState::Quarantined {
            self.state = SegmentState::Reading;
        }
    }
}

/// How a segment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ending {
    /// Gone after it was finished: deleted, or moved away, by us.
    Reaped,
    /// Gone before it was finished: a gap record says what is missing.
    Lost,
    /// Cleaned up without an entry in it.
    Empty,
}

/// What is kept of a segment that is gone, so that one which Cassandra links again is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone {
    /// Which segment.
    pub identity: Identity,
    /// The logical end to which it was read.
    pub end: LogOffset,
    /// The outcomes of its entries.
    pub tally: Tally,
    /// When it went, in seconds since 1970.
    pub finished_at: i64,
    /// How it went.
    pub ending: Ending,
}

/// Everything that must survive the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkpoint {
    /// Whose progress this is.
    pub node: Node,
    /// Segments that are there, in the order of first sight.
    pub segments: Vec<SegmentRecord>,
    /// Segments that are gone.
    pub tombstones: Vec<Tombstone>,
}

/// The checkpoint is of another node, cluster or agent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the state belongs to agent {:?} of host {:?} in cluster {:?}; this is agent {:?} of host {:?} in cluster {:?}",
    found.agent, found.host, found.cluster, expected.agent, expected.host, expected.cluster
)]
pub struct Foreign {
    /// Whose it is.
    pub found: Node,
    /// Who we are.
    pub expected: Node,
}

/// Why bytes are no checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Too short, or a field ends behind the end.
    #[error("it is cut short")]
    Truncated,
    /// Longer than [`MAX_BYTES`].
    #[error("it is longer than any checkpoint")]
    TooLong,
    /// It does not begin like one.
    #[error("it does not begin with the magic bytes of a checkpoint")]
    NotACheckpoint,
    /// It was written by another version of this program.
    #[error("its format version is {0}, and this program reads only version {version}", version = format::FORMAT)]
    OtherFormat(u16),
    /// The CRC does not fit: torn, or damaged.
    #[error("its CRC does not fit: it is torn or damaged")]
    BadCrc,
    /// A count that the rest of the bytes can't hold.
    #[error("a count exceeds what the bytes can hold")]
    CountTooLarge,
    /// A text longer than [`MAX_TEXT`].
    #[error("a text is longer than allowed")]
    TextTooLong,
    /// A text that is not UTF-8.
    #[error("a text is not UTF-8")]
    NotUtf8,
    /// A number that stands for none of the known choices.
    #[error("{0} is not a known {1}")]
    Unknown(u8, &'static str),
    /// Bytes behind the last field.
    #[error("bytes follow the last field")]
    TrailingBytes,
}

/// The checkpoint exceeds a limit of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint exceeds {MAX_BYTES} bytes, or a name in it {MAX_TEXT}")]
pub struct TooLarge;

impl Checkpoint {
    /// Whether this is the progress of `expected`.
    ///
    /// # Errors
    /// [`Foreign`] says whose it is.
    pub fn belongs_to(&self, expected: &Node) -> Result<(), Box<Foreign>> {
        if self.node == *expected {
            Ok(())
        } else {
            Err(Box::new(Foreign { found: self.node.clone(), expected: expected.clone() }))
        }
    }

    /// What is kept of a segment with this first entry that was here before: of several the one that was read furthest.
    /// Where either has no first entry nothing says that they are the same, and nothing of it was read that could be
    /// repeated.
    pub fn tombstone_of(&self, segment: SegmentId, first_entry_crc: u32) -> Option<&Tombstone> {
        let identity = Identity { segment, first_entry_crc: Some(first_entry_crc) };
        self.tombstones.iter().filter(|tombstone| tombstone.identity == identity).max_by_key(|tombstone| tombstone.end)
    }

    /// Takes out the record of a segment that is gone. A tombstone of it is kept if it may be asked for: by the segment
    /// itself, if Cassandra links it again, or for an index that is left alone. Where it is [`Ending::Lost`] a gap record
    /// must be durable before this is saved.
    pub fn bury(&mut self, identity: Identity, now: i64, ending: Ending) -> Option<SegmentRecord> {
        let at = self.segments.iter().position(|record| record.identity == identity)?;
        let record = self.segments.remove(at);
        let held_changes = record.tally.entries() > u64::from(record.tally.not_cdc);
        if ending == Ending::Lost || record.indexed || held_changes {
            self.tombstones.retain(|tombstone| tombstone.identity != identity);
            self.tombstones.push(record.tombstone(now, ending));
        }
        Some(record)
    }

    /// Drops the tombstones of segments that went before `oldest`, in seconds since 1970, and the first ones of more than
    /// [`MAX_TOMBSTONES`].
    pub fn expire(&mut self, oldest: i64) {
        self.tombstones.retain(|tombstone| tombstone.finished_at >= oldest);
        let excess = self.tombstones.len().saturating_sub(MAX_TOMBSTONES);
        self.tombstones.drain(..excess);
    }
}
