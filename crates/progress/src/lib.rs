//! What is done, what may be saved, what may be deleted.
//!
//! Owns: the ledger of outstanding runs and the watermark that comes from it, the account of every entry of a segment,
//! the bytes of a checkpoint, and the right to delete a segment. All of it is arithmetic on values.
//! Does not own: files, clocks, threads, Kafka, the layout of a commit log. Nothing here can fail for lack of a disk.
//!
//! The chain of proofs, each link mintable only by the one before it:
//!
//! ```text
//! Ticket ──settle──▶ Ledger ──▶ Watermark ──acknowledge──▶ SegmentRecord ─┐
//!                                                          Checkpoint ◀───┘
//!                                                              │ Generations::save (bytes durable, twice)
//!                                       Sealed ──▶ Reapable ◀──┴─ DurableWatermark
//! ```
#![no_std]
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic))]

extern crate alloc;

mod checkpoint;
mod codec;
mod ledger;
mod reap;
mod tally;

pub use checkpoint::{
    Checkpoint, DecodeError, Ending, Foreign, Identity, MAX_BYTES, MAX_TEXT, MAX_TOMBSTONES, Node, Refused,
    SegmentRecord, SegmentState, Tombstone, TooLarge,
};
pub use ledger::{Full, Ledger, Ticket, Watermark, Window};
pub use reap::{DurableWatermark, Generation, Generations, NotYet, Reapable, SaveError, Sealed, Start, StartError};
pub use tally::{Balanced, Mismatch, Outcome, Tally, Totals};
