//! What was typed about Kafka, and the client configuration that it comes to.
//!
//! Owns: the settings that our promises rest on, and the refusal, by name and with the reason, of every librdkafka
//! property that would break one. Does not own: where settings are read from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use openssl::asn1::Asn1Time;
use openssl::x509::X509;
use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;

use super::errors::KafkaError;

/// How topics are made that do not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicCreation {
    /// Partitions of each.
    pub partitions: i32,
    /// Replicas of each partition.
    pub replication: i32,
}

/// Settings of the publisher, as typed. [`KafkaSettings::check`] says whether they can be used.
#[derive(Clone)]
pub struct KafkaSettings {
    /// Bootstrap servers, `host:port`, comma-separated.
    pub bootstrap: String,
    /// The name under which brokers see us.
    pub client_id: String,
    /// The largest record, key and value, in bytes. A topic's own lower limit goes before it.
    pub max_record_bytes: usize,
    /// Messages that librdkafka may hold. Memory is whatever this and `queue_bytes` allow.
    pub queue_messages: u32,
    /// Bytes of messages that librdkafka may hold.
    pub queue_bytes: u64,
    /// Records in one run at most.
    pub run_records: u16,
    /// Encoded bytes that may wait in runs that are not full.
    pub arena_bytes: usize,
    /// How topics are made that do not exist; `None`: they are not.
    pub create_topics: Option<TopicCreation>,
    /// Partitions of a topic beyond this number are not used.
    pub pinned: BTreeMap<String, u32>,
    /// Whether each topic is asked for its own limit. In-process brokers don't know the request, and let it time out.
    pub topic_limits: bool,
    /// How long a look at metadata, or the creation of a topic, may take.
    pub lookup_timeout: Duration,
    /// How long nothing may be reported, while something is on its way, if brokers refuse the login; twice that in any case.
    pub patience: Duration,
    /// Properties for librdkafka, as typed.
    pub properties: BTreeMap<String, String>,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            bootstrap: String::new(),
            client_id: "cassandra-cdc".to_owned(),
            max_record_bytes: 900 << 10,
            queue_messages: 20_000,
            queue_bytes: 64 << 20,
            run_records: 256,
            arena_bytes: 1 << 20,
            create_topics: None,
            pinned: BTreeMap::new(),
            topic_limits: true,
            lookup_timeout: Duration::from_secs(10),
            patience: Duration::from_secs(30),
            properties: BTreeMap::new(),
        }
    }
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and keys are among the properties: only their names are shown.
        f.debug_struct("KafkaSettings")
            .field("bootstrap", &self.bootstrap)
            .field("client_id", &self.client_id)
            .field("max_record_bytes", &self.max_record_bytes)
            .field("queue_messages", &self.queue_messages)
            .field("queue_bytes", &self.queue_bytes)
            .field("create_topics", &self.create_topics)
            .field("properties", &self.properties.keys())
            .finish_non_exhaustive()
    }
}

