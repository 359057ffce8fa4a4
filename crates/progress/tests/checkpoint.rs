//! Checkpoints come back as they were or not at all, and nothing is deleted before two of them say so.

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{
    Checkpoint, DecodeError, Ending, Generation, Generations, Identity, Ledger, MAX_TOMBSTONES, Node, NotYet, Outcome,
    Reapable, Refused, SaveError, Sealed, SegmentRecord, SegmentState, StartError, Tally, Tombstone, TooLarge, Window,
};
use proptest::prelude::*;

fn identity() -> impl Strategy<Value = Identity> {
    (any::<i64>(), any::<Option<u32>>())
        .prop_map(|(segment, first_entry_crc)| Identity { segment: SegmentId(segment), first_entry_crc })
}

fn tally() -> impl Strategy<Value = Tally> {
    any::<[u32; 4]>().prop_map(|[published, not_cdc, filtered, dead_lettered]| Tally {
        published,
        not_cdc,
        filtered,
        dead_lettered,
    })
}

fn record() -> impl Strategy<Value = SegmentRecord> {
    (identity(), "[A-Za-z0-9.é-]{0,40}", any::<u64>(), any::<i64>(), any::<u32>(), 0..50_u32, 0..12_u8).prop_map(
        |(identity, name, inode, seen, offset, entries, marks)| {
            let mut record = SegmentRecord::new(identity, name, inode, seen);
            let mut ledger = Ledger::new(Window::default());
            let at = |offset| Position { segment: identity.segment, offset: LogOffset(offset) };
            for entry in 0..entries {
                ledger.read_to(at(entry + 1), Outcome::Published);
            }
            ledger.enter(at(offset), Tally::default());
            ledger.advance_to(at(offset));
            record.acknowledge(&ledger.watermark().unwrap()).unwrap();
            (record.indexed, record.early) = (marks & 1 != 0, marks & 2 != 0);
            match marks / 4 {
                0 => record.finish(record.tally().finish(u64::from(entries)).unwrap()).unwrap(),
                1 => record.quarantine(),
                _ => {}
            }
            record
        },
    )
}

fn tombstone() -> impl Strategy<Value = Tombstone> {
    let ending = prop_oneof![Just(Ending::Reaped), Just(Ending::Lost), Just(Ending::Empty)];
    (identity(), any::<u32>(), tally(), any::<i64>(), ending).prop_map(|(identity, end, tally, finished_at, ending)| {
        Tombstone { identity, end: LogOffset(end), tally, finished_at, ending }
    })
}

fn checkpoint() -> impl Strategy<Value = Checkpoint> {
    let node =
        ("\\PC{0,30}", "\\PC{0,30}", "\\PC{0,30}").prop_map(|(agent, host, cluster)| Node { agent, host, cluster });
    (node, prop::collection::vec(record(), 0..5), prop::collection::vec(tombstone(), 0..5))
        .prop_map(|(node, segments, tombstones)| Checkpoint { node, segments, tombstones })
}

/// The bytes that a save writes.
fn bytes(generations: &mut Generations, checkpoint: &Checkpoint) -> (Generation, Vec<u8>) {
    let mut written = None;
    generations
        .save(checkpoint, |generation, bytes| {
            written = Some((generation, bytes.to_vec()));
            Ok::<_, ()>(())
        })
        .unwrap();
    written.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn decoding_undoes_encoding(checkpoint in checkpoint()) {
        let (_, bytes) = bytes(&mut Generations::new(), &checkpoint);
        prop_assert_eq!(Checkpoint::decode(&bytes), Ok((1, checkpoint)));
    }

    #[test]
    fn whatever_was_gone_comes_back_with_its_account(tombstone in tombstone(), name in "[A-Za-z0-9.-]{0,40}") {
        let record = SegmentRecord::revived(&tombstone, name, 5, 6);
        prop_assert_eq!(record.tombstone(tombstone.finished_at, tombstone.ending), tombstone);
        let checkpoint = Checkpoint { segments: vec![record], tombstones: vec![tombstone], ..Checkpoint::default() };
        let (_, bytes) = bytes(&mut Generations::new(), &checkpoint);
        prop_assert_eq!(Checkpoint::decode(&bytes), Ok((1, checkpoint)));
    }

    #[test]
    fn every_cut_and_every_flipped_bit_is_refused(checkpoint in checkpoint()) {
        let (_, whole) = bytes(&mut Generations::new(), &checkpoint);
        for length in 0..whole.len() {
            prop_assert!(Checkpoint::decode(&whole[..length]).is_err(), "cut to {}", length);
        }
        let mut damaged = whole.clone();
        for bit in 0..whole.len() * 8 {
            damaged[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Checkpoint::decode(&damaged).is_err(), "bit {}", bit);
            damaged[bit / 8] ^= 1 << (bit % 8);
        }
        damaged.push(0);
        prop_assert!(Checkpoint::decode(&damaged).is_err());
    }

    /// A CRC is no defence against who can compute one: fields are still checked against what remains.
    #[test]
    fn sealed_nonsense_neither_panics_nor_allocates_by_its_lengths(
        checkpoint in checkpoint(),
        at in any::<prop::sample::Index>(),
        value in any::<u32>(),
    ) {
        let (_, mut bytes) = bytes(&mut Generations::new(), &checkpoint);
        let body = bytes.len() - 4;
        let at = 10 + at.index(body - 13);
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&crc.to_le_bytes());
        if let Ok((_, decoded)) = Checkpoint::decode(&bytes) {
            prop_assert!(decoded.segments.capacity() * 52 <= bytes.len());
            prop_assert!(decoded.tombstones.capacity() * 42 <= bytes.len());
        }
    }

    #[test]
    fn any_bytes_are_an_error_or_a_checkpoint(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(Checkpoint::decode(&bytes).is_err());
    }
}

