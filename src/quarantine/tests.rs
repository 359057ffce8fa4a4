//! What is kept comes back byte for byte, once, within bounds, and a torn file is told.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cassandra_commitlog::{Position, SegmentId};
use cassandra_event::{Int64, KeyFormat, TopicTemplate, Unit};

use super::*;

const SEGMENT: &str = "CommitLog-7-1795246257030.log";
const BODY: [u8; 20] = [7; 20];

fn settings() -> Settings {
    Settings {
        format: Format::Protobuf,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        // In several parts, where the format of records would have it so.
        max_record_bytes: 300,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "p").unwrap(),
        dead_letter_topic: "p.dead-letter".into(),
        cluster: "c".into(),
        host_id: "h".into(),
    }
}

fn crc(body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&u32::try_from(body.len()).unwrap().to_be_bytes());
    crc.update(body);
    crc.finalize()
}

fn letter(offset: u32, body: &[u8]) -> DeadLetter<'_> {
    DeadLetter {
        segment: SEGMENT,
        position: Position { segment: SegmentId(1_795_246_257_030), offset: LogOffset(offset) },
        reason: "unknown-table",
        detail: "table id \"5a1c\"",
        keyspace: None,
        table: Some("t"),
        size: u32::try_from(body.len()).unwrap(),
        crc: crc(body),
        version: 7,
        bytes: body,
    }
}

fn open(state: &Path) -> Quarantine {
    Quarantine::open_to_keep(state, &settings()).unwrap()
}

#[test]
fn an_entry_comes_back_as_it_was() {
    let state = tempfile::tempdir().unwrap();
    assert!(Quarantine::find(state.path()).unwrap().is_none());
    let mut quarantine = open(state.path());
    let body = vec![9; 5000];
    assert_eq!(quarantine.keep_entry(&letter(62_691, &body)).unwrap(), Kept::Now);
    assert_eq!(quarantine.keep_entry(&letter(62_691, &body)).unwrap(), Kept::Before);
    assert_eq!(open(state.path()).keep_entry(&letter(62_691, &body)).unwrap(), Kept::Before);
    let items = Quarantine::find(state.path()).unwrap().unwrap().items().unwrap();
    let name = format!("{SEGMENT}-62691.json");
    assert_eq!(items.len(), 1);
    assert_eq!((&items[0].name, items[0].kind), (&name, Kind::Entry));
    let Some(Content::Entry(kept)) = quarantine.read(&name).unwrap() else { panic!("no entry") };
    assert_eq!(kept.id, "c/h/1795246257030/62691");
    assert_eq!((kept.reason.as_str(), kept.detail.as_str()), ("unknown-table", "table id \"5a1c\""));
    assert_eq!((kept.keyspace.as_deref(), kept.table.as_deref()), (None, Some("t")));
    assert_eq!((kept.segment.to_string().as_str(), kept.version), (SEGMENT, FormatVersion::V7));
    assert_eq!((kept.cluster.as_str(), kept.host_id.as_str()), ("c", "h"));
    assert_eq!((kept.entry().body, kept.entry().end()), (body.as_slice(), LogOffset(62_691)));
    assert!(quarantine.drop_item(&name).unwrap() && !quarantine.drop_item(&name).unwrap());
    assert_eq!(quarantine.read(&name).unwrap(), None);
}

#[test]
fn a_region_is_kept_as_bytes() {
    let state = tempfile::tempdir().unwrap();
    let mut quarantine = open(state.path());
    assert_eq!(quarantine.keep_region(SEGMENT, 5, Some(9), b"dam\0").unwrap(), Kept::Now);
    assert_eq!(quarantine.keep_region(SEGMENT, 5, None, b"more").unwrap(), Kept::Now);
    assert_eq!(quarantine.keep_region(SEGMENT, 5, None, b"other").unwrap(), Kept::Before);
    let names: Vec<String> = quarantine.items().unwrap().into_iter().map(|item| item.name).collect();
    assert_eq!(names, [format!("{SEGMENT}-5-9.damage"), format!("{SEGMENT}-5-end.damage")]);
    assert_eq!(quarantine.read(&names[0]).unwrap(), Some(Content::Region(b"dam\0".to_vec())));
    let folder = state.path().join("quarantine");
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o7777, 0o700);
    for name in names {
        assert_eq!(fs::metadata(folder.join(name)).unwrap().mode() & 0o7777, 0o600);
    }
}

#[test]
fn a_torn_or_changed_entry_is_told() {
    let state = tempfile::tempdir().unwrap();
    let mut quarantine = open(state.path());
    quarantine.keep_entry(&letter(100, &BODY)).unwrap();
    let name = format!("{SEGMENT}-100.json");
    let path = state.path().join("quarantine").join(&name);
    let whole = fs::read_to_string(&path).unwrap();
    for length in 0..whole.len() - 2 {
        fs::write(&path, &whole[..length]).unwrap();
        assert_eq!(quarantine.read(&name).unwrap_err().kind(), ErrorKind::InvalidData, "{length}");
    }
    for (from, to) in [
        ("\"position\":100", "\"position\":10"),
        ("\"size\":20", "\"size\":19"),
        ("\"base64\":\"B", "\"base64\":\"A"),
        ("\"version\":7", "\"version\":77"),
        ("\"v\":1", "\"v\":2"),
    ] {
        let changed = whole.replacen(from, to, 1);
        assert_ne!(changed, whole);
        fs::write(&path, changed).unwrap();
        assert_eq!(quarantine.read(&name).unwrap_err().kind(), ErrorKind::InvalidData, "{to}");
    }
    // It is listed all the same, and keeps its place.
    assert_eq!(quarantine.items().unwrap().len(), 1);
    assert_eq!(quarantine.keep_entry(&letter(100, &BODY)).unwrap(), Kept::Before);
}

#[test]
fn a_full_quarantine_counts_until_there_is_room() {
    let state = tempfile::tempdir().unwrap();
    let mut quarantine = open(state.path());
    quarantine.keep_entry(&letter(100, &BODY)).unwrap();
    quarantine.bytes = MAX_BYTES - 1000;
    assert_eq!(quarantine.keep_entry(&letter(200, &BODY)).unwrap(), Kept::Full);
    quarantine.items = MAX_ITEMS;
    assert_eq!(quarantine.keep_region(SEGMENT, 1, None, b"x").unwrap(), Kept::Full);
    assert_eq!(quarantine.keep_entry(&letter(100, &BODY)).unwrap(), Kept::Before);
    assert_eq!(quarantine.refused(), 2);
    quarantine.counted = Instant::now().checked_sub(RECOUNT).unwrap();
    assert_eq!(quarantine.keep_entry(&letter(200, &BODY)).unwrap(), Kept::Now);
    assert_eq!((quarantine.items, quarantine.refused()), (2, 2));
}

#[test]
fn names_from_outside_lead_nowhere() {
    let state = tempfile::tempdir().unwrap();
    let mut quarantine = open(state.path());
    fs::write(state.path().join("checkpoint.a"), b"mine").unwrap();
    assert!(quarantine.read("../checkpoint.a").is_err());
    assert!(quarantine.drop_item("../checkpoint.a").is_err());
    assert!(quarantine.keep_region("../x", 1, None, b"x").is_err());
    assert!(quarantine.read("none").unwrap().is_none());
}
