//! Topics: whether they are there, and keep what they take.
//!
//! Owns: what of a topic's settings would lose records, or refuse them. Does not own: asking for them (`kafka`).

use cassandra_commitlog::Schema;
use indicatif::{HumanBytes, HumanDuration};
use rdkafka::types::RDKafkaErrorCode as Code;

use std::time::Duration;

use super::Report;
use crate::config::{Config, Kafka};
use crate::kafka::TopicFacts;

const TOPIC: &str = "topic";

/// Who reads a topic must be allowed to be away for a weekend's night at least.
const SHORT_RETENTION: Duration = Duration::from_secs(24 * 3600);

/// The topics that will be used.
pub(super) fn names(config: &Config, schema: Option<&Schema>) -> Vec<String> {
    let events = &config.kafka.events;
    let tables = schema.map(Schema::tables).unwrap_or_default().iter();
    let wanted = tables.filter(|table| table.cdc && config.cassandra.tables.want(table));
    let mut topics: Vec<String> = wanted.map(|table| events.topic.topic(&table.keyspace, &table.name)).collect();
    topics.push(events.dead_letter_topic.clone());
    topics.sort();
    topics.dedup();
    topics
}

pub(super) fn look(topics: &[TopicFacts], kafka: &Kafka, report: &mut Report) {
    for topic in topics {
        of_topic(topic, kafka, report);
    }
    if topics.iter().any(|topic| topic.partitions > 0 && topic.config.is_none()) {
        let fix = "grant the agent's user DESCRIBE_CONFIGS on the topics, and look again: without it their limits are \
                   not known to the agent either";
        report.warn(TOPIC, "the cluster does not tell the settings of topics", fix);
    }
}

fn of_topic(topic: &TopicFacts, kafka: &Kafka, report: &mut Report) {
    let name = &topic.name;
    match topic.error {
        Some(Code::TopicAuthorizationFailed) => {
            let fix = format!(
                "grant the agent's user WRITE and DESCRIBE on it: kafka-acls.sh --add --producer --topic {name} \
                 --allow-principal User:NAME"
            );
            return report.fail(TOPIC, format!("{name}: the agent's user may not see it"), fix);
        }
        Some(code) => {
            let fix = format!("look at it with kafka-topics.sh --describe --topic {name}, and at the brokers' log");
            return report.fail(TOPIC, format!("{name}: {code}"), fix);
        }
        None if topic.partitions == 0 => return missing(name, kafka, report),
        None => {}
    }
    let before = report.0.len();
    durability(topic, report);
    keeping(topic, kafka, report);
    if report.0.len() == before {
        report.ok(TOPIC, format!("{name}, {} partitions, {} replicas", topic.partitions, topic.replication));
    }
}

fn missing(name: &str, kafka: &Kafka, report: &mut Report) {
    if kafka.settings.create_topics.is_some() {
        return report.ok(TOPIC, format!("{name} is not there yet: kafka.create_topics has it made"));
    }
    let fix = format!("create it: kafka-topics.sh --create --topic {name} …; or set kafka.create_topics");
    report.fail(TOPIC, format!("{name} does not exist"), fix);
}

fn setting<'t>(topic: &'t TopicFacts, key: &str) -> Option<&'t str> {
    topic.config.as_ref()?.get(key).map(String::as_str)
}

/// What sets a topic's configuration.
fn alter(name: &str, setting: &str) -> String {
    format!("set {setting}: kafka-configs.sh --alter --topic {name} --add-config {setting}")
}

/// Whether an acknowledged record outlives a broker.
fn durability(topic: &TopicFacts, report: &mut Report) {
    let name = &topic.name;
    let least = setting(topic, "min.insync.replicas").and_then(|least| least.parse::<usize>().ok());
    if let Some(least) = least.filter(|least| *least > topic.in_sync) {
        let found = format!(
            "{name} has {} replicas in sync and min.insync.replicas={least}: Kafka takes no record",
            topic.in_sync
        );
        report.fail(TOPIC, found, "start the brokers that are away, or give the topic more replicas");
    } else if topic.replication == 1 {
        let found = format!("{name} has one replica: a record is lost with its broker");
        let fix = "give it 3 replicas (kafka-reassign-partitions.sh), and min.insync.replicas=2";
        report.warn(TOPIC, found, fix);
    } else if least == Some(1) {
        let found = format!("{name} has min.insync.replicas=1: one broker's word is enough, and is lost with it");
        report.warn(TOPIC, found, alter(name, "min.insync.replicas=2"));
    }
    if setting(topic, "unclean.leader.election.enable") == Some("true") {
        let found = format!("{name} has unclean.leader.election.enable=true: acknowledged records can be dropped");
        report.warn(TOPIC, found, alter(name, "unclean.leader.election.enable=false"));
    }
}

