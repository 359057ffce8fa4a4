//! What went wrong between us and Kafka, and what to do about it.
//!
//! Owns: the error type of the publisher, and the one table from librdkafka's codes to an action.
//! Does not own: taking the action. Waiting, holding, rewinding and dead-lettering belong to the pump.

use std::time::Duration;

use rdkafka::error::{KafkaError as ClientError, RDKafkaErrorCode as Code};

/// Where a code came from: the same one means different things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// `send` refused the record: librdkafka never had it.
    Send,
    /// A delivery report: librdkafka has given the record up.
    Report,
    /// A look at metadata, or the creation of a topic.
    Lookup,
    /// The client's own voice: nothing was given up, it goes on trying.
    Event,
}

/// Why reading stops at a position while the process stays alive, not ready, and trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum HoldReason {
    /// An ACL is missing.
    Authorization,
    /// The topic, or a partition of it, is not there.
    MissingTopic,
    /// A code without a rule. Never skipped: whatever it is, a person must look.
    Unknown,
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing: librdkafka tries again by itself. An alert goes by the age of the oldest record.
    Absorbed,
    /// Stop reading until there is room; nothing of that partition may pass.
    Wait,
    /// This record alone can't be sent: split it, or dead-letter it.
    DeadLetterCandidate,
    /// One record of a batch is poison, but its innocent neighbours failed too: drain, rewind, send one at a time. The
    /// one that fails alone is dead-lettered.
    Isolate,
    /// Back off from 1 to 60 s and try again, not ready. Never dead-letter.
    Hold(HoldReason),
    /// Not ready; read the credentials again and make a new producer.
    Credentials,
    /// Not acknowledged, and nobody's fault: send again after going back to the watermark.
    Rewind,
    /// The producer is dead: wait until reports = accepted, make a new one, rewind.
    Fatal,
}

impl Action {
    /// Which of several failures tells most about the cause. A fatal producer is what follows from a poison record or a
    /// lost permission in a gapless stream, and purged records are what follows from that.
    pub(crate) fn rank(self) -> u8 {
        match self {
            Self::Absorbed => 0,
            Self::Wait => 1,
            Self::Rewind => 2,
            Self::Fatal => 3,
            Self::Hold(HoldReason::Unknown) => 4,
            Self::Credentials => 5,
            Self::Hold(HoldReason::MissingTopic) => 6,
            Self::Hold(HoldReason::Authorization) => 7,
            Self::DeadLetterCandidate => 8,
            Self::Isolate => 9,
        }
    }
}

/// The table from codes to actions.
pub fn classify(place: Place, code: Code) -> Action {
    match code {
        Code::QueueFull => Action::Wait,
        Code::MessageSizeTooLarge if place == Place::Send => Action::DeadLetterCandidate,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidMessage
        | Code::InvalidRecord
        | Code::InvalidTimestamp => Action::Isolate,
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => Action::Hold(HoldReason::Authorization),
        Code::Authentication
        | Code::SSL
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState => Action::Credentials,
        Code::Fatal
        | Code::OutOfOrderSequenceNumber
        | Code::Inconsistent
        | Code::Fenced
        | Code::ProducerFenced
        | Code::InvalidProducerEpoch
        | Code::UnknownProducerId
        | Code::InvalidProducerIdMapping
        | Code::GaplessGuarantee => Action::Fatal,
        Code::PurgeQueue | Code::PurgeInflight => Action::Rewind,
        // A leader election looks like this to a live client; a record that was refused for it has no topic to go to.
        Code::UnknownPartition | Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::InvalidTopic
            if place != Place::Event =>
        {
            Action::Hold(HoldReason::MissingTopic)
        }
        // With an infinite message timeout these are retried for ever. If one comes with a record after all, that
        // record is not acknowledged, and nothing may pass over it.
        code if is_transient(code) => match place {
            Place::Event | Place::Lookup => Action::Absorbed,
            Place::Send | Place::Report => Action::Rewind,
        },
        _ if place == Place::Event => Action::Absorbed,
        _ => Action::Hold(HoldReason::Unknown),
    }
}

fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::MessageTimedOut
            | Code::OperationTimedOut
            | Code::TimedOutQueue
            | Code::RequestTimedOut
            | Code::NetworkException
            | Code::LeaderNotAvailable
            | Code::NotLeaderForPartition
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::ISRInsufficient
            | Code::KafkaStorageError
            | Code::NotController
            | Code::ThrottlingQuotaExceeded
    )
}

/// What librdkafka says of a configuration, without the value: it may be a password.
pub(super) fn refused_setting(error: &ClientError) -> KafkaError {
    match error {
        ClientError::ClientConfig(_, why, name, _) => KafkaError::Setting { name: name.clone(), why: why.clone() },
        other => {
            let mut text = other.to_string();
            if text.contains(".location failed") || text.contains(".pem failed") {
                text.push_str("; is it there, in PEM, readable for this user, and is ssl.key.password its own?");
            }
            KafkaError::Client(text)
        }
    }
}

/// Whether a broker's TLS alert says that it wants a certificate of ours, or another one: RFC 8446, 6. Other alerts, of
/// protocols and ciphers, say nothing of certificates.
pub(super) fn wants_certificate(detail: &str) -> bool {
    let number = detail.split_once("SSL alert number ").map(|(_, behind)| {
        let end = behind.find(|c: char| !c.is_ascii_digit()).unwrap_or(behind.len());
        behind.split_at(end).0.parse().unwrap_or(0_u8)
    });
    matches!(number, Some(42..=46 | 48 | 49 | 116))
}

/// What to do where brokers and we do not trust each other. librdkafka has the same words for a certificate of another CA,
/// of another host, and for one that has expired.
fn advice(detail: &str) -> &'static str {
    if detail.contains("certificate verify failed") {
        "the brokers' certificate must descend from ssl.ca.location, name the host of kafka.bootstrap (in its \
         subjectAltName), and not have expired: `openssl s_client -connect HOST:PORT` shows it"
    } else if wants_certificate(detail) {
        "the broker wants a certificate of ours that it trusts: check ssl.certificate.location and ssl.key.location, and \
         whether its CA is among the broker's"
    } else if detail.contains("SASL") {
        "check sasl.mechanism, sasl.username and sasl.password, and that this port is one for SASL"
    } else {
        "check security.protocol, and the sasl.* and ssl.* properties"
    }
}

/// Why the publisher could not do something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// A setting that can't be used.
    #[error("kafka setting `{name}`: {why}")]
    Setting {
        /// Its name, ours or librdkafka's.
        name: String,
        /// What is wrong with it, and what to do instead.
        why: String,
    },
    /// librdkafka refused to make a client.
    #[error("make a Kafka client: {0}")]
    Client(String),
    /// No broker answered.
    #[error(
        "reach Kafka at {bootstrap} within {} s: {detail}; check the address, that a broker listens there, and \
         security.protocol",
        waited.as_secs()
    )]
    Unreachable {
        /// The bootstrap addresses.
        bootstrap: String,
        /// How long was waited.
        waited: Duration,
        /// The last thing that the client complained of.
        detail: String,
    },
    /// A broker answered, and does not let us in.
    #[error("log in to Kafka at {bootstrap}: {detail}; {}", advice(detail))]
    Credentials {
        /// The bootstrap addresses.
        bootstrap: String,
        /// What the client said.
        detail: String,
    },
    /// The topic does not exist, and we are not told to create it.
    #[error("topic {topic} does not exist; create it, or have it created (create_topics)")]
    MissingTopic {
        /// Its name.
        topic: String,
    },
    /// The topic could not be looked up, or created.
    #[error("{action} topic {topic}: {code}")]
    Topic {
        /// What was being done.
        action: &'static str,
        /// Its name.
        topic: String,
        /// The broker's, or the client's, answer.
        code: Code,
    },
    /// A record is larger than its topic takes. It was not sent; what came before it was or will be.
    #[error("a record of {size} bytes exceeds the {limit} bytes of topic {topic}")]
    TooLarge {
        /// The topic.
        topic: String,
        /// Key, value and framing, in bytes.
        size: usize,
        /// What the topic takes, in bytes.
        limit: usize,
    },
    /// `send` refused a record.
    #[error("send to partition {partition} of topic {topic}: {code}")]
    Send {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The client's answer.
        code: Code,
    },
    /// A record was given up after it was accepted.
    #[error("deliver to partition {partition} of topic {topic}: {code}")]
    Report {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The broker's, or the client's, answer.
        code: Code,
    },
    /// The producer can't go on.
    #[error("the producer gave up: {reason} ({code})")]
    Fatal {
        /// Why.
        code: Code,
        /// librdkafka's own words.
        reason: String,
    },
    /// Nothing was reported for long, while something was on its way.
    #[error("Kafka has reported nothing for {} s; a new producer is made", lasts.as_secs())]
    Silent {
        /// For how long.
        lasts: Duration,
    },
    /// Waiting for room was broken off by whoever was asked. What is left in the arena will not be sent.
    #[error("waiting for Kafka was broken off")]
    Interrupted,
    /// A range that does not lie in the arena, or a topic of another publisher: a bug of the caller.
    #[error("bug: {0}")]
    Bug(&'static str),
}

