//! The search: every state that some order of steps leads to, and what must hold in each.
//!
//! Owns: the promises, breadth-first enumeration, the shortest way to a state that breaks one. Does not own: the steps.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};

use cassandra_commitlog::SegmentId;
use cassandra_progress::{Checkpoint, Ending, SegmentState};

use crate::agent::{Agent, Mutation, Turn};
use crate::world::Server;
use crate::world::{Action, Broken, Idx, Mode, Phase, Segment, Setting, Witness, World, offset};

/// States of one search at most: one that needs more is no longer small.
const MOST_STATES: usize = 3_000_000;

/// Steps of an undisturbed run at most.
const MOST_STEPS: usize = 400;

/// Segments that an undisturbed server goes on to fill: what waits for the one that is being written has its turn.
const MORE_SEGMENTS: u8 = 2;

#[derive(Debug)]
pub struct Report {
    pub states: usize,
    pub steps: usize,
    pub seen: BTreeSet<Witness>,
}

/// The shortest way to a state that breaks a promise.
pub struct Counterexample {
    pub broken: Broken,
    pub actions: Vec<Action>,
    pub state: World,
}

impl fmt::Display for Counterexample {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}, after {} steps:", self.broken, self.actions.len())?;
        self.actions.iter().try_for_each(|action| writeln!(out, "  {action:?}"))?;
        self.state.segments.iter().try_for_each(|segment| writeln!(out, "{segment:?}"))?;
        writeln!(out, "{:?}\n{:?}", self.state.server, self.state.agent)
    }
}

/// Two hashes of 64 bits: among a million states two share both with odds of one in 10^26.
fn fingerprint(world: &World) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        world.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}

fn first(setting: &Setting) -> World {
    let mut world = World { segments: Vec::new(), server: Server::new(), agent: Agent::new(), left: setting.budget };
    world.allocate(setting, Phase::Active, true);
    world.allocate(setting, Phase::Spare, !setting.late_link);
    world
}

fn is_servers(action: Action) -> bool {
    use Action::{Delete, Discard, Kill, LinkLate, Mark, Restart, ServerStep, Stop, Switch, SyncBegins, Write};
    matches!(
        action,
        Write { .. }
            | Mark
            | Switch
            | LinkLate
            | SyncBegins
            | ServerStep
            | Discard(_)
            | Kill { .. }
            | Stop
            | Restart { .. }
            | Delete(_)
    )
}

struct Search<'s> {
    setting: &'s Setting,
    mutation: Mutation,
    seen: BTreeSet<Witness>,
    /// States from which an undisturbed run ends well.
    ends_well: HashSet<u128>,
}

/// Visits every state that can be reached.
pub fn explore(setting: &Setting, mutation: Mutation) -> Result<Report, Box<Counterexample>> {
    let mut search = Search { setting, mutation, seen: BTreeSet::new(), ends_well: HashSet::new() };
    let mut ways: Vec<(usize, Action)> = vec![(0, Action::Start)];
    let start = first(setting);
    let mut known: HashMap<u128, ()> = HashMap::from([(fingerprint(&start), ())]);
    let mut open = VecDeque::from([(0_usize, start)]);
    let mut steps = 0;
    while let Some((at, world)) = open.pop_front() {
        let mut actions = world.server_actions(setting);
        actions.extend(world.agent_actions(setting, mutation));
        for action in actions {
            steps += 1;
            let mut next = world.clone();
            let result = search.step(&mut next, action).and_then(|()| search.check(&next));
            let print = fingerprint(&next);
            let is_new = result.is_err() || known.insert(print, ()).is_none();
            if !is_new {
                continue;
            }
            let result = result.and_then(|()| search.ends_well(&next));
            if let Err(broken) = result {
                let mut way = vec![action];
                let mut at = at;
                while at != 0 {
                    way.push(ways[at].1);
                    at = ways[at].0;
                }
                way.reverse();
                return Err(Box::new(Counterexample { broken, actions: way, state: next }));
            }
            ways.push((at, action));
            open.push_back((ways.len() - 1, next));
        }
        assert!(ways.len() <= MOST_STATES, "more than {MOST_STATES} states: {setting:?}");
    }
    Ok(Report { states: ways.len(), steps, seen: search.seen })
}

