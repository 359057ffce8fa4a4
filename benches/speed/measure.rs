//! Two sides against each other.
//!
//! Owns: clocks, rounds, medians. Does not own: what is measured (rows), how it is shown (`table`).

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    /// Of code inside this process.
    pub(crate) rounds: usize,
    /// One side of one round takes at least as long.
    pub(crate) sample: Duration,
    /// Of whole processes.
    pub(crate) runs: usize,
    /// Segments that one run reads.
    pub(crate) segments: usize,
    /// How long what should stay as it is, or is idle, is looked at.
    pub(crate) watch: Duration,
    /// Changes whose latency is taken.
    pub(crate) changes: usize,
}

impl Effort {
    pub(crate) const QUICK: Self = Self {
        rounds: 5,
        sample: Duration::from_millis(8),
        runs: 3,
        segments: 5,
        watch: Duration::from_secs(10),
        changes: 100,
    };
    pub(crate) const FULL: Self = Self {
        rounds: 15,
        sample: Duration::from_millis(40),
        runs: 5,
        segments: 10,
        watch: Duration::from_secs(20),
        changes: 400,
    };
}

/// Seconds that one run of a side takes.
#[derive(Clone, Copy)]
pub(crate) struct Took {
    /// User and system time of the process. Others on the machine cost wall time more than this.
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
}

fn time(times: u32, side: &mut dyn FnMut()) -> Took {
    let cpu = || {
        let now = clock_gettime(ClockId::ProcessCPUTime);
        now.tv_sec as f64 + now.tv_nsec as f64 * 1e-9
    };
    let (started, began) = (Instant::now(), cpu());
    for _ in 0..times {
        side();
    }
    let took = Took { cpu: cpu() - began, wall: started.elapsed().as_secs_f64() };
    Took { cpu: took.cpu / f64::from(times), wall: took.wall / f64::from(times) }
}

/// A figure with those of all rounds around it.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) middle: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        Self { middle: figures[figures.len() / 2], low: figures[0], high: figures[figures.len() - 1] }
    }

    pub(crate) fn one(figure: f64) -> Self {
        Self { middle: figure, low: figure, high: figure }
    }

    /// That of the reciprocals.
    pub(crate) fn inverse(self) -> Self {
        Self { middle: 1.0 / self.middle, low: 1.0 / self.high, high: 1.0 / self.low }
    }
}

/// Two sides of a row, each the median of its rounds.
#[derive(Clone, Copy)]
pub(crate) struct Duel {
    pub(crate) ours: Took,
    pub(crate) theirs: Took,
    /// CPU seconds of theirs by ours: above 1 where we are faster. The median of the rounds' ratios.
    pub(crate) cpu: Spread,
    /// The same by the wall clock.
    pub(crate) wall: Spread,
}

impl Duel {
    /// Of rounds in which both took turns.
    pub(crate) fn of(rounds: &[(Took, Took)]) -> Self {
        let spread = |figure: fn(&(Took, Took)) -> f64| Spread::of(rounds.iter().map(figure).collect());
        let middle = |figure| spread(figure).middle;
        Self {
            ours: Took { cpu: middle(|(ours, _)| ours.cpu), wall: middle(|(ours, _)| ours.wall) },
            theirs: Took { cpu: middle(|(_, theirs)| theirs.cpu), wall: middle(|(_, theirs)| theirs.wall) },
            cpu: spread(|(ours, theirs)| theirs.cpu / ours.cpu),
            wall: spread(|(ours, theirs)| theirs.wall / ours.wall),
        }
    }
}

/// Runs both in turns, A B A B, after a round that warms caches and buffers and does not count.
pub(crate) fn duel(effort: Effort, ours: &mut dyn FnMut(), theirs: &mut dyn FnMut()) -> Duel {
    let times = |side: &mut dyn FnMut()| {
        side();
        let once = time(1, side).wall.max(1e-9);
        (effort.sample.as_secs_f64() / once).ceil().max(1.0) as u32
    };
    let (our_times, their_times) = (times(ours), times(theirs));
    let rounds: Vec<(Took, Took)> =
        (0..effort.rounds).map(|_| (time(our_times, ours), time(their_times, theirs))).collect();
    Duel::of(&rounds)
}
