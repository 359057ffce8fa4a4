//! The spool: whether segments can be linked there, who has it, and whether there is room.
//!
//! Owns: the question and its answer. Does not own: the link that is tried, or the rules (`crate::spool`).

use std::fs::File;
use std::io;

use indicatif::HumanBytes;
use rustix::fs::{Access, FlockOperation};
use rustix::io::Errno;

use super::Report;
use crate::config::Config;
use crate::spool::{Room, Spool, SpoolError};

const SPACE: &str = "free space";
const SPOOL: &str = "spool";

/// `held`: whether an agent has the state directory, so that the spool is probably its.
pub(super) fn look(config: &Config, held: bool, report: &mut Report) {
    if !config.spool.enabled {
        let found = "off: a segment that somebody else deletes before it is published is lost, with a gap record";
        return report.ok(SPOOL, found);
    }
    // Without cdc_raw, of which that is told already, nothing can be said of either.
    if config.cassandra.cdc_raw.is_dir() {
        free_space(config, report);
        link(config, held, report);
    }
}

fn free_space(config: &Config, report: &mut Report) {
    let stat = match rustix::fs::statvfs(&config.cassandra.cdc_raw) {
        Ok(stat) => stat,
        Err(error) => return report.warn(SPACE, io::Error::from(error).to_string(), "look at the mount of cdc_raw"),
    };
    let Room { free, floor } = Room::of(&stat, config.spool.min_free);
    let found = format!("{} free, and the spool leaves {} free", HumanBytes(free), HumanBytes(floor));
    if free < floor {
        let fix = "free space, or lower spool.min_free: below it the spool keeps nothing";
        report.fail(SPACE, found, fix);
    } else {
        report.ok(SPACE, found);
    }
}

/// Whether segments can be linked into the spool, tried as the agent would.
fn link(config: &Config, held: bool, report: &mut Report) {
    let directory = &config.spool.directory;
    let shown = directory.display();
    // The agent makes it; what can be said before is where it would be.
    let there = directory.exists();
    let place = if there { Some(directory.as_path()) } else { directory.parent().filter(|parent| parent.is_dir()) };
    let Some(place) = place else {
        let fix = "set spool.directory to a sibling of cdc_raw";
        return report.fail(SPOOL, format!("{shown}: the directory above it does not exist"), fix);
    };
    if let Err(error) = rustix::fs::access(place, Access::WRITE_OK | Access::EXEC_OK) {
        let found = format!("{} can't be written: {}", place.display(), io::Error::from(error));
        let fix =
            format!("make {shown} and give it to the user who runs the agent: install -d -m 0700 -o USER {shown}");
        return report.fail(SPOOL, found, fix);
    }
    if !held && there && is_locked(directory) {
        let found = format!("{shown} is held by another agent, one with another state directory");
        return report.fail(SPOOL, found, "stop that agent, or set spool.directory to one of this agent's own");
    }
    let missing = if there { "" } else { " (it is not there yet: the agent makes it)" };
    match Spool::probe(directory, &config.cassandra.cdc_raw) {
        Ok(Some(_)) => report.ok(SPOOL, format!("{shown}: segments can be linked there{missing}")),
        Ok(None) => report.ok(SPOOL, format!("{shown}: there is no segment yet to try a link with{missing}")),
        Err(error) => report.fail(SPOOL, error.to_string(), fix_of(&error)),
    }
}

/// Whether somebody holds the spool's lock; if nobody does it is ours for less than a moment.
fn is_locked(directory: &std::path::Path) -> bool {
    let Ok(directory) = File::open(directory) else { return false };
    rustix::fs::flock(&directory, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
}

fn fix_of(error: &SpoolError) -> &'static str {
    match error {
        SpoolError::Inside { .. } => "set spool.directory to a sibling of cdc_raw",
        SpoolError::OtherMount(_) => "set spool.directory to a sibling of cdc_raw, below one mount with it",
        SpoolError::ProtectedHardlinks { .. } => {
            "run the agent as the owner of segments, the user that Cassandra runs as"
        }
        _ => "run the agent as the owner of segments, and give that user the spool's directory",
    }
}
