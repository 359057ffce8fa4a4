//! An in-process broker, and what a consumer finds in its topics.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

/// Partitions of every topic.
pub const PARTITIONS: i32 = 5;

/// How long records are waited for that must come, and how long for such as must not.
const PATIENCE: Duration = Duration::from_secs(60);
const QUIET: Duration = Duration::from_millis(500);

/// A broker with topics.
pub struct Kafka {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    topics: Vec<String>,
}

/// A record.
#[derive(Debug, Clone)]
pub struct Got {
    pub topic: String,
    pub partition: i32,
    pub key: String,
    pub value: Value,
}

impl Kafka {
    pub fn with(topics: impl IntoIterator<Item = String>) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let topics: Vec<String> = topics.into_iter().collect();
        for topic in &topics {
            cluster.create_topic(topic, PARTITIONS, 1).unwrap();
        }
        Self { cluster, topics }
    }

    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Everything that all topics hold, each partition in its order: so many records, and those that should not be there.
    #[track_caller]
    pub fn read(&self, count: usize) -> Vec<Got> {
        read(&self.bootstrap(), &self.topics, count)
    }
}

/// See [`Kafka::read`].
#[track_caller]
pub fn read(bootstrap: &str, topics: &[String], count: usize) -> Vec<Got> {
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
    let patience = Instant::now() + PATIENCE;
    loop {
        match consumer.poll(QUIET) {
            Some(record) => found.push(got(&record.unwrap())),
            None if found.len() >= count => return found,
            None => assert!(Instant::now() < patience, "{} of {count} records", found.len()),
        }
    }
}

fn got(record: &BorrowedMessage<'_>) -> Got {
    Got {
        topic: record.topic().to_owned(),
        partition: record.partition(),
        key: String::from_utf8(record.key().expect("a key").to_vec()).unwrap(),
        value: serde_json::from_slice(record.payload().expect("a value")).unwrap(),
    }
}
