//! Every event of every recorded case against what Cassandra's own reader saw: the same changes in the same order at
//! the same positions; all values, keys and paths turned back into Cassandra's bytes.
//!
//! Each case is replayed in every form that events have: whole, a row at a time, cut into small records, with integers
//! as strings, in Protobuf. From each form the same changes must come out.
//!
//! What is known and not counted as a difference, read off the expected lines and not off a case's name:
//!
//! - A table that only an older schema had (`known_at_end` is false): its entries must be named on stderr as undecodable,
//!   with their positions; the updates before it in its mutation are published.
//! - An entry that Cassandra's reader refuses as `undecodable`: it must be named in the same way.
//! - An entry that it drops because the reader of a later release lacks one of 3.11's system tables: not CDC.
//! - A case that keeps the lines of its first mutations only: those are compared, the rest is counted.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;
use support::cql::Types;
use support::load::{self, Case};
use support::oracle::{self, Change, Expected, Update};
use support::{Laid, Ran, Summary, protobuf, rebuild, segment_id, whole};

/// A change at its place: segment, position, index among the updates of its mutation.
type At = (String, u32, usize);

/// What must come out of a case.
struct Truth<'e> {
    changes: Vec<(At, &'e Update)>,
    undecodable: BTreeSet<(String, u32)>,
    summary: Summary,
    /// Set where only so many of the changes are known.
    is_part: bool,
}

impl<'e> Truth<'e> {
    fn of(expected: &'e Expected) -> Self {
        let mut changes = Vec::new();
        let mut undecodable = BTreeSet::new();
        let mut published = 0;
        for mutation in &expected.mutations {
            let at = |index| (mutation.segment.clone(), mutation.position, index);
            let before = changes.len();
            changes.extend(mutation.published().map(|(index, update)| (at(index), update)));
            if mutation.is_unknown() {
                undecodable.insert((mutation.segment.clone(), mutation.position));
            } else if changes.len() > before {
                published += 1;
            }
        }
        for skipped in &expected.skipped {
            match skipped.reason.as_str() {
                "undecodable" => {
                    undecodable.insert((skipped.segment.clone(), skipped.position));
                }
                "unknown_table" => {}
                other => panic!("skipped for an unknown reason {other}"),
            }
        }
        let is_part = expected.counted > expected.mutations.len() as u64;
        let entries = expected.counted + expected.skipped.len() as u64;
        let bad = undecodable.len() as u64;
        let summary = Summary {
            segments: expected.sections.len() as u64,
            entries,
            published,
            events: 0,
            not_cdc: entries - published - bad,
            filtered: 0,
            undecodable: bad,
            damages: 0,
        };
        Self { changes, undecodable, summary, is_part }
    }
}

/// A form of events: the options that ask for it, and the way back to whole events.
struct Form {
    name: &'static str,
    options: &'static [&'static str],
    join: fn(Vec<Value>) -> Result<Vec<Value>, String>,
}

const FORMS: [Form; 6] = [
    Form { name: "whole", options: &[], join: Ok },
    Form { name: "rows", options: &["--unit", "row"], join: whole::join_rows },
    Form { name: "parts", options: &["--max-record-bytes", "4096"], join: whole::join_parts },
    Form {
        name: "parts of rows",
        options: &["--unit", "row", "--max-record-bytes", "4096"],
        join: |events| whole::join_rows(whole::join_parts(events)?),
    },
    Form { name: "strings", options: &["--int64", "string", "--key-format", "raw"], join: Ok },
    Form { name: "protobuf", options: &["--format", "protobuf"], join: whole::join_parts },
];

/// What was found in one case.
struct Findings<'c> {
    case: &'c Case,
    differences: Vec<String>,
    /// Events beyond one for each change, over all forms: how much was cut and put together again.
    pieces: usize,
    /// Events with a piece of a value in them.
    chunks: usize,
}

impl Findings<'_> {
    fn differ(&mut self, form: &Form, what: impl std::fmt::Display) {
        self.differences.push(format!("{} ({}): {what}", self.case.name, form.name));
    }
}

