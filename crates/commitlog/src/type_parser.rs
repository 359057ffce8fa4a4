//! The text form of CQL types, as `system_schema` has it (`FORMAT.md` 7.6): text to [`CqlType`] and back.
//!
//! Owns: the two grammars in use (CQL's own and the Java class names inside single quotes), their limits, what is
//! wrong with a text and where. Does not own: the user types that a text names ([`UserTypes`]), the rows it stands in.
//!
//! The text may come out of a commit log, so it is hostile: nesting and size are bounded, time is linear in the text.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::cql_type::{CqlType, Field, Native, UserType};
use crate::type_error::{TypeCause, TypeError};
use crate::type_text::native_named;
use crate::user_types::{Known, UserTypes};

/// Levels of nesting that a type may have, those inside the user types it names included: values are read, and types
/// dropped, by recursion over the type.
pub(crate) const MAX_LEVELS: u32 = 32;

/// Types inside one type, each use of a user type counted with all that is in it: a handful of user types that double
/// at every level would otherwise be compared for hours.
pub(crate) const MAX_NODES: u32 = 1 << 20;

/// The largest vector dimension; Cassandra's own guardrail stands at 8192 by default.
pub(crate) const MAX_DIMENSION: u32 = 1 << 16;

/// Where Cassandra keeps its own type classes; a class name without a dot is meant to lie there.
const MARSHAL: &str = "org.apache.cassandra.db.marshal.";

/// Reads a type's text, its user types being those of `types` (the table's keyspace).
///
/// Time and memory are linear in the text. Whatever stands inside another type is frozen, whether the text says so or
/// not; so is a `tuple` and a `vector` anywhere.
pub fn parse_type(text: &str, types: &UserTypes) -> Result<CqlType, TypeError> {
    parse_with(text, Freezing::AsWritten, |name| types.lookup(name)).map(|parsed| parsed.cql_type)
}

/// A type together with what it costs to walk through it.
pub(crate) struct Parsed {
    pub(crate) cql_type: CqlType,
    /// Levels below the type itself.
    pub(crate) height: u32,
    /// Types in it, itself included.
    pub(crate) nodes: u32,
}

/// [`parse_type`] over any lookup; `UserTypes` itself is built with one.
pub(crate) fn parse_with(
    text: &str,
    freezing: Freezing,
    lookup: impl FnMut(&str) -> Result<Known, TypeCause>,
) -> Result<Parsed, TypeError> {
    let mut parser = Parser { text, at: 0, height: 0, nodes: 0, lookup };
    let cql_type = parser.cql(Level { depth: 0, frozen: freezing == Freezing::Always })?;
    parser.skip_space();
    if parser.at < text.len() {
        return Err(parser.expected("the end of the text"));
    }
    Ok(Parsed { cql_type, height: parser.height, nodes: parser.nodes })
}

/// Whether the text's own word decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Freezing {
    /// The type of a column that can be multi-cell.
    AsWritten,
    /// The type of a field or of a key column: one cell whatever the text says.
    Always,
}

/// Refuses a type that is too deep or too large to be walked through.
pub(crate) fn check_limits(depth: u32, nodes: u32) -> Result<(), TypeCause> {
    if depth >= MAX_LEVELS {
        Err(TypeCause::TooDeep)
    } else if nodes > MAX_NODES {
        Err(TypeCause::TooLarge)
    } else {
        Ok(())
    }
}

/// Where in a type another type stands.
#[derive(Clone, Copy)]
struct Level {
    depth: u32,
    frozen: bool,
}

impl Level {
    fn inner(self) -> Self {
        Self { depth: self.depth.saturating_add(1), frozen: true }
    }
}

struct Parser<'a, L> {
    text: &'a str,
    at: usize,
    height: u32,
    nodes: u32,
    lookup: L,
}

