//! What is written by hand is read back: every flag of the grammar, in every version and codec, to the last bit.

mod support;

use cassandra_commitlog::{Descriptor, Entries, FileOffset, FormatVersion, LogOffset, Sections, Step, Tail};
use support::model::{Cell, ColumnData, Deletion, EPOCH_MICROS, Expiry, Row, State, Update, mutation};
use support::reader::{self, Ending, read};
use support::samples::{self, DELETION, NOW, SECOND, clustering, column, element, int, live, overwritten};
use support::tables::{ABYSS, DEEP, MIXED, schema};
use support::wire::{long_uv, uv};
use support::writer::{Codec, Segment};

const VERSIONS: [i32; 4] = [6, 7, 8, 9];

/// The update comes back, however it is written.
fn comes_back(said: &Update) {
    let schema = schema();
    for version in VERSIONS {
        let mut written = std::collections::BTreeSet::new();
        for variant in 0..32 {
            let bytes = samples::bytes(version, said, &schema, |style| {
                style.share = variant & 1 == 0;
                style.all_columns = variant & 2 == 0;
                style.estimate = (variant & 4 == 0).then_some(u64::MAX);
                if variant & 8 != 0 {
                    (style.min_timestamp, style.min_local, style.min_ttl) = (NOW + 3, SECOND + 3, 400);
                }
                style.epoch = if variant & 16 == 0 { 0 } else { i64::MIN.cast_unsigned() + 2 };
            });
            if written.insert(bytes.clone()) {
                let told = reader::body(&mutation(version, &[bytes]), version, &schema);
                assert_eq!(told.as_ref(), Ok(&vec![said.clone()]), "version {version}, variant {variant}");
            }
        }
        assert!(written.len() >= 4, "the variants are one and the same");
    }
}

/// A row of the table with all forms of columns.
fn row_with(columns: Vec<ColumnData>) -> Row {
    Row { clustering: clustering(1, "x"), columns, ..Row::default() }
}

fn of_rows(rows: Vec<Row>) -> Update {
    Update { rows, ..Update::new(MIXED, &int(4)) }
}

#[test]
fn the_samples() {
    for said in samples::all() {
        comes_back(&said);
    }
}

#[test]
fn every_flag_of_a_row() {
    let expiry = Expiry { ttl: 60, at: SECOND + 60 };
    let mut rows = Vec::new();
    for flags in 0..32_u8 {
        let set = |bit: u8| flags & bit != 0;
        if set(2) && !set(1) {
            continue; // A TTL without liveness is no row.
        }
        rows.push(Row {
            clustering: clustering(i32::from(flags), "x"),
            liveness: set(1).then_some((NOW, set(2).then_some(expiry))),
            deletion: set(4).then_some(DELETION),
            shadowable: set(8),
            columns: if set(16) { vec![column("a", &[live(NOW, &int(1))])] } else { vec![] },
        });
    }
    comes_back(&of_rows(rows));
    // A view's mark for liveness that has expired, and the ends of what a TTL can be.
    for ttl in [0, 1, 630_720_000, i32::MAX] {
        let liveness = Some((NOW, Some(Expiry { ttl, at: SECOND })));
        comes_back(&of_rows(vec![Row { liveness, ..row_with(vec![]) }]));
    }
    comes_back(&of_rows(vec![]));
}

#[test]
fn every_flag_of_a_cell() {
    let (own, rows) = (Expiry { ttl: 60, at: SECOND + 60 }, Expiry { ttl: 61, at: SECOND + 61 });
    let states = [State::Live, State::Expiring(own), State::Expiring(rows), State::Deleted(SECOND)];
    for liveness in [None, Some((NOW, None)), Some((NOW, Some(rows)))] {
        for state in states {
            for timestamp in [NOW, NOW - 1, NOW + 1] {
                let cell = |value: &[u8]| Cell { state, ..live(timestamp, value) };
                let named = |path: &[u8], value: &[u8]| Cell { path: path.to_vec(), ..cell(value) };
                let deleted = matches!(state, State::Deleted(_));
                let value = |bytes: &'static [u8]| if deleted { &[][..] } else { bytes };
                let columns = vec![
                    column("a", &[cell(value(&[1, 2, 3, 4]))]),
                    column("b", &[cell(value(b"text"))]),
                    column("e", &[cell(b"")]),
                    column("f", &[cell(b"")]),
                    column("sm", &[cell(value(&[1, 2]))]),
                    column("v", &[cell(value(&[0; 8]))]),
                    column("l", &[named(&[7; 16], value(&[0, 0, 0, 9]))]),
                    column("m", &[named(b"k", value(&[0, 0, 0, 9])), named(b"", b"")]),
                    column("st", &[named(b"q", b"")]),
                    column("u", &[named(&[0, 1], value(&[0, 0, 0, 9])), named(&[0, 0], b"")]),
                ];
                comes_back(&of_rows(vec![Row { liveness, ..row_with(columns) }]));
            }
        }
    }
}

