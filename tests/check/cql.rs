//! A node that answers over CQL: who it is, what time it is, and the schema of a file; with a login and TLS if wanted.
//!
//! Owns: version 4 of the native protocol as far as a pull of the schema takes it. Does not own: what is in the schema.

use std::collections::BTreeSet;
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::ssl::SslAcceptor;
use serde_json::Value;

use crate::server::{Answer, Client, Rest, Server};

pub const HOST_ID: &str = "6f1c2f6e-0000-4000-8000-000000000001";
pub const CLUSTER: &str = "Shop";

/// What the node is like.
#[derive(Clone, Default)]
pub struct Node {
    /// The rows of `system_schema`, as in a schema file.
    pub schema: Value,
    /// How far its clock is ahead.
    pub ahead_seconds: u64,
    /// The one login, if one is wanted.
    pub login: Option<(&'static str, &'static str)>,
}

/// A column's type on the wire.
#[derive(Clone, Copy, PartialEq)]
enum Type {
    Bigint = 0x02,
    Boolean = 0x04,
    Double = 0x07,
    Uuid = 0x0c,
    Text = 0x0d,
    Inet = 0x10,
    List = 0x20,
    Map = 0x21,
    Set = 0x22,
}

type Rows = (Vec<(String, Type)>, Vec<Vec<Option<Vec<u8>>>>);

impl Node {
    pub fn start(self, tls: Option<SslAcceptor>) -> Server {
        Server::start(tls, move |client, _| self.serve(client))
    }

    fn serve(&self, client: &mut dyn Client) -> io::Result<()> {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head)?;
            // A client that talks TLS is told what a node would tell it: nothing.
            if head[0] != 4 {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut body = vec![0; u32::from_be_bytes(head[5..].try_into().unwrap()) as usize];
            client.read_exact(&mut body)?;
            let mut answer = Answer::default();
            let opcode = self.answer(head[4], Rest(&body), &mut answer);
            let length = (answer.0.len() as u32).to_be_bytes();
            client.write_all(&[&[0x84, 0, head[2], head[3], opcode], &length[..], &answer.0].concat())?;
            client.flush()?;
        }
    }

    /// Gives the opcode.
    fn answer(&self, opcode: u8, mut rest: Rest<'_>, answer: &mut Answer) -> u8 {
        const ERROR: u8 = 0x00;
        const READY: u8 = 0x02;
        const RESULT: u8 = 0x08;
        match opcode {
            // OPTIONS: SUPPORTED
            0x05 => {
                answer.int16(1).text("CQL_VERSION").int16(1).text("3.4.5");
                0x06
            }
            // STARTUP: AUTHENTICATE
            0x01 if self.login.is_some() => {
                answer.text("org.apache.cassandra.auth.PasswordAuthenticator");
                0x03
            }
            // STARTUP, REGISTER
            0x01 | 0x0b => READY,
            // AUTH_RESPONSE: AUTH_SUCCESS
            0x0f => {
                let (user, password) = self.login.expect("a login");
                if rest.bytes() == format!("\0{user}\0{password}").as_bytes() {
                    answer.int32(-1);
                    return 0x10;
                }
                answer.int32(0x0100).text("Provided username cdc and/or password are incorrect");
                ERROR
            }
            // PREPARE: the statement is its own id.
            0x09 => {
                let statement = std::str::from_utf8(rest.bytes()).unwrap();
                answer.int32(4).text(statement).int32(0).int32(0).int32(0);
                columns(&self.rows(statement).0, answer);
                RESULT
            }
            // QUERY, EXECUTE
            0x07 | 0x0a => {
                let statement = if opcode == 7 { std::str::from_utf8(rest.bytes()).unwrap() } else { rest.text() };
                let (types, rows) = self.rows(statement);
                answer.int32(2);
                columns(&types, answer);
                answer.count(rows.len());
                for value in rows.into_iter().flatten() {
                    match value {
                        Some(bytes) => answer.bytes(&bytes),
                        None => answer.int32(-1),
                    };
                }
                RESULT
            }
            other => panic!("opcode {other:#x}"),
        }
    }

    fn rows(&self, statement: &str) -> Rows {
        let lower = statement.to_lowercase();
        let of = |name: &str, value: &str| (name.to_owned(), Value::from(value));
        if lower.contains("now()") {
            return of_json(&[Value::Object([of("now", &self.now())].into_iter().collect())]);
        }
        if lower.contains("rpc_address") {
            return peers(lower.contains("system.local"));
        }
        if lower.contains("system.local") {
            let row = [
                of("cluster_name", CLUSTER),
                of("host_id", HOST_ID),
                of("release_version", "4.1.10"),
                of("schema_version", "one"),
            ];
            return of_json(&[Value::Object(row.into_iter().collect())]);
        }
        let schema = self.schema.as_object().expect("an object of tables");
        if lower.contains("where keyspace_name = 'system_schema'") {
            let rows: Vec<Value> =
                schema.keys().map(|name| Value::Object([of("table_name", name)].into_iter().collect())).collect();
            return of_json(&rows);
        }
        let table = lower.split("system_schema.").nth(1).unwrap_or_else(|| panic!("{statement}"));
        of_json(schema[table].as_array().expect("rows"))
    }

    /// A UUID of version 1.
    fn now(&self) -> String {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        let ticks = (since + self.ahead_seconds * 1000) * 10_000 + 0x01b2_1dd2_1381_4000;
        let (low, middle, high) = (ticks & 0xffff_ffff, (ticks >> 32) & 0xffff, ticks >> 48);
        format!("{low:08x}-{middle:04x}-1{high:03x}-8000-000000000000")
    }
}

