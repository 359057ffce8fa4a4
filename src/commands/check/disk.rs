//! `cdc_raw`, and the file systems below it and the state.
//!
//! Owns: whether segments can be read and deleted by who runs this, and how much room is left. Does not own: doing so,
//! or the spool (`spool`).

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cassandra_commitlog::SegmentName;
use indicatif::HumanBytes;
use rustix::fs::Access;

use super::Report;
use crate::config::{Config, Node};
use crate::folder::{self, FileSystem};

const RAW: &str = "cdc_raw";
const FILL: &str = "cdc_raw fill";
const FILE_SYSTEM: &str = "file system";

/// In percent of cdc_total_space: from here on it is a matter of time.
const NEARLY_FULL: u64 = 75;

pub(super) fn look(config: &Config, report: &mut Report) {
    let raw = &config.cassandra.cdc_raw;
    let metadata = match fs::metadata(raw) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            let fix = "set cassandra.cdc_raw to cdc_raw_directory of cassandra.yaml";
            return report.fail(RAW, format!("{} is no directory", raw.display()), fix);
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let fix = "set cassandra.cdc_raw to cdc_raw_directory of cassandra.yaml; Cassandra makes it when it starts \
                       with cdc_enabled: true";
            return report.fail(RAW, format!("{}: {error}", raw.display()), fix);
        }
        Err(error) => {
            let fix = "run as the user that Cassandra runs as, or let this user into the directories above it";
            return report.fail(RAW, format!("{}: {error}", raw.display()), fix);
        }
    };
    contents(raw, &metadata, report);
    fill(raw, &config.cassandra.node, report);
    file_system("cassandra.cdc_raw", raw, report);
    file_system("state.directory", &config.state.directory, report);
}

/// The segments in `cdc_raw`.
pub(super) fn segments(raw: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(raw)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| SegmentName::parse(name).is_ok()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// Whether all in `cdc_raw` can be read and deleted.
fn contents(raw: &Path, metadata: &Metadata, report: &mut Report) {
    let us = rustix::process::geteuid().as_raw();
    let (who, owner) = (user(us), user(metadata.uid()));
    let paths = match segments(raw) {
        Ok(paths) => paths,
        Err(error) => {
            let fix = format!("run the agent, and this check, as {owner}, the directory's owner");
            return report.fail(RAW, format!("{who} can't read {}: {error}", raw.display()), fix);
        }
    };
    let before = report.0.len();
    if let Err(error) = rustix::fs::access(raw, Access::WRITE_OK | Access::EXEC_OK) {
        let found = format!("{who} can't delete from {}: {}", raw.display(), io::Error::from(error));
        let fix = if us == metadata.uid() {
            format!("chmod u+rwx {}", raw.display())
        } else {
            format!("run the agent, and this check, as {owner}, or give its group write access to the directory")
        };
        report.fail(RAW, found, fix);
    }
    if let Some((found, fix)) = paths.iter().find_map(|path| of_segment(path, metadata)) {
        report.fail(RAW, found, fix);
    } else if let Some(other) = paths.iter().find_map(|path| owner_of(path).filter(|other| *other != us)) {
        let found = format!("segments belong to {}, and this runs as {who}", user(other));
        report.warn(RAW, found, format!("run the agent, and this check, as {}, who runs Cassandra", user(other)));
    } else if metadata.uid() != us {
        let found = format!("it belongs to {owner}, and this runs as {who}");
        report.warn(RAW, found, format!("run the agent, and this check, as {owner}"));
    }
    if report.0.len() == before {
        report.ok(RAW, format!("{}, {} segments", raw.display(), paths.len()));
    }
}

fn owner_of(path: &Path) -> Option<u32> {
    fs::symlink_metadata(path).ok().map(|metadata| metadata.uid())
}

/// What is wrong with a segment, if anything is, and what to do.
fn of_segment(path: &Path, folder: &Metadata) -> Option<(String, String)> {
    // Cassandra may drop one at any time.
    let owner = owner_of(path)?;
    let us = rustix::process::geteuid().as_raw();
    if let Err(error) = File::open(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        let found = format!("{} can't read {}: {error}", user(us), path.display());
        return Some((found, format!("run the agent, and this check, as {}, the owner of segments", user(owner))));
    }
    let sticky = folder.permissions().mode() & 0o1000 != 0;
    if sticky && us != 0 && us != owner && us != folder.uid() {
        let found = format!("the directory is sticky: only {} may delete its segments", user(owner));
        return Some((found, format!("run the agent as {}, or chmod -t the directory", user(owner))));
    }
    None
}

/// How near `cdc_raw` is to the limit at which Cassandra rejects writes, or deletes segments.
fn fill(raw: &Path, node: &Node, report: &mut Report) {
    let Some(limit) = folder::volume_bytes(raw).and_then(|volume| node.cdc_limit(volume)).filter(|limit| *limit > 0)
    else {
        return;
    };
    // What can't be read is told of already.
    let Ok(directory) = folder::open_directory(raw) else { return };
    let used = folder::bytes_below(directory.as_fd(), c".");
    let found = format!("{} of the {} that Cassandra allows", HumanBytes(used), HumanBytes(limit));
    let percent = used.saturating_mul(100).checked_div(limit).unwrap_or_default();
    let fix = "start the agent, which deletes what it has published; if it runs, `cassandra-cdc status` says what it \
               waits for; or raise cdc_total_space";
    let then = if node.cdc_block_writes == Some(false) {
        "deletes the oldest segments, published or not"
    } else {
        "rejects writes to tables with cdc"
    };
    // Cassandra stops where the next segment would not fit whole.
    if used.saturating_add(node.segment_size()) > limit {
        report.fail(FILL, format!("{found}: Cassandra {then}"), fix);
    } else if percent >= NEARLY_FULL {
        report.warn(FILL, format!("{found}: when it is full Cassandra {then}"), fix);
    } else {
        report.ok(FILL, found);
    }
}

fn file_system(key: &str, path: &Path, report: &mut Report) {
    let shown = path.display();
    let Some(found) = FileSystem::of_nearest(path) else {
        let fix = format!("set {key} to a directory on ext4 or xfs");
        return report.warn(FILE_SYSTEM, format!("{shown}: its type can't be told"), fix);
    };
    let name = found.name().map_or_else(|| format!("type {:#x}", found.magic()), ToOwned::to_owned);
    if found.proven().is_some() {
        report.ok(FILE_SYSTEM, format!("{shown}: {name}"));
    } else if found.is_network() {
        let fix =
            format!("put {key} on a local disk with ext4 or xfs: locks, links and mappings may fail over a network");
        report.warn(FILE_SYSTEM, format!("{shown} is on a network, by {name}"), fix);
    } else if found.is_volatile() {
        let fix = format!("put {key} on a disk with ext4 or xfs: what is there now goes with the next boot");
        report.warn(FILE_SYSTEM, format!("{shown} is in memory ({name})"), fix);
    } else {
        let fix = format!("put {key} on ext4 or xfs: links, their counts and renames are proven there");
        report.warn(FILE_SYSTEM, format!("{shown} is on {name}, neither ext4 nor xfs"), fix);
    }
}

/// A user's name where it is known, else the number.
pub(super) fn user(id: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let is_this = |line: &&str| line.split(':').nth(2) == Some(&id.to_string());
    let name = users.lines().find(is_this).and_then(|line| line.split(':').next());
    name.map_or_else(|| format!("user {id}"), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_have_names_where_they_are_known() {
        assert_eq!(user(0), "root");
        assert_eq!(user(4_000_000_000), "user 4000000000");
    }
}