#[test]
fn every_kind_of_marker_and_both_edges() {
    comes_back(&samples::deletions());
    for start_inclusive in [false, true] {
        for end_inclusive in [false, true] {
            for (start, end) in [(0, 0), (0, 2), (1, 1), (2, 1), (2, 2)] {
                let bound = |count: usize, inclusive| support::model::Bound {
                    clustering: clustering(count as i32, "x").into_iter().take(count).collect(),
                    inclusive,
                };
                let range = support::model::RangeDelete {
                    start: bound(start, start_inclusive),
                    end: bound(end, end_inclusive),
                    deletion: DELETION,
                };
                comes_back(&Update { ranges: vec![range], ..Update::new(MIXED, &int(4)) });
            }
        }
    }
}

#[test]
fn subsets_of_a_list_of_64_columns_and_more_in_both_forms() {
    // Up to 34 present columns are named themselves, from 35 on the missing ones are.
    for count in [0, 1, 2, 33, 34, 35, 36, 63, 64, 68, 69, 70] {
        comes_back(&samples::wide(0..count));
        comes_back(&samples::wide(70 - count..70));
        comes_back(&samples::wide((0..70).filter(|at| (at * 37) % 70 < count)));
    }
    // The form goes by the list, not by the table: 63 columns have a bitmap.
    let schema = schema();
    for version in VERSIONS {
        for len in [1, 62, 63, 64, 65] {
            for present in [0, 1, len / 2 - usize::from(len > 1), len / 2, len - 1, len] {
                let said = samples::wide(0..present);
                let bytes = samples::bytes(version, &said, &schema, |style| style.regulars.truncate(len));
                let told = reader::body(&mutation(version, &[bytes]), version, &schema);
                assert_eq!(told, Ok(vec![said]), "{present} of {len}");
            }
        }
    }
}

#[test]
fn lists_in_any_order_and_more_of_them_than_are_remembered() {
    let schema = schema();
    let mut decoder = cassandra_commitlog::Decoder::new(schema.clone());
    for version in VERSIONS {
        for turn in 0..40 {
            let said = samples::wide([turn, (turn * 7 + 1) % 70]);
            let bytes = samples::bytes(version, &said, &schema, |style| {
                style.regulars = [(turn * 7 + 1) % 70, turn].map(|at| format!("a{at:02}")).to_vec();
            });
            let body = mutation(version, &[bytes]);
            let entry = cassandra_commitlog::Entry { body: &body, body_at: LogOffset(0), crc: 0 };
            let version = FormatVersion::from_number(version).unwrap();
            let mut told = reader::updates(&entry, version, &mut decoder).unwrap();
            told[0].rows[0].columns.sort_by(|a, b| a.name.cmp(&b.name));
            let mut said = said.clone();
            said.rows[0].columns.sort_by(|a, b| a.name.cmp(&b.name));
            assert_eq!(told, [said]);
        }
    }
}

