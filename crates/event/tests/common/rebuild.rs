//! From an event's JSON back to a value: what a consumer does that wants Cassandra's bytes.

use cassandra_commitlog::{CqlType, Native};
use num_bigint::BigInt;
use serde_json::Value;

use super::tree::{Tree, encode};

pub fn bytes(cql_type: &CqlType, json: &Value) -> Vec<u8> {
    encode(cql_type, &tree(cql_type, json))
}

fn text(json: &Value) -> &str {
    json.as_str().unwrap_or_else(|| panic!("{json} is no string"))
}

/// A 64-bit integer in either form.
fn int(json: &Value) -> i64 {
    json.as_i64().unwrap_or_else(|| text(json).parse().unwrap())
}

fn float(json: &Value) -> f64 {
    json.as_f64().unwrap_or_else(|| match text(json) {
        "NaN" => f64::from_bits(0x7ff8_0000_0000_0000),
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        other => panic!("{other}"),
    })
}

pub fn base64(text: &str) -> Vec<u8> {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = vec![];
    for group in text.as_bytes().chunks(4) {
        let padding = group.iter().filter(|byte| **byte == b'=').count();
        let word = group.iter().fold(0_u32, |word, byte| {
            word << 6 | alphabet.iter().position(|letter| letter == byte).unwrap_or(0) as u32
        });
        out.extend_from_slice(&word.to_be_bytes()[1..4 - padding]);
    }
    out
}

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

/// Days since 1970 of a date, by counting.
fn day(text: &str) -> i32 {
    let (sign, rest) = text.strip_prefix('-').map_or((1, text), |rest| (-1, rest));
    let parts: Vec<i64> = rest.split('-').map(|part| part.parse().unwrap()).collect();
    let (year, month, date) = (sign * parts[0], parts[1], parts[2]);
    let leap = |year: i64| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let mut days = 0;
    for y in year.min(1970)..year.max(1970) {
        days += 365 + i64::from(leap(y));
    }
    if year < 1970 {
        days = -days;
    }
    let lengths = [31, 28 + i64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    days += lengths[..month as usize - 1].iter().sum::<i64>() + date - 1;
    days as i32
}

fn decimal(text: &str) -> Tree {
    let (mantissa, exponent) = text.split_once('E').unwrap_or((text, "0"));
    let fraction = mantissa.split_once('.').map_or(0, |(_, fraction)| fraction.len() as i64);
    let digits: BigInt = mantissa.replace('.', "").parse().unwrap();
    Tree::Decimal(i32::try_from(fraction - exponent.parse::<i64>().unwrap()).unwrap(), digits)
}

fn tree(cql_type: &CqlType, json: &Value) -> Tree {
    if let Some(object) = json.as_object().filter(|object| object.len() == 1) {
        if object.get("$empty") == Some(&Value::Bool(true)) {
            return Tree::Empty;
        }
        if let Some(Value::String(raw)) = object.get("$base64") {
            return Tree::Raw(base64(raw));
        }
    }
    let items = |element: &CqlType| json.as_array().unwrap().iter().map(|item| tree(element, item)).collect();
    match cql_type {
        _ if json.is_null() => Tree::Null,
        CqlType::Native(native) => match native {
            Native::Text | Native::Ascii => Tree::Text(text(json).to_owned()),
            Native::Blob => Tree::Blob(base64(text(json))),
            Native::Boolean => Tree::Boolean(json.as_bool().unwrap()),
            Native::Tinyint | Native::Smallint | Native::Int => Tree::Integer(json.as_i64().unwrap()),
            Native::Bigint => Tree::Integer(int(json)),
            Native::Timestamp => Tree::Timestamp(int(json)),
            // The narrowing cast is what a reader of doubles does.
            Native::Float => Tree::Float((float(json) as f32).to_bits()),
            Native::Double => Tree::Double(float(json).to_bits()),
            Native::Uuid | Native::Timeuuid => Tree::Uuid(hex(text(json)).try_into().unwrap()),
            Native::Date => Tree::Date(json.as_i64().map_or_else(|| day(text(json)), |day| day as i32)),
            Native::Time => {
                let digits = text(json).replace([':', '.'], " ");
                let parts: Vec<i64> = digits.split(' ').map(|part| part.parse().unwrap()).collect();
                assert_eq!(text(json).len(), "HH:MM:SS.nnnnnnnnn".len());
                Tree::Time(((parts[0] * 60 + parts[1]) * 60 + parts[2]) * 1_000_000_000 + parts[3])
            }
            Native::Inet => Tree::Inet(match text(json).parse().unwrap() {
                std::net::IpAddr::V4(address) => address.octets().to_vec(),
                std::net::IpAddr::V6(address) => address.octets().to_vec(),
            }),
            Native::Varint => Tree::Varint(text(json).parse().unwrap()),
            Native::Decimal => decimal(text(json)),
            Native::Duration => Tree::Duration(
                json["months"].as_i64().unwrap() as i32,
                json["days"].as_i64().unwrap() as i32,
                int(&json["nanos"]),
            ),
            Native::Counter | Native::Empty => panic!("{json}"),
        },
        CqlType::List { element, .. } | CqlType::Set { element, .. } | CqlType::Vector { element, .. } => {
            Tree::List(items(element))
        }
        CqlType::Map { key, value, .. } => Tree::Map(
            json.as_array().unwrap().iter().map(|pair| (tree(key, &pair[0]), tree(value, &pair[1]))).collect(),
        ),
        CqlType::Tuple(types) => Tree::List(
            types.iter().zip(json.as_array().unwrap()).map(|(component, item)| tree(component, item)).collect(),
        ),
        CqlType::Udt { definition, .. } => {
            let object = json.as_object().unwrap();
            let present = definition.fields.iter().take(object.len());
            Tree::Udt(present.map(|field| (field.name.clone(), tree(&field.cql_type, &object[&field.name]))).collect())
        }
        CqlType::Custom { .. } => panic!("{json}"),
    }
}
