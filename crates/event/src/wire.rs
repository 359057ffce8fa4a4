//! The wire format of Protocol Buffers, as far as we write it.
//!
//! Owns: tags, varints, lengths of nested messages. Does not own: which field means what.
//!
//! Output is canonical: fields in the order of their numbers, shortest varints, no defaults. A generated encoder
//! writes the same bytes.

use crate::short::Short;

/// Appends a varint.
#[inline]
pub(crate) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The same for values of any size, in a few steps without a loop: how often one would turn can't be foreseen, and a
/// processor that guesses wrong loses more than all the steps take.
#[inline]
pub(crate) fn push_varint_flat(out: &mut Vec<u8>, value: u64) {
    if value >> 56 != 0 {
        push_varint(out, value);
        return;
    }
    // Groups of 28, then 14, then 7 bits move apart, until each has a byte of its own.
    let groups = (value & 0x00ff_ffff_f000_0000) << 4 | value & 0x0fff_ffff;
    let groups = (groups & 0x0fff_c000_0fff_c000) << 2 | groups & 0x0000_3fff_0000_3fff;
    let groups = (groups & 0x3f80_3f80_3f80_3f80) << 1 | groups & 0x007f_007f_007f_007f;
    let len = varint_len(value);
    // All bytes but the last say that another one follows.
    let more = 0x8080_8080_8080_8080 & !(u64::MAX << (8 * (len - 1)));
    let end = out.len() + len;
    out.extend_from_slice(&(groups | more).to_le_bytes());
    out.truncate(end);
}

/// Bytes of a varint.
#[inline]
pub(crate) fn varint_len(value: u64) -> usize {
    // One byte for every 7 bits begun: the usual branch-free form.
    ((70 - (value | 1).leading_zeros()) / 7) as usize
}

/// Small numbers are small varints whatever their sign.
#[inline]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const VARINT: u8 = 0;
const FIXED64: u8 = 1;
const LEN: u8 = 2;

#[inline]
fn push_tag(out: &mut Vec<u8>, field: u8, wire_type: u8) {
    push_varint(out, u64::from(field) << 3 | u64::from(wire_type));
}

/// Appends a varint field.
#[inline]
pub(crate) fn push_uint(out: &mut Vec<u8>, field: u8, value: u64) {
    push_tag(out, field, VARINT);
    push_varint(out, value);
}

/// Appends a varint field unless it is 0, which a reader takes it for anyway.
#[inline]
pub(crate) fn push_uint_default(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        push_uint(out, field, value);
    }
}

/// Appends a field of eight bytes unless it is 0.
#[inline]
pub(crate) fn push_sfixed64_default(out: &mut Vec<u8>, field: u8, value: i64) {
    if value != 0 {
        let [a, b, c, d, e, f, g, h] = value.to_le_bytes();
        out.extend_from_slice(&[field << 3 | FIXED64, a, b, c, d, e, f, g, h]);
    }
}

/// Appends a field of bytes, even of none.
#[inline]
pub(crate) fn push_bytes(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    push_tag(out, field, LEN);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends a field of text unless it is empty.
#[inline]
pub(crate) fn push_text(out: &mut Vec<u8>, field: u8, text: &str) {
    if !text.is_empty() {
        push_bytes(out, field, text.as_bytes());
    }
}

/// A message whose length is not known yet: `room` bytes are kept for it.
#[must_use]
pub(crate) struct Open {
    start: usize,
    room: usize,
}

/// Begins a nested message that will probably be shorter than 128 bytes.
#[inline]
pub(crate) fn open(out: &mut Vec<u8>, field: u8) -> Open {
    push_tag(out, field, LEN);
    out.push(0);
    Open { start: out.len(), room: 1 }
}

/// Begins a nested message, shorter than 128 bytes or not, with its tag, a byte for its length and its first fields.
#[inline]
pub(crate) fn open_begun(out: &mut Vec<u8>, begin: &Short) -> Open {
    let start = out.len() + 2;
    begin.append(out);
    Open { start, room: 1 }
}

/// Begins a nested message that will probably have 128 to 16383 bytes.
#[inline]
pub(crate) fn open_long(out: &mut Vec<u8>, field: u8) -> Open {
    push_tag(out, field, LEN);
    out.extend_from_slice(&[0, 0]);
    Open { start: out.len(), room: 2 }
}

impl Open {
    /// Ends the message: everything appended since it began.
    #[inline]
    pub(crate) fn close(self, out: &mut Vec<u8>) {
        let len = out.len() - self.start;
        if self.room == 1 && len < 0x80 {
            if let Some(slot) = out.get_mut(self.start - 1) {
                *slot = len as u8;
            }
            return;
        }
        self.close_moving(out, len);
    }

    /// A wrong guess moves the message by a byte or more: cheaper than to walk everything twice for its sizes.
    fn close_moving(self, out: &mut Vec<u8>, len: usize) {
        let needed = varint_len(len as u64);
        let begin = self.start - self.room;
        if needed > self.room {
            out.resize(out.len() + needed - self.room, 0);
        }
        if needed != self.room {
            out.copy_within(self.start..self.start + len, begin + needed);
            out.truncate(begin + needed + len);
        }
        let mut value = len as u64;
        let slots = out.get_mut(begin..begin + needed).unwrap_or_default();
        for (index, slot) in slots.iter_mut().enumerate() {
            *slot = value as u8 & 0x7f | if index + 1 < needed { 0x80 } else { 0 };
            value >>= 7;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_append_a_varint_write_the_same() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1 << bits) - 1, (1 << bits) | 0x5555_5555_5555_5555 >> (63 - bits)] {
                let (mut looped, mut flat) = (vec![7], vec![7]);
                push_varint(&mut looped, value);
                push_varint_flat(&mut flat, value);
                assert_eq!(flat, looped, "{value:#x}");
                assert_eq!(flat.len(), 1 + varint_len(value), "{value:#x}");
            }
        }
    }

    #[test]
    fn constant_bytes_of_every_length_are_appended_as_they_are() {
        for len in 0..80_u8 {
            let bytes: Vec<u8> = (1..=len).collect();
            let mut out = vec![0xff];
            Short::new(&bytes).append(&mut out);
            assert_eq!(out, [&[0xff], bytes.as_slice()].concat());
        }
    }
}
