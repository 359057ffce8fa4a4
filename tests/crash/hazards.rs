//! What servers, deleters and disks do around a running agent.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use super::mutations::Kind;
use super::node::{IndexMood, Options, id_of, list};
use super::rig::Rig;
use super::seed;
use super::segment::{Codec, index_name};

const READY: Duration = Duration::from_secs(120);

/// Settles and judges a rig in which nothing may be missing or repeated.
#[track_caller]
fn all_is_well(rig: &mut Rig) {
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    agent.terminate();
    rig.judge();
    rig.judge_no_gap();
}

fn under_a_mood(number: u64, mood: IndexMood) {
    let mut rig = Rig::new(Options::new(seed(number)));
    rig.node.mood = mood;
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(2500));
    rig.node.sync();
    agent.must_run();
    rig.node.heal_indexes();
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

#[test]
fn an_index_that_is_mostly_empty_is_waited_for() {
    under_a_mood(300, IndexMood::Empty);
}

#[test]
fn an_index_of_garbage_is_waited_for() {
    under_a_mood(301, IndexMood::Garbage);
}

#[test]
fn an_index_that_shrinks_takes_nothing_back() {
    under_a_mood(302, IndexMood::Shrinking);
}

/// SIGBUS kills whoever reads a mapping behind the end of its file.
#[test]
fn a_segment_cut_short_under_the_agent_is_held_until_it_is_whole_again() {
    let mut rig = Rig::new(Options { segment_bytes: 1 << 20, ..Options::new(seed(303)) });
    let mut agent = rig.place.agent();
    rig.node.write_many(Kind::Cdc, 200);
    rig.settle(&mut agent);
    agent.signal("STOP");
    rig.node.write_many(Kind::Cdc, 2000);
    rig.node.sync();
    let active = rig.node.active_id();
    let log = rig.node.commitlog.join(rig.node.log_name(active));
    let bytes = fs::read(&log).unwrap();
    OpenOptions::new().write(true).open(&log).unwrap().set_len(60_000).unwrap();
    agent.signal("CONT");
    std::thread::sleep(Duration::from_secs(3));
    agent.must_run();
    assert!(agent.said().contains("held: "), "{}", agent.said());
    assert!(!rig.missing().is_empty());
    assert!(rig.raw().contains(&rig.node.log_name(active)));
    let file = OpenOptions::new().write(true).open(&log).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}

