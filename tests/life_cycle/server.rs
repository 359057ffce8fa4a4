//! The server: what a Cassandra node does with its segments, one file operation at a time.
//!
//! Owns: allocation and links, entries, syncs and indexes, switches, discards, kills, clean stops, replay, and whoever
//! else deletes from `cdc_raw`. Does not own: what the agent makes of it.

use std::collections::BTreeSet;

use cassandra_cdc::lifecycle::ReadTo;
use cassandra_commitlog::FormatVersion;

use crate::world::{
    Action, Deletes, Idx, Mode, Phase, Replay, Segment, Server, Setting, Sync, SyncStep, Witness, World,
};

type Seen = BTreeSet<Witness>;

impl Server {
    pub fn new() -> Self {
        Self { mode: Mode::Running, run: 0, cdc: true, sync: None }
    }
}

impl World {
    pub fn find(&self, phase: Phase) -> Option<usize> {
        self.segments.iter().position(|segment| segment.run == self.server.run && segment.phase == phase)
    }

    fn active(&self) -> &Segment {
        &self.segments[self.find(Phase::Active).unwrap()]
    }

    /// A new spare, linked at once unless space is wanting. 3.11 links nothing before it is done with it.
    pub fn allocate(&mut self, setting: &Setting, phase: Phase, linked: bool) {
        let low = setting.ids_fall_back && self.server.run > 0;
        let of_run = self.segments.iter().filter(|segment| segment.run == self.server.run || !low);
        let id = of_run.map(|segment| segment.id + 1).max().unwrap_or(if low { 1 } else { 100 });
        let early = setting.version != FormatVersion::V6;
        self.segments.push(Segment {
            id,
            run: self.server.run,
            phase,
            entries: Vec::new(),
            marked: 0,
            synced: 0,
            own: true,
            raw: linked && early,
            spool: false,
            linked,
            idx: Idx::Absent,
            published: 0,
            acked: 0,
            seen: false,
            reaped: false,
            gap: false,
            foreign: false,
            excused: false,
        });
    }

    /// What the server, and those who meddle with it, can do now.
    pub fn server_actions(&self, setting: &Setting) -> Vec<Action> {
        let mut actions = Vec::new();
        let left = self.left;
        match self.server.mode {
            Mode::Running => {
                let active = self.active();
                if left.writes > 0 {
                    actions.push(Action::Write { cdc: false });
                    if active.linked {
                        actions.push(Action::Write { cdc: true });
                    }
                }
                if !active.linked {
                    actions.push(Action::LinkLate);
                }
                if setting.read_to != ReadTo::Synced
                    && self.segments.iter().any(|segment| segment.marked < segment.len())
                {
                    actions.push(Action::Mark);
                }
                if left.switches > 0 && !active.entries.is_empty() {
                    actions.push(Action::Switch);
                }
                if self.server.sync.is_some() {
                    actions.push(Action::ServerStep);
                } else if self.wants_sync() {
                    actions.push(Action::SyncBegins);
                }
                actions.extend(self.discardable().map(Action::Discard));
                if left.stops > 0 {
                    actions.push(Action::Stop);
                }
            }
            Mode::Stopping | Mode::Replaying { .. } => actions.push(Action::ServerStep),
            // Nobody can tell two lives apart that are seen at once, if the ids of the later one are lower.
            Mode::Down if setting.ids_fall_back && self.segments.iter().any(|segment| segment.raw && !segment.seen) => {
            }
            Mode::Down => {
                actions.push(Action::Restart { cdc: true });
                if setting.toggles {
                    actions.push(Action::Restart { cdc: false });
                }
            }
        }
        if left.kills > 0 && self.server.mode != Mode::Down {
            actions.push(Action::Kill { marked: false });
            if self.segments.iter().any(|segment| segment.marked < segment.len()) {
                actions.push(Action::Kill { marked: true });
            }
        }
        if left.deletions > 0 {
            let may_go = |segment: &Segment| {
                let ended = segment.run != self.server.run || segment.phase == Phase::Completed;
                segment.raw && (ended || setting.deletes == Deletes::Any)
            };
            let places = (0_u8..).zip(&self.segments).filter(|(_, segment)| may_go(segment));
            actions.extend(places.map(|(at, _)| Action::Delete(at)));
        }
        actions
    }

    pub fn wants_sync(&self) -> bool {
        let open = |segment: &&Segment| segment.run == self.server.run && segment.own;
        self.segments.iter().filter(open).any(|segment| {
            segment.phase == Phase::Closed || (segment.phase == Phase::Active && segment.synced < segment.len())
        })
    }

