//! The configuration: what was typed, then what is usable.
//!
//! Owns: the keys, where their values come from and which of them counts, and the usable form, which can't be built from
//! a wrong one. Does not own: whether what is configured is there and works (`check`).
//!
//! Every value is text with an origin first (`typed`), whatever layer it comes from: `--set`, environment, file,
//! `cassandra.yaml`, default. Only the text that counts is then read (`usable`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use cassandra_event::{Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};

use crate::catalog::cql::Contact;
use crate::cli::{ConfigArgs, KeyStoreArgs};
use crate::exit::{Exit, Failure};
use crate::filter::Tables;
use crate::kafka::{KafkaError, KafkaSettings};

pub mod keys;
mod reload;
mod sample;
mod typed;
mod units;
mod usable;
mod yaml;

pub use crate::cdc_raw::OnDone;
pub use crate::lifecycle::ReadTo;
pub use crate::observe::log::LogFormat;
pub use reload::Reload;
pub use sample::sample;
pub use typed::{Origin, Setting};
pub(crate) use usable::tls_name;
pub use yaml::Node;

/// The file that is read when none is named, if it exists.
pub const DEFAULT_FILE: &str = "/etc/cassandra-cdc/cassandra-cdc.toml";

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node beside us.
    pub cassandra: Cassandra,
    /// Our own record.
    pub state: State,
    /// Links that keep segments when somebody else deletes them.
    pub spool: Spool,
    /// Where events go, and how they look.
    pub kafka: Kafka,
    /// Where health and metrics are served; `None`: nowhere.
    pub http: Option<SocketAddr>,
    /// What is logged, and how.
    pub log: Log,
}

/// `[cassandra]`.
#[derive(Debug, Clone)]
pub struct Cassandra {
    /// Where Cassandra links its segments.
    pub cdc_raw: PathBuf,
    /// Where Cassandra writes its segments, if that is known: an index without a log may find its log there.
    pub commitlog: Option<PathBuf>,
    /// The node to ask for schema and identity; `None`: the schema file and the log only.
    pub contact: Option<Contact>,
    /// The cluster's name, as configured or in `cassandra.yaml`.
    pub cluster: Option<String>,
    /// The node's host id, as configured.
    pub host_id: Option<String>,
    /// A schema file, to be used before the node is asked, or instead.
    pub schema: Option<PathBuf>,
    /// How far a segment is read that is still written.
    pub read_to: ReadTo,
    /// What follows from damaged bytes.
    pub on_damage: OnDamage,
    /// What becomes of a segment that is done.
    pub on_done: OnDone,
    /// Which tables are wanted.
    pub tables: Tables,
    /// Keys of encrypted segments.
    pub keys: KeyStoreArgs,
    /// What `cassandra.yaml` says.
    pub node: Node,
}

/// What follows from damaged bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDamage {
    /// Keep the segment, stop there, and alert.
    Hold,
    /// Go on behind them, with a gap record.
    Salvage,
}

/// `[state]`.
#[derive(Debug, Clone)]
pub struct State {
    /// The directory of checkpoints, gap records and quarantine.
    pub directory: PathBuf,
    /// The agent's name: part of the checkpoint's identity.
    pub agent: String,
}

/// `[spool]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Whether segments are linked.
    pub enabled: bool,
    /// Where to; beside `cdc_raw`.
    pub directory: PathBuf,
    /// Bytes that only the spool holds, at most.
    pub max_bytes: u64,
    /// Free bytes below which the spool lets go; `None`: 10 % of the file system, or 20 GiB if that is more.
    pub min_free: Option<u64>,
}