fn columns(types: &[(String, Type)], answer: &mut Answer) {
    answer.int32(1).count(types.len()).text("system").text("any");
    for (name, kind) in types {
        answer.text(name).int16(*kind as i16);
        for _ in 0..match kind {
            Type::Map => 2,
            Type::List | Type::Set => 1,
            _ => 0,
        } {
            answer.int16(Type::Text as i16);
        }
    }
}

/// What a driver wants to know of a node before anything else.
fn peers(is_local: bool) -> Rows {
    let uuid: Vec<u8> = crate::support::cql::unhex(&HOST_ID.replace('-', ""));
    let columns = [
        ("host_id", Type::Uuid, uuid),
        ("rpc_address", Type::Inet, vec![127, 0, 0, 1]),
        ("data_center", Type::Text, b"dc1".to_vec()),
        ("rack", Type::Text, b"r1".to_vec()),
        ("tokens", Type::Set, many(["0"].iter().copied())),
        ("cluster_name", Type::Text, CLUSTER.as_bytes().to_vec()),
    ];
    // Peers do not tell the cluster's name.
    let columns = &columns[..if is_local { 6 } else { 5 }];
    let types = columns.iter().map(|(name, kind, _)| ((*name).to_owned(), *kind)).collect();
    let row = columns.iter().map(|(.., value)| Some(value.clone())).collect();
    (types, if is_local { vec![row] } else { Vec::new() })
}

/// Rows whose types are those of their JSON.
fn of_json(rows: &[Value]) -> Rows {
    let objects: Vec<_> = rows.iter().map(|row| row.as_object().expect("a row")).collect();
    let names: BTreeSet<&String> = objects.iter().flat_map(|row| row.keys()).collect();
    let kind = |name: &str| {
        let values = objects.iter().filter_map(|row| row.get(name));
        match values.clone().find(|value| !value.is_null()) {
            Some(Value::Bool(_)) => Type::Boolean,
            Some(Value::Number(_)) if values.clone().any(Value::is_f64) => Type::Double,
            Some(Value::Number(_)) => Type::Bigint,
            Some(Value::Array(_)) => Type::List,
            Some(Value::Object(_)) => Type::Map,
            _ => Type::Text,
        }
    };
    let types: Vec<(String, Type)> = names.iter().map(|name| ((*name).clone(), kind(name))).collect();
    let value = |row: &serde_json::Map<String, Value>, (name, kind): &(String, Type)| {
        row.get(name).filter(|value| !value.is_null()).map(|value| of_value(value, *kind))
    };
    let values = objects.iter().map(|row| types.iter().map(|column| value(row, column)).collect()).collect();
    (types, values)
}

fn of_value(value: &Value, kind: Type) -> Vec<u8> {
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    match (kind, value) {
        (Type::Boolean, Value::Bool(flag)) => vec![u8::from(*flag)],
        (Type::Bigint, Value::Number(number)) => number.as_i64().unwrap().to_be_bytes().to_vec(),
        (Type::Double, Value::Number(number)) => number.as_f64().unwrap().to_be_bytes().to_vec(),
        (Type::List, Value::Array(items)) => many(items.iter().map(|item| item.as_str().unwrap())),
        (Type::Map, Value::Object(members)) => {
            let mut answer = Answer::default();
            answer.count(members.len());
            for (key, value) in members {
                answer.bytes(key.as_bytes()).bytes(text(value).as_bytes());
            }
            answer.0
        }
        (_, value) => text(value).into_bytes(),
    }
}

fn many<'t>(items: impl ExactSizeIterator<Item = &'t str>) -> Vec<u8> {
    let mut answer = Answer::default();
    answer.count(items.len());
    for item in items {
        answer.bytes(item.as_bytes());
    }
    answer.0
}
