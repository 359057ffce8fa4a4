//! The stand-in node itself: what it writes must read as what it says it wrote, or no other test here means anything.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::agent::{CLUSTER, HOST};
use super::mutations::{self, Kind};
use super::node::{Fate, Node, Options, Written, id_of, list};
use super::rig::Rig;
use super::segment::{Codec, index_name};

/// Replays a folder, and gives the numbers in it with segment and position.
fn replayed(folder: &Path) -> BTreeMap<u32, (i64, u32)> {
    let schema = folder.with_file_name("schema.json");
    std::fs::write(&schema, mutations::schema_file()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cassandra-cdc"))
        .args(["replay", "--sink", "stdout", "--cluster", CLUSTER, "--host-id", HOST, "--schema"])
        .args([&schema, folder])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = std::str::from_utf8(&output.stdout).unwrap().lines();
    lines
        .map(|line| {
            let event: Value = serde_json::from_str(line).unwrap();
            let number = event["rows"][0]["cells"]["n"]["value"].as_u64().unwrap() as u32;
            let segment = id_of(event["source"]["segment"].as_str().unwrap());
            (number, (segment, event["source"]["position"].as_u64().unwrap() as u32))
        })
        .collect()
}

fn written(node: &Node) -> BTreeMap<u32, (i64, u32)> {
    let durable = node.journal.iter().enumerate().filter(|(_, written)| written.fate == Fate::Durable);
    let cdc = durable.filter(|(_, written)| written.kind == Kind::Cdc);
    cdc.map(|(number, written)| (number as u32, (written.segment, written.position))).collect()
}

#[test]
fn every_version_and_codec_reads_as_it_was_written() {
    for (version, codec) in
        [(7, Codec::Mapped), (8, Codec::Mapped), (9, Codec::Mapped), (7, Codec::Lz4), (9, Codec::Lz4)]
    {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(folder.path(), Options { version, codec, ..Options::new(1) });
        for _ in 0..1500 {
            node.step();
        }
        node.sync();
        let found = replayed(&node.cdc_raw);
        assert!(found.len() > 1000, "{}", found.len());
        assert!(found == written(&node), "version {version}, {codec:?}");
    }
}

#[test]
fn version_6_shows_its_segments_when_they_are_done() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), Options { version: 6, ..Options::new(2) });
    node.write_many(Kind::Cdc, 1000);
    assert!(list(&node.cdc_raw).is_empty());
    node.stop();
    assert!(list(&node.cdc_raw).iter().all(|name| name.ends_with(".log")));
    assert!(replayed(&node.cdc_raw) == written(&node));
}

#[test]
fn a_kill_loses_what_no_marker_covers_and_replay_completes_the_rest() {
    for codec in [Codec::Mapped, Codec::Lz4] {
        let folder = tempfile::tempdir().unwrap();
        let mut node = Node::new(folder.path(), Options { codec, ..Options::new(3) });
        node.write_many(Kind::Cdc, 300);
        node.sync();
        node.write_many(Kind::Cdc, 5);
        node.mark();
        let active = node.active_id();
        node.write_many(Kind::Cdc, 5);
        node.kill();
        let own = node.own_names();
        let log = node.cdc_raw.join(node.log_name(active));
        let inode = log.metadata().unwrap().ino();
        // The agent deletes what it has finished; the node, which still has its own name, links it again.
        std::fs::remove_file(&log).unwrap();
        node.start();
        assert_eq!(log.metadata().unwrap().ino(), inode);
        assert_eq!(log.metadata().unwrap().nlink(), 1);
        let index = std::fs::read_to_string(node.cdc_raw.join(index_name(&node.log_name(active)))).unwrap();
        assert_eq!(index, format!("{}\nCOMPLETED", log.metadata().unwrap().len()));
        assert!(own.is_disjoint(&node.own_names()));
        let gone = node.journal.iter().filter(|written| written.fate == Fate::Gone).count();
        assert_eq!(gone, if codec == Codec::Mapped { 5 } else { 10 });
        node.sync();
        assert!(replayed(&node.cdc_raw) == written(&node));
    }
}

