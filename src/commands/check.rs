//! `check`: a look at everything that the service needs.
//!
//! Owns: the findings, and how they are printed. Does not own: what is looked at (the modules below). Nothing is
//! changed: what is made is a link in the spool's directory, or where that will be, and it is gone before the next
//! look; locks are held, and `http.listen` is, for an instant.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use super::print;
use crate::cli::{ConfigArgs, Output};
use crate::config::Config;
use crate::exit::{Ending, Exit};

mod disk;
mod files;
mod kafka;
mod keys;
mod node;
mod schema;
mod spool;
mod state;
mod topics;

/// How a look ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Ok,
    Warn,
    Fail,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        })
    }
}

/// One line.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    subject: &'static str,
    level: Level,
    found: String,
    /// What to do; nothing where all is well.
    fix: String,
}

/// All lines, in the order in which things are needed.
#[derive(Debug, Default)]
struct Report(Vec<Finding>);

impl Report {
    fn ok(&mut self, subject: &'static str, found: impl Into<String>) {
        self.add(subject, Level::Ok, found.into(), String::new());
    }

    fn warn(&mut self, subject: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.add(subject, Level::Warn, found.into(), fix.into());
    }

    fn fail(&mut self, subject: &'static str, found: impl Into<String>, fix: impl Into<String>) {
        self.add(subject, Level::Fail, found.into(), fix.into());
    }

    fn add(&mut self, subject: &'static str, level: Level, found: String, fix: String) {
        self.0.push(Finding { subject, level, found, fix });
    }
}

/// Runs the command.
pub(super) fn run(arguments: &ConfigArgs, output: Output) -> Ending {
    let mut report = Report::default();
    match Config::load(arguments) {
        Err(failure) => {
            let fix = match failure.exit {
                Exit::Permission => "let the user who runs the agent read that file, and run this check as that user",
                _ => "correct it: `cassandra-cdc config init` prints every key with what it is for",
            };
            report.fail("configuration", failure.to_string(), format!("{fix}; nothing else was looked at"));
        }
        Ok(loaded) => {
            let file = loaded.file.as_ref().map_or_else(|| "no file".to_owned(), |path| path.display().to_string());
            report.ok("configuration", file);
            files::look(&loaded, &mut report);
            look(&loaded.config, &mut report);
        }
    }
    let text = match output {
        Output::Table => as_table(&report),
        Output::Json => format!("{:#}\n", report.0.iter().map(as_json).collect::<Value>()),
        Output::Jsonl => report.0.iter().map(|finding| format!("{}\n", as_json(finding))).collect(),
    };
    print(text.as_bytes())?;
    let failed = report.0.iter().any(|finding| finding.level == Level::Fail);
    Ok(if failed { Exit::Failed } else { Exit::Fine })
}

fn look(config: &Config, report: &mut Report) {
    node::look(config, report);
    disk::look(config, report);
    keys::look(config, report);
    let held = state::look(config, report);
    state::listen(config, held, report);
    spool::look(config, held, report);
    let known = schema::look(config, report);
    state::owner(config, known.identity, report);
    kafka::look(config, known.schema.as_ref(), report);
}

/// A line each, and what to do below it: side by side they would be wider than any terminal. The sum comes last, where
/// a terminal shows it.
fn as_table(report: &Report) -> String {
    let mut text = String::new();
    let width = report.0.iter().map(|finding| finding.subject.len()).max().unwrap_or_default();
    for Finding { subject, level, found, fix } in &report.0 {
        let indent = format!("\n{:1$}", "", width + 8);
        // Writing to a string can't fail.
        let _ = writeln!(text, "{:<4}  {subject:<width$}  {}", level.to_string(), found.replace('\n', &indent));
        if !fix.is_empty() {
            let _ = writeln!(text, "{:1$}-> {fix}", "", width + 8);
        }
    }
    let count = |level| report.0.iter().filter(|finding| finding.level == level).count();
    let _ = writeln!(text, "\n{} fail, {} warn, {} ok", count(Level::Fail), count(Level::Warn), count(Level::Ok));
    text
}

fn as_json(finding: &Finding) -> Value {
    json!({
        "level": finding.level.to_string(), "check": finding.subject, "found": finding.found,
        "fix": if finding.fix.is_empty() { Value::Null } else { finding.fix.as_str().into() },
    })
}
