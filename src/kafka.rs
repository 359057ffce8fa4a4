//! The one sink: records go out in runs per partition, tickets come back with the acknowledgements.
//!
//! Owns: the producer, the runs, the wait for room, and handing tickets back to the ledger.
//! Does not own: what a record holds, which hash its key has, what to do after a failure ([`KafkaError::action`] says
//! what; the pump does it).
//!
//! One thread encodes and sends, another serves delivery reports (`reports`). For each record the encoder writes key
//! and value into [`Publisher::arena`] and calls [`Publisher::push`]. A run is handed over when it is full, when the
//! arena is full, and at [`Publisher::flush_runs`]. [`Publisher::settle`] gives the tickets of acknowledged runs back.
//!
//! After a failure nothing more is sent: records behind a failed one must not pass it. What leads out of it:
//!
//! 1. [`Publisher::drain`] until [`Publisher::in_flight`] is 0: every accepted record has exactly one report.
//! 2. [`Ledger::rewind`], which makes the tickets of everything outstanding worthless.
//! 3. If the producer is [fatal](Publisher::is_fatal) a new [`Publisher`], else [`Publisher::abandon`].
//! 4. Read again from where the ledger says.

mod admin;
mod errors;
mod examine;
mod reports;
mod runs;
mod sending;
mod settings;
mod topics;

use std::collections::HashMap;
use std::ops::{ControlFlow, Range};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cassandra_progress::{Ledger, Ticket};
use rdkafka::producer::{BaseProducer, Producer, PurgeConfig};

use self::admin::Admin;
use self::errors::refused_setting;
pub use self::errors::{Action, HoldReason, KafkaError, Place, classify};
pub use self::examine::{Examined, TopicFacts, examine};
pub use self::reports::ClientEvent;
use self::reports::{Context, Finished, ReportThread, Reports};
use self::runs::{BucketId, Runs};
pub use self::sending::Silence;
pub use self::settings::{KafkaSettings, TopicCreation, is_secret};

/// How often whoever waits for room is asked whether to go on waiting.
const ASK: Duration = Duration::from_millis(100);

/// A topic of one publisher.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TopicId(u32);

/// What a topic has taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TopicCounts {
    /// Records acknowledged.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

#[derive(Debug)]
struct Topic {
    name: String,
    partitions: u32,
    first: BucketId,
    /// The largest key and value together.
    limit: usize,
    counts: TopicCounts,
}

/// A run under way.
#[derive(Debug)]
struct Sent {
    /// `None` once it was abandoned.
    ticket: Option<Ticket>,
    topic: TopicId,
    partition: i32,
    counts: TopicCounts,
    /// When it was handed over.
    at: Instant,
}

/// What [`Publisher::settle`] gave back to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Settled {
    /// Runs of which every record is acknowledged.
    pub runs: u64,
    /// Their records.
    pub records: u64,
}

/// What is told to [`Publisher::on_wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// How long the wait has lasted.
    pub since: Duration,
    /// Records that were accepted and not reported.
    pub in_flight: u64,
    /// Records that were reported since the publisher was made: if this grows, Kafka is alive.
    pub reported: u64,
}

type OnWait = Box<dyn FnMut(Waiting) -> ControlFlow<()> + Send>;

type OnDelivered = Box<dyn FnMut(Duration) + Send>;

/// Publishes records, and hands tickets back when Kafka has them.
pub struct Publisher {
    settings: KafkaSettings,
    producer: Arc<BaseProducer<Context>>,
    reports: Arc<Reports>,
    thread: ReportThread,
    /// Kept from one look-up of a topic to the next, and dropped when sending begins.
    admin: Option<Admin>,
    runs: Runs,
    topics: Vec<Topic>,
    names: HashMap<String, TopicId>,
    /// By slot.
    sent: Vec<Option<Sent>>,
    free: Vec<u32>,
    finished: Vec<Finished>,
    failure: Option<KafkaError>,
    on_wait: Option<OnWait>,
    on_delivered: Option<OnDelivered>,
    /// When a run was acknowledged last.
    acknowledged: Option<Instant>,
    silence: Silence,
}

