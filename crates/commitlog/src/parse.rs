//! The parsers that all structures share: nom's `complete` primitives over a slice of known length, and the error they
//! carry.
//!
//! Owns: how a flaw travels from a leaf to the caller. Does not own: any structure of the format.
//!
//! Parsers of what every entry has are inlined by force. What they return (the rest, a value, maybe a flaw) would
//! otherwise go through memory, field by field, and be read back in wider pieces, for which a processor waits a dozen
//! cycles each: half of the time to decode an insert.

use alloc::boxed::Box;

use nom::IResult;
use nom::error::{ErrorKind, ParseError};

use crate::error::{Cause, Structure};

/// What a parser of this crate returns: the rest of the input and the value.
pub(crate) type Parsed<'a, T> = IResult<&'a [u8], T, Flaw>;

/// A broken rule, before it is known where the input stands in the segment. Boxed: the happy path carries it in every
/// return value.
#[derive(Debug)]
pub(crate) struct Flaw(Box<FlawParts>);

#[derive(Debug)]
pub(crate) struct FlawParts {
    /// Bytes left of the input where the flaw was met: the length of the whole less this is its offset.
    pub(crate) left: usize,
    /// The innermost structure that claimed it.
    pub(crate) structure: Option<Structure>,
    pub(crate) cause: Cause,
}

impl Flaw {
    #[cold]
    pub(crate) fn new(input: &[u8], cause: Cause) -> nom::Err<Self> {
        nom::Err::Error(Self(Box::new(FlawParts { left: input.len(), structure: None, cause })))
    }

    pub(crate) fn into_parts(self) -> FlawParts {
        *self.0
    }
}

impl ParseError<&[u8]> for Flaw {
    #[cold]
    fn from_error_kind(input: &[u8], _kind: ErrorKind) -> Self {
        // Only fixed-width numbers and `take` of nom are used: all they can find wrong is the end of the input.
        Self(Box::new(FlawParts { left: input.len(), structure: None, cause: Cause::Truncated { left: input.len() } }))
    }

    fn append(_input: &[u8], _kind: ErrorKind, other: Self) -> Self {
        other
    }
}

/// Names the structure in which a flaw was met, unless an inner one did already.
#[inline(always)]
pub(crate) fn within<T>(structure: Structure, parsed: Parsed<'_, T>) -> Parsed<'_, T> {
    parsed.map_err(|error| claimed(structure, error))
}

#[cold]
fn claimed(structure: Structure, error: nom::Err<Flaw>) -> nom::Err<Flaw> {
    error.map(|mut flaw| {
        flaw.0.structure.get_or_insert(structure);
        flaw
    })
}

/// Takes the flaw out of nom's envelope. `complete` parsers never ask for more input.
pub(crate) fn flaw_parts(error: nom::Err<Flaw>) -> FlawParts {
    match error {
        nom::Err::Error(flaw) | nom::Err::Failure(flaw) => flaw.into_parts(),
        nom::Err::Incomplete(_) => {
            FlawParts { left: 0, structure: None, cause: Cause::Broken("a complete parser asked for more input") }
        }
    }
}

/// Takes a value out of range: the error side of a check.
#[cold]
pub(crate) fn out_of_range(input: &[u8], what: &'static str, value: u64) -> nom::Err<Flaw> {
    Flaw::new(input, Cause::OutOfRange { what, value: i64::from_ne_bytes(value.to_ne_bytes()) })
}

/// A rule that was broken: the error side of a check.
#[cold]
pub(crate) fn broken(input: &[u8], rule: &'static str) -> nom::Err<Flaw> {
    Flaw::new(input, Cause::Broken(rule))
}

/// The next `len` bytes. A length that no slice can have is as wrong as one behind the end.
#[inline(always)]
pub(crate) fn take(input: &[u8], len: u64) -> Parsed<'_, &[u8]> {
    match usize::try_from(len).ok().and_then(|len| input.split_at_checked(len)) {
        Some((taken, rest)) => Ok((rest, taken)),
        None => Err(Flaw::new(input, Cause::Truncated { left: input.len() })),
    }
}

/// The next byte.
#[inline(always)]
pub(crate) fn byte(input: &[u8]) -> Parsed<'_, u8> {
    match input.split_first() {
        Some((byte, rest)) => Ok((rest, *byte)),
        None => Err(Flaw::new(input, Cause::Truncated { left: 0 })),
    }
}

/// An index or count that is held in 32 bits, as one of this machine.
#[inline]
pub(crate) fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// A length inside a segment as 32 bits: segments are shorter than 2 GiB.
#[inline]
pub(crate) fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
