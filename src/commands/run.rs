//! `run`: the service.
//!
//! Owns: the loop's life from start to drain, reload, how `--once` ends. Does not own: making the parts from the
//! configuration (`parts`), what a turn does (`pump`).

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use cassandra_commitlog::Position;

use crate::cli::Run;
use crate::config::{Config, Loaded};
use crate::exit::{Ending, Exit, Failure};
use crate::interrupt;
use crate::keeper::Scan;
use crate::observe::log::LogHandle;
use crate::observe::{HoldReason, Observe, http, log, systemd};
use crate::pump::{Pump, PumpError};

mod parts;

/// How long a drain may take.
const DRAIN: Duration = Duration::from_secs(20);

/// How long the first look at `cdc_raw` may take before systemd is told that the service is up.
const FIRST_SCAN: Duration = Duration::from_secs(30);

/// How long `--once` waits for a Kafka that does not answer.
const UNREACHABLE: Duration = Duration::from_secs(30);

/// The configuration that counts now, for whoever makes a producer.
type Current = Arc<Mutex<Config>>;

/// Runs the command.
pub(super) fn run(arguments: &Run) -> Ending {
    let loaded = Config::load(&arguments.config)?;
    let log = log::start(&loaded.config.log.level, loaded.config.log.format)?;
    interrupt::watch(DRAIN, true);
    let observe = Arc::new(Observe::new());
    observe.config_valid(true);
    if let Some(listen) = loaded.config.http {
        http::serve(Arc::clone(&observe), listen)?;
    }
    let current = Arc::new(Mutex::new(loaded.config.clone()));
    let mut pump = match parts::pump(arguments, &loaded.config, &current, &observe) {
        // Nothing has begun.
        Err(failure) if matches!(failure.exit, Exit::Interrupted) && !arguments.once => return Ok(Exit::Fine),
        pump => pump?,
    };
    if arguments.once {
        pump.set_patience(UNREACHABLE);
    }
    let mut service = Service { arguments, loaded, current, observe, log, pump };
    service.wait_for_scan();
    systemd::ready(Arc::clone(&service.observe))?;
    let ending = service.turns();
    systemd::stopping();
    let stopped = service.pump.stop(DRAIN).map_err(failure);
    service.summarise();
    let ending = ending?;
    stopped?;
    Ok(ending)
}

/// The service while it runs.
struct Service<'a> {
    arguments: &'a Run,
    loaded: Loaded,
    current: Current,
    observe: Arc<Observe>,
    log: LogHandle,
    pump: Pump,
}

