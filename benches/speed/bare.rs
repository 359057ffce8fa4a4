//! What a program costs that only publishes: a bare loop around `BaseProducer::send`, with records that are ready.
//!
//! Owns: this loop, in both orders. Does not own: which records (`payloads`). A thread serves delivery reports, as in
//! the agent; nothing is kept of them but their number.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cassandra_cdc::kafka::KafkaSettings;
use cassandra_cdc::mapped::Mapped;
use rdkafka::ClientContext;
use rdkafka::client::Client;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};

use crate::orders::TOPIC;
use crate::{broker, payloads};

/// The name of the role in which this program is such a loop.
pub(crate) const ROLE: &str = "bare";

/// Which loop.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// To partitions that are known, in the order of the file.
    Runs,
    /// In the order of the file too, with librdkafka's own partitioner, set to the same hash.
    Keyed,
}

impl Strategy {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Runs => "runs",
            Self::Keyed => "keyed",
        }
    }
}

#[derive(Default)]
struct Reported(AtomicU64);

impl ClientContext for Reported {}

impl ProducerContext for Reported {
    type DeliveryOpaque = usize;

    fn delivery(&self, result: &DeliveryResult<'_>, _: usize) {
        if let Err((error, _)) = result {
            // A panic must not pass through librdkafka.
            eprintln!("not delivered: {error}");
            std::process::exit(1);
        }
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// The agent's settings of its producer.
fn config(bootstrap: &str, strategy: Strategy) -> ClientConfig {
    let KafkaSettings { queue_messages, queue_bytes, .. } = KafkaSettings::default();
    let mut config = broker::client(&[
        ("bootstrap.servers", bootstrap),
        ("client.id", "bare"),
        ("linger.ms", "5"),
        ("batch.size", "262144"),
        ("compression.type", "lz4"),
        ("statistics.interval.ms", "15000"),
        ("enable.idempotence", "true"),
        ("acks", "all"),
        ("enable.gapless.guarantee", "true"),
        ("message.timeout.ms", "0"),
        ("allow.auto.create.topics", "false"),
        ("message.max.bytes", "1000000"),
    ]);
    config.set("queue.buffering.max.messages", queue_messages.to_string());
    config.set("queue.buffering.max.kbytes", (queue_bytes / 1024).to_string());
    if strategy == Strategy::Keyed {
        config.set("partitioner", "murmur2_random");
    }
    config
}

/// Publishes a file of records so many times. Arguments: strategy, bootstrap, file, times. Says how long that took.
pub(crate) fn run(arguments: &[String]) {
    let [strategy, bootstrap, file, times] = arguments else { panic!("strategy, bootstrap, file, times") };
    let strategy = match strategy.as_str() {
        "runs" => Strategy::Runs,
        "keyed" => Strategy::Keyed,
        other => panic!("no strategy: {other}"),
    };
    let times: usize = times.parse().expect("a number");
    let file = Mapped::open(Path::new(file)).expect("to map the payloads");
    let context = Reported::default();
    let producer: BaseProducer<Reported> =
        config(bootstrap, strategy).create_with_context(context).expect("a producer");
    let producer = Arc::new(producer);
    let metadata = producer.client().fetch_metadata(Some(TOPIC), Duration::from_secs(10));
    assert!(metadata.expect("metadata").topics().iter().all(|topic| topic.error().is_none()), "no topic");
    let ended = Arc::new(AtomicBool::new(false));
    let server = thread::spawn({
        let (producer, ended) = (Arc::clone(&producer), Arc::clone(&ended));
        move || {
            while !ended.load(Ordering::Relaxed) {
                producer.poll(Duration::from_millis(100));
            }
        }
    });
    let started = Instant::now();
    let mut sent = 0;
    for _ in 0..times {
        for payload in payloads::each(&file) {
            send(&producer, &payload, strategy, sent);
            sent += 1;
        }
    }
    while reported(&producer) < sent {
        thread::sleep(Duration::from_millis(1));
    }
    eprintln!("{sent} events, {:.4} s", started.elapsed().as_secs_f64());
    ended.store(true, Ordering::Relaxed);
    server.join().expect("the thread that serves reports");
}

fn send(producer: &BaseProducer<Reported>, payload: &payloads::Payload<'_>, strategy: Strategy, sent: u64) {
    let mut record = BaseRecord::with_opaque_to(TOPIC, 1).key(payload.key).payload(payload.value);
    if strategy == Strategy::Runs {
        record = record.partition(payload.partition);
    }
    while let Err((error, again)) = producer.send(record) {
        assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
        record = again;
        // As the agent does: until half of what is on its way has come.
        let before = reported(producer);
        let half = before + (sent - before).div_ceil(2);
        while reported(producer) < half {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn reported(producer: &BaseProducer<Reported>) -> u64 {
    let client: &Client<Reported> = producer.client();
    client.context().0.load(Ordering::Relaxed)
}
