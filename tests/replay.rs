//! `replay`: bounds, filters, stopping and going on, envelopes, and a real Kafka protocol behind it: librdkafka's mock
//! cluster, read back with a plain consumer.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;
use support::load::own_case;
use support::{Laid, Ran, position, program, run, segment_id};

fn segment(event: &Value) -> i64 {
    segment_id(event["source"]["segment"].as_str().unwrap())
}

fn at(event: &Value) -> (i64, u32) {
    (segment(event), position(event))
}

/// The newest write time in an event, whatever it tells.
fn newest(json: &Value) -> i64 {
    match json {
        Value::Object(members) => {
            let own = members.get("ts").and_then(Value::as_i64).unwrap_or(i64::MIN);
            members.values().map(newest).fold(own, i64::max)
        }
        Value::Array(items) => items.iter().map(newest).fold(i64::MIN, i64::max),
        _ => i64::MIN,
    }
}

/// A replay with these options must give exactly the events of a whole one that fit.
#[track_caller]
fn check(laid: &Laid, all: &[Value], options: &[&str], fits: impl Fn(&Value) -> bool) -> Ran {
    let expected: Vec<&Value> = all.iter().filter(|event| fits(event)).collect();
    let ran = laid.replay(options).expect(0);
    let found = ran.events();
    assert_eq!(found.len(), expected.len(), "{options:?}");
    assert!(found.iter().eq(expected), "{options:?}");
    let summary = ran.summary();
    assert!(summary.adds_up() && summary.events == found.len() as u64, "{options:?}: {summary:?}");
    ran
}

#[test]
fn bounds_are_segments_positions_and_times() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0).events();
    let (first, last) = (segment(&all[0]), segment(&all[all.len() - 1]));
    assert!(first < last);
    let second = all.iter().find(|event| segment(event) == last).unwrap();
    let middle = at(&all[20]);
    let place = format!("{}:{}", middle.0, middle.1);
    check(&laid, &all, &["--from", &last.to_string()], |event| segment(event) >= last);
    check(&laid, &all, &["--to", &first.to_string()], |event| segment(event) <= first);
    check(&laid, &all, &["--from", &(last + 7).to_string()], |_| false);
    check(&laid, &all, &["--from", &place], |event| at(event) > middle);
    check(&laid, &all, &["--to", &place], |event| at(event) <= middle);
    check(&laid, &all, &["--from", &place, "--to", &format!("{last}:{}", position(second))], |event| {
        at(event) > middle && at(event) <= at(second)
    });
    // Nothing is lost or doubled where one replay ends and the next begins.
    let one = laid.replay(["--to", &place]).events();
    let other = laid.replay(["--from", &place]).events();
    assert_eq!([one, other].concat(), all);

    let times: BTreeSet<i64> = all.iter().map(newest).collect();
    let time = *times.iter().nth(times.len() / 2).unwrap();
    let text = format!("{:.6}", jiff::Timestamp::from_microsecond(time).unwrap());
    let behind = check(&laid, &all, &["--from", &text], |event| newest(event) >= time);
    let before = check(&laid, &all, &["--to", &text], |event| newest(event) < time);
    assert!(!behind.out.is_empty() && !before.out.is_empty());
    assert!(behind.summary().filtered > 0);
}

#[test]
fn tables_and_keys_are_filtered() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0).events();
    let is = |event: &Value, table: &str| event["table"] == table;
    check(&laid, &all, &["--table", "shop.orders"], |event| is(event, "orders"));
    check(&laid, &all, &["--table", "shop.orders", "--table", "shop.inventory"], |event| !is(event, "customers"));
    check(&laid, &all, &["--table", "!shop.orders"], |event| !is(event, "orders"));
    check(&laid, &all, &["--table", "shop.*", "--table", "!shop.orders"], |event| !is(event, "orders"));
    check(&laid, &all, &["--table", "shop.*"], |_| true);
    // A table without cdc is there, and has no events.
    check(&laid, &all, &["--table", "shop.sessions"], |_| false);

    let key = &all.iter().find(|event| is(event, "orders")).unwrap()["key"];
    let found = check(&laid, &all, &["--key", &key.to_string()], |event| event["key"] == *key);
    assert!(found.events().len() > 1);
    check(&laid, &all, &["--key", &format!(" {{ \"customer\" : {} }}", key["customer"])], |event| event["key"] == *key);
    check(&laid, &all, &["--key", "{\"customer\":\"nobody\"}"], |_| false);
    let keys: BTreeSet<String> = all.iter().map(|event| event["key"].to_string()).collect();
    let by_key: usize = keys.iter().map(|key| laid.replay(["--key", key]).events().len()).sum();
    assert_eq!(by_key, all.len());
}

