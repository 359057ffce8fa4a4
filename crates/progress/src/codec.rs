//! Little-endian fields of a checkpoint, written and read back within bounds.
//!
//! Owns: the cursor, and the rule that a length is checked before anything is allocated for it.
//! Does not own: what the fields mean.

use alloc::string::String;
use alloc::vec::Vec;

use crate::checkpoint::DecodeError;

/// Appends fields.
#[derive(Default)]
pub(crate) struct Writer {
    pub(crate) bytes: Vec<u8>,
}

impl Writer {
    pub(crate) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(crate) fn u16(&mut self, value: u16) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn i64(&mut self, value: i64) {
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// `false` if the text is longer than its length field can say.
    #[must_use]
    pub(crate) fn text(&mut self, value: &str) -> bool {
        let Ok(length) = u16::try_from(value.len()) else { return false };
        self.u16(length);
        self.bytes.extend_from_slice(value.as_bytes());
        true
    }
}

/// Takes fields from the front of what remains.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    pub(crate) fn i64(&mut self) -> Result<i64, DecodeError> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn text(&mut self, limit: usize) -> Result<String, DecodeError> {
        let length = usize::from(self.u16()?);
        if length > limit {
            return Err(DecodeError::TextTooLong);
        }
        let (text, rest) = self.rest.split_at_checked(length).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        core::str::from_utf8(text).map(String::from).map_err(|_| DecodeError::NotUtf8)
    }

    /// A count of items that take at least `item_bytes` each: one that the rest can't hold is refused before anybody
    /// reserves memory for it.
    pub(crate) fn count(&mut self, item_bytes: usize) -> Result<usize, DecodeError> {
        let count = usize::try_from(self.u32()?).map_err(|_| DecodeError::CountTooLarge)?;
        match count.checked_mul(item_bytes) {
            Some(bytes) if bytes <= self.rest.len() => Ok(count),
            _ => Err(DecodeError::CountTooLarge),
        }
    }
}
