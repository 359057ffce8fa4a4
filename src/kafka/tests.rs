//! The publisher against librdkafka's in-process brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{Ledger, Outcome, Tally, Window};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr as Err_};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::*;

mod waiting;

pub(crate) type Mock = MockCluster<'static, DefaultProducerContext>;

const LONG: Duration = Duration::from_secs(30);

pub(crate) fn mock(topics: &[(&str, i32)]) -> Mock {
    let mock = MockCluster::new(1).unwrap();
    for (topic, partitions) in topics {
        mock.create_topic(topic, *partitions, 1).unwrap();
    }
    mock
}

pub(crate) fn settings(mock: &Mock) -> KafkaSettings {
    KafkaSettings {
        bootstrap: mock.bootstrap_servers(),
        lookup_timeout: Duration::from_secs(5),
        topic_limits: false,
        ..KafkaSettings::default()
    }
}

fn at(entry: u32) -> Position {
    Position { segment: SegmentId(7), offset: LogOffset(entry * 100) }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(0), Tally::default());
    ledger
}

fn acknowledged(ledger: &Ledger) -> Position {
    ledger.watermark().unwrap().position()
}

/// One entry with one record: key `k<key>`, value the entry's number.
fn push(
    publisher: &mut Publisher,
    ledger: &mut Ledger,
    topic: TopicId,
    key: u32,
    entry: u32,
) -> Result<(), KafkaError> {
    let arena = publisher.arena();
    let start = u32::try_from(arena.len()).unwrap();
    arena.extend_from_slice(format!("k{key}").as_bytes());
    let middle = u32::try_from(arena.len()).unwrap();
    arena.extend_from_slice(entry.to_string().as_bytes());
    let end = u32::try_from(arena.len()).unwrap();
    publisher.push(ledger, topic, key, start..middle, middle..end)?;
    ledger.read_to(at(entry), Outcome::Published);
    Ok(())
}

/// Everything that a topic holds, per partition, in order: key and value.
fn consume(mock: &Mock, topic: &str, partitions: i32, at_least: usize) -> BTreeMap<i32, Vec<(String, u32)>> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("group.id", "test")
        .set("fetch.wait.max.ms", "20")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut found: BTreeMap<i32, Vec<(String, u32)>> = BTreeMap::new();
    let mut count = 0;
    let mut quiet = Instant::now();
    // A little longer than needed, for records that should not be there.
    while (count < at_least && quiet.elapsed() < LONG) || quiet.elapsed() < Duration::from_millis(300) {
        let Some(message) = consumer.poll(Duration::from_millis(50)) else { continue };
        let message = message.unwrap();
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
        let value = text(message.payload()).parse().unwrap();
        found.entry(message.partition()).or_default().push((text(message.key()), value));
        count += 1;
        quiet = Instant::now();
    }
    found
}

/// Every entry from 1 to `entries` arrived exactly once, and each partition in reading order.
fn assert_complete_and_ordered(found: &BTreeMap<i32, Vec<(String, u32)>>, entries: u32) {
    let mut all: Vec<u32> = found.values().flatten().map(|(_, entry)| *entry).collect();
    all.sort_unstable();
    assert_eq!(all, (1..=entries).collect::<Vec<_>>());
    for (partition, records) in found {
        assert!(records.is_sorted_by_key(|(_, entry)| *entry), "partition {partition} is out of order");
    }
}

/// All entries arrived, repeats allowed. Returns how many came before an older one of their partition.
fn passed(found: &BTreeMap<i32, Vec<(String, u32)>>, entries: u32) -> usize {
    let mut all = std::collections::BTreeSet::new();
    let mut passed = 0;
    for records in found.values() {
        let firsts: Vec<u32> =
            records.iter().filter(|(_, entry)| all.insert(*entry)).map(|(_, entry)| *entry).collect();
        let mut oldest_behind = u32::MAX;
        for entry in firsts.iter().rev() {
            passed += usize::from(*entry > oldest_behind);
            oldest_behind = oldest_behind.min(*entry);
        }
    }
    assert_eq!(all.len(), usize::try_from(entries).unwrap());
    passed
}

