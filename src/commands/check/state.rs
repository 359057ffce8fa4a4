//! The state directory, and who holds it.
//!
//! Owns: its mode, its lock, and whether the holder is an agent that answers. Does not own: what is in it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::fs::{Access, FlockOperation};
use rustix::io::Errno;

use super::Report;
use crate::config::Config;

const STATE: &str = "state";

/// For an agent on this machine to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

pub(super) fn look(config: &Config, report: &mut Report) {
    let directory = &config.state.directory;
    let shown = directory.display();
    let metadata = match fs::metadata(directory) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => return report.fail(STATE, format!("{shown} is no directory"), "set state.directory"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "the service's unit makes it, or: install -d -m 0700 -o USER, for the user who runs the agent";
            return report.warn(STATE, format!("{shown} does not exist yet"), fix);
        }
        Err(error) => return report.fail(STATE, format!("{shown}: {error}"), "run as the user who runs the agent"),
    };
    let mode = metadata.permissions().mode() & 0o777;
    if let Err(error) = rustix::fs::access(directory, Access::WRITE_OK | Access::EXEC_OK) {
        let found = format!("{shown} can't be written: {}", io::Error::from(error));
        return report.fail(STATE, found, "give it to the user who runs the agent");
    }
    if mode & 0o077 != 0 {
        let fix = format!("chmod 0700 {shown}: quarantined entries are your data");
        return report.fail(
            STATE,
            format!("{shown} has mode {mode:04o}: the agent refuses what others can look into"),
            fix,
        );
    }
    match is_locked(directory) {
        Err(error) => report.fail(STATE, format!("{shown}: {error}"), "run as the user who runs the agent"),
        Ok(false) => report.ok(STATE, format!("{shown}, held by nobody")),
        Ok(true) => match config.http.map(alive) {
            Some(Ok(())) => report.ok(STATE, format!("{shown}, held by a running agent that answers")),
            Some(Err(error)) => {
                let fix = "look at the agent's log; `cassandra-cdc status` asks it";
                report.warn(
                    STATE,
                    format!("{shown} is held, and /livez of http.listen does not answer well: {error}"),
                    fix,
                );
            }
            None => report.ok(STATE, format!("{shown}, held by a running agent (http.listen is off)")),
        },
    }
}

/// Whether somebody holds the lock; if nobody does it is ours for less than a moment.
fn is_locked(directory: &std::path::Path) -> io::Result<bool> {
    let directory = File::open(directory)?;
    match rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(false),
        Err(Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

/// Asks an agent whether its loops turn.
fn alive(address: SocketAddr) -> io::Result<()> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(4096).read_to_end(&mut answer)?;
    let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
    if line.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(io::Error::other(line)) }
}