impl KafkaError {
    /// One word for metrics: the broker's or the client's code, where there is one.
    pub fn word(&self) -> String {
        match self {
            Self::Topic { code, .. }
            | Self::Send { code, .. }
            | Self::Report { code, .. }
            | Self::Fatal { code, .. } => {
                format!("{code:?}")
            }
            Self::Setting { .. } => "Setting".to_owned(),
            Self::Client(_) => "Client".to_owned(),
            Self::Unreachable { .. } => "Unreachable".to_owned(),
            Self::Credentials { .. } => "Credentials".to_owned(),
            Self::MissingTopic { .. } => "MissingTopic".to_owned(),
            Self::TooLarge { .. } => "TooLarge".to_owned(),
            Self::Silent { .. } => "Silent".to_owned(),
            Self::Interrupted => "Interrupted".to_owned(),
            Self::Bug(_) => "Bug".to_owned(),
        }
    }

    /// The topic that it is about, where it is about one.
    pub fn topic(&self) -> Option<&str> {
        match self {
            Self::MissingTopic { topic }
            | Self::Topic { topic, .. }
            | Self::TooLarge { topic, .. }
            | Self::Send { topic, .. }
            | Self::Report { topic, .. } => Some(topic),
            Self::Setting { .. }
            | Self::Client(_)
            | Self::Unreachable { .. }
            | Self::Credentials { .. }
            | Self::Fatal { .. }
            | Self::Silent { .. }
            | Self::Interrupted
            | Self::Bug(_) => None,
        }
    }

