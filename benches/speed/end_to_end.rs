//! From segments to Kafka's acknowledgement: the agent's `replay` against programs that only publish.
//!
//! Owns: these rows. Does not own: the other programs (`bare`), the broker (`broker`). Every side is a whole process,
//! and all take turns. CPU is that of the process from its start to its end; the wall clock begins behind start, login
//! and the look-up of topics on every side.

use std::path::{Path, PathBuf};
use std::process::Command;

use cassandra_event::Format;

use crate::bare::{self, Strategy};
use crate::broker::Broker;
use crate::child;
use crate::image::Copies;
use crate::measure::{Duel, Effort, Spread, Took};
use crate::orders::{CLUSTER, HOST};
use crate::table::{Row, Target};
use crate::{Scene, payloads};

pub(crate) fn rows(effort: Effort, scene: &mut Scene) -> Vec<Row> {
    [Format::Json, Format::Protobuf].into_iter().flat_map(|format| format_rows(effort, scene, format)).collect()
}

fn format_rows(effort: Effort, scene: &mut Scene, format: Format) -> Vec<Row> {
    let name = name(format);
    let folder = scene.folder.path();
    let files = [Strategy::Runs, Strategy::Keyed].map(|strategy| folder.join(strategy.name()));
    payloads::write(&scene.orders, format, &files[0], &files[1]);
    let broker = Broker::at(scene.bootstrap.as_deref());
    let bare = |strategy: Strategy, file: &Path| bare(&broker, strategy, file, effort.segments);
    // Compressed segments are decoded alike whatever comes out: one format is enough.
    let with_lz4 = format == Format::Protobuf;
    let plain = scene.plain.first(effort.segments).to_vec();
    let lz4 = if with_lz4 { scene.lz4.first(effort.segments).to_vec() } else { Vec::new() };
    let events = scene.orders.entries * effort.segments;
    let (mut in_runs, mut keyed, mut compressed) = (Vec::new(), Vec::new(), Vec::new());
    for round in 1..=effort.runs {
        eprintln!("end to end, {name}: round {round} of {}, load {}", effort.runs, crate::table::load());
        let ours = replay(&broker, &scene.schema, format, &plain, events);
        in_runs.push((ours, bare(Strategy::Runs, &files[0])));
        keyed.push((ours, bare(Strategy::Keyed, &files[1])));
        if with_lz4 {
            compressed.push((replay(&broker, &scene.schema, format, &lz4, events), ours));
        }
    }
    let said = |took: Took| {
        format!("{:.2} µs, {:.0} k events/s", took.cpu / events as f64 * 1e6, events as f64 / took.wall / 1e3)
    };
    let row = |id, what: String, against, target, duel: Duel| Row {
        id,
        what,
        against,
        target,
        reached: duel.cpu,
        unit: "",
        wall: Some(duel.wall.middle),
        ours: said(duel.ours),
        theirs: said(duel.theirs),
        gated: true,
    };
    let (runs, keyed) = (Duel::of(&in_runs), Duel::of(&keyed));
    let loop_ = "a bare loop, keyed";
    let s6 = "a bare loop, in the same runs";
    let mut rows = vec![
        row("S6", format!("segments to Kafka, {name}, CPU"), s6, Target::AtLeast(0.85), runs),
        by_the_clock(row("S6", format!("segments to Kafka, {name}, events/s"), s6, Target::AtLeast(0.85), runs)),
        by_the_clock(row("S7", format!("segments to Kafka, {name}, events/s"), loop_, Target::AtLeast(1.3), keyed)),
        Row {
            reached: keyed.cpu.inverse(),
            wall: Some(1.0 / keyed.wall.middle),
            ..row("S8", format!("CPU an event, {name}"), loop_, Target::AtMost(0.8), keyed)
        },
    ];
    if with_lz4 {
        let what = format!("LZ4 segments to Kafka, {name}");
        rows.push(row("S16", what, "plain ones", Target::AtLeast(0.85), Duel::of(&compressed)));
    }
    rows
}

/// The same row, its figure that of the wall clock, which others on the machine push to and fro.
fn by_the_clock(row: Row) -> Row {
    let wall = row.wall.expect("a ratio by the wall clock");
    Row { reached: Spread::one(wall), gated: false, ..row }
}

pub(crate) fn name(format: Format) -> &'static str {
    match format {
        Format::Json => "JSON",
        Format::Protobuf => "Protobuf",
    }
}

/// The agent with these segments.
pub(crate) fn replay_command(bootstrap: &str, schema: &Path, format: Format, segments: &[PathBuf]) -> Command {
    let mut command = Command::new(child::AGENT);
    let format = if format == Format::Json { "json" } else { "protobuf" };
    command.args(["replay", "--sink", "kafka", "--cluster", CLUSTER, "--host-id", HOST, "--format", format]);
    command.args(["--bootstrap", bootstrap]).arg("--schema").arg(schema).args(segments);
    command
}

fn replay(broker: &Broker, schema: &Path, format: Format, segments: &[PathBuf], events: usize) -> Took {
    let ran = child::run(&mut replay_command(&broker.bootstrap, schema, format, segments));
    let published = format!(" published ({events} events)");
    let summary = ran.said.lines().find(|line| line.contains(&published));
    let summary = summary.unwrap_or_else(|| panic!("not {events} events:\n{}", ran.said));
    Took { cpu: ran.cpu, wall: seconds(summary) }
}

fn bare(broker: &Broker, strategy: Strategy, file: &Path, times: usize) -> Took {
    let mut command = child::again(bare::ROLE);
    command.args([strategy.name(), &broker.bootstrap]).arg(file).arg(times.to_string());
    let ran = child::run(&mut command);
    Took { cpu: ran.cpu, wall: seconds(ran.said.lines().last().unwrap_or_default()) }
}

/// The figure before the last `s` of a summary: how long it took from the first record on.
fn seconds(summary: &str) -> f64 {
    let figure = summary.strip_suffix(" s").and_then(|line| line.rsplit(' ').next());
    figure.and_then(|figure| figure.parse().ok()).unwrap_or_else(|| panic!("no seconds at the end of {summary:?}"))
}

/// Segments that [`rows`] and those of memory share.
pub(crate) fn copies(folder: &Path, entries: usize) -> [Copies; 2] {
    use crate::framing::Codec;
    [("plain", Codec::Plain), ("compressed", Codec::Lz4)]
        .map(|(name, codec)| Copies::new(folder.join(name), codec, entries))
}
