//! Saves survive torn files, second agents are kept out, and a failed write is the last.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{Ledger, Outcome, Reapable, Sealed, SegmentRecord, Tally, Window};

use super::*;

const SEVEN: Identity = Identity { segment: SegmentId(7), first_entry_crc: Some(1) };

fn node(host: &str) -> Node {
    Node { agent: String::new(), host: host.into(), cluster: "c".into() }
}

fn checkpoint(entries: u32) -> Checkpoint {
    let mut ledger = Ledger::new(Window::default());
    let at = |offset| Position { segment: SegmentId(7), offset: LogOffset(offset) };
    ledger.enter(at(0), Tally::default());
    for entry in 1..=entries {
        ledger.read_to(at(entry * 100), Outcome::Published);
    }
    let mut record = SegmentRecord::new(SEVEN, "CommitLog-7-7.log".into(), 1, 2);
    record.acknowledge(&ledger.watermark().unwrap()).unwrap();
    record.finish(record.tally().finish(u64::from(entries)).unwrap()).unwrap();
    Checkpoint { node: node("h"), segments: vec![record], tombstones: Vec::new() }
}

fn load(path: &Path) -> Loaded {
    StateDir::open(path).unwrap().load(&node("h")).map_err(|(_, error)| error).unwrap()
}

fn refused(path: &Path, host: &str) -> (StateDir, StateError) {
    StateDir::open(path).unwrap().load(&node(host)).unwrap_err()
}

#[test]
fn saves_alternate_and_the_newest_comes_back() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert!(load(&path).checkpoint.is_none());
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o700);
    for entries in 1..=5 {
        let mut loaded = load(&path);
        assert_eq!(loaded.checkpoint, (entries > 1).then(|| checkpoint(entries - 1)));
        loaded.store.save(&checkpoint(entries)).unwrap();
    }
    for name in ["checkpoint.a", "checkpoint.b"] {
        assert_eq!(fs::metadata(path.join(name)).unwrap().mode() & 0o777, 0o600);
    }
    assert_eq!(fs::read_dir(&path).unwrap().count(), 2);
}

#[test]
fn a_newest_one_torn_anywhere_gives_way_to_the_older() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let mut store = load(&path).store;
    store.save(&checkpoint(1)).unwrap();
    store.save(&checkpoint(2)).unwrap();
    drop(store);
    let newest = path.join("checkpoint.b");
    let whole = fs::read(&newest).unwrap();
    for length in 0..whole.len() {
        fs::write(&newest, &whole[..length]).unwrap();
        let loaded = load(&path);
        assert_eq!(loaded.damaged.map(|(generation, _)| generation), Some(Generation::B));
        assert_eq!(loaded.checkpoint, Some(checkpoint(1)));
    }
    // The next save replaces the torn one, not the one that stood in.
    load(&path).store.save(&checkpoint(3)).unwrap();
    assert_eq!(load(&path).checkpoint, Some(checkpoint(3)));
    fs::write(&newest, b"").unwrap();
    assert_eq!(load(&path).checkpoint, Some(checkpoint(1)));
}

#[test]
fn two_damaged_ones_are_refused_until_set_aside() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let mut store = load(&path).store;
    store.save(&checkpoint(1)).unwrap();
    store.save(&checkpoint(2)).unwrap();
    drop(store);
    for name in ["checkpoint.a", "checkpoint.b"] {
        let mut bytes = fs::read(path.join(name)).unwrap();
        bytes[20] ^= 1;
        fs::write(path.join(name), bytes).unwrap();
    }
    let (state, error) = refused(&path, "h");
    assert!(matches!(error, StateError::NoneWhole { .. }), "{error}");
    let mut store = state.set_aside("damaged-1").unwrap();
    store.save(&checkpoint(3)).unwrap();
    drop(store);
    assert!(path.join("checkpoint.a.damaged-1").exists() && path.join("checkpoint.b.damaged-1").exists());
    assert_eq!(load(&path).checkpoint, Some(checkpoint(3)));
    // What was set aside is not overwritten by a second time.
    assert!(StateDir::open(&path).unwrap().set_aside("damaged-1").is_err());
}

#[test]
fn another_nodes_state_is_refused_by_name() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    load(&path).store.save(&checkpoint(1)).unwrap();
    let (_, error) = refused(&path, "other");
    assert!(matches!(error, StateError::NotOurs { .. }));
    assert!(error.to_string().contains("state adopt") && error.to_string().contains("\"h\""), "{error}");
}

