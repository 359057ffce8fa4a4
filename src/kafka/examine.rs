//! What a cluster says of topics: whether they are there, and safe.
//!
//! Owns: the look-up of all topics at once. Does not own: what is safe (`check` says that).

use std::collections::BTreeMap;

use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::admin::Admin;
use super::errors::KafkaError;
use super::{KafkaSettings, Publisher};

/// What is known of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Its partitions; 0: it does not exist.
    pub partitions: usize,
    /// The replicas of the partition that has the fewest.
    pub replication: usize,
    /// Its configuration; `None`: the cluster did not say.
    pub config: Option<BTreeMap<String, String>>,
}

/// Connects, and asks for these topics. None is made.
///
/// # Errors
/// As [`Publisher::connect`]; [`KafkaError::Topic`] if the cluster gives no metadata.
pub fn examine(settings: &KafkaSettings, topics: &[String]) -> Result<Vec<TopicFacts>, KafkaError> {
    let publisher = Publisher::connect(settings)?;
    let admin = Admin::connect(settings.client_config()?, settings.lookup_timeout)?;
    let mut facts = Vec::new();
    for topic in topics {
        let failed = |code| KafkaError::Topic { action: "look up", topic: topic.clone(), code };
        let metadata = publisher.producer.client().fetch_metadata(Some(topic), settings.lookup_timeout);
        let metadata = metadata.map_err(|error| failed(error.rdkafka_error_code().unwrap_or(Code::Unknown)))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(&[][..], |found| found.partitions());
        facts.push(TopicFacts {
            name: topic.clone(),
            partitions: partitions.len(),
            replication: partitions.iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            config: None,
        });
    }
    // One request for all: a cluster that does not answer it costs one timeout.
    let there: Vec<&str> = facts.iter().filter(|topic| topic.partitions > 0).map(|topic| topic.name.as_str()).collect();
    let mut configs = admin.configs(&there);
    for topic in &mut facts {
        topic.config = configs.remove(&topic.name);
    }
    Ok(facts)
}
