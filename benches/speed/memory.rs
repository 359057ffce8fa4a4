//! How much memory the agent takes: with more data, with a broker that stands still, through an outage.
//!
//! Owns: these rows. Does not own: the processes (`child`, `service`). What counts is anonymous memory; a mapped
//! segment is the page cache's.

use std::fs;
use std::io::Read;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use cassandra_cdc::kafka::KafkaSettings;
use cassandra_event::Format;

use crate::Scene;
use crate::broker::Broker;
use crate::child::{self, Process};
use crate::end_to_end::replay_command;
use crate::framing::Segment;
use crate::measure::{Effort, Spread};
use crate::node;
use crate::orders;
use crate::service::{FIRST_ID, Service, figure};
use crate::table::{Row, Target};

/// Longer than any of it should take.
const PATIENCE: Duration = Duration::from_secs(300);
const MIB: f64 = 1_048_576.0;
/// What the outage's segments have: a node's 32 MiB would fill the disk.
const SMALL: usize = 4 << 20;

pub(crate) fn rows(effort: Effort, scene: &mut Scene) -> Vec<Row> {
    let mut rows = grown(scene);
    rows.push(stalled(effort, scene));
    rows.extend(outage(effort, scene));
    rows
}

/// S10, S11: the peak of a replay, with 1, 10 and 25 times the data.
fn grown(scene: &mut Scene) -> Vec<Row> {
    let broker = Broker::start();
    let [once, ten, most] = [1, 10, 25].map(|segments| {
        eprintln!("memory: {segments} segments, load {}", crate::table::load());
        let segments = scene.plain.first(segments).to_vec();
        let command = &mut replay_command(&broker.bootstrap, &scene.schema, Format::Json, &segments);
        let mut child = Guarded(child::start(command));
        let (process, ended) = (Process::of(&child.0), &mut child.0);
        let peak = process.peak(|| ended.try_wait().expect("to look at a child").is_none());
        let mut said = String::new();
        ended.stderr.take().expect("its stderr").read_to_string(&mut said).expect("text");
        assert!(child::end(ended, PATIENCE).success(), "{said}");
        peak
    });
    let one = |figure| Spread::one(figure);
    vec![
        figure(
            "S10",
            "replay, anonymous RSS at most",
            Target::AtMost(32.0),
            "MiB",
            one(once.max(ten).max(most)),
            format!("{once:.1}, {ten:.1}, {most:.1} MiB with 1, 10, 25 segments"),
        ),
        figure("S11", "the same, 10 segments more than 1", Target::AtMost(8.0), "MiB", one(ten - once), String::new()),
        figure("S11", "the same, 25 segments more than 10", Target::AtMost(4.0), "MiB", one(most - ten), String::new()),
    ]
}

/// S12: the broker stands still in the middle, and the queue fills.
fn stalled(effort: Effort, scene: &mut Scene) -> Row {
    eprintln!("memory: a broker that stands still, load {}", crate::table::load());
    let broker = Broker::start();
    let segments = scene.plain.first(4).to_vec();
    let child = child::start(&mut replay_command(&broker.bootstrap, &scene.schema, Format::Json, &segments));
    let child = Guarded(child);
    let process = Process::of(&child.0);
    let started = Instant::now();
    // It sends by now: to start and to look up topics takes far less.
    while process.cpu() < 0.2 {
        assert!(started.elapsed() < PATIENCE, "it does not begin");
        thread::sleep(Duration::from_millis(1));
    }
    broker.pause();
    let began = Instant::now();
    let peak = process.peak(|| began.elapsed() < effort.watch);
    broker.resume();
    let KafkaSettings { queue_messages, queue_bytes, .. } = KafkaSettings::default();
    let cap = queue_bytes as f64 / MIB + 200.0 * f64::from(queue_messages) / MIB + 16.0;
    let ours = format!("{peak:.1} of {cap:.1} MiB: byte cap + 200 B × {queue_messages} + 16 MiB");
    figure(
        "S12",
        "replay, broker stands still, RSS of its bound",
        Target::AtMost(1.0),
        "",
        Spread::one(peak / cap),
        ours,
    )
}

/// R7: Kafka is away, and the node writes on.
fn outage(effort: Effort, scene: &Scene) -> [Row; 2] {
    let seconds = effort.watch.as_secs() * 3;
    eprintln!("memory: an outage of {seconds} s, load {}", crate::table::load());
    let folder = scene.folder.path().join("outage");
    let broker = Broker::start();
    let mut service = Service::start(&folder, &scene.schema, &broker, &[]);
    service.ready();
    let mut written = 0;
    let mut feed = |service: &Service| {
        let segment = Segment { size: SMALL, ..Segment::plain(FIRST_ID + written) };
        node::full(&service.cdc_raw, &folder, segment, (written as u64 * 50_000..).map(orders::insert));
        written += 1;
    };
    // The first one makes it look its topics up.
    feed(&service);
    service.wait("done with the first segment", |service| service.logs() == 0);
    broker.pause();
    let began = Instant::now();
    let mut seen = Vec::new();
    while began.elapsed().as_secs() < seconds {
        feed(&service);
        let second = Instant::now();
        seen.push(service.process.peak(|| second.elapsed() < Duration::from_secs(1)));
    }
    broker.resume();
    let back = Instant::now();
    service.wait("done with what was written meanwhile", |service| service.logs() == 0);
    let back = back.elapsed().as_secs_f64();
    drop(service);
    fs::remove_dir_all(&folder).expect("to remove a folder");
    // The queue fills in the first seconds.
    let (early, late) = (&seen[seen.len() / 6..seen.len() / 3], &seen[seen.len() * 5 / 6..]);
    let middle = |seen: &[f64]| Spread::of(seen.to_vec()).middle;
    let growth = middle(late) - middle(early);
    let said = format!("{:.1}, then {:.1} MiB; {written} segments of 4 MiB", middle(early), middle(late));
    let what = format!("run, Kafka away for {seconds} s: ");
    [
        figure("R7", &(what.clone() + "RSS grows by"), Target::AtMost(4.0), "MiB", Spread::one(growth), said),
        figure("R7", &(what + "all published after"), Target::None, "s", Spread::one(back), String::new()),
    ]
}

/// A child that goes with this value.
struct Guarded(Child);

impl Drop for Guarded {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
