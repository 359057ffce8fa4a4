//! A value of any CQL type as the message `Value`.
//!
//! Owns: its fields. Does not own: which bytes a type can say (`scalar`), the framing of compound values (`compound`).

use cassandra_commitlog::{CqlType, Native, UserType};

use crate::compound::{count, has_reserved_field, item, vector_item};
use crate::scalar::Scalar;
use crate::wire::{
    Open, open, open_long, push_bytes, push_uint_default, push_varint, push_varint_flat, varint_len, zigzag,
};

/// The fields of `Value.kind`.
mod field {
    pub(super) const NULL: u8 = 1;
    pub(super) const EMPTY: u8 = 2;
    pub(super) const RAW: u8 = 3;
    pub(super) const TEXT: u8 = 4;
    pub(super) const BLOB: u8 = 5;
    pub(super) const BOOLEAN: u8 = 6;
    pub(super) const INTEGER: u8 = 7;
    pub(super) const FLOAT: u8 = 8;
    pub(super) const DOUBLE: u8 = 9;
    pub(super) const TIMESTAMP: u8 = 10;
    pub(super) const UUID: u8 = 11;
    pub(super) const DATE: u8 = 12;
    pub(super) const TIME: u8 = 13;
    pub(super) const INET: u8 = 14;
    pub(super) const VARINT: u8 = 15;
    pub(super) const DECIMAL: u8 = 16;
    pub(super) const DURATION: u8 = 17;
    pub(super) const LIST: u8 = 18;
    pub(super) const MAP: u8 = 19;
    pub(super) const UDT: u8 = 20;
    pub(super) const FLOATS: u8 = 21;
    pub(super) const CHUNK: u8 = 22;
}

/// Readers stop at a hundred nested messages, and a level of our values is up to three of them: what lies deeper goes
/// out raw.
const MAX_NESTING: u32 = 24;

/// Appends a value as field `number` of whatever message is open.
#[inline]
pub(crate) fn push_value(out: &mut Vec<u8>, number: u8, cql_type: &CqlType, bytes: &[u8]) {
    push_nested(out, number, cql_type, bytes, MAX_NESTING);
}

#[inline]
fn push_nested(out: &mut Vec<u8>, number: u8, cql_type: &CqlType, bytes: &[u8], depth: u32) {
    match cql_type {
        // Most text is ASCII, which is cheaper to see than UTF-8.
        CqlType::Native(Native::Text) if bytes.is_ascii() => push_blob(out, number, field::TEXT, bytes),
        CqlType::Native(native) => push_scalar(out, number, Scalar::read(*native, bytes)),
        _ if bytes.is_empty() => push_flag(out, number, field::EMPTY, true),
        _ => {
            let start = out.len();
            if push_compound(out, number, cql_type, bytes, depth).is_none() {
                out.truncate(start);
                push_blob(out, number, field::RAW, bytes);
            }
        }
    }
}

/// Appends a null.
pub(crate) fn push_null(out: &mut Vec<u8>, number: u8) {
    push_flag(out, number, field::NULL, true);
}

/// Appends an integer value.
pub(crate) fn push_integer(out: &mut Vec<u8>, number: u8, value: i64) {
    push_number(out, number, field::INTEGER, zigzag(value));
}

/// Appends a text value.
pub(crate) fn push_string(out: &mut Vec<u8>, number: u8, text: &str) {
    push_blob(out, number, field::TEXT, text.as_bytes());
}

/// Appends a piece of a value.
pub(crate) fn push_chunk_value(out: &mut Vec<u8>, number: u8, chunk: u32, chunks: u32, bytes: &[u8]) {
    let value = open_long(out, number);
    push_chunk(out, field::CHUNK, chunk, chunks, bytes);
    value.close(out);
}

/// Appends the message `Chunk` as a field.
pub(crate) fn push_chunk(out: &mut Vec<u8>, number: u8, chunk: u32, chunks: u32, bytes: &[u8]) {
    let message = open_long(out, number);
    push_uint_default(out, 1, u64::from(chunk));
    push_uint_default(out, 2, u64::from(chunks));
    if !bytes.is_empty() {
        push_bytes(out, 3, bytes);
    }
    message.close(out);
}

