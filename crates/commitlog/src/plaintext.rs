//! From a stored section to its entries' bytes: as they are, decompressed, or decrypted.
//!
//! Owns: the buffers of all codecs. Does not own: the codecs (`block`, `chunk`), the chain (`section`).

use alloc::vec::Vec;

use crate::block::Decompressor;
use crate::chunk::{self, Key};
use crate::descriptor::{Codec, Descriptor};
use crate::error::{Cause, DecodeError, Place, Structure};
use crate::section::{MARKER, Section};
use crate::units::FileOffset;

/// Plaintext of one section at a time. A hostile length never gets more memory than [`Self::MAX_SECTION`].
#[derive(Debug, Default)]
pub struct Plaintext {
    key: Option<Key>,
    decompressor: Decompressor,
    scratch: Vec<u8>,
    out: Vec<u8>,
}

impl Plaintext {
    /// The longest plaintext of a section, bytes: twice Cassandra's default segment.
    pub const MAX_SECTION: u32 = 64 << 20;

    /// With the key of encrypted segments, if there are any.
    pub fn new(key: Option<Key>) -> Self {
        Self { key, ..Self::default() }
    }

    /// The entries of a section, back to back. Plain sections are lent from the input.
    ///
    /// # Errors
    /// A block or chunk that does not come out as the section's declared length; a missing or wrong key.
    pub fn of<'b>(&'b mut self, section: &Section<'b>, descriptor: &Descriptor) -> Result<&'b [u8], DecodeError> {
        if descriptor.codec == Codec::Plain {
            return Ok(section.stored);
        }
        let len = section.declared_len()?;
        let at = Place::File(FileOffset(section.marker.0.saturating_add(MARKER)));
        if len > Self::MAX_SECTION {
            let cause = Cause::OutOfRange { what: "plaintext length", value: i64::from(len) };
            return Err(DecodeError { at, structure: Structure::Section, cause });
        }
        let block = section.stored.get(4..).unwrap_or_default();
        self.out.clear();
        let (structure, result) = match &descriptor.codec {
            Codec::Plain => (Structure::Section, Ok(())),
            Codec::Compressed(compression) => {
                (Structure::CompressedBlock, self.decompressor.append(*compression, block, len, &mut self.out))
            }
            Codec::Encrypted(encryption) => {
                let key = self.key.as_ref();
                (Structure::EncryptedChunk, chunk::join(encryption, key, block, len, &mut self.scratch, &mut self.out))
            }
        };
        result.map_err(|cause| DecodeError { at, structure, cause })?;
        Ok(&self.out)
    }
}