#[test]
fn without_a_schema_file_the_log_tells() {
    for name in
        ["3.11-types", "4.0-mutations", "4.1-demo", "4.1-encrypted", "5.0-types", "5.0none-mutations", "6.0-types"]
    {
        let laid = Laid::own(name);
        let (with, without) = (laid.replay::<&str>([]).expect(0), laid.replay_alone::<&str>([]).expect(0));
        assert!(!with.out.is_empty() && with.out == without.out, "{name}");
    }
}

/// Which changes: with the schema of the end, tables that are gone by then are unknown, and CDC is as it is then. With
/// the log's own nothing is unknown, and CDC is as it was.
#[test]
fn the_log_tells_the_schema_of_every_moment() {
    for release in ["3.11", "4.0", "4.1", "5.0", "5.0none", "6.0"] {
        let case = own_case(&format!("{release}-schema"));
        let laid = Laid::new(&case);
        let what = |event: &Value| (at(event), event["table_id"].to_string(), event["digest"].to_string());
        let with = laid.replay::<&str>([]).events();
        let ran = laid.replay_alone::<&str>([]).expect(0);
        let without = ran.events();
        assert_eq!(ran.summary().undecodable, 0, "{release}");
        let (old, new): (BTreeSet<_>, BTreeSet<_>) =
            (with.iter().map(what).collect(), without.iter().map(what).collect());
        let only = |of: &[Value], other: &BTreeSet<_>| -> Vec<String> {
            let only = of.iter().filter(|event| !other.contains(&what(event)));
            only.map(|event| event["table"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(only(&with, &new), ["switched", "switched"], "{release}");
        assert_eq!(only(&without, &old), ["phoenix", "gone"], "{release}");
        assert!(without.iter().map(at).is_sorted(), "{release}");

        // A column that was renamed, a type that grew, a column that was dropped: as they were when it was written.
        let evolving: Vec<&Value> = without.iter().filter(|event| event["table"] == "evolving").collect();
        let row = |event: &Value| event["rows"][0].clone();
        assert!(row(evolving[0])["clustering"].get("step").is_some(), "{release}");
        assert_eq!(row(evolving[0])["cells"]["at"]["value"], serde_json::json!({"lat": 1.0, "lon": 2.0}), "{release}");
        assert!(row(evolving.last().unwrap())["clustering"].get("stage").is_some(), "{release}");
    }
}

/// DDL before the place where a replay begins counts, in that segment and in those before it.
#[test]
fn without_a_schema_file_a_replay_may_begin_anywhere() {
    let laid = Laid::new(&own_case("5.0-schema"));
    let all = laid.replay_alone::<&str>([]).expect(0).events();
    for middle in [&all[3], &all[all.len() / 2], &all[all.len() - 2]] {
        let place = format!("{}:{}", segment(middle), position(middle));
        let head = laid.replay_alone(["--to", &place]).expect(0).events();
        let tail = laid.replay_alone(["--from", &place]).expect(0).events();
        assert_eq!([head, tail].concat(), all, "{place}");
    }
}

#[test]
fn without_a_schema_file_a_pattern_without_a_table_is_told_at_the_end() {
    let laid = Laid::own("4.1-demo");
    let ran = laid.replay_alone(["--table", "shop.orders", "--table", "shop.order"]).expect(0);
    assert_eq!(ran.events().len(), laid.replay(["--table", "shop.orders"]).events().len());
    assert!(ran.err.contains("no table of these segments matches \"shop.order\""), "{}", ran.err);
    let last = laid.segments().swap_remove(1);
    let ran = run(args!["replay", "--sink", "stdout", last]).expect(65);
    assert!(ran.err.contains("unknown-table") && ran.err.contains("schema pull"), "{}", ran.err);
}

#[test]
fn one_file_is_replayed_as_well_as_a_folder() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0);
    let mut backwards = args!["replay", "--sink", "stdout", "--schema", laid.schema].to_vec();
    backwards.extend(laid.segments().into_iter().rev().map(Into::into));
    backwards.push(laid.raw().into());
    // Whatever order and however often they are named: each segment once, in log order.
    assert_eq!(run(&backwards).expect(0).out, all.out);
    let one = run(laid.replay_of(&laid.largest()).into_iter().chain(["--sink".into(), "stdout".into()])).expect(0);
    assert!(all.out.starts_with(&one.out) && one.out.len() < all.out.len());
}

#[test]
fn a_dry_run_counts_and_publishes_nothing() {
    let laid = Laid::own("4.1-demo");
    let counted = laid.replay(["--dry-run"]).expect(0);
    assert!(counted.out.is_empty());
    assert_eq!(counted.summary(), laid.replay::<&str>([]).summary());
    // Neither a broker nor a file is touched.
    let file = laid.file("events");
    let dry = |more: &[std::ffi::OsString]| run(laid.replay_of(&laid.raw()).iter().chain(more)).expect(0);
    dry(&args!["--dry-run", "--sink", "file", "--output", file]);
    assert!(!file.exists());
    let started = Instant::now();
    dry(&args!["--dry-run", "--bootstrap", "127.0.0.1:1"]);
    assert!(started.elapsed() < Duration::from_secs(9));
}

#[test]
fn the_rate_is_held() {
    let laid = Laid::own("4.1-demo");
    let started = Instant::now();
    let ran = laid.replay(["--rate", "60"]).expect(0);
    assert_eq!(ran.events().len(), 86);
    // 86 events at 60 a second; the last one need not be waited for.
    assert!(started.elapsed() > Duration::from_millis(1000), "{:?}", started.elapsed());
}

#[test]
fn names_stand_in_ids_and_sources() {
    let laid = Laid::own("4.1-demo");
    let host = "6f1c0000-0000-4000-8000-000000000001";
    let all = laid.replay::<&str>([]).events();
    let named = laid.replay(["--cluster", "Test \"Cluster\" 1", "--host-id", host]).expect(0).events();
    for (bare, named) in all.iter().zip(&named) {
        let tail = bare["id"].as_str().unwrap().strip_prefix("unknown/unknown/").unwrap();
        assert_eq!(named["id"], format!("Test \"Cluster\" 1/{host}/{tail}"));
        assert_eq!(named["digest"], bare["digest"]);
        assert_eq!(
            (&named["source"]["cluster"], &named["source"]["host_id"]),
            (&"Test \"Cluster\" 1".into(), &host.into())
        );
    }
}

/// `org.apache.kafka.common.utils.Utils.murmur2`, and the partition that Java's producer takes.
fn javas_partition(key: &[u8], partitions: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c_u32 ^ key.len() as u32;
    let (words, rest) = key.as_chunks::<4>();
    for word in words {
        let mixed = u32::from_le_bytes(*word).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ (mixed ^ (mixed >> 24)).wrapping_mul(M);
    }
    for (at, byte) in rest.iter().enumerate().rev() {
        hash ^= u32::from(*byte) << (8 * at);
    }
    if !rest.is_empty() {
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    ((hash ^ (hash >> 15)) & 0x7fff_ffff) % partitions
}

/// The hash above against what Java printed.
#[test]
fn the_partitioner_of_this_test_is_javas() {
    let lines = include_str!("../crates/event/tests/murmur2.txt").lines().filter(|line| !line.starts_with('#'));
    let mut count = 0;
    for line in lines {
        let fields: Vec<&str> = line.split(' ').collect();
        let key = support::cql::unhex(fields[0].trim_matches('-'));
        assert_eq!(javas_partition(&key, 12).to_string(), fields[2], "{line}");
        assert_eq!(javas_partition(&key, 7).to_string(), fields[3], "{line}");
        count += 1;
    }
    assert!(count > 190);
}

#[test]
fn an_envelope_shows_topic_partition_and_key() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).events();
    let bare = laid.replay(["--envelope"]).expect(0).events();
    let parted = laid.replay(["--envelope", "--partitions", "12"]).expect(0);
    let raw = laid
        .replay(["--envelope", "--partitions", "7", "--key-format", "raw", "--topic-prefix", "p"])
        .expect(0)
        .events();
    assert_eq!((bare.len(), parted.lines().len(), raw.len()), (all.len(), all.len(), all.len()));
    let mut partitions = BTreeSet::new();
    for (((event, bare), line), raw) in all.iter().zip(&bare).zip(parted.lines()).zip(&raw) {
        let topic = format!("cassandra.shop.{}", event["table"].as_str().unwrap());
        assert_eq!((&bare["topic"], &bare["key"], &bare["value"]), (&topic.clone().into(), &event["key"], event));
        assert!(bare.get("partition").is_none());
        // The key's bytes as they stand between the two members: they are what is hashed.
        let (before, rest) = line.split_once(",\"key\":").unwrap();
        let key = rest.split_once(",\"value\":").unwrap().0;
        let partition = javas_partition(key.as_bytes(), 12);
        assert_eq!(before, format!("{{\"topic\":\"{topic}\",\"partition\":{partition}"));
        partitions.insert(partition);
        assert_eq!(raw["topic"], format!("p.shop.{}", event["table"].as_str().unwrap()));
        let key = support::cql::base64(raw["key"].as_str().unwrap()).unwrap();
        assert_eq!(raw["partition"], javas_partition(&key, 7));
        assert_eq!(key, event["key"].as_object().unwrap().values().next().unwrap().as_str().unwrap().as_bytes());
        assert_eq!(raw["value"], *event);
    }
    assert!(partitions.len() > 3, "{partitions:?}");
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

/// Waits for the end of a program that was told to end.
fn end_of(mut child: Child) -> Ran {
    let patience = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > patience {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output().unwrap());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap().into()
}

#[test]
fn an_interrupted_replay_goes_on_where_it_stopped() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0);
    let resume = laid.file("resume.json");
    let mut arguments = laid.replay_of(&laid.raw());
    arguments.extend(args!["--sink", "stdout", "--resume", resume]);
    let mut lines: Vec<String> = Vec::new();
    let mut interrupts = 0;
    // Each time a little later, until nothing is left.
    for run in 1..30 {
        let mut child = program()
            .args(&arguments)
            .args(["--rate", "60"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut reader = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while reader.read_line(&mut line).unwrap() > 0 {
            lines.push(std::mem::take(&mut line).trim_end().to_owned());
            if lines.len() == 20 * run {
                interrupt(&child);
            }
        }
        let ran = end_of(child);
        assert!(ran.summary().adds_up());
        match ran.code {
            Some(130) => assert!(ran.err.contains("interrupted") && resume.exists(), "{}", ran.err),
            Some(0) => break,
            other => panic!("exit {other:?}: {}", ran.err),
        }
        interrupts += 1;
    }
    assert!(interrupts >= 2, "{interrupts} interrupts");
    // Stdout is settled at once: nothing comes twice, nothing is missing.
    assert_eq!(lines, all.lines());
    // All is done: another run finds nothing more, and whoever removes the file begins anew.
    assert!(run(&arguments).expect(0).out.is_empty());
    fs::remove_file(&resume).unwrap();
    assert_eq!(run(&arguments).expect(0).out, all.out);
}

#[test]
fn an_interrupted_file_is_not_left_half_written() {
    let laid = Laid::own("4.1-demo");
    let folder = laid.file("out");
    fs::create_dir(&folder).unwrap();
    let mut arguments = laid.replay_of(&laid.raw());
    arguments.extend(args!["--sink", "file", "--output", folder.join("events.jsonl"), "--rate", "10"]);
    let child = program().args(&arguments).stderr(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    interrupt(&child);
    let ran = end_of(child).expect(130);
    assert!(ran.summary().events < 86 && ran.summary().adds_up(), "{}", ran.err);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

/// A replay that met damage must come by it again: its place does not move past.
#[test]
fn a_place_is_not_kept_behind_damage() {
    let laid = Laid::own("4.1-demo");
    let path = laid.largest();
    let good = fs::read(&path).unwrap();
    let mut bytes = good.clone();
    bytes[55_000] ^= 1;
    fs::write(&path, bytes).unwrap();
    let all = laid.replay(["--salvage"]).expect(65);
    let resume = laid.file("resume.json");
    let again = |laid: &Laid| laid.replay(args!["--salvage", "--resume", resume]);
    assert_eq!(again(&laid).expect(65).out, all.out);
    let repeated = again(&laid);
    assert_eq!(repeated.code, Some(65), "{}", repeated.err);
    // Once the good file is back what was lost comes too.
    fs::write(&path, good).unwrap();
    let whole: Vec<Value> = laid.replay::<&str>([]).expect(0).events();
    let found: BTreeSet<String> =
        all.events().iter().chain(&again(&laid).expect(0).events()).map(|event| event["id"].to_string()).collect();
    assert!(whole.iter().all(|event| found.contains(&event["id"].to_string())));
}

/// Topics that the demo's tables go to, and what can't be decoded.
const TOPICS: [&str; 4] = ["cassandra.shop.customers", "cassandra.shop.inventory", "cassandra.shop.orders", LETTERS];
const LETTERS: &str = "cassandra.dead-letter";
const PARTITIONS: i32 = 5;

fn mock(topics: &[&str]) -> MockCluster<'static, DefaultProducerContext> {
    let cluster = MockCluster::new(1).unwrap();
    for topic in topics {
        cluster.create_topic(topic, PARTITIONS, 1).unwrap();
    }
    cluster
}

/// A record as any consumer gets it.
struct Got {
    topic: String,
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
}

/// So many records, and a little longer, in case there are more.
fn consume(bootstrap: &str, topics: &[&str], count: usize) -> Vec<Got> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "test")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for topic in topics {
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    let mut found = Vec::new();
    let patience = Instant::now() + Duration::from_secs(60);
    while Instant::now() < patience {
        let wait = if found.len() < count { Duration::from_millis(200) } else { Duration::from_millis(500) };
        match consumer.poll(wait) {
            Some(message) => {
                let message = message.unwrap();
                found.push(Got {
                    topic: message.topic().to_owned(),
                    partition: message.partition(),
                    key: message.key().expect("a key").to_vec(),
                    value: message.payload().expect("a value").to_vec(),
                });
            }
            None if found.len() >= count => break,
            None => {}
        }
    }
    found
}

fn to_kafka(laid: &Laid, bootstrap: &str, more: &[&str]) -> Ran {
    let arguments = laid.replay_of(&laid.raw()).into_iter().chain(args!["--bootstrap", bootstrap]);
    run(arguments.chain(more.iter().map(Into::into)))
}

#[test]
fn kafka_gets_every_event_once_in_its_partition_and_in_order() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0);
    // Where nothing is dead-lettered no topic for it is needed.
    let (topics, cluster) = (&TOPICS[..3], mock(&TOPICS[..3]));
    let ran = to_kafka(&laid, &cluster.bootstrap_servers(), &[]).expect(0);
    assert!(ran.out.is_empty());
    assert_eq!(ran.summary(), all.summary());
    let found = consume(&cluster.bootstrap_servers(), topics, all.lines().len());
    let mut values: Vec<&[u8]> = found.iter().map(|record| record.value.as_slice()).collect();
    let mut expected: Vec<&[u8]> = all.lines().into_iter().map(str::as_bytes).collect();
    values.sort_unstable();
    expected.sort_unstable();
    assert_eq!(values.len(), expected.len());
    assert!(values == expected, "other values than on stdout");
    let mut last: BTreeMap<(&str, &[u8]), (i64, u32)> = BTreeMap::new();
    for record in &found {
        let event: Value = serde_json::from_slice(&record.value).unwrap();
        assert_eq!(record.topic, format!("cassandra.shop.{}", event["table"].as_str().unwrap()));
        assert_eq!(record.key, event["key"].to_string().as_bytes());
        assert_eq!(record.partition.cast_unsigned(), javas_partition(&record.key, PARTITIONS.cast_unsigned()));
        let before = last.insert((&record.topic, &record.key), at(&event));
        assert!(before.is_none_or(|before| before <= at(&event)), "{}: order", event["id"]);
    }
}