fn node(host: &str) -> Node {
    Node { agent: "a".into(), host: host.into(), cluster: "c".into() }
}

fn at(offset: u32) -> Position {
    Position { segment: SegmentId(7), offset: LogOffset(offset) }
}

const SEVEN: Identity = Identity { segment: SegmentId(7), first_entry_crc: Some(1) };

/// A checkpoint with one segment of which `entries` entries of a hundred bytes are acknowledged.
fn with_entries(entries: u32, finished: bool) -> Checkpoint {
    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(0), Tally::default());
    for entry in 1..=entries {
        ledger.read_to(at(entry * 100), Outcome::Published);
    }
    let mut record = SegmentRecord::new(SEVEN, "CommitLog-7-7.log".into(), 1, 2);
    record.acknowledge(&ledger.watermark().unwrap()).unwrap();
    if finished {
        record.finish(record.tally().finish(u64::from(entries)).unwrap()).unwrap();
    }
    Checkpoint { node: node("h"), segments: vec![record], tombstones: vec![] }
}

#[test]
fn a_record_follows_only_its_own_watermark_and_never_back() {
    let mut ledger = Ledger::new(Window::default());
    ledger.read_to(at(100), Outcome::Published);
    let early = ledger.watermark().unwrap();
    ledger.read_to(at(200), Outcome::Published);
    let late = ledger.watermark().unwrap();
    ledger.read_to(Position { segment: SegmentId(8), offset: LogOffset(300) }, Outcome::Published);
    let foreign = ledger.watermark().unwrap();

    let mut record = SegmentRecord::new(SEVEN, String::new(), 0, 0);
    assert_eq!(record.acknowledge(&late), Ok(()));
    assert_eq!(record.acknowledge(&early), Err(Refused::Backwards));
    assert_eq!(record.acknowledge(&foreign), Err(Refused::OtherSegment));
    assert_eq!(record.finish(early.tally().finish(1).unwrap()), Err(Refused::OtherTally));
    assert_eq!((record.acknowledged(), record.tally().entries()), (LogOffset(200), 2));
    assert_eq!(record.identify(2), Err(Refused::OtherFirstEntry));
    record.finish(late.tally().finish(2).unwrap()).unwrap();
    assert_eq!(record.acknowledge(&late), Err(Refused::NotReading));
}

#[test]
fn the_newest_whole_generation_is_chosen() {
    let mut generations = Generations::new();
    let mut files: [Option<Vec<u8>>; 2] = [None, None];
    for entries in 1..=5 {
        let (generation, bytes) = bytes(&mut generations, &with_entries(entries, false));
        files[usize::from(generation == Generation::B)] = Some(bytes);
        let [a, b] = &files;
        let start = Generations::start(a.as_deref(), b.as_deref(), &node("h")).unwrap();
        assert_eq!(start.checkpoint, Some(with_entries(entries, false)));

        // Torn anywhere, the newest gives way to the one before it.
        let mut torn = files.clone();
        let newest = torn[usize::from(generation == Generation::B)].as_mut().unwrap();
        newest.truncate(newest.len() - 1);
        let [a, b] = &torn;
        match Generations::start(a.as_deref(), b.as_deref(), &node("h")) {
            Ok(mut start) => {
                assert_eq!(start.damaged, Some((generation, DecodeError::BadCrc)));
                assert_eq!(start.checkpoint, Some(with_entries(entries - 1, false)));
                // The next save must not overwrite the only whole one.
                let (next, _) = self::bytes(&mut start.generations, &with_entries(9, false));
                assert_eq!(next, generation);
            }
            Err(error) => assert_eq!((entries, error), (1, StartError::NoneWhole(DecodeError::BadCrc))),
        }
    }
    let [a, b] = &files;
    let foreign = Generations::start(a.as_deref(), b.as_deref(), &node("other")).unwrap_err();
    assert!(matches!(foreign, StartError::Foreign(_)));
    assert!(Generations::start(None, None, &node("h")).unwrap().checkpoint.is_none());
}

