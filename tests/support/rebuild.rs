//! From an event's JSON back to the change that Cassandra wrote.
//!
//! A member that it does not know is an error: what nobody looks at could be anything.

use serde_json::{Map, Value};

use super::cql::{Type, Types, counter, encode, hex, int};
use super::oracle::{Bound, Cell, Change, Column, Deletion, Liveness, Range, Row};

type Object = Map<String, Value>;

/// The members of an object, all of which must be among these.
fn members<'a>(json: &'a Value, known: &[&str]) -> Result<&'a Object, String> {
    let object = json.as_object().ok_or_else(|| format!("{json} is no object"))?;
    match object.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err(format!("a member {name:?} in {json}")),
        None => Ok(object),
    }
}

fn string(json: &Value) -> Result<String, String> {
    json.as_str().map(str::to_owned).ok_or_else(|| format!("{json} is no string"))
}

fn optional_int(json: Option<&Value>) -> Result<Option<i64>, String> {
    json.map(int).transpose()
}

fn required_int(object: &Object, name: &str) -> Result<i64, String> {
    optional_int(object.get(name))?.ok_or_else(|| format!("no {name}"))
}

fn array<'a>(object: &'a Object, name: &str) -> Result<&'a [Value], String> {
    match object.get(name) {
        None => Ok(&[]),
        Some(Value::Array(items)) if !items.is_empty() => Ok(items),
        Some(other) => Err(format!("{name}: {other}")),
    }
}

/// The table that an event is of.
struct Table<'t> {
    types: &'t Types,
    keyspace: String,
    name: String,
}

/// The change that an event tells of.
pub fn change(types: &Types, event: &Value) -> Result<Change, String> {
    let known = [
        "v",
        "id",
        "digest",
        "keyspace",
        "table",
        "table_id",
        "key",
        "partition_delete",
        "static",
        "static_liveness",
        "static_delete",
        "rows",
        "range_deletes",
        "source",
    ];
    let event = members(event, &known)?;
    if event.get("v") != Some(&Value::from(1)) {
        return Err("not format version 1".to_owned());
    }
    let table = Table { types, keyspace: string(&event["keyspace"])?, name: string(&event["table"])? };
    let key = table.named(&event["key"])?;
    let rows: Result<_, String> = array(event, "rows")?.iter().map(|row| table.row(row)).collect();
    let ranges: Result<_, String> = array(event, "range_deletes")?.iter().map(|range| table.range(range)).collect();
    Ok(Change {
        table_id: string(&event["table_id"])?,
        key: partition_key(&key)?,
        key_parts: key,
        partition_deletion: event.get("partition_delete").map(deletion).transpose()?,
        static_row: table.static_row(event)?,
        rows: rows?,
        ranges: ranges?,
        keyspace: table.keyspace,
        table: table.name,
    })
}

/// One part is the key itself; several stand behind their lengths, each before a zero byte.
fn partition_key(parts: &[(String, Option<String>)]) -> Result<String, String> {
    let bytes = |part: &(String, Option<String>)| part.1.clone().ok_or_else(|| format!("null in the key: {part:?}"));
    if let [part] = parts {
        return bytes(part);
    }
    parts.iter().map(|part| bytes(part).map(|value| format!("{:04x}{value}00", value.len() / 2))).collect()
}

fn deletion(json: &Value) -> Result<Deletion, String> {
    let object = members(json, &["ts", "at", "shadowable"])?;
    let shadowable = match object.get("shadowable") {
        None => false,
        Some(Value::Bool(true)) => true,
        Some(other) => return Err(format!("shadowable: {other}")),
    };
    Ok(Deletion { ts: required_int(object, "ts")?, at: required_int(object, "at")?, shadowable })
}

fn liveness(json: &Value) -> Result<Liveness, String> {
    let object = members(json, &["ts", "ttl", "expires"])?;
    Ok(Liveness {
        ts: required_int(object, "ts")?,
        ttl: optional_int(object.get("ttl"))?,
        expires: optional_int(object.get("expires"))?,
    })
}