#[test]
fn a_second_agent_is_kept_out_until_the_first_is_gone() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let first = load(&path);
    assert!(matches!(StateDir::open(&path), Err(StateError::Locked(_))));
    drop(first);
    assert!(StateDir::open(&path).is_ok());
}

#[test]
fn a_directory_that_others_can_read_is_refused() {
    let parent = tempfile::tempdir().unwrap();
    fs::set_permissions(parent.path(), fs::Permissions::from_mode(0o750)).unwrap();
    assert!(matches!(StateDir::open(parent.path()), Err(StateError::Mode { mode: 0o750, .. })));
}

#[test]
fn what_a_crash_left_behind_is_replaced() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    drop(load(&path));
    let left = path.join(format!(".unfinished-{}-0", std::process::id()));
    fs::write(&left, b"half a checkpoint").unwrap();
    load(&path).store.save(&checkpoint(1)).unwrap();
    assert!(!left.exists());
    // A planted link is neither followed nor written through.
    let victim = parent.path().join("victim");
    fs::write(&victim, b"mine").unwrap();
    let mut store = load(&path).store;
    std::os::unix::fs::symlink(&victim, &left).unwrap();
    store.save(&checkpoint(2)).unwrap();
    drop(store);
    assert_eq!(fs::read(&victim).unwrap(), b"mine");
    fs::remove_file(path.join("checkpoint.a")).unwrap();
    std::os::unix::fs::symlink(&victim, path.join("checkpoint.a")).unwrap();
    assert!(matches!(refused(&path, "h").1, StateError::Io { .. }));
}

#[test]
fn a_failed_write_is_the_last() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    let mut store = load(&path).store;
    store.save(&checkpoint(1)).unwrap();
    store.save(&checkpoint(1)).unwrap();
    assert!(store.durable(SEVEN).is_some());
    fs::remove_dir_all(&path).unwrap();
    assert!(matches!(store.save(&checkpoint(1)), Err(SaveError::Write(StateError::Io { .. }))));
    assert!(matches!(store.save(&checkpoint(1)), Err(SaveError::Stopped)));
    assert!(store.durable(SEVEN).is_none());
}

#[test]
fn deleting_waits_for_two_saves() {
    let parent = tempfile::tempdir().unwrap();
    let mut store = load(&parent.path().join("state")).store;
    store.save(&checkpoint(5)).unwrap();
    assert!(store.durable(SEVEN).is_none());
    store.save(&checkpoint(5)).unwrap();
    let sealed = Sealed { identity: SEVEN, end: LogOffset(500), entries: 5 };
    assert_eq!(Reapable::new(sealed, &store.durable(SEVEN).unwrap()).unwrap().identity(), SEVEN);
}

#[test]
fn anothers_state_is_adopted_in_both_generations() {
    let parent = tempfile::tempdir().unwrap();
    let path = parent.path().join("state");
    assert_eq!(StateDir::open(&path).unwrap().adopt(&node("new")).unwrap(), None);
    let mut store = load(&path).store;
    store.save(&checkpoint(1)).unwrap();
    store.save(&checkpoint(2)).unwrap();
    assert!(Glance::at(&path).unwrap().held);
    drop(store);
    assert_eq!(StateDir::open(&path).unwrap().adopt(&node("new")).unwrap(), Some(node("h")));
    refused(&path, "h");
    let glance = Glance::at(&path).unwrap();
    assert!(!glance.held && glance.newest().is_some());
    for (_, found) in glance.generations {
        assert_eq!(found.unwrap().1, Checkpoint { node: node("new"), ..checkpoint(2) });
    }
    // One whole generation is enough, and a crash after the first save is made good by the next attempt.
    fs::write(path.join("checkpoint.a"), b"").unwrap();
    assert_eq!(StateDir::open(&path).unwrap().adopt(&node("h")).unwrap(), Some(node("new")));
    assert_eq!(load(&path).checkpoint, Some(checkpoint(2)));
    for name in ["checkpoint.a", "checkpoint.b"] {
        fs::write(path.join(name), b"").unwrap();
    }
    assert!(matches!(StateDir::open(&path).unwrap().adopt(&node("x")), Err(StateError::NoneWhole { .. })));
    assert!(Glance::at(&path).unwrap().newest().is_none());
}
