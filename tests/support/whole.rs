//! Events that were cut, put together again: rows of one update, parts of one record, chunks of one value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::cql::base64;

/// What an update consists of, in the order in which it is told.
const UNITS: [&str; 4] = ["partition_delete", "static", "rows", "range_deletes"];

fn id(event: &Value) -> &str {
    event["id"].as_str().expect("an id")
}

/// The id without `/r7` or `/p3` behind it, and the number there.
fn cut<'a>(id: &'a str, mark: &str) -> Option<(&'a str, usize)> {
    let (base, number) = id.rsplit_once(mark)?;
    Some((base, number.parse().ok()?))
}

/// Everything of two events but what tells pieces of one update apart.
fn same_frame(one: &Value, other: &Value) -> bool {
    let members = ["v", "digest", "keyspace", "table", "table_id", "key", "source"];
    members.iter().all(|member| one[*member] == other[*member])
}

/// How many things an event says.
fn units(event: &Value) -> usize {
    let of = |unit: &&str| match event.get(*unit) {
        None => 0,
        Some(Value::Array(items)) => items.len(),
        Some(_) => 1,
    };
    UNITS.iter().map(of).sum()
}

/// Events of `--unit row` as one event for each update.
pub fn join_rows(events: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut joined: Vec<Value> = Vec::new();
    let mut next = 0;
    for mut event in events {
        let (base, ordinal) = cut(id(&event), "/r").ok_or_else(|| format!("id {}", event["id"]))?;
        let base = base.to_owned();
        if units(&event) > 1 {
            return Err(format!("{} says more than one thing", event["id"]));
        }
        let goes_on = joined.last().is_some_and(|last| id(last) == base);
        if ordinal != if goes_on { next } else { 0 } {
            return Err(format!("{}: a row is missing before it, or comes twice", event["id"]));
        }
        next = ordinal + 1;
        event["id"] = base.into();
        match joined.last_mut().filter(|_| goes_on) {
            Some(last) if !same_frame(last, &event) => return Err(format!("{} differs in its frame", event["id"])),
            Some(last) => append_units(last, &event)?,
            None => joined.push(event),
        }
    }
    Ok(joined)
}

fn append_units(whole: &mut Value, event: &Value) -> Result<(), String> {
    for (name, value) in event.as_object().expect("an event") {
        match (whole.get_mut(name), value) {
            (None, value) => whole[name] = value.clone(),
            (Some(Value::Array(items)), Value::Array(more)) => items.extend(more.iter().cloned()),
            (Some(there), value) if there == value => {}
            (Some(there), value) => return Err(format!("{name} twice: {there} and {value}")),
        }
    }
    Ok(())
}

/// Events of which some are numbered parts, as whole events.
pub fn join_parts(events: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut joined: Vec<Value> = Vec::new();
    // Parts that are still to come, and how many there are.
    let mut open: Option<(usize, usize)> = None;
    for mut event in events {
        let part = event.get("part").and_then(Value::as_u64).map(|part| part as usize);
        let parts = event.get("parts").and_then(Value::as_u64).map(|parts| parts as usize);
        let expected = open.map_or((1, parts.unwrap_or(0)), |(done, of)| (done + 1, of));
        let (Some(part), Some(parts)) = (part, parts) else {
            if open.is_some() {
                return Err(format!("parts are missing before {}", event["id"]));
            }
            joined.push(event);
            continue;
        };
        let (base, number) = cut(id(&event), "/p").ok_or_else(|| format!("id {}", event["id"]))?;
        if (part, parts) != expected || number != part {
            return Err(format!("{}: part {part} of {parts}, expected {expected:?}", event["id"]));
        }
        event["id"] = base.to_owned().into();
        let members = event.as_object_mut().expect("an event");
        members.shift_remove("part");
        members.shift_remove("parts");
        match joined.last_mut().filter(|_| part > 1) {
            Some(last) if id(last) != id(&event) || !same_frame(last, &event) => {
                return Err(format!("{} is no part of {}", event["id"], last["id"]));
            }
            Some(last) => append_part(last, &event)?,
            None => joined.push(event),
        }
        open = (part < parts).then_some((part, parts));
    }
    if open.is_some() {
        return Err("the last parts are missing".to_owned());
    }
    joined.iter_mut().for_each(close_chunks);
    Ok(joined)
}

fn append_part(whole: &mut Value, part: &Value) -> Result<(), String> {
    for (name, value) in part.as_object().expect("an event") {
        match (name.as_str(), whole.get_mut(name)) {
            ("id", _) => {}
            (_, None) => whole[name] = value.clone(),
            ("static", Some(cells)) => append_cells(cells, value)?,
            ("rows", Some(Value::Array(rows))) => {
                for row in value.as_array().expect("rows") {
                    append_row(rows, row)?;
                }
            }
            ("range_deletes", Some(Value::Array(ranges))) => ranges.extend(value.as_array().expect("ranges").clone()),
            (_, Some(there)) if there == value => {}
            (_, Some(there)) => return Err(format!("{name} twice: {there} and {value}")),
        }
    }
    Ok(())
}