#[test]
fn many_clustering_columns_with_empty_and_null_values() {
    for (table, count) in [(DEEP, 40), (ABYSS, 1024)] {
        // Every pair of bits at every place of a block: the header takes one to nine bytes.
        for pattern in 0..3_usize {
            let value = |at: usize| match (at + pattern) % 3 {
                0 => Some(Vec::new()),
                1 => None,
                _ if at.is_multiple_of(2) => Some(int(at as i32)),
                _ => Some(b"text".to_vec()),
            };
            let row = Row { clustering: (0..count).map(value).collect(), ..Row::default() };
            comes_back(&Update { rows: vec![row], ..Update::new(table, b"pk") });
        }
        let all = |value: Option<Vec<u8>>| {
            let row = Row { clustering: vec![value; count], ..Row::default() };
            comes_back(&Update { rows: vec![row], ..Update::new(table, b"pk") });
        };
        all(None);
        all(Some(Vec::new()));
    }
}

#[test]
fn complex_columns_without_a_deletion_beside_one_that_has_it() {
    let columns = vec![
        overwritten("l", NOW - 1, &[element(NOW, &[1; 16], &int(1))]),
        column("m", &[element(NOW, b"k", &int(2))]),
        overwritten("st", NOW - 1, &[]),
        column("u", &[]),
    ];
    comes_back(&of_rows(vec![row_with(columns.clone())]));
    // Releases write "not deleted" with different deletion times: only its timestamp counts, as it must in segments of
    // version 7 that 5.0 wrote.
    let schema = schema();
    let said = of_rows(vec![row_with(columns)]);
    for version in VERSIONS {
        let good = samples::body(version, &said, &schema);
        let (short, long) = (live_deletion(0x7fff_ffff), live_deletion(0xffff_ffff));
        let own = if version < 8 { &short } else { &long };
        let other = if version < 8 { &long } else { &short };
        let places: Vec<usize> = (0..good.len()).filter(|at| good[*at..].starts_with(own)).collect();
        assert_eq!(places.len(), 2, "two columns without a deletion");
        let mut changed = good.clone();
        for at in places.into_iter().rev() {
            changed.splice(at..at + own.len(), other.iter().copied());
        }
        assert_eq!(reader::body(&changed, version, &schema), Ok(vec![said.clone()]));
    }
}

/// The bytes of "not deleted" with this deletion time.
fn live_deletion(local: i64) -> Vec<u8> {
    let mut out = Vec::new();
    uv(&mut out, i64::MIN.wrapping_sub(EPOCH_MICROS).cast_unsigned());
    support::wire::int(&mut out, local.wrapping_sub(support::model::EPOCH_SECONDS) as i32);
    out
}

#[test]
fn timestamps_and_deletion_times_at_the_ends_of_their_ranges() {
    for timestamp in [-5, 0, 1, i64::MIN + 1, i64::MAX - 1, i64::MAX, EPOCH_MICROS - 1] {
        let cells = [live(timestamp, &int(1))];
        let row = Row { liveness: Some((timestamp, None)), ..row_with(vec![column("a", &cells)]) };
        let deletion = Some(Deletion { at: timestamp, local: SECOND });
        comes_back(&Update { deletion, ..of_rows(vec![row]) });
    }
    let schema = schema();
    for (seconds, versions) in [
        (0, &VERSIONS[..]),
        (SECOND, &VERSIONS),
        (i64::from(i32::MAX) - 1, &VERSIONS),
        (i64::from(i32::MAX), &VERSIONS),
        (i64::from(i32::MAX) + 1, &VERSIONS[2..]),
        (0xffff_fffd, &VERSIONS[2..]),
        (0xffff_ffff, &VERSIONS[2..]),
        (-1, &VERSIONS[..2]),
        (i64::from(i32::MIN), &VERSIONS[..2]),
    ] {
        let deletion = Some(Deletion { at: NOW, local: seconds });
        let cell = Cell { state: State::Deleted(seconds), ..live(NOW, b"") };
        let liveness = Some((NOW, Some(Expiry { ttl: 5, at: seconds })));
        let row = Row { liveness, deletion, ..row_with(vec![column("a", &[cell])]) };
        let said = Update { deletion, ..of_rows(vec![row]) };
        for version in versions {
            assert_eq!(
                reader::body(&samples::body(*version, &said, &schema), *version, &schema),
                Ok(vec![said.clone()])
            );
        }
    }
}