impl Search<'_> {
    fn step(&mut self, world: &mut World, action: Action) -> Result<(), Broken> {
        if is_servers(action) {
            world.server_step(self.setting, action, &mut self.seen);
            Ok(())
        } else {
            world.agent_step(self.setting, self.mutation, action, &mut self.seen)
        }
    }

    /// What must hold in every state.
    fn check(&self, world: &World) -> Result<(), Broken> {
        for (at, segment) in world.segments.iter().enumerate() {
            let unpublished = segment.durable_changes() & !segment.acked;
            let is_there = segment.raw || segment.spool || segment.own;
            if unpublished != 0 && !is_there && !segment.gap && !segment.foreign {
                return Err(format!(
                    "segment {at}: its bytes are gone, a change in it is neither published nor recorded"
                ));
            }
            if segment.reaped && unpublished != 0 && !segment.gap {
                return Err(format!("segment {at} was deleted, and a change in it is not published"));
            }
            self.check_deleted(world, at, segment)?;
            self.check_finished(world, at, segment)?;
        }
        Ok(())
    }

    /// What was deleted is known as done to whichever checkpoint a crash leaves.
    fn check_deleted(&self, world: &World, at: usize, segment: &Segment) -> Result<(), Broken> {
        // Of what held no change nothing is kept: read again it says the same.
        if !segment.reaped || segment.durable_changes() == 0 {
            return Ok(());
        }
        let id = SegmentId(segment.id);
        let knows = |checkpoint: &Checkpoint| {
            let finished = checkpoint
                .segments
                .iter()
                .any(|record| record.identity().segment == id && record.state() == SegmentState::Finished);
            finished
                || checkpoint.tombstones.iter().any(|tombstone| {
                    tombstone.identity.segment == id && matches!(tombstone.ending, Ending::Reaped | Ending::Empty)
                })
        };
        let agent = &world.agent;
        let files: Vec<&Checkpoint> =
            [&agent.older, &agent.newer].into_iter().flatten().map(|saved| &*saved.0).collect();
        if files.is_empty() || !files.into_iter().all(knows) {
            return Err(format!("segment {at} was deleted, and a crash would forget that it was done"));
        }
        Ok(())
    }

    /// What is finished can't grow, and is read to its end.
    fn check_finished(&self, world: &World, at: usize, segment: &Segment) -> Result<(), Broken> {
        let mut records = world.agent.checkpoint.0.segments.iter();
        let record = records.find(|record| record.identity().segment.0 == segment.id);
        let Some(record) = record.filter(|record| record.state() == SegmentState::Finished) else { return Ok(()) };
        let final_now =
            segment.phase == Phase::Completed || segment.run != world.server.run || world.server.mode == Mode::Down;
        if !final_now || record.acknowledged() < offset(segment.marked) {
            return Err(format!("segment {at} is finished, but its server can add to it"));
        }
        Ok(())
    }

    /// From here on nobody crashes and nobody deletes: all is published, told, and deleted in the end.
    fn ends_well(&mut self, world: &World) -> Result<(), Broken> {
        let mut world = world.clone();
        let mut passed = Vec::new();
        let mut last_look: Option<World> = None;
        let mut more = MORE_SEGMENTS;
        for _ in 0..MOST_STEPS {
            let print = fingerprint(&world);
            if self.ends_well.contains(&print) {
                self.ends_well.extend(passed);
                return Ok(());
            }
            passed.push(print);
            let action = self.undisturbed(&world);
            if action == Action::List {
                if last_look.as_ref() == Some(&world) {
                    self.check_rest(&world)?;
                    if more == 0 {
                        self.check_end(&world)?;
                        self.ends_well.extend(passed);
                        return Ok(());
                    }
                    more -= 1;
                    (world.left.writes, world.left.switches) = (1, 1);
                    for action in [Action::Write { cdc: false }, Action::Switch] {
                        self.step(&mut world, action)?;
                    }
                    continue;
                }
                last_look = Some(world.clone());
            }
            self.step(&mut world, action).map_err(|broken| format!("left to itself: {broken}"))?;
            self.check(&world).map_err(|broken| format!("left to itself: {broken}"))?;
        }
        Err(format!("left to itself it does not come to rest: {world:?}"))
    }

    /// The next step of a run in which everybody does what is due.
    fn undisturbed(&self, world: &World) -> Action {
        match world.server.mode {
            Mode::Down => return Action::Restart { cdc: true },
            Mode::Replaying { .. } | Mode::Stopping => return Action::ServerStep,
            Mode::Running if world.server.sync.is_some() => return Action::ServerStep,
            Mode::Running if world.wants_sync() => return Action::SyncBegins,
            Mode::Running => {}
        }
        if let Some(at) = world.discardable().next() {
            return Action::Discard(at);
        }
        let actions = world.agent_actions(self.setting, self.mutation);
        let wanted = |action: &&Action| match action {
            Action::Start | Action::Look | Action::Read | Action::ReapStep | Action::Wait => true,
            Action::Acknowledge(which) => *which == 0,
            Action::Reap(_) | Action::Save => world.agent.turn == Turn::Idle,
            _ => false,
        };
        actions.iter().find(wanted).copied().unwrap_or(Action::List)
    }

    /// What came back does not wait for anybody: it may be what fills `cdc_raw`.
    fn check_rest(&self, world: &World) -> Result<(), Broken> {
        let waits = |segment: &&Segment| segment.reaped && !segment.own && (segment.raw || segment.spool);
        match world.segments.iter().find(waits) {
            Some(segment) => Err(format!("left to itself, {} came back and stays", segment.id)),
            None => Ok(()),
        }
    }

    fn check_end(&self, world: &World) -> Result<(), Broken> {
        for (at, segment) in world.segments.iter().enumerate() {
            let unpublished = segment.durable_changes() & !segment.acked;
            if segment.seen && unpublished != 0 && !segment.gap && !segment.excused {
                return Err(format!("left to itself, a change in segment {at} is neither published nor recorded"));
            }
            let left = segment.raw || segment.spool || segment.idx != Idx::Absent;
            if left && !segment.own {
                return Err(format!("left to itself, segment {at} is finished and stays"));
            }
        }
        Ok(())
    }
}
