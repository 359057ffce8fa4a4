//! The command line.
//!
//! Owns: names, flags and help of every command. Does not own: what they do (`commands`).

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Publishes the commit-log segments of an Apache Cassandra node to Kafka.
#[derive(Debug, Parser)]
#[command(name = "cassandra-cdc", version, about, long_about = LONG_ABOUT, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const LONG_ABOUT: &str = "Publishes the commit-log segments of an Apache Cassandra node to Kafka: every mutation of \
every CDC table, nothing lost, nothing dropped silently. No JVM.

Data goes to stdout, everything else to stderr. Try `cassandra-cdc demo` first: it needs nothing.";

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// The service: publish what Cassandra links into cdc_raw, and delete what is acknowledged
    Run(Box<Run>),
    /// Look at everything the service needs, change nothing, and say what to do about what is wrong
    Check {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Form of the listing
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Ask the running agent how it is: lag, segments, what is held and why, what to do next
    Status {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Form of the listing
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Write, check and show the configuration
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Entries that could not be decoded, kept beside the state
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// The agent's own record of what is done
    #[command(subcommand)]
    State(StateCommand),
    /// See it work: recorded segments go through the whole line into a Kafka inside this process
    Demo,
    /// Publish segments again, or somewhere else; never acknowledges, never touches a running agent's state
    Replay(Box<Replay>),
    /// Show what is in segments: headers, sections, entries, mutations; as much as possible of damaged ones
    Inspect(Inspect),
    /// Fetch and show the schema that segments are decoded with
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page
    Man,
}

/// Where the configuration comes from.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Configuration")]
pub struct ConfigArgs {
    /// Configuration file
    #[arg(long, short, value_name = "FILE", env = "CASSANDRA_CDC_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one key, for example --set kafka.bootstrap=localhost:9092
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
    /// Publish what is there, wait for its acknowledgement, and exit
    #[arg(long)]
    pub once: bool,
    /// Publish nothing and acknowledge nothing: read, decode and count
    #[arg(long)]
    pub dry_run: bool,
    /// Where events go
    #[arg(long, value_enum, default_value_t = SinkKind::Kafka)]
    pub sink: SinkKind,
    /// File to append to with `--sink file`
    #[arg(long, short, value_name = "FILE", required_if_eq("sink", "file"))]
    pub output: Option<PathBuf>,
    /// Print topic, key and value of each record, not the value alone
    #[arg(long)]
    pub envelope: bool,
    /// Acknowledge and delete segments although the sink is not Kafka: --envelope shows dead letters and gaps too
    #[arg(long, requires = "envelope")]
    pub ack: bool,
}

/// `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Write a commented sample
    Init {
        /// File to write, which must not exist; stdout without it
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Say whether the configuration can be used
    Validate {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Show the configuration
    Show {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Every key, with the origin of its value
        #[arg(long)]
        effective: bool,
    },
}

/// `quarantine`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what is kept
    List {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Form of the listing
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show one item whole
    Show {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Its name in the listing
        #[arg(value_name = "NAME")]
        name: String,
    },
    /// Decode items again with today's schema, publish them, and drop those that Kafka has
    Retry {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Names in the listing; all without one
        #[arg(value_name = "NAME")]
        names: Vec<String>,
    },
    /// Drop items for good
    Drop {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Names in the listing
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

/// `state`.
#[derive(Debug, Subcommand)]
pub enum StateCommand {
    /// Show what is recorded
    Show {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
        /// Form of the listing
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Take over the state of another node or agent name: its segments are these
    Adopt {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Set the checkpoints aside: everything present is read and published again
    Reset {
        /// The configuration.
        #[command(flatten)]
        config: ConfigArgs,
    },
}

/// Keys of encrypted segments.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyStoreArgs {
    /// Key store of the node's transparent data encryption, JCEKS or PKCS#12; the alias is in the segment
    #[arg(long, value_name = "FILE", requires = "keystore_password_file", conflicts_with = "key_file")]
    pub keystore: Option<PathBuf>,
    /// File that holds the password of the key store
    #[arg(long, value_name = "FILE", requires = "keystore")]
    pub keystore_password_file: Option<PathBuf>,
    /// File that holds the AES key itself: 16, 24 or 32 bytes, or as many in hex
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// Segment files, or directories with segments
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The schema as JSON of system_schema's rows (`schema pull` makes it); it decides alone. Without it the DDL in the
    /// segments does: they must reach back to where their tables were made
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Where events go
    #[arg(long, value_enum, default_value_t = SinkKind::Kafka)]
    pub sink: SinkKind,
    /// File to write with `--sink file`; must not exist
    #[arg(long, short, value_name = "FILE", required_if_eq("sink", "file"))]
    pub output: Option<PathBuf>,
    /// Print topic, partition, key and value of each record, not the value alone
    #[arg(long)]
    pub envelope: bool,
    /// Partitions of every topic, for the partition in `--envelope`
    #[arg(long, value_name = "N", requires = "envelope", value_parser = clap::value_parser!(u32).range(1..))]
    pub partitions: Option<u32>,
    /// Begin with this segment (id, or id:position), or with changes written at this time (RFC 3339)
    #[arg(long, value_name = "SEGMENT|TIME")]
    pub from: Option<String>,
    /// End with this segment (id, or id:position), or before changes written at this time (RFC 3339)
    #[arg(long, value_name = "SEGMENT|TIME")]
    pub to: Option<String>,
    /// Only these tables: keyspace.table, keyspace.*, or !keyspace.table to leave one out
    #[arg(long = "table", value_name = "PATTERN")]
    pub tables: Vec<String>,
    /// Only this partition: the record key as JSON, for example '{"customer":42}'
    #[arg(long, value_name = "JSON")]
    pub key: Option<String>,
    /// At most so many events a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub rate: Option<u32>,
    /// Count only: nothing is published
    #[arg(long)]
    pub dry_run: bool,
    /// Keep the place in this file, and go on from it if it exists
    #[arg(long, value_name = "FILE", conflicts_with_all = ["dry_run", "output"])]
    pub resume: Option<PathBuf>,
    /// Go on behind damaged bytes
    #[arg(long)]
    pub salvage: bool,
    /// Cluster name in ids and sources
    #[arg(long, value_name = "NAME", default_value = "unknown")]
    pub cluster: String,
    /// Host id in ids and sources
    #[arg(long, value_name = "UUID", default_value = "unknown")]
    pub host_id: String,
    /// Keys of encrypted segments.
    #[command(flatten)]
    pub key_store: KeyStoreArgs,
    /// How events look.
    #[command(flatten)]
    pub events: EventArgs,
    /// Kafka.
    #[command(flatten)]
    pub kafka: KafkaArgs,
}

/// How events look.
#[derive(Debug, Args)]
#[command(next_help_heading = "Events")]
pub struct EventArgs {
    /// Form of record values
    #[arg(long, value_enum, default_value_t = FormatKind::Json)]
    pub format: FormatKind,
    /// Form of record keys
    #[arg(long, value_enum, default_value_t = KeyKind::Json)]
    pub key_format: KeyKind,
    /// One record per mutation and table, or per row
    #[arg(long, value_enum, default_value_t = UnitKind::Mutation)]
    pub unit: UnitKind,
    /// 64-bit integers in JSON values
    #[arg(long, value_enum, default_value_t = Int64Kind::Number)]
    pub int64: Int64Kind,
    /// Name of the topic of a table
    #[arg(long, value_name = "TEMPLATE", default_value = "{prefix}.{keyspace}.{table}")]
    pub topic: String,
    /// What {prefix} stands for
    #[arg(long, value_name = "PREFIX", default_value = "cassandra")]
    pub topic_prefix: String,
    /// Topic of entries that can't be decoded, and of gaps
    #[arg(long, value_name = "TEMPLATE", default_value = "{prefix}.dead-letter")]
    pub dead_letter_topic: String,
    /// Split records above this many bytes
    #[arg(long, value_name = "BYTES", default_value_t = 900 * 1024, value_parser = parse_record_bytes)]
    pub max_record_bytes: usize,
}

fn parse_record_bytes(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(bytes) if bytes >= 4096 => Ok(bytes),
        Ok(_) => Err("at least 4096".to_owned()),
        Err(error) => Err(format!("not a number of bytes: {error}")),
    }
}

/// Kafka.
#[derive(Debug, Args)]
#[command(next_help_heading = "Kafka")]
pub struct KafkaArgs {
    /// Brokers, host:port, separated by commas
    #[arg(long, value_name = "HOSTS", required_if_eq("sink", "kafka"))]
    pub bootstrap: Option<String>,
    /// Any librdkafka property that breaks no promise
    #[arg(long = "property", short = 'X', value_name = "NAME=VALUE")]
    pub properties: Vec<String>,
    /// File of such properties, one NAME=VALUE a line: the place for passwords
    #[arg(long, value_name = "FILE")]
    pub properties_file: Option<PathBuf>,
    /// Create missing topics: partitions,replication
    #[arg(long, value_name = "P,R")]
    pub create_topics: Option<String>,
}

/// `inspect`.
#[derive(Debug, Args)]
pub struct Inspect {
    /// Segment files, or directories with segments
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The schema as JSON of system_schema's rows; it decides alone. Without it the DDL in the segments does
    #[arg(long, value_name = "FILE")]
    pub schema: Option<PathBuf>,
    /// Only entries that touch these tables
    #[arg(long = "table", value_name = "PATTERN")]
    pub tables: Vec<String>,
    /// Show at most so many entries of each segment
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t = InspectOutput::Table)]
    pub output: InspectOutput,
    /// Keys of encrypted segments.
    #[command(flatten)]
    pub key_store: KeyStoreArgs,
}

/// `schema`.
#[derive(Debug, Subcommand)]
pub enum SchemaCommand {
    /// Fetch all of system_schema over CQL
    Pull(SchemaPull),
    /// Show the tables of a schema file
    Show {
        /// The schema as JSON of system_schema's rows
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Only these tables: keyspace.table, keyspace.*, or !keyspace.table to leave one out
        #[arg(long = "table", value_name = "PATTERN")]
        tables: Vec<String>,
        /// Form of the output
        #[arg(long, short, value_enum, default_value_t = Output::Table)]
        output: Output,
    },
    /// Show what differs between two schema files
    Diff {
        /// The earlier one
        before: PathBuf,
        /// The later one
        after: PathBuf,
    },
}

/// `schema pull`.
#[derive(Debug, Args)]
pub struct SchemaPull {
    /// The node, host:port
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:9042")]
    pub contact: String,
    /// File to write; stdout without it
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// User name
    #[arg(long, value_name = "NAME", requires = "password_file")]
    pub user: Option<String>,
    /// File that holds the user's password
    #[arg(long, value_name = "FILE", requires = "user")]
    pub password_file: Option<PathBuf>,
    /// Use TLS, and trust the certificates in this file and no others
    #[arg(long, value_name = "FILE")]
    pub tls_ca: Option<PathBuf>,
    /// The host that the node's certificate names, if not that of --contact
    #[arg(long, value_name = "HOST", requires = "tls_ca", value_parser = crate::config::tls_name)]
    pub tls_name: Option<String>,
    /// Certificate to show, where the node wants one
    #[arg(long, value_name = "FILE", requires = "tls_ca", requires = "tls_key")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    pub tls_key: Option<PathBuf>,
}

/// Where events go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum SinkKind {
    Kafka,
    Stdout,
    File,
}

/// Form of record values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum FormatKind {
    Json,
    Protobuf,
}

/// Form of record keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum KeyKind {
    Json,
    Raw,
}

/// What one record holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum UnitKind {
    Mutation,
    Row,
}

/// How JSON values write 64-bit integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Int64Kind {
    Number,
    String,
}

/// Form of listings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Output {
    Table,
    Json,
    Jsonl,
}

/// Form of what `inspect` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[allow(missing_docs, reason = "the names say it")]
pub enum InspectOutput {
    Table,
    Json,
    Jsonl,
    Hex,
}
