//! Where records go.
//!
//! Owns: the choice between Kafka, lines of text and counting, and the arena that records are encoded into.
//! Does not own: how Kafka is spoken to (`kafka`), when a sink is asked to settle (its callers).

use std::fs::File;
use std::io::{self, Write};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cassandra_event::{Encoder, Format, KeyFormat, Record, partition};
use cassandra_progress::Ledger;
use thiserror::Error;

use crate::kafka::{KafkaError, Publisher, TopicCounts, TopicId};

/// A sink that does not take records any more.
#[derive(Debug, Error)]
pub enum SinkError {
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The output.
    #[error("write events")]
    Write(#[from] io::Error),
}

/// Where records go.
pub enum Sink {
    /// To Kafka, in runs.
    Kafka(Box<KafkaSink>),
    /// To a file or the terminal, one line a record.
    Lines(Lines),
    /// Nowhere.
    Count(Vec<u8>),
}

/// A publisher, and its topics by the encoder's tables.
pub struct KafkaSink {
    publisher: Publisher,
    /// That of dead letters, then that of each table.
    topics: Vec<Option<TopicId>>,
    /// Keyspaces and tables of topics.
    names: Vec<(TopicId, String, String)>,
}

/// The place of a table's topic: that of [`Record::NO_TABLE`] is the first.
fn place(table: u32) -> usize {
    table.wrapping_add(1) as usize
}

impl KafkaSink {
    /// A sink that publishes with this.
    pub fn new(publisher: Publisher) -> Self {
        Self { publisher, topics: Vec::new(), names: Vec::new() }
    }

    /// What the topics of tables have acknowledged since this was asked last: keyspace, table, counts.
    pub fn take_counts(&mut self) -> impl Iterator<Item = (&str, &str, TopicCounts)> {
        let Self { publisher, names, .. } = self;
        names.iter().filter_map(|(topic, keyspace, table)| {
            let counts = publisher.take_counts(*topic);
            (counts.records > 0).then_some((keyspace.as_str(), table.as_str(), counts))
        })
    }

    /// What this topic acknowledges counts for this table.
    pub(crate) fn count_for(&mut self, topic: TopicId, keyspace: &str, table: &str) {
        self.names.push((topic, keyspace.to_owned(), table.to_owned()));
    }

    fn topic(&self, table: u32) -> Option<TopicId> {
        self.topics.get(place(table)).copied().flatten()
    }

    /// Looks a table's topic up. Says whether its records are to be split elsewhere than so far.
    fn look_up(&mut self, encoder: &mut Encoder, table: u32) -> Result<bool, KafkaError> {
        let topic = self.publisher.topic(encoder.topic(table))?;
        if let Some((keyspace, name)) = encoder.table(table) {
            self.count_for(topic, keyspace, name);
        }
        let place = place(table);
        if self.topics.len() <= place {
            self.topics.resize(place + 1, None);
        }
        if let Some(known) = self.topics.get_mut(place) {
            *known = Some(topic);
        }
        Ok(encoder.set_record_limit(table, self.publisher.record_limit(topic)))
    }

    /// The publisher.
    pub fn publisher(&mut self) -> &mut Publisher {
        &mut self.publisher
    }
}

/// Text lines: the value of each record, or an envelope around it. Protobuf values are preceded by their length, as
/// Protobuf's own delimited streams are.
pub struct Lines {
    out: Box<dyn Write>,
    envelope: bool,
    partitions: Option<u32>,
    arena: Vec<u8>,
    /// The file behind the output, where nothing counts that is not durable in it.
    file: Option<File>,
    is_durable: bool,
    failed: bool,
}

impl Lines {
    /// Lines to this output, with an envelope if wanted, and in it the partition among so many if told.
    pub fn new(out: Box<dyn Write>, envelope: bool, partitions: Option<u32>) -> Self {
        Self { out, envelope, partitions, arena: Vec::new(), file: None, is_durable: true, failed: false }
    }

