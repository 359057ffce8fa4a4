//! `status`: asks the running agent, and shows its answer.
//!
//! Owns: the question, and the answer for people. Does not own: what the agent says of itself (`observe`).

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::{NOTHING, UTF8_HORIZONTAL_ONLY};
use indicatif::{HumanBytes, HumanDuration};
use serde::Deserialize as _;
use serde_json::Value;

use super::print;
use crate::cli::{ConfigArgs, Output};
use crate::config::Config;
use crate::exit::{Ending, Exit, Failure};
use crate::observe::{Health, Report, SegmentStatus, Status};

/// How long the agent may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The longest answer that is read.
const ANSWER: u64 = 16 << 20;

/// Runs the command.
pub(super) fn run(config: &ConfigArgs, output: Output) -> Ending {
    let (text, exit) = ask(address(config)?, output)?;
    print(text.as_bytes())?;
    Ok(exit)
}

/// What the agent says, and how the command ends.
fn ask(address: SocketAddr, output: Output) -> Result<(String, Exit), Failure> {
    let answer = get(address, "/statusz").map_err(|error| silent(address, error))?;
    let is_not_ours = |error: serde_json::Error| stranger(address, error);
    // As the agent said it: a member that only a newer agent knows is shown too.
    let value: Value = serde_json::from_slice(&answer).map_err(is_not_ours)?;
    let report = Report::deserialize(&value).map_err(is_not_ours)?;
    if report.version.is_empty() {
        return Err(stranger(address, "it does not say its version"));
    }
    let text = match output {
        Output::Table => as_table(&report),
        Output::Json => format!("{value:#}\n"),
        Output::Jsonl => format!("{value}\n"),
    };
    Ok((text, if report.ready.ok { Exit::Fine } else { Exit::Failed }))
}

/// Where the agent listens.
fn address(config: &ConfigArgs) -> Result<SocketAddr, Failure> {
    Config::load(config)?.config.http.ok_or_else(|| {
        Failure::text(Exit::Config, "http.listen is off: set it in the agent's configuration, and restart the agent")
    })
}

fn silent(address: SocketAddr, error: io::Error) -> Failure {
    let text = format!(
        "ask the agent at {address} (http.listen): {error}; is it running (`systemctl status cassandra-cdc`), and does \
         it use the same configuration?"
    );
    Failure::text(Exit::Unreachable, text)
}

fn stranger(address: SocketAddr, why: impl std::fmt::Display) -> Failure {
    let text = format!(
        "what answers at {address} is not this agent ({why}): let http.listen be the same here and in the agent"
    );
    Failure::text(Exit::Unreachable, text)
}

/// The body of what is there. HTTP/1.0: the end of the connection is the end of the answer.
fn get(address: SocketAddr, path: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&reachable(address), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(ANSWER).read_to_end(&mut answer)?;
    let is_good = answer.starts_with(b"HTTP/1.") && answer.get(8..13) == Some(b" 200 ");
    let blank = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    match blank.and_then(|at| answer.get(at.saturating_add(4)..)).filter(|_| is_good) {
        Some(body) => Ok(body.to_vec()),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "it does not answer as the agent does")),
    }
}

/// Who listens on all addresses is asked on this machine's own.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

fn as_table(report: &Report) -> String {
    let status = &report.status;
    let mut lines = Table::new();
    lines.load_style(NOTHING);
    lines.add_row(["agent", &format!("{}, {} since {}", report.version, status.state.as_str(), status.since)]);
    lines.add_row(["ready", &verdict(&report.ready)]);
    lines.add_row(["live", &verdict(&report.live)]);
    for (name, text) in describe(report) {
        lines.add_row([name, &text]);
    }
    if !status.next_action.is_empty() {
        lines.add_row(["next", &status.next_action]);
    }
    if status.segments.is_empty() {
        return format!("{}\n", lines.trim_fmt());
    }
    let mut text = format!("{}\n\n{}\n", lines.trim_fmt(), segments(&status.segments));
    let shown = u64::try_from(status.segments.len()).unwrap_or(u64::MAX);
    let more = status.segment_counts.total().saturating_sub(shown);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}

fn verdict(health: &Health) -> String {
    if health.ok {
        return "yes".to_owned();
    }
    let unmet: Vec<String> = health.unmet().map(|unmet| format!("{}: {}", unmet.name, unmet.detail)).collect();
    format!("no, {}", unmet.join("; "))
}

