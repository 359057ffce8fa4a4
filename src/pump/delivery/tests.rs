//! What leads out of Kafka's failures, with librdkafka's in-process brokers.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use cassandra_commitlog::{Entry, LogOffset, Schema, SegmentId, SegmentName};
use cassandra_event::{Encoder, Format, GapKind, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use cassandra_progress::{Checkpoint, Identity as SegmentIdentity, Outcome, SegmentRecord, Tally};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::super::hold::Proof;
use super::super::reading::Reading;
use super::super::{Options, Parts, Pump, SchemaSource};
use super::*;
use crate::cdc_raw::CdcRaw;
use crate::config::OnPartitionChange;
use crate::gaps::{GapLog, GapRecord};
use crate::kafka::Waiting;
use crate::kafka::tests::{self as kafka, Mock};
use crate::keeper::Keeper;
use crate::keys::KeySource;
use crate::lifecycle::ReadTo;
use crate::line::{Line, Segment, Wanted};
use crate::mapped::Access;
use crate::observe::Identity;

const LETTERS: &str = "p.dead-letter";
const SEGMENT: &str = "CommitLog-7-1795246257030.log";
const LONG: Duration = Duration::from_secs(30);

fn mock() -> Mock {
    kafka::mock(&[("t", 1), (LETTERS, 1)])
}

fn delivery_with(make: MakeSettings) -> Delivery {
    let partitions = Partitions::open(None, OnPartitionChange::Warn).unwrap();
    Delivery::kafka(make, partitions, LETTERS.to_owned(), Arc::new(Observe::new()))
}

fn delivery(mock: &Mock) -> Delivery {
    let settings = kafka::settings(mock);
    let mut delivery = delivery_with(Box::new(move || Ok(settings.clone())));
    assert!(delivery.connect().is_ok());
    delivery
}

fn report(topic: &str, code: Code) -> KafkaError {
    KafkaError::Report { topic: topic.to_owned(), partition: 0, code }
}

fn at(offset: u32) -> Position {
    Position { segment: SegmentId(1_795_246_257_030), offset: LogOffset(offset) }
}

fn encoder() -> Settings {
    Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "p").unwrap(),
        dead_letter_topic: LETTERS.to_owned(),
        cluster: "c1".to_owned(),
        host_id: "h1".to_owned(),
    }
}

fn line() -> Line {
    Line::new(Arc::new(Schema::new([])), Encoder::new(encoder()), Wanted::default())
}

fn gap(from: u32) -> GapRecord {
    GapRecord {
        segment: SEGMENT.to_owned(),
        kind: GapKind::DamagedBytes,
        from: Some(from),
        to: None,
        entries: None,
        at: 1_763_718_000,
        ids_may_shift: false,
    }
}

/// A pump in an empty folder, with a connected producer.
fn pump(mock: &Mock, folder: &Path) -> Pump {
    let raw = folder.join("cdc_raw");
    std::fs::create_dir(&raw).unwrap();
    let record = Box::new(|_, _, _| Ok(()));
    let parts = Parts {
        keeper: Keeper::start(CdcRaw::new(&raw), None, record, Box::new(|| ())).unwrap(),
        commitlog: None,
        line: line(),
        keys: KeySource::None,
        checkpoint: Checkpoint::default(),
        store: None,
        gaps: Some(GapLog::open(folder, &encoder()).unwrap()),
        schema: SchemaSource::new(None, true),
        identity: Identity::default(),
        observe: Arc::new(Observe::new()),
    };
    let options = Options { read_to: ReadTo::Synced, salvage: false, access: Access::Map, acknowledges: false };
    let partitions = Partitions::open(None, OnPartitionChange::Warn).unwrap();
    let settings = kafka::settings(mock);
    let mut pump = Pump::to_kafka(parts, options, Box::new(move || Ok(settings.clone())), partitions);
    assert!(pump.delivery.connect().is_ok());
    pump
}

#[test]
fn a_look_up_without_an_answer_is_waited_for_with_the_same_producer() {
    let mock = mock();
    let mut delivery = delivery(&mock);
    let error = KafkaError::Topic { action: "look up", topic: "t".to_owned(), code: Code::RequestTimedOut };
    let Ok(Some(hold)) = delivery.recover(error) else { panic!("no hold") };
    assert_eq!(hold.reason, Reason::Kafka);
    assert!(delivery.is_connected());
}

