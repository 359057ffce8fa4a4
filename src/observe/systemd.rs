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

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;
    use crate::observe::Part;

    /// What a service does, in a process of its own: the environment of this one can't be changed safely.
    #[test]
    #[ignore = "started by the tests beside it"]
    fn service() {
        if std::env::var_os("TEST_HANGS").is_some() {
            ready(Arc::new(Observe::new().with_old_beats())).unwrap();
            thread::sleep(Duration::from_secs(60));
        }
        let observe = Arc::new(Observe::new());
        observe.beat(Part::Pump);
        ready(observe).unwrap();
        thread::sleep(Duration::from_millis(500));
        reloading();
        reloaded();
        stopping();
    }

    struct Service {
        child: Child,
        socket: UnixDatagram,
        _folder: tempfile::TempDir,
    }

    impl Service {
        fn start(watchdog: Option<Duration>, hangs: bool) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("notify");
            let socket = UnixDatagram::bind(&path).unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut command = Command::new(std::env::current_exe().unwrap());
            command.args(["--exact", "observe::systemd::tests::service", "--ignored"]);
            command.env("NOTIFY_SOCKET", &path).env_remove("WATCHDOG_USEC").env_remove("WATCHDOG_PID");
            if let Some(watchdog) = watchdog {
                command.env("WATCHDOG_USEC", watchdog.as_micros().to_string());
            }
            if hangs {
                command.env("TEST_HANGS", "1");
            }
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            Self { child, socket, _folder: folder }
        }

        fn next(&self) -> String {
            let mut buffer = [0; 4096];
            let length = self.socket.recv(&mut buffer).expect("a notification");
            String::from_utf8(buffer[..length].to_vec()).unwrap()
        }

        /// All up to this one.
        fn until(&self, what: &str) -> Vec<String> {
            let started = Instant::now();
            let mut got = Vec::new();
            while started.elapsed() < Duration::from_secs(20) {
                got.push(self.next());
                if got.last().is_some_and(|last| last.starts_with(what)) {
                    return got;
                }
            }
            panic!("no {what} in {got:?}");
        }
    }

    impl Drop for Service {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    #[test]
    fn the_watchdog_is_fed_while_the_loops_turn() {
        let service = Service::start(Some(Duration::from_millis(200)), false);
        assert_eq!(service.next(), "READY=1\nSTATUS=starting: 0 segments, 0 bytes, 0 s behind\n");
        let mut got = service.until("RELOADING=1");
        let reloading = got.pop().unwrap();
        assert!(reloading.contains("\nMONOTONIC_USEC="), "{reloading}");
        assert!(!got.is_empty() && got.iter().all(|fed| fed.starts_with("WATCHDOG=1\nSTATUS=starting")), "{got:?}");
        service.until("READY=1");
        service.until("STOPPING=1\nSTATUS=draining\n");
    }

    #[test]
    fn the_watchdog_starves_when_a_loop_hangs() {
        let service = Service::start(Some(Duration::from_millis(200)), true);
        assert!(service.next().starts_with("READY=1"));
        for _ in 0..3 {
            let told = service.next();
            assert!(told.starts_with("STATUS=not live: pump: last turn 3"), "{told}");
        }
    }

    #[test]
    fn without_a_watchdog_none_is_fed() {
        let service = Service::start(None, false);
        let got = service.until("STOPPING=1");
        assert!(got.iter().all(|state| !state.contains("WATCHDOG")), "{got:?}");
    }

    #[test]
    fn without_systemd_nothing_happens() {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            ready(Arc::new(Observe::new())).unwrap();
            reloading();
            reloaded();
            stopping();
        }
    }
}
