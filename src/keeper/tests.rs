//! The spool outlives what others delete, and gives up nothing before its loss is on record.

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::cdc_raw::tests::{log, name, right};
use crate::cdc_raw::{Index, OnDone};
use crate::mapped::Access;
use crate::spool::Limits;

const PATIENCE: Duration = Duration::from_secs(5);
const NO_LIMITS: Limits = Limits { max_bytes: u64::MAX, min_free: Some(0) };

struct Node {
    folder: TempDir,
}

impl Node {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("cdc_raw")).unwrap();
        fs::create_dir(folder.path().join("commitlog")).unwrap();
        Self { folder }
    }

    fn raw(&self) -> PathBuf {
        self.folder.path().join("cdc_raw")
    }

    fn spool(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    /// A segment as the server makes it: its own name, and a link in `cdc_raw`.
    fn segment(&self, id: i64) -> PathBuf {
        let own = self.folder.path().join("commitlog").join(log(id));
        fs::write(&own, vec![7; 8192]).unwrap();
        fs::hard_link(&own, self.raw().join(log(id))).unwrap();
        own
    }

    fn index(&self, id: i64, text: &str) {
        fs::write(self.raw().join(name(id).index_name()), text).unwrap();
    }

    fn keeper(&self, limits: Limits, record: RecordGap) -> Keeper {
        let spool = Spool::open(&self.spool(), &self.raw(), limits).unwrap();
        Keeper::start(CdcRaw::new(&self.raw()), Some(spool), record, Box::new(|| ())).unwrap()
    }
}

fn no_gaps() -> RecordGap {
    Box::new(|name, _, _| panic!("{name} is given up"))
}

/// The first scan from now on of which this is true.
fn until(keeper: &Keeper, what: impl Fn(&Scan) -> bool) -> Arc<Scan> {
    let started = Instant::now();
    let mut scan = keeper.latest();
    while scan.number == 0 || !what(&scan) {
        assert!(started.elapsed() < PATIENCE, "{scan:#?}");
        keeper.wake();
        scan = keeper.wait_newer(scan.number, Duration::from_millis(100));
    }
    scan
}

fn holds(scan: &Scan, ids: &[i64]) -> bool {
    scan.segments.iter().map(|view| view.name.id.0).eq(ids.iter().copied())
}

#[test]
fn a_segment_is_linked_at_first_sight_and_survives_a_foreign_deletion() {
    let node = Node::new();
    let own = node.segment(1);
    node.index(1, "100");
    let keeper = node.keeper(NO_LIMITS, no_gaps());
    let scan = until(&keeper, |scan| holds(scan, &[1]));
    let view = &scan.segments[0];
    assert_eq!(view.index, Index::Growing(LogOffset(100)));
    assert_eq!(view.raw.unwrap().links, 3);
    assert_eq!(view.raw, view.spool);
    assert!(view.server_holds() && scan.is_whole());
    assert_eq!(scan.spool_bytes, 0);

    fs::remove_file(node.raw().join(log(1))).unwrap();
    fs::remove_file(node.raw().join(name(1).index_name())).unwrap();
    assert_eq!(view.open(Access::Map).unwrap().len(), 8192, "an old view finds it in the spool");
    let scan = until(&keeper, |scan| scan.segments[0].raw.is_none());
    let view = &scan.segments[0];
    assert_eq!(view.index, Index::Growing(LogOffset(100)), "what the index said is remembered");
    assert!(view.server_holds());
    fs::remove_file(own).unwrap();
    let scan = until(&keeper, |scan| scan.spool_bytes > 0);
    assert!(!scan.segments[0].server_holds());
    assert_eq!(scan.segments[0].open(Access::Map).unwrap().len(), 8192, "only the spool has it");
}

/// Gaps in the order in which they were recorded.
type Gaps = Arc<Mutex<Vec<(i64, Option<u32>)>>>;

