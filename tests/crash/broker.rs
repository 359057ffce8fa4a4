//! Kafka for the crash tests, and what consumers get of it.
//!
//! Owns: reading every record as it comes, in a thread, since the broker keeps only the last 5 MiB of a partition.
//! Does not own: judging them (`judge`).

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use cassandra_cdc::demo::broker::{DemoBroker, DemoRecord};
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
}

/// The broker with its consumer.
pub struct Broker {
    broker: DemoBroker,
    got: Arc<Mutex<Got>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Broker {
    pub fn start() -> Self {
        let broker = DemoBroker::start(&[TOPIC.to_owned(), LETTERS.to_owned()], PARTITIONS).unwrap();
        let consumer = broker.consumer().unwrap();
        let (got, ended) = (Arc::new(Mutex::new(Got::default())), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (got, ended) = (Arc::clone(&got), Arc::clone(&ended));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    if let Some(record) = consumer.next(Duration::from_millis(50)).unwrap() {
                        take(&record, &mut got.lock().unwrap());
                    }
                }
            }
        });
        Self { broker, got, ended, thread: Some(thread) }
    }

    pub fn bootstrap(&self) -> String {
        self.broker.bootstrap()
    }

    /// Looks at what came so far.
    pub fn look<T>(&self, look: impl FnOnce(&Got) -> T) -> T {
        look(&self.got.lock().unwrap())
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

fn take(record: &DemoRecord, got: &mut Got) {
    let value: Value = serde_json::from_slice(record.value.as_deref().expect("a value")).unwrap();
    if record.topic == LETTERS {
        got.letters.push(value);
        return;
    }
    let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned();
    let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok()).expect("a number");
    assert_eq!(record.key.as_deref(), Some(value["key"].to_string().as_bytes()), "the record key is the event's");
    got.events.push(Event {
        id: text(&value["id"]),
        number: number(&value["rows"][0]["cells"]["n"]["value"]),
        key: text(&value["key"]["p"]),
        segment: id_of(&text(&value["source"]["segment"])),
        position: number(&value["source"]["position"]),
        partition: record.partition,
    });
}
