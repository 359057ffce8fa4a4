//! The event of an update as a tree of JSON, built the plain way from what the update was made of.

use cassandra_commitlog::{CellState, Column, CqlType, DeletionTime, Expiry, Liveness, Native};
use serde_json::{Map, Value, json};
use xxhash_rust::xxh3::xxh3_128;

use super::model::{CellSpec, ColumnSpec, Owned, RowSpec, Spec};
use super::tree::{Tree, parse};

pub fn base64(bytes: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for group in bytes.chunks(3) {
        let word = (0..3).fold(0, |word, at| word << 8 | usize::from(*group.get(at).unwrap_or(&0)));
        for at in 0..4 {
            out.push(if at <= group.len() { char::from(alphabet[word >> (18 - 6 * at) & 63]) } else { '=' });
        }
    }
    out
}

pub fn uuid(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn date(day: i32) -> Value {
    if !(-4_371_587..=2_932_896).contains(&day) {
        return json!(day);
    }
    let leap = |year: i32| year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let (mut year, mut rest) = (1970, day);
    while rest < 0 {
        year -= 1;
        rest += 365 + i32::from(leap(year));
    }
    while rest >= 365 + i32::from(leap(year)) {
        rest -= 365 + i32::from(leap(year));
        year += 1;
    }
    let mut month = 0;
    let lengths = [31, 28 + i32::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    while rest >= lengths[month] {
        rest -= lengths[month];
        month += 1;
    }
    let sign = if year < 0 { "-" } else { "" };
    json!(format!("{sign}{:04}-{:02}-{:02}", year.abs(), month + 1, rest + 1))
}

/// `BigDecimal.toString` as its documentation tells it.
fn decimal(scale: i32, unscaled: &num_bigint::BigInt) -> String {
    let text = unscaled.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or(("", text.as_str()), |digits| ("-", digits));
    let adjusted = -i64::from(scale) + (digits.len() as i64 - 1);
    if scale >= 0 && adjusted >= -6 {
        let scale = scale as usize;
        if scale == 0 {
            return text;
        }
        let padded = format!("{digits:0>width$}", width = scale + 1);
        let (whole, fraction) = padded.split_at(padded.len() - scale);
        return format!("{sign}{whole}.{fraction}");
    }
    let (first, rest) = digits.split_at(1);
    let dot = if rest.is_empty() { "" } else { "." };
    format!("{sign}{first}{dot}{rest}E{adjusted:+}")
}

fn double(value: f64) -> Value {
    match value {
        _ if value.is_nan() => json!("NaN"),
        f64::INFINITY => json!("Infinity"),
        f64::NEG_INFINITY => json!("-Infinity"),
        _ => json!(value),
    }
}

fn float(value: f32) -> Value {
    // Where two texts are equally short and near, which one is a matter of taste: the one of serde_json.
    let shortest: f64 = serde_json::to_string(&value).unwrap().parse().unwrap_or_default();
    match value {
        _ if !value.is_finite() => double(f64::from(value)),
        _ if shortest as f32 == value => json!(shortest),
        _ => json!(f64::from(value.signum()) * 7.038_530_7e-26),
    }
}

fn tree(value: &Tree) -> Value {
    match value {
        Tree::Null => Value::Null,
        Tree::Empty => json!({"$empty": true}),
        Tree::Raw(bytes) => json!({"$base64": base64(bytes)}),
        Tree::Text(text) => json!(text),
        Tree::Blob(bytes) => json!(base64(bytes)),
        Tree::Boolean(value) => json!(value),
        Tree::Integer(value) | Tree::Timestamp(value) => json!(value),
        Tree::Float(bits) => float(f32::from_bits(*bits)),
        Tree::Double(bits) => double(f64::from_bits(*bits)),
        Tree::Uuid(id) => json!(uuid(id)),
        Tree::Date(day) => date(*day),
        Tree::Time(nanos) => {
            let (second, nanos) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
            json!(format!("{:02}:{:02}:{:02}.{nanos:09}", second / 3600, second / 60 % 60, second % 60))
        }
        Tree::Inet(bytes) => json!(match <[u8; 4]>::try_from(bytes.as_slice()) {
            Ok(address) => std::net::Ipv4Addr::from(address).to_string(),
            Err(_) => std::net::Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).unwrap()).to_string(),
        }),
        Tree::Varint(value) => json!(value.to_string()),
        Tree::Decimal(scale, unscaled) => json!(decimal(*scale, unscaled)),
        Tree::Duration(months, days, nanos) => json!({"months": months, "days": days, "nanos": nanos}),
        Tree::List(items) => items.iter().map(tree).collect(),
        Tree::Floats(floats) => {
            let float = |bits: &u32| self::value(&CqlType::Native(Native::Float), &bits.to_be_bytes());
            floats.iter().map(float).collect()
        }
        Tree::Map(items) => items.iter().map(|(key, value)| json!([tree(key), tree(value)])).collect(),
        Tree::Udt(items) => items.iter().map(|(name, value)| (name.clone(), tree(value))).collect(),
    }
}

