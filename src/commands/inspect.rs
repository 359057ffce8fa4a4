//! `inspect`: what is in segments, as far as it can be read.
//!
//! Owns: the listing. Does not own: the walk, the decoding.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::ops::ControlFlow;
use std::sync::Arc;

use cassandra_commitlog::{
    Codec, Decoder, Descriptor, Entry, FormatVersion, MutationError, PartitionUpdate, Plaintext, Position, Schema,
    SchemaStore, Section,
};
use cassandra_event::{Encoder, Format, Int64, KeyFormat, Settings, Source, TopicTemplate, Unit};
use serde_json::{Value, json};

use super::schema_of;
use crate::catalog::timeline::Timeline;
use crate::cli::{Inspect, InspectOutput};
use crate::exit::{Ending, Exit, Failure};
use crate::filter::Tables;
use crate::keys::KeySource;
use crate::mapped::Mapped;
use crate::segments::{self, SegmentFile};
use crate::walk::{self, Seen, Walked, walk};

/// Runs the command.
pub(super) fn run(arguments: &Inspect) -> Ending {
    let tables = Tables::parse(&arguments.tables)?;
    let keys = KeySource::of(&arguments.key_store)?;
    let schema = arguments.schema.as_deref().map(schema_of).transpose()?;
    let segments = segments::find(&arguments.paths)?;
    let mut inspector = Inspector {
        out: BufWriter::new(io::stdout().lock()),
        output: arguments.output,
        limit: arguments.limit.unwrap_or(u64::MAX),
        tables,
        contents: Contents::new(schema)?,
        first: true,
    };
    let mut damaged = false;
    for segment in &segments {
        damaged |= inspector.segment(segment, &keys)?;
    }
    inspector.finish().map_err(cannot_write)?;
    Ok(if damaged { Exit::Corrupt } else { Exit::Fine })
}

fn cannot_write(error: io::Error) -> Failure {
    Failure::io("write the listing", error)
}

/// What it takes to look into entries.
struct Contents {
    decoder: Decoder,
    /// What the schema follows where none is given.
    timeline: Option<Timeline>,
    encoder: Encoder,
}

impl Contents {
    fn new(schema: Option<Arc<Schema>>) -> Result<Self, Failure> {
        let topic = TopicTemplate::new("{keyspace}.{table}", "").map_err(|error| Failure::new(Exit::Bug, error))?;
        let encoder = Encoder::new(Settings {
            format: Format::Json,
            key: KeyFormat::Json,
            unit: Unit::Mutation,
            int64: Int64::Number,
            max_record_bytes: usize::MAX,
            topic,
            dead_letter_topic: "dead-letter".to_owned(),
            cluster: "unknown".to_owned(),
            host_id: "unknown".to_owned(),
        });
        let (schema, timeline) = match schema {
            Some(schema) => (schema, None),
            None => {
                let timeline = Timeline::new(SchemaStore::new());
                (Arc::clone(timeline.schema()), Some(timeline))
            }
        };
        Ok(Self { decoder: Decoder::new(schema), timeline, encoder })
    }

    /// The updates of an entry as events, as far as its tables are among these, and what kept the rest from being read.
    /// With no tables at all the schema goes on, and nothing is shown.
    fn updates(
        &mut self,
        file_name: &str,
        position: Position,
        version: FormatVersion,
        entry: &Entry<'_>,
        tables: Option<&Tables>,
    ) -> (Vec<Value>, Option<MutationError>) {
        let (mut updates, mut changes) = (Vec::new(), Vec::new());
        let source = Source { segment: file_name, position };
        let mut mutation = match self.decoder.mutation(version, entry) {
            Ok(mutation) => mutation,
            Err(error) => return (updates, Some(error)),
        };
        let error = loop {
            match mutation.next_update() {
                Ok(None) => break None,
                Ok(Some(update)) => {
                    if let Some(timeline) = &self.timeline {
                        changes.extend(timeline.changes_in(&update));
                    }
                    if tables.is_some_and(|tables| tables.want(update.table)) {
                        updates.push(event(&mut self.encoder, &update, &source));
                    }
                }
                Err(error) => break Some(error),
            }
        };
        if let Some(timeline) = &mut self.timeline
            && timeline.apply(position, changes)
        {
            self.decoder = Decoder::new(Arc::clone(timeline.schema()));
        }
        (updates, error)
    }
}

