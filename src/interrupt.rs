//! Ctrl-C and SIGTERM, for commands that have something to put away first.
//!
//! Owns: turning the first signal into a flag. Does not own: what is put away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::exit::Exit;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Watches for signals from now on. The second one ends the process at once.
pub fn watch() {
    // Where no thread can be had a signal ends the process as it does by default.
    let _ = thread::Builder::new().name("signals".to_owned()).spawn(|| {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
    });
}

/// Whether a signal has come.
pub fn came() -> bool {
    INTERRUPTED.load(Ordering::Relaxed)
}
