//! `state`: the agent's own record of what is done.
//!
//! Owns: showing it, taking over another's, setting it aside. Does not own: what it holds and how it is kept.

use std::path::Path;

use cassandra_commitlog::LogOffset;
use cassandra_progress::{
    Checkpoint, Ending as Gone, Generation, Identity, Node, SegmentRecord, SegmentState, Tally, Tombstone,
};
use comfy_table::Table;
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use serde_json::{Value, json};

use super::{configured, print};
use crate::checkpoint::{Decoded, Glance, StateDir, StateError};
use crate::cli::{Output, StateCommand};
use crate::exit::{Ending, Exit, Failure};

/// Runs the command.
pub(super) fn run(command: &StateCommand) -> Ending {
    match command {
        StateCommand::Show { config, output } => show(&configured::open(config)?.state, *output),
        StateCommand::Adopt { config } => {
            let configured = configured::open(config)?;
            let (cluster, host) = configured.identity()?;
            adopt(&configured.state, &Node { agent: configured.agent, host, cluster })
        }
        StateCommand::Reset { config } => reset(&configured::open(config)?.state),
    }
}

/// How a state that can't be used ends a command.
fn failure(error: StateError) -> Failure {
    match error {
        StateError::Locked(path) => {
            let text = format!("an agent uses the state directory {}: stop it first", path.display());
            Failure::text(Exit::Failed, text)
        }
        StateError::Mode { .. } => Failure::new(Exit::Permission, error),
        StateError::Io { action, path, source } => Failure::io(format_args!("{action} {}", path.display()), source),
        StateError::NoneWhole { .. } | StateError::NotOurs { .. } => Failure::new(Exit::Failed, error),
    }
}

fn show(path: &Path, output: Output) -> Ending {
    let glance = Glance::at(path).map_err(failure)?;
    let text = match output {
        Output::Table => as_table(path, &glance),
        Output::Json => {
            let (segments, tombstones): (Vec<Value>, Vec<Value>) = match glance.newest() {
                Some(newest) => (
                    newest.segments.iter().map(segment_json).collect(),
                    newest.tombstones.iter().map(tombstone_json).collect(),
                ),
                None => Default::default(),
            };
            let mut json = head_json(path, &glance);
            json["segments"] = segments.into();
            json["tombstones"] = tombstones.into();
            format!("{json:#}\n")
        }
        Output::Jsonl => {
            let mut lines = vec![json!({ "state": head_json(path, &glance) })];
            if let Some(Checkpoint { segments, tombstones, .. }) = glance.newest() {
                lines.extend(segments.iter().map(|record| json!({ "segment": segment_json(record) })));
                lines.extend(tombstones.iter().map(|tombstone| json!({ "tombstone": tombstone_json(tombstone) })));
            }
            lines.iter().map(|line| format!("{line}\n")).collect()
        }
    };
    print(text.as_bytes())?;
    Ok(if glance.generations.iter().any(|(_, found)| found.is_err()) { Exit::Failed } else { Exit::Fine })
}

fn as_table(path: &Path, glance: &Glance) -> String {
    let holder = if glance.held { "an agent holds it" } else { "no agent holds it" };
    let mut text = format!("{}: {holder}\n", path.display());
    for (generation, found) in &glance.generations {
        text.push_str(&match found {
            Ok((number, _)) => format!("checkpoint {}: generation {number}\n", letter(*generation)),
            Err(error) => format!("checkpoint {}: {error}\n", letter(*generation)),
        });
    }
    let Some(newest) = glance.newest() else {
        return text + "no checkpoint: everything present counts as unread\n";
    };
    let Node { agent, host, cluster } = &newest.node;
    text.push_str(&format!("agent {agent:?} of host {host} in cluster {cluster:?}\n"));
    let mut segments = Table::new();
    segments.load_style(UTF8_HORIZONTAL_ONLY).set_header(["segment", "state", "acknowledged", "entries", "first seen"]);
    for record in &newest.segments {
        let (acknowledged, entries) = (record.acknowledged().to_string(), tally_text(record.tally()));
        segments.add_row([&record.name, state(record.state()), &acknowledged, &entries, &time(record.first_seen)]);
    }
    let mut tombstones = Table::new();
    tombstones.load_style(UTF8_HORIZONTAL_ONLY).set_header(["gone", "how", "end", "entries", "when"]);
    for Tombstone { identity, end, tally, finished_at, ending } in &newest.tombstones {
        let id = identity.segment.to_string();
        tombstones.add_row([&id, gone(*ending), &end.to_string(), &tally_text(*tally), &time(*finished_at)]);
    }
    text + &format!("{segments}\n{tombstones}\n")
}

