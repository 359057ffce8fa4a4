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
use crate::kafka::{Action, KafkaError, KafkaSettings, Publisher, TopicCounts, Waiting};
use crate::line::Line;
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

    /// One entry is done. Behind the refused batch all is sent together again.
    pub(super) fn passed(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    /// Waits until the entry is acknowledged, or refused.
    pub(super) fn confirm(&self, sink: &mut Sink, ledger: &mut Ledger) -> Result<(), SinkError> {
        while sink.drain(ledger, CONFIRM)? > 0 {
            if interrupt::is_urgent() {
                return Err(KafkaError::Interrupted.into());
            }
        }
        Ok(())
    }
}

/// Since when Kafka has reported nothing.
struct Silence {
    reported: u64,
    since: Instant,
}

impl Silence {
    /// How long it has lasted in this wait.
    fn lasts(&mut self, waiting: &Waiting, now: Instant) -> Duration {
        if waiting.reported != self.reported {
            *self = Self { reported: waiting.reported, since: now };
        }
        waiting.since.min(now.saturating_duration_since(self.since))
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
        let ledger = Ledger::new(Window::default());
        Self {
            dead_letter_topic,
            make: Some((make, partitions)),
            sink: None,
            ledger,
            isolation: Isolation::default(),
            renew: false,
            patience: None,
            observe,
        }
    }

    /// To another sink.
    pub(super) fn other(sink: Sink, observe: Arc<Observe>) -> Self {
        let ledger = Ledger::new(Window::default());
        Self {
            dead_letter_topic: String::new(),
            make: None,
            sink: Some(sink),
            ledger,
            isolation: Isolation::default(),
            renew: false,
            patience: None,
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

    /// What each table's topic has acknowledged from this producer: keyspace, table, topic, counts.
    pub(super) fn topic_counts(&mut self, line: &Line) -> Option<Vec<(String, String, String, TopicCounts)>> {
        match self.sink.as_mut() {
            Some(Sink::Kafka(sink)) => Some(sink.counts(line.encoder())),
            _ => None,
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
        let (None, Some((make, partitions))) = (&self.sink, &mut self.make) else { return Ok(()) };
        let connected =
            make().and_then(|settings| Publisher::connect(&KafkaSettings { pinned: partitions.pinned(), ..settings }));
        match connected {
            Ok(mut publisher) => {
                partitions.look_again();
                self.observe_publisher(&mut publisher);
                self.sink = Some(Sink::Kafka(Box::new(KafkaSink::new(publisher))));
                Ok(())
            }
            Err(error) => Err(hold_for(&error)?.into()),
        }
    }

    /// Does not wait longer than this for a Kafka that reports nothing.
    pub(super) fn set_patience(&mut self, patience: Duration) {
        self.patience = Some(patience);
    }

    /// Has the next failure make a new producer; says whether there is one that is to go.
    pub(super) fn renew(&mut self) -> bool {
        self.renew = self.publisher().is_some();
        self.renew
    }

    fn observe_publisher(&self, publisher: &mut Publisher) {
        let (observe, patience) = (Arc::clone(&self.observe), self.patience);
        let mut silence = Silence { reported: 0, since: Instant::now() };
        publisher.on_wait(move |waiting| {
            observe.beat(Part::Pump);
            observe.waits_for_kafka(waiting.in_flight);
            let silent = silence.lasts(&waiting, Instant::now());
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
            // As if it was broken off: what is on its way is waited for, the rest is read again, for a new producer.
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
        let told = self.collect_reports().filter(|told| told.action().rank() > error.action().rank());
        let error = told.unwrap_or(error);
        let action = error.action();
        if !matches!(error, KafkaError::Interrupted) {
            self.observe.metrics.add_delivery_failure(&error.word());
        }
        let fatal = self.publisher().is_some_and(|publisher| publisher.is_fatal());
        let hold = match action {
            Action::Isolate | Action::DeadLetterCandidate => {
                self.isolate(action, &error)?;
                None
            }
            Action::Rewind | Action::Wait | Action::Absorbed => None,
            Action::Fatal => Some(Hold::new(Reason::Kafka, error.to_string()).for_at_least(REBUILD)),
            Action::Hold(_) | Action::Credentials => Some(hold_for(&error)?),
        };
        let unreported = self.publisher().is_some_and(|publisher| publisher.in_flight() > 0);
        let renew = std::mem::take(&mut self.renew);
        match self.publisher() {
            Some(publisher) if !renew && !fatal && !unreported && hold.is_none() => publisher.abandon(),
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

    fn isolate(&mut self, action: Action, error: &KafkaError) -> Result<(), Trouble> {
        let isolation = &mut self.isolation;
        let Some(at) = isolation.at else { return Ok(()) };
        let alone = isolation.is_on() || action == Action::DeadLetterCandidate;
        if !alone {
            self.observe.metrics.isolation_runs.inc();
            // The one that failed on its way is not counted as read.
            isolation.left = self.ledger.window_entries().saturating_add(1);
            return Ok(());
        }
        if error.topic() == Some(&self.dead_letter_topic) {
            return Err(Trouble::dead_letter(at, &error.to_string()));
        }
        isolation.refused.insert(at, error.to_string());
        Ok(())
    }

    /// Waits for the reports of all that was accepted, and gives back what they say of the failure.
    fn collect_reports(&mut self) -> Option<KafkaError> {
        let (deadline, observe) = (Instant::now() + REPORTS, Arc::clone(&self.observe));
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
}

/// What to wait for after this error; a wrong setting stays wrong.
fn hold_for(error: &KafkaError) -> Result<Hold, PumpError> {
    let reason = match (error, error.action()) {
        (KafkaError::Setting { .. } | KafkaError::Client(_) | KafkaError::Bug(_), _) => {
            return Err(PumpError::Kafka(error.clone()));
        }
        (KafkaError::Unreachable { .. }, _) | (_, Action::Absorbed) => Reason::Kafka,
        (_, Action::Credentials) => Reason::Held(HoldReason::Credentials),
        (_, Action::Hold(reason)) => Reason::Held(reason.into()),
        _ => Reason::Kafka,
    };
    Ok(Hold::new(reason, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_begins_anew_with_each_wait_and_each_report() {
        let start = Instant::now();
        let mut silence = Silence { reported: 0, since: start };
        let mut lasts = |at: u64, since, reported| {
            let waiting = Waiting { since: Duration::from_secs(since), in_flight: 1, reported };
            silence.lasts(&waiting, start + Duration::from_secs(at)).as_secs()
        };
        assert_eq!([lasts(100, 1, 0), lasts(140, 41, 0)], [1, 41]);
        assert_eq!([lasts(150, 51, 7), lasts(160, 61, 7)], [0, 10]);
        assert_eq!(lasts(500, 2, 7), 2);
    }
}
