//! What others lose when something goes wrong: the same fault, and nothing is lost, and nothing goes that is not in Kafka.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::agent::was_killed;
use super::mutations::framing;
use super::scene::{Event, LETTERS, Scene, index_of, sorted, unique};
use super::support::oracle::{self, Section};
use super::support::{load, position};

const CASE: &str = "4.1-mutations";

const READY: Duration = Duration::from_secs(60);

/// Before the body of an entry: its length, and the checksum of that. Behind it the checksum of both.
const HEAD: usize = 8;
const TAIL: usize = 4;

/// An entry: where it begins and ends, in a plain segment, and the section that it lies in.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    section: Section,
}

/// The place of the entry with this event.
fn place_of(scene: &Scene, event: &Event) -> Place {
    let expected = oracle::read(&load::own_case(CASE).folder.join("expected.jsonl.gz"));
    let end = position(&event.1);
    let mutation = expected.mutations.iter().find(|mutation| mutation.position == end).unwrap();
    let sections = &expected.sections[scene.segment().file_name().unwrap().to_str().unwrap()];
    let section = *sections.iter().find(|section| section.start < end && end <= section.end).unwrap();
    Place { start: (end - mutation.size) as usize - HEAD - TAIL, end: end as usize, section }
}

/// One event in the middle of the segment, of which more than one lies in its partition before and behind it.
fn middle(scene: &Scene) -> Event {
    scene.all[scene.all.len() / 2].clone()
}

/// A connector that gives a segment up at an exception moves the one that is still being written away, and all that comes
/// after it in there.
#[test]
fn an_entry_that_can_not_be_decoded_costs_no_other_one_in_a_segment_that_grows() {
    let mut scene = Scene::new(CASE);
    let log = scene.segment();
    let bad =
        scene.all.iter().find(|(topic, event)| topic.ends_with("bag") && event["key"]["id"] == 3).unwrap().clone();
    let place = place_of(&scene, &bad);
    let mut bytes = fs::read(&log).unwrap();
    let mut body = bytes[place.start + HEAD..place.end - TAIL].to_vec();
    let id = u128::from_str_radix(&bad.1["table_id"].as_str().unwrap().replace('-', ""), 16).unwrap().to_be_bytes();
    let at = body.windows(16).position(|window| window == id).expect("the table's id");
    body[at + 15] ^= 1;
    let entry = framing::entry(&body);
    bytes[place.start..place.end].copy_from_slice(&entry);
    fs::write(&log, &bytes).unwrap();
    // As Cassandra has it while it writes: a name of its own, and an index that does not say COMPLETED.
    let own = scene.place.folder.join("own.log");
    fs::hard_link(&log, &own).unwrap();
    let completed = fs::read_to_string(index_of(&log)).unwrap();
    fs::write(index_of(&log), place.start.to_string()).unwrap();
    scene.place.arguments = vec!["--set".into(), "cassandra.read_to=marked".into()];

    let others: Vec<Event> = scene.all.iter().filter(|event| event.1["id"] != bad.1["id"]).cloned().collect();
    assert_eq!(others.len() + 1, scene.all.len());
    for _ in 0..2 {
        let mut agent = scene.place.agent();
        agent.wait_ready(READY);
        assert_eq!(sorted(&scene.published(others.len() + 1)), sorted(&others));
        assert!(log.exists(), "it is still being written");
        agent.terminate();
    }
    fs::write(index_of(&log), completed).unwrap();
    fs::remove_file(own).unwrap();
    scene.once(&[]).expect(0);
    assert!(!log.exists());
    assert_eq!(sorted(&scene.published(others.len() + 1)), sorted(&others), "nothing twice");
    let letters = scene.letters();
    let [letter] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&letter["reason"], &letter["entry"]["position"]), (&"unknown-table".into(), &place.end.into()));
    assert_eq!(letter["entry"]["base64"], STANDARD.encode(&body));
    assert_eq!(letter["entry"]["crc"], hex(&entry[entry.len() - TAIL..]));
    assert_eq!(format!("{}/0", letter["id"].as_str().unwrap()), bad.1["id"]);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A segment with one bad bit: nothing before it is held back, nothing behind it comes, and the segment stays, however
