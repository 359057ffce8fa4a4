//! The thread that looks at `cdc_raw` and keeps the spool.
//!
//! Owns: when to look, linking what is new into the spool, giving up what exceeds its limits, and the published scan.
//! Does not own: reading segments, what is acknowledged (the pump tells), the durable record of what is given up (the
//! closure that it is given). It goes on while the pump waits for Kafka, whatever that takes: this is when segments are
//! deleted by others.

mod scan;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use cassandra_commitlog::{LogOffset, SegmentName};
use cassandra_event::GapKind;
use cassandra_progress::Reapable;

use crate::cdc_raw::{CdcRaw, Explained, RawScan, RawState, Scanner};
use crate::folder::Meta;
use crate::spool::{Room, Spool, SpoolError};
use crate::watch::{Waker, Watch};

use scan::Folders;
pub use scan::{Counts, Departed, Scan, View};

/// Makes a gap durable: which segment, why, and from which position on (none: from its beginning). It is called with the
/// files locked: it must not call the keeper.
pub type RecordGap = Box<dyn FnMut(SegmentName, GapKind, Option<LogOffset>) -> io::Result<()> + Send>;

/// Looking takes at most this share of the time, one in so many: with ten thousand segments a look takes tens of
/// milliseconds, and each index that is written asks for one.
const SHARE: u32 = 10;

/// How long after giving up something for want of free space nothing more is given up for it: space comes back only when
/// a reader lets go of the file and the file system has got round to it.
const FLOOR_PAUSE: Duration = Duration::from_secs(5);

/// The keeper's side that others hold.
pub struct Keeper {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    raw: CdcRaw,
    /// Held while looking, linking and deleting: a look that runs beside a deletion would show, or link again, what is
    /// gone.
    files: Mutex<Option<Spool>>,
    latest: Mutex<Arc<Scan>>,
    published: Condvar,
    acknowledged: Mutex<HashMap<SegmentName, LogOffset>>,
    /// The number of the last look that the pump has taken in.
    taken: AtomicU64,
    stop: AtomicBool,
}

