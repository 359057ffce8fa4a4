//! Whether ratios fell behind those that were recorded.
//!
//! Owns: the recorded file and the comparison. Does not own: which rows are held to it (`table`). Tests of it are in
//! `tests/gate.rs`, since a benchmark has none.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// How much of a ratio may be lost before the gate closes.
const TOLERANCE: f64 = 0.15;
/// What counts as none where less is better.
const NOTHING: f64 = 0.005;

/// What a row reached.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) reached: f64,
    /// Whether less is better.
    pub(crate) at_most: bool,
}

/// What was reached once, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Recorded {
    pub(crate) machine: String,
    pub(crate) rows: BTreeMap<String, f64>,
}

impl Recorded {
    pub(crate) fn of(machine: String, figures: &[Figure]) -> Self {
        let rounded = |reached: f64| (reached * 10_000.0).round() / 10_000.0;
        Self { machine, rows: figures.iter().map(|figure| (figure.name.clone(), rounded(figure.reached))).collect() }
    }

    /// With the rows of an older record of the same machine that this one does not have.
    pub(crate) fn over(mut self, older: Self) -> Self {
        if older.machine == self.machine {
            let newer = std::mem::replace(&mut self.rows, older.rows);
            self.rows.extend(newer);
        }
        self
    }

    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
    }

    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }

    /// One sentence for each row that fell behind, and for each that nobody recorded: a gate that knows nothing of a
    /// row does not pass it.
    pub(crate) fn complaints(&self, figures: &[Figure]) -> Vec<String> {
        figures.iter().filter_map(|figure| self.complaint(figure)).collect()
    }

    fn complaint(&self, figure: &Figure) -> Option<String> {
        let Figure { name, reached, at_most } = figure;
        let Some(recorded) = self.rows.get(name) else {
            return Some(format!("{name}: {reached:.3}, and nothing is recorded; record it with --record"));
        };
        let (bound, word) = match at_most {
            // What is next to nothing may be twice as much.
            true => (recorded * (1.0 + TOLERANCE) + NOTHING, "at most"),
            false => (recorded * (1.0 - TOLERANCE), "at least"),
        };
        // A figure that is no number holds no bound.
        let holds = if *at_most { *reached <= bound } else { *reached >= bound };
        (!holds).then(|| format!("{name}: {reached:.3}, and {word} {bound:.3} is wanted: {recorded:.3} was recorded"))
    }
}
