//! What a replay is made of, from its command line.
//!
//! Owns: settings, sink and topics of a replay, and what is refused of them. Does not own: the replay.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cassandra_commitlog::{Schema, TableSchema};
use cassandra_event::{Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use serde_json::{Map, Value};

use super::super::schema_of;
use crate::cli::{EventArgs, FormatKind, Int64Kind, KafkaArgs, KeyKind, Replay, SinkKind, UnitKind};
use crate::durable_file::NewFile;
use crate::exit::{Exit, Failure};
use crate::filter::Tables;
use crate::interrupt;
use crate::kafka::{KafkaError, KafkaSettings, Publisher, TopicCreation, is_secret};
use crate::sink::{KafkaSink, Lines, Sink, SinkError};

/// The schema that decides alone.
pub(super) fn fixed_schema(path: &Path, tables: &Tables) -> Result<Arc<Schema>, Failure> {
    let schema = schema_of(path)?;
    match tables.unmatched(schema.tables().iter()) {
        None => Ok(schema),
        Some(pattern) => Err(Failure::text(Exit::Config, format!("{}: no table matches {pattern:?}", path.display()))),
    }
}

/// The partition that `--key` names: an object of the key columns, in any order, of at least one wanted table where the
/// tables are known beforehand.
pub(super) fn key_filter(text: &str, schema: Option<&Schema>, tables: &Tables) -> Result<Map<String, Value>, Failure> {
    let wrong = |why: &dyn std::fmt::Display| {
        let text = format!("--key {text}: a record key is a JSON object, such as {{\"customer\":42}}: {why}");
        Failure::text(Exit::Usage, text)
    };
    let key: Map<String, Value> = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    let has_this_key = |table: &&TableSchema| {
        let columns = &table.partition_key;
        tables.want(table) && columns.len() == key.len() && columns.iter().all(|column| key.contains_key(&column.name))
    };
    match schema.map(|schema| schema.tables().iter().filter(|table| table.cdc).any(|table| has_this_key(&table))) {
        Some(true) | None => Ok(key),
        Some(false) => Err(wrong(&"no wanted table with cdc = true has a partition key of these columns")),
    }
}

pub(super) fn settings(events: &EventArgs, cluster: &str, host_id: &str) -> Result<Settings, Failure> {
    let template = |template: &str| {
        TopicTemplate::new(template, &events.topic_prefix).map_err(|error| Failure::new(Exit::Usage, error))
    };
    Ok(Settings {
        format: match events.format {
            FormatKind::Json => Format::Json,
            FormatKind::Protobuf => Format::Protobuf,
        },
        key: match events.key_format {
            KeyKind::Json => KeyFormat::Json,
            KeyKind::Raw => KeyFormat::Raw,
        },
        unit: match events.unit {
            UnitKind::Mutation => Unit::Mutation,
            UnitKind::Row => Unit::Row,
        },
        int64: match events.int64 {
            Int64Kind::Number => Int64::Number,
            Int64Kind::String => Int64::String,
        },
        max_record_bytes: events.max_record_bytes,
        topic: template(&events.topic)?,
        dead_letter_topic: template(&events.dead_letter_topic)?.topic("", ""),
        cluster: cluster.to_owned(),
        host_id: host_id.to_owned(),
    })
}

/// The file of `--sink file`, without its name until it is whole.
pub(super) struct Output {
    file: NewFile,
    path: PathBuf,
}

impl Output {
    fn create(path: &Path) -> Result<(Self, File), Failure> {
        let cannot = |error| Failure::io(path.display(), error);
        if path.try_exists().map_err(cannot)? {
            return Err(Failure::text(
                Exit::Io,
                format!("{}: it exists already, and is not overwritten", path.display()),
            ));
        }
        let file = NewFile::beside(path, "output").map_err(cannot)?;
        let writer = file.file().try_clone().map_err(cannot)?;
        Ok((Self { file, path: path.to_owned() }, writer))
    }

    /// Gives the file its name.
    pub(super) fn keep(self) -> Result<(), Failure> {
        self.file.keep().map_err(|error| Failure::io(self.path.display(), error))
    }
}

/// The sink, and the file to keep at the end where it writes one.
pub(super) fn sink(arguments: &Replay) -> Result<(Sink, Option<Output>), Failure> {
    let lines = |out: Box<dyn Write>| {
        let out = Box::new(BufWriter::with_capacity(1 << 16, out));
        Sink::Lines(Lines::new(out, arguments.envelope, arguments.partitions))
    };
    if arguments.dry_run {
        return Ok((Sink::Count(Vec::new()), None));
    }
    Ok(match arguments.sink {
        SinkKind::Kafka => {
            let settings = kafka_settings(&arguments.kafka, arguments.events.max_record_bytes)?;
            let mut publisher = Publisher::connect(&settings).map_err(kafka_failure)?;
            publisher
                .on_wait(|_| if interrupt::is_urgent() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
            (Sink::Kafka(Box::new(KafkaSink::new(publisher))), None)
        }
        SinkKind::Stdout => (lines(Box::new(io::stdout())), None),
        SinkKind::File => {
            let (output, file) = Output::create(arguments.output.as_deref().unwrap_or_else(|| "".as_ref()))?;
            (lines(Box::new(file)), Some(output))
        }
    })
}

/// Looks up the topics of all wanted tables before anything is sent: half a replay is worse than none. Records are split
/// for the topic that takes the smallest.
pub(super) fn check_topics(
    sink: &mut Sink,
    settings: &mut Settings,
    schema: &Schema,
    tables: &Tables,
) -> Result<(), Failure> {
    let Sink::Kafka(sink) = sink else { return Ok(()) };
    let wanted = schema.tables().iter().filter(|table| table.cdc && tables.want(table));
    // The dead-letter topic is looked up when there is something for it.
    let mut names: Vec<String> = wanted.map(|table| settings.topic.topic(&table.keyspace, &table.name)).collect();
    names.sort();
    names.dedup();
    let mut missing = Vec::new();
    for name in names {
        match sink.publisher().topic(&name) {
            Ok(topic) => {
                settings.max_record_bytes = settings.max_record_bytes.min(sink.publisher().record_limit(topic));
            }
            Err(KafkaError::MissingTopic { topic }) => missing.push(topic),
            Err(error) => return Err(kafka_failure(error)),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "these topics do not exist: {}; create them, or have them created (--create-topics PARTITIONS,REPLICATION), or \
         leave their tables out (--table '!keyspace.table')",
        missing.join(", ")
    );
    Err(Failure::text(Exit::Failed, text))
}

fn kafka_settings(arguments: &KafkaArgs, max_record_bytes: usize) -> Result<KafkaSettings, Failure> {
    let mut properties = BTreeMap::new();
    if let Some(path) = &arguments.properties_file {
        let text = fs::read_to_string(path).map_err(|error| Failure::io(path.display(), error))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        for line in lines {
            // The value may be a password: it is not shown.
            let (name, value) = line
                .split_once('=')
                .ok_or_else(|| Failure::text(Exit::Usage, format!("{}: a line is not NAME=VALUE", path.display())))?;
            properties.insert(name.trim().to_owned(), value.trim().to_owned());
        }
    }
    for property in &arguments.properties {
        let (name, value) = property
            .split_once('=')
            .ok_or_else(|| Failure::text(Exit::Usage, format!("--property {}: write NAME=VALUE", name_of(property))))?;
        let name = name.trim();
        if is_secret(name) {
            let text = format!("--property {name}: everybody can read a command line; put it in --properties-file");
            return Err(Failure::text(Exit::Usage, text));
        }
        properties.insert(name.to_owned(), value.trim().to_owned());
    }
    Ok(KafkaSettings {
        bootstrap: arguments.bootstrap.clone().unwrap_or_default(),
        // Not the running agent's name: brokers tell the two apart in quotas and logs.
        client_id: "cassandra-cdc-replay".to_owned(),
        max_record_bytes,
        create_topics: arguments.create_topics.as_deref().map(topic_creation).transpose()?,
        properties,
        ..KafkaSettings::default()
    })
}

/// What of a property without `=` is surely its name: the rest may be a password.
fn name_of(property: &str) -> &str {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_';
    property.split(|c| !is_name(c)).next().unwrap_or_default()
}

fn topic_creation(text: &str) -> Result<TopicCreation, Failure> {
    let wrong =
        || Failure::text(Exit::Usage, format!("--create-topics {text}: write PARTITIONS,REPLICATION, such as 12,3"));
    let (partitions, replication) = text.split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse().ok().filter(|number: &i32| *number > 0).ok_or_else(wrong);
    Ok(TopicCreation { partitions: number(partitions)?, replication: number(replication)? })
}

pub(in crate::commands) fn kafka_failure(error: KafkaError) -> Failure {
    let exit = match error {
        KafkaError::Unreachable { .. } => Exit::Unreachable,
        KafkaError::Credentials { .. } => Exit::Permission,
        KafkaError::Interrupted => Exit::Interrupted,
        KafkaError::Setting { .. } | KafkaError::Client(_) => Exit::Config,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

pub(in crate::commands) fn sink_failure(error: SinkError) -> Failure {
    match error {
        SinkError::Kafka(error) => kafka_failure(error),
        SinkError::Write(error) => Failure::io("write events", error),
    }
}