/// often it is tried, with few words. Told to go on, all comes but what was hit, which is named by a durable record.
fn one_bad_bit(at: impl Fn(Place) -> usize, hit: impl Fn(Place) -> std::ops::Range<usize>) {
    let scene = Scene::new(CASE);
    let log = scene.segment();
    let place = place_of(&scene, &middle(&scene));
    let mut bytes = fs::read(&log).unwrap();
    bytes[at(place)] ^= 0x10;
    fs::write(&log, &bytes).unwrap();
    let (raw, completed) = (scene.raw(), scene.completed());
    let hit = hit(place);
    let end = |event: &Event| position(&event.1) as usize;
    let before: Vec<Event> = scene.all.iter().filter(|event| end(event) <= hit.start).cloned().collect();
    let outside: Vec<Event> =
        scene.all.iter().filter(|event| end(event) <= hit.start || end(event) > hit.end).cloned().collect();
    assert!(!before.is_empty() && before.len() < outside.len() && outside.len() < scene.all.len());

    let mut agent = scene.place.agent();
    agent.wait_ready(READY);
    scene.wait(&mut agent, "the hold", |scene| {
        fs::read_to_string(scene.place.folder.join("agent.log")).unwrap().contains("held: ")
    });
    // Long enough for the next tries.
    std::thread::sleep(Duration::from_secs(4));
    agent.must_run();
    agent.terminate();
    let said = fs::read_to_string(scene.place.folder.join("agent.log")).unwrap();
    assert!(said.len() < 16 << 10, "{} bytes of log:\n{said}", said.len());
    let ran = scene.once(&[]).expect(65);
    let name = log.file_name().unwrap().to_str().unwrap();
    assert!(ran.err.contains(name), "{}", ran.err);
    assert_eq!(sorted(&scene.published(before.len())), sorted(&before));
    assert_eq!(scene.raw(), raw, "nothing is deleted");
    assert!(scene.letters().is_empty());

    scene.once(&["--set", "cassandra.on_damage=salvage"]).expect(65);
    assert_eq!(sorted(&scene.published(outside.len() + 1)), sorted(&outside));
    let letters = scene.letters();
    let [gap] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((&gap["gap"], gap["source"]["segment"].as_str()), (&"damaged-bytes".into(), Some(name)));
    let ends = |member: &str| gap[member].as_u64().unwrap() as usize;
    assert!(ends("from") <= hit.end && hit.start <= ends("to"), "{gap}, hit was {hit:?}");
    assert!(scene.raw().is_disjoint(&completed), "it goes with the record");
    let kept = scene.place.folder.join("state/quarantine");
    let kept: Vec<_> = fs::read_dir(kept).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(kept.len() == 1 && kept[0].extension().is_some_and(|end| end == "damage"), "{kept:?}");
}

/// A connector that skips what it can't read loses the mutation, and deletes the segment.
#[test]
fn a_bad_bit_in_a_mutation_holds_and_costs_that_one_alone() {
    one_bad_bit(|place| place.start + HEAD + 20, |place| place.start..place.end);
}

/// The same, with all the rest of the section.
#[test]
fn a_bad_bit_in_a_length_holds_and_costs_its_section_alone() {
    one_bad_bit(|place| place.start + 2, |place| place.start..place.section.end as usize);
}

/// The same, or an error without end that fills the disk with log lines.
#[test]
fn a_bad_bit_in_a_section_marker_holds_with_few_words_and_costs_its_section_alone() {
    one_bad_bit(
        |place| place.section.start as usize - 3,
        |place| place.section.start as usize..place.section.end as usize,
    );
}

/// Makes deliveries slow and the queue small, so that there is a middle of a segment to be in.
fn slow(scene: &mut Scene) {
    scene.kafka.cluster.broker_round_trip_time(-1, Duration::from_millis(150)).unwrap();
    scene.place.arguments = ["--set", "kafka.queue_messages=10"].map(str::to_owned).to_vec();
}

/// A connector whose records expire deletes the segment all the same. Ours never do, and nothing else may be asked for.
#[test]
fn a_broker_that_stops_in_mid_segment_costs_nothing() {
    let mut scene = Scene::new(CASE);
    slow(&mut scene);
    let (raw, completed) = (scene.raw(), scene.completed());
    let mut agent = scene.place.agent();
    agent.wait_ready(READY);
    scene.wait(&mut agent, "the first records", |scene| !scene.kafka.read(0).is_empty());
    scene.kafka.cluster.broker_down(-1).unwrap();
    std::thread::sleep(Duration::from_secs(6));
    agent.must_run();
    assert_eq!(scene.raw(), raw, "nothing is deleted");
    scene.kafka.cluster.broker_up(-1).unwrap();
    let some = scene.published(1).len();
    assert!(some < scene.all.len(), "it was not in mid-segment");
    scene.kafka.cluster.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    scene.wait(&mut agent, "the deletion", |scene| scene.raw().is_disjoint(&completed));
    assert_eq!(unique(&scene.published(scene.all.len())), sorted(&scene.all));
    assert!(scene.letters().is_empty());
    agent.terminate();
    for property in ["message.timeout.ms", "delivery.timeout.ms", "retries"] {
        let ran = scene.once(&["--set", &format!("kafka.librdkafka.{property}=120000")]).expect(78);
        assert!(ran.err.contains(property), "{}", ran.err);
    }
}

