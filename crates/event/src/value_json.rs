//! A value of any CQL type as JSON.
//!
//! Owns: the text of values. Does not own: which bytes a type can say (`scalar`), the framing of compound values
//! (`compound`).
//!
//! Every text can be turned back into the value's bytes, and no two values of one type have one text.

use cassandra_commitlog::{CqlType, Native, UserType};

use crate::calendar::{push_clock, push_date, push_padded};
use crate::compound::{count, has_reserved_field, item, vector_item};
use crate::digits;
use crate::json_text::{push_base64, push_int, push_raw, push_str, push_utf8, push_uuid};
use crate::scalar::Scalar;
use crate::settings::Int64;

/// Appends a value.
#[inline]
pub(crate) fn push_value(out: &mut Vec<u8>, cql_type: &CqlType, bytes: &[u8], int64: Int64) {
    match cql_type {
        CqlType::Native(Native::Text) => {
            if !push_utf8(out, bytes) {
                push_raw(out, bytes);
            }
        }
        CqlType::Native(native) => push_scalar(out, Scalar::read(*native, bytes), int64),
        _ if bytes.is_empty() => push_empty(out),
        _ => {
            let start = out.len();
            if push_compound(out, cql_type, bytes, int64).is_none() {
                out.truncate(start);
                push_raw(out, bytes);
            }
        }
    }
}

/// Appends a 64-bit integer in the form that was asked for.
#[inline]
pub(crate) fn push_int64(out: &mut Vec<u8>, value: i64, int64: Int64) {
    match int64 {
        Int64::Number => push_int(out, value),
        Int64::String => {
            out.push(b'"');
            push_int(out, value);
            out.push(b'"');
        }
    }
}

fn push_empty(out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"$empty\":true}");
}

#[inline]
fn push_scalar(out: &mut Vec<u8>, scalar: Scalar<'_>, int64: Int64) {
    match scalar {
        Scalar::Text(text) => push_str(out, text),
        Scalar::Blob(bytes) => {
            out.push(b'"');
            push_base64(out, bytes);
            out.push(b'"');
        }
        Scalar::Boolean(value) => out.extend_from_slice(if value { b"true" } else { b"false" }),
        Scalar::Integer(value) => push_int(out, value),
        Scalar::Bigint(value) | Scalar::Timestamp(value) => push_int64(out, value, int64),
        Scalar::Float(value) => push_float(out, value),
        Scalar::Double(value) if value.is_finite() => {
            out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
        }
        Scalar::Double(value) => push_not_finite(out, value),
        Scalar::Uuid(id) => {
            out.push(b'"');
            push_uuid(out, u128::from_be_bytes(*id));
            out.push(b'"');
        }
        Scalar::Date(day) => push_day(out, day),
        Scalar::Time(nanos) => {
            out.push(b'"');
            push_clock(out, nanos / 1_000_000_000);
            out.push(b'.');
            push_padded(out, nanos % 1_000_000_000, 9);
            out.push(b'"');
        }
        Scalar::Inet4(address) => push_display(out, std::net::Ipv4Addr::from(*address)),
        Scalar::Inet6(address) => push_display(out, std::net::Ipv6Addr::from(*address)),
        Scalar::Varint(bytes) => push_varint(out, bytes),
        Scalar::Decimal { scale, unscaled } => push_decimal(out, scale, unscaled),
        Scalar::Duration { months, days, nanos } => {
            out.extend_from_slice(b"{\"months\":");
            push_int(out, months);
            out.extend_from_slice(b",\"days\":");
            push_int(out, days);
            out.extend_from_slice(b",\"nanos\":");
            push_int64(out, nanos, int64);
            out.push(b'}');
        }
        Scalar::Empty => push_empty(out),
        Scalar::Raw(bytes) => push_raw(out, bytes),
    }
}

fn push_float(out: &mut Vec<u8>, value: f32) {
    if !value.is_finite() {
        push_not_finite(out, f64::from(value));
        return;
    }
    // The only float whose shortest digits a reader that parses doubles turns into its neighbour (all 2^32 were tried).
    if value.to_bits() & 0x7fff_ffff == 0x15ae_43fd {
        out.extend_from_slice(if value < 0.0 { b"-7.0385307e-26" } else { b"7.0385307e-26" });
        return;
    }
    out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
}

/// JSON has no numbers for these.
fn push_not_finite(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(match (value.is_nan(), value > 0.0) {
        (true, _) => b"\"NaN\"",
        (_, true) => b"\"Infinity\"",
        _ => b"\"-Infinity\"",
    });
}

fn push_day(out: &mut Vec<u8>, day: i32) {
    out.push(b'"');
    if push_date(out, i64::from(day)) {
        out.push(b'"');
    } else {
        out.pop();
        push_int(out, day);
    }
}

fn push_display(out: &mut Vec<u8>, value: impl std::fmt::Display) {
    use std::io::Write as _;
    out.push(b'"');
    // Writing to a Vec can't fail.
    let _ = write!(out, "{value}");
    out.push(b'"');
}