/// A line for each part of the status.
fn describe(report: &Report) -> Vec<(&'static str, String)> {
    let Report { status, counters, .. } = report;
    let mut lines = Vec::new();
    if let Some(hold) = &status.hold {
        let place = match (&hold.segment, hold.position) {
            (Some(segment), Some(position)) => format!(" at {segment}:{position}"),
            (Some(segment), None) => format!(" at {segment}"),
            _ => String::new(),
        };
        lines.push(("held", format!("{}{place} since {}: {}", hold.reason.as_str(), hold.since, hold.detail)));
        lines.push(("", hold.next_action.clone()));
    }
    lines.extend(status.problems.iter().map(|problem| ("problem", problem.clone())));
    if let Some(node) = &status.identity {
        let release = node.release.as_ref().map_or_else(String::new, |release| format!(", Cassandra {release}"));
        lines.push(("node", format!("{}, host {}{release}", node.cluster, node.host_id)));
    }
    let fallback = status.read_to.fallback.as_ref();
    let fallback = fallback.map_or_else(String::new, |why| format!(" instead of {}: {why}", status.read_to.configured));
    lines.push(("reads", format!("{}{fallback}", status.read_to.effective)));
    lines.push(("behind", behind(status)));
    lines.push(("cdc_raw", cdc_raw(status)));
    let spool = status.spool;
    let used = format!("{} of {}", HumanBytes(spool.bytes), HumanBytes(spool.limit));
    lines.push(("spool", if spool.enabled { used } else { "off".to_owned() }));
    lines.push(("kafka", kafka(status)));
    lines.push((
        "schema",
        match &status.schema {
            Some(schema) => format!("{} CDC tables of {}, from {}", schema.cdc_tables, schema.tables, schema.source),
            None => "not loaded".to_owned(),
        },
    ));
    lines.push((
        "saved",
        match status.checkpoint.age_seconds {
            Some(age) => format!("generation {}, {} ago", status.checkpoint.generation, duration(age)),
            None => "never".to_owned(),
        },
    ));
    lines.push((
        "entries",
        format!(
            "{} published, {} not CDC, {} filtered, {} dead-lettered",
            counters.entries_published,
            counters.entries_not_cdc,
            counters.entries_filtered,
            counters.entries_dead_lettered
        ),
    ));
    lines.push(("counted", format!(
        "{} events, {} dead letters, {} gaps, {} lost segments, {} foreign deletions, {} linked again, {} new producers",
        counters.events, counters.dead_letters, counters.gaps, counters.lost_segments, counters.foreign_deletions,
        counters.resurrected_segments, counters.producer_rebuilds
    )));
    lines
}

fn behind(status: &Status) -> String {
    let lag = status.lag;
    let text = format!("{} segments, {}, {}", lag.segments, HumanBytes(lag.bytes), duration(lag.seconds));
    match status.oldest_unacknowledged_age_seconds {
        age if age > 0.0 => format!("{text}; the oldest segment is {} old", duration(age)),
        _ => text,
    }
}

fn cdc_raw(status: &Status) -> String {
    let cdc_raw = status.cdc_raw;
    let mut text = HumanBytes(cdc_raw.bytes).to_string();
    if let Some(limit) = cdc_raw.limit {
        text.push_str(&format!(" of {}", HumanBytes(limit)));
    }
    if let Some(time) = cdc_raw.time_to_full_seconds {
        text.push_str(&format!(", full in {}", duration(time)));
    }
    if !cdc_raw.readable {
        text.push_str(", unreadable");
    }
    text
}

fn kafka(status: &Status) -> String {
    let Some(kafka) = &status.kafka else { return "not used".to_owned() };
    let mut text = if kafka.connected { "connected" } else { "not connected" }.to_owned();
    text.push_str(&format!(", {} records under way", kafka.in_flight));
    if let Some(age) = kafka.last_ack_age_seconds {
        text.push_str(&format!(", last acknowledgement {} ago", duration(age)));
    }
    if let Some(error) = &kafka.last_error {
        text.push_str(&format!("; {error}"));
    }
    text
}

fn duration(seconds: f64) -> String {
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if seconds < 60.0 => format!("{:.1} s", duration.as_secs_f64()),
        Ok(duration) => HumanDuration(duration).to_string(),
        Err(_) => "unknown".to_owned(),
    }
}