#[test]
fn another_format_version_is_named() {
    let (_, mut bytes) = bytes(&mut Generations::new(), &with_entries(1, false));
    bytes[8] = 2;
    assert_eq!(Checkpoint::decode(&bytes), Err(DecodeError::BadCrc));
    let body = bytes.len() - 4;
    let crc = crc32fast::hash(&bytes[..body]);
    bytes[body..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Checkpoint::decode(&bytes), Err(DecodeError::OtherFormat(2)));
    assert_eq!(Generations::start(Some(&bytes), None, &node("h")).unwrap_err(), StartError::OtherFormat(2));
}

#[test]
fn a_name_beyond_the_limit_is_not_written() {
    let mut checkpoint = with_entries(1, false);
    checkpoint.segments[0].name = "n".repeat(1025);
    let saved = Generations::new().save(&checkpoint, |_, _| -> Result<(), ()> { unreachable!() });
    assert_eq!(saved, Err(SaveError::TooLarge(TooLarge)));
}

#[test]
fn a_segment_is_reapable_after_two_saves_that_hold_its_end() {
    let sealed = Sealed { identity: SEVEN, end: LogOffset(500), entries: 5 };
    let mut generations = Generations::new();
    bytes(&mut generations, &with_entries(5, true));
    assert!(generations.durable(SEVEN).is_none(), "one save is not enough");
    bytes(&mut generations, &with_entries(5, true));
    let durable = generations.durable(SEVEN).unwrap();
    assert_eq!(Reapable::new(sealed, &durable).unwrap().identity(), SEVEN);

    let short = Sealed { end: LogOffset(501), ..sealed };
    assert!(matches!(Reapable::new(short, &durable), Err(NotYet::Behind { .. })));
    let miscounted = Sealed { entries: 6, ..sealed };
    assert!(matches!(Reapable::new(miscounted, &durable), Err(NotYet::Account(_))));
    let other = Sealed { identity: Identity { first_entry_crc: Some(2), ..SEVEN }, ..sealed };
    assert_eq!(Reapable::new(other, &durable), Err(NotYet::OtherSegment));
}

#[test]
fn a_failed_write_ends_saving_and_reaping() {
    let mut generations = Generations::new();
    bytes(&mut generations, &with_entries(5, true));
    bytes(&mut generations, &with_entries(5, true));
    assert!(generations.durable(SEVEN).is_some());
    assert_eq!(generations.save(&with_entries(5, true), |_, _| Err("EIO")), Err(SaveError::Write("EIO")));
    assert!(generations.durable(SEVEN).is_none());
    assert_eq!(
        generations.save(&with_entries(5, true), |_, _| -> Result<(), &str> { unreachable!() }),
        Err(SaveError::Stopped)
    );
}

#[test]
fn what_was_loaded_must_be_saved_again_before_anything_goes() {
    let mut before = Generations::new();
    let (_, a) = bytes(&mut before, &with_entries(5, true));
    let (_, b) = bytes(&mut before, &with_entries(5, true));
    let mut generations = Generations::start(Some(&a), Some(&b), &node("h")).unwrap().generations;
    assert!(generations.durable(SEVEN).is_none());
    bytes(&mut generations, &with_entries(5, true));
    assert!(generations.durable(SEVEN).is_none());
    bytes(&mut generations, &with_entries(5, true));
    assert!(generations.durable(SEVEN).is_some());
}

