//! A topic with more partitions than when it was used first: warn, pin, halt.
//!
//! The in-process broker can't give a topic more: another one has them, and the service finds it when it starts again.

use std::collections::BTreeMap;
use std::fs;

use tempfile::TempDir;

use super::agent::{HOST, Place};
use super::kafka::Kafka;
use super::mutations::{Kind, TOPIC};
use super::node::{Node, Options};

const BEFORE: i32 = 3;
const AFTER: i32 = 7;

/// A service that has published to a topic with few partitions, and stands before one with more.
struct Moved {
    node: Node,
    place: Place,
    /// The partition of each key so far.
    before: BTreeMap<String, i32>,
    more: Kafka,
    written: usize,
    _folder: TempDir,
}

/// The partition of each key; a key has one only.
#[track_caller]
fn partitions(kafka: &Kafka, count: usize) -> BTreeMap<String, i32> {
    let mut found = BTreeMap::new();
    let got = kafka.read(count);
    assert_eq!(got.len(), count);
    for record in got {
        assert_eq!(*found.entry(record.key.clone()).or_insert(record.partition), record.partition, "{record:?}");
    }
    found
}

impl Moved {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(folder.path(), Options::new(430));
        let few = Kafka::of(BEFORE, [TOPIC.to_owned()]);
        let more = Kafka::of(AFTER, [TOPIC.to_owned()]);
        let mut place = Place::new(folder.path(), few.bootstrap());
        node.write_many(Kind::Cdc, 300);
        node.sync();
        let (code, said) = place.run(&["run", "--once"]);
        assert_eq!(code, Some(0), "{said}");
        let before = partitions(&few, 300);
        assert!(before.len() > 30 && before.values().max() == Some(&(BEFORE - 1)));
        node.write_many(Kind::Cdc, 500);
        node.sync();
        place.bootstrap = more.bootstrap();
        place.configure(HOST);
        Self { node, place, before, more, written: 500, _folder: folder }
    }

    fn run(&self, on_change: &str) -> (Option<i32>, String) {
        let setting = format!("kafka.on_partition_change={on_change}");
        self.place.run(&["run", "--once", "--set", &setting])
    }
}

#[test]
fn told_to_warn_it_says_so_and_uses_all_partitions() {
    let moved = Moved::new();
    let (code, said) = moved.run("warn");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("topic {TOPIC} had {BEFORE} partitions and has {AFTER}")), "{said}");
    let after = partitions(&moved.more, moved.written);
    assert_eq!(after.values().max(), Some(&(AFTER - 1)));
    assert!(after.iter().any(|(key, partition)| moved.before.get(key).is_some_and(|before| before != partition)));
    // Once: the new number is the one that counts from now on.
    let (code, said) = moved.run("warn");
    assert!(code == Some(0) && !said.contains("partitions and has"), "{said}");
}

#[test]
fn told_to_pin_it_keeps_every_key_where_it_is() {
    let mut moved = Moved::new();
    let (code, said) = moved.run("pin");
    assert_eq!(code, Some(0), "{said}");
    let after = partitions(&moved.more, moved.written);
    let known: BTreeMap<_, _> = after.into_iter().filter(|(key, _)| moved.before.contains_key(key)).collect();
    assert!(known.len() > 30);
    assert!(known.iter().all(|(key, partition)| moved.before[key] == *partition));
    // For good, not for one life.
    moved.node.write_many(Kind::Cdc, 200);
    moved.node.sync();
    let (code, said) = moved.run("pin");
    assert_eq!(code, Some(0), "{said}");
    let after = partitions(&moved.more, moved.written + 200);
    assert!(after.iter().all(|(key, partition)| moved.before.get(key).is_none_or(|before| before == partition)));
}

#[test]
fn told_to_halt_it_publishes_nothing_until_somebody_decides() {
    let moved = Moved::new();
    let raw = super::node::list(&moved.node.cdc_raw);
    for _ in 0..2 {
        let (code, said) = moved.run("halt");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains(&format!("had {BEFORE} partitions and has {AFTER}")), "{said}");
        assert_eq!(moved.more.read(0).len(), 0);
        assert_eq!(super::node::list(&moved.node.cdc_raw), raw);
    }
    let (code, said) = moved.run("pin");
    assert_eq!(code, Some(0), "{said}");
    let after = partitions(&moved.more, moved.written);
    assert!(after.iter().all(|(key, partition)| moved.before.get(key).is_none_or(|before| before == partition)));
    let kept = fs::read_to_string(moved.place.state.join("partitions.json")).unwrap();
    assert!(kept.contains(&format!(":{BEFORE}")), "{kept}");
}