    pub fn discardable(&self) -> impl Iterator<Item = u8> {
        let may = |segment: &Segment| segment.own && segment.phase == Phase::Completed;
        (0_u8..).zip(&self.segments).filter(move |(_, segment)| may(segment)).map(|(at, _)| at)
    }

    /// Takes a step of the server.
    pub fn server_step(&mut self, setting: &Setting, action: Action, seen: &mut Seen) {
        match action {
            Action::Write { cdc } => {
                self.left.writes -= 1;
                let at = self.find(Phase::Active).unwrap();
                self.segments[at].entries.push(cdc);
            }
            Action::Mark => {
                // Markers go in order, oldest first.
                let open = |segment: &&mut Segment| segment.run == self.server.run;
                self.segments.iter_mut().filter(open).for_each(|segment| segment.marked = segment.len());
            }
            Action::Switch => {
                self.left.switches -= 1;
                self.switch(setting);
            }
            Action::LinkLate => {
                let at = self.find(Phase::Active).unwrap();
                (self.segments[at].linked, self.segments[at].raw) = (true, setting.version != FormatVersion::V6);
                seen.insert(Witness::LinkedLate);
            }
            Action::SyncBegins => self.begin_sync(),
            Action::ServerStep => self.small_step(setting, seen),
            Action::Discard(at) => self.discard(setting, usize::from(at), seen),
            Action::Kill { marked } => self.kill(marked, seen),
            Action::Stop => {
                self.left.stops -= 1;
                self.switch(setting);
                self.server.mode = Mode::Stopping;
                if self.server.sync.is_none() {
                    self.begin_sync();
                }
            }
            Action::Restart { cdc } => {
                self.server = Server {
                    mode: Mode::Replaying { at: 0, step: Replay::Link },
                    run: self.server.run + 1,
                    cdc,
                    sync: None,
                };
                self.allocate(setting, Phase::Active, true);
                self.allocate(setting, Phase::Spare, true);
                if setting.ids_fall_back {
                    seen.insert(Witness::IdsFellBack);
                }
            }
            Action::Delete(at) => self.delete(setting, usize::from(at), seen),
            _ => unreachable!("{action:?} is not the server's"),
        }
    }

    fn switch(&mut self, setting: &Setting) {
        let (active, spare) = (self.find(Phase::Active).unwrap(), self.find(Phase::Spare).unwrap());
        self.segments[active].phase = Phase::Closed;
        self.segments[spare].phase = Phase::Active;
        self.allocate(setting, Phase::Spare, true);
    }

    fn begin_sync(&mut self) {
        let open = |segment: &Segment| {
            segment.run == self.server.run && matches!(segment.phase, Phase::Active | Phase::Closed)
        };
        let first = self.segments.iter().position(open).unwrap();
        let last = self.find(Phase::Active).unwrap();
        let [at, last] = [first, last].map(|at| u8::try_from(at).unwrap());
        self.server.sync = Some(Sync { at, last, step: SyncStep::Data });
    }

    fn small_step(&mut self, setting: &Setting, seen: &mut Seen) {
        match (self.server.mode, self.server.sync) {
            (Mode::Replaying { at, step }, _) => self.replay(setting, usize::from(at), step, seen),
            (_, Some(sync)) => self.sync(setting, sync),
            (Mode::Stopping, None) => self.stop_on(setting, seen),
            _ => unreachable!("nothing is under way"),
        }
    }

    fn sync(&mut self, setting: &Setting, sync: Sync) {
        let segment = &mut self.segments[usize::from(sync.at)];
        let next = match sync.step {
            SyncStep::Data => {
                segment.marked = segment.len();
                segment.synced = segment.len();
                let closes = segment.phase == Phase::Closed;
                let has_index = segment.has_change(segment.len()) && setting.version != FormatVersion::V6;
                if segment.phase != Phase::Completed && has_index {
                    Some(if setting.fine { SyncStep::Truncate { closes } } else { SyncStep::Write { closes } })
                } else {
                    if closes {
                        segment.phase = Phase::Completed;
                    }
                    None
                }
            }
            SyncStep::Truncate { closes } => {
                segment.idx = Idx::Empty;
                Some(SyncStep::Write { closes })
            }
            SyncStep::Write { closes } => {
                segment.idx = if closes { Idx::Sealed } else { Idx::Growing(segment.synced) };
                if closes {
                    segment.phase = Phase::Completed;
                }
                None
            }
        };
        self.server.sync = match next {
            Some(step) => Some(Sync { step, ..sync }),
            None if sync.at < sync.last => Some(Sync { at: sync.at + 1, step: SyncStep::Data, ..sync }),
            None => None,
        };
    }

