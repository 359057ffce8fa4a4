//! One record that the broker does not take, among many that it does.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rdkafka::types::RDKafkaRespErr as Code;
use serde_json::Value;

use super::desk::{Desk, LETTERS};
use super::mutations::{Kind, TOPIC};
use super::node::{Options, Written};

/// Marks two of many entries as such that the broker will never take, and gives their numbers.
fn two_bad_ones(desk: &mut Desk) -> [u32; 2] {
    let first = desk.rig.node.journal.len() as u32;
    desk.rig.node.write_many(Kind::Cdc, 400);
    desk.rig.node.sync();
    let bad = [first + 130, first + 131];
    for number in bad {
        // A dead letter is expected, and no event.
        desk.rig.node.journal[number as usize].kind = Kind::Unknown;
    }
    bad
}

/// What stands in the event of the entry with this number, and in no other.
fn text_of(number: u32) -> String {
    format!("\"n\":{{\"value\":{number},")
}

/// The entry as it stands in the segment: its body, and the checksum behind it.
fn entry(desk: &Desk, written: &Written, size: usize) -> (Vec<u8>, String) {
    let log = desk.rig.node.commitlog.join(desk.rig.node.log_name(written.segment));
    let bytes = fs::read(log).unwrap();
    let end = written.position as usize;
    let crc = bytes[end - 4..end].iter().map(|byte| format!("{byte:02x}")).collect();
    (bytes[end - 4 - size..end - 4].to_vec(), crc)
}

fn letters(desk: &Desk) -> Vec<Value> {
    desk.rig.broker.look(|got| got.letters.clone())
}

