//! Two pieces of code against each other, and the table of what came out.
//!
//! Owns: clocks, rounds, medians, the table. Does not own: what is measured.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// How long and how often.
#[derive(Clone, Copy)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// One side of one round takes at least as long.
    pub(crate) sample: Duration,
}

impl Effort {
    pub(crate) const QUICK: Self = Self { rounds: 5, sample: Duration::from_millis(8) };
    pub(crate) const FULL: Self = Self { rounds: 15, sample: Duration::from_millis(40) };
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

/// How many times as long one side takes as the other: the medians of all rounds.
#[derive(Clone, Copy)]
pub(crate) struct Ratio {
    pub(crate) cpu: f64,
    pub(crate) wall: f64,
    /// The lowest and the highest of all rounds, by CPU.
    pub(crate) spread: (f64, f64),
}

impl Ratio {
    /// The other way around.
    pub(crate) fn inverse(self) -> Self {
        let (low, high) = self.spread;
        Self { cpu: 1.0 / self.cpu, wall: 1.0 / self.wall, spread: (1.0 / high, 1.0 / low) }
    }
}

/// Two sides of a row, each the median of its rounds.
pub(crate) struct Duel {
    pub(crate) ours: Took,
    pub(crate) theirs: Took,
    /// Theirs by ours: above 1 where we are faster.
    pub(crate) speed: Ratio,
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
    let middle = |figure: fn(&(Took, Took)) -> f64| median(rounds.iter().map(figure).collect()).0;
    let (cpu, spread) = median(rounds.iter().map(|(ours, theirs)| theirs.cpu / ours.cpu).collect());
    Duel {
        ours: Took { cpu: middle(|(ours, _)| ours.cpu), wall: middle(|(ours, _)| ours.wall) },
        theirs: Took { cpu: middle(|(_, theirs)| theirs.cpu), wall: middle(|(_, theirs)| theirs.wall) },
        speed: Ratio { cpu, wall: middle(|(ours, theirs)| theirs.wall / ours.wall), spread },
    }
}

/// The middle, and the lowest and highest.
fn median(mut figures: Vec<f64>) -> (f64, (f64, f64)) {
    figures.sort_by(f64::total_cmp);
    (figures[figures.len() / 2], (figures[0], figures[figures.len() - 1]))
}

/// What a row is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// For information.
    None,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: &'static str,
    pub(crate) against: &'static str,
    pub(crate) target: Target,
    pub(crate) reached: Ratio,
    pub(crate) ours: String,
    pub(crate) theirs: String,
}

const HEAD: [&str; 10] = ["", "what", "against", "target", "reached", "", "spread", "wall", "ours", "theirs"];

/// Prints the table in Markdown, columns aligned.
pub(crate) fn print(rows: &[Row]) {
    let mut table = vec![HEAD.map(str::to_owned)];
    table.extend(rows.iter().map(|row| {
        let Ratio { cpu, wall, spread: (low, high) } = row.reached;
        let (target, verdict) = match row.target {
            Target::AtLeast(target) => (format!("≥ {target:.2}"), if cpu >= target { "ok" } else { "behind" }),
            Target::AtMost(target) => (format!("≤ {target:.2}"), if cpu <= target { "ok" } else { "behind" }),
            Target::None => (String::new(), ""),
        };
        let [cpu, wall, low, high] = [cpu, wall, low, high].map(|ratio| format!("{ratio:.2}"));
        let spread = if row.theirs.is_empty() { String::new() } else { format!("{low}–{high}") };
        let wall = if row.theirs.is_empty() { "" } else { &wall };
        [row.id, row.what, row.against, &target, &cpu, verdict, &spread, wall, &row.ours, &row.theirs]
            .map(str::to_owned)
    }));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 10] = std::array::from_fn(width);
    for (index, row) in table.iter().enumerate() {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!(" {cell:<width$} |"));
        println!("|{}", cells.collect::<String>());
        if index == 0 {
            println!("|{}", widths.map(|width| format!("{}|", "-".repeat(width + 2))).concat());
        }
    }
}

/// Cores and model of the machine, how busy it is, and whether it has the instructions that decide checksums.
pub(crate) fn machine() -> String {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let info = read("/proc/cpuinfo");
    let of = |name: &str| {
        let line = info.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(':'));
        line.map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let flags = of("flags");
    let has = |flag| flags.split(' ').any(|each| each == flag);
    let checksums = match (has("vpclmulqdq") && has("avx512f"), has("pclmulqdq")) {
        (true, _) => "CRC by 512-bit VPCLMULQDQ",
        (_, true) => "CRC by PCLMULQDQ",
        _ => "CRC by table",
    };
    let load = read("/proc/loadavg").split(' ').next().unwrap_or("?").to_owned();
    let (model, family, number) = (of("model name"), of("cpu family"), of("model\t"));
    format!("{cores} cores of {model} (family {family}, model {number}), {checksums}; load {load} at the start")
}
