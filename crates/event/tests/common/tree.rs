//! Values read the plain way: whatever can't be written back to the same bytes is raw.

use cassandra_commitlog::{CqlType, Native};
use num_bigint::BigInt;

#[derive(Debug, Clone, PartialEq)]
pub enum Tree {
    Null,
    Empty,
    Raw(Vec<u8>),
    Text(String),
    Blob(Vec<u8>),
    Boolean(bool),
    Integer(i64),
    Float(u32),
    Double(u64),
    Timestamp(i64),
    Uuid([u8; 16]),
    Date(i32),
    Time(i64),
    Inet(Vec<u8>),
    Varint(BigInt),
    Decimal(i32, BigInt),
    Duration(i32, i32, i64),
    List(Vec<Tree>),
    /// The bits of a vector of floats.
    Floats(Vec<u32>),
    Map(Vec<(Tree, Tree)>),
    Udt(Vec<(String, Tree)>),
}

pub fn parse(cql_type: &CqlType, bytes: &[u8]) -> Tree {
    let tree = lenient(cql_type, bytes);
    match tree {
        Some(tree) if encode(cql_type, &tree) == bytes => tree,
        _ if bytes.is_empty() => Tree::Empty,
        _ => Tree::Raw(bytes.to_vec()),
    }
}

fn number<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.get(..N)?.try_into().ok()
}

fn lenient(cql_type: &CqlType, bytes: &[u8]) -> Option<Tree> {
    match cql_type {
        CqlType::Native(native) => scalar(*native, bytes),
        CqlType::Custom { .. } => None,
        _ if bytes.is_empty() => None,
        CqlType::List { element, .. } | CqlType::Set { element, .. } => {
            let mut cursor = &bytes[4.min(bytes.len())..];
            let count = i32::from_be_bytes(number(bytes)?);
            let mut items = vec![];
            for _ in 0..count {
                items.push(item(element, &mut cursor)?);
            }
            Some(Tree::List(items))
        }
        CqlType::Map { key, value, .. } => {
            let mut cursor = &bytes[4.min(bytes.len())..];
            let count = i32::from_be_bytes(number(bytes)?);
            let mut items = vec![];
            for _ in 0..count {
                let key = item(key, &mut cursor)?;
                items.push((key, item(value, &mut cursor)?));
            }
            Some(Tree::Map(items))
        }
        CqlType::Tuple(types) => {
            let mut cursor = bytes;
            let mut items = vec![];
            for component in types {
                if !cursor.is_empty() {
                    items.push(item(component, &mut cursor)?);
                }
            }
            Some(Tree::List(items))
        }
        CqlType::Udt { definition, .. } => {
            let mut cursor = bytes;
            let mut items = vec![];
            for field in &definition.fields {
                if field.name.starts_with('$') {
                    return None;
                }
                if !cursor.is_empty() {
                    items.push((field.name.clone(), item(&field.cql_type, &mut cursor)?));
                }
            }
            Some(Tree::Udt(items))
        }
        CqlType::Vector { element, dimension } if **element == CqlType::Native(Native::Float) => {
            let floats = bytes.chunks(4).map(|float| number(float).map(u32::from_be_bytes));
            Some(Tree::Floats(floats.collect::<Option<_>>()?)).filter(|_| bytes.len() == 4 * *dimension as usize)
        }
        CqlType::Vector { element, dimension } => {
            let mut cursor = bytes;
            let mut items = vec![];
            for _ in 0..*dimension {
                let len = match fixed(element) {
                    Some(len) => len,
                    None => usize::try_from(vint(&mut cursor)?).ok()?,
                };
                items.push(parse(element, cursor.get(..len)?));
                cursor = &cursor[len..];
            }
            Some(Tree::List(items))
        }
    }
}

