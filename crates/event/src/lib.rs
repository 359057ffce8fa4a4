//! Turns a decoded partition update into Kafka records.
//!
//! Owns: what an event looks like in JSON and Protobuf, its key, partition, topic, id and digest, splitting of what is
//! too large, dead-letter and gap records. [`contract`] says what all of it means.
//! Does not own: decoding (`cassandra-commitlog`), sending, files, clocks, threads, log lines, what has been published.
//!
//! The same input and the same [`Settings`] give the same bytes, on every machine and in every run.

mod calendar;
mod compound;
mod counter;
mod dead_letter;
mod digest;
mod digits;
mod element;
mod encoder;
mod gap;
mod json;
mod json_text;
mod key;
mod murmur2;
mod plan;
mod protobuf;
mod scalar;
mod settings;
mod short;
mod split;
mod topic;
mod value_json;
mod value_protobuf;
mod wire;

pub use dead_letter::DeadLetter;
pub use encoder::{Encoder, Record, Source, TooLarge};
pub use gap::{Gap, GapKind};
pub use murmur2::{murmur2, partition};
pub use settings::{Format, Int64, KeyFormat, Settings, Unit};
pub use topic::{TemplateError, TopicTemplate};

/// The `.proto` file of the Protobuf form.
pub const PROTO: &str = include_str!("../proto/cassandra_cdc.proto");

#[doc = include_str!("../CONTRACT.md")]
pub mod contract {}