impl Table<'_> {
    /// Key or clustering columns in order; null is a value that is not there.
    fn named(&self, json: &Value) -> Result<Vec<(String, Option<String>)>, String> {
        let object = json.as_object().ok_or_else(|| format!("{json} is no object"))?;
        let bytes = |(name, value): (&String, &Value)| {
            let of = self.types.column(&self.keyspace, &self.name, name)?;
            let value = if value.is_null() { None } else { Some(hex(&encode(of, value)?)) };
            Ok((name.clone(), value))
        };
        object.iter().map(bytes).collect()
    }

    fn static_row(&self, event: &Object) -> Result<Option<Row>, String> {
        let Some(columns) = event.get("static") else { return Ok(None) };
        Ok(Some(Row {
            clustering: Vec::new(),
            liveness: event.get("static_liveness").map(liveness).transpose()?,
            deletion: event.get("static_delete").map(deletion).transpose()?,
            columns: self.columns(columns)?,
        }))
    }

    fn row(&self, json: &Value) -> Result<Row, String> {
        let row = members(json, &["clustering", "liveness", "delete", "cells"])?;
        Ok(Row {
            clustering: row.get("clustering").map_or(Ok(Vec::new()), |json| self.named(json))?,
            liveness: row.get("liveness").map(liveness).transpose()?,
            deletion: row.get("delete").map(deletion).transpose()?,
            columns: row.get("cells").map_or(Ok(Default::default()), |json| self.columns(json))?,
        })
    }

    fn range(&self, json: &Value) -> Result<Range, String> {
        let range = members(json, &["start", "end", "ts", "at"])?;
        let deletion = Deletion { ts: required_int(range, "ts")?, at: required_int(range, "at")?, shadowable: false };
        Ok(Range { start: self.bound(range.get("start"))?, end: self.bound(range.get("end"))?, deletion })
    }

    fn bound(&self, json: Option<&Value>) -> Result<Bound, String> {
        let Some(json) = json else { return Ok(Bound { clustering: Vec::new(), inclusive: true }) };
        let bound = members(json, &["clustering", "inclusive"])?;
        let clustering = bound.get("clustering").map_or(Ok(Vec::new()), |json| self.named(json))?;
        let inclusive = bound.get("inclusive").and_then(Value::as_bool).ok_or_else(|| format!("bound {json}"))?;
        Ok(Bound { clustering, inclusive })
    }

    fn columns(&self, json: &Value) -> Result<std::collections::BTreeMap<String, Column>, String> {
        let object = json.as_object().ok_or_else(|| format!("{json} is no object"))?;
        let column = |(name, cell): (&String, &Value)| {
            let of = self.types.column(&self.keyspace, &self.name, name)?;
            let column = self.column(of, cell).map_err(|error| format!("column {name}: {error}"))?;
            Ok((name.clone(), column))
        };
        object.iter().map(column).collect()
    }

    fn column(&self, of: &Type, json: &Value) -> Result<Column, String> {
        if json.get("overwrite").is_none() && json.get("elements").is_none() {
            return Ok(Column { overwrite: None, cells: vec![simple(of, json)?] });
        }
        let object = members(json, &["overwrite", "elements"])?;
        let cells: Result<_, String> = array(object, "elements")?.iter().map(|json| element(of, json)).collect();
        Ok(Column { overwrite: object.get("overwrite").map(deletion).transpose()?, cells: cells? })
    }
}

fn simple(of: &Type, json: &Value) -> Result<Cell, String> {
    let cell = members(json, &["value", "shards", "ts", "ttl", "expires", "deleted"])?;
    let value = match cell.get("value") {
        Some(_) if cell.contains_key("shards") => Some(counter(json)?),
        Some(value) => Some(encode(of, value)?),
        None => None,
    };
    cell_of(cell, None, value)
}

fn element(of: &Type, json: &Value) -> Result<Cell, String> {
    let cell = members(json, &["path", "value", "ts", "ttl", "expires", "deleted"])?;
    let path_json = cell.get("path").ok_or("no path")?;
    let timeuuid = Type::Native("timeuuid".to_owned());
    let (path, value_type) = match of {
        Type::List(element) => (encode(&timeuuid, path_json)?, Some(&**element)),
        Type::Set(element) => (encode(element, path_json)?, None),
        Type::Map(key, value) => (encode(key, path_json)?, Some(&**value)),
        Type::Udt(fields) => {
            let index = fields.iter().position(|(name, _)| path_json == name);
            let index = index.ok_or_else(|| format!("no field {path_json}"))?;
            ((index as i16).to_be_bytes().to_vec(), Some(&fields[index].1))
        }
        other => return Err(format!("elements in a {other:?}")),
    };
    let value = match (cell.get("value"), value_type) {
        (Some(value), Some(of)) => Some(encode(of, value)?),
        (None, None) if !cell.contains_key("deleted") => Some(Vec::new()),
        (None, _) => None,
        (Some(value), None) => return Err(format!("an element of a set has a value: {value}")),
    };
    cell_of(cell, Some(hex(&path)), value)
}

fn cell_of(cell: &Object, path: Option<String>, value: Option<Vec<u8>>) -> Result<Cell, String> {
    let deleted = optional_int(cell.get("deleted"))?;
    if deleted.is_some() == value.is_some() {
        return Err("either a value or a deletion makes a cell".to_owned());
    }
    Ok(Cell {
        path,
        ts: required_int(cell, "ts")?,
        ttl: optional_int(cell.get("ttl"))?,
        expires: optional_int(cell.get("expires"))?,
        deleted,
        value: value.map(|bytes| hex(&bytes)),
    })
}