fn head_json(path: &Path, glance: &Glance) -> Value {
    let generation = |(generation, found): &(Generation, Decoded)| match found {
        Ok((number, _)) => json!({ "file": letter(*generation), "generation": number }),
        Err(error) => json!({ "file": letter(*generation), "damaged": error.to_string() }),
    };
    let node = glance.newest().map(|newest| {
        let Node { agent, host, cluster } = &newest.node;
        json!({ "agent": agent, "host_id": host, "cluster": cluster })
    });
    json!({
        "directory": path.display().to_string(),
        "held": glance.held,
        "generations": glance.generations.iter().map(generation).collect::<Vec<Value>>(),
        "node": node,
    })
}

fn segment_json(record: &SegmentRecord) -> Value {
    let mut json = gone_or_here(record.identity(), record.acknowledged(), record.tally());
    json["name"] = record.name.as_str().into();
    json["state"] = state(record.state()).into();
    json["inode"] = record.inode.into();
    json["first_seen"] = time(record.first_seen).into();
    json
}

fn tombstone_json(tombstone: &Tombstone) -> Value {
    let mut json = gone_or_here(tombstone.identity, tombstone.end, tombstone.tally);
    json["ending"] = gone(tombstone.ending).into();
    json["at"] = time(tombstone.finished_at).into();
    json
}

fn gone_or_here(identity: Identity, acknowledged: LogOffset, tally: Tally) -> Value {
    json!({
        "segment": identity.segment.0,
        "first_entry_crc": identity.first_entry_crc.map(|crc| format!("{crc:08x}")),
        "acknowledged": acknowledged.0,
        "entries": {
            "published": tally.published, "not_cdc": tally.not_cdc, "filtered": tally.filtered,
            "dead_lettered": tally.dead_lettered,
        },
    })
}

fn tally_text(tally: Tally) -> String {
    let Tally { published, not_cdc, filtered, dead_lettered } = tally;
    format!("{published} published, {not_cdc} not CDC, {filtered} filtered, {dead_lettered} dead-lettered")
}

fn letter(generation: Generation) -> &'static str {
    match generation {
        Generation::A => "a",
        Generation::B => "b",
    }
}

fn state(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Reading => "reading",
        SegmentState::Finished => "finished",
        SegmentState::Quarantined => "quarantined",
    }
}

fn gone(ending: Gone) -> &'static str {
    match ending {
        Gone::Reaped => "reaped",
        Gone::Lost => "lost",
        Gone::Empty => "empty",
    }
}

fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |time| time.to_string())
}

fn adopt(path: &Path, node: &Node) -> Ending {
    let state = existing(path)?;
    let Some(before) = state.adopt(node).map_err(failure)? else {
        let text = format!("{}: there is no checkpoint to adopt; an agent starts without one", path.display());
        return Err(Failure::text(Exit::Failed, text));
    };
    if before == *node {
        eprintln!("{}: it is this node's already", path.display());
    } else {
        eprintln!(
            "{}: adopted from agent {:?} of host {} in cluster {:?}; the ids of what is published from here on name host \
             {} in cluster {:?}",
            path.display(),
            before.agent,
            before.host,
            before.cluster,
            node.host,
            node.cluster
        );
    }
    Ok(Exit::Fine)
}

fn reset(path: &Path) -> Ending {
    let state = existing(path)?;
    // To the second, and in a form that needs no quotes in a shell.
    let suffix = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
    state.set_aside(&suffix).map_err(failure)?;
    eprintln!(
        "{}: what was recorded is kept as checkpoint.*.{suffix}; every segment that is still there is read and published \
         again from its beginning, with the same ids",
        path.display()
    );
    Ok(Exit::Fine)
}

/// Opening one that is missing would make it, most likely in the wrong place.
fn existing(path: &Path) -> Result<StateDir, Failure> {
    if !path.try_exists().map_err(|error| Failure::io(path.display(), error))? {
        return Err(Failure::text(Exit::Failed, format!("{}: there is no state directory", path.display())));
    }
    StateDir::open(path).map_err(failure)
}

#[cfg(test)]
mod tests;