/// A connector that moves a segment before its records are acknowledged does not read it again.
#[test]
fn a_kill_at_the_end_of_a_segment_loses_nothing() {
    for place in ["checkpoint.rename", "reap.log", "reap.idx"] {
        let scene = Scene::new(CASE);
        let completed = scene.completed();
        let mut agent = scene.place.agent_with(Some(&format!("{place}=kill:1")));
        let status = agent.end(READY);
        assert!(was_killed(status), "{place}: {status}\n{}", agent.said());
        scene.once(&[]).expect(0);
        assert!(scene.raw().is_disjoint(&completed), "{place}");
        let found = scene.published(scene.all.len());
        assert_eq!(unique(&found), sorted(&scene.all), "{place}");
        assert!(scene.letters().is_empty(), "{place}: no gap is made up");
        if place.starts_with("reap") {
            assert_eq!(found.len(), scene.all.len(), "{place}: it was acknowledged on disk before it went");
        }
    }
}

/// A connector that does not flush its producer loses what is in it.
#[test]
fn a_termination_in_mid_segment_loses_nothing_and_repeats_nothing() {
    let mut scene = Scene::new(CASE);
    slow(&mut scene);
    let (raw, completed) = (scene.raw(), scene.completed());
    let mut agent = scene.place.agent();
    agent.wait_ready(READY);
    scene.wait(&mut agent, "the first records", |scene| !scene.kafka.read(0).is_empty());
    agent.terminate();
    let some = scene.published(1);
    assert!(some.len() < scene.all.len(), "it was not in mid-segment");
    assert_eq!(scene.raw(), raw, "nothing is deleted");
    scene.kafka.cluster.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    scene.once(&[]).expect(0);
    assert_eq!(sorted(&scene.published(scene.all.len())), sorted(&scene.all));
    assert!(scene.raw().is_disjoint(&completed));
}

/// A connector that deletes what it could not send as well as what it sent has no normal end.
#[test]
fn a_segment_goes_when_kafka_has_all_of_it_and_not_before() {
    let scene = Scene::new(CASE);
    let (raw, completed) = (scene.raw(), scene.completed());
    assert_eq!(completed.len(), 2);
    scene.kafka.cluster.broker_down(-1).unwrap();
    let mut agent = scene.place.agent();
    agent.wait_ready(READY);
    std::thread::sleep(Duration::from_secs(3));
    agent.must_run();
    assert_eq!(scene.raw(), raw);
    scene.kafka.cluster.broker_up(-1).unwrap();
    scene.wait(&mut agent, "the deletion", |scene| scene.raw().is_disjoint(&completed));
    let found = scene.kafka.read(scene.all.len());
    let keys: BTreeSet<&str> = found.iter().map(|got| got.topic.as_str()).collect();
    assert!(!keys.contains(LETTERS));
    assert!(found.iter().all(|got| serde_json::from_str::<Value>(&got.key).is_ok_and(|key| key == got.value["key"])));
    let found: Vec<Event> = found.into_iter().map(|got| (got.topic, got.value)).collect();
    assert_eq!(sorted(&found), sorted(&scene.all));
    // Each table in the order of the log, in each of its partitions: what is read is the log's order per key.
    for (topic, event) in &scene.all {
        let of_key = |events: &[Event]| -> Vec<Value> {
            let same = |other: &&Event| other.0 == *topic && other.1["key"] == event["key"];
            events.iter().filter(same).map(|event| event.1["id"].clone()).collect()
        };
        assert_eq!(of_key(&found), of_key(&scene.all));
    }
}

/// A connector needs a node that answers to know its schema. A schema file, and the log, are enough.
#[test]
fn a_node_that_does_not_answer_keeps_nothing_back() {
    let scene = Scene::new(CASE);
    scene.once(&["--set", "cassandra.contact=127.0.0.1:1"]).expect(0);
    assert_eq!(sorted(&scene.published(scene.all.len())), sorted(&scene.all));
    assert!(scene.letters().is_empty());
}
