//! The keys: names, defaults, and what the sample says of each.
//!
//! Owns: which keys there are, and which of them a running agent takes over. Does not own: what their values mean
//! (`usable`).

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// `section.name`.
    pub name: &'static str,
    /// What counts when nothing is said; `None`: it stays unset, or is derived.
    pub default: Option<&'static str>,
    /// The value in the sample, as TOML.
    pub sample: &'static str,
    /// Whether a running agent takes a new value over.
    pub reload: bool,
    /// What the sample says of it.
    pub help: &'static str,
}

impl Key {
    /// The section.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }

    /// The name inside its section.
    pub fn short(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, short)| short)
    }
}

/// The sections, in the order of the sample, and what each is about.
pub const SECTIONS: [(&str, &str); 6] = [
    ("cassandra", "The node beside the agent."),
    ("state", "The agent's own record of what is done."),
    ("spool", "Hard links that keep segments when somebody else deletes them."),
    ("kafka", "Where events go, and how they look."),
    ("http", "Health and metrics: /livez /readyz /statusz /metrics."),
    ("log", "Log lines, on stderr or in the journal."),
];

/// What the names of librdkafka's properties begin with.
pub const LIBRDKAFKA: &str = "kafka.librdkafka.";

/// A key that needs a restart.
const fn key(name: &'static str, default: Option<&'static str>, sample: &'static str, help: &'static str) -> Key {
    Key { name, default, sample, reload: false, help }
}

/// A key whose new value a running agent takes over.
const fn live(name: &'static str, default: Option<&'static str>, sample: &'static str, help: &'static str) -> Key {
    Key { name, default, sample, reload: true, help }
}