/// Properties that are refused, each with the reason. The second name of a pair is librdkafka's alias for the first.
const REFUSED: &[(&[&str], &str)] = &[
    (&["bootstrap.servers", "metadata.broker.list"], "it has an option of its own: the bootstrap addresses"),
    (
        &["acks", "request.required.acks"],
        "it is always `all`: a record counts as delivered only when no single broker's loss can lose it",
    ),
    (&["enable.idempotence"], "it is always on: order across retries rests on it"),
    (&["enable.gapless.guarantee"], "it is always on: without it records pass a failed one of the same partition"),
    (
        &["message.timeout.ms", "delivery.timeout.ms"],
        "it is always 0, for ever: when a record expires, later ones of its partition are delivered, and nothing fails visibly",
    ),
    (&["retries", "message.send.max.retries"], "librdkafka retries for ever: giving up would leave a gap"),
    (
        &["partitioner", "partitioner_cb", "msg_order_cmp"],
        "the partition comes from Java's murmur2 of the key, computed by the agent",
    ),
    (&["queuing.strategy"], "anything but fifo reorders records"),
    (
        &["delivery.report.only.error"],
        "every delivery must be reported: a segment is deleted on the strength of reports",
    ),
    (
        &["transactional.id", "transaction.timeout.ms"],
        "the agent uses no transactions: it delivers at least once, with stable ids",
    ),
    (&["queue.buffering.max.messages"], "it has a setting of its own: queue_messages"),
    (&["queue.buffering.max.kbytes"], "it has a setting of its own: queue_bytes"),
    (&["message.max.bytes"], "it has a setting of its own: max_record_bytes"),
    (
        &["allow.auto.create.topics"],
        "topics are made only when we are told to (create_topics), never by the broker's defaults",
    ),
    (&["topic.blacklist"], "it hides topics from the agent that it must publish to"),
    (&["plugin.library.paths", "interceptors"], "foreign code in the producer could drop or change records"),
    (&["test.mock.num.brokers", "test.mock.broker.rtt"], "it replaces the cluster by one that lives in this process"),
    (
        &[
            "dr_cb",
            "dr_msg_cb",
            "error_cb",
            "throttle_cb",
            "stats_cb",
            "log_cb",
            "background_event_cb",
            "socket_cb",
            "connect_cb",
            "closesocket_cb",
            "open_cb",
            "resolve_cb",
            "oauthbearer_token_refresh_cb",
            "ssl.certificate.verify_cb",
            "ssl_engine_callback_data",
            "opaque",
            "default_topic_conf",
            "enabled_events",
            "log.queue",
        ],
        "it can't be set from text, or the agent's own handling of events rests on it",
    ),
];

/// What the names of librdkafka's secret properties have in common.
const SECRETS: [&str; 6] = ["password", "passphrase", "secret", "key.pem", "sasl.jaas", "sasl.oauthbearer.config"];

/// Whether the value of a librdkafka property is a secret: it is read from files only, and never shown.
pub fn is_secret(property: &str) -> bool {
    SECRETS.iter().any(|secret| property.contains(secret))
}

/// Room for what a record costs in a batch beside key and value: the batch's header, and varints for a record without
/// headers.
pub(super) const RECORD_OVERHEAD: usize = 128;

/// The most runs that can be under way at once, whatever the queue allows.
const MAX_RUNS: u32 = 1 << 16;

impl KafkaSettings {
    /// Whether these settings can be used, without a look at the network.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] names the first that can't.
    pub fn check(&self) -> Result<(), KafkaError> {
        self.client_config().map(|_| ())
    }

    pub(super) fn client_config(&self) -> Result<ClientConfig, KafkaError> {
        self.check_limits()?;
        let mut config = ClientConfig::new();
        config
            .set_log_level(RDKafkaLogLevel::Info)
            .set("client.id", &self.client_id)
            .set("linger.ms", "5")
            .set("batch.size", "262144")
            .set("compression.type", "lz4")
            // Each is a text about all brokers and partitions: nothing to be made every second.
            .set("statistics.interval.ms", "15000");
        for (name, value) in &self.properties {
            check_property(name, value)?;
            config.set(canonical(name), value);
        }
        let message_bytes = self.max_record_bytes.saturating_add(RECORD_OVERHEAD).max(1_000_000);
        config
            .set("bootstrap.servers", &self.bootstrap)
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("enable.gapless.guarantee", "true")
            .set("message.timeout.ms", "0")
            .set("allow.auto.create.topics", "false")
            .set("queue.buffering.max.messages", self.queue_messages.to_string())
            .set("queue.buffering.max.kbytes", (self.queue_bytes / 1024).to_string())
            .set("message.max.bytes", message_bytes.to_string());
        if self.uses_ssl() && !self.has_any(&["ssl.ca.location", "ssl.ca.pem", "ssl_ca"]) {
            // The OpenSSL inside this binary knows nothing of where this system keeps its certificates.
            config.set("ssl.ca.location", "probe");
        }
        Ok(config)
    }

