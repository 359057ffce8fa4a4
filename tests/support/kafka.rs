//! An in-process broker, and what a consumer finds in its topics.

use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde_json::Value;

/// How long records are waited for that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with topics.
pub struct Kafka {
    pub cluster: MockCluster<'static, DefaultProducerContext>,
    partitions: i32,
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
    /// Each of the topics with five partitions.
    pub fn with(topics: impl IntoIterator<Item = String>) -> Self {
        Self::of(5, topics)
    }

    pub fn of(partitions: i32, topics: impl IntoIterator<Item = String>) -> Self {
        let cluster = MockCluster::new(1).unwrap();
        let topics: Vec<String> = topics.into_iter().collect();
        for topic in &topics {
            cluster.create_topic(topic, partitions, 1).unwrap();
        }
        Self { cluster, partitions, topics }
    }

    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Everything that all topics hold, each partition to its end and in its order: so many records at least.
    #[track_caller]
    pub fn read(&self, count: usize) -> Vec<Got> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "test")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("fetch.wait.max.ms", "20")
            .create()
            .unwrap();
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            for partition in 0..self.partitions {
                list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
            }
        }
        consumer.assign(&list).unwrap();
        let (mut found, mut open) = (Vec::new(), list.count());
        let patience = Instant::now() + PATIENCE;
        while open > 0 || found.len() < count {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => found.push(got(&record)),
                Some(Err(KafkaError::PartitionEOF(_))) => open = open.saturating_sub(1),
                Some(Err(error)) => panic!("{error}"),
                None => assert!(Instant::now() < patience, "{} of {count} records", found.len()),
            }
        }
        found
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