/// A finished segment that comes back longer is read on from its end, and goes again only when that is acknowledged.
#[test]
fn a_segment_that_comes_back_goes_on_where_it_ended() {
    let mut generations = Generations::new();
    let mut checkpoint = with_entries(5, true);
    bytes(&mut generations, &checkpoint);
    bytes(&mut generations, &checkpoint);
    let reaped = checkpoint.segments.remove(0).tombstone(1000, Ending::Reaped);
    checkpoint.tombstones.push(reaped);
    assert_eq!((reaped.end, reaped.tally.entries()), (LogOffset(500), 5));

    let tombstone = *checkpoint.tombstone_of(SegmentId(7), 1).unwrap();
    let mut record = SegmentRecord::revived(&tombstone, "CommitLog-7-7.log".into(), 99, 2000);
    assert_eq!((record.identity(), record.state()), (SEVEN, SegmentState::Reading));
    assert_eq!((record.acknowledged(), record.tally()), (reaped.end, reaped.tally));
    assert_eq!((record.inode, record.first_seen), (99, 2000));
    assert_eq!(record.identify(2), Err(Refused::OtherFirstEntry));

    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(record.acknowledged().0), record.tally());
    ledger.read_to(at(600), Outcome::Filtered);
    let longer = Sealed { identity: SEVEN, end: LogOffset(600), entries: 6 };
    checkpoint.segments.push(record);
    for _ in 0..2 {
        // What the first life left durable is not enough for the second.
        let behind = generations.durable(SEVEN).map(|durable| Reapable::new(longer, &durable));
        assert!(matches!(behind, None | Some(Err(NotYet::Behind { .. }))), "{behind:?}");
        bytes(&mut generations, &checkpoint);
    }
    let record = &mut checkpoint.segments[0];
    record.acknowledge(&ledger.watermark().unwrap()).unwrap();
    assert_eq!(record.finish(reaped.tally.finish(5).unwrap()), Err(Refused::OtherTally));
    record.finish(record.tally().finish(6).unwrap()).unwrap();
    bytes(&mut generations, &checkpoint);
    assert!(generations.durable(SEVEN).is_none());
    bytes(&mut generations, &checkpoint);
    let reapable = Reapable::new(longer, &generations.durable(SEVEN).unwrap()).unwrap();
    assert_eq!((reapable.tally().entries(), reapable.end()), (6, LogOffset(600)));
}

#[test]
fn a_tombstone_is_found_by_the_first_entry_alone() {
    let mut checkpoint = Checkpoint { node: node("h"), ..Checkpoint::default() };
    let record = |crc, entries| {
        let mut checkpoint = with_entries(entries, false);
        let mut tombstone = checkpoint.segments.remove(0).tombstone(i64::from(entries), Ending::Lost);
        tombstone.identity.first_entry_crc = crc;
        tombstone
    };
    checkpoint.tombstones = vec![record(None, 0), record(Some(1), 3), record(Some(1), 5), record(Some(1), 4)];
    assert_eq!(checkpoint.tombstone_of(SegmentId(7), 1).map(|found| found.end), Some(LogOffset(500)));
    assert_eq!(checkpoint.tombstone_of(SegmentId(7), 0), None);
    assert_eq!(checkpoint.tombstone_of(SegmentId(8), 1), None);
}

#[test]
fn what_may_be_asked_for_again_is_kept_of_a_segment_that_is_gone() {
    let mut checkpoint = with_entries(5, true);
    let old = checkpoint.segments[0].clone();
    let empty =
        |id| SegmentRecord::new(Identity { segment: SegmentId(id), first_entry_crc: None }, id.to_string(), 2, 3);
    checkpoint.segments.extend([empty(8), empty(9), empty(10)]);
    checkpoint.segments[2].indexed = true;
    let identities: Vec<_> = checkpoint.segments.iter().map(SegmentRecord::identity).collect();
    assert_eq!(checkpoint.bury(SEVEN, 50, Ending::Reaped), Some(old.clone()));
    assert_eq!(checkpoint.tombstones, [old.tombstone(50, Ending::Reaped)]);
    assert_eq!(checkpoint.bury(SEVEN, 60, Ending::Reaped), None);
    // Nothing of it was anybody's: should it come again, it is read again.
    assert!(checkpoint.bury(identities[1], 60, Ending::Empty).is_some());
    checkpoint.bury(identities[2], 60, Ending::Empty);
    checkpoint.bury(identities[3], 60, Ending::Lost);
    let kept: Vec<_> = checkpoint.tombstones.iter().map(|tombstone| tombstone.identity.segment.0).collect();
    assert_eq!((kept, checkpoint.segments.len()), (vec![7, 9, 10], 0));
    // One segment has one.
    checkpoint.segments.push(old);
    checkpoint.bury(SEVEN, 70, Ending::Lost);
    assert_eq!(checkpoint.tombstones.len(), 3);
    let (_, bytes) = bytes(&mut Generations::new(), &checkpoint);
    assert_eq!(Checkpoint::decode(&bytes), Ok((1, checkpoint.clone())));
    checkpoint.expire(60);
    assert_eq!(checkpoint.tombstones.len(), 3);
    checkpoint.tombstones = vec![checkpoint.tombstones[0]; MAX_TOMBSTONES + 2];
    checkpoint.tombstones[2].finished_at = 99;
    checkpoint.expire(60);
    assert_eq!((checkpoint.tombstones.len(), checkpoint.tombstones[0].finished_at), (MAX_TOMBSTONES, 99));
}

