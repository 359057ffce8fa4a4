//! The agent as a library: what the binary, its tests and its benches share.
//!
//! Owns: everything that touches the world: files, Kafka, CQL, the terminal. Does not own: the format of commit logs
//! (`cassandra-commitlog`), what an event looks like (`cassandra-event`), what is done (`cassandra-progress`).

pub mod catalog;
pub mod cdc_raw;
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod durable_file;
pub mod exit;
pub mod fault;
pub mod filter;
pub mod folder;
pub mod gaps;
pub mod interrupt;
pub mod kafka;
pub mod keeper;
pub mod keys;
pub mod keystore;
pub mod lifecycle;
pub mod line;
pub mod mapped;
pub mod observe;
pub mod pump;
pub mod quarantine;
pub mod resume;
pub mod segments;
pub mod sink;
pub mod spool;
pub mod tail;
pub mod walk;
pub mod watch;