impl<'a, L: FnMut(&str) -> Result<Known, TypeCause>> Parser<'a, L> {
    /// A type in CQL's grammar.
    fn cql(&mut self, mut level: Level) -> Result<CqlType, TypeError> {
        // A loop, not recursion: `frozen<frozen<…` is no level of the type and would escape the limit on levels.
        let mut wrappers = 0_usize;
        let cql_type = loop {
            self.skip_space();
            let start = self.at;
            match self.peek() {
                Some('\'') => break self.quoted_class(level)?,
                Some('"') => {
                    let name = self.quoted_name()?;
                    break self.user_type(&name, start, level)?;
                }
                _ => {}
            }
            let word = self.take_while(is_word).to_ascii_lowercase();
            if word.is_empty() {
                return Err(self.expected("a type"));
            }
            if matches!(self.peek(), Some('.' | '(')) {
                self.at = start;
                break self.class(level)?;
            }
            if word == "frozen" && self.eat('<') {
                wrappers = wrappers.saturating_add(1);
                level.frozen = true;
                continue;
            }
            break self.word(&word, start, level)?;
        };
        for _ in 0..wrappers {
            self.expect('>', "'>'")?;
        }
        Ok(cql_type)
    }

    /// A type that begins with an unquoted word; the word is behind us.
    fn word(&mut self, word: &str, start: usize, level: Level) -> Result<CqlType, TypeError> {
        // Without its bracket such a word is a name like any other: CQL does not reserve it.
        let parametrised = matches!(word, "list" | "set" | "map" | "tuple" | "vector") && self.eat('<');
        if !parametrised {
            return match native_named(word) {
                Some(native) => self.node(CqlType::Native(native), start, level),
                None => self.user_type(word, start, level),
            };
        }
        self.enter(start, level)?;
        let frozen = level.frozen;
        let cql_type = match word {
            "list" => CqlType::List { element: Box::new(self.cql(level.inner())?), frozen },
            "set" => CqlType::Set { element: Box::new(self.cql(level.inner())?), frozen },
            "map" => {
                let key = Box::new(self.cql(level.inner())?);
                self.expect(',', "',' and the type of the map's values")?;
                CqlType::Map { key, value: Box::new(self.cql(level.inner())?), frozen }
            }
            "tuple" => {
                let mut components = Vec::new();
                loop {
                    components.push(self.cql(level.inner())?);
                    if !self.eat(',') {
                        break CqlType::Tuple(components);
                    }
                }
            }
            _ => {
                let element = Box::new(self.cql(level.inner())?);
                self.vector(element, start)?
            }
        };
        self.expect('>', "'>'")?;
        Ok(cql_type)
    }

    /// `, dimension` of a vector.
    fn vector(&mut self, element: Box<CqlType>, start: usize) -> Result<CqlType, TypeError> {
        self.expect(',', "',' and the vector's dimension")?;
        self.skip_space();
        let at = self.at;
        let digits = self.take_while(is_word);
        let dimension = digits
            .parse::<u32>()
            .ok()
            .filter(|n| (1..=MAX_DIMENSION).contains(n))
            .ok_or(TypeError { at, cause: TypeCause::Dimension })?;
        // Elements of no bytes would make vectors within vectors of them a bomb: no byte of the value bounds the count.
        let fits = match element.fixed_len() {
            Some(0) => false,
            Some(len) => len.checked_mul(dimension).is_some_and(|bytes| i32::try_from(bytes).is_ok()),
            // A vector of fixed elements says `None` only if it overflows, and was refused below us.
            None => true,
        };
        if !fits {
            return Err(TypeError { at: start, cause: TypeCause::VectorSize });
        }
        Ok(CqlType::Vector { element, dimension })
    }

    fn user_type(&mut self, name: &str, start: usize, level: Level) -> Result<CqlType, TypeError> {
        self.enter(start, level)?;
        let known = (self.lookup)(name).map_err(|cause| TypeError { at: start, cause })?;
        let deepest = level.depth.saturating_add(known.height);
        self.nodes = self.nodes.saturating_add(known.nodes).saturating_sub(1);
        self.check_limits(deepest, start)?;
        Ok(CqlType::Udt { definition: known.definition, frozen: level.frozen })
    }

