//! Which topic the events of a table go to.
//!
//! Owns: the template and the rules of Kafka's names. Does not own: whether the topic exists.

use std::fmt::Write as _;

use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

/// Kafka's limit.
const MAX_LEN: usize = 249;

/// Why a template can't name topics.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TemplateError {
    /// Braces around anything but `prefix`, `keyspace` and `table`.
    #[error("unknown placeholder {{{0}}} in topic template: use {{prefix}}, {{keyspace}}, {{table}}")]
    Placeholder(String),
    /// A brace without its partner.
    #[error("unclosed brace in topic template")]
    Brace,
    /// Kafka allows letters, digits, dot, underscore and hyphen.
    #[error("{0:?} can't be part of a Kafka topic's name")]
    Character(char),
    /// Neither text nor a placeholder.
    #[error("topic template is empty")]
    Empty,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Keyspace,
    Table,
}

/// How the topics of tables are named, such as `{prefix}.{keyspace}.{table}`.
///
/// A template that names both keyspace and table, with anything but letters, digits and underscores between them, gives
/// every table a topic of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicTemplate {
    pieces: Vec<Piece>,
}

impl TopicTemplate {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// If it has other placeholders, or template or prefix have characters that Kafka does not allow.
    pub fn new(template: &str, prefix: &str) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = template;
        while let Some((text, behind)) = rest.split_once('{') {
            let (name, behind) = behind.split_once('}').ok_or(TemplateError::Brace)?;
            pieces.push(Piece::Text(legal(text)?));
            pieces.push(match name {
                "prefix" => Piece::Text(legal(prefix)?),
                "keyspace" => Piece::Keyspace,
                "table" => Piece::Table,
                other => return Err(TemplateError::Placeholder(other.to_owned())),
            });
            rest = behind;
        }
        pieces.push(Piece::Text(legal(rest)?));
        if pieces.iter().all(|piece| matches!(piece, Piece::Text(text) if text.is_empty())) {
            return Err(TemplateError::Empty);
        }
        Ok(Self { pieces })
    }

    /// The topic of a table.
    pub fn topic(&self, keyspace: &str, table: &str) -> String {
        let mut topic = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => topic.push_str(text),
                Piece::Keyspace => push_name(&mut topic, keyspace),
                Piece::Table => push_name(&mut topic, table),
            }
        }
        if topic.len() > MAX_LEN {
            // Two hyphens are in no name, so no shorter topic is spelt like this.
            let tail = format!("--{:016x}", xxh3_64(topic.as_bytes()));
            topic.truncate(MAX_LEN - tail.len());
            topic.push_str(&tail);
        }
        topic
    }
}

/// Names as Cassandra allows them stay as they are. Other bytes become a hyphen and two hexadecimal digits, the hyphen
/// and the dot included, so that no two names and no two pairs of names meet.
fn push_name(topic: &mut String, name: &str) {
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' {
            topic.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(topic, "-{byte:02x}");
        }
    }
}

fn legal(text: &str) -> Result<String, TemplateError> {
    match text.chars().find(|c| !(c.is_ascii_alphanumeric() || "._-".contains(*c))) {
        Some(illegal) => Err(TemplateError::Character(illegal)),
        None => Ok(text.to_owned()),
    }
}
