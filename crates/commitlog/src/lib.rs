//! Bytes of an Apache Cassandra commit-log segment, read as mutations.
//!
//! Owns: the segment format of releases 3.11 to 6.0 (commit-log versions 6 to 9), framing, checksums, decompression,
//! decryption, the grammar of mutations, and the schema as a value that the grammar needs.
//! Does not own: files, clocks, threads, log lines, where keys and schema come from, what an event looks like.
//!
//! The straight line: [`Descriptor::parse`] → [`Sections`] → [`Plaintext::of`] → [`Entries`] → [`Decoder::mutation`] →
//! [`Mutation::next_update`]. Everything is lent from the input or from buffers that are used again.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable,
        clippy::unwrap_used
    )
)]

extern crate alloc;

mod block;
mod cdc_index;
mod cell;
mod chunk;
mod clustering;
mod column_list;
mod cql_type;
mod descriptor;
mod encoding_stats;
mod entry;
mod error;
mod mutation;
mod parse;
mod plaintext;
#[cfg(test)]
mod recorded_schemas;
mod schema;
mod schema_change;
mod schema_problem;
mod schema_store;
mod schema_tables;
mod section;
mod segment_name;
mod size_crc;
mod system_schema;
mod system_tables;
mod type_error;
mod type_parser;
mod type_text;
mod unfiltered;
mod units;
mod update;
mod user_types;
mod vint;

pub use cdc_index::CdcIndex;
pub use chunk::Key;
pub use cql_type::{CqlType, Field, Native, UserType};
pub use descriptor::{Codec, Compression, Descriptor, Encryption};
pub use entry::{ENTRY_OVERHEAD, Entries, Entry};
pub use error::{Cause, DecodeError, Place, Structure};
pub use mutation::{Decoder, Mutation, MutationError};
pub use plaintext::Plaintext;
pub use schema::{Column, ColumnKind, Schema, SchemaNumber, TableId, TableSchema};
pub use schema_change::{RowChange, RowState};
pub use schema_problem::{SchemaProblem, Subject, Why};
pub use schema_store::SchemaStore;
pub use schema_tables::{SchemaTable, bootstrap_tables};
pub use section::{Section, Sections, Step, Tail, sync_marker};
pub use segment_name::SegmentName;
pub use system_schema::{ColumnRow, DroppedColumnRow, KeyspaceRow, SystemSchema, TableRow, TypeRow, ViewRow};
pub use system_tables::system_table;
pub use type_error::{TypeCause, TypeError};
pub use type_parser::parse_type;
pub use units::{FileOffset, FormatVersion, LogOffset, Position, SegmentId};
pub use update::{
    Bound, Cell, CellState, ClusteringValue, ColumnData, DeletionTime, Expiry, KeyComponents, Liveness,
    PartitionUpdate, RangeDelete, Row, Span,
};
pub use user_types::{UserTypeProblem, UserTypeWhy, UserTypes};

#[doc = include_str!("../FORMAT.md")]
pub mod format {}
