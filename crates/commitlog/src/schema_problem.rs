//! What is wrong with a definition of `system_schema`: a value to report, not the end of reading.
//!
//! Owns: which definition, and why. Does not own: finding it (`system_schema`).

use alloc::string::String;
use core::fmt;

use crate::schema::TableId;
use crate::type_error::TypeError;
use crate::user_types::UserTypeWhy;

/// A definition that cannot be used as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemaProblem {
    /// Its keyspace.
    pub keyspace: String,
    /// What is broken.
    pub subject: Subject,
    /// The column, or the field of a user type, at fault, where it is one.
    pub column: Option<String>,
    /// What is wrong.
    pub why: Why,
}

/// What a [`SchemaProblem`] is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// A table or view, which the schema then lacks.
    Table(String),
    /// A dropped column of a table: the table is there, but a change that names the column cannot be decoded.
    DroppedColumn(String),
    /// A user type. Each table that needs it has a problem of its own.
    UserType(String),
}

/// What can be wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The id is no UUID.
    Id(String),
    /// Another table has the same id: neither can be told from the other.
    IdTwice(TableId),
    /// Two rows define it.
    DefinedTwice,
    /// The kind of a column is none that is known.
    Kind(String),
    /// The positions of the key columns of one kind are not 0, 1, 2 and so on.
    Position {
        /// The position that is there.
        found: i64,
        /// The position that should be.
        expected: usize,
    },
    /// It has no partition-key column; often it has no columns at all.
    NoPartitionKey,
    /// The type of a column is refused.
    Type(TypeError),
    /// The definition of a user type is refused.
    UserType(UserTypeWhy),
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "its id {id:?} is no UUID"),
            Self::IdTwice(id) => write!(f, "another table has its id {id}"),
            Self::DefinedTwice => f.write_str("it is defined twice"),
            Self::Kind(kind) => write!(f, "unknown kind {kind:?}"),
            Self::Position { found, expected } => write!(f, "key position {found} where {expected} should come"),
            Self::NoPartitionKey => f.write_str("it has no partition key"),
            Self::Type(error) => error.fmt(f),
            Self::UserType(why) => why.fmt(f),
        }
    }
}

impl fmt::Display for SchemaProblem {
    /// `table ks.t, column c: …`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keyspace = &self.keyspace;
        let part = match &self.subject {
            Subject::Table(name) => write!(f, "table {keyspace}.{name}").map(|()| "column"),
            Subject::DroppedColumn(name) => write!(f, "table {keyspace}.{name}").map(|()| "dropped column"),
            Subject::UserType(name) => write!(f, "type {keyspace}.{name}").map(|()| "field"),
        }?;
        if let Some(column) = &self.column {
            write!(f, ", {part} {column:?}")?;
        }
        write!(f, ": {}", self.why)
    }
}

impl core::error::Error for SchemaProblem {}