    /// What to do about it.
    pub fn action(&self) -> Action {
        match self {
            // A wrong setting and a vanished thread stay wrong however often one tries: these end the process.
            Self::Setting { .. } | Self::Client(_) | Self::Bug(_) => Action::Hold(HoldReason::Unknown),
            Self::Unreachable { .. } => Action::Absorbed,
            Self::Credentials { .. } => Action::Credentials,
            Self::MissingTopic { .. } => Action::Hold(HoldReason::MissingTopic),
            Self::Topic { code, .. } => classify(Place::Lookup, *code),
            Self::TooLarge { .. } => Action::DeadLetterCandidate,
            Self::Send { code, .. } => classify(Place::Send, *code),
            Self::Report { code, .. } => classify(Place::Report, *code),
            Self::Fatal { .. } | Self::Silent { .. } => Action::Fatal,
            Self::Interrupted => Action::Rewind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTHORIZATION: Action = Action::Hold(HoldReason::Authorization);
    const MISSING: Action = Action::Hold(HoldReason::MissingTopic);
    const UNKNOWN: Action = Action::Hold(HoldReason::Unknown);

    #[test]
    fn every_code_of_the_table_has_its_action() {
        use Code::*;
        use Place::*;
        let table = [
            (Send, QueueFull, Action::Wait),
            (Send, MessageSizeTooLarge, Action::DeadLetterCandidate),
            (Report, MessageSizeTooLarge, Action::Isolate),
            (Report, MessageBatchTooLarge, Action::Isolate),
            (Report, InvalidRecord, Action::Isolate),
            (Report, InvalidMessage, Action::Isolate),
            (Report, InvalidMessageSize, Action::Isolate),
            (Report, InvalidTimestamp, Action::Isolate),
            (Send, TopicAuthorizationFailed, AUTHORIZATION),
            (Report, TopicAuthorizationFailed, AUTHORIZATION),
            (Send, ClusterAuthorizationFailed, AUTHORIZATION),
            (Report, ClusterAuthorizationFailed, AUTHORIZATION),
            (Event, ClusterAuthorizationFailed, AUTHORIZATION),
            (Send, UnknownTopic, MISSING),
            (Report, UnknownTopic, MISSING),
            (Report, UnknownTopicOrPartition, MISSING),
            (Send, UnknownPartition, MISSING),
            (Event, UnknownPartition, Action::Absorbed),
            (Event, UnknownTopicOrPartition, Action::Absorbed),
            (Event, Authentication, Action::Credentials),
            (Event, SSL, Action::Credentials),
            (Report, SaslAuthenticationFailed, Action::Credentials),
            (Event, Fatal, Action::Fatal),
            (Send, Fatal, Action::Fatal),
            (Report, Fatal, Action::Fatal),
            (Report, GaplessGuarantee, Action::Fatal),
            (Report, OutOfOrderSequenceNumber, Action::Fatal),
            (Report, Fenced, Action::Fatal),
            (Report, ProducerFenced, Action::Fatal),
            (Report, InvalidProducerEpoch, Action::Fatal),
            (Report, UnknownProducerId, Action::Fatal),
            (Report, Inconsistent, Action::Fatal),
            (Report, PurgeQueue, Action::Rewind),
            (Report, PurgeInflight, Action::Rewind),
            (Event, BrokerTransportFailure, Action::Absorbed),
            (Event, AllBrokersDown, Action::Absorbed),
            (Event, OperationTimedOut, Action::Absorbed),
            (Event, NotEnoughReplicas, Action::Absorbed),
            (Event, NotEnoughReplicasAfterAppend, Action::Absorbed),
            (Event, KafkaStorageError, Action::Absorbed),
            (Event, LeaderNotAvailable, Action::Absorbed),
            (Event, NotLeaderForPartition, Action::Absorbed),
            (Report, MessageTimedOut, Action::Rewind),
            (Report, BrokerTransportFailure, Action::Rewind),
            (Report, NotEnoughReplicas, Action::Rewind),
            (Report, PolicyViolation, UNKNOWN),
            (Send, InvalidArgument, UNKNOWN),
            (Lookup, Unknown, UNKNOWN),
        ];
        for (place, code, action) in table {
            assert_eq!(classify(place, code), action, "{place:?} {code:?}");
        }
    }

    #[test]
    fn a_refused_login_says_which_side_refused_and_what_to_look_at() {
        let told =
            |detail: &str| KafkaError::Credentials { bootstrap: "k:1".into(), detail: detail.into() }.to_string();
        for (detail, advice) in [
            ("SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker", "subjectAltName"),
            ("Receive failed: ssl/tls alert certificate required: SSL alert number 116", "ssl.certificate.location"),
            ("Receive failed: tlsv1 alert protocol version: SSL alert number 70 (after 1ms)", "security.protocol"),
            ("SASL authentication error: Authentication failed", "sasl.password"),
            ("something else", "security.protocol"),
        ] {
            assert!(told(detail).contains(detail) && told(detail).contains(advice), "{}", told(detail));
        }
    }

    /// No code that comes with a record lets it be passed over.
    #[test]
    fn a_failed_record_is_never_taken_for_absorbed() {
        for number in -200..200 {
            let Ok(code) = rdkafka::types::RDKafkaRespErr::try_from(number) else { continue };
            for place in [Place::Send, Place::Report] {
                assert_ne!(classify(place, Code::from(code)), Action::Absorbed, "{code:?}");
            }
        }
    }
}
