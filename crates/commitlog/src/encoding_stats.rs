//! Encoding stats: three vints that begin every update: least timestamp, least local deletion time, least TTL. All
//! later times are deltas to them. Deletion time: timestamp delta, local-deletion-time delta.
//!
//! Owns: biases and deltas. All arithmetic wraps, as Java's does: the biases only save space and promise nothing.

use crate::error::Structure;
use crate::parse::{Parsed, broken, within};
use crate::units::FormatVersion;
use crate::update::{DeletionTime, Expiry};
use crate::vint;

/// 2015-09-22T00:00Z: what Cassandra counts its least timestamps (µs) and deletion times (s) from.
const EPOCH_MICROS: i64 = 1_442_880_000_000_000;
const EPOCH_SECONDS: u32 = 1_442_880_000;

/// A timestamp that no write can have: "not deleted". Its local deletion time differs between releases and is not looked at.
const LIVE: i64 = i64::MIN;

/// The biases of one update.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EncodingStats {
    min_timestamp: i64,
    min_local_deletion_time: u32,
    min_ttl: i32,
    unsigned: bool,
}

impl EncodingStats {
    #[inline(always)]
    pub(crate) fn parse(input: &[u8], version: FormatVersion) -> Parsed<'_, Self> {
        within(Structure::EncodingStats, Self::fields(input, version))
    }

    #[inline(always)]
    fn fields(input: &[u8], version: FormatVersion) -> Parsed<'_, Self> {
        let (rest, timestamp) = vint::unsigned(input)?;
        let (rest, local_deletion_time) = vint::int(rest)?;
        let (rest, min_ttl) = vint::int(rest)?;
        let stats = Self {
            min_timestamp: timestamp.cast_signed().wrapping_add(EPOCH_MICROS),
            min_local_deletion_time: local_deletion_time.cast_unsigned().wrapping_add(EPOCH_SECONDS),
            min_ttl,
            unsigned: version.unsigned_deletion_times(),
        };
        Ok((rest, stats))
    }

    #[inline(always)]
    pub(crate) fn timestamp<'a>(&self, input: &'a [u8]) -> Parsed<'a, i64> {
        let (rest, delta) = vint::unsigned(input)?;
        Ok((rest, self.min_timestamp.wrapping_add(delta.cast_signed())))
    }

    #[inline(always)]
    pub(crate) fn local_deletion_time<'a>(&self, input: &'a [u8]) -> Parsed<'a, i64> {
        let (rest, delta) = vint::int(input)?;
        let seconds = self.min_local_deletion_time.wrapping_add(delta.cast_unsigned());
        let seconds = if self.unsigned { i64::from(seconds) } else { i64::from(seconds.cast_signed()) };
        Ok((rest, seconds))
    }

    #[inline]
    fn ttl<'a>(&self, input: &'a [u8]) -> Parsed<'a, i32> {
        let (rest, delta) = vint::int(input)?;
        let ttl = self.min_ttl.wrapping_add(delta);
        if ttl < 0 { Err(broken(input, "negative TTL")) } else { Ok((rest, ttl)) }
    }

    /// Row liveness stores the TTL first.
    pub(crate) fn row_expiry<'a>(&self, input: &'a [u8]) -> Parsed<'a, Expiry> {
        let (rest, ttl) = self.ttl(input)?;
        let (rest, at) = self.local_deletion_time(rest)?;
        Ok((rest, Expiry { ttl, at }))
    }

    /// Cells store the moment of expiry first.
    pub(crate) fn cell_expiry<'a>(&self, input: &'a [u8]) -> Parsed<'a, Expiry> {
        let (rest, at) = self.local_deletion_time(input)?;
        let (rest, ttl) = self.ttl(rest)?;
        Ok((rest, Expiry { ttl, at }))
    }

    /// A deletion time, or `None` for the "not deleted" that complex columns carry beside deleted ones.
    pub(crate) fn deletion_time<'a>(&self, input: &'a [u8]) -> Parsed<'a, Option<DeletionTime>> {
        within(Structure::DeletionTime, self.deletion_time_fields(input))
    }

    fn deletion_time_fields<'a>(&self, input: &'a [u8]) -> Parsed<'a, Option<DeletionTime>> {
        let (rest, marked_for_delete_at) = self.timestamp(input)?;
        let (rest, local_deletion_time) = self.local_deletion_time(rest)?;
        let deletion = DeletionTime { marked_for_delete_at, local_deletion_time };
        Ok((rest, (marked_for_delete_at != LIVE).then_some(deletion)))
    }
}
