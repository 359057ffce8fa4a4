//! The spool outlives what others delete, and gives up nothing before its loss is on record.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::cdc_raw::Index;
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

fn name(id: i64) -> SegmentName {
    SegmentName::parse(&log(id)).unwrap()
}

fn log(id: i64) -> String {
    format!("CommitLog-7-{id}.log")
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
    assert_eq!(view.path(), node.raw().join(log(1)));
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
    assert_eq!(scan.segments[0].path(), node.spool().join(log(1)));
}
