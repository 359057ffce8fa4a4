//! Compressed section: `i32` plaintext length, then one block of the segment's codec up to the next marker.
//!
//! LZ4: `u32` little-endian plaintext length and a raw block. Snappy: a raw block with its own length. Deflate: a zlib
//! stream. Zstd: one frame. An empty section has a block too, of a few bytes (of none for Deflate).
//! Owns: decompression into a buffer of exactly the declared length. Does not own: markers, encryption.

use alloc::string::ToString;
use alloc::vec::Vec;

use crate::descriptor::Compression;
use crate::error::Cause;
use crate::parse::index;

/// Decompressors with state, kept so that a section costs no allocation once the buffers have grown.
#[derive(Default)]
pub(crate) struct Decompressor {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl core::fmt::Debug for Decompressor {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Decompressor")
    }
}

impl Decompressor {
    /// Appends the plaintext of `block` to `out`; it must come out as exactly `len` bytes.
    pub(crate) fn append(
        &mut self,
        compression: Compression,
        block: &[u8],
        len: u32,
        out: &mut Vec<u8>,
    ) -> Result<(), Cause> {
        // Releases differ in what Deflate writes for nothing: nothing, or a stream of nothing. All else is decompressed
        // even where nothing should come out: a length that damage turned into 0 must not pass for an empty section.
        if len == 0 && block.is_empty() && compression == Compression::Deflate {
            return Ok(());
        }
        plausible(compression, block, len)?;
        let start = out.len();
        out.resize(start.saturating_add(index(len)), 0);
        let target = out.get_mut(start..).unwrap_or_default();
        let written = match compression {
            Compression::Lz4 => {
                lz4_parts(block).and_then(|(_, raw)| lz4_flex::block::decompress_into(raw, target).map_err(codec))
            }
            Compression::Snappy => snap::raw::Decoder::new().decompress(block, target).map_err(codec),
            Compression::Deflate => deflate(block, target),
            Compression::Zstd => self.zstd(block, target),
        };
        match written {
            Ok(written) if written == index(len) => Ok(()),
            other => {
                out.truncate(start);
                let written = other?;
                Err(Cause::OutOfRange {
                    what: "decompressed length",
                    value: i64::try_from(written).unwrap_or(i64::MAX),
                })
            }
        }
    }

    fn zstd(&mut self, block: &[u8], target: &mut [u8]) -> Result<usize, Cause> {
        let decompressor = match &mut self.zstd {
            Some(decompressor) => decompressor,
            None => self.zstd.insert(zstd::bulk::Decompressor::new().map_err(codec)?),
        };
        decompressor.decompress_to_buffer(block, target).map_err(codec)
    }
}

fn codec(error: impl ToString) -> Cause {
    Cause::Codec(error.to_string())
}

/// Whether the block can be so long, told before anything is allocated for it: by what it says itself, and by what no
/// block of the codec can exceed.
fn plausible(compression: Compression, block: &[u8], len: u32) -> Result<(), Cause> {
    let (declared, ratio) = match compression {
        Compression::Lz4 => (Some(u64::from(lz4_parts(block)?.0)), 256),
        Compression::Snappy => (u64::try_from(snap::raw::decompress_len(block).map_err(codec)?).ok(), 64),
        Compression::Deflate => (None, 1040),
        // A run-length block of four bytes stands for up to 128 KiB.
        Compression::Zstd => (zstd::zstd_safe::get_frame_content_size(block).ok().flatten(), 33_000),
    };
    if let Some(declared) = declared.filter(|&declared| declared != u64::from(len)) {
        let value = i64::try_from(declared).unwrap_or(i64::MAX);
        return Err(Cause::OutOfRange { what: "plaintext length in the block", value });
    }
    let most = u64::try_from(block.len()).unwrap_or(u64::MAX).saturating_mul(ratio);
    if u64::from(len) > most {
        return Err(Cause::OutOfRange { what: "plaintext length", value: i64::from(len) });
    }
    Ok(())
}

/// An LZ4 block as Cassandra writes it: its plaintext length once more, little-endian, then the raw block.
fn lz4_parts(block: &[u8]) -> Result<(u32, &[u8]), Cause> {
    let (declared, raw) = block.split_first_chunk::<4>().ok_or(Cause::Truncated { left: block.len() })?;
    Ok((u32::from_le_bytes(*declared), raw))
}

fn deflate(block: &[u8], target: &mut [u8]) -> Result<usize, Cause> {
    let mut stream = flate2::Decompress::new(true);
    let status = stream.decompress(block, target, flate2::FlushDecompress::Finish).map_err(codec)?;
    if status != flate2::Status::StreamEnd {
        return Err(Cause::Broken("the zlib stream does not end with its section"));
    }
    if stream.total_in() != u64::try_from(block.len()).unwrap_or(u64::MAX) {
        return Err(Cause::Broken("bytes are left behind the zlib stream"));
    }
    usize::try_from(stream.total_out()).map_err(codec)
}