impl Publisher {
    /// Makes a producer and waits until a broker answers.
    ///
    /// # Errors
    /// [`KafkaError::Setting`] or [`KafkaError::Client`] for what can't work, [`KafkaError::Unreachable`] if no broker
    /// answers in time, [`KafkaError::Credentials`] if one does not let us in.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let config = settings.client_config()?;
        let slots = settings.max_runs();
        let reports = Arc::new(Reports::new(slots));
        let producer: BaseProducer<Context> =
            config.create_with_context(Context(Arc::clone(&reports))).map_err(|error| refused_setting(&error))?;
        let producer = Arc::new(producer);
        let thread = ReportThread::start(Arc::clone(&producer), Arc::clone(&reports))
            .map_err(|error| KafkaError::Client(format!("start its thread: {error}")))?;
        let publisher = Self {
            settings: settings.clone(),
            producer,
            reports,
            thread,
            admin: None,
            runs: Runs::new(settings.arena_bytes),
            topics: Vec::new(),
            names: HashMap::new(),
            sent: (0..slots).map(|_| None).collect(),
            free: (0..slots).rev().collect(),
            finished: Vec::new(),
            failure: None,
            on_wait: None,
            on_delivered: None,
            acknowledged: None,
            silence: Silence::after(0, Instant::now()),
        };
        publisher.await_broker()?;
        Ok(publisher)
    }

    fn await_broker(&self) -> Result<(), KafkaError> {
        let waited = self.settings.lookup_timeout;
        let deadline = Instant::now() + waited;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if self.producer.client().fetch_cluster_id(left.min(ASK)).is_some() {
                return Ok(());
            }
            // The thread that serves events parks while nothing is in flight.
            self.thread.wake();
            if let Some(refusal) = self.reports.last_refusal() {
                return Err(self.refused(refusal));
            }
            if left.is_zero() {
                let bootstrap = self.settings.bootstrap.clone();
                let event = || self.reports.last_event().map(|event| event.reason);
                let detail = self.reports.last_disconnect().or_else(event).unwrap_or_else(|| "no answer".to_owned());
                return Err(KafkaError::Unreachable { bootstrap, waited, detail });
            }
        }
    }

    /// Asks `hook`, about every 100 ms, whenever this publisher waits: for room, or for the last reports. A break ends
    /// the wait with [`KafkaError::Interrupted`]. This is where a watchdog is fed and a signal noticed.
    pub fn on_wait(&mut self, hook: impl FnMut(Waiting) -> ControlFlow<()> + Send + 'static) {
        self.on_wait = Some(Box::new(hook));
    }

    /// Tells `hook` of each run that is acknowledged how long that took, from handing it over to its last report.
    pub fn on_delivered(&mut self, hook: impl FnMut(Duration) + Send + 'static) {
        self.on_delivered = Some(Box::new(hook));
    }

    /// Has the thread that serves reports call `hook` at every turn, at least once a second: a watchdog looks for it.
    pub fn on_report_turn(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.reports.on_turn(hook);
    }

    /// The partition for a key with this murmur2 hash: the one that Java's producer chooses.
    pub fn partition(&self, topic: TopicId, hash: u32) -> Option<i32> {
        partition_of(self.topic_at(topic)?, hash)
    }

    /// Where the encoder appends the records of the next entry. Ranges of it are valid until this is called again.
    pub fn arena(&mut self) -> &mut Vec<u8> {
        self.runs.arena()
    }

    /// Adds a record to the run of its partition; `key` and `value` lie in the arena. Blocks while Kafka takes nothing
    /// more. The ticket of its run is opened in `ledger`, so that this comes before [`Ledger::read_to`] of its entry.
    ///
    /// # Errors
    /// [`KafkaError::TooLarge`] leaves this record out and everything else as it is. Any other error is a failure:
    /// nothing more is sent.
    pub fn push(
        &mut self,
        ledger: &mut Ledger,
        topic: TopicId,
        hash: u32,
        key: Range<u32>,
        value: Range<u32>,
    ) -> Result<(), KafkaError> {
        self.check(ledger)?;
        let found = self.topic_at(topic).ok_or(KafkaError::Bug("a topic of another publisher"))?;
        let partition = partition_of(found, hash).ok_or(KafkaError::Bug("a topic without partitions"))?;
        let bucket = BucketId(found.first.0.saturating_add(partition.unsigned_abs()));
        let (Some(key_bytes), Some(value_bytes)) = (self.runs.bytes(&key), self.runs.bytes(&value)) else {
            return Err(KafkaError::Bug("a range outside the arena"));
        };
        let size = key_bytes.len().saturating_add(value_bytes.len());
        if size > found.limit {
            return Err(KafkaError::TooLarge { topic: found.name.clone(), size, limit: found.limit });
        }
        if self.runs.wants_ticket(bucket) {
            let ticket = self.open(ledger)?;
            self.runs.begin(bucket, ticket);
        }
        let length = self.runs.add(bucket, key, value);
        if length >= self.settings.run_records {
            self.hand_over(ledger, bucket, topic, partition)?;
        } else if self.runs.is_full() {
            self.flush_runs(ledger)?;
        }
        Ok(())
    }

    /// Hands over whatever waits: at the end of a section, and after a millisecond or two without anything to read.
    ///
    /// # Errors
    /// A failure: nothing more is sent.
    pub fn flush_runs(&mut self, ledger: &mut Ledger) -> Result<(), KafkaError> {
        self.check(ledger)?;
        while let Some(bucket) = self.runs.oldest() {
            let (topic, partition) = self.owner(bucket).ok_or(KafkaError::Bug("a bucket without a topic"))?;
            self.hand_over(ledger, bucket, topic, partition)?;
        }
        Ok(())
    }

    /// Gives the tickets of acknowledged runs back. Call it whenever progress is wanted; it never waits.
    ///
    /// # Errors
    /// The failure that tells most about its cause, again at every call, until [`Publisher::abandon`].
    pub fn settle(&mut self, ledger: &mut Ledger) -> Result<Settled, KafkaError> {
        let mut finished = std::mem::take(&mut self.finished);
        for (slot, code) in self.reports.take(&mut finished) {
            if let Some((topic, partition)) = self.sent_at(slot).map(|sent| (sent.topic, sent.partition)) {
                let topic = self.name(topic);
                self.fail(KafkaError::Report { topic, partition, code });
            }
        }
        let mut settled = Settled::default();
        for Finished { slot, failed, at } in finished.drain(..) {
            let Some(sent) = usize::try_from(slot).ok().and_then(|slot| self.sent.get_mut(slot)?.take()) else {
                continue;
            };
            self.free.push(slot);
            if let (Some(ticket), false) = (sent.ticket, failed) {
                ledger.settle(ticket);
                if let Some(hook) = &mut self.on_delivered {
                    hook(at.saturating_duration_since(sent.at));
                }
                self.acknowledged = Some(at);
                settled.runs = settled.runs.saturating_add(1);
                settled.records = settled.records.saturating_add(sent.counts.records);
                if let Some(topic) = usize::try_from(sent.topic.0).ok().and_then(|topic| self.topics.get_mut(topic)) {
                    topic.counts.records = topic.counts.records.saturating_add(sent.counts.records);
                    topic.counts.bytes = topic.counts.bytes.saturating_add(sent.counts.bytes);
                }
            }
        }
        self.finished = finished;
        if (self.failure.is_some() || self.reports.is_fatal())
            && let Some((code, reason)) = self.producer.client().fatal_error()
        {
            self.fail(KafkaError::Fatal { code, reason });
        }
        // A failure is kept.
        drop(self.look_at_silence());
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(settled),
        }
    }

    /// Hands over what waits, for as long as it takes, and then waits until every accepted record is reported, at most
    /// for `timeout`. Returns how many are not: 0 means that the ledger knows everything.
    ///
    /// # Errors
    /// The failure, after the same wait: look at [`Publisher::in_flight`].
    pub fn drain(&mut self, ledger: &mut Ledger, timeout: Duration) -> Result<u64, KafkaError> {
        let flushed = self.flush_runs(ledger);
        let started = Instant::now();
        let deadline = started + timeout;
        loop {
            // Failures are kept, so that only the last look at them counts.
            drop(self.settle(ledger));
            let left = deadline.saturating_duration_since(Instant::now());
            if self.in_flight() == 0 || left.is_zero() || self.ask(started).is_break() {
                self.settle(ledger)?;
                return flushed.map(|()| self.in_flight());
            }
            self.reports.wait_for(self.reports.accepted(), left.min(ASK));
            if self.is_fatal() && self.in_flight() > 0 {
                // A record that was accepted while the producer died is neither sent nor, without a message timeout,
                // ever reported. Everything outstanding is sent again anyway.
                self.producer.purge(PurgeConfig::default().queue().inflight());
            }
        }
    }

    /// Forgets everything that was not acknowledged, and the failure: to be read again after [`Ledger::rewind`]. Drain
    /// first: a late report of a failure is a failure again.
    pub fn abandon(&mut self) {
        self.runs.clear();
        for sent in self.sent.iter_mut().flatten() {
            sent.ticket = None;
        }
        self.reports.forget_failures();
        self.failure = None;
    }

    /// Records that were accepted and not reported.
    pub fn in_flight(&self) -> u64 {
        self.reports.in_flight()
    }

    /// Records that were accepted, or wait in runs.
    pub fn outstanding(&self) -> u64 {
        self.in_flight().saturating_add(u64::try_from(self.runs.waiting()).unwrap_or(u64::MAX))
    }

    /// Bytes of keys and values in [`Self::outstanding`] records. A run counts until all of it is reported.
    pub fn outstanding_bytes(&self) -> u64 {
        let sent: u64 = self.sent.iter().flatten().map(|sent| sent.counts.bytes).sum();
        sent.saturating_add(self.runs.waiting_bytes())
    }

    /// The average round trip to the slowest broker, as librdkafka's statistics last had it. None before the first, or
    /// where `statistics.interval.ms` is 0.
    pub fn round_trip(&self) -> Option<Duration> {
        self.reports.round_trip()
    }

    /// Whether a broker is connected, as librdkafka's statistics last had it. Before the first it counts as such, and where
    /// there are none.
    pub fn is_connected(&self) -> bool {
        self.reports.is_connected()
    }

    /// When the certificate that brokers know us by expires, seconds since 1970, if we have one.
    pub fn certificate_expires(&self) -> Option<u64> {
        self.settings.certificate_expires()
    }

    /// Whether half of the queue is taken.
    pub fn is_crowded(&self) -> bool {
        self.outstanding().saturating_mul(2) > u64::from(self.settings.queue_messages)
    }

    /// Records reported so far. A watchdog looks whether this grows while something is in flight.
    pub fn reported(&self) -> u64 {
        self.reports.reported()
    }

    /// Whether the thread that serves reports lives. Without it sends go on until the queue is full.
    pub fn is_served(&self) -> bool {
        self.thread.is_alive()
    }

    /// Whether the producer can't go on, and a new one is needed.
    pub fn is_fatal(&self) -> bool {
        // Not only what the report thread has seen: reports overtake the event that says why.
        self.reports.is_fatal() || self.producer.client().fatal_error().is_some()
    }

    /// What the client last complained of.
    pub fn last_event(&self) -> Option<ClientEvent> {
        self.reports.last_event()
    }

    /// The largest key and value together that a topic takes, bytes.
    pub fn record_limit(&self, topic: TopicId) -> usize {
        self.topic_at(topic).map_or(0, |topic| topic.limit)
    }

    /// What a topic has acknowledged since this was asked last.
    pub fn take_counts(&mut self, topic: TopicId) -> TopicCounts {
        let topic = usize::try_from(topic.0).ok().and_then(|topic| self.topics.get_mut(topic));
        topic.map_or_else(TopicCounts::default, |topic| std::mem::take(&mut topic.counts))
    }

    /// When a run was acknowledged last.
    pub fn acknowledged(&self) -> Option<Instant> {
        self.acknowledged
    }

    /// Bytes that the arena holds of the allocator's.
    pub fn arena_capacity(&self) -> usize {
        self.runs.capacity()
    }

    fn check(&mut self, ledger: &mut Ledger) -> Result<(), KafkaError> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.reports.any_failed() || self.reports.is_fatal() {
            self.settle(ledger)?;
        }
        Ok(())
    }

    /// Keeps the failure that tells most, and returns it.
    fn fail(&mut self, error: KafkaError) -> KafkaError {
        if self.failure.as_ref().is_none_or(|known| known.action().rank() < error.action().rank()) {
            self.failure = Some(error.clone());
        }
        error
    }

    fn owner(&self, bucket: BucketId) -> Option<(TopicId, i32)> {
        // Topics were given their buckets one after another.
        let index = self.topics.partition_point(|topic| topic.first.0 <= bucket.0).checked_sub(1)?;
        let topic = self.topics.get(index)?;
        let partition = i32::try_from(bucket.0.checked_sub(topic.first.0)?).ok()?;
        Some((TopicId(u32::try_from(index).ok()?), partition))
    }

    fn topic_at(&self, topic: TopicId) -> Option<&Topic> {
        self.topics.get(usize::try_from(topic.0).ok()?)
    }

    fn sent_at(&self, slot: u32) -> Option<&Sent> {
        self.sent.get(usize::try_from(slot).ok()?)?.as_ref()
    }

    fn name(&self, topic: TopicId) -> String {
        self.topic_at(topic).map_or_else(String::new, |topic| topic.name.clone())
    }
}

impl Drop for Publisher {
    /// What was not acknowledged is given up, and stays unacknowledged. Drain first.
    fn drop(&mut self) {
        if self.in_flight() > 0 {
            self.producer.purge(PurgeConfig::default().queue().inflight());
        }
        self.thread.stop();
    }
}

fn partition_of(topic: &Topic, hash: u32) -> Option<i32> {
    i32::try_from((hash & 0x7fff_ffff).checked_rem(topic.partitions)?).ok()
}

#[cfg(test)]
pub(crate) mod tests;
