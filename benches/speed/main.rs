//! Ratios of speed, measured side by side in one run, and what the agent takes of a machine. `README.md` beside it says
//! what they mean.
//!
//! Owns: which rows are measured, and what is done with them. Speed is never asserted: the exit code is 0 however slow a
//! machine is, unless the gate was asked for.

mod allocations;
mod bare;
mod broker;
mod child;
mod end_to_end;
mod framing;
mod gate;
mod image;
mod in_process;
mod line;
#[path = "../../fixtures/load.rs"]
mod load;
mod measure;
mod memory;
mod node;
mod orders;
mod payloads;
mod ready;
mod service;
mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use tempfile::TempDir;

use gate::{Figure, Recorded};
use image::{Copies, Image};
use measure::Effort;
use table::Row;

/// Ratios that were recorded, for the gate.
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/recorded.json");

/// Prints ratios of speed, measured side by side.
#[derive(Parser)]
struct Options {
    /// Fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Only these groups of rows; may be repeated
    #[arg(long, value_name = "GROUP")]
    only: Vec<Group>,
    /// Write the rows as JSON lines too
    #[arg(long, value_name = "FILE")]
    rows: Option<PathBuf>,
    /// Publish the end-to-end rows to this broker, where topics are made, instead of an in-process one
    #[arg(long, value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Exit with 1 if a ratio fell more than 15 % behind the recorded one
    #[arg(long, conflicts_with = "record")]
    gate: bool,
    /// Record the ratios for the gate
    #[arg(long)]
    record: bool,
    /// What `cargo bench` says
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Decoding and encoding, inside this process
    Line,
    /// Segments to Kafka
    EndToEnd,
    /// Anonymous memory
    Memory,
    /// The service: idle, at its start, its latency
    Service,
}

/// What all groups share.
struct Scene {
    folder: TempDir,
    bootstrap: Option<String>,
    schema: PathBuf,
    orders: Image,
    plain: Copies,
    lz4: Copies,
}

impl Scene {
    fn new(bootstrap: Option<String>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let schema = folder.path().join("schema.json");
        fs::write(&schema, orders::schema_file().to_string()).expect("to write a schema");
        let orders = Image::orders(folder.path());
        let [plain, lz4] = end_to_end::copies(folder.path(), orders.entries);
        Self { folder, bootstrap, schema, orders, plain, lz4 }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(broker::ROLE) => broker::serve(),
        Some(bare::ROLE) => bare::run(&arguments[1..]),
        _ => return measure(&Options::parse()),
    }
    ExitCode::SUCCESS
}

fn measure(options: &Options) -> ExitCode {
    // Without `--bench` this is a test that the line still works, and nothing is worth its time in a debug build.
    let effort = if options.bench && !options.quick { Effort::FULL } else { Effort::QUICK };
    let wanted = |group| match options.bench {
        true => options.only.is_empty() || options.only.contains(&group),
        false => group == Group::Line,
    };
    let (started, machine) = (Instant::now(), table::machine());
    println!("{machine}; load {} at the start", table::load());
    let mut scene = Scene::new(options.bootstrap.clone());
    let mut rows = Vec::new();
    if wanted(Group::Line) {
        let folder = scene.folder.path();
        let (recorded, lz4) = (Image::recorded(folder), Image::lz4(folder, &scene.orders));
        rows.extend(in_process::rows(effort, &scene.orders, &recorded, &lz4));
    }
    if wanted(Group::EndToEnd) {
        rows.extend(end_to_end::rows(effort, &mut scene));
    }
    if wanted(Group::Memory) {
        rows.extend(memory::rows(effort, &mut scene));
    }
    if wanted(Group::Service) {
        rows.extend(service::rows(effort, &scene));
    }
    println!("{} entries in {} MiB", scene.orders.entries, scene.orders.file.len() >> 20);
    println!(
        "medians of {} rounds of code, of {} runs of processes with {} segments each, by CPU seconds; {:.0} s in all, load {} \
         at the end\n",
        effort.rounds,
        effort.runs,
        effort.segments,
        started.elapsed().as_secs_f64(),
        table::load()
    );
    table::print(&rows);
    if let Some(path) = &options.rows {
        table::write(path, &rows);
    }
    after(options, machine, &rows)
}

/// Records, or looks at what was recorded.
fn after(options: &Options, machine: String, rows: &[Row]) -> ExitCode {
    let path = Path::new(RECORDED);
    let figures: Vec<Figure> = rows.iter().filter_map(Row::figure).collect();
    if options.record {
        let new = Recorded::of(machine, &figures);
        let all = match Recorded::read(path) {
            Ok(older) => new.over(older),
            Err(_) => new,
        };
        all.write(path).expect("to write what is recorded");
        eprintln!("recorded {} ratios in {RECORDED}", figures.len());
    } else if options.gate {
        let recorded =
            Recorded::read(path).unwrap_or_else(|error| panic!("{RECORDED}: {error}; make it with --record"));
        if recorded.machine != machine {
            eprintln!("recorded on another machine, whose ratios may differ: {}", recorded.machine);
        }
        let complaints = recorded.complaints(&figures);
        for complaint in &complaints {
            eprintln!("fell behind: {complaint}");
        }
        if !complaints.is_empty() || figures.is_empty() {
            eprintln!("the gate is closed: {} of {} ratios", complaints.len(), figures.len());
            return ExitCode::FAILURE;
        }
        eprintln!("the gate is open: {} ratios are within 15 % of what was recorded, or better", figures.len());
    }
    ExitCode::SUCCESS
}
