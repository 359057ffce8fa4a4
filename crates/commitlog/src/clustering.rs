//! Clustering: blocks of up to 32 values; each block begins with a vint that holds two bits a value (0 present, 1
//! empty, 2 null), then the present values, fixed-length types raw and the others with their length.
//!
//! Owns: the values of a row's or bound's clustering. Does not own: how many there are (schema for rows, the marker for
//! bounds).

use alloc::vec::Vec;

use crate::error::Structure;
use crate::parse::{Parsed, out_of_range, take, within};
use crate::schema::Column;
use crate::update::ClusteringValue;
use crate::vint;

const BLOCK: usize = 32;

/// Reads one value for each of these clustering columns and appends them to `out`. `span` turns a value's bytes and
/// what follows them into a place in the body.
#[inline(always)]
pub(crate) fn clustering<'a>(
    input: &'a [u8],
    columns: &[Column],
    span: impl Fn(&'a [u8], &'a [u8]) -> crate::update::Span,
    out: &mut Vec<ClusteringValue>,
) -> Parsed<'a, ()> {
    within(Structure::Clustering, blocks(input, columns, span, out))
}

#[inline(always)]
fn blocks<'a>(
    mut input: &'a [u8],
    columns: &[Column],
    span: impl Fn(&'a [u8], &'a [u8]) -> crate::update::Span,
    out: &mut Vec<ClusteringValue>,
) -> Parsed<'a, ()> {
    for block in columns.chunks(BLOCK) {
        let (mut rest, header) = vint::unsigned(input)?;
        let pairs = u32::try_from(block.len()).unwrap_or(0).saturating_mul(2);
        if header.checked_shr(pairs).unwrap_or(0) != 0 {
            return Err(out_of_range(input, "clustering header", header));
        }
        for (pair, column) in (0u32..).step_by(2).zip(block) {
            let value = match header.checked_shr(pair).unwrap_or(0) & 0b11 {
                0b00 => {
                    let (after, value) = match column.cql_type.fixed_len() {
                        Some(len) => take(rest, u64::from(len))?,
                        None => vint::bytes(rest)?,
                    };
                    rest = after;
                    ClusteringValue::Value(span(value, after))
                }
                0b01 => ClusteringValue::Value(span(&[], rest)),
                0b10 => ClusteringValue::Null,
                _ => return Err(out_of_range(input, "clustering header", header)),
            };
            out.push(value);
        }
        input = rest;
    }
    Ok((input, ()))
}