/// Records gaps, and fails while it is told to.
fn recorder(fails: &Arc<AtomicBool>) -> (Gaps, RecordGap) {
    let gaps = Gaps::default();
    let (kept, fails) = (Arc::clone(&gaps), Arc::clone(fails));
    let record = move |name: SegmentName, kind, from: Option<LogOffset>| {
        assert_eq!(kind, GapKind::SpoolReleased);
        if fails.load(Ordering::Acquire) {
            return Err(io::Error::other("the disk is full"));
        }
        kept.lock().unwrap().push((name.id.0, from.map(|from| from.0)));
        Ok(())
    };
    (gaps, Box::new(record))
}

#[test]
fn what_exceeds_the_limit_goes_oldest_first_and_only_after_its_gap_is_recorded() {
    let node = Node::new();
    let owns = [1, 2, 3].map(|id| node.segment(id));
    let fails = Arc::new(AtomicBool::new(true));
    let (gaps, record) = recorder(&fails);
    let keeper = node.keeper(Limits { max_bytes: 2 * 8192, min_free: Some(0) }, record);
    until(&keeper, |scan| holds(scan, &[1, 2, 3]) && scan.segments.iter().all(|view| view.spool.is_some()));
    keeper.acknowledged().insert(name(1), LogOffset(4711));
    for own in &owns {
        fs::remove_file(own).unwrap();
    }
    // As long as cdc_raw holds them too, the spool costs nothing.
    let scan = until(&keeper, |scan| !scan.segments[0].server_holds());
    assert_eq!(scan.spool_bytes, 0);
    for id in [1, 2, 3] {
        node.index(id, "100\nCOMPLETED");
        fs::remove_file(node.raw().join(log(id))).unwrap();
    }
    let scan = until(&keeper, |scan| scan.problems.iter().any(|problem| problem.contains("the disk is full")));
    assert!(holds(&scan, &[1, 2, 3]) && scan.spool_bytes == 3 * 8192, "nothing goes without a record");
    fails.store(false, Ordering::Release);
    let scan = until(&keeper, |scan| holds(scan, &[2, 3]));
    assert_eq!((scan.counts.released, scan.spool_bytes), (1, 2 * 8192));
    assert_eq!(*gaps.lock().unwrap(), [(1, Some(4711))]);
    assert!(!node.raw().join(name(1).index_name()).exists(), "its index is explained by the same record");
    assert!(keeper.acknowledged().is_empty());
}

#[test]
fn under_the_floor_everything_that_is_worth_it_goes_and_the_rest_is_said() {
    let node = Node::new();
    fs::remove_file(node.segment(1)).unwrap();
    node.segment(2);
    let (gaps, record) = recorder(&Arc::default());
    let keeper = node.keeper(Limits { max_bytes: u64::MAX, min_free: Some(u64::MAX) }, record);
    until(&keeper, |scan| holds(scan, &[1, 2]));
    fs::remove_file(node.raw().join(log(1))).unwrap();
    let scan = until(&keeper, |scan| holds(scan, &[2]));
    assert!(scan.problems.iter().any(|problem| problem.contains("nothing that it could give up")));
    assert_eq!(*gaps.lock().unwrap(), [(1, None)]);
    fs::remove_file(node.raw().join(log(2))).unwrap();
    fs::remove_file(node.folder.path().join("commitlog").join(log(2))).unwrap();
    let scan = until(&keeper, |scan| scan.spool_bytes > 0);
    assert_eq!(scan.counts.released, 1, "space takes its time to come back");
}

#[test]
fn what_an_earlier_run_left_in_the_spool_is_adopted() {
    let node = Node::new();
    node.segment(1);
    until(&node.keeper(NO_LIMITS, no_gaps()), |scan| holds(scan, &[1]));
    fs::remove_file(node.raw().join(log(1))).unwrap();
    node.segment(2);
    let keeper = node.keeper(NO_LIMITS, no_gaps());
    let scan = until(&keeper, |scan| holds(scan, &[1, 2]));
    assert!(scan.segments[0].raw.is_none() && scan.segments[0].server_holds());
    assert_eq!(scan.segments[0].index, Index::Absent);
}

