//! The tables of the tests: one with a column of each form, and some with very many columns.
//!
//! Owns: their definitions. Does not own: what is written to them.

use std::sync::Arc;

use cassandra_commitlog::{Column, ColumnKind, CqlType, Field, Native, Schema, TableId, TableSchema, UserType};

/// Static and regular columns of each form, two clustering columns.
pub const MIXED: TableId = TableId(0xf2d9_6710_e57e_11f1_82d8_695a_da83_03ab);
/// 70 regular columns, all `int`, no clustering column.
pub const WIDE: TableId = TableId(0x1b25_5f4d_ef25_40a6_0000_0000_0000_0007);
/// 40 clustering columns, `int` and `text` in turn.
pub const DEEP: TableId = TableId(2);
/// A composite partition key.
pub const COMPOSITE: TableId = TableId(1);
/// 1024 clustering columns.
pub const ABYSS: TableId = TableId(3);

pub fn native(native: Native) -> CqlType {
    CqlType::Native(native)
}

fn boxed(cql_type: CqlType) -> Box<CqlType> {
    Box::new(cql_type)
}

fn column(kind: ColumnKind, name: impl Into<String>, cql_type: CqlType) -> Column {
    Column { name: name.into(), cql_type, kind }
}

fn table(
    id: TableId,
    name: &str,
    partition_key: Vec<Column>,
    clustering: Vec<Column>,
    columns: Vec<Column>,
) -> TableSchema {
    TableSchema { id, keyspace: "ks".into(), name: name.into(), cdc: true, partition_key, clustering, columns }
}

fn mixed() -> TableSchema {
    use ColumnKind::{Clustering, PartitionKey, Regular, Static};
    let (int, text) = (|| native(Native::Int), || native(Native::Text));
    let field = |name: &str, cql_type| Field { name: name.into(), cql_type };
    let address = UserType { name: "addr".into(), fields: vec![field("street", text()), field("zip", int())] };
    let columns = vec![
        column(Static, "s", int()),
        column(Static, "ss", CqlType::Set { element: boxed(int()), frozen: false }),
        column(Regular, "a", int()),
        column(Regular, "b", text()),
        column(Regular, "e", native(Native::Empty)),
        column(Regular, "f", CqlType::List { element: boxed(int()), frozen: true }),
        column(Regular, "sm", native(Native::Smallint)),
        column(Regular, "v", CqlType::Vector { element: boxed(native(Native::Float)), dimension: 2 }),
        column(Regular, "l", CqlType::List { element: boxed(int()), frozen: false }),
        column(Regular, "m", CqlType::Map { key: boxed(text()), value: boxed(int()), frozen: false }),
        column(Regular, "st", CqlType::Set { element: boxed(text()), frozen: false }),
        column(Regular, "u", CqlType::Udt { definition: Arc::new(address), frozen: false }),
    ];
    let clustering = vec![column(Clustering, "c1", int()), column(Clustering, "c2", text())];
    table(MIXED, "mixed", vec![column(PartitionKey, "p", int())], clustering, columns)
}

fn many_clusterings(id: TableId, name: &str, count: usize) -> TableSchema {
    let types = [Native::Int, Native::Text].into_iter().cycle();
    let clustering =
        types.enumerate().take(count).map(|(at, ty)| column(ColumnKind::Clustering, format!("c{at}"), native(ty)));
    let key = vec![column(ColumnKind::PartitionKey, "p", native(Native::Text))];
    table(id, name, key, clustering.collect(), vec![column(ColumnKind::Regular, "a", native(Native::Int))])
}

pub fn schema() -> Arc<Schema> {
    use ColumnKind::{PartitionKey, Regular};
    let wide = (0..70).map(|at| column(Regular, format!("a{at:02}"), native(Native::Int))).collect();
    let text = native(Native::Text);
    let composite = vec![column(PartitionKey, "p1", native(Native::Int)), column(PartitionKey, "p2", text.clone())];
    Arc::new(Schema::new([
        mixed(),
        table(WIDE, "wide", vec![column(PartitionKey, "p", text)], Vec::new(), wide),
        many_clusterings(DEEP, "deep", 40),
        many_clusterings(ABYSS, "abyss", 1024),
        table(COMPOSITE, "composite", composite, Vec::new(), vec![column(Regular, "a", native(Native::Int))]),
    ]))
}
