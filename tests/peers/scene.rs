//! Recorded segments as an agent finds them, a broker with their topics, and what a replay says is in them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::agent::{Agent, CLUSTER, HOST, Place};
use super::node::list;
use super::support::kafka::{Got, Kafka};
use super::support::{Laid, Ran};

pub const LETTERS: &str = "cassandra.dead-letter";

/// An event, and its topic.
pub type Event = (String, Value);

pub struct Scene {
    pub laid: Laid,
    pub place: Place,
    pub kafka: Kafka,
    /// All that a replay tells, in its order.
    pub all: Vec<Event>,
}

impl Scene {
    pub fn new(case: &str) -> Self {
        let laid = Laid::own(case);
        let names = ["--envelope", "--cluster", CLUSTER, "--host-id", HOST];
        let records = laid.replay_alone(names).expect(0).events();
        let event = |mut record: Value| (record["topic"].as_str().unwrap().to_owned(), record["value"].take());
        let all: Vec<Event> = records.into_iter().map(event).collect();
        let topics: BTreeSet<String> = all.iter().map(|(topic, _)| topic.clone()).chain([LETTERS.to_owned()]).collect();
        let kafka = Kafka::with(topics);
        let place = Place::new(laid.raw().parent().unwrap(), kafka.bootstrap());
        fs::copy(&laid.schema, place.folder.join("schema.json")).unwrap();
        Self { laid, place, kafka, all }
    }

    pub fn set_schema(&self, schema: &Value) {
        fs::write(self.place.folder.join("schema.json"), schema.to_string()).unwrap();
    }

    /// `run --once` to its end.
    pub fn once(&self, more: &[&str]) -> Ran {
        self.place.command(&["run", "--once"]).args(more).output().unwrap().into()
    }

    /// What was published, once there is so much of it: all but dead letters.
    #[track_caller]
    pub fn published(&self, count: usize) -> Vec<Event> {
        let letters = |got: &Got| got.topic == LETTERS;
        let got = self.kafka.read(count);
        got.into_iter().filter(|got| !letters(got)).map(|got| (got.topic, got.value)).collect()
    }

    /// Dead letters and gap records so far.
    pub fn letters(&self) -> Vec<Value> {
        self.kafka.read(0).into_iter().filter(|got| got.topic == LETTERS).map(|got| got.value).collect()
    }

    /// The files in `cdc_raw`.
    pub fn raw(&self) -> BTreeSet<String> {
        list(&self.laid.raw())
    }

    /// The segment with the changes.
    pub fn segment(&self) -> PathBuf {
        self.laid.largest()
    }

    /// The names of those that Cassandra has completed, with their indexes.
    pub fn completed(&self) -> BTreeSet<String> {
        let is_completed = |log: &&String| {
            let index = fs::read_to_string(self.laid.raw().join(super::segment::index_name(log)));
            index.is_ok_and(|text| text.contains("COMPLETED"))
        };
        let raw = self.raw();
        let logs = raw.iter().filter(|name| name.ends_with(".log")).filter(is_completed);
        logs.flat_map(|log| [log.clone(), super::segment::index_name(log)]).collect()
    }

    /// Waits until something holds.
    #[track_caller]
    pub fn wait(&self, agent: &mut Agent, what: &str, holds: impl Fn(&Self) -> bool) {
        let started = Instant::now();
        while !holds(self) {
            agent.must_run();
            assert!(started.elapsed() < Duration::from_secs(60), "never: {what}\n{}", agent.said());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// In one order, for a comparison of what is in different partitions.
pub fn sorted(events: &[Event]) -> Vec<String> {
    let mut lines: Vec<String> = events.iter().map(|(topic, event)| format!("{topic} {event}")).collect();
    lines.sort();
    lines
}

/// The same without repeats.
pub fn unique(events: &[Event]) -> Vec<String> {
    let mut lines = sorted(events);
    lines.dedup();
    lines
}

pub fn index_of(log: &Path) -> PathBuf {
    log.with_file_name(super::segment::index_name(log.file_name().unwrap().to_str().unwrap()))
}