    /// When the client certificate among the properties expires, seconds since 1970: the earliest in its chain. None
    /// without one, or where it can't be read: then the producer says why.
    pub(super) fn certificate_expires(&self) -> Option<u64> {
        let property = |name: &str| self.properties.get(name);
        let pem = match (property("ssl.certificate.pem"), property("ssl.certificate.location")) {
            (Some(pem), _) => pem.clone().into_bytes(),
            (None, path) => std::fs::read(path?).ok()?,
        };
        let chain = X509::stack_from_pem(&pem).ok()?;
        let epoch = Asn1Time::from_unix(0).ok()?;
        let left = chain.iter().filter_map(|certificate| epoch.diff(certificate.not_after()).ok());
        let seconds = left.map(|left| i64::from(left.days) * 86_400 + i64::from(left.secs)).min()?;
        u64::try_from(seconds).ok()
    }

    /// Runs that may be under way at once. A run has at least one message, so that the queue is full before this is,
    /// unless it is set enormous.
    pub(super) fn max_runs(&self) -> u32 {
        self.queue_messages.clamp(1, MAX_RUNS)
    }

    fn check_limits(&self) -> Result<(), KafkaError> {
        let refuse = |name: &str, why: &str| Err(KafkaError::Setting { name: name.into(), why: why.into() });
        if self.bootstrap.trim().is_empty() {
            return refuse("bootstrap", "name at least one broker, as host:port");
        }
        if !(1..=10_000_000).contains(&self.queue_messages) {
            return refuse("queue_messages", "it must lie between 1 and 10000000");
        }
        if !(1024..=900_000_000).contains(&self.max_record_bytes) {
            return refuse("max_record_bytes", "it must lie between 1 KiB and 900 MB");
        }
        if !u64::try_from(self.max_record_bytes).is_ok_and(|record| record <= self.queue_bytes)
            || self.queue_bytes > 2_147_483_647 * 1024
        {
            return refuse("queue_bytes", "it must hold the largest record, and be less than 2 TiB");
        }
        if self.run_records == 0 {
            return refuse("run_records", "a run has at least one record");
        }
        if !(4096..=1 << 30).contains(&self.arena_bytes) {
            return refuse("arena_bytes", "it must lie between 4 KiB and 1 GiB");
        }
        if self.create_topics.is_some_and(|create| create.partitions < 1 || create.replication < 1) {
            return refuse("create_topics", "partitions and replication must be at least 1");
        }
        Ok(())
    }

    fn uses_ssl(&self) -> bool {
        self.properties.get("security.protocol").is_some_and(|value| value.to_ascii_lowercase().contains("ssl"))
    }

    fn has_any(&self, names: &[&str]) -> bool {
        names.iter().any(|name| self.properties.contains_key(*name))
    }
}

/// librdkafka reads a property under two names; if both are set the order of setting decides, which nobody sees.
fn canonical(name: &str) -> &str {
    match name {
        "queue.buffering.max.ms" => "linger.ms",
        "compression.codec" => "compression.type",
        name => name,
    }
}