fn push_varint(out: &mut Vec<u8>, bytes: &[u8]) {
    if bytes.len() > digits::MAX_BYTES {
        push_raw(out, bytes);
        return;
    }
    out.push(b'"');
    digits::push_integer(out, bytes);
    out.push(b'"');
}

fn push_decimal(out: &mut Vec<u8>, scale: i32, unscaled: &[u8]) {
    if unscaled.len() > digits::MAX_BYTES {
        out.extend_from_slice(b"{\"$base64\":\"");
        push_base64(out, &[scale.to_be_bytes().as_slice(), unscaled].concat());
        out.extend_from_slice(b"\"}");
        return;
    }
    out.push(b'"');
    digits::push_decimal(out, scale, unscaled);
    out.push(b'"');
}

/// Appends a value with an inside, or half of it and nothing where its bytes can't be rebuilt from one.
fn push_compound(out: &mut Vec<u8>, cql_type: &CqlType, bytes: &[u8], int64: Int64) -> Option<()> {
    match cql_type {
        CqlType::List { element, .. } | CqlType::Set { element, .. } => push_list(out, element, bytes, int64),
        CqlType::Map { key, value, .. } => push_map(out, key, value, bytes, int64),
        CqlType::Tuple(types) => push_tuple(out, types, bytes, int64),
        CqlType::Udt { definition, .. } => push_udt(out, definition, bytes, int64),
        CqlType::Vector { element, dimension } => push_vector(out, element, *dimension, bytes, int64),
        CqlType::Native(_) | CqlType::Custom { .. } => None,
    }
}

fn push_optional(out: &mut Vec<u8>, cql_type: &CqlType, bytes: Option<&[u8]>, int64: Int64) {
    match bytes {
        Some(bytes) => push_value(out, cql_type, bytes, int64),
        None => out.extend_from_slice(b"null"),
    }
}

fn push_list(out: &mut Vec<u8>, element: &CqlType, bytes: &[u8], int64: Int64) -> Option<()> {
    let (count, mut rest) = count(bytes)?;
    out.push(b'[');
    for index in 0..count {
        if index > 0 {
            out.push(b',');
        }
        let (value, behind) = item(rest)?;
        push_optional(out, element, value, int64);
        rest = behind;
    }
    out.push(b']');
    rest.is_empty().then_some(())
}

fn push_map(out: &mut Vec<u8>, key: &CqlType, value: &CqlType, bytes: &[u8], int64: Int64) -> Option<()> {
    let (count, mut rest) = count(bytes)?;
    out.push(b'[');
    for index in 0..count {
        out.extend_from_slice(if index > 0 { b",[" } else { b"[" });
        let (entry_key, behind) = item(rest)?;
        push_optional(out, key, entry_key, int64);
        out.push(b',');
        let (entry_value, behind) = item(behind)?;
        push_optional(out, value, entry_value, int64);
        out.push(b']');
        rest = behind;
    }
    out.push(b']');
    rest.is_empty().then_some(())
}

fn push_tuple(out: &mut Vec<u8>, types: &[CqlType], bytes: &[u8], int64: Int64) -> Option<()> {
    let mut rest = bytes;
    out.push(b'[');
    for (index, component) in types.iter().enumerate() {
        // The value may end early: components added to the type later are not in it.
        if rest.is_empty() {
            break;
        }
        if index > 0 {
            out.push(b',');
        }
        let (value, behind) = item(rest)?;
        push_optional(out, component, value, int64);
        rest = behind;
    }
    out.push(b']');
    rest.is_empty().then_some(())
}

fn push_udt(out: &mut Vec<u8>, definition: &UserType, bytes: &[u8], int64: Int64) -> Option<()> {
    if has_reserved_field(definition) {
        return None;
    }
    let mut rest = bytes;
    out.push(b'{');
    for (index, field) in definition.fields.iter().enumerate() {
        if rest.is_empty() {
            break;
        }
        if index > 0 {
            out.push(b',');
        }
        push_str(out, &field.name);
        out.push(b':');
        let (value, behind) = item(rest)?;
        push_optional(out, &field.cql_type, value, int64);
        rest = behind;
    }
    out.push(b'}');
    rest.is_empty().then_some(())
}

fn push_vector(out: &mut Vec<u8>, element: &CqlType, dimension: u32, bytes: &[u8], int64: Int64) -> Option<()> {
    let mut rest = bytes;
    let fixed = element.fixed_len().map(|len| len as usize);
    if fixed == Some(0) {
        // Nothing but the type would bound how many there are.
        return None;
    }
    out.push(b'[');
    for index in 0..dimension {
        if index > 0 {
            out.push(b',');
        }
        let (value, behind) = match fixed {
            Some(len) => rest.split_at_checked(len)?,
            None => vector_item(rest)?,
        };
        push_value(out, element, value, int64);
        rest = behind;
    }
    out.push(b']');
    rest.is_empty().then_some(())
}
