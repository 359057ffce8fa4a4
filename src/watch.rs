//! When to look at `cdc_raw` again.
//!
//! Owns: the wait between two scans. A notification is a hint and ends the wait early; the rescan is the truth, because
//! mapped writes raise no event and the queue of events overflows. Does not own: the scan.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind, ModifyKind};
use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};

/// The longest wait between two scans.
pub const RESCAN: Duration = Duration::from_secs(1);

/// A watch on one directory. Without notifications (no inotify left, no directory yet) it is a timer.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    told: Arc<Told>,
    waker: Waker,
    hints: Receiver<()>,
}

/// What notifications say beside that there is something to see.
#[derive(Debug, Default)]
struct Told {
    overflows: AtomicU64,
    /// The directory was removed or moved: what the path leads to is another one, if there is one.
    gone: AtomicBool,
}

/// Ends a wait from elsewhere.
#[derive(Debug, Clone)]
pub struct Waker(SyncSender<()>);

impl Waker {
    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        // One hint is as good as many: a full channel already says "look".
        let _ = self.0.try_send(());
    }
}

impl Watch {
    /// Watches from now on.
    pub fn new(folder: &Path) -> Self {
        let (sender, hints) = sync_channel(1);
        let mut watch = Self { watcher: None, told: Arc::default(), waker: Waker(sender), hints };
        if let Err(error) = watch.follow(folder) {
            tracing::warn!(%error, "no notifications for {}: it is scanned once a second", folder.display());
        }
        watch
    }

    /// Watches what the path leads to now: a watch stays with a directory that was removed.
    ///
    /// # Errors
    /// There is no directory, or no inotify left: the watch is a timer until this succeeds.
    pub fn follow(&mut self, folder: &Path) -> io::Result<()> {
        self.watcher = None;
        self.told.gone.store(false, Ordering::Relaxed);
        let (told, waker, path) = (Arc::clone(&self.told), self.waker.clone(), folder.to_owned());
        let watcher =
            notify::recommended_watcher(move |event: notify::Result<Event>| hear(&told, &waker, &path, event));
        let mut watcher = watcher.map_err(io::Error::other)?;
        watcher.watch(folder, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        self.watcher = Some(watcher);
        Ok(())
    }

    /// Whether hints come at all.
    pub fn is_watching(&self) -> bool {
        self.watcher.is_some()
    }

    /// How often the queue of events overflowed.
    pub fn overflows(&self) -> u64 {
        self.told.overflows.load(Ordering::Relaxed)
    }

    /// For ending a wait from elsewhere.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a hint, at most as long as the next scan may be away.
    pub fn wait(&mut self) {
        if let Err(RecvTimeoutError::Disconnected) = self.hints.recv_timeout(RESCAN) {
            // Never a loop that spins.
            std::thread::sleep(RESCAN);
        }
        if self.told.gone.swap(false, Ordering::Relaxed) {
            self.watcher = None;
        }
    }
}

fn hear(told: &Told, waker: &Waker, folder: &PathBuf, event: notify::Result<Event>) {
    let Ok(event) = event else { return waker.wake() };
    if event.need_rescan() {
        told.overflows.fetch_add(1, Ordering::Relaxed);
    }
    let leaves = matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)));
    if leaves && event.paths.contains(folder) {
        told.gone.store(true, Ordering::Relaxed);
    }
    if event.need_rescan() || tells_of_change(event.kind) {
        waker.wake();
    }
}

/// Reads and opens, our own among them, tell of nothing; what was written is told when it is closed.
fn tells_of_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Metadata(_)) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    fn waits_for_the_timer(watch: &mut Watch) -> bool {
        let started = Instant::now();
        watch.wait();
        started.elapsed() >= RESCAN
    }

    #[test]
    fn a_new_file_ends_the_wait_and_a_missing_folder_makes_a_timer() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path());
        std::fs::write(folder.path().join("file"), "x").unwrap();
        assert!(!waits_for_the_timer(&mut watch));
        let mut timer = Watch::new(&folder.path().join("missing"));
        assert!(!timer.is_watching());
        assert!(waits_for_the_timer(&mut timer));
        timer.waker().wake();
        assert!(!waits_for_the_timer(&mut timer));
    }

    #[test]
    fn our_own_reads_tell_of_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let mut watch = Watch::new(folder.path());
        std::fs::read(&file).unwrap();
        std::fs::read_dir(folder.path()).unwrap().for_each(drop);
        assert!(waits_for_the_timer(&mut watch));
    }

    #[test]
    fn a_removed_folder_is_noticed_and_its_successor_can_be_followed() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("cdc_raw");
        std::fs::create_dir(&folder).unwrap();
        let mut watch = Watch::new(&folder);
        std::fs::remove_dir(&folder).unwrap();
        for away in ["one", "two"] {
            // A hint of what came before may end a wait first.
            let started = Instant::now();
            while watch.is_watching() {
                assert!(started.elapsed() < RESCAN * 10);
                watch.wait();
            }
            std::fs::create_dir(&folder).unwrap();
            watch.follow(&folder).unwrap();
            std::fs::write(folder.join("file"), "x").unwrap();
            assert!(!waits_for_the_timer(&mut watch));
            std::fs::rename(&folder, parent.path().join(away)).unwrap();
        }
    }

    /// The kernel says that its queue was full with an event that names no path.
    #[test]
    fn an_overflow_is_counted_and_ends_the_wait() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(&folder.path().join("missing"));
        let event = notify::Event::new(EventKind::Other).set_flag(notify::event::Flag::Rescan);
        hear(&watch.told, &watch.waker, &folder.path().to_owned(), Ok(event));
        assert_eq!(watch.overflows(), 1);
        assert!(!waits_for_the_timer(&mut watch));
    }
}
