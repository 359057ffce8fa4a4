//! Segments, written by hand, in each codec.
//!
//! Owns: codecs, and where each part of a segment came to stand. Does not own: the parts' bytes (`framing`), what is in
//! a mutation (`model`).

use std::ops::Range;

use aes::Aes128;
use cassandra_commitlog::Key;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit, block_padding::Pkcs7};

pub use super::framing::entry;
use super::framing::{self, lz4};

pub const ID: i64 = 0x1a1_fd0b_6ab4;
pub const KEY: [u8; 16] = *b"sixteen bytes ok";
const IV: [u8; 16] = [0x5a; 16];
/// Plaintext of one encrypted chunk: small, so that entries straddle chunks.
const CHUNK: usize = 48;
/// Plain segments end on this grid.
const BLOCK: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    Plain,
    Lz4,
    Snappy,
    Deflate,
    Zstd,
    Encrypted,
}

impl Codec {
    pub const ALL: [Self; 6] = [Self::Plain, Self::Lz4, Self::Snappy, Self::Deflate, Self::Zstd, Self::Encrypted];

    pub fn parameters(self) -> String {
        let class = match self {
            Self::Plain => return "{}".to_owned(),
            Self::Encrypted => {
                let iv: String = IV.iter().map(|byte| format!("{byte:02x}")).collect();
                return format!(r#"{{"encCipher":"AES\/CBC\/PKCS5Padding","encIV":"{iv}","encKeyAlias":"one"}}"#);
            }
            Self::Lz4 => "LZ4Compressor",
            Self::Snappy => "SnappyCompressor",
            Self::Deflate => "DeflateCompressor",
            Self::Zstd => "ZstdCompressor",
        };
        format!(r#"{{"compressionClass":"{class}","compressionParameters":{{}}}}"#)
    }
}

/// The key of encrypted segments.
pub fn key() -> Key {
    Key::new(&KEY).expect("16 bytes")
}

/// A segment, and where its parts stand in the file.
#[derive(Debug, Clone)]
pub struct Segment {
    pub bytes: Vec<u8>,
    pub codec: Codec,
    /// End of the descriptor.
    pub header: usize,
    /// Each section with its marker.
    pub sections: Vec<Range<usize>>,
    /// Each entry's logical position, from its size to behind its last checksum.
    pub entries: Vec<Range<usize>>,
    logical: usize,
}

pub fn descriptor(version: i32, parameters: &str) -> Vec<u8> {
    framing::descriptor(ID, version, parameters)
}

pub fn marker(at: usize, next: i32) -> [u8; 8] {
    framing::marker(ID, at, next)
}

/// What is stored behind the marker of a section with this plaintext.
pub fn stored(codec: Codec, plaintext: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if codec != Codec::Plain {
        out.extend_from_slice(&(plaintext.len() as i32).to_be_bytes());
    }
    match codec {
        Codec::Plain => out.extend_from_slice(plaintext),
        Codec::Encrypted => {
            for chunk in plaintext.chunks(CHUNK) {
                let mut compressed = (chunk.len() as i32).to_be_bytes().to_vec();
                compressed.extend(lz4(chunk));
                out.extend(encrypted_chunk(&compressed, compressed.len() as i32));
            }
        }
        _ => out.extend(block(codec, plaintext)),
    }
    out
}

/// A compressed block.
pub fn block(codec: Codec, plaintext: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Lz4 => lz4(plaintext),
        Codec::Snappy => snap::raw::Encoder::new().compress_vec(plaintext).expect("a short input"),
        Codec::Deflate if plaintext.is_empty() => Vec::new(),
        Codec::Deflate => {
            let mut out = Vec::with_capacity(plaintext.len() + 1024);
            let mut stream = flate2::Compress::new(flate2::Compression::default(), true);
            let done = stream.compress_vec(plaintext, &mut out, flate2::FlushCompress::Finish).expect("to compress");
            assert_eq!(done, flate2::Status::StreamEnd);
            out
        }
        Codec::Zstd => {
            let mut compressor = zstd::bulk::Compressor::new(3).expect("a compressor");
            compressor.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).expect("a known parameter");
            compressor.compress(plaintext).expect("to compress")
        }
        Codec::Plain | Codec::Encrypted => unreachable!("no block codec"),
    }
}

/// A chunk of these compressed bytes, whatever length it says they have.
pub fn encrypted_chunk(compressed: &[u8], says: i32) -> Vec<u8> {
    let cipher = cbc::Encryptor::<Aes128>::new(&KEY.into(), &IV.into()).encrypt_padded_vec::<Pkcs7>(compressed);
    let mut out = (cipher.len() as i32).to_be_bytes().to_vec();
    out.extend_from_slice(&says.to_be_bytes());
    out.extend(cipher);
    out
}

impl Segment {
    pub fn new(version: i32, codec: Codec) -> Self {
        let bytes = descriptor(version, &codec.parameters());
        let header = bytes.len();
        Self { bytes, codec, header, sections: Vec::new(), entries: Vec::new(), logical: header }
    }

    /// A section of these bodies.
    pub fn section(&mut self, bodies: &[Vec<u8>]) -> &mut Self {
        self.logical += 8;
        let mut plaintext = Vec::new();
        for body in bodies {
            let start = self.logical + plaintext.len();
            plaintext.extend(entry(body));
            self.entries.push(start..self.logical + plaintext.len());
        }
        self.logical += plaintext.len();
        self.raw_section(&stored(self.codec, &plaintext))
    }

    /// A section of these bytes as they are.
    pub fn raw_section(&mut self, stored: &[u8]) -> &mut Self {
        let at = self.bytes.len();
        let end = at + 8 + stored.len();
        self.bytes.extend_from_slice(&marker(at, end as i32));
        self.bytes.extend_from_slice(stored);
        self.sections.push(at..end);
        self
    }

    /// The file as it looks when closed: a plain one has an unwritten marker and zeros up to the end of a block.
    pub fn close(&mut self) -> Self {
        if self.codec == Codec::Plain {
            self.bytes.resize((self.bytes.len() + 8).next_multiple_of(BLOCK), 0);
        }
        self.clone()
    }

    /// Where the chain of sections ends in the file.
    pub fn chain_end(&self) -> usize {
        self.sections.last().map_or(self.header, |section| section.end)
    }
}
