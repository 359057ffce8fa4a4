//! Whole lives against a naive model: several segments, acknowledgements in any order, rewinds and crashes at any time,
//! torn saves, segments that are deleted, come back, and go again.
//!
//! The model keeps one flag for each entry and looks through all of them each time. Nothing in it is clever.

use std::collections::BTreeSet;

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{
    Checkpoint, Ending, Generation, Generations, Identity, Ledger, Node, NotYet, Outcome, Reapable, Sealed,
    SegmentRecord, SegmentState, Tally, Ticket, Tombstone, Window,
};
use proptest::prelude::*;

/// Segments of the world. Their ids fall: nothing may compare them.
const SEGMENTS: usize = 3;

/// Entries of a segment at most.
const ENTRIES: u32 = 5;

#[derive(Debug, Clone)]
enum Step {
    /// The server adds an entry, or closes a segment for good.
    Grow(usize),
    Seal(usize),
    /// The next entry of the first segment that has one, or of any.
    Read,
    ReadIn(usize),
    Settle(usize),
    Collect,
    Rewind,
    /// The ledger is dropped, and another one begins from the records.
    BeginAgain,
    Save,
    Crash {
        tear: bool,
    },
    /// Deletes whatever may go.
    Reap,
    ComeBack {
        grown: bool,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..SEGMENTS).prop_map(Step::Grow),
        3 => (0..SEGMENTS).prop_map(Step::Seal),
        12 => Just(Step::Read),
        2 => (0..SEGMENTS).prop_map(Step::ReadIn),
        14 => any::<usize>().prop_map(Step::Settle),
        8 => Just(Step::Collect),
        1 => Just(Step::Rewind),
        1 => Just(Step::BeginAgain),
        8 => Just(Step::Save),
        1 => any::<bool>().prop_map(|tear| Step::Crash { tear }),
        3 => Just(Step::Reap),
        1 => any::<bool>().prop_map(|grown| Step::ComeBack { grown }),
    ]
}

/// What the model knows of a segment.
#[derive(Debug, Clone, Default)]
struct Segment {
    entries: u32,
    sealed: bool,
    /// Entries that were ever acknowledged, or needed no acknowledgement when they were read.
    done: BTreeSet<u32>,
    /// It was deleted, and is not there.
    gone: bool,
}

/// One entry that the ledger was told of.
#[derive(Debug)]
struct Told {
    segment: usize,
    entry: u32,
    ticket: Option<Ticket>,
    open: bool,
}

struct World {
    segments: Vec<Segment>,
    checkpoint: Checkpoint,
    generations: Generations,
    files: [Option<Vec<u8>>; 2],
    newest: usize,
    /// Checkpoints that this life has saved.
    saved: Vec<Checkpoint>,
    ledger: Ledger,
    /// Everything since the ledger was made or rewound, in the order of reading.
    told: Vec<Told>,
    reaped: usize,
    revived: usize,
}

fn id(segment: usize) -> SegmentId {
    SegmentId(1_000 - i64::try_from(segment).unwrap())
}

fn identity(segment: usize) -> Identity {
    Identity { segment: id(segment), first_entry_crc: Some(u32::try_from(segment).unwrap()) }
}

fn end(entries: u32) -> LogOffset {
    LogOffset(entries * 100)
}

fn outcome(segment: usize, entry: u32) -> Outcome {
    match (u32::try_from(segment).unwrap() + entry) % 4 {
        0 => Outcome::NotCdc,
        1 => Outcome::DeadLettered,
        2 => Outcome::Filtered,
        _ => Outcome::Published,
    }
}

/// The outcomes of the first entries of a segment.
fn account(segment: usize, entries: u32) -> Tally {
    let mut tally = Tally::default();
    (0..entries).for_each(|entry| tally.count(outcome(segment, entry)));
    tally
}

fn fresh() -> Checkpoint {
    let record = |segment| SegmentRecord::new(identity(segment), format!("CommitLog-7-{}.log", id(segment)), 1, 2);
    Checkpoint { node: Node::default(), segments: (0..SEGMENTS).map(record).collect(), tombstones: Vec::new() }
}

impl World {
    fn new() -> Self {
        Self {
            segments: vec![Segment::default(); SEGMENTS],
            checkpoint: fresh(),
            generations: Generations::new(),
            files: [None, None],
            newest: 0,
            saved: Vec::new(),
            ledger: Ledger::new(Window::default()),
            told: Vec::new(),
            reaped: 0,
            revived: 0,
        }
    }

    fn record(&mut self, segment: usize) -> Option<&mut SegmentRecord> {
        self.checkpoint.segments.iter_mut().find(|record| record.identity() == identity(segment))
    }

