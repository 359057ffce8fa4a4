//! What came out, as a table and as JSON lines.
//!
//! Owns: the form of a row, and the words about the machine. Does not own: any figure.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::gate::Figure;
use crate::measure::Spread;

/// What a row is to reach.
#[derive(Clone, Copy)]
pub(crate) enum Target {
    AtLeast(f64),
    AtMost(f64),
    /// For information: more is better.
    None,
}

/// One line of the table.
pub(crate) struct Row {
    pub(crate) id: &'static str,
    pub(crate) what: String,
    pub(crate) against: &'static str,
    pub(crate) target: Target,
    pub(crate) reached: Spread,
    /// Of the figure; nothing for a ratio.
    pub(crate) unit: &'static str,
    /// The same ratio by the wall clock.
    pub(crate) wall: Option<f64>,
    pub(crate) ours: String,
    pub(crate) theirs: String,
    /// Whether a later run may be held to it: not what varies by itself.
    pub(crate) gated: bool,
}

impl Row {
    fn name(&self) -> String {
        [self.id, &self.what, self.against]
            .iter()
            .filter(|part| !part.is_empty())
            .copied()
            .collect::<Vec<_>>()
            .join(" | ")
    }

    /// What the gate looks at.
    pub(crate) fn figure(&self) -> Option<Figure> {
        let at_most = matches!(self.target, Target::AtMost(_));
        self.gated.then(|| Figure { name: self.name(), reached: self.reached.middle, at_most })
    }

    fn verdict(&self) -> &'static str {
        let reached = self.reached.middle;
        match self.target {
            Target::AtLeast(target) if reached >= target => "ok",
            Target::AtMost(target) if reached <= target => "ok",
            Target::None => "",
            _ => "behind",
        }
    }

    fn cells(&self) -> [String; 10] {
        let with_unit = |figure: f64| match self.unit {
            "" => format!("{figure:.2}"),
            unit if figure.abs() < 10.0 => format!("{figure:.2} {unit}"),
            unit => format!("{figure:.1} {unit}"),
        };
        let target = match self.target {
            Target::AtLeast(target) => format!("≥ {}", with_unit(target)),
            Target::AtMost(target) => format!("≤ {}", with_unit(target)),
            Target::None => String::new(),
        };
        let Spread { middle, low, high } = self.reached;
        let spread = if low < high { format!("{low:.2}–{high:.2}") } else { String::new() };
        let wall = self.wall.map_or_else(String::new, |wall| format!("{wall:.2}"));
        [
            self.id.to_owned(),
            self.what.clone(),
            self.against.to_owned(),
            target,
            with_unit(middle),
            self.verdict().to_owned(),
            spread,
            wall,
            self.ours.clone(),
            self.theirs.clone(),
        ]
    }

    fn json(&self) -> serde_json::Value {
        let (target, at_most) = match self.target {
            Target::AtLeast(target) => (Some(target), false),
            Target::AtMost(target) => (Some(target), true),
            Target::None => (None, false),
        };
        json!({
            "id": self.id, "what": self.what, "against": self.against, "target": target, "at_most": at_most,
            "reached": self.reached.middle, "low": self.reached.low, "high": self.reached.high, "unit": self.unit,
            "verdict": self.verdict(), "wall": self.wall, "ours": self.ours, "theirs": self.theirs,
            "gated": self.gated, "cells": self.cells(),
        })
    }
}

const HEAD: [&str; 10] = ["", "what", "against", "target", "reached", "", "spread", "wall", "ours", "theirs"];

/// Prints the table in Markdown, columns aligned.
pub(crate) fn print(rows: &[Row]) {
    let mut table = vec![HEAD.map(str::to_owned)];
    table.extend(rows.iter().map(Row::cells));
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

/// Writes the rows as JSON lines; `cells` are those of the printed table.
pub(crate) fn write(path: &Path, rows: &[Row]) {
    let lines: String = rows.iter().map(|row| format!("{}\n", row.json())).collect();
    fs::write(path, lines).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// How busy the machine is.
pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().split(' ').next().unwrap_or("?").to_owned()
}

/// Cores and model of the machine, and whether it has the instructions that decide checksums.
pub(crate) fn machine() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
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
    let (model, family, number) = (of("model name"), of("cpu family"), of("model\t"));
    format!("{cores} cores of {model} (family {family}, model {number}), {checksums}")
}
