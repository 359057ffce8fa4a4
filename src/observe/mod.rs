//! What the agent shows of itself: metrics, status, health.
//!
//! Owns: the one place where the loops report and whoever asks gets answers. Does not own: how they are asked (`http`,
//! `systemd`), the log (`log`).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;

mod connections;
mod gauges;
mod health;
pub mod http;
pub mod log;
mod metrics;
mod process;
mod status;
pub mod systemd;

use self::gauges::Shown;
pub use self::health::{ACKNOWLEDGEMENT, BEAT, Condition, Health, Part};
pub use self::metrics::{ByReason, Count, Entries, Metrics, PREFIX, Seconds};
pub use self::status::{
    CdcRaw, Checkpoint, Counters, Hold, HoldReason, Identity, Kafka, Lag, PROBLEMS_LISTED, ReadTo, Report,
    SEGMENTS_LISTED, Schema, SegmentCounts, SegmentState, SegmentStatus, Spool, State, Status,
};

/// A part that is not at work.
const AWAY: u64 = 0;

/// Shared by everything that reports or is asked.
#[derive(Debug)]
pub struct Observe {
    /// What is counted and measured.
    pub metrics: Metrics,
    born: Instant,
    /// By part: milliseconds since `born`, plus one.
    beats: [AtomicU64; Part::ALL.len()],
    config_valid: AtomicBool,
    board: Mutex<Board>,
}

#[derive(Debug)]
struct Board {
    status: Status,
    set_at: Instant,
    /// Since when there has been something for Kafka without a pause.
    waiting_since: Option<Instant>,
}

impl Default for Observe {
    fn default() -> Self {
        Self::new()
    }
}

impl Observe {
    /// An agent that starts: nothing is known, and only the pump is at work.
    pub fn new() -> Self {
        let status = Status { since: Timestamp::now(), ..Status::default() };
        let born = Instant::now();
        let observe = Self {
            metrics: Metrics::new(),
            born,
            beats: Default::default(),
            config_valid: AtomicBool::new(false),
            board: Mutex::new(Board { status, set_at: born, waiting_since: None }),
        };
        observe.beat(Part::Pump);
        observe
    }

    /// A loop turned, or waits for something that it may wait for. From its first beat on a part must go on beating.
    pub fn beat(&self, part: Part) {
        let now = u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beats[part as usize].store(now.saturating_add(1), Ordering::Relaxed);
    }

    /// A part ends on purpose, and need not beat until it begins again.
    pub fn leave(&self, part: Part) {
        self.beats[part as usize].store(AWAY, Ordering::Relaxed);
    }

    /// Whether the configuration that was last read is in force.
    pub fn config_valid(&self, valid: bool) {
        self.config_valid.store(valid, Ordering::Relaxed);
    }

    /// What the agent does now. To be called about once a second and whenever the state changes.
    pub fn set_status(&self, status: Status) {
        let now = Instant::now();
        let mut board = self.board();
        let waiting = health::has_work_for_kafka(&status);
        board.waiting_since = if waiting { board.waiting_since.or(Some(now)) } else { None };
        board.set_at = now;
        board.status = status;
    }

    /// Kafka keeps the pump waiting, in the middle of a turn and for as long as an outage lasts: until the next status only
    /// this changes.
    pub fn waits_for_kafka(&self, in_flight: u64) {
        self.metrics.producer_queue_messages.set(in_flight);
        let mut board = self.board();
        board.waiting_since.get_or_insert_with(Instant::now);
        if let Some(kafka) = &mut board.status.kafka {
            kafka.in_flight = in_flight;
        }
    }

    /// The status as it is now.
    pub fn status(&self) -> Status {
        let board = self.board();
        board.status.clone().aged(board.set_at.elapsed().as_secs_f64())
    }

    /// Whether the loops turn. Depends on neither Kafka nor Cassandra.
    pub fn live(&self) -> Health {
        let now = self.born.elapsed();
        health::live(self.beats.each_ref().map(|beat| match beat.load(Ordering::Relaxed) {
            AWAY => None,
            beat => Some(now.saturating_sub(Duration::from_millis(beat))),
        }))
    }

    /// Whether the agent does its work.
    pub fn ready(&self) -> Health {
        self.ready_with(&self.status())
    }

