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
use crate::world::Witness::*;
use crate::world::{Budget, Deletes, Setting, Witness};

/// Searches all of a world: every promise holds, and what was wanted did happen.
fn holds(name: &str, setting: Setting, wanted: &[Witness]) {
    let started = std::time::Instant::now();
    let report = explore(&setting, Mutation::None).unwrap_or_else(|counterexample| panic!("{name}: {counterexample}"));
    println!("{name}: {} states, {} steps, {:?}", report.states, report.steps, started.elapsed());
    let missing: Vec<_> = wanted.iter().filter(|witness| !report.seen.contains(witness)).collect();
    assert!(missing.is_empty(), "{name}: never happened: {missing:?}");
}

/// Searches with a broken rule: some promise must be found broken, this one first.
fn finds(mutation: Mutation, setting: Setting, promise: &str) {
    match explore(&setting, mutation) {
        Ok(report) => panic!("{mutation:?} breaks nothing in {} states", report.states),
        Err(counterexample) => {
            println!("{mutation:?}: {} after {:?}", counterexample.broken, counterexample.actions);
            assert!(counterexample.broken.contains(promise), "{mutation:?}: {counterexample}");
        }
    }
}

fn budget(writes: u8, switches: u8) -> Budget {
    Budget { writes, switches, ..Budget::default() }
}

#[test]
fn the_agent_crashes_beside_a_running_server() {
    let budget = Budget { crashes: 1, rewinds: 1, ..budget(2, 1) };
    holds(
        "agent crashes, step by step",
        Setting { fine: true, budget, ..Setting::default() },
        &[
            EmptyIndexSeen,
            ReadToDurable,
            ReadChain,
            ReadEnded,
            EndedWithoutCompleted,
            AcknowledgedOutOfOrder,
            Rewound,
            CrashBetweenUnlinks,
            CrashWithTornNewest,
            NothingWhole,
            Reaped,
            DroppedByServer,
            ReadFromSpool,
        ],
    );
    let budget = Budget { crashes: 2, ..budget };
    holds(
        "agent crashes twice",
        Setting { budget, ..Setting::default() },
        &[AcknowledgedOutOfOrder, Rewound, CrashBetweenUnlinks, CrashWithTornNewest, Reaped],
    );
}

#[test]
fn the_server_is_killed() {
    let setting = Setting { budget: Budget { kills: 1, ..budget(2, 1) }, ..Setting::default() };
    holds(
        "server killed",
        setting,
        &[
            ReadChain,
            EndedWithoutCompleted,
            Resurrected,
            RevivedFromTombstone,
            PhantomReaped,
            UnsyncedLost,
            UnsyncedSurvived,
            OrphanExplained,
            LinkDroppedByReplay,
        ],
    );
    let setting = Setting { fine: true, budget: Budget { kills: 1, ..budget(1, 1) }, ..Setting::default() };
    holds(
        "server killed, step by step",
        setting,
        &[EmptyIndexSeen, Resurrected, RevivedFromTombstone, UnsyncedSurvived, OrphanExplained, LinkDroppedByReplay],
    );
    let setting = Setting { budget: Budget { kills: 2, ..budget(1, 0) }, ..Setting::default() };
    holds("server killed twice", setting, &[ServerKilledWhileReplaying, Resurrected, RevivedFromTombstone]);
}

#[test]
fn both_are_killed() {
    let setting = Setting { budget: Budget { kills: 1, crashes: 1, ..budget(1, 1) }, ..Setting::default() };
    holds(
        "both killed",
        setting,
        &[
            CrashBetweenUnlinks,
            CrashWithTornNewest,
            Resurrected,
            RevivedFromTombstone,
            UnsyncedSurvived,
            OrphanExplained,
        ],
    );
}

#[test]
fn the_server_stops() {
    let setting = Setting { budget: Budget { stops: 1, crashes: 1, ..budget(1, 0) }, ..Setting::default() };
    holds(
        "server stops",
        setting,
        &[PhantomLeft, PhantomReaped, CrashBetweenUnlinks, CrashWithTornNewest, EndedWithoutCompleted],
    );
    let setting = Setting { ids_fall_back: true, budget: Budget { stops: 1, ..budget(2, 1) }, ..Setting::default() };
    holds("server stops, ids fall back", setting, &[IdsFellBack, PhantomLeft, PhantomReaped]);
}