#[test]
fn ten_thousand_segments_at_start() {
    let mut rig = Rig::new(Options { segment_bytes: 700, ..Options::new(seed(304)) });
    while list(&rig.node.cdc_raw).iter().filter(|name| name.ends_with(".log")).count() < 10_000 {
        rig.node.write_many(Kind::Cdc, 500);
        rig.node.flush();
    }
    rig.node.sync();
    let started = Instant::now();
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    eprintln!("ready after {:?}", started.elapsed());
    rig.wait(&mut agent, "the first event", |rig| rig.broker.look(|got| !got.events.is_empty()));
    eprintln!("first event after {:?}", started.elapsed());
    rig.wait(&mut agent, "all events", |rig| rig.missing().is_empty());
    eprintln!("all {} events after {:?}", rig.broker.look(|got| got.events.len()), started.elapsed());
    rig.wait(&mut agent, "a tidy cdc_raw", |rig| rig.raw() == rig.node.remaining());
    eprintln!("all deleted after {:?}", started.elapsed());
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

#[test]
fn cdc_raw_may_be_missing_and_come_again() {
    let mut rig = Rig::new(Options::new(seed(305)));
    rig.node.work(Duration::from_millis(200));
    rig.node.stop();
    // Everything was published and deleted, and somebody tidied up.
    all_is_well_without_node(&mut rig);
    fs::remove_dir_all(&rig.node.cdc_raw).unwrap();
    rig.bystanders.clear();
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    rig.node.start();
    rig.node.work(Duration::from_millis(300));
    rig.settle(&mut agent);
    // Removed while the agent watches it; the node makes a new one when it starts, with another inode.
    rig.node.stop();
    rig.wait(&mut agent, "the end", |rig| rig.missing().is_empty());
    rig.wait(&mut agent, "the sealed one to go", |rig| {
        !list(&rig.node.cdc_raw).iter().any(|name| name.ends_with("_cdc.idx"))
    });
    fs::remove_dir_all(&rig.node.cdc_raw).unwrap();
    std::thread::sleep(Duration::from_millis(1500));
    agent.must_run();
    rig.node.start();
    rig.node.work(Duration::from_millis(300));
    rig.settle(&mut agent);
    agent.terminate();
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// As `settle`, of a node that is stopped: its phantom and its empty segment are there until a newer run is seen.
fn all_is_well_without_node(rig: &mut Rig) {
    let mut agent = rig.place.agent();
    rig.wait(&mut agent, "all events", |rig| rig.missing().is_empty());
    rig.wait(&mut agent, "the sealed ones to go", |rig| {
        !list(&rig.node.cdc_raw).iter().any(|name| name.ends_with("_cdc.idx"))
    });
    agent.terminate();
}

/// The commit-log directory was emptied, or the clock went back: new segments have lower ids than old ones.
#[test]
fn ids_may_fall_back() {
    let mut rig = Rig::new(Options::new(seed(306)));
    let mut agent = rig.place.agent();
    for round in 0..3 {
        rig.node.work(Duration::from_millis(500));
        // Runs go by first sight: the agent has seen the segments of one before those of the next are there, and has
        // it on disk, though it could publish none of them.
        rig.broker.down();
        rig.node.work(Duration::from_millis(500));
        rig.node.sync();
        std::thread::sleep(Duration::from_secs(3));
        agent.must_run();
        if round == 1 {
            agent.kill();
            rig.node.stop();
            rig.node.next_id -= 1_000_000;
            rig.node.start();
            agent = rig.place.agent();
        } else {
            rig.node.stop();
            rig.node.next_id -= 1_000_000;
            rig.node.start();
        }
        rig.broker.up();
    }
    rig.node.work(Duration::from_millis(500));
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}

#[test]
fn a_spool_survives_foreign_deletions() {
    let mut rig = Rig::new(Options::new(seed(307)));
    rig.place.spool(true);
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    // While Kafka is away nothing can be acknowledged, and a node that does not block deletes the oldest.
    rig.broker.down();
    rig.node.fill(5);
    rig.node.sync();
    let logs: BTreeSet<String> = rig.raw().into_iter().filter(|name| name.ends_with(".log")).collect();
    rig.wait(&mut agent, "links in the spool", |rig| logs.is_subset(&list(&rig.place.spool)));
    let deleted = rig.node.delete_lowest(3);
    assert_eq!(deleted.len(), 3);
    rig.node.flush();
    rig.node.fill(3);
    // The same while the agent is down.
    rig.node.sync();
    let logs: BTreeSet<String> = rig.raw().into_iter().filter(|name| name.ends_with(".log")).collect();
    rig.wait(&mut agent, "links in the spool", |rig| logs.is_subset(&list(&rig.place.spool)));
    agent.kill();
    assert_eq!(rig.node.delete_lowest(2).len(), 2);
    rig.node.flush();
    rig.broker.up();
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(300));
    rig.settle(&mut agent);
    rig.wait(&mut agent, "an empty spool", |rig| {
        list(&rig.place.spool).iter().filter(|name| name.ends_with(".log")).all(|name| rig.raw().contains(name))
    });
    rig.judge();
    rig.judge_no_gap();
}

/// Deletes segments that the agent has seen, and has not published, while Kafka is away.
fn deleted_without_a_spool(number: u64, warm: bool) {
    let mut rig = Rig::new(Options::new(seed(number)));
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    if warm {
        rig.node.write_many(Kind::Cdc, 10);
        rig.settle(&mut agent);
    }
    rig.broker.down();
    rig.node.fill(5);
    rig.node.flush();
    rig.node.sync();
    // The agent has to see them before they go.
    std::thread::sleep(Duration::from_secs(3));
    agent.must_run();
    let deleted: BTreeSet<i64> = rig.node.delete_lowest(3).into_iter().collect();
    assert_eq!(deleted.len(), 3);
    rig.excused.clone_from(&deleted);
    std::thread::sleep(Duration::from_secs(2));
    rig.broker.up();
    rig.settle(&mut agent);
    let gaps = |rig: &Rig| -> BTreeSet<i64> {
        let deleted = rig.gaps().into_iter().filter(|gap| gap["gap"] == "segment-deleted");
        deleted.map(|gap| id_of(gap["source"]["segment"].as_str().unwrap())).collect()
    };
    // What was read before the deletion may still have come.
    let incomplete = |rig: &Rig| -> BTreeSet<i64> {
        let cdc = rig.node.journal.iter().enumerate().filter(|(_, written)| written.kind == Kind::Cdc);
        let missing = cdc.filter(|(number, _)| rig.broker.look(|got| !got.numbers.contains(&(*number as u32))));
        missing.map(|(_, written)| written.segment).filter(|id| deleted.contains(id)).collect()
    };
    eprintln!("deleted {deleted:?}, incomplete {:?}", incomplete(&rig));
    rig.wait(&mut agent, "gap records", |rig| incomplete(rig).is_subset(&gaps(rig)));
    assert!(gaps(&rig).is_subset(&deleted), "{:?}", rig.gaps());
    rig.judge();
    rig.judge_letters();
}

#[test]
fn without_a_spool_a_foreign_deletion_leaves_a_gap_record() {
    deleted_without_a_spool(308, true);
}

/// The agent has never reached Kafka: it knows no topic, and can send nothing.
#[test]
fn without_a_spool_a_deletion_before_the_first_event_leaves_a_gap_record() {
    deleted_without_a_spool(321, false);
}

#[test]
fn an_index_without_log_leaves_a_gap_record_and_goes() {
    let mut rig = Rig::new(Options::new(seed(309)));
    rig.orphan_index();
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(300));
    rig.orphan_index();
    rig.settle(&mut agent);
    rig.wait(&mut agent, "gap records", |rig| rig.gaps().len() == 2);
    rig.judge();
    rig.judge_gaps();
    rig.judge_letters();
}

