//! Damaged segments: several hundred copies of recorded ones, each broken in a known way at a known place.
//!
//! From each copy exactly the events before the damage must come, then exit 65, with the segment and the place on
//! stderr; with `--salvage` those behind the damage too. Never a crash, never much time or memory. What is broken, and
//! so what may be missing, is worked out from the sections and positions that Cassandra's own reader saw.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use base64::Engine as _;
use flate2::Crc;
use serde_json::Value;
use support::oracle::{self, Expected, Section};
use support::{BINARY, Laid, Ran, position, whole};

/// Bytes of address space that a run may take, and seconds of processor time.
const LIMITS: &str = "ulimit -v 2097152 && ulimit -t 10 && exec \"$@\"";

/// Bytes of a marker: offset of the next, then a checksum of segment id and own offset, not of the offset of the next.
const MARKER: u32 = 8;

/// The same numbers in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % u64::from(limit)) as u32
    }

    fn within(&mut self, range: std::ops::Range<u32>) -> u32 {
        range.start + self.below(range.end - range.start)
    }
}

/// A good segment, what is in it, and what a replay of it gives.
struct Specimen {
    laid: Laid,
    path: PathBuf,
    bytes: Vec<u8>,
    sections: Vec<Section>,
    /// Begin and end of each entry, logical.
    entries: Vec<(u32, u32)>,
    /// The lines of a good replay, each with its position.
    good: Vec<(u32, String)>,
}

/// What stands at a place of a plain segment, and where it begins.
#[derive(Debug, Clone, Copy)]
enum Part {
    Descriptor,
    Marker { at: u32, section: Section },
    Entry { start: u32, end: u32, section: Section },
}

impl Specimen {
    fn new(case: &str) -> Self {
        let laid = Laid::own(case);
        let path = laid.largest();
        let name = path.file_name().unwrap().to_str().unwrap();
        let Expected { mutations, mut sections, .. } =
            oracle::read(&support::load::own_case(case).folder.join("expected.jsonl.gz"));
        let ours = mutations.iter().filter(|mutation| mutation.segment == name);
        let entries = ours.map(|mutation| (mutation.position - mutation.size - 12, mutation.position)).collect();
        let sections = sections.remove(name).unwrap();
        let mut specimen = Self { bytes: fs::read(&path).unwrap(), path, sections, entries, good: Vec::new(), laid };
        let ran = specimen.replay(&[]).expect(0);
        specimen.good = lines(&ran);
        assert!(specimen.good.len() > 50);
        specimen
    }

    fn name(&self) -> &str {
        self.path.file_name().unwrap().to_str().unwrap()
    }

    /// Where the last section ends in the file.
    fn used(&self) -> u32 {
        self.sections.last().unwrap().end
    }

    /// The first place that a change can be read from, so that chance does not only hit Cassandra's own tables.
    fn first_change(&self) -> u32 {
        self.good[0].0
    }

    fn replay(&self, more: &[&str]) -> Ran {
        let arguments = self.laid.replay_of(&self.path);
        let mut command = Command::new("sh");
        command.args(["-c", LIMITS, "sh", BINARY]).args(arguments).args(["--sink", "stdout"]).args(more);
        command.env_remove("RUST_LOG").output().unwrap().into()
    }

    /// Replays other bytes in the place of the good ones.
    fn replay_bytes(&self, bytes: &[u8], more: &[&str]) -> Ran {
        fs::write(&self.path, bytes).unwrap();
        let ran = self.replay(more);
        fs::write(&self.path, &self.bytes).unwrap();
        ran
    }

    /// The good lines of entries that end at this position or before it.
    fn before(&self, position: u32) -> Vec<(u32, String)> {
        self.good.iter().filter(|(at, _)| *at <= position).cloned().collect()
    }

    /// What stands at an offset of a plain segment.
    fn part(&self, at: u32) -> Part {
        let Some(section) = self.sections.iter().rfind(|section| section.start - MARKER <= at).copied() else {
            return Part::Descriptor;
        };
        match self.entries.iter().find(|(start, end)| (*start..*end).contains(&at)) {
            Some(&(start, end)) => Part::Entry { start, end, section },
            None => Part::Marker { at: section.start - MARKER, section },
        }
    }

    /// Damage must be told with the segment's name, the structure and its place.
    #[track_caller]
    fn check_told(&self, ran: &Ran, what: &str) {
        assert_eq!(ran.code, Some(65), "{what}: {}", ran.err);
        let told = ran.err.lines().any(|line| {
            let place = line.strip_prefix(&format!("cassandra-cdc: {}: ", self.name()));
            place.is_some_and(|place| place.contains(" at file offset ") || place.contains(" at position "))
        });
        assert!(told, "{what}: {}", ran.err);
    }

