//! When to look at `cdc_raw` again.
//!
//! Owns: the wait between two scans. A notification is a hint and ends the wait early; the rescan is the truth, because
//! mapped writes raise no event and the queue of events overflows. Does not own: the scan.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};
use rustix::io::Errno;

/// The longest wait between two scans.
pub const RESCAN: Duration = Duration::from_secs(1);

/// Reads and opens, our own among them, tell of nothing and would fill the queue.
const EVENTS: WatchFlags = WatchFlags::CREATE
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR);

/// Bytes of events taken at once; more of them say no more.
const BATCH: usize = 4096;

/// A watch on one directory. Without notifications (no inotify left, no directory yet) it is a timer.
#[derive(Debug)]
pub struct Watch {
    events: Option<OwnedFd>,
    waker: Waker,
    overflows: u64,
}

/// Ends a wait from elsewhere.
#[derive(Debug, Clone)]
pub struct Waker(Option<Arc<OwnedFd>>);

impl Waker {
    /// Ends the wait that is under way, or the next one.
    pub fn wake(&self) {
        if let Some(event) = &self.0 {
            // It refuses only what is woken often enough.
            let _ = rustix::io::write(&**event, &1_u64.to_ne_bytes());
        }
    }
}

impl Watch {
    /// Watches from now on.
    pub fn new(folder: &Path) -> Self {
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).ok();
        let mut watch = Self { events: None, waker: Waker(waker.map(Arc::new)), overflows: 0 };
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
        self.events = None;
        let events = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        add_watch(&events, folder, EVENTS)?;
        self.events = Some(events);
        Ok(())
    }

    /// Whether hints come at all.
    pub fn is_watching(&self) -> bool {
        self.events.is_some()
    }

    /// How often the queue of events overflowed.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// For ending a wait from elsewhere.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Waits for a hint, at most as long as the next scan may be away.
    pub fn wait(&mut self) {
        let fds = self.events.iter().map(AsFd::as_fd).chain(self.waker.0.iter().map(|event| event.as_fd()));
        let mut fds: Vec<PollFd<'_>> = fds.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
        let timeout = Timespec::try_from(RESCAN).ok();
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            // Never a loop that spins.
            Err(_) => std::thread::sleep(RESCAN),
        }
        self.drain();
    }

    /// Takes all hints that are there: one is as good as many.
    fn drain(&mut self) {
        if let Some(event) = &self.waker.0 {
            let _ = rustix::io::read(&**event, &mut [0_u8; 8]);
        }
        let Some(events) = &self.events else { return };
        let mut buffer = [MaybeUninit::uninit(); BATCH];
        let mut reader = Reader::new(events, &mut buffer);
        let mut gone = false;
        while let Ok(event) = reader.next() {
            self.overflows += u64::from(event.events().contains(ReadFlags::QUEUE_OVERFLOW));
            // A directory that was moved away is watched on, but is not what the path leads to.
            gone |= event.events().intersects(ReadFlags::IGNORED | ReadFlags::MOVE_SELF);
        }
        if gone {
            self.events = None;
        }
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
            watch.wait();
            assert!(!watch.is_watching());
            std::fs::create_dir(&folder).unwrap();
            watch.follow(&folder).unwrap();
            std::fs::write(folder.join("file"), "x").unwrap();
            assert!(!waits_for_the_timer(&mut watch));
            std::fs::rename(&folder, parent.path().join(away)).unwrap();
        }
    }

    #[test]
    fn an_overflow_is_counted() {
        let folder = tempfile::tempdir().unwrap();
        let mut watch = Watch::new(folder.path());
        let limit: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        let file = folder.path().join("file");
        for _ in 0..limit / 3 + 1 {
            std::fs::write(&file, "").unwrap();
            std::fs::remove_file(&file).unwrap();
        }
        watch.wait();
        assert_eq!(watch.overflows(), 1);
        std::fs::write(&file, "").unwrap();
        assert!(!waits_for_the_timer(&mut watch), "hints come again");
    }
}
