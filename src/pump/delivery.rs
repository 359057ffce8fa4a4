//! The way to Kafka, and what leads out of its failures.
//!
//! Owns: connecting, the table of failures put into practice, and sending one entry at a time where a batch was refused.
//! Does not own: the producer (`kafka`), what is read again after a failure (the pump).

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cassandra_commitlog::Position;
use cassandra_progress::{Ledger, Window};

use super::hold::{Hold, Reason};
use super::partitions::{Looked, Partitions};
use super::{PumpError, Trouble};
use crate::interrupt;
use crate::kafka::{Action, KafkaError, KafkaSettings, Publisher, Silence};
use crate::observe::{HoldReason, Observe, Part};
use crate::sink::{KafkaSink, Sink, SinkError};

/// How long the reports of a failed producer are waited for.
const REPORTS: Duration = Duration::from_secs(30);

/// The first pause after a producer gave up.
const REBUILD: Duration = Duration::from_secs(5);

/// How long one look at the isolated entry takes before others have their turn.
const CONFIRM: Duration = Duration::from_secs(1);

/// Makes the settings of each new producer: credentials are read again.
pub type MakeSettings = Box<dyn Fn() -> Result<KafkaSettings, KafkaError> + Send>;

/// Where records go, and what is outstanding.
pub(super) struct Delivery {
    /// Where a refused record has nowhere else to go.
    dead_letter_topic: String,
    make: Option<(MakeSettings, Partitions)>,
    sink: Option<Sink>,
    pub(super) ledger: Ledger,
    pub(super) isolation: Isolation,
    /// The producer is to be made anew although nothing is wrong with it.
    renew: bool,
    /// How long a wait without a report lasts before it is broken off; without it for ever.
    patience: Option<Duration>,
    /// Whether settings have been good for a producer: then what is wrong with them now is a file that is being replaced.
    settings_worked: bool,
    /// When Kafka acknowledged something last.
    acknowledged: Option<Instant>,
    observe: Arc<Observe>,
}

/// One entry at a time: a broker refuses a whole batch for one record in it, and only alone that record is known.
#[derive(Debug, Default)]
pub(super) struct Isolation {
    /// Entries that are still sent alone: as many as the refused batch can have held.
    left: u64,
    /// The entry on its way.
    pub(super) at: Option<Position>,
    /// Entries that were refused alone, and why.
    refused: HashMap<Position, String>,
}

impl Isolation {
    pub(super) fn is_on(&self) -> bool {
        self.left > 0
    }

    /// Why this entry can't be sent, if it was refused before.
    pub(super) fn refused(&self, position: Position) -> Option<&str> {
        self.refused.get(&position).map(String::as_str)
    }

    /// One entry is acknowledged. Behind the refused batch all is sent together again.
    pub(super) fn passed(&mut self, position: Position) {
        self.refused.remove(&position);
        self.left = self.left.saturating_sub(1);
    }

    /// Waits until what was sent is acknowledged, or refused.
    pub(super) fn confirm(&self, sink: &mut Sink, ledger: &mut Ledger) -> Result<(), SinkError> {
        while sink.drain(ledger, CONFIRM)? > 0 {
            if interrupt::is_urgent() {
                return Err(KafkaError::Interrupted.into());
            }
        }
        Ok(())
    }
}

impl Delivery {
    /// To Kafka, once it can be reached.
    pub(super) fn kafka(
        make: MakeSettings,
        partitions: Partitions,
        dead_letter_topic: String,
        observe: Arc<Observe>,
    ) -> Self {
        Self { dead_letter_topic, make: Some((make, partitions)), ..Self::new(None, observe) }
    }

    /// To another sink.
    pub(super) fn other(sink: Sink, observe: Arc<Observe>) -> Self {
        Self::new(Some(sink), observe)
    }

    fn new(sink: Option<Sink>, observe: Arc<Observe>) -> Self {
        Self {
            dead_letter_topic: String::new(),
            make: None,
            sink,
            ledger: Ledger::new(Window::default()),
            isolation: Isolation::default(),
            renew: false,
            patience: None,
            settings_worked: false,
            acknowledged: None,
            observe,
        }
    }

    /// Whether there is something that takes records.
    pub(super) fn is_connected(&self) -> bool {
        self.sink.is_some()
    }

    /// Whether records go to Kafka.
    pub(super) fn is_kafka(&self) -> bool {
        self.make.is_some()
    }

