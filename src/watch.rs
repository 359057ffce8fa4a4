//! When to look at `cdc_raw` again.
//!
//! Owns: the wait between two scans. A notification is a hint and ends the wait early; the rescan is the truth, because
//! mapped writes raise no event and the queue of events overflows. Does not own: the scan.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TrySendError, sync_channel};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, EventKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};

/// The longest wait between two scans.
const RESCAN: Duration = Duration::from_secs(1);

/// A watch on one directory. Without notifications (no inotify left, no directory yet) it is a timer.
#[derive(Debug)]
pub struct Watch {
    _watcher: Option<RecommendedWatcher>,
    hints: Receiver<()>,
}

impl Watch {
    /// Watches from now on.
    pub fn new(folder: &Path) -> Self {
        // One hint is as good as many: a full channel already says "look".
        let (sender, hints) = sync_channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if event.map_or(true, |event| tells_of_change(event.kind))
                && let Err(TrySendError::Disconnected(())) = sender.try_send(())
            {
                tracing::trace!("nobody watches any more");
            }
        })
        .and_then(|mut watcher| watcher.watch(folder, RecursiveMode::NonRecursive).map(|()| watcher));
        if let Err(error) = &watcher {
            tracing::warn!(%error, "no notifications for {}: it is scanned once a second", folder.display());
        }
        Self { _watcher: watcher.ok(), hints }
    }

    /// Waits for a hint, at most as long as the next scan may be away.
    pub fn wait(&self) {
        if let Err(RecvTimeoutError::Disconnected) = self.hints.recv_timeout(RESCAN) {
            std::thread::sleep(RESCAN);
        }
    }
}

/// Reads, our own among them, tell of nothing; what was written is told when it is closed.
fn tells_of_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn a_new_file_ends_the_wait_and_a_missing_folder_makes_a_timer() {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::new(folder.path());
        std::fs::write(folder.path().join("file"), "x").unwrap();
        watch.wait();
        assert!(watch.hints.try_recv().is_ok() || watch._watcher.is_some());
        let timer = Watch::new(&folder.path().join("missing"));
        let started = Instant::now();
        timer.wait();
        assert!(timer._watcher.is_none() && started.elapsed() >= RESCAN);
    }
}
