//! Records byte for byte, topics, and tables that change.

mod common;

use cassandra_commitlog::{CqlType, Native};
use cassandra_event::{
    DeadLetter, Encoder, Format, Gap, GapKind, Int64, KeyFormat, Settings, TemplateError, TopicTemplate,
};
use common::model::{
    ColumnSpec, RangeSpec, RowSpec, Spec, at_path, deletion, example, expiring, list, live, map, native, one, table,
    udt, vector,
};
use common::{encode, settings};

const HOST: &str = "6f1c0000-0000-4000-8000-000000000001";

#[test]
fn the_example() {
    let encoded = encode(settings(Format::Json), &example().own());
    let digest = format!("{:032x}", common::events::digest(&example().own()));
    let expected = r#"{"v":1,"id":"c1/HOST/1795246257030/62691/0","digest":"DIGEST",
"keyspace":"shop","table":"orders","table_id":"5a1c0000-0000-1000-8000-000000000001",
"key":{"customer":42},
"partition_delete":{"ts":1700000000000000,"at":1700000000},
"static":{"tier":{"value":"gold","ts":1700000000000001}},
"rows":[
{"clustering":{"order":7},"liveness":{"ts":1700000000000002,"ttl":86400,"expires":1700086400},
"cells":{"total":{"value":"12.50","ts":1700000000000002},
"note":{"deleted":1700000000,"ts":1700000000000003},
"tags":{"overwrite":{"ts":1700000000000001,"at":1700000000},
"elements":[{"path":"red","ts":1700000000000002},
{"path":"blue","deleted":1700000000,"ts":1700000000000002}]}}},
{"clustering":{"order":8},"delete":{"ts":1700000000000004,"at":1700000000}}],
"range_deletes":[{"start":{"clustering":{"order":10},"inclusive":true},
"end":{"clustering":{"order":20},"inclusive":false},"ts":1700000000000005,"at":1700000000}],
"source":{"cluster":"c1","host_id":"HOST","segment":"CommitLog-7-1795246257030.log","position":62691}}"#;
    let expected = expected.replace('\n', "").replace("HOST", HOST).replace("DIGEST", &digest);
    assert_eq!(encoded.text(), expected);
    assert_eq!(encoded.key(), br#"{"customer":42}"#);
    assert_eq!(encoded.encoder.topic(encoded.records[0].table), "cdc.shop.orders");
    assert_eq!(encoded.records[0].hash, cassandra_event::murmur2(br#"{"customer":42}"#));
}

/// The text of one value in an event.
fn text(cql_type: CqlType, value: &[u8]) -> String {
    text_with(settings(Format::Json), cql_type, value)
}

fn text_with(settings: Settings, cql_type: CqlType, value: &[u8]) -> String {
    let mut spec = Spec::new(table(&[("k", native(Native::Int))], &[], &[("v", cql_type)]), &[&[0, 0, 0, 1]]);
    spec.rows.push(RowSpec { columns: vec![one(0, live(value, 1))], ..RowSpec::default() });
    let encoded = encode(settings, &spec.own());
    let (_, behind) = encoded.text().split_once(r#""cells":{"v":{"value":"#).unwrap();
    let (value, _) = behind.rsplit_once(r#","ts":"#).unwrap();
    value.to_owned()
}

fn decimal(scale: i32, unscaled: i64) -> Vec<u8> {
    let unscaled = num_bigint::BigInt::from(unscaled).to_signed_bytes_be();
    [scale.to_be_bytes().to_vec(), unscaled].concat()
}

#[test]
fn scalars() {
    let cases: &[(Native, &[u8], &str)] = &[
        (Native::Int, &[0xff, 0xff, 0xff, 0xfe], "-2"),
        (Native::Int, &[1, 2, 3], r#"{"$base64":"AQID"}"#),
        (Native::Int, &[], r#"{"$empty":true}"#),
        (Native::Tinyint, &[0x80], "-128"),
        (Native::Bigint, &i64::MIN.to_be_bytes(), "-9223372036854775808"),
        (Native::Timestamp, &(-1_i64).to_be_bytes(), "-1"),
        (Native::Boolean, &[1], "true"),
        (Native::Boolean, &[2], r#"{"$base64":"Ag=="}"#),
        (Native::Text, b"", r#""""#),
        (Native::Text, "a\"\\\n\u{1}\u{7f}ü\u{1f600}".as_bytes(), "\"a\\\"\\\\\\n\\u0001\u{7f}ü\u{1f600}\""),
        (Native::Text, &[0xff], r#"{"$base64":"/w=="}"#),
        (Native::Ascii, "ü".as_bytes(), r#"{"$base64":"w7w="}"#),
        (Native::Blob, b"", r#""""#),
        (Native::Blob, b"\x00\xff", r#""AP8=""#),
        (Native::Float, &0.1_f32.to_be_bytes(), "0.1"),
        (Native::Float, &(-0.0_f32).to_be_bytes(), "-0.0"),
        (Native::Float, &0x7fc0_0000_u32.to_be_bytes(), r#""NaN""#),
        (Native::Float, &0x7fc0_0001_u32.to_be_bytes(), r#"{"$base64":"f8AAAQ=="}"#),
        (Native::Float, &0x15ae_43fd_u32.to_be_bytes(), "7.0385307e-26"),
        (Native::Double, &f64::NEG_INFINITY.to_be_bytes(), r#""-Infinity""#),
        (Native::Double, &5e-324_f64.to_be_bytes(), "5e-324"),
        (Native::Double, &0xfff8_0000_0000_0000_u64.to_be_bytes(), r#"{"$base64":"//gAAAAAAAA="}"#),
        (Native::Varint, &[0xff, 0x7f], r#""-129""#),
        (Native::Varint, &[0, 0x7f], r#"{"$base64":"AH8="}"#),
        (
            Native::Varint,
            &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            r#""-43556142965880123323311949751266331066368""#,
        ),
        (Native::Date, &0x8000_0000_u32.to_be_bytes(), r#""1970-01-01""#),
        (Native::Date, &0x7fff_ffff_u32.to_be_bytes(), r#""1969-12-31""#),
        (Native::Date, &0_u32.to_be_bytes(), "-2147483648"),
        (Native::Date, &0x802c_c0a0_u32.to_be_bytes(), r#""9999-12-31""#),
        (Native::Date, &0x802c_c0a1_u32.to_be_bytes(), "2932897"),
        (Native::Date, &0x7fbd_4b7d_u32.to_be_bytes(), r#""-9999-01-01""#),
        (Native::Date, &0x7fbd_4b7c_u32.to_be_bytes(), "-4371588"),
        (Native::Time, &86_399_999_999_999_i64.to_be_bytes(), r#""23:59:59.999999999""#),
        (Native::Time, &86_400_000_000_000_i64.to_be_bytes(), r#"{"$base64":"AABOlJFPAAA="}"#),
        (Native::Inet, &[127, 0, 0, 1], r#""127.0.0.1""#),
        (Native::Inet, &[0; 16], r#""::""#),
        (Native::Duration, &[2, 4, 6], r#"{"months":1,"days":2,"nanos":3}"#),
        (Native::Duration, &[0x80, 2, 4, 6], r#"{"$base64":"gAIEBg=="}"#),
        (Native::Empty, b"", r#"{"$empty":true}"#),
        (Native::Uuid, &[0xab; 16], r#""abababab-abab-abab-abab-abababababab""#),
    ];
    for (kind, bytes, expected) in cases {
        assert_eq!(text(native(*kind), bytes), *expected, "{kind:?} {bytes:?}");
    }
    let custom = CqlType::Custom { class: "org.example.T".to_owned() };
    assert_eq!(text(custom.clone(), &[1]), r#"{"$base64":"AQ=="}"#);
    assert_eq!(text(custom, &[]), r#"{"$empty":true}"#);
}

#[test]
fn decimals_are_javas() {
    let cases = [
        (2, 1250, "12.50"),
        (-3, 12, "1.2E+4"),
        (0, 0, "0"),
        (2, 0, "0.00"),
        (-3, 0, "0E+3"),
        (6, 1, "0.000001"),
        (7, 1, "1E-7"),
        (10, -123, "-1.23E-8"),
        (3, -123, "-0.123"),
        (i32::MAX, 5, "5E-2147483647"),
        (i32::MIN, 55, "5.5E+2147483649"),
    ];
    for (scale, unscaled, expected) in cases {
        assert_eq!(text(native(Native::Decimal), &decimal(scale, unscaled)), format!("\"{expected}\""));
    }
}

#[test]
fn digits_have_a_limit() {
    for (kind, head) in [(Native::Varint, 0), (Native::Decimal, 4)] {
        let mut bytes = vec![0x7f; head + 1536];
        let printed = text(native(kind), &bytes);
        if head == 0 {
            assert_eq!(printed.trim_matches('"'), num_bigint::BigInt::from_signed_bytes_be(&bytes).to_string());
            bytes[0] = 0x80;
            let printed = text(native(kind), &bytes);
            assert_eq!(printed.trim_matches('"'), num_bigint::BigInt::from_signed_bytes_be(&bytes).to_string());
        }
        assert!(!printed.contains("$base64"));
        bytes.push(1);
        assert!(text(native(kind), &bytes).starts_with(r#"{"$base64":"#));
    }
}

fn item(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as i32).to_be_bytes()[..], bytes].concat()
}

#[test]
fn compounds() {
    let int = || native(Native::Int);
    let one = || item(&[0, 0, 0, 1]);
    let null = (-1_i32).to_be_bytes();
    let two = || 2_i32.to_be_bytes().to_vec();
    let values = [two(), one(), null.to_vec()].concat();
    assert_eq!(text(list(int(), true), &values), "[1,null]");
    assert_eq!(text(list(int(), true), &0_i32.to_be_bytes()), "[]");
    assert_eq!(text(list(int(), true), &[]), r#"{"$empty":true}"#);
    assert!(text(list(int(), true), &[&values[..], &[0]].concat()).starts_with(r#"{"$base64":"#));
    assert!(text(list(int(), true), &i32::MAX.to_be_bytes()).starts_with(r#"{"$base64":"#));
    let entries = [two(), item(b"a"), one(), item(b""), item(b"")].concat();
    assert_eq!(text(map(native(Native::Text), int(), true), &entries), r#"[["a",1],["",{"$empty":true}]]"#);
    let tuple = || CqlType::Tuple(vec![int(), native(Native::Text), int()]);
    assert_eq!(text(tuple(), &[one(), null.to_vec()].concat()), "[1,null]");
    assert_eq!(text(tuple(), &[one(), item(b"x"), one()].concat()), r#"[1,"x",1]"#);
    assert!(text(tuple(), &[one(), item(b"x"), one(), one()].concat()).starts_with(r#"{"$base64":"#));
    let person = || udt(&[("first \"n\"", native(Native::Text)), ("age", int())], true);
    assert_eq!(text(person(), &item(b"x")), r#"{"first \"n\"":"x"}"#);
    assert_eq!(text(person(), &[item(b"x"), null.to_vec()].concat()), r#"{"first \"n\"":"x","age":null}"#);
    // Else it would be read as an empty value.
    assert_eq!(text(udt(&[("$empty", native(Native::Boolean))], true), &item(&[1])), r#"{"$base64":"AAAAAQE="}"#);
    assert_eq!(text(vector(int(), 2), &[0, 0, 0, 1, 0, 0, 0, 2]), "[1,2]");
    assert_eq!(text(vector(native(Native::Text), 2), &[1, b'a', 0]), r#"["a",""]"#);
    assert_eq!(text(vector(native(Native::Smallint), 1), &[2, 0, 9]), "[9]");
    assert!(text(vector(native(Native::Text), 1), &[0x80, 1, b'a']).starts_with(r#"{"$base64":"#));
}

#[test]
fn sixty_four_bits_as_strings() {
    let strings = || Settings { int64: Int64::String, ..settings(Format::Json) };
    assert_eq!(text_with(strings(), native(Native::Bigint), &7_i64.to_be_bytes()), r#""7""#);
    assert_eq!(text_with(strings(), native(Native::Int), &7_i32.to_be_bytes()), "7");
    let mut spec = Spec::new(table(&[("k", native(Native::Bigint))], &[], &[]), &[&9_i64.to_be_bytes()]);
    spec.partition_deletion = Some(deletion(5, 6));
    let encoded = encode(strings(), &spec.own());
    assert!(encoded.text().contains(r#""key":{"k":"9"},"partition_delete":{"ts":"5","at":6}"#));
    // The record's key has numbers: this choice moves no key.
    assert_eq!(encoded.key(), br#"{"k":9}"#);
}

#[test]
fn keys() {
    let columns = [("a", native(Native::Int)), ("b \"q\"", native(Native::Text))];
    let spec = Spec::new(table(&columns, &[], &[]), &[&[0, 0, 0, 7], "ü".as_bytes()]);
    let encoded = encode(settings(Format::Json), &spec.own());
    assert_eq!(encoded.key(), "{\"a\":7,\"b \\\"q\\\"\":\"ü\"}".as_bytes());
    let raw = encode(Settings { key: KeyFormat::Raw, ..settings(Format::Json) }, &spec.own());
    assert_eq!(raw.key(), [&[0, 4, 0, 0, 0, 7, 0, 0, 2][..], "ü".as_bytes(), &[0]].concat());
    assert!(raw.text().contains("\"key\":{\"a\":7,\"b \\\"q\\\"\":\"ü\"}"));
}

#[test]
fn counters_edges_and_odd_rows() {
    let mut spec = Spec::new(
        table(
            &[("k", native(Native::Int))],
            &[("c", native(Native::Text)), ("d", native(Native::Int))],
            &[("n", native(Native::Counter)), ("u", udt(&[("x", native(Native::Int))], false))],
        ),
        &[&[0, 0, 0, 1]],
    );
    let shard = |fill: u8, count: i64| [&[fill; 16][..], &3_i64.to_be_bytes(), &count.to_be_bytes()].concat();
    let context = [&[0, 2, 0x80, 0, 0, 1][..], &shard(1, 12), &shard(2, -2), &shard(3, 5)].concat();
    spec.rows.push(RowSpec {
        clustering: vec![Some(vec![]), None],
        deletion: Some(deletion(1, 2)),
        shadowable: true,
        columns: vec![
            one(0, live(&context, 9)),
            ColumnSpec {
                column: 1,
                deletion: None,
                cells: vec![at_path(&[0, 0], expiring(&[], 4, 5, 6)), at_path(&[0, 9], live(b"x", 4))],
            },
        ],
        ..RowSpec::default()
    });
    spec.rows.push(RowSpec { clustering: vec![Some(vec![]), Some(vec![])], ..RowSpec::default() });
    let edge = || (vec![], true);
    spec.ranges.push(RangeSpec { start: edge(), end: edge(), deletion: deletion(1, 2) });
    spec.ranges.push(RangeSpec { start: (vec![Some(b"a".to_vec())], false), end: edge(), deletion: deletion(1, 2) });
    let encoded = encode(settings(Format::Json), &spec.own());
    let (_, behind) = encoded.text().split_once(r#""rows":"#).unwrap();
    let (rows, _) = behind.split_once(r#","source""#).unwrap();
    let expected = r#"[{"clustering":{"c":"","d":null},"delete":{"ts":1,"at":2,"shadowable":true},
"cells":{"n":{"value":15,"shards":[
{"id":"01010101-0101-0101-0101-010101010101","clock":3,"count":12},
{"id":"02020202-0202-0202-0202-020202020202","clock":3,"count":-2,"kind":"local"},
{"id":"03030303-0303-0303-0303-030303030303","clock":3,"count":5,"kind":"remote"}],"ts":9},
"u":{"elements":[{"path":"x","value":{"$empty":true},"ts":4,"ttl":5,"expires":6},
{"path":9,"value":{"$base64":"eA=="},"ts":4}]}}},
{"clustering":{"c":"","d":{"$empty":true}}}],
"range_deletes":[{"ts":1,"at":2},
{"start":{"clustering":{"c":"a"},"inclusive":false},"ts":1,"at":2}]"#;
    assert_eq!(rows, expected.replace('\n', ""));
}

#[test]
fn dead_letters_and_gaps() {
    let encoder = Encoder::new(settings(Format::Json));
    let (mut arena, mut records) = (vec![], vec![]);
    encoder.dead_letter(
        &DeadLetter {
            segment: common::SEGMENT,
            position: common::position(),
            reason: "unknown-table",
            detail: "table id 5a1c",
            keyspace: None,
            table: None,
            size: 3,
            crc: 0x0c0d_11aa,
            version: 7,
            bytes: &[1, 2, 3],
        },
        &mut arena,
        &mut records,
    );
    let gap = Gap {
        segment: common::SEGMENT,
        kind: GapKind::SegmentDeleted,
        from: Some(62_691),
        to: None,
        entries: None,
        at: 1_795_254_000,
        ids_may_shift: false,
    };
    encoder.gap(&gap, &mut arena, &mut records);
    let text = |at: usize| std::str::from_utf8(records[at].value_bytes(&arena)).unwrap();
    let source = format!(r#""source":{{"cluster":"c1","host_id":"{HOST}","segment":"CommitLog-7-1795246257030.log"}}"#);
    let letter = format!(
        r#"{{"v":1,"id":"c1/{HOST}/1795246257030/62691","reason":"unknown-table","detail":"table id 5a1c","keyspace":null,"table":null,"entry":{{"position":62691,"size":3,"crc":"0c0d11aa","version":7,"base64":"AQID"}},{source}}}"#
    );
    assert_eq!(text(0), letter);
    assert_eq!(records[0].key_bytes(&arena), format!("c1/{HOST}/1795246257030/62691").as_bytes());
    let expected = format!(
        r#"{{"v":1,"gap":"segment-deleted","from":62691,"to":null,"entries":null,"at":"2026-11-21T09:40:00Z",{source}}}"#
    );
    assert_eq!(text(1), expected);
    assert_eq!(records[1].key_bytes(&arena), format!("c1/{HOST}/CommitLog-7-1795246257030.log").as_bytes());
    // As a message it says the same.
    let encoder = Encoder::new(settings(Format::Protobuf));
    let (mut arena, mut records) = (vec![], vec![]);
    encoder.gap(&Gap { ids_may_shift: true, entries: Some(0), ..gap }, &mut arena, &mut records);
    let message: common::messages::Gap = prost::Message::decode(records[0].value_bytes(&arena)).unwrap();
    assert_eq!(prost::Message::encode_to_vec(&message), records[0].value_bytes(&arena));
    assert_eq!((message.from, message.to, message.entries), (Some(62_691), None, Some(0)));
    assert_eq!((message.gap.as_str(), message.at.as_str()), ("segment-deleted", "2026-11-21T09:40:00Z"));
    assert!(message.ids_may_shift && message.source.is_some_and(|source| source.position == 0));
}

#[test]
fn topics_are_legal_and_apart() {
    let template = TopicTemplate::new("{prefix}.{keyspace}.{table}", "cdc").unwrap();
    assert_eq!(template.topic("shop", "order_items"), "cdc.shop.order_items");
    let names = ["a", "a.b", "b", "a-b", "a-2db", "ä", "a b", "", "A", "_"];
    let mut topics = std::collections::BTreeSet::new();
    for keyspace in names {
        for table in names {
            assert!(topics.insert(template.topic(keyspace, table)));
        }
    }
    let long = "x".repeat(300);
    assert!(topics.insert(template.topic(&long, "a")) && topics.insert(template.topic(&long, "b")));
    for topic in topics {
        assert!(topic.len() <= 249 && topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
    }
    let refused = |template| TopicTemplate::new(template, "cdc").unwrap_err();
    assert_eq!(refused("{prefix}.{tabel}"), TemplateError::Placeholder("tabel".to_owned()));
    assert_eq!(refused("{prefix"), TemplateError::Brace);
    assert_eq!(refused("a b"), TemplateError::Character(' '));
    assert_eq!(refused("prefix}"), TemplateError::Character('}'));
    assert_eq!(refused(""), TemplateError::Empty);
    assert_eq!(TopicTemplate::new("{prefix}", "ü"), Err(TemplateError::Character('ü')));
}

/// Another schema may have other names for the same table.
#[test]
fn a_changed_table_is_noticed() {
    let mut spec = example();
    let mut encoder = Encoder::new(settings(Format::Json));
    let mut owned = spec.own();
    let encode = |encoder: &mut Encoder, owned: &common::model::Owned| {
        let (mut arena, mut records) = (vec![], vec![]);
        encoder.encode(&owned.update(), &common::source(), &mut arena, &mut records).expect("below the limit");
        (String::from_utf8(records[0].value_bytes(&arena).to_vec()).unwrap(), records[0].table)
    };
    let (_, first) = encode(&mut encoder, &owned);
    owned.table.partition_key[0].name = "client".to_owned();
    owned.table.columns[0].name = "sum".to_owned();
    let (text, second) = encode(&mut encoder, &owned);
    assert!(text.contains(r#""key":{"client":42}"#) && text.contains(r#""sum":{"value":"12.50""#));
    assert_eq!(first, second);
    // Another name is another topic: records that wait keep theirs.
    spec.table.name = "orders_2".to_owned();
    let (text, third) = encode(&mut encoder, &spec.own());
    assert!(text.contains(r#""table":"orders_2""#));
    assert_eq!((encoder.topic(first), encoder.topic(third)), ("cdc.shop.orders", "cdc.shop.orders_2"));
    // A column that the schema does not have is named by its index.
    owned.table.columns.clear();
    let (text, _) = encode(&mut encoder, &owned);
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["rows"][0]["cells"].get("#0").is_some());
}

/// The JSON of the contract is the JSON that we write, but for its line breaks and dots.
#[test]
fn the_contract_shows_what_is_written() {
    let blocks: Vec<_> = include_str!("../CONTRACT.md").split("```json\n").skip(1).collect();
    let shown: Vec<serde_json::Value> =
        blocks.iter().map(|block| serde_json::from_str(block.split_once("```").unwrap().0).unwrap()).collect();
    let written: serde_json::Value =
        serde_json::from_str(encode(settings(Format::Json), &example().own()).text()).unwrap();
    for (name, value) in written.as_object().unwrap() {
        if !matches!(name.as_str(), "id" | "digest" | "table_id" | "source") {
            assert_eq!(*value, shown[0][name], "{name}");
        }
    }
    let names = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&written), names(&shown[0]));
    assert_eq!(shown.len(), 3);
}
