//! Events in JSON against a tree built the plain way, and values back to their bytes.

mod common;

use cassandra_event::{Format, Int64, KeyFormat};
use common::arbitrary::{NATIVES, any_type, any_update, any_value};
use common::model::{Spec, live, native, one, table};
use common::{encode, events, rebuild, settings};
use proptest::prelude::*;
use serde_json::Value;

fn compare(spec: &Spec) {
    let owned = spec.own();
    let encoded = encode(settings(Format::Json), &owned);
    let json: Value = serde_json::from_slice(encoded.value()).unwrap();
    assert_eq!(json, events::event(spec, &owned), "{}", encoded.text());
    let key: Value = serde_json::from_slice(encoded.key()).unwrap();
    assert_eq!(key, events::key(spec));
    assert_eq!(encoded.records[0].hash, cassandra_event::murmur2(encoded.key()));
}

/// An event with one value, which comes back as the JSON of that value.
fn value_json(cql_type: &cassandra_commitlog::CqlType, bytes: &[u8], int64: Int64) -> Value {
    // Frozen, whatever the type says: the value is one cell.
    let wrapped = cassandra_commitlog::CqlType::Tuple(vec![cql_type.clone()]);
    let table = table(&[("k", native(cassandra_commitlog::Native::Int))], &[], &[("v", wrapped)]);
    let mut spec = Spec::new(table, &[&[0, 0, 0, 1]]);
    let value = [&i32::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat();
    spec.rows.push(common::model::RowSpec { columns: vec![one(0, live(&value, 1))], ..Default::default() });
    let encoded = encode(cassandra_event::Settings { int64, ..settings(Format::Json) }, &spec.own());
    let mut event: Value = serde_json::from_slice(encoded.value()).unwrap();
    event["rows"][0]["cells"]["v"]["value"][0].take()
}

fn key_text(cql_type: &cassandra_commitlog::CqlType, bytes: &[u8]) -> Vec<u8> {
    let spec = Spec::new(table(&[("k", cql_type.clone())], &[], &[]), &[bytes]);
    encode(settings(Format::Json), &spec.own()).key().to_vec()
}

#[test]
fn the_example_is_as_promised() {
    compare(&common::model::example());
}

#[test]
fn every_native_type_of_every_length_comes_back() {
    for kind in NATIVES {
        for len in 0..40_usize {
            for fill in [0, 1, 0x7f, 0x80, 0xff, 0x31, 0x22] {
                let bytes = vec![fill; len];
                let json = value_json(&native(kind), &bytes, Int64::Number);
                assert_eq!(rebuild::bytes(&native(kind), &json), bytes, "{kind:?} {json}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn events_are_what_the_update_says(spec in any_update()) {
        compare(&spec);
    }

    #[test]
    fn values_come_back(
        (cql_type, bytes) in any_type().prop_flat_map(|t| (Just(t.clone()), any_value(&t))),
        strings in any::<bool>(),
    ) {
        let json = value_json(&cql_type, &bytes, if strings { Int64::String } else { Int64::Number });
        prop_assert_eq!(rebuild::bytes(&cql_type, &json), bytes, "{:?} {}", cql_type, json);
    }

    #[test]
    fn different_keys_have_different_texts(
        (cql_type, left, right) in any_type().prop_flat_map(|t| (Just(t.clone()), any_value(&t), any_value(&t))),
    ) {
        prop_assert_eq!(left == right, key_text(&cql_type, &left) == key_text(&cql_type, &right));
    }

    #[test]
    fn any_key_bytes_render(parts in 2..4_usize, key in proptest::collection::vec(any::<u8>(), 0..12)) {
        let columns: Vec<_> = (0..parts).map(|_| ("k", native(cassandra_commitlog::Native::Blob))).collect();
        let mut owned = Spec::new(table(&columns, &[], &[]), &[&[]]).own();
        owned.key = key.clone();
        for format in [Format::Json, Format::Protobuf] {
            let encoded = encode(settings(format), &owned);
            prop_assert!(serde_json::from_slice::<Value>(encoded.key()).is_ok());
        }
        let raw = encode(cassandra_event::Settings { key: KeyFormat::Raw, ..settings(Format::Json) }, &owned);
        prop_assert_eq!(raw.key(), key.as_slice());
    }
}
