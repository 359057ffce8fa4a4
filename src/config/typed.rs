//! What was typed: the text of each key, from the first of the layers that has it.
//!
//! Owns: the layers, refusing unknown keys with a suggestion, and refusing secrets where everybody can read them.
//! Does not own: whether a text can be used (`usable`).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS, LIBRDKAFKA, SECTIONS};
use super::units::nearest;
use super::wrong;
use crate::cli::ConfigArgs;
use crate::exit::Failure;
use crate::kafka::is_secret;

/// What the names of our variables begin with.
const VARIABLES: &str = "CASSANDRA_CDC_";

/// Keys whose file may be a systemd credential, and the credential's name.
const CREDENTIALS: [(&str, &str); 3] = [
    ("cassandra.password_file", "cassandra-password"),
    ("cassandra.keystore_password_file", "keystore-password"),
    ("kafka.properties_file", "kafka.properties"),
];

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// `--set`.
    Set,
    /// This environment variable.
    Environment(String),
    /// This line of this file.
    File(PathBuf, usize),
    /// The systemd credential in this file.
    Credential(PathBuf),
    /// This `cassandra.yaml`, or Cassandra's default for it.
    Yaml(PathBuf),
    /// The value of this key.
    Derived(&'static str),
    /// The default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Set => f.write_str("--set"),
            Self::Environment(name) => f.write_str(name),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Credential(path) | Self::Yaml(path) => write!(f, "{}", path.display()),
            Self::Derived(key) => write!(f, "derived from {key}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and its origin.
#[derive(Clone, PartialEq, Eq)]
pub struct Setting {
    /// `section.name`, or `kafka.librdkafka.` and the property.
    pub key: String,
    /// Where it comes from.
    pub origin: Origin,
    text: String,
}

impl Setting {
    /// The value as it may be shown: of a secret only that it is there.
    pub fn shown(&self) -> &str {
        if is_secret_key(&self.key) { "********" } else { &self.text }
    }

    /// The value itself.
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {:?} ({})", self.key, self.shown(), self.origin)
    }
}

fn is_secret_key(key: &str) -> bool {
    key.strip_prefix(LIBRDKAFKA).is_some_and(is_secret)
}

/// The values that count so far. Layers are added from the strongest to the weakest: what is there already stays.
pub(super) struct Typed {
    values: BTreeMap<String, (String, Origin)>,
    /// The configuration file that was read.
    pub(super) file: Option<PathBuf>,
}

impl Typed {
    /// All that was typed: command line, environment, file, credentials.
    pub(super) fn gather(
        arguments: &ConfigArgs,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, Failure> {
        let mut typed = Self { values: BTreeMap::new(), file: None };
        let mut problems = Vec::new();
        // A later --set of the same key counts.
        for text in arguments.set.iter().rev() {
            typed.argument(text).unwrap_or_else(|problem| problems.push(problem));
        }
        let mut credentials = None;
        for (name, value) in environment {
            if name == "CREDENTIALS_DIRECTORY" {
                credentials = Some(PathBuf::from(&value));
            }
            typed.variable(&name, value).unwrap_or_else(|problem| problems.push(problem));
        }
        if let Some((path, text)) = read_file(arguments)? {
            typed.document(&path, &text, &mut problems);
            typed.file = Some(path);
        }
        if !problems.is_empty() {
            return Err(wrong(&problems));
        }
        typed.credentials(credentials.as_deref());
        Ok(typed)
    }

    /// Sets a key that is not set yet.
    pub(super) fn fill(&mut self, key: &str, text: String, origin: Origin) {
        self.values.entry(key.to_owned()).or_insert((text, origin));
    }

    /// The text of a key, and its origin.
    pub(super) fn get(&self, key: &str) -> Option<(&str, &Origin)> {
        self.values.get(key).map(|(text, origin)| (text.as_str(), origin))
    }

    /// librdkafka's properties.
    pub(super) fn properties(&self) -> impl Iterator<Item = (&str, &str, &Origin)> {
        self.values
            .iter()
            .filter_map(|(key, (text, origin))| Some((key.strip_prefix(LIBRDKAFKA)?, text.as_str(), origin)))
    }

    /// All values, in the order of the sample, librdkafka's last.
    pub(super) fn into_settings(self) -> Vec<Setting> {
        let place = |key: &str| KEYS.iter().position(|known| known.name == key).unwrap_or(KEYS.len());
        let setting = |(key, (text, origin))| Setting { key, origin, text };
        let mut settings: Vec<Setting> = self.values.into_iter().map(setting).collect();
        settings.sort_by_key(|setting| place(&setting.key));
        settings
    }

    fn argument(&mut self, text: &str) -> Result<(), String> {
        let Some((key, value)) = text.split_once('=') else {
            let name: String = text.chars().take_while(|c| c.is_ascii_alphanumeric() || "._".contains(*c)).collect();
            return Err(format!("--set {name}: write SECTION.KEY=VALUE"));
        };
        let key = key.trim();
        let told = |problem| format!("--set {key}: {problem}");
        known(key).map_err(told)?;
        if is_secret_key(key) {
            return Err(told(
                "everybody can read a command line; put it in the file of kafka.properties_file".to_owned(),
            ));
        }
        self.fill(key, value.trim().to_owned(), Origin::Set);
        Ok(())
    }

    fn variable(&mut self, name: &str, value: String) -> Result<(), String> {
        let Some(rest) = name.strip_prefix(VARIABLES) else { return Ok(()) };
        // CASSANDRA_CDC_CONFIG, and what container platforms make of a service called cassandra-cdc, are no keys.
        let Some((section, short)) = rest.split_once('_') else { return Ok(()) };
        let (section, short) = (section.to_ascii_lowercase(), short.to_ascii_lowercase());
        if !SECTIONS.iter().any(|(known, _)| *known == section) {
            return Ok(());
        }
        let key = match short.strip_prefix("librdkafka_").filter(|_| section == "kafka") {
            Some(property) => format!("{LIBRDKAFKA}{}", property.replace('_', ".")),
            None => format!("{section}.{short}"),
        };
        known(&key).map_err(|problem| format!("{name}: {problem}"))?;
        if is_secret_key(&key) {
            return Err(format!("{name}: secrets come from files; put it in the file of kafka.properties_file"));
        }
        self.fill(&key, value.trim().to_owned(), Origin::Environment(name.to_owned()));
        Ok(())
    }

    fn document(&mut self, path: &Path, text: &str, problems: &mut Vec<String>) {
        let line = |at: usize| text.get(..at).map_or(1, |before| before.matches('\n').count() + 1);
        let document = match DeTable::parse(text) {
            Ok(document) => document,
            Err(error) => {
                // The error's own text quotes the line, which may hold a secret.
                let at = error.span().map_or(1, |span| line(span.start));
                problems.push(format!("{}:{at}: {}", path.display(), error.message()));
                return;
            }
        };
        let mut found = Vec::new();
        for (section, value) in document.get_ref() {
            flatten(section, value, &mut found);
        }
        for (key, at, value) in found {
            let at = line(at);
            let told = |problem: String| format!("{}:{at}: {problem}", path.display());
            match known(&key).and_then(|()| value.map_err(|kind| format!("{key} can't be {kind}"))) {
                Ok(text) => self.fill(&key, text, Origin::File(path.to_owned(), at)),
                Err(problem) => problems.push(told(problem)),
            }
        }
    }

    fn credentials(&mut self, folder: Option<&Path>) {
        let Some(folder) = folder else { return };
        for (key, name) in CREDENTIALS {
            let path = folder.join(name);
            if path.is_file() {
                self.fill(key, path.display().to_string(), Origin::Credential(path.clone()));
            }
        }
    }

    /// Adds the defaults of the keys.
    pub(super) fn defaults(&mut self) {
        for key in KEYS {
            if let Some(default) = key.default {
                self.fill(key.name, default.to_owned(), Origin::Default);
            }
        }
    }
}

fn read_file(arguments: &ConfigArgs) -> Result<Option<(PathBuf, String)>, Failure> {
    let path = arguments.config.as_deref().unwrap_or(Path::new(super::DEFAULT_FILE));
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some((path.to_owned(), text))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && arguments.config.is_none() => Ok(None),
        Err(error) => {
            let context = format!("read configuration file {}", path.display());
            Err(Failure::config(anyhow::Error::from(error).context(context)))
        }
    }
}

/// A key of the document, where it stands, and its text or what kind of value can't be a text.
type Found = (String, usize, Result<String, &'static str>);

fn flatten(section: &Spanned<std::borrow::Cow<'_, str>>, value: &Spanned<DeValue<'_>>, found: &mut Vec<Found>) {
    let name = section.get_ref();
    let DeValue::Table(table) = value.get_ref() else {
        found.push((name.to_string(), section.span().start, text_of(value.get_ref())));
        return;
    };
    if table.is_empty() && !SECTIONS.iter().any(|(known, _)| known == name) {
        found.push((name.to_string(), section.span().start, Ok(String::new())));
    }
    for (short, value) in table {
        let key = format!("{name}.{}", short.get_ref());
        match value.get_ref() {
            DeValue::Table(properties) if format!("{key}.") == LIBRDKAFKA => {
                for (property, value) in properties {
                    let key = format!("{LIBRDKAFKA}{}", property.get_ref());
                    found.push((key, property.span().start, text_of(value.get_ref())));
                }
            }
            value => found.push((key, short.span().start, text_of(value))),
        }
    }
}

/// The text of a value: lists with commas, a table of partitions and replication as it is typed elsewhere.
fn text_of(value: &DeValue<'_>) -> Result<String, &'static str> {
    Ok(match value {
        DeValue::String(text) => text.to_string(),
        DeValue::Integer(number) if number.radix() == 10 => number.as_str().replace('_', ""),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Array(items) => {
            let items: Result<Vec<String>, _> = items.iter().map(|item| text_of(item.get_ref())).collect();
            items?.join(",")
        }
        DeValue::Table(table) => {
            let part = |name: &str| table.get(name).and_then(|value| text_of(value.get_ref()).ok());
            match (part("partitions"), part("replication")) {
                (Some(partitions), Some(replication)) if table.len() == 2 => format!("{partitions},{replication}"),
                _ => return Err("a table (create_topics can: { partitions = 12, replication = 3 })"),
            }
        }
        DeValue::Integer(_) => return Err("a number that is not decimal"),
        DeValue::Datetime(_) => return Err("a date"),
    })
}

/// Whether there is such a key; if not, what it was meant to be.
fn known(key: &str) -> Result<(), String> {
    if keys::find(key).is_some() || key.strip_prefix(LIBRDKAFKA).is_some_and(|property| !property.is_empty()) {
        return Ok(());
    }
    let (section, short) = key.split_once('.').unwrap_or((key, ""));
    if !SECTIONS.iter().any(|(known, _)| *known == section) {
        let anywhere = KEYS.iter().find(|known| known.short() == section).map(|known| known.name);
        let near = anywhere.or_else(|| nearest(section, SECTIONS.iter().map(|(known, _)| *known)));
        return Err(format!("unknown section or key {section}{}", meant(near)));
    }
    if short.is_empty() {
        return Err(format!("{section} is a section: write [{section}] and its keys below"));
    }
    let here = KEYS.iter().filter(|known| known.section() == section).map(|known| known.short());
    let elsewhere = || KEYS.iter().find(|known| known.short() == short).map(|known| known.name);
    let near = nearest(short, here.chain(std::iter::once("librdkafka"))).or_else(elsewhere);
    Err(format!("unknown key {key}{}", meant(near)))
}

fn meant(near: Option<&str>) -> String {
    near.map_or_else(|| ": `cassandra-cdc config init` lists all".to_owned(), |near| format!(": did you mean {near}?"))
}
