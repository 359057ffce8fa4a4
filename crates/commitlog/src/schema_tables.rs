//! The tables of `system_schema` themselves, in the form that every release's rows can be read with (`FORMAT.md` 8.1).
//!
//! Owns: their definitions, a superset over the releases, and which of their columns decoding needs.
//! Does not own: what their rows say (`schema_change`), the schema that comes of it (`schema_store`).

use alloc::string::ToString;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::schema::{Column, ColumnKind, TableId, TableSchema};
use crate::type_parser::parse_type;
use crate::user_types::UserTypes;

/// The keyspace of all of them.
const KEYSPACE: &str = "system_schema";

/// A table of `system_schema` that decoding needs the rows of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are Cassandra's own")]
pub enum SchemaTable {
    Keyspaces,
    Tables,
    Columns,
    DroppedColumns,
    Types,
    Views,
}

impl SchemaTable {
    pub(crate) const ALL: [Self; 6] =
        [Self::Keyspaces, Self::Tables, Self::Columns, Self::DroppedColumns, Self::Types, Self::Views];

    /// Which of them a table is, if it is one.
    pub fn of(table: &TableSchema) -> Option<Self> {
        if table.keyspace != KEYSPACE {
            return None;
        }
        Self::ALL.into_iter().find(|known| known.name() == table.name)
    }

    /// Its name in `system_schema`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keyspaces => "keyspaces",
            Self::Tables => "tables",
            Self::Columns => "columns",
            Self::DroppedColumns => "dropped_columns",
            Self::Types => "types",
            Self::Views => "views",
        }
    }

    /// The names of its key columns: the partition key, then the clustering.
    pub(crate) fn key(self) -> &'static [&'static str] {
        match self {
            Self::Keyspaces => &["keyspace_name"],
            Self::Tables => &["keyspace_name", "table_name"],
            Self::Columns | Self::DroppedColumns => &["keyspace_name", "table_name", "column_name"],
            Self::Types => &["keyspace_name", "type_name"],
            Self::Views => &["keyspace_name", "view_name"],
        }
    }

    /// The other columns that decoding needs.
    pub(crate) fn needs(self, column: &str) -> bool {
        let needed: &[&str] = match self {
            Self::Keyspaces => &["durable_writes"],
            Self::Tables => &["id", "cdc", "flags"],
            Self::Columns => &["column_name_bytes", "kind", "position", "clustering_order", "type"],
            Self::DroppedColumns => &["dropped_time", "kind", "type"],
            Self::Types => &["field_names", "field_types"],
            Self::Views => &["id", "cdc", "base_table_name"],
        };
        needed.contains(&column)
    }
}

/// The tables that DDL writes to: with these a log can be read from its beginning, before anything is known.
///
/// They hold the columns of all releases, as no release writes a column that another has with another type.
pub fn bootstrap_tables() -> Vec<TableSchema> {
    BOOTSTRAP.iter().map(|(id, name, clustering, regular)| bootstrap_table(*id, name, clustering, regular)).collect()
}

fn bootstrap_table(id: u128, name: &str, clustering: &str, regular: &[&str]) -> TableSchema {
    let none = UserTypes::default();
    let columns = |text: &str, kind| -> Vec<Column> {
        let parse = |column: &str| {
            let (name, cql_type) = column.trim().split_once(' ')?;
            Some(Column { name: name.to_string(), cql_type: parse_type(cql_type, &none).ok()?, kind })
        };
        text.split(';').filter_map(parse).collect()
    };
    let mut regular: Vec<Column> = regular.iter().flat_map(|text| columns(text, ColumnKind::Regular)).collect();
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    TableSchema {
        id: TableId(id),
        keyspace: KEYSPACE.to_string(),
        name: name.to_string(),
        cdc: false,
        partition_key: columns("keyspace_name text", ColumnKind::PartitionKey),
        clustering: columns(clustering, ColumnKind::Clustering),
        columns: regular,
    }
}

/// What `tables` and `views` have in common.
const OPTIONS: &str = "additional_write_policy text; allow_auto_snapshot boolean; auto_repair frozen<map<text, text>>; \
     bloom_filter_fp_chance double; caching frozen<map<text, text>>; cdc boolean; comment text; \
     compaction frozen<map<text, text>>; compression frozen<map<text, text>>; crc_check_chance double; \
     dclocal_read_repair_chance double; default_time_to_live int; extensions frozen<map<text, blob>>; \
     fast_path frozen<map<text, text>>; gc_grace_seconds int; id uuid; incremental_backups boolean; \
     max_index_interval int; memtable text; memtable_flush_period_in_ms int; min_index_interval int; \
     read_repair text; read_repair_chance double; speculative_retry text";

