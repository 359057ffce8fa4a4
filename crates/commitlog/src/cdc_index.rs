//! `_cdc.idx`: a decimal number, and on a second line `COMPLETED` once the segment is closed; no newline at the end.
//!
//! Owns: what the text says. Does not own: the file, retries, whether a number may fall (it may: a replay writes the
//! physical length).

use core::fmt;

use crate::error::{Cause, DecodeError, Place, Structure};
use crate::units::LogOffset;

/// What an index file says of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CdcIndex {
    /// Sections that end at or before this logical position are durable; more may come.
    Growing(LogOffset),
    /// The segment is closed: read to the end of its chain. The number is its logical end, or after a replay the
    /// physical length of the file: a cross-check, never a limit.
    Sealed(LogOffset),
}

impl CdcIndex {
    /// Reads the text of an index. `None` is an empty file: the server truncates before it writes, so it is normal and
    /// means "try again".
    ///
    /// # Errors
    /// Any other text.
    pub fn parse(text: &[u8]) -> Result<Option<Self>, DecodeError> {
        if text.is_empty() {
            return Ok(None);
        }
        let refuse =
            |rule| DecodeError { at: Place::Bytes(0), structure: Structure::CdcIndex, cause: Cause::Broken(rule) };
        let text = core::str::from_utf8(text).map_err(|_| refuse("not text"))?;
        let (digits, sealed) = match text.split_once('\n') {
            None => (text, false),
            Some((digits, "COMPLETED")) => (digits, true),
            Some(_) => return Err(refuse("the second line is not COMPLETED")),
        };
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refuse("the first line is not a number"));
        }
        let offset = digits.parse().map(LogOffset).map_err(|_| refuse("the number does not fit a segment"))?;
        Ok(Some(if sealed { Self::Sealed(offset) } else { Self::Growing(offset) }))
    }
}

impl fmt::Display for CdcIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Growing(offset) => offset.fmt(f),
            Self::Sealed(offset) => write!(f, "{offset} COMPLETED"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_states_and_the_moment_between() {
        assert_eq!(CdcIndex::parse(b"62125"), Ok(Some(CdcIndex::Growing(LogOffset(62125)))));
        assert_eq!(CdcIndex::parse(b"1048576\nCOMPLETED"), Ok(Some(CdcIndex::Sealed(LogOffset(1048576)))));
        assert_eq!(CdcIndex::parse(b""), Ok(None));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in
            [&b"x"[..], b"-1", b"12\nCOMPLETE", b"12\nCOMPLETED\n", b"12\n", b"\nCOMPLETED", b"99999999999", b"\xff"]
        {
            assert!(CdcIndex::parse(text).is_err(), "{text:?}");
        }
    }
}
