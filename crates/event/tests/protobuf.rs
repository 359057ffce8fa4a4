//! Events in Protobuf against messages of prost, built the plain way.

mod common;

use cassandra_event::Format;
use common::arbitrary::any_update;
use common::messages::{self, Event};
use common::model::{Spec, list, live, native, one, table, vector};
use common::{encode, settings};
use proptest::prelude::*;
use prost::Message as _;

fn compare(spec: &Spec) {
    let owned = spec.own();
    let encoded = encode(settings(Format::Protobuf), &owned);
    let expected = messages::event(spec, &owned);
    let decoded = Event::decode(encoded.value()).unwrap();
    // By text where a NaN is inside: it is not equal to itself.
    if decoded != expected {
        assert_eq!(format!("{decoded:?}"), format!("{expected:?}"));
    }
    // Not only the same fields: the same bytes, so every NaN and every length is as prost would write it.
    assert_eq!(encoded.value(), expected.encode_to_vec());
    assert_eq!(decoded.encode_to_vec(), encoded.value());
    // The key does not depend on the format.
    assert_eq!(encoded.key(), encode(settings(Format::Json), &owned).key());
}

#[test]
fn the_example_is_as_promised() {
    compare(&common::model::example());
}

#[test]
fn lengths_around_a_byte_more_are_right() {
    use cassandra_commitlog::Native;
    for len in (0..400).chain(16_000..16_500).chain([2_097_000, 2_097_100, 2_097_152]) {
        let regular = [("v", native(Native::Blob))];
        let mut spec = Spec::new(table(&[("k", native(Native::Int))], &[], &regular), &[&[0, 0, 0, 1]]);
        spec.rows.push(common::model::RowSpec { columns: vec![one(0, live(&vec![7; len], 1))], ..Default::default() });
        let owned = spec.own();
        let mut settings = settings(Format::Protobuf);
        settings.max_record_bytes = usize::MAX;
        let encoded = encode(settings, &owned);
        assert_eq!(encoded.value(), messages::event(&spec, &owned).encode_to_vec(), "{len}");
    }
}

#[test]
fn values_nested_deeper_than_readers_go_are_raw() {
    use cassandra_commitlog::Native;
    let (mut deep, mut value) = (native(Native::Int), 7_i32.to_be_bytes().to_vec());
    for _ in 0..32 {
        deep = list(deep, true);
        value = [&1_i32.to_be_bytes()[..], &(value.len() as i32).to_be_bytes(), &value].concat();
    }
    let mut spec = Spec::new(table(&[("k", native(Native::Int))], &[], &[("v", deep)]), &[&[0, 0, 0, 1]]);
    spec.rows.push(common::model::RowSpec { columns: vec![one(0, live(&value, 1))], ..Default::default() });
    let encoded = encode(settings(Format::Protobuf), &spec.own());
    let event = Event::decode(encoded.value()).unwrap();
    let mut value = event.rows[0].cells[0].value.clone().unwrap();
    let mut depth = 0;
    while let Some(messages::value::Kind::List(list)) = value.kind {
        value = list.values[0].clone();
        depth += 1;
    }
    assert!(matches!(value.kind, Some(messages::value::Kind::Raw(_))));
    assert_eq!(depth, 24);
}

#[test]
fn embeddings_are_packed() {
    use cassandra_commitlog::Native;
    let floats: Vec<u8> = (0..1536).flat_map(|at| (at as f32 / 7.0).to_be_bytes()).collect();
    let regular = [("v", vector(native(Native::Float), 1536))];
    let mut spec = Spec::new(table(&[("k", native(Native::Int))], &[], &regular), &[&[0, 0, 0, 1]]);
    spec.rows.push(common::model::RowSpec { columns: vec![one(0, live(&floats, 1))], ..Default::default() });
    compare(&spec);
    assert!(encode(settings(Format::Protobuf), &spec.own()).value().len() < 4 * 1536 + 400);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn events_are_what_the_update_says(spec in any_update()) {
        compare(&spec);
    }
}