impl Keeper {
    /// Starts to look. `beat` is called each turn, at least once a second.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        raw: CdcRaw,
        spool: Option<Spool>,
        record_gap: RecordGap,
        beat: Box<dyn Fn() + Send>,
    ) -> io::Result<Self> {
        let folders =
            Folders { raw: raw.folder().to_owned(), spool: spool.as_ref().map(|spool| spool.path().to_owned()) };
        // Watch first, then look: what comes in between is told.
        let watch = Watch::new(raw.folder());
        let waker = watch.waker();
        let shared = Arc::new(Shared {
            raw,
            files: Mutex::new(spool),
            latest: Mutex::new(Arc::new(Scan::before_the_first())),
            published: Condvar::new(),
            acknowledged: Mutex::new(HashMap::new()),
            taken: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let mut turns = Turns {
            scanner: Scanner::new(&folders.raw),
            folders: Arc::new(folders),
            shared: Arc::clone(&shared),
            watch,
            record_gap,
            counts: Counts::default(),
            floor_released: None,
            spooled: HashMap::new(),
            indexed: Vec::new(),
            departed: Vec::new(),
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(move || turns.run(&*beat))?;
        Ok(Self { shared, waker, thread: Some(thread) })
    }

    /// The last look. Its number is zero before the first.
    pub fn latest(&self) -> Arc<Scan> {
        Arc::clone(&lock(&self.shared.latest))
    }

    /// Waits for a look with a higher number than this one, or for the time to run out; gives the last one.
    pub fn wait_newer(&self, than: u64, timeout: Duration) -> Arc<Scan> {
        let latest = lock(&self.shared.latest);
        let waited = self.shared.published.wait_timeout_while(latest, timeout, |latest| latest.number <= than);
        Arc::clone(&waited.unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Looks up to this number are taken in: what had gone by then need not be told again.
    pub fn taken(&self, number: u64) {
        self.shared.taken.store(number, Ordering::Release);
    }

    /// Asks for a look now.
    pub fn wake(&self) {
        self.waker.wake();
    }

    /// Up to where each segment is acknowledged: what a gap record says when the spool must give one up. The pump keeps
    /// it up to date.
    pub fn acknowledged(&self) -> MutexGuard<'_, HashMap<SegmentName, LogOffset>> {
        lock(&self.shared.acknowledged)
    }

    /// Deletes a finished segment, or moves it away, and drops its link in the spool. Looks with a number up to the one
    /// that comes back may still show it.
    ///
    /// # Errors
    /// A file can't be unlinked or moved. What is gone already is as good.
    pub fn reap(&self, name: SegmentName, right: Reapable) -> io::Result<u64> {
        let spool = lock(&self.shared.files);
        self.shared.raw.delete(name, right)?;
        if let Some(spool) = &*spool {
            // Where cdc_raw had lost it, this is the file to keep.
            self.shared.raw.keep(spool.descriptor(), &[&name.to_string()])?;
            spool.unlink(name)?;
        }
        lock(&self.shared.acknowledged).remove(&name);
        Ok(self.latest().number)
    }

    /// Deletes an index whose log is gone. If the log is there again the index is its own, and stays.
    ///
    /// # Errors
    /// The index can't be unlinked.
    pub fn delete_orphan(&self, explained: Explained) -> io::Result<()> {
        let _files = lock(&self.shared.files);
        self.shared.raw.delete_orphan(explained)
    }

    /// What the spool may cost from now on.
    pub fn set_spool_limits(&self, limits: crate::spool::Limits) {
        if let Some(spool) = lock(&self.shared.files).as_mut() {
            spool.set_limits(limits);
        }
    }

    /// Gives a segment that `cdc_raw` has lost a link in the spool, from the directory in which the server writes. Says
    /// whether it is there.
    ///
    /// # Errors
    /// The directory can't be looked at, or no link can be made.
    pub fn link_from(&self, folder: &Path, name: SegmentName) -> io::Result<bool> {
        let files = lock(&self.shared.files);
        let Some(spool) = &*files else { return Ok(false) };
        let directory = crate::folder::open_directory(folder)?;
        match spool.link(directory.as_fd(), name) {
            Ok(linked) => Ok(linked.is_some()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    /// Ends the thread and waits for it: at most for the look under way.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.waker.wake();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the keeper panicked");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Turns {
    scanner: Scanner,
    folders: Arc<Folders>,
    shared: Arc<Shared>,
    watch: Watch,
    record_gap: RecordGap,
    counts: Counts,
    floor_released: Option<Instant>,
    /// What the spool held when it could last be read.
    spooled: HashMap<SegmentName, Meta>,
    /// The segments with an index that were there when all could last be seen.
    indexed: Vec<Departed>,
    /// Such segments that went, and the look that missed them first.
    departed: Vec<(u64, Departed)>,
}

impl Turns {
    fn run(&mut self, beat: &dyn Fn()) {
        let mut number = 0;
        while !self.shared.stop.load(Ordering::Acquire) {
            beat();
            let started = Instant::now();
            number += 1;
            self.turn(number, started);
            self.shared.published.notify_all();
            self.rest(started.elapsed());
            if !self.shared.stop.load(Ordering::Acquire) {
                self.watch.wait();
            }
        }
    }

    /// Lets the time go by that a look of this length has used up in advance.
    fn rest(&self, took: Duration) {
        const STEP: Duration = Duration::from_millis(20);
        let until = Instant::now() + (took * (SHARE - 1)).min(crate::watch::RESCAN);
        while !self.shared.stop.load(Ordering::Acquire) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    /// Looks and publishes, all under the lock: what is deleted later is in no look with a higher number.
    fn turn(&mut self, number: u64, at: Instant) {
        let shared = Arc::clone(&self.shared);
        let files = lock(&shared.files);
        let mut problems = Vec::new();
        let (mut spooled, spool_read) = match files.as_ref().map(Spool::scan) {
            None => (HashMap::new(), true),
            Some(Ok(spooled)) => (spooled, true),
            Some(Err(error)) => {
                problems.push(error.to_string());
                (std::mem::take(&mut self.spooled), false)
            }
        };
        let mut raw = self.scanner.scan(at, &spooled);
        problems.append(&mut raw.problems);
        self.follow(&raw);
        let mut room = None;
        if let Some(spool) = files.as_ref().filter(|_| spool_read) {
            self.link_new(spool, &mut raw, &mut spooled, &mut problems);
            room = spool.room().map_err(|error| problems.push(format!("ask for free space: {error}"))).ok();
            self.keep_limits(spool, &mut spooled, room, &mut problems);
        }
        self.spooled.clone_from(&spooled);
        self.counts.indexes = self.scanner.counts();
        self.counts.overflows = self.watch.overflows();
        self.counts.watching = self.watch.is_watching();
        let mut scan = Scan {
            number,
            at,
            raw: raw.state,
            spool_read,
            spool_bytes: Spool::bytes(&spooled),
            room,
            counts: self.counts,
            orphans: raw.orphans,
            foreign: raw.foreign,
            raw_bytes: raw.bytes,
            segments: self.views(&raw.segments, spooled),
            departed: Vec::new(),
            problems,
        };
        self.note_departed(&mut scan);
        *lock(&shared.latest) = Arc::new(scan);
    }

    /// While the pump waits for Kafka, segments may come and go: it is told until it has taken that in.
    fn note_departed(&mut self, scan: &mut Scan) {
        let taken = self.shared.taken.load(Ordering::Acquire);
        self.departed.retain(|(number, _)| *number > taken);
        if scan.is_whole() {
            let present: HashSet<SegmentName> = scan.segments.iter().map(|view| view.name).collect();
            let gone = self.indexed.drain(..).filter(|segment| !present.contains(&segment.name));
            self.departed.extend(gone.map(|segment| (scan.number, segment)));
            let indexed = |view: &View| Some(Departed { name: view.name, index: view.index.value()? });
            self.indexed.extend(scan.segments.iter().filter_map(indexed));
        }
        scan.departed = self.departed.iter().map(|(_, departed)| *departed).collect();
    }

    /// A watch stays with the directory that was there; one that failed is tried again each turn.
    fn follow(&mut self, raw: &RawScan) {
        let present = matches!(raw.state, RawState::Ready | RawState::ReadOnly);
        if !present || (self.watch.is_watching() && !(raw.reopened && self.counts.watching)) {
            return;
        }
        if let Err(error) = self.watch.follow(&self.folders.raw)
            && self.counts.watching
        {
            tracing::warn!(%error, "no notifications for {}: it is scanned once a second", self.folders.raw.display());
        }
    }

    fn link_new(
        &mut self,
        spool: &Spool,
        raw: &mut RawScan,
        spooled: &mut HashMap<SegmentName, Meta>,
        problems: &mut Vec<String>,
    ) {
        let Some(directory) = self.scanner.descriptor() else { return };
        let mut failed: Option<(SpoolError, u64)> = None;
        for segment in &mut raw.segments {
            if spooled.get(&segment.name).is_some_and(|spool| spool.inode == segment.meta.inode) {
                continue;
            }
            match spool.link(directory, segment.name) {
                Ok(None) => {}
                Ok(Some(meta)) => {
                    self.counts.linked += 1;
                    segment.meta = meta;
                    spooled.insert(segment.name, meta);
                }
                Err(error) => {
                    let (_, count) = failed.get_or_insert((error, 0));
                    *count += 1;
                }
            }
        }
        if let Some((error, count)) = failed {
            problems.push(format!("{count} segments have no link in the spool: {error}"));
        }
    }

    /// Gives up what exceeds the limits, each after its gap record is durable.
    fn keep_limits(
        &mut self,
        spool: &Spool,
        spooled: &mut HashMap<SegmentName, Meta>,
        room: Option<Room>,
        problems: &mut Vec<String>,
    ) {
        let paused = self.floor_released.is_some_and(|at| at.elapsed() < FLOOR_PAUSE);
        let short = room.filter(|room| room.free < room.floor);
        for name in spool.too_much(spooled, short.filter(|_| !paused)) {
            let from = lock(&self.shared.acknowledged).get(&name).copied();
            let released = Explained::by_gap(name, || (self.record_gap)(name, GapKind::SpoolReleased, from)).and_then(
                |explained| {
                    spool.release(&explained)?;
                    // The same record explains the index, if it is still there.
                    self.shared.raw.delete_orphan(explained)
                },
            );
            match released {
                Ok(()) => {
                    spooled.remove(&name);
                    lock(&self.shared.acknowledged).remove(&name);
                    self.counts.released += 1;
                    self.floor_released = short.map(|_| Instant::now()).or(self.floor_released);
                    tracing::error!(segment = %name, "given up unpublished: the spool is at its limit");
                    problems.push(format!("{name} was given up unpublished: the spool is at its limit"));
                }
                Err(error) => {
                    problems.push(format!("{name} exceeds the spool's limit and can't be given up: {error}"));
                    break;
                }
            }
        }
        if let Some(room) = short
            && Spool::bytes(spooled) == 0
        {
            problems.push(format!(
                "only {} bytes are free where the spool is, less than {}, and the spool holds nothing that it could give \
                 up: free space",
                room.free, room.floor
            ));
        }
    }

    fn views(&self, raw: &[crate::cdc_raw::RawSegment], mut spooled: HashMap<SegmentName, Meta>) -> Vec<View> {
        let view = |name, raw, spool, index| View { name, raw, spool, index, folders: Arc::clone(&self.folders) };
        let mut views: Vec<View> = raw
            .iter()
            .map(|segment| view(segment.name, Some(segment.meta), spooled.remove(&segment.name), segment.index))
            .collect();
        let rest = spooled.into_iter().map(|(name, meta)| view(name, None, Some(meta), self.scanner.index(name)));
        views.extend(rest);
        views.sort_by_key(|view| view.name.id);
        views
    }
}