    /// The same, durable in this file, which is the one behind the output, at every settling.
    #[must_use]
    pub fn synced(self, file: Option<File>) -> Self {
        Self { file, ..self }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()?;
        let (Some(file), false) = (&self.file, self.is_durable) else { return Ok(()) };
        if self.failed {
            return Err(io::Error::other("what was written earlier is not durable"));
        }
        // After a failed sync the kernel may call the next one a success.
        self.failed = true;
        file.sync_data()?;
        (self.failed, self.is_durable) = (false, true);
        Ok(())
    }

    fn send(&mut self, encoder: &Encoder, records: &[Record]) -> io::Result<()> {
        self.is_durable &= records.is_empty();
        for record in records {
            let (key, value) = (record.key_bytes(&self.arena), record.value_bytes(&self.arena));
            if self.envelope {
                let settings = encoder.settings();
                let partition = self.partitions.map(|partitions| partition(record.hash, partitions));
                // A dead letter's key is its id: text, not JSON.
                let is_dead_letter = record.table == Record::NO_TABLE;
                write!(self.out, "{{\"topic\":{}", serde_json::Value::from(encoder.topic(record.table)))?;
                match partition {
                    Some(partition) => write!(self.out, ",\"partition\":{partition},\"key\":")?,
                    None => self.out.write_all(b",\"key\":")?,
                }
                if is_dead_letter {
                    write!(self.out, "{}", serde_json::Value::from(String::from_utf8_lossy(key)))?;
                } else {
                    embed(&mut self.out, key, settings.key == KeyFormat::Json)?;
                }
                self.out.write_all(b",\"value\":")?;
                embed(&mut self.out, value, settings.format == Format::Json)?;
                self.out.write_all(b"}\n")?;
            } else if record.table != Record::NO_TABLE {
                match encoder.settings().format {
                    Format::Json => {
                        self.out.write_all(value)?;
                        self.out.write_all(b"\n")?;
                    }
                    Format::Protobuf => {
                        let mut prefix = Vec::with_capacity(10);
                        prost::encode_length_delimiter(value.len(), &mut prefix).map_err(io::Error::other)?;
                        self.out.write_all(&prefix)?;
                        self.out.write_all(value)?;
                    }
                }
            }
        }
        self.arena.clear();
        Ok(())
    }
}

/// JSON as it is, other bytes in base64.
fn embed(out: &mut impl Write, bytes: &[u8], json: bool) -> io::Result<()> {
    if json { out.write_all(bytes) } else { write!(out, "\"{}\"", STANDARD.encode(bytes)) }
}

impl Sink {
    /// What the next records are to be appended to.
    pub fn arena(&mut self) -> &mut Vec<u8> {
        match self {
            Self::Kafka(sink) => sink.publisher.arena(),
            Self::Lines(lines) => &mut lines.arena,
            Self::Count(arena) => arena,
        }
    }

    /// Whether dead letters and gap records arrive somewhere: lines of values alone have no place for them.
    pub fn takes_dead_letters(&self) -> bool {
        match self {
            Self::Kafka(_) => true,
            Self::Lines(lines) => lines.envelope,
            Self::Count(_) => false,
        }
    }

    /// Whether half of what may be on its way is: soon a send would wait for room.
    pub fn is_crowded(&self) -> bool {
        matches!(self, Self::Kafka(sink) if sink.publisher.is_crowded())
    }

    /// Looks the topics of records up that are new to it, and has the encoder keep to what they take. Says whether the
    /// records are to be made again because of that.
    ///
    /// # Errors
    /// A topic is missing, or can't be looked up.
    pub fn look_up(&mut self, encoder: &mut Encoder, records: &[Record]) -> Result<bool, SinkError> {
        let Self::Kafka(sink) = self else { return Ok(false) };
        let mut again = false;
        for record in records {
            if sink.topic(record.table).is_none() {
                again |= sink.look_up(encoder, record.table)?;
            }
        }
        Ok(again)
    }