    fn quoted_class(&mut self, level: Level) -> Result<CqlType, TypeError> {
        self.expect('\'', "a quote")?;
        let cql_type = self.class(level)?;
        self.expect('\'', "the closing quote")?;
        Ok(cql_type)
    }

    /// A type in the grammar of class names: `Class`, `Class(parameter,…)`.
    fn class(&mut self, mut level: Level) -> Result<CqlType, TypeError> {
        let mut wrappers = 0_usize;
        let cql_type = loop {
            self.skip_space();
            let start = self.at;
            let class = self.take_while(|c| is_word(c) || matches!(c, '.' | '$'));
            if class.is_empty() {
                return Err(self.expected("a class name"));
            }
            let short = class.strip_prefix(MARSHAL).unwrap_or(class);
            if matches!(short, "FrozenType" | "ReversedType") {
                self.expect('(', "'('")?;
                wrappers = wrappers.saturating_add(1);
                level.frozen |= short == "FrozenType";
                continue;
            }
            break self.known_class(short, start, level)?;
        };
        for _ in 0..wrappers {
            self.expect(')', "')'")?;
        }
        Ok(cql_type)
    }

    /// The type behind a class name; the name is behind us.
    fn known_class(&mut self, short: &str, start: usize, level: Level) -> Result<CqlType, TypeError> {
        if let Some(native) = native_of_class(short) {
            return self.node(CqlType::Native(native), start, level);
        }
        let known = matches!(short, "ListType" | "SetType" | "MapType" | "TupleType" | "VectorType" | "UserType");
        self.enter(start, level)?;
        if !known {
            return self.custom(start);
        }
        self.expect('(', "'('")?;
        let frozen = level.frozen;
        let cql_type = match short {
            "ListType" => CqlType::List { element: Box::new(self.class(level.inner())?), frozen },
            "SetType" => CqlType::Set { element: Box::new(self.class(level.inner())?), frozen },
            "MapType" => {
                let key = Box::new(self.class(level.inner())?);
                self.expect(',', "',' and the type of the map's values")?;
                CqlType::Map { key, value: Box::new(self.class(level.inner())?), frozen }
            }
            "TupleType" => {
                let mut components = Vec::new();
                loop {
                    components.push(self.class(level.inner())?);
                    if !self.eat(',') {
                        break CqlType::Tuple(components);
                    }
                }
            }
            "VectorType" => {
                let element = Box::new(self.class(level.inner())?);
                self.vector(element, start)?
            }
            _ => self.user_type_class(level)?,
        };
        self.expect(')', "')'")?;
        Ok(cql_type)
    }

    /// `keyspace,name in hex,field name in hex:type,…`: a user type that brings its own definition.
    fn user_type_class(&mut self, level: Level) -> Result<CqlType, TypeError> {
        self.skip_space();
        self.take_while(is_word);
        self.expect(',', "',' and the type's name")?;
        let name = self.hex_name()?;
        let mut fields = Vec::new();
        while self.eat(',') {
            let name = self.hex_name()?;
            self.expect(':', "':' and the field's type")?;
            fields.push(Field { name, cql_type: self.class(level.inner())? });
        }
        Ok(CqlType::Udt { definition: Arc::new(UserType { name, fields }), frozen: level.frozen })
    }

    fn hex_name(&mut self) -> Result<String, TypeError> {
        self.skip_space();
        let at = self.at;
        let digits = self.take_while(is_word);
        hex_bytes(digits)
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or(TypeError { at, cause: TypeCause::HexName })
    }

    /// A class that is bytes to us; its parameters are kept as they stand.
    fn custom(&mut self, start: usize) -> Result<CqlType, TypeError> {
        if self.peek() == Some('(') {
            let mut open = 0_usize;
            loop {
                match self.peek() {
                    Some('(') => open = open.saturating_add(1),
                    Some(')') => open = open.saturating_sub(1),
                    None | Some('\'') => return Err(self.expected("')'")),
                    Some(_) => {}
                }
                self.advance();
                if open == 0 {
                    break;
                }
            }
        }
        let class = self.text.get(start..self.at).unwrap_or_default().to_owned();
        Ok(CqlType::Custom { class })
    }