fn check_property(name: &str, value: &str) -> Result<(), KafkaError> {
    let refuse = |why: &str| Err(KafkaError::Setting { name: name.to_owned(), why: why.to_owned() });
    for (names, why) in REFUSED {
        if names.contains(&name) {
            return refuse(why);
        }
    }
    if matches!(name, "max.in.flight" | "max.in.flight.requests.per.connection")
        && !value.trim().parse::<u32>().is_ok_and(|requests| (1..=5).contains(&requests))
    {
        return refuse("it must lie between 1 and 5: brokers keep the order of no more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;

    fn with(name: &str, value: &str) -> KafkaSettings {
        let properties = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        KafkaSettings { bootstrap: "k:9092".into(), properties, ..KafkaSettings::default() }
    }

    #[test]
    fn properties_that_would_break_a_promise_are_refused_by_name() {
        for (names, reason) in REFUSED {
            for name in *names {
                match with(name, "1").check() {
                    Err(KafkaError::Setting { name: refused, why }) => {
                        assert_eq!((refused.as_str(), why.as_str()), (*name, *reason));
                    }
                    other => panic!("{name}: {other:?}"),
                }
            }
        }
        for requests in ["0", "6", "many"] {
            assert!(with("max.in.flight", requests).check().is_err());
        }
    }

    #[test]
    fn what_breaks_no_promise_passes_through() {
        let config = with("linger.ms", "0").client_config().unwrap();
        assert_eq!(config.get("linger.ms"), Some("0"));
        let config = with("queue.buffering.max.ms", "7").client_config().unwrap();
        assert_eq!(config.get("linger.ms"), Some("7"));
        assert!(with("max.in.flight", "1").check().is_ok());
    }

    #[test]
    fn the_promises_are_in_the_configuration() {
        let config = with("socket.keepalive.enable", "true").client_config().unwrap();
        for (name, value) in [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("enable.gapless.guarantee", "true"),
            ("message.timeout.ms", "0"),
            ("queue.buffering.max.messages", "20000"),
            ("queue.buffering.max.kbytes", "65536"),
            ("allow.auto.create.topics", "false"),
        ] {
            assert_eq!(config.get(name), Some(value), "{name}");
        }
        assert_eq!(config.get("partitioner"), None);
    }

    #[test]
    fn certificates_are_looked_for_only_when_none_are_named() {
        assert_eq!(
            with("security.protocol", "SASL_SSL").client_config().unwrap().get("ssl.ca.location"),
            Some("probe")
        );
        let mut settings = with("security.protocol", "ssl");
        settings.properties.insert("ssl.ca.location".into(), "/ca.pem".into());
        assert_eq!(settings.client_config().unwrap().get("ssl.ca.location"), Some("/ca.pem"));
        assert_eq!(with("security.protocol", "plaintext").client_config().unwrap().get("ssl.ca.location"), None);
    }

    #[test]
    fn the_certificate_says_when_it_expires() {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let expires = 1_900_000_000;
        let mut made = X509::builder().unwrap();
        made.set_pubkey(&key).unwrap();
        made.set_not_before(&Asn1Time::from_unix(1_700_000_000).unwrap()).unwrap();
        made.set_not_after(&Asn1Time::from_unix(expires).unwrap()).unwrap();
        made.sign(&key, MessageDigest::sha256()).unwrap();
        let pem = made.build().to_pem().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &pem).unwrap();
        let at = u64::try_from(expires).ok();
        assert_eq!(with("ssl.certificate.location", file.path().to_str().unwrap()).certificate_expires(), at);
        assert_eq!(with("ssl.certificate.pem", std::str::from_utf8(&pem).unwrap()).certificate_expires(), at);
        assert_eq!(with("ssl.certificate.location", "/nowhere").certificate_expires(), None);
        assert_eq!(with("linger.ms", "5").certificate_expires(), None);
    }

    #[test]
    fn secrets_are_not_printed() {
        let printed = format!("{:?}", with("sasl.password", "hunter2"));
        assert!(printed.contains("sasl.password") && !printed.contains("hunter2"));
    }

    #[test]
    fn limits_that_can_not_work_are_refused() {
        let good = with("linger.ms", "5");
        for bad in [
            KafkaSettings { bootstrap: " ".into(), ..good.clone() },
            KafkaSettings { queue_messages: 0, ..good.clone() },
            KafkaSettings { queue_bytes: 1024, ..good.clone() },
            KafkaSettings { run_records: 0, ..good.clone() },
            KafkaSettings { arena_bytes: 0, ..good.clone() },
            KafkaSettings { create_topics: Some(TopicCreation { partitions: 0, replication: 1 }), ..good.clone() },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert!(good.check().is_ok());
    }
}
