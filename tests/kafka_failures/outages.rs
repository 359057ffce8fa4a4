//! Failures that pass: nothing is told of them but that they are, and nothing but disk is used meanwhile.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::types::RDKafkaRespErr as Code;

use super::agent::Agent;
use super::desk::Desk;
use super::mutations::{Kind, TOPIC};
use super::node::Options;

/// Records that may wait beside the queue: a run of each partition that is not full, and the one that is handed over.
const RUNS: u64 = 256 * 6;

/// Memory that the service has taken for itself, in KiB; mapped segments are the kernel's.
fn anonymous(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon");
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// What the node writes while Kafka is away waits in its segments. However much it is, the queue holds no more than it
/// may, and memory does not grow.
#[test]
fn a_long_outage_fills_the_disk_and_not_the_memory() {
    const QUEUE: u64 = 1000;
    // Segments that are larger than what the queue holds.
    let options = Options { segment_bytes: 1 << 20, ..Options::new(420) };
    let mut desk = Desk::new(options, &[&format!("kafka.queue_messages={QUEUE}")]);
    desk.rig.node.fill(2);
    let mut agent = desk.agent();
    desk.settles(&mut agent);
    desk.rig.broker.down();
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    desk.rig.wait(&mut agent, "a full queue", |_| desk.metric("producer_queue_messages") >= QUEUE);
    let (events, before) = (desk.rig.broker.look(|got| got.events.len()), anonymous(&agent));
    for _ in 0..5 {
        desk.rig.node.fill(4);
        desk.rig.node.sync();
        std::thread::sleep(Duration::from_millis(1500));
        agent.must_run();
        let queued = desk.metric("producer_queue_messages");
        assert!(queued <= QUEUE + RUNS, "{queued}");
        assert_eq!(desk.get("/livez").0, 200);
    }
    // The backlog is 20 MiB; the segments that wait are known, and little else is.
    let grown = anonymous(&agent).saturating_sub(before);
    assert!(grown < 2 << 10, "{before} KiB before, {grown} KiB more");
    assert_eq!(desk.rig.broker.look(|got| got.events.len()), events);
    assert!(desk.rig.raw().iter().filter(|name| name.ends_with(".log")).count() >= 22);
    desk.rig.broker.up();
    desk.settles(&mut agent);
    agent.terminate();
}

/// A backlog that takes long is no single piece of work: what is done of it is saved, and goes.
#[test]
fn segments_go_while_there_is_a_backlog() {
    let mut desk = Desk::new(Options::new(423), &["kafka.queue_messages=50"]);
    desk.rig.broker.cluster.broker_round_trip_time(-1, Duration::from_millis(100)).unwrap();
    desk.rig.node.fill(20);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    desk.rig.wait(&mut agent, "a deletion", |_| desk.metric("segments_deleted_total") > 0);
    assert!(desk.rig.missing().len() > 1000, "all was read before anything went");
    // A crash here repeats what was on its way and not saved, not all of the backlog.
    agent.kill();
    let before = desk.rig.broker.look(|got| got.events.len());
    desk.rig.broker.cluster.broker_round_trip_time(-1, Duration::ZERO).unwrap();
    let mut agent = desk.agent();
    desk.settles(&mut agent);
    let repeated = desk.rig.judge();
    assert!(repeated < before, "{repeated} of {before} events came again");
}

/// The queue is full most of the time: the reader waits, and nothing passes.
#[test]
fn a_full_queue_makes_the_reader_wait() {
    const QUEUE: u64 = 300;
    let mut desk = Desk::new(Options::new(421), &[&format!("kafka.queue_messages={QUEUE}")]);
    desk.rig.broker.cluster.broker_round_trip_time(-1, Duration::from_millis(20)).unwrap();
    desk.rig.node.write_many(Kind::Cdc, 6000);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    let mut fullest = 0;
    while !desk.rig.missing().is_empty() {
        agent.must_run();
        let queued = desk.metric("producer_queue_messages");
        assert!(queued <= QUEUE + RUNS, "{queued}");
        fullest = fullest.max(queued);
    }
    assert!(fullest > QUEUE / 2, "never full: {fullest}");
    desk.settles(&mut agent);
    assert_eq!(desk.rig.judge(), 0, "nothing twice");
}

/// What a cluster says while leaders move and replicas lag is the client's own business.
#[test]
fn passing_errors_are_waited_out_without_a_word() {
    const CODES: [Code; 7] = [
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        Code::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        Code::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
        Code::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        Code::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        Code::RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
        Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
    ];
    let mut desk = Desk::new(Options::new(422), &["kafka.librdkafka.batch.num.messages=20"]);
    let asked = Arc::new(AtomicUsize::new(0));
    desk.front.refuse({
        let asked = Arc::clone(&asked);
        move |batch| {
            let number = if batch.topic == TOPIC { asked.fetch_add(1, Ordering::Relaxed) } else { return None };
            // Each twice, and a good one in between.
            (number % 2 == 0).then(|| CODES.get(number / 4).copied())?
        }
    });
    desk.rig.node.write_many(Kind::Cdc, 1000);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    desk.settles(&mut agent);
    assert!(asked.load(Ordering::Relaxed) > CODES.len() * 4);
    assert_eq!(desk.rig.judge(), 0, "nothing twice");
    assert_eq!((desk.metric("producer_rebuilds_total"), desk.metric("delivery_failures_total")), (0, 0));
    assert!(!agent.said().contains("held: "), "{}", agent.said());
}
