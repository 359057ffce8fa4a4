//! Named places where a test makes the process die, or the disk fail.
//!
//! Owns: the names that `CASSANDRA_CDC_FAULT` may give, in debug builds; in release builds every place is empty.
//! Does not own: what follows from a fault.
//!
//! `CASSANDRA_CDC_FAULT=checkpoint.rename=kill:3` kills the process, as SIGKILL does, when it comes by that place for the
//! third time; `=ENOSPC:1` and `=EIO:1` make the place fail from its first time on.

use std::io;

/// Comes by a place.
///
/// # Errors
/// The fault that a test asked for here.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn point(_place: &'static str) -> io::Result<()> {
    Ok(())
}

/// Comes by a place.
///
/// # Errors
/// The fault that a test asked for here.
#[cfg(debug_assertions)]
pub fn point(place: &'static str) -> io::Result<()> {
    come_by(|name| name == place)
}

/// Comes by `<what>.<step>`: a step that several things go through.
///
/// # Errors
/// The fault that a test asked for here.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn step(_what: &'static str, _step: &'static str) -> io::Result<()> {
    Ok(())
}

/// Comes by `<what>.<step>`: a step that several things go through.
///
/// # Errors
/// The fault that a test asked for here.
#[cfg(debug_assertions)]
pub fn step(what: &'static str, step: &'static str) -> io::Result<()> {
    come_by(|name| name.rsplit_once('.') == Some((what, step)))
}

#[cfg(debug_assertions)]
fn come_by(is_here: impl Fn(&str) -> bool) -> io::Result<()> {
    use rustix::io::Errno;
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};
    static FAULT: OnceLock<Option<(String, String, u32)>> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let fault = FAULT.get_or_init(|| {
        let text = std::env::var("CASSANDRA_CDC_FAULT").ok()?;
        let (place, what) = text.split_once('=')?;
        let (what, nth) = what.split_once(':').unwrap_or((what, "1"));
        Some((place.to_owned(), what.to_owned(), nth.parse().ok()?))
    });
    let Some((_, what, nth)) = fault.as_ref().filter(|(name, ..)| is_here(name)) else { return Ok(()) };
    if TIMES.fetch_add(1, Ordering::Relaxed) + 1 < *nth {
        return Ok(());
    }
    match what.as_str() {
        "kill" => {
            // What SIGKILL leaves behind: no handler, no buffer flushed, no destructor.
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            loop {
                std::thread::park();
            }
        }
        "ENOSPC" => Err(Errno::NOSPC.into()),
        "EIO" => Err(Errno::IO.into()),
        _ => Ok(()),
    }
}