    fn node(&mut self, cql_type: CqlType, start: usize, level: Level) -> Result<CqlType, TypeError> {
        self.enter(start, level)?;
        Ok(cql_type)
    }

    /// Counts a type in.
    fn enter(&mut self, start: usize, level: Level) -> Result<(), TypeError> {
        self.nodes = self.nodes.saturating_add(1);
        self.check_limits(level.depth, start)
    }

    fn check_limits(&mut self, depth: u32, start: usize) -> Result<(), TypeError> {
        self.height = self.height.max(depth);
        check_limits(depth, self.nodes).map_err(|cause| TypeError { at: start, cause })
    }

    /// `"name"`, a quote inside doubled.
    fn quoted_name(&mut self) -> Result<String, TypeError> {
        self.expect('"', "a quoted name")?;
        let mut name = String::new();
        loop {
            name.push_str(self.take_while(|c| c != '"'));
            if self.peek().is_none() {
                return Err(self.expected("the closing quote"));
            }
            self.advance();
            if self.peek() != Some('"') {
                return Ok(name);
            }
            name.push('"');
            self.advance();
        }
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(self.peek().map_or(0, char::len_utf8));
    }

    fn take_while(&mut self, mut keep: impl FnMut(char) -> bool) -> &'a str {
        let rest = self.rest();
        let end = rest.find(|c| !keep(c)).unwrap_or(rest.len());
        self.at = self.at.saturating_add(end);
        rest.get(..end).unwrap_or_default()
    }

    fn skip_space(&mut self) {
        self.take_while(char::is_whitespace);
    }

    /// Steps over this character if it is the next that is no space.
    fn eat(&mut self, wanted: char) -> bool {
        self.skip_space();
        let there = self.peek() == Some(wanted);
        if there {
            self.advance();
        }
        there
    }

    fn expect(&mut self, wanted: char, what: &'static str) -> Result<(), TypeError> {
        if self.eat(wanted) { Ok(()) } else { Err(self.expected(what)) }
    }

    fn expected(&self, what: &'static str) -> TypeError {
        TypeError { at: self.at, cause: TypeCause::Expected(what) }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Bytes of an even number of hexadecimal digits.
pub(crate) fn hex_bytes(digits: &str) -> Option<Vec<u8>> {
    let nibble = |c: &u8| char::from(*c).to_digit(16).and_then(|n| u8::try_from(n).ok());
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|[high, low]| Some(nibble(high)? << 4 | nibble(low)?)).collect()
}

