//! Places, going back, and the file.

use cassandra_commitlog::TableId;
use serde_json::json;

use super::*;

const ID: &str = "5a1c0000-0000-1000-8000-000000000001";

/// Rows as DDL writes them at this time.
fn changes(rows: serde_json::Value) -> Vec<RowChange> {
    serde_json::from_value(rows).unwrap()
}

fn column(name: &str, kind: &str, position: i64, at: i64) -> serde_json::Value {
    let cells = json!({"kind": [at, kind], "position": [at, position], "type": [at, "int"]});
    json!({"table": "columns", "key": ["ks", "t", name], "written": at, "cells": cells})
}

fn create(at: i64) -> Vec<RowChange> {
    let cells = json!({"id": [at, ID], "cdc": [at, true]});
    changes(json!([
        column("k", "partition_key", 0, at),
        column("c", "clustering", 0, at),
        {"table": "tables", "key": ["ks", "t"], "written": at, "cells": cells},
    ]))
}

fn rename(from: &str, to: &str, at: i64) -> Vec<RowChange> {
    changes(json!([{"table": "columns", "key": ["ks", "t", from], "deleted": at}, column(to, "clustering", 0, at)]))
}

fn at(segment: i64, offset: u32) -> Position {
    Position { segment: SegmentId(segment), offset: LogOffset(offset) }
}

/// The name of the clustering column.
fn clustering(timeline: &Timeline) -> Option<String> {
    let id = TableId(u128::from_str_radix(&ID.replace('-', ""), 16).unwrap());
    Some(timeline.schema().table(id)?.clustering.first()?.name.clone())
}

/// Created in segment 7, renamed in segments 9 and 8, which are read in that order.
fn story() -> Timeline {
    let mut timeline = Timeline::new(SchemaStore::new());
    assert!(timeline.apply(at(7, 100), create(10)));
    assert!(timeline.apply(at(9, 50), rename("c", "d", 20)));
    assert!(!timeline.apply(at(9, 60), rename("c", "d", 20)), "nothing new");
    assert!(timeline.apply(at(8, 50), rename("d", "e", 30)));
    timeline
}

/// From this place on, and all of the segments behind it.
fn again(segment: i64, offset: u32) -> impl Fn(SegmentId) -> Option<LogOffset> {
    move |id| match rank(id).cmp(&rank(SegmentId(segment))) {
        std::cmp::Ordering::Less => None,
        std::cmp::Ordering::Equal => Some(LogOffset(offset)),
        std::cmp::Ordering::Greater => Some(LogOffset(0)),
    }
}

fn rank(id: SegmentId) -> Option<usize> {
    [7, 9, 8].iter().position(|known| *known == id.0)
}

#[test]
fn the_schema_goes_back_to_any_place() {
    for (segment, offset, expected) in [
        (7, 99, None),
        (7, 100, Some("c")),
        (9, 49, Some("c")),
        (9, 50, Some("d")),
        (8, 49, Some("d")),
        (8, 50, Some("e")),
    ] {
        let mut timeline = story();
        timeline.rewind(again(segment, offset));
        assert_eq!(clustering(&timeline).as_deref(), expected, "{segment}/{offset}");
    }
}

#[test]
fn what_is_read_again_is_applied_again() {
    let mut timeline = story();
    timeline.rewind(again(7, 0));
    assert!(timeline.is_empty());
    assert!(timeline.apply(at(7, 100), create(10)) && timeline.apply(at(9, 50), rename("c", "d", 20)));
    assert_eq!(clustering(&timeline).as_deref(), Some("d"));
}

#[test]
fn changes_of_finished_segments_hold() {
    let mut timeline = story();
    timeline.rewind(|id| (id.0 == 8).then_some(LogOffset(0)));
    assert_eq!(clustering(&timeline).as_deref(), Some("d"));
    assert_eq!(timeline.len(), 2);
}

/// A segment of which all is acknowledged stays open as long as its server may write to it; those behind it go on at
/// their own places.
#[test]
fn changes_behind_the_places_of_several_open_segments_hold() {
    let mut timeline = story();
    timeline.rewind(|id| Some(LogOffset(if id.0 == 8 { 49 } else { 1000 })));
    assert_eq!((clustering(&timeline).as_deref(), timeline.len()), (Some("d"), 2));
    timeline.rewind(|_| Some(LogOffset(1000)));
    assert_eq!(timeline.len(), 2);
}

#[test]
fn the_past_is_forgotten_behind_the_watermark() {
    let mut timeline = story();
    timeline.forget_before(rank, (SegmentId(9), LogOffset(50)));
    assert_eq!(timeline.len(), 1);
    timeline.rewind(again(9, 50));
    assert_eq!(clustering(&timeline).as_deref(), Some("d"));
    assert!(timeline.is_empty());
}

#[test]
fn pulled_rows_hold_everywhere() {
    let mut node = SchemaStore::new();
    node.apply(create(10));
    let mut timeline = Timeline::new(SchemaStore::new());
    timeline.apply(at(9, 50), changes(json!([{"table": "keyspaces", "key": ["ks"], "written": 5}])));
    assert!(timeline.merge(&node.rows(), 100));
    assert!(!timeline.merge(&node.rows(), 200));
    timeline.rewind(again(7, 0));
    assert_eq!(clustering(&timeline).as_deref(), Some("c"));
}

#[test]
fn it_is_kept_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    assert!(Timeline::load(&path).unwrap().is_none());
    let mut timeline = story().kept_in(&path);
    timeline.save().unwrap();
    let mut loaded = Timeline::load(&path).unwrap().unwrap();
    assert_eq!((loaded.rows(), loaded.len()), (timeline.rows(), 3));
    loaded.rewind(again(9, 50));
    assert_eq!(clustering(&loaded).as_deref(), Some("d"));
    // Nothing is written where nothing changed.
    std::fs::remove_file(&path).unwrap();
    timeline.save().unwrap();
    assert!(!path.exists());
    loaded.save().unwrap();
    assert_eq!(Timeline::load(&path).unwrap().unwrap().len(), 2);
}

#[test]
fn a_damaged_file_says_what_follows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("schema.json");
    story().kept_in(&path).save().unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let torn = good[..good.len() / 2].to_owned();
    let other = good.replacen("[10,\"int\"]", "[10,\"text\"]", 1);
    let later = good.replacen("\"v\":1", "\"v\":2", 1);
    for (text, expected) in [
        (torn, "EOF while parsing"),
        (other, "its checksum is "),
        (later, "it has format 2, this program reads 1"),
        (String::new(), "EOF while parsing"),
    ] {
        std::fs::write(&path, text).unwrap();
        let error = format!("{:#}", Timeline::load(&path).unwrap_err());
        assert!(error.contains("schema.json is damaged; move it away: "), "{error}");
        assert!(error.contains(expected), "{error}");
    }
}
