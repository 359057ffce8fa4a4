//! What the tests share: updates made by hand or by chance, and readers of events that know nothing of the encoder.
#![allow(dead_code, unreachable_pub, reason = "every test takes what it needs")]

pub mod arbitrary;
pub mod events;
pub mod messages;
pub mod model;
pub mod rebuild;
pub mod tree;

use cassandra_event::{Encoder, Format, Int64, KeyFormat, Record, Settings, Source, TopicTemplate, Unit};

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use model::Owned;

pub const SEGMENT: &str = "CommitLog-7-1795246257030.log";

pub fn settings(format: Format) -> Settings {
    Settings {
        format,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "cdc").unwrap(),
        dead_letter_topic: "cdc.dead-letters".to_owned(),
        cluster: "c1".to_owned(),
        host_id: "6f1c0000-0000-4000-8000-000000000001".to_owned(),
    }
}

pub fn source() -> Source<'static> {
    Source { segment: SEGMENT, position: position() }
}

pub fn position() -> Position {
    Position { segment: SegmentId(1_795_246_257_030), offset: LogOffset(62_691) }
}

pub struct Encoded {
    pub arena: Vec<u8>,
    pub records: Vec<Record>,
    pub encoder: Encoder,
}

impl Encoded {
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.records.iter().map(|record| record.value_bytes(&self.arena))
    }

    pub fn value(&self) -> &[u8] {
        assert_eq!(self.records.len(), 1);
        self.values().next().unwrap()
    }

    pub fn key(&self) -> &[u8] {
        self.records[0].key_bytes(&self.arena)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(self.value()).unwrap()
    }
}

pub fn encode(settings: Settings, owned: &Owned) -> Encoded {
    let mut encoder = Encoder::new(settings);
    // Something stands before it in the arena, as it will.
    let (mut arena, mut records) = (b"before".to_vec(), Vec::new());
    encoder.encode(&owned.update(), &source(), &mut arena, &mut records).expect("below the limit");
    assert!(arena.starts_with(b"before"));
    Encoded { arena, records, encoder }
}
