//! Kills at any moment, and at every named place.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::agent::{Agent, Place, was_killed};
use super::mutations::Kind;
use super::node::Options;
use super::rig::Rig;
use super::seed;

const KILLS: usize = 100;

/// The number of times that the event repeated most came.
fn most(rig: &Rig) -> usize {
    rig.broker.look(|got| {
        let mut counts = vec![0; rig.node.journal.len()];
        got.events.iter().for_each(|event| counts[event.number as usize] += 1);
        counts.into_iter().max().unwrap_or(0)
    })
}

#[test]
fn a_hundred_kills_lose_nothing() {
    let mut rig = Rig::new(Options::new(seed(100)));
    let mut published = BTreeSet::new();
    for kill in 0..KILLS {
        let mut agent = rig.place.agent();
        let life = 50 + rig.node.random.below(900);
        rig.node.work(Duration::from_millis(life));
        agent.must_run();
        agent.kill();
        published.insert(rig.broker.look(|got| got.numbers.len()));
        if kill % 20 == 19 {
            eprintln!("{} kills, {} of {} published", kill + 1, published.last().unwrap(), rig.node.journal.len());
        }
    }
    assert!(published.len() > KILLS / 10, "hardly any of them published anything: {}", published.len());
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    let repeated = rig.judge();
    rig.judge_no_gap();
    eprintln!(
        "{} events, {repeated} came again, one of them {} times",
        rig.broker.look(|got| got.events.len()),
        most(&rig)
    );
}

/// The node dies and stops too: replay links segments again, also such as the agent has deleted.
#[test]
fn node_and_agent_are_killed_in_turn() {
    let mut rig = Rig::new(Options::new(seed(101)));
    for round in 0..16 {
        let mut agent = rig.place.agent();
        let life = 100 + rig.node.random.below(900);
        rig.node.work(Duration::from_millis(life));
        match round % 4 {
            0 => rig.node.kill(),
            1 => rig.node.stop(),
            _ => {}
        }
        if rig.node.random.once_in(2) {
            agent.must_run();
            agent.kill();
            agent = rig.place.agent();
        }
        if round % 4 < 2 {
            std::thread::sleep(Duration::from_millis(100));
            rig.node.start();
            rig.node.work(Duration::from_millis(200));
        }
        agent.must_run();
        agent.kill();
    }
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    let repeated = rig.judge();
    rig.judge_no_gap();
    eprintln!("{repeated} events came again, one of them {} times", most(&rig));
}

/// Once the agent has had time to save what is acknowledged, a kill repeats nothing.
#[test]
fn a_kill_in_quiet_times_repeats_nothing() {
    let mut rig = Rig::new(Options::new(seed(102)));
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(1500));
    rig.settle(&mut agent);
    let written = |place: &Place| -> Vec<_> {
        place.checkpoints().iter().map(|path| path.metadata().unwrap().modified().unwrap()).collect()
    };
    // Quiet: no checkpoint is written any more, or only ones that say the same.
    let (mut last, mut since, start) = (written(&rig.place), Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_secs(3) && start.elapsed() < Duration::from_secs(10) {
        std::thread::sleep(Duration::from_millis(100));
        let now = written(&rig.place);
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
    let before = rig.broker.look(|got| got.events.len()) - rig.broker.look(|got| got.numbers.len());
    agent.kill();
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(500));
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), before);
    rig.judge_no_gap();
}

/// All source files of the agent, without their tests.
fn sources(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.ends_with("tests.rs") || path.ends_with("fault.rs") => Vec::new(),
            false if path.extension().is_none_or(|end| end != "rs") => Vec::new(),
            false => {
                let text = fs::read_to_string(&path).unwrap();
                vec![text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned()]
            }
        })
        .collect()
}

/// What stands behind `call` up to the end of its statement, wherever it is called.
fn calls<'t>(text: &'t str, call: &'t str) -> impl Iterator<Item = &'t str> {
    text.split(call).skip(1).map(|rest| rest.split(';').next().unwrap_or_default())
}

/// The text in the first quotes.
fn first_literal(statement: &str) -> Option<&str> {
    statement.split('"').nth(1)
}

/// The text in the last quotes.
fn last_literal(statement: &str) -> Option<&str> {
    statement.rsplit_once('"').and_then(|(before, _)| before.rsplit_once('"')).map(|(_, literal)| literal)
}

/// Places that `run` does not come by, or only its part: files of other commands, steps that a folder never takes.
/// `tests/durable.rs` dies at each of them.
const ELSEWHERE: [&str; 12] = [
    "resume.",
    "output.",
    "schema.",
    "checkpoint.set-aside",
    "checkpoint.move",
    "checkpoint.remove",
    "quarantine.move",
    "quarantine.remove",
    "gap.move",
    "gap.remove",
    "partitions.move",
    "partitions.remove",
];