#[test]
fn a_setting_that_worked_is_waited_for_and_one_that_never_did_is_the_end() {
    let mock = mock();
    let broken = Arc::new(AtomicBool::new(true));
    let (is_broken, good) = (Arc::clone(&broken), kafka::settings(&mock));
    let mut delivery = delivery_with(Box::new(move || match is_broken.load(Ordering::Relaxed) {
        true => Err(KafkaError::Client("the key does not match the certificate".to_owned())),
        false => Ok(good.clone()),
    }));
    assert!(matches!(delivery.connect(), Err(Trouble::Fatal(PumpError::Kafka(KafkaError::Client(_))))));
    broken.store(false, Ordering::Relaxed);
    assert!(delivery.connect().is_ok());
    assert!(delivery.recover(report("t", Code::TopicAuthorizationFailed)).is_ok_and(|hold| hold.is_some()));
    broken.store(true, Ordering::Relaxed);
    let Err(Trouble::Hold(hold)) = delivery.connect() else { panic!("no hold") };
    assert_eq!(hold.reason, Reason::Held(HoldReason::Credentials));
    broken.store(false, Ordering::Relaxed);
    assert!(delivery.connect().is_ok() && delivery.is_connected());
}

#[test]
fn what_has_nowhere_else_to_go_is_a_hold_and_no_entry_is_blamed_for_it() {
    let mock = mock();
    let mut delivery = delivery(&mock);
    let refused = |delivery: &mut Delivery, error| delivery.recover(error).unwrap_or_else(|_| panic!("the end"));
    // Of a batch only this is known: one of it is poison.
    delivery.isolation.at = Some(at(500));
    assert!(refused(&mut delivery, report(LETTERS, Code::InvalidRecord)).is_none());
    assert!(delivery.isolation.is_on());
    for (blamed, says) in [(Some(at(500)), "the dead letter of the entry"), (None, "a gap record")] {
        assert!(delivery.connect().is_ok());
        delivery.isolation.at = blamed;
        let hold = refused(&mut delivery, report(LETTERS, Code::InvalidRecord)).unwrap();
        assert_eq!(hold.reason, Reason::Held(HoldReason::DeadLetterTopic));
        assert!(hold.detail.contains(says), "{}", hold.detail);
        assert!(delivery.isolation.refused.is_empty());
        assert!(!delivery.is_connected(), "what failed is met once");
    }
    assert!(delivery.connect().is_ok());
    delivery.isolation.at = Some(at(500));
    assert!(refused(&mut delivery, report("t", Code::InvalidRecord)).is_none());
    assert!(delivery.isolation.refused(at(500)).is_some());
    delivery.isolation.passed(at(500));
    assert!(delivery.isolation.refused.is_empty(), "its dead letter is acknowledged: nothing is kept of it");
}

#[test]
fn a_producer_that_is_to_be_made_anew_goes_before_anything_more_is_sent() {
    let mock = mock();
    let mut delivery = delivery(&mock);
    delivery.renew();
    assert!(matches!(delivery.connect(), Err(Trouble::Sink(SinkError::Kafka(KafkaError::Interrupted)))));
    assert!(delivery.recover(KafkaError::Interrupted).is_ok_and(|hold| hold.is_none()));
    assert!(!delivery.is_connected());
    assert!(delivery.connect().is_ok() && delivery.is_connected());
    assert!(delivery.connect().is_ok(), "once");
}

/// One record to the topic `t`.
fn send(delivery: &mut Delivery, entry: u32) {
    let Some((Sink::Kafka(sink), ledger, _)) = delivery.parts() else { panic!("not connected") };
    let topic = sink.publisher().topic("t").unwrap();
    if entry == 1 {
        sink.count_for(topic, "ks", "t");
    }
    let arena = sink.publisher().arena();
    let start = u32::try_from(arena.len()).unwrap();
    arena.extend_from_slice(b"key value");
    sink.publisher().push(ledger, topic, 0, start..start + 3, start + 4..start + 9).unwrap();
    ledger.read_to(at(entry), Outcome::Published);
}

#[test]
fn what_each_producer_has_acknowledged_is_counted_once_and_a_failure_is_no_acknowledgement() {
    let mock = mock();
    let mut delivery = delivery(&mock);
    let events = |delivery: &Delivery| delivery.observe.report().counters.events;
    for producer in 1..=2 {
        let before = delivery.acknowledged();
        assert!(delivery.recover(report("t", Code::TopicAuthorizationFailed)).is_ok());
        assert_eq!(delivery.acknowledged(), before, "a failed report is none");
        delivery.forget();
        assert!(delivery.connect().is_ok());
        for entry in 1..=10 {
            send(&mut delivery, entry);
        }
        let Some((Sink::Kafka(sink), ledger, _)) = delivery.parts() else { panic!("not connected") };
        sink.publisher().flush_runs(ledger).unwrap();
        // The producer goes before anybody asked what it has done.
        assert!(delivery.recover(report("t", Code::TopicAuthorizationFailed)).is_ok());
        assert!(!delivery.is_connected());
        assert_eq!(events(&delivery), 10 * producer);
        assert!(delivery.acknowledged() > before);
    }
}

