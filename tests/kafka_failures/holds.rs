//! Failures that a person has to lift: held, alive, not ready, nothing skipped; and on it goes by itself.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::types::RDKafkaRespErr as Code;

use super::desk::Desk;
use super::mutations::{Kind, TOPIC};
use super::node::Options;
use super::rig::Rig;

/// Every batch of the table's topic is refused, from the first one on, or from a moment in the middle of its work.
fn holds_for(code: Code, reason: &str, in_the_middle: bool) {
    let mut desk = Desk::new(Options::new(410), &[]);
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    let mut agent = if in_the_middle {
        let mut agent = desk.agent();
        desk.settles(&mut agent);
        agent
    } else {
        desk.front.refuse(move |batch| (batch.topic == TOPIC).then_some(code));
        desk.agent()
    };
    desk.front.refuse(move |batch| (batch.topic == TOPIC).then_some(code));
    let before = desk.rig.broker.look(|got| got.events.len());
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    desk.is_held(&mut agent, reason);
    assert_eq!(desk.rig.broker.look(|got| (got.events.len(), got.letters.len())), (before, 0));
    desk.front.refuse(|_| None);
    desk.settles(&mut agent);
    agent.terminate();
}

#[test]
fn without_permission_for_the_topic_it_holds_until_it_is_granted() {
    holds_for(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "authorization", false);
}

#[test]
fn a_permission_that_is_taken_away_holds_until_it_is_granted_again() {
    holds_for(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "authorization", true);
    holds_for(Code::RD_KAFKA_RESP_ERR_CLUSTER_AUTHORIZATION_FAILED, "authorization", true);
}

#[test]
fn an_error_without_a_rule_holds_and_skips_nothing() {
    holds_for(Code::RD_KAFKA_RESP_ERR_POLICY_VIOLATION, "unknown-error", true);
}

#[test]
fn a_missing_topic_holds_until_it_is_made() {
    let mut desk = Desk::new(Options::new(411), &[]);
    let is_there = |desk: &Desk, is_there| {
        let code =
            if is_there { Code::RD_KAFKA_RESP_ERR_NO_ERROR } else { Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART };
        desk.rig.broker.cluster.topic_error(TOPIC, code).unwrap();
    };
    is_there(&desk, false);
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    desk.is_held(&mut agent, "missing-topic");
    let (_, health) = desk.get("/readyz");
    assert!(health.contains(TOPIC), "it says which: {health}");
    assert!(desk.rig.broker.look(|got| got.events.is_empty() && got.letters.is_empty()));
    is_there(&desk, true);
    desk.settles(&mut agent);
    assert_eq!(desk.rig.judge(), 0, "nothing twice");
}

