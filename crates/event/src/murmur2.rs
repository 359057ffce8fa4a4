//! The hash of Kafka's Java producer, and the partition it chooses.
//!
//! Owns: bit-for-bit agreement with `org.apache.kafka.common.utils.Utils`, so that our records lie beside those of
//! Java producers. Does not own: how many partitions a topic has.

const M: u32 = 0x5bd1_e995;

/// Java's `Utils.murmur2`.
pub fn murmur2(key: &[u8]) -> u32 {
    // Java hashes an int length; a key is at most 64 KiB of Cassandra's, so the cut never happens.
    let mut h = 0x9747_b28c ^ key.len() as u32;
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        let rest = tail.iter().rev().fold(0, |rest, byte| rest << 8 | u32::from(*byte));
        h = (h ^ rest).wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition that Java's default partitioner chooses for a key with this hash; 0 where there is none.
pub fn partition(hash: u32, partitions: u32) -> u32 {
    (hash & 0x7fff_ffff).checked_rem(partitions).unwrap_or(0)
}
