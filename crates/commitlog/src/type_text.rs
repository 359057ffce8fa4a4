//! CQL types written out as `system_schema` writes them (`FORMAT.md` 7.6).
//!
//! Owns: the names of native types, which other names need quotes. Does not own: reading the text (`type_parser`).

use core::fmt;

use crate::cql_type::{CqlType, Native};

/// The native type of this name, which is in lower case.
pub(crate) fn native_named(word: &str) -> Option<Native> {
    // `varchar` is an old name of `text`; Cassandra itself writes `text`.
    if word == "varchar" {
        return Some(Native::Text);
    }
    NATIVES.iter().find(|(_, name)| *name == word).map(|(native, _)| *native)
}

const NATIVES: [(Native, &str); 21] = [
    (Native::Ascii, "ascii"),
    (Native::Bigint, "bigint"),
    (Native::Blob, "blob"),
    (Native::Boolean, "boolean"),
    (Native::Counter, "counter"),
    (Native::Date, "date"),
    (Native::Decimal, "decimal"),
    (Native::Double, "double"),
    (Native::Duration, "duration"),
    (Native::Empty, "empty"),
    (Native::Float, "float"),
    (Native::Inet, "inet"),
    (Native::Int, "int"),
    (Native::Smallint, "smallint"),
    (Native::Text, "text"),
    (Native::Time, "time"),
    (Native::Timestamp, "timestamp"),
    (Native::Timeuuid, "timeuuid"),
    (Native::Tinyint, "tinyint"),
    (Native::Uuid, "uuid"),
    (Native::Varint, "varint"),
];

/// Words that a user type's name can be only in quotes.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "add", "allow", "alter", "and", "apply", "asc", "authorize", "batch", "begin", "by", "columnfamily", "create",
    "default", "delete", "desc", "describe", "drop", "entries", "execute", "from", "full", "grant", "if", "in",
    "index", "infinity", "insert", "into", "is", "keyspace", "limit", "materialized", "mbean", "mbeans", "modify",
    "nan", "norecursive", "not", "null", "of", "on", "or", "order", "primary", "rename", "replace", "revoke",
    "schema", "select", "set", "table", "to", "token", "truncate", "unlogged", "unset", "update", "use", "using",
    "view", "where", "with",
];

impl fmt::Display for Native {
    /// Its name in CQL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NATIVES.iter().find(|(native, _)| native == self).map_or("?", |(_, name)| name))
    }
}

impl fmt::Display for CqlType {
    /// The text that `system_schema` has for it: [`parse_type`](crate::parse_type) gives the same type back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Native(native) => native.fmt(f),
            Self::List { element, frozen } => freeze(f, *frozen, format_args!("list<{element}>")),
            Self::Set { element, frozen } => freeze(f, *frozen, format_args!("set<{element}>")),
            Self::Map { key, value, frozen } => freeze(f, *frozen, format_args!("map<{key}, {value}>")),
            Self::Tuple(components) => {
                f.write_str("frozen<tuple<")?;
                for (at, component) in components.iter().enumerate() {
                    let comma = if at == 0 { "" } else { ", " };
                    write!(f, "{comma}{component}")?;
                }
                f.write_str(">>")
            }
            Self::Udt { definition, frozen } => freeze(f, *frozen, format_args!("{}", Name(&definition.name))),
            Self::Vector { element, dimension } => write!(f, "vector<{element}, {dimension}>"),
            Self::Custom { class } => write!(f, "'{class}'"),
        }
    }
}

fn freeze(f: &mut fmt::Formatter<'_>, frozen: bool, inner: fmt::Arguments<'_>) -> fmt::Result {
    if frozen { write!(f, "frozen<{inner}>") } else { f.write_fmt(inner) }
}

/// A name as CQL writes it: in quotes where it would otherwise be read as something else.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0;
        let plain = name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && native_named(name).is_none()
            && !RESERVED.contains(&name);
        if plain { f.write_str(name) } else { write!(f, "\"{}\"", name.replace('"', "\"\"")) }
    }
}
