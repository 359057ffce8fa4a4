//! Descriptor, at the start of every segment: `i32` version, `i64` id, `u16` length of the parameters, the parameters
//! (a JSON object), `u32` CRC-32.
//!
//! The CRC covers version, the low and then the high half of the id, the length **as four bytes** (it is stored in
//! two) and the parameters. Owns: the descriptor and which codec it asks for. Does not own: the codecs.

use alloc::string::String;
use alloc::vec::Vec;

use nom::number::complete::{be_i32, be_i64, be_u16, be_u32};
use serde::Deserialize;

use crate::error::{Cause, DecodeError, Place, Structure};
use crate::parse::{Flaw, Parsed, flaw_parts, length, take};
use crate::segment_name::SegmentName;
use crate::units::{FileOffset, FormatVersion, SegmentId};

/// How the sections of a segment are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Codec {
    /// As they are: memory-mapped and direct-I/O segments.
    Plain,
    /// One compressed block a section.
    Compressed(Compression),
    /// Encrypted chunks of LZ4 blocks.
    Encrypted(Encryption),
}

/// The compressors that Cassandra ships for the commit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are the codecs' own")]
pub enum Compression {
    Lz4,
    Snappy,
    Deflate,
    Zstd,
}

/// What an encrypted segment says of its cipher. The key is not in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encryption {
    /// The transformation, as Java names it.
    pub cipher: String,
    /// Which key of the node's key store.
    pub key_alias: String,
    /// Initialisation vector, the same for every chunk of the file.
    pub iv: Vec<u8>,
}

/// The parsed descriptor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Descriptor {
    /// The segment's commit-log version: it selects the grammar.
    pub version: FormatVersion,
    /// The segment's id.
    pub id: SegmentId,
    /// How sections are stored.
    pub codec: Codec,
    /// Where the first sync marker stands.
    pub end: FileOffset,
}

/// Members of the parameters that matter; unknown ones are ignored, as Cassandra does.
#[derive(Deserialize)]
struct Parameters {
    #[serde(rename = "compressionClass")]
    compression_class: Option<String>,
    #[serde(rename = "encCipher")]
    cipher: Option<String>,
    #[serde(rename = "encKeyAlias")]
    key_alias: Option<String>,
    #[serde(rename = "encIV")]
    iv: Option<String>,
}

impl Descriptor {
    /// Reads the descriptor at the start of a segment.
    ///
    /// # Errors
    /// Fewer bytes than a descriptor has, a CRC that does not hold, a version or codec that this crate does not read.
    pub fn parse(file: &[u8]) -> Result<Self, DecodeError> {
        descriptor(file).map(|(_, descriptor)| descriptor).map_err(|error| {
            let parts = flaw_parts(error);
            let at = Place::File(FileOffset(length(file.len().saturating_sub(parts.left))));
            DecodeError { at, structure: Structure::Descriptor, cause: parts.cause }
        })
    }

    /// Whether the file's name says the same as its descriptor: a copy under a wrong name must not be taken for
    /// another segment.
    ///
    /// # Errors
    /// The two differ.
    pub fn check_name(&self, name: &SegmentName) -> Result<(), DecodeError> {
        if (name.version, name.id) == (self.version, self.id) {
            return Ok(());
        }
        let value = alloc::format!("{} (version {}, id {})", name, self.version.number(), self.id);
        Err(DecodeError {
            at: Place::File(FileOffset(0)),
            structure: Structure::Descriptor,
            cause: Cause::Unknown { what: "segment: its name and its descriptor disagree:", value },
        })
    }
}

fn descriptor(file: &[u8]) -> Parsed<'_, Descriptor> {
    let (rest, number) = be_i32(file)?;
    // The version comes first: what follows it is only known for the versions of this crate.
    let Some(version) = FormatVersion::from_number(number) else {
        return Err(Flaw::new(file, Cause::Unknown { what: "commit-log version", value: alloc::format!("{number}") }));
    };
    let (rest, id) = be_i64(rest)?;
    let (rest, len) = be_u16(rest)?;
    let (rest, parameters) = take(rest, u64::from(len))?;
    let (end, stored) = be_u32(rest)?;
    let id = SegmentId(id);
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_be_bytes());
    crc.update(&id.halves_low_first());
    crc.update(&u32::from(len).to_be_bytes());
    crc.update(parameters);
    let computed = crc.finalize();
    if stored != computed {
        return Err(Flaw::new(rest, Cause::Checksum { stored, computed }));
    }
    let codec = codec(parameters)?;
    let header = FileOffset(length(file.len().saturating_sub(end.len())));
    Ok((end, Descriptor { version, id, codec, end: header }))
}

