//! Integers and decimals of any size as digits.
//!
//! Owns: two's complement to decimal text, and Java's one-to-one text of a decimal. Does not own: which bytes are
//! well-formed (`scalar`).

/// Bytes of the largest integer that is printed: 3699 digits. Conversion costs the square of the length, so a hostile
/// megabyte must cost no more than its pieces would; and Python, as it comes, reads no number of more than 4300 digits.
pub(crate) const MAX_BYTES: usize = 1536;

const LIMBS: usize = MAX_BYTES / 4;
/// 3699 digits are 411 groups of nine.
const GROUPS: usize = 412;
const GROUP: u64 = 1_000_000_000;

/// Appends a big-endian two's complement integer of at most [`MAX_BYTES`] bytes.
pub(crate) fn push_integer(out: &mut Vec<u8>, bytes: &[u8]) {
    let negative = bytes.first().is_some_and(|byte| *byte >= 0x80);
    let fill = if negative { 0xff } else { 0 };
    if bytes.len() <= 8 {
        out.extend_from_slice(itoa::Buffer::new().format(i64::from_be_bytes(widen(bytes, fill))).as_bytes());
    } else if bytes.len() <= 16 {
        out.extend_from_slice(itoa::Buffer::new().format(i128::from_be_bytes(widen(bytes, fill))).as_bytes());
    } else {
        push_large(out, bytes, negative);
    }
}

fn widen<const N: usize>(bytes: &[u8], fill: u8) -> [u8; N] {
    let mut wide = [fill; N];
    for (to, from) in wide.iter_mut().rev().zip(bytes.iter().rev()) {
        *to = *from;
    }
    wide
}

/// Divides by 10^9 until nothing is left: the remainders are the digits, lowest group first.
fn push_large(out: &mut Vec<u8>, bytes: &[u8], negative: bool) {
    let mut limbs = [0u32; LIMBS];
    let mut carry = negative;
    // Lowest limb first; a negative number is complemented and incremented on the way.
    for (limb, chunk) in limbs.iter_mut().zip(bytes.rchunks(4)) {
        let fill = if negative { 0xff } else { 0 };
        let word = u32::from_be_bytes(widen(chunk, fill));
        let (value, overflow) = if negative { (!word).overflowing_add(u32::from(carry)) } else { (word, false) };
        carry = overflow;
        *limb = value;
    }
    let mut groups = [0u32; GROUPS];
    let mut used = bytes.len().div_ceil(4);
    let mut count = 0;
    for group in &mut groups {
        let live = limbs.get_mut(..used).unwrap_or_default();
        let mut rest = 0u64;
        for limb in live.iter_mut().rev() {
            let value = rest << 32 | u64::from(*limb);
            *limb = (value / GROUP) as u32;
            rest = value % GROUP;
        }
        *group = rest as u32;
        count += 1;
        used -= live.iter().rev().take_while(|limb| **limb == 0).count();
        if used == 0 {
            break;
        }
    }
    if negative {
        out.push(b'-');
    }
    let mut groups = groups.iter().take(count).rev();
    if let Some(first) = groups.next() {
        out.extend_from_slice(itoa::Buffer::new().format(*first).as_bytes());
    }
    for group in groups {
        crate::calendar::push_padded(out, u64::from(*group), 9);
    }
}

/// Appends unscaled × 10^-scale as Java's `BigDecimal.toString` does: `12.50`, `1.2E+4`. Different pairs of digits and
/// scale give different texts, so both can be read back.
pub(crate) fn push_decimal(out: &mut Vec<u8>, scale: i32, unscaled: &[u8]) {
    let start = out.len();
    push_integer(out, unscaled);
    if scale == 0 {
        return;
    }
    let first = if out.get(start) == Some(&b'-') { start + 1 } else { start };
    let digits = out.len() - first;
    let exponent = digits as i64 - 1 - i64::from(scale);
    if scale > 0 && exponent >= -6 {
        let scale = scale.unsigned_abs() as usize;
        if digits > scale {
            out.insert(first + digits - scale, b'.');
        } else {
            let zeros = std::iter::repeat_n(b'0', scale - digits);
            out.splice(first..first, b"0.".iter().copied().chain(zeros));
        }
        return;
    }
    if digits > 1 {
        out.insert(first + 1, b'.');
    }
    out.extend_from_slice(if exponent < 0 { b"E" } else { b"E+" });
    out.extend_from_slice(itoa::Buffer::new().format(exponent).as_bytes());
}
