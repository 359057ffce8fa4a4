//! A Kafka broker inside this process, for the first run of someone who has none.
//!
//! Owns: librdkafka's mock cluster and a plain consumer of it. Does not own: anything of the real path, which takes
//! this broker for any other. It keeps the last 5 MiB of each partition, in memory, and knows no requests of an
//! administrator: leave [`topic_limits`](crate::kafka::KafkaSettings::topic_limits) off.

use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError as ClientError;
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A running broker. It goes with this value, and stays on the thread that made it.
pub struct DemoBroker {
    cluster: MockCluster<'static, DefaultProducerContext>,
    topics: Vec<String>,
    partitions: i32,
}

/// A record as a consumer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DemoRecord {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The key, if it has one.
    pub key: Option<Vec<u8>>,
    /// The value, if it has one.
    pub value: Option<Vec<u8>>,
}

/// Reads all topics of a [`DemoBroker`] from their beginning.
pub struct DemoConsumer(BaseConsumer);

impl DemoBroker {
    /// Starts a broker with these topics, each with so many partitions.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn start(topics: &[String], partitions: i32) -> Result<Self, ClientError> {
        let cluster = MockCluster::new(1)?;
        for topic in topics {
            cluster.create_topic(topic, partitions, 1)?;
        }
        Ok(Self { cluster, topics: topics.to_vec(), partitions })
    }

    /// Its address, for any client.
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// A consumer of everything that is published here. It joins no group and commits nothing.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn consumer(&self) -> Result<DemoConsumer, ClientError> {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", self.bootstrap())
            .set("group.id", "cassandra-cdc-demo")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", "20")
            .create()?;
        let mut list = TopicPartitionList::new();
        for topic in &self.topics {
            for partition in 0..self.partitions {
                list.add_partition_offset(topic, partition, Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        Ok(DemoConsumer(consumer))
    }
}

impl DemoConsumer {
    /// The next record, if one comes in time.
    ///
    /// # Errors
    /// What librdkafka says.
    pub fn next(&self, timeout: Duration) -> Result<Option<DemoRecord>, ClientError> {
        let Some(message) = self.0.poll(timeout) else { return Ok(None) };
        let message = message?;
        Ok(Some(DemoRecord {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
        }))
    }
}

#[cfg(test)]
mod tests {
    use cassandra_progress::{Ledger, Window};

    use super::*;
    use crate::kafka::{KafkaSettings, Publisher};

    #[test]
    fn what_is_published_comes_back() {
        let topics = ["a".to_owned(), "b".to_owned()];
        let broker = DemoBroker::start(&topics, 2).unwrap();
        let settings = KafkaSettings { bootstrap: broker.bootstrap(), topic_limits: false, ..KafkaSettings::default() };
        let consumer = broker.consumer().unwrap();
        let mut publisher = Publisher::connect(&settings).unwrap();
        let mut ledger = Ledger::new(Window::default());
        for name in &topics {
            let topic = publisher.topic(name).unwrap();
            publisher.arena().extend_from_slice(b"keyvalue");
            publisher.push(&mut ledger, topic, 1, 0..3, 3..8).unwrap();
            assert_eq!(publisher.drain(&mut ledger, Duration::from_secs(10)), Ok(0));
        }
        let mut found = Vec::new();
        for _ in 0..200 {
            found.extend(consumer.next(Duration::from_millis(50)).unwrap());
            if found.len() == 2 {
                break;
            }
        }
        found.sort_by(|one, other| one.topic.cmp(&other.topic));
        let expected = |topic: &str| DemoRecord {
            topic: topic.to_owned(),
            partition: 1,
            offset: 0,
            key: Some(b"key".to_vec()),
            value: Some(b"value".to_vec()),
        };
        assert_eq!(found, vec![expected("a"), expected("b")]);
    }
}
