//! The parts of the service, made from its configuration.
//!
//! Owns: identity, schema, state, spool and sink of a run, and what is refused of them. Does not own: the loop.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, SchemaStore, SegmentName};
use cassandra_event::{Encoder, GapKind, Settings};
use cassandra_progress::{Checkpoint, Node};

use super::Current;
use crate::catalog::timeline::Timeline;
use crate::catalog::{self, Pulled};
use crate::cdc_raw::CdcRaw;
use crate::checkpoint::{CheckpointStore, Glance, StateDir, StateError};
use crate::cli::{Run, SinkKind};
use crate::config::{Config, OnDamage, OnPartitionChange};
use crate::exit::{Exit, Failure};
use crate::folder::{self, FileSystem};
use crate::gaps::{GapLog, GapRecord};
use crate::interrupt;
use crate::kafka::KafkaSettings;
use crate::keeper::{Keeper, RecordGap};
use crate::keys::KeySource;
use crate::line::{FROM_FILE, FROM_NODE, FROM_STATE, Line, Wanted};
use crate::mapped::Access;
use crate::observe::{Identity, Observe, Part};
use crate::pump::{self, Limits, MakeSettings, Options, Partitions, Parts, Pump, SchemaSource};
use crate::quarantine::Quarantine;
use crate::sink::{Lines, Sink};
use crate::spool::{self, Spool, SpoolError};

/// How long a node that starts beside the agent may take until it answers.
const NODE: Duration = Duration::from_secs(60);

/// Pause between two questions to it.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a look-up at Kafka may take: the loop stands still meanwhile.
const LOOKUP: Duration = Duration::from_secs(5);

/// Puts a pump together.
pub(super) fn pump(
    arguments: &Run,
    config: &Config,
    current: &Current,
    observe: &Arc<Observe>,
) -> Result<Pump, Failure> {
    let acknowledges = !arguments.dry_run && (arguments.sink == SinkKind::Kafka || arguments.ack);
    let state = acknowledges.then(|| StateDir::open(&config.state.directory).map_err(state_failure)).transpose()?;
    let (identity, pulled) = identity(config, state.as_ref(), observe)?;
    let settings = config.kafka.events.settings(&identity.cluster, &identity.host_id);
    let (store, checkpoint) = match state {
        Some(state) => load(state, config, &identity, observe).map(|(store, checkpoint)| (Some(store), checkpoint))?,
        None => (None, Checkpoint::default()),
    };
    let at_state = |error| Failure::io(config.state.directory.display(), error);
    let (mut gaps, mut quarantine) = (None, None);
    if let Some(store) = &store {
        let log = GapLog::open(store.path(), &settings).map_err(at_state)?;
        for damaged in log.damaged() {
            tracing::error!("{damaged}");
        }
        gaps = Some(log);
        quarantine = Some(Quarantine::open_to_keep(store.path(), &settings).map_err(at_state)?);
    }
    let counts = store.as_ref().map(|store| store.path().join("partitions.json"));
    let partitions = partitions(counts, config.kafka.on_partition_change, observe).map_err(at_state)?;
    let mut schema = SchemaSource::new(config.cassandra.contact.clone(), pulled.is_some());
    if let Some(pulled) = &pulled {
        schema.take_note(&pulled.schema, &config.cassandra.tables);
    }
    let line = line(config, pulled, settings, store.as_ref(), observe)?.keeping(quarantine);
    let parts = Parts {
        keeper: keeper(config, acknowledges, gaps.clone(), observe)?,
        commitlog: config.cassandra.commitlog.clone(),
        line,
        keys: KeySource::of(&config.cassandra.keys)?,
        checkpoint,
        store,
        gaps,
        schema,
        identity,
        observe: Arc::clone(observe),
    };
    let options = Options {
        read_to: config.cassandra.read_to,
        salvage: config.cassandra.on_damage == OnDamage::Salvage,
        access: access(config),
        acknowledges,
    };
    let mut pump = match sink(arguments)? {
        None => Pump::to_kafka(parts, options, kafka(current), partitions),
        Some(sink) => Pump::to_sink(parts, options, sink),
    };
    let node = &config.cassandra.node;
    let cdc_raw = folder::volume_bytes(&config.cassandra.cdc_raw).and_then(|volume| node.cdc_limit(volume));
    let few_segments = cdc_raw.and_then(|limit| node.too_few_segments(limit));
    if let Some(segments) = few_segments {
        tracing::warn!("{}", pump::too_few(segments));
    }
    pump.set_limits(Limits {
        cdc_raw,
        segment: node.segment_size(),
        few_segments,
        spool: (acknowledges && config.spool.enabled).then_some(config.spool.max_bytes),
    });
    Ok(pump)
}