#[test]
fn everything_is_delivered_in_order_and_acknowledged() {
    let mock = mock(&[("t", 5)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("t").unwrap();
    assert_eq!(publisher.topic("t").unwrap(), topic);
    let mut ledger = ledger();
    for entry in 1..=20_000 {
        push(&mut publisher, &mut ledger, topic, entry % 97, entry).unwrap();
        if entry % 1_000 == 0 {
            publisher.settle(&mut ledger).unwrap();
        }
    }
    assert!(publisher.outstanding() > 0 && ledger.outstanding() > 0);
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!((acknowledged(&ledger), ledger.outstanding()), (at(20_000), 0));
    assert_eq!(ledger.watermark().unwrap().tally().published, 20_000);
    assert_eq!((publisher.take_counts(topic).records, publisher.outstanding()), (20_000, 0));
    let found = consume(&mock, "t", 5, 20_000);
    assert_eq!(found.len(), 5);
    assert_complete_and_ordered(&found, 20_000);
}

#[test]
fn each_acknowledged_run_tells_how_long_it_took() {
    let mock = mock(&[("t", 3)]);
    let settings = settings(&mock);
    let properties = BTreeMap::from([("statistics.interval.ms".to_owned(), "50".to_owned())]);
    let mut publisher = Publisher::connect(&KafkaSettings { properties, ..settings }).unwrap();
    let (told, times) = std::sync::mpsc::channel();
    publisher.on_delivered(move |took| told.send(took).unwrap());
    let turns = Arc::new(AtomicU64::new(0));
    let turned = Arc::clone(&turns);
    publisher.on_report_turn(move || {
        turned.fetch_add(1, Ordering::Relaxed);
    });
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    let mut runs = 0;
    for entry in 1..=2_000 {
        push(&mut publisher, &mut ledger, topic, entry % 97, entry).unwrap();
        runs += publisher.settle(&mut ledger).unwrap().runs;
    }
    assert!(publisher.outstanding_bytes() > publisher.outstanding());
    let began = Instant::now();
    while publisher.outstanding() > 0 || publisher.round_trip().is_none() {
        publisher.flush_runs(&mut ledger).unwrap();
        runs += publisher.settle(&mut ledger).unwrap().runs;
        assert!(began.elapsed() < LONG);
        std::thread::sleep(Duration::from_millis(1));
    }
    runs += publisher.settle(&mut ledger).unwrap().runs;
    assert_eq!(publisher.outstanding_bytes(), 0);
    let times: Vec<Duration> = times.try_iter().collect();
    assert!(runs > 0 && u64::try_from(times.len()) == Ok(runs), "{runs} runs, {} times", times.len());
    assert!(times.iter().all(|took| !took.is_zero() && *took < LONG));
    assert!(turns.load(Ordering::Relaxed) > 0 && !publisher.round_trip().unwrap().is_zero());
}

#[test]
fn draining_does_not_wait_for_a_tick() {
    let mock = mock(&[("t", 1)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    let mut times = Vec::new();
    for entry in 1..=15 {
        push(&mut publisher, &mut ledger, topic, 0, entry).unwrap();
        let started = Instant::now();
        assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
        times.push(started.elapsed());
        // Long enough for the thread that serves reports to park.
        if entry % 5 == 0 {
            std::thread::sleep(Duration::from_millis(150));
        }
    }
    times.sort();
    assert!(times[7] < Duration::from_millis(60), "{times:?}");
}

#[test]
fn transient_errors_are_absorbed_without_a_change_of_order() {
    let mock = mock(&[("t", 3)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    let errors = [
        Err_::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Err_::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Err_::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Err_::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Err_::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Err_::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Err_::RD_KAFKA_RESP_ERR__TRANSPORT,
        Err_::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
    ];
    mock.request_errors(RDKafkaApiKey::Produce, &errors);
    for entry in 1..=6_000 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(6_000));
    assert_complete_and_ordered(&consume(&mock, "t", 3, 6_000), 6_000);
}

#[test]
fn a_full_queue_stops_the_reader_and_lets_nothing_pass() {
    let mock = mock(&[("t", 3)]);
    mock.broker_round_trip_time(-1, Duration::from_millis(20)).unwrap();
    let settings = KafkaSettings { queue_messages: 100, run_records: 64, ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    for entry in 1..=3_000 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
        assert!(publisher.in_flight() <= 100);
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(3_000));
    assert_complete_and_ordered(&consume(&mock, "t", 3, 3_000), 3_000);
}

#[test]
fn brokers_that_go_and_come_back_lose_nothing() {
    let mock = mock(&[("t", 3)]);
    let mut settings = KafkaSettings { queue_messages: 500, ..settings(&mock) };
    settings.properties.insert("reconnect.backoff.max.ms".into(), "500".into());
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    for entry in 1..=300 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    mock.broker_down(-1).unwrap();
    for entry in 301..=500 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    let left = publisher.drain(&mut ledger, Duration::from_millis(700)).unwrap();
    assert_eq!(left, 200);
    assert_eq!(acknowledged(&ledger), at(300));
    mock.broker_up(-1).unwrap();
    for entry in 501..=3_000 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(3_000));
    assert_complete_and_ordered(&consume(&mock, "t", 3, 3_000), 3_000);
}

#[test]
fn a_wait_without_end_can_be_broken_off_and_loses_nothing() {
    let mock = mock(&[("t", 3)]);
    let settings = KafkaSettings { queue_messages: 100, run_records: 10, ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    publisher.on_wait(move |waiting| {
        assert!(waiting.in_flight > 0);
        if count.fetch_add(1, Ordering::Relaxed) == 4 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let mut ledger = ledger();
    mock.broker_down(-1).unwrap();
    let refused = (1..=1_000).find_map(|entry| push(&mut publisher, &mut ledger, topic, entry % 17, entry).err());
    assert_eq!(refused, Some(KafkaError::Interrupted));
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    assert_eq!(acknowledged(&ledger), at(0));
    // Nothing more goes out: it would pass what was given up.
    assert_eq!(publisher.flush_runs(&mut ledger), Err(KafkaError::Interrupted));

    mock.broker_up(-1).unwrap();
    publisher.on_wait(|_| ControlFlow::Continue(()));
    assert_eq!(publisher.drain(&mut ledger, LONG), Err(KafkaError::Interrupted));
    assert_eq!(publisher.in_flight(), 0);
    let from = ledger.rewind().unwrap();
    assert!(!publisher.is_fatal());
    publisher.abandon();
    for entry in from.offset.0 / 100 + 1..=1_000 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(1_000));
    assert_eq!(passed(&consume(&mock, "t", 3, 1_000), 1_000), 0);
}

/// Messages in a batch.
const BATCH: usize = 200;

/// A permanent error fails a batch. What recovery rests on: the cause is told, later records of the partition do not
/// pass, every accepted record has its report, and the watermark has not moved past the batch.
fn recovers_from(error: Err_, action: Action) {
    let mock = mock(&[("t", 2)]);
    let mut settings = settings(&mock);
    // Small batches, so that many wait behind the failed one, and one on its way at a time.
    for (name, value) in [("batch.num.messages", BATCH.to_string()), ("max.in.flight", "1".to_owned())] {
        settings.properties.insert(name.into(), value);
    }
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    for entry in 1..=100 {
        push(&mut publisher, &mut ledger, topic, entry % 2, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    mock.broker_round_trip_time(-1, Duration::from_millis(20)).unwrap();
    mock.request_errors(RDKafkaApiKey::Produce, &[error]);
    let failure = (101..=5_000)
        .find_map(|entry| push(&mut publisher, &mut ledger, topic, entry % 2, entry).err())
        .or_else(|| publisher.drain(&mut ledger, LONG).err())
        .unwrap();
    let drained = publisher.drain(&mut ledger, LONG).unwrap_err();
    assert_eq!(drained.action(), action, "{failure} / {drained}");
    assert_eq!(publisher.in_flight(), 0, "exactly one report for each accepted record");
    let from = ledger.rewind().unwrap();
    assert!(from.offset >= at(100).offset && from.offset < at(5_000).offset);
    assert!(publisher.is_fatal());
    drop(publisher);

    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    for entry in from.offset.0 / 100 + 1..=5_000 {
        push(&mut publisher, &mut ledger, topic, entry % 2, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(5_000));
    // One batch was made already when the other failed, and went out. A broker refuses it by its sequence number; the
    // mock does not look at those. Without the guarantee all batches go out, numbered anew.
    let passed = passed(&consume(&mock, "t", 2, 5_000), 5_000);
    assert!(passed <= BATCH, "{passed} records passed the failed batch");
}

#[test]
fn a_poison_batch_is_told_apart_and_recovered_from() {
    recovers_from(Err_::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, Action::Isolate);
}

#[test]
fn an_invalid_record_is_told_apart_and_recovered_from() {
    recovers_from(Err_::RD_KAFKA_RESP_ERR_INVALID_RECORD, Action::Isolate);
}

#[test]
fn a_lost_permission_holds_and_is_recovered_from() {
    recovers_from(Err_::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, Action::Hold(HoldReason::Authorization));
}

#[test]
fn a_lost_sequence_is_fatal_and_recovered_from() {
    recovers_from(Err_::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, Action::Fatal);
}

#[test]
fn a_missing_topic_is_named_and_not_made() {
    let mock = mock(&[("t", 1)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    for _ in 0..2 {
        let error = publisher.topic("absent").unwrap_err();
        assert_eq!(error, KafkaError::MissingTopic { topic: "absent".into() });
        assert_eq!(error.action(), Action::Hold(HoldReason::MissingTopic));
    }
    mock.create_topic("absent", 2, 1).unwrap();
    let topic = publisher.topic("absent").unwrap();
    assert_eq!(publisher.partition(topic, 3), Some(1));
}

#[test]
fn a_record_over_the_limit_is_left_out_alone() {
    let mock = mock(&[("t", 1)]);
    let settings = KafkaSettings { max_record_bytes: 2_000, ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    push(&mut publisher, &mut ledger, topic, 0, 1).unwrap();
    let arena = publisher.arena();
    let start = u32::try_from(arena.len()).unwrap();
    arena.resize(arena.len() + 2_001, b'x');
    let refused = publisher.push(&mut ledger, topic, 0, start..start, start..start + 2_001).unwrap_err();
    assert_eq!(refused, KafkaError::TooLarge { topic: "t".into(), size: 2_001, limit: 2_000 });
    assert_eq!(refused.action(), Action::DeadLetterCandidate);
    let outside = publisher.push(&mut ledger, topic, 0, start..start, start..start + 9_999).unwrap_err();
    assert!(matches!(outside, KafkaError::Bug(_)));
    push(&mut publisher, &mut ledger, topic, 0, 2).unwrap();
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_complete_and_ordered(&consume(&mock, "t", 1, 2), 2);
}

/// Kafka's own test vectors for `Utils.murmur2`, and what its default partitioner makes of them.
const JAVA: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[test]
fn keys_go_where_javas_producer_and_librdkafkas_murmur2_put_them() {
    let mock = mock(&[("ours", 7), ("theirs", 7)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("ours").unwrap();
    let mut ledger = ledger();
    let theirs: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", mock.bootstrap_servers())
        .set("partitioner", "murmur2_random")
        .create()
        .unwrap();
    for (entry, (key, hash)) in (1_u32..).zip(JAVA) {
        // `Utils.toPositive(hash) % 7`, as Java's default partitioner has it.
        let java = (hash & i32::MAX) % 7;
        assert_eq!(publisher.partition(topic, hash.cast_unsigned()), Some(java), "{key}");
        let arena = publisher.arena();
        let start = u32::try_from(arena.len()).unwrap();
        arena.extend_from_slice(key.as_bytes());
        let middle = u32::try_from(arena.len()).unwrap();
        arena.extend_from_slice(entry.to_string().as_bytes());
        let end = u32::try_from(arena.len()).unwrap();
        publisher.push(&mut ledger, topic, hash.cast_unsigned(), start..middle, middle..end).unwrap();
        ledger.read_to(at(entry), Outcome::Published);
        theirs.send(BaseRecord::to("theirs").key(key).payload(&entry.to_string())).map_err(|(error, _)| error).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    theirs.flush(LONG).unwrap();
    assert_eq!(consume(&mock, "ours", 7, 6), consume(&mock, "theirs", 7, 6));
}

#[test]
fn memory_of_the_arena_stays_flat() {
    let mock = mock(&[("t", 12)]);
    let settings = KafkaSettings { arena_bytes: 64 << 10, ..settings(&mock) };
    let mut publisher = Publisher::connect(&settings).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = ledger();
    for entry in 1..=30_000 {
        push(&mut publisher, &mut ledger, topic, entry, entry).unwrap();
        assert!(publisher.arena_capacity() <= 128 << 10);
    }
    // One huge record does not keep its memory.
    let arena = publisher.arena();
    let start = u32::try_from(arena.len()).unwrap();
    arena.resize(arena.len() + 10_000_000, b'x');
    assert!(publisher.push(&mut ledger, topic, 0, start..start, start..start + 10_000_000).is_err());
    publisher.flush_runs(&mut ledger).unwrap();
    publisher.arena();
    assert!(publisher.arena_capacity() <= 128 << 10);
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(publisher.take_counts(topic).records, 30_000);
}

#[test]
fn a_full_window_is_waited_for() {
    let mock = mock(&[("t", 3)]);
    let mut publisher = Publisher::connect(&settings(&mock)).unwrap();
    let topic = publisher.topic("t").unwrap();
    let mut ledger = Ledger::new(Window { runs: 2, entries: 100, segments: 4 });
    ledger.enter(at(0), Tally::default());
    for entry in 1..=500 {
        push(&mut publisher, &mut ledger, topic, entry % 17, entry).unwrap();
    }
    assert_eq!(publisher.drain(&mut ledger, LONG), Ok(0));
    assert_eq!(acknowledged(&ledger), at(500));
    assert_complete_and_ordered(&consume(&mock, "t", 3, 500), 500);
}
