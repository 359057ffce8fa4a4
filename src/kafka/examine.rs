//! What a cluster says of topics: whether they are there, and safe; and whether it lets us produce at all.
//!
//! Owns: the look-up of all topics at once. Does not own: what is safe (`check` says that).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::metadata::{MetadataPartition, MetadataTopic};
use rdkafka::producer::Producer;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::admin::Admin;
use super::errors::KafkaError;
use super::{ASK, KafkaSettings, Publisher};

/// How long a producer may take from its start to get an id, or to be refused one: it asks after half a second at the
/// latest.
const PRODUCER_ID: Duration = Duration::from_secs(1);

/// What is known of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Examined {
    /// Each topic that was asked for.
    pub topics: Vec<TopicFacts>,
    /// Why the cluster lets us produce nothing, if it said so.
    pub refused: Option<String>,
}

/// What is known of a topic.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: String,
    /// Its partitions; 0: it does not exist, or nothing is told of it.
    pub partitions: usize,
    /// The replicas of the partition that has the fewest.
    pub replication: usize,
    /// The replicas that are up to date, of the partition that has the fewest.
    pub in_sync: usize,
    /// Why nothing is told of it.
    pub error: Option<Code>,
    /// Its configuration; `None`: the cluster did not say.
    pub config: Option<BTreeMap<String, String>>,
}

impl TopicFacts {
    fn of(name: &str, found: Option<&MetadataTopic>) -> Self {
        let partitions = found.map_or(&[][..], MetadataTopic::partitions);
        let fewest = |count: fn(&MetadataPartition) -> usize| partitions.iter().map(count).min().unwrap_or(0);
        let error = found.and_then(MetadataTopic::error).map(Code::from);
        Self {
            name: name.to_owned(),
            partitions: partitions.len(),
            replication: fewest(|partition| partition.replicas().len()),
            in_sync: fewest(|partition| partition.isr().len()),
            error: error.filter(|code| !matches!(code, Code::UnknownTopicOrPartition | Code::UnknownTopic)),
            config: None,
        }
    }
}

/// Connects, and asks for these topics. None is made, and no record is sent.
///
/// # Errors
/// As [`Publisher::connect`]; [`KafkaError::Topic`] if the cluster gives no metadata.
pub fn examine(settings: &KafkaSettings, topics: &[String]) -> Result<Examined, KafkaError> {
    let started = Instant::now();
    let publisher = Publisher::connect(settings)?;
    let admin = Admin::connect(settings.client_config()?, settings.lookup_timeout)?;
    let mut facts = Vec::new();
    for topic in topics {
        let failed = |code| KafkaError::Topic { action: "look up", topic: topic.clone(), code };
        let metadata = publisher.producer.client().fetch_metadata(Some(topic), settings.lookup_timeout);
        let metadata = metadata.map_err(|error| failed(error.rdkafka_error_code().unwrap_or(Code::Unknown)))?;
        facts.push(TopicFacts::of(topic, metadata.topics().iter().find(|found| found.name() == topic)));
    }
    // One request for all: a cluster that does not answer it costs one timeout.
    let there: Vec<&str> = facts.iter().filter(|topic| topic.partitions > 0).map(|topic| topic.name.as_str()).collect();
    let mut configs = admin.configs(&there);
    for topic in &mut facts {
        topic.config = configs.remove(&topic.name);
    }
    Ok(Examined { topics: facts, refused: refused(&publisher, started + PRODUCER_ID) })
}

/// Why the cluster gives this producer no id, if it says so until then: an idempotent one needs WRITE on some topic for
/// it, so that this is the one look at the right to write that sends no record.
fn refused(publisher: &Publisher, until: Instant) -> Option<String> {
    loop {
        if let Some((_, reason)) = publisher.producer.client().fatal_error() {
            return Some(reason);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(ASK);
    }
}
