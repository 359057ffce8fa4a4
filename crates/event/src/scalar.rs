//! What the bytes of a type without parameters say.
//!
//! Owns: which bytes a type can say, so that both formats agree. Does not own: how it is written.
//!
//! Whatever could be read in two ways is [`Scalar::Raw`]: from the text of any other variant exactly one sequence of
//! bytes can be rebuilt.

use cassandra_commitlog::Native;

/// A value without an inside.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Scalar<'a> {
    Text(&'a str),
    Blob(&'a [u8]),
    Boolean(bool),
    /// Up to 32 bits.
    Integer(i64),
    Bigint(i64),
    Float(f32),
    Double(f64),
    /// Milliseconds.
    Timestamp(i64),
    /// Lent, as all bytes are: a copy on the stack would be read back before its halves have arrived there.
    Uuid(&'a [u8; 16]),
    /// Days since 1970-01-01.
    Date(i32),
    /// Nanoseconds since midnight, below a day.
    Time(u64),
    Inet4(&'a [u8; 4]),
    Inet6(&'a [u8; 16]),
    /// Minimal two's complement, most significant byte first.
    Varint(&'a [u8]),
    Decimal {
        scale: i32,
        /// As in [`Scalar::Varint`].
        unscaled: &'a [u8],
    },
    Duration {
        months: i32,
        days: i32,
        nanos: i64,
    },
    /// Zero bytes of a type that is neither text nor blob.
    Empty,
    /// Bytes that the type can't say.
    Raw(&'a [u8]),
}

/// One day.
const DAY_NANOS: i64 = 86_400_000_000_000;

impl<'a> Scalar<'a> {
    /// Reads a value of a type.
    #[inline]
    pub(crate) fn read(native: Native, bytes: &'a [u8]) -> Self {
        Self::understand(native, bytes).unwrap_or(if bytes.is_empty() { Self::Empty } else { Self::Raw(bytes) })
    }

    #[inline]
    fn understand(native: Native, bytes: &'a [u8]) -> Option<Self> {
        Some(match native {
            Native::Text => Self::Text(str::from_utf8(bytes).ok()?),
            Native::Ascii => Self::Text(str::from_utf8(bytes).ok().filter(|text| text.is_ascii())?),
            Native::Blob => Self::Blob(bytes),
            Native::Boolean => match bytes {
                [0] => Self::Boolean(false),
                [1] => Self::Boolean(true),
                _ => return None,
            },
            Native::Tinyint => Self::Integer(i64::from(i8::from_be_bytes(bytes.try_into().ok()?))),
            Native::Smallint => Self::Integer(i64::from(i16::from_be_bytes(bytes.try_into().ok()?))),
            Native::Int => Self::Integer(i64::from(i32::from_be_bytes(bytes.try_into().ok()?))),
            Native::Bigint => Self::Bigint(i64::from_be_bytes(bytes.try_into().ok()?)),
            Native::Timestamp => Self::Timestamp(i64::from_be_bytes(bytes.try_into().ok()?)),
            Native::Float => {
                let value = f32::from_be_bytes(bytes.try_into().ok()?);
                // Of all the NaNs one has a name; the others carry bits that the name would lose.
                (!value.is_nan() || value.to_bits() == 0x7fc0_0000).then_some(Self::Float(value))?
            }
            Native::Double => {
                let value = f64::from_be_bytes(bytes.try_into().ok()?);
                (!value.is_nan() || value.to_bits() == 0x7ff8_0000_0000_0000).then_some(Self::Double(value))?
            }
            Native::Uuid | Native::Timeuuid => Self::Uuid(bytes.try_into().ok()?),
            Native::Date => {
                // Stored with the sign bit flipped: 0x80000000 is 1970-01-01.
                Self::Date((u32::from_be_bytes(bytes.try_into().ok()?) ^ 0x8000_0000).cast_signed())
            }
            Native::Time => {
                let nanos = i64::from_be_bytes(bytes.try_into().ok()?);
                (0..DAY_NANOS).contains(&nanos).then_some(Self::Time(nanos.unsigned_abs()))?
            }
            Native::Inet => match bytes.try_into() {
                Ok(address) => Self::Inet4(address),
                Err(_) => Self::Inet6(bytes.try_into().ok()?),
            },
            Native::Varint => minimal(bytes).then_some(Self::Varint(bytes))?,
            Native::Decimal => {
                let (scale, unscaled) = bytes.split_first_chunk()?;
                let scale = i32::from_be_bytes(*scale);
                minimal(unscaled).then_some(Self::Decimal { scale, unscaled })?
            }
            Native::Duration => duration(bytes)?,
            // A counter is read with its column (`counter`); it has no place inside of another type.
            Native::Counter | Native::Empty => return None,
        })
    }
}

/// Whether a two's complement integer has no byte too many: `00 7f` and `7f` would print alike.
fn minimal(bytes: &[u8]) -> bool {
    match bytes {
        [] => false,
        [_] => true,
        [first, second, ..] => !(*first == 0 && *second < 0x80 || *first == 0xff && *second >= 0x80),
    }
}

fn duration(bytes: &[u8]) -> Option<Scalar<'_>> {
    let (months, rest) = signed_vint(bytes)?;
    let (days, rest) = signed_vint(rest)?;
    let (nanos, rest) = signed_vint(rest)?;
    let (months, days) = (i32::try_from(months).ok()?, i32::try_from(days).ok()?);
    rest.is_empty().then_some(Scalar::Duration { months, days, nanos })
}

fn signed_vint(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (zigzag, rest) = unsigned_vint(bytes)?;
    Some(((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()), rest))
}

/// A vint of the shortest form (`FORMAT.md` 5); a longer one of the same number could not be rebuilt.
pub(crate) fn unsigned_vint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let extra = first.leading_ones();
    let (tail, rest) = rest.split_at_checked(extra as usize)?;
    let low = u64::from(*first) & (0x7f_u64 >> extra);
    let value = tail.iter().fold(low, |value, byte| value << 8 | u64::from(*byte));
    // One byte fewer would hold 7 bits fewer.
    (extra == 0 || value >> (7 * extra) != 0).then_some((value, rest))
}