fn quarantined(desk: &Desk) -> Vec<Value> {
    let output = desk.rig.place.command(&["quarantine", "list", "-o", "jsonl"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The broker refuses each batch with a bad record in it. Both are found, dead-lettered with their bytes, and kept here
/// too; all the others come, in order.
fn are_isolated(code: Code) {
    let mut desk = Desk::new(Options::new(400), &[]);
    let bad = two_bad_ones(&mut desk);
    let largest = Arc::new(AtomicI32::new(0));
    desk.front.refuse({
        let largest = Arc::clone(&largest);
        move |batch| {
            largest.fetch_max(batch.count, Ordering::Relaxed);
            bad.iter().any(|number| batch.holds(&text_of(*number))).then_some(code)
        }
    });
    let mut agent = desk.agent();
    desk.settles(&mut agent);
    assert!(largest.load(Ordering::Relaxed) > 1, "no batch was refused");
    let letters = letters(&desk);
    assert_eq!(letters.len(), 2, "{letters:?}");
    for (letter, number) in letters.iter().zip(bad) {
        let written = desk.rig.node.journal[number as usize].clone();
        let body = STANDARD.decode(letter["entry"]["base64"].as_str().unwrap()).unwrap();
        let (expected, crc) = entry(&desk, &written, body.len());
        assert_eq!((&letter["reason"], &letter["entry"]["crc"]), (&"refused".into(), &crc.into()), "{letter}");
        assert_eq!(letter["entry"]["position"], written.position);
        assert!(body == expected, "{letter}");
        assert!(letter["detail"].as_str().unwrap().contains("Kafka refuses its events"), "{letter}");
    }
    assert_eq!(desk.metric("dead_letter_records_total"), 2);
    assert!(desk.metric("isolation_runs_total") >= 1);
    // Behind them all goes together again.
    largest.store(0, Ordering::Relaxed);
    desk.rig.node.write_many(Kind::Cdc, 400);
    desk.settles(&mut agent);
    assert!(largest.load(Ordering::Relaxed) > 1, "one at a time for ever");
    agent.terminate();
    are_kept(&desk, &letters, bad);
}

/// What was dead-lettered lies in the quarantine, and leaves it: published, or dropped.
fn are_kept(desk: &Desk, letters: &[Value], bad: [u32; 2]) {
    let mut kept = quarantined(desk);
    kept.sort_by_key(|row| row["id"].to_string());
    assert_eq!(kept.len(), 2);
    for (row, letter) in kept.iter().zip(letters) {
        assert_eq!((&row["id"], &row["reason"]), (&letter["id"], &letter["reason"]));
        let name = row["name"].as_str().unwrap();
        let output = desk.rig.place.command(&["quarantine", "show", name]).output().unwrap();
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(shown, *letter);
    }
    let names: Vec<&str> = kept.iter().map(|row| row["name"].as_str().unwrap()).collect();
    // Still refused: it stays.
    let (code, said) = desk.rig.place.run(&["quarantine", "retry", names[0]]);
    assert!(code.is_some_and(|code| code > 0), "{said}");
    assert_eq!(quarantined(desk).len(), 2, "{said}");
    desk.front.refuse(|_| None);
    let (code, said) = desk.rig.place.run(&["quarantine", "retry", names[0]]);
    assert!(code == Some(0) && said.contains("published, and dropped"), "{said}");
    let patience = std::time::Instant::now() + Duration::from_secs(60);
    while !desk.rig.broker.look(|got| got.numbers.contains(&bad[0])) {
        assert!(std::time::Instant::now() < patience, "it was not published: {said}");
        std::thread::sleep(Duration::from_millis(20));
    }
    let id = desk.rig.broker.look(|got| got.events.last().unwrap().id.clone());
    assert_eq!(id, format!("{}/0", letters[0]["id"].as_str().unwrap()), "under the id that it always had");
    assert_eq!(quarantined(desk).iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), names[1..]);
    let (code, said) = desk.rig.place.run(&["quarantine", "drop", names[1]]);
    assert_eq!(code, Some(0), "{said}");
    assert!(quarantined(desk).is_empty());
    assert!(desk.rig.broker.look(|got| !got.numbers.contains(&bad[1])));
}

#[test]
fn an_invalid_record_is_dead_lettered_alone() {
    are_isolated(Code::RD_KAFKA_RESP_ERR_INVALID_RECORD);
}

#[test]
fn a_record_too_large_for_its_topic_is_dead_lettered_alone() {
    are_isolated(Code::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE);
}

/// The dead letter is refused as well, for the whole topic or for itself: nothing is skipped.
#[test]
fn a_dead_letter_that_is_refused_holds_until_it_is_taken() {
    for (code, reason) in [
        (Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "authorization"),
        (Code::RD_KAFKA_RESP_ERR_INVALID_RECORD, "dead-letter-topic"),
    ] {
        let mut desk = Desk::new(Options::new(401), &[]);
        desk.rig.node.write_many(Kind::Cdc, 50);
        desk.rig.node.write(Kind::Unknown);
        desk.rig.node.write_many(Kind::Cdc, 50);
        desk.rig.node.fill(2);
        desk.rig.node.sync();
        desk.front.refuse(move |batch| (batch.topic == LETTERS).then_some(code));
        let mut agent = desk.agent();
        desk.is_held(&mut agent, reason);
        assert!(letters(&desk).is_empty());
        let raw = desk.rig.raw();
        agent.kill();
        let mut agent = desk.agent();
        desk.is_held(&mut agent, reason);
        assert_eq!(desk.rig.raw(), raw, "it goes on where it was");
        desk.front.refuse(|_| None);
        desk.settles(&mut agent);
        let letters = letters(&desk);
        let [letter] = &letters[..] else { panic!("{letters:?}") };
        assert_eq!(letter["reason"], "unknown-table", "what was wrong with the entry, not with the topic");
        agent.terminate();
    }
}

/// A bad record, and nowhere to put it.
#[test]
fn a_bad_record_whose_dead_letter_is_refused_holds_until_it_is_taken() {
    // One key, so one partition: its order is all there is.
    let mut desk = Desk::new(Options { keys: 1, ..Options::new(402) }, &[]);
    let bad = two_bad_ones(&mut desk);
    let refuses = move |topic: &str, is_bad: bool| topic == LETTERS || topic == TOPIC && is_bad;
    desk.front.refuse(move |batch| {
        let is_bad = bad.iter().any(|number| batch.holds(&text_of(*number)));
        refuses(&batch.topic, is_bad).then_some(Code::RD_KAFKA_RESP_ERR_INVALID_RECORD)
    });
    let mut agent = desk.agent();
    desk.is_held(&mut agent, "dead-letter-topic");
    // Nothing behind the first bad one has come.
    let newest = desk.rig.broker.look(|got| got.numbers.iter().max().copied());
    assert_eq!(newest, Some(bad[0] - 1));
    desk.front.refuse(move |batch| {
        let is_bad = bad.iter().any(|number| batch.holds(&text_of(*number)));
        is_bad.then_some(Code::RD_KAFKA_RESP_ERR_INVALID_RECORD)
    });
    desk.settles(&mut agent);
    assert_eq!(letters(&desk).len(), 2);
}
