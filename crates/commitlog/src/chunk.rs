//! Encrypted section: `i32` plaintext length of the whole, then chunks up to the next marker. Chunk: `i32` ciphertext
//! length, `i32` compressed length, ciphertext. Decrypted, its first compressed-length bytes are `i32` plaintext length
//! and an LZ4 block.
//!
//! Every chunk starts afresh from the file's one IV. An entry may straddle chunks, so they are joined before anything
//! is parsed. Owns: decryption. Does not own: where the key comes from.

use alloc::vec::Vec;
use core::fmt;

use cbc::cipher::{BlockModeDecrypt, KeyIvInit, block_padding::Pkcs7};
use nom::number::complete::be_i32;

use crate::block::Decompressor;
use crate::descriptor::{Compression, Encryption};
use crate::error::Cause;
use crate::parse::{flaw_parts, index, take};

/// An AES key, by value: 16, 24 or 32 bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(Vec<u8>);

impl Key {
    /// A key of these bytes, if their number fits AES.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        matches!(bytes.len(), 16 | 24 | 32).then(|| Self(bytes.to_vec()))
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

/// Joins the plaintext of all chunks in `out`, which must come out as exactly `len` bytes.
pub(crate) fn join(
    encryption: &Encryption,
    key: Option<&Key>,
    mut chunks: &[u8],
    len: u32,
    scratch: &mut Vec<u8>,
    out: &mut Vec<u8>,
) -> Result<(), Cause> {
    let key = key
        .ok_or_else(|| Cause::Unknown { what: "key: none was given for alias", value: encryption.key_alias.clone() })?;
    while !chunks.is_empty() {
        let (rest, encrypted_len) = be_i32(chunks).map_err(cause)?;
        let (rest, compressed_len) = be_i32(rest).map_err(cause)?;
        let encrypted = u32::try_from(encrypted_len)
            .map_err(|_| Cause::OutOfRange { what: "ciphertext length", value: i64::from(encrypted_len) })?;
        let (rest, ciphertext) = take(rest, u64::from(encrypted)).map_err(cause)?;
        chunks = rest;
        let plaintext = decrypt(encryption, key, ciphertext, scratch)?;
        let compressed = usize::try_from(compressed_len)
            .ok()
            .and_then(|len| plaintext.get(..len))
            .ok_or(Cause::OutOfRange { what: "compressed length", value: i64::from(compressed_len) })?;
        let (block, chunk_len) = be_i32(compressed).map_err(cause)?;
        let room = index(len).saturating_sub(out.len());
        let chunk_len = u32::try_from(chunk_len)
            .ok()
            .filter(|&chunk_len| index(chunk_len) <= room)
            .ok_or(Cause::OutOfRange { what: "plaintext length of a chunk", value: i64::from(chunk_len) })?;
        Decompressor::default().append(Compression::Lz4, block, chunk_len, out)?;
    }
    if out.len() == index(len) {
        return Ok(());
    }
    Err(Cause::OutOfRange {
        what: "plaintext length of all chunks",
        value: i64::try_from(out.len()).unwrap_or(i64::MAX),
    })
}

fn cause(error: nom::Err<crate::parse::Flaw>) -> Cause {
    flaw_parts(error).cause
}

fn decrypt<'s>(
    encryption: &Encryption,
    key: &Key,
    ciphertext: &[u8],
    scratch: &'s mut Vec<u8>,
) -> Result<&'s [u8], Cause> {
    // What JCE calls PKCS5Padding is PKCS#7 with AES.
    if encryption.cipher != "AES/CBC/PKCS5Padding" {
        return Err(Cause::Unknown { what: "cipher", value: encryption.cipher.clone() });
    }
    scratch.clear();
    scratch.extend_from_slice(ciphertext);
    let wrong_iv = || Cause::Broken("the initialisation vector is not 16 bytes long");
    let iv: &[u8; 16] = encryption.iv.as_slice().try_into().map_err(|_| wrong_iv())?;
    let bytes = key.0.as_slice();
    let plaintext = if let Ok(key) = <&[u8; 16]>::try_from(bytes) {
        cbc::Decryptor::<aes::Aes128>::new(key.into(), iv.into()).decrypt_padded::<Pkcs7>(scratch)
    } else if let Ok(key) = <&[u8; 24]>::try_from(bytes) {
        cbc::Decryptor::<aes::Aes192>::new(key.into(), iv.into()).decrypt_padded::<Pkcs7>(scratch)
    } else if let Ok(key) = <&[u8; 32]>::try_from(bytes) {
        cbc::Decryptor::<aes::Aes256>::new(key.into(), iv.into()).decrypt_padded::<Pkcs7>(scratch)
    } else {
        return Err(Cause::Broken("the key is not 16, 24 or 32 bytes long"));
    };
    plaintext.map_err(|_| Cause::Broken("the padding does not hold: a wrong key, or damaged ciphertext"))
}
