//! Descriptor, markers and entries, and the compressed block that needs no more than one crate.
//!
//! Owns: their bytes, for any segment id. Does not own: where they stand (`writer`, and the stand-in node of the crash
//! tests, which shares this file).

use super::wire::crc32;

pub fn descriptor(id: i64, version: i32, parameters: &str) -> Vec<u8> {
    let mut out = version.to_be_bytes().to_vec();
    out.extend_from_slice(&id.to_be_bytes());
    let len = u16::try_from(parameters.len()).expect("short parameters");
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(parameters.as_bytes());
    let (high, low) = ((id >> 32) as u32, id as u32);
    let crc = crc32(&[
        &version.to_be_bytes(),
        &low.to_be_bytes(),
        &high.to_be_bytes(),
        &u32::from(len).to_be_bytes(),
        parameters.as_bytes(),
    ]);
    out.extend_from_slice(&crc.to_be_bytes());
    out
}

pub fn marker(id: i64, at: usize, next: i32) -> [u8; 8] {
    let crc = crc32(&[&(id as u32).to_be_bytes(), &((id >> 32) as u32).to_be_bytes(), &(at as u32).to_be_bytes()]);
    let mut out = [0; 8];
    out[..4].copy_from_slice(&next.to_be_bytes());
    out[4..].copy_from_slice(&crc.to_be_bytes());
    out
}

/// An entry with checksums that hold, whatever size it says.
pub fn lying_entry(size: i32, body: &[u8]) -> Vec<u8> {
    let size = size.to_be_bytes();
    let mut out = size.to_vec();
    out.extend_from_slice(&crc32(&[&size]).to_be_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(&crc32(&[&size, body]).to_be_bytes());
    out
}

pub fn entry(body: &[u8]) -> Vec<u8> {
    lying_entry(i32::try_from(body.len()).expect("a short body"), body)
}

/// A block of the LZ4 codec: its plain length, little-endian, before it.
pub fn lz4(plaintext: &[u8]) -> Vec<u8> {
    let mut out = (plaintext.len() as u32).to_le_bytes().to_vec();
    out.extend(lz4_flex::block::compress(plaintext));
    out
}