    fn discard(&mut self, setting: &Setting, at: usize, seen: &mut Seen) {
        let segment = &mut self.segments[at];
        segment.own = false;
        let has_change = segment.has_change(segment.len());
        if setting.version == FormatVersion::V6 {
            segment.raw = has_change;
            if has_change {
                seen.insert(Witness::Moved);
            }
        } else if !has_change {
            segment.raw = false;
            seen.insert(Witness::DroppedByServer);
        }
    }

    fn stop_on(&mut self, setting: &Setting, seen: &mut Seen) {
        if self.wants_sync() {
            return self.begin_sync();
        }
        let next = self.discardable().next();
        if let Some(at) = next {
            return self.discard(setting, usize::from(at), seen);
        }
        let spare = self.find(Phase::Spare).unwrap();
        self.segments[spare].own = false;
        if self.segments[spare].raw {
            seen.insert(Witness::PhantomLeft);
        }
        self.server.mode = Mode::Down;
    }

    fn kill(&mut self, marked: bool, seen: &mut Seen) {
        self.left.kills -= 1;
        if matches!(self.server.mode, Mode::Replaying { .. }) {
            seen.insert(Witness::ServerKilledWhileReplaying);
        }
        (self.server.mode, self.server.sync) = (Mode::Down, None);
        for segment in self.segments.iter_mut().filter(|segment| segment.run == self.server.run) {
            if segment.marked < segment.len() {
                seen.insert(if marked { Witness::UnsyncedSurvived } else { Witness::UnsyncedLost });
            }
            if marked {
                segment.marked = segment.len();
            }
            segment.entries.truncate(usize::from(segment.marked));
            // The page cache survives: what is behind a marker is as good as synced.
            segment.synced = segment.marked;
        }
    }

    fn replay(&mut self, setting: &Setting, at: usize, step: Replay, seen: &mut Seen) {
        let run = self.server.run;
        let found = (at..).zip(self.segments.iter_mut().skip(at)).find(|(_, segment)| segment.run < run && segment.own);
        let Some((at, segment)) = found else {
            // Names go only when all are replayed.
            self.server.mode =
                if step == Replay::Drop { Mode::Running } else { Mode::Replaying { at: 0, step: Replay::Drop } };
            return;
        };
        let replays = self.server.cdc && segment.has_change(segment.marked);
        let early = setting.version != FormatVersion::V6;
        let next = match step {
            Replay::Link if replays && early => {
                if !segment.raw && segment.reaped {
                    seen.insert(Witness::Resurrected);
                }
                segment.raw = true;
                (at, if setting.fine { Replay::Truncate } else { Replay::Write })
            }
            Replay::Link => (at + 1, Replay::Link),
            Replay::Truncate => {
                segment.idx = Idx::Empty;
                (at, Replay::Write)
            }
            Replay::Write => {
                segment.idx = Idx::Sealed;
                (at + 1, Replay::Link)
            }
            Replay::Drop => {
                segment.own = false;
                if !early {
                    segment.raw = replays;
                } else if segment.raw && segment.idx == Idx::Absent {
                    segment.raw = false;
                    if segment.durable_changes() > 0 {
                        segment.foreign |= !segment.spool;
                        segment.excused |= !segment.spool;
                        seen.insert(Witness::LinkDroppedByReplay);
                    }
                }
                (at + 1, Replay::Drop)
            }
        };
        self.server.mode = Mode::Replaying { at: u8::try_from(next.0).unwrap(), step: next.1 };
    }

    /// Somebody deletes a segment from `cdc_raw`, with its index: Cassandra that does not block, or a person.
    fn delete(&mut self, setting: &Setting, at: usize, seen: &mut Seen) {
        self.left.deletions -= 1;
        let reading = self.agent.readings.get(at).and_then(Option::as_ref);
        let told = self.agent.up && reading.is_some_and(|reading| reading.index.is_some());
        seen.insert(if self.agent.up { Witness::DeletedByOther } else { Witness::DeletedWhileAgentDown });
        let segment = &mut self.segments[at];
        (segment.raw, segment.idx) = (false, Idx::Absent);
        if !segment.spool {
            segment.foreign = true;
            segment.excused |= if setting.spool { !segment.seen } else { !told };
        }
    }
}
