//! `cdc_raw`, the spool's directory, and the file system below both.
//!
//! Owns: whether segments can be read, deleted and linked by who runs this. Does not own: doing so.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cassandra_commitlog::SegmentName;
use rustix::fs::Access;

use super::Report;
use crate::config::Config;
use crate::folder::FileSystem;
use crate::spool::{Spool, SpoolError};

const RAW: &str = "cdc_raw";
const FILE_SYSTEM: &str = "file system";
const SPACE: &str = "free space";
const SPOOL: &str = "spool";

/// The least that the spool leaves free when nothing is configured.
const LEAST_FREE: u64 = 20 << 30;

pub(super) fn look(config: &Config, report: &mut Report) {
    let raw = &config.cassandra.cdc_raw;
    let metadata = match fs::metadata(raw) {
        Ok(metadata) if metadata.is_dir() => metadata,
        Ok(_) => {
            return report.fail(RAW, format!("{} is no directory", raw.display()), "set cassandra.cdc_raw");
        }
        Err(error) => {
            let fix = "Cassandra makes it when it starts with cdc_enabled: true; or set cassandra.cdc_raw";
            return report.fail(RAW, format!("{}: {error}", raw.display()), fix);
        }
    };
    contents(raw, &metadata, report);
    file_system(raw, report);
    if config.spool.enabled {
        free_space(config, report);
        spool(config, report);
    } else {
        let found = "off: a segment that somebody else deletes before it is published is lost, with a gap record";
        report.ok(SPOOL, found);
    }
}

/// The segments in `cdc_raw`.
fn segments(raw: &Path) -> io::Result<Vec<PathBuf>> {
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
    let who = user(rustix::process::geteuid().as_raw());
    let paths = match segments(raw) {
        Ok(paths) => paths,
        Err(error) => {
            let fix = format!("run as {}, the directory's owner", user(metadata.uid()));
            return report.fail(RAW, format!("{who} can't read {}: {error}", raw.display()), fix);
        }
    };
    let before = report.0.len();
    if let Err(error) = rustix::fs::access(raw, Access::WRITE_OK | Access::EXEC_OK) {
        let fix = format!("run as {}, or give that user's group write access to the directory", user(metadata.uid()));
        report.fail(RAW, format!("{who} can't delete from {}: {}", raw.display(), io::Error::from(error)), fix);
    }
    for path in &paths {
        if let Some((found, fix)) = of_segment(path, metadata) {
            report.fail(RAW, found, fix);
            break;
        }
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        let owner = user(metadata.uid());
        let fix = format!("run the agent, and this check, as {owner}");
        report.warn(RAW, format!("it belongs to {owner}, and this runs as {who}"), fix);
    }
    if report.0.len() == before {
        report.ok(RAW, format!("{}, {} segments", raw.display(), paths.len()));
    }
}

/// What is wrong with a segment, if anything is, and what to do.
fn of_segment(path: &Path, folder: &Metadata) -> Option<(String, String)> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        // Cassandra may drop one at any time.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => return Some((format!("{}: {error}", path.display()), "look at the directory's mode".to_owned())),
    };
    let (us, owner) = (rustix::process::geteuid().as_raw(), metadata.uid());
    let fix = format!("run as {}, the owner of segments", user(owner));
    if let Err(error) = File::open(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Some((format!("{} can't be read: {error}", path.display()), fix));
    }
    let sticky = folder.permissions().mode() & 0o1000 != 0;
    if sticky && us != 0 && us != owner && us != folder.uid() {
        return Some((format!("the directory is sticky: only {} may delete its segments", user(owner)), fix));
    }
    None
}

fn file_system(raw: &Path, report: &mut Report) {
    match FileSystem::of(raw).map(|found| (found.proven(), found.magic())) {
        Ok((Some(name), _)) => report.ok(FILE_SYSTEM, name),
        Ok((None, magic)) => report.warn(
            FILE_SYSTEM,
            format!("neither ext4 nor xfs, but type {magic:#x}"),
            "links, link counts and renames are proven on ext4 and xfs: put Cassandra's directories there",
        ),
        Err(_) => report.warn(FILE_SYSTEM, "its type can't be told", "put Cassandra's directories on ext4 or xfs"),
    }
}

fn free_space(config: &Config, report: &mut Report) {
    let stat = match rustix::fs::statvfs(&config.cassandra.cdc_raw) {
        Ok(stat) => stat,
        Err(error) => return report.warn(SPACE, io::Error::from(error).to_string(), "look at the mount"),
    };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let floor = config.spool.min_free.unwrap_or((stat.f_blocks.saturating_mul(stat.f_frsize) / 10).max(LEAST_FREE));
    let gib = |bytes: u64| bytes >> 30;
    let found = format!("{} GiB free, the spool leaves {} GiB", gib(free), gib(floor));
    if free < floor {
        let fix = "below the floor the spool keeps nothing: free space, or lower spool.min_free";
        report.fail(SPACE, found, fix);
    } else {
        report.ok(SPACE, found);
    }
}

/// Whether segments can be linked into the spool, tried as the agent would.
fn spool(config: &Config, report: &mut Report) {
    let directory = &config.spool.directory;
    let shown = directory.display();
    // The agent makes it; what can be said before is where it would be.
    let there = directory.exists();
    let place = if there { Some(directory.as_path()) } else { directory.parent().filter(|parent| parent.is_dir()) };
    let Some(place) = place else {
        return report.fail(SPOOL, format!("{shown}: the directory above it does not exist"), "set spool.directory");
    };
    if let Err(error) = rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
        let found = format!("{}: {}", place.display(), io::Error::from(error));
        return report.fail(SPOOL, found, format!("make {shown} writable for the user who runs the agent"));
    }
    let missing = if there { "" } else { " (it is not there yet: the agent makes it)" };
    match Spool::probe(directory, &config.cassandra.cdc_raw) {
        Ok(Some(_)) => report.ok(SPOOL, format!("{shown}: segments can be linked there{missing}")),
        Ok(None) => report.ok(SPOOL, format!("{shown}: there is no segment yet to try a link with{missing}")),
        Err(error) => report.fail(SPOOL, error.to_string(), fix_of(&error)),
    }
}

fn fix_of(error: &SpoolError) -> &'static str {
    match error {
        SpoolError::Inside { .. } => "set spool.directory to a sibling of cdc_raw",
        SpoolError::OtherMount(_) => "set spool.directory to a sibling of cdc_raw, below one mount with it",
        SpoolError::ProtectedHardlinks { .. } => "run as the owner of segments, which is who runs Cassandra",
        _ => "run as the owner of segments, and give it the spool's directory",
    }
}

/// A user's name where it is known, else the number.
fn user(id: u32) -> String {
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
