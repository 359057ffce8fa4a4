//! What may lie in `cdc_raw`, and how segments leave it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{
    Checkpoint, Ending, Generations, Identity, Ledger, Outcome, Sealed, SegmentRecord, Tally, Window,
};
use rustix::fs::{CWD, FileType, Mode};
use tempfile::TempDir;

use super::*;
use crate::folder::Meta;

pub(crate) fn name(id: i64) -> SegmentName {
    SegmentName::parse(&log(id)).unwrap()
}

pub(crate) fn log(id: i64) -> String {
    format!("CommitLog-7-{id}.log")
}

fn idx(id: i64) -> String {
    name(id).index_name()
}

/// The right to delete a segment of one entry, by the way that everything takes.
pub(crate) fn right(id: i64) -> Reapable {
    let identity = Identity { segment: SegmentId(id), first_entry_crc: Some(1) };
    let at = |offset| Position { segment: identity.segment, offset: LogOffset(offset) };
    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(0), Tally::default());
    ledger.read_to(at(100), Outcome::Published);
    let mut record = SegmentRecord::new(identity, log(id), 1, 2);
    record.acknowledge(&ledger.watermark().unwrap()).unwrap();
    record.finish(record.tally().finish(1).unwrap()).unwrap();
    let checkpoint = Checkpoint { segments: vec![record], ..Checkpoint::default() };
    let mut generations = Generations::new();
    for _ in 0..2 {
        generations.save(&checkpoint, |_, _| Ok::<(), ()>(())).unwrap();
    }
    let sealed = Sealed { identity, end: LogOffset(100), entries: 1 };
    Reapable::new(sealed, &generations.durable(identity).unwrap()).unwrap()
}

struct Raw {
    folder: TempDir,
    scanner: Scanner,
    now: Instant,
    spooled: HashMap<SegmentName, Meta>,
}

