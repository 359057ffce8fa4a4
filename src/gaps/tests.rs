//! Gaps are durable before they are proof, found again, published once, and never dropped unseen.

use std::fs;
use std::os::unix::fs::MetadataExt;

use cassandra_event::{Format, Int64, KeyFormat, TopicTemplate, Unit};

use super::*;

const SEGMENT: &str = "CommitLog-7-1795246257030.log";

fn settings() -> Settings {
    Settings {
        format: Format::Protobuf,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "p").unwrap(),
        dead_letter_topic: "p.dead-letter".into(),
        cluster: "c \"1\"".into(),
        host_id: "h".into(),
    }
}

fn gap(from: Option<u32>, at: i64) -> GapRecord {
    GapRecord {
        segment: SEGMENT.into(),
        kind: GapKind::DamagedBytes,
        from,
        to: Some(90_000),
        entries: None,
        at,
        ids_may_shift: true,
    }
}

fn open(state: &Path) -> GapLog {
    GapLog::open(state, &settings()).unwrap()
}

fn names(state: &Path) -> Vec<String> {
    let entries = fs::read_dir(state.join("gaps")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_gap_is_found_again_until_it_is_published() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let recorded = log.record(&gap(Some(7), 1_763_718_000)).unwrap();
    assert_eq!((recorded.segment(), recorded.kind()), (SEGMENT, GapKind::DamagedBytes));
    let earlier = GapRecord { kind: GapKind::SegmentDeleted, to: None, entries: Some(3), ..gap(None, 1_763_717_000) };
    let _ = log.record(&GapRecord { ids_may_shift: false, ..earlier.clone() }).unwrap();
    for name in names(state.path()) {
        let file = fs::metadata(state.path().join("gaps").join(&name)).unwrap();
        assert_eq!(file.mode() & 0o7777, 0o600, "{name}");
    }
    let log = open(state.path());
    let found = log.unpublished();
    assert_eq!(found.len(), 2);
    assert_eq!(found[0].gap, GapRecord { ids_may_shift: false, ..earlier });
    assert_eq!(found[1].gap, gap(Some(7), 1_763_718_000));
    assert!(log.ends(SEGMENT) && !log.ends("CommitLog-7-1.log") && log.damaged().is_empty());

    log.published(&found[0].name).unwrap();
    // Whoever says it twice changes nothing.
    log.published(&found[0].name).unwrap();
    for log in [log, open(state.path())] {
        assert_eq!(log.unpublished(), found[1..]);
        assert!(log.ends(SEGMENT));
    }
    let json = fs::read_to_string(state.path().join("gaps").join(&found[1].name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["source"]["cluster"], "c \"1\"");
}

#[test]
fn the_same_gap_is_recorded_once_from_any_thread() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    std::thread::scope(|scope| {
        for at in 0..8 {
            let log = log.clone();
            scope.spawn(move || log.record(&gap(Some(7), at)).map(drop).unwrap());
        }
    });
    assert_eq!(names(state.path()), [format!("{SEGMENT}.damaged-bytes.7-90000.json")]);
    let name = log.unpublished()[0].name.clone();
    log.published(&name).unwrap();
    let _ = log.record(&gap(Some(7), 100)).unwrap();
    assert!(log.unpublished().is_empty());
    let log = open(state.path());
    let _ = log.record(&gap(Some(7), 100)).unwrap();
    assert!(log.unpublished().is_empty());
    let _ = log.record(&gap(Some(8), 100)).unwrap();
    assert_eq!(log.unpublished().len(), 1);
}

#[test]
fn a_damaged_file_is_told_kept_and_stands_in_nobodys_way() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    let _ = log.record(&gap(Some(7), 5)).unwrap();
    let path = state.path().join("gaps").join(&names(state.path())[0]);
    let whole = fs::read(&path).unwrap();
    let other = path.with_file_name("other.json");
    for length in (0..whole.len() - 2).step_by(7) {
        fs::write(&path, &whole[..length]).unwrap();
        let log = open(state.path());
        assert_eq!((log.damaged().len(), log.unpublished().len()), (1, 0), "{length}");
    }
    fs::write(&path, &whole).unwrap();
    // Another gap than its name says.
    fs::write(&other, &whole).unwrap();
    assert_eq!(open(state.path()).damaged()[0].name, "other.json");
    fs::remove_file(&other).unwrap();

    fs::write(&path, b"").unwrap();
    let log = open(state.path());
    let _ = log.record(&gap(Some(7), 5)).unwrap();
    let _ = log.record(&gap(Some(7), 6)).unwrap();
    assert_eq!(names(state.path()).len(), 2);
    let log = open(state.path());
    assert_eq!((log.damaged().len(), log.unpublished().len()), (1, 1));
    log.published(&log.unpublished()[0].name).unwrap();
    let log = open(state.path());
    let _ = log.record(&gap(Some(7), 6)).unwrap();
    assert!(log.unpublished().is_empty());
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn after_a_failed_write_nothing_is_proof() {
    let state = tempfile::tempdir().unwrap();
    let log = open(state.path());
    assert!(log.record(&GapRecord { segment: "../x".into(), ..gap(None, 1) }).is_err());
    let _ = log.record(&gap(Some(1), 1)).unwrap();
    // Somebody else's file of that name.
    fs::write(state.path().join("gaps").join(format!("{SEGMENT}.damaged-bytes.7-90000.json")), b"").unwrap();
    assert!(log.record(&gap(Some(7), 1)).is_err());
    assert!(log.record(&gap(Some(8), 1)).unwrap_err().to_string().contains("earlier"));
    // What was durable before still is.
    let _ = log.record(&gap(Some(1), 1)).unwrap();
}

#[test]
fn the_earliest_published_ones_go() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path().join("gaps");
    drop(open(state.path()));
    let mut json = Vec::new();
    let extra = 3;
    for number in 0..u32::try_from(PUBLISHED_KEPT).unwrap() + extra {
        let gap = gap(Some(number), i64::from(number));
        json.clear();
        Encoder::new(settings()).gap_json(&gap.as_gap(), &mut json);
        fs::write(folder.join(format!("{}{PUBLISHED}", gap.stem().unwrap())), &json).unwrap();
    }
    let log = open(state.path());
    let _ = log.record(&gap(None, 0)).unwrap();
    log.published(&log.unpublished()[0].name).unwrap();
    let names = names(state.path());
    assert_eq!(names.len(), PUBLISHED_KEPT);
    // The new one is the earliest of all by its own clock, and was the first to go.
    assert!(!names.contains(&format!("{SEGMENT}.damaged-bytes.0-90000{PUBLISHED}")));
    assert!(names.contains(&format!("{SEGMENT}.damaged-bytes.{extra}-90000{PUBLISHED}")));
}
