//! From what was typed to what is usable.
//!
//! Owns: what each text means, what is derived from what, and which values can't stand together. Does not own: where
//! texts come from.

use std::fs;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::path::{Component, Path, PathBuf};

use cassandra_event::{Format, Int64, KeyFormat, TopicTemplate, Unit};
use tracing_subscriber::EnvFilter;

use super::keys::LIBRDKAFKA;
use super::typed::{Origin, Typed};
use super::{
    Cassandra, Config, Events, Kafka, Log, LogFormat, Node, OnDamage, OnDone, OnPartitionChange, ReadTo, Spool, State,
    units, wrong,
};
use crate::catalog::cql::{self, Contact, Login};
use crate::catalog::tls::{ClientCertificate, Tls};
use crate::cli::KeyStoreArgs;
use crate::exit::Failure;
use crate::filter::Tables;
use crate::kafka::{KafkaError, KafkaSettings, TopicCreation};

/// What is wrong with a value, with its origin.
type Problem = String;

/// Makes the usable form, and adds what is derived to what was typed.
pub(super) fn build(typed: &mut Typed) -> Result<Config, Failure> {
    let node = read_node(typed)?;
    derive(typed, &node);
    typed.defaults();
    if let Some((path, _)) = typed.get("kafka.properties_file") {
        let path = PathBuf::from(path);
        properties_file(typed, &path)?;
    }
    let cdc_raw = path(typed, "cassandra.cdc_raw").unwrap_or_default();
    let sibling = cdc_raw.with_file_name("cdc_spool").display().to_string();
    typed.fill("spool.directory", sibling, Origin::Derived("cassandra.cdc_raw"));
    let mut problems = Vec::new();
    let spool = keep(spool(typed, &node, &cdc_raw), &mut problems);
    let cassandra = keep(cassandra(typed, node, cdc_raw), &mut problems);
    let state = keep(state(typed), &mut problems);
    let kafka = keep(kafka(typed), &mut problems);
    let http = keep(need(typed, "http.listen", listen), &mut problems);
    let log = keep(log(typed), &mut problems);
    match (cassandra, state, spool, kafka, http, log) {
        (Some(cassandra), Some(state), Some(spool), Some(kafka), Some(http), Some(log)) => {
            Ok(Config { cassandra, state, spool, kafka, http, log })
        }
        _ => Err(wrong(&problems)),
    }
}

fn keep<T>(section: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    section.map_err(|problem| problems.push(problem)).ok()
}

fn read_node(typed: &mut Typed) -> Result<Node, Failure> {
    let named = typed.get("cassandra.yaml").map(|(path, _)| path);
    let Some(path) = Node::find(named) else { return Ok(Node::default()) };
    let node = Node::read(&path).map_err(Failure::config)?;
    typed.fill("cassandra.yaml", path.display().to_string(), Origin::Default);
    Ok(node)
}

/// What `cassandra.yaml` says, below all that was typed.
fn derive(typed: &mut Typed, node: &Node) {
    let Some(yaml) = &node.yaml else { return };
    let directory = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let derived = [
        ("cassandra.cdc_raw", directory(&node.cdc_raw)),
        ("cassandra.commitlog", directory(&node.commitlog)),
        ("cassandra.cluster", node.cluster_name.clone()),
        ("spool.max_bytes", node.cdc_total_space.map(units::size)),
    ];
    for (key, value) in derived {
        if let Some(value) = value {
            typed.fill(key, value, Origin::Yaml(yaml.clone()));
        }
    }
}

/// Properties in a file of their own stand behind all that is typed elsewhere.
fn properties_file(typed: &mut Typed, path: &Path) -> Result<(), Failure> {
    let text = fs::read_to_string(path).map_err(|error| {
        let context = format!("read kafka.properties_file {}", path.display());
        Failure::config(anyhow::Error::from(error).context(context))
    })?;
    for (line, property) in properties(&text) {
        let (name, value) = property.ok_or_else(|| wrong(&[not_a_property(path, line)]))?;
        typed.fill(&format!("{LIBRDKAFKA}{name}"), value.to_owned(), Origin::File(path.to_owned(), line));
    }
    Ok(())
}

