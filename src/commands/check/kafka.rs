//! Kafka: whether it is there, lets us in, and lets us produce.
//!
//! Owns: what its client's complaints mean to an operator. Does not own: asking (`kafka`), the topics (`topics`).

use std::time::Duration;

use cassandra_commitlog::Schema;

use super::{Report, topics};
use crate::config::Config;
use crate::kafka::{KafkaError, examine};

const KAFKA: &str = "Kafka";

/// For each answer of a broker.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What the client says, and what to do about it. The first that fits counts. Its words are the only sign of the cause:
/// most of these come under one code.
const FIXES: &[(&[&str], &str)] = &[
    (
        &["timed out", "no route", "unreachable", "no answer"],
        "correct kafka.bootstrap, or open the way to it: a firewall or a route is missing",
    ),
    (
        &["connecting to a ssl listener"],
        "set security.protocol to ssl, or to sasl_ssl if there is a login: this port seems to talk TLS",
    ),
    (
        &["might require sasl", "in state up"],
        "set security.protocol to sasl_ssl or sasl_plaintext, with sasl.mechanism, sasl.username and sasl.password in \
         the file of kafka.properties_file: the broker hangs up on who does not log in",
    ),
    (
        // Before what follows: it comes in the same state.
        &["ssl alert number"],
        "set ssl.certificate.location and ssl.key.location to a certificate that the broker trusts",
    ),
    (
        // A broker's TLS alert, read as the length of an answer; or it just hangs up before the first one.
        &["invalid response size", "in state apiversion_query"],
        "set security.protocol to ssl, or to sasl_ssl if there is a login: this port seems to talk TLS",
    ),
    (
        // A broker that takes a TLS greeting for a request that is too long either answers or just hangs up.
        &[
            "connecting to a plaintext broker listener",
            "wrong version number",
            "packet length too long",
            "ssl connection closed",
        ],
        "set security.protocol to plaintext, or to sasl_plaintext, or name the broker's TLS port in kafka.bootstrap: \
         this port talks no TLS",
    ),
    (
        &["hostname mismatch", "ip address mismatch"],
        "name the broker in kafka.bootstrap as its certificate does, or have that name added to the certificate",
    ),
    (&["certificate has expired", "certificate expired"], "renew the certificate that has expired, and look again"),
    (
        &["certificate verify failed", "unable to get local issuer", "self-signed certificate"],
        "set ssl.ca.location to the certificate of the authority that signed the broker's; if it is that one, name the \
         broker in kafka.bootstrap as its certificate does, and look whether that has expired: `openssl s_client \
         -connect HOST:PORT` shows it",
    ),
    (
        &["unsupported sasl mechanism", "supported mechanisms", "enabled mechanisms"],
        "set sasl.mechanism to one that the broker has enabled",
    ),
    (
        &["sasl", "authentication"],
        "correct sasl.username, and sasl.password in the file of kafka.properties_file; the broker's log says more",
    ),
    (&["failed to resolve"], "correct the host name in kafka.bootstrap, or have it resolved (/etc/hosts, DNS)"),
    (&["connection refused"], "start Kafka, or correct the port in kafka.bootstrap"),
];

const ELSE: &str = "check kafka.bootstrap, security.protocol and the credentials in kafka.properties_file";

pub(super) fn look(config: &Config, schema: Option<&Schema>, report: &mut Report) {
    let kafka = &config.kafka;
    let mut settings = kafka.settings.clone();
    settings.lookup_timeout = TIMEOUT;
    let examined = match examine(&settings, &topics::names(config, schema)) {
        Ok(examined) => examined,
        Err(error) => {
            return report.fail(KAFKA, found(&error), fix_of(&error));
        }
    };
    match &examined.refused {
        None => report.ok(KAFKA, settings.bootstrap),
        Some(reason) => report.fail(
            KAFKA,
            format!("it lets us produce nothing: {reason}"),
            "grant the agent's user WRITE and DESCRIBE on the topics: kafka-acls.sh --add --producer --topic TOPIC \
             --allow-principal User:NAME",
        ),
    }
    topics::look(&examined.topics, kafka, report);
}

/// An error without advice: the fix gives it.
fn found(error: &KafkaError) -> String {
    match error {
        KafkaError::Unreachable { bootstrap, waited, detail } => {
            format!("{bootstrap} does not answer within {} s: {}", waited.as_secs(), plain(detail))
        }
        KafkaError::Credentials { bootstrap, detail } => {
            format!("{bootstrap} does not let us in: {}", plain(detail))
        }
        other => other.to_string(),
    }
}

/// The client's words without its own bookkeeping: `host:port/bootstrap: … (after 3ms in state CONNECT)`.
fn plain(detail: &str) -> &str {
    let end = detail.find(" (after ").unwrap_or(detail.len());
    let detail = detail.get(..end).unwrap_or(detail);
    detail.split_once("/bootstrap: ").map_or(detail, |(_, words)| words)
}

fn fix_of(error: &KafkaError) -> &'static str {
    let (KafkaError::Unreachable { detail, .. } | KafkaError::Credentials { detail, .. }) = error else { return ELSE };
    let detail = detail.to_lowercase();
    let fix = FIXES.iter().find(|(words, _)| words.iter().any(|words| detail.contains(words)));
    fix.map_or(ELSE, |(_, fix)| fix)
}