fn codec(parameters: &[u8]) -> Result<Codec, nom::Err<Flaw>> {
    let refuse = |what, value| Flaw::new(parameters, Cause::Unknown { what, value });
    // serde_json caps the nesting of what it reads.
    let read: Parameters = serde_json::from_slice(parameters)
        .map_err(|error| Flaw::new(parameters, Cause::Codec(alloc::format!("parameters: {error}"))))?;
    if let (Some(cipher), Some(key_alias)) = (read.cipher, read.key_alias) {
        let text = read.iv.unwrap_or_default();
        let iv = hex(&text).ok_or_else(|| refuse("initialisation vector", text))?;
        return Ok(Codec::Encrypted(Encryption { cipher, key_alias, iv }));
    }
    let Some(class) = read.compression_class else { return Ok(Codec::Plain) };
    let compression = match class.rsplit_once('.') {
        None => class.as_str(),
        Some(("org.apache.cassandra.io.compress", name)) => name,
        Some(_) => "",
    };
    Ok(Codec::Compressed(match compression {
        "LZ4Compressor" => Compression::Lz4,
        "SnappyCompressor" => Compression::Snappy,
        "DeflateCompressor" => Compression::Deflate,
        "ZstdCompressor" => Compression::Zstd,
        _ => return Err(refuse("compressor", class)),
    }))
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|c| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    let (pairs, odd) = digits.as_chunks::<2>();
    odd.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The worked example of `FORMAT.md`.
    const EXAMPLE: [u8; 20] =
        [0, 0, 0, 7, 0, 0, 1, 0xa1, 0xfd, 0x0b, 0x6a, 0xb4, 0, 2, b'{', b'}', 0x24, 0x8f, 0x7b, 0xf6];

    #[test]
    fn the_worked_example() {
        let descriptor = Descriptor::parse(&EXAMPLE).unwrap();
        assert_eq!(descriptor.version, FormatVersion::V7);
        assert_eq!(descriptor.id, SegmentId(1795246746292));
        assert_eq!((descriptor.codec, descriptor.end), (Codec::Plain, FileOffset(20)));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        for byte in 0..EXAMPLE.len() {
            assert!(Descriptor::parse(&EXAMPLE[..byte]).is_err());
            for bit in 0..8 {
                let mut flipped = EXAMPLE;
                flipped[byte] ^= 1 << bit;
                assert!(Descriptor::parse(&flipped).is_err(), "bit {bit} of byte {byte}");
            }
        }
    }

    #[test]
    fn parameters_select_the_codec() {
        let codec = |text: &str| codec(text.as_bytes()).ok();
        assert_eq!(codec("{}"), Some(Codec::Plain));
        assert_eq!(codec(r#"{"compressionClass":"LZ4Compressor"}"#), Some(Codec::Compressed(Compression::Lz4)));
        let full =
            r#"{"compressionClass":"org.apache.cassandra.io.compress.ZstdCompressor","compressionParameters":{}}"#;
        assert_eq!(codec(full), Some(Codec::Compressed(Compression::Zstd)));
        assert_eq!(codec(r#"{"compressionClass":"com.acme.ZstdCompressor"}"#), None);
        assert_eq!(codec(r#"{"compressionClass":"NoopCompressor"}"#), None);
        let encrypted = r#"{"encCipher":"AES\/CBC\/PKCS5Padding","encIV":"00ff","encKeyAlias":"k","compressionClass":"LZ4Compressor"}"#;
        let encryption =
            Encryption { cipher: "AES/CBC/PKCS5Padding".into(), key_alias: "k".into(), iv: [0, 255].into() };
        assert_eq!(codec(encrypted), Some(Codec::Encrypted(encryption)));
        assert_eq!(codec(r#"{"encCipher":"x","encIV":"0","encKeyAlias":"k"}"#), None);
    }
}
