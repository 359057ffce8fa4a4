//! The user types of one keyspace, resolved: each with the types of its fields, those that refer to each other included.
//!
//! Owns: the order in which definitions are resolved, cycles, what a broken definition takes with it.
//! Does not own: the text of a type (`type_parser`), where the rows come from (`system_schema`).

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::cql_type::{Field, UserType};
use crate::system_schema::TypeRow;
use crate::type_error::{TypeCause, TypeError};
use crate::type_parser::{Freezing, check_limits, parse_with};

/// The user types that the tables of one keyspace can name.
#[derive(Debug, Clone, Default)]
pub struct UserTypes {
    /// `None`: defined, but unusably so.
    by_name: BTreeMap<String, Option<Known>>,
}

/// A resolved user type together with what it costs to walk through it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub(crate) definition: Arc<UserType>,
    /// Levels below the type itself.
    pub(crate) height: u32,
    /// Types in it, itself included.
    pub(crate) nodes: u32,
}

/// A definition of a user type that cannot be used; so can't be what contains the type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserTypeProblem {
    /// The type's name.
    pub type_name: String,
    /// The field at fault, where it is one.
    pub field: Option<String>,
    /// What is wrong.
    pub why: UserTypeWhy,
}

/// What can be wrong with the definition of a user type.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum UserTypeWhy {
    /// Two rows define it: which one counts?
    DefinedTwice,
    /// Two of its fields have one name.
    FieldTwice,
    /// Its row has another number of names than of types.
    FieldCount {
        /// How many names.
        names: usize,
        /// How many types.
        types: usize,
    },
    /// The type of a field is refused; cycles are found here.
    Type(TypeError),
}

impl fmt::Display for UserTypeWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DefinedTwice => f.write_str("the type is defined twice"),
            Self::FieldTwice => f.write_str("the type has two fields of this name"),
            Self::FieldCount { names, types } => write!(f, "{names} field names but {types} field types"),
            Self::Type(error) => error.fmt(f),
        }
    }
}

impl UserTypes {
    /// Resolves the rows of one keyspace. A broken definition is reported and takes with it only what contains it.
    pub fn resolve(rows: &[&TypeRow]) -> (Self, Vec<UserTypeProblem>) {
        let mut resolution = Resolution::default();
        let mut defined: BTreeMap<&str, &TypeRow> = BTreeMap::new();
        let mut twice: BTreeSet<&str> = BTreeSet::new();
        for row in rows {
            if defined.insert(&row.type_name, row).is_some() {
                twice.insert(&row.type_name);
            }
        }
        for name in twice {
            defined.remove(name);
            resolution.refuse(name, None, UserTypeWhy::DefinedTwice);
        }
        resolution.in_order_of_need(&defined);
        (resolution.types, resolution.problems)
    }

    pub(crate) fn lookup(&self, name: &str) -> Result<Known, TypeCause> {
        match self.by_name.get(name) {
            Some(Some(known)) => Ok(known.clone()),
            Some(None) => Err(TypeCause::BrokenUserType(name.to_owned())),
            None => Err(TypeCause::UnknownUserType(name.to_owned())),
        }
    }
}

#[derive(Default)]
struct Resolution {
    types: UserTypes,
    problems: Vec<UserTypeProblem>,
}

