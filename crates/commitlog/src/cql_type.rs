//! CQL types, as far as bytes depend on them.
//!
//! Owns: what a type is, whether it is multi-cell, whether its values carry a length.
//! Does not own: its text form (`type_parser`), the rendering of values.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// A type without parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the names are CQL's own")]
pub enum Native {
    Ascii,
    Bigint,
    Blob,
    Boolean,
    Counter,
    Date,
    Decimal,
    Double,
    Duration,
    Empty,
    Float,
    Inet,
    Int,
    Smallint,
    Text,
    Time,
    Timestamp,
    Timeuuid,
    Tinyint,
    Uuid,
    Varint,
}

impl Native {
    /// Bytes of a value where that number is fixed and no length precedes it (`FORMAT.md` 7.1).
    /// Some short types (`smallint`, `date`, `time`, …) carry a length all the same: that is Cassandra's choice.
    pub const fn fixed_len(self) -> Option<u32> {
        match self {
            Self::Empty => Some(0),
            Self::Boolean => Some(1),
            Self::Int | Self::Float => Some(4),
            Self::Bigint | Self::Double | Self::Timestamp => Some(8),
            Self::Uuid | Self::Timeuuid => Some(16),
            _ => None,
        }
    }
}

/// One field of a user-defined type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its type; always frozen inside.
    pub cql_type: CqlType,
}

/// A user-defined type, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserType {
    /// Its name; the keyspace is the table's.
    pub name: String,
    /// Its fields in declared order: values and cell paths refer to them by index.
    pub fields: Vec<Field>,
}

/// The type of a column, an element or a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CqlType {
    /// A type without parameters.
    Native(Native),
    /// `list<…>`; multi-cell unless frozen.
    List {
        /// Element type.
        element: Box<CqlType>,
        /// Whether a value is one cell.
        frozen: bool,
    },
    /// `set<…>`; multi-cell unless frozen.
    Set {
        /// Element type.
        element: Box<CqlType>,
        /// Whether a value is one cell.
        frozen: bool,
    },
    /// `map<…>`; multi-cell unless frozen.
    Map {
        /// Key type.
        key: Box<CqlType>,
        /// Value type.
        value: Box<CqlType>,
        /// Whether a value is one cell.
        frozen: bool,
    },
    /// `tuple<…>`: always one cell.
    Tuple(Vec<CqlType>),
    /// A user-defined type; multi-cell unless frozen.
    Udt {
        /// Its definition.
        definition: Arc<UserType>,
        /// Whether a value is one cell.
        frozen: bool,
    },
    /// `vector<element, dimension>`: always one cell.
    Vector {
        /// Element type.
        element: Box<CqlType>,
        /// Number of elements in every value.
        dimension: u32,
    },
    /// A class that CQL has no name for, `CompositeType(…)` and its like included: bytes without an inside.
    Custom {
        /// The class with its parameters, as `system_schema` has it.
        class: String,
    },
}

impl CqlType {
    /// Whether a column of this type has a cell per element (`FORMAT.md` 4.8). Getting it wrong desynchronises the
    /// parse: the bytes do not say it.
    pub fn is_multi_cell(&self) -> bool {
        match self {
            Self::List { frozen, .. }
            | Self::Set { frozen, .. }
            | Self::Map { frozen, .. }
            | Self::Udt { frozen, .. } => !frozen,
            Self::Native(_) | Self::Tuple(_) | Self::Vector { .. } | Self::Custom { .. } => false,
        }
    }

    /// Bytes of a value where that number is fixed and no length precedes it (`FORMAT.md` 7.1).
    pub fn fixed_len(&self) -> Option<u32> {
        match self {
            Self::Native(native) => native.fixed_len(),
            Self::Vector { element, dimension } => element.fixed_len()?.checked_mul(*dimension),
            _ => None,
        }
    }
}
