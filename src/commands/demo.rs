//! `demo`: the first run, with nothing installed.
//!
//! Owns: putting a stand-in node and broker around the real line, and what is shown of it. Does not own: the line.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cassandra_event::{Encoder, Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use cassandra_progress::{Checkpoint, Node, Totals};

use crate::cdc_raw::CdcRaw;
use crate::checkpoint::StateDir;
use crate::config::OnPartitionChange;
use crate::demo::broker::{DemoBroker, DemoConsumer, DemoRecord};
use crate::demo::node;
use crate::exit::{Ending, Exit, Failure};
use crate::kafka::KafkaSettings;
use crate::keeper::{Keeper, RecordGap};
use crate::keys::KeySource;
use crate::lifecycle::ReadTo;
use crate::line::{Line, Wanted};
use crate::mapped::Access;
use crate::observe::{Identity, Observe};
use crate::pump::{Options, Partitions, Parts, Pump, SchemaSource};

/// Partitions of each topic.
const PARTITIONS: i32 = 12;

/// The whole takes about a second; a demo that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to look for records that came back, each time.
const GLANCE: Duration = Duration::from_millis(20);

/// Runs the command.
pub(super) fn run() -> Ending {
    let started = Instant::now();
    let folder = tempfile::tempdir().map_err(|error| Failure::io("make a temporary directory", error))?;
    let cdc_raw = folder.path().join("cdc_raw");
    std::fs::create_dir(&cdc_raw).map_err(|error| Failure::io(cdc_raw.display(), error))?;
    let mut show = Show::new();
    show.begin(&cdc_raw);

    let (schema, _) = node::schema().map_err(|error| Failure::new(Exit::Bug, error))?.resolve();
    let template = TopicTemplate::new("{prefix}.{keyspace}.{table}", "cassandra")
        .map_err(|error| Failure::new(Exit::Bug, error))?;
    let cdc_tables = schema.tables().iter().filter(|table| table.cdc);
    let mut topics: Vec<String> = cdc_tables.map(|table| template.topic(&table.keyspace, &table.name)).collect();
    let settings = settings(template);
    topics.push(settings.dead_letter_topic.clone());
    let node = Node { agent: "demo".to_owned(), host: settings.host_id.clone(), cluster: settings.cluster.clone() };

    let broker = DemoBroker::start(&topics, PARTITIONS).map_err(|error| Failure::new(Exit::Failed, error))?;
    let consumer = broker.consumer().map_err(|error| Failure::new(Exit::Failed, error))?;
    let line = Line::new(Arc::new(schema), Encoder::new(settings), Wanted::default());
    let mut pump = pump(folder.path(), &cdc_raw, line, &broker, node)?;

    let writer = node::start(&cdc_raw);
    let (mut reaped, mut shown) = (0, 0);
    while reaped < node::segments() || shown < pump.events() {
        let scan = pump.scan();
        pump.turn(&scan).map_err(|error| Failure::new(Exit::Failed, error))?;
        reaped = pump.deleted();
        shown += show_new(&consumer, &mut show)?;
        if started.elapsed() > PATIENCE {
            return Err(Failure::text(Exit::Failed, format!("only {shown} of {} events came back", pump.events())));
        }
        if reaped < node::segments() {
            pump.wait(&scan).map_err(|error| Failure::new(Exit::Failed, error))?;
        }
    }
    match writer.join() {
        Ok(written) => written.map_err(|error| Failure::io("write the recorded segments", error))?,
        Err(_) => return Err(Failure::text(Exit::Bug, "the stand-in node panicked")),
    }
    show.end(&pump.totals(), shown, reaped, started.elapsed());
    Ok(Exit::Fine)
}

fn settings(topic: TopicTemplate) -> Settings {
    Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 900 << 10,
        topic,
        dead_letter_topic: "cassandra.dead-letter".to_owned(),
        cluster: "demo".to_owned(),
        host_id: "00000000-0000-0000-0000-000000000000".to_owned(),
    }
}

