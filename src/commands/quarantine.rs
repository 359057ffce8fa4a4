//! `quarantine`: entries that could not be decoded, and damaged bytes, kept beside the state.
//!
//! Owns: listing, showing, trying again, dropping. Does not own: what is kept and how (`crate::quarantine`), the line
//! from an entry to records.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cassandra_commitlog::Schema;
use cassandra_event::Encoder;
use cassandra_progress::{Ledger, Outcome, Window};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use super::configured::{self, Configured};
use super::inspect::hex_dump;
use super::print;
use super::replay::setup::{kafka_failure, sink_failure};
use crate::cli::{Output, QuarantineCommand};
use crate::exit::{Ending, Exit, Failure};
use crate::interrupt;
use crate::kafka::{KafkaError, Publisher};
use crate::line::{Line, Segment, Wanted};
use crate::quarantine::{Content, Item, KeptEntry, Kind, Quarantine};
use crate::sink::{KafkaSink, Sink, SinkError};

/// Items between two waits for Kafka.
const BATCH: usize = 256;

/// How long one wait for Kafka lasts before a signal is looked for.
const DELIVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn run(command: &QuarantineCommand) -> Ending {
    match command {
        QuarantineCommand::List { config, output } => list(&configured::open(config)?.state, *output),
        QuarantineCommand::Show { config, name } => show(&configured::open(config)?.state, name),
        QuarantineCommand::Retry { config, names } => {
            let configured = configured::open(config)?;
            let Some(mut quarantine) = find(&configured.state)? else { return nothing(names) };
            interrupt::watch(DELIVERY, false);
            retry(&mut quarantine, names, &configured)
        }
        QuarantineCommand::Drop { config, names } => {
            let Some(mut quarantine) = find(&configured::open(config)?.state)? else { return nothing(names) };
            drop_items(&mut quarantine, names)
        }
    }
}

fn find(state: &Path) -> Result<Option<Quarantine>, Failure> {
    Quarantine::find(state).map_err(|error| Failure::io(state.join("quarantine").display(), error))
}

/// Where nothing was ever kept.
fn nothing(names: &[String]) -> Ending {
    eprintln!("the quarantine is empty");
    Ok(if names.is_empty() { Exit::Fine } else { Exit::Failed })
}

fn list(state: &Path, output: Output) -> Ending {
    let mut rows = Vec::new();
    if let Some(quarantine) = find(state)? {
        for item in quarantine.items().map_err(|error| Failure::io("list the quarantine", error))? {
            rows.extend(row(&quarantine, &item));
        }
    }
    let text = match output {
        Output::Table => {
            let mut table = Table::new();
            table.load_style(UTF8_HORIZONTAL_ONLY).set_header(["name", "bytes", "reason", "table", "detail"]);
            for row in &rows {
                let text = |name: &str| match &row[name] {
                    Value::String(text) => text.clone(),
                    Value::Null => String::new(),
                    other => other.to_string(),
                };
                table.add_row(["name", "bytes", "reason", "table", "detail"].map(text));
            }
            format!("{table}\n")
        }
        Output::Json => format!("{:#}\n", Value::from(rows)),
        Output::Jsonl => rows.iter().map(|row| format!("{row}\n")).collect(),
    };
    print(text.as_bytes())
}

/// What is listed of an item; nothing of one that has just been dropped.
fn row(quarantine: &Quarantine, item: &Item) -> Option<Value> {
    let mut row = json!({ "name": item.name, "bytes": item.bytes });
    match (item.kind, quarantine.read(&item.name)) {
        (Kind::Region, _) => row["reason"] = "damaged-bytes".into(),
        (Kind::Entry, Ok(Some(Content::Entry(kept)))) => {
            row["reason"] = kept.reason.into();
            row["table"] = match (kept.keyspace, kept.table) {
                (Some(keyspace), Some(table)) => format!("{keyspace}.{table}").into(),
                _ => Value::Null,
            };
            row["detail"] = kept.detail.into();
            row["id"] = kept.id.into();
        }
        (Kind::Entry, Err(error)) => {
            row["reason"] = "unreadable".into();
            row["detail"] = error.to_string().into();
        }
        (Kind::Entry, Ok(_)) => return None,
    }
    Some(row)
}

fn show(state: &Path, name: &str) -> Ending {
    let unknown =
        || Failure::text(Exit::Failed, format!("{name} is not in the quarantine: `quarantine list` names all"));
    let quarantine = find(state)?.ok_or_else(unknown)?;
    // Text as it stands in the file, so that even a damaged one can be seen.
    let bytes = quarantine.raw(name).map_err(|error| Failure::io(name, error))?.ok_or_else(unknown)?;
    if !name.ends_with(".damage") {
        return print(&bytes);
    }
    let mut text = Vec::new();
    hex_dump(&mut text, &bytes).map_err(|error| Failure::io(name, error))?;
    print(&text)
}

fn drop_items(quarantine: &mut Quarantine, names: &[String]) -> Ending {
    let mut ending = Exit::Fine;
    for name in names {
        if quarantine.drop_item(name).map_err(|error| Failure::io(name, error))? {
            eprintln!("{name}: dropped");
        } else {
            eprintln!("{name}: not in the quarantine");
            ending = Exit::Failed;
        }
    }
    Ok(ending)
}