/// The properties of a file, with their lines; nothing for a line that is none.
pub(super) fn properties(text: &str) -> impl Iterator<Item = (usize, Option<(&str, &str)>)> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(at, line)| (at, line.split_once('=').map(|(name, value)| (name.trim(), value.trim()))))
}

/// What is wrong with a line of the file of properties. It may be a password: it is not shown.
pub(super) fn not_a_property(path: &Path, line: usize) -> Problem {
    format!("{}:{line}: the line is not NAME=VALUE", path.display())
}

/// The value of a key, if it has one.
fn get<T>(typed: &Typed, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<Option<T>, Problem> {
    let Some((text, origin)) = typed.get(key) else { return Ok(None) };
    read(text).map(Some).map_err(|why| format!("{origin}: {key} = {text:?}: {why}"))
}

/// The value of a key that must have one.
fn need<T>(typed: &Typed, key: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Result<T, Problem> {
    get(typed, key, read)?.ok_or_else(|| format!("{key} is not set: set it in the file, or with --set {key}=VALUE"))
}

/// One of these words.
fn one_of<T: Copy>(words: &[(&str, T)]) -> impl Fn(&str) -> Result<T, String> {
    move |text| {
        let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
        found.ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            format!("write one of {}", words.join(", "))
        })
    }
}

fn text(text: &str) -> Result<String, String> {
    if text.is_empty() { Err("it is empty".to_owned()) } else { Ok(text.to_owned()) }
}

/// The service's working directory is not the shell's in which the configuration was tried.
fn absolute(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    if path.is_absolute() { Ok(path) } else { Err("write an absolute path".to_owned()) }
}

fn path(typed: &Typed, key: &str) -> Option<PathBuf> {
    get(typed, key, absolute).ok().flatten()
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(ToOwned::to_owned).collect()
}

fn cassandra(typed: &Typed, node: Node, cdc_raw: PathBuf) -> Result<Cassandra, Problem> {
    need(typed, "cassandra.cdc_raw", absolute)?;
    let read_to = [("synced", ReadTo::Synced), ("marked", ReadTo::Marked), ("written", ReadTo::Written)];
    let on_damage = [("hold", OnDamage::Hold), ("salvage", OnDamage::Salvage)];
    let tables = |text: &str| Tables::parse(&list(text)).map_err(|failure| failure.to_string());
    Ok(Cassandra {
        cdc_raw,
        commitlog: get(typed, "cassandra.commitlog", absolute)?,
        contact: contact(typed)?,
        cluster: get(typed, "cassandra.cluster", text)?,
        host_id: get(typed, "cassandra.host_id", host_id)?,
        schema: get(typed, "cassandra.schema", absolute)?,
        read_to: need(typed, "cassandra.read_to", one_of(&read_to))?,
        on_damage: need(typed, "cassandra.on_damage", one_of(&on_damage))?,
        on_done: need(typed, "cassandra.on_done", on_done)?,
        tables: need(typed, "cassandra.tables", tables)?,
        keys: keys(typed)?,
        node,
    })
}

fn contact(typed: &Typed) -> Result<Option<Contact>, Problem> {
    let user = get(typed, "cassandra.user", text)?;
    let password_file = get(typed, "cassandra.password_file", absolute)?;
    let login = match (user, password_file) {
        (Some(user), Some(password_file)) => Some(Login { user, password_file }),
        (Some(_), None) => return Err("cassandra.user is set: cassandra.password_file must be too".to_owned()),
        (None, _) => None,
    };
    let tls = tls(typed)?;
    let address = |text: &str| match cql::is_address(text) {
        true => Ok(text.to_owned()),
        false => Err("write host:port".to_owned()),
    };
    Ok(get(typed, "cassandra.contact", address)?.map(|address| Contact { address, login, tls }))
}

fn tls(typed: &Typed) -> Result<Option<Tls>, Problem> {
    let name = get(typed, "cassandra.tls_name", tls_name)?;
    let certificate_file = get(typed, "cassandra.tls_certificate", absolute)?;
    let key_file = get(typed, "cassandra.tls_key", absolute)?;
    let identity = match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => Some(ClientCertificate { certificate_file, key_file }),
        (None, None) => None,
        _ => return Err("cassandra.tls_certificate and cassandra.tls_key go together: set both".to_owned()),
    };
    match get(typed, "cassandra.tls_ca", absolute)? {
        Some(ca_file) => Ok(Some(Tls { ca_file, name, identity })),
        None if name.is_some() || identity.is_some() => {
            Err("cassandra.tls_name, tls_certificate and tls_key count only with cassandra.tls_ca: set it too"
                .to_owned())
        }
        None => Ok(None),
    }
}

