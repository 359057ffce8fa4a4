//! The life cycle of a segment, searched: every order of steps of a small server, an agent, and whoever else deletes,
//! with both processes killed at any step.
//!
//! Owns: which small worlds are searched, what must have happened in them, and the broken rules that the search must
//! find. Does not own: the rules themselves (`cassandra_cdc::lifecycle`, `cassandra_progress`), real files (`tests/crash`).

#![allow(unreachable_pub, reason = "modules of one test")]

mod agent;
mod search;
mod server;
mod world;

use cassandra_cdc::lifecycle::ReadTo;
use cassandra_commitlog::FormatVersion;

use crate::agent::Mutation;
use crate::search::explore;
use crate::world::{Budget, Setting, Witness};

fn holds(name: &str, setting: Setting, wanted: &[Witness]) {
    let started = std::time::Instant::now();
    match explore(&setting, Mutation::None) {
        Ok(report) => {
            println!("{name}: {} states, {} steps, {:?}", report.states, report.steps, started.elapsed());
            let missing: Vec<_> = wanted.iter().filter(|witness| !report.seen.contains(witness)).collect();
            assert!(missing.is_empty(), "never happened: {missing:?}; did: {:?}", report.seen);
        }
        Err(counterexample) => panic!("{name}: {counterexample}"),
    }
}

fn budget(writes: u8, switches: u8) -> Budget {
    Budget { writes, switches, ..Budget::default() }
}

#[test]
fn the_agent_crashes_beside_a_running_server() {
    let setting =
        Setting { fine: true, budget: Budget { crashes: 1, rewinds: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("agent crashes", setting, &[]);
    let setting = Setting { budget: Budget { crashes: 2, rewinds: 1, ..budget(3, 1) }, ..Setting::default() };
    holds("agent crashes twice", setting, &[]);
}

#[test]
fn the_server_is_killed() {
    let setting = Setting { budget: Budget { kills: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("server killed", setting, &[]);
    let setting = Setting { fine: true, budget: Budget { kills: 1, ..budget(1, 1) }, ..Setting::default() };
    holds("server killed, fine", setting, &[]);
    let setting = Setting { budget: Budget { kills: 2, ..budget(1, 1) }, ..Setting::default() };
    holds("server killed twice", setting, &[]);
}

#[test]
fn both_are_killed() {
    let setting = Setting { budget: Budget { kills: 1, crashes: 1, ..budget(1, 1) }, ..Setting::default() };
    holds("both killed", setting, &[]);
}

#[test]
fn the_server_stops() {
    let setting = Setting { budget: Budget { stops: 1, crashes: 1, ..budget(1, 1) }, ..Setting::default() };
    holds("server stops", setting, &[]);
    let setting = Setting { ids_fall_back: true, budget: Budget { stops: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("server stops, ids fall back", setting, &[]);
}

#[test]
fn others_delete() {
    let setting = Setting { budget: Budget { deletions: 1, crashes: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("others delete", setting, &[]);
    let setting = Setting { fine: true, budget: Budget { deletions: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("others delete, fine", setting, &[]);
    let setting =
        Setting { spool: false, budget: Budget { deletions: 1, crashes: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("others delete, no spool", setting, &[]);
}

#[test]
fn odd_ones() {
    let setting = Setting { late_link: true, budget: budget(2, 2), ..Setting::default() };
    holds("late link", setting, &[]);
    let setting = Setting { toggles: true, budget: Budget { kills: 1, ..budget(1, 1) }, ..Setting::default() };
    holds("toggles", setting, &[]);
    for read_to in [ReadTo::Marked, ReadTo::Written] {
        let setting = Setting { read_to, budget: Budget { kills: 1, ..budget(2, 1) }, ..Setting::default() };
        holds("early", setting, &[]);
    }
    let setting = Setting {
        version: FormatVersion::V6,
        budget: Budget { kills: 1, crashes: 1, ..budget(2, 1) },
        ..Setting::default()
    };
    holds("3.11", setting, &[]);
}