    /// A damaged copy gives the events before `until` and no other, and the summary says so.
    #[track_caller]
    fn check(&self, bytes: &[u8], until: u32, what: &str) {
        assert_ne!(bytes, self.bytes, "{what}: nothing is damaged");
        let ran = self.replay_bytes(bytes, &[]);
        self.check_told(&ran, what);
        let (found, expected) = (lines(&ran), self.before(until));
        assert_eq!(found.len(), expected.len(), "{what}: {}", ran.err);
        assert!(found == expected, "{what}: other events than before");
        let summary = ran.summary();
        assert!(summary.adds_up() && summary.damages == 1, "{what}: {summary:?}");
        assert_eq!((summary.segments, summary.events), (1, found.len() as u64), "{what}");
    }
}

/// The lines of a replay, each with its position.
fn lines(ran: &Ran) -> Vec<(u32, String)> {
    let events = ran.events();
    events.iter().map(position).zip(ran.lines().into_iter().map(str::to_owned)).collect()
}

fn crc(bytes: &[u8]) -> [u8; 4] {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum().to_be_bytes()
}

fn put(bytes: &[u8], at: u32, new: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at as usize..at as usize + new.len()].copy_from_slice(new);
    bytes
}

fn flip(bytes: &[u8], at: u32, bit: u32) -> Vec<u8> {
    put(bytes, at, &[bytes[at as usize] ^ (1 << bit)])
}

/// The offset that a marker gives for the next.
fn next_of(bytes: &[u8], marker: u32) -> i32 {
    i32::from_be_bytes(*bytes[marker as usize..].first_chunk().unwrap())
}

/// Where reading stops when a marker, whose checksum says nothing of it, gives another offset for the next.
fn stop_of(bytes: &[u8], marker: u32, section: Section) -> u32 {
    let next = u32::try_from(next_of(bytes, marker)).unwrap_or(0);
    if next < section.start || next as usize > bytes.len() { marker } else { next.min(section.end) }
}

#[test]
fn flipped_bits_are_found_where_they_are() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(1);
    let (used, first) = (specimen.used(), specimen.first_change());
    let anywhere: Vec<u32> = (0..40).map(|_| chance.below(used)).collect();
    let behind: Vec<u32> = (0..60).map(|_| chance.within(first..used)).collect();
    let markers: Vec<u32> = specimen.sections.iter().map(|section| section.start - 1 - chance.below(MARKER)).collect();
    let descriptor = 0..specimen.sections[0].start - MARKER;
    for at in anywhere.into_iter().chain(behind).chain(markers).chain(descriptor) {
        let bytes = flip(&specimen.bytes, at, chance.below(8));
        let part = specimen.part(at);
        let (until, place) = match part {
            Part::Descriptor => (0, None),
            Part::Entry { start, .. } => (start, Some(start)),
            Part::Marker { at: marker, section } if at < marker + 4 => (stop_of(&bytes, marker, section), None),
            Part::Marker { at: marker, .. } => (marker, Some(marker)),
        };
        let what = format!("bit at {at} in {part:?}");
        specimen.check(&bytes, until, &what);
        if let Some(place) = place {
            let err = specimen.replay_bytes(&bytes, &["--dry-run"]).err;
            let named = [format!(" at file offset {place}: "), format!(" at position {place}: ")];
            assert!(named.iter().any(|named| err.contains(named)), "{what}: {err}");
        }
    }
}

#[test]
fn cuts_end_the_segment_before_the_section_that_is_cut() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(2);
    let (used, first) = (specimen.used(), specimen.first_change());
    let mut cuts: Vec<u32> = (0..30).map(|_| chance.within(first..used)).collect();
    cuts.extend([1, 3, 19, 20, 21, 27, 28, 29]);
    // Where a section ends nothing in the segment says that more was there: its index does.
    cuts.extend(specimen.sections.iter().map(|section| section.end).filter(|end| *end < used).step_by(3));
    for cut in cuts {
        let whole = specimen.sections.iter().map(|section| section.end).filter(|end| *end <= cut);
        specimen.check(&specimen.bytes[..cut as usize], whole.max().unwrap_or(0), &format!("cut at {cut}"));
    }
}

