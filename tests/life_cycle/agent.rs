//! The agent: its steps around the rules of the product.
//!
//! Owns: looking, reading to an extent, sending, saving, deleting, crashing, as the pump does them, one file operation at
//! a time. Does not own: the rules. How far a segment may be read and where it comes in says `cassandra_cdc::lifecycle`;
//! what is acknowledged, saved, chosen at start and deletable say the types of `cassandra_progress`.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;

use cassandra_cdc::lifecycle::{self, ABANDONED_AFTER, Extent, ReadTo, Sighting};
use cassandra_commitlog::{CdcIndex, FormatVersion, LogOffset, SegmentId};
use cassandra_progress::{
    Checkpoint, DurableWatermark, Ending, Generations, Identity, Ledger, Node, Outcome, Reapable, Sealed,
    SegmentRecord, SegmentState, StartError, Tally, Tombstone, Watermark, Window,
};

use crate::world::{Action, Broken, Idx, Phase, Segment, Setting, Witness, World, entries_before, offset};

type Seen = BTreeSet<Witness>;

/// A rule that is broken on purpose: the search must find what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    None,
    /// One saved generation is enough to delete.
    OneSaveIsEnough,
    /// What has no index has ended.
    NoIndexIsEnded,
    /// Where a growing index ends, the segment ends.
    GrowingIsEnded,
    /// Reading goes on behind a segment that may still grow.
    GrowingIsPassed,
    /// An acknowledgement stands for all before it.
    LastAcknowledgementWins,
    /// A segment that comes back is a new one.
    TombstonesForgotten,
    /// Segments go by their ids.
    OrderedByIds,
    /// Nothing is linked into the spool.
    SpoolForgotten,
    /// What the server has let go of is deleted as it is.
    LetGoIsFinished,
    /// The spool's link goes when `cdc_raw` loses its own.
    SpoolFollowsRaw,
    /// What comes back queues up behind what still grows.
    CameBackGoesBehind,
    /// New segments get their places before the known ones are looked at.
    NewBeforeKnown,
    /// What is acknowledged to its end is not walked again after a rewind, although nothing has finished it.
    RewoundStays,
}

/// A checkpoint, as a part of a state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved(pub Rc<Checkpoint>);

impl Hash for Saved {
    fn hash<H: Hasher>(&self, into: &mut H) {
        for record in &self.0.segments {
            (record.identity(), record.state(), record.acknowledged().0, record.tally()).hash(into);
            (record.indexed, record.early).hash(into);
        }
        into.write_u8(0xff);
        for tombstone in &self.0.tombstones {
            (tombstone.identity, tombstone.end.0, tombstone.tally, tombstone.ending).hash(into);
        }
        into.write_u8(0xff);
    }
}

/// What is known of a segment under way, beyond its record.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reading {
    /// The last look showed it.
    pub there: bool,
    pub index: Option<Known>,
    held: bool,
    /// It has been as it is for long.
    settled: bool,
    has_section: bool,
    framed: u8,
    read: u32,
    tally: Tally,
    pub end: Option<u32>,
    done: Option<To>,
    /// Something behind the last marker was read.
    early: bool,
}

/// An index as it was read; the number where it is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Known {
    Growing(u8),
    Sealed,
}

/// An extent, as a part of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum To {
    Nothing,
    Durable(u32),
    Visible,
    Chain,
    Ended,
}