#[test]
fn a_hold_of_kafka_ends_with_what_kafka_acknowledges() {
    let read = |outstanding| Proof::Read { outstanding };
    for reason in [
        Reason::Kafka,
        Reason::Held(HoldReason::Authorization),
        Reason::Held(HoldReason::Credentials),
        Reason::Held(HoldReason::DeadLetterTopic),
    ] {
        assert!(!reason.ends_with(read(1)), "{reason:?}");
        assert!(reason.ends_with(read(0)) && reason.ends_with(Proof::Acknowledged), "{reason:?}");
    }
    let damage = Reason::Held(HoldReason::Damage);
    assert!(damage.ends_with(read(1)) && !damage.ends_with(Proof::Acknowledged));

    let (mock, folder) = (mock(), tempfile::tempdir().unwrap());
    let mut pump = pump(&mock, folder.path());
    pump.stop_at(Hold::new(Reason::Held(HoldReason::Authorization), "no WRITE".to_owned()));
    send(&mut pump.delivery, 1);
    let scan = pump.scan();
    assert!(pump.read(&scan).is_ok());
    assert!(pump.hold.is_some(), "all was read, and nothing acknowledged");
    let until = Instant::now() + LONG;
    while pump.hold.is_some() {
        assert!(pump.settle().is_ok() && Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn gap_records_are_sent_and_marked_while_other_runs_are_always_outstanding() {
    let (mock, folder) = (mock(), tempfile::tempdir().unwrap());
    let mut pump = pump(&mock, folder.path());
    let gaps = pump.gaps.clone().unwrap();
    let mut held = Vec::new();
    for from in 1..=3 {
        let _ = gaps.record(&gap(from)).unwrap();
        assert!(pump.send_gaps().is_ok());
        assert_eq!(pump.gaps_sent.len(), 1);
        // Something later is never acknowledged.
        held.push(pump.delivery.ledger.open().unwrap());
        let until = Instant::now() + LONG;
        while !gaps.unpublished().is_empty() {
            assert!(pump.settle().is_ok() && Instant::now() < until);
            std::thread::sleep(Duration::from_millis(5));
        }
        for ticket in held.drain(..) {
            pump.delivery.ledger.settle(ticket);
        }
    }
}

#[test]
fn a_gap_record_is_not_marked_before_it_is_acknowledged() {
    let (mock, folder) = (mock(), tempfile::tempdir().unwrap());
    let mut pump = pump(&mock, folder.path());
    let gaps = pump.gaps.clone().unwrap();
    let _ = gaps.record(&gap(1)).unwrap();
    mock.broker_down(1).unwrap();
    let Some((_, ledger, _)) = pump.delivery.parts() else { panic!("not connected") };
    let ticket = ledger.open().unwrap();
    pump.gaps_sent.insert(gaps.unpublished().swap_remove(0).name, pump.delivery.ledger.opened());
    assert!(pump.settle().is_ok());
    assert_eq!(gaps.unpublished().len(), 1);
    pump.delivery.ledger.settle(ticket);
    assert!(pump.settle().is_ok());
    assert_eq!(gaps.unpublished(), []);
}

#[test]
fn who_stops_at_a_hold_waits_for_what_is_on_its_way() {
    let (mock, folder) = (mock(), tempfile::tempdir().unwrap());
    let mut pump = pump(&mock, folder.path());
    mock.broker_round_trip_time(-1, Duration::from_millis(200)).unwrap();
    send(&mut pump.delivery, 1);
    pump.stop_at(Hold::new(Reason::Held(HoldReason::Damage), "a bit".to_owned()));
    assert!(pump.stop(LONG).is_ok());
    assert_eq!(pump.delivery.ledger.outstanding(), 0);
    assert!(pump.hold.is_some());
}

#[test]
fn records_are_split_for_what_their_topic_takes() {
    let mock = mock();
    let settings = KafkaSettings { max_record_bytes: 2_000, ..kafka::settings(&mock) };
    let mut delivery = delivery_with(Box::new(move || Ok(settings.clone())));
    assert!(delivery.connect().is_ok());
    let segment = Segment::new(SegmentName::parse(SEGMENT).unwrap());
    let body = vec![0xff; 5_000];
    let entry = |at| Entry { body: &body, body_at: LogOffset(at), crc: 7 };
    let Some((sink, ledger, _)) = delivery.parts() else { panic!("not connected") };
    let version = SegmentName::parse(SEGMENT).unwrap().version;
    let done = line().entry(&segment, version, &entry(100), false, sink, ledger).unwrap().unwrap();
    assert_eq!(done.outcome, Outcome::DeadLettered);
    assert!(done.records > 3, "{} records", done.records);
    // An encoder that has seen no limit yet, and a sink that knows the topic.
    let Some((sink, ledger, _)) = delivery.parts() else { panic!("not connected") };
    assert_eq!(sink.drain(ledger, LONG).unwrap(), 0);
    delivery.sink = None;
    assert!(delivery.connect().is_ok());
    let Some((sink, ledger, _)) = delivery.parts() else { panic!("not connected") };
    let done = line().reject(&segment, version, &entry(9_000), "refused", sink, ledger).unwrap();
    assert!(done.records > 3, "{} records", done.records);
    assert_eq!(sink.drain(ledger, LONG).unwrap(), 0);
}

#[test]
fn an_entry_counts_once_however_often_it_is_read() {
    let name = SegmentName::parse(SEGMENT).unwrap();
    let identity = SegmentIdentity { segment: name.id, first_entry_crc: None };
    let record = SegmentRecord::new(identity, SEGMENT.to_owned(), 1, 2);
    let mut reading = Reading::new(name, &record);
    let read = |reading: &mut Reading| {
        reading.count(LogOffset(100), Outcome::Published);
        reading.count(LogOffset(200), Outcome::DeadLettered);
        reading.dead_letter(LogOffset(200), "malformed");
        reading.count(LogOffset(300), Outcome::NotCdc);
    };
    read(&mut reading);
    reading.restart(&record);
    read(&mut reading);
    assert_eq!(
        reading.acknowledged(LogOffset(100), Tally { published: 1, ..Tally::default() }),
        (Tally { published: 1, ..Tally::default() }, vec![])
    );
    let tally = reading.tally;
    let rest = Tally { dead_lettered: 1, not_cdc: 1, ..Tally::default() };
    assert_eq!(reading.acknowledged(LogOffset(300), tally), (rest, vec!["malformed"]));
    assert_eq!(reading.acknowledged(LogOffset(300), tally), (Tally::default(), vec![]));
}

#[test]
fn who_is_told_to_halt_halts_at_the_first_look_and_until_the_number_is_right() {
    let (mock, folder) = (mock(), tempfile::tempdir().unwrap());
    let path = folder.path().join("partitions.json");
    std::fs::write(&path, r#"{"t":2}"#).unwrap();
    let mut partitions = Partitions::open(Some(path.clone()), OnPartitionChange::Halt).unwrap();
    assert_eq!(partitions.pinned(), BTreeMap::from([("t".to_owned(), 2)]));
    let mut publisher = Publisher::connect(&kafka::settings(&mock)).unwrap();
    publisher.topic("t").unwrap();
    let observe = Observe::new();
    for _ in 0..2 {
        let Looked::Halt(hold) = partitions.look(&publisher, &observe).unwrap() else { panic!("it goes on") };
        assert_eq!(hold.reason, Reason::Held(HoldReason::PartitionsChanged));
    }
    std::fs::write(&path, r#"{"t":1}"#).unwrap();
    let mut partitions = Partitions::open(Some(path), OnPartitionChange::Halt).unwrap();
    assert!(matches!(partitions.look(&publisher, &observe).unwrap(), Looked::AsBefore));
}

#[test]
fn silence_begins_anew_with_each_wait_and_each_report() {
    let start = Instant::now();
    let mut silence = Silence::after(0, start);
    let mut lasts = |at: u64, since, reported| {
        let waiting = Waiting { since: Duration::from_secs(since), in_flight: 1, reported };
        silence.within(&waiting, start + Duration::from_secs(at)).as_secs()
    };
    assert_eq!([lasts(100, 1, 0), lasts(140, 41, 0)], [1, 41]);
    assert_eq!([lasts(150, 51, 7), lasts(160, 61, 7)], [0, 10]);
    assert_eq!(lasts(500, 2, 7), 2);
}
