//! What the pump says of itself.
//!
//! Owns: putting the status together about once a second. Does not own: how it is asked, what it takes to know ages and
//! rates (`behind`).

use std::collections::HashMap;
use std::time::{Duration, Instant};

use cassandra_commitlog::{CdcIndex, SegmentId};
use cassandra_progress::{SegmentRecord, SegmentState as Recorded};
use jiff::Timestamp;

use super::Pump;
use super::behind::{Behind, Fill, time_to_full};
use super::hold::Reason;
use crate::gaps::GapLog;
use crate::interrupt;
use crate::keeper::{Scan, View};
use crate::lifecycle::ReadTo;
use crate::observe::{
    CdcRaw, Checkpoint, Hold, Identity, Kafka, Lag, SegmentState, SegmentStatus, Spool, State, Status,
};

/// How often the status is put together while nothing changes.
const PERIOD: Duration = Duration::from_secs(1);

/// What outlives one status.
pub(super) struct Reporter {
    identity: Identity,
    shown: Option<Instant>,
    state: State,
    since: Timestamp,
    fill: Fill,
    /// Of each segment that is being read.
    behind: HashMap<SegmentId, Behind>,
    limits: Limits,
}

/// What the node and the configuration allow.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Bytes of `cdc_raw`.
    pub cdc_raw: Option<u64>,
    /// Bytes of that which must be left for Cassandra to begin another segment.
    pub segment: u64,
    /// How many segments those are, if that is too few.
    pub few_segments: Option<u64>,
    /// Bytes of the spool; none without one.
    pub spool: Option<u64>,
}

/// What is said of a limit that holds so many segments.
pub fn too_few(segments: u64) -> String {
    format!(
        "cdc_total_space holds {segments} segments, and one of them is being written: raise it to many times \
         commitlog_segment_size, and restart the node"
    )
}

impl Reporter {
    pub(super) fn new(identity: Identity) -> Self {
        Self {
            identity,
            shown: None,
            state: State::Starting,
            since: Timestamp::now(),
            fill: Fill::default(),
            behind: HashMap::new(),
            limits: Limits::default(),
        }
    }

    pub(super) fn set_spool_limit(&mut self, bytes: u64) {
        if let Some(limit) = &mut self.limits.spool {
            *limit = bytes;
        }
    }
}

impl Pump {
    /// What the node and the configuration allow, for the status.
    pub fn set_limits(&mut self, limits: Limits) {
        self.report.limits = limits;
    }

    /// Puts the status together, if it is time or the state changed.
    pub(super) fn show(&mut self, scan: &Scan) {
        let state = self.state();
        if state != self.report.state {
            (self.report.state, self.report.since) = (state, Timestamp::now());
        } else if self.report.shown.is_some_and(|shown| shown.elapsed() < PERIOD) {
            return;
        }
        self.report.shown = Some(Instant::now());
        self.observe.metrics.set_scanned(scan.number, &scan.counts);
        let kafka = self.kafka_status();
        let mut status = Status {
            state,
            since: self.report.since,
            hold: self.hold_status(),
            identity: Some(self.report.identity.clone()),
            read_to: self.read_to_status(),
            lag: self.lag(),
            oldest_unacknowledged_age_seconds: self.oldest_age(),
            cdc_raw: self.cdc_raw_status(scan),
            spool: Spool {
                enabled: self.report.limits.spool.is_some(),
                bytes: scan.spool_bytes,
                limit: self.report.limits.spool.unwrap_or(0),
            },
            kafka,
            schema: (self.line.has_schema() || !self.schema.has_contact()).then(|| self.line.schema_status()),
            checkpoint: Checkpoint {
                generation: self.generation,
                age_seconds: self.saved.map(|saved| saved.elapsed().as_secs_f64()),
            },
            ..Status::default()
        };
        let views: HashMap<SegmentId, &View> = scan.segments.iter().map(|view| (view.name.id, view)).collect();
        let records = self.checkpoint.segments.iter();
        status.set_segments(records.map(|record| {
            let view = views.get(&record.identity().segment).copied();
            self.segment_status(record, view)
        }));
        let damaged = self.gaps.as_ref().map(GapLog::damaged).unwrap_or_default();
        status.damaged_gap_files = damaged.len() as u64;
        let scanned = scan.problems.iter().cloned().chain(scan.foreign.iter().map(ToString::to_string));
        let few = self.report.limits.few_segments.map(too_few);
        let node = few.into_iter().chain(self.schema.problems());
        status.set_problems(damaged.iter().map(ToString::to_string).chain(scanned).chain(node));
        let hold = status.hold.as_ref().map(|hold| &hold.next_action);
        status.next_action = hold.or(status.problems.first()).cloned().unwrap_or_default();
        if let Some(gaps) = &self.gaps {
            self.observe.metrics.last_gap.set(gaps.newest());
        }
        self.observe.metrics.window_entries.set(self.delivery.ledger.window_entries());
        self.observe.set_status(status);
    }

    fn state(&self) -> State {
        match self.hold.as_ref().map(|hold| hold.reason) {
            _ if interrupt::came() => State::Draining,
            Some(Reason::Held(_)) => State::Held,
            Some(Reason::Kafka) => State::WaitingForKafka,
            None if self.undeletable.is_some() => State::Held,
            None => State::Running,
        }
    }

