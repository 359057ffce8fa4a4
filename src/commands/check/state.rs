//! The state directory, and who holds it.
//!
//! Owns: its mode, its lock, and whether the holder is an agent that answers. Does not own: what is in it.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
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
    let mut line = String::new();
    BufReader::new(stream.take(4096)).read_line(&mut line)?;
    let line = line.trim_end();
    if line.split(' ').nth(1) == Some("200") { Ok(()) } else { Err(io::Error::other(line)) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use crate::checkpoint::StateDir;

    #[test]
    fn a_running_agent_is_told_by_its_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let held = StateDir::open(&path).unwrap();
        assert!(is_locked(&path).unwrap());
        drop(held);
        assert!(!is_locked(&path).unwrap());
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn an_agent_is_alive_when_it_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for status in ["200 OK", "503 Service Unavailable"] {
                let (mut stream, _) = listener.accept().unwrap();
                // All of it is read: what is left would reset the connection under the answer.
                let asked: Vec<String> =
                    BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                assert_eq!(asked[0], "GET /livez HTTP/1.1");
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).unwrap();
            }
        });
        assert!(alive(address).is_ok());
        assert!(alive(address).unwrap_err().to_string().contains("503"));
        server.join().unwrap();
        assert!(alive(address).is_err());
    }
}