#[test]
fn zeroed_tails_are_told_from_the_end_of_the_segment() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(3);
    let (used, first) = (specimen.used(), specimen.first_change());
    let mut starts: Vec<u32> = (0..30).map(|_| chance.within(first..used - 16)).collect();
    starts.extend([0, 4, 20, 24]);
    starts.extend(
        specimen.sections.iter().map(|section| section.start - MARKER).filter(|marker| *marker < used - 16).step_by(3),
    );
    starts.extend(specimen.entries.iter().map(|(start, _)| *start).step_by(20));
    for start in starts {
        // Zeros that were there before are not damaged.
        let first_lost = (start..).find(|at| specimen.bytes[*at as usize] != 0).unwrap();
        let until = match specimen.part(first_lost) {
            Part::Descriptor => 0,
            Part::Marker { at, .. } => at,
            Part::Entry { start, .. } => start,
        };
        let mut bytes = specimen.bytes.clone();
        bytes[start as usize..].fill(0);
        specimen.check(&bytes, until, &format!("zeros from {start}"));
    }
}

#[test]
fn lengths_that_lie_with_good_checksums_are_not_believed() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(4);
    let lies = [i32::MIN, -1, 0, 1, 9, 10, 4096, 1 << 20, i32::MAX];
    for section in specimen.sections.iter().step_by(4) {
        let marker = section.start - MARKER;
        let inside = chance.within(section.start..section.end.max(section.start + 1)) as i32;
        for lie in lies.into_iter().chain([inside, section.start as i32, section.end as i32 + 1]) {
            if lie == section.end as i32 {
                continue;
            }
            let bytes = put(&specimen.bytes, marker, &lie.to_be_bytes());
            let until = stop_of(&bytes, marker, *section);
            specimen.check(&bytes, until, &format!("marker at {marker} says {lie}"));
        }
    }
    for (start, end) in specimen.entries.iter().step_by(17) {
        let size = (end - start - 12) as i32;
        for lie in lies.into_iter().chain([size - 1, size + 1, size + 12]) {
            let lied = lie.to_be_bytes();
            let bytes = put(&specimen.bytes, *start, &[lied, crc(&lied)].concat());
            specimen.check(&bytes, *start, &format!("entry at {start} says {lie}"));
        }
    }
}

#[test]
fn what_is_no_segment_is_refused() {
    let specimen = Specimen::new("4.1-demo");
    specimen.check(b"", 0, "empty");
    specimen.check(&vec![0; 1 << 20], 0, "zeros");
    specimen.check(&vec![0xff; 1 << 20], 0, "ones");
    specimen.check(b"version: 7, and other text that is no segment", 0, "text");
    for version in [0_i32, 1, 5, 10, 42, -1] {
        let bytes = put(&specimen.bytes, 0, &version.to_be_bytes());
        specimen.check(&bytes, 0, "version");
        let err = specimen.replay_bytes(&bytes, &[]).err;
        assert!(err.contains(&format!("unknown commit-log version {version}")), "{err}");
    }
    // Another segment's name, and another version's: bytes in the wrong file are not published under its name.
    for other in ["CommitLog-7-1.log", &specimen.name().replace("CommitLog-7-", "CommitLog-6-")] {
        let path = specimen.path.with_file_name(other);
        fs::copy(&specimen.path, &path).unwrap();
        let ran = support::run(specimen.laid.replay_of(&path).into_iter().chain(["--sink".into(), "stdout".into()]));
        let ran = ran.expect(65);
        assert!(ran.out.is_empty());
        assert!(ran.err.contains(other) && ran.err.contains("its name and its descriptor disagree"), "{}", ran.err);
        fs::remove_file(path).unwrap();
    }
}

/// Compressed and encrypted sections can't be read from the middle: a section comes whole or not at all.
#[test]
fn flipped_bits_of_other_codecs_cost_what_follows_and_nothing_else() {
    for (case, seed) in [("4.1-lz4", 5), ("4.1-zstd", 6), ("4.1-deflate", 7), ("4.1-snappy", 8), ("4.1-encrypted", 9)] {
        let specimen = Specimen::new(case);
        let mut chance = Chance(seed);
        for _ in 0..16 {
            let at = chance.below(specimen.used());
            let what = format!("{case}: bit at {at}");
            let ran = specimen.replay_bytes(&flip(&specimen.bytes, at, chance.below(8)), &[]);
            // The padding that encryption makes up is not covered by any checksum.
            if ran.code == Some(0) {
                assert!(lines(&ran) == specimen.good, "{what}: events are missing");
                continue;
            }
            if ran.code == Some(78) {
                assert!(ran.err.contains("keystore") && ran.out.is_empty(), "{what}: {}", ran.err);
                continue;
            }
            specimen.check_told(&ran, &what);
            let damaged = specimen.sections.iter().find(|section| at < section.end).unwrap();
            let before =
                specimen.sections.iter().filter(|section| section.end < damaged.end).map(|section| section.logical_end);
            let before = specimen.before(before.max().unwrap_or(0));
            let found = lines(&ran);
            assert!(specimen.good.starts_with(&found) && found.starts_with(&before), "{what}: {}", ran.err);
            assert!(ran.summary().adds_up(), "{what}");
        }
    }
}

