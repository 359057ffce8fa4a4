//! Events in Protobuf, as the JSON that says the same.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use serde_json::{Map, Value, json};

use super::cql::hex;

#[allow(missing_docs, unreachable_pub, clippy::all, reason = "generated")]
pub mod generated {
    include!("../../crates/event/tests/generated/cassandra_cdc.v1.rs");
}

use generated::value::Kind;

/// The messages of a delimited stream.
pub fn events(mut bytes: &[u8]) -> Result<Vec<Value>, String> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let event = generated::Event::decode_length_delimited(&mut bytes).map_err(|error| error.to_string())?;
        events.push(self::event(&event));
    }
    Ok(events)
}

fn uuid(bytes: &[u8]) -> Value {
    let digits = hex(bytes);
    assert_eq!(digits.len(), 32);
    let parts = [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]];
    parts.join("-").into()
}

/// From 6.0 on Cassandra numbers its tables, in hex; a number is a UUID whose upper half is always the same.
fn table_id(bytes: &[u8]) -> Value {
    match bytes.strip_prefix(&[0x1b, 0x25, 0x5f, 0x4d, 0xef, 0x25, 0x40, 0xa6]) {
        Some(number) => format!("tid:{:x}", u64::from_be_bytes(number.try_into().expect("16 bytes"))).into(),
        None => uuid(bytes),
    }
}

/// An object of the members that are there.
fn object<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let there = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Value::Object(there.collect())
}

fn event(event: &generated::Event) -> Value {
    let source = event.source.as_ref().expect("a source");
    let static_row = event.r#static.as_ref();
    let list = |items: Vec<Value>| (!items.is_empty()).then_some(Value::Array(items));
    let number = |number: u32| (number > 0).then_some(number.into());
    object([
        ("v", Some(event.v.into())),
        ("id", Some(event.id.clone().into())),
        ("digest", Some(hex(&event.digest).into())),
        ("part", number(event.part)),
        ("parts", number(event.parts)),
        ("keyspace", Some(event.keyspace.clone().into())),
        ("table", Some(event.table.clone().into())),
        ("table_id", Some(table_id(&event.table_id))),
        ("key", Some(named(&event.key))),
        ("partition_delete", event.partition_delete.as_ref().map(deletion)),
        ("static", static_row.map(|row| cells(&row.cells))),
        ("static_liveness", static_row.and_then(|row| row.liveness.as_ref()).map(liveness)),
        ("static_delete", static_row.and_then(|row| row.delete.as_ref()).map(deletion)),
        ("rows", list(event.rows.iter().map(row).collect())),
        ("range_deletes", list(event.range_deletes.iter().map(range).collect())),
        (
            "source",
            Some(json!({
                "cluster": source.cluster, "host_id": source.host_id, "segment": source.segment,
                "position": source.position,
            })),
        ),
    ])
}

fn named(values: &[generated::Named]) -> Value {
    Value::Object(values.iter().map(|named| (named.name.clone(), optional(named.value.as_ref()))).collect())
}

fn optional(value: Option<&generated::Value>) -> Value {
    self::value(value.and_then(|value| value.kind.as_ref()).expect("one member is always set"))
}

fn deletion(deletion: &generated::Deletion) -> Value {
    let shadowable = deletion.shadowable.then_some(true.into());
    object([("ts", Some(deletion.ts.into())), ("at", Some(deletion.at.into())), ("shadowable", shadowable)])
}

fn liveness(liveness: &generated::Liveness) -> Value {
    let (ttl, expires) = (liveness.ttl.map(Value::from), liveness.expires.map(Value::from));
    object([("ts", Some(liveness.ts.into())), ("ttl", ttl), ("expires", expires)])
}

fn row(row: &generated::Row) -> Value {
    object([
        ("clustering", (!row.clustering.is_empty()).then(|| named(&row.clustering))),
        ("liveness", row.liveness.as_ref().map(liveness)),
        ("delete", row.delete.as_ref().map(deletion)),
        ("cells", (!row.cells.is_empty()).then(|| cells(&row.cells))),
    ])
}

