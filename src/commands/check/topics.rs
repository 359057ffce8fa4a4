//! Kafka: whether it is there, and whether its topics keep what they take.
//!
//! Owns: what of a topic's settings would lose records. Does not own: asking for them (`kafka`).

use std::time::Duration;

use cassandra_commitlog::Schema;

use super::Report;
use crate::config::{Config, Kafka};
use crate::kafka::{TopicFacts, examine};

const KAFKA: &str = "Kafka";
const TOPIC: &str = "topic";

/// For each answer of a broker.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn look(config: &Config, schema: Option<&Schema>, report: &mut Report) {
    let kafka = &config.kafka;
    let tables = schema.map(Schema::tables).unwrap_or_default().iter();
    let wanted = tables.filter(|table| table.cdc && config.cassandra.tables.want(table));
    let mut topics: Vec<String> = wanted.map(|table| kafka.events.topic.topic(&table.keyspace, &table.name)).collect();
    topics.push(kafka.events.dead_letter_topic.clone());
    topics.sort();
    topics.dedup();
    let mut settings = kafka.settings.clone();
    settings.lookup_timeout = TIMEOUT;
    let facts = match examine(&settings, &topics) {
        Ok(facts) => facts,
        Err(error) => {
            let fix = "check kafka.bootstrap, security.protocol and the credentials in kafka.properties_file";
            return report.fail(KAFKA, error.to_string(), fix);
        }
    };
    report.ok(KAFKA, kafka.settings.bootstrap.clone());
    for topic in &facts {
        of_topic(topic, kafka, report);
    }
    if facts.iter().any(|topic| topic.partitions > 0 && topic.config.is_none()) {
        let fix = "allow DescribeConfigs on the topics, and look again";
        report.warn(TOPIC, "the cluster does not tell the settings of topics", fix);
    }
}

fn of_topic(topic: &TopicFacts, kafka: &Kafka, report: &mut Report) {
    let name = &topic.name;
    if topic.partitions == 0 {
        match kafka.settings.create_topics {
            Some(_) => report.ok(TOPIC, format!("{name} is not there yet: kafka.create_topics has it made")),
            None => report.fail(TOPIC, format!("{name} does not exist"), "create it, or set kafka.create_topics"),
        }
        return;
    }
    let before = report.0.len();
    let setting = |key: &str| topic.config.as_ref().and_then(|config| config.get(key)).map(String::as_str);
    if setting("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        let found = format!("{name} is compacted: keys are those of partitions, so rows would be erased");
        report.fail(TOPIC, found, "set cleanup.policy=delete on the topic");
    }
    if topic.replication == 1 {
        let found = format!("{name} has one replica: a record is lost with its broker");
        report.warn(TOPIC, found, "give it at least 3 replicas, and min.insync.replicas=2");
    } else if setting("min.insync.replicas") == Some("1") {
        let found = format!("{name} has min.insync.replicas=1: one broker's word is enough, and is lost with it");
        report.warn(TOPIC, found, "set min.insync.replicas=2 on the topic");
    }
    if setting("unclean.leader.election.enable") == Some("true") {
        let found = format!("{name} has unclean.leader.election.enable=true: acknowledged records can be dropped");
        report.warn(TOPIC, found, "set unclean.leader.election.enable=false on the topic");
    }
    if report.0.len() == before {
        report.ok(TOPIC, format!("{name}, {} partitions, {} replicas", topic.partitions, topic.replication));
    }
}

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
            TopicFacts { name: "t".into(), partitions, replication, config: Some(config.collect::<BTreeMap<_, _>>()) }
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
        assert_eq!(levels(&facts(12, 1, &safe), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(12, 3, &[("unclean.leader.election.enable", "true")]), &kafka), [Level::Warn]);
        assert_eq!(levels(&facts(0, 0, &[]), &kafka), [Level::Fail]);
        kafka.settings.create_topics = Some(crate::kafka::TopicCreation { partitions: 12, replication: 3 });
        assert_eq!(levels(&facts(0, 0, &[]), &kafka), [Level::Ok]);
    }
}