#[test]
fn vints_longer_than_need_be() {
    let schema = schema();
    let said = samples::composite();
    for version in VERSIONS {
        for extra in 0..=8 {
            let plain = samples::body(version, &said, &schema);
            let at = usize::from(version == 9);
            let mut body = plain[..at].to_vec();
            long_uv(&mut body, 1, extra);
            body.extend_from_slice(&plain[at + 1..]);
            assert_eq!(reader::body(&body, version, &schema), Ok(vec![said.clone()]));
        }
    }
}

#[test]
fn an_empty_update_and_many_updates() {
    let schema = schema();
    for version in VERSIONS {
        let mut empty = support::model::update_head(version, MIXED, 7, &int(4));
        empty.push(0x01);
        let others = [samples::insert(), samples::wide([5]), samples::deep(), samples::composite()];
        let mut updates: Vec<Vec<u8>> =
            others[1..].iter().map(|said| samples::bytes(version, said, &schema, |_| ())).collect();
        updates.push(empty);
        let told = reader::body(&mutation(version, &updates), version, &schema).unwrap();
        assert_eq!(told[..3], others[1..]);
        assert_eq!(told[3], Update::new(MIXED, &int(4)));
    }
}

#[test]
fn segments_of_every_version_and_codec() {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            let segment = samples::segment(version, codec, &schema);
            let (records, ending) = read(&segment.bytes, &schema, Tail::Sealed);
            assert_eq!(ending, Ending::End, "{version} {codec:?}");
            let ends: Vec<usize> = records.iter().map(|record| record.end).collect();
            assert_eq!(ends, segment.entries.iter().map(|entry| entry.end).collect::<Vec<_>>());
            let told: Vec<Update> = records.iter().flat_map(|record| record.updates.clone().unwrap()).collect();
            let said =
                [samples::insert(), samples::wide([3]), samples::change(), samples::deletions(), samples::composite()];
            assert_eq!(told, said, "{version} {codec:?}");
            // The same bytes while the server may still write: all that is there, and then not yet.
            assert_eq!(read(&segment.bytes, &schema, Tail::Live), (records, Ending::Pending));
        }
    }
}

#[test]
fn segments_without_a_record() {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            for empty_sections in 0..3 {
                let mut segment = Segment::new(version, codec);
                (0..empty_sections).for_each(|_| {
                    segment.section(&[]);
                });
                let file = segment.close().bytes;
                assert_eq!(read(&file, &schema, Tail::Sealed), (vec![], Ending::End), "{version} {codec:?}");
                assert_eq!(read(&file, &schema, Tail::Live), (vec![], Ending::Pending), "{version} {codec:?}");
            }
        }
    }
}

/// Zstd as the server writes nothing, and the stream of nothing that older releases write with Deflate.
#[test]
fn the_forms_of_an_empty_block() {
    let schema = schema();
    let forms: [(Codec, &[u8]); 5] = [
        (Codec::Lz4, &[0, 0, 0, 0, 0]),
        (Codec::Snappy, &[0]),
        (Codec::Deflate, &[]),
        (Codec::Deflate, &[0x78, 0x9c, 0x03, 0, 0, 0, 0, 1]),
        (Codec::Zstd, &[0x28, 0xb5, 0x2f, 0xfd, 0x24, 0, 1, 0, 0, 0x99, 0xe9, 0xd8, 0x51]),
    ];
    for (codec, block) in forms {
        let file = Segment::new(7, codec).raw_section(&[&[0; 4], block].concat()).close().bytes;
        assert_eq!(read(&file, &schema, Tail::Sealed), (vec![], Ending::End), "{codec:?} {block:x?}");
    }
}