#[derive(Debug, Clone, Copy)]
enum Life {
    Read,
    Settle(usize),
    Rewind,
    Save,
    Crash { tear: bool },
}

fn life() -> impl Strategy<Value = Life> {
    prop_oneof![
        6 => Just(Life::Read),
        6 => any::<usize>().prop_map(Life::Settle),
        1 => Just(Life::Rewind),
        4 => Just(Life::Save),
        1 => any::<bool>().prop_map(|tear| Life::Crash { tear }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the order of acknowledgements, rewinds, saves and crashes (with the newest file torn or not): when the
    /// segment may go, every entry of it has been acknowledged, and both files on disk say so.
    #[test]
    fn nothing_is_reapable_early(lives in prop::collection::vec(life(), 1..120)) {
        const ENTRIES: u32 = 6;
        let sealed = Sealed { identity: SEVEN, end: LogOffset(ENTRIES * 100), entries: u64::from(ENTRIES) };
        let mut generations = Generations::new();
        let mut files: [Option<Vec<u8>>; 2] = [None, None];
        let mut newest = 0;
        let mut checkpoint = with_entries(0, false);
        let mut ledger = Ledger::new(Window::default());
        ledger.enter(at(0), Tally::default());
        let mut tickets = Vec::new();
        let mut acknowledged = std::collections::BTreeSet::new();
        for life in lives {
            match life {
                Life::Read => {
                    let next = ledger.read_position().unwrap().offset.0 + 100;
                    if next <= ENTRIES * 100 {
                        tickets.push((next, ledger.open().unwrap()));
                        ledger.read_to(at(next), Outcome::Published);
                    }
                }
                Life::Settle(index) => if !tickets.is_empty() {
                    let (entry, ticket) = tickets.remove(index % tickets.len());
                    acknowledged.insert(entry);
                    ledger.settle(ticket);
                },
                Life::Rewind => { ledger.rewind(); }
                Life::Save => {
                    let record = &mut checkpoint.segments[0];
                    if record.acknowledge(&ledger.watermark().unwrap()).is_ok()
                        && record.acknowledged() == sealed.end
                        && let Ok(account) = record.tally().finish(sealed.entries) {
                        record.finish(account).unwrap();
                    }
                    let (generation, bytes) = bytes(&mut generations, &checkpoint);
                    newest = usize::from(generation == Generation::B);
                    files[newest] = Some(bytes);
                }
                Life::Crash { tear } => {
                    // A renamed file is whole, but what disks do to the newest one is anybody's guess.
                    if tear && let Some(bytes) = &mut files[newest] {
                        bytes.truncate(bytes.len() / 2);
                    }
                    let [a, b] = &files;
                    let start = Generations::start(a.as_deref(), b.as_deref(), &node("h"));
                    let Ok(start) = start else { files = [None, None]; generations = Generations::new();
                        checkpoint = with_entries(0, false); ledger = Ledger::new(Window::default());
                        ledger.enter(at(0), Tally::default()); tickets.clear(); continue };
                    generations = start.generations;
                    checkpoint = start.checkpoint.unwrap_or_else(|| with_entries(0, false));
                    let record = &checkpoint.segments[0];
                    ledger = Ledger::new(Window::default());
                    ledger.enter(at(record.acknowledged().0), record.tally());
                    tickets.clear();
                }
            }
            if let Some(durable) = generations.durable(SEVEN)
                && let Ok(reapable) = Reapable::new(sealed, &durable) {
                prop_assert_eq!(acknowledged.len(), usize::try_from(ENTRIES).unwrap());
                prop_assert_eq!(reapable.tally().entries(), u64::from(ENTRIES));
                for file in &files {
                    let (_, held) = Checkpoint::decode(file.as_deref().unwrap()).unwrap();
                    prop_assert_eq!(held.segments[0].acknowledged(), sealed.end);
                }
            }
        }
    }
}
