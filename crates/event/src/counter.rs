//! The context of a counter cell (`FORMAT.md` 4.10).
//!
//! Owns: its shards and the sum of their counts. Does not own: how they are written.

/// Who may change a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShardKind {
    /// Its node, through the write path since 2.1.
    Global,
    /// Its node, before 2.1.
    Local,
    /// Another node, before 2.1.
    Remote,
}

/// One node's share of a counter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shard {
    pub(crate) id: [u8; 16],
    pub(crate) clock: i64,
    pub(crate) count: i64,
    pub(crate) kind: ShardKind,
}

/// A well-formed context: its bytes can be rebuilt from its shards.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Context<'a> {
    header: &'a [[u8; 2]],
    shards: &'a [[u8; 32]],
}

impl<'a> Context<'a> {
    /// Nothing where the header is not what the kinds of the shards would give again.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = usize::try_from(i16::from_be_bytes(*count)).ok()?;
        let (header, rest) = rest.split_at_checked(count.checked_mul(2)?)?;
        let (header, _) = header.as_chunks();
        let (shards, surplus) = rest.as_chunks();
        let mut floor = 0;
        for entry in header {
            let (index, _) = place(*entry);
            if index < floor || index >= shards.len() {
                return None;
            }
            floor = index + 1;
        }
        surplus.is_empty().then_some(Self { header, shards })
    }

    /// The shards in stored order.
    pub(crate) fn shards(self) -> impl Iterator<Item = Shard> + use<'a> {
        let mut header = self.header.iter().map(|entry| place(*entry)).peekable();
        self.shards.iter().enumerate().map(move |(index, shard)| {
            let kind = header.next_if(|(at, _)| *at == index).map_or(ShardKind::Remote, |(_, kind)| kind);
            let (id, rest) = split(shard);
            let (clock, count) = split(&rest);
            Shard { id, clock: i64::from_be_bytes(clock), count: i64::from_be_bytes(count), kind }
        })
    }

    /// The sum of this cell's counts, wrapping like the server's. A cell usually holds its leader's shard alone, so
    /// this is not the counter's total.
    pub(crate) fn sum(self) -> i64 {
        self.shards().fold(0, |sum, shard| sum.wrapping_add(shard.count))
    }
}

/// Which shard a header entry speaks of, and what it says: a set top bit is a global shard, otherwise local.
fn place(entry: [u8; 2]) -> (usize, ShardKind) {
    let entry = u16::from_be_bytes(entry);
    (usize::from(entry & 0x7fff), if entry & 0x8000 == 0 { ShardKind::Local } else { ShardKind::Global })
}

/// The halves of a fixed number of bytes.
fn split<const WHOLE: usize, const HALF: usize>(bytes: &[u8; WHOLE]) -> ([u8; HALF], [u8; HALF]) {
    const { assert!(WHOLE == 2 * HALF) };
    let mut halves = ([0; HALF], [0; HALF]);
    let (first, second) = &mut halves;
    for (to, from) in first.iter_mut().chain(second).zip(bytes) {
        *to = *from;
    }
    halves
}