#[test]
fn kafka_gets_protobuf_and_raw_keys() {
    let laid = Laid::own("4.1-demo");
    let cluster = mock(&["all"]);
    let options = ["--format", "protobuf", "--key-format", "raw", "--topic", "all", "--unit", "row"];
    let ran = to_kafka(&laid, &cluster.bootstrap_servers(), &options).expect(0);
    let found = consume(&cluster.bootstrap_servers(), &["all"], ran.summary().events as usize);
    assert_eq!(found.len() as u64, ran.summary().events);
    let rows = laid.replay(["--unit", "row"]).expect(0).events();
    let expected: BTreeSet<String> = rows.iter().map(|event| event["id"].to_string()).collect();
    let mut ids = BTreeSet::new();
    for record in &found {
        assert_eq!(record.partition.cast_unsigned(), javas_partition(&record.key, PARTITIONS.cast_unsigned()));
        let mut delimited = Vec::new();
        prost::encode_length_delimiter(record.value.len(), &mut delimited).unwrap();
        delimited.extend_from_slice(&record.value);
        let events = support::protobuf::events(&delimited).unwrap();
        ids.insert(events[0]["id"].to_string());
    }
    assert!(ids == expected);
}

/// All of them at once, and before anything is sent.
#[test]
fn missing_topics_are_named() {
    let laid = Laid::own("4.1-demo");
    let cluster = mock(&TOPICS[..1]);
    let ran = to_kafka(&laid, &cluster.bootstrap_servers(), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains(&format!("these topics do not exist: {}, {};", TOPICS[1], TOPICS[2])), "{}", ran.err);
    assert!(consume(&cluster.bootstrap_servers(), &TOPICS[..1], 0).is_empty());
}