/// The key of this name.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// All keys but librdkafka's, in the order of the sample.
pub const KEYS: &[Key] = &[
    key(
        "cassandra.yaml",
        None,
        "\"/etc/cassandra/cassandra.yaml\"",
        "Directories, limits and modes are read from it. Without this key: /etc/cassandra/cassandra.yaml or\n\
         /etc/cassandra/conf/cassandra.yaml, if there is one.",
    ),
    key(
        "cassandra.cdc_raw",
        Some("/var/lib/cassandra/cdc_raw"),
        "\"/var/lib/cassandra/cdc_raw\"",
        "Where Cassandra links its segments (cdc_raw_directory in cassandra.yaml).",
    ),
    key(
        "cassandra.commitlog",
        None,
        "\"/var/lib/cassandra/commitlog\"",
        "Where Cassandra writes them (commitlog_directory): an index without a log may find its log there.",
    ),
    key(
        "cassandra.contact",
        None,
        "\"127.0.0.1:9042\"",
        "CQL address of this node, for schema and identity. Without it: schema, host_id and cluster below.",
    ),
    live("cassandra.user", None, "\"cdc\"", "Who asks. The user needs SELECT on system and system_schema, no more."),
    live(
        "cassandra.password_file",
        None,
        "\"/etc/cassandra-cdc/cassandra-password\"",
        "File that holds the password. Default: the systemd credential cassandra-password.",
    ),
    live(
        "cassandra.tls_ca",
        None,
        "\"/etc/cassandra-cdc/ca.pem\"",
        "Use TLS, and trust the certificates in this file (PEM) and no others.",
    ),
    live(
        "cassandra.tls_name",
        None,
        "\"node1.example.org\"",
        "The host that the node's certificate names. Default: the host or address of cassandra.contact.",
    ),
    live(
        "cassandra.tls_certificate",
        None,
        "\"/etc/cassandra-cdc/client.pem\"",
        "Certificate to show, with those between it and its CA (PEM), where the node wants one.",
    ),
    live(
        "cassandra.tls_key",
        None,
        "\"/etc/cassandra-cdc/client.key\"",
        "Its private key (PEM, without a passphrase).",
    ),
    key(
        "cassandra.host_id",
        None,
        "\"00000000-0000-0000-0000-000000000000\"",
        "The node's host id, where there is no contact.",
    ),
    key("cassandra.cluster", None, "\"Test Cluster\"", "The cluster's name (cluster_name)."),
    key(
        "cassandra.schema",
        None,
        "\"/etc/cassandra-cdc/schema.json\"",
        "A schema file (`cassandra-cdc schema pull` makes it), used before the contact is asked, or instead.",
    ),
    key(
        "cassandra.read_to",
        Some("synced"),
        "\"synced\"",
        "How far a growing segment is read. synced: what is on the node's disk. marked: earlier, but a crash of the\n\
         machine can take back what was published. written: at once, but a kill of Cassandra can too. The last two want\n\
         plain segments; others are read as with synced.",
    ),
    key(
        "cassandra.on_damage",
        Some("hold"),
        "\"hold\"",
        "Damaged bytes in a segment. hold: keep it, stop there, alert. salvage: go on behind them, with a gap record.",
    ),
    key(
        "cassandra.on_done",
        Some("delete"),
        "\"delete\"",
        "A segment that Kafka has whole: \"delete\", or \"move DIR\".",
    ),
    live(
        "cassandra.tables",
        Some(""),
        "[\"shop.*\", \"!shop.secret\"]",
        "Tables to publish: keyspace.table, keyspace.*, or !keyspace.table to leave one out. Default: every table with\n\
         cdc = true.",
    ),
    key(
        "cassandra.keystore",
        None,
        "\"/etc/cassandra/conf/.keystore\"",
        "Key store of encrypted commit logs, JCEKS or PKCS#12.",
    ),
    key(
        "cassandra.keystore_password_file",
        None,
        "\"/etc/cassandra-cdc/keystore-password\"",
        "File that holds its password. Default: the systemd credential keystore-password.",
    ),
    key("cassandra.key_file", None, "\"/etc/cassandra-cdc/key\"", "The AES key itself, instead of a key store."),
    key(
        "state.directory",
        Some("/var/lib/cassandra-cdc"),
        "\"/var/lib/cassandra-cdc\"",
        "Checkpoints, gap records and quarantine; mode 0700.",
    ),
    key("state.agent", Some("default"), "\"default\"", "This agent's name, where one node has several."),
    key(
        "spool.directory",
        None,
        "\"/var/lib/cassandra/cdc_spool\"",
        "On the file system and mount of cdc_raw, and not inside it. Default: cdc_spool beside cdc_raw.",
    ),
    key(
        "spool.enabled",
        Some("auto"),
        "\"auto\"",
        "auto: when Cassandra deletes segments itself (cdc_block_writes: false). true, false.",
    ),
    live(
        "spool.max_bytes",
        Some("4GiB"),
        "\"4GiB\"",
        "What only the spool holds, at most; beyond it the oldest goes, with a gap record. Default: cdc_total_space.",
    ),
    live(
        "spool.min_free",
        Some("auto"),
        "\"20GiB\"",
        "Free bytes below which the spool lets go. auto: 10 % of the file system, or 20 GiB if that is more.",
    ),
    key(
        "kafka.bootstrap",
        None,
        "\"localhost:9092\"",
        "Brokers, host:port, separated by commas. The one key that must be set.",
    ),
    key(
        "kafka.topic",
        Some("{prefix}.{keyspace}.{table}"),
        "\"{prefix}.{keyspace}.{table}\"",
        "Name of the topic of a table.",
    ),
    key("kafka.prefix", Some("cassandra"), "\"cassandra\"", "What {prefix} stands for."),
    key(
        "kafka.dead_letter_topic",
        Some("{prefix}.dead-letter"),
        "\"{prefix}.dead-letter\"",
        "Topic of what can't be decoded, and of gaps.",
    ),
    key("kafka.format", Some("json"), "\"json\"", "Form of record values: json, protobuf."),
    key(
        "kafka.key",
        Some("json"),
        "\"json\"",
        "Form of record keys: json, raw (Cassandra's serialised partition key).",
    ),
    key("kafka.unit", Some("mutation"), "\"mutation\"", "What one record holds: mutation, row."),
    key("kafka.int64", Some("number"), "\"number\"", "64-bit integers in JSON values: number, string."),
    key(
        "kafka.create_topics",
        Some("false"),
        "false",
        "Whether missing topics are made: false, or { partitions = 12, replication = 3 }.",
    ),
    key("kafka.headers", Some(""), "[]", "Record headers. There are none yet: only an empty list is taken."),
    key("kafka.max_record_bytes", Some("900KiB"), "\"900KiB\"", "Records above this are split."),
    key("kafka.queue_messages", Some("20000"), "20000", "Records that the Kafka client may hold."),
    key("kafka.queue_bytes", Some("64MiB"), "\"64MiB\"", "Bytes that the Kafka client may hold."),
    key(
        "kafka.on_partition_change",
        Some("warn"),
        "\"warn\"",
        "A topic gets more partitions, so that keys move: warn (and go on), pin (the old number counts), halt.",
    ),
    live(
        "kafka.properties_file",
        None,
        "\"/etc/cassandra-cdc/kafka.properties\"",
        "File of librdkafka properties, NAME=VALUE a line: the place for passwords. Default: the systemd credential\n\
         kafka.properties.",
    ),
    key("http.listen", Some("127.0.0.1:9470"), "\"127.0.0.1:9470\"", "IP address and port, or \"off\"."),
    live(
        "log.level",
        Some("info"),
        "\"info\"",
        "error, warn, info, debug, trace, or directives: \"info,cassandra_cdc::kafka=debug\".",
    ),
    key("log.format", Some("auto"), "\"auto\"", "auto (journald under systemd, else text), text, json, journald."),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_has_a_section_and_stands_once() {
        for (at, key) in KEYS.iter().enumerate() {
            assert!(SECTIONS.iter().any(|(section, _)| *section == key.section()), "{}", key.name);
            assert_eq!(KEYS.iter().position(|other| other.name == key.name), Some(at));
            assert!(!key.help.is_empty() && !key.sample.is_empty());
        }
    }
}
