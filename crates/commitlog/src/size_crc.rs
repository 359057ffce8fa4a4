//! CRC-32 of four bytes: the checksum of an entry's size.
//!
//! Owns: that checksum. Does not own: all others, which `crc32fast` computes: for four bytes its setup costs five times
//! as much as four look-ups.

/// The polynomial of CRC-32, lowest bit first.
const POLYNOMIAL: u32 = 0xedb8_8320;

/// What each value of a byte adds that has so many bytes behind it.
static TABLES: [[u32; 256]; 4] = tables();

#[allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::indexing_slicing,
    reason = "done by the compiler: all that could go wrong is the build"
)]
const fn tables() -> [[u32; 256]; 4] {
    let mut tables = [[0; 256]; 4];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte;
        let mut distance = 0;
        while distance < 4 {
            let mut bit = 0;
            while bit < 8 {
                crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
                bit += 1;
            }
            tables[distance][byte as usize] = crc;
            distance += 1;
        }
        byte += 1;
    }
    tables
}

/// CRC-32 of the four bytes of a size.
#[allow(clippy::indexing_slicing, reason = "of arrays of 256 by bytes")]
#[inline]
pub(crate) fn size_crc(bytes: [u8; 4]) -> u32 {
    let [one, two, three, four] = &TABLES;
    let [a, b, c, d] = (!u32::from_le_bytes(bytes)).to_le_bytes();
    !(four[usize::from(a)] ^ three[usize::from(b)] ^ two[usize::from(c)] ^ one[usize::from(d)])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_checksum_that_the_library_computes() {
        for size in (0..u32::MAX - 65_521).step_by(65_521).chain([0, 1, 255, 256, u32::MAX]) {
            assert_eq!(size_crc(size.to_be_bytes()), crc32fast::hash(&size.to_be_bytes()), "{size}");
        }
    }
}
