//! Whatever instruction a process dies at, and whatever the disk refuses: what it was told is durable is there, whole,
//! and nothing is there that only looks so.
//!
//! The dying process is this test again, with `CASSANDRA_CDC_FAULT` set. Faults exist in debug builds alone.
#![cfg(debug_assertions)]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::Command;

use cassandra_cdc::checkpoint::{Glance, StateDir};
use cassandra_cdc::durable_file;
use cassandra_cdc::gaps::{GapLog, GapRecord};
use cassandra_cdc::quarantine::Quarantine;
use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_event::{DeadLetter, Format, GapKind, Int64, KeyFormat, Settings, TopicTemplate, Unit};
use cassandra_progress::{Checkpoint, Node};

/// Where the child works. Unset, it is nobody's child.
const FOLDER: &str = "CASSANDRA_CDC_TEST_FOLDER";

/// What it does there.
const TASK: &str = "CASSANDRA_CDC_TEST_TASK";

/// What every file goes through.
const STEPS: [&str; 6] = ["create", "write", "fsync", "rename", "fsync-directory", "done"];

const SEGMENT: &str = "CommitLog-7-1795246257030.log";
const COUNT: u32 = 4;

fn settings() -> Settings {
    Settings {
        format: Format::Json,
        key: KeyFormat::Json,
        unit: Unit::Mutation,
        int64: Int64::Number,
        max_record_bytes: 1 << 20,
        topic: TopicTemplate::new("{prefix}.{keyspace}.{table}", "p").unwrap(),
        dead_letter_topic: "p.dead-letter".into(),
        cluster: "c".into(),
        host_id: "h".into(),
    }
}

fn gap(from: u32) -> GapRecord {
    GapRecord {
        segment: SEGMENT.into(),
        kind: GapKind::SpoolReleased,
        from: Some(from),
        to: None,
        entries: None,
        at: 7,
        ids_may_shift: false,
    }
}

fn letter(offset: u32) -> DeadLetter<'static> {
    DeadLetter {
        segment: SEGMENT,
        position: Position { segment: SegmentId(1_795_246_257_030), offset: LogOffset(offset) },
        reason: "unknown-flag",
        detail: "",
        keyspace: None,
        table: None,
        size: 10,
        // Not theirs: nobody decodes the entry here.
        crc: 0,
        version: 7,
        bytes: &[0; 10],
    }
}

fn node(generation: u32) -> Node {
    // The agent's name tells the checkpoints apart.
    Node { agent: generation.to_string(), host: "h".into(), cluster: "c".into() }
}

fn content(number: u32) -> String {
    format!("{number}\n").repeat(1000)
}

/// Does something durable again and again, and notes each time that it was told so.
#[test]
fn child() {
    let (Ok(folder), Ok(task)) = (std::env::var(FOLDER), std::env::var(TASK)) else { return };
    let folder = Path::new(&folder);
    let mut told = OpenOptions::new().create(true).append(true).open(folder.join("told")).unwrap();
    let mut note = |number: u32| told.write_all(format!("{number}\n").as_bytes()).unwrap();
    let state = folder.join("state");
    match task.as_str() {
        "gap" => {
            let log = GapLog::open(&state, &settings()).unwrap();
            for number in 0..COUNT {
                if log.record(&gap(number)).is_ok() {
                    note(number);
                }
            }
        }
        "publish" => {
            let log = GapLog::open(&state, &settings()).unwrap();
            for (number, unpublished) in (0..).zip(log.unpublished()) {
                if log.published(&unpublished.name).is_ok() {
                    note(number);
                }
            }
        }
        "quarantine" => {
            let mut quarantine = Quarantine::open_to_keep(&state, &settings()).unwrap();
            for number in 0..COUNT {
                if quarantine.keep_entry(&letter(100 + number)).is_ok() {
                    note(number);
                }
            }
        }
        "checkpoint" => {
            let mut store = StateDir::open(&state).unwrap().load(&node(0)).unwrap().store;
            for number in 0..COUNT {
                let checkpoint = Checkpoint { node: node(number), ..Checkpoint::default() };
                if store.save(&checkpoint).is_ok() {
                    note(number);
                }
            }
        }
        _ => {
            for number in 0..COUNT {
                if durable_file::replace(&folder.join("file"), content(number).as_bytes(), "test").is_ok() {
                    note(number);
                }
            }
        }
    }
}

/// Runs the child with a fault, and says what it was told is durable.
fn told(folder: &Path, task: &str, fault: &str) -> Vec<u32> {
    let ran = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child"])
        .env(FOLDER, folder)
        .env(TASK, task)
        .env("CASSANDRA_CDC_FAULT", fault)
        .output()
        .unwrap();
    let killed = std::os::unix::process::ExitStatusExt::signal(&ran.status) == Some(9);
    assert_eq!(killed, fault.contains("kill"), "{fault}: {ran:?}");
    let told = fs::read_to_string(folder.join("told")).unwrap_or_default();
    told.lines().map(|line| line.parse().unwrap()).collect()
}