/// The name that a node's certificate must have.
pub(crate) fn tls_name(text: &str) -> Result<String, String> {
    let is_pattern = text.starts_with('.') || text.contains(|c: char| c == '*' || c.is_whitespace());
    if text.is_empty() || text.parse::<IpAddr>().is_ok() || is_pattern {
        return Err("write a host's name, as it is in the certificate; an address belongs in the contact".to_owned());
    }
    Ok(text.to_owned())
}

/// In the form in which Cassandra gives it: another spelling of the same id would make other event ids.
fn host_id(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.split('-').collect();
    let is_hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if parts.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && parts.iter().all(is_hex) {
        return Ok(text.to_owned());
    }
    Err("write the host id as `nodetool info` does: 8-4-4-4-12 lower-case hex digits".to_owned())
}

fn on_done(text: &str) -> Result<OnDone, String> {
    match text.split_once(char::is_whitespace) {
        None if text == "delete" => Ok(OnDone::Delete),
        Some(("move", directory)) => absolute(directory.trim()).map(OnDone::Move),
        _ => Err("write \"delete\" or \"move DIR\"".to_owned()),
    }
}

fn keys(typed: &Typed) -> Result<KeyStoreArgs, Problem> {
    let keystore = get(typed, "cassandra.keystore", absolute)?;
    let key_file = get(typed, "cassandra.key_file", absolute)?;
    let password = get(typed, "cassandra.keystore_password_file", absolute)?;
    match (&keystore, &password, &key_file) {
        (Some(_), _, Some(_)) => {
            Err("cassandra.keystore and cassandra.key_file are set: only one can count".to_owned())
        }
        (Some(_), None, None) => {
            Err("cassandra.keystore is set: cassandra.keystore_password_file must be too".to_owned())
        }
        // A password alone is of no use, but a credential may be there for all machines.
        _ => Ok(KeyStoreArgs { keystore, keystore_password_file: password, key_file }),
    }
}

fn state(typed: &Typed) -> Result<State, Problem> {
    let agent = |text: &str| {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
        let good = !text.is_empty() && text.len() <= 64 && text.bytes().all(legal);
        if good { Ok(text.to_owned()) } else { Err("write up to 64 letters, digits, _ and -".to_owned()) }
    };
    Ok(State { directory: need(typed, "state.directory", absolute)?, agent: need(typed, "state.agent", agent)? })
}

fn spool(typed: &Typed, node: &Node, cdc_raw: &Path) -> Result<Spool, Problem> {
    let choice = [("auto", node.cdc_block_writes == Some(false)), ("true", true), ("false", false)];
    let outside = |text: &str| {
        let path = absolute(text)?;
        if path.components().any(|part| part == Component::ParentDir) {
            return Err("write it without `..`".to_owned());
        }
        if path.starts_with(cdc_raw) {
            return Err(
                "it is inside cdc_raw, where Cassandra counts it against cdc_total_space; choose a sibling".into()
            );
        }
        Ok(path)
    };
    let floor = |text: &str| if text == "auto" { Ok(None) } else { units::bytes(text).map(Some) };
    Ok(Spool {
        enabled: need(typed, "spool.enabled", one_of(&choice))?,
        directory: need(typed, "spool.directory", outside)?,
        max_bytes: need(typed, "spool.max_bytes", units::bytes)?,
        min_free: need(typed, "spool.min_free", floor)?,
    })
}