    /// When Kafka acknowledged something last.
    pub(super) fn acknowledged(&self) -> Option<Instant> {
        self.acknowledged
    }

    /// The producer is made anew, with settings as they are then, before anything more is sent.
    pub(super) fn renew(&mut self) {
        self.renew = self.make.is_some() && self.sink.is_some();
    }

    /// Collects acknowledgements. Says whether Kafka has acknowledged what was read first of all that was outstanding.
    pub(super) fn settle(&mut self) -> Result<bool, SinkError> {
        let Some((sink, ledger, _)) = self.parts() else { return Ok(false) };
        let before = ledger.watermark();
        sink.settle(ledger)?;
        let moved = ledger.watermark() != before;
        self.count();
        Ok(moved)
    }

    /// Takes over into the metrics what topics have acknowledged since the last time.
    fn count(&mut self) {
        let Some(Sink::Kafka(sink)) = &mut self.sink else { return };
        let acknowledged = sink.publisher().acknowledged();
        if acknowledged.is_none_or(|at| self.acknowledged.is_some_and(|counted| counted >= at)) {
            return;
        }
        self.acknowledged = acknowledged;
        for (keyspace, table, counts) in sink.take_counts() {
            self.observe.metrics.add_published(keyspace, table, counts.records, counts.bytes);
        }
    }

    pub(super) fn parts(&mut self) -> Option<(&mut Sink, &mut Ledger, &mut Isolation)> {
        Some((self.sink.as_mut()?, &mut self.ledger, &mut self.isolation))
    }

    /// The publisher, while there is one.
    pub(super) fn publisher(&mut self) -> Option<&mut Publisher> {
        match self.sink.as_mut() {
            Some(Sink::Kafka(sink)) => Some(sink.publisher()),
            _ => None,
        }
    }

    /// Connects, if that is to be done.
    pub(super) fn connect(&mut self) -> Result<(), Trouble> {
        if self.renew && self.sink.is_some() {
            // As if it was broken off: what is on its way is waited for, the rest is read again, for a new producer.
            return Err(SinkError::Kafka(KafkaError::Interrupted).into());
        }
        let (None, Some((make, partitions))) = (&self.sink, &mut self.make) else { return Ok(()) };
        let connected =
            make().and_then(|settings| Publisher::connect(&KafkaSettings { pinned: partitions.pinned(), ..settings }));
        self.settings_worked |= !matches!(connected, Err(KafkaError::Setting { .. } | KafkaError::Client(_)));
        match connected {
            Ok(mut publisher) => {
                partitions.look_again();
                self.observe_publisher(&mut publisher);
                self.sink = Some(Sink::Kafka(Box::new(KafkaSink::new(publisher))));
                Ok(())
            }
            Err(error) => Err(self.hold_for(&error)?.into()),
        }
    }