/// What the ledger was told since its watermark.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Told {
    Enter { at: u8, start: u32, tally: Tally },
    Entry { at: u8, end: u32, cdc: bool, acked: bool },
    Advance { at: u8, end: u32 },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Turn {
    Idle,
    /// The directory is listed, the indexes are not read: raw, spool, server's name.
    Listed(Vec<(bool, bool, bool)>),
    /// Reading, these to these extents.
    Reading(Vec<(u8, To)>),
    Reaping {
        at: u8,
        step: u8,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Agent {
    pub up: bool,
    pub turn: Turn,
    /// By place in the world; none for what this life has not met, or has parted from.
    pub readings: Vec<Option<Reading>>,
    pub told: Vec<Told>,
    pub checkpoint: Saved,
    pub older: Option<Saved>,
    pub newer: Option<Saved>,
    /// Saves of this life; more than two are two.
    pub saves: u8,
}

impl Agent {
    pub fn new() -> Self {
        Self {
            up: true,
            turn: Turn::Idle,
            readings: Vec::new(),
            told: Vec::new(),
            checkpoint: empty(),
            older: None,
            newer: None,
            saves: 0,
        }
    }

    fn record(&self, id: SegmentId) -> Option<&SegmentRecord> {
        self.checkpoint.0.segments.iter().find(|record| record.identity().segment == id)
    }

    fn edit(&mut self) -> &mut Checkpoint {
        Rc::make_mut(&mut self.checkpoint.0)
    }

    /// Sent, and not acknowledged.
    pub fn outstanding(&self) -> impl Iterator<Item = u8> {
        let open = |told: &&Told| matches!(told, Told::Entry { cdc: true, acked: false, .. });
        (0_u8..).take(self.told.iter().filter(open).count())
    }

    /// What both generations of this life hold, as the product asks for it.
    fn durable(&self, identity: Identity, mutation: Mutation) -> Option<DurableWatermark> {
        let mut generations = Generations::new();
        let newer = self.newer.as_ref();
        let older = if mutation == Mutation::OneSaveIsEnough { newer } else { self.older.as_ref() };
        let needed = if mutation == Mutation::OneSaveIsEnough { 1 } else { 2 };
        if self.saves >= needed {
            for saved in [older, newer].into_iter().flatten() {
                write(&mut generations, saved);
            }
        }
        generations.durable(identity)
    }
}

/// What a checkpoint says is done. A record that says nothing but that a segment is there is as good as none.
fn done(saved: &Saved) -> (Vec<SegmentRecord>, Vec<Tombstone>) {
    let begun = saved.0.segments.iter().filter(|record| record.acknowledged() > LogOffset(0));
    (begun.cloned().collect(), saved.0.tombstones.clone())
}

fn empty() -> Saved {
    Saved(Rc::new(Checkpoint { node: Node::default(), ..Checkpoint::default() }))
}

/// The bytes of a save.
fn write(generations: &mut Generations, saved: &Saved) -> Vec<u8> {
    let mut written = Vec::new();
    let result = generations.save(&saved.0, |_, bytes| {
        written = bytes.to_vec();
        Ok::<_, ()>(())
    });
    result.unwrap();
    written
}

impl Reading {
    fn new(record: &SegmentRecord) -> Self {
        Self {
            there: true,
            index: None,
            held: true,
            settled: false,
            has_section: false,
            framed: 0,
            read: record.acknowledged().0,
            tally: record.tally(),
            end: None,
            done: None,
            early: record.early,
        }
    }

    /// An index is truncated before it is written, and a number never falls: what it said last still holds.
    fn see(&mut self, idx: Idx, held: bool) {
        let index = match (idx, self.index) {
            (Idx::Absent | Idx::Empty, known) => known,
            (Idx::Sealed, _) | (Idx::Growing(_), Some(Known::Sealed)) => {
                if idx == Idx::Sealed {
                    Some(Known::Sealed)
                } else {
                    self.index
                }
            }
            (Idx::Growing(now), Some(Known::Growing(before))) => Some(Known::Growing(now.max(before))),
            (Idx::Growing(now), None) => Some(Known::Growing(now)),
        };
        if (index, held) != (self.index, self.held) {
            self.settled = false;
            (self.index, self.held) = (index, held);
        }
    }

    fn begin_again(&mut self) {
        (self.framed, self.done) = (0, None);
    }

    fn restart(&mut self, record: &SegmentRecord) {
        let stays = self.end.is_none() || record.state() == SegmentState::Finished;
        if stays && record.acknowledged().0 >= self.read {
            return;
        }
        self.begin_again();
        self.end = None;
        (self.read, self.tally) = (record.acknowledged().0, record.tally());
    }

    fn sighting(&self, segment: &Segment, setting: &Setting, is_finished: bool) -> Sighting {
        Sighting {
            name: segment.name(setting.version),
            index: self.index.map(|known| match known {
                Known::Growing(entries) => CdcIndex::Growing(offset(entries)),
                Known::Sealed => CdcIndex::Sealed(LogOffset(u32::MAX)),
            }),
            server_holds: self.held,
            unchanged: if self.settled { ABANDONED_AFTER } else { std::time::Duration::ZERO },
            has_section: self.has_section,
            read_to: setting.read_to,
            is_finished,
        }
    }

    fn is_in_use(&self) -> bool {
        !self.held || self.index.is_some() || self.framed > 0
    }

    /// The entries that the account must close on.
    fn entries(&self) -> u64 {
        match self.end {
            Some(end) if self.read > end => self.tally.entries().max(u64::from(self.framed)),
            _ => u64::from(self.framed),
        }
    }
}

impl World {
    pub fn agent_actions(&self, setting: &Setting, mutation: Mutation) -> Vec<Action> {
        let agent = &self.agent;
        if !agent.up {
            return vec![Action::Start];
        }
        let mut actions = match &agent.turn {
            Turn::Listed(_) => vec![Action::Look],
            Turn::Reading(_) => vec![Action::Read],
            Turn::Reaping { .. } => vec![Action::ReapStep],
            // A turn ends with saving what is finished, deleting it, and saving that.
            Turn::Idle if self.must_save(mutation) => vec![Action::Save],
            Turn::Idle => match self.reapable(mutation).next() {
                Some(at) => vec![Action::Reap(at)],
                None => self.idle_actions(setting),
            },
        };
        if self.left.crashes > 0 {
            actions.push(Action::Crash { tear: false });
            // A file that lies still is not torn: only the one that this life has written may be.
            if agent.saves > 0 {
                actions.push(Action::Crash { tear: true });
            }
        }
        actions
    }

    fn finished(&self) -> impl Iterator<Item = usize> {
        let is_finished = |at: usize| {
            let there = self.agent.readings.get(at).and_then(Option::as_ref).is_some_and(|reading| reading.there);
            let record = self.agent.record(SegmentId(self.segments[at].id));
            there && record.is_some_and(|record| record.state() == SegmentState::Finished)
        };
        (0..self.segments.len()).filter(move |at| is_finished(*at))
    }

    fn idle_actions(&self, setting: &Setting) -> Vec<Action> {
        let agent = &self.agent;
        let mut actions = vec![Action::List];
        actions.extend(agent.outstanding().map(Action::Acknowledge));
        // Where no crash comes any more nobody reads what is saved.
        if self.left.crashes > 0 && agent.newer.as_ref().map(done).unwrap_or_default() != done(&agent.checkpoint) {
            actions.push(Action::Save);
        }
        let waits = |reading: &Reading| reading.there && !reading.settled && !reading.held;
        if setting.fine && agent.readings.iter().flatten().any(waits) {
            actions.push(Action::Wait);
        }
        if self.left.rewinds > 0 && !agent.told.is_empty() {
            actions.push(Action::Rewind);
        }
        actions
    }

    fn must_save(&self, mutation: Mutation) -> bool {
        let agent = &self.agent;
        let is_read = |at: &usize| agent.readings[*at].as_ref().is_some_and(|reading| reading.end.is_some());
        let saved = agent.newer.as_ref().map_or(&[][..], |saved| &saved.0.tombstones);
        saved != agent.checkpoint.0.tombstones
            || self.finished().filter(is_read).any(|at| self.right(at, mutation).is_none())
    }

    fn reapable(&self, mutation: Mutation) -> impl Iterator<Item = u8> {
        let may = move |at: &usize| {
            self.right(*at, mutation).is_some() || mutation == Mutation::LetGoIsFinished && self.is_let_go(*at)
        };
        let all: Vec<usize> = (0..self.segments.len()).collect();
        all.into_iter().filter(may).map(|at| u8::try_from(at).unwrap())
    }

    fn is_let_go(&self, at: usize) -> bool {
        let reading = self.agent.readings.get(at).and_then(Option::as_ref);
        reading.is_some_and(|reading| reading.there && !reading.held)
    }

    fn right(&self, at: usize, mutation: Mutation) -> Option<Reapable> {
        let reading = self.agent.readings.get(at)?.as_ref().filter(|reading| reading.there)?;
        let record = self.agent.record(SegmentId(self.segments[at].id))?;
        if record.state() != SegmentState::Finished {
            return None;
        }
        let identity = record.identity();
        let sealed = Sealed { identity, end: LogOffset(reading.end?), entries: reading.entries() };
        Reapable::new(sealed, &self.agent.durable(identity, mutation)?).ok()
    }

    /// Takes a step of the agent.
    pub fn agent_step(
        &mut self,
        setting: &Setting,
        mutation: Mutation,
        action: Action,
        seen: &mut Seen,
    ) -> Result<(), Broken> {
        match action {
            Action::Start => self.start(),
            Action::Crash { tear } => self.crash(setting, tear, seen),
            Action::Wait => {
                self.agent.readings.iter_mut().flatten().for_each(|reading| reading.settled = true);
            }
            Action::List => {
                let look = |segment: &Segment| (segment.raw, segment.spool, segment.own);
                self.agent.turn = Turn::Listed(self.segments.iter().map(look).collect());
                if !setting.fine {
                    // Between two looks so much time may go by.
                    self.agent.readings.iter_mut().flatten().for_each(|reading| reading.settled = true);
                    self.look(setting, mutation, seen)?;
                    while matches!(self.agent.turn, Turn::Reading(_)) {
                        self.read(setting, seen)?;
                    }
                }
            }
            Action::Look => self.look(setting, mutation, seen)?,
            Action::Read => self.read(setting, seen)?,
            Action::Acknowledge(which) => self.acknowledge(which, mutation, seen)?,
            Action::Rewind => self.rewind(mutation, seen),
            Action::Save => {
                let agent = &mut self.agent;
                agent.older = agent.newer.replace(agent.checkpoint.clone());
                agent.saves = (agent.saves + 1).min(2);
            }
            Action::Reap(at) => {
                let right = self.right(usize::from(at), mutation);
                let expected = SegmentId(self.segments[usize::from(at)].id);
                if right.is_some_and(|right| right.identity().segment != expected) {
                    return Err("the right to delete is of another segment".to_owned());
                }
                self.agent.turn = Turn::Reaping { at, step: 0 };
            }
            Action::ReapStep => self.reap(seen),
            _ => unreachable!("{action:?} is not the agent's"),
        }
        Ok(())
    }

    /// Chooses a checkpoint as the product does, from bytes on disk.
    fn start(&mut self) {
        let agent = &mut self.agent;
        let mut generations = Generations::new();
        let mut files = [None, None];
        for (file, saved) in files.iter_mut().zip([&agent.older, &agent.newer]) {
            *file = saved.as_ref().map(|saved| write(&mut generations, saved));
        }
        let [a, b] = &files;
        let start = Generations::start(a.as_deref(), b.as_deref(), &Node::default()).unwrap();
        agent.checkpoint = start.checkpoint.map_or_else(empty, |checkpoint| Saved(Rc::new(checkpoint)));
        agent.up = true;
    }

    fn crash(&mut self, setting: &Setting, tear: bool, seen: &mut Seen) {
        self.left.crashes -= 1;
        let agent = &mut self.agent;
        if let Turn::Reaping { step, .. } = agent.turn
            && step > 0
        {
            seen.insert(Witness::CrashBetweenUnlinks);
        }
        if tear {
            seen.insert(Witness::CrashWithTornNewest);
            torn(agent, seen);
        }
        let (older, newer) = (agent.older.take(), agent.newer.take());
        *agent = Agent { up: false, older, newer, ..Agent::new() };
        if !setting.spool {
            // What went between two looks is told by nothing.
            for segment in self.segments.iter_mut().filter(|segment| segment.foreign && !segment.raw) {
                segment.excused |= !segment.gap;
            }
        }
    }

    fn look(&mut self, setting: &Setting, mutation: Mutation, seen: &mut Seen) -> Result<(), Broken> {
        let Turn::Listed(listed) = std::mem::replace(&mut self.agent.turn, Turn::Idle) else { unreachable!() };
        let mut views: Vec<(usize, Idx, bool)> = Vec::new();
        for (at, (raw, spooled, own)) in listed.into_iter().enumerate() {
            let segment = &mut self.segments[at];
            let still = segment.raw || segment.idx != Idx::Absent;
            let linked = raw && segment.raw && setting.spool && mutation != Mutation::SpoolForgotten;
            let own = if linked && !spooled { segment.own } else { own };
            segment.spool |= linked;
            if mutation == Mutation::SpoolFollowsRaw && !segment.raw {
                segment.spool = false;
            }
            if (raw && still) || spooled {
                segment.seen = true;
                if segment.idx == Idx::Empty {
                    seen.insert(Witness::EmptyIndexSeen);
                }
                views.push((at, segment.idx, own));
            }
        }
        self.agent.readings.resize(self.segments.len(), None);
        views.sort_by_key(|(at, ..)| self.segments[*at].id);
        if mutation != Mutation::NewBeforeKnown {
            // What is on record, then spares that a stopped server left, then what is new.
            let on_record = |at: usize| self.agent.record(SegmentId(self.segments[at].id)).is_some();
            let left = |at: usize, idx: Idx, own: bool| idx == Idx::Absent && !own && self.segments[at].marked == 0;
            views.sort_by_key(|(at, idx, own)| (!on_record(*at), !left(*at, *idx, *own)));
        }
        for (at, idx, own) in &views {
            self.meet(*at, mutation, seen);
            let reading = self.agent.readings[*at].as_mut().unwrap();
            reading.see(*idx, *own);
            if reading.index.is_some() {
                let id = SegmentId(self.segments[*at].id);
                let mut records = self.agent.edit().segments.iter_mut();
                records.find(|record| record.identity().segment == id).unwrap().indexed = true;
            }
        }
        for at in 0..self.segments.len() {
            let there = views.iter().any(|(view, ..)| *view == at);
            if let Some(reading) = &mut self.agent.readings[at] {
                reading.there = there;
            }
            if !there {
                self.part_from(at, setting, seen)?;
            }
        }
        self.orphans(setting, seen)?;
        self.plan(setting, mutation);
        Ok(())
    }

    fn meet(&mut self, at: usize, mutation: Mutation, seen: &mut Seen) {
        if self.agent.readings[at].is_some() {
            return;
        }
        let id = SegmentId(self.segments[at].id);
        if self.agent.record(id).is_none() {
            let known: Vec<_> = self.agent.checkpoint.0.segments.iter().map(|record| self.in_use(record)).collect();
            let (record, revived) = self.first_record(at, mutation, seen);
            let place = match mutation {
                Mutation::OrderedByIds => known.iter().filter(|(other, _)| *other < id).count(),
                _ if revived && mutation != Mutation::CameBackGoesBehind => 0,
                _ => lifecycle::place_of(id, &known),
            };
            self.agent.edit().segments.insert(place, record);
        }
        let record = self.agent.record(id).unwrap();
        self.agent.readings[at] = Some(Reading::new(record));
    }

    fn in_use(&self, record: &SegmentRecord) -> (SegmentId, bool) {
        let id = record.identity().segment;
        let at = self.segments.iter().position(|segment| segment.id == id.0).unwrap();
        let reading = self.agent.readings[at].as_ref();
        (id, reading.is_some_and(Reading::is_in_use) || record.acknowledged() > LogOffset(0))
    }

    fn first_record(&self, at: usize, mutation: Mutation, seen: &mut Seen) -> (SegmentRecord, bool) {
        let segment = &self.segments[at];
        let id = SegmentId(segment.id);
        let name = format!("CommitLog-7-{}.log", segment.id);
        let first = (segment.marked > 0).then(|| first_crc(at));
        let tombstone = first.and_then(|first| self.agent.checkpoint.0.tombstone_of(id, first));
        match tombstone.filter(|_| mutation != Mutation::TombstonesForgotten) {
            Some(tombstone) => {
                seen.insert(Witness::RevivedFromTombstone);
                (SegmentRecord::revived(tombstone, name, 0, 0), true)
            }
            None => (SegmentRecord::new(Identity { segment: id, first_entry_crc: None }, name, 0, 0), false),
        }
    }

    /// A segment is in neither directory any more.
    fn part_from(&mut self, at: usize, setting: &Setting, seen: &mut Seen) -> Result<(), Broken> {
        let id = SegmentId(self.segments[at].id);
        let Some(record) = self.agent.record(id).cloned() else { return Ok(()) };
        let reading = self.agent.readings[at].clone();
        if reading.as_ref().is_some_and(|reading| reading.read > record.acknowledged().0) {
            return Ok(());
        }
        let tally = record.tally();
        let held_changes = tally.entries() > u64::from(tally.not_cdc) && !record.early;
        let is_done = record.state() == SegmentState::Finished
            || reading.as_ref().is_some_and(|reading| is_closed(reading, &record));
        let ending = match (is_done, record.indexed || held_changes) {
            (true, _) => Ending::Reaped,
            (false, true) => Ending::Lost,
            (false, false) => Ending::Empty,
        };
        if ending == Ending::Lost {
            if setting.commitlog && setting.spool && self.segments[at].own {
                seen.insert(Witness::FoundInCommitlog);
                self.segments[at].spool = true;
                return Ok(());
            }
            self.record_gap(at, setting, seen)?;
        }
        self.bury(at, ending);
        Ok(())
    }

    fn record_gap(&mut self, at: usize, setting: &Setting, seen: &mut Seen) -> Result<(), Broken> {
        let segment = &mut self.segments[at];
        if segment.reaped && !segment.foreign {
            return Err(format!("segment {at} was deleted by right, and a gap record says that it is lost"));
        }
        if setting.spool && segment.seen && !segment.foreign {
            return Err(format!("segment {at} is recorded as lost, and the spool had it"));
        }
        segment.gap = true;
        seen.insert(Witness::GapRecorded);
        Ok(())
    }

    fn bury(&mut self, at: usize, ending: Ending) {
        let id = SegmentId(self.segments[at].id);
        self.agent.readings[at] = None;
        let Some(identity) = self.agent.record(id).map(SegmentRecord::identity) else { return };
        let checkpoint = self.agent.edit();
        checkpoint.bury(identity, 0, ending);
        // In the order of their segments: how they came there makes no other state.
        checkpoint.tombstones.sort_by_key(|tombstone| tombstone.identity);
    }

    fn orphans(&mut self, setting: &Setting, seen: &mut Seen) -> Result<(), Broken> {
        for at in 0..self.segments.len() {
            let segment = &self.segments[at];
            let is_orphan = segment.idx != Idx::Absent && !segment.raw && !segment.spool;
            if !is_orphan || self.agent.readings[at].is_some() {
                continue;
            }
            let mut tombstones = self.agent.checkpoint.0.tombstones.iter();
            let reaped = tombstones
                .any(|tombstone| tombstone.identity.segment.0 == segment.id && tombstone.ending != Ending::Empty);
            if reaped {
                seen.insert(Witness::OrphanExplained);
            } else if setting.commitlog && setting.spool && segment.own {
                seen.insert(Witness::FoundInCommitlog);
                self.segments[at].spool = true;
                continue;
            } else {
                self.record_gap(at, setting, seen)?;
            }
            self.segments[at].idx = Idx::Absent;
        }
        Ok(())
    }

    fn plan(&mut self, setting: &Setting, mutation: Mutation) {
        let place = |record: &SegmentRecord| {
            let id = record.identity().segment.0;
            let at = self.segments.iter().position(|segment| segment.id == id)?;
            let is_finished = record.state() == SegmentState::Finished;
            self.agent.readings[at].as_ref().filter(|reading| reading.there).map(|_| (at, is_finished))
        };
        let order: Vec<(usize, bool)> = self.agent.checkpoint.0.segments.iter().filter_map(place).collect();
        let sighting = |&(at, is_finished): &(usize, bool)| {
            self.agent.readings[at].as_ref().unwrap().sighting(&self.segments[at], setting, is_finished)
        };
        let sightings: Vec<Sighting> = order.iter().map(sighting).collect();
        let mut plan = Vec::new();
        for ((at, _), extent) in order.into_iter().zip(lifecycle::extents(&sightings)) {
            let to = match (extent, mutation) {
                (Extent::Nothing, Mutation::NoIndexIsEnded) => To::Ended,
                (Extent::Durable(_), Mutation::GrowingIsEnded) => To::Ended,
                (Extent::Nothing, _) => To::Nothing,
                (Extent::Durable(end), _) => To::Durable(end.0),
                (Extent::Visible, _) => To::Visible,
                (Extent::Chain, _) => To::Chain,
                (Extent::Ended, _) => To::Ended,
            };
            plan.push((u8::try_from(at).unwrap(), to));
            if matches!(to, To::Visible | To::Durable(_)) && mutation != Mutation::GrowingIsPassed {
                break;
            }
        }
        self.reach_end(&sightings, &plan);
        // What needs no step is no step.
        plan.retain(|(at, to)| {
            let done = self.agent.readings[usize::from(*at)].as_ref().unwrap().done;
            *to != To::Nothing && (done != Some(*to) || *to == To::Visible)
        });
        self.agent.turn = if plan.is_empty() { Turn::Idle } else { Turn::Reading(plan) };
    }

    /// Behind a segment that is read to what is visible, the next one is looked at.
    fn reach_end(&mut self, sightings: &[Sighting], plan: &[(u8, To)]) {
        let (Some((_, To::Visible)), Some(next)) = (plan.last(), sightings.get(plan.len())) else { return };
        let at = self.segments.iter().position(|segment| segment.id == next.name.id.0).unwrap();
        let reading = self.agent.readings[at].as_mut().unwrap();
        reading.has_section |= self.segments[at].marked > 0;
    }

    fn read(&mut self, setting: &Setting, seen: &mut Seen) -> Result<(), Broken> {
        let Turn::Reading(mut plan) = std::mem::replace(&mut self.agent.turn, Turn::Idle) else { unreachable!() };
        let (place, to) = plan.remove(0);
        let at = usize::from(place);
        let segment = &self.segments[at];
        if !segment.raw && !segment.spool {
            // Gone since the look: the next one tells.
            return Ok(());
        }
        let (until, witness) = match to {
            To::Durable(end) => (entries_before(LogOffset(end)), Witness::ReadToDurable),
            To::Visible if setting.read_to == ReadTo::Written => (segment.len(), Witness::ReadVisible),
            To::Visible => (segment.marked, Witness::ReadVisible),
            To::Chain => (segment.marked, Witness::ReadChain),
            To::Ended => (segment.marked, Witness::ReadEnded),
            To::Nothing => unreachable!(),
        };
        seen.insert(witness);
        if !segment.raw {
            seen.insert(Witness::ReadFromSpool);
        }
        let cdc = segment.entries.clone();
        let marked = segment.marked;
        let reading = self.agent.readings[at].as_mut().unwrap();
        if to == To::Ended && reading.index != Some(Known::Sealed) && setting.version != FormatVersion::V6 {
            seen.insert(Witness::EndedWithoutCompleted);
        }
        let framed = until.min(marked);
        reading.framed = reading.framed.max(framed);
        reading.has_section |= framed > 0;
        reading.done = Some(to);
        let mut told = vec![Told::Enter { at: place, start: reading.read, tally: reading.tally }];
        let first = entries_before(LogOffset(reading.read));
        for entry in first..until.max(first) {
            let (end, cdc) = (offset(entry + 1).0, cdc[usize::from(entry)]);
            reading.read = end;
            reading.tally.count(outcome(cdc));
            told.push(Told::Entry { at: place, end, cdc, acked: false });
        }
        told.push(Told::Advance { at: place, end: offset(framed).0 });
        if reading.read > offset(marked).0 {
            reading.early = true;
            seen.insert(Witness::ReadBehindTheMarker);
        }
        if to == To::Ended {
            reading.end = Some(offset(marked).0);
            if let Some(Known::Growing(named)) = reading.index
                && named > marked
            {
                return Err(format!("segment {at} ends before its own index: it would be held"));
            }
        }
        self.identify(at, framed)?;
        self.check_repeats(at, &told)?;
        self.tell(told);
        if !plan.is_empty() {
            self.agent.turn = Turn::Reading(plan);
        }
        self.collect()
    }

    /// What changes nothing in the ledger is not kept: to enter the segment that it is in, or not to get on.
    fn tell(&mut self, told: Vec<Told>) {
        let place = |told: &Told| match *told {
            Told::Enter { at, start: end, .. } | Told::Entry { at, end, .. } | Told::Advance { at, end } => (at, end),
        };
        for told in told {
            let (at, end) = place(&told);
            let stays = self.agent.told.last().map(place).is_some_and(|(last, until)| last == at && until >= end);
            if !stays {
                self.agent.told.push(told);
            }
        }
    }

    fn identify(&mut self, at: usize, framed: u8) -> Result<(), Broken> {
        let id = SegmentId(self.segments[at].id);
        let mut records = self.agent.edit().segments.iter_mut();
        let record = records.find(|record| record.identity().segment == id).unwrap();
        if framed > 0 {
            record.identify(first_crc(at)).map_err(|refused| refused.to_string())?;
        }
        Ok(())
    }

    /// What a tombstone says is done is not sent again.
    fn check_repeats(&self, at: usize, told: &[Told]) -> Result<(), Broken> {
        let tombstone = self.agent.checkpoint.0.tombstone_of(SegmentId(self.segments[at].id), first_crc(at));
        let again = |told: &Told| matches!(told, Told::Entry { end, cdc: true, .. } if tombstone.is_some_and(|known| *end <= known.end.0));
        if told.iter().any(again) {
            Err(format!("segment {at} is published again behind its tombstone"))
        } else {
            Ok(())
        }
    }

    fn acknowledge(&mut self, which: u8, mutation: Mutation, seen: &mut Seen) -> Result<(), Broken> {
        let mut count = 0;
        for place in 0..self.agent.told.len() {
            let Told::Entry { at, end, cdc: true, acked: false } = self.agent.told[place] else { continue };
            self.deliver(usize::from(at), entries_before(LogOffset(end)) - 1)?;
            let is_it = count == which;
            if is_it && which > 0 {
                seen.insert(Witness::AcknowledgedOutOfOrder);
            }
            if let Told::Entry { acked, .. } = &mut self.agent.told[place] {
                *acked = is_it || mutation == Mutation::LastAcknowledgementWins;
            }
            if is_it {
                self.segments[usize::from(at)].acked |= 1 << (entries_before(LogOffset(end)) - 1);
                break;
            }
            count += 1;
        }
        self.collect()
    }

    /// A broker has an entry: no later one may have come before it.
    fn deliver(&mut self, at: usize, entry: u8) -> Result<(), Broken> {
        let bit = 1 << entry;
        let segment = &self.segments[at];
        // What was deleted before anybody saw it comes when it is found, if at all.
        if segment.published & bit == 0 && !segment.excused {
            let later = segment.published >> entry != 0 || self.segments[at + 1..].iter().any(|s| s.published != 0);
            if later {
                return Err(format!("entry {entry} of segment {at} is first published behind a later one"));
            }
        }
        self.segments[at].published |= bit;
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(Window::default());
        let mut acknowledged = Vec::new();
        for told in &self.agent.told {
            match told {
                Told::Enter { at, start, tally } => {
                    ledger.enter(self.segments[usize::from(*at)].at(LogOffset(*start)), *tally);
                }
                Told::Entry { at, end, cdc, acked } => {
                    let ticket = cdc.then(|| ledger.open().unwrap());
                    ledger.read_to(self.segments[usize::from(*at)].at(LogOffset(*end)), outcome(*cdc));
                    acknowledged.extend(ticket.filter(|_| *acked));
                }
                Told::Advance { at, end } => {
                    ledger.advance_to(self.segments[usize::from(*at)].at(LogOffset(*end)));
                }
            }
        }
        acknowledged.into_iter().for_each(|ticket| ledger.settle(ticket));
        ledger
    }

    /// Takes over what the ledger knows to be acknowledged, and forgets what led to it.
    fn collect(&mut self) -> Result<(), Broken> {
        let mut ledger = self.ledger();
        while let Some(passed) = ledger.pop_passed() {
            self.take(&passed)?;
        }
        let Some(watermark) = ledger.watermark() else { return Ok(()) };
        self.take(&watermark)?;
        let open = |told: &Told| matches!(told, Told::Entry { cdc: true, acked: false, .. });
        match self.agent.told.iter().position(open) {
            None => self.agent.told.clear(),
            Some(first) => {
                let at = self.segments.iter().position(|s| s.id == watermark.position().segment.0).unwrap();
                let start = Told::Enter {
                    at: u8::try_from(at).unwrap(),
                    start: watermark.position().offset.0,
                    tally: watermark.tally(),
                };
                self.agent.told.splice(..first, [start]);
            }
        }
        Ok(())
    }

    fn take(&mut self, watermark: &Watermark) -> Result<(), Broken> {
        let id = watermark.position().segment;
        let at = self.segments.iter().position(|segment| segment.id == id.0).unwrap();
        let Some(record) = self.agent.record(id) else { return Ok(()) };
        if record.state() != SegmentState::Reading || watermark.position().offset < record.acknowledged() {
            return Ok(());
        }
        let mut record = record.clone();
        record.acknowledge(watermark).map_err(|refused| refused.to_string())?;
        let reading = self.agent.readings[at].as_ref();
        record.early |= reading.is_some_and(|reading| reading.early);
        if let Some(reading) = reading.filter(|reading| reaches(reading, &record)) {
            let account = record.tally().finish(reading.entries()).map_err(|error| format!("segment {at}: {error}"))?;
            record.finish(account).map_err(|refused| refused.to_string())?;
        }
        let mut records = self.agent.edit().segments.iter_mut();
        *records.find(|other| other.identity().segment == id).unwrap() = record;
        Ok(())
    }

    fn rewind(&mut self, mutation: Mutation, seen: &mut Seen) {
        self.left.rewinds -= 1;
        seen.insert(Witness::Rewound);
        let mut ledger = self.ledger();
        ledger.rewind();
        assert_eq!(ledger.outstanding(), 0);
        self.agent.told.clear();
        let checkpoint = Rc::clone(&self.agent.checkpoint.0);
        for record in &checkpoint.segments {
            let id = record.identity().segment.0;
            let at = self.segments.iter().position(|segment| segment.id == id).unwrap();
            if let Some(Some(reading)) = self.agent.readings.get_mut(at) {
                let is_at_end = reading.end.is_some_and(|end| record.acknowledged().0 >= end);
                if mutation != Mutation::RewoundStays || !is_at_end {
                    reading.restart(record);
                }
            }
        }
    }

    fn reap(&mut self, seen: &mut Seen) {
        let Turn::Reaping { at: place, step } = self.agent.turn else { unreachable!() };
        let at = usize::from(place);
        let segment = &mut self.segments[at];
        match step {
            0 => (segment.raw, segment.reaped) = (false, true),
            1 => segment.idx = Idx::Absent,
            2 => segment.spool = false,
            _ => {
                self.agent.turn = Turn::Idle;
                return self.bury_reaped(at, seen);
            }
        }
        self.agent.turn = Turn::Reaping { at: place, step: step + 1 };
    }

    fn bury_reaped(&mut self, at: usize, seen: &mut Seen) {
        seen.insert(Witness::Reaped);
        let record = self.agent.record(SegmentId(self.segments[at].id)).unwrap();
        let entries = record.tally().entries();
        let segment = &self.segments[at];
        if entries == 0 && segment.phase == Phase::Spare {
            seen.insert(Witness::PhantomReaped);
        }
        self.bury(at, if entries == 0 { Ending::Empty } else { Ending::Reaped });
    }
}

/// The newest checkpoint is damaged. If it was the only one, all are set aside.
fn torn(agent: &mut Agent, seen: &mut Seen) {
    let mut generations = Generations::new();
    let mut files =
        [&agent.older, &agent.newer].map(|saved| saved.as_ref().map(|saved| write(&mut generations, saved)));
    if let Some(newest) = &mut files[1] {
        newest.truncate(newest.len() / 2);
    }
    let [a, b] = &files;
    agent.newer = match Generations::start(a.as_deref(), b.as_deref(), &Node::default()) {
        Ok(start) => start.checkpoint.map(|checkpoint| Saved(Rc::new(checkpoint))),
        Err(StartError::NoneWhole(_)) => {
            seen.insert(Witness::NothingWhole);
            None
        }
        Err(error) => unreachable!("{error}"),
    };
    agent.older = None;
}

fn reaches(reading: &Reading, record: &SegmentRecord) -> bool {
    let acknowledged = record.acknowledged().0;
    reading.end.is_some_and(|end| acknowledged >= end) && acknowledged >= reading.read
}

fn is_closed(reading: &Reading, record: &SegmentRecord) -> bool {
    reaches(reading, record) && record.tally().finish(reading.entries()).is_ok()
}

fn first_crc(at: usize) -> u32 {
    u32::try_from(at).unwrap() + 1
}

fn outcome(cdc: bool) -> Outcome {
    if cdc { Outcome::Published } else { Outcome::NotCdc }
}