#[test]
fn a_clean_stop_leaves_a_phantom() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), Options::new(4));
    node.write_many(Kind::Cdc, 10);
    node.stop();
    let logs = |node: &Node| list(&node.cdc_raw).into_iter().filter(|name| name.ends_with(".log")).count();
    // The sealed one, the empty one that the next start deletes, and the phantom.
    assert_eq!(logs(&node), 3);
    node.start();
    assert_eq!(logs(&node), 4);
    assert!(replayed(&node.cdc_raw) == written(&node));
}

#[test]
fn segments_without_cdc_data_go_with_the_flush() {
    let folder = tempfile::tempdir().unwrap();
    let mut node = Node::new(folder.path(), Options::new(5));
    node.write_many(Kind::Plain, 1500);
    assert!(list(&node.cdc_raw).len() > 4);
    node.flush();
    assert_eq!(list(&node.cdc_raw), node.remaining());
    assert_eq!(list(&node.cdc_raw).len(), 2);
}

/// A judge that lets something pass is worse than none.
#[test]
fn the_judge_sees_what_is_wrong() {
    let mut rig = Rig::new(Options::new(6));
    for _ in 0..800 {
        rig.node.step();
    }
    rig.node.sync();
    let replay = |rig: &Rig| {
        let output = Command::new(env!("CARGO_BIN_EXE_cassandra-cdc"))
            .args([
                "replay",
                "--cluster",
                CLUSTER,
                "--host-id",
                HOST,
                "--bootstrap",
                &rig.broker.bootstrap(),
                "--schema",
            ])
            .args([&rig.path().join("schema.json"), &rig.node.cdc_raw])
            .env("CASSANDRA_CDC_NO_TOPIC_LIMITS", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    let came = |rig: &Rig, count: usize| {
        while rig.broker.look(|got| got.events.len()) < count {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    };
    let is_wrong = |rig: &Rig| std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| rig.judge())).is_err();
    let count = written(&rig.node).len();
    assert_eq!(rig.missing().len(), count);
    replay(&rig);
    came(&rig, count);
    assert!(is_wrong(&rig), "finished segments are there");
    let raw = std::fs::read_dir(&rig.node.cdc_raw).unwrap().map(|entry| entry.unwrap().path());
    let kept: Vec<_> = raw.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect();
    for name in rig.raw().difference(&rig.node.remaining()) {
        std::fs::remove_file(rig.node.cdc_raw.join(name)).unwrap();
    }
    assert_eq!(rig.judge(), 0);
    rig.judge_no_gap();

    // A live segment, or a file of somebody else, must not go.
    for name in rig.node.remaining().into_iter().chain(rig.bystanders.clone()) {
        let path = rig.node.cdc_raw.join(name);
        std::fs::remove_file(&path).unwrap();
        assert!(is_wrong(&rig), "{}", path.display());
        let bytes = kept.iter().find(|(kept, _)| *kept == path).unwrap().1.clone();
        std::fs::write(&path, bytes).unwrap();
    }
    // Nothing may be lost, invented, or at another place; ids are exact, and keys in order.
    let some = count / 2;
    let number = rig.broker.look(|got| got.events[some].number) as usize;
    let good = rig.node.journal[number].clone();
    for wrong in [
        Written { position: good.position + 1, ..good.clone() },
        Written { segment: good.segment + 1, ..good.clone() },
        Written { key: "k0x".to_owned(), ..good.clone() },
        Written { fate: Fate::Gone, ..good.clone() },
        Written { kind: Kind::Plain, ..good.clone() },
    ] {
        rig.node.journal[number] = wrong;
        assert!(is_wrong(&rig));
    }
    rig.node.journal[number] = good.clone();
    assert_eq!(rig.judge(), 0);
    rig.node.journal.push(good);
    assert_eq!(rig.missing().len(), 1);
    assert!(is_wrong(&rig));
    rig.node.journal.pop();
    let swap = |rig: &Rig| {
        rig.broker.change(|got| {
            let first = got.events[0].clone();
            let second = got.events.iter().skip(1).position(|event| event.key == first.key).unwrap() + 1;
            got.events.swap(0, second);
        });
    };
    swap(&rig);
    assert!(is_wrong(&rig));
    swap(&rig);
    assert_eq!(rig.judge(), 0);
}
