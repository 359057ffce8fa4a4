//! A segment read to its end, as the agent does it.
//!
//! Owns: the straight line through the decoder. Does not own: what is expected of it.

use std::sync::Arc;

use cassandra_commitlog::{
    DecodeError, Decoder, Descriptor, Entries, Entry, FormatVersion, MutationError, Plaintext, Schema, Sections, Step,
    Tail,
};

use super::model::{Update, told};
use super::writer::key;

/// One entry: its end, its bytes, what they say.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    pub end: usize,
    pub body: Vec<u8>,
    pub updates: Result<Vec<Update>, MutationError>,
}

/// How reading ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    End,
    Pending,
    Damage(DecodeError),
}

/// All records of a file, and how it ended.
pub fn read(file: &[u8], schema: &Arc<Schema>, tail: Tail) -> (Vec<Record>, Ending) {
    let mut records = Vec::new();
    let ending = read_into(file, schema, tail, &mut records).unwrap_or_else(Ending::Damage);
    (records, ending)
}

fn read_into(file: &[u8], schema: &Arc<Schema>, tail: Tail, records: &mut Vec<Record>) -> Result<Ending, DecodeError> {
    let descriptor = Descriptor::parse(file)?;
    let mut decoder = Decoder::new(schema.clone());
    let mut plaintext = Plaintext::new(Some(key()));
    let mut sections = Sections::new(file, &descriptor, tail);
    loop {
        let section = match sections.step()? {
            Step::Item(section) => section,
            Step::Pending => return Ok(Ending::Pending),
            Step::End => return Ok(Ending::End),
        };
        for entry in Entries::new(plaintext.of(&section, &descriptor)?, section.start) {
            records.push(record(&entry?, descriptor.version, &mut decoder));
        }
    }
}

fn record(entry: &Entry<'_>, version: FormatVersion, decoder: &mut Decoder) -> Record {
    let updates = updates(entry, version, decoder);
    Record { end: entry.end().0 as usize, body: entry.body.to_vec(), updates }
}

/// What a mutation says.
pub fn updates(entry: &Entry<'_>, version: FormatVersion, decoder: &mut Decoder) -> Result<Vec<Update>, MutationError> {
    let mut mutation = decoder.mutation(version, entry)?;
    let mut updates = Vec::new();
    while let Some(update) = mutation.next_update()? {
        updates.push(told(&update));
    }
    Ok(updates)
}

/// What a body says that came without a segment, at position 0.
pub fn body(bytes: &[u8], version: i32, schema: &Arc<Schema>) -> Result<Vec<Update>, MutationError> {
    let entry = Entry { body: bytes, body_at: cassandra_commitlog::LogOffset(0), crc: 0 };
    let version = FormatVersion::from_number(version).expect("a version that is read");
    updates(&entry, version, &mut Decoder::new(schema.clone()))
}