/// `[kafka]`.
#[derive(Clone)]
pub struct Kafka {
    /// The publisher's.
    pub settings: KafkaSettings,
    /// How events look, and their topics.
    pub events: Events,
    /// What follows when a topic gets more partitions.
    pub on_partition_change: OnPartitionChange,
    /// The file that more of librdkafka's properties stand in: credentials, which may be replaced at any time.
    pub properties_file: Option<PathBuf>,
    /// The properties that were typed elsewhere: they count before those of the file.
    pub typed_properties: BTreeMap<String, String>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Passwords and keys may be among the properties: only their names are shown.
        f.debug_struct("Kafka")
            .field("settings", &self.settings)
            .field("events", &self.events)
            .field("on_partition_change", &self.on_partition_change)
            .field("properties_file", &self.properties_file)
            .field("typed_properties", &self.typed_properties.keys())
            .finish()
    }
}

impl Kafka {
    /// The publisher's settings, with the file of properties as it is now. Nothing else is read again: a configuration
    /// that was edited, or is wrong, counts when it is taken over.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn settings_now(&self) -> Result<KafkaSettings, KafkaError> {
        let Some(path) = &self.properties_file else { return Ok(self.settings.clone()) };
        let wrong = |why: String| KafkaError::Setting { name: "properties_file".to_owned(), why };
        let text = fs::read_to_string(path).map_err(|error| wrong(format!("read {}: {error}", path.display())))?;
        let mut properties = BTreeMap::new();
        for (line, property) in usable::properties(&text) {
            // A property's first line counts, as at the start.
            let (name, value) = property.ok_or_else(|| wrong(usable::not_a_property(path, line)))?;
            properties.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        properties.extend(self.typed_properties.clone());
        Ok(KafkaSettings { properties, ..self.settings.clone() })
    }
}

/// All of an encoder's settings but who the node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The form of record values.
    pub format: Format,
    /// The form of record keys.
    pub key: KeyFormat,
    /// What one record holds.
    pub unit: Unit,
    /// How JSON values write 64-bit integers.
    pub int64: Int64,
    /// Bytes above which a record is split.
    pub max_record_bytes: usize,
    /// How the topics of tables are named.
    pub topic: TopicTemplate,
    /// The topic of dead letters and gap records.
    pub dead_letter_topic: String,
}

impl Events {
    /// An encoder's settings, on this node.
    pub fn settings(&self, cluster: &str, host_id: &str) -> Settings {
        Settings {
            format: self.format,
            key: self.key,
            unit: self.unit,
            int64: self.int64,
            max_record_bytes: self.max_record_bytes,
            topic: self.topic.clone(),
            dead_letter_topic: self.dead_letter_topic.clone(),
            cluster: cluster.to_owned(),
            host_id: host_id.to_owned(),
        }
    }
}

/// What follows when a topic gets more partitions: keys move, and their order breaks once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPartitionChange {
    /// A warning, and the new number counts.
    Warn,
    /// The old number goes on to count.
    Pin,
    /// Nothing more is published.
    Halt,
}

/// `[log]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// A level, or directives such as `info,cassandra_cdc=debug`.
    pub level: String,
    /// The form of lines.
    pub format: LogFormat,
}

/// A usable configuration, and where each of its values comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Every value that counts, with its origin, in the order of the sample; librdkafka's properties last.
    pub origins: Vec<Setting>,
    /// The file that was read, if there was one.
    pub file: Option<PathBuf>,
}

impl Config {
    /// Reads all layers, and makes the usable form.
    ///
    /// # Errors
    /// What is wrong, all of it, each with file and line or its other origin; the exit code is that of a wrong
    /// configuration, or of a missing permission.
    pub fn load(arguments: &ConfigArgs) -> Result<Loaded, Failure> {
        let environment =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_from(arguments, environment)
    }

    /// [`Self::load`], with this environment.
    ///
    /// # Errors
    /// As there.
    pub fn load_from(
        arguments: &ConfigArgs,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Loaded, Failure> {
        let mut typed = typed::Typed::gather(arguments, environment)?;
        let config = usable::build(&mut typed)?;
        let file = typed.file.take();
        Ok(Loaded { config, origins: typed.into_settings(), file })
    }
}

/// All that is wrong, a line each.
fn wrong(problems: &[impl fmt::Display]) -> Failure {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    Failure::text(Exit::Config, lines.join("\n"))
}

#[cfg(test)]
mod tests;