/// Compares one case in all forms; says how many changes were compared in each.
fn check(case: &Case, findings: &mut Findings<'_>) -> usize {
    let expected = oracle::read(&case.folder.join("expected.jsonl.gz"));
    let truth = Truth::of(&expected);
    let schema: Value = serde_json::from_slice(&load::read(&case.folder.join("schema.json"))).unwrap();
    let types = Types::of(&schema);
    let laid = Laid::new(case);
    let mut digests = BTreeMap::new();
    if truth.is_part {
        check_part(&truth, &types, &laid, findings);
        return truth.changes.len();
    }
    for form in &FORMS {
        let (ran, events) = replay(&laid, form);
        check_ending(&truth, form, &ran, events.len(), findings);
        check_sizes(form, &events, findings);
        check_unique(form, &events, findings);
        findings.pieces += events.len().saturating_sub(truth.changes.len());
        findings.chunks += events.iter().filter(|event| event.to_string().contains("\"$chunk\"")).count();
        let events = match (form.join)(events) {
            Ok(events) => events,
            Err(error) => {
                findings.differ(form, error);
                continue;
            }
        };
        check_changes(&truth, &types, form, &events, findings);
        check_digests(form, &events, &mut digests, findings);
    }
    truth.changes.len()
}

/// A case of which only the first mutations are known: those events are compared, the others are counted.
fn check_part(truth: &Truth<'_>, types: &Types, laid: &Laid, findings: &mut Findings<'_>) {
    let form = &FORMS[0];
    let mut ran = laid.replay(form.options);
    let lines = ran.lines().len();
    check_ending(truth, form, &ran, lines, findings);
    let known = ran.out.split_inclusive(|byte| *byte == b'\n').take(truth.changes.len()).map(<[u8]>::len).sum();
    ran.out.truncate(known);
    check_changes(truth, types, form, &ran.events(), findings);
}

fn replay(laid: &Laid, form: &Form) -> (Ran, Vec<Value>) {
    if !form.options.contains(&"protobuf") {
        let ran = laid.replay(form.options);
        let events = ran.events();
        return (ran, events);
    }
    let file = laid.file(form.name);
    let mut arguments = laid.replay_of(&laid.raw());
    arguments.extend(args!["--sink", "file", "--output", file]);
    let ran = support::run(arguments.into_iter().chain(form.options.iter().map(Into::into)));
    let events = protobuf::events(&fs::read(&file).expect("the output")).expect("messages");
    (ran, events)
}

/// Exit code, the entries that are named on stderr, and the sum at the end.
fn check_ending(truth: &Truth<'_>, form: &Form, ran: &Ran, events: usize, findings: &mut Findings<'_>) {
    let code = if truth.undecodable.is_empty() { 0 } else { 65 };
    if ran.code != Some(code) {
        findings.differ(form, format_args!("exit {:?}, expected {code}: {}", ran.code, ran.err));
    }
    let named: BTreeSet<(String, u32)> = ran.err.lines().filter_map(undecodable).collect();
    if named != truth.undecodable {
        findings.differ(form, format_args!("undecodable: {named:?}, expected {:?}", truth.undecodable));
    }
    let summary = ran.summary();
    let mut expected = Summary { events: summary.events, ..truth.summary };
    if truth.is_part {
        expected = Summary { published: summary.published, not_cdc: summary.not_cdc, ..expected };
    }
    if summary != expected || !summary.adds_up() {
        findings.differ(form, format_args!("{summary:?}, expected {expected:?}"));
    }
    // Events before an undecodable update of a mutation are published, but its entry does not count as such.
    if truth.undecodable.is_empty() && summary.events != events as u64 {
        findings.differ(form, format_args!("{events} events, the summary says {}", summary.events));
    }
}

/// Segment and position in `…: CommitLog-7-17.log: the entry that ends at position 300 can't be decoded: …`.
fn undecodable(line: &str) -> Option<(String, u32)> {
    let (before, after) = line.split_once(": the entry that ends at position ")?;
    let position = after.split_once(" can't be decoded: ")?.0.parse().ok()?;
    Some((before.rsplit(' ').next()?.to_owned(), position))
}

/// The limit counts key and value; a deletion, or a value's last few bytes, can't be cut further.
fn check_sizes(form: &Form, events: &[Value], findings: &mut Findings<'_>) {
    if !form.options.contains(&"4096") {
        return;
    }
    for event in events {
        let size = event.to_string().len() + event["key"].to_string().len();
        if size > 4096 {
            findings.differ(form, format_args!("{} has {size} bytes", event["id"]));
        }
    }
}

fn check_unique(form: &Form, events: &[Value], findings: &mut Findings<'_>) {
    let ids: BTreeSet<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    if ids.len() != events.len() {
        findings.differ(form, format_args!("{} ids of {} events", ids.len(), events.len()));
    }
}

