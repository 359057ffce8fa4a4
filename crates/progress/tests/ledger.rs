//! The ledger against a model that keeps every entry and every run of it.

use cassandra_commitlog::{LogOffset, Position, SegmentId};
use cassandra_progress::{Ledger, Outcome, Tally, Ticket, Window};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Step {
    /// Reads an entry whose records join these runs: index into the open ones, or a new one if there is none.
    Read {
        joins: Vec<usize>,
        outcome: Outcome,
    },
    /// Opens the runs of an entry, but does not get to its end yet.
    Begin,
    /// Settles one of the outstanding tickets, in any order.
    Settle(usize),
    /// Settles a ticket that a rewind has made stale.
    SettleStale(usize),
    /// Moves past bytes that hold no entry.
    Advance,
    /// Goes on in a new segment.
    Segment,
    Rewind,
    /// Collects the final watermarks of segments left behind.
    Collect,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![Just(Outcome::Published), Just(Outcome::NotCdc), Just(Outcome::Filtered), Just(Outcome::DeadLettered)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (prop::collection::vec(0..6_usize, 0..4), outcome()).prop_map(|(joins, outcome)| Step::Read { joins, outcome }),
        1 => Just(Step::Begin),
        10 => any::<usize>().prop_map(Step::Settle),
        1 => any::<usize>().prop_map(Step::SettleStale),
        2 => Just(Step::Advance),
        2 => Just(Step::Segment),
        1 => Just(Step::Rewind),
        2 => Just(Step::Collect),
    ]
}

/// One thing that was read, in order.
#[derive(Debug, Clone)]
struct Read {
    after: Position,
    tally: Tally,
    runs: Vec<u64>,
}

#[derive(Default)]
struct Model {
    reads: Vec<Read>,
    /// Runs not settled, with their tickets, and those of an entry that has no end yet.
    open: Vec<(u64, Ticket)>,
    dangling: Vec<u64>,
    next_run: u64,
    stale: Vec<Ticket>,
    /// Final watermarks already seen.
    collected: Vec<SegmentId>,
}

impl Model {
    /// The longest prefix of reads of which every run is settled.
    fn prefix(&self) -> usize {
        let open = |run: &u64| self.open.iter().any(|(other, _)| other == run);
        self.reads.iter().position(|read| read.runs.iter().any(open)).unwrap_or(self.reads.len())
    }

    fn watermark(&self) -> Option<(Position, Tally)> {
        self.prefix().checked_sub(1).map(|last| (self.reads[last].after, self.reads[last].tally))
    }
}

fn check(ledger: &Ledger, model: &Model) -> Result<(), TestCaseError> {
    let watermark = ledger.watermark().map(|watermark| (watermark.position(), watermark.tally()));
    prop_assert_eq!(watermark, model.watermark());
    prop_assert_eq!(ledger.outstanding(), model.open.len());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_watermark_is_the_longest_finished_prefix(steps in prop::collection::vec(step(), 1..150)) {
        let mut ledger = Ledger::new(Window::default());
        let mut model = Model::default();
        let mut segments = 0_i64;
        for step in steps {
            let read = model.reads.last().cloned();
            match step {
                // An entry that was begun is read before anything else is.
                Step::Segment | Step::Advance if !model.dangling.is_empty() => {}
                Step::Segment => {
                    // Ids step back as clocks do: nothing may compare them.
                    segments += 1;
                    let start = Position { segment: SegmentId(1_000 - segments), offset: LogOffset(12) };
                    ledger.enter(start, Tally::default());
                    model.reads.push(Read { after: start, tally: Tally::default(), runs: Vec::new() });
                }
                Step::Advance => {
                    let Some(Read { after, tally, .. }) = read else { continue };
                    let after = Position { offset: LogOffset(after.offset.0 + 8), ..after };
                    prop_assert!(ledger.advance_to(after));
                    model.reads.push(Read { after, tally, runs: Vec::new() });
                }
                Step::Read { joins, outcome } => {
                    let Some(Read { after, mut tally, .. }) = read else { continue };
                    let mut runs: Vec<u64> = std::mem::take(&mut model.dangling);
                    for join in joins {
                        let run = match model.open.get(join) {
                            Some((run, _)) => *run,
                            None => {
                                model.next_run += 1;
                                model.open.push((model.next_run, ledger.open().unwrap()));
                                model.next_run
                            }
                        };
                        runs.push(run);
                    }
                    let end = Position { offset: LogOffset(after.offset.0 + 100), ..after };
                    ledger.read_to(end, outcome);
                    tally.count(outcome);
                    model.reads.push(Read { after: end, tally, runs });
                }
                Step::Begin => {
                    if read.is_none() { continue }
                    model.next_run += 1;
                    model.open.push((model.next_run, ledger.open().unwrap()));
                    model.dangling.push(model.next_run);
                }
                Step::Settle(index) => {
                    if model.open.is_empty() { continue }
                    let index = index % model.open.len();
                    // The reader never settles a run of an entry it has not finished.
                    if model.dangling.contains(&model.open[index].0) { continue }
                    let (_, ticket) = model.open.remove(index);
                    ledger.settle(ticket);
                }
                Step::SettleStale(index) => {
                    if model.stale.is_empty() { continue }
                    let index = index % model.stale.len();
                    ledger.settle(model.stale.remove(index));
                }
                Step::Rewind => {
                    let expected = model.watermark();
                    let position = ledger.rewind();
                    prop_assert_eq!(position, expected.map(|(position, _)| position));
                    model.reads.truncate(model.prefix());
                    model.stale.extend(model.open.drain(..).map(|(_, ticket)| ticket));
                    model.dangling.clear();
                    prop_assert_eq!(ledger.read_position(), position);
                    prop_assert_eq!(ledger.window_entries(), 0);
                }
                Step::Collect => {
                    // Every segment that lies whole before the prefix, and that something was read behind.
                    let done = &model.reads[..model.prefix()];
                    let mut expected: Vec<(Position, Tally)> = Vec::new();
                    for pair in done.windows(2) {
                        if pair[0].after.segment != pair[1].after.segment
                            && !model.collected.contains(&pair[0].after.segment) {
                            expected.push((pair[0].after, pair[0].tally));
                        }
                    }
                    let mut found = Vec::new();
                    while let Some(watermark) = ledger.pop_passed() {
                        model.collected.push(watermark.position().segment);
                        found.push((watermark.position(), watermark.tally()));
                    }
                    prop_assert_eq!(found, expected);
                }
            }
            check(&ledger, &model)?;
        }
        // Once everything is settled the watermark is where reading stands.
        if model.dangling.is_empty() {
            for (_, ticket) in model.open.drain(..) {
                ledger.settle(ticket);
            }
            prop_assert_eq!(ledger.watermark().map(|watermark| watermark.position()), ledger.read_position());
            prop_assert_eq!((ledger.outstanding(), ledger.window_entries()), (0, 0));
        }
    }
}

