//! What can happen to the agent's own record.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::agent::HOST;
use super::mutations::Kind;
use super::node::{Options, list};
use super::rig::Rig;
use super::seed;
use super::segment::index_name;

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

/// All that is present counts as unread then.
#[test]
fn two_bad_checkpoints_are_set_aside_and_nothing_is_lost() {
    for way in 0..WAYS {
        let mut rig = interrupted(201);
        rig.place.checkpoints().iter().for_each(|path| spoil(path, way));
        let mut agent = rig.place.agent();
        agent.wait_ready(END);
        rig.settle(&mut agent);
        assert!(agent.said().contains("both are set aside"), "{}", agent.said());
        let aside = |name: &String| name.strip_prefix("checkpoint.").is_some_and(|rest| rest.contains('.'));
        assert_eq!(list(&rig.place.state).iter().filter(|name| aside(name)).count(), 2, "{:?}", list(&rig.place.state));
        agent.terminate();
        rig.judge();
        rig.judge_no_gap();
    }
}

/// It says no more what is missing: a person has to look, and nothing else waits for that.
#[test]
fn a_damaged_gap_record_is_told_and_kept() {
    let mut rig = Rig::new(Options::new(seed(207)));
    rig.orphan_index();
    let mut agent = rig.place.agent();
    agent.wait_ready(END);
    // Without Kafka it is recorded and not published.
    rig.broker.down();
    rig.orphan_index();
    let gaps = rig.place.state.join("gaps");
    let unpublished = |rig: &Rig| -> Vec<String> {
        let orphans = rig.orphans.iter().map(|id| rig.node.log_name(*id)).collect::<Vec<_>>();
        let is_ours = |name: &String| orphans.iter().any(|log| name.starts_with(log)) && !name.contains(".published.");
        list(&gaps).into_iter().filter(is_ours).collect()
    };
    rig.wait(&mut agent, "a gap record", |rig| !unpublished(rig).is_empty());
    agent.kill();
    let name = unpublished(&rig).remove(0);
    let whole = fs::read(gaps.join(&name)).unwrap();
    // A record without a checksum: a bit that makes it another good one is not noticed.
    for way in 0..WAYS - 1 {
        fs::write(gaps.join(&name), &whole).unwrap();
        spoil(&gaps.join(&name), way);
        let mut agent = rig.place.agent();
        agent.wait_ready(END);
        assert!(agent.said().contains(&format!("{name} is a damaged gap record")), "{}", agent.said());
        agent.kill();
    }
    rig.broker.up();
    let mut agent = rig.place.agent();
    rig.node.work(Duration::from_millis(200));
    rig.settle(&mut agent);
    agent.terminate();
    assert!(list(&gaps).contains(&name), "{:?}", list(&gaps));
    rig.judge();
    rig.judge_gaps();
}

/// A loss that can't be written down is not acted upon.
#[test]
fn a_gap_record_that_can_not_be_written_ends_the_agent_and_keeps_the_evidence() {
    let mut rig = Rig::new(Options::new(seed(208)));
    rig.orphan_index();
    let evidence: Vec<_> =
        rig.orphans.iter().map(|id| rig.node.cdc_raw.join(index_name(&rig.node.log_name(*id)))).collect();
    for fault in ["create=ENOSPC", "write=ENOSPC", "fsync=EIO", "rename=EIO", "fsync-directory=EIO"] {
        let mut agent = rig.place.agent_with(Some(&format!("gap.{fault}:1")));
        let status = agent.end(END);
        assert!(status.code().is_some_and(|code| code > 0), "{fault}: {status}");
        assert!(evidence.iter().all(|index| index.exists()), "{fault}");
    }
    let mut agent = rig.place.agent();
    rig.settle(&mut agent);
    rig.wait(&mut agent, "the gap record", |rig| rig.gaps().len() == 1);
    rig.judge();
    rig.judge_gaps();
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
    rig.place.give_up_root();
    fs::set_permissions(&rig.place.state, fs::Permissions::from_mode(0o500)).unwrap();
    let output = rig.place.command(&["run"]).output().unwrap();
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