fn retry(quarantine: &mut Quarantine, names: &[String], configured: &Configured) -> Ending {
    let schema = configured.schema()?;
    let mut publisher = Publisher::connect(&configured.kafka).map_err(kafka_failure)?;
    publisher.on_wait(|_| if interrupt::is_urgent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    let max_record_bytes = record_limit(&mut publisher, &schema, configured)?;
    let mut retry = Retry {
        configured,
        schema,
        max_record_bytes,
        lines: HashMap::new(),
        sink: Sink::Kafka(Box::new(KafkaSink::new(publisher))),
        ledger: Ledger::new(Window::default()),
    };
    let (entries, mut left) = chosen(quarantine, names)?;
    for batch in entries.chunks(BATCH) {
        let mut sent = Vec::new();
        for (name, entry) in batch {
            match retry.send(entry)? {
                Ok(()) => sent.push(name),
                Err(why) => {
                    eprintln!("{name}: kept: {why}");
                    left += 1;
                }
            }
        }
        retry.deliver()?;
        for name in sent {
            quarantine.drop_item(name).map_err(|error| Failure::io(name, error))?;
            eprintln!("{name}: published, and dropped");
        }
    }
    Ok(if left == 0 { Exit::Fine } else { Exit::Failed })
}

/// Records are split for the topic that takes the smallest. One that is missing is told of when something is for it.
fn record_limit(publisher: &mut Publisher, schema: &Schema, configured: &Configured) -> Result<usize, Failure> {
    let settings = (configured.events)("", "");
    let mut limit = settings.max_record_bytes;
    for table in schema.tables().iter().filter(|table| table.cdc && configured.tables.want(table)) {
        match publisher.topic(&settings.topic.topic(&table.keyspace, &table.name)) {
            Ok(topic) => limit = limit.min(publisher.record_limit(topic)),
            Err(KafkaError::MissingTopic { .. }) => {}
            Err(error) => return Err(kafka_failure(error)),
        }
    }
    Ok(limit)
}

/// Entries by the names of their items.
type Entries = Vec<(String, Box<KeptEntry>)>;

/// The entries to be tried again, in log order, and how many of the chosen items can't be.
fn chosen(quarantine: &Quarantine, names: &[String]) -> Result<(Entries, usize), Failure> {
    let all = || {
        let items = quarantine.items().map_err(|error| Failure::io("list the quarantine", error))?;
        Ok(items.into_iter().filter(|item| item.kind == Kind::Entry).map(|item| item.name).collect())
    };
    let names: Vec<String> = if names.is_empty() { all()? } else { names.to_vec() };
    let (mut entries, mut left) = (Vec::new(), 0);
    for name in names {
        let why = match quarantine.read(&name) {
            Ok(Some(Content::Entry(entry))) => {
                entries.push((name, entry));
                continue;
            }
            Ok(Some(Content::Region(_))) => "damaged bytes can't be decoded".to_owned(),
            Ok(None) => "not in the quarantine".to_owned(),
            Err(error) => format!("kept: {error}"),
        };
        eprintln!("{name}: {why}");
        left += 1;
    }
    entries.sort_by_key(|(_, entry)| (entry.segment.id, entry.entry().end()));
    Ok((entries, left))
}

/// Kept entries on their way to Kafka.
struct Retry<'a> {
    configured: &'a Configured,
    schema: Arc<Schema>,
    max_record_bytes: usize,
    /// By cluster and host id: an entry keeps the id that it had.
    lines: HashMap<(String, String), Line>,
    sink: Sink,
    ledger: Ledger,
}

impl Retry<'_> {
    /// Hands over the records of an entry, or says why it does not.
    fn send(&mut self, kept: &KeptEntry) -> Result<Result<(), String>, Failure> {
        let line = self.lines.entry((kept.cluster.clone(), kept.host_id.clone())).or_insert_with(|| {
            let mut settings = (self.configured.events)(&kept.cluster, &kept.host_id);
            settings.max_record_bytes = self.max_record_bytes;
            let wanted = Wanted { tables: self.configured.tables.clone(), ..Wanted::default() };
            Line::new(Arc::clone(&self.schema), Encoder::new(settings), wanted)
        });
        let (segment, entry) = (Segment::new(kept.segment), kept.entry());
        // First to nowhere: what still can't be decoded has its dead letter already.
        let (mut nowhere, mut nothing) = (Sink::Count(Vec::new()), Ledger::new(Window::default()));
        let tried = line.entry(&segment, kept.version, &entry, false, &mut nowhere, &mut nothing);
        match tried.map_err(sink_failure)?.map(|done| (done.rejected, done.outcome)) {
            Some((Some(error), _)) => return Ok(Err(format!("still {}: {error}", error.reason()))),
            Some((None, Outcome::Published)) => {}
            _ => {
                let text = "nothing in it is of a wanted table with cdc = true; `quarantine drop` drops it";
                return Ok(Err(text.to_owned()));
            }
        }
        match line.entry(&segment, kept.version, &entry, false, &mut self.sink, &mut self.ledger) {
            Ok(_) => Ok(Ok(())),
            Err(SinkError::Kafka(error @ (KafkaError::MissingTopic { .. } | KafkaError::TooLarge { .. }))) => {
                Ok(Err(error.to_string()))
            }
            Err(error) => Err(sink_failure(error)),
        }
    }

    /// Waits until Kafka has everything, however long that takes; a signal ends the wait.
    fn deliver(&mut self) -> Result<(), Failure> {
        while self.sink.drain(&mut self.ledger, DELIVERY).map_err(sink_failure)? > 0 {
            if interrupt::came() {
                return Err(Failure::text(Exit::Interrupted, "interrupted; what Kafka did not acknowledge is kept"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