fn range(range: &generated::RangeDelete) -> Value {
    let bound = |bound: &generated::Bound| {
        let clustering = (!bound.clustering.is_empty()).then(|| named(&bound.clustering));
        object([("clustering", clustering), ("inclusive", Some(bound.inclusive.into()))])
    };
    object([
        ("start", range.start.as_ref().map(bound)),
        ("end", range.end.as_ref().map(bound)),
        ("ts", Some(range.ts.into())),
        ("at", Some(range.at.into())),
    ])
}

fn cells(cells: &[generated::Cell]) -> Value {
    Value::Object(cells.iter().map(|cell| (cell.name.clone(), self::cell(cell))).collect())
}

fn cell(cell: &generated::Cell) -> Value {
    if cell.overwrite.is_some() || !cell.elements.is_empty() {
        let elements: Vec<Value> = cell.elements.iter().map(element).collect();
        let elements = (!elements.is_empty()).then_some(Value::Array(elements));
        return object([("overwrite", cell.overwrite.as_ref().map(deletion)), ("elements", elements)]);
    }
    let shards: Vec<Value> = cell.shards.iter().map(shard).collect();
    object([
        ("value", cell.value.as_ref().map(|value| optional(Some(value)))),
        ("shards", (!shards.is_empty()).then_some(Value::Array(shards))),
        ("ts", Some(cell.ts.into())),
        ("ttl", cell.ttl.map(Value::from)),
        ("expires", cell.expires.map(Value::from)),
        ("deleted", cell.deleted.map(Value::from)),
    ])
}

fn element(element: &generated::Element) -> Value {
    object([
        ("path", element.path.as_ref().map(|path| optional(Some(path)))),
        ("value", element.value.as_ref().map(|value| optional(Some(value)))),
        ("ts", Some(element.ts.into())),
        ("ttl", element.ttl.map(Value::from)),
        ("expires", element.expires.map(Value::from)),
        ("deleted", element.deleted.map(Value::from)),
    ])
}

fn shard(shard: &generated::Shard) -> Value {
    let kind = match shard.kind() {
        generated::shard::Kind::Global => None,
        generated::shard::Kind::Local => Some("local".into()),
        generated::shard::Kind::Remote => Some("remote".into()),
    };
    object([
        ("id", Some(uuid(&shard.id))),
        ("clock", Some(shard.clock.into())),
        ("count", Some(shard.count.into())),
        ("kind", kind),
    ])
}

fn raw(bytes: &[u8]) -> Value {
    json!({"$base64": STANDARD.encode(bytes)})
}

fn value(kind: &Kind) -> Value {
    match kind {
        Kind::Null(_) => Value::Null,
        Kind::Empty(_) => json!({"$empty": true}),
        // These are bytes of their types as they stand.
        Kind::Raw(bytes) | Kind::Blob(bytes) | Kind::Uuid(bytes) | Kind::Inet(bytes) | Kind::Varint(bytes) => {
            raw(bytes)
        }
        Kind::Decimal(decimal) => raw(&[decimal.scale.to_be_bytes().as_slice(), &decimal.unscaled].concat()),
        Kind::Float(float) => raw(&float.to_be_bytes()),
        Kind::Double(double) => raw(&double.to_be_bytes()),
        Kind::Time(nanos) => raw(&nanos.to_be_bytes()),
        Kind::Text(text) => text.clone().into(),
        Kind::Boolean(boolean) => (*boolean).into(),
        Kind::Integer(number) | Kind::Timestamp(number) => (*number).into(),
        Kind::Date(day) => (*day).into(),
        Kind::Duration(duration) => {
            json!({"months": duration.months, "days": duration.days, "nanos": duration.nanos})
        }
        Kind::List(list) => list.values.iter().map(|value| optional(Some(value))).collect(),
        Kind::Floats(floats) => floats.values.iter().map(|float| raw(&float.to_be_bytes())).collect(),
        Kind::Map(map) => {
            let pair =
                |entry: &generated::map::Entry| json!([optional(entry.key.as_ref()), optional(entry.value.as_ref())]);
            map.entries.iter().map(pair).collect()
        }
        Kind::Udt(udt) => {
            let fields = udt.fields.iter().map(|field| (field.name.clone(), optional(field.value.as_ref())));
            Value::Object(fields.collect::<Map<_, _>>())
        }
        Kind::Chunk(chunk) => {
            json!({"$chunk": chunk.chunk, "$chunks": chunk.chunks, "$base64": STANDARD.encode(&chunk.bytes)})
        }
    }
}