#[test]
fn reaping_takes_the_segment_everywhere_and_says_from_which_scan_on() {
    let node = Node::new();
    node.segment(1);
    node.index(1, "100\nCOMPLETED");
    node.segment(2);
    let keeper = node.keeper(NO_LIMITS, no_gaps());
    until(&keeper, |scan| holds(scan, &[1, 2]));
    let number = keeper.reap(name(1), right(1)).unwrap();
    keeper.wake();
    let scan = keeper.wait_newer(number, PATIENCE);
    assert!(scan.number > number && holds(&scan, &[2]));
    assert!(!node.raw().join(name(1).index_name()).exists() && !node.spool().join(log(1)).exists());
    assert!(keeper.reap(name(2), right(1)).is_err());
    assert!(node.spool().join(log(2)).exists());
}

#[test]
fn what_came_and_went_is_told_until_it_is_taken_in() {
    let node = Node::new();
    let keeper = Keeper::start(CdcRaw::new(&node.raw()), None, no_gaps(), Box::new(|| ())).unwrap();
    for id in [1, 2, 3] {
        node.segment(id);
    }
    // The server drops segments without an index by itself: they are no loss.
    node.index(1, "100\nCOMPLETED");
    node.index(3, "50");
    until(&keeper, |scan| {
        holds(scan, &[1, 2, 3]) && scan.segments.iter().filter_map(|view| view.index.value()).count() == 2
    });
    for id in [1, 2, 3] {
        fs::remove_file(node.raw().join(log(id))).unwrap();
    }
    let departed = |scan: &Scan| scan.departed.iter().map(|departed| departed.name).collect::<Vec<_>>();
    let scan = until(&keeper, |scan| scan.segments.is_empty());
    assert_eq!(departed(&scan), [name(1), name(3)]);
    keeper.wake();
    let next = until(&keeper, |later| later.number > scan.number + 1);
    assert_eq!(departed(&next), [name(1), name(3)]);
    keeper.taken(next.number);
    until(&keeper, |scan| scan.departed.is_empty());
}

