//! `replay`: publishes segments again, or somewhere else.
//!
//! Owns: the bounds of a replay, its resume file, its summary. Does not own: the line from bytes to records, and
//! nothing of a running agent: it acknowledges and deletes nothing.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use cassandra_commitlog::{Codec, LogOffset, Plaintext, Position, SegmentName, Tail};
use cassandra_event::{Encoder, Format, Gap, GapKind, Int64, KeyFormat, Record, Settings, TopicTemplate, Unit};
use cassandra_progress::{Ledger, Outcome, Tally, Totals, Window};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{KeySource, schema_of};
use crate::cli::{EventArgs, FormatKind, Int64Kind, KafkaArgs, KeyKind, Replay, SinkKind, UnitKind};
use crate::exit::{Ending, Exit, Failure};
use crate::filter::{End, Range, Tables};
use crate::interrupt;
use crate::kafka::{KafkaError, KafkaSettings, Publisher, TopicCreation};
use crate::line::{Line, Segment, Wanted};
use crate::mapped::Mapped;
use crate::resume::ResumeFile;
use crate::segments::{self, SegmentFile};
use crate::sink::{KafkaSink, Lines, Sink, SinkError};
use crate::walk::{self, Damage, Seen, walk};

/// How often delivery reports are collected, the resume file is written and the bar is moved.
const TICK: Duration = Duration::from_millis(200);

/// How long the last wait for Kafka lasts before it is said to be one.
const DELIVERY: Duration = Duration::from_secs(1);

/// Entries between two looks at the clock.
const ENTRIES_PER_LOOK: u32 = 256;

/// Runs the command.
pub(super) fn run(arguments: &Replay) -> Ending {
    let tables = Tables::parse(&arguments.tables)?;
    let end = |text: &Option<String>| text.as_deref().map(End::parse).transpose();
    let range = Range { from: end(&arguments.from)?, to: end(&arguments.to)? };
    let key = arguments.key.as_deref().map(key_filter).transpose()?;
    let settings = settings(&arguments.events, &arguments.cluster, &arguments.host_id)?;
    let keys = KeySource::of(&arguments.key_store)?;
    let schema = schema_of(&arguments.schema)?;
    if let Some(pattern) = tables.unmatched(schema.tables().iter()) {
        let text = format!("{}: no table matches {pattern:?}", arguments.schema.display());
        return Err(Failure::text(Exit::Config, text));
    }
    let segments = segments::find(&arguments.paths)?;
    let mut resume = arguments.resume.as_deref().map(ResumeFile::open).transpose()?;
    let from = match resume.as_ref().and_then(ResumeFile::place) {
        Some((name, offset)) => Some((place_of(&segments, name)?, offset)),
        None => None,
    };
    let sink = sink(arguments)?;
    interrupt::watch();
    let line = Line::new(schema, Encoder::new(settings), Wanted { tables, range, key });
    let bar = progress_bar(&segments, range);
    let mut replay = Replaying {
        line,
        sink,
        ledger: Ledger::new(Window::default()),
        names: segments.iter().map(|segment| segment.name).collect(),
        salvage: arguments.salvage,
        rate: arguments.rate.map(f64::from),
        bar,
        summary: Summary::default(),
        started: Instant::now(),
        looked: Instant::now(),
        until_look: 0,
    };
    for (at, segment) in segments.iter().enumerate() {
        let start = match from {
            Some((first, _)) if at < first => continue,
            Some((first, offset)) if at == first => offset,
            _ => LogOffset(0),
        };
        if range.touches(segment.name.id) {
            replay.segment(segment, start, &keys, resume.as_mut())?;
        }
        if interrupt::came() {
            break;
        }
    }
    replay.finish(resume.as_mut())
}

fn key_filter(text: &str) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(text).map_err(|error| {
        let text = format!("--key {text}: a record key is a JSON object, such as {{\"customer\":42}}: {error}");
        Failure::text(Exit::Usage, text)
    })
}

