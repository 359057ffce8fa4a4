//! A schema file: the JSON of `system_schema` rows, as `cassandra-cdc schema pull` writes it.
//!
//! Owns: reading it, and saying what is wrong with it and what to do. Does not own: writing it, nor its rows' meaning.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use cassandra_commitlog::SystemSchema;
use serde_json::Value;

/// Bytes that a schema file may have: two hundred times what a node of a thousand tables gives.
const MAX_BYTES: u64 = 1 << 30;

/// What to do about a file that is of no use.
const REMEDY: &str = "write a new one with `cassandra-cdc schema pull -o FILE`";

/// Reads a schema file. Rows as cqlsh's `SELECT JSON` gives them are understood too: strings of JSON, or objects with the
/// one member `[json]`.
pub fn read(path: &Path) -> Result<SystemSchema> {
    let text = read_text(path).with_context(|| format!("read schema file {}", path.display()))?;
    parse(&text).with_context(|| format!("schema file {}: {REMEDY}", path.display()))
}

fn read_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = File::open(path)?.take(MAX_BYTES + 1).read_to_string(&mut text)? as u64;
    ensure!(read <= MAX_BYTES, "it is larger than {MAX_BYTES} bytes");
    Ok(text)
}

fn parse(text: &str) -> Result<SystemSchema> {
    let schema = match serde_json::from_str::<SystemSchema>(text) {
        Ok(schema) => schema,
        // The error of the plain form knows line and column, so it is the one to tell.
        Err(error) => match from_select_json(text) {
            Some(schema) => schema?,
            None => return Err(error.into()),
        },
    };
    // An object of other things (a config, one table's rows) is valid JSON and would make a schema that knows no table.
    for (table, there) in [("tables", !schema.tables.is_empty()), ("columns", !schema.columns.is_empty())] {
        if !there {
            bail!("it has no rows of system_schema.{table}");
        }
    }
    Ok(schema)
}

/// The rows of a file in which at least one is wrapped as cqlsh wraps it; `None` if none is.
fn from_select_json(text: &str) -> Option<Result<SystemSchema>> {
    let mut document: serde_json::Map<String, Value> = serde_json::from_str(text).ok()?;
    let mut any = false;
    for (table, rows) in &mut document {
        for (at, row) in rows.as_array_mut().into_iter().flatten().enumerate() {
            let inner = match row {
                Value::Object(members) if members.len() == 1 => members.remove("[json]"),
                Value::String(text) => Some(Value::String(std::mem::take(text))),
                _ => None,
            };
            let parsed = match inner {
                Some(Value::String(text)) => serde_json::from_str(&text),
                Some(other) => Ok(other),
                None => continue,
            };
            any = true;
            *row = match parsed.with_context(|| format!("row {at} of {table}")) {
                Ok(row) => row,
                Err(error) => return Some(Err(error)),
            };
        }
    }
    any.then(|| serde_json::from_value(Value::Object(document)).context("rows as of SELECT JSON"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str =
        r#"{"keyspace_name":"ks","table_name":"t","id":"5a1c0000-0000-1000-8000-000000000001","cdc":true}"#;
    const COLUMN: &str =
        r#"{"keyspace_name":"ks","table_name":"t","column_name":"k","kind":"partition_key","position":0,"type":"int"}"#;

    fn told(text: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = read(file.path()).unwrap_err();
        format!("{error:#}").replace(&file.path().display().to_string(), "FILE")
    }

    #[test]
    fn rows_are_read_plain_and_as_cqlsh_gives_them() {
        let quoted = |row: &str| serde_json::to_string(row).unwrap();
        for text in [
            format!(r#"{{"tables":[{TABLE}],"columns":[{COLUMN}]}}"#),
            format!(r#"{{"system_schema.tables":[{TABLE}],"columns":[{COLUMN}],"more":{{"a":[1]}}}}"#),
            format!(r#"{{"tables":[{}],"columns":[{COLUMN}]}}"#, quoted(TABLE)),
            format!(r#"{{"tables":[{{"[json]":{}}}],"columns":[{{"[json]":{COLUMN}}}]}}"#, quoted(TABLE)),
        ] {
            let (schema, problems) = parse(&text).expect(&text).resolve();
            assert_eq!(problems, []);
            assert_eq!(schema.tables()[0].partition_key[0].name, "k");
        }
    }

    #[test]
    fn errors_say_where_and_what_to_do() {
        let remedy = "schema file FILE: write a new one with `cassandra-cdc schema pull -o FILE`: ";
        for (text, expected) in [
            ("", "EOF while parsing a value at line 1 column 0"),
            ("{\"tables\":[\n{\"id\":1}]}", "invalid type: integer `1`, expected a string at line 2 column 7"),
            ("{\"tables\":[{\"id\":\"\"}]}", "missing field `keyspace_name` at line 1 column 20"),
            ("{\"kafka\":{}}", "it has no rows of system_schema.tables"),
            (&format!("{{\"tables\":[{TABLE}]}}"), "it has no rows of system_schema.columns"),
            ("{\"tables\":[\"{\"]}", "row 0 of tables: EOF while parsing an object at line 1 column 1"),
        ] {
            assert_eq!(told(text), format!("{remedy}{expected}"));
        }
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/nowhere/schema.json")).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "read schema file /nowhere/schema.json: No such file or directory (os error 2)"
        );
    }
}