/// A value whose only member is a varint of one byte.
#[inline]
fn push_flag(out: &mut Vec<u8>, number: u8, member: u8, value: bool) {
    out.extend_from_slice(&[number << 3 | 2, 2, member << 3, u8::from(value)]);
}

/// A value whose only member, below 16, is a varint.
#[inline]
fn push_number(out: &mut Vec<u8>, number: u8, member: u8, value: u64) {
    // A varint has at most ten bytes: the length always fits one.
    out.extend_from_slice(&[number << 3 | 2, varint_len(value) as u8 + 1, member << 3]);
    push_varint_flat(out, value);
}

/// A value whose only member, below 16, is bytes.
#[inline]
fn push_blob(out: &mut Vec<u8>, number: u8, member: u8, bytes: &[u8]) {
    if let Ok(len @ 0..126) = u8::try_from(bytes.len()) {
        out.extend_from_slice(&[number << 3 | 2, len + 2, member << 3 | 2, len]);
    } else {
        let len = bytes.len() as u64;
        out.push(number << 3 | 2);
        push_varint(out, 1 + varint_len(len) as u64 + len);
        out.push(member << 3 | 2);
        push_varint(out, len);
    }
    out.extend_from_slice(bytes);
}

#[inline]
fn push_scalar(out: &mut Vec<u8>, number: u8, scalar: Scalar<'_>) {
    match scalar {
        Scalar::Text(text) => push_blob(out, number, field::TEXT, text.as_bytes()),
        Scalar::Integer(value) | Scalar::Bigint(value) => push_number(out, number, field::INTEGER, zigzag(value)),
        Scalar::Uuid(id) => {
            out.extend_from_slice(&[number << 3 | 2, 18, field::UUID << 3 | 2, 16]);
            out.extend_from_slice(id);
        }
        Scalar::Timestamp(value) => push_number(out, number, field::TIMESTAMP, zigzag(value)),
        Scalar::Blob(bytes) => push_blob(out, number, field::BLOB, bytes),
        Scalar::Boolean(value) => push_flag(out, number, field::BOOLEAN, value),
        Scalar::Float(value) => {
            let [a, b, c, d] = value.to_le_bytes();
            out.extend_from_slice(&[number << 3 | 2, 5, field::FLOAT << 3 | 5, a, b, c, d]);
        }
        Scalar::Double(value) => {
            out.extend_from_slice(&[number << 3 | 2, 9, field::DOUBLE << 3 | 1]);
            out.extend_from_slice(&value.to_le_bytes());
        }
        Scalar::Date(day) => push_number(out, number, field::DATE, zigzag(i64::from(day))),
        Scalar::Time(nanos) => push_number(out, number, field::TIME, nanos),
        Scalar::Inet4(address) => push_blob(out, number, field::INET, address),
        Scalar::Inet6(address) => push_blob(out, number, field::INET, address),
        Scalar::Varint(bytes) => push_blob(out, number, field::VARINT, bytes),
        Scalar::Decimal { scale, unscaled } => {
            let (value, message) = open_member(out, number, field::DECIMAL);
            push_uint_default(out, 1, zigzag(i64::from(scale)));
            push_bytes(out, 2, unscaled);
            close_member(out, value, message);
        }
        Scalar::Duration { months, days, nanos } => {
            let (value, message) = open_member(out, number, field::DURATION);
            push_uint_default(out, 1, zigzag(i64::from(months)));
            push_uint_default(out, 2, zigzag(i64::from(days)));
            push_uint_default(out, 3, zigzag(nanos));
            close_member(out, value, message);
        }
        Scalar::Empty => push_flag(out, number, field::EMPTY, true),
        Scalar::Raw(bytes) => push_blob(out, number, field::RAW, bytes),
    }
}

fn open_member(out: &mut Vec<u8>, number: u8, member: u8) -> (Open, Open) {
    (open(out, number), open(out, member))
}

fn close_member(out: &mut Vec<u8>, value: Open, message: Open) {
    message.close(out);
    value.close(out);
}

