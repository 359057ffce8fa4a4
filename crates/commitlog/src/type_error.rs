//! What is wrong with a type's text, and where.
//!
//! Owns: the error of parsing types. Does not own: parsing (`type_parser`).

use alloc::string::String;
use core::fmt;

use crate::type_parser::{MAX_DIMENSION, MAX_LEVELS, MAX_NODES};

/// What is wrong with a type's text, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeError {
    /// Bytes into the text.
    pub at: usize,
    /// What is wrong there.
    pub cause: TypeCause,
}

/// What can be wrong with a type's text.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TypeCause {
    /// Something else should stand here.
    Expected(&'static str),
    /// The keyspace has no user type of this name.
    UnknownUserType(String),
    /// The keyspace has a user type of this name, but its own definition is refused.
    BrokenUserType(String),
    /// The user type contains itself, directly or through others, or it contains such a type.
    Cycle(String),
    /// More levels than [`CqlType`](crate::CqlType) values are read with.
    TooDeep,
    /// More types inside one type than anyone would declare.
    TooLarge,
    /// A vector's dimension is not a number from 1 to 65536.
    Dimension,
    /// A vector of elements without bytes, or of more bytes than a value can have.
    VectorSize,
    /// A name that should be UTF-8 in hexadecimal digits is not.
    HexName,
}

impl fmt::Display for TypeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expected(what) => write!(f, "expected {what}"),
            Self::UnknownUserType(name) => write!(f, "the keyspace has no type {name:?}"),
            Self::BrokenUserType(name) => write!(f, "the definition of type {name:?} is unusable"),
            Self::Cycle(name) => write!(f, "type {name:?} is part of a cycle of types, or uses one"),
            Self::TooDeep => write!(f, "nested deeper than {MAX_LEVELS} levels"),
            Self::TooLarge => write!(f, "consists of more than {MAX_NODES} types"),
            Self::Dimension => write!(f, "a vector's dimension must be a number from 1 to {MAX_DIMENSION}"),
            Self::VectorSize => f.write_str("a vector of no bytes, or of more than a value can have"),
            Self::HexName => f.write_str("a name here must be UTF-8 in hexadecimal digits"),
        }
    }
}

impl fmt::Display for TypeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "type text at byte {}: {}", self.at, self.cause)
    }
}

impl core::error::Error for TypeError {}