/// How segments are had. Those that the server writes around the page cache are read as well.
fn access(config: &Config) -> Access {
    let access = FileSystem::of_nearest(&config.cassandra.cdc_raw).map_or(Access::Read, FileSystem::access);
    if config.cassandra.node.direct_io {
        return Access::Read;
    }
    if access == Access::Read {
        let folder = config.cassandra.cdc_raw.display();
        tracing::warn!(
            "{folder} is on a file system whose mappings may lag: segments are read, and nothing before its sync"
        );
    }
    access
}

/// Who the node is: by its own word, else by the configuration, else as the state remembers it.
fn identity(
    config: &Config,
    state: Option<&StateDir>,
    observe: &Observe,
) -> Result<(Identity, Option<Pulled>), Failure> {
    let cassandra = &config.cassandra;
    let configured = cassandra.cluster.clone().zip(cassandra.host_id.clone());
    let remembered = || {
        let glance = Glance::at(&config.state.directory).ok()?;
        let node = &glance.newest().filter(|_| state.is_some())?.node;
        Some((node.cluster.clone(), node.host.clone()))
    };
    let known = |(cluster, host_id)| Identity { cluster, host_id, release: None };
    let Some(contact) = &cassandra.contact else {
        return configured.or_else(remembered).map(|known_as| (known(known_as), None)).ok_or_else(|| {
            let text = "whose segments these are is not known: set cassandra.contact, or cassandra.cluster and \
                        cassandra.host_id (`nodetool info` says it)";
            Failure::text(Exit::Config, text)
        });
    };
    let until = Instant::now() + NODE;
    loop {
        match pump::pull(contact.clone(), observe) {
            Ok(pulled) => {
                let own = &pulled.identity;
                let identity = Identity {
                    cluster: own.cluster_name.clone(),
                    host_id: own.host_id.clone(),
                    release: Some(own.release_version.clone()),
                };
                return Ok((identity, Some(pulled)));
            }
            Err(error) => {
                if interrupt::came() {
                    return Err(Failure::new(Exit::Interrupted, error));
                }
                tracing::warn!("{error:#}");
                if let Some(known_as) = configured.clone().or_else(remembered) {
                    return Ok((known(known_as), None));
                }
                if Instant::now() >= until {
                    return Err(Failure::cassandra(error));
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

/// The checkpoint to go on from. Where neither generation is whole all that is present counts as unread: that repeats
/// events and loses none.
fn load(
    state: StateDir,
    config: &Config,
    identity: &Identity,
    observe: &Observe,
) -> Result<(CheckpointStore, Checkpoint), Failure> {
    let node =
        Node { agent: config.state.agent.clone(), host: identity.host_id.clone(), cluster: identity.cluster.clone() };
    match state.load(&node) {
        Ok(loaded) => {
            if let Some((generation, error)) = loaded.damaged {
                tracing::error!("checkpoint {generation:?} is damaged ({error}); the other one counts");
            }
            let checkpoint = loaded.checkpoint.unwrap_or(Checkpoint { node, ..Checkpoint::default() });
            Ok((loaded.store, checkpoint))
        }
        Err((state, error @ StateError::NoneWhole { .. })) => {
            tracing::error!("{error}: both are set aside, everything present is published again");
            let suffix = jiff::Timestamp::now().as_second().to_string();
            let store = state.set_aside(&suffix).map_err(state_failure)?;
            observe.metrics.state_resets.checkpoint.inc();
            Ok((store, Checkpoint { node, ..Checkpoint::default() }))
        }
        Err((_, error)) => Err(state_failure(error)),
    }
}

fn state_failure(error: StateError) -> Failure {
    match error {
        StateError::Io { action, path, source } => Failure::io(format!("{action} {}", path.display()), source),
        StateError::Locked(_) => Failure::new(Exit::Failed, error),
        StateError::Mode { .. } | StateError::NoneWhole { .. } | StateError::NotOurs { .. } => {
            Failure::new(Exit::Config, error)
        }
    }
}

/// The line, with the schema where an earlier life left it. At the first start it begins with the configured file, or
/// with the node's own word; from there on it follows the log.
fn line(
    config: &Config,
    pulled: Option<Pulled>,
    settings: Settings,
    store: Option<&CheckpointStore>,
    observe: &Observe,
) -> Result<Line, Failure> {
    let kept = store.map(|store| store.path().join("schema.json"));
    let earlier = match kept.as_deref().map(Timeline::load).transpose() {
        Ok(earlier) => earlier.flatten(),
        Err(error) => {
            tracing::error!("{error:#}");
            set_aside(kept.as_deref());
            observe.metrics.state_resets.schema.inc();
            None
        }
    };
    let mut sources = Vec::new();
    let mut timeline = match earlier {
        Some(timeline) => {
            sources.push(FROM_STATE);
            timeline
        }
        None => {
            sources.extend(config.cassandra.schema.as_ref().map(|_| FROM_FILE));
            let timeline = Timeline::new(first_schema(config)?);
            match &kept {
                Some(path) => timeline.kept_in(path),
                None => timeline,
            }
        }
    };
    if let Some(pulled) = pulled {
        timeline.merge(&pulled.schema, pulled.at_micros);
        sources.push(FROM_NODE);
    }
    let wanted = Wanted { tables: config.cassandra.tables.clone(), ..Wanted::default() };
    Ok(Line::following(timeline, Encoder::new(settings), wanted).with_schema_from(sources))
}

/// The numbers of partitions that an earlier life kept. Without them the cluster's own count.
fn partitions(kept: Option<PathBuf>, on_change: OnPartitionChange, observe: &Observe) -> io::Result<Partitions> {
    match Partitions::open(kept.clone(), on_change) {
        Err(error) if matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) => {
            tracing::error!(
                "partitions.json in the state directory is damaged ({error}): it is set aside, and the numbers of \
                 partitions count that the topics have now; if they were changed since, keys move"
            );
            set_aside(kept.as_deref());
            observe.metrics.state_resets.partitions.inc();
            Partitions::open(kept, on_change)
        }
        opened => opened,
    }
}

/// Keeps a damaged file for whoever looks at it.
fn set_aside(kept: Option<&Path>) {
    let Some(path) = kept else { return };
    let aside = path.with_extension(format!("damaged.{}", jiff::Timestamp::now().as_second()));
    if let Err(error) = std::fs::rename(path, &aside) {
        tracing::warn!(%error, "set {} aside", path.display());
    }
}

/// What is known before anything was read: the configured file, which counts as written when it was changed last.
fn first_schema(config: &Config) -> Result<SchemaStore, Failure> {
    let Some(path) = &config.cassandra.schema else { return Ok(SchemaStore::new()) };
    let rows = catalog::file::read(path).map_err(Failure::config)?;
    let changed = path.metadata().and_then(|metadata| metadata.modified());
    let changed = changed.map_err(|error| Failure::io(path.display(), error))?;
    let at = jiff::Timestamp::try_from(changed).map_or(0, |changed| changed.as_microsecond());
    Ok(SchemaStore::from_rows(&rows, at))
}

fn keeper(
    config: &Config,
    acknowledges: bool,
    gaps: Option<GapLog>,
    observe: &Arc<Observe>,
) -> Result<Keeper, Failure> {
    let raw = CdcRaw::new(&config.cassandra.cdc_raw).on_done(config.cassandra.on_done.clone());
    let spool = if acknowledges && (config.spool.enabled || holds_segments(&config.spool.directory)) {
        let limits = spool::Limits { max_bytes: config.spool.max_bytes, min_free: config.spool.min_free };
        let spool = Spool::open(&config.spool.directory, &config.cassandra.cdc_raw, limits);
        Some(spool.map_err(spool_failure)?)
    } else {
        None
    };
    let observed = Arc::clone(observe);
    let record: RecordGap = Box::new(move |name, kind, from| record(gaps.as_ref(), &observed, name, kind, from));
    let beating = Arc::clone(observe);
    Keeper::start(raw, spool, record, Box::new(move || beating.beat(Part::Keeper)))
        .map_err(|error| Failure::io("start the thread that watches cdc_raw", error))
}

/// What an earlier life linked may be all that is left of a segment: it is read to its end whatever the configuration
/// says today.
fn holds_segments(spool: &Path) -> bool {
    std::fs::read_dir(spool).is_ok_and(|entries| {
        entries.flatten().any(|entry| {
            let name = entry.file_name();
            let is_segment = |name| SegmentName::parse(name).is_ok() || SegmentName::of_unknown_version(name).is_some();
            name.to_str().is_some_and(is_segment)
        })
    })
}

fn record(
    gaps: Option<&GapLog>,
    observe: &Observe,
    name: SegmentName,
    kind: GapKind,
    from: Option<LogOffset>,
) -> io::Result<()> {
    let gaps = gaps.ok_or_else(|| io::Error::other("no gap records are kept"))?;
    let gap = GapRecord::of_the_rest(name.to_string(), kind, from.map(|from| from.0));
    gaps.record_counted(&gap, &observe.metrics.gap_records)
}

fn spool_failure(error: SpoolError) -> Failure {
    let exit = match error {
        SpoolError::Locked(_) => Exit::Failed,
        SpoolError::Io { .. } => Exit::Io,
        SpoolError::ProtectedHardlinks { .. } => Exit::Permission,
        _ => Exit::Config,
    };
    Failure::new(exit, error)
}

/// Settings of each new producer: as the configuration is then, with files of credentials as they are then.
fn kafka(current: &Current) -> MakeSettings {
    let current = Arc::clone(current);
    Box::new(move || {
        let settings = current.lock().unwrap_or_else(PoisonError::into_inner).kafka.settings_now()?;
        Ok(KafkaSettings { lookup_timeout: LOOKUP, topic_limits: has_topic_limits(), ..settings })
    })
}

/// In-process brokers, which tests use, do not know what a topic's limits are.
fn has_topic_limits() -> bool {
    !(cfg!(debug_assertions) && std::env::var_os("CASSANDRA_CDC_NO_TOPIC_LIMITS").is_some())
}

/// Another sink than Kafka, if one is wanted.
fn sink(arguments: &Run) -> Result<Option<Sink>, Failure> {
    let lines = |out: Box<dyn Write>| Lines::new(out, arguments.envelope, None);
    if arguments.dry_run {
        return Ok(Some(Sink::Count(Vec::new())));
    }
    Ok(match arguments.sink {
        SinkKind::Kafka => None,
        SinkKind::Stdout => Some(Sink::Lines(lines(Box::new(BufWriter::new(io::stdout()))))),
        SinkKind::File => {
            let path = arguments.output.as_deref().unwrap_or_else(|| "".as_ref());
            let at_path = |error| Failure::io(path.display(), error);
            let file = File::options().append(true).create(true).open(path).map_err(at_path)?;
            let durable = arguments.ack.then(|| file.try_clone()).transpose().map_err(at_path)?;
            Some(Sink::Lines(lines(Box::new(BufWriter::new(file))).synced(durable)))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::ConfigArgs;

    #[test]
    fn a_gap_is_counted_once_it_is_on_record_and_once_only() {
        let folder = tempfile::tempdir().unwrap();
        let arguments = ConfigArgs { config: None, set: vec!["kafka.bootstrap=localhost:9092".to_owned()] };
        let settings = Config::load(&arguments).unwrap().config.kafka.events.settings("c", "h");
        let gaps = GapLog::open(folder.path(), &settings).unwrap();
        let observe = Observe::new();
        let name = SegmentName::parse("CommitLog-7-1.log").unwrap();
        assert!(record(None, &observe, name, GapKind::SpoolReleased, None).is_err());
        assert_eq!(observe.metrics.gap_records.total(), 0);
        for _ in 0..2 {
            record(Some(&gaps), &observe, name, GapKind::SpoolReleased, None).unwrap();
            assert_eq!(observe.metrics.gap_records.total(), 1);
        }
    }
}