impl Resolution {
    /// What needs nothing first, then what needs only that, and so on; what remains is a cycle or stands on one.
    /// Rounds of a queue, not recursion: a chain of definitions may be as long as the log can make it.
    fn in_order_of_need(&mut self, defined: &BTreeMap<&str, &TypeRow>) {
        let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
        let mut needed_by: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        let mut ready: Vec<&str> = Vec::new();
        for (name, row) in defined {
            let needs: Vec<String> = needs(row).into_iter().filter(|n| defined.contains_key(n.as_str())).collect();
            if needs.is_empty() {
                ready.push(name);
            } else {
                missing.insert(name, needs.len());
            }
            for need in needs {
                needed_by.entry(need).or_default().push(name);
            }
        }
        while let Some(name) = ready.pop() {
            if let Some(row) = defined.get(name) {
                self.define(row);
            }
            for user in needed_by.remove(name).unwrap_or_default() {
                let left = missing.get(user).map_or(0, |n| n.saturating_sub(1));
                if left > 0 {
                    missing.insert(user, left);
                } else if missing.remove(user).is_some() {
                    ready.push(user);
                }
            }
        }
        for name in missing.into_keys() {
            let cause = TypeCause::Cycle(name.to_owned());
            self.refuse(name, None, UserTypeWhy::Type(TypeError { at: 0, cause }));
        }
    }

    /// Resolves one definition; all that it needs has been resolved or refused.
    fn define(&mut self, row: &TypeRow) {
        let name = &row.type_name;
        if row.field_names.len() != row.field_types.len() {
            let why = UserTypeWhy::FieldCount { names: row.field_names.len(), types: row.field_types.len() };
            return self.refuse(name, None, why);
        }
        let mut fields: Vec<Field> = Vec::new();
        let mut names: BTreeSet<&str> = BTreeSet::new();
        let (mut height, mut nodes) = (0_u32, 1_u32);
        for (field, text) in row.field_names.iter().zip(&row.field_types) {
            if !names.insert(field) {
                return self.refuse(name, Some(field), UserTypeWhy::FieldTwice);
            }
            let parsed = match parse_with(text, Freezing::Always, |name| self.types.lookup(name)) {
                Ok(parsed) => parsed,
                Err(error) => return self.refuse(name, Some(field), UserTypeWhy::Type(error)),
            };
            height = height.max(parsed.height.saturating_add(1));
            nodes = nodes.saturating_add(parsed.nodes);
            fields.push(Field { name: field.clone(), cql_type: parsed.cql_type });
        }
        if let Err(cause) = check_limits(height, nodes) {
            return self.refuse(name, None, UserTypeWhy::Type(TypeError { at: 0, cause }));
        }
        let definition = Arc::new(UserType { name: name.clone(), fields });
        self.types.by_name.insert(name.clone(), Some(Known { definition, height, nodes }));
    }

    fn refuse(&mut self, name: &str, field: Option<&str>, why: UserTypeWhy) {
        self.types.by_name.insert(name.to_owned(), None);
        self.problems.push(UserTypeProblem { type_name: name.to_owned(), field: field.map(ToOwned::to_owned), why });
    }
}