/// After a `kill -9` whole entries with good checksums lie behind the last marker: the node itself never reads them.
#[test]
fn entries_behind_an_unwritten_marker_are_not_read() {
    let schema = schema();
    let mut segment = samples::segment(7, Codec::Plain, &schema);
    let all = read(&segment.bytes, &schema, Tail::Sealed).0;
    let last = segment.sections[2].clone();
    segment.bytes[last.start..last.start + 8].fill(0);
    let first: Vec<_> = all[..2].to_vec();
    assert_eq!(read(&segment.bytes, &schema, Tail::Sealed), (first.clone(), Ending::End));
    assert_eq!(read(&segment.bytes, &schema, Tail::Live), (first.clone(), Ending::Pending));
    // A marker of which one half is written: not yet, or never.
    for half in [last.start, last.start + 4] {
        let mut torn = segment.clone();
        let whole = support::writer::marker(last.start, last.end as i32);
        torn.bytes[half..half + 4].copy_from_slice(&whole[half - last.start..half - last.start + 4]);
        assert_eq!(read(&torn.bytes, &schema, Tail::Live), (first.clone(), Ending::Pending));
        let (records, ending) = read(&torn.bytes, &schema, Tail::Sealed);
        assert_eq!(records, first);
        assert!(
            matches!(ending, Ending::Damage(error) if error.at == cassandra_commitlog::Place::File(FileOffset(last.start as u32)))
        );
    }
}

/// Behind damage, reading goes on at the next marker that can be told: salvage.
#[test]
fn the_next_marker_is_found_behind_damage() {
    let schema = schema();
    for version in VERSIONS {
        for codec in Codec::ALL {
            let segment = samples::segment(version, codec, &schema);
            let starts: Vec<u32> = segment.sections.iter().map(|section| section.start as u32).collect();
            let mut file = segment.bytes.clone();
            file[starts[1] as usize + 5] ^= 1;
            let descriptor = Descriptor::parse(&file).unwrap();
            let mut sections = Sections::new(&file, &descriptor, Tail::Sealed);
            let Ok(Step::Item(first)) = sections.step() else { panic!("the first section is whole") };
            let error = sections.step().unwrap_err();
            assert_eq!(sections.step(), Err(error), "an error repeats");
            assert_eq!(sections.next_marker(FileOffset(0)), Some(FileOffset(starts[2])), "the first leads nowhere");
            assert_eq!(sections.next_marker(FileOffset(starts[2])), Some(FileOffset(starts[2])));
            assert_eq!(sections.next_marker(FileOffset(starts[2] + 1)), None);
            assert_eq!(sections.next_marker(FileOffset(u32::MAX)), None);
            // Where the third section starts in the uncompressed image is known only if nothing was lost: here it is.
            let logical = segment.entries[2].start as u32 - 8;
            assert!(logical > first.start.0);
            sections.resume_at(FileOffset(starts[2]), LogOffset(logical));
            let Ok(Step::Item(third)) = sections.step() else { panic!("the third section is whole") };
            let mut plaintext = cassandra_commitlog::Plaintext::new(Some(support::writer::key()));
            let entries: Vec<usize> = Entries::new(plaintext.of(&third, &descriptor).unwrap(), third.start)
                .map(|entry| entry.unwrap().end().0 as usize)
                .collect();
            assert_eq!(entries, [segment.entries[2].end, segment.entries[3].end]);
            assert_eq!(sections.step(), Ok(Step::End));
        }
    }
}

/// Inside a section: a body whose checksum is wrong is stepped over, a size that is wrong is the end of it.
#[test]
fn a_damaged_entry_can_be_stepped_over_if_its_size_holds() {
    let schema = schema();
    let bodies =
        [samples::insert(), samples::change(), samples::wide([1])].map(|said| samples::body(7, &said, &schema));
    let plaintext = bodies.iter().flat_map(|body| support::writer::entry(body)).collect::<Vec<u8>>();
    let second = bodies[0].len() + 12;
    let mut damaged = plaintext.clone();
    damaged[second + 8] ^= 1;
    let mut entries = Entries::new(&damaged, LogOffset(100));
    assert_eq!(entries.next().unwrap().unwrap().body, bodies[0]);
    let error = entries.next().unwrap().unwrap_err();
    assert_eq!(error.structure, cassandra_commitlog::Structure::EntryBody);
    assert_eq!(entries.next().unwrap().unwrap_err(), error, "an error repeats");
    assert!(entries.skip_damaged());
    assert_eq!(entries.next().unwrap().unwrap().body, bodies[2]);
    assert!(entries.next().is_none());
    damaged[second] ^= 1;
    let mut entries = Entries::new(&damaged, LogOffset(100));
    assert!(entries.next().unwrap().is_ok() && entries.next().unwrap().is_err() && !entries.skip_damaged());
}
