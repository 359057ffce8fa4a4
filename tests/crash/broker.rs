//! Kafka for the crash tests, and what consumers get of it.
//!
//! Owns: reading every record as it comes, in a thread, since the broker keeps only the last 5 MiB of a partition.
//! Does not own: judging them (`rig`).

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

use super::mutations::TOPIC;
use super::node::id_of;

const LETTERS: &str = "cassandra.dead-letter";
const PARTITIONS: i32 = 5;

/// An event as a consumer has it.
#[derive(Debug, Clone)]
pub struct Event {
    pub id: String,
    pub number: u32,
    pub key: String,
    pub segment: i64,
    pub position: u32,
    pub partition: i32,
}

/// All that was published.
#[derive(Debug, Default)]
pub struct Got {
    /// Of each partition in its order.
    pub events: Vec<Event>,
    /// Dead letters and gap records.
    pub letters: Vec<Value>,
    /// The numbers of all events.
    pub numbers: HashSet<u32>,
    /// The ids of all dead letters.
    pub letter_ids: HashSet<String>,
}

/// The broker with its consumer.
pub struct Broker {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    got: Arc<Mutex<Got>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    pub fn start() -> Self {
        let cluster = MockCluster::new(1).unwrap();
        for topic in [TOPIC, LETTERS] {
            cluster.create_topic(topic, PARTITIONS, 1).unwrap();
        }
        let consumer = consumer(&cluster.bootstrap_servers());
        let (got, ended) = (Arc::new(Mutex::new(Got::default())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (got, ended) = (Arc::clone(&got), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    // An error says that the broker is away, which it is now and then.
                    if let Some(Ok(record)) = consumer.poll(Duration::from_millis(50)) {
                        take(&record, &mut got.lock().unwrap_or_else(PoisonError::into_inner));
                    }
                }
            }
        });
        Self { cluster, got, ended, thread: Some(thread) }
    }

    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Nobody reaches it any more.
    pub fn down(&self) {
        self.cluster.broker_down(1).unwrap();
    }

    /// It is back, with all it had.
    pub fn up(&self) {
        self.cluster.broker_up(1).unwrap();
    }

    /// Looks at what came so far.
    pub fn look<T>(&self, look: impl FnOnce(&Got) -> T) -> T {
        look(&self.lock())
    }
}

impl Broker {
    /// Changes what came, to see whether it is noticed.
    pub fn change(&self, change: impl FnOnce(&mut Got)) {
        change(&mut self.lock());
    }

    /// A judgement that failed while it looked does not spoil what there is to see; a consumer that failed does.
    fn lock(&self) -> MutexGuard<'_, Got> {
        assert!(self.thread.as_ref().is_some_and(|thread| !thread.is_finished()), "the consumer failed");
        self.got.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn consumer(bootstrap: &str) -> BaseConsumer {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "judge")
        .set("enable.auto.commit", "false")
        .set("fetch.wait.max.ms", "20")
        .set("reconnect.backoff.max.ms", "500")
        .create()
        .unwrap();
    let mut list = TopicPartitionList::new();
    for topic in [TOPIC, LETTERS] {
        for partition in 0..PARTITIONS {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
    }
    consumer.assign(&list).unwrap();
    consumer
}

fn take(record: &BorrowedMessage<'_>, got: &mut Got) {
    let value: Value = serde_json::from_slice(record.payload().expect("a value")).unwrap();
    if record.topic() == LETTERS {
        got.letter_ids.extend(value["id"].as_str().map(str::to_owned));
        got.letters.push(value);
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).expect("a number");
    assert_eq!(record.key(), Some(value["key"].to_string().as_bytes()), "the record key is the event's");
    let event = Event {
        id: text(&value["id"]),
        number: number(&value["rows"][0]["cells"]["n"]["value"]),
        key: text(&value["key"]["p"]),
        segment: id_of(&text(&value["source"]["segment"])),
        position: number(&value["source"]["position"]),
        partition: record.partition(),
    };
    got.numbers.insert(event.number);
    got.events.push(event);
}