/// The user types that a definition names. A text that is no type ends early here and is refused later.
fn needs(row: &TypeRow) -> BTreeSet<String> {
    let mut needs = BTreeSet::new();
    let nothing = Arc::new(UserType { name: String::new(), fields: Vec::new() });
    for text in &row.field_types {
        let _ = parse_with(text, Freezing::Always, |name| {
            needs.insert(name.to_owned());
            Ok(Known { definition: Arc::clone(&nothing), height: 0, nodes: 1 })
        });
    }
    needs
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use super::*;
    use crate::type_parser::parse_type;

    fn row(name: &str, fields: &[(&str, &str)]) -> TypeRow {
        TypeRow {
            keyspace_name: "ks".into(),
            type_name: name.into(),
            field_names: fields.iter().map(|(name, _)| (*name).into()).collect(),
            field_types: fields.iter().map(|(_, text)| (*text).into()).collect(),
        }
    }

    fn resolve(rows: &[TypeRow]) -> (UserTypes, Vec<UserTypeProblem>) {
        UserTypes::resolve(&rows.iter().collect::<Vec<_>>())
    }

    #[test]
    fn rows_may_come_in_any_order() {
        let rows = [
            row("c", &[("x", "list<frozen<a>>"), ("y", "frozen<tuple<b, a>>")]),
            row("b", &[("x", "a")]),
            row("a", &[("x", "set<int>")]),
        ];
        for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0]] {
            let rows: Vec<_> = order.iter().map(|&at: &usize| rows[at].clone()).collect();
            let (types, problems) = resolve(&rows);
            assert_eq!(problems, vec![]);
            let known = types.lookup("c").unwrap();
            let fields: Vec<_> = known.definition.fields.iter().map(|f| f.cql_type.to_string()).collect();
            assert_eq!(fields, ["frozen<list<frozen<a>>>", "frozen<tuple<frozen<b>, frozen<a>>>"]);
            // c, list, a, set, int; tuple, b, a, set, int, a, set, int
            assert_eq!((known.height, known.nodes), (5, 13));
        }
    }

    #[test]
    fn a_broken_definition_takes_only_what_uses_it() {
        let rows = [
            row("good", &[("x", "int")]),
            row("broken", &[("x", "int"), ("y", "frozen<nope>")]),
            row("user", &[("x", "frozen<good>"), ("y", "frozen<broken>")]),
            row("uneven", &[("x", "int")]),
            row("twice", &[("x", "int")]),
            row("twice", &[("x", "text")]),
            row("fields", &[("x", "int"), ("x", "text")]),
        ];
        let mut rows = rows.to_vec();
        rows[3].field_types.clear();
        let (types, problems) = resolve(&rows);
        let mut told: Vec<_> =
            problems.iter().map(|p| format!("{} {:?} {}", p.type_name, p.field.as_deref(), p.why)).collect();
        told.sort();
        assert_eq!(
            told,
            [
                "broken Some(\"y\") type text at byte 7: the keyspace has no type \"nope\"",
                "fields Some(\"x\") the type has two fields of this name",
                "twice None the type is defined twice",
                "uneven None 1 field names but 0 field types",
                "user Some(\"y\") type text at byte 7: the definition of type \"broken\" is unusable",
            ]
        );
        assert!(parse_type("good", &types).is_ok());
        assert_eq!(parse_type("user", &types).unwrap_err().cause, TypeCause::BrokenUserType("user".into()));
    }

    #[test]
    fn cycles_are_refused() {
        let rows = [
            row("self", &[("x", "frozen<list<frozen<self>>>")]),
            row("a", &[("x", "frozen<b>")]),
            row("b", &[("x", "frozen<c>")]),
            row("c", &[("x", "frozen<a>")]),
            row("outside", &[("x", "frozen<a>")]),
            row("good", &[("x", "int")]),
        ];
        let (types, problems) = resolve(&rows);
        assert!(
            problems.iter().all(|p| matches!(&p.why, UserTypeWhy::Type(e) if matches!(e.cause, TypeCause::Cycle(_))))
        );
        let names: Vec<_> = problems.iter().map(|p| p.type_name.as_str()).collect();
        assert_eq!(names, ["a", "b", "c", "outside", "self"]);
        assert!(types.lookup("good").is_ok());
    }

    #[test]
    fn long_chains_and_doubling_types_are_refused_in_good_time() {
        let mut rows = vec![row("t0", &[("x", "int")])];
        for n in 1..50_000 {
            rows.push(row(&format!("t{n}"), &[("x", &format!("frozen<t{}>", n - 1))]));
        }
        let (types, problems) = resolve(&rows);
        // A field of t30 stands 31 levels below a column: with that t30 has the last level that fits.
        assert!(parse_type("t30", &types).is_ok());
        assert!(parse_type("t31", &types).is_err());
        assert_eq!(problems.len(), 50_000 - 31);

        let mut rows = vec![row("t0", &[("x", "int")])];
        for n in 1..31 {
            let field = format!("frozen<t{}>", n - 1);
            rows.push(row(&format!("t{n}"), &[("x", &field), ("y", &field)]));
        }
        let (types, problems) = resolve(&rows);
        assert!(parse_type("t18", &types).is_ok());
        assert!(matches!(&problems[0].why, UserTypeWhy::Type(e) if e.cause == TypeCause::TooLarge));
    }
}
