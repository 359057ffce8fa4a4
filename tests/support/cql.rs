//! CQL types as their text in `system_schema`, and values of them from an event's JSON back to Cassandra's bytes.
//!
//! Knows nothing of the encoder it checks: this is what a consumer writes who wants the bytes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// A type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    Native(String),
    List(Box<Type>),
    Set(Box<Type>),
    Map(Box<Type>, Box<Type>),
    Tuple(Vec<Type>),
    Vector(Box<Type>),
    /// Fields in declared order.
    Udt(Vec<(String, Type)>),
}

/// The types of all columns of a schema file.
#[derive(Debug, Default)]
pub struct Types {
    columns: BTreeMap<(String, String, String), Type>,
}

type UserTypes = BTreeMap<(String, String), (Vec<String>, Vec<String>)>;

fn text<'a>(row: &'a Value, member: &str) -> &'a str {
    row[member].as_str().unwrap_or_else(|| panic!("{member} of {row}"))
}

fn rows<'a>(schema: &'a Value, table: &str) -> impl Iterator<Item = &'a Value> {
    schema[table].as_array().into_iter().flatten()
}

impl Types {
    /// The types of a schema file's columns; a live column hides a dropped one of its name.
    pub fn of(schema: &Value) -> Self {
        let strings = |list: &Value| -> Vec<String> {
            list.as_array().expect("a list").iter().map(|item| item.as_str().expect("text").to_owned()).collect()
        };
        let user_types: UserTypes = rows(schema, "types")
            .map(|row| {
                let name = (text(row, "keyspace_name").to_owned(), text(row, "type_name").to_owned());
                (name, (strings(&row["field_names"]), strings(&row["field_types"])))
            })
            .collect();
        let mut columns = BTreeMap::new();
        for row in rows(schema, "dropped_columns").chain(rows(schema, "columns")) {
            let [keyspace, table, column] =
                ["keyspace_name", "table_name", "column_name"].map(|member| text(row, member).to_owned());
            let parsed = parse(text(row, "type"), &keyspace, &user_types);
            columns.insert((keyspace, table, column), parsed);
        }
        Self { columns }
    }

    pub fn column(&self, keyspace: &str, table: &str, column: &str) -> Result<&Type, String> {
        let name = (keyspace.to_owned(), table.to_owned(), column.to_owned());
        self.columns.get(&name).ok_or_else(|| format!("no column {keyspace}.{table}.{column}"))
    }
}