    /// Where reading goes on in a segment: behind what was told, else behind what is acknowledged.
    fn next(&mut self, segment: usize) -> Option<u32> {
        let told = self.told.iter().rfind(|told| told.segment == segment).map(|told| told.entry + 1);
        let acknowledged = self.record(segment)?.acknowledged().0 / 100;
        Some(told.unwrap_or(0).max(acknowledged)).filter(|next| *next < self.segments[segment].entries)
    }

    fn read(&mut self, segment: usize) {
        let Some(entry) = self.next(segment) else { return };
        let at = |entries| Position { segment: id(segment), offset: end(entries) };
        self.ledger.enter(at(entry), account(segment, entry));
        let outcome = outcome(segment, entry);
        let needs = matches!(outcome, Outcome::Published | Outcome::DeadLettered);
        let ticket = needs.then(|| self.ledger.open().unwrap());
        self.ledger.read_to(at(entry + 1), outcome);
        if !needs {
            self.segments[segment].done.insert(entry);
        }
        self.told.push(Told { segment, entry, open: ticket.is_some(), ticket });
    }

    fn settle(&mut self, which: usize) {
        let mut open: Vec<&mut Told> = self.told.iter_mut().filter(|told| told.open).collect();
        if open.is_empty() {
            return;
        }
        let which = which % open.len();
        let told = &mut open[which];
        told.open = false;
        self.ledger.settle(told.ticket.take().unwrap());
        self.segments[told.segment].done.insert(told.entry);
    }

    /// Takes over what is acknowledged, and holds it against the longest finished prefix.
    fn collect(&mut self) -> Result<(), TestCaseError> {
        let prefix = self.told.iter().position(|told| told.open).unwrap_or(self.told.len());
        let mut expected: Vec<u32> = Vec::new();
        for segment in 0..SEGMENTS {
            let before = self.record(segment).map_or(0, |record| record.acknowledged().0 / 100);
            let read = self.told[..prefix].iter().rfind(|told| told.segment == segment);
            expected.push(read.map_or(before, |told| before.max(told.entry + 1)));
        }
        let mut proofs = Vec::new();
        while let Some(passed) = self.ledger.pop_passed() {
            proofs.push(passed);
        }
        proofs.extend(self.ledger.watermark());
        for watermark in proofs {
            let at = (0..SEGMENTS).find(|segment| id(*segment) == watermark.position().segment).unwrap();
            let Some(record) = self.record(at) else { continue };
            // A segment that was left and entered again is proved twice: the first proof says less.
            if record.state() == SegmentState::Reading && watermark.position().offset >= record.acknowledged() {
                prop_assert_eq!(record.acknowledge(&watermark), Ok(()));
            }
        }
        for (segment, entries) in expected.into_iter().enumerate() {
            let sealed = self.segments[segment].sealed && self.segments[segment].entries == entries;
            let Some(record) = self.record(segment) else { continue };
            prop_assert_eq!(record.acknowledged(), end(entries));
            prop_assert_eq!(record.tally(), account(segment, entries));
            if sealed && record.state() == SegmentState::Reading {
                let closed = record.tally().finish(u64::from(entries));
                prop_assert_eq!(closed.map(|closed| record.finish(closed)), Ok(Ok(())));
            }
        }
        Ok(())
    }

    fn rewind(&mut self) -> Result<(), TestCaseError> {
        self.collect()?;
        let mark = self.ledger.watermark().map(|watermark| watermark.position());
        prop_assert_eq!(self.ledger.rewind(), mark);
        prop_assert_eq!((self.ledger.outstanding(), self.ledger.window_entries()), (0, 0));
        // Late acknowledgements of what was taken back settle nothing.
        for told in self.told.drain(..) {
            told.ticket.into_iter().for_each(|ticket| self.ledger.settle(ticket));
        }
        prop_assert_eq!(self.ledger.watermark().map(|watermark| watermark.position()), mark);
        Ok(())
    }

    fn begin_again(&mut self) {
        self.ledger = Ledger::new(Window::default());
        self.told.clear();
    }

    fn save(&mut self) {
        let mut written = None;
        let saved = self.generations.save(&self.checkpoint, |generation, bytes| {
            written = Some((generation, bytes.to_vec()));
            Ok::<_, ()>(())
        });
        assert_eq!(saved, Ok(()));
        let (generation, bytes) = written.unwrap();
        self.newest = usize::from(generation == Generation::B);
        self.files[self.newest] = Some(bytes);
        self.saved.push(self.checkpoint.clone());
    }