fn fixed(cql_type: &CqlType) -> Option<usize> {
    match cql_type {
        CqlType::Native(Native::Boolean) => Some(1),
        CqlType::Native(Native::Int | Native::Float) => Some(4),
        CqlType::Native(Native::Bigint | Native::Double | Native::Timestamp) => Some(8),
        CqlType::Native(Native::Uuid | Native::Timeuuid) => Some(16),
        CqlType::Native(Native::Empty) => Some(0),
        CqlType::Vector { element, dimension } => Some(fixed(element)? * *dimension as usize),
        _ => None,
    }
}

fn item(cql_type: &CqlType, cursor: &mut &[u8]) -> Option<Tree> {
    let len = i32::from_be_bytes(number(cursor)?);
    *cursor = &cursor[4..];
    if len < 0 {
        return Some(Tree::Null);
    }
    let bytes = cursor.get(..len as usize)?;
    *cursor = &cursor[len as usize..];
    Some(parse(cql_type, bytes))
}

fn vint(cursor: &mut &[u8]) -> Option<u64> {
    let first = *cursor.first()?;
    let extra = first.leading_ones() as usize;
    let mut value = if extra >= 8 { 0 } else { u64::from(first) & (0xff >> (extra + 1).min(8)) };
    for byte in cursor.get(1..=extra)? {
        value = value << 8 | u64::from(*byte);
    }
    *cursor = &cursor[1 + extra..];
    Some(value)
}

fn signed_vint(cursor: &mut &[u8]) -> Option<i64> {
    let value = vint(cursor)?;
    Some((value >> 1) as i64 ^ -((value & 1) as i64))
}

fn scalar(native: Native, bytes: &[u8]) -> Option<Tree> {
    Some(match native {
        Native::Text => Tree::Text(String::from_utf8(bytes.to_vec()).ok()?),
        Native::Ascii if bytes.is_ascii() => Tree::Text(String::from_utf8(bytes.to_vec()).ok()?),
        Native::Blob => Tree::Blob(bytes.to_vec()),
        Native::Ascii | Native::Counter | Native::Empty => return None,
        _ if bytes.is_empty() => return None,
        Native::Boolean => Tree::Boolean(bytes[0] != 0),
        Native::Tinyint => Tree::Integer(i64::from(bytes[0] as i8)),
        Native::Smallint => Tree::Integer(i64::from(i16::from_be_bytes(number(bytes)?))),
        Native::Int => Tree::Integer(i64::from(i32::from_be_bytes(number(bytes)?))),
        Native::Bigint => Tree::Integer(i64::from_be_bytes(number(bytes)?)),
        Native::Timestamp => Tree::Timestamp(i64::from_be_bytes(number(bytes)?)),
        Native::Float => {
            let value = f32::from_be_bytes(number(bytes)?);
            Tree::Float(if value.is_nan() { 0x7fc0_0000 } else { value.to_bits() })
        }
        Native::Double => {
            let value = f64::from_be_bytes(number(bytes)?);
            Tree::Double(if value.is_nan() { 0x7ff8_0000_0000_0000 } else { value.to_bits() })
        }
        Native::Uuid | Native::Timeuuid => Tree::Uuid(number(bytes)?),
        Native::Date => Tree::Date((i64::from(u32::from_be_bytes(number(bytes)?)) - (1 << 31)) as i32),
        Native::Time => {
            let nanos = i64::from_be_bytes(number(bytes)?);
            Tree::Time(nanos.rem_euclid(86_400_000_000_000))
        }
        Native::Inet if bytes.len() == 4 || bytes.len() == 16 => Tree::Inet(bytes.to_vec()),
        Native::Inet => return None,
        Native::Varint => Tree::Varint(BigInt::from_signed_bytes_be(bytes)),
        Native::Decimal => Tree::Decimal(i32::from_be_bytes(number(bytes)?), BigInt::from_signed_bytes_be(&bytes[4..])),
        Native::Duration => {
            let mut cursor = bytes;
            let months = i32::try_from(signed_vint(&mut cursor)?).ok()?;
            let days = i32::try_from(signed_vint(&mut cursor)?).ok()?;
            Tree::Duration(months, days, signed_vint(&mut cursor)?)
        }
    })
}

