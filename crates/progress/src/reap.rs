//! The right to delete a segment, and the two generations of the checkpoint that it rests on.
//!
//! Owns: which generation is written next, what both durable ones hold, and the token that deleting wants.
//! Does not own: writing bytes, deleting files.
//!
//! The only way to a [`DurableWatermark`] is [`Generations::save`], and that believes only a write that returned `Ok`.
//! It takes two saves, because a torn newest checkpoint falls back to the older one, which must hold the
//! acknowledgement too. Checkpoints that were *loaded* count for nothing here: a crash between rename and the fsync of
//! the directory leaves a file that can be read and may still vanish with the next power loss.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use cassandra_commitlog::LogOffset;

use crate::checkpoint::{Checkpoint, DecodeError, Foreign, Identity, Node, SegmentState, TooLarge};
use crate::tally::{Mismatch, Tally};

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// The first.
    A,
    /// The second.
    B,
}

impl Generation {
    /// The one that is written after this one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// Where a finished segment is acknowledged to, in both durable generations. Only [`Generations`] makes one.
#[derive(Debug, PartialEq, Eq)]
pub struct DurableWatermark {
    identity: Identity,
    offset: LogOffset,
    tally: Tally,
}

/// What a finished segment's record says in one durable generation.
type Held = BTreeMap<Identity, (LogOffset, Tally)>;

/// The two generations: which is next, and what the ones on disk hold.
#[derive(Debug)]
pub struct Generations {
    next: u64,
    target: Generation,
    a: Option<Held>,
    b: Option<Held>,
    stopped: bool,
}

/// Why a checkpoint was not saved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SaveError<E> {
    /// It exceeds a limit of the format. Nothing was written.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
    /// The write failed. What the disk holds is unknown from here on.
    #[error("write the checkpoint")]
    Write(#[source] E),
    /// A write failed before. After a failed fsync the kernel may have dropped the data and call the next one a
    /// success, so nothing is tried again.
    #[error("an earlier checkpoint was not written; nothing is acknowledged after that")]
    Stopped,
}

/// What was found at start.
#[derive(Debug)]
pub struct Start {
    /// For the saves to come.
    pub generations: Generations,
    /// The newest checkpoint that is whole and ours; none on the very first start.
    pub checkpoint: Option<Checkpoint>,
    /// The other one, if it was damaged: its loss repeats events, no more.
    pub damaged: Option<(Generation, DecodeError)>,
}

/// Why a start from these checkpoints is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// No whole one among those that are there. They must be set aside, and everything present counts as unread.
    #[error("no checkpoint is whole: {0}")]
    NoneWhole(DecodeError),
    /// One was written by another version of this program: falling back behind it would repeat what it knows.
    #[error("a checkpoint has format version {0}, which this program does not read")]
    OtherFormat(u16),
    /// A whole one is of another node.
    #[error(transparent)]
    Foreign(#[from] Box<Foreign>),
}

impl Generations {
    /// Generations without anything on disk.
    pub fn new() -> Self {
        Self { next: 1, target: Generation::A, a: None, b: None, stopped: false }
    }

    /// Chooses between what the two files hold.
    ///
    /// # Errors
    /// [`StartError`] if there is something, but nothing to start from.
    pub fn start(a: Option<&[u8]>, b: Option<&[u8]>, node: &Node) -> Result<Start, StartError> {
        Self::choose(a, b, |checkpoint| checkpoint.belongs_to(node))
    }

    /// Chooses between what the two files hold, whosever it is: for who was told to take it over.
    ///
    /// # Errors
    /// [`StartError`] if there is something, but nothing to start from.
    pub fn adopt(a: Option<&[u8]>, b: Option<&[u8]>) -> Result<Start, StartError> {
        Self::choose(a, b, |_| Ok(()))
    }

    fn choose(
        a: Option<&[u8]>,
        b: Option<&[u8]>,
        accept: impl Fn(&Checkpoint) -> Result<(), Box<Foreign>>,
    ) -> Result<Start, StartError> {
        let mut newest: Option<(u64, Generation, Checkpoint)> = None;
        let mut damaged = None;
        for (generation, bytes) in [(Generation::A, a), (Generation::B, b)] {
            let Some(bytes) = bytes else { continue };
            match Checkpoint::decode(bytes) {
                Ok((number, checkpoint)) => {
                    accept(&checkpoint)?;
                    if newest.as_ref().is_none_or(|(newest, ..)| *newest < number) {
                        newest = Some((number, generation, checkpoint));
                    }
                }
                Err(DecodeError::OtherFormat(format)) => return Err(StartError::OtherFormat(format)),
                Err(error) => damaged = Some((generation, error)),
            }
        }
        match (newest, damaged) {
            (Some((number, generation, checkpoint)), damaged) => Ok(Start {
                generations: Self { next: number.saturating_add(1), target: generation.other(), ..Self::new() },
                checkpoint: Some(checkpoint),
                damaged,
            }),
            (None, Some((_, error))) => Err(StartError::NoneWhole(error)),
            (None, None) => Ok(Start { generations: Self::new(), checkpoint: None, damaged: None }),
        }
    }

