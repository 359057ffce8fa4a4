//! The framing inside of collections, tuples, user-defined types and vectors.
//!
//! Owns: lengths and counts of compound values (`FORMAT.md` 7.3). Does not own: what the elements are, how they are
//! written.
//!
//! Nothing here trusts a count: every step needs bytes that are there, so the work is bounded by the value's length.

use cassandra_commitlog::UserType;

use crate::scalar::unsigned_vint;

/// The count that begins a list, set or map, and what is behind it.
pub(crate) fn count(bytes: &[u8]) -> Option<(u32, &[u8])> {
    let (count, rest) = bytes.split_first_chunk()?;
    Some((u32::try_from(i32::from_be_bytes(*count)).ok()?, rest))
}

/// An element behind its length, and what is behind it. -1 is null; other negative lengths can't be rebuilt.
pub(crate) fn item(bytes: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    match i32::from_be_bytes(*len) {
        -1 => Some((None, rest)),
        len => {
            let (item, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            Some((Some(item), rest))
        }
    }
}

/// An element of a vector whose elements have no fixed length.
pub(crate) fn vector_item(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = unsigned_vint(bytes)?;
    rest.split_at_checked(usize::try_from(len).ok()?)
}

/// Whether a user-defined type has a field that would make an object of its values look like one of our own
/// (`{"$base64":…}`). Its values are published raw: otherwise two values could have one text.
pub(crate) fn has_reserved_field(definition: &UserType) -> bool {
    definition.fields.iter().any(|field| matches!(field.name.as_str(), "$base64" | "$empty" | "$chunk"))
}