/// `LexicalUUIDType` and `DateType` have no name in CQL but the bytes and the framing of one that has (`FORMAT.md` 7.5).
fn native_of_class(short: &str) -> Option<Native> {
    Some(match short {
        "AsciiType" => Native::Ascii,
        "BooleanType" => Native::Boolean,
        "ByteType" => Native::Tinyint,
        "BytesType" => Native::Blob,
        "CounterColumnType" => Native::Counter,
        "DateType" | "TimestampType" => Native::Timestamp,
        "DecimalType" => Native::Decimal,
        "DoubleType" => Native::Double,
        "DurationType" => Native::Duration,
        "EmptyType" => Native::Empty,
        "FloatType" => Native::Float,
        "InetAddressType" => Native::Inet,
        "Int32Type" => Native::Int,
        "IntegerType" => Native::Varint,
        "LexicalUUIDType" | "UUIDType" => Native::Uuid,
        "LongType" => Native::Bigint,
        "ShortType" => Native::Smallint,
        "SimpleDateType" => Native::Date,
        "TimeType" => Native::Time,
        "TimeUUIDType" => Native::Timeuuid,
        "UTF8Type" => Native::Text,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use alloc::format;
    use alloc::string::ToString;
    use alloc::vec;

    use proptest::prelude::*;

    use super::*;
    use crate::system_schema::{SystemSchema, TypeRow};

    fn types() -> UserTypes {
        let row = |name: &str, fields: &[(&str, &str)]| TypeRow {
            keyspace_name: "ks".into(),
            type_name: name.into(),
            field_names: fields.iter().map(|(name, _)| (*name).into()).collect(),
            field_types: fields.iter().map(|(_, text)| (*text).into()).collect(),
        };
        let rows = [
            row("addr", &[("street", "text"), ("zip", "int")]),
            row("Odd \"Name\"", &[("home", "frozen<addr>")]),
            row("select", &[("x", "int")]),
        ];
        let (types, problems) = UserTypes::resolve(&rows.each_ref());
        assert_eq!(problems, vec![]);
        types
    }

    fn parsed(text: &str) -> CqlType {
        parse_type(text, &types()).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    fn refused(text: &str) -> TypeError {
        parse_type(text, &types()).expect_err(text)
    }

    #[test]
    fn canonical_text_comes_back_as_it_was() {
        for text in [
            "int",
            "text",
            "counter",
            "empty",
            "list<int>",
            "frozen<list<int>>",
            "map<text, frozen<list<frozen<addr>>>>",
            "frozen<tuple<int, text, frozen<set<uuid>>>>",
            "addr",
            "frozen<addr>",
            "frozen<\"Odd \"\"Name\"\"\">",
            "\"select\"",
            "vector<float, 3>",
            "vector<vector<text, 2>, 2>",
            "vector<frozen<list<int>>, 2>",
            "'org.apache.cassandra.db.marshal.CompositeType(org.apache.cassandra.db.marshal.Int32Type,\
             org.apache.cassandra.db.marshal.UTF8Type)'",
            "'org.apache.cassandra.db.marshal.DynamicCompositeType(a=>org.apache.cassandra.db.marshal.AsciiType)'",
            "map<int, 'com.example.Strange$Type'>",
        ] {
            assert_eq!(parsed(text).to_string(), text);
        }
    }

    #[test]
    fn other_spellings_give_the_same_type() {
        for (text, canonical) in [
            ("  VarChar ", "text"),
            ("INT", "int"),
            ("Map< Text ,\tINT >", "map<text, int>"),
            ("ADDR", "addr"),
            ("\"addr\"", "addr"),
            // Inside another type all is frozen.
            ("list<list<int>>", "list<frozen<list<int>>>"),
            ("map<int, addr>", "map<int, frozen<addr>>"),
            ("tuple<int, set<int>>", "frozen<tuple<int, frozen<set<int>>>>"),
            ("frozen<frozen<list<int>>>", "frozen<list<int>>"),
            ("frozen<vector<int, 2>>", "vector<int, 2>"),
            ("frozen<int>", "int"),
            ("org.apache.cassandra.db.marshal.UTF8Type", "text"),
            ("'org.apache.cassandra.db.marshal.LexicalUUIDType'", "uuid"),
            ("'org.apache.cassandra.db.marshal.DateType'", "timestamp"),
            ("'Int32Type'", "int"),
            ("'ReversedType(SimpleDateType)'", "date"),
            ("ListType(Int32Type)", "list<int>"),
            (
                "'FrozenType(ListType(MapType(UTF8Type,SetType(LongType))))'",
                "frozen<list<frozen<map<text, frozen<set<bigint>>>>>>",
            ),
            (
                "'org.apache.cassandra.db.marshal.VectorType(org.apache.cassandra.db.marshal.FloatType , 3)'",
                "vector<float, 3>",
            ),
            ("'TupleType(Int32Type,PartitionerDefinedOrder)'", "frozen<tuple<int, 'PartitionerDefinedOrder'>>"),
        ] {
            assert_eq!(parsed(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn words_of_collections_are_names_without_their_bracket() {
        let row = TypeRow {
            keyspace_name: "ks".into(),
            type_name: "list".into(),
            field_names: vec!["x".into()],
            field_types: vec!["int".into()],
        };
        let (types, _) = UserTypes::resolve(&[&row]);
        assert_eq!(parse_type("frozen<list>", &types).unwrap().to_string(), "frozen<list>");
    }

    #[test]
    fn a_user_type_class_brings_its_own_definition() {
        let CqlType::Udt { definition, frozen } =
            parsed("'UserType(ks,41646472,7a6970:Int32Type,61:ListType(UTF8Type))'")
        else {
            panic!("no user type")
        };
        assert!(!frozen);
        assert_eq!(definition.name, "Addr");
        let fields: Vec<_> = definition.fields.iter().map(|f| format!("{} {}", f.name, f.cql_type)).collect();
        assert_eq!(fields, ["zip int", "a frozen<list<text>>"]);
    }

    #[test]
    fn refusals_say_where_and_what() {
        for (text, at, cause) in [
            ("", 0, TypeCause::Expected("a type")),
            ("list<int", 8, TypeCause::Expected("'>'")),
            ("list<int>>", 9, TypeCause::Expected("the end of the text")),
            ("map<int>", 7, TypeCause::Expected("',' and the type of the map's values")),
            ("tuple<>", 6, TypeCause::Expected("a type")),
            ("frozen<nope>", 7, TypeCause::UnknownUserType("nope".into())),
            ("\"addr", 5, TypeCause::Expected("the closing quote")),
            ("vector<int, 0>", 12, TypeCause::Dimension),
            ("vector<int, 65537>", 12, TypeCause::Dimension),
            ("vector<int, -1>", 12, TypeCause::Dimension),
            ("vector<int, 99999999999999999999>", 12, TypeCause::Dimension),
            ("vector<empty, 2>", 0, TypeCause::VectorSize),
            ("vector<vector<int, 65536>, 65536>", 0, TypeCause::VectorSize),
            ("'a(b'", 4, TypeCause::Expected("')'")),
            ("'a", 2, TypeCause::Expected("the closing quote")),
            ("'UserType(ks,zz)'", 13, TypeCause::HexName),
            ("'UserType(ks,c3)'", 13, TypeCause::HexName),
        ] {
            assert_eq!(refused(text), TypeError { at, cause }, "{text}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}int{}", "list<".repeat(levels), ">".repeat(levels));
        assert!(parse_type(&nested(31), &types()).is_ok());
        assert_eq!(refused(&nested(32)).cause, TypeCause::TooDeep);
        for opening in
            ["list<", "tuple<", "'", "ListType(", "FrozenType(", "frozen<", "'a(", "UserType(k,61,61:", "vector<"]
        {
            let hostile = opening.repeat(200_000);
            assert!(parse_type(&hostile, &types()).is_err(), "{opening}");
        }
        // No level of the type, so no reason to refuse it.
        assert!(parse_type(&format!("{}list<int>{}", "frozen<".repeat(100), ">".repeat(100)), &types()).is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "[a-z<>,'\"(): .0-9]{0,40}") {
            let _ = parse_type(&text, &types());
        }

        #[test]
        fn any_accepted_text_has_a_canonical_form(
            text in "(frozen<|list<|map<|tuple<|vector<|int|text|addr|>|, |3|'UTF8Type'|'a\\(b\\)'|\"select\"){1,12}",
        ) {
            if let Ok(cql_type) = parse_type(&text, &types()) {
                prop_assert_eq!(parse_type(&cql_type.to_string(), &types()), Ok(cql_type));
            }
        }
    }

    #[test]
    fn every_type_of_recorded_schemas_comes_back_as_it_was() {
        for (path, text) in crate::recorded_schemas::all() {
            let schema: SystemSchema = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
            for column in &schema.columns {
                let rows: Vec<_> = schema.types.iter().filter(|t| t.keyspace_name == column.keyspace_name).collect();
                let (types, problems) = UserTypes::resolve(&rows);
                assert_eq!(problems, vec![], "{path}");
                let back = parse_type(&column.cql_type, &types).map(|t| t.to_string());
                assert_eq!(back.as_ref(), Ok(&column.cql_type), "{path} {}", column.table_name);
                for text in rows.iter().flat_map(|row| &row.field_types) {
                    assert_eq!(parse_type(text, &types).map(|t| t.to_string()).as_ref(), Ok(text), "{path}");
                }
            }
        }
    }
}
