//! The state directory, who holds it, and where health is served.
//!
//! Owns: its mode, lock and room, whose state it is, and whether the holder is an agent that answers. Does not own: what
//! is in it (`checkpoint`).

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use indicatif::HumanBytes;
use rustix::fs::Access;

use super::Report;
use crate::checkpoint::Glance;
use crate::config::Config;

const STATE: &str = "state";
const LISTEN: &str = "http.listen";

/// For an agent on this machine to answer.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A checkpoint and a gap record need little, but the agent ends when it can't save them.
const LEAST_ROOM: u64 = 64 << 20;
/// The quarantine alone may take half of it.
const LITTLE_ROOM: u64 = 512 << 20;

/// Says whether an agent holds the directory.
pub(super) fn look(config: &Config, report: &mut Report) -> bool {
    let directory = &config.state.directory;
    let before = report.0.len();
    let usable = is_usable(directory, report);
    if directory.is_dir() {
        room(directory, report);
    }
    if !usable {
        return false;
    }
    let shown = directory.display();
    match Glance::at(directory) {
        Err(error) => {
            let found = format!("{:#}", anyhow::Error::from(error));
            report.fail(STATE, found, "run as the user who runs the agent");
            false
        }
        Ok(Glance { held: false, .. }) => {
            if report.0.len() == before {
                report.ok(STATE, format!("{shown}, held by nobody"));
            }
            false
        }
        Ok(_) => {
            holder(config, report);
            true
        }
    }
}

/// Whether the agent can have it at all.
fn is_usable(directory: &Path, report: &mut Report) -> bool {
    let shown = directory.display();
    let (found, fix) = match fs::metadata(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = format!(
                "make it for the user who runs the agent: install -d -m 0700 -o USER {shown} (the \
                               service's unit does that by itself)"
            );
            report.warn(STATE, format!("{shown} does not exist yet"), fix);
            return false;
        }
        Err(error) => (format!("{shown}: {error}"), "run as the user who runs the agent".to_owned()),
        Ok(metadata) if !metadata.is_dir() => {
            (format!("{shown} is no directory"), "set state.directory to a directory of the agent's own".to_owned())
        }
        Ok(metadata) => match rustix::fs::access(directory, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
            Err(error) => {
                let fix = format!("give it to the user who runs the agent: chown -R USER {shown}; chmod 0700 {shown}");
                (format!("{shown} can't be used: {}", io::Error::from(error)), fix)
            }
            Ok(()) if metadata.permissions().mode() & 0o077 != 0 => {
                let mode = metadata.permissions().mode() & 0o777;
                let found = format!("{shown} has mode {mode:04o}: the agent refuses what others can look into");
                (found, format!("chmod 0700 {shown}: quarantined entries are your data"))
            }
            Ok(()) => return true,
        },
    };
    report.fail(STATE, found, fix);
    false
}

fn room(directory: &Path, report: &mut Report) {
    let Ok(stat) = rustix::fs::statvfs(directory) else { return };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let found = format!("{}: {} free", directory.display(), HumanBytes(free));
    let fix = "free space on that disk, or set state.directory to another one";
    if free < LEAST_ROOM {
        report.fail(STATE, format!("{found}: the agent ends when it can't save what is done"), fix);
    } else if free < LITTLE_ROOM {
        report.warn(STATE, format!("{found}: quarantine and gap records may need {}", HumanBytes(LITTLE_ROOM)), fix);
    }
}

/// An agent has the directory: this configuration's, or a second one.
fn holder(config: &Config, report: &mut Report) {
    let shown = config.state.directory.display();
    match config.http.map(alive) {
        Some(Ok(())) => report.ok(STATE, format!("{shown}, held by a running agent that answers")),
        Some(Err(error)) => {
            let found =
                format!("{shown} is held by another agent, or by one that hangs: {LISTEN} does not answer ({error})");
            let fix = "look for a second agent with `fuser -v` on that directory, and stop it; ask this one with \
                       `cassandra-cdc status`";
            report.warn(STATE, found, fix);
        }
        None => report.ok(STATE, format!("{shown}, held by a running agent ({LISTEN} is off)")),
    }
}

/// Whether the agent that is not running yet will get the address. `held`: it runs, and has it.
pub(super) fn listen(config: &Config, held: bool, report: &mut Report) {
    let Some(address) = config.http.filter(|_| !held) else { return };
    match TcpListener::bind(address) {
        Ok(_) => report.ok(LISTEN, format!("{address} is free")),
        Err(error) => {
            let fix = "set http.listen to an address of this machine and a port that nobody uses, or to off";
            report.fail(LISTEN, format!("{address}: {error}"), fix);
        }
    }
}

/// Whether the state is this node's. `node`: its cluster and host id, where they are known.
pub(super) fn owner(config: &Config, node: Option<(String, String)>, report: &mut Report) {
    let Ok(glance) = Glance::at(&config.state.directory) else { return };
    let shown = config.state.directory.display();
    for (generation, error) in glance.generations.iter().filter_map(|(at, found)| Some((at, found.as_ref().err()?))) {
        let found = format!("{shown}: checkpoint {generation:?} is damaged: {error}");
        if glance.newest().is_some() {
            report.warn(STATE, found, "look for what the disk says; the other generation counts, and is saved anew");
        } else {
            let fix = "run `cassandra-cdc state reset`: everything present is published again, with the same ids";
            report.fail(STATE, found, fix);
        }
    }
    let (Some(kept), Some((cluster, host))) = (glance.newest().map(|checkpoint| &checkpoint.node), node) else {
        return;
    };
    if kept.cluster != cluster || kept.host != host {
        let found = format!(
            "{shown} is of host {} of cluster {:?}, and this is host {host} of cluster {cluster:?}",
            kept.host, kept.cluster
        );
        let fix = "run `cassandra-cdc state adopt` if it is the same node under another name; else set state.directory \
                   to one of this node's own";
        report.fail(STATE, found, fix);
    } else if kept.agent != config.state.agent {
        let found = format!("{shown} is of agent {:?}, and state.agent is {:?}", kept.agent, config.state.agent);
        report.fail(STATE, found, "set state.agent back, or state.directory to one of this agent's own");
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
    use super::*;

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
