//! Ctrl-C and SIGTERM, for commands that have something to put away first.
//!
//! Owns: turning the first signal into a flag. Does not own: what is put away.

use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::exit::Exit;

/// When the first signal came.
static SIGNAL: OnceLock<Instant> = OnceLock::new();

/// How long what is under way may still take after a signal.
const PATIENCE: Duration = Duration::from_secs(5);

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
                if SIGNAL.set(Instant::now()).is_err() {
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
    });
}

/// Whether a signal has come.
pub fn came() -> bool {
    SIGNAL.get().is_some()
}

/// Whether a signal came so long ago that nothing more should be waited for.
pub fn is_urgent() -> bool {
    SIGNAL.get().is_some_and(|at| at.elapsed() >= PATIENCE)
}
