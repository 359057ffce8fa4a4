//! What can happen to the agent's own record.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::Duration;

use super::agent::HOST;
use super::mutations::Kind;
use super::node::{Options, list};
use super::rig::Rig;
use super::seed;

const END: Duration = Duration::from_secs(60);

/// A rig whose agent has been at work, and was killed.
fn interrupted(number: u64) -> Rig {
    let mut rig = Rig::new(Options::new(seed(number)));
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(500));
    rig.settle(&mut agent);
    rig.wait(&mut agent, "both checkpoints", |rig| rig.place.checkpoints().len() == 2);
    rig.node.work(Duration::from_millis(300));
    agent.kill();
    rig
}

/// The ways in which a disk spoils a file.
fn spoil(path: &Path, way: usize) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    match way {
        0 => bytes.truncate(middle),
        1 => bytes.clear(),
        2 => bytes.fill(0),
        3 => bytes[middle..].fill(0),
        _ => bytes[middle] ^= 0x10,
    }
    fs::write(path, bytes).unwrap();
}

const WAYS: usize = 5;

#[test]
fn one_bad_checkpoint_repeats_a_little_and_loses_nothing() {
    let mut rig = interrupted(200);
    for way in 0..WAYS {
        for generation in 0..2 {
            let files = rig.place.checkpoints();
            assert_eq!(files.len(), 2);
            spoil(&files[generation], way);
            let mut agent = rig.place.agent();
            rig.node.work(Duration::from_millis(150));
            rig.settle(&mut agent);
            // Both generations are whole again before the next one is spoilt.
            rig.node.work(Duration::from_millis(50));
            rig.settle(&mut agent);
            agent.terminate();
        }
    }
    rig.judge();
    rig.judge_no_gap();
}

#[test]
fn two_bad_checkpoints_stop_the_agent_until_they_are_set_aside() {
    for way in 0..WAYS {
        let mut rig = interrupted(201);
        rig.place.checkpoints().iter().for_each(|path| spoil(path, way));
        let (raw, events) = (rig.raw(), rig.broker.look(|got| got.numbers.len()));
        let mut agent = rig.place.agent();
        let status = agent.end(END);
        assert!(status.code().is_some_and(|code| code > 0), "{status}");
        assert!(agent.said().contains("state reset"), "{}", agent.said());
        assert_eq!(rig.raw(), raw, "it deletes nothing");
        assert_eq!(rig.broker.look(|got| got.numbers.len()), events, "it publishes nothing");
        let (code, said) = rig.place.run(&["state", "reset"]);
        assert_eq!(code, Some(0), "{said}");
        let kept = list(&rig.place.state).iter().filter(|name| name.starts_with("checkpoint.")).count();
        assert_eq!(kept, 2, "they are kept: {:?}", list(&rig.place.state));
        let mut agent = rig.place.agent();
        rig.settle(&mut agent);
        agent.terminate();
        rig.judge();
        rig.judge_no_gap();
    }
}

/// The agent must not go on with acknowledgements that it could not write down.
#[test]
fn a_state_write_that_fails_ends_the_agent_and_loses_nothing() {
    let mut rig = interrupted(202);
    let places = super::kills::places_of_run();
    let writes: Vec<&String> = places.iter().filter(|place| place.starts_with("checkpoint.")).collect();
    assert!(writes.len() >= 3, "{places:?}");
    for place in writes {
        for error in ["ENOSPC", "EIO"] {
            let mut agent = rig.place.agent_with(Some(&format!("{place}={error}:1")));
            let mut rounds = 0;
            while agent.ended().is_none() && rounds < 100 {
                rig.node.work(Duration::from_millis(100));
                rounds += 1;
            }
            let status = agent.end(Duration::from_secs(1));
            assert!(status.code().is_some_and(|code| code > 0), "{place}={error}: {status}");
        }
    }
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}

/// With every save failing from the first one on, nothing may go.
#[test]
fn nothing_is_deleted_while_the_state_can_not_be_written() {
    let mut rig = Rig::new(Options::new(seed(203)));
    rig.node.write_many(Kind::Cdc, 2000);
    rig.node.sync();
    let raw = rig.raw();
    for _ in 0..3 {
        let mut agent = rig.place.agent_with(Some("checkpoint.fsync=EIO:1"));
        let status = agent.end(END);
        assert!(status.code().is_some_and(|code| code > 0), "{status}");
        assert_eq!(rig.raw(), raw);
    }
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.judge();
}

#[test]
fn a_state_directory_that_can_not_be_written_is_refused() {
    let mut rig = Rig::new(Options::new(seed(204)));
    rig.node.write_many(Kind::Cdc, 1000);
    rig.node.sync();
    let raw = rig.raw();
    fs::create_dir(&rig.place.state).unwrap();
    let mut command = rig.place.command(&["run"]);
    // Root may write anywhere: then the agent runs as somebody else, to whom all but the state belongs.
    if rig.path().metadata().unwrap().uid() == 0 {
        const NOBODY: u32 = 65534;
        for path in [rig.path(), &rig.node.cdc_raw, &rig.place.state] {
            std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    fs::set_permissions(&rig.place.state, fs::Permissions::from_mode(0o500)).unwrap();
    let output = match command.output() {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            eprintln!("the program itself can't be run by another user here: not tested");
            return;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code > 0), "{}: {said}", output.status);
    assert!(said.contains(rig.place.state.to_str().unwrap()), "{said}");
    assert_eq!(rig.raw(), raw);
    fs::set_permissions(&rig.place.state, fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_second_agent_is_refused() {
    let mut rig = Rig::new(Options::new(seed(205)));
    let mut agent = rig.place.agent();
    agent.wait_ready(END);
    let (code, said) = rig.place.run(&["run"]);
    assert!(code.is_some_and(|code| code > 0), "{said}");
    assert!(said.contains("another agent"), "{said}");
    rig.node.work(Duration::from_millis(300));
    rig.settle(&mut agent);
    rig.judge();
}

#[test]
fn the_state_of_another_node_is_refused_until_it_is_adopted() {
    let mut rig = interrupted(206);
    let other = "00000000-0000-4000-8000-00000000beef";
    rig.place.configure(other);
    let (raw, events) = (rig.raw(), rig.broker.look(|got| got.numbers.len()));
    let (code, said) = rig.place.run(&["run"]);
    assert!(code.is_some_and(|code| code > 0), "{said}");
    assert!(said.contains("state adopt") && said.contains("state reset"), "{said}");
    assert_eq!((rig.raw(), rig.broker.look(|got| got.numbers.len())), (raw, events));
    // Adopted, and adopted back: its own ids again.
    for host in [other, HOST] {
        rig.place.configure(host);
        let (code, said) = rig.place.run(&["state", "adopt"]);
        assert_eq!(code, Some(0), "{said}");
    }
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.judge();
    rig.judge_no_gap();
}
