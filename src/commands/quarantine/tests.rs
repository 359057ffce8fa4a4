//! What was kept for want of a schema is published once there is one, under the ids that it would have had.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use cassandra_commitlog::{Plaintext, Position, SegmentName, Tail};
use cassandra_event::{DeadLetter, Format, Int64, KeyFormat, Settings, TopicTemplate, Unit};

use super::*;
use crate::demo::broker::DemoBroker;
use crate::demo::node;
use crate::filter::Tables;
use crate::kafka::KafkaSettings;
use crate::walk::{self, Seen};

const TOPICS: [&str; 3] = ["t.shop.customers", "t.shop.inventory", "t.shop.orders"];

fn settings(cluster: &str, host_id: &str) -> Settings {
    Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 900 << 10,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "t").unwrap(),
        dead_letter_topic: "t.dead-letter".into(),
        cluster: cluster.into(),
        host_id: host_id.into(),
    }
}

fn configured(state: &Path, broker: &DemoBroker) -> Configured {
    Configured {
        state: state.to_owned(),
        agent: "a".into(),
        // Another node's by now: ids are those of the time of reading.
        node: Some(("other".into(), "node".into())),
        schema: Some(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/4.1-demo/schema.json")),
        contact: None,
        tables: Tables::default(),
        kafka: KafkaSettings { bootstrap: broker.bootstrap(), topic_limits: false, ..KafkaSettings::default() },
        events: Box::new(settings),
    }
}

/// Keeps every entry of the demo's first segment that is of a CDC table, and says how many.
fn keep_all(state: &Path, folder: &Path) -> usize {
    node::start(folder).join().unwrap().unwrap();
    let segments = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let path: PathBuf = segments.filter(|path| path.extension().is_some_and(|log| log == "log")).min().unwrap();
    let name = SegmentName::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let bytes = fs::read(&path).unwrap();
    let options = walk::Options { tail: Tail::Sealed, salvage: false, index: None, limit: None, start: None };
    let schema = Arc::new(node::schema().unwrap().resolve().0);
    let mut line = Line::new(schema, Encoder::new(settings("c", "h")), Wanted::default());
    let mut quarantine = Quarantine::open_to_keep(state, &settings("c", "h")).unwrap();
    let mut kept = 0;
    let walked = walk::walk(&name, &bytes, options, &mut Plaintext::new(None), |descriptor, seen| {
        let Seen::Entry(entry) = seen else { return ControlFlow::Continue(()) };
        let (mut sink, mut ledger) = (Sink::Count(Vec::new()), Ledger::new(Window::default()));
        let segment = Segment::new(name);
        if line.entry(&segment, descriptor.version, &entry, false, &mut sink, &mut ledger).unwrap().unwrap().outcome
            != Outcome::NotCdc
        {
            let letter = DeadLetter {
                segment: segment.file_name(),
                position: Position { segment: name.id, offset: entry.end() },
                reason: "unknown-table",
                detail: "",
                keyspace: None,
                table: None,
                size: u32::try_from(entry.body.len()).unwrap(),
                crc: entry.crc,
                version: descriptor.version.number(),
                bytes: entry.body,
            };
            quarantine.keep_entry(&letter).unwrap();
            kept += 1;
        }
        ControlFlow::<()>::Continue(())
    });
    assert!(walked.unwrap().is_continue());
    kept
}

#[test]
fn what_was_kept_is_published_once_it_can_be_decoded() {
    let folder = tempfile::tempdir().unwrap();
    let (state, raw) = (folder.path().join("state"), folder.path().join("raw"));
    fs::create_dir(&state).unwrap();
    fs::create_dir(&raw).unwrap();
    let kept = keep_all(&state, &raw);
    assert!(kept > 20, "{kept}");
    let mut quarantine = find(&state).unwrap().unwrap();
    quarantine_region(&state);
    // One that is damaged since stays, and stops no other.
    let items = quarantine.items().unwrap();
    let torn = items.iter().find(|item| item.kind == Kind::Entry).unwrap().name.clone();
    fs::write(state.join("quarantine").join(&torn), b"{").unwrap();
    let rows: Vec<Value> = items.iter().filter_map(|item| row(&quarantine, item)).collect();
    assert_eq!(rows.len(), kept + 1);
    assert_eq!(rows.iter().filter(|row| row["reason"] == "unreadable").count(), 1);
    assert_eq!(rows.iter().filter(|row| row["reason"] == "damaged-bytes").count(), 1);
    let mut ids: BTreeSet<String> = rows.iter().filter_map(|row| Some(row["id"].as_str()?.to_owned())).collect();
    assert_eq!(ids.len(), kept - 1);

    let broker = DemoBroker::start(&TOPICS.map(ToOwned::to_owned), 3).unwrap();
    let configured = configured(&state, &broker);
    // Without its table an entry is kept, and so is one that nobody wants.
    let schema = state.join("schema.json");
    let mut rows: Value = serde_json::from_slice(&fs::read(configured.schema.as_ref().unwrap()).unwrap()).unwrap();
    rows["tables"].as_array_mut().unwrap().retain(|row| row["table_name"] == "sessions");
    fs::write(&schema, rows.to_string()).unwrap();
    let unknown = Configured { schema: Some(schema), events: Box::new(settings), ..self::configured(&state, &broker) };
    assert_eq!(retry(&mut quarantine, &[], &unknown).unwrap(), Exit::Failed);
    let unwanted =
        Configured { tables: Tables::parse(&["no.*".to_owned()]).unwrap(), ..self::configured(&state, &broker) };
    assert_eq!(retry(&mut quarantine, &[], &unwanted).unwrap(), Exit::Failed);
    assert_eq!(quarantine.items().unwrap().len(), kept + 1);

    assert_eq!(retry(&mut quarantine, &[], &configured).unwrap(), Exit::Failed, "the torn one is left");
    let names: Vec<String> = quarantine.items().unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert!(names.contains(&torn));
    let consumer = broker.consumer().unwrap();
    for _ in 0..400 {
        while let Some(record) = consumer.next(Duration::from_millis(50)).unwrap() {
            let value: Value = serde_json::from_slice(&record.value.unwrap()).unwrap();
            assert_eq!((&value["source"]["cluster"], &value["source"]["host_id"]), (&"c".into(), &"h".into()));
            // An event's id is its entry's, and a number.
            ids.remove(value["id"].as_str().unwrap().rsplit_once('/').unwrap().0);
        }
        if ids.is_empty() {
            break;
        }
    }
    assert!(ids.is_empty(), "not published: {ids:?}");
    assert_eq!(retry(&mut quarantine, &[torn.clone(), "none".into()], &configured).unwrap(), Exit::Failed);
    assert_eq!(drop_items(&mut quarantine, &names).unwrap(), Exit::Fine);
    assert_eq!(drop_items(&mut quarantine, &names).unwrap(), Exit::Failed);
    assert_eq!(retry(&mut quarantine, &[], &configured).unwrap(), Exit::Fine);
}

fn quarantine_region(state: &Path) {
    let mut quarantine = Quarantine::open_to_keep(state, &settings("c", "h")).unwrap();
    quarantine.keep_region("CommitLog-7-1.log", 3, None, b"damaged").unwrap();
}

#[test]
fn listing_shows_and_makes_nothing() {
    let state = tempfile::tempdir().unwrap();
    for output in [Output::Table, Output::Json, Output::Jsonl] {
        assert_eq!(list(state.path(), output).unwrap(), Exit::Fine);
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    assert!(show(state.path(), "x").is_err());
    quarantine_region(state.path());
    assert_eq!(list(state.path(), Output::Table).unwrap(), Exit::Fine);
    assert_eq!(show(state.path(), "CommitLog-7-1.log-3-end.damage").unwrap(), Exit::Fine);
    assert!(show(state.path(), "../x").is_err());
}