    /// Takes the records of one entry, whose topics were looked up.
    ///
    /// # Errors
    /// The sink can't go on.
    pub fn send(&mut self, encoder: &Encoder, records: &[Record], ledger: &mut Ledger) -> Result<(), SinkError> {
        match self {
            Self::Kafka(sink) => {
                for record in records {
                    let topic = sink.topic(record.table).ok_or(KafkaError::Bug("a topic that was not looked up"))?;
                    sink.publisher.push(ledger, topic, record.hash, record.key.clone(), record.value.clone())?;
                }
            }
            Self::Lines(lines) => lines.send(encoder, records)?,
            Self::Count(arena) => arena.clear(),
        }
        Ok(())
    }

    /// Hands over what waits, and collects what was delivered since the last time. Called now and then, so that
    /// records of a slow replay do not wait for their runs to fill.
    ///
    /// # Errors
    /// A record was refused, or the sink can't go on.
    pub fn settle(&mut self, ledger: &mut Ledger) -> Result<(), SinkError> {
        match self {
            Self::Kafka(sink) => {
                sink.publisher.flush_runs(ledger)?;
                sink.publisher.settle(ledger)?;
            }
            Self::Lines(lines) => lines.flush()?,
            Self::Count(_) => {}
        }
        Ok(())
    }

    /// Hands over all that waits, and waits for its delivery, at most so long. Says how many records are still under
    /// way.
    ///
    /// # Errors
    /// A record was refused, or the sink can't go on.
    pub fn drain(&mut self, ledger: &mut Ledger, timeout: Duration) -> Result<u64, SinkError> {
        match self {
            Self::Kafka(sink) => Ok(sink.publisher.drain(ledger, timeout)?),
            Self::Lines(lines) => {
                lines.flush()?;
                Ok(0)
            }
            Self::Count(_) => Ok(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cassandra_event::{Int64, Settings, TopicTemplate, Unit};
    use cassandra_progress::Window;

    /// What a sync of this fails for: a pipe.
    fn not_syncable() -> File {
        let (_, writer) = io::pipe().unwrap();
        File::from(std::os::fd::OwnedFd::from(writer))
    }

    #[test]
    fn what_is_not_durable_in_its_file_does_not_count_as_settled() {
        let encoder = Encoder::new(Settings {
            format: Format::Json,
            key: KeyFormat::Json,
            unit: Unit::Mutation,
            int64: Int64::Number,
            max_record_bytes: 1 << 20,
            topic: TopicTemplate::new("{keyspace}.{table}", "").unwrap(),
            dead_letter_topic: "dead-letter".to_owned(),
            cluster: "c".to_owned(),
            host_id: "h".to_owned(),
        });
        let gap = cassandra_event::Gap {
            segment: "CommitLog-7-1.log",
            kind: cassandra_event::GapKind::SegmentDeleted,
            from: None,
            to: None,
            entries: None,
            at: 0,
            ids_may_shift: false,
        };
        let mut ledger = Ledger::new(Window::default());
        for file in [None, Some(tempfile::tempfile().unwrap()), Some(not_syncable())] {
            let refuses = file.as_ref().is_some_and(|file| file.sync_data().is_err());
            let mut sink = Sink::Lines(Lines::new(Box::new(Vec::new()), true, None).synced(file));
            sink.settle(&mut ledger).unwrap();
            let mut records = Vec::new();
            encoder.gap(&gap, sink.arena(), &mut records);
            sink.send(&encoder, &records, &mut ledger).unwrap();
            // A failed sync is not tried again.
            for _ in 0..2 {
                assert_eq!(sink.settle(&mut ledger).is_err(), refuses);
                assert_eq!(sink.drain(&mut ledger, Duration::ZERO).is_err(), refuses);
            }
        }
    }
}