/// Appends a value with an inside, or half of it and nothing where its bytes can't be rebuilt from one.
fn push_compound(out: &mut Vec<u8>, number: u8, cql_type: &CqlType, bytes: &[u8], depth: u32) -> Option<()> {
    let depth = depth.checked_sub(1)?;
    let member = match cql_type {
        CqlType::Map { .. } => field::MAP,
        CqlType::Udt { .. } => field::UDT,
        CqlType::Vector { element, .. } if is_float(element) => field::FLOATS,
        CqlType::Native(_) | CqlType::Custom { .. } => return None,
        _ => field::LIST,
    };
    let (value, message) = open_member(out, number, member);
    match cql_type {
        CqlType::List { element, .. } | CqlType::Set { element, .. } => push_list(out, element, bytes, depth)?,
        CqlType::Map { key, value, .. } => push_map(out, key, value, bytes, depth)?,
        CqlType::Tuple(types) => push_tuple(out, types, bytes, depth)?,
        CqlType::Udt { definition, .. } => push_udt(out, definition, bytes, depth)?,
        CqlType::Vector { element, dimension } if is_float(element) => push_floats(out, *dimension, bytes)?,
        CqlType::Vector { element, dimension } => push_vector(out, element, *dimension, bytes, depth)?,
        CqlType::Native(_) | CqlType::Custom { .. } => return None,
    }
    close_member(out, value, message);
    Some(())
}

fn is_float(element: &CqlType) -> bool {
    matches!(element, CqlType::Native(Native::Float))
}

fn push_optional(out: &mut Vec<u8>, number: u8, cql_type: &CqlType, bytes: Option<&[u8]>, depth: u32) {
    match bytes {
        Some(bytes) => push_nested(out, number, cql_type, bytes, depth),
        None => push_null(out, number),
    }
}

fn push_list(out: &mut Vec<u8>, element: &CqlType, bytes: &[u8], depth: u32) -> Option<()> {
    let (count, mut rest) = count(bytes)?;
    for _ in 0..count {
        let (value, behind) = item(rest)?;
        push_optional(out, 1, element, value, depth);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

fn push_map(out: &mut Vec<u8>, key: &CqlType, value: &CqlType, bytes: &[u8], depth: u32) -> Option<()> {
    let (count, mut rest) = count(bytes)?;
    for _ in 0..count {
        let entry = open(out, 1);
        let (entry_key, behind) = item(rest)?;
        push_optional(out, 1, key, entry_key, depth);
        let (entry_value, behind) = item(behind)?;
        push_optional(out, 2, value, entry_value, depth);
        entry.close(out);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

fn push_tuple(out: &mut Vec<u8>, types: &[CqlType], bytes: &[u8], depth: u32) -> Option<()> {
    let mut rest = bytes;
    for component in types {
        if rest.is_empty() {
            break;
        }
        let (value, behind) = item(rest)?;
        push_optional(out, 1, component, value, depth);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

fn push_udt(out: &mut Vec<u8>, definition: &UserType, bytes: &[u8], depth: u32) -> Option<()> {
    if has_reserved_field(definition) {
        return None;
    }
    let mut rest = bytes;
    for field in &definition.fields {
        if rest.is_empty() {
            break;
        }
        let message = open(out, 1);
        crate::wire::push_text(out, 1, &field.name);
        let (value, behind) = item(rest)?;
        push_optional(out, 2, &field.cql_type, value, depth);
        message.close(out);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

fn push_vector(out: &mut Vec<u8>, element: &CqlType, dimension: u32, bytes: &[u8], depth: u32) -> Option<()> {
    let mut rest = bytes;
    let fixed = element.fixed_len().map(|len| len as usize);
    if fixed == Some(0) {
        // Nothing but the type would bound how many there are.
        return None;
    }
    for _ in 0..dimension {
        let (value, behind) = match fixed {
            Some(len) => rest.split_at_checked(len)?,
            None => vector_item(rest)?,
        };
        push_nested(out, 1, element, value, depth);
        rest = behind;
    }
    rest.is_empty().then_some(())
}

/// Packed, as embeddings are long. The bits go through unchanged, so every NaN can be rebuilt.
fn push_floats(out: &mut Vec<u8>, dimension: u32, bytes: &[u8]) -> Option<()> {
    let (floats, surplus) = bytes.as_chunks::<4>();
    if !surplus.is_empty() || floats.len() != dimension as usize {
        return None;
    }
    out.push(1 << 3 | 2);
    push_varint(out, bytes.len() as u64);
    for [a, b, c, d] in floats {
        out.extend_from_slice(&[*d, *c, *b, *a]);
    }
    Some(())
}
