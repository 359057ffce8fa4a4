//! The metrics: their names, labels and help, as OpenMetrics text.
//!
//! Owns: the registry, and everything that is counted or measured where it happens. Does not own: the gauges that repeat
//! the status (`gauges`), when something is counted.
//!
//! A label value that is known beforehand stands at 0 from the start: a rate can't see the first step of a series that
//! was not there.

use std::fmt;
use std::sync::atomic::AtomicU64;

use cassandra_event::GapKind;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};

use super::gauges::{Gauges, Shown};
use super::process::Process;
use super::status::Counters;
use crate::keeper::Counts;
use crate::line::Rejected;

/// Before every name.
pub const PREFIX: &str = "cassandra_cdc";

/// A measured number.
pub type Seconds = Gauge<f64, AtomicU64>;

/// A number of things.
pub type Count = Gauge<u64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reason {
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Table {
    keyspace: String,
    table: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: String,
}

/// A counter by reason.
#[derive(Debug)]
pub struct ByReason {
    family: Family<Reason, Counter>,
    total: Counter,
}

impl ByReason {
    /// One more for this reason: one word of ours, never text from outside.
    pub fn inc(&self, reason: &'static str) {
        self.family.get_or_create(&Reason { reason }).inc();
        self.total.inc();
    }

    /// For all reasons.
    pub fn total(&self) -> u64 {
        self.total.get()
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

/// Entries by what became of them.
#[derive(Debug)]
pub struct Entries {
    /// All events are for Kafka.
    pub published: Counter,
    /// Nothing of a CDC table is in them.
    pub not_cdc: Counter,
    /// The configuration leaves their tables out.
    pub filtered: Counter,
    /// Any part became a dead-letter record.
    pub dead_lettered: Counter,
}

impl Entries {
    fn of(family: &Family<OutcomeLabel, Counter>) -> Self {
        let one = |outcome| family.get_or_create_owned(&OutcomeLabel { outcome });
        Self {
            published: one("published"),
            not_cdc: one("not_cdc"),
            filtered: one("filtered"),
            dead_lettered: one("dead_lettered"),
        }
    }
}

/// Parts of the state directory that were damaged, so that the agent went on without them.
#[derive(Debug)]
pub struct StateResets {
    /// Both generations of the checkpoint.
    pub checkpoint: Counter,
    /// The schema as the log told it.
    pub schema: Counter,
    /// The numbers of partitions.
    pub partitions: Counter,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatePart {
    part: &'static str,
}

impl StateResets {
    fn of(family: &Family<StatePart, Counter>) -> Self {
        let one = |part| family.get_or_create_owned(&StatePart { part });
        Self { checkpoint: one("checkpoint"), schema: one("schema"), partitions: one("partitions") }
    }
}

/// Everything that is counted or measured where it happens.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    gauges: Gauges,
    process: Process,
    /// Segments acknowledged to their end.
    pub segments_finished: Counter,
    /// Segments deleted by us.
    pub segments_deleted: Counter,
    /// Finished segments that Cassandra linked again.
    pub resurrected_segments: Counter,
    /// Segments that somebody else deleted before they were finished.
    pub foreign_deletions: Counter,
    /// Segments lost before they were published.
    pub lost_segments: Counter,
    /// Gap records.
    pub gap_records: ByReason,
    /// When the newest gap record was made, seconds since 1970. It stands in the state directory, and so outlives us.
    pub last_gap: Count,
    /// Parts of the state that were damaged, and begun anew.
    pub state_resets: StateResets,
    events_published: Family<Table, Counter>,
    event_bytes: Counter,
    /// The sum of `events_published`.
    events: Counter,
    /// Entries by what became of them.
    pub entries: Entries,
    /// Entries that were published from behind the last marker, and that the chain does not hold: a server that was
    /// killed took them back.
    pub entries_taken_back: Counter,
    /// Bytes that could not be read as a structure of the format.
    pub decode_errors: ByReason,
    /// Dead-letter records.
    pub dead_letter_records: ByReason,
    /// From handing a run to the producer to its acknowledgement.
    pub delivery_latency: Histogram,
    /// From the time of a write, as its own timestamp says, to its acknowledgement. Sampled: one entry at a time.
    pub end_to_end_latency: Histogram,
    delivery_failures: Family<Code, Counter>,
    /// Producers made anew.
    pub producer_rebuilds: Counter,
    /// Times that records were sent one by one to find the poison one.
    pub isolation_runs: Counter,
    /// Topics whose number of partitions changed.
    pub partition_changes: Counter,
    /// Records in the producer's queue.
    pub producer_queue_messages: Count,
    /// Bytes in the producer's queue.
    pub producer_queue_bytes: Count,
    /// Entries read and not acknowledged.
    pub window_entries: Count,
    /// Round trip to a broker.
    pub kafka_rtt: Seconds,
    /// When the client certificate for Kafka expires, seconds since 1970; 0 without one.
    pub certificate_expiry: Count,
    /// How long a checkpoint took.
    pub checkpoint_duration: Histogram,
    /// Checkpoints that could not be saved.
    pub checkpoint_failures: Counter,
    /// Whether notifications of changes in `cdc_raw` come.
    inotify_watching: Count,
    inotify_overflows: Counter,
    rescans: Counter,
    idx_empty_reads: Counter,
    idx_invalid: Counter,
}

/// Registers while it makes.
pub(super) struct Register(Registry);

impl Register {
    pub(super) fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    pub(super) fn count(&mut self, name: &str, help: &str) -> Count {
        self.add(name, help, Count::default())
    }

    pub(super) fn seconds(&mut self, name: &str, help: &str) -> Seconds {
        self.add(name, help, Seconds::default())
    }

    fn counter(&mut self, name: &str, help: &str) -> Counter {
        self.add(name, help, Counter::default())
    }

    fn by_reason(&mut self, name: &str, help: &str, known: impl IntoIterator<Item = &'static str>) -> ByReason {
        let family = Family::<Reason, Counter>::default();
        for reason in known {
            drop(family.get_or_create(&Reason { reason }));
        }
        ByReason { family: self.add(name, help, family), total: Counter::default() }
    }

    /// Powers of two from `shortest` seconds on.
    fn histogram(&mut self, name: &str, help: &str, shortest: f64, buckets: u16) -> Histogram {
        self.add(name, help, Histogram::new(exponential_buckets(shortest, 2.0, buckets)))
    }
}

impl Metrics {
    /// All of them at 0.
    pub(super) fn new() -> Self {
        let mut all = Register(Registry::with_prefix(PREFIX));
        all.0.register("build", "This program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        let gaps = GapKind::ALL.map(GapKind::word);
        let entries = all.add(
            "entries",
            "Entries of commit-log segments that are done and acknowledged, each once, by what became of them",
            Family::default(),
        );
        let state_resets = all.add(
            "state_resets",
            "Parts of the state that were damaged, and set aside at the start",
            Family::default(),
        );
        Self {
            gauges: Gauges::new(&mut all),
            process: Process::new(),
            segments_finished: all.counter("segments_finished", "Segments acknowledged by Kafka to their end"),
            segments_deleted: all.counter("segments_deleted", "Segments deleted after Kafka had all of them"),
            resurrected_segments: all.counter("resurrected_segments", "Finished segments that Cassandra linked again"),
            foreign_deletions: all.counter("foreign_deletions", "Unfinished segments that somebody else deleted"),
            lost_segments: all.counter("lost_segments", "Segments lost before they were published"),
            gap_records: all.by_reason("gap_records", "Durable records of changes that can't be published", gaps),
            last_gap: all.count(
                "last_gap_timestamp_seconds",
                "When the newest gap record in the state directory was made, seconds since 1970; 0 without one",
            ),
            state_resets: StateResets::of(&state_resets),
            events_published: all.add("events_published", "Records acknowledged by Kafka", Family::default()),
            events: Counter::default(),
            event_bytes: all.counter("event_bytes", "Bytes of keys and values of records acknowledged by Kafka"),
            entries: Entries::of(&entries),
            entries_taken_back: all.counter(
                "entries_taken_back",
                "Entries published from behind the last marker that Cassandra lost when it was killed",
            ),
            decode_errors: all.by_reason("decode_errors", "Damaged or unreadable structures in segments", []),
            dead_letter_records: all.by_reason(
                "dead_letter_records",
                "Entries whose dead letter is acknowledged, each once",
                Rejected::reasons(),
            ),
            delivery_latency: all.histogram(
                "delivery_latency_seconds",
                "From handing a run of records to the producer to its acknowledgement",
                0.000_5,
                18,
            ),
            end_to_end_latency: all.histogram(
                "end_to_end_latency_seconds",
                "From the timestamp of a write to its acknowledgement, sampled",
                0.001,
                24,
            ),
            delivery_failures: all.add("delivery_failures", "Failed delivery reports", Family::default()),
            producer_rebuilds: all.counter("producer_rebuilds", "Kafka producers made anew after a failure"),
            isolation_runs: all.counter("isolation_runs", "Searches for the one record that Kafka refuses"),
            partition_changes: all.counter("partition_changes", "Topics whose number of partitions changed"),
            producer_queue_messages: all.count("producer_queue_messages", "Unacknowledged records"),
            producer_queue_bytes: all.count("producer_queue_bytes", "Bytes of unacknowledged records"),
            window_entries: all.count("window_entries", "Entries read and not acknowledged"),
            kafka_rtt: all.seconds("kafka_rtt_seconds", "Average round trip to the slowest broker"),
            certificate_expiry: all.count(
                "kafka_certificate_expiry_timestamp_seconds",
                "When the client certificate for Kafka expires, seconds since 1970; 0 without one",
            ),
            checkpoint_duration: all.histogram("checkpoint_duration_seconds", "Time to save progress", 0.001, 13),
            checkpoint_failures: all.counter("checkpoint_failures", "Checkpoints that could not be saved"),
            inotify_watching: all
                .count("inotify_watching", "1 while changes in cdc_raw are notified; else it is scanned"),
            inotify_overflows: all.counter("inotify_overflows", "Overflows of the queue of file notifications"),
            rescans: all.counter("rescans", "Scans of cdc_raw"),
            idx_empty_reads: all.counter("idx_empty_reads", "Index files found empty, which is normal"),
            idx_invalid: all.counter("idx_invalid", "Index files with an invalid content, or one that went back"),
            registry: all.0,
        }
    }

    /// What the keeper counted since the start, as its last scan has it.
    pub fn set_scanned(&self, rescans: u64, counts: &Counts) {
        raise(&self.rescans, rescans);
        raise(&self.inotify_overflows, counts.overflows);
        self.inotify_watching.set(u64::from(counts.watching));
        raise(&self.idx_empty_reads, counts.indexes.empty);
        raise(&self.idx_invalid, counts.indexes.invalid.saturating_add(counts.indexes.backward));
    }

    /// Counts acknowledged records of a table, and the bytes of their keys and values.
    pub fn add_published(&self, keyspace: &str, table: &str, records: u64, bytes: u64) {
        let table = Table { keyspace: keyspace.to_owned(), table: table.to_owned() };
        self.events_published.get_or_create(&table).inc_by(records);
        self.event_bytes.inc_by(bytes);
        self.events.inc_by(records);
    }

    /// Counts a failed delivery report, by librdkafka's name of its error.
    pub fn add_delivery_failure(&self, code: &str) {
        self.delivery_failures.get_or_create(&Code { code: code.to_owned() }).inc();
    }

    /// What was counted since the process began.
    pub(super) fn counters(&self) -> Counters {
        Counters {
            entries_published: self.entries.published.get(),
            entries_not_cdc: self.entries.not_cdc.get(),
            entries_filtered: self.entries.filtered.get(),
            entries_dead_lettered: self.entries.dead_lettered.get(),
            events: self.events.get(),
            dead_letters: self.dead_letter_records.total(),
            gaps: self.gap_records.total(),
            lost_segments: self.lost_segments.get(),
            segments_finished: self.segments_finished.get(),
            segments_deleted: self.segments_deleted.get(),
            foreign_deletions: self.foreign_deletions.get(),
            resurrected_segments: self.resurrected_segments.get(),
            producer_rebuilds: self.producer_rebuilds.get(),
        }
    }

    /// OpenMetrics text; the gauges repeat what is shown.
    pub(super) fn text(&self, shown: &Shown) -> Result<String, fmt::Error> {
        self.gauges.show(shown);
        let mut text = String::with_capacity(32 << 10);
        encode_registry(&mut text, &self.registry)?;
        encode_registry(&mut text, self.process.measured())?;
        encode_eof(&mut text)?;
        Ok(text)
    }
}

/// A counter of what somebody else counts from 0 on.
fn raise(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::cdc_raw::IndexCounts;
    use crate::observe::health::{self, Part};
    use crate::observe::status::{Hold, HoldReason, Identity, State, Status};

    /// Names as dashboards and alerts use them, with type and labels.
    const NAMES: &str = "
        lag_bytes gauge
        lag_segments gauge
        lag_seconds gauge
        oldest_unacked_segment_age_seconds gauge
        cdc_raw_bytes gauge
        cdc_raw_limit_bytes gauge
        cdc_raw_time_to_full_seconds gauge
        spool_bytes gauge
        spool_limit_bytes gauge
        segments gauge state=waiting,reading,held,finished,quarantined
        segments_finished_total counter
        segments_deleted_total counter
        resurrected_segments_total counter
        foreign_deletions_total counter
        lost_segments_total counter
        gap_records_total counter reason=segment-deleted,damaged-bytes,spool-released,index-without-log
        last_gap_timestamp_seconds gauge
        state_resets_total counter part=checkpoint,schema,partitions
        events_published_total counter keyspace=shop table=orders
        event_bytes_total counter
        entries_total counter outcome=published,not_cdc,filtered,dead_lettered
        entries_taken_back_total counter
        decode_errors_total counter reason=entry
        dead_letter_records_total counter reason=unknown-table,unknown-column,malformed,too-large,refused
        hold_state gauge reason=damage,invalid-index,unknown-version,missing-key,cdc-raw,schema,account,authorization,\
            credentials,missing-topic,dead-letter-topic,partitions-changed,unknown-error
        delivery_latency_seconds histogram
        end_to_end_latency_seconds histogram
        delivery_failures_total counter code=MessageTimedOut
        producer_rebuilds_total counter
        isolation_runs_total counter
        partition_changes_total counter
        producer_queue_messages gauge
        producer_queue_bytes gauge
        window_entries gauge
        kafka_broker_up gauge
        kafka_rtt_seconds gauge
        kafka_certificate_expiry_timestamp_seconds gauge
        checkpoint_duration_seconds histogram
        checkpoint_failures_total counter
        checkpoint_age_seconds gauge
        inotify_watching gauge
        inotify_overflows_total counter
        rescans_total counter
        idx_empty_reads_total counter
        idx_invalid_total counter
        build_info info version=0.1.0
        config_last_reload_successful gauge
        read_to_fallback gauge
        problems gauge
        damaged_gap_files gauge
        live gauge part=pump,keeper,reports
        ready gauge condition=config,cdc_raw,schema,hold,segments,kafka
        node_info gauge cluster_name=test host_id=1-2 release=5.0.4";

    /// One family of an OpenMetrics text.
    #[derive(Debug, Default)]
    struct Parsed {
        kind: String,
        /// By sample name: labels and value.
        samples: BTreeMap<String, Vec<(String, f64)>>,
    }

    /// Reads OpenMetrics, and accepts nothing that the format forbids: a family is in one piece, described before its
    /// samples, and its samples have the suffixes of its type.
    fn parse(text: &str) -> BTreeMap<String, Parsed> {
        let body = text.strip_suffix("# EOF\n").expect("an end mark");
        let mut families: BTreeMap<String, Parsed> = BTreeMap::new();
        let mut current = String::new();
        for line in body.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && !families.contains_key(name), "{name} comes twice");
                current = name.to_owned();
                families.insert(current.clone(), Parsed::default());
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, current);
                families.get_mut(name).unwrap().kind = kind.to_owned();
            } else {
                let (sample, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = sample.split_once('{').unwrap_or((sample, "}"));
                let family = families.get_mut(&current).unwrap();
                let suffix = name.strip_prefix(&current).expect("a sample of this family");
                let suffixes: &[&str] = match family.kind.as_str() {
                    "gauge" => &[""],
                    "counter" => &["_total"],
                    "info" => &["_info"],
                    "histogram" => &["_sum", "_count", "_bucket"],
                    other => panic!("type {other}"),
                };
                assert!(suffixes.contains(&suffix), "{name} of a {}", family.kind);
                let labels = labels.strip_suffix('}').unwrap().to_owned();
                let samples = family.samples.entry(name.to_owned()).or_default();
                assert!(samples.iter().all(|(other, _)| *other != labels), "{sample} comes twice");
                samples.push((labels, value.parse().unwrap()));
            }
        }
        families
    }

    fn filled() -> Metrics {
        let metrics = Metrics::new();
        metrics.add_published("shop", "orders", 3, 700);
        metrics.add_delivery_failure("MessageTimedOut");
        metrics.decode_errors.inc("entry");
        metrics
    }

    /// With a health of all that there is, and without what the system says of the process.
    fn families(metrics: &Metrics, status: &Status) -> BTreeMap<String, Parsed> {
        let (live, ready) = (health::live([None; Part::ALL.len()]), health::ready(status, true, None));
        let shown = Shown { status: status.clone(), live, ready, config_valid: true };
        let mut families = parse(&metrics.text(&shown).unwrap());
        families.retain(|name, _| !name.starts_with("process_"));
        families
    }

    #[test]
    fn every_name_is_there_once_with_its_type_and_labels() {
        let identity =
            Identity { cluster: "test".to_owned(), host_id: "1-2".to_owned(), release: Some("5.0.4".to_owned()) };
        let mut found = families(&filled(), &Status { identity: Some(identity), ..Status::default() });
        for line in NAMES.trim().lines() {
            let mut words = line.split_whitespace();
            let (name, kind) = (words.next().unwrap(), words.next().unwrap());
            let sample = format!("{PREFIX}_{name}");
            let suffix = match kind {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            let family = sample.strip_suffix(suffix).unwrap();
            let parsed = found.remove(family).unwrap_or_else(|| panic!("no {family}"));
            assert_eq!(parsed.kind, kind, "{name}");
            let Some(samples) = parsed.samples.get(&sample) else {
                assert!(kind == "histogram" && parsed.samples.len() == 3, "{name}: {parsed:?}");
                continue;
            };
            let mut expected = BTreeSet::from([String::new()]);
            for label in words {
                let (label, values) = label.split_once('=').unwrap();
                let one = |before: &String, value| match before.as_str() {
                    "" => format!("{label}=\"{value}\""),
                    before => format!("{before},{label}=\"{value}\""),
                };
                expected = expected.iter().flat_map(|before| values.split(',').map(move |v| one(before, v))).collect();
            }
            let labels: BTreeSet<String> = samples.iter().map(|(labels, _)| labels.clone()).collect();
            assert_eq!(labels, expected, "{name}");
        }
        assert!(found.is_empty(), "not in the list: {:?}", found.keys());
    }

    fn value(families: &BTreeMap<String, Parsed>, family: &str, labels: &str) -> f64 {
        let parsed = &families[&format!("{PREFIX}_{family}")];
        let (_, samples) = parsed.samples.first_key_value().unwrap();
        samples.iter().find(|(with, _)| with == labels).unwrap().1
    }

    #[test]
    fn gauges_repeat_the_status() {
        let mut status = Status { state: State::Held, ..Status::default() };
        status.lag.bytes = u64::from(u32::MAX) + 1;
        status.segment_counts.held = 2;
        let metrics = filled();
        let found = families(&metrics, &status);
        assert_eq!(value(&found, "lag_bytes", ""), 4_294_967_296.0);
        assert_eq!(value(&found, "segments", "state=\"held\""), 2.0);
        assert_eq!(value(&found, "cdc_raw_time_to_full_seconds", ""), f64::INFINITY);
        assert_eq!(value(&found, "hold_state", "reason=\"damage\""), 0.0);
        status.hold = Some(Hold {
            reason: HoldReason::Damage,
            segment: None,
            position: None,
            detail: String::new(),
            next_action: String::new(),
            since: jiff::Timestamp::UNIX_EPOCH,
        });
        status.cdc_raw.time_to_full_seconds = Some(10.5);
        let found = families(&metrics, &status);
        assert_eq!(value(&found, "hold_state", "reason=\"damage\""), 1.0);
        assert_eq!(value(&found, "hold_state", "reason=\"schema\""), 0.0);
        assert_eq!(value(&found, "ready", "condition=\"hold\""), 0.0);
        assert_eq!(value(&found, "ready", "condition=\"config\""), 1.0);
        assert_eq!(value(&found, "live", "part=\"pump\""), 1.0);
        assert_eq!(value(&found, "cdc_raw_time_to_full_seconds", ""), 10.5);
    }

    #[test]
    fn what_the_keeper_counts_is_taken_over_as_it_stands() {
        let metrics = filled();
        let mut counts = Counts { overflows: 1, ..Counts::default() };
        counts.indexes = IndexCounts { empty: 5, invalid: 2, backward: 1 };
        metrics.set_scanned(6, &counts);
        counts.indexes.empty = 7;
        metrics.set_scanned(7, &counts);
        let found = families(&metrics, &Status::default());
        let names = ["rescans", "inotify_overflows", "idx_empty_reads", "idx_invalid"];
        assert_eq!(names.map(|name| value(&found, name, "")), [7.0, 1.0, 7.0, 3.0]);
    }

    #[test]
    fn counters_are_those_of_the_metrics() {
        let metrics = filled();
        metrics.add_published("shop", "\"odd\\\n", 4, 1);
        metrics.entries.not_cdc.inc_by(7);
        metrics.gap_records.inc("segment-deleted");
        metrics.gap_records.inc("damaged-bytes");
        metrics.dead_letter_records.inc("malformed");
        let counters = metrics.counters();
        assert_eq!((counters.events, counters.entries_not_cdc, counters.gaps, counters.dead_letters), (7, 7, 2, 1));
        let found = families(&metrics, &Status::default());
        assert_eq!(value(&found, "events_published", "keyspace=\"shop\",table=\"orders\""), 3.0);
        assert_eq!(value(&found, "events_published", r#"keyspace="shop",table="\"odd\\\n""#), 4.0);
        assert_eq!(value(&found, "event_bytes", ""), 701.0);
    }
}