#[test]
fn sigterm_sends_what_is_there_and_exits_with_0() {
    let mut rig = Rig::new(Options::new(seed(310)));
    for _ in 0..3 {
        let mut agent = rig.place.agent();
        agent.wait_ready(READY);
        rig.node.work(Duration::from_millis(400));
        agent.terminate();
    }
    let repeated = rig.broker.look(|got| got.events.len() - got.numbers.len());
    assert_eq!(repeated, 0, "what was sent was also saved");
    all_is_well(&mut rig);
}

/// Nothing can be sent: the drain is given up in time, and the exit is still a clean one.
#[test]
fn sigterm_ends_while_kafka_is_away() {
    let mut rig = Rig::new(Options::new(seed(311)));
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    rig.broker.down();
    rig.node.work(Duration::from_millis(500));
    agent.terminate();
    rig.broker.up();
    all_is_well(&mut rig);
}

#[test]
fn kafka_may_go_away_and_come_back() {
    let mut rig = Rig::new(Options::new(seed(312)));
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(500));
    rig.broker.down();
    rig.node.work(Duration::from_secs(3));
    rig.broker.up();
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}

/// Every clean stop leaves one; no start of the node takes it away, and they count against the limit.
#[test]
fn phantoms_are_cleaned_up() {
    let mut rig = Rig::new(Options::new(seed(313)));
    for _ in 0..3 {
        rig.node.work(Duration::from_millis(100));
        rig.node.stop();
        rig.node.start();
    }
    all_is_well(&mut rig);
    let mut agent = rig.place.agent();
    rig.node.stop();
    rig.node.start();
    rig.node.write_many(Kind::Cdc, 10);
    rig.settle(&mut agent);
    rig.judge();
}

