//! A state is shown beside an agent, adopted and reset only without one.

use std::fs;

use cassandra_commitlog::SegmentId;

use super::*;

fn checkpoint() -> Checkpoint {
    let identity = Identity { segment: SegmentId(7), first_entry_crc: Some(0xab) };
    let record = SegmentRecord::new(identity, "CommitLog-7-7.log".into(), 1, 1_763_717_000);
    let tombstone = record.tombstone(1_763_718_000, Gone::Reaped);
    let node = Node { agent: "a".into(), host: "h".into(), cluster: "c".into() };
    Checkpoint { node, segments: vec![record], tombstones: vec![tombstone] }
}

fn node(host: &str) -> Node {
    Node { host: host.into(), ..checkpoint().node }
}

#[test]
fn a_state_is_shown_beside_an_agent() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert_eq!(show(&path, Output::Table).unwrap_err().exit, Exit::Io);
    let mut store = StateDir::open(&path).unwrap().load(&node("h")).unwrap().store;
    assert!(as_table(&path, &Glance::at(&path).unwrap()).contains("everything present counts as unread"));
    store.save(&checkpoint()).unwrap();
    store.save(&checkpoint()).unwrap();
    let glance = Glance::at(&path).unwrap();
    let table = as_table(&path, &glance);
    for text in ["an agent holds it", "checkpoint b: generation 2", "host h", "CommitLog-7-7.log", "reading", "reaped"]
    {
        assert!(table.contains(text), "{text} in {table}");
    }
    let head = head_json(&path, &glance);
    assert_eq!((&head["held"], &head["node"]["host_id"]), (&true.into(), &"h".into()));
    let segment = segment_json(&checkpoint().segments[0]);
    assert_eq!((&segment["first_entry_crc"], &segment["acknowledged"]), (&"000000ab".into(), &0.into()));
    assert_eq!(segment["first_seen"], "2025-11-21T09:23:20Z");
    assert_eq!(tombstone_json(&checkpoint().tombstones[0])["ending"], "reaped");
    for output in [Output::Table, Output::Json, Output::Jsonl] {
        assert_eq!(show(&path, output).unwrap(), Exit::Fine);
    }
    fs::write(path.join("checkpoint.a"), b"torn").unwrap();
    assert_eq!(show(&path, Output::Table).unwrap(), Exit::Failed);
    let held = adopt(&path, &node("other")).unwrap_err();
    assert_eq!(held.exit, Exit::Failed);
    assert!(held.to_string().contains("stop it first"));
    assert!(reset(&path).is_err());
}

#[test]
fn adopting_and_resetting_want_a_state_and_no_agent() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert!(adopt(&path, &node("h")).is_err() && reset(&path).is_err());
    assert!(!path.exists());
    let mut store = StateDir::open(&path).unwrap().load(&node("h")).unwrap().store;
    assert!(adopt(&path, &node("h")).is_err());
    store.save(&checkpoint()).unwrap();
    drop(store);
    adopt(&path, &node("new")).unwrap();
    let open = || StateDir::open(&path).unwrap();
    assert!(open().load(&node("h")).is_err());
    assert_eq!(open().load(&node("new")).unwrap().checkpoint.unwrap().segments, checkpoint().segments);
    reset(&path).unwrap();
    assert!(open().load(&node("h")).unwrap().checkpoint.is_none());
    let kept = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(kept.filter(|name| name.starts_with("checkpoint.") && name.ends_with('Z')).count(), 2);
}