fn settings(events: &EventArgs, cluster: &str, host_id: &str) -> Result<Settings, Failure> {
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

fn sink(arguments: &Replay) -> Result<Sink, Failure> {
    let lines = |out| Sink::Lines(Lines::new(out, arguments.envelope, arguments.partitions));
    if arguments.dry_run {
        return Ok(Sink::Count(Vec::new()));
    }
    Ok(match arguments.sink {
        SinkKind::Kafka => {
            let settings = kafka_settings(&arguments.kafka, arguments.events.max_record_bytes)?;
            let mut publisher = Publisher::connect(&settings).map_err(kafka_failure)?;
            publisher.on_wait(|_| if interrupt::came() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
            Sink::Kafka(Box::new(KafkaSink::new(publisher)))
        }
        SinkKind::Stdout => lines(Box::new(BufWriter::with_capacity(1 << 16, io::stdout()))),
        SinkKind::File => {
            let path = arguments.output.as_deref().unwrap_or_else(|| "".as_ref());
            let file = File::create_new(path).map_err(|error| Failure::io(path.display(), error))?;
            lines(Box::new(BufWriter::with_capacity(1 << 16, file)))
        }
    })
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
            .ok_or_else(|| Failure::text(Exit::Usage, format!("--property {property}: write NAME=VALUE")))?;
        properties.insert(name.trim().to_owned(), value.trim().to_owned());
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

fn topic_creation(text: &str) -> Result<TopicCreation, Failure> {
    let wrong =
        || Failure::text(Exit::Usage, format!("--create-topics {text}: write PARTITIONS,REPLICATION, such as 12,3"));
    let (partitions, replication) = text.split_once(',').ok_or_else(wrong)?;
    let number = |text: &str| text.trim().parse().ok().filter(|number: &i32| *number > 0).ok_or_else(wrong);
    Ok(TopicCreation { partitions: number(partitions)?, replication: number(replication)? })
}

fn kafka_failure(error: KafkaError) -> Failure {
    let exit = match error {
        KafkaError::Unreachable { .. } => Exit::Unreachable,
        KafkaError::Credentials { .. } => Exit::Permission,
        KafkaError::Setting { .. } | KafkaError::Client(_) => Exit::Config,
        _ => Exit::Failed,
    };
    Failure::new(exit, error)
}

fn sink_failure(error: SinkError) -> Failure {
    match error {
        SinkError::Kafka(error) => kafka_failure(error),
        SinkError::Write(error) => Failure::io("write events", error),
    }
}

fn place_of(segments: &[SegmentFile], name: &str) -> Result<usize, Failure> {
    segments.iter().position(|segment| segment.name.to_string() == name).ok_or_else(|| {
        let text = format!("the resume file names {name}, which is not among the segments: give the same paths again");
        Failure::text(Exit::Usage, text)
    })
}

fn progress_bar(segments: &[SegmentFile], range: Range) -> ProgressBar {
    let wanted = segments.iter().filter(|segment| range.touches(segment.name.id));
    let bytes = wanted.filter_map(|segment| Some(segment.path.metadata().ok()?.len())).sum();
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {msg} {eta}");
    ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr())
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// What a replay has met so far.
#[derive(Debug, Default)]
struct Summary {
    segments: u64,
    framed: u64,
    totals: Totals,
    events: u64,
    damages: u64,
}

struct Replaying {
    line: Line,
    sink: Sink,
    ledger: Ledger,
    names: Vec<SegmentName>,
    salvage: bool,
    rate: Option<f64>,
    bar: ProgressBar,
    summary: Summary,
    started: Instant,
    looked: Instant,
    until_look: u32,
}

impl Replaying {
    fn segment(
        &mut self,
        file: &SegmentFile,
        start: LogOffset,
        keys: &KeySource,
        mut resume: Option<&mut ResumeFile>,
    ) -> Result<(), Failure> {
        let mapped = Mapped::open(&file.path).map_err(|error| Failure::io(file.path.display(), error))?;
        let key = keys.key_for(&mapped)?;
        let mut plaintext = Plaintext::new(key);
        let segment = Segment::new(file.name);
        let options = walk::Options { tail: Tail::Sealed, salvage: self.salvage, index: file.index, start: None };
        self.ledger.enter(Position { segment: file.name.id, offset: start }, Tally::default());
        self.summary.segments += 1;
        let (done, mut counted) = (self.bar.position(), Tally::default());
        let walked = walk(&file.name, &mapped, options, &mut plaintext, |descriptor, seen| {
            let taken = match seen {
                Seen::Section(section) => {
                    self.bar.set_position(done + u64::from(section.end.0));
                    Ok(())
                }
                Seen::Damage(damage) => self.damage(&segment, &damage, descriptor.codec != Codec::Plain),
                Seen::Entry(entry) if entry.end() <= start => Ok(()),
                Seen::Entry(entry) => {
                    self.summary.framed += 1;
                    self.line
                        .entry(&segment, descriptor.version, &entry, &mut self.sink, &mut self.ledger)
                        .map_err(sink_failure)
                        .and_then(|done| {
                            counted.count(done.outcome);
                            self.entry_done(&segment, entry.end(), done, resume.as_deref_mut())
                        })
                }
            };
            match taken {
                Ok(()) if interrupt::came() => ControlFlow::Break(Ok(())),
                Ok(()) => ControlFlow::Continue(()),
                Err(failure) => ControlFlow::Break(Err(failure)),
            }
        });
        self.summary.totals += counted;
        self.bar.set_position(done + mapped.len() as u64);
        match walked {
            Ok(ControlFlow::Continue(_)) => Ok(()),
            Ok(ControlFlow::Break(result)) => result,
            Err(error) => {
                self.tell(format_args!("{segment}: {error}"));
                self.summary.damages += 1;
                Ok(())
            }
        }
    }

    fn entry_done(
        &mut self,
        segment: &Segment,
        position: LogOffset,
        done: crate::line::Done,
        resume: Option<&mut ResumeFile>,
    ) -> Result<(), Failure> {
        if let Some(error) = done.undecodable {
            self.tell(format_args!(
                "{segment}: the entry that ends at position {position} can't be decoded: {}: {error}",
                error.reason()
            ));
        }
        if done.outcome == Outcome::Published {
            self.summary.events += done.records as u64;
        }
        match self.until_look.checked_sub(1) {
            Some(left) if self.rate.is_none() => self.until_look = left,
            _ => {
                self.until_look = ENTRIES_PER_LOOK;
                self.look(resume)?;
            }
        }
        Ok(())
    }

    /// Now and then: hold the rate, settle what was delivered, keep the place.
    fn look(&mut self, resume: Option<&mut ResumeFile>) -> Result<(), Failure> {
        if let Some(rate) = self.rate {
            let due = Duration::from_secs_f64(self.summary.events as f64 / rate);
            std::thread::sleep(due.saturating_sub(self.started.elapsed()));
        }
        if self.looked.elapsed() < TICK {
            return Ok(());
        }
        self.looked = Instant::now();
        self.sink.settle(&mut self.ledger).map_err(sink_failure)?;
        self.bar.set_message(format!("{} events", self.summary.events));
        self.keep_place(resume)
    }

    /// A place is kept only where everything before it is settled and nothing before it was damaged: a replay that
    /// goes on must come by the damage again.
    fn keep_place(&mut self, resume: Option<&mut ResumeFile>) -> Result<(), Failure> {
        while self.ledger.pop_passed().is_some() {}
        if let (Some(resume), Some(watermark), 0) = (resume, self.ledger.watermark(), self.summary.damages) {
            let id = watermark.position().segment;
            if let Some(name) = self.names.iter().find(|name| name.id == id) {
                resume.keep(*name, &watermark)?;
            }
        }
        Ok(())
    }

    fn damage(&mut self, segment: &Segment, damage: &Damage, ids_may_shift: bool) -> Result<(), Failure> {
        self.summary.damages += 1;
        let next = if damage.to.is_some() {
            ""
        } else if self.salvage {
            "; no later sync marker can be found in the segment"
        } else {
            "; reading of this segment stops here, --salvage goes on behind the damage"
        };
        self.tell(format_args!("{segment}: {damage}{next}"));
        let gap = Gap {
            segment: segment.file_name(),
            kind: GapKind::DamagedBytes,
            from: Some(damage.from.0),
            to: damage.to.map(|to| to.0),
            entries: None,
            at: jiff::Timestamp::now().as_second(),
            ids_may_shift,
        };
        let mut records: Vec<Record> = Vec::new();
        self.line.encoder().gap(&gap, self.sink.arena(), &mut records);
        self.sink.send(self.line.encoder(), &records, &mut self.ledger).map_err(sink_failure)
    }

    fn finish(mut self, resume: Option<&mut ResumeFile>) -> Ending {
        // Kafka may be away for hours: the records wait for it. A signal ends the wait.
        while self.sink.drain(&mut self.ledger, DELIVERY).map_err(sink_failure)? > 0 {
            self.bar.set_message("waiting for Kafka");
        }
        self.keep_place(resume)?;
        self.bar.finish_and_clear();
        let Summary { segments, framed, totals, events, damages } = &self.summary;
        eprintln!(
            "{segments} segments, {framed} entries = {} published ({events} events) + {} not CDC + {} filtered + {} \
             undecodable; {damages} damaged places; {:.1} s",
            totals.published,
            totals.not_cdc,
            totals.filtered,
            totals.dead_lettered,
            self.started.elapsed().as_secs_f64()
        );
        if *framed != totals.entries() {
            return Err(Failure::text(Exit::Bug, "the outcomes do not add up to the entries: please report this"));
        }
        if interrupt::came() {
            eprintln!("interrupted; with --resume FILE a replay goes on where it stopped");
            return Ok(Exit::Interrupted);
        }
        if totals.dead_lettered > 0 {
            eprintln!(
                "an entry of an unknown table or column needs the schema of its time: `cassandra-cdc schema pull`"
            );
        }
        Ok(if *damages > 0 || totals.dead_lettered > 0 { Exit::Corrupt } else { Exit::Fine })
    }

    /// A line on stderr that the progress bar does not overwrite.
    fn tell(&self, line: std::fmt::Arguments<'_>) {
        self.bar.suspend(|| eprintln!("cassandra-cdc: {line}"));
    }
}