/// A segment that the agent has deleted, and that replay links again, goes again and is not published again.
#[test]
fn a_segment_that_comes_back_goes_again() {
    let mut rig = Rig::new(Options::new(seed(314)));
    let mut agent = rig.place.agent();
    while rig.node.own_names().len() < 5 {
        rig.node.write_many(Kind::Cdc, 20);
    }
    rig.settle(&mut agent);
    let own = rig.node.own_names();
    rig.node.kill();
    if rig.node.random.once_in(2) {
        agent.terminate();
        agent = rig.place.agent();
    }
    rig.node.start();
    assert!(rig.raw().intersection(&own).count() > 2, "they are back: {:?}", rig.raw());
    rig.node.write_many(Kind::Cdc, 10);
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// The table lost its CDC flag before the replay: the index stays as it was, for ever.
#[test]
fn an_index_that_is_never_completed_is_read_to_the_end_of_the_chain() {
    let mut rig = Rig::new(Options::new(seed(315)));
    let mut agent = rig.place.agent();
    rig.node.write_many(Kind::Cdc, 50);
    rig.node.sync();
    rig.node.write_many(Kind::Cdc, 20);
    rig.node.mark();
    let stuck = rig.node.active_id();
    let name = rig.node.log_name(stuck);
    rig.node.kill();
    rig.node.start_with(false);
    let log = rig.node.cdc_raw.join(&name);
    assert_eq!(log.metadata().unwrap().nlink(), 1);
    assert!(!fs::read_to_string(rig.node.cdc_raw.join(index_name(&name))).unwrap().contains("COMPLETED"));
    rig.node.write_many(Kind::Cdc, 10);
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// The node was over its limit when it made them: links appear late, and not in the order of ids.
#[test]
fn links_may_come_late() {
    let mut rig = Rig::new(Options::new(seed(316)));
    let mut agent = rig.place.agent();
    rig.node.permitted = false;
    rig.node.switch();
    rig.node.switch();
    assert!(!rig.node.write(Kind::Cdc), "refused while there is no link");
    rig.node.write_many(Kind::Plain, 100);
    rig.node.sync();
    std::thread::sleep(Duration::from_millis(300));
    rig.node.permit();
    rig.node.write_many(Kind::Cdc, 500);
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

#[test]
fn compressed_segments_are_read_as_they_grow() {
    let mut rig = Rig::new(Options { codec: Codec::Lz4, ..Options::new(seed(317)) });
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(1500));
    rig.node.kill();
    rig.node.start();
    rig.node.work(Duration::from_millis(500));
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}

/// 3.11 has no indexes: a segment appears when it is done.
#[test]
fn segments_of_version_6_appear_whole() {
    let mut rig = Rig::new(Options { version: 6, ..Options::new(seed(318)) });
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(1000));
    rig.node.switch();
    rig.node.flush();
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

#[test]
fn what_can_not_be_decoded_is_dead_lettered_once_and_holds_nothing_up() {
    let mut rig = Rig::new(Options::new(seed(319)));
    let mut agent = rig.place.agent();
    for _ in 0..5 {
        rig.node.write(Kind::Unknown);
        rig.node.write_many(Kind::Cdc, 100);
    }
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// Bytes that no replay would find must not be published, and must not be taken for damage.
#[test]
fn what_stands_behind_the_last_marker_at_a_kill_is_not_published() {
    let mut rig = Rig::new(Options::new(seed(320)));
    let mut agent = rig.place.agent();
    rig.node.write_many(Kind::Cdc, 50);
    rig.node.sync();
    rig.node.write_many(Kind::Cdc, 5);
    rig.node.kill();
    rig.node.start();
    rig.node.write_many(Kind::Cdc, 10);
    rig.settle(&mut agent);
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}