    fn crash(&mut self, tear: bool) -> Result<(), TestCaseError> {
        // A file that lies still is not torn: only one that this life has written may be.
        let tears = tear && !self.saved.is_empty();
        if let Some(bytes) = self.files[self.newest].as_mut().filter(|_| tears) {
            bytes.truncate(bytes.len() / 2);
        }
        let [a, b] = &self.files;
        let start = Generations::start(a.as_deref(), b.as_deref(), &Node::default());
        if let Ok(start) = start {
            prop_assert_eq!(start.damaged.is_some(), tears);
            if let Some(checkpoint) = &start.checkpoint {
                let known = self.saved.iter().rev().nth(usize::from(tears));
                prop_assert!(known.is_none_or(|known| known == checkpoint), "not the newest whole one");
            }
            self.generations = start.generations;
            self.checkpoint = start.checkpoint.unwrap_or_else(fresh);
            if let Some(file) = self.files[self.newest].take_if(|_| tears) {
                drop(file);
                self.newest = 1 - self.newest;
            }
        } else {
            // Only the very first save can leave nothing whole: nothing was deleted by then.
            prop_assert!(tears && self.saved.len() == 1 && self.files[1 - self.newest].is_none());
            prop_assert_eq!(self.reaped, 0);
            (self.files, self.generations, self.checkpoint) = ([None, None], Generations::new(), fresh());
        }
        self.saved.clear();
        self.begin_again();
        for segment in 0..SEGMENTS {
            self.part(segment)?;
        }
        Ok(())
    }

    /// After a crash a record may speak of a segment that was deleted by its last life: it must be a finished one.
    fn part(&mut self, segment: usize) -> Result<(), TestCaseError> {
        if !self.segments[segment].gone {
            // It came back, and that was not saved any more: it comes back once more.
            if self.record(segment).is_none() {
                self.revive(segment);
            }
            return Ok(());
        }
        if let Some(place) = self.checkpoint.segments.iter().position(|record| record.identity() == identity(segment)) {
            let record = self.checkpoint.segments.remove(place);
            prop_assert_eq!(record.state(), SegmentState::Finished, "deleted, and not known as done");
            self.checkpoint.tombstones.push(record.tombstone(0, Ending::Reaped));
        }
        let first = identity(segment).first_entry_crc.unwrap();
        prop_assert!(self.checkpoint.tombstone_of(id(segment), first).is_some(), "deleted, and forgotten");
        Ok(())
    }

    fn sealed(&self, segment: usize) -> Sealed {
        let entries = self.segments[segment].entries;
        Sealed { identity: identity(segment), end: end(entries), entries: u64::from(entries) }
    }

    /// The right to delete is there exactly when the last two saves of this life hold all of the segment as finished.
    fn check_rights(&mut self) -> Result<(), TestCaseError> {
        for segment in 0..SEGMENTS {
            let sealed = self.sealed(segment);
            let holds = |checkpoint: &Checkpoint| {
                let mut records = checkpoint.segments.iter();
                records.any(|record| {
                    record.identity() == sealed.identity
                        && record.state() == SegmentState::Finished
                        && record.acknowledged() >= sealed.end
                })
            };
            let expected = self.saved.len() >= 2 && self.saved.iter().rev().take(2).all(holds);
            let durable = self.generations.durable(sealed.identity);
            let right = durable.as_ref().map(|durable| Reapable::new(sealed, durable));
            prop_assert_eq!(matches!(right, Some(Ok(_))), expected, "{:?}", right);
            let (Some(durable), true) = (durable, expected) else { continue };
            let model = &self.segments[segment];
            prop_assert!(model.sealed, "it may still grow");
            prop_assert_eq!(&model.done, &(0..model.entries).collect::<BTreeSet<_>>());
            for file in &self.files {
                let (_, held) = Checkpoint::decode(file.as_deref().unwrap()).unwrap();
                prop_assert!(holds(&held), "a file does not know it");
            }
            let miscounted = Reapable::new(Sealed { entries: sealed.entries + 1, ..sealed }, &durable);
            prop_assert!(matches!(miscounted, Err(NotYet::Account(_))));
            let longer = Reapable::new(Sealed { end: LogOffset(sealed.end.0 + 1), ..sealed }, &durable);
            prop_assert!(matches!(longer, Err(NotYet::Behind { .. })), "{:?}", longer);
        }
        Ok(())
    }

    fn reap(&mut self) -> Result<(), TestCaseError> {
        for segment in 0..SEGMENTS {
            let durable = self.generations.durable(identity(segment));
            let right = durable.and_then(|durable| Reapable::new(self.sealed(segment), &durable).ok());
            let place = self.checkpoint.segments.iter().position(|record| record.identity() == identity(segment));
            let (Some(right), Some(place)) = (right, place) else { continue };
            prop_assert_eq!(right.tally(), account(segment, self.segments[segment].entries));
            let record = self.checkpoint.segments.remove(place);
            self.checkpoint.tombstones.retain(|tombstone| tombstone.identity != identity(segment));
            self.checkpoint.tombstones.push(record.tombstone(0, Ending::Reaped));
            self.segments[segment].gone = true;
            self.told.retain(|told| told.segment != segment || told.open);
            self.reaped += 1;
        }
        Ok(())
    }

