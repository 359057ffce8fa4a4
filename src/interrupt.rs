//! Signals: the first one ends the work in order, the second one at once; SIGHUP asks for a look at the configuration.
//!
//! Owns: catching SIGINT, SIGTERM and SIGHUP. Does not own: what to do about it; whoever works asks [`came`] now and then.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::exit::Exit;

/// When the first signal came, and how long what is under way may still take.
static SIGNAL: OnceLock<Instant> = OnceLock::new();
static PATIENCE: OnceLock<Duration> = OnceLock::new();
static HANGUP: AtomicBool = AtomicBool::new(false);

/// Watches for signals from now on. The second one ends the process at once. After the first one, what is under way has
/// so long. Where SIGHUP reloads nothing it ends the process as it does by default.
pub fn watch(patience: Duration, reloads: bool) {
    if PATIENCE.set(patience).is_err() {
        return;
    }
    let (watching, watched) = mpsc::channel();
    // Where no thread can be had a signal ends the process as it does by default.
    let _ = thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            let mut hangup = if reloads { signal(SignalKind::hangup()).ok() } else { None };
            let _ = watching.send(());
            loop {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                    () = next(&mut hangup) => {
                        HANGUP.store(true, Ordering::Relaxed);
                        continue;
                    }
                }
                if SIGNAL.set(Instant::now()).is_err() {
                    std::process::exit(Exit::Interrupted as i32);
                }
            }
        });
    });
    // It is watched for when this returns, or never.
    let _ = watched.recv();
}

/// The next of a signal, if it is watched for.
async fn next(signal: &mut Option<tokio::signal::unix::Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Whether a signal to end has come.
pub fn came() -> bool {
    SIGNAL.get().is_some()
}

/// Whether a signal came so long ago that nothing more should be waited for.
pub fn is_urgent() -> bool {
    let patience = PATIENCE.get().copied().unwrap_or_default();
    SIGNAL.get().is_some_and(|at| at.elapsed() >= patience)
}

/// Whether SIGHUP came since the last time this was asked.
pub fn hung_up() -> bool {
    HANGUP.swap(false, Ordering::Relaxed)
}