#[test]
fn nothing_is_deleted_between_a_look_and_its_publication() {
    let node = Node::new();
    node.segment(1);
    let keeper = node.keeper(NO_LIMITS, no_gaps());
    until(&keeper, |scan| holds(scan, &[1]));
    let is_looking = || keeper.shared.files.try_lock().is_err();
    let unpublished = lock(&keeper.shared.latest);
    keeper.wake();
    let started = Instant::now();
    while !is_looking() {
        assert!(started.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(1));
    }
    for _ in 0..200 {
        assert!(is_looking());
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(unpublished);
}

#[test]
fn a_segment_that_only_the_spool_has_is_kept_too() {
    let node = Node::new();
    let done = node.folder.path().join("done");
    fs::create_dir(&done).unwrap();
    node.segment(1);
    let spool = Spool::open(&node.spool(), &node.raw(), NO_LIMITS).unwrap();
    let raw = CdcRaw::new(&node.raw()).on_done(OnDone::Move(done.clone()));
    let keeper = Keeper::start(raw, Some(spool), no_gaps(), Box::new(|| ())).unwrap();
    until(&keeper, |scan| holds(scan, &[1]));
    fs::remove_file(node.raw().join(log(1))).unwrap();
    keeper.reap(name(1), right(1)).unwrap();
    assert!(done.join(log(1)).exists() && !node.spool().join(log(1)).exists());
}

#[test]
fn a_directory_made_anew_is_watched_again() {
    let node = Node::new();
    node.segment(1);
    let keeper = node.keeper(NO_LIMITS, no_gaps());
    until(&keeper, |scan| holds(scan, &[1]));
    fs::remove_dir_all(node.raw()).unwrap();
    let scan = until(&keeper, |scan| scan.raw == RawState::Missing);
    assert!(holds(&scan, &[1]) && !scan.is_whole(), "the spool still has it");
    fs::create_dir(node.raw()).unwrap();
    let scan = until(&keeper, |scan| scan.counts.watching && scan.raw == RawState::Ready);
    // A hint, not the timer, which may come at the same time once, but not each time.
    let mut fastest = Duration::MAX;
    let mut number = scan.number;
    for id in 2..6 {
        let started = Instant::now();
        node.segment(id);
        while keeper.latest().segments.iter().all(|view| view.name != name(id)) {
            number = keeper.wait_newer(number, PATIENCE).number;
        }
        fastest = fastest.min(started.elapsed());
    }
    assert!(fastest < crate::watch::RESCAN / 4, "{fastest:?}");
}

#[test]
fn without_a_spool_and_a_directory_it_looks_and_beats_all_the_same_and_stops_at_once() {
    let node = Node::new();
    let beats = Arc::new(std::sync::atomic::AtomicU32::new(0));
    let counted = Arc::clone(&beats);
    let beat = move || {
        counted.fetch_add(1, Ordering::AcqRel);
    };
    let raw = CdcRaw::new(&node.folder.path().join("later"));
    let mut keeper = Keeper::start(raw, None, no_gaps(), Box::new(beat)).unwrap();
    let scan = keeper.wait_newer(0, PATIENCE);
    assert_eq!((scan.raw, scan.counts.watching, scan.room), (RawState::Missing, false, None));
    let scan = keeper.wait_newer(scan.number, PATIENCE);
    assert_eq!(scan.number, 2);
    assert!(beats.load(Ordering::Acquire) >= 2);
    let started = Instant::now();
    assert_eq!(keeper.wait_newer(scan.number, Duration::from_millis(20)).number, 2);
    keeper.stop();
    assert!(started.elapsed() < Duration::from_millis(500));
}

/// Where the child finds its folders; without it the test is empty.
const CHILD: &str = "CASSANDRA_CDC_KEEPER_CHILD";

fn at(parent: &Path, limits: Limits, record: RecordGap) -> Keeper {
    let spool = Spool::open(&parent.join("spool"), &parent.join("cdc_raw"), limits).unwrap();
    let raw = CdcRaw::new(&parent.join("cdc_raw")).on_done(OnDone::Move(parent.join("done")));
    Keeper::start(raw, Some(spool), record, Box::new(|| ())).unwrap()
}

/// Links segment 1, reaps it; gives up segment 2, which only the spool holds.
fn life(parent: &Path) {
    let gap = parent.join("gap");
    let record = move |_: SegmentName, _, _: Option<LogOffset>| fs::write(&gap, "recorded");
    let keeper = at(parent, Limits { max_bytes: 0, min_free: Some(0) }, Box::new(record));
    until(&keeper, |scan| scan.segments.iter().all(|view| view.name != name(2)));
    keeper.reap(name(1), right(1)).unwrap();
}

#[test]
fn the_child_of_the_next_test() {
    let Some(parent) = std::env::var_os(CHILD).map(PathBuf::from) else { return };
    life(&parent);
}

#[test]
fn a_death_at_any_step_loses_nothing_and_the_next_run_completes_it() {
    let steps = ["spool.link", "spool.linked", "move.link", "move.done", "reap.log", "reap.idx", "reap.done"];
    let unlinks = [("spool.unlink", 1), ("spool.unlinked", 1), ("spool.unlink", 2), ("spool.unlinked", 2)];
    for (place, time) in steps.into_iter().map(|place| (place, 1)).chain(unlinks) {
        let node = Node::new();
        let parent = node.folder.path();
        fs::create_dir(parent.join("done")).unwrap();
        fs::create_dir(node.spool()).unwrap();
        fs::write(node.spool().join(log(2)), vec![7; 8192]).unwrap();
        let own = node.segment(1);
        node.index(1, "100\nCOMPLETED");
        fs::remove_file(own).unwrap();
        let ended = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "keeper::tests::the_child_of_the_next_test"])
            .env(CHILD, parent)
            .env("CASSANDRA_CDC_FAULT", format!("{place}=kill:{time}"))
            .output()
            .unwrap();
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9), "{place}: {ended:?}");
        let there = |file: PathBuf| fs::metadata(file).is_ok_and(|file| file.len() == 8192);
        assert!(there(node.spool().join(log(2))) || parent.join("gap").exists(), "{place}: released before its record");
        assert!(there(node.raw().join(log(1))) || there(parent.join("done").join(log(1))), "{place}");
        life(parent);
        assert!(there(parent.join("done").join(log(1))) && parent.join("gap").exists(), "{place}");
        assert_eq!(
            fs::read_dir(node.raw()).unwrap().count() + fs::read_dir(node.spool()).unwrap().count(),
            0,
            "{place}"
        );
    }
}