/// Every fault at every step of the third file, each in a folder of its own with a state directory.
fn at_every_step(task: &str, what: &str, check: impl Fn(&Path, &[u32], &str)) {
    for step in STEPS {
        for fault in ["kill", "ENOSPC", "EIO"] {
            let fault = format!("{what}.{step}={fault}:3");
            let folder = tempfile::tempdir().unwrap();
            drop(StateDir::open(&folder.path().join("state")).unwrap());
            let told = told(folder.path(), task, &fault);
            assert_eq!(told, [0, 1], "{fault}");
            check(folder.path(), &told, &fault);
        }
    }
}

fn unfinished(folder: &Path) -> usize {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_str().unwrap().starts_with(".unfinished")).count()
}

#[test]
fn gaps_that_were_told_are_there_and_whole() {
    at_every_step("gap", "gap", |folder, told, fault| {
        let state = folder.join("state");
        let log = GapLog::open(&state, &settings()).unwrap();
        let found: Vec<u32> = log.unpublished().iter().map(|unpublished| unpublished.gap.from.unwrap()).collect();
        assert!(found.starts_with(told) && found.len() <= told.len() + 1, "{fault}: {found:?}");
        assert!(log.damaged().is_empty() && unfinished(&state.join("gaps")) == 0, "{fault}");
        // The same ones again, by the next process: none twice.
        for number in 0..COUNT {
            let _ = log.record(&gap(number)).unwrap();
        }
        assert_eq!(GapLog::open(&state, &settings()).unwrap().unpublished().len(), COUNT as usize, "{fault}");
    });
}

#[test]
fn a_gap_is_published_or_not_and_never_neither() {
    for (step, published) in [("move", 1), ("moved", 2)] {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("state");
        drop(StateDir::open(&state).unwrap());
        let log = GapLog::open(&state, &settings()).unwrap();
        for number in 0..COUNT {
            let _ = log.record(&gap(number)).unwrap();
        }
        drop(log);
        assert_eq!(told(folder.path(), "publish", &format!("gap.{step}=kill:2")), [0]);
        let log = GapLog::open(&state, &settings()).unwrap();
        assert_eq!(log.unpublished().len(), COUNT as usize - published, "{step}");
        assert_eq!(fs::read_dir(state.join("gaps")).unwrap().count(), COUNT as usize);
    }
}

#[test]
fn the_quarantine_holds_whole_items() {
    at_every_step("quarantine", "quarantine", |folder, told, fault| {
        let mut quarantine = Quarantine::open_to_keep(&folder.join("state"), &settings()).unwrap();
        let found = quarantine.items().unwrap();
        // A disk that refuses once, or always: what comes later is tried, and breaks no promise.
        assert!(found.len() >= told.len() && found.len() <= COUNT as usize, "{fault}: {found:?}");
        for item in &found {
            let text = quarantine.raw(&item.name).unwrap().unwrap();
            assert!(serde_json::from_slice::<serde_json::Value>(&text).is_ok(), "{fault}: {}", item.name);
        }
        assert_eq!(unfinished(&folder.join("state/quarantine")), 0, "{fault}");
        for number in 0..COUNT {
            quarantine.keep_entry(&letter(100 + number)).unwrap();
        }
        assert_eq!(quarantine.items().unwrap().len(), COUNT as usize, "{fault}");
    });
}

#[test]
fn the_last_checkpoint_that_was_told_is_there_or_the_one_after_it() {
    at_every_step("checkpoint", "checkpoint", |folder, told, fault| {
        let state = folder.join("state");
        let glance = Glance::at(&state).unwrap();
        assert!(!glance.held && glance.generations.iter().all(|(_, found)| found.is_ok()), "{fault}: {glance:?}");
        let newest: u32 = glance.newest().unwrap().node.agent.parse().unwrap();
        let last = *told.last().unwrap();
        assert!(newest == last || newest == last + 1, "{fault}: {newest}");
        drop(StateDir::open(&state).unwrap());
        assert_eq!(unfinished(&state), 0, "{fault}");
    });
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one() {
    at_every_step("file", "test", |folder, told, fault| {
        let last = *told.last().unwrap();
        let found = fs::read_to_string(folder.join("file")).unwrap();
        // After the first refusal every later file is refused at the same step, which may lie behind the rename.
        assert!([content(last), content(last + 1), content(COUNT - 1)].contains(&found), "{fault}");
        assert!(unfinished(folder) <= usize::from(fault.contains("kill")), "{fault}");
    });
}
