//! The event of an update as messages of prost, built the plain way from what the update was made of.

use cassandra_commitlog::{CellState, Column, CqlType, DeletionTime, Expiry, Liveness as Alive, Native};

use super::events::{digest, shards};
use super::model::{CellSpec, ColumnSpec, Owned, RowSpec, Spec};
use super::tree::{Tree, parse};

#[allow(missing_docs, clippy::all, reason = "generated")]
pub mod generated {
    include!("../generated/cassandra_cdc.v1.rs");
}

pub use generated::*;

fn of(kind: value::Kind) -> Value {
    Value { kind: Some(kind) }
}

fn tree(cql_type: &CqlType, tree: &Tree) -> Value {
    use value::Kind;
    of(match (tree, cql_type) {
        (Tree::Null, _) => Kind::Null(true),
        (Tree::Empty, _) => Kind::Empty(true),
        (Tree::Raw(bytes), _) => Kind::Raw(bytes.clone()),
        (Tree::Text(text), _) => Kind::Text(text.clone()),
        (Tree::Blob(bytes), _) => Kind::Blob(bytes.clone()),
        (Tree::Boolean(value), _) => Kind::Boolean(*value),
        (Tree::Integer(value), _) => Kind::Integer(*value),
        (Tree::Float(bits), _) => Kind::Float(f32::from_bits(*bits)),
        (Tree::Double(bits), _) => Kind::Double(f64::from_bits(*bits)),
        (Tree::Timestamp(value), _) => Kind::Timestamp(*value),
        (Tree::Uuid(id), _) => Kind::Uuid(id.to_vec()),
        (Tree::Date(day), _) => Kind::Date(*day),
        (Tree::Time(nanos), _) => Kind::Time(*nanos as u64),
        (Tree::Inet(bytes), _) => Kind::Inet(bytes.clone()),
        (Tree::Varint(value), _) => Kind::Varint(value.to_signed_bytes_be()),
        (Tree::Decimal(scale, unscaled), _) => {
            Kind::Decimal(Decimal { scale: *scale, unscaled: unscaled.to_signed_bytes_be() })
        }
        (Tree::Duration(months, days, nanos), _) => {
            Kind::Duration(Duration { months: *months, days: *days, nanos: *nanos })
        }
        (Tree::List(items), CqlType::Tuple(types)) => {
            Kind::List(List { values: types.iter().zip(items).map(|(inner, item)| self::tree(inner, item)).collect() })
        }
        (
            Tree::List(items),
            CqlType::List { element, .. } | CqlType::Set { element, .. } | CqlType::Vector { element, .. },
        ) => Kind::List(List { values: items.iter().map(|item| self::tree(element, item)).collect() }),
        (Tree::Map(items), CqlType::Map { key, value, .. }) => {
            let entry = |(left, right): &(Tree, Tree)| map::Entry {
                key: Some(self::tree(key, left)),
                value: Some(self::tree(value, right)),
            };
            Kind::Map(Map { entries: items.iter().map(entry).collect() })
        }
        (Tree::Udt(items), CqlType::Udt { definition, .. }) => {
            let fields = definition.fields.iter().zip(items).map(|(field, (name, item))| Named {
                name: name.clone(),
                value: Some(self::tree(&field.cql_type, item)),
            });
            Kind::Udt(Udt { fields: fields.collect() })
        }
        other => panic!("{other:?}"),
    })
}

pub fn value(cql_type: &CqlType, bytes: &[u8]) -> Value {
    tree(&floats_first(cql_type), &parse_floats(cql_type, bytes)).floats()
}

/// Vectors of floats are told by their bytes, every NaN included: here they go through as blobs of a reserved length.
fn parse_floats(cql_type: &CqlType, bytes: &[u8]) -> Tree {
    parse(&floats_first(cql_type), bytes)
}

/// `vector<float, n>` anywhere inside becomes `vector<int, n>`, whose elements are the bits.
fn floats_first(cql_type: &CqlType) -> CqlType {
    let inner = |cql_type: &CqlType| Box::new(floats_first(cql_type));
    match cql_type {
        CqlType::Vector { element, dimension } if **element == CqlType::Native(Native::Float) => {
            // A set of a custom type stands for it below: nothing else makes one.
            CqlType::Vector { element: Box::new(CqlType::Native(Native::Int)), dimension: *dimension | FLOATS }
        }
        CqlType::Vector { element, dimension } => CqlType::Vector { element: inner(element), dimension: *dimension },
        CqlType::List { element, frozen } => CqlType::List { element: inner(element), frozen: *frozen },
        CqlType::Set { element, frozen } => CqlType::Set { element: inner(element), frozen: *frozen },
        CqlType::Map { key, value, frozen } => {
            CqlType::Map { key: inner(key), value: inner(value), frozen: *frozen }
        }
        CqlType::Tuple(types) => CqlType::Tuple(types.iter().map(floats_first).collect()),
        other => other.clone(),
    }
}