    fn hold_status(&self) -> Option<Hold> {
        let hold = self.any_hold()?;
        let Reason::Held(reason) = hold.reason else { return None };
        Some(Hold {
            reason,
            segment: hold.segment.map(|name| name.to_string()),
            position: hold.position.map(|position| u64::from(position.0)),
            detail: hold.detail.clone(),
            next_action: reason.next_action().to_owned(),
            since: Timestamp::from_second(hold.since).unwrap_or_default(),
        })
    }

    fn read_to_status(&self) -> crate::observe::ReadTo {
        let configured = self.options.read_to;
        let falls_back = configured != ReadTo::Synced
            && self.readings.values().any(|reading| reading.read_to == Some(ReadTo::Synced));
        let effective = if falls_back { ReadTo::Synced } else { configured };
        let why = "compressed, encrypted and direct-I/O segments, and those on a file system that is not mapped, show nothing \
                   before their sync";
        crate::observe::ReadTo {
            configured: configured.word().to_owned(),
            effective: effective.word().to_owned(),
            fallback: falls_back.then(|| why.to_owned()),
        }
    }

    fn lag(&mut self) -> Lag {
        let (now, mut lag) = (Timestamp::now().as_second(), Lag::default());
        let mut earlier = std::mem::take(&mut self.report.behind);
        for record in self.checkpoint.segments.iter().filter(|record| record.state() == Recorded::Reading) {
            let id = record.identity().segment;
            let Some(reading) = self.readings.get(&id) else { continue };
            // What waited when this life began may have waited since the segment was first seen.
            let (mut behind, at) =
                earlier.remove(&id).map_or((Behind::default(), record.first_seen), |known| (known, now));
            behind.see(reading.readable(), record.acknowledged(), at);
            if let Some(since) = behind.since() {
                lag.bytes = lag.bytes.saturating_add(self.unacknowledged(record));
                lag.segments = lag.segments.saturating_add(1);
                lag.seconds = lag.seconds.max((now - since).max(0) as f64);
            }
            self.report.behind.insert(id, behind);
        }
        lag
    }

    fn oldest_age(&self) -> f64 {
        let open = |record: &&SegmentRecord| record.state() == Recorded::Reading && self.unacknowledged(record) > 0;
        let oldest = self.checkpoint.segments.iter().filter(open).map(|record| record.first_seen).min();
        oldest.map_or(0.0, |seen| (Timestamp::now().as_second() - seen).max(0) as f64)
    }

    fn cdc_raw_status(&mut self, scan: &Scan) -> CdcRaw {
        let (bytes, limit) = (scan.raw_bytes, self.report.limits.cdc_raw);
        let fill_rate = self.report.fill.rate(bytes, Instant::now());
        let segment = self.report.limits.segment;
        let time_to_full_seconds = limit.and_then(|limit| time_to_full(bytes, limit, segment, fill_rate));
        CdcRaw { readable: scan.is_whole(), bytes, limit, fill_rate, time_to_full_seconds }
    }

    fn kafka_status(&mut self) -> Option<Kafka> {
        if !self.delivery.is_kafka() {
            return None;
        }
        let last_error = self.hold.as_ref().filter(|hold| hold.reason == Reason::Kafka).map(|hold| hold.detail.clone());
        let (mut connected, mut in_flight, mut bytes, mut complaint) = (false, 0, 0, None);
        if let Some(publisher) = self.delivery.publisher() {
            (in_flight, bytes) = (publisher.outstanding(), publisher.outstanding_bytes());
            if let Some(round_trip) = publisher.round_trip() {
                self.observe.metrics.kafka_rtt.set(round_trip.as_secs_f64());
            }
            connected = publisher.is_connected();
            // What librdkafka said last may be of an outage that is over.
            complaint = publisher.last_event().filter(|_| !connected).map(|event| event.reason);
        }
        self.observe.metrics.producer_queue_messages.set(in_flight);
        self.observe.metrics.producer_queue_bytes.set(bytes);
        Some(Kafka {
            connected,
            in_flight,
            last_ack_age_seconds: self.delivery.acknowledged().map(|at| at.elapsed().as_secs_f64()),
            last_error: last_error.or(complaint),
        })
    }

    fn segment_status(&self, record: &SegmentRecord, view: Option<&View>) -> SegmentStatus {
        let id = record.identity().segment;
        let reading = self.readings.get(&id);
        let held = self.hold.as_ref().filter(|hold| hold.segment.is_some_and(|name| name.id == id));
        let state = match record.state() {
            Recorded::Finished => SegmentState::Finished,
            Recorded::Quarantined => SegmentState::Quarantined,
            Recorded::Reading if held.is_some() => SegmentState::Held,
            Recorded::Reading if reading.is_some_and(|reading| reading.framed > 0) => SegmentState::Reading,
            Recorded::Reading => SegmentState::Waiting,
        };
        SegmentStatus {
            name: record.name.clone(),
            state,
            index: reading.and_then(|reading| reading.index).map(|index: CdcIndex| index.to_string()),
            acknowledged: u64::from(record.acknowledged().0),
            read: reading.map_or(0, |reading| u64::from(reading.read.0)),
            size: view.map_or(0, |view| view.len()),
            first_seen: Timestamp::from_second(record.first_seen).unwrap_or_default(),
            spool: view.is_some_and(|view| view.raw.is_none()),
            reason: held.map(|hold| hold.detail.clone()),
        }
    }
}