pub fn value(cql_type: &CqlType, bytes: &[u8]) -> Value {
    tree(&parse(cql_type, bytes))
}

fn deletion(deletion: DeletionTime) -> Value {
    json!({"ts": deletion.marked_for_delete_at, "at": deletion.local_deletion_time})
}

fn expiry(object: &mut Map<String, Value>, expiry: Expiry) {
    object.insert("ttl".to_owned(), json!(expiry.ttl));
    object.insert("expires".to_owned(), json!(expiry.at));
}

fn liveness(liveness: Liveness) -> Value {
    let mut object = Map::from_iter([("ts".to_owned(), json!(liveness.timestamp))]);
    if let Some(end) = liveness.expiry {
        expiry(&mut object, end);
    }
    Value::Object(object)
}

fn clustering(columns: &[Column], values: &[Option<Vec<u8>>]) -> Value {
    let member = |(column, bytes): (&Column, &Option<Vec<u8>>)| {
        let json = bytes.as_ref().map_or(Value::Null, |bytes| value(&column.cql_type, bytes));
        (column.name.clone(), json)
    };
    columns.iter().zip(values).map(member).collect()
}

/// Id, clock, count, kind.
pub type ShardTuple = (Vec<u8>, i64, i64, Option<&'static str>);

/// The shards of a counter, where its header is the one that their kinds give.
pub fn shards(bytes: &[u8]) -> Option<Vec<ShardTuple>> {
    let count = i16::from_be_bytes(bytes.get(..2)?.try_into().unwrap());
    let count = usize::try_from(count).ok()?;
    let header: Vec<u16> =
        bytes.get(2..2 + 2 * count)?.chunks(2).map(|entry| u16::from_be_bytes(entry.try_into().unwrap())).collect();
    let body = &bytes[2 + 2 * count..];
    if !body.len().is_multiple_of(32) {
        return None;
    }
    let mut rebuilt = vec![];
    let shards: Vec<_> = body
        .chunks(32)
        .enumerate()
        .map(|(index, shard)| {
            let index = index as u16;
            let kind = if header.contains(&(index | 0x8000)) {
                rebuilt.push(index | 0x8000);
                None
            } else if header.contains(&index) {
                rebuilt.push(index);
                Some("local")
            } else {
                Some("remote")
            };
            let number = |at: usize| i64::from_be_bytes(shard[at..at + 8].try_into().unwrap());
            (shard[..16].to_vec(), number(16), number(24), kind)
        })
        .collect();
    (rebuilt == header).then_some(shards)
}

/// `value_type`: nothing for elements of sets.
fn cell(cell: &CellSpec, value_type: Option<&CqlType>) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("ts".to_owned(), json!(cell.ts));
    match cell.state {
        CellState::Deleted { at } => {
            object.insert("deleted".to_owned(), json!(at));
            return object;
        }
        CellState::Expiring(end) => expiry(&mut object, end),
        CellState::Live => {}
    }
    let Some(value_type) = value_type else { return object };
    object.insert("value".to_owned(), value(value_type, &cell.value));
    if *value_type == CqlType::Native(Native::Counter)
        && cell.path.is_empty()
        && let Some(shards) = shards(&cell.value)
    {
        let sum = shards.iter().fold(0_i64, |sum, shard| sum.wrapping_add(shard.2));
        let shards = shards.iter().map(|(id, clock, count, kind)| match kind {
            Some(kind) => json!({"id": uuid(id), "clock": clock, "count": count, "kind": kind}),
            None => json!({"id": uuid(id), "clock": clock, "count": count}),
        });
        object.insert("shards".to_owned(), shards.collect());
        object.insert("value".to_owned(), json!(sum));
    }
    object
}