#[test]
fn others_delete() {
    let setting = Setting { budget: Budget { deletions: 1, crashes: 1, ..budget(1, 1) }, ..Setting::default() };
    holds(
        "others delete",
        setting,
        &[DeletedByOther, DeletedWhileAgentDown, ReadFromSpool, FoundInCommitlog, GapRecorded, CrashWithTornNewest],
    );
    let setting = Setting { fine: true, budget: Budget { deletions: 1, ..budget(2, 1) }, ..Setting::default() };
    holds(
        "others delete, step by step",
        setting,
        &[DeletedByOther, ReadFromSpool, FoundInCommitlog, GapRecorded, EmptyIndexSeen],
    );
    let setting = Setting { budget: Budget { deletions: 1, kills: 1, ..budget(1, 1) }, ..Setting::default() };
    holds(
        "others delete, server killed",
        setting,
        &[DeletedByOther, ReadFromSpool, Resurrected, UnsyncedSurvived, GapRecorded],
    );
}

#[test]
fn others_delete_without_a_spool() {
    let setting = Setting {
        spool: false,
        commitlog: false,
        deletes: Deletes::Ended,
        budget: Budget { deletions: 1, crashes: 1, ..budget(2, 1) },
        ..Setting::default()
    };
    holds("others delete, no spool", setting, &[DeletedByOther, DeletedWhileAgentDown, GapRecorded, OrphanExplained]);
}

#[test]
fn a_link_comes_late() {
    let setting = Setting { late_link: true, budget: budget(3, 1), ..Setting::default() };
    holds("late link", setting, &[LinkedLate, ReadToDurable, AcknowledgedOutOfOrder]);
}

#[test]
fn cdc_is_turned_off() {
    let setting = Setting { toggles: true, budget: Budget { kills: 1, ..budget(1, 1) }, ..Setting::default() };
    holds("cdc turned off", setting, &[LinkDroppedByReplay, ReadFromSpool, EndedWithoutCompleted]);
}

#[test]
fn reading_runs_ahead_of_the_index() {
    for read_to in [ReadTo::Marked, ReadTo::Written] {
        let setting = Setting { read_to, budget: budget(2, 1), ..Setting::default() };
        holds("ahead", setting, &[ReadVisible, ReadChain]);
        let setting = Setting { budget: Budget { kills: 1, ..budget(1, 1) }, ..setting };
        let behind: &[Witness] = if read_to == ReadTo::Written { &[ReadBehindTheMarker] } else { &[] };
        holds("ahead, server killed", setting, &[&[ReadVisible, UnsyncedLost, UnsyncedSurvived], behind].concat());
    }
}

#[test]
fn segments_of_3_11_come_when_they_have_ended() {
    let setting = Setting {
        version: FormatVersion::V6,
        budget: Budget { kills: 1, crashes: 1, ..budget(1, 1) },
        ..Setting::default()
    };
    holds("3.11", setting, &[Moved, ReadEnded, CrashBetweenUnlinks, CrashWithTornNewest, UnsyncedSurvived]);
}

#[test]
fn broken_rules_are_found() {
    let plain = |budget| Setting { budget, ..Setting::default() };
    let crashes = Budget { crashes: 1, ..budget(1, 1) };
    finds(Mutation::OneSaveIsEnough, plain(crashes), "a crash would forget");
    finds(Mutation::NoIndexIsEnded, plain(budget(1, 0)), "its server can add to it");
    finds(Mutation::GrowingIsEnded, plain(budget(2, 0)), "its server can add to it");
    let step_by_step = Setting { fine: true, read_to: ReadTo::Marked, budget: budget(3, 1), ..Setting::default() };
    finds(Mutation::GrowingIsPassed, step_by_step, "first published behind a later one");
    finds(Mutation::LastAcknowledgementWins, plain(budget(2, 1)), "a change in it is not published");
    finds(Mutation::TombstonesForgotten, plain(Budget { kills: 1, ..budget(1, 1) }), "published again");
    let fallen = Setting { ids_fall_back: true, budget: Budget { stops: 1, ..budget(2, 1) }, ..Setting::default() };
    finds(Mutation::OrderedByIds, fallen, "is finished and stays");
    let deletes = Budget { deletions: 1, ..budget(1, 1) };
    let told = Setting { commitlog: false, ..plain(deletes) };
    finds(Mutation::SpoolForgotten, plain(deletes), "neither published nor recorded");
    finds(Mutation::SpoolFollowsRaw, told, "the spool had it");
    finds(Mutation::LetGoIsFinished, plain(budget(1, 1)), "a change in it is not published");
    let looks = Setting { fine: true, ..plain(Budget { kills: 1, ..budget(2, 1) }) };
    finds(Mutation::CameBackGoesBehind, looks, "came back and stays");
    finds(Mutation::NewBeforeKnown, fallen, "first published behind a later one");
    finds(Mutation::RewoundStays, plain(Budget { rewinds: 1, ..budget(2, 1) }), "is finished and stays");
}