    /// A segment that was deleted is linked again, and may be longer than it was.
    fn come_back(&mut self, grown: bool) -> Result<(), TestCaseError> {
        let Some(segment) = self.segments.iter().position(|segment| segment.gone) else { return Ok(()) };
        let tombstone = self.revive(segment);
        let before = self.segments[segment].entries;
        prop_assert_eq!((tombstone.end, tombstone.tally), (end(before), account(segment, before)));
        self.segments[segment].gone = false;
        // Longer only where no checkpoint calls it finished any more: that would say that it can't be.
        let forgets =
            |checkpoint: &Checkpoint| checkpoint.segments.iter().all(|record| record.identity() != identity(segment));
        let forgotten = self.saved.len() >= 2 && self.saved.iter().rev().take(2).all(forgets);
        self.segments[segment].entries += u32::from(grown && forgotten);
        self.revived += 1;
        Ok(())
    }

    fn revive(&mut self, segment: usize) -> Tombstone {
        let first = identity(segment).first_entry_crc.unwrap();
        let tombstone = *self.checkpoint.tombstone_of(id(segment), first).unwrap();
        let record = SegmentRecord::revived(&tombstone, format!("CommitLog-7-{}.log", id(segment)), 9, 9);
        self.checkpoint.segments.insert(0, record);
        tombstone
    }

    fn take(&mut self, step: &Step) -> Result<(), TestCaseError> {
        match *step {
            Step::Grow(at) => {
                let segment = &mut self.segments[at];
                if !segment.sealed && segment.entries < ENTRIES {
                    segment.entries += 1;
                }
            }
            Step::Seal(at) => self.segments[at].sealed |= self.segments[at].entries > 0,
            Step::Read => {
                if let Some(segment) = (0..SEGMENTS).find(|segment| self.next(*segment).is_some()) {
                    self.read(segment);
                }
            }
            Step::ReadIn(segment) => self.read(segment),
            Step::Settle(which) => self.settle(which),
            Step::Collect => self.collect()?,
            Step::Rewind => self.rewind()?,
            Step::BeginAgain => self.begin_again(),
            Step::Save => self.save(),
            Step::Crash { tear } => self.crash(tear)?,
            Step::Reap => self.reap()?,
            Step::ComeBack { grown } => self.come_back(grown)?,
        }
        self.check_rights()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_nothing_goes_early_and_nothing_is_forgotten(steps in prop::collection::vec(step(), 1..250)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step)?;
        }
        // Left to itself everything is read, acknowledged, saved twice, and goes.
        for segment in 0..SEGMENTS {
            world.take(&Step::Grow(segment))?;
            world.take(&Step::Seal(segment))?;
        }
        world.take(&Step::BeginAgain)?;
        while (0..SEGMENTS).any(|segment| world.next(segment).is_some()) {
            world.take(&Step::Read)?;
        }
        while world.told.iter().any(|told| told.open) {
            world.take(&Step::Settle(1))?;
        }
        for step in [Step::Collect, Step::Save, Step::Save, Step::Reap] {
            world.take(&step)?;
        }
        prop_assert!(world.checkpoint.segments.is_empty(), "{:?}", world.checkpoint.segments);
        prop_assert!(world.reaped >= SEGMENTS);
    }
}

/// The steps above can do what they are for: the same world, led by hand through every one of them.
#[test]
fn a_life_is_led_through_all_steps() {
    let mut world = World::new();
    let mut take = |steps: &[Step]| steps.iter().try_for_each(|step| world.take(step)).unwrap();
    take(&[Step::Grow(0), Step::Grow(0), Step::Grow(0), Step::Seal(0), Step::Grow(1), Step::Grow(1), Step::Grow(1)]);
    take(&[Step::Read, Step::Read, Step::Read, Step::Settle(0), Step::Rewind, Step::Read, Step::Read, Step::Read]);
    take(&[Step::Read, Step::Read, Step::Read, Step::Settle(2), Step::Settle(0), Step::Settle(0), Step::Settle(0)]);
    take(&[Step::Collect, Step::Save, Step::Save, Step::Reap, Step::Save, Step::Crash { tear: true }]);
    take(&[Step::Save, Step::Save, Step::ComeBack { grown: true }, Step::Read, Step::Settle(0), Step::Collect]);
    take(&[Step::Save, Step::Save, Step::Reap]);
    assert_eq!((world.reaped, world.revived), (2, 1));
}