/// Events behind the damage come with `--salvage`: all of them but those of what was hit.
#[test]
fn salvage_loses_no_more_than_what_was_hit() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(10);
    let (used, first) = (specimen.used(), specimen.first_change());
    let mut places: Vec<(u32, u32)> = (0..50).map(|_| (chance.within(first..used), chance.below(8))).collect();
    // Every byte of a marker; of the offset of the next, bits that make it point before, into and far behind its section.
    let markers = specimen.sections.iter().step_by(3).map(|section| section.start - MARKER);
    places
        .extend(markers.flat_map(|marker| (0..MARKER).flat_map(move |byte| [(marker + byte, 3), (marker + byte, 6)])));
    for (at, bit) in places {
        // A body is framed on its own; behind a broken frame the next marker is the next place to be sure of.
        let (lost, part) = match specimen.part(at) {
            Part::Descriptor => unreachable!(),
            Part::Entry { start, end, .. } if at >= start + 8 => (start..end, "body"),
            Part::Entry { start, section, .. } => (start..section.end, "header"),
            Part::Marker { section, .. } => (section.start..section.end, "marker"),
        };
        let what = format!("bit {bit} at {at} in a {part}");
        let bytes = flip(&specimen.bytes, at, bit);
        let ran = specimen.replay_bytes(&bytes, &["--salvage"]);
        specimen.check_told(&ran, &what);
        let found = lines(&ran);
        let kept: Vec<&(u32, String)> =
            specimen.good.iter().filter(|(at, _)| *at <= lost.start || *at > lost.end).collect();
        let outside: Vec<&(u32, String)> = found.iter().filter(|(at, _)| *at <= lost.start || *at > lost.end).collect();
        assert!(outside == kept, "{what}: {} of {} events outside of {lost:?}: {}", outside.len(), kept.len(), ran.err);
        assert!(found.iter().all(|line| specimen.good.contains(line)), "{what}: an event that was never written");
        assert!(ran.err.contains(" are lost") || ran.err.contains("no later sync marker"), "{what}: {}", ran.err);
        assert!(ran.summary().adds_up() && ran.summary().damages >= 1, "{what}");
        check_gap(&specimen, &bytes, &what, &lost);
    }
}

/// The gap goes to the dead-letter topic with the positions between which events are missing.
fn check_gap(specimen: &Specimen, bytes: &[u8], what: &str, lost: &std::ops::Range<u32>) {
    let ran = specimen.replay_bytes(bytes, &["--salvage", "--envelope"]);
    let gaps: Vec<Value> =
        ran.events().into_iter().filter(|record| record["topic"] == "cassandra.dead-letter").collect();
    assert!(!gaps.is_empty(), "{what}: no gap record");
    for record in gaps {
        let gap = &record["value"];
        assert_eq!((&gap["v"], &gap["gap"]), (&1.into(), &"damaged-bytes".into()), "{what}");
        assert_eq!(gap["source"]["segment"], specimen.name(), "{what}");
        let from = gap["from"].as_u64().unwrap();
        let to = gap["to"].as_u64().unwrap_or(u64::MAX);
        assert!(from <= u64::from(lost.end) && to >= u64::from(lost.start), "{what}: {gap}");
    }
}

