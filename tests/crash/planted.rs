//! What is planted in `cdc_raw`, what stands in its limits, and what comes back under an old name.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::mutations::Kind;
use super::node::{Options, id_of, list};
use super::rig::Rig;
use super::seed;
use super::segment::index_name;

const READY: Duration = Duration::from_secs(60);

/// The ids of segments of which a gap of this kind is told.
fn gaps_of(rig: &Rig, kind: &str) -> BTreeSet<i64> {
    let gaps = rig.gaps().into_iter().filter(|gap| gap["gap"] == kind);
    gaps.map(|gap| id_of(gap["source"]["segment"].as_str().expect("a segment"))).collect()
}

/// A sealed segment of the node, copied to where the node will not delete it.
fn copy_of_a_segment(rig: &mut Rig) -> PathBuf {
    rig.node.write_many(Kind::Cdc, 20);
    let name = {
        let id = rig.node.active_id();
        rig.node.log_name(id)
    };
    rig.node.switch();
    let copy = rig.path().join("copy.log");
    fs::copy(rig.node.cdc_raw.join(name), &copy).unwrap();
    copy
}

/// The node goes on in a segment that has the id of an earlier one.
fn reuse(rig: &mut Rig, id: i64) {
    let next = std::mem::replace(&mut rig.node.next_id, id);
    rig.node.switch();
    rig.node.next_id = next;
    rig.node.switch();
    assert_eq!(rig.node.active_id(), id);
}

#[test]
fn what_is_planted_is_neither_followed_nor_opened_nor_deleted() {
    let mut rig = Rig::new(Options::new(seed(400)));
    let target = copy_of_a_segment(&mut rig);
    let bytes = fs::read(&target).unwrap();
    let mut plant = |make: &dyn Fn(&std::path::Path)| {
        let id = rig.node.skip_id();
        let name = rig.node.log_name(id);
        make(&rig.node.cdc_raw.join(&name));
        rig.bystanders.insert(name.clone());
        name
    };
    plant(&|path| symlink(&target, path).unwrap());
    // Whoever opens a pipe to read waits for a writer.
    plant(&|path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success()));
    plant(&|path| fs::create_dir(path).unwrap());
    plant(&|path| drop(std::os::unix::net::UnixListener::bind(path).unwrap()));
    rig.stand_by("CommitLog-7-12x.log");
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(300));
    rig.settle(&mut agent);
    agent.terminate();
    rig.judge();
    rig.judge_no_gap();
    assert_eq!(fs::read(&target).unwrap(), bytes);
}

/// Somebody copied a segment back under another name.
#[test]
fn a_segment_whose_header_names_another_is_set_aside() {
    let mut rig = Rig::new(Options::new(seed(401)));
    let copy = copy_of_a_segment(&mut rig);
    let id = rig.node.skip_id();
    let name = rig.node.log_name(id);
    fs::copy(&copy, rig.node.cdc_raw.join(&name)).unwrap();
    fs::write(rig.node.cdc_raw.join(index_name(&name)), "49152\nCOMPLETED").unwrap();
    rig.bystanders.extend([name.clone(), index_name(&name)]);
    for _ in 0..2 {
        let mut agent = rig.place.agent();
        // Nothing is read behind the segment that is being written.
        rig.node.fill(3);
        rig.settle(&mut agent);
        agent.terminate();
    }
    assert!(rig.place.said().contains("set aside, neither read nor deleted"), "{}", rig.place.said());
    rig.judge();
    rig.judge_no_gap();
}