fn check_changes(truth: &Truth<'_>, types: &Types, form: &Form, events: &[Value], findings: &mut Findings<'_>) {
    if events.len() < truth.changes.len() || !truth.is_part && events.len() > truth.changes.len() {
        findings.differ(form, format_args!("{} events, expected {}", events.len(), truth.changes.len()));
    }
    for ((at, update), event) in truth.changes.iter().zip(events) {
        let (segment, position, index) = at;
        let expected_id = format!("unknown/unknown/{}/{position}/{index}", segment_id(segment));
        let source = serde_json::json!({
            "cluster": "unknown", "host_id": "unknown", "segment": segment, "position": position,
        });
        if event["id"] != expected_id.as_str() || event["source"] != source {
            findings.differ(form, format_args!("{} {}, expected {expected_id}", event["id"], event["source"]));
            return;
        }
        if let Err(error) = rebuild::change(types, event).and_then(|rebuilt| compare(update, &rebuilt)) {
            findings.differ(form, format_args!("{expected_id}: {error}"));
        }
    }
}

fn compare(update: &Update, rebuilt: &Change) -> Result<(), String> {
    let Some(change) = update.change() else {
        let expected = (&update.keyspace, &update.table, &update.table_id, &update.key, update.counts());
        let found = (&rebuilt.keyspace, &rebuilt.table, &rebuilt.table_id, &rebuilt.key, rebuilt.counts());
        return if expected == found { Ok(()) } else { Err(format!("{found:?}, expected {expected:?}")) };
    };
    if change == *rebuilt { Ok(()) } else { Err(format!("\n  expected {change:?}\n  found    {rebuilt:?}")) }
}

/// Equal changes have equal digests, others have others; and no form changes them.
///
/// One exception: a deletion alone may bring the names of columns whose cells it swept away before they were written.
/// They are in the bytes that are digested, and in no event.
fn check_digests(form: &Form, events: &[Value], digests: &mut BTreeMap<String, String>, findings: &mut Findings<'_>) {
    let (mut by_content, mut by_digest) = (BTreeMap::new(), BTreeMap::new());
    for event in events {
        let (id, digest) = (event["id"].to_string(), event["digest"].to_string());
        let is_deletion = event.get("rows").or(event.get("static")).is_none();
        let mut content = event.clone();
        let members = content.as_object_mut().expect("an event");
        members.retain(|name, _| !["id", "digest", "source"].contains(&name.as_str()));
        let content = content.to_string();
        let known = by_content.insert(content.clone(), digest.clone());
        if digest.len() != 34 || !is_deletion && known.is_some_and(|known| known != digest) {
            findings.differ(form, format_args!("{id}: another digest than the same change elsewhere"));
        }
        if by_digest.insert(digest.clone(), content.clone()).is_some_and(|known| known != content) {
            findings.differ(form, format_args!("{id}: the digest of another change"));
        }
        if digests.insert(id.clone(), digest.clone()).is_some_and(|known| known != digest) {
            findings.differ(form, format_args!("{id}: another digest than in another form"));
        }
    }
}

/// All cases of one release.
fn release(name: &str) {
    let prefix = format!("{name}-");
    let (mut compared, mut pieces, mut chunks, mut differences) = (0, 0, 0, Vec::new());
    for case in load::cases().into_iter().filter(|case| case.name.starts_with(&prefix)) {
        let mut findings = Findings { case: &case, differences: Vec::new(), pieces: 0, chunks: 0 };
        let changes = check(&case, &mut findings);
        println!("{}: {changes} changes, {} differences", case.name, findings.differences.len());
        compared += changes;
        pieces += findings.pieces;
        chunks += findings.chunks;
        differences.extend(findings.differences);
    }
    for difference in differences.iter().take(5) {
        println!("{}", &difference[..difference.floor_char_boundary(2000)]);
    }
    println!("{name}: {compared} changes, {pieces} pieces, {chunks} with chunks");
    assert!(compared > 500, "only {compared} changes were compared");
    assert!(pieces > 100 && chunks > 10, "only {pieces} pieces, {chunks} with chunks");
    assert_eq!(differences.len(), 0, "{} differences in {compared} changes", differences.len());
}

#[test]
fn events_of_3_11_are_what_cassandra_wrote() {
    release("3.11");
}

#[test]
fn events_of_4_0_are_what_cassandra_wrote() {
    release("4.0");
}

#[test]
fn events_of_4_1_are_what_cassandra_wrote() {
    release("4.1");
}

#[test]
fn events_of_5_0_are_what_cassandra_wrote() {
    release("5.0");
}

#[test]
fn events_of_5_0_without_compatibility_are_what_cassandra_wrote() {
    release("5.0none");
}

#[test]
fn events_of_6_0_are_what_cassandra_wrote() {
    release("6.0");
}

/// No case is left out because its name begins with another release.
#[test]
fn every_case_belongs_to_a_release() {
    for case in load::cases() {
        let release = case.name.split_once('-').expect("a release").0;
        assert!(["3.11", "4.0", "4.1", "5.0", "5.0none", "6.0"].contains(&release), "{}", case.name);
    }
}
