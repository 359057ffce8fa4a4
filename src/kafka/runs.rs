//! Records that wait to be handed over, grouped by partition.
//!
//! Owns: the arena that the encoder writes into, the order of records within each partition, and the tickets of runs
//! that were not handed over yet. Does not own: librdkafka, or when to hand over.
//!
//! Handing records over in runs of one partition costs librdkafka 1.6 to 1.8 times less CPU than in order of arrival,
//! because the queue, the lock and the messages of one partition stay in the cache. Records of a partition keep their
//! order; those of different partitions have none to keep.
//!
//! All partitions share one arena and one list of records, chained by index: five hundred tables with a dozen
//! partitions each would need hundreds of MiB if every one had its own.

use std::collections::VecDeque;
use std::ops::Range;

use cassandra_progress::Ticket;

/// Ends a chain.
const NONE: u32 = u32::MAX;

/// A place where runs of one partition gather.
#[derive(Debug)]
struct Bucket {
    first: u32,
    last: u32,
    length: u16,
    bytes: u64,
    ticket: Option<Ticket>,
}

#[derive(Debug)]
struct Record {
    key: Range<u32>,
    value: Range<u32>,
    /// The next record of the same bucket.
    next: u32,
}

/// Which bucket: partitions of all topics, counted through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BucketId(pub(super) u32);

/// A run that was taken out of its bucket.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) ticket: Ticket,
    pub(super) length: u16,
    /// Of its keys and values.
    pub(super) bytes: u64,
    pub(super) first: Cursor,
}

/// A place in the chain of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cursor(u32);

/// Key and value of one record, and the place of the next.
pub(super) struct RecordBytes<'a> {
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
    pub(super) next: Cursor,
}

/// All records that wait.
#[derive(Debug)]
pub(super) struct Runs {
    arena: Vec<u8>,
    arena_cap: usize,
    records: Vec<Record>,
    buckets: Vec<Bucket>,
    /// Buckets in the order in which their runs began; those whose run was taken since are skipped.
    open: VecDeque<BucketId>,
    /// Records that were not taken.
    waiting: usize,
}

impl Runs {
    pub(super) fn new(arena_cap: usize) -> Self {
        Self {
            arena: Vec::new(),
            arena_cap,
            records: Vec::new(),
            buckets: Vec::new(),
            open: VecDeque::new(),
            waiting: 0,
        }
    }

    /// Room for the partitions of one more topic; the bucket of its first.
    pub(super) fn add_buckets(&mut self, partitions: u32) -> BucketId {
        let first = u32::try_from(self.buckets.len()).unwrap_or(NONE);
        self.buckets.extend((0..partitions).map(|_| Bucket {
            first: NONE,
            last: NONE,
            length: 0,
            bytes: 0,
            ticket: None,
        }));
        BucketId(first)
    }

    /// The arena to encode the next entry into. Bytes are dropped only here, and only when no record waits: ranges stay
    /// valid through every push that follows, even one that hands everything over.
    pub(super) fn arena(&mut self) -> &mut Vec<u8> {
        if self.waiting == 0 {
            self.arena.clear();
            self.records.clear();
            self.open.clear();
            if self.arena.capacity() > self.arena_cap.saturating_mul(2) {
                // One huge record must not keep its memory for ever.
                self.arena.shrink_to(self.arena_cap);
            }
        }
        &mut self.arena
    }

    /// The bytes of a range, if they are there.
    pub(super) fn bytes(&self, range: &Range<u32>) -> Option<&[u8]> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.arena.get(range)
    }

    /// Whether a record for this bucket begins a run, and wants a ticket.
    pub(super) fn wants_ticket(&self, bucket: BucketId) -> bool {
        self.bucket(bucket).is_some_and(|bucket| bucket.ticket.is_none())
    }

    /// Begins a run.
    pub(super) fn begin(&mut self, id: BucketId, ticket: Ticket) {
        if let Some(bucket) = self.bucket_mut(id) {
            bucket.ticket = Some(ticket);
            self.open.push_back(id);
        }
    }

    /// Adds a record to the run of its bucket, and returns the length of that run.
    pub(super) fn add(&mut self, id: BucketId, key: Range<u32>, value: Range<u32>) -> u16 {
        let index = u32::try_from(self.records.len()).unwrap_or(NONE);
        let bytes = u64::from(key.end.saturating_sub(key.start)) + u64::from(value.end.saturating_sub(value.start));
        self.records.push(Record { key, value, next: NONE });
        self.waiting = self.waiting.saturating_add(1);
        let Some(bucket) = self.bucket_mut(id) else { return 0 };
        let last = std::mem::replace(&mut bucket.last, index);
        bucket.length = bucket.length.saturating_add(1);
        bucket.bytes = bucket.bytes.saturating_add(bytes);
        let length = bucket.length;
        if last == NONE {
            bucket.first = index;
        } else if let Some(record) = usize::try_from(last).ok().and_then(|last| self.records.get_mut(last)) {
            record.next = index;
        }
        length
    }

    /// Whether what waits must be handed over before more is encoded.
    pub(super) fn is_full(&self) -> bool {
        // The list of records is bounded with the arena, whatever the size of records: a record takes as much there.
        self.arena.len() >= self.arena_cap || self.records.len() >= self.arena_cap / size_of::<Record>()
    }

    /// The bucket whose run began first.
    pub(super) fn oldest(&mut self) -> Option<BucketId> {
        while let Some(id) = self.open.front().copied() {
            if self.bucket(id).is_some_and(|bucket| bucket.ticket.is_some()) {
                return Some(id);
            }
            self.open.pop_front();
        }
        None
    }

    /// Takes the run of a bucket. Its records stay readable until the arena is next asked for.
    pub(super) fn take(&mut self, id: BucketId) -> Option<Run> {
        let bucket = self.bucket_mut(id)?;
        let ticket = bucket.ticket.take()?;
        let run = Run { ticket, length: bucket.length, bytes: bucket.bytes, first: Cursor(bucket.first) };
        (bucket.first, bucket.last, bucket.length, bucket.bytes) = (NONE, NONE, 0, 0);
        self.waiting = self.waiting.saturating_sub(usize::from(run.length));
        Some(run)
    }

    pub(super) fn record(&self, at: Cursor) -> Option<RecordBytes<'_>> {
        let record = self.records.get(usize::try_from(at.0).ok()?)?;
        Some(RecordBytes {
            key: self.bytes(&record.key)?,
            value: self.bytes(&record.value)?,
            next: Cursor(record.next),
        })
    }

    /// Records that were not taken.
    pub(super) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Bytes of their keys and values.
    pub(super) fn waiting_bytes(&self) -> u64 {
        self.buckets.iter().filter(|bucket| bucket.ticket.is_some()).map(|bucket| bucket.bytes).sum()
    }

    /// Drops everything that waits, tickets included: their runs stay unfinished until the ledger is rewound.
    pub(super) fn clear(&mut self) {
        while let Some(run) = self.oldest().and_then(|id| self.take(id)) {
            drop(run.ticket);
        }
        self.arena();
    }

    /// Bytes that the arena has taken from the allocator.
    pub(super) fn capacity(&self) -> usize {
        self.arena.capacity()
    }

    fn bucket(&self, id: BucketId) -> Option<&Bucket> {
        self.buckets.get(usize::try_from(id.0).ok()?)
    }

    fn bucket_mut(&mut self, id: BucketId) -> Option<&mut Bucket> {
        self.buckets.get_mut(usize::try_from(id.0).ok()?)
    }
}