/// A row goes on in the next part under the same clustering.
fn append_row(rows: &mut Vec<Value>, row: &Value) -> Result<(), String> {
    match rows.last_mut() {
        Some(last) if last.get("clustering") == row.get("clustering") => {
            if row.get("liveness").or(row.get("delete")).is_some() {
                return Err(format!("a row begins twice: {row}"));
            }
            if last.get("cells").is_none() {
                last["cells"] = json!({});
            }
            append_cells(&mut last["cells"], &row["cells"])
        }
        _ => {
            rows.push(row.clone());
            Ok(())
        }
    }
}

fn append_cells(cells: &mut Value, more: &Value) -> Result<(), String> {
    for (name, cell) in more.as_object().expect("cells") {
        let Some(there) = cells.get_mut(name) else {
            cells[name] = cell.clone();
            continue;
        };
        let Some(elements) = cell.get("elements").and_then(Value::as_array) else {
            append_chunk(there, cell, "value")?;
            continue;
        };
        if cell.get("overwrite").is_some() {
            return Err(format!("an overwrite in a later part: {cell}"));
        }
        if there.get("elements").is_none() {
            there["elements"] = json!([]);
        }
        let into = there["elements"].as_array_mut().expect("elements");
        for element in elements {
            append_element(into, element)?;
        }
    }
    Ok(())
}

fn number(json: Option<&Value>) -> Option<u64> {
    json?.get("$chunk")?.as_u64()
}

fn append_element(elements: &mut Vec<Value>, element: &Value) -> Result<(), String> {
    let goes_on = |name| number(element.get(name)).is_some_and(|number| number > 1);
    match elements.last_mut() {
        Some(last) if goes_on("path") => append_chunk(last, element, "path"),
        Some(last) if goes_on("value") => append_chunk(last, element, "value"),
        // Its path came in chunks, and now the value begins.
        Some(last) if element.get("path").is_none() => {
            if last["ts"] != element["ts"] || last.get("value").is_some() {
                return Err(format!("{element} does not go on {last}"));
            }
            last["value"] = element["value"].clone();
            Ok(())
        }
        _ => {
            elements.push(element.clone());
            Ok(())
        }
    }
}

/// Appends a chunk to the one before it, which must be the one before it in all other members as well.
fn append_chunk(cell: &mut Value, more: &Value, name: &str) -> Result<(), String> {
    let wrong = || format!("{more} does not go on {cell}");
    let before = number(cell.get(name)).ok_or_else(wrong)?;
    let next = number(more.get(name)).filter(|next| *next == before + 1).ok_or_else(wrong)?;
    let times = ["ts", "ttl", "expires"];
    if cell[name]["$chunks"] != more[name]["$chunks"] || times.iter().any(|time| cell.get(time) != more.get(time)) {
        return Err(wrong());
    }
    let mut bytes = chunk(&cell[name])?;
    bytes.extend(chunk(&more[name])?);
    cell[name]["$base64"] = STANDARD.encode(bytes).into();
    cell[name]["$chunk"] = next.into();
    Ok(())
}

fn chunk(json: &Value) -> Result<Vec<u8>, String> {
    base64(json["$base64"].as_str().ok_or("a chunk without bytes")?)
}

/// Dead letters of which some are numbered parts, as whole ones.
pub fn join_letters(letters: Vec<Value>) -> Result<Vec<Value>, String> {
    let mut joined: Vec<Value> = Vec::new();
    for letter in letters {
        let body = &letter["entry"]["base64"];
        match (number(Some(body)), joined.last_mut()) {
            (Some(number), Some(last)) if number > 1 => append_chunk(&mut last["entry"], &letter["entry"], "base64")?,
            _ => joined.push(letter),
        }
    }
    for letter in &mut joined {
        let body = &mut letter["entry"]["base64"];
        if body.is_object() {
            if body["$chunk"] != body["$chunks"] {
                return Err(format!("parts are missing of {body}"));
            }
            *body = body["$base64"].take();
        }
    }
    Ok(joined)
}

/// Values that came in chunks, all of them, become raw values. One that is not complete stays as it is: no type reads it.
fn close_chunks(json: &mut Value) {
    let complete = |object: &Map<String, Value>| object.contains_key("$chunk") && object["$chunk"] == object["$chunks"];
    match json {
        Value::Object(object) if complete(object) => {
            object.shift_remove("$chunk");
            object.shift_remove("$chunks");
        }
        Value::Object(object) => object.values_mut().for_each(close_chunks),
        Value::Array(items) => items.iter_mut().for_each(close_chunks),
        _ => {}
    }
}
