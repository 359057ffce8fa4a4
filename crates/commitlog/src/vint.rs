//! Variable-length integers: the leading one-bits of the first byte count the bytes that follow it, 0 to 8; its other
//! bits and those bytes, big-endian, are the value.
//!
//! Owns: unsigned vints and what is built on them alone. Does not own: signed ones (only values of `duration` have
//! them, and values are rendered elsewhere).

use crate::error::Cause;
use crate::parse::{Flaw, Parsed, out_of_range, take};

/// An unsigned vint of up to 64 bits. Writers use the shortest form; readers need not insist.
#[inline(always)]
pub(crate) fn unsigned(input: &[u8]) -> Parsed<'_, u64> {
    match input.split_first() {
        Some((&first, rest)) if first < 0x80 => Ok((rest, u64::from(first))),
        Some((&first, rest)) => long(first, rest),
        None => Err(Flaw::new(input, Cause::Truncated { left: 0 })),
    }
}

/// A vint of two bytes or more. Hand-written: it is read several times an entry (timestamps, deletion times).
#[inline(always)]
fn long(first: u8, rest: &[u8]) -> Parsed<'_, u64> {
    let extra = first.leading_ones();
    // One load and a shift instead of a loop, wherever eight bytes are left, whatever they belong to.
    if let Some((eight, _)) = rest.split_first_chunk::<8>() {
        let bits = extra.wrapping_mul(8);
        let low = u64::from_be_bytes(*eight) >> 64u32.wrapping_sub(bits);
        let high = u64::from(first & (0xffu8.checked_shr(extra).unwrap_or(0)));
        let value = high.checked_shl(bits).unwrap_or(0) | low;
        let (_, rest) = rest.split_at_checked(crate::parse::index(extra)).unwrap_or_default();
        return Ok((rest, value));
    }
    let (after, bytes) = take(rest, u64::from(extra))?;
    let high = u64::from(first & (0xffu8.checked_shr(extra).unwrap_or(0)));
    Ok((after, bytes.iter().fold(high, |value, byte| value << 8 | u64::from(*byte))))
}

/// A 32-bit vint. A negative `int` is written sign-extended to 64 bits: exactly those values are taken.
#[inline(always)]
pub(crate) fn int(input: &[u8]) -> Parsed<'_, i32> {
    let (rest, value) = unsigned(input)?;
    match i32::try_from(i64::from_ne_bytes(value.to_ne_bytes())) {
        Ok(value) => Ok((rest, value)),
        Err(_) => Err(out_of_range(input, "32-bit vint", value)),
    }
}

/// A count of things that take at least `size` bytes each: bounded by the bytes that are left, so that no count of a
/// hostile segment makes anybody reserve or loop.
#[inline(always)]
pub(crate) fn count<'a>(input: &'a [u8], size: u32, what: &'static str) -> Parsed<'a, u32> {
    let (rest, count) = unsigned(input)?;
    match u32::try_from(count) {
        Ok(count) if u64::from(count).saturating_mul(u64::from(size)) <= u64::try_from(rest.len()).unwrap_or(0) => {
            Ok((rest, count))
        }
        _ => Err(out_of_range(input, what, count)),
    }
}

/// A length and as many bytes.
#[inline(always)]
pub(crate) fn bytes(input: &[u8]) -> Parsed<'_, &[u8]> {
    let (rest, len) = unsigned(input)?;
    take(rest, len)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> u64 {
        let (rest, value) = unsigned(bytes).unwrap();
        assert!(rest.is_empty());
        value
    }

    /// A straightforward writer, as an oracle.
    fn write(value: u64) -> alloc::vec::Vec<u8> {
        let extra = (0..8).find(|extra| value >> (7 * extra + 7) == 0).unwrap_or(8);
        let mut out = alloc::vec![0u8];
        out.extend_from_slice(&value.to_be_bytes()[8 - extra..]);
        out[0] = if extra == 8 {
            0xff
        } else {
            !(0xff >> extra) as u8 | if extra < 8 { (value >> (8 * extra)) as u8 } else { 0 }
        };
        out
    }

    #[test]
    fn the_forms_of_the_format_document() {
        assert_eq!(value(&[0x00]), 0);
        assert_eq!(value(&[0x7f]), 127);
        assert_eq!(value(&[0x80, 0x80]), 128);
        assert_eq!(value(&[0xbf, 0xff]), 16383);
        assert_eq!(value(&[0xc0, 0x40, 0x00]), 16384);
        assert_eq!(value(&[0xf0, 0xff, 0xff, 0xff, 0xff]), u64::from(u32::MAX));
        assert_eq!(value(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), (1 << 56) - 1);
        assert_eq!(value(&[0xff; 9]), u64::MAX);
    }

    #[test]
    fn every_length_is_read_with_and_without_bytes_behind_it() {
        for bits in 0..64 {
            for value in [1u64 << bits, (1 << bits) - 1, (1 << bits) | 1] {
                let mut bytes = write(value);
                assert_eq!(unsigned(&bytes).unwrap(), (&[][..], value));
                bytes.extend_from_slice(&[0xaa; 9]);
                assert_eq!(unsigned(&bytes).unwrap(), (&[0xaa; 9][..], value));
            }
        }
    }

    #[test]
    fn a_cut_vint_is_refused_at_every_length() {
        for bits in 0..64 {
            let bytes = write(1 << bits);
            for cut in 0..bytes.len() {
                assert!(unsigned(&bytes[..cut]).is_err());
            }
        }
    }

    #[test]
    fn a_32_bit_vint_may_be_a_sign_extended_int_and_nothing_else() {
        assert_eq!(int(&write(-5i64 as u64)).unwrap().1, -5);
        assert_eq!(int(&write(i32::MAX as u64)).unwrap().1, i32::MAX);
        assert!(int(&write(1 << 31)).is_err());
        assert!(int(&write(i64::MIN as u64)).is_err());
    }
}
