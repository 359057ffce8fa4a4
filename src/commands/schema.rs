//! `schema`: the schema that segments are decoded with.
//!
//! Owns: fetching it into a file, showing and comparing such files. Does not own: what rows mean.

use std::fmt::Write as _;
use std::path::Path;

use cassandra_commitlog::{Column, Schema, TableSchema};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use super::{print, schema_of};
use crate::catalog::cql::{self, Contact, Login};
use crate::catalog::tls::{ClientCertificate, Tls};
use crate::cli::{Output, SchemaCommand, SchemaPull};
use crate::durable_file;
use crate::exit::{Ending, Exit, Failure};
use crate::filter::Tables;

/// Runs the command.
pub(super) fn run(command: &SchemaCommand) -> Ending {
    match command {
        SchemaCommand::Pull(arguments) => pull(arguments),
        SchemaCommand::Show { file, tables, output } => show(file, tables, *output),
        SchemaCommand::Diff { before, after } => diff(before, after),
    }
}

fn pull(arguments: &SchemaPull) -> Ending {
    let login = arguments.user.clone().zip(arguments.password_file.clone());
    let identity = arguments.tls_certificate.clone().zip(arguments.tls_key.clone());
    let identity = identity.map(|(certificate_file, key_file)| ClientCertificate { certificate_file, key_file });
    let contact = Contact {
        address: arguments.contact.clone(),
        login: login.map(|(user, password_file)| Login { user, password_file }),
        tls: arguments.tls_ca.clone().map(|ca_file| Tls { ca_file, name: arguments.tls_name.clone(), identity }),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::io("start the CQL client", error))?;
    let pulled = runtime.block_on(cql::pull(&contact)).map_err(Failure::cassandra)?;
    let mut text = serde_json::to_vec_pretty(&pulled.document).map_err(|error| Failure::new(Exit::Bug, error))?;
    text.push(b'\n');
    match &arguments.output {
        Some(path) => {
            durable_file::replace(path, &text, "schema").map_err(|error| Failure::io(path.display(), error))?
        }
        None => {
            print(&text)?;
        }
    }
    let (schema, problems) = pulled.schema.resolve();
    for problem in problems {
        eprintln!("cassandra-cdc: {problem}");
    }
    let cdc = schema.tables().iter().filter(|table| table.cdc).count();
    eprintln!("{}: {} tables, {cdc} with cdc = true", pulled.identity, schema.tables().len());
    Ok(Exit::Fine)
}

fn show(file: &Path, patterns: &[String], output: Output) -> Ending {
    let wanted = Tables::parse(patterns)?;
    let schema = schema_of(file)?;
    if let Some(pattern) = wanted.unmatched(schema.tables().iter()) {
        return Err(Failure::text(Exit::Failed, format!("{}: no table matches {pattern:?}", file.display())));
    }
    let tables = sorted(&schema).into_iter().filter(|table| wanted.want(table));
    let text = match output {
        Output::Table => as_table(tables),
        Output::Json => format!("{:#}\n", tables.map(as_json).collect::<Value>()),
        Output::Jsonl => tables.map(|table| format!("{}\n", as_json(table))).collect(),
    };
    print(text.as_bytes())
}

fn sorted(schema: &Schema) -> Vec<&TableSchema> {
    let mut tables: Vec<&TableSchema> = schema.tables().iter().collect();
    tables.sort_by_key(|table| (&table.keyspace, &table.name, table.id));
    tables
}

fn as_table<'a>(tables: impl Iterator<Item = &'a TableSchema>) -> String {
    let mut listing = Table::new();
    listing.load_style(UTF8_HORIZONTAL_ONLY).set_header(["table", "id", "cdc", "columns"]);
    for table in tables {
        let mut columns = String::new();
        for column in columns_of(table) {
            // Writing to a string can't fail.
            let _ = writeln!(columns, "{} {} {}", column.name, column.cql_type, kind(column));
        }
        let name = format!("{}.{}", table.keyspace, table.name);
        let cdc = if table.cdc { "yes" } else { "" };
        listing.add_row([name, table.id.to_string(), cdc.to_owned(), columns.trim_end().to_owned()]);
    }
    format!("{listing}\n")
}

fn as_json(table: &TableSchema) -> Value {
    let columns: Vec<Value> = columns_of(table)
        .map(|column| json!({"name": column.name, "type": column.cql_type.to_string(), "kind": kind(column)}))
        .collect();
    json!({
        "keyspace": table.keyspace, "table": table.name, "id": table.id.to_string(), "cdc": table.cdc,
        "columns": columns,
    })
}

fn columns_of(table: &TableSchema) -> impl Iterator<Item = &Column> {
    table.partition_key.iter().chain(&table.clustering).chain(&table.columns)
}

fn kind(column: &Column) -> &'static str {
    use cassandra_commitlog::ColumnKind::{Clustering, PartitionKey, Regular, Static};
    match column.kind {
        PartitionKey => "partition_key",
        Clustering => "clustering",
        Static => "static",
        Regular => "regular",
    }
}

fn diff(before: &Path, after: &Path) -> Ending {
    let (before, after) = (schema_of(before)?, schema_of(after)?);
    let mut lines = Vec::new();
    for table in sorted(&before) {
        match after.table(table.id) {
            None => lines.push(format!("- {}.{} {}", table.keyspace, table.name, table.id)),
            Some(later) => diff_table(table, later, &mut lines),
        }
    }
    for table in sorted(&after).into_iter().filter(|table| before.table(table.id).is_none()) {
        lines.push(format!("+ {}.{} {}", table.keyspace, table.name, table.id));
    }
    print(lines.iter().map(|line| format!("{line}\n")).collect::<String>().as_bytes())?;
    Ok(if lines.is_empty() { Exit::Fine } else { Exit::Failed })
}

fn diff_table(before: &TableSchema, after: &TableSchema, lines: &mut Vec<String>) {
    let name = format!("{}.{}", before.keyspace, before.name);
    if before.cdc != after.cdc {
        lines.push(format!("~ {name} cdc {} -> {}", before.cdc, after.cdc));
    }
    let text = |column: &Column| format!("{} {} {}", column.name, column.cql_type, kind(column));
    let (old, new): (Vec<String>, Vec<String>) =
        (columns_of(before).map(text).collect(), columns_of(after).map(text).collect());
    lines.extend(old.iter().filter(|column| !new.contains(column)).map(|column| format!("- {name} {column}")));
    lines.extend(new.iter().filter(|column| !old.contains(column)).map(|column| format!("+ {name} {column}")));
}