/// Whether a record that was taken is there when it is read, and whether it is taken whole.
fn keeping(topic: &TopicFacts, kafka: &Kafka, report: &mut Report) {
    let name = &topic.name;
    if setting(topic, "cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        let found = format!("{name} is compacted: keys are those of partitions, so changes would be erased");
        report.fail(TOPIC, found, alter(name, "cleanup.policy=delete"));
    }
    // Minus one: for ever.
    let retention = setting(topic, "retention.ms").and_then(|ms| ms.parse::<u64>().ok()).map(Duration::from_millis);
    if let Some(retention) = retention.filter(|retention| *retention < SHORT_RETENTION) {
        let found = format!("{name} keeps records for {}: who reads later misses them", HumanDuration(retention));
        report.warn(TOPIC, found, alter(name, "retention.ms=604800000"));
    }
    let ours = kafka.settings.max_record_bytes;
    let theirs = setting(topic, "max.message.bytes").and_then(|bytes| bytes.parse::<usize>().ok());
    if let Some(theirs) = theirs.filter(|theirs| *theirs < ours) {
        let (theirs, wanted) = (HumanBytes(theirs as u64), ours.saturating_add(ROOM));
        let found = format!(
            "{name} takes {theirs} at once, less than kafka.max_record_bytes ({}): records are split into more parts, \
             and a dead letter may be refused",
            HumanBytes(ours as u64)
        );
        report.warn(TOPIC, found, alter(name, &format!("max.message.bytes={wanted}")));
    }
}

/// For what a batch costs beside its record.
const ROOM: usize = 1024;

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::Level;
    use super::*;
    use crate::config::Config;

    #[test]
    fn topics_that_lose_records_are_named() {
        let set = ["kafka.bootstrap=k:9092".to_owned(), "cassandra.yaml=/dev/null".to_owned()];
        let arguments = crate::cli::ConfigArgs { config: Some("/dev/null".into()), set: set.to_vec() };
        let mut kafka = Config::load_from(&arguments, std::iter::empty()).unwrap().config.kafka;
        let facts = |partitions, replication, config: &[(&str, &str)]| {
            let config = config.iter().map(|(key, value)| (key.to_string(), value.to_string()));
            let config = Some(config.collect::<BTreeMap<_, _>>());
            TopicFacts { name: "t".into(), partitions, replication, in_sync: replication, error: None, config }
        };
        let levels = |facts: &TopicFacts, kafka: &Kafka| {
            let mut report = Report::default();
            of_topic(facts, kafka, &mut report);
            report.0.iter().map(|finding| finding.level).collect::<Vec<_>>()
        };
        let safe = [("min.insync.replicas", "2"), ("cleanup.policy", "delete")];
        assert_eq!(levels(&facts(12, 3, &safe), &kafka), [Level::Ok]);
        assert_eq!(levels(&facts(12, 3, &[("cleanup.policy", "compact,delete")]), &kafka), [Level::Fail]);
        assert_eq!(levels(&facts(12, 3, &[("min.insync.replicas", "1")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(12, 1, &[("min.insync.replicas", "1")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(12, 3, &[("unclean.leader.election.enable", "true")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(12, 1, &[("min.insync.replicas", "2")]), &kafka), [Level::Fail]);
        assert_eq!(levels(&facts(12, 3, &[("retention.ms", "3600000")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(12, 3, &[("retention.ms", "-1")]), &kafka), [Level::Ok]);
        assert_eq!(levels(&facts(12, 3, &[("max.message.bytes", "100000")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(0, 0, &[]), &kafka), [Level::Fail]);
        kafka.settings.create_topics = Some(crate::kafka::TopicCreation { partitions: 12, replication: 3 });
        assert_eq!(levels(&facts(0, 0, &[]), &kafka), [Level::Ok]);
    }
}
