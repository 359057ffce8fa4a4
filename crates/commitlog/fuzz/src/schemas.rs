//! Schema files and the text of types.

use cassandra_commitlog::{CqlType, SystemSchema, parse_type};

use super::mutations::user_types;

/// A file of schema rows: read, resolved, written, read again.
pub fn schema_file(data: &[u8]) {
    let Ok(rows) = serde_json::from_slice::<SystemSchema>(data) else { return };
    let (schema, problems) = rows.resolve();
    for table in schema.tables() {
        assert!(!table.partition_key.is_empty());
        assert_eq!(schema.table(table.id), Some(table));
        for column in table.partition_key.iter().chain(&table.clustering).chain(&table.columns) {
            let _ = (column.cql_type.fixed_len(), column.cql_type.is_multi_cell());
        }
    }
    assert!(problems.iter().all(|problem| !problem.to_string().is_empty()));
    let written = serde_json::to_vec(&rows).expect("rows can be written");
    let again: SystemSchema = serde_json::from_slice(&written).expect("what was written can be read");
    assert_eq!(again, rows);
    assert_eq!(again.resolve(), (schema, problems));
}

/// A type's text: read, written, read again.
pub fn type_string(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let types = user_types();
    match parse_type(&text, &types) {
        Ok(cql_type) => {
            let written = cql_type.to_string();
            if only_known(&cql_type) {
                assert_eq!(parse_type(&written, &types).as_ref(), Ok(&cql_type), "{written}");
            }
        }
        Err(error) => assert!(error.at <= text.len() && !error.to_string().is_empty()),
    }
}

/// A user type that brought its own definition can't be found by its name.
fn only_known(cql_type: &CqlType) -> bool {
    match cql_type {
        CqlType::Native(_) | CqlType::Custom { .. } => true,
        CqlType::List { element, .. } | CqlType::Set { element, .. } | CqlType::Vector { element, .. } => {
            only_known(element)
        }
        CqlType::Map { key, value, .. } => only_known(key) && only_known(value),
        CqlType::Tuple(components) => components.iter().all(only_known),
        CqlType::Udt { definition, .. } => {
            let name = format!("\"{}\"", definition.name.replace('"', "\"\""));
            let known = parse_type(&name, &user_types());
            matches!(known, Ok(CqlType::Udt { definition: known, .. }) if known == *definition)
        }
    }
}