pub fn push_vint(out: &mut Vec<u8>, value: u64) {
    let extra = (0..8).find(|extra| value < 1 << (7 * extra + 7)).unwrap_or(8);
    let bytes = value.to_be_bytes();
    if extra == 8 {
        out.push(0xff);
        out.extend_from_slice(&bytes);
        return;
    }
    let start = out.len();
    out.extend_from_slice(&bytes[7 - extra as usize..]);
    out[start] |= !(0xff_u16 >> extra) as u8;
}

pub fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn push_item(out: &mut Vec<u8>, cql_type: &CqlType, tree: &Tree) {
    if *tree == Tree::Null {
        out.extend_from_slice(&(-1_i32).to_be_bytes());
        return;
    }
    let bytes = encode(cql_type, tree);
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(&bytes);
}

pub fn encode(cql_type: &CqlType, tree: &Tree) -> Vec<u8> {
    let mut out = vec![];
    match (tree, cql_type) {
        (Tree::Null, _) => panic!("null has no bytes"),
        (Tree::Empty, _) => {}
        (Tree::Raw(bytes) | Tree::Blob(bytes) | Tree::Inet(bytes), _) => out.extend_from_slice(bytes),
        (Tree::Text(text), _) => out.extend_from_slice(text.as_bytes()),
        (Tree::Boolean(value), _) => out.push(u8::from(*value)),
        (Tree::Integer(value), CqlType::Native(native)) => {
            let len = match native {
                Native::Tinyint => 1,
                Native::Smallint => 2,
                Native::Int => 4,
                _ => 8,
            };
            out.extend_from_slice(&value.to_be_bytes()[8 - len..]);
        }
        (Tree::Float(bits), _) => out.extend_from_slice(&bits.to_be_bytes()),
        (Tree::Double(bits), _) => out.extend_from_slice(&bits.to_be_bytes()),
        (Tree::Timestamp(value) | Tree::Time(value), _) => out.extend_from_slice(&value.to_be_bytes()),
        (Tree::Uuid(id), _) => out.extend_from_slice(id),
        (Tree::Date(day), _) => out.extend_from_slice(&((i64::from(*day) + (1 << 31)) as u32).to_be_bytes()),
        (Tree::Varint(value), _) => out.extend_from_slice(&value.to_signed_bytes_be()),
        (Tree::Decimal(scale, value), _) => {
            out.extend_from_slice(&scale.to_be_bytes());
            out.extend_from_slice(&value.to_signed_bytes_be());
        }
        (Tree::Duration(months, days, nanos), _) => {
            for value in [i64::from(*months), i64::from(*days), *nanos] {
                push_vint(&mut out, zigzag(value));
            }
        }
        (Tree::List(items), CqlType::List { element, .. } | CqlType::Set { element, .. }) => {
            out.extend_from_slice(&(items.len() as i32).to_be_bytes());
            items.iter().for_each(|item| push_item(&mut out, element, item));
        }
        (Tree::List(items), CqlType::Tuple(types)) => {
            types.iter().zip(items).for_each(|(component, item)| push_item(&mut out, component, item));
        }
        (Tree::List(items), CqlType::Vector { element, .. }) => {
            for item in items {
                let bytes = encode(element, item);
                if fixed(element).is_none() {
                    push_vint(&mut out, bytes.len() as u64);
                }
                out.extend_from_slice(&bytes);
            }
        }
        (Tree::Floats(floats), _) => floats.iter().for_each(|bits| out.extend_from_slice(&bits.to_be_bytes())),
        (Tree::Map(items), CqlType::Map { key, value, .. }) => {
            out.extend_from_slice(&(items.len() as i32).to_be_bytes());
            for item in items {
                push_item(&mut out, key, &item.0);
                push_item(&mut out, value, &item.1);
            }
        }
        (Tree::Udt(items), CqlType::Udt { definition, .. }) => {
            for (field, (name, item)) in definition.fields.iter().zip(items) {
                assert_eq!(field.name, *name);
                push_item(&mut out, &field.cql_type, item);
            }
        }
        other => panic!("{other:?}"),
    }
    out
}