/// Under a service that has published to it. What was in it is gone with it: that is Kafka's, and not ours to bring back.
#[test]
fn a_topic_that_is_deleted_and_made_again_holds_in_between() {
    let fast = [
        "kafka.librdkafka.topic.metadata.refresh.interval.ms=300",
        "kafka.librdkafka.topic.metadata.propagation.max.ms=300",
    ];
    let mut desk = Desk::new(Options::new(412), &fast);
    desk.rig.node.fill(2);
    let mut agent = desk.agent();
    desk.settles(&mut agent);
    let missing = Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    desk.front.refuse(move |batch| (batch.topic == TOPIC).then_some(missing));
    desk.rig.broker.cluster.topic_error(TOPIC, missing).unwrap();
    let before = desk.rig.broker.look(|got| got.events.len());
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    desk.is_held(&mut agent, "missing-topic");
    assert_eq!(desk.rig.broker.look(|got| (got.events.len(), got.letters.len())), (before, 0));
    desk.rig.broker.cluster.topic_error(TOPIC, Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    desk.front.refuse(|_| None);
    desk.settles(&mut agent);
}

/// No entry can be given up while there is nowhere to put it.
#[test]
fn a_missing_dead_letter_topic_holds_until_it_is_made() {
    let mut desk = Desk::new(Options::new(413), &[]);
    let letters = super::desk::LETTERS;
    desk.rig.broker.cluster.topic_error(letters, Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART).unwrap();
    desk.rig.node.write_many(Kind::Cdc, 50);
    desk.rig.node.write(Kind::Unknown);
    desk.rig.node.write_many(Kind::Cdc, 50);
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    desk.is_held(&mut agent, "missing-topic");
    assert!(desk.get("/readyz").1.contains(letters), "{}", desk.get("/readyz").1);
    desk.rig.broker.cluster.topic_error(letters, Code::RD_KAFKA_RESP_ERR_NO_ERROR).unwrap();
    desk.settles(&mut agent);
}

/// The broker shows a certificate that is not to be trusted. The file is read again with each try.
#[test]
fn properties_that_do_not_let_us_in_hold_until_their_file_is_right() {
    let properties = tempfile::NamedTempFile::new().unwrap();
    fs::write(&properties, "security.protocol=ssl\n").unwrap();
    let setting = format!("kafka.properties_file={}", properties.path().display());
    let mut desk = Desk::new(Options::new(414), &[&setting]);
    desk.front.talk_tls();
    desk.rig.node.fill(2);
    desk.rig.node.sync();
    let mut agent = desk.agent();
    desk.is_held(&mut agent, "credentials");
    desk.front.talk_plainly();
    fs::write(&properties, "security.protocol=plaintext\n").unwrap();
    desk.settles(&mut agent);
    assert_eq!(desk.rig.judge(), 0, "nothing twice");
}

/// A producer that lost its sequence can't go on: a new one does, from where the acknowledgements end.
#[test]
fn a_fatal_error_costs_a_producer_and_nothing_else() {
    for code in [Code::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER, Code::RD_KAFKA_RESP_ERR_INVALID_PRODUCER_EPOCH] {
        let mut desk = Desk::new(Options::new(415), &["kafka.librdkafka.batch.num.messages=50"]);
        desk.rig.node.fill(2);
        let mut agent = desk.agent();
        desk.settles(&mut agent);
        let asked = Arc::new(AtomicBool::new(true));
        desk.front.refuse({
            let asked = Arc::clone(&asked);
            move |batch| (batch.topic == TOPIC && asked.swap(false, Ordering::Relaxed)).then_some(code)
        });
        desk.rig.node.fill(4);
        desk.settles(&mut agent);
        assert!(!asked.load(Ordering::Relaxed), "nothing was refused");
        assert_eq!(desk.metric("producer_rebuilds_total"), 1);
        assert_eq!(desk.metric("dead_letter_records_total"), 0);
        agent.terminate();
    }
}

/// Without the look at sequence numbers a broker takes what is behind a refused batch, and these tests mean little.
#[test]
fn the_door_lets_nothing_pass_a_refused_batch() {
    let mut rig = Rig::new(Options { keys: 1, ..Options::new(416) });
    let front = super::front::Front::of(&rig.broker.cluster);
    rig.place.bootstrap = front.bootstrap();
    rig.place.configure(super::agent::HOST);
    rig.place.arguments =
        ["--set", "kafka.librdkafka.batch.num.messages=10", "--set", "kafka.librdkafka.compression.type=none"]
            .map(str::to_owned)
            .to_vec();
    rig.node.write_many(Kind::Cdc, 300);
    rig.node.sync();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    front.refuse({
        let count = Arc::clone(&count);
        move |batch| {
            let nr = if batch.topic == TOPIC { count.fetch_add(1, Ordering::Relaxed) } else { 0 };
            (nr == 5).then_some(Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
        }
    });
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    let numbers = rig.broker.look(|got| got.events.iter().map(|event| event.number).collect::<Vec<_>>());
    let mut first: Vec<u32> = Vec::new();
    numbers.into_iter().for_each(|number| {
        if !first.contains(&number) {
            first.push(number);
        }
    });
    assert!(first.is_sorted() && first.len() == 300, "{first:?}");
}