    /// Saves into the older generation. `write` gets the bytes and must not return `Ok` before they, and the name they
    /// are under, survive a power loss.
    ///
    /// # Errors
    /// [`SaveError`]; after a failed write every later save is refused.
    pub fn save<E>(
        &mut self,
        checkpoint: &Checkpoint,
        write: impl FnOnce(Generation, &[u8]) -> Result<(), E>,
    ) -> Result<(), SaveError<E>> {
        if self.stopped {
            return Err(SaveError::Stopped);
        }
        let bytes: Vec<u8> = checkpoint.encode(self.next)?;
        let target = self.target;
        *self.held_mut(target) = None;
        if let Err(error) = write(target, &bytes) {
            self.stopped = true;
            return Err(SaveError::Write(error));
        }
        *self.held_mut(target) = Some(finished(checkpoint));
        self.target = target.other();
        self.next = self.next.saturating_add(1);
        Ok(())
    }

    /// How far both durable generations hold a segment as finished.
    pub fn durable(&self, identity: Identity) -> Option<DurableWatermark> {
        if self.stopped {
            return None;
        }
        let (offset_a, tally_a) = self.a.as_ref()?.get(&identity)?;
        let (offset_b, tally_b) = self.b.as_ref()?.get(&identity)?;
        let (offset, tally) = if offset_a <= offset_b { (*offset_a, *tally_a) } else { (*offset_b, *tally_b) };
        Some(DurableWatermark { identity, offset, tally })
    }

    fn held_mut(&mut self, generation: Generation) -> &mut Option<Held> {
        match generation {
            Generation::A => &mut self.a,
            Generation::B => &mut self.b,
        }
    }
}

impl Default for Generations {
    fn default() -> Self {
        Self::new()
    }
}

fn finished(checkpoint: &Checkpoint) -> Held {
    checkpoint
        .segments
        .iter()
        .filter(|record| record.state() == SegmentState::Finished)
        .map(|record| (record.identity(), (record.acknowledged(), record.tally())))
        .collect()
}

/// The fact that a segment is sealed: nothing will ever be added to it. Whoever states it has seen its chain end where
/// its index says that it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Which segment.
    pub identity: Identity,
    /// The logical end of its chain of sections.
    pub end: LogOffset,
    /// The entries that the framing counted, and those published from behind the last marker in `written` mode.
    pub entries: u64,
}

/// The right to delete one segment. Deleting consumes it; there is no other way to make one.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a segment that may go and stays fills the space of cdc_raw"]
pub struct Reapable {
    identity: Identity,
    end: LogOffset,
    tally: Tally,
}

/// Why a segment may not be deleted yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotYet {
    /// The durable watermark is of another segment.
    #[error("the durable watermark belongs to another segment")]
    OtherSegment,
    /// Something before the end is not durably acknowledged.
    #[error("acknowledged to {acknowledged}, but the segment ends at {end}")]
    Behind {
        /// How far both generations hold it.
        acknowledged: LogOffset,
        /// The end of the chain.
        end: LogOffset,
    },
    /// The account does not close.
    #[error(transparent)]
    Account(#[from] Mismatch),
}

impl Reapable {
    /// Mints the right from a sealed segment and a durable watermark at, or past, its end.
    ///
    /// # Errors
    /// [`NotYet`] says what is missing.
    pub fn new(sealed: Sealed, durable: &DurableWatermark) -> Result<Self, NotYet> {
        if sealed.identity != durable.identity {
            return Err(NotYet::OtherSegment);
        }
        if durable.offset < sealed.end {
            return Err(NotYet::Behind { acknowledged: durable.offset, end: sealed.end });
        }
        let account = durable.tally.finish(sealed.entries)?;
        Ok(Self { identity: sealed.identity, end: sealed.end, tally: account.tally() })
    }

    /// Which segment may go.
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Its logical end.
    pub fn end(&self) -> LogOffset {
        self.end
    }

    /// The outcomes of its entries.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}