impl Service<'_> {
    fn wait_for_scan(&self) {
        let until = Instant::now() + FIRST_SCAN;
        while self.pump.scan().number == 0 && Instant::now() < until && !interrupt::came() {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn turns(&mut self) -> Ending {
        let mut patience = Patience::default();
        let mut quiet: Option<u64> = None;
        while !interrupt::came() {
            if interrupt::hung_up() {
                self.reload();
            }
            let scan = self.pump.scan();
            let worked = self.pump.turn(&scan).map_err(failure)?;
            if self.arguments.once {
                quiet = if worked || !self.pump.is_done(&scan) { None } else { quiet.or(Some(scan.number)) };
                // A look that began behind the last work shows all there is.
                if quiet.is_some_and(|first| scan.number > first + 1) {
                    return Ok(self.verdict());
                }
                if let Some(ending) = self.stuck(&scan, &mut patience) {
                    return ending;
                }
            }
            self.pump.wait(&scan).map_err(failure)?;
        }
        tracing::info!("told to stop: waiting for what is on its way");
        Ok(if self.arguments.once { Exit::Interrupted } else { Exit::Fine })
    }

    /// What `--once` says of all that was there: whether it is published.
    fn verdict(&self) -> Exit {
        let metrics = &self.observe.metrics;
        let unread = metrics.decode_errors.total() > 0 || self.pump.set_aside() > 0;
        if unread || metrics.entries.dead_lettered.get() > 0 {
            Exit::Corrupt
        } else if metrics.gap_records.total() > 0 {
            Exit::Failed
        } else {
            Exit::Fine
        }
    }

    /// `--once` does not wait for ever.
    fn stuck(&self, scan: &Scan, patience: &mut Patience) -> Option<Ending> {
        if scan.number > 0 && !scan.is_whole() {
            return Some(Err(Failure::text(Exit::Io, scan.problems.join("; "))));
        }
        let held = self.pump.held();
        if let (Some(reason), Some(detail)) = (self.pump.needs_a_person(), &held) {
            return Some(Err(Failure::text(exit_of(reason), format!("{detail}; {}", reason.next_action()))));
        }
        let waits = held.is_some() || !self.pump.is_idle();
        patience.is_over(waits.then(|| self.pump.acknowledged()), Instant::now()).then(|| {
            let silent = || format!("Kafka has acknowledged nothing for {} s", UNREACHABLE.as_secs());
            Err(Failure::text(Exit::Unreachable, held.unwrap_or_else(silent)))
        })
    }

    /// Takes over what can be taken over of a new configuration, and keeps the old one if the new one is wrong.
    fn reload(&mut self) {
        systemd::reloading();
        match Config::load(&self.arguments.config) {
            Ok(new) => {
                let reload = self.loaded.reload(&new);
                let config = reload.config;
                if let Err(error) = self.log.set_level(&config.log.level) {
                    tracing::warn!("{error}");
                }
                self.pump.set_tables(config.cassandra.tables.clone());
                self.pump.set_spool_limits(config.spool.max_bytes, config.spool.min_free);
                self.pump.set_contact(config.cassandra.contact.clone());
                *self.current.lock().unwrap_or_else(PoisonError::into_inner) = config.clone();
                tracing::info!(applied = ?reload.applied, restart = ?reload.restart, "configuration read again");
                self.loaded = Loaded { config, ..new };
                self.observe.config_valid(true);
                // A certificate that was replaced has the name that the old one had.
                let has_files =
                    self.loaded.config.kafka.settings.properties.keys().any(|name| name.ends_with(".location"));
                if has_files || reload.applied.iter().any(|key| key.starts_with("kafka.")) {
                    self.pump.renew_producer();
                }
            }
            Err(error) => {
                tracing::error!("the new configuration is wrong, the old one stays in force: {error}");
                self.observe.config_valid(false);
            }
        }
        systemd::reloaded();
    }

    fn summarise(&self) {
        let counters = self.observe.report().counters;
        tracing::info!(
            published = counters.entries_published,
            not_cdc = counters.entries_not_cdc,
            filtered = counters.entries_filtered,
            dead_lettered = counters.entries_dead_lettered,
            segments_deleted = counters.segments_deleted,
            events = self.pump.events(),
            "ends"
        );
    }
}

/// How long `--once` has waited for Kafka.
#[derive(Debug, Default)]
struct Patience {
    /// Up to where all was acknowledged when that last changed, and when that was.
    last: Option<(Option<Position>, Instant)>,
}

impl Patience {
    /// Whether it is over. `acknowledged` is asked for while something is waited for; none in it: not known, for what
    /// failed is sent again.
    fn is_over(&mut self, acknowledged: Option<Option<Position>>, now: Instant) -> bool {
        self.last = acknowledged.map(|at| match self.last {
            Some((before, since)) if at.is_none() || at == before => (before, since),
            _ => (at, now),
        });
        self.last.is_some_and(|(_, since)| now.saturating_duration_since(since) >= UNREACHABLE)
    }
}

/// How `--once` ends where a person has to look.
fn exit_of(reason: HoldReason) -> Exit {
    match reason {
        HoldReason::Damage | HoldReason::InvalidIndex | HoldReason::UnknownVersion => Exit::Corrupt,
        HoldReason::MissingKey => Exit::Config,
        HoldReason::CdcRaw => Exit::Io,
        HoldReason::Schema => Exit::Unreachable,
        HoldReason::Account => Exit::Bug,
        HoldReason::Authorization | HoldReason::Credentials => Exit::Permission,
        HoldReason::MissingTopic
        | HoldReason::DeadLetterTopic
        | HoldReason::PartitionsChanged
        | HoldReason::UnknownError => Exit::Failed,
    }
}

fn failure(error: PumpError) -> Failure {
    let exit = match &error {
        PumpError::Kafka(_) => Exit::Config,
        PumpError::Write(_) | PumpError::Raw(..) | PumpError::Save(_) | PumpError::State(..) => Exit::Io,
        PumpError::Record(_) => Exit::Bug,
    };
    Failure::new(exit, error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cassandra_commitlog::{LogOffset, SegmentId};

    fn at(offset: u32) -> Option<Option<Position>> {
        Some(Some(Position { segment: SegmentId(1), offset: LogOffset(offset) }))
    }

    #[test]
    fn patience_ends_when_nothing_is_acknowledged_for_long() {
        let start = Instant::now();
        let mut patience = Patience::default();
        let mut over = |acknowledged, seconds| patience.is_over(acknowledged, start + Duration::from_secs(seconds));
        let limit = UNREACHABLE.as_secs();
        // It moves on, however slowly.
        assert!(!over(at(1), 0) && !over(at(2), limit - 1) && !over(at(3), 2 * limit - 2));
        // Nothing is waited for.
        assert!(!over(None, 10 * limit));
        // What fails and is sent again has not moved on.
        assert!(!over(at(4), 11 * limit) && !over(Some(None), 12 * limit - 1) && !over(at(4), 12 * limit - 1));
        assert!(over(at(4), 12 * limit));
        // Two short waits are no long one.
        assert!(!over(None, 13 * limit) && !over(Some(None), 14 * limit) && !over(Some(None), 15 * limit - 1));
        assert!(over(Some(None), 15 * limit));
    }
}