    /// All that is known.
    pub fn report(&self) -> Report {
        let status = self.status();
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            at: Timestamp::now(),
            live: self.live(),
            ready: self.ready_with(&status),
            counters: self.metrics.counters(),
            status,
        }
    }

    /// The metrics as OpenMetrics text.
    ///
    /// # Errors
    /// None that a text in memory could have.
    pub fn metrics_text(&self) -> Result<String, fmt::Error> {
        let status = self.status();
        let (live, ready) = (self.live(), self.ready_with(&status));
        self.metrics.text(&Shown { status, live, ready, config_valid: self.config_valid.load(Ordering::Relaxed) })
    }

    fn ready_with(&self, status: &Status) -> Health {
        let waiting = self.board().waiting_since.map(|since| since.elapsed());
        health::ready(status, self.config_valid.load(Ordering::Relaxed), waiting)
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An agent that was born too long ago for the beats it has had.
    #[cfg(test)]
    fn with_old_beats(mut self) -> Self {
        self.born -= BEAT + Duration::from_secs(1);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_watched_from_its_first_beat_until_it_leaves() {
        let observe = Observe::new();
        observe.beat(Part::Reports);
        assert!(observe.live().ok);
        let observe = observe.with_old_beats();
        let unmet = |observe: &Observe| observe.live().unmet().map(|part| part.name.clone()).collect::<Vec<_>>();
        assert_eq!(unmet(&observe), ["pump", "reports"], "the keeper never began");
        observe.beat(Part::Pump);
        assert_eq!(unmet(&observe), ["reports"]);
        observe.leave(Part::Reports);
        assert!(observe.live().ok);
    }

    #[test]
    fn waiting_for_kafka_is_counted_from_its_beginning() {
        let observe = Observe::new();
        observe.config_valid(true);
        let status = |in_flight| Status {
            state: State::Running,
            cdc_raw: CdcRaw { readable: true, ..CdcRaw::default() },
            schema: Some(Schema::default()),
            kafka: Some(Kafka { in_flight, last_ack_age_seconds: Some(3600.0), ..Kafka::default() }),
            ..Status::default()
        };
        observe.set_status(status(1));
        assert!(observe.ready().ok);
        let long_ago = Instant::now() - ACKNOWLEDGEMENT - Duration::from_secs(1);
        observe.board().waiting_since = Some(long_ago);
        observe.set_status(status(1));
        assert!(!observe.ready().ok, "it waits all the time");
        observe.set_status(status(0));
        observe.set_status(status(1));
        assert!(observe.ready().ok, "it waits anew");
    }

    #[test]
    fn a_pump_that_kafka_keeps_waiting_is_not_ready_for_ever() {
        let observe = Observe::new();
        observe.config_valid(true);
        observe.set_status(Status {
            state: State::Running,
            cdc_raw: CdcRaw { readable: true, ..CdcRaw::default() },
            schema: Some(Schema::default()),
            kafka: Some(Kafka::default()),
            ..Status::default()
        });
        observe.waits_for_kafka(7);
        assert!(observe.ready().ok);
        assert_eq!(observe.status().kafka.unwrap().in_flight, 7);
        observe.board().waiting_since = Some(Instant::now() - ACKNOWLEDGEMENT - Duration::from_secs(1));
        observe.waits_for_kafka(7);
        assert!(!observe.ready().ok);
    }

    #[test]
    fn an_agent_that_hangs_grows_older() {
        let observe = Observe::new();
        observe.set_status(Status {
            lag: Lag { bytes: 1, segments: 1, seconds: 5.0 },
            checkpoint: Checkpoint { generation: 1, age_seconds: Some(2.0) },
            kafka: Some(Kafka { last_ack_age_seconds: Some(1.0), ..Kafka::default() }),
            cdc_raw: CdcRaw { time_to_full_seconds: Some(50.0), ..CdcRaw::default() },
            ..Status::default()
        });
        observe.board().set_at -= Duration::from_secs(100);
        let status = observe.status();
        assert!(status.lag.seconds >= 105.0 && status.checkpoint.age_seconds >= Some(102.0));
        assert!(status.kafka.unwrap().last_ack_age_seconds >= Some(101.0));
        assert_eq!(status.cdc_raw.time_to_full_seconds, Some(0.0));
        assert_eq!(status.oldest_unacknowledged_age_seconds, 0.0, "there is none");
    }
}