/// Its header was never written back: there is nothing in it, and nothing waits for it.
#[test]
fn a_spare_that_a_power_loss_emptied_goes() {
    let mut rig = Rig::new(Options::new(seed(408)));
    let id = rig.node.skip_id();
    let name = rig.node.log_name(id);
    fs::write(rig.node.cdc_raw.join(&name), vec![0; 32 << 10]).unwrap();
    let mut agent = rig.place.agent();
    rig.node.fill(3);
    rig.wait(&mut agent, "the empty one to go", |rig| !rig.raw().contains(&name));
    rig.settle(&mut agent);
    agent.terminate();
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// The clock fell back to the very millisecond: a finished segment's name and id, and another segment.
#[test]
fn another_segment_under_the_name_of_a_deleted_one_is_read_from_its_beginning() {
    let mut rig = Rig::new(Options::new(seed(402)));
    let mut agent = rig.place.agent();
    rig.node.write_many(Kind::Cdc, 50);
    let id = rig.node.active_id();
    rig.node.switch();
    rig.node.flush();
    rig.node.write_many(Kind::Cdc, 50);
    rig.settle(&mut agent);
    assert!(!rig.raw().contains(&rig.node.log_name(id)));
    reuse(&mut rig, id);
    rig.node.write_many(Kind::Cdc, 30);
    rig.settle(&mut agent);
    agent.terminate();
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// The same with one that was not finished: what may be missing of it is told.
#[test]
fn another_segment_under_the_name_of_an_unfinished_one_leaves_a_gap_record_and_is_read() {
    let mut rig = Rig::new(Options::new(seed(403)));
    let mut agent = rig.place.agent();
    rig.node.write_many(Kind::Cdc, 50);
    let id = rig.node.active_id();
    rig.settle(&mut agent);
    agent.terminate();
    rig.node.stop();
    let log = rig.node.cdc_raw.join(rig.node.log_name(id));
    fs::remove_file(&log).unwrap();
    rig.node.start();
    reuse(&mut rig, id);
    rig.node.write_many(Kind::Cdc, 30);
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.wait(&mut agent, "the gap record", |rig| gaps_of(rig, "segment-deleted") == BTreeSet::from([id]));
    agent.terminate();
    assert_eq!(rig.judge(), 0);
}

/// At its limit the spool gives up the oldest that nothing else holds: told, one by one, before it goes.
#[test]
fn the_limit_of_the_spool_leaves_gap_records() {
    let mut rig = Rig::new(Options::new(seed(404)));
    rig.place.spool(true);
    rig.place.arguments = vec!["--set".to_owned(), "spool.max_bytes=200KiB".to_owned()];
    // An agent that has never reached Kafka has read nothing.
    rig.broker.down();
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    for _ in 0..3 {
        rig.node.fill(4);
        rig.node.sync();
        let logs: BTreeSet<String> = rig.raw().into_iter().filter(|name| name.ends_with(".log")).collect();
        let spooled = |rig: &Rig| list(&rig.place.spool);
        rig.wait(&mut agent, "links in the spool", |rig| {
            logs.iter().all(|log| spooled(rig).contains(log) || !rig.raw().contains(log))
        });
        rig.node.flush();
        rig.node.delete_lowest(4);
    }
    let kept = |rig: &Rig| list(&rig.place.spool).difference(&rig.raw()).filter(|name| name.ends_with(".log")).count();
    rig.wait(&mut agent, "room in the spool", |rig| kept(rig) <= 4);
    assert!(kept(&rig) > 0, "{:?}", list(&rig.place.spool));
    rig.broker.up();
    let lost = |rig: &Rig| rig.missing().iter().map(|written| written.segment).collect::<BTreeSet<i64>>();
    rig.wait(&mut agent, "gap records", |rig| {
        lost(rig).is_subset(&gaps_of(rig, "spool-released")) && !lost(rig).is_empty()
    });
    rig.excused = gaps_of(&rig, "spool-released");
    assert_eq!(rig.gaps().len(), rig.excused.len(), "{:?}", rig.gaps());
    rig.settle(&mut agent);
    agent.terminate();
    rig.judge();
    rig.judge_letters();
}

/// What cannot be linked is read where it is.
#[test]
fn a_spool_that_can_take_nothing_holds_nothing_up() {
    let mut rig = Rig::new(Options::new(seed(405)));
    rig.place.spool(true);
    for fault in ["spool.link=ENOSPC:2", "spool.link=EIO:2", "spool.linked=EIO:2"] {
        let mut agent = rig.place.agent_with(Some(fault));
        rig.node.work(Duration::from_millis(300));
        rig.settle(&mut agent);
        agent.terminate();
    }
    rig.judge();
    rig.judge_no_gap();
}

/// More events than the queue of notifications holds, while the agent can't take any.
#[test]
fn a_flood_of_notifications_hides_nothing() {
    let mut rig = Rig::new(Options::new(seed(406)));
    let mut agent = rig.place.agent();
    agent.wait_ready(READY);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    agent.signal("STOP");
    let flood = rig.node.cdc_raw.join("flood");
    for _ in 0..=limit / 2 {
        fs::write(&flood, "").unwrap();
        fs::remove_file(&flood).unwrap();
    }
    rig.node.work(Duration::from_millis(300));
    agent.signal("CONT");
    rig.settle(&mut agent);
    rig.node.work(Duration::from_millis(200));
    rig.settle(&mut agent);
    agent.terminate();
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}

/// A unit without `ReadWritePaths`, or another user: everything is published, nothing can be deleted, and that is said.
#[test]
fn a_read_only_cdc_raw_is_read_and_told() {
    let mut rig = Rig::new(Options::new(seed(407)));
    rig.node.fill(2);
    rig.node.flush();
    rig.node.sync();
    rig.place.give_up_root();
    fs::set_permissions(&rig.node.cdc_raw, fs::Permissions::from_mode(0o555)).unwrap();
    let raw = rig.raw();
    let mut agent = rig.place.agent();
    rig.wait(&mut agent, "all events", |rig| rig.missing().is_empty());
    // It has had the time to delete, and lives.
    std::thread::sleep(Duration::from_secs(3));
    agent.must_run();
    assert_eq!(rig.raw(), raw);
    agent.terminate();
    fs::set_permissions(&rig.node.cdc_raw, fs::Permissions::from_mode(0o777)).unwrap();
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    agent.terminate();
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();
}
