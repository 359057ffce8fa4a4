//! The line from bytes to records, as far as each row of the table goes.
//!
//! Owns: loops around the crates' own functions. Does not own: how they are timed.

use std::hint::black_box;
use std::ops::Range;

use cassandra_commitlog::{
    Decoder, Descriptor, Entries, Entry, FormatVersion, LogOffset, PartitionUpdate, Plaintext, Position, Sections,
    SegmentId, Step, Tail,
};
use cassandra_event::{Encoder, Format, Int64, KeyFormat, Record, Settings, Source, TopicTemplate, Unit};

use crate::image::Image;
use crate::orders::{CLUSTER, HOST};

/// The arena is emptied behind so many bytes: about what a few runs of records take.
const ARENA: usize = 64 << 10;

/// Frames a segment and verifies both checksums of every entry.
pub(crate) fn each_entry(file: &[u8], mut each: impl FnMut(FormatVersion, &Entry<'_>)) {
    let descriptor = Descriptor::parse(file).expect("a descriptor");
    let mut sections = Sections::new(file, &descriptor, Tail::Sealed);
    let mut plaintext = Plaintext::new(None);
    while let Step::Item(section) = sections.step().expect("a sound chain") {
        let bytes = plaintext.of(&section, &descriptor).expect("a sound section");
        for entry in Entries::new(bytes, section.start) {
            each(descriptor.version, &entry.expect("a sound entry"));
        }
    }
}

/// The entries of a plain segment's first section.
pub(crate) fn first_section(file: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let descriptor = Descriptor::parse(file).expect("a descriptor");
    let Ok(Step::Item(section)) = Sections::new(file, &descriptor, Tail::Sealed).step() else { panic!("no section") };
    Entries::new(section.stored, section.start).map(|entry| entry.expect("a sound entry"))
}

/// Where in a plain segment the bodies of entries stand.
pub(crate) fn bodies(file: &[u8]) -> Vec<Range<usize>> {
    let mut bodies = Vec::new();
    each_entry(file, |_, entry| {
        let start = entry.body_at.0 as usize;
        bodies.push(start..start + entry.body.len());
    });
    bodies
}

/// Decodes a segment down to borrowed updates, and hands out those of CDC tables.
pub(crate) fn each_update(image: &Image, decoder: &mut Decoder, mut each: impl FnMut(&PartitionUpdate<'_>, LogOffset)) {
    each_entry(&image.file, |version, entry| {
        let mut mutation = decoder.mutation(version, entry).expect("a mutation");
        while let Some(update) = mutation.next_update().expect("an update") {
            if update.table.cdc {
                each(&update, entry.end());
            }
        }
    });
}

/// An encoder with what it writes into, used again and again.
pub(crate) struct Publisher {
    encoder: Encoder,
    arena: Vec<u8>,
    records: Vec<Record>,
    segment: (SegmentId, String),
}

impl Publisher {
    pub(crate) fn new(format: Format, image: &Image) -> Self {
        let settings = Settings {
            format,
            key: KeyFormat::Json,
            unit: Unit::Mutation,
            int64: Int64::Number,
            max_record_bytes: 900 << 10,
            topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "cassandra").expect("a template"),
            dead_letter_topic: "cassandra.dead-letters".to_owned(),
            cluster: CLUSTER.to_owned(),
            host_id: HOST.to_owned(),
        };
        let segment = (image.name.id, image.file_name.clone());
        Self { encoder: Encoder::new(settings), arena: Vec::new(), records: Vec::new(), segment }
    }

    /// Encodes an update to its records: key, partition hash, id, digest and value.
    #[inline]
    pub(crate) fn encode(&mut self, update: &PartitionUpdate<'_>, end: LogOffset) {
        if self.arena.len() > ARENA {
            black_box((&self.arena, &self.records));
            self.arena.clear();
            self.records.clear();
        }
        let (segment, name) = &self.segment;
        let segment = *segment;
        let source = Source { segment: name, position: Position { segment, offset: end } };
        self.encoder.encode(update, &source, &mut self.arena, &mut self.records).expect("below the limit");
    }

    /// The hash, key and value of the one record of an update.
    pub(crate) fn record_of(&mut self, update: &PartitionUpdate<'_>, end: LogOffset) -> (u32, &[u8], &[u8]) {
        self.encode(update, end);
        let record = self.records.last().expect("a record");
        (record.hash, record.key_bytes(&self.arena), record.value_bytes(&self.arena))
    }
}