fn element(cql_type: &CqlType, spec: &CellSpec) -> Value {
    let raw = CqlType::Custom { class: String::new() };
    let (path, value_type) = match cql_type {
        CqlType::List { element, .. } => (value(&CqlType::Native(Native::Timeuuid), &spec.path), Some(&**element)),
        CqlType::Set { element, .. } => (value(element, &spec.path), None),
        CqlType::Map { key, value: inner, .. } => (value(key, &spec.path), Some(&**inner)),
        CqlType::Udt { definition, .. } => {
            let index = i16::from_be_bytes(spec.path.as_slice().try_into().unwrap());
            match definition.fields.get(index as u16 as usize) {
                Some(field) => (json!(field.name), Some(&field.cql_type)),
                None => (json!(index), Some(&raw)),
            }
        }
        _ => unreachable!(),
    };
    // A path that is there keeps the value of a field from being read as a counter column's.
    let mut object = cell(&CellSpec { path: vec![1], ..spec.clone() }, value_type);
    object.insert("path".to_owned(), path);
    Value::Object(object)
}

fn columns(spec: &Spec, columns: &[ColumnSpec]) -> Value {
    let member = |column: &ColumnSpec| {
        let definition = &spec.table.columns[column.column];
        let json = if definition.cql_type.is_multi_cell() {
            let mut object = Map::new();
            if let Some(overwrite) = column.deletion {
                object.insert("overwrite".to_owned(), deletion(overwrite));
            }
            if !column.cells.is_empty() {
                let elements = column.cells.iter().map(|cell| element(&definition.cql_type, cell));
                object.insert("elements".to_owned(), elements.collect());
            }
            Value::Object(object)
        } else {
            Value::Object(cell(&column.cells[0], Some(&definition.cql_type)))
        };
        (definition.name.clone(), json)
    };
    columns.iter().map(member).collect()
}

fn row_deletion(row: &RowSpec) -> Option<Value> {
    let mut json = deletion(row.deletion?);
    if row.shadowable {
        json["shadowable"] = json!(true);
    }
    Some(json)
}

fn row(spec: &Spec, row: &RowSpec) -> Value {
    let mut object = Map::new();
    if !row.clustering.is_empty() {
        object.insert("clustering".to_owned(), clustering(&spec.table.clustering, &row.clustering));
    }
    if let Some(found) = row.liveness {
        object.insert("liveness".to_owned(), liveness(found));
    }
    if let Some(found) = row_deletion(row) {
        object.insert("delete".to_owned(), found);
    }
    if !row.columns.is_empty() {
        object.insert("cells".to_owned(), columns(spec, &row.columns));
    }
    Value::Object(object)
}

pub fn digest(owned: &Owned) -> u128 {
    let update = owned.update();
    xxh3_128(&update.identity.iter().flat_map(|span| update.bytes(*span).to_vec()).collect::<Vec<u8>>())
}

pub fn key(spec: &Spec) -> Value {
    let member = |(column, bytes): (&Column, &Vec<u8>)| (column.name.clone(), value(&column.cql_type, bytes));
    spec.table.partition_key.iter().zip(&spec.key).map(member).collect()
}

pub fn event(spec: &Spec, owned: &Owned) -> Value {
    let host = "6f1c0000-0000-4000-8000-000000000001";
    let mut event = json!({
        "v": 1,
        "id": format!("c1/{host}/1795246257030/62691/{}", spec.index),
        "digest": format!("{:032x}", digest(owned)),
        "keyspace": spec.table.keyspace,
        "table": spec.table.name,
        "table_id": uuid(&spec.table.id.0.to_be_bytes()),
        "key": key(spec),
        "source": {"cluster": "c1", "host_id": host, "segment": super::SEGMENT, "position": 62691},
    });
    if let Some(found) = spec.partition_deletion {
        event["partition_delete"] = deletion(found);
    }
    if let Some(found) = &spec.static_row {
        event["static"] = columns(spec, &found.columns);
        if let Some(found) = found.liveness {
            event["static_liveness"] = liveness(found);
        }
        if let Some(found) = row_deletion(found) {
            event["static_delete"] = found;
        }
    }
    if !spec.rows.is_empty() {
        event["rows"] = spec.rows.iter().map(|found| row(spec, found)).collect();
    }
    let ranges = spec.ranges.iter().map(|range| {
        let mut json = deletion(range.deletion);
        for (name, (values, inclusive)) in [("start", &range.start), ("end", &range.end)] {
            if !values.is_empty() {
                json[name] = json!({"clustering": clustering(&spec.table.clustering, values), "inclusive": inclusive});
            } else if !inclusive {
                json[name] = json!({"inclusive": false});
            }
        }
        json
    });
    if !spec.ranges.is_empty() {
        event["range_deletes"] = ranges.collect();
    }
    event
}
