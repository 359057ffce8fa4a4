//! What systemd is told, if it started us.
//!
//! Owns: the notifications, and the thread that feeds the watchdog while the loops turn. Does not own: whether they do
//! (`health`). Without `NOTIFY_SOCKET` nothing happens.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;

use super::Observe;
use crate::exit::Failure;

/// The line that `systemctl status` shows is never older than this.
const STATUS: Duration = Duration::from_secs(10);

/// Configuration, state and first scan are done. From here on systemd restarts an agent whose loops hang.
///
/// # Errors
/// No thread can be had.
pub fn ready(observe: Arc<Observe>) -> Result<(), Failure> {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return Ok(());
    }
    notify(&[NotifyState::Ready, NotifyState::Status(&observe.status().summary())]);
    let watchdog = sd_notify::watchdog_enabled();
    let interval = watchdog.map_or(STATUS, |limit| (limit / 2).min(STATUS));
    let feed = move || {
        loop {
            thread::sleep(interval);
            tell(&observe, watchdog.is_some());
        }
    };
    let thread = thread::Builder::new().name("watchdog".to_owned()).spawn(feed);
    thread.map(drop).map_err(|error| Failure::io("start the thread that feeds systemd's watchdog", error))
}

fn tell(observe: &Observe, watchdog: bool) {
    let live = observe.live();
    let summary = observe.status().summary();
    if !live.ok {
        let unmet: Vec<String> = live.unmet().map(|part| format!("{}: {}", part.name, part.detail)).collect();
        let unmet = unmet.join(", ");
        tracing::error!("not live, systemd is about to restart the agent: {unmet}");
        notify(&[NotifyState::Status(&format!("not live: {unmet}"))]);
    } else if watchdog {
        notify(&[NotifyState::Watchdog, NotifyState::Status(&summary)]);
    } else {
        notify(&[NotifyState::Status(&summary)]);
    }
}

/// The configuration is read again. [`reloaded`] must follow, whatever comes of it.
pub fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

/// The configuration was read again, and is in force or was refused.
pub fn reloaded() {
    notify(&[NotifyState::Ready]);
}

/// The agent waits for what was sent, and ends.
pub fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("draining")]);
}

/// A lost notification is no reason to stop: the watchdog decides.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "systemd could not be told");
    }
}