fn at(offset: u32) -> Position {
    Position { segment: SegmentId(7), offset: LogOffset(offset) }
}

#[test]
fn the_last_acknowledgement_does_not_win() {
    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(12), Tally::default());
    let first = ledger.open().unwrap();
    ledger.read_to(at(100), Outcome::Published);
    let second = ledger.open().unwrap();
    ledger.read_to(at(200), Outcome::Published);
    ledger.settle(second);
    assert_eq!(ledger.watermark().unwrap().position(), at(12));
    ledger.settle(first);
    assert_eq!(ledger.watermark().unwrap().position(), at(200));
}

#[test]
fn a_dropped_ticket_holds_the_watermark_until_a_rewind() {
    let mut ledger = Ledger::new(Window::default());
    ledger.enter(at(12), Tally::default());
    drop(ledger.open().unwrap());
    ledger.read_to(at(100), Outcome::Published);
    assert_eq!(ledger.watermark().unwrap().position(), at(12));
    assert_eq!(ledger.rewind(), Some(at(12)));
    assert_eq!(ledger.watermark().unwrap().tally(), Tally::default());
}

#[test]
fn another_ledgers_ticket_settles_nothing() {
    let (mut one, mut other) = (Ledger::new(Window::default()), Ledger::new(Window::default()));
    for ledger in [&mut one, &mut other] {
        ledger.enter(at(12), Tally::default());
    }
    let (mine, theirs) = (one.open().unwrap(), other.open().unwrap());
    one.read_to(at(100), Outcome::Published);
    one.settle(theirs);
    assert_eq!(one.watermark().unwrap().position(), at(12));
    one.settle(mine);
    assert_eq!(one.watermark().unwrap().position(), at(100));
}

#[test]
fn a_repeated_entry_is_not_counted_twice() {
    let mut ledger = Ledger::new(Window::default());
    ledger.read_to(at(100), Outcome::NotCdc);
    ledger.read_to(at(100), Outcome::NotCdc);
    ledger.read_to(at(50), Outcome::NotCdc);
    assert_eq!(ledger.watermark().unwrap().tally().entries(), 1);
}

#[test]
fn the_window_bounds_runs_and_entries_behind_a_stuck_one() {
    let mut ledger = Ledger::new(Window { runs: 3, entries: 100, segments: 10 });
    ledger.enter(at(12), Tally::default());
    let stuck = ledger.open().unwrap();
    for _ in 0..2 {
        let quick = ledger.open().unwrap();
        ledger.settle(quick);
    }
    // Finished runs behind a stuck one count: each is work that a crash would repeat.
    assert!(ledger.is_full() && ledger.open().is_err());
    ledger.settle(stuck);
    assert!(!ledger.is_full());

    let stuck = ledger.open().unwrap();
    for entry in 1..=100 {
        ledger.read_to(at(12 + entry), Outcome::NotCdc);
    }
    assert!(ledger.open().is_err());
    ledger.settle(stuck);
    assert_eq!(ledger.window_entries(), 0);
    drop(ledger.open().unwrap());
}