#[test]
fn salvage_of_compressed_segments_loses_sections_and_nothing_else() {
    for (case, seed) in [("4.1-lz4", 11), ("4.1-encrypted", 12)] {
        let specimen = Specimen::new(case);
        let mut chance = Chance(seed);
        let mut places: Vec<(u32, u32)> =
            (0..16).map(|_| (chance.within(specimen.sections[0].start..specimen.used()), chance.below(8))).collect();
        let markers = specimen.sections.iter().step_by(15).map(|section| section.end);
        let markers = markers.filter(|marker| *marker < specimen.used());
        places.extend(markers.flat_map(|marker| (1..MARKER).map(move |byte| (marker + byte, 3))));
        for (at, bit) in places {
            let what = format!("{case}: bit {bit} at {at}");
            let ran = specimen.replay_bytes(&flip(&specimen.bytes, at, bit), &["--salvage"]);
            if ran.code == Some(0) {
                continue;
            }
            specimen.check_told(&ran, &what);
            // Positions behind lost compressed bytes may shift: changes are told by their digests.
            let digest = |line: &(u32, String)| {
                let event: Value = serde_json::from_str(&line.1).unwrap();
                event["digest"].as_str().unwrap().to_owned()
            };
            let hit = specimen.sections.iter().position(|section| at < section.end).unwrap();
            let start = hit.checked_sub(1).map_or(0, |before| specimen.sections[before].logical_end);
            let end = specimen.sections[hit].logical_end;
            let kept = specimen.good.iter().filter(|(at, _)| *at <= start || *at > end).map(digest);
            let mut found: Vec<String> = lines(&ran).iter().map(digest).collect();
            found.reverse();
            for digest in kept {
                assert!(found.contains(&digest), "{what}: an event is missing: {}", ran.err);
                while found.pop().is_some_and(|found| found != digest) {}
            }
        }
    }
}

/// Bodies that lie under good checksums: they can't be decoded, or say something else, and touch no other entry.
#[test]
fn entries_that_lie_harm_no_other() {
    let specimen = Specimen::new("4.1-demo");
    let mut chance = Chance(13);
    for _ in 0..70 {
        let (start, end) = specimen.entries[chance.below(specimen.entries.len() as u32) as usize];
        let at = chance.within(start + 8..end - 4);
        let mut bytes = flip(&specimen.bytes, at, chance.below(8));
        let body = &bytes[start as usize + 8..end as usize - 4];
        let sum = crc(&[&bytes[start as usize..start as usize + 4], body].concat());
        bytes = put(&bytes, end - 4, &sum);
        let what = format!("body byte {at} of the entry {start} to {end}");
        let ran = specimen.replay_bytes(&bytes, &[]);
        let others = |lines: Vec<(u32, String)>| -> Vec<(u32, String)> {
            lines.into_iter().filter(|(position, _)| *position != end).collect()
        };
        assert!(others(lines(&ran)) == others(specimen.good.clone()), "{what}: {}", ran.err);
        let summary = ran.summary();
        assert!(
            summary.adds_up() && summary.damages == 0 && summary.entries == specimen.entries.len() as u64,
            "{what}"
        );
        match ran.code {
            Some(0) => assert_eq!(summary.undecodable, 0, "{what}"),
            Some(65) => {
                let told = format!("{}: the entry that ends at position {end} can't be decoded: ", specimen.name());
                assert!(ran.err.contains(&told) && summary.undecodable == 1, "{what}: {}", ran.err);
            }
            other => panic!("{what}: exit {other:?}: {}", ran.err),
        }
    }
}

/// A schema without one table: every entry with a change of it is named, and nothing else is missing.
#[test]
fn a_table_that_the_schema_lacks_is_named_for_every_entry() {
    for table in ["customers", "orders", "inventory", "sessions"] {
        let mut laid = Laid::own("4.1-demo");
        let good = laid.replay::<&str>([]).expect(0);
        let expected = oracle::read(&support::load::own_case("4.1-demo").folder.join("expected.jsonl.gz"));
        laid.schema = schema_without(&laid, |row| row["table_name"] == table);
        let (mut bad, mut kept) = (BTreeSet::new(), BTreeSet::new());
        for mutation in &expected.mutations {
            // An update's length stands nowhere: from the unknown one on nothing of its mutation can be read.
            let known = mutation.updates.iter().take_while(|update| update.table != table).count();
            if known < mutation.updates.len() {
                bad.insert((mutation.segment.clone(), mutation.position));
            }
            let id = |index| {
                format!("unknown/unknown/{}/{}/{index}", support::segment_id(&mutation.segment), mutation.position)
            };
            kept.extend(mutation.published().filter(|(index, _)| *index < known).map(|(index, _)| id(index)));
        }
        assert!(!bad.is_empty());
        let ran = laid.replay::<&str>([]).expect(65);
        let good: Vec<&str> = good
            .lines()
            .into_iter()
            .filter(|line| kept.iter().any(|id| line.contains(&format!("\"id\":\"{id}\""))))
            .collect();
        assert_eq!(ran.lines(), good, "{table}");
        check_undecodable(&ran, &bad, "unknown-table");
        check_dead_letters(&laid, &bad, "unknown-table");
    }
}

