//! The replica-neutral name of a change.
//!
//! Owns: the hash and its input. Does not own: which bytes are a change's identity (the decoder finds them).

use cassandra_commitlog::PartitionUpdate;
use xxhash_rust::xxh3::xxh3_128;

/// xxh3-128 of the identity spans, one behind the other.
///
/// One call over a copy: for the few hundred bytes of a usual update the streaming hasher costs more to set up.
pub(crate) fn digest(update: &PartitionUpdate<'_>, scratch: &mut Vec<u8>) -> u128 {
    let [first, second, third] = update.identity;
    if second.is_empty() && third.is_empty() {
        return xxh3_128(update.bytes(first));
    }
    scratch.clear();
    for span in [first, second, third] {
        scratch.extend_from_slice(update.bytes(span));
    }
    xxh3_128(scratch)
}