/// The places that a running agent comes by.
pub fn places_of_run() -> BTreeSet<String> {
    places().into_iter().filter(|place| !ELSEWHERE.iter().any(|prefix| place.starts_with(prefix))).collect()
}

/// Every place that a fault can name, as the sources have them: single ones, and each step of each thing that is
/// written durably.
fn places() -> BTreeSet<String> {
    let sources = sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    let literals = |call: &str, which: fn(&str) -> Option<&str>| -> BTreeSet<String> {
        let statements = sources.iter().flat_map(|text| calls(text, call));
        statements.filter_map(which).map(str::to_owned).collect()
    };
    let mut found = literals("fault::point(", first_literal);
    let steps = literals("fault::step(", first_literal);
    for call in
        ["durable_file::replace(", "durable_file::create_new(", "NewFile::beside(", "NewFile::inside(", "Folder::open("]
    {
        let whats = literals(call, last_literal);
        found.extend(whats.iter().flat_map(|what| steps.iter().map(move |step| format!("{what}.{step}"))));
    }
    found
}

#[test]
fn places_are_found_in_the_sources() {
    let places = places();
    for known in [
        "reap.log",
        "reap.idx",
        "spool.link",
        "send.entry",
        "report.take",
        "checkpoint.rename",
        "gap.fsync",
        "quarantine.write",
        "partitions.create",
    ] {
        assert!(places.contains(known), "{known}: {places:?}");
    }
    eprintln!("{places:?}");
}

/// All that makes an agent come by its places: dead letters, gaps, phantoms, foreign deletions.
fn eventful(rig: &mut Rig, round: usize) {
    rig.node.work(Duration::from_millis(120));
    rig.node.write(Kind::Unknown);
    rig.orphan_index();
    rig.node.work(Duration::from_millis(120));
    if round % 3 == 1 {
        rig.node.stop();
        rig.node.start();
    }
    rig.node.sync();
}

/// Runs one agent that must die at a place; says whether it came by.
fn dies_at(rig: &mut Rig, place: &str, nth: usize) -> bool {
    if place.starts_with("partitions.") {
        // What is known of topics is not written again.
        super::node::remove(&rig.place.state.join("partitions.json"));
    }
    let mut agent = rig.place.agent_with(Some(&format!("{place}=kill:{nth}")));
    let end = Instant::now() + Duration::from_secs(12);
    let mut round = 0;
    while Instant::now() < end {
        if let Some(status) = agent.ended() {
            assert!(was_killed(status), "{place}: {status}\n{}", agent.said());
            return true;
        }
        if round < 6 {
            eventful(rig, round);
        }
        round += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    agent.kill();
    false
}

fn settle_and_judge(rig: &mut Rig) {
    let mut agent: Agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.wait(&mut agent, "gap records", |rig| rig.gaps().len() >= rig.orphans.len());
    rig.judge();
    rig.judge_letters();
    rig.judge_gaps();
}

/// The places where agents of one node must die, each at its own, the next one going on from there. Returns those that
/// none came by.
fn never_died_at(places: &[String]) -> Vec<String> {
    let mut rig = Rig::new(Options::new(seed(103)));
    rig.place.spool(true);
    if places.iter().any(|place| place.starts_with("move.")) {
        let done = rig.path().join("done");
        fs::create_dir(&done).unwrap();
        rig.place.arguments = vec!["--set".to_owned(), format!("cassandra.on_done=move {}", done.display())];
    }
    let mut never = Vec::new();
    for place in places {
        let started = Instant::now();
        let died = dies_at(&mut rig, place, 1) && dies_at(&mut rig, place, 2);
        eprintln!("{place}: {} after {:?}", if died { "died twice" } else { "never came by" }, started.elapsed());
        if !died {
            never.push(place.clone());
        }
    }
    settle_and_judge(&mut rig);
    never
}

/// Each thing that goes step by step has a node of its own, all at once: most of the time they wait.
#[test]
fn a_kill_at_every_named_place_loses_nothing() {
    let mut things: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for place in places_of_run() {
        let (thing, _) = place.split_once('.').expect("a thing and a step");
        things.entry(thing.to_owned()).or_default().push(place);
    }
    assert!(things.len() >= 9, "{things:?}");
    let never: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = things.values().map(|places| scope.spawn(|| never_died_at(places))).collect();
        runs.into_iter().flat_map(|run| run.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))).collect()
    });
    assert!(never.is_empty(), "never came by {never:?}: make `eventful` go there");
}