#[test]
fn a_column_that_the_schema_lacks_is_named_for_every_entry() {
    for (table, column) in [("customers", "cart"), ("orders", "status"), ("inventory", "sold")] {
        let mut laid = Laid::own("4.1-demo");
        let good = laid.replay::<&str>([]).expect(0);
        let has_column = |event: &&Value| {
            let columns = event["rows"].as_array().into_iter().flatten().filter_map(|row| row["cells"].as_object());
            event["table"] == table && columns.into_iter().any(|cells| cells.contains_key(column))
        };
        let place = |event: &Value| (event["source"]["segment"].as_str().unwrap().to_owned(), position(event));
        let index = |event: &Value| event["id"].as_str().unwrap().rsplit('/').next().unwrap().parse::<u32>().unwrap();
        let events = good.events();
        let first_bad: BTreeMap<(String, u32), u32> =
            events.iter().filter(has_column).map(|event| (place(event), index(event))).collect();
        laid.schema = schema_without(&laid, |row| row["table_name"] == table && row["column_name"] == column);
        let ran = laid.replay::<&str>([]).expect(65);
        let bad = first_bad.keys().cloned().collect();
        check_undecodable(&ran, &bad, "unknown-column");
        assert!(ran.err.contains(column) && ran.err.contains(&format!("shop.{table}")), "{}", ran.err);
        // Updates before it in its mutation are published.
        let is_kept = |event: &Value| first_bad.get(&place(event)).is_none_or(|bad| index(event) < *bad);
        let kept: Vec<Value> = events.into_iter().filter(is_kept).collect();
        assert!(ran.events() == kept, "{table}.{column}: {} events, expected {}", ran.events().len(), kept.len());
        check_dead_letters(&laid, &bad, "unknown-column");
    }
}

/// A copy of the schema file without some rows of `tables` and `columns`.
fn schema_without(laid: &Laid, drop: impl Fn(&Value) -> bool) -> PathBuf {
    let mut schema: Value = serde_json::from_slice(&fs::read(&laid.schema).unwrap()).unwrap();
    for list in ["tables", "columns"] {
        schema[list].as_array_mut().unwrap().retain(|row| !drop(row));
    }
    let path = laid.file("schema.json");
    fs::write(&path, schema.to_string()).unwrap();
    path
}

#[track_caller]
fn check_undecodable(ran: &Ran, bad: &BTreeSet<(String, u32)>, reason: &str) {
    let named = bad.iter().all(|(segment, position)| {
        ran.err.contains(&format!("{segment}: the entry that ends at position {position} can't be decoded: {reason}: "))
    });
    let summary = ran.summary();
    assert!(named && summary.undecodable == bad.len() as u64 && summary.adds_up(), "{summary:?} {bad:?} {}", ran.err);
    assert_eq!(summary.damages, 0);
}

/// A dead letter holds the entry's own bytes, with its checksum.
fn check_dead_letters(laid: &Laid, bad: &BTreeSet<(String, u32)>, reason: &str) {
    for limit in ["921600", "4096"] {
        let ran = laid.replay(["--envelope", "--max-record-bytes", limit]).expect(65);
        let letters: Vec<Value> =
            ran.events().into_iter().filter(|record| record["topic"] == "cassandra.dead-letter").collect();
        let found: Vec<Value> = letters.iter().map(|record| record["value"].clone()).collect();
        assert!(letters.iter().all(|record| record["key"].as_str().is_some_and(|key| !key.is_empty())));
        let found = whole::join_letters(found).unwrap();
        let places: BTreeSet<(String, u32)> = found
            .iter()
            .map(|letter| {
                let position = letter["entry"]["position"].as_u64().unwrap() as u32;
                (letter["source"]["segment"].as_str().unwrap().to_owned(), position)
            })
            .collect();
        assert_eq!((&places, found.len()), (bad, bad.len()));
        for letter in found {
            assert_eq!(letter["reason"], reason);
            let entry = &letter["entry"];
            let body = base64::engine::general_purpose::STANDARD.decode(entry["base64"].as_str().unwrap()).unwrap();
            let size = (body.len() as u32).to_be_bytes();
            let sum = u32::from_be_bytes(crc(&[&size[..], &body].concat()));
            assert_eq!((&entry["size"], &entry["version"]), (&body.len().into(), &7.into()));
            assert_eq!(entry["crc"], format!("{sum:08x}"));
        }
    }
}