    /// Does not wait longer than this for a Kafka that reports nothing.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    fn observe_publisher(&self, publisher: &mut Publisher) {
        let (observe, patience) = (Arc::clone(&self.observe), self.patience);
        let mut silence = Silence::after(0, Instant::now());
        publisher.on_wait(move |waiting| {
            observe.beat(Part::Pump);
            observe.waits_for_kafka(waiting.in_flight);
            let silent = silence.within(&waiting, Instant::now());
            let is_over = interrupt::is_urgent() || patience.is_some_and(|patience| silent >= patience);
            if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        let observe = Arc::clone(&self.observe);
        publisher.on_delivered(move |took| observe.metrics.delivery_latency.observe(took.as_secs_f64()));
        let observe = Arc::clone(&self.observe);
        publisher.on_report_turn(move || observe.beat(Part::Reports));
        self.observe.metrics.certificate_expiry.set(publisher.certificate_expires().unwrap_or(0));
    }

    /// Looks whether topics have other partitions than before.
    pub(super) fn look_at_partitions(&mut self) -> Result<(), Trouble> {
        let (Some((_, partitions)), Some(Sink::Kafka(sink))) = (&mut self.make, &mut self.sink) else { return Ok(()) };
        let looked = partitions.look(sink.publisher(), &self.observe);
        match looked.map_err(|error| PumpError::State("keep the numbers of", "partitions".to_owned(), error))? {
            Looked::AsBefore => Ok(()),
            Looked::Changed => {
                self.renew = true;
                Err(SinkError::Kafka(KafkaError::Interrupted).into())
            }
            Looked::Halt(hold) => Err(hold.into()),
        }
    }

    /// Leads out of a failure: everything accepted is reported, and the producer is ready for what is read again, or gone.
    /// Says what to wait for before that.
    pub(super) fn recover(&mut self, error: KafkaError) -> Result<Option<Hold>, Trouble> {
        // A refused batch makes the producer fatal, and a send may tell of that before the report tells of the cause.
        // Nobody reports to who is not let in, or was not heard for long.
        let is_deaf = error.action() == Action::Credentials || matches!(error, KafkaError::Silent { .. });
        let patience = if is_deaf { Duration::ZERO } else { REPORTS };
        let told = self.collect_reports(patience).filter(|told| told.action().rank() > error.action().rank());
        self.count();
        let error = told.unwrap_or(error);
        let action = error.action();
        if !matches!(error, KafkaError::Interrupted) {
            self.observe.metrics.add_delivery_failure(&error.word());
        }
        let fatal = self.publisher().is_some_and(|publisher| publisher.is_fatal());
        let hold = match action {
            Action::Isolate | Action::DeadLetterCandidate => self.isolate(action, &error),
            Action::Rewind | Action::Wait => None,
            Action::Fatal => Some(Hold::new(Reason::Kafka, error.to_string()).for_at_least(REBUILD)),
            Action::Absorbed | Action::Hold(_) | Action::Credentials => Some(self.hold_for(&error)?),
        };
        // Where it goes on by itself, and only did not answer in time, the same producer can.
        let stays = hold.is_none() || action == Action::Absorbed;
        let unreported = self.publisher().is_some_and(|publisher| publisher.in_flight() > 0);
        let renew = std::mem::take(&mut self.renew);
        match self.publisher() {
            Some(publisher) if stays && !renew && !fatal && !unreported => publisher.abandon(),
            // A producer that comes later looks its topics up anew.
            Some(_) => {
                self.observe.metrics.producer_rebuilds.inc();
                self.sink = None;
                // Its thread is gone with it.
                self.observe.leave(Part::Reports);
            }
            None => {}
        }
        Ok(hold)
    }

    /// Who was refused: one of many, an entry, or what has nowhere else to go.
    fn isolate(&mut self, action: Action, error: &KafkaError) -> Option<Hold> {
        let isolation = &mut self.isolation;
        let alone = isolation.is_on() || action == Action::DeadLetterCandidate;
        if !alone {
            self.observe.metrics.isolation_runs.inc();
            // The one that failed on its way is not counted as read.
            isolation.left = self.ledger.window_entries().saturating_add(1);
            return None;
        }
        match isolation.at {
            Some(at) if error.topic() != Some(&self.dead_letter_topic) => {
                isolation.refused.insert(at, error.to_string());
                None
            }
            at => Some(Hold::dead_letter(at, error)),
        }
    }

    /// Waits for the reports of all that was accepted, and gives back what they say of the failure.
    fn collect_reports(&mut self, patience: Duration) -> Option<KafkaError> {
        let (deadline, observe) = (Instant::now() + patience, Arc::clone(&self.observe));
        let Some((Sink::Kafka(sink), ledger, _)) = self.parts() else { return None };
        // The failure is known, and what is still to come of it changes nothing.
        while sink.publisher().in_flight() > 0 && Instant::now() < deadline && !interrupt::is_urgent() {
            observe.beat(Part::Pump);
            let _ = sink.publisher().drain(ledger, CONFIRM);
        }
        sink.publisher().settle(ledger).err()
    }

    /// Gives up what is outstanding: it is read again.
    pub(super) fn forget(&mut self) {
        self.ledger = Ledger::new(Window::default());
        self.isolation.at = None;
    }

    /// What to wait for after this error. A setting that never worked stays wrong; one that did worked with other files.
    fn hold_for(&self, error: &KafkaError) -> Result<Hold, PumpError> {
        let reason = match (error, error.action()) {
            (KafkaError::Setting { .. } | KafkaError::Client(_), _) if self.settings_worked => {
                Reason::Held(HoldReason::Credentials)
            }
            (KafkaError::Setting { .. } | KafkaError::Client(_) | KafkaError::Bug(_), _) => {
                return Err(PumpError::Kafka(error.clone()));
            }
            (_, Action::Credentials) => Reason::Held(HoldReason::Credentials),
            (_, Action::Hold(reason)) => Reason::Held(reason.into()),
            _ => Reason::Kafka,
        };
        Ok(Hold::new(reason, error.to_string()))
    }
}

#[cfg(test)]
mod tests;