/// With a schema that lacks a table, dead letters go to their own topic, under their ids. Without that topic the replay
/// ends: no line on stderr replaces a dead letter.
#[test]
fn kafka_gets_dead_letters() {
    let mut laid = Laid::own("4.1-demo");
    let mut schema: Value = serde_json::from_slice(&fs::read(&laid.schema).unwrap()).unwrap();
    schema["tables"].as_array_mut().unwrap().retain(|row| row["table_name"] != "inventory");
    laid.schema = laid.file("schema.json");
    fs::write(&laid.schema, schema.to_string()).unwrap();
    let cluster = mock(&TOPICS);
    let ran = to_kafka(&laid, &cluster.bootstrap_servers(), &[]).expect(65);
    let letters = consume(&cluster.bootstrap_servers(), &[LETTERS], 24);
    assert_eq!((letters.len(), ran.summary().undecodable), (24, 24));
    for letter in letters {
        let value: Value = serde_json::from_slice(&letter.value).unwrap();
        assert_eq!(
            (&value["reason"], value["id"].as_str()),
            (&"unknown-table".into(), std::str::from_utf8(&letter.key).ok())
        );
    }
    let cluster = mock(&TOPICS[..3]);
    let ran = to_kafka(&laid, &cluster.bootstrap_servers(), &[]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.err.contains(LETTERS), "{}", ran.err);
}