fn event(encoder: &mut Encoder, update: &PartitionUpdate<'_>, source: &Source<'_>) -> Value {
    let (mut arena, mut records) = (Vec::new(), Vec::new());
    if let Err(error) = encoder.encode(update, source, &mut arena, &mut records) {
        return json!({"keyspace": update.table.keyspace, "table": update.table.name, "error": error.to_string()});
    }
    let value = records.first().and_then(|record| serde_json::from_slice(record.value_bytes(&arena)).ok());
    value.unwrap_or(Value::Null)
}

struct Inspector<'o> {
    out: BufWriter<StdoutLock<'o>>,
    output: InspectOutput,
    limit: u64,
    tables: Tables,
    contents: Contents,
    first: bool,
}

impl Inspector<'_> {
    /// Lists one segment; whether it is damaged.
    fn segment(&mut self, segment: &SegmentFile, keys: &KeySource) -> Result<bool, Failure> {
        let file_name = segment.name.to_string();
        let cannot = |error| Failure::io(segment.path.display(), error);
        let file = Mapped::open(&segment.path).map_err(cannot)?;
        let mut plaintext = Plaintext::new(keys.key_for(&file)?);
        match Descriptor::parse(&file) {
            Ok(descriptor) => self.descriptor(&file_name, segment, &descriptor, file.len()).map_err(cannot_write)?,
            Err(error) => {
                self.damage(&file_name, &error.to_string()).map_err(cannot_write)?;
                return Ok(true);
            }
        }
        // As much as possible of a damaged file: behind damage the next sync marker is looked for.
        let options =
            walk::Options { tail: segment.tail(), salvage: true, index: segment.index, limit: None, start: None };
        let (mut damaged, mut shown) = (false, 0);
        let walked = walk(&segment.name, &file, options, &mut plaintext, |descriptor, seen| {
            let listed = match seen {
                Seen::Section(section) => self.section(section),
                Seen::Damage(damage) => {
                    damaged = true;
                    self.damage(&file_name, &damage.to_string())
                }
                Seen::Entry(entry) if shown < self.limit => {
                    self.entry(&file_name, descriptor.version, segment, &entry, &mut shown)
                }
                Seen::Entry(entry) => {
                    let position = Position { segment: segment.name.id, offset: entry.end() };
                    self.contents.updates(&file_name, position, descriptor.version, &entry, None);
                    Ok(())
                }
            };
            match listed {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match walked {
            Ok(ControlFlow::Continue(walked)) => self.end(&file_name, walked).map_err(cannot_write)?,
            Ok(ControlFlow::Break(error)) => return Err(cannot_write(error)),
            Err(error) => {
                damaged = true;
                self.damage(&file_name, &error.to_string()).map_err(cannot_write)?;
            }
        }
        Ok(damaged)
    }

    fn descriptor(
        &mut self,
        file_name: &str,
        segment: &SegmentFile,
        descriptor: &Descriptor,
        len: usize,
    ) -> io::Result<()> {
        let codec = match &descriptor.codec {
            Codec::Plain => "plain".to_owned(),
            Codec::Compressed(compression) => format!("{compression:?}").to_lowercase(),
            Codec::Encrypted(encryption) => format!("{} with key {}", encryption.cipher, encryption.key_alias),
        };
        let version = descriptor.version.number();
        let index = segment.index.map(|index| index.to_string());
        self.line(
            || {
                format!(
                    "{file_name}: version {version}, {codec}, {len} bytes, index {}",
                    index.as_deref().unwrap_or("none")
                )
            },
            json!({
                "type": "segment", "segment": file_name, "version": version, "id": descriptor.id.0, "codec": codec,
                "bytes": len, "index": index,
            }),
        )
    }

    fn section(&mut self, section: &Section<'_>) -> io::Result<()> {
        let (marker, end, start) = (section.marker.0, section.end.0, section.start.0);
        self.line(
            || format!("  section at file offset {marker} to {end}, positions from {start}"),
            json!({"type": "section", "marker": marker, "end": end, "position": start}),
        )
    }

    fn entry(
        &mut self,
        file_name: &str,
        version: FormatVersion,
        segment: &SegmentFile,
        entry: &Entry<'_>,
        shown: &mut u64,
    ) -> io::Result<()> {
        let position = Position { segment: segment.name.id, offset: entry.end() };
        let (updates, error) = self.contents.updates(file_name, position, version, entry, Some(&self.tables));
        if !self.tables.is_empty() && updates.is_empty() {
            return Ok(());
        }
        *shown += 1;
        if self.output == InspectOutput::Hex {
            writeln!(self.out, "  entry {position}, {} bytes, crc {:08x}", entry.body.len(), entry.crc)?;
            return hex_dump(&mut self.out, entry.body);
        }
        let reason = error.as_ref().map(|error| format!("{}: {error}", error.reason()));
        self.line(
            || {
                let mut text = format!("    entry {position}, {} bytes", entry.body.len());
                for update in &updates {
                    text.push_str(&format!(
                        "\n      {}.{} {}",
                        bare(&update["keyspace"]),
                        bare(&update["table"]),
                        brief(update)
                    ));
                }
                if let Some(reason) = &reason {
                    text.push_str(&format!("\n      can't be decoded: {reason}"));
                }
                text
            },
            json!({
                "type": "entry", "position": position.offset.0, "size": entry.body.len(),
                "crc": format!("{:08x}", entry.crc), "updates": updates, "undecodable": reason,
            }),
        )
    }

    fn damage(&mut self, file_name: &str, text: &str) -> io::Result<()> {
        eprintln!("cassandra-cdc: {file_name}: {text}");
        self.line(|| format!("  damage: {text}"), json!({"type": "damage", "segment": file_name, "error": text}))
    }

    fn end(&mut self, file_name: &str, walked: Walked) -> io::Result<()> {
        let (entries, end) = (walked.entries, walked.end.0);
        self.line(
            || format!("  {entries} entries, the chain ends at position {end}"),
            json!({"type": "end", "segment": file_name, "entries": entries, "end": end}),
        )
    }

    /// One item of the listing, as text or as JSON.
    fn line(&mut self, text: impl Fn() -> String, value: Value) -> io::Result<()> {
        match self.output {
            InspectOutput::Table | InspectOutput::Hex => writeln!(self.out, "{}", text()),
            InspectOutput::Jsonl => writeln!(self.out, "{value}"),
            InspectOutput::Json => {
                let before = if std::mem::take(&mut self.first) { "[" } else { "," };
                writeln!(self.out, "{before}{value}")
            }
        }
    }

    fn finish(mut self) -> io::Result<()> {
        if self.output == InspectOutput::Json {
            let empty = if self.first { "[" } else { "" };
            writeln!(self.out, "{empty}]")?;
        }
        self.out.flush()
    }
}

fn bare(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An event without what the line around it says already.
pub(super) fn brief(event: &Value) -> String {
    let mut event = event.clone();
    if let Some(members) = event.as_object_mut() {
        for name in ["v", "id", "digest", "keyspace", "table", "table_id", "source"] {
            members.remove(name);
        }
    }
    event.to_string()
}

pub(super) fn hex_dump(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for (row, line) in bytes.chunks(16).enumerate() {
        write!(out, "    {:08x} ", row * 16)?;
        for byte in line {
            write!(out, " {byte:02x}")?;
        }
        let text: String =
            line.iter().map(|&byte| if byte.is_ascii_graphic() { char::from(byte) } else { '.' }).collect();
        writeln!(out, "{:pad$}  {text}", "", pad = (16 - line.len()) * 3)?;
    }
    Ok(())
}