fn segments(segments: &[SegmentStatus]) -> Table {
    let mut listing = Table::new();
    listing.load_style(UTF8_HORIZONTAL_ONLY);
    listing.set_header(["segment", "state", "index", "read", "acknowledged", "size", ""]);
    for segment in segments {
        let spool = if segment.spool { "spool only" } else { "" };
        listing.add_row([
            segment.name.clone(),
            segment.state.as_str().to_owned(),
            segment.index.clone().unwrap_or_default(),
            segment.read.to_string(),
            segment.acknowledged.to_string(),
            HumanBytes(segment.size).to_string(),
            segment.reason.clone().unwrap_or_else(|| spool.to_owned()),
        ]);
    }
    listing
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;
    use std::thread;

    use super::*;
    use crate::observe::{
        CdcRaw, Hold, HoldReason, Identity, Kafka, Lag, Observe, ReadTo, Schema, SegmentState, Spool, State, http,
    };

    fn loopback() -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0)
    }

    fn running() -> Status {
        let mut status = Status {
            state: State::Running,
            cdc_raw: CdcRaw { readable: true, bytes: 3 << 30, limit: Some(4 << 30), ..CdcRaw::default() },
            schema: Some(Schema { source: "127.0.0.1:9042".to_owned(), tables: 9, cdc_tables: 2 }),
            identity: Some(Identity { cluster: "c1".to_owned(), host_id: "6f1c".to_owned(), release: None }),
            read_to: ReadTo { configured: "written".to_owned(), effective: "synced".to_owned(), fallback: None },
            kafka: Some(Kafka { connected: true, last_ack_age_seconds: Some(1.0), ..Kafka::default() }),
            lag: Lag { bytes: 1024, segments: 1, seconds: 0.5 },
            spool: Spool { enabled: true, bytes: 0, limit: 1 << 30 },
            ..Status::default()
        };
        status.set_segments([SegmentStatus {
            name: "CommitLog-7-1.log".to_owned(),
            state: SegmentState::Held,
            index: Some("4711".to_owned()),
            acknowledged: 42,
            read: 43,
            size: 32 << 20,
            first_seen: jiff::Timestamp::UNIX_EPOCH,
            spool: true,
            reason: None,
        }]);
        status
    }

    fn hold() -> Hold {
        Hold {
            reason: HoldReason::MissingTopic,
            segment: Some("CommitLog-7-1.log".to_owned()),
            position: Some(42),
            detail: "topic cassandra.shop.orders is not there".to_owned(),
            next_action: "create it".to_owned(),
            since: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_exit_code_is_that_of_readiness() {
        let observe = Arc::new(Observe::new());
        observe.config_valid(true);
        let address = http::serve(Arc::clone(&observe), loopback()).unwrap();
        observe.set_status(running());
        let said = |output| ask(address, output).unwrap();
        assert_eq!(said(Output::Table).1, Exit::Fine);
        let (json, exit) = said(Output::Json);
        assert_eq!((serde_json::from_str::<Report>(&json).unwrap().status.state, exit), (State::Running, Exit::Fine));
        let (jsonl, exit) = said(Output::Jsonl);
        assert_eq!((jsonl.lines().count(), exit), (1, Exit::Fine));
        observe.set_status(Status { state: State::Held, hold: Some(hold()), ..running() });
        assert_eq!(said(Output::Table).1, Exit::Failed);
    }

    #[test]
    fn nobody_and_somebody_else_are_told_apart() {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        let stranger = thread::spawn(move || {
            for body in ["HTTP/1.1 404 Not Found\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\n\r\n{}"]
            {
                let (mut stream, _) = listener.accept().unwrap();
                let mut question = [0; 512];
                let length = stream.read(&mut question).unwrap();
                assert!(question[..length].starts_with(b"GET /statusz HTTP/1.0\r\n"));
                stream.write_all(body.as_bytes()).unwrap();
            }
        });
        for text in ["does not answer as the agent does", "is not this agent", "is not this agent"] {
            let failure = ask(address, Output::Json).unwrap_err();
            assert!(failure.exit == Exit::Unreachable && failure.to_string().contains(text), "{failure}");
        }
        stranger.join().unwrap();
        let failure = ask(address, Output::Json).unwrap_err();
        let text = failure.to_string();
        assert!(failure.exit == Exit::Unreachable && text.contains("systemctl status cassandra-cdc"), "{text}");
    }

    #[test]
    fn the_table_says_what_is_wrong_and_what_to_do() {
        let observe = Observe::new();
        observe.config_valid(true);
        observe.metrics.add_published("shop", "orders", 3, 700);
        let next_action = "give the agent's user the right to create topics".to_owned();
        observe.set_status(Status { state: State::Held, hold: Some(hold()), next_action, ..running() });
        let text = as_table(&observe.report());
        for part in [
            "held since",
            "no, hold: missing-topic: topic cassandra.shop.orders is not there",
            "missing-topic at CommitLog-7-1.log:42",
            "create it",
            "c1, host 6f1c",
            "3.00 GiB of 4.00 GiB",
            "2 CDC tables of 9, from 127.0.0.1:9042",
            "connected, 0 records under way, last acknowledgement 1.0 s ago",
            "3 events",
            "right to create topics",
            "spool only",
        ] {
            assert!(text.contains(part), "no {part:?} in\n{text}");
        }
        observe.set_status(running());
        let text = as_table(&observe.report());
        assert!(text.contains(" ready    yes") && !text.contains("next "), "{text}");
    }

    #[test]
    fn who_listens_everywhere_is_asked_here() {
        for (listens, asked) in [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.1:1", "10.0.0.1:1")] {
            assert_eq!(reachable(listens.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