fn pump(folder: &Path, cdc_raw: &Path, line: Line, broker: &DemoBroker, node: Node) -> Result<Pump, Failure> {
    let failed = |error: anyhow::Error| Failure::new(Exit::Failed, error);
    let state = StateDir::open(&folder.join("state")).map_err(|error| failed(error.into()))?;
    let loaded = state.load(&node).map_err(|(_, error)| failed(error.into()))?;
    let observe = Arc::new(Observe::new());
    let no_gap: RecordGap = Box::new(|_, _, _| Err(io::Error::other("the demo has no spool")));
    let keeper = Keeper::start(CdcRaw::new(cdc_raw), None, no_gap, Box::new(|| ()))
        .map_err(|error| Failure::io("watch", error))?;
    let parts = Parts {
        keeper,
        commitlog: None,
        line,
        keys: KeySource::None,
        checkpoint: Checkpoint { node, ..Checkpoint::default() },
        store: Some(loaded.store),
        gaps: None,
        schema: SchemaSource::new(None, false),
        identity: Identity::default(),
        observe,
    };
    let options = Options { read_to: ReadTo::Synced, salvage: false, access: Access::Map, acknowledges: true };
    let partitions = Partitions::open(None, OnPartitionChange::Warn).map_err(|error| Failure::new(Exit::Bug, error))?;
    let settings = KafkaSettings { bootstrap: broker.bootstrap(), topic_limits: false, ..KafkaSettings::default() };
    Ok(Pump::to_kafka(parts, options, Box::new(move || Ok(settings.clone())), partitions))
}

/// Shows what has come back since the last time.
fn show_new(consumer: &DemoConsumer, show: &mut Show) -> Result<u64, Failure> {
    let mut shown = 0;
    while let Some(record) = consumer.next(GLANCE).map_err(|error| Failure::new(Exit::Failed, error))? {
        show.record(&record).map_err(|error| Failure::io("show an event", error))?;
        shown += 1;
    }
    Ok(shown)
}

/// What is shown: on a terminal a story, on a pipe the events alone, one JSON object a line.
struct Show {
    story: bool,
    colour: bool,
}

impl Show {
    fn new() -> Self {
        let story = io::stdout().is_terminal();
        Self { story, colour: story && std::env::var_os("NO_COLOR").is_none() }
    }

    fn begin(&self, cdc_raw: &Path) {
        if self.story {
            eprintln!(
                "A stand-in node writes recorded commit-log segments of Cassandra 4.1 into {}.\n\
                 The agent watches, decodes, publishes to a Kafka inside this process, and deletes what is \
                 acknowledged.\nThis is what a consumer gets:\n",
                cdc_raw.display()
            );
        }
    }

    fn record(&mut self, record: &DemoRecord) -> io::Result<()> {
        let value = record.value.as_deref().unwrap_or_default();
        let mut out = io::stdout().lock();
        if !self.story {
            out.write_all(value)?;
            return out.write_all(b"\n");
        }
        let key = String::from_utf8_lossy(record.key.as_deref().unwrap_or_default());
        let (bold, dim, plain) = if self.colour { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        writeln!(out, "{bold}{}{plain} {dim}{}@{}{plain} {key}", record.topic, record.partition, record.offset)?;
        writeln!(out, "  {}", super::inspect::brief(&serde_json::from_slice(value).unwrap_or_default()))
    }

    fn end(&self, totals: &Totals, events: u64, segments: usize, took: Duration) {
        if self.story || io::stderr().is_terminal() {
            eprintln!("\n{}", summary(totals, events, segments, took));
        }
    }
}

fn summary(totals: &Totals, events: u64, segments: usize, took: Duration) -> String {
    format!(
        "{} entries = {} published ({events} events) + {} not CDC + {} dead-lettered; {segments} segments acknowledged \
         and deleted; {:.1} s

Try next:
  cassandra-cdc schema pull --contact 127.0.0.1:9042 -o schema.json
  cassandra-cdc replay --sink stdout --schema schema.json /var/lib/cassandra/cdc_raw
  cassandra-cdc inspect --schema schema.json /var/lib/cassandra/cdc_raw",
        totals.entries(),
        totals.published,
        totals.not_cdc,
        totals.dead_lettered,
        took.as_secs_f64()
    )
}