/// Records wait for a broker that went away; a signal ends the wait, and what was not delivered comes the next time.
#[test]
fn an_interrupt_ends_the_wait_for_kafka_and_nothing_is_lost() {
    let laid = Laid::own("4.1-demo");
    let all = laid.replay::<&str>([]).expect(0);
    let cluster = mock(&TOPICS);
    let bootstrap = cluster.bootstrap_servers();
    let resume = laid.file("resume.json");
    let mut arguments = laid.replay_of(&laid.raw());
    arguments.extend(args!["--bootstrap", bootstrap, "--resume", resume]);
    let child = program().args(&arguments).args(["--rate", "30"]).stderr(Stdio::piped()).spawn().unwrap();
    // Half of the events are under way when the broker goes.
    std::thread::sleep(Duration::from_millis(1500));
    let patience = Instant::now() + Duration::from_secs(60);
    while !resume.exists() && Instant::now() < patience {
        std::thread::sleep(Duration::from_millis(50));
    }
    cluster.broker_down(1).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    interrupt(&child);
    let ran = end_of(child);
    assert_eq!(ran.code, Some(130), "{}", ran.err);
    cluster.broker_up(1).unwrap();
    run(&arguments).expect(0);
    let found = consume(&bootstrap, &TOPICS, all.lines().len());
    let values: BTreeSet<&[u8]> = found.iter().map(|record| record.value.as_slice()).collect();
    let expected: BTreeSet<&[u8]> = all.lines().into_iter().map(str::as_bytes).collect();
    assert!(values == expected, "{} of {} events", values.len(), expected.len());
}