const TABLE_FLAGS: &str = "flags frozen<set<text>>";

const VIEW_ONLY: &str = "base_table_id uuid; base_table_name text; include_all_columns boolean; where_clause text";

const MASK: &str = "function_keyspace text; function_name text; function_argument_types frozen<list<text>>; \
     function_argument_values frozen<list<text>>; function_argument_nulls frozen<list<boolean>>";

/// Id, name, clustering columns, regular columns.
#[rustfmt::skip]
const BOOTSTRAP: &[(u128, &str, &str, &[&str])] = &[
    (0xabac_5682_dea6_31c5_b535_b3d6_cffd_0fb6, "keyspaces", "",
     &["durable_writes boolean; fast_path frozen<map<text, text>>; replication frozen<map<text, text>>"]),
    (0xafdd_fb9d_bc1e_3068_8056_eed6_c302_ba09, "tables", "table_name text", &[OPTIONS, TABLE_FLAGS]),
    (0x2410_1c25_a2ae_3af7_87c1_b40e_e1ac_a33f, "columns", "table_name text; column_name text",
     &["clustering_order text; column_name_bytes blob; kind text; position int; type text"]),
    (0x5e75_83b5_f3f4_3af1_9a39_b7e1_d6f5_f11f, "dropped_columns", "table_name text; column_name text",
     &["dropped_time timestamp; kind text; type text"]),
    (0x5a8b_1ca8_6602_3f77_a045_9273_d308_917a, "types", "type_name text",
     &["field_names frozen<list<text>>; field_types frozen<list<text>>"]),
    (0x9786_ac1c_dd58_3201_a7cd_ad55_6410_c985, "views", "view_name text", &[OPTIONS, VIEW_ONLY]),
    (0x0feb_57ac_311f_382f_ba6d_9024_d305_702f, "indexes", "table_name text; index_name text",
     &["kind text; options frozen<map<text, text>>"]),
    (0x4df7_0b66_6b05_3251_95a1_32b5_4005_fd48, "triggers", "table_name text; trigger_name text",
     &["options frozen<map<text, text>>"]),
    (0x9648_9b79_80be_3e14_a701_66a0_b915_9450, "functions", "function_name text; argument_types frozen<list<text>>",
     &["argument_names frozen<list<text>>; body text; called_on_null_input boolean; language text; return_type text"]),
    (0x924c_5587_2e3a_345b_b10c_12f3_7c1b_a895, "aggregates", "aggregate_name text; argument_types frozen<list<text>>",
     &["final_func text; initcond text; return_type text; state_func text; state_type text"]),
    (0x738c_c5ed_0168_3268_b9d1_853d_4bc2_78af, "column_masks", "table_name text; column_name text", &[MASK]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::system_tables::system_table;

    #[test]
    fn every_definition_is_whole_and_under_its_own_id() {
        for (table, (_, _, clustering, regular)) in bootstrap_tables().iter().zip(BOOTSTRAP) {
            assert_eq!(system_table(table.id), Some((KEYSPACE, table.name.as_str())));
            let count = |text: &str| text.split(';').filter(|column| !column.trim().is_empty()).count();
            assert_eq!(table.clustering.len(), count(clustering), "{}", table.name);
            assert_eq!(table.columns.len(), regular.iter().map(|text| count(text)).sum::<usize>(), "{}", table.name);
            assert!(table.columns.iter().all(|column| !column.cql_type.is_multi_cell()), "{}", table.name);
            assert!(table.columns.is_sorted_by(|a, b| a.name < b.name), "{}", table.name);
        }
    }

    #[test]
    fn definitions_hold_what_recorded_nodes_say_of_themselves() {
        for (path, text) in crate::recorded_schemas::all() {
            let rows: crate::SystemSchema = serde_json::from_str(&text).unwrap();
            let (schema, _) = rows.resolve();
            for ours in bootstrap_tables() {
                let Some(theirs) = schema.table(ours.id) else { continue };
                assert_eq!(ours.clustering, theirs.clustering, "{path}: {}", ours.name);
                for column in &theirs.columns {
                    assert!(ours.columns.contains(column), "{path}: {}.{column:?}", ours.name);
                }
            }
        }
    }

    #[test]
    fn needed_columns_are_defined() {
        let tables = bootstrap_tables();
        for kind in SchemaTable::ALL {
            let table = tables.iter().find(|table| SchemaTable::of(table) == Some(kind)).unwrap();
            assert_eq!(kind.key().len(), table.clustering.len() + 1);
        }
    }
}
