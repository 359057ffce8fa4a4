//! The numbers of the format, written.
//!
//! Owns: vints and the checksum, each in its plainest form. Does not own: structures.

/// An unsigned vint in its shortest form.
pub fn uv(out: &mut Vec<u8>, value: u64) {
    let extra = (0..8_u32).find(|extra| value >> (7 * extra + 7) == 0).unwrap_or(8);
    long_uv(out, value, extra);
}

/// An unsigned vint with so many bytes behind the first: longer than need be, which a reader must take too.
pub fn long_uv(out: &mut Vec<u8>, value: u64, extra: u32) {
    let bytes = value.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
        out.extend_from_slice(&bytes);
        return;
    }
    let ones = !(0xff_u32 >> extra) as u8;
    let (high, low) = (value >> (8 * extra), &bytes[8 - extra as usize..]);
    assert!(high < 1 << (7 - extra), "{value} does not fit {extra} bytes more");
    out.push(ones | high as u8);
    out.extend_from_slice(low);
}

/// A 32-bit vint: negative numbers are sign-extended, and so take nine bytes.
pub fn int(out: &mut Vec<u8>, value: i32) {
    uv(out, i64::from(value) as u64);
}

/// A length and as many bytes.
pub fn vbytes(out: &mut Vec<u8>, bytes: &[u8]) {
    uv(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The CRC-32 of zlib, bit by bit.
pub fn crc32(parts: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in parts.iter().copied().flatten() {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = crc >> 1 ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 };
        }
    }
    !crc
}