impl Raw {
    fn new(files: &[(String, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let scanner = Scanner::new(folder.path());
        let raw = Self { folder, scanner, now: Instant::now(), spooled: HashMap::new() };
        files.iter().for_each(|(name, text)| raw.write(name, text));
        raw
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn scan(&mut self) -> RawScan {
        self.scanner.scan(self.now, &self.spooled)
    }

    fn indexes(&mut self) -> Vec<(i64, Index)> {
        self.scan().segments.iter().map(|segment| (segment.name.id.0, segment.index)).collect()
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn segments_come_by_id_with_what_their_indexes_say() {
    let files = [(log(10), "x"), (idx(10), "5"), (log(9), ""), (idx(9), "7\nCOMPLETED"), (log(11), "xx")];
    let mut raw = Raw::new(&files);
    let sealed = Index::Sealed(LogOffset(7));
    assert_eq!(raw.indexes(), [(9, sealed), (10, Index::Growing(LogOffset(5))), (11, Index::Absent)]);
    raw.write(&idx(11), "");
    raw.write(&idx(10), "");
    raw.write(&idx(9), "");
    assert_eq!(raw.indexes(), [(9, sealed), (10, Index::Growing(LogOffset(5))), (11, Index::Empty)]);
    raw.write(&idx(10), "4");
    raw.write(&idx(9), "6\nCOMPLETED");
    let sealed = Index::Sealed(LogOffset(6));
    assert_eq!(raw.indexes()[..2], [(9, sealed), (10, Index::Growing(LogOffset(5)))]);
    assert_eq!(raw.scanner.counts(), IndexCounts { empty: 4, invalid: 0, backward: 1 });
    let scan = raw.scan();
    assert_eq!((scan.state, scan.bytes, scan.problems), (RawState::Ready, 15, vec![]));
    assert_eq!((scan.segments[2].meta.len, scan.segments[2].meta.links), (2, 1));
}

#[test]
fn an_index_that_is_mostly_empty_or_short_of_its_text_is_read_in_the_end() {
    let mut raw = Raw::new(&[(log(1), "x")]);
    for turn in 1..=100_u32 {
        raw.write(&idx(1), if turn % 20 == 0 { "1000" } else { "" });
        let expected = if turn < 20 { Index::Empty } else { Index::Growing(LogOffset(1000)) };
        assert_eq!(raw.indexes(), [(1, expected)]);
    }
    raw.write(&idx(1), "1000\nCOMPL");
    assert_eq!(raw.indexes(), [(1, Index::Growing(LogOffset(1000)))]);
    raw.write(&idx(1), "1000\nCOMPLETED");
    assert_eq!(raw.indexes(), [(1, Index::Sealed(LogOffset(1000)))]);
}

#[test]
fn garbage_for_a_minute_makes_an_index_invalid_and_it_is_named_from_the_start() {
    let long = "9".repeat(1000);
    for garbage in ["\0\0\0\0", "-3", &long] {
        let mut raw = Raw::new(&[(log(1), "x"), (idx(1), garbage)]);
        let since = raw.now;
        let scan = raw.scan();
        assert_eq!(scan.segments[0].index, Index::Empty);
        assert!(scan.problems[0].starts_with(&idx(1)), "{:?}", scan.problems);
        raw.now += INVALID_FOR;
        assert_eq!(raw.indexes(), [(1, Index::Invalid { since })]);
        raw.write(&idx(1), "3");
        assert_eq!(raw.indexes(), [(1, Index::Growing(LogOffset(3)))]);
    }
}

#[test]
fn another_file_under_the_name_of_a_segment_starts_anew() {
    let mut raw = Raw::new(&[(log(1), "x"), (idx(1), "100\nCOMPLETED")]);
    assert_eq!(raw.indexes(), [(1, Index::Sealed(LogOffset(100)))]);
    raw.write("other", "y");
    fs::rename(raw.path("other"), raw.path(&log(1))).unwrap();
    raw.write(&idx(1), "50");
    assert_eq!(raw.indexes(), [(1, Index::Growing(LogOffset(50)))]);
}

#[test]
fn what_is_planted_is_named_and_never_followed_or_opened() {
    let mut raw = Raw::new(&[(log(1), "x"), ("notes.txt".into(), "12345"), ("CommitLog-42-1.log".into(), "")]);
    raw.write(&log(2), "x");
    symlink("/etc/passwd", raw.path(&log(3))).unwrap();
    symlink("/etc/passwd", raw.path(&idx(2))).unwrap();
    rustix::fs::mknodat(CWD, raw.path(&log(4)), FileType::Fifo, Mode::RWXU, 0).unwrap();
    rustix::fs::mknodat(CWD, raw.path(&idx(1)), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir_all(raw.path("below/deeper")).unwrap();
    raw.write("below/deeper/file", &"x".repeat(100_000));
    let scan = raw.scan();
    let ids: Vec<i64> = scan.segments.iter().map(|segment| segment.name.id.0).collect();
    assert_eq!(ids, [1, 2]);
    assert!(scan.segments.iter().all(|segment| segment.index.value().is_none()));
    let mut foreign: Vec<(&str, ForeignKind)> =
        scan.foreign.iter().map(|foreign| (foreign.name.as_str(), foreign.kind)).collect();
    foreign.sort_by_key(|(name, _)| *name);
    let (idx1, idx2, log3, log4) = (idx(1), idx(2), log(3), log(4));
    let expected = [
        ("CommitLog-42-1.log", ForeignKind::File),
        (idx1.as_str(), ForeignKind::Special),
        (idx2.as_str(), ForeignKind::Symlink),
        (log3.as_str(), ForeignKind::Symlink),
        (log4.as_str(), ForeignKind::Special),
        ("below", ForeignKind::Directory),
        ("notes.txt", ForeignKind::File),
    ];
    assert_eq!(foreign, expected);
    assert!(scan.bytes > 100_000, "Cassandra counts what is below");
    raw.now += INVALID_FOR;
    assert!(raw.indexes().iter().all(|(_, index)| matches!(index, Index::Invalid { .. })));
}

#[test]
fn a_missing_directory_and_one_made_anew() {
    let mut raw = Raw::new(&[(log(1), "x"), (idx(1), "5")]);
    let path = raw.folder.path().to_owned();
    assert!(raw.scan().reopened);
    assert!(!raw.scan().reopened);
    fs::remove_dir_all(&path).unwrap();
    let scan = raw.scan();
    assert_eq!((scan.state, scan.segments.len()), (RawState::Missing, 0));
    assert!(scan.problems[0].contains("is missing"));
    fs::create_dir(&path).unwrap();
    raw.write(&log(2), "x");
    let scan = raw.scan();
    assert_eq!((scan.state, scan.reopened, scan.segments.len()), (RawState::Ready, true, 1));
    fs::remove_dir_all(&path).unwrap();
    fs::write(&path, "").unwrap();
    assert_eq!(raw.scan().state, RawState::Unreadable);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
}

#[test]
fn an_index_without_a_log_is_an_orphan_when_it_stays_one() {
    let mut raw = Raw::new(&[(idx(1), "100\nCOMPLETED"), (idx(2), "9")]);
    let since = raw.now;
    assert!(raw.scan().orphans.is_empty());
    raw.now += Duration::from_secs(4);
    assert!(raw.scan().orphans.is_empty());
    raw.now += Duration::from_secs(1);
    let expected = [
        Orphan { name: name(1), index: Index::Sealed(LogOffset(100)), since },
        Orphan { name: name(2), index: Index::Growing(LogOffset(9)), since },
    ];
    assert_eq!(raw.scan().orphans, expected);
    // One look is none, however late: a directory that changes while it is listed may show anything once.
    raw.write(&log(1), "x");
    let meta = raw.scan().segments[0].meta;
    raw.spooled.insert(name(2), meta);
    assert!(raw.scan().orphans.is_empty());
    fs::remove_file(raw.path(&log(1))).unwrap();
    raw.spooled.clear();
    assert!(raw.scan().orphans.is_empty());
    raw.now += Duration::from_secs(5);
    assert_eq!(raw.scan().orphans.len(), 2);
}

#[test]
fn ten_thousand_segments_take_a_moment() {
    let mut raw = Raw::new(&[]);
    for id in 1..=10_000 {
        raw.write(&log(id), "");
        raw.write(&idx(id), "1000000\nCOMPLETED");
    }
    let started = Instant::now();
    assert_eq!(raw.scan().segments.len(), 10_000);
    let first = started.elapsed();
    assert!(raw.scan().segments.iter().all(|segment| segment.index == Index::Sealed(LogOffset(1_000_000))));
    let second = started.elapsed() - first;
    println!("first {first:?}, second {second:?}");
    assert!(first < Duration::from_secs(2), "{first:?}");
}

#[test]
fn a_sealed_index_that_a_replay_writes_again_is_read_again() {
    let mut raw = Raw::new(&[(log(1), ""), (idx(1), "1000\nCOMPLETED")]);
    assert_eq!(raw.indexes(), [(1, Index::Sealed(LogOffset(1000)))]);
    std::thread::sleep(Duration::from_millis(20));
    raw.write(&idx(1), "1024\nCOMPLETED");
    assert_eq!(raw.indexes(), [(1, Index::Sealed(LogOffset(1024)))]);
}

#[test]
fn deleting_takes_the_log_and_its_index_and_wants_the_right_one() {
    let raw = Raw::new(&[(log(1), ""), (idx(1), "1"), (log(2), "")]);
    let cdc_raw = CdcRaw::new(raw.folder.path());
    assert!(cdc_raw.delete(name(1), right(2)).is_err());
    assert_eq!(raw.names().len(), 3);
    cdc_raw.delete(name(1), right(1)).unwrap();
    assert_eq!(raw.names(), [log(2)]);
    cdc_raw.delete(name(1), right(1)).unwrap();
    CdcRaw::new(&raw.path("missing")).delete(name(1), right(1)).unwrap();
}

#[test]
fn moving_keeps_both_files_and_goes_on_where_a_crash_left_it() {
    let target = tempfile::tempdir().unwrap();
    let raw = Raw::new(&[(log(1), "x"), (idx(1), "1"), (log(2), "y")]);
    let cdc_raw = CdcRaw::new(raw.folder.path()).on_done(OnDone::Move(target.path().to_owned()));
    fs::hard_link(raw.path(&log(1)), target.path().join(log(1))).unwrap();
    cdc_raw.delete(name(1), right(1)).unwrap();
    assert_eq!(raw.names(), [log(2)]);
    assert_eq!(fs::read(target.path().join(log(1))).unwrap(), b"x");
    assert_eq!(fs::read(target.path().join(idx(1))).unwrap(), b"1");
    fs::write(target.path().join(log(2)), "another").unwrap();
    let error = cdc_raw.delete(name(2), right(2)).unwrap_err();
    assert!(error.to_string().contains("another CommitLog-7-2.log is there"), "{error}");
    for (target, says) in [(raw.path("inside"), "not in it"), (target.path().join("none"), "No such file")] {
        let cdc_raw = CdcRaw::new(raw.folder.path()).on_done(OnDone::Move(target));
        assert!(cdc_raw.delete(name(2), right(2)).unwrap_err().to_string().contains(says));
    }
    assert_eq!(raw.names(), [log(2)], "what was not moved stays");
}

#[test]
fn an_orphan_goes_only_when_its_loss_is_explained() {
    let raw = Raw::new(&[(idx(1), "1"), (log(2), "x"), (idx(2), "1")]);
    let cdc_raw = CdcRaw::new(raw.folder.path());
    assert!(Explained::by_gap(name(1), || Err(io::Error::other("disk full"))).is_err());
    let tombstone = |id| {
        let right = right(id);
        Tombstone {
            identity: right.identity(),
            end: right.end(),
            tally: right.tally(),
            finished_at: 0,
            ending: Ending::Reaped,
        }
    };
    assert_eq!(Explained::by_tombstone(name(1), &tombstone(2)), None);
    cdc_raw.delete_orphan(Explained::by_tombstone(name(1), &tombstone(1)).unwrap()).unwrap();
    cdc_raw.delete_orphan(Explained::by_gap(name(2), || Ok(())).unwrap()).unwrap();
    assert_eq!(raw.names(), [log(2), idx(2)], "its log is there: the index stays");
}

/// A server syncs in order: the index of the older segment is there before that of the newer one. No look may show the
/// newer one alone, or a segment with changes would pass for one without.
#[test]
fn an_absent_index_is_absent_after_all_that_are_there_were_read() {
    let mut raw = Raw::new(&[]);
    let folder = raw.folder.path().to_owned();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..1000 {
                // Ids fall back between two runs: the older one may have the higher id.
                let (older, newer) =
                    if round % 2 == 0 { (2 * round, 2 * round + 1) } else { (2 * round + 1, 2 * round) };
                for id in [older, newer] {
                    fs::write(folder.join(log(id)), "").unwrap();
                }
                for id in [older, newer] {
                    fs::write(folder.join(idx(id)), "100").unwrap();
                }
                for id in [older, newer] {
                    fs::remove_file(folder.join(log(id))).unwrap();
                    fs::remove_file(folder.join(idx(id))).unwrap();
                }
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        let mut looks = 0;
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let indexes: HashMap<i64, Index> = raw.indexes().into_iter().collect();
            for (id, index) in &indexes {
                let (newer, older) = if id / 2 % 2 == 0 { (id | 1, id & !1) } else { (id & !1, id | 1) };
                if *id == newer && index.value().is_some() {
                    looks += 1;
                    // Its log may be gone already, or its index with it: then it was read before.
                    assert_ne!(indexes.get(&older), Some(&Index::Absent), "{id} shows, {older} does not");
                }
            }
        }
        println!("{looks} looks saw the newer one");
    });
}
