//! Bytes that are appended over and over.
//!
//! Owns: appending them without a call. Does not own: what they say.

/// Bytes a copy of which, where they are few, is two moves of a processor and not a call of `memcpy`: for the name of a
/// column, half the time.
#[derive(Debug)]
pub(crate) struct Short {
    /// The bytes, and zeros behind them.
    padded: [u8; Self::ROOM],
    /// How many of them count; more than there is room for if all are in `long`.
    len: usize,
    long: Box<[u8]>,
}

impl Short {
    const ROOM: usize = 32;

    pub(crate) fn new(bytes: &[u8]) -> Self {
        let mut padded = [0; Self::ROOM];
        let fits = padded.get_mut(..bytes.len()).map(|slots| slots.copy_from_slice(bytes)).is_some();
        Self { padded, len: bytes.len(), long: if fits { Box::default() } else { bytes.into() } }
    }

    #[inline(always)]
    pub(crate) fn append(&self, out: &mut Vec<u8>) {
        if self.len > Self::ROOM {
            out.extend_from_slice(&self.long);
            return;
        }
        let end = out.len() + self.len;
        out.extend_from_slice(&self.padded);
        out.truncate(end);
    }
}
