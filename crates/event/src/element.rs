//! What the cells of a multi-cell column are made of.
//!
//! Owns: which type a cell's path and value have. Does not own: how they are written.

use cassandra_commitlog::{CqlType, Native, UserType};

static TIMEUUID: CqlType = CqlType::Native(Native::Timeuuid);
/// The type of what no type is known for: bytes without an inside.
pub(crate) static UNKNOWN: CqlType = CqlType::Custom { class: String::new() };

/// What a cell's path is.
pub(crate) enum Path<'t> {
    /// A value of this type.
    Value(&'t CqlType),
    /// The name of a field of a user-defined type.
    Field(&'t str),
    /// The index of a field that the type does not have (yet).
    Index(i16),
}

/// What a multi-cell column's cells hold, taken from its type once.
pub(crate) enum Elements<'t> {
    List(&'t CqlType),
    Set(&'t CqlType),
    Map(&'t CqlType, &'t CqlType),
    Fields(&'t UserType),
    Unknown,
}

impl<'t> Elements<'t> {
    pub(crate) fn of(column: &'t CqlType) -> Self {
        match column {
            CqlType::List { element, .. } => Self::List(element),
            CqlType::Set { element, .. } => Self::Set(element),
            CqlType::Map { key, value, .. } => Self::Map(key, value),
            CqlType::Udt { definition, .. } => Self::Fields(definition),
            _ => Self::Unknown,
        }
    }

    /// The path of a cell, and the type of its value. Set elements have none.
    pub(crate) fn cell(&self, path: &[u8]) -> (Path<'t>, Option<&'t CqlType>) {
        match self {
            Self::List(element) => (Path::Value(&TIMEUUID), Some(element)),
            Self::Set(element) => (Path::Value(element), None),
            Self::Map(key, value) => (Path::Value(key), Some(value)),
            Self::Fields(definition) => match path.try_into().map(i16::from_be_bytes) {
                Ok(index) => match usize::try_from(index).ok().and_then(|index| definition.fields.get(index)) {
                    Some(field) => (Path::Field(&field.name), Some(&field.cql_type)),
                    None => (Path::Index(index), Some(&UNKNOWN)),
                },
                Err(_) => (Path::Value(&UNKNOWN), Some(&UNKNOWN)),
            },
            Self::Unknown => (Path::Value(&UNKNOWN), Some(&UNKNOWN)),
        }
    }
}