/// The parameters of a type, split at the outermost commas.
fn parameters(text: &str) -> Vec<&str> {
    let (mut depth, mut start, mut found) = (0, 0, Vec::new());
    for (at, letter) in text.char_indices() {
        match letter {
            '<' => depth += 1,
            '>' => depth -= 1,
            ',' if depth == 0 => {
                found.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    found.push(text[start..].trim());
    found
}

fn parse(text: &str, keyspace: &str, user_types: &UserTypes) -> Type {
    let inner = |text: &str| Box::new(parse(text, keyspace, user_types));
    let Some((name, rest)) = text.split_once('<') else {
        let key = (keyspace.to_owned(), text.trim_matches('"').to_owned());
        let Some((names, types)) = user_types.get(&key) else { return Type::Native(text.to_owned()) };
        let fields = names.iter().zip(types);
        return Type::Udt(fields.map(|(name, text)| (name.clone(), parse(text, keyspace, user_types))).collect());
    };
    let of = parameters(rest.strip_suffix('>').expect("a closed type"));
    match name {
        "frozen" => parse(of[0], keyspace, user_types),
        "list" => Type::List(inner(of[0])),
        "set" => Type::Set(inner(of[0])),
        "map" => Type::Map(inner(of[0]), inner(of[1])),
        "vector" => Type::Vector(inner(of[0])),
        "tuple" => Type::Tuple(of.iter().map(|text| parse(text, keyspace, user_types)).collect()),
        _ => panic!("type {text}"),
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|letter| letter.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// A 64-bit integer in either form.
pub fn int(json: &Value) -> Result<i64, String> {
    let number = json.as_i64().or_else(|| json.as_str()?.parse().ok());
    number.ok_or_else(|| format!("{json} is no integer"))
}

fn string(json: &Value) -> Result<&str, String> {
    json.as_str().ok_or_else(|| format!("{json} is no string"))
}

fn float(json: &Value) -> Result<f64, String> {
    if let Some(number) = json.as_f64() {
        return Ok(number);
    }
    match string(json)? {
        "NaN" => Ok(f64::from_bits(0x7ff8_0000_0000_0000)),
        "Infinity" => Ok(f64::INFINITY),
        "-Infinity" => Ok(f64::NEG_INFINITY),
        other => Err(format!("{other:?} is no float")),
    }
}

fn array(json: &Value) -> Result<&Vec<Value>, String> {
    json.as_array().ok_or_else(|| format!("{json} is no array"))
}

pub fn base64(text: &str) -> Result<Vec<u8>, String> {
    STANDARD.decode(text).map_err(|error| error.to_string())
}

/// The value of an object's only member, if that is its name.
fn only<'a>(json: &'a Value, member: &str) -> Option<&'a Value> {
    json.as_object().filter(|object| object.len() == 1)?.get(member)
}

/// The bytes of a value that is there.
pub fn encode(of: &Type, json: &Value) -> Result<Vec<u8>, String> {
    if only(json, "$empty") == Some(&Value::Bool(true)) {
        return Ok(Vec::new());
    }
    if let Some(raw) = only(json, "$base64") {
        return base64(string(raw)?);
    }
    let mut bytes = Vec::new();
    match of {
        Type::Native(name) => return native(name, json),
        Type::List(element) | Type::Set(element) => {
            let items = array(json)?;
            bytes.extend_from_slice(&(items.len() as i32).to_be_bytes());
            for item in items {
                push(&mut bytes, element, item)?;
            }
        }
        Type::Map(key, value) => {
            let pairs = array(json)?;
            bytes.extend_from_slice(&(pairs.len() as i32).to_be_bytes());
            for pair in pairs {
                let [left, right] = array(pair)?.as_slice() else { return Err(format!("{pair} is no pair")) };
                push(&mut bytes, key, left)?;
                push(&mut bytes, value, right)?;
            }
        }
        Type::Tuple(types) => {
            let items = array(json)?;
            if items.len() > types.len() {
                return Err(format!("{json} has more than {} components", types.len()));
            }
            for (component, item) in types.iter().zip(items) {
                push(&mut bytes, component, item)?;
            }
        }
        Type::Vector(element) => {
            for item in array(json)? {
                let encoded = encode(element, item)?;
                if fixed_length(element).is_none() {
                    bytes.extend(unsigned_vint(encoded.len() as u64));
                }
                bytes.extend(encoded);
            }
        }
        Type::Udt(fields) => {
            let object = json.as_object().ok_or_else(|| format!("{json} is no object"))?;
            let names: Vec<&String> = object.keys().collect();
            let declared: Vec<&String> = fields.iter().map(|(name, _)| name).take(names.len()).collect();
            if names != declared {
                return Err(format!("fields {names:?} are not the first of the type"));
            }
            for ((_, field), value) in fields.iter().zip(object.values()) {
                push(&mut bytes, field, value)?;
            }
        }
    }
    Ok(bytes)
}

/// An item behind its length; -1 for null.
fn push(bytes: &mut Vec<u8>, of: &Type, json: &Value) -> Result<(), String> {
    if json.is_null() {
        bytes.extend_from_slice(&(-1_i32).to_be_bytes());
        return Ok(());
    }
    let encoded = encode(of, json)?;
    bytes.extend_from_slice(&(encoded.len() as i32).to_be_bytes());
    bytes.extend(encoded);
    Ok(())
}

/// Vectors of these have no lengths before their elements. `date`, `time`, `tinyint` and `smallint` are not among them.
fn fixed_length(of: &Type) -> Option<usize> {
    match of {
        Type::Native(name) => match name.as_str() {
            "boolean" => Some(1),
            "int" | "float" => Some(4),
            "bigint" | "double" | "timestamp" => Some(8),
            "uuid" | "timeuuid" => Some(16),
            _ => None,
        },
        Type::Vector(element) => fixed_length(element),
        _ => None,
    }
}

fn native(name: &str, json: &Value) -> Result<Vec<u8>, String> {
    let range = |error: std::num::TryFromIntError| format!("{json}: {error}");
    Ok(match name {
        "text" | "varchar" | "ascii" => string(json)?.as_bytes().to_vec(),
        "blob" => base64(string(json)?)?,
        "boolean" => vec![u8::from(json.as_bool().ok_or_else(|| format!("{json} is no boolean"))?)],
        "tinyint" => i8::try_from(int(json)?).map_err(range)?.to_be_bytes().to_vec(),
        "smallint" => i16::try_from(int(json)?).map_err(range)?.to_be_bytes().to_vec(),
        "int" => i32::try_from(int(json)?).map_err(range)?.to_be_bytes().to_vec(),
        "bigint" | "timestamp" => int(json)?.to_be_bytes().to_vec(),
        "float" => (float(json)? as f32).to_be_bytes().to_vec(),
        "double" => float(json)?.to_be_bytes().to_vec(),
        "varint" => integer(string(json)?)?,
        "decimal" => decimal(string(json)?)?,
        "uuid" | "timeuuid" => unhex(string(json)?),
        "inet" => match string(json)?.parse().map_err(|error| format!("{json}: {error}"))? {
            std::net::IpAddr::V4(address) => address.octets().to_vec(),
            std::net::IpAddr::V6(address) => address.octets().to_vec(),
        },
        "date" => {
            let day = json.as_i64().map_or_else(|| day(string(json)?), Ok)?;
            (i32::try_from(day).map_err(range)?.cast_unsigned() ^ 0x8000_0000).to_be_bytes().to_vec()
        }
        "time" => time(string(json)?)?.to_be_bytes().to_vec(),
        "duration" => ["months", "days", "nanos"]
            .map(|part| int(&json[part]).map(signed_vint))
            .into_iter()
            .collect::<Result<Vec<_>, _>>()?
            .concat(),
        other => return Err(format!("type {other}")),
    })
}

/// Two's complement of a decimal number, most significant byte first, as short as can be.
fn integer(text: &str) -> Result<Vec<u8>, String> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    // Least significant byte first, and one byte for the sign.
    let mut bytes = vec![0_u8];
    for letter in digits.chars() {
        let mut carry = letter.to_digit(10).ok_or_else(|| format!("{text:?} is no integer"))?;
        for byte in &mut bytes {
            let sum = u32::from(*byte) * 10 + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
        if carry > 0 {
            bytes.push(carry as u8);
        }
    }
    bytes.push(0);
    if negative {
        let mut carry = 1;
        for byte in &mut bytes {
            let sum = u32::from(!*byte) + carry;
            *byte = sum as u8;
            carry = sum >> 8;
        }
    }
    while let [.., next, last] = bytes[..]
        && ((last == 0 && next < 0x80) || (last == 0xff && next >= 0x80))
    {
        bytes.pop();
    }
    bytes.reverse();
    Ok(bytes)
}

fn decimal(text: &str) -> Result<Vec<u8>, String> {
    let wrong = || format!("{text:?} is no decimal");
    let (mantissa, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let exponent: i64 = exponent.parse().map_err(|_| wrong())?;
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i64);
    let scale = i32::try_from(fraction - exponent).map_err(|_| wrong())?;
    Ok([scale.to_be_bytes().to_vec(), integer(&mantissa.replace('.', ""))?].concat())
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar.
fn day(text: &str) -> Result<i64, String> {
    let wrong = || format!("{text:?} is no date");
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let parts: Vec<i64> = rest.split('-').map(|part| part.parse().map_err(|_| wrong())).collect::<Result<_, _>>()?;
    let [year, month, day] = parts[..] else { return Err(wrong()) };
    // March first: the leap day is then the last of its year.
    let (year, month) = if month > 2 { (sign * year, month - 3) } else { (sign * year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    Ok(365 * year + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468)
}

/// Nanoseconds since midnight.
fn time(text: &str) -> Result<i64, String> {
    let parts: Option<Vec<i64>> = text.split([':', '.']).map(|part| part.parse().ok()).collect();
    match parts.as_deref() {
        Some(&[hours, minutes, seconds, nanos]) if text.len() == "HH:MM:SS.nnnnnnnnn".len() => {
            Ok(((hours * 60 + minutes) * 60 + seconds) * 1_000_000_000 + nanos)
        }
        _ => Err(format!("{text:?} is no time")),
    }
}

fn signed_vint(value: i64) -> Vec<u8> {
    unsigned_vint(((value << 1) ^ (value >> 63)).cast_unsigned())
}

fn unsigned_vint(value: u64) -> Vec<u8> {
    let extra = (0..8_u32).find(|extra| value >> (7 * extra + 7) == 0).unwrap_or(8);
    let mut bytes = value.to_be_bytes()[8 - extra as usize..].to_vec();
    match (extra, bytes.len()) {
        (8, _) => bytes.insert(0, 0xff),
        (0, 0) => bytes.push(value as u8),
        _ => bytes.insert(0, (value >> (8 * extra)) as u8),
    }
    bytes[0] |= !(0xff_u32 >> extra) as u8;
    bytes
}

/// A counter's context from its shards: the header names the global and the local ones by index.
pub fn counter(cell: &Value) -> Result<Vec<u8>, String> {
    let shards = array(&cell["shards"])?;
    let (mut header, mut body, mut sum) = (Vec::new(), Vec::new(), 0_i64);
    for (index, shard) in shards.iter().enumerate() {
        let index = index as i16;
        match shard["kind"].as_str() {
            None => header.push(index + i16::MIN),
            Some("local") => header.push(index),
            Some("remote") => {}
            Some(other) => return Err(format!("a shard of kind {other}")),
        }
        body.extend(unhex(string(&shard["id"])?));
        body.extend(int(&shard["clock"])?.to_be_bytes());
        body.extend(int(&shard["count"])?.to_be_bytes());
        sum = sum.wrapping_add(int(&shard["count"])?);
    }
    if sum != int(&cell["value"])? {
        return Err(format!("the sum of {cell} is {sum}"));
    }
    let mut bytes = (header.len() as i16).to_be_bytes().to_vec();
    bytes.extend(header.iter().flat_map(|element| element.to_be_bytes()));
    bytes.extend(body);
    Ok(bytes)
}