fn kafka(typed: &Typed) -> Result<Kafka, Problem> {
    let changes =
        [("warn", OnPartitionChange::Warn), ("pin", OnPartitionChange::Pin), ("halt", OnPartitionChange::Halt)];
    let no_headers = |text: &str| {
        let why = "records have no headers yet: write [], or leave it out";
        if text.is_empty() || text == "[]" { Ok(()) } else { Err(why.to_owned()) }
    };
    need(typed, "kafka.headers", no_headers)?;
    let number = |text: &str| text.parse::<u32>().map_err(|_| "write a number".to_owned());
    let events = events(typed)?;
    let settings = KafkaSettings {
        bootstrap: need(typed, "kafka.bootstrap", text)?,
        max_record_bytes: events.max_record_bytes,
        queue_messages: need(typed, "kafka.queue_messages", number)?,
        queue_bytes: need(typed, "kafka.queue_bytes", units::bytes)?,
        create_topics: need(typed, "kafka.create_topics", topic_creation)?,
        properties: typed.properties().map(|(name, value, _)| (name.to_owned(), value.to_owned())).collect(),
        ..KafkaSettings::default()
    };
    settings.check().map_err(|error| with_origin(typed, &error))?;
    let properties_file = get(typed, "kafka.properties_file", absolute)?;
    let elsewhere =
        |origin: &Origin| !matches!(origin, Origin::File(path, _) if Some(path) == properties_file.as_ref());
    let typed_properties = typed.properties().filter(|(.., origin)| elsewhere(origin));
    let typed_properties = typed_properties.map(|(name, value, _)| (name.to_owned(), value.to_owned())).collect();
    Ok(Kafka {
        settings,
        events,
        on_partition_change: need(typed, "kafka.on_partition_change", one_of(&changes))?,
        properties_file,
        typed_properties,
    })
}

/// The publisher names its setting, and we know where that was typed.
fn with_origin(typed: &Typed, error: &KafkaError) -> Problem {
    let KafkaError::Setting { name, why } = error else { return error.to_string() };
    for key in [format!("{LIBRDKAFKA}{name}"), format!("kafka.{name}")] {
        if let Some((_, origin)) = typed.get(&key) {
            return format!("{origin}: {key}: {why}");
        }
    }
    error.to_string()
}

fn events(typed: &Typed) -> Result<Events, Problem> {
    let prefix = need(typed, "kafka.prefix", text)?;
    let template = |text: &str| TopicTemplate::new(text, &prefix).map_err(|error| error.to_string());
    let record = |text: &str| match usize::try_from(units::bytes(text)?) {
        Ok(bytes) if bytes >= 4096 => Ok(bytes),
        _ => Err("at least 4KiB".to_owned()),
    };
    Ok(Events {
        format: need(typed, "kafka.format", one_of(&[("json", Format::Json), ("protobuf", Format::Protobuf)]))?,
        key: need(typed, "kafka.key", one_of(&[("json", KeyFormat::Json), ("raw", KeyFormat::Raw)]))?,
        unit: need(typed, "kafka.unit", one_of(&[("mutation", Unit::Mutation), ("row", Unit::Row)]))?,
        int64: need(typed, "kafka.int64", one_of(&[("number", Int64::Number), ("string", Int64::String)]))?,
        max_record_bytes: need(typed, "kafka.max_record_bytes", record)?,
        topic: need(typed, "kafka.topic", template)?,
        dead_letter_topic: need(typed, "kafka.dead_letter_topic", template)?.topic("", ""),
    })
}

fn topic_creation(text: &str) -> Result<Option<TopicCreation>, String> {
    if text == "false" {
        return Ok(None);
    }
    let number = |text: &str| text.trim().parse::<i32>().ok().filter(|number| *number > 0);
    let both = text.split_once(',').and_then(|(partitions, replication)| {
        Some(TopicCreation { partitions: number(partitions)?, replication: number(replication)? })
    });
    both.map(Some)
        .ok_or_else(|| "write false, or { partitions = 12, replication = 3 } (outside of a file: 12,3)".to_owned())
}

fn listen(text: &str) -> Result<Option<SocketAddr>, String> {
    if text == "off" {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| "write an IP address and a port, such as 127.0.0.1:9470, or off".to_owned())
}

fn log(typed: &Typed) -> Result<Log, Problem> {
    let level = |text: &str| match EnvFilter::try_new(text) {
        Ok(_) if !text.is_empty() => Ok(text.to_owned()),
        _ => Err("write error, warn, info, debug or trace, or directives".to_owned()),
    };
    let formats = [
        ("auto", LogFormat::Auto),
        ("text", LogFormat::Text),
        ("json", LogFormat::Json),
        ("journald", LogFormat::Journald),
    ];
    Ok(Log { level: need(typed, "log.level", level)?, format: need(typed, "log.format", one_of(&formats))? })
}
